"""Batching rules of the classes that most ops are in: elementwise, along dimensions, reductions, losses."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..dtypes import result_type
from ..op import unwrap
from ..ops import pointwise, reduce
from ..ops import shape as shapes
from ..ops.dims import dimension
from .batched import is_value, value_of
from .dispatch import Call, classes, expand, invoke, meanings, rank, rules
from .places import folded

__all__ = ["aligned", "elementwise", "meaning", "rule"]


def rule(names: str, function: Callable[[Call], Any] | None = None) -> Callable[..., Any]:
    """Enter a rule for the ops of these names; a decorator."""

    def enter(function: Callable[[Call], Any]) -> Callable[[Call], Any]:
        for name in names.split():
            rules[name] = function
        return function

    return enter if function is None else enter(function)


def meaning(names: str) -> Callable[..., Any]:
    """Enter, for the ops of these names, a function of their arguments that is put together from other ops."""

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        for name in names.split():
            meanings[name] = function
        return function

    return enter


# --- elementwise ----------------------------------------------------------------------------------------


def aligned(c: Call, least: int = 0) -> tuple[list[Any], int]:
    """(arguments, rank): batched ones with dimensions of size one after the samples, so that all broadcast by sample."""
    most = max([rank(a, f) for a, f in zip(c.args, c.flags, strict=True) if is_value(a)], default=0)
    most = max(most, least)
    return [raised(a, most) if f is True else a for a, f in zip(c.args, c.flags, strict=True)], most


def raised(x: Any, most: int) -> Any:
    """x, the samples first, with so many dimensions after them, new ones of size one in front of the others."""
    if x.ndim - 1 == most:
        return x
    s = tuple(x.shape)
    return shapes.reshape(x, (s[0], *(1,) * (most + 1 - len(s)), *s[1:]))


def elementwise(c: Call) -> Any:
    """Elementwise: what is batched is aligned behind the samples and the op broadcasts."""
    args, most = aligned(c)
    if most and c.op.promote:
        args = _weak(c, args)
    return invoke(c.op, args)


def _weak(c: Call, args: list[Any]) -> list[Any]:
    """The arguments, with one number for each sample cast: numbers are weak in promotion, the vector of them is not."""
    which = range(len(args) - c.op.constants) if c.op.variadic else c.op.promote
    values = [(i, args[i], c.flags[i]) for i in which if is_value(args[i])]
    if len({v.dtype for _, v, _ in values}) == 1:
        return args
    weak = [(i, v) for i, v, f in values if f and rank(c.args[i], f) == 0]
    if not weak:
        return args
    whole = [_number_like(c.args[i]) if any(i == j for j, _ in weak) else args[i] for i in which if args[i] is not None]
    dtype = result_type(*whole)
    for i, v in weak:
        if v.dtype != dtype:
            args[i] = pointwise.cast(v, dtype)
    return args


def _number_like(x: Any) -> Any:
    """An array of no dimensions that has x's dtype."""
    return np.zeros((), unwrap(value_of(x)).dtype)


def _is_elementwise(op: Any) -> Any:
    """The rule for the ops of pointwise.py and its like: they broadcast and have no dimensions among their arguments."""
    where = (op.definition.__module__ or "").rsplit(".", 1)[-1]
    if where in ELEMENTWISE and not op.variadic and not op.several and not _SHAPED.intersection(op.inputs):
        return elementwise
    return None


ELEMENTWISE = {  # families of elementwise ops; NumPy's own functions define some
    "pointwise", "numpy", "complexes", "logs", "signs", "special_bessel", "special_error", "special_gamma",
    "special_polynomial",
}  # fmt: skip
_SHAPED = {
    "axis", "dim", "dims", "index", "invert", "keepdim", "reduction", "shape", "size", "sizes", "where", "x_shape",
}  # fmt: skip
classes.append(_is_elementwise)

rule("clone frexp", elementwise)


# --- along dimensions -------------------------------------------------------------------------------------

_DIMS = ("dim", "dims", "dim1", "dim2", "dim0", "dimension", "axis")


