"""Images matched with sentences: a classifier that nobody trained to classify (CLIP, Radford et al. 2021), in small.

Two encoders learn from pairs, digits as images and as captions such as "a picture of a seven": in a batch, each image should
find its own caption and each caption its own image. Afterwards ten sentences make a classifier, without training for it:
an image belongs to the sentence whose vector is nearest to its own. The digits are scikit-learn's, every fifth held out; the
captions are made, and two forms of them are kept from training. Captions of one digit are rivals in a batch, as they are at
scale, so that the loss cannot fall below the mean of the logarithm of how many there are, here 1.93.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import gradflow as gf
from gradflow.examples.image_text import CAPTIONS, NAMES, NEW_CAPTIONS, fitted, read, tokens
from gradflow.examples.judge import label, show
from gradflow.examples.page import Page
from gradflow.examples.runner import main


def run(page: Page) -> None:
    """Train on pairs, then classify by sentences and look for images by sentences."""
    (x, y), (x_new, y_new) = (part.tensors for part in gf.data.digits(page.device))
    digits, new = y.cpu().numpy(), y_new.cpu().numpy()
    model, losses = fitted(page, x, digits, page.pick(30, 6))
    page.result("contrastive loss of the first epoch", losses[0])
    page.result("contrastive loss of the last epoch; guessing gives log 64 = 4.16", losses[-1], at_most=page.pick(2.1, 2.3))

    goal = page.pick(0.95, 0.88)
    known = (read(page, model, x_new, CAPTIONS[0]) == new).mean()
    page.result(f'zero-shot accuracy on {len(new)} new digits, by "{CAPTIONS[0]}"', known, at_least=goal, unit="%")
    for caption in NEW_CAPTIONS:
        right = (read(page, model, x_new, caption) == new).mean()
        page.result(f'by a sentence never trained on, "{caption}"', right, at_least=goal - 0.05, unit="%")

    asked = gf.tensor(tokens([CAPTIONS[0].format(name) for name in NAMES]), device=page.device)
    with gf.no_grad():
        images, sentences = model.encode_image(x_new), model.encode_text(asked)
        cosines = (images @ sentences.t()).cpu().numpy()
    best = np.argsort(-cosines, axis=0)[:8]  # (8, 10): the images that suit each sentence best
    page.result("of the 8 new images that suit a sentence best, show its digit", (new[best] == np.arange(10)).mean(),
                at_least=page.pick(0.97, 0.9), unit="%")  # fmt: skip
    page.picture(_matrix(page, cosines, new), "cosines.png", "How well each sentence suits the new images of each digit.")
    page.picture(_found(page, x_new, best, new), "found.png",
                 "The eight new images that suit each sentence best; a wrong digit would be framed in red.")  # fmt: skip


def _matrix(page: Page, cosines: np.ndarray, new: np.ndarray) -> Any:
    figure = page.figure(8, 6)
    axes = figure.subplots()
    means = np.array([cosines[new == d].mean(0) for d in range(10)])
    shown = axes.imshow(means, cmap="RdBu_r", vmin=-1, vmax=1)
    for (i, j), value in np.ndenumerate(means.round(1) + 0.0):
        axes.text(j, i, f"{value:.1f}", ha="center", va="center", fontsize=8, color="white" if abs(value) > 0.6 else "black")
    axes.set_xticks(range(10), [CAPTIONS[0].format(name) for name in NAMES], rotation=45, ha="right", fontsize=9)
    axes.set_yticks(range(10), [f"images of {d}" for d in range(10)], fontsize=9)
    axes.set_title("Mean cosine between new images and sentences")
    figure.colorbar(shown, shrink=0.8)
    return figure


def _found(page: Page, images: gf.Tensor, best: np.ndarray, new: np.ndarray) -> Any:
    figure = page.figure(6.6, 7)
    axes = figure.subplots()
    show(axes, images[gf.tensor(best.T.copy(), device=images.device).flatten()], across=8)
    for row, column in np.argwhere(new[best.T] != np.arange(10)[:, None]):
        axes.plot(10 * column + np.array([1, 10, 10, 1, 1]), 10 * row + np.array([1, 1, 10, 10, 1]), color="#c0182b")
    label(axes, [CAPTIONS[0].format(name) for name in NAMES])
    return figure


if __name__ == "__main__":
    raise SystemExit(main("clip"))
