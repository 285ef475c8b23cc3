"""Losses on the card: the kernels on rows and sums of every size, and every public loss."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from test_loss import CALLS, IDS, classes, function, normal
from tolerance import assert_close

import gradflow as gf
from gradflow.cuda import row
from gradflow.ops import class_loss, element_loss, loss

pytestmark = pytest.mark.cuda

# Around the longest row of each team, with and without 16-byte loads, and rows read twice.
LENGTHS = [1, 10, 65, 257, 260, 1030, 4100, 8301]


def on_card(card, f, args, dtype, scale=4.0):
    """What the twin gives beside the definition in float64 of the same numbers."""
    low = [a.astype(dtype) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in args]
    y = f.op.kernel.twin(*[card.asarray(a) if isinstance(a, np.ndarray) else a for a in low])
    assert y is not NotImplemented
    y = y if isinstance(y, tuple) else (y,)
    wide = [a.astype(np.float64) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in low]
    expected = f.op.definition(*wide)
    for a, b in zip(y, expected if isinstance(expected, tuple) else (expected,), strict=True):
        a = card.asnumpy(a)
        assert_close(a, np.asarray(b).astype(a.dtype), scale=scale)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("n", LENGTHS)
def test_rows_of_every_length(card, n, dtype):
    x, t = normal(4, n) * 3, classes(n, 4)
    t[1], total = -100, np.asarray(3)
    lse, glse = normal(4) + math.log(n) + 4, normal(4)
    for reduction, e in (("mean", 0.0), ("none", 0.1)):
        on_card(card, class_loss.cross_entropy_forward, (x, t, -100, reduction, e), dtype)
        g = normal(4) if reduction == "none" else normal()
        args = (np.asarray(g), x, t, lse, total, glse, -100, reduction, e)
        on_card(card, class_loss.cross_entropy_backward, args, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("n", [121, 1003])
def test_few_long_rows_are_made_in_pieces(card, n, dtype, monkeypatch):
    """Of 35 rows, more than a block has warps: offsets, targets out of range and none, pieces without a finite value."""
    from gradflow.cuda import launch

    monkeypatch.setattr(row, "PIECE", 120)
    monkeypatch.setattr(row, "ALONE", 1e-9)
    dtype = gf.backend.bfloat16() if dtype == "bfloat16" else dtype
    x, t = normal(35, n) * 3, classes(n, 35)
    x[1] += 1e4 if dtype in ("float32", "float64") else 100
    x[2, : n - 1] = -math.inf
    t[2], t[3], t[4] = n - 1, -100, -100
    for reduction, e in (("mean", 0.0), ("none", 0.0), ("sum", 0.0), ("none", 0.1), ("mean", 0.1)):
        if e:
            x[2] = 0.0  # smoothed, a row with an infinity has an infinite loss
        before = launch.count
        on_card(card, class_loss.cross_entropy_forward, (x, t, -100, reduction, e), dtype)
        assert launch.count == before + 2
    x[5, n - 1], x[6, 0] = math.nan, math.inf
    x[7] = -math.inf
    y, lse, _ = class_loss.cross_entropy_forward.op.kernel.twin(card.asarray(x), card.asarray(t), -100, "none", 0.0)
    assert np.flatnonzero(np.isnan(card.asnumpy(y))).tolist() == [5, 6, 7]
    assert np.flatnonzero(np.isnan(card.asnumpy(lse))).tolist() == [5, 6, 7]
    t[0] = n
    y = class_loss.cross_entropy_forward.op.kernel.twin(card.asarray(x[:5]), card.asarray(t[:5]), -100, "mean", 0.0)
    assert np.isnan(card.asnumpy(y[0])) and card.asnumpy(y[2]) == 3


def test_weights_and_probabilities_of_few_long_rows(card, monkeypatch):
    monkeypatch.setattr(row, "PIECE", 120)
    monkeypatch.setattr(row, "ALONE", 1e-9)
    n = 301
    weight, t, q = abs(normal(n)), classes(n, 4), abs(normal(4, n))
    t[1] = -100
    for target, options in (
        (t, dict(weight=weight)),
        (t, dict(weight=weight, label_smoothing=0.2, reduction="sum")),
        (q / q.sum(1, keepdims=True), dict(label_smoothing=0.1)),
    ):
        found = []
        for to in (lambda a: gf.tensor(a), lambda a: gf.tensor(a.astype(np.float32) if a.dtype.kind == "f" else a).cuda()):
            x = to(np.sin(np.arange(4 * n)).reshape(4, n) * 3).requires_grad_()
            y = loss.cross_entropy(x, to(target), **{k: to(v) if k == "weight" else v for k, v in options.items()})
            y.backward()
            found.append((y.detach().cpu().numpy(), x.grad.cpu().numpy()))
        for a, b in zip(found[1], found[0], strict=True):
            assert_close(a, b.astype(np.float32), scale=8)


def test_pieces_of_rows_are_read_once(card, monkeypatch):
    if not hasattr(card, "traffic"):
        pytest.skip("only the stand-in counts")
    monkeypatch.setattr(row, "ALONE", 1e-9)
    x = gf.tensor(normal(3, 9000).astype(np.float32)).cuda().requires_grad_()
    with card.traffic() as forward:
        y = loss.cross_entropy(x, gf.tensor(classes(9000, 3)).cuda())
    with card.traffic() as backward:
        y.backward()
    size = 4 * x.numel()
    for seen, passes in ((forward, 1), (backward, 2)):
        assert passes * size <= seen.distinct <= 1.01 * passes * size
        assert seen.sectors <= 1.05 * passes * size


@pytest.mark.parametrize("shape", [(2, 9, 3), (1, 40, 5, 8)])
def test_columns(card, shape):
    x, t = normal(*shape), classes(shape[1], shape[0], *shape[2:])
    on_card(card, class_loss.cross_entropy_forward, (x, t, 2, "mean", 0.1), "float32")
    s = t.shape
    args = (np.asarray(1.5), x, t, normal(*s) + 4, np.asarray(7), normal(*s), 2, "mean", 0.1)
    on_card(card, class_loss.cross_entropy_backward, args, "float32")


@pytest.mark.parametrize("n", [4, 300])
def test_infinities_and_wrong_targets_on_the_card(card, n):
    x = np.zeros((5, n), np.float32)
    x[0, 1], x[1], x[2, 3] = -math.inf, -math.inf, math.nan
    t = np.array([0, 0, 0, n, -100])
    y = loss.cross_entropy(card.asarray(x), card.asarray(t), reduction="none")
    expected = [math.log(n - 1), math.nan, math.nan, math.nan, 0]
    assert_close(card.asnumpy(y), np.array(expected, np.float32))


def test_sums_of_many_parts(card, monkeypatch):
    from gradflow.cuda import loss as launcher

    monkeypatch.setattr(launcher, "PARTS", 3)
    monkeypatch.setattr(launcher, "DIRECT", 10)
    x, t = normal(2000, 3), classes(3, 2000)
    t[::7] = -100
    for reduction in ("mean", "sum"):
        on_card(card, class_loss.cross_entropy_forward, (x, t, -100, reduction, 0.0), "float32")
    for n in (7000, 7001):  # more than one pass of the grid, with and without 16-byte loads
        a, b = normal(n), normal(n)
        on_card(card, element_loss.difference_loss, (a, b, "huber", 0.5, "mean"), "float32")
        on_card(card, element_loss.difference_loss, (a, b, "mse", 1.0, "none"), "float32")
        on_card(card, element_loss.difference_loss_backward, (a, a, b, "smooth_l1", 0.5, "none"), "float32")
        on_card(card, element_loss.bce_logits_forward, (a, abs(b), np.ones(n) * 2, "sum"), "float32")
        on_card(
            card, element_loss.bce_logits_backward, (np.asarray(2.0), a, abs(b), np.full(1, 2.0), "mean"), "float32"
        )


def test_certain_probabilities_on_the_card(card):
    x, t = np.array([0.0, 1.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0, 0.0])
    on_card(card, element_loss.bce_forward, (x, t, "none"), "float32")
    on_card(card, element_loss.bce_backward, (np.ones(4), x, t, "none"), "float32")


def test_few_launches(card):
    from gradflow.cuda import launch

    def count(call):
        before = launch.count
        assert isinstance(call(), card.ndarray)
        return launch.count - before

    x, t = card.asarray(normal(6, 4).astype(np.float32)), card.asarray(classes(4, 6))
    assert count(lambda: class_loss.cross_entropy_forward(x, t, -100, "mean", 0.0)[0]) == 2
    assert count(lambda: loss.mse_loss(x, x)) == 2
    assert count(lambda: loss.binary_cross_entropy_with_logits(x, x, reduction="none")) == 1


@pytest.mark.parametrize(("name", "args", "options"), CALLS, ids=IDS)
def test_every_loss_on_the_card(card, name, args, options):
    def to(a):
        if not isinstance(a, np.ndarray):
            return a
        return gf.tensor(a.astype(np.float32) if a.dtype.kind == "f" else a)

    tensors = [to(a) for a in args]
    there = [t.cuda() for t in tensors]
    for t in (*tensors, *there):
        t.requires_grad_(t.is_floating_point())
    options = {k: to(v) for k, v in options.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y = function(name)(*tensors, **options)
        z = function(name)(*there, **{k: v.cuda() if isinstance(v, gf.Tensor) else v for k, v in options.items()})
        y.sum().backward()
        z.sum().backward()
    assert z.is_cuda
    assert_close(z.detach().cpu().numpy(), y.detach().numpy(), scale=10)
    for a, b in zip(there, tensors, strict=True):
        if b.grad is not None:
            assert_close(a.grad.cpu().numpy(), b.grad.numpy(), scale=10)
