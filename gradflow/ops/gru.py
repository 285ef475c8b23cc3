"""The GRU layer: its meaning, its gradient by hand, and the same from ops for the gradient's gradient."""

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
    weight_gradients,
    wide,
)
from .replay import replay


def _gru_forward(x, h, w, u, b, d, sizes, reverse):
    """y, hn and what the gradient needs: (t, 5, n, h) of r, z, n, u_n h + d_n, h - n."""
    xp, (steps, n, _), m = namespace(x), x.shape, h.shape[1]
    kept = xp.empty((steps, 5, n, m), x.dtype)
    last, joint = None, d
    if d is not None:  # the state's bias of r and z joins the input's; that of n is inside the product with r
        last, joint = d[2 * m :], d.copy()
        joint[2 * m :] = 0
    kept[:, :3] = gate_sums(x, w, b, joint, 3)
    kept[:, :2] *= 0.5
    ut = u.reshape(3, m, m).transpose(0, 2, 1)
    y, part, t_n = xp.empty((steps, n, m), x.dtype), xp.empty((3, n, m), x.dtype), xp.empty((n, m), x.dtype)
    add, multiply, tanh, matmul = xp.add, xp.multiply, xp.tanh, xp.matmul
    for t in order(steps, reverse):
        a, y_t = kept[t], y[t]
        gates, new, inner, left = a[:2], a[2], a[3], a[4]
        matmul(h, ut, out=part)
        multiply(part[:2], 0.5, part[:2])
        add(gates, part[:2], gates)
        tanh(gates, gates)
        multiply(gates, 0.5, gates)
        add(gates, 0.5, gates)
        if last is None:
            inner[...] = part[2]
        else:
            add(part[2], last, inner)
        multiply(a[0], inner, t_n)
        add(new, t_n, new)
        tanh(new, new)
        xp.subtract(h, new, left)
        multiply(a[1], left, y_t)
        add(y_t, new, y_t)
        if sizes is None or sizes[t] == n:
            h = y_t
        else:
            k = sizes[t]
            h = xp.concatenate((y_t[:k], h[k:]))
            y_t[k:] = 0
    return y, h.copy(), kept


def _gru_composed(sizes, reverse):
    """The same layer from ops, for replay."""

    def run(x, h, w, u, b, d):
        m = h.shape[1]
        a = linalg.linear(x, w, b)

        def cell(t, h):
            a_t, s = a[t], linalg.linear(h, u, d)
            r, z = (pointwise.sigmoid(a_t[:, k * m : (k + 1) * m] + s[:, k * m : (k + 1) * m]) for k in range(2))
            n = pointwise.tanh(a_t[:, 2 * m :] + r * s[:, 2 * m :])
            return (n + z * (h - n),)

        y, states = composed(cell, (h,), x.shape[0], sizes, reverse)
        return y, *states

    return run


@op(
    dx_dh_dw_du_db_dd=lambda g, x, h, w, u, b, d, y, sizes, reverse, reserve, needs: gru_layer_backward(
        *g, x, h, w, u, b, d, y, sizes, reverse, reserve, needs
    ),
    outputs=("y", "hn"),
    twin="rnn",
    cases=lambda r: layer_cases(r, 3, cell=False),
    reference=reference("GRU", 3),
)
def gru_layer(x, h, w, u, b=None, d=None, sizes=None, reverse=False, reserve=None):
    """One GRU layer in one direction (Cho et al. 2014, with the reset gate after the product): (y, hn).

    r, z = s(w x_t + b + u h + d);  n = tanh(w_n x_t + b_n + r (u_n h + d_n));  h = (1 - z) n + z h.
    x (t, n, f); h (n, h); w (3h, f), u (3h, h), b and d (3h) or None; y (t, n, h). sizes and reserve as in lstm_layer.
    """
    kind = x.dtype
    y, hn, kept = _gru_forward(*wide(x, h, w, u, b, d), sizes, reverse)
    if reserve is not None:
        reserve[:] = [kept]
    return cast(kind, y, hn)


def _gru_factors(kept):
    """(t, 5, n, h): dh / dh directly, then dh by the gates' sums r, z, u_n h + d_n and w_n x + b_n."""
    xp = namespace(kept)
    r, z, new, inner, left = (kept[:, i] for i in range(5))
    k = xp.empty_like(kept)
    k[:, 0] = z
    xp.subtract(1, kept[:, :2], out=k[:, 1:3])
    k[:, 1:3] *= kept[:, :2]
    k[:, 1] *= inner
    k[:, 2] *= left
    of_new = k[:, 4]
    xp.multiply(new, new, out=of_new)
    xp.subtract(1, of_new, out=of_new)
    of_new *= 1 - z
    k[:, 1] *= of_new
    xp.multiply(of_new, r, out=k[:, 3])
    return k


@op(
    dgy_dgh_dx_dh_dw_du_db_dd=lambda g, gy, gh, x, h, w, u, b, d, sizes, reverse: replay(
        _gru_composed(sizes, reverse), (gy, gh), (x, h, w, u, b, d), g
    ),
    outputs=("dx", "dh", "dw", "du", "db", "dd"),
    twin="rnn",
    cases=lambda r: backward_cases(r, gru_layer, 3, cell=False),
    reference=None,
)
def gru_layer_backward(
    gy, gh, x, h, w, u, b=None, d=None, y=None, sizes=None, reverse=False, reserve=None, needs=(True,) * 6
):
    """The gradients of gru_layer's inputs, those that are needed, from gy and gh, the gradients of its outputs.
    Without y and what gru_layer left in reserve they are computed again.
    """
    kind, xp = x.dtype, namespace(x)
    gy, gh, x, h, w, u, b, d, y = wide(gy, gh, x, h, w, u, b, d, y)
    if y is not None and reserve and len(reserve) == 1:
        (kept,) = reserve
    else:
        y, _, kept = _gru_forward(x, h, w, u, b, d, sizes, reverse)
    (steps, n, _), m = x.shape, h.shape[1]
    k = _gru_factors(kept)
    gates = xp.empty((steps, n, 3, m), x.dtype)
    flat = gates.reshape(steps, n, 3 * m)
    dh, e = gh.copy(), xp.empty((n, m), x.dtype)
    for t in reversed(order(steps, reverse)):
        k_t = k[t]
        xp.add(gy[t], dh, e)
        xp.multiply(k_t, e, k_t)
        if sizes is not None and sizes[t] < n:
            k_t[:, sizes[t] :] = 0
            k_t[0, sizes[t] :] = dh[sizes[t] :]
        gates[t] = k_t[1:4].transpose(1, 0, 2)
        flat[t].dot(u, dh)
        xp.add(dh, k_t[0], dh)
    gx = gates.copy()  # of the input's part: the same, but for n
    gx[:, :, 2] = k[:, 4]
    hp = before(h, y, sizes, reverse) if needs[3] else None
    flat, gx = flat.reshape(steps * n, 3 * m), gx.reshape(steps * n, 3 * m)
    dx, dw, du, db, dd = weight_gradients((needs[0], *needs[2:]), x, hp, w, b, d, gx, flat)
    return cast(kind, dx, dh if needs[1] else None, dw, du, db, dd)
