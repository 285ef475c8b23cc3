"""Adagrad: gradients divided by the root of the sum of all their squares so far."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..backend import Array
from ..cases import case
from ..ops import pointwise
from .optimizer import Optimizer, full
from .update import many, rule


@rule(
    cases=lambda r: [
        case(r(4, 3), r(4, 3), r.positive(4, 3), 1.0, 0.01, 0.0, 0.0, 1e-10, False),
        case(r(9001), r(9001), r.positive(9001), 5.0, 0.01, 0.1, 0.1, 1e-10, True),
        case(r(), r(), r.positive(), 2.0, 0.01, 0.0, 0.0, 1e-10, False),
        case(r(0), r(0), r(0), 1.0, 0.01, 0.0, 0.0, 1e-10, False),
    ]
)
def adagrad(
    p: Array,
    g: Array,
    v: Array,
    /,
    step: Any,
    lr: Any,
    lr_decay: float,
    weight_decay: float,
    eps: float,
    maximize: bool,
) -> None:
    """p - lr / (1 + (step - 1) lr_decay) g / (sqrt v + eps) with v <- v + g^2."""
    if maximize:
        g = -g
    if weight_decay:
        g = g + weight_decay * p
    v += g * g
    d = pointwise.sqrt(v) + eps
    p -= lr / (1 + (step - 1) * lr_decay) * g / d


class Adagrad(Optimizer):
    """p <- p - lr / (1 + (step - 1) lr_decay) g / (sqrt v + eps), where v <- v + g^2 and g includes weight_decay p.

    v starts at initial_accumulator_value. maximize climbs instead. ValueError for a negative hyperparameter.
    Duchi et al., "Adaptive Subgradient Methods for Online Learning and Stochastic Optimization", 2011.
    """

    _step_supports_amp_scaling = True

    def __init__(
        self, params: Iterable[Any], lr: Any = 1e-2, lr_decay: float = 0, weight_decay: float = 0,
        initial_accumulator_value: float = 0, eps: float = 1e-10, foreach: bool | None = None, *,
        maximize: bool = False, differentiable: bool = False, fused: bool | None = None,
    ) -> None:  # fmt: skip
        self.at_least_zero(
            lr=lr, lr_decay=lr_decay, weight_decay=weight_decay, eps=eps,
            initial_accumulator_value=initial_accumulator_value,
        )  # fmt: skip
        super().__init__(
            params,
            dict(
                lr=lr, lr_decay=lr_decay, eps=eps, weight_decay=weight_decay,
                initial_accumulator_value=initial_accumulator_value, foreach=foreach, maximize=maximize,
                differentiable=differentiable, fused=fused,
            ),
        )  # fmt: skip
        for group in self.param_groups:
            for p in group["params"]:
                self.begin(p, group)

    def init(self, p: Array, group: dict) -> dict[str, Any]:
        """A count of steps and the sum of squares."""
        return {"step": self.counter(p, group), "sum": full(p, group["initial_accumulator_value"])}

    def update(self, group: dict, p: list, g: list, state: dict, step: Any, fresh: bool) -> None:
        """One step of `adagrad` for all of p."""
        many(
            adagrad, p, g, [state["sum"]], step, group["lr"], group["lr_decay"], group["weight_decay"],
            group["eps"], group["maximize"],
        )  # fmt: skip
