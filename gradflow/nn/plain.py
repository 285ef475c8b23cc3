"""Functions of layers and losses with the arguments that PyTorch's own namespace, torch.*, gives them.

They differ from nn.functional's in the order of arguments; a reduction is a number: 0 none, 1 mean, 2 sum. Those without
a line of their own here are nn.functional's under the same name.
"""

from __future__ import annotations

from typing import Any

from .. import backend
from ..op import unwrap, wrap
from ..ops import loss, pair_loss, pointwise, random, reduce, rnn, shape
from ..ops.rnn import gru_cell, lstm_cell, rnn_relu_cell, rnn_tanh_cell  # noqa: F401  (part of this face)
from ..tape import Traced
from . import functional as F
from .utils.weight_norm import norm_except_dim  # noqa: F401  (part of this face)

# --- losses -----------------------------------------------------------------------------------------------


def binary_cross_entropy_with_logits(
    input: Any, target: Any, weight: Any = None, pos_weight: Any = None, reduction: Any = 1
) -> Any:
    """nn.functional.binary_cross_entropy_with_logits."""
    return loss.binary_cross_entropy_with_logits(input, target, weight, None, None, reduction, pos_weight)


def kl_div(input: Any, target: Any, reduction: Any = 1, *, log_target: bool = False) -> Any:
    """nn.functional.kl_div."""
    v = loss.kl_div(input, target, reduction="none", log_target=log_target)
    return loss._reduced(v, loss._reduction("kl_div", None, None, reduction))


def poisson_nll_loss(input: Any, target: Any, log_input: bool, full: bool, eps: float, reduction: Any) -> Any:
    """nn.functional.poisson_nll_loss."""
    return loss.poisson_nll_loss(input, target, log_input, full, None, eps, None, reduction)


def cosine_embedding_loss(input1: Any, input2: Any, target: Any, margin: float = 0.0, reduction: Any = 1) -> Any:
    """nn.functional.cosine_embedding_loss."""
    return pair_loss.cosine_embedding_loss(input1, input2, target, margin, reduction=reduction)


def hinge_embedding_loss(input: Any, target: Any, margin: float = 1.0, reduction: Any = 1) -> Any:
    """nn.functional.hinge_embedding_loss."""
    return pair_loss.hinge_embedding_loss(input, target, margin, reduction=reduction)


def margin_ranking_loss(input1: Any, input2: Any, target: Any, margin: float = 0.0, reduction: Any = 1) -> Any:
    """nn.functional.margin_ranking_loss."""
    return pair_loss.margin_ranking_loss(input1, input2, target, margin, reduction=reduction)


def triplet_margin_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: Any = 1,
) -> Any:
    """nn.functional.triplet_margin_loss."""
    return pair_loss.triplet_margin_loss(anchor, positive, negative, margin, p, eps, swap, reduction=reduction)


# --- tables, normalisation --------------------------------------------------------------------------------


def embedding(
    weight: Any, indices: Any, padding_idx: int = -1, scale_grad_by_freq: bool = False, sparse: bool = False
) -> Any:
    """weight[indices]; padding_idx -1 is none."""
    return F.embedding(indices, weight, None if padding_idx < 0 else padding_idx, None, 2.0, scale_grad_by_freq, sparse)


def embedding_renorm_(input: Any, indices: Any, max_norm: float, norm_type: float) -> Any:
    """Scale the rows of a table that are looked up down to a norm of at most max_norm, in place and unrecorded."""
    F.embedding(indices, input.detach(), None, max_norm, norm_type)
    return input


def batch_norm(
    input: Any,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = True,
) -> Any:
    """nn.functional.batch_norm."""
    return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


def instance_norm(
    input: Any,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = True,
) -> Any:
    """nn.functional.instance_norm."""
    return F.instance_norm(input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps)


def _statistics(x: Any, dims: Any, eps: float, keepdim: bool) -> tuple[Any, Any]:
    """(mean, 1 / sqrt(variance + eps)) over dims, computed in float32 for half types."""
    dtype = x.dtype
    if dtype.itemsize == 2:
        x = pointwise.cast(x, backend.float32)
    variance, mean = reduce.var_mean(x, dims, correction=0, keepdim=keepdim)
    return pointwise.cast(mean, dtype), pointwise.cast(pointwise.rsqrt(variance + eps), dtype)


def _constant(x: Any) -> Any:
    """x without its place on the tape."""
    return x.detach() if isinstance(x, Traced) else x


def native_layer_norm(input: Any, normalized_shape: Any, weight: Any, bias: Any, eps: float) -> tuple[Any, Any, Any]:
    """(layer_norm, mean, 1 / standard deviation), the statistics, constants, of each row with dimensions of size one."""
    sizes = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not sizes:
        raise RuntimeError("native_layer_norm: wanted a normalized_shape of at least one dimension, saw none")
    y = F.layer_norm(input, sizes, weight, bias, eps)
    return y, *_statistics(_constant(input), tuple(range(-len(sizes), 0)), eps, True)


