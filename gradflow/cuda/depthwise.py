"""Depthwise convolutions on the card, where a channel out sees one channel in: launchers for kernels/depthwise.cu.

Arrays are in C order, or all channels last where as_it_lies() says so.
"""

from __future__ import annotations

from itertools import product
from math import prod

import numpy as np

from ..backend import Array, need_card
from ..ops.window import Window
from .conv_job import dims
from .launch import aligned, blocks, ctype, launch
from .layout import channels_last, rows

THREADS, TAPS = 256, 9  # TAPS as in kernels/depthwise.cu
COLUMNS, ROWS = (3, 5, 7), 4  # taps that depthwise_column is made for, and results of one of its threads, as there
NARROW = 2**31  # outputs below this many are counted in 32 bits
PART = 4096  # outputs that one block of a weight gradient sums up, at least
BLOCKS = 1024  # of a weight gradient, at most, if the channels do not ask for more
LANES, LINES, ACROSS = 8, 32, 4  # of the kernels for channels last, as there
MOST = 128  # taps of those, whose weights are in shared memory


def instantiations() -> list[str]:
    """Every kernel that the launchers below can ask for."""
    types, kernels = ("float", "double", "__half", "__nv_bfloat16"), ("forward", "input", "weight")
    return [
        *(f"depthwise_column<{t}, {k}, {s}>" for t, k, s in product(types, COLUMNS, (1, 2)) if t != "double"),
        *(f"depthwise_{k}<{t}, {i}>" for k, t, i in product(kernels, types, ("unsigned", "unsigned long long"))),
        *(f"depthwise_{k}<{t}>" for k, t in product(("add_parts", "last", "weight_last"), types)),
    ]


def takes(w: Array, win: Window) -> bool:
    """Whether this is a depthwise convolution; many channels out for one in are a matrix product again."""
    return win.groups > 1 and w.shape[1] == 1 and w.shape[0] <= 8 * win.groups


def as_it_lies(win: Window, *arrays: Array) -> bool:
    """Whether these, an input and an output or gradients of them, lie channels last as the kernels for that take them."""
    channels, chunk = arrays[0].shape[1], 16 // arrays[0].dtype.itemsize
    whole = arrays[0].shape[1] == arrays[1].shape[1] and channels % chunk == 0 and prod(win.kernel) <= MOST
    return whole and all(map(channels_last, arrays)) and aligned(*arrays)


def _last(x: Array, w: Array, b: Array | None, y: Array, win: Window, reverse: bool) -> Array:
    """forward(), or reversed input_gradient(), of channels last."""
    channels, wide = x.shape[1], LANES * 16 // x.dtype.itemsize
    count = y.shape[0] * y.shape[2] * blocks(y.shape[3], ACROSS)
    launch(
        "depthwise", f"depthwise_last<{ctype(x.dtype)}>", (blocks(count, LINES), blocks(channels, wide)), (LANES, LINES),
        rows(x), w, b, rows(y), count, np.int32(channels), reverse, *dims(win), shared=prod(win.kernel) * (LANES + 1) * 16,
    )  # fmt: skip
    return y


def _counter(size: int) -> str:
    return "unsigned" if size < NARROW else "unsigned long long"


def _column(x: Array, w: Array, b: Array | None, y: Array, win: Window, reverse: bool = False) -> bool:
    """Write y, or reversed, where x is g and y dx, by the kernel for K x K taps at stride 1 or 2, if it takes the case."""
    k, stride, type = win.kernel[0], win.stride[0], ctype(x.dtype)
    usual = set(win.kernel) == {k} and k in COLUMNS and set(win.dilation) == {1} and set(win.stride) == {stride}
    if not usual or type == "double" or max(x.size, y.size) >= NARROW:
        return False
    if stride > 2 or (reverse and (stride > 1 or w.shape[0] > y.shape[1])):
        return False
    channels, before = x.shape[1], [k - 1 - p if reverse else p for p in win.before]
    size = prod(y.shape[:2]) * blocks(y.shape[2], ROWS) * y.shape[3]
    counts = [np.int32(v) for v in (size, channels, w.shape[0] // channels)]
    sizes = [np.int32(v) for v in (*x.shape[2:], *y.shape[2:], *before)]
    kernel = f"depthwise_column<{type}, {k}, {stride}>"
    launch("depthwise", kernel, blocks(size, THREADS), THREADS, x, w, b, y, *counts, reverse, *sizes)
    return True


def forward(x: Array, w: Array, b: Array | None, y: Array, win: Window) -> Array:
    """Write y[n, k] = b[k] + x[n, k / m] correlated with w[k] into y, w being (k, 1, kh, kw)."""
    if channels_last(y):
        return _last(x, w, b, y, win, False)
    if _column(x, w, b, y, win):
        return y
    channels = x.shape[1]
    kernel = f"depthwise_forward<{ctype(x.dtype)}, {_counter(y.size)}>"
    counts = (y.size, np.int32(channels), np.int32(w.shape[0] // channels))
    launch("depthwise", kernel, blocks(y.size, THREADS), THREADS, x, w, b, y, *counts, *dims(win))
    return y


def input_gradient(g: Array, w: Array, b: Array | None, dx: Array, win: Window) -> Array:
    """Write b[c] and what every g[n, k] w[k] gives back to its channel c = k / m into dx."""
    if channels_last(dx):
        return _last(g, w, b, dx, win, True)
    if _column(g, w, b, dx, win, reverse=True):
        return dx
    channels = dx.shape[1]
    kernel = f"depthwise_input<{ctype(g.dtype)}, {_counter(dx.size)}>"
    counts = (dx.size, np.int32(channels), np.int32(w.shape[0] // channels))
    launch("depthwise", kernel, blocks(dx.size, THREADS), THREADS, g, w, b, dx, *counts, *dims(win))
    return dx


def weight_gradient(g: Array, x: Array, dw: Array, win: Window) -> Array:
    """Write the correlation of x[n, k / m] with g[n, k], summed over n, into dw."""
    type, outputs = ctype(x.dtype), g.shape[0] * prod(g.shape[2:])
    last = channels_last(x)
    columns = blocks(dw.shape[0], LANES * 16 // x.dtype.itemsize if last else 1) * blocks(prod(dw.shape[2:]), TAPS)
    count = max(1, min(outputs // PART, BLOCKS // columns))
    length = blocks(outputs, count)
    parts = need_card("conv").empty((count, dw.size), np.float64 if type == "double" else np.float32)
    counts = [np.int32(v) for v in (x.shape[0], x.shape[1], dw.shape[0] // x.shape[1])]
    if last:
        kernel, block, g, x = f"depthwise_weight_last<{type}>", (LANES, LINES), rows(g), rows(x)
        launch("depthwise", kernel, (columns, count), block, g, x, parts, length, *counts[:2], *dims(win))
    else:
        kernel = f"depthwise_weight<{type}, {_counter(outputs)}>"
        launch("depthwise", kernel, (columns, count), THREADS, g, x, parts, length, *counts, *dims(win))
    grid = blocks(dw.size, THREADS)
    launch("depthwise", f"depthwise_add_parts<{type}>", grid, THREADS, parts, dw, dw.size, np.int32(count))
    return dw
