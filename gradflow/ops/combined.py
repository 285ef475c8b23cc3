"""Elementwise functions that are put together from rows of pointwise.py."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backend import get_default_dtype, is_differentiable
from ..call import into
from ..dtypes import finfo
from ..op import unwrap
from . import complexes
from .dims import other_words
from .elementwise import kind_of
from .pointwise import (
    abs,
    add,
    bitwise_or,
    cast,
    clamp,
    div,
    elu,
    eq,
    floor_divide,
    isfinite,
    isnan,
    le,
    logical_and,
    logical_or,
    mul,
    round,
    sub,
    trunc_divide,
    where,
)  # fmt: skip

# Klambauer et al. 2017, eq. 14
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


def selu(x: Any) -> Any:
    """scale (x where x > 0, else alpha (e^x - 1)) with the self-normalising alpha, scale (Klambauer et al. 2017)."""
    return elu(x, _SELU_ALPHA, _SELU_SCALE)


def celu(x: Any, alpha: float = 1.0) -> Any:
    """x where x > 0, else alpha (e^(x / alpha) - 1) (Barron 2017). ZeroDivisionError for alpha 0."""
    return elu(x, alpha, 1.0, 1.0 / alpha)


def prelu(x: Any, weight: Any) -> Any:
    """x where x > 0, else weight x, one weight for all or one per channel, dimension 1 (He et al. 2015)."""
    if weight.ndim > 1:
        raise RuntimeError(f"prelu: wanted one weight or a vector of them, saw shape {tuple(weight.shape)}")
    if weight.ndim and weight.shape[0] == 1:
        weight = weight.reshape(())
    elif weight.ndim:
        if x.ndim < 2 or x.shape[1] != weight.shape[0]:
            raise RuntimeError(f"prelu: wanted {weight.shape[0]} channels in dimension 1, saw shape {tuple(x.shape)}")
        weight = weight.reshape((weight.shape[0], *(1,) * (x.ndim - 2)))
    return where(x > 0, x, x * weight)


def add_scaled(input: Any, other: Any, alpha: Any = 1, *, out: Any = None) -> Any:
    """input + alpha other."""
    y = add(input, other if alpha == 1 else other * alpha)
    return y if out is None else into("add", out, y)


def sub_scaled(input: Any, other: Any, alpha: Any = 1, *, out: Any = None) -> Any:
    """input - alpha other."""
    y = sub(input, other if alpha == 1 else other * alpha)
    return y if out is None else into("sub", out, y)


@other_words
def divide(input: Any, other: Any, rounding_mode: str | None = None) -> Any:
    """input / other, or its integer below ('floor') or towards zero ('trunc'). RuntimeError for another rounding_mode."""
    if rounding_mode is None:
        return div(input, other)
    if rounding_mode == "floor":
        return floor_divide(input, other)
    if rounding_mode == "trunc":
        return trunc_divide(input, other)
    raise RuntimeError(f"div: wanted rounding_mode None, 'trunc' or 'floor', saw {rounding_mode!r}")


def to_floating(x: Any) -> Any:
    """x with the default floating dtype if it has integers or bools; a number as it is."""
    return x if not hasattr(x, "dtype") or is_differentiable(x.dtype) else cast(x, get_default_dtype())


@other_words
def round_to(x: Any, decimals: int = 0) -> Any:
    """x rounded to `decimals` decimal places, halves to even."""
    if decimals < 0:
        return round(x / 10**-decimals) * 10**-decimals
    return round(x) if decimals == 0 else round(x * 10**decimals) / 10**decimals


@other_words
def lerp(input: Any, end: Any, weight: Any) -> Any:
    """input + weight (end - input), from the nearer end. RuntimeError unless the tensors have one floating dtype."""
    for v in (end, weight):
        if getattr(v, "dtype", input.dtype) != input.dtype:
            raise RuntimeError(f"lerp: wanted tensors of one dtype, saw {input.dtype} and {v.dtype}")
    if not is_differentiable(input.dtype):
        raise RuntimeError(f"lerp: wanted floating or complex numbers, saw {input.dtype}")
    return add(input, mul(sub(end, input), weight))


@other_words
def addcmul(input: Any, tensor1: Any, tensor2: Any, value: Any = 1) -> Any:
    """input + value tensor1 tensor2."""
    return add_scaled(input, mul(tensor1, tensor2), value)


@other_words
def addcdiv(input: Any, tensor1: Any, tensor2: Any, value: Any = 1) -> Any:
    """input + value tensor1 / tensor2."""
    if kind_of(tensor1) in "biu" and kind_of(tensor2) in "biu":
        raise RuntimeError(f"addcdiv: wanted floating numbers to divide, saw {tensor1.dtype} and {tensor2.dtype}")
    return add_scaled(input, div(tensor1, tensor2), value)


@other_words
def nan_to_num(input: Any, nan: Any = 0.0, posinf: Any = None, neginf: Any = None) -> Any:
    """input with NaN, infinity and minus infinity replaced; the infinities by the largest and smallest finite numbers."""
    if input.dtype.kind in "biu":
        return input * 1 if input.dtype.kind != "b" else bitwise_or(input, input)
    if input.dtype.kind == "c":
        return complexes.complex_of(*[nan_to_num(f(input), nan, posinf, neginf) for f in (complexes.real, complexes.imag)])
    ends = finfo(input.dtype)
    y = where(isnan(input), 0.0 if nan is None else nan, input)
    y = where(input == math.inf, float(ends.max) if posinf is None else posinf, y)
    return where(input == -math.inf, float(ends.min) if neginf is None else neginf, y)


@other_words
def clamp_min(input: Any, min: Any) -> Any:
    """The larger of input and min."""
    return clamp(input, min)


@other_words
def clamp_max(input: Any, max: Any) -> Any:
    """The smaller of input and max."""
    return clamp(input, None, max)


def isclose(input: Any, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Any:
    """Whether |a - b| <= atol + rtol |b|, element by element; equal infinities are close, NaNs if equal_nan says so.

    RuntimeError for different dtypes or a tolerance below 0.
    """
    a, b = input, other
    for v in (a, b):
        if not hasattr(v, "dtype"):
            raise TypeError(f"isclose: wanted two tensors, saw {v!r}")
    if a.dtype != b.dtype:
        raise RuntimeError(f"isclose: wanted two of one dtype, saw {a.dtype} and {b.dtype}")
    if rtol < 0 or atol < 0:
        raise RuntimeError(f"isclose: wanted rtol and atol of at least 0, saw {rtol} and {atol}")
    near = eq(a, b)
    if equal_nan and is_differentiable(a.dtype):
        near = logical_or(near, logical_and(isnan(a), isnan(b)))
    if rtol == 0 and atol == 0:
        return near
    if a.dtype.kind in "biu":  # whose differences wrap around
        a, b = cast(a, np.dtype("int64")), cast(b, np.dtype("int64"))
    apart = abs(sub(a, b))
    return logical_or(near, logical_and(isfinite(apart), le(apart, add(abs(mul(b, rtol)), atol))))


def allclose(input: Any, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Whether all elements are close (isclose); waits for the card."""
    return bool(unwrap(isclose(input, other, rtol, atol, equal_nan)).all())


def equal(a: Any, b: Any) -> bool:
    """Whether two tensors have the same shape and the same elements; waits for the card."""
    return tuple(a.shape) == tuple(b.shape) and bool(unwrap(eq(a, b)).all())
