"""Fold and unfold on the card: the twins of gradflow/ops/fold.py, by kernels/fold.cu."""

from __future__ import annotations

from itertools import product
from math import prod
from typing import Any

import numpy as np

from ..backend import Array, need_card
from ..ops.fold import frame, patches
from ..ops.window import Window
from .launch import blocks, contiguous, ctype, launch

THREADS = 256
NARROW = 2**31  # elements below this many are counted in 32 bits


def instantiations() -> list[str]:
    """Every kernel that the launchers below can ask for."""
    types, counters = ("float", "double", "__half", "__nv_bfloat16"), ("unsigned", "unsigned long long")
    return [f"{k}<{t}, {i}>" for k, t, i in product(("im2col", "col2im"), types, counters)]


def _run(kernel: str, x: Array, y: Array, win: Window) -> Any:
    if x.dtype.name not in ("float32", "float64", "float16", "bfloat16") or prod(win.sizes) >= NARROW:
        return NotImplemented
    count = "unsigned" if max(x.size, y.size) < NARROW else "unsigned long long"
    columns = (win.sizes, win.kernel, win.out, win.stride, win.before, win.dilation)
    dims = [np.int32(v) for dim in zip(*columns, strict=True) for v in dim]
    name = f"{kernel}<{ctype(y.dtype)}, {count}>"
    launch("fold", name, blocks(y.size, THREADS), THREADS, contiguous(x), y, y.size, *dims)
    return y


def im2col(x, kernel_size, dilation=1, padding=0, stride=1):
    """Images (n, c, h, w) to columns (n, c kh kw, places)."""
    win = frame("unfold", x.shape, kernel_size, dilation, padding, stride)
    shape = (*x.shape[:-3], x.shape[-3] * prod(win.kernel), prod(win.out))
    return _run("im2col", x, need_card("unfold").empty(shape, x.dtype), win)


def col2im(x, output_size, kernel_size, dilation=1, padding=0, stride=1):
    """Columns (n, c kh kw, places) to images (n, c, h, w)."""
    shape, win = patches("fold", x.shape, output_size, kernel_size, dilation, padding, stride)
    return _run("col2im", x, need_card("fold").empty(shape, x.dtype), win)
