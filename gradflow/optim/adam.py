"""Adam and AdamW: steps by a running mean of the gradient over the root of one of its square."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..backend import Array
from ..cases import case
from ..ops import pointwise
from ..ops import shape as shapes
from ..tape import Traced
from .optimizer import Optimizer, zeros
from .update import before, many, rule


@rule(
    cases=lambda r: [
        case(r(4, 3), r(4, 3), r(4, 3), r.positive(4, 3), None, 1.0, 1e-3, 0.9, 0.999, 1e-8, 0.0, False, False),
        case(r(9001), r(9001), r(9001), r.positive(9001), None, 7.0, 1e-3, 0.9, 0.999, 1e-8, 0.1, False, True),
        case(r(9001), r(9001), r(9001), r.positive(9001), r.positive(9001), 7.0, 0.1, 0.8, 0.9, 1e-3, 0.1, True, False),
        case(r(7), r(7), r(7), r.positive(7), r.positive(7), 100.0, 0.1, 0.0, 0.99, 1e-3, 0.0, False, True),
        case(r.strided(3, 5), r(3, 5), r(3, 5), r.positive(3, 5), None, 2.0, 0.1, 0.9, 0.99, 1e-8, 0.0, False, False),
        case(r(), r(), r(), r.positive(), None, 3.0, 0.1, 0.9, 0.99, 1e-8, 0.0, False, False),
        case(r(0), r(0), r(0), r(0), None, 3.0, 0.1, 0.9, 0.99, 1e-8, 0.0, False, False),
    ]
)
def adam(
    p: Array, g: Array, m: Array, v: Array, top: Array | None, /, step: Any, lr: Any, beta1: Any, beta2: Any, eps: float,
    weight_decay: float, decoupled: bool, maximize: bool,
) -> None:  # fmt: skip
    """p - lr m' / (sqrt v' + eps) with m <- beta1 m + (1 - beta1) g and v <- beta2 v + (1 - beta2) g^2.

    m' = m / (1 - beta1^step) and v' = v / (1 - beta2^step); top, if given, is the greatest v so far, in its place.
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
    if top is not None:
        top[...] = pointwise.maximum(before(top), v)
        v = top
    root = (1 - beta2**step) ** 0.5  # of v' = v / root^2: it is taken out of the fraction, and saves a pass
    d = pointwise.sqrt(v) + eps * root
    p -= lr * root / (1 - beta1**step) * m / d


class Adam(Optimizer):
    """p <- p - lr m' / (sqrt v' + eps), where m', v' are running means of g and g^2 without their bias.

    m <- beta1 m + (1 - beta1) g,   m' = m / (1 - beta1^step)
    v <- beta2 v + (1 - beta2) g^2, v' = v / (1 - beta2^step)
    weight_decay   adds weight_decay p to g, or with decoupled_weight_decay multiplies p by 1 - lr weight_decay
    amsgrad        the greatest v so far stands in the root
    maximize       climbs instead
    capturable     the count of steps is kept on the card, for CUDA graphs
    differentiable   steps are recorded: the next parameters follow from the gradients, and from lr if it is a tensor
    ValueError for hyperparameters out of range. Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2014;
    Reddi et al., "On the Convergence of Adam and Beyond", 2018.
    """

    _step_supports_amp_scaling = True

    def __init__(
        self, params: Iterable[Any], lr: Any = 1e-3, betas: tuple[Any, Any] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0, amsgrad: bool = False, *, foreach: bool | None = None, maximize: bool = False,
        capturable: bool = False, differentiable: bool = False, fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:  # fmt: skip
        self.at_least_zero(lr=lr, eps=eps, weight_decay=weight_decay)
        self.below_one(betas)
        tensors = [isinstance(b, Traced) for b in betas]
        if any(tensors) != all(tensors):
            raise ValueError(
                f"{type(self).__name__}: wanted betas that are both numbers or both tensors, saw a mixture"
            )
        if foreach and not capturable and (tensors[0] or isinstance(lr, Traced)):
            raise ValueError(
                f"{type(self).__name__}: foreach wants numbers as lr and betas, or capturable, saw a tensor"
            )
        super().__init__(
            params,
            dict(
                lr=lr, betas=tuple(shapes.reshape(b, ()) if isinstance(b, Traced) else b for b in betas), eps=eps,
                weight_decay=weight_decay, amsgrad=amsgrad, maximize=maximize,
                foreach=foreach, capturable=capturable, differentiable=differentiable, fused=fused,
                decoupled_weight_decay=decoupled_weight_decay,
            ),
        )  # fmt: skip

    def init(self, p: Array, group: dict) -> dict[str, Any]:
        """A count of steps and the running means, zero."""
        state = {"step": self.counter(p, group), "exp_avg": zeros(p), "exp_avg_sq": zeros(p)}
        if group["amsgrad"]:
            state["max_exp_avg_sq"] = zeros(p)
        return state

    def update(self, group: dict, p: list, g: list, state: dict, step: Any, fresh: bool) -> None:
        """One step of `adam` for all of p."""
        beta1, beta2 = group["betas"]
        many(
            adam, p, g, [state["exp_avg"], state["exp_avg_sq"], state.get("max_exp_avg_sq")], step,
            group["lr"], beta1, beta2, group["eps"], group["weight_decay"],
            group["decoupled_weight_decay"], group["maximize"],
        )  # fmt: skip


class AdamW(Adam):
    """Adam with decoupled weight decay: p is also multiplied by 1 - lr weight_decay.

    Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2017.
    """

    def __init__(
        self, params: Iterable[Any], lr: Any = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 1e-2, amsgrad: bool = False, *, maximize: bool = False, foreach: bool | None = None,
        capturable: bool = False, differentiable: bool = False, fused: bool | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            params, lr, betas, eps, weight_decay, amsgrad, foreach=foreach, maximize=maximize, capturable=capturable,
            differentiable=differentiable, fused=fused, decoupled_weight_decay=True,
        )  # fmt: skip
