"""Where arrays live: NumPy on the CPU, CuPy on the card, behind one namespace. The only file that imports cupy."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any, Self

import numpy as np

# glibc gives freed blocks above a threshold back to the system and takes them again, page by page, at the next step. Freeing
# one large block, of which no page was touched, raises that threshold to its size, so that a training loop keeps its memory.
np.empty(31 << 20, np.uint8)

Array = Any  # numpy.ndarray or cupy.ndarray: they share one interface and no common class

float16, float32, float64 = np.dtype("float16"), np.dtype("float32"), np.dtype("float64")
int8, int16, int32, int64 = np.dtype("int8"), np.dtype("int16"), np.dtype("int32"), np.dtype("int64")
uint8, uint16, uint32, uint64 = np.dtype("uint8"), np.dtype("uint16"), np.dtype("uint32"), np.dtype("uint64")
bool_, complex64, complex128 = np.dtype("bool"), np.dtype("complex64"), np.dtype("complex128")

_card: Any = None  # the CuPy module, once a card was found
_searched = False


def plug(module: Any) -> None:
    """Use `module`, which answers as CuPy does, as the card; None unplugs it and looks for a real one again."""
    global _card, _searched
    _card, _searched = module, module is not None


def card() -> Any:
    """The CuPy module if a card is there, else None: `import cupy` alone proves nothing, `is_available()` does."""
    global _card, _searched
    if not _searched:
        _searched = True
        with contextlib.suppress(ImportError):
            import cupy

            if cupy.cuda.is_available():
                _card = cupy
    return _card


def need_card(op: str) -> Any:
    """The CuPy module, or a RuntimeError that says how to get one."""
    module = card()
    if module is None:
        raise RuntimeError(
            f"{op}: no CUDA card was found; install CuPy for your driver "
            "(pip install 'gradflow[cuda13]' or 'gradflow[cuda12]') on a machine with an NVIDIA card"
        )
    return module


def is_array(x: object) -> bool:
    """Whether x is a NumPy or CuPy array."""
    return isinstance(x, np.ndarray) or on_card(x)


def on_card(x: object) -> bool:
    """Whether x is an array on the card. Never imports CuPy: an array of it means it is already imported."""
    module = _card or sys.modules.get("cupy")
    return module is not None and isinstance(x, module.ndarray)


def namespace(x: Array) -> Any:
    """The module, numpy or cupy, whose functions take x."""
    if type(x) is np.ndarray:
        return np
    return (_card or sys.modules["cupy"]) if on_card(x) or (hasattr(x, "owner") and x.owner.is_cuda) else np


def strict(x: Array) -> Any:
    """A context in which a decomposition of x that fails raises LinAlgError: cuSOLVER tells of it only if asked."""
    if on_card(x):
        with contextlib.suppress(ImportError):
            import cupyx

            return cupyx.errstate(linalg="raise")
    return contextlib.nullcontext()


def is_floating(dtype: np.dtype) -> bool:
    """Whether dtype is a real floating type, bfloat16 included (ml_dtypes registers it as kind 'V')."""
    return dtype.kind == "f" or (dtype.kind == "V" and dtype.name == "bfloat16")


def is_differentiable(dtype: np.dtype) -> bool:
    """Whether arrays of this dtype can have gradients: the floating and the complex types."""
    return dtype.kind in "fc" or is_floating(dtype)


def bfloat16() -> np.dtype:
    """The bfloat16 dtype of ml_dtypes; ImportError with the remedy where it is not installed."""
    try:
        import ml_dtypes
    except ImportError as e:
        raise ImportError("bfloat16 needs the package ml_dtypes: pip install ml_dtypes") from e
    return np.dtype(ml_dtypes.bfloat16)


# --- default floating type ----------------------------------------------------------------------

_default = float32


def get_default_dtype() -> np.dtype:
    """The floating dtype of new tensors made from Python numbers; float32 unless changed."""
    return _default


def set_default_dtype(dtype: Any) -> None:
    """Change the floating dtype of new tensors made from Python numbers. TypeError unless it is floating."""
    global _default
    dtype = np.dtype(dtype)
    if not is_floating(dtype):
        raise TypeError(f"set_default_dtype: wanted a floating dtype, saw {dtype}")
    _default = dtype


# --- devices ------------------------------------------------------------------------------------


NAMED = ("meta", "mps", "xpu")  # PyTorch's other devices, which programs compare with; nothing can be put there
DEVICES = ("cpu", "cuda", *NAMED)


class device:
    """A place for arrays: device('cpu'), device('cuda'), device('cuda', 1), device('cuda:1') or, for the same, device(1)."""

    __slots__ = ("index", "type")
    type: str
    index: int | None

    def __init__(self, type: str | device | int, index: int | None = None) -> None:
        if isinstance(type, int):
            index, type = type, "cuda"
        if isinstance(type, device):
            index = type.index if index is None else index
            type = type.type
        name, _, number = str(type).partition(":")
        if name not in DEVICES or (number and not number.isdigit()):
            raise RuntimeError(f"device: wanted 'cpu', 'cuda' or 'cuda:N', saw {type!r}")
        self.type = name
        self.index = int(number) if number else index

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str):
            if other.partition(":")[0] not in DEVICES:  # programs compare with words of their own, "auto"
                return False
            other = device(other)
        return isinstance(other, device) and (self.type, self.index or 0) == (other.type, other.index or 0)

    def __hash__(self) -> int:
        return hash((self.type, self.index or 0))

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        return (
            f"device(type={self.type!r})" if self.index is None else f"device(type={self.type!r}, index={self.index})"
        )

    def __enter__(self) -> Self:
        _defaults.append(self)
        return self

    def __exit__(self, *exc: object) -> None:
        _defaults.pop()


CPU = device("cpu")
_defaults = [CPU]  # the devices on which new tensors were to be made: the last is where they are


def get_default_device() -> device:
    """The device on which new tensors are made unless one is given."""
    return _defaults[-1]


def set_default_device(where: str | device | None) -> None:
    """Change the device on which new tensors are made unless one is given; None is the CPU."""
    _defaults[-1] = CPU if where is None else device(where)


def _refuse_named(where: device) -> None:
    if where.type in NAMED:
        raise RuntimeError(f"device: wanted 'cpu', 'cuda' or 'cuda:N' to put a tensor on, saw '{where}'")


def device_of(x: Array) -> device:
    """The device on which the array x lives."""
    if on_card(x):
        return device("cuda", x.device.id)
    return x.owner.device if hasattr(x, "owner") else CPU  # an owner has what vmap batches


def to_device(x: Array, where: str | device, non_blocking: bool = False) -> Array:
    """x on the device `where`; x itself if it is there. RuntimeError without a card.

    non_blocking   do not wait for a copy to the card; from page-locked memory (pinned) the card makes it by itself
    """
    where = device(where)
    if where.type == "cpu":
        return namespace(x).asnumpy(x) if on_card(x) else x
    _refuse_named(where)
    cp = need_card("to('cuda')")
    with cp.cuda.Device(where.index or 0):
        if non_blocking and is_pinned(x):
            y = cp.empty(x.shape, x.dtype)
            y.set(x, stream=(stream := cp.cuda.get_current_stream()))
            hold(stream.record(), x)
            return y
        return cp.asarray(x, blocking=not non_blocking) if not on_card(x) else cp.asarray(x)


def asnumpy(x: Array) -> np.ndarray:
    """x as a NumPy array, copied from the card if it is there."""
    return to_device(x, CPU)


# --- page-locked memory ---------------------------------------------------------------------------


def pinned(x: Array) -> Array:
    """x in page-locked memory of the CPU, from which the card copies beside its work; x itself if it is there.
    RuntimeError without a card and for an array on it.
    """
    cp = need_card("pin_memory")
    if on_card(x):
        raise RuntimeError(f"pin_memory: wanted a tensor on the CPU, saw one on {device_of(x)}")
    if not x.size or is_pinned(x):
        return x
    memory = cp.cuda.alloc_pinned_memory(x.nbytes)
    y = np.frombuffer(memory, x.dtype, x.size).reshape(x.shape)
    y[...] = x
    return y


def is_pinned(x: Array) -> bool:
    """Whether x lies in page-locked memory, and without gaps."""
    module = card()
    if module is None or type(x) is not np.ndarray or not x.flags.c_contiguous:
        return False
    while isinstance(x.base, np.ndarray):
        x = x.base
    owner = x.base.obj if isinstance(x.base, memoryview) else x.base
    return isinstance(owner, module.cuda.PinnedMemoryPointer)


_held: deque[tuple[Any, Any]] = deque()


def hold(event: Any, *sources: Any) -> None:
    """Keep what the card copies from until the event has come: the pool would hand the memory out again."""
    _held.append((event, sources))
    with contextlib.suppress(IndexError):  # another thread was quicker
        while _held[0][0].done:
            _held.popleft()


@contextlib.contextmanager
def on(where: device) -> Iterator[Any]:
    """Make `where` current and give its namespace: `with on(device('cuda')) as xp: xp.zeros(3)`."""
    if where.type == "cpu":
        yield np
    else:
        _refuse_named(where)
        cp = need_card("device('cuda')")
        with cp.cuda.Device(where.index or 0):
            yield cp


# --- capture --------------------------------------------------------------------------------------


class Capture(threading.local):
    """The CUDA graph that this thread captures, or None. Who has work on the host, or numbers, that each replay does or
    reads anew says so to it: see gradflow/graphs/recording.py.
    """

    graph: Any = None
    near = False  # whether this is a call of a step that will be captured


capture = Capture()


# --- the random generator -----------------------------------------------------------------------


class Generator:
    """A counter-based source of random bits: Philox 4x64-10 (Salmon et al. 2011), NumPy's own stream.

    The state is a key (the seed) and a counter of blocks of four 64-bit words. A draw of n words reserves
    ceil(n / 4) blocks, so a draw is a pure function of (key, counter), the same on NumPy and on the card.
    sequence: what draws for the CPU instead, one number after the other, if a program asked for PyTorch's own numbers.
    """

    guard: Any = None  # called before every draw: vmap refuses those that have no meaning inside it
    sequence: Any = None

    def __init__(self, seed: int = 0) -> None:
        self.manual_seed(seed)

    def manual_seed(self, seed: int) -> Generator:
        """Restart the stream from `seed`."""
        self.key, self.counter, self._lock = int(seed) & (2**64 - 1), 0, threading.Lock()
        if self.sequence is not None:
            self.sequence.seed(self.key)
        return self

    def initial_seed(self) -> int:
        """The seed last set."""
        return self.key

    def seed(self) -> int:
        """Restart from fresh entropy and return the new seed."""
        self.manual_seed(int.from_bytes(os.urandom(8), "little"))
        return self.key

    def reserve(self, words: int) -> tuple[int, int]:
        """(key, counter) of a stretch of at least `words` 64-bit words that no other draw will see."""
        if self.guard is not None:
            self.guard()
        with self._lock:
            start = self.counter
            self.counter += -(-words // 4)
        if capture.graph is not None:
            return capture.graph.reserved(self, start), start
        return self.key, start

    def words(self, n: int) -> np.ndarray:
        """The next n words of the stream as uint64, on the CPU."""
        return philox(*self.reserve(n), n)

    def get_state(self) -> tuple[int, int]:
        """(key, counter): all there is to know about the stream."""
        return self.key, self.counter

    def set_state(self, state: tuple[int, int]) -> None:
        """Go on from a state that get_state gave."""
        self.key, self.counter = int(state[0]), int(state[1])


def philox(key: int, counter: int, n: int) -> np.ndarray:
    """n words of the Philox 4x64-10 stream of `key` from block `counter` on, as uint64."""
    # NumPy's Philox increments its counter before it makes a block: block b is made from counter b + 1.
    return np.random.Philox(key=key, counter=counter).random_raw(n) if n else np.empty(0, np.uint64)


default_generator = Generator(0)
default_generator.seed()


def manual_seed(seed: int) -> Generator:
    """Seed the default generator, which every random function and dropout use; the same bits on every device."""
    return default_generator.manual_seed(seed)
