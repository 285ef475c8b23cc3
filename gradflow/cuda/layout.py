"""The order of a card array's elements in memory: C order, or channels last, whose channels are neighbours."""

from __future__ import annotations

from typing import Any

from ..backend import Array, need_card
from ..ops.layout import axes, channels_last, order_of, planes, rows

__all__ = ["axes", "channels_last", "empty", "order_of", "planes", "rows"]


def empty(shape: tuple[int, ...], dtype: Any, last: bool) -> Array:
    """A new card array of a shape (n, c, *sizes), in C order or with its channels last."""
    array = need_card("empty").ndarray
    if not last:
        return array(shape, dtype)
    return planes(array(tuple(shape[i] for i in axes(len(shape))[0]), dtype))
