"""Losses as layers: a number that says how far outputs are from targets, or one for each with reduction='none'."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from . import functional as F
from .module import Module


class _Loss(Module):
    """A function of the inputs, of settings (attributes named as its arguments) and of weights (buffers, likewise).

    size_average and reduce are PyTorch's old names for reduction: 'mean', 'sum' or 'none'.
    """

    function: Callable[..., Any]

    def _set(
        self, old: tuple[Any, Any], reduction: str, weights: dict[str, Any] | None = None, **settings: Any
    ) -> None:
        Module.__init__(self)
        size_average, reduce = old
        if size_average is not None or reduce is not None:
            reduction = "none" if reduce is False else "sum" if size_average is False else "mean"
            name = type(self).__name__
            warnings.warn(f"{name}: size_average and reduce are deprecated; use reduction={reduction!r}", stacklevel=3)
        self.reduction = reduction
        self._settings = ("reduction", *(weights or {}), *settings)
        for name, weight in (weights or {}).items():
            self.register_buffer(name, weight)
        self.__dict__.update(settings)

    def forward(self, input: Any, target: Any) -> Any:
        """The loss."""
        return type(self).function(input, target, **self._chosen())

    def _chosen(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._settings}


class L1Loss(_Loss):
    """|x - t|."""

    function = staticmethod(F.l1_loss)

    def __init__(self, size_average: Any = None, reduce: Any = None, reduction: str = "mean") -> None:
        self._set((size_average, reduce), reduction)


class MSELoss(_Loss):
    """(x - t)^2."""

    function = staticmethod(F.mse_loss)

    def __init__(self, size_average: Any = None, reduce: Any = None, reduction: str = "mean") -> None:
        self._set((size_average, reduce), reduction)


class SmoothL1Loss(_Loss):
    """(x - t)^2 / (2 beta) where |x - t| < beta, else |x - t| - beta / 2 (Girshick 2015)."""

    function = staticmethod(F.smooth_l1_loss)

    def __init__(
        self, size_average: Any = None, reduce: Any = None, reduction: str = "mean", beta: float = 1.0
    ) -> None:
        self._set((size_average, reduce), reduction, beta=beta)


class HuberLoss(_Loss):
    """(x - t)^2 / 2 where |x - t| < delta, else delta (|x - t| - delta / 2) (Huber 1964)."""

    function = staticmethod(F.huber_loss)

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        if isinstance(delta, bool) or not isinstance(delta, (int, float)):
            raise TypeError(f"HuberLoss: wanted delta as a float or an int, saw {type(delta).__name__}")
        self._set((None, None), reduction, delta=delta)


class CrossEntropyLoss(_Loss):
    """-log softmax(x)[t]: x (n, c, ...) scores, t (n, ...) classes or (n, c, ...) probabilities.

    weight scales classes, targets equal to ignore_index count for nothing, label_smoothing mixes in the uniform
    distribution (Szegedy et al. 2016).
    """

    function = staticmethod(F.cross_entropy)

    def __init__(
        self,
        weight: Any = None,
        size_average: Any = None,
        ignore_index: int = -100,
        reduce: Any = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        self._set(
            (size_average, reduce),
            reduction,
            {"weight": weight},
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
        )


class NLLLoss(_Loss):
    """-x[t]: x (n, c, ...) log-probabilities, t (n, ...) classes."""

    function = staticmethod(F.nll_loss)

    def __init__(
        self,
        weight: Any = None,
        size_average: Any = None,
        ignore_index: int = -100,
        reduce: Any = None,
        reduction: str = "mean",
    ) -> None:
        self._set((size_average, reduce), reduction, {"weight": weight}, ignore_index=ignore_index)


class NLLLoss2d(NLLLoss):
    """NLLLoss of images, by the name that older programs have for it."""

    def __init__(
        self,
        weight: Any = None,
        size_average: Any = None,
        ignore_index: int = -100,
        reduce: Any = None,
        reduction: str = "mean",
    ) -> None:
        warnings.warn("NLLLoss2d: it is deprecated; use NLLLoss", FutureWarning, stacklevel=2)
        super().__init__(weight, size_average, ignore_index, reduce, reduction)


class CTCLoss(_Loss):
    """-log p(t | x), p over all ways to place the labels t among blanks along time (Graves et al. 2006).

    log_probs (t, n, c) or (t, c), targets (n, s) or all in one row, and the lengths of both; zero_infinity makes the loss
    of targets that are too long zero.
    """

    def __init__(self, blank: int = 0, reduction: str = "mean", zero_infinity: bool = False) -> None:
        self._set((None, None), reduction, blank=blank, zero_infinity=zero_infinity)

    def forward(self, log_probs: Any, targets: Any, input_lengths: Any, target_lengths: Any) -> Any:  # type: ignore[override]
        """The loss."""
        return F.ctc_loss(log_probs, targets, input_lengths, target_lengths, **self._chosen())


class BCELoss(_Loss):
    """-(t log x + (1 - t) log(1 - x)): x and t probabilities of one shape."""

    function = staticmethod(F.binary_cross_entropy)

    def __init__(
        self, weight: Any = None, size_average: Any = None, reduce: Any = None, reduction: str = "mean"
    ) -> None:
        self._set((size_average, reduce), reduction, {"weight": weight})


class BCEWithLogitsLoss(_Loss):
    """BCELoss of sigmoid(x), computed without overflow; pos_weight scales the positive term."""

    function = staticmethod(F.binary_cross_entropy_with_logits)

    def __init__(
        self,
        weight: Any = None,
        size_average: Any = None,
        reduce: Any = None,
        reduction: str = "mean",
        pos_weight: Any = None,
    ) -> None:
        self._set((size_average, reduce), reduction, {"weight": weight, "pos_weight": pos_weight})


class KLDivLoss(_Loss):
    """t (log t - x): x log-probabilities, t probabilities, or logarithms if log_target; 'batchmean' divides by n."""

    function = staticmethod(F.kl_div)

    def __init__(
        self, size_average: Any = None, reduce: Any = None, reduction: str = "mean", log_target: bool = False
    ) -> None:
        self._set((size_average, reduce), reduction, log_target=log_target)


class PoissonNLLLoss(_Loss):
    """e^x - t x if log_input, else x - t log(x + eps); full adds t log t - t + log(2 pi t) / 2 where t > 1."""

    function = staticmethod(F.poisson_nll_loss)

    def __init__(
        self,
        log_input: bool = True,
        full: bool = False,
        size_average: Any = None,
        eps: float = 1e-8,
        reduce: Any = None,
        reduction: str = "mean",
    ) -> None:
        self._set((size_average, reduce), reduction, log_input=log_input, full=full, eps=eps)

    def forward(self, log_input: Any, target: Any) -> Any:  # type: ignore[override]
        """The loss."""
        return F.poisson_nll_loss(log_input, target, **self._chosen())


class GaussianNLLLoss(_Loss):
    """(log max(var, eps) + (x - t)^2 / max(var, eps)) / 2; full adds log(2 pi) / 2."""

    function = staticmethod(F.gaussian_nll_loss)

    def __init__(self, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean") -> None:
        self._set((None, None), reduction, full=full, eps=eps)

    def forward(self, input: Any, target: Any, var: Any) -> Any:  # type: ignore[override]
        """The loss."""
        return F.gaussian_nll_loss(input, target, var, **self._chosen())


class HingeEmbeddingLoss(_Loss):
    """x where t = 1, max(0, margin - x) where t = -1."""

    function = staticmethod(F.hinge_embedding_loss)

    def __init__(
        self, margin: float = 1.0, size_average: Any = None, reduce: Any = None, reduction: str = "mean"
    ) -> None:
        self._set((size_average, reduce), reduction, margin=margin)


class SoftMarginLoss(_Loss):
    """log(1 + e^(-t x)), t = 1 or -1."""

    function = staticmethod(F.soft_margin_loss)

    def __init__(self, size_average: Any = None, reduce: Any = None, reduction: str = "mean") -> None:
        self._set((size_average, reduce), reduction)


class MultiLabelSoftMarginLoss(_Loss):
    """The mean over classes of BCEWithLogitsLoss: x and t (n, c)."""

    function = staticmethod(F.multilabel_soft_margin_loss)

    def __init__(
        self, weight: Any = None, size_average: Any = None, reduce: Any = None, reduction: str = "mean"
    ) -> None:
        self._set((size_average, reduce), reduction, {"weight": weight})


class MultiLabelMarginLoss(_Loss):
    """sum_ij max(0, 1 - x[t_j] + x[i]) / c over labels t_j, up to the first -1, and classes i that are no labels."""

    function = staticmethod(F.multilabel_margin_loss)

    def __init__(self, size_average: Any = None, reduce: Any = None, reduction: str = "mean") -> None:
        self._set((size_average, reduce), reduction)


class MultiMarginLoss(_Loss):
    """sum_i max(0, margin - x[t] + x[i])^p / c over the classes i other than t: x (n, c), t (n)."""

    function = staticmethod(F.multi_margin_loss)

    def __init__(
        self,
        p: int = 1,
        margin: float = 1.0,
        weight: Any = None,
        size_average: Any = None,
        reduce: Any = None,
        reduction: str = "mean",
    ) -> None:
        self._set((size_average, reduce), reduction, {"weight": weight}, p=p, margin=margin)


class _Pair(_Loss):
    """A loss of two inputs and a target."""

    def forward(self, input1: Any, input2: Any, target: Any) -> Any:  # type: ignore[override]
        """The loss."""
        return type(self).function(input1, input2, target, **self._chosen())


class _Triple(_Loss):
    """A loss of three inputs."""

    def forward(self, anchor: Any, positive: Any, negative: Any) -> Any:  # type: ignore[override]
        """The loss."""
        return type(self).function(anchor, positive, negative, **self._chosen())


class MarginRankingLoss(_Pair):
    """max(0, -t (x1 - x2) + margin), t = 1 where x1 should be the larger, else -1."""

    function = staticmethod(F.margin_ranking_loss)

    def __init__(
        self, margin: float = 0.0, size_average: Any = None, reduce: Any = None, reduction: str = "mean"
    ) -> None:
        self._set((size_average, reduce), reduction, margin=margin)


class CosineEmbeddingLoss(_Pair):
    """1 - cos(x1, x2) where t = 1, max(0, cos(x1, x2) - margin) where t = -1."""

    function = staticmethod(F.cosine_embedding_loss)

    def __init__(
        self, margin: float = 0.0, size_average: Any = None, reduce: Any = None, reduction: str = "mean"
    ) -> None:
        self._set((size_average, reduce), reduction, margin=margin)


class TripletMarginLoss(_Triple):
    """max(0, |anchor - positive|_p - |anchor - negative|_p + margin) (Schroff et al. 2015, Balntas et al. 2016)."""

    function = staticmethod(F.triplet_margin_loss)

    def __init__(
        self,
        margin: float = 1.0,
        p: float = 2.0,
        eps: float = 1e-6,
        swap: bool = False,
        size_average: Any = None,
        reduce: Any = None,
        reduction: str = "mean",
    ) -> None:
        self._set((size_average, reduce), reduction, margin=margin, p=p, eps=eps, swap=swap)


class TripletMarginWithDistanceLoss(_Triple):
    """max(0, d(anchor, positive) - d(anchor, negative) + margin) for any distance d; the Euclidean one by default."""

    function = staticmethod(F.triplet_margin_with_distance_loss)

    def __init__(
        self,
        *,
        distance_function: Callable[[Any, Any], Any] | None = None,
        margin: float = 1.0,
        swap: bool = False,
        reduction: str = "mean",
    ) -> None:
        self._set((None, None), reduction, margin=margin, swap=swap)
        self.distance_function = PairwiseDistance() if distance_function is None else distance_function
        self._settings += ("distance_function",)


class CosineSimilarity(Module):
    """x1 . x2 / max(|x1| |x2|, eps) along dim."""

    def __init__(self, dim: int = 1, eps: float = 1e-8) -> None:
        super().__init__()
        self.dim, self.eps = dim, eps

    def forward(self, x1: Any, x2: Any) -> Any:
        """The similarities."""
        return F.cosine_similarity(x1, x2, self.dim, self.eps)


class PairwiseDistance(Module):
    """|x1 - x2 + eps|_p along the last dimension."""

    def __init__(self, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> None:
        super().__init__()
        self.norm, self.eps, self.keepdim = p, eps, keepdim

    def forward(self, x1: Any, x2: Any) -> Any:
        """The distances."""
        return F.pairwise_distance(x1, x2, self.norm, self.eps, self.keepdim)
