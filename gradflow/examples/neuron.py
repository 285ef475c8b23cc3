"""A sigmoid neuron, 1 / (1 + exp(-(w0 x0 + w1 x1 + w2))): one gradient at a time through its small steps.

At w = (2, -3, -3), x = (-1, -2) the sum is 1 and the output s = 0.73. The gradient of the sigmoid is (1 - s) s = 0.2, which
the sum hands on: dw0 = 0.2 x0, dx0 = 0.2 w0, and dw2 = 0.2.
"""

from __future__ import annotations

import math

import gradflow as gf
from gradflow.examples.page import Page
from gradflow.examples.runner import main


def run(page: Page) -> None:
    """The neuron in its elementary steps, then by one sigmoid: the same gradients."""
    values = {"w0": 2.0, "x0": -1.0, "w1": -3.0, "x1": -2.0, "w2": -3.0}
    t = {name: gf.tensor(v, device=page.device, dtype=gf.float64, requires_grad=True) for name, v in values.items()}
    a, b = t["w0"] * t["x0"], t["w1"] * t["x1"]
    ab = a + b
    sum_ = ab + t["w2"]
    minus = -sum_
    power = minus.exp()
    below = 1 + power
    s = 1 / below
    steps = {"w0 x0": a, "w1 x1": b, "w0 x0 + w1 x1": ab, "sum": sum_, "-sum": minus, "exp(-sum)": power}
    steps |= {"1 + exp(-sum)": below, "s": s}
    for step in steps.values():
        step.retain_grad()  # only leaves keep their gradient unless asked to
    s.backward(retain_graph=True)
    value = 1 / (1 + math.exp(-1))
    slope = (1 - value) * value
    page.result("s", s.item(), equal=value, within=1e-12)
    wanted = {"w0": -slope, "x0": 2 * slope, "w1": -2 * slope, "x1": -3 * slope, "w2": slope}
    for name, gradient in wanted.items():
        page.result(f"ds/d{name}", t[name].grad.item(), equal=gradient, within=1e-12)
    whole = gf.sigmoid(t["w0"] * t["x0"] + t["w1"] * t["x1"] + t["w2"])
    (once,) = gf.autograd.grad(whole, t["w0"])
    page.result("ds/dw0 by one sigmoid", once.item(), equal=-slope, within=1e-12)
    drawing = gf.draw(s, names={**t, **steps}, values=True)
    page.picture(drawing, "neuron.png", "Every value and every gradient of the neuron.")


if __name__ == "__main__":
    raise SystemExit(main("neuron"))
