"""Norms over the last dimensions: layer norm and RMS norm."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..cases import Sampler, case
from ..op import op
from . import pointwise, reduce, standardize


def _frame(name: str, x: Any, normalized_shape: Any) -> standardize.Frame:
    sizes = (normalized_shape,) if isinstance(normalized_shape, (int, np.integer)) else tuple(normalized_shape)
    if not sizes or x.shape[-len(sizes) :] != sizes:
        raise RuntimeError(f"{name}: wanted an input of shape (*, {', '.join(map(str, sizes))}), saw {tuple(x.shape)}")
    return standardize.layers(x.shape, sizes)


def _layer_cases(r: Sampler) -> list[case]:
    return [
        case(r(3, 5), (5,), r(5), r(5)),
        case(r(2, 3, 4), (3, 4), r(3, 4), r(3, 4), 1e-3),
        case(r(4, 6), 6),
        case(r(6), (6,), r(6), None),
        case(r(4, 6), (6,), None, r(6)),
        case(r.strided(5, 7), (7,), r(7), r(7)),
        case(r(0, 3), (3,), r(3), r(3)),
        case(r(3, 1), (1,), r(1), r(1), 0.1),
        case(r(2, 132), (132,), r(132), r(132)),
    ]


def _layer_backward_cases(r: Sampler) -> list[case]:
    def one(x: Any, normalized: Any, w: Any, needs: tuple = (True, True, True)) -> case:
        k = 1 if isinstance(normalized, int) else len(normalized)
        s = (*x.shape[:-k], *(1,) * k)
        return case(r(*x.shape), x, normalized, w, r(*s), r.positive(*s), r(*s), r(*s), needs)

    return [
        one(r(3, 5), 5, r(5)),
        one(r(2, 3, 4), (3, 4), r(3, 4)),
        one(r(4, 6), 6, None, (True, False, True)),
        one(r.strided(5, 7), 7, r(7), (False, True, True)),
        one(r(2, 132), 132, r(132), (True, False, False)),
        one(r(70, 3), 3, r(3)),
        one(r(0, 3), 3, r(3)),
    ]


@op(
    dx_dw_db=lambda g, x, normalized_shape, w, mean, rstd, needs: layer_norm_backward(
        g[0], x, normalized_shape, w, mean, rstd, g[1], g[2], needs
    ),
    outputs=("y", "mean", "rstd"),
    absent=True,
    twin="norm",
    cases=_layer_cases,
    reference=lambda torch, x, normalized_shape, w=None, b=None, eps=1e-5: torch.native_layer_norm(
        x, (normalized_shape,) if isinstance(normalized_shape, int) else normalized_shape, w, b, eps
    ),
)
def layer_norm_forward(x, normalized_shape, w=None, b=None, eps=1e-5):
    """(y, mean, rstd) of layer_norm; mean and rstd, float32 for half types, have 1 for each normalised size."""
    frame = _frame("layer_norm", x, normalized_shape)
    standardize.check("layer_norm", x, frame.weight, weight=w, bias=b)
    return standardize.forward(x, w, b, eps, frame)


@op(
    dg_dx_dw_dmean_drstd_dgmean_dgrstd=lambda gg, g, x, normalized_shape, w, mean, rstd, grstd: standardize.twice(
        gg, g, x, w, mean, rstd, grstd, _frame("layer_norm", x, normalized_shape)
    ),
    outputs=("dx", "dw", "db"),
    twin="norm",
    cases=_layer_backward_cases,
    reference=None,
)
def layer_norm_backward(g, x, normalized_shape, w, mean, rstd, gmean, grstd, needs):
    """(dx, dw, db) of layer_norm from g, gmean, grstd, its outputs' gradients; None for those not needed."""
    frame = _frame("layer_norm", x, normalized_shape)
    return standardize.backward(g, x, w, mean, rstd, gmean, grstd, needs, frame)


def layer_norm(input: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """(x - mean) / sqrt(var + eps) weight + bias, mean and biased var over the last dimensions (Ba et al. 2016).

    input (*, *normalized_shape), weight and bias normalized_shape or None. RuntimeError for other shapes and dtypes.
    """
    return layer_norm_forward(input, normalized_shape, weight, bias, eps)[0]


@op(
    dx_dw=lambda g, x, normalized_shape, w, rstd, needs: rms_norm_backward(
        g[0], x, normalized_shape, w, rstd, g[1], needs
    ),
    outputs=("y", "rstd"),
    absent=True,
    twin="norm",
    cases=lambda r: [case(*c.args[:3], *c.args[4:], order=c.order, **c.kwargs) for c in _layer_cases(r)],
    reference=lambda torch, x, normalized_shape, w=None, eps=None: torch.nn.functional.rms_norm(
        x, (normalized_shape,) if isinstance(normalized_shape, int) else normalized_shape, w, eps
    ),
)
def rms_norm_forward(x, normalized_shape, w=None, eps=None):
    """(y, rstd) of rms_norm; rstd, float32 for half types, has 1 for each normalised size."""
    frame = _frame("rms_norm", x, normalized_shape)
    standardize.check("rms_norm", x, frame.weight, weight=w)
    return standardize.forward(x, w, None, _rms_eps(x, eps), frame, centre=False)[::2]


def _rms_eps(x: Any, eps: float | None) -> float:
    """PyTorch's default: the epsilon of the dtype that is computed in."""
    return float(np.finfo(np.float64 if x.dtype == np.float64 else np.float32).eps) if eps is None else eps


@op(
    dg_dx_dw_drstd_dgrstd=lambda gg, g, x, normalized_shape, w, rstd, grstd: _rms_twice(
        gg, g, x, w, rstd, grstd, _frame("rms_norm", x, normalized_shape)
    ),
    outputs=("dx", "dw"),
    twin="norm",
    cases=lambda r: [
        case(*c.args[:4], c.args[5], c.args[7], c.args[8][:2], order=c.order)
        for c in _layer_backward_cases(r)
        if any(c.args[8][:2])
    ],
    reference=None,
)
def rms_norm_backward(g, x, normalized_shape, w, rstd, grstd, needs):
    """(dx, dw) of rms_norm from the gradients g, grstd of its outputs; None for those not needed."""
    frame = _frame("rms_norm", x, normalized_shape)
    return standardize.backward(g, x, w, None, rstd, None, grstd, (*needs, False), frame, centre=False)[:2]


def _rms_twice(gg: tuple, g: Any, x: Any, w: Any, rstd: Any, grstd: Any, frame: standardize.Frame) -> tuple:
    dg, dx, dw, _, drstd, _, dgrstd = standardize.twice((*gg, None), g, x, w, None, rstd, grstd, frame, centre=False)
    return dg, dx, dw, drstd, dgrstd


def rms_norm(input: Any, normalized_shape: Any, weight: Any = None, eps: float | None = None) -> Any:
    """x / sqrt(mean(x^2) + eps) weight, the mean over the last dimensions (Zhang & Sennrich 2019).

    input (*, *normalized_shape), weight normalized_shape or None; eps defaults to that of the dtype computed in.
    Complex numbers are squared as they are.
    """
    if input.dtype.kind == "c":
        over = tuple(range(-len(_frame("rms_norm", input, normalized_shape).weight), 0))
        size = float(np.finfo(input.dtype).eps) if eps is None else eps
        y = input * pointwise.rsqrt(reduce.mean(input * input, over, keepdim=True) + size)
        return y if weight is None else y * weight
    return rms_norm_forward(input, normalized_shape, weight, eps)[0]
