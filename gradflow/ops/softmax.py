"""Softmax and its relatives: a vector turned into probabilities along one dimension, and the gradients of that."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from ..backend import is_floating, namespace
from ..cases import Sampler, case
from ..dtypes import widened
from ..op import op
from . import pointwise, reduce
from .shape import dimension


def _axis(name: str, x: Any, dim: int | None) -> int:
    """dim from the front; where it was left out, the one PyTorch takes: 1 for matrices and images, else 0."""
    return dimension(name, (0 if x.ndim in (0, 1, 3) else 1) if dim is None else dim, x.ndim)


def _prepare(name: str, x: Any, dim: int | None, dtype: Any) -> tuple[Any, int, np.dtype]:
    """x in the dtype to compute in, with at least one dimension; the dimension; the dtype of the result."""
    if dim is None:
        warnings.warn(
            f"{name}: the choice of a dimension for dim=None is deprecated; name it", UserWarning, stacklevel=2
        )
    dim = _axis(name, x, dim)
    dtype = x.dtype if dtype is None else np.dtype(dtype)
    if not is_floating(dtype):
        raise NotImplementedError(f"{name}: wanted a floating dtype, saw {dtype}")
    # PyTorch casts before it computes: through a half dtype the input is rounded first.
    x = x.astype(dtype, copy=False)
    return widened(x).reshape(x.shape or (1,)), dim, dtype


def _cases(r: Sampler) -> list[case]:
    huge = r(3, 5) * 300 + 1e4
    return [
        case(r(3, 5), 1),
        case(r(3, 5), 0),
        case(r(2, 3, 4, 2), -3),
        case(r(7), -1),
        case(r(), 0),
        case(r(0, 4), 1),
        case(r(4, 0), 1),
        case(r(5, 1), 1),
        case(r.strided(4, 6), 1),
        case(huge, 1, order=0),  # saturated: the gradient underflows
        case(r(2, 67), 1),
        case(r(2, 8), 1, np.dtype("float64")),
    ]


def _backward_cases(r: Sampler) -> list[case]:
    return [
        case(r(3, 5), r(3, 5), 1),
        case(r(3, 5), r(3, 5), 0),
        case(r(2, 3, 4), r(2, 3, 4), -2),
        case(r(), r(), 0),
        case(r(0, 4), r(0, 4), 1),
        case(r(4, 0), r(4, 0), 1),
        case(r.strided(4, 6), r(4, 6), 1),
        case(r(2, 67), r.strided(2, 67), 1),
    ]


def _reference(name: str) -> Any:
    return lambda torch, x, dim, dtype=None: getattr(torch, name)(x, dim, dtype and getattr(torch, dtype.name))


@op(
    dx=lambda g, y, dim: softmax_backward(g, y, dim),
    twin="softmax",
    cases=_cases,
    reference=_reference("softmax"),
)
def softmax(x, dim=None, dtype=None):
    """e^x_i / sum_j e^x_j along `dim`, from x - max(x) so that nothing overflows; NaN where a whole row is -inf.

    x of any shape and floating dtype, cast to `dtype` first if given. RuntimeError for other dtypes, IndexError for a
    dimension that is not there.
    """
    shape = x.shape
    x, dim, kind = _prepare("softmax", x, dim, dtype)
    if x.size == 0:
        return x.astype(kind)
    xp = namespace(x)
    with np.errstate(invalid="ignore"):  # inf - inf is NaN, as it should be
        e = x - x.max(dim, keepdims=True)
    xp.exp(e, out=e)
    e /= e.sum(dim, keepdims=True)
    return e.reshape(shape).astype(kind, copy=False)


@op(
    dx=lambda g, y, dim: log_softmax_backward(g, y, dim),
    twin="softmax",
    cases=_cases,
    reference=_reference("log_softmax"),
)
def log_softmax(x, dim=None, dtype=None):
    """x_i - log sum_j e^x_j along `dim`, computed from x - max(x). Shapes, dtypes and errors as softmax."""
    shape = x.shape
    x, dim, kind = _prepare("log_softmax", x, dim, dtype)
    if x.size == 0:
        return x.astype(kind)
    xp = namespace(x)
    with np.errstate(invalid="ignore"):
        y = x - x.max(dim, keepdims=True)
    y -= xp.log(xp.exp(y).sum(dim, keepdims=True))
    return y.reshape(shape).astype(kind, copy=False)


@op(
    dg=lambda gg, y, dim: softmax_backward(gg, y, dim),
    dy=lambda gg, g, y, dim: _dsoftmax_backward(gg, g, y, dim),
    twin="softmax",
    cases=_backward_cases,
    reference=None,
)
def softmax_backward(g, y, dim):
    """y (g - sum(g y)): the gradient of y = softmax(x, dim). g and y of one shape and dtype."""
    dim, kind, shape = _axis("softmax_backward", y, dim), y.dtype, y.shape
    g, y = _wide(g), _wide(y)
    dx = g * y
    dx -= y * dx.sum(dim, keepdims=True)
    return dx.reshape(shape).astype(kind, copy=False)


@op(
    dg=lambda gg, y, dim: gg - _total(gg * pointwise.exp(y), y, dim),
    dy=lambda gg, g, y, dim: -gg * pointwise.exp(y) * _total(g, y, dim),
    twin="softmax",
    cases=_backward_cases,
    reference=None,
)
def log_softmax_backward(g, y, dim):
    """g - e^y sum(g): the gradient of y = log_softmax(x, dim). g and y of one shape and dtype."""
    dim, kind, shape = _axis("log_softmax_backward", y, dim), y.dtype, y.shape
    g, y = _wide(g), _wide(y)
    dx = namespace(y).exp(y)
    dx *= g.sum(dim, keepdims=True)
    dx = namespace(y).subtract(g, dx, out=dx)
    return dx.reshape(shape).astype(kind, copy=False)


def _wide(x: Any) -> Any:
    """x in the dtype to compute in, with at least one dimension."""
    return widened(x).reshape(x.shape or (1,))


def _total(v: Any, like: Any, dim: int | None) -> Any:
    return reduce.sum(v, _axis("softmax", like, dim), keepdim=True) if like.ndim else v


def _dsoftmax_backward(gg: Any, g: Any, y: Any, dim: int | None) -> Any:
    return gg * (g - _total(g * y, y, dim)) - g * _total(gg * y, y, dim)


def softmin(x: Any, dim: int | None = None, dtype: Any = None) -> Any:
    """softmax(-x, dim, dtype)."""
    return softmax(pointwise.neg(x), dim, dtype)
