"""Elements in other places: flipped, rolled, repeated, padded, cut to triangles, along diagonals, in windows."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backend import is_array, namespace
from ..call import sampled
from ..cases import case
from ..op import op, unwrap
from . import index, join, reduce, shape
from .dims import dimension, dimensions, other_words
from .index import FULL
from .layout import alike

# --- flipped and rolled -------------------------------------------------------------------------------


@op(
    dx=lambda g, dims: flip(g, dims),
    cases=lambda r: [
        case(r(2, 3), 0),
        case(r(2, 3, 2), (0, -1)),
        case(r.strided(3, 2), (1,)),
        case(r(0, 2), (0,)),
        case(r(2), ()),
    ],
    reference=lambda torch, x, dims: torch.flip(x, dims if isinstance(dims, tuple) else (dims,)),
)
def flip(x, dims):
    """A copy of x with the order along dims, one dimension or several, reversed."""
    over = () if dims in ((), []) else dimensions("flip", dims, x.ndim)
    return x[tuple(slice(None, None, -1) if d in over else FULL for d in range(x.ndim))].copy("K")


def fliplr(x: Any) -> Any:
    """x with its columns, dimension 1, reversed. RuntimeError for fewer than two dimensions."""
    if x.ndim < 2:
        raise RuntimeError(f"fliplr: wanted 2 dimensions or more, saw shape {tuple(x.shape)}")
    return flip(x, 1)


def flipud(x: Any) -> Any:
    """x with its rows, dimension 0, reversed. RuntimeError for no dimensions."""
    if x.ndim < 1:
        raise RuntimeError("flipud: wanted 1 dimension or more, saw a 0-d tensor")
    return flip(x, 0)


@op(
    dx=lambda g, shifts, dims: roll(g, _negative(shifts) if isinstance(shifts, (tuple, list)) else -shifts, dims),
    cases=lambda r: [
        case(r(2, 3), 1),
        case(r(2, 3), 2, 1),
        case(r(2, 3, 4), (1, -2), (0, 2)),
        case(r.strided(3, 2), -7, 0),
        case(r(0, 2), 1, 0),
    ],
)
def roll(x, shifts, dims=None):
    """x with its elements moved on by shifts along dims, what falls off at one end coming in at the other;
    without dims, x as a vector is rolled. RuntimeError unless there are as many shifts as dims.
    """
    xp = namespace(x)
    many = isinstance(shifts, (tuple, list))
    if dims in (None, (), []):
        if many and len(shifts) != 1:
            raise RuntimeError(f"roll: wanted as many dims as shifts, saw {dims} and {shifts}")
        return xp.roll(x, shifts[0] if many else shifts)
    dims = dims if isinstance(dims, (tuple, list)) else (dims,)
    shifts = shifts if many else (shifts,)
    if len(dims) != len(shifts):
        raise RuntimeError(f"roll: wanted as many dims as shifts, saw {dims} and {shifts}")
    if not x.size:
        return x.copy()
    return xp.roll(x, tuple(shifts), tuple(dimension("roll", d, x.ndim) for d in dims))


def rot90(x: Any, k: int = 1, dims: Any = (0, 1)) -> Any:
    """x turned k times by 90 degrees in the plane of two dims, from the first towards the second."""
    if len(dims) != 2 or x.ndim < 2:
        raise RuntimeError(f"rot90: wanted two dims of a tensor that has them, saw {dims} of shape {tuple(x.shape)}")
    a, b = (dimension("rot90", d, x.ndim) for d in dims)
    if a == b:
        raise RuntimeError(f"rot90: wanted two different dims, saw {dims}")
    if k % 4 == 2:
        return flip(x, (a, b))
    if k % 4 == 0:
        return shape.clone(x)
    return shape.transpose(flip(x, b), a, b) if k % 4 == 1 else flip(shape.transpose(x, a, b), b)


# --- repeated -----------------------------------------------------------------------------------------


def _drepeat(g: Any, x_shape: tuple[int, ...], sizes: Any) -> Any:
    lead = len(sizes) - len(x_shape)
    full = (1,) * lead + tuple(x_shape)
    blocks = [v for pair in zip(sizes, full, strict=True) for v in pair]
    g = reduce.sum(shape.reshape(g, tuple(blocks)), tuple(range(0, len(blocks), 2))) if sizes else g
    return shape.reshape(g, x_shape)


@op(
    dx=_drepeat,
    cases=lambda r: [
        case(r(2, 3), (2, 1)),
        case(r(3), (2, 2)),
        case(r.strided(2, 2), (1, 3, 2)),
        case(r(), (3,)),
        case(r(2), (0,)),
        case(r(), ()),
    ],
    reference="Tensor.repeat",
)
def repeat(x, sizes):
    """Copies of x laid side by side, sizes[d] of them along dimension d; more sizes than dimensions add some in front.
    RuntimeError for fewer sizes than dimensions or negative ones.
    """
    if len(sizes) < x.ndim or min(sizes, default=0) < 0:
        raise RuntimeError(f"repeat: wanted {x.ndim} sizes or more, none below 0, saw {tuple(sizes)}")
    return namespace(x).tile(x, tuple(sizes))


def tile(x: Any, dims: Any) -> Any:
    """Copies of x laid side by side, dims[d] of them along dimension d; missing ones are 1, counted from the back."""
    return repeat(x, (1,) * (x.ndim - len(dims)) + tuple(dims))


@sampled("repeats")
@other_words
def repeat_interleave(x: Any, repeats: Any = None, dim: int | None = None, *, output_size: int | None = None) -> Any:
    """Each element along dim (of x as a vector, without) repeated in place: as often as a number or a vector says.
    Of repeats alone, 0, 1, ... each as often as they say. output_size says how many slices there will be, and is not needed.
    RuntimeError unless the vector has as many elements as there are slices.
    """
    if repeats is None:
        x, repeats = index.wrapped_like(x, namespace(unwrap(x)).arange(len(x))), x
        if unwrap(repeats).dtype.kind not in "iu":
            raise NotImplementedError(f"repeat_interleave: wanted repeats that are ints, saw {repeats.dtype}")
    if dim is None:
        x, dim = shape.reshape(x, (-1,)), 0
    if x.ndim == 0:
        x = shape.reshape(x, (1,))
    d = dimension("repeat_interleave", dim, x.ndim)
    n, times = x.shape[d], unwrap(repeats)
    if is_array(times) and (times.dtype.kind not in "iu" or times.ndim > 1):
        raise RuntimeError(f"repeat_interleave: wanted a vector of ints, saw {times.dtype} {tuple(times.shape)}")
    if is_array(times) and times.size == 1:
        times = int(times.reshape(()))
    if (namespace(times) is np and times.size and times.min() < 0) if is_array(times) else np.min(times, initial=0) < 0:
        raise RuntimeError(f"repeat_interleave: wanted repeats of at least 0, saw {times}")
    if not is_array(times) and not isinstance(times, (list, tuple)):
        x = shape.expand(shape.unsqueeze(x, d + 1), (*x.shape[: d + 1], times, *x.shape[d + 1 :]))
        return shape.reshape(x, (*x.shape[:d], n * times, *x.shape[d + 2 :]))
    times = np.asarray(namespace(times).asnumpy(times) if is_array(times) and namespace(times) is not np else times)
    if times.shape != (n,):
        raise RuntimeError(f"repeat_interleave: wanted {n} repeats, saw shape {times.shape}")
    places = namespace(unwrap(x)).asarray(np.repeat(np.arange(n), times))
    return index.index_get(x, (FULL,) * d + (places,))


# --- padded -------------------------------------------------------------------------------------------


def _negative(pad: Any) -> tuple[int, ...]:
    return tuple(-p for p in pad)


@op(
    name="pad",
    dx=lambda g, pad: constant_pad(g, _negative(pad)),
    cases=lambda r: [
        case(r(2, 3), (1, 2)),
        case(r(2, 3), (1, 0, 0, 2), 0.5),
        case(r(2, 4, 5), (-1, 2, 1, -2)),
        case(r.strided(3, 2), (0, 0, 2, 2)),
        case(r(0, 2), (0, 1, 1, 1)),
        case(r(2), ()),
        case(r(3), (-2, -1)),
    ],
    reference=lambda torch, x, pad, value=0.0: torch.nn.functional.pad(x, pad, value=value),
)
def constant_pad(x, pad, value=0.0):
    """x with pad = (left, right, top, bottom, ...) places of `value` around it, from the last dimension on; negative
    ones crop. RuntimeError for an odd count, too many pairs, or more cropped than there is.
    """
    if len(pad) % 2 or len(pad) > 2 * x.ndim:
        raise RuntimeError(f"pad: wanted at most {x.ndim} pairs, saw {tuple(pad)}")
    sides = [(0, 0)] * x.ndim
    for k in range(len(pad) // 2):
        sides[x.ndim - 1 - k] = (pad[2 * k], pad[2 * k + 1])
    size = tuple(n + a + b for n, (a, b) in zip(x.shape, sides, strict=True))
    if min(size, default=0) < 0:
        raise RuntimeError(f"pad: wanted to crop at most what there is, saw shape {x.shape} and pad {tuple(pad)}")
    xp = namespace(x)
    y = alike(x, lambda size: xp.full(size, value, x.dtype), size)
    inner = tuple(slice(max(a, 0), max(s - b, 0) if b > 0 else None) for s, (a, b) in zip(size, sides, strict=True))
    source = tuple(slice(max(-a, 0), n + b if b < 0 else None) for n, (a, b) in zip(x.shape, sides, strict=True))
    if y.size and x.size:
        y[(*inner, ...)] = x[source]
    return y


def _edges(mode: str, x: Any, d: int, left: int, right: int) -> Any:
    """x with `left` and `right` places of its own elements beyond the ends of dimension d."""
    if mode == "circular" and min(left, right) < 0:  # cropped first, and goes on with what is left
        x = shape.narrow(x, d, max(-left, 0), x.shape[d] - max(-left, 0) - max(-right, 0))
        left, right = max(left, 0), max(right, 0)
        if not left and not right:
            return x
    n = x.shape[d]
    most = {"reflect": n - 1, "circular": n}.get(mode, max(left, right))
    if max(left, right) > most or not n:
        raise RuntimeError(f"pad: wanted {mode} pads that x of shape {tuple(x.shape)} can fill, saw {(left, right)}")
    parts = [x]
    if mode == "replicate":
        size = list(x.shape)
        size[d] = left
        before = shape.expand(shape.narrow(x, d, 0, 1), size) if left > 0 else None
        size[d] = right
        after = shape.expand(shape.narrow(x, d, n - 1, 1), size) if right > 0 else None
    elif mode == "reflect":
        before = flip(shape.narrow(x, d, 1, left), d) if left > 0 else None
        after = flip(shape.narrow(x, d, n - 1 - right, right), d) if right > 0 else None
    else:
        before = shape.narrow(x, d, n - left, left) if left > 0 else None
        after = shape.narrow(x, d, 0, right) if right > 0 else None
    parts = [p for p in (before, x, after) if p is not None]
    y = join.cat(parts, d) if len(parts) > 1 else x
    cut = max(-left, 0), max(-right, 0)
    return shape.narrow(y, d, cut[0], y.shape[d] - sum(cut)) if any(cut) else y


@other_words
def constant_pad_nd(x: Any, pad: Any, value: float = 0.0) -> Any:
    """pad with a value, by another name."""
    return constant_pad(x, tuple(int(p) for p in pad), value)


def pad(x: Any, pad: Any, mode: str = "constant", value: float | None = None) -> Any:
    """x with pad = (left, right, top, bottom, ...) places around it, from the last dimension on; negative ones crop.

    mode "constant" fills with value, "reflect" mirrors without the edge, "replicate" repeats the edge, "circular" goes
    on at the other end. RuntimeError for pads that do not fit, NotImplementedError for another mode.
    """
    pad = tuple(int(p) for p in pad)
    if mode == "constant":
        return constant_pad(x, pad, 0.0 if value is None else value)
    if mode not in ("reflect", "replicate", "circular"):
        raise NotImplementedError(f"pad: wanted mode constant, reflect, replicate or circular, saw {mode!r}")
    if value is not None or len(pad) % 2 or len(pad) > 2 * x.ndim:
        raise RuntimeError(f"pad: wanted at most {x.ndim} pairs and no value, saw {pad} and {value}")
    for k in range(len(pad) // 2):
        if pad[2 * k] or pad[2 * k + 1]:
            x = _edges(mode, x, x.ndim - 1 - k, pad[2 * k], pad[2 * k + 1])
    return x


# --- triangles and diagonals ----------------------------------------------------------------------------


def _triangle(name: str, x: Any, diagonal: int, lower: bool) -> Any:
    if x.ndim < 2:
        raise RuntimeError(f"{name}: wanted 2 dimensions or more, saw shape {x.shape}")
    xp = namespace(x)
    mask = xp.tri(x.shape[-2], x.shape[-1], diagonal if lower else diagonal - 1, dtype=bool)
    y = xp.zeros(x.shape, x.dtype)
    xp.copyto(y, x, where=mask if lower else ~mask)
    return y


def _triangle_cases(r: Any) -> list[case]:
    more = [case(r(0, 3)), case(r(2, 2), 5), case(r(2, 2), -5)]
    return [case(r(3, 3)), case(r(2, 3, 4), 1), case(r.strided(4, 3), -1), *more]


@op(dx=lambda g, diagonal: tril(g, diagonal), cases=_triangle_cases)
def tril(x, diagonal=0):
    """The lower triangles of the matrices in x, else zero: what lies on and below a diagonal, 0 being the main one."""
    return _triangle("tril", x, diagonal, lower=True)


@op(dx=lambda g, diagonal: triu(g, diagonal), cases=_triangle_cases)
def triu(x, diagonal=0):
    """The upper triangles of the matrices in x, else zero: what lies on and above a diagonal, 0 being the main one."""
    return _triangle("triu", x, diagonal, lower=False)


def _plane(name: str, ndim: int, dim1: int, dim2: int) -> tuple[int, int]:
    a, b = dimension(name, dim1, ndim), dimension(name, dim2, ndim)
    if a == b or ndim < 2:
        raise RuntimeError(f"{name}: wanted two different dims, saw {dim1} and {dim2} of {ndim}")
    return a, b


@op(
    dx=lambda g, x_shape, offset, dim1, dim2: diagonal_backward(g, x_shape, offset, dim1, dim2),
    view=True,
    cases=lambda r: [
        case(r(3, 3)),
        case(r(3, 4), 1),
        case(r(4, 3), -2),
        case(r(2, 3, 4), 0, -1, 0),
        case(r.strided(3, 3)),
        case(r(2, 2), 2),
        case(r(0, 3)),
    ],
)
def diagonal(x, offset=0, dim1=0, dim2=1):
    """The diagonals of the planes of two dims, as a new last dimension: y[..., i] = x[..., i, i + offset]. A view."""
    a, b = _plane("diagonal", x.ndim, dim1, dim2)
    at = [FULL] * x.ndim
    at[a], at[b] = slice(max(-offset, 0), None), slice(max(offset, 0), None)
    x = x[tuple(at)]
    rest = [d for d in range(x.ndim) if d not in (a, b)]
    size = (*(x.shape[d] for d in rest), min(x.shape[a], x.shape[b]))
    steps = (*(x.strides[d] for d in rest), x.strides[a] + x.strides[b])
    return namespace(x).lib.stride_tricks.as_strided(x, size, steps)  # NumPy's own diagonal may not be written


@op(
    dg=lambda gg, offset, dim1, dim2: diagonal(gg, offset, dim1, dim2),
    cases=lambda r: [case(r(3), (3, 3)), case(r(2, 2), (3, 2, 3), 1, 0, 2), case(r(2), (4, 3), -2)],
    reference=lambda torch, g, shape, offset=0, dim1=0, dim2=1: torch.diagonal_scatter(
        g.new_zeros(shape), g, offset, dim1, dim2
    ),
)
def diagonal_backward(g, shape, offset=0, dim1=0, dim2=1):
    """Zeros of `shape` with g on the diagonal: the gradient of diagonal."""
    y = namespace(g).zeros(shape, g.dtype)
    diagonal(y, offset, dim1, dim2)[...] = g
    return y


def diag_embed(x: Any, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Any:
    """Planes with the last dimension of x on their diagonals, else zero; dim1 and dim2 are where their dims stand."""
    a, b = _plane("diag_embed", x.ndim + 1, dim1, dim2)
    n = x.shape[-1] + abs(offset)
    size = list(x.shape[:-1])
    for d in sorted((a, b)):
        size.insert(d, n)
    return diagonal_backward(x, tuple(size), offset, a, b)


@other_words
def diag(x: Any, diagonal: int = 0) -> Any:
    """The matrix with the vector x on a diagonal, or a copy of a diagonal of the matrix x."""
    if x.ndim not in (1, 2):
        raise RuntimeError(f"diag: wanted a vector or a matrix, saw shape {tuple(x.shape)}")
    return diag_embed(x, diagonal) if x.ndim == 1 else shape.clone(_diagonal(x, diagonal))


_diagonal = diagonal  # diag has an argument of that name, as in PyTorch


# --- windows ------------------------------------------------------------------------------------------


@op(
    dx=lambda g, x_shape, dimension, size, step: unfold_backward(g, x_shape, dimension, size, step),
    view=True,
    cases=lambda r: [
        case(r(7), 0, 3, 2),
        case(r(2, 6, 2), 1, 2, 1),
        case(r.strided(5, 3), -2, 2, 3),
        case(r(4), 0, 4, 1),
        case(r(3), 0, 0, 1),
        case(r(), 0, 1, 1),
    ],
    reference="Tensor.unfold",
)
def unfold(x, dimension, size, step):
    """Windows of `size` along a dimension, every `step`, as a new last dimension: y[i, ..., j] = x[i step + j, ...].
    A view. RuntimeError for a size beyond the dimension's or a step below 1.
    """
    d = _dimension("unfold", dimension, x.ndim)
    n = x.shape[d] if x.ndim else 1
    if not 0 <= size <= n or step < 1:
        raise RuntimeError(f"unfold: wanted a size of at most {n} and a step above 0, saw {size} and {step}")
    if not x.ndim:
        return x.reshape(1)[:size]
    return namespace(x).lib.stride_tricks.as_strided(
        x,
        (*x.shape[:d], (n - size) // step + 1, *x.shape[d + 1 :], size),
        (*x.strides[:d], x.strides[d] * step, *x.strides[d + 1 :], x.strides[d]),
    )


@op(
    dg=lambda gg, dimension, size, step: unfold(gg, dimension, size, step),
    cases=lambda r: [
        case(r(3, 3), (7,), 0, 3, 2),
        case(r(2, 5, 2, 2), (2, 6, 2), 1, 2, 1),
        case(r(2, 2), (6,), 0, 2, 4),
    ],
    reference=lambda torch, g, shape, d, size, step: torch.ops.aten.unfold_backward(g, shape, d, size, step),
)
def unfold_backward(g, shape, dimension, size, step):
    """Zeros of `shape` to which every window's elements are added where they came from: the gradient of unfold."""
    y = namespace(g).zeros(shape, reduce.wide(g.dtype))
    if not shape:
        return y + g.sum(dtype=y.dtype).astype(g.dtype) if g.size else y.astype(g.dtype)
    d = _dimension("unfold", dimension, len(shape))
    count = g.shape[d]
    for j in range(size):
        y[(FULL,) * d + (slice(j, j + step * (count - 1) + 1, step),)] += g[..., j]
    return y.astype(g.dtype, copy=False)


_dimension = dimension  # unfold has an argument of that name, as in PyTorch
