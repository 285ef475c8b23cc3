"""Statistics: modes, quantiles, histograms, counts and covariance."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ..backend import bool_, float32, float64, int64, is_floating, namespace
from ..call import sampled
from ..cases import case
from ..op import op, unwrap
from ..tape import Traced
from ..traced import wrap
from . import arrange, combined, gather, linalg, pointwise, reduce, shape, sort, ties
from .dims import dimension, other_words
from .extreme import Found, chosen, found, read
from .results import returned

# --- the most frequent ------------------------------------------------------------------------------------


@op(
    name="mode",
    dx=lambda g, indices, x_shape, dim, keepdim: chosen(g, indices, x_shape, dim, keepdim),
    outputs=("values", "indices"),
    cases=lambda r: [
        case(r.distinct(3, 4), 1),
        case(np.array([[2.0, 1, 2, 1], [3, 3, 0, 1]]), 1, grad=False),
        case(np.array([[2.0, 1, 2], [2, 1, 0]]), 0, keepdim=True, grad=False),
        case(r(), 0),
        case(r(2, 0, 2), 2),
    ],
)
def most_frequent(x, dim=-1, keepdim=False):
    """(values, indices) of the most frequent element along dim, the smallest of several, and where it is last."""
    xp, d = namespace(x), dimension("mode", dim, x.ndim)
    if not x.ndim:
        return x.copy(), xp.zeros((), int64)
    if x.dtype.kind == "c":
        raise NotImplementedError(f"mode: wanted real numbers, saw {x.dtype}")
    n = x.shape[d]
    if not n:
        if x.size or 0 not in [m for k, m in enumerate(x.shape) if k != d]:
            raise IndexError(f"mode: wanted one element or more along dimension {dim}, saw shape {x.shape}")
        size = [m for k, m in enumerate(x.shape) if k != d or keepdim]
        size = [1 if keepdim and k == d else m for k, m in enumerate(size)]
        return xp.empty(size, x.dtype), xp.empty(size, int64)
    order = sort.ordered(x, d, descending=False)
    y = read(x, order, d)
    y, order = xp.moveaxis(y, d, -1), xp.moveaxis(order, d, -1)
    new = xp.ones(y.shape, bool)
    new[..., 1:] = y[..., 1:] != y[..., :-1]
    run = xp.cumsum(new, -1) - 1
    lengths = (run[..., None] == xp.arange(n)).sum(-2)  # of each run; every NaN is one
    best = lengths.argmax(-1)[..., None]  # the first of the longest has the smallest element
    last = (run <= best).sum(-1, keepdims=True) - 1
    values, places = xp.take_along_axis(y, last, -1), xp.take_along_axis(order, last, -1)
    found = ties.of_mode(sort.keys(xp.moveaxis(x, d, -1).reshape(-1, n)), sort.keys(values.reshape(-1))) if xp is np else None
    places = places if found is None else found.reshape(places.shape)
    values, places = xp.moveaxis(values, -1, d), xp.moveaxis(places, -1, d)
    return (values, places) if keepdim else (values.squeeze(d), places.squeeze(d))


@other_words
def mode(x: Any, dim: int = -1, keepdim: bool = False) -> Found:
    """(values, indices) of the most frequent element along dim, the smallest of several, and where it is last."""
    return found("mode", *most_frequent(x, dim, keepdim))


# --- quantiles --------------------------------------------------------------------------------------------

_WAYS = ("linear", "lower", "higher", "nearest", "midpoint")


def _quantile(name: str, x: Any, q: Any, dim: int | None, keepdim: bool, interpolation: str, nans: bool) -> Any:
    a = unwrap(x)
    if a.dtype not in (float32, float64):
        raise RuntimeError(f"{name}: wanted a tensor of float32 or float64, saw {a.dtype}")
    if interpolation not in _WAYS:
        raise RuntimeError(f"{name}: wanted interpolation {', '.join(_WAYS)}, saw {interpolation!r}")
    xp = namespace(a)
    if gather.is_tensor(q):
        if q.ndim > 1 or q.dtype != a.dtype:
            raise RuntimeError(f"{name}: wanted q of {a.dtype} and at most 1 dimension, saw {q.dtype} {tuple(q.shape)}")
        ranks = q
    else:
        ranks = xp.asarray(q, a.dtype)
    bare = unwrap(ranks)
    if bare.size and namespace(bare) is np and not ((bare >= 0) & (bare <= 1)).all():
        raise RuntimeError(f"{name}: wanted q in [0, 1], saw {bare.min()} to {bare.max()}")
    if not a.size:
        raise RuntimeError(f"{name}: wanted one element or more, saw shape {tuple(a.shape)}")
    d = 0 if dim is None else dimension(name, dim, a.ndim)
    shown = (1,) * a.ndim if dim is None else tuple(1 if k == d else n for k, n in enumerate(a.shape))
    x = shape.reshape(x, (-1, 1)) if dim is None or not a.ndim else shape.movedim(x, d, 0)
    x = sort.in_order(x, 0)[0]
    flat = shape.reshape(x, (x.shape[0], -1))
    bad = (unwrap(flat) != unwrap(flat)).sum(0)
    last = xp.asarray(flat.shape[0] - 1)
    if nans:
        last = xp.maximum(flat.shape[0] - bad - 1, 0)
    at = shape.reshape(ranks, (-1, 1)) * last.astype(a.dtype)
    if not nans:
        at = pointwise.where(bad > 0, xp.full((), flat.shape[0] - 1, a.dtype), at)  # where the NaNs are
    at = shape.expand(at, (at.shape[0], flat.shape[1]))
    if interpolation == "nearest":
        at = pointwise.round(at)
    elif interpolation in ("lower", "higher"):
        at = pointwise.floor(at) if interpolation == "lower" else pointwise.ceil(at)
    below = pointwise.floor(at)
    y = gather.gather(flat, 0, unwrap(below).astype(int64))
    if interpolation in ("linear", "midpoint"):
        above = gather.gather(flat, 0, unwrap(pointwise.ceil(at)).astype(int64))
        y = combined.lerp(y, above, 0.5 if interpolation == "midpoint" else at - below)
    size = shown if keepdim else () if dim is None else tuple(n for k, n in enumerate(shown) if k != d)
    if a.ndim == 0:
        size = ()
    return shape.reshape(y, (*(ranks.shape if gather.is_tensor(q) else ()), *size))


@other_words
def quantile(
    input: Any, q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear"
) -> Any:
    """The q-quantiles of the elements along dim, or of all; q is a number or a vector of them, whose dimension comes
    first. Between two elements, at q (n - 1), the value is interpolated, or one of them as `interpolation` says: lower,
    higher, nearest, midpoint. NaN if an element is. RuntimeError unless the dtype is float32 or float64 and q in [0, 1].
    """
    return _quantile("quantile", input, q, dim, keepdim, interpolation, nans=False)


@other_words
def nanquantile(
    input: Any, q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear"
) -> Any:
    """The q-quantiles of what is not NaN: quantile, and NaN only where there is nothing else."""
    return _quantile("nanquantile", input, q, dim, keepdim, interpolation, nans=True)


# --- histograms -------------------------------------------------------------------------------------------


@returned("histogram")
class Histogram(NamedTuple):
    """Counts and the edges between which they were made."""

    hist: Any
    bin_edges: Any


def _same_kind(like: Any, array: Any) -> Any:
    return wrap(array) if isinstance(like, Traced) else array


def _span(name: str, a: Any, low: float, high: float) -> tuple[float, float]:
    """The range of a histogram: that of the data where none is given, and never of no width."""
    if low == high and a.size:
        low, high = float(a.min()), float(a.max())
    elif low == high and name != "histc":
        low, high = 0.0, 1.0
    if low == high:
        low, high = low - 0.5 if name != "histc" else low - 1, high + 0.5 if name != "histc" else high + 1
    if not (math.isfinite(low) and math.isfinite(high)):
        raise RuntimeError(f"{name}: wanted a finite range, saw [{low}, {high}]")
    if low > high:
        raise RuntimeError(f"{name}: wanted min below max, saw {low} and {high}")
    return low, high


@sampled("x")
@other_words
def histc(x: Any, bins: int = 100, min: float = 0, max: float = 0) -> Any:
    """How many elements fall into each of `bins` equal bins between min and max, the last edge included; between the
    smallest and the largest element where both are 0. What lies outside is not counted.
    RuntimeError for fewer than one bin, or a range that is not finite or empty.
    """
    a = unwrap(x)
    if bins < 1:
        raise RuntimeError(f"histc: wanted one bin or more, saw {bins}")
    if a.dtype.kind in "cb":
        raise NotImplementedError(f"histc: wanted real numbers, saw {a.dtype}")
    xp = namespace(a)
    low, high = _span("histc", a, min, max)
    v = (a if is_floating(a.dtype) else a.astype(float64)).reshape(-1)
    v, low, width = v[(v >= low) & (v <= high)], v.dtype.type(low), v.dtype.type(high - low)
    at = xp.minimum(((v - low) * v.dtype.type(bins) / width).astype(int64), bins - 1)
    return _same_kind(x, xp.bincount(at, minlength=bins).astype(a.dtype))


def _edges(name: str, a: Any, bins: Any, low: float | None, high: float | None) -> Any:
    """The edges of the bins: given as a vector, or equally spaced."""
    xp = namespace(a)
    if gather.is_tensor(bins):
        edges = unwrap(bins)
        if edges.ndim != 1 or not edges.size:
            raise RuntimeError(f"{name}: wanted a vector of edges, saw shape {tuple(edges.shape)}")
        if edges.dtype != a.dtype:
            raise RuntimeError(f"{name}: wanted edges of {a.dtype}, saw {edges.dtype}")
        return edges
    if bins < 1:
        raise RuntimeError(f"{name}: wanted one bin or more, saw {bins}")
    low, high = _span(name, a, low or 0.0, high or 0.0) if low == high else (low, high)
    if low > high:  # type: ignore[operator]
        raise RuntimeError(f"{name}: wanted a range that does not fall, saw {low} and {high}")
    return xp.linspace(low, high, bins + 1).astype(a.dtype)


def _counted(points: Any, edges: list, weight: Any, density: bool) -> Any:
    """How much weight of the rows of points falls between each dimension's edges."""
    xp = namespace(points)
    size = [len(e) - 1 for e in edges]
    inside, flat = xp.ones(len(points), bool), xp.zeros(len(points), int64)
    for k, e in enumerate(edges):
        v = points[:, k]
        at = xp.searchsorted(e, v, side="right") - 1
        at = xp.where(v == e[-1], len(e) - 2, at)  # the last edge belongs to its bin
        inside &= (v >= e[0]) & (v <= e[-1])
        flat = flat * size[k] + xp.clip(at, 0, size[k] - 1)
    w = None if weight is None else weight.reshape(-1)[inside]
    n = math.prod(size)
    y = xp.bincount(flat[inside], weights=w, minlength=n)[:n].reshape(size).astype(points.dtype)
    if density:
        volume = xp.ones((), points.dtype)
        for k, e in enumerate(edges):
            volume = volume * xp.diff(e).reshape([-1 if j == k else 1 for j in range(len(edges))])
        y = y / y.sum() / volume
    return y


