"""A normalisation that only evaluates, worked into the convolution or linear layer before it."""

from __future__ import annotations

import copy
from typing import Any

from ...autograd import no_grad
from ...ops import pointwise
from ..module import Module
from ..parameter import Parameter


def _fused(name: str, layer: Any, bn: Any, transpose: bool) -> Any:
    if layer.training or bn.training:
        raise AssertionError(f"{name}: wanted both layers in evaluation; call eval() first")
    if bn.running_mean is None or bn.running_var is None:
        raise AssertionError(f"{name}: wanted a normalisation with running statistics, saw none")
    fused = copy.deepcopy(layer)
    fused.weight, fused.bias = fuse_conv_bn_weights(
        fused.weight, fused.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias, transpose
    )
    return fused


def fuse_conv_bn_eval(conv: Module, bn: Module, transpose: bool = False) -> Any:
    """One convolution that computes bn(conv(x)); both must be in evaluation. transpose: the convolution is transposed."""
    return _fused("fuse_conv_bn_eval", conv, bn, transpose)


def fuse_conv_bn_weights(
    conv_w: Any, conv_b: Any, bn_rm: Any, bn_rv: Any, bn_eps: float, bn_w: Any, bn_b: Any, transpose: bool = False
) -> tuple[Parameter, Parameter]:
    """(w s, (b - mean) s + beta), s = gamma / sqrt(var + eps) along the output channels."""
    with no_grad():
        scale = pointwise.rsqrt(bn_rv + bn_eps)
        scale = scale if bn_w is None else scale * bn_w
        shape = [1] * conv_w.dim()
        shape[1 if transpose else 0] = -1
        w = (conv_w * scale.reshape(shape)).to(conv_w.dtype)
        b = (-bn_rm if conv_b is None else conv_b - bn_rm) * scale
        b = (b if bn_b is None else b + bn_b).to(conv_w.dtype if conv_b is None else conv_b.dtype)
    return Parameter(w, conv_w.requires_grad), Parameter(b, False if conv_b is None else conv_b.requires_grad)


def fuse_linear_bn_eval(linear: Module, bn: Module) -> Any:
    """One linear layer that computes bn(linear(x)); both must be in evaluation."""
    if linear.out_features != bn.num_features and bn.num_features != 1:
        raise AssertionError(
            f"fuse_linear_bn_eval: wanted {linear.out_features} features or 1, saw a normalisation of {bn.num_features}"
        )
    return _fused("fuse_linear_bn_eval", linear, bn, False)


def fuse_linear_bn_weights(
    linear_w: Any, linear_b: Any, bn_rm: Any, bn_rv: Any, bn_eps: float, bn_w: Any, bn_b: Any
) -> tuple[Parameter, Parameter]:
    """(w s, (b - mean) s + beta), s = gamma / sqrt(var + eps) along the output features."""
    return fuse_conv_bn_weights(linear_w, linear_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b)
