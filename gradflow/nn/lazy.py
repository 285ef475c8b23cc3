"""Lazy layers: they learn the number of their inputs from the first input, and are then the ordinary layers."""

from __future__ import annotations

from typing import Any

from . import init
from .conv import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from .linear import Linear
from .norm import BatchNorm1d, BatchNorm2d, BatchNorm3d, InstanceNorm1d, InstanceNorm2d, InstanceNorm3d
from .parameter import UninitializedBuffer, UninitializedParameter, is_lazy


class LazyModuleMixin:
    """What makes a module lazy: its first call runs initialize_parameters(*args, **kwargs), which gives all parameters a shape.

    The class then becomes cls_to_become, if there is one.
    """

    cls_to_become: type | None = None

    def has_uninitialized_params(self) -> bool:
        """Whether a parameter or buffer of its own has no shape yet."""
        d = self.__dict__
        return any(is_lazy(t) for register in ("_parameters", "_buffers") for t in d[register].values())

    def initialize_parameters(self, *args: Any, **kwargs: Any) -> None:
        """Give all parameters a shape, from the arguments of the first call."""
        raise NotImplementedError(f"{type(self).__name__}: a lazy module defines initialize_parameters")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """forward(), after the parameters have their shapes."""
        if self.has_uninitialized_params() or self.cls_to_become is not None:
            self.initialize_parameters(*args, **kwargs)
            if self.has_uninitialized_params():
                raise RuntimeError(f"{type(self).__name__}: initialize_parameters left parameters without a shape")
            if self.cls_to_become is not None:
                self.__class__ = self.cls_to_become
                return self(*args, **kwargs)
        return super().__call__(*args, **kwargs)  # type: ignore[misc]


