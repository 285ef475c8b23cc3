"""Launchers of kernels/random.cu: words, uniforms and normals of the Philox stream, and dropout."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backend import Array, is_floating, need_card
from ..ops.random import limit, scale
from .launch import aligned, blocks, contiguous, ctype, launch

THREADS = 256


class Replayed(int):
    """The key of a stream from which a captured graph draws. Before each replay it sends two words to the card: the key as
    it is then, and how far the counter has gone since the capture.
    """

    words: Array


def replay(key: int) -> Array | None:
    """The words that kernels read in place of this key, or None."""
    return key.words if type(key) is Replayed else None


def _word(v: int) -> np.uint64:
    return np.uint64(v & (2**64 - 1))


def _fill(kernel: str, y: Array, per_block: int, key: int, counter: int) -> Array:
    n = y.size
    launch("random", kernel, blocks(n, per_block * THREADS), THREADS, y, n, _word(key), _word(counter), replay(key))
    return y


def words(shape: tuple[int, ...], dtype: Any, key: int, counter: int) -> Array:
    """The words of the stream (key, counter), uint64."""
    return _fill("words", need_card("words").empty(shape, np.uint64), 4, key, counter)


def uniform(shape: tuple[int, ...], dtype: Any, key: int, counter: int) -> Array:
    """Uniform in [0, 1)."""
    y = need_card("uniform").empty(shape, dtype)
    return _fill(f"uniform<{ctype(y.dtype)}>", y, 4 if y.dtype.itemsize == 8 else 8, key, counter)


def normal(shape: tuple[int, ...], dtype: Any, key: int, counter: int) -> Array:
    """Standard normal."""
    y = need_card("normal").empty(shape, dtype)
    return _fill(f"normal<{ctype(y.dtype)}>", y, 4 if y.dtype.itemsize == 8 else 8, key, counter)


def dropout(x: Array, p: float, key: int, counter: int) -> Array:
    """x / (1 - p) where kept, else 0; the gradient is the same function of g."""
    if not is_floating(x.dtype) or not 0 <= p <= 1:
        return NotImplemented
    x = contiguous(x)
    y = need_card("dropout").empty(x.shape, x.dtype)
    size = x.dtype.itemsize
    pack = 16 // size if aligned(x, y) else 1
    factor = np.float64(scale(p)) if size == 8 else np.float32(scale(p))
    grid = blocks(x.size, 8 * THREADS)
    kernel = f"dropout<{ctype(x.dtype)}, {pack}>"
    launch("random", kernel, grid, THREADS, x, y, x.size, _word(limit(p)), factor, _word(key), _word(counter), replay(key))
    return y


def instantiations() -> list[str]:
    """Every kernel that the launchers can ask for."""
    types = {"float": 4, "double": 2, "__half": 8, "__nv_bfloat16": 8}
    found = ["words", *(f"{k}<{t}>" for k in ("uniform", "normal") for t in types)]
    return found + [f"dropout<{t}, {p}>" for t, n in types.items() for p in (1, n)]
