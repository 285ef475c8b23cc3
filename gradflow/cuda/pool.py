"""Pooling on the card: the twins of gradflow/ops/pool.py in one to three dimensions, by kernels/pool.cu."""

from __future__ import annotations

from itertools import product
from math import prod
from typing import Any

import numpy as np

from ..backend import Array, need_card, on_card
from ..ops.pool import check_divisor, check_gradient, check_places
from ..ops.span import Span, adaptive, spans
from .launch import blocks, contiguous, ctype, launch

THREADS = 256
NARROW = 2**31  # outputs below this many are counted in 32 bits
ONE = Span(1, 1, 1, 1, 0, 1)  # a dim that is not there


def instantiations() -> list[str]:
    """Every kernel that the launchers below can ask for."""
    kernels = ("max_pool_forward", "max_pool_backward", "avg_pool_forward", "avg_pool_backward")
    types, counters = ("float", "double", "__half", "__nv_bfloat16"), ("unsigned", "unsigned long long")
    return [f"{k}<{t}, {i}>" for k, t, i in product(kernels, types, counters)]


def _run(kernel: str, dims: list[Span], arrays: tuple[Array, ...], out: Array, *more: Any) -> None:
    """Launch a thread for each element of `out`; `more` goes between the arrays and the dims."""
    count = "unsigned" if out.size < NARROW else "unsigned long long"
    numbers = [np.int32(v) for span in [ONE] * (3 - len(dims)) + dims for v in span]
    name = f"{kernel}<{ctype(out.dtype)}, {count}>"
    launch("pool", name, blocks(out.size, THREADS), THREADS, *arrays, out.size, *more, *numbers)


def _refused(name: str, dims: list[Span], *arrays: Array) -> bool:
    """Whether the kernels cannot do this: another dtype, or a plane whose places pass 32 bits."""
    if not all(on_card(a) for a in arrays):
        raise RuntimeError(f"{name}: wanted all tensors on one device, saw the card and the CPU")
    planes = prod(s.size for s in dims), prod(s.out for s in dims)
    return arrays[0].dtype.name not in ("float32", "float64", "float16", "bfloat16") or max(planes) >= 2**31


def _output(x: Array, dims: list[Span], dtype: Any = None) -> Array:
    return need_card("pool").empty((*x.shape[: -len(dims)], *(s.out for s in dims)), dtype or x.dtype)


def _largest(name: str, x: Array, dims: list[Span]) -> Any:
    if _refused(name, dims, x):
        return NotImplemented
    values, indices = _output(x, dims), _output(x, dims, np.int64)
    _run("max_pool_forward", dims, (contiguous(x), values, indices), values)
    return values, indices


def _average(name: str, x: Array, dims: list[Span], padded: bool = False, divisor: int | None = None) -> Any:
    if _refused(name, dims, x):
        return NotImplemented
    y = _output(x, dims)
    _run("avg_pool_forward", dims, (contiguous(x), y), y, bool(padded), divisor or 0)
    return y


def _average_backward(
    name: str, g: Array, x_shape: tuple[int, ...], dims: list[Span], padded: bool = False, divisor: int | None = None
) -> Any:
    if _refused(name, dims, g):
        return NotImplemented
    dx = need_card("pool").empty(x_shape, g.dtype)
    _run("avg_pool_backward", dims, (contiguous(g), dx), dx, bool(padded), divisor or 0)
    return dx


def _max_twins(rank: int) -> tuple[Any, ...]:
    name, adaptive_name = f"max_pool{rank}d_with_indices", f"adaptive_max_pool{rank}d_with_indices"
    backward_name = f"max_pool{rank}d_backward"

    def pool(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
        return _largest(name, x, spans(name, x.shape, rank, kernel_size, stride, padding, dilation, ceil_mode))

    def adaptive_pool(x, output_size):
        return _largest(adaptive_name, x, adaptive(adaptive_name, x.shape, rank, output_size))

    def backward(g, indices, x_shape, kernel_size=None, stride=None, padding=0, dilation=1):
        check_places(backward_name, g, indices, x_shape, rank)
        if kernel_size is None:
            dims = adaptive(backward_name, x_shape, rank, g.shape[-rank:])
        else:
            # Whether ceil_mode was set shows only in the number of windows, which g knows.
            dims = spans(backward_name, x_shape, rank, kernel_size, stride, padding, dilation, ceil_mode=True)
            dims = [s._replace(out=out) for s, out in zip(dims, g.shape[-rank:], strict=True)]
        if _refused(backward_name, dims, g, indices):
            return NotImplemented
        dx = need_card("pool").empty(x_shape, g.dtype)
        _run("max_pool_backward", dims, (contiguous(g), contiguous(indices), dx), dx)
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
        g, x_shape, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None
    ):
        dims = spans(backward_name, x_shape, rank, kernel_size, stride, padding, 1, ceil_mode)
        check_divisor(backward_name, divisor_override)
        check_gradient(backward_name, g, x_shape, dims)
        return _average_backward(backward_name, g, x_shape, dims, count_include_pad, divisor_override)

    def adaptive_pool(x, output_size):
        return _average(adaptive_name, x, adaptive(adaptive_name, x.shape, rank, output_size, empty=rank < 3))

    def adaptive_backward(g, x_shape):
        dims = adaptive(adaptive_backward_name, x_shape, rank, g.shape[-rank:], empty=rank < 3)
        check_gradient(adaptive_backward_name, g, x_shape, dims)
        return _average_backward(adaptive_backward_name, g, x_shape, dims)

    return pool, backward, adaptive_pool, adaptive_backward


max_pool1d_with_indices, adaptive_max_pool1d_with_indices, max_pool1d_backward = _max_twins(1)
max_pool2d_with_indices, adaptive_max_pool2d_with_indices, max_pool2d_backward = _max_twins(2)
max_pool3d_with_indices, adaptive_max_pool3d_with_indices, max_pool3d_backward = _max_twins(3)
avg_pool1d, avg_pool1d_backward, adaptive_avg_pool1d, adaptive_avg_pool1d_backward = _avg_twins(1)
avg_pool2d, avg_pool2d_backward, adaptive_avg_pool2d, adaptive_avg_pool2d_backward = _avg_twins(2)
avg_pool3d, avg_pool3d_backward, adaptive_avg_pool3d, adaptive_avg_pool3d_backward = _avg_twins(3)
