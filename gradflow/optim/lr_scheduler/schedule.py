"""LRScheduler: a learning rate that depends on how many epochs (or steps) have passed."""

from __future__ import annotations

import types
import warnings
from collections.abc import Callable
from typing import Any

from ...tape import Traced
from ..optimizer import Optimizer


def get(group: dict[str, Any], name: str = "lr") -> float:
    """A hyperparameter of a group as a number."""
    value = group[name]
    return value.array.item() if isinstance(value, Traced) else value


def put(group: dict[str, Any], value: float) -> None:
    """Set the learning rate of a group; one that is a tensor is written in place, so that a captured graph sees it."""
    if isinstance(group["lr"], Traced):
        group["lr"].array[...] = value
        group["lr"].version.bump()
    else:
        group["lr"] = value


def per_group(name: str, value: Any, optimizer: Optimizer) -> list[float]:
    """A value for each group, given one for all or a list. ValueError if the list has another length."""
    groups = len(optimizer.param_groups)
    if not isinstance(value, (list, tuple)):
        return [value] * groups
    if len(value) != groups:
        raise ValueError(f"{name}: wanted {groups} values, one for each parameter group, saw {len(value)}")
    return list(value)


class LRScheduler:
    """The base of all schedules. A new one defines get_lr(), from last_epoch, base_lrs and the optimizer's groups.

    last_epoch   how many epochs have passed, 0 once constructed; give it to go on from there, -1 to begin
    base_lrs     the learning rate of each group at the beginning (also kept in the group as "initial_lr")
    TypeError without an optimizer; KeyError when going on with an optimizer that has no "initial_lr".
    """

    _is_initial = False

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        self._check(optimizer)
        self.optimizer = optimizer
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", get(group))
            elif "initial_lr" not in group:
                raise KeyError(
                    f"{type(self).__name__}: wanted 'initial_lr' in param_groups[{i}] to go on from {last_epoch}, "
                    "saw none: load the optimizer's state first"
                )
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._begin()

    def _check(self, optimizer: Any) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(self).__name__}: wanted an Optimizer, saw {type(optimizer).__name__}")

    def _begin(self) -> None:
        """The first step, that of the constructor."""
        self._step_count, self._is_initial = 0, True
        try:
            self.step()
        finally:
            self._is_initial = False

    def get_lr(self) -> list[float]:
        """The learning rate of each group at last_epoch; get_last_lr() is the one to ask from outside."""
        raise NotImplementedError(f"{type(self).__name__}: the schedule has no get_lr()")

    def get_last_lr(self) -> list[float]:
        """The learning rate of each group that this schedule last set."""
        return self._last_lr

    def step(self) -> None:
        """Go on by one epoch, after the optimizer's step."""
        if self._step_count == 1 and not self.optimizer.steps_taken:
            warnings.warn(
                f"{type(self).__name__}: step() came before optimizer.step(), which skips the first learning rate",
                stacklevel=2,
            )
        self._step_count += 1
        self.last_epoch += 1
        self._set(self.get_lr())

    def restart(self) -> None:
        """Go back to epoch 0: where a sequence of schedules hands over to this one."""
        self.last_epoch = 0
        self._set(self.get_lr())

    def _set(self, values: list[float]) -> None:
        for group, value in zip(self.optimizer.param_groups, values, strict=True):
            put(group, value)
        self._last_lr = [get(group) for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """All that changes, and all parameters that are not functions."""
        kept = {k: v for k, v in self.__dict__.items() if k != "optimizer" and not isinstance(v, types.FunctionType)}
        return {k: _plain(v) for k, v in kept.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state_dict. Functions stay those given to the constructor; objects get back their attributes."""
        for k, v in state_dict.items():
            mine = self.__dict__.get(k)
            if isinstance(mine, list) and any(callable(f) for f in mine):
                for f, attributes in zip(mine, v, strict=True):
                    if attributes is not None:
                        f.__dict__.update(attributes)
            elif callable(mine):
                if v is not None:
                    mine.__dict__.update(v)
            else:
                self.__dict__[k] = v


def _plain(v: Any) -> Any:
    """A value as it is saved: of a function nothing, of a callable object its attributes."""
    if isinstance(v, list):
        return [_plain(u) for u in v]
    if callable(v):
        return None if isinstance(v, types.FunctionType) else dict(v.__dict__)
    return v


Function = Callable[[int], float]
