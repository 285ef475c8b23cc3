"""Moving and casting what a module holds."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from typing import Any, Self

import numpy as np

from .. import backend
from ..op import wrap
from ..tape import Traced
from ..tensor import Tensor
from .parameter import is_lazy


class Movable:
    """The part of Module that changes the arrays of its parameters and buffers."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Let every parameter, gradient and buffer be fn of itself. Parameters stay the same objects."""
        if recurse:
            for module in self.children():  # type: ignore[attr-defined]
                module._apply(fn)
        d = self.__dict__
        for p in d["_parameters"].values():
            if p is None:
                continue
            if is_lazy(p):
                p.move(fn)
                continue
            for t in (p,) if p.grad is None else (p, p.grad):
                moved = fn(t.data)
                if moved.array is not t.array:
                    t.data = moved
        for name, b in d["_buffers"].items():
            if b is None:
                continue
            if is_lazy(b):
                b.move(fn)
            else:
                d["_buffers"][name] = fn(b)
        return self

    def to(
        self, *args: Any, dtype: Any = None, device: Any = None, non_blocking: bool = False, memory_format: Any = None
    ) -> Self:
        """Move to a device and/or cast what is floating, given a device, a dtype, both, or a tensor that has them; and lay
        parameters and buffers of 4 or 5 dims out in a memory format, such as channels_last for convolutions.
        """
        for a in args:
            if isinstance(a, Traced):
                dtype, device = a.array.dtype, backend.device_of(a.array)
            elif isinstance(a, backend.device) or (isinstance(a, str) and a.startswith(("cpu", "cuda"))):
                device = a
            elif isinstance(a, bool):
                non_blocking = a
            elif isinstance(a, int):
                device = backend.device("cuda", a)
            elif a is not None:
                dtype = a
        if dtype is not None:
            dtype = np.dtype(dtype)
            if not backend.is_differentiable(dtype):
                raise TypeError(f"to: wanted a floating or complex dtype, saw {dtype}")

        def move(t: Tensor) -> Tensor:
            cast = dtype if dtype is not None and backend.is_differentiable(t.array.dtype) else None
            order = memory_format if t.array.ndim in (4, 5) else None
            return t.to(device=device, dtype=cast, non_blocking=non_blocking, memory_format=order)

        return self._apply(move)

    def to_empty(self, *, device: Any, recurse: bool = True) -> Self:
        """Move to a device without the values: parameters and buffers are uninitialised there."""

        def blank(t: Tensor) -> Tensor:
            with backend.on(backend.device(device)) as xp:
                return wrap(xp.empty(t.array.shape, t.array.dtype))

        return self._apply(blank, recurse)

    def share_memory(self) -> Self:
        """Put parameters and buffers that are on the CPU into memory that processes forked from this one share."""

        def shared(t: Tensor) -> Tensor:
            if t.is_cuda or not t.array.size:
                return t
            memory = mmap.mmap(-1, t.array.nbytes)
            array = np.frombuffer(memory, t.array.dtype).reshape(t.array.shape)
            array[...] = t.array
            return wrap(array)

        return self._apply(shared)

    def cpu(self) -> Self:
        """Move to the CPU."""
        return self.to("cpu")

    def cuda(self, device: Any = None) -> Self:
        """Move to the card."""
        return self.to(backend.device("cuda", device) if isinstance(device, int) else device or "cuda")

    def type(self, dst_type: Any) -> Self:
        """Cast all parameters and buffers, integers too."""
        return self._apply(lambda t: t.to(np.dtype(dst_type)))

    def _cast(self, dtype: np.dtype) -> Self:
        return self._apply(lambda t: t.to(dtype) if t.is_floating_point() else t)

    def float(self) -> Self:
        """Cast what is floating to float32."""
        return self._cast(backend.float32)

    def double(self) -> Self:
        """Cast what is floating to float64."""
        return self._cast(backend.float64)

    def half(self) -> Self:
        """Cast what is floating to float16."""
        return self._cast(backend.float16)

    def bfloat16(self) -> Self:
        """Cast what is floating to bfloat16."""
        return self._cast(backend.bfloat16())
