"""Views by strides, and copies in which what a view sees is something else."""

from __future__ import annotations

from typing import Any

from ..backend import int64, namespace, on_card
from ..call import sampled
from ..cases import case
from ..op import op, unwrap
from ..tape import Traced
from . import arrange as arranged
from . import index, pointwise, shape
from .dims import dimension, other_words

# --- memory ---------------------------------------------------------------------------------------------


def whole(x: Any) -> Any:
    """The array that has all the memory which a tensor or array sees a part of: its storage."""
    if not isinstance(x, Traced):
        return _owner(x)
    while x.source is not None:
        x = x.source.base
    return x.array if x.whole is None else x.whole


def _owner(a: Any) -> Any:
    """The first array on the way down from an array to its memory that lies in it without gaps."""
    found = a
    while getattr(a, "base", None) is not None:
        a = a.base
        if type(a) is type(found) and a.dtype == found.dtype:
            found = a
    return found


def _address(a: Any) -> int:
    return a.data.ptr if on_card(a) else a.__array_interface__["data"][0]


def bounds(a: Any) -> tuple[int, int]:
    """The first byte of an array's elements and the one behind its last."""
    if not a.size:
        return _address(a), _address(a)
    low = high = _address(a)
    for step, n in zip(a.strides, a.shape, strict=True):
        low, high = (low, high + step * (n - 1)) if step > 0 else (low + step * (n - 1), high)
    return low, high + a.itemsize


def storage_offset(x: Any) -> int:
    """How many elements lie in a tensor's memory before its first."""
    a = unwrap(x)
    return (_address(a) - bounds(whole(x))[0]) // a.itemsize if a.size else 0


