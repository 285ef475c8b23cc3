"""The two-layer net of the lecture, beside its NumPy program: 2,000 steps whose losses are the same numbers.

N = 64 inputs of 1000 numbers, 100 hidden sigmoids, 10 outputs, the sum of squared errors, gradient descent at 1e-4. The NumPy
program writes the gradients out; the net records them. The data is made: standard normal inputs and targets.
"""

from __future__ import annotations

import numpy as np

import gradflow as gf
from gradflow.examples.page import Page
from gradflow.examples.runner import main

N, D_IN, H, D_OUT, RATE = 64, 1000, 100, 10, 1e-4


def in_numpy(x: np.ndarray, y: np.ndarray, w1: np.ndarray, w2: np.ndarray, steps: int) -> list[float]:
    """The lecture's program: the losses of all steps."""
    losses = []
    for _ in range(steps):
        h = 1 / (1 + np.exp(-x @ w1))
        y_pred = h @ w2
        losses.append(float(np.square(y_pred - y).sum()))
        grad_y_pred = 2.0 * (y_pred - y)
        grad_w2 = h.T @ grad_y_pred
        grad_h = grad_y_pred @ w2.T
        grad_w1 = x.T @ (grad_h * h * (1 - h))
        w1, w2 = w1 - RATE * grad_w1, w2 - RATE * grad_w2
    return losses


def run(page: Page) -> None:
    """Both programs from the same weights."""
    r = np.random.default_rng(page.seed)
    x, y, w1, w2 = (r.standard_normal(s) for s in ((N, D_IN), (N, D_OUT), (D_IN, H), (H, D_OUT)))
    steps = page.pick(2000, 100)
    wanted = in_numpy(x, y, w1, w2, steps)
    X, Y = gf.tensor(x, device=page.device), gf.tensor(y, device=page.device)
    W1, W2 = (gf.tensor(w, device=page.device, requires_grad=True) for w in (w1, w2))
    optimizer, losses = gf.optim.SGD([W1, W2], RATE), []
    for _ in page.steps(steps, "two_layer"):
        optimizer.zero_grad()
        loss = ((gf.sigmoid(X @ W1) @ W2 - Y) ** 2).sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    found = gf.stack(losses).cpu().numpy()  # read once, at the end
    page.result("losses of the two programs apart by, of their size", float(np.max(np.abs(found / wanted - 1))), at_most=1e-9)
    page.result("loss at the end over the first", float(found[-1] / found[0]), at_most=page.pick(0.02, 0.5))
    figure = page.figure(7, 4)
    axes = figure.subplots()
    axes.plot(wanted, linewidth=4, color="#bbbbbb", label="NumPy, gradients by hand")
    axes.plot(found, color="#1f77b4", label="gradflow")
    axes.set(yscale="log", xlabel="step", ylabel="sum of squared errors")
    axes.legend(frameon=False)
    page.picture(figure, "losses.png", "The losses of both programs: one curve on the other.")


if __name__ == "__main__":
    raise SystemExit(main("two_layer"))
