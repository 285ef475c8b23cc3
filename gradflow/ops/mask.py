"""By mask: elements filled, chosen and written where a condition holds, and the places where it does."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backend import int64, is_array, namespace
from ..call import sampled
from ..cases import case
from ..dtypes import wrapped
from ..op import op, unwrap
from . import pointwise, shape
from .dims import other_words
from .gather import is_tensor
from .index import index_get, index_put


def _mask(name: str, mask: Any) -> Any:
    m = unwrap(mask)
    if not (is_array(m) or is_tensor(mask)) or m.dtype.kind != "b":
        raise RuntimeError(f"{name}: wanted a mask of bool, saw {getattr(m, 'dtype', type(m).__name__)}")
    return m


@other_words
def masked_fill(x: Any, mask: Any, value: Any) -> Any:
    """A copy of x with value, a number or 0-d tensor, where mask is true; they broadcast."""
    if is_tensor(value) and value.ndim:
        raise RuntimeError(f"masked_fill: wanted a number or a 0-d tensor, saw shape {tuple(value.shape)}")
    if not is_tensor(value):
        a = unwrap(x)
        if isinstance(value, complex) and a.dtype.kind != "c":
            raise RuntimeError(f"masked_fill: wanted a value that fits into {a.dtype}, saw {value}")
        value = shape.filled(x, (), wrapped(value, a.dtype) if type(value) is int and a.dtype.kind in "iu" else value)
    elif value.dtype != x.dtype:
        if value.dtype.kind == "c" and x.dtype.kind not in "cb":
            raise RuntimeError(f"masked_fill: wanted a value that fits into {x.dtype}, saw one of {value.dtype}")
        value = pointwise.cast(value, x.dtype)
    return pointwise.where(_mask("masked_fill", mask), value, x)


@other_words
def fill(x: Any, value: Any) -> Any:
    """A tensor like x with value, a number or a 0-d tensor, everywhere. RuntimeError for other values."""
    if is_tensor(value) and value.ndim:
        raise RuntimeError(f"fill: wanted a number or a 0-d tensor, saw shape {tuple(value.shape)}")
    a = unwrap(x)
    if (value.dtype.kind if is_tensor(value) else type(value) is complex and "c") == "c" != a.dtype.kind:
        raise RuntimeError(f"fill: wanted a value that fits into {a.dtype}, saw {value}")
    if type(value) is int and a.dtype.kind in "iu":
        value = wrapped(value, a.dtype)
    return index_put(x, (...,), value)


@other_words
def where(condition: Any, input: Any = None, other: Any = None) -> Any:
    """input where the condition is true, else other; alone, the places where it is: nonzero with as_tuple.
    RuntimeError for a condition that is not of bools (or of PyTorch's old uint8).
    """
    if input is None and other is None:
        return nonzero(condition, as_tuple=True)
    if getattr(condition, "dtype", np.dtype(bool)) not in (bool, np.uint8):
        raise RuntimeError(f"where: wanted a condition of bool, saw {condition.dtype}")
    return pointwise.where(condition, input, other)


@other_words
def masked_select(x: Any, mask: Any) -> Any:
    """The elements of x where mask is true, as a vector; they broadcast."""
    x, mask = shape.broadcast_tensors(x, _mask("masked_select", mask))
    return index_get(x, (mask,)) if mask.ndim else shape.reshape(index_get(x, (mask,)), (-1,))


@other_words
@sampled("mask")
def masked_scatter(x: Any, mask: Any, source: Any) -> Any:
    """A copy of x whose elements where mask is true are those of source, one after the other.
    RuntimeError if source has too few.
    """
    if source.dtype != x.dtype:
        raise RuntimeError(f"masked_scatter: wanted a source of x's dtype {x.dtype}, saw {source.dtype}")
    x, mask = shape.broadcast_tensors(x, _mask("masked_scatter", mask))
    n, has = int(mask.sum()), math.prod(source.shape)
    if has < n:
        raise RuntimeError(f"masked_scatter: wanted a source of {n} elements or more, saw {has}")
    return index_put(x, (mask,), shape.reshape(source, (-1,))[:n])


# --- where it holds -------------------------------------------------------------------------------------


@op(
    name="argwhere",
    cases=lambda r: [case(r.integers(0, 2, 3, 4)), case(r.mask(5)), case(r(0, 3)), case(r()), case(np.zeros(()))],
)
def argwhere(x):
    """The places of the nonzero elements of x, one row of coordinates each, in order: (k, x.ndim) int64."""
    if x.ndim == 0:
        return namespace(x).zeros((int(x != 0), 0), int64)
    return namespace(x).stack(x.nonzero(), 1).astype(int64, copy=False)


@other_words
def nonzero(x: Any, *, as_tuple: bool = False) -> Any:
    """The places of the nonzero elements, one row each; as_tuple gives a vector for each dimension instead."""
    y = argwhere(x if x.ndim or not as_tuple else shape.reshape(x, (1,)))
    return shape.unbind(y, 1) if as_tuple else y
