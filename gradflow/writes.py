"""Writing in place: into a tensor, through its views, by index; each write is recorded or refused, never silently wrong.

A write to a tensor that is tracked gives it a new node. If it is a view, so do all the tensors it is a view of: their new
value is the old one with the view's part replaced (ops/index.py, view_write). Every other view of the same memory takes its
node anew from its base when it is next used (traced.current).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import backend, call, dtypes, op
from .backend import Array
from .op import current, wrap
from .ops import index
from .ops import shape as shapes
from .tape import Leaf, Node, Traced, clock, mode
from .traced import overlaps


def chain(t: Any) -> list[Any]:
    """A tensor and those it is a view of, down to the one that owns the memory."""
    found = [t]
    while t.source is not None:
        t = t.source.base
        found.append(t)
    return found


class Writable(Traced):
    """The part of Tensor that writes."""

    def _write(self, name: str, value: Any, where: Any = None) -> Any:
        """Put `value` (a tensor that nothing else holds, or a number) into self, or into self[where] for an advanced
        index, and record it.
        """
        written = value.array if isinstance(value, Traced) else value
        if not mode.enabled:
            self._put(name, written, where)
            self.version.bump()
            return self
        views = chain(self)
        root = views.pop()
        if type(root.node) is Leaf:
            raise RuntimeError(
                f"{name}: a leaf of shape {tuple(root.array.shape)} that requires a gradient was to be written in "
                "place; do it under no_grad() or on a copy"
            )
        node, new = current(self), current(value) if isinstance(value, Traced) else None
        bases = [(v, current(v.source.base)) for v in views]
        tracked = new is not None or node is not None or any(n is not None for _, n in bases)
        if tracked and any(v.source.seen is None for v in views):
            raise RuntimeError(f"{name}: wanted a view that was made with gradients on, saw one made under no_grad()")
        if tracked and any(overlaps(v.array) for v in views[1:] if not v.array.flags.c_contiguous):
            raise RuntimeError(f"{name}: wanted a view of elements apart in memory, saw a part of an expanded tensor; clone() it")
        if type(new) is Node and hasattr(new.plan, "own"):
            new.plan.own(new, self.version)
        self._put(name, written, where)
        if where is not None or (new is None and node is not None and not views):
            where = (...,) if where is None else where
            out, old = wrap(self.array), wrap(self.array, node)
            index.index_put.op.record((old, where, value), (self.array, where, written), (out,))
            new = out.node
        elif new is not None and written.shape != self.array.shape:
            part = wrap(written, new)
            if written.ndim > self.array.ndim:  # dimensions of size one too many are let pass, as in PyTorch
                part = shapes.reshape(part, written.shape[written.ndim - self.array.ndim :])
            new = current(shapes.expand(part, self.array.shape))
        self.version.bump()
        if tracked:
            self._rebase(new, bases)
        return self

    def _put(self, name: str, written: Any, where: Any) -> None:
        """Write into the array itself."""
        a = self.array
        if (
            (written.dtype.kind if backend.is_array(written) else type(written) is complex and "c")
            == "c"
            != a.dtype.kind
        ):
            raise RuntimeError(f"{name}: wanted values that fit into {a.dtype}, saw complex ones")
        number = isinstance(written, (bool, int, float, complex))
        if not a.flags.c_contiguous and a.size and not (number and where is None) and overlaps(a):
            raise RuntimeError(f"{name}: wanted elements apart in memory, saw some in one place; clone() the tensor first")
        if backend.on_card(a):
            xp = backend.namespace(a)
            if not number:
                written = xp.asarray(written)
                written = written.copy() if xp.may_share_memory(written, a) else written
        try:
            if type(written) is int and a.dtype.kind == "u" and -np.iinfo(a.dtype).max <= written < 0:
                written = dtypes.wrapped(written, a.dtype)  # as in C, -1 is the largest
            index.put(a, (...,) if where is None else where, written)
        except (ValueError, TypeError, IndexError, OverflowError) as e:
            raise op.explain(name, (a, written), e) from e

    def _rebase(self, node: Any, bases: list[tuple[Any, Any]]) -> None:
        """Let `node` be what made self's new value; of every base that self is a view of, a node that says so too."""
        t = self
        for view, base_node in bases:
            base, way = view.source.base, view.source.way
            out, old, part = wrap(base.array), wrap(base.array, base_node), wrap(view.array, node)
            index.view_write.op.record((old, part, way), (base.array, view.array, way), (out,))
            node, t = out.node, base
        t.node = node

    def _alias(self, value: Any) -> Any:
        """A tensor, on self's device and at a node of its own, with the array of `value`; what is no tensor as it is."""
        if not isinstance(value, Traced):
            return value
        value = shapes.move(value, self.device)
        out = wrap(value.array)
        if mode.enabled:
            shapes.clone.op.record((value,), (value.array,), (out,))
        return out

    def __setitem__(self, where: Any, value: Any) -> None:
        basic, advanced = index.prepare(where, self.array)
        part = self if basic is None else index.slice_(self, basic)
        if isinstance(value, Traced) and advanced is None and chain(value)[-1] is chain(part)[-1]:
            a, b = value.array, part.array  # x[i] += y has written into x already when it comes here
            if (a.shape, a.strides, a.dtype, data_ptr(a)) == (b.shape, b.strides, b.dtype, data_ptr(b)):
                return
        part._write("setitem", self._alias(value), advanced)

    def __getitem__(self, where: Any) -> Any:
        return index.getitem(self, where)

    def copy_(self, source: Any, non_blocking: bool = False) -> Any:
        """Write `source`, of a shape that broadcasts to self's, into self; it is cast and moved to self's device."""
        return self._write("copy_", self._alias(source))

    def fill_(self, value: Any) -> Any:
        """Set every element to `value`."""
        return self._write("fill_", self._alias(value))

    def zero_(self) -> Any:
        """Set every element to zero."""
        return self._write("zero_", 0)


def in_place(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The method that writes what `function` of self gives into self: add_ from add."""

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        start = clock()
        if call.casting and call.uncast is not None:  # autocast leaves what is written in place alone
            value = call.uncast(function, self, *args, **kwargs)
        else:
            value = function(self, *args, **kwargs)
        found, own = dtypes.category(value.array.dtype), dtypes.category(self.array.dtype)
        if found > own or (found == 2 and own == 3):  # nor does PyTorch write |z| into z
            raise RuntimeError(
                f"{name}: wanted a result that fits into {self.array.dtype}, saw one of {value.array.dtype}"
            )
        if value.array.shape != self.array.shape:
            raise RuntimeError(
                f"{name}: wanted a result of self's shape {tuple(self.array.shape)}, saw {tuple(value.array.shape)}"
            )
        if type(value.node) is Node:
            _keep(value.node, start, self.version)
        return self._write(name, value)

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"{function.__name__}, written into self."
    return method


def _keep(node: Any, start: int, version: Any) -> None:
    """Give the nodes recorded since `start`, of which a function was made, copies of what they saved of a storage that is
    about to be written.
    """
    nodes, seen = [node], set()
    while nodes:
        node = nodes.pop()
        if node.time <= start or id(node) in seen or type(node) is Leaf:
            continue
        seen.add(id(node))
        if type(node) is Node and hasattr(node.plan, "own"):
            node.plan.own(node, version)
        nodes += node.edges


def data_ptr(array: Array) -> int:
    """The address of the first element."""
    return array.data.ptr if backend.on_card(array) else array.__array_interface__["data"][0]
