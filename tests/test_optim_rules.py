"""The rules of the less common optimizers: against loops over single numbers, PyTorch step by step, and on the card."""

from __future__ import annotations

import math

import numpy as np
import pytest
from test_optim import (
    SHAPES,
    check_against_numbers,
    check_one_launch,
    give,
    give_card,
    gradients,
    on_the_card,
    parameters,
)
from tolerance import assert_close

import gradflow as gf
from gradflow import backend, kernel, optim
from gradflow.op import wrap

# --- one number at a time, as the papers have it ------------------------------------------------------


def adadelta_number(p, grads, lr=1.0, rho=0.9, eps=1e-6, weight_decay=0.0, maximize=False):
    v = u = 0.0
    for g in grads:
        g = (-g if maximize else g) + weight_decay * p
        v = rho * v + (1 - rho) * g * g
        s = math.sqrt(u + eps) / math.sqrt(v + eps) * g
        u = rho * u + (1 - rho) * s * s
        p -= lr * s
    return p


def adamax_number(p, grads, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, maximize=False):
    m = u = 0.0
    for t, g in enumerate(grads, 1):
        g = (-g if maximize else g) + weight_decay * p
        m = betas[0] * m + (1 - betas[0]) * g
        u = max(betas[1] * u, abs(g) + eps)
        p -= lr / (1 - betas[0] ** t) * m / u
    return p


def nadam_number(
    p, grads, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, momentum_decay=4e-3, decoupled_weight_decay=False,
    maximize=False,
):  # fmt: skip
    m = v = 0.0
    product = 1.0
    for t, g in enumerate(grads, 1):
        g = -g if maximize else g
        if decoupled_weight_decay:
            p -= lr * weight_decay * p
        else:
            g += weight_decay * p
        mu, following = (betas[0] * (1 - 0.5 * 0.96 ** (k * momentum_decay)) for k in (t, t + 1))
        product = float(np.float32(np.float32(product) * np.float32(mu)))  # kept in float32, as PyTorch has it
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g * g
        d = math.sqrt(v / (1 - betas[1] ** t)) + eps
        p -= lr * (1 - mu) / (1 - product) * g / d
        p -= lr * following / (1 - product * following) * m / d
    return p


def radam_number(
    p, grads, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, decoupled_weight_decay=False, maximize=False
):
    m = v = 0.0
    for t, g in enumerate(grads, 1):
        g = -g if maximize else g
        if decoupled_weight_decay:
            p -= lr * weight_decay * p
        else:
            g += weight_decay * p
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g * g
        most = 2 / (1 - betas[1]) - 1
        n = most - 2 * t * betas[1] ** t / (1 - betas[1] ** t)
        step = lr * m / (1 - betas[0] ** t)
        if n > 5:
            r = math.sqrt((n - 4) * (n - 2) * most / ((most - 4) * (most - 2) * n))
            step *= r * math.sqrt(1 - betas[1] ** t) / (math.sqrt(v) + eps)
        p -= step
    return p


def rprop_number(p, grads, lr, etas=(0.5, 1.2), step_sizes=(1e-6, 50.0), maximize=False):
    before, size = 0.0, lr
    for g in grads:
        g = -g if maximize else g
        size *= 1.0 if g * before == 0 else etas[1] if g * before > 0 else etas[0]
        size = min(max(size, step_sizes[0]), step_sizes[1])
        before = 0.0 if g * before < 0 else g
        p -= math.copysign(size, before) if before else 0.0
    return p


def asgd_number(p, grads, lr, lambd=1e-4, alpha=0.75, t0=1e6, weight_decay=0.0, maximize=False):
    eta = lr
    for t, g in enumerate(grads, 1):
        g = (-g if maximize else g) + weight_decay * p
        eta = float(np.float32(eta))
        p = p * (1 - lambd * eta) - eta * g
        eta = lr / (1 + lambd * lr * t) ** alpha
    return p


