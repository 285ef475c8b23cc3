"""A full convolution by hand: 3 x 3 with 2 x 2 gives 4 x 4, by four roads that meet.

A convolution lays the flipped kernel over every place where it touches the image at all: (3 + 2 - 1)^2 = 16 places. What nets
call a convolution is a cross-correlation, which does not flip; so the flipped kernel with padding 1 gives the full
convolution, and so does the transposed convolution, which instead puts the kernel, times a pixel, on every pixel and adds up
(Dumoulin and Visin 2016). It is also how the gradient of a convolution finds back to its input.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import gradflow as gf
from gradflow.examples.page import Page
from gradflow.examples.runner import main

F = gf.nn.functional
IMAGE = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
KERNEL = [[1, 2], [3, 4]]
ANSWER = [[1, 4, 7, 6], [7, 23, 33, 24], [19, 53, 63, 42], [21, 52, 59, 36]]  # by pencil


def places(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """The definition, y[i, j] = sum over a, b of kernel[a, b] image[i - a, j - b], where the image has such a pixel."""
    (h, w), (kh, kw) = image.shape, kernel.shape
    y = np.zeros((h + kh - 1, w + kw - 1))
    for i, j in np.ndindex(y.shape):
        y[i, j] = sum(kernel[a, b] * image[i - a, j - b] for a, b in np.ndindex(kh, kw) if 0 <= i - a < h and 0 <= j - b < w)
    return y


def run(page: Page) -> None:
    """The roads, and the gradient of the sum of the answer."""
    x, w = (gf.tensor(v, dtype=gf.float64, device=page.device)[None, None].requires_grad_() for v in (IMAGE, KERNEL))
    with gf.no_grad():
        found = {
            "by its definition": places(np.array(IMAGE), np.array(KERNEL)).tolist(),
            "correlation with the flipped kernel, padding 1": F.conv2d(x, w.flip((2, 3)), padding=1)[0, 0].tolist(),
            "transposed convolution": F.conv_transpose2d(x, w)[0, 0].tolist(),
        }
    for road, y in found.items():
        page.result(f"4 x 4, {road}", _rows(y), equal=_rows(ANSWER))
    # Going back through a correlation, a full convolution spreads the gradient over the input.
    g = gf.tensor(KERNEL, dtype=gf.float64, device=page.device)[None, None]
    big = gf.zeros(1, 1, 4, 4, dtype=gf.float64, device=page.device, requires_grad=True)
    F.conv2d(big, x.detach()).backward(g)  # 4 x 4 by the image as a kernel is 2 x 2, whose gradient is the kernel
    page.result("4 x 4, as the gradient of a correlation", _rows(big.grad[0, 0].tolist()), equal=_rows(ANSWER))
    page.picture(_drawn(page), "full.png", "The image, the kernel flipped as it is laid over it, the answer; one place is marked.")


def _rows(y: list[list[float]]) -> str:
    return " / ".join(" ".join(f"{v:g}" for v in row) for row in y)


def _drawn(page: Page) -> Any:
    figure = page.figure(10, 4)
    flipped = [row[::-1] for row in KERNEL[::-1]]
    names = ("image, 3 x 3", "kernel flipped, 2 x 2", "full convolution, 4 x 4")
    for axes, name, values in zip(figure.subplots(1, 3), names, (IMAGE, flipped, ANSWER), strict=True):
        axes.imshow(values, cmap="Blues", vmax=1.6 * np.max(values))
        for i, j in np.ndindex(len(values), len(values)):
            axes.text(j, i, str(values[i][j]), ha="center", va="center", fontsize=15)
        axes.set_title(name, loc="left")
        axes.set(xticks=[], yticks=[], xlim=(-0.5, 3.5), ylim=(3.5, -0.5))
        axes.spines[:].set_visible(False)
    figure.axes[0].add_patch(_frame(0, 1))
    figure.axes[1].add_patch(_frame(0, 0))
    figure.axes[2].add_patch(_frame(1, 2, 1))
    figure.axes[2].set_xlabel("53 = 4 x 4 + 5 x 3 + 7 x 2 + 8 x 1")
    return figure


def _frame(x: int, y: int, size: int = 2) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.5, y - 0.5), size, size, fill=False, edgecolor="#d95f02", linewidth=3)


if __name__ == "__main__":
    raise SystemExit(main("full_convolution"))