def native_batch_norm(
    input: Any, weight: Any, bias: Any, running_mean: Any, running_var: Any, training: bool, momentum: float, eps: float
) -> tuple[Any, Any, Any]:
    """(batch_norm, mean, 1 / standard deviation) of each channel, constants; empty statistics in evaluation."""
    y = F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    if not training:
        xp = backend.namespace(unwrap(input))
        return y, wrap(xp.empty(0, input.dtype)), wrap(xp.empty(0, input.dtype))
    return y, *_statistics(_constant(input), (0, *range(2, input.ndim)), eps, False)


def native_group_norm(
    input: Any, weight: Any, bias: Any, N: int, C: int, HxW: int, group: int, eps: float
) -> tuple[Any, Any, Any]:
    """(group_norm, mean, 1 / standard deviation), the statistics (n, groups)."""
    y = F.group_norm(input, group, weight, bias, eps)
    return y, *_statistics(shape.reshape(input, (N, group, C // group * HxW)), -1, eps, False)


# --- dropout and the like ---------------------------------------------------------------------------------


def dropout(input: Any, p: float, train: bool) -> Any:
    """nn.functional.dropout."""
    return F.dropout(input, p, train)


def dropout_(input: Any, p: float, train: bool) -> Any:
    """dropout, written into the input."""
    return F.dropout(input, p, train, True)


def alpha_dropout(input: Any, p: float, train: bool) -> Any:
    """nn.functional.alpha_dropout."""
    return F.alpha_dropout(input, p, train)


def alpha_dropout_(input: Any, p: float, train: bool) -> Any:
    """alpha_dropout, written into the input."""
    return F.alpha_dropout(input, p, train, True)


def feature_dropout(input: Any, p: float, train: bool) -> Any:
    """dropout of whole channels, dimension 1 of x (n, c, ...)."""
    if not F._drops("feature_dropout", p, train):
        return input
    return input * F._mask(input, p, max(input.ndim - 2, 0))


def feature_dropout_(input: Any, p: float, train: bool) -> Any:
    """feature_dropout, written into the input."""
    return F._into("feature_dropout_", input, feature_dropout(input, p, train))


def feature_alpha_dropout(input: Any, p: float, train: bool) -> Any:
    """nn.functional.feature_alpha_dropout."""
    return F.feature_alpha_dropout(input, p, train)


def feature_alpha_dropout_(input: Any, p: float, train: bool) -> Any:
    """feature_alpha_dropout, written into the input."""
    return F.feature_alpha_dropout(input, p, train, True)


def native_dropout(input: Any, p: float, train: bool | None) -> tuple[Any, Any]:
    """(dropout, the bools that say what was kept)."""
    x = unwrap(input)
    xp = backend.namespace(x)
    if train is False or p == 0:
        kept = xp.ones(x.shape, backend.bool_)
    else:
        kept = random.keep(1 - p, x.shape, xp)
    return random.dropped(input, kept, 0.0 if train is False else p), wrap(kept)


def native_dropout_backward(grad_output: Any, mask: Any, scale: float) -> Any:
    """g mask scale: the gradient of dropout from its mask."""
    return grad_output * mask * scale


# --- recurrent networks -----------------------------------------------------------------------------------


def _run(input: Any, args: tuple, function: Any, *more: Any) -> Any:
    """function on (input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first), or on (data,
    batch_sizes, hx, params, has_biases, num_layers, dropout, train, bidirectional): in these, hx follows sizes.
    """
    sizes: Any = None
    if not isinstance(args[0], (list, tuple)) and args[0].dtype.kind in "iu":
        sizes, *args = args  # type: ignore[assignment]
    hx, params, _, layers, dropout, train, bidirectional, *first = args
    hx = tuple(hx) if isinstance(hx, (list, tuple)) else hx
    return function(
        input, hx, list(params), *more, layers, bidirectional, dropout, train, bool(first and first[0]), sizes
    )


def lstm(input: Any, *args: Any) -> tuple[Any, Any, Any]:
    """(y, hn, cn) of a network of LSTM layers: arguments as nn.LSTM calls them."""
    y, (h, c) = _run(input, args, rnn.lstm)
    return y, h, c


def gru(input: Any, *args: Any) -> tuple[Any, Any]:
    """(y, hn) of a network of GRU layers."""
    return _run(input, args, rnn.gru)


def rnn_tanh(input: Any, *args: Any) -> tuple[Any, Any]:
    """(y, hn) of a network of plain layers with tanh."""
    return _run(input, args, rnn.rnn, "tanh")


def rnn_relu(input: Any, *args: Any) -> tuple[Any, Any]:
    """(y, hn) of a network of plain layers with relu."""
    return _run(input, args, rnn.rnn, "relu")
