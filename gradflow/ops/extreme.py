"""Extremes: the largest and smallest elements, and where they are."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..backend import int64, namespace
from ..cases import case
from ..op import op, unwrap
from . import gather, pointwise, reduce, shape
from .dims import dimension, dimensions, other_words
from .gather import is_tensor
from .reduce import restore
from .results import RETURNED, returned, shown


class Found(NamedTuple):
    """Values and where they were found."""

    values: Any
    indices: Any

    def __repr__(self) -> str:
        return shown(self, type(self).__name__)

    def __reduce__(self) -> Any:
        return found, (type(self).__name__, *self)


def found(name: str, values: Any, indices: Any) -> Found:
    """What the function of this name found: a tuple that prints as PyTorch's."""
    return RETURNED.get(name, Found)(values, indices)


RETURNED |= {
    n: type(n, (Found,), {"__slots__": ()})
    for n in ("max", "min", "sort", "topk", "kthvalue", "median", "nanmedian", "mode", "cummax", "cummin")
}


@returned("aminmax")
class Ends(NamedTuple):
    """The smallest and the largest value."""

    min: Any
    max: Any


def shared(g: Any, x: Any, y: Any, dim: Any, keepdim: bool) -> Any:
    """The gradient of an extreme value, in equal parts to all elements that have it."""
    y = restore(y, x.shape, dim, keepdim)
    same = pointwise.cast(pointwise.logical_or(x == y, pointwise.logical_and(x != x, y != y)), g.dtype)
    return restore(g, x.shape, dim, keepdim) / reduce.sum(same, dim, True) * same


def _cases(r: Any) -> list[case]:
    return [
        case(r.distinct(2, 3, 4)),
        case(r.distinct(2, 3, 4), dim=1),
        case(r.distinct(2, 3, 4), dim=(0, -1), keepdim=True),
        case(r.distinct(4, 3).T, dim=0),
        case(np.array([[1.0, 3, 3], [2, 2, 2]]), dim=1, grad=False),
        case(np.array([[1.0, np.nan, 3], [2, 2, 2]]), dim=1, grad=False),
        case(r.integers(0, 9, 3, 4), dim=1, grad=False),
        case(r()),
        case(r(0, 3), dim=1),
    ]


def _checked(name: str, x: Any, dim: Any) -> Any:
    """The dimensions as NumPy takes them. IndexError where there is nothing to take the extreme of."""
    over = dimensions(name, dim, x.ndim)
    if 0 in [x.shape[d] for d in over]:
        kind = RuntimeError if dim in (None, (), []) and name[:3] != "arg" else IndexError
        raise kind(f"{name}: wanted one element or more along dimensions {over}, saw shape {tuple(x.shape)}")
    return over


@op(real=True, dx=shared, cases=_cases)
def amax(x, dim=None, keepdim=False):
    """The largest elements over dim, NaN if one is; those that have it share its gradient.
    IndexError where there is no element.
    """
    return x.max(_checked("amax", x, dim), keepdims=keepdim)


@op(real=True, dx=shared, cases=_cases)
def amin(x, dim=None, keepdim=False):
    """The smallest elements over dim, NaN if one is; those that have it share its gradient.
    IndexError where there is no element.
    """
    return x.min(_checked("amin", x, dim), keepdims=keepdim)


@other_words
def aminmax(x: Any, *, dim: Any = None, keepdim: bool = False) -> tuple:
    """(smallest, largest) element over dim."""
    over = None if dim is None else dimension("aminmax", dim, x.ndim)
    _checked("aminmax", unwrap(x), over)
    return Ends(amin(x, over, keepdim), amax(x, over, keepdim))


# --- where they are -----------------------------------------------------------------------------------


def _place_cases(r: Any) -> list[case]:
    return [
        case(r.distinct(2, 3, 4), 1),
        case(r.distinct(2, 3, 4), -1, keepdim=True),
        case(r.distinct(4, 3).T, 0),
        case(np.array([[1.0, 3, 3], [2, 2, 2]]), 1, grad=False),
        case(np.array([[1.0, np.nan, 3], [2, 2, 2]]), 1, grad=False),
        case(r.integers(0, 9, 3, 4), 1, grad=False),
        case(r(), 0),
    ]


