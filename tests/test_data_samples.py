"""Streams, stacks, the rarer samplers, collating by one's own table, and what DataLoader accepts, beside PyTorch."""

from __future__ import annotations

import itertools
import threading
from collections import Counter, OrderedDict
from typing import NamedTuple

import numpy as np
import pytest

import gradflow as gf
from gradflow import data
from gradflow.backend import Generator
from gradflow.data.collate import collate, default_collate_fn_map
from gradflow.op import wrap


class Count(data.IterableDataset):
    """The numbers from start to stop; of several workers each takes its share."""

    def __init__(self, start, stop, told=None):
        self.start, self.stop, self.told = start, stop, told

    def __iter__(self):
        info = data.get_worker_info()
        return iter(
            range(self.start, self.stop) if info is None else range(self.start + info.id, self.stop, info.num_workers)
        )

    def __len__(self):
        return self.stop - self.start if self.told is None else self.told


class Endless(data.IterableDataset):
    def __iter__(self):
        return itertools.count()


def values(loader):
    return [b.array.tolist() if isinstance(b, gf.Tensor) else b for b in loader]


# --- streams ------------------------------------------------------------------------------------------


def test_streams():
    assert values(data.DataLoader(Count(3, 8), 2)) == [[3, 4], [5, 6], [7]]
    assert values(data.DataLoader(Count(3, 8), 2, drop_last=True)) == [[3, 4], [5, 6]]
    assert values(data.DataLoader(Count(3, 6), None)) == [3, 4, 5]
    assert values(data.DataLoader(Count(0, 2) + Count(5, 7), 3)) == [[0, 1, 5], [6]]
    assert len(data.DataLoader(Count(3, 8), 2)) == 3 and len(data.DataLoader(Count(3, 8), 2, drop_last=True)) == 2
    assert len(data.ChainDataset([Count(0, 2), Count(5, 9)])) == 6
    assert next(iter(data.DataLoader(Endless(), 3))).array.tolist() == [0, 1, 2]
    for wrong, error in [
        (lambda: data.DataLoader(Count(0, 1), shuffle=True), ValueError),
        (lambda: data.DataLoader(Count(0, 1), sampler=[0]), ValueError),
        (lambda: data.DataLoader(Count(0, 1), batch_sampler=[[0]]), ValueError),
        (lambda: len(data.DataLoader(Endless())), TypeError),
        (lambda: list(data.ChainDataset([[1, 2]])), TypeError),
        (lambda: data.ConcatDataset([Count(0, 1)]), ValueError),
        (lambda: iter(data.IterableDataset()), NotImplementedError),
    ]:
        with pytest.raises(error):
            wrong()


def test_a_stream_that_is_longer_than_it_said():
    loader = data.DataLoader(Count(0, 6, told=4), 2)
    assert values(loader) == [[0, 1], [2, 3], [4, 5]]  # no one asked
    assert len(loader) == 2
    with pytest.warns(UserWarning, match="said 2 batches, and gives number 3"):
        values(loader)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_of_a_stream_take_turns(workers):
    seen = []
    loader = data.DataLoader(Count(0, 10), 2, num_workers=workers, worker_init_fn=seen.append)
    shares = [iter([list(range(i, 10, workers))[k : k + 2] for k in range(0, 10, 2)]) for i in range(workers)]
    expected = [b for turn in itertools.zip_longest(*shares) for b in turn if b]
    assert values(loader) == expected and seen == list(range(workers))
    assert data.get_worker_info() is None


def test_the_loop_is_no_worker_while_a_stream_waits():
    for _ in data.DataLoader(Count(0, 4), 1, num_workers=2):
        assert data.get_worker_info() is None
    loader = data.DataLoader(Count(0, 7), 2, num_workers=2)
    it, first = iter(loader), values(loader)
    it = iter(loader)
    next(it)
    again = data.DataLoader(Count(0, 7), 2, num_workers=2)
    again.load_state_dict(loader.state_dict())
    assert values(again) == first[1:]


def test_a_stream_may_draw_random_numbers():
    """Transforms inside a stream draw from the epoch's seed, as those of numbered samples do."""
    flip = data.RandomHorizontalFlip()

    class Flipped(data.IterableDataset):
        def __iter__(self):
            return (flip(np.arange(4.0).reshape(1, 2, 2)) for _ in range(16))

    epochs = [np.stack([b.array for b in data.DataLoader(Flipped(), 4, generator=Generator(s))]) for s in (1, 1, 2)]
    np.testing.assert_array_equal(epochs[0], epochs[1])
    assert not np.array_equal(epochs[0], epochs[2])


