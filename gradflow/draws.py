"""Random tensors, drawn from the default generator unless one is given."""

from __future__ import annotations

import functools
import math
import operator
from typing import Any

import numpy as np

from . import backend
from .backend import Generator, is_floating
from .call import drawn
from .convert import made, place
from .create import like, size_of
from .op import wrap
from .ops import distributions, pointwise, random, shape
from .ops.layout import alike
from .tape import Traced
from .tensor import Tensor


def _parts(name: str, how: Any, size: Any, dtype: np.dtype, xp: Any, generator: Generator) -> Any:
    """The array that `how` draws; a complex number has two draws."""
    if dtype.kind == "c":
        real = backend.float64 if dtype == backend.complex128 else backend.float32
        parts = how((*size, 2), real, xp, generator)
        y = parts[..., 0] + 1j * parts[..., 1]
        return (y * math.sqrt(0.5) if how is random.normal else y).astype(dtype)
    if not is_floating(dtype):
        raise NotImplementedError(f"{name}: wanted a floating dtype, saw {dtype}")
    return how(size, dtype, xp, generator)


def _drawn(name: str, how: Any, size: Any, dtype: Any, where: Any, generator: Generator | None) -> Tensor:
    dtype = np.dtype(dtype or backend.get_default_dtype())
    with place(where) as xp:
        return wrap(_parts(name, how, size, dtype, xp, generator or backend.default_generator))


@drawn
@made
def rand(
    *sizes: Any, size: Any = None, generator: Generator | None = None, dtype: Any = None, device: Any = None
) -> Tensor:
    """Uniform in [0, 1)."""
    return _drawn("rand", random.uniform, size_of("rand", sizes, size), dtype, device, generator)


@drawn
@made
def randn(
    *sizes: Any, size: Any = None, generator: Generator | None = None, dtype: Any = None, device: Any = None
) -> Tensor:
    """Standard normal; of complex numbers each part has variance 1/2."""
    return _drawn("randn", random.normal, size_of("randn", sizes, size), dtype, device, generator)


def _laid_otherwise(input: Tensor, dtype: Any, device: Any, generator: Generator | None) -> bool:
    """Whether a sequence draws, as PyTorch does, in another order in memory than the usual one."""
    x = input.array
    plain = not isinstance(x, np.ndarray) or x.flags.c_contiguous or dtype is not None or device is not None
    return not plain and is_floating(x.dtype) and random.sequence_of(np, generator) is not None


@drawn
@made
def rand_like(input: Tensor, *, generator: Generator | None = None, dtype: Any = None, device: Any = None) -> Tensor:
    """Uniform in [0, 1), of the size, dtype and device of `input` unless given."""
    like("rand_like", input)
    if _laid_otherwise(input, dtype, device, generator):
        return wrap(distributions.spread(input.array, 0.0, 1.0, generator))
    draw = functools.partial(rand, generator=generator, dtype=dtype or input.dtype, device=device or input.device)
    return wrap(alike(input.array, lambda size: draw(size).array))


@drawn
@made
def randn_like(input: Tensor, *, generator: Generator | None = None, dtype: Any = None, device: Any = None) -> Tensor:
    """Standard normal, of the size, dtype and device of `input` unless given."""
    like("randn_like", input)
    if _laid_otherwise(input, dtype, device, generator):
        return wrap(distributions.normals(input.array, 0.0, 1.0, generator))
    draw = functools.partial(randn, generator=generator, dtype=dtype or input.dtype, device=device or input.device)
    return wrap(alike(input.array, lambda size: draw(size).array))


# --- integers ---------------------------------------------------------------------------------------------


def _integers(name: str, low: Any, high: Any, size: Any, dtype: Any, where: Any, generator: Generator | None) -> Tensor:
    low, high = (operator.index(v.item() if isinstance(v, Traced) else v) for v in (low, high))
    dtype = np.dtype(dtype or backend.int64)
    if low >= high:
        raise RuntimeError(f"{name}: wanted low < high, saw {low} and {high}")
    whole = backend.int64 if dtype.kind not in "iu" else dtype
    with place(where) as xp:
        y = random.integers(low, high, size, whole, xp, generator or backend.default_generator)
        return wrap(y.astype(dtype, copy=False))


