"""Checks of gradients against central differences, first and second order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..backend import asnumpy, namespace
from ..op import current, wrap
from ..tape import Traced
from .gradient import grad, several
from .modes import enable_grad, no_grad


class GradcheckError(RuntimeError):
    """A gradient that does not agree with finite differences."""


def _differentiable(values: Sequence[Any]) -> list[Any]:
    return [v for v in values if isinstance(v, Traced) and current(v) is not None]


def _numerical(function: Callable, inputs: Sequence[Any], x: Any, v: np.ndarray, eps: float) -> list[np.ndarray]:
    """d outputs / d x along v by the central difference (f(x + eps v) - f(x - eps v)) / 2 eps, in float64."""
    home = x.array
    sides = []
    for sign in (1, -1):
        x.array = home + namespace(home).asarray((sign * eps * v).astype(home.dtype))
        with no_grad():
            sides.append(
                [np.array(asnumpy(y.array), np.float64) for y in several(function(*inputs)) if isinstance(y, Traced)]
            )
        x.array = home
    return [(p - m) / (2 * eps) for p, m in zip(*sides, strict=True)]


def gradcheck(
    func: Callable,
    inputs: Any,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    fast_mode: bool = False,
) -> bool:
    """Whether the gradients of `func` at `inputs` agree with central differences; meant for float64 inputs.

    Compares whole Jacobians, or with fast_mode one random projection u^T J v of each. GradcheckError (or False) if not.
    """
    inputs = several(inputs)
    xs = _differentiable(inputs)
    if not xs:
        raise ValueError("gradcheck: wanted at least one input that requires a gradient, saw none")
    outputs = [y for y in several(func(*inputs)) if isinstance(y, Traced) and current(y) is not None]
    kept = [
        i for i, y in enumerate(v for v in several(func(*inputs)) if isinstance(v, Traced)) if current(y) is not None
    ]
    rng = np.random.default_rng(0)
    for oi, y in zip(kept, outputs, strict=True):
        for xi, x in enumerate(xs):
            xp = namespace(x.array)
            if fast_mode:
                u, v = rng.standard_normal(y.array.shape), rng.standard_normal(x.array.shape)
                (g,) = grad(y, x, wrap(xp.asarray(u.astype(y.array.dtype))), retain_graph=True, materialize_grads=True)
                analytic = np.array([np.sum(asnumpy(g.array) * v)])
                numeric = np.array([np.sum(_numerical(func, inputs, x, v, eps)[oi] * u)])
            else:
                n, m = x.array.size, y.array.size
                analytic, numeric = np.empty((m, n)), np.empty((m, n))
                for i in range(m):
                    u = np.zeros(m, y.array.dtype)
                    u[i] = 1
                    u = wrap(xp.asarray(u.reshape(y.array.shape)))
                    (g,) = grad(y, x, u, retain_graph=True, materialize_grads=True)
                    analytic[i] = asnumpy(g.array).reshape(-1)
                for j in range(n):
                    v = np.zeros(n)
                    v[j] = 1
                    numeric[:, j] = _numerical(func, inputs, x, v.reshape(x.array.shape), eps)[oi].reshape(-1)
            if not np.allclose(analytic, numeric, rtol, atol, equal_nan=True):
                if raise_exception:
                    worst = np.abs(analytic - numeric).max()
                    raise GradcheckError(
                        f"gradcheck: d output {oi} / d input {xi} differs from central differences by {worst:.3g}:\n"
                        f"numerical {numeric}\nanalytical {analytic}"
                    )
                return False
    return True


def gradgradcheck(
    func: Callable,
    inputs: Any,
    grad_outputs: Any = None,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    fast_mode: bool = False,
) -> bool:
    """gradcheck of the gradients of `func`: of (inputs, grad_outputs) -> grad(func(inputs), inputs, grad_outputs)."""
    inputs = several(inputs)
    outputs = _differentiable(several(func(*inputs)))
    rng = np.random.default_rng(1)
    if grad_outputs is None:
        gs = [
            wrap(namespace(y.array).asarray(rng.standard_normal(y.array.shape).astype(y.array.dtype))).requires_grad_()
            for y in outputs
        ]
    else:
        gs = list(several(grad_outputs))
    n = len(inputs)

    def gradients(*args: Any) -> tuple:
        with enable_grad():
            ys = _differentiable(several(func(*args[:n])))
            return grad(ys, _differentiable(args[:n]), list(args[n:]), create_graph=True, materialize_grads=True)

    return gradcheck(gradients, (*inputs, *gs), eps, atol, rtol, raise_exception, fast_mode)
