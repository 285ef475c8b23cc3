"""The recorded graph as people see it: nodes with names and hooks, and edges between them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Self
from weakref import WeakKeyDictionary

from .. import tape
from ..op import current, wrap
from ..tape import Leaf, Node, Output, Traced
from ..tensor import RemovableHandle
from . import gradient
from .saving import (
    Around,
    allow_mutation_on_saved_tensors,
    disable_saved_tensors_hooks,
    save_on_cpu,
    saved_tensors_hooks,
)

__all__ = [
    "GradientEdge", "Node", "allow_mutation_on_saved_tensors", "disable_saved_tensors_hooks", "get_gradient_edge",
    "increment_version", "register_multi_grad_hook", "save_on_cpu", "saved_tensors_hooks",
]  # fmt: skip


# --- what a node says of itself ---------------------------------------------------------------------------


class Name(str):  # noqa: SLOT000 (a str cannot have slots that hold something)
    """The op's name; called, as PyTorch's node.name() is, PyTorch's name for the node."""

    node: Any = None

    def __call__(self) -> str:
        from ..printing import gradient_name

        return str(self) if self.node is None else gradient_name(self.node)


class AccumulateGrad:
    """The end of the graph at a leaf: `variable` is the leaf."""

    __slots__ = ("leaf",)

    def __init__(self, leaf: Leaf) -> None:
        self.leaf = leaf

    next_functions: tuple = ()

    @property
    def name(self) -> Name:
        """Its name."""
        return Name("AccumulateGrad")

    @property
    def variable(self) -> Any:
        """The leaf; None if nobody has it any more."""
        return self.leaf.tensor()

    @property
    def metadata(self) -> dict:
        """A dict for whatever is to be kept with it."""
        return _metadata.setdefault(self.variable, {})

    def register_prehook(self, hook: Callable[[tuple], Any]) -> RemovableHandle:
        """Call hook((gradient,)) before it is added to grad; what it returns, if anything, takes its place."""
        return _hooked(self.leaf, lambda gs: hook(gs))

    def register_hook(self, hook: Callable[[tuple, tuple], Any]) -> RemovableHandle:
        """Call hook((), (gradient,)) when the gradient is there."""
        return _hooked(self.leaf, lambda gs: hook((), gs) and None)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AccumulateGrad) and other.leaf is self.leaf

    def __hash__(self) -> int:
        return hash(self.leaf)


_metadata: Any = WeakKeyDictionary()


def _public(place: Any) -> tuple[Any, int]:
    """(node, number of its output) of a place on the tape."""
    if place is None:
        return None, 0
    if type(place) is Leaf:
        return AccumulateGrad(place), 0
    return (place.edges[0], place.index) if type(place) is Output else (place, 0)


def _next_functions(self: Node) -> tuple:
    """(node, number of its output) of every tracked input."""
    return tuple(_public(edge) for edge in self.edges)


def _node_metadata(self: Node) -> dict:
    """A dict for whatever is to be kept with the node."""
    return _metadata.setdefault(self, {})


def _hooked(place: Any, hook: Callable[[tuple], Any]) -> RemovableHandle:
    def on_arrival(g: Any, create: bool) -> Any:
        whole = type(g) is list
        gs = tuple(v if v is None or isinstance(v, Traced) else wrap(v) for v in (g if whole else [g]))
        result = hook(gs)
        if result is None:
            return g
        result = result if isinstance(result, (tuple, list)) else (result,)
        found = [v if create or not isinstance(v, Traced) else v.array for v in result]
        return found if whole else found[0]

    if place.hooks is None:
        place.hooks = {}
    return RemovableHandle(place.hooks, on_arrival)


def _register_prehook(self: Node, hook: Callable[[tuple], Any]) -> RemovableHandle:
    """Call hook(gradients of the outputs) before the node's rules run; what it returns, if anything, takes their place."""
    return _hooked(self, hook)


class _Hooks(Around):
    """A plan whose results go through hooks."""

    def __init__(self, plan: Any, edges: tuple) -> None:
        super().__init__(plan)
        self.edges = edges
        self.hooks: dict[Any, Callable[..., Any]] = {}

    def after(self, found: tuple, g: Any) -> tuple:
        """The gradients that the hooks leave."""
        for hook in tuple(self.hooks.values()):
            traced = any(isinstance(v, Traced) for v in found)
            fit = tape.fit_traced if traced else tape.fit
            found = tuple(v if v is None else fit(v, e.shape, e.dtype) for v, e in zip(found, self.edges, strict=True))
            inside = tuple(v if v is None or isinstance(v, Traced) else wrap(v) for v in found)
            outside = tuple(
                v if v is None or isinstance(v, Traced) else wrap(v) for v in (g if type(g) is tuple else (g,))
            )
            result = hook(inside, outside)
            if result is not None:
                result = result if isinstance(result, (tuple, list)) else (result,)
                found = tuple(v if traced or not isinstance(v, Traced) else v.array for v in result)
        return found


