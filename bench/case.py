"""A case is one row of a table: what is computed, on what, and the least that any algorithm must move and compute.

It is checked before it is timed: the columns' results are compared, and a column that is wrong is reported instead.
"""

from __future__ import annotations

import fnmatch
import statistics
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gradflow import backend
from gradflow.cuda import launch
from gradflow.ops.layout import planes, rows

from .measure import Column, copy_bandwidth, measure, ratio, summary
from .sides import on

EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23, "tf32": 2.0**-10, "float16": 2.0**-10, "bfloat16": 2.0**-7}
SETS = 64  # of inputs that are taken in turn at most
TILE = 1 << 20  # elements drawn afresh; larger arrays repeat them


class Inputs:
    """The arrays of a case, drawn once from a seed of its name and shared by all columns."""

    def __init__(self, name: str, dtype: Any) -> None:
        self.rng, self.dtype, self.kept = np.random.default_rng(zlib.crc32(name.encode())), np.dtype(dtype), {}

    def __call__(self, key: Any, draw: Callable[[np.random.Generator], np.ndarray]) -> np.ndarray:
        """The array of this key, drawn when first asked for."""
        if key not in self.kept:
            self.kept[key] = draw(self.rng)
        return self.kept[key]

    def normal(self, key: Any, shape: Sequence[int], scale: float = 1.0) -> np.ndarray:
        """Standard normal, times scale, in the case's dtype."""
        return self((key, tuple(shape)), lambda r: self.tiled(r.standard_normal, shape, scale))

    def tiled(self, draw: Callable[[int], np.ndarray], shape: Sequence[int], scale: float = 1.0) -> np.ndarray:
        """An array of this shape whose first TILE elements are drawn and then repeat."""
        n = int(np.prod(shape))
        values = (draw(min(n, TILE)) * scale).astype(self.dtype)
        return np.resize(values, tuple(shape)) if n > TILE else values.reshape(tuple(shape))


def channels_last(a: np.ndarray) -> np.ndarray:
    """A copy of an array of shape (n, c, h, w) with its channels as neighbours."""
    return planes(np.ascontiguousarray(rows(a)))


Make = Callable[[Any, Inputs], tuple[Callable[[], Any], Callable[[], Any]]]


class Case:
    """One row.

    make    (side, inputs) -> (the call that is timed, a function that gives what is compared)
    moved   bytes that every algorithm reads and writes, `flops` floating-point operations of the usual algorithm
    terms   how many products are summed for one result: errors may grow with its root
    check   (xp, results of a column, results of the reference) -> a complaint or "", instead of the comparison
    tf32    let the card's units shorten float32 to TF32, in every column; the name says so
    goal    the key of the goal (targets.py) that it is measured for
    """

    goal = ""

    def __init__(
        self, name: str, group: str, make: Make, moved: float = 0, flops: float = 0, terms: float = 1,
        dtype: Any = "float32", check: Callable[..., str] | None = None, seconds: float = 1.0, tf32: bool = False,
    ) -> None:  # fmt: skip
        dtype = backend.bfloat16() if dtype == "bfloat16" else np.dtype(dtype)
        kind = "tf32" if tf32 else "" if dtype == np.float32 else dtype.name
        self.name, self.tf32 = f"{name} {kind}".rstrip(), tf32
        self.group, self.make, self.moved, self.flops = group, make, moved, flops
        self.terms, self.dtype, self.check, self.seconds = terms, dtype, check, seconds

    def matches(self, patterns: Sequence[str]) -> bool:
        """Whether one of the patterns (shell's, or a part of the name) fits; always without patterns."""
        return not patterns or any(p in self.name or fnmatch.fnmatch(self.name, p) for p in patterns)


# --- ways of making a call ---------------------------------------------------------------------------

Function = Callable[[Any], Callable[..., Any]]  # of a side: what to call with its tensors
Draw = Callable[[Inputs], list[Any]]


def forward(function: Function, draw: Draw) -> Make:
    """The call alone, nothing recorded."""

    def make(side: Any, inputs: Inputs) -> tuple:
        call = partial(function(side), *[side.tensor(a) for a in draw(inputs)])
        return call, call

    return make


def _recorded(function: Function, draw: Draw, wrt: Sequence[int] | None, side: Any, inputs: Inputs) -> tuple:
    """(function, tensors, those that ask for gradients, the output, its gradient)."""
    arrays = draw(inputs)
    if wrt is None:
        wrt = [i for i, a in enumerate(arrays) if isinstance(a, np.ndarray) and backend.is_floating(a.dtype)]
    xs = [side.tensor(a, i in wrt) for i, a in enumerate(arrays)]
    f = function(side)
    y = f(*xs)
    g = inputs.normal("g", tuple(y.shape))
    g = side.tensor(g if y.is_contiguous() or y.ndim != 4 else channels_last(g))
    return f, xs, [xs[i] for i in wrt], y, g


