"""Tensors of data: of numbers, nested sequences, arrays, buffers and other libraries' tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np

from . import backend, formats
from .backend import device, get_default_device, get_default_dtype
from .dtypes import promote_types
from .op import wrap
from .tape import Traced
from .tensor import Tensor

# --- what all have in common ------------------------------------------------------------------------------


def made(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A function that makes a tensor, with the keywords that all of them take: out, requires_grad, layout, pin_memory,
    memory_format and names. Only out, requires_grad and memory_format mean something here.
    """

    @wraps(function)
    def make(
        *args: Any,
        out: Any = None,
        requires_grad: Any = False,
        layout: Any = None,
        pin_memory: Any = None,
        memory_format: Any = None,
        names: Any = None,
        **kwargs: Any,
    ) -> Tensor:
        t = function(*args, **kwargs)
        if memory_format is not None:
            t = formats.in_format(make.__name__, t, memory_format, copy=False)
        if out is not None:
            out.resize_(t.shape)
            return out.copy_(t)
        return t.requires_grad_() if requires_grad else t

    return make


def place(where: Any) -> Any:
    """The namespace of the device to make a tensor on: where that is, or the default device."""
    return backend.on(device(where) if where is not None else get_default_device())


# --- from data --------------------------------------------------------------------------------------------

_PLAIN: dict[type, np.dtype] = {bool: backend.bool_, int: backend.int64}


def _kinds(data: Any, found: set) -> None:
    """The dtypes of what nested sequences hold, and the types of numbers that have none."""
    types = set(map(type, data))
    for t in types:
        if t in (bool, int, float, complex):
            found.add(t)
        elif issubclass(t, np.generic):
            found.add(np.dtype(t))
    if not types <= {bool, int, float, complex}:
        for v in data:
            if isinstance(v, Traced):
                found.add(v.array.dtype)
            elif backend.is_array(v):
                found.add(v.dtype)
            elif isinstance(v, Sequence) and not isinstance(v, (str, bytes)):
                _kinds(v, found)


def dtype_of(data: Any) -> np.dtype | None:
    """The dtype of the numbers in a sequence, as PyTorch takes it: that of arrays among them, the default floating one for
    Python's floats; None for no numbers.
    """
    found: set = set()
    _kinds(data if isinstance(data, Sequence) else [data], found)
    best = None
    for kind in found:
        if kind is float:
            dtype = get_default_dtype()
        elif kind is complex:
            dtype = backend.complex128 if get_default_dtype() == backend.float64 else backend.complex64
        else:
            dtype = _PLAIN.get(kind, kind)
        best = dtype if best is None else promote_types(best, dtype)
    return best


def _numbers(data: Any) -> Any:
    """Nested sequences that hold tensors, as nested lists of numbers and arrays."""
    if isinstance(data, Traced):
        return backend.asnumpy(data.array)
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes)):
        if any(isinstance(v, (Traced, Sequence)) for v in data):
            # a tensor of one element counts as a number
            return [v.array.item() if isinstance(v, Traced) and v.array.size == 1 else _numbers(v) for v in data]
        return list(data) if not isinstance(data, (list, tuple)) else data
    return data


def _refused(name: str, data: Any) -> Exception:
    """The error for data that are no numbers, of PyTorch's kind."""
    if isinstance(data, (str, bytes)):
        return TypeError(f"{name}: wanted numbers, saw {type(data).__name__}")
    while isinstance(data, (list, tuple)) and data:
        data = next((v for v in data if not isinstance(v, (int, float, complex, np.generic))), data[0])
        if isinstance(data, (str, bytes)):
            return ValueError(f"{name}: wanted numbers, saw {type(data).__name__}")
    return RuntimeError(f"{name}: wanted numbers, saw {type(data).__name__}")


def _array(name: str, data: Any, dtype: Any, where: Any, copy: bool) -> Any:
    """The array of any data, in memory of its own if `copy`; a tensor's stays where it is, others go to the default device."""
    of_tensor = isinstance(data, Traced)
    if of_tensor:
        data = data.array
    if backend.is_array(data) or isinstance(data, np.generic):
        array = np.asarray(data) if isinstance(data, np.generic) else data
        if array.dtype.kind not in "biufcV":
            raise TypeError(f"{name}: wanted numbers, saw an array of {array.dtype}")
        if not array.dtype.isnative:
            raise ValueError(f"{name}: wanted an array in this machine's byte order, saw {array.dtype}")
    else:
        if isinstance(data, (str, bytes, dict, set)) or data is None:
            raise _refused(name, data)
        try:
            array = np.asarray(_numbers(data))
        except ValueError as e:
            raise ValueError(f"{name}: wanted nested sequences of equal lengths, saw ragged ones") from e
        if array.dtype.kind == "O" and isinstance(data, (int, list, tuple)) and _too_large(array):
            raise ValueError(f"{name}: wanted integers of at most 64 bits, saw larger ones")
        if array.dtype.kind not in "biufcV":
            raise _refused(name, data)
        copy = False
        if dtype is None:
            kind = dtype_of(data) if not hasattr(data, "__array__") else array.dtype
            kind = get_default_dtype() if kind is None else kind
            if array.dtype == np.uint64 and kind == backend.int64:
                raise ValueError(f"{name}: wanted integers that fit into int64, saw larger ones")
            array = array if array.dtype == kind else array.astype(kind)
    if dtype is not None and array.dtype != np.dtype(dtype):
        array, copy = _cast(name, data, array, np.dtype(dtype)), False
    if where is not None or (type(array) is np.ndarray and not of_tensor):
        where = device(where) if where is not None else get_default_device()
        if where != backend.device_of(array):
            return backend.to_device(array, where)
    return array.copy() if copy else array


