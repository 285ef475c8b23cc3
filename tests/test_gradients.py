"""The op table's gradients: first and second order against finite differences, dtype kept, inputs untouched."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import as_dtype, cases_of

import gradflow as gf
from gradflow import op
from gradflow.autograd import gradcheck, gradgradcheck

DIFFERENTIABLE = [e for e in op.table.values() if e.rules and e.cases]

REAL = [e for e in DIFFERENTIABLE if not any(isinstance(a, np.ndarray) and a.dtype.kind == "c" for a in cases_of(e)[0].args)]


def split(z):
    """A complex array as real and imaginary parts in a last dimension, which is what a finite difference can be taken of."""
    return np.stack([z.real, z.imag], -1)


def joined(t):
    return t[..., 0] + t[..., 1] * 1j


def real_parts(y):
    """What a real loss can be made of: real and imaginary part of a complex output."""
    if not isinstance(y, gf.Tensor) or not y.is_complex():
        return (y,)
    return y.to(gf.float64), (y * -1j).to(gf.float64)


def tensors(args, dtype=np.float64):
    return [
        gf.tensor(split(a), requires_grad=True) if isinstance(a, np.ndarray) and a.dtype.kind == "c"
        else gf.tensor(a.astype(dtype), requires_grad=True) if isinstance(a, np.ndarray) and a.dtype.kind == "f"
        else gf.tensor(a) if isinstance(a, np.ndarray)
        else a
        for a in args
    ]  # fmt: skip


@pytest.mark.parametrize("entry", DIFFERENTIABLE, ids=lambda e: e.name)
def test_first_and_second_order(entry):
    checked = 0
    for case in cases_of(entry):
        if not case.grad or case.order == 0:
            continue
        args = tensors(case.args)
        paired = [isinstance(a, np.ndarray) and a.dtype.kind == "c" for a in case.args]
        names = [n for n, v in case.kwargs.items() if isinstance(v, np.ndarray) and v.dtype.kind == "f"]
        extra = tensors([case.kwargs[n] for n in names])

        def function(*values, n=len(args), names=names, case=case, paired=paired):
            given = [joined(v) if pair else v for v, pair in zip(values, paired, strict=False)]
            y = entry(*given, **{**case.kwargs, **dict(zip(names, values[n:], strict=True))})
            y = tuple(part for v in (y if isinstance(y, tuple) else (y,)) for part in real_parts(v))
            return y if len(y) > 1 else y[0]

        inputs = [*args, *extra]
        outputs = function(*inputs)
        if not any(isinstance(v, gf.Tensor) and v.requires_grad for v in inputs):
            continue
        if all(y is None or y.numel() == 0 for y in (outputs if isinstance(outputs, tuple) else (outputs,))):
            first = next(y for y in (outputs if isinstance(outputs, tuple) else (outputs,)) if y is not None)
            gf.autograd.backward(first, gf.zeros_like(first))  # an empty output must still be walked
            checked += 1
            continue
        assert gradcheck(function, inputs, fast_mode=True), case
        if case.order > 1:
            assert gradgradcheck(function, inputs, fast_mode=True), case
        checked += 1
    assert checked or not any(c.grad for c in cases_of(entry)), f"{entry.name} has rules but no case that checks them"


@pytest.mark.parametrize("entry", REAL, ids=lambda e: e.name)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_dtype_is_kept_and_inputs_untouched(entry, dtype):
    if dtype == "float16" and entry.name in ("view_as_complex", "complex_of"):  # there are no complex halves
        return
    case = cases_of(entry)[0]
    arrays = as_dtype(list(case.args), dtype)
    before = [a.copy() if isinstance(a, np.ndarray) else a for a in arrays]
    args = tensors(arrays, dtype)
    outputs = entry(*args, **case.kwargs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    if entry.name not in ("cast",) and outputs[0].dtype.kind != "c":
        assert outputs[0].dtype == np.dtype(dtype), f"{entry.name} of {dtype} gave {outputs[0].dtype}"
    for y in outputs:
        if y is not None and y.requires_grad:
            gf.autograd.backward(y, gf.ones_like(y), retain_graph=True)
    for a, b, t in zip(arrays, before, args, strict=True):
        if isinstance(b, np.ndarray):
            np.testing.assert_array_equal(t.detach().numpy(), b, err_msg=f"{entry.name} wrote into its input")
        if isinstance(t, gf.Tensor) and t.grad is not None:
            assert t.grad.dtype == np.dtype(dtype) and t.grad.shape == t.shape
