"""Sampling an image where a grid says, and the grids of affine maps (Jaderberg et al., arXiv:1506.02025)."""

from __future__ import annotations

import warnings
from math import prod
from typing import Any

import numpy as np

from ..backend import is_floating, namespace
from ..call import sampled
from ..cases import case
from ..op import op, unwrap, wrap
from ..tape import Traced
from . import join, linalg, pointwise, shape
from .taps import tap_sum

MODES, PADDINGS = ("bilinear", "nearest", "bicubic"), ("zeros", "border", "reflection")
FAR = 2**31 - 2  # beyond this, and where there is no number, nothing is seen


@op(
    dx=lambda g, slope: g * slope,
    cases=lambda r: [case(r(3), r(3), r(3), grad=False), case(r(0), r(0), r(0), grad=False)],
    reference=None,
)
def bent(x, y, slope):
    """y, as a function of x whose derivative is known to be slope."""
    return y + 0


def _like(array: Any, x: Any) -> Any:
    return wrap(array) if isinstance(x, Traced) else array


def _fused(a: Any, b: Any, c: float) -> Any:
    """a b + c, rounded once, for small whole numbers b: as PyTorch's compiler has it, and which pixel a place on the
    border between two belongs to hangs on that.
    """
    if a.dtype == np.float32:
        return (a.astype(np.float64) * b + c).astype(np.float32)
    head = a * 134217729.0  # the upper half of the digits (Veltkamp): head b + c and the rest times b are exact
    head = head - (head - a)
    return (head * b + c) + (a - head) * b


def _elements(v: Any, n: int, aligned: bool) -> Any:
    """Places from -1 to 1 along a dim as elements, from 0 to n - 1 or, not aligned, from -1/2 to n - 1/2."""
    if aligned:
        return (v + 1) * ((n - 1) / 2)
    with np.errstate(invalid="ignore", over="ignore"):
        value = _fused(unwrap(v) + 1, n, -1.0) / 2
    return bent(v, _like(value, v), n / 2)


def _reflect(u: Any, low: float, high: float) -> tuple[Any, Any]:
    """(u reflected between low / 2 and high / 2 until it lies between them, the slope of that)."""
    xp = namespace(u)
    if low == high:
        return xp.zeros_like(u), xp.zeros_like(u)
    least, span = low / 2, (high - low) / 2
    sign = xp.where(u < least, -1, 1).astype(u.dtype)
    way = xp.abs(u - least)
    rest, flips = xp.fmod(way, span), xp.floor(way / span)
    even = xp.fmod(flips, 2) == 0
    return xp.where(even, rest + least, span - rest + least).astype(u.dtype), xp.where(even, sign, -sign)


def _reflected(u: Any, n: int, aligned: bool) -> tuple[Any, Any]:
    return _reflect(u, 0, 2 * (n - 1)) if aligned else _reflect(u, -1, 2 * n - 1)


def _padded(u: Any, n: int, padding: str, aligned: bool) -> Any:
    """Coordinates u brought into 0 .. n - 1 by the padding; u is a Tensor or an array."""
    if padding == "zeros":
        return u
    v = unwrap(u)
    xp = namespace(v)
    slope = xp.ones_like(v)
    if padding == "reflection":
        v, slope = _reflected(v, n, aligned)
    slope = slope * ((v > 0) & (v < n - 1))
    return bent(u, _like(xp.clip(v, 0, n - 1).astype(v.dtype), u), _like(slope, u))


def _floor(u: Any) -> Any:
    """floor(u) as whole numbers, far outside where u is too large or no number."""
    xp, v = namespace(unwrap(u)), unwrap(u)
    near = xp.abs(v) < FAR  # False for what is no number
    return xp.where(near, xp.floor(xp.where(near, v, 0)), -100).astype(np.int64)


