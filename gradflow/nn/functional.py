"""nn.functional: what layers compute, as functions with PyTorch's names and arguments, of tensors or of arrays."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from .. import backend
from ..call import drawn
from ..op import unwrap, wrap
from ..ops import (
    arrange,
    attention,
    combined,
    conv,
    distance,
    einsum,
    gather,
    linalg,
    loss,
    norm,
    pair_loss,
    pointwise,
    pool,
    random,
    reduce,
)
from ..ops import embedding as tables
from ..ops import softmax as softmaxes
from ..tape import Traced


def _into(name: str, input: Any, value: Any) -> Any:
    """`value` written into the tensor `input`, as inplace=True asks."""
    if not isinstance(input, Traced):
        raise TypeError(f"{name}: wanted a tensor to write into, saw {type(input).__name__}")
    return input._write(name, value)  # type: ignore[attr-defined]


def _face(function: Callable[..., Any], head: str) -> Callable[..., Any]:
    """The same function by PyTorch's name and argument names, for a head like "linear(input, weight, bias=None)".

    A last argument `inplace` is not the function's: it writes the result into the input.
    """
    name, _, parameters = head.partition("(")
    names = eval(f"lambda {parameters.rstrip(')')}: 0").__code__.co_varnames
    inplace = names[-1] == "inplace"
    call = f"function({', '.join(names[:-1] if inplace else names)})"
    if inplace:
        call = f"into({name + '_'!r}, {names[0]}, {call}) if inplace else {call}"
    face = eval(f"lambda {parameters.rstrip(')')}: {call}", {"function": function, "into": _into})
    face.__name__ = face.__qualname__ = name
    face.__doc__, face.__module__ = function.__doc__, __name__
    return face


def _writing(function: Callable[..., Any], head: str) -> Callable[..., Any]:
    """A function of this face with inplace=True, by the name that ends in _."""
    face = _face(lambda *args: function(*args, inplace=True), head)
    face.__doc__ = f"{function.__name__}, written into the input."
    return face


def _apart(function: Callable[..., Any], head: str, unused: int) -> Callable[..., Any]:
    """A function by a head that has one argument more, number `unused`, which changes nothing."""
    face = _face(lambda *args: function(*args[:unused], *args[unused + 1 :]), head)
    face.__doc__ = function.__doc__
    return face


# Families that are loaded when one of their functions is first asked for: a file of ops/, and names in it.
_LATER = {
    "conv": "conv_tbc",
    "ctc": "ctc_loss",
    "embedding_bag": "embedding_bag",
    "fold": "fold unfold",
    "fractional": """fractional_max_pool2d fractional_max_pool2d_with_indices
        fractional_max_pool3d fractional_max_pool3d_with_indices""",
    "grid": "affine_grid grid_sample",
    "linear_loss": "linear_cross_entropy",
    "multi_head": "multi_head_attention_forward",
    "resample": "interpolate upsample upsample_nearest upsample_bilinear",
    "shuffle": "channel_shuffle native_channel_shuffle pixel_shuffle pixel_unshuffle",
    "unpool": "max_unpool1d max_unpool2d max_unpool3d",
}
_family_of = {name: family for family, names in _LATER.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _family_of:
        raise AttributeError(f"nn.functional: wanted a function of this face, saw {name!r}")
    globals()[name] = found = getattr(import_module(f"gradflow.ops.{_family_of[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_family_of})


pad = _face(arrange.pad, "pad(input, pad, mode='constant', value=None)")

# --- products and convolutions --------------------------------------------------------------------------

_SHAPE = "(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1)"
_TRANSPOSED = "(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1)"
linear = _face(linalg.linear, "linear(input, weight, bias=None)")
conv1d = _face(conv.conv1d, f"conv1d{_SHAPE}")
conv2d = _face(conv.conv2d, f"conv2d{_SHAPE}")
conv3d = _face(conv.conv3d, f"conv3d{_SHAPE}")
conv_transpose1d = _face(conv.conv_transpose1d, f"conv_transpose1d{_TRANSPOSED}")
conv_transpose2d = _face(conv.conv_transpose2d, f"conv_transpose2d{_TRANSPOSED}")
conv_transpose3d = _face(conv.conv_transpose3d, f"conv_transpose3d{_TRANSPOSED}")


def bilinear(input1: Any, input2: Any, weight: Any, bias: Any = None) -> Any:
    """x1^T A_k x2 + b_k for each k: input1 (..., i), input2 (..., j), weight A (k, i, j). RuntimeError for others."""
    if weight.ndim != 3 or input1.shape[-1] != weight.shape[1] or input2.shape[-1] != weight.shape[2]:
        raise RuntimeError(
            f"bilinear: wanted a weight (k, {input1.shape[-1]}, {input2.shape[-1]}), saw {tuple(weight.shape)}"
        )
    if tuple(input1.shape[:-1]) != tuple(input2.shape[:-1]):
        raise RuntimeError(
            "bilinear: wanted inputs alike but for the last dimension, "
            f"saw {tuple(input1.shape)} and {tuple(input2.shape)}"
        )
    y = einsum.einsum("...i,kij,...j->...k", input1, weight, input2)
    return y if bias is None else y + bias


scaled_dot_product_attention = attention.scaled_dot_product_attention


# --- rows of a table ------------------------------------------------------------------------------------

one_hot = _face(gather.one_hot, "one_hot(input, num_classes=-1)")


def embedding(
    input: Any,
    weight: Any,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Any:
    """weight[input]: input int of any shape, weight (rows, d); the result has a last dimension d more than the input.

    padding_idx         the row that gets no gradient
    max_norm            rows that are looked up are scaled down, in place and unrecorded, to this norm_type-norm
    scale_grad_by_freq  a row's gradient is divided by how often it was looked up
    sparse              changes nothing: gradients are dense
    RuntimeError for an input that is not of ints, IndexError for rows that are not there (looked for on the CPU only).
    """
    if padding_idx is not None and weight.ndim == 2 and not -weight.shape[0] <= padding_idx < weight.shape[0]:
        raise AssertionError(f"embedding: wanted padding_idx within {weight.shape[0]} rows, saw {padding_idx}")
    if max_norm is not None:
        tables.renorm(weight, input, max_norm, norm_type)
    return tables.embedding(input, weight, padding_idx, scale_grad_by_freq)


# --- pooling --------------------------------------------------------------------------------------------

_AVERAGE = "(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True"
max_pool1d, max_pool2d, max_pool3d = pool.max_pool1d, pool.max_pool2d, pool.max_pool3d
_MAX = "(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False)"
_MOST = "(input, output_size, return_indices=False)"
max_pool1d_with_indices = _apart(pool.max_pool1d_with_indices, f"max_pool1d_with_indices{_MAX}", 6)
max_pool2d_with_indices = _apart(pool.max_pool2d_with_indices, f"max_pool2d_with_indices{_MAX}", 6)
max_pool3d_with_indices = _apart(pool.max_pool3d_with_indices, f"max_pool3d_with_indices{_MAX}", 6)
adaptive_max_pool1d_with_indices = _apart(
    pool.adaptive_max_pool1d_with_indices, f"adaptive_max_pool1d_with_indices{_MOST}", 2
)
adaptive_max_pool2d_with_indices = _apart(
    pool.adaptive_max_pool2d_with_indices, f"adaptive_max_pool2d_with_indices{_MOST}", 2
)
adaptive_max_pool3d_with_indices = _apart(
    pool.adaptive_max_pool3d_with_indices, f"adaptive_max_pool3d_with_indices{_MOST}", 2
)
avg_pool1d = _face(pool.avg_pool1d, f"avg_pool1d{_AVERAGE})")
avg_pool2d = _face(pool.avg_pool2d, f"avg_pool2d{_AVERAGE}, divisor_override=None)")
avg_pool3d = _face(pool.avg_pool3d, f"avg_pool3d{_AVERAGE}, divisor_override=None)")
adaptive_avg_pool1d = _face(pool.adaptive_avg_pool1d, "adaptive_avg_pool1d(input, output_size)")
adaptive_avg_pool2d = _face(pool.adaptive_avg_pool2d, "adaptive_avg_pool2d(input, output_size)")
adaptive_avg_pool3d = _face(pool.adaptive_avg_pool3d, "adaptive_avg_pool3d(input, output_size)")
adaptive_max_pool1d, adaptive_max_pool2d = pool.adaptive_max_pool1d, pool.adaptive_max_pool2d
adaptive_max_pool3d = pool.adaptive_max_pool3d
lp_pool1d, lp_pool2d, lp_pool3d = pool.lp_pool1d, pool.lp_pool2d, pool.lp_pool3d


# --- normalisation --------------------------------------------------------------------------------------

batch_norm, instance_norm, group_norm = norm.batch_norm, norm.instance_norm, norm.group_norm
layer_norm, rms_norm, local_response_norm = norm.layer_norm, norm.rms_norm, norm.local_response_norm


def normalize(input: Any, p: float = 2.0, dim: Any = 1, eps: float = 1e-12, out: Any = None) -> Any:
    """x / max(|x|_p, eps), the p-norm along dim; written into `out`, if given, which is then the result."""
    size = reduce.norm(input, p, dim, True)
    y = input / pointwise.clamp(size, min=eps)
    return y if out is None else out.copy_(y)


# --- activations ----------------------------------------------------------------------------------------

relu = _face(pointwise.relu, "relu(input, inplace=False)")
relu6 = _face(pointwise.relu6, "relu6(input, inplace=False)")
elu = _face(pointwise.elu, "elu(input, alpha=1.0, inplace=False)")
celu = _face(combined.celu, "celu(input, alpha=1.0, inplace=False)")
selu = _face(combined.selu, "selu(input, inplace=False)")
silu = _face(pointwise.silu, "silu(input, inplace=False)")
mish = _face(pointwise.mish, "mish(input, inplace=False)")
gelu = _face(pointwise.gelu, "gelu(input, approximate='none')")
leaky_relu = _face(pointwise.leaky_relu, "leaky_relu(input, negative_slope=0.01, inplace=False)")
prelu = _face(combined.prelu, "prelu(input, weight)")
hardtanh = _face(pointwise.hardtanh, "hardtanh(input, min_val=-1.0, max_val=1.0, inplace=False)")
hardswish = _face(pointwise.hardswish, "hardswish(input, inplace=False)")
hardsigmoid = _face(pointwise.hardsigmoid, "hardsigmoid(input, inplace=False)")
hardshrink = _face(pointwise.hardshrink, "hardshrink(input, lambd=0.5)")
softshrink = _face(pointwise.softshrink, "softshrink(input, lambd=0.5)")
tanhshrink = _face(pointwise.tanhshrink, "tanhshrink(input)")
softplus = _face(pointwise.softplus, "softplus(input, beta=1.0, threshold=20.0)")
softsign = _face(
    lambda x: x / (pointwise.abs(x) + 1) if x.dtype.kind == "c" else pointwise.softsign(x), "softsign(input)"
)
softsign.__doc__ = "x / (1 + |x|)."
threshold = _face(pointwise.threshold, "threshold(input, threshold, value, inplace=False)")
sigmoid = _face(pointwise.sigmoid, "sigmoid(input)")
tanh = _face(pointwise.tanh, "tanh(input)")
logsigmoid = _face(pointwise.log_sigmoid, "logsigmoid(input)")
softmax = _apart(softmaxes.softmax, "softmax(input, dim=None, _stacklevel=3, dtype=None)", 2)
log_softmax = _apart(softmaxes.log_softmax, "log_softmax(input, dim=None, _stacklevel=3, dtype=None)", 2)
softmin = _apart(softmaxes.softmin, "softmin(input, dim=None, _stacklevel=3, dtype=None)", 2)


relu_, selu_ = _writing(relu, "relu_(input)"), _writing(selu, "selu_(input)")
elu_, celu_ = _writing(elu, "elu_(input, alpha=1.0)"), _writing(celu, "celu_(input, alpha=1.0)")
leaky_relu_ = _writing(leaky_relu, "leaky_relu_(input, negative_slope=0.01)")
hardtanh_ = _writing(hardtanh, "hardtanh_(input, min_val=-1.0, max_val=1.0)")
threshold_ = _writing(threshold, "threshold_(input, threshold, value)")


def glu(input: Any, dim: int = -1) -> Any:
    """a sigmoid(b), a and b the halves of the input along dim (Dauphin et al. 2017). RuntimeError for an odd size."""
    n = input.shape[dim]
    if n % 2:
        raise RuntimeError(f"glu: wanted an even size along dimension {dim}, saw {n}")
    at = [slice(None)] * (dim % input.ndim)
    return input[(*at, slice(n // 2))] * pointwise.sigmoid(input[(*at, slice(n // 2, None))])


@drawn
def gumbel_softmax(logits: Any, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1) -> Any:
    """softmax((logits + g) / tau) along dim, g = -log(-log u) drawn from Gumbel's distribution (Jang et al. 2017).

    hard gives the one-hot vector of the largest, with the gradient of the soft one. eps changes nothing.
    """
    x = unwrap(logits)
    xp = backend.namespace(x)
    noise = -xp.log(random.exponential(x.shape, x.dtype, xp))
    soft = softmaxes.softmax((logits + (wrap(noise) if isinstance(logits, Traced) else noise)) / tau, dim)
    if not hard:
        return soft
    y = unwrap(soft)
    best = xp.expand_dims(y.argmax(dim), dim)
    shape = [1] * y.ndim
    shape[dim] = -1
    one = (xp.arange(y.shape[dim]).reshape(shape) == best).astype(y.dtype)
    return soft + (wrap(one - y) if isinstance(soft, Traced) else one - y)


@drawn
def rrelu(
    input: Any, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False, inplace: bool = False
) -> Any:
    """x where x > 0, else s x: s drawn uniform in [lower, upper) in training, else their mean (Xu et al. 2015).
    RuntimeError for lower above upper.
    """
    if lower > upper:
        raise RuntimeError(f"rrelu: wanted lower not above upper, saw {lower} and {upper}")
    if not training:
        y = pointwise.leaky_relu(input, (lower + upper) / 2)
    else:
        x = unwrap(input)
        dtype = backend.float32 if x.dtype.itemsize == 2 else x.dtype
        xp = backend.namespace(x)
        sequence = random.sequence_of(xp)
        if sequence is None:
            slopes = xp.where(x > 0, 1, random.uniform(x.shape, dtype, xp) * (upper - lower) + lower)
        else:  # as PyTorch, only for those that have a slope
            slopes, below = np.ones(x.shape), x <= 0
            slopes[below] = sequence.uniform((int(below.sum()),), np.dtype(float), lower, upper)
        y = input * (wrap if isinstance(input, Traced) else _same)(slopes.astype(x.dtype, copy=False))
    return _into("rrelu_", input, y) if inplace else y


rrelu_ = _writing(rrelu, "rrelu_(input, lower=1.0 / 8, upper=1.0 / 3, training=False)")


def _same(x: Any) -> Any:
    return x


# --- dropout --------------------------------------------------------------------------------------------


def _drops(name: str, p: float, training: bool) -> bool:
    if not 0 <= p <= 1:
        raise ValueError(f"{name}: wanted a probability p in [0, 1], saw {p}")
    return training and p > 0


def dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """x / (1 - p) where kept, with probability 1 - p, else 0; x itself unless training (Srivastava et al. 2014)."""
    if not _drops("dropout", p, training):
        return input
    y = random.drop(input, p)
    return _into("dropout_", input, y) if inplace else y


def _mask(input: Any, p: float, dims: int) -> Any:
    """1 / (1 - p) with probability 1 - p, else 0: like the input, but of size one along its last `dims` dimensions."""
    x = unwrap(input)
    ones = backend.namespace(x).ones(x.shape[: x.ndim - dims] + (1,) * dims, x.dtype)
    return random.drop(wrap(ones) if isinstance(input, Traced) else ones, p)


def _drop_channels(name: str, input: Any, p: float, training: bool, inplace: bool, spatial: tuple[int, ...]) -> Any:
    """`spatial` says, by the input's number of dimensions less two, how many of the last ones belong to a channel."""
    if not _drops(name, p, training):
        return input
    if 0 <= input.ndim - 2 < len(spatial) and spatial[input.ndim - 2]:
        within = spatial[input.ndim - 2]
    elif name == "dropout1d" or input.ndim < 2:
        raise RuntimeError(f"{name}: wanted {len(spatial)} or {len(spatial) + 1} dimensions, saw {tuple(input.shape)}")
    else:
        seen = f"{len(spatial)} or {len(spatial) + 1} dimensions, saw {tuple(input.shape)}"
        warnings.warn(
            f"{name}: wanted {seen}; took the {'first' if name[-2] == '3' else 'second'} for channels", stacklevel=3
        )
        within = input.ndim - (1 if name[-2] == "3" else 2)
    y = input * _mask(input, p, within)
    return _into(f"{name}_", input, y) if inplace else y


