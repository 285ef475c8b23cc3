"""Masked reductions: NumPy over the elements that the mask keeps, row by row."""

from __future__ import annotations

import numpy as np
import pytest
from tolerance import assert_close

import gradflow as gf
from gradflow.autograd import gradcheck

RNG = np.random.default_rng(0)
X, MASK = RNG.standard_normal((4, 6)), RNG.random((4, 6)) < 0.7
KEPT = [row[m] for row, m in zip(X, MASK, strict=True)]

REDUCTIONS = {
    "sum": np.sum,
    "prod": np.prod,
    "amax": np.max,
    "amin": np.min,
    "mean": np.mean,
    "median": lambda v: np.sort(v)[(len(v) - 1) // 2],
    "logsumexp": lambda v: np.log(np.sum(np.exp(v))),
    "norm": lambda v: np.sqrt(np.sum(v * v)),
    "var": lambda v: np.var(v, ddof=1),
    "std": lambda v: np.std(v, ddof=1),
}


@pytest.mark.parametrize("name", REDUCTIONS)
def test_rows(name):
    x, mask = gf.tensor(X, requires_grad=True), gf.tensor(MASK)
    function = getattr(gf.masked, name)
    y = function(x, dim=1, mask=mask)
    assert_close(y.detach().numpy(), np.array([REDUCTIONS[name](v) for v in KEPT]))
    y.sum().backward()
    assert (x.grad.numpy()[~MASK] == 0).all()
    assert gradcheck(lambda x: function(x, dim=1, mask=mask), [x])
    assert function(x, dim=1, keepdim=True, mask=mask).shape == (4, 1)


def test_places():
    x, mask = gf.tensor(X), gf.tensor(MASK)
    for name in ("argmax", "argmin"):
        best = getattr(np, name)
        want = [np.flatnonzero(m)[best(v)] for v, m in zip(KEPT, MASK, strict=True)]
        assert getattr(gf.masked, name)(x, 1, mask=mask).tolist() == want


def test_scans_and_normalisations():
    x, mask = gf.tensor(X), gf.tensor(MASK)
    assert_close(gf.masked.cumsum(x, 1, mask=mask).numpy(), np.cumsum(np.where(MASK, X, 0), 1))
    assert_close(gf.masked.cumprod(x, 1, mask=mask).numpy(), np.cumprod(np.where(MASK, X, 1), 1))
    e = np.where(MASK, np.exp(X), 0)
    assert_close(gf.masked.softmax(x, 1, mask=mask).numpy(), e / e.sum(1, keepdims=True))
    e = np.where(MASK, np.exp(-X), 0)
    assert_close(gf.masked.softmin(x, 1, mask=mask).numpy(), e / e.sum(1, keepdims=True))
    kept = np.where(MASK, X, 0)
    assert_close(gf.masked.normalize(x, 2.0, 1, mask=mask).numpy(), kept / np.sqrt((kept**2).sum(1, keepdims=True)))


def test_nothing_kept_gives_what_changes_nothing():
    x, none = gf.ones(2, 3), gf.zeros(2, 3, dtype=gf.bool)
    assert gf.masked.sum(x, mask=none).item() == 0
    assert gf.masked.prod(x, mask=none).item() == 1
    assert gf.masked.amax(x, mask=none).item() == -np.inf
    assert gf.masked.mean(x, 1, mask=none).isnan().all()


def test_a_mask_broadcasts_and_has_no_more_dimensions():
    assert gf.masked.sum(gf.ones(2, 3), 1, mask=gf.tensor([True, False, True])).tolist() == [2, 2]
    with pytest.raises(IndexError, match="sum: wanted a mask of at most 1 dimensions"):
        gf.masked.sum(gf.ones(3), mask=gf.ones(1, 3, dtype=gf.bool))
