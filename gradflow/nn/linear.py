"""Layers that multiply by a matrix, and the one that does nothing."""

from __future__ import annotations

import math
from typing import Any

from . import functional as F
from . import init
from .module import Module
from .parameter import Parameter, blank


class Identity(Module):
    """y = x, whatever the arguments of the constructor."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, input: Any) -> Any:
        """The input."""
        return input


class Linear(Module):
    """y = x A^T + b: x (..., in_features), y (..., out_features), weight A (out_features, in_features).

    weight and bias start uniform in +-1/sqrt(in_features).
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = Parameter(blank((out_features, in_features), dtype, device))
        self.bias: Any
        self.register_parameter("bias", Parameter(blank((out_features,), dtype, device)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        init.default_bias_(self.bias, self.weight)

    def forward(self, input: Any) -> Any:
        """x A^T + b."""
        return F.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        """The sizes."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Bilinear(Module):
    """y_k = x1^T A_k x2 + b_k: x1 (..., in1_features), x2 (..., in2_features), weight (out_features, in1, in2).

    weight and bias start uniform in +-1/sqrt(in1_features).
    """

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if in1_features <= 0:
            raise ValueError(f"Bilinear: wanted in1_features > 0, saw {in1_features}")
        self.in1_features, self.in2_features, self.out_features = in1_features, in2_features, out_features
        self.weight = Parameter(blank((out_features, in1_features, in2_features), dtype, device))
        self.bias: Any
        self.register_parameter("bias", Parameter(blank((out_features,), dtype, device)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew."""
        bound = 1 / math.sqrt(self.in1_features)
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input1: Any, input2: Any) -> Any:
        """x1^T A x2 + b."""
        return F.bilinear(input1, input2, self.weight, self.bias)

    def extra_repr(self) -> str:
        """The sizes."""
        return (
            f"in1_features={self.in1_features}, in2_features={self.in2_features}, "
            f"out_features={self.out_features}, bias={self.bias is not None}"
        )