def dropout1d(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """dropout of whole channels of x (n, c, w) or (c, w) (Tompson et al. 2015)."""
    return _drop_channels("dropout1d", input, p, training, inplace, (1, 1))


def dropout2d(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """dropout of whole channels of x (n, c, h, w) or (n, c, w) (Tompson et al. 2015)."""
    return _drop_channels("dropout2d", input, p, training, inplace, (0, 1, 2))


def dropout3d(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """dropout of whole channels of x (n, c, d, h, w) or (c, d, h, w) (Tompson et al. 2015)."""
    return _drop_channels("dropout3d", input, p, training, inplace, (0, 0, 3, 3))


_ALPHA = -1.7580993408473766  # where SELU goes far to the left: -scale alpha (Klambauer et al. 2017)


def _alpha(name: str, input: Any, p: float, training: bool, inplace: bool, dims: int) -> Any:
    if not _drops(name, p, training):
        return input
    if p == 1:
        y = input * 0
    else:
        kept = _mask(input, p, dims) != 0
        kept = pointwise.cast(kept, input.dtype)
        a = 1 / math.sqrt((1 - p) * (1 + p * _ALPHA**2))
        y = input * kept * a + ((1 - kept) * (a * _ALPHA) - a * _ALPHA * p)
    return _into(f"{name}_", input, y) if inplace else y


def alpha_dropout(input: Any, p: float = 0.5, training: bool = False, inplace: bool = False) -> Any:
    """a (x where kept, else alpha') + b, with a and b that keep mean 0 and variance 1 (Klambauer et al. 2017)."""
    return _alpha("alpha_dropout", input, p, training, inplace, 0)


def feature_alpha_dropout(input: Any, p: float = 0.5, training: bool = False, inplace: bool = False) -> Any:
    """alpha_dropout of whole channels, dimension 1."""
    return _alpha("feature_alpha_dropout", input, p, training, inplace, max(input.ndim - 2, 0))


# --- losses and distances -------------------------------------------------------------------------------

l1_loss, mse_loss, smooth_l1_loss, huber_loss = loss.l1_loss, loss.mse_loss, loss.smooth_l1_loss, loss.huber_loss
cross_entropy, nll_loss, kl_div = loss.cross_entropy, loss.nll_loss, loss.kl_div
binary_cross_entropy = loss.binary_cross_entropy
binary_cross_entropy_with_logits = loss.binary_cross_entropy_with_logits
poisson_nll_loss, gaussian_nll_loss = loss.poisson_nll_loss, loss.gaussian_nll_loss
multi_margin_loss, multilabel_margin_loss = loss.multi_margin_loss, loss.multilabel_margin_loss
multilabel_soft_margin_loss = loss.multilabel_soft_margin_loss
hinge_embedding_loss, soft_margin_loss = pair_loss.hinge_embedding_loss, pair_loss.soft_margin_loss
margin_ranking_loss, cosine_embedding_loss = pair_loss.margin_ranking_loss, pair_loss.cosine_embedding_loss
triplet_margin_loss = pair_loss.triplet_margin_loss
triplet_margin_with_distance_loss = pair_loss.triplet_margin_with_distance_loss
pairwise_distance, cosine_similarity, pdist = distance.pairwise_distance, distance.cosine_similarity, distance.pdist
