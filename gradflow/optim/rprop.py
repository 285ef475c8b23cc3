"""Rprop: steps of a size of their own for every number, of which the gradient gives the sign only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..backend import Array
from ..cases import case
from ..ops import pointwise
from ..tape import Traced
from .optimizer import Optimizer, full, zeros
from .update import many, rule


@rule(
    cases=lambda r: [
        case(r(4, 3), r(4, 3), r(4, 3), r.positive(4, 3), 0.5, 1.2, 1e-6, 50.0, False),
        case(r(9001), r(9001), r(9001), r.positive(9001), 0.3, 1.5, 0.5, 1.0, True),
        case(r(7), 0 * r(7), r(7), r.positive(7), 0.5, 1.2, 1e-6, 50.0, False),
        case(r(), r(), r(), r.positive(), 0.5, 1.2, 1e-6, 50.0, False),
        case(r(0), r(0), r(0), r(0), 0.5, 1.2, 1e-6, 50.0, False),
    ]
)
def rprop(
    p: Array, g: Array, before: Array, size: Array, /, shrink: float, grow: float, least: float, most: float,
    maximize: bool,
) -> None:  # fmt: skip
    """p - sign(g) size, where size grows if g has the sign it had `before`, else shrinks, and g then counts as 0."""
    if maximize:
        g = -g
    turn = g * before
    changed = pointwise.where(turn > 0, size * grow, pointwise.where(turn < 0, size * shrink, size))
    size[...] = pointwise.clamp(changed, least, most)
    before[...] = pointwise.where(turn < 0, 0.0, g)
    p -= pointwise.sign(before) * size


class Rprop(Optimizer):
    """p <- p - sign(g) s, where s <- s etas[1] if g has the sign it had before, s etas[0] if the other.

    s begins at lr and stays in step_sizes; after a change of sign g counts as 0 for one step. maximize climbs instead.
    capturable is accepted; differentiable records the steps. ValueError unless 0 < etas[0] < 1 < etas[1].
    Riedmiller and Braun, "A direct adaptive method for faster backpropagation learning: The RPROP algorithm", 1993.
    """

    _step_supports_amp_scaling = True

    def __init__(
        self, params: Iterable[Any], lr: Any = 1e-2, etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50), *, capturable: bool = False, foreach: bool | None = None,
        maximize: bool = False, differentiable: bool = False,
    ) -> None:  # fmt: skip
        self.at_least_zero(lr=lr)
        if not 0 < etas[0] < 1 < etas[1]:
            raise ValueError(f"Rprop: wanted 0 < etas[0] < 1 < etas[1], saw {etas}")
        super().__init__(
            params,
            dict(
                lr=lr, etas=etas, step_sizes=step_sizes, foreach=foreach, maximize=maximize,
                differentiable=differentiable, capturable=capturable,
            ),
        )  # fmt: skip

    def init(self, p: Array, group: dict) -> dict[str, Any]:
        """A count of steps, the gradient before, zero, and the size of the first step."""
        lr = group["lr"].array.item() if isinstance(group["lr"], Traced) else group["lr"]
        return {"step": self.counter(p, group), "prev": zeros(p), "step_size": full(p, lr)}

    def update(self, group: dict, p: list, g: list, state: dict, step: Any, fresh: bool) -> None:
        """One step of `rprop` for all of p."""
        many(rprop, p, g, [state["prev"], state["step_size"]], *group["etas"], *group["step_sizes"], group["maximize"])