@drawn
@made
def randint(
    low: Any,
    high: Any = None,
    size: Any = None,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
) -> Tensor:
    """Integers in [low, high), int64 unless dtype is given: randint(high, size) or randint(low, high, size).
    RuntimeError for an empty range or one that is not the dtype's.
    """
    if size is None:
        low, high, size = 0, low, high
    elif high is None:
        low, high = 0, low
    if not isinstance(size, (tuple, list)):
        raise TypeError(f"randint: wanted a size as a tuple of ints, saw {size!r}")
    return _integers("randint", low, high, size_of("randint", (size,)), dtype, device, generator)


@drawn
@made
def randint_like(
    input: Tensor,
    low: Any = None,
    high: Any = None,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
) -> Tensor:
    """Integers in [low, high), of the size, dtype and device of `input` unless given: randint_like(input, high) too."""
    like("randint_like", input)
    low, high = (0, low) if high is None else (0 if low is None else low, high)
    dtype, where = dtype or input.dtype, device or input.device
    return wrap(alike(input.array, lambda size: _integers("randint_like", low, high, size, dtype, where, generator).array))


@drawn
@made
def randperm(n: int, *, generator: Generator | None = None, dtype: Any = None, device: Any = None) -> Tensor:
    """A random permutation of 0 .. n - 1."""
    try:
        n = operator.index(n)
    except TypeError:
        raise TypeError(f"randperm: wanted n as an int, saw {n!r}") from None
    with place(device) as xp:
        y = random.permutation(n, xp, generator or backend.default_generator)
        return wrap(y.astype(np.dtype(dtype or backend.int64)))


# --- other distributions ----------------------------------------------------------------------------------


@drawn
@made
def normal(
    mean: Any = 0.0,
    std: Any = 1.0,
    size: Any = None,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
) -> Tensor:
    """Normal with the given mean and standard deviation, numbers or tensors that broadcast; with numbers a size is needed.
    RuntimeError for a standard deviation below 0.
    """
    like_this = next((v for v in (mean, std) if isinstance(v, Traced)), None)
    spread = std.array if isinstance(std, Traced) else std
    if isinstance(spread, np.ndarray):
        if spread.dtype.kind == "c":
            raise RuntimeError("normal: wanted a real standard deviation, saw a complex one")
        if spread.size and (spread < 0).any():
            raise RuntimeError(f"normal: wanted a standard deviation of at least 0, saw {spread.min()}")
    elif isinstance(spread, (int, float)) and spread < 0:
        raise RuntimeError(f"normal: wanted a standard deviation of at least 0, saw {std}")
    if size is None:
        if like_this is None:
            raise TypeError("normal: wanted a size where mean and std are numbers, saw none")
        size = shape.broadcast_shapes(*(v.array.shape for v in (mean, std) if isinstance(v, Traced)))
    if like_this is not None:
        dtype, device = dtype or like_this.dtype, device or like_this.device
    z = randn(size, dtype=dtype, device=device, generator=generator)
    y = z * std + mean
    return y if y.dtype == z.dtype else pointwise.cast(y, z.dtype)


@drawn
@made
def bernoulli(input: Tensor, p: Any = None, *, generator: Generator | None = None) -> Tensor:
    """1 with the probability that each element of `input` says, or with probability p everywhere, else 0.
    RuntimeError for probabilities outside [0, 1].
    """
    like("bernoulli", input)
    return wrap(distributions.chances(input.array, p, generator or backend.default_generator))


@drawn
def multinomial(
    input: Tensor, num_samples: int, replacement: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """num_samples indices for each row of weights, with the probability that the weights say."""
    like("multinomial", input)
    return wrap(random.multinomial(input.array, num_samples, replacement, generator or backend.default_generator))


@drawn
def poisson(input: Tensor, generator: Generator | None = None) -> Tensor:
    """Poisson numbers with the rates of input, of its dtype. RuntimeError for rates below 0 or no floating dtype."""
    like("poisson", input)
    return wrap(distributions.poisson(input.array, generator or backend.default_generator))


@drawn
def binomial(count: Tensor, prob: Tensor, generator: Generator | None = None) -> Tensor:
    """How many of `count` tries succeed, each with probability prob; they broadcast. RuntimeError for other dtypes than one
    floating one, counts below 0 and probabilities outside [0, 1].
    """
    like("binomial", count)
    like("binomial", prob)
    return wrap(distributions.binomial(count.array, prob.array, generator or backend.default_generator))
