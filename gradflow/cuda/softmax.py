"""Softmax and its gradient on the card: rows read once, any dimension by its stride."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backend import is_floating, namespace
from ..ops.reduce import wide
from . import row
from .launch import ctype, launch


def _rows(shape: tuple[int, ...], dim: int | None) -> tuple[int, int, int]:
    """(rows, n, inner): how many rows, how long, and how far apart a row's values are."""
    if not shape:
        return 1, 1, 1
    dim = (0 if len(shape) in (1, 3) else 1) if dim is None else dim % len(shape)
    inner = math.prod(shape[dim + 1 :])
    return math.prod(shape[:dim]) * inner, shape[dim], inner


def _run(kernel: str, inputs: list[Any], dim: int | None, log: str) -> Any:
    like = inputs[-1]
    rows, n, inner = _rows(like.shape, dim)
    if inputs[0].dtype != like.dtype or rows > row.MOST_ROWS:
        return NotImplemented
    y, inputs = namespace(like).empty(like.shape, like.dtype), [row.ready(v) for v in inputs]
    if not y.size:
        return y
    pieces = row.pieces(y, rows, n, (1 + len(inputs), 1 + 2 * len(inputs))) if inner == 1 else 0
    if pieces:
        type, vec = ctype(y.dtype), 16 // y.dtype.itemsize
        if kernel == "softmax_forward":
            parts, last = exponentials(inputs[0], rows, n, pieces), "softmax_finish"
        else:
            parts, last = namespace(y).empty((rows, pieces), wide(y.dtype)), "softmax_backward_finish"
            first = f"softmax_backward_parts<{type}, {log}, {vec}>"
            launch("softmax", first, rows * pieces, 256, *inputs, parts, n, pieces, row.PIECE)
        launch("softmax", f"{last}<{type}, {log}, {vec}>", rows * pieces, 256, *inputs, parts, y, n, pieces, row.PIECE)
    else:
        t = row.choose(n, inner, y.dtype.itemsize, len(inputs))
        room, shared = t.room(y, n, len(inputs))
        name = t.name(kernel, ctype(y.dtype), log)
        launch("softmax", name, row.grid(t, rows), t.block, *inputs, y, rows, n, inner, np.int32(room), shared=shared)
    return y


def exponentials(x: Any, rows: int, n: int, pieces: int, sums: Any = None) -> Any:
    """The largest value of each piece of the rows and its sum of e^(x - largest), (rows, pieces, 2); and its sum of x."""
    parts = namespace(x).empty((rows, pieces, 2), wide(x.dtype))
    kernel = f"softmax_parts<{ctype(x.dtype)}, {16 // x.dtype.itemsize}>"
    launch("softmax", kernel, rows * pieces, 256, x, parts, sums, n, pieces, row.PIECE)
    return parts


def _forward(x: Any, dim: int | None, dtype: Any, log: str) -> Any:
    if (
        dim is None
        or not -max(x.ndim, 1) <= dim < max(x.ndim, 1)
        or not is_floating(x.dtype if dtype is None else dtype)
    ):
        return NotImplemented  # the definition warns or raises
    return _run("softmax_forward", [x if dtype is None else x.astype(dtype, copy=False)], dim, log)


def softmax(x: Any, dim: int | None, dtype: Any) -> Any:
    """e^x / sum e^x along dim."""
    return _forward(x, dim, dtype, "false")


def log_softmax(x: Any, dim: int | None, dtype: Any) -> Any:
    """x - log sum e^x along dim."""
    return _forward(x, dim, dtype, "true")


def softmax_backward(g: Any, y: Any, dim: int | None) -> Any:
    """y (g - sum g y) along dim."""
    return _run("softmax_backward", [g, y], dim, "false")


def log_softmax_backward(g: Any, y: Any, dim: int | None) -> Any:
    """g - e^y sum g along dim."""
    return _run("softmax_backward", [g, y], dim, "true")


def instantiations() -> list[str]:
    """Every kernel that may be launched."""
    parts = [f"softmax_parts<{c}, {16 // size}>" for c, size in row.types()]
    split = ("softmax_finish", "softmax_backward_parts", "softmax_backward_finish")
    parts += [f"{k}<{c}, {log}, {16 // size}>" for k in split for c, size in row.types() for log in ("false", "true")]
    return parts + [
        t.name(kernel, c, log)
        for arrays, kernel in ((1, "softmax_forward"), (2, "softmax_backward"))
        for c, size in row.types()
        for log in ("false", "true")
        for t in row.every(size, arrays)
    ]
