"""An update rule: how a parameter's next value follows from its gradient and its state; many() takes a step with it.

    @rule(cases=lambda r: [case(r(3, 4), r(3, 4), r(3, 4), 0.1, 0.9)])
    def heavy_ball(p, g, m, /, lr, momentum):
        m *= momentum
        m += g
        p -= lr * m

A rule writes into the arrays before the slash: p and its states, never into g; a state may be None. After the slash stand
numbers. It is written with operators and ops, element by element, so that one text steps a piece of a large parameter, or
many small ones laid end to end, and, with Tensors (differentiable=True), a step that is itself recorded. It is the
definition of a kernel: its CUDA twin, the function of the same name in gradflow/cuda/optim.py, takes lists of arrays, all
parameters of a model, and writes them in one launch. A number may be a 0-d array on the card (a learning rate, a count of
steps), so that a captured graph sees new values.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import numpy as np

from .. import kernel
from ..backend import Array, device_of, float32, namespace, on_card, to_device
from ..cases import case
from ..ops import shape as shapes
from ..tape import Traced

BLOCK = 1 << 15  # elements stepped together on the CPU: a rule's temporaries then stay in the cache
SMALL = 1 << 11  # parameters of fewer elements are stepped together, laid end to end


class Scaler(threading.local):
    """What a gradient scaler says of the step that this thread takes: float32 arrays of one element, or None.

    scale       by which the gradients are to be divided
    found_inf   not zero if a gradient is not finite: the step then leaves everything as it is, without asking the card
    """

    scale: Array | None = None
    found_inf: Array | None = None


scaler = Scaler()


def rule(cases: Callable[..., Any]) -> Callable[[Callable[..., None]], kernel.Kernel]:
    """Decorate the formula of an update rule: a kernel, whose definition gives copies, and whose .formula writes.

    Arrays of 16 bits reach the formula as float32, and its results are rounded.
    """

    def wrap(formula: Callable[..., None]) -> kernel.Kernel:
        code = formula.__code__
        written = [name != "g" for name in code.co_varnames[: code.co_posonlyargcount]]

        @wraps(formula)
        def definition(*args: Any) -> tuple:
            p = args[0]
            rows = [
                None if x is None else _wide(x.copy() if w else x, p.dtype).reshape(-1)
                for x, w in zip(args, written, strict=False)
            ]
            formula(*rows, *args[len(written) :])
            new = (x for x, w in zip(rows, written, strict=True) if w)
            return tuple(None if x is None else x.reshape(p.shape).astype(p.dtype, copy=False) for x in new)

        k = kernel.kernel("optim", cases)(definition)
        k.formula = formula  # type: ignore[attr-defined]
        return k

    return wrap


def many(k: kernel.Kernel, p: list[Any], g: list[Any] | None, state: list[list[Any] | None], *numbers: Any) -> None:
    """Write what the rule k gives into all of p and state: in one launch on the card, piece by piece on the CPU.

    p, g and each state are lists of arrays of one dtype on one device; a number may be a list too, one per parameter.
    They may be lists of Tensors: then every write is recorded.
    """
    columns = [p, *([] if g is None else [g]), *state]
    formula: Any = k.formula  # type: ignore[attr-defined]
    scaled = scaler.scale is not None or scaler.found_inf is not None
    if isinstance(p[0], Traced):
        for row in zip(*([None] * len(p) if c is None else c for c in columns), strict=True):
            formula(*row, *numbers)
        return
    if on_card(p[0]) and not kernel.definitions_only:
        twin: Any = k.twin
        amp = {"amp": (scaler.scale, scaler.found_inf)} if scaled else {}
        if twin(*columns, *numbers, **amp) is not NotImplemented:
            return
    if scaled:
        _tentatively(k, p, g, state, numbers)
        return
    if any(type(n) is list for n in numbers):
        for i, row in enumerate(zip(*([None] * len(p) if c is None else c for c in columns), strict=True)):
            _together(
                formula, [None if x is None else [x] for x in row], [n[i] if type(n) is list else n for n in numbers]
            )
        return
    for batch in _batches(columns):
        _together(formula, batch, numbers)


def _tentatively(k: kernel.Kernel, p: list[Any], g: list[Any] | None, state: list[list[Any] | None], numbers: Any) -> None:
    """A step by the formula that is taken back, where the arrays are, if the scaler found a gradient that is not finite."""
    written = [x for column in (p, *state) if column is not None for x in column]
    with tentative(g, written) as plain:
        many(k, p, plain, state, *numbers)


@contextlib.contextmanager
def tentative(g: list[Any] | None, written: list[Any]) -> Iterator[list[Any] | None]:
    """A block that writes into arrays, given plain gradients; what it wrote is taken back if the scaler found one bad."""
    home, (scale, found) = device_of(written[0]), (scaler.scale, scaler.found_inf)
    scale, found = (None if x is None else to_device(x, home).reshape(()) for x in (scale, found))
    if g is not None:
        xp, wide = namespace(written[0]), float32 if g[0].dtype.itemsize == 2 else g[0].dtype
        g = [x.astype(wide, copy=False) for x in g]
        if found is not None:
            g = [xp.where(found != 0, xp.zeros((), wide), x) for x in g]
        if scale is not None:
            g = [x * (1 / scale).astype(wide) for x in g]
    before = [x.copy() for x in written] if found is not None else []
    outer = scaler.scale, scaler.found_inf
    scaler.scale = scaler.found_inf = None
    try:
        yield g
    finally:
        scaler.scale, scaler.found_inf = outer
    for x, old in zip(written, before, strict=False):
        x[...] = namespace(x).where(found != 0, old, x)


def _batches(columns: list[list[Array] | None]) -> Iterator[list[list[Array] | None]]:
    """Columns of arrays to be stepped together: several small ones, or one piece of a large one."""
    small: list[int] = []
    filled = 0
    for i, p in enumerate(columns[0] or ()):
        if p.size < SMALL:
            small.append(i)
            filled += p.size
            if filled >= BLOCK:
                yield [c if c is None else [c[j] for j in small] for c in columns]
                small, filled = [], 0
            continue
        row = [None if c is None else c[i] for c in columns]
        if p.size > BLOCK and type(p) is np.ndarray and all(x is None or x.flags.c_contiguous for x in row):
            flat = [None if x is None else x.reshape(-1) for x in row]
            for at in range(0, p.size, BLOCK):
                yield [None if x is None else [x[at : at + BLOCK]] for x in flat]
        else:
            yield [None if x is None else [x] for x in row]
    if small:
        yield [c if c is None else [c[j] for j in small] for c in columns]


def _together(formula: Callable[..., None], columns: list[list[Array] | None], numbers: Any) -> None:
    """One call of the formula for all arrays of the columns."""
    p = columns[0] or []
    if len(p) == 1 and p[0].dtype.itemsize != 2:
        row = [None if c is None else c[0] for c in columns]
        formula(*(row if p[0].ndim else [None if x is None else x.reshape(-1) for x in row]), *numbers)
        return
    xp = np if type(p[0]) is np.ndarray else namespace(p[0])
    whole = [None if c is None else _wide(xp.concatenate([x.reshape(-1) for x in c]), p[0].dtype) for c in columns]
    formula(*whole, *numbers)
    code = formula.__code__
    for name, column, new in zip(code.co_varnames[: code.co_posonlyargcount], columns, whole, strict=True):
        if column is None or new is None or name == "g":
            continue
        at = 0
        for x in column:
            x[...] = new[at : at + x.size].reshape(x.shape)
            at += x.size


def _wide(x: Array, dtype: np.dtype) -> Array:
    return x.astype(float32) if dtype.itemsize == 2 and x.dtype == dtype else x


def before(x: Any) -> Any:
    """A state as it is before a write that follows from it: itself, or a copy of a Tensor, as the record needs it."""
    return shapes.clone(x) if isinstance(x, Traced) else x


@rule(cases=lambda r: [case(r(1)), case(r())])
def count_step(p: Array, /) -> None:
    """Counts of steps: p + 1."""
    p += 1


@rule(
    cases=lambda r: [
        case(r(4, 3), r(4, 3), 0.25),
        case(r(9001), r(9001), 1.0),
        case(r(), r(), 0.1),
        case(r(0), r(0), 0.5),
    ]
)
def blend(p: Array, g: Array, /, weight: float) -> None:
    """p + weight (g - p): an average p, moved towards g."""
    p += weight * (g - p)
