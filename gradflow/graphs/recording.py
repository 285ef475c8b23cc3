"""Recording: what the replays of a captured graph do on the host, and the numbers that they send to the card."""

from __future__ import annotations

from collections.abc import Callable
from operator import is_
from typing import Any

import numpy as np

from ..backend import Array, Generator
from ..cuda.random import Replayed

CAPACITY = 1024  # numbers that one graph may send, 8 bytes each
PLAIN = (int, float, str, tuple)  # what is compared by value
AHEAD = 32  # replays that may be under way before the host waits for the oldest one's numbers to be sent


class Stale(RuntimeError):
    """What a graph was captured with is no longer what the program has."""


class Recording:
    """The host's part of one captured graph.

    While the graph is captured (it is then backend.capture.graph) optimizers, schedules and generators say here what each
    replay must do again. A number that changes from replay to replay, a learning rate or a count of steps, is a slot in one
    small array on the card. Before each replay the host's work is done again, in its order, and all slots that changed go to
    the card as one copy from pinned memory. The host's work of the first replay was done by the capture itself.
    """

    def __init__(self, cp: Any) -> None:
        self._cp = cp
        with self._apart():
            self._slots = cp.zeros(CAPACITY, np.uint64)
        self._values = np.zeros(CAPACITY, np.uint64)
        self._count, self._sent = 0, np.zeros(0, np.uint64)
        self._rows: list[tuple[np.ndarray, Any]] = []  # pinned memory to send from, each with the event of its last copy
        self._turn = -1
        self._work: list[Callable[[], Any]] = []
        self._checks: list[tuple[str, Callable[[], list[Any]], list[Any]]] = []
        self._streams: dict[int, _Stream] = {}
        self._constants: list[tuple[Array, np.ndarray]] = []
        self._leaves: dict[int, Any] = {}
        self.kept: list[Any] = []  # arrays that the graph reads and that must not go before it does
        self._inside = self._done = False

    def _apart(self) -> Any:
        """Allocations inside come from the default pool: no other work of the graph ever uses their memory."""
        return self._cp.cuda.using_allocator(self._cp.get_default_memory_pool().malloc)

    # --- while the graph is captured ---------------------------------------------------------------

    def number(self, read: Callable[[], Any], dtype: Any) -> Array:
        """A 0-d array on the card that holds what read() gives, now and before each replay."""
        i = self._take(1)
        value, at = self._values[i : i + 1].view(dtype), self._slots[i : i + 1].view(dtype)[:1].reshape(())

        def send() -> None:
            value[0] = read()

        send()
        self._work.append(send)
        return at

    def _take(self, n: int) -> int:
        self._count += n
        if self._count > CAPACITY:
            raise RuntimeError(f"graph: wanted at most {CAPACITY} numbers that change from step to step, saw more")
        return self._count - n

    def again(self, work: Callable[[], Any], already: bool = False) -> Any:
        """Do work on the host now, unless it was done already, and before each replay; what it does inside is part of it."""
        if self._inside:
            return None if already else work()
        self._work.append(work)
        if already:
            return None
        self._inside = True
        try:
            return work()
        finally:
            self._inside = False

    def same(self, what: str, read: Callable[[], list[Any]]) -> None:
        """Replays raise Stale, naming it, once read() gives other objects or numbers than now."""
        self._checks.append((what, read, read()))

    def reserved(self, generator: Generator, counter: int) -> Replayed:
        """The key of a stretch of random numbers that begins at `counter`; replays take theirs from the generator again."""
        stream = self._streams.get(id(generator))
        if stream is None:
            stream = self._streams[id(generator)] = _Stream(generator, counter, self._take(2))
            stream.key.words = self._slots[stream.at : stream.at + 2]
            self._values[stream.at] = generator.key
        if generator.key != stream.key:
            raise RuntimeError("Generator: wanted one seed throughout a step that is captured, saw another")
        return stream.key

    def constant(self, host: np.ndarray) -> Array:
        """An array on the card with these values, which no replay changes: written beside the stream that captures."""
        with self._apart(), self._cp.cuda.Stream(non_blocking=True) as beside:
            x = self._cp.empty(host.shape, host.dtype)
            x.set(host, stream=beside)
            beside.synchronize()
        self._constants.append((x, host))
        return x

    def leaf(self, tensor: Any) -> None:
        """A tensor whose grad the step writes."""
        self._leaves[id(tensor)] = tensor

    def end(self) -> None:
        """The capture is over: generators go back to its beginning, as the first replay takes its numbers too."""
        for stream in self._streams.values():
            stream.words = 4 * (stream.generator.counter - stream.first)
            stream.generator.counter = stream.first
        for x, host in self._constants:
            x.set(host)
        if self._constants:
            self._cp.cuda.get_current_stream().synchronize()
        self.grads = [(t, t.grad) for t in self._leaves.values()]

    def abandon(self) -> None:
        """The capture failed: gradients that were never computed are forgotten."""
        for stream in self._streams.values():
            stream.generator.counter = stream.first
        for t in self._leaves.values():
            t.grad = None

    # --- before each replay ------------------------------------------------------------------------

    def prepare(self, stream: Any) -> None:
        """Do the host's work of one replay and send its numbers on the stream. Stale, before anything, if it cannot be."""
        for what, read, first in self._checks:
            if not _alike(read(), first):
                raise Stale(what)
        if self._done:
            for work in self._work:
                work()
        self._done = True
        for s in self._streams.values():
            key, counter = s.generator.reserve(s.words)
            self._values[s.at], self._values[s.at + 1] = key, (counter - s.first) & (2**64 - 1)
        values = self._values[: self._count]
        if np.array_equal(values, self._sent):
            return
        self._sent = values.copy()
        if not self._rows:
            pinned = np.frombuffer(self._cp.cuda.alloc_pinned_memory(AHEAD * values.nbytes), np.uint64, AHEAD * self._count)
            self._rows = [(row, self._cp.cuda.Event(disable_timing=True)) for row in pinned.reshape(AHEAD, -1)]
        self._turn += 1
        row, sent = self._rows[self._turn % AHEAD]
        if self._turn >= AHEAD:
            sent.synchronize()
        row[:] = values
        self._slots.data.copy_from_host_async(row.ctypes.data, values.nbytes, stream)
        sent.record(stream)


class _Stream:
    """A generator from which a step draws: where it stood at the first draw, and how many words a step takes."""

    def __init__(self, generator: Generator, first: int, at: int) -> None:
        self.generator, self.first, self.at, self.words = generator, first, at, 0
        self.key = Replayed(generator.key)


def _alike(now: list[Any], first: list[Any]) -> bool:
    """Whether two lists have the same objects, or equal numbers."""
    if len(now) != len(first):
        return False
    if all(map(is_, now, first)):
        return True
    return all(a is b or (isinstance(a, PLAIN) and type(a) is type(b) and a == b) for a, b in zip(now, first, strict=True))
