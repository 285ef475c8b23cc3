"""The stand-in's CUDA graphs: what a capture records, what it refuses, and memory that a graph lost."""

from __future__ import annotations

import card
import numpy as np
import pytest

DOUBLE = card.ElementwiseKernel("T x", "T y", "y = 2 * x", "twice")


@pytest.fixture
def stream():
    with card.cuda.Stream(non_blocking=True) as s:
        yield s
        if s.is_capturing():
            s.end_capture()


def captured(stream, step, pool=None):
    """(the graph of a step whose memory comes from a pool, what the step returned)."""
    with card.cuda.using_allocator((pool or card.get_default_memory_pool()).malloc):
        stream.begin_capture()
        result = step()
        return stream.end_capture(), result


def test_a_capture_does_nothing_and_a_replay_does_it_again(stream):
    x, total = card.arange(4, dtype="f4"), card.zeros(4, "f4")
    step = card.zeros(1, "i8")

    def work():
        total.__iadd__(DOUBLE(x))
        step.__iadd__(1)
        return total[step % 4]

    graph, y = captured(stream, work, pool := card.cuda.MemoryPool())
    assert total.tolist() == [0] * 4 and step.tolist() == [0] and np.isnan(y.get()).all()
    for k in (1, 2, 3):
        graph.launch()
        assert (total.tolist(), step.tolist(), y.tolist()) == ([0, 2 * k, 4 * k, 6 * k], [k], [2 * k * k])
        x.set(np.arange(4, dtype="f4"))
    assert pool.used_bytes() == 512  # y


def test_memory_freed_to_the_graphs_pool_stays_reserved(stream):
    x, pool = card.arange(1000, dtype="f4"), card.cuda.MemoryPool()
    graph, y = captured(stream, lambda: DOUBLE(DOUBLE(DOUBLE(x))), pool)
    assert pool.n_free_blocks() == 1  # the third result lies where the first was
    for _ in range(2):
        junk = [card.full(1000, 7, "f4") for _ in range(3)]
        graph.launch()
        assert (y.get() == 8 * np.arange(1000)).all() and all((j == 7).all() for j in junk)
    pool.free_all_blocks()
    with pytest.raises(card.CardError, match="gave it back to the device"):
        graph.launch()


def test_memory_that_a_graph_lost_is_named(stream):
    x = card.ones(1000, "f4")
    graph, y = captured(stream, lambda: DOUBLE(DOUBLE(x)))
    with pytest.raises(card.CardError, match="given back to the default pool"):
        graph.launch()
    pool = card.cuda.MemoryPool()
    graph, y = captured(stream, lambda: DOUBLE(DOUBLE(x)), pool)
    with card.cuda.using_allocator(pool.malloc):
        other = card.empty(1000, "f4")
    with pytest.raises(card.CardError, match="node 0, kernel twice.*handed out again"):
        graph.launch()
    del other
    graph.launch()
    assert float(y[0]) == 4
    x = None
    with pytest.raises(card.CardError, match="given back to the default pool"):
        graph.launch()


def test_two_graphs_share_a_pool(stream):
    x, pool = card.ones(10, "f4"), card.cuda.MemoryPool()
    first, y = captured(stream, lambda: DOUBLE(DOUBLE(x)), pool)
    second, z = captured(stream, lambda: DOUBLE(DOUBLE(y)), pool)
    first.launch()
    second.launch()
    assert z.tolist() == [16] * 10


def test_copies_and_fills_are_replayed(stream):
    x, y = card.arange(8, dtype="f4"), card.zeros(8, "f4")

    def work():
        y.data.memset_async(0, y.nbytes)
        y.data.copy_from_device_async(x.data, 16)
        y[6:] = 5

    graph, _ = captured(stream, work)
    y.fill(3)
    graph.launch()
    assert y.tolist() == [0, 1, 2, 3, 0, 0, 5, 5]


