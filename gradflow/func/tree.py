"""Nested containers of tensors: what is inside a tuple, list or dict, and putting it back."""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any


class Spec:
    """How a container is built: its kind, what it needs to be made anew, and the Specs inside; kind None for a leaf."""

    __slots__ = ("context", "inside", "kind")

    def __init__(self, kind: Any = None, context: Any = None, inside: tuple[Spec, ...] = ()) -> None:
        self.kind, self.context, self.inside = kind, context, inside

    @property
    def count(self) -> int:
        """How many leaves there are."""
        return 1 if self.kind is None else sum(s.count for s in self.inside)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Spec)
            and (self.kind, self.context, self.inside) == (other.kind, other.context, other.inside)
        )  # fmt: skip

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "*" if self.kind is None else f"{self.kind.__name__}({', '.join(map(repr, self.inside))})"


LEAF = Spec()


def parts(x: Any) -> tuple[list[Any], Any] | None:
    """(parts, context) of a container, None for a leaf."""
    kind = type(x)
    if kind in (tuple, list) or (isinstance(x, tuple) and hasattr(x, "_fields")):
        return list(x), None
    if kind is deque:
        return list(x), x.maxlen
    if kind in (dict, OrderedDict):
        return list(x.values()), list(x)
    if kind is defaultdict:
        return list(x.values()), (x.default_factory, list(x))
    if kind in _registered:
        found, context = _registered[kind][0](x)
        return list(found), context
    return None


_registered: dict[type, tuple[Callable, Callable]] = {}


def register(cls: type, flatten_fn: Callable[..., Any], unflatten_fn: Callable[..., Any], **options: Any) -> None:
    """Treat instances of cls as containers: flatten_fn(x) is (parts, context), unflatten_fn(parts, context) is x again."""
    _registered[cls] = flatten_fn, unflatten_fn


def flatten(x: Any) -> tuple[list[Any], Spec]:
    """The leaves of nested containers, in order, and how to put them back."""
    found = parts(x)
    if found is None:
        return [x], LEAF
    leaves: list[Any] = []
    inside = []
    for part in found[0]:
        more, spec = flatten(part)
        leaves += more
        inside.append(spec)
    return leaves, Spec(type(x), found[1], tuple(inside))


def unflatten(leaves: list[Any], spec: Spec) -> Any:
    """The containers of `spec` around the leaves."""
    return _build(spec, iter(leaves))


def _build(s: Spec, at: Any) -> Any:  # no closure that calls itself: its cycle would keep the leaves alive
    if s.kind is None:
        return next(at)
    inside = [_build(i, at) for i in s.inside]
    if s.kind in _registered:
        return _registered[s.kind][1](inside, s.context)
    if s.kind in (dict, OrderedDict):
        return s.kind(zip(s.context, inside, strict=True))
    if s.kind is defaultdict:
        return defaultdict(s.context[0], zip(s.context[1], inside, strict=True))
    if s.kind is deque:
        return deque(inside, s.context)
    return s.kind(*inside) if hasattr(s.kind, "_fields") else s.kind(inside)


def tree_map(function: Callable[[Any], Any], x: Any) -> Any:
    """The containers with `function` of each leaf."""
    leaves, spec = flatten(x)
    return unflatten([function(v) for v in leaves], spec)


def broadcast(x: Any, spec: Spec) -> list[Any] | None:
    """For each leaf of `spec` the leaf of x that stands at its place, or at that of a container around it; None if x has
    other containers.
    """
    found = parts(x) if not isinstance(x, int) else None
    if found is None:
        return [x] * spec.count
    if spec.kind is None or len(found[0]) != len(spec.inside):
        return None
    if not (type(x) is spec.kind or (type(x) in (tuple, list) and spec.kind in (tuple, list))):
        return None
    if type(x) in (dict, OrderedDict):
        if set(x) != set(spec.context):
            return None
        found = ([x[k] for k in spec.context], None)
    leaves: list[Any] = []
    for part, s in zip(found[0], spec.inside, strict=True):
        more = broadcast(part, s)
        if more is None:
            return None
        leaves += more
    return leaves
