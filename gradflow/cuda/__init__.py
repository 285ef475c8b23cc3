"""How the card does it: launchers for the kernels in kernels/*.cu, found by the same family name as the definitions.

Beside them stand PyTorch's names for asking after the card, for choosing among several, and for waiting for it.
"""

from __future__ import annotations

import contextlib
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from .. import backend
from ..backend import card, need_card
from .stream import Event, Stream, current_stream, default_stream, set_stream, stream

__all__ = [
    "CUDAGraph", "Event", "Stream", "can_device_access_peer", "current_device", "current_stream", "default_stream",
    "device", "device_count", "device_of", "empty_cache", "get_device_capability", "get_device_name",
    "get_device_properties", "graph", "graph_pool_handle", "init", "ipc_collect", "is_available", "is_bf16_supported",
    "is_current_stream_capturing", "is_initialized", "is_tf32_supported", "make_graphed_callables",
    "max_memory_allocated", "max_memory_reserved", "mem_get_info", "memory_allocated", "memory_reserved",
    "memory_stats", "memory_summary", "reset_max_memory_allocated", "reset_peak_memory_stats", "set_device",
    "set_stream", "stream", "synchronize",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Graphs stand to the right of all that they capture: they are imported when they are asked for."""
    if name in ("CUDAGraph", "graph", "graph_pool_handle", "make_graphed_callables"):
        return getattr(import_module("gradflow.graphs"), name)
    raise AttributeError(f"gradflow.cuda has no {name!r}")


def is_available() -> bool:
    """Whether a CUDA card can be used."""
    return card() is not None


is_initialized = is_available


def init() -> None:
    """Nothing: a card is found when it is first needed."""


def device_count() -> int:
    """How many cards there are; 0 without CuPy."""
    return card().cuda.runtime.getDeviceCount() if is_available() else 0


def _number(name: str, which: Any) -> int:
    """The number of a card that was given as a number, a device or its name; the current one for None."""
    if which is None:
        return need_card(f"cuda.{name}").cuda.Device().id
    if isinstance(which, int):
        return which
    where = backend.device(which)
    if where.type != "cuda":
        raise ValueError(f"cuda.{name}: wanted a card, saw {where}")
    return _number(name, None) if where.index is None else where.index


# --- which card ---------------------------------------------------------------------------------------


def current_device() -> int:
    """The number of the current card. RuntimeError without one."""
    return _number("current_device", None)


def set_device(device: Any) -> None:
    """Make a card the current one."""
    need_card("cuda.set_device").cuda.Device(_number("set_device", device)).use()


class device(contextlib.AbstractContextManager):
    """A block in which a card is the current one; -1 and None change nothing."""

    def __init__(self, device: Any) -> None:
        self.idx = -1 if device is None else _number("device", device)

    def __enter__(self) -> None:
        if self.idx >= 0:
            cuda = need_card("cuda.device").cuda
            self._before = cuda.Device()
            cuda.Device(self.idx).use()

    def __exit__(self, *error: object) -> None:
        if self.idx >= 0:
            self._before.use()


class device_of(device):
    """A block in which a tensor's card is the current one."""

    def __init__(self, obj: Any) -> None:
        super().__init__(obj.get_device() if obj.is_cuda else -1)


def get_device_name(device: Any = None) -> str:
    """What the card is called. RuntimeError without one."""
    cuda = need_card("cuda.get_device_name").cuda
    return cuda.runtime.getDeviceProperties(_number("get_device_name", device))["name"].decode()


def get_device_capability(device: Any = None) -> tuple[int, int]:
    """The card's compute capability, (9, 0) say. RuntimeError without one."""
    p = need_card("cuda.get_device_capability").cuda.runtime.getDeviceProperties(
        _number("get_device_capability", device)
    )
    return p["major"], p["minor"]


def get_device_properties(device: Any = None) -> SimpleNamespace:
    """The card's name, major, minor, total_memory, multi_processor_count and more. RuntimeError without one."""
    p = need_card("cuda.get_device_properties").cuda.runtime.getDeviceProperties(
        _number("get_device_properties", device)
    )
    return SimpleNamespace(
        name=p["name"].decode(), major=p["major"], minor=p["minor"], total_memory=p["totalGlobalMem"],
        multi_processor_count=p["multiProcessorCount"], warp_size=p["warpSize"], L2_cache_size=p["l2CacheSize"],
        max_threads_per_multi_processor=p["maxThreadsPerMultiProcessor"], shared_memory_per_block=p["sharedMemPerBlock"],
        regs_per_multiprocessor=p.get("regsPerMultiprocessor", p["regsPerBlock"]),
    )  # fmt: skip


def can_device_access_peer(device: Any, peer_device: Any) -> bool:
    """Whether one card reads another's memory."""
    runtime = need_card("cuda.can_device_access_peer").cuda.runtime
    numbers = (_number("can_device_access_peer", d) for d in (device, peer_device))
    return bool(runtime.deviceCanAccessPeer(*numbers))


def is_bf16_supported(including_emulation: bool = True) -> bool:
    """Whether the card has bfloat16 in its units, from compute capability 8.0 on, or computes with it in float32."""
    return is_available() and (including_emulation or get_device_capability() >= (8, 0))


def is_tf32_supported() -> bool:
    """Whether the card has TF32, from compute capability 8.0 on."""
    return is_available() and get_device_capability() >= (8, 0)


def is_current_stream_capturing() -> bool:
    """Whether the current stream records a graph."""
    return is_available() and card().cuda.get_current_stream().is_capturing()


def synchronize(device: Any = None) -> None:
    """Wait until the card has done all it was given. RuntimeError without one."""
    need_card("cuda.synchronize").cuda.Device(_number("synchronize", device)).synchronize()


# --- its memory: 0 without a card --------------------------------------------------------------------


def memory_allocated(device: Any = None) -> int:
    """Bytes of the card's memory that arrays hold."""
    return card().get_default_memory_pool().used_bytes() if is_available() else 0


def memory_reserved(device: Any = None) -> int:
    """Bytes of the card's memory that arrays hold or held, and that were not given back."""
    return card().get_default_memory_pool().total_bytes() if is_available() else 0


# CuPy's pool keeps no record of its highest mark: what it has taken and not given back is the bound.
max_memory_allocated = max_memory_reserved = memory_reserved


def mem_get_info(device: Any = None) -> tuple[int, int]:
    """(free, all) bytes of the card's memory. RuntimeError without one."""
    with need_card("cuda.mem_get_info").cuda.Device(_number("mem_get_info", device)) as d:
        return tuple(d.mem_info)


def memory_stats(device: Any = None) -> dict[str, int]:
    """Bytes in use and taken, by PyTorch's names."""
    used, taken = memory_allocated(device), memory_reserved(device)
    return {
        "allocated_bytes.all.current": used, "allocated_bytes.all.peak": taken, "reserved_bytes.all.current": taken,
        "reserved_bytes.all.peak": taken,
    }  # fmt: skip


def memory_summary(device: Any = None, abbreviated: bool = False) -> str:
    """The same in words."""
    return f"{memory_allocated(device)} bytes in arrays of {memory_reserved(device)} taken from the card"


def reset_peak_memory_stats(device: Any = None) -> None:
    """Nothing: there is no record of a highest mark."""


reset_max_memory_allocated = reset_max_memory_reserved = ipc_collect = reset_peak_memory_stats


def empty_cache() -> None:
    """Give blocks that no array holds back to the card."""
    if is_available():
        card().get_default_memory_pool().free_all_blocks()
