"""Launchers of kernels/scan.cu: running sums and products, and linear recurrences, in a fixed order."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backend import Array, is_floating, need_card
from ..ops.dims import dimension
from ..ops.reduce import wide
from .launch import blocks, contiguous, ctype, launch

THREADS = 256
ROW, COLUMN = 1024, 64  # elements in a chunk of a row, and of a column
COLUMNS = 1 << 16  # so many columns fill a card with a thread for each


def _scan(a: Array | None, b: Array | None, back: bool, shape: tuple[int, int, int], dtype: np.dtype) -> Array:
    """The recurrence along the middle of `shape`."""
    cp, x = need_card("scan"), b if a is None else a
    outer, n, inner = shape
    y, acc = cp.empty(shape, dtype), wide(dtype)
    chunk = ROW if inner == 1 else n if outer * inner >= COLUMNS else COLUMN
    chunks, carry = blocks(n, max(chunk, 1)), None
    name, sizes = ("scan_rows", (outer, n)) if inner == 1 else ("scan_columns", (outer, n, inner))
    kernel = f"{name}<{ctype(dtype)}, {ctype(x.dtype)}, {_word(a)}, {_word(b)}>"
    grid = blocks(outer * chunks * (32 if inner == 1 else inner), THREADS)
    if chunks > 1:
        totals = [None if v is None else cp.empty((outer, chunks, inner), acc) for v in (a, b)]
        launch("scan", kernel, grid, THREADS, a, b, None, *totals, None, back, *sizes, chunk)
        carry = _scan(*totals, False, (outer, chunks, inner), acc)
    launch("scan", kernel, grid, THREADS, a, b, y, None, None, carry, back, *sizes, chunk)
    return y


def _word(x: Any) -> str:
    return "false" if x is None else "true"


def _along(a: Array | None, b: Array | None, dim: int, dtype: np.dtype, back: bool = False) -> Array:
    shape = (b if a is None else a).shape
    sizes = (math.prod(shape[:dim]), shape[dim], math.prod(shape[dim + 1 :]))
    a, b = (None if v is None else contiguous(v.astype(dtype, copy=False)) for v in (a, b))
    return _scan(a, b, back, sizes, dtype).reshape(shape)


def cumsum(x: Array, dim: int, dtype: Any = None) -> Array:
    """y_i = x_0 + ... + x_i."""
    to = np.dtype(dtype) if dtype is not None else x.dtype
    if x.ndim == 0 or not is_floating(to):
        return NotImplemented
    return _along(None, x, dimension("cumsum", dim, x.ndim), to)


def cumsum_back(x: Array, dim: int) -> Array:
    """y_i = x_i + ... + x_{n-1}."""
    if x.ndim == 0 or not is_floating(x.dtype):
        return NotImplemented
    return _along(None, x, dimension("cumsum_back", dim, x.ndim), x.dtype, back=True)


def cumprod(x: Array, dim: int, dtype: Any = None) -> Array:
    """y_i = x_0 ... x_i."""
    to = np.dtype(dtype) if dtype is not None else x.dtype
    if x.ndim == 0 or not is_floating(to):
        return NotImplemented
    return _along(x, None, dimension("cumprod", dim, x.ndim), to)


def linear_recurrence(a: Array, b: Array, dim: int, back: bool = False) -> Array:
    """y_i = a_i y_{i-1} + b_i, or with back y_i = a_i y_{i+1} + b_i."""
    if not is_floating(b.dtype):
        return NotImplemented
    return _along(a, b, dimension("linear_recurrence", dim, b.ndim), b.dtype, back)


def instantiations() -> list[str]:
    """Every kernel that the launchers ask for."""
    halves = ("__half", "__nv_bfloat16")
    types = [("float", "float"), ("double", "double"), *((t, t) for t in halves)]
    kinds = ("false, true", "true, false", "true, true")
    return [f"{name}<{t}, {s}, {k}>" for name in ("scan_rows", "scan_columns") for t, s in types for k in kinds]
