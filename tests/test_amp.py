"""autocast: what is cast, when and how often; its state; gradients, checkpoints, Functions. GradScaler: scales and skips."""

from __future__ import annotations

import copy
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
from tolerance import assert_close

import gradflow as gf
from gradflow import amp, nn
from gradflow.amp import casting
from gradflow.autograd.checkpoint import checkpoint
from gradflow.backend import Generator

F = nn.functional


def draw(*shape, grad=False, seed=0):
    return gf.tensor(np.random.default_rng(seed).standard_normal(shape).astype("f"), requires_grad=grad)


@pytest.fixture
def x():
    return draw(4, 4)


# --- what is cast -------------------------------------------------------------------------------------


def test_products_in_the_lower_precision(x):
    with gf.autocast("cpu"):
        y = x @ x
        assert y.dtype == gf.bfloat16
        assert (y + 1).dtype == gf.bfloat16 and (y + x).dtype == gf.float32
        assert gf.sin(y).dtype == gf.bfloat16 and F.mse_loss(y, x).dtype == gf.float32
        assert gf.cat([y, x]).dtype == gf.float32 and gf.stack([y, y]).dtype == gf.bfloat16
        assert nn.Conv2d(1, 2, 3)(draw(1, 1, 5, 5)).dtype == gf.bfloat16
    wide = x.to(gf.bfloat16).float() @ x.to(gf.bfloat16).float()
    assert_close(y.float().numpy(), wide.to(gf.bfloat16).float().numpy())
    assert (x @ x).dtype == gf.float32


def test_recurrent_layers_take_the_lower_precision():
    layer, x = nn.LSTM(4, 3), gf.zeros(2, 5, 4, dtype=gf.bfloat16)
    with pytest.raises(ValueError, match="weights' float32"):
        layer(x)
    with amp.autocast("cpu"):
        assert layer(x)[0].dtype == gf.bfloat16


def test_what_is_left_alone(x):
    d, i = x.double(), gf.arange(4)
    out, written = gf.empty(4, 4), x.clone()
    with gf.autocast("cpu"):
        assert (d @ d).dtype == gf.float64
        assert (i @ i).dtype == gf.int64
        gf.matmul(x, x, out=out)
        written.addmm_(x, x)
        assert (x.numpy() @ x.numpy()).dtype == np.float32
    np.testing.assert_array_equal(out.numpy(), x.numpy() @ x.numpy())
    assert_close(written.numpy(), x.numpy() + x.numpy() @ x.numpy())


def test_the_other_half_type_is_refused_where_the_widest_is_wanted(x):
    with gf.autocast("cpu"):
        with pytest.raises(RuntimeError, match="cat: wanted float32 or bfloat16"):
            gf.cat([x.half(), x.half()])
        assert gf.cat([x, x.half()]).dtype == gf.float32


def test_dtypes_and_devices(x):
    with gf.autocast("cpu", dtype=gf.float16):
        assert (x @ x).dtype == gf.float16
    with pytest.warns(UserWarning, match="float16 or bfloat16, saw float32"), gf.autocast("cpu", gf.float32):
        assert (x @ x).dtype == gf.float32
    with pytest.warns(UserWarning, match="no card"), gf.autocast("cuda"):
        assert (x @ x).dtype == gf.float32
    with pytest.raises(RuntimeError, match="'cuda' or 'cpu'"):
        gf.autocast("tpu")
    with pytest.raises(ValueError, match="a device type"):
        gf.autocast(gf.float16)
    with pytest.raises(TypeError, match="a function"):
        gf.autocast("cpu")(3)


# --- blocks -------------------------------------------------------------------------------------------


