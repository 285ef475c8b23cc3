"""The op table against PyTorch, where it is installed: values and first gradients of every case."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import as_dtype, cases_of
from tolerance import assert_close

import gradflow as gf
from gradflow import op

pytestmark = pytest.mark.reference
torch = pytest.importorskip("torch")

COMPARED = [e for e in op.table.values() if e.cases and e.reference is not None]


def reference(entry):
    """PyTorch's function for an op: by its given name, else torch.NAME, nn.functional.NAME, Tensor.NAME."""
    if callable(entry.reference):
        return lambda *a, **k: entry.reference(torch, *a, **k)
    for path in (
        [entry.reference] if entry.reference else [entry.name, f"nn.functional.{entry.name}", f"Tensor.{entry.name}"]
    ):
        found = torch
        for part in path.split("."):
            found = getattr(found, part, None)
        if found is not None:
            return found
    raise LookupError(f"{entry.name}: PyTorch has no such function; give the op a reference")


def to_torch(v, grad):
    if isinstance(v, np.ndarray):
        t = torch.from_numpy(np.ascontiguousarray(v)).reshape(v.shape)
        return t.requires_grad_() if grad and (t.is_floating_point() or t.is_complex()) else t
    if isinstance(v, (list, tuple)) and any(isinstance(u, np.ndarray) for u in v):
        return type(v)(to_torch(u, grad) for u in v)
    return v


def to_gradflow(v, grad):
    if isinstance(v, np.ndarray):
        t = gf.tensor(v)
        return t.requires_grad_() if grad and (t.is_floating_point() or t.is_complex()) else t
    if isinstance(v, (list, tuple)) and any(isinstance(u, np.ndarray) for u in v):
        return type(v)(to_gradflow(u, grad) for u in v)
    return v


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("entry", COMPARED, ids=lambda e: e.name)
def test_values_and_gradients(entry, dtype):
    function = reference(entry)
    for case in cases_of(entry):
        args, kwargs = as_dtype(list(case.args), dtype), as_dtype(case.kwargs, dtype)
        grad = bool(entry.rules) and case.grad
        ours = [to_gradflow(a, grad) for a in args]
        theirs = [to_torch(a, grad) for a in args]
        y = entry(*ours, **{k: to_gradflow(v, False) for k, v in kwargs.items()})
        t = function(*theirs, **{k: to_torch(v, False) for k, v in kwargs.items()})
        ys = y if isinstance(y, tuple) else (y,)
        ts = tuple(t) if isinstance(t, (tuple, list)) else (t,)
        for a, b in zip(ys, ts, strict=False):
            if a is None or b is None:
                continue
            assert a.dtype == b.detach().numpy().dtype, f"{case}: {a.dtype} where PyTorch has {b.dtype}"
            assert_close(a.detach().numpy(), b.detach().numpy(), what=str(case))
        if not grad or not getattr(ts[0], "requires_grad", False):
            continue
        g = np.asarray(np.random.default_rng(1).standard_normal(ys[0].shape), ys[0].dtype)
        ts[0].backward(torch.from_numpy(g).reshape(ts[0].shape))
        ys[0].backward(gf.tensor(g))
        for a, b in zip(ours, theirs, strict=True):
            if isinstance(b, torch.Tensor) and b.grad is not None:
                assert_close(a.grad.numpy(), b.grad.numpy(force=True), what=f"gradient of {case}", scale=10)
