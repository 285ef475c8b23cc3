"""Batching rules of indexing: whose elements are read or written may differ from sample to sample, and where as well."""

from __future__ import annotations

from typing import Any

from ..backend import is_array, namespace
from ..ops import index, pointwise
from ..ops import shape as shapes
from ..ops.dims import dimension
from ..ops.index import FULL, index_get
from .batched import is_value, value_of
from .dispatch import Call, composed, expand, functions
from .rules import raised, rule


class _Lead:
    """An index of all samples at once: `where`, and how its result stands to the samples' results.

    where   the index, for x with the samples first (or without, if only where is batched)
    back    the order of dimensions that brings the samples of what is read to the front; None if they are there
    rank    how many dimensions one sample of what is read has
    """

    def __init__(self, where: tuple, flags: Any, x_batched: bool, x_rank: int, n: int) -> None:
        flags = flags if type(flags) is tuple else (False,) * len(where)
        arrays: list[Any] = []  # (array or FULL, batched), masks as positions
        for i, f in zip(where, flags, strict=True):
            if type(i) is slice:
                arrays.append((i, False))
                continue
            if i.dtype.kind == "b":
                if f:
                    raise RuntimeError(
                        "vmap: the shape of x[mask] depends on the values of a batched mask; use where()"
                    )
                if not i.ndim:
                    raise _NotTaken
                arrays += [(p, False) for p in _array(i).nonzero()]
            else:
                arrays.append((i, f))
        kinds = [type(i) is slice for i, _ in arrays]
        first, last = kinds.index(False), len(kinds) - kinds[::-1].index(False)
        apart = any(kinds[first:last])
        b = max(i.ndim - f for i, f in arrays if type(i) is not slice)  # dimensions of what the arrays broadcast to
        taken = sum(not k for k in kinds)
        self.rank = b + x_rank - taken
        batched_where = any(f for _, f in arrays)
        if not batched_where:
            self.where: tuple = (FULL, *(i for i, _ in arrays))
            at = b if apart else 0
        else:
            self.where = tuple(_array(raised(i, b)) if f else i if type(i) is slice else _array(i) for i, f in arrays)
            if x_batched:
                xp = namespace(next(i for i in self.where if type(i) is not slice))
                self.where = (xp.arange(n).reshape(n, *(1,) * b), *self.where)
                at = 0
            else:
                at = 0 if apart else first
        whole = list(range(self.rank + 1))
        if batched_where and x_batched and first and not apart:
            # read as (samples, b..., before..., after...), wanted (samples, before..., b..., after...)
            front = list(range(1, 1 + b))
            before = list(range(1 + b, 1 + b + first))
            self.back: Any = [0, *before, *front, *range(1 + b + first, self.rank + 1)]
        elif at:
            self.back = [at, *(d for d in whole if d != at)]
        else:
            self.back = None

    def read(self, y: Any) -> Any:
        """What was read, with the samples first."""
        return y if self.back is None else shapes.permute(y, self.back)

    def written(self, v: Any) -> Any:
        """What is to be written, the samples first, in the order in which NumPy reads."""
        if self.back is None:
            return v
        undo = [0] * len(self.back)
        for i, d in enumerate(self.back):
            undo[d] = i
        return shapes.permute(v, undo)


class _NotTaken(Exception):
    """A case for the loop."""


def _array(x: Any) -> Any:
    """The bare array of what has one; the face of what is still batched by an outer vmap."""
    return x if is_array(x) else x.array


@rule("index_get")
def _index_get(c: Call) -> Any:
    xb = c.batched("x")
    try:
        to = _Lead(c["where"], c.batched("where"), xb, c.rank("x"), c.n)
    except _NotTaken:
        return NotImplemented
    return to.read(index.index_get(c["x"], to.where))


@rule("index_sum")
def _index_sum(c: Call) -> Any:
    s = tuple(c["shape"])
    try:
        to = _Lead(c["where"], c.batched("where"), True, len(s), c.n)
    except _NotTaken:
        return NotImplemented
    g = c.full("g")
    if g.ndim != to.rank + 1:
        return NotImplemented
    return index.index_sum(to.written(g), to.where, (c.n, *s))


@rule("index_put")
def _index_put(c: Call) -> Any:
    x, where, value = c.full("x"), c["where"], c["value"]
    if not any(is_value(i) for i in where):
        if is_value(value) and c.batched("value"):
            read = index.slice_(x, (FULL, *where)).ndim - 1
            if value.ndim - 1 > read:
                return NotImplemented
            value = raised(value, read)
        return index.index_put(x, (FULL, *where), value)
    try:
        to = _Lead(where, c.batched("where"), True, x.ndim - 1, c.n)
    except _NotTaken:
        return NotImplemented
    if is_value(value):
        value = expand(value, c.batched("value"), c.n)
        if value.ndim - 1 > to.rank:
            return NotImplemented
        value = to.written(raised(value, to.rank))
    return index.index_put(x, to.where, value)


