"""Class visualisation: the image that a net finds most like a class, by gradient ascent on its pixels (Simonyan et al. 2013).

From noise, ascent on score_c(x) + log p_c(x) - l2 |x|^2, where the image is shifted by a random pixel in every step
(jitter), so that nothing that hangs on exact places survives. The same ascent on one unit shows what that unit stands for.
The test of a picture is a stranger's eye: does a second net, trained from another start, read it as the class? Of a net that
was hardened against attacks, as in `adversarial`, the images look more like digits: it cannot rely on what we do not see
(Santurkar et al. 2019).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradflow as gf
from gradflow.examples import digit_net
from gradflow.examples.adversarial import hardened
from gradflow.examples.page import Page
from gradflow.examples.runner import main


def ascended(page: Page, value: Callable[[Any], Any], n: int, l2: float, jitter: int, steps: int, title: str) -> Any:
    """n images (n, 1, 8, 8) that each raise value(x) (n,) by Adam, with pixels kept in [0, 1]."""
    x = (0.2 * gf.rand(n, 1, 8, 8, device=page.device)).requires_grad_()
    optimizer = gf.optim.Adam([x], 0.05)
    for i in page.steps(steps, title):
        shift = tuple(gf.randint(-jitter, jitter + 1, (2,)).tolist()) if i < 0.8 * steps else (0, 0)
        optimizer.zero_grad()
        goal = value(gf.roll(x, shift, (2, 3))) - l2 * (x**2).sum((1, 2, 3))
        (-goal.sum()).backward()
        optimizer.step()
        with gf.no_grad():
            x.clamp_(0, 1)
    return x.detach()


def run(page: Page) -> None:
    """Images of all classes with and without L2 and jitter, and of a hardened net, read by a second net; images of units."""
    model, held_out, _ = digit_net.trained(page)
    other, _, _ = digit_net.trained(page)
    hard = hardened(page, model, *gf.data.digits(page.device)[0].tensors, page.pick(10, 2))
    classes, steps = gf.arange(10, device=page.device), page.pick(300, 80)
    images = {}
    for name, net, l2, jitter in (
        ("score alone", model, 0.0, 0), ("L2", model, 0.3, 0), ("L2, jitter", model, 0.3, 1), ("hardened", hard, 0.3, 1),
    ):  # fmt: skip

        def score(x: Any, net: Any = net) -> Any:
            scores = net(x)
            return (scores + scores.log_softmax(1)).gather(1, classes[:, None])[:, 0]

        x = images[name] = ascended(page, score, 10, l2, jitter, steps, name)
        own, stranger = (int((n(x).argmax(1) == classes).sum().item()) for n in (net, other))
        page.result(f"of 10 images ({name}), read as their class by the net", own, at_least=9)
        goal = 4 if net is hard else None  # by chance it were 1
        page.result(f"of 10 images ({name}), read as their class by another net", stranger, at_least=goal)
    shown = [x[c, 0].cpu().numpy() for x in images.values() for c in range(10)]
    titles = [f"{c}: {name}" if c == 0 else f"{c}" for name in images for c in range(10)]
    figure = digit_net.tiles(page, shown, titles, across=10, vmin=0, vmax=1)
    caption = "The image of each class: by its score alone, with L2, with L2 and jitter, and the same of a hardened net."
    page.picture(figure, "classes.png", caption)

    units_of = model.features[:-1]  # without the last ReLU: a unit that is off has a gradient, too
    maps = units_of(held_out)
    best = maps.amax((0, 2, 3))
    units = best.topk(10).indices

    def activation(x: Any) -> Any:
        return units_of(x).amax((2, 3)).gather(1, units[:, None])[:, 0]

    x = ascended(page, activation, 10, 0.02, 0, steps, "units")
    ratio = activation(x) / best[units]
    page.result("activation of units by their images, as a multiple of the best digit's, mean", ratio.mean(), at_least=1.0)
    top = [int(maps[:, u].amax((1, 2)).argmax().item()) for u in units.tolist()]
    shown = [image[0].cpu().numpy() for image in [*x, *(held_out[i] for i in top)]]
    titles = [f"unit {u}" for u in units.tolist()] + ["best digit"] * 10
    figure = digit_net.tiles(page, shown, titles, across=10, vmin=0, vmax=1)
    page.picture(figure, "units.png", "What activates ten units of the third layer most, above the best of the digits.")


if __name__ == "__main__":
    raise SystemExit(main("class_images"))