OPTIONS = [
    ("Adadelta", adadelta_number, dict()),
    ("Adadelta", adadelta_number, dict(lr=0.5, rho=0.6, eps=1e-3, weight_decay=0.1, maximize=True)),
    ("Adamax", adamax_number, dict(lr=0.1)),
    ("Adamax", adamax_number, dict(lr=0.1, betas=(0.5, 0.7), eps=0.1, weight_decay=0.1, maximize=True)),
    ("NAdam", nadam_number, dict(lr=0.1)),
    ("NAdam", nadam_number, dict(lr=0.1, betas=(0.5, 0.7), momentum_decay=0.1, weight_decay=0.1, maximize=True)),
    ("NAdam", nadam_number, dict(lr=0.1, weight_decay=0.1, decoupled_weight_decay=True)),
    ("RAdam", radam_number, dict(lr=0.1)),
    ("RAdam", radam_number, dict(lr=0.1, betas=(0.5, 0.99), eps=0.1, weight_decay=0.1, maximize=True)),
    ("RAdam", radam_number, dict(lr=0.1, betas=(0.5, 0.9), weight_decay=0.1, decoupled_weight_decay=True)),
    ("Rprop", rprop_number, dict(lr=0.1)),
    ("Rprop", rprop_number, dict(lr=0.1, etas=(0.3, 1.7), step_sizes=(0.05, 0.2), maximize=True)),
    ("ASGD", asgd_number, dict(lr=0.1)),
    ("ASGD", asgd_number, dict(lr=0.1, lambd=0.1, alpha=0.5, weight_decay=0.1, maximize=True)),
]
IDS = [f"{name}-{'-'.join(o)}" for name, _, o in OPTIONS]


@pytest.mark.parametrize(("name", "number", "options"), OPTIONS, ids=IDS)
def test_rule_against_single_numbers(name, number, options):
    check_against_numbers(name, number, options, 8)


def test_the_mean_of_all_parameters_begins_at_t0():
    p = parameters([(3,)])[0]
    o = optim.ASGD([p], lr=0.1, t0=2)
    way = []
    for i in range(6):
        give([p], gradients(i, [(3,)]))
        o.step()
        way.append(p.array.copy())
    mean = np.zeros(3)
    for t, x in enumerate(way):
        mean += (x - mean) * np.float32(1 / max(1, t - 2)).item() if t else x
    assert_close(o.state[p]["ax"].array, mean)


def test_a_sign_that_turns_makes_rprop_stand_still_once():
    p = wrap(np.zeros(1)).requires_grad_()
    o, places = optim.Rprop([p], lr=1.0), []
    for g in (1.0, 1.0, -1.0, -1.0, -1.0):
        give([p], [np.array([g])])
        o.step()
        places.append(p.item())
    assert_close(np.array(places), np.array([-1, -2.2, -2.2, -1.6, -0.88]))


# --- whole tensors ------------------------------------------------------------------------------------


def adafactor_tensor(p, grads, lr, beta2_decay=-0.8, eps=(None, 1e-3), d=1.0, weight_decay=0.0):
    e1 = np.finfo(p.dtype).eps if eps[0] is None else eps[0]
    v = r = c = 0.0
    for t, g in enumerate(grads, 1):
        w = t**beta2_decay
        a = max(eps[1], np.sqrt((p**2).mean())) * min(lr, t**-0.5)
        p = p * (1 - lr * weight_decay)
        if p.ndim > 1:
            r = (1 - w) * r + w * (g**2).mean(-1)
            c = (1 - w) * c + w * (g**2).mean(-2)
            var = r[..., :, None] * c[..., None, :] / np.maximum(r.mean(-1), e1)[..., None, None]
        else:
            v = (1 - w) * v + w * g**2
            var = v
        u = g / np.sqrt(np.maximum(var, e1**2))
        p = p - a / max(1.0, np.sqrt((u**2).mean()) / d) * u
    return p


