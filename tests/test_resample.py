"""Resizing and grid sampling: values by plain loops over the definition, transposes, gradients of grids, errors."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from tolerance import assert_close

import gradflow as gf
from gradflow.autograd import gradcheck, gradgradcheck
from gradflow.nn import functional as F

rng = np.random.default_rng(8)


def cubic(x, a):
    x = abs(x)
    if x < 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def triangle(x):
    return max(0.0, 1 - abs(x))


def weights(mode, n, m, aligned, smooth):
    """The (m, n) matrix of a mode, element by element."""
    w = np.zeros((m, n))
    step = (n - 1) / (m - 1) if aligned and m > 1 else 0.0 if aligned else n / m
    for i in range(m):
        if smooth:
            wide, centre = max(step, 1.0), (i + 0.5) * step
            reach = wide * {"bilinear": 1, "bicubic": 2, "lanczos": 3}[mode]
            for j in range(n):
                if int(centre - reach + 0.5) <= j < int(centre + reach + 0.5):
                    x = (j - centre + 0.5) / wide
                    w[i, j] = {
                        "bilinear": triangle(x),
                        "bicubic": cubic(x, -0.5),
                        "lanczos": np.sinc(x) * np.sinc(x / 3) if abs(x) < 3 else 0,
                    }[mode]
            w[i] /= w[i].sum()
        else:
            at = i * step if aligned else (i + 0.5) * step - 0.5
            for j in range(math.floor(at) - 1, math.floor(at) + 3):
                w[i, min(max(j, 0), n - 1)] += cubic(at - j, -0.75) if mode == "bicubic" else triangle(at - j)
    return w


@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize(("aligned", "smooth"), [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("sizes", [(3, 9), (11, 4), (1, 6)])
def test_resized_by_the_definition(mode, aligned, smooth, sizes):
    if mode == "lanczos" and (aligned or not smooth):
        pytest.skip("lanczos is for antialiasing only")
    x = rng.standard_normal((2, 3, 6, 7))
    y = F.interpolate(gf.tensor(x), sizes, mode=mode, align_corners=aligned, antialias=smooth)
    want = np.einsum(
        "nchw,ih,jw->ncij", x, *(weights(mode, n, m, aligned, smooth) for n, m in zip((6, 7), sizes, strict=True))
    )
    assert_close(y.numpy(), want)


def test_an_infinite_pixel_stays_where_it_is():
    x = np.zeros((1, 1, 1, 8), np.float32)
    x[..., 0], x[..., 7] = np.inf, np.nan
    y = F.interpolate(gf.tensor(x), (1, 4), mode="bilinear", align_corners=False).numpy()[0, 0, 0]
    assert y[0] == np.inf and y[1] == 0 and y[2] == 0 and np.isnan(y[3])


def test_scales_and_names():
    x = gf.tensor(rng.standard_normal((1, 2, 5)))
    assert F.interpolate(x, scale_factor=1.7).shape == (1, 2, 8)
    given = F.interpolate(x, scale_factor=1.7, mode="linear")
    anew = F.interpolate(x, scale_factor=1.7, mode="linear", recompute_scale_factor=True)
    assert np.abs(given.numpy() - anew.numpy()).max() > 1e-3
    with pytest.warns(UserWarning, match="upsample_nearest: deprecated"):
        assert_close(F.upsample_nearest(x, 10).numpy(), np.repeat(x.numpy(), 2, 2))


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"size": 3, "scale_factor": 2}, ValueError, "either size or scale_factor"),
        ({"size": (3, 3, 3)}, ValueError, "wanted 2 numbers"),
        ({"size": 3.5}, TypeError, "whole numbers"),
        ({"size": 3, "align_corners": True}, ValueError, "align_corners is for"),
        ({"size": 3, "antialias": True}, ValueError, "with antialias"),
        ({"size": 3, "mode": "linear"}, NotImplementedError, "an input that 'linear' is for"),
        ({"size": 0}, RuntimeError, "sizes above 0"),
        ({"size": 3, "recompute_scale_factor": True}, ValueError, "recompute_scale_factor"),
    ],
)
def test_errors_of_resizing(kwargs, error, message):
    with pytest.raises(error, match=f"^interpolate: .*{message}"):
        F.interpolate(gf.ones(1, 1, 4, 4), **kwargs)


# --- grids ----------------------------------------------------------------------------------------------


def reflected(u, low, high):
    while not low <= u <= high:
        u = 2 * low - u if u < low else 2 * high - u
    return u


def sampled(x, place, mode, padding, aligned):
    """One image x (c, sizes) at one place (coordinates of the last dim first), by the definition."""
    us, sizes = [], x.shape[1:]
    for v, n in zip(place[::-1], sizes, strict=True):
        u = (v + 1) / 2 * (n - 1) if aligned else ((v + 1) * n - 1) / 2
        if mode != "bicubic":
            if padding == "reflection":
                u = reflected(u, 0, n - 1) if aligned else reflected(u, -0.5, n - 0.5)
            u = u if padding == "zeros" else min(max(u, 0), n - 1)
        us.append(u)
    if mode == "nearest":
        taps = [[(round(u), 1.0)] for u in us]
    elif mode == "bilinear":
        taps = [[(j, triangle(u - j)) for j in (math.floor(u), math.floor(u) + 1)] for u in us]
    else:
        taps = [[(j, cubic(u - j, -0.75)) for j in range(math.floor(u) - 1, math.floor(u) + 3)] for u in us]
    total = np.zeros(len(x))
    for chosen in product(*taps):
        at = []
        for (j, _), n in zip(chosen, sizes, strict=True):
            if mode == "bicubic" and padding == "reflection":
                j = int(reflected(j, 0, n - 1) if aligned else reflected(j, -0.5, n - 0.5))
            at.append(j if padding == "zeros" else min(max(j, 0), n - 1))
        if all(0 <= j < n for j, n in zip(at, sizes, strict=True)):
            total += x[(slice(None), *at)] * math.prod(w for _, w in chosen)
    return total


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize(
    ("mode", "rank"), [("bilinear", 2), ("nearest", 2), ("bicubic", 2), ("bilinear", 3), ("nearest", 3)]
)
def test_samples_by_the_definition(mode, rank, padding, aligned):
    x = rng.standard_normal((2, 3, *(4, 5, 3)[:rank]))
    grid = rng.uniform(-2.2, 2.2, (2, *(3, 2, 2)[:rank], rank))
    y = F.grid_sample(gf.tensor(x), gf.tensor(grid), mode, padding, aligned).numpy()
    for i in np.ndindex(*grid.shape[:-1]):
        want = sampled(x[i[0]], grid[i], mode, padding, aligned)
        assert_close(y[(i[0], slice(None), *i[1:])], want, what=f"{i}")


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_gradients_of_samples(mode, padding):
    x = gf.tensor(rng.standard_normal((1, 2, 4, 3)), requires_grad=True)
    grid = gf.tensor(rng.uniform(-1.4, 1.4, (1, 2, 3, 2)), requires_grad=True)

    def sample(x, grid):
        return F.grid_sample(x, grid, mode, padding, False)

    assert gradcheck(sample, [x, grid])
    assert gradgradcheck(sample, [x, grid])


def test_nothing_is_seen_at_no_number_and_infinities_stay_in_place():
    x = gf.tensor(np.array([[[[1.0, np.inf], [2.0, 3.0]]]]))
    grid = gf.tensor(np.array([[[[np.nan, 0], [1e30, 0], [-1.0, 1.0]]]]))
    assert F.grid_sample(x, grid, align_corners=True).tolist() == [[[[0, 0, 2]]]]


def test_a_grid_of_a_map():
    theta = rng.standard_normal((2, 3, 4))
    for aligned in (False, True):
        grid = F.affine_grid(gf.tensor(theta), (2, 5, 3, 2, 4), aligned).numpy()
        for i in np.ndindex(2, 3, 2, 4):
            place = [
                2 * k / (n - 1) - 1 if aligned else (2 * k + 1) / n - 1
                for k, n in zip(i[:0:-1], (4, 2, 3), strict=True)
            ]
            assert_close(grid[i], theta[i[0]] @ [*place, 1])


def test_the_identity_map_gives_the_image():
    x = gf.tensor(rng.standard_normal((1, 2, 4, 5)))
    grid = F.affine_grid(gf.tensor([[[1.0, 0, 0], [0, 1, 0]]], dtype=gf.float64), x.shape, False)
    assert_close(F.grid_sample(x, grid, align_corners=False).numpy(), x.numpy())


def test_errors_of_grids():
    x, grid = gf.ones(1, 1, 2, 2), gf.ones(1, 2, 2, 2)
    with pytest.raises(ValueError, match="^grid_sample: wanted mode"):
        F.grid_sample(x, grid, "linear", align_corners=False)
    with pytest.raises(ValueError, match="^grid_sample: wanted padding_mode"):
        F.grid_sample(x, grid, padding_mode="wrap", align_corners=False)
    with pytest.raises(RuntimeError, match="^grid_sample: wanted an input"):
        F.grid_sample(x, gf.ones(1, 2, 2, 3), align_corners=False)
    with pytest.raises(RuntimeError, match="of one floating dtype"):
        F.grid_sample(x, gf.ones(1, 2, 2, 2, dtype=gf.float64), align_corners=False)
    with pytest.raises(ValueError, match="^affine_grid: wanted a theta"):
        F.affine_grid(gf.ones(1, 2, 2), (1, 1, 2, 2), False)
    with pytest.warns(UserWarning, match="align_corners is False unless given"):
        F.grid_sample(x, grid)
