"""Attention: a recurrent encoder-decoder that looks back at its input, and a Transformer that does nothing else.

Both learn from made data to write a word backwards; the Transformer also adds two numbers of two digits, and writes the sum
from its last digit on, as by hand. While it writes, a decoder weighs all places of the input by softmax(q k): after a GRU
(Luong et al. 2015), or in every layer (Vaswani et al. 2017). An answer counts only if all of it is right, on words and sums
never trained on. Drawn is where each model looks: nobody told it that a word is turned round.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import gradflow as gf
from gradflow.examples.page import Page
from gradflow.examples.runner import main

ALPHABET = ">0123456789+abcdefghijklmnopqrstuvwxyz"  # > is where an answer begins


def reversal(n: int, length: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """n words and the same backwards."""
    words = rng.integers(ALPHABET.index("a"), len(ALPHABET), (n, length))
    return words, words[:, ::-1]


def sums() -> tuple[np.ndarray, np.ndarray]:
    """All the sums of 00 to 99 and 00 to 99, in order, and their answers, last digit first."""
    pairs = [(a, b) for a in range(100) for b in range(100)]
    return encode([f"{a:02}+{b:02}" for a, b in pairs]), encode([f"{a + b:03}"[::-1] for a, b in pairs])


def encode(texts: list[str]) -> np.ndarray:
    """Texts of one length as codes, (n, length)."""
    return np.array([[ALPHABET.index(c) for c in text] for text in texts])


class Recurrent(gf.nn.Module):
    """A GRU reads both ways; another writes, and looks at what the first made of every place."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embedding = gf.nn.Embedding(len(ALPHABET), width)
        self.reader = gf.nn.GRU(width, width // 2, batch_first=True, bidirectional=True)
        self.writer = gf.nn.GRU(width, width, batch_first=True)
        self.query = gf.nn.Linear(width, width)
        self.head = gf.nn.Sequential(gf.nn.Linear(2 * width, width), gf.nn.Tanh(), gf.nn.Linear(width, len(ALPHABET)))

    def attend(self, source: gf.Tensor, written: gf.Tensor) -> tuple[gf.Tensor, gf.Tensor, gf.Tensor]:
        """The writer's states (n, l, width), what the reader made of the input (n, s, width), the weights (n, l, s)."""
        memory, last = self.reader(self.embedding(source))
        h, _ = self.writer(self.embedding(written), gf.cat([last[0], last[1]], 1)[None])
        return h, memory, (self.query(h) @ memory.transpose(1, 2)).softmax(-1)

    def forward(self, source: gf.Tensor, written: gf.Tensor) -> gf.Tensor:
        """Inputs (n, s), written (n, l) to the scores of what follows each written character, (n, l, characters)."""
        h, memory, looks = self.attend(source, written)
        return self.head(gf.cat([h, looks @ memory], -1))

    def looks(self, source: gf.Tensor, written: gf.Tensor) -> gf.Tensor:
        """Where it looks before each character, (n, l, s)."""
        return self.attend(source, written)[2]


class Transformer(gf.nn.Module):
    """An encoder and a decoder of attention and small networks only; embeddings of the places tell the order."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.embedding, self.places = gf.nn.Embedding(len(ALPHABET), width), gf.nn.Embedding(16, width)
        self.body = gf.nn.Transformer(width, 4, layers, layers, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.head = gf.nn.Linear(width, len(ALPHABET))

    def placed(self, codes: gf.Tensor) -> gf.Tensor:
        """The embeddings of characters and of their places."""
        return self.embedding(codes) + self.places(gf.arange(codes.shape[1], device=codes.device))

    def forward(self, source: gf.Tensor, written: gf.Tensor) -> gf.Tensor:
        """As of Recurrent."""
        causal = self.body.generate_square_subsequent_mask(written.shape[1], device=source.device)
        return self.head(self.body(self.placed(source), self.placed(written), tgt_mask=causal, tgt_is_causal=True))

    def looks(self, source: gf.Tensor, written: gf.Tensor) -> gf.Tensor:
        """Where the last layer of the decoder looks, the mean over its heads: a hook hears what its attention is given."""
        attention, given = self.body.decoder.layers[-1].multihead_attn, []
        with attention.register_forward_pre_hook(lambda module, inputs: given.extend(inputs)):
            self(source, written)
        return attention(*given)[1]


def answers(model: gf.nn.Module, source: gf.Tensor, length: int) -> gf.Tensor:
    """What a model writes, always the most probable character: (n, length)."""
    written = gf.zeros(len(source), 1, dtype=gf.int64, device=source.device)
    with gf.nn.evaluating(model):
        for _ in range(length):
            written = gf.cat([written, model(source, written)[:, -1:].argmax(-1)], 1)
    return written[:, 1:]


def learn(page: Page, title: str, model: gf.nn.Module, source: np.ndarray, target: np.ndarray, steps: int) -> None:
    """Train it on what comes next, given the right answer so far."""
    rng = np.random.default_rng(page.seed)
    optimizer = gf.optim.Adam(model.parameters())
    schedule = gf.optim.lr_scheduler.OneCycleLR(optimizer, page.pick(0.003, 0.01), steps, pct_start=0.2)
    begun = np.concatenate([np.zeros_like(target[:, :1]), target[:, :-1]], 1)
    for _ in page.steps(steps, title):
        at = rng.integers(0, len(source), 64)
        x, before, y = (gf.tensor(codes[at], device=page.device) for codes in (source, begun, target))
        loss = gf.nn.functional.cross_entropy(model(x, before).flatten(0, 1), y.flatten())
        optimizer.zero_grad()
        loss.backward()
        gf.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()


def run(page: Page) -> None:
    """Both models write words backwards, the Transformer adds, too; where they look."""
    rng = np.random.default_rng(page.seed)
    mixed = rng.permutation(10000)
    tasks = {"reversal": reversal(20000, page.pick(9, 5), rng), "sums": tuple(codes[mixed] for codes in sums())}
    width, held = page.pick(64, 32), 500
    jobs = (
        ("reversal", "GRU", Recurrent(width), page.pick(800, 200), page.pick(0.95, 0.5)),
        ("reversal", "Transformer", Transformer(width, 1), page.pick(800, 120), page.pick(0.95, 0.7)),
        ("sums", "Transformer", Transformer(width, 1), page.pick(1500, 400), page.pick(0.95, 0.3)),
    )
    drawn = []
    for task, name, model, steps, goal in jobs:
        source, target = tasks[task]
        model.to(page.device)
        learn(page, f"{task}, {name}", model, source[held:], target[held:], steps)
        x = gf.tensor(source[:held], device=page.device)
        found = answers(model, x, target.shape[1])
        right = (found.cpu().numpy() == target[:held]).all(1).mean()
        page.result(f"{task}, {name}: answers that are wholly right", float(right), at_least=goal, unit="%")
        begun = gf.cat([gf.zeros_like(found[:1, :1]), found[:1, :-1]], 1)
        with gf.nn.evaluating(model):
            looks = model.looks(x[:1], begun)[0].cpu().numpy()
        drawn.append((f"{task}, {name}", source[0], found[0].cpu().numpy(), looks))
    page.picture(_looks(page, drawn), "attention.png", "Where each model looks while it writes an answer, line by line.")


def _looks(page: Page, drawn: list[tuple[str, np.ndarray, np.ndarray, np.ndarray]]) -> Any:
    figure = page.figure(12, 4.4)
    for axes, (title, source, answer, looks) in zip(figure.subplots(1, 3), drawn, strict=True):
        axes.imshow(looks, cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(len(source)), [ALPHABET[c] for c in source])
        axes.set_yticks(range(len(answer)), [ALPHABET[c] for c in answer])
        axes.set(title=title, xlabel="input", ylabel="written")
    return figure


if __name__ == "__main__":
    raise SystemExit(main("seq2seq"))
