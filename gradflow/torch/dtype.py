"""PyTorch's dtypes: NumPy's, under the names that programs print and compare, and with what they are asked."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import backend
from ..dtypes import promote_types as promote
from ..dtypes import result_type as result

NAMES = {
    "float16": "half", "float32": "float", "float64": "double", "bfloat16": "", "uint8": "", "uint16": "", "uint32": "",
    "uint64": "", "int8": "", "int16": "short", "int32": "int", "int64": "long", "bool": "", "complex64": "cfloat",
    "complex128": "cdouble", "float8_e4m3fn": "", "float8_e5m2": "",
}  # fmt: skip


class dtype:
    """torch.float32 and its like. NumPy takes it for its own dtype, which is its attribute `dtype`."""

    __slots__ = ("name",)
    name: str

    @property
    def dtype(self) -> np.dtype:
        """NumPy's dtype. ImportError for bfloat16 and float8 where the package ml_dtypes is not installed."""
        if self.name.startswith("float8"):
            import ml_dtypes

            return np.dtype(getattr(ml_dtypes, self.name))
        return backend.bfloat16() if self.name == "bfloat16" else np.dtype(self.name)

    @property
    def is_floating_point(self) -> bool:
        """Whether it is a real floating type."""
        return "float" in self.name

    @property
    def is_complex(self) -> bool:
        """Whether it is complex."""
        return self.name.startswith("complex")

    @property
    def is_signed(self) -> bool:
        """Whether it has numbers below zero."""
        return self.name != "bool" and not self.name.startswith("u")

    def to_real(self) -> dtype:
        """The dtype of the parts of its complex numbers; itself if it is not complex."""
        return {"complex64": float32, "complex128": float64}.get(self.name, self)

    def to_complex(self) -> dtype:
        """The complex dtype with parts of its precision."""
        return {"float32": complex64, "float64": complex128}.get(self.name, self if self.is_complex else complex64)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.dtype, name)  # kind, itemsize, type, ... as NumPy's has them

    def __eq__(self, other: object) -> bool:
        if isinstance(other, dtype):
            return self.name == other.name
        if other is None or (self.name == "bfloat16" and getattr(other, "name", "") != "bfloat16"):
            return False
        return self.dtype == other

    def __hash__(self) -> int:
        return hash(self.dtype)

    def __repr__(self) -> str:
        return f"torch.{self.name}"

    def __reduce__(self) -> Any:
        return of, (self.name,)


def _make(name: str) -> dtype:
    made = object.__new__(dtype)
    made.name = name
    return made


def refuse(cls: type, *args: Any) -> Any:
    """There are no dtypes but these."""
    raise TypeError(f"dtype: wanted one of torch's own, such as torch.float32, saw torch.dtype{args}")


_made = {name: _make(name) for name in NAMES}
dtype.__new__ = refuse  # type: ignore[assignment]
float16, float32, float64, bfloat16 = (_made[n] for n in ("float16", "float32", "float64", "bfloat16"))
float8_e4m3fn, float8_e5m2 = _made["float8_e4m3fn"], _made["float8_e5m2"]
uint8, uint16, uint32, uint64 = (_made[n] for n in ("uint8", "uint16", "uint32", "uint64"))
int8, int16, int32, int64 = (_made[n] for n in ("int8", "int16", "int32", "int64"))
bool, complex64, complex128 = _made["bool"], _made["complex64"], _made["complex128"]
half, float, double, short, int, long = float16, float32, float64, int16, int32, int64
cfloat, cdouble = complex64, complex128


def of(kind: Any) -> dtype:
    """PyTorch's dtype for a NumPy dtype, or its name."""
    return _made[kind if isinstance(kind, str) else kind.name]


def get_default_dtype() -> dtype:
    """The floating dtype of new tensors made from Python numbers."""
    return of(backend.get_default_dtype())


def promote_types(type1: Any, type2: Any) -> dtype:
    """The dtype that holds a value of either."""
    return of(promote(np.dtype(type1), np.dtype(type2)))


def result_type(tensor1: Any, tensor2: Any) -> dtype:
    """The dtype of what comes of two tensors or numbers."""
    return of(result(tensor1, tensor2))
