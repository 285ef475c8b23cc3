"""DataLoader: batches of a dataset in a known order, prepared by worker threads and copied ahead to the card."""

from __future__ import annotations

import itertools
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from .. import backend
from ..backend import Generator
from . import transforms
from .collate import default_collate, default_convert, each_tensor
from .dataset import IterableDataset
from .sampler import BatchSampler, RandomSampler, SequentialSampler, draw
from .transfer import pinned, to_card

T_co = TypeVar("T_co", covariant=True)
FIXED = ("dataset", "batch_size", "sampler", "batch_sampler", "drop_last", "persistent_workers")  # once it is made


class DataLoader(Generic[T_co]):
    """Iterate over the batches of a dataset; every iteration is an epoch.

    batch_size, shuffle, sampler, batch_sampler, drop_last   which samples, in which order; batch_size None: single ones
    num_workers      threads that prepare batches, each prefetch_factor ahead; 0: the loop's own thread does
    collate_fn       how a list of samples becomes a batch
    pin_memory       put batches into page-locked memory, where there is a card
    device           copy batches there: to a card from page-locked memory, one batch ahead, on a stream of its own
    generator        where each epoch's seed is drawn from: it decides the order and what transforms draw, so both are
                     the same whatever the number of workers, on every device, and after load_state_dict
    timeout          seconds to wait for a worker's batch, 0 for ever; RuntimeError after it
    multiprocessing_context, persistent_workers, pin_memory_device, in_order   accepted: workers are threads, which cost
                     nothing to start, and batches always come in order
    An exception of a worker is raised in the loop as it was raised there. ValueError for options that conflict.
    """

    shuffled: Any = RandomSampler  # what shuffle=True takes

    def __init__(
        self, dataset: Any, batch_size: int | None = 1, shuffle: bool | None = None,
        sampler: Iterable[Any] | None = None, batch_sampler: Iterable[Any] | None = None,
        num_workers: int = 0, collate_fn: Callable[..., Any] | None = None,
        pin_memory: bool = False, drop_last: bool = False, timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None, multiprocessing_context: Any = None,
        generator: Generator | None = None, *, prefetch_factor: int | None = None, persistent_workers: bool = False,
        pin_memory_device: str = "", in_order: bool = True, device: Any = None,
    ) -> None:  # fmt: skip
        if num_workers < 0:
            raise ValueError(f"DataLoader: wanted num_workers >= 0, saw {num_workers}")
        if timeout < 0:
            raise ValueError(f"DataLoader: wanted timeout >= 0, saw {timeout}")
        if prefetch_factor is not None and (num_workers == 0 or prefetch_factor < 0):
            raise ValueError(f"DataLoader: wanted a prefetch_factor and workers, saw {prefetch_factor}, {num_workers}")
        if num_workers == 0 and (persistent_workers or multiprocessing_context is not None):
            raise ValueError("DataLoader: persistent_workers and multiprocessing_context want num_workers > 0, saw 0")
        self.streams = isinstance(dataset, IterableDataset)
        if self.streams:
            if shuffle or sampler is not None or batch_sampler is not None:
                raise ValueError("DataLoader: wanted no shuffle or sampler for an IterableDataset, saw one")
            sampler = ()
        elif not hasattr(dataset, "__getitem__") or (
            sampler is None and batch_sampler is None and not hasattr(dataset, "__len__")
        ):
            raise TypeError(f"DataLoader: wanted a dataset with __getitem__ and __len__, saw {type(dataset).__name__}")
        if sampler is not None and shuffle:
            raise ValueError("DataLoader: wanted a sampler or shuffle, saw both")
        if batch_sampler is not None and (batch_size != 1 or shuffle or sampler is not None or drop_last):
            raise ValueError("DataLoader: wanted batch_sampler or batch_size, shuffle, sampler, drop_last, saw both")
        if batch_size is None and drop_last:
            raise ValueError("DataLoader: wanted a batch_size for drop_last, saw None")
        if sampler is None:
            sampler = self.shuffled(dataset, generator=generator) if shuffle else SequentialSampler(dataset)
        if self.streams:
            batch_sampler = None if batch_size is None else ()
        elif batch_sampler is None and batch_size is not None:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        elif batch_sampler is not None:
            batch_size, sampler = None, getattr(batch_sampler, "sampler", sampler)
        self.dataset, self.batch_size, self.sampler, self.batch_sampler = dataset, batch_size, sampler, batch_sampler
        self.num_workers, self.drop_last, self.timeout = num_workers, drop_last, timeout
        self.worker_init_fn, self.persistent_workers = worker_init_fn, persistent_workers
        self.prefetch_factor = prefetch_factor or (2 if num_workers else None)
        self.generator = generator if generator is not None else getattr(sampler, "generator", None)
        self.collate_fn = collate_fn or (default_convert if batch_sampler is None else default_collate)
        self.device = None if device is None else backend.device(device)
        self.pin_memory, self.pin_memory_device, self.in_order = pin_memory, pin_memory_device, in_order
        self.multiprocessing_context = multiprocessing_context
        self._told: int | None = None  # the length of a stream, once it was asked for
        self._seed: int | None = None  # of the epoch under way
        self._batch = 0  # how many of its batches were handed out
        self._resume = False

    def __setattr__(self, name: str, value: Any) -> None:
        if name in FIXED and name in self.__dict__:
            raise ValueError(f"DataLoader: wanted {name} to stay as it was made, saw it set to {value!r}")
        super().__setattr__(name, value)

    def __len__(self) -> int:
        """How many batches an epoch has. TypeError for a stream of unknown length."""
        if self.streams:
            n = len(self.dataset)
            size = self.batch_size or 1
            self._told = n // size if self.drop_last else -(-n // size)
            return self._told
        return len(self.sampler if self.batch_sampler is None else self.batch_sampler)  # type: ignore[arg-type]

    # --- where it stands -----------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The seed of the epoch under way (None between epochs), how many batches it gave, the generator's state.

        An epoch that a break left unfinished is under way until the next iteration begins.
        """
        state = None if self.generator is None else list(self.generator.get_state())
        return {"seed": self._seed, "batch": self._batch, "generator": state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where state_dict was made: the next iteration gives the rest of that epoch, in the same order."""
        self._seed, self._batch = state_dict["seed"], state_dict["batch"]
        self._resume = self._seed is not None
        if state_dict["generator"] is not None and self.generator is not None:
            self.generator.set_state(tuple(state_dict["generator"]))

    # --- iterating -------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Any]:
        """The batches of a new epoch, or the rest of one that load_state_dict told of."""
        if self._resume:
            self._resume = False
        else:
            self._seed, self._batch = self._draw_seed(), 0
        return self._epoch(self._seed, self._batch)

    def _draw_seed(self) -> int:
        """The seed of a new epoch."""
        return int((self.generator or backend.default_generator).words(1)[0])

    def _order(self, source: Any, seed: int) -> Iterator[Any]:
        """What the sampler or batch sampler yields in an epoch of this seed."""
        return draw(source, Generator(seed))

    def _epoch(self, seed: int | None, first: int) -> Iterator[Any]:
        assert seed is not None
        source: Any = self.sampler if self.batch_sampler is None else self.batch_sampler
        fetch = Fetch(self, seed)
        batches: Any
        if self.streams:
            batches = self._from_streams(fetch, seed, first)
        else:
            jobs = itertools.islice(enumerate(self._order(source, seed)), first, None)
            batches = self._from_workers(fetch, jobs) if self.num_workers else (fetch(job) for job in jobs)
        if self.device is not None and self.device.type == "cuda":
            batches = to_card(batches, self.device)
        with closing(batches):
            for given, batch in enumerate(batches, first + 1):
                if self._seed == seed:  # unless another iteration has begun since
                    self._batch += 1
                if self._told is not None and given > self._told:
                    warnings.warn(
                        f"DataLoader: the stream said {self._told} batches, and gives number {given}", stacklevel=2
                    )
                yield batch
        if self._seed == seed:
            self._seed, self._batch = None, 0

    def _from_streams(self, fetch: Fetch, seed: int, first: int) -> Iterator[Any]:
        """Batches of a stream from number `first` on; of several workers, each with a stream of its own, in turn.

        The workers take turns in the loop's own thread: a stream is drawn in an order that the loop decides.
        """
        workers, wanted, made = max(self.num_workers, 1), self.batch_size or 1, 0
        streams: dict[int, Iterator[Any]] = {}
        infos = [WorkerInfo(i, workers, seed + i, self.dataset) if self.num_workers else None for i in range(workers)]
        for turn in itertools.count():
            i = turn % workers
            with (
                worker(infos[i]),
                fetch.drawing(turn),
            ):
                if turn < workers:
                    if self.num_workers and self.worker_init_fn is not None:
                        self.worker_init_fn(i)
                    streams[i] = iter(self.dataset)
                samples = list(itertools.islice(streams.get(i, ()), wanted))
                if len(samples) < wanted:
                    streams.pop(i, None)
                taken = bool(samples) and (len(samples) == wanted or not self.drop_last)
                batch = self.collate_fn(samples if self.batch_size else samples[0]) if taken else None
            made += taken
            if taken and made > first:
                yield fetch.finish(batch)
            if not streams and turn >= workers - 1:
                return

    def _from_workers(self, fetch: Fetch, jobs: Iterator[tuple[int, Any]]) -> Iterator[Any]:
        """What fetch gives for each job, in order, from threads that work ahead; they end with the iteration."""
        ahead = self.num_workers * (self.prefetch_factor or 2)
        # Each has its batches in turn, so that what it draws at random does not depend on who is quicker.
        pools = [ThreadPoolExecutor(1, thread_name_prefix="gradflow-data") for _ in range(self.num_workers)]
        pending: deque[Future] = deque()
        wait = True
        try:
            pending.extend(pools[job[0] % len(pools)].submit(fetch, job) for job in itertools.islice(jobs, ahead))
            while pending:
                first = pending.popleft()
                try:
                    batch = first.result(self.timeout or None)
                except TimeoutError:
                    if first.done():  # the dataset's own
                        raise
                    wait = False
                    raise RuntimeError(f"DataLoader: wanted a batch within {self.timeout} s, saw none") from None
                pending.extend(pools[job[0] % len(pools)].submit(fetch, job) for job in itertools.islice(jobs, 1))
                yield batch
        finally:
            for pool in pools:
                pool.shutdown(wait, cancel_futures=True)


