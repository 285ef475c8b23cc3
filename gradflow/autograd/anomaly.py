"""Anomaly mode: an error or a NaN in backward names the line of the program whose operation it belongs to."""

from __future__ import annotations

import linecache
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from ..backend import namespace
from ..tape import Node, Traced
from . import gradient, saving

__all__ = ["detect_anomaly", "is_anomaly_check_nan_enabled", "is_anomaly_enabled", "set_detect_anomaly"]

_HOME = str(Path(__file__).parent.parent)


class _Mode(threading.local):
    enabled = False
    check_nan = True


mode = _Mode()


def is_anomaly_enabled() -> bool:
    """Whether anomaly mode is on in this thread."""
    return mode.enabled


def is_anomaly_check_nan_enabled() -> bool:
    """Whether anomaly mode looks for NaN."""
    return mode.check_nan


def _place() -> tuple[str, int, str] | None:
    """(file, line, function) of the innermost frame that is not gradflow's own."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith((_HOME, "<the call of", "<frozen")):
            return file, frame.f_lineno, frame.f_code.co_name
        frame = frame.f_back
    return None


def _title(plan: Any) -> str:
    """PyTorch's name for a node of this plan."""
    from ..printing import gradient_name

    return gradient_name(Node(plan, (), (), (), (), None))


class _Watched(saving.Around):
    """A plan whose gradients are looked at."""

    def __init__(self, plan: Any, place: tuple[str, int, str] | None) -> None:
        super().__init__(plan)
        self.place = place

    def where(self) -> str:
        """The line of the program, in words."""
        if self.place is None:
            return "it was recorded without anomaly mode, so its line is not known"
        file, line, function = self.place
        return f"it was recorded at {file}:{line} in {function}: {linecache.getline(file, line).strip()}"

    def after(self, found: tuple, g: Any) -> tuple:
        """The gradients, once none has a NaN."""
        if mode.check_nan:
            for i, v in enumerate(found):
                a = v.array if isinstance(v, Traced) else v
                if (
                    a is not None
                    and hasattr(a, "dtype")
                    and a.dtype.kind in "fcV"
                    and bool(namespace(a).isnan(a).any())
                ):
                    raise RuntimeError(
                        f"backward: Function '{_title(self.plan)}' returned nan values in its {i}th output; {self.where()}"
                    )
        return found

    def _guarded(self, pull: Any) -> Any:
        def run(g: Any, saved: tuple) -> tuple:
            try:
                found = pull(g, saved)
            except Exception as e:
                e.add_note(f"in the backward of '{_title(self.plan)}': {self.where()}")
                raise
            return self.after(found, g)

        return run

    def pull(self, g: Any, saved: tuple) -> tuple:
        """The gradients of the inputs."""
        return self._guarded(self.plan.pull)(g, saved)

    def pull_to(self, asked: tuple[bool, ...]) -> Any:
        """The function that gives those that are asked for."""
        return self._guarded(self.plan.pull_to(asked))


def _recorded(*parts: Any) -> Node:
    node = Node(*parts)
    if mode.enabled:
        node.plan = _Watched(node.plan, _place())
    return node


@contextmanager
def _watching(roots: Iterable[Any], wanted: Any) -> Iterator[None]:
    """Around a walk: nodes that were recorded without anomaly mode are looked at as well."""
    if mode.enabled:
        seen, stack = set(roots), list(roots)
        while stack:
            node = stack.pop()
            if type(node) is Node and not isinstance(node.plan, _Watched):
                node.plan = _Watched(node.plan, None)
            for edge in getattr(node, "edges", ()):
                if edge not in seen:
                    seen.add(edge)
                    stack.append(edge)
    yield


def _now() -> tuple[bool, bool]:
    return mode.enabled, mode.check_nan


class set_detect_anomaly:
    """Turn anomaly mode on or off: a call that takes effect at once, and a context manager."""

    def __init__(self, mode: bool, check_nan: bool = True) -> None:
        self.before = _now()
        _set(bool(mode), check_nan)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        _set(*self.before)


class detect_anomaly:
    """The context in which recorded operations remember their line, and a backward that meets an error or, with check_nan,
    a NaN raises RuntimeError with that line. It is slow.
    """

    def __init__(self, check_nan: bool = True) -> None:
        self.check_nan, self.before = check_nan, (False, True)

    def __enter__(self) -> Self:
        self.before = mode.enabled, mode.check_nan
        _set(True, self.check_nan)
        return self

    def __exit__(self, *exc: object) -> None:
        _set(*self.before)


def _set(enabled: bool, check_nan: bool) -> None:
    if enabled != mode.enabled:
        saving.recorded = _recorded
        saving.watch(enabled)
    mode.enabled, mode.check_nan = enabled, check_nan
    if enabled and _watching not in gradient.contexts:
        gradient.contexts.append(_watching)
