"""Losses of a choice between classes, as ops of one pass: cross entropy, picking and placing, the margin.

A `target` goes with x of shape (n, c, ...) or (c,): it has x's shape without dimension 1 (0 for (c,)), and rows whose
target is ignore_index count for nothing. The public functions are in loss.py.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backend import namespace
from ..cases import Sampler, case
from ..dtypes import widened
from ..op import op, unwrap
from . import element_loss, pointwise, reduce, shape

# --- classes --------------------------------------------------------------------------------------------


def _frame(x_shape: tuple[int, ...]) -> tuple[int, int, int]:
    """The x_shape as (n, c, d): samples, classes, positions."""
    return (1, x_shape[0], 1) if len(x_shape) == 1 else (x_shape[0], x_shape[1], math.prod(x_shape[2:]))


def _kept(target: Any, ignore_index: int, frame: tuple[int, int, int]) -> tuple[Any, Any]:
    """(which rows count, their classes and 0 for the others), of shape (n, 1, d); (None, classes) where all are known to."""
    t = target.reshape(frame[0], 1, frame[2])
    kept = t != ignore_index
    if type(t) is np.ndarray and np.count_nonzero(kept) == t.size:
        return None, t
    return kept, t * kept


def _counted(kept: Any, rows: Any) -> Any:
    """The rows, 0 where they do not count."""
    return rows if kept is None else namespace(rows).where(kept, rows, rows.dtype.type(0))


def _checked(name: str, t: Any, c: int) -> tuple[Any, Any]:
    """(classes, which of them are out of range): IndexError if any is, but on the card, which would have to be waited for;
    there they become 0.
    """
    if type(t) is not np.ndarray:
        wrong = (t < 0) | (t >= c)
        return t * ~wrong, wrong
    if t.size and (t.min() < 0 or t.max() >= c):
        raise IndexError(f"{name}: wanted targets in [0, {c}), saw {t[(t < 0) | (t >= c)][0]}")
    return t, None


def _own(t: Any, frame: tuple[int, int, int]) -> tuple:
    """The index of the rows' own classes in an (n, c, d) array."""
    xp, (n, _, d) = namespace(t), frame
    if d == 1:  # plain rows index faster
        return xp.arange(n), t[:, 0, 0], 0
    return xp.arange(n)[:, None], t[:, 0], xp.arange(d)


def _over_classes(v: Any, x: Any) -> Any:
    """Rows' values, in target's shape, made to broadcast against x."""
    return shape.reshape(v, (1,) if x.ndim == 1 else (x.shape[0], 1, *x.shape[2:])) if v.ndim else v


def _class_cases(r: Sampler, ignore_index: int, *options: Any) -> list[case]:
    t = r.integers(0, 4, 5)
    t[1] = ignore_index
    pairs = [
        (r(3, 4), r.integers(0, 4, 3)),
        (r(5, 4), t),
        (r(2, 3, 2, 2), r.integers(0, 3, 2, 2, 2)),
        (r(5), np.asarray(1)),
        (r.strided(4, 6), r.integers(0, 6, 4)),
        (r(3, 1), r.integers(0, 1, 3)),
        (r(2, 67), r.integers(0, 67, 2)),
    ]
    return [case(x, t, ignore_index, *options) for x, t in pairs]


def _entropy_cases(r: Sampler) -> list[case]:
    return [
        *_class_cases(r, -100, "mean", 0.0),
        *_class_cases(r, -100, "none", 0.1),
        *_class_cases(r, 2, "sum", 0.3)[:4],
        case(r(0, 3), r.integers(0, 3, 0), -100, "sum", 0.0),
        case(r(3, 4) * 100, r.integers(0, 4, 3), -100, "mean", 0.0, order=0),  # saturated
    ]


def _entropy_backward_cases(r: Sampler) -> list[case]:
    def one(c: case) -> case:
        x, t, ignore, reduction, smoothing = c.args
        g = r(*t.shape) if reduction == "none" else r()
        return case(g, x, t, np.asarray(r(*t.shape) + 1), np.asarray(3), r(*t.shape), ignore, reduction, smoothing)

    return [one(c) for c in _entropy_cases(r)[:-1]]


