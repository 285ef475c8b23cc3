"""The layer zoo: every layer and criterion of the lecture's operator list, its value and its gradient checked on one page.

Values are compared with the formula written in NumPy: one line here, or a loop over windows in `plain_layers`. Gradients, of
the input and of the kernels, are compared with central differences by gf.autograd.gradcheck, in the full run those of the
second order, too. Inputs are random; the pictures show what the layers do to a photograph (scikit-image's cat) and to numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import gradflow as gf
from gradflow import nn
from gradflow.examples import layer_pictures
from gradflow.examples import plain_layers as plain
from gradflow.examples.page import Page
from gradflow.examples.runner import main

F = nn.functional


def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x))."""
    return 1 / (1 + np.exp(-x))


def norm(p: float) -> Any:
    """The p-norm of a window, as a function of it and the axes."""
    return lambda v, axes: (np.abs(v) ** p).sum(axes) ** (1 / p)


def seeded(layer: Any) -> Any:
    """A layer that draws the same numbers in every call, which differences need."""

    def run(x: Any) -> Any:
        gf.manual_seed(1)
        return layer(x)

    return run


# Name -> layer, formula.
ACTIVATIONS: dict[str, tuple[Any, Any]] = {
    "absolute": (gf.abs, lambda x: np.sqrt(x**2)),
    "ELU": (nn.ELU(0.7), lambda x: np.where(x > 0, x, 0.7 * (np.exp(x) - 1))),
    "hardtanh": (nn.Hardtanh(), lambda x: np.clip(x, -1, 1)),
    "leaky ReLU": (nn.LeakyReLU(0.1), lambda x: np.maximum(x, 0.1 * x)),
    "log-sigmoid": (nn.LogSigmoid(), lambda x: np.log(sigmoid(x))),
    "RReLU, mean slope": (nn.RReLU(0.1, 0.3).eval(), lambda x: np.where(x > 0, x, 0.2 * x)),
    "sigmoid": (nn.Sigmoid(), sigmoid),
    "softplus": (nn.Softplus(2), lambda x: np.log(1 + np.exp(2 * x)) / 2),
    "softshrink": (nn.Softshrink(), lambda x: np.sign(x) * np.maximum(np.abs(x) - 0.5, 0)),
}
# Name -> criterion of a score and a target, formula.
CRITERIA: dict[str, tuple[Any, Any]] = {
    "absolute error": (nn.L1Loss(), lambda x, t: np.abs(x - t).mean()),
    "MSE": (nn.MSELoss(), lambda x, t: ((x - t) ** 2).mean()),
    "smooth L1": (
        nn.SmoothL1Loss(),
        lambda x, t: np.where(np.abs(x - t) < 1, (x - t) ** 2 / 2, np.abs(x - t) - 0.5).mean(),
    ),
    "soft margin": (nn.SoftMarginLoss(), lambda x, t: np.log(1 + np.exp(-t * x)).mean()),
}


def elementwise(r: np.random.Generator, device: Any) -> Any:
    """Rows (name, layer, inputs, wanted) of activations and criteria."""
    x = 2 * r.standard_normal((4, 6))
    for name, (layer, formula) in ACTIVATIONS.items():
        yield name, layer, [x], formula(x)
    slopes = -seeded(nn.RReLU(0.1, 0.3))(gf.tensor(-np.ones_like(x), device=device)).cpu().numpy()
    assert slopes.min() >= 0.1 and slopes.max() <= 0.3
    yield "RReLU, random slopes", seeded(nn.RReLU(0.1, 0.3)), [x], np.where(x > 0, x, slopes * x)
    yield "gated linear", nn.GLU(), [x], x[:, :3] * sigmoid(x[:, 3:])
    signs = np.sign(r.standard_normal(x.shape))
    for name, (criterion, formula) in CRITERIA.items():
        yield name, lambda x, t=signs, c=criterion: c(x, gf.tensor(t, device=x.device)), [x], formula(x, signs)
    p, t = r.uniform(0.1, 0.9, x.shape), (signs + 1) / 2
    bce = -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean()
    yield "BCE", lambda p: nn.BCELoss()(p, gf.tensor(t, device=p.device)), [p], bce
    c, rows = r.integers(6, size=4), np.arange(4)
    nll = lambda x: nn.NLLLoss()(x, gf.tensor(c, device=x.device))
    yield "class NLL", nll, [np.log(p)], -np.log(p)[rows, c].mean()
    for power in (1, 2):
        margins = np.maximum(0, 1 - x[rows, c][:, None] + x) ** power
        margins[rows, c] = 0
        layer = lambda x, p=power: nn.MultiMarginLoss(p)(x, gf.tensor(c, device=x.device))
        yield f"multi-margin, p = {power}", layer, [x], margins.sum(1).mean() / 6
    labels = np.array([[1, 4, -1, 0, 0, 0], [3, -1, 0, 0, 0, 0], [0, 1, 2, -1, 0, 0], [5, 2, -1, 0, 0, 0]])
    total = 0.0
    for row, listed in zip(x, labels, strict=True):
        own = list(listed[: list(listed).index(-1)])
        total += sum(max(0, 1 - row[i] + row[j]) for i in own for j in range(6) if j not in own) / 6
    layer = lambda x: nn.MultiLabelMarginLoss()(x, gf.tensor(labels, device=x.device))
    yield "multi-label margin", layer, [x], total / 4


