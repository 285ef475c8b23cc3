"""Digits drawn for a sentence: a decoder's input, changed until an image-text model sees the sentence in what comes out.

The decoder comes from a variational autoencoder (Kingma and Welling 2014), which learns from images alone and knows no digits
by name; the image-text model is the one of `clip`. Neither is changed: gradients go from the cosine of image and sentence
through the image encoder and the decoder to the code z, which is kept as far from 0 as normal codes are, where the decoder has
learned (after Nguyen et al. 2017). As some get stuck on another digit, each drawing is begun several times, and the image-text
model keeps the one that suits the sentence best (Ramesh et al. 2021). Whether it worked is for another network to say,
which was trained to read digits on its own and has no part in the drawing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import gradflow as gf
from gradflow import nn
from gradflow.examples.image_text import CAPTIONS, NAMES, NEW_CAPTIONS, ImageText, fitted, tokens
from gradflow.examples.judge import Judge, label, show
from gradflow.examples.page import Page
from gradflow.examples.runner import main

CODE = 8
EACH, TRIES = 10, 6  # drawings for each sentence, and how often each is begun


class Autoencoder(nn.Module):
    """Images x (n, 64) to a normal distribution of codes (n, 8), and codes to images (n, 1, 8, 8) with pixels in [0, 1]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 2 * CODE))
        self.decoder = nn.Sequential(
            nn.Linear(CODE, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 64),
            nn.Sigmoid(), nn.Unflatten(1, (1, 8, 8)),
        )  # fmt: skip

    def fit(self, page: Page, x: Any, updates: int) -> None:
        """Learn images x (n, 64) by the evidence lower bound, pixels being probabilities."""
        rng, optimizer = np.random.default_rng(page.seed), gf.optim.Adam(self.parameters(), page.pick(0.003, 0.006))
        for _ in page.steps(updates, "autoencoder"):
            rows = x[gf.tensor(rng.integers(0, len(x), 128), device=page.device)]
            mean, log_variance = self.encoder(rows).chunk(2, 1)
            z = mean + (log_variance / 2).exp() * gf.randn(128, CODE, device=page.device)
            wrong = nn.functional.binary_cross_entropy(self.decoder(z).flatten(1), rows, reduction="sum")
            apart = (mean**2 + log_variance.exp() - 1 - log_variance).sum() / 2
            optimizer.zero_grad()
            ((wrong + apart) / 128).backward()
            optimizer.step()


def drawn(page: Page, model: ImageText, decoder: nn.Module, sentences: list[str], steps: int) -> tuple[Any, Any]:
    """Images (n, 1, 8, 8) for sentences: how those that are kept began, and how they end."""
    with gf.no_grad():
        wanted = model.encode_text(gf.tensor(tokens(sentences), device=page.device)).repeat(TRIES, 1)
    z = gf.randn(len(wanted), CODE, device=page.device).requires_grad_()
    optimizer, first = gf.optim.Adam([z], 0.1), decoder(z).detach()
    for _ in page.steps(steps, "drawing"):
        cosine = (model.encode_image(decoder(z)) * wanted).sum(1)
        optimizer.zero_grad()
        ((z.norm(dim=1) - CODE**0.5) ** 2 - 20 * cosine).sum().backward()
        optimizer.step()
    with gf.no_grad():
        last = decoder(z)
        best = (model.encode_image(last) * wanted).sum(1).reshape(TRIES, -1).argmax(0)
    kept = best * len(sentences) + gf.arange(len(sentences), device=page.device)
    return first[kept], last[kept]


def run(page: Page) -> None:
    """Train three models apart from each other, then draw what sentences ask for."""
    judge = Judge(page, page.pick(20, 3))
    model, _ = fitted(page, judge.x, judge.y.cpu().numpy(), page.pick(20, 4))
    autoencoder = Autoencoder(page.pick(256, 128)).to(page.device)
    autoencoder.fit(page, judge.x.flatten(1), page.pick(4000, 800))
    decoder = autoencoder.decoder.eval().requires_grad_(False)

    asked = np.repeat(np.arange(10), EACH)
    for caption in (CAPTIONS[0], NEW_CAPTIONS[0]):
        sentences = [caption.format(NAMES[d]) for d in asked]
        course = drawn(page, model, decoder, sentences, page.pick(150, 30))
        before, after = ((judge.read(images).cpu().numpy() == asked).mean() for images in course)
        page.result(f'"{caption}": the judge reads the digit asked for at first in', before, unit="%")
        page.result(f'"{caption}": and at last in', after, at_least=page.pick(0.9, 0.5), unit="%")
        if caption == CAPTIONS[0]:
            shown = course
    figure = page.figure(9.4, 7.6)
    for axes, images, title in zip(figure.subplots(1, 2), shown, ("at first", "at last"), strict=True):
        show(axes, images.reshape(10, EACH, 1, 8, 8)[:, :5].flatten(0, 1), across=5)
        axes.set_title(title)
    label(figure.axes[0], [CAPTIONS[0].format(name) for name in NAMES])
    page.picture(figure, "drawings.png", "How five drawings for each sentence begin, and how they end.")


if __name__ == "__main__":
    raise SystemExit(main("guided"))
