"""Fractional max pooling on the card: the twin of gradflow/ops/fractional.py, by kernels/fractional.cu."""

from __future__ import annotations

from math import prod

import numpy as np

from ..backend import need_card
from ..ops.fractional import all_starts, check
from .launch import blocks, contiguous, ctype, launch

THREADS = 256


def instantiations() -> list[str]:
    """Every kernel that the launchers below can ask for."""
    return [f"fractional_max_pool<{t}>" for t in ("float", "double", "__half", "__nv_bfloat16")]


def fractional_max_pool(x, samples, kernel_size, output_size):
    """The largest element of every window, and its place."""
    kernel, outs = check("fractional_max_pool", x, kernel_size, output_size, samples)
    rank = len(outs)
    if x.dtype.name not in ("float32", "float64", "float16", "bfloat16") or prod(x.shape[-rank:]) >= 2**31:
        return NotImplemented
    cp = need_card("fractional_max_pool")
    sizes = (*x.shape[:-rank], *outs)
    values, indices = cp.empty(sizes, x.dtype), cp.empty(sizes, np.int64)
    first = [contiguous(s) for s in all_starts(x, samples, kernel, outs)]
    one = [None] * (3 - rank)
    lengths = [[1] * (3 - rank) + list(v) for v in (x.shape[-rank:], kernel, outs)]
    numbers = [np.int32(v) for dim in zip(*lengths, strict=True) for v in dim]
    name = f"fractional_max_pool<{ctype(x.dtype)}>"
    grid = blocks(values.size, THREADS)
    launch("fractional", name, grid, THREADS, contiguous(x), *one, *first, values, indices, values.size, *numbers)
    return values, indices
