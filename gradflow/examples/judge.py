"""Who judges made digits: a network that learned to read real ones, and how near the made ones lie to those.

A digit counts as near if it is no farther from a real one that models learned from, than 99 % of the real ones that were held
out are. That bound is what real digits reach themselves; noise, and means of several digits, do not.
"""

from __future__ import annotations

from typing import Any

import gradflow as gf
from gradflow.examples.digit_net import accuracy, fitted
from gradflow.examples.page import Page


class Judge:
    """A judge of images (n, 1, 8, 8) with pixels in [0, 1], who says on the page how well real digits are read.

    x, y, x_new, y_new  the digits to learn from and the held out ones, on the page's device
    """

    def __init__(self, page: Page, epochs: int) -> None:
        (self.x, self.y), (self.x_new, self.y_new) = (part.tensors for part in gf.data.digits(page.device))
        self.reader = fitted(page, self.x, self.y, epochs)
        right = accuracy(self.reader, self.x_new, self.y_new)
        page.result("judge: digits never trained on read rightly", right, at_least=page.pick(0.96, 0.8), unit="%")
        self.away_new = self.away(self.x_new)

    def read(self, images: Any) -> Any:
        """The digits (n,) that the network reads."""
        with gf.no_grad():
            return self.reader(images).argmax(1)

    def kinds(self, images: Any) -> int:
        """How many of the ten digits make up at least 2 % of what is read."""
        return int((self.read(images).bincount(minlength=10) >= 0.02 * len(images)).sum().item())

    def away(self, images: Any) -> Any:
        """The distance (n,) of each image to the nearest real one that was there to learn from."""
        return gf.cdist(images.flatten(1), self.x.flatten(1)).amin(1)

    def near(self, images: Any) -> float:
        """The share of images as near to a real one as 99 % of the held out digits."""
        return float((self.away(images) <= self.away_new.quantile(0.99)).float().mean().item())


def show(axes: Any, images: Any, across: int) -> None:
    """Draw images (n, 1, 8, 8) with pixels in [0, 1] in rows of `across`, 10 pixels from one to the next."""
    axes.imshow(gf.data.make_grid(images, nrow=across)[0].cpu().numpy(), cmap="gray_r", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])


def label(axes: Any, rows: Any, columns: Any = ()) -> None:
    """Say at the sides of such a wall what its rows and columns are."""
    axes.set_yticks([10 * i + 5.5 for i in range(len(rows))], rows)
    axes.set_xticks([10 * i + 5.5 for i in range(len(columns))], columns)
