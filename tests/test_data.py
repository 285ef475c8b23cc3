"""Data: orders that a seed decides, workers that do not change them, readers of image files, copies to the card."""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import tarfile
import threading
import time
import traceback
from collections import namedtuple

import numpy as np
import pytest

import gradflow as gf
from gradflow import backend, data
from gradflow.backend import Generator
from gradflow.op import wrap


def pairs(n=50):
    return data.TensorDataset(wrap(np.arange(2.0 * n, dtype=np.float32).reshape(n, 2)), wrap(np.arange(n)))


def labels(loader):
    return [batch[1].array.tolist() for batch in loader]


class Squares(data.Dataset):
    """A dataset that gives one sample at a time, slowly and unevenly."""

    def __init__(self, n=20, bad=None):
        self.n, self.bad = n, bad

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        time.sleep(0.002 * (i % 3))
        if i == self.bad:
            raise KeyError("no such sample")
        return float(i), i * i


def workers():
    return [t for t in threading.enumerate() if t.name.startswith("gradflow-data")]


# --- datasets -------------------------------------------------------------------------------------------


def test_datasets():
    d = pairs(5)
    x, y = d[3]
    assert len(d) == 5 and x.array.tolist() == [6, 7] and y.item() == 3
    assert [t.array.tolist() for t in d.batch([4, 0, -1])] == [[[8, 9], [0, 1], [8, 9]], [4, 0, 4]]
    both = d + pairs(2)
    assert len(both) == 7 and both[5][1].item() == 0 and both[-1][1].item() == 1
    part = data.Subset(data.Subset(d, [4, 2, 0]), [0, 2])
    assert len(part) == 2 and part[1][1].item() == 0
    assert part.batch([1, 0])[1].array.tolist() == [0, 4]
    assert data.Subset(Squares(), [1]).batch is None
    for wrong, error in [
        (lambda: data.TensorDataset(wrap(np.ones(2)), wrap(np.ones(3))), ValueError),
        (lambda: d.batch([5]), IndexError),
        (lambda: both[7], IndexError),
        (lambda: both[-8], ValueError),
        (lambda: data.ConcatDataset([]), ValueError),
        (lambda: data.Dataset()[0], NotImplementedError),
    ]:
        with pytest.raises(error):
            wrong()


def test_random_split():
    d = pairs(10)
    a, b, c = data.random_split(d, [0.5, 0.25, 0.25], Generator(1))
    assert [len(s) for s in (a, b, c)] == [6, 2, 2]
    assert sorted([*a.indices, *b.indices, *c.indices]) == list(range(10))
    again = data.random_split(d, [6, 4], Generator(1))
    assert again[0].indices == a.indices
    with pytest.raises(ValueError, match="sum to 10"):
        data.random_split(d, [6, 5])
    with pytest.warns(UserWarning, match="empty"):
        data.random_split(pairs(1), [0.5, 0.5])


# --- samplers -------------------------------------------------------------------------------------------


