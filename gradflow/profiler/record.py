"""What happened, and when: ranges of host time, one inside the other, and what the card did in each of them."""

from __future__ import annotations

import contextlib
import linecache
import math
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np

from .. import backend, call
from ..autograd import gradient
from ..autograd.saving import Around
from ..cuda import launch
from ..op import unwrap
from ..optim.hooks import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from ..printing import gradient_name
from ..tape import Node

_HOME = str(Path(__file__).parent.parent)


class Range:
    """One call of an op, one node of a backward, one step of an optimizer, or a block that the program named.

    start, end  nanoseconds of time.perf_counter_ns
    host_bytes, device_bytes  what it allocated itself, without the ranges inside it
    launches    kernels of gradflow that it launched, those of the ranges inside it among them
    device_ns   from its first moment on the card to its last: also of a card that waits for the host between launches
    """

    __slots__ = (
        "device_bytes", "device_ns", "device_start", "end", "flops", "host_bytes", "inner", "kind", "launches", "made",
        "marks", "name", "parent", "shapes", "stack", "start", "thread",
    )  # fmt: skip

    def __init__(self, name: str, kind: str, parent: Range | None) -> None:
        self.name, self.kind, self.parent, self.thread = name, kind, parent, threading.get_ident()
        self.inner: list[Range] = []
        self.made: list[Any] = []  # results of the ranges inside it, which are not counted twice
        self.host_bytes = self.device_bytes = self.device_ns = self.device_start = self.flops = self.start = self.end = 0
        self.shapes: tuple = ()
        self.stack: tuple[str, ...] = ()
        self.marks: tuple = ()
        self.launches = launch.count

    @property
    def host_ns(self) -> int:
        """Host time from start to end."""
        return self.end - self.start

    def total(self, what: str) -> int:
        """A quantity with that of all ranges inside."""
        return getattr(self, what) + sum(r.total(what) for r in self.inner)

    def own(self, what: str) -> int:
        """A time without that of the ranges directly inside."""
        return max(0, getattr(self, what) - sum(getattr(r, what) for r in self.inner))


class Recorder:
    """What opens and closes ranges while it runs: around ops, nodes of a backward, optimizers' steps.

    device, memory, shapes, stack, flops  what to note of each beside its host time
    nvtx  also tell NVIDIA's own tools of each range
    """

    def __init__(
        self, device: bool = False, memory: bool = False, shapes: bool = False, stack: bool = False, flops: bool = False,
        nvtx: bool = False,
    ) -> None:  # fmt: skip
        self.card = backend.card() if device or nvtx else None
        self.device, self.nvtx = device and self.card is not None, nvtx and self.card is not None
        self.memory, self.shapes, self.stack, self.flops = memory, shapes, stack, flops
        self.roots: list[Range] = []
        self.running = False
        self._open = threading.local()
        self._ends = contextlib.ExitStack()

    # --- ranges -------------------------------------------------------------------------------------

    def open(self, name: str, kind: str, args: tuple = ()) -> Range:
        """Begin a range inside the one that this thread is in."""
        r = Range(name, kind, getattr(self._open, "range", None))
        (self.roots if r.parent is None else r.parent.inner).append(r)
        self._open.range = r
        if self.shapes:
            r.shapes = tuple(_shape(a) for a in args)
        if self.flops and kind == "op":
            r.flops = flops_of(name, [_shape(a) for a in args])
        if self.stack:
            r.stack = tuple(_frames())
        if self.nvtx:
            self.card.cuda.nvtx.RangePush(name)
        if self.device:
            r.marks = (self._mark(),)
        r.start = perf_counter_ns()
        return r

    def close(self, r: Range, result: Any = None) -> None:
        """End a range; result is what the op or the node gave."""
        r.end = perf_counter_ns()
        if self.device:
            r.marks = (*r.marks, self._mark())
        if self.nvtx:
            self.card.cuda.nvtx.RangePop()
        r.launches = launch.count - r.launches
        self._open.range = r.parent
        if self.memory and r.kind != "user":
            made = [a for a in _arrays(result) if type(a) is np.ndarray and a.base is None]
            r.host_bytes = sum(a.nbytes for a in made if not any(a is b for b in r.made))
            if r.parent is not None and r.parent.kind != "user":
                r.parent.made += made
        r.made = []

    def around(self, name: str, kind: str, function: Callable[..., Any], args: tuple, kwargs: Any = None) -> Any:
        """function(*args, **kwargs) inside a range."""
        r = self.open(name, kind, args)
        y = None
        try:
            y = function(*args, **(kwargs or {}))
        finally:
            self.close(r, y)
        return y

    def _mark(self) -> Any:
        event = self.card.cuda.Event()
        event.record()
        return event

    # --- beginning and end ----------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to record. RuntimeError if another recorder runs."""
        global now
        if now is not None:
            raise RuntimeError("profiler: wanted no other profiler that runs, saw one")
        now, self.running = self, True
        try:
            self._hang()
        except BaseException:
            self._ends.close()
            raise
        self.began = perf_counter_ns()

    def _hang(self) -> None:
        end = self._ends.callback
        end(self._forget)
        call.surround(lambda entry, f, args, kwargs: self.around(entry.name, "op", f, args, kwargs))
        end(call.surround, None)
        gradient.contexts.append(self._backward)
        end(gradient.contexts.remove, self._backward)
        steps: list[Range] = []
        before = register_optimizer_step_pre_hook(
            lambda optimizer, args, kwargs: steps.append(
                self.open(f"Optimizer.step#{type(optimizer).__name__}.step", "optimizer")
            )
        )
        after = register_optimizer_step_post_hook(
            lambda optimizer, args, kwargs: self.close(steps.pop()) if steps else None
        )
        end(before.remove)
        end(after.remove)
        if self.device:
            self._first = self._mark()
            self.card.cuda.Device().synchronize()
            if self.memory:
                self._ends.enter_context(_allocations(self))

    def _forget(self) -> None:
        global now
        now, self.running = None, False

    def stop(self) -> None:
        """Record no more, and find the times on the card; waits for it."""
        self._ends.close()
        if not self.device:
            return
        self.card.cuda.Device().synchronize()
        elapsed = self.card.cuda.get_elapsed_time
        for r in self.ranges():
            if len(r.marks) == 2:
                r.device_start = self.began + int(1e6 * elapsed(self._first, r.marks[0]))
                r.device_ns = int(1e6 * elapsed(*r.marks))
            r.marks = ()

    def ranges(self) -> Iterator[Range]:
        """All ranges, an outer one before those inside it."""
        stack = self.roots[::-1]
        while stack:
            r = stack.pop()
            yield r
            stack += r.inner[::-1]

    @contextlib.contextmanager
    def _backward(self, roots: Any, wanted: Any) -> Iterator[None]:
        """Around a walk back: every node it may come to is given a plan that opens a range."""
        seen = set(roots)
        stack = list(seen)
        while stack:
            node = stack.pop()
            if type(node) is Node and not isinstance(node.plan, _Timed):
                node.plan = _Timed(node.plan, gradient_name(node))
            for edge in getattr(node, "edges", ()):
                if edge not in seen:
                    seen.add(edge)
                    stack.append(edge)
        r = self.open("backward", "backward")
        try:
            yield
        finally:
            self.close(r)


