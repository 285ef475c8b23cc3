"""Launchers of kernels/index.cu: sums of rows that carry the same number, without atomics."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backend import Array, is_floating, need_card
from ..ops.reduce import wide
from .launch import GRID_LIMIT, blocks, contiguous, ctype, launch

CHUNK = 32  # rows per thread, as in the kernel
THREADS = 256
MANY = 1 << 12  # numbers up to which counting, whose work grows with the square, is as fast as sorting by digits
SORTED, SORT_WARPS = 2048, 8  # numbers and warps to a block that sorts, as in the kernel
DIGIT = 10  # bits: more would not leave the shared memory for two blocks to a multiprocessor


def segment_sum(x: Array, ids: Array, n: int) -> Array:
    """y[k] = sum of x[i] over ids[i] = k.

    Each x is read once and y written (after it was cleared). Of the order and the sorted numbers, 12 bytes a row, all is
    written and read once; sorted by digits, the first digit takes 28 bytes a row and every further one 32.
    """
    if x.dtype.kind == "c":
        parts = contiguous(x).view(x.real.dtype).reshape(*x.shape, 2)
        return segment_sum(parts, ids, n).view(x.dtype).reshape(n, *x.shape[1:])
    m, width, dtype = len(ids), math.prod(x.shape[1:]), wide(x.dtype)
    if not is_floating(x.dtype) or width > THREADS * GRID_LIMIT[1] or m + SORTED >= 2**31:
        return NotImplemented
    cp = need_card("segment_sum")
    across = min(THREADS, 1 << (max(width, 1) - 1).bit_length())
    down = THREADS // across
    y = cp.zeros((n, *x.shape[1:]), x.dtype)
    if not m * width:
        return y
    rows: Array = contiguous(x)
    order, ids = _in_order(contiguous(ids.astype(np.int64, copy=False)), n)
    while m:
        chunks = blocks(m, CHUNK)
        part = part_ids = None
        if chunks > 1:
            part, part_ids = cp.empty((2 * chunks, width), dtype), cp.empty(2 * chunks, np.int64)
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
        order, found = cp.empty(m, np.int32), cp.empty(m, np.int64)
        key = "int" if n < 2**31 else "long long"
        launch("index", f"places<{key}>", blocks(m, 64), 64, ids, order, found, np.int32(m), n)
        return order, found
    digits = blocks(n.bit_length(), DIGIT)
    bits, grid = blocks(n.bit_length(), digits), blocks(m, SORTED)
    counts, totals = cp.empty((1 << bits, grid), np.int32), cp.empty(1 << bits, np.int32)
    shared, values = 4 * SORT_WARPS << bits, np.int32(1 << bits)
    for digit in range(digits):
        numbers = np.int32(m), n, np.int32(digit * bits), np.int32(bits)
        launch("index", "digit_counts", grid, THREADS, ids, counts, *numbers, shared=shared)
        launch("index", "digit_offsets", blocks(1 << bits, 8), THREADS, counts, totals, np.int32(grid), values)
        after, found = cp.empty(m, np.int32), cp.empty(m, np.int64)
        arrays = ids, order, counts, totals, after, found
        launch("index", "digit_places", grid, THREADS, *arrays, *numbers, shared=shared)
        order, ids = after, found
    return order, ids


def instantiations() -> list[str]:
    """Every kernel that the launchers ask for."""
    pairs = [("float", "float"), ("double", "double")]
    pairs += [(t, s) for t in ("__half", "__nv_bfloat16") for s in (t, "float")]
    sorting = ["places<int>", "places<long long>", "digit_counts", "digit_offsets", "digit_places"]
    return [*sorting, *(f"segment_sum<{t}, {s}>" for t, s in pairs)]
