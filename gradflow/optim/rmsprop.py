"""RMSprop: gradients divided by a running root mean square of themselves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..backend import Array
from ..cases import case
from ..ops import pointwise
from .optimizer import Optimizer, zeros
from .update import many, rule


@rule(
    cases=lambda r: [
        case(r(4, 3), r(4, 3), r.positive(4, 3), None, None, 0.01, 0.99, 1e-8, 0.0, 0.0, False),
        case(r(4, 3), r(4, 3), r.positive(4, 3), r(4, 3), None, 0.01, 0.9, 1e-8, 0.1, 0.9, False),
        case(r(9001), r(9001), 2 + r.positive(9001), r(9001), 0.1 * r(9001), 0.01, 0.9, 1e-3, 0.1, 0.9, True),
        case(r(5), r(5), 2 + r.positive(5), None, 0.1 * r(5), 0.01, 0.9, 1e-3, 0.0, 0.0, False),
        case(r(), r(), r.positive(), None, None, 0.01, 0.99, 1e-8, 0.0, 0.0, True),
        case(r(0), r(0), r(0), None, None, 0.01, 0.99, 1e-8, 0.0, 0.0, False),
    ]
)
def rmsprop(
    p: Array, g: Array, v: Array, m: Array | None, mean: Array | None, /, lr: Any, alpha: float, eps: float,
    weight_decay: float, momentum: float, maximize: bool,
) -> None:  # fmt: skip
    """p - lr g / (sqrt v + eps) with v <- alpha v + (1 - alpha) g^2; v - mean^2 in the root if centred; m momentum."""
    if maximize:
        g = -g
    if weight_decay:
        g = g + weight_decay * p
    v *= alpha
    v += (1 - alpha) * (g * g)
    if mean is not None:
        mean += (1 - alpha) * (g - mean)
        v = v - mean * mean
    d = pointwise.sqrt(v) + eps
    if m is None:
        p -= lr * g / d
        return
    m *= momentum
    m += g / d
    p -= lr * m


class RMSprop(Optimizer):
    """p <- p - lr g / (sqrt v + eps), where v <- alpha v + (1 - alpha) g^2 and g includes weight_decay p.

    centered takes the variance v - mean(g)^2 in the root; momentum smooths the steps. maximize climbs instead.
    ValueError for a negative hyperparameter. Hinton, Neural Networks for Machine Learning, lecture 6, 2012;
    centred: Graves, "Generating Sequences With Recurrent Neural Networks", 2013.
    """

    _step_supports_amp_scaling = True

    def __init__(
        self, params: Iterable[Any], lr: Any = 1e-2, alpha: float = 0.99, eps: float = 1e-8, weight_decay: float = 0,
        momentum: float = 0, centered: bool = False, capturable: bool = False, foreach: bool | None = None,
        maximize: bool = False, differentiable: bool = False,
    ) -> None:  # fmt: skip
        self.at_least_zero(lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum)
        super().__init__(
            params,
            dict(
                lr=lr, momentum=momentum, alpha=alpha, eps=eps, centered=centered, weight_decay=weight_decay,
                capturable=capturable, foreach=foreach, maximize=maximize, differentiable=differentiable,
            ),
        )  # fmt: skip

    def init(self, p: Array, group: dict) -> dict[str, Any]:
        """A count of steps and the running means, zero."""
        state = {"step": self.counter(p, group), "square_avg": zeros(p)}
        if group["momentum"] > 0:
            state["momentum_buffer"] = zeros(p)
        if group["centered"]:
            state["grad_avg"] = zeros(p)
        return state

    def update(self, group: dict, p: list, g: list, state: dict, step: Any, fresh: bool) -> None:
        """One step of `rmsprop` for all of p."""
        many(
            rmsprop, p, g, [state["square_avg"], state.get("momentum_buffer"), state.get("grad_avg")],
            group["lr"], group["alpha"], group["eps"], group["weight_decay"], group["momentum"],
            group["maximize"],
        )  # fmt: skip
