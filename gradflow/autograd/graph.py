"""The recorded graph as people see it: nodes with names and hooks, edges, and what becomes of saved tensors."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Self
from weakref import WeakKeyDictionary

import numpy as np

from .. import call, op, tape
from ..backend import on_card
from ..op import current, wrap
from ..tape import Leaf, Node, Output, Traced
from ..tensor import RemovableHandle
from . import function, gradient

__all__ = [
    "GradientEdge", "Node", "allow_mutation_on_saved_tensors", "disable_saved_tensors_hooks", "get_gradient_edge",
    "increment_version", "register_multi_grad_hook", "save_on_cpu", "saved_tensors_hooks",
]  # fmt: skip


# --- plans with something around them ---------------------------------------------------------------------


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


def _name(self: Node) -> Name:
    """The op that was recorded."""
    name = Name(self.plan.name)
    name.node = self
    return name


# The tape itself needs none of this.
for _attribute, _value in {
    "name": property(_name), "next_functions": property(_next_functions), "metadata": property(_node_metadata),
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
    seen, stack = set(roots), list(roots)
    while stack:
        for edge in getattr(stack.pop(), "edges", ()):
            if edge not in seen:
                seen.add(edge)
                stack.append(edge)
    walking.token, walking.reached = object(), seen if wanted is None else tape._needed(roots, set(wanted))
    try:
        yield
    finally:
        walking.token, walking.reached = before


# --- what becomes of saved tensors ------------------------------------------------------------------------


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