@pytest.mark.parametrize("options", [{}, dict(weight_decay=0.1, d=1.5), dict(beta2_decay=-1.0, eps=(0.1, 0.5))])
def test_adafactor(options):
    params = parameters()
    start = [p.array.copy() for p in params]
    history = [gradients(i) for i in range(5)]
    o = optim.Adafactor(params, lr=0.1, **options)
    for grads in history:
        give(params, grads)
        o.step()
    for k, p in enumerate(params):
        if p.array.size:
            assert_close(p.array, adafactor_tensor(start[k], [h[k] for h in history], 0.1, **options))
    assert o.state[params[0]]["row_var"].shape == (7, 1) and o.state[params[0]]["col_var"].shape == (1, 5)
    up, down = (parameters([(3, 2)]) for _ in range(2))
    g = gradients(0, [(3, 2)])
    give(up, g)
    give(down, [-x for x in g])
    optim.Adafactor(up, maximize=True).step()
    optim.Adafactor(down).step()
    np.testing.assert_array_equal(up[0].array, down[0].array)


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
def test_muon_steps_have_singular_values_near_one(shape):
    p = parameters([shape])[0]
    start, g = p.array.copy(), gradients(0, [shape])[0]
    give([p], [g])
    optim.Muon([p], lr=0.5, weight_decay=0.0, nesterov=False).step()
    step = (start - p.array) / 0.5 / max(1, shape[0] / shape[1]) ** 0.5
    u, _, vt = np.linalg.svd(g, full_matrices=False)
    inner = u.T @ step @ vt.T  # diagonal in the singular vectors of the gradient, but for bfloat16
    assert np.abs(inner - np.diag(np.diag(inner))).max() < 0.1
    assert np.diag(inner).min() > 0.5 and np.diag(inner).max() < 1.4


def test_bfloat16_rounding_is_to_nearest_and_even():
    rng = np.random.default_rng(0)
    x = (rng.standard_normal(1000) * 10.0 ** rng.integers(-30, 30, 1000)).astype(np.float32)
    x[:4] = [1 + 2**-8, 1 + 3 * 2**-8, np.inf, 0]  # two ties
    y = optim.muon.rounded(x)
    assert y[:4].tolist() == [1, 1 + 2**-6, np.inf, 0]
    assert (np.abs(y[4:] - x[4:]) <= np.abs(x[4:]) * 2**-8).all()
    assert not (y.view(np.uint32) & 0xFFFF).any()


def test_errors_name_what_was_wrong():
    p, z = parameters([(3, 2)])[0], wrap(np.ones((2, 2), np.complex128)).requires_grad_()
    for wrong, error, text in [
        (lambda: optim.Adadelta([p], rho=1.1), ValueError, "rho <= 1"),
        (lambda: optim.Adamax([p], betas=(0.0, 1.0)), ValueError, r"betas\[1\]"),
        (lambda: optim.NAdam([p], momentum_decay=-0.2), ValueError, "momentum_decay"),
        (lambda: optim.RAdam([p], weight_decay=-1), ValueError, "weight_decay"),
        (lambda: optim.Rprop([p], etas=(1.0, 0.5)), ValueError, "etas"),
        (lambda: optim.ASGD([p], lr=-0.5), ValueError, "lr"),
        (lambda: optim.Adafactor([p], eps=(-1e-30, 1e-3)), ValueError, "epsilon1"),
        (lambda: optim.Adafactor([p], d=0.0), ValueError, "d >= 1"),
        (lambda: optim.Adafactor([p], beta2_decay=0.8), ValueError, "beta2_decay"),
        (lambda: optim.Muon(parameters([(3,)])), ValueError, "matrices"),
        (lambda: optim.Muon([p], adjust_lr_fn="other"), ValueError, "match_rms_adamw"),
        (lambda: optim.SparseAdam([p], lr=0.0), ValueError, "> 0"),
        (lambda: optim.SparseAdam([z]), ValueError, "real"),
        (lambda: optim.LBFGS([{"params": p}, {"params": z}]), ValueError, "one group"),
    ]:
        with pytest.raises(error, match=text):
            wrong()
    give([p, z], [np.ones((3, 2)), np.ones((2, 2), np.complex128)])
    for o, text in [
        (optim.SparseAdam([p]), "use Adam"), (optim.Muon([z]), "real parameters"), (optim.Adafactor([z]), "real"),
    ]:  # fmt: skip
        with pytest.raises(RuntimeError, match=text):
            o.step()
    with pytest.raises(ValueError, match="ns_steps < 100"):
        optim.Muon([p], ns_steps=100).step()
    with pytest.raises(ValueError, match="three"):
        optim.Muon([p], ns_coefficients=(1.0, 2.0)).step()


