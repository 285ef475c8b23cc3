"""NAdam: Adam that looks ahead, as Nesterov's momentum does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..backend import Array
from ..cases import case
from ..ops import pointwise
from .optimizer import Optimizer, zeros
from .update import many, rule


@rule(
    cases=lambda r: [
        case(r(4, 3), r(4, 3), r(4, 3), r.positive(4, 3), 1.0, 0.45, 2e-3, 0.9, 0.999, 1e-8, 0.0, 4e-3, False, False),
        case(r(9001), r(9001), r(9001), r.positive(9001), 7.0, 0.2, 0.1, 0.8, 0.9, 1e-3, 0.1, 0.1, False, True),
        case(r(7), r(7), r(7), r.positive(7), 9.0, 0.1, 0.1, 0.9, 0.99, 1e-3, 0.1, 4e-3, True, False),
        case(r(), r(), r(), r.positive(), 3.0, 0.0, 0.1, 0.0, 0.99, 1e-8, 0.0, 4e-3, False, False),
        case(r(0), r(0), r(0), r(0), 3.0, 0.1, 0.1, 0.9, 0.99, 1e-8, 0.0, 4e-3, False, False),
    ]
)
def nadam(
    p: Array, g: Array, m: Array, v: Array, /, step: Any, product: Any, lr: Any, beta1: float, beta2: float, eps: float,
    weight_decay: float, momentum_decay: float, decoupled: bool, maximize: bool,
) -> None:  # fmt: skip
    """p - lr ((1 - mu) / (1 - product) g + mu' / (1 - product mu') m) / (sqrt v' + eps), where m, v and v' are Adam's.

    mu is the momentum of this step, mu' that of the next, `product` that of all so far.
    """
    if maximize:
        g = -g
    if weight_decay and decoupled:
        p *= 1 - lr * weight_decay
    elif weight_decay:
        g = g + weight_decay * p
    mu, following = momentum(step, beta1, momentum_decay), momentum(step + 1, beta1, momentum_decay)
    m *= beta1
    m += (1 - beta1) * g
    v *= beta2
    v += (1 - beta2) * (g * g)
    root = (1 - beta2**step) ** 0.5
    d = pointwise.sqrt(v) + eps * root
    s = lr * root * (1 - mu) / (1 - product) * g
    s += lr * root * following / (1 - product * following) * m
    p -= s / d


def momentum(step: Any, beta1: Any, momentum_decay: Any) -> Any:
    """beta1 (1 - 0.96^(step momentum_decay) / 2): the momentum of a step."""
    return beta1 * (1.0 - 0.5 * 0.96 ** (step * momentum_decay))


@rule(cases=lambda r: [case(r.positive(), r.positive(), 0.9, 4e-3), case(r.positive(1), r.positive(1), 0.5, 0.1)])
def momentum_product(p: Array, g: Array, /, beta1: float, momentum_decay: float) -> None:
    """p times the momentum of the step that g says: products of momentums so far, on the card."""
    p *= momentum(g, beta1, momentum_decay)


class NAdam(Optimizer):
    """p <- p - lr ((1 - mu_t) / (1 - mu_1 ... mu_t) g + mu_t+1 / (1 - mu_1 ... mu_t+1) m) / (sqrt v' + eps).

    m, v and v' are Adam's, and mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2).
    weight_decay   adds weight_decay p to g, or with decoupled_weight_decay multiplies p by 1 - lr weight_decay
    maximize climbs instead; capturable keeps counts on the card; differentiable records the steps.
    ValueError for a hyperparameter out of range. Dozat, "Incorporating Nesterov Momentum into Adam", 2016.
    """

    scalars = ("step", "mu_product")
    _step_supports_amp_scaling = True

    def __init__(
        self, params: Iterable[Any], lr: Any = 2e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0, momentum_decay: float = 4e-3, decoupled_weight_decay: bool = False, *,
        foreach: bool | None = None, maximize: bool = False, capturable: bool = False, differentiable: bool = False,
    ) -> None:  # fmt: skip
        self.at_least_zero(lr=lr, eps=eps, weight_decay=weight_decay, momentum_decay=momentum_decay)
        self.below_one(betas)
        super().__init__(
            params,
            dict(
                lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, momentum_decay=momentum_decay,
                decoupled_weight_decay=decoupled_weight_decay, maximize=maximize, foreach=foreach,
                capturable=capturable, differentiable=differentiable,
            ),
        )  # fmt: skip

    def init(self, p: Array, group: dict) -> dict[str, Any]:
        """A count of steps, the product of momentums so far, and the running means."""
        return {
            "step": self.counter(p, group), "mu_product": self.counter(p, group, 1), "exp_avg": zeros(p),
            "exp_avg_sq": zeros(p),
        }  # fmt: skip

    def update(self, group: dict, p: list, g: list, state: dict, step: Any, fresh: bool) -> None:
        """One step of `nadam` for all of p."""
        beta1, beta2 = group["betas"]
        products = state["mu_product"]
        if type(products[0]) is np.ndarray:
            for product in products:
                product *= momentum(step, beta1, group["momentum_decay"])
            products = products[0].item()
        else:
            many(momentum_product, products, step, [], beta1, group["momentum_decay"])
        many(
            nadam, p, g, [state["exp_avg"], state["exp_avg_sq"]], step, products, group["lr"], beta1, beta2,
            group["eps"], group["weight_decay"], group["momentum_decay"], group["decoupled_weight_decay"],
            group["maximize"],
        )  # fmt: skip
