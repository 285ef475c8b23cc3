"""How tensors are made: filled, or counted out. convert.py makes them of data, draws.py at random."""

from __future__ import annotations

import builtins
import math
import operator
from typing import Any

import numpy as np

from . import backend
from .backend import get_default_dtype
from .convert import dtype_of, made, place
from .dtypes import wrapped
from .op import wrap
from .ops.layout import alike
from .tape import Traced
from .tensor import Tensor


def size_of(name: str, size: tuple, named: Any = None) -> tuple[int, ...]:
    """A size given as f(2, 3), as f((2, 3)) or by name, checked."""
    if named is not None:
        size = (named,)
    elif not size:
        raise TypeError(f"{name}: wanted a size, saw none")
    if len(size) == 1 and isinstance(size[0], (tuple, list)):
        size = tuple(size[0])
    try:
        size = tuple(operator.index(n) for n in size)
    except TypeError:
        raise TypeError(f"{name}: wanted a size of ints, saw {size}") from None
    if any(n < 0 for n in size):
        raise RuntimeError(f"{name}: wanted sizes of at least 0, saw {size}")
    return size


# --- filled -----------------------------------------------------------------------------------------------


def _filled(how: str) -> Any:
    @made
    def make(*sizes: Any, size: Any = None, dtype: Any = None, device: Any = None) -> Tensor:
        with place(device) as xp:
            return wrap(getattr(xp, how)(size_of(how, sizes, size), np.dtype(dtype or get_default_dtype())))

    @made
    def make_like(input: Tensor, *, dtype: Any = None, device: Any = None) -> Tensor:
        like(f"{how}_like", input)
        with backend.on(backend.device(device or input.device)) as xp:
            return wrap(alike(input.array, lambda size: getattr(xp, how)(size, np.dtype(dtype or input.dtype))))

    make.__name__, make_like.__name__ = how, f"{how}_like"
    make.__doc__ = f"{how.capitalize()}, of the given size: {how}(2, 3) or {how}((2, 3)); float32 unless dtype is given."
    make_like.__doc__ = f"{how.capitalize()}, of the size, order in memory, dtype and device of `input`; the last two may be given."
    return make, make_like


def like(name: str, input: Any) -> None:
    """TypeError unless there is a tensor to be like."""
    if not isinstance(input, Traced):
        raise TypeError(f"{name}: wanted a tensor, saw {type(input).__name__}")


zeros, zeros_like = _filled("zeros")
ones, ones_like = _filled("ones")
empty, empty_like = _filled("empty")


