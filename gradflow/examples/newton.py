"""Blind, by the gradient, or by curvature: three ways to the minimum of Rosenbrock's banana, and what each has to ask for.

Random search asks for values only, gradient descent for gradients, Newton-CG for Hessian-vector products: H v is the
gradient of (gradient . v), one more backward pass, so the Hessian is never formed and conjugate gradients solve H d = -g
(Nocedal and Wright, Numerical Optimization, algorithm 7.1).
"""

from __future__ import annotations

from typing import Any

import numpy as np

import gradflow as gf
from gradflow.examples.page import Page
from gradflow.examples.runner import main

START = (-1.2, 1.0)


def banana(x: gf.Tensor) -> gf.Tensor:
    """100 (x1 - x0^2)^2 + (1 - x0)^2 (Rosenbrock 1960), zero at (1, 1)."""
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


Way = list[tuple[int, gf.Tensor]]  # passes over the function so far, forward or back, and the point reached


def search(start: gf.Tensor, passes: int) -> Way:
    """Random search with a step that grows after a success and shrinks after a failure: values only."""
    way, best, size = [(0, start)], banana(start).item(), 0.5
    for asked in range(1, passes + 1):
        x = way[-1][1] + size * gf.randn(2, dtype=start.dtype, device=start.device)
        value = banana(x).item()
        if value < best:
            best, size = value, 1.5 * size
            way.append((asked, x))
        else:
            size *= 0.9
    return way


def descend(start: gf.Tensor, passes: int) -> Way:
    """Gradient descent, the step twice the last one, halved until it goes down enough (Armijo)."""
    way, step, asked = [(0, start)], 1e-3, 0
    while asked < passes:
        x = way[-1][1].detach().requires_grad_()
        value = banana(x)
        (g,) = gf.autograd.grad(value, x)
        step, asked = 2 * step, asked + 3
        while banana(x - step * g).item() > value.item() - 1e-4 * step * (g @ g).item():
            step, asked = step / 2, asked + 1
        way.append((asked, (x - step * g).detach()))
    return way


def newton(start: gf.Tensor, steps: int) -> Way:
    """Newton's method, each direction by conjugate gradients on Hessian-vector products."""
    way, asked = [(0, start)], 0
    for _ in range(steps):
        x = way[-1][1].detach().requires_grad_()
        value = banana(x)
        (g,) = gf.autograd.grad(value, x, create_graph=True)
        asked += 2
        d, r = gf.zeros_like(x), -g.detach()
        p = r
        for _ in range(2):  # as many as there are dimensions
            (hp,) = gf.autograd.grad(g @ p, x, retain_graph=True)  # H p, without H
            asked += 1
            bend = (p @ hp).item()
            if bend <= 0:  # curved downwards: the way so far, or straight down
                d = d if d.any() else r
                break
            length = (r @ r).item() / bend
            d, before = d + length * p, r
            r = r - length * hp
            if (r @ r).item() < 1e-20:
                break
            p = r + (r @ r).item() / (before @ before).item() * p
        step, asked = 1.0, asked + 1
        while banana(x + step * d).item() > value.item() + 1e-4 * step * (g.detach() @ d).item() and step > 1e-10:
            step, asked = step / 2, asked + 1
        way.append((asked, (x + step * d).detach()))
        if banana(way[-1][1]).item() < 1e-20:
            break
    return way


def run(page: Page) -> None:
    """All three from the same start; the others may ask many times for what Newton's method does."""
    start = gf.tensor(START, dtype=gf.float64, device=page.device)
    ways = {"Newton-CG": newton(start, 60)}
    asked = ways["Newton-CG"][-1][0]
    budget = page.pick(40, 10) * asked
    ways |= {"gradient descent": descend(start, budget), "random search": search(start, budget)}
    page.result("Newton-CG: passes over the function", asked, at_most=250)
    goals = {"Newton-CG": 1e-18, "gradient descent": page.pick(0.05, 1.0), "random search": page.pick(0.1, 1.0)}
    for name, goal in goals.items():
        more = "" if name == "Newton-CG" else f" with {budget} passes"
        page.result(f"{name}: value reached{more}", banana(ways[name][-1][1]).item(), at_most=goal)
    # What each of the others has reached when Newton's method is done.
    for name in ("gradient descent", "random search"):
        x = [x for passes, x in ways[name] if passes <= asked][-1]
        page.result(f"{name}: value after as many passes as Newton-CG took", banana(x).item(), at_least=1e-6)
    page.picture(_drawn(page, ways), "ways.png", "Newton's method takes the bend in few passes; the others creep along the valley.")


def _drawn(page: Page, ways: dict[str, Way]) -> Any:
    figure = page.figure(11, 4.2)
    plane, curve = figure.subplots(1, 2, width_ratios=(3, 2))
    x, y = np.meshgrid(np.linspace(-1.6, 1.4, 300), np.linspace(-0.6, 1.8, 300))
    plane.contour(x, y, 100 * (y - x**2) ** 2 + (1 - x) ** 2, levels=np.geomspace(0.1, 800, 14), colors="#bbbbbb", linewidths=0.7)
    # The slow ones below, so that the few strides of Newton's method are seen.
    for (name, way), color in zip(reversed(ways.items()), ("#2a7f3f", "#d95f02", "#1f77b4"), strict=True):
        points = gf.stack([p for _, p in way])
        plane.plot(*points.T.cpu().numpy(), ".-", color=color, label=name, markersize=4, linewidth=1)
        curve.plot([max(passes, 1) for passes, _ in way], banana(points.T).cpu().numpy(), color=color, label=name)
    plane.plot(1, 1, "k+", markersize=10)
    plane.set(xlim=(-1.6, 1.4), ylim=(-0.6, 1.8), title="Ways through the banana valley to (1, 1)", xlabel="x0", ylabel="x1")
    curve.set(xscale="log", yscale="log", xlabel="passes over the function", ylabel="value")
    for axes in (plane, curve):
        axes.legend(frameon=False)
    return figure


if __name__ == "__main__":
    raise SystemExit(main("newton"))
