"""Recurrent networks that write: a plain RNN and an LSTM read Python's language reference, one character at a time.

The state carries what was read; a linear layer turns it into the scores of the next character, and the loss is its surprise,
-log p. Feeding back a character drawn from those probabilities makes the network write. The plain RNN multiplies its state by
a matrix in every step; the LSTM (Hochreiter and Schmidhuber 1997) adds to a cell behind gates, and so remembers longer. The
samples follow Karpathy, The Unreasonable Effectiveness of Recurrent Neural Networks, 2015.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import gradflow as gf
from gradflow.examples import texts
from gradflow.examples.page import Page
from gradflow.examples.runner import main


class CharacterModel(gf.nn.Module):
    """Codes (n, length) to the scores of the character after each, (n, length, characters)."""

    def __init__(self, layer: Any, width: int) -> None:
        super().__init__()
        self.embedding = gf.nn.Embedding(len(texts.ALPHABET), width)
        self.recurrent = layer(width, width, batch_first=True)
        self.head = gf.nn.Linear(width, len(texts.ALPHABET))

    def step(self, codes: gf.Tensor, state: Any = None) -> tuple[gf.Tensor, Any]:
        """The scores, and the state to go on from."""
        h, state = self.recurrent(self.embedding(codes), state)
        return self.head(h), state

    def forward(self, codes: gf.Tensor) -> gf.Tensor:
        """The scores, from an empty state."""
        return self.step(codes)[0]


def sample(model: CharacterModel, prompt: str, n: int, temperature: float) -> str:
    """The prompt and n characters that the model writes after it; a low temperature makes it play safe."""
    codes = texts.encode(prompt).tolist()
    device = next(model.parameters()).device
    with gf.nn.evaluating(model):
        scores, state = model.step(gf.tensor([codes], device=device))
        for _ in range(n):
            drawn = gf.multinomial((scores[:, -1] / temperature).softmax(-1), 1)
            codes.append(drawn.item())
            scores, state = model.step(drawn, state)
    return texts.decode(codes)


def run(page: Page) -> None:
    """Train both, compare them on text that was held out, let them write."""
    training, held_out = texts.reference()
    steps, length, width = page.pick(1200, 120), page.pick(64, 32), page.pick(128, 64)
    counts = np.bincount(training, minlength=len(texts.ALPHABET)) + 1
    alone = -np.log(counts / counts.sum())[held_out].mean()
    page.result("surprise by how common each character is alone, nats", float(alone))
    starts = texts.places(held_out, page.pick(1024, 256), length)
    losses, spread = {}, {}
    for name, layer in (("RNN", gf.nn.RNN), ("LSTM", gf.nn.LSTM)):
        model = CharacterModel(layer, width).to(page.device)
        losses[name] = texts.learn(model, training, page.steps(steps, name), steps, length, page.seed)
        spread[name] = texts.surprise(model, held_out, starts, length)
        goal = page.pick({"RNN": 1.75, "LSTM": 1.65}, {"RNN": 2.65, "LSTM": 2.75})[name]
        page.result(f"{name}: surprise by a held out character, nats", float(spread[name].mean()), at_most=goal)
        page.note(f"{name} writes:\n{sample(model, 'If the ', page.pick(400, 150), 0.7)}\n")
    page.picture(texts.curves(page, losses, spread), "loss.png", "The loss while training, and the surprise after more context.")
    some = np.linspace(0, len(starts) - 1, 8).astype(int)
    shown = [(texts.decode(held_out[starts[i] + 1 :][:length]), spread["LSTM"][i]) for i in some]
    page.picture(_surprises(page, shown), "surprise.png", "Held out text: the darker a character, the less the LSTM saw it come.")


def _surprises(page: Page, shown: list[tuple[str, np.ndarray]]) -> Any:
    figure = page.figure(10, 3.6)
    axes = figure.subplots()
    image = axes.imshow([nats for _, nats in shown], cmap="Oranges", vmin=0, vmax=8, aspect="auto")
    for row, (text, _) in enumerate(shown):
        for column, c in enumerate(text.replace("\n", "↵")):
            axes.text(column, row, c, ha="center", va="center", family="monospace", fontsize=9)
    axes.set(xticks=[], yticks=[], title="Surprise of the LSTM by every character, from left to right")
    figure.colorbar(image, label="nats")
    return figure


if __name__ == "__main__":
    raise SystemExit(main("char_rnn"))
