"""Order: sorting, the k largest, medians, places in sorted sequences, distinct elements."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backend import int64, is_array, is_floating, namespace
from ..cases import case
from ..op import op, unwrap, wrap
from ..tape import Traced
from . import extreme, gather, ties
from .dims import dimension, other_words
from .extreme import Found, found


def keys(x: Any) -> Any:
    """x as what NumPy sorts rightly: it puts the NaNs of bfloat16 anywhere."""
    return x.astype(np.float32) if x.dtype.kind == "V" else x


def ordered(x: Any, dim: int, descending: bool) -> Any:
    """The places that sort a bare array along dim: equals stay in their order, NaN counts as largest."""
    xp, x = namespace(x), keys(x)
    if not descending:
        return xp.argsort(x, axis=dim, kind="stable").astype(int64, copy=False)
    back = tuple(slice(None, None, -1) if d == dim else slice(None) for d in range(x.ndim))
    places = xp.argsort(x[back], axis=dim, kind="stable").astype(int64, copy=False)
    return x.shape[dim] - 1 - places[back]


def _dsorted(g: Any, indices: Any, x_shape: Any, dim: int) -> Any:
    """The gradient of elements read from places, each at most once."""
    return gather.put_along(g[0], dim, indices, x_shape) if x_shape else g[0]


def _cases(r: Any) -> list[case]:
    ties = np.array([[2.0, 1, 2, 1, 3], [1, 1, 1, 1, 1]])
    return [
        case(r.distinct(3, 4)),
        case(r.distinct(3, 4), 0),
        case(r.distinct(2, 5, 2), 1, descending=True),
        case(r.distinct(5, 4).T, -1),
        case(r()),
        case(r(0, 3), 1),
        case(r.distinct(1, 3), 0),
        case(ties, 1, stable=True, grad=False),
        case(ties, 1, descending=True, stable=True, grad=False),
        case(np.array([3.0, np.nan, -np.inf, 1]), grad=False),
        case(np.array([3.0, np.nan, -np.inf, 1]), descending=True, grad=False),
        case(r.integers(0, 100, 7), grad=False),
    ]


_sorted_options = dict(outputs=("values", "indices"))


@op(
    name="sort",
    real=True,
    dx=_dsorted,
    cases=_cases,
    reference=lambda torch, x, dim=-1, descending=False, stable=False: torch.sort(
        x, dim=dim, descending=descending, stable=stable
    ),
    **_sorted_options,
)
def in_order(x, dim=-1, descending=False, stable=False):
    """(values, indices) sorted along dim: equal elements stay in their order always, NaN counts as largest."""
    d = dimension("sort", dim, x.ndim)
    if not x.ndim:
        return x.copy(), namespace(x).zeros((), int64)
    places = ordered(x, d, descending)
    return extreme.read(x, places, d), places


@other_words
def sort(x: Any, dim: int = -1, descending: bool = False, stable: bool = False) -> Found:
    """(values, indices) sorted along dim: equal elements stay in their order always, NaN counts as largest."""
    return found("sort", *in_order(x, dim, descending, stable))


@other_words
def argsort(x: Any, dim: int = -1, descending: bool = False, stable: bool = False) -> Any:
    """The places that sort x along dim."""
    return in_order(unwrapped(x), dim, descending, stable)[1]


@other_words
def msort(x: Any) -> Any:
    """x sorted along its first dimension."""
    return in_order(x, 0)[0]


def unwrapped(x: Any) -> Any:
    """x without its place on the tape: for what has no gradient."""
    return wrap(x.array) if isinstance(x, Traced) else x


@op(
    name="topk",
    real=True,
    dx=_dsorted,
    cases=lambda r: [
        case(r.distinct(3, 5), 2),
        case(r.distinct(3, 5), 3, 0, largest=False),
        case(r.distinct(2, 40), 3, -1),
        case(r.distinct(4, 3).T, 4, 1),
        case(r.distinct(3), 0),
        case(r(), 1),
        case(np.array([3.0, np.nan, -np.inf, 1]), 2, grad=False),
        case(r.distinct(50), 5, 0, largest=False),
    ],
    **_sorted_options,
)
def top(x, k, dim=-1, largest=True):
    """(values, indices) of the k largest or smallest elements along dim, the most extreme first; NaN counts as largest.
    RuntimeError for a k beyond the dimension's size.
    """
    d = dimension("topk", dim, x.ndim)
    if x.dtype.kind == "b":
        raise RuntimeError("topk: wanted numbers, saw bools")
    n = x.shape[d] if x.ndim else 1
    if not 0 <= k <= n:
        raise RuntimeError(f"topk: wanted k of at most {n}, saw {k}")
    if not x.ndim:
        return x.copy(), namespace(x).zeros((), int64)
    xp = namespace(x)
    if xp is np and 0 < 4 * k < n:  # first the k, then their order
        part = keys(x).argpartition(n - k if largest else k - 1, d).take(np.arange(n - k, n) if largest else np.arange(k), d)
        part.sort(d)  # equals in their order
        places = np.take_along_axis(part, ordered(extreme.read(x, part, d), d, largest), d)
    else:
        places = xp.take(ordered(x, d, largest), xp.arange(k), d)
    if xp is np:
        places = ties.of_top(keys(x), places, k, d, largest)
    return extreme.read(x, places, d), places.astype(int64, copy=False)


@other_words
def topk(x: Any, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Found:
    """(values, indices) of the k largest or smallest elements along dim, the most extreme first.
    RuntimeError for a k beyond the dimension's size.
    """
    return found("topk", *top(x, k, dim, largest))


# --- the k-th and the middle ---------------------------------------------------------------------------


def _dchosen(g: Any, indices: Any, x_shape: Any, dim: int, keepdim: bool) -> Any:
    return extreme.chosen(g, indices, x_shape, dim, keepdim)


def _kth(name: str, x: Any, k: Any, dim: int, keepdim: bool) -> tuple:
    """The elements at place k (a number, or one for each slice) of the sorted slices along dim."""
    if not x.ndim:
        return x.copy(), namespace(x).zeros((), int64)
    d, xp, at = dimension(name, dim, x.ndim), namespace(x), k
    k = k if is_array(k) else xp.full([1 if i == d else n for i, n in enumerate(x.shape)], k, int64)
    places = xp.take_along_axis(ordered(x, d, descending=False), k, d)
    if xp is np and name == "kthvalue":
        places = ties.of_kth(keys(x), places, at, d)
    values = extreme.read(x, places, d)
    return (values, places) if keepdim else (values.squeeze(d), places.squeeze(d))


_kth_options = dict(dx=_dchosen, real=True, outputs=("values", "indices"))


@op(
    name="kthvalue",
    cases=lambda r: [
        case(r.distinct(3, 5), 2),
        case(r.distinct(3, 5), 3, 0, keepdim=True),
        case(r.distinct(5, 3).T, 5, 1),
        case(r(), 1),
    ],
    **_kth_options | dict(real=False),
)
def kth(x, k, dim=-1, keepdim=False):
    """(values, indices) of the k-th smallest element along dim, from k = 1 on. RuntimeError for a k beyond the size."""
    n = _some("kthvalue", x, dim)
    if x.ndim and x.dtype.kind == "c":
        raise NotImplementedError(f"kthvalue: wanted real numbers, saw {x.dtype}")
    if not 1 <= k <= n:
        raise RuntimeError(f"kthvalue: wanted k from 1 to {n}, saw {k}")
    return _kth("kthvalue", x, k - 1, dim, keepdim)


def _some(name: str, x: Any, dim: int) -> int:
    """The size of a dimension, which may not be zero."""
    n = (x.shape or (1,))[dimension(name, dim, x.ndim)]
    if x.dtype.kind == "b":
        raise NotImplementedError(f"{name}: wanted numbers, saw bools")
    if not n:
        raise IndexError(f"{name}: wanted one element or more along dimension {dim}, saw shape {tuple(x.shape)}")
    return n


def _median_cases(r: Any) -> list[case]:
    return [
        case(r.distinct(3, 5), 1),
        case(r.distinct(3, 4), -1, keepdim=True),
        case(r.distinct(5, 3).T, 0),
        case(np.array([[1.0, np.nan, 0, 4], [3, 1, 2, 0]]), 1, grad=False),
        case(r(), 0),
    ]


@op(name="median", cases=_median_cases, **_kth_options)
def middle(x, dim, keepdim=False):
    """(values, indices) of the median along dim, the lower of the two middle ones; NaN if an element is."""
    n = _some("median", x, dim)
    k: Any = (n - 1) // 2
    if is_floating(x.dtype) and x.ndim:
        nans = (x != x).sum(dimension("median", dim, x.ndim), keepdims=True)
        k = namespace(x).where(nans > 0, n - nans, k)  # the first NaN
    return _kth("median", x, k, dim, keepdim)


@op(
    name="nanmedian",
    cases=lambda r: [*_median_cases(r), case(np.array([[np.nan, np.nan], [np.nan, 1]]), 1, grad=False)],
    **_kth_options,
)
def nanmiddle(x, dim, keepdim=False):
    """(values, indices) of the median along dim of what is not NaN, the lower of the two middle ones."""
    n = _some("nanmedian", x, dim)
    k: Any = (n - 1) // 2
    if is_floating(x.dtype) and x.ndim:
        nans = (x != x).sum(dimension("nanmedian", dim, x.ndim), keepdims=True)
        k = namespace(x).maximum(n - nans - 1, 0) // 2
    return _kth("nanmedian", x, k, dim, keepdim)


@op(
    real=True,
    dx=extreme.shared,
    cases=lambda r: [case(r.distinct(3, 5)), case(r()), case(np.array([1.0, 1, 1, 0]), grad=False)],
    reference="median",
)
def median_of_all(x, dim=None, keepdim=False):
    """The median of all elements, the lower of the two middle ones; those that have it share its gradient."""
    return x.copy() if not x.ndim else middle(x.reshape(-1), 0)[0] if x.size else namespace(x).full((), np.nan, x.dtype)


@op(
    real=True,
    dx=extreme.shared,
    cases=lambda r: [case(r.distinct(3, 5)), case(np.array([1.0, np.nan, 1, 0, 3, 5]), grad=False)],
    reference="nanmedian",
)
def nanmedian_of_all(x, dim=None, keepdim=False):
    """The median of all elements that are not NaN; those that have it share its gradient."""
    return nanmiddle(x.reshape(-1), 0)[0] if x.size else namespace(x).full((), np.nan, x.dtype)


@other_words
def kthvalue(x: Any, k: int, dim: int = -1, keepdim: bool = False) -> Found:
    """(values, indices) of the k-th smallest element along dim, from k = 1 on. RuntimeError for a k beyond the size."""
    return found("kthvalue", *kth(x, k, dim, keepdim))


@other_words
def median(x: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """The median, the lower of the two middle elements; with dim, (values, indices) along it. NaN if an element is."""
    return median_of_all(x) if dim is None else found("median", *middle(x, dim, keepdim))


@other_words
def nanmedian(x: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """The median of what is not NaN; with dim, (values, indices) along it."""
    return nanmedian_of_all(x) if dim is None else found("nanmedian", *nanmiddle(x, dim, keepdim))


# --- places in sorted sequences ------------------------------------------------------------------------


@op(
    name="searchsorted",
    real=True,
    cases=lambda r: [
        case(np.sort(r(7)), r(3, 2)),
        case(np.array([1.0, 2, 2, 3]), np.array([2.0, 0, 4]), right=True),
        case(np.sort(r(2, 5), 1), r(2, 3)),
        case(np.array([1, 3, 5]), np.array([3, 6]), out_int32=True),
        case(r(0), r(2)),
    ],
    reference=lambda torch, seq, values, out_int32=False, right=False: torch.searchsorted(
        seq, values, out_int32=out_int32, right=right
    ),
)
def places(sorted_sequence, values, out_int32=False, right=False):
    """Where values would stand in sequences sorted along the last dimension: seq[i-1] < v <= seq[i], or with right
    seq[i-1] <= v < seq[i]. Sequences in several dimensions have one for each row of values.
    """
    xp, seq = namespace(sorted_sequence), sorted_sequence
    if seq.dtype.kind == "b":
        raise NotImplementedError("searchsorted: wanted numbers, saw bools")
    side = "right" if right else "left"
    if seq.ndim == 1:
        y = xp.searchsorted(seq, values, side)
    elif seq.shape[:-1] != values.shape[:-1]:
        raise RuntimeError(f"searchsorted: wanted values with leading sizes {seq.shape[:-1]}, saw {values.shape}")
    else:
        y, n = xp.zeros(values.shape, int64), math.prod(seq.shape[:-1])
        rows = seq.reshape(n, seq.shape[-1]), values.reshape(n, values.shape[-1]), y.reshape(n, values.shape[-1])
        for s, v, place in zip(*rows, strict=True):
            place[...] = xp.searchsorted(s, v, side)
    return xp.asarray(y).astype(np.int32 if out_int32 else int64, copy=False)


@other_words
def searchsorted(
    sorted_sequence: Any,
    values: Any = None,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Any = None,
    input: Any = None,
) -> Any:
    """Where values would stand in sequences sorted along the last dimension: the first place, or with right (or
    side="right") the last, that keeps the order. sorter is the places that sort the sequences.
    RuntimeError where leading sizes differ.
    """
    seq, v = unwrapped(sorted_sequence), unwrapped(input if values is None else values)
    if side not in (None, "left", "right"):
        raise RuntimeError(f"searchsorted: wanted side 'left' or 'right', saw {side!r}")
    if side == "left" and right:
        raise RuntimeError("searchsorted: wanted side and right to agree, saw side='left' and right=True")
    if seq.ndim == 0 or (seq.ndim > 1 and not gather.is_tensor(v)):
        raise RuntimeError(f"searchsorted: wanted sequences for these values, saw shape {tuple(seq.shape)}")
    if gather.is_tensor(v) and seq.ndim > 1 and (v.ndim != seq.ndim or tuple(v.shape[:-1]) != tuple(seq.shape[:-1])):
        want = tuple(seq.shape[:-1])
        raise RuntimeError(f"searchsorted: wanted values with leading sizes {want}, saw {tuple(v.shape)}")
    if sorter is not None:
        order = unwrap(sorter)
        if order.dtype != int64 or order.shape != unwrap(seq).shape:
            want = tuple(seq.shape)
            raise RuntimeError(f"searchsorted: wanted a sorter of int64 {want}, saw {order.dtype} {tuple(order.shape)}")
        seq = gather.gather(seq, -1, unwrapped(sorter))
    if not gather.is_tensor(v):
        v = namespace(unwrap(seq)).asarray(v)
    return places(seq, v, out_int32, side == "right" if side else right)


@other_words
def bucketize(x: Any, boundaries: Any, *, out_int32: bool = False, right: bool = False) -> Any:
    """Which bucket between sorted boundaries each element falls into: searchsorted with its arguments swapped."""
    if boundaries.ndim != 1:
        raise RuntimeError(f"bucketize: wanted a vector of boundaries, saw shape {tuple(boundaries.shape)}")
    return searchsorted(boundaries, x, out_int32=out_int32, right=right)


# --- distinct elements --------------------------------------------------------------------------------


def _distinct(name: str, x: Any, dim: int | None) -> Any:
    """The array of x. NotImplementedError for complex numbers, RuntimeError for slices of no elements."""
    a = unwrap(x)
    if a.dtype.kind == "c":
        raise NotImplementedError(f"{name}: wanted real numbers, saw {a.dtype}")
    if dim is not None:
        d = dimension(name, dim, a.ndim)
        if any(not n for k, n in enumerate(a.shape) if k != d):
            raise RuntimeError(f"{name}: wanted slices along {dim} that are not empty, saw shape {tuple(a.shape)}")
    return a


@other_words
def unique(
    x: Any, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> Any:
    """The distinct elements in order, or distinct slices along dim; with the place of each element's value among them,
    and how often each occurs.
    """
    a = _distinct("unique", x, dim)
    xp = namespace(a)
    y, inverse, counts = xp.unique(a, return_inverse=True, return_counts=True, axis=dim, equal_nan=False)
    inverse = inverse.reshape(a.shape if dim is None else -1)
    found = [y, *[inverse] * return_inverse, *[counts] * return_counts]
    found = [wrap(v) for v in found] if isinstance(x, Traced) else found
    return tuple(found) if len(found) > 1 else found[0]


def unique_consecutive(
    x: Any, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> Any:
    """The elements without those equal to the one before, or slices along dim; with the place of each among them, and
    the lengths of the runs.
    """
    a = _distinct("unique_consecutive", x, dim)
    xp = namespace(a)
    n = a.size if dim is None else a.shape[dim]
    rows = a.reshape(-1, 1) if dim is None else xp.moveaxis(a, dim, 0).reshape(n, math.prod(a.shape) // max(n, 1))
    new = xp.ones(len(rows), bool)
    new[1:] = (rows[1:] != rows[:-1]).any(1)
    begin = xp.flatnonzero(new)
    y = a.reshape(-1)[begin] if dim is None else xp.take(a, begin, dim)
    inverse = (xp.cumsum(new) - 1).reshape(a.shape if dim is None else -1)
    counts = xp.diff(xp.append(begin, len(rows)))
    found = [y, *[inverse] * return_inverse, *[counts] * return_counts]
    found = [wrap(v) for v in found] if isinstance(x, Traced) else found
    return tuple(found) if len(found) > 1 else found[0]
