"""Generative adversarial networks on digits: a generator that makes them from noise, a critic that tells them from real ones.

The critic learns to give real digits 1 and made ones 0, the generator to make those that the critic gives 1: by cross entropy
(Goodfellow et al. 2014, with the loss for the generator that does not saturate), or by least squares, which also pulls at
digits that the critic is already sure of (Mao et al. 2017). Made digits are judged by how many lie as near to a real one as
new real ones do, and by how many of the ten kinds there are for a network that reads digits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import gradflow as gf
from gradflow.examples.page import Page
from gradflow.examples.runner import main

F = gf.nn.functional
LOSSES = {"vanilla": F.binary_cross_entropy_with_logits, "least squares": F.mse_loss}
NOISE = 16


def generator(width: int) -> gf.nn.Module:
    """Noise (n, 16) to digits (n, 64) with pixels in [-1, 1]."""
    return gf.nn.Sequential(
        gf.nn.Linear(NOISE, width), gf.nn.BatchNorm1d(width), gf.nn.ReLU(),
        gf.nn.Linear(width, width), gf.nn.BatchNorm1d(width), gf.nn.ReLU(),
        gf.nn.Linear(width, 64), gf.nn.Tanh(),
    )  # fmt: skip


def critic(width: int) -> gf.nn.Module:
    """Digits (n, 64) to one number, (n, 1): how real they look."""
    return gf.nn.Sequential(
        gf.nn.Linear(64, width), gf.nn.LeakyReLU(0.2), gf.nn.Dropout(0.3),
        gf.nn.Linear(width, width), gf.nn.LeakyReLU(0.2), gf.nn.Dropout(0.3),
        gf.nn.Linear(width, 1),
    )  # fmt: skip


def adversaries(page: Page, name: str, x: gf.Tensor, steps: int) -> tuple[gf.nn.Module, list[tuple[Any, Any]]]:
    """Train both in turn on digits x; the generator, and what the critic gave real and made ones in every step."""
    width, loss_of = page.pick(256, 128), LOSSES[name]
    make, judge = generator(width).to(page.device), critic(width).to(page.device)
    rates = {"lr": page.pick(0.001, 0.002), "betas": (0.5, 0.999)}
    make_optimizer, judge_optimizer = (gf.optim.Adam(m.parameters(), **rates) for m in (make, judge))
    rng, n, given = np.random.default_rng(page.seed), 64, []
    one, zero = gf.ones(n, 1, device=page.device), gf.zeros(n, 1, device=page.device)
    for _ in page.steps(steps, name):
        real = x[gf.tensor(rng.integers(0, len(x), n), device=page.device)]
        made = make(gf.randn(n, NOISE, device=page.device))
        of_real, of_made = judge(real), judge(made.detach())
        judge_optimizer.zero_grad()
        (loss_of(of_real, one) + loss_of(of_made, zero)).backward()
        judge_optimizer.step()
        make_optimizer.zero_grad()
        loss_of(judge(made), one).backward()
        make_optimizer.step()
        answers = (of_real.detach(), of_made.detach())
        given.append(tuple((a.sigmoid() if name == "vanilla" else a).mean() for a in answers))
    return make.eval(), given


def reader(page: Page, x: gf.Tensor, y: gf.Tensor) -> gf.nn.Module:
    """A network that reads digits (n, 64)."""
    model = gf.nn.Sequential(gf.nn.Linear(64, 128), gf.nn.ReLU(), gf.nn.Linear(128, 10)).to(page.device)
    optimizer = gf.optim.Adam(model.parameters(), 0.01, weight_decay=1e-4)
    for _ in range(100):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model.eval()


def run(page: Page) -> None:
    """Both kinds of adversaries, judged by a reader and by how near what they make is to real digits."""
    (x, y), (x_new, y_new) = ([t.to(page.device) for t in part.tensors] for part in gf.data.digits())
    x, x_new = x.flatten(1) * 2 - 1, x_new.flatten(1) * 2 - 1
    judge = reader(page, x, y)
    right = gf.train.accuracy(judge(x_new), y_new).item()
    page.result("reader: digits never trained on read rightly", right, at_least=0.93, unit="%")

    def away(made: gf.Tensor) -> gf.Tensor:
        return gf.cdist(made, x).amin(1)

    near = away(x_new).quantile(0.99)
    mixed = np.random.default_rng(page.seed).permuted(x.cpu().numpy(), axis=0)  # each pixel from another digit
    share = (away(gf.tensor(mixed, device=page.device)) < near).float().mean().item()
    page.result("pixels mixed from many digits: as near to a real digit as 99 % of the new ones", share, unit="%")
    shown, given, goals = {"real": x_new[:40].cpu().numpy()}, {}, page.pick((0.8, 9), (0.15, 5))
    for name in LOSSES:
        make, given[name] = adversaries(page, name, x, page.pick(6000, 500))
        with gf.no_grad():
            made = make(gf.randn(1000, NOISE, device=page.device))
            kinds = np.bincount(judge(made).argmax(1).cpu().numpy(), minlength=10)
        page.result(f"{name}: made digits that are as near", (away(made) < near).float().mean().item(), at_least=goals[0], unit="%")
        page.result(f"{name}: kinds of digits, each at least 2 % of those made", int((kinds >= 20).sum()), at_least=goals[1])
        shown[name] = made[:40].cpu().numpy()
    page.picture(_digits(page, shown), "digits.png", "Real digits, and digits made from noise by either loss.")
    page.picture(_given(page, given), "critic.png", "What the critic gives real and made digits while both learn.")


def _digits(page: Page, shown: dict[str, np.ndarray]) -> Any:
    figure = page.figure(12, 5)
    for axes, (name, images) in zip(figure.subplots(1, 3), shown.items(), strict=True):
        wall = np.pad(images.reshape(8, 5, 8, 8), ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-1)
        axes.imshow(wall.transpose(0, 2, 1, 3).reshape(80, 50), cmap="gray_r", vmin=-1, vmax=1)
        axes.set(title=name, xticks=[], yticks=[])
    return figure


def _given(page: Page, given: dict[str, list[tuple[Any, Any]]]) -> Any:
    figure = page.figure(10, 4)
    for axes, (name, pairs) in zip(figure.subplots(1, 2), given.items(), strict=True):
        values = np.array([(real.item(), made.item()) for real, made in pairs])
        over = len(values) // 50
        values = values[: over * 50].reshape(50, over, 2).mean(1)
        for column, label, color in ((0, "real", "#2a7f3f"), (1, "made", "#c0182b")):
            axes.plot(np.arange(1, 51) * over, values[:, column], color=color, label=label)
        axes.set(title=name, xlabel="step", ylabel="the critic's mean answer", ylim=(0, 1))
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    return figure


if __name__ == "__main__":
    raise SystemExit(main("gan"))
