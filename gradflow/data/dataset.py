"""Datasets: things with a length and numbered samples."""

from __future__ import annotations

import bisect
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any, Generic, TypeVar

import numpy as np

from ..backend import Array, Generator, namespace
from ..op import wrap
from ..ops import random
from ..tape import Traced
from ..tensor import Tensor

T_co = TypeVar("T_co", covariant=True)


class Dataset(Generic[T_co]):
    """The base of all datasets: define __getitem__(index) and __len__().

    One that can give many samples at once also defines batch(indices), which returns the collated batch for a list of
    indices: a DataLoader with the default collate_fn then calls it once instead of __getitem__ many times.
    """

    batch: Any = None

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError(f"{type(self).__name__}: the dataset has no __getitem__()")

    def __add__(self, other: Dataset) -> ConcatDataset:
        return ConcatDataset([self, other])


class IterableDataset(Dataset):
    """A dataset that is a stream: define __iter__(). A DataLoader takes its samples as they come."""

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError(f"{type(self).__name__}: the dataset has no __iter__()")

    def __add__(self, other: Any) -> ChainDataset:  # type: ignore[override]
        return ChainDataset([self, other])


class ChainDataset(IterableDataset):
    """The samples of several streams, one after the other."""

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = datasets

    def __iter__(self) -> Iterator[Any]:
        for d in self._streams():
            yield from d

    def __len__(self) -> int:
        return sum(len(d) for d in self._streams())

    def _streams(self) -> Iterator[Any]:
        for d in self.datasets:
            if not isinstance(d, IterableDataset):
                raise TypeError(f"ChainDataset: wanted streams, IterableDatasets, saw {type(d).__name__}")
            yield d


def take(array: Array, indices: Sequence[int]) -> Array:
    """The rows of an array at `indices`, negative ones counted from the end."""
    where, n = np.asarray(indices, np.int64), len(array)
    bad = where[(where < -n) | (where >= n)]
    if bad.size:
        raise IndexError(f"dataset: wanted indices below {n}, saw {bad[0]}")
    xp = namespace(array)
    return array[where if xp is np else xp.asarray(where)]


class TensorDataset(Dataset):
    """Sample i is the tuple of the i-th rows of all the tensors. ValueError if their lengths differ."""

    def __init__(self, *tensors: Tensor) -> None:
        self.tensors = tuple(t if isinstance(t, Traced) else wrap(np.asarray(t)) for t in tensors)
        lengths = [t.array.shape[0] if t.array.ndim else 0 for t in self.tensors]
        if len(set(lengths)) != 1:
            raise ValueError(f"TensorDataset: wanted tensors of one length, saw {lengths}")

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(t[index] for t in self.tensors)

    def batch(self, indices: Sequence[int]) -> list[Tensor]:
        """The rows at `indices`, of each tensor at once."""
        return [wrap(take(t.array, indices)) for t in self.tensors]

    def __len__(self) -> int:
        return self.tensors[0].array.shape[0]


class StackDataset(Dataset):
    """Sample i holds the i-th samples of several datasets: a tuple, or a dict where they are given by name.

    ValueError for none, for both kinds at once, or for lengths that differ.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if bool(args) == bool(kwargs):
            raise ValueError("StackDataset: wanted datasets in order or by name, saw none or both")
        self.datasets: Any = kwargs or args
        lengths = {len(d) for d in (kwargs.values() if kwargs else args)}
        if len(lengths) != 1:
            raise ValueError(f"StackDataset: wanted datasets of one length, saw {sorted(lengths)}")
        self._length = lengths.pop()

    def __getitem__(self, index: Any) -> Any:
        if isinstance(self.datasets, dict):
            return {k: d[index] for k, d in self.datasets.items()}
        return tuple(d[index] for d in self.datasets)

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """The samples at `indices`, each dataset asked once where it can give many. ValueError if it gives fewer."""
        names = list(self.datasets) if isinstance(self.datasets, dict) else range(len(self.datasets))
        columns = [_samples(self.datasets[k], indices) for k in names]
        if isinstance(self.datasets, dict):
            return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
        return list(zip(*columns, strict=True))

    def __len__(self) -> int:
        return self._length


def _samples(dataset: Any, indices: Sequence[int]) -> list[Any]:
    if not callable(getattr(dataset, "__getitems__", None)):
        return [dataset[i] for i in indices]
    samples = dataset.__getitems__(indices)
    if len(samples) != len(indices):
        raise ValueError(f"__getitems__: wanted {len(indices)} samples, saw {len(samples)}")
    return samples


class Subset(Dataset):
    """The samples of a dataset at `indices`, in their order."""

    def __init__(self, dataset: Any, indices: Sequence[int]) -> None:
        self.dataset, self.indices = dataset, indices

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, list):
            return self.dataset[[self.indices[i] for i in index]]
        return self.dataset[self.indices[index]]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """The samples at `indices` of the subset."""
        return _samples(self.dataset, [self.indices[i] for i in indices])

    @property
    def batch(self) -> Any:
        """The batch function of the dataset for these samples; None if it has none."""
        whole = getattr(self.dataset, "batch", None)
        return None if whole is None else lambda indices: whole([self.indices[i] for i in indices])

    def __len__(self) -> int:
        return len(self.indices)


class ConcatDataset(Dataset):
    """The samples of several datasets, one after the other. ValueError for none."""

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise ValueError("ConcatDataset: wanted at least one dataset, saw none")
        if any(isinstance(d, IterableDataset) for d in self.datasets):
            raise ValueError("ConcatDataset: wanted datasets with numbered samples, saw a stream: use ChainDataset")
        self.cumulative_sizes = list(accumulate(len(d) for d in self.datasets))

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]

    def __getitem__(self, index: int) -> Any:
        at = index + len(self) if index < 0 else index
        if not 0 <= at < len(self):
            raise (ValueError if at < 0 else IndexError)(
                f"ConcatDataset: wanted an index below {len(self)}, saw {index}"
            )
        i = bisect.bisect_right(self.cumulative_sizes, at)
        return self.datasets[i][at - (self.cumulative_sizes[i - 1] if i else 0)]


def random_split(dataset: Any, lengths: Sequence[float], generator: Generator | None = None) -> list[Subset]:
    """Subsets of the given lengths, or fractions that sum to 1, without a sample in common, drawn with `generator`.

    What rounding down the fractions leaves over goes one by one to the first subsets. ValueError for other sums.
    """
    n = len(dataset)
    if all(0 <= f <= 1 for f in lengths) and math.isclose(sum(lengths), 1):
        sizes = [math.floor(n * f) for f in lengths]
        for i in range(n - sum(sizes)):
            sizes[i % len(sizes)] += 1
        for i, size in enumerate(sizes):
            if size == 0:
                warnings.warn(f"random_split: the subset at {i} is empty", stacklevel=2)
    else:
        sizes = [int(f) for f in lengths]
    if sum(sizes) != n or any(s < 0 for s in sizes):
        raise ValueError(f"random_split: wanted lengths that sum to {n}, or fractions of 1, saw {list(lengths)}")
    order = random.permutation(n, generator=generator).tolist()
    return [Subset(dataset, order[end - size : end]) for size, end in zip(sizes, accumulate(sizes), strict=True)]
