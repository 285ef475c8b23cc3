"""The multi-class margin loss on the card: twins of gradflow/ops/class_loss.py's, a block for every row."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backend import need_card
from ..ops.reduce import wide
from .launch import contiguous, ctype, launch
from .loss import final

THREADS, GRID = 256, 65535
TYPES = {"float": "float", "double": "double", "__half": "float", "__nv_bfloat16": "float"}


def instantiations() -> list[str]:
    """Every kernel that the launchers below can ask for."""
    outs = [(t, o) for t, wider in TYPES.items() for o in dict.fromkeys((t, wider))]
    return [*(f"multi_margin_forward<{t}, {o}>" for t, o in outs), *(f"multi_margin_backward<{t}>" for t in TYPES)]


def _rows(x: Any, target: Any) -> tuple[int, int] | None:
    """(rows, classes), or None for what the kernels do not take."""
    if x.dtype.name not in ("float32", "float64", "float16", "bfloat16") or not x.size or x.ndim < 1:
        return None
    return x.size // x.shape[-1], x.shape[-1]


def multi_margin_forward(x, target, p, margin, reduction):
    """Each row's loss, or their sum or mean."""
    layout = _rows(x, target)
    if layout is None:
        return NotImplemented
    cp, (rows, n), none = need_card("multi_margin_loss"), layout, reduction == "none"
    losses = cp.empty(target.shape, x.dtype if none else wide(x.dtype))
    arrays = contiguous(x), contiguous(target.astype(np.int64, copy=False)), losses
    kernel = f"multi_margin_forward<{ctype(x.dtype)}, {ctype(losses.dtype)}>"
    launch("margin", kernel, min(rows, GRID), THREADS, *arrays, rows, n, np.int32(p), np.float64(margin))
    return losses if none else final(losses, None, None, x.dtype, rows, reduction)[0]


def multi_margin_backward(g, x, target, p, margin, reduction):
    """dx from g of the result's shape."""
    layout = _rows(x, target)
    if layout is None or g.dtype != x.dtype:
        return NotImplemented
    dx, (rows, n) = need_card("multi_margin_loss").empty(x.shape, x.dtype), layout
    arrays = contiguous(g), contiguous(x), contiguous(target.astype(np.int64, copy=False)), dx
    divisor = np.float64(rows if reduction == "mean" else 1)
    numbers = rows, n, np.int32(p), np.float64(margin), divisor, reduction == "none"
    launch("margin", f"multi_margin_backward<{ctype(x.dtype)}>", min(rows, GRID), THREADS, *arrays, *numbers)
    return dx
