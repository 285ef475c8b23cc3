"""The LSTM layer: its meaning, its gradient by hand, and the same from ops for the gradient's gradient."""

from __future__ import annotations

from ..backend import namespace
from ..op import op
from . import linalg, pointwise
from .recurrence import (
    backward_cases,
    before,
    cast,
    composed,
    gate_sums,
    layer_cases,
    order,
    reference,
    rows,
    weight_gradients,
    wide,
)
from .replay import replay


def _lstm_forward(x, h, c, w, u, b, d, p, sizes, reverse):
    """y, hn, cn and what the gradient needs: (t, 6, n, h) of i, f, o, g, the cell state before, tanh of that after."""
    xp, (steps, n, _), m = namespace(x), x.shape, c.shape[1]
    kept = xp.empty((steps, 6, n, m), x.dtype)
    sums = gate_sums(x, w, b, d, 4)
    # With o before g, what takes a sigmoid lies together, and so do the factors of i g and f c.
    kept[:, :2], kept[:, 2], kept[:, 3] = sums[:, :2], sums[:, 3], sums[:, 2]
    kept[:, :3] *= 0.5  # sigmoid(a) = tanh(a / 2) / 2 + 1 / 2
    ut = u.reshape(4, m, u.shape[1]).transpose(0, 2, 1)
    if steps > 2:  # worth a copy of the weight
        ut = xp.ascontiguousarray(ut[[0, 1, 3, 2]])
        ut[:3] *= 0.5
    y, cn = xp.empty((steps, n, u.shape[1]), x.dtype), xp.empty((n, m), x.dtype)
    part, pair = xp.empty((4, n, m), x.dtype), xp.empty((2, n, m), x.dtype)
    add, multiply, tanh, matmul = xp.add, xp.multiply, xp.tanh, xp.matmul
    follow = [*order(steps, reverse)]
    kept[follow[0], 4] = c
    for t, after in zip(follow, [*follow[1:], None], strict=True):
        a, y_t, c_t = kept[t], y[t], cn if after is None else kept[after, 4]
        gates, through = a[:4], a[:3]
        if steps > 2:
            matmul(h, ut, out=part)
        else:
            part = matmul(h, ut)[[0, 1, 3, 2]]
            part[:3] *= 0.5
        add(gates, part, gates)
        tanh(gates, gates)
        multiply(through, 0.5, through)
        add(through, 0.5, through)
        multiply(a[:2], a[3:5], pair)  # i g, f c
        add(pair[0], pair[1], c_t)
        tanh(c_t, a[5])
        if p is None:
            multiply(a[2], a[5], y_t)
        else:
            y_t[...] = (a[2] * a[5]).dot(p.T)
        if sizes is None or sizes[t] == n:
            h = y_t
        else:  # the state of the sequences that are not there stays as it is
            k = sizes[t]
            c_t[k:] = a[4, k:]
            h = xp.concatenate((y_t[:k], h[k:]))
            y_t[k:] = 0
    return y, h.copy(), cn, kept


def _lstm_composed(sizes, reverse):
    """The same layer from ops, for replay."""

    def run(x, h, c, w, u, b, d, p):
        m = c.shape[1]
        a = linalg.linear(x, w, b)

        def cell(t, h, c):
            gates = a[t] + linalg.linear(h, u, d)
            i, f, g, o = (gates[:, k * m : (k + 1) * m] for k in range(4))
            c = pointwise.sigmoid(f) * c + pointwise.sigmoid(i) * pointwise.tanh(g)
            h = pointwise.sigmoid(o) * pointwise.tanh(c)
            return h if p is None else linalg.linear(h, p), c

        y, states = composed(cell, (h, c), x.shape[0], sizes, reverse)
        return y, *states

    return run


@op(
    dx_dh_dc_dw_du_db_dd_dp=lambda g, x, h, c, w, u, b, d, p, y, sizes, reverse, reserve, needs: lstm_layer_backward(
        *g, x, h, c, w, u, b, d, p, y, sizes, reverse, reserve, needs
    ),
    outputs=("y", "hn", "cn"),
    twin="rnn",
    cases=lambda r: layer_cases(r, 4, cell=True, proj=True),
    reference=reference("LSTM", 4),
)
def lstm_layer(x, h, c, w, u, b=None, d=None, p=None, sizes=None, reverse=False, reserve=None):
    """One LSTM layer in one direction (Hochreiter & Schmidhuber 1997; Gers et al. 2000): (y, hn, cn).

    i, f, g, o = w x_t + b + u h + d;  c = s(f) c + s(i) tanh(g);  h = s(o) tanh(c), or p h of it (Sak et al. 2014).
    x (t, n, f); h (n, q), c (n, h) the states to start from; w (4h, f), u (4h, q), b and d (4h), p (q, h) or None;
    y (t, n, q). sizes[t] says that only the first so many sequences reach step t: the others' y is zero and their state
    stays. reserve is an empty list in which the forward pass leaves what the backward pass can use.
    """
    kind = x.dtype
    y, hn, cn, kept = _lstm_forward(*wide(x, h, c, w, u, b, d, p), sizes, reverse)
    if reserve is not None:
        reserve[:] = [kept]
    return cast(kind, y, hn, cn)


