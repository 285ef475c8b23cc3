"""Linear least squares and ridge regression, three ways: by the normal equations, by a hand-derived gradient, by the tape.

The loss ||X w - y||^2 / n + l ||w||^2 has the gradient 2 X^T (X w - y) / n + 2 l w, which is zero at
w = (X^T X / n + l I)^-1 X^T y / n. The data is scikit-learn's diabetes table: ten measurements of 442 patients and how far
the disease had gone a year later (Efron et al. 2004); ridge regression pulls the coefficients towards zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import gradflow as gf
from gradflow.examples.page import Page
from gradflow.examples.runner import main


def table(device: Any) -> tuple[gf.Tensor, gf.Tensor, list[str]]:
    """X (442, 11), a one in front of the ten standardised measurements; y (442,), standardised; their names."""
    from sklearn.datasets import load_diabetes

    found = load_diabetes(scaled=False)
    x = (found.data - found.data.mean(0)) / found.data.std(0)
    y = (found.target - found.target.mean()) / found.target.std()
    x = np.concatenate([np.ones((len(x), 1)), x], 1)
    return gf.tensor(x, device=device), gf.tensor(y, device=device), ["one", *found.feature_names]


def loss_of(x: gf.Tensor, y: gf.Tensor, w: gf.Tensor, ridge: float) -> gf.Tensor:
    """||x w - y||^2 / n + ridge ||w||^2."""
    return ((x @ w - y) ** 2).mean() + ridge * (w**2).sum()


def gradient_by_hand(x: gf.Tensor, y: gf.Tensor, w: gf.Tensor, ridge: float) -> gf.Tensor:
    """Its gradient, derived on paper."""
    return 2 * x.T @ (x @ w - y) / len(y) + 2 * ridge * w


def exact(x: gf.Tensor, y: gf.Tensor, ridge: float) -> gf.Tensor:
    """Where the gradient is zero, by the normal equations."""
    n, k = x.shape
    return gf.linalg.solve(x.T @ x / n + ridge * gf.eye(k, dtype=x.dtype, device=x.device), x.T @ y / n)


def descend(x: gf.Tensor, y: gf.Tensor, ridge: float, steps: int, taped: bool) -> gf.Tensor:
    """Gradient descent from zero, by the one gradient or the other."""
    w = gf.zeros(x.shape[1], dtype=x.dtype, device=x.device, requires_grad=taped)
    for _ in range(steps):
        g = gf.autograd.grad(loss_of(x, y, w, ridge), w)[0] if taped else gradient_by_hand(x, y, w, ridge)
        with gf.no_grad():
            w -= 0.15 * g
    return w.detach()


def run(page: Page) -> None:
    """All three ways agree; then the coefficients as the ridge grows."""
    x, y, names = table(page.device)
    steps = page.pick(20000, 2000)
    for ridge, within in ((0.0, page.pick(1e-8, 3e-2)), (0.1, 1e-8)):
        best = exact(x, y, ridge)
        ways = {taped: descend(x, y, ridge, steps, taped) for taped in (False, True)}
        kind = f"ridge {ridge}" if ridge else "least squares"
        apart = (ways[True] - ways[False]).abs().max().item()
        page.result(f"{kind}: descent by the tape and by hand apart by", apart, at_most=1e-12)
        page.result(f"{kind}: descent and normal equations apart by", (ways[True] - best).abs().max().item(), at_most=within)
        share = 1 - ((x @ best - y) ** 2).mean().item() / (y**2).mean().item()
        page.result(f"{kind}: variance explained", share, at_least=0.5 if not ridge else 0.48, unit="%")
    ridges = np.logspace(-4, 2, 40)
    paths = np.stack([exact(x, y, r).cpu().numpy() for r in ridges])
    figure = page.figure(8, 5)
    axes = figure.subplots()
    for name, path in list(zip(names, paths.T, strict=True))[1:]:
        axes.plot(ridges, path, label=name)
    axes.axhline(0, color="#888888", linewidth=0.8)
    axes.set(xscale="log", xlabel="ridge", ylabel="coefficient", title="Ridge regression pulls coefficients towards zero")
    axes.legend(ncols=2, frameon=False, fontsize=8)
    page.picture(figure, "paths.png", "The ten coefficients against the ridge: correlated ones (s1, s2) shrink first.")


if __name__ == "__main__":
    raise SystemExit(main("least_squares"))
