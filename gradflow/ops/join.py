"""Joining and splitting: several tensors become one along a dimension, and one becomes several."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from ..backend import capture, is_array, namespace
from ..call import sampled
from ..cases import case
from ..op import op
from ..tape import Traced
from . import index, shape
from .dims import dimension, other_words
from .layout import order_of


def _lined_up(shapes: Any, dim: int) -> int:
    """dim counted from the front, once all shapes agree but for it."""
    first = shapes[0]
    if not first:
        raise RuntimeError("cat: wanted tensors of one dimension or more, saw a 0-d tensor")
    d = dimension("cat", dim, len(first))
    for s in shapes:
        if len(s) != len(first) or any(i != d and a != b for i, (a, b) in enumerate(zip(s, first, strict=True))):
            saw = ", ".join(map(str, shapes))
            raise RuntimeError(f"cat: wanted shapes that agree but for dimension {d}, saw {saw}")
    return d


def _cat_gradients(g: Any, xs_shape: Any, dim: int) -> list:
    ends = list(accumulate((s[dim] for s in xs_shape), initial=0))
    return [shape.narrow(g, dim, a, b - a) for a, b in pairwise(ends)]


def _lies_so(x: Any, order: Any) -> bool:
    return order_of(x) == order or bool(x.transpose(order[0]).flags.c_contiguous)


def _behind(xs: Any, dim: int) -> Any:
    """The arrays one behind the other. CuPy copies the addresses of more than eight small ones to the card, which no capture
    allows: there they are written one by one.
    """
    xp = namespace(xs[0])
    found = None if xp is np else order_of(xs[0])  # which NumPy keeps, and CuPy does not
    if found is not None and all(x.ndim == xs[0].ndim and _lies_so(x, found) for x in xs):
        there, back = found
        return _behind([x.transpose(there) for x in xs], there.index(dim % xs[0].ndim)).transpose(back)
    if capture.graph is None or len(xs) <= 8 or xp is np or any(x.ndim != xs[0].ndim for x in xs):
        return xp.concatenate(xs, dim)
    d = dim % xs[0].ndim
    _lined_up([x.shape for x in xs], d)
    y = xp.empty((*xs[0].shape[:d], sum(x.shape[d] for x in xs), *xs[0].shape[d + 1 :]), np.result_type(*{x.dtype for x in xs}))
    at = 0
    for x in xs:
        y[(slice(None),) * d + (slice(at, at + x.shape[d]),)] = x
        at += x.shape[d]
    return y


@op(
    name="cat",
    dxs=_cat_gradients,
    promote="xs",
    cases=lambda r: [
        case(r(2, 3), r(1, 3), r(0, 3)),
        case(r(2, 3), r(2, 1), dim=-1),
        case(r(2)),
        case(r.strided(3, 2), r(3, 2), dim=1),
        case(r(2, 0, 2), r(2, 0, 1), dim=2),
    ],
    reference=lambda torch, *xs, dim=0: torch.cat(xs, dim),
)
def concatenated(*xs, dim=0):
    """The tensors one behind the other along dim: y = [x_0, x_1, ...]. The other sizes must agree."""
    try:
        return _behind(xs, dim)
    except ValueError:  # say what is wrong in our words
        _lined_up([x.shape for x in xs], dim)
        raise


def joinable(name: str, tensors: Any) -> tuple:
    """What was given to be joined, as a tuple: ValueError or RuntimeError for nothing, TypeError for what is no tensor."""
    if is_array(tensors) or isinstance(tensors, Traced):  # a tensor stands for the list of its parts
        tensors = unbind(tensors)
    if not tensors:
        raise (ValueError if name == "cat" else RuntimeError)(f"{name}: wanted at least one tensor, saw none")
    for x in tensors:
        if not hasattr(x, "ndim"):
            raise TypeError(f"{name}: wanted tensors, saw {type(x).__name__}")
    return tuple(tensors)


@other_words
def cat(tensors: Any, dim: int = 0) -> Any:
    """The tensors one behind the other along dim. Their other sizes must agree; their dtypes are promoted.
    ValueError for no tensors, RuntimeError for 0-d tensors or sizes that differ.
    """
    if isinstance(dim, Traced):
        raise TypeError("cat: wanted the tensors in a list or tuple, saw one and then another as dim")
    return _joined("cat", joinable("cat", tensors), dim)


def _joined(name: str, tensors: tuple, dim: int) -> Any:
    if len({x.ndim for x in tensors}) > 1:  # as PyTorch, pass over empty vectors
        tensors = tuple(x for x in tensors if tuple(x.shape) != (0,))
    if name != "cat" and len({x.ndim for x in tensors}) > 1:
        saw = ", ".join(str(tuple(x.shape)) for x in tensors)
        raise RuntimeError(f"{name}: wanted tensors with one number of dimensions, saw {saw}")
    return concatenated(*tensors, dim=dim)


@op(
    name="stack",
    dxs=lambda g, dim: unbind(g, dim),
    promote="xs",
    cases=lambda r: [
        case(r(2, 3), r(2, 3)),
        case(r(2, 3), r.strided(2, 3), dim=-1),
        case(r(), r(), r()),
        case(r(0, 2), r(0, 2), dim=1),
        case(r(3), dim=-2),
    ],
    reference=lambda torch, *xs, dim=0: torch.stack(xs, dim),
)
def stacked(*xs, dim=0):
    """The tensors, all of one shape, side by side along a new dimension dim: y[i] = x_i."""
    if any(x.shape != xs[0].shape for x in xs):
        raise RuntimeError(f"stack: wanted tensors of one shape, saw {', '.join(str(x.shape) for x in xs)}")
    d = dimension("stack", dim, xs[0].ndim + 1)
    if capture.graph is None:
        return namespace(xs[0]).stack(xs, d)
    return _behind([namespace(x).expand_dims(x, d) for x in xs], d)


@other_words
def stack(tensors: Any, dim: int = 0) -> Any:
    """The tensors, all of one shape, side by side along a new dimension dim; their dtypes are promoted.
    RuntimeError for no tensors or shapes that differ.
    """
    return stacked(*joinable("stack", tensors), dim=dim)


@other_words
def hstack(tensors: Any) -> Any:
    """The tensors behind each other along dimension 1, vectors along dimension 0."""
    tensors = [shape.reshape(x, (1,)) if x.ndim == 0 else x for x in joinable("hstack", tensors)]
    return _joined("hstack", tuple(tensors), 0 if tensors[0].ndim == 1 else 1)


@other_words
def vstack(tensors: Any) -> Any:
    """The tensors one below the other, along dimension 0; vectors are rows."""
    tensors = joinable("vstack", tensors)
    rows = [shape.reshape(x, (1, *x.shape) if x.ndim else (1, 1)) if x.ndim < 2 else x for x in tensors]
    return _joined("vstack", tuple(rows), 0)


@other_words
def dstack(tensors: Any) -> Any:
    """The tensors behind each other along dimension 2, vectors as (1, n, 1) and matrices as (m, n, 1)."""
    size = {0: lambda n: (1, 1, 1), 1: lambda n: (1, *n, 1), 2: lambda n: (*n, 1)}
    tensors = joinable("dstack", tensors)
    return _joined("dstack", tuple(shape.reshape(x, size[x.ndim](x.shape)) if x.ndim < 3 else x for x in tensors), 2)


# --- splitting ------------------------------------------------------------------------------------------


def _part(i: int, x: Any, sizes: Any, dim: int) -> Any:
    """How split's i-th part is taken alone."""
    start = sum(sizes[:i])
    return index.slice_.op, (x, (index.FULL,) * (dim % x.ndim) + (slice(start, start + sizes[i]), ...))


