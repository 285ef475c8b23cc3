"""Optimizers: each rule against a loop over single numbers, PyTorch step by step, groups, state, and the card."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tolerance import assert_close

import gradflow as gf
from gradflow import backend, optim
from gradflow.op import wrap
from gradflow.optim.clip import gradient_norm
from gradflow.optim.sgd import sgd
from gradflow.optim.update import BLOCK, many

SHAPES = [(7, 5), (3,), (), (0, 4), (2, 3, 4)]


def parameters(shapes=SHAPES, dtype="float64", seed=0):
    rng = np.random.default_rng(seed)
    return [wrap(np.asarray(rng.standard_normal(s)).astype(dtype)).requires_grad_() for s in shapes]


def gradients(step, shapes=SHAPES, dtype="float64"):
    rng = np.random.default_rng(100 + step)
    return [np.asarray(rng.standard_normal(s)).astype(dtype) for s in shapes]


def give(params, values):
    for p, g in zip(params, values, strict=True):
        p.grad = None if g is None else wrap(g.copy())


# --- one number at a time, as the papers have it ------------------------------------------------------


def sgd_number(p, grads, lr, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False, maximize=False):
    b = None
    for g in grads:
        g = (-g if maximize else g) + weight_decay * p
        if momentum:
            b = g if b is None else momentum * b + (1 - dampening) * g
            g = g + momentum * b if nesterov else b
        p -= lr * g
    return p


def adam_number(
    p, grads, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, amsgrad=False, maximize=False, decoupled=False
):
    m = v = top = 0.0
    for t, g in enumerate(grads, 1):
        g = -g if maximize else g
        if decoupled:
            p -= lr * weight_decay * p
        else:
            g += weight_decay * p
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        top = max(top, v)
        whole = (top if amsgrad else v) / (1 - betas[1] ** t)
        p -= lr * m / (1 - betas[0] ** t) / (math.sqrt(whole) + eps)
    return p


def rmsprop_number(p, grads, lr, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0, centered=False, maximize=False):
    v = m = mean = 0.0
    for g in grads:
        g = (-g if maximize else g) + weight_decay * p
        v = alpha * v + (1 - alpha) * g**2
        mean = alpha * mean + (1 - alpha) * g
        m = momentum * m + g / (math.sqrt(v - mean**2 if centered else v) + eps)
        p -= lr * m
    return p


def adagrad_number(
    p, grads, lr, lr_decay=0.0, weight_decay=0.0, initial_accumulator_value=0.0, eps=1e-10, maximize=False
):
    total = initial_accumulator_value
    for t, g in enumerate(grads, 1):
        g = (-g if maximize else g) + weight_decay * p
        total += g**2
        p -= lr / (1 + (t - 1) * lr_decay) * g / (math.sqrt(total) + eps)
    return p


OPTIONS = [
    ("SGD", sgd_number, dict(lr=0.1)),
    ("SGD", sgd_number, dict(lr=0.1, momentum=0.9)),
    ("SGD", sgd_number, dict(lr=0.1, momentum=0.9, dampening=0.3, weight_decay=0.1)),
    ("SGD", sgd_number, dict(lr=0.1, momentum=0.9, nesterov=True, maximize=True)),
    ("Adam", adam_number, dict(lr=0.1)),
    ("Adam", adam_number, dict(lr=0.1, betas=(0.5, 0.7), eps=0.1, weight_decay=0.2, amsgrad=True)),
    ("Adam", adam_number, dict(lr=0.1, betas=(0.0, 0.7), maximize=True)),
    ("AdamW", adam_number, dict(lr=0.1, weight_decay=0.3)),
    ("AdamW", adam_number, dict(lr=0.1, weight_decay=0.3, amsgrad=True, maximize=True)),
    ("RMSprop", rmsprop_number, dict(lr=0.1)),
    ("RMSprop", rmsprop_number, dict(lr=0.1, alpha=0.8, momentum=0.9, weight_decay=0.1)),
    ("RMSprop", rmsprop_number, dict(lr=0.1, alpha=0.8, centered=True, momentum=0.5, maximize=True, eps=0.1)),
    ("Adagrad", adagrad_number, dict(lr=0.1)),
    ("Adagrad", adagrad_number, dict(lr=0.1, lr_decay=0.5, weight_decay=0.1, initial_accumulator_value=0.5)),
]
IDS = [f"{name}-{'-'.join(o)}" for name, _, o in OPTIONS]


def check_against_numbers(name, number, options, steps, **told):
    """Steps of an optimizer give every element what its rule gives for single numbers; `told` are options for it alone."""
    params = parameters()
    start = [p.array.copy() for p in params]
    history = [gradients(i) for i in range(steps)]
    o = getattr(optim, name)(params, **options)
    for grads in history:
        give(params, grads)
        o.step()
    for k, p in enumerate(params):
        expected = np.empty_like(p.array)
        for at in np.ndindex(p.array.shape):
            expected[at] = number(start[k][at].item(), [h[k][at].item() for h in history], **options, **told)
        assert_close(p.array, expected)


@pytest.mark.parametrize(("name", "number", "options"), OPTIONS, ids=IDS)
def test_rule_against_single_numbers(name, number, options):
    check_against_numbers(name, number, options, 6, **({"decoupled": True} if name == "AdamW" else {}))


@pytest.mark.reference
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "number", "options"), OPTIONS, ids=IDS)
def test_step_by_step_as_pytorch(name, number, options, dtype):
    torch = pytest.importorskip("torch")
    params = parameters(dtype=dtype)
    theirs = [torch.tensor(p.array).requires_grad_() for p in params]
    mine, other = getattr(optim, name)(params, **options), getattr(torch.optim, name)(theirs, **options)
    for i in range(12):
        grads = gradients(i, dtype=dtype)
        if i % 3 == 1:  # a parameter that is left out of a step falls behind in its count
            grads[0] = None
        give(params, grads)
        for t, g in zip(theirs, grads, strict=True):
            t.grad = None if g is None else torch.tensor(g)
        mine.step()
        other.step()
        for p, t in zip(params, theirs, strict=True):
            assert_close(p.array, t.detach().numpy(), scale=2)
    a, b = mine.state_dict(), other.state_dict()
    assert a["param_groups"] == b["param_groups"]
    assert a["state"].keys() == b["state"].keys()
    for number_, values in b["state"].items():
        assert a["state"][number_].keys() == values.keys()
        for k, v in values.items():
            assert_close(a["state"][number_][k].array, v.numpy(), dtype=dtype, scale=2)
    # PyTorch's own state_dict is taken up as it is.
    fresh = parameters(dtype=dtype)
    again = getattr(optim, name)(fresh, **options)
    again.load_state_dict(b)
    for p, t in zip(fresh, theirs, strict=True):
        p.array[...] = t.detach().numpy()
    grads = gradients(50, dtype=dtype)
    give(fresh, grads)
    for t, g in zip(theirs, grads, strict=True):
        t.grad = torch.tensor(g)
    again.step()
    other.step()
    for p, t in zip(fresh, theirs, strict=True):
        assert_close(p.array, t.detach().numpy(), scale=2)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["SGD", "Adam", "RMSprop", "Adagrad"])
def test_half_parameters_step_in_float(name, dtype):
    dtype = backend.bfloat16() if dtype == "bfloat16" else np.dtype(dtype)
    options = dict(lr=0.01, **({"momentum": 0.9} if name == "SGD" else {}))
    small, wide = (parameters([(40,)], d) for d in (dtype, "float32"))
    wide[0].array[...] = small[0].array
    a, b = getattr(optim, name)(small, **options), getattr(optim, name)(wide, **options)
    g = gradients(0, [(40,)])[0].astype(dtype)
    give(small, [g])
    give(wide, [g.astype(np.float32)])
    a.step()
    b.step()
    assert small[0].dtype == dtype
    assert all(v.dtype == dtype for k, v in a.state[small[0]].items() if k != "step")
    np.testing.assert_array_equal(small[0].array, wide[0].array.astype(dtype))  # one rounding of the float32 step


def test_blocks_strides_and_memory():
    n = 2 * BLOCK + 5
    whole = parameters([(n,)])[0]
    parts = [wrap(whole.array[i : i + 1000].copy()).requires_grad_() for i in range(0, n, 1000)]
    g = gradients(0, [(n,)])[0]
    odd = wrap(np.arange(24.0).reshape(4, 6).T[::2]).requires_grad_()
    plain = wrap(odd.array.copy()).requires_grad_()
    memory = [p.array for p in (whole, odd)]
    ones = np.ones((3, 4))
    give([whole, odd, plain, *parts], [g, ones, ones, *(g[i : i + 1000] for i in range(0, n, 1000))])
    optim.Adam([whole, odd, plain, *parts], lr=0.1, amsgrad=True).step()
    assert all(p.array is x for p, x in zip((whole, odd), memory, strict=True))
    np.testing.assert_array_equal(whole.array, np.concatenate([p.array for p in parts]))
    np.testing.assert_array_equal(odd.array, plain.array)


def test_a_step_is_a_write_in_place():
    p = parameters([(3,)])[0]
    y = (p * p).sum()
    give([p], [np.ones(3)])
    before = p._version
    optim.SGD([p], lr=0.1).step()
    assert p._version == before + 1
    with pytest.raises(RuntimeError, match="written in place"):
        y.backward()


def test_complex_parameters_step_as_pairs():
    z = np.array([1 + 2j, 3 - 1j])
    p, q = wrap(z.copy()).requires_grad_(), wrap(z.view(np.float64).copy()).requires_grad_()
    for name in ("SGD", "Adam", "RMSprop"):
        a, b = (getattr(optim, name)([t], lr=0.1) for t in (p, q))
        give([p, q], [z * 2, (z * 2).view(np.float64)])
        a.step()
        b.step()
        np.testing.assert_array_equal(p.array.view(np.float64), q.array)


# --- groups, gradients, closures ----------------------------------------------------------------------


def test_groups_have_their_own_hyperparameters():
    a, b, c = parameters([(2,), (2,), (2,)])
    start = [p.array.copy() for p in (a, b, c)]
    o = optim.SGD([{"params": a}, {"params": [b], "lr": 0.5}], lr=0.1)
    o.add_param_group({"params": c, "maximize": True})
    give([a, b, c], [np.ones(2)] * 3)
    o.step()
    for p, x, rate in zip((a, b, c), start, (0.1, 0.5, -0.1), strict=True):
        assert_close(p.array, x - rate)
    assert [g["lr"] for g in o.param_groups] == [0.1, 0.5, 0.1]


def test_a_group_is_the_dict_that_was_given():
    a, b = parameters([(2,), (2,)])
    first, second = {"params": a, "lr": 0.5}, {"params": (p for p in [b])}
    o = optim.SGD([first], lr=0.1)
    o.add_param_group(second)
    assert o.param_groups[0] is first and o.param_groups[1] is second and second["params"] == [b]
    first["lr"] = 0.25
    start = a.array.copy()
    give([a, b], [np.ones(2)] * 2)
    o.step()
    assert_close(a.array, start - 0.25)


def test_names_of_parameters():
    a, b = parameters([(2,), (2,)])
    o = optim.SGD([("w", a), ("b", b)], lr=0.1)
    assert o.state_dict()["param_groups"][0]["param_names"] == ["w", "b"]
    with pytest.raises(ValueError, match="names"):
        o.add_param_group({"params": parameters([(2,)])})


def test_zero_grad():
    a, b = parameters([(2,), (2,)])
    o = optim.SGD([a, b], lr=0.1)
    give([a, b], [np.ones(2), None])
    g = a.grad.array
    o.zero_grad(set_to_none=False)
    assert a.grad.array is g and not g.any() and b.grad is None
    o.zero_grad()
    assert a.grad is None


def test_closure_is_recorded_and_returned():
    p = parameters([(3,)])[0]
    o = optim.SGD([p], lr=0.1)
    x = p.array.copy()

    def closure():
        o.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with gf.no_grad():
        loss = o.step(closure)
    assert loss.item() == pytest.approx((x * x).sum())
    assert_close(p.array, 0.8 * x)


def test_hooks():
    p = parameters([(3,)])[0]
    o, seen = optim.SGD([p], lr=0.1), []
    handles = [
        o.register_step_pre_hook(lambda *a: seen.append("pre")),
        o.register_step_post_hook(lambda *a: seen.append("post")),
        o.register_state_dict_pre_hook(lambda o: seen.append("state")),
        o.register_state_dict_post_hook(lambda o, d: {**d, "more": 1}),
        o.register_load_state_dict_pre_hook(lambda o, d: {k: v for k, v in d.items() if k != "more"}),
        o.register_load_state_dict_post_hook(lambda o: seen.append("loaded")),
    ]
    o.step()
    state = o.state_dict()
    o.load_state_dict(state)
    assert state["more"] == 1 and seen == ["pre", "post", "state", "loaded"]
    for h in handles:
        h.remove()
    o.step()
    assert len(seen) == 4


def test_errors_name_what_was_wrong():
    p, q = parameters([(3,), (2,)])
    for wrong, error, text in [
        (lambda: optim.SGD([]), ValueError, "at least one parameter"),
        (lambda: optim.SGD(p), TypeError, "one tensor"),
        (lambda: optim.SGD([np.ones(2)]), TypeError, "ndarray"),
        (lambda: optim.SGD([p * 2]), ValueError, "leaves"),
        (lambda: optim.SGD([p], lr=-1), ValueError, "wanted lr >= 0, saw -1"),
        (lambda: optim.SGD([p], lr=wrap(np.ones(2))), ValueError, "one number"),
        (lambda: optim.SGD([p], nesterov=True), ValueError, "nesterov"),
        (lambda: optim.Adam([p], betas=(0.9, 1.0)), ValueError, r"betas\[1\]"),
        (lambda: optim.Adam([p], eps=math.nan), ValueError, "eps"),
        (lambda: optim.Adam([p], differentiable=True, fused=True), RuntimeError, "differentiable"),
        (lambda: optim.SGD([p], foreach=True, fused=True), RuntimeError, "foreach"),
        (lambda: optim.Adam([p], betas=(0.9, wrap(np.array(0.9)))), ValueError, "mixture"),
        (lambda: optim.AdamW([p], lr=wrap(np.array(0.1)), foreach=True), ValueError, "foreach"),
        (lambda: optim.RMSprop([p], alpha=-0.1), ValueError, "alpha"),
        (lambda: optim.Adagrad([p], lr_decay=-0.1), ValueError, "lr_decay"),
        (lambda: optim.SGD([{"params": p}, {"params": p}]), ValueError, "one group"),
        (lambda: optim.SGD([{"params": {p}}]), TypeError, "order"),
        (lambda: optim.SGD([("w", p), q]), ValueError, "names"),
        (lambda: optim.Optimizer([p], {"lr": optim.optimizer.REQUIRED}), ValueError, "lr"),
    ]:
        with pytest.raises(error, match=text):
            wrong()
    with pytest.warns(UserWarning, match="twice"):
        optim.SGD([p, p])
    o = optim.SGD([p])
    p.grad = wrap(np.ones(3, np.float32))
    with pytest.raises(RuntimeError, match="gradient like its parameter"):
        o.step()


def test_state_dict_goes_on_where_it_stopped():
    for name, _, options in OPTIONS:
        a, b = parameters(), parameters()
        o, fresh = (getattr(optim, name)(p, **options) for p in (a, b))
        for i in range(3):
            give(a, gradients(i))
            o.step()
        state = o.state_dict()
        fresh.load_state_dict(state)
        for p, q in zip(a, b, strict=True):
            q.array[...] = p.array
            for k, v in o.state[p].items():
                assert not np.shares_memory(v.array, fresh.state[q][k].array)
        for i in range(3, 5):
            for o_, params in ((o, a), (fresh, b)):
                give(params, gradients(i))
                o_.step()
        for p, q in zip(a, b, strict=True):
            np.testing.assert_array_equal(p.array, q.array)


def test_a_state_that_does_not_fit_changes_nothing():
    a, b = parameters([(3,), (2,)]), parameters([(3,), (4,)])
    o, other = optim.Adam(a), optim.Adam(b)
    for o_, p in ((o, a), (other, b)):
        give(p, [np.ones(t.shape) for t in p])
        o_.step()
    before = {k: v.array.copy() for k, v in o.state[a[0]].items()}
    with pytest.raises(ValueError, match="exp_avg of shape"):
        o.load_state_dict(other.state_dict())
    with pytest.raises(ValueError, match="groups of"):
        o.load_state_dict(optim.Adam(parameters([(3,)])).state_dict())
    for k, v in o.state[a[0]].items():
        np.testing.assert_array_equal(v.array, before[k])


def test_state_follows_the_dtype_of_the_parameters():
    a, b = parameters([(3,)], "float64"), parameters([(3,)], "float32")
    o, other = optim.Adam(a), optim.Adam(b)
    give(a, [np.ones(3)])
    o.step()
    other.load_state_dict(o.state_dict())
    assert other.state[b[0]]["exp_avg"].dtype == np.float32 and other.state[b[0]]["step"].item() == 1


# --- clipping -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [2.0, 1.0, 3.0, 0.5, math.inf, -math.inf])
def test_norm_and_clipping(order):
    params = parameters([(3, 4), (5,), (2,)], "float32")
    grads = [g.astype("float32") for g in gradients(0, [(3, 4), (5,)])]
    give(params, [*grads, None])
    every = np.abs(np.concatenate([g.reshape(-1) for g in grads]).astype(np.float64))
    norm = every.max() if order == math.inf else every.min() if order < 0 else (every**order).sum() ** (1 / order)
    assert optim.clip_grad_norm_(params, 1e9, order).item() == pytest.approx(norm, rel=1e-5)
    for p, g in zip(params, grads, strict=False):
        np.testing.assert_array_equal(p.grad.array, g)  # nothing to clip: times exactly one
    optim.clip_grad_norm_(params, norm / 4, order)
    for p, g in zip(params, grads, strict=False):
        assert_close(p.grad.array, g / 4)
    assert optim.clip_grad_norm_([params[2]], 1.0).item() == 0


def test_clipping_leaves_bad_gradients_alone_if_asked():
    params = parameters([(2,), (2,)])
    give(params, [np.array([1.0, np.inf]), np.ones(2)])
    with pytest.raises(RuntimeError, match="finite"):
        optim.clip_grad_norm_(params, 1.0, error_if_nonfinite=True)
    np.testing.assert_array_equal(params[1].grad.array, np.ones(2))
    optim.clip_grad_value_(params, 0.25)
    np.testing.assert_array_equal(params[0].grad.array, [0.25, 0.25])


def test_the_norm_of_halves_is_taken_in_float():
    p = parameters([(3,)], "float16")
    give(p, [np.full(3, 60000, np.float16)])
    assert optim.clip_grad_norm_(p, 1.0).item() == pytest.approx(60000 * 3**0.5, rel=1e-3)


@pytest.mark.reference
@pytest.mark.parametrize("order", [2.0, 1.0, 3.0, math.inf])
def test_clipping_as_pytorch(order):
    torch = pytest.importorskip("torch")
    params = parameters([(3, 4), (5,)], "float32")
    theirs = [torch.tensor(p.array).requires_grad_() for p in params]
    grads = [g.astype("float32") for g in gradients(0, [(3, 4), (5,)])]
    give(params, grads)
    for t, g in zip(theirs, grads, strict=True):
        t.grad = torch.tensor(g)
    a = optim.clip_grad_norm_(params, 0.5, order)
    b = torch.nn.utils.clip_grad_norm_(theirs, 0.5, order)
    assert_close(a.array, b.numpy())
    for p, t in zip(params, theirs, strict=True):
        assert_close(p.grad.array, t.grad.numpy())


# --- the card ---------------------------------------------------------------------------------------------

CARD_SHAPES = [(8191,), (8192,), (8193,), (3, 5), (), (0, 4), (20000,), (1,), (97,)]


def on_the_card(card, shapes, dtype, seed=0):
    rng = np.random.default_rng(seed)
    return [wrap(card.asarray(np.asarray(rng.standard_normal(s)).astype(dtype))).requires_grad_() for s in shapes]


def give_card(card, params, values):
    for p, g in zip(params, values, strict=True):
        p.grad = wrap(card.asarray(g))


def check_one_launch(name, options, dtype, card, scale):
    """Three steps on the card, a launch each, give what they give on the CPU."""
    from gradflow.cuda import launch

    dtype = backend.bfloat16() if dtype == "bfloat16" else np.dtype(dtype)
    there, here = on_the_card(card, CARD_SHAPES, dtype), parameters(CARD_SHAPES, dtype)
    a, b = getattr(optim, name)(there, **options), getattr(optim, name)(here, **options)
    for i in range(3):
        grads = gradients(i, CARD_SHAPES, dtype)
        give_card(card, there, grads)
        give(here, grads)
        before = launch.count
        a.step()
        b.step()
        assert launch.count == before + 1
    for p, q in zip(there, here, strict=True):
        assert_close(card.asnumpy(p.array), q.array, scale=scale)
        for k in b.state[q]:
            assert_close(backend.asnumpy(a.state[p][k].array), b.state[q][k].array, dtype=dtype, scale=scale)


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("name", "number", "options"), OPTIONS, ids=IDS)
def test_all_parameters_in_one_launch(name, number, options, dtype, card):
    check_one_launch(name, options, dtype, card, scale=3)


@pytest.mark.cuda
def test_the_table_is_made_once(card):
    counts = getattr(card, "counts", None)
    if counts is None:
        pytest.skip("only the stand-in counts copies")
    params = on_the_card(card, [(10,), (20,)], "float32")
    o = optim.Adam(params)
    give_card(card, params, [np.ones(10, np.float32), np.ones(20, np.float32)])
    o.step()
    before = counts.device_copies, counts.host_copies
    o.step()
    o.step()
    assert (counts.device_copies, counts.host_copies) == before


@pytest.mark.cuda
def test_arrays_that_do_not_start_at_sixteen_bytes_and_arrays_with_gaps(card):
    base, grad = card.asarray(np.arange(101, dtype=np.float32)), card.asarray(np.ones(101, np.float32))
    shifted, gaps = wrap(base[1:]).requires_grad_(), wrap(base[::3]).requires_grad_()
    shifted.grad, gaps.grad = wrap(grad[1:]), wrap(grad[::3])
    optim.SGD([shifted], lr=0.5).step()
    optim.SGD([gaps], lr=0.25).step()
    expected = np.arange(101, dtype=np.float32)
    expected[1:] -= 0.5
    expected[::3] -= 0.25
    np.testing.assert_array_equal(card.asnumpy(base), expected)
    plain, g, m = (r.copy() for r in gradients(0, [(100,)] * 3, "float32"))
    p, state = card.asarray(plain), card.asarray(np.concatenate([[0], m]).astype(np.float32))[1:]
    many(sgd, [p], [card.asarray(g)], [[state]], 0.5, 0.9, 0.0, 0.0, False, False, False)
    assert_close(card.asnumpy(p), plain - 0.5 * (0.9 * m + g))
    assert_close(card.asnumpy(state), 0.9 * m + g)


@pytest.mark.cuda
@pytest.mark.parametrize("name", ["Adam", "SGD", "RMSprop"])
def test_a_captured_step_goes_on_counting(name, card):
    options = {"SGD": dict(momentum=0.9), "Adam": dict(capturable=True), "RMSprop": dict(capturable=True)}[name]
    there, here = on_the_card(card, [(9000,), (5,)], "float32"), parameters([(9000,), (5,)], "float32")
    rate = wrap(card.asarray(np.float32(0.1)))
    a = getattr(optim, name)(there, lr=rate, **options)
    b = getattr(optim, name)(here, lr=0.1, **{k: v for k, v in options.items() if k != "capturable"})
    grads = gradients(0, [(9000,), (5,)], "float32")
    give_card(card, there, grads)
    give(here, grads)
    a.step()
    graph = gf.cuda.CUDAGraph()
    with gf.cuda.graph(graph):
        a.step()
    for _ in range(2):
        graph.replay()
    rate.array[...] = 0.02
    graph.replay()
    for i in range(4):
        b.param_groups[0]["lr"] = 0.1 if i < 3 else np.float32(0.02).item()
        b.step()
    for p, q in zip(there, here, strict=True):
        assert_close(card.asnumpy(p.array), q.array, scale=3)
    if name != "SGD":
        assert a.state_dict()["state"][0]["step"].item() == 4


@pytest.mark.cuda
def test_a_step_captured_before_any_was_made(card):
    shapes = [(9000,), (100,)]
    there, here = on_the_card(card, shapes, "float32"), parameters(shapes, "float32")
    g = gradients(0, shapes, "float32")
    give_card(card, there, g)
    give(here, g)
    a, b = optim.SGD(there, lr=0.1), optim.SGD(here, lr=0.1)
    graph = gf.cuda.CUDAGraph()
    with gf.cuda.graph(graph):
        a.step()
    graph.replay()
    b.step()
    for p, q in zip(there, here, strict=True):
        assert_close(card.asnumpy(p.array), q.array)


@pytest.mark.cuda
def test_clipping_does_not_wait_for_the_card(card):
    from gradflow.cuda import launch

    shapes = [(8193,), (3, 4), (), (0,), (30000,)]
    there, here = on_the_card(card, shapes, "float32"), parameters(shapes, "float32")
    grads = gradients(0, shapes, "float32")
    for order in (2.0, 1.0, math.inf):
        give_card(card, there, grads)
        give(here, grads)
        before, copies = launch.count, getattr(card, "counts", launch)
        seen = getattr(copies, "host_copies", 0)
        norm = optim.clip_grad_norm_(there, 0.5, order)
        assert launch.count == before + 3 and getattr(copies, "host_copies", 0) == seen
        assert_close(card.asnumpy(norm.array), optim.clip_grad_norm_(here, 0.5, order).array)
        for p, q in zip(there, here, strict=True):
            assert_close(card.asnumpy(p.grad.array), q.grad.array)
    give_card(card, there, grads)
    give(here, grads)
    assert_close(
        card.asnumpy(optim.clip_grad_norm_(there, 0.5, 3.0).array), optim.clip_grad_norm_(here, 0.5, 3.0).array
    )
    optim.clip_grad_value_(there, 0.1)
    optim.clip_grad_value_(here, 0.1)
    for p, q in zip(there, here, strict=True):
        assert_close(card.asnumpy(p.grad.array), q.grad.array)


@pytest.mark.cuda
def test_nan_and_infinity_reach_the_norm(card):
    for bad in (np.nan, np.inf):
        g = np.ones(9000, np.float32)
        g[8500] = bad
        for order in (1.0, 2.0, math.inf):
            seen = card.asnumpy(gradient_norm(card.asarray(g), order))
            np.testing.assert_array_equal(seen, np.float32(bad))


@pytest.mark.cuda
def test_state_moves_to_the_card_with_the_parameters(card):
    here, there = parameters([(5,)], "float32"), on_the_card(card, [(5,)], "float32")
    a, b = optim.Adam(here), optim.Adam(there)
    give(here, [np.ones(5, np.float32)])
    a.step()
    b.load_state_dict(a.state_dict())
    there[0].array[...] = card.asarray(here[0].array)
    give_card(card, there, [np.ones(5, np.float32)])
    a.step()
    b.step()
    assert b.state[there[0]]["exp_avg"].is_cuda
    assert_close(card.asnumpy(there[0].array), here[0].array)
    b.state[there[0]]["exp_avg"] = a.state[here[0]]["exp_avg"]
    with pytest.raises(RuntimeError, match="on the CPU"):
        b.step()
