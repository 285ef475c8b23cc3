"""Step: a whole training step as one CUDA graph, recorded once by the card and started again with one launch.

    @gradflow.cuda.graph
    def step(x, target):
        optimizer.zero_grad()
        loss = loss_fn(model(x), target)
        loss.backward()
        optimizer.step()
        scheduler.step()
        return loss

The first calls of `step` run as ever; then it is captured and every further call is a copy of its inputs, a copy of the few
numbers that change (learning rate, count of steps, where the random numbers stand) and one launch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any, Self

from .. import backend
from ..backend import Array, need_card, on_card
from ..cuda.stream import Stream
from ..func.tree import Spec, flatten, unflatten
from ..op import wrap
from ..tape import Traced
from .capture import Block, CUDAGraph, graph_pool_handle, side_stream
from .recording import Stale


def graph(step: Any, pool: Any = None, stream: Any = None, capture_error_mode: str = "global", **options: Any) -> Any:
    """A function as one launch; or, as in PyTorch, with a CUDAGraph, a block that it captures.

    graph(step, warmup=2, limit=4)              a Step, see there; also a decorator
    with graph(g, pool=None, stream=None): ...  the block is recorded by the CUDAGraph g, and runs at g.replay()
    """
    if isinstance(step, CUDAGraph):
        return Block(step, pool, stream, capture_error_mode)
    if not callable(step):
        raise TypeError(f"graph: wanted a CUDAGraph or a function, saw {type(step).__name__}")
    if stream is not None:
        raise TypeError("graph: wanted a stream for a block only, saw one with a function")
    return Step(step, pool=pool, **options)


class _Kind:
    """Inputs of one kind, and the graph for them."""

    graph: CUDAGraph | None = None
    calls = 0
    inputs: tuple[Array, ...] = ()
    outputs: Any = None

    def __init__(self, signature: tuple, spec: Spec) -> None:
        self.signature, self.spec = signature, spec


class Step:
    """A function of tensors on the card, run as one CUDA graph.

    step     forward, backward, clipping, optimizer.step(), scheduler.step(), dropout: whatever stays on the card. Random
             numbers, learning rates (momentums too) and counts of steps go on from call to call, with the same bits as
             without a graph (but for the order in which cuBLAS, which no graph takes from CuPy, adds up products);
             everything else that Python does in it is done in the first calls only
    warmup   the first calls of each kind of inputs that run as they are; the next one captures
    limit    kinds of inputs (shapes, dtypes, constants) that get a graph each, in one shared pool of memory
    pool     from graph_pool_handle(), to share memory with other graphs

    A call gives what step gives, detached from the tape and, once captured, always in the same tensors: the next call
    overwrites them. The same holds for the grads of parameters. RuntimeError for inputs that are not on the card or ask for a
    gradient, for more kinds than limit, and, naming the op and the line of the program, for what cannot be captured: copies
    between host and card (item(), print, tensor(...)) and shapes that depend on data. If an optimizer's state or another
    hyperparameter is replaced (load_state_dict), the step is captured anew.
    """

    def __init__(self, step: Callable[..., Any], warmup: int = 2, limit: int = 4, pool: Any = None) -> None:
        if warmup < 1 or limit < 1:
            raise ValueError(f"graph: wanted warmup and limit of at least 1, saw {warmup} and {limit}")
        self.step, self.warmup, self.limit, self._shared, self._pool = step, warmup, limit, pool, pool
        self._kinds: list[_Kind] = []
        self._anew = 0
        self.__doc__, self.__name__ = step.__doc__, getattr(step, "__name__", type(step).__name__)

    def __get__(self, owner: Any, kind: Any = None) -> Any:
        return self if owner is None else partial(self, owner)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Take a step."""
        leaves, spec = flatten((args, kwargs))
        arrays = tuple([v.array if isinstance(v, Traced) else v for v in leaves if isinstance(v, Traced) or on_card(v)])
        kind = self._kind(leaves, spec)
        if kind.graph is not None:
            for static, x in zip(kind.inputs, arrays, strict=True):
                if x is not static:
                    static[...] = x
            try:
                kind.graph.replay()
            except Stale as e:
                self._forget(e)
            else:
                return kind.outputs
        if kind.calls < self.warmup:
            kind.calls += 1
            return self._eager(args, kwargs)
        self._capture(kind, leaves, arrays)
        return kind.outputs

    def fits(self, *args: Any, **kwargs: Any) -> bool:
        """Whether such inputs need no other graph than there is, or were the first."""
        leaves, spec = flatten((args, kwargs))
        signature = tuple([_signature(i, v) for i, v in enumerate(leaves)])
        return not self._kinds or any(k.signature == signature and k.spec == spec for k in self._kinds)

    def _kind(self, leaves: list[Any], spec: Spec) -> _Kind:
        """The kind of these inputs; RuntimeError if there are too many, or one is not on the card."""
        signature = tuple([_signature(i, v) for i, v in enumerate(leaves)])
        for kind in self._kinds:
            if kind.signature == signature and kind.spec == spec:
                return kind
        if len(self._kinds) == self.limit:
            raise RuntimeError(
                f"graph: wanted at most limit={self.limit} kinds of inputs, saw another one, {_words(signature)}, beside "
                f"{'; '.join(_words(k.signature) for k in self._kinds)}"
            )
        kind = _Kind(signature, spec)
        self._kinds.append(kind)
        return kind

    def _forget(self, why: Stale) -> None:
        """Capture anew after one more plain call; RuntimeError where that goes on and on."""
        self._anew += 1
        if self._anew > 16:
            raise RuntimeError(f"graph: the step was captured {self._anew} times, the last time as {why}")
        self._pool = self._shared
        for kind in self._kinds:
            kind.graph, kind.inputs, kind.outputs, kind.calls = None, (), None, min(kind.calls, self.warmup - 1)

    @contextlib.contextmanager
    def _apart(self) -> Any:
        """Work inside runs on the side stream, with memory of the pool, where the first graph then finds it free again."""
        cp = need_card("graph")
        if self._pool is None:
            self._pool = graph_pool_handle()
        here, side = Stream(of=cp.cuda.get_current_stream()), side_stream()
        side.wait_stream(here)
        with side, contextlib.nullcontext() if self._pool.captured else cp.cuda.using_allocator(self._pool.malloc):
            yield
        here.wait_stream(side)

    def _eager(self, args: tuple, kwargs: dict[str, Any]) -> Any:
        backend.capture.near = True
        try:
            with self._apart():
                return _detached(self.step(*args, **kwargs))
        finally:
            backend.capture.near = False

    def _capture(self, kind: _Kind, leaves: list[Any], arrays: tuple[Array, ...]) -> None:
        """Capture the step for inputs of this kind, and take it."""
        inputs = tuple([x.copy(order="C") for x in arrays])
        at = iter(inputs)
        static = [wrap(next(at)) if isinstance(v, Traced) else next(at) if on_card(v) else v for v in leaves]
        captured = CUDAGraph()
        args, kwargs = unflatten(static, kind.spec)
        with graph(captured, pool=self._pool):
            outputs = _detached(self.step(*args, **kwargs))
        captured.replay()
        kind.graph, kind.inputs, kind.outputs = captured, inputs, outputs

    def reset(self) -> Self:
        """Forget all graphs; the next calls run as they are and then capture anew."""
        self._kinds, self._pool, self._anew = [], self._shared, 0
        return self


def _detached(x: Any) -> Any:
    leaves, spec = flatten(x)
    return unflatten([wrap(v.array) if isinstance(v, Traced) else v for v in leaves], spec)


def _signature(i: int, v: Any) -> Any:
    """What must be the same for a graph to be replayed: of tensors all but the numbers, of anything else the value."""
    if isinstance(v, Traced):
        if v.node is not None or not on_card(v.array):
            seen = "one that requires a gradient" if on_card(v.array) else f"one on the {backend.device_of(v.array)}"
            raise RuntimeError(f"graph: wanted inputs on the card that require no gradient, saw {seen} as input {i}")
        return (v.array.shape, v.array.dtype, v.array.device.id, True)
    if backend.is_array(v):
        if not on_card(v):
            raise RuntimeError(f"graph: wanted inputs on the card, saw a NumPy array as input {i}")
        return (v.shape, v.dtype, v.device.id, False)
    return type(v), v


def _words(signature: tuple) -> str:
    return "(" + ", ".join(f"{s[0]} {s[1]}" if len(s) == 4 else repr(s[1]) for s in signature) + ")"