@op(
    real=True,
    dx=lambda g, x, target, ignore_index, reduction, label_smoothing, lse, total: cross_entropy_backward(
        g[0], x, target, lse, total, g[1], ignore_index, reduction, label_smoothing
    ),
    outputs=("y", "lse", "total"),
    absent=True,
    twin="loss",
    cases=_entropy_cases,
    reference=lambda torch, x, target, ignore_index, reduction, label_smoothing: torch.nn.functional.cross_entropy(
        x, target, None, None, ignore_index, None, reduction, label_smoothing
    ),
)
def cross_entropy_forward(x, target, ignore_index, reduction, label_smoothing):
    """(y, lse, total): the loss, each row's log sum_c e^x_c (float32 for half types), for a mean how many rows count.

    With e = label_smoothing a row's loss is lse - (1 - e) x_target - e / c sum_c x_c; NaN for a target out of range.
    """
    xp, frame = namespace(x), _frame(x.shape)
    n, c, d = frame
    v = widened(x).reshape(frame)
    kept, t = _kept(target, ignore_index, frame)
    t, wrong = _checked("cross_entropy", t, c)
    with np.errstate(invalid="ignore"):  # inf - inf is NaN, as it should be; so is 0 / 0
        m = v.max(1, keepdims=True)
        e = v - m
        xp.exp(e, out=e)
        lse = xp.log(e.sum(1, keepdims=True))
        lse += m
        own = v[_own(t, frame)].reshape(n, 1, d)
        if label_smoothing:
            own = own * (1 - label_smoothing) + v.sum(1, keepdims=True) * (label_smoothing / c)
        rows = _counted(kept, lse - own)
        if wrong is not None:
            rows = xp.where(wrong, v.dtype.type(math.nan), rows)
        y, total = rows.reshape(target.shape) if reduction == "none" else rows.sum(), xp.zeros((), np.int64)
        if reduction == "mean":
            total = np.asarray(n * d) if kept is None else xp.asarray(xp.count_nonzero(kept))
            y = y / total.astype(y.dtype)
    return y.astype(x.dtype, copy=False), lse.reshape(target.shape), total


@op(
    dg_dx_dlse_dglse=lambda gg, g, x, target, lse, total, glse, ignore_index, reduction, label_smoothing: _dentropy(
        gg, g, x, target, lse, total, glse, ignore_index, reduction, label_smoothing
    ),
    twin="loss",
    cases=_entropy_backward_cases,
    reference=None,
)
def cross_entropy_backward(g, x, target, lse, total, glse, ignore_index, reduction, label_smoothing):
    """(s + glse) e^(x - lse) - s ((1 - e) [c = target] + e / c): dx of cross_entropy_forward from g, glse of y and lse.

    With e = label_smoothing, and s = g, for a mean g / total, and 0 for rows that do not count.
    """
    xp, frame = namespace(x), _frame(x.shape)
    n, c, d = frame
    v = widened(x).reshape(frame)
    kept, t = _kept(target, ignore_index, frame)
    own = _own(t if xp is np else _checked("cross_entropy", t, c)[0], frame)
    s = g.astype(v.dtype)
    if reduction == "mean":
        s = s / xp.maximum(total, 1).astype(v.dtype)
    s = _counted(kept, s.reshape((n, 1, d) if reduction == "none" else ()))
    dx = v - lse.reshape(n, 1, d).astype(v.dtype, copy=False)
    xp.exp(dx, out=dx)
    dx *= s if glse is None else s + glse.reshape(n, 1, d).astype(v.dtype, copy=False)
    if label_smoothing:
        dx -= s * (label_smoothing / c)
        s = s * (1 - label_smoothing)
    dx[own] -= s.reshape((n,) if d == 1 else (n, d)) if s.ndim else s
    return dx.reshape(x.shape).astype(x.dtype, copy=False)


def _dentropy(
    p: Any, g: Any, x: Any, target: Any, lse: Any, total: Any, glse: Any, ignore_index: int, reduction: str, e: float
) -> tuple[Any, Any, Any, Any]:
    """The gradients of cross_entropy_backward's g, x, lse and glse from that of its output."""
    dim = 0 if x.ndim == 1 else 1
    kept = pointwise.cast(pointwise.ne(target, ignore_index), x.dtype)
    share = kept
    if reduction == "mean":  # where no row counts there is nothing to divide
        share = kept / pointwise.clamp(pointwise.cast(total, x.dtype), min=1)
    q = pointwise.exp(x - _over_classes(lse, x))
    pq = reduce.sum(p * q, dim)
    b = g * share + glse
    ds = (pq - class_pick(p, target, ignore_index) * (1 - e) - reduce.sum(p, dim) * (e / x.shape[dim])) * share
    return ds if reduction == "none" else reduce.sum(ds), p * q * _over_classes(b, x), -pq * b, pq


@op(
    real=True,
    dx=lambda g, target, ignore_index, x_shape: class_place(g, target, ignore_index, x_shape),
    cases=lambda r: [*_class_cases(r, -100), *_class_cases(r, 2)[:2], case(r(0, 3), r.integers(0, 3, 0), -100)],
    reference=lambda torch, x, target, ignore_index: (
        -torch.nn.functional.nll_loss(x, target, ignore_index=ignore_index, reduction="none")
    ),
)
def class_pick(x, target, ignore_index):
    """y_i = x_(i, target_i), 0 for rows that do not count, NaN for a target out of range."""
    xp, frame = namespace(x), _frame(x.shape)
    kept, t = _kept(target, ignore_index, frame)
    t, wrong = _checked("class_pick", t, frame[1])
    y = _counted(kept, x.reshape(frame)[_own(t, frame)].reshape(t.shape))
    if wrong is not None:
        y = xp.where(wrong, x.dtype.type(math.nan), y)
    return y.astype(x.dtype, copy=False).reshape(target.shape)


