"""How far two vectors are apart: the p-norm of their difference, and the cosine of their angle."""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np

from . import extreme, pointwise, reduce, shape


def _wide(x: Any) -> Any:
    """Half types as float32: squares leave their range soon."""
    return pointwise.cast(x, np.dtype(np.float32)) if x.dtype.itemsize == 2 else x


def pairwise_distance(x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Any:
    """(sum_i |x1_i - x2_i + eps|^p)^(1/p) over the last dimension; x1 and x2 of shape (n, d) or (d,), or broadcast.

    p any number, infinity included; eps keeps the gradient finite where x1 = x2.
    """
    d = _wide(x1) - _wide(x2) + eps
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
    return y if y.dtype == x1.dtype or x1.dtype.kind in "biu" else pointwise.cast(y, x1.dtype)


def cosine_similarity(x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8) -> Any:
    """x1 . x2 / (max(|x1|, eps) max(|x2|, eps)) along `dim`; x1 and x2 broadcast. IndexError for a wrong dimension."""
    if tuple(x1.shape) != tuple(x2.shape):
        x1, x2 = shape.broadcast_tensors(x1, x2)
    dtype, x1, x2 = x1.dtype, _wide(x1), _wide(x2)
    floor = max(eps * eps, float(np.finfo(x1.dtype).tiny))  # beneath the squares, so that the root's slope is finite
    a = pointwise.rsqrt(pointwise.clamp(reduce.sum(pointwise.square(x1), dim), min=floor))
    b = pointwise.rsqrt(pointwise.clamp(reduce.sum(pointwise.square(x2), dim), min=floor))
    y = reduce.sum(x1 * x2, dim) * a * b
    return y if y.dtype == dtype else pointwise.cast(y, dtype)
