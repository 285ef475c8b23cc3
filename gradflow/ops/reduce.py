"""Reductions: many elements become one, over all dimensions or over `dim`."""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np

from ..backend import float32, int64, is_differentiable, is_floating, namespace
from ..cases import case
from ..op import op
from . import pointwise, shape
from .dims import dimension, dimensions, other_words


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


LONG, BLOCK = 512, 64  # from so many terms on, a sum in float32 is taken by blocks


def total(x: Any, over: tuple[int, ...] | None, acc: np.dtype, keepdim: bool = False) -> Any:
    """The sum over `over` in the dtype acc, as accurate along every dimension as along the one of neighbours in memory.

    NumPy adds pairs of pairs along that one but one by one along others, where a million terms in float32 lose four
    digits: add those by blocks first.
    """
    if over is not None and acc == float32 and isinstance(x, np.ndarray):
        for d in over:
            while x.shape[d] >= LONG and abs(x.strides[d]) > x.itemsize:
                m = x.shape[d] // BLOCK
                head, tail = np.split(x, [m * BLOCK], d)
                head = head.reshape(*x.shape[:d], m, BLOCK, *x.shape[d + 1 :]).sum(d + 1, dtype=acc)
                x = np.concatenate([head, tail.sum(d, dtype=acc, keepdims=True)], d)
    return x.sum(over, dtype=acc, keepdims=keepdim)


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
    twin="reduce",
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
    y = total(x, None if dim is None else dimensions("sum", dim, x.ndim), acc, keepdim)
    return y if acc == to else y.astype(to)


def _floating(name: str, x: Any, dtype: Any) -> np.dtype:
    to = x.dtype if dtype is None else np.dtype(dtype)
    if not is_differentiable(to):
        raise RuntimeError(f"{name}: wanted a floating or complex dtype, saw {to}")
    return to


