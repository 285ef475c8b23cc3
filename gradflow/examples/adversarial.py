"""Adversarial examples: changes too small to matter to us, chosen along the gradient, that make a net read wrongly.

FGSM takes one step of eps times the sign of the gradient (Goodfellow et al. 2014); PGD takes many small ones and stays
within eps of the digit in every pixel (Madry et al. 2017); the minimum-norm attack asks for the nearest image of another
class, by projecting on the linearised boundary again and again (DeepFool, Moosavi-Dezfooli et al. 2015). Training on
attacked digits, which are made anew for every batch, is the cure: it costs a little accuracy and makes most attacks fail.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import gradflow as gf
from gradflow import nn
from gradflow.examples import digit_net
from gradflow.examples.page import Page
from gradflow.examples.runner import main

EPS = 0.1  # of the range of a pixel


def pgd(model: nn.Module, x: Any, t: Any, eps: float, steps: int, step: float) -> Any:
    """Images within eps of x in every pixel of a larger loss: steps of the gradient's sign. One step of eps is FGSM."""
    y = x
    for _ in range(steps):
        y = y.detach().requires_grad_()
        (g,) = gf.autograd.grad(nn.functional.cross_entropy(model(y), t, reduction="sum"), y)
        y = (y + step * g.sign()).detach()
        y = gf.maximum(gf.minimum(y, x + eps), x - eps).clamp(0, 1)
    return y.detach()


def fgsm(model: nn.Module, x: Any, t: Any) -> Any:
    """The attack of one step."""
    return pgd(model, x, t, EPS, 1, EPS)


def nearest(model: nn.Module, x: Any, t: Any, steps: int) -> Any:
    """The minimum-norm attack: from x, whose class is t, to just beyond the nearest boundary of the linearised net, where
    pixels may leave [0, 1] a little.
    """
    total = gf.zeros_like(x)
    rows = gf.arange(len(x), device=x.device)
    for _ in range(steps):
        y = (x + 1.02 * total).requires_grad_()
        scores = model(y)
        going = (scores.argmax(1) == t).float()
        if not going.any():
            break
        gradients = gf.stack([gf.autograd.grad(scores[:, c].sum(), y, retain_graph=True)[0] for c in range(10)], 1)
        w = (gradients - gradients[rows, t][:, None]).flatten(2)
        gap = (scores - scores[rows, t][:, None]).detach().abs()
        distance = gap / (w.square().sum(2).sqrt() + 1e-9)
        distance[rows, t] = float("inf")
        c = distance.argmin(1)
        length = gap[rows, c] / (w[rows, c].square().sum(1) + 1e-9)
        total = total + ((going * (length + 1e-4))[:, None] * w[rows, c]).reshape(x.shape)
    return x + 1.02 * total


def hardened(page: Page, start: nn.Module, x: Any, t: Any, epochs: int) -> nn.Module:
    """A net that goes on from a trained one, on digits that PGD attacks while it learns."""
    model = digit_net.DigitNet().to(page.device)
    model.load_state_dict(start.state_dict())
    optimizer = gf.optim.Adam(model.parameters(), 0.005)
    schedule = gf.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    loader = gf.data.DataLoader(gf.data.TensorDataset(x, t), 32, shuffle=True)
    for _ in page.steps(epochs, "adversarial training"):
        for images, labels in loader:
            attacked = pgd(model, images, labels, EPS, page.pick(4, 2), EPS / page.pick(2, 1.5))
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(attacked), labels).backward()
            optimizer.step()
        schedule.step()
    return model.eval().requires_grad_(False)


def run(page: Page) -> None:
    """All three attacks on a net and on one that was trained against them."""
    model, x, t = digit_net.trained(page)
    training = gf.data.digits(page.device)[0].tensors
    hard = hardened(page, model, *training, page.pick(20, 4))
    share = digit_net.accuracy(hard, x, t)
    page.result("digits read rightly after adversarial training", share, at_least=page.pick(0.95, 0.85), unit="%")
    success, lengths = {}, {}
    for name, net in (("plain", model), ("hardened", hard)):
        right = net(x).argmax(1) == t
        xr, tr = (a[right][: page.pick(len(x), 120)] for a in (x, t))
        attacks = {"FGSM": fgsm(net, xr, tr), "PGD": pgd(net, xr, tr, EPS, 20, EPS / 8), "minimum": nearest(net, xr, tr, 20)}
        success[name] = {k: 1 - digit_net.accuracy(net, y, tr) for k, y in attacks.items()}
        lengths[name] = (attacks["minimum"] - xr).flatten(1).square().sum(1).sqrt().cpu().numpy()
        if name == "plain":
            shown = attacks | {"digit": xr}
            read = {k: net(y).argmax(1).tolist() for k, y in shown.items()}
    for k, goal in (("FGSM", 0.3), ("PGD", 0.45)):
        before, after = success["plain"][k], success["hardened"][k]
        page.result(f"{k} with eps {EPS}: attack success before adversarial training", before, at_least=goal, unit="%")
        page.result(f"{k} with eps {EPS}: attack success after", after, at_most=page.pick(0.55, 0.9) * before, unit="%")
    page.result("minimum-norm attack: success before", success["plain"]["minimum"], at_least=0.98, unit="%")
    medians = {k: float(np.median(v)) for k, v in lengths.items()}
    page.result("minimum-norm attack: median length of the change, before", medians["plain"])
    page.result("the same after", medians["hardened"], at_least=page.pick(1.15, 1.02) * medians["plain"])
    rows = ("digit", "FGSM", "PGD", "minimum")
    images = [shown[k][i, 0].cpu().numpy() for k in rows for i in range(10)]
    titles = [f"{k}: {read[k][i]}" for k in rows for i in range(10)]
    figure = digit_net.tiles(page, images, titles, across=10, vmin=0, vmax=1)
    page.picture(figure, "attacks.png", "Ten digits, attacked in three ways, with what the plain net reads.")
    figure = page.figure(7, 3.6)
    axes = figure.subplots()
    bins = np.linspace(0, max(v.max() for v in lengths.values()), 40)
    for (name, v), color in zip(lengths.items(), ("#d95f02", "#1f77b4"), strict=True):
        axes.hist(v, bins, alpha=0.6, color=color, label=f"{name} net, median {medians[name]:.2f}")
    axes.set(xlabel="length of the smallest change that the attack found", ylabel="digits")
    axes.legend(frameon=False)
    page.picture(figure, "distance.png", "How far the nearest wrongly read image is, before and after adversarial training.")


if __name__ == "__main__":
    raise SystemExit(main("adversarial"))
