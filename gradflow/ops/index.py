"""Indexing: reading and writing elements chosen by position, by an array of positions, or by a mask."""

from __future__ import annotations

import math
import operator
from typing import Any, NamedTuple

import numpy as np

from ..backend import device_of, int32, int64, is_array, namespace, on_card
from ..cases import case
from ..op import op, unwrap, wrap
from ..tape import Traced
from . import pointwise, reduce, shape
from .dims import inverse

FULL = slice(None)
_NOT_INTS = (Traced, list, tuple, slice, np.ndarray)

# --- what the user wrote between the brackets -------------------------------------------------------


def prepare(where: Any, array: Any) -> tuple[tuple | None, tuple | None]:
    """An index of `array` as (basic, advanced): first slice_ by ints, slices and None, then index_get by arrays.

    Either is None where there is nothing of its kind; both are normalised: ints checked, Ellipsis filled in, lists and
    tensors made arrays on the array's device. Ints come first, as in PyTorch, where NumPy counts them as arrays.
    IndexError out of range or for too many indices or a mask of the wrong shape, ValueError for a negative step.
    """
    if type(where) is list and len(where) < 32 and any(i is None or i is ... or isinstance(i, _NOT_INTS) for i in where):
        where = tuple(where)  # as PyTorch has it: x[[rows, columns]] is x[rows, columns]
    used = dots = arrays = 0
    items = []
    for i in where if type(where) is tuple else (where,):
        if type(i) is not int:
            i = _item(i, array)
            if i is None or i is Ellipsis:
                used -= 1
                dots += i is Ellipsis
            elif type(i) is not int and type(i) is not slice:
                arrays += 1
                used += i.ndim - 1 if i.dtype.kind == "b" else 0
        used += 1
        items.append(i)
    if used > array.ndim:
        raise IndexError(f"getitem: wanted at most {array.ndim} indices, saw {used}")
    if dots > 1:
        raise IndexError(f"getitem: wanted at most one Ellipsis, saw {dots}")
    if arrays:
        return _parted(items, array.shape, array.ndim - used)
    d = 0
    for i in items:
        if type(i) is int:
            _bounded(i, d, array.shape)
        d += array.ndim - used if i is Ellipsis else i is not None
    # The Ellipsis makes NumPy give a 0-d array, which is a view, and not a scalar, which is not.
    return tuple(items) if dots else (*items, ...), None


def wrapped_like(x: Any, array: Any) -> Any:
    """The array as a tensor if x is one, else as it is."""
    return wrap(array) if isinstance(x, Traced) else array


def _bounded(i: int, d: int, shape: tuple[int, ...]) -> None:
    n = shape[d]
    if not -n <= i < n:
        raise IndexError(f"getitem: index {i} is out of bounds for dimension {d} with size {n}")


def _parted(items: list, shape: tuple[int, ...], left: int) -> tuple[tuple | None, tuple | None]:
    """(basic, advanced) of an index with arrays, where an Ellipsis or the end stands for the `left` dimensions."""
    at = next((k for k, i in enumerate(items) if i is Ellipsis), len(items))
    items[at : at + 1] = [FULL] * left
    basic: list[Any] = []
    advanced: list[Any] = []
    plain, d = True, 0  # d is the dimension that the next index takes
    for i in items:
        if type(i) is int:
            _bounded(i, d, shape)
            basic.append(i)
            plain = False
            d += 1
        elif i is None or type(i) is slice:
            basic.append(i)
            advanced.append(FULL)
            plain = plain and i == FULL
            d += i is not None
        else:
            taken = i.ndim if _is_mask(i) else 1
            if _is_mask(i) and i.shape != shape[d : d + taken]:
                raise IndexError(
                    f"getitem: wanted a mask of shape {shape[d : d + taken]} at dimension {d}, saw {i.shape}"
                )
            basic.extend([FULL] * taken)
            advanced.append(i)
            d += taken
    while type(advanced[-1]) is slice:
        advanced.pop()
    return None if plain else (*basic, ...), tuple(advanced)


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
        if not is_array(i):  # batched by vmap: index_get's rule knows what to do
            return i
    elif hasattr(i, "owner"):
        return i
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
    if i.dtype == np.uint8:  # PyTorch takes bytes for a mask, NumPy for positions
        i = i.astype(bool)
    if i.dtype.kind not in "ibu":
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
    array = x.array if isinstance(x, Traced) else x
    if type(where) is int and array.ndim and -(n := array.shape[0]) <= where < n:
        return slice_(x, (where, ...))
    basic, advanced = prepare(where, array)
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
    ids = where[-1]
    if type(ids) is not slice and ids.dtype.kind == "i" and all(type(i) is slice for i in where[:-1]):
        return x.take(ids, len(where) - 1)
    return x[where]


# --- where an index leads ---------------------------------------------------------------------------


