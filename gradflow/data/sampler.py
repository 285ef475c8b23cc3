"""Samplers: the order in which samples are taken, and how they are grouped into batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from itertools import islice
from typing import Any, Generic, TypeVar

import numpy as np

from ..backend import Generator
from ..op import wrap
from ..ops import random
from ..tape import Traced

T_co = TypeVar("T_co", covariant=True)


class Sampler(Generic[T_co]):
    """The base of all samplers: define __iter__() and, where it is known, __len__().

    One whose order is random also defines draw(generator), the order that a given generator yields: a DataLoader hands
    over one of its own for every epoch, so that it can find its place again after a restart.
    """

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError(f"{type(self).__name__}: the sampler has no __iter__()")


def draw(sampler: Iterable[Any], generator: Generator) -> Iterator[Any]:
    """The order of a sampler, from `generator` if it is random."""
    return sampler.draw(generator) if hasattr(sampler, "draw") else iter(sampler)


class SequentialSampler(Sampler):
    """0, 1, 2, ... in order."""

    def __init__(self, data_source: Sized) -> None:
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(Sampler):
    """All samples in random order, or num_samples of them, drawn each from all of them with `replacement`.

    More samples than there are, without replacement, are several orders one after the other. Bits come from
    `generator`, else from the default one. ValueError unless num_samples > 0.
    """

    def __init__(
        self, data_source: Sized, replacement: bool = False, num_samples: int | None = None,
        generator: Generator | None = None,
    ) -> None:  # fmt: skip
        self.data_source, self.replacement, self.generator = data_source, replacement, generator
        self._num_samples = num_samples
        if not isinstance(replacement, bool):
            raise TypeError(f"RandomSampler: wanted replacement as a bool, saw {replacement!r}")
        if num_samples is not None and (not isinstance(num_samples, int) or num_samples <= 0):
            raise ValueError(f"RandomSampler: wanted an integer num_samples > 0, saw {num_samples}")

    @property
    def num_samples(self) -> int:
        """How many samples an epoch has."""
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def draw(self, generator: Generator | None) -> Iterator[int]:
        """The order that a generator yields."""
        n, left = len(self.data_source), self.num_samples
        if n == 0:
            return
        if self.replacement:
            yield from random.integers(0, n, left, generator=generator).tolist()
            return
        while left > 0:
            yield from random.permutation(n, generator=generator)[:left].tolist()
            left -= n

    def __iter__(self) -> Iterator[int]:
        return self.draw(self.generator)

    def __len__(self) -> int:
        return self.num_samples


class SubsetRandomSampler(Sampler):
    """The given indices in random order; bits come from `generator`, else from the default one."""

    def __init__(self, indices: Sequence[int], generator: Generator | None = None) -> None:
        self.indices, self.generator = indices, generator

    def draw(self, generator: Generator | None) -> Iterator[int]:
        """The order that a generator yields."""
        for i in random.permutation(len(self.indices), generator=generator).tolist():
            yield self.indices[i]

    def __iter__(self) -> Iterator[int]:
        return self.draw(self.generator)

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler(Sampler):
    """num_samples of 0, ..., len(weights) - 1 with probabilities in proportion to the weights, with replacement or without.

    ValueError for weights that are not in one dimension, or num_samples that is no integer above 0.
    """

    def __init__(
        self, weights: Any, num_samples: int, replacement: bool = True, generator: Generator | None = None
    ) -> None:
        if not isinstance(num_samples, int) or isinstance(num_samples, bool) or num_samples <= 0:
            raise ValueError(f"WeightedRandomSampler: wanted an integer num_samples > 0, saw {num_samples!r}")
        if not isinstance(replacement, bool):
            raise ValueError(f"WeightedRandomSampler: wanted replacement as a bool, saw {replacement!r}")
        self.weights = wrap(np.array(weights.array if isinstance(weights, Traced) else weights, np.float64))
        if self.weights.array.ndim != 1:
            shape = tuple(self.weights.array.shape)
            raise ValueError(f"WeightedRandomSampler: wanted weights in one dimension, saw shape {shape}")
        self.num_samples, self.replacement, self.generator = num_samples, replacement, generator

    def draw(self, generator: Generator | None) -> Iterator[int]:
        """The order that a generator yields."""
        return iter(random.multinomial(self.weights.array, self.num_samples, self.replacement, generator).tolist())

    def __iter__(self) -> Iterator[int]:
        return self.draw(self.generator)

    def __len__(self) -> int:
        return self.num_samples


class DistributedSampler(Sampler):
    """The part of a dataset that one of num_replicas processes, number `rank`, takes; set_epoch(n) changes the order.

    shuffle   in an order drawn from seed + epoch, the same in all processes
    drop_last leave out what does not divide; else the first samples are taken twice
    ValueError for a rank that is not below num_replicas.
    """

    def __init__(
        self, dataset: Sized, num_replicas: int | None = None, rank: int | None = None, shuffle: bool = True,
        seed: int = 0, drop_last: bool = False,
    ) -> None:  # fmt: skip
        self.num_replicas, self.rank = num_replicas or 1, rank or 0
        if not 0 <= self.rank < self.num_replicas:
            raise ValueError(f"DistributedSampler: wanted a rank below {self.num_replicas}, saw {self.rank}")
        self.dataset, self.shuffle, self.seed, self.drop_last, self.epoch = dataset, shuffle, seed, drop_last, 0
        n = len(dataset)
        self.num_samples = n // self.num_replicas if drop_last else -(-n // self.num_replicas)
        self.total_size = self.num_samples * self.num_replicas

    def set_epoch(self, epoch: int) -> None:
        """Draw another order."""
        self.epoch = epoch

    def _generator(self) -> Generator:
        return Generator(self.seed + self.epoch)

    def __iter__(self) -> Iterator[int]:
        n = len(self.dataset)
        order = random.permutation(n, generator=self._generator()).tolist() if self.shuffle else list(range(n))
        while order and len(order) < self.total_size:
            order += order[: self.total_size - len(order)]
        return iter(order[self.rank : self.total_size : self.num_replicas])

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler):
    """Lists of batch_size samples of another sampler; the last is shorter, or left out with drop_last."""

    def __init__(self, sampler: Iterable[int], batch_size: int, drop_last: bool = False) -> None:
        if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size <= 0:
            raise ValueError(f"BatchSampler: wanted an integer batch_size > 0, saw {batch_size}")
        if not isinstance(drop_last, bool):
            raise ValueError(f"BatchSampler: wanted drop_last as a bool, saw {drop_last!r}")
        self.sampler, self.batch_size, self.drop_last = sampler, batch_size, drop_last

    def draw(self, generator: Generator | None) -> Iterator[list[int]]:
        """The batches of the order that a generator yields."""
        order = iter(self.sampler) if generator is None else draw(self.sampler, generator)
        while batch := list(islice(order, self.batch_size)):
            if len(batch) == self.batch_size or not self.drop_last:
                yield batch

    def __iter__(self) -> Iterator[list[int]]:
        return self.draw(None)

    def __len__(self) -> int:
        n = len(self.sampler)  # type: ignore[arg-type]
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)
