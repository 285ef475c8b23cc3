"""Pooling on the card: the twins of gradflow/ops/pool.py in one to three dimensions, by kernels/pool.cu."""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from math import prod
from typing import Any

import numpy as np

from ..backend import Array, on_card
from ..ops.pool import check_divisor, check_gradient, check_places
from ..ops.span import Span, adaptive, spans
from . import layout, row
from .launch import aligned, blocks, contiguous, ctype, launch
from .reduce import sum_of_columns, sum_of_rows

THREADS = 256
MOST = 2**31 - 2**16  # elements that a launch counts; larger arrays go by planes
ALIGNED = 16  # so many planes of any size take a multiple of 16 bytes
ONE = Span(1, 1, 1, 1, 0, 1)  # a dim that is not there


def instantiations() -> list[str]:
    """Every kernel that the launchers below can ask for."""
    found = []
    forward, backward = ("max_pool_forward", "avg_pool_forward"), ("max_pool_backward", "avg_pool_backward")
    for t, size in row.types():
        found += [f"{k}<{t}, {n}>" for k, n in product(forward, WINDOWS)]
        found += [f"{k}<{t}, {n}>" for k, n in product(backward, (0, 1, 2))]
        found += [f"{k}_last<{t}, {n}>" for k, n in product((*forward, *backward), (1, 16 // size))]
    return found


WINDOWS = (0, 2, 3)  # kernels of K x K of which a thread loads a whole window at once; 0: any


@lru_cache(1024)
def reciprocal(d: int) -> tuple[np.uint32, np.int32]:
    """(m, s) with n // d = ((n m >> 32) + n) >> s for 0 <= n < 2^31."""
    s = (d - 1).bit_length()
    return np.uint32((2**32 * (2**s - d)) // d + 1), np.int32(s)


def _regular(span: Span) -> Span:
    """Adaptive windows that are all of one size and apart by it, as regular ones."""
    if span.kernel or not span.out or span.size % span.out:
        return span
    return span._replace(kernel=span.size // span.out, stride=span.size // span.out)


@lru_cache(1024)
def _numbers(dims: tuple[Span, ...], backward: bool) -> tuple[str, tuple[Any, ...]]:
    """(the template's word for these windows, the parameters of the kernels)."""
    found: list[Any] = []
    for s in dims:
        found += [*map(np.int32, s), *reciprocal(max(s.size if backward else s.out, 1)), *reciprocal(s.stride)]
    depth, h, w = dims
    plain = all(s.kernel and s.dilation == 1 for s in (h, w)) and depth == ONE
    if backward:
        most = max(blocks(s.kernel, s.stride) for s in (h, w)) if plain else 0
        return str(most if most <= 2 else 0), tuple(found)
    return str(h.kernel if plain and h.kernel == w.kernel and h.kernel in WINDOWS else 0), tuple(found)


def _run(
    kernel: str, dims: list[Span], last: bool, arrays: tuple[Array, ...], out: Array, *more: Any, backward: bool = False
) -> None:
    """Launch for each element of `out`, the last of the arrays or before it; `more` goes between the arrays and the dims.
    last: the channels of all arrays are brought last if they are not so, and a thread takes a pack of them.
    """
    if not out.size:
        return
    spans = tuple([ONE] * (3 - len(dims)) + [_regular(s) for s in dims])
    word, numbers = _numbers(spans, backward)
    inside, outside = prod(s.size for s in spans), prod(s.out for s in spans)
    arrays = tuple(contiguous(layout.rows(a) if last else a) for a in arrays)
    c, vec, counts = 1, 1, ()
    if last:
        c, vec = out.shape[1], 16 // out.dtype.itemsize
        vec = vec if c % vec == 0 and aligned(*arrays) else 1
        kernel, word, counts = f"{kernel}_last", str(vec), (np.int32(c // vec), *reciprocal(c // vec))
    name, one = f"{kernel}<{ctype(out.dtype)}, {word}>", (inside if backward else outside) * c
    planes = out.size // one  # or samples
    each = MOST // (max(inside, outside) * c)
    each = each if last else each // ALIGNED * ALIGNED
    for first in range(0, planes, each):  # once, but for arrays beyond 2^31 elements
        some = arrays if planes <= each else tuple(a.reshape(planes, -1)[first : first + each] for a in arrays)
        size = one * min(each, planes - first) // vec
        grid = blocks(size, THREADS if last else 2 * THREADS)
        launch("pool", name, grid, THREADS, *some, np.int32(size), *counts, *more, *numbers)


def _uniform(dims: list[Span], padded: bool, divisor: int | None) -> int:
    """By what all sums are divided, or 0 if windows differ in that."""
    if divisor:
        return divisor
    for s in map(_regular, dims):
        over = (s.out - 1) * s.stride + s.kernel - s.padding - s.size  # how far the last window reaches out
        if not s.kernel or (s.padding and not padded) or over > (s.padding if padded else 0):
            return 0
    return prod(_regular(s).kernel for s in dims)


def _refused(name: str, dims: list[Span], *arrays: Array) -> bool:
    """Whether the kernels cannot do this: another dtype, or a plane whose places pass 32 bits."""
    if not all(on_card(a) for a in arrays):
        raise RuntimeError(f"{name}: wanted all tensors on one device, saw the card and the CPU")
    planes = prod(s.size for s in dims), prod(s.out for s in dims)
    return arrays[0].dtype.name not in ("float32", "float64", "float16", "bfloat16") or max(planes) > MOST // ALIGNED


def _last(x: Array, dims: list[Span]) -> bool:
    """Whether the kernels take x with its channels last: it lies so, and no sample is too large to count."""
    return x.ndim == len(dims) + 2 and layout.channels_last(x) and _countable(x.shape[1], dims)


def _countable(channels: int, dims: list[Span]) -> bool:
    return channels * max(prod(s.size for s in dims), prod(s.out for s in dims)) <= MOST


def _output(x: Array, dims: list[Span], last: bool, dtype: Any = None) -> Array:
    return layout.empty((*x.shape[: -len(dims)], *(s.out for s in dims)), dtype or x.dtype, last)


def _largest(name: str, x: Array, dims: list[Span]) -> Any:
    if _refused(name, dims, x):
        return NotImplemented
    last = _last(x, dims)
    values, indices = _output(x, dims, last), _output(x, dims, last, np.int64)
    _run("max_pool_forward", dims, last, (x, values, indices), values)
    return values, indices


def _average(name: str, x: Array, dims: list[Span], padded: bool = False, divisor: int | None = None) -> Any:
    if _refused(name, dims, x):
        return NotImplemented
    size, last = prod(s.size for s in dims), _last(x, dims)
    if x.size and not divisor and all(s.out == 1 and s.padding == 0 and s.kernel in (0, s.size) for s in dims):
        if last:
            y = sum_of_columns(layout.rows(x), x.shape[0], size, x.shape[1], x.dtype, 1 / size)
        else:
            y = sum_of_rows(x, x.size // size, size, x.dtype, 1 / size)
        return y.reshape((*x.shape[: -len(dims)], *(1 for _ in dims)))
    y = _output(x, dims, last)
    _run("avg_pool_forward", dims, last, (x, y), y, bool(padded), np.int32(_uniform(dims, padded, divisor)))
    return y


def _average_backward(
    name: str, g: Array, x_shape: tuple[int, ...], dims: list[Span], padded: bool, divisor: int | None, last: bool
) -> Any:
    if _refused(name, dims, g):
        return NotImplemented
    last = last and _countable(x_shape[1], dims)
    dx = layout.empty(x_shape, g.dtype, last)
    uniform = np.int32(_uniform(dims, padded, divisor))
    _run("avg_pool_backward", dims, last, (g, dx), dx, bool(padded), uniform, backward=True)
    return dx


def _max_twins(rank: int) -> tuple[Any, ...]:
    name, adaptive_name = f"max_pool{rank}d_with_indices", f"adaptive_max_pool{rank}d_with_indices"
    backward_name = f"max_pool{rank}d_backward"

    def pool(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
        return _largest(name, x, spans(name, x.shape, rank, kernel_size, stride, padding, dilation, ceil_mode))

    def adaptive_pool(x, output_size):
        return _largest(adaptive_name, x, adaptive(adaptive_name, x.shape, rank, output_size))

    def backward(g, indices, x_shape, kernel_size=None, stride=None, padding=0, dilation=1, last=False):
        check_places(backward_name, g, indices, x_shape, rank)
        if kernel_size is None:
            dims = adaptive(backward_name, x_shape, rank, g.shape[-rank:])
        else:
            # Whether ceil_mode was set shows only in the number of windows, which g knows.
            dims = spans(backward_name, x_shape, rank, kernel_size, stride, padding, dilation, ceil_mode=True)
            dims = [s._replace(out=out) for s, out in zip(dims, g.shape[-rank:], strict=True)]
        if _refused(backward_name, dims, g, indices):
            return NotImplemented
        last = last and _countable(x_shape[1], dims)
        dx = layout.empty(x_shape, g.dtype, last)
        _run("max_pool_backward", dims, last, (g, indices, dx), dx, backward=True)
        return dx

    return pool, adaptive_pool, backward


def _avg_twins(rank: int) -> tuple[Any, ...]:
    name, backward_name = f"avg_pool{rank}d", f"avg_pool{rank}d_backward"
    adaptive_name, adaptive_backward_name = f"adaptive_avg_pool{rank}d", f"adaptive_avg_pool{rank}d_backward"

    def pool(x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None):
        dims = spans(name, x.shape, rank, kernel_size, stride, padding, 1, ceil_mode)
        check_divisor(name, divisor_override)
        return _average(name, x, dims, count_include_pad, divisor_override)

    def backward(
        g, x_shape, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None,
        last=False,
    ):
        dims = spans(backward_name, x_shape, rank, kernel_size, stride, padding, 1, ceil_mode)
        check_divisor(backward_name, divisor_override)
        check_gradient(backward_name, g, x_shape, dims)
        return _average_backward(backward_name, g, x_shape, dims, count_include_pad, divisor_override, last)

    def adaptive_pool(x, output_size):
        return _average(adaptive_name, x, adaptive(adaptive_name, x.shape, rank, output_size, empty=rank < 3))

    def adaptive_backward(g, x_shape, last=False):
        dims = adaptive(adaptive_backward_name, x_shape, rank, g.shape[-rank:], empty=rank < 3)
        check_gradient(adaptive_backward_name, g, x_shape, dims)
        return _average_backward(adaptive_backward_name, g, x_shape, dims, False, None, last)

    return pool, backward, adaptive_pool, adaptive_backward


max_pool1d_with_indices, adaptive_max_pool1d_with_indices, max_pool1d_backward = _max_twins(1)
max_pool2d_with_indices, adaptive_max_pool2d_with_indices, max_pool2d_backward = _max_twins(2)
max_pool3d_with_indices, adaptive_max_pool3d_with_indices, max_pool3d_backward = _max_twins(3)
avg_pool1d, avg_pool1d_backward, adaptive_avg_pool1d, adaptive_avg_pool1d_backward = _avg_twins(1)
avg_pool2d, avg_pool2d_backward, adaptive_avg_pool2d, adaptive_avg_pool2d_backward = _avg_twins(2)
avg_pool3d, avg_pool3d_backward, adaptive_avg_pool3d, adaptive_avg_pool3d_backward = _avg_twins(3)
