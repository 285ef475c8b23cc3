"""Random numbers: the stream of the paper, the same on every device, with the right distributions; dropout."""

from __future__ import annotations

import math

import numpy as np
import pytest
from conftest import dtype_named
from tolerance import assert_close

from gradflow import backend, kernel, tape
from gradflow.backend import Generator, philox
from gradflow.cuda import launch as launching
from gradflow.cuda import random as cuda_random
from gradflow.op import wrap
from gradflow.ops import random

FLOATS = ["float32", "float64", "float16", "bfloat16"]


def philox_4x64(key, counter):
    """One block by the definition of Salmon et al. 2011, in Python integers."""
    mask = 2**64 - 1
    c, k = [counter >> 64 * i & mask for i in range(4)], [key & mask, key >> 64]
    for _ in range(10):
        a, b = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
        c = [b >> 64 ^ c[1] ^ k[0], b & mask, a >> 64 ^ c[3] ^ k[1], a & mask]
        k = [k[0] + 0x9E3779B97F4A7C15 & mask, k[1] + 0xBB67AE8584CAA73B & mask]
    return c


SEEDS = [(0, 0), (12345, 7), (2**64 - 1, 2**40), (1, 2**64 - 2)]


@pytest.mark.parametrize(("key", "counter"), SEEDS)
def test_the_stream_is_philox(key, counter):
    expected = [w for b in range(3) for w in philox_4x64(key, counter + b + 1)]
    assert philox(key, counter, 11).tolist() == expected[:11]


@pytest.mark.cuda
@pytest.mark.parametrize(("key", "counter"), SEEDS)
def test_the_stream_on_the_card(key, counter, card):
    for n in (0, 1, 3, 4, 5, 1027):
        y = card.asnumpy(cuda_random.words((n,), np.uint64, key, counter))
        assert y.tolist() == philox(key, counter, n).tolist()


@pytest.mark.cuda
@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("what", ["uniform", "normal"])
def test_devices_agree(what, name, card):
    dtype = dtype_named(name)
    for shape in [(), (0,), (1,), (7,), (8,), (9,), (3, 5), (2, 1, 1031)]:
        a, b = (getattr(random, what)(shape, dtype, xp, Generator(5)) for xp in (np, card))
        assert isinstance(b, card.ndarray)
        assert (a.shape, a.dtype) == (b.shape, b.dtype) == (shape, dtype)
        if what == "uniform":
            np.testing.assert_array_equal(card.asnumpy(b), a)
        else:
            assert_close(card.asnumpy(b), a)


@pytest.mark.cuda
def test_devices_agree_on_the_rest(card):
    p, w = np.linspace(0, 1, 50), np.array([[0.1, 0.0, 0.5, 0.4], [1.0, 2.0, 0.0, 3.0]])
    here, there = Generator(9), Generator(9)
    for make in (
        lambda xp, g: random.integers(-5, 1000, (7, 3), np.int32, xp, g),
        lambda xp, g: random.integers(0, 2**50, 20, np.int64, xp, g),
        lambda xp, g: random.permutation(1000, xp, g),
        lambda xp, g: random.bernoulli(xp.asarray(p), g),
        lambda xp, g: random.multinomial(xp.asarray(w), 9, True, g),
        lambda xp, g: random.multinomial(xp.asarray(w), 3, False, g),
    ):
        a, b = make(np, here), make(card, there)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(card.asnumpy(b), a)
        assert here.get_state() == there.get_state()
    a, b = (random.exponential(20, np.float32, xp, g) for xp, g in ((np, here), (card, there)))
    assert_close(card.asnumpy(b), a)


@pytest.mark.cuda
def test_without_twins_the_bits_are_the_same(card, monkeypatch):
    monkeypatch.setattr(kernel, "definitions_only", True)
    before = launching.count
    u = random.uniform(10, np.float32, card, Generator(2))
    y = random.dropout(card.asarray(np.ones(10)), 0.5, 1, 2)
    assert launching.count == before
    assert isinstance(u, card.ndarray)
    np.testing.assert_array_equal(card.asnumpy(u), random.uniform(10, np.float32, np, Generator(2)))
    np.testing.assert_array_equal(card.asnumpy(y), random.dropout(np.ones(10), 0.5, 1, 2))


