"""Pooling on the card: windows of every template, planes beyond a launch's count, and few bytes."""

from __future__ import annotations

import numpy as np
import pytest
from tolerance import assert_close

from gradflow.cuda import launch
from gradflow.cuda import pool as launchers
from gradflow.ops import layout, pool

pytestmark = pytest.mark.cuda

# x, kernel, stride, padding, ceil_mode: K x K windows of two and three apart and overlapping, over the edge, others.
CALLS = [
    ((2, 3, 12, 16), 2, 2, 0, False), ((2, 3, 7, 9), 2, 2, 0, True), ((1, 5, 9, 11), 3, 2, 1, False),
    ((3, 2, 8, 8), 3, 1, 1, False), ((2, 2, 10, 10), 3, 3, 0, False), ((2, 2, 10, 11), (3, 2), (2, 1), (1, 1), False),
    ((1, 3, 13, 13), 5, 3, 2, True), ((9, 4, 9, 11), 3, 2, 1, True), ((1, 2, 9, 9), 2, 3, 0, False),
    ((70, 4, 4, 4), 2, 2, 1, False), ((2, 3, 5, 1), (3, 1), (1, 1), (1, 0), False), ((2, 16, 7, 6), 3, 2, 1, False),
]  # fmt: skip


def by_loops(x, g, kernel, stride, padding, out):
    """(max, its place, gradient of max, mean over the padded window, gradient of mean), window by window."""
    pair = [(v, v) if isinstance(v, int) else v for v in (kernel, stride, padding)]
    (kh, kw), (sh, sw), (ph, pw) = pair
    height, width = x.shape[2:]
    top, place, mean = np.zeros(out), np.zeros(out, np.int64), np.zeros(out)
    dmax, dmean = np.zeros(x.shape), np.zeros(x.shape)
    for at in np.ndindex(*out):
        i, j, oh, ow = at
        rows = range(max(oh * sh - ph, 0), min(oh * sh - ph + kh, height))
        columns = range(max(ow * sw - pw, 0), min(ow * sw - pw + kw, width))
        best = max((x[i, j, a, b], -(a * width + b)) for a in rows for b in columns)
        top[at], place[at] = best[0], -best[1]
        dmax[i, j].flat[-best[1]] += g[at]
        count = (min(oh * sh - ph + kh, height + ph) - oh * sh + ph) * (min(ow * sw - pw + kw, width + pw) - ow * sw + pw)
        mean[at] = sum(x[i, j, a, b] for a in rows for b in columns) / count
        for a in rows:
            for b in columns:
                dmean[i, j, a, b] += g[at] / count
    return top, place, dmax, mean, dmean


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("most", [launchers.MOST, 3200])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(("shape", "kernel", "stride", "padding", "ceil_mode"), CALLS)
def test_windows_by_loops(card, monkeypatch, shape, kernel, stride, padding, ceil_mode, dtype, most, last):
    def there(v):
        return layout.planes(card.asarray(np.ascontiguousarray(layout.rows(v)))) if last else card.asarray(v)

    def back(v):
        assert last == layout.channels_last(v) or 1 in v.shape[2:]
        return card.asnumpy(v)

    monkeypatch.setattr(launchers, "MOST", most)
    rng = np.random.default_rng(0)
    x = rng.permutation(np.prod(shape)).reshape(shape).astype(np.float32) % 50  # with ties
    x, options = x.astype(dtype), (kernel, stride, padding)
    before = launch.count
    values, indices = pool.max_pool2d_with_indices(there(x), *options, 1, ceil_mode)
    assert most == 3200 or launch.count == before + 1
    g = rng.standard_normal(values.shape).astype(dtype)
    top, place, dmax, mean, dmean = by_loops(x.astype(np.float64), g.astype(np.float64), *options, values.shape)
    np.testing.assert_array_equal(back(values), top)
    np.testing.assert_array_equal(back(indices), place)
    kind = np.dtype(dtype)
    assert_close(back(pool.max_pool2d_backward(there(g), indices, shape, *options, last=last)), dmax, dtype=kind)
    assert_close(back(pool.avg_pool2d(there(x), *options, ceil_mode)), mean, dtype=kind)
    for v in (there(g), card.asarray(g)):
        dx = pool.avg_pool2d_backward(v, shape, *options, ceil_mode, last=last)
        assert_close(back(dx), dmean, dtype=kind, scale=4)


