"""Patches as columns, max unpooling, fractional max pooling: values by plain loops, errors, ties and places."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from tolerance import assert_close

import gradflow as gf
from gradflow.nn import functional as F

rng = np.random.default_rng(5)


@pytest.mark.parametrize(
    ("shape", "kernel", "dilation", "padding", "stride"),
    [
        ((2, 3, 5, 6), (3, 2), (1, 2), (1, 0), (2, 1)),
        ((1, 2, 4, 4), (2, 2), (1, 1), (0, 0), (3, 3)),
        ((2, 1, 3), (2, 2), (1, 1), (1, 1), (1, 1)),
    ],
)
def test_columns_by_loops_and_their_sum(shape, kernel, dilation, padding, stride):
    x = rng.standard_normal(shape)
    y = F.unfold(gf.tensor(x), kernel, dilation, padding, stride).numpy()
    images = x if x.ndim == 4 else x[None]
    n, c, *sizes = images.shape
    outs = [
        (size + 2 * p - d * (k - 1) - 1) // s + 1
        for size, k, d, p, s in zip(sizes, kernel, dilation, padding, stride, strict=True)
    ]
    want, sums = np.zeros((n, c, *kernel, *outs)), np.zeros_like(images)
    g = rng.standard_normal(want.shape)
    for at in product(*map(range, (*kernel, *outs))):
        i, o = at[:2], at[2:]
        place = [o[k] * stride[k] - padding[k] + i[k] * dilation[k] for k in (0, 1)]
        if all(0 <= p < size for p, size in zip(place, sizes, strict=True)):
            want[(..., *at)] = images[:, :, place[0], place[1]]
            sums[:, :, place[0], place[1]] += g[(..., *at)]
    whole = (n, c * kernel[0] * kernel[1], outs[0] * outs[1])
    lead = slice(None) if x.ndim == 4 else 0
    assert_close(y, want.reshape(whole)[lead])
    z = F.fold(gf.tensor(g.reshape(whole)[lead]), sizes, kernel, dilation, padding, stride)
    assert_close(z.numpy(), sums[lead])


def test_errors_of_columns():
    with pytest.raises(RuntimeError, match="^unfold: wanted a kernel within"):
        F.unfold(gf.ones(1, 1, 2, 2), 3)
    with pytest.raises(RuntimeError, match="^fold: wanted rows that the 4 taps"):
        F.fold(gf.ones(1, 6, 4), (3, 3), 2)
    with pytest.raises(RuntimeError, match="^fold: wanted 4 columns"):
        F.fold(gf.ones(1, 8, 5), (3, 3), 2)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_unpooling_puts_the_largest_back(rank):
    x = gf.tensor(rng.permutation(2 * 6**rank).reshape(1, 2, *[6] * rank) + 1.0)
    pool, unpool = getattr(F, f"max_pool{rank}d"), getattr(F, f"max_unpool{rank}d")
    y, at = pool(x, 2, return_indices=True)
    z = unpool(y, at, 2).numpy()
    kept = z != 0
    assert kept.sum() == 2 * 3**rank
    assert_close(z[kept], x.numpy()[kept])
    assert unpool(y, at, 2, output_size=[7] * rank).shape == (1, 2, *[7] * rank)
    with pytest.raises(ValueError, match=f"^max_unpool{rank}d: wanted an output_size within"):
        unpool(y, at, 2, output_size=[8] * rank)


def test_of_places_named_twice_the_last_stays():
    y = F.max_unpool1d(gf.tensor([[[1.0, 2, 3]]]), gf.tensor([[[4, 1, 4]]]), 2)
    assert y.tolist() == [[[0, 2, 0, 0, 3, 0]]]
    with pytest.raises(RuntimeError, match="^max_unpool1d: wanted places below 6"):
        F.max_unpool1d(gf.ones(1, 1, 3), gf.tensor([[[0, 1, 6]]]), 2)


@pytest.mark.parametrize("rank", [2, 3])
def test_windows_that_start_at_random(rank):
    sizes, kernel, outs = (7, 6, 8)[:rank], (2, 1, 3)[:rank], (4, 3, 2)[:rank]
    x = rng.permutation(2 * math.prod(sizes)).astype(float).reshape(1, 2, *sizes)
    x[0, 1].flat[9] = np.nan
    u = rng.random((1, 2, rank))
    pool = getattr(F, f"fractional_max_pool{rank}d")
    y, at = pool(gf.tensor(x), kernel, outs, return_indices=True, _random_samples=gf.tensor(u))
    turn = (1, 0) if rank == 2 else (0, 1, 2)  # in two dims the first sample is for columns
    for c in (0, 1):
        starts = []
        for d in range(rank):
            a, v = (sizes[d] - kernel[d]) / (outs[d] - 1), u[0, c, turn[d]]
            starts.append([int((i + v) * a) - int(v * a) for i in range(outs[d] - 1)] + [sizes[d] - kernel[d]])
        for o in product(*map(range, outs)):
            part = tuple(slice(starts[d][i], starts[d][i] + kernel[d]) for d, i in enumerate(o))
            want = x[0, c][part].max()  # a NaN is larger than all
            np.testing.assert_equal(y.numpy()[(0, c, *o)], want)
            np.testing.assert_equal(x[0, c].flat[at.numpy()[(0, c, *o)]], want)


def test_a_ratio_instead_of_a_size():
    gf.manual_seed(1)
    y = F.fractional_max_pool2d(gf.rand(2, 3, 9, 7), 2, output_ratio=(0.5, 0.6))
    assert y.shape == (2, 3, 4, 4)
    with pytest.raises(ValueError, match="^fractional_max_pool2d: wanted an output_size or an output_ratio"):
        F.fractional_max_pool2d(gf.rand(2, 3, 9, 7), 2)
    with pytest.raises(RuntimeError, match="windows of .2, 2. within"):
        F.fractional_max_pool2d(gf.rand(2, 3, 4, 4), 2, 4)
