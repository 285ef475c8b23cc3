"""Max unpooling on the card: the twin of gradflow/ops/unpool.py, by kernels/unpool.cu."""

from __future__ import annotations

from math import prod

from ..backend import need_card
from ..ops.unpool import check
from .launch import blocks, contiguous, ctype, launch

THREADS = 256
TYPES = ("float", "double", "__half", "__nv_bfloat16")


def instantiations() -> list[str]:
    """Every kernel that the launchers below can ask for."""
    return ["unpool_claim", *(f"unpool_fill<{t}>" for t in TYPES)]


def put_back(x, indices, sizes):
    """x at its places in planes of zeros."""
    check(f"max_unpool{len(sizes)}d", x, indices, sizes)
    plane, count = prod(sizes), prod(x.shape[: -len(sizes)])
    per = prod(x.shape[-len(sizes) :])
    if x.dtype.name not in ("float32", "float64", "float16", "bfloat16") or per >= 2**31:
        return NotImplemented
    cp = need_card("max_unpool")
    y, owner = cp.empty((*x.shape[: -len(sizes)], *sizes), x.dtype), cp.full(count * plane, -1, "int32")
    launch("unpool", "unpool_claim", blocks(x.size, THREADS), THREADS, contiguous(indices), owner, x.size, per, plane)
    kernel = f"unpool_fill<{ctype(x.dtype)}>"
    launch("unpool", kernel, blocks(y.size, THREADS), THREADS, contiguous(x), owner, y, y.size, per, plane)
    return y
