"""The rows of the elementwise ops: every row of the op table at three sizes, forward and backward."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import numpy as np

import gradflow.ops
from gradflow import backend
from gradflow.cases import Sampler
from gradflow.op import table

from .case import Case, Inputs, backward, forward, recorded

for family in iter_modules(gradflow.ops.__path__):  # fill the op table
    import_module(f"gradflow.ops.{family.name}")

SIZES = {"cpu": (16, 1 << 16, 1 << 22), "card": (16, 1 << 16, 1 << 26), "tiny": (16, 64, 256)}
NAMES = {16: "16", 64: "64", 256: "256", 1 << 16: "64K", 1 << 22: "4M", 1 << 26: "64M"}
# The rows that nets are made of: measured first, so that they are there if time runs out.
FIRST = ("relu", "gelu", "silu", "tanh", "sigmoid", "add", "mul", "exp", "log", "sqrt", "div", "where")
LEFT_OUT = ("positive",)  # PyTorch gives the same memory back


def arrays_of(entry: Any, size: int, inputs: Inputs) -> list[Any]:
    """Arguments like those of the op's first case, its arrays of `size` elements drawn from the same range."""
    cases = entry.cases(Sampler())
    found = []
    for i, a in enumerate(cases[0].args):
        if not isinstance(a, np.ndarray):
            found.append(a)
            continue
        seen = [np.asarray(c.args[i]).ravel() for c in cases if len(c.args) > i]
        seen = np.concatenate([v for v in seen if v.dtype == a.dtype])
        low, high = seen.min(), seen.max()
        if a.dtype.kind == "b":
            found.append(inputs(i, lambda r: r.random(size) < 0.5))
        elif a.dtype.kind in "iu":
            found.append(inputs(i, lambda r, d=a.dtype, n=low, m=high: r.integers(n, m + 1, size, dtype=d)))
        else:
            found.append(inputs(i, lambda r, n=low, m=high: inputs.tiled(lambda k: r.uniform(n, m, k), (size,))))
    return found


def constants(entry: Any) -> dict[str, Any]:
    """The keyword arguments of the op's first case."""
    return entry.cases(Sampler())[0].kwargs


def moved(entry: Any, size: int, back: bool, dtype: Any) -> int:
    """Bytes that a call must read and write; for a backward the incoming gradient, what is kept, the gradients."""
    inputs = Inputs(entry.name, dtype)
    args = entry.bind(*arrays_of(entry, 8, inputs), **constants(entry))
    per = [a.itemsize if isinstance(a, np.ndarray) else 0 for a in args]
    if not back:
        y = np.asarray(entry.definition(*args))
        return size * (sum(per) + (np.dtype(inputs.dtype) if backend.is_floating(y.dtype) else y.dtype).itemsize)
    needs = tuple(isinstance(a, np.ndarray) and backend.is_floating(a.dtype) for a in args)
    plan = entry.plan(needs)
    g = y = np.asarray(entry.definition(*args))
    if any(dx is g for dx in plan.pull(g, plan.keep(*args, y))):
        return 0  # the gradient itself is handed on: nothing need move
    item = np.dtype(dtype).itemsize
    kept = sum(item if i is not None and i >= len(per) else per[i] for i in set(plan.kept))
    return size * (item * (1 + sum(needs)) + kept)


def differentiable(entry: Any) -> bool:
    """Whether the first case has floating arrays with a rule."""
    first = entry.cases(Sampler())[0]
    args = entry.bind(*first.args, **first.kwargs)
    needs = tuple(isinstance(a, np.ndarray) and backend.is_floating(a.dtype) for a in args)
    return bool(entry.rules) and any(needs) and entry.plan(needs) is not None


def entries() -> list[Any]:
    """The elementwise ops: the rows of ops/pointwise.py."""
    found = [e for e in table.values() if e.promote and e.cases and _elementwise(e) and e.name not in LEFT_OUT]
    return sorted(found, key=lambda e: FIRST.index(e.name) if e.name in FIRST else len(FIRST))


def _elementwise(entry: Any) -> bool:
    from gradflow.ops import pointwise

    return getattr(getattr(pointwise, entry.name, None), "op", None) is entry and not entry.variadic


def cases(kind: str, quick: bool, dtype: str = "float32") -> Iterator[Case]:
    """The cases for "cpu", "card" or "tiny": at 16 elements the cost of a call, above it the speed of the loop."""
    sizes = SIZES[kind][:2] if quick else SIZES[kind]
    for size in sizes:
        for entry in entries():
            yield from of(entry, size, dtype)


def of(entry: Any, size: int, dtype: str) -> Iterator[Case]:
    """The cases of one op at one size."""

    def function(side: Any) -> Any:
        return partial(side.function(entry.name), **constants(entry)) if constants(entry) else side.function(entry.name)

    def draw(inputs: Inputs) -> list[Any]:
        return arrays_of(entry, size, inputs)

    first = entry.cases(Sampler())[0]
    group = "overhead" if size == 16 else "pointwise"
    name = f"{entry.name} {NAMES.get(size, size)}"
    options: dict[str, Any] = {"terms": 16, "dtype": dtype}
    yield Case(f"{name} forward", group, forward(function, draw), moved(entry, size, False, dtype), **options)
    if not differentiable(entry):
        return
    reached = {t for targets, _ in entry.rules for t in targets}
    wrt = [i for i, a in enumerate(first.args) if isinstance(a, np.ndarray) and entry.inputs[i] in reached]
    if size == 16:
        yield Case(f"{name} recorded", group, recorded(function, draw, wrt), 0, **options)
    else:
        yield Case(f"{name} backward", group, backward(function, draw, wrt), moved(entry, size, True, dtype), **options)
