"""Averages of weights along a training: equal, exponential, of one's own; batch statistics anew; the schedule."""

from __future__ import annotations

import numpy as np
import pytest
from tolerance import assert_close

from gradflow import nn, optim
from gradflow.op import wrap
from gradflow.optim import swa_utils
from gradflow.optim.swa_utils import SWALR, AveragedModel, update_bn


def net():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def walk(model, steps, seed=0):
    """Give the model new weights and buffers, several times; what it had each time."""
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        for t in (*model.parameters(), *model.buffers()):
            t.array[...] = rng.standard_normal(t.shape) if t.dtype.kind == "f" else rng.integers(0, 90)
        yield [t.array.copy() for t in (*model.parameters(), *model.buffers())]


@pytest.mark.parametrize("use_buffers", [False, True])
@pytest.mark.parametrize("kind", ["equal", "multi", "avg", "ema", "multi ema"])
def test_averages(kind, use_buffers):
    options = {
        "equal": {}, "multi": dict(multi_avg_fn=swa_utils.get_swa_multi_avg_fn()),
        "avg": dict(avg_fn=swa_utils.get_swa_avg_fn()), "ema": dict(avg_fn=swa_utils.get_ema_avg_fn(0.7)),
        "multi ema": dict(multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.7)),
    }[kind]  # fmt: skip
    model = net()
    averaged = AveragedModel(model, use_buffers=use_buffers, **options)
    for p, q in zip(model.parameters(), averaged.parameters(), strict=True):
        assert p is not q
    seen = []
    for values in walk(model, 5):
        averaged.update_parameters(model)
        seen.append(values)
    assert averaged.n_averaged.item() == 5
    count = len(list(model.parameters()))
    for i, t in enumerate([*averaged.module.parameters(), *averaged.module.buffers()]):
        if i >= count and not use_buffers:
            np.testing.assert_array_equal(t.array, seen[-1][i])
        elif t.dtype.kind == "f":
            expected = seen[0][i].astype(np.float64)
            for k, v in enumerate(seen[1:], 1):
                expected += (v[i] - expected) * (0.3 if "ema" in kind else 1 / (k + 1))
            assert_close(t.array, expected.astype(np.float32))
    assert [k for k in averaged.state_dict() if not k.startswith("module.")] == ["n_averaged"]


def test_an_average_is_a_model():
    model = net()
    averaged = AveragedModel(model)
    averaged.update_parameters(model)
    x = wrap(np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32))
    model.eval()
    averaged.eval()
    np.testing.assert_array_equal(averaged(x).array, model(x).array)
    other = AveragedModel(net())
    other.load_state_dict(averaged.state_dict())
    other.eval()
    np.testing.assert_array_equal(other(x).array, model(x).array)
    with pytest.raises(AssertionError, match="both"):
        AveragedModel(model, avg_fn=swa_utils.get_swa_avg_fn(), multi_avg_fn=swa_utils.get_swa_multi_avg_fn())
    with pytest.raises(ValueError, match="decay"):
        swa_utils.get_ema_multi_avg_fn(1.5)


@pytest.mark.parametrize("pack", [lambda x: x, lambda x: [x, 0], lambda x: (x,)])
def test_batch_statistics_are_those_of_all_batches(pack):
    model = net().eval()
    model[1].momentum = 0.3
    x = np.random.default_rng(1).standard_normal((24, 3)).astype(np.float32)
    update_bn([pack(wrap(x[i : i + 8])) for i in range(0, 24, 8)], model)
    y = model[0](wrap(x)).array
    parts = [y[i : i + 8] for i in range(0, 24, 8)]
    assert_close(model[1].running_mean.array, np.mean([p.mean(0) for p in parts], 0), scale=4)
    assert_close(model[1].running_var.array, np.mean([p.var(0, ddof=1) for p in parts], 0), scale=4)
    assert model[1].momentum == 0.3 and not model.training and not model[1].training
    update_bn([], nn.Linear(2, 2))


def test_the_rate_goes_to_the_one_for_averaging():
    def make(**options):
        p, q = (wrap(np.zeros(2, np.float32)).requires_grad_() for _ in range(2))
        o = optim.SGD([{"params": p}, {"params": q, "lr": 0.4}], lr=1.0)
        return o, SWALR(o, **options)

    o, s = make(swa_lr=[0.05, 0.2], anneal_epochs=4, anneal_strategy="linear")
    seen = []
    for _ in range(7):
        seen.append([g["lr"] for g in o.param_groups])
        o.step()
        s.step()
    np.testing.assert_allclose([a for a, _ in seen], [1 - 0.95 * min(t / 4, 1) for t in range(7)])
    np.testing.assert_allclose([b for _, b in seen], [0.4 - 0.2 * min(t / 4, 1) for t in range(7)])
    o, s = make(swa_lr=0.05, anneal_epochs=0)
    assert o.param_groups[0]["lr"] == pytest.approx(0.05)
    for options, text in [
        (dict(swa_lr=0.1, anneal_strategy="cubic"), "strategy"), (dict(swa_lr=0.1, anneal_epochs=-1), "epochs"),
        (dict(swa_lr=[0.1]), "2 values"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=text):
            make(**options)


@pytest.mark.reference
@pytest.mark.parametrize("strategy", ["cos", "linear"])
def test_the_rate_as_pytorch(strategy):
    torch = pytest.importorskip("torch")
    mine = optim.SGD([wrap(np.zeros(2)).requires_grad_()], lr=1.0)
    other = torch.optim.SGD([torch.zeros(2, requires_grad=True)], lr=1.0)
    a = SWALR(mine, 0.05, 7, strategy)
    b = torch.optim.swa_utils.SWALR(other, 0.05, 7, strategy)
    for _ in range(12):
        assert a.get_last_lr() == pytest.approx(b.get_last_lr(), rel=1e-12)
        assert a.state_dict().keys() == b.state_dict().keys()
        for o, s in ((mine, a), (other, b)):
            o.step()
            s.step()


@pytest.mark.cuda
def test_averages_on_the_card(card):
    model = net()
    here, there = AveragedModel(model), AveragedModel(model, device="cuda")
    for _ in walk(model, 3):
        here.update_parameters(model)
        there.update_parameters(model)
    for p, q in zip(here.parameters(), there.parameters(), strict=True):
        assert_close(card.asnumpy(q.array), p.array)
