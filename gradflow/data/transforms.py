"""Transforms of images: functions of arrays (c, h, w) or whole batches (n, c, h, w), some with chance."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..backend import Array, Generator, float32, namespace
from ..op import wrap
from ..ops import random
from ..tape import Traced

_here = threading.local()


@contextmanager
def drawing_from(generator: Generator) -> Iterator[None]:
    """Let the transforms of this thread draw from `generator` unless they have one of their own."""
    before = getattr(_here, "generator", None)
    _here.generator = generator
    try:
        yield
    finally:
        _here.generator = before


class Transform:
    """The base of these transforms: define batch(x, generator) for arrays (n, c, h, w).

    Called with a tensor it gives a tensor, with an array an array; a single image (c, h, w) is a batch of one. Chance
    comes from `generator`, else from the DataLoader that calls, else from the default generator.
    """

    generator: Generator | None = None

    def batch(self, x: Array, generator: Generator | None) -> Array:
        """The transformed batch (n, c, h, w)."""
        raise NotImplementedError(f"{type(self).__name__}: the transform has no batch()")

    def __call__(self, x: Any) -> Any:
        """The transformed image or batch."""
        if isinstance(x, Traced):
            return wrap(self(x.array))
        if x.ndim not in (3, 4):
            raise ValueError(f"{type(self).__name__}: wanted images (c, h, w) or (n, c, h, w), saw shape {x.shape}")
        generator = self.generator if self.generator is not None else getattr(_here, "generator", None)
        return self.batch(x[None], generator)[0] if x.ndim == 3 else self.batch(x, generator)


class Compose(Transform):
    """One transform after the other."""

    def __init__(self, transforms: Sequence[Any]) -> None:
        self.transforms = list(transforms)

    def __call__(self, x: Any) -> Any:
        """The image or batch after all of them."""
        for t in self.transforms:
            x = t(x)
        return x


class Normalize(Transform):
    """(x - mean) / std for each channel."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.mean, self.std = list(mean), list(std)
        if any(s == 0 for s in self.std):
            raise ValueError(f"Normalize: wanted std other than 0, saw {self.std}")

    def batch(self, x: Array, generator: Generator | None) -> Array:
        """(x - mean) / std."""
        xp = namespace(x)
        c = x.shape[1]
        if len(self.mean) not in (1, c) or len(self.std) not in (1, c):
            raise ValueError(f"Normalize: wanted mean and std of {c} channels, saw {self.mean}, {self.std}")
        dtype = x.dtype if x.dtype.kind == "f" else float32
        mean, std = (xp.asarray(v, dtype)[:, None, None] for v in (self.mean, self.std))
        return (x - mean) / std


class RandomCrop(Transform):
    """A window of the given size (h, w), or h for both, at a random place of each image, padded first with `fill`."""

    def __init__(
        self, size: int | Sequence[int], padding: int = 0, fill: float = 0, generator: Generator | None = None
    ) -> None:
        self.h, self.w = (size, size) if isinstance(size, int) else size
        self.padding, self.fill, self.generator = padding, fill, generator

    def batch(self, x: Array, generator: Generator | None) -> Array:
        """The windows; their corners are independent for each image."""
        xp, pad = namespace(x), self.padding
        if pad:
            x = xp.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), constant_values=self.fill)
        n, c, height, width = x.shape
        if height < self.h or width < self.w:
            raise ValueError(f"RandomCrop: wanted images of at least {(self.h, self.w)}, saw {(height, width)}")
        top = random.integers(0, height - self.h + 1, n, xp=xp, generator=generator)
        left = random.integers(0, width - self.w + 1, n, xp=xp, generator=generator)
        rows, columns = top[:, None] + xp.arange(self.h), left[:, None] + xp.arange(self.w)
        image, channel = xp.arange(n)[:, None, None, None], xp.arange(c)[None, :, None, None]
        return x[image, channel, rows[:, None, :, None], columns[:, None, None, :]]


class RandomHorizontalFlip(Transform):
    """Each image mirrored left to right with probability p."""

    def __init__(self, p: float = 0.5, generator: Generator | None = None) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"RandomHorizontalFlip: wanted a probability p in [0, 1], saw {p}")
        self.p, self.generator = p, generator

    def batch(self, x: Array, generator: Generator | None) -> Array:
        """The batch, some of it mirrored."""
        xp = namespace(x)
        flip = random.uniform(len(x), xp=xp, generator=generator) < self.p
        return xp.where(flip[:, None, None, None], x[..., ::-1], x)
