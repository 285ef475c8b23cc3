"""Connectionist temporal classification: the likelihood of labels, however they are spread over time.

Graves et al., ICML 2006. A path gives every time step a label or the blank; it spells what is left when repeats, then
blanks, are dropped. States 0 .. 2 S stand for blank, label 1, blank, label 2, ..., blank. alpha[t, s] is the log of the
chance of all beginnings of paths that are in state s at time t, beta[t, s] that of all endings that start there.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backend import asnumpy, is_array, is_floating, namespace
from ..call import sampled
from ..cases import Sampler, case
from ..op import op, unwrap, wrap
from ..tape import Traced
from . import arrange, gather, join, pointwise, reduce, shape
from .reduce import wide
from .replay import replay


def _cases(r: Sampler) -> list[case]:
    def one(steps: int, classes: int, labels: list, lengths: list, counts: list, blank: int = 0) -> case:
        x = r(steps, len(labels), classes)
        x = x - np.log(np.exp(x).sum(2, keepdims=True))
        return case(x, np.array(labels, np.int64), np.array(lengths), np.array(counts), blank, grad=False)

    return [
        one(5, 4, [[1, 2], [3, 3]], [5, 4], [2, 2]),
        one(4, 3, [[0, 1, 0], [1, 2, 2], [0, 0, 0]], [4, 3, 2], [3, 1, 0], 2),  # one of them without labels
        one(3, 3, [[1, 1]], [2], [2]),  # impossible
        one(1, 2, [[1]], [1], [1]),
        one(3, 2, [[1], [1]], [0, 0], [0, 1]),
        one(2, 3, np.zeros((2, 0)).tolist(), [2, 1], [0, 0]),
        one(40, 5, [[1, 2, 3, 4, 1, 1, 2, 3]], [39], [8]),
    ]


def _backward_cases(r: Sampler) -> list[case]:
    found = []
    for c in _cases(r):
        nll, alpha = ctc(*c.args)
        nll, alpha = np.where(nll == math.inf, 3.0, nll), np.where(np.isnan(alpha), -math.inf, alpha)
        found.append(case(r(*nll.shape), *c.args[:1], alpha, nll, *c.args[1:], grad=False))
    return found


def _states(xp: Any, labels: Any, blank: int) -> tuple[Any, Any]:
    """(the label of every state (n, w), where a state may also be reached from the one before the last)."""
    n, longest = labels.shape
    states = xp.full((n, 2 * longest + 1), blank, np.int64)
    states[:, 1::2] = labels
    skips = xp.zeros(states.shape, bool)
    skips[:, 3::2] = labels[:, 1:] != labels[:, :-1]
    return states, skips


def _sum(xp: Any, terms: list[Any]) -> Any:
    """The log of the sum of e^term, minus infinity for nothing."""
    top = terms[0]
    for v in terms[1:]:
        top = xp.maximum(top, v)
    safe = xp.where(top == -math.inf, 0, top)
    total = xp.exp(terms[0] - safe)
    for v in terms[1:]:
        total += xp.exp(v - safe)
    with np.errstate(divide="ignore"):
        return safe + xp.log(total)


def _shifted(xp: Any, a: Any, by: int, allowed: Any = None) -> Any:
    """a moved `by` states on, minus infinity where nothing comes from or it is not allowed."""
    y = xp.full_like(a, -math.inf)
    if by > 0:
        y[:, by:] = a[:, :-by]
    else:
        y[:, :by] = a[:, -by:]
    return y if allowed is None else xp.where(allowed, y, -math.inf)


def _emitted(xp: Any, log_probs: Any, states: Any) -> Any:
    """log_probs of every state at every time, (t, n, w)."""
    where = xp.broadcast_to(states, (len(log_probs), *states.shape))
    return xp.take_along_axis(log_probs.astype(wide(log_probs.dtype), copy=False), where, 2)


NEVER = -1e30  # minus infinity where it would be differentiated


def _composed(states: Any, skips: Any, times: Any, counts: Any) -> Any:
    """-log of the chance of the labels from ops, for replay."""

    def run(x: Any) -> tuple:
        steps, xp, dtype = len(x), namespace(unwrap(x)), x.dtype
        x = pointwise.cast(x, wide(dtype))
        reach = xp.where(skips, 0.0, NEVER).astype(x.dtype)
        emitted = gather.gather(x, 2, xp.broadcast_to(states, (steps, *states.shape)))
        start = xp.where(xp.arange(states.shape[1]) < xp.minimum(2, 2 * counts[:, None] + 1), 0.0, NEVER)
        a = emitted[0] + wrap(start.astype(x.dtype))
        for t in range(1, steps):
            one, two = (arrange.pad(a, (k, -k), "constant", NEVER) for k in (1, 2))
            here = emitted[t] + reduce.logsumexp(join.stack([a, one, two + wrap(reach)]), 0)
            a = pointwise.where(wrap((t < times)[:, None]), here, a)
        end = 2 * counts[:, None]
        last = wrap(xp.where(end > 0, 0.0, NEVER).astype(x.dtype))
        ends = [gather.gather(a, 1, end), gather.gather(a, 1, xp.maximum(end - 1, 0)) + last]
        return (pointwise.cast(-reduce.logsumexp(join.cat(ends, dim=1), 1), dtype),)

    return run


def _twice(gg: Any, g: Any, x: Any, nll: Any, labels: Any, times: Any, counts: Any, blank: int) -> tuple:
    """The rule of ctc_backward(g, x), which is g e^x plus the gradient of -log of the chance."""
    nll, labels, times, counts = map(unwrap, (nll, labels, times, counts))
    xp = namespace(nll)
    counted = (nll != math.inf) & (xp.arange(len(x))[:, None] < times)
    counted = counted[..., None].astype(x.dtype)
    gg = gg * (wrap(counted) if isinstance(gg, Traced) else counted)
    direct = gg * pointwise.exp(x)
    dg, dx = replay(_composed(*_states(xp, labels, blank), times, counts), (g,), (x,), (gg,))
    dg_direct, dx_direct = reduce.sum(direct, (0, 2)), direct * shape.reshape(g, (1, -1, 1))
    return dg_direct if dg is None else dg + dg_direct, dx_direct if dx is None else dx + dx_direct


@op(
    dx=lambda g, x, nll, alpha, labels, input_lengths, target_lengths, blank, zero_infinity: ctc_backward(
        g[0], x, alpha, nll, labels, input_lengths, target_lengths, blank, zero_infinity
    ),
    outputs=("nll", "alpha"),
    twin="ctc",
    cases=_cases,
    reference=None,
)
def ctc(x, labels, input_lengths, target_lengths, blank=0, zero_infinity=False):
    """(-log of the chance of each sequence's labels (n,), alpha (t, n, 2 s + 1)) for x = log_probs (t, n, classes), padded
    int64 labels (n, s), and how many steps and labels count (n,).
    """
    xp, (steps, n) = namespace(x), x.shape[:2]
    states, skips = _states(xp, labels, blank)
    width = states.shape[1]
    inside = xp.arange(width) <= 2 * target_lengths[:, None]
    dtype = wide(x.dtype)
    alpha = xp.full((steps, n, width), -math.inf, dtype)
    nll = xp.where((input_lengths == 0) & (target_lengths == 0), dtype.type(0), dtype.type(math.inf))
    if not steps or not n:
        return nll.astype(x.dtype, copy=False), alpha
    emitted = xp.where(inside, _emitted(xp, x, states), -math.inf)
    alpha[0, :, :2] = emitted[0, :, :2]
    alpha[0] = xp.where((input_lengths > 0)[:, None], alpha[0], -math.inf)
    for t in range(1, steps):
        a = alpha[t - 1]
        here = emitted[t] + _sum(xp, [a, _shifted(xp, a, 1), _shifted(xp, a, 2, skips)])
        alpha[t] = xp.where((t < input_lengths)[:, None], here, -math.inf)
    who, last, end = xp.arange(n), xp.maximum(input_lengths - 1, 0), 2 * target_lengths
    ends = [alpha[last, who, end], xp.where(end > 0, alpha[last, who, xp.maximum(end - 1, 0)], -math.inf)]
    nll = xp.where(input_lengths > 0, -_sum(xp, ends), nll)
    return nll.astype(x.dtype, copy=False), alpha


@op(
    dg_dx=lambda gg, g, x, nll, labels, input_lengths, target_lengths, blank: _twice(
        gg, g, x, nll, labels, input_lengths, target_lengths, blank
    ),
    twin="ctc",
    cases=_backward_cases,
    reference=None,
)
def ctc_backward(g, x, alpha, nll, labels, input_lengths, target_lengths, blank=0, zero_infinity=False):
    """g (e^x - the chance of each class at each time, given the labels): the gradient of nll with respect to what
    log_softmax made x of, which is a gradient for x, too, since log_softmax passes it on unchanged.
    Zero beyond a sequence's end; NaN where the labels are impossible, zero with zero_infinity.
    """
    xp, (steps, n) = namespace(x), x.shape[:2]
    states, skips = _states(xp, labels, blank)
    emitted = _emitted(xp, x, states)
    who, at = xp.arange(n), xp.arange(states.shape[1])
    ends = (at <= 2 * target_lengths[:, None]) & (at >= 2 * target_lengths[:, None] - 1)
    forth = xp.zeros(skips.shape, bool)
    forth[:, :-2] = skips[:, 2:]
    reached = at <= 2 * target_lengths[:, None]
    chances, beta = xp.zeros(emitted.shape, emitted.dtype), None
    for t in range(steps - 1, -1, -1):
        if beta is None:
            here = xp.full(emitted.shape[1:], -math.inf, emitted.dtype)
        else:
            here = _sum(xp, [beta, _shifted(xp, beta, -1), _shifted(xp, beta, -2, forth)])
        here = xp.where((t == input_lengths - 1)[:, None], xp.where(ends, emitted.dtype.type(0), -math.inf), here)
        with np.errstate(invalid="ignore"):
            chances[t] = xp.exp(alpha[t] + here + nll[:, None])
        beta = xp.where(reached, here + emitted[t], -math.inf)
    dx = xp.exp(x.astype(emitted.dtype, copy=False))
    dx[:, :, blank] -= chances[:, :, ::2].sum(2)
    for s in range(labels.shape[1]):  # no two sequences meet in a place
        dx[:, who, states[:, 2 * s + 1]] -= chances[:, :, 2 * s + 1]
    dx = xp.where(
        nll[:, None] == math.inf,
        dx.dtype.type(0 if zero_infinity else math.nan),
        dx * g.astype(dx.dtype, copy=False)[:, None],
    )
    dx[xp.arange(steps)[:, None] >= input_lengths] = 0
    return dx.astype(x.dtype, copy=False)


# --- as users call it -----------------------------------------------------------------------------------


def _lengths(what: str, value: Any, n: int, most: int) -> np.ndarray:
    """How many steps or labels count, (n,), on the CPU."""
    value = unwrap(value)
    a = asnumpy(value) if is_array(value) else np.asarray(value)
    if a.dtype.kind not in "iu" and a.size:
        raise RuntimeError(f"ctc_loss: wanted {what} of ints, saw {a.dtype}")
    if a.size != n:
        raise RuntimeError(f"ctc_loss: wanted {n} {what}, one for each sequence, saw {a.size}")
    a = a.reshape(n).astype(np.int64)
    if n and not 0 <= a.min() <= a.max() <= most:
        raise RuntimeError(f"ctc_loss: wanted {what} from 0 to {most}, saw {a.min()} to {a.max()}")
    return a


def _padded(targets: Any, counts: np.ndarray, n: int, classes: int) -> Any:
    """Targets (n, s), or all in a row, as (n, longest) labels."""
    labels = unwrap(targets)
    if labels.dtype.kind not in "iu":
        raise RuntimeError(f"ctc_loss: wanted targets of ints, saw {labels.dtype}")
    xp, longest = namespace(labels), int(counts.max(initial=0))
    if labels.ndim == 1:
        if len(labels) < counts.sum():
            raise RuntimeError(f"ctc_loss: wanted {counts.sum()} targets in a row, saw {len(labels)}")
        where = np.cumsum(counts)[:, None] - counts[:, None] + np.arange(longest)
        where = np.where(np.arange(longest) < counts[:, None], where, 0)
        padded = labels[xp.asarray(where)] if len(labels) else xp.zeros((n, longest), np.int64)
    elif labels.ndim == 2 and labels.shape[0] == n and labels.shape[1] >= longest:
        padded = labels[:, :longest]
    else:
        raise RuntimeError(f"ctc_loss: wanted targets ({n}, {longest}) or all in a row, saw {tuple(labels.shape)}")
    padded = xp.where(xp.asarray(np.arange(longest) < counts[:, None]), padded, 0).astype(np.int64)
    if xp is np and padded.size and not 0 <= padded.min() <= padded.max() < classes:
        raise RuntimeError(f"ctc_loss: wanted targets below {classes}, saw {padded.min()} to {padded.max()}")
    return padded


@sampled()
def ctc_loss(
    log_probs: Any,
    targets: Any,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: Any = "mean",
    zero_infinity: bool = False,
) -> Any:
    """-log of the chance that log_probs (t, n, classes) or (t, classes), made by log_softmax, spell the targets.

    targets (n, s) or all in a row; input_lengths and target_lengths say how many steps and labels of each sequence
    count, as tensors, lists or numbers. reduction: none, sum, or mean over the batch of the loss per label.
    zero_infinity: labels that no path spells cost nothing. The gradient is that of log_softmax's input (Graves et al.
    2006). RuntimeError for lengths, labels and dtypes that do not fit.
    """
    names = ("none", "mean", "sum")
    reduction = names[reduction] if isinstance(reduction, int) and 0 <= reduction < 3 else reduction
    if reduction not in names:
        raise ValueError(f"ctc_loss: wanted a reduction none, mean or sum, saw {reduction!r}")
    if not is_floating(log_probs.dtype):
        raise RuntimeError(f"ctc_loss: wanted log_probs of a floating dtype, saw {log_probs.dtype}")
    if log_probs.ndim not in (2, 3):
        raise RuntimeError(f"ctc_loss: wanted log_probs (t, n, classes) or (t, classes), saw {tuple(log_probs.shape)}")
    batched = log_probs.ndim == 3
    x = log_probs if batched else shape.unsqueeze(log_probs, 1)
    steps, n, classes = x.shape
    if not 0 <= blank < classes:
        raise RuntimeError(f"ctc_loss: wanted a blank among {classes} classes, saw {blank}")
    times = _lengths("input_lengths", input_lengths, n, steps)
    counts = _lengths("target_lengths", target_lengths, n, 2**31)
    xp = namespace(unwrap(x))
    labels = _padded(targets, counts, n, classes)
    extra = [xp.asarray(labels), xp.asarray(times), xp.asarray(counts)]
    tensors = isinstance(x, Traced)
    nll = ctc(x, *(wrap(v) if tensors else v for v in extra), blank, bool(zero_infinity))[0]
    if zero_infinity:
        possible = unwrap(nll) != math.inf
        nll = pointwise.where(wrap(possible) if tensors else possible, nll, 0.0)
    if reduction == "none":
        return nll if batched else shape.reshape(nll, ())
    if reduction == "sum":
        return reduce.sum(nll)
    per = xp.asarray(np.maximum(counts, 1).astype(np.float64)).astype(nll.dtype)
    return reduce.mean(nll / (wrap(per) if tensors else per))