def _axis(u: Any, n: int, mode: str, padding: str, aligned: bool) -> tuple[list[Any], list[Any] | None]:
    """(places along one dim, their weights or None for a weight of 1) for coordinates u in elements."""
    xp = namespace(unwrap(u))
    if mode == "nearest":
        v = unwrap(_padded(u, n, padding, aligned))
        return [_inside(_floor(xp.rint(v)), n)], None
    if mode == "bilinear":
        u = _padded(u, n, padding, aligned)
        low = _floor(u)
        t = u - _like(low.astype(unwrap(u).dtype), u)
        return [_inside(low, n), _inside(low + 1, n)], [1 - t, t]
    low = _floor(u)
    t = u - _like(low.astype(unwrap(u).dtype), u)
    a = -0.75  # Keys's kernel (1981) with the slope that PyTorch takes

    def near(d: Any) -> Any:
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def far(d: Any) -> Any:
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    places = [low + k for k in (-1, 0, 1, 2)]
    if padding == "reflection":
        places = [_reflected(p.astype(np.float64), n, aligned)[0].astype(np.int64) for p in places]
    if padding != "zeros":
        places = [xp.clip(p, 0, n - 1) for p in places]
    return [_inside(p, n) for p in places], [far(t + 1), near(t), near(1 - t), far(2 - t)]


def _inside(place: Any, n: int) -> Any:
    return namespace(place).where((place >= 0) & (place < n), place, -1)


def _check(x: Any, grid: Any, mode: str) -> int:
    """The number of spatial dims; RuntimeError for shapes and dtypes that do not fit."""
    rank = x.ndim - 2
    if rank not in (2, 3) or grid.ndim != x.ndim or grid.shape[-1] != rank or grid.shape[0] != x.shape[0]:
        raise RuntimeError(
            "grid_sample: wanted an input (n, c, h, w) and a grid (n, oh, ow, 2), or both with a dim more, "
            f"saw {tuple(x.shape)} and {tuple(grid.shape)}"
        )
    if x.dtype != grid.dtype or not is_floating(x.dtype):
        raise RuntimeError(
            f"grid_sample: wanted an input and a grid of one floating dtype, saw {x.dtype} and {grid.dtype}"
        )
    if min(x.shape[2:]) < 1:
        raise RuntimeError(f"grid_sample: wanted sizes above zero, saw an input {tuple(x.shape)}")
    if mode == "bicubic" and rank == 3:
        raise RuntimeError("grid_sample: wanted an input of 4 dims with 'bicubic', saw 5")
    return rank


@sampled()
def grid_sample(
    input: Any, grid: Any, mode: str = "bilinear", padding_mode: str = "zeros", align_corners: bool | None = None
) -> Any:
    """y[n, c, o] = the input (n, c, h, w) or (n, c, d, h, w) at the place grid[n, o]: (x, y) or (x, y, z), from -1 to 1.

    mode           bilinear (of 5-d input trilinear), nearest, bicubic
    padding_mode   what lies outside: zeros, the border's values, or the image reflected
    align_corners  -1 and 1 are the centres of the first and last pixel, else their outer edges
    ValueError for other modes, RuntimeError for shapes and dtypes that do not fit.
    """
    if mode not in MODES:
        raise ValueError(f"grid_sample: wanted mode {', '.join(MODES)}, saw {mode!r}")
    if padding_mode not in PADDINGS:
        raise ValueError(f"grid_sample: wanted padding_mode {', '.join(PADDINGS)}, saw {padding_mode!r}")
    if align_corners is None:
        warnings.warn("grid_sample: align_corners is False unless given", stacklevel=2)
    aligned, rank = bool(align_corners), _check(input, grid, mode)
    dtype, sizes = input.dtype, tuple(input.shape[2:])
    if dtype.itemsize == 2:
        input, grid = (pointwise.cast(v, np.dtype(np.float32)) for v in (input, grid))
    (n, c), outs = input.shape[:2], tuple(grid.shape[1:-1])
    grid = shape.reshape(grid, (n, prod(outs), rank))
    at: Any = 0
    w: Any = None
    for d, size in enumerate(sizes):
        u = _elements(shape.select(grid, -1, rank - 1 - d), size, aligned)
        places, weights = _axis(u, size, mode, padding_mode, aligned)
        xp = namespace(places[0])
        here = xp.stack(places, 1)
        if d:
            before, here = at[:, :, None], here[:, None]
            outside = (before < 0) | (here < 0)
            at = before * size + here
            at[outside] = -1
            at = at.reshape(n, outside.shape[1] * outside.shape[2], prod(outs))
        else:
            at = here
        if weights is None:
            continue
        part = join.stack(weights, 1)
        w = part if w is None else shape.reshape(shape.unsqueeze(w, 2) * shape.unsqueeze(part, 1), tuple(at.shape))
    if w is None:
        w = _like(namespace(at).ones(at.shape, input.dtype), input)
    y = tap_sum(shape.reshape(input, (n, c, prod(sizes))), w, _like(at, input))
    y = shape.reshape(y, (n, c, *outs))
    return y if y.dtype == dtype else pointwise.cast(y, dtype)