def test_samplers():
    d = pairs(5)
    assert list(data.SequentialSampler(d)) == [0, 1, 2, 3, 4]
    order = list(data.RandomSampler(d, generator=Generator(3)))
    assert sorted(order) == [0, 1, 2, 3, 4] and order == list(data.RandomSampler(d, generator=Generator(3)))
    long = list(data.RandomSampler(d, num_samples=12, generator=Generator(3)))
    assert len(long) == 12 and sorted(long[:5]) == sorted(long[5:10]) == [0, 1, 2, 3, 4]
    drawn = list(data.RandomSampler(d, replacement=True, num_samples=1000, generator=Generator(3)))
    assert set(drawn) == {0, 1, 2, 3, 4} and max(np.bincount(drawn)) < 300
    assert list(data.BatchSampler(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(data.BatchSampler(range(5), 2, drop_last=True)) == [[0, 1], [2, 3]]
    assert [len(data.BatchSampler(range(5), 2, last)) for last in (False, True)] == [3, 2]
    assert list(data.RandomSampler([])) == []
    for wrong in (
        lambda: data.BatchSampler(range(3), 0),
        lambda: data.RandomSampler(d, num_samples=0),
    ):
        with pytest.raises(ValueError, match="> 0"):
            wrong()


def test_the_generator_decides_an_order():
    """The permutation sorts words of NumPy's own Philox stream with the index in their low bits."""
    words = np.random.Philox(key=7, counter=0).random_raw(6)
    expected = np.argsort(words >> 3, kind="stable")
    assert list(data.RandomSampler(range(6), generator=Generator(7))) == expected.tolist()


# --- collating ------------------------------------------------------------------------------------------


def test_collating():
    Point = namedtuple("Point", "x y")  # noqa: PYI024
    batch = data.default_collate([{"a": np.ones(2), "b": [1, "s"], "p": Point(1.5, True)}] * 3)
    assert batch["a"].shape == (3, 2) and batch["a"].dtype == np.float64
    assert batch["b"][0].dtype == np.int64 and batch["b"][1] == ("s",) * 3
    assert isinstance(batch["p"], Point) and batch["p"].x.dtype == np.float64 and batch["p"].y.dtype == np.bool_
    assert data.default_collate([np.float32(1), np.float32(2)]).dtype == np.float32
    assert data.default_convert((np.ones(2), "s", 1))[1:] == ["s", 1]
    for wrong, error, text in [
        (lambda: data.default_collate([np.ones(2), np.ones(3)]), RuntimeError, "one shape"),
        (lambda: data.default_collate([(1, 2), (1,)]), RuntimeError, "one length"),
        (lambda: data.default_collate([None]), TypeError, "NoneType"),
    ]:
        with pytest.raises(error, match=text):
            wrong()


@pytest.mark.reference
def test_batches_as_pytorch():
    torch = pytest.importorskip("torch")
    samples = [(float(i), i, np.full(2, i, np.float32), {"k": (i, "s")}) for i in range(5)]
    for options in (dict(batch_size=2), dict(batch_size=2, drop_last=True), dict(batch_size=None)):
        mine = list(data.DataLoader(samples, **options))
        theirs = list(torch.utils.data.DataLoader(samples, **options))
        assert len(mine) == len(theirs) == len(data.DataLoader(samples, **options))

        def same(a, b):
            if isinstance(b, torch.Tensor):
                assert a.dtype == b.numpy().dtype
                np.testing.assert_array_equal(a.array, b.numpy())
            elif isinstance(b, dict):
                assert a.keys() == b.keys()
                [same(a[k], b[k]) for k in b]
            elif isinstance(b, (list, tuple)):
                assert type(a) is type(b) and len(a) == len(b)
                [same(u, v) for u, v in zip(a, b, strict=True)]
            else:
                assert a == b

        same(mine, theirs)


# --- the loader -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3])
def test_workers_change_nothing(count):
    plain = data.DataLoader(Squares(), 3, shuffle=True, generator=Generator(5))
    threads = data.DataLoader(Squares(), 3, shuffle=True, generator=Generator(5), num_workers=count)
    for _ in range(2):
        a, b = labels(plain), labels(threads)
        assert a == b and sorted(np.concatenate(a)) == [i * i for i in range(20)]
        assert not workers()
    assert labels(plain) != labels(plain)  # epochs differ


def test_a_whole_batch_is_taken_at_once():
    d = pairs()
    d.__class__ = type("Whole", (data.TensorDataset,), {"__getitem__": None})
    a = labels(data.DataLoader(d, 8, shuffle=True, generator=Generator(1)))
    b = labels(data.DataLoader([(x, int(y.item())) for x, y in pairs()], 8, shuffle=True, generator=Generator(1)))
    assert a == b and [len(v) for v in a] == [8] * 6 + [2]


def test_getitems_and_own_collate():
    class Several(data.Dataset):
        def __len__(self):
            return 4

        def __getitems__(self, indices):
            return [10 * i for i in indices]

    assert [b.array.tolist() for b in data.DataLoader(Several(), 2)] == [[0, 10], [20, 30]]
    assert list(data.DataLoader(Several(), 2, collate_fn=tuple)) == [(0, 10), (20, 30)]
    assert list(data.DataLoader(Squares(2), 2, collate_fn=len)) == [2]
    assert [b.array.tolist() for b in data.DataLoader(pairs(3), batch_sampler=[[2, 0], [1]]).__iter__().__next__()] == [
        [[4, 5], [0, 1]], [2, 0],
    ]  # fmt: skip


def test_an_exception_of_a_worker_is_raised_as_it_was():
    loader = data.DataLoader(Squares(bad=11), 4, num_workers=2)
    it = iter(loader)
    assert [next(it)[1].shape for _ in range(2)] == [(4,), (4,)]
    with pytest.raises(KeyError, match="no such sample") as caught:
        next(it)
    text = "".join(traceback.format_exception(caught.value))
    assert 'raise KeyError("no such sample")' in text and "batch 2, of samples [8, 9, 10, 11]" in text
    assert not workers()


def test_leaving_early_leaves_no_thread_behind():
    loader = data.DataLoader(Squares(), 2, num_workers=3, prefetch_factor=4)
    for _ in loader:
        assert workers()
        break
    assert not workers()
    it = iter(loader)
    next(it)
    del it
    assert not workers()


def test_workers_are_initialised_once_and_may_not_dawdle():
    seen = []
    list(data.DataLoader(Squares(), 2, num_workers=2, worker_init_fn=seen.append))
    assert sorted(seen) == list(range(len(seen))) and 1 <= len(seen) <= 2

    class Slow(Squares):
        def __getitem__(self, i):
            time.sleep(0.2)
            return i

    with pytest.raises(RuntimeError, match=r"within 0\.01 s"):
        list(data.DataLoader(Slow(2), 1, num_workers=1, timeout=0.01))


def test_options_that_exclude_each_other():
    d = pairs()
    for options, error, text in [
        (dict(sampler=[1], shuffle=True), ValueError, "sampler or shuffle"),
        (dict(batch_sampler=[[1]], batch_size=2), ValueError, "batch_sampler"),
        (dict(batch_size=None, drop_last=True), ValueError, "drop_last"),
        (dict(batch_size=0), ValueError, "batch_size > 0"),
        (dict(num_workers=-1), ValueError, "num_workers"),
        (dict(timeout=-1), ValueError, "timeout"),
        (dict(prefetch_factor=2), ValueError, "prefetch_factor"),
        (dict(multiprocessing_context="fork"), ValueError, "num_workers > 0"),
        (dict(persistent_workers=True), ValueError, "num_workers > 0"),
    ]:
        with pytest.raises(error, match=text):
            data.DataLoader(d, **options)
    with pytest.raises(TypeError, match="__getitem__"):
        data.DataLoader(iter([1]))


# --- going on -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("count", [0, 2])
def test_a_resumed_loader_goes_on_in_the_same_order(own, count):
    def make(seed):
        gf.manual_seed(seed)
        generator = Generator(seed) if own else None
        return data.DataLoader(Squares(), 3, shuffle=True, generator=generator, num_workers=count)

    first, seen, states = make(3), [], []
    for _ in range(2):
        for batch in first:
            seen.append(batch[1].array.tolist())
            states.append((first.state_dict(), backend.default_generator.get_state()))
        states[-1] = (first.state_dict(), backend.default_generator.get_state())  # of the end of the epoch
    for at in (0, 3, 6, 8, 13):
        again = make(99)
        again.load_state_dict(states[at][0])
        backend.default_generator.set_state(states[at][1])
        rest = []
        while len(rest) < len(seen) - at - 1:
            rest.extend(labels(again))
        assert rest == seen[at + 1 :]


def test_state_of_a_loader():
    loader = data.DataLoader(pairs(6), 2)
    assert loader.state_dict() == {"seed": None, "batch": 0, "generator": None}
    it = iter(loader)
    next(it)
    assert loader.state_dict()["batch"] == 1 and loader.state_dict()["seed"] is not None
    list(it)
    assert loader.state_dict()["seed"] is None


# --- transforms -----------------------------------------------------------------------------------------


def images(n=6, c=2, h=5, w=7):
    return np.arange(n * c * h * w, dtype=np.float32).reshape(n, c, h, w)


def test_normalize():
    x = images()
    y = data.Normalize([1.0, 2.0], [2.0, 4.0])(x)
    np.testing.assert_array_equal(y[:, 0], (x[:, 0] - 1) / 2)
    np.testing.assert_array_equal(y[:, 1], (x[:, 1] - 2) / 4)
    one = data.Normalize([0.5], [0.5])(wrap(x[0]))
    assert isinstance(one, gf.Tensor) and one.shape == (2, 5, 7)
    assert data.Normalize([0.5], [0.5])(x.astype(np.uint8)).dtype == np.float32
    for wrong in (lambda: data.Normalize([0.1] * 3, [1.0] * 3)(x), lambda: data.Normalize([0.0], [0.0])):
        with pytest.raises(ValueError, match="Normalize"):
            wrong()


def test_crops_are_windows_of_the_padded_images():
    x = images()
    crops = data.RandomCrop((4, 5), padding=2, fill=-1, generator=Generator(1))(x)
    padded = np.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2)), constant_values=-1)
    places = set()
    for crop, image in zip(crops, padded, strict=True):
        found = [(i, j) for i in range(6) for j in range(7) if (image[:, i : i + 4, j : j + 5] == crop).all()]
        assert found
        places.update(found)
    assert len(places) > 3
    assert data.RandomCrop(5)(x[0, :, :, :5]).shape == (2, 5, 5)
    with pytest.raises(ValueError, match="at least"):
        data.RandomCrop(8)(x)


