"""Batched tensors: what a function that vmap maps sees, one sample's shape before a tensor that holds all samples.

A Batched tensor holds a `value`, an ordinary tensor whose first dimensions are those of the vmaps it is inside of
(`levels`, the outermost first); its own shape is that of the rest. Its `array` is a Face, which knows shape and dtype and
refuses to give values. What is done with it is done to the value, by an op whose dimensions are moved accordingly
(dispatch.py), so the tape only ever records ordinary tensors: gradients need no second set of rules.
"""

from __future__ import annotations

import threading
from typing import Any

from .. import call, traced
from ..backend import is_array
from ..ops import shape as shapes
from ..tape import Traced
from ..tensor import Tensor
from .face import Face


class Level:
    """One vmap under way: how many samples, what random numbers mean, how deep it is inside others, whether it is over."""

    __slots__ = ("depth", "over", "randomness", "size")

    def __init__(self, size: int, randomness: str, depth: int) -> None:
        self.size, self.randomness, self.depth, self.over = size, randomness, depth, False


class _Stack(threading.local):
    def __init__(self) -> None:
        self.levels: list[Level] = []


stack = _Stack()  # the vmaps under way in this thread, the outermost first


class inside:
    """The context in which a function is mapped: a new Level."""

    def __init__(self, size: int, randomness: str) -> None:
        self.level = Level(size, randomness, len(stack.levels))

    def __enter__(self) -> Level:
        self.level.depth = len(stack.levels)
        stack.levels.append(self.level)
        call.batching.append(self.level)
        return self.level

    def __exit__(self, *exc: object) -> None:
        stack.levels.pop()
        call.batching.remove(self.level)
        self.level.over = True


class Batched(Tensor):
    """A tensor of one sample's shape that stands for all samples; see the head of this file."""

    value: Tensor
    levels: tuple[Level, ...]
    source = None

    @property
    def array(self) -> Any:  # type: ignore[override]
        """Its shape and dtype, without values."""
        return Face(self)

    @array.setter
    def array(self, face: Any) -> None:  # what is written x.array += 1 writes in place
        self._write("array", face.owner)

    @property
    def node(self) -> Any:  # type: ignore[override]
        """The place on the tape of the tensor of all samples."""
        return traced.current(self.value)

    @node.setter
    def node(self, node: Any) -> None:
        self.value.node = node

    @property
    def version(self) -> Any:  # type: ignore[override]
        """How often the memory of all samples was written."""
        return self.value.version

    @property
    def device(self) -> Any:
        """Where the samples live."""
        return self.value.device

    @property
    def is_cuda(self) -> bool:
        """Whether the samples are on the card."""
        return self.value.is_cuda

    @property  # type: ignore[misc]
    def data(self) -> Any:  # type: ignore[override]
        """The same memory, no place on the tape."""
        return batch(self.value.data, self.levels)

    def detach(self) -> Any:
        """The same memory, no place on the tape."""
        return batch(self.value.detach(), self.levels)

    def detach_(self) -> Any:
        """Forget the place on the tape."""
        self.value.detach_()
        return self

    def requires_grad_(self, requires_grad: bool = True) -> Any:
        """RuntimeError: inside a mapped function gradients come from func.grad and its like."""
        raise RuntimeError(
            "requires_grad_: called on a batched tensor inside vmap; take gradients by func.grad or func.vjp"
        )

    def backward(self, *args: Any, **kwargs: Any) -> None:
        """RuntimeError: inside a mapped function gradients come from func.grad and its like."""
        raise RuntimeError("backward: called on a batched tensor inside vmap; take gradients by func.grad or func.vjp")

    def register_hook(self, hook: Any) -> Any:
        """Call hook(gradient of one sample's shape) when the gradient is known."""
        levels = self.levels

        def whole(g: Any) -> Any:
            y = hook(batch(g, levels))
            return y.value if type(y) is Batched else y

        return self.value.register_hook(whole)

    def is_contiguous(self, *args: Any, **kwargs: Any) -> bool:
        """Whether the samples lie in memory without gaps."""
        return self.value.is_contiguous()

    def view(self, *sizes: Any, **named: Any) -> Any:
        """Its elements in another shape."""
        if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
            sizes = tuple(sizes[0])
        if len(sizes) == 1 and not hasattr(sizes[0], "__index__"):
            return batch(self.value.view(sizes[0]), self.levels)
        return shapes.reshape(self, sizes)

    def view_as(self, other: Any) -> Any:
        """Its elements in the shape of `other`."""
        return shapes.reshape(self, other.array.shape)

    def __repr__(self) -> str:
        return f"Batched({self.value!r}, depth={[level.depth for level in self.levels]})"

    __str__ = __repr__

    # --- writing ------------------------------------------------------------------------------------

    def _draw(self, name: str, how: Any, *args: Any) -> Any:
        def draw(x: Any) -> Any:
            return traced.wrap(how(x.array, *args))

        return self._write(name, call.drawn(draw)(self.detach()))

    def _alias(self, value: Any) -> Any:
        return shapes.clone(value) if type(value) is Batched else super()._alias(value)

    def _write(self, name: str, value: Any, where: Any = None) -> Any:
        """Write one sample's value, or each sample's own, into self."""
        extra = [v for v in levels_of(value) if v not in self.levels]
        for i in where or ():
            extra += [v for v in levels_of(i) if v not in self.levels]
        if extra:
            raise RuntimeError(
                f"{name}: wanted a tensor batched by vmap as the values that are written into it are; clone() and "
                "expand() it, or do not write in place"
            )
        if where is not None:
            from ..ops import index

            value, where = index.index_put(self, where, value), None
        if isinstance(value, Traced):
            value = explicit(value, self.levels)
            lead, rank = len(self.levels), self.value.ndim
            if value.ndim < rank:
                s = tuple(value.shape)
                value = shapes.reshape(value, (*s[:lead], *(1,) * (rank - value.ndim), *s[lead:]))
        self.value._write(name, value)
        return self


