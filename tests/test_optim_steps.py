"""Steps that are searched along a direction (L-BFGS), steps that are recorded, and what is called around them."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from test_optim import give, gradients, parameters
from tolerance import assert_close

import gradflow as gf
from gradflow import optim
from gradflow.op import wrap
from gradflow.optim.line_search import Point, lowest_of_cubic, strong_wolfe

# --- L-BFGS -------------------------------------------------------------------------------------------


def rosenbrock(x, y):
    return (1 - x) ** 2 + 100 * (y - x * x) ** 2


@pytest.mark.parametrize("options", [dict(line_search_fn="strong_wolfe"), dict(lr=0.003, max_iter=400)])
def test_lbfgs_finds_the_minimum(options):
    x, y = wrap(np.array([-1.2])).requires_grad_(), wrap(np.array(1.0)).requires_grad_()
    o = optim.LBFGS([x, y], **options)

    def closure():
        o.zero_grad()
        loss = rosenbrock(x, y).sum()
        loss.backward()
        return loss

    first = o.step(closure)
    assert first.item() == pytest.approx(24.2)
    for _ in range(20 if "line_search_fn" in options else 2):
        o.step(closure)
    assert rosenbrock(x.item(), y.item()) < (1e-8 if "line_search_fn" in options else 3)
    state = o.state[x]
    assert state["n_iter"] > 1 and state["func_evals"] >= state["n_iter"] and len(state["old_dirs"]) <= 100


def test_lbfgs_solves_a_quadratic_in_as_many_steps_as_it_has_dimensions():
    rng = np.random.default_rng(0)
    m = rng.standard_normal((4, 4))
    a, b = wrap(m @ m.T + np.eye(4)), wrap(rng.standard_normal(4))
    p = wrap(np.zeros(4)).requires_grad_()
    o = optim.LBFGS([p], line_search_fn="strong_wolfe", tolerance_grad=1e-10, tolerance_change=1e-14)

    def closure():
        o.zero_grad()
        loss = (p * (a @ p)).sum() / 2 - (b * p).sum()
        loss.backward()
        return loss

    o.step(closure)
    assert_close(p.array, np.linalg.solve(a.array, b.array), scale=1e4)


def test_lbfgs_needs_a_closure_and_a_known_search():
    p = parameters([(3,)])[0]
    with pytest.raises(TypeError, match="closure"):
        optim.LBFGS([p]).step(None)

    def closure():
        p.grad = wrap(np.ones(3))
        return p.sum()

    with pytest.raises(RuntimeError, match="strong_wolfe"):
        optim.LBFGS([p], line_search_fn="armijo").step(closure)


def test_strong_wolfe_conditions_hold():
    d = np.array([1.0])
    for f, df in [
        (lambda t: (t - 3) ** 2, lambda t: 2 * (t - 3)),
        (lambda t: -t / (t * t + 2), lambda t: (t * t - 2) / (t * t + 2) ** 2),
        (lambda t: t**4 - 4 * t, lambda t: 4 * t**3 - 4),
        (lambda t: np.cosh(t - 7), lambda t: np.sinh(t - 7)),
    ]:
        for start in (0.01, 1.0, 30.0):
            loss, g, t, used = strong_wolfe(
                lambda t, f=f, df=df: (f(t), np.array([df(t)])), start, d, f(0), np.array([df(0)]), df(0)
            )
            assert loss == f(t) and g[0] == df(t) and used <= 26
            assert f(t) <= f(0) + 1e-4 * t * df(0) and abs(df(t)) <= 0.9 * abs(df(0))


def test_the_lowest_point_of_a_cubic():
    f = lambda t: t**3 - 3 * t
    points = [Point(t, f(t), np.zeros(1), 3 * t * t - 3) for t in (0.0, 2.0)]
    assert lowest_of_cubic(*points) == pytest.approx(1.0)
    assert lowest_of_cubic(*points[::-1]) == pytest.approx(1.0)
    assert lowest_of_cubic(*points, (1.5, 2.0)) == 1.5


@pytest.mark.reference
@pytest.mark.parametrize(
    "options", [{}, dict(lr=0.1), dict(line_search_fn="strong_wolfe"), dict(history_size=2, max_iter=7)]
)
def test_lbfgs_as_pytorch(options):
    torch = pytest.importorskip("torch")
    mine = parameters([(3, 2), (4,), ()])
    theirs = [torch.tensor(p.array).requires_grad_() for p in mine]
    a, b = optim.LBFGS(mine, **options), torch.optim.LBFGS(theirs, **options)

    def closure(o, params):
        def call():
            o.zero_grad()
            loss = sum(((p - 0.3) ** 2).sum() + 0.1 * ((p * p) ** 2).sum() + (p.sum() - 1) ** 2 for p in params)
            loss.backward()
            return loss

        return call

    for _ in range(4):
        assert a.step(closure(a, mine)).item() == pytest.approx(b.step(closure(b, theirs)).item(), rel=1e-9)
        for p, t in zip(mine, theirs, strict=True):
            np.testing.assert_allclose(p.array, t.detach().numpy(), rtol=1e-7, atol=1e-9)
    x, y = a.state_dict()["state"][0], b.state_dict()["state"][0]
    assert x.keys() == y.keys() and x["n_iter"] == y["n_iter"] and x["func_evals"] == y["func_evals"]
    fresh = optim.LBFGS(parameters([(3, 2), (4,), ()]), **options)
    fresh.load_state_dict(b.state_dict())
    for mine_, q in zip(fresh.state_dict()["state"][0]["old_dirs"], y["old_dirs"], strict=True):
        np.testing.assert_array_equal(mine_.array, q.numpy())


@pytest.mark.cuda
def test_lbfgs_on_the_card(card):
    here = wrap(np.array([-1.2, 1.0])).requires_grad_()
    there = wrap(card.asarray(here.array)).requires_grad_()
    for p in (here, there):
        o = optim.LBFGS([p], line_search_fn="strong_wolfe")

        def closure(o=o, p=p):
            o.zero_grad()
            loss = rosenbrock(p[0], p[1])
            loss.backward()
            return loss

        o.step(closure)
    np.testing.assert_allclose(card.asnumpy(there.array), here.array, rtol=1e-6)


# --- recorded steps -----------------------------------------------------------------------------------

RECORDED = [
    ("SGD", dict(lr=0.1, momentum=0.9, weight_decay=0.1)), ("SGD", dict(lr=0.1, momentum=0.9, nesterov=True)),
    ("Adam", dict(lr=0.1, weight_decay=0.1, amsgrad=True)), ("AdamW", dict(lr=0.1)),
    ("RMSprop", dict(lr=0.1, momentum=0.5, centered=True, eps=0.1)), ("Adagrad", dict(lr=0.1, lr_decay=0.1)),
    ("Adadelta", dict()), ("Adamax", dict(lr=0.1, eps=0.01)), ("NAdam", dict(lr=0.1)),
    ("RAdam", dict(lr=0.1, betas=(0.5, 0.9))), ("ASGD", dict(lr=0.1, lambd=0.1)), ("Rprop", dict(lr=0.1)),
]  # fmt: skip


def after(name, options, start, grads):
    """The sum of the parameters after as many recorded steps as there are gradients."""
    p = start.clone()
    p.retain_grad()
    o = getattr(optim, name)([p], differentiable=True, **options)
    for g in grads:
        p.grad = g
        o.step()
    return (p * wrap(np.arange(1.0, 4.0))).sum()


@pytest.mark.parametrize(("name", "options"), RECORDED, ids=[f"{n}-{'-'.join(o)}" for n, o in RECORDED])
def test_steps_can_be_differentiated(name, options):
    start = parameters([(3,)])[0]
    grads = [wrap(g).requires_grad_() for i in range(4) for g in gradients(i, [(3,)])]
    slopes = gf.autograd.grad(after(name, options, start, grads), [start, *grads], allow_unused=True)
    h = 1e-6
    for k, t in enumerate([start, *grads]):
        for i in range(3):
            kept = t.array[i]
            values = []
            for x in (kept + h, kept - h):
                t.array[i] = x
                values.append(after(name, options, start, grads).item())
            t.array[i] = kept
            slope = 0.0 if slopes[k] is None else slopes[k].array[i]
            assert slope == pytest.approx((values[0] - values[1]) / (2 * h), rel=1e-4, abs=1e-5)


def test_a_recorded_step_follows_from_the_learning_rate():
    start, lr = parameters([(3,)])[0], wrap(np.array(0.1)).requires_grad_()
    for name in ("SGD", "Adam", "RMSprop"):
        g = wrap(gradients(0, [(3,)])[0])
        slope = gf.autograd.grad(after(name, dict(lr=lr, weight_decay=0.1), start, [g]), [lr])[0].item()
        h = 1e-6
        low, high = (after(name, dict(lr=0.1 + x, weight_decay=0.1), start, [g]).item() for x in (-h, h))
        assert slope == pytest.approx((high - low) / (2 * h), rel=1e-5)


@pytest.mark.parametrize("name", ["SGD", "Adam", "NAdam", "Rprop"])
def test_recorded_steps_of_complex_parameters(name):
    z = np.array([1 + 2j, 3 - 1j])
    plain = wrap(z.copy()).requires_grad_()
    recorded = wrap(z.copy()).requires_grad_().clone()
    a, b = (getattr(optim, name)([t], lr=0.1, differentiable=t is recorded) for t in (plain, recorded))
    for g in (1 + 2j, -3j, 1 - 1j):
        for o, t in ((a, plain), (b, recorded)):
            t.grad = wrap(np.full(2, g))
            o.step()
    assert_close(recorded.array, plain.array)
    for k, v in a.state.get(plain, {}).items():
        assert_close(b.state[recorded][k].array, v.array)


def test_a_recorded_step_of_a_leaf_is_refused():
    p = parameters([(3,)])[0]
    o = optim.SGD([p], differentiable=True)
    give([p], [np.ones(3)])
    with pytest.raises(RuntimeError, match="leaf"):
        o.step()


# --- around a step ------------------------------------------------------------------------------------


class Halving(optim.Optimizer):
    """An optimizer with a step() of its own, as PyTorch's tutorials write one."""

    def __init__(self, params):
        super().__init__(params, {})

    @gf.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.mul_(0.5)


