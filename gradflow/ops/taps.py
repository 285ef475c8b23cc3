"""Taps: sums of chosen elements with weights of their own, and the two other faces of that product of three.

With x (n, c, p), weights w and places `at` (n, k, q), the sum over n, c, q, k of g[n, c, q] w[n, k, q] x[n, c, at[n, k, q]]
is linear in g, w and x. Its derivatives with respect to each are the three ops here, so each one's rules are the others.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backend import namespace
from ..cases import Sampler, case
from ..op import op
from .index import segment_sum
from .reduce import wide


def _places(r: Sampler, n: int, k: int, q: int, p: int) -> np.ndarray:
    return r.integers(-1, p, n, k, q)


def _cases(r: Sampler) -> list[case]:
    return [
        case(r(2, 3, 6), r(2, 4, 5), _places(r, 2, 4, 5, 6)),
        case(r(1, 1, 2), r(1, 1, 3), _places(r, 1, 1, 3, 2)),
        case(r.strided(2, 4, 5), r.strided(2, 2, 3), _places(r, 2, 2, 3, 5)),
        case(r(1, 2, 3), r(1, 2, 4), np.full((1, 2, 4), -1)),
        case(r(0, 2, 3), r(0, 2, 4), _places(r, 0, 2, 4, 3)),
        case(r(2, 2, 3), r(2, 2, 0), _places(r, 2, 2, 0, 3)),
        case(r(1, 3, 40), r(1, 16, 70), _places(r, 1, 16, 70, 40)),
    ]


def _spread_cases(r: Sampler) -> list[case]:
    return [case(r(*c.args[0].shape[:2], c.args[2].shape[2]), *c.args[1:], c.args[0].shape[2]) for c in _cases(r)]


def _product_cases(r: Sampler) -> list[case]:
    return [case(r(*c.args[0].shape[:2], c.args[2].shape[2]), c.args[0], c.args[2]) for c in _cases(r)]


def _seen(x: Any, at: Any, safe: bool) -> Any:
    """x[:, at] for x (c, p), zero where at is below zero; any number there if it is known to be finite and so `safe`."""
    seen = namespace(x).take(x, at, 1)
    if not safe:
        seen[:, at < 0] = 0
    return seen


def _finite(x: Any) -> bool:
    return namespace(x) is np and math.isfinite(x.sum())


@op(
    dx=lambda g, w, at, x_shape: tap_spread(g, w, at, x_shape[-1]),
    dw=lambda g, x, at: tap_product(g, x, at),
    twin="taps",
    cases=_cases,
    reference=None,
)
def tap_sum(x, w, at):
    """y[n, c, q] = sum over k of w[n, k, q] x[n, c, at[n, k, q]]; a place of -1 is none.
    x (n, c, p), w and at (n, k, q) to (n, c, q).
    """
    xp, dtype = namespace(x), x.dtype
    safe = _finite(x)
    x, w = x.astype(wide(dtype), copy=False), xp.where(at < 0, w.dtype.type(0), w).astype(wide(dtype), copy=False)
    y = xp.zeros((*x.shape[:2], at.shape[2]), x.dtype)
    if x.shape[2]:
        for i in range(len(x)):
            for k in range(at.shape[1]):
                y[i] += _seen(x[i], at[i, k], safe) * w[i, k]
    return y.astype(dtype, copy=False)


@op(
    dg=lambda gg, w, at: tap_sum(gg, w, at),
    dw=lambda gg, g, at: tap_product(g, gg, at),
    cases=_spread_cases,
    reference=None,
)
def tap_spread(g, w, at, size):
    """dx[n, c, p] = sum of g[n, c, q] w[n, k, q] over at[n, k, q] = p, for p < size: the gradient of tap_sum's x."""
    xp, (n, c, q) = namespace(g), g.shape
    dtype, k = wide(g.dtype), at.shape[1]
    w = w.astype(dtype, copy=False)
    if xp is np:
        dx = np.zeros((n, c, size), dtype)
        for i in range(n):
            flat = at[i].reshape(-1)
            there = None if (flat >= 0).all() else flat >= 0
            flat = flat if there is None else flat[there]
            for j in range(c):
                part = (g[i, j] * w[i]).reshape(-1)
                dx[i, j] = np.bincount(flat, part if there is None else part[there], minlength=size)
        return dx.astype(g.dtype, copy=False)
    rows = (xp.moveaxis(g.astype(dtype, copy=False), 1, 2)[:, None] * w[..., None]).reshape(n * k * q, c)
    ids = xp.where(at < 0, n * size, at + xp.arange(n)[:, None, None] * size).reshape(-1)
    dx = segment_sum.op.run((rows, ids, n * size + 1))[:-1].reshape(n, size, c)
    return xp.ascontiguousarray(xp.moveaxis(dx, 2, 1)).astype(g.dtype, copy=False)


@op(
    dg=lambda gg, x, at: tap_sum(x, gg, at),
    dx=lambda gg, g, at, x_shape: tap_spread(g, gg, at, x_shape[-1]),
    twin="taps",
    cases=_product_cases,
    reference=None,
)
def tap_product(g, x, at):
    """dw[n, k, q] = sum over c of g[n, c, q] x[n, c, at[n, k, q]], zero where at is -1: the gradient of tap_sum's w."""
    xp, dtype = namespace(x), x.dtype
    x, g = x.astype(wide(dtype), copy=False), g.astype(wide(dtype), copy=False)
    dw = xp.zeros(at.shape, x.dtype)
    if x.shape[2]:
        for i in range(len(x)):
            for k in range(at.shape[1]):
                dw[i, k] = xp.einsum("cq,cq->q", g[i], _seen(x[i], at[i, k], safe=False))
    return dw.astype(dtype, copy=False)
