"""Correlation of a batch with a bank of kernels, for any number of spatial dims: the NumPy code behind convolutions.

The batch is laid out with its images innermost, (c, h, w, n), so that what a tap sees is a few long runs in memory.
The windows of some rows are copied out into a (c kh kw, oh ow n) buffer that stays in cache; a matrix product follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import product
from math import prod
from threading import local
from typing import Any, NamedTuple

import numpy as np

from ..backend import Array, namespace
from . import layout
from .reduce import wide
from .window import Window

BUFFER = 1 << 19  # elements in the buffer of windows
IMAGES = 16  # images laid side by side: longer runs gain nothing more, and the transposition gets slower
ON_CARD = 64  # times as much at once where no cache is to be kept to and every step is a launch


def correlate(x: Array, w: Array, b: Array | None, win: Window, last: bool = False) -> Array:
    """y[n, k, o] = b[k] + sum over c and taps t of x[n, c, o * stride - before + t * dilation] w[k, c, t], channels last
    if `last`.
    """
    xp, (n, c), k, g = namespace(x), x.shape[:2], w.shape[0], win.groups
    wm = xp.ascontiguousarray(_wide(w)).reshape(g, k // g, prod(w.shape[1:]))  # BLAS takes no negative strides
    if win.pointwise and prod(win.out) >= IMAGES:
        if last and g == 1:
            z = layout.planes(xp.matmul(layout.rows(_wide(x)).reshape(-1, c), wm[0].T).reshape(n, *win.out, k))
        else:
            z = xp.matmul(wm, _wide(x).reshape(n, g, c // g, prod(win.out))).reshape(n, k, *win.out)
        z = (z if b is None else z + b.reshape(-1, *[1] * len(win.out))).astype(x.dtype, copy=False)
        return _ordered(xp, z, last)
    y = _new(xp.empty, (n, k, *win.out), x.dtype, last)
    bias = None if b is None else _wide(b).reshape(g, -1, 1)
    for images, rows, cols in _columns(x, win):
        z = xp.matmul(wm, cols, out=_room(xp, "product", (*wm.shape[:2], cols.shape[2]), cols.dtype))
        if bias is not None:
            z += bias
        part = y[images, :, rows]
        part[...] = _images_first(z.reshape(k, *part.shape[2:], part.shape[0]))
    return y


def correlate_input(dy: Array, w: Array, win: Window, last: bool = False) -> Array:
    """The gradient of correlate's input: dx[n, c, o * stride - before + t * dilation] gets dy[n, k, o] w[k, c, t]."""
    xp, n, (k, cg), g = namespace(dy), dy.shape[0], w.shape[:2], win.groups
    c = cg * g
    if win.pointwise or (set(win.stride) == {1} and k <= 2 * c and w.size <= dy.size):
        # Each input sees the outputs through the reversed window. That copies k and turns w: if these are large,
        # adding up c is cheaper.
        return correlate(dy, _turned(w, win), None, win.turned(), last)
    if set(win.stride) != {1} and k <= 2 * c and w.size <= dy.size and dy.size:
        return _by_phases(dy, _turned(w, win), win, last)
    dx = _new(xp.zeros, (n, c, *win.sizes), dy.dtype, last)
    if not dx.size:
        return dx
    wm = _wide(w).reshape(g, k // g, prod(w.shape[1:])).swapaxes(1, 2)
    todo = _schedule(dy, c, win)
    for images in todo.images:
        laid = _room(xp, "layout", (c, *todo.span, images.stop - images.start), wm.dtype)
        laid[...] = 0
        for rows in todo.rows:
            part = _images_last(dy[images, :, rows], wm.dtype)
            counts = part.shape[1:]
            part = part.reshape(g, k // g, -1)
            cols = _room(xp, "windows", (*wm.shape[:2], part.shape[2]), wm.dtype)
            (xp.multiply if k == g else xp.matmul)(wm, part, out=cols)
            cols = cols.reshape(c, *win.kernel, *counts)
            for tap, seen in taps_seen(win, rows.start, counts[:-1]):
                laid[seen] += cols[tap]
        dx[(images, *todo.here)] = _images_first(laid[todo.there])
    return dx


def _turned(w: Array, win: Window) -> Array:
    """w with its channels exchanged and its taps in reverse."""
    g, (k, cg) = win.groups, w.shape[:2]
    flip = (slice(None), slice(None), slice(None), *[slice(None, None, -1)] * len(win.kernel))
    return w.reshape(g, k // g, *w.shape[1:]).swapaxes(1, 2)[flip].reshape(cg * g, k // g, *win.kernel)


def _by_phases(dy: Array, turned: Array, win: Window, last: bool) -> Array:
    """correlate_input with strides: inputs phase, phase + stride, ... see the outputs through every few taps alone."""
    xp, c = namespace(dy), turned.shape[0]
    dx = _new(xp.zeros, (dy.shape[0], c, *win.sizes), dy.dtype, last)
    for places, taps, part in _phases(win):
        dx[(slice(None), slice(None), *places)] = correlate(dy, turned[(slice(None), slice(None), *taps)], None, part)
    return dx


@lru_cache(maxsize=1024)
def _phases(win: Window) -> list[tuple[tuple[slice, ...], tuple[slice, ...], Window]]:
    """(inputs of a phase, the taps in reverse that see them, the window through which they see the outputs)."""
    axes = []
    for size, count, stride, before, dilation in zip(
        win.sizes, win.kernel, win.stride, win.before, win.dilation, strict=True
    ):
        found = []
        for phase in range(min(stride, size)):
            taps = [t for t in range(count) if (phase + before - t * dilation) % stride == 0]
            if taps:
                every = taps[1] - taps[0] if len(taps) > 1 else 1
                step = every * dilation // stride if len(taps) > 1 else 1
                first = (taps[-1] * dilation - phase - before) // stride
                chosen = slice(count - 1 - taps[-1], count - taps[0], every)
                positions = -(-(size - phase) // stride)
                found.append((slice(phase, None, stride), chosen, len(taps), positions, first, step))
        axes.append(found)
    parts = []
    for chosen in product(*axes):
        places, taps, counts, positions, before, steps = zip(*chosen, strict=True)
        ones = (1,) * len(counts)
        parts.append((places, taps, Window(win.out, counts, positions, ones, before, steps, win.groups)))
    return parts


def correlate_weight(dy: Array, x: Array, win: Window, last: bool = False) -> Array:
    """The gradient of correlate's weight: sum over n, o of dy[n, k, o] x[n, c, o * stride - before + t * dilation]."""
    xp, (n, c), k, g, plane = namespace(x), x.shape[:2], dy.shape[1], win.groups, prod(win.out)
    dw = xp.zeros((g, k // g, c // g * prod(win.kernel)), wide(x.dtype))
    if win.pointwise and plane >= IMAGES:  # image by image, with nothing to lay out
        for images in _slices(n, max(1, BUFFER // max(1, dw.size))):
            a, b = _wide(dy[images]).reshape(-1, g, k // g, plane), _wide(x[images]).reshape(-1, g, c // g, plane)
            dw += xp.matmul(a, b.swapaxes(2, 3)).sum(0)
    else:
        for images, rows, cols in _columns(x, win):
            part = _images_last(dy[images, :, rows], cols.dtype).reshape(g, k // g, cols.shape[2])
            dw += xp.matmul(part, cols.swapaxes(1, 2))
    return _ordered(xp, dw.reshape(k, c // g, *win.kernel).astype(x.dtype, copy=False), last)


def _ordered(xp: Any, y: Array, last: bool) -> Array:
    """y, laid out channels last if `last`."""
    return layout.planes(xp.ascontiguousarray(layout.rows(y))) if last else y


def _new(make: Callable[..., Array], shape: tuple[int, ...], dtype: Any, last: bool) -> Array:
    """An array made in C order or, if `last`, channels last."""
    return layout.made(lambda size: make(size, dtype), shape, layout.axes(len(shape)) if last else None)


class _Kept(local):
    """Buffers kept from call to call, one of each name per thread: fresh memory would have to be mapped and zeroed anew."""

    def __init__(self) -> None:
        self.buffers: dict[str, np.ndarray] = {}


_kept = _Kept()


def _room(xp: Any, name: str, shape: tuple[int, ...], dtype: Any) -> Array:
    """An array of this shape to work in, until the next call with this name; what is in it is arbitrary."""
    size = prod(shape) * np.dtype(dtype).itemsize
    if xp is not np or size > 32 * BUFFER:  # the card has a pool of its own
        return xp.empty(shape, dtype)
    buffer = _kept.buffers.get(name)
    if buffer is None or buffer.size < size:
        buffer = _kept.buffers[name] = np.empty(size, np.uint8)
    return buffer[:size].view(dtype).reshape(shape)


def _wide(x: Array) -> Array:
    """x in the dtype that sums are kept in: float32 for the half types."""
    return x.astype(wide(x.dtype), copy=False)


def _images_first(z: Array) -> Array:
    return z.transpose(z.ndim - 1, *range(z.ndim - 1))


def _images_last(y: Array, dtype: Any) -> Array:
    """y, (n, k, ...), copied to (k, ..., n), valid until the next call."""
    out = _room(namespace(y), "outputs", (*y.shape[1:], y.shape[0]), dtype)
    out[...] = y.transpose(*range(1, y.ndim), 0)
    return out


def _slices(n: int, most: int) -> list[slice]:
    """0..n in pieces of nearly the same length, `most` at most."""
    step = -(-n // -(-n // most)) if n else 1
    return [slice(i, min(i + step, n)) for i in range(0, n, step)]


class Schedule(NamedTuple):
    """What to do at a time, and where the input and its padded layout meet."""

    images: list[slice]
    rows: list[slice]  # of outputs
    span: tuple[int, ...]  # the sizes of the layout
    here: tuple[slice, ...]  # in the input
    there: tuple[slice, ...]  # in the layout


def _schedule(x: Array, c: int, win: Window) -> Schedule:
    """How to go through a batch of len(x) images of c channels."""
    more = 1 if namespace(x) is np else ON_CARD
    return _scheduled(x.shape[0], c, win, BUFFER * more, IMAGES * more)


@lru_cache(maxsize=1024)
def _scheduled(n: int, c: int, win: Window, room: int, images: int) -> Schedule:
    row, span = max(1, c * prod(win.kernel) * prod(win.out[1:])), win.span
    m = max(1, min(images, n, 4 * room // max(1, c * prod(span)), 2 * room // row))
    here, there = [], []
    for size, width, b in zip(win.sizes, span, win.before, strict=True):
        first, last = max(0, b), max(0, b, min(width, b + size))
        here.append(slice(first - b, last - b))
        there.append(slice(first, last))
    rows = _slices(win.out[0], max(1, min(win.out[0], room // (row * m))))
    return Schedule(_slices(n, m), rows, span, (slice(None), *here), (slice(None), *there))


@lru_cache(maxsize=1024)
def taps_seen(win: Window, row: int, counts: tuple[int, ...]) -> list[tuple[tuple[Any, ...], tuple[Any, ...]]]:
    """(each tap, where in the padded layout `counts` outputs from row `row` on see through it), as indices."""
    found = []
    for taps in product(*map(range, win.kernel)):
        firsts = [t * d for t, d in zip(taps, win.dilation, strict=True)]
        firsts[0] += row * win.stride[0]
        seen = [slice(f, f + (n - 1) * s + 1, s) for f, n, s in zip(firsts, counts, win.stride, strict=True)]
        found.append(((slice(None), *taps), (slice(None), *seen)))
    return found


def _columns(x: Array, win: Window) -> Iterator[tuple[slice, slice, Array]]:
    """(images, rows of outputs, what these outputs see as a (groups, c taps, outputs) array), piece by piece."""
    xp, c, g = namespace(x), x.shape[1], win.groups
    dtype = wide(x.dtype)
    todo, laid = _schedule(x, c, win), None
    for images in todo.images:
        part = x[(images, *todo.here)]
        if laid is None or laid.shape[-1] != part.shape[0]:
            laid = _room(xp, "layout", (c, *todo.span, part.shape[0]), dtype)
            if part.shape[2:] != todo.span:  # a border of zeros, which stays
                laid[...] = 0
        laid[todo.there] = part.transpose(*range(1, part.ndim), 0)
        if win.pointwise:
            yield images, slice(0, win.out[0]), laid.reshape(g, c // g, prod(laid.shape[1:]))
            continue
        first, *inner, last = laid.strides
        strides = (first, *(t * d for t, d in zip(inner, win.dilation, strict=True)))
        strides = (*strides, *(t * s for t, s in zip(inner, win.stride, strict=True)), last)
        for rows in todo.rows:
            shape = (c, *win.kernel, rows.stop - rows.start, *win.out[1:], part.shape[0])
            seen = xp.lib.stride_tricks.as_strided(laid[:, rows.start * win.stride[0] :], shape, strides)
            cols = _room(xp, "windows", shape, dtype)
            cols[...] = seen
            seen_at_once = prod(shape[len(win.kernel) + 1 :])
            yield images, rows, cols.reshape(g, c // g * prod(win.kernel), seen_at_once)
