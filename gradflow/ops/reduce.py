"""Reductions: many elements become one, over all dimensions or over `dim`."""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np

from ..backend import float32, int64, is_differentiable, is_floating
from ..cases import case
from ..op import op
from . import shape
from .dims import dimensions


def kept(x_shape: tuple[int, ...], dim: Any) -> tuple[int, ...]:
    """The shape after a reduction over dim with keepdim=True."""
    over = dimensions("reduce", dim, len(x_shape))
    return tuple(1 if i in over else n for i, n in enumerate(x_shape))


def restore(g: Any, x_shape: tuple[int, ...], dim: Any, keepdim: bool) -> Any:
    """The gradient of a reduction's result as if keepdim had been True, so that it broadcasts against the input."""
    return g if keepdim else shape.reshape(g, kept(x_shape, dim))


def count(x_shape: tuple[int, ...], dim: Any) -> int:
    """How many elements each result was made from."""
    return math.prod(x_shape[d] for d in dimensions("reduce", dim, len(x_shape)))


def wide(dtype: np.dtype) -> np.dtype:
    """The dtype in which elements of this one are summed: float32 for the half types."""
    return float32 if dtype.itemsize == 2 and is_floating(dtype) else dtype


def _reductions(r: Any) -> list[case]:
    """Cases that every reduction over dim and keepdim takes."""
    return [
        case(r(2, 3, 4)),
        case(r(2, 3, 4), dim=1),
        case(r(2, 3, 4), dim=-1, keepdim=True),
        case(r(2, 3, 4), dim=(0, -1)),
        case(r.strided(3, 4), dim=(1,), keepdim=True),
        case(r(5, 1), dim=1),
        case(r(67, 3), dim=0),
    ]


@op(
    dx=lambda g, x_shape, dim, keepdim: restore(g, x_shape, dim, keepdim),
    cases=lambda r: [
        *_reductions(r),
        case(r()),
        case(r(), dim=0),
        case(r(0, 3), dim=0),
        case(r(2, 0)),
        case(r(2, 3), dim=()),
        case(r.integers(-5, 5, 3, 4), dim=1, grad=False),
        case(r.mask(3, 4), dim=0, grad=False),
    ],
)
def sum(x, dim=None, keepdim=False, dtype=None):
    """The sum of the elements over `dim`, one or several dimensions, or all: y = sum_i x_i.
    Integers and bools sum to int64; half types add in float32. IndexError for a dimension out of range.
    """
    to = np.dtype(dtype) if dtype is not None else x.dtype if is_differentiable(x.dtype) else int64
    acc = wide(to)
    over = None if dim is None else dimensions("sum", dim, x.ndim)
    y = x.sum(over, dtype=acc, keepdims=keepdim)
    return y if acc == to else y.astype(to)


def _floating(name: str, x: Any, dtype: Any) -> np.dtype:
    to = x.dtype if dtype is None else np.dtype(dtype)
    if not is_differentiable(to):
        raise RuntimeError(f"{name}: wanted a floating or complex dtype, saw {to}")
    return to


@op(
    dx=lambda g, x_shape, dim, keepdim: restore(g, x_shape, dim, keepdim) / builtins.max(count(x_shape, dim), 1),
    cases=lambda r: [*_reductions(r), case(r()), case(r(0, 3), dim=1), case(r(0, 3), dim=0, grad=False)],
)
def mean(x, dim=None, keepdim=False, dtype=None):
    """The mean of the elements over `dim`: y = sum_i x_i / n, NaN where n is 0.
    RuntimeError unless the dtype is floating or complex.
    """
    to = _floating("mean", x, dtype)
    acc = wide(to)
    over = None if dim is None else dimensions("mean", dim, x.ndim)
    n = x.size if over is None else count(x.shape, over)
    y = x.sum(over, dtype=acc, keepdims=keepdim)
    y = y / n if n else y * math.nan
    return y if y.dtype == to else y.astype(to)
