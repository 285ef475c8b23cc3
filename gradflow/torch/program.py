"""torch.jit, torch.compile and torch.compiler: programs run as they are written."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Final, NoReturn

from ..nn import Module as ScriptModule

__all__ = ["Final", "ScriptModule"]


def _same(obj: Any = None, *args: Any, **kwargs: Any) -> Any:
    """obj itself, or a decorator that changes nothing where it is called with settings only."""
    return obj if callable(obj) else lambda function: function


script = ignore = unused = export = interface = script_method = script_if_tracing = freeze = _same
compile = disable = allow_in_graph = assume_constant_result = run = optimize = nested_compile_region = _same
optimize_for_inference = substitute_in_graph = overload = overload_method = _same
state = None


def trace(func: Callable[..., Any], *args: Any, **kwargs: Any) -> Callable[..., Any]:
    """The function or module itself."""
    return func


trace_module = trace


def annotate(the_type: Any, the_value: Any) -> Any:
    """The value."""
    return the_value


def fork(func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """func(*args, **kwargs), at once."""
    return func(*args, **kwargs)


def wait(future: Any) -> Any:
    """What fork gave."""
    return future


def is_scripting() -> bool:
    """False: nothing is compiled."""
    return False


is_tracing = is_compiling = is_dynamo_compiling = is_exporting = is_scripting


def mark_static_address(*args: Any, **kwargs: Any) -> None:
    """Nothing to mark."""


mark_dynamic = mark_unbacked = maybe_mark_dynamic = mark_static = mark_static_address


def reset() -> None:
    """Nothing to forget."""


def cudagraph_mark_step_begin() -> None:
    """Nothing to mark."""


def list_backends(*args: Any) -> list[str]:
    """None."""
    return []


@contextmanager
def optimized_execution(should_optimize: bool) -> Any:
    """A block that changes nothing."""
    yield


@contextmanager
def set_stance(*args: Any, **kwargs: Any) -> Any:
    """A block that changes nothing."""
    yield


class Settings(SimpleNamespace):
    """Settings that may be made and change nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return None


config = Settings()


def _refuse(name: str) -> Callable[..., NoReturn]:
    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError(f"gradflow has no torch.jit.{name}")

    return refuse


save, load = _refuse("save"), _refuse("load")