def test_flips():
    x = images(400, 1, 2, 3)
    y = data.RandomHorizontalFlip(0.25, generator=Generator(2))(x)
    flipped = np.array([(b == a[..., ::-1]).all() for a, b in zip(x, y, strict=True)])
    assert all((b == (a[..., ::-1] if f else a)).all() for a, b, f in zip(x, y, flipped, strict=True))
    assert 60 < flipped.sum() < 140
    with pytest.raises(ValueError, match="probability"):
        data.RandomHorizontalFlip(2.0)
    with pytest.raises(ValueError, match="wanted images"):
        data.RandomHorizontalFlip()(x[0, 0])


class Pictures(data.Dataset):
    def __init__(self, transform):
        self.x, self.transform = images(24, 1, 6, 6), transform

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.transform(self.x[i])


def test_chance_in_transforms_does_not_depend_on_workers():
    change = data.Compose([data.RandomCrop(4), data.RandomHorizontalFlip(), data.Normalize([1.0], [2.0])])

    def epoch(count):
        loader = data.DataLoader(Pictures(change), 4, shuffle=True, generator=Generator(1), num_workers=count)
        return np.concatenate([b.array for _ in range(2) for b in loader])

    a = epoch(0)
    np.testing.assert_array_equal(a, epoch(3))
    assert not np.array_equal(a[:24], a[24:])


