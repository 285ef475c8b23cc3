"""Attention on the card: its weights from its scores in one launch (kernels/attention.cu)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backend import bool_, is_floating, namespace
from . import row
from .launch import contiguous, ctype, launch


def instantiations() -> list[str]:
    """Every kernel that may be launched."""
    return [t.name("attention_weights", c) for c, size in row.types() for t in row.every(size)[:-1]]


def attention_weights(s: Any, mask: Any = None, scale: float = 1.0, causal: bool = False) -> Any:
    """The twin of gradflow.ops.attention.attention_weights."""
    shape, rows = s.shape, math.prod(s.shape[:-1])
    if not is_floating(s.dtype) or s.ndim > 4 or rows > row.MOST_ROWS:
        return NotImplemented
    steps = (0, 0, 0, 0)
    if mask is not None:
        if mask.dtype not in (bool_, s.dtype) or np.broadcast_shapes(shape, mask.shape) != shape:
            return NotImplemented
        mask = contiguous(mask)
        steps = tuple(b // mask.itemsize for b in namespace(s).broadcast_to(mask, shape).strides)
        steps = (0,) * (4 - len(steps)) + steps
    p = namespace(s).empty(shape, s.dtype)
    if not p.size:
        return p
    s, n = row.ready(s), shape[-1]
    t = row.choose(n, 1, s.itemsize)
    room, shared = t.room(s, n)
    seen, bias = (mask, None) if mask is not None and mask.dtype == bool_ else (None, mask)
    heads, queries = shape[-3] if s.ndim > 2 else 1, shape[-2] if s.ndim > 1 else 1
    factor = np.float64(scale) if s.itemsize == 8 else float(scale)
    sizes = rows, n, heads, queries
    launch(
        "attention", t.name("attention_weights", ctype(s.dtype)), row.grid(t, rows), t.block,
        s, seen, bias, p, *sizes, *steps, factor, bool(causal), np.int32(room), shared=shared,
    )  # fmt: skip
    return p
