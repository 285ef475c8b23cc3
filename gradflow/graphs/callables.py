"""make_graphed_callables: functions and modules whose forward and backward are each one CUDA graph, inside eager programs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import backend
from ..autograd.function import Function
from ..autograd.gradient import grad
from ..backend import need_card, on_card
from ..cuda.stream import Stream
from ..func.tree import flatten, unflatten
from ..op import current, unwrap, wrap
from ..tape import Traced
from .capture import CUDAGraph, graph_pool_handle, side_stream
from .step import graph


def make_graphed_callables(
    callables: Any, sample_args: Any, num_warmup_iters: int = 3, allow_unused_input: bool = False, pool: Any = None
) -> Any:
    """The functions or modules with forward and backward as CUDA graphs, which ordinary programs may call and differentiate.

    callables     a function or Module, or a tuple of them in the order in which they will be called
    sample_args   a tuple of tensors on the card for each, of the shapes, dtypes and requires_grad of later calls

    Modules are given back themselves, with another forward while they are in the mode (training or not) that they are in
    now. Results are overwritten by the next call. Inputs are tensors, and so are results. RuntimeError for inputs that are
    not on the card, for other shapes than the samples', and for what cannot be captured; naming the op and the line.
    """
    one = not isinstance(callables, tuple)
    functions = (callables,) if one else callables
    samples = (tuple(sample_args),) if one else tuple(tuple(a) for a in sample_args)
    if len(functions) != len(samples):
        raise ValueError(f"make_graphed_callables: wanted samples for {len(functions)} callables, saw {len(samples)}")
    pool = graph_pool_handle() if pool is None else pool
    for function, sample in zip(functions, samples, strict=True):
        _warm_up(function, sample, num_warmup_iters, allow_unused_input)
    pairs = [_Pair(f, s, pool) for f, s in zip(functions, samples, strict=True)]
    for pair in reversed(pairs):  # backwards come in the opposite order, and share memory in it
        pair.capture_backward(pool, allow_unused_input)
    made = tuple(_installed(f, p) for f, p in zip(functions, pairs, strict=True))
    return made[0] if one else made


def _parameters(function: Any) -> tuple[Any, ...]:
    return tuple(p for p in function.parameters() if p.requires_grad) if hasattr(function, "parameters") else ()


def _asking(values: Any) -> list[Any]:
    return [v for v in values if isinstance(v, Traced) and current(v) is not None]


def _warm_up(function: Any, sample: tuple[Any, ...], times: int, allow_unused: bool) -> None:
    """Run forward and backward a few times on the stream that captures."""
    here, side = Stream(of=need_card("make_graphed_callables").cuda.get_current_stream()), side_stream()
    side.wait_stream(here)
    with side:
        for _ in range(times):
            outputs = _asking(flatten(function(*sample))[0])
            inputs = _asking((*flatten(sample)[0], *_parameters(function)))
            if outputs and inputs:
                grad(outputs, inputs, [_ones(y) for y in outputs], allow_unused=allow_unused)
    here.wait_stream(side)


def _ones(y: Any) -> Any:
    return wrap(backend.namespace(y.array).ones_like(y.array))


class _Pair:
    """Forward and backward of one callable, captured."""

    def __init__(self, function: Callable[..., Any], sample: tuple[Any, ...], pool: Any) -> None:
        leaves, self.spec = flatten(sample)
        for i, v in enumerate(leaves):
            if not (isinstance(v, Traced) and on_card(v.array)):
                raise RuntimeError(f"make_graphed_callables: wanted tensors on the card as samples, saw another thing as {i}")
        self.inputs, self.parameters = tuple(leaves), _parameters(function)
        self.forward, self.backward = CUDAGraph(), CUDAGraph()
        with graph(self.forward, pool=pool):
            outputs = function(*sample)
        self.outputs, self.outspec = flatten(outputs)
        for y in self.outputs:
            if not isinstance(y, Traced):
                raise RuntimeError(f"make_graphed_callables: wanted tensors as results, saw {type(y).__name__}")

    def capture_backward(self, pool: Any, allow_unused: bool) -> None:
        """Capture the gradients of inputs and parameters, given those of the outputs that ask for one."""
        outputs, asked = _asking(self.outputs), _asking((*self.inputs, *self.parameters))
        self.incoming = [None if current(y) is None else _ones(y) for y in self.outputs]
        self.gradients: list[Any] = [None] * len((*self.inputs, *self.parameters))
        if not (outputs and asked):
            return
        with graph(self.backward, pool=pool):
            found = grad(outputs, asked, [g for g in self.incoming if g is not None], allow_unused=allow_unused)
        at = iter(found)
        self.gradients = [next(at) if current(v) is not None else None for v in (*self.inputs, *self.parameters)]
        self.outputs = [wrap(y.array) for y in self.outputs]  # what forward kept is in the graphs' pool now

    def __call__(self, *args: Any) -> Any:
        """Replay: the results, with a place on the tape."""
        leaves, spec = flatten(args)
        seen = [(tuple(v.shape), v.dtype) if isinstance(v, Traced) and on_card(v.array) else None for v in leaves]
        wanted = [(tuple(v.shape), v.dtype) for v in self.inputs]
        if spec != self.spec or seen != wanted:
            raise RuntimeError(f"make_graphed_callables: wanted tensors on the card like the samples, {wanted}, saw {seen}")
        results = Replay.apply(self, *leaves, *self.parameters)
        return unflatten(list(results), self.outspec)


class Replay(Function):
    """The call of a captured pair, as one operation on the tape."""

    @staticmethod
    def forward(ctx: Any, pair: _Pair, *args: Any) -> Any:
        """Copy the inputs to where the graph reads them, and replay it."""
        ctx.pair = pair
        for static, x in zip(pair.inputs, args, strict=False):
            if unwrap(x) is not static.array:
                static.array[...] = unwrap(x)
        pair.forward.replay()
        results = tuple([wrap(y.array) for y in pair.outputs])
        ctx.mark_non_differentiable(*[y for y, g in zip(results, pair.incoming, strict=True) if g is None])
        return results

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Copy the outputs' gradients to where the graph reads them, and replay it."""
        pair = ctx.pair
        for static, g in zip(pair.incoming, grads, strict=True):
            if static is not None and g is not None:
                static.array[...] = unwrap(g)
        if any(g is not None for g in pair.gradients):
            pair.backward.replay()
        return (None, *[None if g is None else wrap(g.array) for g in pair.gradients])


def _installed(function: Any, pair: _Pair) -> Any:
    """What is called in the place of the function; a module with another forward."""
    if not hasattr(function, "parameters"):
        return pair
    eager, mode = function.forward, function.training

    def forward(*args: Any) -> Any:
        return pair(*args) if function.training == mode else eager(*args)

    function.forward = forward
    return function
