"""Tensors as ops see them: the door through which arrays become Tensors, and views that share memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from .backend import Array, on_card
from .tape import Traced, Version, mode

Tensor: Any = Traced  # tensor.py puts its class here


def wrap(array: Array, node: Any = None) -> Any:
    """A Tensor of this array."""
    t = Tensor.__new__(Tensor)
    t.array = array if type(array) is np.ndarray or on_card(array) else np.asarray(array)
    t.node = node
    t.version = Version()
    return t


def unwrap(x: Any) -> Any:
    """The array of a Tensor, or of every Tensor in a list or tuple; anything else as it is."""
    if isinstance(x, Traced):
        return x.array
    if type(x) in (list, tuple):
        return type(x)(unwrap(v) for v in x)
    return x


class View:
    """How a tensor that shares memory was taken from its base, so that its node can be taken anew after a write.

    way   (op, constants): the way without the base, which a node may hold without a reference cycle
    seen  the version at which the tensor's node was taken; None if nothing was recorded when the view was made
    """

    __slots__ = ("base", "seen", "way")

    def __init__(self, base: Any, op: Any, args: tuple) -> None:
        self.base, self.way, self.seen = base, (op, args[1:]), base.version.number if mode.enabled else None


def current(t: Any) -> Any:
    """The node of a tensor: of a view, the one that follows from its base as last written."""
    view = t.view
    if view is not None and view.seen is not None and view.seen != t.version.number:
        view.seen = t.version.number
        base = view.base
        fresh, before = wrap(base.array, current(base)), mode.enabled
        mode.enabled = True
        try:
            op, constants = view.way
            t.node = op(fresh, *constants).node
        finally:
            mode.enabled = before
    return t.node


def own(node: Any, version: Version) -> None:
    """Give a node copies of those of its saved values that a write to the storage of `version` is about to change."""
    if type(node) is not Node or type(node.plan) is not Plan or not any(m is version for m in node.marks):
        return
    marks = iter(node.marks)

    def keep(value: Any) -> Any:
        return value.copy() if next(marks) is version else value

    node.saved = tuple(
        v if slot is None else tuple(map(keep, v)) if type(slot) is tuple else keep(v)
        for v, slot in zip(node.saved, node.plan.slots, strict=True)
    )
    node.marks = tuple(() if m is version else m for m in node.marks)
