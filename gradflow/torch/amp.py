"""torch.amp's older names: the switches of autocast for one device."""

from __future__ import annotations

from typing import Any

from .. import amp
from ..amp import GradScaler, autocast, custom_bwd, custom_fwd, is_autocast_available

__all__ = ["GradScaler", "autocast", "custom_bwd", "custom_fwd", "is_autocast_available"]


def is_autocast_cpu_enabled() -> bool:
    """is_autocast_enabled("cpu")."""
    return amp.is_autocast_enabled("cpu")


def set_autocast_cpu_enabled(enabled: bool) -> None:
    """set_autocast_enabled("cpu", enabled)."""
    amp.set_autocast_enabled("cpu", enabled)


def get_autocast_cpu_dtype() -> Any:
    """get_autocast_dtype("cpu")."""
    return amp.get_autocast_dtype("cpu")


def set_autocast_cpu_dtype(dtype: Any) -> None:
    """set_autocast_dtype("cpu", dtype)."""
    amp.set_autocast_dtype("cpu", dtype)


def get_autocast_gpu_dtype() -> Any:
    """get_autocast_dtype("cuda")."""
    return amp.get_autocast_dtype("cuda")


def set_autocast_gpu_dtype(dtype: Any) -> None:
    """set_autocast_dtype("cuda", dtype)."""
    amp.set_autocast_dtype("cuda", dtype)
