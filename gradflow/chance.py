"""Random numbers written into a tensor: the methods uniform_, normal_ and their like."""

from __future__ import annotations

from typing import Any, Self

from .backend import Generator
from .op import current
from .ops import distributions
from .tape import Traced
from .writes import Writable


class Chance(Writable):
    """The part of Tensor that draws random numbers."""

    def _draw(self, name: str, how: Any, *args: Any) -> Any:
        for a in args if name != "bernoulli_" else ():
            if isinstance(a, Traced) and (a.array.ndim or current(a) is not None):
                raise TypeError(f"{name}: wanted numbers, saw a tensor of shape {tuple(a.array.shape)}")
        numbers = (a.array.item() if isinstance(a, Traced) and name != "bernoulli_" else a for a in args)
        return self._write(name, how(self.array, *numbers))

    def uniform_(self, from_: float = 0.0, to: float = 1.0, *, generator: Generator | None = None, **named: Any) -> Self:
        """Write numbers uniform in [from, to) into self."""
        low, high = named.pop("from", named.pop("low", from_)), named.pop("high", to)
        return self._draw("uniform_", distributions.spread, low, high, generator)

    def normal_(self, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None) -> Self:
        """Write normal numbers into self."""
        return self._draw("normal_", distributions.normals, mean, std, generator)

    def exponential_(self, lambd: float = 1.0, *, generator: Generator | None = None) -> Self:
        """Write numbers of the exponential distribution, of mean 1 / lambd, into self."""
        return self._draw("exponential_", distributions.exponentials, lambd, generator)

    def cauchy_(self, median: float = 0.0, sigma: float = 1.0, *, generator: Generator | None = None) -> Self:
        """Write numbers of the Cauchy distribution into self."""
        return self._draw("cauchy_", distributions.cauchys, median, sigma, generator)

    def log_normal_(self, mean: float = 1.0, std: float = 2.0, *, generator: Generator | None = None) -> Self:
        """Write numbers whose logarithms are normal into self."""
        return self._draw("log_normal_", distributions.log_normals, mean, std, generator)

    def geometric_(self, p: float, *, generator: Generator | None = None) -> Self:
        """Write numbers of tries up to the first success, of probability p, into self."""
        return self._draw("geometric_", distributions.geometrics, p, generator)

    def random_(self, from_: Any = None, to: Any = None, *, generator: Generator | None = None, **named: Any) -> Self:
        """Write integers in [from, to), in [0, to) for one number, or all that the dtype holds exactly, into self."""
        low, high = named.pop("from", from_), to
        low, high = (None, low) if high is None else (low, high)
        return self._draw("random_", distributions.wholes, low, high, generator)

    def bernoulli_(self, p: Any = 0.5, *, generator: Generator | None = None) -> Self:
        """Write 1 with probability p, a number or a tensor that broadcasts, else 0 into self."""
        return self._draw("bernoulli_", distributions.chances, p, generator)

    def bernoulli(self, p: Any = None, *, generator: Generator | None = None) -> Any:
        """1 with the probability that each element says, or with probability p everywhere, else 0."""
        from .draws import bernoulli

        return bernoulli(self, p, generator=generator)

    def multinomial(self, num_samples: int, replacement: bool = False, *, generator: Generator | None = None) -> Any:
        """num_samples indices for each row of weights, with the probability that the weights say."""
        from .draws import multinomial

        return multinomial(self, num_samples, replacement, generator=generator)
