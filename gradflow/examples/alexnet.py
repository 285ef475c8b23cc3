"""AlexNet: the net that won ImageNet in 2012 as a table, and the same plan in small, trained on digits.

Five convolutions, of 11 x 11, 5 x 5 and three of 3 x 3, ReLUs, local response normalisation, overlapping pooling (3 x 3 every
2), three linear layers with dropout: 60,965,224 parameters (Krizhevsky, Sutskever and Hinton 2012). Three of its convolutions
see only half of the channels, for the net lay on two cards; here they are groups. The small one has the same plan with small
strides and few channels, and reads scikit-learn's digits enlarged to 32 x 32, or the images of --data.
"""

from __future__ import annotations

from typing import Any

import gradflow as gf
from gradflow.examples.arguments import images as arguments  # noqa: F401  (--data)
from gradflow.examples.page import Page
from gradflow.examples.runner import main

F = gf.nn.functional


def features(first: gf.nn.Conv2d, widths: tuple[int, ...]) -> gf.nn.Sequential:
    """The five convolutions with what lies between them, after a first one that fits the pictures; the others have `widths`."""
    a, b, c, d, e = first.out_channels, *widths
    return gf.nn.Sequential(
        first,
        gf.nn.ReLU(),
        gf.nn.LocalResponseNorm(5, k=2),
        gf.nn.MaxPool2d(3, stride=2),
        gf.nn.Conv2d(a, b, 5, padding=2, groups=2),
        gf.nn.ReLU(),
        gf.nn.LocalResponseNorm(5, k=2),
        gf.nn.MaxPool2d(3, stride=2),
        gf.nn.Conv2d(b, c, 3, padding=1),
        gf.nn.ReLU(),
        gf.nn.Conv2d(c, d, 3, padding=1, groups=2),
        gf.nn.ReLU(),
        gf.nn.Conv2d(d, e, 3, padding=1, groups=2),
        gf.nn.ReLU(),
    )


def classifier(inputs: int, hidden: int, classes: int) -> gf.nn.Sequential:
    """Three linear layers with dropout before the first two."""
    return gf.nn.Sequential(
        gf.nn.Flatten(),
        gf.nn.Dropout(),
        gf.nn.Linear(inputs, hidden),
        gf.nn.ReLU(),
        gf.nn.Dropout(),
        gf.nn.Linear(hidden, hidden),
        gf.nn.ReLU(),
        gf.nn.Linear(hidden, classes),
    )


def alexnet(classes: int = 1000) -> gf.nn.Sequential:
    """Pictures (n, 3, 227, 227) to the scores (n, classes)."""
    convolutions = features(gf.nn.Conv2d(3, 96, 11, stride=4), (256, 384, 384, 256))
    return gf.nn.Sequential(convolutions, gf.nn.MaxPool2d(3, stride=2), classifier(256 * 6 * 6, 4096, classes))


def small(channels: int, classes: int) -> gf.nn.Sequential:
    """The plan for images enlarged to (n, channels, 32, 32), which are 3 x 3 without the last pooling."""
    convolutions = features(gf.nn.Conv2d(channels, 16, 5, stride=2, padding=2), (32, 48, 48, 32))
    return gf.nn.Sequential(convolutions, classifier(32 * 3 * 3, 256, classes))


def enlarged(page: Page) -> list[gf.data.TensorDataset]:
    """The training and the held out digits, or images of --data, as (n, c, 32, 32) from -1 to 1."""
    parts = [part.tensors for part in page.images()]
    return [gf.data.TensorDataset(2 * F.interpolate(x, size=(32, 32), mode="bilinear") - 1, y) for x, y in parts]


def trained(page: Page, parts: list[gf.data.TensorDataset]) -> tuple[gf.nn.Sequential, gf.train.History]:
    """The small net, from He's start, and its history."""
    x, y = parts[0].tensors
    model, epochs = small(x.shape[1], int(y.max().item()) + 1).to(page.device), page.pick(20, 4)
    for p in model.parameters():
        if p.ndim > 1:
            gf.nn.init.kaiming_normal_(p, nonlinearity="relu")
    optimizer = gf.optim.Adam(model.parameters(), 2e-3)
    history = gf.train.fit(
        model,
        gf.nn.CrossEntropyLoss(),
        optimizer,
        gf.data.DataLoader(parts[0], 64, shuffle=True),
        gf.data.DataLoader(parts[1], 128),
        epochs,
        scheduler=gf.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs),
        metrics=gf.train.accuracy,
        report=None,
    )
    return model, history


def run(page: Page) -> None:
    """The table of the large net; the small one trained."""
    table = gf.nn.summary(alexnet().to(page.device), (1, 3, 227, 227))
    page.note(str(table))
    page.result("parameters", table.parameters, equal=60_965_224)
    shapes = [r.shape[1:] for r in table.rows if r.kind == "Conv2d"]
    wanted = [(96, 55, 55), (256, 27, 27), (384, 13, 13), (384, 13, 13), (256, 13, 13)]
    page.result("convolutions with the paper's outputs", sum(s == w for s, w in zip(shapes, wanted, strict=True)), equal=5)
    parts = enlarged(page)
    model, history = trained(page, parts)
    right = history["valid_accuracy"][-1]
    page.result("the small net: held out images right", right, at_least=page.pick(0.97, 0.8), unit="%")
    caption = "The small net: its errors after every epoch, and what its 16 first filters answer to an image."
    page.picture(_drawn(page, model, history, parts[1].tensors[0][:1]), "alexnet.png", caption)


def _drawn(page: Page, model: Any, history: gf.train.History, digit: gf.Tensor) -> Any:
    figure = page.figure(10, 4.2)
    left, right = figure.subfigures(1, 2)
    axes = left.subplots()
    for name, label, color in (("accuracy", "training, with dropout", "#1f77b4"), ("valid_accuracy", "held out", "#d95f02")):
        axes.plot(range(1, len(history["loss"]) + 1), [100 * (1 - a) for a in history[name]], color=color, label=label)
    axes.set(xlabel="epoch", ylabel="images read wrongly, %", ylim=(0, None))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    with gf.nn.evaluating(model):
        seen = model[0][:2](digit)[0].cpu().numpy()
    panels = right.subplots(4, 5).flat
    panels[0].imshow(digit[0, 0].cpu().numpy(), cmap="gray")
    panels[0].set_title("an image", fontsize=9)
    for panel, channel in zip(panels[1:], seen, strict=False):
        panel.imshow(channel, cmap="gray", vmin=0)
    for panel in panels:
        panel.set(xticks=[], yticks=[])
    for panel in panels[17:]:
        panel.set_axis_off()
    return figure


if __name__ == "__main__":
    raise SystemExit(main("alexnet"))
