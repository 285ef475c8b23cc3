"""Deep dream: a photograph is changed until a net sees more of what it knows (Mordvintsev, Olah and Tyka 2015).

The net tells textures apart: patches of scikit-image's brick, grass, gravel and a printed page, from whose left halves it
learns. The dreamer climbs the size of a whole layer's maps, or the score of one texture, by gradient steps on the pixels:
first on a small copy of the photograph, then on larger ones (octaves), each shifted at random (jitter).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import gradflow as gf
from gradflow import nn
from gradflow.examples import digit_net
from gradflow.examples.page import Page
from gradflow.examples.runner import main

SIDE = 24
F = nn.functional


class TextureNet(nn.Module):
    """x (n, 1, h, w) to the scores (n, 4). It pools by means: maxima pass gradients to single pixels, and dreams get a grid."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.AvgPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2),
            nn.Conv2d(32, 48, 3, padding=1), nn.ReLU(),
        )  # fmt: skip
        self.classifier = nn.Linear(48, 4)

    def forward(self, x: Any) -> Any:
        """The scores of the four textures."""
        return self.classifier(self.features(x).mean((2, 3)))


def patches(r: np.random.Generator, images: dict[str, np.ndarray], n: int) -> tuple[np.ndarray, np.ndarray]:
    """n patches of each image (4 n, 1, SIDE, SIDE), of mean 0 and deviation 1, and which image each is from."""
    found = []
    for image in images.values():
        for _ in range(n):
            i, j = (r.integers(s - SIDE + 1) for s in image.shape)
            found.append(image[i : i + SIDE, j : j + SIDE])
    x = np.stack(found)[:, None].astype(np.float32)
    x = (x - x.mean((1, 2, 3), keepdims=True)) / (x.std((1, 2, 3), keepdims=True) + 0.05)
    return x, np.repeat(np.arange(len(images)), n)


def dreamed(page: Page, goal: Callable[[Any], Any], x: Any, steps: int, title: str, rate: float = 0.04) -> Any:
    """The image x (1, 1, h, w), changed to raise goal(x), in three octaves."""
    sizes = [tuple(int(s * f) for s in x.shape[2:]) for f in (0.5, 0.71, 1.0)]
    change = gf.zeros(1, 1, *sizes[0], device=x.device)
    for size in page.bar(sizes, title):
        base = F.interpolate(x, size=size, mode="bilinear")
        change = F.interpolate(change, size=size, mode="bilinear")
        for _ in range(steps):
            shift = tuple(gf.randint(-8, 9, (2,)).tolist())
            y = gf.roll(base + change, shift, (2, 3)).requires_grad_()
            (g,) = gf.autograd.grad(goal(y), y)
            g = gf.roll(g, (-shift[0], -shift[1]), (2, 3))
            change = (change + rate * g / (g.abs().mean() + 1e-9)).clamp(-2, 2)
    return x + change


def run(page: Page) -> None:
    """Train on patches of textures, dream of two layers and of every texture, and see what the net reads then."""
    from skimage import data, transform

    r = np.random.default_rng(page.seed)
    textures = {"brick": data.brick(), "grass": data.grass(), "gravel": data.gravel(), "print": data.page()}
    half = {k: transform.resize(a / 255, [s // 2 for s in a.shape], anti_aliasing=True) for k, a in textures.items()}
    half["print"] = transform.resize(data.page() / 255, data.page().shape)  # its letters are small already
    x, t = patches(r, {k: a[:, : a.shape[1] // 2] for k, a in half.items()}, page.pick(500, 120))
    model = TextureNet().to(page.device)
    optimizer = gf.optim.Adam(model.parameters(), 0.005)
    training = gf.data.TensorDataset(*(gf.tensor(a, device=page.device) for a in (x, t)))
    loader = gf.data.DataLoader(training, 32, shuffle=True)
    gf.train.fit(model, nn.CrossEntropyLoss(), optimizer, loader, epochs=page.pick(12, 6), report=None)
    model.eval().requires_grad_(False)
    x, t = (gf.tensor(a, device=page.device) for a in patches(r, {k: a[:, a.shape[1] // 2 :] for k, a in half.items()}, 60))
    page.result("patches of the other halves told apart", digit_net.accuracy(model, x, t), at_least=page.pick(0.8, 0.6), unit="%")

    side, steps = page.pick((192, 60), (96, 14))
    cat = transform.resize(data.chelsea()[20:290, 70:340].mean(2) / 255, (side, side), anti_aliasing=True)
    photograph = gf.tensor(((cat - cat.mean()) / cat.std()).astype(np.float32), device=page.device)[None, None]
    images = {"photograph": photograph}
    for name, depth in (("second layer", 5), ("third layer", 8)):

        def energy(v: Any, depth: int = depth) -> Any:
            return model.features[:depth](v).square().mean()

        y = images[f"dream of the {name}"] = dreamed(page, energy, photograph, steps // 2, name)
        before, after = (energy(v).sqrt().item() for v in (photograph, y))
        page.result(f"{name}: activation, as a multiple of the photograph's", after / before, at_least=page.pick(3.0, 1.5))
    read = 0
    for c, name in enumerate(textures):

        def score(v: Any, c: int = c) -> Any:
            scores = model(v)[0]
            return scores[c] + scores.log_softmax(0)[c]

        y = images[f"dream of {name}"] = dreamed(page, score, photograph, steps, name)
        read += int(model(y).argmax(1)[0].item() == c)
    page.result("dreams of one of the 4 textures that the net reads as it", read, at_least=page.pick(4, 3))
    shown = [np.clip(v[0, 0].cpu().numpy(), -2.5, 2.5) for v in images.values()]
    figure = digit_net.tiles(page, shown, list(images), across=4, side=2.7, cmap="gray")
    page.picture(figure, "dreams.png", "A photograph, and what it becomes when two layers, and four textures, are to see more.")


if __name__ == "__main__":
    raise SystemExit(main("deep_dream"))
