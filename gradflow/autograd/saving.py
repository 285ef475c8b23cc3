"""What becomes of the values that ops save for backward: hooks that pack them, and plans that unpack them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import numpy as np

from .. import call, op, tape
from ..backend import on_card
from ..op import wrap
from ..tape import Node, Traced
from . import function


class Around:
    """The plan of one node with something done before or after its rules; all else is the plan's own."""

    def __init__(self, plan: Any) -> None:
        self.plan = plan

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["plan"], name)

    def before(self, g: Any, saved: tuple) -> tuple:
        """The saved values for the rules."""
        return saved

    def after(self, found: tuple, g: Any) -> tuple:
        """The gradients, when the rules gave them."""
        return found

    def pull(self, g: Any, saved: tuple) -> tuple:
        """The gradients of the inputs."""
        return self.after(self.plan.pull(g, self.before(g, saved)), g)

    def pull_to(self, asked: tuple[bool, ...]) -> Callable[[Any, tuple], tuple]:
        """The function that gives those that are asked for."""
        pull = self.plan.pull_to(asked)
        return lambda g, saved: self.after(pull(g, self.before(g, saved)), g)


class _Saving(threading.local):
    def __init__(self) -> None:
        self.hooks: list[tuple[Callable, Callable]] = []
        self.refused: list[str] = []


saving = _Saving()


class _Packed:
    """What a pack hook gave for a saved value."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class _Packing(Around):
    """A plan whose saved values are unpacked before its rules see them."""

    def __init__(self, plan: Any, unpack: Callable[[Any], Any]) -> None:
        super().__init__(plan)
        self.unpack = unpack

    def _open(self, v: Any) -> Any:
        if type(v) is tuple:
            return tuple(map(self._open, v))
        if type(v) is not _Packed:
            return v
        t = self.unpack(v.value)
        if not isinstance(t, Traced):
            raise TypeError(f"saved_tensors_hooks: wanted the unpack hook to return a tensor, saw {type(t).__name__}")
        return t.array

    def before(self, g: Any, saved: tuple) -> tuple:
        """The values as they were saved."""
        return tuple(map(self._open, saved))

    def revive(self, node: Node, saved: tuple) -> tuple:
        """The values as Tensors at their places on the tape."""
        return self.plan.revive(node, self.before(None, saved))


def _pack(v: Any, pack: Callable[[Any], Any]) -> Any:
    if type(v) is tuple:
        return tuple(_pack(u, pack) for u in v)
    if not (isinstance(v, np.ndarray) or on_card(v)):
        return v
    t = wrap(v)
    before = t.version.number
    value = pack(t)
    if t.version.number != before:
        raise RuntimeError("saved_tensors_hooks: the pack hook wrote into its input in place; it must not")
    return _Packed(value)


def _saved_node(plan: Any, saved: tuple, marks: tuple, edges: tuple, shape: Any, dtype: Any) -> Node:
    """A Node whose saved values go through the hooks of this thread, if there are some."""
    if not saving.hooks:
        return recorded(plan, saved, marks, edges, shape, dtype)
    pack, unpack = saving.hooks[-1]
    slots = getattr(plan, "slots", None)
    with tape_quiet():
        packed = tuple(v if slots is not None and slots[i] is None else _pack(v, pack) for i, v in enumerate(saved))
    return recorded(_Packing(plan, unpack), packed, (), edges, shape, dtype)


class tape_quiet:
    """Hooks run without hooks, and off the tape."""

    def __enter__(self) -> None:
        self.hooks, self.mode = saving.hooks, tape.mode.enabled
        saving.hooks, tape.mode.enabled = [], False

    def __exit__(self, *exc: object) -> None:
        saving.hooks, tape.mode.enabled = self.hooks, self.mode


recorded: Callable[..., Node] = Node  # what makes a node; anomaly mode puts its own here
watchers = 0


def watch(on: bool) -> None:
    """Let calls make nodes by `_saved_node` while someone wants to see what is saved, and by Node itself otherwise."""
    global watchers
    watchers += 1 if on else -1
    make = _saved_node if watchers else Node
    call.Node = op.Node = function.Node = make  # type: ignore[misc, assignment]


class saved_tensors_hooks:
    """The context in which what ops save for backward is given to pack_hook(tensor), and what that returns is kept in its
    place; unpack_hook gives the tensor back when it is needed. The innermost context counts.
    """

    def __init__(self, pack_hook: Callable[[Any], Any], unpack_hook: Callable[[Any], Any]) -> None:
        self.pair = (pack_hook, unpack_hook)

    def __enter__(self) -> Self:
        if saving.refused:
            raise RuntimeError(saving.refused[-1])
        saving.hooks.append(self.pair)
        watch(True)
        return self

    def __exit__(self, *exc: object) -> None:
        saving.hooks.pop()
        watch(False)


class save_on_cpu(saved_tensors_hooks):
    """The context in which what is saved for backward is moved to the CPU, and back when it is needed."""

    def __init__(self, pin_memory: bool = False, device_type: str = "cuda") -> None:
        def pack(t: Any) -> tuple:
            return t.device, t.cpu() if t.is_cuda else t.clone()

        def unpack(packed: tuple) -> Any:
            device, t = packed
            return t.to(device, non_blocking=pin_memory)

        super().__init__(pack, unpack)


@contextmanager
def disable_saved_tensors_hooks(error_message: str) -> Iterator[None]:
    """The context in which saved_tensors_hooks is refused with this message."""
    saving.refused.append(error_message)
    try:
        yield
    finally:
        saving.refused.pop()


@contextmanager
def allow_mutation_on_saved_tensors() -> Iterator[Any]:
    """The context in which tensors that backward needs may be written in place: what is saved is a copy, made at once."""
    with saved_tensors_hooks(lambda t: t.clone(), lambda t: t) as context:
        yield context