class LazyLinear(LazyModuleMixin, Linear):
    """Linear, its in_features the last size of the first input."""

    cls_to_become = Linear

    def __init__(self, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__(0, out_features, bias, device, dtype)
        self.weight = UninitializedParameter(device=device, dtype=dtype)
        if bias:
            self.bias = UninitializedParameter(device=device, dtype=dtype)

    def reset_parameters(self) -> None:
        """Draw weight and bias anew, once they have shapes."""
        if self.in_features and not self.has_uninitialized_params():
            super().reset_parameters()

    def initialize_parameters(self, input: Any) -> None:  # type: ignore[override]
        """Shape weight and bias for this input."""
        n = input.shape[-1]
        if self.has_uninitialized_params():
            self.in_features = n
            self.weight.materialize((self.out_features, n))  # type: ignore[attr-defined]
            if self.bias is not None:
                self.bias.materialize((self.out_features,))
            self.reset_parameters()
        self.in_features = self.weight.shape[-1]


class _LazyConv(LazyModuleMixin):
    in_channels: int
    weight: Any
    bias: Any

    def __init__(
        self, out_channels: int, kernel_size: Any, *args: Any, device: Any = None, dtype: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(0, out_channels, kernel_size, *args, device=device, dtype=dtype, **kwargs)  # type: ignore[call-arg]
        self.weight = UninitializedParameter(device=device, dtype=dtype)
        if self.bias is not None:
            self.bias = UninitializedParameter(device=device, dtype=dtype)

    def reset_parameters(self) -> None:
        """Draw weight and bias anew, once they have shapes."""
        if self.in_channels and not self.has_uninitialized_params():
            super().reset_parameters()  # type: ignore[misc]

    def initialize_parameters(self, input: Any, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """Shape weight and bias for this input."""
        name, dims = type(self).__name__, self.dims  # type: ignore[attr-defined]
        if input.dim() not in (dims + 1, dims + 2):
            raise RuntimeError(f"{name}: wanted {dims + 1} or {dims + 2} dimensions, saw shape {tuple(input.shape)}")
        if self.has_uninitialized_params():
            channels, groups = input.shape[-dims - 1], self.groups  # type: ignore[attr-defined]
            if channels % groups:
                raise ValueError(f"{name}: wanted input channels divisible by groups {groups}, saw {channels}")
            self.in_channels = channels
            first, second = channels, self.out_channels  # type: ignore[attr-defined]
            if not self.transposed:  # type: ignore[attr-defined]
                first, second = second, first
            self.weight.materialize((first, second // groups, *self.kernel_size))  # type: ignore[attr-defined]
            if self.bias is not None:
                self.bias.materialize((self.out_channels,))  # type: ignore[attr-defined]
            self.reset_parameters()
        elif not self.in_channels:  # a state_dict gave the shapes
            self.in_channels = self.weight.shape[0] if self.transposed else self.weight.shape[1] * self.groups  # type: ignore[attr-defined]


class LazyConv1d(_LazyConv, Conv1d):  # type: ignore[misc]
    """Conv1d, its in_channels those of the first input."""

    cls_to_become = Conv1d


class LazyConv2d(_LazyConv, Conv2d):  # type: ignore[misc]
    """Conv2d, its in_channels those of the first input."""

    cls_to_become = Conv2d


class LazyConv3d(_LazyConv, Conv3d):  # type: ignore[misc]
    """Conv3d, its in_channels those of the first input."""

    cls_to_become = Conv3d


class LazyConvTranspose1d(_LazyConv, ConvTranspose1d):  # type: ignore[misc]
    """ConvTranspose1d, its in_channels those of the first input."""

    cls_to_become = ConvTranspose1d


class LazyConvTranspose2d(_LazyConv, ConvTranspose2d):  # type: ignore[misc]
    """ConvTranspose2d, its in_channels those of the first input."""

    cls_to_become = ConvTranspose2d


class LazyConvTranspose3d(_LazyConv, ConvTranspose3d):  # type: ignore[misc]
    """ConvTranspose3d, its in_channels those of the first input."""

    cls_to_become = ConvTranspose3d


class _LazyNorm(LazyModuleMixin):
    weight: Any
    bias: Any
    running_mean: Any
    running_var: Any
    num_features: int

    def __init__(
        self,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(0, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)  # type: ignore[call-arg]
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        if affine:
            self.weight = UninitializedParameter(**made)
            if bias:
                self.bias = UninitializedParameter(**made)
        if track_running_stats:
            self.running_mean, self.running_var = UninitializedBuffer(**made), UninitializedBuffer(**made)
            init.zeros_(self.num_batches_tracked)  # type: ignore[attr-defined]

    def reset_parameters(self) -> None:
        """Weight 1, bias 0, no batches seen, once they have shapes."""
        if self.num_features and not self.has_uninitialized_params():
            super().reset_parameters()  # type: ignore[misc]

    def initialize_parameters(self, input: Any) -> None:  # type: ignore[override]
        """Shape weight, bias and statistics for this input (n, c, ...)."""
        if self.has_uninitialized_params():
            self.num_features = input.shape[1]
            for t in (self.weight, self.bias, self.running_mean, self.running_var):
                if is_lazy(t):
                    t.materialize((self.num_features,))
            self.reset_parameters()
        elif not self.num_features:  # a state_dict gave the shapes, or there is none to give
            self.num_features = input.shape[1]


class LazyBatchNorm1d(_LazyNorm, BatchNorm1d):  # type: ignore[misc]
    """BatchNorm1d, its num_features the channels of the first input."""

    cls_to_become = BatchNorm1d


class LazyBatchNorm2d(_LazyNorm, BatchNorm2d):  # type: ignore[misc]
    """BatchNorm2d, its num_features the channels of the first input."""

    cls_to_become = BatchNorm2d


class LazyBatchNorm3d(_LazyNorm, BatchNorm3d):  # type: ignore[misc]
    """BatchNorm3d, its num_features the channels of the first input."""

    cls_to_become = BatchNorm3d


class LazyInstanceNorm1d(_LazyNorm, InstanceNorm1d):  # type: ignore[misc]
    """InstanceNorm1d, its num_features the second size of the first input."""

    cls_to_become = InstanceNorm1d


class LazyInstanceNorm2d(_LazyNorm, InstanceNorm2d):  # type: ignore[misc]
    """InstanceNorm2d, its num_features the second size of the first input."""

    cls_to_become = InstanceNorm2d


class LazyInstanceNorm3d(_LazyNorm, InstanceNorm3d):  # type: ignore[misc]
    """InstanceNorm3d, its num_features the second size of the first input."""

    cls_to_become = InstanceNorm3d
