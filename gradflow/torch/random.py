"""torch.random, and Generator: PyTorch's own numbers on the CPU, counted ones on the card."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import backend
from ..data import get_worker_info
from ..op import wrap
from .twister import Twister


def state_of(generator: backend.Generator) -> np.ndarray:
    """All there is to know about a generator, as bytes."""
    words, place, left = generator.sequence.get_state()
    head = np.array([generator.key, generator.counter, place, left is not None], np.uint64)
    parts = head, np.array([left or 0.0]), words.astype(np.uint32)
    return np.concatenate([part.view(np.uint8) for part in parts])


def set_state_of(generator: backend.Generator, state: Any) -> None:
    """Go on from the bytes of state_of. RuntimeError for others."""
    data = np.ascontiguousarray(getattr(state, "array", state))
    if data.dtype != np.uint8 or data.shape != (40 + 4 * 624,):
        raise RuntimeError(f"set_rng_state: wanted {40 + 4 * 624} bytes, saw {data.dtype} {tuple(data.shape)}")
    key, counter, place, some = data[:32].view(np.uint64).tolist()
    generator.key, generator.counter = key, counter
    left = float(data[32:40].view(np.float64)[0]) if some else None
    generator.sequence.set_state((data[40:].view(np.uint32).copy(), place, left))


DEFAULT_SEED = 67280421310721  # what PyTorch's generators begin with


class Generator(backend.Generator):
    """A source of random numbers of its own: Generator(device="cpu").manual_seed(0)."""

    def __init__(self, device: Any = "cpu") -> None:
        self.device = backend.device(device)
        self.sequence = Twister(DEFAULT_SEED)
        super().__init__(DEFAULT_SEED)

    def manual_seed(self, seed: int) -> Generator:
        """Begin anew from a seed, -2^63 to 2^64 - 1. RuntimeError for others."""
        if not -(2**63) <= int(seed) < 2**64:
            raise RuntimeError(f"manual_seed: wanted a seed from -2^63 to 2^64 - 1, saw {seed}")
        super().manual_seed(seed)
        return self

    def get_state(self) -> Any:
        """Its state, a tensor of bytes."""
        return wrap(state_of(self))

    def set_state(self, state: Any) -> Generator:  # type: ignore[override]
        """Go on from a state that get_state gave."""
        if isinstance(state, tuple):
            super().set_state(state)
        else:
            set_state_of(self, state)
        return self

    def clone_state(self) -> Generator:
        """A new generator in this one's state."""
        return Generator(self.device).set_state(self.get_state())

    def __reduce__(self) -> Any:
        return _again, (str(self.device), state_of(self))


def _again(where: str, state: np.ndarray) -> Generator:
    return Generator(where).set_state(state)


class PerWorker:
    """The default generator's sequence; in a DataLoader's worker one of the worker's own, which begins at its seed."""

    def __init__(self, seed: int) -> None:
        self.main = Twister(seed)

    def __getattr__(self, name: str) -> Any:
        info = get_worker_info()
        if info is None:
            return getattr(self.main, name)
        if "twister" not in info.__dict__:
            info.__dict__["twister"] = Twister(info.seed)
        return getattr(info.__dict__["twister"], name)


def install() -> None:
    """Let the default generator draw PyTorch's numbers on the CPU."""
    generator = backend.default_generator
    if generator.sequence is None:
        generator.sequence = PerWorker(generator.key)


def uninstall() -> None:
    """Let the default generator count again."""
    backend.default_generator.sequence = None


# --- torch.random --------------------------------------------------------------------------------------

default_generator = backend.default_generator


def manual_seed(seed: int) -> backend.Generator:
    """Begin anew from a seed, which may be a negative number or one of any number type."""
    return backend.manual_seed(int(seed))


def seed() -> int:
    """Begin anew from fresh entropy; the new seed."""
    return default_generator.seed()


def initial_seed() -> int:
    """The seed last set."""
    return default_generator.initial_seed()


def get_rng_state() -> Any:
    """The default generator's state, a tensor of bytes."""
    return wrap(state_of(default_generator))


def set_rng_state(new_state: Any) -> None:
    """Go on from a state that get_rng_state gave."""
    set_state_of(default_generator, new_state)


@contextlib.contextmanager
def fork_rng(devices: Any = None, enabled: bool = True, device_type: str = "cuda", **names: Any) -> Iterator[None]:
    """Leave the default generator as it was before the block."""
    state = get_rng_state() if enabled else None
    try:
        yield
    finally:
        if state is not None:
            set_rng_state(state)
