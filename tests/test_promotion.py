"""Dtypes of results: PyTorch's table written out, and where PyTorch is installed, every pair against it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import gradflow as gf

NAMES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "complex64", "complex128"]


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("int64", "float16", "float16"), ("uint8", "int8", "int16"), ("bool", "uint8", "uint8"), ("int32", "int64", "int64"),
        ("float16", "float32", "float32"), ("float32", "float64", "float64"), ("float64", "complex64", "complex128"),
        ("float16", "complex64", "complex64"), ("int64", "complex64", "complex64"),
    ],
)  # fmt: skip
def test_pairs(a, b, expected):
    assert gf.promote_types(np.dtype(a), np.dtype(b)) == np.dtype(expected)
    assert gf.promote_types(np.dtype(b), np.dtype(a)) == np.dtype(expected)


def test_python_numbers_are_weak():
    i, f = gf.tensor([1, 2]), gf.tensor([1.0, 2.0], dtype=gf.float16)
    assert (i + 1).dtype == gf.int64
    assert (i * 1.5).dtype == gf.float32
    assert (i / 2).dtype == gf.float32
    assert (i / i).dtype == gf.float32
    assert (f + 1.5).dtype == gf.float16
    assert (2.0 - f).dtype == gf.float16
    assert (f * gf.tensor(3.0, dtype=gf.float64)).dtype == gf.float16  # a 0-d tensor is weak among vectors
    assert (i + gf.tensor(1.5)).dtype == gf.float32
    assert gf.exp(i).dtype == gf.float32
    assert gf.tensor([True]).sum().dtype == gf.int64


def test_default_dtype_is_respected():
    gf.set_default_dtype(gf.float64)
    try:
        assert gf.tensor([1.0]).dtype == gf.float64
        assert gf.zeros(2).dtype == gf.float64
        assert (gf.tensor([1]) / 2).dtype == gf.float64
    finally:
        gf.set_default_dtype(gf.float32)
    with pytest.raises(TypeError, match="int32"):
        gf.set_default_dtype(gf.int32)


def test_bfloat16():
    pytest.importorskip("ml_dtypes", reason="bfloat16 needs ml_dtypes")
    x = gf.tensor([1.0, 2.0, 3.0], dtype=gf.bfloat16, requires_grad=True)
    y = gf.tanh(x * 0.5 + 1)
    assert y.dtype == gf.bfloat16
    y.sum().backward()
    assert x.grad.dtype == gf.bfloat16
    expected = 0.5 / np.cosh(np.array([1.5, 2.0, 2.5])) ** 2
    np.testing.assert_allclose(x.grad.float().numpy(), expected, rtol=3e-2, atol=1e-2)
    half = gf.tensor([1.0], dtype=gf.float16)
    assert (half + x[:1]).dtype == gf.float32


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore:ComplexHalf")
@pytest.mark.parametrize("name", ["add", "mul", "div", "maximum", "eq", "where"])
def test_every_pair_as_in_pytorch(name):
    torch = pytest.importorskip("torch")
    values = [(n, shape) for n in NAMES for shape in ((2,), ())] + [(v, None) for v in (True, 2, 1.5)]
    for (a, sa), (b, sb) in itertools.product(values, values):
        if sa is None and sb is None:
            continue

        def make(v, shape, module, n=None):
            return v if shape is None else module.ones(shape, dtype=getattr(module, v))

        pair = {m: (make(a, sa, m), make(b, sb, m)) for m in (torch, gf)}

        def call(m, pair=pair):
            x, y = pair[m]
            if name == "where":
                return m.where(m.ones((2,), dtype=m.bool), x, y)
            if name in ("add", "mul", "div"):
                return x + y if name == "add" else x * y if name == "mul" else x / y
            return getattr(m, name)(x, y)

        try:
            theirs = call(torch)
        except (RuntimeError, TypeError):
            continue
        if theirs.dtype == torch.complex32:
            continue  # NumPy has no complex type of two halves
        ours = call(gf)
        assert ours.dtype == theirs.numpy().dtype, f"{name}({a}{sa}, {b}{sb}): {ours.dtype}, PyTorch {theirs.dtype}"
