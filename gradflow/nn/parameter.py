"""Parameters and buffers: the tensors that a module owns, and those whose shape is not known yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import backend
from ..op import wrap
from ..tape import Leaf, Traced, Version
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

    def __deepcopy__(self, memo: dict) -> Any:
        grad, self.grad = self.grad, None  # PyTorch's copies of parameters have no gradient
        try:
            return super().__deepcopy__(memo)
        finally:
            self.grad = grad

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


# --- shapes that the first input tells ------------------------------------------------------------------


class _Unformed:
    """What an uninitialised parameter and buffer share: a dtype and a device, and no array until materialize().

    like   an empty tensor that has the dtype and the device
    """

    like: Any
    version: Any
    becomes: type

    def _begin(self, device: Any, dtype: Any) -> None:
        self.like, self.node, self.version = blank((0,), dtype, device), None, Version()

    @property
    def array(self) -> Any:
        raise ValueError(
            f"{type(self).__name__}: it has no values before the module has seen its first input; run the module once"
        )

    @array.setter
    def array(self, value: Any) -> None:
        raise ValueError(f"{type(self).__name__}: it takes no values; use materialize(shape) first")

    @property
    def shape(self) -> Any:
        """RuntimeError: it has none yet."""
        raise RuntimeError(
            f"{type(self).__name__}: it has no shape before the module has seen its first input; run the module once"
        )

    @property
    def dtype(self) -> Any:
        """The dtype it will have."""
        return self.like.dtype

    @property
    def device(self) -> Any:
        """The device it will be on."""
        return self.like.device

    @property
    def is_cuda(self) -> bool:
        """Whether it will be on the card."""
        return self.like.is_cuda

    @property
    def data(self) -> Any:
        """Itself: there is nothing behind it."""
        return self

    def detach(self) -> Any:
        """Itself, for a state_dict."""
        return self

    def is_floating_point(self) -> bool:
        """Whether it will be of a real floating type."""
        return self.like.is_floating_point()

    def move(self, fn: Callable[[Any], Any]) -> None:
        """Take the dtype and device that fn gives."""
        self.like = fn(self.like)

    def materialize(self, shape: Any, device: Any = None, dtype: Any = None) -> None:
        """Become an ordinary one of this shape, with uninitialised values."""
        data = blank(tuple(shape), dtype or self.like.dtype, device or self.like.device)
        wanted = self.node is not None  # type: ignore[has-type]
        del self.like
        self.node = None
        self.__class__ = self.becomes  # type: ignore[assignment]
        self.array = data.array
        if wanted:
            self.requires_grad_()  # type: ignore[attr-defined]

    def __deepcopy__(self, memo: dict) -> Any:
        t = memo[id(self)] = type(self).__new__(type(self))
        t._begin(self.like.device, self.like.dtype)
        t.__dict__.update({k: v for k, v in self.__dict__.items() if k not in ("like", "node", "version")})
        if self.node is not None:
            t.requires_grad_()
        return t

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    __str__ = __repr__


class UninitializedParameter(_Unformed, Parameter):  # type: ignore[misc]
    """A parameter of a lazy module, whose shape the first input will tell."""

    becomes = Parameter

    def __init__(self, requires_grad: bool = True, device: Any = None, dtype: Any = None) -> None:
        self._begin(device, dtype)
        if requires_grad:
            self.requires_grad_()

    def requires_grad_(self, requires_grad: bool = True) -> Any:
        """Ask, or stop asking, for gradients with respect to it."""
        self.node = Leaf(self.like) if requires_grad else None
        return self

    @property
    def grad_fn(self) -> None:
        """None: it is a leaf."""
        return None


class UninitializedBuffer(_Unformed, Buffer):  # type: ignore[misc]
    """A buffer of a lazy module, whose shape the first input will tell."""

    becomes = Tensor

    def __init__(
        self, requires_grad: bool = False, device: Any = None, dtype: Any = None, persistent: bool = True
    ) -> None:
        self._begin(device, dtype)
        self.persistent = persistent


def is_lazy(t: Any) -> bool:
    """Whether t has no shape yet."""
    return isinstance(t, _Unformed)


def blank(shape: tuple[int, ...], dtype: Any = None, device: Any = None) -> Tensor:
    """An uninitialised tensor, of the default dtype and on the CPU unless said otherwise."""
    if any(n < 0 for n in shape):
        raise RuntimeError(f"empty: wanted sizes of at least 0, saw {tuple(shape)}")
    dtype = backend.get_default_dtype() if dtype is None else np.dtype(dtype)
    with backend.on(backend.device(device or "cpu")) as xp:
        return wrap(xp.empty(shape, dtype))


def filled(shape: tuple[int, ...], value: float, dtype: Any = None, device: Any = None) -> Tensor:
    """A tensor of one value."""
    t = blank(shape, dtype, device)
    t.array.fill(value)
    return t
