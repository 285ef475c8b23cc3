"""Recurrent layers on the card: for each step one matrix product and one launch, each way (kernels/rnn.cu)."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from ..backend import Array, is_floating, namespace
from . import gemm
from .launch import blocks, contiguous, ctype, launch

UNITS, SEQUENCES = 32, 4  # as in kernels/rnn.cu


def instantiations() -> list[str]:
    """Every kernel that the launchers below can ask for."""
    types = ("float", "double", "__half", "__nv_bfloat16")
    cells = [f"{kind}_{way}<{t}>" for kind, way, t in product(("lstm", "gru"), ("forward", "backward"), types)]
    plain = product(("forward", "backward"), types, ("true", "false"))
    return cells + [f"rnn_{way}<{t}, {relu}>" for way, t, relu in plain]


def _step(kernel: str, *args: Any, n: int, m: int, k: int) -> None:
    """Launch a cell's kernel for n sequences of m units, of which the first k are there."""
    launch("rnn", kernel, (blocks(n, SEQUENCES), blocks(m, UNITS)), (UNITS, SEQUENCES), *args, n, m, k)


def _takes(*arrays: Any) -> bool:
    """Whether all arrays have one floating dtype."""
    dtype = arrays[0].dtype
    return is_floating(dtype) and all(a is None or a.dtype == dtype for a in arrays)


def _order(steps: int, reverse: bool) -> range:
    return range(steps - 1, -1, -1) if reverse else range(steps)


def _accumulated(x: Array) -> Array:
    """A copy of x, without gaps, in the dtype to accumulate in."""
    return x.astype(np.float32 if x.dtype.itemsize == 2 else x.dtype, order="C")


def _product(x: Array, w: Array) -> Array:
    """x (t, n, f) by w (k, f) transposed: (t, n, k), without gaps."""
    t, n, f = x.shape
    return gemm.product(contiguous(x).reshape(t * n, f), w.T).reshape(t, n, w.shape[0])


def _maybe(x: Any) -> Any:
    return None if x is None else contiguous(x)


def _state(h: Array, y: Array, sizes: Any, t: int) -> Array:
    """The state after step t, whose output is y: y itself, and what the state was for sequences that are not there."""
    if sizes is None or sizes[t] == len(h):
        return y
    return namespace(y).concatenate((y[: sizes[t]], h[sizes[t] :]))


# --- LSTM ---------------------------------------------------------------------------------------------------


def lstm_layer(
    x: Array, h: Array, c: Array, w: Array, u: Array, b: Any, d: Any, p: Any, sizes: Any, reverse: bool, reserve: Any
) -> Any:
    """The twin of gradflow.ops.lstm.lstm_layer; reserve gets the gates and the cell states."""
    if not _takes(x, h, c, w, u, b, d, p):
        return NotImplemented
    xp, (steps, n, _), m = namespace(x), x.shape, c.shape[1]
    name, b, d = f"lstm_forward<{ctype(x.dtype)}>", _maybe(b), _maybe(d)
    gates, c, h = _product(x, w), _accumulated(c), contiguous(h)
    cells, y = xp.empty((steps, n, m), c.dtype), xp.empty((steps, n, u.shape[1]), x.dtype)
    for t in _order(steps, reverse):
        out = y[t] if p is None else xp.empty((n, m), x.dtype)
        k = n if sizes is None else sizes[t]
        _step(name, gates[t], gemm.product(h, u.T), b, d, c, cells[t], out, n=n, m=m, k=k)
        if p is not None:
            gemm.product(out, p.T, y[t])
        h, c = _state(h, y[t], sizes, t), cells[t]
    if reserve is not None:
        reserve[:] = [gates, cells]
    return y, h.copy(), c.astype(x.dtype)


def lstm_layer_backward(
    gy: Array, gh: Array, gc: Array, x: Array, h: Array, c: Array, w: Array, u: Array, b: Any, d: Any, p: Any, y: Any,
    sizes: Any, reverse: bool, reserve: Any, needs: tuple[bool, ...],
) -> Any:  # fmt: skip
    """The twin of gradflow.ops.lstm.lstm_layer_backward."""
    from ..ops.recurrence import before, rows, weight_gradients

    if not _takes(x, gy, gh, gc, h, c, w, u, b, d, p):
        return NotImplemented
    xp, (steps, n, _), m = namespace(x), x.shape, c.shape[1]
    if y is None or not reserve or len(reserve) != 2:
        reserve = []
        y, _, _ = lstm_layer(x, h, c, w, u, b, d, p, sizes, reverse, reserve)
    gates, cells = reserve
    name, gy, c = f"lstm_backward<{ctype(x.dtype)}>", contiguous(gy), _accumulated(c)
    dsums, dc, dh = xp.empty((steps, n, 4 * m), x.dtype), _accumulated(gc), contiguous(gh)
    projected = None if p is None else xp.empty_like(y)
    first = steps - 1 if reverse else 0
    for t in reversed(_order(steps, reverse)):
        k = n if sizes is None else sizes[t]
        state = c if t == first else cells[t + 1 if reverse else t - 1]
        e, later = gy[t], dh
        if projected is not None:
            xp.add(e, dh, out=projected[t])
            projected[t, k:] = 0
            e, later = gemm.product(projected[t], p), None
        _step(name, e, later, dc, gates[t], state, cells[t], dsums[t], n=n, m=m, k=k)
        dh = _state(dh, gemm.product(dsums[t], u), sizes, t)
    flat = rows(dsums)
    hp = before(h, y, sizes, reverse) if needs[4] else None
    dx, dw, du, db, dd = weight_gradients((needs[0], *needs[3:7]), x, hp, w, b, d, flat, flat)
    dp = None
    if projected is not None and needs[7]:
        dp = gemm.product(rows(projected).T, rows(gates[:, :, 3 * m :] * xp.tanh(cells).astype(x.dtype)))
    return dx, dh if needs[1] else None, dc.astype(x.dtype) if needs[2] else None, dw, du, db, dd, dp


