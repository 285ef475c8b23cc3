"""Losses of single elements, as ops of one pass: of a difference, and of yes or no. The public ones are in loss.py."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..cases import Sampler, case
from ..dtypes import widened
from ..op import op
from . import pointwise, reduce


def _mean(v: Any, n: int) -> Any:
    return v / n if n else v * math.nan


def finish(v: Any, reduction: str, dtype: Any) -> Any:
    """Losses of elements reduced as asked; the mean of nothing is NaN."""
    if reduction != "none":
        n, v = v.size, v.sum()
        if reduction == "mean":
            v = _mean(v, n)
    return v.astype(dtype, copy=False)


def spread(g: Any, n: int, reduction: str) -> Any:
    """The gradient of each element's loss from that of the reduced one."""
    return _mean(g, n) if reduction == "mean" else g


def gathered(v: Any, n: int, reduction: str) -> Any:
    """The transpose of _spread: what reaches the reduced loss's gradient from every element's."""
    return v if reduction == "none" else spread(reduce.sum(v), n, reduction)


# --- a difference ----------------------------------------------------------------------------------------

# What follows from d = a - b, for each kind: the loss, its slope, and the slope's own.
_LOSS = {
    "mse": lambda d, delta: d * d,
    "l1": lambda d, delta: abs(d),
    "smooth_l1": lambda d, delta: _huber(d, delta) / delta,
    "huber": lambda d, delta: _huber(d, delta),
}
_SLOPE = {
    "mse": lambda d, delta: d * 2,
    "l1": lambda d, delta: pointwise.sign(d),
    "smooth_l1": lambda d, delta: pointwise.clamp(d / delta, -1.0, 1.0),
    "huber": lambda d, delta: pointwise.clamp(d, -delta, delta),
}
_CURVATURE = {
    "mse": lambda d, delta: 2,
    "l1": lambda d, delta: 0,
    "smooth_l1": lambda d, delta: pointwise.cast(pointwise.abs(d) < delta, d.dtype) * (1 / delta),
    "huber": lambda d, delta: pointwise.cast(pointwise.abs(d) < delta, d.dtype),
}


def _huber(d: Any, delta: float) -> Any:
    d = abs(d)
    z = np.minimum(d, delta)  # d^2 / 2 up to delta, delta (d - delta / 2) beyond
    d -= z * 0.5
    d *= z
    return d


def _differences(r: Sampler) -> list[case]:
    return [
        case(r(3, 4), r(3, 4), "mse", 1.0, "mean"),
        case(r(5), r(5), "mse", 1.0, "none"),
        case(r(67), r(67), "l1", 1.0, "sum"),
        case(r.strided(3, 5), r(3, 5), "smooth_l1", 0.7, "mean"),
        case(r(2, 3), r(2, 3), "smooth_l1", 1.5, "none"),
        case(r(3, 4), r.strided(3, 4), "huber", 0.9, "sum"),
        case(r(), r(), "huber", 1.0, "mean"),
        case(r(0), r(0), "mse", 1.0, "sum"),
        case(r(700) * 5, r(700), "huber", 2.0, "mean"),
    ]


def _with_g(r: Sampler, cases: list[case]) -> list[case]:
    """The cases of a loss as those of its backward op: in front g, a number or of x's shape."""
    return [
        case(r(*(c.args[0].shape if c.args[-1] == "none" else ())), *c.args, order=c.order) for c in cases if c.grad
    ]


@op(
    da_db=lambda g, a, b, kind, delta, reduction, needs: _opposite(
        difference_loss_backward(g, a, b, kind, delta, reduction), needs
    ),
    real=True,
    promote="a b",
    twin="loss",
    cases=_differences,
    reference=lambda torch, a, b, kind, delta, reduction: getattr(torch.nn.functional, f"{kind}_loss")(
        a, b, reduction=reduction, **{"smooth_l1": {"beta": delta}, "huber": {"delta": delta}}.get(kind, {})
    ),
)
def difference_loss(a, b, kind, delta, reduction):
    """The loss of d = a - b, each element's, or their sum or mean; a and b of one shape.

    mse d^2, l1 |d|, huber d^2 / 2 up to delta and delta (|d| - delta / 2) beyond, smooth_l1 huber / delta.
    """
    dtype = a.dtype
    return finish(_LOSS[kind](widened(a) - widened(b), delta), reduction, dtype)


