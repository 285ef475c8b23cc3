"""Learning rate schedules: closed forms, PyTorch step by step, and state that goes on where it stopped."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from gradflow import optim
from gradflow.op import wrap

S = optim.lr_scheduler
STEPS = 30


class Decay:
    """A schedule function that is an object, with state."""

    def __init__(self, k):
        self.k = k

    def __call__(self, epoch):
        return 1 / (1 + epoch / self.k)


def sgd(**options):
    a, b = (wrap(np.zeros(2, np.float32)).requires_grad_() for _ in range(2))
    return optim.SGD([{"params": a}, {"params": b, "lr": 0.3}], lr=0.1, **{"momentum": 0.9, **options})


def rates(scheduler, steps=STEPS):
    """The learning rate of the first group at epochs 0, 1, ..."""
    out = []
    for _ in range(steps):
        out.append(scheduler.optimizer.param_groups[0]["lr"])
        assert scheduler.get_last_lr() == [g["lr"] for g in scheduler.optimizer.param_groups]
        scheduler.optimizer.step()
        scheduler.step()
    return out


def cosine(e, top, low, period):
    return low + (top - low) * (1 + math.cos(math.pi * e / period)) / 2


def triangle(e, up, down):
    x = e % (up + down)
    return x / up if x <= up else 1 - (x - up) / down


def one_cycle(e, total, top, part=0.3, div=25.0, final=1e4):
    turn = part * total - 1
    if e <= turn:
        return cosine(e, top / div, top, turn)
    return cosine(e - turn, top, top / div / final, total - 1 - turn)


CLOSED = {
    "step": (lambda o: S.StepLR(o, 4, 0.5), lambda e: 0.1 * 0.5 ** (e // 4)),
    "multistep": (lambda o: S.MultiStepLR(o, [3, 7, 7], 0.5), lambda e: 0.1 * 0.5 ** ((e >= 3) + 2 * (e >= 7))),
    "constant": (lambda o: S.ConstantLR(o, 0.25, 4), lambda e: 0.1 * (0.25 if e < 4 else 1)),
    "linear": (lambda o: S.LinearLR(o, 0.1, 0.7, 6), lambda e: 0.1 * (0.1 + 0.6 * min(e, 6) / 6)),
    "exponential": (lambda o: S.ExponentialLR(o, 0.9), lambda e: 0.1 * 0.9**e),
    "polynomial": (lambda o: S.PolynomialLR(o, 8, 2.0), lambda e: 0.1 * (1 - min(e, 8) / 8) ** 2),
    "cosine": (lambda o: S.CosineAnnealingLR(o, 5, 0.01), lambda e: cosine(e, 0.1, 0.01, 5)),
    "restarts": (
        lambda o: S.CosineAnnealingWarmRestarts(o, 3, 2),
        lambda e: cosine(e if e < 3 else e - 3 if e < 9 else e - 9 if e < 21 else e - 21, 0.1, 0,
                         3 if e < 3 else 6 if e < 9 else 12 if e < 21 else 24),
    ),
    "lambda": (lambda o: S.LambdaLR(o, lambda e: 0.9**e), lambda e: 0.1 * 0.9**e),
    "multiplicative": (lambda o: S.MultiplicativeLR(o, lambda e: 0.9), lambda e: 0.1 * 0.9**e),
    "cyclic": (lambda o: S.CyclicLR(o, 0.01, 0.1, 3, 5), lambda e: 0.01 + 0.09 * triangle(e, 3, 5)),
    "cyclic2": (
        lambda o: S.CyclicLR(o, 0.01, 0.1, 4, mode="triangular2"),
        lambda e: 0.01 + 0.09 * triangle(e, 4, 4) / 2 ** (e // 8),
    ),
    "onecycle": (lambda o: S.OneCycleLR(o, 0.1, total_steps=30), lambda e: one_cycle(e, 30, 0.1)),
    "sequential": (
        lambda o: S.SequentialLR(o, [S.LinearLR(o, 0.1, 1.0, 4), S.CosineAnnealingLR(o, 20)], [4]),
        lambda e: 0.1 * (0.1 + 0.9 * e / 4) if e < 4 else cosine(e - 4, 0.1, 0, 20),
    ),
    "chained": (
        lambda o: S.ChainedScheduler([S.ConstantLR(o, 0.1, 4), S.ExponentialLR(o, 0.9)]),
        lambda e: 0.1 * 0.9**e * (0.1 if e < 4 else 1),
    ),
    "chained first": (
        lambda o: S.SequentialLR(
            o, [S.ChainedScheduler([S.ConstantLR(o, 0.1, 4), S.ExponentialLR(o, 0.9)]), S.StepLR(o, 3)], [6]
        ),
        lambda e: 0.1 * 0.9**e * (0.1 if e < 4 else 1) if e < 6 else 0.1 * 0.1 ** ((e - 6) // 3),
    ),
    "chained second": (
        lambda o: S.SequentialLR(
            o, [S.StepLR(o, 3), S.ChainedScheduler([S.ConstantLR(o, 0.1, 4), S.ExponentialLR(o, 0.9)])], [6]
        ),
        lambda e: 0.1 * 0.1 ** (e // 3) if e < 6 else 0.1 * 0.9 ** (e - 6) * (0.1 if e < 10 else 1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CLOSED)
def test_closed_form(name):
    make, form = CLOSED[name]
    np.testing.assert_allclose(rates(make(sgd())), [form(e) for e in range(STEPS)], rtol=1e-9, atol=1e-12)


# What the same lines give in PyTorch; L is either module.
LIKE_PYTORCH = {
    "multistep at 0": lambda L, o: L.MultiStepLR(o, [0, 5], 0.3),
    "cosine": lambda L, o: L.CosineAnnealingLR(o, 5, 0.001),
    "restarts": lambda L, o: L.CosineAnnealingWarmRestarts(o, 3, 2, 0.001),
    "lambdas": lambda L, o: L.LambdaLR(o, [lambda e: 0.9**e, Decay(3)]),
    "cyclic": lambda L, o: L.CyclicLR(o, [0.01, 0.02], [0.1, 0.3], 3, 5),
    "cyclic exp": lambda L, o: L.CyclicLR(o, 0.01, 0.1, 3, mode="exp_range", gamma=0.9),
    "cyclic own": lambda L, o: L.CyclicLR(o, 0.01, 0.1, 3, scale_fn=lambda x: 0.7**x, scale_mode="iterations"),
    "onecycle": lambda L, o: L.OneCycleLR(o, 0.1, total_steps=31, pct_start=0.25),
    "onecycle 3": lambda L, o: L.OneCycleLR(
        o, [0.1, 0.2], epochs=5, steps_per_epoch=8, three_phase=True, anneal_strategy="linear"
    ),
    "sequence": lambda L, o: L.SequentialLR(
        o,
        [L.ExponentialLR(o, 0.9), L.MultiplicativeLR(o, lambda e: 0.9), L.CosineAnnealingWarmRestarts(o, 4),
         L.LambdaLR(o, lambda e: 0.5**e)],
        [3, 10, 17],
    ),
    "sequence 2": lambda L, o: L.SequentialLR(
        o,
        [L.ExponentialLR(o, 0.9), L.LinearLR(o, 0.1, 1.0, 4), L.PolynomialLR(o, 6), L.ConstantLR(o, 0.3, 4),
         L.MultiStepLR(o, [0, 3])],
        [3, 8, 15, 20],
    ),
    "sequence 3": lambda L, o: L.SequentialLR(
        o, [L.LinearLR(o, 0.1, 1.0, 4), L.OneCycleLR(o, 0.1, total_steps=40)], [4]
    ),
    "chain": lambda L, o: L.ChainedScheduler(
        [L.CosineAnnealingLR(o, 7), L.LinearLR(o, 0.1, 1.0, 4), L.PolynomialLR(o, 30)]
    ),
}  # fmt: skip


def test_an_epoch_can_be_asked_for_and_is_warned_of():
    """step(epoch) goes by the closed form, whatever came before."""
    for make in (
        lambda o: S.StepLR(o, 3, 0.5), lambda o: S.MultiStepLR(o, [2, 2, 7], 0.5), lambda o: S.ConstantLR(o, 0.5, 4),
        lambda o: S.LinearLR(o, 0.25, 1.0, 6), lambda o: S.ExponentialLR(o, 0.9), lambda o: S.PolynomialLR(o, 9, 2.0),
        lambda o: S.CosineAnnealingLR(o, 5, 0.01), lambda o: S.LambdaLR(o, Decay(3)),
    ):  # fmt: skip
        by_steps = rates(make(sgd()))
        s = make(sgd())
        s.optimizer.step()
        for epoch in (7, 2, 11, 3):
            with pytest.warns(UserWarning, match="no epoch"):
                s.step(epoch)
            assert s.get_last_lr()[0] == pytest.approx(by_steps[epoch], rel=1e-12, abs=1e-15)
            assert s.last_epoch == epoch
    with pytest.warns(UserWarning, match="get_last_lr"):
        s.get_lr()


def test_a_rate_that_is_a_tensor_stays_the_same_tensor():
    p = wrap(np.zeros(2, np.float32)).requires_grad_()
    for make in (
        lambda o: S.StepLR(o, 1, 0.5), lambda o: S.CosineAnnealingLR(o, 9), lambda o: S.LambdaLR(o, Decay(3)),
        lambda o: S.OneCycleLR(o, 0.5, 20, cycle_momentum=False), lambda o: S.CyclicLR(o, 0.1, 0.5, 3, cycle_momentum=False),
        lambda o: S.CosineAnnealingWarmRestarts(o, 4), lambda o: S.LinearLR(o), lambda o: S.ReduceLROnPlateau(o, patience=0),
    ):  # fmt: skip
        lr = wrap(np.float32(0.5))
        o, plain = optim.SGD([p], lr=lr), optim.SGD([p], lr=0.5)
        a, b = make(o), make(plain)
        for _ in range(6):
            for opt, s in ((o, a), (plain, b)):
                opt.step()
                s.step(*([1.0] if isinstance(s, S.ReduceLROnPlateau) else []))
            assert o.param_groups[0]["lr"] is lr and a.get_last_lr()[0] is not lr
            assert lr.item() == pytest.approx(plain.param_groups[0]["lr"], rel=1e-5)
            assert a.get_last_lr()[0].item() == lr.item()


def torch_sgd(torch, **options):
    a, b = (torch.zeros(2, requires_grad=True) for _ in range(2))
    return torch.optim.SGD([{"params": a}, {"params": b, "lr": 0.3}], lr=0.1, **{"momentum": 0.9, **options})


@pytest.mark.reference
@pytest.mark.parametrize("name", LIKE_PYTORCH)
def test_step_by_step_as_pytorch(name):
    torch = pytest.importorskip("torch")
    mine, other = sgd(), torch_sgd(torch)
    a, b = LIKE_PYTORCH[name](S, mine), LIKE_PYTORCH[name](torch.optim.lr_scheduler, other)
    for _ in range(STEPS):
        for g, h in zip(mine.param_groups, other.param_groups, strict=True):
            assert g["lr"] == pytest.approx(h["lr"], rel=1e-12, abs=1e-15)
            assert g["momentum"] == pytest.approx(h["momentum"], rel=1e-12)
        for o, s in ((mine, a), (other, b)):
            o.step()
            s.step()


@pytest.mark.reference
@pytest.mark.parametrize(
    "name", ["StepLR", "MultiStepLR", "ExponentialLR", "LinearLR", "CosineAnnealingLR", "CyclicLR", "OneCycleLR"]
)
def test_pytorchs_state_is_taken_up(name):
    torch = pytest.importorskip("torch")
    arguments = {
        "StepLR": (4, 0.5), "MultiStepLR": ([3, 7, 7], 0.5), "ExponentialLR": (0.9,), "LinearLR": (0.1, 0.7, 6),
        "CosineAnnealingLR": (5,), "CyclicLR": (0.1, 0.3, 3), "OneCycleLR": (0.3, 40),
    }[name]  # fmt: skip
    mine, other = sgd(), torch_sgd(torch)
    a = getattr(S, name)(mine, *arguments)
    b = getattr(torch.optim.lr_scheduler, name)(other, *arguments)
    for _ in range(4):
        other.step()
        b.step()
    mine.load_state_dict(other.state_dict())
    a.load_state_dict(b.state_dict())
    for _ in range(8):
        mine.step()
        other.step()
        a.step()
        b.step()
        assert a.get_last_lr() == pytest.approx(b.get_last_lr(), rel=1e-12)


@pytest.mark.parametrize("name", CLOSED)
def test_state_goes_on_where_it_stopped(name):
    make, form = CLOSED[name]
    first = make(sgd())
    rates(first, 7)
    again = make(sgd())
    # As a checkpoint keeps it: through JSON.
    again.load_state_dict(json.loads(json.dumps(first.state_dict())))
    again.optimizer.load_state_dict(first.optimizer.state_dict())
    seen = rates(again, STEPS - 7)
    np.testing.assert_allclose(seen, [form(e) for e in range(7, STEPS)], rtol=1e-9, atol=1e-12)


def test_functions_keep_the_state_of_objects_only():
    first = S.LambdaLR(sgd(), [Decay(3), lambda e: 1.0])
    state = first.state_dict()
    assert state["lr_lambdas"] == [{"k": 3}, None]
    again = S.LambdaLR(sgd(), [Decay(5), lambda e: 2.0])
    again.load_state_dict(state)
    assert again.lr_lambdas[0].k == 3 and again.lr_lambdas[1](0) == 2.0
    own = S.CyclicLR(sgd(), 0.01, 0.1, scale_fn=Decay(4))
    assert own.state_dict()["_scale_fn_custom"] == {"k": 4}


def test_momentum_moves_against_the_rate():
    p = wrap(np.zeros(2, np.float32)).requires_grad_()
    o = optim.Adam([p], betas=(0.9, 0.99))
    s = S.OneCycleLR(o, 0.1, total_steps=10, base_momentum=0.8, max_momentum=0.95)
    seen = []
    for _ in range(10):
        seen.append(o.param_groups[0]["betas"])
        o.step()
        s.step()
    assert seen[0] == (0.95, 0.99)
    assert min(seen)[0] == pytest.approx(0.8) and seen[2] == min(seen)
    assert seen[-1][0] == pytest.approx(0.95)


def test_going_on_from_a_later_epoch():
    o = sgd()
    with pytest.raises(KeyError, match="initial_lr"):
        S.StepLR(o, 3, last_epoch=4)
    for group in o.param_groups:
        group["initial_lr"] = group["lr"]
    s = S.ExponentialLR(o, 0.5, last_epoch=4)
    assert s.last_epoch == 5 and o.param_groups[0]["lr"] == 0.1
    s = S.StepLR(o, 3, 0.5, last_epoch=5)
    assert s.last_epoch == 6 and o.param_groups[0]["lr"] == 0.05


def test_a_rate_that_is_a_tensor_is_written_in_place():
    p = wrap(np.zeros(2, np.float32)).requires_grad_()
    lr = wrap(np.asarray(0.5))
    o = optim.SGD([p], lr=lr)
    s = S.ExponentialLR(o, 0.5)
    o.step()
    s.step()
    assert o.param_groups[0]["lr"] is lr and lr.item() == 0.25 and s.get_last_lr() == [0.25]


def test_fractional_epochs():
    s = S.CosineAnnealingWarmRestarts(sgd(), 2, 2)
    for e in (0.5, 1.75, 2.0, 5.5, 6.25):
        s.step(e)
        inside, period = (e, 2) if e < 2 else (e - 2, 4) if e < 6 else (e - 6, 8)
        assert s.get_last_lr()[0] == pytest.approx(cosine(inside, 0.1, 0, period))
    with pytest.raises(ValueError, match="epoch >= 0"):
        s.step(-1)


# --- plateaus -------------------------------------------------------------------------------------------


def test_plateau():
    o = sgd()
    s = S.ReduceLROnPlateau(o, factor=0.5, patience=1, cooldown=1, min_lr=0.03, threshold=0.1)
    seen = []
    # better; within the threshold twice: too long, so half; one epoch of rest; then again, down to min_lr
    for value in (1.0, 0.95, 0.95, 0.95, 0.95, 0.95, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5):
        s.step(value)
        seen.append(o.param_groups[0]["lr"])
    assert seen == [0.1, 0.1, 0.05, 0.05, 0.05, 0.03, 0.03, 0.03, 0.03, 0.03, 0.03, 0.03]
    assert o.param_groups[1]["lr"] == 0.03  # from 0.3, halved four times, but never below min_lr
    again = S.ReduceLROnPlateau(sgd(), factor=0.5)
    again.load_state_dict(json.loads(json.dumps(s.state_dict())))
    assert again.best == 0.5 and again.patience == 1


@pytest.mark.reference
@pytest.mark.parametrize("options", [
    dict(), dict(mode="max", patience=2), dict(threshold_mode="abs", threshold=0.05, patience=1),
    dict(mode="max", threshold_mode="abs", threshold=0.05, patience=0, cooldown=2),
    dict(patience=0, min_lr=[0.01, 0.02]),
])  # fmt: skip
def test_plateau_as_pytorch(options):
    torch = pytest.importorskip("torch")
    mine, other = sgd(), torch_sgd(torch)
    a, b = S.ReduceLROnPlateau(mine, **options), torch.optim.lr_scheduler.ReduceLROnPlateau(other, **options)
    for value in np.random.default_rng(0).uniform(0.5, 1, 60):
        a.step(value)
        b.step(value)
        assert a.get_last_lr() == b.get_last_lr()


def test_a_group_that_joins_later():
    o = sgd()
    s = S.ReduceLROnPlateau(o, patience=0, factor=0.5)
    o.add_param_group({"params": wrap(np.zeros(1, np.float32)).requires_grad_(), "lr": 1.0})
    s.step(1.0)
    s.step(2.0)
    assert [g["lr"] for g in o.param_groups] == [0.05, 0.15, 0.5]


def test_errors_name_what_was_wrong():
    o, other = sgd(), sgd()
    plain = optim.Adagrad([wrap(np.zeros(1)).requires_grad_()])
    for wrong, error, text in [
        (lambda: S.StepLR(1, 3), TypeError, "Optimizer"),
        (lambda: S.ConstantLR(o, 2.0), ValueError, "factor"),
        (lambda: S.LinearLR(o, 0.0), ValueError, "start_factor"),
        (lambda: S.LinearLR(o, 0.5, 2.0), ValueError, "end_factor"),
        (lambda: S.LambdaLR(o, [lambda e: 1]), ValueError, "2 values"),
        (lambda: S.CosineAnnealingWarmRestarts(o, 0), ValueError, "T_0"),
        (lambda: S.CosineAnnealingWarmRestarts(o, 2, 1.5), ValueError, "T_mult"),
        (lambda: S.CyclicLR(o, 0.1, 0.2, mode="square"), ValueError, "square"),
        (lambda: S.CyclicLR(plain, 0.1, 0.2), ValueError, "momentum or betas"),
        (lambda: S.OneCycleLR(o, 0.1), ValueError, "total_steps"),
        (lambda: S.OneCycleLR(o, 0.1, total_steps=0), ValueError, "steps > 0"),
        (lambda: S.OneCycleLR(o, 0.1, total_steps=9, pct_start=2), ValueError, "pct_start"),
        (lambda: S.OneCycleLR(o, 0.1, total_steps=9, anneal_strategy="sin"), ValueError, "sin"),
        (lambda: S.ReduceLROnPlateau(o, factor=1.0), ValueError, "factor"),
        (lambda: S.ReduceLROnPlateau(o, "low"), ValueError, "low"),
        (lambda: S.ReduceLROnPlateau(o, threshold_mode="x"), ValueError, "'x'"),
        (lambda: S.SequentialLR(o, [], []), ValueError, "at least one"),
        (lambda: S.SequentialLR(o, [S.StepLR(o, 1)], [1]), ValueError, "0 milestones"),
        (lambda: S.SequentialLR(o, [S.StepLR(other, 1)], []), ValueError, "one optimizer"),
        (lambda: S.SequentialLR(o, [3], []), TypeError, "int"),
        (lambda: S.ChainedScheduler([]), ValueError, "at least one"),
        (lambda: S.ChainedScheduler([S.ReduceLROnPlateau(o)]), ValueError, "metric"),
    ]:
        with pytest.raises(error, match=text):
            wrong()
    s = S.OneCycleLR(o, 0.1, total_steps=2)
    o.step()
    s.step()
    s.step()
    with pytest.raises(ValueError, match="at most 2 steps"):
        s.step()


def test_a_step_before_the_optimizers_is_warned_about():
    s = S.StepLR(sgd(), 3)
    with pytest.warns(UserWarning, match=r"before optimizer\.step"):
        s.step()


@pytest.mark.cuda
def test_a_rate_on_the_card_is_written_there(card):
    p = wrap(card.asarray(np.zeros(3, np.float32))).requires_grad_()
    p.grad = wrap(card.asarray(np.ones(3, np.float32)))
    lr = wrap(card.asarray(np.float32(0.5)))
    o = optim.SGD([p], lr=lr)
    s = S.SequentialLR(o, [S.LinearLR(o, 0.5, total_iters=2), S.CosineAnnealingLR(o, 4)], [2])
    counts = getattr(card, "counts", None)
    before = counts.host_copies if counts is not None else 0
    for _ in range(4):
        o.step()
        s.step()
    assert counts is None or counts.host_copies == before  # no waiting
    assert o.param_groups[0]["lr"] is lr and lr.is_cuda
    rates = [0.25, 0.375, 0.5, cosine(1, 0.5, 0, 4)]
    np.testing.assert_allclose(card.asnumpy(p.array), [-sum(rates)] * 3, rtol=1e-6)
    assert lr.item() == pytest.approx(cosine(2, 0.5, 0, 4), rel=1e-6)
