"""Layers that normalise: over the batch, over each sample, over groups of channels, over neighbouring channels."""

from __future__ import annotations

from typing import Any

from ..ops import shape
from . import functional as F
from . import init
from .module import Module
from .parameter import Parameter, blank


class _Norm(Module):
    """What batch and instance norm share: weight and bias per channel, and running means and variances."""

    _version, _since = 2, {"num_batches_tracked": 2}
    ranks: tuple[int, ...]

    def __init__(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool,
        device: Any,
        dtype: Any,
        bias: bool,
    ) -> None:
        super().__init__()
        if eps <= 0:
            raise ValueError(f"{type(self).__name__}: wanted eps above 0, saw {eps}")
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        self.weight: Any
        self.bias: Any
        self.running_mean: Any
        self.running_var: Any
        self.num_batches_tracked: Any
        self.register_parameter("weight", Parameter(blank((num_features,), dtype, device)) if affine else None)
        self.register_parameter("bias", Parameter(blank((num_features,), dtype, device)) if affine and bias else None)
        track = track_running_stats
        self.register_buffer("running_mean", blank((num_features,), dtype, device) if track else None)
        self.register_buffer("running_var", blank((num_features,), dtype, device) if track else None)
        self.register_buffer("num_batches_tracked", blank((), "int64", device) if track else None)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Forget the batches seen: mean 0, variance 1."""
        if self.track_running_stats:
            init.zeros_(self.running_mean)
            init.ones_(self.running_var)
            init.zeros_(self.num_batches_tracked)

    def reset_parameters(self) -> None:
        """Weight 1, bias 0, no batches seen."""
        self.reset_running_stats()
        if self.affine:
            init.ones_(self.weight)
            if self.bias is not None:
                init.zeros_(self.bias)

    def _check_input_dim(self, input: Any) -> None:
        if input.dim() not in self.ranks:
            wanted = " or ".join(f"{r}-d" for r in self.ranks)
            raise ValueError(f"{type(self).__name__}: wanted {wanted} input, saw {input.dim()}-d")

    def extra_repr(self) -> str:
        """The settings."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class _BatchNorm(_Norm):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias)

    def forward(self, input: Any) -> Any:
        """Normalise; in training by the batch's statistics, which are tracked, in evaluation by those tracked."""
        self._check_input_dim(input)
        momentum = self.momentum or 0.0
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.array += 1
            self.num_batches_tracked.version.bump()
            if self.momentum is None:  # the mean of all batches so far
                momentum = 1.0 / float(self.num_batches_tracked)
        by_batch = self.training or (self.running_mean is None and self.running_var is None)
        tracked = not self.training or self.track_running_stats
        return F.batch_norm(
            input,
            self.running_mean if tracked else None,
            self.running_var if tracked else None,
            self.weight,
            self.bias,
            by_batch,
            momentum,
            self.eps,
        )


class BatchNorm1d(_BatchNorm):
    """y = (x - mean) / sqrt(var + eps) * weight + bias, per channel of x (n, c) or (n, c, w) (Ioffe and Szegedy 2015).

    In training mean and var are the batch's, and running_mean <- (1 - momentum) running_mean + momentum mean, with the
    unbiased variance likewise; momentum None averages over all batches. In evaluation they are the running ones.
    """

    ranks = (2, 3)


class BatchNorm2d(_BatchNorm):
    """y = (x - mean) / sqrt(var + eps) * weight + bias, per channel of x (n, c, h, w) (Ioffe and Szegedy 2015).

    In training mean and var are the batch's, and running_mean <- (1 - momentum) running_mean + momentum mean, with the
    unbiased variance likewise; momentum None averages over all batches. In evaluation they are the running ones.
    """

    ranks = (4,)


class BatchNorm3d(_BatchNorm):
    """As BatchNorm2d, for x (n, c, d, h, w)."""

    ranks = (5,)