@pytest.mark.parametrize(
    ("error", "work"),
    [
        (RuntimeError, lambda x: x.get()),
        (RuntimeError, lambda x: x[0].item()),
        (RuntimeError, lambda x: bool(x.all())),
        (RuntimeError, lambda x: x.set(np.zeros(4, "f4"))),
        (RuntimeError, lambda x: card.asarray(np.zeros(4))),
        (RuntimeError, lambda x: card.array([1.0, 2.0])),
        (RuntimeError, lambda x: x[[0, 2]]),
        (RuntimeError, lambda x: x.data.memset(0, 16)),
        (RuntimeError, lambda x: x.data.copy_from_device(x.data, 16)),
        (card.CardError, lambda x: x[x > 1]),
        (card.CardError, lambda x: card.nonzero(x)),
        (card.CardError, lambda x: card.cuda.get_current_stream().synchronize()),
        (card.CardError, lambda x: card.cuda.Device().synchronize()),
        (NotImplementedError, lambda x: x @ x),
        (NotImplementedError, lambda x: card.linalg.inv(x.reshape(2, 2))),
        (NotImplementedError, lambda x: card.random.rand(3)),
    ],
)
def test_what_cannot_be_captured(stream, error, work):
    x, pool = card.arange(4, dtype="f4"), card.cuda.MemoryPool()

    def tries():
        with pytest.raises(error):
            work(x)
        return x[None] + 1

    graph, y = captured(stream, tries, pool)
    graph.launch()
    assert y.tolist() == [[1, 2, 3, 4]]


def test_the_default_stream_may_not_work_beside_a_blocking_capture():
    x, stream = card.ones(3), card.cuda.Stream()
    with stream:
        stream.begin_capture()
    with pytest.raises(card.CardError, match="CaptureImplicit"):
        x + 1
    stream.end_capture()
    x + 1


def test_streams_join_a_capture(stream):
    x, other = card.ones(3, "f4"), card.cuda.Stream(non_blocking=True)
    pool = card.cuda.MemoryPool()
    with card.cuda.using_allocator(pool.malloc):
        stream.begin_capture()
        other.wait_event(stream.record())
        with other:
            y = DOUBLE(x)
        stream.wait_event(other.record())
        z = DOUBLE(y)
        graph = stream.end_capture()
    graph.launch()
    assert z.tolist() == [4] * 3 and not other.is_capturing()
    stream.begin_capture()
    other.wait_event(stream.record())
    with pytest.raises(card.CardError, match="Unjoined"):
        stream.end_capture()


def test_events(stream):
    start, end = card.cuda.Event(), card.cuda.Event(disable_timing=True)
    with pytest.raises(card.CardError, match="never recorded"):
        card.cuda.get_elapsed_time(start, start)
    start.record()
    end.record()
    assert card.cuda.get_elapsed_time(start, stream.record()) >= 0
    with pytest.raises(card.CardError, match="without timing"):
        card.cuda.get_elapsed_time(start, end)


def pinned(values):
    host = np.frombuffer(card.cuda.alloc_pinned_memory(4 * len(values)), "f4", len(values))
    host[...] = values
    return host


def test_copies_happen_as_late_as_they_may():
    x, host, copying = card.empty(4, "f4"), pinned([1, 2, 3, 4]), card.cuda.Stream(non_blocking=True)
    x.set(host, stream=copying)
    done = copying.record()
    assert not done.done and np.isnan((x + 0).get()).all()  # nothing waited for the copy
    card.cuda.get_current_stream().wait_event(done)
    assert done.done and (x + 1).tolist() == [2, 3, 4, 5]
    x.set(host, stream=copying)
    host[...] = 9  # before the copy was done
    copying.synchronize()
    assert x.tolist() == [9] * 4
    pageable = np.ones(4, "f4")
    x.set(pageable, stream=copying)
    pageable[...] = 7
    copying.synchronize()
    assert x.tolist() == [1] * 4
    with copying:
        x.data.copy_from_host_async(host.ctypes.data, 16)
        assert (x + 0).tolist() == [9] * 4  # the same stream comes after


def test_a_source_that_went_too_early():
    x, host, copying = card.empty(4, "f4"), pinned([1, 2, 3, 4]), card.cuda.Stream(non_blocking=True)
    x.set(host, stream=copying)
    host = None
    with pytest.raises(card.CardError, match="freed before"):
        copying.synchronize()


def test_results_come_late():
    x, host, copying = card.ones(4, "f4"), pinned([0] * 4), card.cuda.Stream(non_blocking=True)
    card.counts.reset()
    x.get(stream=copying, out=host, blocking=False)
    assert np.isnan(host).all() and card.counts.host_copies == 0
    card.cuda.Device().synchronize()
    assert host.tolist() == [1] * 4 and card.counts.synchronisations == 1
    blocking = card.cuda.Stream()
    x.data.copy_to_host_async(host.ctypes.data, 8, blocking)
    x + 1  # the default stream waits for blocking ones
    assert host.tolist() == [1] * 4
