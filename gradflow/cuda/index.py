"""Launchers of kernels/index.cu: sums of rows that carry the same number, without atomics."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backend import Array, int32, int64, is_floating, need_card
from ..ops.reduce import wide
from .launch import GRID_LIMIT, blocks, contiguous, ctype, launch

CHUNK = 32  # rows per thread, as in the kernel
THREADS = 256
MANY = 1 << 13  # numbers up to which counting, whose work grows with the square, is as fast as sorting by digits
SORTED, SORT_WARPS = 2048, 8  # numbers and warps to a block that sorts, as in the kernel
DIGIT = 10  # bits: more would not leave the shared memory for two blocks to a multiprocessor


def segment_sum(x: Array, ids: Array, n: int) -> Array:
    """y[k] = sum of x[i] over ids[i] = k.

    Each x is read once and y written (after it was cleared). Of the order and the sorted numbers, 8 bytes a row, all is
    written and read once; sorted by digits, the first takes 24 bytes a row (of int64) and every further one 20.
    """
    if x.dtype.kind == "c":
        parts = contiguous(x).view(x.real.dtype).reshape(*x.shape, 2)
        return segment_sum(parts, ids, n).view(x.dtype).reshape(n, *x.shape[1:])
    m, width, dtype = len(ids), math.prod(x.shape[1:]), wide(x.dtype)
    if not is_floating(x.dtype) or width > THREADS * GRID_LIMIT[1] or max(m + SORTED, n) >= 2**31:
        return NotImplemented
    cp = need_card("segment_sum")
    across = min(THREADS, 1 << (max(width, 1) - 1).bit_length())
    down = THREADS // across
    y = cp.zeros((n, *x.shape[1:]), x.dtype)
    if not m * width:
        return y
    rows: Array = contiguous(x)
    order, ids = _in_order(contiguous(ids if ids.dtype in (int64, int32) else ids.astype(np.int64)), n)
    while m:
        chunks = blocks(m, CHUNK)
        part = part_ids = None
        if chunks > 1:
            part, part_ids = cp.empty((2 * chunks, width), dtype), cp.empty(2 * chunks, np.int32)
        kernel = f"segment_sum<{ctype(x.dtype)}, {ctype(rows.dtype)}>"
        grid = (blocks(chunks, down), blocks(width, across))
        launch("index", kernel, grid, (across, down), rows, order, ids, y, part, part_ids, m, width, n)
        rows, order, ids, m = part, None, part_ids, 2 * chunks if chunks > 1 else 0
    return y


def _in_order(ids: Array, n: int) -> tuple[Array, Array]:
    """(the places of numbers in the order of their size, equals as they come, the numbers so sorted), those outside
    0..n-1 last, as n: in one launch, or in three for each digit of the numbers.
    """
    cp, m = need_card("segment_sum"), len(ids)
    order: Any = None
    if m <= MANY:
        order, found = cp.empty(m, np.int32), cp.empty(m, np.int32)
        launch("index", f"places<{ctype(ids.dtype)}>", blocks(m, 64), 64, ids, order, found, np.int32(m), np.int32(n))
        return order, found
    digits = blocks(n.bit_length(), DIGIT)
    bits, grid = blocks(n.bit_length(), digits), blocks(m, SORTED)
    counts, totals = cp.empty((1 << bits, grid), np.int32), cp.empty(1 << bits, np.int32)
    shared = 4 * SORT_WARPS << bits
    for digit in range(digits):
        kind, place = ctype(ids.dtype), (np.int32(m), np.int32(n), np.int32(digit * bits), np.int32(bits))
        launch("index", f"digit_counts<{kind}>", grid, THREADS, ids, counts, *place, shared=shared)
        launch("index", "digit_offsets", blocks(1 << bits, 8), THREADS, counts, totals, np.int32(grid), np.int32(1 << bits))
        after, found = cp.empty(m, np.int32), cp.empty(m, np.int32)
        launch(
            "index", f"digit_places<{kind}>", grid, THREADS, ids, order, counts, totals, after, found, *place, shared=shared
        )
        order, ids = after, found
    return order, ids


def instantiations() -> list[str]:
    """Every kernel that the launchers ask for."""
    pairs = [("float", "float"), ("double", "double")]
    pairs += [(t, s) for t in ("__half", "__nv_bfloat16") for s in (t, "float")]
    sorting = [f"{k}<{i}>" for k in ("places", "digit_counts", "digit_places") for i in ("int", "long long")]
    return [*sorting, "digit_offsets", *(f"segment_sum<{t}, {s}>" for t, s in pairs)]
