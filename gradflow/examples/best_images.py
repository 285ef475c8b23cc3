"""Which images activate a unit most: the simplest look inside, and the closer to the scores, the more it tells.

For a unit of each of the three convolutions, all held out digits are ranked by the largest value on its map; what the unit
saw there is drawn, as much of the image as its receptive field covers (Zeiler and Fergus 2014). The number: how much of a
unit's nine best images show one and the same digit, more of them deep in the net than at its beginning.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import gradflow as gf
from gradflow.examples import digit_net
from gradflow.examples.page import Page
from gradflow.examples.runner import main

# Layer -> modules up to it, side of the receptive field.
LAYERS = {"first": (2, 5), "second": (4, 7), "third": (7, 12)}
BEST = 9


def ranked(maps: Any) -> tuple[np.ndarray, np.ndarray]:
    """Of maps (n, k, h, w): for every unit its best images (k, BEST), and the places of their maxima (k, BEST)."""
    values, places = (a.T for a in (maps.flatten(2).max(2).values, maps.flatten(2).argmax(2)))
    order = values.topk(BEST, 1).indices
    return order.cpu().numpy(), places.gather(1, order).cpu().numpy()


def seen(image: np.ndarray, place: int, width: int, side: int) -> np.ndarray:
    """The part of an 8 x 8 image that the unit at a place of its map (width x width) sees; what lies outside is white."""
    step = 8 // width
    row, column = (step * i + (step - side) // 2 + side for i in divmod(place, width))
    return np.pad(image, side)[row : row + side, column : column + side]


def run(page: Page) -> None:
    """Rank the digits for every unit of every layer, and draw some units of each."""
    model, x, t = digit_net.trained(page)
    images, labels = x[:, 0].cpu().numpy(), t.cpu().numpy()
    figure = page.figure(11, 6.4)
    purity = {}
    for part, (layer, (depth, side)) in zip(figure.subfigures(3, 1, hspace=0.05), LAYERS.items(), strict=True):
        with gf.no_grad():
            maps = model.features[:depth](x)
        best, places = ranked(maps)
        alive = (maps.amax((0, 2, 3)) > 0).cpu().numpy()
        counts = np.stack([np.bincount(labels[row], minlength=10) for row in best])
        purity[layer] = counts.max(1)[alive].mean() / BEST
        page.result(f"best images of a unit of the {layer} layer that show one digit", purity[layer], unit="%")
        part.suptitle(f"{layer} convolution: what six of its units saw in the images that activate them most", fontsize=10)
        axes = part.subplots()
        axes.set_axis_off()
        _, different = np.unique(counts.argmax(1) + 10 * ~alive, return_index=True)  # for each digit the first unit
        for i, unit in enumerate(different[:6]):
            for k, (image, place) in enumerate(zip(best[unit], places[unit], strict=True)):
                left, top = i % 2 * (BEST + 1) + k, i // 2
                patch = seen(images[image], place, maps.shape[3], side)
                axes.imshow(patch, cmap="gray_r", vmin=0, vmax=1, extent=(left, left + 0.9, top + 0.9, top))
        axes.set(xlim=(0, 2 * BEST + 1), ylim=(3, 0), aspect="equal")
    ahead = purity["third"] - purity["first"]
    page.result("what the third layer is ahead of the first", ahead, at_least=page.pick(0.15, 0.05), unit="%")
    page.picture(figure, "best.png", "From stroke to digit: the best images of units of each layer, cut to what the unit sees.")


if __name__ == "__main__":
    raise SystemExit(main("best_images"))
