"""Replay: the rule of a gradient that was written by hand, found by recording the forward pass anew from ops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .. import tape
from ..backend import is_differentiable
from ..call import sampled
from ..op import wrap
from ..tape import Leaf, Traced, mode
from . import shape


@sampled()
def replay(
    function: Callable[..., tuple], gradients: Sequence[Any], inputs: Sequence[Any], cotangents: Sequence[Any]
) -> list[Any]:
    """The rule of B(gradients, inputs), the gradients of <function(*inputs), gradients> with respect to the inputs.

    B is an op whose definition was written by hand for speed. Its own rule, asked for only by second derivatives, needs
    no hand: `function` computes the same outputs from ops, so the tape gives B once more, recorded, and the tape gives
    the gradients of <B, cotangents>. Returned for all gradients and inputs in turn, None where nothing depends; arrays
    for arrays, Tensors for Tensors, so any order follows. An input or cotangent may be None.
    """
    traced = any(isinstance(v, Traced) for v in (*gradients, *inputs, *cotangents))
    before, mode.enabled = mode.enabled, True
    try:
        gs, xs = [_fresh(v) for v in gradients], [_fresh(v) for v in inputs]
        outputs = function(*xs)
        roots = [(y.node, g) for y, g in zip(outputs, gs, strict=True) if g is not None and y.node is not None]
        first = tape.backward(roots, retain=True, create=True, wanted=[x.node for x in xs if _has_node(x)])
        roots = []
        for x, u in zip(xs, cotangents, strict=True):
            dx = first.get(x.node) if _has_node(x) else None
            if u is not None and dx is not None and dx.node is not None:
                roots.append((dx.node, wrap(u) if traced and not isinstance(u, Traced) else u))
        wanted = [v.node for v in (*gs, *xs) if _has_node(v)]
        found = tape.backward(roots, retain=traced, create=traced, wanted=wanted)
    finally:
        mode.enabled = before
    return [found.get(v.node) if _has_node(v) else None for v in (*gs, *xs)]


def _has_node(x: Any) -> bool:
    return isinstance(x, Traced) and x.node is not None


def _fresh(x: Any) -> Any:
    """x at a place of its own on the tape, so that gradients stop there and not at what x was made from."""
    if isinstance(x, Traced) and x.node is not None:
        return shape.reshape(x, x.array.shape)
    if x is None:
        return None
    t = wrap(x.array if isinstance(x, Traced) else x)
    if is_differentiable(t.array.dtype):
        t.node = Leaf(t)
    return t