@pytest.mark.cuda
def test_words_in_device_memory_stand_for_the_key_and_move_the_counter(card):
    """What a captured graph does at each replay."""
    key = cuda_random.Replayed(3)
    key.words = card.asarray(np.array([5, 6], np.uint64))
    y = card.asnumpy(cuda_random.uniform((100,), np.float32, key, 0))
    later = Generator()
    later.set_state((5, 6))
    np.testing.assert_array_equal(y, random.uniform(100, np.float32, np, later))


def test_draws_follow_one_another():
    """Every draw begins at the next block, so that no two share bits."""
    g = Generator(4)
    words = philox(4, 0, 16)
    assert random.words(3, np, g).tolist() == words[:3].tolist()
    assert random.words(5, np, g).tolist() == words[4:9].tolist()
    np.testing.assert_array_equal(random.uniform(2, np.float64, np, g), (words[12:14] >> 11) / 2**53)
    state = g.get_state()
    again = random.normal(5, np.float32, np, g)
    g.set_state(state)
    np.testing.assert_array_equal(random.normal(5, np.float32, np, g), again)


def test_uniform_values():
    words = philox(8, 0, 3).tolist()
    halves = [h for w in words for h in (w & 0xFFFFFFFF, w >> 32)]
    u = random.uniform(5, np.float32, np, Generator(8))
    assert u.tolist() == [(h >> 8) / 2**24 for h in halves[:5]]
    assert random.uniform(5, np.float16, np, Generator(8)).tolist() == [(h >> 21) / 2**11 for h in halves[:5]]


def test_normal_values():
    w = philox(8, 0, 4)
    z = random.normal(3, np.float64, np, Generator(8))
    expected = []
    for a, b in w.reshape(2, 2).tolist():
        u, v = ((a >> 11) + 0.5) / 2**53, (b >> 11) / 2**53
        r = math.sqrt(-2 * math.log(u))
        expected += [r * math.cos(2 * math.pi * v), r * math.sin(2 * math.pi * v)]
    assert_close(z, np.array(expected[:3]))
    words = w.tolist()
    z = random.normal(2, np.float32, np, Generator(8))
    r, v = math.sqrt(-2 * math.log(((words[0] & 0xFFFFFFFF) + 0.5) / 2**32)), (words[0] >> 32) / 2**32
    assert_close(z, np.float32([r * math.cos(2 * math.pi * v), r * math.sin(2 * math.pi * v)]))


@pytest.mark.cuda
def test_normal_far_out(card):
    """The half added to the integer shows where the integer is small: here it is 19, found by searching the stream."""
    at = Generator(1)
    at.set_state((1, 25805541))
    w = at.words(4).tolist()[1]
    assert w & 0xFFFFFFFF == 19
    r, v = math.sqrt(-2 * math.log(19.5 / 2**32)), (w >> 32) / 2**32
    for xp in (np, card):
        at.set_state((1, 25805541))
        z = backend.asnumpy(random.normal(8, np.float32, xp, at))[2:4]
        assert_close(z, np.float32([r * math.cos(2 * math.pi * v), r * math.sin(2 * math.pi * v)]))


# --- distributions: each statistic within 5 standard errors; the seed is fixed, so a pass is a pass ------------------

N = 200_000


def near(sample_mean, mean, deviation, n=N):
    assert abs(sample_mean - mean) < 5 * deviation / math.sqrt(n), f"{sample_mean}, expected {mean}"


@pytest.mark.parametrize("name", FLOATS)
def test_uniform_distribution(name):
    u = random.uniform(N, dtype_named(name), np, Generator(1)).astype(np.float64)
    assert u.min() >= 0
    assert u.max() < 1
    step = {"bfloat16": 2**-8, "float16": 2**-11}.get(name, 0)
    near(u.mean(), 0.5 - step / 2, math.sqrt(1 / 12))
    near((u**2).mean(), 1 / 3 - step / 2, math.sqrt(4 / 45))
    near((u[1:] * u[:-1]).mean(), (0.5 - step / 2) ** 2, 0.25)