@op(
    name="split",
    dx=lambda g, dim: cat(g, dim),
    view=_part,
    outputs=("*parts",),
    cases=lambda r: [
        case(r(5, 3), [2, 0, 3], 0),
        case(r(2, 4), [1, 3], -1),
        case(r.strided(4, 3), [4], 0),
        case(r(0, 2), [0, 0], 0),
    ],
    reference=lambda torch, x, sizes, dim: torch.split(x, sizes, dim),
)
def parts(x, sizes, dim):
    """The parts of x along dim, of the given sizes, which add up to x's: views, whose gradients are joined once."""
    d = dimension("split", dim, x.ndim)
    ends = accumulate(sizes, initial=0)
    return tuple(x[(index.FULL,) * d + (slice(a, b), ...)] for a, b in pairwise(ends))


def _divisible(name: str, x: Any) -> None:
    if not x.ndim:
        raise RuntimeError(f"{name}: wanted one dimension or more, saw a 0-d tensor")


@other_words
def split(x: Any, split_size_or_sections: Any, dim: int = 0) -> tuple:
    """Views of x along dim: of one size each (the last may be smaller), or of the sizes in a list.
    RuntimeError if the sizes do not add up to x's.
    """
    _divisible("split", x)
    d = dimension("split", dim, x.ndim)
    n, sizes = x.shape[d], split_size_or_sections
    if not isinstance(sizes, (list, tuple)):
        if sizes < 0 or (sizes == 0 and n):
            raise RuntimeError(f"split: wanted a size above zero, saw {sizes}")
        sizes = [sizes] * (n // sizes if sizes else 1)
        sizes += [n - sum(sizes)] if sum(sizes) < n or not sizes else []
    if sum(sizes) != n or any(s < 0 for s in sizes):
        raise RuntimeError(f"split: wanted sizes that add up to {n}, saw {list(sizes)}")
    return parts(x, tuple(sizes), d)


@other_words
def chunk(x: Any, chunks: int, dim: int = 0) -> tuple:
    """x along dim as views of equal size but for the last: at most `chunks` of them."""
    _divisible("chunk", x)
    if chunks < 1:
        raise RuntimeError(f"chunk: wanted one chunk or more, saw {chunks}")
    n = x.shape[dimension("chunk", dim, x.ndim)]
    return split(x, -(-n // chunks), dim) if n else split(x, [0] * chunks, dim)


@sampled("indices_or_sections")
@other_words
def tensor_split(
    x: Any, indices_or_sections: Any = None, dim: int = 0, *, indices: Any = None, sections: Any = None
) -> tuple:
    """x along dim as n views whose sizes differ by at most one, or cut before each of the places in a list."""
    given = [v for v in (indices_or_sections, indices, sections) if v is not None]
    if len(given) != 1:
        raise TypeError(f"tensor_split: wanted indices or sections, saw {given}")
    indices_or_sections = given[0]
    _divisible("tensor_split", x)
    d = dimension("tensor_split", dim, x.ndim)
    n, at = x.shape[d], indices_or_sections
    if is_array(at) or isinstance(at, Traced):
        at = at.tolist()
    if isinstance(at, (list, tuple)):
        ends = [0, *(min(max(i + n if i < 0 else i, 0), n) for i in at), n]
        found = [shape.narrow(x, d, a, max(b - a, 0)) for a, b in pairwise(ends)]
        return tuple(found)
    if at < 1:
        raise RuntimeError(f"tensor_split: wanted one section or more, saw {at}")
    return parts(x, tuple(n // at + (i < n % at) for i in range(at)), d)


@op(
    name="unbind",
    dx=lambda g, dim: stack(g, dim),
    view=lambda i, x, dim: (index.slice_.op, (x, (index.FULL,) * (dim % x.ndim) + (i, ...))),
    outputs=("*ys",),
    cases=lambda r: [case(r(3, 2)), case(r(3, 2), dim=-1), case(r.strided(2, 2, 2), 1), case(r(1))],
)
def unbind(x, dim=0):
    """The slices of x along dim, without it: views, whose gradients are joined once. IndexError for no dimension."""
    if not x.ndim:
        raise IndexError("unbind: wanted one dimension or more, saw a 0-d tensor")
    d = dimension("unbind", dim, x.ndim)
    return tuple(x[(index.FULL,) * d + (i, ...)] for i in range(x.shape[d]))


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple:
    """The coordinates of a grid spanned by vectors: y_k[i_0, i_1, ...] = x_k[i_k]; "xy" swaps the first two.
    RuntimeError unless the tensors are 0-d or 1-d.
    """
    if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)):
        tensors = tuple(tensors[0])
    if indexing not in ("ij", "xy") or not tensors or any(x.ndim > 1 for x in tensors):
        raise RuntimeError(
            f"meshgrid: wanted vectors and indexing 'ij' or 'xy', saw {[tuple(x.shape) for x in tensors]}, {indexing!r}"
        )
    if any(x.dtype != tensors[0].dtype for x in tensors):
        raise RuntimeError(f"meshgrid: wanted tensors of one dtype, saw {', '.join(str(x.dtype) for x in tensors)}")
    sizes = tuple(x.shape[0] if x.ndim else 1 for x in tensors)
    ones = (1,) * len(sizes)
    grids = [shape.reshape(x, (*ones[:k], sizes[k], *ones[k + 1 :])) for k, x in enumerate(tensors)]
    grids = [shape.expand(y, sizes) for y in grids]
    return tuple(shape.transpose(y, 0, 1) if indexing == "xy" and len(sizes) > 1 else y for y in grids)