def _back(name: str, dim: Any, most: int) -> Any:
    """Dimensions counted from the back, so that the samples in front do not matter."""
    if isinstance(dim, (tuple, list)):
        return tuple(_back(name, d, most) for d in dim)
    return dimension(name, dim, most) - max(most, 1)


def along(c: Call) -> Any:
    """Along dimensions, which are counted from the back; arrays are expanded to all samples, one number to a vector."""
    args, most = [expand(a, f, c.n) if is_value(a) else a for a, f in zip(c.args, c.flags, strict=True)], 0
    most = max(a.ndim - 1 for a in args if is_value(a))
    args = [raised(a, max(most, 1)) if is_value(a) else a for a in args]
    for name in _DIMS:
        if c.has(name):
            i = c.place(name)
            given = args[i]
            if c.op.name != "flip" and (given is None or given == ()):
                args[i] = tuple(range(-max(most, 1), 0))
            else:
                args[i] = _back(c.op.name, given, most)
    y = invoke(c.op, args)
    return y if most else _numbers(y)


def _numbers(y: Any) -> Any:
    """The outputs of a vector of one element for each sample, as numbers again."""
    if isinstance(y, tuple):
        return tuple(_numbers(v) for v in y)
    return y if y is None or y.ndim == 1 else shapes.reshape(y, (y.shape[0],))


rule(
    """sum mean var std logsumexp vector_norm all any count_nonzero amax amin nansum
    max min cumsum cumsum_back linear_recurrence cumprod logcumsumexp cummax cummin sort topk kthvalue median nanmedian
    softmax log_softmax softmax_backward log_softmax_backward flip""",
    along,
)


@rule("prod argmax argmin")
def _flat(c: Call) -> Any:
    """Over all elements unless a dimension is given."""
    if c["dim"] is not None:
        return along(c)
    x = c["x"]
    y = c.run(x=shapes.reshape(x, (c.n, -1)), dim=-1)
    if not c["keepdim"]:
        return shapes.reshape(y, (c.n,)) if y.ndim > 1 else y
    return shapes.reshape(y, (c.n, *(1,) * (x.ndim - 1)))


@rule("cross")
def _cross(c: Call) -> Any:
    if c["dim"] is None:
        return NotImplemented
    most = max(c.rank("a"), c.rank("b"))
    a, b = raised(c.full("a"), most), raised(c.full("b"), most)
    whole = shapes.broadcast_shapes(tuple(a.shape), tuple(b.shape))
    return c.run(a=shapes.expand(a, whole), b=shapes.expand(b, whole), dim=dimension("cross", c["dim"], most) - most)


@rule("roll")
def _roll(c: Call) -> Any:
    x, dims = c["x"], c["dims"]
    if dims is None or dims == () or x.ndim == 1:
        y = c.run(x=shapes.reshape(x, (c.n, -1)), dims=(1,))
        return shapes.reshape(y, x.shape)
    dims = dims if isinstance(dims, (tuple, list)) else (dims,)
    return c.run(dims=_back("roll", tuple(dims), x.ndim - 1))


@rule("is_among")
def _is_among(c: Call) -> Any:
    return NotImplemented if c.batched("b") else c.run()


@rule("view_as_real")
def _view_as_real(c: Call) -> Any:
    """One more dimension at the end."""
    return c.run()


@rule("view_as_complex")
def _view_as_complex(c: Call) -> Any:
    return c.run() if c.rank("x") else NotImplemented


@rule("resample resample_bytes")
def _resample(c: Call) -> Any:
    return c.run(dim=dimension(c.op.name, c["dim"], c.rank("x")) + 1)


# --- losses ---------------------------------------------------------------------------------------------


@rule("difference_loss bce_logits_forward bce_forward")
def _loss(c: Call) -> Any:
    """Elementwise, then the sum or mean of each sample."""
    args, most = aligned(c)
    most_shape = shapes.broadcast_shapes(*(c_shape(a, f) for a, f in zip(c.args, c.flags, strict=True) if is_value(a)))
    reduction = c["reduction"]
    args = [
        shapes.expand(raised(expand(a, f, c.n), most), (c.n, *most_shape)) if is_value(a) else a
        for a, f in zip(c.args, c.flags, strict=True)
    ]
    args[c.place("reduction")] = "none"
    return _reduced(invoke(c.op, args), reduction)


