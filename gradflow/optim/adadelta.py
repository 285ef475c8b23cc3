"""Adadelta: steps in the parameters' own unit, the root mean square of past steps over that of past gradients."""

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
        case(r(4, 3), r(4, 3), r.positive(4, 3), r.positive(4, 3), 1.0, 0.9, 1e-6, 0.0, False),
        case(r(9001), r(9001), r.positive(9001), r.positive(9001), 0.1, 0.5, 1e-3, 0.1, True),
        case(r(7), r(7), r.positive(7), r.positive(7), 0.1, 0.0, 1e-3, 0.0, False),
        case(r(), r(), r.positive(), r.positive(), 1.0, 0.9, 1e-6, 0.0, True),
        case(r(0), r(0), r(0), r(0), 1.0, 0.9, 1e-6, 0.0, False),
    ]
)
def adadelta(
    p: Array, g: Array, v: Array, u: Array, /, lr: Any, rho: float, eps: float, weight_decay: float, maximize: bool
) -> None:
    """p - lr s with v <- rho v + (1 - rho) g^2, s = sqrt((u + eps) / (v + eps)) g, u <- rho u + (1 - rho) s^2."""
    if maximize:
        g = -g
    if weight_decay:
        g = g + weight_decay * p
    v *= rho
    v += (1 - rho) * (g * g)
    s = pointwise.sqrt(u + eps) / pointwise.sqrt(v + eps) * g
    u *= rho
    u += (1 - rho) * (s * s)
    p -= lr * s


class Adadelta(Optimizer):
    """p <- p - lr s, where s = sqrt((u + eps) / (v + eps)) g, and v, u are running means of g^2 and s^2.

    v <- rho v + (1 - rho) g^2,  u <- rho u + (1 - rho) s^2;  g includes weight_decay p. maximize climbs instead.
    capturable is accepted; differentiable records the steps. ValueError for a hyperparameter out of range.
    Zeiler, "ADADELTA: An Adaptive Learning Rate Method", 2012.
    """

    _step_supports_amp_scaling = True

    def __init__(
        self, params: Iterable[Any], lr: Any = 1.0, rho: float = 0.9, eps: float = 1e-6, weight_decay: float = 0,
        foreach: bool | None = None, *, capturable: bool = False, maximize: bool = False, differentiable: bool = False,
    ) -> None:  # fmt: skip
        self.at_least_zero(lr=lr, rho=rho, eps=eps, weight_decay=weight_decay)
        if rho > 1:
            raise ValueError(f"Adadelta: wanted rho <= 1, saw {rho}")
        super().__init__(
            params,
            dict(
                lr=lr, rho=rho, eps=eps, weight_decay=weight_decay, maximize=maximize, capturable=capturable,
                foreach=foreach, differentiable=differentiable,
            ),
        )  # fmt: skip

    def init(self, p: Array, group: dict) -> dict[str, Any]:
        """A count of steps and the running means, zero."""
        return {"step": self.counter(p, group), "square_avg": zeros(p), "acc_delta": zeros(p)}

    def update(self, group: dict, p: list, g: list, state: dict, step: Any, fresh: bool) -> None:
        """One step of `adadelta` for all of p."""
        many(
            adadelta, p, g, [state["square_avg"], state["acc_delta"]], group["lr"], group["rho"], group["eps"],
            group["weight_decay"], group["maximize"],
        )  # fmt: skip
