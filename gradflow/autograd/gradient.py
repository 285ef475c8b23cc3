"""Gradients asked of the tape: backward, which adds them to the leaves, and grad, which gives them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np

from .. import call, tape
from ..backend import namespace
from ..op import current, wrap
from ..tape import Traced, mode

# Contexts that are put around every walk: functions of (the nodes it starts from, those that are wanted or None). Anomaly
# mode and hooks of several tensors put theirs here when they are first used.
contexts: list[Callable[[list[Any], Any], Any]] = []


def several(x: Any) -> tuple:
    return () if x is None else tuple(x) if isinstance(x, (list, tuple)) and not hasattr(x, "place") else (x,)


def _place(t: Any) -> Any:
    """The place on the tape of a tensor or of a graph.GradientEdge."""
    return t.place if hasattr(t, "place") else current(t)


def _walk(roots: list[tuple[Any, Any]], retain: bool, create: bool, wanted: Any) -> dict[Any, Any]:
    if not contexts:
        return tape.backward(roots, retain, create, wanted)
    with ExitStack() as stack:
        for context in contexts:
            stack.enter_context(context([node for node, _ in roots], wanted))
        return tape.backward(roots, retain, create, wanted)


class _Like:
    """What of a tensor a place on the tape remembers."""

    def __init__(self, node: Any) -> None:
        self.array = np.empty(node.shape, node.dtype)


def _roots(name: str, outputs: tuple, gradients: Any, create: bool) -> list[tuple[Any, Any]]:
    """(node, gradient) for each output: 1 for a missing gradient of one element, checked against the output's shape."""
    given = several(gradients) if gradients is not None else (None,) * len(outputs)
    if len(given) != len(outputs):
        raise RuntimeError(f"{name}: wanted one gradient for each of {len(outputs)} outputs, saw {len(given)}")
    roots = []
    for y, g in zip(outputs, given, strict=True):
        node = _place(y)
        if hasattr(y, "place"):
            y = _Like(node)
        if node is None:
            raise RuntimeError(f"{name}: the tensor of shape {tuple(y.array.shape)} does not require a gradient")
        if g is None:
            if y.array.size != 1:
                raise RuntimeError(
                    f"{name}: a gradient is made up only for one element; saw an output of shape {tuple(y.array.shape)}"
                )
            if y.array.dtype.kind == "c":
                raise RuntimeError(f"{name}: a gradient is made up only for a real output; saw {y.array.dtype}")
            g = namespace(y.array).ones_like(y.array)
        elif tuple(g.shape) != tuple(y.array.shape):
            raise RuntimeError(
                f"{name}: wanted a gradient of the output's shape {tuple(y.array.shape)}, saw {tuple(g.shape)}"
            )
        if create:
            g = g if isinstance(g, Traced) else wrap(g)
        elif isinstance(g, Traced):
            g = g.array
        roots.append((node, g))
    return roots


