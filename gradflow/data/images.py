"""The usual image datasets, read from their original files; nothing is downloaded and nothing is unpickled."""

from __future__ import annotations

import gzip
import hashlib
import struct
import tarfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import backend
from ..op import wrap
from .dataset import Dataset, TensorDataset, take
from .transforms import Transform


class Images(Dataset):
    """Images and their labels: sample i is (float32 tensor (c, h, w) in [0, 1], int label).

    data      uint8 (n, c, h, w);  targets   int64 (n,);  classes   the names of the labels
    transform, target_transform   functions of the image's array and of the label
    """

    classes: Sequence[str] = ()

    def __init__(
        self, data: np.ndarray, targets: np.ndarray, transform: Callable[..., Any] | None,
        target_transform: Callable[..., Any] | None,
    ) -> None:  # fmt: skip
        self.data, self.targets = data, targets
        self.transform, self.target_transform = transform, target_transform

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        x = self.data[index].astype(np.float32) / np.float32(255)
        y = int(self.targets[index])
        if self.transform is not None:
            x = self.transform(x)
        if self.target_transform is not None:
            y = self.target_transform(y)
        return wrap(x) if isinstance(x, np.ndarray) else x, y

    @property
    def batch(self) -> Any:
        """Many images at once, if the transform is one of ours, which take a whole batch; else None."""
        simple = self.transform is None or isinstance(self.transform, Transform)
        return self._batch if simple and self.target_transform is None else None

    def _batch(self, indices: Sequence[int]) -> list[Any]:
        x = take(self.data, indices).astype(np.float32)
        x /= np.float32(255)
        if self.transform is not None:
            x = self.transform(x)
        return [wrap(x), wrap(take(self.targets, indices))]


def _find(name: str, root: Path, places: Sequence[str], files: Sequence[str], what: str) -> Path:
    """The first of the files that is in one of the places under root; FileNotFoundError that says what is missing."""
    for place in places:
        for file in files:
            path = root / place / file
            if path.is_file():
                return path
    raise FileNotFoundError(f"{name}: wanted {what} in {root}, saw none")


