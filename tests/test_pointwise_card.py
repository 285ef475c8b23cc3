"""Elementwise kernels on the card: half types by approximations, arrays that repeat along others."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tolerance import assert_close

from gradflow.ops import pointwise

pytestmark = pytest.mark.cuda


def every_half():
    """All finite float16 numbers."""
    x = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    return x[np.isfinite(x)]


def normal_cdf(x):
    return np.array([math.erfc(-v / math.sqrt(2)) / 2 for v in x])


def sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


FUNCTIONS = {
    "exp": (pointwise.exp, np.exp),
    "tanh": (pointwise.tanh, np.tanh),
    "sigmoid": (pointwise.sigmoid, sigmoid),
    "silu": (pointwise.silu, lambda x: x * sigmoid(x)),
    "gelu": (pointwise.gelu, lambda x: x * normal_cdf(x)),
    "gelu_tanh": (lambda x: pointwise.gelu(x, "tanh"), gelu_tanh),
    "softplus": (pointwise.softplus, lambda x: np.where(x > 20, x, softplus(x))),
    "log_sigmoid": (pointwise.log_sigmoid, lambda x: -softplus(-x)),
    "mish": (pointwise.mish, lambda x: x * np.tanh(softplus(x))),
    "elu": (pointwise.elu, lambda x: np.where(x > 0, x, np.expm1(x))),
    "gelu_backward": (
        lambda x: pointwise.gelu_backward(x * 0 + 1, x, "none"),
        lambda x: normal_cdf(x) + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi),
    ),
    "silu_backward": (
        lambda x: pointwise.silu_backward(x * 0 + 1, x),
        lambda x: sigmoid(x) * (1 + x * (1 - sigmoid(x))),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_number_of_16_bits(card, name):
    function, exact = FUNCTIONS[name]
    x = every_half()
    with np.errstate(all="ignore"):
        y, expected = card.asnumpy(function(card.asarray(x))), exact(x.astype(np.float64))
        close = expected.astype(np.float16)
    assert y.dtype == np.float16
    fine = np.abs(close) < 65504
    np.testing.assert_array_equal(np.isinf(y), np.isinf(close))
    # half a place for the rounding, and what the approximation may be off
    place = np.spacing(np.abs(close[fine])).astype(np.float64)
    small = 2e-6 if "backward" in name else 0  # where such a slope passes through zero its terms cancel
    off = np.abs(y[fine].astype(np.float64) - expected[fine]) - (0.5 * place + 2e-5 * np.abs(expected[fine]) + small)
    assert off.max() <= 0, (name, x[fine][off.argmax()], off.max())


PAIRS = [
    ((5, 12), (12,)), ((3, 7), (7,)), ((2, 3, 4, 4), (3, 1, 1)), ((2, 3, 7, 7), (1, 3, 1, 1)), ((9, 10), (9, 1)),
    ((4, 33), ()), ((2, 3, 8), (3, 8)), ((301, 16), (16,)), ((2, 2, 2, 1), (2, 2, 1)), ((6, 3), (1,)), ((3, 5000), (5000,)),
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
@pytest.mark.parametrize(("whole", "part"), PAIRS)
def test_an_array_that_repeats(card, whole, part, dtype):
    from gradflow.cuda import launch
    from gradflow.cuda.pointwise import repeats

    assert repeats(whole, part) is not None
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal(whole).astype(dtype), rng.uniform(0.5, 2, part).astype(dtype)
    for name, exact in (("add", np.add), ("sub", np.subtract), ("mul", np.multiply), ("div", np.divide)):
        f = getattr(pointwise, name)
        for x, y in ((a, b), (b, a)):
            before = launch.count
            z = card.asnumpy(f(card.asarray(x), card.asarray(y)))
            assert launch.count == before + 1
            assert z.dtype == x.dtype
            assert_close(z, exact(x.astype(np.float64), y.astype(np.float64)), dtype=np.dtype(dtype), scale=4)


def test_what_repeats():
    from gradflow.cuda.pointwise import repeats

    assert repeats((2, 3, 4, 5), (3, 1, 1)) == (20, 3)
    assert repeats((2, 3, 4), (4,)) == (1, 4)
    assert repeats((2, 3, 4), (2, 1, 1)) == (12, 2)
    assert repeats((2, 3), ()) == (6, 1)
    assert repeats((2, 3, 4), (2, 1, 4)) is None
    assert repeats((3,), (2, 3)) is None
    assert repeats((3, 1), (1, 3)) is None
    assert repeats((0, 3), (3,)) is None


def turned(card, x, axes):
    """x on the card with its elements in the order of the axes."""
    return card.asarray(np.ascontiguousarray(x.transpose(axes))).transpose([axes.index(i) for i in range(x.ndim)])


LAST, DOWN = (0, 2, 3, 1), (3, 2, 1, 0)
A, B = np.random.default_rng(0).uniform(0.5, 2, (2, 2, 8, 5, 6)).astype(np.float32)
# function, arrays and their orders, what is expected and in which order, which kernel does it
ORDERS = [
    (pointwise.relu, [(A, LAST)], np.maximum(A, 0), LAST, "pointwise<"),
    (pointwise.exp, [(A, DOWN)], np.exp(A), DOWN, "pointwise<"),
    (pointwise.exp, [(A, (2, 0, 3, 1))], np.exp(A), (2, 0, 3, 1), "pointwise<"),
    (pointwise.relu_backward, [(A, LAST), (B - 1, LAST)], A * (B > 1), LAST, "pointwise<"),
    (pointwise.gt, [(A, LAST), (B, LAST)], A > B, LAST, "pointwise<"),
    (pointwise.add, [(A, LAST), (B[0, :, :1, :1], (0, 1, 2))], A + B[0, :, :1, :1], LAST, "pointwise_repeated<"),
    (pointwise.sub, [(B[:1, :, :1, :1], LAST), (A, LAST)], B[:1, :, :1, :1] - A, LAST, "pointwise_repeated<"),
    (pointwise.mul, [(A, LAST), (B[:, :, :1, :1], LAST)], A * B[:, :, :1, :1], LAST, "mul_strided"),
    (pointwise.add, [(A, LAST), (B, (0, 1, 2, 3))], A + B, LAST, "add_strided"),
    (pointwise.add, [(B, (0, 1, 2, 3)), (A, LAST)], A + B, (0, 1, 2, 3), "add_strided"),
]


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("row", ORDERS, ids=lambda row: f"{row[0].op.name}-{''.join(map(str, row[3]))}-{row[4][:12]}")
def test_an_order_of_the_inputs_is_the_results(card, row):
    f, given, expected, order, kernel = row
    args = [turned(card, x, axes) for x, axes in given]
    with card.traffic() as t:
        y = f(*args)
    assert len(t.launches) == 1 and t.launches[0].name.startswith(kernel)
    assert y.transpose(order).flags.c_contiguous
    np.testing.assert_allclose(card.asnumpy(y), expected, rtol=1e-6)
    if kernel.startswith("pointwise"):
        assert t.distinct == sum(x.nbytes for x, _ in given) + expected.nbytes and t.wide > 0.7
    part = f(*(turned(card, x, axes)[:, :, 1:] if x.shape == A.shape else card.asarray(x) for x, axes in given))
    assert part.transpose(order).flags.c_contiguous  # of what has gaps too
    np.testing.assert_allclose(card.asnumpy(part), expected[:, :, 1:], rtol=1e-6)
