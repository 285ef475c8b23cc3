"""Launchers of the elementwise ops: for each row of ops/pointwise.py the line of its name in kernels/pointwise.cuh.

Contiguous arrays of one shape go through the raw kernel of kernels/pointwise.cu, 16 bytes per load, and so do sums and
products with an array that repeats; others that are strided, broadcast or misaligned go through CuPy's ElementwiseKernel
around the same line. Arrays must share one floating dtype;
everything else (integers, masks, NumPy scalars) is left to the definition.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

import numpy as np

from .. import backend
from ..backend import Array, need_card
from . import launch as launching
from .launch import blocks, ctype, fire, folder, load
from .layout import common, through

THREADS = 256

# Rows whose result is True or False.
PREDICATES = {
    "eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor", "logical_not",
    "isnan", "isinf", "isfinite",
}  # fmt: skip
# Rows that have a kernel for a bias, a scale, a mean: an array and a smaller one that repeats along it.
REPEATED = ("add", "sub", "mul", "div")
# Rows with a choice of formulas: the last argument picks the function.
CHOICES = {
    "gelu": {"none": "gelu", "tanh": "gelu_tanh"},
    "gelu_backward": {"none": "gelu_backward", "tanh": "gelu_backward_tanh"},
}


class Kind:
    """A dtype as the kernels see it: its C++ name, the type they compute in, how many fill 16 bytes."""

    def __init__(self, dtype: np.dtype) -> None:
        double = dtype == backend.float64
        self.name, self.dtype, self.pack = ctype(dtype), dtype, 16 // dtype.itemsize
        self.acc, self.number = ("double", np.float64) if double else ("float", np.float32)
        self.rough = self.pack == 8  # results of 16 bits: approximations are exact enough
        self.unroll = 1 if double else 2  # more would spill registers
        self.per_block = self.pack * self.unroll * THREADS


class Twin:
    """The launcher of one function of kernels/<family>.cuh."""

    def __init__(self, function: str, family: str = "pointwise") -> None:
        self.function, self.family, self.predicate = function, family, function in PREDICATES
        self.ready: dict[int, tuple[Any, Kind]] = {}  # by dtype and by which inputs are arrays: the loaded kernel
        launching.caches.append(self.ready.clear)

    def __call__(self, *args: Any) -> Any:
        """The definition's result for arrays on the card and numbers, or NotImplemented."""
        cp = backend.card()
        card_array, first, which, flat = cp.ndarray, None, 0, True
        for a in args:
            which *= 2
            t = type(a)
            if t is card_array:
                which += 1
                if first is None:
                    first, dtype, shape = a, a.dtype, a.shape
                elif a.dtype != dtype:
                    return NotImplemented
                if a.shape != shape or not a.flags.c_contiguous or a.data.ptr % 16:
                    flat = False
            elif t is not float and t is not int and t is not bool:
                return NotImplemented
        if first is None:
            return NotImplemented
        found = self.ready.get(dtype.num << 8 | which)
        if found is None:
            if not backend.is_floating(dtype) or ("_backward" in self.function and which & 3 != 3 and len(args) == 2):
                return NotImplemented  # no gradient is one number
            found = self.load(dtype, which, len(args))
        kernel, kind = found
        if self.predicate and kind.pack == 8:  # compare with a number as the dtype holds it
            with np.errstate(over="ignore"):
                args = tuple([a if type(a) is card_array else float(dtype.type(a)) for a in args])
        if not flat:
            return self.strided(args, card_array, kind, which)
        n, number = first.size, kind.number
        y = card_array(shape, backend.bool_ if self.predicate else dtype)
        if n:
            values = [a if type(a) is card_array else number(a) for a in args]
            fire(kernel, (blocks(n, kind.per_block),), (THREADS,), (y, n, *values), first)
        return y

    def load(self, dtype: np.dtype, which: int, count: int) -> tuple[Any, Kind]:
        """The raw kernel for inputs of which the set bits of `which` are arrays, the last one the lowest."""
        kind = Kind(dtype)
        inputs = [bool(which >> (count - 1 - k) & 1) for k in range(count)]
        kernel = load(self.family, expression(self.function, kind, inputs, self.predicate, self.family))
        found = self.ready[dtype.num << 8 | which] = kernel, kind
        return found

    def strided(self, args: tuple, card_array: type, kind: Kind, which: int) -> Array:
        """The result for inputs that broadcast, have gaps, or start off the 16-byte grid."""
        arrays = [a for a in args if type(a) is card_array]
        found = common(arrays)
        if found is not None:  # as if the dimensions stood in the order in which they lie
            return through(found, self, *args)
        if self.function in REPEATED and which == 3:
            y = self.repeated(args, card_array, kind)
            if y is not None:
                return y
        name = function(self.function, kind, self.family)
        return elementwise(name, kind.acc, self.predicate, which, len(args), self.family)(*args)

    def repeated(self, args: tuple, card_array: type, kind: Kind) -> Array | None:
        """The result for an array and a smaller one that repeats along it, or None for what is not that."""
        first = args[0].size < args[1].size
        whole, part = args[::-1] if first else args
        found = repeats(whole.shape, part.shape)
        if found is None or not all(a.flags.c_contiguous and a.data.ptr % 16 == 0 for a in args):
            return None
        y = card_array(whole.shape, whole.dtype)
        commutes, sizes = self.function in ("add", "mul"), [np.int32(v) for v in found]
        kernel = load(self.family, repeated_expression(self.function, kind, first and not commutes))
        fire(kernel, (blocks(whole.size, kind.pack * 2 * THREADS),), (THREADS,), (y, whole.size, whole, part, *sizes), whole)
        return y


