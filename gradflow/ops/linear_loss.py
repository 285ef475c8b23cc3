"""Cross entropy of a linear layer's output: the head of a language model, in one call."""

from __future__ import annotations

from typing import Any

from . import linalg, shape
from .loss import cross_entropy


def linear_cross_entropy(
    input: Any,
    linear_weight: Any,
    target: Any,
    *,
    linear_bias: Any = None,
    weight: Any = None,
    reduction: str = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    options: Any = None,
) -> Any:
    """cross_entropy(x A^T + b, target): x (n, in) or (in,), A (c, in) or (c, d1, ..., in), b A's shape without in.

    The target has classes (n, d1, ...), of which ignore_index (-100 unless given) counts for nothing, or probabilities
    (n, c, d1, ...). options are for PyTorch's way of computing it in parts, which changes memory and not the result; here
    it is computed whole.
    """
    if linear_weight.ndim < 2 or input.ndim not in (1, 2) or (linear_weight.ndim > 2 and input.ndim == 1):
        raise RuntimeError(
            "linear_cross_entropy: wanted an input (n, in) with a weight (c, ..., in), or (in,) with (c, in), "
            f"saw {tuple(input.shape)} with {tuple(linear_weight.shape)}"
        )
    outer, features = tuple(linear_weight.shape[:-1]), linear_weight.shape[-1]
    if input.shape[-1] != features:
        raise RuntimeError(f"linear_cross_entropy: wanted an input of {features} features, saw {tuple(input.shape)}")
    if linear_bias is not None and tuple(linear_bias.shape) != outer:
        raise RuntimeError(f"linear_cross_entropy: wanted a bias of shape {outer}, saw {tuple(linear_bias.shape)}")
    flat = linear_weight if len(outer) == 1 else shape.reshape(linear_weight, (-1, features))
    bias = linear_bias if linear_bias is None or len(outer) == 1 else shape.reshape(linear_bias, (-1,))
    scores = linalg.linear(input, flat, bias)
    if len(outer) > 1:
        scores = shape.reshape(scores, (-1, *outer))
    if ignore_index is None:
        ignore_index = -100
    return cross_entropy(scores, target, weight, None, ignore_index, None, reduction, label_smoothing)
