"""What an optimizer tells a CUDA graph that captures its step: the numbers and the work on the host that replays repeat."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backend import Array, float64
from ..op import unwrap
from ..tape import Traced


def repeat(optimizer: Any, group: dict[str, Any], graph: Any, counted: list[Any]) -> dict[int, Array]:
    """Have replays of a captured step do the CPU's part: count, and note that parameters were written.

    Counts become parts of one array, which is quick to count on; gives each by the id of the array it was before.
    """
    held = [p for p in group["params"] if p.grad is not None]
    bumps = [p.version.bump for p in held]
    before = [t.array for t in counted]
    cells, bases = before, {id(c.base): c.base for c in before}
    if len(bases) == 1 and cells[0].base is not None and cells[0].base.shape == (len(cells),):  # by another graph
        cells = [cells[0].base]
    elif bases == {id(None): None}:
        cells = [np.array(before)]
        for i, t in enumerate(counted):
            t.array = cells[0][i, ...]
    counts = {id(c): t.array for c, t in zip(before, counted, strict=True)}

    def count() -> None:
        for cell in cells:
            cell[...] += 1
        for bump in bumps:
            bump()

    graph.again(count, already=True)
    graph.same(f"the state of {type(optimizer).__name__}", lambda: [optimizer.state, len(optimizer.param_groups)])
    graph.same(f"the parameters of {type(optimizer).__name__}", lambda: [p.array for p in held])
    return counts


def replayed(group: dict[str, Any], numbers: dict[str, Any], graph: Any) -> dict[str, Any]:
    """The hyperparameters that schedules change as numbers on the card, which each replay reads anew; others must stay."""

    def read(name: str) -> Any:
        return lambda: float(unwrap(group[name]))

    new: dict[str, Any] = {
        name: graph.number(read(name), float64) for name in ("lr", "momentum") if type(numbers.get(name)) in (int, float)
    }
    if "betas" in numbers:
        new["betas"] = (graph.number(lambda: float(unwrap(group["betas"][0])), float64), *numbers["betas"][1:])
    names = [k for k in numbers if k not in ("params", "betas", "initial_lr", *new) and not isinstance(group[k], Traced)]
    names = [k for k in names if type(group[k]) in (int, float, bool, str, tuple, type(None))]
    graph.same("a hyperparameter", lambda: [*(group[k] for k in names), *[float(unwrap(b)) for b in group.get("betas", ())[1:]]])
    return new
