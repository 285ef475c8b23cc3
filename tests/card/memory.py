"""Device memory: blocks between guard pages, a pool that counts them, and the counters that tests assert on."""

import ctypes
import threading
import weakref
from dataclasses import dataclass

from . import work
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
    synchronisations: int = 0  # waits for the device that are no copies: synchronize(), sizes that depend on data
    graphs: int = 0  # launches of graphs; the kernels inside were counted when they were captured

    def reset(self):
        self.__init__()


counts = Counts()
hooks = []  # the MemoryHooks in force


class MemoryHook:
    """CuPy's observer of allocations, in force inside its block."""

    name = "MemoryHook"

    def __enter__(self):
        hooks.append(self)
        return self

    def __exit__(self, *exc):
        hooks.remove(self)

    def malloc_postprocess(self, device_id, size, mem_size, mem_ptr, pmem_id):
        pass


live = weakref.WeakValueDictionary()  # start address -> Memory
lock = threading.RLock()
broken = []  # red zones found broken when a block was freed: raised at the next launch


class Block:
    """A piece of device memory whoever holds it now: a graph, or a pool, keeps it beyond the arrays that were in it."""

    __slots__ = ("__weakref__", "align", "captured", "gone", "holder", "pool", "ptr", "size", "times", "told")

    def __init__(self, memory):
        self.ptr, self.size, self.align, self.pool = memory.ptr, memory.size, memory.align, weakref.ref(memory.pool)
        self.holder, self.times, self.captured, self.gone = weakref.ref(memory), 0, False, False
        self.told = False

    @property
    def __array_interface__(self):
        return {"shape": (self.size,), "typestr": "|u1", "data": (self.ptr, False), "version": 3}

    def check(self):
        return broken_side(self)

    def fault(self, times):
        """Why a graph that saw the block handed out for the n-th time may not touch it, or None."""
        pool = self.pool()
        if self.holder is not None:
            foreign = self.times != times and not self.captured
            return "was handed out again outside of a capture" if foreign else None
        if pool is None or self.gone:
            return "belongs to a pool that gave it back to the device"
        return "was given back to the default pool, anybody may hold it by now" if pool is default_pool else None

    def __del__(self):
        if lock is not None:
            free(self.ptr, self.size, self.align)


class Memory:
    """One allocation. NumPy views it through __array_interface__ and keeps it alive."""

    __slots__ = ("__weakref__", "align", "block", "device_id", "pool", "ptr", "size", "told")

    def __init__(self, size, fill=NAN, pool=None, align=ALIGN):
        self.ptr, self.size, self.align, self.device_id = 0, size, align, 0
        self.pool, self.told, self.block = pool or current_pool(), False, None
        if size == 0:
            return
        self.pool.claim(size)
        with lock:
            if self.pool.kept and self.pool.kept.get((size, align)):
                self.take(self.pool.kept[size, align].pop(), fill)
            else:
                self.ptr = runtime().card_alloc(size, fill, align) or 0
            if not self.ptr:
                self.pool.used -= rounded(size)
                raise OutOfMemoryError(f"the machine has no {size} bytes left for the stand-in card")
            live[self.ptr] = self
        counts.allocations += 1
        for hook in hooks:
            hook.malloc_postprocess(
                device_id=self.device_id, size=size, mem_size=rounded(size), mem_ptr=self.ptr, pmem_id=id(self)
            )

    @property
    def __array_interface__(self):
        return {"shape": (self.size,), "typestr": "|u1", "data": (self.ptr, False), "version": 3}

    def take(self, block, fill):
        """Become the next holder of a block that its pool kept."""
        from .cuda import capturing

        self.ptr, self.block, block.holder = block.ptr, block, weakref.ref(self)
        block.times, block.captured = block.times + 1, capturing() is not None
        ctypes.memset(self.ptr, fill if fill >= 0 else NAN, self.size)

    def keep(self):
        """The block, which lives on when this allocation is over."""
        if self.block is None:
            self.block = Block(self)
        return self.block

    def check(self):
        return broken_side(self)

    def __del__(self):
        if self.ptr and lock is not None:  # None: the interpreter is on its way out
            self.pool.used -= rounded(self.size)
            if self.block is None and self.pool is default_pool:
                free(self.ptr, self.size, self.align, self.told)
                return
            block = self.keep()
            block.holder = None
            if self.pool is not default_pool:
                self.pool.kept.setdefault((self.size, self.align), []).append(block)


def broken_side(m):
    """The reason why a red zone is broken, or None."""
    side = runtime().card_check(m.ptr, m.size, m.align) if m.size and not m.told else 0
    if side:
        m.told = True
        return f"something wrote {'before the start' if side == 1 else 'past the end'} of {m.size} bytes"


def free(ptr, size, align, told=False):
    """Give memory back to the machine; a red zone found broken is told at the next launch."""
    with lock:
        side = runtime().card_free(ptr, size, align)
    if side and not told:
        broken.append(f"something earlier wrote {('before', 'past')[side - 1]} an allocation of {size} bytes")


