"""Gradients where tensors are batched: the tape's side of them, whole, and one sample's side."""

from __future__ import annotations

from typing import Any

from ..backend import is_array, namespace
from ..op import wrap
from ..ops import shape as shapes
from ..tape import Leaf, Traced
from ..traced import current
from .batched import batch, explicit, levels_of, lift, value_of


def roots(outputs: tuple, gradients: tuple, create: bool) -> tuple[list[tuple[Any, Any]], bool]:
    """((node, gradient) of each output with the samples of its own vmaps explicit, whether gradients are Tensors).

    A gradient that is batched by a vmap that the output is not inside of stays batched by it: the rules run mapped.
    """
    found, traced = [], create
    given = gradients or (None,) * len(outputs)
    if len(given) != len(outputs):
        raise RuntimeError(f"grad: wanted one gradient for each of {len(outputs)} outputs, saw {len(given)}")
    for y, g in zip(outputs, given, strict=True):
        node, levels = current(y), levels_of(y)
        if node is None:
            raise RuntimeError(f"grad: the tensor of shape {tuple(y.array.shape)} does not require a gradient")
        whole = value_of(y)
        if g is None:
            if y.array.size != 1:
                raise RuntimeError(
                    f"grad: a gradient is made up only for one element; saw an output of shape {tuple(y.array.shape)}"
                )
            g = wrap(namespace(whole.array).ones_like(whole.array))
        else:
            if tuple(g.shape) != tuple(y.array.shape):
                raise RuntimeError(
                    f"grad: wanted a gradient of the output's shape {tuple(y.array.shape)}, saw {tuple(g.shape)}"
                )
            g = explicit(wrap(g) if is_array(g) else g, levels)
            if tuple(g.shape) != whole.array.shape:
                g = shapes.expand(g, whole.array.shape)
        traced = traced or bool(levels_of(g))
        found.append((node, g))
    return (found if traced else [(n, g.array) for n, g in found]), traced


def alias(x: Any, tracked: bool) -> Any:
    """x at a place of its own on the tape, from which gradients are told apart from those of any other use of x; inside
    vmap with the samples of all that are under way. Without `tracked` x's own place on the tape is forgotten.
    """
    from ..backend import is_differentiable

    if not is_differentiable(x.array.dtype):
        raise RuntimeError(f"func: wanted floating or complex inputs to differentiate by, saw {x.array.dtype}")
    x = lift(x)
    value = value_of(x)
    if tracked and current(value) is not None:
        return batch(shapes.expand(value, tuple(value.array.shape)), levels_of(x))
    t = wrap(value.array)
    t.version = value.version
    t.node = Leaf(t)
    return batch(t, levels_of(x))


def reaches(outputs: Any, own: set[Any]) -> bool:
    """Whether the outputs depend on a leaf that is still there and not among `own`."""
    stack = [current(y) for y in outputs if isinstance(y, Traced)]
    stack = [n for n in stack if n is not None]
    seen = set(stack)
    while stack:
        node = stack.pop()
        if type(node) is Leaf:
            if node not in own and node.tensor() is not None:
                return True
            continue
        for edge in getattr(node, "edges", ()):
            if edge not in seen:
                seen.add(edge)
                stack.append(edge)
    return False


def zeros_like(x: Any) -> Any:
    """Zeros of x's shape, that of one sample if it is batched."""
    array = value_of(x).array
    return wrap(namespace(array).zeros(tuple(x.array.shape), array.dtype))
