"""ASGD: gradient descent with a falling rate that also keeps the mean of all parameters along its way."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..backend import Array, namespace, on_card
from ..cases import case
from ..tape import Traced
from .optimizer import Optimizer, zeros
from .update import many, rule


@rule(
    cases=lambda r: [
        case(r(4, 3), r(4, 3), r(4, 3), 0.01, 1.0, 1e-4, 0.0, False),
        case(r(9001), r(9001), r(9001), 0.1, 0.25, 0.1, 0.1, True),
        case(r(), r(), r(), 0.1, 0.5, 1e-4, 0.0, False),
        case(r(0), r(0), r(0), 0.1, 1.0, 1e-4, 0.0, False),
    ]
)
def asgd(
    p: Array, g: Array, mean: Array, /, eta: Any, mu: Any, lambd: float, weight_decay: float, maximize: bool
) -> None:
    """(1 - lambd eta) p - eta g, and mean <- mean + mu (p - mean)."""
    if maximize:
        g = -g
    if weight_decay:
        g = g + weight_decay * p
    p *= 1 - lambd * eta
    p -= eta * g
    if type(mu) is float and mu == 1:
        mean[...] = p
    else:
        mean += (p - mean) * mu


@rule(
    cases=lambda r: [
        case(r.positive(), r.positive(), r.positive(), 0.1, 0.5, 0.75, 1.0),
        case(r.positive(1), 5 + r.positive(1), r.positive(1), 0.1, 1e-4, 0.75, 2.0),
    ]
)
def asgd_rates(p: Array, g: Array, mu: Array, /, lr: Any, lambd: float, alpha: float, t0: float) -> None:
    """The rates of the step after step g: p = lr / (1 + lambd lr g)^alpha, and mu = 1 / max(1, g - t0). On the card."""
    xp = namespace(p)
    p[...] = lr / (1 + lambd * lr * g) ** alpha
    mu[...] = 1 / xp.maximum(1, g - t0)


class ASGD(Optimizer):
    """p <- (1 - lambd eta) p - eta g with eta = lr / (1 + lambd lr t)^alpha; "ax" in the state is the mean of p.

    ax <- ax + mu (p - ax) with mu = 1 / max(1, t - t0): it is p itself until step t0. g includes weight_decay p.
    maximize climbs instead; capturable keeps counts and rates on the card; differentiable records the steps.
    ValueError for a negative lr or weight_decay.
    Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992.
    """

    scalars = ("step", "eta", "mu")
    _step_supports_amp_scaling = True

    def __init__(
        self, params: Iterable[Any], lr: Any = 1e-2, lambd: float = 1e-4, alpha: float = 0.75, t0: float = 1e6,
        weight_decay: float = 0, foreach: bool | None = None, maximize: bool = False, differentiable: bool = False,
        capturable: bool = False,
    ) -> None:  # fmt: skip
        self.at_least_zero(lr=lr, weight_decay=weight_decay)
        super().__init__(
            params,
            dict(
                lr=lr, lambd=lambd, alpha=alpha, t0=t0, weight_decay=weight_decay, foreach=foreach, maximize=maximize,
                differentiable=differentiable, capturable=capturable,
            ),
        )  # fmt: skip

    def init(self, p: Array, group: dict) -> dict[str, Any]:
        """A count of steps, the rates of the first one, and the mean of the parameters."""
        lr = group["lr"].array.item() if isinstance(group["lr"], Traced) else group["lr"]
        counts = {"step": 0, "eta": lr, "mu": 1}
        return {**{name: self.counter(p, group, value) for name, value in counts.items()}, "ax": zeros(p)}

    def update(self, group: dict, p: list, g: list, state: dict, step: Any, fresh: bool) -> None:
        """One step of `asgd` for all of p, and the rates of the next."""
        lr, lambd, alpha, t0 = (group[name] for name in ("lr", "lambd", "alpha", "t0"))
        etas, mus = state["eta"], state["mu"]
        here = type(etas[0]) is np.ndarray
        eta, mu = (etas[0].item(), mus[0].item()) if here else (etas, mus)
        many(asgd, p, g, [state["ax"]], eta, mu, lambd, group["weight_decay"], group["maximize"])
        if not here:
            many(asgd_rates, etas, step, [mus], lr, lambd, alpha, t0)
            return
        lr = lr.item() if on_card(lr) or isinstance(lr, Traced) else lr
        for cell in etas:
            cell[...] = lr / (1 + lambd * lr * step) ** alpha
        for cell in mus:
            cell[...] = 1 / max(1, step - t0)
