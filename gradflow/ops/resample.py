"""Resampling: images at another size, every new pixel a weighted sum of a few old ones, one dim after the other."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from .. import backend
from ..backend import Array, namespace
from ..cases import Sampler, case
from ..op import op, unwrap
from . import pool, shape
from .layout import order_of
from .reduce import wide

LINEAR = {"linear": 1, "bilinear": 2, "trilinear": 3, "bicubic": 2, "lanczos": 2}  # over how many dimensions
PLAIN = ("nearest", "nearest-exact", "area")
BLOCK, MOST = (
    64,
    512,
)  # new elements made by one product with a matrix, and old ones up to which that is faster than taps


class Taps:
    """Which of n old elements are in each of m new ones: `places` (m, k), and their `weights` (m, k), zero if unused."""

    def __init__(self, n: int, places: np.ndarray, weights: np.ndarray) -> None:
        self.n, self.m, self.places, self.weights = n, len(places), places, weights
        self.cards: dict[int, tuple] = {}  # the same on the card, by device

    @cached_property
    def turned(self) -> Taps:
        """The transpose: which of the new elements every old one went into."""
        old, new = self.places.reshape(-1), np.repeat(np.arange(self.m), self.places.shape[1])
        weights = self.weights.reshape(-1)
        old, new, weights = old[weights != 0], new[weights != 0], weights[weights != 0]
        order = np.argsort(old, kind="stable")
        counts = np.bincount(old, minlength=self.n)
        rank = np.arange(len(old)) - np.repeat(np.cumsum(counts) - counts, counts)
        places = np.zeros((self.n, int(counts.max(initial=1))), np.int64)
        spread = np.zeros(places.shape)
        places[old[order], rank], spread[old[order], rank] = new[order], weights[order]
        back = Taps(self.m, places, spread)
        back.turned = self
        return back

    @cached_property
    def blocks(self) -> list[tuple[slice, slice, np.ndarray]] | None:
        """The matrix in blocks: (new elements, the old ones that they are made of, weights); None if these are many."""
        found = []
        for first in range(0, self.m, BLOCK):
            new = slice(first, min(first + BLOCK, self.m))
            places = self.places[new][self.weights[new] != 0]
            old = slice(int(places.min(initial=self.n)), int(places.max(initial=-1)) + 1)
            old = old if old.stop > old.start else slice(0, 0)
            if old.stop - old.start > MOST:
                return None
            w = np.zeros((old.stop - old.start, new.stop - new.start))
            rows, ks = np.nonzero(self.weights[new])
            np.add.at(w, (self.places[new][rows, ks] - old.start, rows), self.weights[new][rows, ks])
            found.append((new, old, w))
        return found

    @cached_property
    def matrix(self) -> np.ndarray:
        """The weights as an (n, m) matrix."""
        w = np.zeros((self.n, self.m))
        np.add.at(w, (self.places, np.arange(self.m)[:, None]), self.weights)
        return w

    def __repr__(self) -> str:
        return f"{self.n}to{self.m}"


# --- the taps of each mode ------------------------------------------------------------------------------


@lru_cache(maxsize=512)
def nearest_taps(n: int, m: int, step: float, exact: bool) -> Taps:
    """floor(i step), or floor((i + 1/2) step)."""
    i = np.arange(m, dtype=np.float32)  # in float32, as PyTorch rounds
    at = ((i + 0.5 if exact else i) * np.float32(step)).astype(np.int64)
    return Taps(n, np.minimum(at, n - 1)[:, None], np.ones((m, 1)))


def _cubic(a: float, x: np.ndarray) -> np.ndarray:
    """Keys's kernel (1981) of slope a."""
    x = np.abs(x)
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x < 1, ((a + 2) * x - (a + 3)) * x * x + 1, np.where(x < 2, far, 0))


def _kernel(mode: str, x: np.ndarray, smooth: bool) -> np.ndarray:
    if mode == "lanczos":
        return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)
    if mode == "bicubic":
        return _cubic(-0.5 if smooth else -0.75, x)
    return np.maximum(1 - np.abs(x), 0)


@lru_cache(maxsize=512)
def taps(n: int, m: int, step: float, aligned: bool, mode: str) -> Taps:
    """The two or four neighbours of where a new element lies, at i step or at (i + 1/2) step - 1/2."""
    i = np.arange(m)
    at = i * step if aligned else (i + 0.5) * step - 0.5
    low = np.floor(at)
    near = np.arange(-1, 3) if mode == "bicubic" else np.arange(2)
    places = low[:, None] + near
    return Taps(n, np.clip(places, 0, n - 1).astype(np.int64), _kernel(mode, at[:, None] - places, smooth=False))