@pytest.mark.parametrize("name", FLOATS)
def test_normal_distribution(name):
    z = random.normal(N, dtype_named(name), np, Generator(2)).astype(np.float64)
    near(z.mean(), 0, 1)
    near((z**2).mean(), 1, math.sqrt(2))
    near((z**3).mean(), 0, math.sqrt(15))
    near((z**4).mean(), 3, math.sqrt(96))
    near((z[::2] * z[1::2]).mean(), 0, 1, N // 2)
    near((np.abs(z) < 1).mean(), math.erf(math.sqrt(0.5)), 0.47 if z.dtype.itemsize > 2 else 1)


def test_exponential_distribution():
    x = random.exponential(N, np.float64, np, Generator(3))
    near(x.mean(), 1, 1)
    near((x > 2).mean(), math.exp(-2), 0.35)
    assert random.exponential(9, np.float16, np, Generator(3)).dtype == np.float16


RANGES = [(0, 1), (0, 6), (-3, 4), (0, 2**20 + 1), (-(2**40), 2**41), (-(2**63), 2**63)]


@pytest.mark.parametrize(("low", "high"), RANGES)
def test_integers(low, high):
    x = random.integers(low, high, (N,), np.int64, np, Generator(4))
    assert x.dtype == np.int64
    assert low <= int(x.min()) <= int(x.max()) < high
    width = high - low
    near((x.astype(np.float64) - low).mean() / width, (width - 1) / 2 / width, math.sqrt(1 / 12))
    if width <= 10:
        for v in range(low, high):
            near((x == v).mean(), 1 / width, 0.5)
    words = philox(4, 0, 100).tolist()
    assert x[:100].tolist() == [low + (w * width >> 64) for w in words]


def test_integers_of_other_types():
    x = random.integers(2**63, 2**64, 100, np.uint64, np, Generator(4))
    assert x.min() >= 2**63
    assert random.integers(0, 200, 50, np.uint8, np, Generator(4)).dtype == np.uint8
    with pytest.raises(RuntimeError, match="randint: wanted low < high, saw 3 and 3"):
        random.integers(3, 3, 1)
    with pytest.raises(RuntimeError, match="randint: wanted bounds within int8"):
        random.integers(0, 300, 1, np.int8)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 100, 65537])
def test_permutation(n):
    p = random.permutation(n, np, Generator(6))
    assert p.dtype == np.int64
    assert np.sort(p).tolist() == list(range(n))


def test_permutations_are_equally_likely():
    g = Generator(7)
    counts: dict[tuple, int] = {}
    for _ in range(6000):
        p = tuple(random.permutation(3, np, g).tolist())
        counts[p] = counts.get(p, 0) + 1
    assert len(counts) == 6
    for c in counts.values():
        near(c / 6000, 1 / 6, math.sqrt(5) / 6, 6000)


