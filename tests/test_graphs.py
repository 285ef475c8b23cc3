"""CUDA graphs: captured steps give the bits of eager ones, with new inputs, rates, counts and random numbers each time."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from captured import OPTIMIZERS, SCHEDULES, Small, alike, on_card, run
from tolerance import assert_close

import gradflow as gf
from gradflow import backend, nn, optim
from gradflow.autograd.checkpoint import checkpoint
from gradflow.backend import capture
from gradflow.cuda import optim as cuda_optim
from gradflow.graphs import recording
from gradflow.graphs.capture import Pool

pytestmark = pytest.mark.cuda


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


@pytest.mark.usefixtures("stand_in")
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


@pytest.mark.usefixtures("stand_in")
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


# --- inputs and memory ----------------------------------------------------------------------------------


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
        m.optimizer.add_param_group({"params": [nn.Parameter(on_card(3))], "lr": 0.3})
        m.optimizer.param_groups[1]["params"][0].grad = on_card(3, 1)
        run(m, f, 4, first=12)
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
