"""A span: the windows of a pooling along one dim, regular or adaptive, from the arguments that users give."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from .window import Sizes, check_batch, numbers


class Span(NamedTuple):
    """`out` windows over `size` elements: window o sees o * stride - padding + t * dilation through tap t.
    With kernel 0 the windows are adaptive: o sees [floor(o size / out), ceil((o + 1) size / out)).
    """

    size: int
    out: int
    kernel: int = 0
    stride: int = 1
    padding: int = 0
    dilation: int = 1

    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        """Where each window starts and ends within the input, for windows without dilation."""
        o = np.arange(self.out)
        if self.kernel == 0:
            return o * self.size // self.out, -(-(o + 1) * self.size // self.out)
        start = o * self.stride - self.padding
        return np.clip(start, 0, self.size), np.clip(start + self.kernel, 0, self.size)

    @property
    def taps(self) -> int:
        """The elements of the widest window."""
        return self.kernel or int(np.subtract(*reversed(self.ends())).max(initial=0))

    @lru_cache(maxsize=4096)  # noqa: B019 (a span is six numbers)
    def seen(self, tap: int) -> tuple[slice, Any]:
        """(the outputs that see an element through the tap, a slice of those elements or, if adaptive, their places).
        An adaptive window that is shorter sees its last element again.
        """
        if self.kernel == 0:
            start, end = self.ends()
            return slice(0, self.out), np.minimum(start + tap, end - 1)
        shift = tap * self.dilation - self.padding
        first = max(0, -(shift // self.stride))
        count = max(0, min(self.out, (self.size - 1 - shift) // self.stride + 1) - first)
        start = first * self.stride + shift if count else 0
        return slice(first, first + count), slice(start, start + count * self.stride, self.stride)

    def lengths(self, count_include_pad: bool) -> np.ndarray:
        """The number by which each window's sum is divided: its elements, and the padding it covers if that counts."""
        if self.kernel and count_include_pad:
            start = np.arange(self.out) * self.stride - self.padding
            return np.minimum(start + self.kernel, self.size + self.padding) - start
        start, end = self.ends()
        return np.maximum(end - start, 1)


def check_input(name: str, x_shape: Sizes, rank: int, channels: int = 1) -> None:
    """RuntimeError unless x_shape has so many channels at least, `rank` spatial dims above zero, and maybe a batch dim."""
    check_batch(name, x_shape, rank)
    if min(x_shape[-rank:]) < 1 or x_shape[-rank - 1] < channels:
        raise RuntimeError(f"{name}: wanted channels and sizes above zero, saw {tuple(x_shape)}")


def spans(
    name: str, x_shape: Sizes, rank: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> list[Span]:
    """The windows of a pooling with these arguments. RuntimeError where they do not fit, as PyTorch raises."""
    kernel_size, stride, padding, dilation = (
        tuple(v) if type(v) is list else v for v in (kernel_size, stride, padding, dilation)
    )
    return list(_spans(name, tuple(x_shape), rank, kernel_size, stride, padding, dilation, ceil_mode))


@lru_cache(maxsize=1024, typed=True)  # a training step asks for the same ones again and again
def _spans(
    name: str, x_shape: Sizes, rank: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> tuple[Span, ...]:
    kernel = numbers(name, "kernel_size", kernel_size, rank, 1)
    strides = kernel if stride is None or stride == () else numbers(name, "stride", stride, rank, 1)
    paddings, dilations = numbers(name, "padding", padding, rank, 0), numbers(name, "dilation", dilation, rank, 1)
    check_input(name, x_shape, rank)
    found = []
    for n, k, s, p, d in zip(x_shape[-rank:], kernel, strides, paddings, dilations, strict=True):
        reach = (k - 1) * d + 1
        if p > k // 2:
            raise RuntimeError(f"{name}: wanted a padding of half the kernel size {k} at most, saw {p}")
        out = (n + 2 * p - reach + (s - 1 if ceil_mode else 0)) // s + 1
        if ceil_mode and (out - 1) * s >= n + p:  # the last window must start inside the input or its left padding
            out -= 1
        if out < 1:
            raise RuntimeError(f"{name}: wanted windows within the padded input of {n + 2 * p}, saw one over {reach}")
        starts = np.arange(out) * s - p if p and d > 1 else np.zeros(0, np.int64)
        if (np.where(starts < 0, starts % d, starts) >= n).any():  # PyTorch lets it choose a place outside
            raise RuntimeError(f"{name}: wanted an element in every window, saw one that steps over all {n}")
        found.append(Span(n, out, k, s, p, d))
    return tuple(found)


def adaptive(name: str, x_shape: Sizes, rank: int, output_size: Any, empty: bool = False) -> list[Span]:
    """The windows of an adaptive pooling to output_size; None keeps a size. RuntimeError where they do not fit,
    ValueError for as many sizes as x has dims, as PyTorch says it.
    """
    if rank > 1 and isinstance(output_size, (tuple, list)) and len(x_shape) <= len(output_size):
        raise ValueError(f"{name}: wanted an input of {len(output_size) + 1} dims at least, saw {tuple(x_shape)}")
    sizes = output_size if isinstance(output_size, (tuple, list)) else [output_size] * rank
    if len(sizes) == rank:
        sizes = [n if m is None else m for n, m in zip(x_shape[-rank:], sizes, strict=True)]
    outs = numbers(name, "output_size", sizes, rank, 0)
    check_input(name, x_shape, rank, channels=0 if empty else 1)
    pairs = zip(x_shape[-rank:], outs, strict=True)
    return [Span(n, m, n // m, n // m) if m and n % m == 0 else Span(n, m) for n, m in pairs]