def grid_sampler(input: Any, grid: Any, interpolation_mode: int, padding_mode: int, align_corners: bool) -> Any:
    """grid_sample with modes by number: 0 bilinear, 1 nearest, 2 bicubic; 0 zeros, 1 border, 2 reflection."""
    return grid_sample(input, grid, MODES[interpolation_mode], PADDINGS[padding_mode], bool(align_corners))


grid_sampler_2d = grid_sampler_3d = grid_sampler


def _line(xp: Any, n: int, dtype: Any) -> Any:
    """n numbers from -1 to 1, counted from both ends as PyTorch does; 0 for one."""
    if n == 1:
        return xp.zeros(1, dtype)
    step, i = xp.full(n, 2 / (n - 1), np.float64).astype(dtype), xp.arange(n)
    return xp.where(i < n // 2, _fused(step, i, -1.0), _fused(-step, n - 1 - i, 1.0)).astype(dtype)


def affine_grid(theta: Any, size: Any, align_corners: bool | None = None) -> Any:
    """The grid that grid_sample wants for the affine maps theta (n, 2, 3) of images of size (n, c, h, w), (n, h, w, 2):
    theta (x, y, 1) at every pixel; or theta (n, 3, 4), size (n, c, d, h, w) and (n, d, h, w, 3). ValueError for others.
    """
    size = tuple(int(s) for s in size)
    if not is_floating(theta.dtype):
        raise ValueError(f"affine_grid: wanted a theta of a floating dtype, saw {theta.dtype}")
    rank = len(size) - 2
    if rank not in (2, 3):
        raise NotImplementedError(f"affine_grid: wanted a size of 4 or 5 numbers, saw {size}")
    if theta.ndim != 3 or tuple(theta.shape[1:]) != (rank, rank + 1):
        raise ValueError(f"affine_grid: wanted a theta (n, {rank}, {rank + 1}) for {size}, saw {tuple(theta.shape)}")
    if min(size) < 1:
        raise ValueError(f"affine_grid: wanted sizes above zero, saw {size}")
    if align_corners is None:
        warnings.warn("affine_grid: align_corners is False unless given", stacklevel=2)
    if len(theta) != size[0]:
        raise RuntimeError(f"affine_grid: wanted one theta for each of {size[0]} images, saw {tuple(theta.shape)}")
    xp, dtype = namespace(unwrap(theta)), theta.dtype
    base = xp.ones((*size[2:], rank + 1), np.float32 if dtype.itemsize == 2 else dtype)
    for d, steps in enumerate(size[2:]):
        line = _line(xp, steps, base.dtype)
        line = line if align_corners else line * (steps - 1) / steps
        base[..., rank - 1 - d] = line.reshape(-1, *(1,) * (rank - 1 - d))
    base = _like(base.reshape(1, -1, rank + 1).astype(dtype), theta)
    return shape.reshape(linalg.matmul(base, shape.transpose(theta, 1, 2)), (size[0], *size[2:], rank))


def affine_grid_generator(theta: Any, size: Any, align_corners: bool) -> Any:
    """affine_grid, as PyTorch's operator is called."""
    return affine_grid(theta, size, bool(align_corners))
