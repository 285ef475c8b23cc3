"""The part of CuPy that speaks of the device: streams, events, graphs, properties. Work is done when asked for."""

import contextlib
import itertools
import threading
import time

import numpy as np

from . import memory as _memory
from .build import CompileException
from .memory import (
    CardError,
    Memory,
    MemoryPointer,
    MemoryPool,
    OutOfMemoryError,
    PinnedMemoryPool,
    UnownedMemory,
    set_allocator,
    using_allocator,
)

_here = threading.local()


def is_available():
    return True


def get_device_id():
    return getattr(_here, "device", 0)


class Device:
    """The only card there is has number 0."""

    def __init__(self, device=None):
        self.id = get_device_id() if device is None else int(getattr(device, "id", device))

    compute_capability = "90"
    pci_bus_id = "0000:00:00.0"

    @property
    def attributes(self):
        return dict(MultiProcessorCount=4, WarpSize=32, MaxThreadsPerBlock=1024, MaxSharedMemoryPerBlock=49152,
                    MaxSharedMemoryPerBlockOptin=232448, MaxSharedMemoryPerMultiprocessor=233472,
                    ComputeCapabilityMajor=9, ComputeCapabilityMinor=0)  # fmt: skip

    @property
    def mem_info(self):
        total = _memory.default_pool.limit or 8 << 30
        return total - _memory.default_pool.used, total

    def synchronize(self):
        _memory.check()

    def use(self):
        if self.id != 0:
            raise CardError("cudaErrorInvalidDevice: invalid device ordinal")
        _here.device = self.id

    def __enter__(self):
        self.use()
        return self

    def __exit__(self, *exc):
        pass

    def __int__(self):
        return self.id

    def __eq__(self, other):
        return isinstance(other, Device) and other.id == self.id

    def __hash__(self):
        return hash(self.id)

    def __repr__(self):
        return f"<CUDA Device {self.id}>"


class Graph:
    """What a stream captured: a list of calls to make again."""

    def __init__(self, calls):
        self._calls = calls

    def launch(self, stream=None):
        for call in self._calls:
            call()

    def upload(self, stream=None):
        pass


class Capture:
    """The calls recorded between begin_capture and end_capture. Kernels are recorded, not run."""

    def __init__(self):
        self.calls = []

    def add(self, call):
        self.calls.append(call)

    def again(self, function, args, kwargs, out, seen):
        """Record a call of NumPy so that a replay writes into the same results."""
        outs = out if isinstance(out, (tuple, list)) else [out]
        outs = [o for o in outs if hasattr(o, "_a") and not any(o._memory is s._memory for s in seen)]
        if out is None or (not outs and any(o is s for o in ([out] if hasattr(out, "_a") else []) for s in seen)):
            self.calls.append(lambda: function(*args, **kwargs))
        elif outs:

            def call():
                r = function(*args, **kwargs)
                for o, v in zip(outs, r if isinstance(r, (tuple, list)) else [r], strict=False):
                    o._a[...] = v

            self.calls.append(call)


_numbers = itertools.count(16)


class Stream:
    """A queue that is always empty."""

    def __init__(self, null=False, non_blocking=False, ptds=False, priority=0):
        self.null, self.non_blocking, self.priority = null, non_blocking, priority
        self.ptr = 0 if null else 2 if ptds else next(_numbers)
        self.device_id, self._capture = 0, None

    done = True

    def use(self):
        _here.stream = self
        return self

    def __enter__(self):
        _here.__dict__.setdefault("stack", []).append(get_current_stream())
        return self.use()

    def __exit__(self, *exc):
        _here.stack.pop().use()

    def synchronize(self):
        if self._capture is not None:
            raise CardError("cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing")
        _memory.check()

    def record(self, event=None):
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event):
        pass

    def launch_host_func(self, callback, arg):
        callback(arg)

    def add_callback(self, callback, arg):
        callback(self, 0, arg)

    def begin_capture(self, mode=None):
        if self.ptr == 0:
            raise RuntimeError("cannot capture the default stream")
        self._capture = Capture()

    def is_capturing(self):
        return self._capture is not None

    def end_capture(self):
        graph, self._capture = Graph(self._capture.calls), None
        return graph

    def __eq__(self, other):
        return isinstance(other, (Stream, ExternalStream)) and self.ptr == other.ptr

    def __hash__(self):
        return hash(self.ptr)


class ExternalStream(Stream):
    def __init__(self, ptr, device_id=-1):
        super().__init__()
        self.ptr = ptr