def test_a_step_of_ones_own_is_hooked_and_counted():
    p = parameters([(3,)])[0]
    start, seen = p.array.copy(), []
    o = Halving([p])
    o.register_step_pre_hook(lambda o, args, kwargs: seen.append(("pre", args, kwargs)))
    o.register_step_post_hook(lambda o, args, kwargs: seen.append("post"))
    schedule = optim.lr_scheduler.ExponentialLR(optim.SGD([p]), 0.5)
    o.step()
    np.testing.assert_array_equal(p.array, start / 2)
    assert seen == [("pre", (o,), {}), "post"] and o.steps_taken == 1 and schedule.last_epoch == 0


def test_hooks_of_every_optimizer_and_what_they_return():
    p = parameters([(3,)])[0]
    o, seen = optim.SGD([p]), []
    before = optim.optimizer.register_optimizer_step_pre_hook(lambda *a: seen.append("every"))
    after = optim.optimizer.register_optimizer_step_post_hook(lambda *a: seen.append("last"))
    own = o.register_step_pre_hook(lambda o, args, kwargs: ((o, lambda: 7.0), {}))
    try:
        assert o.step() == 7.0 and seen == ["every", "last"]
        own.remove()
        o.register_step_pre_hook(lambda *a: 3)
        with pytest.raises(RuntimeError, match="from a hook"):
            o.step()
    finally:
        before.remove()
        after.remove()
    first, order = optim.SGD([p]), []
    first.register_state_dict_pre_hook(lambda o: order.append(1))
    first.register_state_dict_pre_hook(lambda o: order.append(0), prepend=True)
    first.state_dict()
    assert order == [0, 1]


