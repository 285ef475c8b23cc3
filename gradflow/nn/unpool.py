"""Max pooling undone, and max pooling with windows at random places."""

from __future__ import annotations

from typing import Any

from . import functional as F
from .conv import sizes
from .module import Module


class _MaxUnpool(Module):
    """What the unpools share: the sizes of the pooling that they undo."""

    dims: int

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0) -> None:
        super().__init__()
        n = self.dims
        self.kernel_size, self.padding = sizes(kernel_size, n), sizes(padding, n)
        self.stride = self.kernel_size if stride is None else sizes(stride, n)

    def forward(self, input: Any, indices: Any, output_size: Any = None) -> Any:
        """Put the values at their places; output_size chooses among the sizes that pool to the input's."""
        unpool = getattr(F, f"max_unpool{self.dims}d")
        return unpool(input, indices, self.kernel_size, self.stride, self.padding, output_size)

    def extra_repr(self) -> str:
        """The sizes."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxUnpool1d(_MaxUnpool):
    """The maxima of MaxPool1d at the places where they were found, zero elsewhere: x (n, c, w) or (c, w)."""

    dims = 1


class MaxUnpool2d(_MaxUnpool):
    """The maxima of MaxPool2d at the places where they were found, zero elsewhere: x (n, c, h, w) or (c, h, w)."""

    dims = 2


class MaxUnpool3d(_MaxUnpool):
    """The maxima of MaxPool3d at the places where they were found, zero elsewhere: x (n, c, d, h, w) or (c, d, h, w)."""

    dims = 3


class _FractionalMaxPool(Module):
    """What the fractional max pools share: one of output_size and output_ratio is given."""

    dims: int

    def __init__(
        self,
        kernel_size: Any,
        output_size: Any = None,
        output_ratio: Any = None,
        return_indices: bool = False,
        _random_samples: Any = None,
    ) -> None:
        super().__init__()
        name, n = type(self).__name__, self.dims
        if (output_size is None) == (output_ratio is None):
            raise ValueError(
                f"{name}: wanted one of output_size and output_ratio, "
                f"saw {'neither' if output_size is None else 'both'}"
            )
        self.kernel_size, self.return_indices = sizes(kernel_size, n), return_indices
        self.register_buffer("_random_samples", _random_samples)
        self.output_size = None if output_size is None else sizes(output_size, n)
        self.output_ratio = None
        if output_ratio is not None:
            ratios = (output_ratio,) * n if isinstance(output_ratio, (int, float)) else tuple(output_ratio)
            if not all(0 < r < 1 for r in ratios):
                raise ValueError(f"{name}: wanted an output_ratio between 0 and 1, saw {output_ratio}")
            self.output_ratio = ratios

    def forward(self, input: Any) -> Any:
        """The maxima; with return_indices also where they were found."""
        return getattr(F, f"fractional_max_pool{self.dims}d")(
            input,
            self.kernel_size,
            self.output_size,
            self.output_ratio,
            self.return_indices,
            _random_samples=self._random_samples,
        )


class FractionalMaxPool2d(_FractionalMaxPool):
    """The largest of windows at random places, as many as output_size says or output_ratio of the input's (Graham 2014).

    x (n, c, h, w) or (c, h, w). _random_samples (n, c, 2) in [0, 1) says where the windows are; drawn unless given.
    """

    dims = 2


class FractionalMaxPool3d(_FractionalMaxPool):
    """As FractionalMaxPool2d, for x (n, c, d, h, w) or (c, d, h, w)."""

    dims = 3
