"""Style transfer: the content of a photograph in the style of a texture (Gatys, Ecker and Bethge 2015).

An image is found by gradient descent on its pixels: its features should be those of the photograph at the same places
(content), the products of its features, summed over all places, those of the texture (style: the Gram matrix knows what
occurs together, not where), and neighbouring pixels should be alike (total variation). The features are the layers of a network
with random weights, which hold a texture nearly as well as those of a trained one (Ustyuzhaninov et al. 2016). Photograph and
textures are scikit-image's.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import gradflow as gf
from gradflow.examples.page import Page
from gradflow.examples.runner import main

F = gf.nn.functional


class RandomNet(gf.nn.Module):
    """Convolutions that are never trained: x (1, 1, h, w) to the maps of every layer, each after ReLU and half as large."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.layers = gf.nn.ModuleList()
        for before, width, side in zip((1, *widths), widths, (7, *[3] * (len(widths) - 1)), strict=False):
            w = gf.randn(width // 2, before, side, side)
            w = w - w.mean((1, 2, 3), keepdim=True)  # blind to brightness
            w = w / w.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
            layer = gf.nn.Conv2d(before, width, side, bias=False)
            layer.weight = gf.nn.Parameter(gf.cat([w, -w]), requires_grad=False)  # with their negatives ReLU loses nothing
            self.layers.append(layer)

    def forward(self, x: Any) -> list[Any]:
        """The maps (1, width, h', w') of every layer."""
        maps = []
        for layer in self.layers:
            maps.append(layer(x).relu())
            x = F.avg_pool2d(maps[-1], 2)
        return maps


def gram(maps: Any) -> Any:
    """(c, c): the mean over all places of the products of two maps."""
    a = maps.flatten(2)[0]
    return a @ a.T / a.shape[1]


def total_variation(x: Any) -> Any:
    """The mean absolute difference of neighbours."""
    return (x[..., 1:, :] - x[..., :-1, :]).abs().mean() + (x[..., 1:] - x[..., :-1]).abs().mean()


def style_distance(maps: list[Any], grams: list[Any]) -> Any:
    """How far the Gram matrices are from those wanted, as a part of the latter, mean over the layers."""
    parts = [(gram(a) - g).square().sum() / g.square().sum() for a, g in zip(maps, grams, strict=True)]
    return sum(parts) / len(parts)


def content_distance(maps: list[Any], wanted: list[Any]) -> Any:
    """How far the maps of the deeper half of the layers are from those wanted, as a part of the latter."""
    half = len(maps) // 2
    parts = [(a - b).square().sum() / b.square().sum() for a, b in zip(maps[half:], wanted[half:], strict=True)]
    return sum(parts) / len(parts)


def transferred(page: Page, net: RandomNet, photograph: Any, texture: Any, steps: int, title: str) -> Any:
    """The photograph in the style of the texture, both (1, 1, h, w)."""
    wanted, grams = net(photograph), [gram(a) for a in net(texture)]
    x = photograph.clone().requires_grad_()
    optimizer = gf.optim.Adam([x], 0.03)
    schedule = gf.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in page.steps(steps, title):
        optimizer.zero_grad()
        maps = net(x)
        loss = 20 * style_distance(maps, grams) + 0.3 * content_distance(maps, wanted) + 0.2 * total_variation(x)
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
    # A cut of each that shows what it is made of at the size of the photograph: bricks are larger than stones.
    textures = {"brick": data.brick()[:250, :250], "grass": data.grass()[:150, :150], "gravel": data.gravel()[:150, :150]}
    net = RandomNet(page.pick((32, 64, 96, 96), (16, 32))).to(page.device)
    figure = page.figure(11, 6)
    grid = figure.subplots(2, 4)
    for axes in grid.flat:
        axes.set_axis_off()
    shown = [(0, 0, "photograph", photograph)]
    for column, name in enumerate(textures, 1):
        texture = read(textures[name] / 255)
        x = transferred(page, net, photograph, texture, page.pick(250, 50), name)
        grams, wanted = [gram(a) for a in net(texture)], net(photograph)
        before, after = (style_distance(net(image), grams).item() for image in (photograph, x))
        page.result(f"{name}: distance of style from the texture, before", before)
        page.result(f"{name}: distance of style after", after, at_most=before / page.pick(30, 10))
        near, far = (content_distance(net(image), wanted).item() for image in (x, texture))
        page.result(f"{name}: distance of content, as a part of the texture's own", near / far, at_most=0.8)
        shown += [(0, column, name, texture), (1, column, f"photograph, as {name}", x)]
    for row, column, title, image in shown:
        grid[row, column].imshow(image[0, 0].cpu().numpy(), cmap="gray", vmin=0, vmax=1)
        grid[row, column].set_title(title)
    page.picture(figure, "style.png", "A photograph, textures, and the photograph in the style of each.")


if __name__ == "__main__":
    raise SystemExit(main("style"))
