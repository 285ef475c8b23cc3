"""Norms over batches, groups, instances and neighbouring channels; row_norm.py has those over the last dimensions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backend import namespace
from ..call import sampled
from ..cases import Sampler, case
from ..kernel import kernel
from ..op import op, unwrap
from ..tape import Traced
from . import pointwise, reduce, shape, standardize
from .row_norm import layer_norm, rms_norm

__all__ = ["batch_norm", "group_norm", "instance_norm", "layer_norm", "local_response_norm", "rms_norm"]

# --- over all but the channels: batch norm --------------------------------------------------------------


def _channel_cases(r: Sampler) -> list[case]:
    return [
        case(r(4, 3, 2, 2), r(3), r(3)),
        case(r(6, 3), r(3), r(3), 1e-3),
        case(r(5, 2, 3)),
        case(r(3, 2, 9), r(2), None),
        case(r(3, 2, 67), None, r(2)),
        case(r.strided(4, 3, 5), r(3), r(3)),
        case(r(2, 1, 1), r(1), r(1), 0.1),
        case(r(0, 3, 2), r(3), r(3)),
        case(r(70, 5), r(5), r(5)),
    ]


def _channel_backward_cases(r: Sampler) -> list[case]:
    def one(x: Any, w: Any, needs: tuple = (True, True, True)) -> case:
        c = x.shape[1]
        return case(r(*x.shape), x, w, r(c), r.positive(c), r(c), r(c), needs)

    return [
        one(r(4, 3, 2, 2), r(3)),
        one(r(6, 3), r(3), (True, False, False)),
        one(r(5, 2, 3), None, (True, False, True)),
        one(r.strided(3, 2, 9), r(2), (False, True, True)),
        one(r(3, 2, 67), r(2)),
        one(r(70, 5), r(5)),
        one(r(0, 3, 2), r(3)),
    ]


def _check_channels(name: str, x: Any, **given: Any) -> None:
    if x.ndim < 2:
        raise ValueError(f"{name}: wanted an input of shape (n, c, ...), saw {tuple(x.shape)}")
    standardize.check(name, x, (x.shape[1],), **given)


@op(
    dx_dw_db=lambda g, x, w, mean, rstd, needs: batch_norm_backward(g[0], x, w, mean, rstd, g[1], g[2], needs),
    outputs=("y", "mean", "rstd"),
    absent=True,
    twin="norm",
    cases=_channel_cases,
    reference=lambda torch, x, w=None, b=None, eps=1e-5: (
        torch.native_batch_norm(x, w, b, None, None, True, 0.1, eps) if x.shape[0] else (x * 1,)
    ),
)
def batch_norm_forward(x, w=None, b=None, eps=1e-5):
    """(y, mean, rstd) of batch_norm in training; mean and rstd of shape (c,), float32 for half types."""
    _check_channels("batch_norm", x, weight=w, bias=b)
    return standardize.forward(x, w, b, eps, standardize.channels(x.shape))


@op(
    dg_dx_dw_dmean_drstd_dgmean_dgrstd=lambda gg, g, x, w, mean, rstd, grstd: standardize.twice(
        gg, g, x, w, mean, rstd, grstd, standardize.channels(x.shape)
    ),
    outputs=("dx", "dw", "db"),
    twin="norm",
    cases=_channel_backward_cases,
    reference=None,
)
def batch_norm_backward(g, x, w, mean, rstd, gmean, grstd, needs):
    """(dx, dw, db) of batch_norm in training from g, gmean, grstd, its outputs' gradients; None if not needed."""
    return standardize.backward(g, x, w, mean, rstd, gmean, grstd, needs, standardize.channels(x.shape))


def _along(v: Any, ndim: int) -> Any:
    """v of shape (c,) made to broadcast along dimension 1."""
    return shape.reshape(v, (-1, *(1,) * (ndim - 2)))


def _scale(w: Any, var: Any, eps: float) -> Any:
    return pointwise.rsqrt(var + eps) if w is None else w * pointwise.rsqrt(var + eps)


def _but_channels(v: Any) -> Any:
    return reduce.sum(v, (0, *range(2, v.ndim)))


