"""Why momentum works: a narrow valley, down which plain gradient descent goes in zigzag and momentum in long strides.

On f(x) = (a x0^2 + b x1^2) / 2 the step is bounded by the steep direction, 2 / b, and the flat one then shrinks by 1 - a lr a
step: about b / a steps for each factor of e. With momentum at its best, ((sqrt k - 1) / (sqrt k + 1))^2 for k = b / a, it is
sqrt(b / a) (Polyak 1964; Goh, Distill 2017).
"""

from __future__ import annotations

import numpy as np

import gradflow as gf
from gradflow.examples.page import Page
from gradflow.examples.runner import main

FLAT, STEEP = 1.0, 100.0
START = (-4.0, 1.5)


def descend(page: Page, lr: float, momentum: float, steps: int) -> np.ndarray:
    """The way down from START, (steps + 1, 2)."""
    curvature = gf.tensor([FLAT, STEEP], dtype=gf.float64, device=page.device)
    x = gf.tensor(START, dtype=gf.float64, device=page.device, requires_grad=True)
    optimizer = gf.optim.SGD([x], lr, momentum=momentum)
    way = [x.detach().clone()]
    for _ in range(steps):
        optimizer.zero_grad()
        (0.5 * (curvature * x * x).sum()).backward()
        optimizer.step()
        way.append(x.detach().clone())
    return gf.stack(way).cpu().numpy()  # read once, at the end


def run(page: Page) -> None:
    """Both at their best step: rates against theory, and the ways drawn in the valley."""
    k = STEEP / FLAT
    plain_lr, plain_rate = 2 / (FLAT + STEEP), (k - 1) / (k + 1)
    root = (k**0.5 - 1) / (k**0.5 + 1)
    lr = (2 / (FLAT**0.5 + STEEP**0.5)) ** 2
    steps = 400
    plain, heavy = descend(page, plain_lr, 0.0, steps), descend(page, lr, root**2, steps)
    far = [np.linalg.norm(w, axis=1) for w in (plain, heavy)]
    page.result("gradient descent shrinks by", float(far[0][-1] / far[0][-2]), equal=plain_rate, within=1e-6, unit="a step")
    rate = float((far[1][150] / far[1][50]) ** (1 / 100))
    page.result("momentum shrinks by", rate, equal=root, within=0.02, unit="a step")
    reached = [int(np.argmax(f < 0.01)) for f in far]
    page.result("steps to a hundredth, gradient descent", reached[0], at_least=250)
    page.result("steps to a hundredth, momentum", reached[1], at_most=60)
    figure = page.figure(11, 4.2)
    valley, curve = figure.subplots(1, 2, width_ratios=(3, 2))
    x, y = np.meshgrid(np.linspace(-4.6, 1.6, 300), np.linspace(-1.8, 1.8, 300))
    valley.contour(x, y, 0.5 * (FLAT * x**2 + STEEP * y**2), levels=np.geomspace(0.05, 160, 14), colors="#bbbbbb", linewidths=0.7)
    drawn = descend(page, 0.9 * plain_lr, 0.0, 40), descend(page, 0.15 * plain_lr, 0.9, 40)  # short strides, to be seen
    for way, distance, name, color in zip(drawn, far, ("gradient descent", "momentum"), ("#d95f02", "#1f77b4"), strict=True):
        valley.plot(*way.T, ".-", color=color, label=f"{name}, 40 steps", markersize=4, linewidth=1)
        curve.plot(distance, color=color, label=f"{name} at its best")
    valley.plot(0, 0, "k+", markersize=10)
    valley.set(ylim=(-1.9, 1.9), xlabel="flat direction", ylabel="steep direction")
    valley.set_title(f"A valley {k:.0f} times steeper across than along")
    curve.set(yscale="log", ylim=(1e-10, 20), xlabel="step", ylabel="distance to the minimum")
    for axes in (valley, curve):
        axes.legend(frameon=False)
    caption = "Gradient descent zigzags across and creeps along the valley; momentum gathers speed along it."
    page.picture(figure, "valley.png", caption)


if __name__ == "__main__":
    raise SystemExit(main("momentum"))
