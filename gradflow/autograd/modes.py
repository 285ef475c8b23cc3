"""Whether operations are recorded: grad mode, per thread."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ..tape import mode


class set_grad_enabled:
    """Record operations, or not: a call that takes effect at once, a context manager, and a decorator."""

    def __init__(self, enabled: bool) -> None:
        self.enabled, self.before = bool(enabled), [mode.enabled]
        mode.enabled = self.enabled

    def __enter__(self) -> None:
        mode.enabled = self.enabled

    def __exit__(self, *exc: object) -> None:
        mode.enabled = self.before[-1]

    def __call__(self, function: Callable) -> Callable:
        mode.enabled = self.before[-1]
        return _decorated(function, type(self), self.enabled)


class _Mode(set_grad_enabled):
    value: bool

    def __init__(self) -> None:
        self.before: list[bool] = []

    def __enter__(self) -> None:
        self.before.append(mode.enabled)
        mode.enabled = self.value

    def __exit__(self, *exc: object) -> None:
        mode.enabled = self.before.pop()

    def __new__(cls, function: Callable | None = None) -> Any:
        return object.__new__(cls) if function is None else _decorated(function, cls)

    def __call__(self, function: Callable) -> Callable:
        return _decorated(function, type(self))


class no_grad(_Mode):
    """In this context, or in a function decorated with it, nothing is recorded."""

    value = False


class enable_grad(_Mode):
    """In this context, or in a function decorated with it, operations are recorded, also inside no_grad."""

    value = True


class inference_mode(no_grad):
    """no_grad by PyTorch's other name."""


def _decorated(function: Callable, context: type, *args: Any) -> Callable:
    @functools.wraps(function)
    def inside(*a: Any, **k: Any) -> Any:
        before = mode.enabled
        with context(*args) as _:
            try:
                return function(*a, **k)
            finally:
                mode.enabled = before

    return inside


def is_grad_enabled() -> bool:
    """Whether operations are recorded in this thread."""
    return mode.enabled
