"""Random numbers: every draw is a pure function of a generator's (key, counter), the same on NumPy and on the card.

A draw of n words takes them from the Philox stream (backend.Generator) in the order in which the result lies. A word has 64 bits:
two float32 values, one float64 value, one integer. Uniforms and integers agree to the bit on all devices, normals to
rounding. A generator with a `sequence` (gradflow.torch: PyTorch's own numbers) draws from that for arrays on the CPU.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import backend, kernel
from ..backend import Array, Generator, float32, float64, is_floating, namespace
from ..call import drawn
from ..cases import case
from ..dtypes import widened
from ..op import op, unwrap, wrap
from . import shape as shapes
from .layout import alike, order_of

# A uniform of each dtype is made from the top bits of a 32-bit half (float64: of a word), as many as it holds exactly.
_BITS = {"float64": 53, "float32": 24, "float16": 11, "bfloat16": 8}


def _on_card(xp: Any) -> Any:
    """The launchers where xp is CuPy, else None: then NumPy's own stream is used, and moved if need be."""
    if xp is np or kernel.definitions_only:
        return None
    from ..cuda import random

    return random


def _draw(what: str, shape: Any, dtype: Any, xp: Any, generator: Generator | None) -> Array:
    """The result of the function `what` of (shape, dtype, key, counter), here or on the card."""
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    if any(n < 0 for n in shape):
        raise RuntimeError(f"{what}: wanted sizes of at least 0, saw {shape}")
    dtype = np.dtype(dtype)
    if what != "words" and not is_floating(dtype):
        raise RuntimeError(f"{what}: wanted a floating dtype, saw {dtype}")
    sequence = sequence_of(xp, generator)
    if sequence is not None and what != "words":
        return getattr(sequence, what)(shape, dtype)
    n = math.prod(shape)
    if what == "normal":
        n += n % 2  # they come in pairs
    key, counter = (generator or backend.default_generator).reserve(n if dtype.itemsize == 8 else -(-n // 2))
    twin = _on_card(xp)
    if twin is not None:
        return getattr(twin, what)(shape, dtype, key, counter)
    y = _definitions[what](shape, dtype, key, counter)
    return y if xp is np else xp.asarray(y)


def sequence_of(xp: Any, generator: Generator | None = None) -> Any:
    """What draws a generator's numbers one after the other, or None where they are counted."""
    return (generator or backend.default_generator).sequence if xp is np else None


def words(n: int, xp: Any = np, generator: Generator | None = None) -> Array:
    """The next n 64-bit words of the stream, uint64."""
    return _draw("words", n, np.uint64, xp, generator)


def uniform(shape: Any, dtype: Any = float32, xp: Any = np, generator: Generator | None = None) -> Array:
    """Uniform in [0, 1): multiples of 2^-24 (float32), 2^-53 (float64), 2^-11 (float16), 2^-8 (bfloat16)."""
    return _draw("uniform", shape, dtype, xp, generator)


def uniform_between(
    low: float, high: float, shape: Any, dtype: Any = float32, xp: Any = np, generator: Generator | None = None
) -> Array:
    """Uniform in [low, high)."""
    sequence = sequence_of(xp, generator)
    if sequence is not None:
        return sequence.uniform(tuple(shape), np.dtype(dtype), low, high)
    return uniform(shape, dtype, xp, generator) * (high - low) + low


def normal(shape: Any, dtype: Any = float32, xp: Any = np, generator: Generator | None = None) -> Array:
    """Standard normal: pairs sqrt(-2 log u) (cos 2 pi v, sin 2 pi v) of uniforms u, v (Box & Muller 1958)."""
    return _draw("normal", shape, dtype, xp, generator)


def _words(shape: tuple[int, ...], dtype: Any, key: int, counter: int) -> np.ndarray:
    return backend.philox(key, counter, math.prod(shape)).reshape(shape)


def _halves(n: int, key: int, counter: int) -> np.ndarray:
    """n 32-bit halves of words, low half first."""
    return backend.philox(key, counter, n // 2 + n % 2).astype("<u8", copy=False).view("<u4")[:n]


def _uniform(shape: tuple[int, ...], dtype: np.dtype, key: int, counter: int) -> np.ndarray:
    n, bits = math.prod(shape), _BITS[dtype.name]
    if dtype == float64:
        return ((backend.philox(key, counter, n) >> 11) * 2.0**-53).reshape(shape)
    u = (_halves(n, key, counter) >> (32 - bits)).astype(float32)
    u *= np.float32(2.0**-bits)
    return u.reshape(shape).astype(dtype, copy=False)


def _normal(shape: tuple[int, ...], dtype: np.dtype, key: int, counter: int) -> np.ndarray:
    n = math.prod(shape)
    pairs = n // 2 + n % 2
    # u = (integer + 1/2) 2^-bits is never 0, so its logarithm is finite
    if dtype == float64:
        w = (backend.philox(key, counter, 2 * pairs) >> 11).reshape(pairs, 2)
        u, v = (w[:, 0] + 0.5) * 2.0**-53, w[:, 1] * (2 * math.pi * 2.0**-53)
    else:
        h = _halves(2 * pairs, key, counter).reshape(pairs, 2)
        u = h[:, 0].astype(float32) * np.float32(2.0**-32) + np.float32(2.0**-33)
        v = h[:, 1].astype(float32) * np.float32(2 * math.pi * 2.0**-32)
    r = np.sqrt(np.log(u) * -2)
    y = np.empty((pairs, 2), u.dtype)
    np.multiply(r, np.cos(v), out=y[:, 0])
    np.multiply(r, np.sin(v), out=y[:, 1])
    return y.reshape(-1)[:n].reshape(shape).astype(dtype, copy=False)


_definitions = {"words": _words, "uniform": _uniform, "normal": _normal}


def exponential(shape: Any, dtype: Any = float32, xp: Any = np, generator: Generator | None = None) -> Array:
    """Exponential with mean 1: -log(1 - u)."""
    sequence = sequence_of(xp, generator)
    if sequence is not None:
        return sequence.exponential((shape,) if isinstance(shape, int) else tuple(shape), np.dtype(dtype))
    u = uniform(shape, dtype if np.dtype(dtype).itemsize > 2 else float32, xp, generator)
    return (-xp.log1p(-u)).astype(np.dtype(dtype), copy=False)


def _times(w: Array, r: Any) -> Array:
    """floor(w r / 2^64) for words w and 0 < r <= 2^64: uniform in [0, r), to within r / 2^64 of exactly."""
    if isinstance(r, int) and r == 2**64:
        return w
    high, low = w >> 32, w & 0xFFFFFFFF
    if isinstance(r, int) and r <= 2**32:
        return (high * r + (low * r >> 32)) >> 32
    r_high, r_low = r >> 32, r & 0xFFFFFFFF
    middle = high * r_low + (low * r_low >> 32)
    return high * r_high + (middle >> 32) + ((low * r_high + (middle & 0xFFFFFFFF)) >> 32)


def integers(
    low: int, high: int, shape: Any, dtype: Any = np.int64, xp: Any = np, generator: Generator | None = None
) -> Array:
    """Integers in [low, high), each from one word. RuntimeError where the range is empty or not that of the dtype."""
    dtype = np.dtype(dtype)
    if low >= high:
        raise RuntimeError(f"randint: wanted low < high, saw {low} and {high}")
    if dtype.kind in "iu" and not (np.iinfo(dtype).min <= low and high - 1 <= np.iinfo(dtype).max):
        raise RuntimeError(f"randint: wanted bounds within {dtype}, saw {low} and {high}")
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    sequence = sequence_of(xp, generator)
    if sequence is not None:
        return sequence.integers(int(low), int(high), shape, dtype)
    w = _times(_draw("words", shape, np.uint64, xp, generator), int(high) - int(low))
    # sums of uint64 wrap as two's complement does, so a negative low needs no care
    w = w + (int(low) & (2**64 - 1))
    return w.view(np.int64 if low < 0 or high <= 2**63 else np.uint64).astype(dtype, copy=False)


def bernoulli(p: Array, generator: Generator | None = None) -> Array:
    """1 with probability p, else 0, of p's shape and dtype. RuntimeError for p outside [0, 1] (if on the CPU)."""
    if not is_floating(p.dtype):
        raise NotImplementedError(f"bernoulli: wanted floating probabilities, saw {p.dtype}")
    if isinstance(p, np.ndarray) and not ((p >= 0) & (p <= 1)).all():
        raise RuntimeError("bernoulli: wanted probabilities in [0, 1], saw one outside")
    sequence = sequence_of(namespace(p), generator)
    if sequence is not None:
        return sequence.bernoulli(p)
    u = uniform(p.shape, float64 if p.dtype == float64 else float32, namespace(p), generator)
    return (u < p.astype(u.dtype, copy=False)).astype(p.dtype)


def permutation(n: int, xp: Any = np, generator: Generator | None = None) -> Array:
    """0 .. n - 1 in random order, int64: the indices ride in the low bits of random words that are sorted."""
    if n < 0:
        raise RuntimeError(f"randperm: wanted n of at least 0, saw {n}")
    sequence = sequence_of(xp, generator)
    if sequence is not None:
        return sequence.permutation(n)
    bits = max(n - 1, 1).bit_length()
    keys = xp.sort((words(n, xp, generator) >> bits << bits) | xp.arange(n, dtype=np.uint64))
    return (keys & ((1 << bits) - 1)).astype(np.int64)


def multinomial(weights: Array, n: int, replacement: bool = False, generator: Generator | None = None) -> Array:
    """n indices for each row of weights (categories) or (rows, categories), drawn with their probabilities; int64.

    With replacement by the inverse of the cumulative weights, in integers so that the sums are exact; without, as the
    first n arrivals of exponential clocks with the weights as rates. RuntimeError for weights that are negative, not
    finite or all zero in a row, or fewer nonzero ones than n (checked on the CPU only), and for an impossible n.
    """
    xp, categories = namespace(weights), weights.shape[-1] if weights.ndim else 0
    if weights.ndim not in (1, 2) or not categories or not is_floating(weights.dtype):
        seen = f"{weights.dtype} {tuple(weights.shape)}"
        raise RuntimeError(f"multinomial: wanted floating weights of 1 or 2 dimensions, saw {seen}")
    if n < 1 or (not replacement and n > categories):
        raise RuntimeError(f"multinomial: wanted 1 to {categories} samples without replacement, saw {n}")
    w = weights.astype(float64).reshape(-1, categories)
    if xp is np:
        if not (np.isfinite(w) & (w >= 0)).all():
            raise RuntimeError("multinomial: wanted finite weights of at least 0, saw others")
        if ((w > 0).sum(1) < (1 if replacement else n)).any():
            raise RuntimeError(f"multinomial: wanted {1 if replacement else n} nonzero weights in each row, saw fewer")
    rows, sequence = len(w), sequence_of(xp, generator)
    if sequence is not None:
        index = sequence.multinomial(weights.reshape(w.shape), n, replacement)
    elif replacement:
        scale = 2.0 ** min(52, 61 - rows.bit_length())  # so that the sum over all rows fits
        each = xp.ceil(w / w.sum(1, keepdims=True) * scale).astype(np.int64)
        upto = xp.cumsum(each.reshape(-1))
        end = upto[categories - 1 :: categories]
        start = end - each.sum(1)
        draws = words(rows * n, xp, generator).reshape(rows, n)
        at = _times(draws, (end - start).astype(np.uint64)[:, None]).astype(np.int64) + start[:, None]
        index = xp.searchsorted(upto, at.reshape(-1), side="right").reshape(rows, n) % categories
    else:
        clocks = exponential(w.shape, float64, xp, generator) / xp.where(w > 0, w, 1.0)
        index = xp.argsort(xp.where(w > 0, clocks, np.inf), axis=1)[:, :n]
    return index.astype(np.int64).reshape((*weights.shape[:-1], n))


# --- dropout ----------------------------------------------------------------------------------------


@op(
    dx=lambda g, p, key, counter: dropout(g, p, key, counter),
    twin="random",
    cases=lambda r: [
        case(r(3, 4), 0.5, 7, 0), case(r(67), 0.1, 2**64 - 1, 5), case(r(), 0.5, 1, 2), case(r(0), 0.5, 1, 2),
        case(r.strided(5, 3), 0.3, 3, 10), case(r(8), 0.0, 1, 1), case(r(9), 1.0, 1, 1),
        case(r(2, 3, 700), 0.25, 11, 2**40),
    ],
    reference=None,
)  # fmt: skip
def dropout(x, p, key, counter):
    """x / (1 - p) where kept, with probability 1 - p, else 0 (Srivastava et al. 2014).

    Element i is kept if the 32-bit half i of the Philox stream (key, counter) is at least p 2^32: the mask is made
    again in the gradient, never stored. ValueError for p outside [0, 1].
    """
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: wanted a probability p in [0, 1], saw {p}")
    if not backend.is_differentiable(x.dtype):
        raise RuntimeError(f"dropout: wanted a floating dtype, saw {x.dtype}")
    xp, n = namespace(x), x.size
    kept = _halves(n, key, counter) >= limit(p) if p < 1 else np.zeros(n, np.bool_)
    y = widened(x) * xp.asarray(kept.reshape(x.shape))
    return (y * scale(p)).astype(x.dtype, copy=False)


@op(
    dx=lambda g, kept, p: dropped(g, kept, p),
    cases=lambda r: [
        case(r(3, 4), r.mask(3, 4), 0.5), case(r.strided(5, 3), r.mask(5, 3), 0.1), case(r(), r.mask(), 0.5),
        case(r(0), r.mask(0), 0.5), case(r(4), np.zeros(4, np.bool_), 1.0),
    ],
    reference=lambda torch, x, kept, p: x * kept * (1 / (1 - p) if p < 1 else 0.0),
)  # fmt: skip
def dropped(x, kept, p):
    """x / (1 - p) where kept, else 0: dropout by a mask, which costs a byte an element and is quicker than drawing again."""
    y = widened(x) * kept
    y *= y.dtype.type(scale(p))
    return y.astype(x.dtype, copy=False)


def limit(p: float) -> int:
    """The least 32-bit number that is kept; for p = 1 there is none."""
    return round(p * 2**32)


def scale(p: float) -> float:
    """1 / (1 - p), and 0 where nothing is kept."""
    return 1 / (1 - p) if p < 1 else 0.0


@drawn
def drop(x: Any, p: float = 0.5, generator: Generator | None = None) -> Any:
    """dropout of an array or Tensor with the generator's next bits."""
    bare = unwrap(x)
    sequence = sequence_of(namespace(bare), generator)
    if sequence is not None:
        mask = alike(bare, lambda size: sequence.kept(size, 1 - p)) * bare.dtype.type(scale(p))
        return x * (mask if x is bare else wrap(mask))
    found = order_of(bare)
    if found is not None:  # the numbers are drawn in the order in which x lies
        there, back = found
        return shapes.permute(drop(shapes.permute(x, there), p, generator), back)
    key, counter = (generator or backend.default_generator).reserve(-(-bare.size // 2))
    if type(bare) is np.ndarray and 0 <= p <= 1 and backend.is_differentiable(bare.dtype):
        n = bare.size
        kept = _halves(n, key, counter) >= limit(p) if p < 1 else np.zeros(n, np.bool_)
        return dropped(x, kept.reshape(bare.shape), p)
    return dropout(x, p, key, counter)


def keep(p: float, shape: tuple[int, ...], xp: Any = np, generator: Generator | None = None) -> Array:
    """True with the probability p, a number."""
    sequence = sequence_of(xp, generator)
    return uniform(shape, float32, xp, generator) < p if sequence is None else sequence.kept(shape, p)
