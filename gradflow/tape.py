"""The tape: what was recorded, and the walk back over it. It knows arrays and rules, no Tensors and no layers.

Every recorded call is a Node that points at the nodes of its inputs. Nodes are numbered as they are made, so the numbers
are a topological order: the walk pops the newest pending node from a heap and never recurses. Nothing points forward, so
there are no reference cycles: when the last output goes, the whole record goes with it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from heapq import heappop, heappush
from itertools import count
from typing import Any
from weakref import ref

import numpy as np

from .backend import Array, namespace
from .kernel import kernel

clock = count(1).__next__  # one clock for recordings and for writes in place, so the two can be ordered


class Mode(threading.local):
    """Whether operations are recorded, per thread."""

    enabled = True


mode = Mode()


class Version(list):
    """The times at which a storage was written in place; every view of the storage shares it. Its length is the version."""

    KEPT = 64
    forgotten = 0

    def bump(self) -> None:
        """Note a write."""
        self.append(clock())
        if len(self) > 2 * self.KEPT:  # an optimizer writes a parameter millions of times: keep the newest times only
            self.forgotten += len(self) - self.KEPT
            del self[: -self.KEPT]

    @property
    def number(self) -> int:
        """How many writes there were."""
        return self.forgotten + len(self)

    def number_at(self, time: int) -> int:
        """How many writes there were before `time`."""
        return self.forgotten + sum(t < time for t in self)


class Traced:
    """An array and its place on the tape: what the tape sees of a Tensor."""

    array: Array
    node: Any = None  # the Node (or Output, or Leaf) that made it; None when nothing is tracked
    version: Version
    source: Any = None  # how it was taken from its base, for views that share memory
    whole: Any = None  # of a detached view, the array whose memory it sees a part of


class Leaf:
    """Where a gradient ends: a tensor that asked for one. The tensor owns its Leaf; the Leaf only knows it weakly."""

    __slots__ = ("dtype", "hooks", "shape", "tensor")
    time = 0  # older than every node

    def __init__(self, tensor: Traced) -> None:
        self.tensor, self.hooks = ref(tensor), None
        self.shape, self.dtype = tensor.array.shape, tensor.array.dtype


class Node:
    """One recorded call: its plan, the values its rules will need, and the nodes of its inputs.

    plan   what to call with what was saved (op.Plan), shared by all calls of the same op with the same needs
    saved  the arrays and constants that the rules name; None once freed
    marks  the Versions of the saved arrays' storages, to notice writes in place
    edges  the node of each input that needs a gradient
    shape, dtype  of the output, to which an incoming gradient is fitted
    """

    __slots__ = ("__weakref__", "dtype", "edges", "hooks", "marks", "plan", "saved", "shape", "time")

    def __init__(self, plan: Any, saved: tuple, marks: tuple, edges: tuple, shape: tuple, dtype: Any) -> None:
        self.plan, self.saved, self.marks, self.edges = plan, saved, marks, edges
        self.shape, self.dtype, self.hooks, self.time = shape, dtype, None, clock()

    @property
    def name(self) -> str:
        """The op that was recorded."""
        return self.plan.name


class Output:
    """One output of a node that has several: it collects that output's gradient for the node."""

    __slots__ = ("__weakref__", "dtype", "edges", "hooks", "index", "shape", "time")

    def __init__(self, node: Node, index: int, like: Array) -> None:
        self.edges, self.index, self.hooks, self.time = (node,), index, None, clock()
        self.shape, self.dtype = like.shape, like.dtype


# --- the walk back --------------------------------------------------------------------------------


@kernel("reduce")
def axis_sum(x: Array, axes: tuple[int, ...], dtype: np.dtype | None) -> Array:
    """The sum over axes, in a dtype or, for None, in the one that sums are taken in."""
    y = x.sum(axes, dtype=np.float32 if x.dtype.itemsize == 2 else None)
    return y if dtype is None or y.dtype == dtype else y.astype(dtype)


