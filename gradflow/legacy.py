"""Constructors by the name of a class: Tensor(2, 3), and FloatTensor, LongTensor and their like."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from . import backend
from .backend import get_default_device
from .tape import Traced

KINDS = {
    "FloatTensor": "float32", "DoubleTensor": "float64", "HalfTensor": "float16", "BFloat16Tensor": "bfloat16",
    "ByteTensor": "uint8", "CharTensor": "int8", "ShortTensor": "int16", "IntTensor": "int32", "LongTensor": "int64",
    "BoolTensor": "bool", "ComplexFloatTensor": "complex64", "ComplexDoubleTensor": "complex128", "UInt16Tensor": "uint16",
    "UInt32Tensor": "uint32", "UInt64Tensor": "uint64",
}  # fmt: skip
_WORDS = {dtype: name for name, dtype in KINDS.items()}


def filled_from(name: str, data: tuple, dtype: np.dtype, where: Any = None) -> Any:
    """What a class is called with, as a tensor: nothing, sizes, a Size, a sequence of numbers, an array or a tensor, whose
    memory it shares. TypeError for a single number that is no size, or a tensor of another dtype.
    """
    from .convert import tensor
    from .create import empty
    from .op import wrap
    from .tensor import Size

    where = get_default_device() if where is None else where
    if not data:
        return empty(0, dtype=dtype, device=where)
    first = data[0]
    if len(data) == 1 and isinstance(first, Traced):
        if name not in ("Tensor", "Parameter") and first.array.dtype != dtype:
            raise TypeError(f"{name}: wanted a tensor of {dtype}, saw one of {first.array.dtype}")
        t = wrap(first.array)
        t.version = first.version
        return t
    if len(data) == 1 and isinstance(first, Size):
        return empty(first, dtype=dtype, device=where)
    if len(data) > 1 or (hasattr(first, "__index__") and not isinstance(first, (bool, np.ndarray))):
        try:
            return empty([operator.index(n) for n in data], dtype=dtype, device=where)
        except TypeError:
            raise TypeError(f"{name}: wanted sizes as ints, saw {data}") from None
    if isinstance(first, (bool, float, complex, str, bytes, dict, set)) or first is None:
        raise TypeError(f"{name}: wanted a sequence of numbers, saw {type(first).__name__}")
    return tensor(first, dtype=dtype, device=where)


class Kind(type):
    """What FloatTensor and its like have in common: calling one makes a tensor of its dtype, of which it is the class."""

    name: str

    @property
    def dtype(cls) -> np.dtype:
        """The dtype of its tensors."""
        return backend.bfloat16() if cls.name == "bfloat16" else np.dtype(cls.name)

    def __instancecheck__(cls, x: object) -> bool:
        return isinstance(x, Traced) and x.array.dtype.name == cls.name and not backend.on_card(x.array)

    def __call__(cls, *data: Any, device: Any = None) -> Any:
        return filled_from(cls.__name__, data, cls.dtype, device)


def type_name(array: Any) -> str:
    """`gradflow.FloatTensor`: the name of the class of tensors that an array would be."""
    from .printing import package

    return f"{package}.{'cuda.' if backend.on_card(array) else ''}{_WORDS[array.dtype.name]}"


def dtype_called(kind: Any) -> Any:
    """The dtype of a class, of its name with or without the package's, or of a dtype's name."""
    if isinstance(kind, str):
        last = kind.rpartition(".")[2]
        kind = KINDS.get(last, last)
        return backend.bfloat16() if kind == "bfloat16" else np.dtype(kind)
    return kind.dtype if isinstance(kind, type) and hasattr(kind, "dtype") else np.dtype(kind)


def set_default_tensor_type(t: Any) -> None:
    """Change the dtype of new tensors made from Python numbers to that of a class, or of its name."""
    backend.set_default_dtype(dtype_called(t))


globals().update({name: Kind(name, (), {"name": dtype, "__module__": __name__}) for name, dtype in KINDS.items()})
