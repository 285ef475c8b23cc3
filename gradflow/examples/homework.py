"""A 2-2-1 net of sigmoids with every value and every gradient: the exercise one should have done once on paper.

x = (0.5, -1.5); h = s(W1 x + b1); y = s(w2 h + b2); the loss is (y - 0.3)^2 / 2. Going back, with s' = s (1 - s):
da2 = (y - t) s'(a2), dw2 = da2 h, dh = da2 w2, da1 = dh s'(a1), dW1 = da1 x^T, dx = W1^T da1.
"""

from __future__ import annotations

import numpy as np

import gradflow as gf
from gradflow.examples.page import Page
from gradflow.examples.runner import main

X, TARGET = (0.5, -1.5), 0.3
W1, B1 = ((0.4, -0.2), (-0.1, 0.3)), (0.1, -0.3)
W2, B2 = (0.2, -0.5), 0.05


def by_hand() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Every value and its gradient, line by line."""
    x, w1, b1, w2, b2 = map(np.array, (X, W1, B1, W2, B2))
    a1 = w1 @ x + b1
    h = 1 / (1 + np.exp(-a1))
    a2 = w2 @ h + b2
    y = 1 / (1 + np.exp(-a2))
    loss = (y - TARGET) ** 2 / 2
    dy = y - TARGET
    da2 = dy * y * (1 - y)
    dh = da2 * w2
    da1 = dh * h * (1 - h)
    return {
        "x": (x, w1.T @ da1), "W1": (w1, np.outer(da1, x)), "b1": (b1, da1), "a1": (a1, da1), "h": (h, dh),
        "w2": (w2, da2 * h), "b2": (b2, da2), "a2": (a2, da2), "y": (y, dy), "loss": (loss, np.array(1.0)),
    }  # fmt: skip


def by_tape(device: object) -> dict[str, gf.Tensor]:
    """The same as tensors, each with its gradient."""
    given = {"x": X, "W1": W1, "b1": B1, "w2": W2, "b2": B2}
    t = {n: gf.tensor(v, dtype=gf.float64, device=device, requires_grad=True) for n, v in given.items()}
    t["a1"] = t["W1"] @ t["x"] + t["b1"]
    t["h"] = gf.sigmoid(t["a1"])
    t["a2"] = t["w2"] @ t["h"] + t["b2"]
    t["y"] = gf.sigmoid(t["a2"])
    t["loss"] = (t["y"] - TARGET) ** 2 / 2
    for name in ("a1", "h", "a2", "y", "loss"):
        t[name].retain_grad()
    t["loss"].backward(retain_graph=True)
    return t


def run(page: Page) -> None:
    """All of it by the tape and by hand, as a table and as a graph."""
    hand, tape = by_hand(), by_tape(page.device)
    lines, apart = [f"{'':4}  {'value':>32}  {'gradient':>40}"], 0.0
    for name, (value, gradient) in hand.items():
        t = tape[name]
        pairs = ((t.detach(), value), (t.grad, gradient))
        apart = max(apart, *(float(np.abs(a.cpu().numpy() - b).max()) for a, b in pairs))
        shown = (np.array2string(a.cpu().numpy(), precision=5, suppress_small=True).replace("\n", "") for a, _ in pairs)
        lines.append("{:4}  {:>32}  {:>40}".format(name, *shown))
    page.note("\n".join(lines))
    page.result("values and gradients", 2 * len(hand), equal=20)
    page.result("tape and hand apart by", apart, at_most=1e-14)
    drawing = gf.draw(tape["loss"], names={name: tape[name] for name in hand}, values=True, shapes=False)
    page.picture(drawing, "graph.png", "Every value and every gradient of the net.")


if __name__ == "__main__":
    raise SystemExit(main("homework"))