# --- PyTorch ------------------------------------------------------------------------------------------

WHOLE = [
    *((name, options) for name, _, options in OPTIONS),
    ("ASGD", dict(lr=0.1, t0=3)),
    ("Adafactor", dict(lr=0.1)),
    ("Adafactor", dict(lr=0.1, eps=(0.1, 0.5), d=1.5, beta2_decay=-0.5, weight_decay=0.1, maximize=True)),
    ("Muon", dict(lr=0.1)),
    ("Muon", dict(lr=0.1, nesterov=False, momentum=0.5, ns_steps=3, adjust_lr_fn="match_rms_adamw")),
]


@pytest.mark.reference
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "options"), WHOLE, ids=[f"{n}-{'-'.join(o)}" for n, o in WHOLE])
def test_step_by_step_as_pytorch(name, options, dtype):
    torch = pytest.importorskip("torch")
    shapes = [(4, 3), (3, 5), (2, 2)] if name == "Muon" else [s for s in SHAPES if name != "Adafactor" or 0 not in s]
    params = parameters(shapes, dtype)
    theirs = [torch.tensor(p.array).requires_grad_() for p in params]
    mine, other = getattr(optim, name)(params, **options), getattr(torch.optim, name)(theirs, **options)
    near = dict(rtol=0, atol=0.02) if name == "Muon" else dict(scale=4)  # bfloat16 inside
    assert repr(mine) == repr(other)
    for i in range(10):
        grads = gradients(i, shapes, dtype)
        if i % 3 == 1:
            grads[0] = None
        give(params, grads)
        for t, g in zip(theirs, grads, strict=True):
            t.grad = None if g is None else torch.tensor(g)
        mine.step()
        other.step()
        for p, t in zip(params, theirs, strict=True):
            if name == "Muon":
                np.testing.assert_allclose(p.array, t.detach().numpy(), **near)
            else:
                assert_close(p.array, t.detach().numpy(), **near)
    a, b = mine.state_dict(), other.state_dict()
    assert a["param_groups"] == b["param_groups"] and a["state"].keys() == b["state"].keys()
    for number, values in b["state"].items():
        assert a["state"][number].keys() == values.keys()
        for k, v in values.items():
            assert_close(a["state"][number][k].array, v.numpy(), dtype=dtype, scale=4)
    again = getattr(optim, name)(parameters(shapes, dtype), **options)
    again.load_state_dict(b)
    assert again.state_dict()["param_groups"] == b["param_groups"]


@pytest.mark.reference
def test_pytorchs_hyperparameters_may_be_tensors():
    torch = pytest.importorskip("torch")
    there = [torch.ones(3, dtype=torch.float64, requires_grad=True)]
    betas = (torch.tensor(0.8, dtype=torch.float64), torch.tensor(0.9, dtype=torch.float64))
    other = torch.optim.Adam(there, lr=torch.tensor(0.1, dtype=torch.float64), betas=betas)
    here = parameters([(3,)])
    here[0].array[...] = 1
    mine = optim.Adam(here)
    mine.load_state_dict(other.state_dict())
    for i in range(3):
        g = gradients(i, [(3,)])
        give(here, g)
        there[0].grad = torch.tensor(g[0])
        mine.step()
        other.step()
    assert_close(here[0].array, there[0].detach().numpy())


