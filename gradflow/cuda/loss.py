"""Losses on the card: cross entropy over rows, and the losses of single elements, summed as they are made."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backend import is_floating, namespace
from ..ops.reduce import wide
from . import row, softmax
from .launch import aligned, blocks, contiguous, ctype, launch

PARTS = 1024  # at most this many partial sums
DIRECT = 8192  # rows that one block may add up alone
KINDS = {"mse": 0, "l1": 1, "smooth_l1": 2, "huber": 3}


def final(part: Any, count: Any, target: Any, dtype: Any, n: int, reduction: str, ignore_index: int = 0) -> Any:
    """(sum or mean of partial sums, for a mean the number of targets that count)."""
    xp = namespace(part)
    y, total = xp.empty((), dtype), None if target is None and count is None else xp.empty((), np.int64)
    numbers = part.size, np.float64(n), reduction == "mean", ignore_index
    launch("loss", f"final_sum<{ctype(dtype)}>", 1, 512, part, count, target, y, total, *numbers)
    return y, total


# --- classes ----------------------------------------------------------------------------------------------


def _rows(x: Any, target: Any) -> tuple[int, int, int] | None:
    """(rows, classes, distance between a row's values); None for what the kernels do not take."""
    if x.ndim < 1 or not is_floating(x.dtype) or target.dtype.kind not in "iu" or not x.size:
        return None
    n, inner = x.shape[min(x.ndim - 1, 1)], math.prod(x.shape[2:])
    return None if x.size // n > row.MOST_ROWS else (x.size // n, n, inner)


def _classes(target: Any) -> Any:
    return contiguous(target.astype(np.int64, copy=False))


def cross_entropy_forward(x: Any, target: Any, ignore_index: int, reduction: str, label_smoothing: float) -> Any:
    """(y, lse, total)."""
    layout = _rows(x, target)
    if layout is None:
        return NotImplemented
    rows, n, inner = layout
    xp, kind, none = namespace(x), wide(x.dtype), reduction == "none"
    x, target, lse = row.ready(x), _classes(target), xp.empty(target.shape, kind)
    pieces = row.pieces(x, rows, n, (1, 1), int(none)) if inner == 1 else 0
    if pieces:
        losses, y = (xp.empty(target.shape, x.dtype), None) if none else (None, xp.empty((), x.dtype))
        total = xp.zeros((), np.int64) if none else xp.empty((), np.int64)
        sums = xp.empty((rows, pieces), kind) if label_smoothing else None
        arrays = x, target, softmax.exponentials(x, rows, n, pieces, sums), sums, losses, lse, y, total
        numbers = rows, n, pieces, ignore_index, np.float64(label_smoothing), reduction == "mean"
        launch("loss", f"cross_entropy_finish<{ctype(x.dtype)}>", 1, (32, 16), *arrays, *numbers)
        return losses if none else y, lse, total
    losses = xp.empty(target.shape, x.dtype if none else kind)
    t, kinds = row.choose(n, inner, x.dtype.itemsize), (ctype(x.dtype), ctype(losses.dtype))
    kernel, numbers = t.name("cross_entropy_forward", *kinds), (ignore_index, np.float64(label_smoothing), np.int32(0))
    launch("loss", kernel, row.grid(t, rows), t.block, x, target, losses, lse, rows, n, inner, *numbers)
    if none:
        return losses, lse, xp.zeros((), np.int64)
    part, count = losses, None
    if rows > DIRECT:
        each = blocks(rows, PARTS)
        grid = blocks(rows, each)
        part, count = xp.empty(grid, kind), xp.empty(grid, np.int64)
        launch("loss", f"partial_sums<{ctype(kind)}>", grid, 512, losses, target, part, count, rows, each, ignore_index)
    y, total = final(part, count, target if count is None else None, x.dtype, rows, reduction, ignore_index)
    return y, lse, total


def cross_entropy_backward(
    g: Any, x: Any, target: Any, lse: Any, total: Any, glse: Any, ignore_index: int, reduction: str, smoothing: float
) -> Any:
    """dx."""
    layout = _rows(x, target)
    if layout is None:
        return NotImplemented
    rows, n, inner = layout
    kind = wide(x.dtype)
    x, target = row.ready(x), _classes(target)
    g, lse, glse = (None if v is None else contiguous(v.astype(kind, copy=False)) for v in (g, lse, glse))
    dx = namespace(x).empty(x.shape, x.dtype)
    t, pieces, each = row.choose(n, inner, x.dtype.itemsize), 1, n
    if t.wide:  # nothing is asked of a whole row
        t, pieces, each = row.piece_team(x.dtype.itemsize), blocks(n, row.PIECE), row.PIECE
    arrays = g, x, target, lse, _classes(total) if reduction == "mean" else None, glse, dx
    numbers = rows, n, inner, pieces, each, ignore_index, np.float64(smoothing), reduction == "none"
    grid = row.grid(t, rows * pieces)
    launch("loss", t.name("cross_entropy_backward", ctype(x.dtype)), grid, t.block, *arrays, *numbers)
    return dx


# --- single elements --------------------------------------------------------------------------------------


def _taken(x: Any, *others: Any) -> bool:
    return is_floating(x.dtype) and x.size > 0 and all(v.dtype == x.dtype and v.shape == x.shape for v in others)


def _grid(n: int, *arrays: Any) -> tuple[int, int]:
    """(blocks, values loaded at once)."""
    vec = 16 // arrays[0].dtype.itemsize
    if n % vec or not aligned(*arrays):
        vec = 1
    return min(blocks(n, 256 * vec), PARTS), vec


def _elements(kernel: str, x: Any, t: Any, reduction: str, *options: Any) -> Any:
    """Each element's loss, or their sum or mean."""
    xp, none = namespace(x), reduction == "none"
    x, t = contiguous(x), contiguous(t)
    y = xp.empty(x.shape, x.dtype) if none else None
    grid, vec = _grid(x.size, *((x, t, y) if none else (x, t)))
    part = None if none else xp.empty(grid, wide(x.dtype))
    launch("loss", f"{kernel}<{ctype(x.dtype)}, {vec}>", grid, 256, x, t, y, part, x.size, *options)
    return y if none else final(part, None, None, x.dtype, x.size, reduction)[0]


def _slopes(kernel: str, g: Any, x: Any, t: Any, reduction: str, *options: Any) -> Any:
    """The gradient of x."""
    g, x, t = contiguous(g.astype(x.dtype, copy=False)), contiguous(x), contiguous(t)
    dx, none = namespace(x).empty(x.shape, x.dtype), reduction == "none"
    grid, vec = _grid(x.size, *((x, t, dx, g) if none else (x, t, dx)))
    numbers = x.size, np.float64(x.size if reduction == "mean" else 1), none
    launch("loss", f"{kernel}<{ctype(x.dtype)}, {vec}>", grid, 256, g, x, t, dx, *numbers, *options)
    return dx


def difference_loss(a: Any, b: Any, kind: str, delta: float, reduction: str) -> Any:
    """The loss of a - b."""
    if not _taken(a, b):
        return NotImplemented
    return _elements("difference_loss", a, b, reduction, np.int32(KINDS[kind]), np.float64(delta))


def difference_loss_backward(g: Any, a: Any, b: Any, kind: str, delta: float, reduction: str) -> Any:
    """da."""
    if not _taken(a, b):
        return NotImplemented
    return _slopes("difference_loss_backward", g, a, b, reduction, np.int32(KINDS[kind]), np.float64(delta))


def _weights(x: Any, w: Any) -> tuple[Any, int] | None:
    """(the positive weights in x's dtype, after how many elements they repeat)."""
    if w is None:
        return None, 1
    if x.size > row.MOST_ROWS:
        return None
    while w.ndim and w.shape[0] == 1:
        w = w[0]
    if w.shape != x.shape[x.ndim - w.ndim :]:
        w = namespace(x).broadcast_to(w, x.shape)
    return contiguous(w.astype(x.dtype, copy=False)), w.size


def bce_logits_forward(x: Any, target: Any, w: Any, reduction: str) -> Any:
    """The binary cross entropy of logits."""
    weights = _weights(x, w)
    if weights is None or not _taken(x, target):
        return NotImplemented
    return _elements("bce_logits_forward", x, target, reduction, *weights)


def bce_logits_backward(g: Any, x: Any, target: Any, w: Any, reduction: str) -> Any:
    """dx."""
    weights = _weights(x, w)
    if weights is None or not _taken(x, target):
        return NotImplemented
    return _slopes("bce_logits_backward", g, x, target, reduction, *weights)


def bce_forward(x: Any, target: Any, reduction: str) -> Any:
    """The binary cross entropy of probabilities."""
    return _elements("bce_forward", x, target, reduction) if _taken(x, target) else NotImplemented


def bce_backward(g: Any, x: Any, target: Any, reduction: str) -> Any:
    """dx."""
    return _slopes("bce_backward", g, x, target, reduction) if _taken(x, target) else NotImplemented


def instantiations() -> list[str]:
    """Every kernel that may be launched."""
    found = ["partial_sums<float>", "partial_sums<double>"]
    for c, size in row.types():
        teams = row.every(size)
        for out in dict.fromkeys((c, "double" if size == 8 else "float")):
            found += [t.name("cross_entropy_forward", c, out) for t in teams]
        found += [t.name("cross_entropy_backward", c) for t in teams if not t.wide]
        found.append(f"cross_entropy_finish<{c}>")
        for kernel in ("difference_loss", "bce_logits", "bce"):
            names = (kernel if kernel == "difference_loss" else f"{kernel}_forward"), f"{kernel}_backward"
            found += [f"{name}<{c}, {vec}>" for name in names for vec in (1, 16 // size)]
        found.append(f"final_sum<{c}>")
    return found