class SyncBatchNorm(_BatchNorm):
    """BatchNorm of x (n, c, ...) of any number of dimensions; one process is all there is to synchronise with."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        process_group: Any = None,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)
        self.process_group = process_group

    def _check_input_dim(self, input: Any) -> None:
        if input.dim() < 2:
            raise ValueError(f"SyncBatchNorm: wanted at least 2-d input, saw {input.dim()}-d")

    @classmethod
    def convert_sync_batchnorm(cls, module: Module, process_group: Any = None) -> Module:
        """The module with a SyncBatchNorm, of the same parameters and statistics, in the place of every batch norm."""
        made = module
        if isinstance(module, _BatchNorm):
            made = cls(
                module.num_features,
                module.eps,
                module.momentum,
                module.affine,
                module.track_running_stats,
                process_group,
                bias=module.bias is not None,
            )
            for register in ("_parameters", "_buffers"):
                made.__dict__[register].update(module.__dict__[register])
            made.training = module.training
        for name, child in list(module.named_children()):
            made.register_module(name, cls.convert_sync_batchnorm(child, process_group))
        return made


class _InstanceNorm(_Norm):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias)

    def forward(self, input: Any) -> Any:
        """Normalise each sample's channels; without a batch dimension, one sample's."""
        self._check_input_dim(input)
        single = input.dim() == self.ranks[0]
        channels = input.shape[0 if single else 1]
        if channels != self.num_features and self.affine:
            raise ValueError(f"{type(self).__name__}: wanted {self.num_features} channels, saw {channels}")
        y = F.instance_norm(
            shape.unsqueeze(input, 0) if single else input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or not self.track_running_stats,
            self.momentum or 0.0,
            self.eps,
        )
        return shape.squeeze(y, 0) if single else y


class InstanceNorm1d(_InstanceNorm):
    """y = (x - mean) / sqrt(var + eps) per sample and channel of x (n, c, w) or (c, w) (Ulyanov et al. 2016)."""

    ranks = (2, 3)


class InstanceNorm2d(_InstanceNorm):
    """y = (x - mean) / sqrt(var + eps) per sample and channel of x (n, c, h, w) or (c, h, w) (Ulyanov et al. 2016)."""

    ranks = (3, 4)


class InstanceNorm3d(_InstanceNorm):
    """y = (x - mean) / sqrt(var + eps) per sample and channel of x (n, c, d, h, w) (Ulyanov et al. 2016)."""

    ranks = (4, 5)


def _sizes(normalized_shape: Any) -> tuple[int, ...]:
    return (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)


class LayerNorm(Module):
    """y = (x - mean) / sqrt(var + eps) * weight + bias over the last dimensions (Ba et al. 2016).

    normalized_shape is their sizes, and the shape of weight and bias.
    """

    def __init__(
        self,
        normalized_shape: Any,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        shape = self.normalized_shape = _sizes(normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        self.weight: Any
        self.bias: Any
        self.register_parameter("weight", Parameter(blank(shape, dtype, device)) if elementwise_affine else None)
        self.register_parameter("bias", Parameter(blank(shape, dtype, device)) if elementwise_affine and bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weight 1, bias 0."""
        if self.elementwise_affine:
            init.ones_(self.weight)
            if self.bias is not None:
                init.zeros_(self.bias)

    def forward(self, input: Any) -> Any:
        """Normalise."""
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """The settings."""
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
            f"bias={self.bias is not None}"
        )


class RMSNorm(Module):
    """y = x / sqrt(mean(x^2) + eps) * weight over the last dimensions (Zhang and Sennrich 2019).

    eps None is the machine epsilon of x's dtype.
    """

    def __init__(
        self,
        normalized_shape: Any,
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        shape = self.normalized_shape = _sizes(normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        self.weight: Any
        self.register_parameter("weight", Parameter(blank(shape, dtype, device)) if elementwise_affine else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weight 1."""
        if self.elementwise_affine:
            init.ones_(self.weight)

    def forward(self, input: Any) -> Any:
        """Normalise."""
        return F.rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        """The settings."""
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class GroupNorm(Module):
    """y = (x - mean) / sqrt(var + eps) * weight + bias, mean and var of each group of channels (Wu and He 2018).

    x (n, c, ...), num_channels divisible by num_groups, weight and bias per channel.
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if num_channels % num_groups:
            raise ValueError(f"GroupNorm: wanted channels divisible by {num_groups} groups, saw {num_channels}")
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        self.weight: Any
        self.bias: Any
        self.register_parameter("weight", Parameter(blank((num_channels,), dtype, device)) if affine else None)
        self.register_parameter("bias", Parameter(blank((num_channels,), dtype, device)) if affine and bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weight 1, bias 0."""
        if self.affine:
            init.ones_(self.weight)
            if self.bias is not None:
                init.zeros_(self.bias)

    def forward(self, input: Any) -> Any:
        """Normalise."""
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """The settings."""
        sizes = f"{self.num_groups}, {self.num_channels}"
        return f"{sizes}, eps={self.eps}, affine={self.affine}, bias={self.bias is not None}"


class LocalResponseNorm(Module):
    """y = x / (k + alpha mean(x^2))^beta, the mean over `size` neighbouring channels (Krizhevsky et al. 2012)."""

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, input: Any) -> Any:
        """Normalise."""
        return F.local_response_norm(input, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        """The settings."""
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"


class CrossMapLRN2d(LocalResponseNorm):
    """LocalResponseNorm of x (n, c, h, w), by the name that older programs have for it."""

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1) -> None:
        super().__init__(size, alpha, beta, k)

    def forward(self, input: Any) -> Any:
        """Normalise. ValueError unless the input has four dimensions."""
        if input.dim() != 4:
            raise ValueError(f"CrossMapLRN2d: wanted 4 dimensions, saw shape {tuple(input.shape)}")
        return super().forward(input)