def _too_large(array: Any) -> bool:
    return all(isinstance(v, (int, float)) for v in array.reshape(-1).tolist())


def _cast(name: str, data: Any, array: Any, dtype: np.dtype) -> Any:
    if dtype.kind in "iu" and not backend.is_array(data) and array.dtype.kind in "iu" and array.size:
        limits = np.iinfo(dtype)
        if int(array.max()) > limits.max or int(array.min()) < (limits.min or -limits.max):  # as in C, -1 is the largest
            raise RuntimeError(f"{name}: wanted values that fit into {dtype}, saw {array.min()} to {array.max()}")
    if array.dtype.kind == "c" and dtype.kind not in "cb":
        if not backend.is_array(data):
            raise TypeError(f"{name}: wanted real numbers for {dtype}, saw complex ones")
        array = array.real
    with np.errstate(invalid="ignore", over="ignore"):
        return array.astype(dtype)


@made
def tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """A new tensor that copies `data`: numbers, nested sequences, arrays or tensors. Python floats get the default dtype.
    RuntimeError or TypeError for what is no number, ValueError for ragged sequences and integers beyond 64 bits.
    """
    return wrap(_array("tensor", data, dtype, device, copy=True))


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """A tensor of `data`, sharing its memory (and a tensor's place on the tape) where dtype and device allow."""
    if isinstance(data, Tensor):
        return data.to(device=device, dtype=dtype)
    return wrap(_array("as_tensor", data, dtype, device, copy=False))


def asarray(
    obj: Any, *, dtype: Any = None, device: Any = None, copy: bool | None = None, requires_grad: bool = False
) -> Tensor:
    """A tensor of any data, of a buffer's bytes or of a DLPack array. It shares memory where it can, always with
    copy=False (ValueError if it cannot), never with copy=True.
    """
    if isinstance(obj, Tensor):
        t = obj.to(dtype=dtype, device=device)
        if copy is False and t is not obj:
            raise ValueError("asarray: wanted a dtype and device that obj has, for copy=False")
        t = t.clone() if copy and t is obj else t
        if not requires_grad and t.requires_grad:
            t = t.detach()
    else:
        plain = backend.is_array(obj)
        if not plain and not isinstance(obj, (int, float, complex, list, tuple, np.generic)):
            try:
                view = memoryview(obj)
            except TypeError:
                view = None
            if view is not None:
                obj, plain = frombuffer(obj, dtype=dtype or get_default_dtype()).array, True
            elif hasattr(obj, "__dlpack__"):
                obj, plain = from_dlpack(obj).array, True
        if copy is False and (not plain or (dtype is not None and np.dtype(dtype) != obj.dtype)):
            raise ValueError("asarray: wanted data that can be shared, for copy=False")
        t = wrap(_array("asarray", obj, dtype, device, copy=bool(copy)))
    return t.requires_grad_() if requires_grad else t


def from_numpy(array: np.ndarray) -> Tensor:
    """A tensor that shares the memory of a NumPy array. TypeError for anything else, or another dtype than numbers."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"from_numpy: wanted a numpy.ndarray, saw {type(array).__name__}")
    if array.dtype.kind not in "biufcV":
        raise TypeError(f"from_numpy: wanted numbers, saw an array of {array.dtype}")
    if not array.dtype.isnative:
        raise ValueError(f"from_numpy: wanted an array in this machine's byte order, saw {array.dtype}")
    return wrap(array)


def frombuffer(buffer: Any, *, dtype: Any, count: int = -1, offset: int = 0, requires_grad: bool = False) -> Tensor:
    """A tensor of `count` elements of a buffer's bytes from `offset` on (all that are there for -1), in its memory.
    ValueError unless they are there and there is one at least.
    """
    dtype = np.dtype(dtype)
    try:
        view = memoryview(buffer)
    except TypeError:
        raise ValueError(f"frombuffer: wanted an object with a buffer, saw {type(buffer).__name__}") from None
    length, item = view.nbytes, dtype.itemsize
    if not length or not count:
        raise ValueError(f"frombuffer: wanted one element or more, saw a buffer of {length} bytes and count {count}")
    if not 0 <= offset < length:
        raise ValueError(f"frombuffer: wanted an offset within {length} bytes, saw {offset}")
    if count < 0:
        if (length - offset) % item:
            raise ValueError(f"frombuffer: wanted a multiple of {item} bytes after the offset, saw {length - offset}")
        count = (length - offset) // item
    elif offset + count * item > length:
        raise ValueError(f"frombuffer: wanted {count * item} bytes after the offset, saw {length - offset}")
    array = np.frombuffer(buffer, np.uint8, count * item, offset).view(dtype)
    t = wrap(array if array.flags.writeable else array.copy())  # PyTorch would let what is read-only be written
    return t.requires_grad_() if requires_grad else t


class _Capsule:
    """The owner that a bare DLPack capsule does not name."""

    def __init__(self, capsule: Any) -> None:
        self.capsule = capsule

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self.capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0


def from_dlpack(ext_tensor: Any, *, device: Any = None, copy: bool | None = None) -> Tensor:
    """A tensor that shares the memory of any DLPack array: NumPy, CuPy, PyTorch, JAX, ...; or of a capsule from the CPU."""
    if type(ext_tensor).__name__ == "PyCapsule":
        ext_tensor = _Capsule(ext_tensor)
    on_card = ext_tensor.__dlpack_device__()[0] == 2
    t = wrap((backend.need_card("from_dlpack") if on_card else np).from_dlpack(ext_tensor))
    t = t if device is None else t.to(device)
    return t.clone() if copy else t