def backward(
    tensors: Any,
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    """Add the gradients of `tensors`, contracted with `grad_tensors`, to the grad of the leaves (or of `inputs` only).

    RuntimeError if an output requires no gradient, was freed by an earlier walk, or needs a value written in place since.
    """
    outputs = several(tensors)
    retain = create_graph if retain_graph is None else retain_graph
    roots = _roots("backward", outputs, grad_tensors, create_graph)
    wanted = None
    if inputs is not None:
        wanted = [_place(t) for t in several(inputs)]
        if not wanted or None in wanted:
            raise RuntimeError("backward: wanted inputs that require a gradient")
    before, mode.enabled = mode.enabled, create_graph
    try:
        arrived = _walk(roots, retain, create_graph, wanted)
        if wanted is None:
            for leaf in list(arrived):
                t = leaf.tensor()
                if t is not None:
                    t._receive(arrived.pop(leaf), create_graph)
                    if "_after" in t.__dict__:
                        _after(t)
        else:
            for t, node in zip(several(inputs), wanted, strict=True):
                t = t.node.variable if hasattr(t, "place") else t
                if node in arrived and t is not None:
                    t._receive(arrived[node], create_graph)
                    if "_after" in t.__dict__:
                        _after(t)
    finally:
        mode.enabled = before


def _after(t: Any) -> None:
    """Call the hooks of a leaf whose grad has just grown."""
    for hook in tuple(t._after.values()):
        hook(t)


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    only_inputs: bool = True,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Any, ...]:
    """The gradients of `outputs`, contracted with `grad_outputs`, with respect to `inputs`; no grad attribute changes.

    create_graph=True makes them differentiable; is_grads_batched takes many grad_outputs at once, along dimension 0, and
    gives as many gradients. RuntimeError for an input that the outputs do not depend on, unless allow_unused (its gradient
    is None) or materialize_grads (zeros).
    """
    if materialize_grads and allow_unused is False:
        raise ValueError("grad: wanted allow_unused=True, or not given, with materialize_grads=True")
    outputs, inputs = several(outputs), several(inputs)
    retain = create_graph if retain_graph is None else retain_graph
    if is_grads_batched:
        return _batched_grad(
            outputs, inputs, several(grad_outputs), retain, create_graph, allow_unused, materialize_grads
        )
    if not inputs:
        raise ValueError("grad: wanted inputs, saw none")
    for t in inputs:
        if not isinstance(t, Traced) and not hasattr(t, "place"):
            raise TypeError(f"grad: wanted tensors as inputs, saw {type(t).__name__}")
    wanted = [_place(t) for t in inputs]
    for t, node in zip(inputs, wanted, strict=True):
        if node is None:
            raise RuntimeError(f"grad: the input of shape {tuple(t.array.shape)} does not require a gradient")
    traced = create_graph
    if call.batching and any(hasattr(t, "levels") for t in (*outputs, *inputs, *several(grad_outputs))):
        from ..func.sides import roots as batched_roots

        roots, traced = batched_roots(outputs, several(grad_outputs), create_graph)
    else:
        roots = _roots("grad", outputs, grad_outputs, create_graph)
    before, mode.enabled = mode.enabled, create_graph
    try:
        arrived = _walk(roots, retain, traced, wanted)
        found: list[Any] = []
        for t, node in zip(inputs, wanted, strict=True):
            g = arrived.get(node)
            if g is None and not (allow_unused or materialize_grads):
                raise RuntimeError(
                    f"grad: the outputs do not depend on the input of shape {tuple(node.shape)}; pass "
                    "allow_unused=True to get None for it"
                )
            if g is None and materialize_grads:
                like = _Like(node) if hasattr(t, "place") else t
                g = wrap(namespace(like.array).zeros(like.array.shape, like.array.dtype))
            elif g is not None:
                g = g if isinstance(g, Traced) else wrap(g)
                if hasattr(t, "levels"):
                    from ..func.batched import implicit

                    g = implicit(g, t.levels)
            found.append(g)
    finally:
        mode.enabled = before
    return tuple(found)


def _batched_grad(
    outputs: tuple, inputs: tuple, gs: tuple, retain: bool, create: bool, allow_unused: Any, materialize: bool
) -> tuple:
    """grad for many grad_outputs at once: mapped over their first dimension; None stays None."""
    from ..func.mapping import vmap

    given = [i for i, g in enumerate(gs) if g is not None]
    missing: list[int] = []

    def one(*some: Any) -> tuple:
        every: list[Any] = [None] * len(outputs)
        for i, g in zip(given, some, strict=True):
            every[i] = g
        found = grad(
            outputs, inputs, tuple(every), retain_graph=retain, create_graph=create, allow_unused=allow_unused,
            materialize_grads=materialize,
        )  # fmt: skip
        missing[:] = [i for i, g in enumerate(found) if g is None]
        return tuple(g for g in found if g is not None)

    found = list(vmap(one)(*[gs[i] for i in given]))
    for i in missing:
        found.insert(i, None)
    return tuple(found)
