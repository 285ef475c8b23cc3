"""Attention with several heads, from its weights: projections, masks, heads, and the projection back."""

from __future__ import annotations

import math
import warnings
from typing import Any

from ..backend import bool_, is_floating, namespace
from ..op import unwrap, wrap
from ..tape import Traced
from . import arrange, attention, join, linalg, pointwise, random, reduce, shape, softmax

NAME = "multi_head_attention_forward"


def _like(array: Any, x: Any) -> Any:
    """An array as a tensor if x is one."""
    return wrap(array) if isinstance(x, Traced) else array


def _dims(query: Any, key: Any, value: Any, padding: Any, mask: Any, heads: int) -> bool:
    """Whether there is a batch; AssertionError for numbers of dims that do not fit."""
    batched = query.ndim == 3
    dims = [v.ndim for v in (query, key, value)]
    if query.ndim not in (2, 3) or len(set(dims)) > 1:
        raise AssertionError(f"{NAME}: wanted query, key and value all 2-d or all 3-d, saw {dims}")
    if padding is not None and padding.ndim != batched + 1:
        raise AssertionError(f"{NAME}: wanted a key_padding_mask of {batched + 1} dims, saw {tuple(padding.shape)}")
    if mask is not None and mask.ndim not in (2, 3):
        raise AssertionError(f"{NAME}: wanted an attn_mask of 2 or 3 dims, saw {tuple(mask.shape)}")
    if mask is not None and not batched and mask.ndim == 3:
        want = (heads, query.shape[0], key.shape[0])
        if tuple(mask.shape) != want:
            raise AssertionError(f"{NAME}: wanted an attn_mask of shape {want}, saw {tuple(mask.shape)}")
    return batched


def added(name: str, mask: Any, dtype: Any) -> Any:
    """A mask as something to add to scores: a bool one, True where not to look, as -inf; a floating one as it is."""
    if mask is None:
        return None
    kind = unwrap(mask).dtype
    if kind != bool_:
        if not is_floating(kind):
            raise AssertionError(f"{NAME}: wanted a {name} of bools or floats, saw {kind}")
        return mask if kind == dtype else pointwise.cast(mask, dtype)
    array = unwrap(mask)
    return _like(namespace(array).where(array, -math.inf, 0.0).astype(dtype), mask)


def _need(value: Any, what: str) -> Any:
    if value is None:
        raise AssertionError(f"{NAME}: wanted {what}, saw None")
    return value


