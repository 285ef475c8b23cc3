"""Launchers of kernels/index.cu: sums of rows that carry the same number, without atomics."""

from __future__ import annotations

import math

import numpy as np

from ..backend import Array, is_floating, need_card
from ..ops.reduce import wide
from .launch import GRID_LIMIT, blocks, contiguous, ctype, launch

CHUNK = 32  # rows per thread, as in the kernel
THREADS = 256
MANY = 1 << 15  # from here on a library's sort is faster than counting, though the host waits for it


def segment_sum(x: Array, ids: Array, n: int) -> Array:
    """y[k] = sum of x[i] over ids[i] = k."""
    if x.dtype.kind == "c":
        parts = contiguous(x).view(x.real.dtype).reshape(*x.shape, 2)
        return segment_sum(parts, ids, n).view(x.dtype).reshape(n, *x.shape[1:])
    m, width, dtype = len(ids), math.prod(x.shape[1:]), wide(x.dtype)
    if not is_floating(x.dtype) or width > THREADS * GRID_LIMIT[1]:
        return NotImplemented
    cp = need_card("segment_sum")
    across = min(THREADS, 1 << (max(width, 1) - 1).bit_length())
    down = THREADS // across
    y = cp.zeros((n, *x.shape[1:]), x.dtype)
    rows = contiguous(x)
    if m <= MANY and n < 2**31 - 1:
        ids, order, given = cp.empty(m, np.int64), cp.empty(m, np.int64), contiguous(ids.astype(np.int64, copy=False))
        launch("index", "places", blocks(m, 64), 64, given, order, ids, np.int32(m), np.int32(n))
    else:
        order = cp.argsort(ids, kind="stable")
        ids = ids[order].astype(np.int64, copy=False)
    while m and width:
        chunks = blocks(m, CHUNK)
        part = part_ids = None
        if chunks > 1:
            part, part_ids = cp.empty((2 * chunks, width), dtype), cp.empty(2 * chunks, np.int64)
        kernel = f"segment_sum<{ctype(x.dtype)}, {ctype(rows.dtype)}>"
        grid = (blocks(chunks, down), blocks(width, across))
        launch("index", kernel, grid, (across, down), rows, order, ids, y, part, part_ids, m, width, n)
        if chunks == 1:
            break
        rows, order, ids, m = part, None, part_ids, 2 * chunks
    return y


def instantiations() -> list[str]:
    """Every kernel that the launchers ask for."""
    pairs = [("float", "float"), ("double", "double")]
    pairs += [(t, s) for t in ("__half", "__nv_bfloat16") for s in (t, "float")]
    return ["places", *(f"segment_sum<{t}, {s}>" for t, s in pairs)]
