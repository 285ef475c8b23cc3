"""CTC on the card: the twins of gradflow/ops/ctc.py, a block for every sequence, by kernels/ctc.cu."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backend import need_card
from .launch import contiguous, ctype, launch

THREADS = 128


def instantiations() -> list[str]:
    """Every kernel that the launchers below can ask for."""
    kernels = ("ctc_alpha", "ctc_chances", "ctc_gradient")
    return [f"{k}<{t}>" for k in kernels for t in ("float", "double", "__half", "__nv_bfloat16")]


def _taken(x: Any, labels: Any, width: int) -> bool:
    named = x.dtype.name in ("float32", "float64", "float16", "bfloat16") and labels.dtype == np.int64
    return named and max(x.shape) < 2**31 and width < 2**31


def _launch(kernel: str, grid: Any, x: Any, *args: Any) -> None:
    launch("ctc", f"{kernel}<{ctype(x.dtype)}>", grid, THREADS, *args)


def ctc(x, labels, input_lengths, target_lengths, blank=0, zero_infinity=False):
    """(-log chance, alpha) of every sequence."""
    (steps, n, classes), longest = x.shape, labels.shape[1]
    if not _taken(x, labels, 2 * longest + 1):
        return NotImplemented
    cp, wide = need_card("ctc_loss"), np.float64 if x.dtype == np.float64 else np.float32
    alpha, nll = cp.empty((steps, n, 2 * longest + 1), wide), cp.empty(n, x.dtype)
    arrays = [contiguous(v) for v in (x, labels, input_lengths, target_lengths)]
    sizes = [np.int32(v) for v in (steps, n, classes, longest, blank)]
    _launch("ctc_alpha", n, x, *arrays, alpha, nll, *sizes)
    return nll, alpha


def ctc_backward(g, x, alpha, nll, labels, input_lengths, target_lengths, blank=0, zero_infinity=False):
    """The gradient of every sequence's -log chance, times g."""
    (steps, n, classes), longest = x.shape, labels.shape[1]
    if not _taken(x, labels, 2 * longest + 1) or not g.dtype == nll.dtype == x.dtype or n > 65535:
        return NotImplemented
    cp, wide = need_card("ctc_loss"), np.float64 if x.dtype == np.float64 else np.float32
    if alpha.dtype != wide:
        return NotImplemented
    dx, beta = cp.empty(x.shape, x.dtype), cp.empty(alpha.shape, alpha.dtype)
    x, alpha, nll, labels, times, counts, g = map(contiguous, (x, alpha, nll, labels, input_lengths, target_lengths, g))
    sizes = [np.int32(v) for v in (steps, n, classes, longest, blank)]
    _launch("ctc_chances", n, x, x, alpha, nll, labels, times, counts, beta, *sizes)
    _launch("ctc_gradient", (steps, n), x, g, x, beta, nll, labels, times, counts, dx, bool(zero_infinity), *sizes)
    return dx
