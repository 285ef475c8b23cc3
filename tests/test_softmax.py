"""Softmax against plain loops, and its CUDA kernels on rows of every length that a team takes."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest
from tolerance import assert_close

import gradflow as gf
from gradflow.cuda import row
from gradflow.ops.softmax import log_softmax, log_softmax_backward, softmax, softmax_backward, softmin


def by_loops(x):
    """Softmax of one row, with Python's floats."""
    top = max(x)
    e = [math.exp(v - top) for v in x]
    total = math.fsum(e)
    return [v / total for v in e]


def along(x, dim, function):
    return np.apply_along_axis(lambda row: np.array(function(row.tolist())), dim, x)


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_values(dim):
    x = np.random.default_rng(0).standard_normal((3, 5, 4)) * 5
    expected = along(x, dim, by_loops)
    assert_close(softmax(x, dim), expected)
    assert_close(log_softmax(x, dim), np.log(expected))
    assert_close(softmin(-x, dim), expected)


def test_huge_values_do_not_overflow():
    x = np.array([[1e4, 1e4 + 1, -1e4], [3e38, -3e38, 0.0]], np.float32)
    expected = [[1 / (1 + math.e), math.e / (1 + math.e), 0], [1, 0, 0]]
    assert_close(softmax(x, 1), np.array(expected, np.float32))
    assert_close(log_softmax(np.array([0.0, -800.0]), 0), np.array([0.0, -800.0]))


def test_infinities():
    inf, nan = math.inf, math.nan
    x = np.array([[0.0, -inf, 0.0], [-inf, -inf, -inf], [inf, 0.0, 0.0], [nan, 0.0, 0.0]])
    expected = [[0.5, 0, 0.5], [nan] * 3, [nan] * 3, [nan] * 3]
    assert_close(softmax(x, 1), np.array(expected))
    assert_close(np.exp(log_softmax(x, 1)), np.array(expected))


def test_half_types_are_computed_in_float32():
    x = np.random.default_rng(1).standard_normal(4000).astype(np.float16)
    y = softmax(x, 0)
    assert y.dtype == np.float16
    assert_close(y, along(x.astype(np.float64), 0, by_loops).astype(np.float16))
    assert softmax(x, 0, np.dtype("float64")).dtype == np.float64


def test_gradients_are_the_jacobian():
    rng = np.random.default_rng(2)
    x, g = rng.standard_normal(6), rng.standard_normal(6)
    y = np.array(by_loops(x.tolist()))
    jacobian = [[y[i] * ((i == j) - y[j]) for j in range(6)] for i in range(6)]
    assert_close(softmax_backward(g, y, 0), np.array(jacobian) @ g)
    jacobian = [[(i == j) - y[i] for j in range(6)] for i in range(6)]  # d log y_j / d x_i
    assert_close(log_softmax_backward(g, np.log(y), 0), np.array(jacobian) @ g)


def test_third_derivative():
    x = gf.tensor(np.random.default_rng(3).standard_normal(4), requires_grad=True)

    def third(x):
        with gf.enable_grad():
            y = softmax(x, 0)[0]
            for _ in range(2):
                (g,) = gf.autograd.grad(y, [x], create_graph=True)
                y = (g * g).sum()
            return y

    assert gf.autograd.gradcheck(third, [x])


def test_errors():
    with pytest.raises(RuntimeError, match="softmax: wanted a floating dtype, saw int64"):
        softmax(gf.tensor([1, 2]), 0)
    with pytest.raises(IndexError, match=r"softmax: wanted a dimension in \[-2, 1\], saw 2"):
        softmax(gf.zeros(2, 2), 2)
    with pytest.warns(UserWarning, match="dim=None"):
        assert_close(softmax(np.zeros((2, 4)), None), np.full((2, 4), 0.25))


# --- the kernels ----------------------------------------------------------------------------------------

