"""Layers that put a border around their input: a constant, its own edge, its mirror image, its other end."""

from __future__ import annotations

from typing import Any

from . import functional as F
from .module import Module


class _Pad(Module):
    """A border of (left, right, top, bottom, ...) places, or one number for all, around the last `dims` dimensions."""

    dims: int
    mode: str

    def __init__(self, padding: Any) -> None:
        super().__init__()
        self.padding = (padding,) * (2 * self.dims) if isinstance(padding, int) else tuple(padding)
        if len(self.padding) != 2 * self.dims:
            raise ValueError(f"{type(self).__name__}: wanted {2 * self.dims} numbers, saw {len(self.padding)}")

    def forward(self, input: Any) -> Any:
        """The input with its border."""
        if input.dim() not in (self.dims + 1, self.dims + 2):
            wanted = f"{self.dims + 1} or {self.dims + 2}"
            raise ValueError(f"{type(self).__name__}: wanted {wanted} dimensions, saw {input.dim()}")
        return F.pad(input, self.padding, self.mode)

    def extra_repr(self) -> str:
        """The numbers."""
        return f"{self.padding}"


class _ConstantPad(_Pad):
    def __init__(self, padding: Any, value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, input: Any) -> Any:
        """The input with its border."""
        return F.pad(input, self.padding, "constant", self.value)

    def extra_repr(self) -> str:
        """The numbers, and the value."""
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPad):
    """A border of one value around the last dimension."""

    dims = 1


class ConstantPad2d(_ConstantPad):
    """A border of one value around the last two dimensions."""

    dims = 2


class ConstantPad3d(_ConstantPad):
    """A border of one value around the last three dimensions."""

    dims = 3


class _ZeroPad(_ConstantPad):
    def __init__(self, padding: Any) -> None:
        super().__init__(padding, 0.0)

    def extra_repr(self) -> str:
        """The numbers."""
        return f"{self.padding}"


class ZeroPad1d(_ZeroPad):
    """A border of zeros around the last dimension."""

    dims = 1


class ZeroPad2d(_ZeroPad):
    """A border of zeros around the last two dimensions."""

    dims = 2


class ZeroPad3d(_ZeroPad):
    """A border of zeros around the last three dimensions."""

    dims = 3


class ReflectionPad1d(_Pad):
    """x (n, c, w) mirrored at its ends, which are not repeated."""

    dims, mode = 1, "reflect"


class ReflectionPad2d(_Pad):
    """x (n, c, h, w) mirrored at its edges, which are not repeated."""

    dims, mode = 2, "reflect"


class ReflectionPad3d(_Pad):
    """x (n, c, d, h, w) mirrored at its faces, which are not repeated."""

    dims, mode = 3, "reflect"


class ReplicationPad1d(_Pad):
    """x (n, c, w) with its ends repeated."""

    dims, mode = 1, "replicate"


class ReplicationPad2d(_Pad):
    """x (n, c, h, w) with its edges repeated."""

    dims, mode = 2, "replicate"


class ReplicationPad3d(_Pad):
    """x (n, c, d, h, w) with its faces repeated."""

    dims, mode = 3, "replicate"


class CircularPad1d(_Pad):
    """x (n, c, w) going on at its other end."""

    dims, mode = 1, "circular"


class CircularPad2d(_Pad):
    """x (n, c, h, w) going on at its other edge."""

    dims, mode = 2, "circular"


class CircularPad3d(_Pad):
    """x (n, c, d, h, w) going on at its other face."""

    dims, mode = 3, "circular"
