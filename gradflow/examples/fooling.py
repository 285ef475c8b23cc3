"""Fooling images: a digit that looks like itself and that the net reads, surely, as any other (Szegedy et al. 2013).

From a digit of each class, small normalised steps climb the score of a wrong class until the net gives it a probability of
90 %. All 90 pairs are tried; the change that it took stays far below the difference between two digits.
"""

from __future__ import annotations

from typing import Any

import gradflow as gf
from gradflow.examples import digit_net
from gradflow.examples.page import Page
from gradflow.examples.runner import main

SURE = 0.9


def fooled(model: Any, x: Any, t: Any, steps: int, length: float = 0.1) -> Any:
    """Images near x (n, 1, h, w) that the model reads as t (n,), each changed until it is sure, by steps of one length."""
    x = x.clone()
    for _ in range(steps):
        x.requires_grad_()
        log_p = model(x).log_softmax(1).gather(1, t[:, None])[:, 0]
        (g,) = gf.autograd.grad(log_p.sum(), x)
        going = (log_p.detach().exp() < SURE).float()[:, None, None, None]
        if not going.any():
            break
        x = (x.detach() + going * length * g / (g.square().sum((1, 2, 3), keepdim=True).sqrt() + 1e-12)).clamp(0, 1)
    return x.detach()


def run(page: Page) -> None:
    """All pairs of a digit and a wrong class; how many succeed and how far they went."""
    model, x, t = digit_net.trained(page)
    first = [int((t == c).nonzero()[0, 0].item()) for c in range(10)]
    starts = x[first].repeat_interleave(10, 0)
    wanted = gf.arange(10, device=page.device).repeat(10)
    images = fooled(model, starts, wanted, page.pick(200, 60))
    sure = model(images).softmax(1).gather(1, wanted[:, None])[:, 0]
    different = wanted != gf.arange(10, device=page.device).repeat_interleave(10)
    success = float((sure[different] >= SURE).float().mean().item())
    page.result("pairs of digit and wrong class that fool the net with 90 % or more", success, at_least=0.95, unit="%")
    change = (images - starts).square().mean((1, 2, 3)).sqrt()[different].mean().item()
    between = (x[first][:, None] - x[first][None]).square().mean((2, 3, 4)).sqrt().sum().item() / 90
    page.result("root mean square change of a pixel", change)
    page.result("the change as a part of the difference between two digits", change / between, at_most=0.5, unit="%")
    shown = [image[0].cpu().numpy() for image in images]
    titles = [f"as {c}: {p:.0%}" for c, p in zip(wanted.tolist(), sure.tolist(), strict=True)]
    figure = digit_net.tiles(page, shown, titles, across=10, side=0.95, vmin=0, vmax=1)
    page.picture(figure, "fooling.png", "Rows: a digit, changed until the net reads it as 0 to 9, with the probability it gives.")


if __name__ == "__main__":
    raise SystemExit(main("fooling"))