def _lstm_factors(kept):
    """(t, 6, n, h): f, then d(i, f, g sums) / dc, then d(o sum) / dh and dc / dh."""
    xp = namespace(kept)
    k = xp.empty_like(kept)
    k[:, 0] = kept[:, 1]
    xp.subtract(1, kept[:, :2], out=k[:, 1:3])  # (1 - v) v for i and f, times g and c
    k[:, 1:3] *= kept[:, :2]
    k[:, 1:3] *= kept[:, 3:5]
    xp.multiply(kept[:, 3::2], kept[:, 3::2], out=k[:, 3::2])  # 1 - v^2 for g and tanh(c), times i and o
    xp.subtract(1, k[:, 3::2], out=k[:, 3::2])
    k[:, 3::2] *= kept[:, 0:3:2]
    xp.subtract(1, kept[:, 2], out=k[:, 4])
    k[:, 4] *= kept[:, 2]
    k[:, 4] *= kept[:, 5]
    return k


@op(
    dgy_dgh_dgc_dx_dh_dc_dw_du_db_dd_dp=lambda g, gy, gh, gc, x, h, c, w, u, b, d, p, sizes, reverse: replay(
        _lstm_composed(sizes, reverse), (gy, gh, gc), (x, h, c, w, u, b, d, p), g
    ),
    outputs=("dx", "dh", "dc", "dw", "du", "db", "dd", "dp"),
    twin="rnn",
    cases=lambda r: backward_cases(r, lstm_layer, 4, cell=True, proj=True),
    reference=None,
)
def lstm_layer_backward(
    gy, gh, gc, x, h, c, w, u, b=None, d=None, p=None, y=None, sizes=None, reverse=False, reserve=None,
    needs=(True,) * 8,
):  # fmt: skip
    """The gradients of lstm_layer's inputs, those that are needed, from gy, gh, gc, the gradients of its outputs.
    Without y and what lstm_layer left in reserve they are computed again.
    """
    kind, xp = x.dtype, namespace(x)
    gy, gh, gc, x, h, c, w, u, b, d, p, y = wide(gy, gh, gc, x, h, c, w, u, b, d, p, y)
    if y is not None and reserve and len(reserve) == 1:  # a launcher's reserve has two arrays: it is not this one's
        (kept,) = reserve
    else:
        y, _, _, kept = _lstm_forward(x, h, c, w, u, b, d, p, sizes, reverse)
    (steps, n, _), m = x.shape, c.shape[1]
    k = _lstm_factors(kept)
    gates = xp.empty((steps, n, 4, m), x.dtype)
    flat = gates.reshape(steps, n, 4 * m)
    projected = None if p is None else xp.empty(y.shape, x.dtype)
    add, multiply = xp.add, xp.multiply
    dh, dc, e = gh.copy(), gc, xp.empty(gh.shape, x.dtype)
    for t in reversed(order(steps, reverse)):
        k_t, part = k[t], k[t, 4:]
        add(gy[t], dh, e)
        if sizes is not None:
            e[sizes[t] :] = 0
        if p is None:
            multiply(part, e, part)
        else:
            projected[t] = e
            multiply(part, e.dot(p), part)
        later, dh_later, part = dc, dh, k_t[:4]
        dc = add(dc, k_t[5])
        multiply(part, dc, part)  # dc is now k_t[0]
        dc = k_t[0]
        if sizes is not None and sizes[t] < n:
            k_t[1:, sizes[t] :] = 0
            dc[sizes[t] :] = later[sizes[t] :]
            later = dh_later[sizes[t] :].copy()
        gates[t] = k_t[1:5].transpose(1, 0, 2)
        flat[t].dot(u, dh)
        if sizes is not None and sizes[t] < n:
            dh[sizes[t] :] = later
    flat = flat.reshape(steps * n, 4 * m)
    hp = before(h, y, sizes, reverse) if needs[4] else None
    dx, dw, du, db, dd = weight_gradients((needs[0], *needs[3:7]), x, hp, w, b, d, flat, flat)
    dp = rows(projected).T.dot(rows(kept[:, 2] * kept[:, 5])) if p is not None and needs[7] else None
    return cast(kind, dx, dh if needs[1] else None, dc.copy() if needs[2] else None, dw, du, db, dd, dp)
