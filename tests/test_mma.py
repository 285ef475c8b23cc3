"""The tensor cores' instructions of kernels/mma.cuh: which number stands where, and how products round."""

from __future__ import annotations

import numpy as np
import pytest

from gradflow.cuda.launch import ctype, launch

pytestmark = pytest.mark.cuda
BRAIN = pytest.importorskip("ml_dtypes").bfloat16


@pytest.mark.parametrize(("dtype", "depth"), [(np.float16, 16), (BRAIN, 16), (np.float32, 8)], ids=["half", "brain", "tf32"])
def test_a_product(card, kernels, dtype, depth):
    draw = np.random.default_rng(0)
    # Integers of at most five bits: every product and sum is exact, in any order and type.
    a, b = (draw.integers(-16, 17, s).astype(dtype) for s in ((16, depth), (depth, 8)))
    d = card.empty((16, 8), np.float32)
    launch("matrix", f"product<{ctype(a.dtype)}>", 1, 32, card.asarray(a), card.asarray(b), d)
    np.testing.assert_array_equal(card.asnumpy(d), a.astype(np.float64) @ b.astype(np.float64))


@pytest.mark.parametrize("size", [4, 8, 16])
@pytest.mark.parametrize("live", [32, 9, 0])
def test_copies_of_zeros_read_nothing(card, kernels, size, live):
    n = size // 4
    x = np.arange(1, max(live, 1) * n + 1, dtype=np.float32)  # ends with the last live copy: reading on would fault
    y = card.empty(32 * n, np.float32)
    launch("matrix", f"copies<{size}>", 1, 32, card.asarray(x), y, np.int32(live))
    np.testing.assert_array_equal(card.asnumpy(y), np.concatenate([x[: live * n], np.zeros((32 - live) * n)]))


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("turned", [False, True])
def test_matrices_by_lane(card, kernels, count, turned):
    y = card.empty((32, count, 2), np.uint16)
    launch("matrix", f"matrices<{count}, {str(turned).lower()}>", 1, 32, y)
    held = np.arange(64 * count).reshape(count, 8, 8)
    for lane in range(32):
        for i in range(count):
            for e in range(2):
                at = (2 * (lane % 4) + e, lane // 4) if turned else (lane // 4, 2 * (lane % 4) + e)
                assert int(y[lane, i, e].get()) == held[i][at]


def test_pairs(card, kernels):
    x = card.asarray(np.array([1.5, -2.25], np.float32))
    for dtype in (np.dtype(np.float16), np.dtype(BRAIN)):
        y = card.empty(1, np.uint32)
        launch("matrix", f"pairs<{ctype(dtype)}>", 1, 1, x, y)
        low, high = np.array([1.5, -2.25]).astype(dtype).view(np.uint16)
        assert int(y[0].get()) == int(high) << 16 | int(low)


def test_tf32_is_the_nearest_with_ten_bits(card, kernels):
    draw = np.random.default_rng(1)
    x = np.concatenate([draw.standard_normal(28), [1 + 2**-11, -1 - 2**-11, 1 + 2**-12, np.inf]]).astype(np.float32)
    y = card.empty(32, np.float32)
    launch("matrix", "shortened", 1, 32, card.asarray(x), y)
    with np.errstate(invalid="ignore"):
        grain = np.exp2(np.floor(np.log2(np.abs(x.astype(np.float64)))) - 10)
        wanted = np.where(np.isinf(x), x, np.copysign(np.floor(np.abs(x) / grain + 0.5) * grain, x))
    np.testing.assert_array_equal(card.asnumpy(y), wanted)
