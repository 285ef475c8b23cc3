"""Parameters and buffers: the tensors that a module owns."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import backend
from ..op import wrap
from ..tape import Traced
from ..tensor import Tensor


class Parameter(Tensor):
    """A tensor that a module registers when it is assigned as an attribute, and that optimizers update.

    data            the tensor whose memory it takes over; None for an empty one
    requires_grad   whether gradients with respect to it are wanted
    """

    def __init__(self, data: Any = None, requires_grad: bool = True) -> None:
        _take(self, data)
        if requires_grad:
            self.requires_grad_()

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()

    __str__ = __repr__


class Buffer(Tensor):
    """A tensor that a module registers as a buffer when it is assigned as an attribute.

    persistent   whether it is part of the module's state_dict
    """

    persistent = True

    def __init__(self, data: Any = None, *, persistent: bool = True) -> None:
        _take(self, data)
        self.persistent = persistent


def _take(t: Tensor, data: Any) -> None:
    """Make t, fresh from __new__, a tensor on the memory of `data`."""
    if data is None:
        data = wrap(np.empty(0, backend.get_default_dtype()))
    elif not isinstance(data, Traced):
        raise TypeError(f"{type(t).__name__}: wanted a tensor, saw {type(data).__name__}")
    t.array, t.node, t.version = data.array, None, data.version


def blank(shape: tuple[int, ...], dtype: Any = None, device: Any = None) -> Tensor:
    """An uninitialised tensor, of the default dtype and on the CPU unless said otherwise."""
    dtype = backend.get_default_dtype() if dtype is None else np.dtype(dtype)
    with backend.on(backend.device(device or "cpu")) as xp:
        return wrap(xp.empty(shape, dtype))


def filled(shape: tuple[int, ...], value: float, dtype: Any = None, device: Any = None) -> Tensor:
    """A tensor of one value."""
    t = blank(shape, dtype, device)
    t.array.fill(value)
    return t
