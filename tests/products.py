"""What the tests of matrix products share: dtypes, activations by their formulas, arrays laid out on purpose, captures."""

from __future__ import annotations

import math

import numpy as np
import pytest

BRAIN = pytest.importorskip("ml_dtypes").bfloat16
DTYPES = {"float32": np.float32, "tf32": np.float32, "float64": np.float64, "float16": np.float16, "bfloat16": BRAIN}
ACTIVATED = {
    None: lambda x: x,
    "relu": lambda x: max(x, 0.0),
    "gelu": lambda x: x * 0.5 * math.erfc(-x / math.sqrt(2)),
    "gelu_tanh": lambda x: 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x / (1 + math.exp(-x)),
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "tanh": math.tanh,
}


def placed(card, x, dtype, turned=False, ahead=0):
    """x on the card, its last two dimensions lying the other way round, and `ahead` numbers off the start of its memory."""
    x = x.astype(dtype)
    held = x.swapaxes(-1, -2) if turned else x
    flat = card.empty(ahead + x.size, x.dtype)
    view = flat[ahead:].reshape(held.shape)
    view[...] = card.asarray(np.ascontiguousarray(held))
    return view.swapaxes(-1, -2) if turned else view


def captured(card, step):
    """What a step gives when it is captured and replayed."""
    pool = card.cuda.MemoryPool()
    with card.cuda.Stream(non_blocking=True) as stream, card.cuda.using_allocator(pool.malloc):
        stream.begin_capture()
        try:
            y = step()
        finally:
            graph = stream.end_capture()
    graph.launch()
    return y
