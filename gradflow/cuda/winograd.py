"""Convolutions of 3 x 3 taps at stride 1 in true float32 by kernels/winograd.cu, forward and input gradients.

In between stand, besides the weight's 16/9, WORKSPACE bytes or what one image takes: 16 numbers for each 2 x 2 of both
sides. They go back to the pool as soon as the kernels are launched.
"""

from __future__ import annotations

from math import prod

import numpy as np

from ..backend import Array, need_card
from . import conv_mma
from .conv_job import Job
from .launch import blocks, launch

WORKSPACE = 96 << 20  # much of it stays in the second-level cache of an H200, 60 MB
LEAST = 16  # channels on both sides, below which what stands in between outweighs the products


def instantiations() -> list[str]:
    """Every kernel of kernels/winograd.cu."""
    return ["winograd_weights", "winograd_inputs", "winograd_outputs"]


def takes(job: Job) -> bool:
    """Whether this is such a convolution."""
    win = job.win
    usual = win.kernel[-2:] == (3, 3) and {*win.stride, *win.dilation} == {1} and win.groups == 1
    return usual and len(win.kernel) == 2 and job.type == "float" and not job.tf32 and job.what != "weight"


def _sides(job: Job) -> tuple[int, int, tuple[int, ...], tuple[int, ...]]:
    """(channels, rows, sizes of what is read, of what is written)."""
    win = job.win
    return (job.c, job.k, win.sizes, win.out) if job.what == "forward" else (job.k, job.c, win.out, win.sizes)


def _images(job: Job) -> int:
    """How many at a time: nearly the same number each time."""
    channels, rows, _, sizes = _sides(job)
    most = max(1, WORKSPACE // (64 * (channels + rows) * prod(blocks(s, 2) for s in sizes)))
    return blocks(job.n, blocks(job.n, most))


def variants(job: Job, processors: int) -> list[tuple[float, tuple]]:
    """(microseconds, ("winograd", m, n)) of each tile: a guess."""
    channels, rows, _, sizes = _sides(job)
    if min(channels, rows) < LEAST:
        return []
    images, found = _images(job), []
    tiles = images * prod(blocks(s, 2) for s in sizes)
    for t in conv_mma.PLAIN:
        busiest = blocks(16 * blocks(rows, t.m) * blocks(tiles, t.n), processors)
        rate = conv_mma.RATE["plain"] / conv_mma.PROCESSORS * t.speed
        product = busiest * 2 * t.m * t.n * channels / rate
        between = 2 * 64 * (channels + rows) * tiles / (1.5 * conv_mma.BYTES)  # some of it in the cache
        moved = sum(job.bytes) / conv_mma.BYTES
        each = product + between + 3 * conv_mma.LAUNCH
        found.append((blocks(job.n, images) * each + moved + conv_mma.LAUNCH, ("winograd", t.m, t.n)))
    return found


def run(variant: tuple, job: Job, arrays: tuple[Array, ...]) -> None:
    """Do a job."""
    source, w, b, y = arrays
    reverse, win, cp = job.what == "input", job.win, need_card("conv")
    channels, rows, seen, sizes = _sides(job)
    before = [2 - v if reverse else v for v in win.before]
    tile = next(t for t in conv_mma.PLAIN if (t.m, t.n) == variant[1:])
    pitch, images, (down, across) = blocks(channels, 4) * 4, _images(job), (blocks(s, 2) for s in sizes)

    def ints(*values: int) -> list[np.int32]:
        return [np.int32(v) for v in values]

    u = cp.empty((16, rows, pitch), np.float32)
    counts = ints(rows, channels, pitch)
    launch("winograd", "winograd_weights", blocks(rows * pitch, 256), 256, w, u, *counts, reverse)
    most = blocks(images * down * across, 4) * 4
    v, m = cp.empty(16 * channels * most, np.float32), cp.empty(16 * rows * most, np.float32)
    for first in range(0, job.n, images):
        some = min(images, job.n - first)
        tiles = blocks(some * down * across, 4) * 4
        x, z = source[first : first + some], y[first : first + some]
        counts = ints(some, channels, *seen, down, across, *before, tiles)
        launch("winograd", "winograd_inputs", blocks(channels * tiles, 256), 256, x, v, *counts)
        launch(
            "conv_mma", f"conv_mma_planes<float, {tile.name}>", (blocks(rows, tile.m) * blocks(tiles, tile.n), 16),
            tile.threads, v, u, None, m, *ints(1, rows, channels, pitch // 4, 0, tiles),
            shared=conv_mma.shared(conv_mma.PLANES, "float", tile),
        )  # fmt: skip
        counts = ints(some, rows, *sizes, down, across, tiles, job.activation)
        launch("winograd", "winograd_outputs", blocks(rows * some * down * across, 256), 256, m, b, z, *counts)
