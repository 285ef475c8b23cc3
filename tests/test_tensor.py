"""The Tensor: how it is made, what it is, how it meets NumPy and others, and what it refuses."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import gradflow as gf


def test_construction():
    assert gf.tensor([1, 2]).dtype == gf.int64
    assert gf.tensor([1.0, 2]).dtype == gf.float32
    assert gf.tensor(np.ones(2)).dtype == gf.float64
    assert gf.tensor([True]).dtype == gf.bool
    assert gf.tensor([gf.tensor(1.0), gf.tensor(2.0)]).tolist() == [1, 2]
    assert gf.Tensor([1, 2]).dtype == gf.float32
    a = np.ones(3)
    t, s = gf.tensor(a), gf.from_numpy(a)
    a[0] = 5
    assert t[0].item() == 1
    assert s[0].item() == 5
    assert gf.zeros(2, 3).shape == gf.zeros((2, 3)).shape == (2, 3)
    assert gf.full((2,), 3).dtype == gf.int64
    assert gf.arange(0, 1, 0.25).tolist() == [0, 0.25, 0.5, 0.75]
    assert gf.arange(5, 0, -2).tolist() == [5, 3, 1]
    assert gf.linspace(0, 1, 3).tolist() == [0, 0.5, 1]
    assert gf.eye(2, 3).tolist() == [[1, 0, 0], [0, 1, 0]]
    assert gf.ones_like(gf.zeros(2, dtype=gf.int32)).dtype == gf.int32


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: gf.tensor([[1, 2], [3]]), ValueError, "tensor.*equal lengths"),
        (lambda: gf.tensor("text"), TypeError, "tensor.*numbers"),
        (lambda: gf.from_numpy([1]), TypeError, "from_numpy.*list"),
        (lambda: gf.arange(0, 5, -1), RuntimeError, "arange.*step"),
        (lambda: gf.ones(3).item(), RuntimeError, r"item.*\(3,\)"),
        (lambda: bool(gf.ones(3)), RuntimeError, "any.*all"),
        (lambda: len(gf.tensor(1.0)), TypeError, "0-d"),
        (lambda: gf.ones(2, 3) @ gf.ones(2, 3), RuntimeError, r"matmul.*\(2, 3\)"),
        (lambda: gf.ones(3)[5], IndexError, "out of bounds|out of range"),
        (lambda: gf.ones(2, 3).sum(2), IndexError, "sum.*2"),
        (lambda: gf.ones(2, 3).reshape(4), RuntimeError, "reshape.*4"),
        (lambda: gf.ones(2).to("nowhere"), (RuntimeError, TypeError), "nowhere"),
        (lambda: gf.ones(3).nonsense, AttributeError, "nonsense"),
        (lambda: gf.nonsense, AttributeError, "gradflow has no 'nonsense'"),
    ],
)
def test_bad_input_gets_one_clear_sentence(make, error, message):
    with pytest.raises(error, match=message) as caught:
        make()
    assert "\n" not in str(caught.value).strip()


def test_numpy_meets_tensors():
    x = gf.tensor([1.0, 2.0])
    assert np.asarray(x) is not None
    assert np.asarray(x).dtype == np.float32
    assert isinstance(np.ones(2, np.float32) * x, gf.Tensor)
    assert isinstance(x + np.ones(2, np.float32), gf.Tensor)
    assert np.from_dlpack(x).tolist() == [1, 2]
    assert gf.from_dlpack(np.arange(3)).tolist() == [0, 1, 2]
    with pytest.raises(RuntimeError, match="detach"):
        np.asarray(x.requires_grad_())
    assert not hasattr(gf.ones(1), "__cuda_array_interface__")


def test_what_it_is():
    x = gf.zeros(2, 3, dtype=gf.float64)
    assert (x.ndim, x.dim(), x.numel(), x.size(1), x.element_size(), x.nbytes) == (2, 2, 6, 3, 8, 48)
    assert x.shape.numel() == 6
    assert x.stride() == (3, 1)
    assert x.T.stride() == (1, 3)
    assert x.is_contiguous()
    assert not x.T.is_contiguous()
    assert [t.shape for t in x] == [(3,), (3,)]
    assert f"{gf.tensor(1.5):.2f}" == "1.50"
    assert 1.0 in gf.ones(2)


def test_repr():
    assert repr(gf.tensor([1.0, 2.0])) == "tensor([1., 2.])"
    assert repr(gf.tensor([1, 2])) == "tensor([1, 2])"
    assert "requires_grad=True" in repr(gf.ones(1, requires_grad=True))
    assert "grad_fn=<MulBackward0>" in repr(gf.ones(1, requires_grad=True) * 2)
    assert "dtype=gradflow.float64" in repr(gf.ones(1, dtype=gf.float64))


def test_data_detach_and_deepcopy():
    x = gf.ones(2, requires_grad=True)
    x.data.mul_(3)
    assert x.tolist() == [3, 3]
    d = x.detach()
    assert not d.requires_grad
    assert d.data_ptr() == x.data_ptr()
    x.grad = gf.zeros(2)
    c = copy.deepcopy(x)
    assert c.requires_grad
    assert c.is_leaf
    c.detach().zero_()
    assert x.tolist() == [3, 3]
    with pytest.raises(RuntimeError, match="leaf"):
        copy.deepcopy(x * 2)


def test_what_is_no_number_is_not_equal():
    x = gf.ones(2)
    assert (x == None) is False  # noqa: E711
    assert (x != "a") is True
    assert x.shape[1:] + x.shape == gf.Size([2])
    assert x.shape[:1].numel() == 2
    assert x.clamp_min(3).tolist() == [3, 3]
    assert gf.ones(2, 2).trace().item() == 2
    assert x.byte().dtype == gf.uint8
    assert not x.byte().is_signed()
    assert x.type_as(x.short()).dtype == gf.int16
    assert x.get_device() == -1
    assert x[0].is_nonzero()


def test_writes_that_do_not_fit_are_refused_and_leave_nothing():
    i = gf.tensor([1, 2])
    with pytest.raises(RuntimeError, match=r"add_.*int64.*float32"):
        i.add_(1.5)
    assert i.tolist() == [1, 2]
    with pytest.raises(RuntimeError, match=r"mul_.*\(2,\)"):
        i.mul_(gf.ones(3, 2, dtype=gf.int64))
    with pytest.raises(RuntimeError, match="apart in memory"):
        gf.ones(1).expand(3).add_(1)


def test_limits_differences_and_draws():
    assert gf.finfo(gf.float32).eps == np.finfo(np.float32).eps
    assert gf.finfo(gf.bfloat16).bits == 16
    assert gf.iinfo(gf.int8).min == -128
    x = gf.tensor([1.0, 4.0, 9.0])
    assert x.diff().tolist() == [3.0, 5.0]
    assert gf.diff(x, 2, prepend=gf.zeros(1)).tolist() == [2.0, 2.0]
    assert gf.tensor([True, True, False]).diff().tolist() == [False, True]
    wild = gf.tensor([float("nan"), float("inf"), -float("inf"), 2.0])
    assert gf.nan_to_num(wild, 1.0, neginf=-3.0).tolist() == [1.0, gf.finfo(gf.float32).max, -3.0, 2.0]
    assert (gf.numel(x), gf.is_floating_point(x), gf.is_complex(x)) == (3, True, False)
    gf.manual_seed(7)
    assert gf.initial_seed() == 7
    assert abs(gf.zeros(20000).bernoulli_(0.3).mean().item() - 0.3) < 0.02
    assert abs(gf.zeros(20000).exponential_(2.0).mean().item() - 0.5) < 0.02
