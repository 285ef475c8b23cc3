"""Training by captured steps: fit(graph=True) and the benchmark's models give the bits of eager training."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

import gradflow as gf
from bench import models
from gradflow import data, nn, optim, train
from gradflow.cuda import gemm
from gradflow.nn import functional as F

pytestmark = pytest.mark.cuda


@pytest.fixture(autouse=True)
def _one_way_of_products(monkeypatch):
    """Eager products by the kernels that captured ones take, as cuBLAS adds in another order."""
    monkeypatch.setattr(gemm, "capturing", lambda cp: True)


# --- fit --------------------------------------------------------------------------------------------------


def mlp():
    body = nn.Sequential(nn.Linear(9, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))
    return nn.Sequential(nn.Flatten(), body)


def lenet():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3), nn.Tanh(), nn.Flatten(),
        nn.Dropout(0.25), nn.Linear(24, 8), nn.ReLU(), nn.Linear(8, 3),
    )  # fmt: skip


def fitted(make, size, graph, epochs=4, path=None, resume=False, **options):
    """The history and the state after some epochs, with everything that has a state."""
    gf.manual_seed(3)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((22, 1, size, size)).astype("f"), rng.integers(0, 3, 22)
    loader = data.DataLoader(
        data.TensorDataset(gf.tensor(x), gf.tensor(y)), 4, shuffle=True, generator=gf.Generator(5)
    )  # five batches of four and one of two
    model = make().to("cuda")
    optimizer = optim.Adam(model.parameters(), 0.02, weight_decay=0.1)
    schedule = optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
    history = train.fit(
        model, F.cross_entropy, optimizer, loader, loader, epochs, scheduler=schedule, metrics=train.accuracy, clip_norm=0.5,
        checkpoint=path, resume=resume, graph=graph, report=None, **options,
    )  # fmt: skip
    del history["seconds"]
    return history, {k: v.cpu().numpy() for k, v in model.state_dict().items()}, gf.default_generator.get_state()


def alike(a, b):
    assert a[0] == b[0] and a[2] == b[2]
    for name, value in a[1].items():
        np.testing.assert_array_equal(b[1][name], value, err_msg=name)


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize(("make", "size"), [(mlp, 3), (lenet, 8)], ids=["mlp", "lenet"])
def test_fit_with_graphs_gives_the_same_bits(make, size, card):
    eager = fitted(make, size, False)
    before = card.counts.graphs
    alike(eager, fitted(make, size, True))
    assert card.counts.graphs - before == 4 * 5 - 2  # not the first two, and not the small batches


def test_a_captured_training_goes_on_from_a_checkpoint(card, tmp_path):
    eager = fitted(mlp, 3, False, 5)
    fitted(mlp, 3, True, 2, tmp_path / "c")
    alike(eager, fitted(mlp, 3, True, 5, tmp_path / "c", resume=True))
    fitted(mlp, 3, False, 2, tmp_path / "d")
    alike(eager, fitted(mlp, 3, True, 5, tmp_path / "d", resume=True))


@pytest.mark.usefixtures("stand_in")
def test_a_replay_of_fit_asks_nothing_of_the_card(card, monkeypatch):
    logs = []
    replay = gf.cuda.CUDAGraph.replay

    def logged(self):
        with card.launches() as work:
            replay(self)
        logs.append([w.kind for w in work])

    monkeypatch.setattr(gf.cuda.CUDAGraph, "replay", logged)
    fitted(mlp, 3, True, 2)
    assert len(logs) == 8 and all(kinds == ["upload", "graph"] for kinds in logs)


def test_fit_says_what_it_cannot_capture(card):
    with pytest.raises(RuntimeError, match="fit: wanted a model on the card with graph=True, saw one on the cpu"):
        train.fit(nn.Linear(2, 3), F.mse_loss, None, [], graph=True)
    model = nn.Linear(2, 3).to("cuda")
    batches = [(gf.ones(4, 2), gf.ones(4, 3))] * 3

    def host(output, target):
        return output.sum().item()

    with pytest.raises(RuntimeError, match=r"graph: \.item\(\) at .*test_graphs_training.py:\d+ \(return output"):
        train.fit(model, F.mse_loss, optim.SGD(model.parameters()), batches, metrics=host, graph=True, report=None)
    with pytest.raises(TypeError, match="fit: wanted fixed as a tensor on the card with graph=True, saw float"):
        train.fit(
            model, F.mse_loss, optim.SGD(model.parameters()), batches, metrics={"fixed": lambda o, t: 1.0}, graph=True, report=None
        )


# --- the benchmark's models -------------------------------------------------------------------------------


def ints(high, shape):
    return lambda i: gf.tensor(np.random.default_rng(i).integers(0, high, shape), device="cuda")


def floats(*shape):
    return lambda i: gf.tensor(np.random.default_rng(i).standard_normal(shape).astype("f"), device="cuda")


def places(i):
    return gf.tensor(np.arange(4), device="cuda")


MODELS = {
    "mlp": (lambda: models.mlp(gf, (6, 5, 3)), [floats(4, 6), floats(4, 3)], F.mse_loss, models.sgd),
    "lenet": (lambda: models.lenet(gf), [floats(2, 1, 28, 28), ints(10, 2)], F.cross_entropy, models.sgd),
    "lstm": (lambda: models.lstm(gf, 7, 4, 2), [ints(7, (3, 2)), ints(7, 6)], F.cross_entropy, models.adamw),
    "gpt": (lambda: models.gpt(gf, 7, 2, 2, 8, 4), [ints(7, (2, 4)), places, ints(7, 8)], F.cross_entropy, models.adamw),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_the_models_of_the_benchmark_are_captured(name, card):
    """ResNet-18 and VGG16 hold nothing that these do not but batch norm: they take the stand-in half a minute each."""
    make, inputs, loss_of, optimizer = MODELS[name]
    out = []
    for graphed in (False, True):
        gf.manual_seed(0)
        net = make().to("cuda")
        steps = optimizer(gf, list(net.parameters()))

        def step(*batch):
            steps.zero_grad()
            loss = loss_of(net(*batch[:-1]), batch[-1])
            loss.backward()
            steps.step()
            return loss

        step = gf.cuda.graph(step, warmup=1) if graphed else step
        out.append([step(*[x(i) for x in inputs]).item() for i in range(4)])
        out[-1] += [p.numpy(force=True).tobytes() for p in net.parameters()]
    assert out[0] == out[1]


# --- mixed precision --------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy speaks of overflow where a card is silent
@pytest.mark.parametrize("clipped", [False, True])
def test_mixed_precision_with_a_scaler_is_captured(clipped, card):
    """The scale overflows float16, falls, and grows again, and skipped steps count for nothing, in replays as eagerly."""
    out = []
    for graphed in (False, True):
        gf.manual_seed(3)
        net = mlp().to("cuda")
        o = optim.AdamW(net.parameters(), 0.02)
        schedule = optim.lr_scheduler.ExponentialLR(o, 0.9)
        scaler = gf.amp.GradScaler(init_scale=2.0**22, growth_interval=3)

        def step(x, y):
            o.zero_grad()
            with gf.amp.autocast("cuda", gf.float16):
                loss = F.cross_entropy(net(x), y)
            scaler.scale(loss).backward()
            if clipped:
                scaler.unscale_(o)
                nn.utils.clip_grad_norm_(net.parameters(), 0.5)
            scaler.step(o)
            scaler.update()
            schedule.step()
            return loss

        step = gf.cuda.graph(step) if graphed else step
        seen = []
        for i in range(12):
            seen += [step(floats(6, 1, 3, 3)(i), ints(3, 6)(i)).item(), scaler.get_scale()]
        counts = {int(v["step"].item()) for v in o.state.values()}
        out.append((seen, counts, [p.numpy(force=True).tobytes() for p in net.parameters()]))
        scales = seen[1::2]
        assert min(scales) < 2.0**20 and any(b > a for a, b in pairwise(scales))
        assert counts == {12 - sum(b < a for a, b in pairwise([2.0**22, *scales]))}
    assert out[0] == out[1]


def test_muon_is_captured(card):
    out = []
    for graphed in (False, True):
        w = nn.Parameter(floats(6, 4)(0))
        o = optim.Muon([w], lr=0.1)

        def step(x):
            o.zero_grad()
            loss = ((x @ w) ** 2).mean()
            loss.backward()
            o.step()
            return loss

        step = gf.cuda.graph(step) if graphed else step
        out.append([step(floats(3, 6)(i)).item() for i in range(5)])
    assert np.allclose(*out, rtol=2e-2)  # of bfloat16 inside; the rate is float64 on the card
    assert out[0][:2] == out[1][:2]
