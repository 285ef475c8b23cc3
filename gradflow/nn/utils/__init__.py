"""nn.utils: clipping gradients, parameters as one vector, layers fused, normalised, parametrized and pruned, and
(nn.utils.rnn) sequences of unequal length.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterable
from typing import Any

from ...backend import default_generator
from ...ops import join
from ...optim import clip as clip_grad
from ...optim.clip import clip_grad_norm_, clip_grad_value_, clip_grads_with_norm_, get_total_norm
from . import fusion, parametrizations, parametrize, prune, rnn, stateless
from .fused import fuse_activations
from .fusion import fuse_conv_bn_eval, fuse_conv_bn_weights, fuse_linear_bn_eval, fuse_linear_bn_weights
from .spectral_norm import remove_spectral_norm, spectral_norm
from .weight_norm import remove_weight_norm, weight_norm

__all__ = [
    "clip_grad", "clip_grad_norm", "clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_",
    "convert_conv2d_weight_memory_format", "convert_conv3d_weight_memory_format", "fuse_activations",
    "fuse_conv_bn_eval", "fuse_conv_bn_weights", "fuse_linear_bn_eval", "fuse_linear_bn_weights", "fusion", "get_total_norm",
    "parameters_to_vector", "parametrizations", "parametrize", "prune", "remove_spectral_norm", "remove_weight_norm",
    "rnn", "skip_init", "spectral_norm", "stateless", "vector_to_parameters", "weight_norm",
]  # fmt: skip


def clip_grad_norm(parameters: Any, max_norm: float, norm_type: float = 2.0, *args: Any, **kwargs: Any) -> Any:
    """clip_grad_norm_ by its old name."""
    warnings.warn("clip_grad_norm: it is deprecated; use clip_grad_norm_", FutureWarning, stacklevel=2)
    return clip_grad_norm_(parameters, max_norm, norm_type, *args, **kwargs)


def skip_init(module_cls: type, *args: Any, **kwargs: Any) -> Any:
    """A module of a class whose parameters are not drawn: they are on `device`, uninitialised.

    RuntimeError if the class is no Module or does not take a device.
    """
    from ..module import Module

    if not issubclass(module_cls, Module):
        raise RuntimeError(f"skip_init: wanted a class of modules, saw {module_cls.__name__}")
    if "device" not in inspect.signature(module_cls).parameters:
        raise RuntimeError(f"skip_init: wanted a class that takes a device, saw {module_cls.__name__}")
    device = kwargs.pop("device", None) or "cpu"
    before = default_generator.get_state()
    try:
        return module_cls(*args, **kwargs).to_empty(device=device)
    finally:
        default_generator.set_state(before)


def convert_conv2d_weight_memory_format(module: Any, memory_format: Any) -> Any:
    """Lay the weights of the Conv2d and ConvTranspose2d in a module out in a memory format: channels_last, say. The module."""
    from ..conv import Conv2d, ConvTranspose2d

    return _laid_out(module, (Conv2d, ConvTranspose2d), memory_format)


def convert_conv3d_weight_memory_format(module: Any, memory_format: Any) -> Any:
    """Lay the weights of the Conv3d and ConvTranspose3d in a module out in a memory format: channels_last_3d. The module."""
    from ..conv import Conv3d, ConvTranspose3d

    return _laid_out(module, (Conv3d, ConvTranspose3d), memory_format)


def _laid_out(module: Any, kinds: tuple[type, ...], memory_format: Any) -> Any:
    for m in module.modules():
        if isinstance(m, kinds):
            m.weight.data = m.weight.data.contiguous(memory_format=memory_format)
    return module


def parameters_to_vector(parameters: Iterable[Any]) -> Any:
    """All elements of the parameters, one after the other, in one dimension. TypeError for different devices."""
    parameters = list(parameters)
    if len({str(p.device) for p in parameters}) > 1:
        raise TypeError(
            f"parameters_to_vector: wanted one device, saw {', '.join({str(p.device) for p in parameters})}"
        )
    return join.cat([p.reshape(-1) for p in parameters])


def vector_to_parameters(vec: Any, parameters: Iterable[Any]) -> None:
    """Cut a vector into the parameters' new values, which share its memory. ValueError for another size."""
    parameters = list(parameters)
    wanted = sum(p.numel() for p in parameters)
    if vec.dim() != 1 or vec.numel() != wanted:
        raise ValueError(f"vector_to_parameters: wanted a vector of {wanted} elements, saw shape {tuple(vec.shape)}")
    at = 0
    for p in parameters:
        p.data = vec[at : at + p.numel()].reshape(p.shape).data
        at += p.numel()
