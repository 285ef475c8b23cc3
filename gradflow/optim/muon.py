"""Muon: momentum steps of matrices, made nearly orthogonal, so that no direction is favoured."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..backend import Array, float32, namespace
from ..ops.linalg import matmul
from .optimizer import Optimizer, zeros


class Muon(Optimizer):
    """p <- (1 - lr weight_decay) p - lr' NS(b), where m <- momentum m + (1 - momentum) g and b is m, or with nesterov
    momentum m + (1 - momentum) g once more; NS brings all singular values near 1.

    NS   x / ||x||, then ns_steps times x <- a x + (b x x^T + c (x x^T)^2) x with (a, b, c) = ns_coefficients, in
         bfloat16 as in PyTorch; a norm below eps counts as eps
    adjust_lr_fn   lr' is lr max(1, rows / columns)^(1/2) ("original", also None), or 0.2 lr max(rows, columns)^(1/2)
                   ("match_rms_adamw")
    Made of array functions: matrix products are the card's own. ValueError for parameters that are no matrices and for
    hyperparameters out of range, RuntimeError for complex parameters.
    Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; Liu et al., "Muon is Scalable for LLM
    Training", 2025.
    """

    real_only = True
    by_rules = False
    _step_supports_amp_scaling = True

    def __init__(
        self, params: Iterable[Any], lr: Any = 1e-3, weight_decay: float = 0.1, momentum: float = 0.95,
        nesterov: bool = True, ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
        eps: float = 1e-7, ns_steps: int = 5, adjust_lr_fn: str | None = None,
    ) -> None:  # fmt: skip
        self.at_least_zero(lr=lr, momentum=momentum, weight_decay=weight_decay)
        if adjust_lr_fn not in (None, "original", "match_rms_adamw"):
            raise ValueError(f"Muon: wanted adjust_lr_fn 'original' or 'match_rms_adamw', saw {adjust_lr_fn!r}")
        super().__init__(
            params,
            dict(
                lr=lr, weight_decay=weight_decay, momentum=momentum, nesterov=nesterov, ns_coefficients=ns_coefficients,
                eps=eps, ns_steps=ns_steps, adjust_lr_fn=adjust_lr_fn,
            ),
        )  # fmt: skip
        for group in self.param_groups:
            for p in group["params"]:
                if p.array.ndim != 2:
                    raise ValueError(f"Muon: wanted matrices, saw a parameter of shape {tuple(p.array.shape)}")

    def init(self, p: Array, group: dict) -> dict[str, Any]:
        """The momentum, zero."""
        return {"momentum_buffer": zeros(p)}

    def update(self, group: dict, p: list, g: list, state: dict, step: Any, fresh: bool) -> None:
        """One step for each of p."""
        momentum, lr = group["momentum"], group["lr"]
        for x, dx, m in zip(p, g, state["momentum_buffer"], strict=True):
            if x.ndim != 2:
                raise ValueError(f"Muon: wanted matrices, saw a gradient of shape {x.shape}")
            if not x.size:
                continue
            m[...] = momentum * m + (1 - momentum) * dx
            b = momentum * m + (1 - momentum) * dx if group["nesterov"] else m
            y = orthogonal(b, group["ns_coefficients"], group["ns_steps"], group["eps"])
            rows, columns = x.shape
            ratio = math.sqrt(max(1, rows / columns))
            if group["adjust_lr_fn"] == "match_rms_adamw":
                ratio = 0.2 * math.sqrt(max(rows, columns))
            x *= 1 - lr * group["weight_decay"]
            x -= (lr * ratio * y.astype(float32 if x.dtype.itemsize == 2 else x.dtype)).astype(x.dtype)


def orthogonal(x: Array, coefficients: tuple[float, float, float], steps: int, eps: float) -> Array:
    """A matrix with the singular vectors of x and singular values near 1, by Newton and Schulz's iteration; float32.

    Every result is rounded to bfloat16. ValueError for 100 steps or more, or if there are not three coefficients.
    """
    if steps >= 100:
        raise ValueError(f"Muon: wanted ns_steps < 100, saw {steps}")
    if len(coefficients) != 3:
        raise ValueError(f"Muon: wanted three ns_coefficients, saw {coefficients}")
    a, b, c = coefficients
    xp = namespace(x)
    y = rounded(x.astype(float32))
    y = y.T if x.shape[0] > x.shape[1] else y
    norm = rounded(xp.sqrt((y * y).sum()).reshape(1))
    y = rounded(y / xp.maximum(norm, rounded(xp.full(1, eps, float32))))
    for _ in range(steps):
        gram = rounded(matmul(y, y.T))
        gram = rounded(b * gram + c * matmul(gram, gram))
        y = rounded(a * y + matmul(gram, y))
    return y.T if x.shape[0] > x.shape[1] else y


def rounded(x: Array) -> Array:
    """float32 numbers rounded to the nearest of bfloat16, of two as near to the even one; they stay float32."""
    bits = namespace(x).ascontiguousarray(x).view(np.uint32)
    return ((bits + (0x7FFF + ((bits >> 16) & 1))) & np.uint32(0xFFFF0000)).view(float32)