def _deval(g: Any, x: Any, mean: Any, var: Any, w: Any, eps: float, needs: tuple) -> tuple:
    """The gradients of batch_norm_eval's mean, var and w: sums over each channel."""
    if not any(needs):
        return None, None, None
    sg = _but_channels(g)
    sgx = _but_channels(g * (x - _along(mean, x.ndim))) if needs[1] or needs[2] else None
    return (
        -sg * _scale(w, var, eps) if needs[0] else None,
        sgx * _scale(w, var, eps) / (var + eps) * -0.5 if needs[1] else None,
        sgx * pointwise.rsqrt(var + eps) if needs[2] else None,
    )


@op(
    dx=lambda g, var, w, eps: pointwise.mul(g, _along(_scale(w, var, eps), g.ndim)),
    dmean_dvar_dw=lambda g, x, mean, var, w, eps, needs: _deval(g, x, mean, var, w, eps, needs),
    db=lambda g: _but_channels(g),
    twin="norm",
    cases=lambda r: [
        case(r(4, 3, 2, 2), r(3), r.positive(3), r(3), r(3)),
        case(r(6, 3), r(3), r.positive(3), r(3), None, 1e-3),
        case(r(1, 2, 9), r(2), r.positive(2), None, r(2)),
        case(r.strided(3, 2, 5), r(2), r.positive(2)),
        case(r(0, 3), r(3), r.positive(3), r(3), r(3)),
        case(r(3, 2, 67), r(2), r.positive(2), r(2), r(2)),
    ],
    reference=lambda torch, x, mean, var, w=None, b=None, eps=1e-5: torch.nn.functional.batch_norm(
        x, mean.detach(), var.detach(), w, b, False, 0.1, eps
    ),
)
def batch_norm_eval(x, mean, var, w=None, b=None, eps=1e-5):
    """(x - mean) / sqrt(var + eps) w + b with the given statistics, one each per channel, dimension 1."""
    _check_channels("batch_norm", x, weight=w, bias=b)
    kind = np.float64 if x.dtype == np.float64 else np.float32
    rstd = 1 / namespace(x).sqrt(var.astype(kind, copy=False) + eps)
    scale = rstd if w is None else rstd * w.astype(kind, copy=False)
    offset = -mean.astype(kind, copy=False) * scale
    if b is not None:
        offset += b.astype(kind, copy=False)
    s = (-1, *(1,) * (x.ndim - 2))
    y = x * scale.reshape(s)
    y += offset.reshape(s)
    return y.astype(x.dtype, copy=False)


@kernel(
    "norm",
    cases=lambda r: [
        case(r(5), r.positive(5), r(5), r.positive(5), 12, 0.1, 1e-5),
        case(r(1), r.positive(1), r(1), r.positive(1), 2, 1.0, 0.1),
    ],
)
def batch_norm_running(running_mean, running_var, mean, rstd, n, momentum, eps):
    """Move the running statistics, in place, by `momentum` towards mean and the unbiased variance of n elements."""
    kind = np.float64 if rstd.dtype == np.float64 else np.float32
    var = (1 / (rstd.astype(np.float64) ** 2) - eps).clip(0) * (n / (n - 1))
    running_mean[...] = running_mean * (1 - momentum) + mean.astype(kind) * momentum
    running_var[...] = running_var * (1 - momentum) + var.astype(kind) * momentum
    return running_mean, running_var


@sampled()
def _move(running_mean: Any, running_var: Any, mean: Any, rstd: Any, n: int, momentum: float, eps: float) -> None:
    batch_norm_running(*map(unwrap, (running_mean, running_var, mean, rstd)), n, momentum, eps)
    for t in (running_mean, running_var):
        if isinstance(t, Traced):
            t.version.bump()


def _check_running(name: str, x: Any, running_mean: Any, running_var: Any, need: bool) -> None:
    if (running_mean is None) != (running_var is None):
        raise ValueError(f"{name}: wanted running_mean and running_var both or neither, saw one")
    if running_mean is None:
        if need:
            raise RuntimeError(f"{name}: wanted running_mean and running_var in evaluation, saw neither")
        return
    for what, v in (("running_mean", running_mean), ("running_var", running_var)):
        if tuple(v.shape) != (x.shape[1],):
            raise RuntimeError(f"{name}: wanted {what} of shape {(x.shape[1],)}, saw {tuple(v.shape)}")