class Aim(NamedTuple):
    """Where the arrays of an advanced index lead.

    rows  int64, of the shape B to which the arrays broadcast: the position among the indexed dimensions taken as one
    dims  the dimensions indexed; `rest` the others
    spot  where the dimensions B stand in what is read
    """

    rows: Any
    dims: list[int]
    rest: list[int]
    spot: int


def aim(where: tuple, shape: tuple[int, ...]) -> Aim:
    """Where an advanced index of an array of this shape leads."""
    xp = namespace(next(i for i in where if type(i) is not slice))
    arrays, dims, d = [], [], 0
    for i in where:
        if type(i) is slice:
            d += 1
        elif i.dtype.kind == "b":
            arrays += i.nonzero() if i.ndim else [xp.zeros(int(i), int64)]  # 0-d takes part in the broadcast alone
            dims += range(d, d + i.ndim)
            d += i.ndim
        else:
            arrays.append(xp.where(i < 0, i + shape[d], i))
            dims.append(d)
            d += 1
    arrays = xp.broadcast_arrays(*arrays)
    rows = xp.zeros(arrays[0].shape, int64)
    for d, a in zip(dims, arrays[len(arrays) - len(dims) :], strict=True):
        rows = rows * shape[d] + a
    kinds = [type(i) is slice for i in where]
    first, last = kinds.index(False), len(kinds) - kinds[::-1].index(False)
    spot = 0 if any(kinds[first:last]) else first
    return Aim(rows, dims, [d for d in range(len(shape)) if d not in dims], spot)


def repeats(where: tuple) -> bool:
    """Whether an index may name a position twice: an array of ints may, a mask does not."""
    return any(is_array(i) and i.dtype.kind != "b" for i in where)


def staying(rows: Any, n: int) -> Any:
    """Which of several writes to rows stay: the last to each."""
    xp, flat = namespace(rows), rows.reshape(-1)
    if xp is np:
        k, last = np.arange(flat.size), np.empty(n, int64)
        last[flat] = k
        return (last[flat] == k).reshape(rows.shape)
    order = xp.argsort(flat, kind="stable")
    flat, stay = flat[order], xp.ones(flat.size, bool)
    last = xp.ones(flat.size, bool)
    last[:-1] = flat[1:] != flat[:-1]
    stay[order] = last
    return stay.reshape(rows.shape)


def put(x: Any, where: tuple, value: Any) -> None:
    """x[where] = value for arrays, in place; of a position named twice the last value stays, on the card too."""
    if is_array(value) and value.ndim > 1 and is_array(where[0]) and where[0].ndim == x.ndim and where[0].dtype.kind == "b":
        lead = value.shape[:-1]  # what a mask reads is a vector: NumPy takes no more dimensions for it, PyTorch those of one
        if lead != (1,) * len(lead):
            raise RuntimeError(f"setitem: wanted a value that broadcasts to a vector, saw shape {value.shape}")
        value = value.reshape(-1)
    if not (on_card(x) and is_array(value) and repeats(where)):
        x[where] = value
        return
    to = aim(where, x.shape)
    stay, b = staying(to.rows, math.prod(x.shape[d] for d in to.dims)).reshape(-1), to.rows.ndim
    read = [x.shape[d] for d in to.rest]
    read[to.spot : to.spot] = to.rows.shape
    value = namespace(x).broadcast_to(value, read)
    value = value.reshape(*read[: to.spot], -1, *read[to.spot + b :]).compress(stay, axis=to.spot)
    rows, places = to.rows.reshape(-1)[stay], []
    for d in reversed(to.dims):
        rows, place = divmod(rows, x.shape[d])
        places.append(place)
    at: list[Any] = [FULL] * x.ndim
    for d, place in zip(reversed(to.dims), places, strict=True):
        at[d] = place
    x[tuple(at)] = value


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
    if len(where) == 1 and where[0].dtype.kind == "b" and where[0].ndim:  # a mask names no position twice
        y = namespace(g).zeros(shape, g.dtype)
        y[where] = g
        return y
    to = aim(where, shape)
    b = range(to.rows.ndim)
    if to.spot:
        g = namespace(g).moveaxis(g, [to.spot + k for k in b], list(b))
    n, width = math.prod(shape[d] for d in to.dims), math.prod(shape[d] for d in to.rest)
    y = segment_sum.op.run((g.reshape(to.rows.size, width), to.rows.reshape(-1), n))
    order = to.dims + to.rest
    return y.reshape([shape[d] for d in order]).transpose(inverse(order))


