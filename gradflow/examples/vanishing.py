"""Gradients that vanish or explode through depth and through time, and the two cures: He initialisation and clipping.

A gradient is multiplied by a weight matrix at every layer, and by the same one at every time step, so that its size goes like
a power: in a deep net of ReLUs weights of standard deviation sqrt(2 / n) keep it (He et al. 2015), half of that or twice
loses it or blows it up; in a recurrent net the singular values decide (Pascanu et al. 2013). There no start can help
for ever, but the step can be made short: the norm of the gradient is clipped. The trained nets read scikit-learn's digits,
the deep one at once, the recurrent one in 16 steps of 4 pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import gradflow as gf
from gradflow.examples.page import Page
from gradflow.examples.runner import main

WIDTH, DEPTH, TIME = 64, 15, 60
SCALES = {"half of He": 0.5, "He": 1.0, "twice He": 2.0}
COLORS = ("#1f77b4", "#2a7f3f", "#c0182b")


def deep(scale: float, device: Any) -> gf.nn.Sequential:
    """A net of DEPTH layers of ReLUs, from the 64 pixels to ten scores; its weights are He's times scale."""
    layers: list[Any] = []
    for _ in range(DEPTH):
        layers += [gf.nn.Linear(WIDTH, WIDTH), gf.nn.ReLU()]
        gf.nn.init.kaiming_normal_(layers[-2].weight, nonlinearity="relu")
        gf.nn.init.zeros_(layers[-2].bias)
        with gf.no_grad():
            layers[-2].weight *= scale
    return gf.nn.Sequential(*layers, gf.nn.Linear(WIDTH, 10)).to(device)


def through_depth(model: gf.nn.Sequential, x: gf.Tensor, y: gf.Tensor) -> list[float]:
    """The norm of the loss's gradient by the output of each ReLU."""
    between, h = [], x
    for layer in model:
        h = layer(h)
        if isinstance(layer, gf.nn.ReLU):
            between.append(h)
    gradients = gf.autograd.grad(gf.nn.functional.cross_entropy(h, y), between)
    return [g.norm().item() for g in gradients]


def through_time(radius: float, generator: np.random.Generator, device: Any) -> list[float]:
    """The norm of a last state's gradient by each state before, h = tanh(W h + x) with W radius times a rotation."""
    rotation = np.linalg.qr(generator.standard_normal((WIDTH, WIDTH)))[0]
    w = gf.tensor(radius * rotation, device=device)
    noise = gf.tensor(1e-6 * generator.standard_normal((TIME, WIDTH)), device=device)
    states = [gf.zeros(WIDTH, dtype=gf.float64, device=device, requires_grad=True)]
    for x in noise:
        states.append(gf.tanh(w @ states[-1] + x))
    return [g.norm().item() for g in gf.autograd.grad(states[-1].sum(), states)]


class Reader(gf.nn.Module):
    """A recurrent net of ReLUs that reads a digit in 16 steps of 4 pixels; its recurrent weight is radius times a rotation."""

    def __init__(self, radius: float) -> None:
        super().__init__()
        self.rnn, self.head = gf.nn.RNN(4, WIDTH, nonlinearity="relu", batch_first=True), gf.nn.Linear(WIDTH, 10)
        gf.nn.init.orthogonal_(self.rnn.weight_hh_l0, radius)

    def forward(self, x: Any) -> Any:
        """The scores of the ten digits, by the last state."""
        return self.head(self.rnn(x.reshape(-1, 16, 4))[0][:, -1])


def centred(x: gf.Tensor) -> gf.Tensor:
    """Digits (n, 1, 8, 8) as rows (n, 64) of mean 0 and standard deviation 1."""
    return (x.flatten(1) - x.mean()) / x.std()


def trained(page: Page, model: gf.nn.Module, optimizer: Any, epochs: int, clip: float | None = None) -> gf.train.History:
    """The history of some passes over the digits."""
    flat = [gf.data.TensorDataset(centred(x), y) for x, y in (part.tensors for part in gf.data.digits(page.device))]
    loaders = gf.data.DataLoader(flat[0], 64, shuffle=True), gf.data.DataLoader(flat[1], 400)
    with np.errstate(all="ignore"):  # what explodes is shown, not said
        return gf.train.fit(
            model, gf.nn.CrossEntropyLoss(), optimizer, *loaders, epochs, metrics=gf.train.accuracy, clip_norm=clip, report=None
        )


