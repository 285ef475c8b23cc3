"""Schedules that multiply: each epoch's learning rate is the last one, or the first one, times a factor."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from typing import Any

from ..optimizer import Optimizer
from .schedule import Function, LRScheduler, get, per_group, within_step


class Factor(LRScheduler):
    """A schedule that multiplies the learning rate at every epoch, whatever has become of it, by factor_at(epoch)."""

    first = 1.0  # the factor of the initial learning rate at epoch 0
    still = False  # whether going on from a later epoch leaves the learning rate as it is, as PyTorch has it

    def factor_at(self, epoch: int) -> float:
        """The factor from epoch - 1 to epoch."""
        raise NotImplementedError(f"{type(self).__name__}: the schedule has no factor_at()")

    @within_step
    def get_lr(self) -> list[Any]:
        """The learning rate of each group at last_epoch."""
        if self.last_epoch == 0:
            factor = self.first
        else:
            factor = 1.0 if self._is_initial and self.still else self.factor_at(self.last_epoch)
        return [get(group) * factor for group in self.optimizer.param_groups]

    def whole(self, epoch: int) -> float:
        """The factor from the beginning to epoch."""
        raise NotImplementedError(f"{type(self).__name__}: the schedule has no whole()")

    def _get_closed_form_lr(self) -> list[Any]:
        return [base * self.whole(self.last_epoch) for base in self.base_lrs]


class StepLR(Factor):
    """lr gamma^floor(epoch / step_size)."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch)

    def factor_at(self, epoch: int) -> float:
        """The factor from epoch - 1 to epoch."""
        return self.gamma if epoch % self.step_size == 0 else 1.0

    def whole(self, epoch: int) -> float:
        """The factor from the beginning to epoch."""
        return self.gamma ** (epoch // self.step_size)


class MultiStepLR(Factor):
    """lr gamma^(number of milestones passed)."""

    @property
    def first(self) -> float:  # type: ignore[override]
        """The factor at epoch 0: a milestone may stand there."""
        return self.gamma ** self.milestones[0]

    def __init__(
        self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.milestones, self.gamma = Counter(milestones), gamma
        super().__init__(optimizer, last_epoch)

    def factor_at(self, epoch: int) -> float:
        """The factor from epoch - 1 to epoch."""
        return self.gamma ** self.milestones[epoch]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state_dict."""
        state_dict = dict(state_dict)
        saved = state_dict.get("milestones", ())
        if isinstance(saved, dict):  # JSON has no numbers as keys
            saved = Counter({int(epoch): count for epoch, count in saved.items()})
        state_dict["milestones"] = Counter(saved)
        super().load_state_dict(state_dict)

    def whole(self, epoch: int) -> float:
        """The factor from the beginning to epoch."""
        return self.gamma ** bisect_right(sorted(self.milestones.elements()), epoch)


class ConstantLR(Factor):
    """lr factor for the first total_iters epochs, then lr."""

    @property
    def first(self) -> float:  # type: ignore[override]
        """The factor at epoch 0."""
        return self.factor

    def __init__(self, optimizer: Optimizer, factor: float = 1 / 3, total_iters: int = 5, last_epoch: int = -1) -> None:
        if not 0 <= factor <= 1:
            raise ValueError(f"ConstantLR: wanted a factor in [0, 1], saw {factor}")
        self.factor, self.total_iters = factor, total_iters
        super().__init__(optimizer, last_epoch)

    def factor_at(self, epoch: int) -> float:
        """The factor from epoch - 1 to epoch."""
        return 1 / self.factor if epoch == self.total_iters else 1.0

    def whole(self, epoch: int) -> float:
        """The factor from the beginning to epoch."""
        return 1.0 if epoch >= self.total_iters else self.factor


class LinearLR(Factor):
    """lr times a factor that goes from start_factor to end_factor in equal steps over total_iters epochs: a warm-up."""

    still = True

    @property
    def first(self) -> float:  # type: ignore[override]
        """The factor at epoch 0."""
        return self.start_factor

    def __init__(
        self, optimizer: Optimizer, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:  # fmt: skip
        if not 0 < start_factor <= 1:
            raise ValueError(f"LinearLR: wanted a start_factor in (0, 1], saw {start_factor}")
        if not 0 <= end_factor <= 1:
            raise ValueError(f"LinearLR: wanted an end_factor in [0, 1], saw {end_factor}")
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer, last_epoch)

    def factor_at(self, epoch: int) -> float:
        """The factor from epoch - 1 to epoch."""
        if epoch > self.total_iters:
            return 1.0
        rise = self.end_factor - self.start_factor
        return 1.0 + rise / (self.total_iters * self.start_factor + (epoch - 1) * rise)

    def whole(self, epoch: int) -> float:
        """The factor from the beginning to epoch."""
        part = min(self.total_iters, epoch) / self.total_iters
        return self.start_factor + (self.end_factor - self.start_factor) * part


class ExponentialLR(Factor):
    """lr gamma^epoch."""

    still = True

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def factor_at(self, epoch: int) -> float:
        """The factor from epoch - 1 to epoch."""
        return self.gamma

    def whole(self, epoch: int) -> float:
        """The factor from the beginning to epoch."""
        return self.gamma**epoch


class PolynomialLR(Factor):
    """lr (1 - epoch / total_iters)^power, 0 after total_iters."""

    still = True

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1) -> None:
        self.total_iters, self.power = total_iters, power
        super().__init__(optimizer, last_epoch)

    def factor_at(self, epoch: int) -> float:
        """The factor from epoch - 1 to epoch."""
        if epoch > self.total_iters:
            return 1.0
        return ((1.0 - epoch / self.total_iters) / (1.0 - (epoch - 1) / self.total_iters)) ** self.power

    def whole(self, epoch: int) -> float:
        """The factor from the beginning to epoch."""
        return (1.0 - min(self.total_iters, epoch) / self.total_iters) ** self.power


class LambdaLR(LRScheduler):
    """lr f(epoch), with one function for all groups or a list of them."""

    def __init__(self, optimizer: Optimizer, lr_lambda: Function | list[Function], last_epoch: int = -1) -> None:
        self._check(optimizer)
        self.lr_lambdas: list[Any] = per_group("lr_lambda", lr_lambda, optimizer)
        super().__init__(optimizer, last_epoch)

    @within_step
    def get_lr(self) -> list[Any]:
        """The learning rate of each group at last_epoch."""
        return [base * f(self.last_epoch) for base, f in zip(self.base_lrs, self.lr_lambdas, strict=True)]


class MultiplicativeLR(LRScheduler):
    """The last epoch's lr times f(epoch), with one function for all groups or a list of them."""

    def __init__(self, optimizer: Optimizer, lr_lambda: Function | list[Function], last_epoch: int = -1) -> None:
        self._check(optimizer)
        self.lr_lambdas: list[Any] = per_group("lr_lambda", lr_lambda, optimizer)
        super().__init__(optimizer, last_epoch)

    @within_step
    def get_lr(self) -> list[Any]:
        """The learning rate of each group at last_epoch."""
        groups = self.optimizer.param_groups
        if self._is_initial:
            return [get(group) for group in groups]
        return [get(group) * f(self.last_epoch) for group, f in zip(groups, self.lr_lambdas, strict=True)]
