"""Augmentation and dropout on very few digits: two ways to learn more from less.

A net with 50 examples reads all of them rightly and new ones less well. Augmentation turns, scales and shifts each digit anew
every time it is seen, which tells the net what does not matter; dropout silences units at random, half of them or, beside
augmentation, a quarter, so that none can lean on the others (Srivastava et al. 2014). All nets start from the same weights and
take as many steps; the numbers are means over several draws of 5 of each of scikit-learn's digits (dots); all others are new.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import gradflow as gf
from gradflow.examples.page import Page
from gradflow.examples.runner import main

F = gf.nn.functional
KINDS = {"neither": (False, 0.0), "dropout": (False, 0.5), "augmentation": (True, 0.0), "both": (True, 0.25)}
OF_EACH = 5  # examples of each digit


def augmented(x: gf.Tensor) -> gf.Tensor:
    """Pictures (n, 1, h, w), each turned by about 7 degrees, scaled by about a tenth and shifted by about half a pixel."""
    turn, size, across, down = gf.randn(4, len(x), device=x.device)
    cos, sin = (1 + 0.1 * size) * gf.cos(0.12 * turn), (1 + 0.1 * size) * gf.sin(0.12 * turn)
    theta = gf.stack([gf.stack([cos, -sin, 0.12 * across], 1), gf.stack([sin, cos, 0.12 * down], 1)], 1)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


def net(dropout: float) -> gf.nn.Sequential:
    """Digits (n, 1, 8, 8) to the scores (n, 10)."""
    return gf.nn.Sequential(
        gf.nn.Conv2d(1, 12, 3, padding=1),
        gf.nn.ReLU(),
        gf.nn.MaxPool2d(2),
        gf.nn.Conv2d(12, 24, 3, padding=1),
        gf.nn.ReLU(),
        gf.nn.Flatten(),
        gf.nn.Dropout(dropout),
        gf.nn.Linear(384, 64),
        gf.nn.ReLU(),
        gf.nn.Dropout(dropout),
        gf.nn.Linear(64, 10),
    )


def errors(kind: str, x: gf.Tensor, y: gf.Tensor, new: Any, seed: int, steps: int) -> tuple[float, float]:
    """The shares of the examples and of new digits that a net trained in this way reads wrongly."""
    augment, dropout = KINDS[kind]
    gf.manual_seed(seed)
    model = net(dropout).to(x.device)
    optimizer = gf.optim.Adam(model.parameters(), 0.005)
    schedule = gf.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        i = gf.randint(0, len(x), (32,), device=x.device)
        optimizer.zero_grad()
        F.cross_entropy(model(augmented(x[i]) if augment else x[i]), y[i]).backward()
        optimizer.step()
        schedule.step()
    with gf.nn.evaluating(model):
        return tuple(1 - gf.train.accuracy(model(a), b).item() for a, b in ((x, y), new))


def chosen(y: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Where OF_EACH random examples of each digit are, and where all others are."""
    order = np.random.default_rng(seed).permutation(len(y))
    few = np.concatenate([order[y[order] == digit][:OF_EACH] for digit in range(10)])
    return few, np.setdiff1d(order, few)


def run(page: Page) -> None:
    """Four ways of training, several draws of the examples."""
    x, y = (gf.cat(both) for both in zip(*(part.tensors for part in gf.data.digits(page.device)), strict=True))
    kinds = page.pick(list(KINDS), ["neither", "augmentation"])
    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
    for k in page.steps(page.pick(10, 2) * len(kinds), "regularised"):
        seed, kind = 10 * page.seed + k // len(kinds), kinds[k % len(kinds)]
        few, rest = (gf.tensor(i, device=page.device) for i in chosen(y.cpu().numpy(), seed))
        found[kind].append(errors(kind, x[few], y[few], (x[rest], y[rest]), seed, page.pick(500, 250)))
    mean = {kind: np.mean(pairs, 0) for kind, pairs in found.items()}
    page.result("neither: examples read wrongly", mean["neither"][0], at_most=0.01, unit="%")
    for kind in kinds:
        page.result(f"{kind}: new digits read wrongly", mean[kind][1], unit="%")
    for kind in kinds[1:]:
        left, goal = mean[kind][1] / mean["neither"][1], 0.98 if kind == "dropout" else page.pick(0.9, 0.98)
        page.result(f"{kind}: of the errors without, are left", left, at_most=goal, unit="%")
    page.picture(_drawn(page, found, x[:10]), "regularised.png", "Errors on new digits; and ten digits, each augmented five times.")


def _drawn(page: Page, found: dict[str, list[tuple[float, float]]], x: gf.Tensor) -> Any:
    figure = page.figure(11, 4.4)
    left, right = figure.subfigures(1, 2)
    axes = left.subplots()
    wrong = {kind: 100 * np.array(pairs)[:, 1] for kind, pairs in found.items()}
    bars = [w.mean() for w in wrong.values()]
    axes.bar(list(wrong), bars, color=["#bbbbbb", "#d95f02", "#1f77b4", "#2a7f3f"])
    for i, w in enumerate(wrong.values()):
        axes.plot([i] * len(w), w, "k.", markersize=4)
    axes.set(ylabel="new digits read wrongly, %", title=f"Trained on {10 * OF_EACH} digits: mean, and each draw")
    rows = [x, *(augmented(x) for _ in range(5))]
    pictures = np.pad(gf.stack(rows).cpu().numpy()[:, :, 0], ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=0.5)
    axes = right.subplots()
    axes.imshow(np.vstack([np.hstack(row) for row in pictures]), cmap="gray_r", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[], title="Digits as they are (above), and augmented")
    return figure


if __name__ == "__main__":
    raise SystemExit(main("regularised"))
