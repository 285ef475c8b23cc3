"""Embedding: rows of a table looked up by number, and the gradient of the table."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backend import int32, int64, namespace
from ..cases import case
from ..op import op
from ..tape import Traced
from . import index


def _check_ids(ids: Any) -> None:
    if ids.dtype not in (int64, int32):
        raise RuntimeError(f"embedding: wanted ints for ids, int64 or int32, saw {ids.dtype}")


def _dweight(g: Any, ids: Any, padding_idx: int | None, scale_grad_by_freq: bool, weight_shape: Any) -> Any:
    return embedding_backward(g, ids, weight_shape[0], padding_idx, scale_grad_by_freq)


def _backward_cases(r: Any) -> list[case]:
    return [case(r(*c.args[0].shape, c.args[1].shape[1]), c.args[0], len(c.args[1]), *c.args[2:]) for c in _cases(r)]


def _cases(r: Any) -> list[case]:
    return [
        case(r.integers(0, 5, 7), r(5, 3)),
        case(np.array([[1, 1], [0, 3]]), r(4, 2), 1, order=0),  # by design these gradients are no derivatives
        case(np.array([[1, 1], [0, 3]]), r(4, 2), -1, True, order=0),
        case(np.array(2), r(4, 2)),
        case(np.zeros((0, 2), int64), r(3, 2)),
        case(r.integers(0, 40, 90), r(40, 33)),
    ]


@op(
    dweight=_dweight,
    cases=_cases,
    reference=lambda torch, ids, weight, padding_idx=None, scale_grad_by_freq=False: torch.nn.functional.embedding(
        ids, weight, padding_idx, scale_grad_by_freq=scale_grad_by_freq
    ),
)
def embedding(ids, weight, padding_idx=None, scale_grad_by_freq=False):
    """y = weight[ids]: rows of a table weight (n, d) for whole numbers ids of any shape (...), giving (..., d).

    The row padding_idx gets no gradient; scale_grad_by_freq divides a row's gradient by how often it occurs.
    RuntimeError for ids that are no ints, IndexError out of range (wraps on the card).
    """
    _check_ids(ids)
    if weight.ndim != 2:
        raise RuntimeError(f"embedding: wanted a table of 2 dimensions, saw shape {weight.shape}")
    if padding_idx is not None and not -len(weight) <= padding_idx < len(weight):
        raise RuntimeError(f"embedding: wanted padding_idx within {len(weight)} rows, saw {padding_idx}")
    if namespace(ids) is np and ids.size and not 0 <= ids.min() <= ids.max() < len(weight):
        raise IndexError(f"embedding: wanted rows in [0, {len(weight)}), saw {ids.min()} to {ids.max()}")
    return namespace(weight).take(weight, ids, 0)


def _dgradient(gg: Any, ids: Any, n: int, padding_idx: int | None, scale_grad_by_freq: bool) -> Any:
    factor = _factor(ids, n, padding_idx, scale_grad_by_freq, gg.dtype)
    return embedding(ids, gg) if factor is None else embedding(ids, gg * factor)


def _factor(ids: Any, n: int, padding_idx: int | None, scale_grad_by_freq: bool, dtype: Any) -> Any:
    """What each row's sum is multiplied by, (n, 1); None if it is 1."""
    if padding_idx is None and not scale_grad_by_freq:
        return None
    ids = index.unwrap(ids)
    xp = namespace(ids)
    factor = xp.ones((n, 1), np.float32 if dtype.itemsize == 2 else dtype)
    if scale_grad_by_freq:  # a sum of ones: unlike bincount it does not wait for the card
        ones = xp.ones((ids.size, 1), factor.dtype)
        factor /= xp.maximum(index.segment_sum.op.run((ones, ids.reshape(-1), n)), 1)
    if padding_idx is not None:
        factor[padding_idx] = 0
    return factor


@op(
    dg=_dgradient,
    cases=_backward_cases,
    reference=None,
)
def embedding_backward(g, ids, n, padding_idx=None, scale_grad_by_freq=False):
    """The gradient of the table: dw[k] = sum of g[i] over ids[i] = k, (n, d); zero for padding_idx."""
    y = index.segment_sum.op.run((g.reshape(ids.size, g.shape[-1]), ids.reshape(-1), n))
    factor = _factor(ids, n, padding_idx, scale_grad_by_freq, g.dtype)
    return y if factor is None else (y * factor).astype(g.dtype, copy=False)


def renorm(weight: Any, ids: Any, max_norm: float, norm_type: float = 2.0) -> None:
    """Scale the rows of a table that are looked up down to a norm_type-norm of max_norm, in place and unrecorded."""
    ids, w = index.unwrap(ids), index.unwrap(weight)
    _check_ids(ids)
    xp = namespace(w)
    used = xp.unique(ids)
    if len(used):
        rows = xp.abs(w[used].astype(np.float64))
        if norm_type == math.inf:
            size = rows.max(1, keepdims=True)
        else:
            size = (rows**norm_type).sum(1, keepdims=True) ** (1 / norm_type)
        w[used] *= xp.where(size > max_norm, max_norm / (size + 1e-7), 1).astype(w.dtype)
    if isinstance(weight, Traced):
        weight.version.bump()
