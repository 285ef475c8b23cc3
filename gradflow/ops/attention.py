"""Attention: values averaged with weights that say how well each key fits each query."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import backend
from ..backend import bool_, is_floating, namespace
from ..call import batching
from ..cases import Sampler, case
from ..dtypes import widened
from ..kernel import kernel
from ..op import op, unwrap
from ..tape import fit, mode
from . import attention_blocks, linalg, pointwise, random, shape, softmax
from .replay import replay


def _product(a: Any, b: Any, like: Any) -> Any:
    """a @ b; on the card in the dtype of `like`, whose half types have units of their own there."""
    if type(a) is not np.ndarray:
        a, b = a.astype(like.dtype, copy=False), b.astype(like.dtype, copy=False)
    return linalg.matmul(a, b)


def _swap(x: Any) -> Any:
    return x.swapaxes(-1, -2)


def _dropped(x: Any, drop: float, seed: tuple[int, int]) -> Any:
    return random.dropout(x, drop, *seed) if drop else x


def group_of(q: Any, k: Any, v: Any) -> int:
    """How many heads of q (dimension -3) share each head of k and v where they have fewer; 1 where shapes broadcast."""
    if min(q.ndim, k.ndim, v.ndim) < 3:
        return 1
    many, few = q.shape[-3], k.shape[-3]
    return many // few if 1 < few < many and v.shape[-3] == few and many % few == 0 else 1


def _grouped(q: Any, k: Any, v: Any, mask: Any) -> tuple[Any, Any, Any, Any]:
    """The same with the heads of q and mask in two dimensions, so that those of k and v broadcast."""
    few = k.shape[-3]

    def split(x: Any) -> Any:
        if x is None or x.ndim < 3:
            return x
        heads = (1, 1) if x.shape[-3] == 1 else (few, x.shape[-3] // few)
        return shape.reshape(x, (*x.shape[:-3], *heads, *x.shape[-2:]))

    return split(q), shape.unsqueeze(k, -3), shape.unsqueeze(v, -3), split(mask)


def _joined(y: Any) -> Any:
    """Two dimensions of heads as one."""
    return shape.reshape(y, (*y.shape[:-4], y.shape[-4] * y.shape[-3], *y.shape[-2:]))


def _causal(xp: Any, rows: int, columns: int) -> Any:
    """Which keys a query may see: those that do not stand after it."""
    return xp.arange(columns) <= xp.arange(rows)[:, None]


def _weight_cases(r: Sampler) -> list[case]:
    nothing = np.array([[True, False, True], [False] * 3])
    long = [case(r(2, n), r(n), 2.0) for n in (40, 70, 300, 1001, 2000, 4200, 6001, 9000)]
    return [
        case(r(2, 3, 4, 5), None, 0.3),
        case(r(2, 3, 4, 5), r(2, 1, 4, 5), 0.3),
        case(r(2, 3, 4, 5), r.mask(3, 1, 5), 0.3),
        case(r(2, 3, 4, 5), r.mask(2, 1, 1, 1), 0.3, True),
        case(r(3, 2, 3), nothing, 2.0),
        case(r(3, 2, 3), np.where(nothing, 0.5, -math.inf), 2.0),
        case(r(9000)[None], np.full((1, 9000), False), 1.0),  # a long row that sees nothing
        case(r(20, 9), None, 1.0, True),
        case(1e3 * r(4, 5), None, 1.0),
        case(r.strided(4, 6), r.strided(4, 6), 0.5),
        case(r(5), None, 1.0),
        case(r(0, 3), None, 1.0),
        case(r(3, 0), None, 1.0),
        case(r(2, 1, 1, 2, 3), r(2, 3), 1.0),
        *long,
    ]


@kernel("attention", cases=_weight_cases)
def attention_weights(s, mask=None, scale=1.0, causal=False):
    """softmax(scale s + mask) along the last dimension of scores s (..., l, s), zero in rows that see nothing.

    mask is added, or if bool says what is seen; with causal row l sees the columns 0 to l only.
    """
    xp, dtype = namespace(s), s.dtype
    whole = s.shape if mask is None else np.broadcast_shapes(s.shape, mask.shape)
    p = xp.multiply(widened(s), scale, out=xp.empty(whole, widened(s[:0]).dtype))
    if p.size == 0:
        return p.astype(dtype)
    if mask is not None:
        if mask.dtype == bool_:
            xp.copyto(p, -math.inf, where=~mask)
        else:
            p += mask
    if causal:
        xp.copyto(p, -math.inf, where=~_causal(xp, *p.shape[-2:]))
    top = p.max(-1, keepdims=True)
    xp.copyto(top, 0, where=top == -math.inf)
    p -= top
    xp.exp(p, out=p)
    total = p.sum(-1, keepdims=True)
    xp.copyto(total, 1, where=total == 0)
    p /= total
    return p if p.dtype == dtype else p.astype(dtype)


def _weights(q: Any, k: Any, mask: Any, scale: float, causal: bool) -> Any:
    return attention_weights(_product(q, _swap(k), q), mask, scale, causal)


def _composed(scale, causal, drop, seed):
    """The same attention from ops, for replay; without a seed dropout draws from the default generator."""

    def run(q, k, v, mask):
        if group_of(q, k, v) > 1:
            return (_joined(run(*_grouped(q, k, v, mask))[0]),)
        xp = namespace(unwrap(q))
        s = linalg.matmul(pointwise.mul(q, scale), linalg.mT(k))  # q * scale: in CuPy, bfloat16 and a number are float32
        if mask is not None:
            s = pointwise.where(mask, s, -math.inf) if unwrap(mask).dtype == bool_ else s + mask
        if causal:
            s = pointwise.where(_causal(xp, *s.shape[-2:]), s, -math.inf)
        seen = (unwrap(s) > -math.inf).any(-1, keepdims=True) if unwrap(s).size else xp.asarray(True)
        p = softmax.softmax(pointwise.where(seen, s, 0.0), -1) * xp.asarray(seen, s.dtype)
        if drop:
            p = random.drop(p, drop) if seed is None else random.dropout(p, drop, *seed)
        return (linalg.matmul(p, v),)

    return run


def _cases(r: Sampler, g: bool = False) -> list[case]:
    """Calls of attention, or with the gradient of its result in front."""

    def one(b: tuple, n: int, m: int, e: int, f: int, mask: Any = None, *rest: Any, **kwargs: Any) -> case:
        gy = (r(*b, n, f),) if g else ()
        return case(*gy, r(*b, n, e), r(*b, m, e), r(*b, m, f), mask, *rest, **kwargs)

    none = np.array([[True, False, True], [False, False, False]])
    half = np.where(none, 0.3, -math.inf)
    found = [
        one((2,), 3, 4, 5, 2, None, 0.4),
        one((2, 2), 3, 4, 2, 2, r(3, 4), 0.5),
        one((2,), 2, 3, 2, 2, none, 0.5, order=1),  # a row that sees nothing
        one((2,), 3, 3, 2, 2, None, 0.7, True),
        one((1,), 4, 2, 2, 2, None, 0.7, True),
        one((2,), 3, 4, 2, 2, r.mask(2, 1, 4) | (np.arange(4) == 0), 1.0),
        one((), 2, 3, 2, 2, None, 0.5, False, 0.5, (7, 3)),
        one((), 3, 0, 2, 2, None, 0.5),
        one((2,), 0, 3, 2, 2, None, 0.5),
        one((), 1, 1, 1, 1, None, 1.0),
    ]
    q, k, v = r.strided(2, 3, 4), r.strided(2, 3, 4), r.strided(2, 3, 4)
    found.append(case(*([r(2, 3, 4)] if g else []), q, k, v, r(2, 3, 3), 0.5))
    found.append(case(*([r(2, 3, 3, 2)] if g else []), r(2, 1, 3, 2), r(3, 4, 2), r(1, 4, 2), None, 0.5))
    if not g:
        found.append(one((2,), 2, 3, 2, 2, half, 0.5, grad=False))
    for c in found[1:] if g else ():  # third derivatives of one case are check enough
        c.order = 1
    return found


def _reference(torch: Any, q: Any, k: Any, v: Any, mask: Any, scale: float, causal: bool = False, *drop: Any) -> Any:
    if drop:  # PyTorch draws other bits
        return None
    function = torch.nn.functional.scaled_dot_product_attention
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        return function(q, k, v, mask, scale=scale, is_causal=causal)


@op(
    real=True,
    dq_dk_dv_dmask=lambda g, q, k, v, mask, y, scale, causal, drop, seed, reserve, needs: attention_backward(
        g, q, k, v, mask, scale, causal, drop, seed, reserve, needs, y
    ),
    twin="flash",
    cases=_cases,
    reference=_reference,
)
def attention(q, k, v, mask=None, scale=1.0, causal=False, drop=0.0, seed=(0, 0), reserve=None):
    """softmax(scale q k^T + mask) v (Vaswani et al. 2017): q (..., l, e), k (..., s, e), v (..., s, f) to (..., l, f).

    mask (..., l, s) is added, or if bool says which keys each query may see; with causal those not after it. A query
    that sees nothing gets zeros. Of the weights, a part `drop` is dropped by the random bits of seed, (key, counter).
    Where k and v have fewer heads (dimension -3) than q, each of theirs serves as many of q's. reserve is an empty list in
    which the forward pass leaves the weights for the backward pass, or a launcher what it needs to make them again.
    """
    if group_of(q, k, v) > 1:
        return _joined(attention.op.definition(*_grouped(q, k, v, mask), scale, causal, drop, seed, reserve))
    dtype = q.dtype
    if type(q) is np.ndarray:
        q, k, v = widened(q), widened(k), widened(v)
    whole = reserve is not None and mask is not None and mask.dtype != bool_  # such a mask may want a gradient
    if dtype.itemsize > 2 and not whole and attention_blocks.pays(q, k, causal, drop, reserve is not None):
        y, logs = attention_blocks.forward(q, k, v, mask, scale, causal)
        if reserve is not None:
            reserve[:] = [None, logs]
        return y
    p = _weights(q, k, mask, scale, causal)
    if reserve is not None:
        reserve[:] = [p]
    y = _product(_dropped(p, drop, seed), v, v)
    return y if y.dtype == dtype else y.astype(dtype)


@op(
    dg_dq_dk_dv_dmask=lambda gg, g, q, k, v, mask, scale, causal, drop, seed: replay(
        _composed(scale, causal, drop, seed), (g,), (q, k, v, mask), gg
    ),
    outputs=("dq", "dk", "dv", "dmask"),
    twin="flash",
    cases=lambda r: _cases(r, g=True),
    reference=None,
)
def attention_backward(
    g, q, k, v, mask=None, scale=1.0, causal=False, drop=0.0, seed=(0, 0), reserve=None, needs=(True,) * 4, y=None
):
    """The gradients of attention's inputs, those that are needed, from g, the gradient of its output y.
    Without y and what attention left in reserve they are computed again.
    """
    if group_of(q, k, v) > 1:
        inputs = q, k, v, mask
        gs = _grouped(g, k, v, None)[0]
        if y is not None:
            y = _grouped(y, k, v, None)[0]
        found = attention_backward.op.definition(gs, *_grouped(*inputs), scale, causal, drop, seed, reserve, needs, y)
        return tuple(None if d is None else d.reshape(x.shape) for d, x in zip(found, inputs, strict=True))
    dtype, xp = q.dtype, namespace(q)
    if type(q) is np.ndarray:
        g, q, k, v = widened(g), widened(q), widened(k), widened(v)
    if type(q) is np.ndarray and y is not None and reserve and reserve[0] is None:
        made = attention_blocks.backward(g, q, k, v, mask, scale, causal, y, reserve[1], needs)
        found = zip((*made, None), (q, k, v, mask), strict=True)
        return tuple(None if d is None else fit(d, x.shape, dtype) for d, x in found)
    p = reserve[0] if reserve and reserve[0] is not None else _weights(q, k, mask, scale, causal)
    dv = _product(_swap(_dropped(p, drop, seed)), g, v) if needs[2] else None
    dq = dk = dmask = None
    if needs[0] or needs[1] or needs[3]:
        ds = _product(g, _swap(v), v)
        if ds.shape != p.shape:
            ds = ds * _dropped(xp.ones_like(p), drop, seed)
            p = xp.broadcast_to(p, ds.shape)
        else:
            ds = _dropped(ds, drop, seed)
        if type(ds) is np.ndarray:
            exact = y is not None and y.dtype == ds.dtype  # then the sum of g y over the features is less work
            ds -= (np.einsum("...f,...f->...", g, y) if exact else np.einsum("...ls,...ls->...l", ds, p))[..., None]
            ds *= p
        else:
            ds = softmax.softmax_backward(ds, p, -1)
        dq = _product(ds, k, q) * scale if needs[0] else None
        dk = _product(_swap(ds), q, q) * scale if needs[1] else None
        dmask = ds if needs[3] and mask is not None and mask.dtype != bool_ else None
    found = zip((dq, dk, dv, dmask), (q, k, v, mask), strict=True)
    return tuple(None if d is None else fit(d, x.shape, dtype) for d, x in found)


def scaled_dot_product_attention(
    query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False,
    scale: float | None = None, enable_gqa: bool = False,
) -> Any:  # fmt: skip
    """softmax(scale Q K^T + mask) V: query (..., l, e), key (..., s, e), value (..., s, f) to (..., l, f).

    scale is 1 / sqrt(e) unless given. attn_mask (..., l, s): a bool one is True where to look, a floating one is added.
    is_causal lets query i look at the keys 0 to i. A query that may look at nothing gives zeros. With enable_gqa, key
    and value may have fewer heads (dimension -3), each for several of the query's. RuntimeError for shapes or dtypes
    that do not agree, or for a mask beside is_causal.
    """
    name = "scaled_dot_product_attention"
    dims = query.ndim, key.ndim, value.ndim
    if min(dims) < 2:
        raise RuntimeError(f"{name}: wanted at least two dimensions each, saw {dims}")
    dtypes = [unwrap(x).dtype for x in (query, key, value)]
    if not is_floating(dtypes[0]) or any(t != dtypes[0] for t in dtypes):
        raise RuntimeError(f"{name}: wanted one floating dtype, saw {', '.join(map(str, dtypes))}")
    if not 0 <= dropout_p <= 1:
        raise RuntimeError(f"{name}: wanted a dropout_p in [0, 1], saw {dropout_p}")
    shared = 1
    if enable_gqa:
        shared = 1 if batching else group_of(query, key, value)
        if shared == 1:
            key, value = _repeated(name, query, key), _repeated(name, query, value)
    shapes = tuple(query.shape), tuple(key.shape), tuple(value.shape)
    if shapes[0][-1] != shapes[1][-1] or shapes[1][-2] != shapes[2][-2]:
        raise RuntimeError(f"{name}: wanted (..., l, e), (..., s, e) and (..., s, f), saw {shapes}")
    try:
        leads = [(*s[:-3], s[-3] * shared if i else s[-3]) if shared > 1 else s[:-2] for i, s in enumerate(shapes)]
        batch = np.broadcast_shapes(*leads)
    except ValueError:
        raise RuntimeError(f"{name}: wanted leading sizes that broadcast, saw {shapes}") from None
    rows, columns = shapes[0][-2], shapes[1][-2]
    if attn_mask is not None:
        attn_mask = _mask(name, attn_mask, is_causal, dtypes[0], (*batch, rows, columns))
    scale = 1 / math.sqrt(shapes[0][-1]) if scale is None else float(scale)
    seed = (0, 0)
    if dropout_p:
        if random.sequence_of(namespace(unwrap(query))) is not None:
            return _composed(scale, bool(is_causal), dropout_p, None)(query, key, value, attn_mask)[0]
        whole = (*np.broadcast_shapes(leads[0], leads[1]), rows, columns)
        if attn_mask is not None:
            whole = np.broadcast_shapes(whole, tuple(attn_mask.shape))
        seed = backend.default_generator.reserve(-(-math.prod(whole) // 2))
    reserve: list | None = [] if mode.enabled else None
    return attention(query, key, value, attn_mask, scale, bool(is_causal), dropout_p, seed, reserve)


def _mask(name: str, mask: Any, is_causal: bool, dtype: Any, whole: tuple[int, ...]) -> Any:
    """A mask, checked, in the dtype of the scores unless it is bool."""
    if is_causal:
        raise RuntimeError(f"{name}: wanted no attn_mask where is_causal is True, saw one of shape {tuple(mask.shape)}")
    kind = unwrap(mask).dtype
    if kind not in (bool_, dtype) and kind != backend.float32:
        raise RuntimeError(f"{name}: wanted a mask of bool or {dtype}, saw {kind}")
    try:
        fits = np.broadcast_shapes(tuple(mask.shape), whole) == whole
    except ValueError:
        fits = False
    if not fits:
        raise RuntimeError(f"{name}: wanted a mask that broadcasts to {whole}, saw {tuple(mask.shape)}")
    return mask if kind in (bool_, dtype) else pointwise.cast(mask, dtype)


def _repeated(name: str, query: Any, x: Any) -> Any:
    """x with each of its heads repeated for as many of the query's as share it."""
    if min(query.ndim, x.ndim) < 3 or x.shape[-3] == 0 or query.shape[-3] % x.shape[-3]:
        shapes = f"{tuple(query.shape)} and {tuple(x.shape)}"
        raise RuntimeError(f"{name}: wanted heads of key and value that divide the query's, saw {shapes}")
    times, heads = query.shape[-3] // x.shape[-3], x.shape[-3]
    if times == 1:
        return x
    lead, rest = tuple(x.shape[:-3]), tuple(x.shape[-2:])
    spread = shape.expand(shape.reshape(x, (*lead, heads, 1, *rest)), (*lead, heads, times, *rest))
    return shape.reshape(spread, (*lead, heads * times, *rest))
