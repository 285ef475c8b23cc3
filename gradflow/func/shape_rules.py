"""Batching rules of rearrangement and joining, where a shape or a dimension is an argument."""

from __future__ import annotations

import math
from typing import Any

from ..ops import arrange, join
from ..ops import shape as shapes
from ..ops.dims import dimension, expanded
from ..ops.index import FULL
from .batched import is_value
from .dispatch import Call, expand, invoke
from .rules import raised, rule


@rule("reshape")
def _reshape(c: Call) -> Any:
    x = c["x"]
    size = c["shape"]
    size = [int(n) for n in (size if isinstance(size, (tuple, list)) else (size,))]
    if -1 in size:
        whole, known = math.prod(x.shape[1:]), -math.prod(size)
        size[size.index(-1)] = whole // known if known else 0
    return shapes.reshape(x, (c.n, *size))


@rule("permute")
def _permute(c: Call) -> Any:
    n = c.rank("x")
    return shapes.permute(c["x"], (0, *(dimension("permute", d, n) + 1 for d in c["dims"])))


@rule("expand")
def _expand(c: Call) -> Any:
    size = expanded("expand", c.sizes("x"), c["size"])
    return shapes.expand(raised(c["x"], len(size)), (c.n, *size))


@rule("sum_to")
def _sum_to(c: Call) -> Any:
    s = tuple(c["shape"])
    lead = c.rank("x") - len(s)
    if lead < 0:
        return NotImplemented
    y = shapes.sum_to(c["x"], (c.n, *(1,) * lead, *s))
    return shapes.reshape(y, (c.n, *s)) if lead else y


@rule("slice_")
def _slice(c: Call) -> Any:
    return c.run(where=(FULL, *c["where"]))


@rule("slice_backward")
def _slice_backward(c: Call) -> Any:
    return c.run(where=(FULL, *c["where"]), shape=(c.n, *c["shape"]))


@rule("transfer")
def _transfer(c: Call) -> Any:
    return invoke(c.op, c.args)


@rule("cat")
def _cat(c: Call) -> Any:
    xs, dim = [expand(x, f, c.n) for x, f in zip(c.args[:-1], c.flags[:-1], strict=True)], c.args[-1]
    return join.concatenated(*xs, dim=dimension("cat", dim, xs[0].ndim - 1) + 1)


@rule("stack")
def _stack(c: Call) -> Any:
    xs, dim = [expand(x, f, c.n) for x, f in zip(c.args[:-1], c.flags[:-1], strict=True)], c.args[-1]
    return join.stacked(*xs, dim=dimension("stack", dim, xs[0].ndim) + 1)


@rule("split unbind")
def _split(c: Call) -> Any:
    return c.run(dim=dimension(c.op.name, c["dim"], c.rank("x")) + 1)


@rule("tril triu")
def _triangle(c: Call) -> Any:
    return NotImplemented if c.rank("x") < 2 else c.run()


@rule("pad")
def _pad(c: Call) -> Any:
    return c.run() if len(c["pad"]) <= 2 * c.rank("x") else NotImplemented


@rule("repeat")
def _repeat(c: Call) -> Any:
    sizes = c["sizes"]
    sizes = tuple(sizes) if isinstance(sizes, (tuple, list)) else (sizes,)
    return (
        arrange.repeat.op(raised(c["x"], len(sizes)), (1, *sizes)) if hasattr(arrange.repeat, "op") else NotImplemented
    )


@rule("diagonal")
def _diagonal(c: Call) -> Any:
    n = c.rank("x")
    return c.run(dim1=dimension("diagonal", c["dim1"], n) + 1, dim2=dimension("diagonal", c["dim2"], n) + 1)


@rule("diagonal_backward")
def _diagonal_backward(c: Call) -> Any:
    n, s = len(c["shape"]), (c.n, *c["shape"])
    return c.run(shape=s, dim1=dimension("diagonal", c["dim1"], n) + 1, dim2=dimension("diagonal", c["dim2"], n) + 1)


@rule("unfold")
def _unfold(c: Call) -> Any:
    n = c.rank("x")
    return c.run(dimension=dimension("unfold", c["dimension"], n) + 1) if n else NotImplemented


@rule("unfold_backward")
def _unfold_backward(c: Call) -> Any:
    n = len(c["shape"])
    if not n:
        return NotImplemented
    return c.run(shape=(c.n, *c["shape"]), dimension=dimension("unfold", c["dimension"], n) + 1)


@rule("one_hot")
def _one_hot(c: Call) -> Any:
    return c.run() if c["num_classes"] is not None and c["num_classes"] > 0 else NotImplemented


@rule("put_along")
def _put_along(c: Call) -> Any:
    g, i, n = c.full("g"), c.full("index"), len(c["shape"])
    if not n or not is_value(i):
        return NotImplemented
    return c.run(g=g, index=i, dim=dimension("put_along", c["dim"], n) + 1, shape=(c.n, *c["shape"]))
