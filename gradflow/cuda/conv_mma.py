"""Convolutions by kernels/conv_mma.cu: on the tensor cores in half types and TF32, by ordinary units in true float32.

Arrays that lie channels last, with channels in whole chunks of 16 bytes, are read as they lie, and written too; the weight of
an input gradient is laid out in any case. Of others, if a kernel has more than one tap, the input (and for a weight gradient
g) is copied into that order with its channels filled up to chunks, and the weight; the parts of a weight gradient take PARTS
bytes at most. All of it goes back to the pool as soon as the kernels are launched.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import prod
from typing import NamedTuple

import numpy as np

from ..backend import Array, need_card
from ..ops.window import Window
from .conv_job import SIZES, Job, dims
from .launch import blocks, capability, contiguous, launch
from .layout import rows

STAGES, SLICE = 4, 64  # as in kernels/conv_mma.cuh: slices in shared memory, bytes of k in one
TAPS = 1024  # of a kernel, at most: their table is in shared memory
GATHERED = 32  # positions below which channels are gathered, not turned
PROCESSORS = 132  # of an H200
OUTPUTS = 512  # that a part of a weight gradient sums up, at least
PARTS = 64 << 20
SUMS = 2048  # that a block of conv_mma_add makes
# Guesses for an H200 until one was measured: operations and bytes in a microsecond, microseconds of a launch.
RATE, BYTES, LAUNCH = {"tensor": 400e6, "plain": 40e6}, 3.5e6, 3.0

HALVES = ("__half", "__nv_bfloat16")


class Tile(NamedTuple):
    """Rows and columns of the product that a block makes, its warps across both, blocks on a multiprocessor.

    speed: what part of the largest tile's work a multiprocessor full of these does in a time, guessed from the bytes that
    a warp reads from shared memory for a product: the first to correct by measuring.
    """

    m: int
    n: int
    warps: tuple[int, int]
    blocks: int
    tensor: bool
    speed: float

    @property
    def name(self) -> str:
        """Its C++ type."""
        words = (self.m, self.n, *self.warps, self.blocks, str(self.tensor).lower())
        return f"conv_mma_::Tile<{', '.join(map(str, words))}>"

    @property
    def threads(self) -> int:
        return 32 * prod(self.warps)


TENSOR = (
    Tile(128, 128, (2, 2), 2, True, 1.0),
    Tile(64, 128, (2, 2), 3, True, 0.85),
    Tile(64, 64, (2, 2), 4, True, 0.65),
)
PLAIN = (Tile(128, 128, (2, 4), 1, False, 1.0), Tile(64, 128, (2, 4), 2, False, 0.75))
SEE, PLANES, WEIGHT, WEIGHT_PLANES = "conv_mma_see", "conv_mma_planes", "conv_mma_weight", "conv_mma_weight_planes"
RUNS_K = {SEE: (True, True), PLANES: (True, False), WEIGHT: (False, False), WEIGHT_PLANES: (True, True)}


def instantiations() -> list[str]:
    """Every kernel that the launchers below can ask for."""
    tiles = [(t, tile) for t in (*HALVES, "float") for tile in TENSOR] + [("float", tile) for tile in PLAIN]
    return [
        *(named(kernel, t, tile) for kernel in RUNS_K for t, tile in tiles),
        *(named(kernel, "float", tile, True) for kernel in (SEE, WEIGHT) for tile in TENSOR),
        *(f"conv_mma_{k}<{t}>" for k in ("add", "turn", "gather") for t in (*HALVES, "float")),
    ]


def named(kernel: str, type: str, tile: Tile, round: bool = False) -> str:
    """The C++ name of a kernel. round: whether it rounds to TF32 what is read as it lies; planes are always read so."""
    last = f", {str(round).lower()}" if kernel in (SEE, WEIGHT) else ""
    return f"{kernel}<{type}, {tile.name}{last}>"


def shared(kernel: str, type: str, tile: Tile, taps: int = 0) -> int:
    """Bytes of dynamic shared memory: the slices, lines padded as in kernels/mma_tile.cuh, and a table of taps."""
    size, depth = (2, SLICE // 2) if type in HALVES else (4, SLICE // 4)
    lines = (
        rows * (SLICE + 16) if runs_k else depth * (rows + 8) * size
        for rows, runs_k in zip((tile.m, tile.n), RUNS_K[kernel], strict=True)
    )
    return STAGES * sum(lines) + 16 * taps


# --- variants ---------------------------------------------------------------------------------------------------------


def chunk(type: str) -> int:
    """How many numbers a copy of 16 bytes moves."""
    return 8 if type in HALVES else 4


def takes(job: Job) -> bool:
    """Whether the kernels do this: what they compute in, places that 32 bits count, taps that fit, a card of 8.0."""
    win, most = job.win, 2**31 - 2**20
    places, c, k, taps = max(prod(win.sizes), prod(win.out)), *(blocks(v, 8) * 8 for v in job[3:5]), prod(win.kernel)
    fits = max(places * job.n, places * win.groups * max(c, k), c * k * taps) < most and taps <= TAPS and job.c > 0
    return fits and job.type != "double" and capability() >= (8, 0)


def variants(job: Job, processors: int) -> list[tuple[float, tuple]]:
    """(microseconds, (way, m, n)) of each tile: a guess, of what the busiest multiprocessor does and of bytes moved."""
    win, size, groups = job.win, SIZES[job.type], job.win.groups
    tensor, way = _tensor(job), "planes" if _flat(job) else "see"
    full = chunk(job.type)
    x, w, y = job.bytes
    moved, launches = x + w + y, 1
    if job.what == "weight":
        pitch = blocks(job.c, full) * full * prod(win.kernel)
        count, depth = parts(job.n * prod(win.out), job.k, pitch, groups)
        rows, columns, many = job.k, pitch, count * groups
        moved, launches = moved + 8 * count * groups * job.k * pitch, 2
    else:
        rows, channels = (job.k, job.c) if job.what == "forward" else (job.c, job.k)
        phases = prod(win.stride) if job.what == "input" else 1
        columns = job.n * (prod(win.sizes) // phases if job.what == "input" else prod(win.out))
        depth, many = blocks(channels, full) * full * prod(win.kernel) // phases, groups * phases
    if way == "see":
        sizes = {"forward": (x, w), "input": (y, w), "weight": (y, x)}[job.what]
        anew = [size for i, size in enumerate(sizes) if _laid_out(job, i)]
        moved, launches = moved + 2 * sum(anew), launches + len(anew)
    elif not win.pointwise or job.what == "input":
        launches += 1
    rate = processors / PROCESSORS * (RATE["tensor" if tensor else "plain"] * 2 / size if tensor else RATE["plain"])
    found = []
    for t in TENSOR if tensor else PLAIN:
        busiest = blocks(blocks(rows, t.m) * blocks(columns, t.n) * many, processors)
        product = 2 * t.m * t.n * depth * busiest * processors / (rate * t.speed)
        times = product, moved / BYTES
        found.append((max(times) + 0.2 * min(times) + LAUNCH * launches, (way, t.m, t.n)))  # they overlap, but for a part
    return found


def _tensor(job: Job) -> bool:
    return job.type != "float" or job.tf32


def _tile(job: Job, m: int, n: int) -> Tile:
    return next(t for t in (TENSOR if _tensor(job) else PLAIN) if (t.m, t.n) == (m, n))


def _operand(job: Job, i: int) -> tuple[int, int, int]:
    """(batch, channels, positions) of the first or second array as its memory lies, channels to be made neighbours."""
    win, n, groups = job.win, job.n, job.win.groups
    if i == 1 and job.what == "input":
        return groups, job.k, job.c * prod(win.kernel)
    if i == 1 and job.what == "forward":
        batch, channels, positions = groups * job.k, job.c, prod(win.kernel)
    elif i == 1 or job.what == "forward":
        batch, channels, positions = n * groups, job.c, prod(win.sizes)
    else:
        batch, channels, positions = n * groups, job.k, prod(win.out)
    return (batch * positions, channels, 1) if job.last[i] else (batch, channels, positions)


def _fits(job: Job, i: int) -> bool:
    """Whether `see` can read the first or second array as it lies."""
    _, channels, positions = _operand(job, i)
    return positions == 1 and channels % chunk(job.type) == 0 and job.aligned


def _rounds(job: Job) -> bool:
    """Whether `see` rounds to TF32 what it reads, each time: it is so if what is large comes as it lies."""
    return job.tf32 and (_fits(job, 0) or (job.what == "weight" and _fits(job, 1)))


def _laid_out(job: Job, i: int) -> bool:
    """Whether `see` has the first or second array laid out anew."""
    return not _fits(job, i) or (job.tf32 and not _rounds(job))


def _flat(job: Job) -> bool:
    """Whether planes of channels can be read as they lie: one tap, in half chunks; strided ones once they are sampled."""
    win = job.win
    if any(job.last) or not job.aligned or prod(win.out) % (chunk(job.type) // 2):
        return False
    return win.pointwise or (job.what != "input" and set(win.kernel) == {1} and not any(win.before))


# --- plans ------------------------------------------------------------------------------------------------------------
# What is launched for a job is worked out once; a plan then takes the arrays alone.


def run(variant: tuple, job: Job, arrays: tuple[Array, ...]) -> None:
    """Do a job by one of its variants."""
    first, second, out = (rows(a) if last else a for a, last in zip((*arrays[:2], arrays[-1]), job.last, strict=True))
    plan(variant, job)(first, second, *arrays[2:-1], out)


@lru_cache(maxsize=4096)
def plan(variant: tuple, job: Job) -> Callable[..., None]:
    """What does a job by one of its variants, given its arrays as their memory lies, in C order."""
    way, tile = variant[0], _tile(job, *variant[1:])
    if job.what == "weight":
        return _weight(way, tile, job)
    return _see(tile, job) if way == "see" else _planes(tile, job)


def _laid(job: Job, i: int, round: bool = False) -> Callable[[Array], Array]:
    """What lays the first or second array, (batch, channels, positions), out as (batch, positions, chunks of 16 bytes),
    rounded to TF32 if so; or leaves it, if it is so and not to be rounded.
    """
    size, type, (batch, channels, positions) = chunk(job.type), job.type, _operand(job, i)
    if _fits(job, i) and not round:
        return lambda x: x
    chunks = blocks(channels, size)
    shape, sizes = (batch, positions, chunks * size), _ints(channels, chunks, positions)
    if positions < GATHERED:
        count = batch * positions * chunks
        kernel, grid, rest = f"conv_mma_gather<{type}>", (blocks(count, 256),), (count, *sizes, round)
    else:
        kernel, grid = f"conv_mma_turn<{type}>", (batch * blocks(positions, 8 * size), blocks(chunks, 8))
        rest = (*sizes, positions % size == 0 and job.aligned, round)

    def lay(x: Array) -> Array:
        out = need_card("conv").empty(shape, x.dtype)
        launch("conv_mma", kernel, grid, 256, x, out, *rest)
        return out

    return lay


def _ints(*values: int) -> tuple[np.int32, ...]:
    return tuple(np.int32(v) for v in values)


def _sampled(win: Window) -> Callable[[Array], Array]:
    """What picks the inputs that a kernel of one tap sees."""
    if win.pointwise:
        return lambda x: x
    seen = [slice(0, (o - 1) * s + 1, s) for o, s in zip(win.out, win.stride, strict=True)]
    return lambda x: contiguous(x[(slice(None), slice(None), *seen)])


def _see(tile: Tile, job: Job) -> Callable[..., None]:
    """y = activation(b + w times what its taps see of the source); for an input gradient, what they give back."""
    win, type, reverse = job.win, job.type, job.what == "input"
    rows, channels = (job.c, job.k) if reverse else (job.k, job.c)
    phases, places = 1, prod(win.out)
    if reverse:
        phases = prod(win.stride)
        places = prod(blocks(size, s) for size, s in zip(win.sizes, win.stride, strict=True))
    run = rows % chunk(type) == 0 if job.last[2] else phases == 1 and places % chunk(type) == 0
    length = blocks(channels, chunk(type)) * chunk(type)
    w_pitch = length * (1 if reverse and job.last[1] else prod(win.kernel))  # an input gradient's keeps its order as it is laid out
    sizes = _ints(job.n, rows, length // chunk(type), job.activation, length * (win.groups if job.last[0] else 1), w_pitch)
    kernel, rest = named(SEE, type, tile, _rounds(job)), (*sizes, job.last[2], reverse, run and job.aligned, *dims(win, 3))
    grid = (blocks(rows, tile.m) * blocks(job.n * places, tile.n), win.groups, phases)
    threads, bytes = tile.threads, shared(SEE, type, tile, prod(win.kernel))
    round = job.tf32 and not _rounds(job)
    of_w, of_x = _laid(job, 1, round), _laid(job, 0, round)

    def go(source: Array, w: Array, b: Array | None, y: Array) -> None:
        launch("conv_mma", kernel, grid, threads, of_x(source), of_w(w), b, y, *rest, shared=bytes)

    return go


def _planes(tile: Tile, job: Job) -> Callable[..., None]:
    """_see() with one tap and half chunks of positions."""
    type, groups, plane = job.type, job.win.groups, prod(job.win.out)
    rows, channels = (job.c, job.k) if job.what == "input" else (job.k, job.c)
    kernel, threads, bytes = named(PLANES, type, tile), tile.threads, shared(PLANES, type, tile)
    grid = (blocks(rows, tile.m) * blocks(job.n * plane, tile.n), groups)
    sizes = _ints(job.n, rows, channels, blocks(channels, chunk(type)), job.activation, plane)
    of_w, of_x = _laid(job, 1), _sampled(job.win)

    def go(source: Array, w: Array, b: Array | None, y: Array) -> None:
        launch("conv_mma", kernel, grid, threads, of_x(source), of_w(w), b, y, *sizes, shared=bytes)

    return go


@lru_cache(maxsize=1024)
def parts(outputs: int, rows: int, pitch: int, groups: int) -> tuple[int, int]:
    """(how many parts a weight gradient's sums over so many outputs have, outputs of one): as many as leave few of an
    H200's multiprocessors without a last block, against the bytes of a part. The same for every tile and card, so that
    results are.
    """
    tiles = blocks(rows, 64 if rows <= 64 else 128) * blocks(pitch, 128) * groups
    size = rows * groups * pitch

    def time(count: int) -> float:
        """Microseconds on tensor cores."""
        last = blocks(tiles * count, PROCESSORS) * PROCESSORS / count  # tiles' worth of time, of all outputs
        return last * 2 * 128 * 128 * outputs / RATE["tensor"] + 8 * size * count / BYTES

    most = max(1, min(outputs // OUTPUTS, PARTS // (4 * size), 4 * PROCESSORS))
    length = blocks(blocks(outputs, min(range(1, most + 1), key=time)), 32) * 32
    return blocks(outputs, length), length


def _weight(way: str, tile: Tile, job: Job) -> Callable[..., None]:
    """dw = the sum over n and outputs of g times what the taps see of x."""
    win, type, n, groups = job.win, job.type, job.n, job.win.groups
    rows, taps, outputs = job.k * groups, prod(win.kernel), prod(win.out)
    chunks, g_chunks = blocks(job.c, chunk(type)), blocks(job.k, chunk(type))
    pitch = taps * chunks * chunk(type)
    count, length = parts(n * outputs, job.k, pitch, groups)
    if way == "planes":
        kernel, sizes, of_g, of_x = WEIGHT_PLANES, _ints(length, n, job.k, job.c, pitch, outputs), None, _sampled(win)
    else:
        pitches = [c * chunk(type) * (groups if last else 1) for c, last in zip((g_chunks, chunks), job.last[:2], strict=True)]
        kernel, sizes = WEIGHT, (*_ints(length, n, job.k, g_chunks, chunks, *pitches), *dims(win, 3))
        round = job.tf32 and not _rounds(job)
        of_g, of_x = _laid(job, 0, round), _laid(job, 1, round)
    name, add, threads = named(kernel, type, tile, _rounds(job)), f"conv_mma_add<{type}>", tile.threads
    grid, bytes = (blocks(job.k, tile.m) * blocks(pitch, tile.n), groups, count), shared(kernel, type, tile)
    some = max(1, min(job.c, SUMS // taps))
    add_sizes = (np.int32(count), rows * pitch, *_ints(job.c, taps, pitch // taps, some), job.last[2])
    add_grid = rows * blocks(job.c, some)

    def go(g: Array, x: Array, dw: Array) -> None:
        part = need_card("conv").empty((count, rows, pitch), np.float32)
        launch("conv_mma", name, grid, threads, of_g(g) if of_g else g, of_x(x), part, *sizes, shared=bytes)
        launch("conv_mma", add, add_grid, 256, part, dw, *add_sizes, shared=4 * some * taps)

    return go
