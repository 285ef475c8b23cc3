"""Batching rules of pooling, normalisation, dropout and the like, whose first dimension takes the samples in."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from ..op import wrap
from ..ops import pointwise, random, reduce
from ..ops import shape as shapes
from .batched import levels_of
from .dispatch import Call, drawn, expand, functions, quiet
from .places import apart, beside, folded, unfolded
from .rules import elementwise, raised, rule

# --- pooling: x (N, C, ...) or (C, ...) -----------------------------------------------------------------


def _pool(c: Call) -> Any:
    """Every array folded; `x_shape` says what was there before."""
    whole = _spatial(c.op.name) + 2
    changed: dict[str, Any] = {}
    one: tuple[int, ...] = ()
    for name in ("x", "g", "indices"):
        if c.has(name) and hasattr(c[name], "ndim"):
            v = c.full(name)
            one = tuple(v.shape[1:2]) if v.ndim == whole + 1 else ()
            changed[name] = folded(v) if v.ndim > whole else v  # (B, C, ...) is as it should be
    if c.has("x_shape"):
        s = (c.n, *c["x_shape"])
        changed["x_shape"] = s if len(s) == whole else (s[0] * s[1], *s[2:])
    y = c.run(**changed)
    back = lambda v: shapes.reshape(v, (c.n, *one, *v.shape[1:])) if one else v
    return tuple(map(back, y)) if isinstance(y, tuple) else back(y)


def _spatial(name: str) -> int:
    """The number of spatial dimensions in an op's name."""
    return next(int(a) for a, b in pairwise(name) if b == "d" and a in "123")


for _k in "123":
    rule(
        f"max_pool{_k}d_with_indices adaptive_max_pool{_k}d_with_indices max_pool{_k}d_backward max_pool{_k}d_gather "
        f"avg_pool{_k}d avg_pool{_k}d_backward adaptive_avg_pool{_k}d adaptive_avg_pool{_k}d_backward",
        _pool,
    )


# --- normalisation -----------------------------------------------------------------------------------------


def _none(*flags: Any) -> bool:
    return not any(f is True for f in flags)


@rule("layer_norm_forward rms_norm_forward")
def _row_norm(c: Call) -> Any:
    """The last dimensions are normalised, so the samples may stand in front; weights of their own are put on after."""
    has_b = c.has("b")
    if _none(c.batched("w"), has_b and c.batched("b")):
        return c.run()
    changed: dict[str, Any] = {"x": c.full("x"), "w": None}
    if has_b:
        changed["b"] = None
    y, *rest = c.run(**changed)
    most = y.ndim - 1
    for name in ("w", "b") if has_b else ("w",):
        v = c[name]
        if v is not None:
            v = raised(v, most) if c.batched(name) else v
            y = y * v if name == "w" else y + v
    return (y, *rest)


@rule("layer_norm_backward rms_norm_backward")
def _row_norm_backward(c: Call) -> Any:
    """dx as it stands; the weights' gradients are sums over each sample's own rows."""
    needs = c["needs"]
    changed = {n: c.full(n) for n in ("g", "x", "mean", "rstd", "gmean", "grstd") if c.has(n)}
    whole = dict(changed)
    if c.batched("w"):
        whole["g"], whole["w"] = changed["g"] * raised(c["w"], changed["g"].ndim - 1), None
    dx = c.run(**whole, needs=(True, *(False,) * (len(needs) - 1)))[0] if needs[0] else None
    if not any(needs[1:]):
        return (dx, *(None,) * (len(needs) - 1))
    g, x, rstd = changed["g"], changed["x"], changed["rstd"]
    rows = x.ndim - 1 - len(c["normalized_shape"] if isinstance(c["normalized_shape"], (tuple, list)) else (1,))
    over = tuple(range(1, 1 + rows))
    centred = x - changed["mean"] if "mean" in changed else x
    dw = g * (pointwise.cast(centred * rstd, g.dtype)) if needs[1] else None
    found = [dx, None if dw is None else reduce.sum(dw, over) if over else dw]
    if len(needs) > 2:
        found.append((reduce.sum(g, over) if over else g) if needs[2] else None)
    return tuple(found)