now: Recorder | None = None  # the one that runs


class _Timed(Around):
    """A plan whose rules run inside a range, as long as a recorder runs."""

    def __init__(self, plan: Any, title: str) -> None:
        super().__init__(plan)
        self.title = title

    def _ranged(self, pull: Callable[..., Any]) -> Callable[..., Any]:
        if now is None:
            return pull
        return lambda g, saved: now.around(self.title, "backward", pull, (g, saved)) if now else pull(g, saved)

    def pull(self, g: Any, saved: tuple) -> tuple:
        """The gradients of the inputs."""
        return self._ranged(self.plan.pull)(g, saved)

    def pull_to(self, asked: tuple[bool, ...]) -> Callable[[Any, tuple], tuple]:
        """The function that gives those that are asked for."""
        return self._ranged(self.plan.pull_to(asked))


def _allocations(recorder: Recorder) -> Any:
    """CuPy's hook that adds each allocation to the range in which it happens."""

    class Hook(recorder.card.cuda.MemoryHook):  # type: ignore[name-defined]
        name = "gradflow.profiler"

        def malloc_postprocess(self, device_id: int, size: int, mem_size: int, mem_ptr: int, pmem_id: int) -> None:
            r = getattr(recorder._open, "range", None)
            if r is not None:
                r.device_bytes += mem_size

    return Hook()


# --- what is noted of a call --------------------------------------------------------------------------------


def _shape(a: Any) -> Any:
    a = unwrap(a)
    return list(a.shape) if backend.is_array(a) else [_shape(v) for v in a] if type(a) in (tuple, list) else []


def _arrays(result: Any) -> list[Any]:
    result = unwrap(result)
    return [a for v in result for a in _arrays(v)] if isinstance(result, (tuple, list)) else [result]


def _frames() -> Iterator[str]:
    """The frames of the program, innermost first, without gradflow's own."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        code = frame.f_code
        if not code.co_filename.startswith((_HOME, "<the call of", "<frozen", "<string>")):
            text = linecache.getline(code.co_filename, frame.f_lineno).strip()
            yield f"{code.co_filename}({frame.f_lineno}): {code.co_name}" + (f"  {text}" if text else "")
        frame = frame.f_back


def flops_of(name: str, shapes: list[Any]) -> int:
    """Multiplications and additions of a call, by the shapes of its inputs; 0 where they are not counted, as in PyTorch.

    matmul (..., m, k) (..., k, n): 2 m k n each; linear x (..., f), w (k, f): 2 x.size k; convolutions: 2 for each weight
    and each place it is put; add, sub, mul, div: one for each number.
    """
    s = [tuple(x) for x in shapes if not x or type(x[0]) is int]
    if name == "matmul" and len(s) > 1 and s[0] and s[1]:
        a, b = s[0], s[1]
        batch = math.prod(np.broadcast_shapes(a[:-2], b[:-2]))
        return 2 * batch * (a[-2] if len(a) > 1 else 1) * a[-1] * (b[-1] if len(b) > 1 else 1)
    if name == "linear" and len(s) > 1:
        return 2 * math.prod(s[0]) * (s[1][0] if len(s[1]) > 1 else 1)
    if name in ("add", "sub", "mul", "div") and len(s) > 1:
        return math.prod(np.broadcast_shapes(*s[:2]))
    return 0
