"""Slices and runs of elements combined where they meet, elements put by place, and lists of places of a fixed length."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backend import int64, is_array, is_floating, namespace
from ..call import sampled
from ..op import unwrap
from ..tape import Traced
from ..traced import wrap
from . import gather, mask, pointwise, shape
from .dims import dimension, other_words

WAYS = ("sum", "mean", "max", "min", "prod")


@sampled("index")
@other_words
def index_reduce(x: Any, dim: int, index: Any, source: Any, reduce: str, *, include_self: bool = True) -> Any:
    """For dim = 0, y[index[i]] combines with source[i]: by reduce "prod", "mean", "amax" or "amin", with what is there
    unless include_self is False. Equal extremes share the gradient.
    RuntimeError for another way, shapes or dtypes that do not fit, IndexError out of range.
    """
    if reduce not in ("prod", "mean", "amax", "amin"):
        raise RuntimeError(f"index_reduce: wanted reduce prod, mean, amax or amin, saw {reduce!r}")
    if x.ndim == 0:
        up = [shape.reshape(v, (1,)) if v.ndim == 0 else v for v in (x, source)]
        y = index_reduce(up[0], dim, index, up[1], reduce, include_self=include_self)
        return shape.reshape(y, ())
    d = dimension("index_reduce", dim, x.ndim)
    (*_, ids) = gather.slices("index_reduce", x, d, index, source)
    source = shape.reshape(source, (1,) * x.ndim) if source.ndim == 0 else source
    ids = ids.reshape([-1 if k == d else 1 for k in range(x.ndim)])
    ids = namespace(ids).broadcast_to(ids, tuple(source.shape))
    return gather.scatter_reduce(x, d, ids, source, reduce, include_self=include_self)


@sampled("index")
@other_words
def put(x: Any, index: Any, source: Any, accumulate: bool = False) -> Any:
    """A copy of x in which the elements of source are at the places `index` of x taken as a vector, or are added there.
    RuntimeError unless there is a source for each place and it has x's dtype, IndexError out of range.
    """
    ids = unwrap(index)
    if ids.dtype.kind not in "iu":
        raise RuntimeError(f"put: wanted an index of ints, saw {ids.dtype}")
    if source.dtype != x.dtype:
        raise RuntimeError(f"put: wanted a source of x's dtype {x.dtype}, saw {source.dtype}")
    if ids.size != math.prod(source.shape):
        raise RuntimeError(f"put: wanted {ids.size} elements to put, saw {math.prod(source.shape)}")
    n = math.prod(x.shape)
    if namespace(ids) is np and ids.size and not -n <= ids.min() <= ids.max() < n:
        raise IndexError(f"put: wanted places in [{-n}, {n - 1}], saw {ids.min()} to {ids.max()}")
    at, values = ids.reshape(-1).astype(int64, copy=False), shape.reshape(source, (-1,))
    flat = shape.reshape(x, (-1,))
    y = flat + gather.index_sum(values, (at,), (n,)) if accumulate else gather.index_put(flat, (at,), values)
    return shape.reshape(y, tuple(x.shape))


@sampled("input")
def nonzero_static(input: Any, *, size: int, fill_value: int = -1) -> Any:
    """The places of the first `size` nonzero elements, one row each; fill_value where there are fewer."""
    if size < 0:
        raise RuntimeError(f"nonzero_static: wanted a size of at least 0, saw {size}")
    a = unwrap(input)
    xp = namespace(a)
    places = mask.argwhere.op.definition(a)[:size]
    y = xp.full((size, a.ndim), fill_value, int64)
    y[: len(places)] = places
    return wrap(y) if isinstance(input, Traced) else y


# --- runs of elements ---------------------------------------------------------------------------------------


def _runs(data: Any, lengths: Any, offsets: Any, d: int, unsafe: bool) -> tuple[Any, Any, Any]:
    """(the run of each element along dimension d, its number of elements, how many runs there are)."""
    n = data.shape[d]
    if lengths is None and offsets is None:
        raise RuntimeError("segment_reduce: wanted lengths or offsets, saw neither")
    given = unwrap(lengths if offsets is None else offsets)
    xp = namespace(given)
    if not is_array(given) or given.dtype.kind not in "iu":
        raise NotImplementedError(f"segment_reduce: wanted lengths or offsets of ints, saw {given.dtype}")
    if tuple(given.shape[:-1]) != tuple(data.shape[:d]):
        raise RuntimeError(f"segment_reduce: wanted lengths with leading sizes {tuple(data.shape[:d])}, saw {tuple(given.shape)}")
    if offsets is None:
        if not unsafe and namespace(given) is np and ((given < 0).any() or (given.sum(-1) != n).any()):
            raise RuntimeError(f"segment_reduce: wanted lengths of at least 0 that add up to {n}, saw others")
        ends = xp.cumsum(given, -1)
        begins, counts = ends - given, given
    else:
        begins, ends = given[..., :-1], given[..., 1:]
        counts = ends - begins
    places = xp.arange(n)[:, None]
    inside = (places >= begins[..., None, :]) & (places < ends[..., None, :])
    k = counts.shape[-1]
    run = xp.where(inside.any(-1), inside.argmax(-1), k) if k else xp.full((*begins.shape[:-1], n), 0, int64)
    return run, counts, k


def segment_reduce(
    data: Any,
    reduce: str,
    *,
    lengths: Any = None,
    indices: Any = None,
    offsets: Any = None,
    axis: int = 0,
    unsafe: bool = False,
    initial: Any = None,
) -> Any:
    """Each run of elements along axis combined: sum, mean, max, min or prod. Runs lie one behind the other with the given
    lengths, or between one offset and the next; of several dimensions up to axis each has its own. An empty run gives
    `initial`, else the way's own start, of a mean NaN. RuntimeError for another way, or lengths that do not add up.
    """
    if reduce not in WAYS:
        raise RuntimeError(f"segment_reduce: wanted reduce {', '.join(WAYS)}, saw {reduce!r}")
    a = unwrap(data)
    if not is_floating(a.dtype):
        raise NotImplementedError(f"segment_reduce: wanted a floating dtype, saw {a.dtype}")
    d = dimension("segment_reduce", axis, a.ndim)
    run, counts, k = _runs(a, lengths, offsets, d, unsafe)
    xp, tail = namespace(a), (1,) * (a.ndim - d - 1)
    start = {"prod": 1.0, "max": -math.inf, "min": math.inf}.get(reduce, 0.0) if initial is None else initial
    base = xp.full((*a.shape[:d], k + 1, *a.shape[d + 1 :]), start, a.dtype)
    ids = xp.broadcast_to(run.reshape(*run.shape, *tail), a.shape)
    way = {"max": "amax", "min": "amin", "mean": "sum"}.get(reduce, reduce)
    y = gather.scatter_reduce(base, d, ids, data, way)
    y = shape.narrow(y, d, 0, k)
    if reduce != "mean":
        return y
    counts = counts.reshape(*counts.shape, *tail)
    none = xp.full((), math.nan if initial is None else initial, a.dtype)
    return pointwise.where(counts == 0, none, y / xp.maximum(counts, 1).astype(a.dtype))
