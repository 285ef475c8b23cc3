"""Four norms of a matrix and their gradients, against closed forms from the singular values A = sum_i s_i u_i v_i^T.

  spectral    s_1                     gradient u_1 v_1^T                 the one direction that is stretched most
  Frobenius   sqrt(sum a_ij^2)        gradient A / |A|_F                 all elements alike
  nuclear     sum_i s_i               gradient U V^T                     all directions alike: its descent lowers the rank
  max         max |a_ij|              gradient sign(a_ij) at its place   one element

Steps of proximal descent (Cai, Candes and Shen 2010) on the nuclear norm fill in a photograph of which half the pixels are
missing: the fewer directions, the more each pixel says about the others.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import gradflow as gf
from gradflow.examples.page import Page
from gradflow.examples.runner import main

NORMS: dict[str, Any] = {
    "spectral": lambda a: gf.linalg.matrix_norm(a, 2),
    "Frobenius": lambda a: gf.linalg.matrix_norm(a, "fro"),
    "nuclear": lambda a: gf.linalg.matrix_norm(a, "nuc"),
    "max": lambda a: a.abs().amax((-2, -1)),
}


def closed_forms(a: np.ndarray) -> dict[str, tuple[float, np.ndarray]]:
    """Every norm's value and gradient by NumPy's singular values."""
    u, s, vt = np.linalg.svd(a, full_matrices=False)
    length = np.sqrt((a**2).sum())
    top = np.abs(a).max()
    return {
        "spectral": (s[0], np.outer(u[:, 0], vt[0])),
        "Frobenius": (length, a / length),
        "nuclear": (s.sum(), u @ vt),
        "max": (top, np.sign(a) * (np.abs(a) == top)),
    }


def filled(page: Page, picture: np.ndarray, known: np.ndarray, steps: int) -> np.ndarray:
    """The picture from its known pixels: gradient steps on half the squared error there, and after each, singular values
    lowered by a threshold that sinks to nearly nothing.
    """
    target, mask = (gf.tensor(a, device=page.device) for a in (picture, known.astype(float)))
    x = (target * mask).requires_grad_()
    for i in page.steps(steps, "fill in"):
        loss = (((x - target) * mask) ** 2).sum() / 2
        (g,) = gf.autograd.grad(loss, x)
        u, s, vt = gf.linalg.svd((x - g).detach(), full_matrices=False)
        threshold = 10 * (0.02 / 10) ** (i / steps)
        x = ((u * (s - threshold).relu()) @ vt).requires_grad_()
    return x.detach().cpu().numpy()


def run(page: Page) -> None:
    """Values and gradients of a random matrix; the norms of two-by-two matrices drawn; a photograph filled in."""
    r = np.random.default_rng(page.seed)
    numbers = r.standard_normal((6, 4))
    a = gf.tensor(numbers, device=page.device, requires_grad=True)
    for name, (value, gradient) in closed_forms(numbers).items():
        y = NORMS[name](a)
        (g,) = gf.autograd.grad(y, a)
        error = max(abs(y.item() - value), np.abs(g.cpu().numpy() - gradient).max())
        page.result(f"{name} norm and its gradient differ from the closed form by", float(error), at_most=1e-12)
    caption = "Level sets of the norms of [[x, y], [y, x / 2]], with gradients (arrows); on dotted lines the rank is one."
    page.picture(level_sets(page), "norms.png", caption)

    from skimage import data, transform

    side = page.pick(128, 64)
    photograph = transform.resize(data.camera()[:, 64:448] / 255, (side, side), anti_aliasing=True)
    known = r.random(photograph.shape) < 0.5
    guess = np.where(known, photograph, photograph[known].mean())
    x = filled(page, photograph, known, page.pick(200, 60))
    errors = [float(np.sqrt(((p - photograph)[~known] ** 2).mean())) for p in (guess, x)]
    page.result("error of missing pixels, filled with the mean", errors[0])
    page.result("error of missing pixels, filled by the nuclear norm", errors[1], at_most=errors[0] / 2)
    figure = page.figure(10, 3.7)
    shown = {"half the pixels": np.where(known, photograph, 1), "filled in": np.clip(x, 0, 1), "the photograph": photograph}
    for axes, (title, image) in zip(figure.subplots(1, 3), shown.items(), strict=True):
        axes.imshow(image, cmap="gray", vmin=0, vmax=1)
        axes.set_title(title)
        axes.set_axis_off()
    page.picture(figure, "filled.png", "A photograph from half of its pixels by a low nuclear norm.")


def level_sets(page: Page) -> Any:
    """Each norm over the plane of matrices [[x, y], [y, x / 2]], with its gradient."""
    figure = page.figure(12, 3.6)
    fine, coarse = (np.stack(np.meshgrid(line, line), -1) for line in (np.linspace(-1, 1, 101), np.linspace(-0.9, 0.9, 8)))
    for axes, (name, norm) in zip(figure.subplots(1, 4), NORMS.items(), strict=True):
        sides = []
        for grid in (fine, coarse):
            p = gf.tensor(grid, device=page.device, requires_grad=True)
            x, y = p[..., 0], p[..., 1]
            values = norm(gf.stack([gf.stack([x, y], -1), gf.stack([y, x / 2], -1)], -2))
            sides.append((values, gf.autograd.grad(values.sum(), p)[0]))
        values, g = sides[0][0].detach().cpu().numpy(), sides[1][1].cpu().numpy()
        axes.contour(fine[..., 0], fine[..., 1], values, levels=np.arange(0.2, 3, 0.2), cmap="viridis", linewidths=1)
        axes.quiver(coarse[..., 0], coarse[..., 1], g[..., 0], g[..., 1], color="#d95f02", scale=24, width=0.008)
        for way in (-1, 1):
            axes.plot((-1, 1), np.array((-way, way)) / np.sqrt(2), ":", color="#888888", linewidth=1)
        axes.set(title=name, xlabel="x", aspect="equal", xlim=(-1, 1), ylim=(-1, 1))
    figure.axes[0].set_ylabel("y")
    return figure


if __name__ == "__main__":
    raise SystemExit(main("matrix_norms"))
