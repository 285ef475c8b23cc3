"""Residual blocks: the same layers, with a way round them, train where the plain ones stand still.

A block gives relu(x + f(x)) instead of relu(f(x)). What it cannot improve it passes on, and the gradient reaches every layer by
the sums, so that depth stops to hurt: of two nets with the same layers, batch normalised, the deeper plain one has the higher
training loss, the residual one has not (He et al. 2015). Digits are scikit-learn's; the nets see them at 8 x 8. --data DIR
takes the images of CIFAR-10, say, in their place.
"""

from __future__ import annotations

from typing import Any

import gradflow as gf
from gradflow.examples.arguments import images as arguments  # noqa: F401  (--data)
from gradflow.examples.page import Page
from gradflow.examples.runner import main

WIDTH = 16


class Block(gf.nn.Module):
    """Two normalised 3 x 3 convolutions, (n, c, h, w) to the same; with a way round them if it is residual."""

    def __init__(self, width: int, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.f = gf.nn.Sequential(
            gf.nn.Conv2d(width, width, 3, padding=1, bias=False),
            gf.nn.BatchNorm2d(width),
            gf.nn.ReLU(),
            gf.nn.Conv2d(width, width, 3, padding=1, bias=False),
            gf.nn.BatchNorm2d(width),
        )

    def forward(self, x: Any) -> Any:
        """relu(x + f(x)), or relu(f(x))."""
        return gf.relu(x + self.f(x) if self.residual else self.f(x))


def net(blocks: int, residual: bool, channels: int, kinds: int) -> gf.nn.Sequential:
    """Images (n, channels, h, w) to scores (n, kinds), by 2 blocks + 2 layers with weights."""
    return gf.nn.Sequential(
        gf.nn.Conv2d(channels, WIDTH, 3, stride=2, padding=1, bias=False),
        gf.nn.BatchNorm2d(WIDTH),
        gf.nn.ReLU(),
        *(Block(WIDTH, residual) for _ in range(blocks)),
        gf.nn.AdaptiveAvgPool2d(1),
        gf.nn.Flatten(),
        gf.nn.Linear(WIDTH, kinds),
    )


def run(page: Page) -> None:
    """Plain and residual nets of growing depth, trained alike."""
    parts = page.images()
    x, y = parts[0].tensors
    channels, kinds = x.shape[1], int(y.max().item()) + 1
    epochs, histories = page.pick(30, 2), {}
    for blocks in page.pick((4, 12, 24), (2, 10)):
        for kind in ("plain", "residual"):
            gf.manual_seed(page.seed)
            model = net(blocks, kind == "residual", channels, kinds).to(page.device)
            optimizer = gf.optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=1e-4)
            histories[kind, 2 * blocks + 2] = gf.train.fit(
                model,
                gf.nn.CrossEntropyLoss(),
                optimizer,
                gf.data.DataLoader(parts[0], 64, shuffle=True),
                gf.data.DataLoader(parts[1], 400),
                epochs,
                scheduler=gf.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs),
                metrics=gf.train.accuracy,
                report=None,
            )
            last = {name: values[-1] for name, values in histories[kind, 2 * blocks + 2].items()}
            page.say(f"{kind}, {2 * blocks + 2} layers: loss {last['loss']:.3g}, held out {last['valid_accuracy']:.1%}")
    deep = max(layers for _, layers in histories)
    plain, residual = histories["plain", deep], histories["residual", deep]
    page.result(f"residual, {deep} layers: training loss", residual["loss"][-1], at_most=page.pick(0.02, 0.7))
    page.result(f"plain, {deep} layers: training loss", plain["loss"][-1], at_least=page.pick(0.2, 1.0))
    right = residual["valid_accuracy"][-1]
    page.result(f"residual, {deep} layers: held out images right", right, at_least=page.pick(0.96, 0.65), unit="%")
    caption = "Training loss and held out errors: with depth (darker) the plain nets get worse, the residual ones do not."
    page.picture(_drawn(page, histories), "resnet.png", caption)


def _drawn(page: Page, histories: dict[tuple[str, int], gf.train.History]) -> Any:
    figure = page.figure(10, 4.4)
    left, right = figure.subplots(1, 2)
    depths = sorted({layers for _, layers in histories})
    for (kind, layers), history in histories.items():
        look = {
            "color": {"plain": "#d95f02", "residual": "#1f77b4"}[kind],
            "alpha": (1 + depths.index(layers)) / len(depths),
            "label": f"{kind}, {layers} layers",
        }
        epochs = range(1, len(history["loss"]) + 1)
        left.plot(epochs, history["loss"], **look)
        right.plot(epochs, [100 * (1 - a) for a in history["valid_accuracy"]], **look)
    left.set(yscale="log", xlabel="epoch", ylabel="training loss", title="Cross entropy in training")
    right.set(yscale="log", xlabel="epoch", ylabel="held out images read wrongly, %", title="Errors")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
    left.legend(frameon=False, fontsize=8)
    return figure


if __name__ == "__main__":
    raise SystemExit(main("resnet"))