@op(
    dx=lambda g, x_shape, dim, keepdim: restore(g, x_shape, dim, keepdim) / builtins.max(count(x_shape, dim), 1),
    twin="reduce",
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
    y = total(x, over, acc, keepdim)
    y = y / n if n else y * math.nan
    return y if y.dtype == to else y.astype(to)


@other_words
def nansum(x: Any, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Any:
    """The sum of the elements that are not NaN. RuntimeError for complex numbers."""
    if x.dtype.kind == "c":
        raise RuntimeError(f"nansum: wanted real numbers, saw {x.dtype}")
    return sum(pointwise.where(pointwise.isnan(x), 0.0, x) if is_differentiable(x.dtype) else x, dim, keepdim, dtype)


@other_words
def nanmean(x: Any, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Any:
    """The mean of the elements that are not NaN; NaN where there are none."""
    _floating("nanmean", x, None)
    number = sum(pointwise.logical_not(pointwise.isnan(x)), dim, keepdim)
    return nansum(x, dim, keepdim, dtype) / number


# --- spread ---------------------------------------------------------------------------------------------


def _freedom(x_shape: tuple[int, ...], dim: Any, correction: Any) -> float:
    """1 / (n - correction), what the squares are averaged by: NaN or infinite where nothing is left."""
    n = count(x_shape, dim) - correction
    return 1 / n if n > 0 else math.inf


def _centered(x: Any, dim: Any) -> Any:
    return x - mean(x, dim, True)


def _spread(name: str, x: Any, dim: Any, correction: Any, keepdim: bool) -> Any:
    """The variance, in the dtype in which sums are taken."""
    _floating(name, x, None)
    over = dimensions(name, dim, x.ndim)
    acc, n = wide(x.dtype), count(x.shape, over)
    d = x - total(x, over, acc, keepdim=True) / n if n else x.astype(acc)
    squares = d.real * d.real + d.imag * d.imag if d.dtype.kind == "c" else d * d
    return total(squares, over, squares.dtype, keepdim) * squares.dtype.type(_freedom(x.shape, over, correction))


def _spread_cases(r: Any) -> list[case]:
    return [
        *(c for c in _reductions(r) if c.args[0].shape != (5, 1)),
        case(r(5), correction=0),
        case(r(5, 1), dim=1, correction=0, grad=False),
        case(r(3, 4), dim=0, correction=2),
        case(r(3, 4) + 100, dim=1),
    ]


@op(
    name="var",
    dx=lambda g, x, dim, correction, keepdim, x_shape: (
        restore(g, x_shape, dim, keepdim) * _centered(x, dim) * (2 * _freedom(x_shape, dim, correction))
    ),
    cases=_spread_cases,
)
def variance(x, dim=None, correction=1, keepdim=False):
    """The variance over dim: y = sum_i (x_i - mean)^2 / (n - correction), by two passes.
    NaN or infinite where n <= correction; RuntimeError unless the dtype is floating.
    """
    y = _spread("var", x, dim, correction, keepdim)
    return y if y.dtype == x.dtype or x.dtype.kind == "c" else y.astype(x.dtype)


def _dstd(g: Any, x: Any, y: Any, dim: Any, correction: Any, keepdim: bool) -> Any:
    # At 0 the slope is taken as 0: sqrt has none there.
    slope = pointwise.where(y == 0, 0.0, g / pointwise.where(y == 0, 1.0, y))
    return restore(slope, x.shape, dim, keepdim) * _centered(x, dim) * _freedom(x.shape, dim, correction)


@op(name="std", dx=_dstd, cases=_spread_cases)
def deviation(x, dim=None, correction=1, keepdim=False):
    """The standard deviation over dim: the square root of the variance. Its gradient at 0 is taken as 0."""
    y = namespace(x).sqrt(_spread("std", x, dim, correction, keepdim))
    return y if y.dtype == x.dtype or x.dtype.kind == "c" else y.astype(x.dtype)


def _correction(dim: Any, unbiased: Any, correction: Any) -> tuple[Any, Any]:
    """(dim, correction) from PyTorch's older and newer arguments: var(x, True), var(x, 0, False), correction=0."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    if correction is None:
        correction = 1 if unbiased is None else int(unbiased)
    return dim, correction


@other_words
def var(x: Any, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *, correction: Any = None) -> Any:
    """The variance over dim: sum_i (x_i - mean)^2 / (n - correction); unbiased=False is correction=0."""
    dim, correction = _correction(dim, unbiased, correction)
    return variance(x, dim, correction, keepdim)


@other_words
def std(x: Any, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *, correction: Any = None) -> Any:
    """The standard deviation over dim: sqrt(var). Its gradient at 0 is taken as 0."""
    dim, correction = _correction(dim, unbiased, correction)
    return deviation(x, dim, correction, keepdim)


@other_words
def var_mean(x: Any, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *, correction: Any = None) -> tuple:
    """(variance, mean) over dim."""
    dim, correction = _correction(dim, unbiased, correction)
    return variance(x, dim, correction, keepdim), mean(x, dim, keepdim)


@other_words
def std_mean(x: Any, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *, correction: Any = None) -> tuple:
    """(standard deviation, mean) over dim."""
    dim, correction = _correction(dim, unbiased, correction)
    return deviation(x, dim, correction, keepdim), mean(x, dim, keepdim)


# --- products and sums of exponentials ------------------------------------------------------------------


def others(x: Any, dim: int) -> Any:
    """Along dim, the product of all elements but each one's own: up a tree of products and down again.

    No division, so zeros are no exception; only products and slices, so it has gradients of every order.
    """
    x = shape.movedim(x, dim, -1)
    n, levels = x.shape[-1], []
    while x.shape[-1] > 1:
        if x.shape[-1] % 2:
            x = shape.cat([x, shape.filled(x, (*x.shape[:-1], 1), 1)], -1)
        a, b = x[..., 0::2], x[..., 1::2]
        levels.append((a, b))
        x = a * b
    y = shape.filled(x, x.shape, 1)
    for a, b in reversed(levels):
        y = y[..., : a.shape[-1]]
        y = shape.flatten(shape.stack([y * b, y * a], -1), -2)
    return shape.movedim(y[..., :n], -1, dim)


def _dprod(g: Any, x: Any, dim: Any, keepdim: bool) -> Any:
    if dim is None:
        return shape.reshape(others(shape.reshape(x, (-1,)), 0), x.shape) * g
    return restore(g, x.shape, dim, keepdim) * (others(x, dim) if x.ndim else 1)


@op(
    dx=_dprod,
    cases=lambda r: [
        case(r.positive(2, 3)),
        case(r.positive(2, 5), dim=1),
        case(r.positive(2, 3, 2), dim=-2, keepdim=True),
        case(np.array([[1.5, 0, 2, 0.5], [0, 3, 0, 1], [1, 2, 3, 4.0]]), dim=1),
        case(np.array([0.0, 2, 3])),
        case(r()),
        case(r(0, 2), dim=0),
        case(r(7), dim=0),
        case(r.integers(1, 4, 3, 2), dim=0, grad=False),
    ],
)
def prod(x, dim=None, keepdim=False, dtype=None):
    """The product of the elements over one dimension, or all: y = prod_i x_i. Integers multiply to int64."""
    to = np.dtype(dtype) if dtype is not None else x.dtype if is_differentiable(x.dtype) else int64
    if dim is not None:
        dim = dimension("prod", dim, x.ndim)
    over = None if dim is None else dimensions("prod", dim, x.ndim)
    y = x.prod(over, dtype=wide(to), keepdims=keepdim and dim is not None)
    return y if y.dtype == to else y.astype(to)


@op(
    dx=lambda g, x, y, dim, keepdim, x_shape: (
        restore(g, x_shape, dim, keepdim) * pointwise.exp(x - restore(y, x_shape, dim, keepdim))
    ),
    floating=True,
    promote="x",
    cases=lambda r: [
        case(r(3, 4), 1),
        case(r(3, 4), -1, keepdim=True),
        case(r(2, 3, 4), (0, 2)),
        case(r(3, 4) * 1000, 0),
        case(r(), 0),
        case(np.array([[-np.inf, -np.inf], [np.inf, 0], [-np.inf, 1]]), 1, grad=False),
    ],
)
def logsumexp(x, dim, keepdim=False):
    """The logarithm of the sum of exponentials over dim: y = m + log sum_i exp(x_i - m), m the largest of the x_i."""
    xp, over = namespace(x), dimensions("logsumexp", dim, x.ndim)
    acc = x.astype(wide(x.dtype), copy=False)
    m = acc.real.max(over, keepdims=True) if x.size else xp.zeros(kept(x.shape, over), acc.real.dtype)
    m = xp.where(xp.isfinite(m), m, 0)
    y = xp.log(xp.exp(acc - m).sum(over, keepdims=True)) + m
    return (y if keepdim else y.reshape([n for i, n in enumerate(x.shape) if i not in over])).astype(x.dtype)


# --- norms ----------------------------------------------------------------------------------------------


def _dnorm(g: Any, x: Any, y: Any, p: float, dim: Any, keepdim: bool) -> Any:
    g, y = restore(g, x.shape, dim, keepdim), restore(y, x.shape, dim, keepdim)
    if p == 0:
        return x * 0
    if p == 1:
        return g * pointwise.sgn(x)
    if abs(p) == math.inf:
        same = pointwise.cast(pointwise.abs(x) == y, x.dtype)
        return pointwise.sgn(x) * same * (g / sum(same, dim, True))
    none = y == 0
    safe = pointwise.where(none, 1.0, y)
    if p == 2:
        return x * pointwise.where(none, 0.0, g / safe)
    # Where x is 0 its power of p - 2 may not exist; the slope there is 0 for p > 1, and taken as 0 for p < 1.
    size = pointwise.where(x == 0, 1.0, pointwise.abs(x))
    slope = pointwise.where(x == 0, 0.0, pointwise.sgn(x) * size ** (p - 1))
    return slope * pointwise.where(none, 0.0, g / safe ** (p - 1))


@op(
    dx=_dnorm,
    cases=lambda r: [
        *_reductions(r),
        *(case(r.distinct(3, 4), p, 1) for p in (0, 1, 1.5, 3, -1, math.inf, -math.inf)),
        case(np.array([[0.0, 2, -1], [0, 0, 0]]), 3.0, 1, order=1),  # |x|^3 has a kink in its second derivative at 0
        case(np.zeros((2, 3)), 2, 1, grad=False),
        case(r(), 2),
    ],
    reference="linalg.vector_norm",
)
def vector_norm(x, p=2, dim=None, keepdim=False):
    """The p-norm over dim: y = (sum_i |x_i|^p)^(1/p); the largest |x| for p = inf, the smallest for -inf, the number of
    nonzero elements for 0. RuntimeError unless the dtype is floating.
    """
    _floating("vector_norm", x, None)
    xp, over = namespace(x), dimensions("vector_norm", dim, x.ndim)
    if (p < 0 or p == math.inf) and 0 in [x.shape[d] for d in over]:
        raise RuntimeError(f"vector_norm: wanted one element or more for p = {p}, saw shape {x.shape} and dim {dim}")
    a = xp.abs(x.astype(wide(x.dtype), copy=False))
    if p == 0:
        y = (a != 0).sum(over, dtype=a.dtype, keepdims=keepdim)
    elif p == 1:
        y = a.sum(over, keepdims=keepdim)
    elif p == 2:
        y = xp.sqrt((a * a).sum(over, keepdims=keepdim))
    elif abs(p) == math.inf:
        y = a.max(over, keepdims=keepdim) if p > 0 else a.min(over, keepdims=keepdim)
    else:
        y = (a**p).sum(over, keepdims=keepdim) ** (1 / p)
    return y.astype(x.real.dtype, copy=False)


@other_words
def norm(x: Any, p: Any = "fro", dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Any:
    """The p-norm of the elements over dim; "fro" is p = 2, "nuc" the sum of a matrix's singular values.
    RuntimeError unless the dtype is floating or complex, and for another word.
    """
    if dtype is not None or p == "nuc":
        from . import matrix  # which stands on this family
    if dtype is not None:
        x = matrix.widened("norm", x, dtype)
    if p == "nuc":
        return matrix.matrix_norm(x, "nuc", tuple(range(x.ndim)) if dim is None else dim, keepdim)
    if isinstance(p, str) and p != "fro":
        raise RuntimeError(f"norm: wanted p a number, 'fro' or 'nuc', saw {p!r}")
    return vector_norm(x, 2 if p in ("fro", None) else float(p), dim, keepdim)


# --- truth ----------------------------------------------------------------------------------------------


def _truth_cases(r: Any) -> list[case]:
    x = r.integers(0, 2, 3, 4)
    cases = [case(x), case(x, dim=1), case(x, dim=-2, keepdim=True), case(x > 0, dim=(0, 1))]
    return [*cases, case(r(0)), case(r(0, 2), dim=1), case(r())]


def _truth(name: str, x: Any, dim: Any, keepdim: bool) -> Any:
    if dim is not None and not isinstance(dim, int) and not len(dim):  # PyTorch's way with no dimensions: each for itself
        y = x != 0
    else:
        y = getattr(x, name)(None if dim is None else dimensions(name, dim, x.ndim), keepdims=keepdim)
    return y.astype(x.dtype) if x.dtype == np.uint8 else y  # and with bytes


@op(cases=_truth_cases)
def all(x, dim=None, keepdim=False):
    """Whether every element over dim is nonzero; true where there is none."""
    return _truth("all", x, dim, keepdim)


@op(cases=_truth_cases)
def any(x, dim=None, keepdim=False):
    """Whether some element over dim is nonzero."""
    return _truth("any", x, dim, keepdim)


@op(cases=lambda r: [case(r.integers(0, 2, 3, 4)), case(r.integers(0, 2, 3, 4), dim=1), case(r.mask(2, 3), dim=(0, 1))])
def count_nonzero(x, dim=None):
    """How many elements over dim are nonzero."""
    return (x != 0).sum(None if dim is None else dimensions("count_nonzero", dim, x.ndim), dtype=int64)
