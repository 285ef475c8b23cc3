"""Digits out of noise, step by step: a denoising diffusion model (Ho, Jain and Abbeel 2020), in small.

Forward, an image x0 is mixed with noise e until nothing of it is left: xt = sqrt(at) x0 + sqrt(1 - at) e. A network learns
to say from xt, the time t and the digit which e was mixed in, by the mean squared error. Backward, one begins with noise and
takes away, step by step, a part of the noise that the network sees, and puts a little new one in (the paper's algorithm 2).
The digit asked for goes in beside the time. What comes out is judged by a network that was trained to read digits
on its own, and by how many lie as near to a real digit as new real ones do.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import gradflow as gf
from gradflow import nn
from gradflow.examples.judge import Judge, label, show
from gradflow.examples.page import Page
from gradflow.examples.runner import main


class Denoiser(nn.Module):
    """x (n, 64), times t (n,) and digits d (n,) to the noise (n, 64) that it sees in x."""

    def __init__(self, steps: int, width: int, depth: int = 3) -> None:
        super().__init__()
        rate = np.exp(-math.log(1000) * np.arange(16) / 16)
        angles = 1000 / steps * np.arange(steps)[:, None] * rate
        self.times = nn.Buffer(gf.tensor(np.concatenate([np.sin(angles), np.cos(angles)], 1).astype(np.float32)))
        self.time, self.digit = nn.Linear(32, width), nn.Embedding(10, width)
        self.before, self.after = nn.Linear(64, width), nn.Linear(width, 64)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)) for _ in range(depth)
        )

    def forward(self, x: Any, t: Any, d: Any) -> Any:
        """The noise; every block is told the time and the digit anew."""
        told = self.time(self.times[t]) + self.digit(d)
        h = self.before(x)
        for block in self.blocks:
            h = h + block(h + told)
        return self.after(h)


class Diffusion:
    """The way there and back: `steps` times of which the last is noise alone (cosine schedule of Nichol and Dhariwal 2021).

    a, b  how much of xt stays when it is mixed once, and how much noise comes in, per step; kept  what stays of x0 until then
    """

    def __init__(self, page: Page, steps: int) -> None:
        self.page, self.steps = page, steps
        level = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2) ** 2
        self.b = np.minimum(1 - level[1:] / level[:-1], 0.999)
        self.a = 1 - self.b
        self.kept = np.cumprod(self.a)

    def mixed(self, x: Any, t: np.ndarray, noise: Any) -> Any:
        """Images x (n, 64) at times t (n,)."""
        kept = gf.tensor(self.kept[t][:, None].astype(np.float32), device=self.page.device)
        return kept.sqrt() * x + (1 - kept).sqrt() * noise

    def trained(self, model: nn.Module, x: Any, d: Any, updates: int) -> list[float]:
        """Train a model on images x (n, 64) of digits d; its errors, each the mean of a hundredth of the updates."""
        rng, n, errors = np.random.default_rng(self.page.seed), 128, []
        optimizer = gf.optim.Adam(model.parameters(), 0.002)
        schedule = gf.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
        for _ in self.page.steps(updates, "denoising"):
            rows, t = gf.tensor(rng.integers(0, len(x), n), device=self.page.device), rng.integers(0, self.steps, n)
            noise = gf.randn(n, 64, device=self.page.device)
            guess = model(self.mixed(x[rows], t, noise), gf.tensor(t, device=self.page.device), d[rows])
            loss = nn.functional.mse_loss(guess, noise)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            errors.append(loss.detach())
        return np.array([e.item() for e in errors]).reshape(100, -1).mean(1).tolist()

    def drawn(self, model: nn.Module, d: Any) -> list[Any]:
        """Digits d (n,) drawn from noise: the images (n, 64) at every time, the finished ones last."""
        x = gf.randn(len(d), 64, device=self.page.device)
        every = [x]
        with gf.no_grad():
            for t in reversed(range(self.steps)):
                seen = model(x, gf.full((len(d),), t, dtype=gf.int64, device=self.page.device), d)
                first = ((x - math.sqrt(1 - self.kept[t]) * seen) / math.sqrt(self.kept[t])).clamp(-1, 1)  # x0 as it is seen
                before = self.kept[t - 1] if t else 1.0
                x = math.sqrt(before) * self.b[t] * first + math.sqrt(self.a[t]) * (1 - before) * x
                x = x / (1 - self.kept[t])
                if t:
                    x = x + math.sqrt(self.b[t] * (1 - before) / (1 - self.kept[t])) * gf.randn(len(d), 64, device=x.device)
                every.append(x)
        return every


def run(page: Page) -> None:
    """Train, draw every digit, and have them judged."""
    judge = Judge(page, page.pick(20, 4))
    way = Diffusion(page, page.pick(200, 40))
    model = Denoiser(way.steps, page.pick(256, 128)).to(page.device)
    errors = way.trained(model, judge.x.flatten(1) * 2 - 1, judge.y, page.pick(5000, 300))
    page.result("mean squared error of the noise; guessing 0 gives 1", errors[-1], at_most=page.pick(0.2, 0.35))

    asked = gf.arange(500, device=page.device) % 10
    every = [(x.clamp(-1, 1).reshape(-1, 1, 8, 8) + 1) / 2 for x in way.drawn(model.eval(), asked)]
    made = every[-1]
    right = (judge.read(made) == asked).float().mean()
    page.result("drawn digits in which the judge reads the digit asked for", right, at_least=page.pick(0.95, 0.7), unit="%")
    page.result("as near to a real digit as 99 % of new real ones", judge.near(made), at_least=page.pick(0.9, 0.75), unit="%")
    ratio = judge.away(made).median() / judge.away_new.median()
    page.result("distance to the nearest real digit, of that of new real ones; copies would have 0", ratio, at_least=0.6)

    times = np.linspace(0, way.steps, 11).round().astype(int)
    course = gf.stack([every[t][:10] for t in times], 1).flatten(0, 1)
    tens = made[:100].reshape(10, 10, 1, 8, 8).transpose(0, 1).flatten(0, 1)  # a row for each digit
    walls = (
        ("digits.png", tens, (), "Drawn digits, ten of each that was asked for."),
        ("course.png", course, [f"t = {way.steps - t}" for t in times], "How one of each comes out of noise."),
    )
    for file, images, columns, caption in walls:
        figure = page.figure(7.5, 7)
        axes = figure.subplots()
        show(axes, images, across=len(images) // 10)
        label(axes, range(10), columns)
        axes.tick_params(axis="x", labelsize=8)
        axes.set_ylabel("digit asked for")
        page.picture(figure, file, caption)


if __name__ == "__main__":
    raise SystemExit(main("diffusion"))