@op(
    dx=lambda g, ids: index_get(g, (ids,)),
    twin="index",
    cases=lambda r: [
        case(r(7, 3), np.array([0, 2, 2, 0, 4, 2, 2]), 5),
        case(r(4), np.array([1, 1, 1, 1]), 2),
        case(r(0, 3), np.zeros(0, int64), 2),
        case(r(3, 0), np.array([0, 1, 0]), 2),
        case(r.strided(6, 2, 2), np.array([5, 4, 3, 2, 1, 0]), 6),
        case(r(90, 40), r.integers(0, 50, 90), 50),
        case(r(300, 2), r.integers(0, 2, 300), 3),
        case(r(70, 33), np.zeros(70, int64), 1),
    ],
    reference=lambda torch, x, ids, n: x.new_zeros((n, *x.shape[1:])).index_add(0, ids, x),
)
def segment_sum(x, ids, n):
    """The sums of the rows of x that carry the same number: y[k] = sum of x[i] over ids[i] = k, for k < n."""
    xp, width, dtype = namespace(x), math.prod(x.shape[1:]), reduce.wide(x.dtype)
    if xp is not np:  # CuPy's add.at takes neither complex numbers nor small integers
        if dtype.kind == "c":
            return (segment_sum(x.real, ids, n) + segment_sum(x.imag, ids, n) * 1j).astype(dtype, copy=False)
        dtype = int32 if dtype.itemsize < 4 else dtype
    y = xp.zeros((n, width), dtype)
    x2 = x.reshape(len(ids), width)
    if width >= 32 and len(ids) and (counts := xp.bincount(ids, minlength=n)).max() <= 8:
        # Few rows meet: all first ones of a number at once, then all second ones, and so on.
        order = xp.argsort(ids, kind="stable")
        begin = xp.cumsum(counts) - counts
        at = xp.flatnonzero(counts)
        y[at] = x2[order[begin[at]]]
        for k in range(1, int(counts.max())):
            at = xp.flatnonzero(counts > k)
            y[at] += x2[order[begin[at] + k]]
    elif x.size:
        flat = ids if width == 1 else (ids[:, None] * width + xp.arange(width)).reshape(-1)
        xp.add.at(y.reshape(-1), flat, x2.reshape(-1).astype(dtype, copy=False))
    return y.astype(x.dtype, copy=False).reshape(n, *x.shape[1:])


# --- writing ----------------------------------------------------------------------------------------


def _written(g: Any, where: tuple, value_shape: tuple[int, ...]) -> Any:
    """The gradient of a value written at where: of what stayed, in the value's shape but for broadcasting."""
    if not any(is_array(i) for i in where):
        read = slice_(g, where)
    else:
        read = index_get(g, where)
        if repeats(where):
            to = aim(where, g.shape)
            stay = staying(to.rows, math.prod(g.shape[d] for d in to.dims))
            read = pointwise.where(stay.reshape(*stay.shape, *(1,) * (len(to.rest) - to.spot)), read, 0.0)
    lead = len(value_shape) - read.ndim
    return shape.reshape(read, (1,) * lead + tuple(read.shape)) if lead > 0 else read


@op(
    dx=lambda g, where: index_put(g, where, 0.0),
    dvalue=lambda g, where, value_shape: _written(g, where, value_shape),
    cases=lambda r: [
        case(r(5, 3), (np.array([0, 2, -1]),), r(3, 3)),
        case(r(5, 3), (np.array([0, 2, -1]),), r(3)),
        case(r(5, 3), (np.array([3, 1, 3, -2]),), r(4, 3)),
        case(r(2, 5, 2), (slice(None), np.array([3, 1, 3, -2])), r(4, 2)),
        case(r(5, 2, 3), (np.array([[3, 1], [3, 3]]), slice(None), np.array([0, 2])), r(2, 2, 2)),
        case(r(5, 3), (slice(None), np.array([1, 2])), r(5, 1)),
        case(r(3, 4), (np.array([[True, False, True, True]] * 3),), r(9)),
        case(r(3, 4), (np.array([[True, False, True, True]] * 3),), r()),
        case(r(3, 4), (1, ...), r(1, 4)),
        case(r(3, 4), (np.zeros(0, int64),), r(1, 4)),
    ],
    reference=None,
)
def index_put(x, where, value):
    """A copy of x with value written at where; of a position named twice the last value stays."""
    y = namespace(x).array(x, order="C")  # an array also of a 0-d gradient, which NumPy has as a scalar
    put(y, where, value)
    return y


def laid_out(x: Any, steps: tuple[int, ...]) -> Any:
    """A copy of x whose elements have the given strides, in elements."""
    xp = namespace(x)
    memory = xp.zeros(1 + sum((n - 1) * s for n, s in zip(x.shape, steps, strict=True)) if x.size else 1, x.dtype)
    y = xp.lib.stride_tricks.as_strided(memory, x.shape, tuple(s * x.itemsize for s in steps))
    y[...] = x
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
    y = namespace(x).array(x, order="C")  # as in index_put; and of C order, so that the way is a view
    if way[0].name == "as_strided":  # which counts on the strides that x had
        y = laid_out(x, way[1][3])
    way[0](y, *way[1])[...] = value
    return y
