"""LeNet on handwritten digits: a convolutional network (LeCun et al. 1998) that reads 8 x 8 pixel digits in seconds.

The digits are scikit-learn's: 1797 real ones, of which every fifth is held out.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from .. import backend, data, io, nn, optim, train
from ..autograd import no_grad
from .arguments import at_least, positive

RATES = {"adam": 0.003, "sgd": 0.05}


def arguments(parser: argparse.ArgumentParser) -> None:
    """The example's own arguments."""
    add = parser.add_argument
    add("--epochs", type=at_least(1), default=30, help="passes over the training digits (default: %(default)s)")
    add("--batch-size", type=at_least(1), default=32, help="digits per step (default: %(default)s)")
    add("--optimizer", choices=sorted(RATES), default="adam", help="(default: %(default)s)")
    rates = ", ".join(f"{rate} for {name}" for name, rate in sorted(RATES.items()))
    add("--lr", type=positive, help=f"learning rate at the start (default: {rates})")
    add("--seed", type=at_least(0), default=0, help="of weights and order (default: %(default)s)")
    add("--out", type=Path, default=Path("out/lenet"), help="folder for the results (default: %(default)s)")
    add("--resume", action="store_true", help="go on from the checkpoint in --out")


class LeNet(nn.Module):
    """Two convolutions with pooling, then three linear layers with dropout: x (n, 1, 8, 8) to the scores (n, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(128, 120),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, 10),
        )

    def forward(self, x: Any) -> Any:
        """The scores of the ten digits."""
        return self.classifier(self.features(x))


def run(args: argparse.Namespace, where: backend.device) -> int:
    """Train, save and draw; 0."""
    parts = data.digits()
    backend.manual_seed(args.seed)
    model = LeNet().to(where)
    loss = nn.CrossEntropyLoss()
    lr = args.lr or RATES[args.optimizer]
    if args.optimizer == "adam":
        optimizer: Any = optim.Adam(model.parameters(), lr)
    else:
        optimizer = optim.SGD(model.parameters(), lr, momentum=0.9)
    scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs)
    # So few digits fit on any device: they are moved once, and the loaders cut batches out of them there.
    training, held_out = (data.TensorDataset(*(t.to(where) for t in part.tensors)) for part in parts)
    args.out.mkdir(parents=True, exist_ok=True)
    history = train.fit(
        model,
        loss,
        optimizer,
        data.DataLoader(training, args.batch_size, shuffle=True),
        data.DataLoader(held_out, 256),
        args.epochs,
        scheduler=scheduler,
        metrics=train.accuracy,
        checkpoint=args.out / "checkpoint.safetensors",
        resume=args.resume,
    )
    model.eval()
    with no_grad():
        scores = backend.asnumpy(model(held_out.tensors[0]).array)
    images, labels = (t.numpy() for t in parts[1].tensors)
    right = int((scores.argmax(1) == labels).sum())
    files = {
        "model": args.out / "model.safetensors",
        "curve": args.out / "curve.png",
        "predictions": args.out / "predictions.png",
    }
    io.save(model.state_dict(), files["model"])
    draw_curve(history, files["curve"])
    draw_predictions(images, labels, scores, files["predictions"])
    print(f"test accuracy: {right / len(labels):.2%} ({right} of {len(labels)} digits never trained on)")
    for name, path in files.items():
        print(f"{name + ':':12} {path}")
    return 0


# --- pictures -------------------------------------------------------------------------------------------


def _figure(width: float, height: float) -> Any:
    """A matplotlib figure that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def draw_curve(history: train.History, path: Path) -> None:
    """The loss and the error rate after every epoch, of the training and the held out digits."""
    figure = _figure(10, 4)
    left, right = figure.subplots(1, 2)
    epochs = range(1, len(history["loss"]) + 1)
    for name, label, color in (("", "training, with dropout", "#1f77b4"), ("valid_", "held out", "#d95f02")):
        left.plot(epochs, history[f"{name}loss"], color=color, label=label)
        right.plot(epochs, [100 * (1 - a) for a in history[f"{name}accuracy"]], color=color, label=label)
    left.set(title="Loss", xlabel="epoch", ylabel="cross entropy", yscale="log")
    right.set(xlabel="epoch", ylabel="digits read wrongly, %", ylim=(0, 10))
    right.set(title=f"Errors: {1 - history['valid_accuracy'][-1]:.1%} of the held out digits at the end")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    figure.savefig(path)


def draw_predictions(x: np.ndarray, y: np.ndarray, scores: np.ndarray, path: Path) -> None:
    """Held out digits with what was read: all the wrong ones first, in red, then those it was least sure of."""
    p = np.exp(scores - scores.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    read = p.argmax(1)
    sure = p.max(1)
    order = np.lexsort((sure, read == y))[:40]
    figure = _figure(10, 7.2)
    wrong = int((read != y).sum())
    figure.suptitle(f"{wrong} of {len(y)} held out digits read wrongly (red); then those it was least sure of")
    for axes, i in zip(figure.subplots(5, 8).flat, order, strict=False):
        right = read[i] == y[i]
        color = "#2a7f3f" if right else "#c0182b"
        axes.imshow(x[i, 0], cmap="gray_r", vmin=0, vmax=1)
        text = f"{read[i]}  {sure[i]:.0%}" if right else f"{read[i]}  {sure[i]:.0%}, is {y[i]}"
        axes.set_title(text, color=color, fontsize=10)
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(color=color, linewidth=1.5)
    figure.savefig(path)