@rule("segment_sum")
def _segment_sum(c: Call) -> Any:
    n = c["n"]
    if not c.batched("ids"):  # the samples are part of what is summed
        y = index.segment_sum(shapes.movedim(c["x"], 0, 1), c["ids"], n)
        return shapes.movedim(y, 1, 0)
    x, ids = c.full("x"), c["ids"]
    xp = namespace(_array(value_of(ids)))
    ids = ids + xp.arange(c.n).reshape(c.n, 1) * n
    flat = shapes.reshape(ids, (-1,))
    rows = (x.shape[0] * x.shape[1], *x.shape[2:])
    y = index.segment_sum(shapes.reshape(x, rows), _array(flat), c.n * n)
    return shapes.reshape(y, (c.n, n, *x.shape[2:]))


@rule("embedding")
def _embedding(c: Call) -> Any:
    if not c.batched("weight"):
        return c.run()
    if c["padding_idx"] is not None or c["scale_grad_by_freq"]:
        return NotImplemented
    ids, w = c.full("ids") if is_value(c["ids"]) else c["ids"], c["weight"]
    if not is_value(ids):
        return NotImplemented
    a = _array(value_of(ids))
    xp = namespace(a)
    ids = ids + xp.arange(c.n).reshape(c.n, *(1,) * (ids.ndim - 1)) * w.shape[1]
    return c.run(ids=ids, weight=shapes.reshape(w, (-1, w.shape[-1])))


@rule("embedding_backward")
def _embedding_backward(c: Call) -> Any:
    if c["padding_idx"] is not None or c["scale_grad_by_freq"]:
        return NotImplemented
    g, n = c.full("g"), c["n"]
    ids = c["ids"]
    a = _array(value_of(ids))
    xp = namespace(a)
    ids = expand(ids if is_value(ids) else a, c.batched("ids"), c.n)
    ids = ids + xp.arange(c.n).reshape(c.n, *(1,) * (ids.ndim - 1)) * n
    flat = shapes.reshape(ids, (-1,))
    y = index.segment_sum(shapes.reshape(g, (-1, g.shape[-1])), _array(flat), c.n * n)
    return shapes.reshape(y, (c.n, n, g.shape[-1]))


# --- along one dimension, which are no ops --------------------------------------------------------------


def along(name: str) -> Any:
    """The rule of a function (x, dim, index, ...) whose arrays all have x's number of dimensions."""

    def ruled(c: Call, x: Any, dim: Any = None, index: Any = None, *rest: Any, **named: Any) -> Any:
        from ..ops import gather

        if "input" in named or "axis" in named or not is_value(x) or not is_value(index) or dim is None:
            return NotImplemented
        places = {id(v): f for v, f in zip(c.args, c.flags, strict=True)}
        if rank_of(x, places) != rank_of(index, places) or not rank_of(x, places):
            return NotImplemented
        full = lambda v: expand(v, places[id(v)], c.n) if is_value(v) else v
        d = dimension(name, dim, rank_of(x, places)) + 1
        return getattr(gather, name)(
            full(x), d, full(index), *map(full, rest), **{k: full(v) for k, v in named.items()}
        )

    return ruled


def rank_of(x: Any, places: dict[int, Any]) -> int:
    """The number of dimensions of one sample of an argument."""
    return x.ndim - bool(places[id(x)])


for _name in ("gather", "scatter", "scatter_add", "scatter_reduce"):
    composed[_name] = along(_name)


def _index_select(x: Any, dim: int, index: Any) -> Any:
    if not is_value(x) or not x.ndim or index.ndim > 1:
        return NotImplemented
    index = index if index.ndim else shapes.reshape(index, (1,))
    return index_get(x, (FULL,) * dimension("index_select", dim, x.ndim) + (_array(index),))


def _take(x: Any, index: Any) -> Any:
    return index_get(shapes.reshape(x, (-1,)), (_array(index),))


def _take_along_dim(x: Any, indices: Any, dim: int | None = None) -> Any:
    from ..ops import gather

    if dim is None:
        return gather.gather(shapes.reshape(x, (-1,)), 0, shapes.reshape(indices, (-1,)))
    if indices.ndim != x.ndim or not x.ndim:
        return NotImplemented
    d = dimension("take_along_dim", dim, x.ndim)
    s, t = tuple(x.shape), tuple(indices.shape)
    size = shapes.broadcast_shapes((*s[:d], 1, *s[d + 1 :]), (*t[:d], 1, *t[d + 1 :]))
    indices = pointwise.where(indices < 0, indices + s[d], indices)
    grown = lambda v, n: shapes.expand(v, (*size[:d], n, *size[d + 1 :]))
    return gather.gather(grown(x, s[d]), d, grown(indices, t[d]))


functions.update(index_select=_index_select, take=_take, take_along_dim=_take_along_dim)
