"""Three spiral arms parted by one hidden layer: more neurons bend the border more, and L2 unbends it again.

No line parts the arms, and three ReLU units have too few bends; six do it from a lucky start, twenty from any. The
same twenty under a penalty of half of 0.001, 0.01 and 0.1 times the sum of the squared weights give ever smoother borders:
L2, not the number of units, is what to hold a net back with (Karpathy, CS231n notes, 2015). The points are made: arms with
noise in their angle.
"""

from __future__ import annotations

import numpy as np

import gradflow as gf
from gradflow.examples.page import Page
from gradflow.examples.runner import main

NEURONS, PENALTIES = (3, 6, 20), (0.001, 0.01, 0.1)
COLORS = ("#1f77b4", "#d95f02", "#2a7f3f")


def spiral(r: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """n points (x, y) of each of three arms, and which arm each is of."""
    arm, radius = np.repeat(np.arange(3), n), np.tile(np.linspace(0.05, 1, n), 3)
    angle = 2 * np.pi / 3 * arm + 4 * radius + 0.2 * r.standard_normal(3 * n)
    return np.stack([radius * np.sin(angle), radius * np.cos(angle)], 1), arm


def trained(x: gf.Tensor, y: gf.Tensor, neurons: int, penalty: float, steps: int) -> gf.nn.Module:
    """A net of one hidden layer, by Adam on the cross entropy and half of penalty times the sum of all squared weights."""
    model = gf.nn.Sequential(gf.nn.Linear(2, neurons), gf.nn.ReLU(), gf.nn.Linear(neurons, 3)).to(x.device)
    weights = [model[0].weight, model[2].weight]
    optimizer = gf.optim.Adam(model.parameters(), 0.05)
    schedule = gf.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = gf.nn.functional.cross_entropy(model(x), y) + penalty / 2 * sum((w**2).sum() for w in weights)
        loss.backward()
        optimizer.step()
        schedule.step()
    return model


def run(page: Page) -> None:
    """A net for every number of neurons and every penalty, and the regions it decides on."""
    r = np.random.default_rng(page.seed)
    (points, arms), (others, theirs) = spiral(r, 100), spiral(r, 300)
    x, y = gf.tensor(points, device=page.device).float(), gf.tensor(arms, device=page.device)
    new = gf.tensor(others, device=page.device).float()
    side = np.linspace(-1.25, 1.25, 201)
    plane = gf.tensor(np.stack(np.meshgrid(side, side), -1).reshape(-1, 2), device=page.device).float()
    figure, right = page.figure(10, 10.4), {}
    panels = figure.subplots(3, 3)
    for k in page.steps(9, "spiral"):
        penalty, neurons, axes = PENALTIES[k // 3], NEURONS[k % 3], panels.flat[k]
        model = trained(x, y, neurons, penalty, page.pick(2000, 400))
        with gf.no_grad():
            region = model(plane).argmax(1).cpu().numpy().reshape(201, 201)
            right[penalty, neurons] = float((model(new).argmax(1).cpu().numpy() == theirs).mean())
        axes.contourf(side, side, region, levels=(-0.5, 0.5, 1.5, 2.5), colors=COLORS, alpha=0.3)
        axes.scatter(*points.T, c=[COLORS[a] for a in arms], s=9)
        axes.set(title=f"{neurons} neurons, L2 of {penalty}: {right[penalty, neurons]:.0%}", xticks=[], yticks=[])
    page.result("3 neurons, L2 of 0.001: new points right", right[0.001, 3], at_most=0.9, unit="%")
    page.result("6 neurons, L2 of 0.001: new points right", right[0.001, 6], at_least=0.65, unit="%")
    page.result("20 neurons, L2 of 0.001: new points right", right[0.001, 20], at_least=0.9, unit="%")
    page.result("20 neurons, L2 of 0.1: new points right", right[0.1, 20], at_most=0.8, unit="%")
    caption = "Regions of nine nets: bends come with neurons (left to right) and go with L2 (downwards); new points right in %."
    page.picture(figure, "spiral.png", caption)


if __name__ == "__main__":
    raise SystemExit(main("spiral"))
