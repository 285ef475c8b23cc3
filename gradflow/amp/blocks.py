"""autocast: a block, or a function, in which ops choose the precision that suits them; and the switches it sets."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any, Self

import numpy as np

from .. import backend
from . import casting, lists
from .casting import here

HALVES = ("float16", "bfloat16")


def _known(name: str, device_type: Any) -> str:
    if not isinstance(device_type, str):
        raise ValueError(f"{name}: wanted a device type, 'cuda' or 'cpu', saw {type(device_type).__name__}")
    if device_type not in lists.DEVICES:
        raise RuntimeError(f"{name}: wanted device_type 'cuda' or 'cpu', saw {device_type!r}")
    return device_type


class autocast:
    """A block, or with @ a function, of mixed precision.

    Products and convolutions run in the lower precision, what is sensitive to it in float32, and the gradient of each op
    in the dtype in which the op ran. Weights are cast once in the outermost block. Tensors of double precision, writes in
    place and calls with out= are left alone.

    device_type    'cuda' or 'cpu'; tensors on the other one are left alone
    dtype          float16 or bfloat16; None is float16 for 'cuda' and bfloat16 for 'cpu', unless set_autocast_dtype changed it
    enabled        False switches it off inside an outer block
    cache_enabled  whether casts of weights are kept; None is as around the block
    RuntimeError for other devices. Micikevicius et al., "Mixed Precision Training", 2018.
    """

    def __init__(self, device_type: str, dtype: Any = None, enabled: bool = True, cache_enabled: bool | None = None) -> None:
        self.device = _known("autocast", device_type)
        self.fast_dtype = casting.lower(device_type) if dtype is None else np.dtype(dtype)
        if enabled and device_type == "cuda" and backend.card() is None:
            warnings.warn("autocast: there is no card, it is switched off", UserWarning, stacklevel=2)
            enabled = False
        elif enabled and self.fast_dtype.name not in HALVES:
            warnings.warn(
                f"autocast: wanted float16 or bfloat16, saw {self.fast_dtype.name}: it is switched off", UserWarning, stacklevel=2
            )
            enabled = False
        self._enabled, self._cache_enabled = bool(enabled), here.caching if cache_enabled is None else bool(cache_enabled)
        self._before: list[tuple] = []  # one for each time that it was entered

    def __enter__(self) -> Self:
        self._before.append((here.enabled[self.device], here.dtype.get(self.device), here.caching, here.inside))
        here.nesting += 1
        here.dtype[self.device], here.caching, here.inside = self.fast_dtype, self._cache_enabled, False
        casting.enable(self.device, self._enabled)
        return self

    def __exit__(self, *error: object) -> None:
        enabled, dtype, here.caching, here.inside = self._before.pop()
        casting.enable(self.device, enabled)
        here.dtype[self.device] = dtype
        here.nesting -= 1
        if not here.nesting:
            here.cache.clear()

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if not callable(function):
            raise TypeError(f"autocast: wanted a function to decorate, saw {type(function).__name__}: use `with autocast(...):`")

        @wraps(function)
        def inside(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return inside


# --- switches ---------------------------------------------------------------------------------------


def is_autocast_available(device_type: str) -> bool:
    """Whether there are lists for a type of device."""
    return device_type in lists.DEVICES


def is_autocast_enabled(device_type: str = "cuda") -> bool:
    """Whether this thread is in a block, that is not switched off, for a type of device."""
    return here.enabled[_known("is_autocast_enabled", device_type)]


def set_autocast_enabled(device_type: Any, enabled: bool | None = None) -> None:
    """Switch autocast on or off in this thread; set_autocast_enabled(enabled) is for 'cuda'."""
    if enabled is None:
        device_type, enabled = "cuda", device_type
    casting.enable(_known("set_autocast_enabled", device_type), bool(enabled))


def get_autocast_dtype(device_type: str) -> np.dtype:
    """The lower precision of this thread on a type of device."""
    return casting.lower(_known("get_autocast_dtype", device_type))


def set_autocast_dtype(device_type: str, dtype: Any) -> None:
    """Change the lower precision of this thread on a type of device."""
    here.dtype[_known("set_autocast_dtype", device_type)] = np.dtype(dtype)


def is_autocast_cache_enabled() -> bool:
    """Whether casts of weights are kept."""
    return here.caching


def set_autocast_cache_enabled(enabled: bool) -> None:
    """Keep casts of weights in this thread, or not."""
    here.caching = bool(enabled)


def clear_autocast_cache() -> None:
    """Forget the casts of weights of this thread."""
    here.cache.clear()


def autocast_increment_nesting() -> int:
    """Say that a block begins that this file does not know; gives how many there are."""
    here.nesting += 1
    return here.nesting


def autocast_decrement_nesting() -> int:
    """Say that such a block is over."""
    here.nesting -= 1
    return here.nesting


class restored:
    """A block in which autocast is as it was where this object was made: for a function that runs again later."""

    def __init__(self) -> None:
        self.state = dict(here.enabled), dict(here.dtype), here.caching
        self.before: list[tuple] = []

    def __enter__(self) -> None:
        self.before.append((dict(here.enabled), here.dtype, here.caching, here.inside))
        enabled, here.dtype, here.caching = self.state[0], dict(self.state[1]), self.state[2]
        here.inside, here.nesting = False, here.nesting + 1
        for where, on in enabled.items():
            casting.enable(where, on)

    def __exit__(self, *error: object) -> None:
        enabled, here.dtype, here.caching, here.inside = self.before.pop()
        for where, on in enabled.items():
            casting.enable(where, on)
        here.nesting -= 1
        if not here.nesting:
            here.cache.clear()
