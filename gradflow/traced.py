"""Tensors as ops see them: the door through which arrays become Tensors, and views that share memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from .backend import Array, namespace, on_card
from .tape import Traced, Version, mode

Tensor: Any = Traced  # tensor.py puts its class here


def wrap(array: Array, node: Any = None) -> Any:
    """A Tensor of this array."""
    t = Tensor.__new__(Tensor)
    if type(array) is np.ndarray or on_card(array):
        t.array = array
    elif hasattr(array, "owner"):
        return array.owner.detach()  # the face of a tensor that vmap batches
    else:
        t.array = np.asarray(array)
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


def shares(y: Array, x: Array) -> bool:
    """Whether y may lie in the memory of x, or has none: reshape and the like copy where they cannot make a view."""
    return not y.size or namespace(y).may_share_memory(y, x)


def overlaps(x: Array) -> bool:
    """Whether elements of x may lie in one place, as in an expanded tensor or in windows."""
    reach = 0  # the bytes up to the last element seen so far
    for stride, n in sorted((abs(s), n) for s, n in zip(x.strides, x.shape, strict=True) if n > 1):
        if stride < reach + x.itemsize:
            return True
        reach += stride * (n - 1)
    return False


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
    view = t.source
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
