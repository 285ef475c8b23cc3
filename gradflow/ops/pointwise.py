"""Elementwise functions and their gradients: one row each, and one __device__ line in kernels/pointwise.cuh."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..op import op


def row(head: str, definition: Callable[..., Any], doc: str, **options: Any) -> Callable[..., Any]:
    """Enter an elementwise op: `head` is its signature, "leaky_relu(x, negative_slope=0.01)"; see op.Op for the options."""
    name, _, parameters = head.partition("(")
    signature = eval(f"lambda {parameters.rstrip(')')}: None")
    arrays = [n for n in signature.__code__.co_varnames if f"d{n}" in options or n in ("x", "a", "b", "g", "y")]
    options.setdefault("promote", " ".join(arrays))
    options.setdefault("twin", "pointwise")
    return op(definition, name=name, signature=signature, doc=doc, **options)


add = row("add(a, b)", np.add, "a + b", da=lambda g: g, db=lambda g: g)
mul = row("mul(a, b)", np.multiply, "a * b", da=lambda g, b: g * b, db=lambda g, a: g * a)
tanh_backward = row("tanh_backward(g, y)", lambda g, y: g - g * y * y, "g (1 - y^2)", dg=lambda g, y: tanh_backward(g, y), dy=lambda g, y: g*y)
tanh = row("tanh(x)", np.tanh, "tanh", dx=lambda g, y: tanh_backward(g, y), floating=True)
