"""Mixed precision on the card: half types inside blocks, a scaled step that the host neither reads nor waits for, graphs."""

from __future__ import annotations

import numpy as np
import pytest
from test_amp import losses, nets
from tolerance import assert_close

import gradflow as gf
from gradflow import nn
from gradflow.amp import scaling
from gradflow.cuda import launch

pytestmark = pytest.mark.cuda
F = nn.functional


def test_what_is_cast_on_the_card(card):
    x = gf.rand(4, 4, device="cuda")
    with gf.autocast("cuda"):
        y = x @ x
        assert y.dtype == gf.float16
        assert gf.exp(y).dtype == y.sum().dtype == F.softmax(y, 0).dtype == F.layer_norm(y, (4,)).dtype == gf.float32
        assert y.sum(dtype=gf.float16).dtype == gf.float16 and (1 / y).dtype == (y**2).dtype == gf.float32
        assert gf.sin(y).dtype == F.relu(y).dtype == y.mean().dtype == gf.float16
        assert (x.cpu() @ x.cpu()).dtype == gf.float32
        with pytest.raises(RuntimeError, match="binary_cross_entropy_with_logits"):
            F.binary_cross_entropy(gf.sigmoid(y), gf.sigmoid(x))
        assert F.binary_cross_entropy_with_logits(y, x).dtype == gf.float32
    with gf.autocast("cuda", dtype=gf.bfloat16):
        assert (x @ x).dtype == gf.bfloat16
    with gf.autocast("cpu"):
        assert (x @ x).dtype == gf.float32


@pytest.mark.parametrize("name", ["mlp", "conv"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("mixed", [False, True])
def test_nets_learn_in_half_types_on_the_card(name, dtype, mixed, card):
    dtype = getattr(gf, dtype)
    there, *_ = losses(nets()[name], dtype, "cuda", mixed=mixed)
    here, *_ = losses(nets()[name], dtype, mixed=mixed)
    full, *_ = losses(nets()[name], gf.float32)
    assert there[-1] < 0.7 * there[0]
    np.testing.assert_allclose(there, here, atol=0.01 if dtype == gf.float16 else 0.08)
    np.testing.assert_allclose(there, full, atol=0.02 if dtype == gf.float16 else 0.15)


def test_a_step_is_skipped_and_the_scale_found(card):
    there, parameters, scaler = losses(nets()["mlp"], gf.float16, "cuda", mixed=True, bad=(1, 4))
    _, same, other = losses(nets()["mlp"], gf.float16, "cpu", mixed=True, bad=(1, 4))
    assert there[1] == there[2] and there[4] == there[5]
    assert scaler.state_dict() == other.state_dict()
    assert (scaler.get_scale(), scaler._get_growth_tracker()) == (64, 0)
    for a, b in zip(parameters, same, strict=True):
        np.testing.assert_allclose(a, b, atol=5e-3)


def scaled(optimizer, clip, counts=None):
    """A step function of a small net on the card, its model and its scaler."""
    gf.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).to("cuda")
    made = optimizer(model.parameters())
    scaler = gf.GradScaler("cuda", init_scale=32.0, growth_interval=2)

    def step(x, y, factor):
        made.zero_grad()
        with gf.autocast("cuda"):
            loss = F.cross_entropy(model(x), y)
        scaler.scale(loss * factor).backward()
        if clip:
            scaler.unscale_(made)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(made)
        scaler.update()
        return loss

    return step, model, scaler


OPTIMIZERS = {
    "sgd": lambda p: gf.optim.SGD(p, lr=0.1, momentum=0.9),
    "adam": lambda p: gf.optim.AdamW(p, lr=0.01),
    "rmsprop": lambda p: gf.optim.RMSprop(p, lr=0.01),
}


def batch(i, bad):
    rng = np.random.default_rng(i)
    x = gf.tensor(rng.standard_normal((5, 6)).astype("f"), device="cuda")
    y = gf.tensor(rng.integers(0, 3, 5), device="cuda")
    return x, y, gf.tensor(np.float32(np.inf if i in bad else 1), device="cuda")


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_host_is_told_nothing(optimizer, clip, card):
    step, model, scaler = scaled(OPTIMIZERS[optimizer], clip)
    for i in range(6):
        inputs = batch(i, bad=(0, 3))
        before = [p.detach().cpu().numpy() for p in model.parameters()]
        card.counts.reset()
        start = launch.count
        step(*inputs)
        assert card.counts.host_copies == card.counts.synchronisations == 0
        launches = launch.count - start
        after = [p.detach().cpu().numpy() for p in model.parameters()]
        for a, b in zip(before, after, strict=True):
            assert np.array_equal(a, b) == (i in (0, 3)) and np.isfinite(b).all()
    assert (scaler.get_scale(), scaler._get_growth_tracker()) == (16 * 2 / 2 * 2, 0)
    assert launches < 30


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_scaled_step_as_a_graph(optimizer, clip, card):
    eager, model, scaler = scaled(OPTIMIZERS[optimizer], clip)
    step, other, captured = scaled(OPTIMIZERS[optimizer], clip)
    graph = gf.cuda.graph(step)
    for i in range(8):
        inputs = batch(i, bad=(0, 4))
        a, b = eager(*inputs).item(), graph(*inputs).item()
        assert a == b
    assert scaler.state_dict() == captured.state_dict()
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        np.testing.assert_array_equal(p.detach().cpu().numpy(), q.detach().cpu().numpy())


def test_optimizers_that_know_no_scaler_are_told_by_the_host(card):
    class Plain(gf.optim.SGD):
        _step_supports_amp_scaling = False

    step, model, _ = scaled(lambda p: Plain(p, lr=0.1), False)
    same, reference, _ = scaled(lambda p: gf.optim.SGD(p, lr=0.1), False)
    for i in range(4):
        inputs = batch(i, bad=(1,))
        step(*inputs)
        same(*inputs)
    for p, q in zip(model.parameters(), reference.parameters(), strict=True):
        assert_close(p.detach().cpu().numpy(), q.detach().cpu().numpy())


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_all_gradients_in_one_launch(dtype, card):
    """Of many sizes, at odd addresses, one with gaps: what is not finite is found wherever it is."""
    low = np.dtype(getattr(gf, dtype))
    rng = np.random.default_rng(0)
    whole = card.asarray(rng.standard_normal(40001).astype(low))
    ends = ((1, 8193), (8193, 8200), (9000, 9000), (10000, 27000), (30001, 30010))
    arrays = [*(whole[a:b] for a, b in ends), whole[31000:31012].reshape(3, 4).T]
    exact = [card.asnumpy(a).astype(np.float64) / 4 for a in arrays]
    found, scale = card.zeros((), np.float32), card.full((), 4, np.float32)
    start = launch.count
    scaling.unscale_all(arrays, scale, found)
    assert launch.count - start == 1 and float(found) == 0
    for a, b in zip(arrays, exact, strict=True):
        np.testing.assert_allclose(card.asnumpy(a).astype(np.float64), b, rtol=1e-2 if low.itemsize == 2 else 1e-6)
    for i, at in ((0, 0), (0, 8191), (1, 6), (3, 16999), (3, 8192), (4, 0)):
        for value in (np.inf, -np.inf, np.nan):
            kept = arrays[i][at].copy()
            arrays[i][at] = value
            found.fill(0)
            scaling.unscale_all(arrays, None, found)
            assert float(found) == 1, (i, at, value)
            arrays[i][at] = kept
    found.fill(0)
    scaling.unscale_all(arrays, None, found)
    assert float(found) == 0
