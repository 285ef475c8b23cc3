"""Rearrangement: the same elements in another shape, and the summing that undoes a broadcast."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import tape
from ..backend import device_of, namespace, to_device
from ..cases import case
from ..op import op, unwrap
from . import pointwise, reduce
from .dims import dimension, expanded, inverse


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
    order = [dimension("permute", d, x.ndim) for d in dims]
    if len(order) != x.ndim or len(set(order)) != x.ndim:
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
    return x.view() if size == x.shape else namespace(x).broadcast_to(x, size)  # a view that may be written


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


tape.fit_traced = fit_traced


@op(dx=lambda g, source: transfer(g, source), reference=None)
def transfer(x, device, source=None, non_blocking=False):
    """x on another device; its gradient goes back to `source`."""
    return to_device(x, device, non_blocking)


def move(x: Any, device: Any, non_blocking: bool = False) -> Any:
    """x on `device`: x itself if it is there."""
    here = device_of(unwrap(x))
    return x if here == device else transfer(x, device, here, non_blocking)


@op(dx=lambda g: g, cases=lambda r: [case(r(2, 3)), case(r.strided(3, 2)), case(r())], reference="clone")
def clone(x):
    """A copy of x in memory of its own."""
    return x.copy()


@op(dx=lambda g: g, cases=lambda r: [case(r.strided(3, 2)), case(r(2))], reference="Tensor.contiguous", view=True)
def contiguous(x):
    """x in C order without gaps: x itself where it is so already."""
    return namespace(x).ascontiguousarray(x) if x.ndim else x
