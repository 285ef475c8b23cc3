"""Gathering and scattering: elements read or written along one dimension, by index."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backend import int64, is_array, is_differentiable, namespace
from ..call import sampled
from ..cases import case
from ..op import op, unwrap
from ..tape import Traced
from . import combined, pointwise, shape
from .dims import dimension, other_words
from .index import FULL, aim, index_get, index_put, index_sum, prepare, segment_sum

# --- along a dimension ------------------------------------------------------------------------------


def along(name: str, dim: int, index: Any, x_shape: Any, known: bool = False) -> tuple:
    """The index of x that reads x[i_0, ..., index[i_0, i_1, ...], ...]: index at dim, elsewhere each its own place.
    RuntimeError for sizes of index beyond x's, and for places out of range (on the CPU, unless they are `known`).
    """
    ids = unwrap(index)
    if not is_array(ids) or ids.dtype.kind not in "iu":
        raise RuntimeError(f"{name}: wanted an index of ints, saw {getattr(ids, 'dtype', type(ids).__name__)}")
    d = dimension(name, dim, len(x_shape))
    most = [n if k != d else math.inf for k, n in enumerate(x_shape)]
    if ids.ndim != len(most) or any(i > n for i, n in zip(ids.shape, most, strict=True)):
        raise RuntimeError(f"{name}: wanted an index within {tuple(x_shape)} but along {d}, saw shape {ids.shape}")
    xp = namespace(ids)
    if xp is np and not known and ids.size and (ids.min() < 0 or ids.max() >= x_shape[d]):
        bad = ids.min() if ids.min() < 0 else ids.max()
        raise RuntimeError(f"{name}: index {bad} is out of bounds for dimension {d} with size {x_shape[d]}")
    ones = (1,) * ids.ndim
    return tuple(
        ids.astype(int64, copy=False) if k == d else xp.arange(n).reshape(*ones[:k], n, *ones[k + 1 :])
        for k, n in enumerate(ids.shape)
    )


def _up(x: Any) -> Any:
    """A 0-d tensor as a vector of one element."""
    return shape.reshape(x, (1,)) if is_tensor(x) and x.ndim == 0 else x


def is_tensor(x: Any) -> bool:
    """Whether x is a tensor or an array."""
    return isinstance(x, Traced) or is_array(x)


@sampled("index")
@other_words
def gather(x: Any, dim: int, index: Any, *, sparse_grad: bool = False) -> Any:
    """y[i, j, ...] = x[index[i, j, ...], j, ...], for dim = 0: along dim, the elements that index names.

    index has x's number of dimensions, and sizes no larger than x's but in dim; y has its shape.
    RuntimeError out of range (wraps on the card) and for other shapes.
    """
    if x.ndim == 0:
        return shape.reshape(gather(_up(x), dim, _up(index)), index.shape)
    if 0 in index.shape and unwrap(index).dtype.kind in "iu":  # reads nothing, whatever its shape
        dimension("gather", dim, x.ndim)
        return shape.reshape(shape.narrow(shape.reshape(x, (-1,)), 0, 0, 0), tuple(index.shape))
    return index_get(x, along("gather", dim, index, x.shape))


@op(
    dg=lambda gg, dim, index: gather(gg, dim, index),
    cases=lambda r: [
        case(r(3, 2), 1, np.array([[0, 3], [4, 1], [2, 0]]), (3, 5)),
        case(r(2, 3), 0, np.array([[0, 1, 3], [2, 0, 1]]), (4, 3)),
        case(r(0, 2), 0, np.zeros((0, 2), int64), (3, 2)),
    ],
    reference=None,
)
def put_along(g, dim, index, shape):
    """Zeros of `shape` with g put along dim at index, which names no place twice: the gradient of max, sort, ..."""
    y = namespace(g).zeros(shape, g.dtype)
    y[along("put_along", dim, index, shape, known=True)] = g
    return y


def _alike(name: str, x: Any, src: Any) -> None:
    if src.dtype != x.dtype:
        raise RuntimeError(f"{name}: wanted a source of x's dtype {x.dtype}, saw {src.dtype}")


def _source(name: str, x: Any, dim: int, index: Any, src: Any) -> tuple[tuple, Any]:
    """(index of x, what is scattered there): as much of src as index has."""
    to = along(name, dim, index, x.shape)
    if not is_tensor(src):
        return to, src
    _alike(name, x, src)
    if src.ndim != index.ndim or any(i > n for i, n in zip(index.shape, src.shape, strict=True)):
        raise RuntimeError(f"{name}: wanted a source of {tuple(index.shape)} or more, saw {tuple(src.shape)}")
    if tuple(src.shape) != tuple(index.shape):
        src = src[tuple(slice(n) for n in index.shape)]
    return to, src


@sampled("index")
@other_words
def scatter(x: Any, dim: int, index: Any, src: Any = None, reduce: str | None = None, *, value: Any = None) -> Any:
    """A copy of x with, for dim = 0, y[index[i, j], j] = src[i, j]; src may be a number.

    Of a place named twice the last write stays. reduce "add" or "multiply" combines with what is there.
    RuntimeError out of range, for shapes that do not fit and for a source of another dtype.
    """
    src = value if src is None else src
    if x.ndim == 0:
        return shape.reshape(scatter(_up(x), dim, _up(index), _up(src), reduce), ())
    if reduce is not None:
        if reduce not in ("add", "multiply"):
            raise RuntimeError(f"scatter: wanted reduce 'add' or 'multiply', saw {reduce!r}")
        if not is_tensor(src):
            xp = namespace(unwrap(x))
            src = xp.full(index.shape, src, unwrap(x).dtype)
        return scatter_reduce(x, dim, index, src, {"add": "sum", "multiply": "prod"}[reduce])
    to, src = _source("scatter", x, dim, index, src)
    return index_put(x, to, src)


@sampled("index")
@other_words
def scatter_add(x: Any, dim: int, index: Any, src: Any) -> Any:
    """For dim = 0, y = x; y[index[i, j], j] += src[i, j], as often as a place is named.
    RuntimeError out of range, for shapes that do not fit and for a source of another dtype.
    """
    if x.ndim == 0:
        return shape.reshape(scatter_add(_up(x), dim, _up(index), _up(src)), ())
    to, src = _source("scatter_add", x, dim, index, src)
    return x + index_sum(src, to, tuple(x.shape))


# --- reductions of what meets at a place --------------------------------------------------------------


def _met(ids: Any, n: int) -> tuple[Any, Any]:
    """(order, begin): the sources sorted by place, in their order, and where each place's begin."""
    xp = namespace(ids)
    order = xp.argsort(ids, kind="stable")
    return order, xp.searchsorted(ids[order], xp.arange(n + 1))


