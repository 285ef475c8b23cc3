"""torch.utils.data where it draws random numbers: seeds and orders as PyTorch draws them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .. import backend
from ..data import loader, sampler
from ..ops import random
from .random import Generator


def _seed(generator: backend.Generator | None) -> int:
    return (generator or backend.default_generator).sequence.seed_of_another()


class RandomSampler(sampler.RandomSampler):
    """All samples in random order; without a generator, each epoch seeds one from the default generator."""

    def __iter__(self) -> Iterator[int]:
        generator = self.generator
        if generator is None:
            generator = Generator().manual_seed(_seed(None))
        n, left = len(self.data_source), self.num_samples
        if self.replacement:
            while left > 0:
                yield from random.integers(0, n, 32, generator=generator).tolist()[:left]
                left -= 32
            return
        yield from self.draw(generator)


class DistributedSampler(sampler.DistributedSampler):
    """The part of a dataset that one of several processes takes."""

    def _generator(self) -> Generator:
        return Generator().manual_seed(self.seed + self.epoch)


class DataLoader(loader.DataLoader):
    """Batches of a dataset, in PyTorch's order."""

    shuffled = RandomSampler

    def __init__(self, dataset: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(dataset, *args, **kwargs)
        # PyTorch's loader has none unless it was given one, whatever its sampler has
        self.generator = kwargs.get("generator")

    def _draw_seed(self) -> int:
        return _seed(self.generator)

    def _order(self, source: Any, seed: int) -> Iterator[Any]:
        return iter(source)