def _place(name: str, largest: bool, x: Any, dim: int | None, keepdim: bool) -> Any:
    if isinstance(dim, (tuple, list)):
        raise TypeError(f"{name}: wanted one dimension, saw {dim}")
    if x.dtype.kind == "b" and name[:3] == "arg":
        raise RuntimeError(f"{name}: wanted numbers, saw bools")
    over = _checked(name, x, dim)
    if dim is None:
        if not x.size:
            raise IndexError(f"{name}: wanted one element or more, saw shape {tuple(x.shape)}")
        y = x.reshape(-1).argmax() if largest else x.reshape(-1).argmin()
        return namespace(x).asarray(y, int64).reshape((1,) * x.ndim if keepdim else ())
    if x.ndim == 0:
        return namespace(x).zeros((), int64)
    y = x.argmax(over[0]) if largest else x.argmin(over[0])
    y = y.astype(int64, copy=False)
    return namespace(x).expand_dims(y, over[0]) if keepdim else y


@op(
    real=True, cases=lambda r: [*_place_cases(r), case(r.distinct(3, 4)), case(r.distinct(3, 4), None, True), case(r())]
)
def argmax(x, dim=None, keepdim=False):
    """Where along dim, or in x as a vector, the largest element is: the first of several, the first NaN if one is."""
    return _place("argmax", True, x, dim, keepdim)


@op(
    real=True, cases=lambda r: [*_place_cases(r), case(r.distinct(3, 4)), case(r.distinct(3, 4), None, True), case(r())]
)
def argmin(x, dim=None, keepdim=False):
    """Where along dim, or in x as a vector, the smallest element is: the first of several, the first NaN if one is."""
    return _place("argmin", False, x, dim, keepdim)


def chosen(g: Any, indices: Any, x_shape: Any, dim: int, keepdim: bool) -> Any:
    """The gradient of elements read at indices along dim, one for each slice."""
    if not x_shape:
        return g[0]
    size = reduce.kept(x_shape, dim)
    return gather.put_along(shape.reshape(g[0], size), dim, shape.reshape(indices, size), x_shape)


def read(x: Any, places: Any, dim: int) -> Any:
    """The elements at places, of size one along dim."""
    return namespace(x).take_along_axis(x, places, dim) if x.ndim else x.copy()


def _best(name: str, largest: bool, x: Any, dim: int, keepdim: bool) -> tuple:
    places = _place(name, largest, x, dim, True)
    values = read(x, places, dim)
    if keepdim or not x.ndim:
        return values, places
    d = dimension(name, dim, x.ndim)
    return values.squeeze(d), places.squeeze(d)


_best_rule = dict(
    real=True,
    dx=lambda g, indices, x_shape, dim, keepdim: chosen(g, indices, x_shape, dim, keepdim),
    outputs=("values", "indices"),
)


@op(name="max", cases=_place_cases, **_best_rule)
def largest(x, dim, keepdim=False):
    """(values, indices) of the largest element along dim, the first if several are; that one has the gradient."""
    return _best("max", True, x, dim, keepdim)


@op(name="min", cases=_place_cases, **_best_rule)
def smallest(x, dim, keepdim=False):
    """(values, indices) of the smallest element along dim, the first if several are; that one has the gradient."""
    return _best("min", False, x, dim, keepdim)


@other_words
def max(x: Any, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
    """The largest element; with dim, (values, indices) along it; with another tensor, the larger of the two."""
    if not is_tensor(x):
        raise TypeError(f"max: wanted a tensor, saw {type(x).__name__}")
    if other is not None or is_tensor(dim):
        return pointwise.maximum(x, dim if other is None else other)
    return amax(x) if dim is None else found("max", *largest(x, dim, keepdim))


@other_words
def min(x: Any, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
    """The smallest element; with dim, (values, indices) along it; with another tensor, the smaller of the two."""
    if not is_tensor(x):
        raise TypeError(f"min: wanted a tensor, saw {type(x).__name__}")
    if other is not None or is_tensor(dim):
        return pointwise.minimum(x, dim if other is None else other)
    return amin(x) if dim is None else found("min", *smallest(x, dim, keepdim))
