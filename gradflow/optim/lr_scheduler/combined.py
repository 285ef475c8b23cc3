"""Schedules made of others: one after the other, or all at once."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from ..optimizer import Optimizer
from .plateau import ReduceLROnPlateau
from .schedule import LRScheduler, get, put


class Combined(LRScheduler):
    """Schedules of one optimizer. ValueError for none, for another optimizer's, or for one that wants a metric."""

    def _take(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer) -> None:
        name = type(self).__name__
        for i, s in enumerate(schedulers):
            if not isinstance(s, LRScheduler):
                raise TypeError(f"{name}: wanted schedules, saw {type(s).__name__} at {i}")
            if isinstance(s, ReduceLROnPlateau):
                raise ValueError(f"{name}: wanted schedules whose step() needs no metric, saw ReduceLROnPlateau at {i}")
            if s.optimizer is not optimizer:
                raise ValueError(f"{name}: wanted schedules of one optimizer, saw another optimizer's at {i}")
        self._schedulers, self.optimizer = list(schedulers), optimizer

    def state_dict(self) -> dict[str, Any]:
        """Its own state, and that of each schedule."""
        own = {k: v for k, v in self.__dict__.items() if k not in ("optimizer", "_schedulers")}
        return {**own, "_schedulers": [s.state_dict() for s in self._schedulers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state_dict."""
        self.__dict__.update({k: v for k, v in state_dict.items() if k != "_schedulers"})
        for s, state in zip(self._schedulers, state_dict["_schedulers"], strict=True):
            s.load_state_dict(state)


class SequentialLR(Combined):
    """One schedule after the other: schedule i + 1 begins at epoch milestones[i], at its own epoch 0."""

    def __init__(
        self, optimizer: Optimizer, schedulers: list[LRScheduler], milestones: list[int], last_epoch: int = -1
    ) -> None:
        if not schedulers:
            raise ValueError("SequentialLR: wanted at least one schedule, saw none")
        self._take(schedulers, optimizer)
        if len(milestones) != len(schedulers) - 1:
            raise ValueError(f"SequentialLR: wanted {len(schedulers) - 1} milestones, saw {len(milestones)}")
        self._milestones, self.last_epoch = milestones, last_epoch + 1
        # Every schedule took a first step when it was made: take them back, and let the first one begin again.
        for group in optimizer.param_groups:
            put(group, group["initial_lr"])
        _undo(self)
        first = self._schedulers[bisect_right(milestones, 0)]
        first._initial_step()
        self._last_lr = first.get_last_lr()

    def step(self) -> None:  # type: ignore[override]
        """Go on by one epoch."""
        self._update_lr()

    def _update_lr(self, epoch: int | None = None) -> None:
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        i = bisect_right(self._milestones, self.last_epoch)
        if epoch is not None or (i > 0 and self._milestones[i - 1] == self.last_epoch):
            self._schedulers[i]._update_lr(0 if i else self.last_epoch)
        else:
            self._schedulers[i].step()
        self._last_lr = self._schedulers[i].get_last_lr()


def _undo(scheduler: LRScheduler) -> None:
    if isinstance(scheduler, Combined):
        for s in scheduler._schedulers:
            _undo(s)
    else:
        scheduler.last_epoch -= 1


class ChainedScheduler(Combined):
    """All schedules at every step, each changing what the ones before it left: their factors multiply."""

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None) -> None:
        if not schedulers:
            raise ValueError("ChainedScheduler: wanted at least one schedule, saw none")
        self._take(schedulers, optimizer or schedulers[0].optimizer)
        self._last_lr = [get(group) for group in self.optimizer.param_groups]

    def step(self) -> None:  # type: ignore[override]
        """Go on by one epoch."""
        for s in self._schedulers:
            s.step()
        self._last_lr = [get(group) for group in self.optimizer.param_groups]

    def _initial_step(self) -> None:
        for s in self._schedulers:
            s._initial_step()
        self._last_lr = [get(group) for group in self.optimizer.param_groups]

    def _update_lr(self, epoch: int | None = None) -> None:
        if epoch is None:
            self.step()
            return
        for group in self.optimizer.param_groups:
            put(group, group["initial_lr"])
        for s in self._schedulers:
            s.last_epoch = -1
        self._initial_step()
