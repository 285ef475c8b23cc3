"""Images resized and rearranged: interpolation, and channels traded for pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import backend
from ..op import unwrap, wrap
from ..ops import gather, linalg, pointwise, pool, shape
from ..tape import Traced

LINEAR = {"linear": 1, "bilinear": 2, "trilinear": 3, "bicubic": 2}  # over how many dimensions
PLAIN = ("nearest", "nearest-exact", "area")
_CUBIC = -0.75  # the slope in Keys's kernel (1981) that PyTorch takes


def _like(array: Any, x: Any) -> Any:
    """An array as a tensor if x is one."""
    return wrap(array) if isinstance(x, Traced) else array


def interpolate(
    input: Any,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Any:
    """The input (n, c, ...), 1 to 3 dimensions of pixels, at another size: `size`, or scale_factor times its own.

    mode   nearest, nearest-exact, area, linear (of one dimension), bilinear and bicubic (two), trilinear (three)
    align_corners   the first and last pixels stay where they are, instead of the image's edges
    ValueError for options that exclude each other, NotImplementedError for a mode that does not fit the dimensions and
    for antialias.
    """
    dims = input.ndim - 2
    if antialias:
        raise NotImplementedError("interpolate: wanted antialias=False, saw True")
    if mode not in PLAIN and mode not in LINEAR:
        raise NotImplementedError(f"interpolate: wanted mode {', '.join((*PLAIN, *LINEAR))}, saw {mode!r}")
    if not 1 <= dims <= 3 or LINEAR.get(mode, dims) != dims:
        raise NotImplementedError(f"interpolate: wanted an input that {mode!r} is for, saw {input.ndim} dimensions")
    if mode in PLAIN and align_corners is not None:
        raise ValueError(f"interpolate: align_corners is for {', '.join(LINEAR)}, saw it with {mode!r}")
    if (size is None) == (scale_factor is None):
        raise ValueError(f"interpolate: wanted either size or scale_factor, saw {size} and {scale_factor}")
    if size is not None and recompute_scale_factor:
        raise ValueError("interpolate: recompute_scale_factor is for a scale_factor, saw it with a size")
    given = size if size is not None else scale_factor
    given = list(given) if isinstance(given, Sequence) else [given] * dims
    if len(given) != dims:
        raise ValueError(f"interpolate: wanted {dims} numbers for shape {tuple(input.shape)}, saw {len(given)}")
    sizes = (
        [int(n) for n in given]
        if size is not None
        else [math.floor(n * s) for n, s in zip(input.shape[2:], given, strict=True)]
    )
    if min(sizes) < 1 or min(input.shape[2:]) < 1:
        raise RuntimeError(f"interpolate: wanted sizes above 0, saw {tuple(input.shape[2:])} to {sizes}")
    if mode == "area":
        return (pool.adaptive_avg_pool1d, pool.adaptive_avg_pool2d, pool.adaptive_avg_pool3d)[dims - 1](
            input, tuple(sizes)
        )
    kind = input.dtype.kind
    if mode in LINEAR and kind in "biu":
        if input.dtype != np.uint8:
            raise NotImplementedError(f"interpolate: wanted a floating dtype or uint8 with {mode!r}, saw {input.dtype}")
        input = pointwise.cast(input, backend.float32)
    own = size is None and not recompute_scale_factor  # then the given scale counts, not the one of the rounded sizes
    for i, m in enumerate(sizes):
        n = input.shape[i + 2]
        if mode in LINEAR:
            aligned = bool(align_corners)
            step = (n - 1) / max(m - 1, 1) if aligned else 1 / given[i] if own else n / m
            if n != m or step != 1:
                input = _resampled(input, i + 2, n, m, step, aligned, mode == "bicubic")
        else:
            input = _nearest(input, i + 2, n, m, 1 / given[i] if own else n / m, mode == "nearest-exact")
    if mode in LINEAR and kind == "u":
        input = pointwise.cast(pointwise.clamp(pointwise.round(input), 0, 255), np.dtype(np.uint8))
    return input


def _nearest(x: Any, dim: int, n: int, m: int, step: float, exact: bool) -> Any:
    """x[floor(i step)] along dim, or floor((i + 1/2) step); by repeating pixels where step is a whole part."""
    if n == m:
        return x
    times = m // n
    if times * n == m and abs(step * times - 1) < 1e-12:
        sizes = tuple(x.shape)
        wide = shape.expand(shape.unsqueeze(x, dim + 1), (*sizes[: dim + 1], times, *sizes[dim + 1 :]))
        return shape.reshape(wide, (*sizes[:dim], m, *sizes[dim + 1 :]))
    xp = backend.namespace(unwrap(x))
    i = xp.arange(m, dtype=backend.float32)  # in float32, as PyTorch rounds
    at = ((i + 0.5 if exact else i) * backend.float32.type(step)).astype(backend.int64)
    return gather.index_select(x, dim, _like(xp.minimum(at, n - 1), x))


def _resampled(x: Any, dim: int, n: int, m: int, step: float, aligned: bool, cubic: bool) -> Any:
    """A product along dim with the matrix (n, m) that says how much of each pixel is in each new one."""
    array = unwrap(x)
    xp = backend.namespace(array)
    i = xp.arange(m, dtype=backend.float64)
    at = i * step if aligned else (i + 0.5) * step - 0.5
    low = xp.floor(at)
    t = at - low
    if cubic:
        a = _CUBIC

        def near(d: Any) -> Any:  # |d| <= 1
            return ((a + 2) * d - (a + 3)) * d * d + 1

        def far(d: Any) -> Any:  # 1 < |d| < 2
            return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

        taps = [(-1, far(t + 1)), (0, near(t)), (1, near(1 - t)), (2, far(2 - t))]
    else:
        taps = [(0, 1 - t), (1, t)]
    rows = xp.arange(n)[:, None]
    w = sum((rows == xp.clip(low + k, 0, n - 1)) * weight for k, weight in taps)
    y = linalg.matmul(shape.movedim(x, dim, -1), _like(w.astype(array.dtype), x))
    return shape.movedim(y, -1, dim)


def pixel_shuffle(input: Any, upscale_factor: int) -> Any:
    """(..., c r^2, h, w) as (..., c, h r, w r), r = upscale_factor (Shi et al. 2016). RuntimeError for other c."""
    *batch, c, h, w = input.shape
    r = upscale_factor
    if r <= 0 or c % (r * r):
        raise RuntimeError(f"pixel_shuffle: wanted channels divisible by {r}^2, saw {c}")
    k = len(batch)
    x = shape.reshape(input, (*batch, c // (r * r), r, r, h, w))
    x = shape.permute(x, (*range(k), k, k + 3, k + 1, k + 4, k + 2))
    return shape.reshape(x, (*batch, c // (r * r), h * r, w * r))


def pixel_unshuffle(input: Any, downscale_factor: int) -> Any:
    """(..., c, h r, w r) as (..., c r^2, h, w), r = downscale_factor. RuntimeError for other heights and widths."""
    *batch, c, h, w = input.shape
    r = downscale_factor
    if r <= 0 or h % r or w % r:
        raise RuntimeError(f"pixel_unshuffle: wanted a height and width divisible by {r}, saw {h} and {w}")
    k = len(batch)
    x = shape.reshape(input, (*batch, c, h // r, r, w // r, r))
    x = shape.permute(x, (*range(k), k, k + 2, k + 4, k + 1, k + 3))
    return shape.reshape(x, (*batch, c * r * r, h // r, w // r))


def channel_shuffle(input: Any, groups: int) -> Any:
    """Channels in groups, dealt out in turn: c = (groups, c / groups) transposed (Zhang et al. 2018)."""
    n, c, *rest = input.shape
    if groups <= 0 or c % groups:
        raise RuntimeError(f"channel_shuffle: wanted channels divisible by {groups} groups, saw {c}")
    x = shape.reshape(input, (n, groups, c // groups, *rest))
    return shape.reshape(shape.transpose(x, 1, 2), (n, c, *rest))
