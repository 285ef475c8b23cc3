"""Indexing: reading and writing elements chosen by position, by an array of positions, or by a mask."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from ..backend import device_of, int64, is_array, namespace, on_card
from ..cases import case
from ..op import op, unwrap
from ..tape import Traced
from . import shape
from .reduce import wide

FULL = slice(None)

# --- what the user wrote between the brackets -------------------------------------------------------


def prepare(where: Any, array: Any) -> tuple[tuple | None, tuple | None]:
    """An index of `array` as (basic, advanced): first slice_ by ints, slices and None, then index_get by arrays.

    Either is None where there is nothing of its kind; both are normalised: ints checked, Ellipsis filled in, lists and
    tensors made arrays on the array's device. Ints come first, as in PyTorch, where NumPy counts them as arrays.
    IndexError out of range or for too many indices or a mask of the wrong shape, ValueError for a negative step.
    """
    items = list(where) if type(where) is tuple else [where]
    items = [_item(i, array) for i in items]
    used = sum(i.ndim if _is_mask(i) else i is not None and i is not Ellipsis for i in items)
    dots = sum(i is Ellipsis for i in items)
    if used > array.ndim:
        raise IndexError(f"getitem: wanted at most {array.ndim} indices, saw {used}")
    if dots > 1:
        raise IndexError(f"getitem: wanted at most one Ellipsis, saw {dots}")
    at = next((k for k, i in enumerate(items) if i is Ellipsis), len(items))
    items[at : at + 1] = [FULL] * (array.ndim - used)
    basic: list[Any] = []
    advanced: list[Any] = []
    plain = True
    d = 0  # the dimension of `array` that the next index takes
    for i in items:
        if i is None:
            basic.append(None)
            advanced.append(FULL)
            plain = False
        elif type(i) is int:
            n = array.shape[d]
            if not -n <= i < n:
                raise IndexError(f"getitem: index {i} is out of bounds for dimension {d} with size {n}")
            basic.append(i)
            plain = False
            d += 1
        elif type(i) is slice:
            basic.append(i)
            advanced.append(FULL)
            plain = plain and i == FULL
            d += 1
        else:
            if _is_mask(i) and i.shape != array.shape[d : d + i.ndim]:
                raise IndexError(
                    f"getitem: wanted a mask of shape {array.shape[d : d + i.ndim]} at dimension {d}, saw {i.shape}"
                )
            taken = i.ndim if _is_mask(i) else 1
            basic.extend([FULL] * taken)
            advanced.append(i)
            d += taken
    while advanced and advanced[-1] is FULL:
        advanced.pop()
    # The Ellipsis makes NumPy give a 0-d array, which is a view, and not a scalar, which is not.
    return (None if plain and advanced else (*basic, ...)), tuple(advanced) or None


def _is_mask(i: Any) -> bool:
    return is_array(i) and i.dtype.kind == "b"


def _item(i: Any, array: Any) -> Any:
    """One index: an int, a slice, None, Ellipsis, or an array of int64 or bool on the array's device."""
    if i is None or i is Ellipsis or type(i) is int:
        return i
    if type(i) is slice:
        parts = [None if v is None else operator.index(v) for v in (i.start, i.stop, i.step)]
        if parts[2] is not None and parts[2] <= 0:
            raise ValueError(f"getitem: wanted a slice with a step above zero, saw {parts[2]}")
        return slice(*parts)
    if isinstance(i, Traced):
        i = i.array
    elif isinstance(i, range):
        i = np.arange(i.start, i.stop, i.step)
    elif isinstance(i, (list, tuple)):
        i = np.asarray([unwrap(v) for v in i]) if len(i) else np.zeros(0, int64)
    elif isinstance(i, (bool, np.bool_)):
        i = np.asarray(i)
    elif not is_array(i):
        try:
            return operator.index(i)
        except TypeError:
            raise IndexError(
                f"getitem: wanted ints, slices, None, Ellipsis, bools or arrays of them, saw {type(i).__name__}"
            ) from None
    if i.dtype.kind not in "ibu" or i.dtype == np.uint8:  # PyTorch takes uint8 for a mask, NumPy for positions
        raise IndexError(f"getitem: wanted an index of int or bool, saw {i.dtype}")
    if i.ndim == 0 and i.dtype.kind != "b":
        return int(i)
    if on_card(array) and not on_card(i):
        i = namespace(array).asarray(i)
    elif on_card(i) and not on_card(array):
        raise RuntimeError(f"getitem: wanted an index on the cpu, saw one on {device_of(i)}")
    return i if i.dtype.kind == "b" else i.astype(int64, copy=False)


