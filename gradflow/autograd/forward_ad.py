"""Dual numbers: a tensor with a tangent, and the tangent of what is computed from it.

A dual tensor is at a place of its own on the tape. What is computed from it is recorded as ever, and the tangent of a
result is found when it is unpacked, by transposing reverse mode twice: u -> J^T u is linear in u, and its own transpose
is v -> J v. So every op that can be differentiated twice has its forward mode. An unpacking costs about two recorded
backwards; nothing is known of what was computed under no_grad.
"""

from __future__ import annotations

import functools
import threading
from typing import Any, NamedTuple

from ..backend import is_differentiable
from ..op import current
from ..tape import Leaf, Traced
from .modes import enable_grad

__all__ = ["UnpackedDualTensor", "dual_level", "enter_dual_level", "exit_dual_level", "make_dual", "unpack_dual"]


class _Level:
    """One dual level: its dual tensors and their tangents."""

    def __init__(self) -> None:
        self.duals: list[tuple[Any, Any]] = []
        self.known: dict[Any, tuple[Any, Any]] = {}  # place on the tape -> (tensor, tangent)


class _Levels(threading.local):
    def __init__(self) -> None:
        self.stack: list[_Level] = []


_levels = _Levels()


class UnpackedDualTensor(NamedTuple):
    """A tensor and its tangent, None where it has none."""

    primal: Any
    tangent: Any


def enter_dual_level() -> int:
    """Begin a level of dual numbers; its number. RuntimeError inside another."""
    if _levels.stack:
        raise RuntimeError("enter_dual_level: dual levels do not nest; use func.jvp, which does")
    _levels.stack.append(_Level())
    return len(_levels.stack) - 1


def exit_dual_level(*, level: int | None = None) -> None:
    """End the level, and forget its tangents. RuntimeError if it is not the last one."""
    if level is None:
        level = len(_levels.stack) - 1
    if not _levels.stack or level != len(_levels.stack) - 1:
        raise RuntimeError(f"exit_dual_level: wanted the level that was entered last, saw {level}")
    _levels.stack.pop()


class dual_level:
    """The context in which tensors may have tangents."""

    def __enter__(self) -> int:
        self.level = enter_dual_level()
        return self.level

    def __exit__(self, *exc: object) -> None:
        exit_dual_level(level=self.level)

    def __call__(self, function: Any) -> Any:
        @functools.wraps(function)
        def inside(*args: Any, **kwargs: Any) -> Any:
            with dual_level():
                return function(*args, **kwargs)

        return inside


def _level(name: str, level: int | None) -> _Level:
    if (level is not None and level < 0) or not _levels.stack:
        raise RuntimeError(f"{name}: wanted to be inside a dual level; use `with dual_level():`")
    if level is not None and level >= len(_levels.stack):
        raise RuntimeError(f"{name}: there is no dual level {level}")
    return _levels.stack[-1 if level is None else level]


def make_dual(tensor: Any, tangent: Any, *, level: int | None = None) -> Any:
    """A tensor of the same memory that has this tangent in the dual level.

    RuntimeError outside of a level and for a tangent of another shape, TypeError for what is no tensor, ValueError for a
    tensor that is not floating or complex, or a tangent that is not.
    """
    from ..func.sides import alias

    here = _level("make_dual", level)
    for what, x in (("a tensor", tensor), ("a tangent", tangent)):
        if not isinstance(x, Traced):
            raise TypeError(f"make_dual: wanted {what}, saw {type(x).__name__}")
        if not is_differentiable(x.array.dtype):
            raise ValueError(f"make_dual: wanted {what} of a floating or complex dtype, saw {x.array.dtype}")
    if tuple(tensor.shape) != tuple(tangent.shape):
        raise RuntimeError(f"make_dual: wanted a tangent of shape {tuple(tensor.shape)}, saw {tuple(tangent.shape)}")
    if tensor.array.dtype != tangent.array.dtype:
        raise RuntimeError(f"make_dual: wanted a tangent of dtype {tensor.array.dtype}, saw {tangent.array.dtype}")
    with enable_grad():
        dual = alias(tensor, True)
    here.duals.append((dual, tangent))
    here.known[current(dual)] = (dual, tangent)
    return dual


def _reached(node: Any, level: _Level) -> list[tuple[Any, Any]]:
    """The dual tensors behind a place on the tape, with their tangents."""
    seen, stack, found = {node}, [node], []
    while stack:
        n = stack.pop()
        if n in level.known:
            found.append(level.known[n])
            continue
        for edge in getattr(n, "edges", ()):
            if edge not in seen:
                seen.add(edge)
                stack.append(edge)
    return found


def unpack_dual(tensor: Any, *, level: int | None = None) -> UnpackedDualTensor:
    """(primal, tangent) of a tensor in the dual level; the tangent is None if it was made from no dual tensor."""
    from ..func.sides import reaches
    from ..func.transforms import Linear

    if not _levels.stack and level is None:
        return UnpackedDualTensor(tensor, None)
    here = _level("unpack_dual", level)
    node = current(tensor) if isinstance(tensor, Traced) else None
    duals = [] if node is None else _reached(node, here)
    if not duals:
        return UnpackedDualTensor(tensor, None)
    own: set[Any] = {n for d, _ in duals if type(n := current(d)) is Leaf}
    for dual, tangent in duals:
        if current(dual) is node:
            return UnpackedDualTensor(dual.detach() if node in own else dual, tangent)
    more = reaches([tensor], own)
    # all duals at once: J v = sum of J_i v_i
    push = Linear([tensor], [d for d, _ in duals], own)
    (pushed,) = push([t for _, t in duals])
    return UnpackedDualTensor(tensor if more else tensor.detach(), pushed)
