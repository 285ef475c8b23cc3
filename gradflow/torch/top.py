"""Names of torch itself that gradflow has under another name, in another place, or only for programs of PyTorch."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

import gradflow

from .. import autograd
from ..backend import device
from ..formats import (  # noqa: F401
    channels_last,
    channels_last_3d,
    contiguous_format,
    layout,
    memory_format,
    preserve_format,
    strided,
)  # fmt: skip
from ..io import load, save
from ..tensor import Size, Tensor
from . import program
from .amp import (  # noqa: F401
    get_autocast_cpu_dtype,
    get_autocast_gpu_dtype,
    is_autocast_cpu_enabled,
    set_autocast_cpu_dtype,
    set_autocast_cpu_enabled,
    set_autocast_gpu_dtype,
)
from .dtype import (  # the dtypes, under all their names
    bfloat16,
    bool,
    cdouble,
    cfloat,
    complex64,
    complex128,
    double,
    dtype,
    float,
    float8_e4m3fn,
    float8_e5m2,
    float16,
    float32,
    float64,
    get_default_dtype,
    half,
    int,
    int8,
    int16,
    int32,
    int64,
    long,
    promote_types,
    result_type,
    short,
    uint8,
    uint16,
    uint32,
    uint64,
)  # fmt: skip
from .random import Generator, default_generator, get_rng_state, initial_seed, manual_seed, seed, set_rng_state
from .switches import (
    are_deterministic_algorithms_enabled,
    get_deterministic_debug_mode,
    get_float32_matmul_precision,
    get_num_interop_threads,
    get_num_threads,
    is_deterministic_algorithms_warn_only_enabled,
    is_warn_always_enabled,
    set_deterministic_debug_mode,
    set_float32_matmul_precision,
    set_flush_denormal,
    set_num_interop_threads,
    set_num_threads,
    set_warn_always,
    use_deterministic_algorithms,
)  # fmt: skip

__all__ = [
    "Generator",
    "Size",
    "Tensor",
    "are_deterministic_algorithms_enabled",
    "bfloat16",
    "bool",
    "cdouble",
    "cfloat",
    "complex64",
    "complex128",
    "default_generator",
    "device",
    "double",
    "dtype",
    "float",
    "float8_e4m3fn",
    "float8_e5m2",
    "float16",
    "float32",
    "float64",
    "get_default_dtype",
    "get_deterministic_debug_mode",
    "get_float32_matmul_precision",
    "get_num_interop_threads",
    "get_num_threads",
    "get_rng_state",
    "half",
    "initial_seed",
    "int",
    "int8",
    "int16",
    "int32",
    "int64",
    "is_deterministic_algorithms_warn_only_enabled",
    "is_warn_always_enabled",
    "load",
    "long",
    "manual_seed",
    "promote_types",
    "result_type",
    "save",
    "seed",
    "set_deterministic_debug_mode",
    "set_float32_matmul_precision",
    "set_flush_denormal",
    "set_num_interop_threads",
    "set_num_threads",
    "set_rng_state",
    "set_warn_always",
    "short",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "use_deterministic_algorithms",
]  # fmt: skip

VERSION = "2.13.0+gradflow"


class TorchVersion(str):
    """A version that compares with other versions, strings and tuples by its numbers."""

    __slots__ = ()
    __hash__ = str.__hash__

    @staticmethod
    def _numbers(v: Any) -> tuple[builtins.int, ...]:
        parts = v if isinstance(v, tuple) else str(v).partition("+")[0].split(".")
        found = []
        for part in parts:
            digits = "".join(c for c in str(part) if c.isdigit())
            found.append(builtins.int(digits or 0))
        return tuple(found)

    def _compare(self, other: Any, how: Callable[[Any, Any], Any]) -> Any:
        a, b = self._numbers(str(self)), self._numbers(other)
        n = max(len(a), len(b))
        return how(a + (0,) * (n - len(a)), b + (0,) * (n - len(b)))

    def __lt__(self, other: Any) -> Any:
        return self._compare(other, lambda a, b: a < b)

    def __le__(self, other: Any) -> Any:
        return self._compare(other, lambda a, b: a <= b)

    def __gt__(self, other: Any) -> Any:
        return self._compare(other, lambda a, b: a > b)

    def __ge__(self, other: Any) -> Any:
        return self._compare(other, lambda a, b: a >= b)


version_of_torch = TorchVersion(VERSION)
compile = program.compile
newaxis, inf, nan, pi, e = None, builtins.float("inf"), builtins.float("nan"), np.pi, np.e
Device: TypeAlias = Any
Number: TypeAlias = builtins.int | builtins.float | builtins.bool
OutOfMemoryError = MemoryError


def is_storage(obj: Any) -> builtins.bool:
    """False: memory is an array's."""
    return False


is_inference_mode_enabled = autograd.is_inference_mode_enabled
is_anomaly_enabled, is_anomaly_check_nan_enabled = (
    autograd.anomaly.is_anomaly_enabled, autograd.anomaly.is_anomaly_check_nan_enabled,
)  # fmt: skip


def to_dlpack(tensor: Any) -> Any:
    """A DLPack capsule that shares the tensor's memory."""
    return tensor.__dlpack__()


def typename(obj: Any) -> str:
    """The name of a tensor's type, or of an object's class."""
    if isinstance(obj, Tensor):
        return obj.type()
    cls = obj if isinstance(obj, type) else type(obj)
    return f"{cls.__module__}.{cls.__qualname__}"


def parse_to(*args: Any, **named: Any) -> tuple[Any, Any, Any, Any]:
    """(device, dtype, non_blocking, memory_format) of the arguments that to() takes: torch._C._nn._parse_to."""
    place, kind, later = named.get("device"), named.get("dtype"), named.get("non_blocking", False)
    for a in args:
        if isinstance(a, Tensor):
            place, kind = a.device, a.dtype
        elif isinstance(a, builtins.bool):
            later = a
        elif isinstance(a, builtins.int):
            place = gradflow.backend.device("cuda", a)
        elif isinstance(a, (str, gradflow.backend.device)):
            place = a
        elif a is not None:
            kind = a
    return None if place is None else gradflow.backend.device(place), kind, later, named.get("memory_format")


def check(condition: Any, message: str) -> None:
    """AssertionError with the message unless the condition holds: torch._assert."""
    assert condition, message


def compiled_with_cxx11_abi() -> builtins.bool:
    """True."""
    return True