def getitem(x: Any, where: Any) -> Any:
    """x[where], as PyTorch means it: a view for ints, slices, None and Ellipsis, a copy for arrays and masks."""
    basic, advanced = prepare(where, unwrap(x))
    if basic is not None:
        x = slice_(x, basic)
    return x if advanced is None else index_get(x, advanced)


# --- reading and its gradient -----------------------------------------------------------------------


@op(
    dx=lambda g, where, x_shape: slice_backward(g, where, x_shape),
    view=True,
    cases=lambda r: [
        case(r(3, 4), (1, ...)),
        case(r(3, 4), (slice(None), slice(1, 4, 2), ...)),
        case(r(3), (-1, ...)),
        case(r(3, 4), (None, slice(0, 0), None, ...)),
        case(r(), (None, ...)),
    ],
    reference=lambda torch, x, where: x[where],
)
def slice_(x, where):
    """x[where] for ints, slices with steps above zero, None and Ellipsis: a view."""
    return x[where]


@op(
    dg=lambda gg, where: slice_(gg, where),
    cases=lambda r: [case(r(4), (1, ...), (3, 4)), case(r(3, 2), (slice(None), slice(1, 4, 2), ...), (3, 4))],
    reference=None,
    signature=lambda g, where, shape: None,
)
def slice_backward(g, where, shape):
    """Zeros of `shape` with g at where: the gradient of slice_."""
    y = namespace(g).zeros(shape, g.dtype)
    y[where] = g
    return y


@op(
    dx=lambda g, where, x_shape: index_sum(g, where, x_shape),
    cases=lambda r: [
        case(r(5, 3), (np.array([0, 2, 2, -1]),)),
        case(r(5, 3), (slice(None), np.array([[0, 2], [1, 1]]))),
        case(r(3, 4, 5), (np.array([[0], [2]]), np.array([1, 1, 3]))),
        case(r(3, 4, 5), (np.array([0, 2, 0]), slice(None), np.array([1, 4, 1]))),
        case(r(3, 4), (np.array([[True, False, True, True]] * 3),)),
        case(r(3, 4), (slice(None), np.array([True, False, True, True]))),
        case(r(3, 4), (np.array([True, False, True]), np.array([3]))),
        case(r(3, 4), (np.zeros((0, 2), int64),)),
        case(r(0, 4), (np.zeros(0, int64),)),
        case(r.strided(4, 3), (np.array([3, 3]),)),
        case(r(3), (np.array(True),)),
        case(r(), (np.array(False),)),
    ],
    reference=lambda torch, x, where: x[tuple(torch.tensor(i) if isinstance(i, np.ndarray) else i for i in where)],
)
def index_get(x, where):
    """x[where] for arrays of ints and bools, and full slices: a copy. Arrays broadcast; their dimensions stand where
    the first of them stood, or in front if a slice lies between two. IndexError out of range (wraps on the card).
    """
    return x[where]


def positions(where: tuple, shape: tuple[int, ...]) -> list[tuple[int, Any]]:
    """The arrays of an advanced index as (dimension, int64 array without negatives) pairs, masks made positions."""
    found, d = [], 0
    for i in where:
        if type(i) is slice:
            d += 1
        elif i.dtype.kind == "b":
            if i.ndim == 0:  # no dimension of x: as an array of one or no element, which takes part in the broadcast
                found.append((None, namespace(i).zeros(int(i), int64)))
            for k, p in enumerate(i.nonzero() if i.ndim else ()):
                found.append((d + k, p))
            d += i.ndim
        else:
            found.append((d, namespace(i).where(i < 0, i + shape[d], i)))
            d += 1
    return found