class Choice:
    """The launcher of a row whose last argument picks the function."""

    def __init__(self, functions: dict[str, str]) -> None:
        self.twins = {word: Twin(function) for word, function in functions.items()}

    def __call__(self, *args: Any) -> Any:
        """As Twin; NotImplemented for a word that is not known, for which the definition raises."""
        twin = self.twins.get(args[-1])
        return NotImplemented if twin is None else twin(*args[:-1])


def function(name: str, kind: Kind, family: str = "pointwise") -> str:
    """The C++ name of a line of kernels/<family>.cuh for a dtype."""
    return f"fn::{name}<{kind.acc}{', true' if kind.rough and family == 'pointwise' else ''}>"


def expression(name: str, kind: Kind, inputs: list[bool], predicate: bool, family: str = "pointwise") -> str:
    """The C++ name of the raw kernel for inputs that are arrays (True) or numbers (False)."""
    types = [f"const {kind.name}*" if array else kind.acc for array in inputs]
    result = "bool" if predicate else kind.name
    return f"pointwise<{result}, {kind.pack}, {kind.unroll}, {function(name, kind, family)}, {', '.join(types)}>"


def repeated_expression(name: str, kind: Kind, first: bool) -> str:
    """The C++ name of the raw kernel for two arrays of which the first or the second repeats."""
    word = "true" if first else "false"
    return f"pointwise_repeated<{kind.name}, {kind.name}, {kind.pack}, {function(name, kind)}, {word}>"


@lru_cache(1024)
def repeats(whole: tuple[int, ...], part: tuple[int, ...]) -> tuple[int, int] | None:
    """(inner, period) if value i of an array of shape `whole` meets value (i / inner) % period of one of shape `part`."""
    if len(part) > len(whole) or not 0 < math.prod(whole) < 2**31 - 2**14:
        return None
    part = (1,) * (len(whole) - len(part)) + part
    end = len(whole)
    while end and part[end - 1] == 1:
        end -= 1
    begin = end
    while begin and part[begin - 1] == whole[begin - 1]:
        begin -= 1
    if any(n != 1 for n in part[:begin]):
        return None
    return math.prod(whole[end:]), math.prod(whole[begin:end])


@cache
def elementwise(function: str, acc: str, predicate: bool, which: int, count: int, family: str) -> Callable[..., Array]:
    """CuPy's loop over strided and broadcast arrays around a line of a .cuh; bit i of `which` tells an array."""
    array = [which >> (count - 1 - k) & 1 for k in range(count)]
    inputs = ", ".join(f"{'T' if a else acc} x{k}" for k, a in enumerate(array))
    values = ", ".join(f"{acc}(x{k})" for k in range(count))
    kernel = need_card(function).ElementwiseKernel(
        inputs, "bool y" if predicate else "T y", f"y = {function}({values})", f"{function[4:].split('<', maxsplit=1)[0]}_strided",
        preamble=launching.source(f"{family}.cuh"),
    )  # fmt: skip

    def call(*args: Any) -> Array:
        launching.count += 1
        return kernel(*args)

    return call


launching.caches.append(elementwise.cache_clear)


@cache
def rows(family: str) -> frozenset[str]:
    """The functions of kernels/<family>.cuh that stand on a line of their own after FN."""
    text = (folder() / f"{family}.cuh").read_text()
    return frozenset(line.split("(")[0].split()[-1] for line in text.splitlines() if line.startswith(("FN ", "HEAVY ")))


@cache
def _twin(name: str) -> Twin | Choice:
    return Choice(CHOICES[name]) if name in CHOICES else Twin(name)


def __getattr__(name: str) -> Twin | Choice:
    """The launcher of a row, if kernels/pointwise.cuh has its line."""
    if name.startswith("_") or name not in rows("pointwise"):
        raise AttributeError(f"pointwise: kernels/pointwise.cuh has no line for {name!r}")
    return _twin(name)


def instantiations(family: str = "pointwise") -> list[str]:
    """Every raw kernel that the launchers can ask for: each row and dtype, and numbers for one of a and b."""
    from ..op import table

    kinds = [Kind(np.dtype(t)) for t in ("float32", "float64", "float16")]
    half = kinds[-1]
    found = []
    for entry in table.values():
        if entry.place != family:
            continue
        functions = CHOICES.get(entry.name, {"": entry.name}).values()
        inputs = [i in entry.promote for i in range(len(entry.inputs) - (entry.name in CHOICES))]
        several = len(entry.inputs) == len(entry.promote) == 2 and "_backward" not in entry.name
        variants = [inputs, [True, False], [False, True]] if several else [inputs]
        for function in functions:
            for kind in kinds:
                found += [expression(function, kind, v, entry.name in PREDICATES, family) for v in variants]
                if function in REPEATED:
                    sides = (False,) if function in ("add", "mul") else (False, True)
                    found += [repeated_expression(function, kind, side) for side in sides]
    # bfloat16's kernels are float16's with the other name: its dtype needs a package that may be absent
    return found + [e.replace(half.name, "__nv_bfloat16") for e in found if half.name in e]