def test_adafactor_forgets_all_at_a_decay_of_zero():
    """With w = 1 the means are the last squares themselves, however large they were before."""
    p, q = parameters([(3,)]), parameters([(3,)])
    a, b = (optim.Adafactor(t, beta2_decay=0.0) for t in (p, q))
    for o, t, g in ((a, p, 1e8), (b, q, 1.0)):
        give(t, [np.full(3, g)])
        o.step()
        t[0].array[...] = 1
        give(t, [np.array([1e-3, 2e-3, -1e-3])])
        o.step()
    np.testing.assert_array_equal(p[0].array, q[0].array)


# --- the card -----------------------------------------------------------------------------------------


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("name", "number", "options"), OPTIONS, ids=IDS)
def test_all_parameters_in_one_launch(name, number, options, dtype, card):
    check_one_launch(name, options, dtype, card, scale=8)


@pytest.mark.cuda
@pytest.mark.parametrize("name", ["NAdam", "ASGD", "RAdam", "Adamax"])
def test_a_captured_step_goes_on_counting(name, card):
    options = dict(lambd=0.1, t0=1) if name == "ASGD" else dict(betas=(0.9, 0.8))
    there, here = on_the_card(card, [(9000,), (5,)], "float32"), parameters([(9000,), (5,)], "float32")
    a = getattr(optim, name)(there, lr=wrap(card.asarray(np.float32(0.1))), capturable=True, **options)
    b = getattr(optim, name)(here, lr=0.1, **options)
    grads = gradients(0, [(9000,), (5,)], "float32")
    give_card(card, there, grads)
    give(here, grads)
    a.step()
    graph = gf.cuda.CUDAGraph()
    with gf.cuda.graph(graph):
        a.step()
    for _ in range(6):
        graph.replay()
    for _ in range(7):
        b.step()
    for p, q in zip(there, here, strict=True):
        assert_close(card.asnumpy(p.array), q.array, scale=8)
        for k in b.state[q]:
            assert_close(backend.asnumpy(a.state[p][k].array), b.state[q][k].array, scale=8)


@pytest.mark.cuda
@pytest.mark.parametrize("name", ["Adafactor", "Muon"])
def test_what_is_made_of_array_functions(name, card):
    shapes = [(6, 4), (3, 5)]
    there, here = on_the_card(card, shapes, "float32"), parameters(shapes, "float32")
    a, b = getattr(optim, name)(there, lr=0.1), getattr(optim, name)(here, lr=0.1)
    for i in range(3):
        grads = gradients(i, shapes, "float32")
        give_card(card, there, grads)
        give(here, grads)
        a.step()
        b.step()
    for p, q in zip(there, here, strict=True):
        np.testing.assert_allclose(card.asnumpy(p.array), q.array, rtol=1e-2 if name == "Muon" else 1e-5, atol=1e-2)


@pytest.mark.cuda
@pytest.mark.parametrize("capturable", [False, True])
@pytest.mark.parametrize(("name", "number", "options"), OPTIONS, ids=IDS)
def test_without_their_kernels(name, number, options, capturable, card, monkeypatch):
    """Definitions step arrays on the card too, also those with gaps, and with counts that are there."""
    monkeypatch.setattr(kernel, "definitions_only", True)
    base = np.random.default_rng(0).standard_normal((6, 8)).astype(np.float32)
    here, there = (
        [wrap(base.copy().T[::2]), wrap(base[0].copy())],
        [wrap(card.asarray(base).T[::2]), wrap(card.asarray(base[0]))],
    )
    a = getattr(optim, name)([t.requires_grad_() for t in there], capturable=capturable, **options)
    b = getattr(optim, name)([t.requires_grad_() for t in here], **options)
    for i in range(7):
        grads = gradients(i, [(4, 6), (8,)], "float32")
        give_card(card, there, grads)
        give(here, grads)
        a.step()
        b.step()
    for p, q in zip(there, here, strict=True):
        assert_close(card.asnumpy(p.array), q.array, scale=16)