def segment_prod(x: Any, ids: Any, n: int) -> Any:
    """y[k] = product of x[i] over ids[i] = k, 1 where there is none, for a vector x.

    Neighbours of one place are multiplied in pairs until one is left: only products and reads, so it has gradients of
    every order, zeros or not.
    """
    xp = namespace(ids)
    order, _ = _met(ids, n)
    x, ids = index_get(x, (order,)), ids[order]
    while ids.size:
        new = xp.ones(ids.size, bool)
        new[1:] = ids[1:] != ids[:-1]
        if new.all():
            break
        begin = xp.flatnonzero(new)
        rank = xp.arange(ids.size) - begin[xp.cumsum(new) - 1]
        left = xp.flatnonzero(rank % 2 == 0)
        has = xp.zeros(left.size, bool)
        has[:] = xp.append(rank, 0)[left + 1] % 2 == 1
        pair = index_get(x, (xp.where(has, left + 1, left),))
        x, ids = index_get(x, (left,)) * pointwise.where(has, pair, 1), ids[left]
    return index_put(shape.filled(x, (n,), 1), (ids,), x)


def _dextreme(g: Any, x: Any, src: Any, ids: Any, y: Any) -> tuple:
    same, hits = pointwise.cast(x == y, g.dtype), pointwise.cast(src == index_get(y, (ids,)), g.dtype)
    share = g / combined.clamp_min(same + segment_sum(hits, ids, x.shape[0]), 1.0)
    return share * same, index_get(share, (ids,)) * hits


@op(
    dx_dsrc=_dextreme,
    promote="x src",
    cases=lambda r: [
        case(r.distinct(4) * 2, r.distinct(9) * 2 + 0.07, np.array([0, 2, 2, 0, 3, 2, 2, 0, 3]), True),
        case(r.distinct(4), r.distinct(6) + 0.05, np.array([1, 1, 1, 3, 3, 0]), False),
        case(r(3), r(0), np.zeros(0, int64), True),
    ],
    reference=lambda torch, x, src, ids, largest: x.scatter_reduce(0, ids, src, "amax" if largest else "amin"),
)
def scatter_extreme(x, src, ids, largest):
    """For vectors, the largest (or smallest) of x[k] and of src[i] over ids[i] = k; equals share its gradient."""
    xp = namespace(x)
    if not ids.size:
        return x.copy()
    if x.dtype.kind == "c":
        raise NotImplementedError(f"scatter_reduce: wanted real numbers, saw {x.dtype}")
    # Sorted by value and then, stably, by place, each place's extreme comes last; NaN counts as extreme.
    v = src.astype(np.float32) if src.dtype.kind == "V" else src
    v = v if largest else -v if v.dtype.kind == "f" else ~v
    order = xp.argsort(v, kind="stable")
    order = order[xp.argsort(ids[order], kind="stable")]
    begin = xp.searchsorted(ids[order], xp.arange(len(x) + 1))
    best = src[order[xp.maximum(begin[1:] - 1, 0)]]
    meet = xp.maximum(x, best) if largest else xp.minimum(x, best)
    return xp.where(begin[1:] > begin[:-1], meet, x).astype(x.dtype, copy=False)  # CuPy chooses bfloat16 in float32


