"""Determinants and their logarithms, with gradients of every order, of singular matrices too."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ..backend import namespace
from ..cases import Sampler, case
from ..op import op
from . import pointwise, reduce, shape, solve, stacks
from .linalg import mT
from .results import returned
from .stacks import full, mH, rounded

# --- determinants ---------------------------------------------------------------------------------------------


def _square_cases(r: Sampler) -> list[case]:
    return [
        case(r(3, 3)),
        case(r(2, 4, 4)),
        case(r(2, 2) + 1j * r(2, 2)),
        case(r(1, 1)),
        case(r(0, 0)),
        case(r(2, 2) * 1e-3),
    ]


def _singular(r: Sampler) -> list[case]:
    return [*_square_cases(r), case(np.array([[1.0, 2, 3], [2, 4, 6], [0, 1, -1]]), order=1)]


@op(
    name="linalg.det",
    dx=lambda g, x: shape.reshape(g, (*g.shape, 1, 1)) * cofactor(x),
    cases=_square_cases,
    reference="linalg.det",
)
def det_of(x):
    """The determinant of each matrix. Its gradient is the cofactors', of singular matrices too: Jacobi's formula."""
    with np.errstate(all="ignore"):
        return rounded(namespace(x).linalg.det(full(x)), x.dtype)


def others(s: Any) -> Any:
    """The product of all elements of the last dimension but each one's own."""
    xp = namespace(s)
    one = xp.ones_like(s[..., :1])
    before = xp.cumprod(xp.concatenate([one, s[..., :-1]], -1), -1)
    after = xp.cumprod(xp.concatenate([one, s[..., :0:-1]], -1), -1)[..., ::-1]
    return before * after


def _axes(x: Any) -> tuple[Any, Any, Any, Any]:
    """(u, s, vh, det u det vh) of each matrix, the latter NaN where x is not finite."""
    xp = namespace(x)
    finite = np.isfinite(x).all((-2, -1), keepdims=True)
    u, s, vh = xp.linalg.svd(xp.where(finite, x, 0))
    return u, s, vh, xp.where(finite, (xp.linalg.det(u) * xp.linalg.det(vh))[..., None, None], np.nan).astype(x.dtype)


@op(dx=lambda g, x: cofactor_backward(g, x), cases=_singular, reference=None)
def cofactor(x):
    """The cofactors of each matrix, det(x) x^-T where x has an inverse: from the singular values, without a division."""
    if not x.size:
        return namespace(x).zeros_like(x)
    u, s, vh, sign = _axes(full(x))
    return rounded(((u * others(s)[..., None, :]) @ vh).conj() * sign, x.dtype)


def _dcofactor_backward(gg, g, x, needs):
    dg = cofactor_backward(gg, x) if needs[0] else None
    if not needs[1]:
        return dg, None
    # The third derivative of det, from products with the inverse: nothing else is known of singular matrices here.
    n = mT(solve.inverse_of(x)[0])
    d = shape.reshape(det_of(x), (*x.shape[:-2], 1, 1))
    p, q = n @ mT(g) @ n, n @ mT(gg) @ n
    over = (-2, -1)
    a, b = reduce.sum(n * g, over, True), reduce.sum(n * gg, over, True)
    both = a * b - reduce.sum(p * gg, over, True)
    return dg, d * (n * both - p * b - q * a + p @ mT(gg) @ n + q @ mT(g) @ n)


@op(
    dg_dx=_dcofactor_backward,
    cases=lambda r: [
        case(r(3, 3), r(3, 3)),
        case(r(2, 2, 2), r(2, 2, 2)),
        case(r(4, 4), r(4, 4)),
        case(r(0, 0), r(0, 0)),
    ],
    reference=None,
)
def cofactor_backward(g, x):
    """The gradient of sum(g cofactor(x)): in the axes of the singular values, where a change e of the matrix changes the
    diagonal of its cofactors by sum_k e_kk prod_{l != i, k} s_l and the rest by -e_ji prod_{l != i, j} s_l.
    """
    xp, n = namespace(x), x.shape[-1]
    if not x.size or n == 1:
        return xp.zeros_like(g)
    u, s, vh, sign = _axes(full(x))
    off = 1 - xp.eye(n, dtype=s.dtype)
    pairs = others(xp.where(off == 0, 1, s[..., None, :])) * off
    h = (u.conj().swapaxes(-1, -2) @ full(g) @ vh.conj().swapaxes(-1, -2)) * sign
    t = -(h * pairs).swapaxes(-1, -2)
    i = xp.arange(n)
    t[..., i, i] = (pairs @ h[..., i, i, None])[..., 0]
    return rounded(u.conj() @ t @ vh.conj(), g.dtype)


@stacks.also(input="A")
def det(A: Any) -> Any:
    """The determinant of square matrices A (..., n, n); 1 for n = 0."""
    stacks.square("linalg.det", A)
    return det_of(A)


def _dslogdet(g, x, sign):
    gs, gl = g
    z = pointwise.conj(gs) * sign  # the sign of a complex determinant turns with the imaginary part of tr(x^-1 dx)
    slope = gl - (z - pointwise.conj(z)) * 0.5
    return shape.reshape(slope, (*slope.shape, 1, 1)) * mH(solve.inverse_of(x)[0])


@op(
    name="linalg.slogdet",
    outputs=("sign", "y"),
    dx=_dslogdet,
    holomorphic=False,
    cases=lambda r: [
        case(r(3, 3)),
        case(r(2, 2, 2)),
        case(r(2, 2) + 1j * r(2, 2)),
        case(r(0, 0)),
        case(np.array([[1.0, 2], [2, 4]]), grad=False),
    ],
    reference="linalg.slogdet",
)
def slogdet_of(x):
    """(sign, log |det|) of each matrix."""
    with np.errstate(all="ignore"):
        s, y = namespace(x).linalg.slogdet(full(x))
    return rounded(s, x.dtype), rounded(y, x.dtype)


@returned("linalg_slogdet")
class SlogDet(NamedTuple):
    """The sign of a determinant, and the logarithm of its size."""

    sign: Any
    logabsdet: Any


@stacks.also(input="A")
def slogdet(A: Any) -> SlogDet:
    """(sign, log |det A|) of square matrices A (..., n, n), (0, -inf) for singular ones; det A = sign exp(logabsdet)."""
    stacks.square("linalg.slogdet", A)
    return SlogDet(*slogdet_of(A))


def logdet(input: Any) -> Any:
    """log det of square matrices (..., n, n): -inf where it is 0, NaN where it is negative."""
    stacks.square("logdet", input)
    sign, y = slogdet_of(input)
    if input.dtype.kind == "c":
        return pointwise.log(sign) + y
    return pointwise.where(sign == -1, math.nan, y)
