"""Rearrangement: the same elements in another shape, and the summing that undoes a broadcast."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import plan, tape
from ..backend import device_of, namespace, to_device
from ..call import sampled
from ..cases import case
from ..op import op, unwrap
from ..traced import shares
from . import index as indexing
from . import layout, pointwise, reduce
from .dims import dimension, dimensions, expanded, inverse, other_words


@op(
    dx=lambda g, x_shape: reshape(g, x_shape),
    view=True,
    cases=lambda r: [
        case(r(2, 6), (3, 4)),
        case(r(2, 6), (-1, 3)),
        case(r.strided(4, 3), (2, 6)),
        case(r(1), ()),
        case(r(0, 3), (3, 0)),
        case(r(), (1, 1)),
    ],
)
def reshape(x, shape):
    """The elements of x in C order as `shape`, where one size may be -1; a view where possible, else a copy.
    RuntimeError unless the sizes multiply to the number of elements.
    """
    try:
        return x.reshape(shape)
    except ValueError:
        raise RuntimeError(f"reshape: wanted a shape of {x.size} elements, saw {shape}") from None


@op(
    dx=lambda g, dims: permute(g, inverse(dims)),
    view=True,
    cases=lambda r: [case(r(2, 3, 4), (2, 0, 1)), case(r(2, 3, 4), (0, -1, 1)), case(r(), ()), case(r(0, 2), (1, 0))],
)
def permute(x, dims):
    """The dimensions of x in the order `dims`: y.shape[i] = x.shape[dims[i]]. A view.
    RuntimeError unless each dimension is named once, IndexError for one out of range.
    """
    order = [dimension("permute", d, x.ndim) for d in dims] if len(dims) == x.ndim else []
    if len(dims) != x.ndim or len(set(order)) != x.ndim:
        raise RuntimeError(f"permute: wanted each of {x.ndim} dimensions once, saw {tuple(dims)}")
    return x.transpose(order)


@op(
    dx=lambda g: g,  # the tape sums it back
    view=True,
    cases=lambda r: [
        case(r(3, 1), (3, 4)),
        case(r(3, 1), (2, -1, 4)),
        case(r(), (2, 3)),
        case(r(1), (0,)),
        case(r(2, 3), (2, 3)),
    ],
    reference="Tensor.expand",
)
def expand(x, size):
    """x with its dimensions of size one repeated to `size` without copying; -1 keeps a size, new ones go in front.
    RuntimeError if x does not broadcast to `size`.
    """
    size = expanded("expand", x.shape, size)
    if size == x.shape:
        return x.view()
    if namespace(x) is not np:
        return namespace(x).broadcast_to(x, size)
    lead = len(size) - x.ndim
    steps = [s if n == m else 0 for n, m, s in zip(x.shape, size[lead:], x.strides, strict=True)]
    return np.lib.stride_tricks.as_strided(x, size, (0,) * lead + tuple(steps))  # broadcast_to's may not be written


@op(
    dx=lambda g, x_shape: expand(g, x_shape),
    cases=lambda r: [case(r(2, 3, 4), (3, 1)), case(r(2, 3), ()), case(r(2, 3), (2, 3)), case(r(0, 3), (1, 3))],
    reference="Tensor.sum_to_size",
)
def sum_to(x, shape):
    """x summed over the dimensions along which `shape` was broadcast to x's shape: what undoes a broadcast."""
    if x.shape == shape:
        return x
    lead = x.ndim - len(shape)
    if lead < 0 or any(n not in (1, m) for n, m in zip(shape, x.shape[lead:], strict=True)):
        raise RuntimeError(f"sum_to: wanted a shape that broadcasts to {x.shape}, saw {tuple(shape)}")
    axes = (*range(lead), *(i + lead for i, n in enumerate(shape) if n == 1 and x.shape[i + lead] != 1))
    return reduce.sum.op.definition(x, axes).reshape(shape) if axes else x


def fit_traced(g: Any, shape: tuple[int, ...], dtype: np.dtype) -> Any:
    """tape.fit for a gradient that is itself recorded."""
    if g.array.shape != shape:
        lead = g.array.ndim - len(shape)
        if lead >= 0:
            g = sum_to(g, tuple(1 if n == 1 else m for n, m in zip(shape, g.array.shape[lead:], strict=True)))
        if g.array.shape != shape:
            g = expand(g, shape)
    if g.array.dtype != dtype:
        g = pointwise.cast(g, dtype)
    return g


