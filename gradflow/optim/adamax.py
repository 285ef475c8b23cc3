"""Adamax: Adam with the greatest recent gradient in the place of their root mean square."""

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
        case(r(4, 3), r(4, 3), r(4, 3), r.positive(4, 3), 1.0, 2e-3, 0.9, 0.999, 1e-8, 0.0, False),
        case(r(9001), r(9001), r(9001), r.positive(9001), 7.0, 2e-3, 0.8, 0.9, 1e-3, 0.1, True),
        case(r(7), r(7), r(7), r.positive(7), 100.0, 0.1, 0.0, 0.99, 1e-3, 0.0, False),
        case(r(), r(), r(), r.positive(), 3.0, 0.1, 0.9, 0.99, 1e-8, 0.0, False),
        case(r(0), r(0), r(0), r(0), 3.0, 0.1, 0.9, 0.99, 1e-8, 0.0, False),
    ]
)
def adamax(
    p: Array, g: Array, m: Array, u: Array, /, step: Any, lr: Any, beta1: float, beta2: float, eps: float,
    weight_decay: float, maximize: bool,
) -> None:  # fmt: skip
    """p - lr / (1 - beta1^step) m / u with m <- beta1 m + (1 - beta1) g and u <- max(beta2 u, |g| + eps)."""
    if maximize:
        g = -g
    if weight_decay:
        g = g + weight_decay * p
    m *= beta1
    m += (1 - beta1) * g
    u[...] = pointwise.maximum(beta2 * u, pointwise.abs(g) + eps)
    p -= lr / (1 - beta1**step) * m / u


class Adamax(Optimizer):
    """p <- p - lr / (1 - beta1^step) m / u, where m <- beta1 m + (1 - beta1) g and u <- max(beta2 u, |g| + eps).

    g includes weight_decay p. maximize climbs instead; capturable keeps the count of steps on the card; differentiable
    records the steps. ValueError for a hyperparameter out of range.
    Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2014, section 7.
    """

    _step_supports_amp_scaling = True

    def __init__(
        self, params: Iterable[Any], lr: Any = 2e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0, foreach: bool | None = None, *, maximize: bool = False, differentiable: bool = False,
        capturable: bool = False,
    ) -> None:  # fmt: skip
        self.at_least_zero(lr=lr, eps=eps, weight_decay=weight_decay)
        self.below_one(betas)
        super().__init__(
            params,
            dict(
                lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, foreach=foreach, maximize=maximize,
                differentiable=differentiable, capturable=capturable,
            ),
        )  # fmt: skip

    def init(self, p: Array, group: dict) -> dict[str, Any]:
        """A count of steps, the running mean and the running maximum, zero."""
        return {"step": self.counter(p, group), "exp_avg": zeros(p), "exp_inf": zeros(p)}

    def update(self, group: dict, p: list, g: list, state: dict, step: Any, fresh: bool) -> None:
        """One step of `adamax` for all of p."""
        many(
            adamax, p, g, [state["exp_avg"], state["exp_inf"]], step, group["lr"], *group["betas"], group["eps"],
            group["weight_decay"], group["maximize"],
        )  # fmt: skip