@op(
    dg=lambda gg, a, b, kind, delta, reduction, a_shape: gathered(
        gg * _SLOPE[kind](a - b, delta), math.prod(a_shape), reduction
    ),
    da_db=lambda gg, g, a, b, kind, delta, reduction, a_shape, needs: _opposite(
        gg * spread(g, math.prod(a_shape), reduction) * _CURVATURE[kind](a - b, delta), needs
    ),
    promote="g a b",
    twin="loss",
    cases=lambda r: _with_g(r, _differences(r)),
    reference=None,
)
def difference_loss_backward(g, a, b, kind, delta, reduction):
    """The gradient of difference_loss for a, from g of its result's shape; that for b is minus it."""
    dtype, d = a.dtype, widened(a) - widened(b)
    slope = _SLOPE[kind](d, delta)
    return np.multiply(slope, spread(widened(g), d.size, reduction)).astype(dtype, copy=False)


def _opposite(d: Any, needs: tuple[bool, bool]) -> tuple[Any, Any]:
    return d, -d if needs[1] else None


# --- yes or no ---------------------------------------------------------------------------------------------


def _binary_cases(r: Sampler) -> list[case]:
    return [
        case(r(3, 4), r.uniform(0, 1, 3, 4), None, "mean"),
        case(r(3, 4), r.uniform(0, 1, 3, 4), r.positive(4), "mean"),
        case(r.strided(2, 5), r.uniform(0, 1, 2, 5), r.positive(2, 1), "sum"),
        case(r(67) * 3, r.uniform(0, 1, 67), None, "none"),
        case(r(5), r.uniform(0, 1, 5), r.positive(1), "none"),
        case(r(), r.uniform(0, 1), None, "sum"),
        case(r(0), r(0), None, "sum"),
        case(r(4) * 200, r.uniform(0, 1, 4), None, "none", order=0),  # saturated
    ]


def _log_of_sigmoid(x: Any) -> Any:
    return np.minimum(x, 0) - np.log1p(np.exp(-abs(x)))


@op(
    real=True,
    dx=lambda g, x, target, w, reduction: bce_logits_backward(g, x, target, w, reduction),
    dtarget=lambda g, x, w, reduction, x_shape: (
        spread(g, math.prod(x_shape), reduction) * (-x if w is None else -x - (w - 1) * pointwise.log_sigmoid(x))
    ),
    dw=lambda g, x, target, reduction, x_shape: (
        spread(g, math.prod(x_shape), reduction) * -(target * pointwise.log_sigmoid(x))
    ),
    twin="loss",
    cases=_binary_cases,
    reference=lambda torch, x, target, w, reduction: torch.nn.functional.binary_cross_entropy_with_logits(
        x, target, None, None, None, reduction, w if w is None else w.detach()
    ),
)
def bce_logits_forward(x, target, w, reduction):
    """(1 - t) x - (1 + (w - 1) t) log sigmoid(x), each element's or their sum or mean.

    target t of x's shape; w, the weight of the positive, None or broadcast to it.
    """
    v, t = widened(x), widened(target)
    if w is None:  # max(x, 0) - x t + log(1 + e^-|x|)
        y = np.maximum(v, 0) - v * t
        y += np.log1p(np.exp(-abs(v)))
    else:
        y = (1 - t) * v - ((widened(w) - 1) * t + 1) * _log_of_sigmoid(v)
    return finish(y, reduction, x.dtype)