def backward(function: Function, draw: Draw, wrt: Sequence[int] | None = None) -> Make:
    """The gradients of what was recorded once, of the arguments at `wrt` (default: all floating arrays)."""

    def make(side: Any, inputs: Inputs) -> tuple:
        _, _, wanted, y, g = _recorded(function, draw, wrt, side, inputs)
        call = partial(side.grad, y, wanted, g, retain_graph=True, allow_unused=True)
        return call, call

    return make


def recorded(function: Function, draw: Draw, wrt: Sequence[int] | None = None) -> Make:
    """The call, recorded, and its backward into .grad: what a step of training does."""

    def make(side: Any, inputs: Inputs) -> tuple:
        f, xs, wanted, y, g = _recorded(function, draw, wrt, side, inputs)
        del y

        def call() -> None:
            f(*xs).backward(g)
            for t in wanted:
                t.grad = None

        def outputs() -> list[Any]:
            y = f(*xs)
            return [y, *side.grad(y, wanted, g, allow_unused=True)]

        return call, outputs

    return make


# --- checking ---------------------------------------------------------------------------------------


def flat(y: Any) -> list[Any]:
    """The tensors in nested tuples and lists."""
    if isinstance(y, (tuple, list)):
        return [t for v in y for t in flat(v)]
    return [] if y is None else [y]


def tolerance(dtype: np.dtype, terms: float, tf32: bool = False) -> float:
    """How far apart two right results may be, relative to the largest value: some roundings of the result and of the
    type it is computed in, growing with the root of the number of terms summed. Roundings of the inputs to TF32 have
    either sign, and their sum grows as the result does.
    """
    out = EPSILON["tf32" if tf32 else dtype.name] if tf32 or dtype.name in EPSILON else 0.0
    inner = EPSILON["float32"] if dtype.itemsize == 2 or tf32 else out
    return 4 * out + 60 * inner + 4 * inner * terms**0.5


def compare(
    xp: Any, ys: list[Any], reference: list[Any], dtype: np.dtype, terms: float, tf32: bool = False
) -> str:
    """A complaint if the arrays differ by more than the tolerance, else ''."""
    if len(ys) != len(reference):
        return f"{len(ys)} results where {len(reference)} were expected"
    for i, (a, b) in enumerate(zip(ys, reference, strict=True)):
        if tuple(a.shape) != tuple(b.shape):
            return f"result {i} of shape {tuple(a.shape)}, expected {tuple(b.shape)}"
        a, b = xp.asarray(a), xp.asarray(b)
        if not a.size:
            continue
        if a.dtype.kind in "biu" or b.dtype.kind in "biu":
            if bool((a != b).any()):
                return f"result {i} differs"
            continue
        wide = np.float64 if dtype.name == "float64" else np.float32
        a, b = a.astype(wide, copy=False), b.astype(wide, copy=False)
        odd = ~(xp.isfinite(a) & xp.isfinite(b))
        if bool(odd.any()):
            if bool((odd & ~((a == b) | ((a != a) & (b != b)))).any()):
                return f"result {i}: infinite or not a number where it should not be"
            a, b = xp.where(odd, 0, a), xp.where(odd, 0, b)
        size = float(abs(b).max())
        error = float(abs(a - b).max())
        if error > tolerance(dtype, terms, tf32) * max(size, 1e-3):
            return f"result {i}: off by {error:.3g} where the largest value is {size:.3g}"
    return ""


# --- running ----------------------------------------------------------------------------------------


