"""LeNet on handwritten digits: a convolutional network (LeCun et al. 1998) that reads 8 x 8 pixel digits in seconds.

The digits are scikit-learn's: 1797 real ones, of which every fifth is held out. --data takes MNIST, say, in their place.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

import gradflow as gf
from gradflow import nn
from gradflow.examples.arguments import at_least, images, positive
from gradflow.examples.page import Page
from gradflow.examples.runner import main

RATES = {"adam": 0.003, "sgd": 0.05}


def arguments(parser: argparse.ArgumentParser) -> None:
    """The example's own arguments."""
    add = parser.add_argument
    add("--epochs", type=at_least(1), help="passes over the training digits (default: 30, quick: 6)")
    add("--batch-size", type=at_least(1), default=32, help="digits per step (default: %(default)s)")
    add("--optimizer", choices=sorted(RATES), default="adam", help="(default: %(default)s)")
    rates = ", ".join(f"{rate} for {name}" for name, rate in sorted(RATES.items()))
    add("--lr", type=positive, help=f"learning rate at the start (default: {rates})")
    add("--resume", action="store_true", help="go on from the checkpoint in --out, if there is one")
    images(parser)


class LeNet(nn.Module):
    """Two convolutions with pooling, then three linear layers with dropout: x (n, channels, size, size) to scores (n, kinds)."""

    def __init__(self, channels: int = 1, size: int = 8, kinds: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(32 * (size // 4) ** 2, 120),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, kinds),
        )

    def forward(self, x: Any) -> Any:
        """The scores of the kinds."""
        return self.classifier(self.features(x))


def run(page: Page) -> None:
    """Train, save and draw."""
    # So few digits fit on any device: they are moved once, and the loaders cut batches out of them there.
    args, (training, held_out) = page.options, page.images()
    x, y = training.tensors
    model = LeNet(x.shape[1], x.shape[2], int(y.max().item()) + 1).to(page.device)
    lr = args.lr or RATES[args.optimizer]
    if args.optimizer == "adam":
        optimizer: Any = gf.optim.Adam(model.parameters(), lr)
    else:
        optimizer = gf.optim.SGD(model.parameters(), lr, momentum=0.9)
    epochs = args.epochs or page.pick(30, 6)
    history = gf.train.fit(
        model,
        nn.CrossEntropyLoss(),
        optimizer,
        gf.data.DataLoader(training, args.batch_size, shuffle=True),
        gf.data.DataLoader(held_out, 256),
        epochs,
        scheduler=gf.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs),
        metrics=gf.train.accuracy,
        checkpoint=page.out / "checkpoint.safetensors",
        resume=args.resume,
    )
    with nn.evaluating(model):
        scores = np.concatenate([model(part).cpu().numpy() for part in held_out.tensors[0].split(256)])
    seen, labels = (t.cpu().numpy() for t in held_out.tensors)
    right = int((scores.argmax(1) == labels).sum())
    gf.save(model.state_dict(), page.out / "model.safetensors")
    page.say(f"model: {page.out / 'model.safetensors'}")
    goal = page.pick(0.98, 0.9) if args.epochs is None else None
    page.result(f"test accuracy on {len(labels)} images never trained on", right / len(labels), at_least=goal, unit="%")
    page.picture(curves(page, history), "curve.png", "The loss and the error rate after every epoch.")
    page.picture(predictions(page, seen, labels, scores), "predictions.png", "Held out images: those read wrongly, in red, first.")


# --- pictures -------------------------------------------------------------------------------------------


def curves(page: Page, history: gf.train.History) -> Any:
    """The loss and the error rate after every epoch, of the training and the held out images."""
    figure = page.figure(10, 4)
    left, right = figure.subplots(1, 2)
    epochs = range(1, len(history["loss"]) + 1)
    for name, label, color in (("", "training, with dropout", "#1f77b4"), ("valid_", "held out", "#d95f02")):
        left.plot(epochs, history[f"{name}loss"], color=color, label=label)
        right.plot(epochs, [100 * (1 - a) for a in history[f"{name}accuracy"]], color=color, label=label)
    left.set(title="Loss", xlabel="epoch", ylabel="cross entropy", yscale="log")
    end = 1 - history["valid_accuracy"][-1]
    right.set(xlabel="epoch", ylabel="images read wrongly, %", ylim=(0, max(10, 200 * end)))
    right.set(title=f"Errors: {end:.1%} of the held out images at the end")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    return figure


def predictions(page: Page, x: np.ndarray, y: np.ndarray, scores: np.ndarray) -> Any:
    """Held out images with what was read: all the wrong ones first, in red, then those it was least sure of."""
    p = np.exp(scores - scores.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    read = p.argmax(1)
    sure = p.max(1)
    order = np.lexsort((sure, read == y))[:40]
    figure = page.figure(10, 7.2)
    wrong = int((read != y).sum())
    figure.suptitle(f"{wrong} of {len(y)} held out images read wrongly (red); then those it was least sure of")
    for axes, i in zip(figure.subplots(5, 8).flat, order, strict=False):
        right = read[i] == y[i]
        color = "#2a7f3f" if right else "#c0182b"
        axes.imshow(np.moveaxis(x[i], 0, 2).squeeze(), cmap="gray_r", vmin=0, vmax=1)
        text = f"{read[i]}  {sure[i]:.0%}" if right else f"{read[i]}  {sure[i]:.0%}, is {y[i]}"
        axes.set_title(text, color=color, fontsize=10)
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(color=color, linewidth=1.5)
    return figure


if __name__ == "__main__":
    raise SystemExit(main("lenet"))
