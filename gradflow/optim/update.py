"""An update rule: how a parameter's next value follows from its gradient and its state; many() takes a step with it.

    @rule(cases=lambda r: [case(r(3, 4), r(3, 4), r(3, 4), 0.1, 0.9)])
    def heavy_ball(p, g, m, lr, momentum):
        m = momentum * m + g
        return p - lr * m, m

A rule is a pure function: arrays (p, g, *state), then numbers, and it returns the new (p, *state); a state that is None
stays None. It is the definition of a kernel: its CUDA twin, the function of the same name in gradflow/cuda/optim.py,
takes lists of arrays, all parameters of a model, and writes them in one launch. A number may be a 0-d array on the card
(a learning rate, a count of steps), so that a captured graph sees new values.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from .. import kernel
from ..backend import Array, float32, is_array, on_card
from ..cases import case

BLOCK = 1 << 15  # elements stepped together on the CPU: a rule's temporaries then stay in the cache


def rule(cases: Callable[..., Any]) -> Callable[[Callable[..., Any]], kernel.Kernel]:
    """Decorate the definition of an update rule. Arrays of 16 bits reach it as float32, and its results are rounded."""

    def wrap(formula: Callable[..., tuple]) -> kernel.Kernel:
        @wraps(formula)
        def definition(p: Array, *rest: Any) -> tuple:
            if p.dtype.itemsize != 2:
                return formula(p, *rest)
            wide = (x.astype(float32) if is_array(x) and x.dtype == p.dtype else x for x in (p, *rest))
            return tuple(None if y is None else y.astype(p.dtype) for y in formula(*wide))

        return kernel.kernel("optim", cases)(definition)

    return wrap


def many(
    k: kernel.Kernel, p: list[Array], g: list[Array] | None, state: list[list[Array] | None], *numbers: Any
) -> None:
    """Write what the rule k gives into all of p and state: in one launch on the card, one after the other on the CPU.

    p, g and each state are lists of arrays of one dtype on one device; a number may be a list too, one per parameter.
    """
    if on_card(p[0]) and not kernel.definitions_only:
        twin: Any = k.twin
        if twin(p, *([] if g is None else [g]), *state, *numbers) is not NotImplemented:
            return
    for i, row in enumerate(zip(p, *([None] * len(p) if c is None else c for c in (g, *state)), strict=True)):
        _step(k.definition, row, [n[i] if type(n) is list else n for n in numbers])


def _step(definition: Callable[..., tuple], row: Any, numbers: list[Any]) -> None:
    """Write one parameter p and its states, of the row (p, g, *states), block by block."""
    parts = [row]
    if type(row[0]) is np.ndarray and row[0].size > BLOCK and all(x is None or x.flags.c_contiguous for x in row):
        flat = [None if x is None else x.reshape(-1) for x in row]
        parts = [[None if x is None else x[i : i + BLOCK] for x in flat] for i in range(0, row[0].size, BLOCK)]
    for p, g, *states in parts:
        new = definition(p, *states, *numbers) if g is None else definition(p, g, *states, *numbers)
        for old, y in zip((p, *states), new, strict=True):
            if old is not None:
                old[...] = y


@rule(cases=lambda r: [case(r(1)), case(r())])
def count_step(p: Array) -> tuple:
    """Counts of steps: p + 1."""
    return (p + 1,)
