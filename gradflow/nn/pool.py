"""Layers that pool windows: the largest, the mean or the p-norm of each."""

from __future__ import annotations

from typing import Any

from . import functional as F
from .module import Module


class _MaxPool(Module):
    """What max pools share; stride is kernel_size unless given."""

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.dilation, self.return_indices, self.ceil_mode = padding, dilation, return_indices, ceil_mode

    def _settings(self) -> tuple:
        return self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices

    def extra_repr(self) -> str:
        """The sizes."""
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class MaxPool1d(_MaxPool):
    """The largest of each window: x (n, c, w) or (c, w). With return_indices also where it was found."""

    def forward(self, input: Any) -> Any:
        """The maxima."""
        return F.max_pool1d(input, *self._settings())


class MaxPool2d(_MaxPool):
    """The largest of each window: x (n, c, h, w) or (c, h, w). With return_indices also where it was found."""

    def forward(self, input: Any) -> Any:
        """The maxima."""
        return F.max_pool2d(input, *self._settings())


class MaxPool3d(_MaxPool):
    """The largest of each window: x (n, c, d, h, w) or (c, d, h, w). With return_indices also where it was found."""

    def forward(self, input: Any) -> Any:
        """The maxima."""
        return F.max_pool3d(input, *self._settings())


class AvgPool1d(Module):
    """The mean of each window: x (n, c, w) or (c, w)."""

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__()

        def one(value: Any) -> tuple[int]:
            return (value,) if isinstance(value, int) else tuple(value)

        self.kernel_size, self.stride = one(kernel_size), one(kernel_size if stride is None else stride)
        self.padding, self.ceil_mode, self.count_include_pad = one(padding), ceil_mode, count_include_pad

    def forward(self, input: Any) -> Any:
        """The means."""
        return F.avg_pool1d(input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)

    def extra_repr(self) -> str:
        """The sizes."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class _AvgPool(Module):
    """What average pools over two and three dimensions share."""

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.padding = kernel_size, kernel_size if stride is None else stride, padding
        self.ceil_mode, self.count_include_pad, self.divisor_override = ceil_mode, count_include_pad, divisor_override

    def _settings(self) -> tuple:
        window = self.kernel_size, self.stride, self.padding
        return *window, self.ceil_mode, self.count_include_pad, self.divisor_override

    def extra_repr(self) -> str:
        """The sizes."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool2d(_AvgPool):
    """The mean of each window: x (n, c, h, w) or (c, h, w). divisor_override replaces its size."""

    def forward(self, input: Any) -> Any:
        """The means."""
        return F.avg_pool2d(input, *self._settings())


class AvgPool3d(_AvgPool):
    """The mean of each window: x (n, c, d, h, w) or (c, d, h, w)."""

    def forward(self, input: Any) -> Any:
        """The means."""
        return F.avg_pool3d(input, *self._settings())


class _LPPool(Module):
    """What pools by norms share."""

    def __init__(self, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> None:
        super().__init__()
        self.norm_type, self.kernel_size, self.stride, self.ceil_mode = norm_type, kernel_size, stride, ceil_mode

    def extra_repr(self) -> str:
        """The settings."""
        return (
            f"norm_type={self.norm_type}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"ceil_mode={self.ceil_mode}"
        )


class LPPool1d(_LPPool):
    """(sum of x^p)^(1/p) of each window, p = norm_type: x (n, c, w) or (c, w)."""

    def forward(self, input: Any) -> Any:
        """The norms."""
        return F.lp_pool1d(input, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode)


class LPPool2d(_LPPool):
    """(sum of x^p)^(1/p) of each window, p = norm_type: x (n, c, h, w) or (c, h, w)."""

    def forward(self, input: Any) -> Any:
        """The norms."""
        return F.lp_pool2d(input, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode)


class LPPool3d(_LPPool):
    """(sum of x^p)^(1/p) of each window, p = norm_type: x (n, c, d, h, w) or (c, d, h, w)."""

    def forward(self, input: Any) -> Any:
        """The norms."""
        return F.lp_pool3d(input, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode)


class _Adaptive(Module):
    """What pools to a given output size share; None in it keeps the input's size."""

    def __init__(self, output_size: Any) -> None:
        super().__init__()
        self.output_size = output_size

    def extra_repr(self) -> str:
        """The size asked for."""
        return f"output_size={self.output_size}"


class _AdaptiveMax(_Adaptive):
    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        super().__init__(output_size)
        self.return_indices = return_indices


class AdaptiveAvgPool1d(_Adaptive):
    """The means of output_size windows that cover x (n, c, w)."""

    def forward(self, input: Any) -> Any:
        """The means."""
        return F.adaptive_avg_pool1d(input, self.output_size)


class AdaptiveAvgPool2d(_Adaptive):
    """The means of output_size windows that cover x (n, c, h, w)."""

    def forward(self, input: Any) -> Any:
        """The means."""
        return F.adaptive_avg_pool2d(input, self.output_size)


class AdaptiveAvgPool3d(_Adaptive):
    """The means of output_size windows that cover x (n, c, d, h, w)."""

    def forward(self, input: Any) -> Any:
        """The means."""
        return F.adaptive_avg_pool3d(input, self.output_size)


class AdaptiveMaxPool1d(_AdaptiveMax):
    """The maxima of output_size windows that cover x (n, c, w)."""

    def forward(self, input: Any) -> Any:
        """The maxima."""
        return F.adaptive_max_pool1d(input, self.output_size, self.return_indices)


class AdaptiveMaxPool2d(_AdaptiveMax):
    """The maxima of output_size windows that cover x (n, c, h, w)."""

    def forward(self, input: Any) -> Any:
        """The maxima."""
        return F.adaptive_max_pool2d(input, self.output_size, self.return_indices)


class AdaptiveMaxPool3d(_AdaptiveMax):
    """The maxima of output_size windows that cover x (n, c, d, h, w)."""

    def forward(self, input: Any) -> Any:
        """The maxima."""
        return F.adaptive_max_pool3d(input, self.output_size, self.return_indices)