def run(page: Page) -> None:
    """Gradients through depth and through time; then both trained, with the cure and without."""
    x, y = (t[:256] for t in gf.data.digits(page.device)[0].tensors)
    depth, histories = {}, {}
    for name, scale in SCALES.items():
        model = deep(scale, page.device)
        depth[name] = through_depth(model, centred(x), y)
        histories[name] = trained(page, model, gf.optim.SGD(model.parameters(), 0.01, momentum=0.9), page.pick(30, 8))
    ratio = {name: norms[0] / norms[-1] for name, norms in depth.items()}
    page.result(f"half of He: gradient after {DEPTH} layers, of the last one's", ratio["half of He"], at_most=1e-3)
    page.result(f"He: gradient after {DEPTH} layers", ratio["He"], at_least=0.05, at_most=20)
    page.result(f"twice He: gradient after {DEPTH} layers", ratio["twice He"], at_least=1e3)
    time = {radius: through_time(radius, np.random.default_rng(page.seed), page.device) for radius in (0.8, 1.0, 1.2)}
    page.result(f"radius 0.8: gradient after {TIME} steps, of the last one's", time[0.8][0] / time[0.8][-1], at_most=1e-5)
    page.result(f"radius 1.2: gradient after {TIME} steps", time[1.2][0] / time[1.2][-1], at_least=1e3)
    right = {name: h["valid_accuracy"][-1] for name, h in histories.items()}
    page.result("held out digits right, started from He", right["He"], at_least=page.pick(0.93, 0.75), unit="%")
    page.result("held out digits right, started from half of He", right["half of He"], at_most=0.3, unit="%")
    for name, clip in (("as it is", None), ("clipped", 1.0)):
        gf.manual_seed(page.seed)
        model = Reader(2.0).to(page.device)
        histories[name] = trained(page, model, gf.optim.SGD(model.parameters(), 0.05, momentum=0.9), page.pick(30, 8), clip)
    last = {name: histories[name]["valid_accuracy"][-1] for name in ("as it is", "clipped")}
    page.result("recurrent net, as it is: held out digits right", last["as it is"], at_most=0.3, unit="%")
    page.result("recurrent net, clipped to a norm of 1", last["clipped"], at_least=page.pick(0.88, 0.7), unit="%")
    caption = "Above, gradients through layers and steps; below, who learns: the net from He, and the clipped one."
    page.picture(_drawn(page, depth, time, histories), "vanishing.png", caption)


def _drawn(page: Page, depth: Any, time: Any, histories: Any) -> Any:
    figure = page.figure(11, 7.5)
    (layers, steps), (left, right) = figure.subplots(2, 2)
    for color, (name, norms), (radius, back) in zip(COLORS, depth.items(), time.items(), strict=True):
        layers.plot(range(1, DEPTH + 1), norms, color=color, label=name)
        steps.plot(range(-TIME, 1), back, color=color, label=f"singular values {radius}")
        left.plot(*_percent(histories[name]), color=color, label=name)
    for color, name in (("#c0182b", "as it is"), ("#2a7f3f", "clipped")):
        right.plot(*_percent(histories[name]), color=color, label=name)
    layers.set(yscale="log", xlabel="layer", ylabel="norm of the gradient", title="Through depth")
    steps.set(yscale="log", xlabel="step, counted from the end", ylabel="norm of the gradient", title="Through time")
    left.set(xlabel="epoch", ylabel="held out digits right, %", ylim=(0, 102), title=f"A net of {DEPTH} layers, by its start")
    right.set(xlabel="epoch", ylabel="held out digits right, %", ylim=(0, 102), title="A recurrent net of ReLUs, singular values 2")
    for axes in figure.axes:
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(frameon=False)
    return figure


def _percent(history: gf.train.History) -> tuple[Any, Any]:
    right = [100 * a for a in history["valid_accuracy"]]
    return range(1, len(right) + 1), right


if __name__ == "__main__":
    raise SystemExit(main("vanishing"))
