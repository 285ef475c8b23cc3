"""The order of an array's elements in memory: C order, channels last, or any other order of its dimensions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from math import prod
from typing import Any

import numpy as np

from ..backend import Array, is_array, on_card

Axes = tuple[int, ...]


@cache
def axes(ndim: int) -> tuple[Axes, Axes]:
    """The transposition of (n, c, *sizes) to (n, *sizes, c), and the one back."""
    return (0, *range(2, ndim), 1), (0, ndim - 1, *range(1, ndim - 1))


def channels_last(x: Array) -> bool:
    """Whether x, of shape (n, c, *sizes), lies as (n, *sizes, c) without gaps. False where C order fits as well, as for
    one channel or planes of one value, and where x is empty.
    """
    if x.flags.c_contiguous or not 3 <= x.ndim <= 5:
        return False
    return bool(x.transpose(axes(x.ndim)[0]).flags.c_contiguous)


def last_of(shape: Axes, strides: Axes, sizes: int) -> bool:
    """Whether an array of shape (n, c, *sizes), of so many sizes, lies as (n, *sizes, c), it may be with gaps. False where C
    order fits as well, as for one channel or planes of one value.
    """
    if len(shape) != sizes + 2 or shape[1] < 2 or prod(shape[2:]) < 2:
        return False
    least = 1
    for i in (1, *range(sizes + 1, 1, -1), 0):
        if shape[i] > 1:
            if strides[i] < least:
                return False
            least = strides[i] * shape[i]
    return True


def rows(x: Array) -> Array:
    """x, of shape (n, c, *sizes), seen as (n, *sizes, c)."""
    return x.transpose(axes(x.ndim)[0])


def planes(x: Array) -> Array:
    """x, of shape (n, *sizes, c), seen as (n, c, *sizes)."""
    return x.transpose(axes(x.ndim)[1])


@lru_cache(1024)
def order(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[Axes, Axes] | None:
    """The transposition of an array that puts the elements farthest apart first, and the one back: None where they are so
    already. Dimensions of size one stay where they are.
    """
    long = [i for i, n in enumerate(shape) if n > 1]
    by_stride = sorted(long, key=lambda i: -abs(strides[i]))
    if by_stride == long:
        return None
    there = list(range(len(shape)))
    for at, i in zip(long, by_stride, strict=True):
        there[at] = i
    back = sorted(range(len(there)), key=there.__getitem__)
    return tuple(there), tuple(back)


def order_of(x: Array) -> tuple[Axes, Axes] | None:
    """The order of x as `order` says it; None for C order, and where elements repeat, which leaves it open."""
    return None if x.flags.c_contiguous or 0 in x.strides else order(x.shape, x.strides)


def alike(x: Array, make: Callable[[Axes], Array], shape: Axes | None = None) -> Array:
    """An array of a shape, x's unless given, that lies as x does, from `make`, which is given a size and makes it in C order."""
    return made(make, x.shape if shape is None else shape, order_of(x))


def made(make: Callable[[Axes], Array], shape: Axes, found: tuple[Axes, Axes] | None) -> Array:
    """An array of a shape that lies in an order, of None C order, from `make`, as alike() has it."""
    return make(shape) if found is None else make(tuple(shape[i] for i in found[0])).transpose(found[1])


def turned(x: Array, there: Axes) -> Array:
    """x with its dimensions in another order, after ones of size one where it has fewer."""
    return x[(None,) * (len(there) - x.ndim)].transpose(there)


def through(found: tuple[Axes, Axes] | None, f: Callable[..., Array], *args: Any) -> Array:
    """f(*args), with the dimensions of all arrays in another order, of None as they are, and those of the result turned back."""
    if found is None:
        return f(*args)
    there, back = found
    return f(*(turned(a, there) if is_array(a) else a for a in args)).transpose(back)


def common(arrays: Sequence[Array]) -> tuple[Axes, Axes] | None:
    """The order of the first array of the shape they broadcast to that nothing repeats in, which an elementwise result takes
    as in PyTorch; None for C order.
    """
    shape = arrays[0].shape if len(arrays) == 1 else np.broadcast_shapes(*[a.shape for a in arrays])
    return next((order_of(a) for a in arrays if a.shape == shape and 0 not in a.strides), None)


def kept(f: Callable[..., Array], *args: Any) -> Array:
    """f(*args), an elementwise function of which CuPy's gives C order, in the order that its arrays have in common."""
    return through(common([a for a in args if on_card(a)]), f, *args)


def in_order(pull: Callable[[Any, tuple], tuple], g: Any, saved: tuple) -> tuple:
    """pull(g, saved), the gradients of an elementwise op, as if the dimensions stood in the order in which g lies: rules are
    written with operators, and CuPy's give C order.
    """
    found = order_of(g) if on_card(g) else None
    if found is None:
        return pull(g, saved)
    there, back = found
    found_there = pull(g.transpose(there), tuple(turned(v, there) if on_card(v) else v for v in saved))
    return tuple(d if d is None or d.ndim != len(there) else d.transpose(back) for d in found_there)


def copied(x: Array, like: Array) -> Array:
    """A copy of x, without gaps, that lies as another array of its shape does."""
    return through(order_of(like), lambda a: a.copy(order="C"), x)
