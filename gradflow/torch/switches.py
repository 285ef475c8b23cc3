"""Settings that programs make and that change nothing here, remembered so that they read back; torch.backends.cuda."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ..cuda.precision import get_float32_matmul_precision, matmul, set_float32_matmul_precision  # noqa: F401 - these do

_set: dict[str, Any] = {
    "num_threads": 1,
    "num_interop_threads": 1,
    "deterministic_algorithms": False,
    "warn_only": False,
    "deterministic_debug_mode": 0,
    "warn_always": False,
}


def get_num_threads() -> int:
    """What set_num_threads set: NumPy's own threads are those of its BLAS."""
    return _set["num_threads"]


def set_num_threads(int: int) -> None:
    """Remembered."""
    if int < 1:
        raise RuntimeError(f"set_num_threads: wanted at least 1, saw {int}")
    _set["num_threads"] = int


def get_num_interop_threads() -> int:
    """What set_num_interop_threads set."""
    return _set["num_interop_threads"]


def set_num_interop_threads(int: int) -> None:
    """Remembered."""
    _set["num_interop_threads"] = int


def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """Remembered: every algorithm is deterministic."""
    _set.update(deterministic_algorithms=mode, warn_only=warn_only)


def are_deterministic_algorithms_enabled() -> bool:
    """What use_deterministic_algorithms set."""
    return _set["deterministic_algorithms"]


def is_deterministic_algorithms_warn_only_enabled() -> bool:
    """What use_deterministic_algorithms set as warn_only."""
    return _set["warn_only"]


def set_deterministic_debug_mode(debug_mode: Any) -> None:
    """Remembered."""
    _set["deterministic_debug_mode"] = {"default": 0, "warn": 1, "error": 2}.get(debug_mode, debug_mode)


def get_deterministic_debug_mode() -> int:
    """What set_deterministic_debug_mode set."""
    return _set["deterministic_debug_mode"]


def set_flush_denormal(mode: bool) -> bool:
    """False: it cannot be set."""
    return False


def set_warn_always(b: bool) -> None:
    """Remembered."""
    _set["warn_always"] = b


def is_warn_always_enabled() -> bool:
    """What set_warn_always set."""
    return _set["warn_always"]


# --- torch.backends.cuda -------------------------------------------------------------------------------

cufft_plan_cache = SimpleNamespace(max_size=0, size=0, clear=lambda: None)


def is_built() -> bool:
    """Whether there is a card."""
    from ..backend import card

    return card() is not None


def _sdp(name: str) -> tuple[Any, Any]:
    def enable(enabled: bool) -> None:
        _set[name] = enabled

    return enable, lambda: _set.setdefault(name, True)


enable_flash_sdp, flash_sdp_enabled = _sdp("flash_sdp")
enable_math_sdp, math_sdp_enabled = _sdp("math_sdp")
enable_mem_efficient_sdp, mem_efficient_sdp_enabled = _sdp("mem_efficient_sdp")
enable_cudnn_sdp, cudnn_sdp_enabled = _sdp("cudnn_sdp")
