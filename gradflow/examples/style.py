"""Style transfer: the content of a photograph in the style of a texture (Gatys, Ecker and Bethge 2015).

An image is found by gradient descent on its pixels: its features should be those of the photograph at the same places
(content), the products of its features, summed over all places, those of the texture (style: the Gram matrix knows what
occurs together, not where), and neighbouring pixels should be alike (total variation). The features are those of random
filters at several scales, which hold a texture nearly as well as a trained net (Ustyuzhaninov et al. 2016). Photograph and
textures are scikit-image's.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import gradflow as gf
from gradflow.examples.page import Page
from gradflow.examples.runner import main

F = gf.nn.functional


class Filters(gf.nn.Module):
    """Random filters without a mean, and ReLU, at scales 1, 1/2, 1/4, ...: x (1, 1, h, w) to a list of maps."""

    def __init__(self, count: int, scales: int) -> None:
        super().__init__()
        w = gf.randn(count, 1, 5, 5)
        w = w - w.mean((2, 3), keepdim=True)
        self.register_buffer("w", gf.cat([w, -w]) / w.square().sum((2, 3), keepdim=True).sqrt().repeat(2, 1, 1, 1))
        self.scales = scales

    def forward(self, x: Any) -> list[Any]:
        """The maps (1, 2 count, h', w') of every scale."""
        maps = []
        for _ in range(self.scales):
            maps.append(F.conv2d(x, self.w).relu())
            x = F.avg_pool2d(x, 2)
        return maps


def gram(maps: Any) -> Any:
    """(c, c): the mean over all places of the products of two maps."""
    a = maps.flatten(2)[0]
    return a @ a.T / a.shape[1]


def total_variation(x: Any) -> Any:
    """The mean absolute difference of neighbours."""
    return (x[..., 1:, :] - x[..., :-1, :]).abs().mean() + (x[..., 1:] - x[..., :-1]).abs().mean()


def style_distance(maps: list[Any], grams: list[Any]) -> Any:
    """How far the Gram matrices are from those wanted, as a part of the latter, mean over the scales."""
    parts = [(gram(a) - g).square().sum() / g.square().sum() for a, g in zip(maps, grams, strict=True)]
    return sum(parts) / len(parts)


def content_distance(maps: list[Any], wanted: list[Any]) -> Any:
    """How far the maps of the coarser scales are from those wanted, as a part of the latter."""
    parts = [(a - b).square().sum() / b.square().sum() for a, b in zip(maps[1:], wanted[1:], strict=True)]
    return sum(parts) / len(parts)


def transferred(page: Page, net: Filters, photograph: Any, texture: Any, steps: int, title: str) -> Any:
    """The photograph in the style of the texture, both (1, 1, h, w)."""
    wanted, grams = net(photograph), [gram(a) for a in net(texture)]
    x = photograph.clone().requires_grad_()
    optimizer = gf.optim.Adam([x], 0.03)
    schedule = gf.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in page.steps(steps, title):
        optimizer.zero_grad()
        maps = net(x)
        loss = 20 * style_distance(maps, grams) + 0.7 * content_distance(maps, wanted) + 0.2 * total_variation(x)
        loss.backward()
        optimizer.step()
        schedule.step()
        with gf.no_grad():
            x.clamp_(0, 1)
    return x.detach()


def run(page: Page) -> None:
    """A photograph in the styles of some textures, with both distances before and after."""
    from skimage import data, transform

    side = page.pick(160, 96)

    def read(image: np.ndarray) -> Any:
        small = transform.resize(image, (side, side), anti_aliasing=True)
        return gf.tensor(small.astype(np.float32), device=page.device)[None, None]

    photograph = read(data.chelsea()[20:290, 70:340].mean(2) / 255)
    textures = {"brick": data.brick(), "grass": data.grass(), "gravel": data.gravel()}
    net = Filters(page.pick(24, 12), page.pick(4, 3)).to(page.device)
    figure = page.figure(11, 6)
    grid = figure.subplots(2, 4)
    for axes in grid.flat:
        axes.set_axis_off()
    shown = [(0, 0, "photograph", photograph)]
    for column, name in enumerate(textures, 1):
        texture = read(textures[name][: 2 * side, : 2 * side] / 255)
        x = transferred(page, net, photograph, texture, page.pick(250, 50), name)
        grams, wanted = [gram(a) for a in net(texture)], net(photograph)
        before, after = (style_distance(net(image), grams).item() for image in (photograph, x))
        page.result(f"{name}: distance of style from the texture, before", before)
        page.result(f"{name}: distance of style after", after, at_most=before / page.pick(5, 2))
        near, far = (content_distance(net(image), wanted).item() for image in (x, texture))
        page.result(f"{name}: distance of content, as a part of the texture's own", near / far, at_most=0.8)
        shown += [(0, column, name, texture), (1, column, f"photograph, as {name}", x)]
    for row, column, title, image in shown:
        grid[row, column].imshow(image[0, 0].cpu().numpy(), cmap="gray", vmin=0, vmax=1)
        grid[row, column].set_title(title)
    page.picture(figure, "style.png", "A photograph, textures, and the photograph in the style of each.")


if __name__ == "__main__":
    raise SystemExit(main("style"))
