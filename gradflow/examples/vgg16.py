"""VGG16, layer by layer: where a deep convolutional net has its activations and where its parameters, 138,357,544 of them.

Thirteen 3 x 3 convolutions in five blocks that end in pooling, then three linear layers (Simonyan and Zisserman 2014). The
table is printed from the live model, which is run once on a 224 x 224 picture. Most activations are in the first layers, most
parameters in the first linear one, 7 * 7 * 512 * 4096. What the layers give takes 15.2 million numbers with the picture, 61 MB
a picture in float32, and about as much again for gradients. (The notes of CS231n, whose rows these are, say 24 million and
93 MB; that is not the sum of their rows.) The weights are random: nobody trains this net in minutes.
"""

from __future__ import annotations

from typing import Any

import gradflow as gf
from gradflow.examples.page import Page
from gradflow.examples.runner import main

BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
# The table by arithmetic, layer by layer: (numbers in what it gives, parameters with biases).
TABLE = {
    "conv1_1": (224 * 224 * 64, (3 * 3 * 3 + 1) * 64), "conv1_2": (224 * 224 * 64, (3 * 3 * 64 + 1) * 64),
    "pool1": (112 * 112 * 64, 0),
    "conv2_1": (112 * 112 * 128, (3 * 3 * 64 + 1) * 128), "conv2_2": (112 * 112 * 128, (3 * 3 * 128 + 1) * 128),
    "pool2": (56 * 56 * 128, 0),
    "conv3_1": (56 * 56 * 256, (3 * 3 * 128 + 1) * 256), "conv3_2": (56 * 56 * 256, (3 * 3 * 256 + 1) * 256),
    "conv3_3": (56 * 56 * 256, (3 * 3 * 256 + 1) * 256), "pool3": (28 * 28 * 256, 0),
    "conv4_1": (28 * 28 * 512, (3 * 3 * 256 + 1) * 512), "conv4_2": (28 * 28 * 512, (3 * 3 * 512 + 1) * 512),
    "conv4_3": (28 * 28 * 512, (3 * 3 * 512 + 1) * 512), "pool4": (14 * 14 * 512, 0),
    "conv5_1": (14 * 14 * 512, (3 * 3 * 512 + 1) * 512), "conv5_2": (14 * 14 * 512, (3 * 3 * 512 + 1) * 512),
    "conv5_3": (14 * 14 * 512, (3 * 3 * 512 + 1) * 512), "pool5": (7 * 7 * 512, 0),
    "fc6": (4096, (7 * 7 * 512 + 1) * 4096), "fc7": (4096, (4096 + 1) * 4096), "fc8": (1000, (4096 + 1) * 1000),
}  # fmt: skip


class VGG16(gf.nn.Module):
    """Pictures (n, 3, 224, 224) to the scores (n, classes)."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        blocks, before = [], 3
        for widths in BLOCKS:
            layers: list[Any] = []
            for width in widths:
                layers += [gf.nn.Conv2d(before, width, 3, padding=1), gf.nn.ReLU(inplace=True)]
                before = width
            blocks.append(gf.nn.Sequential(*layers, gf.nn.MaxPool2d(2)))
        self.features = gf.nn.Sequential(*blocks)
        self.classifier = gf.nn.Sequential(
            gf.nn.Flatten(),
            gf.nn.Linear(512 * 7 * 7, 4096),
            gf.nn.ReLU(inplace=True),
            gf.nn.Dropout(),
            gf.nn.Linear(4096, 4096),
            gf.nn.ReLU(inplace=True),
            gf.nn.Dropout(),
            gf.nn.Linear(4096, classes),
        )

    def forward(self, x: Any) -> Any:
        """The scores of the classes."""
        return self.classifier(self.features(x))


def run(page: Page) -> None:
    """The table, its sums, and in a full run one gradient through all of it."""
    model = VGG16().to(page.device)
    summary = gf.nn.summary(model, (1, 3, 224, 224))
    page.note(str(summary))
    rows = [r for r in summary.rows if r.kind in ("Conv2d", "MaxPool2d", "Linear")]
    same = [(r.activations, r.parameters) == wanted for r, wanted in zip(rows, TABLE.values(), strict=True)]
    page.result("parameters", summary.parameters, equal=138_357_544)
    page.result("layers with the activations and parameters that arithmetic gives", sum(same), equal=len(TABLE))
    activations = sum(r.activations for r in rows)
    page.result("activations of convolutions, pooling and linear layers", activations, equal=15_087_080)
    memory = 4 * (3 * 224 * 224 + activations) / 1e6
    page.result("memory of the picture and all activations", memory, equal=60.95, within=5e-3, unit="MB")
    first = next(r for r in rows if r.kind == "Linear")
    page.result("parameters in the first linear layer", first.parameters / summary.parameters, equal=0.743, within=5e-4, unit="%")
    early = sum(r.activations for r in rows[:2]) / activations
    page.result("activations in the first two convolutions", early, equal=0.426, within=5e-4, unit="%")
    if not page.quick:
        loss, finite = one_gradient(page, model)
        page.result("loss of the untrained net on a photograph, ln 1000 = 6.908", loss, equal=6.908, within=0.2)
        page.result("parameters that got a gradient", finite, equal=32)
    caption = "Activations are in the first layers, parameters in the first linear one (both to their own scale, in millions)."
    page.picture(_drawn(page, rows), "vgg16.png", caption)


def one_gradient(page: Page, model: gf.nn.Module) -> tuple[float, int]:
    """The loss on scikit-image's astronaut, and how many parameters got a finite gradient that is not 0."""
    from skimage import data

    picture = gf.tensor(data.astronaut()[144:368, 144:368] / 127.5 - 1, device=page.device).float().permute(2, 0, 1)[None]
    loss = gf.nn.functional.cross_entropy(model.eval()(picture), gf.tensor([0], device=page.device))
    loss.backward()
    sizes = [p.grad.abs().sum().item() for p in model.parameters()]
    return loss.item(), sum(0 < size < float("inf") for size in sizes)


def _drawn(page: Page, rows: list[Any]) -> Any:
    figure = page.figure(10, 5.5)
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, values, color, title in (
        (left, [r.activations / 1e6 for r in rows], "#1f77b4", "activations, millions"),
        (right, [r.parameters / 1e6 for r in rows], "#d95f02", "parameters, millions"),
    ):
        axes.barh(list(TABLE), values, color=color)
        axes.set_xlabel(title)
        axes.spines[["top", "right"]].set_visible(False)
    left.invert_yaxis()
    right.set_title(f"{sum(r.parameters for r in rows):,} in all")
    left.set_title(f"{sum(r.activations for r in rows):,} in all, for one picture")
    return figure


if __name__ == "__main__":
    raise SystemExit(main("vgg16"))
