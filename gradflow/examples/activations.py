"""Activation functions and their gradients, drawn, and checked against what one derives with a pencil.

A gradient passes an activation multiplied by its slope: the sigmoid's is at most 1/4 and both it and tanh are flat far out,
so that gradients fade; ReLU passes all of it or nothing, and a unit that is always below 0 learns no more; leaky ReLU, ELU
(Clevert et al. 2015) and SiLU (Elfwing et al. 2017) let some of it through there, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import gradflow as gf
from gradflow.examples.page import Page
from gradflow.examples.runner import main

F = gf.nn.functional


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-x)."""
    return 1 / (1 + np.exp(-x))


# Name: the function, then by pencil its value and its slope.
ACTIVATIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]] = {
    "sigmoid": (F.sigmoid, sigmoid, lambda x: sigmoid(x) * (1 - sigmoid(x))),
    "tanh": (F.tanh, lambda x: (np.exp(2 * x) - 1) / (np.exp(2 * x) + 1), lambda x: 4 / (np.exp(x) + np.exp(-x)) ** 2),
    "ReLU": (F.relu, lambda x: np.where(x > 0, x, 0), lambda x: np.where(x > 0, 1, 0)),
    "leaky ReLU": (lambda x: F.leaky_relu(x, 0.1), lambda x: np.where(x > 0, x, 0.1 * x), lambda x: np.where(x > 0, 1, 0.1)),
    "ELU": (F.elu, lambda x: np.where(x > 0, x, np.exp(x) - 1), lambda x: np.where(x > 0, 1, np.exp(x))),
    "SiLU": (F.silu, lambda x: x * sigmoid(x), lambda x: sigmoid(x) * (1 + x * (1 - sigmoid(x)))),
}


def run(page: Page) -> None:
    """Each activation on a line of points none of which is 0, where some have a corner."""
    points = np.linspace(-5, 5, page.pick(1000, 200))
    figure = page.figure(11, 6.5)
    for axes, (name, (f, value, slope)) in zip(figure.subplots(2, 3).flat, ACTIVATIONS.items(), strict=True):
        x = gf.tensor(points, device=page.device, requires_grad=True)
        y = f(x)
        y.sum().backward()
        values, slopes = y.detach().cpu().numpy(), x.grad.cpu().numpy()
        apart = max(abs(values - value(points)).max(), abs(slopes - slope(points)).max())
        page.result(f"{name}: value and slope apart from the closed form by", float(apart), at_most=1e-12)
        axes.plot(points, values, color="#1f77b4", label="value")
        axes.plot(points, slopes, color="#d95f02", label="gradient")
        axes.set(title=f"{name}: slope from {slopes.min():.2g} to {slopes.max():.2g}", ylim=(-1.5, 3), xlabel="x")
        axes.grid(alpha=0.3)
    figure.axes[0].legend(frameon=False, loc="upper left")
    page.picture(figure, "activations.png", "Six activations and, in orange, the slope that a gradient is multiplied by.")


if __name__ == "__main__":
    raise SystemExit(main("activations"))