def batch_norm(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """(x - mean) / sqrt(var + eps) weight + bias for each channel, dimension 1 (Ioffe & Szegedy 2015).

    In training mean and biased var are the batch's, and running_mean and running_var, if given, move by `momentum`
    towards them, the variance unbiased; else they are what is used. ValueError for one value per channel in training.
    """
    if momentum is None:
        raise TypeError("batch_norm: wanted a momentum, saw None")
    n = input.shape[0] * math.prod(input.shape[2:]) if input.ndim else 1
    if training and n == 1:
        raise ValueError(
            f"batch_norm: wanted more than 1 value per channel when training, saw shape {tuple(input.shape)}"
        )
    if 0 in tuple(input.shape) and (input.ndim < 2 or running_mean is None or tuple(running_mean.shape) != (input.shape[1],)):
        return pointwise.mul(input, 1)  # nothing to norm, so nothing that does not fit, in PyTorch too
    if input.ndim < 2:
        raise RuntimeError(f"batch_norm: wanted an input of shape (n, c, ...), saw {tuple(input.shape)}")
    _check_running("batch_norm", input, running_mean, running_var, not training)
    if not training:
        return batch_norm_eval(input, running_mean, running_var, weight, bias, eps)
    y, mean, rstd = batch_norm_forward(input, weight, bias, eps)
    if running_mean is not None and n:
        _move(running_mean, running_var, mean, rstd, n, momentum, eps)
    return y


# --- over groups of channels of each sample ---------------------------------------------------------------


def _check_groups(x: Any, num_groups: int, **given: Any) -> None:
    _check_channels("group_norm", x, **given)
    if num_groups < 1 or x.shape[1] % num_groups:
        raise RuntimeError(f"group_norm: wanted channels divisible by {num_groups} groups, saw shape {tuple(x.shape)}")


@op(
    dx_dw_db=lambda g, x, num_groups, w, mean, rstd, needs: group_norm_backward(
        g[0], x, num_groups, w, mean, rstd, g[1], g[2], needs
    ),
    outputs=("y", "mean", "rstd"),
    absent=True,
    twin="norm",
    cases=lambda r: [
        case(r(2, 4, 3, 3), 2, r(4), r(4)),
        case(r(3, 6), 3, r(6), r(6), 1e-3),
        case(r(2, 3, 5), 3, r(3), None),
        case(r(2, 3, 5), 1, None, r(3)),
        case(r.strided(2, 4, 5), 2),
        case(r(2, 2, 67), 2, r(2), r(2)),
        case(r(0, 4, 2), 2, r(4), r(4)),
    ],
    reference=lambda torch, x, num_groups, w=None, b=None, eps=1e-5: torch.nn.functional.group_norm(
        x, num_groups, torch.ones_like(b) if w is None and b is not None else w, b, eps
    ),
)
def group_norm_forward(x, num_groups, w=None, b=None, eps=1e-5):
    """(y, mean, rstd) of group_norm; mean and rstd of shape (n, num_groups), float32 for half types."""
    _check_groups(x, num_groups, weight=w, bias=b)
    return standardize.forward(x, w, b, eps, standardize.groups(x.shape, num_groups))


def _group_backward_cases(r: Sampler) -> list[case]:
    def one(x: Any, k: int, w: Any, needs: tuple = (True, True, True)) -> case:
        s = (x.shape[0], k)
        return case(r(*x.shape), x, k, w, r(*s), r.positive(*s), r(*s), r(*s), needs)

    return [
        one(r(2, 4, 3, 3), 2, r(4)),
        one(r(3, 6), 3, r(6), (True, False, False)),
        one(r.strided(2, 3, 5), 3, None, (True, False, True)),
        one(r(2, 2, 67), 1, r(2), (False, True, True)),
        one(r(0, 4, 2), 2, r(4)),
    ]


@op(
    dg_dx_dw_dmean_drstd_dgmean_dgrstd=lambda gg, g, x, num_groups, w, mean, rstd, grstd: standardize.twice(
        gg, g, x, w, mean, rstd, grstd, standardize.groups(x.shape, num_groups)
    ),
    outputs=("dx", "dw", "db"),
    twin="norm",
    cases=_group_backward_cases,
    reference=None,
)
def group_norm_backward(g, x, num_groups, w, mean, rstd, gmean, grstd, needs):
    """(dx, dw, db) of group_norm from g, gmean, grstd, its outputs' gradients; None for those not needed."""
    return standardize.backward(g, x, w, mean, rstd, gmean, grstd, needs, standardize.groups(x.shape, num_groups))


def group_norm(input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """(x - mean) / sqrt(var + eps) weight + bias, over each sample's groups of channels (Wu & He 2018).

    input (n, c, ...), weight and bias (c,) or None. RuntimeError unless num_groups divides c, ValueError for groups of
    one value.
    """
    if input.ndim < 2:
        raise RuntimeError(f"group_norm: wanted an input of shape (n, c, ...), saw {tuple(input.shape)}")
    _check_groups(input, num_groups)
    if math.prod(input.shape) == num_groups:
        raise ValueError(
            f"group_norm: wanted more than 1 value per group, saw shape {tuple(input.shape)} in {num_groups} groups"
        )
    return group_norm_forward(input, num_groups, weight, bias, eps)[0]


def instance_norm(
    input: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """(x - mean) / sqrt(var + eps) weight + bias for each channel of each sample (Ulyanov et al. 2016).

    input (n, c, ...). Running statistics, if given, move towards the means over the batch of mean and unbiased var;
    they are what is used if use_input_stats is False. ValueError for one element to a channel.
    """
    _check_channels("instance_norm", input)
    _check_running("instance_norm", input, running_mean, running_var, not use_input_stats)
    if not use_input_stats:
        return batch_norm_eval(input, running_mean, running_var, weight, bias, eps)
    n = math.prod(input.shape[2:])
    if n == 1:
        raise ValueError(f"instance_norm: wanted more than 1 element per channel, saw shape {tuple(input.shape)}")
    y, mean, rstd = group_norm_forward(input, input.shape[1], weight, bias, eps)
    if running_mean is not None and n and input.shape[0]:
        mean, rstd = unwrap(mean), unwrap(rstd)
        var = (1 / (rstd * rstd)).mean(0)  # of var + eps, as rstd holds it
        _move(running_mean, running_var, mean.mean(0), 1 / namespace(var).sqrt(var), n, momentum, eps)
    return y


# --- over neighbouring channels -----------------------------------------------------------------------------


@op(
    dx=lambda g, before, after: channel_window(g, after, before),
    cases=lambda r: [case(r(2, 5, 3), 1, 1), case(r(2, 4, 2, 2), 2, 1), case(r(1, 2, 3), 5, 0), case(r(0, 3, 2), 1, 1)],
    reference=None,
)
def channel_window(x, before, after):
    """y_c = x_(c - before) + ... + x_(c + after) along dimension 1, with zeros beyond the ends."""
    c, y = x.shape[1], x.astype(np.float32 if x.dtype.itemsize == 2 else x.dtype, copy=True)
    wide = y.copy()
    for k in range(1, min(before, c - 1) + 1):
        y[:, k:] += wide[:, :-k]
    for k in range(1, min(after, c - 1) + 1):
        y[:, :-k] += wide[:, k:]
    return y.astype(x.dtype, copy=False)


def local_response_norm(input: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Any:
    """x / (k + alpha / size sum x^2)^beta, the sum over `size` neighbouring channels (Krizhevsky et al. 2012).

    input (n, c, ...), at least 3-d, else ValueError.
    """
    if input.ndim < 3:
        raise ValueError(
            f"local_response_norm: wanted an input of at least 3 dimensions, saw shape {tuple(input.shape)}"
        )
    if 0 in tuple(input.shape):
        return input
    if size < 1:
        raise RuntimeError(f"local_response_norm: wanted a size of 1 at least, saw {size}")
    return input / (channel_window(pointwise.square(input), size // 2, (size - 1) // 2) * (alpha / size) + k) ** beta
