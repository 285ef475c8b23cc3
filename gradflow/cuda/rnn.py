"""Recurrent layers on the card: for each step one launch that has the matrix product in it, each way (kernels/rnn.cu).

Where a library multiplies faster, for many sequences or units, a step is its product and a launch; the tuner may know better
than the guess. In float32 the products inside are of TF32 if torch.backends.cudnn.allow_tf32 says so, as cuDNN's are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import product
from typing import Any

import numpy as np

from ..backend import Array, is_floating, namespace
from . import gemm, precision, tune
from .launch import GRID_LIMIT, aligned, blocks, capability, contiguous, ctype, fire, launch, load

UNITS, SEQUENCES = 32, 4  # as in kernels/rnn.cu
THREADS, FORWARD, BACKWARD = 256, 32, 16  # of a block whose launch multiplies too: threads, and sequences each way
FUSED_UP_TO = 32 << 20  # bytes that the blocks of a step read in all (a guess: what the second-level cache gives in 6 us)


def instantiations() -> list[str]:
    """Every kernel that the launchers below can ask for."""
    types = ("float", "double", "__half", "__nv_bfloat16")
    cells = [f"{kind}_{way}<{t}>" for kind, way, t in product(("lstm", "gru"), ("forward", "backward"), types)]
    plain = product(("forward", "backward"), types, ("true", "false"))
    kinds = ("float, true", "float, false", "double, false", "__half, true", "__nv_bfloat16, true")
    steps = [f"{kind}_{way}<{t}>" for kind, way, t in product(("lstm", "gru", "rnn"), ("step", "step_backward"), kinds)]
    return cells + [f"rnn_{way}<{t}, {relu}>" for way, t, relu in plain] + steps


def _step(kernel: str, *args: Any, n: int, m: int, k: int) -> None:
    """Launch a cell's kernel for n sequences of m units, of which the first k are there, after the product."""
    launch("rnn", kernel, (blocks(n, SEQUENCES), blocks(m, UNITS)), (UNITS, SEQUENCES), *args, n, m, k)


