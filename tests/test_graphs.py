"""CUDA graphs: captured steps give the bits of eager ones, with new inputs, rates, counts and random numbers each time."""

from __future__ import annotations

import gc
import inspect

import numpy as np
import pytest
from tolerance import assert_close

import gradflow as gf
from gradflow import backend, nn, optim
from gradflow.autograd.checkpoint import checkpoint
from gradflow.backend import capture
from gradflow.cuda import optim as cuda_optim
from gradflow.graphs import recording
from gradflow.graphs.capture import Pool

pytestmark = pytest.mark.cuda


def on_card(shape, seed=0):
    return gf.tensor(np.random.default_rng(seed).standard_normal(shape).astype("f"), device="cuda")


class Small:
    """A model without matrix products, its optimizer and schedule, and the step that trains it."""

    def __init__(self, make=lambda p: optim.Adam(p, lr=1e-2, weight_decay=0.1), schedule=None, drop=0.25, clip=0.5):
        gf.manual_seed(3)
        self.w = nn.Parameter(on_card((24,), 1))
        self.body = nn.Sequential(nn.LayerNorm(24), nn.GELU(), nn.Dropout(drop)).to("cuda")
        self.params = [*self.body.parameters(), self.w]
        self.optimizer = make(self.params)
        self.schedule = schedule and schedule(self.optimizer)
        self.clip = clip

    def step(self, x):
        self.optimizer.zero_grad()
        loss = ((self.body(x) * self.w) ** 2).mean()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.params, self.clip)
        self.optimizer.step()
        if self.schedule:
            self.schedule.step()
        return loss, norm

    def numbers(self):
        state = [v.cpu().numpy() for p in self.params for v in self.optimizer.state[p].values()]
        return [p.numpy(force=True) for p in self.params] + state


def run(model, step, steps=7, rows=4, first=0):
    """The losses and norms of some steps, each of other inputs."""
    return [tuple(v.item() for v in step(on_card((rows, 24), 10 + i))) for i in range(first, first + steps)]


def alike(a, b):
    for x, y in zip(a.numbers(), b.numbers(), strict=True):
        np.testing.assert_array_equal(x, y)
    assert a.optimizer.param_groups[0]["lr"] == b.optimizer.param_groups[0]["lr"]


SCHEDULES = {
    "StepLR": lambda o: optim.lr_scheduler.StepLR(o, 2, 0.5),
    "OneCycleLR": lambda o: optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=20),
    "SequentialLR": lambda o: optim.lr_scheduler.SequentialLR(
        o, [optim.lr_scheduler.ConstantLR(o, 0.5), optim.lr_scheduler.ExponentialLR(o, 0.9)], [3]
    ),
    "ChainedScheduler": lambda o: optim.lr_scheduler.ChainedScheduler(
        [optim.lr_scheduler.ExponentialLR(o, 0.9), optim.lr_scheduler.StepLR(o, 2, 0.5)]
    ),
}


# --- whole steps ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_captured_step_gives_the_bits_of_an_eager_one(schedule, card):
    """Dropout, clipping, Adam and a schedule, which moves beta1 too (OneCycleLR)."""
    a, b = Small(schedule=SCHEDULES[schedule]), Small(schedule=SCHEDULES[schedule])
    gf.manual_seed(5)
    eager = run(a, a.step)
    state = backend.default_generator.get_state()
    gf.manual_seed(5)
    assert run(b, gf.cuda.graph(b.step)) == eager
    assert backend.default_generator.get_state() == state
    alike(a, b)
    assert len({loss for loss, _ in eager}) == 7


