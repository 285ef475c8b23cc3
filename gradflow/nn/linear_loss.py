"""LinearCrossEntropyLoss: the last linear layer of a classifier and its cross entropy as one layer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from . import functional as F
from .linear import Linear
from .loss import _Loss


@dataclass(frozen=True)
class LinearCrossEntropyOptions:
    """How PyTorch computes linear_cross_entropy in parts. They are checked and kept; here it is computed whole, which gives
    the same result with the memory of all scores at once.
    """

    allow_retain_graph: bool = False
    batch_chunk_size: int | None = None
    chunking_method: str | None = "auto"
    acc_policy: str = "auto"
    acc_dtype: Any = None

    def __post_init__(self) -> None:
        method, _, factor = (self.chunking_method or "").partition(":")
        if method not in ("", "auto", "aspect_ratio") or (factor and not factor.isdigit()):
            raise ValueError(
                "LinearCrossEntropyOptions: wanted chunking_method None, 'auto' or 'aspect_ratio:N', "
                f"saw {self.chunking_method!r}"
            )
        if self.acc_policy not in ("accurate", "balanced", "compact", "auto"):
            raise ValueError(
                "LinearCrossEntropyOptions: wanted acc_policy accurate, balanced, compact or auto, "
                f"saw {self.acc_policy!r}"
            )
        if self.batch_chunk_size is not None and self.batch_chunk_size <= 0:
            raise ValueError(f"LinearCrossEntropyOptions: wanted batch_chunk_size > 0, saw {self.batch_chunk_size}")


class LinearCrossEntropyLoss(_Loss):
    """CrossEntropyLoss of linear(x): x (n, in_features), targets (n, *out_features), num_classes scores for each."""

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        out_features: tuple[int, ...] = (),
        bias: bool = False,
        device: Any = None,
        dtype: Any = None,
        reduction: str = "mean",
        weight: Any = None,
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        options: LinearCrossEntropyOptions | None = None,
    ) -> None:
        if weight is not None and tuple(weight.shape) != (num_classes,):
            raise RuntimeError(
                f"LinearCrossEntropyLoss: wanted a weight of shape {(num_classes,)}, saw {tuple(weight.shape)}"
            )
        if not 0 <= label_smoothing <= 1:
            raise RuntimeError(f"LinearCrossEntropyLoss: wanted label_smoothing in [0, 1], saw {label_smoothing}")
        self._set(
            (None, None),
            reduction,
            {"weight": weight},
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
            options=options,
        )
        self.num_classes, self.out_features = num_classes, tuple(out_features)
        self.linear = Linear(in_features, num_classes * math.prod(out_features), bias, device, dtype)

    def forward(self, input: Any, target: Any) -> Any:
        """The loss."""
        outer = (self.num_classes, *self.out_features)
        bias = self.linear.bias
        return F.linear_cross_entropy(
            input,
            self.linear.weight.reshape(*outer, self.linear.in_features),
            target,
            linear_bias=None if bias is None else bias.reshape(outer),
            **self._chosen(),
        )

    def extra_repr(self) -> str:
        """The sizes and settings."""
        return (
            f"in_features={self.linear.in_features}, num_classes={self.num_classes}, out_features={self.out_features}, "
            f"bias={self.linear.bias is not None}, reduction={self.reduction}, ignore_index={self.ignore_index}, "
            f"label_smoothing={self.label_smoothing}, options={self.options}"
        )
