"""Several tensors made one: grids, products and choices of their elements, blocks along a diagonal."""

from __future__ import annotations

from itertools import combinations as chosen
from itertools import combinations_with_replacement as chosen_again
from typing import Any

import numpy as np

from ..backend import get_default_dtype, int64, is_array, namespace
from ..op import result_type, unwrap, wrap
from ..tape import Traced
from . import arrange, index, join, pointwise, shape
from .dims import dimension, other_words

# --- at least so many dimensions --------------------------------------------------------------------------


def _each(tensors: tuple, function: Any) -> Any:
    """function of the one tensor, or of each of several or of a list."""
    if len(tensors) == 1 and not isinstance(tensors[0], (tuple, list)):
        return function(tensors[0])
    return tuple(map(function, tensors[0] if len(tensors) == 1 else tensors))


def atleast_1d(*tensors: Any) -> Any:
    """The tensors with 0-d ones as vectors of one element; a tuple unless one tensor was given."""
    return _each(tensors, lambda x: shape.reshape(x, (1,)) if x.ndim == 0 else x)


def atleast_2d(*tensors: Any) -> Any:
    """The tensors with vectors as matrices of one row; a tuple unless one tensor was given."""
    return _each(tensors, lambda x: shape.reshape(x, (1, *x.shape) if x.ndim else (1, 1)) if x.ndim < 2 else x)


def atleast_3d(*tensors: Any) -> Any:
    """The tensors with vectors as (1, n, 1) and matrices as (m, n, 1); a tuple unless one tensor was given."""
    size = {0: lambda n: (1, 1, 1), 1: lambda n: (1, *n, 1), 2: lambda n: (*n, 1)}
    return _each(tensors, lambda x: shape.reshape(x, size[x.ndim](x.shape)) if x.ndim < 3 else x)


# --- products and choices ---------------------------------------------------------------------------------


def cartesian_prod(*tensors: Any) -> Any:
    """All tuples of one element of each vector, in order, as rows; of one vector, itself. RuntimeError unless 1-d."""
    if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)):
        tensors = tuple(tensors[0])
    if not tensors or any(x.ndim != 1 for x in tensors):
        raise RuntimeError(f"cartesian_prod: wanted vectors, saw shapes {[tuple(x.shape) for x in tensors]}")
    if len(tensors) == 1:
        return tensors[0]
    return join.stack([shape.reshape(y, (-1,)) for y in join.meshgrid(*tensors)], 1)


@other_words
def combinations(x: Any, r: int = 2, with_replacement: bool = False) -> Any:
    """All choices of r elements of the vector x in the order of their places, as rows; with_replacement one may be
    chosen again. RuntimeError unless x is a vector and r is at least 0.
    """
    if x.ndim != 1:
        raise RuntimeError(f"combinations: wanted a vector, saw shape {tuple(x.shape)}")
    if r < 0:
        raise RuntimeError(f"combinations: wanted r of at least 0, saw {r}")
    if r == 0:
        return shape.narrow(x, 0, 0, 0)
    xp = namespace(unwrap(x))
    rows = list((chosen_again if with_replacement else chosen)(range(x.shape[0]), r))
    return index.index_get(x, (xp.asarray(np.asarray(rows, int64).reshape(-1, r)),))


def block_diag(*tensors: Any) -> Any:
    """The matrices one after the other along the diagonal of one that is zero elsewhere; vectors are rows.
    RuntimeError for more than two dimensions.
    """
    if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)):
        tensors = tuple(tensors[0])
    for x in tensors:
        if x.ndim > 2:
            raise RuntimeError(f"block_diag: wanted at most 2 dimensions, saw shape {tuple(x.shape)}")
    if not tensors:
        return wrap(np.empty((1, 0), get_default_dtype()))
    blocks = [atleast_2d(x) for x in tensors]
    dtype = result_type(*blocks)
    blocks = [b if b.dtype == dtype else pointwise.cast(b, dtype) for b in blocks]
    width, left, rows = sum(b.shape[1] for b in blocks), 0, []
    for b in blocks:
        n = b.shape[1]
        rows.append(arrange.constant_pad(b, (left, width - left - n)))
        left += n
    return join.cat(rows)


@other_words
def diagflat(x: Any, offset: int = 0) -> Any:
    """The matrix with the elements of x, taken as a vector, on a diagonal."""
    return arrange.diag_embed(shape.reshape(x, (-1,)), offset)


# --- places as coordinates --------------------------------------------------------------------------------


