"""Attention on the CPU block by block: some queries of one head at a time, so that their weights stay in the cache.

As kernels/flash.cu does it (Dao 2023): beside the output only the logarithm of each row's sum of exponentials is kept, of
which the backward pass makes the weights again. Under a causal mask the keys that a block cannot see cost nothing.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backend import bool_

ROWS = 128  # queries in a block
LEAST = 1 << 16  # weights of a head, from which on blocks are faster than whole matrices
MOST = (
    1 << 26
)  # weights in all, from which on they are not kept for the backward pass though that would be some percent faster


def pays(q: Any, k: Any, causal: bool, drop: float, kept: bool) -> bool:
    """Whether to go block by block; `kept` if there will be a backward pass."""
    if type(q) is not np.ndarray or drop or q.shape[-2] * k.shape[-2] < LEAST:
        return False
    return causal or not kept or math.prod(q.shape[:-1]) * k.shape[-2] >= MOST


def _leading(*xs: Any) -> list[Any]:
    """The arrays as views with the same leading dimensions; None stays."""
    lead = np.broadcast_shapes(*[x.shape[:-2] for x in xs if x is not None])
    return [x if x is None else np.broadcast_to(x, (*lead, *x.shape[-2:])) for x in xs]


def _blocks(q: Any, k: Any, causal: bool) -> Any:
    """(index of a head, first query, query after the last, number of keys they see) of every block."""
    rows, columns = q.shape[-2], k.shape[-2]
    for at in np.ndindex(q.shape[:-2]):
        for a in range(0, rows, ROWS):
            b = min(a + ROWS, rows)
            yield at, a, b, min(b, columns) if causal else columns


def _scores(q: Any, k: Any, mask: Any, a: int, causal: bool, out: Any) -> Any:
    """q k^T and the mask, of queries from a on."""
    np.matmul(q, k.T, out=out)
    rows, columns = out.shape
    if mask is not None:
        seen = np.broadcast_to(mask, (mask.shape[0], max(columns, mask.shape[1])))
        seen = (seen[a : a + rows] if mask.shape[0] > 1 else seen)[:, :columns]
        if mask.dtype == bool_:
            np.copyto(out, -math.inf, where=~seen)
        else:
            out += seen
    if causal and columns > a:
        np.copyto(out[:, a:], -math.inf, where=~np.tri(rows, columns - a, dtype=np.bool_))
    return out


def forward(q: Any, k: Any, v: Any, mask: Any, scale: float, causal: bool) -> tuple[Any, Any]:
    """(y, the logarithm of each row's sum of exponentials, infinite where nothing is seen)."""
    q, k, v, mask = _leading(q, k, v, mask)
    y = np.empty((*q.shape[:-1], v.shape[-1]), q.dtype)
    logs, memory = np.empty((*q.shape[:-1], 1), q.dtype), np.empty(ROWS * k.shape[-2], q.dtype)
    for at, a, b, n in _blocks(q, k, causal):
        seen = None if mask is None else mask[at]
        p = memory[: (b - a) * n].reshape(b - a, n)
        _scores(q[at][a:b] * q.dtype.type(scale), k[at][:n], seen, a, causal, p)
        top = p.max(-1, keepdims=True)
        np.copyto(top, 0, where=top == -math.inf)
        p -= top
        np.exp(p, out=p)
        total = p.sum(-1, keepdims=True)
        np.matmul(p, v[at][:n], out=y[at][a:b])
        y[at][a:b] /= np.where(total == 0, 1, total)
        with np.errstate(divide="ignore"):
            logs[at][a:b] = np.where(total == 0, math.inf, top + np.log(total))
    return y, logs


def backward(
    g: Any, q: Any, k: Any, v: Any, mask: Any, scale: float, causal: bool, y: Any, logs: Any, needs: tuple[bool, ...]
) -> tuple[Any, Any, Any]:
    """(dq, dk, dv), each with all leading dimensions and None if not needed."""
    g, q, k, v, mask, y, logs = _leading(g, q, k, v, mask, y, logs)
    dq, dk, dv = (np.zeros(x.shape, x.dtype) if need else None for x, need in zip((q, k, v), needs, strict=False))
    delta = np.einsum("...f,...f->...", g, y)[..., None]
    memory = np.empty((2, ROWS * k.shape[-2]), q.dtype)
    for at, a, b, n in _blocks(q, k, causal):
        p, ds = (m[: (b - a) * n].reshape(b - a, n) for m in memory)
        scaled, gs, ks = q[at][a:b] * q.dtype.type(scale), g[at][a:b], k[at][:n]
        _scores(scaled, ks, None if mask is None else mask[at], a, causal, p)
        p -= logs[at][a:b]
        np.exp(p, out=p)
        if dv is not None:
            dv[at][:n] += p.T @ gs
        if dq is None and dk is None:
            continue
        np.matmul(gs, v[at][:n].T, out=ds)
        ds -= delta[at][a:b]
        ds *= p
        if dq is not None:
            np.matmul(ds, ks, out=dq[at][a:b])
        if dk is not None:
            dk[at][:n] += ds.T @ scaled
    if dq is not None:
        dq *= scale
    return dq, dk, dv
