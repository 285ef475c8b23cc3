"""LRScheduler: a learning rate that depends on how many epochs (or steps) have passed."""

from __future__ import annotations

import types
import warnings
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

from ... import backend
from ...op import wrap
from ...tape import Traced
from ..optimizer import Optimizer


def get(group: dict[str, Any], name: str = "lr") -> Any:
    """A hyperparameter of a group: a number, or a copy of the tensor that it is."""
    return copied(group[name])


def copied(value: Any) -> Any:
    """A number as it is, a tensor as one with memory of its own."""
    return wrap(value.array.copy()) if isinstance(value, Traced) else value


def put(group: dict[str, Any], value: Any, name: str = "lr") -> None:
    """Set the learning rate of a group; one that is a tensor is written in place, so that a captured graph sees it."""
    if isinstance(group[name], Traced):
        if backend.capture.graph is not None and backend.on_card(group[name].array):
            raise RuntimeError(f"schedule: wanted {name} as a number in a step that is captured, saw a tensor on the card")
        group[name].array[...] = value.array.reshape(()) if isinstance(value, Traced) else value
        group[name].version.bump()
    else:
        group[name] = value


def per_group(name: str, value: Any, optimizer: Optimizer) -> list[Any]:
    """A value for each group, given one for all or a list. ValueError if the list has another length."""
    groups = len(optimizer.param_groups)
    if not isinstance(value, (list, tuple)):
        return [copied(value) for _ in range(groups)]
    if len(value) != groups:
        raise ValueError(f"{name}: wanted {groups} values, one for each parameter group, saw {len(value)}")
    return [copied(v) for v in value]


def within_step(get_lr: Callable[..., list]) -> Callable[..., list]:
    """Decorate a get_lr() that is for step() to call: from outside it warns, as what it gives may be another epoch's."""

    @wraps(get_lr)
    def guarded(self: Any) -> list:
        if not self._get_lr_called_within_step:
            warnings.warn(
                f"{type(self).__name__}: get_lr() is for step(); ask get_last_lr()", UserWarning, stacklevel=2
            )
        return get_lr(self)

    return guarded


def repeated(step: Callable[..., Any]) -> Callable[..., Any]:
    """A step() that a captured graph takes again before each of its replays."""

    @wraps(step)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if backend.capture.graph is None:
            return step(self, *args, **kwargs)
        return backend.capture.graph.again(partial(step, self, *args, **kwargs))

    return call


class LRScheduler:
    """The base of all schedules. A new one defines get_lr(), from last_epoch, base_lrs and the optimizer's groups.

    It may define _get_closed_form_lr(), the learning rates at last_epoch whatever came before, for step(epoch).

    last_epoch   how many epochs have passed, 0 once constructed; give it to go on from there, -1 to begin
    base_lrs     the learning rate of each group at the beginning (also kept in the group as "initial_lr")
    TypeError without an optimizer; KeyError when going on with an optimizer that has no "initial_lr".
    """

    _is_initial = False
    _get_lr_called_within_step = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "step" in cls.__dict__:
            cls.step = repeated(cls.step)  # type: ignore[method-assign]

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
        self.base_lrs = [get(group, "initial_lr") for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._initial_step()

    def _check(self, optimizer: Any) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(self).__name__}: wanted an Optimizer, saw {type(optimizer).__name__}")

    def _initial_step(self) -> None:
        """The first step, that of the constructor."""
        self._step_count, self._is_initial = 0, True
        try:
            self.step()
        finally:
            self._is_initial = False

    def get_lr(self) -> list[Any]:
        """The learning rate of each group at last_epoch; get_last_lr() is the one to ask from outside."""
        raise NotImplementedError(f"{type(self).__name__}: the schedule has no get_lr()")

    def get_last_lr(self) -> list[Any]:
        """The learning rate of each group that this schedule last set."""
        return self._last_lr

    @repeated
    def step(self, epoch: int | None = None) -> None:
        """Go on by one epoch, after the optimizer's step; or to a given one, which warns: not every schedule can."""
        if self._step_count == 1 and not self.optimizer.steps_taken:
            warnings.warn(
                f"{type(self).__name__}: step() came before optimizer.step(), which skips the first learning rate",
                UserWarning,
                stacklevel=3,
            )
        self._step_count += 1
        if epoch is not None:
            self._warn_of(epoch)
        self._update_lr(epoch)

    def _warn_of(self, epoch: Any) -> None:
        warnings.warn(f"{type(self).__name__}: step() wants no epoch, saw {epoch}", UserWarning, stacklevel=4)

    def _update_lr(self, epoch: int | None = None) -> None:
        """Set the learning rates of the next epoch, or of a given one: 0 is where a sequence hands over to this one."""
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        closed = getattr(self, "_get_closed_form_lr", None)
        self._set(closed if epoch is not None and closed is not None else self.get_lr)

    def _set(self, rates: Callable[[], list[Any]]) -> None:
        self._get_lr_called_within_step = True
        try:
            values = rates()
        finally:
            self._get_lr_called_within_step = False
        for group, value in zip(self.optimizer.param_groups, values, strict=True):
            put(group, value)
        self._last_lr = [get(group) for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """All that changes, and all parameters; None for a function, its attributes for another callable object."""
        return {k: _plain(v) for k, v in self.__dict__.items() if k != "optimizer"}

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
_LRScheduler = LRScheduler  # its name in older programs