@lru_cache(maxsize=512)
def smooth_taps(n: int, m: int, step: float, mode: str) -> Taps:
    """All elements under a kernel that is as wide as `step`, so that none is stepped over (antialiasing)."""
    wide_step = max(step, 1.0)
    reach = {"bicubic": 2, "lanczos": 3}.get(mode, 1) * wide_step
    centre = (np.arange(m) + 0.5) * step
    first = np.maximum((centre - reach + 0.5).astype(np.int64), 0)
    end = np.minimum((centre + reach + 0.5).astype(np.int64), n)
    places = first[:, None] + np.arange(max(1, int((end - first).max(initial=1))))
    w = _kernel(mode, (places - centre[:, None] + 0.5) / wide_step, smooth=True) * (places < end[:, None])
    total = w.sum(1, keepdims=True)
    return Taps(n, np.minimum(places, n - 1), w / np.where(total == 0, 1, total))


# --- the op ---------------------------------------------------------------------------------------------


def _cases(r: Sampler) -> list[case]:
    return [
        case(r(2, 3, 5), 2, taps(5, 8, 5 / 8, False, "bilinear")),
        case(r(2, 5, 3), 1, taps(5, 3, 2.0, True, "bilinear")),
        case(r(4, 3), 0, taps(4, 9, 4 / 9, False, "bicubic")),
        case(r(2, 7, 2), -2, smooth_taps(7, 3, 7 / 3, "bicubic")),
        case(r(2, 7, 2), 1, smooth_taps(7, 3, 7 / 3, "bicubic").turned.turned),
        case(r(2, 5), 1, nearest_taps(5, 8, 5 / 8, False)),
        case(r(2, 8), 1, nearest_taps(8, 3, 8 / 3, True)),
        case(r(2, 4), 1, nearest_taps(8, 4, 2.0, True).turned),  # elements that nothing went into
        case(r(3, 1), 1, taps(1, 4, 0.25, False, "bilinear")),
        case(r.strided(3, 6, 2), 1, taps(6, 4, 1.5, False, "bilinear")),
        case(r(0, 3), 1, taps(3, 5, 0.6, False, "bilinear")),
        case(r(1, 300), 1, smooth_taps(300, 40, 7.5, "bilinear")),
    ]


def _by_loops(torch: Any, x: Any, dim: int, table: Taps) -> Any:
    w = torch.from_numpy(table.matrix).to(x.dtype)
    return (x.movedim(dim, -1) @ w).movedim(-1, dim)


@op(
    dx=lambda g, dim, table: resample(g, dim, table.turned),
    twin="resample",
    cases=_cases,
    reference=_by_loops,
)
def resample(x, dim, table):
    """y[..., i, ...] = sum over k of weights[i, k] x[..., places[i, k], ...] along dim, places and weights in `table`.
    Its gradient is the same with the transposed table.
    """
    xp, dtype = namespace(x), x.dtype
    axis = dim % x.ndim
    if table.places.shape[1] == 1 and (table.weights == 1).all():
        return xp.take(x, xp.asarray(table.places[:, 0]), axis)
    x = x.astype(wide(dtype), copy=False)
    if x.size and xp is np and table.blocks is not None:
        y = _by_blocks(x, axis, table)
        if math.isfinite(y.sum()):  # infinity times a weight of zero is no number
            return y.astype(dtype, copy=False)
    y, along = None, (-1, *(1,) * (x.ndim - 1 - axis))
    for k in range(table.places.shape[1]):
        w = table.weights[:, k]
        term = xp.take(x, xp.asarray(table.places[:, k]), axis) * xp.asarray(w.astype(x.dtype)).reshape(along)
        if not w.all():
            term = xp.where(xp.asarray(w != 0).reshape(along), term, term.dtype.type(0))
        y = term if y is None else y + term
    return y.astype(dtype, copy=False)


def _by_blocks(x: np.ndarray, axis: int, table: Taps) -> np.ndarray:
    """The weighted sums as products with blocks of the matrix."""
    y = np.empty((*x.shape[:axis], table.m, *x.shape[axis + 1 :]), x.dtype)
    last = axis == x.ndim - 1
    seen, made = (x, y) if last else (np.moveaxis(x, axis, -2), np.moveaxis(y, axis, -2))
    for new, old, w in table.blocks or ():
        w = w.astype(x.dtype)
        if last:
            np.matmul(seen[..., old], w, out=made[..., new])
        else:
            np.matmul(w.T, seen[..., old, :], out=made[..., new, :])
    return y


