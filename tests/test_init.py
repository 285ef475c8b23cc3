"""Initial values: bounds, moments and structure of every fill; the same bits from the same seed."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest

import gradflow as gf
from gradflow import backend
from gradflow.nn import init

FILLS = {
    "uniform_": init.uniform_,
    "normal_": init.normal_,
    "trunc_normal_": init.trunc_normal_,
    "xavier_uniform_": init.xavier_uniform_,
    "xavier_normal_": init.xavier_normal_,
    "kaiming_uniform_": init.kaiming_uniform_,
    "kaiming_normal_": init.kaiming_normal_,
    "orthogonal_": init.orthogonal_,
    "sparse_": lambda t: init.sparse_(t, 0.5),
}


@pytest.mark.parametrize("name", FILLS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_fills_write_in_place_from_the_default_generator(name, dtype):
    t = gf.zeros(6, 8, dtype=dtype)
    array, before = t.array, t._version
    gf.manual_seed(3)
    assert FILLS[name](t) is t
    assert t.array is array and t.dtype == np.dtype(dtype) and t._version > before
    first = t.array.copy()
    assert np.unique(first).size > 8
    gf.manual_seed(3)
    FILLS[name](t)
    assert (t.array == first).all()
    FILLS[name](t)
    assert (t.array != first).any()


def test_fills_are_not_recorded():
    p = gf.nn.Parameter(gf.zeros(3, 3))
    for fill in (*FILLS.values(), init.ones_, init.zeros_, init.eye_, lambda t: init.constant_(t, 2)):
        fill(p)
        assert p.is_leaf and p.requires_grad


def test_a_given_generator_is_used():
    state = backend.default_generator.get_state()
    a = init.normal_(gf.zeros(5), generator=gf.Generator(7))
    b = init.normal_(gf.zeros(5), generator=gf.Generator(7))
    assert (a.array == b.array).all() and backend.default_generator.get_state() == state


@pytest.mark.parametrize(
    ("name", "bound"),
    [
        ("uniform_", None),
        ("xavier_uniform_", math.sqrt(6 / (300 + 200))),
        ("kaiming_uniform_", math.sqrt(6 / 300)),
    ],
)
def test_uniform_bounds_and_variance(name, bound):
    t = getattr(init, name)(gf.zeros(200, 300, dtype=gf.float64)).array
    low, high = (0, 1) if bound is None else (-bound, bound)
    assert low <= t.min() < low + (high - low) / 1000 and high - (high - low) / 1000 < t.max() < high
    assert abs(t.mean() - (low + high) / 2) < 0.01 * (high - low)
    assert abs(t.var() / ((high - low) ** 2 / 12) - 1) < 0.02


@pytest.mark.parametrize(
    ("make", "std"),
    [
        (lambda t: init.normal_(t, 3, 2), 2),
        (init.xavier_normal_, math.sqrt(2 / 500)),
        (init.kaiming_normal_, math.sqrt(2 / 300)),
        (lambda t: init.kaiming_normal_(t, mode="fan_out", nonlinearity="relu"), math.sqrt(2 / 200)),
        (lambda t: init.kaiming_normal_(t, a=1.0), math.sqrt(1 / 300)),
        (lambda t: init.xavier_normal_(t, gain=5), 5 * math.sqrt(2 / 500)),
    ],
)
def test_normal_standard_deviation(make, std):
    t = make(gf.zeros(200, 300, dtype=gf.float64)).array
    assert abs(t.std() / std - 1) < 0.02


def test_fans_count_the_kernel():
    w = gf.zeros(8, 3, 5, 7)
    assert init.fans("test", w) == (3 * 35, 8 * 35)
    assert abs(init.kaiming_uniform_(gf.zeros(100, 10, 3, 3)).array).max() <= math.sqrt(6 / 90)


def test_truncated_normal():
    t = init.trunc_normal_(gf.zeros(400, 400, dtype=gf.float64), 1.0, 2.0, 0.0, 4.0).array
    assert 0 <= t.min() < 0.01 and 3.99 < t.max() <= 4
    a, b = mpmath.mpf(-1) / 2, mpmath.mpf(3) / 2  # the bounds in standard deviations
    z = mpmath.ncdf(b) - mpmath.ncdf(a)
    mean = 1 + 2 * (mpmath.npdf(a) - mpmath.npdf(b)) / z
    assert abs(t.mean() - float(mean)) < 0.01
    # its distribution function, at a few places
    for v in (0.5, 1.0, 2.5):
        p = (mpmath.ncdf((v - 1) / 2) - mpmath.ncdf(a)) / z
        assert abs((t < v).mean() - float(p)) < 0.005


@pytest.mark.parametrize("p", [1e-300, 1e-30, 1e-9, 0.02, 0.3, 0.4999, 0.5, 0.77, 0.999999, 1 - 1e-12])
def test_normal_quantile(p):
    with mpmath.workdps(40):
        exact = mpmath.sqrt(2) * mpmath.erfinv(2 * mpmath.mpf(p) - 1) if p > 1e-30 else None
        z = init.normal_quantile(np.array([p]))[0]
        if exact is None:  # check the inverse instead: erfinv loses itself so far out
            assert abs(mpmath.erfc(-mpmath.mpf(float(z)) / mpmath.sqrt(2)) / 2 / mpmath.mpf(p) - 1) < 1e-11
        else:
            assert abs(z - exact) <= 4e-15 * max(1, abs(exact))


def test_normal_quantile_at_the_ends():
    assert (init.normal_quantile(np.array([0.0, 1.0])) == [-np.inf, np.inf]).all()


def test_constants():
    assert (init.constant_(gf.zeros(2, 3), 0.5).array == 0.5).all()
    assert (init.ones_(gf.zeros(2)).array == 1).all() and (init.zeros_(gf.ones(2)).array == 0).all()
    assert (init.eye_(gf.zeros(2, 3)).array == np.eye(2, 3)).all()


@pytest.mark.parametrize("groups", [1, 2])
def test_dirac_keeps_channels(groups):
    w = init.dirac_(gf.ones(4, 2, 3, 3), groups).array
    expected = np.zeros((4, 2, 3, 3))
    for group in range(groups):
        for i in range(2):
            expected[group * (4 // groups) + i, i, 1, 1] = 1
    assert (w == expected).all()


@pytest.mark.parametrize("shape", [(4, 4), (3, 7), (7, 3), (5, 2, 2)])
def test_orthogonal(shape):
    q = init.orthogonal_(gf.zeros(*shape, dtype=gf.float64), gain=2).array.reshape(shape[0], -1)
    small = q @ q.T if q.shape[0] <= q.shape[1] else q.T @ q
    assert np.allclose(small, 4 * np.eye(len(small)), atol=1e-12)


def test_orthogonal_is_uniform():
    # the sign fix: without it, LAPACK's QR gives a determinant (here: a sign) that is not a coin toss
    signs = [np.sign(init.orthogonal_(gf.zeros(2, 2)).array[0, 0]) for _ in range(200)]
    assert 60 < signs.count(1) < 140


def test_sparse_columns():
    t = init.sparse_(gf.zeros(10, 6), 0.25, std=2.0).array
    assert ((t == 0).sum(0) == 3).all()
    assert len({tuple(np.flatnonzero(column == 0)) for column in t.T}) > 1


def test_gains():
    assert init.calculate_gain("tanh") == 5 / 3 and init.calculate_gain("relu") == math.sqrt(2)
    assert init.calculate_gain("leaky_relu", 0.2) == math.sqrt(2 / 1.04)
    assert init.calculate_gain("leaky_relu") == math.sqrt(2 / (1 + 0.01**2))
    assert init.calculate_gain("conv2d") == init.calculate_gain("linear") == init.calculate_gain("sigmoid") == 1
    assert init.calculate_gain("selu") == 0.75


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: init.calculate_gain("softmax"), "wanted leaky_relu, sigmoid"),
        (lambda: init.calculate_gain("leaky_relu", True), "wanted a number for the slope"),
        (lambda: init.eye_(gf.zeros(3)), "wanted 2 dimensions"),
        (lambda: init.dirac_(gf.zeros(3, 3)), "wanted 3 to 5 dimensions"),
        (lambda: init.dirac_(gf.zeros(3, 3, 3), 2), "divisible by groups 2"),
        (lambda: init.xavier_uniform_(gf.zeros(3)), "xavier_uniform_: wanted at least 2 dimensions"),
        (lambda: init.kaiming_normal_(gf.zeros(3, 3), mode="fan"), "wanted mode 'fan_in' or 'fan_out'"),
        (lambda: init.orthogonal_(gf.zeros(3)), "wanted at least 2 dimensions"),
        (lambda: init.sparse_(gf.zeros(3), 0.5), "wanted 2 dimensions"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_empty_tensors():
    for fill in (init.uniform_, init.normal_, init.trunc_normal_, init.kaiming_uniform_, init.orthogonal_):
        assert fill(gf.zeros(0, 3)).shape == (0, 3)


@pytest.mark.cuda
@pytest.mark.parametrize("name", ["uniform_", "kaiming_uniform_", "orthogonal_", "trunc_normal_", "sparse_", "eye_"])
def test_the_card_gets_the_same_values(card, name):
    fill = {**FILLS, "eye_": init.eye_}[name]
    gf.manual_seed(1)
    a = fill(gf.zeros(6, 8))
    gf.manual_seed(1)
    b = fill(gf.zeros(6, 8, device="cuda"))
    assert b.is_cuda
    assert np.allclose(a.array, backend.asnumpy(b.array), rtol=1e-6, atol=1e-7)
