"""Forward or backward: what a Jacobian costs either way, counted in passes, for tall and for wide functions.

Of f: R^n -> R^m one forward pass gives a column of the Jacobian (jvp, all outputs by one input) and one backward pass a row
(vjp, one output by all inputs). So n passes or m: a loss, with a million inputs and one output, is differentiated backwards.
Counted are the calls of the function's tanh and of its gradients, which is what the two ways repeat.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gradflow as gf
from gradflow.examples.page import Page
from gradflow.examples.runner import main


def layered(n: int, m: int, device: Any) -> Callable[[gf.Tensor], gf.Tensor]:
    """A function R^n -> R^m: a hidden layer of tanh between two fixed matrices."""
    hidden = 64
    a = gf.randn(hidden, n, dtype=gf.float64, device=device) / n**0.5
    b = gf.randn(m, hidden, dtype=gf.float64, device=device) / hidden**0.5
    return lambda x: b @ gf.tanh(a @ x)


def forwards(f: Callable[[gf.Tensor], gf.Tensor], x: gf.Tensor) -> tuple[gf.Tensor, int]:
    """The Jacobian column by column, and how many passes that took."""
    columns = [gf.func.jvp(f, (x,), (e,))[1] for e in gf.eye(len(x), dtype=x.dtype, device=x.device)]
    return gf.stack(columns, 1), len(columns)


def backwards(f: Callable[[gf.Tensor], gf.Tensor], x: gf.Tensor) -> tuple[gf.Tensor, int]:
    """The Jacobian row by row, and how many passes that took."""
    y, pull = gf.func.vjp(f, x)
    rows = [pull(e)[0] for e in gf.eye(len(y), dtype=x.dtype, device=x.device)]
    return gf.stack(rows), len(rows)


def run(page: Page) -> None:
    """Both ways for shapes from tall to wide: the same Jacobian, different costs."""
    size = page.pick(256, 32)
    shapes = [(1, size), (size // 16, size), (size, size), (size, size // 16), (size, 1)]
    passes, seconds = [], []
    for n, m in shapes:
        f, x = layered(n, m, page.device), gf.randn(n, dtype=gf.float64, device=page.device)
        found = []
        for way in (forwards, backwards):
            start = time.perf_counter()
            jacobian, count = way(f, x)
            found.append((jacobian, count, time.perf_counter() - start))
        apart = (found[0][0] - found[1][0]).abs().max().item()
        page.result(f"{n} -> {m}: the two Jacobians apart by", apart, at_most=1e-12)
        passes.append([c for _, c, _ in found])
        seconds.append([s for _, _, s in found])
    page.result("passes for a loss of many inputs, forwards", passes[-1][0], equal=size)
    page.result("passes for a loss of many inputs, backwards", passes[-1][1], equal=1)
    figure = page.figure(9, 4)
    left, right = figure.subplots(1, 2)
    places = range(len(shapes))
    for axes, values, label in ((left, passes, "passes"), (right, seconds, "seconds")):
        for way, name, shift in ((0, "forwards", -0.2), (1, "backwards", 0.2)):
            axes.bar([p + shift for p in places], [v[way] for v in values], 0.4, label=name)
        axes.set_xticks(places, [f"{n} -> {m}" for n, m in shapes], rotation=30)
        axes.set(yscale="log", ylabel=label, xlabel="inputs -> outputs")
        axes.legend(frameon=False)
    page.picture(figure, "passes.png", "Columns or rows: forward accumulation pays for inputs, backward for outputs.")


if __name__ == "__main__":
    raise SystemExit(main("accumulation"))
