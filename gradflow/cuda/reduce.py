"""Sums and means on the card over any axes, by kernels/reduce.cu: the last axis first, each as rows or as columns."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backend import Array, is_floating, need_card
from ..ops.dims import dimensions
from ..ops.reduce import wide
from . import row
from .launch import aligned, blocks, ctype, launch
from .layout import order_of

FULL = 1024  # about as many blocks as keep a card busy
PIECE = 4096  # values of a row that a block takes at least
TEAMS = ((128, "lanes<8>", (8, 32)), (2048, "lanes<32>", (32, 8)), (math.inf, "lanes<256>", (256, 1)))
LIMIT = 65535  # blocks along y and z


def sum_of_rows(x: Array, rows: int, n: int, dtype: Any, scale: float = 1.0) -> Array:
    """`scale` times the sum of each of `rows` rows of n values."""
    cp, x = need_card("sum"), row.ready(x)
    pieces = 1 if rows >= FULL or n < 2 * PIECE else min(blocks(n, PIECE), blocks(FULL, rows))
    vec = 16 // x.dtype.itemsize
    each = n if pieces == 1 else blocks(blocks(n, pieces), vec) * vec
    pieces = blocks(n, each)
    to = np.dtype(dtype) if pieces == 1 else wide(x.dtype)
    y, (team, block) = cp.empty(rows * pieces, to), next((t, b) for most, t, b in TEAMS if each <= most)
    kernel, factor = f"sum_rows<{ctype(x.dtype)}, {ctype(to)}, {team}>", np.float64(scale if pieces == 1 else 1)
    launch("reduce", kernel, blocks(rows * pieces, block[1]), block, x, y, rows * pieces, n, pieces, each, factor)
    return y if pieces == 1 else sum_of_rows(y, rows, pieces, dtype, scale)


def sum_of_columns(x: Array, outer: int, m: int, n: int, dtype: Any, scale: float = 1.0) -> Array:
    """`scale` times the sums over the middle of an array of shape (outer, m, n)."""
    cp = need_card("sum")
    vec = 16 // x.dtype.itemsize
    vec = vec if n % vec == 0 and aligned(x) else 1
    columns = min(256, 1 << (blocks(n, vec) - 1).bit_length(), 32 if m > 64 else 256)
    across = blocks(n, columns * vec)
    splits = max(min(blocks(FULL, across * outer), blocks(m, 8 * (256 // columns)), LIMIT), 1)
    each = blocks(m, splits)
    splits = blocks(m, each)
    to = np.dtype(dtype) if splits == 1 else wide(x.dtype)
    y, factor = cp.empty((outer, splits, n), to), np.float64(scale if splits == 1 else 1)
    kernel, block = f"sum_columns<{ctype(x.dtype)}, {ctype(to)}, {vec}>", (columns, 256 // columns)
    for first in range(0, outer, LIMIT):
        some = slice(first, first + LIMIT)
        arrays = (x, y) if outer <= LIMIT else (x.reshape(outer, m, n)[some], y[some])
        launch("reduce", kernel, (across, splits, min(LIMIT, outer - first)), block, *arrays, m, n, each, factor)
    return y if splits == 1 else sum_of_columns(y, outer, splits, n, dtype, scale)


def axis_sum(x: Array, axes: tuple[int, ...], dtype: Any = None, scale: float = 1.0) -> Any:
    """`scale` times the sum over axes, of x's shape without them, in a dtype. What remains lies in the order of x."""
    found = order_of(x)
    if found is not None:
        there = found[0]
        y = axis_sum(x.transpose(there), tuple(there.index(i) for i in axes), dtype, scale)
        kept = [i for i in there if i not in axes]
        return y if y is NotImplemented else y.transpose([kept.index(i) for i in sorted(kept)])
    dtype = wide(x.dtype) if dtype is None else np.dtype(dtype)
    if not is_floating(x.dtype) or dtype not in (x.dtype, wide(x.dtype)) or not 0 < x.size < 2**32:
        return NotImplemented
    shape = tuple(n for i, n in enumerate(x.shape) if i not in axes)
    groups: list[tuple[bool, int]] = []  # neighbouring axes that are all summed over or all not, as one
    for i, n in enumerate(x.shape):
        summed = i in axes
        if n == 1:
            continue
        if groups and groups[-1][0] == summed:
            groups[-1] = summed, groups[-1][1] * n
        else:
            groups.append((summed, n))
    if not any(summed for summed, _ in groups):
        groups.append((True, 1))
    x = row.ready(x)
    while any(summed for summed, _ in groups):
        k = max(i for i, (summed, _) in enumerate(groups) if summed)
        outer, n, inner = (math.prod(size for _, size in part) for part in (groups[:k], groups[k : k + 1], groups[k + 1 :]))
        last = not any(summed for summed, _ in groups[:k])
        to, factor = (dtype, scale) if last else (wide(x.dtype), 1.0)
        x = sum_of_rows(x, outer, n, to, factor) if inner == 1 else sum_of_columns(x, outer, n, inner, to, factor)
        del groups[k]
    return x.reshape(shape)


def _over(name: str, x: Array, dim: Any, keepdim: bool, dtype: Any, mean: bool) -> Any:
    to = x.dtype if dtype is None else np.dtype(dtype)
    if not is_floating(x.dtype) or not x.size:
        return NotImplemented
    axes = tuple(range(x.ndim)) if dim is None else dimensions(name, dim, x.ndim)
    n = math.prod(x.shape[d] for d in axes)
    y = axis_sum(x, axes, to, 1 / n if mean else 1.0)
    if y is NotImplemented or not keepdim:
        return y
    return y.reshape(tuple(1 if i in axes else n for i, n in enumerate(x.shape)))


def sum(x: Array, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Any:
    """The sum over dim."""
    return _over("sum", x, dim, keepdim, dtype, False)


def mean(x: Array, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Any:
    """The mean over dim."""
    return _over("mean", x, dim, keepdim, dtype, True)


def instantiations() -> list[str]:
    """Every kernel that may be launched."""
    halves, found = ("__half", "__nv_bfloat16"), []
    pairs = [("float", "float"), ("double", "double"), *((t, o) for t in halves for o in (t, "float"))]
    pairs += [("float", o) for o in halves]
    sizes = dict(row.types())
    for t, o in pairs:
        found += [f"sum_rows<{t}, {o}, {team}>" for _, team, _ in TEAMS]
        found += [f"sum_columns<{t}, {o}, {vec}>" for vec in (1, 16 // sizes[t])]
    return found