def test_blocks_nest_and_end(x):
    with gf.autocast("cpu"):
        with gf.autocast("cpu", enabled=False):
            assert (x @ x).dtype == gf.float32 and not gf.is_autocast_enabled("cpu")
            with gf.autocast("cpu", dtype=gf.float16):
                assert (x @ x).dtype == gf.float16
        assert (x @ x).dtype == gf.bfloat16 and gf.get_autocast_dtype("cpu") == gf.bfloat16
        with pytest.raises(ZeroDivisionError), gf.autocast("cpu", dtype=gf.float16):
            1 / 0  # noqa: B018
        assert (x @ x).dtype == gf.bfloat16
    assert (x @ x).dtype == gf.float32 and not casting.call.casting and not casting.here.nesting

    @gf.autocast("cpu")
    def product(n):
        return product(n - 1) if n else x @ x

    assert product(3).dtype == gf.bfloat16 and product.__name__ == "product"
    assert (x @ x).dtype == gf.float32


def test_switches(x):
    gf.set_autocast_enabled("cpu", True)
    gf.set_autocast_dtype("cpu", gf.float16)
    try:
        assert gf.is_autocast_enabled("cpu") and not gf.is_autocast_enabled() and (x @ x).dtype == gf.float16
    finally:
        gf.set_autocast_enabled("cpu", False)
        gf.set_autocast_dtype("cpu", gf.bfloat16)
    assert (x @ x).dtype == gf.float32 and gf.is_autocast_cache_enabled()
    assert gf.get_autocast_dtype("cuda") == gf.float16 and amp.is_autocast_available("cpu")


def test_threads_have_blocks_of_their_own(x):
    seen = {}

    def run():
        seen["there"] = (x @ x).dtype
        with gf.autocast("cpu", dtype=gf.float16):
            seen["inside"] = (x @ x).dtype

    with gf.autocast("cpu"):
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        assert (x @ x).dtype == gf.bfloat16
    assert seen == {"there": gf.float32, "inside": gf.float16}
    with gf.autocast("cpu"):  # so does a loader's
        loader = gf.data.DataLoader(range(4), 2, num_workers=2, collate_fn=lambda _: x @ x)
        assert {y.dtype for y in loader} == {np.dtype("float32")}


