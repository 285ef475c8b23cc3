"""PyTorch beside gradflow: one call made in both, values, dtypes and gradients compared, the second order checked."""

from __future__ import annotations

import numpy as np
from tolerance import assert_close

import gradflow as gf
from gradflow.autograd import gradgradcheck


def flat(y):
    """The tensors in an output, in order."""
    if isinstance(y, (tuple, list)):
        return [t for v in y for t in flat(v)]
    return [y]


def array(t):
    return np.asarray(t.detach().numpy()) if hasattr(t, "detach") else np.asarray(t)


def beside(torch, call, *arrays, order=2, grad=True):
    """call(lib, *tensors), with lib gradflow and torch: floating arrays become leaves that require gradients."""
    leaves = {}
    outs = {}
    for lib in (gf, torch):
        leaves[lib] = [lib.tensor(np.array(a)) for a in arrays]
        for t in leaves[lib]:
            if grad and t.is_floating_point():
                t.requires_grad_()
        outs[lib] = flat(call(lib, *leaves[lib]))
    assert len(outs[gf]) == len(outs[torch])
    for a, b in zip(outs[gf], outs[torch], strict=True):
        assert array(a).dtype == array(b).dtype
        assert_close(array(a), array(b))
    tracked = [k for k, t in enumerate(outs[torch]) if hasattr(t, "requires_grad") and t.requires_grad]
    assert tracked == [k for k, t in enumerate(outs[gf]) if hasattr(t, "requires_grad") and t.requires_grad]
    if not tracked:
        return
    rng = np.random.default_rng(5)
    weights = [rng.standard_normal(array(outs[torch][k]).shape) for k in tracked]
    for lib in (gf, torch):
        total = sum((outs[lib][k] * lib.tensor(w)).sum() for k, w in zip(tracked, weights, strict=True))
        total.backward()
    for a, b in zip(leaves[gf], leaves[torch], strict=True):
        if b.requires_grad:
            mine = np.zeros(a.shape) if a.grad is None else a.grad.numpy()
            theirs = np.zeros(b.shape) if b.grad is None else b.grad.numpy()
            assert_close(mine, theirs, what="gradient")
    if order == 2:
        floating = [a for a in arrays if np.asarray(a).dtype.kind == "f"]

        def function(*xs):
            xs = iter(xs)
            given = [next(xs) if np.asarray(a).dtype.kind == "f" else gf.tensor(np.array(a)) for a in arrays]
            ys = flat(call(gf, *given))
            return sum((ys[k] * gf.tensor(w)).sum() for k, w in zip(tracked, weights, strict=True))

        assert gradgradcheck(function, [gf.tensor(np.array(a), requires_grad=True) for a in floating], fast_mode=True)
