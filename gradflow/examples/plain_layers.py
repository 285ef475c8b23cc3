"""Layers in plain NumPy, as their formulas say and in any number of dimensions: what the layer zoo is compared with.

Arrays are (n, c, *places). Nothing here is fast; a loop over windows is what one can check by reading.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np


def places(*sizes: int) -> Iterator[tuple[int, ...]]:
    """All index tuples of a grid."""
    return itertools.product(*(range(s) for s in sizes))


def pooled(x: Any, k: int, stride: int, f: Callable[..., Any], dilation: int = 1) -> Any:
    """f(window, axes) of every window of side k, whose elements are `dilation` apart."""
    size = [(s - dilation * (k - 1) - 1) // stride + 1 for s in x.shape[2:]]
    y = np.zeros((*x.shape[:2], *size))
    for at in places(*size):
        window = x[(..., *(slice(stride * i, stride * i + dilation * (k - 1) + 1, dilation) for i in at))]
        y[(..., *at)] = f(window, tuple(range(2, x.ndim)))
    return y


def cut(x: Any, size: int, start: Callable[[int, int], int], end: Callable[[int, int], int], f: Callable[..., Any]) -> Any:
    """f of windows [start(i, s), end(i, s)) of each side of s places, `size` of them along every side."""
    y = np.zeros((*x.shape[:2], *(size,) * (x.ndim - 2)))
    for at in places(*y.shape[2:]):
        window = x[(..., *(slice(start(i, s), end(i, s)) for i, s in zip(at, x.shape[2:], strict=True)))]
        y[(..., *at)] = f(window, tuple(range(2, x.ndim)))
    return y


def adaptive(x: Any, size: int, f: Callable[..., Any]) -> Any:
    """f of `size` windows along every side that cover it: from floor(i s / size) up to ceil((i + 1) s / size)."""
    return cut(x, size, lambda i, s: i * s // size, lambda i, s: -(-(i + 1) * s // size), f)


def fractional(x: Any, k: int, size: int, u: float) -> Any:
    """Maxima of windows of side k whose steps differ (Graham 2014): the i-th begins at floor((i + u) a) - floor(u a) with
    a = (s - k) / (size - 1), the last one at s - k.
    """

    def start(i: int, s: int) -> int:
        a = (s - k) / (size - 1)
        return s - k if i == size - 1 else int((i + u) * a) - int(u * a)

    return cut(x, size, start, lambda i, s: start(i, s) + k, np.max)


def maxima_kept(x: Any, k: int) -> Any:
    """x with zeros wherever it is not the maximum of its block of side k: unpooling of pooling."""
    y = np.zeros_like(x)
    for at in places(*x.shape[:2], *(s // k for s in x.shape[2:])):
        block = (*at[:2], *(slice(k * i, k * i + k) for i in at[2:]))
        y[block] = x[block] * (x[block] == x[block].max())
    return y


def convolved(x: Any, w: Any, stride: int = 1, dilation: int = 1, groups: int = 1) -> Any:
    """Cross-correlation: y[n, o, at] = sum over the o-th kernel times the window at `at` of its group's channels."""
    k, each, outputs = w.shape[2], w.shape[1], w.shape[0] // groups
    parts = []
    for o in range(w.shape[0]):
        group = x[:, o // outputs * each :][:, :each]
        parts.append(pooled(group, k, stride, lambda v, axes, o=o: (v * w[o]).sum(axes), dilation).sum(1))
    return np.stack(parts, 1)


def transposed(x: Any, w: Any, stride: int) -> Any:
    """Every element of x adds itself times the kernel w (c, o, k, ...) to the window that begins at stride times its place."""
    k = w.shape[2]
    y = np.zeros((len(x), w.shape[1], *(stride * (s - 1) + k for s in x.shape[2:])))
    for at in places(*x.shape[2:]):
        window = (..., *(slice(stride * i, stride * i + k) for i in at))
        y[window] += np.tensordot(x[(..., *at)], w, 1)
    return y


def columns(x: Any, k: int) -> Any:
    """im2col: every window of side k as a column (n, c k k, windows)."""
    size = [s - k + 1 for s in x.shape[2:]]
    return np.stack([x[:, :, i : i + k, j : j + k].reshape(len(x), -1) for i, j in places(*size)], 2)


def from_columns(x: Any, height: int, width: int, k: int) -> Any:
    """col2im: the sum of all columns, each at its window."""
    y = np.zeros((len(x), x.shape[1] // k**2, height, width))
    for m, (i, j) in enumerate(places(height - k + 1, width - k + 1)):
        y[:, :, i : i + k, j : j + k] += x[:, :, m].reshape(len(x), -1, k, k)
    return y


def linear_upsampled(x: Any, factor: int) -> Any:
    """Along every side in turn, np.interp at (i + 1/2) / factor - 1/2, held at the ends."""
    for axis in range(2, x.ndim):
        s = x.shape[axis]
        at = (np.arange(s * factor) + 0.5) / factor - 0.5
        x = np.apply_along_axis(lambda line, at=at, s=s: np.interp(at, np.arange(s), line), axis, x)
    return x


def repeated(x: Any, factor: int) -> Any:
    """Along every side, each element `factor` times."""
    for axis in range(2, x.ndim):
        x = x.repeat(factor, axis)
    return x