def test_nothing_is_asked_before_the_first_block():
    program = """
import gradflow as gf
from gradflow import call
from gradflow.op import table
x = gf.rand(2, 2)
x @ x
assert call.cast is None and "casting" not in call._text(table["matmul"])
with gf.profiler.profile(), gf.autocast("cpu"):
    assert (x @ x).dtype == gf.bfloat16
with gf.autocast("cpu"):
    assert (x @ x).dtype == gf.bfloat16
assert "casting" in call._text(table["matmul"]) and "casting" not in call._text(table["mul"])
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


# --- gradients and the cache ----------------------------------------------------------------------------


@pytest.fixture
def casts(monkeypatch):
    """The tensors that were cast."""
    seen, cast = [], casting.pointwise.cast
    monkeypatch.setattr(casting.pointwise, "cast", lambda x, to: seen.append(x) or cast(x, to))
    return seen


def test_a_weight_is_cast_once_in_a_block(x, casts):
    w = draw(4, 4, grad=True, seed=1)
    with gf.autocast("cpu"):
        y = x @ w
        with gf.autocast("cpu"):
            z = x @ w
        assert sum(t is w for t in casts) == 1 and sum(t is x for t in casts) == 2
        with gf.autocast("cpu", cache_enabled=False):
            x @ w
        assert sum(t is w for t in casts) == 2
    assert not casting.here.cache
    y.float().sum().backward()
    z.float().sum().backward()  # through the same cast
    exact = 2 * x.to(gf.bfloat16).float().sum(0).numpy()[:, None].repeat(4, 1)
    assert w.grad.dtype == gf.float32
    np.testing.assert_allclose(w.grad.numpy(), exact, atol=0.02)


def test_a_kept_cast_follows_the_weight(x):
    w = draw(4, 4, grad=True, seed=1)
    with gf.autocast("cpu"):
        with gf.no_grad():
            assert (x @ w).grad_fn is None
        y = x @ w  # the cast that was made without recording does not serve here
        assert y.grad_fn is not None
        with gf.no_grad():
            w.mul_(0)
        assert not (x @ w).any()
        gf.clear_autocast_cache()
        assert not casting.here.cache


def test_backward_runs_in_the_dtypes_of_forward(x):
    w = draw(4, 4, grad=True, seed=1)
    seen = []
    with gf.autocast("cpu"):
        y = x @ w
        y.register_hook(lambda g: seen.append(g.dtype))
        F.mse_loss(y, gf.zeros(4, 4)).backward()
        first = w.grad.clone()
    assert seen == [gf.bfloat16]
    w.grad = None
    with gf.autocast("cpu"):
        loss = F.mse_loss(x @ w, gf.zeros(4, 4))
    loss.backward()
    np.testing.assert_array_equal(w.grad.numpy(), first.numpy())
    with gf.autocast("cpu"):
        (g,) = gf.autograd.grad(F.mse_loss(x @ w, gf.zeros(4, 4)), w, create_graph=True)
        assert g.dtype == gf.float32
        np.testing.assert_array_equal(g.detach().numpy(), first.numpy())
        (gg,) = gf.autograd.grad(g.square().sum(), w)
    assert gg.dtype == gf.float32 and gg.any()


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpoint_runs_again_as_it_ran_first(reentrant, x):
    w = draw(4, 4, grad=True, seed=1)
    seen = []

    def body(v):
        y = v @ w
        seen.append(y.dtype)
        return y.tanh()

    v = x.clone().requires_grad_()
    with gf.autocast("cpu"):
        y = checkpoint(body, v, use_reentrant=reentrant)
        plain = body(v)
    y.float().sum().backward()
    found, v.grad, w.grad = (v.grad.numpy(), w.grad.numpy()), None, None
    plain.float().sum().backward()
    assert seen == [gf.bfloat16] * 3
    for a, t in zip(found, (v, w), strict=True):
        np.testing.assert_array_equal(a, t.grad.numpy())
    z = checkpoint(body, v, use_reentrant=reentrant)
    with gf.autocast("cpu"):
        z.sum().backward()
    assert seen[-2:] == [gf.float32] * 2


def test_transforms(x):
    w = draw(4, 4, seed=1)
    with gf.autocast("cpu"):
        assert gf.vmap(lambda v: v @ w)(x).dtype == gf.bfloat16
        assert gf.vmap(lambda v: F.mse_loss(v @ w, gf.ones(4)))(x).dtype == gf.float32
        assert gf.func.grad(lambda w: (x @ w).sum())(w).dtype == gf.float32
        assert gf.func.jvp(lambda v: v @ w, (x,), (x,))[1].dtype == gf.bfloat16


# --- Functions ------------------------------------------------------------------------------------------


def test_functions_run_backward_as_forward(x):
    seen = []

    class Product(gf.autograd.Function):
        @staticmethod
        @amp.custom_fwd(device_type="cpu")
        def forward(ctx, a, b):
            ctx.save_for_backward(a, b)
            return a @ b

        @staticmethod
        @amp.custom_bwd(device_type="cpu")
        def backward(ctx, g):
            a, b = ctx.saved_tensors
            da = g @ b.T
            seen.append(da.dtype)
            return da, a.T @ g

    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    with gf.autocast("cpu"):
        y = Product.apply(a, b)
    y.sum().backward()
    Product.apply(a, b).sum().backward()
    assert y.dtype == gf.bfloat16 and seen == [gf.bfloat16, gf.float32] and a.grad.dtype == gf.float32


def test_inputs_of_a_function_are_cast(x):
    class Wide(gf.autograd.Function):
        @staticmethod
        @amp.custom_fwd(device_type="cpu", cast_inputs=gf.float32)
        def forward(ctx, a):
            return (a @ a).sum()

        @staticmethod
        @amp.custom_bwd(device_type="cpu")
        def backward(ctx, g):
            return g.expand(4, 4)

    with gf.autocast("cpu"):
        assert Wide.apply(x.to(gf.bfloat16)).dtype == gf.float32
    assert Wide.apply(x.to(gf.bfloat16)).dtype == gf.bfloat16


# --- GradScaler -----------------------------------------------------------------------------------------


def scaled(scale=8.0, **options):
    """A parameter of two ones, SGD by 0.5, and a scaler on the CPU."""
    p = gf.ones(2, requires_grad=True)
    return p, gf.optim.SGD([p], lr=0.5), gf.GradScaler("cpu", init_scale=scale, growth_interval=2, **options)


def take(p, optimizer, scaler, factor=1.0):
    optimizer.zero_grad()
    loss = scaler.scale((p * gf.tensor([1.0, 2.0]) * factor).sum())
    loss.backward()
    scaler.step(optimizer)
    scaler.update()
    return float(loss)


def test_the_scale_grows_and_backs_off():
    p, optimizer, scaler = scaled()
    seen = []
    for factor in (1, np.inf, 1, 1, np.nan, 1, 1, 1, 1):
        before = p.detach().numpy().copy()
        take(p, optimizer, scaler, factor)
        moved = p.detach().numpy() - before
        np.testing.assert_array_equal(moved, [-0.5, -1.0] if np.isfinite(factor) else [0, 0])
        seen.append((scaler.get_scale(), scaler._get_growth_tracker()))
    assert seen == [(8, 1), (4, 0), (4, 1), (8, 0), (4, 0), (4, 1), (8, 0), (8, 1), (16, 0)]


def test_the_loss_is_scaled_and_gradients_are_not_after_unscale():
    p, optimizer, scaler = scaled()
    assert scaler.get_scale() == 8
    loss = (p * 3).sum()
    both = scaler.scale([loss, (loss, loss)])
    assert [float(v) for v in (both[0], *both[1])] == [48, 48, 48]
    both[0].backward()
    np.testing.assert_array_equal(p.grad.numpy(), [24, 24])
    scaler.unscale_(optimizer)
    np.testing.assert_array_equal(p.grad.numpy(), [3, 3])
    with pytest.raises(RuntimeError, match="unscale_"):
        scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_([p], 1.0)
    scaler.step(optimizer)
    assert_close(p.detach().numpy(), np.full(2, 1 - 0.5 / np.sqrt(2), "f"))
    with pytest.raises(RuntimeError, match="second"):
        scaler.step(optimizer)
    with pytest.raises(RuntimeError, match="step"):
        scaler.unscale_(optimizer)
    scaler.update()
    scaler.update(3.0) if scaler.scale(loss) is not None else None
    assert scaler.get_scale() == 3
    scaler.update(gf.tensor(5.0))
    assert scaler.get_scale() == 5


def test_each_optimizer_is_skipped_for_itself():
    p, first, scaler = scaled()
    q = gf.ones(1, requires_grad=True)
    second = gf.optim.SGD([q], lr=1.0)
    scaler.scale((p * np.inf).sum() + q.sum()).backward()
    scaler.step(first)
    scaler.step(second)
    scaler.update()
    assert p.detach().tolist() == [1, 1] and q.detach().tolist() == [0] and scaler.get_scale() == 4


def test_wrong_uses():
    p, optimizer, scaler = scaled()
    for call in (lambda: scaler.step(optimizer), lambda: scaler.unscale_(optimizer), scaler.update):
        with pytest.raises(AssertionError, match="scale"):
            call()
    scaler.scale(p.sum())
    with pytest.raises(AssertionError, match="before it, saw none"):
        scaler.update()
    with pytest.raises(AssertionError, match="wanted gradients"):
        scaler.step(optimizer)
    with pytest.raises(RuntimeError, match="closure"):
        scaler.step(optimizer, closure=lambda: None)
    with pytest.raises(AssertionError, match="growth_factor"):
        gf.GradScaler("cpu", growth_factor=1.0)
    with pytest.raises(ValueError, match="tensors"):
        scaler.scale(3)
    half = gf.ones(2, dtype=gf.float16, requires_grad=True)
    scaler.scale(half.float().sum()).backward()
    with pytest.raises(ValueError, match="float16"):
        scaler.unscale_(gf.optim.SGD([half], lr=1.0))


def test_states_and_switched_off():
    p, optimizer, scaler = scaled()
    take(p, optimizer, scaler)
    state = scaler.state_dict()
    assert state == {"scale": 8.0, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 2, "_growth_tracker": 1}
    other = gf.GradScaler("cpu")
    other.load_state_dict(state)
    assert other.state_dict() == state
    take(p, optimizer, other)
    assert other.get_scale() == 16
    other.load_state_dict(state)
    assert other.state_dict() == state
    off = gf.GradScaler("cpu", enabled=False)
    assert take(p, optimizer, off) == 0.0 + float((p + gf.tensor([0.5, 1.0])).detach() @ gf.tensor([1.0, 2.0]))
    assert off.state_dict() == {} and off.get_scale() == 1 and not off.is_enabled()
    with pytest.raises(RuntimeError, match="empty"):
        scaler.load_state_dict({})
    with pytest.warns(UserWarning, match="no card"):
        assert not gf.GradScaler().is_enabled()


@pytest.mark.reference
def test_as_pytorch_scales():
    torch = pytest.importorskip("torch")
    results = []
    for lib in (gf, torch):
        p = lib.ones(3, requires_grad=True)
        optimizer = lib.optim.Adam([p], lr=0.1)
        scaler = lib.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=3, backoff_factor=0.25)
        rows = []
        for factor in (1.0, 2.0, float("inf"), 0.5, 1.0, float("nan"), 1.0, 3.0, 1.0, 1.0):
            optimizer.zero_grad()
            scaler.scale((p * p * factor).sum()).backward()
            scaler.step(optimizer)
            scaler.update()
            rows.append((scaler.state_dict(), p.detach().tolist()))
        results.append(rows)
    for ours, theirs in zip(*results, strict=True):
        assert ours[0] == theirs[0]
        assert_close(np.array(ours[1], "f"), np.array(theirs[1], "f"))


# --- half types end to end ------------------------------------------------------------------------------


def nets():
    gf.manual_seed(0)
    mlp = nn.Sequential(nn.Flatten(), nn.Linear(36, 32), nn.ReLU(), nn.LayerNorm(32), nn.Linear(32, 4))
    head = nn.Flatten(), nn.Linear(72, 4)
    conv = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), *head)
    return {"mlp": mlp, "conv": conv}


def losses(model, dtype, device="cpu", steps=8, mixed=False, bad=()):
    """The losses of a few steps, the parameters and the scaler after them."""
    rng = np.random.default_rng(0)
    x = gf.tensor(rng.standard_normal((16, 1, 6, 6)).astype("f"), device=device)
    y = gf.tensor(rng.integers(0, 4, 16), device=device)
    model = copy.deepcopy(model).to(device)
    if not mixed:
        model, x = model.to(dtype), x.to(dtype)
    optimizer = gf.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    scaler = gf.GradScaler(device, init_scale=128.0, growth_interval=3, enabled=mixed and dtype == gf.float16)
    found = []
    for i in range(steps):
        optimizer.zero_grad()
        with gf.autocast(device, dtype, enabled=mixed):
            out = model(x)
            assert out.dtype == dtype
            loss = F.cross_entropy(out, y)
        scaler.scale(loss * (np.inf if i in bad else 1)).backward()
        scaler.step(optimizer)
        scaler.update()
        found.append(loss)
    return [float(v) for v in found], [p.detach().float().cpu().numpy() for p in model.parameters()], scaler


@pytest.mark.parametrize("name", ["mlp", "conv"])
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_nets_learn_in_half_types(name, mixed, dtype):
    full, *_ = losses(nets()[name], gf.float32)
    half, *_ = losses(nets()[name], getattr(gf, dtype), mixed=mixed)
    assert half[-1] < 0.7 * half[0]
    np.testing.assert_allclose(half, full, atol=0.02 if dtype == "float16" else 0.15)


@pytest.mark.reference
def test_mixed_precision_as_pytorch():
    torch = pytest.importorskip("torch")
    model = nets()["conv"]
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 3, padding=1), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(),
        torch.nn.Linear(72, 4),
    )  # fmt: skip
    theirs.load_state_dict({k: torch.tensor(v.numpy()) for k, v in model.state_dict().items()})
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((16, 1, 6, 6)).astype("f"), rng.integers(0, 4, 16)
    with gf.autocast("cpu"):
        a = F.cross_entropy(model(gf.tensor(x)), gf.tensor(y))
    with torch.autocast("cpu"):
        b = torch.nn.functional.cross_entropy(theirs(torch.tensor(x)), torch.tensor(y))
    a.backward()
    b.backward()
    assert str(a.dtype) == str(b.dtype).removeprefix("torch.") and abs(a.item() - b.item()) < 0.01
    for p, q in zip(model.parameters(), theirs.parameters(), strict=True):
        assert str(p.grad.dtype) == str(q.grad.dtype).removeprefix("torch.")
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), atol=0.02)


def test_fit_in_mixed_precision(tmp_path):
    rng = np.random.default_rng(0)
    d = gf.data.TensorDataset(gf.tensor(rng.standard_normal((32, 36)).astype("f")), gf.tensor(rng.integers(0, 4, 32)))

    def fit(epochs, path=None, **options):
        gf.manual_seed(0)
        model = nets()["mlp"]
        optimizer = gf.optim.Adam(model.parameters(), lr=1e-2)
        loader = gf.data.DataLoader(d, 8, shuffle=True, generator=Generator(1))
        options |= {"epochs": epochs, "report": None, "checkpoint": path, "resume": True}
        return gf.train.fit(model, nn.CrossEntropyLoss(), optimizer, loader, loader, **options)

    plain = fit(3)
    for precision in (True, gf.float16, gf.bfloat16):
        mixed = fit(3, amp=precision, clip_norm=10.0)
        np.testing.assert_allclose(mixed["loss"], plain["loss"], rtol=0.05)
        assert mixed["loss"] != plain["loss"] and mixed["valid_loss"][-1] < mixed["loss"][0]
    path = tmp_path / "run.safetensors"
    fit(2, path, amp=gf.float16)
    assert fit(3, path, amp=gf.float16)["loss"] == fit(3, amp=gf.float16)["loss"]


# --- PyTorch's names ------------------------------------------------------------------------------------


def test_programs_for_pytorch(torch):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        x = torch.rand(3, 3)
        for block in (
            torch.autocast("cpu"),
            torch.autocast(device_type="cpu", dtype=torch.bfloat16),
            torch.amp.autocast("cpu"),
            torch.cpu.amp.autocast(),
            torch.amp.autocast_mode.autocast("cpu"),
        ):
            with block:
                assert torch.is_autocast_enabled("cpu") and torch.is_autocast_cpu_enabled()
                assert (x @ x).dtype == torch.bfloat16 and torch.get_autocast_dtype("cpu") == torch.bfloat16
        with torch.cuda.amp.autocast(), torch.autocast("cuda"):  # on a machine without a card
            assert (x @ x).dtype == torch.float32 and torch.get_autocast_gpu_dtype() == torch.float16
        p = torch.nn.Parameter(torch.ones(2))
        optimizer = torch.optim.SGD([p], lr=1.0)
        for scaler in (torch.amp.GradScaler("cpu"), torch.cuda.amp.GradScaler(), torch.GradScaler(device="cpu", enabled=False)):
            optimizer.zero_grad()
            scaler.scale(p.sum()).backward()
            scaler.step(optimizer)
            scaler.update()
        assert p.tolist() == [-2, -2]

        class Double(torch.autograd.Function):
            @staticmethod
            @torch.cuda.amp.custom_fwd(cast_inputs=torch.float32)
            def forward(ctx, x):
                return 2 * x

            @staticmethod
            @torch.cuda.amp.custom_bwd
            def backward(ctx, g):
                return 2 * g

        Double.apply(p).sum().backward()
    assert ["no card" in str(w.message) for w in told] == [True] * 3
