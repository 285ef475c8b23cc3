"""SparseAdam: Adam for sparse gradients, which gradflow has not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..backend import Array
from .optimizer import Optimizer


class SparseAdam(Optimizer):
    """Adam on the rows that a sparse gradient names. All gradients here are dense, so that its step is refused, as in
    PyTorch for a dense gradient: use Adam.

    ValueError for hyperparameters out of range and for complex parameters, RuntimeError at a step.
    """

    def __init__(
        self, params: Iterable[Any], lr: Any = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        maximize: bool = False,
    ) -> None:  # fmt: skip
        self.at_least_zero(lr=lr, eps=eps)
        if not (float(lr) > 0 and eps > 0):
            raise ValueError(f"SparseAdam: wanted lr and eps > 0, saw {lr} and {eps}")
        self.below_one(betas)
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, maximize=maximize))
        for group in self.param_groups:
            for p in group["params"]:
                if p.array.dtype.kind == "c":
                    raise ValueError(f"SparseAdam: wanted real parameters, saw {p.array.dtype}")

    def update(self, group: dict, p: list[Array], g: list, state: dict, step: Any, fresh: bool) -> None:
        """RuntimeError: there are no sparse gradients."""
        raise RuntimeError(f"SparseAdam: wanted a sparse gradient, saw a dense one of shape {g[0].shape}: use Adam")