Stream.null = Stream(null=True)
Stream.ptds = Stream(ptds=True)


def get_current_stream(device_id=-1):
    return getattr(_here, "stream", Stream.null)


def capturing():
    """The capture of the current stream, or None."""
    stream = getattr(_here, "stream", None)
    return None if stream is None else stream._capture


class Event:
    """A moment."""

    def __init__(self, block=False, disable_timing=False, interprocess=False):
        self.moment, self.ptr = None, next(_numbers)

    done = True

    def record(self, stream=None):
        self.moment = time.perf_counter()

    def synchronize(self):
        pass


def get_elapsed_time(start, end):
    return (end.moment - start.moment) * 1e3


def alloc(size):
    return (getattr(_memory._here, "pool", None) or _memory.default_pool).malloc(size)


class PinnedMemoryPointer(bytearray):
    """Page-locked host memory; np.frombuffer reads and writes it."""

    @property
    def ptr(self):
        return np.frombuffer(self, np.uint8).ctypes.data

    def size(self):
        return len(self)


def alloc_pinned_memory(size):
    return PinnedMemoryPointer(size)


class _Runtime:
    """cupy.cuda.runtime."""

    CUDARuntimeError = CardError
    is_hip = False
    memcpyHostToDevice, memcpyDeviceToHost, memcpyDeviceToDevice, memcpyDefault = 1, 2, 3, 4
    streamCaptureModeGlobal, streamCaptureModeThreadLocal, streamCaptureModeRelaxed = 0, 1, 2

    def getDeviceCount(self):
        return 1

    def getDevice(self):
        return get_device_id()

    def setDevice(self, device):
        Device(device).use()

    def getDeviceProperties(self, device=0):
        return dict(name=b"stand-in", major=9, minor=0, multiProcessorCount=4, warpSize=32, maxThreadsPerBlock=1024,
                    sharedMemPerBlock=49152, sharedMemPerBlockOptin=232448, sharedMemPerMultiprocessor=233472,
                    regsPerBlock=65536, maxThreadsPerMultiProcessor=2048, totalGlobalMem=8 << 30, l2CacheSize=60 << 20,
                    maxGridSize=(2147483647, 65535, 65535), maxThreadsDim=(1024, 1024, 64), clockRate=1,
                    memoryClockRate=1, memoryBusWidth=1, canMapHostMemory=1)  # fmt: skip

    def deviceGetAttribute(self, attribute, device):
        raise NotImplementedError("deviceGetAttribute: ask getDeviceProperties or Device.attributes")

    def memGetInfo(self):
        return Device().mem_info

    def runtimeGetVersion(self):
        return 12090

    driverGetVersion = runtimeGetVersion

    def deviceSynchronize(self):
        _memory.check()

    def streamSynchronize(self, stream):
        _memory.check()

    def memcpy(self, to, source, size, kind):
        _memory.ctypes.memmove(int(to), int(source), size)
        if kind == self.memcpyDeviceToHost:
            _memory.counts.host_copies += 1

    def memcpyAsync(self, to, source, size, kind, stream):
        self.memcpy(to, source, size, kind)

    def memset(self, to, value, size):
        _memory.ctypes.memset(int(to), value, size)

    def memsetAsync(self, to, value, size, stream):
        self.memset(to, value, size)

    def profilerStart(self):
        pass

    profilerStop = profilerStart


class _Names:
    """A submodule that only holds names."""

    def __init__(self, **names):
        self.__dict__.update(names)


runtime = _Runtime()
driver = _Names(CUDADriverError=CardError)
compiler = _Names(CompileException=CompileException)
memory = _Names(
    OutOfMemoryError=OutOfMemoryError, Memory=Memory, MemoryPointer=MemoryPointer, MemoryPool=MemoryPool,
    UnownedMemory=UnownedMemory, alloc=alloc,
)  # fmt: skip
pinned_memory = _Names(PinnedMemoryPool=PinnedMemoryPool, alloc_pinned_memory=alloc_pinned_memory)
stream = _Names(Stream=Stream, Event=Event, get_current_stream=get_current_stream, ExternalStream=ExternalStream)
device = _Names(Device=Device, get_device_id=get_device_id)
nvtx = _Names(RangePush=lambda *a, **k: None, RangePop=lambda: None)
profiler = _Names(profile=contextlib.nullcontext, start=lambda: None, stop=lambda: None)

__all__ = ["Device", "Event", "Graph", "Stream", "set_allocator", "using_allocator"]
