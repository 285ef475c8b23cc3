"""A model as a table: each layer with what it gives, how many numbers that is, and how many parameters it has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from .. import create
from ..op import unwrap
from ..tape import Traced
from .evaluation import evaluating
from .module import Module

__all__ = ["Row", "Summary", "summary"]


class Row(NamedTuple):
    """A layer: its place in the model, its class, the shape of what it gives, the numbers in that, its own parameters."""

    name: str
    kind: str
    depth: int
    shape: tuple[int, ...]
    activations: int
    parameters: int
    trained: int
    times: int  # how often it was called


class Summary:
    """The table of a model: str() of it is what print shows.

    rows         of each module that was called, an outer one before those in it
    parameters   of the model, those that are shared counted once; `trained` are those that ask for a gradient
    activations  numbers given by the layers that hold no other layers, all calls together
    size         bytes of the parameters and buffers
    """

    def __init__(self, model: Module, rows: list[Row]) -> None:
        self.rows, self.name = rows, type(model).__name__
        parameters, buffers = list(model.parameters()), list(model.buffers())
        self.parameters = sum(p.numel() for p in parameters)
        self.trained = sum(p.numel() for p in parameters if p.requires_grad)
        self.size = sum(unwrap(t).nbytes for t in (*parameters, *buffers))
        inside = [(f"{r.name}." if r.name else "", r) for r in rows]
        leaves = [r for prefix, r in inside if not any(o is not r and o.name.startswith(prefix) for o in rows)]
        self.activations = sum(r.activations for r in leaves)

    def __str__(self) -> str:
        head = ("layer", "output", "activations", "parameters")
        cells = [head]
        for r in self.rows:
            name = "  " * r.depth + (r.name.rpartition(".")[2] or self.name)
            kind = f" ({r.kind})" if r.name else ""
            times = f" x {r.times}" if r.times > 1 else ""
            cells.append((f"{name}{kind}{times}", _by(r.shape), f"{r.activations:,}", f"{r.parameters:,}" if r.parameters else "-"))
        widths = [max(len(row[i]) for row in cells) for i in range(4)]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
            for row in cells
        ]
        rule = "-" * len(lines[0])
        fixed = self.parameters - self.trained
        ends = [
            f"parameters: {self.parameters:,}" + (f" ({fixed:,} of them fixed)" if fixed else ""),
            f"activations: {self.activations:,}",
            f"size: {self.size / 2**20:,.1f} MiB of parameters and buffers",
        ]
        return "\n".join([lines[0], rule, *lines[1:], rule, *ends])

    __repr__ = __str__


def _by(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) if shape else "()"


def summary(model: Module, *inputs: Any, dtype: Any = None, device: Any = None) -> Summary:
    """The table of what each layer of a model gives for these inputs: tensors, or shapes with the batch in front.

    summary(model, (1, 3, 224, 224)) runs the model once, in evaluation and unrecorded, on zeros of that shape. Modules
    that are called several times have one row. TypeError for inputs that are neither.
    """
    given = [_input(x, model, dtype, device) for x in inputs]
    names = {id(m): name for name, m in model.named_modules()}
    seen: dict[int, list[Any]] = {}
    order: list[Module] = []

    def before(module: Module, args: Any) -> None:
        if id(module) not in seen:
            seen[id(module)] = []
            order.append(module)

    def after(module: Module, args: Any, output: Any) -> None:
        seen[id(module)].append(_tensors(output))

    hooks = [h for m in model.modules() for h in (m.register_forward_pre_hook(before), m.register_forward_hook(after))]
    try:
        with evaluating(model):
            model(*given)
    finally:
        for hook in hooks:
            hook.remove()
    rows = []
    for module in order:
        outputs = seen[id(module)]
        shape = outputs[0][0] if outputs and outputs[0] else ()
        own = list(module.parameters(recurse=False))
        name = names[id(module)]
        numbers = sum(math.prod(s) for call in outputs for s in call)
        parameters, trained = sum(p.numel() for p in own), sum(p.numel() for p in own if p.requires_grad)
        depth = name.count(".") + 1 if name else 0
        rows.append(Row(name, type(module).__name__, depth, shape, numbers, parameters, trained, len(outputs)))
    return Summary(model, rows)


def _input(x: Any, model: Module, dtype: Any, device: Any) -> Any:
    if isinstance(x, Traced):
        return x
    if not isinstance(x, (tuple, list)) or not all(isinstance(n, int) for n in x):
        raise TypeError(f"summary: wanted tensors or shapes (n, ...), saw {x!r}")
    first = next(model.parameters(), None)
    floating = first is not None and first.dtype.kind in "fV"
    where = device if device is not None else first.device if first is not None else "cpu"
    return create.zeros(*x, dtype=dtype if dtype is not None else first.dtype if floating else None, device=where)  # type: ignore[union-attr]


def _tensors(output: Any) -> list[tuple[int, ...]]:
    """The shapes of the tensors in what a module gives."""
    if isinstance(output, Traced):
        return [tuple(output.array.shape)]
    if isinstance(output, dict):
        output = tuple(output.values())
    return [s for v in output for s in _tensors(v)] if isinstance(output, (tuple, list)) else []

