"""Losses of pairs and triplets: how far vectors or scores that belong together, or do not, are on the wrong side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import pointwise, reduce
from .distance import pairwise_distance
from .loss import _reduced, _reduction, _together

_sum = reduce.sum  # some losses have an argument called reduce


def hinge_embedding_loss(
    input: Any,
    target: Any,
    margin: float = 1.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """The distance x where t = 1, max(0, margin - x) where t = -1; the two broadcast."""
    reduction = _reduction("hinge_embedding_loss", size_average, reduce, reduction)
    _together("hinge_embedding_loss", input, target)
    far = pointwise.where(target != 1, pointwise.clamp(margin - input, min=0.0), 0.0)
    return _reduced(far + pointwise.where(target != -1, input, 0.0), reduction)


def margin_ranking_loss(
    input1: Any,
    input2: Any,
    target: Any,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """max(0, margin - t (x1 - x2)), t 1 or -1. RuntimeError unless all have as many dimensions."""
    reduction = _reduction("margin_ranking_loss", size_average, reduce, reduction)
    if not input1.ndim == input2.ndim == target.ndim:
        shapes = ", ".join(str(tuple(v.shape)) for v in (input1, input2, target))
        raise RuntimeError(f"margin_ranking_loss: wanted inputs of as many dimensions, saw {shapes}")
    _together("margin_ranking_loss", input1, input2, target)
    return _reduced(pointwise.clamp(-target * (input1 - input2) + margin, min=0.0), reduction)


def soft_margin_loss(
    input: Any,
    target: Any,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """log(1 + e^(-t x)), t 1 or -1."""
    reduction = _reduction("soft_margin_loss", size_average, reduce, reduction)
    _together("soft_margin_loss", input, target)
    v = -pointwise.log_sigmoid(target * input)
    if tuple(v.shape) != tuple(input.shape):
        raise RuntimeError(
            f"soft_margin_loss: wanted a target that broadcasts to {tuple(input.shape)}, saw {tuple(target.shape)}"
        )
    return _reduced(v if v.dtype == input.dtype else pointwise.cast(v, input.dtype), reduction)


def cosine_embedding_loss(
    input1: Any,
    input2: Any,
    target: Any,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """1 - cos(x1, x2) where t = 1, max(0, cos(x1, x2) - margin) where t = -1.

    x1 and x2 (n, d) or (d,), t (n,) or (). RuntimeError for a target of more dimensions or inputs of fewer.
    """
    reduction = _reduction("cosine_embedding_loss", size_average, reduce, reduction)
    if target.ndim > 1 or input1.ndim != target.ndim + 1 or input2.ndim != target.ndim + 1:
        shapes = ", ".join(str(tuple(v.shape)) for v in (input1, input2, target))
        raise RuntimeError(f"cosine_embedding_loss: wanted (n, d), (n, d) and (n,), or (d,), (d,) and (), saw {shapes}")
    _together("cosine_embedding_loss", input1, input2)
    eps = 1e-12  # as PyTorch has it here
    size = (_sum(pointwise.square(input1), -1) + eps) * (_sum(pointwise.square(input2), -1) + eps)
    cos = _sum(input1 * input2, -1) / pointwise.sqrt(size)
    _together("cosine_embedding_loss", cos, target)
    apart = pointwise.where(target == -1, pointwise.clamp(cos - margin, min=0.0), 0.0)
    return _reduced(pointwise.where(target == 1, 1 - cos, 0.0) + apart, reduction)


def triplet_margin_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """max(0, |a - p| - |a - n| + margin), the distances p-norms over the last dimension (Balntas et al. 2016).

    swap: |p - n| in place of |a - n| where it is smaller. ValueError unless margin > 0, RuntimeError unless all have as
    many dimensions.
    """
    reduction = _reduction("triplet_margin_loss", size_average, reduce, reduction)

    def distance(a: Any, b: Any) -> Any:
        return pairwise_distance(a, b, p, eps)

    return _triplet("triplet_margin_loss", anchor, positive, negative, distance, margin, swap, reduction)


def triplet_margin_with_distance_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    *,
    distance_function: Callable[[Any, Any], Any] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Any:
    """triplet_margin_loss with any distance; pairwise_distance by default."""
    name = "triplet_margin_with_distance_loss"
    reduction = _reduction(name, None, None, reduction)
    return _triplet(name, anchor, positive, negative, distance_function or pairwise_distance, margin, swap, reduction)


def _triplet(
    name: str, anchor: Any, positive: Any, negative: Any, distance: Callable, margin: float, swap: bool, reduction: str
) -> Any:
    if margin <= 0:
        raise ValueError(f"{name}: wanted margin greater than 0, saw {margin}")
    if not anchor.ndim == positive.ndim == negative.ndim:
        shapes = ", ".join(str(tuple(v.shape)) for v in (anchor, positive, negative))
        raise RuntimeError(f"{name}: wanted inputs of as many dimensions, saw {shapes}")
    _together(name, anchor, positive, negative)
    far = distance(anchor, negative)
    if swap:
        far = pointwise.minimum(far, distance(positive, negative))
    return _reduced(pointwise.clamp(distance(anchor, positive) - far + margin, min=0.0), reduction)