@other_words
@sampled("index")
def scatter_reduce(x: Any, dim: int, index: Any, src: Any, reduce: str, *, include_self: bool = True) -> Any:
    """Like scatter_add with another way to combine what meets at a place: sum, prod, mean, amax or amin.

    include_self=False leaves out what was there before. Those that have the extreme share its gradient.
    RuntimeError for another way, out of range, for shapes that do not fit and for a source of another dtype.
    """
    if reduce not in ("sum", "prod", "mean", "amax", "amin"):
        raise RuntimeError(f"scatter_reduce: wanted reduce sum, prod, mean, amax or amin, saw {reduce!r}")
    if x.ndim == 0:
        args = _up(x), dim, _up(index), _up(src), reduce
        return shape.reshape(scatter_reduce(*args, include_self=include_self), ())
    if reduce == "mean" and unwrap(x).dtype.kind == "b":
        raise NotImplementedError("scatter_reduce: wanted numbers to take the mean of, saw bools")
    to, src = _source("scatter_reduce", x, dim, index, src)
    size, n = tuple(x.shape), math.prod(x.shape)
    at, values, base = aim(to, size).rows.reshape(-1), shape.reshape(src, (-1,)), shape.reshape(x, (-1,))
    count = segment_sum(shape.filled(values, at.shape, 1), at, n)
    if not include_self:
        a = unwrap(x)
        whole = np.iinfo(a.dtype) if a.dtype.kind in "iu" else None
        ends = (whole.min, whole.max) if whole else (False, True) if a.dtype.kind == "b" else (-math.inf, math.inf)
        none = {"prod": 1, "amax": ends[0], "amin": ends[1]}.get(reduce, 0)
        base = pointwise.where(count != 0, shape.filled(x, (), none), base)
    if reduce in ("amax", "amin"):
        y = scatter_extreme(base, values, at, reduce == "amax")
    elif reduce == "prod":
        y = base * segment_prod(values, at, n)
    else:
        y = base + segment_sum(values, at, n)
        if reduce == "mean":
            count = combined.clamp_min(count + int(include_self), 1)
            y = y / count if is_differentiable(unwrap(x).dtype) else pointwise.floor_divide(y, count)
    return shape.reshape(y, size)


# --- whole slices along a dimension --------------------------------------------------------------------


def slices(name: str, x: Any, dim: int, index: Any, source: Any = None) -> tuple:
    """The index of x that reads x[..., index, ...] at dimension dim, for a vector or 0-d index of ints; of a source,
    which has as many slices as index and is otherwise like x, shape and dtype are checked.
    """
    ids = unwrap(index)
    if not is_array(ids) or ids.dtype.kind not in "iu":
        raise RuntimeError(f"{name}: wanted a vector of ints, saw {getattr(ids, 'dtype', type(ids).__name__)}")
    if ids.ndim > 1:
        raise IndexError(f"{name}: wanted a vector of ints, saw shape {tuple(ids.shape)}")
    d, n = dimension(name, dim, x.ndim), x.shape[dim]
    if namespace(ids) is np and ids.size and not -n * (name == "index_fill") <= ids.min() <= ids.max() < n:
        bad = ids.min() if ids.min() < 0 else ids.max()
        raise IndexError(f"{name}: index {bad} is out of bounds for dimension {d} with size {n}")
    if source is not None:
        _alike(name, x, source)
        want = (*x.shape[:d], ids.size, *x.shape[d + 1 :])
        if tuple(source.shape) != want and (source.ndim or math.prod(want) != 1):
            raise RuntimeError(f"{name}: wanted a source of shape {want}, saw {tuple(source.shape)}")
    return (FULL,) * d + (ids.reshape(-1).astype(int64, copy=False),)


@sampled("index")
@other_words
def index_select(x: Any, dim: int, index: Any) -> Any:
    """The slices of x along dim that the vector index names: for dim = 0, y[i] = x[index[i]].
    IndexError out of range (wraps on the card).
    """
    if x.ndim == 0:
        return shape.reshape(index_select(_up(x), dim, index), ())
    return index_get(x, slices("index_select", x, dim, index))


