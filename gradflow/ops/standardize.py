"""The arithmetic that all norms share: values brought to mean 0 and variance 1 over sets of elements, and back.

Every norm is xh = (x - mean) rstd, y = w xh + b over some dimensions of some arrangement of x; a Frame says which.
With gw = g w, n elements to a set and <.> the mean over the set, the gradient is

    dx = rstd (gw - <gw> - xh (<gw xh> + grstd rstd / n)) + gmean / n,   dw = sum g xh,   db = sum g

where gmean and grstd are the gradients of mean and rstd as outputs. A backward op takes mean and rstd as inputs of
their own, so its rules treat them as independent, and derivatives of any order come out right.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ..backend import is_floating, namespace
from ..dtypes import widened
from . import reduce, shape


class Frame(NamedTuple):
    """How x is arranged for a norm, with what shapes w, b and the statistics broadcast against it, over which
    dimensions a set reaches, and over which ones w is shared.
    """

    x: tuple[int, ...]
    w: tuple[int, ...]
    statistic: tuple[int, ...]
    over: tuple[int, ...]
    shared: tuple[int, ...]
    weight: tuple[int, ...]  # the shape in which w and b come
    saved: tuple[int, ...]  # the shape in which mean and rstd are given out
    n: int  # how many elements a set has; 1 rather than 0, by which nothing is divided
    inner: tuple[int, ...]  # of `over`, the dimensions over which w is shared


def _frame(x: tuple, w: tuple, statistic: tuple, over: tuple, shared: tuple, weight: tuple, saved: tuple) -> Frame:
    n, inner = math.prod(x[d] for d in over) or 1, tuple(d for d in over if d in shared)
    return Frame(x, w, statistic, over, shared, weight, saved, n, inner)


@lru_cache
def layers(x: tuple[int, ...], normalized: tuple[int, ...]) -> Frame:
    """For statistics over the last dimensions, of sizes `normalized`, and a weight for each of their elements."""
    k = len(x) - len(normalized)
    m, n = math.prod(x[:k]), math.prod(normalized)
    return _frame((m, n), (1, n), (m, 1), (1,), (0,), normalized, (*x[:k], *(1,) * len(normalized)))


@lru_cache
def channels(x: tuple[int, ...]) -> Frame:
    """For statistics of each channel, dimension 1, over all the others, and a weight per channel."""
    n, c = x[:2]
    return _frame((n, c, math.prod(x[2:])), (1, c, 1), (1, c, 1), (0, 2), (0, 2), (c,), (c,))


@lru_cache
def groups(x: tuple[int, ...], parts: int) -> Frame:
    """For statistics of each sample's `parts` groups of channels, and a weight per channel."""
    n, c = x[:2]
    d, size = c // parts, math.prod(x[2:])
    return _frame((n, parts, d, size), (1, parts, d, 1), (n, parts, 1, 1), (2, 3), (0, 3), (c,), (n, parts))


def check(name: str, x: Any, want: tuple[int, ...], **given: Any) -> None:
    """Raise unless x is floating and the weights given by name have the shape `want` and a dtype that goes with x's."""
    if not is_floating(x.dtype):
        raise RuntimeError(f"{name}: wanted a floating dtype, saw {x.dtype}")
    for what, v in given.items():
        if v is not None and v.shape != want:
            raise RuntimeError(f"{name}: wanted {what} of shape {want}, saw {v.shape}")
        if v is not None and v.dtype != x.dtype and not (x.dtype.itemsize == 2 and v.dtype == np.float32):
            raise RuntimeError(f"{name}: wanted {what} of dtype {x.dtype}, saw {v.dtype}")


# --- the arithmetic of all of them --------------------------------------------------------------------