@op(
    dg=lambda gg, x, target, w, reduction, x_shape: gathered(
        gg * (1 - target - _share(target, w) * pointwise.sigmoid(-x)), math.prod(x_shape), reduction
    ),
    dx=lambda gg, g, x, target, w, reduction, x_shape: (
        gg
        * spread(g, math.prod(x_shape), reduction)
        * _share(target, w)
        * (pointwise.sigmoid(x) * pointwise.sigmoid(-x))
    ),
    dtarget=lambda gg, g, x, w, reduction, x_shape: (
        gg
        * spread(g, math.prod(x_shape), reduction)
        * (x * 0 - 1 if w is None else -1 - (w - 1) * pointwise.sigmoid(-x))
    ),
    dw=lambda gg, g, x, target, reduction, x_shape: (
        -gg * spread(g, math.prod(x_shape), reduction) * (target * pointwise.sigmoid(-x))
    ),
    twin="loss",
    cases=lambda r: _with_g(r, _binary_cases(r)),
    reference=None,
)
def bce_logits_backward(g, x, target, w, reduction):
    """(1 - t - (1 + (w - 1) t) sigmoid(-x)) g, for a mean g / n: dx of bce_logits_forward."""
    v, t = widened(x), widened(target)
    with np.errstate(over="ignore"):  # e^x = inf gives 1 / inf = 0, which is right
        dx = 1 - t - _share(t, w) / (1 + np.exp(v))
    return np.multiply(dx, spread(widened(g), v.size, reduction)).astype(x.dtype, copy=False)


def _share(t: Any, w: Any) -> Any:
    return 1 if w is None else (w - 1) * t + 1


def _probability_cases(r: Sampler) -> list[case]:
    return [
        case(r.uniform(0.1, 0.9, 3, 4), r.uniform(0, 1, 3, 4), "mean"),
        case(r.uniform(0.1, 0.9, 67), r.uniform(0, 1, 67), "none"),
        case(r.uniform(0.1, 0.9, 3, 4).T, r.uniform(0, 1, 4, 3), "sum"),
        case(r.uniform(0.1, 0.9), r.uniform(0, 1), "mean"),
        case(np.array([0.0, 1.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0, 0.0]), "none", grad=False),
        case(r(0), r(0), "sum"),
    ]


@op(
    real=True,
    dx=lambda g, x, target, reduction: bce_backward(g, x, target, reduction),
    dtarget=lambda g, x, reduction, x_shape: (
        spread(g, math.prod(x_shape), reduction)
        * (pointwise.clamp(pointwise.log1p(-x), min=-100.0) - pointwise.clamp(pointwise.log(x), min=-100.0))
    ),
    promote="x target",
    twin="loss",
    cases=_probability_cases,
    reference=lambda torch, x, target, reduction: torch.nn.functional.binary_cross_entropy(
        x, target, reduction=reduction
    ),
)
def bce_forward(x, target, reduction):
    """-t log x - (1 - t) log(1 - x), logarithms held above -100, each element's or their sum or mean."""
    v, t = widened(x), widened(target)
    with np.errstate(divide="ignore"):
        y = np.maximum(np.log1p(-v), -100) * (t - 1) - np.maximum(np.log(v), -100) * t
    return finish(y, reduction, x.dtype)


@op(
    dg=lambda gg, x, target, reduction, x_shape: gathered(gg * (x - target) / _odds(x), math.prod(x_shape), reduction),
    dx=lambda gg, g, x, target, reduction, x_shape: (
        gg * spread(g, math.prod(x_shape), reduction) * (1 - (x - target) * (1 - x * 2) / _odds(x)) / _odds(x)
    ),
    dtarget=lambda gg, g, x, reduction, x_shape: -gg * spread(g, math.prod(x_shape), reduction) / _odds(x),
    promote="g x target",
    twin="loss",
    cases=lambda r: _with_g(r, _probability_cases(r)),
    reference=None,
)
def bce_backward(g, x, target, reduction):
    """(x - t) / (x (1 - x)) g, the divisor held above 1e-12, for a mean g / n: dx of bce_forward."""
    v, t = widened(x), widened(target)
    dx = (v - t) / np.maximum(v * (1 - v), 1e-12)
    return np.multiply(dx, spread(widened(g), v.size, reduction)).astype(x.dtype, copy=False)


def _odds(x: Any) -> Any:
    return pointwise.clamp(x * (1 - x), min=1e-12)
