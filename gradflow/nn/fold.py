"""Fold and Unfold: images as the columns of their windows, and back."""

from __future__ import annotations

from typing import Any

from . import functional as F
from .module import Module


class _Windows(Module):
    kernel_size: Any
    dilation: Any
    padding: Any
    stride: Any

    def _set(self, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> None:
        self.kernel_size, self.dilation, self.padding, self.stride = kernel_size, dilation, padding, stride

    def extra_repr(self) -> str:
        """The sizes."""
        return f"kernel_size={self.kernel_size}, dilation={self.dilation}, padding={self.padding}, stride={self.stride}"


class Fold(_Windows):
    """The sum of windows at their places: x (n, c kh kw, l) or (c kh kw, l) to (n, c, *output_size)."""

    def __init__(
        self, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
    ) -> None:
        super().__init__()
        self.output_size = output_size
        self._set(kernel_size, dilation, padding, stride)

    def forward(self, input: Any) -> Any:
        """Put the windows together."""
        return F.fold(input, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        """The sizes."""
        return f"output_size={self.output_size}, {super().extra_repr()}"


class Unfold(_Windows):
    """Windows as columns: x (n, c, h, w) or (c, h, w) to (n, c kh kw, l), l the number of places of the window."""

    def __init__(self, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> None:
        super().__init__()
        self._set(kernel_size, dilation, padding, stride)

    def forward(self, input: Any) -> Any:
        """Take the windows."""
        return F.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)
