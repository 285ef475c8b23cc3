"""Mixed precision in autograd.Functions: custom_fwd and custom_bwd."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import numpy as np

from ..backend import is_floating
from ..tape import Traced
from . import casting
from .blocks import autocast, get_autocast_dtype, is_autocast_enabled


def _cast(x: Any, device_type: str, dtype: np.dtype) -> Any:
    """Tensors in arguments, containers included, in a dtype."""
    if isinstance(x, Traced):
        return casting.cast(x, dtype, device_type) if is_floating(x.dtype) else x  # type: ignore[attr-defined]
    if isinstance(x, dict):
        return {_cast(k, device_type, dtype): _cast(v, device_type, dtype) for k, v in x.items()}
    return type(x)([_cast(v, device_type, dtype) for v in x]) if type(x) in (list, tuple) else x


def custom_fwd(fwd: Any = None, *, device_type: str, cast_inputs: Any = None) -> Callable[..., Any]:
    """Decorate the forward of a Function: backward can then run as forward did (custom_bwd).

    cast_inputs  a dtype: inside a block, floating tensors are cast to it and forward runs with autocast off
    """
    if not isinstance(device_type, str):
        raise ValueError(f"custom_fwd: wanted a device type, 'cuda' or 'cpu', saw {type(device_type).__name__}")
    if fwd is None:
        return partial(custom_fwd, device_type=device_type, cast_inputs=cast_inputs)

    @wraps(fwd)
    def forward(*args: Any, **kwargs: Any) -> Any:
        ctx, on = args[0], is_autocast_enabled(device_type)
        ctx._dtype, ctx._fwd_used_autocast = get_autocast_dtype(device_type), on and cast_inputs is None
        if cast_inputs is None or not on:
            return fwd(*args, **kwargs)
        to = np.dtype(cast_inputs)
        with autocast(device_type, enabled=False):
            return fwd(ctx, *_cast(args[1:], device_type, to), **_cast(kwargs, device_type, to))

    return forward


def custom_bwd(bwd: Any = None, *, device_type: str) -> Callable[..., Any]:
    """Decorate the backward of a Function whose forward has custom_fwd: it runs under the same autocast."""
    if not isinstance(device_type, str):
        raise ValueError(f"custom_bwd: wanted a device type, 'cuda' or 'cpu', saw {type(device_type).__name__}")
    if bwd is None:
        return partial(custom_bwd, device_type=device_type)

    @wraps(bwd)
    def backward(*args: Any, **kwargs: Any) -> Any:
        with autocast(device_type, enabled=args[0]._fwd_used_autocast, dtype=args[0]._dtype):
            return bwd(*args, **kwargs)

    return backward