@pytest.mark.cuda
def test_transforms_on_the_card(card):
    x = images()
    for make in (
        lambda: data.RandomCrop(4, 1, generator=Generator(1)),
        lambda: data.RandomHorizontalFlip(0.5, Generator(1)),
        lambda: data.Normalize([0.5], [2.0]),
    ):
        there = make()(card.asarray(x))
        assert isinstance(there, card.ndarray)
        np.testing.assert_array_equal(card.asnumpy(there), make()(x))


# --- the card -------------------------------------------------------------------------------------------


@pytest.mark.cuda
@pytest.mark.parametrize("count", [0, 2])
def test_batches_arrive_on_the_card(count, card):
    def make(**options):
        return data.DataLoader(pairs(), 8, shuffle=True, generator=Generator(3), **options)

    there, here = make(device="cuda", num_workers=count), make()
    for _ in range(2):
        seen = list(there)
        assert all(isinstance(t.array, card.ndarray) for batch in seen for t in batch)
        for a, b in zip(seen, here, strict=True):
            for t, u in zip(a, b, strict=True):
                np.testing.assert_array_equal(card.asnumpy(t.array), u.array)
    for _ in there:
        break
    assert not workers()
    assert there.state_dict()["batch"] == 1


@pytest.mark.cuda
def test_page_locked_batches_and_batches_that_are_there_already(card):
    (x, y), *_ = data.DataLoader(pairs(4), 4, pin_memory=True)
    assert isinstance(x.array, np.ndarray) and y.array.tolist() == [0, 1, 2, 3]
    d = data.TensorDataset(wrap(card.asarray(np.arange(5))))
    (first,), *_ = data.DataLoader(d, 2, shuffle=True, generator=Generator(1), device="cuda")
    assert first.is_cuda
    sample = data.DataLoader([np.zeros((0, 2)), np.zeros((0, 2))], 2, device="cuda")
    assert next(iter(sample)).shape == (2, 0, 2)


