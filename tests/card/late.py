"""Asynchronous copies between host and device: they happen as late as the stream's order allows.

A copy on a stream waits until something on that stream, or something that waits for it, needs it done. So whoever reads
the array too early finds poison or old numbers, and whoever writes the page-locked source too early sends the wrong ones.
The source of a copy from pageable memory is staged at once, as the driver does.
"""

import ctypes
import weakref
from collections import deque

import numpy as np

from .memory import NAN, CardError

waiting = []  # streams with copies not yet done
pinned = weakref.WeakValueDictionary()  # address -> PinnedMemoryPointer


class PinnedMemoryPointer(bytearray):
    """Page-locked host memory; np.frombuffer reads and writes it."""

    __hash__ = object.__hash__

    @property
    def ptr(self):
        return np.frombuffer(self, np.uint8).ctypes.data

    @property
    def mem(self):
        return self

    def size(self):
        return len(self)


def alloc_pinned_memory(size):
    memory = PinnedMemoryPointer(max(size, 1))
    pinned[memory.ptr] = memory
    return memory


def pinned_at(address):
    """The page-locked memory that an address lies in, or None."""
    return next((p for start, p in list(pinned.items()) if start <= address < start + len(p)), None)


class Queue:
    """The copies of one stream that are not done, in order."""

    def __init__(self):
        self.issued, self.done, self.copies = 0, 0, deque()

    def add(self, copy):
        self.copies.append(copy)
        self.issued += 1
        if self not in waiting:
            waiting.append(self)

    def finish(self, upto=None):
        """Do the copies issued before a moment."""
        while self.copies and (upto is None or self.done < upto):
            self.done += 1
            self.copies.popleft()()
        if not self.copies and self in waiting:
            waiting.remove(self)


def upload(queue, memory, address, source, size):
    """Copy `size` bytes from the host's address `source` to the device's, later."""
    held = pinned_at(source)
    if held is None:
        staged = ctypes.string_at(source, size)
        queue.add(lambda: (memory, ctypes.memmove(address, staged, size)))
        return
    held = weakref.ref(held)

    def copy():
        if held() is None:
            raise CardError("an asynchronous copy: its page-locked source was freed before it was done")
        ctypes.memmove(address, source, size)
        return memory

    queue.add(copy)


def download(queue, memory, address, to, size, keep):
    """Copy `size` bytes from the device's address to the host's `to`, later; until then poison is there."""
    ctypes.memset(to, NAN, size)
    queue.add(lambda: (memory, keep, ctypes.memmove(to, address, size)))
