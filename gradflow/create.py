"""How tensors are made: from data, filled, counted out, or drawn at random."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from . import backend
from .backend import Generator, device, get_default_dtype
from .dtypes import wrapped
from .op import wrap
from .ops import random
from .tape import Traced
from .tensor import Tensor


def _finish(array: Any, requires_grad: bool) -> Tensor:
    t = wrap(array)
    return t.requires_grad_() if requires_grad else t


def _data(data: Any) -> Any:
    """Nested lists that hold Tensors, as nested lists of numbers."""
    if isinstance(data, Traced):
        return backend.asnumpy(data.array)
    if isinstance(data, (list, tuple)) and any(isinstance(v, (Traced, list, tuple)) for v in data):
        return [_data(v) for v in data]
    return data


def _array(name: str, data: Any, dtype: Any, where: Any, copy: bool) -> Any:
    if isinstance(data, Traced):
        data = data.array
    if backend.is_array(data) or isinstance(data, np.generic):
        array = np.asarray(data) if isinstance(data, np.generic) else data
    else:
        try:
            array = np.asarray(_data(data))
        except ValueError as e:
            raise ValueError(f"{name}: wanted nested sequences of equal lengths, saw ragged ones") from e
        copy = False
        if array.dtype.kind not in "biufcV":
            raise TypeError(f"{name}: wanted numbers, saw {type(data).__name__} of {array.dtype}")
        if dtype is None:
            # Python floats have no dtype of their own: they take the default one.
            if array.dtype == backend.float64 and not _has_arrays(data):
                array = array.astype(get_default_dtype())
            elif array.dtype == backend.complex128 and not _has_arrays(data):
                array = array.astype(backend.complex64)
    if dtype is not None and array.dtype != np.dtype(dtype):
        array, copy = array.astype(np.dtype(dtype)), False
    if where is not None and device(where) != backend.device_of(array):
        return backend.to_device(array, where)
    return array.copy() if copy else array


def _has_arrays(data: Any) -> bool:
    if isinstance(data, (list, tuple)):
        return any(_has_arrays(v) for v in data[:1])
    return isinstance(data, np.generic) or backend.is_array(data)


def tensor(
    data: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False, pin_memory: bool = False
) -> Tensor:
    """A new tensor that copies `data`: numbers, nested sequences, arrays or tensors. Python floats become float32."""
    return _finish(_array("tensor", data, dtype, device, True), requires_grad)


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """A tensor of `data`, sharing its memory (and a tensor's place on the tape) where dtype and device allow."""
    if isinstance(data, Tensor):
        return data.to(device=device, dtype=dtype)
    return wrap(_array("as_tensor", data, dtype, device, False))


asarray = as_tensor


def from_numpy(array: np.ndarray) -> Tensor:
    """A tensor that shares the memory of a NumPy array. TypeError for anything else."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"from_numpy: wanted a numpy.ndarray, saw {type(array).__name__}")
    return wrap(array)


def from_dlpack(x: Any) -> Tensor:
    """A tensor that shares the memory of any DLPack array: NumPy, CuPy, PyTorch, JAX, ..."""
    on_card = x.__dlpack_device__()[0] == 2
    return wrap((backend.need_card("from_dlpack") if on_card else np).from_dlpack(x))


def _size(name: str, size: tuple, named: Any = None) -> tuple[int, ...]:
    """A size given as f(2, 3), as f((2, 3)) or by name, checked."""
    size = size if named is None else (named,)
    if len(size) == 1 and isinstance(size[0], (tuple, list)):
        size = tuple(size[0])
    size = tuple(operator.index(n) for n in size)
    if any(n < 0 for n in size):
        raise RuntimeError(f"{name}: wanted sizes of at least 0, saw {size}")
    return size


def _filled(how: str) -> Any:
    def make(
        *sizes: Any, size: Any = None, dtype: Any = None, device: Any = None, requires_grad: bool = False
    ) -> Tensor:
        with backend.on(backend.device(device or "cpu")) as xp:
            return _finish(getattr(xp, how)(_size(how, sizes, size), np.dtype(dtype or get_default_dtype())), requires_grad)

    def make_like(input: Tensor, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
        with backend.on(backend.device(device or input.device)) as xp:
            return _finish(getattr(xp, how)(input.array.shape, np.dtype(dtype or input.dtype)), requires_grad)

    make.__name__, make_like.__name__ = how, f"{how}_like"
    make.__doc__ = (
        f"{how.capitalize()}, of the given size: {how}(2, 3) or {how}((2, 3)); float32 unless dtype is given."
    )
    make_like.__doc__ = f"{how.capitalize()}, of the size, dtype and device of `input` unless given."
    return make, make_like


zeros, zeros_like = _filled("zeros")
ones, ones_like = _filled("ones")
empty, empty_like = _filled("empty")


def full(size: Any, fill_value: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Every element fill_value; its dtype follows the value unless given."""
    with backend.on(backend.device(device or "cpu")) as xp:
        dtype = np.dtype(dtype or _array("full", fill_value, None, None, False).dtype)
        value = fill_value.array.astype(dtype) if isinstance(fill_value, Traced) else fill_value
        value = wrapped(value, dtype) if type(value) is int and dtype.kind in "iu" else value
        return _finish(xp.full(_size("full", (size,)), value, dtype), requires_grad)


def full_like(
    input: Tensor, fill_value: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Every element fill_value, of the size, dtype and device of `input` unless given."""
    return full(input.array.shape, fill_value, dtype or input.dtype, device or input.device, requires_grad)


def arange(
    start: Any, end: Any = None, step: Any = 1, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """start, start + step, ... below end: int64 if all three are integers, else the default floating dtype."""
    if end is None:
        start, end = 0, start
    start, end, step = (v.item() if isinstance(v, Tensor) else v for v in (start, end, step))
    if step == 0 or (end - start) * step < 0:
        raise RuntimeError(f"arange: wanted a step from {start} towards {end}, saw {step}")
    if dtype is None:
        dtype = (
            get_default_dtype()
            if any(isinstance(v, (float, np.floating)) for v in (start, end, step))
            else backend.int64
        )
    if not all(math.isfinite(v) for v in (start, end)):
        raise RuntimeError(f"arange: wanted finite ends, saw {start} and {end}")
    if np.dtype(dtype) == backend.int64:  # whole numbers count whole steps
        start, end, step = int(start), int(end), int(step)
        if step == 0:
            raise RuntimeError("arange: wanted a whole step other than 0 for int64, saw 0")
    n = -((start - end) // step) if isinstance(step, int) else math.ceil((end - start) / step)
    if np.dtype(dtype).kind in "iu":
        start, step = int(start), int(step)
    with backend.on(backend.device(device or "cpu")) as xp:
        # start + i step, not repeated addition, so that no rounding accumulates
        return _finish((xp.arange(n) * step + start).astype(np.dtype(dtype)), requires_grad)


def _spaced(name: str, start: Any, end: Any, steps: Any, dtype: Any) -> tuple[Any, Any, int, np.dtype]:
    """The arguments of linspace as numbers, checked."""
    dtype, steps = np.dtype(dtype or get_default_dtype()), operator.index(steps)
    if steps < 0:
        raise RuntimeError(f"{name}: wanted steps of at least 0, saw {steps}")
    ends = []
    for v in (start, end):
        if isinstance(v, Traced):
            if v.array.ndim:
                raise RuntimeError(f"{name}: wanted a number or a 0-d tensor, saw shape {tuple(v.array.shape)}")
            v = v.array.item()
        ends.append(int(v) if dtype.kind in "iu" else v)
    return ends[0], ends[1], steps, dtype


def linspace(
    start: Any, end: Any, steps: int, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """`steps` evenly spaced numbers from start to end, both included; for an integer dtype from the ends' whole parts.
    RuntimeError for steps below zero or ends that are not 0-d.
    """
    start, end, steps, dtype = _spaced("linspace", start, end, steps, dtype)
    with backend.on(backend.device(device or "cpu")) as xp:
        return _finish(xp.linspace(start, end, steps).astype(dtype), requires_grad)


def logspace(start: Any, end: Any, steps: int, base: float = 10.0, dtype: Any = None, device: Any = None) -> Tensor:
    """base to the powers linspace(start, end, steps)."""
    start, end, steps, dtype = _spaced("logspace", start, end, steps, dtype)
    with backend.on(backend.device(device or "cpu")) as xp:
        return wrap((base ** xp.linspace(start, end, steps)).astype(dtype))


def eye(n: int, m: int | None = None, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """The n x m matrix with ones on the diagonal."""
    n, m = _size("eye", (n, n if m is None else m))
    with backend.on(backend.device(device or "cpu")) as xp:
        return _finish(xp.eye(n, m, dtype=np.dtype(dtype or get_default_dtype())), requires_grad)


# --- drawn at random, from the default generator unless one is given ------------------------------------


def _drawn(how: Any, size: Any, dtype: Any, where: Any, generator: Generator | None, requires_grad: bool) -> Tensor:
    with backend.on(backend.device(where or "cpu")) as xp:
        return _finish(
            how(size, np.dtype(dtype or get_default_dtype()), xp, generator or backend.default_generator), requires_grad
        )


def rand(
    *sizes: Any,
    size: Any = None,
    dtype: Any = None,
    device: Any = None,
    generator: Generator | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """Uniform in [0, 1)."""
    return _drawn(random.uniform, _size("rand", sizes, size), dtype, device, generator, requires_grad)


def randn(
    *sizes: Any,
    size: Any = None,
    dtype: Any = None,
    device: Any = None,
    generator: Generator | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """Standard normal."""
    return _drawn(random.normal, _size("randn", sizes, size), dtype, device, generator, requires_grad)


def rand_like(input: Tensor, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Uniform in [0, 1), of the size, dtype and device of `input` unless given."""
    return rand(
        input.array.shape, dtype=dtype or input.dtype, device=device or input.device, requires_grad=requires_grad
    )


def randn_like(input: Tensor, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Standard normal, of the size, dtype and device of `input` unless given."""
    return randn(
        input.array.shape, dtype=dtype or input.dtype, device=device or input.device, requires_grad=requires_grad
    )


def normal(
    mean: Any = 0.0,
    std: Any = 1.0,
    size: Any = None,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
) -> Tensor:
    """Normal with the given mean and standard deviation, numbers or tensors that broadcast."""
    like = next((v for v in (mean, std) if isinstance(v, Tensor)), None)
    if size is None:
        if like is None:
            raise TypeError("normal: wanted a size where mean and std are numbers, saw none")
        size = np.broadcast_shapes(*(v.array.shape for v in (mean, std) if isinstance(v, Traced)))
    if like is not None:
        dtype, device = dtype or like.dtype, device or like.device
    z = randn(size, dtype=dtype, device=device, generator=generator)
    return z * std + mean


def randint(
    low: int,
    high: Any = None,
    size: Any = None,
    dtype: Any = None,
    device: Any = None,
    generator: Generator | None = None,
) -> Tensor:
    """Integers in [low, high), int64 unless dtype is given: randint(high, size) or randint(low, high, size)."""
    if size is None:
        low, high, size = 0, low, high
    with backend.on(backend.device(device or "cpu")) as xp:
        g = generator or backend.default_generator
        return wrap(random.integers(low, high, _size("randint", (size,)), np.dtype(dtype or backend.int64), xp, g))


def randperm(n: int, dtype: Any = None, device: Any = None, generator: Generator | None = None) -> Tensor:
    """A random permutation of 0 .. n - 1."""
    with backend.on(backend.device(device or "cpu")) as xp:
        return wrap(
            random.permutation(n, xp, generator or backend.default_generator).astype(np.dtype(dtype or backend.int64))
        )


def bernoulli(input: Tensor, generator: Generator | None = None) -> Tensor:
    """1 with the probability that each element of `input` says, else 0."""
    return wrap(random.bernoulli(input.array, generator or backend.default_generator))


def multinomial(
    input: Tensor, num_samples: int, replacement: bool = False, generator: Generator | None = None
) -> Tensor:
    """num_samples indices for each row of weights, with the probability that the weights say."""
    return wrap(random.multinomial(input.array, num_samples, replacement, generator or backend.default_generator))