# --- image files ----------------------------------------------------------------------------------------


def idx(array):
    return struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_mnist(folder, x, y, part="train", packed=True):
    folder.mkdir(parents=True, exist_ok=True)
    for name, a in ((f"{part}-images-idx3-ubyte", x), (f"{part}-labels-idx1-ubyte", y)):
        content = idx(a)
        (folder / (name + ".gz" if packed else name)).write_bytes(gzip.compress(content) if packed else content)


def mnist_arrays(n=6):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (n, 28, 28)).astype(np.uint8), rng.integers(0, 10, n).astype(np.uint8)


@pytest.mark.parametrize(("kind", "place"), [(data.MNIST, ""), (data.FashionMNIST, "FashionMNIST/raw")])
def test_idx_files(kind, place, tmp_path):
    x, y = mnist_arrays()
    write_mnist(tmp_path / place, x, y)
    write_mnist(tmp_path / place, x[:2], y[:2], part="t10k", packed=False)
    d = kind(tmp_path, verify=False)
    image, label = d[4]
    assert len(d) == 6 and image.shape == (1, 28, 28) and image.dtype == np.float32 and label == y[4]
    np.testing.assert_array_equal(image.array[0], x[4].astype(np.float32) / 255)
    assert len(kind(tmp_path, train=False)) == 2
    assert len(kind.classes) == 10
    xs, ys = next(iter(data.DataLoader(kind(tmp_path, verify=False, transform=data.Normalize([0.5], [0.5])), 3)))
    np.testing.assert_allclose(xs.array[:, 0], (x[:3] / 255 - 0.5) / 0.5, rtol=1e-5, atol=1e-6)
    assert ys.array.tolist() == y[:3].tolist() and ys.dtype == np.int64
    own = kind(tmp_path, verify=False, transform=lambda a: a[:, ::2], target_transform=lambda v: -v)
    assert own.batch is None and own[0][0].shape == (1, 14, 28) and own[0][1] == -int(y[0])


def test_the_sum_of_an_original_file_is_checked(tmp_path, monkeypatch):
    x, y = mnist_arrays()
    write_mnist(tmp_path, x, y)
    with pytest.raises(ValueError, match="MD5"):
        data.MNIST(tmp_path)
    sums = {f.name.removesuffix(".gz"): hashlib.md5(f.read_bytes()).hexdigest() for f in tmp_path.iterdir()}
    monkeypatch.setattr(data.MNIST, "sums", sums)
    assert len(data.MNIST(tmp_path)) == 6


