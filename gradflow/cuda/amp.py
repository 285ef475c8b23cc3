"""Gradient scaling on the card: the twins of gradflow/amp/scaling.py; gradients in one launch, the scale in another."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from ..backend import Array, need_card
from .launch import contiguous, ctype, launch
from .layout import straight
from .optim import THREADS, flag, table


def instantiations() -> list[str]:
    """Every kernel that the launchers below can ask for."""
    types = ("float", "double", "__half", "__nv_bfloat16")
    return [*(f"unscale<{t}, {flag(u)}>" for t, u in product(types, (False, True))), "update_scale"]


def _single(x: Any, dtype: Any = np.float32) -> Array:
    return x.astype(dtype, copy=False).reshape(1)


def unscale(g: Any, scale: Any, found: Any) -> Any:
    """All of a list of arrays divided by the scale in place, and found = 1 if one is not finite; scale None: only looked at.
    Of one array, copies: (g, found).
    """
    if type(g) is not list:
        y, seen = g.copy(), _single(found).copy()
        unscale([y], scale, seen)
        return y, seen.reshape(found.shape)
    g = [straight(x) for x in g]
    gaps = [x for x in g if not x.flags.c_contiguous]
    arrays = [contiguous(x) for x in g]
    rows, grid = table([arrays])
    by = None if scale is None else _single(scale)
    kernel = f"unscale<{ctype(arrays[0].dtype)}, {flag(by is not None)}>"
    launch("amp", kernel, grid, THREADS, rows, np.int32(len(arrays)), by, found.reshape(1))
    if by is not None and gaps:
        for x, y in zip(g, arrays, strict=True):
            if x is not y:
                x[...] = y
    return None


def update_scale(scale: Any, tracker: Any, found: Any, growth: float, backoff: float, interval: int) -> Any:
    """(scale, tracker) of the next step, written in place where they are float32 and int32."""
    new, good = _single(scale), _single(tracker, np.int32)
    if new.dtype != scale.dtype or good.dtype != tracker.dtype:
        new, good = new.copy(), good.copy()
    numbers = np.float64(growth), np.float64(backoff), np.int32(interval)
    launch("amp", "update_scale", 1, 1, new, good, _single(found), *numbers)
    return new.reshape(scale.shape), good.reshape(tracker.shape)


def zeros(like: Array) -> Array:
    """A float32 zero on an array's card."""
    cp = need_card("GradScaler")
    with like.device:
        return cp.zeros(1, np.float32)
