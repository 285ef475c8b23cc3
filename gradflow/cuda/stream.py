"""Streams and events: queues of the card's work, and moments in them. CuPy's, by PyTorch's names."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Self

from ..backend import need_card


class Stream:
    """A queue of work on a card. RuntimeError without one."""

    def __init__(self, device: Any = None, priority: int = 0, **given: Any) -> None:
        cp = need_card("cuda.Stream")
        self.of = given["of"] if "of" in given else cp.cuda.Stream(non_blocking=True, priority=priority)

    @property
    def cuda_stream(self) -> int:
        """The stream's number, as CUDA's own functions take it."""
        return self.of.ptr

    def synchronize(self) -> None:
        """Wait until its work is done."""
        self.of.synchronize()

    def query(self) -> bool:
        """Whether its work is done."""
        return self.of.done

    def wait_event(self, event: Event) -> None:
        """Let its later work wait for an event."""
        self.of.wait_event(event.of)

    def wait_stream(self, stream: Stream) -> None:
        """Let its later work wait for what another stream was given so far."""
        self.of.wait_event(stream.of.record())

    def record_event(self, event: Event | None = None) -> Event:
        """The event of this moment."""
        event = event or Event()
        event.record(self)
        return event

    def __enter__(self) -> Self:
        self.of.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.of.__exit__(*error)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and self.of == other.of

    def __hash__(self) -> int:
        return hash(self.of.ptr)


class Event:
    """A moment in a stream. RuntimeError without a card."""

    def __init__(self, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False) -> None:
        self.of = need_card("cuda.Event").cuda.Event(block=blocking, disable_timing=not enable_timing)

    def record(self, stream: Stream | None = None) -> None:
        """Let this be the moment after what the stream was given so far."""
        self.of.record(stream.of if stream is not None else None)

    def wait(self, stream: Stream | None = None) -> None:
        """Let the stream's later work wait for it."""
        (stream or current_stream()).wait_event(self)

    def query(self) -> bool:
        """Whether it has come."""
        return self.of.done

    def synchronize(self) -> None:
        """Wait for it."""
        self.of.synchronize()

    def elapsed_time(self, end_event: Event) -> float:
        """Milliseconds from it to another one, both made with enable_timing."""
        return need_card("cuda.Event").cuda.get_elapsed_time(self.of, end_event.of)


def current_stream(device: Any = None) -> Stream:
    """The stream that gets work now."""
    return Stream(of=need_card("cuda.current_stream").cuda.get_current_stream())


def default_stream(device: Any = None) -> Stream:
    """The stream that gets work unless another one is set."""
    return Stream(of=need_card("cuda.default_stream").cuda.Stream.null)


@contextlib.contextmanager
def stream(stream: Stream | None) -> Iterator[None]:
    """A block whose work goes to this stream; None changes nothing."""
    with stream if stream is not None else contextlib.nullcontext():
        yield


def set_stream(stream: Stream) -> None:
    """Let work go to this stream from now on."""
    stream.of.use()
