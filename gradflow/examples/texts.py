"""The text that the language models of the gallery read: Python's own language reference, as characters and as numbers."""

from __future__ import annotations

from collections.abc import Iterable
from pydoc_data.topics import topics
from typing import Any

import numpy as np

import gradflow as gf
from gradflow.examples.page import Page

ALPHABET = "\n" + "".join(map(chr, range(32, 127)))
STEP = 8  # characters from one piece of held out text to the next, and from one point of its curve to the next
_QUOTES = str.maketrans("\u2018\u2019\u201c\u201d\u2013\u2014\u2026", "''\"\"--.")


def reference() -> tuple[np.ndarray, np.ndarray]:
    """The topics of `help()` as codes, for training and, the last tenth, held out; no tables, and no paragraph twice."""
    found = "\n\n".join(text if isinstance(text, str) else "\n".join(text) for text in topics.values())
    text = "\n\n".join(dict.fromkeys(part.strip("\n") for part in found.split("\n\n") if "|" not in part))
    codes = encode(text)
    cut = len(codes) * 9 // 10
    return codes[:cut], codes[cut:]


def encode(text: str) -> np.ndarray:
    """The place in ALPHABET of every character; those that it lacks are left out."""
    place = {c: i for i, c in enumerate(ALPHABET)}
    return np.array([place[c] for c in text.translate(_QUOTES) if c in place], np.int64)


def decode(codes: Iterable[Any]) -> str:
    """The characters at these places."""
    return "".join(ALPHABET[int(c)] for c in codes)


def windows(codes: np.ndarray, n: int, length: int, rng: np.random.Generator, device: Any) -> tuple[gf.Tensor, gf.Tensor]:
    """n pieces of a text from random places, (n, length), and the same moved on by one character: what comes next."""
    at = rng.integers(0, len(codes) - length, n)[:, None] + np.arange(length)
    return gf.tensor(codes[at], device=device), gf.tensor(codes[at + 1], device=device)


def learn(
    model: gf.nn.Module, codes: np.ndarray, steps: Iterable[int], total: int, length: int, seed: int, rate: float = 0.006
) -> list[gf.Tensor]:  # fmt: skip
    """Train a model of the next character, codes (n, length) -> scores, by Adam in batches of 32; the loss of every step."""
    rng, device = np.random.default_rng(seed), next(model.parameters()).device
    optimizer = gf.optim.Adam(model.parameters())
    schedule = gf.optim.lr_scheduler.OneCycleLR(optimizer, rate, total, pct_start=0.1)
    losses = []
    for _ in steps:
        x, y = windows(codes, 32, length, rng, device)
        loss = gf.nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten())
        optimizer.zero_grad()
        loss.backward()
        gf.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.detach())
    return losses


def places(codes: np.ndarray, n: int, length: int) -> np.ndarray:
    """Where n pieces of a text begin, in four stretches of it, STEP apart in each: so one meets the same characters after
    much context and after little.
    """
    stretches = np.linspace(0, len(codes) - n // 4 * STEP - length - 1, 4).astype(int)
    return (stretches[:, None] + STEP * np.arange(n // 4)).reshape(-1)


def surprise(model: gf.nn.Module, codes: np.ndarray, starts: np.ndarray, length: int) -> np.ndarray:
    """-log p, in nats, of what follows each character of the pieces of a text that begin there, (n, length)."""
    device = next(model.parameters()).device
    at = starts[:, None] + np.arange(length)
    x, y = gf.tensor(codes[at], device=device), gf.tensor(codes[at + 1], device=device)
    with gf.nn.evaluating(model):
        loss = gf.nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten(), reduction="none")
    return loss.reshape(at.shape).cpu().numpy()


def curves(page: Page, losses: dict[str, list[gf.Tensor]], spread: dict[str, np.ndarray]) -> Any:
    """The loss of each model while it trains, and its surprise by held out characters after more and more context."""
    figure = page.figure(10, 4)
    left, right = figure.subplots(1, 2)
    over = max(len(next(iter(losses.values()))) // 40, 5)  # steps to a point, so that one sees the curve and not the batches
    for name, color in zip(losses, ("#d95f02", "#1f77b4"), strict=True):
        values = np.array([loss.item() for loss in losses[name]])
        values = values[: len(values) // over * over].reshape(-1, over).mean(1)
        left.plot(np.arange(1, len(values) + 1) * over, values, color=color, label=name)
        by_context = spread[name].mean(0).reshape(-1, STEP).mean(1)
        right.plot((np.arange(len(by_context)) + 0.5) * STEP, by_context, "o-", ms=3, color=color, label=name)
    left.set(xlabel="step", ylabel="nats per character", title="Loss of the training batches")
    right.set(xlabel="characters read before", ylabel="nats per character", title="Held out text: what context is worth")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    return figure
