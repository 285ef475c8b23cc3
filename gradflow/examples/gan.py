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
from gradflow.examples.judge import Judge, show
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


def run(page: Page) -> None:
    """Both kinds of adversaries, judged by how near what they make is to real digits, and by how many kinds there are."""
    judge = Judge(page, page.pick(20, 4))
    # Pixels each from another digit have the right brightness everywhere, and yet are no digits.
    mixed = np.random.default_rng(page.seed).permuted(judge.x.cpu().numpy(), axis=0)
    near = judge.near(gf.tensor(mixed, device=page.device))
    page.result("pixels mixed from many digits: as near to a real digit as 99 % of the new ones", near, at_most=0.05, unit="%")
    shown, given, goals = {"real": judge.x_new[:40]}, {}, page.pick((0.88, 9), (0.15, 5))
    for name in LOSSES:
        make, given[name] = adversaries(page, name, judge.x.flatten(1) * 2 - 1, page.pick(6000, 500))
        with gf.no_grad():
            made = (make(gf.randn(1000, NOISE, device=page.device)) + 1).reshape(-1, 1, 8, 8) / 2
        page.result(f"{name}: made digits that are as near", judge.near(made), at_least=goals[0], unit="%")
        page.result(f"{name}: kinds of digits, each at least 2 % of those made", judge.kinds(made), at_least=goals[1])
        shown[name] = made[:40]
    figure = page.figure(10, 5.6)
    for axes, (name, images) in zip(figure.subplots(1, 3), shown.items(), strict=True):
        show(axes, images, across=5)
        axes.set_title(name)
    page.picture(figure, "digits.png", "Real digits, and digits made from noise by either loss.")
    page.picture(_given(page, given), "critic.png", "What the critic gives real and made digits while both learn.")


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
