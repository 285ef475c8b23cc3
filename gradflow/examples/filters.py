"""Blur, sharpen, Laplacian and Sobel on a photograph: what a convolution can see with nine weights.

A 3 x 3 kernel is a question asked everywhere: how bright is it around here (blur), how much brighter than its surroundings is
this pixel (Laplacian; added to the picture it sharpens), does it get brighter to the right or downwards (Sobel and Feldman
1968; the root of their squared sum draws the edges). Nets learn such kernels, and so can one layer here: shown only the
photograph and its answer, it finds Sobel's nine weights. The photograph is scikit-image's cameraman.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import gradflow as gf
from gradflow.examples.page import Page
from gradflow.examples.runner import main

F = gf.nn.functional
KERNELS = {
    "blur": np.ones((3, 3)) / 9,
    "sharpen": np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]]),
    "Laplacian": np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]]),
    "Sobel, across": np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]),
    "Sobel, down": np.array([[-1, -2, -1], [0, 0, 0], [1, 2, 1]]),
}


def shifted(picture: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """The same by adding up nine shifted pictures, with the pixels at the border repeated."""
    wide = np.pad(picture, 1, mode="edge")
    h, w = picture.shape
    return sum(kernel[i, j] * wide[i : i + h, j : j + w] for i, j in np.ndindex(3, 3))


def filtered(x: gf.Tensor, kernel: gf.Tensor) -> gf.Tensor:
    """Pictures (n, 1, h, w) with kernels (k, 1, 3, 3): (n, k, h, w)."""
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernel)


def learned(x: gf.Tensor, y: gf.Tensor, rounds: int) -> np.ndarray:
    """The 3 x 3 kernel that gives y of x, by least squares from a start of zeros."""
    w = gf.zeros(1, 1, 3, 3, dtype=x.dtype, device=x.device, requires_grad=True)
    optimizer = gf.optim.LBFGS([w], max_iter=rounds, tolerance_grad=1e-12, tolerance_change=1e-14, line_search_fn="strong_wolfe")

    def closure() -> gf.Tensor:
        optimizer.zero_grad()
        loss = ((filtered(x, w) - y) ** 2).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    return w.detach().cpu().numpy()[0, 0]


def run(page: Page) -> None:
    """All filters at once, as the channels of one convolution; then one of them learned back."""
    from skimage import data

    picture = data.camera()[:: page.pick(1, 2), :: page.pick(1, 2)] / 255
    x = gf.tensor(picture, device=page.device)[None, None]
    kernels = gf.tensor(np.stack(list(KERNELS.values()))[:, None], dtype=gf.float64, device=page.device)
    y = filtered(x, kernels)
    found = dict(zip(KERNELS, y[0].cpu().numpy(), strict=True))
    apart = max(float(abs(found[name] - shifted(picture, kernel)).max()) for name, kernel in KERNELS.items())
    page.result("filters apart from nine shifted pictures by", apart, at_most=1e-12)
    edges = np.hypot(found["Sobel, across"], found["Sobel, down"])
    page.result("the sharpened picture apart from itself minus its Laplacian by",
                float(abs(found["sharpen"] - (picture - found["Laplacian"])).max()), at_most=1e-12)  # fmt: skip
    few = x[..., 40:168, 40:168]
    kernel = learned(few, filtered(few, kernels[3:4]), page.pick(300, 100))
    page.result("learned kernel apart from Sobel's by", float(abs(kernel - KERNELS["Sobel, across"]).max()), at_most=0.01)
    caption = "A photograph, what each kernel answers (grey is 0 where there are signs), and Sobel's kernel learned back."
    page.picture(_drawn(page, picture, found, edges, kernel), "filters.png", caption)


def _drawn(page: Page, picture: np.ndarray, found: dict[str, np.ndarray], edges: np.ndarray, kernel: np.ndarray) -> Any:
    figure = page.figure(12, 6.6)
    panels = list(figure.subplots(2, 4).flat)
    ranges = {"Laplacian": (-0.5, 0.5), "Sobel, across": (-2, 2), "Sobel, down": (-2, 2), "edges": (-2, 0)}
    for axes, (name, values) in zip(panels, {"photograph": picture, **found, "edges": -edges}.items(), strict=False):
        low, high = ranges.get(name, (0, 1))
        axes.imshow(values, cmap="gray", vmin=low, vmax=high)
        axes.set(title=name, xticks=[], yticks=[])
    last = panels[7]
    last.imshow(kernel, cmap="RdBu_r", vmin=-3, vmax=3)
    for i, j in np.ndindex(3, 3):
        last.text(j, i, f"{kernel[i, j].round(3) + 0.0:.3f}", ha="center", va="center")  # + 0.0: no minus before a zero
    last.set(title="learned from the photograph", xticks=[], yticks=[])
    return figure


if __name__ == "__main__":
    raise SystemExit(main("filters"))
