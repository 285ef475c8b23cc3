"""Checks of gradients against central differences, first and second order, real and complex.

A complex number counts as its two parts: with the gradient of a real L by z = a + ib as dL/da + i dL/db, the gradients of
Re(conj(u) y) for u = 1 and u = i are compared with the differences along a and along b.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..backend import asnumpy, is_differentiable, namespace
from ..op import current, wrap
from ..tape import Traced
from .gradient import grad, several
from .modes import enable_grad, no_grad


class GradcheckError(RuntimeError):
    """A gradient that does not agree with finite differences."""


def _tracked(values: Sequence[Any]) -> list[Any]:
    return [v for v in values if isinstance(v, Traced) and current(v) is not None]


def _parts(a: Any) -> np.ndarray:
    """The elements of an array as real numbers: of complex ones all real parts, then all imaginary ones."""
    a = asnumpy(a).reshape(-1)
    if a.dtype.kind == "c":
        return np.concatenate([a.real, a.imag]).astype(np.float64)
    return a.astype(np.float64)


def _whole(v: np.ndarray, like: Any) -> Any:
    """What _parts took apart, of the shape and dtype of `like`."""
    n = like.size
    v = v[:n] + 1j * v[n:] if like.dtype.kind == "c" else v
    return namespace(like).asarray(v.reshape(like.shape).astype(like.dtype))


def _count(a: Any) -> int:
    return a.size * (2 if a.dtype.kind == "c" else 1)


def _values(function: Callable[..., Any], inputs: Sequence[Any]) -> list[np.ndarray]:
    with no_grad():
        return [
            _parts(y.array)
            for y in several(function(*inputs))
            if isinstance(y, Traced) and is_differentiable(y.array.dtype)
        ]


def _numerical(function: Callable, inputs: Sequence[Any], x: Any, v: np.ndarray, eps: float) -> list[np.ndarray]:
    """d outputs / d x along v by the central difference (f(x + eps v) - f(x - eps v)) / 2 eps, in float64."""
    home = x.array
    sides = []
    try:
        for sign in (1, -1):
            x.array = namespace(home).asarray(home + _whole(sign * eps * v, home))  # NumPy makes numbers of 0-d sums
            sides.append(_values(function, inputs))
    finally:
        x.array = home
    return [(p - m) / (2 * eps) for p, m in zip(*sides, strict=True)]


def _unit(n: int, i: int) -> np.ndarray:
    v = np.zeros(n)
    v[i] = 1
    return v


def _agree(name: str, what: str, analytic: np.ndarray, numeric: np.ndarray, rtol: float, atol: float) -> None:
    if not np.allclose(analytic, numeric, rtol, atol, equal_nan=True):
        worst = np.abs(analytic - numeric).max()
        raise GradcheckError(
            f"{name}: {what} differs from central differences by {worst:.3g}:\nnumerical {numeric}\nanalytical {analytic}"
        )


def _outputs(func: Callable, inputs: tuple) -> list[Any]:
    """Those that a gradient could have."""
    with enable_grad():
        ys = several(func(*inputs))
    return [y for y in ys if isinstance(y, Traced) and is_differentiable(y.array.dtype)]


class _Check:
    """One check: the function, its inputs, and how close is close."""

    def __init__(self, func: Callable, inputs: tuple, eps: float, atol: float, rtol: float, fast: bool) -> None:
        self.func, self.inputs, self.eps, self.atol, self.rtol, self.fast = func, inputs, eps, atol, rtol, fast
        self.xs, self.outputs = _tracked(inputs), _outputs(func, inputs)
        self.rng = np.random.default_rng(0)

    def numeric(self, x: Any) -> list[np.ndarray]:
        """The Jacobian of every output by x, in real numbers: (parts of the output, parts of x)."""
        n = _count(x.array)
        columns = [_numerical(self.func, self.inputs, x, _unit(n, j), self.eps) for j in range(n)]
        return [
            np.stack([c[i] for c in columns], 1) if n else np.zeros((_count(y.array), 0))
            for i, y in enumerate(self.outputs)
        ]

    def pulled(self, y: Any, x: Any, u: np.ndarray) -> Any:
        """The gradient of <u, y> by x."""
        (g,) = grad(y, x, wrap(_whole(u, y.array)), retain_graph=True, materialize_grads=True)
        return g

    def backward(self) -> None:
        """Reverse mode against differences."""
        for xi, x in enumerate(self.xs):
            slow = None if self.fast else self.numeric(x)
            for oi, y in enumerate(self.outputs):
                what, m = f"d output {oi} / d input {xi}", _count(y.array)
                if current(y) is None:
                    analytic = np.zeros((m, _count(x.array)))
                    if slow is not None:
                        _agree("gradcheck", f"{what}, which is not recorded,", analytic, slow[oi], self.rtol, self.atol)
                elif slow is None:
                    u, v = self.rng.standard_normal(m), self.rng.standard_normal(_count(x.array))
                    found = np.array([_parts(self.pulled(y, x, u).array) @ v])
                    numeric = np.array([_numerical(self.func, self.inputs, x, v, self.eps)[oi] @ u])
                    _agree("gradcheck", what, found, numeric, self.rtol, self.atol)
                else:
                    rows = [_parts(self.pulled(y, x, _unit(m, i)).array) for i in range(m)]
                    analytic = np.stack(rows) if rows else np.zeros((0, _count(x.array)))
                    _agree("gradcheck", what, analytic, slow[oi], self.rtol, self.atol)

    def forward(self, batched: bool) -> None:
        """Forward mode against differences."""
        from ..func.mapping import vmap
        from ..func.transforms import Linear

        push = Linear(self.outputs, self.xs, {current(x) for x in self.xs})
        for xi, x in enumerate(self.xs):
            n = _count(x.array)
            vs = [self.rng.standard_normal(n)] if self.fast else [_unit(n, j) for j in range(n)]
            numeric = [_numerical(self.func, self.inputs, x, v, self.eps) for v in vs]

            def along(v: Any, xi: int = xi) -> tuple:
                ts = [wrap(namespace(w.array).zeros_like(w.array)) for w in self.xs]
                ts[xi] = v
                return tuple(push(ts))

            for v, want in zip(vs, numeric, strict=True):
                for oi, (t, d) in enumerate(zip(along(wrap(_whole(v, x.array))), want, strict=True)):
                    _agree(
                        "gradcheck",
                        f"forward mode, output {oi} along input {xi},",
                        _parts(t.array),
                        d,
                        self.rtol,
                        self.atol,
                    )
            if batched and vs:
                stacked = wrap(namespace(x.array).stack([_whole(v, x.array) for v in vs]))
                for oi, t in enumerate(vmap(along)(stacked)):
                    loop = np.stack([_parts(along(wrap(_whole(v, x.array)))[oi].array) for v in vs])
                    found = np.stack([_parts(a) for a in asnumpy(t.array)])
                    _agree("gradcheck", f"vmapped forward mode, output {oi},", found, loop, self.rtol, self.atol)

    def batched(self) -> None:
        """vmapped reverse mode against reverse mode."""
        for oi, y in enumerate(self.outputs):
            if current(y) is None:
                continue
            us = [_whole(self.rng.standard_normal(_count(y.array)), y.array) for _ in range(2)]
            stacked = wrap(namespace(y.array).stack(us))
            found = grad(y, self.xs, stacked, retain_graph=True, is_grads_batched=True, materialize_grads=True)
            for k, u in enumerate(us):
                want = grad(y, self.xs, wrap(u), retain_graph=True, materialize_grads=True)
                for xi, (a, b) in enumerate(zip(found, want, strict=True)):
                    what = f"vmapped gradient of output {oi} by input {xi}"
                    _agree("gradcheck", what, _parts(a.array[k]), _parts(b.array), self.rtol, self.atol)

    def repeats(self, tol: float) -> None:
        """Two walks back against each other."""
        for oi, y in enumerate(self.outputs):
            if current(y) is None:
                continue
            u = wrap(_whole(self.rng.standard_normal(_count(y.array)), y.array))
            first, second = (grad(y, self.xs, u, retain_graph=True, materialize_grads=True) for _ in range(2))
            for a, b in zip(first, second, strict=True):
                if not np.allclose(_parts(a.array), _parts(b.array), rtol=0, atol=tol, equal_nan=True):
                    raise GradcheckError(f"gradcheck: backward of output {oi} is not the same twice, within {tol}")

    def dtypes(self) -> None:
        """Gradients are of their inputs' dtypes."""
        for y in self.outputs:
            if current(y) is not None:
                u = wrap(namespace(y.array).ones_like(y.array))
                for x, g in zip(self.xs, grad(y, self.xs, u, retain_graph=True, allow_unused=True), strict=True):
                    if g is not None and g.array.dtype != x.array.dtype:
                        raise GradcheckError(f"gradcheck: wanted a gradient of {x.array.dtype}, saw {g.array.dtype}")


