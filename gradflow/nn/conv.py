"""Convolutions and transposed convolutions over one, two or three dimensions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from . import functional as F
from . import init
from .module import Module
from .parameter import Parameter, blank

MODES = ("zeros", "reflect", "replicate", "circular")


def sizes(value: Any, n: int) -> tuple[int, ...]:
    """A size for each of n dimensions, from one number or n of them."""
    return (value,) * n if isinstance(value, int) else tuple(value)


class _Conv(Module):
    """What all convolutions share: their sizes, weight and bias. weight is (out, in / groups, *kernel_size)."""

    dims: int
    transposed = False
    function: Callable[..., Any]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any,
        padding: Any,
        dilation: Any,
        output_padding: Any,
        groups: int,
        bias: bool,
        padding_mode: str,
        device: Any,
        dtype: Any,
    ) -> None:
        super().__init__()
        name, n = type(self).__name__, self.dims
        if groups <= 0:
            raise ValueError(f"{name}: wanted groups > 0, saw {groups}")
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"{name}: wanted channels divisible by groups {groups}, saw {in_channels} in, {out_channels} out"
            )
        if isinstance(padding, str):
            if padding not in ("same", "valid"):
                raise ValueError(f"{name}: wanted padding 'same', 'valid' or numbers, saw {padding!r}")
            if padding == "same" and any(s != 1 for s in sizes(stride, n)):
                raise ValueError(f"{name}: padding 'same' wants stride 1, saw {stride}")
        if padding_mode not in MODES:
            raise ValueError(f"{name}: wanted padding_mode one of {', '.join(MODES)}, saw {padding_mode!r}")
        self.in_channels, self.out_channels, self.groups, self.padding_mode = (
            in_channels,
            out_channels,
            groups,
            padding_mode,
        )
        self.kernel_size, self.stride, self.dilation = sizes(kernel_size, n), sizes(stride, n), sizes(dilation, n)
        self.padding = padding if isinstance(padding, str) else sizes(padding, n)
        self.output_padding = sizes(output_padding, n)
        first, second = (in_channels, out_channels) if self.transposed else (out_channels, in_channels)
        self.weight = Parameter(blank((first, second // groups, *self.kernel_size), dtype, device))
        self.bias: Any
        self.register_parameter("bias", Parameter(blank((out_channels,), dtype, device)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew: uniform in +-1/sqrt(in_channels / groups * prod(kernel_size))."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        init.default_bias_(self.bias, self.weight)

    def _border(self) -> list[int]:
        """What F.pad is given for a padding_mode other than zeros: (left, right) pairs, last dimension first."""
        border: list[int] = []
        for i in reversed(range(self.dims)):
            if self.padding == "valid":
                border += [0, 0]
            elif self.padding == "same":
                total = self.dilation[i] * (self.kernel_size[i] - 1)
                border += [total // 2, total - total // 2]
            else:
                border += [int(self.padding[i])] * 2
        return border

    def forward(self, input: Any) -> Any:
        """Convolve."""
        conv = type(self).function
        if self.padding_mode == "zeros":
            return conv(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
        input = F.pad(input, self._border(), mode=self.padding_mode)
        return conv(input, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)

    def extra_repr(self) -> str:
        """The sizes that are not the defaults."""
        zero, one = (0,) * self.dims, (1,) * self.dims
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        text += f", padding={self.padding}" if self.padding != zero else ""
        text += f", dilation={self.dilation}" if self.dilation != one else ""
        text += f", output_padding={self.output_padding}" if self.output_padding != zero else ""
        text += f", groups={self.groups}" if self.groups != 1 else ""
        text += ", bias=False" if self.bias is None else ""
        return text + (f", padding_mode={self.padding_mode}" if self.padding_mode != "zeros" else "")


class Conv1d(_Conv):
    """Cross-correlation over the last dimension: x (n, c, w) or (c, w), weight (out, in / groups, kw).

    y[n, o, i] = b[o] + sum_c,k w[o, c, k] x[n, c, i stride + k dilation - padding]
    """

    dims, function = 1, staticmethod(F.conv1d)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int],
        stride: int | tuple[int] = 1,
        padding: str | int | tuple[int] = 0,
        dilation: int | tuple[int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            0,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
        )


class Conv2d(_Conv):
    """Cross-correlation over the last two dimensions: x (n, c, h, w) or (c, h, w), weight (out, in / groups, kh, kw).

    y[n, o, i, j] = b[o] + sum_c,k,l w[o, c, k, l] x[n, c, i s + k d - p, j s + l d - p]
    with stride s, dilation d, padding p.
    padding may be 'same' (stride 1) or 'valid'; padding_mode 'zeros', 'reflect', 'replicate' or 'circular'.
    """

    dims, function = 2, staticmethod(F.conv2d)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: str | int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            0,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
        )


class Conv3d(_Conv):
    """Conv2d over three dimensions: x (n, c, d, h, w) or (c, d, h, w), weight (out, in / groups, kd, kh, kw)."""

    dims, function = 3, staticmethod(F.conv3d)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int, int],
        stride: int | tuple[int, int, int] = 1,
        padding: str | int | tuple[int, int, int] = 0,
        dilation: int | tuple[int, int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            0,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
        )


class _ConvTranspose(_Conv):
    """What transposed convolutions share: weight is (in, out / groups, *kernel_size); an output_size may be given."""

    transposed = True

    def __init__(self, *args: Any) -> None:
        if args[9] != "zeros":
            raise ValueError(f"{type(self).__name__}: wanted padding_mode 'zeros', saw {args[9]!r}")
        super().__init__(*args)

    def _output_padding(self, input: Any, output_size: Sequence[int] | None) -> tuple[int, ...]:
        """The output_padding that gives output_size; ValueError if none does."""
        if output_size is None:
            return self.output_padding
        n, size = self.dims, tuple(output_size)
        if len(size) == input.dim():
            size = size[-n:]
        if len(size) != n:
            raise ValueError(
                f"{type(self).__name__}: wanted an output_size of {n} or {input.dim()} numbers, saw {len(size)}"
            )
        small = [
            (input.shape[i - n] - 1) * self.stride[i]
            - 2 * self.padding[i]
            + self.dilation[i] * (self.kernel_size[i] - 1)
            + 1
            for i in range(n)
        ]
        large = [a + s - 1 for a, s in zip(small, self.stride, strict=True)]
        if any(not a <= s <= b for a, s, b in zip(small, size, large, strict=True)):
            raise ValueError(
                f"{type(self).__name__}: wanted an output_size between {small} and {large}, saw {list(size)}"
            )
        return tuple(s - a for s, a in zip(size, small, strict=True))

    def forward(self, input: Any, output_size: Sequence[int] | None = None) -> Any:
        """Convolve, transposed; output_size chooses among the sizes that the convolution maps to the input's."""
        extra = self._output_padding(input, output_size)
        conv = type(self).function
        return conv(input, self.weight, self.bias, self.stride, self.padding, extra, self.groups, self.dilation)


