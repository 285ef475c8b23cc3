"""Hooks of optimizers: functions called before and after a step, and as state is saved and loaded."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from ..tensor import RemovableHandle

before_every_step: dict[Any, Callable[..., Any]] = {}  # handle -> hook, of all optimizers
after_every_step: dict[Any, Callable[..., Any]] = {}
MOMENTS = ("step_pre", "step_post", "state_pre", "state_post", "load_pre", "load_post")


def register_optimizer_step_pre_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call hook(optimizer, args, kwargs) before each step of every optimizer."""
    return RemovableHandle(before_every_step, hook)


def register_optimizer_step_post_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call hook(optimizer, args, kwargs) after each step of every optimizer."""
    return RemovableHandle(after_every_step, hook)


class Hooked:
    """The part of an Optimizer that keeps hooks. A step() of one's own is hooked as the class is made."""

    _hooks: dict[str, dict[Any, Callable[..., Any]]]
    steps_taken = 0  # a learning rate schedule warns if it goes on before the optimizer does
    _inside = False  # whether a step is under way, which may call the step of its base

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "step" in cls.__dict__:
            cls.step = hooked(cls.step)  # type: ignore[attr-defined]

    def register_step_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call hook(optimizer, args, kwargs) before each step, args as step got them, the optimizer first.

        A pair (args, kwargs) that it returns takes their place.
        """
        return RemovableHandle(self._hooks["step_pre"], hook)

    def register_step_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call hook(optimizer, args, kwargs) after each step."""
        return RemovableHandle(self._hooks["step_post"], hook)

    def register_state_dict_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call hook(optimizer) before state_dict."""
        return _add(self._hooks["state_pre"], hook, prepend)

    def register_state_dict_post_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call hook(optimizer, state_dict) after state_dict; what it returns, if anything, takes its place."""
        return _add(self._hooks["state_post"], hook, prepend)

    def register_load_state_dict_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call hook(optimizer, state_dict) before load_state_dict; what it returns, if anything, is loaded instead."""
        return _add(self._hooks["load_pre"], hook, prepend)

    def register_load_state_dict_post_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call hook(optimizer) after load_state_dict."""
        return _add(self._hooks["load_post"], hook, prepend)


def _add(register: dict, hook: Callable[..., Any], prepend: bool) -> RemovableHandle:
    others = list(register.items()) if prepend else []
    for handle, _ in others:
        del register[handle]
    handle = RemovableHandle(register, hook)
    register.update(others)
    return handle


def hooked(step: Callable[..., Any]) -> Callable[..., Any]:
    """A step() with the hooks around it, which counts the steps that were taken."""

    @wraps(step)
    def with_hooks(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self._inside:
            return step(self, *args, **kwargs)
        own = self.__dict__.get("_hooks") or {moment: {} for moment in MOMENTS}
        args = (self, *args)
        for hook in (*before_every_step.values(), *own["step_pre"].values()):
            replaced = hook(self, args, kwargs)
            if replaced is not None:
                if not (isinstance(replaced, tuple) and len(replaced) == 2):
                    raise RuntimeError(f"step: wanted None or (args, kwargs) from a hook, saw {replaced!r}")
                args, kwargs = replaced
        self._inside = True
        try:
            result = step(*args, **kwargs)
        finally:
            self._inside = False
        self.steps_taken += 1
        for hook in (*own["step_post"].values(), *after_every_step.values()):
            hook(self, args, kwargs)
        return result

    return with_hooks
