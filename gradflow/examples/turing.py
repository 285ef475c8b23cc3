"""A Neural Turing Machine that learns to copy: a small network beside a memory that it reads and writes by attention.

A head looks for a row like its key, mixes that with where it was before, moves by -1, 0 or 1 and sharpens; all of it is
differentiable, so that the machine learns its program from examples alone (Graves, Wayne, Danihelka 2014). It is shown random
vectors of bits (made data) and a mark, then has to give them back in order, with nothing to read any more. The network has no
state of its own: what is not in the memory is forgotten. Drawn is where the heads are, which is the program that it learned;
and as it is a program, it copies sequences three times as long as all it was trained on. Guessing gets half of the bits wrong.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import gradflow as gf
from gradflow.examples.page import Page
from gradflow.examples.runner import main

F = gf.nn.functional


class Head(gf.nn.Module):
    """Where to read or write: from the controller's h and the last weights (n, rows) to new ones."""

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.control = gf.nn.Linear(width, size + 6)  # the key, how strongly it counts, the gate, three moves, how sharp
        with gf.no_grad():  # begin with heads that move from where they are, and stay sharp: a program of moves has any length
            self.control.bias[size + 1], self.control.bias[-1] = -2.0, 1.0

    def forward(self, h: gf.Tensor, memory: gf.Tensor, last: gf.Tensor) -> gf.Tensor:
        """softmax(strength cos(key, row)), mixed with the last weights, moved, and sharpened."""
        key, strength, gate, moves, sharp = self.control(h).split([self.size, 1, 1, 3, 1], 1)
        near = F.cosine_similarity(memory, key.tanh()[:, None], dim=2)
        w = (F.softplus(strength) * near).softmax(1)
        gate, moves = gate.sigmoid(), moves.softmax(1)
        w = gate * w + (1 - gate) * last
        w = moves[:, :1] * w.roll(-1, 1) + moves[:, 1:2] * w + moves[:, 2:] * w.roll(1, 1)
        w = (w + 1e-6) ** (1 + F.softplus(sharp))
        return w / w.sum(1, keepdim=True)


class TuringMachine(gf.nn.Module):
    """Bits (n, l, inputs) to the logits of bits (n, l, outputs); keeps where its heads were, as `written` and `read`.

    rows, size  of its memory, which does not grow with the sequence
    """

    def __init__(self, inputs: int, outputs: int, width: int, rows: int, size: int) -> None:
        super().__init__()
        self.rows, self.size = rows, size
        self.controller = gf.nn.Linear(inputs + size, width)
        self.reader, self.writer = Head(width, size), Head(width, size)
        self.erase_add = gf.nn.Linear(width, 2 * size)
        self.out = gf.nn.Linear(width + size, outputs)
        self.written: list[gf.Tensor] = []
        self.read: list[gf.Tensor] = []

    def forward(self, x: gf.Tensor) -> gf.Tensor:
        """One step after the other: control, write, read."""
        n, made = len(x), {"device": x.device}
        memory = gf.full((n, self.rows, self.size), 1e-3, **made)
        at = gf.zeros(n, self.rows, **made)
        at[:, 0] = 1.0
        write_at = read_at = at
        found = gf.zeros(n, self.size, **made)
        self.written, self.read, outputs = [], [], []
        for t in range(x.shape[1]):
            h = self.controller(gf.cat([x[:, t], found], 1)).tanh()
            write_at = self.writer(h, memory, write_at)
            erase, add = self.erase_add(h).chunk(2, 1)
            memory = memory * (1 - write_at[:, :, None] * erase.sigmoid()[:, None]) + write_at[:, :, None] * add.tanh()[:, None]
            read_at = self.reader(h, memory, read_at)
            found = (read_at[:, None] @ memory)[:, 0]
            outputs.append(self.out(gf.cat([h, found], 1)))
            self.written.append(write_at)
            self.read.append(read_at)
        return gf.stack(outputs, 1)


def copying(n: int, length: int, bits: int, rng: np.random.Generator, device: Any) -> tuple[gf.Tensor, gf.Tensor]:
    """n sequences as the machine gets them, (n, 2 length + 1, bits + 1): bits, then a mark, then nothing; and the bits."""
    sequence = rng.integers(0, 2, (n, length, bits)).astype(np.float32)
    x = np.zeros((n, 2 * length + 1, bits + 1), np.float32)
    x[:, :length, :bits] = sequence
    x[:, length, bits] = 1
    return gf.tensor(x, device=device), gf.tensor(sequence, device=device)


def wrong(machine: TuringMachine, length: int, bits: int, rng: np.random.Generator, device: Any) -> float:
    """The share of bits that it gives back wrongly, of 64 new sequences."""
    x, y = copying(64, length, bits, rng, device)
    with gf.nn.evaluating(machine):
        return ((machine(x)[:, length + 1 :] > 0) != (y > 0.5)).float().mean().item()


def run(page: Page) -> None:
    """Train on short sequences, test on long ones, draw the heads."""
    rng = np.random.default_rng(page.seed)
    bits, longest, steps = page.pick(6, 3), page.pick(10, 3), page.pick(2000, 250)
    machine = TuringMachine(bits + 1, bits, page.pick(64, 48), page.pick(36, 12), page.pick(12, 8)).to(page.device)
    optimizer = gf.optim.Adam(machine.parameters(), page.pick(0.005, 0.015))
    schedule = gf.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in page.steps(steps, "turing"):
        length = int(rng.integers(1, longest + 1))
        x, y = copying(32, length, bits, rng, page.device)
        loss = F.binary_cross_entropy_with_logits(machine(x)[:, length + 1 :], y)
        optimizer.zero_grad()
        loss.backward()
        gf.nn.utils.clip_grad_norm_(machine.parameters(), 10.0)
        optimizer.step()
        schedule.step()
    for length, goal in ((longest, page.pick(0.01, 0.1)), (3 * longest, page.pick(0.05, 0.45))):
        title = f"wrong bits in copies of {length} vectors" + ", longer than any trained on" * (length > longest)
        page.result(title, wrong(machine, length, bits, rng, page.device), at_most=goal, unit="%")
    file, caption = "heads.png", "A sequence, the copy, and the rows of the memory where the heads write and read."
    page.picture(_heads(page, machine, 2 * longest, bits, rng), file, caption)


def _heads(page: Page, machine: TuringMachine, length: int, bits: int, rng: np.random.Generator) -> Any:
    x, _ = copying(1, length, bits, rng, page.device)
    with gf.nn.evaluating(machine):
        copied = machine(x).sigmoid()[0].cpu().numpy().T
    copied[:, : length + 1] = 0
    written, read = (gf.cat(w).cpu().numpy().T for w in (machine.written, machine.read))
    figure = page.figure(9, 8)
    parts = ("given", x[0].cpu().numpy().T), ("answer", copied), ("writes at", written), ("reads at", read)
    for axes, (title, part) in zip(figure.subplots(4, 1, height_ratios=[1, 1, 2, 2]), parts, strict=True):
        axes.imshow(part, cmap="gray_r", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        axes.axvline(length + 0.5, color="#d95f02", linewidth=1)
        axes.set(ylabel=title, yticks=[], xticks=range(0, 2 * length + 1, max(1, length // 5)))
    axes.set_xlabel("time: after the line nothing is shown any more")
    return figure


if __name__ == "__main__":
    raise SystemExit(main("turing"))