tape.fit_traced, tape.plus, plan.in_order = fit_traced, pointwise.add, layout.in_order


@op(dx=lambda g, source: transfer(g, source), reference=None)
def transfer(x, device, source=None, non_blocking=False):
    """x on another device, in the order in which it lies; its gradient goes back to `source`."""
    return layout.through(layout.order_of(x), lambda a: to_device(a, device, non_blocking), x)


def move(x: Any, device: Any, non_blocking: bool = False) -> Any:
    """x on `device`: x itself if it is there."""
    here = device_of(unwrap(x))
    return x if here == device else transfer(x, device, here, non_blocking)


@op(
    dx=lambda g: g,
    cases=lambda r: [case(r(2, 3)), case(r.strided(3, 2)), case(r()), case(r.strided(3, 2), "C")],
    reference=lambda torch, x, order="K": x.clone(),
)
def clone(x, order="K"):
    """A copy of x in memory of its own: in the order in which x lies, or "C" order."""
    return x.copy(order)


def filled(x: Any, size: Any, value: float) -> Any:
    """A bare array of `size` filled with a value, of x's dtype and where x lives."""
    a = unwrap(x)
    return namespace(a).full(size, value, a.dtype)


def contiguous(x: Any) -> Any:
    """x in C order without gaps: x itself if it is so already, else a copy."""
    return x if unwrap(x).flags.c_contiguous else clone(x, "C")


# --- dimensions of size one, joined and swapped dimensions ----------------------------------------------


