"""The op table on complex numbers, beside PyTorch: values and gradients where it takes them, a refusal where it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import cases_of
from test_values import COMPARED, reference, to_gradflow, to_torch
from tolerance import assert_close

import gradflow as gf

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.reference


# Where PyTorch's function is more than the op, or asks less of its input.
BESIDE = {
    "rms_norm_forward": "of complex numbers the function is made of other ops",
    "softsign": "as rms_norm_forward",
    "difference_loss": "as rms_norm_forward, for the absolute difference",
    "adaptive_avg_pool2d": "of one output element PyTorch takes a mean, which it has of complex numbers",
    "adaptive_avg_pool3d": "as adaptive_avg_pool2d",
    "cholesky_inverse": "a random triangle has no real diagonal, as a factor does",
}


def complexed(value, rng):
    """The floating arrays of a case as complex ones."""
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return np.asarray(value + 1j * rng.standard_normal(value.shape))
    if isinstance(value, (list, tuple)):
        return type(value)(complexed(v, rng) for v in value)
    return value


def flat(y):
    return list(y) if isinstance(y, (tuple, list)) else [y]


@pytest.mark.filterwarnings("ignore:Casting complex values")
@pytest.mark.parametrize("entry", [e for e in COMPARED if e.name not in BESIDE], ids=lambda e: e.name)
def test_as_pytorch(entry):
    function = reference(entry)
    rng = np.random.default_rng(0)
    for case in [c for c in cases_of(entry) if any(isinstance(a, np.ndarray) and a.dtype.kind == "f" for a in c.args)][:4]:
        args = [complexed(a, rng) for a in case.args]
        kwargs = {k: complexed(v, rng) for k, v in case.kwargs.items()}
        theirs = [to_torch(a, case.grad) for a in args]
        try:
            try:
                ts = flat(function(*theirs, **{k: to_torch(v, False) for k, v in kwargs.items()}))
            except RuntimeError:  # it may compute what it does not differentiate
                theirs = [to_torch(a, False) for a in args]
                ts = flat(function(*theirs, **{k: to_torch(v, False) for k, v in kwargs.items()}))
        except (RuntimeError, NotImplementedError, TypeError, ValueError, IndexError):
            with pytest.raises((RuntimeError, TypeError, ValueError)):
                entry(*[to_gradflow(a, False) for a in args], **{k: to_gradflow(v, False) for k, v in kwargs.items()})
            continue
        ours = [to_gradflow(a, case.grad) for a in args]
        ys = flat(entry(*ours, **{k: to_gradflow(v, False) for k, v in kwargs.items()}))
        for a, b in zip(ys, ts, strict=False):
            assert_close(a.detach().numpy(), b.detach().resolve_conj().numpy(), what=str(case))
        if not (entry.rules and case.grad and ts[0].requires_grad):
            continue
        weights = rng.standard_normal(tuple(ts[0].shape)) * (1 + 0.5j if ts[0].is_complex() else 1)
        g = torch.from_numpy(np.asarray(weights)).to(ts[0].dtype)
        ts[0].backward(g)
        ys[0].backward(gf.tensor(g.numpy()))
        for a, b in zip(ours, theirs, strict=True):
            if isinstance(b, torch.Tensor) and b.grad is not None:
                assert_close(a.grad.numpy(), b.grad.resolve_conj().numpy(force=True), what=f"gradient of {case}", scale=10)
