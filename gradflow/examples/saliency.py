"""Saliency: which pixels a score depends on, by its gradient (Simonyan et al. 2013), and cleaner by guided backprop.

The saliency of a pixel is |d score / d pixel|. Guided backprop (Springenberg et al. 2014) lets only positive gradients pass
back through every ReLU: a hook on the module does that. Whether a map is true shows when the pixels that it names are
taken away: then the net must read worse than without as many pixels chosen by chance.
"""

from __future__ import annotations

from typing import Any

import gradflow as gf
from gradflow import nn
from gradflow.examples import digit_net
from gradflow.examples.page import Page
from gradflow.examples.runner import main


def gradient(model: nn.Module, x: Any, t: Any) -> Any:
    """The gradient by x (n, 1, h, w) of each image's score of its class t (n,)."""
    x = x.clone().requires_grad_()
    scores = model(x).gather(1, t[:, None])
    return gf.autograd.grad(scores.sum(), x)[0]


def guided_gradient(model: nn.Module, x: Any, t: Any) -> Any:
    """The same where every ReLU passes only positive gradients back."""
    hooks = [
        m.register_full_backward_hook(lambda module, inputs, outputs: (inputs[0].relu(),))
        for m in model.modules()
        if isinstance(m, nn.ReLU)
    ]
    try:
        return gradient(model, x, t)
    finally:
        for hook in hooks:
            hook.remove()


def without(x: Any, importance: Any, n: int) -> Any:
    """The images x with their n most important pixels at the mean of all images."""
    places = importance.flatten(1).topk(n, 1).indices
    grey = gf.full(places.shape, x.mean().item(), device=x.device)
    return x.flatten(1).scatter(1, places, grey).reshape(x.shape)


def run(page: Page) -> None:
    """Both maps, what is read without the pixels that they name, and pictures of both."""
    model, x, t = digit_net.trained(page)
    maps = {
        "saliency": gradient(model, x, t).abs(),
        "guided backprop": guided_gradient(model, x, t).abs(),
        "chance": gf.rand(*x.shape, device=page.device),
    }
    n = 12
    read = {name: digit_net.accuracy(model, without(x, m, n), t) for name, m in maps.items()}
    page.result(f"read rightly without {n} of 64 pixels by chance", read["chance"], unit="%")
    for name, goal in (("saliency", 0.15), ("guided backprop", 0.5)):
        page.result(f"read rightly without the {n} pixels of the largest {name}", read[name], unit="%")
        page.result(f"lost by {name} more than by chance", read["chance"] - read[name], at_least=goal, unit="%")
    first = [int((t == c).nonzero()[0, 0].item()) for c in range(10)]
    rows = [x, maps["saliency"], maps["guided backprop"], without(x, maps["saliency"], n)]
    names = ["digit", "|gradient|", "guided", f"without {n}"]
    images = [row[i, 0].cpu().numpy() for row in rows for i in first]
    titles = [name if c == 0 else "" for name in names for c in range(10)]
    figure = digit_net.tiles(page, images, titles, across=10)
    caption = "Digits, their saliency, guided backprop, and the digits without their most salient pixels."
    page.picture(figure, "saliency.png", caption)


if __name__ == "__main__":
    raise SystemExit(main("saliency"))