@pytest.mark.cuda
@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_on_its_way_to_the_card(workers, card):
    seen = list(data.DataLoader(Count(0, 7), 2, num_workers=workers, device="cuda"))
    assert all(b.is_cuda for b in seen) and sorted(i for b in seen for i in card.asnumpy(b.array)) == list(range(7))
    for _ in data.DataLoader(Endless(), 2, device="cuda"):
        break


def test_a_worker_knows_itself():
    class Asking(data.Dataset):
        def __len__(self):
            return 8

        def __getitem__(self, i):
            info = data.get_worker_info()
            return info.id, info.num_workers, info.dataset is self, threading.current_thread().name

    for ids, counts, same, names in data.DataLoader(Asking(), 2, num_workers=2):
        assert set(ids.array) <= {0, 1} and counts.array.tolist() == [2, 2] and all(same.array)
        assert all(n.startswith("gradflow-data") for n in names)


# --- stacks -------------------------------------------------------------------------------------------


def test_stacks():
    a, b = list(range(5)), [10 * i for i in range(5)]
    d = data.StackDataset(a, b)
    assert d[2] == (2, 20) and len(d) == 5 and d.__getitems__([1, 3]) == [(1, 10), (3, 30)]
    named = data.StackDataset(x=a, y=b)
    assert named[2] == {"x": 2, "y": 20} and named.__getitems__([4]) == [{"x": 4, "y": 40}]
    assert [t.array.tolist() for t in next(iter(data.DataLoader(d, 3)))] == [[0, 1, 2], [0, 10, 20]]
    for wrong in (
        lambda: data.StackDataset(), lambda: data.StackDataset(a, y=b), lambda: data.StackDataset(a, b[:3]),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="StackDataset"):
            wrong()


def test_datasets_that_give_many_samples_at_once_are_asked_once():
    asked = []

    class Many(data.Dataset):
        def __len__(self):
            return 6

        def __getitem__(self, i):
            raise AssertionError("one by one")

        def __getitems__(self, indices):
            asked.append(list(indices))
            return [i * i for i in indices]

    assert values(data.DataLoader(data.Subset(Many(), [5, 3, 1]), 2)) == [[25, 9], [1]]
    assert asked == [[5, 3], [1]]
    assert data.StackDataset(Many(), Many()).__getitems__([2, 3]) == [(4, 4), (9, 9)]


# --- samplers -----------------------------------------------------------------------------------------