@op(
    dg=lambda gg, where: index_get(gg, where),
    cases=lambda r: [
        case(r(4, 3), (np.array([0, 2, 2, -1]),), (5, 3)),
        case(r(3, 2, 2), (slice(None), np.array([[0, 2], [1, 1]])), (3, 5)),
        case(r(3, 2), (np.array([0, 2, 0]), slice(None), np.array([1, 2, 1])), (3, 2, 4)),
        case(r(9), (np.array([[True, False, True, True]] * 3),), (3, 4)),
        case(r(2), (np.array([True, False, True]), np.array([3])), (3, 4)),
        case(r(0, 2, 4), (np.zeros((0, 2), int64),), (3, 4)),
        case(r(1, 3), (np.array(True),), (3,)),
    ],
    reference=None,
)
def index_sum(g, where, shape):
    """Zeros of `shape` to which g is added at where, as often as a position occurs: the gradient of index_get."""
    xp = namespace(g)
    if len(where) == 1 and where[0].dtype.kind == "b" and where[0].ndim:  # a mask names no position twice
        y = xp.zeros(shape, g.dtype)
        y[where] = g
        return y
    found = positions(where, shape)
    arrays = xp.broadcast_arrays(*[a for _, a in found])
    front = range(arrays[0].ndim)
    dims = [d for d, _ in found if d is not None]
    first = next(k for k, i in enumerate(where) if type(i) is not slice)
    last = max(k for k, i in enumerate(where) if type(i) is not slice)
    if not any(type(i) is slice for i in where[first:last]):  # the index's dimensions stand where the first array stood
        begin = sum(1 for i in where[:first])
        g = xp.moveaxis(g, [begin + k for k in front], list(front))
    rows = xp.zeros(arrays[0].shape, int64)
    for (d, _), a in zip(found, arrays, strict=True):
        if d is not None:
            rows = rows * shape[d] + a
    rest = [d for d in range(len(shape)) if d not in dims]
    n = math.prod(shape[d] for d in dims)
    y = segment_sum.op.run((g.reshape(rows.size, math.prod(shape[d] for d in rest)), rows.reshape(-1), n))
    y = y.reshape([shape[d] for d in dims + rest])
    return y.transpose(np.argsort(dims + rest).tolist())


@op(
    dx=lambda g, ids: index_get(g, (ids,)),
    cases=lambda r: [
        case(r(7, 3), np.array([0, 2, 2, 0, 4, 2, 2]), 5),
        case(r(4), np.array([1, 1, 1, 1]), 2),
        case(r(0, 3), np.zeros(0, int64), 2),
        case(r(3, 0), np.array([0, 1, 0]), 2),
        case(r.strided(6, 2, 2), np.array([5, 4, 3, 2, 1, 0]), 6),
    ],
    reference=lambda torch, x, ids, n: x.new_zeros((n, *x.shape[1:])).index_add(0, ids, x),
)
def segment_sum(x, ids, n):
    """The sums of the rows of x that carry the same number: y[k] = sum of x[i] over ids[i] = k, for k < n."""
    xp = namespace(x)
    width = math.prod(x.shape[1:])
    if width == 1 and x.dtype.kind == "f" and xp is np:
        y = np.bincount(ids, x.reshape(-1), n)
        return y.astype(x.dtype).reshape(n, *x.shape[1:])
    y = xp.zeros((n, *x.shape[1:]), wide(x.dtype))
    if x.size:
        order = xp.argsort(ids, kind="stable")
        ids = ids[order]
        starts = np.flatnonzero(np.concatenate(([True], ids[1:] != ids[:-1])))
        y[ids[starts]] = np.add.reduceat(x[order], starts, 0, y.dtype)
    return y.astype(x.dtype, copy=False)


# --- writing ----------------------------------------------------------------------------------------


def _as_value(g: Any, value_shape: tuple[int, ...]) -> Any:
    """The gradient of a written value, which may have had leading dimensions of size one too many."""
    return shape.reshape(g, (1,) * (len(value_shape) - g.ndim) + tuple(g.shape)) if len(value_shape) > g.ndim else g


@op(
    dx=lambda g, where: index_put(g, where, 0.0),
    dvalue=lambda g, where, value_shape: _as_value(index_get(g, where), value_shape),
    cases=lambda r: [
        case(r(5, 3), (np.array([0, 2, -1]),), r(3, 3)),
        case(r(5, 3), (np.array([0, 2, -1]),), r(3)),
        case(r(5, 3), (slice(None), np.array([1, 2])), r(5, 1)),
        case(r(3, 4), (np.array([[True, False, True, True]] * 3),), r(9)),
        case(r(3, 4), (np.array([[True, False, True, True]] * 3),), r()),
        case(r(3, 4), (1, ...), r(1, 4)),
        case(r(3, 4), (np.zeros(0, int64),), r(1, 4)),
    ],
    reference=None,
)
def index_put(x, where, value):
    """A copy of x with value written at where; of a position named twice the last stays (on the card, any)."""
    y = x.copy()
    y[where] = value
    return y


@op(
    dx=lambda g, way: view_write(g, 0.0, way),
    dvalue=lambda g, way: way[0](g, *way[1]),
    reference=None,
)
def view_write(x, value, way):
    """A copy of x in which the part seen by a view is `value`: what a write into a view means for its base.
    The way to the view is (op, constants).
    """
    y = x.copy()
    way[0](y, *way[1])[...] = value
    return y
