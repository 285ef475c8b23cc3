"""Distributions: arrays of random numbers made from the uniform and normal ones of random.py, many to be written into a
tensor whose shape, dtype and device they have.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import backend
from ..backend import Array, Generator, float32, float64, is_floating, namespace
from ..op import unwrap
from .layout import alike
from .random import bernoulli, exponential, integers, keep, normal, sequence_of, uniform, uniform_between

# --- other distributions ----------------------------------------------------------------------------------


def chances(x: Array, p: Any = None, generator: Generator | None = None) -> Array:
    """bernoulli of the probabilities x, or, of x's shape and dtype, of p, a number or an array that broadcasts."""
    if p is None:
        return bernoulli(x, generator)
    p, xp = unwrap(p), namespace(x)
    if x.dtype.kind == "c":
        raise RuntimeError(f"bernoulli: wanted real numbers, saw {x.dtype}")
    if isinstance(p, (int, float)):
        if not 0 <= p <= 1:
            raise RuntimeError(f"bernoulli: wanted a probability in [0, 1], saw {p}")
        return alike(x, lambda size: keep(p, size, xp, generator)).astype(x.dtype)
    return bernoulli(xp.broadcast_to(xp.asarray(p), x.shape), generator).astype(x.dtype)


def _host(generator: Generator | None) -> np.random.Generator:
    """A generator of NumPy's that starts where ours is: what it draws cannot be drawn by a fixed number of words."""
    seed = int((generator or backend.default_generator).words(1)[0])
    return np.random.Generator(np.random.Philox(key=seed))


def poisson(rates: Array, generator: Generator | None = None) -> Array:
    """Poisson numbers with these rates, drawn on the CPU. RuntimeError for rates below 0 or no floating dtype."""
    if not is_floating(rates.dtype):
        raise NotImplementedError(f"poisson: wanted a floating dtype, saw {rates.dtype}")
    r = backend.asnumpy(rates).astype(float64)
    if not (r >= 0).all():
        raise RuntimeError("poisson: wanted rates of at least 0, saw one below")
    xp = namespace(rates)
    sequence = sequence_of(xp, generator)
    return xp.asarray(np.asarray((sequence or _host(generator)).poisson(r)).astype(rates.dtype))


def binomial(count: Array, prob: Array, generator: Generator | None = None) -> Array:
    """How many of count tries succeed with probability prob, drawn on the CPU. RuntimeError for values out of range."""
    if not is_floating(count.dtype) or count.dtype != prob.dtype:
        raise RuntimeError(f"binomial: wanted one floating dtype, saw {count.dtype} and {prob.dtype}")
    n, p = (backend.asnumpy(v).astype(float64) for v in (count, prob))
    if not (n >= 0).all() or not ((p >= 0) & (p <= 1)).all():
        raise RuntimeError("binomial: wanted counts of at least 0 and probabilities in [0, 1], saw others")
    y = (sequence_of(namespace(count), generator) or _host(generator)).binomial(n.astype(np.int64), p)
    return namespace(count).asarray(np.asarray(y).astype(count.dtype))


# --- numbers to be written into a tensor ------------------------------------------------------------------


def _real(name: str, like: Array) -> np.dtype:
    """The dtype in which numbers for `like` are drawn. NotImplementedError unless it is floating."""
    if not is_floating(like.dtype):
        raise NotImplementedError(f"{name}: wanted a floating dtype, saw {like.dtype}")
    return float64 if like.dtype == float64 else float32


def _open(name: str, like: Array, generator: Generator | None) -> Array:
    """Uniform in (0, 1]: its logarithm is finite. Of a sequence, in [0, 1), with 53 bits."""
    dtype, xp = _real(name, like), namespace(like)
    if sequence_of(xp, generator) is not None:
        return uniform(like.shape, float64, xp, generator)
    return 1 - uniform(like.shape, dtype, xp, generator)


def spread(like: Array, low: float, high: float, generator: Generator | None = None) -> Array:
    """Uniform in [low, high)."""
    if not low <= high:
        raise RuntimeError(f"uniform_: wanted low of at most high, saw {low} and {high}")
    if like.dtype.kind == "c":
        parts = uniform_between(low, high, (*like.shape, 2), like.real.dtype, namespace(like), generator)
        return parts[..., 0] + 1j * parts[..., 1]
    _real("uniform_", like)
    xp = namespace(like)
    return alike(like, lambda size: uniform_between(low, high, size, like.dtype, xp, generator))