def _check(name: str, path: Path, md5: str) -> None:
    """ValueError if a file is not the one that its authors publish."""
    with path.open("rb") as f:
        seen = hashlib.file_digest(f, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if seen != md5:
        raise ValueError(
            f"{name}: wanted {path} with the MD5 sum {md5}, saw {seen}: the file is damaged or another one "
            "(verify=False reads it anyway)"
        )


# --- MNIST and FashionMNIST: idx files ---------------------------------------------------------------


def read_idx(path: str | Path) -> np.ndarray:
    """The array of an idx file, packed with gzip or not. ValueError for a file that is truncated or not one.

    Bytes 0 0 t d, then d sizes of four bytes, then the elements, all big-endian; t is the dtype.
    """
    path = Path(path)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as f:
            data = f.read()
    except (EOFError, gzip.BadGzipFile, zlib.error) as e:
        raise ValueError(f"read_idx: wanted a gzip file, saw {path} damaged: {e}") from e
    dtypes = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in dtypes or len(data) < 4 + 4 * data[3]:
        raise ValueError(f"read_idx: wanted an idx file, saw {path} beginning with {data[:4]!r}")
    shape = struct.unpack(f">{data[3]}I", data[4 : 4 + 4 * data[3]])
    dtype = np.dtype(dtypes[data[2]])
    wanted, body = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize, len(data) - 4 - 4 * data[3]
    if body != wanted:
        raise ValueError(f"read_idx: wanted {wanted} bytes of data for shape {shape}, saw {body} in {path}")
    return np.frombuffer(data, dtype, offset=4 + 4 * data[3]).reshape(shape).astype(dtype.newbyteorder("="))


class MNIST(Images):
    """70000 handwritten digits, 28 by 28, of which 60000 are for training.

    From the four idx files in `root`, .gz or not; they may also lie in root/MNIST/raw, root/MNIST or root/raw.
    verify: compare the .gz files with their known MD5 sums.
    FileNotFoundError for a file that is not there, ValueError for one that is another.
    LeCun, Cortes and Burges, The MNIST Database of Handwritten Digits, 1998.
    """

    source = "https://ossci-datasets.s3.amazonaws.com/mnist/"
    classes = tuple("0123456789")
    sums = {
        "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
    }

    def __init__(
        self, root: str | Path, train: bool = True, transform: Callable[..., Any] | None = None,
        target_transform: Callable[..., Any] | None = None, verify: bool = True,
    ) -> None:  # fmt: skip
        name, part = type(self).__name__, "train" if train else "t10k"
        arrays = []
        for file in (f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"):
            names = [f"{file}.gz", file, file.replace("-idx", ".idx")]
            what = f"the file {file}.gz (from {self.source}{file}.gz)"
            path = _find(name, Path(root), ("", f"{name}/raw", name, "raw"), names, what)
            if verify and path.suffix == ".gz":
                _check(name, path, self.sums[file])
            arrays.append(read_idx(path))
        images, labels = arrays
        if images.ndim != 3 or labels.shape != images.shape[:1] or labels.max(initial=0) > 9:
            raise ValueError(f"{name}: wanted a label from 0 to 9 per image, saw {images.shape} and {labels.shape}")
        super().__init__(images[:, None], labels.astype(np.int64), transform, target_transform)


class FashionMNIST(MNIST):
    """70000 pictures of clothes, 28 by 28, of which 60000 are for training.

    Files as MNIST's, also in root/FashionMNIST/raw or root/FashionMNIST.
    Xiao, Rasul and Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms", 2017.
    """

    source = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
    classes = (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    )  # fmt: skip
    sums = {
        "train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310",
    }


# --- CIFAR: records of label bytes and 3072 pixels ---------------------------------------------------


class CIFAR10(Images):
    """60000 colour photographs, 32 by 32, of 10 kinds, 50000 of them for training.

    From the binary version in `root`: cifar-10-binary.tar.gz, whose known MD5 sum is compared (verify), or its
    unpacked folder cifar-10-batches-bin.
    The Python version holds pickles, which are never loaded. FileNotFoundError, ValueError as MNIST.
    Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
    """

    source = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
    md5 = "c32a1d4ab5d03f1284b67883e8d87530"
    folder = "cifar-10-batches-bin"
    parts = {True: tuple(f"data_batch_{i}.bin" for i in range(1, 6)), False: ("test_batch.bin",)}
    records = 10000  # in each file of the training part; the test part has as many
    labels = 1  # bytes before the pixels; the last of them is the label
    classes: Sequence[str] = (
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
    )  # fmt: skip
    count = 10

    def __init__(
        self, root: str | Path, train: bool = True, transform: Callable[..., Any] | None = None,
        target_transform: Callable[..., Any] | None = None, verify: bool = True,
    ) -> None:  # fmt: skip
        name, root, files = type(self).__name__, Path(root), self.parts[train]
        archive = self.source.rpartition("/")[2]
        what = f"{archive} (from {self.source}) or its folder {self.folder}"
        path = _find(name, root, (self.folder, ""), (files[0], archive), what)
        if path.name == archive:
            if verify:
                _check(name, path, self.md5)
            raw = [_member(name, path, f"{self.folder}/{file}") for file in files]
        else:
            for file in files:
                _find(name, path.parent, ("",), (file,), f"the file {file} (of {self.source})")
            raw = [(path.parent / file).read_bytes() for file in files]
        size, n = self.labels + 3072, self._records(train)
        for file, data in zip(files, raw, strict=True):
            if len(data) != n * size:
                raise ValueError(f"{name}: wanted {n * size} bytes in {file}, saw {len(data)}")
        rows = np.frombuffer(b"".join(raw), np.uint8).reshape(-1, size)
        targets = rows[:, self.labels - 1].astype(np.int64)
        if targets.max(initial=0) >= self.count:
            raise ValueError(f"{name}: wanted labels below {self.count}, saw {targets.max()}: not the files of {name}")
        images = np.ascontiguousarray(rows[:, self.labels :]).reshape(-1, 3, 32, 32)
        super().__init__(images, targets, transform, target_transform)

    def _records(self, train: bool) -> int:
        return self.records


class CIFAR100(CIFAR10):
    """60000 colour photographs, 32 by 32, of 100 kinds, 50000 of them for training; the fine label is the target.

    From cifar-100-binary.tar.gz, or its unpacked folder cifar-100-binary, in `root`; as CIFAR10.
    """

    source = "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz"
    md5 = "03b5dce01913d631647c71ecec9e9cb8"
    folder = "cifar-100-binary"
    parts = {True: ("train.bin",), False: ("test.bin",)}
    labels = 2  # the coarse label and the fine one
    classes = ()
    count = 100

    def _records(self, train: bool) -> int:
        return 50000 if train else 10000


def _member(name: str, archive: Path, member: str) -> bytes:
    """One file of a tar archive, read without unpacking anything."""
    try:
        with tarfile.open(archive) as tar:
            f = tar.extractfile(member)
            if f is not None:
                return f.read()
    except (tarfile.TarError, KeyError, EOFError, OSError, zlib.error) as e:
        raise ValueError(f"{name}: wanted {member} in {archive}, saw {e}") from e
    raise ValueError(f"{name}: wanted {member} in {archive} as a file, saw something else")


def images_in(root: str | Path) -> tuple[Images, Images]:
    """The images of a folder for training and for testing: of the first of MNIST, FashionMNIST, CIFAR10 and CIFAR100 that
    has its files there, whose constructors say where they look. FileNotFoundError for a folder of none, ValueError as they.
    """
    damaged, kinds = None, (MNIST, FashionMNIST, CIFAR10, CIFAR100)
    for kind in kinds:
        try:
            return kind(root, train=True), kind(root, train=False)
        except FileNotFoundError:
            continue
        except ValueError as e:  # MNIST and FashionMNIST have files of the same names: their sums tell them apart
            damaged = damaged or e
    if damaged is not None:
        raise damaged
    names = ", ".join(k.__name__ for k in kinds)
    raise FileNotFoundError(f"images_in: wanted the files of one of {names} (binary version) in {root}, saw those of none")


# --- digits of scikit-learn --------------------------------------------------------------------------


def digits(device: Any = "cpu") -> tuple[TensorDataset, TensorDataset]:
    """scikit-learn's 1797 handwritten digits, 8 by 8, for training and, every fifth, for testing.

    Samples are (float32 (1, 8, 8) in [0, 1], int64 label), all on the device. ImportError without scikit-learn.
    Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, 1998.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as e:
        raise ImportError("digits: wanted scikit-learn, saw none: pip install 'gradflow[examples]'") from e
    x, y = load_digits(return_X_y=True)
    x = (x.reshape(-1, 1, 8, 8) / 16).astype(np.float32)
    held = np.arange(len(x)) % 5 == 4
    parts = ((x[part], y[part].astype(np.int64)) for part in (~held, held))
    train, test = (TensorDataset(*(wrap(backend.to_device(a, backend.device(device))) for a in part)) for part in parts)
    return train, test
