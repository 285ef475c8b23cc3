"""What the recurrent layers share, and the plain one: one op runs one layer in one direction over all steps.

All sums over the inputs of all steps are single matrix products; what is left for each step is one small product with
the recurrent weight and the cell's arithmetic. On the CPU the gates of a step lie one after the other, (gate, n, h), so
that this arithmetic is a few calls on gapless blocks. On the card it is one launch for each step. The gradients are
written by hand; theirs are found by replay.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backend import namespace
from ..cases import Sampler, case
from ..dtypes import widened
from ..op import op
from . import linalg, pointwise, shape
from .replay import replay


def wide(*arrays: Any) -> list[Any]:
    """The arrays in the dtype to compute in: float32 for half types."""
    return [None if v is None else widened(v) for v in arrays]


def order(steps: int, reverse: bool) -> range:
    """The steps in the order in which they are computed."""
    return range(steps - 1, -1, -1) if reverse else range(steps)


def before(h: Any, y: Any, sizes: Any, reverse: bool) -> Any:
    """The state each step started from, (t, n, h): y one step earlier, and h at the first."""
    xp = namespace(y)
    h = h[None] if h.dtype == y.dtype else h[None].astype(y.dtype)
    if not reverse:
        return xp.concatenate((h, y[:-1]))
    found = xp.concatenate((y[1:], h))
    if sizes is not None:  # backwards a sequence starts at its own last step
        for t, n in enumerate(sizes[1:]):
            if n != sizes[t]:
                found[t, n : sizes[t]] = h[0, n : sizes[t]]
    return found


def gate_sums(x: Any, w: Any, b: Any, d: Any, k: int) -> Any:
    """The input's part of the gates, x w^T + b + d, of all steps, as (t, gate, n, h)."""
    t, n, f = x.shape
    a = x.reshape(t * n, f).dot(w.T)
    if b is not None or d is not None:
        a += b if d is None else d if b is None else b + d
    return a.reshape(t, n, k, w.shape[0] // k).transpose(0, 2, 1, 3)


def rows(v: Any) -> Any:
    """(t, n, k) as (t n, k)."""
    return v.reshape(v.shape[0] * v.shape[1], v.shape[2])


def weight_gradients(needs: Any, x: Any, hp: Any, w: Any, b: Any, d: Any, gx: Any, gh: Any) -> tuple[Any, ...]:
    """dx, dw, du, db, dd from the gradients gx and gh, (t n, k h), of the input's and the state's part of the gates.

    needs is for these five; hp, (t, n, q), is the state that each step started from.
    """
    with_b, with_d = needs[3] and b is not None, needs[4] and d is not None
    dx = linalg.matmul(gx, w).reshape(x.shape) if needs[0] else None
    dw = linalg.linear_weight(gx, rows(x)) if needs[1] else None
    du = linalg.linear_weight(gh, rows(hp)) if needs[2] else None
    wide = np.float32 if gx.dtype.itemsize == 2 else gx.dtype  # on the card they may be of a half type
    db = gx.sum(0, dtype=wide).astype(gx.dtype, copy=False) if with_b else None
    dd = (db if gx is gh and with_b else gh.sum(0, dtype=wide).astype(gx.dtype, copy=False)) if with_d else None
    return dx, dw, du, db, dd


def cast(kind: np.dtype, *arrays: Any) -> tuple[Any, ...]:
    """The arrays in the dtype `kind`."""
    return tuple(None if v is None else v if v.dtype == kind else v.astype(kind) for v in arrays)


def layer_cases(r: Sampler, gates: int, cell: bool, proj: bool = False, **constants: Any) -> list[case]:
    """Cases of a layer: shapes (t, n, f, h), with and without biases, backwards, sequences of unequal length."""

    def one(t: int, n: int, f: int, h: int, bias: bool = True, p: int = 0, strided: bool = False, **kw: Any) -> case:
        q = p or h
        k = gates * h
        x = r.strided(t, n, f) if strided else r(t, n, f)
        states = (r(n, q), r(n, h)) if cell else (r(n, q),)
        biases = (r(k) / 2, r(k) / 2) if bias else (None, None)
        last = ((r(p, h) / 2 if p else None),) if proj else ()
        return case(x, *states, r(k, f) / 2, r(k, q) / 2, *biases, *last, **kw, **constants)

    found = [
        one(3, 2, 3, 4),
        one(1, 2, 3, 1, bias=False),
        one(3, 3, 2, 2, reverse=True),
        one(3, 3, 2, 2, sizes=(3, 2, 1)),
        one(4, 3, 2, 2, sizes=(3, 3, 1, 1), reverse=True),
        one(2, 2, 2, 3, strided=True),
        one(2, 0, 2, 3),
        one(2, 3, 0, 2),
        one(2, 6, 1, 35),
    ]
    if proj:
        found += [one(3, 2, 3, 4, p=2), one(3, 2, 2, 3, p=2, sizes=(2, 2, 1), reverse=True, bias=False)]
    return found


def backward_cases(r: Sampler, layer: Any, gates: int, cell: bool, proj: bool = False, **constants: Any) -> list[case]:
    """Cases of a layer's gradient: those of the layer, with gradients of its outputs put in front."""
    found = []
    for c in layer_cases(r, gates, cell, proj, **constants):
        x, h = c.args[0], c.args[1]
        states = [r(*s.shape) for s in c.args[1 : 2 + cell]]
        # The third derivative of one small case is check enough: each costs hundreds of replays.
        order = 2 if len(found) == 1 else 1
        found.append(case(r(*x.shape[:2], h.shape[1]), *states, *c.args, order=order, **c.kwargs))
    return found


def composed(cell: Any, states: tuple, steps: int, sizes: Any, reverse: bool) -> tuple[Any, tuple]:
    """y, (t, n, q), and the last states of cell(t, *states), which gives new states, from ops."""
    found: list[Any] = [None] * steps
    n = states[0].shape[0]
    for t in order(steps, reverse):
        new = cell(t, *states)
        if sizes is None or sizes[t] == n:
            states, found[t] = new, new[0]
        else:
            k = sizes[t]
            states = tuple(shape.cat([a[:k], b[k:]]) for a, b in zip(new, states, strict=True))
            found[t] = shape.cat([new[0][:k], new[0][k:] * 0])
    return shape.stack(found), states


def reference(name: str, gates: int) -> Any:
    """PyTorch's layer of one direction, fed as the op is; the parameters are put in functionally, to have gradients."""

    def run(torch: Any, x: Any, *rest: Any, sizes: Any = None, reverse: bool = False, **kwargs: Any) -> Any:
        cell = name == "LSTM"
        states, (w, u, b, d, *p) = rest[: 1 + cell], rest[1 + cell :]
        kind = {"nonlinearity": "relu" if kwargs.get("relu") else "tanh"} if name == "RNN" else {}
        proj = {"proj_size": p[0].shape[0]} if p and p[0] is not None else {}
        if x.shape[1] == 0 or x.shape[2] == 0:  # PyTorch refuses an input of no features
            return None
        more = {"bias": b is not None, "dtype": x.dtype, **kind, **proj}
        layer = getattr(torch.nn, name)(x.shape[2], w.shape[0] // gates, **more)
        names = ["weight_ih_l0", "weight_hh_l0"] + (["bias_ih_l0", "bias_hh_l0"] if b is not None else [])
        values = [v for v in (w, u, b, d, *p) if v is not None]
        names += ["weight_hr_l0"] if proj else []
        # Backwards is forwards over each sequence turned round.
        lengths = [x.shape[0]] * x.shape[1] if sizes is None else [sum(n > i for n in sizes) for i in range(x.shape[1])]

        def turned(v: Any) -> Any:
            if not reverse:
                return v
            at = torch.arange(v.shape[0])[:, None].repeat(1, v.shape[1])
            for i, m in enumerate(lengths):
                at[:m, i] = at[:m, i].flip(0)
            return v.gather(0, at[:, :, None].expand(v.shape))

        packed = torch.nn.utils.rnn.pack_padded_sequence(turned(x), lengths)
        hx = tuple(s[None] for s in states) if cell else states[0][None]
        y, hn = torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (packed, hx))
        y = torch.nn.utils.rnn.pad_packed_sequence(y, total_length=x.shape[0])[0]
        return (turned(y), *((hn[0][0], hn[1][0]) if cell else (hn[0],)))

    return run


# --- the plain recurrent layer ----------------------------------------------------------------------------


def _rnn_forward(x, h, w, u, b, d, relu, sizes, reverse):
    xp, (steps, n, _), m = namespace(x), x.shape, h.shape[1]
    y = gate_sums(x, w, b, d, 1)[:, 0]
    ut, part = u.T, xp.empty((n, m), x.dtype)
    for t in order(steps, reverse):
        y_t = y[t]
        h.dot(ut, part)
        xp.add(y_t, part, y_t)
        xp.maximum(y_t, 0, out=y_t) if relu else xp.tanh(y_t, y_t)
        if sizes is None or sizes[t] == n:
            h = y_t
        else:
            k = sizes[t]
            h = xp.concatenate((y_t[:k], h[k:]))
            y_t[k:] = 0
    return y, h.copy()


def _rnn_composed(relu, sizes, reverse):
    """The same layer from ops, for replay."""

    def run(x, h, w, u, b, d):
        a, f = linalg.linear(x, w, b), pointwise.relu if relu else pointwise.tanh
        y, states = composed(lambda t, h: (f(a[t] + linalg.linear(h, u, d)),), (h,), x.shape[0], sizes, reverse)
        return y, *states

    return run


@op(
    dx_dh_dw_du_db_dd=lambda g, x, h, w, u, b, d, y, relu, sizes, reverse, needs: rnn_layer_backward(
        *g, x, h, w, u, b, d, y, relu, sizes, reverse, needs
    ),
    outputs=("y", "hn"),
    twin="rnn",
    cases=lambda r: [*layer_cases(r, 1, cell=False), *layer_cases(r, 1, cell=False, relu=True)[:4]],
    reference=reference("RNN", 1),
)
def rnn_layer(x, h, w, u, b=None, d=None, relu=False, sizes=None, reverse=False):
    """One plain recurrent layer in one direction (Elman 1990): h = tanh(w x_t + b + u h + d), or relu of that: (y, hn).

    x (t, n, f); h (n, h); w (h, f), u (h, h), b and d (h) or None; y (t, n, h). sizes as in lstm_layer.
    """
    kind = x.dtype
    return cast(kind, *_rnn_forward(*wide(x, h, w, u, b, d), relu, sizes, reverse))


@op(
    dgy_dgh_dx_dh_dw_du_db_dd=lambda g, gy, gh, x, h, w, u, b, d, relu, sizes, reverse: replay(
        _rnn_composed(relu, sizes, reverse), (gy, gh), (x, h, w, u, b, d), g
    ),
    outputs=("dx", "dh", "dw", "du", "db", "dd"),
    twin="rnn",
    cases=lambda r: [
        *backward_cases(r, rnn_layer, 1, cell=False),
        *backward_cases(r, rnn_layer, 1, cell=False, relu=True)[:4],
    ],
    reference=None,
)
def rnn_layer_backward(
    gy, gh, x, h, w, u, b=None, d=None, y=None, relu=False, sizes=None, reverse=False, needs=(True,) * 6
):
    """The gradients of rnn_layer's inputs, those that are needed, from gy and gh, the gradients of its outputs.
    Without y it is computed again.
    """
    kind, xp = x.dtype, namespace(x)
    gy, gh, x, h, w, u, b, d, y = wide(gy, gh, x, h, w, u, b, d, y)
    y = _rnn_forward(x, h, w, u, b, d, relu, sizes, reverse)[0] if y is None else y
    (steps, n, _), m = x.shape, h.shape[1]
    k = (y > 0).astype(x.dtype) if relu else 1 - y * y
    dh, e = gh.copy(), xp.empty((n, m), x.dtype)
    for t in reversed(order(steps, reverse)):
        k_t = k[t]
        xp.add(gy[t], dh, e)
        xp.multiply(k_t, e, k_t)
        if sizes is None or sizes[t] == n:
            k_t.dot(u, dh)
        else:
            k_t[sizes[t] :] = 0
            dh[: sizes[t]] = k_t[: sizes[t]].dot(u)
    hp = before(h, y, sizes, reverse) if needs[3] else None
    flat = k.reshape(steps * n, m)
    dx, dw, du, db, dd = weight_gradients((needs[0], *needs[2:]), x, hp, w, b, d, flat, flat)
    return cast(kind, dx, dh if needs[1] else None, dw, du, db, dd)