def _register_hook(self: Node, hook: Callable[[tuple, tuple], Any]) -> RemovableHandle:
    """Call hook(gradients of the inputs, gradients of the outputs) when the node's rules have run; what it returns, if
    anything, takes the first's place.
    """
    plan: Any = self.plan
    while isinstance(plan, Around) and not isinstance(plan, _Hooks):
        plan = plan.plan
    if not isinstance(plan, _Hooks):
        plan = self.plan = _Hooks(self.plan, self.edges)
    return RemovableHandle(plan.hooks, hook)


def _repr(self: Node) -> str:
    return f"<{_name(self)()} object at {id(self):#x}>"


def _name(self: Node) -> Name:
    """The op that was recorded."""
    name = Name(self.plan.name)
    name.node = self
    return name


# The tape itself needs none of this.
for _attribute, _value in {
    "__repr__": _repr, "name": property(_name), "next_functions": property(_next_functions), "metadata": property(_node_metadata),
    "register_hook": _register_hook, "register_prehook": _register_prehook,
}.items():  # fmt: skip
    setattr(Node, _attribute, _value)


class GradientEdge(NamedTuple):
    """A place on the tape, to which grad and backward can be asked to go without the tensor itself."""

    node: Any
    output_nr: int
    ownership_token: Any = None

    @property
    def place(self) -> Any:
        """The tape's own word for it."""
        return self.ownership_token


def get_gradient_edge(tensor: Any) -> GradientEdge:
    """The place of a tensor on the tape. RuntimeError if it requires no gradient."""
    place = current(tensor)
    if place is None:
        raise RuntimeError("get_gradient_edge: wanted a tensor that requires a gradient, saw one that does not")
    return GradientEdge(*_public(place), ownership_token=place)


def increment_version(tensor: Any) -> None:
    """Say that a tensor, or each of several, was written in place by other means."""
    for t in (tensor,) if isinstance(tensor, Traced) else tuple(tensor):
        t.version.bump()


# --- hooks of several tensors -----------------------------------------------------------------------------


class _Several:
    """Handles that are removed together."""

    def __init__(self, handles: Sequence[RemovableHandle]) -> None:
        self.handles = tuple(handles)

    def remove(self) -> None:
        """Take the hooks away."""
        for h in self.handles:
            h.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


def register_multi_grad_hook(tensors: Iterable[Any], fn: Callable[[Any], Any], *, mode: str = "all") -> _Several:
    """Call fn with the list of all tensors' gradients when those that a backward reaches are known (None for the others),
    or, with mode "any", with the first that is known. ValueError for another mode.
    """
    tensors = tuple(tensors)
    if mode not in ("all", "any"):
        raise ValueError(f"register_multi_grad_hook: wanted mode 'all' or 'any', saw {mode!r}")
    state: dict[str, Any] = {"walk": None}

    def on(i: int) -> Callable[[Any], None]:
        def hook(g: Any) -> None:
            if state["walk"] is not walking.token:
                left = sum(current(t) in walking.reached for t in tensors)
                state.update(walk=walking.token, gradients=[None] * len(tensors), left=left)
                if mode == "any":
                    fn(g)
            state["gradients"][i] = g
            state["left"] -= 1
            if mode == "all" and not state["left"]:
                fn(state["gradients"])

        return hook

    if walk not in gradient.contexts:
        gradient.contexts.append(walk)
    return _Several([t.register_hook(on(i)) for i, t in enumerate(tensors)])


class _Walk(threading.local):
    token: Any = None
    reached: Any = frozenset()


walking = _Walk()


@contextmanager
def walk(roots: list[Any], wanted: Any = None) -> Iterator[None]:
    """The context of one backward from `roots`."""
    before = walking.token, walking.reached
    ways = tape.reached(roots) if wanted is None else tape.needed(roots, set(wanted))
    walking.token, walking.reached = object(), ways
    try:
        yield
    finally:
        walking.token, walking.reached = before
