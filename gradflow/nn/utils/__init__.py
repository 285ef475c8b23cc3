"""nn.utils: clipping gradients, parameters as one vector, and (nn.utils.rnn) sequences of unequal length."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ...ops import join
from ...optim.clip import clip_grad_norm_, clip_grad_value_, clip_grads_with_norm_, get_total_norm
from . import rnn

__all__ = [
    "clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_", "get_total_norm", "parameters_to_vector", "rnn",
    "vector_to_parameters",
]  # fmt: skip


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