OPTIMIZERS = {
    "SGD": lambda p: optim.SGD(p, lr=0.1),
    "momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.1, nesterov=False),
    "AdamW": lambda p: optim.AdamW(p, lr=0.1, amsgrad=True),
    "RMSprop": lambda p: optim.RMSprop(p, momentum=0.9, centered=True),
    "Adagrad": lambda p: optim.Adagrad(p, lr=0.1, lr_decay=0.1),
    "Adadelta": optim.Adadelta,
    "Adamax": optim.Adamax,
    "RAdam": lambda p: optim.RAdam(p, lr=0.1, betas=(0.9, 0.8)),
    "Rprop": optim.Rprop,
    "NAdam": optim.NAdam,
    "ASGD": lambda p: optim.ASGD(p, lr=0.1, lambd=0.1, t0=1),
    "Adafactor": optim.Adafactor,
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the stand-in works while it captures, before numbers are sent
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_goes_on_counting(name, card):
    a, b = Small(OPTIMIZERS[name], drop=0.0), Small(OPTIMIZERS[name], drop=0.0)
    eager, captured = run(a, a.step), run(b, gf.cuda.graph(b.step))
    if name in ("NAdam", "ASGD", "Adafactor"):  # what follows from counts is worked out on the card: to rounding
        assert_close(np.array(captured, "f"), np.array(eager, "f"), scale=8)
    else:
        assert captured == eager
        alike(a, b)


def test_a_replay_is_a_copy_of_inputs_one_of_numbers_and_one_launch(card):
    m = Small(schedule=SCHEDULES["StepLR"])
    step = gf.cuda.graph(m.step)
    x = on_card((4, 24))
    for _ in range(3):
        step(x)
    with card.launches() as work:
        step(x)
    assert [w.kind for w in work] == ["routine", "upload", "graph"]
    plain = Small(lambda p: optim.SGD(p, lr=0.1), drop=0.0)
    step = gf.cuda.graph(plain.step)
    for _ in range(4):
        step(x)
    with card.launches() as work:
        step(x)
    assert [w.kind for w in work] == ["routine", "graph"]  # nothing changes from step to step


def test_more_replays_under_way_than_rows_to_send_from(card, monkeypatch):
    monkeypatch.setattr(recording, "AHEAD", 2)
    a, b = Small(), Small()
    gf.manual_seed(5)
    eager = run(a, a.step, 9)
    gf.manual_seed(5)
    step = gf.cuda.graph(b.step)
    assert run(b, step, 9) == eager
    x = on_card((4, 24))
    with card.launches() as work:
        step(x)
    assert [w.kind for w in work] == ["routine", "wait", "upload", "graph"]  # until the row was read


def test_a_rate_that_the_program_sets_is_seen(card):
    a, b = (Small(lambda p: optim.SGD(p, lr=0.1, momentum=0.5), drop=0.0) for _ in range(2))
    step = gf.cuda.graph(b.step)
    for i in range(7):
        for m, f in ((a, a.step), (b, step)):
            m.optimizer.param_groups[0].update(lr=0.1 / (i + 1), momentum=0.1 * i + 0.1)
            f(on_card((4, 24), i))
    alike(a, b)


def test_another_seed_or_a_draw_between_replays_is_seen(card):
    a, b = Small(), Small()
    step = gf.cuda.graph(b.step)
    seen = []
    for m, f in ((a, a.step), (b, step)):
        gf.manual_seed(5)
        losses = run(m, f, 4)
        gf.manual_seed(11)
        losses += run(m, f, 2, first=4)
        gf.rand(100)
        losses += run(m, f, 2, first=6)
        seen.append(losses)
    assert seen[0] == seen[1]


def test_generators_of_ones_own_and_recomputed_parts_draw_what_they_do_eagerly(card):
    from gradflow.ops import random

    def make(own):
        w = nn.Parameter(on_card((50,), 2))

        def part(x):
            return nn.functional.dropout(x * w, 0.5)

        def step(x):
            w.grad = None
            noise = random.normal((50,), np.float32, card, own)
            y = checkpoint(part, x + gf.tensor(noise), use_reentrant=False)
            y.sum().backward()
            return w.grad, gf.tensor(noise)

        return step

    out = []
    for graphed in (False, True):
        gf.manual_seed(1)
        own = gf.Generator(9)
        step = make(own)
        step = gf.cuda.graph(step) if graphed else step
        out.append([[v.cpu().numpy().copy() for v in step(on_card((50,), i))] for i in range(5)])
        assert own.counter == 5 * 7
    np.testing.assert_array_equal(np.array(out[0]), np.array(out[1]))


def test_definitions_of_gradients_are_restored_after_eager_steps_between(card):
    a, b = Small(), Small()
    step = gf.cuda.graph(b.step)
    for i in range(8):
        x = on_card((4, 24), i)
        gf.manual_seed(i)
        a.step(x)
        gf.manual_seed(i)
        (b.step if i in (4, 6) else step)(x)
        for p, q in zip(a.params, b.params, strict=True):
            np.testing.assert_array_equal(p.grad.cpu().numpy(), q.grad.cpu().numpy())
    alike(a, b)


def test_gradients_that_were_there_before_grow_in_place(card):
    w = nn.Parameter(on_card((6,), 1))

    def step(x):
        (w * x).sum().backward()

    step = gf.cuda.graph(step)
    total = np.zeros(6, np.float32)
    for i in range(6):
        x = on_card((6,), i)
        step(x)
        total += x.cpu().numpy()
        np.testing.assert_array_equal(w.grad.cpu().numpy(), total)


def test_batch_norm_counts_and_moves_its_statistics(card):
    nets = [nn.BatchNorm1d(5).to("cuda") for _ in range(2)]
    steps = [lambda x, n=n: n(x).sum() for n in nets]
    steps[1] = gf.cuda.graph(steps[1])
    for i in range(6):
        for f in steps:
            f(on_card((8, 5), i))
    for a, b in zip(nets[0].buffers(), nets[1].buffers(), strict=True):
        np.testing.assert_array_equal(a.cpu().numpy(), b.cpu().numpy())
    assert nets[1].num_batches_tracked.item() == 6


def test_many_arrays_are_joined(card):
    def step(x):
        parts = x.split(1)
        return gf.cat([p * i for i, p in enumerate(parts)], 1), gf.stack([p + i for i, p in enumerate(parts)], -1)

    captured = gf.cuda.graph(step)
    for i in range(4):
        for a, b in zip(captured(on_card((12, 3), i)), step(on_card((12, 3), i)), strict=True):
            np.testing.assert_array_equal(a.cpu().numpy(), b.cpu().numpy())


# --- inputs and memory ------------------------------------------------------------------------------------


def test_other_shapes_are_captured_anew_up_to_a_limit(card):
    a, b = Small(), Small()
    step = gf.cuda.graph(b.step, limit=2)
    rows = [4, 4, 6, 4, 4, 6, 6, 6, 4]
    out = []
    for m, f in ((a, a.step), (b, step)):
        gf.manual_seed(5)
        out.append([run(m, f, 1, n, i)[0] for i, n in enumerate(rows)])
    assert out[0] == out[1]
    alike(a, b)
    with pytest.raises(RuntimeError, match=r"graph: wanted at most limit=2 kinds of inputs, saw another one, \(\(3, 24\)"):
        step(on_card((3, 24)))


def test_inputs_that_cannot_be_copied_are_refused(card):
    step = gf.cuda.graph(lambda x, k=1: x * k)
    with pytest.raises(RuntimeError, match="wanted inputs on the card that require no gradient, saw one on the cpu as input 0"):
        step(gf.ones(3))
    with pytest.raises(RuntimeError, match="saw a NumPy array as input 1"):
        step(on_card(3), np.ones(3))
    with pytest.raises(RuntimeError, match="requires a gradient"):
        step(on_card(3).requires_grad_())
    with pytest.raises(ValueError, match="warmup"):
        gf.cuda.graph(lambda x: x, warmup=0)
    with pytest.raises(TypeError, match="wanted a CUDAGraph or a function"):
        gf.cuda.graph(3)


def test_constants_and_trees_of_inputs(card):
    seen = []

    @gf.cuda.graph
    def step(batch, factor):
        seen.append(factor)
        return {"y": [batch["x"] * factor], "name": "z"}

    for i in range(5):
        for factor in (2.0, 3.0):
            x = on_card(4, i)
            y = step({"x": x}, factor=factor)
            np.testing.assert_array_equal(y["y"][0].cpu().numpy(), x.cpu().numpy() * np.float32(factor))
    assert seen == [2.0, 3.0] * 3 and y["name"] == "z"
    assert step.__name__ == "step"

    class Scale:
        by = 3

        @gf.cuda.graph
        def step(self, x):
            return x * self.by

    scale = Scale()
    for i in range(4):
        np.testing.assert_array_equal(scale.step(on_card(4, i)).cpu().numpy(), on_card(4, i).cpu().numpy() * np.float32(3))


def test_memory_of_a_graph_is_its_own(card):
    """The stand-in checks at every launch that no block of the graph is anybody else's; poisoned memory would show."""
    m, other = Small(), Small()
    step = gf.cuda.graph(m.step)
    gf.manual_seed(5)
    first = run(m, step, 4)
    others = [on_card((4, 24), i) for i in range(50)]
    run(other, other.step, 3)
    gc.collect()
    again = run(m, step, 2, first=4)
    del others
    gf.manual_seed(5)
    plain = Small()
    gf.manual_seed(5)
    assert run(plain, plain.step, 4) == first
    for _ in range(3):  # what `other` drew
        backend.default_generator.reserve(2 * 4 * 24 // 4)
    assert len(again) == 2


def test_constants_of_a_capture_lie_where_no_other_work_writes(card):
    x, values = on_card(60), np.arange(60, dtype=np.float32)
    g = gf.cuda.CUDAGraph()
    with gf.cuda.graph(g):
        y = x * 2
        del y
        constant = capture.graph.constant(values)
        z = gf.tensor(constant) + x
        del constant
    others = [on_card(60) for _ in range(20)]
    for _ in range(2):
        g.replay()
        np.testing.assert_array_equal(z.cpu().numpy(), values + x.cpu().numpy())
    del others


def test_what_plain_calls_make_between_replays_is_no_memory_of_a_graph(card):
    step = gf.cuda.graph(lambda x: (x * 2).exp().log())
    x, other = on_card((24,)), on_card((2, 12), 1)
    for _ in range(3):
        step(x)
    kept = step(other)  # of as many bytes as what the graph made and freed inside
    values = kept.cpu().numpy()
    for i in range(3):
        step(on_card((24,), i))
    np.testing.assert_array_equal(kept.cpu().numpy(), values)
    for _ in range(3):
        y = step(other)
        np.testing.assert_array_equal(y.cpu().numpy(), values)
        step(x)


def test_tables_that_a_graph_reads_stay(card):
    """Captured after the same step ran eagerly: the table of addresses is the cached one."""
    w = nn.Parameter(on_card(100))
    w.grad = on_card(100, 1)
    o = optim.SGD([w], lr=0.5)
    o.step()
    g = gf.cuda.CUDAGraph()
    with gf.cuda.graph(g):
        o.step()
    cuda_optim._tables.clear()
    gc.collect()
    others = [on_card(n) for n in range(1, 60)]
    g.replay()
    assert_close(w.numpy(force=True), on_card(100).cpu().numpy() - on_card(100, 1).cpu().numpy())
    del others


def test_kinds_of_inputs_share_memory(card):
    def used(sizes):
        step = gf.cuda.graph(lambda x: (((x * 2).exp() + 1).log() * x).sum())
        for n in sizes:
            for _ in range(4):
                step(on_card(n))
        return step._pool.total_bytes()

    alone = used([1 << 14])
    assert used([1 << 14, (1 << 14) - 0]) == alone
    both = used([(2, 1 << 13), (1 << 14,)])
    assert both < 1.5 * alone


def test_a_graph_that_is_gone_gives_its_memory_back(card):
    def use():
        step = gf.cuda.graph(lambda x: (x * 2).exp())
        for _ in range(4):
            step(on_card(1000))
        return step._pool

    pool = use()
    gc.collect()
    assert pool.used_bytes() == 0
    w = nn.Parameter(on_card(64))
    o = optim.Adam([w])

    def train(x):
        o.zero_grad()
        (w * x).sum().backward()
        o.step()

    before = list(Pool._outlived)
    step = gf.cuda.graph(train)
    for _ in range(4):
        step(on_card(64))
    del step, train, pool
    gc.collect()
    gf.cuda.graph_pool_handle()
    (of,) = [pool for pool in Pool._outlived if pool not in before]  # of the optimizer's state, which the first step made
    assert of.used_bytes() and not of.n_free_blocks()
    assert np.isfinite(o.state[w]["exp_avg"].cpu().numpy()).all()
    w.grad = None
    o.state.clear()
    gf.cuda.graph_pool_handle()
    assert of not in Pool._outlived


def test_a_state_that_was_replaced_is_captured_anew(card):
    a, b = Small(), Small()
    step = gf.cuda.graph(b.step)
    for m, f in ((a, a.step), (b, step)):
        gf.manual_seed(5)
        run(m, f, 4)
        m.optimizer.load_state_dict(m.optimizer.state_dict())
        run(m, f, 4, first=4)
        m.optimizer.param_groups[0]["weight_decay"] = 0.5
        run(m, f, 4, first=8)
    alike(a, b)


def test_a_hyperparameter_that_always_changes_is_refused(card):
    m = Small()
    step = gf.cuda.graph(m.step, warmup=1)

    def go_on():
        for i in range(60):
            m.optimizer.param_groups[0]["weight_decay"] = 0.001 * i
            step(on_card((4, 24)))

    with pytest.raises(RuntimeError, match=r"captured 17 times, the last time as .*a hyperparameter"):
        go_on()


# --- what cannot be captured ------------------------------------------------------------------------------

REFUSED = {
    ".item()": lambda t: t.sum().item(),
    "float()": lambda t: float(t.sum()),
    "bool()": lambda t: 1 if t.sum() > 0 else 2,
    ".tolist()": lambda t: t.tolist(),
    "print": lambda t: repr(t),
    "cpu": lambda t: t.cpu(),
    "nonzero": lambda t: gf.nonzero(t),
    "unique": lambda t: gf.unique(t),
    "masked_select": lambda t: gf.masked_select(t, t > 0),
    "tensor": lambda t: t + gf.tensor([1.0, 2.0, 3.0, 4.0], device="cuda"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_captured_is_named_with_its_line(name, card):
    function = REFUSED[name]
    w = nn.Parameter(on_card(4))
    o = optim.SGD([w], lr=0.1, momentum=0.9)

    def step(x):
        o.zero_grad()
        loss = (nn.functional.dropout(x) * w).sum()
        loss.backward()
        o.step()
        return function(w.detach())

    captured = gf.cuda.graph(step)
    captured(on_card(4))
    captured(on_card(4))
    line = inspect.getsourcelines(function)[1]
    with pytest.raises(RuntimeError) as e:
        captured(on_card(4))
    text = str(e.value)
    assert text.startswith(f"graph: {name} at ") and f"test_graphs.py:{line} " in text, text
    assert not gf.cuda.is_current_stream_capturing() and capture.graph is None and w.grad is None
    step(on_card(4))  # all is usable afterwards
    assert np.isfinite(w.numpy(force=True)).all()
    again = gf.cuda.graph(lambda x: x * 2)
    for _ in range(4):
        y = again(on_card(4))
    np.testing.assert_array_equal(y.cpu().numpy(), on_card(4).cpu().numpy() * 2)


def test_an_error_of_the_programs_own_passes_through(card):
    calls = []

    def step(x):
        calls.append(1)
        if len(calls) == 3:
            raise KeyError("mine")
        return x * 2

    step = gf.cuda.graph(step)
    for _ in range(2):
        step(on_card(4))
    with pytest.raises(KeyError, match="mine"):
        step(on_card(4))
    assert not gf.cuda.is_current_stream_capturing() and capture.graph is None
    for _ in range(3):
        y = step(on_card(4, 1))
    np.testing.assert_array_equal(y.cpu().numpy(), on_card(4, 1).cpu().numpy() * 2)


def test_a_first_step_inside_a_capture_is_refused(card):
    w = nn.Parameter(on_card(4))
    w.grad = on_card(4)
    g = gf.cuda.CUDAGraph()
    with pytest.raises(RuntimeError, match="Adam: wanted a step before the capture"), gf.cuda.graph(g):
        optim.Adam([w]).step()
    with pytest.raises(RuntimeError, match="wanted a capture before replay"):
        g.replay()


# --- PyTorch's names --------------------------------------------------------------------------------------


def test_what_counts_on_the_host_is_refused(card):
    net = nn.Linear(2, 2).to("cuda")
    mean = optim.swa_utils.AveragedModel(net)
    with pytest.raises(RuntimeError, match="wanted update_parameters"), gf.cuda.graph(gf.cuda.CUDAGraph()):
        mean.update_parameters(net)
    w = nn.Parameter(on_card(3))
    o = optim.SGD([w], lr=gf.tensor(0.1, device="cuda"))
    schedule = optim.lr_scheduler.StepLR(o, 1)
    w.grad = on_card(3)
    o.step()
    with pytest.raises(RuntimeError, match="wanted lr as a number in a step that is captured"), gf.cuda.graph(gf.cuda.CUDAGraph()):
        schedule.step()


def test_a_block_is_captured_and_replayed(card):
    x, w = on_card(100), on_card(100, 1)
    g, h = gf.cuda.CUDAGraph(), gf.cuda.CUDAGraph()
    assert not gf.cuda.is_current_stream_capturing()
    with gf.cuda.graph(g):
        assert gf.cuda.is_current_stream_capturing()
        y = (x * w).exp()
    with gf.cuda.graph(h, pool=g.pool(), stream=gf.cuda.Stream()):
        z = nn.functional.dropout(y, 0.5)
    for i in range(3):
        x.copy_(on_card(100, 5 + i))
        gf.manual_seed(i)
        g.replay()
        h.replay()
        expected = np.exp(on_card(100, 5 + i).cpu().numpy() * w.cpu().numpy())
        assert_close(y.cpu().numpy(), expected)
        gf.manual_seed(i)
        np.testing.assert_array_equal(z.cpu().numpy(), nn.functional.dropout(y, 0.5).cpu().numpy())
    with pytest.raises(RuntimeError, match="new graph, or reset"), gf.cuda.graph(g):
        pass
    with pytest.raises(RuntimeError, match=r"replay\(\) outside of a capture"), gf.cuda.graph(gf.cuda.CUDAGraph()):
        g.replay()
    with pytest.raises(RuntimeError, match="one capture at a time"), gf.cuda.graph(gf.cuda.CUDAGraph()):  # noqa: SIM117
        with gf.cuda.graph(gf.cuda.CUDAGraph()):
            pass
    assert not gf.cuda.is_current_stream_capturing()
    g.reset()
    with pytest.raises(RuntimeError, match="before replay"):
        g.replay()
    with pytest.raises(RuntimeError, match="capture_begin"):
        g.capture_end()


def test_a_capture_that_fails_at_its_end_leaves_nothing(card, monkeypatch, tmp_path):
    g = gf.cuda.CUDAGraph()
    with pytest.raises(RuntimeError, match="before debug_dump"):
        g.debug_dump(str(tmp_path / "g"))
    state = backend.default_generator.get_state()

    def fail(self):
        self._capture.end()
        self._capture = None
        raise card.CardError("cudaErrorStreamCaptureInvalidated")

    x = on_card(5)
    with monkeypatch.context() as m:
        m.setattr(card.cuda.Stream, "end_capture", fail)
        with pytest.raises(card.CardError), gf.cuda.graph(g):
            nn.functional.dropout(x, 0.5)
    assert backend.default_generator.get_state() == state and capture.graph is None
    with pytest.raises(RuntimeError, match="before replay"):
        g.replay()
    with gf.cuda.graph(g):
        on_card_twice = gf.zeros(3, device="cuda") + 2
    g.replay()
    g.debug_dump(str(tmp_path / "g"))
    assert "digraph" in (tmp_path / "g").read_text() and on_card_twice.sum().item() == 6


def test_a_whole_step_by_hand(card):
    """The recipe of PyTorch's documentation: a warm-up on a side stream, then the capture."""
    a, b = Small(drop=0.0), Small(drop=0.0)
    x = on_card((4, 24))
    side = gf.cuda.Stream()
    side.wait_stream(gf.cuda.current_stream())
    with gf.cuda.stream(side):
        for _ in range(3):
            b.step(x)
    gf.cuda.current_stream().wait_stream(side)
    g = gf.cuda.CUDAGraph()
    with gf.cuda.graph(g):
        loss, _ = b.step(x)
    losses = []
    for i in range(4):
        x.copy_(on_card((4, 24), i))
        g.replay()
        losses.append(loss.item())
    for _ in range(3):
        a.step(on_card((4, 24)))
    assert [a.step(on_card((4, 24), i))[0].item() for i in range(4)] == losses
    alike(a, b)
    b.optimizer.load_state_dict(b.optimizer.state_dict())
    with pytest.raises(recording.Stale, match="the state of Adam is another one"):
        g.replay()


def test_graphed_callables(card):
    def make():
        gf.manual_seed(2)
        first = nn.Sequential(nn.LayerNorm(24), nn.GELU(), nn.Dropout(0.5)).to("cuda")
        second = nn.LayerNorm(24).to("cuda")
        return first, second, lambda y, x: ((y * x) ** 2).mean()

    out = []
    for graphed in (False, True):
        first, second, last = make()
        if graphed:
            sample = lambda: on_card((4, 24), 9).requires_grad_()
            made = gf.cuda.make_graphed_callables((first, second, last), ((sample(),), (sample(),), (sample(), on_card((4, 24)))))
            assert made[0] is first and made[1] is second
            last = made[2]
        params = [*first.parameters(), *second.parameters()]
        o = optim.SGD(params, lr=0.1)
        gf.manual_seed(7)
        losses = []
        for i in range(5):
            x = on_card((4, 24), i).requires_grad_()
            o.zero_grad()
            with card.launches() as work:
                loss = last(second(first(x)), on_card((4, 24), 50 + i))
                loss.backward()
            o.step()
            losses += [loss.item(), x.grad.cpu().numpy().sum()]
        out.append((losses, [p.numpy(force=True) for p in params]))
        if graphed:
            assert len(work.of("graph")) == 6 and not work.of("kernel")
            first.eval()
            y = first(on_card((2, 24)))  # eagerly, in any shape
            assert y.shape == (2, 24)
            with pytest.raises(RuntimeError, match="like the samples"):
                second(on_card((2, 24)))
    assert out[0][0] == out[1][0]
    for x, y in zip(out[0][1], out[1][1], strict=True):
        np.testing.assert_array_equal(x, y)


def test_one_graphed_function_and_its_errors(card):
    f = gf.cuda.make_graphed_callables(lambda x, w: (x * w, (x > 0)), (on_card(5), on_card(5, 1).requires_grad_()))
    for i in range(3):
        w = on_card(5, 3).requires_grad_()
        y, positive = f(on_card(5, i), w)
        y.sum().backward()
        np.testing.assert_array_equal(w.grad.cpu().numpy(), on_card(5, i).cpu().numpy())
        assert not positive.requires_grad
    with pytest.raises(ValueError, match="samples for 1 callables"):
        gf.cuda.make_graphed_callables((lambda x: x,), ())
    with pytest.raises(RuntimeError, match="on the card as samples"):
        gf.cuda.make_graphed_callables(lambda x: x, (gf.ones(3),))


# --- what a gradient scaler tells an optimizer ------------------------------------------------------------


@pytest.mark.parametrize("where", ["cpu", "cuda", "gaps"])
@pytest.mark.parametrize("name", [*OPTIMIZERS, "Muon"])
def test_a_scaled_step_divides_and_may_be_skipped(name, where, card):
    """With grad_scale and found_inf a step is that of the gradients divided, or none at all, counts included."""
    device = "cpu" if where == "cpu" else "cuda"
    scale = gf.tensor([8.0], device=device)

    def make():
        base = on_card((9, 4), 1).to(device)
        return base.t().detach()[::3].requires_grad_() if where == "gaps" else base.requires_grad_()

    plain, scaled = make(), make()
    make = OPTIMIZERS.get(name, optim.Muon)
    a, b = make([plain]), make([scaled])
    assert b._step_supports_amp_scaling
    for i in range(5):
        g = on_card(tuple(plain.shape), 20 + i).to(device)
        found = i == 2
        waits = card.counts.host_copies
        b.grad_scale, b.found_inf = scale, gf.tensor([float(found)], device=device)
        scaled.grad = g * 8 if not found else g * float("inf")
        b.step()
        if device == "cuda":
            assert card.counts.host_copies == waits
        b.grad_scale = b.found_inf = None
        if not found:
            plain.grad = g
            a.step()
    assert_close(scaled.numpy(force=True), plain.numpy(force=True), scale=16)
    if "step" in a.state[plain]:
        assert b.state[scaled]["step"].item() == a.state[plain]["step"].item() == 4


def test_a_captured_step_is_skipped_on_the_card(card):
    a, b = nn.Parameter(on_card(50)), nn.Parameter(on_card(50))
    o, q = optim.Adam([a], lr=0.1), optim.Adam([b], lr=0.1)
    found = gf.zeros(1, device="cuda")

    def step(g, infinite):
        b.grad = g * 4
        found.copy_(infinite)
        q.grad_scale, q.found_inf = four, found
        q.step()
        q.grad_scale = q.found_inf = None

    four = gf.tensor([4.0], device="cuda")
    step = gf.cuda.graph(step)
    for i in range(8):
        skipped = i in (1, 4, 5)
        step(on_card(50, i), gf.tensor([float(skipped)], device="cuda"))
        if not skipped:
            a.grad = on_card(50, i)
            o.step()
    assert_close(b.numpy(force=True), a.numpy(force=True))
    assert q.state[b]["step"].item() == 5
