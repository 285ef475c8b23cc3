"""Adaptive softmax: classes sorted by frequency, the frequent ones in a short list, the rare ones in clusters of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..op import wrap
from ..ops import gather, join, shape
from . import functional as F
from .container import ModuleList, Sequential
from .linear import Linear
from .module import Module


class ASMoutput(NamedTuple):
    """What AdaptiveLogSoftmaxWithLoss gives: log-probabilities of the targets (n), and minus their mean."""

    output: Any
    loss: Any


class AdaptiveLogSoftmaxWithLoss(Module):
    """log p(t | x) of many classes, sorted from frequent to rare (Grave et al. 2017).

    Classes below cutoffs[0] are the head's, which has a score for each of the clusters [cutoffs[i], cutoffs[i + 1]) too:
    log p(t) = log p_head(cluster) + log p_cluster(t). Cluster i works on in_features // div_value^(i + 1) features.
    input (n, in_features) or (in_features), target (n) or ().
    """

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        cutoffs: Sequence[int],
        div_value: float = 4.0,
        head_bias: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        cutoffs = list(cutoffs)
        if not cutoffs:
            raise ValueError("AdaptiveLogSoftmaxWithLoss: wanted at least one cutoff, saw none")
        if (
            cutoffs != sorted(set(cutoffs))
            or any(int(c) != c for c in cutoffs)
            or cutoffs[0] <= 0
            or cutoffs[-1] > n_classes - 1
        ):
            raise ValueError(
                f"AdaptiveLogSoftmaxWithLoss: wanted cutoffs as ints from 1 to {n_classes - 1}, each once and in order, "
                f"saw {cutoffs}"
            )
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        self.in_features, self.n_classes, self.cutoffs = in_features, n_classes, [*cutoffs, n_classes]
        self.div_value, self.head_bias = div_value, head_bias
        self.shortlist_size, self.n_clusters = cutoffs[0], len(cutoffs)
        self.head_size = self.shortlist_size + self.n_clusters
        self.head = Linear(in_features, self.head_size, head_bias, **made)
        self.tail = ModuleList()
        for i in range(self.n_clusters):
            inner, size = int(in_features // div_value ** (i + 1)), self.cutoffs[i + 1] - self.cutoffs[i]
            self.tail.append(Sequential(Linear(in_features, inner, False, **made), Linear(inner, size, False, **made)))

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        self.head.reset_parameters()
        for first, second in self.tail:
            first.reset_parameters()
            second.reset_parameters()

    def forward(self, input: Any, target: Any) -> ASMoutput:
        """(log-probabilities of the targets, minus their mean)."""
        batched = target.dim() == 1
        if target.dim() > 1 or input.dim() != target.dim() + 1 or (batched and len(input) != len(target)):
            raise RuntimeError(
                "AdaptiveLogSoftmaxWithLoss: wanted an input (n, in_features) with a target (n), or (in_features) with "
                f"(), saw {tuple(input.shape)} with {tuple(target.shape)}"
            )
        x, t = (input, target) if batched else (shape.unsqueeze(input, 0), shape.unsqueeze(target, 0))
        classes = t.array
        if classes.size and (classes.min() < 0 or classes.max() >= self.n_classes):
            raise RuntimeError(
                f"AdaptiveLogSoftmaxWithLoss: wanted targets from 0 to {self.n_classes - 1}, "
                f"saw {int(classes.min())} to {int(classes.max())}"
            )
        place = classes.copy()  # of the target, or of its cluster, in the head
        parts = []
        for i, cluster in enumerate(self.tail):
            low, high = self.cutoffs[i], self.cutoffs[i + 1]
            (rows,) = ((classes >= low) & (classes < high)).nonzero()
            if rows.size:
                place[rows] = self.shortlist_size + i
                scores = F.log_softmax(cluster(x[wrap(rows)]), 1)
                at = wrap((classes[rows] - low)[:, None])
                parts.append((wrap(rows), shape.squeeze(gather.gather(scores, 1, at), 1)))
        head = F.log_softmax(self.head(x), 1)
        y = shape.squeeze(gather.gather(head, 1, wrap(place[:, None])), 1)
        for rows, part in parts:
            y = gather.index_add(y, 0, rows, part)
        loss = (-y).mean()
        return ASMoutput(y if batched else shape.squeeze(y, 0), loss)

    def log_prob(self, input: Any) -> Any:
        """The log-probabilities of all classes: (n, n_classes) of an input (n, in_features)."""
        return self._all(input, self.head(input))

    def _all(self, input: Any, head: Any) -> Any:
        head, n = F.log_softmax(head, 1), self.shortlist_size
        tails = [F.log_softmax(c(input), 1) + head[:, n + i : n + i + 1] for i, c in enumerate(self.tail)]
        return join.cat([head[:, :n], *tails], dim=1)

    def predict(self, input: Any) -> Any:
        """The likeliest class of each row: (n)."""
        return self.log_prob(input).argmax(1)