# --- GRU ----------------------------------------------------------------------------------------------------


def gru_layer(
    x: Array, h: Array, w: Array, u: Array, b: Any, d: Any, sizes: Any, reverse: bool, reserve: Any
) -> Any:
    """The twin of gradflow.ops.gru.gru_layer; reserve gets the gates and the state's part of n."""
    if not _takes(x, h, w, u, b, d):
        return NotImplemented
    xp, (steps, n, _), m = namespace(x), x.shape, h.shape[1]
    name, b, d = f"gru_forward<{ctype(x.dtype)}>", _maybe(b), _maybe(d)
    gates, h = _product(x, w), contiguous(h)
    y = xp.empty((steps, n, m), x.dtype)
    inner = xp.zeros_like(y) if sizes else xp.empty_like(y)
    for t in _order(steps, reverse):
        k = n if sizes is None else sizes[t]
        _step(name, gates[t], gemm.product(h, u.T), b, d, h, inner[t], y[t], n=n, m=m, k=k)
        h = _state(h, y[t], sizes, t)
    if reserve is not None:
        reserve[:] = [gates, inner]
    return y, h.copy()


def gru_layer_backward(
    gy: Array, gh: Array, x: Array, h: Array, w: Array, u: Array, b: Any, d: Any, y: Any, sizes: Any, reverse: bool,
    reserve: Any, needs: tuple[bool, ...],
) -> Any:  # fmt: skip
    """The twin of gradflow.ops.gru.gru_layer_backward."""
    from ..ops.recurrence import before, rows, weight_gradients

    if not _takes(x, gy, gh, h, w, u, b, d):
        return NotImplemented
    xp, (steps, n, _), m = namespace(x), x.shape, h.shape[1]
    if y is None or not reserve or len(reserve) != 2:
        reserve = []
        y, _ = gru_layer(x, h, w, u, b, d, sizes, reverse, reserve)
    gates, inner = reserve
    name, gy, hp = f"gru_backward<{ctype(x.dtype)}>", contiguous(gy), before(h, y, sizes, reverse)
    gx, gu = xp.empty((steps, n, 3 * m), x.dtype), xp.empty((steps, n, 3 * m), x.dtype)
    through, part = _accumulated(gh), None
    for t in reversed(_order(steps, reverse)):
        k = n if sizes is None else sizes[t]
        _step(name, gy[t], part, through, gates[t], hp[t], inner[t], gx[t], gu[t], n=n, m=m, k=k)
        part = gemm.product(gu[t], u)
    dx, dw, du, db, dd = weight_gradients((needs[0], *needs[2:]), x, hp, w, b, d, rows(gx), rows(gu))
    return dx, (through + part).astype(x.dtype) if needs[1] else None, dw, du, db, dd


# --- the plain layer ------------------------------------------------------------------------------------------


def rnn_layer(
    x: Array, h: Array, w: Array, u: Array, b: Any, d: Any, relu: bool, sizes: Any, reverse: bool
) -> Any:
    """The twin of gradflow.ops.recurrence.rnn_layer."""
    if not _takes(x, h, w, u, b, d):
        return NotImplemented
    (steps, n, _), m = x.shape, h.shape[1]
    name, b, d = f"rnn_forward<{ctype(x.dtype)}, {str(bool(relu)).lower()}>", _maybe(b), _maybe(d)
    y = _product(x, w)
    for t in _order(steps, reverse):
        _step(name, y[t], gemm.product(h, u.T), b, d, n=n, m=m, k=n if sizes is None else sizes[t])
        h = _state(h, y[t], sizes, t)
    return y, h.copy()


def rnn_layer_backward(
    gy: Array, gh: Array, x: Array, h: Array, w: Array, u: Array, b: Any, d: Any, y: Any, relu: bool, sizes: Any,
    reverse: bool, needs: tuple[bool, ...],
) -> Any:  # fmt: skip
    """The twin of gradflow.ops.recurrence.rnn_layer_backward."""
    from ..ops.recurrence import before, rows, weight_gradients

    if not _takes(x, gy, gh, h, w, u, b, d):
        return NotImplemented
    (steps, n, _), m = x.shape, h.shape[1]
    if y is None:
        y, _ = rnn_layer(x, h, w, u, b, d, relu, sizes, reverse)
    name, y, gy = f"rnn_backward<{ctype(x.dtype)}, {str(bool(relu)).lower()}>", contiguous(y), contiguous(gy)
    dsums, dh = namespace(x).empty((steps, n, m), x.dtype), contiguous(gh)
    for t in reversed(_order(steps, reverse)):
        _step(name, gy[t], dh, y[t], dsums[t], n=n, m=m, k=n if sizes is None else sizes[t])
        dh = _state(dh, gemm.product(dsums[t], u), sizes, t)
    hp = before(h, y, sizes, reverse) if needs[3] else None
    flat = rows(dsums)
    dx, dw, du, db, dd = weight_gradients((needs[0], *needs[2:]), x, hp, w, b, d, flat, flat)
    return dx, dh if needs[1] else None, dw, du, db, dd
