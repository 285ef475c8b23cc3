"""CTC: the chance of labels by adding up all paths that spell them, its gradients, lengths, errors."""

from __future__ import annotations

import math
from itertools import groupby, product

import numpy as np
import pytest
from tolerance import assert_close

import gradflow as gf
from gradflow.autograd import gradcheck, gradgradcheck
from gradflow.nn.functional import ctc_loss

rng = np.random.default_rng(4)


def spelled(path, blank):
    return [label for label, _ in groupby(path) if label != blank]


def loss_by_paths(log_probs, labels, blank):
    """-log of the sum over all paths (t, classes)."""
    steps, classes = log_probs.shape
    total = sum(
        math.exp(sum(log_probs[t, c] for t, c in enumerate(path)))
        for path in product(range(classes), repeat=steps)
        if spelled(path, blank) == list(labels)
    )
    return -math.log(total) if total else math.inf


def log_softmax(x):
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


LABELS = [[1, 2, 1], [2, 2, 0], [0, 0, 0], [1, 1, 1]]
TIMES, COUNTS = [5, 4, 3, 4], [3, 2, 0, 3]  # the last has no path: three equal labels want five steps


@pytest.mark.parametrize("form", ["padded", "in a row"])
def test_the_chance_of_all_paths(form):
    x = log_softmax(rng.standard_normal((5, 4, 3)))
    want = np.array(
        [loss_by_paths(x[:t, i], LABELS[i][:n], 0) for i, (t, n) in enumerate(zip(TIMES, COUNTS, strict=True))]
    )
    targets = LABELS if form == "padded" else [v for row, n in zip(LABELS, COUNTS, strict=True) for v in row[:n]]
    y = ctc_loss(gf.tensor(x), gf.tensor(targets), gf.tensor(TIMES), COUNTS, reduction="none")
    assert want[3] == math.inf
    assert_close(y.numpy(), want)
    y = ctc_loss(gf.tensor(x), gf.tensor(targets), TIMES, tuple(COUNTS), zero_infinity=True)
    assert_close(y.item(), np.mean(want[:3] / [3, 2, 1]) * 3 / 4)
    assert_close(
        ctc_loss(gf.tensor(x), gf.tensor(targets), TIMES, COUNTS, reduction="sum", zero_infinity=True).item(),
        want[:3].sum(),
    )


def test_another_blank_and_no_batch():
    x = log_softmax(rng.standard_normal((4, 3)))
    y = ctc_loss(gf.tensor(x), gf.tensor([0, 1]), 4, 2, blank=2, reduction="none")
    assert y.shape == ()
    assert_close(y.item(), loss_by_paths(x, [0, 1], 2))


def test_gradients_through_log_softmax():
    x = gf.tensor(rng.standard_normal((5, 3, 4)), requires_grad=True)

    def loss(x):
        return ctc_loss(gf.log_softmax(x, 2), gf.tensor([[1, 2, 1], [3, 3, 0], [0, 0, 0]]), [5, 4, 5], [3, 2, 0])

    assert gradcheck(loss, [x])
    assert gradgradcheck(loss, [x])


def test_what_cannot_be_spelled_has_no_gradient_or_none_at_all():
    for zero in (False, True):
        x = gf.tensor(log_softmax(rng.standard_normal((2, 1, 3))), requires_grad=True)
        ctc_loss(x, gf.tensor([[1, 1]]), [2], [2], zero_infinity=zero).backward()
        assert (x.grad.numpy() == 0).all() if zero else np.isnan(x.grad.numpy()).all()


def test_long_sequences_do_not_underflow():
    x = np.zeros((3000, 1, 40)) - math.log(40)
    y = ctc_loss(gf.tensor(x), gf.tensor(np.arange(1, 31)[None]), [3000], [30], reduction="none").item()
    assert 10000 < y < 3000 * math.log(40)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (([[1, 2]], [6], [2]), "input_lengths from 0 to 5"),
        (([[1, 2]], [5, 5], [2]), "1 input_lengths"),
        (([[1, 9]], [5], [2]), "targets below 3"),
        (([[1]], [5], [2]), "wanted targets"),
        (([1], [5], [2]), "2 targets in a row"),
        (([[1, 2]], [5], [2], 3), "a blank among 3"),
        (([[1.0, 2.0]], [5], [2]), "targets of ints"),
    ],
)
def test_errors(args, message):
    targets, *rest = args
    with pytest.raises(RuntimeError, match=f"^ctc_loss: .*{message}"):
        ctc_loss(gf.zeros(5, 1, 3), gf.tensor(targets), *rest)