def test_idx_files_that_are_damaged(tmp_path):
    x, y = mnist_arrays()
    with pytest.raises(FileNotFoundError, match=r"train-images-idx3-ubyte\.gz.*https"):
        data.MNIST(tmp_path)
    write_mnist(tmp_path, x, y, packed=False)
    images_, labels_ = tmp_path / "train-images-idx3-ubyte", tmp_path / "train-labels-idx1-ubyte"
    whole = images_.read_bytes()
    for content in (whole[:-1], whole + b"x", b"PK" + whole[2:], whole[:3], b"\0\0\x08\x03\0"):
        images_.write_bytes(content)
        with pytest.raises(ValueError, match="read_idx"):
            data.MNIST(tmp_path)
    images_.write_bytes(whole)
    labels_.write_bytes(idx(np.full(6, 10, np.uint8)))
    with pytest.raises(ValueError, match="0 to 9"):
        data.MNIST(tmp_path)
    packed = tmp_path / "x.gz"
    for content in (gzip.compress(whole)[:-20], b"no gzip at all"):
        packed.write_bytes(content)
        with pytest.raises(ValueError, match="damaged"):
            data.images.read_idx(packed)
    packed.write_bytes(gzip.compress(struct.pack(">HBBI", 0, 13, 1, 2) + np.array([1.5, -2], ">f4").tobytes()))
    assert data.images.read_idx(packed).tolist() == [1.5, -2.0]


@pytest.fixture
def small_cifar(monkeypatch):
    """CIFAR with 4 and 20 records in the place of 10000 and 50000."""
    monkeypatch.setattr(data.CIFAR10, "_records", lambda self, train: 4)
    monkeypatch.setattr(data.CIFAR100, "_records", lambda self, train: 20 if train else 4)


def cifar_records(n, kinds, marks, seed=0):
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, kinds, n).astype(np.uint8)
    pixels = rng.integers(0, 256, (n, 3072)).astype(np.uint8)
    coarse = np.zeros((n, marks - 1), np.uint8)
    return targets, pixels, np.concatenate([coarse, targets[:, None], pixels], 1).tobytes()


def test_cifar_from_its_folder_and_its_archive(tmp_path, small_cifar, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"cifar-10-binary\.tar\.gz"):
        data.CIFAR10(tmp_path)
    files = {f"data_batch_{i}.bin": cifar_records(4, 10, 1, i) for i in range(1, 6)}
    files["test_batch.bin"] = cifar_records(4, 10, 1, 9)
    archive = tmp_path / "cifar-10-binary.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, (_, _, content) in files.items():
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    with pytest.raises(ValueError, match="MD5"):
        data.CIFAR10(tmp_path)
    monkeypatch.setattr(data.CIFAR10, "md5", hashlib.md5(archive.read_bytes()).hexdigest())
    packed = data.CIFAR10(tmp_path)
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for name, (_, _, content) in files.items():
        (folder / name).write_bytes(content)
    for d in (packed, data.CIFAR10(tmp_path), data.CIFAR10(folder)):
        assert len(d) == 20 and len(d.classes) == 10
        image, label = d[5]
        targets, pixels, _ = files["data_batch_2.bin"]
        assert label == targets[1]
        np.testing.assert_array_equal(image.array, pixels[1].reshape(3, 32, 32).astype(np.float32) / 255)
    assert data.CIFAR10(tmp_path, train=False).targets.tolist() == files["test_batch.bin"][0].tolist()
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(FileNotFoundError, match="data_batch_3"):
        data.CIFAR10(tmp_path)
    (folder / "data_batch_3.bin").write_bytes(b"short")
    with pytest.raises(ValueError, match="data_batch_3"):
        data.CIFAR10(tmp_path)
    (folder / "test_batch.bin").write_bytes(b"\xff" * 4 * 3073)
    with pytest.raises(ValueError, match="labels below 10"):
        data.CIFAR10(tmp_path, train=False)


def test_cifar100_has_a_coarse_label_before_the_fine_one(tmp_path, small_cifar):
    targets, pixels, content = cifar_records(20, 100, 2)
    (tmp_path / "cifar-100-binary").mkdir()
    (tmp_path / "cifar-100-binary" / "train.bin").write_bytes(content)
    d = data.CIFAR100(tmp_path)
    assert d.targets.tolist() == targets.tolist()
    np.testing.assert_array_equal(d.data.reshape(20, -1), pixels)