@other_words
@sampled("index")
def index_add(x: Any, dim: int, index: Any, source: Any, *, alpha: Any = 1) -> Any:
    """For dim = 0, y = x; y[index[i]] += alpha source[i], as often as a slice is named."""
    if x.ndim == 0:
        return shape.reshape(index_add(_up(x), dim, index, _up(source), alpha=alpha), ())
    add = index_sum(source, slices("index_add", x, dim, index, source), tuple(x.shape))
    if not is_differentiable(unwrap(x).dtype) and not is_tensor(alpha):
        alpha = bool(alpha) if unwrap(x).dtype.kind == "b" else int(alpha)
    return x + (add if alpha == 1 else add * alpha)


@other_words
@sampled("index")
def index_copy(x: Any, dim: int, index: Any, source: Any) -> Any:
    """For dim = 0, y = x; y[index[i]] = source[i]. Of a slice named twice the last write stays."""
    if x.ndim == 0:
        return shape.reshape(index_copy(_up(x), dim, index, _up(source)), ())
    return index_put(x, slices("index_copy", x, dim, index, source), source)


@other_words
@sampled("index")
def index_fill(x: Any, dim: int, index: Any, value: Any) -> Any:
    """For dim = 0, y = x; y[index[i]] = value."""
    if x.ndim == 0:
        return shape.reshape(index_fill(_up(x), dim, index, value), ())
    return index_put(x, slices("index_fill", x, dim, index), value)


@other_words
@sampled("indices")
def put_at(x: Any, indices: Any, values: Any, accumulate: bool = False) -> Any:
    """A copy of x with values at x[indices], or with accumulate added there as often as a place is named."""
    basic, advanced = prepare(tuple(indices), unwrap(x))
    if basic is not None or advanced is None:
        raise IndexError(f"index_put: wanted arrays of ints or masks, saw {indices!r}")
    if not accumulate:
        return index_put(x, advanced, values)
    read = unwrap(x)[advanced].shape
    return x + index_sum(shape.expand(values, read), advanced, tuple(x.shape))


# --- by position in the whole -------------------------------------------------------------------------


@other_words
@sampled("index")
def take(x: Any, index: Any) -> Any:
    """The elements of x, taken as a vector, at index, of whose shape the result is. IndexError out of range."""
    return index_get(shape.reshape(x, (-1,)), (unwrap(index).astype(int64, copy=False),))


@sampled("indices")
@other_words
def take_along_dim(x: Any, indices: Any, dim: int | None = None) -> Any:
    """Like gather, but x and indices broadcast in the other dimensions; dim=None takes both as vectors."""
    ids = unwrap(indices)
    if dim is None:
        return gather(shape.reshape(x, (-1,)), 0, ids.reshape(-1))
    if ids.ndim != x.ndim:
        raise RuntimeError(f"take_along_dim: wanted as many dimensions as {tuple(x.shape)}, saw {ids.shape}")
    d = dimension("take_along_dim", dim, x.ndim)
    size = shape.broadcast_shapes((*x.shape[:d], 1, *x.shape[d + 1 :]), (*ids.shape[:d], 1, *ids.shape[d + 1 :]))
    n = x.shape[d]
    ids = shape.expand(namespace(ids).where(ids < 0, ids + n, ids), (*size[:d], ids.shape[d], *size[d + 1 :]))
    return gather(shape.expand(x, (*size[:d], x.shape[d], *size[d + 1 :])), d, ids)


@op(
    cases=lambda r: [case(r.integers(0, 4, 5), 4), case(r.integers(0, 3, 2, 3)), case(np.zeros((0,), int64), 3)],
    reference="nn.functional.one_hot",
)
def one_hot(x, num_classes=-1):
    """For whole numbers x, a last dimension with 1 at place x and 0 elsewhere, int64; -1 is as many as are needed.
    RuntimeError for a number out of range.
    """
    if x.dtype.kind not in "iu":
        raise RuntimeError(f"one_hot: wanted ints, saw {x.dtype}")
    xp = namespace(x)
    if num_classes == -1:
        if not x.size:
            raise RuntimeError("one_hot: wanted num_classes for an empty tensor, saw -1")
        num_classes = int(x.max()) + 1
    if xp is np and x.size and not 0 <= x.min() <= x.max() < num_classes:
        raise RuntimeError(f"one_hot: wanted classes below {num_classes}, saw {x.min()} to {x.max()}")
    return (x[..., None] == xp.arange(num_classes)).astype(int64)