def host_cache() -> int:
    """Bytes of the processor's last cache, 0 if unknown: what fits in it is not to be compared with a copy in memory."""
    sizes = [p.read_text().strip() for p in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")]
    units = {"K": 1 << 10, "M": 1 << 20}
    return max((int(s[:-1]) * units[s[-1]] for s in sizes if s[-1:] in units), default=0)


class Run:
    """How the cases of one run are measured: columns, clock, seconds per case, the copy bandwidth, the card's cache."""

    def __init__(self, sides: list[Any], clock: Any, seconds: float, copied: int = 0) -> None:
        self.sides, self.clock, self.seconds = sides, clock, seconds
        self.card = any(s.device == "cuda" for s in sides)
        self.xp: Any = backend.need_card("bench") if self.card else np
        self.cache = host_cache()
        if self.card:
            self.cache = int(
                self.xp.cuda.runtime.getDeviceProperties(self.xp.cuda.get_device_id()).get("l2CacheSize", 0)
            )
        size = copied or ((1 << 30) if self.card else (1 << 27))
        self.bandwidth = copy_bandwidth(self.xp, clock, size, min(0.5, seconds))

    def sets(self, case: Case) -> int:
        """How many sets of inputs to take in turn, so that the card's cache does not hold the inputs of the next call.

        One where a set is far larger than the cache or so small that what is measured is the cost of a call.
        """
        if not self.card or not self.cache or case.moved >= 4 * self.cache or case.moved < 1 << 21:
            return 1
        return min(SETS, -(-4 * self.cache // int(case.moved)))

    def __call__(self, case: Case) -> dict[str, Any]:
        """The row of a case: {"name", "columns": {column: stats}, "ratio", "wrong": {column: complaint}, ...}."""
        row: dict[str, Any] = {
            "name": case.name, "group": case.group, "dtype": case.dtype.name, "moved": case.moved, "flops": case.flops,
            "columns": {}, "wrong": {}, "absent": {}, "goal": case.goal,
        }  # fmt: skip
        for side in self.sides:
            side.allow_tf32(case.tf32)
        made = self.check(case, row)
        if not any(not s.torch for s, _ in made):
            return row  # nothing of ours is left to be timed
        columns = []
        for side, (calls, launches) in made:
            columns.append(Column(side.name, calls, side.begin, side.end))
            row["columns"][side.name] = {"launches": launches} if self.card and not side.torch else {}
            side.forget()
        measure(columns, self.clock, self.seconds * case.seconds)
        for c in columns:
            row["columns"][c.name] |= summary(c.times, c.iterations) | {"host": statistics.median(c.hosts)}
        by_name = {c.name: c for c in columns}
        ours = next((by_name[n] for n in ("twin", "graph", "cupy", "numpy") if n in by_name), None)
        row["ours"] = ours.name if ours else None
        if ours and "torch" in by_name:
            row["ratio"] = ratio(ours, by_name["torch"])
        for other in ("torch", "compile"):
            if "graph" in by_name and other in by_name:
                row[f"graph_{other}"] = ratio(by_name["graph"], by_name[other])
        if ours:
            t = row["columns"][ours.name]["median"]
            row["bytes_per_second"] = case.moved / t if case.moved else None
            row["share"] = case.moved / t / self.bandwidth if case.moved >= max(self.cache, 1 << 23) else None
            row["flops_per_second"] = case.flops / t if case.flops else None
        if self.card:
            measured = [side for side, _ in made]
            made.clear()
            columns.clear()
            by_name.clear()
            del c, ours, calls
            for side in measured:
                if case.group == "model":
                    row["columns"][side.name] |= self.memory(side, case)
                side.forget()
        return row

    def memory(self, side: Any, case: Case) -> dict[str, int]:
        """Bytes that two steps take from the card."""
        side.forget()
        with on(side):
            step, _ = case.make(side, Inputs(case.name, case.dtype))
            step()
            step()
            self.xp.cuda.Device().synchronize()
            return {"peak_bytes": side.peak()}

    def check(self, case: Case, row: dict[str, Any]) -> list[tuple[Any, Any]]:
        """Make the calls of every column and compare their results; [(side, (calls, launches))] of the right ones."""
        inputs = Inputs(case.name, case.dtype)
        results: dict[str, list[Any]] = {}
        made = []
        for side in self.sides:
            if (side.whole_steps and case.group != "model") or (side.name == "cudnn" and case.group != "conv2d"):
                continue
            try:
                with on(side):
                    pairs = [case.make(side, inputs) for _ in range(1 if side.device == "cpu" else self.sets(case))]
                    results[side.name] = [side.array(t) for t in flat(pairs[0][1]())]
                    before = launch.count
                    pairs[0][0]()
                made.append((side, ([call for call, _ in pairs], launch.count - before)))
            except LookupError as e:
                row["absent"][side.name] = str(e)
            except Exception as e:
                if "cudaError" in f"{type(e).__name__} {e}" and "Memory" not in str(e):
                    raise  # the card is lost to this process
                place = "absent" if side.torch or "Memory" in type(e).__name__ else "wrong"
                row[place][side.name] = f"{type(e).__name__}: {str(e)[:200]}"
        # What is right: PyTorch where it is there, else the definition on CuPy, else the definition in float64.
        right: list[Any] = []
        if "torch" in results:
            right = results["torch"]
        elif len(results) > 1:
            right = results[next(n for n in ("numpy", "cupy", "twin") if n in results)]
        elif made:
            try:
                right = self.precise(case, made[0][0])
            except Exception as e:  # noqa: BLE001 (as above)
                row["wrong"][made[0][0].name] = f"could not be checked in float64: {type(e).__name__}: {str(e)[:200]}"
                made = []
        kept = []
        for side, m in made:
            complaint = ""
            if not (side.torch and right is results.get(side.name)):
                judge = case.check or partial(compare, dtype=case.dtype, terms=case.terms, tf32=case.tf32)
                complaint = judge(self.xp, results[side.name], right)
            if complaint:
                row["wrong"][side.name] = complaint
            else:
                kept.append((side, m))
        launched = {side.name: n for side, (_, n) in kept}
        if launched.get("twin") == 0 and "cupy" in launched:  # no kernel of ours took part: the two columns are one
            kept = [(side, m) for side, m in kept if side.name != "twin"]
        return kept

    def precise(self, case: Case, side: Any) -> list[Any]:
        """The results of the only column, from the same inputs in float64."""
        narrow = Inputs(case.name, case.dtype)
        with on(side):
            case.make(side, narrow)[1]()
            wide = Inputs(case.name, "float64")
            wide.kept = {k: a.astype(np.float64) if backend.is_floating(a.dtype) else a for k, a in narrow.kept.items()}
            return [side.array(t) for t in flat(case.make(side, wide)[1]())]