# Around the longest row of each team, rows that begin and end inside a pack of 16 bytes, rows that need shared memory.
LENGTHS = [1, 9, 64, 65, 256, 257, 260, 1024, 1025, 4100, 8192, 8200, 8201, 20011, 33000]


def both(x64, g64):
    """What the forward and backward kernels should give, in float64."""
    d = x64 - x64.max(-1, keepdims=True)
    log = d - np.log(np.exp(d).sum(-1, keepdims=True))
    y = np.exp(log)
    return y, log, y * (g64 - (g64 * y).sum(-1, keepdims=True)), g64 - y * g64.sum(-1, keepdims=True)


def run(card, x, g, dim, dtype):
    cx, cg = card.asarray(x), card.asarray(g)
    y, log = softmax(cx, dim), log_softmax(cx, dim)
    out = y, log, softmax_backward(cg, y, dim), log_softmax_backward(cg, log, dim)
    assert all(isinstance(v, card.ndarray) for v in out)
    return [card.asnumpy(v).astype(np.float64) for v in out]


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("n", LENGTHS)
def test_rows_of_every_length(card, n, dtype):
    rng = np.random.default_rng(n)
    x, g = (rng.standard_normal((3, n)).astype(dtype) for _ in range(2))
    x *= 4
    expected = both(x.astype(np.float64), g.astype(np.float64))
    for a, b in zip(run(card, x, g, 1, dtype), expected, strict=True):
        assert_close(a, b, dtype=np.dtype(dtype), scale=4)


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [9000, 12003])
def test_rows_that_the_card_cannot_hold_are_read_again(card, n, dtype, monkeypatch):
    monkeypatch.setattr(row, "shared_limit", lambda device: 2 * row.RESERVED + 512 * 32)  # a pack of each thread
    test_rows_of_every_length(card, n, dtype)


@pytest.mark.cuda
@pytest.mark.parametrize("n", [30, 2000])
def test_arrays_that_start_anywhere(card, n):
    rng = np.random.default_rng(n)
    x, g = (rng.standard_normal(3 * n + 1).astype(np.float32) for _ in range(2))
    expected = both(*(v[1:].reshape(3, n).astype(np.float64) for v in (x, g)))
    x, g = (card.asarray(v)[1:].reshape(3, n) for v in (x, g))
    for a, b in zip(run(card, x, g, 1, "float32"), expected, strict=True):
        assert_close(a, b, dtype=np.dtype(np.float32))


@pytest.mark.cuda
@pytest.mark.parametrize("shape", [(2, 9, 3), (1, 40, 40), (5, 2, 1, 7)])
def test_columns(card, shape):
    rng = np.random.default_rng(0)
    x, g = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
    expected = both(*(np.moveaxis(v, 1, -1).astype(np.float64) for v in (x, g)))
    for a, b in zip(run(card, x, g, 1, "float32"), expected, strict=True):
        assert_close(np.moveaxis(a, 1, -1), b, dtype=np.dtype(np.float32))


@pytest.mark.cuda
@pytest.mark.parametrize("n", [5, 70, 2000, 8300])
def test_infinities_on_the_card(card, n):
    inf, nan = math.inf, math.nan
    x = np.zeros((5, n), np.float32)
    x[0, 1], x[1], x[2, 3], x[3, 2], x[4, 1:] = -inf, -inf, inf, nan, -inf
    expected = softmax(x, 1)
    assert np.isnan(expected[1:4]).all()
    assert expected[4, 0] == 1
    assert_close(card.asnumpy(softmax(card.asarray(x), 1)), expected)
    assert_close(card.asnumpy(softmax(card.asarray(x.T.copy()), 0)), expected.T)
    np.testing.assert_array_equal(np.isnan(card.asnumpy(log_softmax(card.asarray(x), 1))), np.isnan(expected))


