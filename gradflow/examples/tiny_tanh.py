"""A 2-2-1 net of tanh, one step of gradient descent by hand: two inputs, two hidden units, one output, eight numbers in all.

With weights W = [[1, -3], [0.2, 1]] and v = [1, -1], input (1, 0.1) and target 0.5, the squared error's gradient moves the
weights by a step of 0.2 to W = [[1.02, -3.00], [0.17, 1.00]] and v = [1.02, -0.99].
"""

from __future__ import annotations

import numpy as np

import gradflow as gf
from gradflow.examples.page import Page
from gradflow.examples.runner import main

STEP = 0.2


def run(page: Page) -> None:
    """The step by the tape, beside the same step written out in NumPy."""
    x, target = np.array([1.0, 0.1]), 0.5
    start = np.array([[1.0, -3.0], [0.2, 1.0]]), np.array([1.0, -1.0])
    w, v = (gf.tensor(a, device=page.device, requires_grad=True) for a in start)
    h = gf.tanh(w @ gf.tensor(x, device=page.device))
    y = gf.tanh(v @ h)
    loss = 0.5 * (y - target) ** 2
    for t in (h, y, loss):
        t.retain_grad()
    loss.backward(retain_graph=True)
    drawing = gf.draw(loss, names={"W": w, "v": v, "h": h, "y": y, "loss": loss}, values=True, shapes=False)
    page.picture(drawing, "graph.png", "The net before the step: values forward, gradients back.")
    with gf.no_grad():
        for p in (w, v):
            p -= STEP * p.grad
    hand = by_hand(*start, x, target)
    page.result("output", y.item(), equal=np.tanh(start[1] @ np.tanh(start[0] @ x)), within=1e-12)
    for name, p, wanted in (("W", w, [[1.02, -3.0], [0.17, 1.0]]), ("v", v, [1.02, -0.99])):
        page.result(f"{name} after the step", str(p.detach().cpu().numpy().round(2).tolist()), equal=str(wanted))
    apart = max(abs(p.detach().cpu().numpy() - q).max() for p, q in zip((w, v), hand, strict=True))
    page.result("tape and hand apart by", float(apart), at_most=1e-14)


def by_hand(w: np.ndarray, v: np.ndarray, x: np.ndarray, target: float) -> tuple[np.ndarray, np.ndarray]:
    """The weights after a step, each gradient a line: da = (1 - tanh^2) dh."""
    h = np.tanh(w @ x)
    y = np.tanh(v @ h)
    da = (y - target) * (1 - y**2)
    dv, dh = da * h, da * v
    dw = np.outer((1 - h**2) * dh, x)
    return w - STEP * dw, v - STEP * dv


if __name__ == "__main__":
    raise SystemExit(main("tiny_tanh"))
