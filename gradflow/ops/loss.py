"""Losses: how wrong a prediction is, as one number (reduction "mean" or "sum") or one for each element ("none").

Plain functions with PyTorch's signatures, made of the ops of class_loss.py and element_loss.py; those of pairs of
vectors are in pair_loss.py. `size_average` and `reduce` are PyTorch's old names for the reduction.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from ..backend import is_floating, namespace
from ..call import sampled
from ..op import unwrap, wrap
from ..tape import Traced
from . import class_loss, element_loss, pointwise, reduce, shape
from .softmax import log_softmax

_reduce = reduce  # some losses have an argument of this name


def _reduction(name: str, size_average: bool | None, reduce: bool | None, reduction: str, also: str = "mean") -> str:
    """The reduction asked for, old way or new. ValueError unless it is none, mean or sum, or `also`."""
    if size_average is not None or reduce is not None:
        reduction = "none" if reduce is False else "sum" if size_average is False else "mean"
        warnings.warn(f"{name}: size_average and reduce are deprecated; use reduction={reduction!r}", stacklevel=3)
    if type(reduction) is int and 0 <= reduction <= 2:  # as the functions of PyTorch's own namespace have them
        return ("none", "mean", "sum")[reduction]
    if reduction not in ("none", "mean", "sum", also):
        raise ValueError(f"{name}: wanted reduction 'none', 'mean' or 'sum', saw {reduction!r}")
    return reduction


def _reduced(v: Any, reduction: str) -> Any:
    return v if reduction == "none" else reduce.sum(v) if reduction == "sum" else reduce.mean(v)


def _tensors(name: str, *given: Any) -> None:
    """TypeError unless all are tensors or arrays."""
    for v in given:
        if not hasattr(v, "dtype"):
            raise TypeError(f"{name}: wanted tensors as input and target, saw {type(v).__name__}")


def _together(name: str, *tensors: Any) -> None:
    """Raise a RuntimeError unless the shapes broadcast, a TypeError for what is no tensor."""
    _tensors(name, *tensors)
    shapes = [tuple(t.shape) for t in tensors]
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        raise RuntimeError(f"{name}: wanted shapes that broadcast, saw {', '.join(map(str, shapes))}") from None


def _share(total: Any, of: Any) -> Any:
    """The total / of. Where no target counts it is NaN, 0 / 0, without a warning, and its gradients are 0."""
    nothing = of == 0
    with np.errstate(divide="ignore", invalid="ignore"):
        constant = wrap(unwrap(total)) / unwrap(of) if isinstance(total, Traced) else total / of
    if not isinstance(constant, Traced):
        constant = namespace(total).asarray(constant)
    return pointwise.where(nothing, constant, total / (of + nothing))


# --- classes --------------------------------------------------------------------------------------------


def _check(name: str, input: Any, target: Any) -> None:
    """Raise unless the target has integers, one for each of the input's rows of classes."""
    x_shape, t_shape, dtype = tuple(input.shape), tuple(target.shape), target.dtype
    if not x_shape:
        kind = ValueError if name == "nll_loss" else IndexError
        raise kind(f"{name}: wanted an input of shape (c,), (n, c) or (n, c, ...), saw one number")
    want = (*x_shape[:1], *x_shape[2:]) if len(x_shape) > 1 else ()
    # PyTorch raises another error for these
    batch = t_shape[:1] != want[:1] if len(x_shape) > 1 else len(t_shape) == 1 and t_shape != (1,)
    if dtype.kind not in "iu" and not batch:
        raise RuntimeError(f"{name}: wanted a target of integers, saw {dtype}")
    if t_shape != want:
        kind = ValueError if batch else RuntimeError
        raise kind(f"{name}: wanted a target of shape {want} for an input of shape {x_shape}, saw {t_shape}")


def _classes(name: str, input: Any, target: Any, ignore_index: int) -> tuple[Any, Any]:
    """Where the target counts, as numbers, and the classes, 0 elsewhere, in target's shape, once all is checked."""
    _check(name, input, target)
    t, c = unwrap(target), input.shape[min(input.ndim - 1, 1)]
    kept = t != ignore_index
    safe = t * kept
    if type(t) is np.ndarray and t.size and (safe.min() < 0 or safe.max() >= c):  # a card would have to be waited for
        wrong = safe[(safe < 0) | (safe >= c)].flat[0]
        raise IndexError(f"{name}: wanted targets in [0, {c}), saw {wrong}")
    return kept.astype(input.dtype), safe


