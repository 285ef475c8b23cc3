"""Copying batches to the card while it computes: from page-locked memory, on a stream of its own, one batch ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from .. import backend
from ..backend import device, hold
from ..op import wrap
from ..tensor import Tensor
from .collate import default_convert, each_tensor

AHEAD = 3  # copies whose end the loop does not wait for: the loop may run this far ahead of the card, and no further


def pinned(t: Tensor) -> Tensor:
    """A tensor on the CPU in page-locked memory, from which the card copies by itself; any other as it is."""
    x = t.array
    if backend.card() is None or not isinstance(x, np.ndarray) or not x.size or backend.is_pinned(x):
        return t
    return wrap(backend.pinned(x))


class prefetch:
    """The batches of a loader on a device; on a card each is copied while the one before is used.

    Arrays in batches become tensors. The copies come from page-locked memory (made so by workers with
    DataLoader(pin_memory=True), else by the loop), on a stream of their own; the loop never waits for the card unless it is
    more than a few batches ahead of it. An iteration that ends early, by break or an exception, is over once close() was
    called or the iterator is gone; so are the loader's threads.
    """

    def __init__(self, loader: Iterable[Any], device: Any) -> None:
        self.loader, self.device = loader, backend.device(device)
        self._running: list[Any] = []

    def __len__(self) -> int:
        """How many batches there are."""
        return len(self.loader)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        batches = _moved(self.loader, self.device)
        if self.device.type == "cuda":
            batches = to_card(batches, self.device)
        self._running = [batches]
        return batches

    def close(self) -> None:
        """End an iteration under way."""
        for batches in self._running:
            batches.close()


def _moved(loader: Iterable[Any], where: device) -> Any:
    """Batches of tensors, on the CPU if that is where they go."""
    batches = iter(loader)
    try:
        for batch in batches:
            yield each_tensor(default_convert(batch), lambda t: t if where.type == "cuda" else t.to(where))
    finally:
        if hasattr(batches, "close"):
            batches.close()


def to_card(batches: Any, where: device) -> Any:
    """The batches of a generator on a card; each is on its way while the one before is used.

    The memory of a batch belongs to the stream that is current in the loop, so that it goes back to that stream's pool
    in its order; the copying stream waits until that memory is free, and the loop's stream until the copy is there.
    """
    cp = backend.need_card("DataLoader")
    with cp.cuda.Device(where.index or 0):
        copying = cp.cuda.Stream(non_blocking=True)
    flying: deque[tuple[Any, Any, list]] = deque()  # batch, when its copy is done, what it is copied from
    landing: deque[tuple[Any, list]] = deque()  # copies under way of batches that the loop has

    def send(batch: Any) -> None:
        pairs: list[tuple[Any, Any]] = []

        def copy(t: Tensor) -> Tensor:
            if not isinstance(t.array, np.ndarray):
                return t.to(where)
            source = pinned(t).array
            pairs.append((source, cp.empty(source.shape, source.dtype)))
            return wrap(pairs[-1][1])

        with cp.cuda.Device(where.index or 0):
            moved = each_tensor(batch, copy)
            copying.wait_event(cp.cuda.get_current_stream().record())
            for x, y in pairs:
                if x.size:
                    y.set(x, stream=copying)
            flying.append((moved, copying.record(), pairs))

    def hand_over() -> Any:
        """The oldest batch in flight, for the loop's stream to use once its copy is there."""
        batch, done, pairs = flying.popleft()
        cp.cuda.get_current_stream().wait_event(done)
        landing.append((done, [x for x, _ in pairs]))
        if len(landing) > AHEAD:
            oldest = landing.popleft()[0]
            if not oldest.done:
                oldest.synchronize()
        return batch

    try:
        for batch in batches:
            send(batch)
            if len(flying) > 1:
                yield hand_over()
        while flying:
            yield hand_over()
    finally:
        # Page-locked memory goes back to its pool when copies are over; batches that no one took go back to the pool of
        # the loop's stream, which therefore waits for their copies.
        for done, sources in landing:
            hold(done, sources)
        for _, done, pairs in flying:
            cp.cuda.get_current_stream().wait_event(done)
            hold(done, pairs)
        flying.clear()
        batches.close()
