"""Activations worked into the linear layer or convolution before them, in a model that trains or evaluates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...ops import activated, conv
from ...tape import mode
from .. import activation as activations
from .. import hooks
from ..container import Sequential
from ..conv import Conv1d, Conv2d, Conv3d
from ..linear import Linear
from ..module import Module

_WORDS = {activations.ReLU: "relu", activations.SiLU: "silu", activations.Sigmoid: "sigmoid", activations.Tanh: "tanh"}
_CONVOLUTIONS: dict[type, Callable[..., Any]] = {
    Conv1d: conv.conv1d_activation, Conv2d: conv.conv2d_activation, Conv3d: conv.conv3d_activation,
}  # fmt: skip


def word_of(module: Module) -> str | None:
    """The activation of a module as the ops call it, or None if it is no activation that can be fused."""
    if type(module) is activations.GELU:
        return "gelu_tanh" if module.approximate == "tanh" else "gelu"
    return _WORDS.get(type(module))


def _hooked(module: Module) -> bool:
    d = module.__dict__
    return bool(d["_forward_hooks"] or d["_forward_pre_hooks"] or d["_backward_hooks"] or d["_backward_pre_hooks"])


def _trained(layer: Module, x: Any) -> bool:
    """Whether the layer's result will be differentiated."""
    return mode.enabled and any(getattr(t, "requires_grad", False) for t in (x, layer.weight, layer.bias))


def pair(layer: Module, then: Module, x: Any) -> Any:
    """then(layer(x)) as one op, or NotImplemented for what is no such pair or has hooks, which must be called between.

    gelu and silu stay apart where gradients are asked for: theirs need what was put in, and would multiply again for it.
    """
    word, function = word_of(then), _CONVOLUTIONS.get(type(layer))
    if word is None or (function is None and type(layer) is not Linear) or hooks.everywhere or _hooked(layer) or _hooked(then):
        return NotImplemented
    if conv.ACTIVATIONS[word].of_input and _trained(layer, x):
        return NotImplemented
    if function is None:
        return activated.linear_activation(x, layer.weight, layer.bias, word)
    if layer.padding_mode != "zeros":
        return NotImplemented
    return function(x, layer.weight, layer.bias, word, layer.stride, layer.padding, layer.dilation, layer.groups)


class FusedSequential(Sequential):
    """A Sequential in which a layer and the activation after it run as one op. The modules in it, and the names of their
    parameters, are the Sequential's.
    """

    def forward(self, input: Any) -> Any:
        """Run the modules in order, two at a time where that is possible."""
        modules = list(self._modules.values())
        i = 0
        while i < len(modules):
            y = pair(modules[i], modules[i + 1], input) if i + 1 < len(modules) else NotImplemented
            i += 1 if y is NotImplemented else 2
            input = modules[i - 1](input) if y is NotImplemented else y
        return input


def fuse_activations(model: Module) -> Module:
    """The model, in which each linear layer or convolution of a Sequential and the relu, gelu, silu, sigmoid or tanh after it
    run as one op: on the card one kernel. Values, gradients and state_dict() are the same.
    """
    for module in model.modules():
        if type(module) is Sequential:
            module.__class__ = FusedSequential
    return model
