"""Class activation maps and Grad-CAM: where in the image a net sees a class, though nobody ever told it where things are.

The score of a class is the mean over all places of sum_k w_ck a_k, so that sum, place by place, is a map of the class (CAM,
Zhou et al. 2016). Grad-CAM (Selvaraju et al. 2017) takes the mean gradient of the score instead of w_ck, which works at any
layer of any net, and here, at the last one, gives the same map. The net is trained on strips with one digit somewhere, by
the digit's name alone; then it is asked where it sees each of the two digits of a strip.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import gradflow as gf
from gradflow import nn
from gradflow.examples import digit_net
from gradflow.examples.page import Page
from gradflow.examples.runner import main

WIDTH = 20


def strips(digits: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Every digit (n, 1, 8, 8) on an empty strip (n, 1, 8, WIDTH), from its column `left` (n,) on."""
    x = np.zeros((len(digits), 1, 8, WIDTH), digits.dtype)
    for strip, digit, at in zip(x, digits, left, strict=True):
        strip[..., at : at + 8] = digit
    return x


def cam(model: nn.Module, x: Any, t: Any) -> Any:
    """The maps (n, h, w) of the classes t (n,): the last layer's maps, weighted as for the score."""
    w = model.classifier.weight[t][:, :, None, None]
    return (w * model.features(x)).sum(1)


def grad_cam(model: nn.Module, depth: int, x: Any, t: Any) -> Any:
    """The maps of the classes t by the mean gradient of their scores, at the maps of the first `depth` modules."""
    a = model.features[:depth](x).detach().requires_grad_()
    scores = model.classifier(model.features[depth:](a).mean((2, 3)))
    (g,) = gf.autograd.grad(scores.gather(1, t[:, None]).sum(), a)
    return (g.mean((2, 3), keepdim=True) * a).sum(1).detach()


def run(page: Page) -> None:
    """Train on strips of one digit, point at both digits of strips of two, and draw the maps."""
    r = np.random.default_rng(page.seed)
    training, held_out = ([a.numpy() for a in part.tensors] for part in gf.data.digits())
    images = strips(training[0], r.integers(WIDTH - 7, size=len(training[0])))
    x, t = (gf.tensor(a, device=page.device) for a in (images, training[1]))
    model = digit_net.fitted(page, x, t, page.pick(25, 6))
    a, b = held_out[0][0::2][:178], held_out[0][1::2][:178]
    ta, tb = held_out[1][0::2][:178], held_out[1][1::2][:178]
    other = ta != tb
    pair = strips(a[other], np.zeros(other.sum(), int)) + strips(b[other], np.full(other.sum(), WIDTH - 8))
    single = gf.tensor(strips(held_out[0], r.integers(WIDTH - 7, size=len(held_out[0]))), device=page.device)
    named = gf.tensor(held_out[1], device=page.device)
    share = digit_net.accuracy(model, single, named)
    page.result("strips of one digit read rightly", share, at_least=page.pick(0.95, 0.85), unit="%")
    x = gf.tensor(pair, device=page.device)
    classes = [gf.tensor(c[other], device=page.device) for c in (ta, tb)]
    maps: dict[str, list[np.ndarray]] = {"CAM": [], "Grad-CAM, last layer": [], "Grad-CAM, second layer": []}
    for c in classes:
        for name, m in zip(maps, (cam(model, x, c), grad_cam(model, 7, x, c), grad_cam(model, 4, x, c)), strict=True):
            maps[name].append(m.cpu().numpy())
    scale = maps["CAM"][0].shape[1] * maps["CAM"][0].shape[2]
    off = max(np.abs(p - q * scale).max() for p, q in zip(maps["CAM"], maps["Grad-CAM, last layer"], strict=True))
    page.result("CAM and Grad-CAM at the last layer differ by", float(off / np.abs(maps["CAM"][0]).max()), at_most=1e-5)
    for name, (first, second) in maps.items():
        half = first.shape[2] // 2
        side = [m.max(1).argmax(1) >= half for m in (first, second)]
        right = float((np.mean(~side[0]) + np.mean(side[1])) / 2)
        goal = page.pick(0.9, 0.75) if name == "CAM" else None
        page.result(f"{name}: maximum on the side of the digit that was asked for", right, at_least=goal, unit="%")
    figure = page.figure(11, 5.6)
    grid = figure.subplots(5, 5)
    for i in range(5):
        for row, (name, side) in enumerate([("", 0), *[(n, s) for n in ("CAM", "Grad-CAM, second layer") for s in (0, 1)]]):
            axes = grid[row, i]
            axes.imshow(pair[i, 0], cmap="gray_r", extent=(0, WIDTH, 8, 0))
            if name:
                m = maps[name][side][i]
                axes.imshow(np.maximum(m, 0), cmap="hot_r", alpha=0.6, extent=(0, WIDTH, 8, 0), interpolation="bilinear")
                axes.set_title(f"{name}: {(ta, tb)[side][other][i]}", fontsize=9)
    for axes in grid.flat:
        axes.set_axis_off()
    page.picture(figure, "maps.png", "Strips of two digits, and where the net sees each of the two, which it was never told.")


if __name__ == "__main__":
    raise SystemExit(main("grad_cam"))
