"""Softmax against multiclass hinge loss: two ideas of when a linear classifier is right enough, on real digits.

The hinge loss, sum over j != y of max(0, s_j - s_y + 1), asks the score of the right class to lead every other by a margin of
1, and is exactly zero once it does; the cross entropy of the softmax is never done, it always wants the right one more
probable. Under a mild L2 penalty both read about the same digits; what differs is on how many of them they still learn. A
strong one holds back the softmax more: of ten equal scores its gradient by the right one is 0.9, the hinge loss's 9
(Weston and Watkins 1999; Bishop 2006).
"""

from __future__ import annotations

from typing import Any

import gradflow as gf
from gradflow.examples.arguments import images as arguments  # noqa: F401  (--data)
from gradflow.examples.page import Page
from gradflow.examples.runner import main


def hinge(scores: gf.Tensor, y: gf.Tensor, reduction: str = "mean") -> gf.Tensor:
    """The multiclass hinge loss as a sum over the wrong classes: PyTorch's divides that by the number of classes."""
    return scores.shape[1] * gf.nn.functional.multi_margin_loss(scores, y, reduction=reduction)


LOSSES = {"softmax": gf.nn.functional.cross_entropy, "hinge": hinge}
COLORS = {"softmax": "#1f77b4", "hinge": "#d95f02"}
PENALTIES = (0.0001, 0.001, 0.01, 0.1, 1.0)


def fitted(x: gf.Tensor, y: gf.Tensor, loss_of: Any, penalty: float, rounds: int) -> gf.nn.Linear:
    """The linear classifier with the least mean loss plus half of penalty times its squared weights, by L-BFGS."""
    model = gf.nn.Linear(x.shape[1], int(y.max().item()) + 1).to(x.device)
    optimizer = gf.optim.LBFGS(model.parameters(), max_iter=rounds, line_search_fn="strong_wolfe")

    def closure() -> gf.Tensor:
        optimizer.zero_grad()
        loss = loss_of(model(x), y) + penalty / 2 * (model.weight**2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return model


def still_learning(model: gf.nn.Linear, x: gf.Tensor, y: gf.Tensor, loss_of: Any) -> float:
    """The share of images whose loss still pulls at their scores by more than a thousandth."""
    scores = model(x).detach().requires_grad_()
    (pull,) = gf.autograd.grad(loss_of(scores, y, reduction="sum"), scores)
    return (pull.abs().amax(1) > 1e-3).float().mean().item()


def run(page: Page) -> None:
    """Both losses under every penalty; templates of one of them."""
    (x, y), (x_new, y_new) = (part.tensors for part in page.images())
    shape, x, x_new = x.shape[1:], x.flatten(1), x_new.flatten(1)
    models: dict[tuple[str, float], gf.nn.Linear] = {}
    read: dict[str, list[float]] = {name: [] for name in LOSSES}
    learning: dict[str, list[float]] = {name: [] for name in LOSSES}
    for k in page.steps(2 * len(PENALTIES), "softmax_hinge"):
        name, penalty = list(LOSSES)[k % 2], PENALTIES[k // 2]
        model = models[name, penalty] = fitted(x, y, LOSSES[name], penalty, page.pick(400, 45))
        read[name].append(gf.train.accuracy(model(x_new), y_new).item())
        learning[name].append(still_learning(model, x, y, LOSSES[name]))
    for name in LOSSES:
        page.result(f"{name}: held out images right at its best penalty", max(read[name]), at_least=0.93, unit="%")
    for name, bound in (("softmax", {"at_least": 0.8}), ("hinge", {"at_most": 0.5})):
        share = learning[name][PENALTIES.index(0.001)]
        page.result(f"{name}: training images that still pull, L2 of 0.001", share, unit="%", **bound)
    page.picture(_curves(page, read, learning), "losses.png", "What both read, and on how many images each still learns.")
    page.picture(_templates(page, models, shape), "templates.png", "Weights of every class: red for, blue against.")


def _curves(page: Page, read: dict[str, list[float]], learning: dict[str, list[float]]) -> Any:
    figure = page.figure(10, 4)
    left, right = figure.subplots(1, 2)
    for name, color in COLORS.items():
        left.plot(PENALTIES, [100 * (1 - a) for a in read[name]], "o-", color=color, label=name)
        right.plot(PENALTIES, [100 * a for a in learning[name]], "o-", color=color, label=name)
    left.set(xscale="log", xlabel="L2", ylabel="held out images read wrongly, %", ylim=(0, None), title="Errors")
    right.set(xscale="log", xlabel="L2", ylabel="% of the training images", ylim=(0, 105), title="Images that still pull")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    return figure


def _templates(page: Page, models: dict[tuple[str, float], gf.nn.Linear], shape: Any) -> Any:
    figure = page.figure(12, 5.2)
    rows = [(name, penalty) for name in LOSSES for penalty in (0.0001, 0.1)]
    for panels, (name, penalty) in zip(figure.subplots(4, 10), rows, strict=True):
        weight = models[name, penalty].weight.detach().cpu().numpy().reshape(-1, *shape)[:10].mean(1)  # over the channels
        for digit, axes in enumerate(panels):
            high = abs(weight[digit]).max()
            axes.imshow(weight[digit], cmap="RdBu_r", vmin=-high, vmax=high)
            axes.set(xticks=[], yticks=[], title=str(digit))
        panels[0].set_ylabel(f"{name}\nL2 {penalty}")
    return figure


if __name__ == "__main__":
    raise SystemExit(main("softmax_hinge"))
