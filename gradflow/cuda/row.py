"""Teams for rows: which template of kernels/row.cuh takes rows of a given length, and how many blocks share a long one."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from ..backend import Array, need_card
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

    @property
    def wide(self) -> bool:
        """Whether rows are kept in shared memory too."""
        return self.type.startswith("wide")

    def room(self, x: Array, n: int, arrays: int = 1) -> tuple[int, int]:
        """(packs per thread, bytes) of shared memory for rows of n values of each of so many arrays like x."""
        if not self.wide:
            return 0, 0
        size, pack = self.block[0], 16 * arrays
        packs = launch.blocks(n + self.vec - 1, size * self.vec) - self.kept // self.vec
        packs = max(min(packs, (shared_limit(x.device.id) - 2 * RESERVED) // (size * pack)), 0)
        return packs, with_room(packs * size * pack)


def lanes(size: int, kept: int, vec: int) -> Team:
    """The team of so many threads along x."""
    teams = max(256 // size, 1)
    return Team(f"lanes<{size}>", kept, vec, (size, teams), teams)


RESERVED = 1024  # bytes of shared memory that kernels on rows have for their reductions, at most


def with_room(size: int) -> int:
    """What to ask for, for so many bytes of dynamic shared memory: beside a kernel's own they may need asking for."""
    return size if size <= launch.STATIC_SHARED - RESERVED else max(size, launch.STATIC_SHARED + 16)


@cache
def shared_limit(device: int) -> int:
    """The most bytes of shared memory that a block can have."""
    attributes = need_card("row").cuda.Device(device).attributes
    return int(attributes.get("MaxSharedMemoryPerBlockOptin", launch.STATIC_SHARED))


launch.caches.append(shared_limit.cache_clear)


# Rows whose values are not neighbours: 32 rows to a block, 8 threads to each.
COLUMNS = Team("columns<8>", 0, 1, (32, 8), 32)


def short(itemsize: int) -> list[Team]:
    """The teams for rows in one piece that registers hold, by the longest row they take."""
    vec, warp = 16 // itemsize, (16 if itemsize == 8 else 32)
    sizes = [(8, 8), (32, 8), (32, warp), (256, 16)] + [(512, 16)] * (itemsize < 8)  # not two rows of doubles
    return [lanes(size, kept, vec) for size, kept in sizes]


def large(itemsize: int, arrays: int = 1, resident: int = 2) -> Team:
    """The team for longer rows: a thread has four packs of its share in registers, the others in shared memory."""
    vec, resident = 16 // itemsize, 1 if itemsize == 8 else resident  # doubles take twice the registers
    return Team(f"wide<512, {resident}>", 4 * vec // arrays, vec, (512, 1), 1)


def every(itemsize: int, arrays: int = 1, resident: int = 2) -> list[Team]:
    """The teams that `choose` chooses from."""
    return [*short(itemsize), large(itemsize, arrays, resident), COLUMNS]


def choose(n: int, inner: int, itemsize: int, arrays: int = 1, resident: int = 2) -> Team:
    """The team for rows of n values, `inner` apart, of one or two arrays that start at multiples of 16 bytes."""
    if inner != 1:
        return COLUMNS
    vec = 16 // itemsize
    longest = n if n % vec == 0 else n + vec - 1  # a row may begin and end inside a pack
    return next((t for t in short(itemsize) if longest <= t.block[0] * t.kept), large(itemsize, arrays, resident))


def ready(x: Array) -> Array:
    """x in one piece that starts at a multiple of 16 bytes, or a copy that does."""
    if not x.flags.c_contiguous:
        return launch.contiguous(x)
    return x if launch.aligned(x) else x.copy()


PIECE = 4088  # values of a long row to a block: the 4096 that it holds in registers, less what a shift costs
# Of the memory's speed a block alone can use what is due to ALONE multiprocessors; what is due to one moves WAIT bytes while a
# launch comes. Guessed, not measured, for an H200: 90 bytes a nanosecond of which 36 are due, and 2 microseconds.
ALONE, WAIT = 2.5, 72_000


def piece_team(itemsize: int) -> Team:
    """The team that holds a piece of a row."""
    return lanes(256, 16, 16 // itemsize)


def pieces(x: Array, rows: int, n: int, passes: tuple[int, int], launches: int = 1) -> int:
    """How many blocks shall share each of so few long rows of x, or 0 if a block to each is as fast.

    passes: how often the bytes of a row move if one block has it, and in pieces, which takes so many launches more.
    """
    row, due = n * x.dtype.itemsize, rows / launch.multiprocessors(x.device.id)
    shared = launches * WAIT + passes[1] * row * due
    return launch.blocks(n, PIECE) if n > PIECE and shared < passes[0] * row / ALONE else 0


MOST_ROWS = 2**31 - 1  # kernels number rows with 32 bits


def grid(t: Team, rows: int) -> int:
    """The number of blocks for so many rows."""
    return launch.blocks(rows, t.rows)


def types() -> list[tuple[str, int]]:
    """The storage types of kernels and their sizes."""
    return [("float", 4), ("double", 8), ("__half", 2), ("__nv_bfloat16", 2)]