def unravel_index(indices: Any, shape: Any) -> tuple:
    """For places in a tensor of this shape taken as a vector, their coordinates: one tensor of int64 for each dimension.
    TypeError unless indices and sizes are whole numbers, ValueError for sizes below 0.
    """
    a = unwrap(indices)
    if not is_array(a) or a.dtype.kind not in "iu":
        raise TypeError(f"unravel_index: wanted a tensor of ints, saw {getattr(a, 'dtype', type(a).__name__)}")
    size = (shape,) if hasattr(shape, "__index__") else tuple(shape)
    for n in size:
        if not hasattr(n, "__index__"):
            raise TypeError(f"unravel_index: wanted a shape of ints, saw {size}")
    if any(n < 0 for n in size):
        raise ValueError(f"unravel_index: wanted a shape of sizes of at least 0, saw {size}")
    found, rest = [], a.astype(int64, copy=False)
    for n in reversed(size):
        found.append(rest % (n or 1))
        rest = rest // (n or 1)
    return tuple(wrap(v) if isinstance(indices, Traced) else v for v in reversed(found))


# --- splitting by dimension number ------------------------------------------------------------------------


def _split_along(name: str, x: Any, at: Any, dim: int, least: int) -> tuple:
    if x.ndim < least:
        raise RuntimeError(f"{name}: wanted {least} dimensions or more, saw shape {tuple(x.shape)}")
    if isinstance(at, Traced) or is_array(at):
        at = at.tolist()
    if not isinstance(at, (tuple, list)) and not hasattr(at, "__index__"):
        raise TypeError(f"{name}: wanted a number of parts or a list of places, saw {at!r}")
    if not isinstance(at, (tuple, list)) and (at < 1 or x.shape[dim] % at):
        raise RuntimeError(f"{name}: wanted a number of parts that divides {x.shape[dim]}, saw {at}")
    return join.tensor_split(x, at, dim)


def _sections(given: Any, indices: Any, sections: Any) -> Any:
    return next((v for v in (given, indices, sections) if v is not None), None)


def hsplit(input: Any, indices_or_sections: Any = None, *, indices: Any = None, sections: Any = None) -> tuple:
    """input along dimension 1, a vector along dimension 0, as views: equal parts, or cut before the given places.
    RuntimeError if the parts are not equal.
    """
    at = _sections(indices_or_sections, indices, sections)
    return _split_along("hsplit", input, at, 0 if input.ndim == 1 else 1, 1)


def vsplit(input: Any, indices_or_sections: Any = None, *, indices: Any = None, sections: Any = None) -> tuple:
    """input along dimension 0 as views: equal parts, or cut before the given places. RuntimeError if they are not equal."""
    return _split_along("vsplit", input, _sections(indices_or_sections, indices, sections), 0, 2)


def dsplit(input: Any, indices_or_sections: Any = None, *, indices: Any = None, sections: Any = None) -> tuple:
    """input along dimension 2 as views: equal parts, or cut before the given places. RuntimeError if they are not equal."""
    return _split_along("dsplit", input, _sections(indices_or_sections, indices, sections), 2, 3)


@other_words
def split_with_sizes(x: Any, split_sizes: Any, dim: int = 0) -> tuple:
    """Views of x along dim of the given sizes. RuntimeError if they do not add up to x's."""
    dimension("split_with_sizes", dim, x.ndim)
    return join.split(x, list(split_sizes), dim)


@other_words
def unsafe_split(x: Any, split_size: Any, dim: int = 0) -> tuple:
    """The parts of x along dim, as split gives them, each free to be written."""
    return tuple(map(shape.clone, join.split(x, split_size, dim)))


@other_words
def unsafe_split_with_sizes(x: Any, split_sizes: Any, dim: int = 0) -> tuple:
    """The parts of x along dim of the given sizes, each free to be written."""
    return tuple(map(shape.clone, join.split(x, list(split_sizes), dim)))


@other_words
def unsafe_chunk(x: Any, chunks: int, dim: int = 0) -> tuple:
    """x along dim in at most so many parts, as chunk gives them, each free to be written."""
    return tuple(map(shape.clone, join.chunk(x, chunks, dim)))


@other_words
def column_stack(tensors: Any) -> Any:
    """The tensors side by side along dimension 1; vectors are columns."""
    return join.hstack([shape.reshape(x, (-1, 1)) if x.ndim < 2 else x for x in join.joinable("column_stack", tensors)])


@other_words
def row_stack(tensors: Any) -> Any:
    """The tensors one below the other: vstack by another name."""
    return join.vstack(tensors)
