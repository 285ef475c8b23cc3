"""Reductions, extremes, scans and sorting: closed forms and edges, then PyTorch beside them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from beside import beside
from tolerance import assert_close

import gradflow as gf
from gradflow.autograd import gradcheck, gradgradcheck
from gradflow.ops import gather, reduce, scan

NAN, INF = math.nan, math.inf


def leaf(values, dtype=np.float64):
    return gf.tensor(np.asarray(values, dtype), requires_grad=True)


# --- dims and dtypes ---------------------------------------------------------------------------------


def test_sums_of_ints_and_bools_are_int64():
    for dtype in (np.int8, np.uint8, np.int32, np.int64, bool):
        assert gf.tensor(np.ones((2, 3), dtype)).sum().dtype == np.int64
        assert gf.tensor(np.ones((2, 3), dtype)).cumsum(0).dtype == np.int64
        assert gf.tensor(np.ones((2, 3), dtype)).prod(1).dtype == np.int64
    assert gf.tensor(np.ones(300, np.uint8)).sum().item() == 300
    assert gf.tensor([1, 2]).sum(dtype=gf.float32).dtype == np.float32


def test_half_sums_in_float32():
    x = np.full(4096, 0.1, np.float16)
    expected = np.float16(np.float32(x[0]) * 4096)
    assert gf.tensor(x).sum().array == expected
    assert gf.tensor(x).cumsum(0).array[-1] == expected
    assert abs(float(gf.tensor(x).mean()) - 0.1) < 1e-4
    big = gf.tensor(np.full(10, 30000.0, np.float16))
    assert float(big.mean()) == 30000  # its sum would not fit
    assert float(gf.tensor(np.full(4, 300.0, np.float16)).norm()) == 600


NAMES = ["sum", "mean", "amax", "amin", "all", "any", "var", "std", "norm", "logsumexp", "argmax"]


@pytest.mark.parametrize("name", NAMES)
def test_dims_are_checked(name):
    x = gf.tensor(np.ones((2, 3), np.float32))
    for dim in (2, -3):
        with pytest.raises(IndexError, match="wanted a dimension"):
            getattr(x, name)(dim=dim)
    if name != "argmax":
        with pytest.raises(RuntimeError, match="each dimension once"):
            getattr(x, name)(dim=(1, -1))
    assert getattr(x, name)(dim=1, keepdim=True).shape == (2, 1)
    assert getattr(x, name)(axis=1, keepdims=True).shape == (2, 1)


def test_means_need_floating_dtypes():
    for f in (gf.mean, gf.var, gf.std, gf.norm):
        with pytest.raises(RuntimeError, match="floating"):
            f(gf.tensor([1, 2]))


def test_empty_and_0d():
    none = gf.zeros(0, 3)
    assert none.sum().item() == 0 and none.prod().item() == 1 and none.sum(0).tolist() == [0, 0, 0]
    assert np.isnan(none.mean(0).numpy()).all() and none.mean(1).shape == (0,)
    assert none.all().item() is True and none.any().item() is False
    assert none.logsumexp(0).tolist() == [-INF] * 3
    for f in (none.amax, none.max, none.argmax, none.amin):
        with pytest.raises(IndexError, match="one element or more"):
            f(0)
    with pytest.raises(RuntimeError, match="one element or more"):
        none.max()
    one = gf.tensor(2.0)
    for f in (one.sum, one.mean, one.amax, one.prod, one.logsumexp):
        assert f(0).shape == f(-1).shape == () and f(0).item() == 2
    assert one.max(0).indices.item() == one.argmax().item() == one.sort().indices.item() == 0
    assert one.cumsum(0).item() == one.median(0).values.item() == one.topk(1).values.item() == 2


def test_long_sums_are_accurate_along_every_dim():
    x = np.full((3, 100_001, 2), 0.1, np.float32)
    for dim in (1, (0, 1), (1, 2), None):
        t = gf.tensor(x)
        assert_close(t.sum(dim).numpy(), x.astype(np.float64).sum(dim).astype(np.float32), scale=0.2)
        assert_close(t.mean(dim).numpy(), x.astype(np.float64).mean(dim).astype(np.float32), scale=0.2)
    assert gf.tensor(x).sum(1, keepdim=True).shape == (3, 1, 2)
    assert_close(gf.tensor(x).permute(0, 2, 1).sum(-1).numpy(), np.full((3, 2), 10000.1, np.float32), scale=0.2)
    assert float(gf.tensor(x[:, :, 0] + 1).var(1).max()) < 1e-10


# --- spread, norms, products ---------------------------------------------------------------------------


def test_variance_where_nothing_is_left():
    assert np.isnan(gf.tensor([1.0]).var().item())
    assert np.isnan(gf.zeros(0).var().item())
    assert gf.tensor([1.0, 3.0]).var(correction=2).item() == INF
    assert np.isnan(gf.tensor([1.0, 1.0]).var(correction=3).item())
    assert gf.tensor([1.0, 3.0]).var(unbiased=False).item() == gf.tensor([1.0, 3.0]).var(False).item() == 1


def test_variance_far_from_zero():
    x = np.arange(1000, dtype=np.float32) % 2 + 1e6
    assert abs(gf.tensor(x.astype(np.float32)).var(correction=0).item() - 0.25) < 1e-3


def test_slopes_at_zero_are_zero():
    x = leaf([1.0, 1.0, 1.0])
    x.std().backward()
    assert x.grad.tolist() == [0, 0, 0]
    for p in (2, 3, 0.5, 1, INF):
        x = leaf([0.0, 0.0])
        x.norm(p).backward()
        assert np.isfinite(x.grad.numpy()).all(), p


@pytest.mark.parametrize("zeros", [0, 1, 2, 3])
@pytest.mark.parametrize("n", [1, 2, 3, 5, 8])
def test_product_gradients_with_zeros(zeros, n):
    rng = np.random.default_rng(n)
    x = rng.uniform(0.5, 2, n)
    x[:zeros] = 0
    t = leaf(x)
    t.prod().backward()
    expected = [np.prod(np.delete(x, i)) for i in range(n)]
    assert_close(t.grad.numpy(), np.array(expected))
    f = lambda v: v.prod()
    assert gradcheck(f, leaf(x)) and gradgradcheck(f, leaf(x))


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_running_product_gradients_with_zeros(n):
    x = np.random.default_rng(n).uniform(0.5, 2, (n, 3))
    x[n // 2, 1] = x[0, 2] = x[-1, 2] = 0
    f = lambda v: v.cumprod(0)
    assert gradcheck(f, leaf(x)) and gradgradcheck(f, leaf(x))


def test_others_against_a_loop():
    for n in range(1, 10):
        x = np.random.default_rng(n).standard_normal((2, n))
        expected = np.stack([np.prod(np.delete(x, i, 1), 1) for i in range(n)], 1)
        assert_close(reduce.others(x, 1), expected)


def test_logsumexp_does_not_overflow():
    x = gf.tensor([1000.0, 1000.0, -INF])
    assert abs(x.logsumexp(0).item() - (1000 + math.log(2))) < 1e-4
    assert gf.tensor([-INF, -INF]).logsumexp(0).item() == -INF
    assert gf.tensor([INF, 1.0]).logsumexp(0).item() == INF
    assert gf.tensor([1, 2]).logsumexp(0).dtype == np.float32


# --- extremes -------------------------------------------------------------------------------------------


def test_ties_share_the_gradient_of_the_extreme():
    for f in (lambda x: x.amax(1), lambda x: x.max(1).values, lambda x: x.amin(1)):
        x = leaf([[2.0, 2.0, 2.0, 2.0]])
        f(x).sum().backward()
        assert abs(x.grad.numpy().sum() - 1) < 1e-12
    x = leaf([[3.0, 1, 3], [0, 3, 1]])
    x.max().backward()
    assert_close(x.grad.numpy(), np.array([[1, 0, 1], [0, 1, 0]]) / 3)
    x = leaf([[3.0, 1, 3], [0, 5, 5]])
    x.amax(1).sum().backward()
    assert x.grad.tolist() == [[0.5, 0, 0.5], [0, 0.5, 0.5]]
    x = leaf([[3.0, 1, 3], [0, 5, 5]])
    x.max(1).values.sum().backward()  # with indices, the first has it
    assert x.grad.tolist() == [[1, 0, 0], [0, 1, 0]]


def test_nan_is_an_extreme():
    x = leaf([[1.0, NAN, 3], [2, 0, 5]])
    assert np.isnan(x.max().item()) and np.isnan(x.amin(1).tolist()[0]) and x.argmax(1).tolist() == [1, 2]
    x.amax(1).sum().backward()
    assert x.grad.tolist() == [[0, 1, 0], [0, 0, 1]]
    assert gf.tensor([1.0, NAN, 0, 3]).cummax(0).indices.tolist() == [0, 1, 1, 1]
    assert np.isnan(gf.tensor([1.0, NAN, 0]).median().item()) and gf.tensor([1.0, NAN, 0]).nanmedian().item() == 0
    assert gf.tensor([1.0, NAN, 3]).nansum().item() == 4 and gf.tensor([1.0, NAN, 3]).nanmean().item() == 2


def test_max_of_two_tensors():
    a, b = leaf([1.0, 5, 2]), leaf([3.0, 4, 2])
    y = a.max(b)
    assert y.tolist() == gf.max(a, b).tolist() == [3, 5, 2]
    y.sum().backward()
    assert a.grad.tolist() == [0, 1, 0.5] and b.grad.tolist() == [1, 0, 0.5]


# --- scans ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 40, 65, 300])
def test_linear_recurrence_against_a_loop(n):
    rng = np.random.default_rng(n)
    for width in (1, 2, 400):
        a, b = rng.uniform(-1, 1, (n, width)), rng.standard_normal((n, width))
        y, expected = np.zeros(width), []
        for i in range(n):
            y = a[i] * y + b[i]
            expected.append(y)
        assert_close(scan.linear_recurrence(a, b, 0), np.array(expected))
        assert_close(scan.linear_recurrence(a.T, b.T, 1), np.array(expected).T)


def test_logcumsumexp_far_out():
    x = leaf([-INF, -1000.0, 1000, 999, -INF])
    y = x.logcumsumexp(0)
    expected = [-INF, -1000, 1000, 1000 + math.log1p(math.exp(-1)), 1000 + math.log1p(math.exp(-1))]
    assert_close(y.detach().numpy(), np.array(expected))
    y[3:].sum().backward()
    s = 1 / (1 + math.exp(-1))
    assert_close(x.grad.numpy(), np.array([0, 0, 2 * s, 2 * (1 - s), 0]))


def test_sorting_keeps_the_order_of_equals():
    x = gf.tensor([1.0, 0, 1, 0, 1])
    assert x.argsort().tolist() == [1, 3, 0, 2, 4]
    assert x.argsort(descending=True).tolist() == [0, 2, 4, 1, 3]
    values, indices = gf.tensor([1.0, NAN, 2]).sort(descending=True)
    assert indices.tolist() == [1, 2, 0] and np.isnan(values.tolist()[0])


def test_topk_and_kth_refuse_what_is_not_there():
    x = gf.arange(4.0)
    for f in (lambda: x.topk(5), lambda: x.kthvalue(0), lambda: x.kthvalue(5)):
        with pytest.raises(RuntimeError, match="wanted k"):
            f()


def test_segment_products_against_a_loop():
    rng = np.random.default_rng(3)
    for m, n in ((0, 3), (1, 1), (9, 3), (40, 4)):
        x, ids = rng.uniform(0.5, 1.5, m), rng.integers(0, n, m)
        expected = [np.prod(x[ids == k]) for k in range(n)]
        assert_close(gather.segment_prod(x, ids, n), np.array(expected))


# --- PyTorch beside ----------------------------------------------------------------------------------------


X = np.random.default_rng(0).standard_normal((3, 4, 5))
Z = np.where(X > 1, 0.0, X)
TIES = np.round(X * 2) / 2
HOLES = np.where(X > 1, NAN, X)

SMOOTH = {
    "sum-dims": lambda lib, x: x.sum((0, 2)),
    "sum-keepdim": lambda lib, x: lib.sum(x, -1, keepdim=True),
    "mean-dims": lambda lib, x: lib.mean(x, (1, 2), keepdim=True),
    "nansum": lambda lib, x: lib.nansum(x, 1),
    "nanmean": lambda lib, x: lib.nanmean(x, 1),
    "var": lambda lib, x: lib.var(x, (0, 1)),
    "var-biased": lambda lib, x: lib.var(x, 1, False),
    "var-correction": lambda lib, x: lib.var(x, dim=1, correction=2, keepdim=True),
    "std-biased": lambda lib, x: x.std(unbiased=False),
    "var_mean": lambda lib, x: lib.var_mean(x, 2),
    "std_mean": lambda lib, x: lib.std_mean(x, (0, 2), correction=0),
    "prod": lambda lib, x: x.prod(),
    "prod-dim": lambda lib, x: x.prod(1, keepdim=True),
    "norm": lambda lib, x: x.norm(),
    "norm-1": lambda lib, x: x.norm(1, 1),
    "norm-inf": lambda lib, x: x.norm(INF, 1),
    "norm-dims": lambda lib, x: x.norm(3, (0, 2), keepdim=True),
    "norm-fro": lambda lib, x: lib.norm(x, "fro", dim=(0, 1)),
    "amax": lambda lib, x: lib.amax(x, (0, 2)),
    "aminmax": lambda lib, x: lib.aminmax(x, dim=1),
    "max": lambda lib, x: x.max(),
    "max-dim": lambda lib, x: x.max(1, keepdim=True),
    "min-dim": lambda lib, x: lib.min(x, -1),
    "median": lambda lib, x: x.median(),
    "median-dim": lambda lib, x: lib.median(x, 2),
    "nanmedian": lambda lib, x: lib.nanmedian(x, 1, keepdim=True),
    "kthvalue": lambda lib, x: lib.kthvalue(x, 2, 1),
    "sort": lambda lib, x: lib.sort(x, 1, descending=True),
    "topk": lambda lib, x: lib.topk(x, 2, 1, largest=False),
    "cumsum": lambda lib, x: x.cumsum(-2),
    "cumprod": lambda lib, x: lib.cumprod(x, 2),
    "logcumsumexp": lambda lib, x: lib.logcumsumexp(x, 1),
    "cummax": lambda lib, x: lib.cummax(x, 1),
    "logsumexp": lambda lib, x: x.logsumexp((0, 1)),
}


@pytest.mark.reference
@pytest.mark.parametrize("name", SMOOTH)
def test_beside_pytorch(name, pytorch):
    beside(pytorch, SMOOTH[name], X)


@pytest.mark.reference
@pytest.mark.parametrize("name", ["sum-dims", "prod-dim", "norm-1", "cumprod", "nansum", "norm"])
def test_with_zeros_beside_pytorch(name, pytorch):
    beside(pytorch, SMOOTH[name], Z, order=1 if name == "norm-1" else 2)


@pytest.mark.reference
@pytest.mark.parametrize("name", ["max", "amax", "aminmax", "median", "norm-inf", "cummax", "max-dim"])
def test_with_ties_beside_pytorch(name, pytorch):
    beside(pytorch, SMOOTH[name], TIES, order=1)


@pytest.mark.reference
@pytest.mark.parametrize("name", ["nansum", "nanmean", "nanmedian"])
def test_with_holes_beside_pytorch(name, pytorch):
    beside(pytorch, SMOOTH[name], HOLES, order=1)


@pytest.mark.reference
@pytest.mark.parametrize("name", ["sum-dims", "mean-dims", "var", "prod-dim", "norm-dims", "amax", "cumsum", "sort"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_dtypes_beside_pytorch(name, dtype, pytorch):
    beside(pytorch, SMOOTH[name], X.astype(dtype), order=1)


@pytest.mark.reference
def test_whole_numbers_beside_pytorch(pytorch):
    i = np.random.default_rng(1).integers(-9, 9, (3, 4))
    for call in (
        lambda lib, x: (x.sum(1), x.prod(0), x.amax(1), x.max(), x.min(1), x.argmax(), x.cumsum(0), x.cumprod(1)),
        lambda lib, x: (lib.all(x, 1), lib.any(x), lib.count_nonzero(x, 0), x.median(), x.kthvalue(2, 0).values),
        lambda lib, x: lib.unique(x, return_inverse=True, return_counts=True),
        lambda lib, x: lib.unique(lib.cat([x, x[:1]]), dim=0, return_inverse=True, return_counts=True),
        lambda lib, x: lib.unique_consecutive(lib.tensor([1, 1, 2, 3, 3, 1]), return_inverse=True, return_counts=True),
        lambda lib, x: lib.bucketize(x, lib.tensor([-3, 0, 4]), right=True),
        lambda lib, x: lib.searchsorted(lib.tensor([1, 3, 5]), x, side="right"),
    ):
        beside(pytorch, call, i)