def _checked(name: str, x: Any, weight: Any, size: tuple) -> tuple[Any, Any]:
    a, w = unwrap(x), unwrap(weight)
    if not is_floating(a.dtype):
        raise NotImplementedError(f"{name}: wanted a floating dtype, saw {a.dtype}")
    if w is not None and (w.dtype != a.dtype or tuple(w.shape) != size):
        raise RuntimeError(f"{name}: wanted weights of {a.dtype} {size}, saw {w.dtype} {tuple(w.shape)}")
    return a, w


@other_words
@sampled("input")
def histogram(
    input: Any, bins: Any, *, range: Any = None, weight: Any = None, density: bool = False
) -> Histogram:
    """(hist, bin_edges): how much weight, 1 each unless given, falls between the edges, a vector or a number of equal
    bins over `range` or the range of the data; as a density its integral is 1. RuntimeError for dtypes and shapes that
    do not fit.
    """
    a, w = _checked("histogram", input, weight, tuple(input.shape))
    if range is not None and len(range) != 2:
        raise RuntimeError(f"histogram: wanted a range of two numbers, saw {range}")
    low, high = range if range is not None else (0.0, 0.0)
    edges = _edges("histogram", a, bins, low, high)
    y = _counted(a.reshape(-1, 1), [edges], w, density)
    return Histogram(_same_kind(input, y), bins if gather.is_tensor(bins) else _same_kind(input, edges))