def rounded(size):
    return (size + 511) // 512 * 512


class MemoryPool:
    """CuPy's pool as tests see it: bytes used, bytes kept, a limit. Other pools than the default one hand out again
    what was freed to them, to the next allocation of that size, as a graph's own pool does.
    """

    def __init__(self, allocator=None):
        self.used, self.peak, self.limit, self.kept = 0, 0, 0, {}

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
        if self is default_pool:
            return runtime().card_kept()
        return sum(rounded(size) * len(blocks) for (size, _), blocks in self.kept.items())

    def total_bytes(self):
        return self.used + self.free_bytes()

    def n_free_blocks(self):
        return int(self.free_bytes() > 0) if self is default_pool else sum(map(len, self.kept.values()))

    def free_all_blocks(self, stream=None):
        with lock:
            for blocks in self.kept.values():
                for block in blocks:
                    block.gone = True
            self.kept.clear()
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
_everywhere = None  # the allocator of all threads


def current_allocator():
    return getattr(_here, "allocator", None) or _everywhere


def current_pool():
    pool = getattr(current_allocator(), "__self__", None)
    return pool if isinstance(pool, MemoryPool) else default_pool


def allocate(size, fill=NAN):
    """Memory from the current allocator; fill < 0: the caller writes everything."""
    allocator = current_allocator()
    if allocator is None or isinstance(getattr(allocator, "__self__", None), MemoryPool):
        return Memory(size, fill)
    return allocator(size).mem  # a function of the user's


def captured(what, run, *pointers):
    """Run a piece of work, or record it where a stream captures."""
    from .cuda import capturing

    capture = capturing()
    if capture is None:
        run()
    else:
        capture.add(what, run, [p.mem for p in pointers])


def refuse_capture(what):
    from .cuda import capturing

    if capturing() is not None:
        raise RuntimeError(f"{what} is not allowed while a stream captures")


class MemoryPointer:
    """An address inside an allocation, as ndarray.data is in CuPy."""

    def __init__(self, mem, offset):
        self.mem, self.ptr, self.device_id = mem, mem.ptr + offset, 0

    def __int__(self):
        return self.ptr

    def __add__(self, offset):
        return MemoryPointer(self.mem, self.ptr - self.mem.ptr + offset)

    def memset_async(self, value, size, stream=None):
        to = self.ptr
        work.note("memset", "memset_async", size)
        captured("memset", lambda: ctypes.memset(to, value, size), self)

    def memset(self, value, size):
        refuse_capture("memset")
        self.memset_async(value, size)

    def copy_from_device_async(self, src, size, stream=None):
        to, source = self.ptr, src.ptr
        work.note("copy", "copy_from_device_async", size, size)
        captured("copy", lambda: ctypes.memmove(to, source, size), self, src)

    def copy_from_device(self, src, size):
        refuse_capture("a copy on the device that waits")
        self.copy_from_device_async(src, size)

    def copy_from_host(self, mem, size):
        refuse_capture("a copy from host to device")
        work.note("upload", "copy_from_host", size)
        counts.device_copies += 1
        ctypes.memmove(self.ptr, host_address(mem), size)

    def copy_from_host_async(self, mem, size, stream=None):
        from . import late
        from .cuda import queue_of

        refuse_capture("a copy from host to device")
        work.note("upload", "copy_from_host_async", size)
        counts.device_copies += 1
        late.upload(queue_of(stream), self.mem, self.ptr, host_address(mem), size)

    def copy_to_host(self, mem, size):
        refuse_capture("a copy from device to host")
        work.note("download", "copy_to_host", 0, size)
        counts.host_copies += 1
        ctypes.memmove(host_address(mem), self.ptr, size)

    def copy_to_host_async(self, mem, size, stream=None):
        from . import late
        from .cuda import queue_of

        refuse_capture("a copy from device to host")
        work.note("download", "copy_to_host_async", 0, size)
        late.download(queue_of(stream), self.mem, self.ptr, host_address(mem), size, mem)

    def copy_from_async(self, mem, size, stream=None):
        (self.copy_from_device_async if isinstance(mem, MemoryPointer) else self.copy_from_host_async)(mem, size)

    def copy_from(self, mem, size):
        (self.copy_from_device if isinstance(mem, MemoryPointer) else self.copy_from_host)(mem, size)


def host_address(mem):
    """The address of host memory given as ctypes does, or as a pointer of pinned memory."""
    return int(getattr(mem, "ptr", None) or getattr(mem, "value", mem))


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
    """Inside the block, arrays of this thread come from the allocator given: a pool's malloc, or a function."""

    def __init__(self, allocator=None):
        self.allocator = allocator or default_pool.malloc

    def __enter__(self):
        self.before = getattr(_here, "allocator", None)
        _here.allocator = self.allocator

    def __exit__(self, *exc):
        _here.allocator = self.before


def set_allocator(allocator=None):
    global _everywhere
    _everywhere = allocator


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