@pytest.mark.cuda
def test_one_launch_and_same_bits(card):
    from gradflow.cuda import launch

    x = card.asarray(np.random.default_rng(4).standard_normal((7, 300)).astype(np.float32))
    before = launch.count
    y = softmax(x, 1)
    assert launch.count == before + 1
    np.testing.assert_array_equal(card.asnumpy(y), card.asnumpy(softmax(x, 1)))


@pytest.fixture
def split(monkeypatch):
    """Rows of a few hundred values are made in pieces."""
    monkeypatch.setattr(row, "PIECE", 120)
    monkeypatch.setattr(row, "ALONE", 1e-9)


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("n", [300, 1001, 8197])
def test_long_rows_are_made_in_pieces(card, n, dtype, split, monkeypatch):
    if n == 8197:  # full ones
        monkeypatch.setattr(row, "PIECE", 4088)
    dtype = gf.backend.bfloat16() if dtype == "bfloat16" else np.dtype(dtype)
    rng = np.random.default_rng(n)
    x, g = ((2 * rng.standard_normal((3, n))).astype(dtype) for _ in range(2))
    x[1, n // 2 :] -= dtype.type(20)  # the largest values lie in the first pieces
    x[2] += dtype.type(100)
    expected = both(x.astype(np.float64), g.astype(np.float64))
    for a, b in zip(run(card, x, g, 1, dtype), expected, strict=True):
        assert_close(a, b, dtype=dtype, scale=4)


@pytest.mark.cuda
def test_infinities_in_pieces_of_a_row(card, split):
    inf, nan = math.inf, math.nan
    x = np.zeros((6, 1001), np.float32)
    x[0, :400], x[1], x[2, 3], x[3, 900], x[4, 1:], x[5, :500] = -inf, -inf, inf, nan, -inf, nan
    with np.errstate(invalid="ignore"):
        expected = softmax(x, 1)
    assert np.isnan(expected[[1, 2, 3, 5]]).all()
    assert expected[4, 0] == 1
    assert_close(card.asnumpy(softmax(card.asarray(x), 1)), expected)
    np.testing.assert_array_equal(np.isnan(card.asnumpy(log_softmax(card.asarray(x), 1))), np.isnan(expected))


@pytest.mark.cuda
def test_rows_in_pieces_take_two_launches_that_read_twice(card, split, monkeypatch):
    from gradflow.cuda import launch

    monkeypatch.setattr(row, "PIECE", 4088)
    x = card.asarray(np.random.default_rng(4).standard_normal((1, 8192)).astype(np.float32))
    for call, reads in ((softmax, 2), (log_softmax, 2), (softmax_backward, 4), (log_softmax_backward, 3)):
        args = (x,) if reads == 2 else (x, x + 0)
        before = launch.count
        with card.traffic() if hasattr(card, "traffic") else contextlib.nullcontext() as seen:
            y = call(*args, 1)
        assert launch.count == before + 2
        np.testing.assert_array_equal(card.asnumpy(y), card.asnumpy(call(*args, 1)))
        if seen is not None:
            assert seen.distinct <= 1.05 * (reads + 1) * y.nbytes


def test_how_many_blocks_share_a_row(monkeypatch):
    """A few long rows are shared, not many and not short ones: of an H200's 132 multiprocessors."""
    monkeypatch.setattr(row.launch, "multiprocessors", lambda device: 132)

    class Device:
        id = 0

    class X:
        dtype, device = np.dtype(np.float32), Device

    found = {(m, n): row.pieces(X, m, n, (2, 3)) for m in (1, 8, 30, 64, 1000) for n in (4000, 16384, 131072, 1 << 20)}
    assert {k for k, pieces in found.items() if pieces} == {(1, 131072), (8, 131072), (30, 1 << 20), (1, 1 << 20), (8, 1 << 20)}
    assert found[1, 131072] == 33
    assert row.pieces(X, 32, 50257, (1, 1), 0) == 13  # cross entropy, whose pieces cost nothing
    assert not row.pieces(X, 64, 50257, (1, 1), 0)
