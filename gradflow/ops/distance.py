"""How far two vectors are apart: the p-norm of their difference, and the cosine of their angle."""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np

from ..backend import is_floating, namespace
from ..cases import Sampler, case
from ..dtypes import promote_types
from ..op import op, unwrap
from . import extreme, index, linalg, pointwise, reduce, shape, stacks
from .dims import dimension


def _wide(x: Any) -> Any:
    """Half types as float32: squares leave their range soon."""
    return pointwise.cast(x, np.dtype(np.float32)) if x.dtype.itemsize == 2 else x


def _together(name: str, x1: Any, x2: Any) -> None:
    """Raise a RuntimeError unless the shapes broadcast."""
    a, b = tuple(x1.shape), tuple(x2.shape)
    if a != b:
        try:
            np.broadcast_shapes(a, b)
        except ValueError:
            raise RuntimeError(f"{name}: wanted shapes that broadcast, saw {a} and {b}") from None


def pairwise_distance(x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Any:
    """(sum_i |x1_i - x2_i + eps|^p)^(1/p) over the last dimension; x1 and x2 of shape (n, d) or (d,), or broadcast.

    p any number, infinity included; eps keeps the gradient finite where x1 = x2.
    """
    _together("pairwise_distance", x1, x2)
    dtype = promote_types(x1.dtype, x2.dtype)
    if dtype.kind == "b":
        raise RuntimeError("pairwise_distance: wanted numbers, saw bools")
    d = _wide(x1) - _wide(x2) + eps
    if d.dtype.kind == "c":
        d = pointwise.abs(d)
    if p == 2:
        y = pointwise.sqrt(reduce.sum(pointwise.square(d), -1, keepdim))
    elif p == 1:
        y = reduce.sum(pointwise.abs(d), -1, keepdim)
    elif p == 0:
        y = reduce.sum(pointwise.cast(d != 0, d.dtype), -1, keepdim)
    elif builtins.abs(p) == math.inf:
        y = (extreme.amax if p > 0 else extreme.amin)(pointwise.abs(d), -1, keepdim)
    else:
        y = pointwise.pow(reduce.sum(pointwise.pow(pointwise.abs(d), float(p)), -1, keepdim), 1 / p)
    return y if y.dtype == dtype or dtype.kind in "iuc" else pointwise.cast(y, dtype)


def cosine_similarity(x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8) -> Any:
    """x1 . x2 / (max(|x1|, eps) max(|x2|, eps)) along `dim`; x1 and x2 broadcast. IndexError for a wrong dimension."""
    dtype = promote_types(x1.dtype, x2.dtype)
    if not is_floating(dtype):
        raise RuntimeError(f"cosine_similarity: wanted real floating numbers, saw {x1.dtype} and {x2.dtype}")
    if tuple(x1.shape) != tuple(x2.shape):
        _together("cosine_similarity", x1, x2)
        x1, x2 = shape.broadcast_tensors(x1, x2)
    dim = dimension("cosine_similarity", dim, x1.ndim)
    x1, x2 = (_wide(x if x.dtype == dtype else pointwise.cast(x, dtype)) for x in (x1, x2))
    floor = max(eps * eps, float(np.finfo(x1.dtype).tiny))  # beneath the squares, so that the root's slope is finite
    a = pointwise.rsqrt(pointwise.clamp(reduce.sum(pointwise.square(x1), dim), min=floor))
    b = pointwise.rsqrt(pointwise.clamp(reduce.sum(pointwise.square(x2), dim), min=floor))
    y = reduce.sum(x1 * x2, dim) * a * b
    return y if y.dtype == dtype else pointwise.cast(y, dtype)


# --- all pairs ------------------------------------------------------------------------------------------------


PAIRS = 1 << 22  # how many differences are held at once: more rows are taken in turns


def _turns(x: Any, w: Any) -> list[slice]:
    """Rows of x of which the differences from all rows of w are held at once."""
    n = x.shape[-2]
    stacked = math.prod(np.broadcast_shapes(tuple(x.shape[:-2]), tuple(w.shape[:-2])))
    step = builtins.max(PAIRS // builtins.max(stacked * w.shape[-2] * w.shape[-1], 1), 1)
    return [slice(i, builtins.min(i + step, n)) for i in range(0, n, step)] or [slice(0, 0)]


def _dcdist(g, x, w, y, p, exact, needs):
    if p == 0:
        return x * 0, w * 0
    if p == 2 and not exact:
        slope = pointwise.where(y == 0, 0.0, g / pointwise.where(y == 0, 1.0, y))
        dx = x * reduce.sum(slope, -1, True) - linalg.matmul(slope, w) if needs[0] else None
        turned = linalg.mT(slope)
        return dx, (w * reduce.sum(turned, -1, True) - linalg.matmul(turned, x) if needs[1] else None)
    dx, dw = [], None
    for rows in _turns(x, w):
        d = shape.unsqueeze(x[..., rows, :], -2) - shape.unsqueeze(w, -3)
        slope = reduce._dnorm(g[..., rows, :], d, y[..., rows, :], float(p), -1, False)
        if needs[0]:
            dx.append(reduce.sum(slope, -2))
        if needs[1]:
            part = reduce.sum(slope, -3)
            dw = part if dw is None else dw + part
    return (shape.cat(dx, -2) if needs[0] else None), (-dw if needs[1] else None)


def _cdist_cases(r: Sampler) -> list[case]:
    return [
        case(r(3, 4), r(2, 4)),
        case(r(2, 3, 4), r(2, 2, 4), 1.0),
        case(r(3, 2), r(2, 3, 2), 3.0),
        case(r(3, 2), r(4, 2), math.inf),
        case(r(3, 2), r(4, 2), 0.0, order=1),
        case(r(3, 4), r(30, 4)),
        case(r(3, 4), r(2, 4), 2.0, True),
        case(r(0, 2), r(3, 2)),
        case(r(3, 0), r(2, 0), grad=False),
    ]


@op(dx_dw=_dcdist, real=True, cases=_cdist_cases, reference=lambda torch, x, w, p=2.0, exact=False: torch.cdist(x, w, p))
def all_distances(x, w, p=2.0, exact=False):
    """y_ij = |x_i - w_j|_p of the rows of x (..., n, d) and w (..., m, d). Without `exact`, p = 2 of more than 25 rows is
    taken from |x|^2 + |w|^2 - 2 x w^T, which is fast and loses half the digits of small distances.
    """
    xp = namespace(x)
    to, half = x.dtype, x.dtype.itemsize == 2
    if half:
        x, w = x.astype(np.float32), w.astype(np.float32)
    if not x.shape[-1]:
        lead = np.broadcast_shapes(x.shape[:-2], w.shape[:-2])
        return xp.zeros((*lead, x.shape[-2], w.shape[-2]), to)
    if p == 2 and not exact:
        square = (x * x).sum(-1)[..., :, None] + (w * w).sum(-1)[..., None, :] - 2 * linalg.matmul(x, w.swapaxes(-1, -2))
        return xp.sqrt(xp.maximum(square, 0)).astype(to, copy=False)
    parts = [_norms(xp, abs(x[..., rows, None, :] - w[..., None, :, :]), p) for rows in _turns(x, w)]
    return (parts[0] if len(parts) == 1 else xp.concatenate(parts, -2)).astype(to, copy=False)


def _norms(xp: Any, d: Any, p: float) -> Any:
    """The p-norms of the last dimension of d >= 0."""
    if p == 0:
        return (d != 0).sum(-1, dtype=d.dtype)
    if p == 1:
        return d.sum(-1)
    if p == 2:
        return xp.sqrt((d * d).sum(-1))
    return d.max(-1) if p == math.inf else (d**p).sum(-1) ** (1 / p)


_MODES = ("use_mm_for_euclid_dist_if_necessary", "use_mm_for_euclid_dist", "donot_use_mm_for_euclid_dist")


def cdist(x1: Any, x2: Any, p: float = 2.0, compute_mode: str = _MODES[0]) -> Any:
    """The p-norms of the differences of all rows: x1 (..., n, d) and x2 (..., m, d) give (..., n, m); leading sizes broadcast.

    compute_mode says whether p = 2 may be taken from a matrix product: if there are more than 25 rows, always, never.
    RuntimeError for other dimensions, sizes or dtypes, and for p < 0; ValueError for another mode.
    """
    if x1.ndim < 2 or x2.ndim < 2 or x1.shape[-1] != x2.shape[-1]:
        raise RuntimeError(f"cdist: wanted rows of one size, saw shapes {tuple(x1.shape)} and {tuple(x2.shape)}")
    if x1.dtype.kind not in "fV" or x2.dtype.kind not in "fV":
        raise RuntimeError(f"cdist: wanted floating dtypes, saw {x1.dtype} and {x2.dtype}")
    if compute_mode not in _MODES:
        raise ValueError(f"cdist: wanted a compute_mode of {_MODES}, saw {compute_mode!r}")
    if p < 0:
        raise RuntimeError(f"cdist: wanted p >= 0, saw {p}")
    if x1.dtype != x2.dtype:
        raise RuntimeError(f"cdist: wanted one dtype, saw {x1.dtype} and {x2.dtype}")
    stacks.batch("cdist", x1, x2)
    many = x1.shape[-2] > 25 or x2.shape[-2] > 25
    product = compute_mode == _MODES[1] or (compute_mode == _MODES[0] and many)
    return all_distances(x1, x2, float(p), not product)


def pdist(input: Any, p: float = 2.0) -> Any:
    """The p-norms of the differences of every two rows of (n, d): row i with i + 1, i + 2, ..., n (n - 1) / 2 in all.
    RuntimeError for other dimensions or dtypes and for p < 0.
    """
    if input.ndim != 2:
        raise RuntimeError(f"pdist: wanted 2 dimensions, saw shape {tuple(input.shape)}")
    if input.dtype.kind not in "fV":
        raise RuntimeError(f"pdist: wanted a floating dtype, saw {input.dtype}")
    if p < 0:
        raise RuntimeError(f"pdist: wanted p >= 0, saw {p}")
    xp = namespace(unwrap(input))
    i, j = np.triu_indices(input.shape[0], 1)
    y = all_distances(input, input, float(p), True)
    return index.index_get(y, (xp.asarray(i), xp.asarray(j)))


def dist(input: Any, other: Any, p: float = 2) -> Any:
    """The p-norm of all elements of input - other, which broadcast."""
    return reduce.norm(input - other, p)


@stacks.also()
def renorm(input: Any, p: float, dim: int, maxnorm: float) -> Any:
    """input with every slice along dim whose p-norm is above maxnorm scaled down to it.
    RuntimeError for p <= 0, maxnorm < 0 or fewer than 2 dimensions.
    """
    if not isinstance(p, (int, float)) or p <= 0:
        raise RuntimeError(f"renorm: wanted p > 0, saw {p}")
    if maxnorm < 0:
        raise RuntimeError(f"renorm: wanted maxnorm >= 0, saw {maxnorm}")
    if input.ndim < 2:
        raise RuntimeError(f"renorm: wanted 2 dimensions or more, saw shape {tuple(input.shape)}")
    d = dimension("renorm", dim, input.ndim)
    size = reduce.vector_norm(_wide(input), float(p), tuple(i for i in range(input.ndim) if i != d), True)
    scale = pointwise.where(size > maxnorm, maxnorm / (size + 1e-7), 1.0)
    y = input * scale
    return y if y.dtype == input.dtype else pointwise.cast(y, input.dtype)
