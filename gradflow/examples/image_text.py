"""A small model that puts images and sentences into one space, and sentences about digits (Radford et al. 2021).

An image encoder and a text encoder end in vectors of length 1; that of an image points where those of its captions do.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import gradflow as gf
from gradflow import nn
from gradflow.examples.page import Page

F = nn.functional
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
CAPTIONS = (
    "a picture of a {}", "a handwritten {}", "this is the digit {}", "a small drawing of the number {}", "{}",
    "the number {} on paper", "somebody wrote a {} here",
)  # fmt: skip
NEW_CAPTIONS = ("a handwritten picture of the number {}", "this is a small {} on paper")  # kept from training
WORDS = ("", "<end>", *sorted({w for c in CAPTIONS for w in c.split() if w != "{}"}), *NAMES)
LENGTH = 8


def tokens(sentences: list[str]) -> np.ndarray:
    """The words' numbers (n, 8), zeros before them and <end> last. KeyError for a word that the model does not know."""
    number = {w: i for i, w in enumerate(WORDS)}
    rows = [[number[w] for w in s.split()] + [1] for s in sentences]
    return np.array([[0] * (LENGTH - len(r)) + r for r in rows])


class ImageText(nn.Module):
    """Images x (n, 1, 8, 8), sentences w (m, 8) of words' numbers to the scores (n, m): cosines times a learned scale."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.image = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(128, width),
        )  # fmt: skip
        self.words = nn.Embedding(len(WORDS), width)
        self.places = nn.Parameter(0.1 * gf.randn(LENGTH, width))
        self.text = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True)
        self.end = nn.Linear(width, width)
        self.log_scale = nn.Parameter(gf.tensor(np.float32(np.log(10.0))))

    def encode_image(self, x: Any) -> Any:
        """The images' vectors (n, width) of length 1."""
        return F.normalize(self.image(x), dim=1)

    def encode_text(self, w: Any) -> Any:
        """The sentences' vectors (m, width) of length 1: what the Transformer makes of the last token, <end>."""
        return F.normalize(self.end(self.text(self.words(w) + self.places)[:, -1]), dim=1)

    def forward(self, x: Any, w: Any) -> Any:
        """The score of each image with each sentence."""
        return self.log_scale.exp() * (self.encode_image(x) @ self.encode_text(w).t())


def contrastive_loss(scores: Any) -> Any:
    """Mean cross entropy of finding, among n, each image's own sentence and each sentence's own image: scores (n, n)."""
    own = gf.arange(len(scores), device=scores.device)
    return (F.cross_entropy(scores, own) + F.cross_entropy(scores.t(), own)) / 2


def fitted(page: Page, x: Any, digits: np.ndarray, epochs: int) -> tuple[ImageText, list[float]]:
    """A model trained on images x (n, 1, 8, 8) of these digits with a random caption each, and the loss of each epoch.

    The digits serve to caption the images and are not seen otherwise: the model sees pairs.
    """
    model, rng, n = ImageText().to(page.device), np.random.default_rng(page.seed), 64
    optimizer = gf.optim.AdamW(model.parameters(), 0.004, weight_decay=1e-3)
    schedule = gf.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    written = gf.tensor(tokens([c.format(name) for name in NAMES for c in CAPTIONS]), device=page.device)
    losses = []
    for _ in page.steps(epochs, "images and sentences"):
        order, captions = rng.permutation(len(digits)), digits * len(CAPTIONS) + rng.integers(0, len(CAPTIONS), len(digits))
        total = 0.0
        for i in range(0, len(order) - n + 1, n):
            batch = order[i : i + n]
            scores = model(x[gf.tensor(batch, device=page.device)], written[gf.tensor(captions[batch], device=page.device)])
            loss = contrastive_loss(scores)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total = total + loss.detach()
        schedule.step()
        losses.append((total / (len(order) // n)).item())
    return model.eval().requires_grad_(False), losses


def read(page: Page, model: ImageText, x: Any, caption: str) -> np.ndarray:
    """The digit (n,) of the sentence, among a caption with each of the ten names, that suits each image best."""
    with gf.no_grad():
        scores = model(x, gf.tensor(tokens([caption.format(name) for name in NAMES]), device=page.device))
    return scores.argmax(1).cpu().numpy()