@op(
    dg=lambda gg, target, ignore_index: class_pick(gg, target, ignore_index),
    cases=lambda r: [
        case(r(*c.args[1].shape), c.args[1], c.args[2], c.args[0].shape)
        for c in _class_cases(r, -100) + _class_cases(r, 1)
    ],
    reference=None,
)
def class_place(g, target, ignore_index, x_shape):
    """Zeros of x_shape with g_i at (i, target_i) of the rows that count: the transpose of class_pick."""
    xp, frame = namespace(g), _frame(x_shape)
    n, c, d = frame
    kept, t = _kept(target, ignore_index, frame)
    t, _ = _checked("class_place", t, c)
    rows = _counted(kept, g.reshape(n, 1, d))
    dx = xp.zeros(frame, g.dtype)
    dx[_own(t, frame)] = rows.reshape((n,) if d == 1 else (n, d))
    return dx.reshape(x_shape)


# --- a margin between classes --------------------------------------------------------------------------------


def _margin_cases(r: Sampler) -> list[case]:
    return [
        case(r(3, 4), r.integers(0, 4, 3), 1, 1.0, "mean"),
        case(r(3, 4), r.integers(0, 4, 3), 2, 0.7, "none"),
        case(r.strided(2, 67), r.integers(0, 67, 2), 2, 1.0, "sum"),
        case(r(5), np.asarray(2), 2, 1.0, "mean"),
        case(r(4, 1), r.integers(0, 1, 4), 1, 1.0, "none"),
        case(r(0, 3), r.integers(0, 3, 0), 1, 1.0, "sum"),
    ]


@op(
    real=True,
    dx=lambda g, x, target, p, margin, reduction: multi_margin_backward(g, x, target, p, margin, reduction),
    twin="margin",
    cases=_margin_cases,
    reference=lambda torch, x, target, p, margin, reduction: (
        torch.nn.functional.multi_margin_loss(x, target, p, margin, reduction=reduction) if x.numel() else x.sum()
    ),
)
def multi_margin_forward(x, target, p, margin, reduction):
    """sum_(c != target) max(0, margin - x_target + x_c)^p / classes, p 1 or 2; each row's, or their sum or mean."""
    xp, (n, c, _) = namespace(x), _frame(x.shape)
    v, t = widened(x).reshape(n, c), target.reshape(n, 1)
    z = np.maximum(v - (xp.take_along_axis(v, t, 1) - margin), 0)
    rows = (z if p == 1 else z * z).sum(1) - max(margin, 0.0) ** p  # less the target's own
    rows = rows / c
    return element_loss.finish(rows.reshape(target.shape), reduction, x.dtype)


@op(
    dg=lambda gg, x, target, p, margin, reduction, x_shape: element_loss.gathered(
        _over_rows(_against(gg, target) * _margin_slope(x, target, p, margin)) / _frame(x_shape)[1],
        _frame(x_shape)[0],
        reduction,
    ),
    dx=lambda gg, g, x, target, p, margin, reduction: _dmargin(gg, g, x, target, p, margin, reduction),
    twin="margin",
    cases=lambda r: [case(r(*(c.args[1].shape if c.args[-1] == "none" else ())), *c.args) for c in _margin_cases(r)],
    reference=None,
)
def multi_margin_backward(g, x, target, p, margin, reduction):
    """dx of multi_margin_forward from g of its result's shape."""
    xp, (n, c, _) = namespace(x), _frame(x.shape)
    v, t = widened(x).reshape(n, c), target.reshape(n, 1)
    z = np.maximum(v - (xp.take_along_axis(v, t, 1) - margin), 0)
    dx = (z > 0).astype(v.dtype) if p == 1 else z * 2
    s = element_loss.spread(widened(g), n, reduction) / c
    dx *= s.reshape(n, 1) if reduction == "none" else s
    i = xp.arange(n)
    dx[i, t[:, 0]] = 0
    dx[i, t[:, 0]] = -dx.sum(1)
    return dx.reshape(x.shape).astype(x.dtype, copy=False)


def _over_rows(v: Any) -> Any:
    return reduce.sum(v, 0 if v.ndim == 1 else 1)


def _others(x: Any, target: Any) -> Any:
    """1 at every class but the target's."""
    x, target = unwrap(x), unwrap(target)
    return 1 - class_place(namespace(x).ones(target.shape, x.dtype), target, -100, x.shape)


def _against(v: Any, target: Any) -> Any:
    """v_c - v_target for every class."""
    return v - _over_classes(class_pick(v, target, -100), v)


def _margin_slope(x: Any, target: Any, p: int, margin: float) -> Any:
    """What a row's loss, times the number of classes, changes by as x_c - x_target does."""
    z = _against(x, target) + margin
    return (z > 0) * _others(x, target) if p == 1 else pointwise.clamp(z, min=0.0) * 2 * _others(x, target)


def _dmargin(gg: Any, g: Any, x: Any, target: Any, p: int, margin: float, reduction: str) -> Any:
    if p == 1:
        return gg * 0
    n, c, _ = _frame(x.shape)
    s = element_loss.spread(g, n, reduction)
    h = _against(gg, target) * ((_against(x, target) + margin > 0) * _others(x, target)) * (2 / c)
    h = h * (_over_classes(s, x) if reduction == "none" else s)
    return h - class_place(_over_rows(h), target, -100, x.shape)
