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
from gradflow.examples.digit_net import fitted
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
    (x, y), (x_new, y_new) = ([t.to(page.device) for t in part.tensors] for part in gf.data.digits())
    judge = fitted(page, x, y, page.pick(20, 4))
    right = gf.train.accuracy(judge(x_new), y_new).item()
    page.result("judge: digits never trained on read rightly", right, at_least=page.pick(0.96, 0.8), unit="%")

    way = Diffusion(page, page.pick(200, 40))
    model = Denoiser(way.steps, page.pick(256, 128)).to(page.device)
    flat, new = x.flatten(1) * 2 - 1, x_new.flatten(1) * 2 - 1
    errors = way.trained(model, flat, y, page.pick(5000, 300))
    page.result("mean squared error of the noise; guessing 0 gives 1", errors[-1], at_most=page.pick(0.2, 0.35))

    asked = gf.tensor(np.arange(500) % 10, device=page.device)
    every = way.drawn(model.eval(), asked)
    made = every[-1].clamp(-1, 1)
    read = gf.train.accuracy(judge((made.reshape(-1, 1, 8, 8) + 1) / 2), asked).item()
    page.result("drawn digits in which the judge reads the digit asked for", read, at_least=page.pick(0.95, 0.7), unit="%")
    nearest = gf.cdist(new, flat).amin(1)
    away = gf.cdist(made, flat).amin(1)
    share = (away < nearest.quantile(0.99)).float().mean().item()
    page.result("as near to a real digit as 99 % of new real ones", share, at_least=page.pick(0.9, 0.75), unit="%")
    ratio = (away.median() / nearest.median()).item()
    page.result("distance to the nearest real digit, of that of new real ones; copies would have 0", ratio, at_least=0.6)

    grid = made[:100].reshape(10, 10, 8, 8).cpu().numpy().swapaxes(0, 1)
    page.picture(_wall(page, grid, range(10), "digit asked for"), "digits.png", "Drawn digits, ten of each that was asked for.")
    times = np.linspace(0, way.steps, 11).round().astype(int)
    course = np.stack([every[t][:10].reshape(10, 8, 8).cpu().numpy() for t in times], 1)
    page.picture(_wall(page, course, range(10), "digit asked for", [f"t = {way.steps - t}" for t in times]), "course.png",
                 "How one of each comes out of noise.")  # fmt: skip


def _wall(page: Page, images: np.ndarray, rows: Any, label: str, columns: Any = ()) -> Any:
    figure = page.figure(7.5, 7)
    axes = figure.subplots()
    down, across = images.shape[:2]
    wall = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-1)
    axes.imshow(wall.transpose(0, 2, 1, 3).reshape(10 * down, 10 * across), cmap="gray_r", vmin=-1, vmax=1)
    axes.set_yticks(np.arange(down) * 10 + 4.5, rows)
    axes.set_xticks(np.arange(len(columns)) * 10 + 4.5, columns, fontsize=8)
    axes.set_ylabel(label)
    return figure


if __name__ == "__main__":
    raise SystemExit(main("diffusion"))