def _as(x: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """x of this shape and dtype; None is None."""
    if x is None:
        return None
    x = x.reshape(shape)
    return x if x.dtype is dtype else x.astype(dtype, copy=False)


def _times(x: Any, scale: Any, own: bool) -> Any:
    """x scale, written over x if that is our own."""
    if not own:
        return x * scale
    x *= scale
    return x


def _total(a: Any, over: tuple[int, ...], b: Any = None) -> Any:
    """The sum of a, or of a b without an array for the products, with the summed dimensions left at one."""
    if not over:
        return a if b is None else a * b
    if a.size <= 4096 or type(a) is not np.ndarray:  # einsum costs more than so small a product, and on the card calls cuBLAS
        return (a if b is None else a * b).sum(over, keepdims=True)
    letters = "abcdef"[: a.ndim]
    left = "".join(c for i, c in enumerate(letters) if i not in over)
    y = np.einsum(f"{letters}->{left}", a) if b is None else np.einsum(f"{letters},{letters}->{left}", a, b)
    return y.reshape([1 if i in over else k for i, k in enumerate(a.shape)])


def forward(x: Any, w: Any, b: Any, eps: float, frame: Frame, centre: bool = True) -> tuple[Any, Any, Any]:
    """(y, mean, rstd), the variance from x - mean, so nothing cancels; without `centre` the mean counts as 0."""
    v = widened(x).reshape(frame.x)
    mean = _total(v, frame.over) / frame.n if centre else None
    y = v - mean if centre else v
    rstd = 1 / namespace(v).sqrt(_total(y, frame.over, y) / frame.n + eps)
    y = _times(y, rstd, own=centre)
    if w is not None:
        y *= _as(w, frame.w, y.dtype)
    if b is not None:
        y += _as(b, frame.w, y.dtype)
    return _as(y, x.shape, x.dtype), _as(mean, frame.saved, v.dtype), _as(rstd, frame.saved, v.dtype)


def backward(
    g: Any, x: Any, w: Any, mean: Any, rstd: Any, gmean: Any, grstd: Any, needs: tuple, frame: Frame, centre: bool = True
) -> tuple[Any, Any, Any]:
    """(dx, dw, db), dw and db in w's dtype; None for those not needed, and for a gmean or grstd that is zero."""
    shape, dtype, w_dtype = x.shape, x.dtype, x.dtype if w is None else w.dtype
    g, x = widened(g).reshape(frame.x), widened(x).reshape(frame.x)
    mean, rstd = _as(mean, frame.statistic, x.dtype), _as(rstd, frame.statistic, x.dtype)
    gmean, grstd = _as(gmean, frame.statistic, x.dtype), _as(grstd, frame.statistic, x.dtype)
    w = _as(w, frame.w, x.dtype)
    xh = _times(x - mean if centre else x, rstd, own=centre)
    dx = dw = db = a = c = scale = None
    # Where one w serves several elements of a set, sum over those before multiplying by it: that saves a pass over x.
    inner = frame.over if w is None and not (needs[1] or needs[2]) else frame.inner
    if inner:
        a, c = _total(g, inner), _total(g, inner, xh)
        rest = tuple(d for d in frame.shared if d not in inner)
        dw, db = _total(c, rest) if needs[1] else None, _total(a, rest) if needs[2] else None
        outer = tuple(d for d in frame.over if d not in inner)
        if w is not None:
            a, c = a * w, c * w
        a, c, scale = _total(a, outer), _total(c, outer), rstd if w is None else rstd * w
    else:
        dw, db = _total(g, frame.shared, xh) if needs[1] else None, _total(g, frame.shared) if needs[2] else None
        if needs[0]:
            g = g if w is None else g * w
            a, c, scale = _total(g, frame.over), _total(g, frame.over, xh), rstd
    if needs[0]:
        share = rstd / frame.n
        xh *= (c if grstd is None else c + grstd * rstd) * share
        dx = g * scale
        dx -= xh
        if centre:
            dx -= a * share if gmean is None else a * share - gmean / frame.n
        dx = _as(dx, shape, dtype)
    return dx, _as(dw, frame.weight, w_dtype), _as(db, frame.weight, w_dtype)


def twice(
    gg: tuple, g: Any, x: Any, w: Any, mean: Any, rstd: Any, grstd: Any, frame: Frame, centre: bool = True
) -> tuple[Any, ...]:
    """The gradients of backward's inputs (g, x, w, mean, rstd, gmean, grstd), in ops: gg has those of dx, dw and db."""
    old = x.shape, None if w is None else w.shape, None if mean is None else mean.shape, rstd.shape

    def back(v: Any, to: Any) -> Any:
        return None if v is None or to is None else shape.reshape(v, to)

    def total(v: Any) -> Any:
        return reduce.sum(v, frame.over, keepdim=True)

    n = frame.n
    p, q, s = back(gg[0], frame.x), back(gg[1], frame.w), back(gg[2], frame.w)
    g, x, w = shape.reshape(g, frame.x), shape.reshape(x, frame.x), back(w, frame.w)
    mean, rstd, grstd = (back(v, frame.statistic) for v in (mean, rstd, grstd))
    xh = (x - mean) * rstd if centre else x * rstd
    gw = g if w is None else g * w
    dg, du, dw, drstd, dgmean, dgrstd = g * 0, g * 0, None, rstd * 0, None, rstd * 0
    if p is not None:  # du is the gradient of xh
        a, pa = (total(gw) / n, total(p) / n) if centre else (rstd * 0, rstd * 0)
        c, pc = total(gw * xh) / n, total(p * xh) / n
        u = (p - pa - xh * pc) * rstd
        dg, dw = (u, None) if w is None else (u * w, reduce.sum(g * u, frame.shared, keepdim=True))
        du = -p * (c * rstd + grstd * rstd * rstd / n) - gw * (pc * rstd)
        drstd = total(p * (gw - a - xh * c)) - rstd * grstd * pc * 2
        dgmean, dgrstd = pa, -rstd * rstd * pc
    if q is not None:
        dg, du = dg + q * xh, du + q * g
    if s is not None:
        dg = dg + s
    dx = du * rstd
    drstd = drstd + total(du * xh) / rstd
    dmean = -total(dx) if centre else None
    return (
        back(dg, old[0]), back(dx, old[0]), back(dw, old[1]), back(dmean, old[2]), back(drstd, old[3]),
        back(dgmean, old[2]), back(dgrstd, old[3]),
    )  # fmt: skip
