"""Bags of rows: rows of a table looked up by number and reduced, bag by bag, to their sum, mean or largest elements."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from ..backend import is_floating, namespace
from ..call import sampled
from ..op import unwrap, wrap
from ..tape import Traced
from . import embedding as tables
from . import gather, index, pointwise, shape

MODES = ("sum", "mean", "max")


def _bags(xp: Any, ids: Any, offsets: Any, include_last: bool, padding: int | None) -> tuple[Any, Any, int]:
    """(the bag of each of the ids, which of them count, or None if all do, how many bags)."""
    m, n = len(ids), len(offsets) - include_last
    if n < 0:
        raise RuntimeError("embedding_bag: wanted at least one offset with include_last_offset, saw none")
    if xp is np and len(offsets):
        if offsets[0] != 0:
            raise RuntimeError(f"embedding_bag: wanted a first offset of 0, saw {offsets[0]}")
        if offsets[-1] > m:
            raise RuntimeError(f"embedding_bag: wanted offsets up to {m}, the number of indices, saw {offsets[-1]}")
    bag = xp.searchsorted(offsets, xp.arange(m), side="right") - 1
    kept = bag < n if include_last else None
    if padding is not None:
        kept = ids != padding if kept is None else kept & (ids != padding)
    return bag, kept, n


def _sizes(xp: Any, bag: Any, kept: Any, n: int) -> Any:
    """How many ids that count each bag has; the bags are sorted."""
    begin = xp.searchsorted(bag, xp.arange(n + 1))
    if kept is not None:
        begin = xp.concatenate([xp.zeros(1, np.int64), xp.cumsum(kept, dtype=np.int64)])[begin]
    return begin[1:] - begin[:-1]


def _largest(xp: Any, weight: Any, ids: Any, bag: Any, counts: Any) -> Any:
    """For every bag and column the row of the table with the largest element, -1 for an empty bag; bag is sorted."""
    n = len(counts)
    longest = int(counts.max()) if n else 0
    if not longest:
        return xp.full((n, weight.shape[1]), -1, np.int64)
    rows = xp.full((n, longest), -1, np.int64)
    rows[bag, xp.arange(len(ids)) - (xp.cumsum(counts) - counts)[bag]] = ids
    values = xp.where((rows < 0)[..., None], weight.dtype.type(-math.inf), weight[rows])
    best = values.astype(np.float32 if weight.dtype.itemsize == 2 else weight.dtype, copy=False).argmax(1)
    return xp.take_along_axis(rows, best, 1)


def bags(
    weight: Any,
    indices: Any,
    offsets: Any,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: Any = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> tuple[Any, Any, Any, Any]:
    """(the reduced bags (n, d), the bag of each index, how many indices each bag has, the row of each largest element).
    mode 0 is sum, 1 mean, 2 max; sparse changes nothing: gradients are dense.
    """
    ids, starts, table = unwrap(indices), unwrap(offsets), unwrap(weight)
    xp, like = namespace(table), wrap if isinstance(weight, Traced) else _same
    if ids.dtype.kind not in "iu" or starts.dtype.kind not in "iu":
        raise RuntimeError(f"embedding_bag: wanted indices and offsets of ints, saw {ids.dtype} and {starts.dtype}")
    if not is_floating(table.dtype):
        raise RuntimeError(f"embedding_bag: wanted a table of a floating dtype, saw {table.dtype}")
    if xp is np and ids.size and not 0 <= ids.min() <= ids.max() < len(table):
        raise RuntimeError(f"embedding_bag: wanted rows in [0, {len(table)}), saw {ids.min()} to {ids.max()}")
    if padding_idx is not None:
        if not -len(table) <= padding_idx < len(table):
            raise RuntimeError(f"embedding_bag: wanted padding_idx within {len(table)} rows, saw {padding_idx}")
        padding_idx %= len(table)
    ids = ids.astype(np.int64, copy=False)
    bag, kept, n = _bags(xp, ids, starts, bool(include_last_offset), padding_idx)
    sizes, best = _sizes(xp, bag, kept, n), xp.zeros((0,), np.int64)
    if mode == 2:
        some = slice(None) if kept is None else xp.flatnonzero(kept)
        best = _largest(xp, table, ids[some], bag[some], sizes)
        y = (
            gather.gather(weight, 0, like(xp.maximum(best, 0)))
            if len(table)
            else like(xp.zeros(best.shape, table.dtype))
        )
        y = pointwise.where(like(best >= 0), y, 0.0)
    else:
        rows = tables.embedding(like(ids), weight, None, bool(scale_grad_by_freq))
        if per_sample_weights is not None:
            if per_sample_weights.dtype != weight.dtype:
                raise RuntimeError(
                    f"embedding_bag: wanted per_sample_weights of {weight.dtype}, saw {per_sample_weights.dtype}"
                )
            if kept is not None:  # even infinite, a row that does not count gives its weight no gradient
                rows = pointwise.where(like(kept[:, None]), rows, 0.0)
            rows = rows * shape.unsqueeze(per_sample_weights, -1)
        if kept is None:
            y = index.segment_sum(rows, like(bag), n)
        else:  # what does not count goes into a bag of its own: to leave it out, a card would have to be waited for
            y = index.segment_sum(rows, like(xp.where(kept, bag, n)), n + 1)
            y = index.slice_(y, (slice(0, n), ...))
        if mode == 1:
            y = y / like(xp.maximum(sizes, 1).astype(table.dtype)[:, None])
    return y, like(bag), like(sizes), like(best)


def _same(x: Any) -> Any:
    return x


def _checked(
    input: Any, weight: Any, offsets: Any, mode: str, frequent: bool, sparse: bool, per_sample_weights: Any
) -> None:
    """PyTorch's errors for arguments that do not go together."""
    if per_sample_weights is not None and tuple(per_sample_weights.shape) != tuple(input.shape):
        shapes = f"{tuple(input.shape)} and {tuple(per_sample_weights.shape)}"
        raise ValueError(f"embedding_bag: wanted per_sample_weights of the input's shape, saw {shapes}")
    if weight.ndim != 2:
        raise ValueError(f"embedding_bag: wanted a table of 2 dimensions, saw {tuple(weight.shape)}")
    if input.ndim not in (1, 2):
        raise ValueError(f"embedding_bag: wanted an input of 1 or 2 dimensions, saw {tuple(input.shape)}")
    if (input.ndim == 1) == (offsets is None) or (offsets is not None and offsets.ndim != 1):
        saw = None if offsets is None else tuple(offsets.shape)
        raise ValueError(f"embedding_bag: wanted offsets (n,) for a 1-d input, none for a 2-d one, saw {saw}")
    if mode not in MODES:
        raise ValueError(f"embedding_bag: wanted a mode {', '.join(MODES)}, saw {mode!r}")
    if mode == "max" and (frequent or sparse):
        raise ValueError("embedding_bag: wanted neither scale_grad_by_freq nor sparse with mode 'max', saw one")
    if per_sample_weights is not None and mode != "sum":
        raise NotImplementedError(f"embedding_bag: wanted per_sample_weights with mode 'sum' only, saw {mode!r}")


