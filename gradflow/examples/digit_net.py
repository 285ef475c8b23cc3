"""The net that this chapter looks into: three convolutions, the mean over all places, one linear layer, trained on digits.

There is no fully connected layer in front of the mean, so the net takes images of any size, and the score of a class is the
mean of a map: sum_k w_ck mean_hw a_khw (Zhou et al. 2016).
"""

from __future__ import annotations

from typing import Any

import gradflow as gf
from gradflow import nn
from gradflow.examples.page import Page

_trained: dict[tuple, tuple[Any, Any]] = {}  # how it was begun -> (its parameters, the generator's state after it)


class DigitNet(nn.Module):
    """x (n, 1, h, w) with pixels in [0, 1] to the scores (n, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 5, padding=2),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(64, 10)

    def forward(self, x: Any) -> Any:
        """The scores of the ten digits."""
        return self.classifier(self.features(x).mean((2, 3)))


def fitted(page: Page, x: Any, t: Any, epochs: int, lr: float = 0.01) -> DigitNet:
    """A net trained on images x (n, 1, h, w) of digits t (n,), which then holds still: evaluation, fixed parameters."""
    model = DigitNet().to(page.device)
    optimizer = gf.optim.Adam(model.parameters(), lr)
    loader = gf.data.DataLoader(gf.data.TensorDataset(x, t), 32, shuffle=True)
    schedule = gf.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    gf.train.fit(model, nn.CrossEntropyLoss(), optimizer, loader, epochs=epochs, scheduler=schedule, report=None)
    return model.eval().requires_grad_(False)


def trained(page: Page) -> tuple[DigitNet, Any, Any]:
    """The net trained on the digits that are not held out, and the held out ones: model, x (n, 1, 8, 8), t (n,).

    The page says how many of them it reads rightly. Where many examples run, the first trains the net for all: what it
    becomes, and which random numbers come next, is a matter of the device, the length and the state of the generator.
    """
    training, held_out = (part.tensors for part in gf.data.digits(page.device))
    random, key = gf.default_generator, (str(page.device), page.quick, gf.default_generator.get_state())
    if key not in _trained:
        state = fitted(page, *training, epochs=page.pick(30, 8)).state_dict()
        _trained[key] = state, random.get_state()
    model = DigitNet().to(page.device)
    model.load_state_dict(_trained[key][0])
    random.set_state(_trained[key][1])
    model.eval().requires_grad_(False)
    x, t = held_out
    page.result("digits read rightly", accuracy(model, x, t), at_least=page.pick(0.96, 0.92), unit="%")
    return model, x, t


def accuracy(model: nn.Module, x: Any, t: Any) -> float:
    """The part of the images x that a model gives the classes t."""
    with nn.evaluating(model):
        return float((model(x).argmax(1) == t).float().mean().item())


def tiles(page: Page, images: Any, titles: Any, across: int, side: float = 1.15, cmap: str = "gray_r", **limits: Any) -> Any:
    """A figure of images (h, w) in rows of `across`, each under its title."""
    down, tall = -(-len(images) // across), max(image.shape[0] / image.shape[1] for image in images)
    figure = page.figure(across * side, down * (tall * side + 0.28))
    axes = figure.subplots()  # one for all: matplotlib takes seconds for a hundred
    axes.set_axis_off()
    for i, (image, title) in enumerate(zip(images, titles, strict=True)):
        x, y = (i % across) * 1.08, i // across * (tall + 0.28 / side)
        axes.imshow(image, cmap=cmap, extent=(x, x + 1, y + image.shape[0] / image.shape[1], y), **limits)
        axes.text(x + 0.5, y - 0.03, title, ha="center", va="bottom", fontsize=9)
    axes.set(xlim=(0, across * 1.08 - 0.08), ylim=(down * (tall + 0.28 / side) - 0.28 / side, -0.28 / side), aspect="equal")
    return figure