@made
def full(size: Any, fill_value: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """Every element fill_value; its dtype follows the value unless given."""
    if isinstance(fill_value, Traced):
        if fill_value.array.ndim:
            raise TypeError(f"full: wanted a number or a 0-d tensor, saw shape {tuple(fill_value.array.shape)}")
        fill_value = fill_value.array.item()
    dtype = np.dtype(dtype or dtype_of(fill_value))
    if isinstance(fill_value, complex) and dtype.kind not in "cb":
        raise RuntimeError(f"full: wanted a value that fits into {dtype}, saw {fill_value}")
    with place(device) as xp:
        value = wrapped(fill_value, dtype) if type(fill_value) is int and dtype.kind in "iu" else fill_value
        return wrap(xp.full(size_of("full", (size,)), value, dtype))


@made
def full_like(input: Tensor, fill_value: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """Every element fill_value, of the size, order in memory, dtype and device of `input`; the last two may be given."""
    like("full_like", input)
    where = device or input.device
    return wrap(alike(input.array, lambda size: full(size, fill_value, dtype or input.dtype, where).array))


@made
def scalar_tensor(s: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """The number s as a 0-d tensor of the default floating dtype unless given."""
    return full((), s, dtype or get_default_dtype(), device)


@made
def empty_strided(size: Any, stride: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Memory for a size with the given strides, in elements, not set. RuntimeError for numbers below 0."""
    size, stride = size_of("empty_strided", (size,)), tuple(int(n) for n in stride)
    if len(size) != len(stride) or any(n < 0 for n in stride):
        raise RuntimeError(f"empty_strided: wanted a stride of at least 0 for each of {size}, saw {stride}")
    dtype = np.dtype(dtype or get_default_dtype())
    with place(device) as xp:
        n = 0 if 0 in size else 1 + sum((m - 1) * s for m, s in zip(size, stride, strict=True))
        memory = xp.empty(max(n, 1), dtype)
        return wrap(xp.lib.stride_tricks.as_strided(memory, size, tuple(s * dtype.itemsize for s in stride)))


@made
def empty_permuted(size: Any, physical_layout: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Memory for a size, not set, whose dimensions lie in the order physical_layout, the outermost first.
    RuntimeError unless that is an order of all dimensions.
    """
    size, order = size_of("empty_permuted", (size,)), tuple(int(d) for d in physical_layout)
    if sorted(order) != list(builtins.range(len(size))):
        raise RuntimeError(f"empty_permuted: wanted an order of {len(size)} dimensions, saw {order}")
    return empty([size[d] for d in order], dtype=dtype, device=device).permute([order.index(d) for d in builtins.range(len(size))])


# --- counted out ------------------------------------------------------------------------------------------

_floats = (float, np.floating)


@made
def arange(start: Any = None, end: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None) -> Tensor:
    """start, start + step, ... below end: int64 if all three are integers, else the default floating dtype.
    RuntimeError for a step of zero or away from end, NotImplementedError for a bool or complex dtype.
    """
    if end is None:
        start, end = 0, start
    start, end, step = (v.item() if isinstance(v, Tensor) else v for v in (0 if start is None else start, end, step))
    if any(isinstance(v, complex) for v in (start, end, step)) or end is None:
        raise (TypeError if end is None else RuntimeError)(f"arange: wanted real ends, saw {start} and {end}")
    if step == 0 or (end - start) * step < 0:
        raise RuntimeError(f"arange: wanted a step from {start} towards {end}, saw {step}")
    if dtype is None:
        dtype = get_default_dtype() if any(isinstance(v, _floats) for v in (start, end, step)) else backend.int64
    dtype = np.dtype(dtype)
    if dtype.kind in "bc":
        raise NotImplementedError(f"arange: wanted a dtype of real numbers, saw {dtype}")
    if not all(math.isfinite(v) for v in (start, end)):
        raise RuntimeError(f"arange: wanted finite ends, saw {start} and {end}")
    if dtype == backend.int64:  # whole numbers count whole steps
        start, end, step = int(start), int(end), int(step)
        if step == 0:
            raise ValueError("arange: wanted a whole step other than 0 for int64, saw 0")
    n = -((start - end) // step) if isinstance(step, int) and isinstance(start, int) else math.ceil((end - start) / step)
    if dtype.kind in "iu":
        start, step = int(start), int(step)
    return _counted(start, step, n, dtype, device)


def _counted(start: Any, step: Any, n: int, dtype: np.dtype, where: Any) -> Tensor:
    with place(where) as xp:
        # start + i step, not repeated addition, so that no rounding accumulates
        return wrap((xp.arange(n) * step + start).astype(dtype))


@made
def range(start: Any, end: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None) -> Tensor:
    """start, start + step, ... up to end, which is reached where a step hits it; floats unless dtype is given.
    RuntimeError for a step of zero or away from end.
    """
    start, end = (0, start) if end is None else (start, end)
    if step == 0 or (end - start) * step < 0:
        raise RuntimeError(f"range: wanted a step from {start} towards {end}, saw {step}")
    dtype = np.dtype(dtype or get_default_dtype())
    if dtype.kind in "bc":
        raise NotImplementedError(f"range: wanted a dtype of real numbers, saw {dtype}")
    return _counted(start, step, math.floor((end - start) / step) + 1, dtype, device)


def _spaced(name: str, start: Any, end: Any, steps: Any, dtype: Any) -> tuple[Any, Any, int, np.dtype]:
    """The arguments of linspace as numbers, checked."""
    if steps is None:
        raise TypeError(f"{name}: wanted a number of steps, saw none")
    try:
        steps = operator.index(steps)
    except TypeError:
        raise TypeError(f"{name}: wanted steps as an int, saw {steps!r}") from None
    if steps < 0:
        raise RuntimeError(f"{name}: wanted steps of at least 0, saw {steps}")
    ends = []
    for v in (start, end):
        if isinstance(v, Traced):
            if v.array.ndim:
                raise RuntimeError(f"{name}: wanted a number or a 0-d tensor, saw shape {tuple(v.array.shape)}")
            v = v.array.item()
        ends.append(v)
    whole = any(isinstance(v, complex) for v in ends)
    usual = backend.complex128 if get_default_dtype() == backend.float64 else backend.complex64
    dtype = np.dtype(dtype or (usual if whole else get_default_dtype()))
    if whole and dtype.kind != "c":
        raise RuntimeError(f"{name}: wanted a complex dtype for complex ends, saw {dtype}")
    if dtype.kind == "b":
        raise NotImplementedError(f"{name}: wanted a dtype of numbers, saw bool")
    ends = [int(v) if dtype.kind in "iu" else v for v in ends]
    return ends[0], ends[1], steps, dtype


@made
def linspace(start: Any, end: Any, steps: Any = None, *, dtype: Any = None, device: Any = None) -> Tensor:
    """`steps` evenly spaced numbers from start to end, both included; for an integer dtype from the ends' whole parts.
    RuntimeError for steps below zero or ends that are not 0-d.
    """
    start, end, steps, dtype = _spaced("linspace", start, end, steps, dtype)
    with place(device) as xp:
        return wrap(xp.linspace(start, end, steps).astype(dtype))


@made
def logspace(start: Any, end: Any, steps: Any = None, base: float = 10.0, *, dtype: Any = None, device: Any = None) -> Tensor:
    """base to the powers linspace(start, end, steps)."""
    start, end, steps, dtype = _spaced("logspace", start, end, steps, dtype)
    with place(device) as xp:
        return wrap((base ** xp.linspace(start, end, steps)).astype(dtype))


@made
def eye(n: int, m: int | None = None, *, dtype: Any = None, device: Any = None) -> Tensor:
    """The n x m matrix with ones on the diagonal."""
    n, m = size_of("eye", (n, n if m is None else m))
    with place(device) as xp:
        return wrap(xp.eye(n, m, dtype=np.dtype(dtype or get_default_dtype())))


def _triangle(name: str, row: int, col: int, offset: int, dtype: Any, where: Any, lower: bool) -> Tensor:
    size_of(name, (row, col))
    if np.dtype(dtype or backend.int64).kind not in "iu":
        raise NotImplementedError(f"{name}: wanted a dtype of ints, saw {dtype}")
    places = np.stack((np.tril_indices if lower else np.triu_indices)(row, offset, col))
    with place(where) as xp:
        return wrap(xp.asarray(places).astype(np.dtype(dtype or backend.int64)))


@made
def tril_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None) -> Tensor:
    """The places on and below a diagonal of a row x col matrix, as a row of rows and one of columns. RuntimeError for
    sizes below 0.
    """
    return _triangle("tril_indices", row, col, offset, dtype, device, lower=True)


@made
def triu_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None) -> Tensor:
    """The places on and above a diagonal of a row x col matrix, as a row of rows and one of columns. RuntimeError for
    sizes below 0.
    """
    return _triangle("triu_indices", row, col, offset, dtype, device, lower=False)
