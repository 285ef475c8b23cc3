"""PyTorch's random numbers on the CPU: the words of a Mersenne Twister, taken one after the other, and what they become.

A seed gives the numbers that PyTorch gives, uniforms, integers and permutations to the bit, normals to rounding: as
PyTorch draws without the Intel library's own generators, which it takes for bernoulli_ and exponential_ on Intel processors.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backend import Array, float32, float64

_MASK = {8: np.uint64(2**53 - 1), 4: np.uint64(2**24 - 1)}


class Twister:
    """The sequence of a seed: MT19937 (Matsumoto and Nishimura 1998) and the second of a pair of normals, if one is left."""

    def __init__(self, seed: int) -> None:
        self.bits = np.random.MT19937()
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Begin anew from the low 32 bits of a seed."""
        self.bits.state = np.random.RandomState(int(seed) & 0xFFFFFFFF).get_state(legacy=False)
        self.left: float | None = None

    def get_state(self) -> tuple[np.ndarray, int, float | None]:
        """(624 words, the place among them, the normal that is left)."""
        state: Any = self.bits.state["state"]
        return state["key"].copy(), int(state["pos"]), self.left

    def set_state(self, state: tuple[np.ndarray, int, float | None]) -> None:
        """Go on from a state that get_state gave."""
        key, place, self.left = state
        self.bits.state = {"bit_generator": "MT19937", "state": {"key": key, "pos": place}}

    # --- words ------------------------------------------------------------------------------------------

    def words(self, n: int) -> np.ndarray:
        """The next n words of 32 bits, as uint64."""
        return self.bits.random_raw(n) if n else np.empty(0, np.uint64)

    def doubles(self, n: int) -> np.ndarray:
        """The next n words of 64 bits, each of two, the high one first."""
        w = self.words(2 * n)
        return w[0::2] << np.uint64(32) | w[1::2]

    def seed_of_another(self) -> int:
        """What DataLoader and RandomSampler draw to seed a generator of their own."""
        return int(self.doubles(1)[0] & np.uint64(2**63 - 1))

    def _unit(self, n: int, bytes: int) -> np.ndarray:
        """n numbers uniform in [0, 1), as float64: multiples of 2^-53 of two words, of 2^-24 of one."""
        if bytes == 8:
            return (self.doubles(n) & _MASK[8]) * 2.0**-53
        return (self.words(n) & _MASK[4]) * 2.0**-24

    # --- distributions ----------------------------------------------------------------------------------

    def uniform(self, shape: tuple[int, ...], dtype: np.dtype, low: float = 0.0, high: float = 1.0) -> np.ndarray:
        """Uniform in [low, high)."""
        u = self._unit(math.prod(shape), dtype.itemsize)
        if (low, high) != (0, 1):  # rounded once, as by a fused multiply-add
            kind = float64 if dtype.itemsize == 8 else float32
            low, high = kind.type(low), kind.type(high)
            u = u * float(high - low) + float(low)
        y = u.astype(dtype)
        y[y == dtype.type(high)] = low  # what was rounded up
        return y.reshape(shape)

    def normal(self, shape: tuple[int, ...], dtype: np.dtype, alone: bool = False) -> np.ndarray:
        """Standard normal: in blocks of sixteen from eight pairs of uniforms; fewer than sixteen, or alone, one by one."""
        n = math.prod(shape)
        found = self._few(n) if n < 16 or alone else self._blocks(n, dtype)
        return found.astype(dtype, copy=False).reshape(shape)

    def _few(self, n: int) -> np.ndarray:
        """Pairs of uniforms in float64, of which the second normal may be left for the next draw."""
        found = [] if self.left is None else [self.left]
        self.left = None
        while len(found) < n:
            v, u = self._unit(2, 8).tolist()
            r, t = math.sqrt(-2 * math.log1p(-u)), 2 * math.pi * v
            found += [r * math.cos(t), r * math.sin(t)]
        if len(found) > n:
            self.left = found.pop()
        return np.array(found)

    def _blocks(self, n: int, dtype: np.dtype) -> np.ndarray:
        """Blocks of sixteen; the last one, where n is no multiple, is drawn again over the last sixteen."""
        whole, half = n - n % 16, dtype.itemsize == 2
        kind = float32 if half else dtype
        # half types draw for whole blocks only, the others for all n
        u = self.uniform((whole if half else n,), kind)[:whole]
        y = np.empty(n, kind)
        y[:whole] = _pairs(u)
        if n % 16:
            y[-16:] = _pairs(self.uniform((16,), kind))
        return y

    def exponential(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Exponential with mean 1."""
        return (-np.log1p(-self._unit(math.prod(shape), 8))).astype(dtype).reshape(shape)

    def integers(self, low: int, high: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Integers in [low, high): the remainders of words, of 64 bits for a range from 2^28 on."""
        n, span = math.prod(shape), int(high) - int(low)
        w = self.doubles(n) if span >= 2**28 else self.words(n)
        if span < 2**64:
            w = w % np.uint64(span)
        w = w + np.uint64(low & (2**64 - 1))  # wraps as two's complement does
        return w.view(np.int64 if low < 0 or high <= 2**63 else np.uint64).astype(dtype).reshape(shape)

    def permutation(self, n: int) -> np.ndarray:
        """0 .. n - 1 in random order, by Fisher and Yates' exchanges from the front, int64."""
        order = list(range(n))
        where = (self.words(max(n - 1, 0)) % np.arange(n, 1, -1, dtype=np.uint64)).tolist()
        for i, far in enumerate(where):
            j = i + far
            order[i], order[j] = order[j], order[i]
        return np.array(order, np.int64)

    def poisson(self, rates: np.ndarray) -> np.ndarray:
        """Poisson numbers: below a rate of 10 by products of uniforms (Knuth), else by rejection (Hoermann 1993)."""
        return np.array([self._poisson(r) for r in rates.reshape(-1).tolist()], float64).reshape(rates.shape)

    def _poisson(self, rate: float) -> float:
        if rate < 10:
            end, product, k = math.exp(-rate), self._unit(1, 8).item() if rate else 0.0, 0
            while product > end:
                product *= self._unit(1, 8).item()
                k += 1
            return k
        root, log_rate = math.sqrt(rate), math.log(rate)
        b = 0.931 + 2.53 * root
        a, inverse, vr = -0.059 + 0.02483 * b, 1.1239 + 1.1328 / (b - 3.4), 0.9277 - 3.6224 / (b - 2)
        while True:
            u, v = (self._unit(2, 8) - np.array([0.5, 0.0])).tolist()
            us = 0.5 - abs(u)
            k = math.floor((2 * a / us + b) * u + rate + 0.43)
            if us >= 0.07 and v <= vr:
                return k
            if k < 0 or (us < 0.013 and v > us):
                continue
            if math.log(v) + math.log(inverse) - math.log(a / (us * us) + b) <= k * log_rate - rate - math.lgamma(
                k + 1
            ):
                return k

    def gamma(self, shapes: np.ndarray) -> np.ndarray:
        """Gamma(a, 1) numbers: cubes of normals, rejected where too many (Marsaglia and Tsang 2000)."""
        return np.array([self._gamma(a) for a in shapes.reshape(-1).tolist()], float64).reshape(shapes.shape)

    def _gamma(self, a: float) -> float:
        factor = 1.0
        if a < 1:
            if a == 0:
                return 0.0
            factor, a = (1 - self._unit(1, 8).item()) ** (1 / a), a + 1
        d = a - 1 / 3
        c = 1 / math.sqrt(9 * d)
        while True:
            x = y = 0.0
            while y <= 0:
                x = self._few(1).item()
                y = 1 + c * x
            v, u = y**3, 1 - self._unit(1, 8).item()
            if u < 1 - 0.0331 * x**4 or math.log(u) < 0.5 * x * x + d * (1 - v + math.log(v)):
                return factor * d * v

    def binomial(self, counts: np.ndarray, p: np.ndarray) -> np.ndarray:
        """How many of the counts succeed: by the gaps between successes where few do, else by rejection (Hoermann 1993)."""
        pairs = zip(counts.reshape(-1).tolist(), np.broadcast_to(p, counts.shape).reshape(-1).tolist(), strict=True)
        return np.array([self._binomial(n, q) for n, q in pairs], float64).reshape(counts.shape)

    def _binomial(self, n: int, p: float) -> float:
        if n <= 0 or p <= 0:
            return 0
        if p >= 1:
            return n
        if p > 0.5:
            return n - self._binomial(n, 1 - p)
        if n * p >= 10:
            return self._many(n, p)
        total, found, log_miss = 0.0, 0, math.log1p(-p)
        while True:
            total += math.ceil(math.log(self._unit(1, 8).item()) / log_miss)
            if total > n:
                return found
            found += 1

    def _many(self, n: int, p: float) -> float:
        root = math.sqrt(n * p * (1 - p))
        b = 1.15 + 2.53 * root
        a, middle, vr = -0.0873 + 0.0248 * b + 0.01 * p, n * p + 0.5, 0.92 - 4.2 / b
        odds, alpha, mode = p / (1 - p), (2.83 + 5.1 / b) * root, math.floor((n + 1) * p)
        while True:
            u = self._unit(1, 8).item() - 0.5
            v = self._unit(1, 8).item()
            us = 0.5 - abs(u)
            k = math.floor((2 * a / us + b) * u + middle)
            if us >= 0.07 and v <= vr:
                return k
            if k < 0 or k > n:
                continue
            v = math.log(v * alpha / (a / (us * us) + b))
            bound = (mode + 0.5) * math.log((mode + 1) / (odds * (n - mode + 1)))
            bound += (n + 1) * math.log((n - mode + 1) / (n - k + 1)) + (k + 0.5) * math.log(
                odds * (n - k + 1) / (k + 1)
            )
            bound += _tail(mode) + _tail(n - mode) - _tail(k) - _tail(n - k)
            if v <= bound:
                return k

    def kept(self, shape: tuple[int, ...], p: float) -> np.ndarray:
        """True with the probability p."""
        return (self._unit(math.prod(shape), 8) < p).reshape(shape)

    def bernoulli(self, p: np.ndarray) -> np.ndarray:
        """1 with the probability that each element of p says, else 0."""
        u = self._unit(p.size, p.dtype.itemsize).reshape(p.shape)
        return (u < p.astype(float64)).astype(p.dtype)

    def multinomial(self, weights: Array, n: int, replacement: bool) -> np.ndarray:
        """n indices for each row of weights (rows, categories): int64.

        Several with replacement by the inverse of the cumulative weights; else the n largest of weights / exponentials.
        """
        rows, categories = weights.shape
        if replacement and n > 1:
            upto = np.cumsum(weights.astype(float64), 1)
            u = self._unit(rows * n, 8).reshape(rows, n)
            found = [np.searchsorted(c / c[-1], v, "left") for c, v in zip(upto, u, strict=True)]
            return np.minimum(np.array(found, np.int64).reshape(rows, n), categories - 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            race = weights / self.exponential(weights.shape, weights.dtype)
        return np.argsort(-race.astype(float64), axis=1, kind="stable")[:, :n].astype(np.int64)


def _pairs(u: np.ndarray) -> np.ndarray:
    """Normals of uniforms in blocks of sixteen: sqrt(-2 log(1 - u)) cos and sin 2 pi v (Box and Muller 1958)."""
    blocks, number = u.reshape(-1, 2, 8), u.dtype.type
    r = np.sqrt(number(-2) * np.log(number(1) - blocks[:, 0]))
    t = number(2 * math.pi) * blocks[:, 1]
    return np.stack([r * np.cos(t), r * np.sin(t)], 1).reshape(-1)


def _tail(k: float) -> float:
    """log k! less Stirling's (k + 1/2) log(k + 1) - (k + 1) + log(2 pi) / 2."""
    return math.lgamma(k + 1) - (k + 0.5) * math.log(k + 1) + (k + 1) - 0.5 * math.log(2 * math.pi)
