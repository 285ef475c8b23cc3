"""CUDAGraph: a piece of the card's work, captured once and replayed with one launch."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, ClassVar

from .. import backend
from ..backend import need_card
from ..cuda.stream import Stream
from .recording import Recording, Stale
from .refusal import refusal

_sides: dict[int, Stream] = {}  # of each card, the stream on which graphs are captured and warmed up


def side_stream() -> Stream:
    """The stream of the current card on which graphs are captured."""
    card = need_card("cuda.graph").cuda.Device().id
    if card not in _sides:
        _sides[card] = Stream()
    return _sides[card]


class Pool:
    """Memory of graphs that are not replayed at once, and whose results are read before another one of them is replayed.

    Each graph holds its pool: what was allocated during a capture is never handed out to others. Arrays that outlive all the
    graphs keep theirs: CuPy would free the memory of a pool that is gone from under them.
    """

    _outlived: ClassVar[list[Any]] = []

    captured = False  # whether a graph has memory here: what it freed inside is not free for anything but other graphs

    def __init__(self) -> None:
        self._of = need_card("cuda.graph_pool_handle").cuda.MemoryPool()
        self.malloc = self._of.malloc

    def used_bytes(self) -> int:
        """Bytes that arrays hold."""
        return self._of.used_bytes()

    def total_bytes(self) -> int:
        """Bytes that were taken from the card."""
        return self._of.total_bytes()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # the interpreter may be on its way out
            Pool._outlived.append(self._of)
            for pool in Pool._outlived:
                pool.free_all_blocks()
            Pool._outlived[:] = [pool for pool in Pool._outlived if pool.used_bytes()]


def graph_pool_handle() -> Pool:
    """Memory that several graphs may share."""
    return Pool()


class CUDAGraph:
    """Work of the card that was captured, to be replayed with one launch. RuntimeError without a card.

    All that is allocated during the capture comes from a pool of the graph's own, which lives as long as it does: results
    stay where they are, and the next replay overwrites them. What the graph reads but did not allocate (parameters, inputs)
    must stay alive, and in its place, as long as the graph is replayed. Optimizers, schedules and generators that took part
    go on at each replay; their first replay is what they did during the capture.
    """

    def __init__(self, keep_graph: bool = False) -> None:
        self._cp = need_card("cuda.CUDAGraph")
        self._graph: Any = None
        self._pool: Any = None
        self._recording: Recording | None = None
        self._allocator: Any = None
        self._stream: Any = None

    def capture_begin(self, pool: Any = None, capture_error_mode: str = "global") -> None:
        """Begin to record the current stream, which may not be the default one, instead of running it.

        capture_error_mode is "relaxed" whatever it says: CuPy's pools may have to ask the card for memory.
        """
        if backend.capture.graph is not None:
            raise RuntimeError("CUDAGraph: wanted one capture at a time, saw one inside another")
        if self._graph is not None:
            raise RuntimeError("CUDAGraph: wanted a new graph, or reset(), for another capture")
        if not isinstance(pool, (Pool, type(None))):
            raise TypeError(f"CUDAGraph: wanted a pool of graph_pool_handle() or of a graph, saw {type(pool).__name__}")
        self._pool = Pool() if pool is None else pool
        recording = Recording(self._cp)
        self._pool.captured = True
        self._stream = self._cp.cuda.get_current_stream()
        self._stream.synchronize()  # replays on other streams come after what is made here for them
        self._allocator = self._cp.cuda.using_allocator(self._pool.malloc)
        self._allocator.__enter__()
        try:
            self._stream.begin_capture()
        except BaseException:
            self._allocator.__exit__(None, None, None)
            raise
        backend.capture.graph = self._recording = recording

    def capture_end(self) -> None:
        """End the recording; replay() runs it."""
        recording = self._finish()
        try:
            self._graph = self._stream.end_capture()
        except BaseException:
            self._recording = None
            recording.abandon()
            raise
        recording.end()

    def _finish(self) -> Recording:
        if self._recording is None or backend.capture.graph is not self._recording:
            raise RuntimeError("CUDAGraph: wanted capture_begin() before capture_end(), saw none on this thread")
        backend.capture.graph = None
        self._allocator.__exit__(None, None, None)
        return self._recording

    def abandon(self) -> None:
        """End a recording that failed: nothing of it remains, and the stream is as it was."""
        self._finish().abandon()
        with contextlib.suppress(Exception):  # the card says again that the capture failed
            self._stream.end_capture()
        self._recording = None

    def replay(self) -> None:
        """Run what was captured on the current stream. RuntimeError before a capture, or if what it was captured with, an
        optimizer's state or a hyperparameter, was replaced since.
        """
        if self._graph is None or self._recording is None:
            raise RuntimeError("CUDAGraph: wanted a capture before replay(), saw none")
        if backend.capture.graph is not None:
            raise RuntimeError("CUDAGraph: wanted replay() outside of a capture, saw one inside")
        stream = self._cp.cuda.get_current_stream()
        try:
            self._recording.prepare(stream)
        except Stale as e:
            raise Stale(f"CUDAGraph: {e} is another one than when the graph was captured: capture it anew") from None
        self._graph.launch(stream)
        for tensor, grad in self._recording.grads:
            tensor.grad = grad

    def reset(self) -> None:
        """Forget what was captured, and its memory."""
        self._graph = self._recording = self._pool = None

    def pool(self) -> Any:
        """Its memory, for another capture to share."""
        return self._pool

    def enable_debug_mode(self) -> None:
        """Nothing: debug_dump() is always there."""

    def debug_dump(self, debug_path: str) -> None:
        """Write the graph in the language of Graphviz to a file."""
        if self._graph is None:
            raise RuntimeError("CUDAGraph: wanted a capture before debug_dump(), saw none")
        Path(debug_path).write_text(self._graph.debug_dot_str())


class Block:
    """A block that a CUDAGraph captures, on a stream of its own."""

    def __init__(self, cuda_graph: CUDAGraph, pool: Any = None, stream: Stream | None = None, mode: str = "global") -> None:
        self._graph, self._pool, self._mode = cuda_graph, pool, mode
        self._stream = stream

    def __enter__(self) -> None:
        here = Stream(of=need_card("cuda.graph").cuda.get_current_stream())
        stream = self._stream or side_stream()
        stream.wait_stream(here)
        self._on = stream.of
        self._on.__enter__()
        try:
            self._graph.capture_begin(self._pool, self._mode)
        except BaseException:
            self._on.__exit__(None, None, None)
            raise

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            if error is None:
                self._graph.capture_end()
                return
            self._graph.abandon()
        finally:
            self._on.__exit__(None, None, None)
        refused = refusal(error) if error is not None else None
        if refused is not None:
            raise refused from error
