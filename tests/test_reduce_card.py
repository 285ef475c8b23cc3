"""Sums and means on the card over axes of every arrangement, in one read and a fixed order."""

from __future__ import annotations

import math
from contextlib import nullcontext

import numpy as np
import pytest
from tolerance import assert_close

import gradflow as gf
from gradflow.cuda import launch
from gradflow.ops import reduce
from gradflow.tape import axis_sum, fit

pytestmark = pytest.mark.cuda

SHAPES = [
    ((7,), (0,)), ((3, 5), (0,)), ((3, 5), (1,)), ((2, 3, 4), (0, 2)), ((2, 3, 4, 5), (0, 2, 3)), ((2, 3, 4, 5), (1, 3)),
    ((2, 3, 4, 5), (0, 2)), ((5, 1, 8), (1,)), ((4000, 12), (0,)), ((2500, 64), (0,)), ((900, 7), (0,)), ((3, 40000), (1,)),
    ((30001,), (0,)), ((70, 200), (1,)), ((9, 2100), (1,)), ((3, 700, 8), (1,)), ((2, 2, 300, 16), (0, 2)), ((1, 1), (0, 1)),
]  # fmt: skip


def exactly(x, axes):
    """Sums without rounding."""
    over = np.moveaxis(x.astype(np.float64), axes, range(len(axes)))
    flat = over.reshape(math.prod(over.shape[: len(axes)]), -1)
    return np.array([math.fsum(column) for column in flat.T]).reshape(over.shape[len(axes) :])


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize(("shape", "axes"), SHAPES)
def test_sums_over_axes(card, shape, axes, dtype):
    x = np.random.default_rng(1).standard_normal(shape).astype(dtype)
    expected = exactly(x, axes)
    y = reduce.sum(card.asarray(x), axes)
    assert isinstance(y, card.ndarray)
    assert y.dtype == dtype
    assert_close(card.asnumpy(y), expected, dtype=np.dtype(dtype), scale=20)
    n = math.prod(shape[a] for a in axes)
    mean = card.asnumpy(reduce.mean(card.asarray(x), axes, True))
    assert mean.shape == tuple(1 if i in axes else m for i, m in enumerate(shape))
    assert_close(mean.reshape(expected.shape), expected / n, dtype=np.dtype(dtype), scale=4)
    np.testing.assert_array_equal(card.asnumpy(reduce.sum(card.asarray(x), axes)), card.asnumpy(y))


def test_wide_sums_of_half_types(card):
    x = np.full(4096, 32.0, np.float16)
    assert float(card.asnumpy(axis_sum(card.asarray(x), (0,), None))) == 131072
    assert float(card.asnumpy(reduce.sum(card.asarray(x), None, False, np.dtype(np.float32)))) == 131072


def test_bias_gradients_take_the_kernel(card):
    g = np.random.default_rng(2).standard_normal((64, 24)).astype(np.float16)
    before = launch.count
    db = fit(card.asarray(g), (24,), np.dtype(np.float16))
    assert launch.count == before + 1
    assert db.dtype == np.float16
    assert_close(card.asnumpy(db), exactly(g, (0,)), dtype=np.dtype(np.float16))
    b = gf.tensor(np.zeros((3, 1, 1), np.float32)).to("cuda").requires_grad_()
    x = gf.tensor(np.ones((2, 3, 4, 5), np.float32)).to("cuda")
    (x * b).sum().backward()
    np.testing.assert_array_equal(b.grad.cpu().numpy(), np.full((3, 1, 1), 40.0))


def test_strided_and_misaligned(card):
    x = np.random.default_rng(3).standard_normal(10 * 33 + 1).astype(np.float32)
    c, kind = card.asarray(x), np.dtype(np.float32)
    shifted, turned = reduce.sum(c[1:].reshape(10, 33), 0), reduce.sum(c[:330].reshape(10, 33).T, 0)
    assert_close(card.asnumpy(shifted), exactly(x[1:].reshape(10, 33), (0,)), dtype=kind)
    assert_close(card.asnumpy(turned), exactly(x[:330].reshape(10, 33), (1,)), dtype=kind)


@pytest.mark.parametrize("axes", [(0, 2, 3), (1,), (0, 3), (2,)])
def test_sums_of_channels_last_are_taken_as_it_lies(cards, card, axes):
    """No copy; what remains lies in the same order. Over all but channels it is one sum of columns."""
    x = np.random.default_rng(4).standard_normal((2, 8, 3, 5)).astype(np.float32)
    c = card.asarray(x.transpose(0, 2, 3, 1).copy()).transpose(0, 3, 1, 2)
    with cards.launches() if hasattr(cards, "launches") else nullcontext([]) as work:
        y = reduce.sum(c, axes)
    assert_close(card.asnumpy(y), exactly(x, axes), dtype=np.dtype(np.float32))
    assert {w.kind for w in work} <= {"kernel"}
    assert axes != (0, 2, 3) or len(work) <= 1
    assert axes != (2,) or y.strides == (160, 4, 32)