def test_bernoulli():
    p = np.repeat([0.0, 0.2, 1.0], N // 2).astype(np.float32)
    x = random.bernoulli(p, Generator(8)).reshape(3, -1)
    assert x.dtype == np.float32
    assert not x[0].any()
    assert x[2].all()
    near(x[1].mean(), 0.2, 0.4, N // 2)
    with pytest.raises(RuntimeError, match=r"bernoulli: wanted probabilities in \[0, 1\]"):
        random.bernoulli(np.array([1.5]))
    with pytest.raises(RuntimeError, match="bernoulli: wanted floating probabilities"):
        random.bernoulli(np.array([1]))


@pytest.mark.parametrize("replacement", [True, False])
def test_multinomial(replacement):
    weights = np.array([1.0, 0.0, 3.0, 6.0])
    x = random.multinomial(np.tile(weights, (N // 10, 1)), 2, replacement, Generator(9))
    assert x.shape == (N // 10, 2)
    for i, w in enumerate(weights):
        near((x[:, 0] == i).mean(), w / 10, 0.5, N // 10)
    second = {True: 3 / 10, False: 3 / 4}[replacement]  # after the index of weight 6 was drawn
    after = x[x[:, 0] == 3, 1]
    near((after == 2).mean(), second, 0.5, len(after))
    assert replacement or (x[:, 0] != x[:, 1]).all()
    assert random.multinomial(weights, 3, replacement, Generator(9)).shape == (3,)


def test_multinomial_of_tiny_and_many_weights():
    x = random.multinomial(np.array([1e-300, 0.0]), 5, True, Generator(1))
    assert not x.any()
    w = np.zeros(1000)
    w[[3, 999]] = 1e30
    assert set(random.multinomial(w, 100, True, Generator(1)).tolist()) == {3, 999}


@pytest.mark.parametrize(
    ("weights", "n", "replacement", "message"),
    [
        ([1.0, -1.0], 1, True, "finite weights of at least 0"),
        ([np.inf, 1.0], 1, True, "finite weights of at least 0"),
        ([0.0, 0.0], 1, True, "wanted 1 nonzero weights"),
        ([0.0, 1.0], 2, False, "wanted 2 nonzero weights"),
        ([1.0, 1.0], 3, False, "wanted 1 to 2 samples"),
        ([1.0, 1.0], 0, True, "samples"),
        ([1, 1], 1, True, "floating weights"),
        ([[[1.0]]], 1, True, "1 or 2 dimensions"),
    ],
)
def test_multinomial_errors(weights, n, replacement, message):
    with pytest.raises(RuntimeError, match=f"multinomial: .*{message}"):
        random.multinomial(np.array(weights), n, replacement)


def test_errors_of_draws():
    with pytest.raises(RuntimeError, match="uniform: wanted a floating dtype, saw int64"):
        random.uniform(3, np.int64)
    with pytest.raises(RuntimeError, match="normal: wanted sizes of at least 0"):
        random.normal((3, -1))
    with pytest.raises(RuntimeError, match="randperm: wanted n of at least 0"):
        random.permutation(-1)


# --- dropout --------------------------------------------------------------------------------------------


def test_dropout_values():
    x = np.arange(1, 12, dtype=np.float64).reshape(1, 11)
    halves = [h for w in philox(3, 4, 6).tolist() for h in (w & 0xFFFFFFFF, w >> 32)]
    expected = [v / 0.7 if h >= round(0.3 * 2**32) else 0 for v, h in zip(x[0].tolist(), halves, strict=False)]
    assert_close(random.dropout(x, 0.3, 3, 4), np.array([expected]))
    np.testing.assert_array_equal(random.dropout(x, 0.0, 3, 4), x)
    np.testing.assert_array_equal(random.dropout(x, 1.0, 3, 4), 0 * x)
    assert random.dropout(x.astype(np.float16), 0.3, 3, 4).dtype == np.float16


@pytest.mark.cuda
@pytest.mark.parametrize("name", FLOATS)
def test_dropout_off_the_grid_of_loads(name, card):
    """A slice that does not start at a multiple of 16 bytes."""
    x = np.linspace(-1, 1, 1003).astype(dtype_named(name))
    for cut in (slice(1, None), slice(None, 9)):
        y = cuda_random.dropout(card.asarray(x)[cut], 0.4, 5, 6)
        assert_close(card.asnumpy(y), random.dropout(x[cut], 0.4, 5, 6))


def test_dropout_distribution():
    y = random.dropout(np.ones(N, np.float32), 0.1, 1, 2)
    near((y == 0).mean(), 0.1, 0.3)
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.9)}


def test_dropout_gradient_uses_the_same_mask():
    x = wrap(np.full(1000, 2.0))
    x.requires_grad_()
    y = random.dropout(x, 0.25, 7, 8)
    (g,) = tape.backward([(y.node, np.full(1000, 3.0))]).values()
    np.testing.assert_array_equal(g * 2, y.array * 3)
    assert not any(isinstance(v, np.ndarray) for v in y.node.saved or ()), "no mask is kept"


def test_drop_takes_fresh_bits():
    g = Generator(5)
    x = np.ones(1000)
    a, b = random.drop(x, 0.5, g), random.drop(x, 0.5, g)
    assert (a != b).any()
    np.testing.assert_array_equal(random.drop(x, 0.5, Generator(5)), a)
    assert g.get_state() == (5, 250)


def test_dropout_errors():
    with pytest.raises(ValueError, match=r"dropout: wanted a probability p in \[0, 1\], saw 1.5"):
        random.dropout(np.ones(3), 1.5, 0, 0)
    with pytest.raises(RuntimeError, match="dropout: wanted a floating dtype, saw int64"):
        random.dropout(np.ones(3, np.int64), 0.5, 0, 0)
