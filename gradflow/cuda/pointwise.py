"""Launchers of the elementwise ops: for each row of ops/pointwise.py the line of its name in kernels/pointwise.cuh.

Contiguous arrays of one shape go through the raw kernel of kernels/pointwise.cu, 16 bytes per load; strided, broadcast
and misaligned ones through CuPy's ElementwiseKernel around the same line. Arrays must share one floating dtype;
everything else (integers, masks, NumPy scalars) is left to the definition.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from .. import backend
from ..backend import Array, need_card
from . import launch as launching
from .launch import blocks, ctype, folder, launch

THREADS = 256

# Rows whose result is True or False.
PREDICATES = {
    "eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor", "logical_not",
    "isnan", "isinf", "isfinite",
}  # fmt: skip
# Rows with a choice of formulas: the last argument picks the function.
CHOICES = {
    "gelu": {"none": "gelu", "tanh": "gelu_tanh"},
    "gelu_backward": {"none": "gelu_backward", "tanh": "gelu_backward_tanh"},
}


class Kind:
    """A dtype as the kernels see it: its C++ name, the type they compute in, how many fill 16 bytes."""

    def __init__(self, dtype: np.dtype) -> None:
        self.name, self.dtype, self.pack = ctype(dtype), dtype, 16 // dtype.itemsize
        self.number: Any = np.float64 if dtype == backend.float64 else np.float32
        self.acc = "double" if dtype == backend.float64 else "float"
        self.unroll = 1 if dtype == backend.float64 else 2  # more would spill registers


_kinds: dict[int, Kind | None] = {}  # by dtype.num, which is quicker to look up than the dtype


def _kind(dtype: np.dtype) -> Kind | None:
    kind = _kinds[dtype.num] = Kind(dtype) if backend.is_floating(dtype) else None
    return kind


class Twin:
    """The launcher of one row."""

    def __init__(self, name: str) -> None:
        self.name, self.result = name, backend.bool_ if name in PREDICATES else None
        self.choices = CHOICES.get(name)
        self.compiled: dict[tuple, str] = {}  # (function, dtype, which inputs are arrays) -> C++ name

    def __call__(self, *args: Any) -> Any:
        """The definition's result for arrays on the card and numbers, or NotImplemented."""
        if self.choices is None:
            return self.run(self.name, args)
        if args[-1] not in self.choices:
            return NotImplemented  # the definition raises
        return self.run(self.choices[args[-1]], args[:-1])

    def run(self, function: str, args: tuple) -> Any:
        """Launch a function of pointwise.cuh, or NotImplemented."""
        cp = need_card(self.name)
        card_array, first, which, flat, fortran = cp.ndarray, None, 0, True, False
        for a in args:
            which *= 2
            t = type(a)
            if t is card_array:
                which += 1
                if first is None:
                    first, dtype, shape = a, a.dtype, a.shape
                    flags = a.flags
                    if not flags.c_contiguous:
                        flat, fortran = False, flags.f_contiguous
                elif a.dtype != dtype:
                    return NotImplemented
                elif a.shape != shape:
                    flat = fortran = False
                elif flat:
                    flat = a.flags.c_contiguous
                elif fortran:
                    fortran = a.flags.f_contiguous
            elif t is not float and t is not int and t is not bool:
                return NotImplemented
        if first is None:
            return NotImplemented
        kind = _kinds[dtype.num] if dtype.num in _kinds else _kind(dtype)
        if kind is None:
            return NotImplemented
        if fortran:  # the transposes are contiguous
            return self.run(function, tuple([a.T if type(a) is card_array else a for a in args])).T
        if self.result is not None and kind.pack == 8:  # compare with a number as the dtype holds it
            with np.errstate(over="ignore"):
                args = tuple([a if type(a) is card_array else float(dtype.type(a)) for a in args])
        if not flat or any(a.data.ptr % 16 for a in args if type(a) is card_array):
            return elementwise(function, kind.acc, self.result is not None, which, len(args))(*args)
        n = first.size
        y = cp.empty(shape, self.result or dtype)
        key = (function, kind.name, which)
        name = self.compiled.get(key)
        if name is None:
            inputs = [type(a) is card_array for a in args]
            name = self.compiled[key] = expression(function, kind, inputs, self.result is not None)
        number = kind.number
        launch(
            "pointwise", name, blocks(n, kind.pack * kind.unroll * THREADS), THREADS, y, n,
            *[a if type(a) is card_array else number(a) for a in args],
        )  # fmt: skip
        return y


def expression(function: str, kind: Kind, inputs: list[bool], predicate: bool) -> str:
    """The C++ name of the raw kernel for inputs that are arrays (True) or numbers (False)."""
    types = [f"const {kind.name}*" if array else kind.acc for array in inputs]
    result = "bool" if predicate else kind.name
    return f"pointwise<{result}, {kind.pack}, {kind.unroll}, fn::{function}<{kind.acc}>, {', '.join(types)}>"


@cache
def elementwise(function: str, acc: str, predicate: bool, which: int, count: int) -> Callable[..., Array]:
    """CuPy's loop over strided and broadcast arrays around a line of pointwise.cuh; bit i of `which` tells an array."""
    array = [which >> (count - 1 - k) & 1 for k in range(count)]
    inputs = ", ".join(f"{'T' if a else acc} x{k}" for k, a in enumerate(array))
    values = ", ".join(f"{acc}(x{k})" for k in range(count))
    kernel = need_card(function).ElementwiseKernel(
        inputs, "bool y" if predicate else "T y", f"y = fn::{function}<{acc}>({values})", f"{function}_strided",
        preamble=launching.source("pointwise.cuh"),
    )  # fmt: skip

    def call(*args: Any) -> Array:
        launching.count += 1
        return kernel(*args)

    return call


@cache
def _rows() -> frozenset[str]:
    text = (folder() / "pointwise.cuh").read_text()
    return frozenset(line.split("(")[0].split()[-1] for line in text.splitlines() if line.startswith("FN "))


@cache
def _twin(name: str) -> Twin:
    return Twin(name)


def __getattr__(name: str) -> Twin:
    """The launcher of a row, if kernels/pointwise.cuh has its line."""
    if name.startswith("_") or name not in _rows():
        raise AttributeError(f"pointwise: kernels/pointwise.cuh has no line for {name!r}")
    return _twin(name)


def instantiations() -> list[str]:
    """Every raw kernel that the launchers can ask for: each row and dtype, and numbers for one of a and b."""
    from ..op import table

    kinds = [Kind(np.dtype(t)) for t in ("float32", "float64", "float16")]
    half = kinds[-1]
    found = []
    for entry in table.values():
        if entry.place != "pointwise":
            continue
        functions = CHOICES.get(entry.name, {"": entry.name}).values()
        inputs = [i in entry.promote for i in range(len(entry.inputs) - (entry.name in CHOICES))]
        variants = [inputs, [True, False], [False, True]] if entry.inputs == ("a", "b") else [inputs]
        for function in functions:
            for kind in kinds:
                found += [expression(function, kind, v, entry.name in PREDICATES) for v in variants]
    # bfloat16's kernels are float16's with the other name: its dtype needs a package that may be absent
    return found + [e.replace(half.name, "__nv_bfloat16") for e in found if half.name in e]
