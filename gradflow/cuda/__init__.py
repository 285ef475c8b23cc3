"""How the card does it: launchers for the kernels in kernels/*.cu, found by the same family name as the definitions.

Beside them stand PyTorch's names for asking after the card and for waiting for it.
"""

from __future__ import annotations

from ..backend import card, need_card


def is_available() -> bool:
    """Whether a CUDA card can be used."""
    return card() is not None


def device_count() -> int:
    """How many cards there are; 0 without CuPy."""
    return card().cuda.runtime.getDeviceCount() if is_available() else 0


def current_device() -> int:
    """The number of the current card. RuntimeError without one."""
    return need_card("cuda.current_device").cuda.Device().id


def get_device_name(device: int = 0) -> str:
    """What the card is called. RuntimeError without one."""
    return need_card("cuda.get_device_name").cuda.runtime.getDeviceProperties(device)["name"].decode()


def synchronize() -> None:
    """Wait until the card has done all it was given. RuntimeError without one."""
    need_card("cuda.synchronize").cuda.Device().synchronize()


def memory_allocated() -> int:
    """Bytes of the card's memory that arrays hold. RuntimeError without a card."""
    return need_card("cuda.memory_allocated").get_default_memory_pool().used_bytes()


def empty_cache() -> None:
    """Give blocks that no array holds back to the card. RuntimeError without one."""
    need_card("cuda.empty_cache").get_default_memory_pool().free_all_blocks()
