"""Perceptrons are gates, but not every gate is one: AND, OR, NAND are learned; 'same value' needs a hidden layer.

A perceptron says 1 where w x + b > 0, on one side of a line. Its learning rule, w += (t - y) x, ends after finitely many
errors where a line exists (Rosenblatt 1958; Novikoff 1962). For 'both inputs have the same value' no line exists (Minsky and
Papert 1969); two hidden units bend the plane so that one does, which the drawn hidden layer shows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import gradflow as gf
from gradflow.examples.page import Page
from gradflow.examples.runner import main

INPUTS = [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)]
GATES = {"AND": (0, 0, 0, 1), "OR": (0, 1, 1, 1), "NAND": (1, 1, 1, 0), "same value": (1, 0, 0, 1)}


def perceptron(x: gf.Tensor, target: gf.Tensor, rounds: int = 100) -> tuple[gf.Tensor, gf.Tensor, int]:
    """(w, b, errors that are left) after the learning rule went through all inputs until there was none, or `rounds` times."""
    w, b = gf.randn(2, device=x.device), gf.randn(1, device=x.device)
    errors = len(x)
    for _ in range(rounds):
        errors = 0
        for row, t in zip(x, target, strict=True):
            error = t - (w @ row + b > 0).float()
            w, b, errors = w + error * row, b + error, errors + int(error.abs().item())
        if errors == 0:
            break
    return w, b, errors


def hidden_layer(x: gf.Tensor, target: gf.Tensor, steps: int) -> tuple[gf.nn.Module, float]:
    """A 2-2-1 net of tanh, trained; and its last loss."""
    model = gf.nn.Sequential(gf.nn.Linear(2, 2), gf.nn.Tanh(), gf.nn.Linear(2, 1)).to(x.device)
    optimizer, loss_of = gf.optim.Adam(model.parameters(), 0.05), gf.nn.BCEWithLogitsLoss()
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_of(model(x)[:, 0], target)
        loss.backward()
        optimizer.step()
    return model, loss.item()


def learned(x: gf.Tensor, target: gf.Tensor, steps: int) -> gf.nn.Module:
    """A hidden layer that learned its gate: from some starts two units settle where they cannot part the corners."""
    model, loss = hidden_layer(x, target, steps)
    while loss > 0.1:
        model, loss = hidden_layer(x, target, steps)
    return model


def run(page: Page) -> None:
    """All four gates by a perceptron, then the last by a hidden layer."""
    x = gf.tensor(INPUTS, device=page.device)
    lines = {}
    for name, wanted in GATES.items():
        w, b, errors = perceptron(x, gf.tensor(wanted, device=page.device).float())
        lines[name] = (*w.cpu().tolist(), b.item(), errors)
        if name == "same value":
            page.result("errors a round of the perceptron, same value", errors, at_least=1)
        else:
            page.result(f"errors of the perceptron, {name}", errors, equal=0)
    target = gf.tensor(GATES["same value"], device=page.device).float()
    model = learned(x, target, page.pick(1000, 300))
    with gf.no_grad():
        right = ((model(x)[:, 0] > 0).float() == target).float().mean().item()
        corners = model[:2](x).cpu().numpy()
    page.result("same value by two hidden units, right", right, equal=1.0, unit="%")
    caption = "Where each perceptron says 1 (blue); and the hidden layer, to which 0 1 and 1 0 look alike: one line is enough."
    page.picture(_drawn(page, lines, corners, model), "gates.png", caption)


def _drawn(page: Page, lines: dict[str, tuple[float, float, float, int]], corners: np.ndarray, model: Any) -> Any:
    figure = page.figure(15, 3.4)
    panels = figure.subplots(1, 5)
    grid = np.stack(np.meshgrid(np.linspace(-0.5, 1.5, 200), np.linspace(-0.5, 1.5, 200)), -1)
    for axes, (name, (w0, w1, b, errors)) in zip(panels, lines.items(), strict=False):
        _half(axes, grid, grid @ (w0, w1) + b > 0)
        axes.scatter(*np.array(INPUTS).T, c=["#1f77b4" if t else "white" for t in GATES[name]], edgecolors="black", s=70)
        axes.set_title(name if not errors else f"{name}: no line does")
        axes.set(xlabel="$x_0$", ylabel="$x_1$", xticks=(0, 1), yticks=(0, 1))
    w, b = (p.detach().cpu().numpy() for p in (model[2].weight, model[2].bias))
    hidden = np.stack(np.meshgrid(np.linspace(-1.6, 1.6, 200), np.linspace(-1.6, 1.6, 200)), -1)
    _half(panels[4], hidden, hidden @ w[0] + b > 0)
    panels[4].scatter(*corners.T, c=["#1f77b4" if t else "white" for t in GATES["same value"]], edgecolors="black", s=70)
    for (x0, x1), corner in zip(INPUTS, corners, strict=True):  # 1 0 below, for it lies on 0 1
        panels[4].annotate(f"{x0:.0f} {x1:.0f}", corner, (-8, 8 if x0 <= x1 else -16), textcoords="offset points")
    panels[4].set(xlabel="$h_0$", ylabel="$h_1$", xticks=(-1, 0, 1), yticks=(-1, 0, 1), title="same value, hidden units")
    return figure


def _half(axes: Any, grid: np.ndarray, one: np.ndarray) -> None:
    """Colour the half of a plane where it says 1."""
    axes.contourf(grid[..., 0], grid[..., 1], one, levels=[-0.5, 0.5, 1.5], colors=["#f2f2f2", "#cfe8f7"])


if __name__ == "__main__":
    raise SystemExit(main("gates"))
