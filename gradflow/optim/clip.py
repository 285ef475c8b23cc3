"""Clipping: keep gradients small before a step. Everything stays on the device: no waiting for the norm."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import kernel
from ..backend import Array, device_of, float32, namespace, on_card, to_device
from ..cases import case
from ..op import wrap
from ..tape import Traced
from ..tensor import Tensor
from .optimizer import real
from .update import many, rule


@kernel.kernel(
    "optim",
    cases=lambda r: [
        case(r(3, 4), 2.0), case(r(9001), 2.0), case(r(20), 1.0), case(r(9001), math.inf), case(r(0), 2.0),
        case(r(), 2.0),
    ],
)  # fmt: skip
def gradient_norm(g: Array, order: float) -> Array:
    """(sum |g|^order)^(1/order) over all elements, 0-d; the greatest |g| for order inf, in float32 for halves."""
    xp = namespace(g)
    if g.dtype.itemsize == 2:
        g = g.astype(float32)
    if g.size == 0:
        return xp.zeros((), g.dtype)
    if order == 2:
        flat = g.reshape(-1)
        return xp.sqrt(xp.asarray(xp.dot(flat, flat)))
    if math.isinf(order):
        return xp.asarray(abs(g).max() if order > 0 else abs(g).min())
    if order == 0:
        return xp.asarray((g != 0).sum(dtype=g.dtype))
    return xp.asarray((abs(g) ** order).sum() ** (1 / order))


@rule(
    cases=lambda r: [
        case(r(5, 3), r.positive(), 0.25), case(r(9001), r.positive(), 5.0), case(r(0), r.positive(), 1.0)
    ]
)  # fmt: skip
def scale_gradient(p: Array, /, norm: Array, most: float) -> None:
    """p min(1, most / (norm + 10^-6))."""
    p *= namespace(p).minimum(most / (norm + 1e-6), 1.0)


@rule(cases=lambda r: [case(r(5, 3), -0.5, 0.5), case(r(9001), -1.0, 0.25), case(r(0), -1.0, 1.0)])
def clamp_gradient(p: Array, /, low: float, high: float) -> None:
    """p kept between two numbers; NaN stays NaN."""
    p.clip(low, high, out=p)


def _kinds(tensors: list[Any]) -> list[list[Array]]:
    """The arrays of tensors, in one list for each dtype and device."""
    kinds: dict[tuple, list[Array]] = {}
    for t in tensors:
        x = t.array
        kinds.setdefault((str(device_of(x)), x.dtype), []).append(x)
    return list(kinds.values())


def _gradients(parameters: Any) -> list[Any]:
    parameters = [parameters] if isinstance(parameters, Traced) else list(parameters)
    gradients = [p.grad for p in parameters if p.grad is not None]
    for g in gradients:
        g.version.bump()
    return gradients


def get_total_norm(
    tensors: Any, norm_type: float = 2.0, error_if_nonfinite: bool = False, foreach: bool | None = None
) -> Tensor:
    """The norm of the norms of the tensors, as of one long vector; 0-d, on the first one's device; 0 for no tensors.

    error_if_nonfinite   RuntimeError if it is NaN or infinite; asking waits for the card.
    """
    tensors = [tensors] if isinstance(tensors, Traced) else list(tensors)
    order = float(norm_type)
    if not tensors:
        return wrap(np.zeros((), float32))
    norms: list[Array] = []
    for arrays in _kinds(tensors):
        together: Any = NotImplemented
        if on_card(arrays[0]) and not kernel.definitions_only and arrays[0].dtype.kind != "c":
            together = gradient_norm.twin(arrays, order)  # type: ignore[misc]
        if together is not NotImplemented:
            norms.append(together)
        else:
            norms.extend(gradient_norm.definition(_magnitudes(x), order) for x in arrays)
    total = norms[0]
    if len(norms) > 1:
        home = device_of(total)
        dtype = np.result_type(*(n.dtype for n in norms))
        total = gradient_norm.definition(
            namespace(total).stack([to_device(n, home).astype(dtype) for n in norms]), order
        )
    if error_if_nonfinite and not math.isfinite(total.item()):
        raise RuntimeError(f"get_total_norm: wanted finite gradients, saw a norm of {total.item()}")
    return wrap(total)


def _magnitudes(x: Array) -> Array:
    return abs(x) if x.dtype.kind == "c" else x


def clip_grads_with_norm_(parameters: Any, max_norm: float, total_norm: Any, foreach: bool | None = None) -> None:
    """Multiply the gradients by max_norm / (total_norm + 10^-6) where that is below one, in place."""
    norm = total_norm.array if isinstance(total_norm, Traced) else np.asarray(total_norm)
    for arrays in _kinds(_gradients(parameters)):
        arrays = [real(x) for x in arrays]
        many(scale_gradient, arrays, None, [], to_device(norm, device_of(arrays[0])), float(max_norm))


def clip_grad_norm_(
    parameters: Any, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:  # fmt: skip
    """Scale the gradients together, in place, so that their norm is at most max_norm; give the norm there was.

    norm = (sum |g|^norm_type)^(1/norm_type);  g <- g min(1, max_norm / (norm + 10^-6)).
    error_if_nonfinite   RuntimeError, before any change, if the norm is NaN or infinite; asking waits for the card.
    Pascanu et al., "On the difficulty of training recurrent neural networks", 2013.
    """
    parameters = [parameters] if isinstance(parameters, Traced) else list(parameters)
    total = get_total_norm([p.grad for p in parameters if p.grad is not None], norm_type, error_if_nonfinite, foreach)
    clip_grads_with_norm_(parameters, max_norm, total, foreach)
    return total


def clip_grad_value_(parameters: Any, clip_value: float, foreach: bool | None = None) -> None:
    """Keep every element of the gradients between -clip_value and clip_value, in place."""
    limit = float(clip_value)
    for arrays in _kinds(_gradients(parameters)):
        many(clamp_gradient, [real(x) for x in arrays], None, [], -limit, limit)