def spatial(r: np.random.Generator, d: int) -> Any:
    """Rows of the layers that move a window in d dimensions."""
    x = r.standard_normal((1, 2, *(7, 6, 5)[:d]))
    even, few = x[(..., *(slice(4),) * d)], x[(..., *(slice(3),) * d)]
    w, w1, wt = (r.standard_normal((*s, *(2,) * d)) for s in ((3, 2), (4, 1), (2, 3)))
    layer = lambda kind: getattr(nn, f"{kind}{d}d")
    conv, conv_t = getattr(F, f"conv{d}d"), getattr(F, f"conv_transpose{d}d")
    yield "average pooling", layer("AvgPool")(2), [x], plain.pooled(x, 2, 2, np.mean)
    yield "max pooling", layer("MaxPool")(3, 2), [x], plain.pooled(x, 3, 2, np.max)
    yield "dilated max pooling", layer("MaxPool")(2, 1, dilation=3), [x], plain.pooled(x, 2, 1, np.max, dilation=3)
    # An odd power keeps the sign in the sum, in PyTorch and here; so the inputs are positive.
    yield "LP pooling, p = 3", layer("LPPool")(3, 2), [np.abs(x)], plain.pooled(np.abs(x), 2, 2, norm(3))
    yield "adaptive average pooling", layer("AdaptiveAvgPool")(3), [x], plain.adaptive(x, 3, np.mean)
    yield "adaptive max pooling", layer("AdaptiveMaxPool")(3), [x], plain.adaptive(x, 3, np.max)
    if d > 1:
        u = gf.full((1, 2, d), 0.4, dtype=gf.float64)
        pool = lambda x: layer("FractionalMaxPool")(2, output_size=3, _random_samples=u.to(x.device))(x)
        yield "fractional max pooling", pool, [x], plain.fractional(x, 2, 3, 0.4)
    unpool = lambda x: layer("MaxUnpool")(2)(*layer("MaxPool")(2, return_indices=True)(x))
    yield "max unpooling", unpool, [even], plain.maxima_kept(even, 2)
    yield "convolution, stride 2", lambda x, w: conv(x, w, stride=2), [x, w], plain.convolved(x, w, stride=2)
    yield "dilated convolution", lambda x, w: conv(x, w, dilation=3), [x, w], plain.convolved(x, w, dilation=3)
    yield "depthwise convolution", lambda x, w: conv(x, w, groups=2), [x, w1], plain.convolved(x, w1, groups=2)
    yield "transposed convolution", lambda x, w: conv_t(x, w, stride=2), [few, wt], plain.transposed(few, wt, 2)
    sides = [(0, 0), (0, 0), *[(2, 1)] * d]
    yield "reflection padding", layer("ReflectionPad")((2, 1) * d), [x], np.pad(x, sides, "reflect")
    yield "replication padding", layer("ReplicationPad")((2, 1) * d), [x], np.pad(x, sides, "edge")
    yield "nearest upsampling", nn.Upsample(scale_factor=2), [few], plain.repeated(few, 2)
    mode = ("linear", "bilinear", "trilinear")[d - 1]
    yield f"{mode} upsampling", nn.Upsample(scale_factor=2, mode=mode), [few], plain.linear_upsampled(few, 2)
    if d == 2:
        columns = r.standard_normal((1, 8, 12))
        yield "im2col", nn.Unfold(2), [x], plain.columns(x, 2)
        yield "col2im", nn.Fold((4, 5), 2), [columns], plain.from_columns(columns, 4, 5, 2)


def run(page: Page) -> None:
    """Check every row, print the table, and draw."""
    r = np.random.default_rng(page.seed)
    rows = [(name, "", *row) for name, *row in elementwise(r, page.device)]
    rows += [(name, f"{d}d", *row) for d in (1, 2, 3) for name, *row in spatial(r, d)]
    table, worst, passed = [f"{'layer':28}{'value off by':>14}  gradient"], 0.0, 0
    for name, kind, layer, inputs, wanted in page.bar(rows, "zoo"):
        tensors = [gf.tensor(a, device=page.device, requires_grad=True) for a in inputs]
        y = layer(*tensors).detach().cpu().numpy()
        off = np.abs(y - wanted).max() if y.shape == np.shape(wanted) else np.inf
        holds = gf.autograd.gradcheck(layer, tensors, raise_exception=False)
        if not page.quick:
            holds = holds and gf.autograd.gradgradcheck(layer, tensors, raise_exception=False)
        worst, passed = max(worst, off), passed + holds
        table.append(f"{f'{name} {kind}':28}{off:14.1e}  {'agrees' if holds else 'DIFFERS'}")
    page.note("\n".join(table))
    page.result("rows of layers and criteria checked", len(rows), equal=69)
    page.result("largest error of a value", worst, at_most=1e-12)
    page.result("rows whose gradients agree with central differences", passed, equal=len(rows))
    caption = "What the layers that move a window make of a photograph of 64 x 64 pixels."
    page.picture(layer_pictures.photographs(page), "layers.png", caption)
    drawn = ACTIVATIONS | {f"{name}, target 1": row for name, row in CRITERIA.items()}
    caption = "Activations and criteria (solid) with their gradients (dashed)."
    page.picture(layer_pictures.curves(page, drawn), "curves.png", caption)


if __name__ == "__main__":
    raise SystemExit(main("layer_zoo"))
