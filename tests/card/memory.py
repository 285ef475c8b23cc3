"""Device memory: blocks between guard pages, a pool that counts them, and the counters that tests assert on."""

import ctypes
import threading
import weakref
from dataclasses import dataclass

from .build import runtime

ALIGN = 16  # CuPy starts arrays at multiples of 512; here the tight end matters more
NAN, ODD = 0xFF, 0xCD  # poison of fresh memory: every float type reads 0xFF.. as NaN, integers get huge odd values


class CardError(RuntimeError):
    """What a kernel did wrong: a stray access, a failed assertion, a deadlock, a broken red zone."""


class OutOfMemoryError(MemoryError):
    pass


@dataclass
class Counts:
    """Running totals; assign 0 or call reset() and assert on the differences."""

    launches: int = 0
    allocations: int = 0
    host_copies: int = 0  # device to host, each a synchronisation on a real card
    device_copies: int = 0  # host to device
    operations: int = 0  # calls of NumPy in the place of CuPy's own kernels

    def reset(self):
        self.launches = self.allocations = self.host_copies = self.device_copies = self.operations = 0


counts = Counts()
live = weakref.WeakValueDictionary()  # start address -> Memory
lock = threading.RLock()
broken = []  # red zones found broken when a block was freed: raised at the next launch


class Memory:
    """One allocation. NumPy views it through __array_interface__ and keeps it alive."""

    __slots__ = ("__weakref__", "align", "device_id", "pool", "ptr", "size", "told")

    def __init__(self, size, fill=NAN, pool=None, align=ALIGN):
        self.ptr, self.size, self.align, self.device_id = 0, size, align, 0
        self.pool, self.told = pool or current_pool(), False
        if size == 0:
            return
        self.pool.claim(size)
        with lock:
            self.ptr = runtime().card_alloc(size, fill, align) or 0
            if not self.ptr:
                self.pool.used -= rounded(size)
                raise OutOfMemoryError(f"the machine has no {size} bytes left for the stand-in card")
            live[self.ptr] = self
        counts.allocations += 1

    @property
    def __array_interface__(self):
        return {"shape": (self.size,), "typestr": "|u1", "data": (self.ptr, False), "version": 3}

    def check(self):
        """The reason why a red zone is broken, or None."""
        side = runtime().card_check(self.ptr, self.size, self.align) if self.size and not self.told else 0
        if side:
            self.told = True
            return f"something wrote {'before the start' if side == 1 else 'past the end'} of {self.size} bytes"

    def __del__(self):
        if self.ptr and lock is not None:  # None: the interpreter is on its way out
            with lock:
                side = runtime().card_free(self.ptr, self.size, self.align)
            self.pool.used -= rounded(self.size)
            if side and not self.told:
                broken.append(
                    f"something earlier wrote {('before', 'past')[side - 1]} an allocation of {self.size} bytes"
                )


def rounded(size):
    return (size + 511) // 512 * 512


class MemoryPool:
    """CuPy's pool as tests see it: bytes used, bytes kept, a limit."""

    def __init__(self, allocator=None):
        self.used, self.peak, self.limit = 0, 0, 0

    def claim(self, size):
        if self.limit and self.used + rounded(size) > self.limit:
            raise OutOfMemoryError(
                f"Out of memory allocating {size} bytes (allocated so far: {self.used} bytes, "
                f"limit set to: {self.limit} bytes)."
            )
        self.used += rounded(size)
        self.peak = max(self.peak, self.used)

    def malloc(self, size):
        return MemoryPointer(Memory(size, pool=self), 0)

    def used_bytes(self):
        return self.used

    def free_bytes(self):
        return runtime().card_kept() if self is default_pool else 0

    def total_bytes(self):
        return self.used + self.free_bytes()

    def n_free_blocks(self):
        return int(self.free_bytes() > 0)

    def free_all_blocks(self, stream=None):
        with lock:
            runtime().card_trim()

    def free_all_free(self):
        self.free_all_blocks()

    def set_limit(self, size=None, fraction=None):
        self.limit = int(fraction * (64 << 30)) if fraction is not None else int(size or 0)

    def get_limit(self):
        return self.limit


class PinnedMemoryPool:
    """Page-locked host memory needs no pool here."""

    def n_free_blocks(self):
        return 0

    def free_all_blocks(self):
        pass


default_pool = MemoryPool()
pinned_pool = PinnedMemoryPool()
_here = threading.local()


def current_pool():
    return getattr(_here, "pool", None) or default_pool


class MemoryPointer:
    """An address inside an allocation, as ndarray.data is in CuPy."""

    def __init__(self, mem, offset):
        self.mem, self.ptr, self.device_id = mem, mem.ptr + offset, 0

    def __int__(self):
        return self.ptr

    def __add__(self, offset):
        return MemoryPointer(self.mem, self.ptr - self.mem.ptr + offset)

    def memset_async(self, value, size, stream=None):
        ctypes.memset(self.ptr, value, size)

    memset = memset_async

    def copy_from_device_async(self, other, size, stream=None):
        ctypes.memmove(self.ptr, other.ptr, size)

    copy_from_device = copy_from_device_async


class UnownedMemory:
    """Memory that somebody else keeps, by its address."""

    def __init__(self, ptr, size, owner, device_id=-1):
        self.ptr, self.size, self.owner, self.device_id = ptr, size, owner, 0

    @property
    def __array_interface__(self):
        return {"shape": (self.size,), "typestr": "|u1", "data": (self.ptr, False), "version": 3}

    def check(self):
        return None


class using_allocator:
    """Inside the block, arrays come from the pool whose malloc is given."""

    def __init__(self, allocator=None):
        self.pool = getattr(allocator, "__self__", None)

    def __enter__(self):
        self.before = getattr(_here, "pool", None)
        _here.pool = self.pool

    def __exit__(self, *exc):
        _here.pool = self.before


def set_allocator(allocator=None):
    _here.pool = getattr(allocator, "__self__", None)


def owner_of(address):
    """The live allocation nearest to an address: (Memory, offset from its start), or None."""
    best = None
    for memory in list(live.values()):
        distance = max(memory.ptr - address, address - (memory.ptr + memory.size), 0)
        if best is None or distance < best[0]:
            best = distance, memory
    if best and best[0] < 4 << 20:  # the no-access pages on either side
        return best[1], address - best[1].ptr
    return None


def check(memories=None):
    """Raise CardError if any red zone has been written to."""
    reasons = list(broken)
    broken.clear()
    reasons += [r for r in (m.check() for m in (memories or list(live.values()))) if r]
    if reasons:
        raise CardError("; ".join(reasons))
