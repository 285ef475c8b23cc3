"""Forward mode by dual numbers, and checkpoints: what is computed again instead of kept."""

from __future__ import annotations

import numpy as np
import pytest
from tolerance import assert_close

import gradflow as gf
from gradflow import autograd, nn
from gradflow.autograd import forward_ad as fw
from gradflow.autograd.checkpoint import CheckpointError, checkpoint, checkpoint_sequential


def double(*shape):
    return gf.randn(shape, dtype=gf.float64)


# --- dual numbers -----------------------------------------------------------------------------------------


def test_tangents_of_what_is_computed():
    x, y, t = double(4), double(4), double(4)
    with fw.dual_level():
        d = fw.make_dual(x, t)
        assert fw.unpack_dual(d).tangent is t and fw.unpack_dual(y).tangent is None
        primal, tangent = fw.unpack_dual(d.sin() * d + y)
        assert_close(tangent.numpy(), t.numpy() * (np.sin(x.numpy()) + x.numpy() * np.cos(x.numpy())))
        assert not primal.requires_grad and not tangent.requires_grad
        two = fw.make_dual(y, x)
        assert_close(fw.unpack_dual((d * two).sum()).tangent.numpy(), t.numpy() @ y.numpy() + x.numpy() @ x.numpy())
    assert fw.unpack_dual(d).tangent is None


def test_tangents_of_a_modules_parameters():
    net, x = nn.Linear(4, 2).double(), double(3, 4)
    given = dict(net.named_parameters())
    tangents = {k: gf.randn_like(p) for k, p in given.items()}
    with fw.dual_level():
        for name, p in given.items():
            delattr(net, name)
            setattr(net, name, fw.make_dual(p, tangents[name]))
        tangent = fw.unpack_dual(net(x)).tangent
    want = x.numpy() @ tangents["weight"].numpy().T + tangents["bias"].numpy()
    assert_close(tangent.detach().numpy(), want)


def test_reverse_over_forward():
    x = double(3).requires_grad_()
    v = double(3)
    with fw.dual_level():
        tangent = fw.unpack_dual((fw.make_dual(x, v) ** 3).sum()).tangent
    (g,) = autograd.grad(tangent, x)
    assert_close(g.numpy(), 6 * x.detach().numpy() * v.numpy())


def test_dual_numbers_outside_of_a_level_are_refused():
    x = double(2)
    with pytest.raises(RuntimeError, match="dual level"):
        fw.make_dual(x, x)
    with fw.dual_level():
        with pytest.raises(RuntimeError, match="do not nest"):
            fw.enter_dual_level()
        with pytest.raises(RuntimeError, match="shape"):
            fw.make_dual(x, x[:1])
        with pytest.raises(ValueError, match="floating"):
            fw.make_dual(gf.tensor([1, 2]), x)
        with pytest.raises(TypeError, match="wanted"):
            fw.make_dual(x, 3.0)
    with pytest.raises(RuntimeError, match="last"):
        fw.exit_dual_level()


# --- checkpoints --------------------------------------------------------------------------------------------


def net():
    gf.manual_seed(5)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))


def gradients(run, m):
    x = gf.linspace(-1, 1, 20).reshape(5, 4).requires_grad_()
    gf.manual_seed(3)
    m.zero_grad()
    y = run(x)
    (y.sin() * gf.randn(2)).sum().backward()
    return [*(p.grad.numpy().copy() for p in m.parameters()), x.grad.numpy()]


WAYS = [
    lambda m: lambda x: checkpoint(m, x, use_reentrant=True),
    lambda m: lambda x: checkpoint(m, x, use_reentrant=False),
    lambda m: lambda x: checkpoint(m, x, use_reentrant=False, early_stop=False),
    lambda m: lambda x: checkpoint_sequential(m, 3, x, use_reentrant=False),
    lambda m: lambda x: checkpoint_sequential(list(m), 2, x, use_reentrant=True),
    lambda m: lambda x: checkpoint(lambda d, k: m(d["a"][0]) * k, {"a": [x]}, k=1.0, use_reentrant=False),
    lambda m: lambda x: checkpoint(lambda t: checkpoint(m, t, use_reentrant=False), x, use_reentrant=False),
    lambda m: lambda x: checkpoint(lambda t: checkpoint(m, t, use_reentrant=True), x, use_reentrant=True),
]


@pytest.mark.parametrize("way", WAYS)
def test_gradients_are_those_without_checkpoints(way):
    m = net()
    for a, b in zip(gradients(m, m), gradients(way(m), m), strict=True):
        assert_close(b, a)


def test_nothing_but_the_inputs_is_kept():
    kept = []
    x = double(3).requires_grad_()
    with autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        y = checkpoint(lambda t: t.exp().sin().cos(), x, use_reentrant=False)
    assert not kept
    runs = []
    y = checkpoint(lambda t: runs.append(1) or t.exp().sin(), x, use_reentrant=False)
    y.sum().backward()
    assert len(runs) == 2


def test_second_derivatives_through_a_checkpoint():
    x = double(3).requires_grad_()
    f = lambda t: (t.exp() * t.sin()).sum()
    (g,) = autograd.grad(checkpoint(f, x, use_reentrant=False), x, create_graph=True)
    (h,) = autograd.grad(g.sum(), x)
    a = x.detach().numpy()
    assert_close(h.numpy(), 2 * np.exp(a) * np.cos(a))
    with pytest.raises(RuntimeError, match="use_reentrant=False"):
        autograd.grad(checkpoint(f, x, use_reentrant=True), x, create_graph=True)


def test_what_goes_wrong_is_said():
    x = double(3).requires_grad_()
    runs = []

    def other(t):
        runs.append(1)
        return t.exp() if len(runs) == 1 else t.exp().sin()

    with pytest.raises(CheckpointError, match="saved 1 tensors, the second 2"):
        checkpoint(other, x, use_reentrant=False, early_stop=False).sum().backward()
    sizes = iter([3, 2])
    f = lambda t: t[: next(sizes)].exp().sum()
    with pytest.raises(CheckpointError, match="where the first saved"):
        checkpoint(f, x, use_reentrant=False).backward()
    with pytest.raises(ValueError, match="keywords"):
        checkpoint(f, x, use_reentrant=True, other=1)
    with pytest.raises(ValueError, match="preserve_rng_state only"):
        checkpoint_sequential([], 1, x, other=1)
    with pytest.warns(UserWarning, match="no input requires"):
        checkpoint(lambda t: t * 2, double(2), use_reentrant=True)
    with gf.no_grad():
        assert not checkpoint(lambda t: t * 2, x, use_reentrant=False).requires_grad


def test_contexts_around_both_runs():
    seen = []

    class note:
        def __init__(self, word):
            self.word = word

        def __enter__(self):
            seen.append(self.word)

        def __exit__(self, *exc):
            seen.append(f"{self.word} over")

    x = double(3).requires_grad_()
    contexts = lambda: (note("first"), note("second"))
    checkpoint(lambda t: t.exp() * 1, x, use_reentrant=False, context_fn=contexts).sum().backward()
    assert seen == ["first", "first over", "second", "second over"]
