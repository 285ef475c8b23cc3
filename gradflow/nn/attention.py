"""Multi-head attention as a layer (Vaswani et al. 2017)."""

from __future__ import annotations

import math
from typing import Any

from .. import backend
from ..ops import join, pointwise, shape
from . import functional as F
from . import init
from .linear import Linear
from .module import Module
from .parameter import Parameter, blank, filled


def added_mask(name: str, mask: Any, dtype: Any) -> Any:
    """A mask as something to add to scores: a bool one, True where not to look, as -inf; a floating one as it is."""
    if mask is None:
        return None
    if mask.array.dtype == backend.bool_:
        floor = filled((), -math.inf, dtype, mask.device)
        return pointwise.where(mask, floor, filled((), 0.0, dtype, mask.device))
    if not mask.is_floating_point():
        raise AssertionError(f"{name}: wanted a bool or floating mask, saw {mask.dtype}")
    return mask if mask.array.dtype == dtype else mask.to(dtype)


class NonDynamicallyQuantizableLinear(Linear):
    """Linear, by the name that PyTorch's repr of an attention's output projection shows."""


class MultiheadAttention(Module):
    """softmax(Q_h K_h^T / sqrt(d) + mask) V_h for each head h, heads side by side through a last Linear.

    query (l, n, embed_dim), key (s, n, kdim), value (s, n, vdim), with the batch first if batch_first, or without it.
    in_proj_weight stacks the projections of q, k and v; three weights where kdim or vdim differ from embed_dim.
    add_bias_kv learns one more key and value, add_zero_attn adds a zero one.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if embed_dim <= 0 or num_heads <= 0:
            raise ValueError(f"MultiheadAttention: wanted embed_dim and num_heads > 0, saw {embed_dim} and {num_heads}")
        if embed_dim % num_heads:
            raise AssertionError(
                f"MultiheadAttention: wanted embed_dim divisible by {num_heads} heads, saw {embed_dim}"
            )
        self.embed_dim, self.num_heads, self.head_dim = embed_dim, num_heads, embed_dim // num_heads
        self.kdim, self.vdim = kdim or embed_dim, vdim or embed_dim
        self.dropout, self.batch_first, self.add_zero_attn = dropout, batch_first, add_zero_attn
        packed = self._qkv_same_embed_dim = self.kdim == embed_dim and self.vdim == embed_dim

        def weight(*size: int) -> Parameter:
            return Parameter(blank(size, dtype, device))

        self.register_parameter("q_proj_weight", None if packed else weight(embed_dim, embed_dim))
        self.register_parameter("k_proj_weight", None if packed else weight(embed_dim, self.kdim))
        self.register_parameter("v_proj_weight", None if packed else weight(embed_dim, self.vdim))
        self.register_parameter("in_proj_weight", weight(3 * embed_dim, embed_dim) if packed else None)
        self.register_parameter("in_proj_bias", weight(3 * embed_dim) if bias else None)
        self.out_proj = NonDynamicallyQuantizableLinear(embed_dim, embed_dim, bias, device, dtype)
        self.bias_k: Any = None
        self.bias_v: Any = None
        if add_bias_kv:
            self.bias_k, self.bias_v = weight(1, 1, embed_dim), weight(1, 1, embed_dim)
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        for w in (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
            if w is not None:
                init.xavier_uniform_(w)
        if self.in_proj_bias is not None:
            init.zeros_(self.in_proj_bias)
            init.zeros_(self.out_proj.bias)
        if self.bias_k is not None:
            init.xavier_normal_(self.bias_k)
            init.xavier_normal_(self.bias_v)

    def _project(self, query: Any, key: Any, value: Any) -> tuple[Any, Any, Any]:
        e, bias = self.embed_dim, self.in_proj_bias
        if not self._qkv_same_embed_dim:
            bq, bk, bv = (None, None, None) if bias is None else join.split(bias, e)
            q = F.linear(query, self.q_proj_weight, bq)
            return q, F.linear(key, self.k_proj_weight, bk), F.linear(value, self.v_proj_weight, bv)
        w = self.in_proj_weight
        if query is key and key is value:  # one product for all three
            qkv = F.linear(query, w, bias)
            return join.split(qkv, e, -1)
        if key is value:
            (wq, rest), (bq, br) = (join.split(x, [e, 2 * e]) if x is not None else (None, None) for x in (w, bias))
            return F.linear(query, wq, bq), *join.split(F.linear(key, rest, br), e, -1)
        parts = zip((query, key, value), join.split(w, e), (None,) * 3 if bias is None else join.split(bias, e), strict=True)
        q, k, v = (F.linear(*part) for part in parts)
        return q, k, v

    def _heads(self, x: Any) -> Any:
        """(l, n, heads d) as (n, heads, l, d)."""
        return x.reshape(*x.shape[:2], self.num_heads, self.head_dim).permute(1, 2, 0, 3)

    def forward(
        self,
        query: Any,
        key: Any,
        value: Any,
        key_padding_mask: Any = None,
        need_weights: bool = True,
        attn_mask: Any = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Any, Any]:
        """(output, weights): weights are None unless need_weights, and the mean over the heads unless told otherwise.

        key_padding_mask (n, s) and attn_mask (l, s) or (n heads, l, s): True, or -inf, where not to look. is_causal
        says that attn_mask is the causal one.
        """
        if is_causal and attn_mask is None:
            raise RuntimeError("MultiheadAttention: is_causal only describes attn_mask, and none was given")
        batched = query.dim() == 3
        if query.dim() not in (2, 3) or key.dim() != query.dim() or value.dim() != query.dim():
            raise AssertionError(
                "MultiheadAttention: wanted query, key and value all 2-d or all 3-d, "
                f"saw shapes {tuple(query.shape)}, {tuple(key.shape)}, {tuple(value.shape)}"
            )
        if query.shape[-1] != self.embed_dim:
            raise AssertionError(
                f"MultiheadAttention: wanted a query of {self.embed_dim} features, saw {query.shape[-1]}"
            )
        q, k, v = self._project(query, key, value)
        if not batched:
            q, k, v = (shape.unsqueeze(x, 1) for x in (q, k, v))
            key_padding_mask = None if key_padding_mask is None else shape.unsqueeze(key_padding_mask, 0)
        elif self.batch_first:
            q, k, v = (shape.transpose(x, 0, 1) for x in (q, k, v))
        (length, n), dtype = q.shape[:2], q.array.dtype
        causal = is_causal and key_padding_mask is None and not need_weights
        mask = None if causal else self._mask(attn_mask, key_padding_mask, n, length, k.shape[0], dtype)
        extra = 0
        if self.bias_k is not None:
            k = join.cat([k, self.bias_k.expand(1, n, -1)])
            v = join.cat([v, self.bias_v.expand(1, n, -1)])
            extra += 1
        if self.add_zero_attn:
            zero = filled((1, n, self.embed_dim), 0.0, dtype, q.device)
            k, v = join.cat([k, zero]), join.cat([v, zero])
            extra += 1
        if extra and (mask is not None or causal):
            if mask is None:  # the causal hint does not reach over what was appended
                mask, causal = self._mask(attn_mask, None, n, length, k.shape[0] - extra, dtype), False
            mask = F.pad(mask, (0, extra))
        q, k, v = self._heads(q), self._heads(k), self._heads(v)
        p = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = (q * (1 / math.sqrt(self.head_dim))) @ shape.transpose(k, -2, -1)
            weights = F.softmax(scores if mask is None else scores + mask, -1)
            weights = F.dropout(weights, p) if p else weights
            y = weights @ v
        else:
            y = F.scaled_dot_product_attention(q, k, v, mask, p, causal)
        y = self.out_proj(y.permute(2, 0, 1, 3).reshape(length, n, self.embed_dim))
        if weights is not None and average_attn_weights:
            weights = weights.mean(1)
        if not batched:
            return shape.squeeze(y, 1), None if weights is None else shape.squeeze(weights, 0)
        return (shape.transpose(y, 0, 1) if self.batch_first else y), weights

    def _mask(self, attn_mask: Any, key_padding_mask: Any, n: int, length: int, s: int, dtype: Any) -> Any:
        """Both masks as one to add to scores (n, heads, length, s), or None."""
        mask = added_mask("attn_mask", attn_mask, dtype)
        padding = added_mask("key_padding_mask", key_padding_mask, dtype)
        if mask is not None:
            wanted = (length, s) if mask.dim() == 2 else (n * self.num_heads, length, s)
            if tuple(mask.shape) != wanted:
                raise RuntimeError(
                    f"MultiheadAttention: wanted an attn_mask of shape {wanted}, saw {tuple(mask.shape)}"
                )
            if mask.dim() == 3:
                mask = mask.reshape(n, self.num_heads, length, s)
        if padding is not None:
            if tuple(padding.shape) != (n, s):
                raise AssertionError(
                    f"MultiheadAttention: wanted a key_padding_mask of shape {(n, s)}, saw {tuple(padding.shape)}"
                )
            padding = padding.reshape(n, 1, 1, s)
            mask = padding if mask is None else mask + padding
        return mask
