"""Sample calls of ops: what the readers of the op table (values, gradients, twins, benches) run."""

from __future__ import annotations

from typing import Any

import numpy as np


class case:
    """One sample call: arrays and constants as the definition takes them, and what may be asked of it.

    grad   False where no gradient exists there
    order  how often it may be differentiated in a check: 2, or less for a reason that stands beside the case
    """

    def __init__(self, *args: Any, grad: bool = True, order: int = 2, **kwargs: Any) -> None:
        self.args, self.kwargs, self.grad, self.order = args, kwargs, grad, order

    def __repr__(self) -> str:
        def show(v: Any) -> str:
            if isinstance(v, np.ndarray):
                return "x".join(map(str, v.shape)) or "0d"
            return getattr(v, "__name__", str(v)).replace(" ", "")

        return "-".join([*map(show, self.args), *(f"{k}={show(v)}" for k, v in self.kwargs.items())])


class Sampler:
    """Random arrays for cases, float64 (the readers cast them), from a fixed seed: r(3, 4) is standard normal."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)

    def __call__(self, *shape: int) -> np.ndarray:
        return np.asarray(self.rng.standard_normal(shape))

    def uniform(self, low: float, high: float, *shape: int) -> np.ndarray:
        """Uniform in (low, high)."""
        return np.asarray(self.rng.uniform(low, high, shape))

    def positive(self, *shape: int) -> np.ndarray:
        """Uniform in (0.3, 3): away from the edge of log's and sqrt's domain."""
        return np.asarray(self.rng.uniform(0.3, 3.0, shape))

    def distinct(self, *shape: int) -> np.ndarray:
        """All values at least 0.1 apart, in random order: no ties for max, sort and the like."""
        n = int(np.prod(shape))
        return ((self.rng.permutation(n) - n / 2) * 0.1 + 0.03).reshape(shape)

    def strided(self, *shape: int) -> np.ndarray:
        """Standard normal, but not contiguous: every other element, transposed."""
        wide = self.rng.standard_normal(tuple(2 * n for n in reversed(shape)))
        return wide[tuple(slice(None, None, 2) for _ in shape)].T

    def integers(self, low: int, high: int, *shape: int) -> np.ndarray:
        """int64 in [low, high)."""
        return np.asarray(self.rng.integers(low, high, shape))

    def mask(self, *shape: int) -> np.ndarray:
        """Random booleans."""
        return np.asarray(self.rng.random(shape) < 0.5)
