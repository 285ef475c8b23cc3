"""A small GPT: a Transformer that reads Python's language reference and writes on, one character at a time.

Every character looks back at all before it by causal attention, in several heads at once, and a small network then works on
each place by itself; both are added to a stream that runs through the layers (Vaswani et al. 2017; Radford et al. 2018). No
state is handed on from step to step, so all places of a text are trained at once. An LSTM of the same width, with the same
steps on the same pieces of text, runs beside it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import gradflow as gf
from gradflow.examples import texts
from gradflow.examples.char_rnn import CharacterModel
from gradflow.examples.page import Page
from gradflow.examples.runner import main


class Block(gf.nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)): x (n, l, width) to the same shape."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_mlp = gf.nn.LayerNorm(width), gf.nn.LayerNorm(width)
        self.qkv, self.out = gf.nn.Linear(width, 3 * width), gf.nn.Linear(width, width)
        self.mlp = gf.nn.Sequential(gf.nn.Linear(width, 4 * width), gf.nn.GELU(), gf.nn.Linear(4 * width, width))

    def split(self, x: gf.Tensor) -> tuple[gf.Tensor, ...]:
        """Queries, keys and values of every head, each (n, heads, l, width / heads)."""
        n, l, width = x.shape
        parts = self.qkv(self.before_attention(x)).reshape(n, l, 3, self.heads, width // self.heads)
        return parts.permute(2, 0, 3, 1, 4).unbind(0)

    def looks(self, x: gf.Tensor) -> gf.Tensor:
        """Where every head looks from each place, (n, heads, l, l): what attention() computes without keeping it."""
        q, k, _ = self.split(x)
        scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
        future = gf.ones(x.shape[1], x.shape[1], dtype=gf.bool, device=x.device).triu(1)
        return scores.masked_fill(future, -float("inf")).softmax(-1)

    def forward(self, x: gf.Tensor) -> gf.Tensor:
        """The stream after this block."""
        heads = gf.nn.functional.scaled_dot_product_attention(*self.split(x), is_causal=True)
        x = x + self.out(heads.transpose(1, 2).flatten(2))
        return x + self.mlp(self.before_mlp(x))


class GPT(gf.nn.Module):
    """Codes (n, l) to the scores of the character after each, (n, l, characters); l at most `length`."""

    def __init__(self, width: int, heads: int, layers: int, length: int) -> None:
        super().__init__()
        self.length = length
        self.characters, self.places = gf.nn.Embedding(len(texts.ALPHABET), width), gf.nn.Embedding(length, width)
        self.blocks = gf.nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm, self.head = gf.nn.LayerNorm(width), gf.nn.Linear(width, len(texts.ALPHABET))
        for table in (self.characters, self.places):
            gf.nn.init.normal_(table.weight, std=0.1)

    def stream(self, codes: gf.Tensor) -> gf.Tensor:
        """What goes into the first block."""
        return self.characters(codes) + self.places(gf.arange(codes.shape[1], device=codes.device))

    def forward(self, codes: gf.Tensor) -> gf.Tensor:
        """The scores at every place at once."""
        return self.head(self.norm(self.blocks(self.stream(codes))))


def sample(model: GPT, prompt: str, n: int, temperature: float, best: int) -> str:
    """The prompt and n characters after it, each drawn from the `best` most probable ones."""
    device = next(model.parameters()).device
    codes = gf.tensor(texts.encode(prompt)[None], device=device)
    with gf.nn.evaluating(model):
        for _ in range(n):
            scores, places = model(codes[:, -model.length :])[:, -1].topk(best)
            drawn = gf.multinomial((scores / temperature).softmax(-1), 1)
            codes = gf.cat([codes, places.gather(1, drawn)], 1)
    return texts.decode(codes[0].cpu().numpy())


def run(page: Page) -> None:
    """Train both, compare them on text that was held out; let the GPT write, and see where it looks."""
    training, held_out = texts.reference()
    steps, length, width, layers = page.pick(500, 80), page.pick(64, 32), page.pick(128, 64), page.pick(3, 2)
    models = {"LSTM": CharacterModel(gf.nn.LSTM, width), "GPT": GPT(width, 4, layers, length)}
    losses, spread, starts = {}, {}, texts.places(held_out, page.pick(1024, 256), length)
    for name, model in models.items():
        model.to(page.device)
        rate = page.pick(0.003, 0.006) if name == "GPT" else 0.006  # a deeper Transformer wants smaller steps
        losses[name] = texts.learn(model, training, page.steps(steps, name), steps, length, page.seed, rate)
        spread[name] = texts.surprise(model, held_out, starts, length)
        goal = page.pick({"LSTM": 1.95, "GPT": 1.8}, {"LSTM": 2.9, "GPT": 2.75})[name]
        page.result(f"{name}: surprise by a held out character, nats", float(spread[name].mean()), at_most=goal)
        page.result(f"{name}: parameters", sum(p.numel() for p in model.parameters()))
    page.note(f"The GPT writes:\n{sample(models['GPT'], 'If the ', page.pick(400, 100), 0.7, 20)}\n")
    page.picture(texts.curves(page, losses, spread), "loss.png", "The loss while training, and the surprise after more context.")
    text = held_out[len(held_out) // 2 :][:length]
    with gf.nn.evaluating(models["GPT"]):
        x = models["GPT"].stream(gf.tensor(text[None], device=page.device))
        for block in models["GPT"].blocks[:-1]:
            x = block(x)
        looks = models["GPT"].blocks[-1].looks(x)[0].cpu().numpy()
    page.picture(_heads(page, looks[:, :32, :32], texts.decode(text[:32])), "heads.png", "Where the last layer looks back.")


def _heads(page: Page, looks: np.ndarray, text: str) -> Any:
    figure = page.figure(11, 11)
    for i, (axes, head) in enumerate(zip(figure.subplots(2, 2).flat, looks, strict=True)):
        axes.imshow(head, cmap="Greens", vmin=0, vmax=0.7)
        for set_ticks in (axes.set_xticks, axes.set_yticks):
            set_ticks(range(len(text)), list(text.replace("\n", "↵")), family="monospace", fontsize=8)
        axes.set(title=f"head {i + 1}", xlabel="looks at", ylabel="read last")
    return figure


if __name__ == "__main__":
    raise SystemExit(main("gpt"))
