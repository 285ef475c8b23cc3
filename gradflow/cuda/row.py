"""Teams for rows: which template of kernels/row.cuh takes rows of a given length, and the grid to launch it on."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from . import launch


class Team(NamedTuple):
    """A choice of template arguments: the team's C++ type, values kept per thread (0: none), values per load."""

    type: str
    kept: int
    vec: int
    block: tuple[int, int]
    rows: int  # rows to a block

    def name(self, kernel: str, *types: str) -> str:
        """The C++ name of the kernel for these types."""
        return f"{kernel}<{', '.join(types)}, {self.type}, {self.kept}, {self.vec}>"


def _lanes(size: int, kept: int, vec: int) -> Team:
    teams = max(256 // size, 1)
    return Team(f"lanes<{size}>", kept, vec, (size, teams), teams)


# Rows whose values are not neighbours: 32 rows to a block, 8 threads to each.
COLUMNS = Team("columns<8>", 0, 1, (32, 8), 32)


def teams(itemsize: int) -> list[Team]:
    """The teams for rows in one piece, by the longest row they take, the last of any length."""
    most, vec = (16 if itemsize == 8 else 32), 16 // itemsize
    found = [_lanes(8, 8, 1), _lanes(32, 8, 1)]
    for v in (1, vec):
        found += [_lanes(32, most, v), _lanes(256, 16, v)]
        found += [_lanes(512, 16, v)] if itemsize < 8 else []  # two rows of doubles would not fit into the registers
        found += [_lanes(512, 0, v)]
    return found


def team(n: int, inner: int, itemsize: int, aligned: bool) -> Team:
    """The team for rows of n values, `inner` apart; `aligned` if every array starts at a multiple of 16 bytes."""
    if inner != 1:
        return COLUMNS
    vec = 16 // itemsize if aligned and n % (16 // itemsize) == 0 else 1
    for t in teams(itemsize):
        size = t.block[0]
        if (t.kept == 0 or n <= size * t.kept) and (t.vec == vec or (t.vec == 1 and 0 < size * t.kept <= 256)):
            return t
    raise AssertionError("the last team takes rows of any length")


MOST_ROWS = 2**31 - 1  # kernels number rows with 32 bits


def grid(t: Team, rows: int) -> int:
    """The number of blocks for so many rows."""
    return launch.blocks(rows, t.rows)


def types() -> list[tuple[str, int]]:
    """The storage types of kernels and their sizes."""
    return [("float", 4), ("double", 8), ("__half", 2), ("__nv_bfloat16", 2)]


def wide(dtype: Any) -> Any:
    """The dtype in which elements of this one are accumulated."""
    return np.dtype(np.float32) if dtype.itemsize == 2 else dtype