def _rounded(x: Array, axis: int, table: Taps) -> Array:
    """The same for bytes, as PyTorch rounds them: weights of 16 bits, a sum in whole numbers, bytes after every dim."""
    xp = namespace(x)
    weights = table.weights.copy()
    for k in range(weights.shape[1] - 1, 0, -1):  # what lies beyond an edge counts as the pixel there, before rounding
        same = table.places[:, k] == table.places[:, k - 1]
        weights[:, k - 1] += weights[:, k] * same
        weights[:, k] *= ~same
    top, bits = float(weights.max()), 0
    while bits < 22 and int(0.5 + top * (1 << (bits + 1))) < 1 << 15:
        bits += 1
    w = np.trunc(weights * (1 << bits) + np.where(weights < 0, -0.5, 0.5)).astype(np.int64)
    whole = xp.full((*x.shape[:axis], table.m, *x.shape[axis + 1 :]), 1 << bits >> 1, np.int64)
    for k in range(w.shape[1]):
        along = xp.asarray(w[:, k]).reshape(-1, *(1,) * (x.ndim - 1 - axis))
        whole += xp.take(x, xp.asarray(table.places[:, k]), axis) * along
    return xp.clip(whole >> bits, 0, 255).astype(np.uint8)


@op(
    cases=lambda r: [case(r.integers(0, 256, 2, 5).astype(np.uint8), 1, taps(5, 8, 0.625, False, "bicubic"))],
    reference=None,
)
def resample_bytes(x, dim, table):
    """resample of uint8, rounded as PyTorch does on the CPU."""
    return _rounded(x, dim % x.ndim, table)


# --- as users call it -----------------------------------------------------------------------------------


def _check(input: Any, mode: str, align_corners: Any, antialias: bool) -> None:
    if antialias and not (mode in ("bilinear", "bicubic", "lanczos") and input.ndim == 4):
        raise ValueError(
            f"interpolate: wanted bilinear, bicubic or lanczos of (n, c, h, w) with antialias, saw {mode!r} of "
            f"{tuple(input.shape)}"
        )
    if mode not in PLAIN and mode not in LINEAR:
        raise NotImplementedError(f"interpolate: wanted mode {', '.join((*PLAIN, *LINEAR))}, saw {mode!r}")
    dims = input.ndim - 2
    if not 1 <= dims <= 3 or LINEAR.get(mode, dims) != dims:
        raise NotImplementedError(f"interpolate: wanted an input that {mode!r} is for, saw {input.ndim} dimensions")
    if mode == "lanczos" and (align_corners or not antialias):
        raise ValueError("interpolate: wanted antialias and no align_corners with 'lanczos', saw it otherwise")


