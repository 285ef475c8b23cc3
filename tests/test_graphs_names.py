"""What cannot be captured, and PyTorch's names: CUDAGraph, blocks, graphed callables."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from captured import Small, alike, on_card
from tolerance import assert_close

import gradflow as gf
from gradflow import backend, nn, optim
from gradflow.backend import capture
from gradflow.graphs import recording

pytestmark = pytest.mark.cuda


# --- what cannot be captured ----------------------------------------------------------------------------

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
    assert text.startswith(f"graph: {name} at ") and f"test_graphs_names.py:{line} " in text, text
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


# --- PyTorch's names ------------------------------------------------------------------------------------


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


@pytest.mark.usefixtures("stand_in")
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


@pytest.mark.usefixtures("stand_in")
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