def _alone(input: Any, target: Any) -> Any:
    """The target (1,) of an input (c,) as ()."""
    return shape.reshape(target, ()) if input.ndim == 1 and tuple(target.shape) == (1,) else target


def _check_weight(name: str, input: Any, weight: Any) -> None:
    if not input.ndim:
        raise RuntimeError(f"{name}: wanted an input of shape (c,), (n, c) or (n, c, ...), saw one number")
    c = input.shape[min(input.ndim - 1, 1)]
    if tuple(weight.shape) != (c,):
        raise RuntimeError(f"{name}: wanted a weight for each of {c} classes, saw shape {tuple(weight.shape)}")
    if weight.dtype != input.dtype:
        raise RuntimeError(f"{name}: wanted a weight of the input's dtype {input.dtype}, saw {weight.dtype}")


def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """-sum_c q_c w_c log softmax(x)_c, q the target: (1 - e) of a class, and e / c of every class, e = label_smoothing.

    input (n, c, ...) or (c,). target: classes (n, ...) or (), of which ignore_index counts for nothing and the mean is
    weighted by w; or probabilities of input's shape, and the mean is over n and positions. weight (c,). IndexError for
    a class out of range (NaN on the card), ValueError or RuntimeError for shapes that do not fit.
    """
    reduction = _reduction("cross_entropy", size_average, reduce, reduction)
    _tensors("cross_entropy", input, target)
    if not 0.0 <= label_smoothing <= 1.0:
        raise RuntimeError(f"cross_entropy: wanted label_smoothing in [0, 1], saw {label_smoothing}")
    if weight is not None:
        _check_weight("cross_entropy", input, weight)
    if is_floating(target.dtype) and tuple(target.shape) == tuple(input.shape) and input.ndim:
        if ignore_index >= 0:
            raise RuntimeError(f"cross_entropy: wanted no ignore_index with a target of probabilities, saw {ignore_index}")
        return _soft_cross_entropy(input, target, weight, reduction, label_smoothing)
    target = _alone(input, target)
    if weight is None:
        _check("cross_entropy", input, target)
        return class_loss.cross_entropy_forward(input, target, ignore_index, reduction, label_smoothing)[0]
    kept, safe = _classes("cross_entropy", input, target, ignore_index)
    w = weight[safe] * kept
    if label_smoothing:
        dim = min(input.ndim - 1, 1)
        logp = log_softmax(input, dim)
        rows = class_loss.class_pick(logp, target, ignore_index) * w * (label_smoothing - 1)
        rows = rows - _reduce.sum(logp * _along_classes(weight, input), dim) * kept * (
            label_smoothing / input.shape[dim]
        )
        rows = pointwise.where(kept != 0, rows, 0.0)  # no gradient, even where none counts and the mean is by 0
    else:
        rows = class_loss.cross_entropy_forward(input, target, ignore_index, "none", 0.0)[0] * w
    if reduction == "mean":
        return _share(_reduce.sum(rows), _reduce.sum(w))
    return _reduced(rows, reduction)


def _along_classes(weight: Any, input: Any) -> Any:
    """The weight of shape (c,) made to broadcast along input's classes."""
    return weight if input.ndim < 3 else shape.reshape(weight, (-1, *(1,) * (input.ndim - 2)))


def _soft_cross_entropy(input: Any, target: Any, weight: Any, reduction: str, label_smoothing: float) -> Any:
    dim = min(input.ndim - 1, 1)
    if label_smoothing and input.shape[dim]:
        target = target * (1 - label_smoothing) + label_smoothing / input.shape[dim]
    if weight is not None:
        target = target * _along_classes(weight, input)
    rows = -_reduce.sum(log_softmax(input, dim) * target, dim)
    return _reduced(rows, reduction)


