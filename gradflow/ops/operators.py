"""Operators of PyTorch's own namespace beside the functions of layers: the same arithmetic with other arguments."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backend import namespace
from ..op import unwrap, wrap
from ..tape import Traced
from . import embedding_bag as bags
from . import norm, pointwise, pool, reduce, row_norm, softmax


def embedding_bag(
    weight: Any,
    indices: Any,
    offsets: Any,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: Any = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> tuple[Any, Any, Any, Any]:
    """(bags reduced by mode 0 sum, 1 mean, 2 max; the bag of each index; the bags' sizes; the rows of the largest)."""
    frequent, last = scale_grad_by_freq, include_last_offset
    return bags.bags(weight, indices, offsets, frequent, mode, sparse, per_sample_weights, last, padding_idx)


def adaptive_max_pool1d(input: Any, output_size: Any) -> tuple[Any, Any]:
    """(The largest elements of output_size windows, their places), of which nn.functional's gives the first."""
    return pool.adaptive_max_pool1d_with_indices(input, output_size)


# --- norms ----------------------------------------------------------------------------------------------


def _constant(x: Any) -> Any:
    return wrap(unwrap(x)) if isinstance(x, Traced) else x


def _native_batch_norm_legit(input: Any, weight: Any, bias: Any, *rest: Any) -> tuple[Any, Any, Any]:
    """(batch_norm, the mean and 1 / standard deviation it used in training) for rest = (running_mean, running_var,
    training, momentum, eps), or without the first two.
    """
    mean, var, training, momentum, eps = rest if len(rest) == 5 else (None, None, *rest)
    y = norm.batch_norm(input, mean, var, weight, bias, training, momentum, eps)
    x = _constant(input)
    if not training:
        none = reduce.sum(x) * 0
        return y, none[None][:0], none[None][:0]
    return y, *map(_constant, norm.batch_norm_forward(x, None, None, eps)[1:])


def _native_batch_norm_legit_no_training(
    input: Any, weight: Any, bias: Any, running_mean: Any, running_var: Any, momentum: float, eps: float
) -> tuple[Any, Any, Any]:
    """_native_batch_norm_legit in evaluation."""
    return _native_batch_norm_legit(input, weight, bias, running_mean, running_var, False, momentum, eps)


def _batch_norm_with_update(
    input: Any, weight: Any, bias: Any, running_mean: Any, running_var: Any, momentum: float, eps: float
) -> tuple[Any, Any, Any, Any]:
    """_native_batch_norm_legit in training, and an empty reserve."""
    found = _native_batch_norm_legit(input, weight, bias, running_mean, running_var, True, momentum, eps)
    reserve = namespace(unwrap(input)).zeros(0, np.uint8)
    return *found, wrap(reserve) if isinstance(input, Traced) else reserve


def _fused_rms_norm(input: Any, normalized_shape: Any, weight: Any, eps: float | None) -> tuple[Any, Any]:
    """(rms_norm, 1 / the root of the mean square)."""
    return row_norm.rms_norm_forward(input, normalized_shape, weight, eps)


def native_norm(input: Any, p: Any = 2) -> Any:
    """The p-norm of all elements."""
    return reduce.norm(input, p)


# --- softmax --------------------------------------------------------------------------------------------


def _to_float(x: Any, half_to_float: bool) -> Any:
    return pointwise.cast(x, np.dtype(np.float32)) if half_to_float else x


def _softmax(input: Any, dim: int, half_to_float: bool) -> Any:
    """softmax; half_to_float gives float32 for float16."""
    return softmax.softmax(_to_float(input, half_to_float), dim)


def _log_softmax(input: Any, dim: int, half_to_float: bool) -> Any:
    """log_softmax; half_to_float gives float32 for float16."""
    return softmax.log_softmax(_to_float(input, half_to_float), dim)


def _safe_softmax(input: Any, dim: int, dtype: Any = None) -> Any:
    """softmax, with zeros for what sees nothing but minus infinity."""
    x = unwrap(input)
    nothing = namespace(x).all(x == -np.inf, axis=dim, keepdims=True) if x.ndim else x == -np.inf
    y = softmax.softmax(input, dim, dtype)
    return pointwise.where(wrap(nothing) if isinstance(input, Traced) else nothing, 0.0, y)


def _softmax_backward_data(grad_output: Any, output: Any, dim: int, input_dtype: Any) -> Any:
    """The gradient of softmax from its output."""
    return pointwise.cast(softmax.softmax_backward(grad_output, output, dim), np.dtype(input_dtype))


def _log_softmax_backward_data(grad_output: Any, output: Any, dim: int, input_dtype: Any) -> Any:
    """The gradient of log_softmax from its output."""
    return pointwise.cast(softmax.log_softmax_backward(grad_output, output, dim), np.dtype(input_dtype))
