"""nn.grad: the gradients of convolutions as functions of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..ops import conv


def _of_input(rank: int) -> Callable[..., Any]:
    function = getattr(conv, f"conv{rank}d_input")

    def gradient(
        input_size: Any,
        weight: Any,
        grad_output: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Any:
        return function(grad_output, weight, tuple(input_size), stride, padding, dilation, groups)

    gradient.__name__ = gradient.__qualname__ = f"conv{rank}d_input"
    gradient.__doc__ = (
        f"The gradient of conv{rank}d with respect to an input of size input_size, from that of its output."
    )
    return gradient


def _of_weight(rank: int) -> Callable[..., Any]:
    function = getattr(conv, f"conv{rank}d_weight")

    def gradient(
        input: Any,
        weight_size: Any,
        grad_output: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Any:
        return function(grad_output, input, tuple(weight_size), stride, padding, dilation, groups)

    gradient.__name__ = gradient.__qualname__ = f"conv{rank}d_weight"
    gradient.__doc__ = (
        f"The gradient of conv{rank}d with respect to a weight of size weight_size, from that of its output."
    )
    return gradient


conv1d_input, conv2d_input, conv3d_input = map(_of_input, (1, 2, 3))
conv1d_weight, conv2d_weight, conv3d_weight = map(_of_weight, (1, 2, 3))
