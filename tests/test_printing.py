"""Tensors in print: literal text, and PyTorch's on random arrays."""

from __future__ import annotations

import math

import numpy as np
import pytest

import gradflow as gf
from gradflow import printing


@pytest.fixture(autouse=True)
def _options():
    yield
    printing.set_printoptions(profile="default")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (3, "tensor(3)"),
        (2.5, "tensor(2.5000)"),
        ([], "tensor([])"),
        ([1.0, 2.0], "tensor([1., 2.])"),
        ([1.0, 2.5, -3.0], "tensor([ 1.0000,  2.5000, -3.0000])"),
        ([1e-5, 1.0], "tensor([1.0000e-05, 1.0000e+00])"),
        ([1e9, 1.0], "tensor([1.0000e+09, 1.0000e+00])"),
        ([1.0, math.nan, -math.inf], "tensor([1., nan, -inf])"),
        ([[True, False]], "tensor([[ True, False]])"),
        ([[1, -20], [3, 4]], "tensor([[  1, -20],\n        [  3,   4]])"),
        ([1 + 2j, 3 - 4j], "tensor([1.+2.j, 3.-4.j])"),
    ],
)
def test_literal_text(data, text):
    assert repr(gf.tensor(data)) == str(gf.tensor(data)) == text


def test_what_is_not_the_default_is_said():
    assert repr(gf.zeros(2, 0, 3, dtype=gf.int64)) == "tensor([], size=(2, 0, 3), dtype=gradflow.int64)"
    assert repr(gf.ones(1, dtype=gf.float64)) == "tensor([1.], dtype=gradflow.float64)"
    x = gf.ones(2, requires_grad=True)
    assert repr(x) == "tensor([1., 1.], requires_grad=True)"
    assert repr(x + 1) == "tensor([2., 2.], grad_fn=<AddBackward0>)"
    assert repr(x.exp().sum()) == "tensor(5.4366, grad_fn=<SumBackward0>)"
    assert repr(x[0]) == "tensor(1., grad_fn=<SelectBackward0>)"
    assert repr(x.shape) == "gradflow.Size([2])"


def test_three_dimensions_and_long_ones():
    x = gf.arange(24).reshape(2, 3, 4)
    assert repr(x[:, :1]) == "tensor([[[ 0,  1,  2,  3]],\n\n        [[12, 13, 14, 15]]])"
    assert repr(gf.arange(2000)) == "tensor([   0,    1,    2,  ..., 1997, 1998, 1999])"
    assert repr(gf.zeros(50, 50)).count("...") == 7


def test_options():
    with printing.printoptions(precision=2, sci_mode=True):
        assert repr(gf.tensor([1.5])) == "tensor([1.50e+00])"
    gf.set_printoptions(edgeitems=1, threshold=2)
    assert repr(gf.tensor([1, 2, 3])) == "tensor([1,  ..., 3])"
    assert gf.get_printoptions()["edgeitems"] == 1
    with pytest.raises(ValueError, match="profile"):
        gf.set_printoptions(profile="long")


def test_the_packages_name_can_be_changed(monkeypatch):
    monkeypatch.setattr(printing, "package", "torch")
    assert repr(gf.ones(1, dtype=gf.float16)) == "tensor([1.], dtype=torch.float16)"
    assert repr(gf.Size([2, 3])) == "torch.Size([2, 3])"


def test_format():
    assert f"{gf.tensor(1.23456):.2f}" == "1.23"
    assert f"{gf.tensor([1.0])}" == "tensor([1.])"
    with pytest.raises(TypeError):
        f"{gf.tensor([1.0]):.2f}"


@pytest.mark.reference
def test_random_arrays_as_pytorch_prints_them(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(printing, "package", "torch")
    rng = np.random.default_rng(0)
    dtypes = [np.float32, np.float64, np.int64, np.bool_, np.complex64, np.float16, np.uint8]
    for i in range(400):
        shape = tuple(rng.integers(0, 6, rng.integers(0, 4))) if i % 20 else (1100 + i,)
        x = rng.standard_normal(shape) * 10.0 ** rng.integers(-6, 10)
        x = [np.round(x), x * 10.0 ** rng.integers(-5, 5, shape), np.where(rng.random(shape) < 0.3, np.nan, x), x][i % 4]
        dtype = np.dtype(dtypes[rng.integers(len(dtypes))])
        with np.errstate(all="ignore"):
            x = np.asarray(np.nan_to_num(x) if dtype.kind in "iub" else x + 1j * x.T.reshape(shape) if dtype.kind == "c" else x)
            x = x.astype(dtype)
        keys = dict(precision=5, linewidth=40, edgeitems=2, threshold=20, sci_mode=[None, True, False][i % 3]) if i % 5 == 0 else {}
        for lib in (torch, printing):
            lib.set_printoptions(profile="default")
            lib.set_printoptions(**keys)
        ours, theirs = gf.from_numpy(x), torch.from_numpy(x)
        if i % 2 and dtype.kind == "f":
            ours.requires_grad_(), theirs.requires_grad_()
        assert repr(ours) == repr(theirs)
    torch.set_printoptions(profile="default")


@pytest.mark.reference
def test_names_of_gradients_as_pytorch_has_them():
    torch = pytest.importorskip("torch")
    makes = [
        lambda x: x + 1, lambda x: x * 2, lambda x: x.exp(), lambda x: x.sum(), lambda x: x.sum(0), lambda x: x @ x,
        lambda x: x @ x[0], lambda x: x[0], lambda x: x[:1], lambda x: x[None], lambda x: x[[0, 1]], lambda x: x.reshape(-1),
        lambda x: x.permute(1, 0), lambda x: x.softmax(0), lambda x: x.relu(), lambda x: x.mean(), lambda x: x.var(),
        lambda x: x.sigmoid(), lambda x: x.clone(), lambda x: x.tanh(), lambda x: x / 2, lambda x: x - 1, lambda x: -x,
    ]  # fmt: skip
    for make in makes:
        ours, theirs = (make(lib.ones(2, 2, requires_grad=True)) for lib in (gf, torch))
        if ours.grad_fn.name != "permute":
            assert repr(ours).split("=<")[1] == repr(theirs).split("=<")[1]


def test_results_with_named_parts():
    a = gf.tensor([[2.0, 0.0], [0.0, 1.0]])
    assert repr(gf.linalg.slogdet(a)).startswith("gradflow.return_types.linalg_slogdet(\nsign=tensor(1.),\nlogabsdet=tensor(0.6931")
    assert repr(gf.linalg.eigh(a)).startswith("gradflow.return_types.linalg_eigh(\neigenvalues=tensor([1., 2.]),\neigenvectors=")
    assert repr(gf.topk(gf.tensor([3.0, 1.0]), 1)) == "gradflow.return_types.topk(\nvalues=tensor([3.]),\nindices=tensor([0]))"
