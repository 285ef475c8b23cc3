"""Batch norm down the columns of a matrix on the card: channels last, or short planes side by side. norm.py chooses it."""

from __future__ import annotations

import numpy as np

from ..backend import Array, namespace
from ..ops.reduce import wide
from . import row
from .launch import blocks, ctype, launch

FULL = 512  # about as many blocks as fill a card
ROWS = 8  # that a thread has at least


def _packs(x: Array, n: int) -> int:
    """How many columns of n a thread takes: 16 bytes of them where they divide n."""
    vec = 16 // x.dtype.itemsize
    return vec if n % vec == 0 else 1


def _cut(m: int, n: int, vec: int) -> tuple[tuple[int, int], tuple[int, int], int]:
    """(grid, block, rows to a block) of the kernels."""
    columns = min(32, 1 << (blocks(n, vec) - 1).bit_length())
    across = blocks(n, columns * vec)
    each = blocks(m, min(blocks(FULL, across), blocks(m, ROWS * (256 // columns))))
    return (across, blocks(m, each)), (columns, 256 // columns), each


def moments(x: Array, m: int, n: int) -> tuple[Array, Array, int]:
    """Partial means of each of n columns, sums of squared differences from them, and of how many rows each part is."""
    vec = _packs(x, n)
    grid, block, each = _cut(m, n, vec)
    mean, square = namespace(x).empty((2, grid[1], n), wide(x.dtype))
    launch("norm_columns", f"column_moments<{ctype(x.dtype)}, {vec}>", grid, block, x, mean, square, m, n, each)
    return mean, square, each


def sums(g: Array, x: Array, mean: Array, rstd: Array, m: int, n: int, width: int) -> tuple[Array, Array]:
    """Partial sums of g and of g xh over rows of (m, n) matrices, `width` columns to a channel."""
    vec = _packs(x, n)
    grid, block, each = _cut(m, n, vec)
    a, c = namespace(x).empty((2, grid[1], n), wide(x.dtype))
    kernel = f"column_sums<{ctype(x.dtype)}, {vec}>"
    launch("norm_columns", kernel, grid, block, g, x, mean, rstd, a, c, m, n, width, each)
    return a, c


def taken(x: Array, n: int) -> bool:
    """Whether apply and dx take a matrix of n columns: in packs only."""
    return _packs(x, n) > 1


def apply(types: list[str], x: Array, mean: Array, rstd: Array, w: Array, b: Array, y: Array, eps: float) -> None:
    """y = (x - mean) rstd w + b, or with eps >= 0 (x - mean) / sqrt(rstd + eps) w + b, of an (m, n) matrix."""
    (m, n), vec = x.shape, _packs(x, x.shape[1])
    grid, block, each = _cut(m, n, vec)
    kernel = f"column_apply<{', '.join(types)}, {vec}>"
    launch("norm_columns", kernel, grid, block, x, mean, rstd, w, b, y, m, n, each, np.float64(eps))


def dx(types: list[str], g: Array, x: Array, w: Array, statistics: tuple, dx: Array) -> None:
    """dx of an (m, n) matrix from (mean, rstd, gmean, grstd, sum of g, sum of g xh)."""
    (m, n), vec = x.shape, _packs(x, x.shape[1])
    grid, block, each = _cut(m, n, vec)
    kernel = f"column_dx<{', '.join(types)}, {vec}>"
    launch("norm_columns", kernel, grid, block, g, x, w, *statistics, dx, m, n, each)


def instantiations() -> list[str]:
    """Every kernel that may be launched."""
    found = []
    for c, size in row.types():
        found += [f"{k}<{c}, {v}>" for k in ("column_moments", "column_sums") for v in (1, 16 // size)]
        for w in dict.fromkeys((c, "double" if size == 8 else "float")):
            found += [f"{k}<{c}, {w}, {16 // size}>" for k in ("column_apply", "column_dx")]
    return found
