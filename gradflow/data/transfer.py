"""Copying batches to the card while it computes: from page-locked memory, on a stream of its own, one batch ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from typing import Any

import numpy as np

from .. import backend
from ..backend import device
from ..op import wrap
from ..tensor import Tensor
from .collate import each_tensor


def pinned(t: Tensor) -> Tensor:
    """A tensor on the CPU in page-locked memory, from which the card copies by itself; any other as it is."""
    cp = backend.card()
    x = t.array
    if cp is None or not isinstance(x, np.ndarray) or x.size == 0:
        return t
    memory = cp.cuda.alloc_pinned_memory(x.nbytes)
    y = np.frombuffer(memory, x.dtype, x.size).reshape(x.shape)
    y[...] = x
    return wrap(y)


def to_card(batches: Generator[Any, None, None], where: device) -> Iterator[Any]:
    """The batches on a card; each is on its way while the one before is used.

    The memory of a batch belongs to the stream that is current in the loop, so that it goes back to that stream's pool
    in its order; the copying stream waits until that memory is free, and the loop's stream until the copy is there.
    """
    cp = backend.need_card("DataLoader")
    with cp.cuda.Device(where.index or 0):
        copying = cp.cuda.Stream(non_blocking=True)
    flying: deque[tuple[Any, Any, list]] = deque()  # batch, when its copy is done, what it is copied from

    def send(batch: Any) -> None:
        sources: list[Any] = []

        def copy(t: Tensor) -> Tensor:
            if not isinstance(t.array, np.ndarray):
                return t
            sources.append(t.array)
            y = cp.empty(t.array.shape, t.array.dtype)
            targets.append(y)
            return wrap(y)

        targets: list[Any] = []
        with cp.cuda.Device(where.index or 0):
            moved = each_tensor(batch, copy)
            copying.wait_event(cp.cuda.get_current_stream().record())
            for x, y in zip(sources, targets, strict=True):
                if x.size:
                    y.set(x, stream=copying)
            flying.append((moved, copying.record(), sources))

    landed: deque[tuple[Any, list]] = deque()  # copies whose page-locked sources must stay until they are done
    try:
        for batch in batches:
            send(batch)
            if len(flying) < 2:
                continue
            yield _hand_over(cp, flying, landed)
        while flying:
            yield _hand_over(cp, flying, landed)
    finally:
        # Page-locked memory goes back to its pool, and batches that no one took to theirs, only when copies are over.
        copying.synchronize()
        batches.close()


def _hand_over(cp: Any, flying: deque, landed: deque) -> Any:
    """The oldest batch in flight, for the current stream to use once its copy is there."""
    batch, done, sources = flying.popleft()
    cp.cuda.get_current_stream().wait_event(done)
    landed.append((done, sources))
    if len(landed) > 2:
        landed.popleft()[0].synchronize()
    return batch
