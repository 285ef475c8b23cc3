"""Three hidden units draw x^2, sin x and |x|: a net of one input is a sum of a few bent lines, and one can see which.

y = sum_i v_i tanh(w_i x + b_i) + c, fitted by least squares (Bishop, Neural Networks for Pattern Recognition, 1995, has the
picture). The dashed lines are the three units, each times its weight, moved to the middle of the picture. A very small penalty
on all weights keeps them from being large numbers that cancel.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import gradflow as gf
from gradflow.examples.page import Page
from gradflow.examples.runner import main

FUNCTIONS = {"x^2": (np.square, 1.0), "sin x": (np.sin, np.pi), "|x|": (np.abs, 1.0)}  # and how far to either side of 0


def fitted(x: gf.Tensor, y: gf.Tensor, rounds: int) -> tuple[gf.nn.Module, float]:
    """A 1-3-1 net and its mean squared error, by L-BFGS: the best of a few starts."""
    best: tuple[Any, float] = (None, float("inf"))
    for _ in range(4):
        model = gf.nn.Sequential(gf.nn.Linear(1, 3), gf.nn.Tanh(), gf.nn.Linear(3, 1)).double().to(x.device)
        with gf.no_grad():
            model[0].weight *= 3 / x.max()  # bends inside the interval from the start
        optimizer = gf.optim.LBFGS(model.parameters(), max_iter=rounds, history_size=20, line_search_fn="strong_wolfe")

        def closure(model: Any = model, optimizer: Any = optimizer) -> gf.Tensor:
            optimizer.zero_grad()
            loss = ((model(x) - y) ** 2).mean() + 1e-6 * sum((p**2).sum() for p in model.parameters())
            loss.backward()
            return loss

        optimizer.step(closure)
        with gf.no_grad():
            error = ((model(x) - y) ** 2).mean().item()
        if error < best[1]:
            best = model, error
    return best


def run(page: Page) -> None:
    """All three functions, each with its three units drawn."""
    figure = page.figure(12, 3.6)
    for axes, (name, (f, far)) in zip(figure.subplots(1, 3), FUNCTIONS.items(), strict=True):
        points = np.linspace(-far, far, 50)
        x = gf.tensor(points, device=page.device)[:, None]
        model, error = fitted(x, gf.tensor(f(points), device=page.device)[:, None], page.pick(500, 60))
        page.result(f"{name}: mean squared error", error, at_most=page.pick(1e-3, 5e-3))
        with gf.no_grad():
            y = model(x)[:, 0].cpu().numpy()
            units = (model[:2](x) * model[2].weight).cpu().numpy()
        axes.scatter(points, f(points), s=12, color="#888888", label="samples")
        axes.plot(points, y, color="#1f77b4", label="net")
        for i, unit in enumerate(units.T):
            label = "hidden units, each centred" if i == 0 else None
            axes.plot(points, unit - unit.mean(), "--", linewidth=1, color="#d95f02", label=label)
        axes.set(title=name, xlabel="x")
    figure.axes[0].legend(frameon=False, fontsize=8)
    page.picture(figure, "fits.png", "Each function, the net's fit, and the three units that it is the sum of.")


if __name__ == "__main__":
    raise SystemExit(main("fits"))