def test_a_copy_of_an_optimizer_steps_copies_of_its_parameters():
    p = parameters([(3,)])[0]
    o = optim.Adam([p], lr=0.1)
    give([p], [np.ones(3)])
    o.step()
    other = copy.deepcopy(o)
    q = other.param_groups[0]["params"][0]
    assert q is not p and q in other.state
    np.testing.assert_array_equal(other.state[q]["exp_avg"].array, o.state[p]["exp_avg"].array)
    before = p.array.copy()
    give([q], [np.ones(3)])
    other.step()
    np.testing.assert_array_equal(p.array, before)
    assert not np.array_equal(q.array, before)


def test_a_complex_parameter_with_gaps_steps_as_its_parts():
    z = np.arange(12.0).reshape(3, 4) + 1j
    for name in ("SGD", "Adam", "Rprop", "NAdam", "ASGD", "Adagrad"):
        p, q = wrap(z.copy().T[::2]).requires_grad_(), wrap(z.T[::2].copy()).requires_grad_()
        for o, t in [(getattr(optim, name)([t], lr=0.1), t) for t in (p, q)]:
            for g in (1 + 2j, -3j, 1 - 1j):
                give([t], [np.full((2, 3), g)])
                o.step()
        np.testing.assert_array_equal(p.array, q.array)
