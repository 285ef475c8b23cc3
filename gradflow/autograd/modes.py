"""Whether operations are recorded: grad mode, per thread."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

from .. import call, traced
from ..tape import Traced, Version, mode


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


class _Inference(threading.local):
    enabled = False


_inference = _Inference()
_inside = 0  # how many inference_mode contexts are entered, in all threads


class InferenceVersion(Version):
    """The version of a tensor made in inference mode: nothing that will be differentiated may need or write it."""

    def __init__(self) -> None:
        super().__init__([0])

    def bump(self) -> None:
        """Note a write. RuntimeError outside of inference mode."""
        if not _inference.enabled:
            raise RuntimeError(
                "inference_mode: a tensor made in inference mode was to be written in place outside of it; clone() it first"
            )

    def __getitem__(self, i: Any) -> Any:
        raise RuntimeError(
            "inference_mode: a tensor made in inference mode was saved for backward; clone() it to get a normal tensor"
        )

    @property
    def number(self) -> int:
        """PyTorch keeps none."""
        return 0


def _version() -> Version:
    return InferenceVersion() if _inference.enabled else Version()


class inference_mode:
    """no_grad whose tensors may not take part in what is differentiated later: a context manager and a decorator.

    mode=False is the context in which there is no inference mode. RuntimeError where a tensor made in it is later saved
    for backward, or written in place.
    """

    def __new__(cls, mode: Any = True) -> Any:
        return cls()(mode) if callable(mode) else object.__new__(cls)

    def __init__(self, mode: bool = True) -> None:
        self.mode, self.before = bool(mode), []  # type: ignore[var-annotated]

    def __enter__(self) -> None:
        global _inside
        self.before.append((mode.enabled, _inference.enabled))
        if self.mode:
            mode.enabled = False
        elif _inference.enabled:
            mode.enabled = True
        _inference.enabled = self.mode
        _inside += 1
        call.Version = traced.Version = _version  # type: ignore[misc, assignment]

    def __exit__(self, *exc: object) -> None:
        global _inside
        mode.enabled, _inference.enabled = self.before.pop()
        _inside -= 1
        if not _inside:
            call.Version = traced.Version = Version  # type: ignore[misc]

    def __call__(self, function: Callable) -> Callable:
        return _decorated(function, inference_mode, self.mode)


def is_inference_mode_enabled() -> bool:
    """Whether inference mode is on in this thread."""
    return _inference.enabled


def is_inference(tensor: Any) -> bool:
    """Whether a tensor was made in inference mode."""
    return type(tensor.version) is InferenceVersion


class set_multithreading_enabled:
    """A context, or a call, that changes nothing: backward runs in its caller's thread, whatever is set."""

    def __init__(self, mode: bool = True) -> None:
        self.mode = mode

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: object) -> None:
        pass


class _VariableType(type):
    def __instancecheck__(cls, x: object) -> bool:
        return isinstance(x, Traced)


class Variable(metaclass=_VariableType):
    """PyTorch's old word for a tensor: Variable(data, requires_grad) is a tensor on the memory of `data`."""

    def __new__(cls, data: Any = None, requires_grad: bool = False, volatile: Any = None) -> Any:
        return data.detach().requires_grad_(requires_grad)


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