def gradcheck(
    func: Callable,
    inputs: Any,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_batched_forward_grad: bool = False,
    check_forward_ad: bool = False,
    check_backward_ad: bool = True,
    fast_mode: bool = False,
    masked: bool | None = None,
) -> bool:
    """Whether the gradients of `func` at `inputs` agree with central differences; meant for float64 and complex128 inputs.

    Compares whole Jacobians, or with fast_mode one random projection u^T J v of each. Further checks: forward mode, vmapped
    gradients, dtypes, and that two walks back agree within nondet_tol. check_undefined_grad and masked change nothing: a
    missing gradient is a zero and every tensor is dense. GradcheckError (or False) if not; ValueError without inputs that
    require gradients.
    """
    inputs = several(inputs)
    if not _tracked(inputs):
        raise ValueError("gradcheck: wanted at least one input that requires a gradient, saw none")
    if not (check_forward_ad or check_backward_ad):
        raise AssertionError("gradcheck: wanted check_forward_ad or check_backward_ad")
    if check_batched_forward_grad and not check_forward_ad:
        raise AssertionError("gradcheck: check_batched_forward_grad wants check_forward_ad=True")
    try:
        check = _Check(func, inputs, eps, atol, rtol, fast_mode)
        if check_forward_ad:
            check.forward(check_batched_forward_grad)
        if check_backward_ad:
            check.backward()
            check.repeats(nondet_tol)
            if check_batched_grad:
                check.batched()
        if check_grad_dtypes:
            check.dtypes()
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def gradgradcheck(
    func: Callable,
    inputs: Any,
    grad_outputs: Any = None,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    gen_non_contig_grad_outputs: bool = False,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_fwd_over_rev: bool = False,
    check_rev_over_rev: bool = True,
    fast_mode: bool = False,
    masked: bool = False,
) -> bool:
    """gradcheck of the gradients of `func`: of (inputs, grad_outputs) -> grad(func(inputs), inputs, grad_outputs)."""
    inputs = several(inputs)
    outputs = _tracked(several(func(*inputs)))
    rng = np.random.default_rng(1)
    if grad_outputs is None:
        gs = []
        for y in outputs:
            a = _whole(rng.standard_normal(_count(y.array)), y.array)
            if gen_non_contig_grad_outputs and a.ndim:
                a = namespace(a).stack([a, a], -1)[..., 0]
            gs.append(wrap(a).requires_grad_())
    else:
        gs = list(several(grad_outputs))
    n = len(inputs)

    def gradients(*args: Any) -> tuple:
        with enable_grad():
            ys = _tracked(several(func(*args[:n])))
            return grad(ys, _tracked(args[:n]), list(args[n:]), create_graph=True, materialize_grads=True)

    return gradcheck(
        gradients, (*inputs, *gs), eps, atol, rtol, raise_exception, nondet_tol, check_undefined_grad, check_grad_dtypes,
        check_batched_grad, False, check_fwd_over_rev, check_rev_over_rev, fast_mode, masked,
    )  # fmt: skip