def c_shape(x: Any, flag: Any) -> tuple[int, ...]:
    """The shape of one sample."""
    return tuple(x.shape)[bool(flag) :]


def _reduced(rows: Any, reduction: str) -> Any:
    if reduction == "none" or rows.ndim == 1:
        return rows
    over = tuple(range(1, rows.ndim))
    return reduce.sum(rows, over) if reduction == "sum" else reduce.mean(rows, over)


@rule("difference_loss_backward bce_logits_backward bce_backward")
def _loss_backward(c: Call) -> Any:
    reduction = c["reduction"]
    args = [expand(a, f, c.n) if is_value(a) else a for a, f in zip(c.args, c.flags, strict=True)]
    most = max(a.ndim for a in args if is_value(a)) - 1
    whole = shapes.broadcast_shapes(*(tuple(a.shape)[1:] for a in args[1:] if is_value(a)))
    if reduction == "mean":
        args[0] = args[0] / max(math.prod(whole), 1)
    args = [shapes.expand(raised(a, most), (c.n, *whole)) if is_value(a) else a for a in args]
    args[c.place("reduction")] = "none"
    return invoke(c.op, args)


@rule("cross_entropy_forward")
def _entropy(c: Call) -> Any:
    """Rows of classes, those of all samples one below the other; then each sample's sum or mean."""
    x, t = c.full("x"), c.full("target")
    rows = _rows(x, t)
    y, lse, total = c.run(x=rows[0], target=rows[1], reduction="none")
    y, lse = shapes.reshape(y, t.shape), shapes.reshape(lse, t.shape)
    total = shapes.expand(shapes.reshape(total, (1,)), (c.n,))
    over = tuple(range(1, t.ndim))
    if c["reduction"] != "none" and over:
        y = reduce.sum(y, over)
    if c["reduction"] == "mean":
        counted = pointwise.cast(pointwise.ne(t, c["ignore_index"]), "int64")
        total = reduce.sum(counted, over) if over else counted
        y = y / pointwise.cast(total, y.dtype)
    return y, lse, total


def _rows(x: Any, t: Any) -> tuple[Any, Any]:
    """(x, target) with the samples among the rows."""
    return (x, t) if x.ndim == 2 else (folded(x), folded(t))


@rule("class_pick")
def _pick(c: Call) -> Any:
    x, t = c.full("x"), c.full("target")
    rows = _rows(x, t)
    return shapes.reshape(c.run(x=rows[0], target=rows[1]), t.shape)


@rule("class_place")
def _place(c: Call) -> Any:
    g, t = c.full("g"), c.full("target")
    s = (c.n, *c["x_shape"])
    whole = s if len(s) == 2 else (s[0] * s[1], *s[2:])
    rows = (whole[0], *whole[2:])
    return shapes.reshape(c.run(g=shapes.reshape(g, rows), target=shapes.reshape(t, rows), x_shape=whole), s)


@rule("cross_entropy_backward")
def _entropy_backward(c: Call) -> Any:
    x, t, g, lse, glse = c.full("x"), c.full("target"), c.full("g"), c.full("lse"), c.full("glse")
    if c["reduction"] != "none":
        g = raised(g, t.ndim - 1)
        if c["reduction"] == "mean":
            g = g / pointwise.cast(raised(c.full("total"), t.ndim - 1), g.dtype)
        g = shapes.expand(g, t.shape)
    rows = _rows(x, t)
    flat = tuple(rows[1].shape)
    total = pointwise.cast(reduce.sum(shapes.reshape(c.full("total"), (-1,))), "int64")
    y = c.run(
        g=shapes.reshape(g, flat), x=rows[0], target=rows[1], lse=shapes.reshape(lse, flat), total=total,
        glse=shapes.reshape(glse, flat), reduction="none",
    )  # fmt: skip
    return shapes.reshape(y, x.shape)
