"""Adversarial networks of convolutions that make digits (DCGAN, Radford, Metz and Chintala 2016).

Its rules: strides in place of pooling, in the generator transposed convolutions; batch normalisation; no hidden linear layers;
ReLU in the generator with tanh last, leaky ReLU in the critic; Adam with a first moment of 0.5; weights that begin normal,
here 0.05 wide (0.02 in the paper, for wider layers). What is made is judged by a network trained to read digits on its own, by
how many lie as near to a real digit as new real ones do, and by what lies between two points of noise.
"""

from __future__ import annotations

import numpy as np

import gradflow as gf
from gradflow import nn
from gradflow.examples.judge import Judge, show
from gradflow.examples.page import Page
from gradflow.examples.runner import main

F = nn.functional
NOISE = 16


def generator(width: int) -> nn.Module:
    """Noise (n, 16, 1, 1) to digits (n, 1, 8, 8) with pixels in [-1, 1]."""
    return nn.Sequential(
        nn.ConvTranspose2d(NOISE, 2 * width, 2, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU(),
        nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        nn.ConvTranspose2d(width, 1, 4, stride=2, padding=1), nn.Tanh(),
    ).apply(begun)  # fmt: skip


def critic(width: int) -> nn.Module:
    """Digits (n, 1, 8, 8) to one number, (n, 1): how real they look."""
    return nn.Sequential(
        nn.Conv2d(1, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2), nn.Dropout(0.3),
        nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(2 * width), nn.LeakyReLU(0.2),
        nn.Dropout(0.3), nn.Conv2d(2 * width, 1, 2), nn.Flatten(),
    ).apply(begun)  # fmt: skip


def begun(module: nn.Module) -> None:
    """Let the weights of a convolution begin normal."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(module.weight, 0.0, 0.05)


def noise(page: Page, n: int) -> gf.Tensor:
    """Points (n, 16, 1, 1) for the generator to begin with."""
    return gf.randn(n, NOISE, 1, 1, device=page.device)


def adversaries(page: Page, x: gf.Tensor, steps: int) -> nn.Module:
    """The generator, trained in turn with a critic on digits x (n, 1, 8, 8) with pixels in [-1, 1]."""
    width, n, rng = page.pick(32, 16), 64, np.random.default_rng(page.seed)
    make, judge = generator(width).to(page.device), critic(width).to(page.device)
    rates = {"lr": page.pick(0.001, 0.002), "betas": (0.5, 0.999)}
    make_optimizer, judge_optimizer = (gf.optim.Adam(m.parameters(), **rates) for m in (make, judge))
    one, zero = gf.full((n, 1), 0.9, device=page.device), gf.zeros(n, 1, device=page.device)  # 0.9: no critic that is too sure
    for _ in page.steps(steps, "dcgan"):
        real, made = x[gf.tensor(rng.integers(0, len(x), n), device=page.device)], make(noise(page, n))
        judge_optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits
        (loss(judge(real), one) + loss(judge(made.detach()), zero)).backward()
        judge_optimizer.step()
        make_optimizer.zero_grad()
        loss(judge(made), one).backward()
        make_optimizer.step()
    return make.eval()


def run(page: Page) -> None:
    """Train, make a thousand digits, have them judged, and walk between some."""
    judge = Judge(page, page.pick(20, 4))
    make = adversaries(page, judge.x * 2 - 1, page.pick(2500, 160))
    goals = page.pick((0.7, 0.45, 9), (0.1, 0.3, 5))
    with gf.no_grad():
        made = (make(noise(page, 1000)) + 1) / 2
        sure, sure_new = (judge.reader(images).softmax(1).amax(1) for images in (made, judge.x_new))
        certain = (sure > sure_new.quantile(0.1)).float().mean()
        ends, part = noise(page, 16), gf.linspace(0, 1, 10, device=page.device).reshape(1, 10, 1, 1, 1)
        walk = (make((ends[:8, None] * (1 - part) + ends[8:, None] * part).flatten(0, 1)) + 1) / 2
    page.result("made digits as near to a real one as 99 % of new real ones", judge.near(made), at_least=goals[0], unit="%")
    page.result("read with more certainty than the least certain tenth of new real ones", certain, at_least=goals[1], unit="%")
    page.result("kinds of digits, each at least 2 % of those made", judge.kinds(made), at_least=goals[2])
    figure = page.figure(11, 4.8)
    shown = {"made": made[:80], "on the way from one point of noise to another": walk}
    for axes, (name, images) in zip(figure.subplots(1, 2), shown.items(), strict=True):
        show(axes, images, across=10)
        axes.set_title(name)
    page.picture(figure, "digits.png", "Digits made from noise, and, in each row, from noise between two points.")


if __name__ == "__main__":
    raise SystemExit(main("dcgan"))
