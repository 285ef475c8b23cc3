"""Which variant of a kernel is fastest for a problem: from memory, the shipped table, the disk, or timed once.

`choose(family, key, variants, run)` is one dict lookup once a problem is known. Off (the default, as PyTorch's
`backends.cudnn.benchmark`) it answers from the shipped table or takes the first variant, so that results depend on card,
source and shape alone and never on a stopwatch: variants sum in different orders. On, it also reads what this machine
timed before (a file in the user's cache folder) and times what is new, within BUDGET.

Environment: GRADFLOW_TUNE, 1 or 0, on or off whatever the program sets; GRADFLOW_CACHE, the folder of tuned.json.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import statistics
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ..backend import card, need_card
from . import launch

FORMAT = 1
REPEATS = 5  # timed runs of a variant after one that compiles and warms up
BUDGET = SimpleNamespace(problem=3.0, process=30.0)  # seconds, compiling included; then the best so far, or the first
FLUSH = 256 << 20  # bytes written before each timed run: its inputs are then in no cache, and the host is ahead
SHIPPED = Path(__file__).with_name("tuned.json")  # measured on cards by `python -m bench tune`; absent until one was

# A card and its software -> a family and its source -> a problem -> [the variant, its microseconds].
Times = dict[str, dict[str, dict[str, list]]]

_UNKNOWN = object()
_answers: dict[str, dict[Hashable, Any]] = {"": {}}  # a preferred library -> (family, key) -> variant
_preferred, _chosen = "", _answers[""]  # the hot path
_measured: Times = {}  # what this process timed, for those who ship a table
_spent = 0.0  # seconds of tuning so far
_lock = threading.RLock()
_here = threading.local()  # tuning: a variant that is being timed asks for choices of its own
_benchmark = False
_limit = 10
_shipping = False  # every problem is timed, whatever tables say and however long it takes
clock: Callable[[Callable[[], Any]], float] | None = None  # a test's own: seconds of one run; None: the card's events


def benchmark(on: bool | None = None) -> bool:
    """Whether variants are timed; with an argument, whether they shall be: torch.backends.cudnn.benchmark."""
    global _benchmark
    if on is not None and bool(on) is not _benchmark:
        _benchmark = bool(on)
        forget()
    return _benchmark


def benchmark_limit(most: int | None = None) -> int:
    """How many variants of a problem are timed at most, 0 for all: torch.backends.cudnn.benchmark_limit."""
    global _limit
    if most is not None:
        _limit = int(most)
    return _limit


def active() -> bool:
    """Whether new problems are timed: asked for, on a card that is real (or a test brought a clock)."""
    told = os.environ.get("GRADFLOW_TUNE", "")
    if not (_shipping or (told != "0" if told else _benchmark)):
        return False
    cp = card()
    return clock is not None or (cp is not None and cp.__name__ == "cupy")


def prefer(library: str) -> None:
    """Take variants named (library, ...) where there are some, so that a bench can show them beside our own; "" ends it."""
    global _preferred, _chosen
    _preferred, _chosen = library, _answers.setdefault(library, {})


def forget() -> None:
    """Drop the answers in memory; those on disk and in the shipped table stay."""
    with _lock:
        for answers in _answers.values():
            answers.clear()
        _stored.cache_clear()
        machine.cache_clear()
        source_of.cache_clear()


launch.caches.append(forget)


# --- the question ---------------------------------------------------------------------------------------


def choose(family: str, key: tuple, variants: Sequence[Any], run: Callable[[Any], Any]) -> Any:
    """One of `variants`, of which the first is the one to take unmeasured.

    family    kernels/<family>.cu, whose text the answer holds for
    key       str and int that name the problem: op, dtype, sizes, what decides which variants there are
    variants  strings, numbers or tuples of them; their repr names them in tables
    run       run(variant) launches it with the real arguments; each must write the same outputs
    """
    asked = (family, key) if launch.device_count() == 1 else (family, key, _device())
    found = _chosen.get(asked, _UNKNOWN)
    if found is not _UNKNOWN:
        return found
    if len(variants) == 1 or getattr(_here, "tuning", False):
        return variants[0]
    return _find(asked, family, key, variants, run)


def _device() -> int:
    return need_card("tune").cuda.runtime.getDevice()


def _find(asked: Hashable, family: str, key: tuple, variants: Sequence[Any], run: Callable[[Any], Any]) -> Any:
    """The answer of a table, or of a clock; kept in memory, but not the first variant that capture forced."""
    device = 0 if launch.device_count() == 1 else _device()
    name, on = repr(key), active()
    if _preferred:
        variants = [v for v in variants if type(v) is tuple and v[0] == _preferred] or variants
        name = f"{_preferred} {name}"
    names = {repr(v): v for v in variants}
    for path in () if _shipping else (SHIPPED, place()) if on else (SHIPPED,):
        row = _lookup(path, device, family, name)
        if row is not None and row in names:
            _chosen[asked] = names[row]
            return names[row]
    if on and _capturing():
        return variants[0]
    found = variants[0]
    if on:
        with _lock:
            if asked in _chosen:  # another thread timed it meanwhile
                return _chosen[asked]
            found, times, whole = _timed(family, key, variants[: _limit or None], run)
            if whole:
                _keep(device, family, name, repr(found), times[repr(found)])
    _chosen[asked] = found
    return found


def _capturing() -> bool:
    stream = need_card("tune").cuda.get_current_stream()
    return stream.ptr != 0 and stream.is_capturing()  # the default stream cannot


# --- timing -----------------------------------------------------------------------------------------------


def _timed(
    family: str, key: tuple, variants: Sequence[Any], run: Callable[[Any], Any]
) -> tuple[Any, dict[str, float], bool]:
    """(the fastest, the seconds of each, whether all had their turn before the time was over)."""
    global _spent
    times: dict[str, float] = {}
    best, begin, whole = variants[0], time.monotonic(), True
    _here.tuning = True
    try:
        with contextlib.ExitStack() as stack:
            measure = clock or stack.enter_context(_Events())
            for v in variants:
                taken = time.monotonic() - begin
                if not _shipping and (taken > BUDGET.problem or _spent + taken > BUDGET.process):
                    whole = False
                    break
                try:
                    run(v)  # compiles
                    seen: list[float] = []
                    while len(seen) < REPEATS:
                        seen.append(measure(lambda v=v: run(v)))
                        if len(seen) == 2 and min(seen) > 2 * times.get(repr(best), float("inf")):
                            break  # hopeless
                except (MemoryError, NotImplementedError):  # no room, or a library cannot do this one
                    continue
                except Exception as e:  # noqa: BLE001 (a variant that does not run is a bug, and the others still do)
                    told = f"{family}: the variant {v!r} failed for {key}: {type(e).__name__}: {e}"
                    warnings.warn(told, UserWarning, stacklevel=5)
                    continue
                times[repr(v)] = statistics.median(seen)
                if times[repr(v)] < times.get(repr(best), float("inf")):
                    best = v
    finally:
        _here.tuning = False
        _spent += time.monotonic() - begin
    return best, times, whole and bool(times)


class _Events:
    """Seconds that a call takes on the card, between two events, behind a write that empties the cache.

    The buffer comes from no pool: a training step's own pool, and its peak, do not see it.
    """

    def __enter__(self) -> Callable[[Callable[[], Any]], float]:
        cp = self.cp = need_card("tune")
        self.start, self.stop = cp.cuda.Event(), cp.cuda.Event()
        self.buffer: Any = None
        with contextlib.suppress(MemoryError, cp.cuda.runtime.CUDARuntimeError):
            self.buffer = cp.cuda.MemoryPointer(cp.cuda.Memory(FLUSH), 0)
        return self.seconds

    def seconds(self, call: Callable[[], Any]) -> float:
        if self.buffer is not None:
            self.buffer.memset_async(0, FLUSH)
        self.start.record()
        call()
        self.stop.record()
        self.stop.synchronize()
        return self.cp.cuda.get_elapsed_time(self.start, self.stop) / 1e3

    def __exit__(self, *error: object) -> None:
        self.buffer = None


# --- tables -------------------------------------------------------------------------------------------------


@cache
def machine(device: int = 0) -> tuple[str, str]:
    """(a card's name and compute capability, its driver and runtime), as tables name them."""
    runtime = need_card("tune").cuda.runtime
    p = runtime.getDeviceProperties(device)
    name = p["name"].decode() if isinstance(p["name"], bytes) else p["name"]
    software = f"driver {runtime.driverGetVersion()} runtime {runtime.runtimeGetVersion()}"
    return f"{name} sm_{p['major']}{p['minor']}", software


@cache
def source_of(family: str) -> str:
    """A family and a hash of its CUDA text, comments and spaces aside: a table made for another text says nothing."""
    try:
        text = launch.source(f"{family}.cu")
    except FileNotFoundError:
        text = ""  # a family of libraries' calls
    text = re.sub(r"//[^\n]*|/\*.*?\*/|^#line[^\n]*", "", text, flags=re.MULTILINE | re.DOTALL)
    return f"{family} {hashlib.sha256(' '.join(text.split()).encode()).hexdigest()[:16]}"


def place() -> Path:
    """The file of what this machine timed."""
    folder = os.environ.get("GRADFLOW_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "gradflow"
    )
    return Path(folder) / "tuned.json"


def read(path: Path) -> Times:
    """A table; empty if there is none, with a warning if it is damaged or no table."""
    try:
        found = json.loads(path.read_text())
        if found["format"] != FORMAT:
            raise ValueError(f"format {found['format']}, wanted {FORMAT}")
        for rows in (r for problems in found["times"].values() for r in problems.values()):
            for row in rows.values():
                if type(row[0]) is not str or not isinstance(row[1], (int, float)):
                    raise TypeError(f"the row {row}")
    except OSError:  # there is none, or no place for one
        return {}
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as e:
        warnings.warn(f"tune: {path} is ignored: {type(e).__name__}: {e}", UserWarning, stacklevel=2)
        return {}
    return found["times"]


@cache
def _stored(path: Path) -> Times:
    """A table as it was when first asked for, and what was kept since."""
    return read(path)


def _group(path: Path, device: int) -> str:
    """What a file's rows hold for: the shipped table's for a card, the disk's for its software too."""
    name, software = machine(device)
    return name if path == SHIPPED else f"{name}, {software}"


def _lookup(path: Path, device: int, family: str, name: str) -> str | None:
    problems = _stored(path).get(_group(path, device), {}).get(source_of(family), {})
    return problems[name][0] if name in problems else None


def _keep(device: int, family: str, name: str, variant: str, seconds: float) -> None:
    """Remember a measurement, here and on disk; a disk that cannot be written is no reason to stop."""
    row = [variant, round(seconds * 1e6, 2)]
    card_name, path = machine(device)[0], place()
    _measured.setdefault(card_name, {}).setdefault(source_of(family), {})[name] = row
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # said when it was first read
            times = read(path)  # another process may have written since
        for where in (times, _stored(path)):
            where.setdefault(_group(path, device), {}).setdefault(source_of(family), {})[name] = row
        write(path, times)


def write(path: Path, times: Times) -> None:
    """Write a table whole or not at all."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with open(handle, "w") as f:
            json.dump({"format": FORMAT, "times": times}, f, indent=1, sort_keys=True)
            f.write("\n")
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def table() -> dict[str, Times]:
    """What is known: {"shipped": ..., "cached": ..., "measured": what this process timed}."""
    return {"shipped": read(SHIPPED), "cached": read(place()), "measured": _measured}


def clear() -> None:
    """Delete what this machine timed, on disk and in memory."""
    place().unlink(missing_ok=True)
    _measured.clear()
    forget()


@contextlib.contextmanager
def measured() -> Iterator[Times]:
    """A block in which every problem is timed, whatever tables say and however long it takes; gives the table it makes."""
    global _shipping
    before, _shipping = _shipping, True
    forget()
    _measured.clear()
    try:
        yield _measured
    finally:
        _shipping = before
        forget()
