"""PyTorch's promotion of dtypes: what float32 + int64, 2.5 * int32 or a 0-d tensor among others come to."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from . import backend
from .backend import namespace, on_card
from .tape import Traced


def category(dtype: np.dtype) -> int:
    """0 for bool, 1 for integers, 2 for real, 3 for complex floating types."""
    return 0 if dtype.kind == "b" else 1 if dtype.kind in "iu" else 3 if dtype.kind == "c" else 2


def widened(x: Any) -> Any:
    """An array in the dtype to compute in: float32 for half types."""
    return x.astype(np.float32) if x.dtype.itemsize == 2 else x


@cache
def promote_types(a: np.dtype, b: np.dtype) -> np.dtype:
    """The dtype that holds a value of either, by PyTorch's table: an integer never widens a floating type."""
    ca, cb = category(a), category(b)
    if a == b or ca > cb:
        if ca == 3 and cb == 2 and b.itemsize == 8:
            return backend.complex128
        return a
    if cb > ca:
        return promote_types(b, a)
    if ca == 2 and a.itemsize == b.itemsize == 2:  # float16 with bfloat16
        return backend.float32
    if ca == 2:
        return a if a.itemsize > b.itemsize else b
    return np.promote_types(a, b)


def result_type(*values: Any) -> np.dtype:
    """The common dtype of arrays, 0-d arrays and Python numbers, each weaker than the one before within a category."""
    found: list[Any] = [None, None, None]
    for v in values:
        if isinstance(v, Traced):
            v = v.array
        if isinstance(v, bool):
            rank, dtype = 2, backend.bool_
        elif isinstance(v, int):
            rank, dtype = 2, backend.int64
        elif isinstance(v, float) and not isinstance(v, np.generic):
            rank, dtype = 2, backend.get_default_dtype()
        elif isinstance(v, complex) and not isinstance(v, np.generic):
            rank, dtype = 2, backend.complex64
        else:
            rank, dtype = (0 if v.ndim else 1), v.dtype
        found[rank] = dtype if found[rank] is None else promote_types(found[rank], dtype)
    best = None
    for dtype in found:
        if dtype is None:
            continue
        if best is None:
            best = dtype
        elif category(dtype) > category(best):
            if category(best) == 2:  # a complex number of the stronger value's precision
                dtype = backend.complex128 if best.itemsize == 8 else backend.complex64
            best = dtype
    assert best is not None
    return best


def can_cast(from_: Any, to: Any) -> bool:
    """Whether values of one dtype may be written into another: not complex ones into a real dtype, floating ones into whole
    numbers, or any into bools.
    """
    return category(np.dtype(from_)) <= category(np.dtype(to))


class finfo:
    """The limits of a floating dtype, of the default one unless given, as Python's numbers: eps, max, min, tiny,
    smallest_normal, resolution, bits; of a complex dtype those of its parts. TypeError for whole numbers.
    """

    def __init__(self, dtype: Any = None) -> None:
        dtype = np.dtype(dtype or backend.get_default_dtype())
        if not backend.is_differentiable(dtype) and not dtype.name.startswith("float8"):
            raise TypeError(f"finfo: wanted a floating dtype, saw {dtype}; iinfo is for whole numbers")
        limits: Any = np.finfo
        if dtype.kind == "V":
            import ml_dtypes

            limits = ml_dtypes.finfo
        found = limits(dtype)
        self.bits, self.dtype = int(found.bits), found.dtype.name
        self.eps, self.max, self.min = float(found.eps), float(found.max), float(found.min)
        self.tiny = self.smallest_normal = float(found.smallest_normal)
        self.resolution = 10.0 ** -int(found.precision)

    def __repr__(self) -> str:
        names = ("resolution", "min", "max", "eps", "smallest_normal", "tiny")
        return f"finfo({', '.join(f'{n}={getattr(self, n):g}' for n in names)}, dtype={self.dtype})"


def iinfo(dtype: Any) -> Any:
    """The limits of an integer dtype: max, min, bits."""
    return np.iinfo(dtype)


def wrapped(n: int, dtype: np.dtype) -> int:
    """The Python integer n as one of an integer dtype: modulo its number of values, where n is not among them."""
    bits = 8 * dtype.itemsize
    if dtype.kind == "u":
        return n & (1 << bits) - 1 if n < 0 or n >> bits else n
    half = 1 << bits - 1
    return n if -half <= n < half else (n + half & (1 << bits) - 1) - half


def promote(op: Any, arrays: list[Any]) -> None:
    """Bring the promoted inputs of a call to their common dtype, in place in `arrays`."""
    which = range(len(arrays) - op.constants) if op.variadic else op.promote
    values = [arrays[i] for i in which if arrays[i] is not None]
    first = values[0]
    if all(type(v) is np.ndarray and v.dtype is first.dtype for v in values) and not (
        op.floating and first.dtype.kind in "biu"
    ):
        return
    dtype = result_type(*values)
    if op.floating and dtype.kind in "biu":
        dtype = backend.get_default_dtype()
    home = next((v for v in values if on_card(v)), None)
    for i in which:
        v = arrays[i]
        if isinstance(v, (np.ndarray, np.generic)):
            if home is not None:
                if v.ndim:
                    raise RuntimeError(
                        f"{op.name}: wanted all tensors on one device, saw cpu and {backend.device_of(home)}"
                    )
                v = namespace(home).asarray(v)
            arrays[i] = v if v.dtype == dtype else v.astype(dtype)
        elif on_card(v):
            arrays[i] = v if v.dtype == dtype else v.astype(dtype, copy=False)
        elif v is not None and home is None and all(not backend.is_array(arrays[j]) for j in which):
            arrays[i] = np.asarray(v, dtype)
        elif type(v) is int and dtype.kind in "iu" and len(which) == 2 and op.name != "pow":
            arrays[i] = wrapped(v, dtype)
