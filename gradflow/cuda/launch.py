"""Launching: a kernel of kernels/<family>.cu by its C++ name, compiled when first asked for, its arguments checked.

`launch("conv", "conv2d_forward<float, 8>", grid, block, x, w, y, n, alpha)` runs it on the current stream. Arrays must
be C-contiguous. A Python int becomes `long long`, a float `float`, a bool `bool`; NumPy scalars keep their type, so a
`double` is passed as np.float64(v). A grid with a zero launches nothing.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..backend import Array, need_card

OPTIONS = ("-std=c++17",)
STATIC_SHARED = 48 * 1024  # bytes of shared memory that a kernel gets without asking
GRID_LIMIT = (2**31 - 1, 65535, 65535)

count = 0  # launches so far, for tests and benches that assert on differences

_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"]+)"[ \t]*$', re.MULTILINE)
_TYPES = {
    "float32": "float", "float64": "double", "float16": "__half", "bfloat16": "__nv_bfloat16", "bool": "bool",
    "int8": "signed char", "int16": "short", "int32": "int", "int64": "long long",
    "uint8": "unsigned char", "uint16": "unsigned short", "uint32": "unsigned int", "uint64": "unsigned long long",
}  # fmt: skip

_ready: dict[tuple[str, str], Any] = {}  # (family, C++ name) -> kernel; CuPy keeps one binary of it per device
_granted: dict[tuple[str, str, int], int] = {}  # dynamic shared memory allowed so far, per kernel and device
_lock = threading.Lock()
caches: list[Callable[[], None]] = []  # what clears the loaded kernels that launchers keep themselves


def folder() -> Path:
    """Where the .cu files are: in the package once installed, beside it in a checkout."""
    inside = Path(__file__).parents[1] / "kernels"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "kernels"


@cache
def source(file: str) -> str:
    """The text of kernels/<file>, its own headers spliced in, each once: CuPy's cache does not look into headers."""
    return splice(folder(), file, set())


def splice(where: Path, name: str, seen: set[str]) -> str:
    """A file's text with every `#include "..."` replaced by that file's text, or by nothing from the second time on."""
    if name in seen:
        return ""
    seen.add(name)
    path = where / name
    if not path.is_file():
        raise FileNotFoundError(f"launch: wanted the kernel source {name}, saw none in {where}")
    text = path.read_text().replace("#pragma once\n", "\n")

    def spliced(match: re.Match[str]) -> str:
        after = text.count("\n", 0, match.start()) + 2  # so that compilers name the file and line a reader sees
        return f'{splice(where, match[1], seen)}\n#line {after} "{name}"'

    return f'#line 1 "{name}"\n' + _INCLUDE.sub(spliced, text)


def load(family: str, kernel: str) -> Any:
    """The kernel of this C++ name, compiled at the first call."""
    with _lock:
        found = _ready.get((family, kernel))
        if found is None:
            cp = need_card(kernel)
            module = cp.RawModule(code=source(f"{family}.cu"), options=OPTIONS, name_expressions=[kernel])
            found = _ready[family, kernel] = module.get_function(kernel)
    return found


def forget() -> None:
    """Drop every compiled kernel and text, for tests that change them or plug another card."""
    _ready.clear()
    _granted.clear()
    for clear in (source.cache_clear, device_count.cache_clear, multiprocessors.cache_clear, capability.cache_clear, *caches):
        clear()


def launch(family: str, kernel: str, grid: Any, block: Any, *args: Any, shared: int = 0) -> None:
    """Run a kernel over `grid` blocks of `block` threads (ints, or tuples up to three), with `shared` bytes of dynamic
    shared memory. ValueError for an array that is not contiguous or a grid beyond the card's limits.
    """
    if type(grid) is not tuple:
        grid = (grid,)
    if 0 in grid:
        return
    f = _ready.get((family, kernel))
    if f is None:
        f = load(family, kernel)
    values, near = list(args), None
    for i, a in enumerate(args):
        t = type(a)
        if t is int:  # a long long to CuPy too
            pass
        elif t is float:
            values[i] = np.float32(a)
        elif t is bool:
            values[i] = np.bool_(a)
        elif a is not None and not isinstance(a, np.generic):
            if not a.flags.c_contiguous:
                seen = f"argument {i} of shape {a.shape} with strides {a.strides}"
                raise ValueError(f"{kernel}: wanted contiguous arrays, saw {seen}")
            near = a if near is None else near
    if grid[0] > GRID_LIMIT[0] or (len(grid) > 1 and max(grid[1:]) > GRID_LIMIT[1]):
        raise ValueError(f"{kernel}: wanted a grid within {GRID_LIMIT}, saw {grid}")
    if type(block) is not tuple:
        block = (block,)
    if shared > STATIC_SHARED:
        _grant(family, kernel, f, shared, near)
    fire(f, grid, block, tuple(values), near, shared)


def run(family: str, kernel: str, grid: int, block: int, values: tuple, shared: int = 0) -> None:
    """As launch, for launchers that hand over strides beside arrays with gaps: arguments are passed as they are."""
    f = _ready.get((family, kernel))
    if f is None:
        f = load(family, kernel)
    if shared > STATIC_SHARED:
        _grant(family, kernel, f, shared, values[0])
    fire(f, (grid,), (block,), values, values[0], shared)


def fire(f: Any, grid: tuple, block: tuple, values: tuple, near: Array, shared: int = 0) -> None:
    """Run a loaded kernel on the device of the array `near`, unchecked: the last step of launch, for hot launchers."""
    global count
    count += 1
    if device_count() == 1 or near is None:
        f(grid, block, values, shared_mem=shared)
    else:
        with near.device:
            f(grid, block, values, shared_mem=shared)


def _grant(family: str, kernel: str, f: Any, shared: int, near: Array) -> None:
    """Allow more dynamic shared memory than every kernel gets: once per kernel, device and size, as asking is slow."""
    device = near.device
    if _granted.get((family, kernel, device.id), 0) < shared:
        with device:
            f.max_dynamic_shared_size_bytes = shared
        _granted[family, kernel, device.id] = shared


@cache
def device_count() -> int:
    """How many cards there are."""
    return need_card("launch").cuda.runtime.getDeviceCount()


@cache
def multiprocessors(device: int = 0) -> int:
    """How many multiprocessors a card has: a grid of a few blocks for each fills it."""
    return int(need_card("launch").cuda.Device(device).attributes["MultiProcessorCount"])


@cache
def capability(device: int = 0) -> tuple[int, int]:
    """A card's compute capability, (9, 0) say: from (8, 0) on it has what kernels/mma.cuh needs."""
    found = need_card("launch").cuda.runtime.getDeviceProperties(device)
    return found["major"], found["minor"]


def contiguous(x: Array) -> Array:
    """x, or a C-contiguous copy of it."""
    return x if x.flags.c_contiguous else need_card("contiguous").ascontiguousarray(x)


def aligned(*arrays: Array) -> bool:
    """Whether all arrays start at a multiple of 16 bytes, as 16-byte loads need; a slice x[1:] may not."""
    return all(x.data.ptr % 16 == 0 for x in arrays)


def ctype(dtype: Any) -> str:
    """The C++ type of a dtype: "float", "double", "__half", "__nv_bfloat16", "long long", ... or TypeError."""
    name = dtype.name
    if name not in _TYPES:
        raise TypeError(f"launch: wanted one of {', '.join(_TYPES)}, saw {name}")
    return _TYPES[name]


def blocks(n: int, per: int) -> int:
    """How many blocks of `per` hold n: n / per rounded up."""
    return -(-n // per)