def _sizes(
    shape: tuple, size: Any, scale_factor: Any, recompute: bool, area: bool
) -> tuple[list[int], list[float] | None]:
    """(the new sizes, the given scales if they count rather than those of the rounded sizes)."""
    dims = len(shape) - 2
    if (size is None) == (scale_factor is None):
        raise ValueError(f"interpolate: wanted either size or scale_factor, saw {size} and {scale_factor}")
    if size is not None and recompute:
        raise ValueError("interpolate: recompute_scale_factor is for a scale_factor, saw it with a size")
    given: Any = size if size is not None else scale_factor
    given = list(given) if isinstance(given, Sequence) else [given] * dims
    if len(given) != dims:
        raise ValueError(f"interpolate: wanted {dims} numbers for shape {tuple(shape)}, saw {len(given)}")
    if size is not None and not all(hasattr(n, "__index__") for n in given):
        raise TypeError(f"interpolate: wanted whole numbers for size, saw {size}")
    sizes = [int(n) for n in given] if size is not None else [int(n * s) for n, s in zip(shape[2:], given, strict=True)]
    if min(sizes) < 1 or min(shape[2:]) < 1 or (shape[1] < 1 and not area):
        raise RuntimeError(f"interpolate: wanted sizes above 0, saw {tuple(shape)} to {sizes}")
    return sizes, None if size is not None or recompute else [float(s) for s in given]


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

    mode   nearest, nearest-exact, area, linear (of one dimension), bilinear and bicubic (two), trilinear (three),
           lanczos (two, with antialias)
    align_corners   the first and last pixels stay where they are, instead of the image's edges
    antialias       bilinear, bicubic and lanczos widen their kernel to the pixels that a smaller image steps over
    uint8 is rounded as PyTorch does: to 16-bit weights, and after every dimension. ValueError for options that exclude
    each other, NotImplementedError for a mode that does not fit the dimensions or dtype.
    """
    recompute = bool(recompute_scale_factor) or (mode == "area" and scale_factor is not None)
    if mode in PLAIN and align_corners is not None:
        raise ValueError(f"interpolate: align_corners is for {', '.join(LINEAR)}, saw it with {mode!r}")
    if input.ndim < 3:
        raise NotImplementedError(f"interpolate: wanted an input of 3 to 5 dimensions, saw {tuple(input.shape)}")
    sizes, scales = _sizes(tuple(input.shape), size, scale_factor, recompute, mode == "area")
    _check(input, mode, align_corners, antialias)
    if mode == "area":
        pools = (pool.adaptive_avg_pool1d, pool.adaptive_avg_pool2d, pool.adaptive_avg_pool3d)
        return pools[len(sizes) - 1](input, tuple(sizes))
    if not backend.is_floating(input.dtype) and (input.dtype != np.uint8 or mode in ("linear", "trilinear")):
        wanted = "a floating dtype" if mode in ("linear", "trilinear") else "a floating dtype or uint8"
        raise NotImplementedError(f"interpolate: wanted {wanted} with {mode!r}, saw {input.dtype}")
    there, back = order_of(unwrap(input)) or (tuple(range(input.ndim)), None)
    x = input if back is None else shape.permute(input, there)  # as if the dimensions stood in the order in which they lie
    for i in reversed(range(len(sizes))):
        scale = None if scales is None else scales[i]
        x = _resized(x, there.index(i + 2), sizes[i], scale, mode, bool(align_corners), antialias)
    return x if back is None else shape.permute(x, back)


def _resized(x: Any, dim: int, m: int, scale: float | None, mode: str, aligned: bool, smooth: bool) -> Any:
    """x of another size along dim."""
    n = x.shape[dim]
    step = 1 / scale if scale else n / m
    if mode in PLAIN:
        return _nearest(x, dim, n, m, step, mode == "nearest-exact")
    if aligned:
        step = (n - 1) / (m - 1) if m > 1 else 0.0
    if n == m and (step == 1 or (aligned and n == 1) or x.dtype == np.uint8):
        return x
    table = smooth_taps(n, m, step, mode) if smooth else taps(n, m, step, aligned, mode)
    return (resample_bytes if x.dtype == np.uint8 else resample)(x, dim, table)


def _nearest(x: Any, dim: int, n: int, m: int, step: float, exact: bool) -> Any:
    """By repeating pixels where step is a whole part."""
    if n == m and step == 1:
        return x
    times = m // n
    if times * n == m and abs(step * times - 1) < 1e-12:
        sizes = tuple(x.shape)
        spread = shape.expand(shape.unsqueeze(x, dim + 1), (*sizes[: dim + 1], times, *sizes[dim + 1 :]))
        return shape.reshape(spread, (*sizes[:dim], m, *sizes[dim + 1 :]))
    return resample(x, dim, nearest_taps(n, m, step, exact))


def upsample(
    input: Any, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: bool | None = None
) -> Any:
    """interpolate, by its old name; warns."""
    warnings.warn("upsample: deprecated, use interpolate", stacklevel=2)
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(input: Any, size: Any = None, scale_factor: Any = None) -> Any:
    """interpolate by the nearest pixel; warns."""
    warnings.warn("upsample_nearest: deprecated, use interpolate", stacklevel=2)
    return interpolate(input, size, scale_factor, "nearest")


def upsample_bilinear(input: Any, size: Any = None, scale_factor: Any = None) -> Any:
    """interpolate, bilinear (of 5-d input trilinear) with aligned corners; warns."""
    warnings.warn("upsample_bilinear: deprecated, use interpolate", stacklevel=2)
    return interpolate(input, size, scale_factor, "bilinear", align_corners=True)


def _smooth(mode: str, x: Any, output_size: Any, align_corners: bool, scales: Any) -> Any:
    for i in (1, 0):
        x = _resized(x, i + 2, output_size[i], scales[i], mode, align_corners, smooth=True)
    return x


def _upsample_bilinear2d_aa(
    input: Any, output_size: Any, align_corners: bool, scales_h: float | None = None, scales_w: float | None = None
) -> Any:
    """interpolate(mode="bilinear", antialias=True), as PyTorch's operator spells it."""
    return _smooth("bilinear", input, output_size, align_corners, (scales_h, scales_w))


def _upsample_bicubic2d_aa(
    input: Any, output_size: Any, align_corners: bool, scales_h: float | None = None, scales_w: float | None = None
) -> Any:
    """interpolate(mode="bicubic", antialias=True), as PyTorch's operator spells it."""
    return _smooth("bicubic", input, output_size, align_corners, (scales_h, scales_w))
