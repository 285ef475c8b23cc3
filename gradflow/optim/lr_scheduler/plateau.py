"""ReduceLROnPlateau: a learning rate that falls when a metric no longer improves."""

from __future__ import annotations

import math
from typing import Any

from ..optimizer import Optimizer
from .schedule import LRScheduler, get, per_group, put


class ReduceLROnPlateau(LRScheduler):
    """lr <- max(factor lr, min_lr) after more than `patience` epochs without a better metric, then `cooldown` of rest.

    mode    "min" if less is better, else "max"
    better  by the factor 1 -/+ threshold (threshold_mode "rel") or by threshold ("abs")
    eps     a smaller change of lr is not made
    ValueError for a factor of 1 or more, or an unknown mode.
    """

    def __init__(
        self, optimizer: Optimizer, mode: str = "min", factor: float = 0.1, patience: int = 10, threshold: float = 1e-4,
        threshold_mode: str = "rel", cooldown: int = 0, min_lr: Any = 0, eps: float = 1e-8,
    ) -> None:  # fmt: skip
        self._check(optimizer)
        if factor >= 1:
            raise ValueError(f"ReduceLROnPlateau: wanted a factor < 1, saw {factor}")
        if mode not in ("min", "max"):
            raise ValueError(f"ReduceLROnPlateau: wanted the mode 'min' or 'max', saw {mode!r}")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(f"ReduceLROnPlateau: wanted the threshold_mode 'rel' or 'abs', saw {threshold_mode!r}")
        self.optimizer, self.factor, self.patience, self.cooldown, self.eps = optimizer, factor, patience, cooldown, eps
        self.mode, self.threshold, self.threshold_mode = mode, threshold, threshold_mode
        self.default_min_lr = None if isinstance(min_lr, (list, tuple)) else min_lr
        self.min_lrs = per_group("min_lr", min_lr, optimizer)
        self.mode_worse = math.inf if mode == "min" else -math.inf
        self.last_epoch = 0
        self._reset()
        self._last_lr = [get(group) for group in optimizer.param_groups]

    def _reset(self) -> None:
        """Forget the best metric, and how long ago it was."""
        self.best, self.cooldown_counter, self.num_bad_epochs = self.mode_worse, 0, 0

    @property
    def in_cooldown(self) -> bool:
        """Whether it rests after a reduction."""
        return self.cooldown_counter > 0

    def _is_better(self, a: float, best: float) -> bool:
        """Whether the metric a is better than best, by more than the threshold."""
        sign = 1 if self.mode == "max" else -1
        least = best * (1 + sign * self.threshold) if self.threshold_mode == "rel" else best + sign * self.threshold
        return a > least if self.mode == "max" else a < least

    def step(self, metrics: Any, epoch: int | None = None) -> None:  # type: ignore[override]
        """Go on by one epoch, given its metric, a number or a tensor of one; an epoch given too is warned of."""
        value = float(metrics)
        if epoch is not None:
            self._warn_of(epoch)
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        if self._is_better(value, self.best):
            self.best, self.num_bad_epochs = value, 0
        else:
            self.num_bad_epochs += 1
        if self.in_cooldown:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
        self._last_lr = [get(group) for group in self.optimizer.param_groups]

    def _reduce(self) -> None:
        groups = self.optimizer.param_groups
        if len(groups) != len(self.min_lrs):  # a group has joined
            if self.default_min_lr is None:
                raise RuntimeError(f"ReduceLROnPlateau: wanted {len(groups)} min_lrs, saw {len(self.min_lrs)}")
            self.min_lrs = [self.default_min_lr] * len(groups)
        for group, least in zip(groups, self.min_lrs, strict=True):
            old = float(group["lr"])
            new = max(old * self.factor, float(least))
            if old - new > self.eps:
                put(group, new)