class ConvTranspose1d(_ConvTranspose):
    """The gradient of Conv1d with respect to its input, as a layer: x (n, c, w), weight (in, out / groups, kw).

    The output has (w - 1) stride - 2 padding + dilation (kw - 1) + output_padding + 1 elements per channel.
    """

    dims, function = 1, staticmethod(F.conv_transpose1d)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int],
        stride: int | tuple[int] = 1,
        padding: int | tuple[int] = 0,
        output_padding: int | tuple[int] = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | tuple[int] = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            output_padding,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
        )


class ConvTranspose2d(_ConvTranspose):
    """The gradient of Conv2d with respect to its input, as a layer: x (n, c, h, w), weight (in, out / groups, kh, kw).

    The output has (h - 1) stride - 2 padding + dilation (kh - 1) + output_padding + 1 rows, and columns likewise.
    """

    dims, function = 2, staticmethod(F.conv_transpose2d)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        output_padding: int | tuple[int, int] = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | tuple[int, int] = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            output_padding,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
        )


class ConvTranspose3d(_ConvTranspose):
    """ConvTranspose2d over three dimensions: x (n, c, d, h, w), weight (in, out / groups, kd, kh, kw)."""

    dims, function = 3, staticmethod(F.conv_transpose3d)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int, int],
        stride: int | tuple[int, int, int] = 1,
        padding: int | tuple[int, int, int] = 0,
        output_padding: int | tuple[int, int, int] = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | tuple[int, int, int] = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            output_padding,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
        )
