"""Sums over taps on the card: twins of gradflow/ops/taps.py, by kernels/taps.cu; tap_spread there sorts and sums."""

from __future__ import annotations

from typing import Any

from ..backend import need_card
from .launch import blocks, contiguous, ctype, launch

THREADS = 256


def instantiations() -> list[str]:
    """Every kernel that the launchers below can ask for."""
    return [f"{k}<{t}>" for k in ("tap_sum", "tap_product") for t in ("float", "double", "__half", "__nv_bfloat16")]


def _run(kernel: str, a: Any, b: Any, at: Any, y: Any, channels: int, places: int) -> Any:
    if any(v.dtype != y.dtype for v in (a, b)) or y.dtype.name not in ("float32", "float64", "float16", "bfloat16"):
        return NotImplemented
    arrays = [contiguous(v) for v in (a, b, at)]
    numbers = (y.size, channels, at.shape[2], at.shape[1], places)
    launch("taps", f"{kernel}<{ctype(y.dtype)}>", blocks(y.size, THREADS), THREADS, *arrays, y, *numbers)
    return y


def tap_sum(x, w, at):
    """The weighted sum of chosen elements, for every channel."""
    y = need_card("tap_sum").empty((*x.shape[:2], at.shape[2]), x.dtype)
    return _run("tap_sum", x, w, at, y, x.shape[1], x.shape[2])


def tap_product(g, x, at):
    """What every tap's weight multiplies, over all channels."""
    return _run("tap_product", g, x, at, need_card("tap_product").empty(at.shape, x.dtype), x.shape[1], x.shape[2])