def _channels(c: Call) -> dict[str, Any]:
    """Arguments with the samples' channels side by side: what belongs to channels in a row, else channels second."""
    changed = {}
    for name in ("x", "g"):
        if c.has(name):
            changed[name] = beside(c.full(name))
    for name in ("w", "b", "mean", "var", "rstd", "gmean", "grstd"):
        if c.has(name) and c[name] is not None:
            changed[name] = shapes.reshape(c.full(name), (-1,))
    return changed


@rule("batch_norm_forward batch_norm_backward")
def _batch_norm(c: Call) -> Any:
    if not c.n:
        return NotImplemented
    y, *rest = c.run(**_channels(c))
    per = [None if v is None else shapes.reshape(v, (c.n, -1)) for v in rest]
    return (None if y is None else apart(y, c.n), *per)


@rule("batch_norm_eval")
def _batch_norm_eval(c: Call) -> Any:
    if not c.n:
        return NotImplemented
    if _none(*(c.batched(n) for n in ("mean", "var", "w", "b"))):
        x = c["x"]
        return shapes.reshape(c.run(x=shapes.reshape(x, (-1, *x.shape[2:]))), x.shape)
    return apart(c.run(**_channels(c)), c.n)


@rule("group_norm_forward")
def _group_norm(c: Call) -> Any:
    """Each sample's rows are normalised on their own, so all are folded together; weights are put on after."""
    if not c.n:
        return NotImplemented
    x, w, b = c.full("x"), c["w"], c["b"]
    s = tuple(x.shape)
    own = not _none(c.batched("w"), c.batched("b"))
    y, mean, rstd = c.run(x=folded(x), **({"w": None, "b": None} if own else {}))
    y = shapes.reshape(y, s)
    if own:
        along = lambda v, f: shapes.reshape(v, (c.n if f else 1, 1, -1, *(1,) * (len(s) - 3)))
        y = y if w is None else y * along(w, c.batched("w"))
        y = y if b is None else y + along(b, c.batched("b"))
    per = (s[0], s[1], mean.shape[-1])
    return y, shapes.reshape(mean, per), shapes.reshape(rstd, per)