def _projected(x: tuple, weights: Any, bias: Any) -> list[Any]:
    """Query, key and value by their weights, one array or three, and their thirds of the bias."""
    q, k, v = x
    if type(weights) is not tuple:
        e = weights.shape[0] // 3
        if q is k and k is v:  # one product for all three
            return list(join.split(linalg.linear(q, weights, bias), e, -1))
        weights = join.split(weights, e)
    biases = (None,) * 3 if bias is None else join.split(bias, bias.shape[0] // 3)
    return [linalg.linear(v, w, b) for v, w, b in zip(x, weights, biases, strict=True)]


def _static(x: Any, what: str, n: int, d: int) -> Any:
    """Keys or values given as they are, (n heads, s, d)."""
    if x.shape[0] != n or x.shape[2] != d:
        raise AssertionError(f"{NAME}: wanted {what} of shape ({n}, s, {d}), saw {tuple(x.shape)}")
    return x


def _checked_mask(mask: Any, n: int, heads: int, rows: int, columns: int) -> Any:
    """An attn_mask as (1 or n heads, rows, columns)."""
    want = (rows, columns) if mask.ndim == 2 else (n * heads, rows, columns)
    if tuple(mask.shape) != want:
        raise RuntimeError(f"{NAME}: wanted an attn_mask of shape {want}, saw {tuple(mask.shape)}")
    return shape.unsqueeze(mask, 0) if mask.ndim == 2 else mask


def multi_head_attention_forward(
    query: Any,
    key: Any,
    value: Any,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Any,
    in_proj_bias: Any,
    bias_k: Any,
    bias_v: Any,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Any,
    out_proj_bias: Any,
    training: bool = True,
    key_padding_mask: Any = None,
    need_weights: bool = True,
    attn_mask: Any = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Any = None,
    k_proj_weight: Any = None,
    v_proj_weight: Any = None,
    static_k: Any = None,
    static_v: Any = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Any, Any]:
    """(attention of query (l, n, e) to key and value (s, n, ...), its weights): for each head softmax(Q K^T / sqrt(d) +
    mask) V, heads side by side through out_proj (Vaswani et al. 2017); all without n, too.

    in_proj_weight (3 e, e) stacks the projections, or q_proj_weight, k_proj_weight and v_proj_weight with
    use_separate_proj_weight; bias_k and bias_v (1, 1, e) add a key and a value, add_zero_attn a zero one; static_k and
    static_v (n heads, s, d) replace the projected ones. key_padding_mask (n, s) and attn_mask (l, s) or (n heads, l, s):
    True, or -inf, where not to look. is_causal says that attn_mask is the causal one. Weights are the heads' mean (n, l,
    s) unless average_attn_weights=False, None unless need_weights. AssertionError and RuntimeError for what does not fit.
    """
    batched = _dims(query, key, value, key_padding_mask, attn_mask, num_heads)
    if not batched:
        same = query is key, key is value
        query = shape.unsqueeze(query, 1)
        key = query if same[0] else shape.unsqueeze(key, 1)
        value = key if same[1] else shape.unsqueeze(value, 1)
        key_padding_mask = None if key_padding_mask is None else shape.unsqueeze(key_padding_mask, 0)
    (rows, n, e), columns, dtype = query.shape, key.shape[0], query.dtype
    if key_padding_mask is not None and attn_mask is not None and key_padding_mask.dtype != attn_mask.dtype:
        warnings.warn(f"{NAME}: masks of two dtypes are deprecated; use one for both", stacklevel=2)
    padding = added("key_padding_mask", key_padding_mask, dtype)
    if is_causal and attn_mask is None:
        raise RuntimeError(f"{NAME}: is_causal only describes attn_mask, and none was given")
    causal = is_causal and padding is None and not need_weights
    mask = None if causal else added("attn_mask", attn_mask, dtype)
    d = e // num_heads
    if e != embed_dim_to_check or d * num_heads != e:
        raise AssertionError(
            f"{NAME}: wanted a query of {embed_dim_to_check} features, which {num_heads} heads divide, saw {e}"
        )
    if tuple(key.shape[:2] if use_separate_proj_weight else key.shape) != tuple(
        value.shape[:2] if use_separate_proj_weight else value.shape
    ):
        raise AssertionError(f"{NAME}: wanted key and value alike, saw {tuple(key.shape)} and {tuple(value.shape)}")
    if use_separate_proj_weight:
        given = (q_proj_weight, k_proj_weight, v_proj_weight)
        weights = tuple(_need(w, f"{c}_proj_weight") for w, c in zip(given, "qkv", strict=True))
    else:
        weights = _need(in_proj_weight, "in_proj_weight")
    q, k, v = _projected((query, key, value), weights, in_proj_bias)
    mask = None if mask is None else _checked_mask(mask, n, num_heads, rows, columns)
    more = 0
    if (bias_k is None) != (bias_v is None):
        raise AssertionError(f"{NAME}: wanted bias_k and bias_v both or neither, saw one")
    if bias_k is not None:
        if static_k is not None or static_v is not None:
            raise AssertionError(f"{NAME}: wanted no bias beside static_k and static_v, saw both")
        k, v = (
            join.cat([x, shape.expand(shape.reshape(b, (-1, 1, e)), (-1, n, e))]) for x, b in ((k, bias_k), (v, bias_v))
        )
        more += 1

    def heads(x: Any) -> Any:
        """(l, n, heads d) as (n heads, l, d)."""
        return shape.permute(shape.reshape(x, (x.shape[0], n * num_heads, d)), (1, 0, 2))

    q = heads(q)
    k = heads(k) if static_k is None else _static(static_k, "static_k", n * num_heads, d)
    v = heads(v) if static_v is None else _static(static_v, "static_v", n * num_heads, d)
    if add_zero_attn:
        zero = _like(namespace(unwrap(k)).zeros((n * num_heads, 1, d), dtype), k)
        k, v = join.cat([k, zero], dim=1), join.cat([v, zero], dim=1)
        more += 1
    columns = k.shape[1]
    if more:
        mask = None if mask is None else arrange.pad(mask, (0, more))
        padding = None if padding is None else arrange.pad(padding, (0, more))
    if padding is not None:
        if tuple(padding.shape) != (n, columns):
            raise AssertionError(
                f"{NAME}: wanted a key_padding_mask of shape {(n, columns - more)}, saw {tuple(key_padding_mask.shape)}"
            )
        padding = shape.reshape(padding, (n, 1, 1, columns))
    split = tuple(shape.reshape(x, (n, num_heads, x.shape[1], d)) for x in (q, k, v))
    if mask is not None:
        mask = shape.reshape(
            mask, (n if mask.shape[0] > 1 else 1, num_heads if mask.shape[0] > 1 else 1, rows, columns)
        )
    mask = padding if mask is None else mask if padding is None else mask + padding
    drop = dropout_p if training else 0.0
    y, p = _attended(*split, mask, drop, causal, need_weights)
    y = shape.reshape(shape.permute(y, (2, 0, 1, 3)), (rows, n, e))
    y = linalg.linear(y, out_proj_weight, out_proj_bias)
    if p is not None and average_attn_weights:
        p = reduce.mean(p, 1)
    if not batched:
        return shape.squeeze(y, 1), None if p is None else shape.squeeze(p, 0)
    return y, p


def _attended(q: Any, k: Any, v: Any, mask: Any, drop: float, causal: bool, weighed: bool) -> tuple[Any, Any]:
    """(what the heads give (n, heads, l, d), their weights if they are asked for)."""
    if not weighed:
        return attention.scaled_dot_product_attention(q, k, v, mask, drop, causal), None
    scores = linalg.matmul(q * (1 / math.sqrt(q.shape[-1])), linalg.mT(k))
    p = softmax.softmax(scores if mask is None else scores + mask, -1)
    p = random.drop(p, drop) if drop else p
    return linalg.matmul(p, v), p