@sampled()
def histogramdd(
    input: Any, bins: Any, *, range: Any = None, weight: Any = None, density: bool = False
) -> Histogram:
    """(hist, bin_edges): the histogram of points, which are the last dimension of input, in as many dimensions.
    bins is a number, a number for each dimension, or a vector of edges for each. RuntimeError as in histogram.
    """
    if input.ndim < 2:
        raise RuntimeError(f"histogramdd: wanted points in 2 dimensions or more, saw shape {tuple(input.shape)}")
    a, w = _checked("histogramdd", input, weight, tuple(input.shape[:-1]))
    n = a.shape[-1]
    each = list(bins) if isinstance(bins, (tuple, list)) else [bins] * n
    if len(each) != n:
        raise RuntimeError(f"histogramdd: wanted bins for {n} dimensions, saw {len(each)}")
    ends = [0.0] * (2 * n) if range is None else list(range)
    if len(ends) != 2 * n:
        raise RuntimeError(f"histogramdd: wanted a range of {2 * n} numbers, saw {ends}")
    points = a.reshape(-1, n)
    edges = [_edges("histogramdd", points[:, k], b, ends[2 * k], ends[2 * k + 1]) for k, b in enumerate(each)]
    y = _counted(points, edges, w, density)
    given = (b if gather.is_tensor(b) else _same_kind(input, e) for b, e in zip(each, edges, strict=True))
    return Histogram(_same_kind(input, y), tuple(given))