@rule("group_norm_backward")
def _group_norm_backward(c: Call) -> Any:
    """dx of all rows together; the weights' gradients are sums over each sample's own rows."""
    if not c.n:
        return NotImplemented
    g, x, w, mean, rstd, needs = c.full("g"), c.full("x"), c["w"], c.full("mean"), c.full("rstd"), c["needs"]
    s = tuple(x.shape)
    dx = dw = db = None
    if needs[0]:
        gw = g
        if c.batched("w"):
            gw, w = g * shapes.reshape(w, (c.n, 1, -1, *(1,) * (len(s) - 3))), None
        stats = {n: folded(c.full(n)) for n in ("mean", "rstd", "gmean", "grstd")}
        dx = shapes.reshape(c.run(g=folded(gw), x=folded(x), w=w, needs=(True, False, False), **stats)[0], s)
    over = (1, *range(3, len(s)))
    if needs[1]:
        k = c["num_groups"]
        parts = (s[0], s[1], k, s[2] // k, *s[3:])
        per = (s[0], s[1], k, *(1,) * (len(s) - 2))
        centred = (shapes.reshape(x, parts) - shapes.reshape(mean, per)) * shapes.reshape(rstd, per)
        dw = reduce.sum(g * pointwise.cast(shapes.reshape(centred, s), g.dtype), over)
    if needs[2]:
        db = reduce.sum(g, over)
    return dx, dw, db


@rule("channel_window")
def _channel_window(c: Call) -> Any:
    x = c["x"]
    return shapes.reshape(c.run(x=shapes.reshape(x, (-1, *x.shape[2:]))), x.shape) if c.n else NotImplemented


@rule("attention")
def _attention(c: Call) -> Any:
    """Dimensions before the last two are stacks: samples are one more."""
    if c["drop"]:
        return NotImplemented
    q, k, v, mask = (c[n] for n in ("q", "k", "v", "mask"))
    most = max(c.rank(n) for n in ("q", "k", "v"))
    if mask is not None:
        most = max(most, c.rank("mask"))
    up = lambda x, f: raised(expand(x, f, c.n), most)
    whole = shapes.broadcast_shapes(
        *(tuple(up(x, c.batched(n)).shape[:-2]) for n, x in zip("qkv", (q, k, v), strict=True))
    )
    q, k, v = (
        shapes.expand(y, (*whole, *y.shape[-2:]))
        for y in (up(x, c.batched(n)) for n, x in zip("qkv", (q, k, v), strict=True))
    )
    reserve: Any = None if c["reserve"] is None else []
    return c.run(q=q, k=k, v=v, mask=mask if mask is None else up(mask, c.batched("mask")), reserve=reserve)


@rule("attention_backward")
def _attention_backward(c: Call) -> Any:
    if c["drop"] or c["mask"] is not None:
        return NotImplemented
    given = {n: c.full(n) for n in ("g", "q", "k", "v")}
    if len({tuple(v.shape[:-2]) for v in given.values()}) > 1:
        return NotImplemented
    return c.run(**given, reserve=None)


# --- recurrence: x (t, n, f), states (n, h) -----------------------------------------------------------------


@rule("rnn_layer gru_layer lstm_layer")
def _recurrent(c: Call) -> Any:
    """The samples are more sequences beside each other, where they share the weights."""
    weights = [n for n in ("w", "u", "b", "d", "p") if c.has(n)]
    if not c.n or c["sizes"] is not None or any(c.batched(n) for n in weights):
        return NotImplemented
    x = beside(c.full("x"))
    states = {n: folded(c.full(n)) for n in ("h", "c") if c.has(n)}
    reserve: Any = {"reserve": None if c["reserve"] is None else []} if c.has("reserve") else {}
    y, *last = c.run(x=x, **states, **reserve)
    return (apart(y, c.n), *(unfolded(v, c.n) for v in last))


# --- patches of images: x (n, c, h, w) or (c, h, w) -----------------------------------------------------------


@rule("im2col col2im")
def _patches(c: Call) -> Any:
    x = c["x"]
    whole = 4 if c.op.name == "im2col" else 3
    if x.ndim == whole:
        return c.run()
    y = c.run(x=folded(x))
    return shapes.reshape(y, (*x.shape[:2], *y.shape[1:]))


# --- random numbers ---------------------------------------------------------------------------------------


@rule("dropout")
def _dropout(c: Call) -> Any:
    """Of the same elements in each sample: (key, counter) are those of one."""
    if not c.n or not c.batched("x"):
        return NotImplemented
    return c["x"] * c.run(x=shapes.filled(c["x"], c.sizes("x"), 1.0))


def _drop(c: Call, x: Any, p: float = 0.5, generator: Any = None) -> Any:
    """One draw: of different elements in each sample for all, or of the same for one."""
    if c.level.randomness == "different":
        return random.drop(expand(x, c.flags[0], c.n), p, generator)
    return x * random.drop(wrap(shapes.filled(x, tuple(x.shape)[1:], 1.0)), p, generator)


drawn["drop"] = _drop
rule("dropped", elementwise)


def _running(running_mean: Any, running_var: Any, mean: Any, *rest: Any) -> Any:
    """Running statistics are written in place: each sample's own, or none."""
    if not set(levels_of(mean)) <= set(levels_of(running_mean)):
        raise RuntimeError(
            "batch_norm: running statistics that are the same for all samples cannot be moved inside vmap; batch them, or "
            "use func.replace_all_batch_norm_modules_"
        )
    return NotImplemented


functions["_move"] = _running
quiet.add("_move")
