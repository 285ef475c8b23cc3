"""Pictures of layers: what they make of a photograph, and their values and slopes along a line."""

from __future__ import annotations

from typing import Any

import numpy as np

import gradflow as gf
from gradflow import nn
from gradflow.examples.page import Page
from gradflow.nn import functional


def photographs(page: Page) -> Any:
    """A photograph after each of the layers in two dimensions."""
    from skimage import data, transform

    cat = transform.resize(data.chelsea()[20:290, 70:340].mean(2) / 255, (64, 64), anti_aliasing=True)
    x = gf.tensor(cat, device=page.device)[None, None]
    sobel = gf.tensor(np.array([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]]), device=page.device)[None, None]
    bump = gf.tensor(np.outer((1, 2, 1), (1, 2, 1)) / 4.0, device=page.device)[None, None]
    small, indices = nn.MaxPool2d(4, return_indices=True)(x)
    eye = x[..., 14:38, 4:28]
    shown = {
        "photograph": x, "average pooling, 4": nn.AvgPool2d(4)(x), "max pooling, 4": small,
        "max pooling, 5, stride 1": nn.MaxPool2d(5, 1)(x), "the same, dilated by 3": nn.MaxPool2d(5, 1, dilation=3)(x),
        "LP pooling, p = 4": nn.LPPool2d(4, 4)(x), "adaptive max, 9 x 5": nn.AdaptiveMaxPool2d((9, 5))(x),
        "fractional max, 45 x 45": nn.FractionalMaxPool2d(2, output_size=45)(x),
        "max unpooling": nn.MaxUnpool2d(4)(small, indices), "convolution (Sobel)": functional.conv2d(x, sobel),
        "Sobel dilated by 3": functional.conv2d(x, sobel, dilation=3),
        "transposed convolution": functional.conv_transpose2d(eye, bump, stride=2),
        "reflection padding, 24": nn.ReflectionPad2d(24)(x), "replication padding, 24": nn.ReplicationPad2d(24)(x),
        "nearest upsampling": nn.Upsample(scale_factor=4)(eye),
        "bilinear upsampling": nn.Upsample(scale_factor=4, mode="bilinear")(eye),
    }  # fmt: skip
    figure = page.figure(11, 11.6)
    for axes, (name, y) in zip(figure.subplots(4, 4).flat, shown.items(), strict=True):
        axes.imshow(y[0, 0].cpu().numpy(), cmap="gray")
        axes.set_title(f"{name}\n{y.shape[2]} x {y.shape[3]}", fontsize=10)
        axes.set_axis_off()
    return figure


def curves(page: Page, draw: dict[str, Any]) -> Any:
    """Activations, and criteria where the name tells a target, of one number, and what the tape says of their slopes."""
    figure = page.figure(12, 7.2)
    for axes, (name, (layer, _)) in zip(figure.subplots(3, 5).flat, draw.items(), strict=False):
        x = gf.linspace(-3, 3, 301, device=page.device, dtype=gf.float64).requires_grad_()
        if "target" in name:  # the criteria are means: one call for every number
            y = gf.stack([layer(v, gf.ones_like(v)) for v in x])
        else:
            y = layer(x)
        (slope,) = gf.autograd.grad(y.sum(), x)
        at = x.detach().cpu().numpy()
        axes.plot(at, y.detach().cpu().numpy(), color="#1f77b4", label="value")
        axes.plot(at, slope.cpu().numpy(), "--", color="#d95f02", linewidth=1.2, label="gradient")
        axes.set_title(name, fontsize=10)
        axes.grid(alpha=0.3)
        axes.set_ylim(-3.2, 3.2)
    for axes in figure.axes[len(draw) :]:
        axes.set_axis_off()
    figure.axes[0].legend(frameon=False, fontsize=8, loc="lower right")
    return figure