@sampled()
def embedding_bag(
    input: Any,
    weight: Any,
    offsets: Any = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Any = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Any:
    """Rows of a table, weight (rows, d), reduced bag by bag to (bags, d): input (bags, m), or (m,) in a row with offsets
    that say where each bag begins, and with include_last_offset also where the last ends.

    mode is sum, mean or max; an empty bag gives zeros. per_sample_weights, of the input's shape, multiply the rows of a
    sum. Rows padding_idx count for nothing. max_norm, norm_type and scale_grad_by_freq as in embedding; sparse changes
    nothing: gradients are dense. ValueError and NotImplementedError for arguments that exclude each other.
    """
    if weight.dtype == np.int64 and is_floating(input.dtype):
        warnings.warn("embedding_bag: the table comes second; first is deprecated", stacklevel=2)
        input, weight = weight, input
    _checked(input, weight, offsets, mode, scale_grad_by_freq, sparse, per_sample_weights)
    if input.ndim == 2:
        xp, (n, m) = namespace(unwrap(input)), input.shape
        starts = xp.arange(n) * m
        offsets = wrap(starts) if isinstance(input, Traced) else starts
        input = shape.reshape(input, (n * m,))
        include_last_offset = False
        if per_sample_weights is not None:
            per_sample_weights = shape.reshape(per_sample_weights, (n * m,))
    if max_norm is not None:
        tables.renorm(weight, input, max_norm, norm_type)
    frequent, number = scale_grad_by_freq, MODES.index(mode)
    return bags(weight, input, offsets, frequent, number, sparse, per_sample_weights, include_last_offset, padding_idx)[
        0
    ]
