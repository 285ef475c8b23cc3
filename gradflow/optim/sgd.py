"""SGD: stochastic gradient descent, with momentum."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..backend import Array
from ..cases import case
from .optimizer import Optimizer, zeros
from .update import many, rule


@rule(
    cases=lambda r: [
        case(r(4, 3), r(4, 3), None, 0.1, 0.0, 0.0, 0.0, False, False, False),
        case(r(4, 3), r(4, 3), r(4, 3), 0.1, 0.9, 0.0, 0.01, False, False, False),
        case(r(9001), r(9001), r(9001), 0.1, 0.9, 0.1, 0.01, False, True, False),
        case(r(7), r(7), r(7), 0.1, 0.9, 0.0, 0.01, True, False, False),
        case(r(7), r(7), r(7), 0.1, 0.9, 0.0, 0.0, True, True, True),
        case(r.strided(3, 5), r(3, 5), r(3, 5), 0.1, 0.9, 0.0, 0.0, False, False, False),
        case(r(), r(), None, 0.1, 0.0, 0.0, 0.1, False, False, True),
        case(r(0, 3), r(0, 3), r(0, 3), 0.1, 0.9, 0.0, 0.0, False, False, False),
    ]
)
def sgd(
    p: Array, g: Array, m: Array | None, /, lr: Any, momentum: float, dampening: float, weight_decay: float,
    nesterov: bool, first: bool, maximize: bool,
) -> None:  # fmt: skip
    """p - lr m with m <- momentum m + (1 - dampening) g, at first m <- g; with nesterov p - lr (g + momentum m)."""
    if maximize:
        g = -g
    if weight_decay:
        g = g + weight_decay * p
    if m is not None and first:
        m[...] = g
    elif m is not None:
        m *= momentum
        m += g if dampening == 0 else (1 - dampening) * g
    if m is not None:
        g = g + momentum * m if nesterov else m
    p -= lr * g


class SGD(Optimizer):
    """Gradient descent: p <- p - lr m, where m <- momentum m + (1 - dampening) g and g includes weight_decay p.

    Without momentum m is g; with nesterov the step is g + momentum m. maximize climbs instead. differentiable records the
    steps. ValueError for a negative lr, momentum or weight_decay, and for nesterov without momentum or with dampening.
    Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013.
    """

    _step_supports_amp_scaling = True

    def __init__(
        self, params: Iterable[Any], lr: Any = 1e-3, momentum: float = 0, dampening: float = 0, weight_decay: float = 0,
        nesterov: bool = False, *, maximize: bool = False, foreach: bool | None = None, differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:  # fmt: skip
        self.at_least_zero(lr=lr, momentum=momentum, weight_decay=weight_decay)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError(
                f"SGD: nesterov wants a momentum and zero dampening, saw momentum={momentum} and dampening={dampening}"
            )
        super().__init__(
            params,
            dict(
                lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay, nesterov=nesterov,
                maximize=maximize, foreach=foreach, differentiable=differentiable, fused=fused,
            ),
        )  # fmt: skip

    def init(self, p: Array, group: dict) -> dict[str, Any]:
        """The momentum, zero; nothing without momentum."""
        return {"momentum_buffer": zeros(p)} if group["momentum"] else {}

    def update(self, group: dict, p: list, g: list, state: dict, step: Any, fresh: bool) -> None:
        """One step of `sgd` for all of p."""
        many(
            sgd, p, g, [state.get("momentum_buffer")], group["lr"], group["momentum"],
group["dampening"], group["weight_decay"], group["nesterov"], fresh, group["maximize"],
        )  # fmt: skip