def fit(g: Array, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    """The gradient g as one of an input of this shape and dtype: summed over what the op broadcast, spread over what the
    rule left at size one, cast. The one place where rules' broadcasting and dtypes are settled.
    """
    if g.shape != shape:
        extra = g.ndim - len(shape)
        axes = (*range(extra), *(i + extra for i, n in enumerate(shape) if n == 1 and g.shape[i + extra] != 1))
        if axes:
            kept = [1 if i in axes else n for i, n in enumerate(g.shape)][extra:]
            g = axis_sum(g, axes, dtype if g.dtype == dtype else None).reshape(kept)
        if g.shape != shape:
            g = namespace(g).broadcast_to(g, shape)
    if g.dtype != dtype:
        g = (g.real if g.dtype.kind == "c" and dtype.kind != "c" else g).astype(dtype)
    return g


def fit_traced(g: Any, shape: tuple[int, ...], dtype: np.dtype) -> Any:
    """fit with recorded ops, for a gradient that is itself differentiated; ops/shape.py puts its function here."""
    raise NotImplementedError("fit_traced: gradflow.ops.shape has not been imported")


def plus(a: Any, b: Any) -> Any:
    """The sum of two gradients by our own op, which unlike CuPy's keeps the order in which they lie; ops/shape.py puts it here."""
    raise NotImplementedError("plus: gradflow.ops.shape has not been imported")


class FreedError(RuntimeError):
    """A second walk through a record whose saved values the first walk freed."""


class StaleError(RuntimeError):
    """A saved value was written in place after it was recorded."""


def _check_marks(node: Node) -> None:
    for version, value in zip(node.marks, node.plan.marked(node.saved), strict=True):
        if version and version[-1] > node.time:
            raise StaleError(
                f"{node.name}: a value of shape {value.shape} that its gradient needs was written in place: "
                f"it was saved at version {version.number_at(node.time)} and is now at version {version.number}"
            )


def reached(roots: Iterable[Any]) -> set[Any]:
    """All nodes that the roots follow from, themselves among them."""
    seen, stack = set(roots), list(roots)
    while stack:
        for edge in getattr(stack.pop(), "edges", ()):
            if edge not in seen:
                seen.add(edge)
                stack.append(edge)
    return seen


def needed(roots: Iterable[Any], wanted: set[Any]) -> set[Any]:
    """The nodes on a way from the roots to one of `wanted`."""
    seen = reached(roots)
    found = seen & wanted
    for node in sorted(seen - wanted, key=lambda n: n.time):
        if any(edge in found for edge in getattr(node, "edges", ())):
            found.add(node)
    return found


def backward(
    roots: Iterable[tuple[Any, Any]], retain: bool = False, create: bool = False, wanted: Iterable[Any] | None = None
) -> dict[Any, Any]:
    """Walk back from `roots`, (node, gradient) pairs, and return the gradients that arrived at leaves.

    retain  keep the saved values for another walk
    create  gradients are Traced, and the walk itself is recorded
    wanted  the nodes whose gradients are asked for; only ways to them are walked, and their gradients are returned
    """
    settle = fit_traced if create else fit
    pending: dict[Any, Any] = {}  # gradient so far, by node
    owned: set[Any] = set()  # nodes whose pending gradient is a sum made here, which may be added to in place
    heap: list[tuple[int, Any]] = []
    arrived: dict[Any, Any] = {}
    ends: set[Any] = set() if wanted is None else set(wanted)
    roots = list(roots)
    ways = None if wanted is None else needed([node for node, _ in roots], ends)

    targets: Iterable[Any] = [node for node, _ in roots]
    gradients: Iterable[Any] = [g for _, g in roots]
    while True:
        # Hand each gradient to its target.
        for target, g in zip(targets, gradients):  # noqa: B905 (a plan gives one gradient for each edge; this is hot)
            if g is None or (ways is not None and target not in ways):
                continue
            if g.dtype is not target.dtype or g.shape != target.shape:
                g = settle(g, target.shape, target.dtype)
            have = pending.get(target)
            if have is None:
                pending[target] = g
                if target.time:
                    heappush(heap, (-target.time, target))
            elif target in owned:
                have += g
                pending[target] = have  # 0-d NumPy sums are scalars, which += rebinds
            else:
                pending[target] = have + g if type(have) is np.ndarray else plus(have, g)
                if not create:
                    owned.add(target)
        if not heap:
            break
        # Take the newest node: all that depends on it has been walked.
        targets = gradients = ()
        node = heappop(heap)[1]
        g = pending.pop(node)
        if node.hooks is not None:
            for hook in tuple(node.hooks.values()):
                g = hook(g, create)
        if ways is not None and node in ends:
            arrived[node] = g
            if not any(edge in ways for edge in node.edges):
                continue
        if type(node) is Output:  # hand the gradient to the node of all the outputs
            whole = node.edges[0]
            slots = pending.get(whole)
            if slots is None:
                slots = pending[whole] = [None] * len(whole.shape)
                heappush(heap, (-whole.time, whole))
            # an output that was revived for a recorded backward has an Output of its own beside the first one's
            have = slots[node.index]
            slots[node.index] = g if have is None else have + g if type(have) is np.ndarray else plus(have, g)
            continue
        plan, saved = node.plan, node.saved
        if saved is None:
            raise FreedError(
                f"{plan.name}: backward a second time through a graph whose saved values were freed by the first; "
                "pass retain_graph=True to the first"
            )
        for version in node.marks:
            if version:
                _check_marks(node)
        if saved and not retain:
            node.saved = None
        if type(g) is list:
            g = plan.whole(g, node, create)
        if create:
            saved = plan.revive(node, saved)
        pull = plan.pull if ways is None else plan.pull_to(tuple([edge in ways for edge in node.edges]))
        targets, gradients = node.edges, pull(g, saved)
    for leaf in [n for n in pending if type(n) is Leaf]:
        g = pending[leaf]
        if leaf.hooks is not None:
            for hook in tuple(leaf.hooks.values()):
                g = hook(g, create)
        arrived[leaf] = g
    return arrived
