"""Operators of PyTorch's own namespace: their arguments and outputs by the functions they stand for."""

from __future__ import annotations

import numpy as np
import pytest
from tolerance import assert_close

import gradflow as gf
from gradflow.nn import functional as F

rng = np.random.default_rng(2)


def t(*shape):
    return gf.tensor(rng.standard_normal(shape))


def test_convolution_is_all_of_them():
    x, w = t(1, 2, 5, 4), t(3, 2, 2, 2)
    y = gf.convolution(x, w, None, [2, 1], [1, 0], [1, 1], False, [0, 0], 1)
    assert_close(y.numpy(), F.conv2d(x, w, None, (2, 1), (1, 0)).numpy())
    x, w = t(1, 3, 4), t(3, 2, 2)
    y = gf.convolution(x, w, None, [2], [0], [1], True, [1], 1)
    assert_close(y.numpy(), F.conv_transpose1d(x, w, None, 2, 0, 1).numpy())
    with pytest.raises(RuntimeError, match="^convolution: wanted a weight"):
        gf.convolution(x, t(3, 2), None, [2], [0], [1], True, [1], 1)


def test_bags_with_their_sizes():
    w, ids, offsets = t(4, 2), gf.tensor([3, 0, 3, 1]), gf.tensor([0, 3])
    y, bag, sizes, _ = gf.embedding_bag(w, ids, offsets, False, 1)
    assert_close(y.numpy(), [(2 * w[3] + w[0]).numpy() / 3, w[1].numpy()])
    assert bag.tolist() == [0, 0, 0, 1] and sizes.tolist() == [3, 1]
    best = gf.embedding_bag(w, ids, offsets, False, 2)[3].numpy()
    want = [[max((3, 0), key=lambda i: w[i, c].item()) for c in range(2)], [1, 1]]
    assert best.tolist() == want


def test_statistics_of_norms():
    x = t(4, 3, 2)
    mean, var = gf.zeros(3, dtype=gf.float64), gf.ones(3, dtype=gf.float64)
    y, m, rstd = gf._native_batch_norm_legit(x, None, None, mean, var, True, 0.5, 1e-3)
    a = x.numpy()
    assert_close(m.numpy(), a.mean((0, 2)))
    assert_close(rstd.numpy(), 1 / np.sqrt(a.var((0, 2)) + 1e-3))
    assert_close(mean.numpy(), a.mean((0, 2)) / 2)
    y, m, rstd = gf._native_batch_norm_legit_no_training(x, None, None, mean, var, 0.5, 1e-3)
    assert_close(y.numpy(), F.batch_norm(x, mean, var, eps=1e-3).numpy())
    assert m.shape == rstd.shape == (0,)
    y, rms = gf._fused_rms_norm(x, [2], None, 1e-3)
    assert_close(rms.numpy(), 1 / np.sqrt((a**2).mean(2, keepdims=True) + 1e-3))


def test_softmax_of_nothing():
    x = gf.tensor([[-np.inf, -np.inf], [0.0, 0.0]], dtype=gf.float64)
    assert gf._safe_softmax(x, 1).tolist() == [[0, 0], [0.5, 0.5]]
    g, y = t(2, 3), F.softmax(t(2, 3), 1)
    want = y * (g - (g * y).sum(1, keepdim=True))
    assert_close(gf._softmax_backward_data(g, y, 1, gf.float64).numpy(), want.numpy())


def test_grids_by_number():
    x, grid = t(1, 2, 3, 3), gf.tensor(rng.uniform(-1.2, 1.2, (1, 2, 2, 2)))
    y = gf.grid_sampler(x, grid, 2, 1, False)
    assert_close(y.numpy(), F.grid_sample(x, grid, "bicubic", "border", False).numpy())


def test_pooling_with_places():
    x = t(1, 2, 5)
    for a, b in zip(gf.adaptive_max_pool1d(x, 2), F.adaptive_max_pool1d(x, 2, return_indices=True), strict=True):
        assert_close(a.numpy(), b.numpy())
    y, at = F.max_pool2d_with_indices(t(1, 1, 4, 4), 2)
    x = t(1, 1, 4, 4)
    dx = gf.max_pool2d_with_indices_backward(y, x, [2, 2], [], [0, 0], [1, 1], False, at)
    assert_close(dx.sum().item(), y.sum().item())
