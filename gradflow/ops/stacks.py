"""Stacks of matrices, (..., n, m): what functions of them ask of their input, and the error of those that have no answer."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from ..backend import float32, float64, is_floating, namespace
from ..cases import case
from ..op import op, unwrap, wrap
from ..tape import Traced
from . import arrange, linalg, pointwise, shape
from .out import written


class LinAlgError(RuntimeError):
    """A matrix is singular, not positive definite, or its decomposition did not converge."""


def also(**words: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The function takes these names for its arguments too: also(input="A"), as PyTorch does beside the documented one. And
    it takes `out`, a tensor (or as many as it has results) to write into.
    """

    def named(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if not kwargs:
                return function(*args)
            out = kwargs.pop("out", None)
            for word in words.keys() & kwargs.keys():
                kwargs[words[word]] = kwargs.pop(word)
            y = function(*args, **kwargs)
            return y if out is None else written(function.__name__, y, out)

        return call

    return named


# --- what is asked of the input ---------------------------------------------------------------------------


def floating(name: str, *xs: Any) -> None:
    """RuntimeError unless all are of one floating or complex dtype of 4 bytes a number or more."""
    for x in xs:
        if x.dtype.kind not in "fc" or x.dtype.itemsize < 4:
            raise RuntimeError(f"{name}: wanted float32, float64, complex64 or complex128, saw {x.dtype}")
        if x.dtype != xs[0].dtype:
            raise RuntimeError(f"{name}: wanted one dtype, saw {xs[0].dtype} and {x.dtype}")


def matrices(name: str, x: Any) -> None:
    """RuntimeError unless x is a stack of matrices of a floating or complex dtype."""
    if x.ndim < 2:
        raise RuntimeError(f"{name}: wanted 2 dimensions or more, saw shape {tuple(x.shape)}")
    floating(name, x)


def square(name: str, x: Any, half: bool = False) -> None:
    """RuntimeError unless x is a stack of square matrices of a floating or complex dtype, one of 2 bytes only if `half`."""
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise RuntimeError(f"{name}: wanted square matrices of 2 dimensions or more, saw shape {tuple(x.shape)}")
    if not (half and is_floating(x.dtype)):
        floating(name, x)


@op(reference=None, cases=lambda r: [case(np.zeros(2, np.int32), "inv", "wanted no {i}")])
def succeeded(info, name, what):
    """LinAlgError that says `what` (of the first nonzero info, as {i}) went wrong, and in which matrix of the stack."""
    if info.any():
        flat = info.reshape(-1)
        at = int(flat.astype(bool).argmax())
        which = f" (batch element {at})" if info.ndim else ""
        raise LinAlgError(f"{name}:{which} {what.format(i=int(flat[at]))}")
    return info


def batch(name: str, *xs: Any) -> tuple[int, ...]:
    """The leading sizes to which those of all stacks broadcast. RuntimeError where they do not."""
    try:
        return np.broadcast_shapes(*(tuple(x.shape[:-2]) for x in xs))
    except ValueError:
        shapes = " and ".join(str(tuple(x.shape)) for x in xs)
        raise RuntimeError(f"{name}: wanted leading sizes that broadcast, saw shapes {shapes}") from None


def spread(x: Any, lead: tuple[int, ...]) -> Any:
    """x expanded to these leading sizes."""
    return x if tuple(x.shape[:-2]) == tuple(lead) else shape.expand(x, (*lead, *x.shape[-2:]))


def alike(array: Any, x: Any) -> Any:
    """A bare array as what x is: a Tensor or a bare array."""
    return wrap(array) if isinstance(x, Traced) else array


# --- half types are computed in float32 ---------------------------------------------------------------------


def full(x: Any) -> Any:
    """x in the dtype in which its matrices are computed: LAPACK has no half types."""
    return x.astype(float32) if x.dtype.itemsize == 2 and is_floating(x.dtype) else x


def rounded(y: Any, dtype: np.dtype) -> Any:
    """y in `dtype` if it was computed wider."""
    return y if dtype.itemsize > 2 else y.astype(dtype)


# --- the words of the rules ---------------------------------------------------------------------------------


def mH(x: Any) -> Any:
    """The conjugate transpose of every matrix."""
    return pointwise.conj(linalg.mT(x))


def adjoint(input: Any) -> Any:
    """The conjugate transpose of every matrix. RuntimeError for a vector."""
    if input.ndim == 1:
        raise RuntimeError(f"adjoint: wanted 2 dimensions or more, saw shape {tuple(input.shape)}")
    return mH(input) if input.ndim else pointwise.conj(input)


def columns(s: Any) -> Any:
    """A vector as one number for each column."""
    return shape.unsqueeze(s, -2)


def rows(s: Any) -> Any:
    """A vector as one number for each row."""
    return shape.unsqueeze(s, -1)


def eye(x: Any, n: int, m: int | None = None) -> Any:
    """The bare n by n (or m) matrix of ones on the diagonal where x lives, real and of x's precision."""
    return namespace(unwrap(x)).eye(n, m, dtype=real(x.dtype))


def real(dtype: np.dtype) -> np.dtype:
    """The dtype of the absolute values of numbers of this one."""
    return dtype if dtype.kind != "c" else float32 if dtype.itemsize == 8 else float64


def quotient(a: Any, b: Any) -> Any:
    """a / b, and 0 for 0 / 0: what no gradient came to needs no slope."""
    none = pointwise.logical_and(a == 0, b == 0)
    return a / pointwise.where(none, 1.0, b)


def gaps(s: Any) -> Any:
    """s_j - s_i, and 1 on the diagonal."""
    return columns(s) - rows(s) + eye(s, s.shape[-1])


def hollow(x: Any) -> Any:
    """x with zeros on the diagonal."""
    return arrange.tril(x, -1) + arrange.triu(x, 1)


def diag(s: Any) -> Any:
    """The matrix with the vector s on its diagonal."""
    return arrange.diag_embed(s)


def diagonal(x: Any) -> Any:
    """The diagonal of every matrix."""
    return arrange.diagonal(x, 0, -2, -1)
