"""Forward or backward: what a Jacobian costs either way, counted in passes, for tall and for wide functions.

Of f: R^n -> R^m one forward accumulation gives a column of the Jacobian (jvp, all outputs by one input), one backward
accumulation a row (vjp, one output by all inputs). So a tall one (m > n) is cheaper by columns, a wide one by rows, and a loss,
with a million inputs and one output, is differentiated backwards. Counted are the values and gradients that pass through the
middle of f: two for a column, as jvp runs f and transposes the tape; one for a row, after f ran once for all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

import gradflow as gf
from gradflow.examples.page import Page
from gradflow.examples.runner import main


class Turnstile(gf.autograd.Function):
    """x as it is; counts values that go through it and gradients that come back."""

    passed = 0

    @staticmethod
    def forward(ctx: Any, x: gf.Tensor) -> gf.Tensor:
        """x, counted."""
        Turnstile.passed += 1
        return x.clone()

    @staticmethod
    def backward(ctx: Any, g: gf.Tensor) -> gf.Tensor:
        """g, counted."""
        Turnstile.passed += 1
        return g


def layered(n: int, m: int, device: Any) -> Callable[[gf.Tensor], gf.Tensor]:
    """A function R^n -> R^m: a hidden layer of tanh, with a turnstile, between two fixed matrices."""
    hidden = 64
    a = gf.randn(hidden, n, dtype=gf.float64, device=device) / n**0.5
    b = gf.randn(m, hidden, dtype=gf.float64, device=device) / hidden**0.5
    return lambda x: b @ Turnstile.apply(gf.tanh(a @ x))


def forwards(f: Callable[[gf.Tensor], gf.Tensor], x: gf.Tensor) -> gf.Tensor:
    """The Jacobian column by column."""
    return gf.stack([gf.func.jvp(f, (x,), (e,))[1] for e in gf.eye(len(x), dtype=x.dtype, device=x.device)], 1)


def backwards(f: Callable[[gf.Tensor], gf.Tensor], x: gf.Tensor) -> gf.Tensor:
    """The Jacobian row by row."""
    y, pull = gf.func.vjp(f, x)
    return gf.stack([pull(e)[0] for e in gf.eye(len(y), dtype=x.dtype, device=x.device)])


def cost(way: Callable[..., gf.Tensor], f: Callable[[gf.Tensor], gf.Tensor], x: gf.Tensor) -> tuple[np.ndarray, int, float]:
    """A Jacobian, the passes that it took, and the seconds."""
    Turnstile.passed, start = 0, time.perf_counter()
    jacobian = way(f, x).cpu().numpy()  # waits for the card, too
    return jacobian, Turnstile.passed, time.perf_counter() - start


def run(page: Page) -> None:
    """Both ways for shapes from tall to wide: the same Jacobian, different costs."""
    size = page.pick(256, 32)
    passes, seconds, apart = {}, {}, 0.0
    for n, m in [(1, size), (size // 16, size), (size, size), (size, size // 16), (size, 1)]:
        f, x = layered(n, m, page.device), gf.randn(n, dtype=gf.float64, device=page.device)
        for way in (forwards, backwards):
            way(f, x)  # what is made ready once is not counted
        (columns, *by_columns), (rows, *by_rows) = (cost(way, f, x) for way in (forwards, backwards))
        apart = max(apart, float(abs(columns - rows).max()), float(abs(rows - gf.func.jacrev(f)(x).cpu().numpy()).max()))
        passes[n, m], seconds[n, m] = zip(by_columns, by_rows, strict=True)
    page.result("Jacobians by columns, by rows and by jacrev apart by", apart, at_most=1e-12)
    for (n, m), (columns, rows) in passes.items():
        page.result(f"{n} -> {m}: passes by columns", columns, equal=2 * n)
        page.result(f"{n} -> {m}: passes by rows", rows, equal=1 + m)
    figure = page.figure(10, 4)
    for axes, found, label in zip(figure.subplots(1, 2), (passes, seconds), ("passes", "seconds"), strict=True):
        for way, name, color in ((0, "forwards, by columns", "#1f77b4"), (1, "backwards, by rows", "#d95f02")):
            places = [p + 0.4 * way - 0.2 for p in range(len(found))]
            axes.bar(places, [both[way] for both in found.values()], 0.4, label=name, color=color)
        axes.set_xticks(range(len(found)), [f"{n} -> {m}" for n, m in found], fontsize=9)
        axes.set(yscale="log", ylabel=label, xlabel="inputs -> outputs: from tall to wide Jacobians")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    page.picture(figure, "passes.png", "Columns or rows: forward accumulation pays for inputs, backward for outputs.")


if __name__ == "__main__":
    raise SystemExit(main("accumulation"))
