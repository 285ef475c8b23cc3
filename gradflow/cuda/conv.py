"""Convolutions on the card: the twins of gradflow/ops/conv.py.

Ways to do one, of which the tuner, or before it a guess of their times, takes the fastest: `see` and `planes` of conv_mma.py
in their tiles, on the tensor cores but for true float32, which has `winograd` of winograd.py too; `direct`, by kernels/conv.cu
and, in three dims, kernels/conv3d.cu, for every type and card in one launch; those of a library. Depthwise convolutions have
kernels of their own.

As in PyTorch the output is channels last if the input or the weight is, in two and three dims, and an input gradient if one
of those is; a weight gradient lies as the weight. `see`, libraries and, of whole chunks, the depthwise kernels read and write
that order as it lies; for the others arrays are copied into C order and back, which the guess counts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import product
from math import prod
from operator import itemgetter
from typing import Any

import numpy as np

from ..backend import Array, need_card, on_card
from ..ops.conv import ACTIVATIONS, batched, check_activation, check_arrays, check_gradient, lies_last, like
from ..ops.window import Window, transposed, window
from . import conv_mma, cudnn, depthwise, precision, tune, winograd
from .conv_job import Job, dims
from .launch import aligned, blocks, contiguous, ctype, launch, multiprocessors
from .layout import channels_last, empty, planes, rows

TYPES = ("float", "double", "__half", "__nv_bfloat16")
LARGE, MEDIUM, SMALL = "128, 128, 8, 8, 8", "64, 64, 8, 4, 4", "32, 128, 8, 4, 4"  # m, n, k, a thread's m and n
THREADS = 256  # of every tile
WAVE = 128  # blocks that keep a card busy: a fixed number, so that a result is the same on every card
LAUNCH, DIRECT = 3.0, 15e6  # guesses: microseconds of a launch; operations of the direct kernels in one
PART = 2048  # outputs that one block of a weight gradient sums up, at least


# What else can do a job, cuDNN say: objects with variants(job) -> [("its name", ...), ...], tried after our own, and
# run(variant, job, arrays).
libraries: list[Any] = [cudnn]


def instantiations() -> list[str]:
    """Every kernel of kernels/conv.cu that the launchers below can ask for."""
    tiles = [(t, _tile(s)) for t, s in product(TYPES, (LARGE, MEDIUM, SMALL)) if (t, s) != ("double", LARGE)]
    kernels = ("conv_forward", "conv_input", "conv_weight")
    return [*(f"{k}<{t}, {s}>" for k, (t, s) in product(kernels, tiles)), *(f"conv_add_parts<{t}>" for t in TYPES)]


def _family(win: Window) -> str:
    """The file that has the direct kernels for this many dims; they are named after it."""
    return "conv" if len(win.sizes) == 2 else "conv3d"


def _tile(sizes: str) -> str:
    return f"conv_::Tile<{sizes}>"


def _fitting(rows: int, columns: int, groups: int, type: str) -> tuple[str, int, int]:
    """(tile, its rows, its columns) for a product of this size: the largest that leaves enough blocks."""
    if rows <= 32:
        sizes = SMALL
    elif type == "double" or rows <= 64 or blocks(rows, 128) * blocks(columns, 128) * groups < WAVE:
        sizes = MEDIUM
    else:
        sizes = LARGE
    m, n, *_ = map(int, sizes.split(", "))
    return _tile(sizes), m, n


# --- ways to do a job -------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def variants(job: Job, processors: int) -> list[tuple]:
    """The ways there are to do a job on a card of so many multiprocessors, the fastest first by a guess."""
    plain = [(LAUNCH + job.operations / DIRECT, ("direct",))]
    if conv_mma.takes(job) and winograd.takes(job):
        plain += winograd.variants(job, processors)
    copies = sum(LAUNCH + 2 * size / conv_mma.BYTES for size in job.turned)
    found = [(time + copies, v) for time, v in plain]
    if conv_mma.takes(job):
        found += conv_mma.variants(job, processors)
    return [v for _, v in sorted(found, key=itemgetter(0))]


def _do(job: Job, arrays: tuple[Array | None, ...]) -> Array:
    """Do a job by one of its variants; the last of the arrays is what it writes."""
    found = variants(job, multiprocessors())
    for library in libraries:
        found = [*found, *library.variants(job)]

    def run(variant: tuple) -> None:
        how = variant[0]
        if how in ("see", "planes"):
            conv_mma.run(variant, job, arrays)
        elif how == "direct":
            _in_c_order(lambda *plain: _DIRECT[job.what](job, *plain), arrays)
        elif how == "winograd":
            _in_c_order(lambda *plain: winograd.run(variant, job, plain), arrays)
        else:
            next(u for u in libraries if variant in u.variants(job)).run(variant, job, arrays)

    run(tune.choose("conv_mma", job, found, run) if len(found) > 1 else found[0])
    return arrays[-1]


def _in_c_order(do: Callable[..., Any], arrays: tuple[Array | None, ...]) -> Array:
    """Let do(*arrays), which writes the last, have them in C order."""
    *given, out = arrays
    result = need_card("conv").empty(out.shape, out.dtype) if channels_last(out) else out
    do(*(None if a is None else contiguous(a) for a in given), result)
    if result is not out:
        out[...] = result
    return out


def _depthwise(do: Callable[..., Any], arrays: tuple[Array | None, ...], win: Window) -> Array:
    """Let do(*arrays) do a depthwise job, with arrays as they lie or in C order."""
    large = (arrays[0], arrays[1] if len(arrays) == 3 else arrays[-1])
    return do(*arrays) if depthwise.as_it_lies(win, *large) else _in_c_order(do, arrays)


def _without_gaps(x: Array) -> Array:
    """x, or a copy of it in C order or, if x lies so but for gaps, channels last."""
    return planes(contiguous(rows(x))) if lies_last(x) else contiguous(x)


def _job(what: str, type: str, n: int, c: int, k: int, win: Window, arrays: tuple, activation: int = 0) -> Job:
    near = aligned(*(a for a in arrays if a is not None))
    bias = what != "weight" and arrays[2] is not None
    last = channels_last(arrays[0]), channels_last(arrays[1]), channels_last(arrays[-1])
    return Job(what, type, n, c, k, win, activation, bias, type == "float" and precision.conv_tf32(), near, last)


def _activate(y: Array, activation: int) -> Array:
    """Put y through an activation, in place."""
    if activation:
        y[...] = [*ACTIVATIONS.values()][activation - 1].function(y)
    return y


def _forward(x: Array, w: Array, b: Array | None, win: Window, last: bool, activation: int = 0) -> Array:
    """x (n, c, h, w), w (k, c / groups, kh, kw) -> y (n, k, oh, ow), or all with a dim more; channels last if `last`."""
    n, k, cg = x.shape[0], *w.shape[:2]
    y = empty((n, k, *win.out), x.dtype, last)
    if not y.size:
        return y
    arrays = (_without_gaps(x), _without_gaps(w), None if b is None else contiguous(b), y)
    if len(win.sizes) == 2 and depthwise.takes(w, win):
        return _depthwise(lambda *some: _activate(depthwise.forward(*some, win), activation), arrays, win)
    return _do(_job("forward", ctype(x.dtype), n, cg, k // win.groups, win, arrays, activation), arrays)


def _input(g: Array, w: Array, b: Array | None, win: Window, last: bool) -> Array:
    """g (n, k, oh, ow), w (k, c / groups, kh, kw) -> dx (n, c, h, w), plus b (c,)."""
    n, k, cg = g.shape[0], *w.shape[:2]
    dx = empty((n, cg * win.groups, *win.sizes), g.dtype, last)
    if not dx.size:
        return dx
    arrays = (_without_gaps(g), _without_gaps(w), None if b is None else contiguous(b), dx)
    if len(win.sizes) == 2 and depthwise.takes(w, win):
        return _depthwise(lambda *some: depthwise.input_gradient(*some, win), arrays, win)
    return _do(_job("input", ctype(g.dtype), n, cg, k // win.groups, win, arrays), arrays)


def _weight(g: Array, x: Array, win: Window, last: bool) -> Array:
    """g (n, k, oh, ow), x (n, c, h, w) -> dw (k, c / groups, kh, kw)."""
    n, k, cg = x.shape[0], g.shape[1], x.shape[1] // win.groups
    dw = empty((k, cg, *win.kernel), x.dtype, last)
    if n * prod(win.out) == 0:
        dw[...] = 0
    if not dw.size or not g.size:
        return dw
    arrays = (_without_gaps(g), _without_gaps(x), dw)
    if len(win.sizes) == 2 and depthwise.takes(dw, win):
        return _depthwise(lambda *some: depthwise.weight_gradient(*some, win), arrays, win)
    return _do(_job("weight", ctype(x.dtype), n, cg, k // win.groups, win, arrays), arrays)


# --- the direct kernels -----------------------------------------------------------------------------------------------


def _direct_forward(job: Job, x: Array, w: Array, b: Array | None, y: Array) -> None:
    win, columns_all = job.win, job.n * prod(job.win.out)
    tile, rows, columns = _fitting(job.k, columns_all, win.groups, job.type)
    grid = (blocks(job.k, rows) * blocks(columns_all, columns), win.groups)
    counts = [np.int32(v) for v in (job.n, job.c, job.k)]
    launch(_family(win), f"{_family(win)}_forward<{job.type}, {tile}>", grid, THREADS, x, w, b, y, *counts, *dims(win))
    _activate(y, job.activation)


def _direct_input(job: Job, g: Array, w: Array, b: Array | None, dx: Array) -> None:
    win = job.win
    phase = job.n * prod(blocks(size, s) for size, s in zip(win.sizes, win.stride, strict=True))  # inputs of the largest
    tile, rows, columns = _fitting(job.c, phase, win.groups * prod(win.stride), job.type)
    grid = (blocks(job.c, rows) * blocks(phase, columns), win.groups, prod(win.stride))
    counts = [np.int32(v) for v in (job.n, job.c, job.k)]
    launch(_family(win), f"{_family(win)}_input<{job.type}, {tile}>", grid, THREADS, g, w, b, dx, *counts, *dims(win))


def _direct_weight(job: Job, g: Array, x: Array, dw: Array) -> None:
    win, outputs, size = job.win, job.n * prod(job.win.out), job.c * prod(job.win.kernel)
    tile, rows, columns = _fitting(job.k, size, WAVE, job.type)
    tiles = blocks(job.k, rows) * blocks(size, columns)
    count = max(1, min(outputs // PART, 4 * WAVE // (tiles * win.groups)))
    length = blocks(blocks(outputs, count), 8) * 8
    count = blocks(outputs, length)
    wide = np.float64 if job.type == "double" else np.float32
    parts = need_card("conv").empty((count, dw.size), wide) if count > 1 else None
    counts = [np.int32(v) for v in (job.n, job.c, job.k)]
    grid, kernel = (tiles, win.groups, count), f"{_family(win)}_weight<{job.type}, {tile}>"
    launch(_family(win), kernel, grid, THREADS, g, x, parts, dw, length, *counts, *dims(win))
    if parts is not None:
        add = f"conv_add_parts<{job.type}>"
        launch("conv", add, blocks(dw.size, 256), 256, parts, dw, dw.size, np.int32(count))


_DIRECT = {"forward": _direct_forward, "input": _direct_input, "weight": _direct_weight}


# --- the twins --------------------------------------------------------------------------------------------------------


def _refused(name: str, win: Window, *arrays: Array | None) -> bool:
    """Whether the kernels cannot do this: another dtype, or an image whose places pass 32 bits."""
    there = [a for a in arrays if a is not None]
    if not all(on_card(a) for a in there):
        raise RuntimeError(f"{name}: wanted all tensors on one device, saw the card and the CPU")
    images = [prod(a.shape[-len(win.sizes) - 1 :]) for a in there]
    return (
        there[0].dtype.name not in ("float32", "float64", "float16", "bfloat16")
        or max(images) >= 2**31
        or max(win.groups, prod(win.stride)) > 65535
    )


def _flat(win: Window) -> Window:
    """A window of one dim as one of two."""
    if len(win.sizes) > 1:
        return win
    ones = {"sizes": 1, "kernel": 1, "out": 1, "stride": 1, "before": 0, "dilation": 1}
    return win._replace(**{field: (v, *getattr(win, field)) for field, v in ones.items()})


def _image(x: Array) -> Array:
    """x with two spatial dims at least."""
    return x if x.ndim > 3 else x[:, :, None]


def _result(y: Array, rank: int, batch: tuple[int, ...]) -> Array:
    return like(y if rank > 1 else y[:, :, 0], batch)


def _twins(rank: int) -> tuple[Any, ...]:
    name, input_name, weight_name = f"conv{rank}d", f"conv{rank}d_input", f"conv{rank}d_weight"
    transpose_name, lead = f"conv_transpose{rank}d", -rank - 1

    def forward(x, w, b=None, stride=1, padding=0, dilation=1, groups=1, activation=0):
        win = window(name, rank, x.shape, w.shape, stride, padding, dilation, groups)
        check_arrays(name, x, w, b, w.shape[0])
        if _refused(name, win, x, w, b):
            return NotImplemented
        batch, x = x.shape[:lead], batched(x, rank)
        y = _forward(_image(x), _image(w), b, _flat(win), lies_last(x) or lies_last(w), activation)
        return _result(y, rank, batch)

    def activated(x, w, b=None, activation="relu", stride=1, padding=0, dilation=1, groups=1):
        check_activation(f"{name}_activation", activation, x)
        return forward(x, w, b, stride, padding, dilation, groups, 1 + [*ACTIVATIONS].index(activation))

    def input_gradient(g, w, x_shape, stride=1, padding=0, dilation=1, groups=1, last=None):
        win = window(input_name, rank, x_shape, w.shape, stride, padding, dilation, groups)
        check_arrays(input_name, g, w)
        check_gradient(input_name, g, x_shape[:lead], w.shape[0], win)
        if _refused(input_name, win, g, w):
            return NotImplemented
        g = batched(g, rank)
        last = lies_last(w) or (lies_last(g) if last is None else last)
        return _result(_input(_image(g), _image(w), None, _flat(win), last), rank, x_shape[:lead])

    def weight_gradient(g, x, w_shape, stride=1, padding=0, dilation=1, groups=1, last=False):
        win = window(weight_name, rank, x.shape, w_shape, stride, padding, dilation, groups)
        check_arrays(weight_name, g, x)
        check_gradient(weight_name, g, x.shape[:lead], w_shape[0], win)
        if _refused(weight_name, win, g, x):
            return NotImplemented
        dw = _weight(_image(batched(g, rank)), _image(batched(x, rank)), _flat(win), last)
        return dw if rank > 1 else dw[:, :, 0]

    def reverse(x, w, b=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
        shape, around = transposed(
            transpose_name, rank, x.shape, w.shape, stride, padding, output_padding, dilation, groups
        )
        check_arrays(transpose_name, x, w, b, shape[lead])
        win = window(transpose_name, rank, shape, w.shape, stride, around, dilation, groups)
        if _refused(transpose_name, win, x, w, b):
            return NotImplemented
        x = batched(x, rank)
        y = _input(_image(x), _image(w), b, _flat(win), lies_last(x) or lies_last(w))
        return _result(y, rank, shape[:lead])

    return forward, input_gradient, weight_gradient, reverse, activated


conv1d, conv1d_input, conv1d_weight, conv_transpose1d, conv1d_activation = _twins(1)
conv2d, conv2d_input, conv2d_weight, conv_transpose2d, conv2d_activation = _twins(2)
conv3d, conv3d_input, conv3d_weight, conv_transpose3d, conv3d_activation = _twins(3)
