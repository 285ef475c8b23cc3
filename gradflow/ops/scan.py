"""Scans: running sums, products and extremes along a dimension."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..backend import int64, is_differentiable, namespace
from ..cases import case
from ..op import op
from . import gather, index, pointwise, shape
from .dims import dimension, other_words
from .extreme import Found, found
from .reduce import kept, wide


def doubling(combine: Callable[[Any, Any], Any], *xs: Any) -> tuple:
    """The scan of an associative function along dimension 0 in log2(n) rounds: round k joins runs of 2^k.

    combine takes two tuples of arrays, the earlier run and the later, and gives the tuple for both.
    """
    xp, step = namespace(xs[0]), 1
    while step < len(xs[0]):
        joined = combine(tuple(x[:-step] for x in xs), tuple(x[step:] for x in xs))
        xs = tuple(xp.concatenate([x[:step], y]) for x, y in zip(xs, joined, strict=True))
        step *= 2
    return xs


def accumulated(ufunc: Any, x: Any, dim: int) -> Any:
    """The running combination of x along dim by a ufunc."""
    if namespace(x) is np:
        return ufunc.accumulate(x, dim)
    f = getattr(namespace(x), ufunc.__name__)
    xp = namespace(x)
    return xp.moveaxis(doubling(lambda a, b: (f(a[0], b[0]),), xp.moveaxis(x, dim, 0))[0], 0, dim)


def _cases(draw: Callable[..., Any]) -> list[case]:
    return [
        case(draw(3, 4), 1),
        case(draw(3, 4), 0),
        case(draw(2, 5, 3), -2),
        case(draw(4, 3).T, 1),
        case(draw(67), 0),
        case(draw(1), 0),
        case(draw(), 0),
        case(draw(0, 3), 0),
        case(draw(2, 0), 0),
    ]


def _dtypes(x: Any, dtype: Any) -> tuple[np.dtype, np.dtype]:
    """The dtype of the result and of the computation."""
    to = np.dtype(dtype) if dtype is not None else x.dtype if is_differentiable(x.dtype) else int64
    return to, wide(to)


@op(
    dx=lambda g, dim: cumsum_back(g, dim),
    twin="scan",
    cases=lambda r: [*_cases(r), case(r.integers(0, 9, 3, 2), 0, grad=False), case(r(300, 2), 0), case(r(2, 1500), 1)],
)
def cumsum(x, dim, dtype=None):
    """The running sum along dim: y_i = x_0 + ... + x_i. Integers sum to int64; half types add in float32."""
    to, acc = _dtypes(x, dtype)
    d = dimension("cumsum", dim, x.ndim)
    return x.astype(to) if x.ndim == 0 else x.cumsum(d, dtype=acc).astype(to, copy=False)


@op(
    dx=lambda g, dim: cumsum(g, dim),
    twin="scan",
    cases=lambda r: [*_cases(r), case(r(300, 2), 0), case(r(2, 1500), 1)],
    reference=lambda torch, x, dim: x.flip(dim).cumsum(dim).flip(dim) if x.ndim else x.clone(),
)
def cumsum_back(x, dim):
    """The running sum along dim from its end: y_i = x_i + ... + x_{n-1}. The gradient of cumsum."""
    d, acc = dimension("cumsum_back", dim, x.ndim), wide(x.dtype)
    if x.ndim == 0:
        return x.copy()
    back = tuple(slice(None, None, -1) if k == d else slice(None) for k in range(x.ndim))
    return x[back].cumsum(d, dtype=acc)[back].astype(x.dtype, order="C", copy=False)


@other_words
def diff(x: Any, n: int = 1, dim: int = -1, prepend: Any = None, append: Any = None) -> Any:
    """The differences of neighbours along dim, x_{i+1} - x_i, n times over, after joining prepend and append to x; of
    bools, whether they differ. RuntimeError for a 0-d tensor or n below 0.
    """
    if not x.ndim or n < 0:
        raise RuntimeError(f"diff: wanted one dimension or more and n of at least 0, saw shape {tuple(x.shape)} and {n}")
    d = dimension("diff", dim, x.ndim)
    if n == 0:
        return shape.clone(x)
    parts = [v for v in (prepend, x, append) if v is not None]
    x = shape.cat(parts, d) if len(parts) > 1 else x
    for _ in range(min(n, x.shape[d])):
        k = max(x.shape[d] - 1, 0)
        a, b = shape.narrow(x, d, 0, k), shape.narrow(x, d, x.shape[d] - k, k)
        x = pointwise.logical_xor(b, a) if x.dtype.kind == "b" else b - a
    return x


# --- the linear recurrence, of which products, and gradients of scans, are cases ----------------------------


def _linear(a: Any, b: Any) -> Any:
    """y_i = a_i y_{i-1} + b_i along dimension 0."""
    if namespace(b) is np and len(b) <= max(64, b[:1].size):  # long and narrow is faster in rounds
        y = np.empty(b.shape, b.dtype)
        y[:1] = b[:1]
        for i in range(1, len(b)):
            np.multiply(a[i], y[i - 1], y[i, ...])
            y[i] += b[i]
        return y
    return doubling(lambda p, q: (p[0] * q[0], q[0] * p[1] + q[1]), a, b)[1]


def _shift(x: Any, dim: int, back: bool) -> Any:
    """x one place further along dim, or with back one place nearer: 0 comes in, the last goes."""
    n = x.shape[dim]
    if not n:
        return x
    zero = shape.filled(x, kept(x.shape, dim), 0)
    rest = shape.narrow(x, dim, int(back), n - 1)
    return shape.cat([rest, zero] if back else [zero, rest], dim)


def _dlinear(g: Any, a: Any, y: Any, dim: int, back: bool, needs: tuple) -> tuple:
    # The recurrence runs the other way: r_i = g_i + a_{i+1} r_{i+1}; db = r, da_i = r_i y_{i-1}.
    r = linear_recurrence(_shift(a, dim, not back), g, dim, not back)
    return (r * _shift(y, dim, back) if needs[0] else None), r


@op(
    da_db=_dlinear,
    promote="a b",
    twin="scan",
    cases=lambda r: [
        case(r(3, 4), r(3, 4), 1),
        case(r(3, 4), r(3, 4), 0, back=True),
        case(r(4, 3).T, r(3, 4), 0),
        case(r.uniform(-1, 1, 70), r(70), 0),
        case(r.uniform(-1, 1, 2, 300), r(2, 300), -1, back=True),
        case(r.uniform(-1, 1, 1500, 2), r(1500, 2), 0, back=True),
        case(r.uniform(-1, 1, 2, 1500), r(2, 1500), 1, back=True),
        case(r(1), r(1), 0),
        case(r(0, 2), r(0, 2), 0),
    ],
    reference=None,
)
def linear_recurrence(a, b, dim, back=False):
    """y_i = a_i y_{i-1} + b_i along dim, from y_{-1} = 0; with back y_i = a_i y_{i+1} + b_i, from y_n = 0.
    a and b have one shape, of one dimension or more. Products of the a should not overflow.
    """
    xp, d, acc = namespace(b), dimension("linear_recurrence", dim, b.ndim), wide(b.dtype)
    a, b = (xp.moveaxis(v, d, 0)[:: -1 if back else 1] for v in (a, b))
    y = _linear(a.astype(acc, copy=False), b.astype(acc, copy=False))
    return xp.moveaxis(y[:: -1 if back else 1], 0, d).astype(b.dtype, order="C", copy=False)


def _dcumprod(g: Any, x: Any, dim: int) -> Any:
    """dx_i = (x_0 ... x_{i-1}) r_i, where r_i = g_i + x_{i+1} r_{i+1}: no division, so zeros are no exception."""
    if not x.ndim or 0 in x.shape:
        return g
    d = dimension("cumprod", dim, x.ndim)
    one = shape.filled(x, kept(x.shape, d), 1)
    before = cumprod(shape.cat([one, shape.narrow(x, d, 0, x.shape[d] - 1)], d), d)
    return before * linear_recurrence(_shift(x, d, back=True), g, d, back=True)


@op(
    dx=_dcumprod,
    twin="scan",
    cases=lambda r: [
        *_cases(lambda *n: r.uniform(0.6, 1.5, *n)),
        case(np.array([[1.5, 0, 2, 0.5], [0, 3, 0, 1], [1, 2, 3, 4.0]]), 1),
        case(np.array([[1.5, 0, 2, 0.5], [0, 3, 0, 1], [1, 2, 3, 4.0]]), 0),
    ],
)
def cumprod(x, dim, dtype=None):
    """The running product along dim: y_i = x_0 ... x_i. Integers multiply to int64."""
    to, acc = _dtypes(x, dtype)
    d = dimension("cumprod", dim, x.ndim)
    return x.astype(to) if x.ndim == 0 else x.cumprod(d, dtype=acc).astype(to, copy=False)


def _dlogcumsumexp(g: Any, x: Any, y: Any, dim: int) -> Any:
    """dx_i = sum_{k >= i} g_k exp(x_i - y_k) = exp(x_i - y_i) r_i, where r_i = g_i + exp(y_i - y_{i+1}) r_{i+1}.

    y never falls, so no exponent is above 0.
    """
    if not x.ndim or 0 in x.shape:
        return g
    d = dimension("logcumsumexp", dim, x.ndim)
    n, none = x.shape[d], y == -np.inf  # where all so far is -inf, exp(x - y) is 0
    y = pointwise.where(none, 0.0, y)
    none = shape.narrow(none, d, 0, n - 1)
    now = shape.narrow(y, d, 0, n - 1)
    rise = pointwise.where(none, 0.0, pointwise.exp(now - pointwise.where(none, now, shape.narrow(y, d, 1, n - 1))))
    rise = shape.cat([rise, shape.filled(y, kept(y.shape, d), 0)], d)
    return pointwise.exp(x - y) * linear_recurrence(rise, g, d, back=True)


@op(
    dx=_dlogcumsumexp,
    cases=lambda r: [
        *_cases(r),
        case(r(3, 4) * 500, 1),
        case(np.array([[-np.inf, -np.inf, 1.0], [2, -np.inf, 0.5]]), 1, grad=False),
        case(r(3, 4) + 1j * r(3, 4), 1, grad=False),
    ],
)
def logcumsumexp(x, dim):
    """The logarithm of the running sum of exponentials along dim: y_i = log(exp x_0 + ... + exp x_i)."""
    if not is_differentiable(x.dtype):
        raise NotImplementedError(f"logcumsumexp: wanted a floating or complex dtype, saw {x.dtype}")
    d, acc = dimension("logcumsumexp", dim, x.ndim), x.astype(wide(x.dtype), copy=False)
    if x.dtype.kind == "c" and x.ndim:
        return _complex_logcumsumexp(x, d)
    return x.copy() if x.ndim == 0 else accumulated(np.logaddexp, acc, d).astype(x.dtype, copy=False)


def _complex_logcumsumexp(x: Any, d: int) -> Any:
    """Term by term, y_i = m + log(1 + exp(l - m)) of y_{i-1} and x_i, m the one of larger real part: which branch of the
    logarithm it is depends on the order.
    """
    xp = namespace(x)
    x = xp.moveaxis(x, d, 0)
    y = x.copy()
    with np.errstate(all="ignore"):
        for i in range(1, len(x)):
            a, b = x[i], y[i - 1]
            first = xp.isnan(a.real) | (~xp.isnan(b.real) & (a.real < b.real))
            least, most = xp.where(first, a, b), xp.where(first, b, a)
            sure = least.real != most.real
            sure = sure | xp.isfinite(least.real)
            step = xp.where(sure, least - most, 0)
            usual = xp.log1p(xp.exp(step)) + most
            ends = xp.where(least.real < 0, least, xp.log(xp.exp(least) + xp.exp(most)))  # both infinite
            y[i] = xp.where(xp.isnan(least), np.nan + 1j * np.nan, xp.where(sure, usual, ends))
    return xp.moveaxis(y, 0, d)


# --- running extremes -----------------------------------------------------------------------------------


def _running(name: str, ufunc: Any, x: Any, dim: int) -> tuple:
    xp, d = namespace(x), dimension(name, dim, x.ndim)
    if x.ndim == 0:
        return x.copy(), xp.zeros((), int64)
    y = accumulated(ufunc, x, d)
    place = xp.arange(x.shape[d]).reshape([-1 if k == d else 1 for k in range(x.ndim)])
    new = xp.where((x == y) | (x != x), place, 0)  # of equals the last, as in PyTorch
    return y, accumulated(np.maximum, xp.broadcast_to(new, x.shape), d)


_running_options = dict(
    real=True,
    dx=lambda g, indices, x_shape, dim: (
        index.index_sum(g[0], gather.along("cummax", dim, indices, x_shape, known=True), x_shape) if x_shape else g[0]
    ),
    outputs=("values", "indices"),
    cases=lambda r: [
        *_cases(r.distinct),
        case(np.array([[1.0, 1, 0, 1, 2]]), 1, grad=False),
        case(np.array([[1.0, np.nan, 5, 1]]), 1, grad=False),
    ],
)


@op(name="cummax", **_running_options)
def largest_so_far(x, dim):
    """(values, indices) of the largest element so far along dim, the last of equals; NaN stays once met."""
    return _running("cummax", np.maximum, x, dim)


@op(name="cummin", **_running_options)
def smallest_so_far(x, dim):
    """(values, indices) of the smallest element so far along dim, the last of equals; NaN stays once met."""
    return _running("cummin", np.minimum, x, dim)


@other_words
def cummax(x: Any, dim: int) -> Found:
    """(values, indices) of the largest element so far along dim, the last of equals; NaN stays once met."""
    return found("cummax", *largest_so_far(x, dim))


@other_words
def cummin(x: Any, dim: int) -> Found:
    """(values, indices) of the smallest element so far along dim, the last of equals; NaN stays once met."""
    return found("cummin", *smallest_so_far(x, dim))