def view(x: Any, size: Any) -> Any:
    """The memory of x as another shape, where one size may be -1. RuntimeError where only a copy has that shape."""
    y = reshape(x, size)
    a = unwrap(x)
    if a.size and not shares(unwrap(y), a):
        steps = tuple(s // a.itemsize for s in a.strides)
        raise RuntimeError(f"view: wanted dimensions that lie together in memory, saw strides {steps}; use reshape()")
    return y


@other_words
def squeeze(x: Any, dim: Any = None) -> Any:
    """x without its dimensions of size one, or without those of them among dim. A view."""
    over = dimensions("squeeze", dim, x.ndim) if dim != () else ()
    return reshape(x, tuple(n for i, n in enumerate(x.shape) if n != 1 or i not in over))


@other_words
def unsqueeze(x: Any, dim: int) -> Any:
    """x with a dimension of size one before dimension dim, or at the end. A view."""
    d = dimension("unsqueeze", dim, x.ndim + 1)
    return reshape(x, (*x.shape[:d], 1, *x.shape[d:]))


@other_words
def flatten(x: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    """x with the dimensions from start_dim to end_dim joined into one; 0-d becomes 1-d; x itself if they are one.
    RuntimeError if start_dim comes after end_dim.
    """
    a, b = dimension("flatten", start_dim, x.ndim), dimension("flatten", end_dim, x.ndim)
    if a > b:
        raise RuntimeError(f"flatten: wanted start_dim before end_dim, saw {start_dim} and {end_dim}")
    if a == b and x.ndim:
        return x
    return reshape(x, (*x.shape[:a], math.prod(x.shape[a : b + 1]), *x.shape[b + 1 :]))


def unflatten(x: Any, dim: int, sizes: Any) -> Any:
    """x with one dimension cut into several of `sizes`, of which one may be -1."""
    d = dimension("unflatten", dim, x.ndim)
    if not x.ndim:
        raise RuntimeError("unflatten: wanted one dimension or more, saw a 0-d tensor")
    known = -math.prod(sizes) if -1 in sizes else math.prod(sizes)
    if not sizes or list(sizes).count(-1) > 1 or (x.shape[d] % known if -1 in sizes and known else x.shape[d] != known):
        raise RuntimeError(f"unflatten: wanted sizes that multiply to {x.shape[d]}, saw {tuple(sizes)}")
    sizes = [x.shape[d] // known if s == -1 and known else s for s in sizes]
    return reshape(x, (*x.shape[:d], *sizes, *x.shape[d + 1 :]))


def ravel(x: Any) -> Any:
    """x in one dimension."""
    return reshape(x, (-1,))


@other_words
def transpose(x: Any, dim0: Any = None, dim1: Any = None, *, axis0: Any = None, axis1: Any = None) -> Any:
    """x with two dimensions swapped. A view."""
    dim0, dim1 = dim0 if axis0 is None else axis0, dim1 if axis1 is None else axis1
    dims = list(range(x.ndim))
    a, b = dimension("transpose", dim0, x.ndim), dimension("transpose", dim1, x.ndim)
    if dims:
        dims[a], dims[b] = b, a
    return permute(x, dims)


def t(x: Any) -> Any:
    """The transpose of a matrix; a vector as it is. RuntimeError for more dimensions."""
    if x.ndim > 2:
        raise RuntimeError(f"t: wanted at most 2 dimensions, saw shape {tuple(x.shape)}")
    return permute(x, range(x.ndim)[::-1])


@other_words
def movedim(x: Any, source: Any, destination: Any) -> Any:
    """x with its dimensions `source` moved to the places `destination`, the others in order. A view."""
    a = source if isinstance(source, (tuple, list)) else (source,)
    b = destination if isinstance(destination, (tuple, list)) else (destination,)
    alike = len(a) == len(b)
    a, b = ([dimension("movedim", d, x.ndim) for d in v] if alike else () for v in (a, b))
    if not alike or len(set(a)) != len(a) or len(set(b)) != len(b):
        raise RuntimeError(f"movedim: wanted as many places as dimensions, each once, saw {source} to {destination}")
    if not x.ndim:
        return permute(x, ())
    order = [d for d in range(x.ndim) if d not in a]
    for place, d in sorted(zip(b, a, strict=True)):
        order.insert(place, d)
    return permute(x, order)


def broadcast_to(x: Any, size: Any) -> Any:
    """x repeated to `size` without copying. A view that may not be written."""
    return expand(x, size)


def broadcast_tensors(*tensors: Any) -> tuple:
    """The tensors, each expanded to the shape to which all broadcast. RuntimeError if they do not."""
    return tuple(expand(x, broadcast_shapes(*(x.shape for x in tensors))) for x in tensors)


def broadcast_shapes(*shapes: Any) -> tuple[int, ...]:
    """The shape to which all the shapes broadcast. RuntimeError if they do not, ValueError for sizes below 0."""
    if any(n < 0 for s in shapes for n in (s if isinstance(s, (tuple, list)) else (s,))):
        raise ValueError(f"broadcast: wanted sizes of at least 0, saw {', '.join(map(str, shapes))}")
    try:
        return np.broadcast_shapes(*(tuple(s) if isinstance(s, (tuple, list)) else s for s in shapes))
    except ValueError:
        raise RuntimeError(f"broadcast: wanted shapes that broadcast, saw {', '.join(map(str, shapes))}") from None


@other_words
def select(x: Any, dim: int, index: int) -> Any:
    """The slice x[..., index, ...] at one place of dimension dim, which goes. A view."""
    d = dimension("select", dim, x.ndim)
    if x.ndim == 0 or not -x.shape[d] <= index < x.shape[d]:
        raise IndexError(f"select: wanted an index of dimension {dim} of shape {tuple(x.shape)}, saw {index}")
    return indexing.slice_(x, (indexing.FULL,) * d + (int(index), ...))


@sampled("start")
@other_words
def narrow(x: Any, dim: int, start: int, length: int) -> Any:
    """`length` places of dimension dim from `start` on, a number or a 0-d tensor of ints. A view.
    IndexError for a start out of range, RuntimeError if the places are not all there.
    """
    if not x.ndim:
        raise RuntimeError("narrow: wanted one dimension or more, saw a 0-d tensor")
    d = dimension("narrow", dim, x.ndim)
    n = x.shape[d]
    if hasattr(start, "dtype") and (start.ndim or start.dtype.kind not in "iu"):
        raise RuntimeError(f"narrow: wanted a start that is a 0-d tensor of ints, saw {tuple(start.shape)} {start.dtype}")
    start = int(start)
    begin = start + n if start < 0 else start
    if not -n <= start <= n:
        raise IndexError(f"narrow: wanted a start in [{-n}, {n}], saw {start}")
    if length not in range(n - begin + 1):
        raise RuntimeError(f"narrow: wanted {length} places from {start} on in dimension {dim} of {tuple(x.shape)}")
    return indexing.slice_(x, (indexing.FULL,) * d + (slice(begin, begin + length), ...))


from .join import (  # noqa: E402, F401, I001  (they need the views above, and belong to this family)
    cat, chunk, dstack, hstack, meshgrid, split, stack, tensor_split, unbind, vstack,
)  # fmt: skip
