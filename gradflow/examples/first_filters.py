"""First-layer filters: the only weights of a net that are pictures themselves, and what they see in a digit.

They begin as noise and learn the patches that digits are made of: strokes, edges and ends of strokes. The number says so:
how much of the filters lies in the plane of the eight directions in which patches of digits differ most (their principal
components), of the 25 that a 5 x 5 filter has. Noise would have 8 / 25 of it there.
"""

from __future__ import annotations

import numpy as np

import gradflow as gf
from gradflow.examples import digit_net
from gradflow.examples.page import Page
from gradflow.examples.runner import main


def share_in(directions: np.ndarray, filters: np.ndarray) -> float:
    """The part of the filters' (n, 25) squared length that lies in the span of orthonormal directions (k, 25)."""
    return float(((filters @ directions.T) ** 2).sum() / (filters**2).sum())


def run(page: Page) -> None:
    """Train, compare the filters with the principal components of patches, draw both and the feature maps of a digit."""
    gf.manual_seed(page.seed)
    start = digit_net.DigitNet().features[0].weight.detach().numpy().reshape(16, 25)
    gf.manual_seed(page.seed)
    model, x, _ = digit_net.trained(page)
    filters = model.features[0].weight.cpu().numpy().reshape(16, 25)
    patches = gf.nn.functional.unfold(x, 5).permute(0, 2, 1).reshape(-1, 25).cpu().numpy()
    _, _, directions = np.linalg.svd(patches - patches.mean(0), full_matrices=False)
    page.result("filters in the 8 main directions of patches, before training", share_in(directions[:8], start), unit="%")
    after = share_in(directions[:8], filters)
    page.result("the same after training", after, at_least=0.45, unit="%")
    maps = model.features[:2](x[:1])[0].cpu().numpy()
    figure = page.figure(11, 5)
    rows = [
        ("principal components of patches", directions[:16].reshape(16, 5, 5), "RdBu"),
        ("filters before training", start.reshape(16, 5, 5), "RdBu"),
        ("filters after training", filters.reshape(16, 5, 5), "RdBu"),
        ("what they see in this digit (left), after ReLU", maps, "gray_r"),
    ]
    for part, (title, images, colors) in zip(figure.subfigures(4, 1), rows, strict=True):
        part.suptitle(title, fontsize=10)
        axes = part.subplots(1, 17)
        for a in axes:
            a.set_axis_off()
        for a, image in zip(axes[1:], images, strict=True):
            top = np.abs(image).max()
            a.imshow(image, cmap=colors, vmin=-top if colors == "RdBu" else 0, vmax=top or 1)
        if colors == "gray_r":
            axes[0].imshow(x[0, 0].cpu().numpy(), cmap="gray_r")
    page.picture(figure, "filters.png", "Filters, positive in blue and negative in red, and the maps that they make of a digit.")


if __name__ == "__main__":
    raise SystemExit(main("first_filters"))