def test_the_images_of_a_folder(tmp_path, small_cifar, monkeypatch):
    x, y = mnist_arrays()
    for place in ("one", "two/MNIST/raw", "three/raw"):
        write_mnist(tmp_path / place, x, y, packed=False)
        write_mnist(tmp_path / place, x[:2], y[:2], part="t10k", packed=False)
        training, held_out = data.images_in(tmp_path / place.split("/")[0])
        assert type(training) is data.MNIST
        assert (training.targets.tolist(), len(held_out)) == (y.tolist(), 2)
    write_mnist(tmp_path / "four", x, y)
    write_mnist(tmp_path / "four", x, y, part="t10k")
    with pytest.raises(ValueError, match="MD5"):
        data.images_in(tmp_path / "four")
    sums = {p.stem: hashlib.md5(p.read_bytes()).hexdigest() for p in (tmp_path / "four").iterdir()}
    monkeypatch.setattr(data.FashionMNIST, "sums", sums)
    assert type(data.images_in(tmp_path / "four")[0]) is data.FashionMNIST
    (tmp_path / "five" / "cifar-100-binary").mkdir(parents=True)
    for name, n in (("train.bin", 20), ("test.bin", 4)):
        (tmp_path / "five" / "cifar-100-binary" / name).write_bytes(cifar_records(n, 20, 2)[2])
    assert [len(part) for part in data.images_in(tmp_path / "five")] == [20, 4]
    with pytest.raises(FileNotFoundError, match="wanted the files of one of MNIST, FashionMNIST, CIFAR10, CIFAR100 "):
        data.images_in(tmp_path)


def test_an_archive_that_is_damaged(tmp_path):
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="data_batch_1"):
        data.CIFAR10(tmp_path, verify=False)


def test_pickles_are_never_loaded(tmp_path):
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"\x80\x04.")
    with pytest.raises(FileNotFoundError, match="binary"):
        data.CIFAR10(tmp_path)


def test_digits():
    pytest.importorskip("sklearn")
    train, test = data.digits()
    assert (len(train), len(test)) == (1438, 359)
    x, y = train.tensors
    assert x.shape == (1438, 1, 8, 8) and x.dtype == np.float32 and y.dtype == np.int64
    assert x.array.min() == 0 and x.array.max() == 1 and set(y.array.tolist()) == set(range(10))
    from sklearn.datasets import load_digits

    assert test.tensors[1].array.tolist() == load_digits().target[4::5].tolist()


def test_digits_on_the_card(card):
    pytest.importorskip("sklearn")
    assert all(t.is_cuda for part in data.digits("cuda") for t in part.tensors)


def test_a_wall_of_images_by_plain_loops():
    x = np.arange(5 * 2 * 3 * 4, dtype=np.float32).reshape(5, 2, 3, 4)
    for n, across, padding, value in ((5, 2, 1, -1.0), (5, 8, 0, 0.0), (1, 3, 2, 7.0)):
        rows, columns = -(-n // min(across, n)), min(across, n)
        wanted = np.full((2, rows * (3 + padding) + padding, columns * (4 + padding) + padding), value, np.float32)
        for i, c, h, w in np.ndindex(n, 2, 3, 4):
            down, right = divmod(i, columns)
            wanted[c, down * (3 + padding) + padding + h, right * (4 + padding) + padding + w] = x[i, c, h, w]
        for images in (gf.tensor(x[:n]).requires_grad_(), [gf.tensor(a) for a in x[:n]]):
            y = data.make_grid(images, nrow=across, padding=padding, pad_value=value)
            assert not y.requires_grad
            np.testing.assert_array_equal(y.numpy(), wanted)
    grey = data.make_grid(gf.tensor(x[:, :1]), nrow=2)
    assert grey.shape == (3, 17, 14)
    np.testing.assert_array_equal(grey[0].numpy(), grey[2].numpy())
    for wrong, kind, match in (
        ([], ValueError, "at least one"), (x, TypeError, "saw ndarray"),
        ([gf.zeros(1, 2, 2), gf.zeros(1, 2, 3)], ValueError, "one shape"),
    ):  # fmt: skip
        with pytest.raises(kind, match=match):
            data.make_grid(wrong)