@other_words
def bincount(x: Any, weights: Any = None, minlength: int = 0) -> Any:
    """How often each number from 0 on occurs in a vector of whole numbers, or the sums of their weights.
    RuntimeError for other numbers or shapes, and unless minlength is at least 0.
    """
    a, w = unwrap(x), unwrap(weights)
    if a.dtype.kind not in "iu":
        raise NotImplementedError(f"bincount: wanted ints, saw {a.dtype}")
    if a.ndim != 1 or (a.size and namespace(a) is np and a.min() < 0):
        raise RuntimeError(f"bincount: wanted a vector of ints of at least 0, saw {a.dtype} {tuple(a.shape)}")
    if minlength < 0:
        raise RuntimeError(f"bincount: wanted minlength of at least 0, saw {minlength}")
    if w is not None and w.shape != a.shape:
        raise RuntimeError(f"bincount: wanted weights of shape {a.shape}, saw {tuple(w.shape)}")
    xp = namespace(a)
    if w is None:
        return _same_kind(x, xp.bincount(a.astype(int64), minlength=minlength).astype(int64, copy=False))
    y = xp.bincount(a.astype(int64), weights=w.astype(float64), minlength=minlength)
    return _same_kind(x, y.astype(float32 if w.dtype == float32 else float64))


# --- covariance -------------------------------------------------------------------------------------------


def _weights(name: str, w: Any, n: int, whole: bool) -> Any:
    a = unwrap(w)
    if a.ndim > 1 or a.size != n:
        raise RuntimeError(f"cov: wanted {n} {name}, saw shape {tuple(a.shape)}")
    if (a.dtype.kind not in "iu") if whole else not is_floating(a.dtype):
        raise RuntimeError(f"cov: wanted {name} that are {'ints' if whole else 'floats'}, saw {a.dtype}")
    if namespace(a) is np and (a < 0).any():
        raise RuntimeError(f"cov: wanted {name} of at least 0, saw {a.min()}")
    return w


@sampled("fweights", "aweights")
@other_words
def cov(x: Any, *, correction: int = 1, fweights: Any = None, aweights: Any = None) -> Any:
    """The covariances of the rows of x, whose columns are observations: C = sum_k w_k d_k d_k^H / norm, d_k the k-th
    column less the mean. fweights says how often each was made, aweights how much it counts; norm is the sum of weights
    less the correction. RuntimeError for more than two dimensions, bools, or weights that do not fit.
    """
    if x.ndim > 2 or x.dtype == bool_:
        raise RuntimeError(f"cov: wanted numbers in at most 2 dimensions, saw {x.dtype} {tuple(x.shape)}")
    x = shape.reshape(x, (1, -1)) if x.ndim < 2 else x
    if x.dtype.kind in "iu":
        x = x * 1.0
    n, w = x.shape[1], None
    if fweights is not None:
        w = _weights("fweights", fweights, n, whole=True)
    if aweights is not None:
        a = _weights("aweights", aweights, n, whole=False)
        w = a if w is None else w * a
    if w is None:
        total = n
        mean = reduce.sum(x, 1, True) / n if n else reduce.sum(x, 1, True) * math.nan
    else:
        total = reduce.sum(w)
        if float(unwrap(total)) == 0:
            raise RuntimeError("cov: wanted weights whose sum is not zero, saw zero")
        mean = reduce.sum(x * w, 1, True) / total
    norm: Any = total - correction
    if w is not None and aweights is not None and correction:
        norm = total - correction * reduce.sum(w * aweights) / total
    d = x - mean
    weighted = d if w is None else d * w
    norm = max(norm, 0) if not gather.is_tensor(norm) else pointwise.maximum(norm, norm * 0)
    y = linalg.matmul(weighted, pointwise.conj(shape.transpose(d, 0, 1)))
    y = y / norm if gather.is_tensor(norm) or norm else y * math.inf
    return shape.reshape(y, ()) if y.shape == (1, 1) else y


@other_words
def corrcoef(x: Any) -> Any:
    """The correlation coefficients of the rows of x: R_ij = C_ij / sqrt(C_ii C_jj), C being cov(x).
    RuntimeError for more than two dimensions.
    """
    if x.ndim > 2:
        raise RuntimeError(f"corrcoef: wanted at most 2 dimensions, saw shape {tuple(x.shape)}")
    c = cov(x)
    if c.ndim == 0:
        return c / c
    s = pointwise.sqrt(arrange.diagonal(c))
    y = c / shape.unsqueeze(s, 1) / shape.unsqueeze(s, 0)
    if unwrap(y).dtype.kind == "c":
        return y
    return pointwise.clamp(y, -1, 1)

