"""The order of a card array's elements in memory: C order, or channels last, whose channels are neighbours."""

from __future__ import annotations

from functools import cache
from typing import Any

from ..backend import Array, need_card


@cache
def axes(ndim: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The transposition of (n, c, *sizes) to (n, *sizes, c), and the one back."""
    return (0, *range(2, ndim), 1), (0, ndim - 1, *range(1, ndim - 1))


def channels_last(x: Array) -> bool:
    """Whether x, of shape (n, c, *sizes), lies as (n, *sizes, c) without gaps. False where C order fits as well, as for
    one channel or planes of one value, and where x is empty.
    """
    if x.flags.c_contiguous or not 3 <= x.ndim <= 5:
        return False
    return bool(x.transpose(axes(x.ndim)[0]).flags.c_contiguous)


def empty(shape: tuple[int, ...], dtype: Any, last: bool) -> Array:
    """A new card array of a shape (n, c, *sizes), in C order or with its channels last."""
    array = need_card("empty").ndarray
    if not last:
        return array(shape, dtype)
    there, back = axes(len(shape))
    return array(tuple(shape[i] for i in there), dtype).transpose(back)


def rows(x: Array) -> Array:
    """The memory of a channels-last x as (n, *sizes, c): a view in C order."""
    return x.transpose(axes(x.ndim)[0])
