"""RAdam: Adam that trusts its second moment only once enough gradients were seen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..backend import Array, namespace, on_card
from ..cases import case
from ..ops import pointwise
from .optimizer import Optimizer, zeros
from .update import many, rule


@rule(
    cases=lambda r: [
        case(r(4, 3), r(4, 3), r(4, 3), r.positive(4, 3), 1.0, 1e-3, 0.9, 0.999, 1e-8, 0.0, False, False),
        case(r(9001), r(9001), r(9001), r.positive(9001), 7.0, 0.1, 0.8, 0.99, 1e-3, 0.1, False, True),
        case(r(7), r(7), r(7), r.positive(7), 90.0, 0.1, 0.9, 0.9, 1e-3, 0.1, True, False),
        case(r(), r(), r(), r.positive(), 3.0, 0.1, 0.0, 0.0, 1e-8, 0.0, False, False),
        case(r(0), r(0), r(0), r(0), 30.0, 0.1, 0.9, 0.99, 1e-8, 0.0, False, False),
    ]
)
def radam(
    p: Array, g: Array, m: Array, v: Array, /, step: Any, lr: Any, beta1: float, beta2: float, eps: float,
    weight_decay: float, decoupled: bool, maximize: bool,
) -> None:  # fmt: skip
    """p - lr r m' sqrt(1 - beta2^step) / (sqrt v + eps), or p - lr m' while too few steps were made; m, m', v are Adam's.

    r is the rectification: r^2 = (n - 4) (n - 2) n0 / ((n0 - 4) (n0 - 2) n), n the number of gradients that v averages.
    """
    if maximize:
        g = -g
    if weight_decay and decoupled:
        p *= 1 - lr * weight_decay
    elif weight_decay:
        g = g + weight_decay * p
    m *= beta1
    m += (1 - beta1) * g
    v *= beta2
    v += (1 - beta2) * (g * g)
    rate = lr / (1 - beta1**step)
    bias = 1 - beta2**step
    most = 2 / (1 - beta2) - 1
    n = most - 2 * step * beta2**step / bias
    if on_card(n):  # asked there, so that nobody waits
        xp = namespace(n)
        r = xp.sqrt(xp.where(n > 5, (n - 4) * (n - 2) * most / ((most - 4) * (most - 2) * n), 1))
        p -= rate * m * xp.where(n > 5, r * xp.sqrt(bias) / (xp.sqrt(v) + eps), 1)
    elif n > 5:
        r = ((n - 4) * (n - 2) * most / ((most - 4) * (most - 2) * n)) ** 0.5
        d = pointwise.sqrt(v) + eps
        p -= rate * r * bias**0.5 * m / d
    else:
        p -= rate * m


class RAdam(Optimizer):
    """Adam whose step is times r, and p <- p - lr m' in the first steps, where the variance of 1 / sqrt v has no end.

    r^2 = (n - 4) (n - 2) n0 / ((n0 - 4) (n0 - 2) n), n = n0 - 2 t beta2^t / (1 - beta2^t) and n0 = 2 / (1 - beta2) - 1.
    weight_decay   adds weight_decay p to g, or with decoupled_weight_decay multiplies p by 1 - lr weight_decay
    maximize climbs instead; capturable keeps the count of steps on the card; differentiable records the steps.
    ValueError for a hyperparameter out of range.
    Liu et al., "On the Variance of the Adaptive Learning Rate and Beyond", 2019.
    """

    _step_supports_amp_scaling = True

    def __init__(
        self, params: Iterable[Any], lr: Any = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0, decoupled_weight_decay: bool = False, *, foreach: bool | None = None,
        maximize: bool = False, capturable: bool = False, differentiable: bool = False,
    ) -> None:  # fmt: skip
        self.at_least_zero(lr=lr, eps=eps, weight_decay=weight_decay)
        self.below_one(betas)
        super().__init__(
            params,
            dict(
                lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, maximize=maximize, foreach=foreach,
                capturable=capturable, decoupled_weight_decay=decoupled_weight_decay, differentiable=differentiable,
            ),
        )  # fmt: skip

    def init(self, p: Array, group: dict) -> dict[str, Any]:
        """A count of steps and the running means, zero."""
        return {"step": self.counter(p, group), "exp_avg": zeros(p), "exp_avg_sq": zeros(p)}

    def update(self, group: dict, p: list, g: list, state: dict, step: Any, fresh: bool) -> None:
        """One step of `radam` for all of p."""
        many(
            radam, p, g, [state["exp_avg"], state["exp_avg_sq"]], step, group["lr"], *group["betas"], group["eps"],
            group["weight_decay"], group["decoupled_weight_decay"], group["maximize"],
        )  # fmt: skip