def normals(like: Array, mean: float, std: float, generator: Generator | None = None) -> Array:
    """Normal with this mean and standard deviation; of complex numbers each part has half the variance."""
    if not std >= 0:
        raise RuntimeError(f"normal_: wanted a standard deviation of at least 0, saw {std}")
    xp = namespace(like)
    if like.dtype.kind == "c":
        part = normal((*like.shape, 2), like.real.dtype, xp, generator)
        return (part[..., 0] + 1j * part[..., 1]) * (std * math.sqrt(0.5)) + mean
    _real("normal_", like)
    sequence = sequence_of(xp, generator)
    if sequence is not None and not like.flags.c_contiguous:
        return alike(like, lambda size: sequence.normal(size, like.dtype, alone=True)) * std + mean
    return normal(like.shape, like.dtype, xp, generator) * std + mean


def exponentials(like: Array, lambd: float, generator: Generator | None = None) -> Array:
    """Exponential with mean 1 / lambd."""
    if not lambd > 0:
        raise RuntimeError(f"exponential_: wanted lambd above 0, saw {lambd}")
    _real("exponential_", like)
    xp = namespace(like)
    return alike(like, lambda size: exponential(size, like.dtype, xp, generator)) / lambd


def cauchys(like: Array, median: float, sigma: float, generator: Generator | None = None) -> Array:
    """Cauchy: median + sigma tan(pi (u - 1/2))."""
    if not sigma > 0:
        raise RuntimeError(f"cauchy_: wanted sigma above 0, saw {sigma}")
    return namespace(like).tan((_open("cauchy_", like, generator) - 0.5) * math.pi) * sigma + median


def log_normals(like: Array, mean: float, std: float, generator: Generator | None = None) -> Array:
    """exp of a normal number with this mean and standard deviation."""
    if not std > 0:
        raise RuntimeError(f"log_normal_: wanted a standard deviation above 0, saw {std}")
    xp = namespace(like)
    with np.errstate(over="ignore"):
        return xp.exp(normal(like.shape, _real("log_normal_", like), xp, generator) * std + mean)


def geometrics(like: Array, p: float, generator: Generator | None = None) -> Array:
    """The number of tries up to the first success, of probability p in (0, 1): ceil(log u / log(1 - p))."""
    if not 0 < p < 1:
        raise RuntimeError(f"geometric_: wanted p in (0, 1), saw {p}")
    if like.dtype.kind in "cb":
        raise NotImplementedError(f"geometric_: wanted real numbers, saw {like.dtype}")
    xp = namespace(like)
    drawn = xp.empty(like.shape, float64 if like.dtype.itemsize > 4 else float32)
    return xp.maximum(xp.ceil(xp.log(_open("geometric_", drawn, generator)) / math.log1p(-p)), 1)


def wholes(like: Array, low: Any, high: Any, generator: Generator | None = None) -> Array:
    """Integers in [low, high); from 0 to the largest that the dtype holds exactly unless given."""
    dtype = like.dtype
    if dtype.kind == "c":
        raise NotImplementedError(f"random_: wanted real numbers, saw {dtype}")
    limits = None if dtype.kind not in "iu" else np.iinfo(dtype)
    most = {"float16": 2**11, "bfloat16": 2**8, "float32": 2**24, "float64": 2**53, "bool": 1}
    if high is None:
        high = min(int(limits.max), 2**63 - 1) + 1 if limits else most[dtype.name] + 1
        sequence = sequence_of(namespace(like), generator)
        if sequence is not None and limits and dtype.itemsize <= 4 and low is None:
            return (sequence.words(like.size) % np.uint64(high)).reshape(like.shape).astype(dtype)
    low = 0 if low is None else low
    if low >= high:
        raise RuntimeError(f"random_: wanted from < to, saw {low} and {high}")
    if limits is not None and not (int(limits.min) <= low and high - 1 <= int(limits.max)):
        raise RuntimeError(f"random_: wanted bounds within {dtype}, saw {low} and {high}")
    return integers(low, high, like.shape, dtype if limits else np.int64, namespace(like), generator).astype(dtype)
