"""The face of a batched tensor: what of its array one sample's code may know and do, which is all but see the values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import op

if TYPE_CHECKING:
    from .batched import Batched

LATE = "vmap: a batched tensor was used after the vmap that made it; return it from the mapped function"


def _refuse(what: str) -> Any:
    def refuse(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.owner.levels[-1].over:
            raise RuntimeError(LATE)
        raise RuntimeError(
            f"vmap: {what} asks for the values of a batched tensor, but a mapped function may not look at them: no "
            "item(), bool(), numpy() or tolist(), no control flow that depends on data, and no writing of a batched "
            "tensor into one that is not"
        )

    return refuse


class Face:
    """What of the array of a Batched tensor one sample's code may know: its shape and dtype, not its values."""

    __slots__ = ("dtype", "owner", "shape")

    def __init__(self, owner: Batched) -> None:
        self.owner, array = owner, owner.value.array
        self.shape, self.dtype = array.shape[len(owner.levels) :], array.dtype

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements of one sample."""
        return math.prod(self.shape)

    @property
    def itemsize(self) -> int:
        """Bytes per element."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of one sample."""
        return self.size * self.dtype.itemsize

    @property
    def strides(self) -> tuple[int, ...]:
        """Steps in bytes."""
        return self.owner.value.array.strides[len(self.owner.levels) :]

    @property
    def flags(self) -> Any:
        """The flags of the whole array."""
        return self.owner.value.array.flags

    def astype(self, dtype: Any, **options: Any) -> Face:
        """The face of the tensor cast to dtype."""
        return self if self.dtype == dtype else self._tensor().to(np.dtype(dtype)).array

    def _tensor(self) -> Any:
        return self.owner.detach()

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """NumPy's elementwise functions, by the op of that meaning."""
        name = _UFUNCS.get(ufunc.__name__, ufunc.__name__)
        if method != "__call__" or options or name not in op.table:
            return _refuse(f"numpy.{ufunc.__name__}")(self)
        if name in ("maximum", "minimum"):  # these take no numbers
            inputs = tuple(np.asarray(v, self.dtype) if isinstance(v, (int, float)) else v for v in inputs)
        return op.table[name](*inputs).array

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len: wanted a tensor of one dimension or more, saw a 0-d one")
        return self.shape[0]

    def __getitem__(self, where: Any) -> Any:
        return self._tensor()[where].array

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name not in _METHODS:
            return _refuse(f"array.{name}")(self)
        return lambda *args, **named: getattr(self._tensor(), _METHODS[name])(*args, **named).array

    @property
    def __array_interface__(self) -> Any:
        return _refuse("its place in memory")(self)

    __hash__ = object.__hash__


# What of arrays a Face has: it gives another Face, whose values are no more seen than its own.
_METHODS = {
    "sum": "sum", "mean": "mean", "any": "any", "all": "all", "max": "amax", "min": "amin", "reshape": "reshape",
    "transpose": "permute", "ravel": "ravel", "copy": "clone", "cumsum": "cumsum", "argmax": "argmax", "argmin": "argmin",
}  # fmt: skip
_UFUNCS = {
    "multiply": "mul", "subtract": "sub", "divide": "div", "true_divide": "div", "not_equal": "ne", "equal": "eq",
    "less": "lt", "less_equal": "le", "greater": "gt", "greater_equal": "ge", "negative": "neg", "absolute": "abs",
    "power": "pow", "conjugate": "conj_physical", "invert": "bitwise_not",
}  # fmt: skip


def _operator(name: str) -> Any:
    def apply(self: Face, *others: Any) -> Any:
        return getattr(self._tensor(), name)(*others).array

    return apply


_OPERATORS = """
    eq ne lt le gt ge add radd sub rsub mul rmul truediv rtruediv pow rpow neg abs invert and or xor mod floordiv matmul
"""
for _name in _OPERATORS.split():
    setattr(Face, f"__{_name}__", _operator(f"__{_name}__"))
for _name in ("array", "bool", "iter", "setitem", "float", "int", "index", "contains"):
    setattr(Face, f"__{_name}__", _refuse(_name))
