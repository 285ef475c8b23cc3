"""Batching rules of products and convolutions: the samples become a stack of matrices, or rows, or groups of channels."""

from __future__ import annotations

import math
from typing import Any

from ..ops import conv, linalg, pointwise
from ..ops import shape as shapes
from .dispatch import Call, expand
from .places import apart, beside, folded, unfolded
from .rules import meaning, raised, rule


def _column(x: Any) -> Any:
    return shapes.reshape(x, (*x.shape, 1))


def _row(x: Any) -> Any:
    return shapes.reshape(x, (*x.shape[:-1], 1, x.shape[-1]))


@rule("matmul")
def _matmul(c: Call) -> Any:
    (x, w), (xb, wb) = c.args, c.flags
    rx, rw = x.ndim - bool(xb), w.ndim - bool(wb)
    if not rx or not rw:
        return NotImplemented
    if not wb and rw <= 2:
        return linalg.matmul(x, w)
    if xb and wb and rx == rw == 1:
        return shapes.reshape(linalg.matmul(_row(x), _column(w)), (c.n,))
    if rx == 1:
        x = _row(x)
    if rw == 1:
        w = _column(w)
    most = max(x.ndim - bool(xb), w.ndim - bool(wb))
    x, w = raised(x, most) if xb else x, raised(w, most) if wb else w
    y = linalg.matmul(x, w)
    s = tuple(y.shape)
    if rw == 1:
        s = s[:-1]
    if rx == 1:
        s = (*s[:-2], s[-1]) if rw > 1 else s[:-1]
    return shapes.reshape(y, s) if s != tuple(y.shape) else y


def _mT(x: Any) -> Any:
    return shapes.transpose(x, -1, -2)


@rule("linear")
def _linear(c: Call) -> Any:
    """With weights that are the same for all, which is all that gets here."""
    return c.run()


@meaning("linear")
def _linear_meaning(x: Any, w: Any, b: Any = None) -> Any:
    from .batched import Batched

    if type(w) is not Batched and type(b) is not Batched:
        return NotImplemented
    if type(w) is not Batched:
        y = linalg.linear(x, w)
    else:
        y = linalg.matmul(x, _mT(w)) if w.ndim == 2 else linalg.matmul(x, w)
    return y if b is None else pointwise.add(y, b)


@meaning("linear_activation")
def _linear_activation(x: Any, w: Any, b: Any = None, activation: str = "relu") -> Any:
    return conv.ACTIVATIONS[activation].function(linalg.linear(x, w, b))


def _conv_activation(rank: int) -> None:
    def meant(x: Any, w: Any, b: Any = None, activation: str = "relu", *window: Any) -> Any:
        return conv.ACTIVATIONS[activation].function(getattr(conv, f"conv{rank}d")(x, w, b, *window))

    meaning(f"conv{rank}d_activation")(meant)


for _rank in (1, 2, 3):
    _conv_activation(_rank)


@meaning("linear_weight")
def _linear_weight(x: Any, w: Any) -> Any:
    rows = math.prod(x.shape[:-1])
    return linalg.matmul(_mT(shapes.reshape(x, (rows, x.shape[-1]))), shapes.reshape(w, (rows, w.shape[-1])))


@meaning("addmatmul")
def _addmatmul(c: Any, x: Any, w: Any, beta: Any = 1, alpha: Any = 1) -> Any:
    y = linalg.matmul(x, w)
    y = y if type(alpha) is int and alpha == 1 else y * alpha
    if not hasattr(beta, "ndim") and beta == 0:
        return y
    return y + (c if type(beta) is int and beta == 1 else c * beta)


# --- convolutions -------------------------------------------------------------------------------------------
# x (N, C, ...) with samples first is folded into N where the weights are the same for all; else samples are groups.


def _up(x: Any, whole: int) -> Any:
    """x, samples first, with a batch dimension of one if it had none."""
    return x if x.ndim == whole + 1 else shapes.reshape(x, (x.shape[0], 1, *x.shape[1:]))


def _convolution(c: Call) -> Any:
    """conv and conv_transpose: x (N, C, ...), w (C, O / groups, ...) or (O, C / groups, ...), b (O)."""
    if not c.n:
        return NotImplemented
    x, w, b = c["x"], c["w"], c["b"]
    whole = c.rank("w")
    single = c.rank("x") == whole - 1
    own_bias = b is not None and bool(c.batched("b"))
    bias = None if own_bias or c.batched("w") else b
    if not c.batched("w"):
        if c.batched("x"):
            y = unfolded(c.run(x=folded(_up(x, whole)), b=bias), c.n)
        else:
            y = expand(c.run(x=x if not single else shapes.reshape(x, (1, *x.shape)), b=None), False, c.n)
    else:
        x = _up(expand(x, c.batched("x"), c.n), whole)
        y = apart(c.run(x=beside(x), w=folded(w), b=None, groups=c.n * c["groups"]), c.n)
    if b is not None and bias is None:
        y = y + shapes.reshape(b, (c.n if own_bias else 1, 1, -1, *(1,) * (whole - 2)))
    return shapes.reshape(y, (c.n, *y.shape[2:])) if single else y


def _input_gradient(c: Call) -> Any:
    """conv_input(g, w, x_shape): folded, or with the samples as groups."""
    if not c.n:
        return NotImplemented
    g, s, whole = c["g"], tuple(c["x_shape"]), c.rank("w")
    single = len(s) == whole - 1
    s4 = (1, *s) if single else s
    g = _up(expand(g, c.batched("g"), c.n), whole)
    if not c.batched("w"):
        y = unfolded(c.run(g=folded(g), x_shape=(c.n * s4[0], *s4[1:])), c.n)
    else:
        y = c.run(g=beside(g), w=folded(c["w"]), x_shape=(s4[0], c.n * s4[1], *s4[2:]), groups=c.n * c["groups"])
        y = apart(y, c.n)
    return shapes.reshape(y, (c.n, *s)) if single else y


def _weight_gradient(c: Call) -> Any:
    """conv_weight(g, x, w_shape): the samples as groups."""
    if not c.n:
        return NotImplemented
    s, whole = tuple(c["w_shape"]), len(c["w_shape"])
    g, x = beside(_up(c.full("g"), whole)), beside(_up(c.full("x"), whole))
    return unfolded(c.run(g=g, x=x, w_shape=(c.n * s[0], *s[1:]), groups=c.n * c["groups"]), c.n)


for _rank in (1, 2, 3):
    rule(f"conv{_rank}d conv_transpose{_rank}d", _convolution)
    rule(f"conv{_rank}d_input", _input_gradient)
    rule(f"conv{_rank}d_weight", _weight_gradient)
