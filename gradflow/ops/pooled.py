"""What pooling computes: the largest element or the mean of each window, for any number of spatial dims, in NumPy.

Windows are products of spans, so values and sums are made one dim after the other, tap by tap over strided slices.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from math import prod
from typing import Any

import numpy as np

from ..backend import Array, is_floating, namespace
from .layout import alike, last_of, order_of, rows, through
from .layout import planes as planes_of
from .reduce import wide
from .span import Span


def _axis(rank: int, i: int) -> int:
    return i - rank


def _look(x: Array, span: Span, tap: int, axis: int) -> tuple[slice, Array]:
    """What the windows of one dim see through a tap: (the outputs that see an element, those elements)."""
    outputs, inputs = span.seen(tap)
    if isinstance(inputs, slice):
        return outputs, x[_at(axis, inputs)]
    places, found = namespace(x).asarray(inputs), order_of(x)
    if found is None:
        return outputs, x.take(places, axis)
    there, back = found
    return outputs, x.transpose(there).take(places, there.index(axis % x.ndim)).transpose(back)


def _sized(shape: tuple[int, ...], axis: int, size: int) -> tuple[int, ...]:
    """A shape with another size along an axis counted from the back."""
    return (*shape[:axis], size, *shape[len(shape) + axis + 1 :])


def _at(axis: int, part: slice) -> tuple[Any, ...]:
    """The index that takes a part along an axis counted from the back."""
    return (..., part, *[slice(None)] * (-axis - 1))


def largest(x: Array, dims: list[Span]) -> tuple[Array, Array]:
    """The largest element of every window and its place in the plane."""
    xp, rank = namespace(x), len(dims)
    x, dtype = x.astype(wide(x.dtype), copy=False), x.dtype  # exact, and NumPy is slow at comparing half types
    y = x
    if not x.size or not all(span.out for span in dims):
        sizes = (*x.shape[:-rank], *(span.out for span in dims))
        return xp.empty(sizes, dtype), xp.empty(sizes, np.int64)
    for i, span in enumerate(dims):
        y = _largest(y, span, _axis(rank, i))
    # The first tap that shows the largest element has the highest mark.
    taps = list(product(*(range(s.taps) for s in dims)))
    marks = alike(y, lambda sizes: xp.zeros(sizes, np.min_scalar_type(len(taps))))
    for mark, tap in zip(range(len(taps), 0, -1), taps, strict=True):
        where, seen = _through(x, dims, tap)
        there = marks[where]
        found = (seen == y[where]).astype(marks.dtype) * marks.dtype.type(mark)
        xp.maximum(there, found, out=there)
    if is_floating(x.dtype) and bool((y != y).any()):  # a NaN equals nothing; of several the last counts, as in PyTorch
        for mark, tap in zip(range(len(taps), 0, -1), taps, strict=True):
            where, seen = _through(x, dims, tap)
            marks[where] = xp.where(seen != seen, marks.dtype.type(mark), marks[where])
    return y.astype(dtype, copy=False), _places(marks, dims, len(taps))


def _largest(x: Array, span: Span, axis: int) -> Array:
    """The largest elements of the windows along one dim."""
    xp = namespace(x)
    where, seen = _look(x, span, 0, axis)
    if where == slice(0, span.out):
        y = seen.copy("K")
    else:
        least = -np.inf if is_floating(x.dtype) else np.iinfo(x.dtype).min
        y = alike(x, lambda sizes: xp.full(sizes, least, x.dtype), _sized(x.shape, axis, span.out))
        xp.maximum(y[_at(axis, where)], seen, out=y[_at(axis, where)])
    for tap in range(1, span.taps):
        where, seen = _look(x, span, tap, axis)
        part = y[_at(axis, where)]
        xp.maximum(part, seen, out=part)
    return y


def _through(x: Array, dims: list[Span], taps: tuple[int, ...]) -> tuple[tuple[Any, ...], Array]:
    """What the windows see through one tap of every dim: (the index of the outputs that see, the elements)."""
    where: list[Any] = [...]
    for i, (span, tap) in enumerate(zip(dims, taps, strict=True)):
        outputs, x = _look(x, span, tap, _axis(len(dims), i))
        where.append(outputs)
    return tuple(where), x


def _places(marks: Array, dims: list[Span], count: int) -> Array:
    """The places in the plane that the marks, count - the number of the tap, stand for."""
    xp, rank = namespace(marks), len(dims)
    if any(span.kernel == 0 for span in dims):  # no formula: the place of every tap of every window
        taps, place = count - marks.astype(np.int64), 0
        for i in range(rank - 1, -1, -1):
            starts, ends = (xp.asarray(v).reshape(-1, *[1] * (rank - 1 - i)) for v in dims[i].ends())
            at = xp.minimum(starts + taps % dims[i].taps, ends - 1)
            place = place + at * prod(s.size for s in dims[i + 1 :])
            taps = taps // dims[i].taps
        return place
    first, table = (xp.asarray(v) for v in _first_places(tuple(dims)))
    return through(order_of(marks), table.take, marks) + first


@lru_cache(maxsize=256)
def _first_places(dims: tuple[Span, ...]) -> tuple[Array, Array]:
    """(the place of every window's first tap, what has to be added to it for a mark)."""
    rank = len(dims)
    first, step = np.zeros([1] * rank, np.int64), np.zeros([1] * rank, np.int64)
    for i, span in enumerate(dims):
        ahead, unit = [-1, *[1] * (rank - 1 - i)], prod(s.size for s in dims[i + 1 :])
        first = first + (np.arange(span.out) * span.stride - span.padding).reshape(ahead) * unit
        step = step + (np.arange(span.taps) * span.dilation).reshape(ahead) * unit
    return first, np.append(0, step.reshape(-1)[::-1])


def scattered(g: Array, indices: Array, x_shape: tuple[int, ...], rank: int, last: bool = False) -> Array:
    """Every g added to its place in planes of zeros, which lie side by side if their channels are last."""
    xp, planes, size = namespace(g), prod(x_shape[:-rank]), prod(x_shape[-rank:])
    dx = xp.zeros(planes * size, wide(g.dtype))
    if last:
        g, indices, c = rows(g), rows(indices), x_shape[1]
        at = (indices.reshape(x_shape[0], -1, c) + xp.arange(x_shape[0])[:, None, None] * size) * c + xp.arange(c)
    else:
        at = indices.reshape(planes, -1) + xp.arange(planes)[:, None] * size if planes else indices
    xp.add.at(dx, at.reshape(-1), g.reshape(-1).astype(dx.dtype, copy=False))
    dx = planes_of(dx.reshape(x_shape[0], *x_shape[2:], x_shape[1])) if last else dx.reshape(x_shape)
    return dx.astype(g.dtype, copy=False)


def gathered(x: Array, indices: Array, rank: int) -> Array:
    """The elements of x at places in its planes."""
    planes, places = ((*v.shape[:-rank], prod(v.shape[-rank:])) for v in (x, indices))
    return namespace(x).take_along_axis(x.reshape(planes), indices.reshape(places), -1).reshape(indices.shape)


def _sum(x: Array, span: Span, axis: int) -> Array:
    """The sums of the windows along one dim."""
    xp, sizes = namespace(x), _sized(x.shape, axis, span.out)
    if span.kernel == 0 or span.out < span.kernel:  # few windows: one sum for each
        y = alike(x, lambda sizes: xp.empty(sizes, x.dtype), sizes)
        for o, (start, end) in enumerate(zip(*span.ends(), strict=True)):
            y[_at(axis, slice(o, o + 1))] = x[_at(axis, slice(int(start), int(end)))].sum(axis, keepdims=True)
        return y
    where, seen = _look(x, span, 0, axis)
    whole = where == slice(0, span.out)
    y = seen.copy("K") if whole else alike(x, lambda sizes: xp.zeros(sizes, x.dtype), sizes)
    if where != slice(0, span.out):
        y[_at(axis, where)] = seen
    for tap in range(1, span.taps):
        where, seen = _look(x, span, tap, axis)
        part = y[_at(axis, where)]
        part += seen
    return y


def _spread(g: Array, span: Span, axis: int, last: bool) -> Array:
    """Every window's number added to each of its elements along one dim, in an array of channels last or not."""
    xp, sizes = namespace(g), _sized(g.shape, axis, span.size)
    dx = planes_of(xp.zeros((sizes[0], *sizes[2:], sizes[1]), g.dtype)) if last else xp.zeros(sizes, g.dtype)
    if span.kernel == 0 or span.out < span.kernel:
        for o, (start, end) in enumerate(zip(*span.ends(), strict=True)):
            part = dx[_at(axis, slice(int(start), int(end)))]
            part += g[_at(axis, slice(o, o + 1))]
        return dx
    for tap in range(span.taps):
        outputs, inputs = span.seen(tap)
        part = dx[_at(axis, inputs)]
        part += g[_at(axis, outputs)]
    return dx


def _divide(y: Array, dims: list[Span], count_include_pad: bool, divisor: int | None) -> Array:
    """y divided by the windows' sizes."""
    if divisor is not None:
        return y / divisor
    size = np.ones((), np.int64)
    for span in dims:
        size = size[..., None] * span.lengths(count_include_pad)
    if size.size and (size == size.flat[0]).all():
        return y / int(size.flat[0])
    return y / namespace(y).asarray(size, dtype=y.dtype)


def average(x: Array, dims: list[Span], count_include_pad: bool = False, divisor: int | None = None) -> Array:
    """The sum of every window over its size, or over `divisor`."""
    y, rank = x.astype(wide(x.dtype), copy=False), len(dims)
    if all(span == Span(span.size, 1, span.size, span.stride) for span in dims):  # one window: BLAS sums fastest
        ones, shape = namespace(x).ones(prod(x.shape[-rank:]), y.dtype), (*x.shape[:-rank], *[1] * rank)
        if last_of(x.shape, x.strides, rank):
            y = (ones @ rows(y).reshape(x.shape[0], -1, x.shape[1])).reshape(shape)
        else:
            y = (y.reshape(-1, ones.size) @ ones).reshape(shape)
    else:
        for i, span in enumerate(dims):
            y = _sum(y, span, _axis(rank, i))
    return _divide(y, dims, count_include_pad, divisor).astype(x.dtype, copy=False)


def average_backward(
    g: Array, dims: list[Span], count_include_pad: bool = False, divisor: int | None = None, last: bool = False
) -> Array:
    """What average's sums give back: every window's g over its size, added to each of its elements; channels last or not."""
    dx = _divide(g.astype(wide(g.dtype), copy=False), dims, count_include_pad, divisor)
    for i in range(len(dims) - 1, -1, -1):
        dx = _spread(dx, dims[i], _axis(len(dims), i), last)
    return dx.astype(g.dtype, copy=False)
