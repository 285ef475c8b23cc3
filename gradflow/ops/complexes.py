"""Complex numbers: their parts, angle and polar form, and complex arrays seen as real ones."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backend import complex64, complex128, float32, float64, namespace
from ..cases import Sampler, case
from ..op import op, unwrap
from . import elementwise, pointwise, shape
from .dims import other_words
from .elementwise import row


def _pairs(r: Sampler) -> list[case]:
    return [case(r(3, 4) + 1j * r(3, 4)), case(np.asarray(r() + 1j * r())), case((r(4, 2, 3) + 1j * r(4, 2, 3))[::2].T)]


@op(view=True, dx=lambda g: g, cases=_pairs, reference="real")
def real_part(x):
    """The real part of complex numbers, in their memory."""
    return x.real


@op(view=True, dx=lambda g: g * 1j, cases=_pairs, reference="imag")
def imaginary_part(x):
    """The imaginary part of complex numbers, in their memory."""
    return x.imag


def view_as_real_copy(input: Any) -> Any:
    """view_as_real in memory of its own."""
    return shape.clone(view_as_real(input))


def view_as_complex_copy(input: Any) -> Any:
    """view_as_complex in memory of its own."""
    return shape.clone(view_as_complex(input))


def real(input: Any) -> Any:
    """The real part, in the same memory; what is real, as it is."""
    return real_part(input) if input.dtype.kind == "c" else input


def imag(input: Any) -> Any:
    """The imaginary part, in the same memory. RuntimeError unless the numbers are complex."""
    if input.dtype.kind != "c":
        raise RuntimeError(f"imag: wanted complex numbers, saw {input.dtype}")
    return imaginary_part(input)


@op(view=True, dx=lambda g: view_as_complex(g), cases=_pairs, reference="view_as_real")
def view_as_real(x):
    """Complex numbers as pairs of real ones, in a last dimension of size 2, in the same memory. RuntimeError if x is real."""
    if x.dtype.kind != "c":
        raise RuntimeError(f"view_as_real: wanted complex numbers, saw {x.dtype}")
    xp = namespace(x)
    part = xp.asarray(x).real  # NumPy makes numbers of 0-d results, in a rule too
    return xp.lib.stride_tricks.as_strided(part, (*x.shape, 2), (*x.strides, part.itemsize))


@op(
    view=True, holomorphic=False, dx=lambda g: view_as_real(g),
    cases=lambda r: [case(r(3, 4, 2)), case(r(2)), case(r(3, 4, 2).transpose(1, 0, 2))],
)  # fmt: skip
def view_as_complex(x):
    """The reverse: (..., 2) real numbers as complex ones. RuntimeError unless the last dimension is two neighbours in memory."""
    if x.dtype not in (float32, float64):
        raise RuntimeError(f"view_as_complex: wanted float32 or float64, saw {x.dtype}")
    if not x.ndim or x.shape[-1] != 2:
        raise RuntimeError(f"view_as_complex: wanted a last dimension of size 2, saw shape {tuple(x.shape)}")
    if x.strides[-1] != x.itemsize:
        raise RuntimeError("view_as_complex: wanted a last dimension of stride 1, saw strides that skip")
    if any(s % (2 * x.itemsize) for s in x.strides[:-1]):
        raise RuntimeError("view_as_complex: wanted strides divisible by 2 in all dimensions but the last")
    return x.view(complex64 if x.dtype == float32 else complex128)[..., 0]


@op(
    tensors="a b", holomorphic=False, da=lambda g: real(g), db=lambda g: imag(g), reference="complex",
    cases=lambda r: [case(r(3, 4), r(3, 4)), case(r(3, 1), r(4)), case(r(), r()), case(r(0), r(0))],
)  # fmt: skip
def complex_of(a, b):
    """a + ib, without arithmetic: infinities stay where they are. RuntimeError for other than two of float32 or float64."""
    if a.dtype not in (float32, float64) or b.dtype not in (float32, float64):
        raise RuntimeError(f"complex: wanted two of float32 or float64, saw {a.dtype} and {b.dtype}")
    if a.dtype != b.dtype:
        raise RuntimeError(f"complex: wanted parts of one dtype, saw {a.dtype} and {b.dtype}")
    xp = namespace(a)
    a, b = xp.broadcast_arrays(a, b)
    y = xp.empty(a.shape, complex64 if a.dtype == float32 else complex128)
    y.real, y.imag = a, b
    return y


@other_words
def complex(real: Any, imag: Any) -> Any:
    """real + i imag, of two tensors of one dtype, float32 or float64, that broadcast."""
    return complex_of(real, imag)


@other_words
def polar(abs: Any, angle: Any) -> Any:
    """abs (cos(angle) + i sin(angle)), of two tensors of one dtype, float32 or float64, that broadcast."""
    for v in (abs, angle):
        if not hasattr(v, "dtype"):
            raise TypeError(f"polar: wanted two tensors, saw {v!r}")
    if abs.dtype != angle.dtype or abs.dtype not in (float32, float64):
        raise RuntimeError(f"polar: wanted two of float32 or float64, saw {abs.dtype} and {angle.dtype}")
    return complex_of(abs * pointwise.cos(angle), abs * pointwise.sin(angle))


def _angle(x: Any) -> Any:
    if x.dtype.kind == "c":
        return np.arctan2(x.imag, x.real)
    y = np.where(x < 0, elementwise.like(x, math.pi), elementwise.like(x, 0))
    return np.where(x != x, x, y).astype(x.dtype, copy=False)  # CuPy chooses bfloat16 in float32


def _dangle(g: Any, x: Any) -> Any:
    if unwrap(x).dtype.kind != "c":
        return g * 0
    size = pointwise.abs(x)
    return pointwise.where(size == 0, 0.0, g * 1j * (x / pointwise.where(size == 0, 1.0, size * size)))


angle = row(
    "angle(x)", _angle, "The angle of complex numbers in (-pi, pi]; of real ones 0, or pi below 0", floating=True, twin=None,
    kinks=(0,), dx=_dangle,
)  # fmt: skip


def resolve_conj(input: Any) -> Any:
    """The tensor itself: conjugation is never put off."""
    return input


def resolve_neg(input: Any) -> Any:
    """The tensor itself: negation is never put off."""
    return input


def is_conj(input: Any) -> bool:
    """False: conjugation is never put off."""
    return False


def is_neg(input: Any) -> bool:
    """False: negation is never put off."""
    return False


def isreal(input: Any) -> Any:
    """Whether the imaginary part is 0."""
    if input.dtype.kind == "c":
        return pointwise.eq(imag(input), 0)
    return pointwise.logical_or(pointwise.eq(input, input), pointwise.isnan(input))
