"""The part of CuPy that speaks of the device: streams, events, graphs, properties. Work is done when asked for."""

import contextlib
import itertools
import threading
import time
import weakref

from . import cublas, work
from . import memory as _memory
from .build import CompileException
from .graph import Capture, Graph, open_captures
from .late import PinnedMemoryPointer, Queue, alloc_pinned_memory, waiting  # noqa: F401 - CuPy has it here
from .memory import (
    CardError,
    Memory,
    MemoryHook,
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
        wait("Device.synchronize", open_captures)

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


_numbers = itertools.count(16)
_streams = weakref.WeakSet()


def wait(what, capture, queue=None, upto=None):
    """The host waits for the device, or for the copies of one stream, which cannot be captured."""
    if capture:
        raise CardError("cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing")
    _memory.counts.synchronisations += 1
    work.note("wait", what)
    for copies in [queue] if queue is not None else list(waiting):
        copies.finish(upto)
    _memory.check()


class Stream:
    """A queue that is always empty."""

    def __init__(self, null=False, non_blocking=False, ptds=False, priority=0):
        self.null, self.non_blocking, self.priority = null, non_blocking, priority
        self.ptr = 0 if null else 2 if ptds else next(_numbers)
        self.device_id, self._capture, self._queue = 0, None, Queue()
        _streams.add(self)

    @property
    def done(self):
        return not self._queue.copies

    def use(self):
        _here.stream = self
        return self

    def __enter__(self):
        _here.__dict__.setdefault("stack", []).append(get_current_stream())
        return self.use()

    def __exit__(self, *exc):
        _here.stack.pop().use()

    def synchronize(self):
        wait("Stream.synchronize", self._capture, self._queue)

    def record(self, event=None):
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event):
        """After an event of a capture this stream captures too, until the first stream waits for it in turn."""
        if event.stream is not None:
            event.stream._queue.finish(event.upto)
        if event.capture is None or event.capture not in open_captures:
            return
        if self._capture is None:
            self._capture = event.capture
            event.capture.streams.append(self)
        elif event.stream is not self and event.stream in event.capture.streams[1:]:
            event.capture.streams.remove(event.stream)
            event.stream._capture = None

    def launch_host_func(self, callback, arg):
        if self._capture is None:
            callback(arg)
        else:
            self._capture.add("host function", lambda: callback(arg), ())

    def add_callback(self, callback, arg):
        if self._capture is not None:
            raise CardError("cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing")
        callback(self, 0, arg)

    def begin_capture(self, mode=None):
        if self.ptr == 0:
            raise RuntimeError("cannot capture the default stream")
        if self._capture is not None:
            raise CardError("cudaErrorIllegalState: the stream captures already")
        self._capture = Capture(self)

    def is_capturing(self):
        return self._capture is not None

    def end_capture(self):
        capture = self._capture
        if capture is None:
            raise CardError("cudaErrorIllegalState: the stream does not capture")
        graph = capture.end()
        for stream in capture.streams:
            stream._capture = None
        if capture.streams[0] is not self:
            raise CardError("cudaErrorStreamCaptureUnmatched: the capture began on another stream")
        if len(capture.streams) > 1:
            raise CardError("cudaErrorStreamCaptureUnjoined: another stream still captures: wait for its event first")
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


def catch_up(stream):
    """Do the copies that come before new work of a stream: its own, for the default stream also those of blocking ones."""
    stream._queue.finish()
    if stream.ptr == 0:
        for other in list(_streams):
            if not other.non_blocking:
                other._queue.finish()


def queue_of(stream):
    """The copies of a stream, given as an object, an address, or None for the current one."""
    if isinstance(stream, int):
        stream = next((s for s in _streams if s.ptr == stream), None)
    return (stream or get_current_stream())._queue


def capturing():
    """The capture of the current stream, or None. All work asks, so copies that must come before it are done here."""
    if waiting:
        catch_up(get_current_stream())
    if not open_captures:
        return None
    stream = get_current_stream()
    if stream.ptr == 0 and any(not c.streams[0].non_blocking for c in open_captures):
        raise CardError("cudaErrorStreamCaptureImplicit: work for the default stream while a blocking stream captures")
    return stream._capture


class Event:
    """A moment of a stream."""

    def __init__(self, block=False, disable_timing=False, interprocess=False):
        self.moment, self.ptr, self.timed = None, next(_numbers), not disable_timing
        self.capture = self.stream = self.upto = None

    @property
    def done(self):
        return self.stream is None or self.upto <= self.stream._queue.done

    def record(self, stream=None):
        self.stream = stream = stream or get_current_stream()
        self.capture, self.upto = stream._capture, stream._queue.issued
        if self.capture is not None:
            self.capture.add("event", self._now, ())
        self._now()

    def _now(self):
        self.moment = time.perf_counter()

    def synchronize(self):
        wait("Event.synchronize", self.capture, self.stream and self.stream._queue, self.upto)


def get_elapsed_time(start, end):
    """Milliseconds between two events."""
    for event in (start, end):
        if event.moment is None or not event.timed:
            raise CardError("cudaErrorInvalidResourceHandle: the event was never recorded, or made without timing")
        if event.capture is not None:
            raise CardError("cudaErrorInvalidValue: the event was recorded in a capture")
    return (end.moment - start.moment) * 1e3


def alloc(size):
    return MemoryPointer(_memory.allocate(size), 0)


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
                    maxGridSize=(2147483647, 65535, 65535), maxThreadsDim=(1024, 1024, 64), memoryBusWidth=1,
                    canMapHostMemory=1)  # fmt: skip

    def deviceGetAttribute(self, attribute, device):
        raise NotImplementedError("deviceGetAttribute: ask getDeviceProperties or Device.attributes")

    def memGetInfo(self):
        return Device().mem_info

    def runtimeGetVersion(self):
        return 12090

    driverGetVersion = runtimeGetVersion

    def deviceSynchronize(self):
        wait("deviceSynchronize", open_captures)

    def streamSynchronize(self, stream):
        wait("streamSynchronize", open_captures)

    def memcpy(self, to, source, size, kind):
        _memory.refuse_capture("a copy that waits")
        self.memcpyAsync(to, source, size, kind, 0)

    def memcpyAsync(self, to, source, size, kind, stream):
        kinds = {self.memcpyHostToDevice: "upload", self.memcpyDeviceToHost: "download"}
        name = kinds.get(kind, "copy")
        if name != "copy":
            _memory.refuse_capture(f"a copy between host and device ({name})")
        _memory.counts.host_copies += name == "download"
        _memory.counts.device_copies += name == "upload"
        work.note(name, "memcpy", size, size)
        _memory.captured("copy", lambda: _memory.ctypes.memmove(int(to), int(source), size))

    def memset(self, to, value, size):
        _memory.refuse_capture("memset")
        self.memsetAsync(to, value, size, 0)

    def memsetAsync(self, to, value, size, stream):
        work.note("memset", "memset", size)
        _memory.captured("memset", lambda: _memory.ctypes.memset(int(to), value, size))

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
device = _Names(Device=Device, get_device_id=get_device_id, get_cublas_handle=cublas.get_cublas_handle)
nvtx = _Names(RangePush=lambda *a, **k: None, RangePop=lambda: None)
profiler = _Names(profile=contextlib.nullcontext, start=lambda: None, stop=lambda: None)

__all__ = ["Device", "Event", "Graph", "MemoryHook", "Stream", "set_allocator", "using_allocator"]
