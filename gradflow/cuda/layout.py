"""The order of a card array's elements in memory: C order, or channels last, whose channels are neighbours."""

from __future__ import annotations

from typing import Any

from ..backend import Array, need_card
from ..ops.layout import axes, channels_last, common, made, order_of, planes, rows, through

__all__ = ["channels_last", "common", "empty", "order_of", "planes", "rows", "straight", "through"]


def empty(shape: tuple[int, ...], dtype: Any, last: bool) -> Array:
    """A new card array of a shape (n, c, *sizes), in C order or with its channels last."""
    array = need_card("empty").ndarray
    return made(lambda size: array(size, dtype), shape, axes(len(shape)) if last else None)


def straight(x: Array) -> Array:
    """x with its dims in the order in which they lie: in C order, if it has no gaps."""
    found = order_of(x)
    return x if found is None else x.transpose(found[0])
