"""Resampling on the card: the twin of gradflow/ops/resample.py, by kernels/resample.cu."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ..backend import need_card
from .launch import blocks, contiguous, ctype, launch

THREADS = 256
NARROW = 2**31  # elements below this many are counted in 32 bits


def instantiations() -> list[str]:
    """Every kernel that the launchers below can ask for."""
    types, counters = ("float", "double", "__half", "__nv_bfloat16"), ("unsigned", "unsigned long long")
    return [f"resample<{t}, {i}>" for t in types for i in counters]


def _tables(table: Any, x: Any, double: bool) -> tuple:
    """The places and weights of a table on x's device, moved there once."""
    key = x.device.id, double
    if key not in table.cards:
        cp = need_card("resample")
        places = np.where(table.weights != 0, table.places, -1).astype(np.int32)
        weights = table.weights.astype(np.float64 if double else np.float32)
        table.cards[key] = cp.asarray(places), cp.asarray(weights)
    return table.cards[key]


def resample(x, dim, table):
    """Weighted sums along dim."""
    axis = dim % x.ndim
    if x.dtype.name not in ("float32", "float64", "float16", "bfloat16") or max(table.n, table.m) >= NARROW:
        return NotImplemented
    y = need_card("resample").empty((*x.shape[:axis], table.m, *x.shape[axis + 1 :]), x.dtype)
    places, weights = _tables(table, x, x.dtype == np.float64)
    counter = "unsigned" if max(x.size, y.size) < NARROW else "unsigned long long"
    inner, (m, count) = prod(x.shape[axis + 1 :]), table.places.shape
    numbers = (y.size, inner, np.int32(table.n), np.int32(m), np.int32(count))
    kernel, grid = f"resample<{ctype(x.dtype)}, {counter}>", blocks(y.size, THREADS)
    launch("resample", kernel, grid, THREADS, contiguous(x), places, weights, y, *numbers)
    return y