def test_the_rarer_samplers():
    part = data.SubsetRandomSampler([3, 5, 9], generator=Generator(1))
    assert sorted(part) == [3, 5, 9] and len(part) == 3
    drawn = Counter(data.WeightedRandomSampler([1.0, 0.0, 3.0], 4000, generator=Generator(2)))
    assert drawn[1] == 0 and 900 < drawn[0] < 1100 and sum(drawn.values()) == 4000
    assert sorted(data.WeightedRandomSampler([1.0, 2.0, 3.0], 3, replacement=False)) == [0, 1, 2]
    for wrong in (
        lambda: data.WeightedRandomSampler([1.0], 0), lambda: data.WeightedRandomSampler([1.0], True),
        lambda: data.WeightedRandomSampler([[1.0]], 1), lambda: data.WeightedRandomSampler([1.0], 1, replacement=2),
        lambda: data.DistributedSampler(range(3), 2, 2), lambda: data.DistributedSampler(range(3), 2, -1),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="Sampler: wanted"):
            wrong()


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("n", [1, 2, 7, 9, 12])
def test_processes_share_a_dataset(n, drop_last):
    for shuffle in (False, True):
        parts = [data.DistributedSampler(range(n), 3, rank, shuffle, drop_last=drop_last) for rank in range(3)]
        shares = [list(p) for p in parts]
        assert len({len(s) for s in shares}) == 1 == len({len(p) for p in parts}) and len(shares[0]) == len(parts[0])
        taken = Counter(i for s in shares for i in s)
        assert len(taken) == (n // 3 * 3 if drop_last else n)
        assert max(taken.values(), default=1) == (1 if drop_last or n % 3 == 0 else 3 if n == 1 else 2)
        if not shuffle:
            order = list(range(n)) * 3
            assert [i for turn in zip(*shares, strict=True) for i in turn] == order[: len(shares[0]) * 3]
    before = list(parts[0])
    assert list(parts[0]) == before
    parts[0].set_epoch(1)
    assert n < 9 or list(parts[0]) != before


# --- collating ----------------------------------------------------------------------------------------


class Pair(NamedTuple):
    """A named pair."""

    a: object
    b: object


class Labels(list):
    """A list with a name."""

    name = None


def test_collating_keeps_the_kind_of_containers():
    row = Labels([1, 2])
    row.name = "n"
    out = data.default_collate([row, Labels([3, 4])])
    assert type(out) is Labels and out.name == "n" and [t.array.tolist() for t in out] == [[1, 3], [2, 4]]
    out = data.default_collate([OrderedDict(b=1.0, a="x"), OrderedDict(b=2.0, a="y")])
    assert (
        type(out) is OrderedDict and list(out) == ["b", "a"] and out["b"].dtype == np.float64 and out["a"] == ["x", "y"]
    )
    out = data.default_collate([Pair(1, (True, b"z")), Pair(2, (False, b"w"))])
    assert type(out) is Pair and out.b[0].array.tolist() == [True, False] and out.b[1] == (b"z", b"w")
    assert data.default_collate([np.float32(1), np.float32(2)]).dtype == np.float32
    assert data.default_collate([np.str_("a"), np.str_("b")]) == ["a", "b"]
    assert [t.array.tolist() for t in data.default_collate([range(2), range(1, 3)])] == [[0, 1], [1, 2]]
    converted = data.default_convert({"a": (np.ones(2), "s"), "b": Pair(np.float64(3), np.array(["t"]))})
    assert isinstance(converted["a"], list) and isinstance(converted["a"][0], gf.Tensor) and converted["a"][1] == "s"
    assert converted["b"].a.item() == 3 and converted["b"].b.tolist() == ["t"]
    with pytest.raises(TypeError, match="numbers"):
        data.default_collate([np.array(["a"]), np.array(["b"])])
    with pytest.raises(TypeError, match="object"):
        data.default_collate([object(), object()])


def test_collating_by_a_table_of_ones_own():
    longest = {list: lambda batch, *, collate_fn_map: max(map(len, batch))}
    assert collate([[1], [1, 2]], collate_fn_map=longest) == 2
    assert collate([([1], 7)], collate_fn_map={**default_collate_fn_map, **longest})[1].array.tolist() == [7]
    with pytest.raises(TypeError, match="int"):
        collate([1, 2])


def test_collated_tensors_keep_their_gradients():
    x, y = (wrap(np.ones(2)).requires_grad_() for _ in range(2))
    (data.default_collate([x * 2, y]) ** 2).sum().backward()
    assert x.grad.array.tolist() == [8, 8] and y.grad.array.tolist() == [2, 2]


# --- the loader ---------------------------------------------------------------------------------------


def test_what_a_loader_accepts():
    loader = data.DataLoader(
        list(range(5)), 2, num_workers=1, persistent_workers=True, multiprocessing_context="fork", prefetch_factor=3,
        pin_memory_device="", in_order=True,
    )  # fmt: skip
    assert values(loader) == [[0, 1], [2, 3], [4]] == values(loader)
    assert values(data.DataLoader({"a": 1, "b": 2}, sampler=["b", "a"])) == [[2], [1]]  # no length is needed here
    assert values(data.DataLoader(range(4), batch_sampler=[[3, 1], [0]])) == [[3, 1], [0]]
    assert values(data.DataLoader(range(3), None)) == [0, 1, 2]
    for name in ("batch_size", "sampler", "batch_sampler", "drop_last", "dataset", "persistent_workers"):
        with pytest.raises(ValueError, match=name):
            setattr(loader, name, None)
    loader.collate_fn = sum
    assert list(loader) == [1, 5, 4]


@pytest.mark.reference
def test_batches_are_pytorchs_for_the_same_indices():
    torch = pytest.importorskip("torch")
    theirs = torch.utils.data

    class Both:
        def __len__(self):
            return 11

        def __getitem__(self, i):
            return {"x": np.full((2, 3), i, np.float32), "y": i, "z": (float(i), f"n{i}", [i, -i])}

    def plain(v):
        if isinstance(v, dict):
            return {k: plain(u) for k, u in v.items()}
        if isinstance(v, (list, tuple)):
            return type(v)(plain(u) for u in v)
        return (str(v.dtype).split(".")[-1], v.tolist()) if hasattr(v, "tolist") else v

    order = [3, 1, 4, 1, 5, 9, 2, 6, 10]
    for options in (
        dict(batch_size=4), dict(batch_size=3, sampler=order), dict(batch_size=4, sampler=order, drop_last=True),
        dict(batch_sampler=[[1, 2], [7]]), dict(batch_size=None, sampler=order),
    ):  # fmt: skip
        mine, other = data.DataLoader(Both(), **options), theirs.DataLoader(Both(), **options)
        assert len(mine) == len(other)
        assert [plain(b) for b in mine] == [plain(b) for b in other]
    for n, replicas, drop_last in itertools.product((5, 8, 1), (1, 3), (False, True)):
        for rank in range(replicas):
            args = dict(num_replicas=replicas, rank=rank, shuffle=False, drop_last=drop_last)
            a = data.DistributedSampler(range(n), **args)
            b = theirs.distributed.DistributedSampler(range(n), **args)
            assert list(a) == list(b) and len(a) == len(b)