def nll_loss(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """-w_target x_target for log-probabilities x; the mean is weighted by w. Shapes and errors as cross_entropy."""
    reduction = _reduction("nll_loss", size_average, reduce, reduction)
    _tensors("nll_loss", input, target)
    target = _alone(input, target)
    kept, safe = _classes("nll_loss", input, target, ignore_index)
    rows = -class_loss.class_pick(input, target, ignore_index)
    if weight is not None:
        _check_weight("nll_loss", input, weight)
        kept = weight[safe] * kept
        rows = rows * kept
    if reduction == "mean":
        return _share(_reduce.sum(rows), _reduce.sum(kept))
    return _reduced(rows, reduction)


def multi_margin_loss(
    input: Any,
    target: Any,
    p: int = 1,
    margin: float = 1.0,
    weight: Any = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """w_target / classes sum_(c != target) max(0, margin - x_target + x_c)^p, p 1 or 2; the mean is over n.

    input (n, c) or (c,), target (n,) or (). ValueError for another p, RuntimeError for targets out of range or shapes.
    """
    reduction = _reduction("multi_margin_loss", size_average, reduce, reduction)
    if p not in (1, 2):
        raise ValueError(f"multi_margin_loss: wanted p 1 or 2, saw {p}")
    if weight is not None and weight.ndim != 1:
        raise ValueError(f"multi_margin_loss: wanted a weight of one dimension, saw shape {tuple(weight.shape)}")
    if input.ndim == 0:
        input = shape.reshape(input, (1,))
    if input.ndim == 1 and target.ndim == 1 and target.shape[0] == 1:
        target = shape.reshape(target, ())
    if input.ndim == 2 and input.shape[0] == 1 and target.ndim == 0:
        input = shape.reshape(input, (-1,))
    if input.ndim not in (1, 2):
        raise RuntimeError(f"multi_margin_loss: wanted an input of 1 or 2 dimensions, saw shape {tuple(input.shape)}")
    try:
        _, safe = _classes("multi_margin_loss", input, target, -(2**62))
    except (IndexError, ValueError) as e:
        raise RuntimeError(str(e)) from None
    if weight is None:
        return class_loss.multi_margin_forward(input, target, p, margin, reduction)
    _check_weight("multi_margin_loss", input, weight)
    return _reduced(class_loss.multi_margin_forward(input, target, p, margin, "none") * weight[safe], reduction)


@sampled("target")
def multilabel_margin_loss(
    input: Any,
    target: Any,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """1 / classes sum_(j a label) sum_(i no label) max(0, 1 - x_j + x_i).

    input (n, c) or (c,); target of input's shape: each row's labels, in front of the first -1. RuntimeError for targets
    out of range or of another shape.
    """
    reduction = _reduction("multilabel_margin_loss", size_average, reduce, reduction)
    t, xp = unwrap(target), namespace(unwrap(target))
    fits = t.shape == tuple(input.shape) or (input.ndim <= 1 and t.ndim <= 1 and t.size == input.numel())
    if input.ndim > 2 or not fits or t.dtype.kind not in "iu":
        raise RuntimeError(
            f"multilabel_margin_loss: wanted an integer target of the input's shape, (n, c) or (c,), saw {t.shape} "
            f"{t.dtype} for {tuple(input.shape)}"
        )
    c = input.shape[-1] if input.ndim else 1
    if not c:
        raise RuntimeError(f"multilabel_margin_loss: wanted at least one class, saw an input of shape {tuple(input.shape)}")
    if type(t) is np.ndarray and t.size and (t.min() < -1 or t.max() >= c):
        raise RuntimeError(f"multilabel_margin_loss: wanted targets in [-1, {c}), saw {t.min()} to {t.max()}")
    rows = shape.reshape(input, (-1, c))
    t = t.reshape(-1, c)
    named = xp.cumsum(t < 0, 1) == 0  # in front of the first -1
    t = t * named
    label = ((t[:, :, None] == xp.arange(c)) & named[:, :, None]).any(1)
    pairs = (named[:, :, None] & ~label[:, None, :]).astype(input.dtype)
    chosen = rows[xp.arange(rows.shape[0])[:, None], t]
    z = pointwise.clamp(1 - shape.reshape(chosen, (-1, c, 1)) + shape.reshape(rows, (-1, 1, c)), min=0.0) * pairs
    v = _reduce.sum(z, (1, 2)) / c
    return _reduced(v if input.ndim == 2 else shape.reshape(v, ()), reduction)


def multilabel_soft_margin_loss(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """-w (t log sigmoid(x) + (1 - t) log sigmoid(-x)), averaged over the last dimension, the classes; weight (c,)."""
    reduction = _reduction("multilabel_soft_margin_loss", size_average, reduce, reduction)
    _together("multilabel_soft_margin_loss", input, target)
    v = -(target * pointwise.log_sigmoid(input) + (1 - target) * pointwise.log_sigmoid(-input))
    v = v if weight is None else v * weight
    return _reduced(_reduce.mean(v, input.ndim - 1) if v.ndim else v, reduction)


# --- numbers ----------------------------------------------------------------------------------------------


def _pair(name: str, input: Any, target: Any) -> tuple[Any, Any]:
    """The input and target of one shape, with PyTorch's warning where they had to be broadcast."""
    a, b = tuple(input.shape), tuple(target.shape)
    if a == b:
        return input, target
    warnings.warn(
        f"{name}: the target's shape {b} differs from the input's, {a}; broadcasting is likely to give wrong results",
        UserWarning,
        stacklevel=3,
    )
    try:
        both = np.broadcast_shapes(a, b)
    except ValueError:
        raise RuntimeError(f"{name}: wanted shapes that broadcast, saw {a} and {b}") from None
    return shape.expand(input, both), shape.expand(target, both)


def _difference(name: str, kind: str, input: Any, target: Any, delta: float, reduction: str, weight: Any) -> Any:
    a, b = _pair(name, input, target)
    if kind == "l1" and "c" in (a.dtype.kind, b.dtype.kind):  # the modulus, a real number
        v = pointwise.abs(a - b)
        return _reduced(v if weight is None else v * weight, reduction)
    if weight is None:
        return element_loss.difference_loss(a, b, kind, delta, reduction)
    if tuple(weight.shape) != tuple(input.shape):
        raise ValueError(f"{name}: wanted a weight of input's shape {tuple(input.shape)}, saw {tuple(weight.shape)}")
    v = element_loss.difference_loss(a, b, kind, delta, "none") * weight
    return _reduce.sum(v) / _reduce.sum(weight) if reduction == "mean" else _reduced(v, reduction)


def mse_loss(
    input: Any,
    target: Any,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Any = None,
) -> Any:
    """(x - t)^2; a weight of input's shape also weights the mean. Warns where shapes have to be broadcast."""
    reduction = _reduction("mse_loss", size_average, reduce, reduction)
    return _difference("mse_loss", "mse", input, target, 1.0, reduction, weight)


def l1_loss(
    input: Any,
    target: Any,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Any = None,
) -> Any:
    """|x - t|; a weight of input's shape also weights the mean. Warns where shapes have to be broadcast."""
    reduction = _reduction("l1_loss", size_average, reduce, reduction)
    return _difference("l1_loss", "l1", input, target, 1.0, reduction, weight)


def smooth_l1_loss(
    input: Any,
    target: Any,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Any:
    """d^2 / (2 beta) where d = |x - t| < beta, else d - beta / 2 (Girshick 2015). RuntimeError for negative beta."""
    reduction = _reduction("smooth_l1_loss", size_average, reduce, reduction)
    if beta < 0:
        raise RuntimeError(f"smooth_l1_loss: wanted beta of at least 0, saw {beta}")
    kind = "smooth_l1" if beta else "l1"
    return _difference("smooth_l1_loss", kind, input, target, float(beta), reduction, None)


def huber_loss(input: Any, target: Any, reduction: str = "mean", delta: float = 1.0, weight: Any = None) -> Any:
    """d^2 / 2 where d = |x - t| <= delta, else delta (d - delta / 2) (Huber 1964). RuntimeError unless delta > 0."""
    reduction = _reduction("huber_loss", None, None, reduction)
    if isinstance(delta, bool) or not isinstance(delta, (int, float)):
        raise TypeError(f"huber_loss: wanted delta as a float or an int, saw {type(delta).__name__}")
    if delta <= 0:
        raise RuntimeError(f"huber_loss: wanted delta greater than 0, saw {delta}")
    return _difference("huber_loss", "huber", input, target, float(delta), reduction, weight)


def gaussian_nll_loss(
    input: Any, target: Any, var: Any, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
) -> Any:
    """(log v + (x - t)^2 / v) / 2, v = max(var, eps), and log(2 pi) / 2 if `full` (Nix & Weigend 1994).

    var a number, or of input's shape but for one dimension of 1, or without the last; else, or negative: ValueError.
    """
    reduction = _reduction("gaussian_nll_loss", None, None, reduction)
    if isinstance(var, (float, int)):
        xp = namespace(unwrap(input))
        var = xp.full(tuple(input.shape), var, input.dtype)
    a, v = tuple(input.shape), tuple(var.shape)
    if a != v and a[:-1] == v:
        var = shape.reshape(var, (*v, 1))
    elif a != v and (len(a) != len(v) or sum(n for m, n in zip(a, v, strict=True) if m != n) != 1):
        raise ValueError(f"gaussian_nll_loss: wanted var of a shape that fits input's {a}, saw {v}")
    raw = unwrap(var)
    if type(raw) is np.ndarray and (raw < 0).any():
        raise ValueError(f"gaussian_nll_loss: wanted var of at least 0, saw {raw.min()}")
    _together("gaussian_nll_loss", input, target)
    lift = namespace(raw).maximum(raw, eps) - raw  # a constant: held above eps, var keeps its gradient
    var = var + lift.astype(raw.dtype, copy=False)
    v = (pointwise.log(var) + pointwise.square(input - target) / var) * 0.5
    return _reduced(v + 0.5 * math.log(2 * math.pi) if full else v, reduction)


def poisson_nll_loss(
    input: Any,
    target: Any,
    log_input: bool = True,
    full: bool = False,
    size_average: bool | None = None,
    eps: float = 1e-8,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """e^x - t x, or x - t log(x + eps) without log_input.

    `full` adds Stirling's t log t - t + log(2 pi t) / 2 where t > 1.
    """
    reduction = _reduction("poisson_nll_loss", size_average, reduce, reduction)
    _together("poisson_nll_loss", input, target)
    v = pointwise.exp(input) - target * input if log_input else input - target * pointwise.log(input + eps)
    if full:
        large = target > 1
        t = pointwise.where(large, target, 1.0)
        v = v + pointwise.where(large, t * pointwise.log(t) - t + pointwise.log(t * (2 * math.pi)) * 0.5, 0.0)
    return _reduced(v, reduction)


# --- probabilities ------------------------------------------------------------------------------------------


def _same_shape(name: str, input: Any, target: Any) -> None:
    if tuple(target.shape) != tuple(input.shape):
        raise ValueError(f"{name}: wanted a target of input's shape {tuple(input.shape)}, saw {tuple(target.shape)}")


def binary_cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """-w (t log x + (1 - t) log(1 - x)), logarithms held above -100; weight broadcasts.

    RuntimeError for x outside [0, 1] (not looked for on the card), ValueError for a target of another shape.
    """
    reduction = _reduction("binary_cross_entropy", size_average, reduce, reduction)
    _same_shape("binary_cross_entropy", input, target)
    x = unwrap(input)
    if type(x) is np.ndarray and x.size and not (x.min() >= 0 and x.max() <= 1):
        raise RuntimeError(f"binary_cross_entropy: wanted an input in [0, 1], saw {x.min()} to {x.max()}")
    if weight is None:
        return element_loss.bce_forward(input, target, reduction)
    return _reduced(element_loss.bce_forward(input, target, "none") * weight, reduction)


def binary_cross_entropy_with_logits(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Any = None,
) -> Any:
    """-w (pos_weight t log sigmoid(x) + (1 - t) log(1 - sigmoid(x))), without overflow.

    weight and pos_weight broadcast; ValueError for a target of another shape.
    """
    reduction = _reduction("binary_cross_entropy_with_logits", size_average, reduce, reduction)
    _same_shape("binary_cross_entropy_with_logits", input, target)
    if target.dtype != input.dtype:
        target = pointwise.cast(target, input.dtype)
    if weight is None:
        return element_loss.bce_logits_forward(input, target, pos_weight, reduction)
    return _reduced(element_loss.bce_logits_forward(input, target, pos_weight, "none") * weight, reduction)


def kl_div(
    input: Any,
    target: Any,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Any:
    """t (log t - x) for log-probabilities x, 0 where t = 0; the target is log t if log_target.

    reduction "batchmean", the sum over input.shape[0], is the divergence; "mean" divides by all elements, and warns.
    """
    reduction = _reduction("kl_div", size_average, reduce, reduction, "batchmean")
    if reduction == "mean":
        warnings.warn("kl_div: 'mean' divides by the number of elements; 'batchmean' is the divergence", stacklevel=2)
    _together("kl_div", input, target)
    if input.dtype.kind == "c" or not is_floating(target.dtype):
        raise RuntimeError(f"kl_div: wanted floating numbers, saw {input.dtype} and {target.dtype}")
    if log_target:
        v = pointwise.exp(target) * (target - input)
    else:
        v = target * (pointwise.log(pointwise.where(target == 0, 1.0, target)) - input)
    return _reduce.sum(v) / input.shape[0] if reduction == "batchmean" and input.ndim else _reduced(v, reduction)