def _whole(kernel: str, sequences: int, arrays: tuple, n: int, m: int, steps: Iterable[tuple]) -> None:
    """The same of a kernel that multiplies itself, for all steps: their numbers, after arrays without gaps of all steps."""
    if n and m:
        f, grid = load("rnn", kernel), (blocks(m, THREADS // sequences), blocks(n, sequences))
        for step in steps:
            fire(f, grid, (THREADS,), (*arrays, n, m, *step), arrays[0])


def _takes(*arrays: Any) -> bool:
    """Whether all arrays have one floating dtype."""
    dtype = arrays[0].dtype
    return is_floating(dtype) and all(a is None or a.dtype == dtype for a in arrays)


def _walk(steps: int, n: int, sizes: Any, reverse: bool) -> list[tuple[int, int]]:
    """(step, how many sequences are there) in the order of computation."""
    order = range(steps - 1, -1, -1) if reverse else range(steps)
    return [(t, n if sizes is None else int(sizes[t])) for t in order]


def _accumulated(x: Array, copy: bool = True) -> Array:
    """A copy of x, without gaps, in the dtype to accumulate in; x itself if it is so and copy is False."""
    kind = np.float32 if x.dtype.itemsize == 2 else x.dtype
    return x.astype(kind, order="C") if copy else contiguous(x.astype(kind, copy=False))


def _product(x: Array, w: Array) -> Array:
    """x (t, n, f) by w (k, f) transposed: (t, n, k), without gaps."""
    t, n, f = x.shape
    return contiguous(gemm.product(x.reshape(t * n, f), w.T)).reshape(t, n, w.shape[0])


def _maybe(x: Any) -> Any:
    return None if x is None else contiguous(x)


def _state(h: Array, y: Array, sizes: Any, t: int) -> Array:
    """The state after step t, whose output is y: y itself, and what the state was for sequences that are not there."""
    if sizes is None or sizes[t] == len(h):
        return y
    return namespace(y).concatenate((y[: sizes[t]], h[sizes[t] :]))


# --- which way ----------------------------------------------------------------------------------------------


def _chosen(kind: str, x: Array, h: Array, u: Array, p: Any, sizes: Any, run: Callable[[str], Any]) -> Any:
    """run(way) by the better way: "" for a product and a launch, else what *_step of kernels/rnn.cu is named with."""
    ways = _ways(kind, x.dtype, h, u, p)
    if len(ways) == 1:
        return run(ways[0])
    key = (kind, x.dtype.name, *ways, len(h), *u.shape, int(sizes is None))
    return run(tune.choose("rnn", key, ways, run))


def _ways(kind: str, dtype: np.dtype, h: Array, u: Array, p: Any) -> list[str]:
    """The ways to do a layer's steps, the better first by a guess."""
    (n, m), g = h.shape, u.shape[0]
    tensor_cores = capability() >= (8, 0) and (dtype.itemsize == 2 or (dtype == np.float32 and precision.conv_tf32()))
    if p is not None or m * dtype.itemsize % 16 or not aligned(h, u) or (dtype.itemsize == 2 and not tensor_cores):
        return [""]
    if blocks(n, BACKWARD) > GRID_LIMIT[1]:
        return [""]
    sequences, length = (BACKWARD, g) if kind.endswith("backward") else (FORWARD, m)
    lines = sequences + THREADS // sequences * (1 if kind.endswith("backward") else g // m)
    read = blocks(n, sequences) * blocks(m, THREADS // sequences) * lines * length * dtype.itemsize
    own = f"{ctype(dtype)}, {str(bool(tensor_cores)).lower()}"
    return [own, ""] if read <= FUSED_UP_TO else ["", own]


def _forth(walk: list[tuple[int, int]], sizes: Any) -> Iterator[tuple]:
    """Of each step: its number, that of the step before (-1 for none), how many sequences are and were there, and whether
    the states after it are the last of some.
    """
    s, ks = -1, 0
    for t, k in walk:
        yield t, s, k, ks, np.bool_(sizes is not None or t == walk[-1][0])
        s, ks = t, k


def _back(walk: list[tuple[int, int]]) -> Iterator[tuple[int, int, int, int, int]]:
    """Of each step, the last first: its number, that of the step before, how many sequences are there, and of the step
    after the number and how many were there.
    """
    later, kl = -1, 0
    for i in range(len(walk) - 1, -1, -1):
        t, k = walk[i]
        yield t, walk[i - 1][0] if i else -1, k, later, kl
        later, kl = t, k


def _kept(h: Array, steps: int, sizes: Any) -> Array:
    """Where the states after the last step of each sequence will be."""
    return namespace(h).empty_like(h, order="C") if sizes is None and steps else h.copy()


# --- LSTM ---------------------------------------------------------------------------------------------------


def lstm_layer(
    x: Array, h: Array, c: Array, w: Array, u: Array, b: Any, d: Any, p: Any, sizes: Any, reverse: bool, reserve: Any
) -> Any:
    """The twin of gradflow.ops.lstm.lstm_layer; reserve gets the gates and the cell states."""
    if not _takes(x, h, c, w, u, b, d, p):
        return NotImplemented
    xp, (steps, n, _), m = namespace(x), x.shape, c.shape[1]
    b, d, u, given, first = _maybe(b), _maybe(d), contiguous(u), contiguous(h), _accumulated(c, copy=False)
    walk = _walk(steps, n, sizes, reverse)

    def run(way: str) -> tuple[Array, Array, Array]:
        gates, h, c = _product(x, w), given, first
        cells, y = xp.empty((steps, n, m), c.dtype), xp.empty((steps, n, u.shape[1]), x.dtype)
        if reserve is not None:
            reserve[:] = [gates, cells]
        if way:
            last = _kept(h, steps, sizes)
            _whole(f"lstm_step<{way}>", FORWARD, (gates, h, u, b, d, c, cells, y, last), n, m, _forth(walk, sizes))
            return y, last, (cells[walk[-1][0]] if walk else c).astype(x.dtype)
        name = f"lstm_forward<{ctype(x.dtype)}>"
        for t, k in walk:
            out = y[t] if p is None else xp.empty((n, m), x.dtype)
            _step(name, gates[t], contiguous(gemm.product(h, u.T)), b, d, c, cells[t], out, n=n, m=m, k=k)
            if p is not None:
                y[t] = gemm.product(out, p.T)
            h, c = _state(h, y[t], sizes, t), cells[t]
        return y, h.copy(), c.astype(x.dtype)

    return _chosen("lstm", x, given, u, p, sizes, run)


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
    gy, u, first = contiguous(gy), contiguous(u), _accumulated(c, copy=False)
    walk = _walk(steps, n, sizes, reverse)

    def run(way: str) -> tuple[Array, Any, Array, Any]:
        dsums, dc, dh = xp.empty((steps, n, 4 * m), x.dtype), _accumulated(gc), contiguous(gh)
        if way:
            ut, carry = xp.ascontiguousarray(u.T), _accumulated(gh)
            back = ((*step, np.bool_(sizes is not None or step[3] < 0)) for step in _back(walk))
            arrays = (gy, dsums, ut, carry, dc, gates, first, cells)
            _whole(f"lstm_step_backward<{way}>", BACKWARD, arrays, n, m, back)
            return dsums, _given(walk, dsums, u, carry, sizes, needs[1]), dc, None
        name = f"lstm_backward<{ctype(x.dtype)}>"
        projected = None if p is None else xp.empty_like(y)
        for t, s, k, _, _ in _back(walk):
            e, then = gy[t], dh
            if projected is not None:
                xp.add(e, dh, out=projected[t])
                projected[t, k:] = 0
                e, then = contiguous(gemm.product(projected[t], p)), None
            _step(name, e, then, dc, gates[t], first if s < 0 else cells[s], cells[t], dsums[t], n=n, m=m, k=k)
            dh = _state(dh, contiguous(gemm.product(dsums[t], u)), sizes, t)
        return dsums, dh, dc, projected

    dsums, dh, dc, projected = _chosen("lstm_backward", x, h, u, p, sizes, run)
    flat = rows(dsums)
    hp = before(h, y, sizes, reverse) if needs[4] else None
    dx, dw, du, db, dd = weight_gradients((needs[0], *needs[3:7]), x, hp, w, b, d, flat, flat)
    dp = None
    if projected is not None and needs[7]:
        dp = gemm.product(rows(projected).T, rows(gates[:, :, 3 * m :] * xp.tanh(cells).astype(x.dtype)))
    return dx, dh if needs[1] else None, dc.astype(x.dtype) if needs[2] else None, dw, du, db, dd, dp


def _given(walk: list[tuple[int, int]], dsums: Array, u: Array, carry: Array, sizes: Any, needed: bool) -> Any:
    """The gradient of the given state, from those of the first step's sums and what reaches it besides."""
    if not needed:
        return None
    if not walk:
        return carry.astype(u.dtype)
    dh = gemm.product(dsums[walk[0][0]], u)
    return dh if sizes is None else (dh + carry).astype(u.dtype)


# --- GRU ----------------------------------------------------------------------------------------------------


def gru_layer(
    x: Array, h: Array, w: Array, u: Array, b: Any, d: Any, sizes: Any, reverse: bool, reserve: Any
) -> Any:
    """The twin of gradflow.ops.gru.gru_layer; reserve gets the gates and the state's part of n."""
    if not _takes(x, h, w, u, b, d):
        return NotImplemented
    xp, (steps, n, _), m = namespace(x), x.shape, h.shape[1]
    b, d, u, given = _maybe(b), _maybe(d), contiguous(u), contiguous(h)
    walk = _walk(steps, n, sizes, reverse)

    def run(way: str) -> tuple[Array, Array]:
        gates, h, y = _product(x, w), given, xp.empty((steps, n, m), x.dtype)
        inner = xp.zeros_like(y) if sizes else xp.empty_like(y)
        if reserve is not None:
            reserve[:] = [gates, inner]
        if way:
            last = _kept(h, steps, sizes)
            _whole(f"gru_step<{way}>", FORWARD, (gates, h, u, b, d, inner, y, last), n, m, _forth(walk, sizes))
            return y, last
        name = f"gru_forward<{ctype(x.dtype)}>"
        for t, k in walk:
            _step(name, gates[t], contiguous(gemm.product(h, u.T)), b, d, h, inner[t], y[t], n=n, m=m, k=k)
            h = _state(h, y[t], sizes, t)
        return y, h.copy()

    return _chosen("gru", x, given, u, None, sizes, run)


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
    gy, u, hp = contiguous(gy), contiguous(u), before(h, y, sizes, reverse)
    walk = _walk(steps, n, sizes, reverse)

    def run(way: str) -> tuple[Array, Array, Any]:
        gx, gu = xp.empty((steps, n, 3 * m), x.dtype), xp.empty((steps, n, 3 * m), x.dtype)
        through = _accumulated(gh)
        if way:
            arrays = (gy, gx, gu, xp.ascontiguousarray(u.T), through, gates, hp, inner)
            back = ((t, k, later, kl) for t, _, k, later, kl in _back(walk))
            _whole(f"gru_step_backward<{way}>", BACKWARD, arrays, n, m, back)
            return gx, gu, _given(walk, gu, u, through, (), needs[1])
        name, part = f"gru_backward<{ctype(x.dtype)}>", None
        for t, k in reversed(walk):
            _step(name, gy[t], part, through, gates[t], hp[t], inner[t], gx[t], gu[t], n=n, m=m, k=k)
            part = contiguous(gemm.product(gu[t], u))
        return gx, gu, (through + part).astype(x.dtype) if part is not None else through.astype(x.dtype)

    gx, gu, dh = _chosen("gru_backward", x, h, u, None, sizes, run)
    dx, dw, du, db, dd = weight_gradients((needs[0], *needs[2:]), x, hp, w, b, d, rows(gx), rows(gu))
    return dx, dh if needs[1] else None, dw, du, db, dd


# --- the plain layer ------------------------------------------------------------------------------------------


def rnn_layer(
    x: Array, h: Array, w: Array, u: Array, b: Any, d: Any, relu: bool, sizes: Any, reverse: bool
) -> Any:
    """The twin of gradflow.ops.recurrence.rnn_layer."""
    if not _takes(x, h, w, u, b, d):
        return NotImplemented
    (steps, n, _), m, relu = x.shape, h.shape[1], bool(relu)
    b, d, u, given = _maybe(b), _maybe(d), contiguous(u), contiguous(h)
    walk = _walk(steps, n, sizes, reverse)

    def run(way: str) -> tuple[Array, Array]:
        y, h = _product(x, w), given
        if way:
            last = _kept(h, steps, sizes)
            _whole(f"rnn_step<{way}>", FORWARD, (y, h, u, b, d, last, np.bool_(relu)), n, m, _forth(walk, sizes))
            return y, last
        name = f"rnn_forward<{ctype(x.dtype)}, {str(relu).lower()}>"
        for t, k in walk:
            _step(name, y[t], contiguous(gemm.product(h, u.T)), b, d, n=n, m=m, k=k)
            h = _state(h, y[t], sizes, t)
        return y, h.copy()

    return _chosen("rnn", x, given, u, None, sizes, run)


def rnn_layer_backward(
    gy: Array, gh: Array, x: Array, h: Array, w: Array, u: Array, b: Any, d: Any, y: Any, relu: bool, sizes: Any,
    reverse: bool, needs: tuple[bool, ...],
) -> Any:  # fmt: skip
    """The twin of gradflow.ops.recurrence.rnn_layer_backward."""
    from ..ops.recurrence import before, rows, weight_gradients

    if not _takes(x, gy, gh, h, w, u, b, d):
        return NotImplemented
    xp, (steps, n, _), m, relu = namespace(x), x.shape, h.shape[1], bool(relu)
    if y is None:
        y, _ = rnn_layer(x, h, w, u, b, d, relu, sizes, reverse)
    y, gy, u = contiguous(y), contiguous(gy), contiguous(u)
    walk = _walk(steps, n, sizes, reverse)

    def run(way: str) -> tuple[Array, Any]:
        dsums, dh = xp.empty((steps, n, m), x.dtype), contiguous(gh)
        if way:
            ut, carry = xp.ascontiguousarray(u.T), _accumulated(gh)
            back = ((t, k, later, kl, np.bool_(sizes is not None or later < 0)) for t, _, k, later, kl in _back(walk))
            _whole(f"rnn_step_backward<{way}>", BACKWARD, (gy, dsums, ut, carry, y, np.bool_(relu)), n, m, back)
            return dsums, _given(walk, dsums, u, carry, sizes, needs[1])
        name = f"rnn_backward<{ctype(x.dtype)}, {str(relu).lower()}>"
        for t, k in reversed(walk):
            _step(name, gy[t], dh, y[t], dsums[t], n=n, m=m, k=k)
            dh = _state(dh, contiguous(gemm.product(dsums[t], u)), sizes, t)
        return dsums, dh

    dsums, dh = _chosen("rnn_backward", x, h, u, None, sizes, run)
    hp = before(h, y, sizes, reverse) if needs[3] else None
    flat = rows(dsums)
    dx, dw, du, db, dd = weight_gradients((needs[0], *needs[2:]), x, hp, w, b, d, flat, flat)
    return dx, dh if needs[1] else None, dw, du, db, dd