@dataclass
class WorkerInfo:
    """Which worker this is: its number, how many there are, a seed of its own, its dataset."""

    id: int
    num_workers: int
    seed: int
    dataset: Any


class _Here(threading.local):
    info: WorkerInfo | None = None


_here = _Here()


def get_worker_info() -> WorkerInfo | None:
    """What a dataset's or a collate_fn's own code asks which worker runs it; None in the loop's own thread."""
    return _here.info


@contextmanager
def worker(info: WorkerInfo | None) -> Iterator[None]:
    """A block that runs as this worker."""
    before, _here.info = _here.info, info
    try:
        yield
    finally:
        _here.info = before


class Fetch:
    """Makes batch number b of an epoch: with transforms that draw from a generator of (seed, b), whoever calls it."""

    def __init__(self, loader: DataLoader, seed: int) -> None:
        self.loader, self.seed = loader, seed
        whole = loader.batch_sampler is not None and loader.collate_fn is default_collate
        batch = getattr(loader.dataset, "batch", None) if whole else None
        self.batch = batch if callable(batch) else None
        self.pin = loader.pin_memory or (loader.device is not None and loader.device.type == "cuda")
        self._here = threading.local()

    def __call__(self, job: tuple[int, Any]) -> Any:
        """The batch of a job, (its number, its indices)."""
        number, indices = job
        loader = self.loader
        if loader.num_workers and not hasattr(self._here, "ready"):
            self._here.ready = True
            i = number % loader.num_workers
            _here.info = WorkerInfo(i, loader.num_workers, self.seed + i, loader.dataset)
            if loader.worker_init_fn is not None:
                loader.worker_init_fn(i)
        try:
            with self.drawing(number):
                batch = self.make(indices)
        except Exception as e:
            e.add_note(f"raised while DataLoader made batch {number}, of samples {str(indices)[:200]}")
            raise
        return self.finish(batch)

    def drawing(self, number: int) -> Any:
        """A block in which transforms draw what batch `number` is to draw."""
        # Batch b draws from a stretch of the stream that begins at block 2^62 + b 2^32, far from the sampler's.
        generator = Generator(self.seed)
        generator.set_state((self.seed, (1 << 62) + (number << 32)))
        return transforms.drawing_from(generator)

    def finish(self, batch: Any) -> Any:
        """A batch, put where the loader wants it."""
        return each_tensor(batch, pinned) if self.pin else batch

    def make(self, indices: Any) -> Any:
        """The batch of these samples."""
        loader = self.loader
        if self.batch is not None:
            return self.batch(indices)
        if loader.batch_sampler is None:
            return loader.collate_fn(loader.dataset[indices])
        if hasattr(loader.dataset, "__getitems__"):
            return loader.collate_fn(loader.dataset.__getitems__(indices))
        return loader.collate_fn([loader.dataset[i] for i in indices])
