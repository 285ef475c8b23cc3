"""nn.grad: the gradients of convolutions as functions of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..ops import conv


def _named(rank: int, what: str, gradient: Callable[..., Any]) -> Callable[..., Any]:
    gradient.__name__ = gradient.__qualname__ = f"conv{rank}d_{what}"
    gradient.__doc__ = f"The gradient of conv{rank}d with respect to an {what} of size {what}_size, from that of its output."
    return gradient


def _of_input(rank: int) -> Callable[..., Any]:
    function = getattr(conv, f"conv{rank}d_input")

    def gradient(input_size, weight, grad_output, stride=1, padding=0, dilation=1, groups=1):
        return function(grad_output, weight, tuple(input_size), stride, padding, dilation, groups)

    return _named(rank, "input", gradient)


def _of_weight(rank: int) -> Callable[..., Any]:
    function = getattr(conv, f"conv{rank}d_weight")

    def gradient(input, weight_size, grad_output, stride=1, padding=0, dilation=1, groups=1):
        return function(grad_output, input, tuple(weight_size), stride, padding, dilation, groups)

    return _named(rank, "weight", gradient)


conv1d_input, conv2d_input, conv3d_input = map(_of_input, (1, 2, 3))
conv1d_weight, conv2d_weight, conv3d_weight = map(_of_weight, (1, 2, 3))
