"""Batches on their way to the card while it computes: in order, from page-locked memory, and nobody waits."""

from __future__ import annotations

import gc
import threading
from contextlib import nullcontext

import numpy as np
import pytest

import gradflow as gf
from gradflow import backend, data, nn
from gradflow.backend import Generator

pytestmark = pytest.mark.cuda


def pairs(n=24):
    rng = np.random.default_rng(0)
    return data.TensorDataset(gf.tensor(rng.standard_normal((n, 5)).astype("f")), gf.tensor(rng.integers(0, 3, n)))


def workers():
    return [t for t in threading.enumerate() if t.name.startswith("gradflow-data")]


@pytest.mark.usefixtures("stand_in")
def test_page_locked_tensors(card):
    x = gf.rand(3, 4)
    p = x.pin_memory()
    assert p.is_pinned() and not x.is_pinned() and p.pin_memory() is p and p.device.type == "cpu"
    assert p[1:].is_pinned() and not p.T.is_pinned()
    np.testing.assert_array_equal(p.numpy(), x.numpy())
    card.counts.reset()
    y = p.to("cuda", non_blocking=True)
    z = p.cuda(non_blocking=True) * 2
    assert card.counts.host_copies == card.counts.synchronisations == 0
    np.testing.assert_array_equal(y.cpu().numpy(), x.numpy())
    np.testing.assert_array_equal(z.cpu().numpy(), 2 * x.numpy())
    with pytest.raises(RuntimeError, match="on the CPU"):
        y.pin_memory()
    half = x.to(gf.bfloat16).pin_memory()
    assert half.is_pinned() and (half.to("cuda", non_blocking=True).cpu() == x.to(gf.bfloat16)).all()


def test_a_source_is_kept_until_it_was_copied(card):
    held = backend._held
    held.clear()
    p = gf.rand(1000).pin_memory()
    y = p.to("cuda", non_blocking=True)
    memory, exact = held[0][1][0], p.numpy().copy()
    assert memory is p.array
    del p, memory
    gc.collect()
    np.testing.assert_array_equal(y.cpu().numpy(), exact)
    gf.rand(2).pin_memory().to("cuda", non_blocking=True)
    assert len(held) <= 2


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("pin", [False, True])
@pytest.mark.parametrize("count", [0, 2])
def test_the_batches_of_a_loader(count, pin, card):
    def loader(**options):
        return data.DataLoader(pairs(), 5, shuffle=True, generator=Generator(3), **options)

    ahead = data.prefetch(loader(num_workers=count, pin_memory=pin), "cuda")
    assert len(ahead) == 5
    plain = loader()
    for _ in range(2):
        card.counts.reset()
        seen = [[t * 1 for t in batch] for batch in ahead]  # work on the loop's stream, after the copies
        assert card.counts.host_copies == card.counts.synchronisations == 0
        for a, b in zip(seen, plain, strict=True):
            for t, u in zip(a, b, strict=True):
                assert t.is_cuda
                np.testing.assert_array_equal(t.cpu().numpy(), u.numpy())
    assert not workers()


def test_other_loaders(card):
    batches = [{"x": np.full(3, i, "f"), "name": "n", "y": [gf.ones(2) * i]} for i in range(4)]
    for where in ("cuda", "cpu"):
        seen = list(data.prefetch(batches, where))
        assert [float(b["x"].sum()) for b in seen] == [0, 3, 6, 9] and seen[0]["name"] == "n"
        assert {b["y"][0].device.type for b in seen} == {where}


def test_the_next_batch_is_on_its_way_while_one_is_used(card):
    asked = []

    def loader():
        for i in range(6):
            asked.append(i)
            yield [gf.full((4,), float(i))]

    for i, (x,) in enumerate(data.prefetch(loader(), "cuda")):
        assert asked[-1] == min(i + 1, 5)
        x += 1  # in its own memory: batches do not share any
        assert x.cpu().tolist() == [i + 1] * 4


def test_streams_wait_for_each_other(card, monkeypatch):
    """The copying stream waits for the loop's before it writes into memory that may have been in use, the loop's for it."""
    log, wait, put = [], card.cuda.Stream.wait_event, card.ndarray.set
    here = card.cuda.get_current_stream()
    monkeypatch.setattr(card.cuda.Stream, "wait_event", lambda s, e: log.append("loop" if s == here else "copy") or wait(s, e))
    monkeypatch.setattr(card.ndarray, "set", lambda x, a, stream=None: log.append((stream != here) * "set") or put(x, a, stream))
    log.extend("use" for _ in data.prefetch([[gf.ones(2)] for _ in range(3)], "cuda"))
    assert log == ["copy", "set", "copy", "set", "loop", "use", "copy", "set", "loop", "use", "loop", "use"]


@pytest.mark.parametrize("end", ["break", "exception", "close"])
def test_an_early_end_leaves_nothing(end, card):
    pool = card.get_default_memory_pool()
    gc.collect()
    used = pool.used_bytes()
    ahead = data.prefetch(data.DataLoader(pairs(200), 5, num_workers=2, pin_memory=True), "cuda")

    def use():
        for _ in ahead:
            if end == "exception":
                raise KeyError
            break

    with pytest.raises(KeyError) if end == "exception" else nullcontext():
        use()
    ahead.close()
    assert not workers()
    ahead = None
    gc.collect()
    backend.hold(card.cuda.get_current_stream().record())
    assert pool.used_bytes() == used and len(backend._held) <= 1


def test_an_error_of_the_loader_comes_through(card):
    def loader():
        yield [gf.ones(2)]
        raise OSError("torn page")

    with pytest.raises(OSError, match="torn page"):
        list(data.prefetch(loader(), "cuda"))


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("amp", [None, "float16"])
def test_fit_reads_nothing_within_an_epoch(amp, graph, card):
    def fit(device, epochs=3, watch=None, **options):
        gf.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))
        optimizer = gf.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        loader = data.DataLoader(pairs(), 8, shuffle=True, generator=Generator(1), pin_memory=True, num_workers=1)
        return gf.train.fit(
            model, nn.CrossEntropyLoss(), optimizer, loader, epochs=epochs, device=device, report=None, on_epoch=watch, **options
        )

    counted = []

    def watch(epoch, row):
        counted.append((card.counts.host_copies, card.counts.synchronisations))
        card.counts.reset()

    card.counts.reset()
    options = {"amp": getattr(gf, amp) if amp else None, "graph": graph}
    there = fit("cuda", watch=watch, **options)
    assert counted[-1] == (1, 0), "one number, the loss, once an epoch"
    here = fit("cpu", amp=options["amp"])
    np.testing.assert_allclose(there["loss"], here["loss"], rtol=2e-3 if amp else 1e-5)


def test_fit_that_fails_ends_its_threads(card):
    model = nn.Linear(5, 3)
    optimizer = gf.optim.SGD(model.parameters(), lr=0.1)
    loader = data.DataLoader(pairs(), 4, num_workers=2, pin_memory=True)

    def fails(output, target):
        raise FloatingPointError

    with pytest.raises(FloatingPointError):
        gf.train.fit(model, fails, optimizer, loader, device="cuda", report=None)
    assert not workers()
