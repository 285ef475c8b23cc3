"""What torch.autograd and torch.profiler have beside differentiation: checks for NaN, blocks that are measured."""

from __future__ import annotations

from contextlib import ContextDecorator
from typing import Any, Self

from ..tensor import Tensor as Variable

__all__ = ["Variable"]


class record_function(ContextDecorator):
    """A named block, which nothing measures."""

    def __init__(self, name: str = "", args: Any = None) -> None:
        self.name = name

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass


class set_multithreading_enabled(record_function):
    """Backward runs in its caller's thread, whatever is set."""


class detect_anomaly(record_function):
    """A block in which the errors of backward would name the forward that caused them; they name the op."""

    def __init__(self, check_nan: bool = True) -> None:
        super().__init__()


class set_detect_anomaly(detect_anomaly):
    """As detect_anomaly, as a function too."""

    def __init__(self, mode: bool, check_nan: bool = True) -> None:
        super().__init__(check_nan)