def steps_of(a: Any) -> tuple[int, ...]:
    """An array's strides in elements."""
    return tuple(s // a.itemsize for s in a.strides)


def positions(xp: Any, size: Any, steps: Any, start: int = 0) -> Any:
    """Where in memory the elements of such a shape and such strides lie, in C order."""
    at = xp.full((), start, int64)
    for n, step in zip(size, steps, strict=True):
        at = at[..., None] + xp.arange(n, dtype=int64) * step
    return at.reshape(-1)


# --- as_strided -------------------------------------------------------------------------------------------


def _together(xp: Any, x_shape: Any, own: Any, size: Any, stride: Any, start: int) -> tuple[Any, Any, int]:
    """The places of the elements of x and of a view by strides, counted from the lowest, and how many places there are."""
    here, there = positions(xp, x_shape, own), positions(xp, size, stride, start)
    both = xp.concatenate([here, there])
    if not both.size:
        return here, there, 0
    low = int(both.min())
    return here - low, there - low, int(both.max()) - low + 1


def _dstrided(g: Any, x_shape: Any, size: Any, stride: Any, start: int, own: Any) -> Any:
    """The gradient by memory: what the view's elements have is added up where they lie and read where x's elements do;
    elements of x in one place share it.
    """
    xp = namespace(unwrap(g))
    here, there, n = _together(xp, x_shape, own, size, stride, start)
    y = index.index_get(index.segment_sum(shape.reshape(g, (-1,)), there, n), (here,))
    sharing = xp.bincount(here, minlength=n)[here]
    if here.size and int(sharing.max()) > 1:
        y = y / sharing.astype(unwrap(g).real.dtype)
    return shape.reshape(y, x_shape)


@op(
    name="as_strided",
    dx=_dstrided,
    view=True,
    cases=lambda r: [
        case(r(7), (3, 2), (2, 1), 1, (1,)),
        case(r(3, 4), (2, 2), (4, 2), 0, (4, 1)),
        case(r(5), (3, 3), (1, 1), 0, (1,)),
        case(r(4), (), (), 2, (1,)),
        case(r(4), (0, 2), (1, 1), 0, (1,)),
    ],
    reference=lambda torch, x, size, stride, start, own: torch.as_strided(x, size, stride, start),
)
def by_strides(x, size, stride, start, own):
    """The memory of x as `size` and `stride`, in elements, from `start` elements behind x's first: a view.
    own is the strides that x has, or, of a gradient, that it stands for. RuntimeError beyond the memory.
    """
    if any(a != b for a, b, n in zip(steps_of(x), own, x.shape, strict=True) if n > 1):
        x = index.laid_out(x, own)
    xp, item = namespace(x), x.itemsize
    if 0 in size:
        return xp.empty(size, x.dtype)
    first = _address(x) + start * item
    last = first + sum(s * (n - 1) for n, s in zip(size, stride, strict=True)) * item
    low, high = (x.data.mem.ptr, x.data.mem.ptr + x.data.mem.size) if on_card(x) else bounds(_owner(x))
    if first < low or last + item > high:
        wanted, there = (last + item - low) // item, (high - low) // item
        raise RuntimeError(f"as_strided: wanted memory for {wanted} elements from the first, saw {there}")
    as_strided = xp.lib.stride_tricks.as_strided
    x = as_strided(x, (2,), (start * item,))[1:]  # a view that begins elsewhere, before x too
    return as_strided(x, tuple(size), tuple(s * item for s in stride))


def _strides(name: str, x: Any, size: Any, stride: Any, storage_offset: int | None) -> tuple:
    """(size, stride, start behind x's first element, x's own strides), checked."""
    size, stride = tuple(int(n) for n in size), tuple(int(n) for n in stride)
    if len(size) != len(stride):
        raise RuntimeError(f"{name}: wanted as many strides as sizes, saw {size} and {stride}")
    if any(n < 0 for n in (*size, *stride)) or (storage_offset is not None and storage_offset < 0):
        raise RuntimeError(f"{name}: wanted no number below 0, saw {size}, {stride} and {storage_offset}")
    start = 0 if storage_offset is None else int(storage_offset) - here(x)
    return size, stride, start, steps_of(unwrap(x))


here = storage_offset  # the functions below have an argument of that name, as in PyTorch


@other_words
def as_strided(x: Any, size: Any, stride: Any, storage_offset: int | None = None) -> Any:
    """The memory of x seen with another size and other strides, in elements, from storage_offset on: a view.
    RuntimeError beyond the memory or for numbers below 0.
    """
    return by_strides(x, *_strides("as_strided", x, size, stride, storage_offset))


@other_words
def as_strided_scatter(x: Any, src: Any, size: Any, stride: Any, storage_offset: int | None = None) -> Any:
    """A copy of x in which src stands where as_strided would look. RuntimeError unless src has that size."""
    size, stride, start, own = _strides("as_strided_scatter", x, size, stride, storage_offset)
    by_strides.op.definition(unwrap(x), size, stride, start, own)  # which looks at the bounds
    if tuple(src.shape) != size:
        raise RuntimeError(f"as_strided_scatter: wanted a source of shape {size}, saw {tuple(src.shape)}")
    xp = namespace(unwrap(x))
    here, there, n = _together(xp, tuple(x.shape), own, size, stride, start)
    element = xp.full(n, -1, int64)
    element[here] = xp.arange(here.size)
    to = element[there]
    into = xp.flatnonzero(to >= 0)  # what lies outside x is not x's
    flat = index.index_put(shape.reshape(x, (-1,)), (to[into],), index.index_get(shape.reshape(src, (-1,)), (into,)))
    return shape.reshape(flat, tuple(x.shape))


# --- a view's part replaced -----------------------------------------------------------------------------


def _replaced(name: str, x: Any, src: Any, way: Any, args: tuple) -> Any:
    """A copy of x in which the view way(x, *args) is src."""
    want = way.op.definition(unwrap(x), *args).shape
    if tuple(src.shape) != want:
        raise RuntimeError(f"{name}: wanted a source of shape {want}, saw {tuple(src.shape)}")
    return index.view_write(x, src if src.dtype == x.dtype else pointwise.cast(src, x.dtype), (way.op, args))


@other_words
def select_scatter(x: Any, src: Any, dim: int, index: int) -> Any:
    """A copy of x whose slice at one place of dimension dim is src. RuntimeError unless src has the slice's shape."""
    d = dimension("select_scatter", dim, x.ndim)
    if x.ndim == 0 or not -x.shape[d] <= index < x.shape[d]:
        raise IndexError(f"select_scatter: wanted an index of dimension {dim} of shape {tuple(x.shape)}, saw {index}")
    return _replaced("select_scatter", x, src, cut, ((slice(None),) * d + (int(index), ...),))


cut = index.slice_  # select_scatter has an argument named index


@other_words
def slice_scatter(x: Any, src: Any, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Any:
    """A copy of x whose places start, start + step, ... before end of dimension dim are src.
    RuntimeError unless src has the slice's shape and the step is above zero.
    """
    d = dimension("slice_scatter", dim, x.ndim)
    if step < 1:
        raise RuntimeError(f"slice_scatter: wanted a step above zero, saw {step}")
    return _replaced("slice_scatter", x, src, cut, ((slice(None),) * d + (slice(start, end, step), ...),))


@sampled()
@other_words
def diagonal_scatter(x: Any, src: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    """A copy of x whose diagonal in the plane of two dims is src. RuntimeError unless src has the diagonal's shape."""
    return _replaced("diagonal_scatter", x, src, arranged.diagonal, (offset, dim1, dim2))


# --- what the views show, in memory of its own --------------------------------------------------------------


def _copied(name: str, view: Any) -> Any:
    def copy(input: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            y = view(input, *args, **kwargs)
        except (RuntimeError, IndexError) as e:
            # PyTorch has a RuntimeError for a dimension of narrow_copy beyond the last
            late = name == "narrow_copy" and "a dimension in" in str(e) and "saw -" not in str(e)
            kind = RuntimeError if late else type(e)
            raise kind(f"{name}: {str(e).partition(': ')[2]}") from None
        return tuple(map(shape.clone, y)) if isinstance(y, tuple) else shape.clone(y)

    copy.__name__ = copy.__qualname__ = name
    copy.__doc__ = f"What {name.removesuffix('_copy')} shows of input, in memory of its own."
    return other_words(copy)


def slice_of(input: Any, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Any:
    """The places start, start + step, ... before end of dimension dim: a view."""
    d = dimension("slice", dim, input.ndim)
    if step < 1:
        raise RuntimeError(f"slice: wanted a step above zero, saw {step}")
    return index.slice_(input, (slice(None),) * d + (slice(start, end, step), ...))


def expand_to(input: Any, size: Any, *, implicit: bool = False) -> Any:
    """input expanded to a size, whatever a tracer calls it."""
    return shape.expand(input, tuple(size))


def bits_or_shape(input: Any, size: Any) -> Any:
    """The view of input as another shape, or of its bits as another dtype."""
    return input.view(size)


alias_copy = _copied("alias_copy", lambda x: x)
detach_copy = _copied("detach_copy", lambda x: x.detach() if isinstance(x, Traced) else x)  # type: ignore[attr-defined]
as_strided_copy = _copied("as_strided_copy", as_strided)
diagonal_copy = _copied("diagonal_copy", arranged.diagonal)
expand_copy = _copied("expand_copy", expand_to)
narrow_copy = _copied("narrow_copy", shape.narrow)
permute_copy = _copied("permute_copy", shape.permute)
select_copy = _copied("select_copy", shape.select)
slice_copy = _copied("slice_copy", slice_of)
split_copy = _copied("split_copy", shape.split)
split_with_sizes_copy = _copied("split_with_sizes_copy", shape.split)
squeeze_copy = _copied("squeeze_copy", shape.squeeze)
t_copy = _copied("t_copy", shape.t)
transpose_copy = _copied("transpose_copy", shape.transpose)
unbind_copy = _copied("unbind_copy", shape.unbind)
unfold_copy = _copied("unfold_copy", arranged.unfold)
unsqueeze_copy = _copied("unsqueeze_copy", shape.unsqueeze)
view_copy = _copied("view_copy", bits_or_shape)