def test_reciprocals_divide():
    for d in (1, 2, 3, 5, 7, 10, 49, 112, 224, 641, 12345, 2**20, 2**30, 2**31 - 1):
        m, s = (int(v) for v in launchers.reciprocal(d))
        for n in {0, 1, d - 1, d, d + 1, 5 * d, 7 * d - 1, 2**31 - 1, 2**31 - d, 123456789}:
            if 0 <= n < 2**31:
                assert ((n * m >> 32) + n) >> s == n // d, (n, d)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("shape", [(3, 5, 7, 7), (2, 3, 40, 40), (4, 3, 1, 2), (2, 8, 5, 6)])
def test_global_mean_is_a_sum(card, shape, last):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    a = layout.planes(card.asarray(np.ascontiguousarray(layout.rows(x)))) if last else card.asarray(x)
    for y in (pool.adaptive_avg_pool2d(a, 1), pool.avg_pool2d(a, shape[2:])):
        assert y.shape == (*shape[:2], 1, 1)
        assert_close(card.asnumpy(y)[..., 0, 0], x.astype(np.float64).mean((2, 3)), dtype=np.dtype(np.float32))
    g = np.random.default_rng(1).standard_normal((*shape[:2], 1, 1)).astype(np.float32)
    before = launch.count
    dx = pool.adaptive_avg_pool2d_backward(card.asarray(g), shape, last)
    assert layout.channels_last(dx) == last
    dx = card.asnumpy(dx)
    assert launch.count == before + 1
    assert_close(dx, np.broadcast_to(g.astype(np.float64) / (shape[2] * shape[3]), shape), dtype=np.dtype(np.float32))


def test_what_is_no_number_channels_last(card):
    x = np.random.default_rng(0).standard_normal((2, 8, 5, 5)).astype(np.float32)
    x[:, 0], x[:, 1, 1:4, 1:3], x[:, 2, 2, 2] = -np.inf, np.nan, np.inf
    found = pool.max_pool2d_with_indices(layout.planes(card.asarray(np.ascontiguousarray(layout.rows(x)))), 3, 2, 1)
    for a, e in zip(found, pool.max_pool2d_with_indices(x, 3, 2, 1), strict=True):
        np.testing.assert_array_equal(card.asnumpy(a), e)


@pytest.mark.parametrize("name", ["max", "avg"])
def test_three_dims_channels_last(card, name):
    rng = np.random.default_rng(0)
    x, shape = rng.standard_normal((2, 8, 4, 5, 6)).astype(np.float32), (2, 8, 4, 5, 6)
    a = layout.planes(card.asarray(np.ascontiguousarray(layout.rows(x))))
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), (2, 3, 2), (2, 3, 4))[:, :, ::2, ::2, ::2]
    g = rng.standard_normal(windows.shape[:5]).astype(np.float32)
    dx = np.zeros(shape)
    if name == "max":
        y, indices = pool.max_pool3d_with_indices(a, (2, 3, 2), 2)
        found, expected = pool.max_pool3d_backward(card.asarray(g), indices, shape, (2, 3, 2), 2, last=True), windows.max((5, 6, 7))
    else:
        y, expected = pool.avg_pool3d(a, (2, 3, 2), 2), windows.mean((5, 6, 7))
        found = pool.avg_pool3d_backward(card.asarray(g), shape, (2, 3, 2), 2, last=True)
    for n, c, i, j, k in np.ndindex(*g.shape):
        part = dx[n, c, 2 * i : 2 * i + 2, 2 * j : 2 * j + 3, 2 * k : 2 * k + 2]
        part += g[n, c, i, j, k] * (windows[n, c, i, j, k] == expected[n, c, i, j, k] if name == "max" else 1 / 12)
    assert layout.channels_last(y) and layout.channels_last(found)
    assert_close(card.asnumpy(y), expected, dtype=np.dtype(np.float32))
    assert_close(card.asnumpy(found), dx, dtype=np.dtype(np.float32), scale=4)