def batch(value: Any, levels: tuple[Level, ...]) -> Any:
    """The tensor that stands for the samples in `value`, whose first dimensions are those of `levels`."""
    if not levels:
        return value
    t = Batched.__new__(Batched)
    t.value, t.levels = value, levels
    return t


def levels_of(x: Any) -> tuple[Level, ...]:
    """The vmaps that x is batched by."""
    return x.levels if type(x) is Batched else x.owner.levels if type(x) is Face else ()


def value_of(x: Any) -> Any:
    """The ordinary tensor behind x."""
    return x.value if type(x) is Batched else x.owner.value if type(x) is Face else x


def newest(x: Any) -> Level | None:
    """The innermost vmap that something among x (nested in tuples, lists and dicts) is batched by."""
    if type(x) is Batched:
        return x.levels[-1]
    if type(x) is Face:
        return x.owner.levels[-1]
    best = None
    if isinstance(x, (tuple, list, dict)):
        for v in x.values() if isinstance(x, dict) else x:
            level = newest(v)
            if level is not None and (best is None or level.depth > best.depth):
                best = level
    return best


def peel(x: Any, level: Level) -> Any:
    """x as a tensor in which the samples of `level`, the innermost, are the first dimension; x itself if it has none."""
    if type(x) is Face:
        x = x.owner.detach()  # a bare array is not tracked, nor is its face
    if type(x) is Batched and x.levels[-1] is level:
        return batch(x.value, x.levels[:-1])
    return x


def cover(x: Any, level: Level) -> Any:
    """The tensor of one sample's shape that stands for the first dimension of x as the samples of `level`."""
    if type(x) is Batched:
        return batch(x.value, (*x.levels, level))
    return batch(x, (level,))


def explicit(x: Any, levels: tuple[Level, ...]) -> Any:
    """x with the dimensions of `levels` in front of its own as ordinary dimensions, of size one where x has none."""
    have, value = levels_of(x), value_of(x)
    if have == levels:
        return value
    others = tuple(v for v in have if v not in levels)
    mine = [v for v in levels if v in have]
    k = len(have)
    order = [have.index(v) for v in (*others, *mine)] + list(range(k, value.ndim))
    if order != list(range(value.ndim)):
        value = shapes.permute(value, order)
    sizes = tuple(value.shape)
    ones = [v.size if v in have else 1 for v in levels]
    if len(mine) != len(levels):
        value = shapes.reshape(value, (*sizes[: len(others)], *ones, *sizes[k:]))
    return batch(value, others)


def implicit(x: Any, levels: tuple[Level, ...]) -> Any:
    """x, whose first dimensions are those of `levels`, with them as samples: what explicit undoes."""
    have, value = levels_of(x), value_of(x)
    if not levels:
        return x
    both = sorted((*have, *levels), key=lambda v: v.depth)
    now = (*have, *levels)
    order = [now.index(v) for v in both] + list(range(len(now), value.ndim))
    if order != list(range(value.ndim)):
        value = shapes.permute(value, order)
    return batch(value, tuple(both))


def lift(x: Any) -> Any:
    """x batched by all vmaps under way in this thread, expanded where it was not."""
    levels = tuple(stack.levels)
    if not levels or levels_of(x) == levels:
        return x
    value = explicit(x, levels)
    return batch(shapes.expand(value, (*(v.size for v in levels), *value.shape[len(levels) :])), levels)


def is_value(x: Any) -> bool:
    """Whether x is a tensor, an array or the face of one."""
    return isinstance(x, Traced) or type(x) is Face or is_array(x)
