"""SGD, momentum, RMSprop and Adam on one convolutional net, each with a constant, a stepped and a cosine learning rate.

Momentum averages gradients over steps (Polyak 1964); RMSprop divides each by the root of its mean square (Tieleman and Hinton
2012); Adam does both (Kingma and Ba 2014). A rate that is right at first is too large at the end, where every step throws some
digits over to the wrong side: cut by ten twice, or let down along a cosine (Loshchilov and Hutter 2016), the net comes to rest,
here with about the same errors and a higher training loss than the constant rate's. Every run starts from the same weights and
sees scikit-learn's digits in the same order; rates were chosen by hand, one for each optimizer.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import gradflow as gf
from gradflow.examples.page import Page
from gradflow.examples.runner import main

OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "SGD": lambda p: gf.optim.SGD(p, 0.3),
    "momentum": lambda p: gf.optim.SGD(p, 0.1, momentum=0.9),
    "RMSprop": lambda p: gf.optim.RMSprop(p, 0.005),
    "Adam": lambda p: gf.optim.Adam(p, 0.02),
}
DECAYS: dict[str, Callable[[Any, int], Any]] = {
    "constant": lambda optimizer, epochs: gf.optim.lr_scheduler.ConstantLR(optimizer, 1.0, epochs),
    "step": lambda optimizer, epochs: gf.optim.lr_scheduler.MultiStepLR(optimizer, [epochs // 2, epochs * 3 // 4], 0.1),
    "cosine": lambda optimizer, epochs: gf.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs),
}


def net() -> gf.nn.Sequential:
    """Digits (n, 1, 8, 8) to the scores (n, 10)."""
    return gf.nn.Sequential(
        gf.nn.Conv2d(1, 8, 3, padding=1),
        gf.nn.ReLU(),
        gf.nn.MaxPool2d(2),
        gf.nn.Conv2d(8, 16, 3, padding=1),
        gf.nn.ReLU(),
        gf.nn.Flatten(),
        gf.nn.Linear(256, 10),
    )


def trained(page: Page, parts: tuple[Any, Any], optimizer: str, decay: str, epochs: int) -> gf.train.History:
    """The history of a run: from the seed's weights, in the seed's order."""
    gf.manual_seed(page.seed)
    model = net().to(page.device)
    steps = OPTIMIZERS[optimizer](model.parameters())
    return gf.train.fit(
        model,
        gf.nn.CrossEntropyLoss(),
        steps,
        gf.data.DataLoader(parts[0], 64, shuffle=True),
        gf.data.DataLoader(parts[1], 400),
        epochs,
        scheduler=DECAYS[decay](steps, epochs),
        metrics=gf.train.accuracy,
        report=None,
    )


def wobble(history: gf.train.History) -> float:
    """How much the held out accuracy changes from epoch to epoch in the last third, on average."""
    last = history["valid_accuracy"][2 * len(history["loss"]) // 3 :]
    return sum(abs(b - a) for a, b in pairwise(last)) / (len(last) - 1)


def run(page: Page) -> None:
    """All pairs of an optimizer and a decay."""
    epochs, histories = page.pick(30, 6), {}
    parts = gf.data.digits(page.device)
    decays = page.pick(list(DECAYS), ["constant", "cosine"])
    for o, d in page.bar([(o, d) for o in OPTIMIZERS for d in decays], "optimizers"):
        histories[o, d] = trained(page, parts, o, d, epochs)
    for o in OPTIMIZERS:
        right = histories[o, "cosine"]["valid_accuracy"][-1]
        page.result(f"{o}, cosine: held out digits right", right, at_least=page.pick(0.95, 0.85), unit="%")
    early = {o: histories[o, "constant"]["loss"][1] for o in OPTIMIZERS}
    for o in ("momentum", "RMSprop", "Adam"):
        page.result(f"{o}: loss of the second epoch, of plain SGD's", early[o] / early["SGD"], at_most=0.9)
    mean = {d: sum(wobble(histories[o, d]) for o in OPTIMIZERS) / len(OPTIMIZERS) for d in decays}
    page.result("constant: change of accuracy from epoch to epoch, last third", mean["constant"], unit="%")
    for d in decays[1:]:
        page.result(f"{d}: that change, of the constant rate's", mean[d] / mean["constant"], at_most=0.8)
    caption = "Training loss by optimizer; and the errors of the same nets on held out digits, which a decay lets come to rest."
    page.picture(_drawn(page, histories, decays), "optimizers.png", caption)


def _drawn(page: Page, histories: dict[tuple[str, str], gf.train.History], decays: list[str]) -> Any:
    figure = page.figure(12, 6.5)
    rows = figure.subplots(2, len(decays), sharex=True, sharey="row")
    colors = dict(zip(OPTIMIZERS, ("#888888", "#1f77b4", "#2a7f3f", "#d95f02"), strict=True))
    quantities = {"loss": "training loss", "valid_accuracy": "held out errors, %"}
    for panels, (quantity, label) in zip(rows, quantities.items(), strict=True):
        for axes, d in zip(panels, decays, strict=True):
            for o, color in colors.items():
                values = histories[o, d][quantity]
                shown = values if quantity == "loss" else [100 * (1 - v) for v in values]
                axes.plot(range(1, len(values) + 1), shown, color=color, label=o)
            axes.set(**{"yscale": "log", "title": f"rate: {d}"} if quantity == "loss" else {"ylim": (0, 12), "xlabel": "epoch"})
            axes.grid(alpha=0.3)
        panels[0].set_ylabel(label)
    rows[0][0].legend(frameon=False, fontsize=8)
    return figure


if __name__ == "__main__":
    raise SystemExit(main("optimizers"))
