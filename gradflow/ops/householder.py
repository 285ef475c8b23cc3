"""Reflections: the QR decomposition as LAPACK packs it, the matrices Q that it stands for, and products with them.

Column i of the packed matrix below its diagonal is v_i (v_i's own entry there is 1), H_i = 1 - tau_i v_i v_i^H and Q = H_1
H_2 ... H_k. All of them at once are Q = 1 - V T V^H with T = (1 + diag(tau) striu(V^H V))^-1 diag(tau), which is as
differentiable as its products: Schreiber & Van Loan (1989), and Joffrain et al. (2006) for T.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..backend import namespace
from ..cases import case
from ..op import op
from . import arrange, shape, stacks
from .results import returned
from .stacks import full, mH, rounded, rows
from .triangular import back_solve


@returned("geqrf")
class Packed(NamedTuple):
    """R with the reflections beneath it, and their factors."""

    a: Any
    tau: Any


@op(
    outputs=("a", "tau"),
    cases=lambda r: [case(r(4, 3)), case(r(2, 3, 3)), case(r(2, 4)), case(r(3, 0)), case(r(0, 2))],
    reference="geqrf",
)
def packed(x):
    """R and the reflections beneath it in one matrix, and their factors tau."""
    xp, k = namespace(x), min(x.shape[-2:])
    if not x.size:
        return x.copy(), xp.zeros((*x.shape[:-2], k), x.dtype)
    h, tau = xp.linalg.qr(full(x), "raw")
    return rounded(xp.ascontiguousarray(h.swapaxes(-1, -2)), x.dtype), rounded(tau, x.dtype)


@stacks.also()
def geqrf(input: Any) -> Packed:
    """(a, tau): the QR decomposition of (..., m, n) as LAPACK packs it, R on and above a's diagonal and the reflections of
    which Q is the product beneath, tau (..., min(m, n)) their factors. No gradient: see linalg.qr.
    """
    stacks.matrices("geqrf", input)
    return Packed(*packed(input))


def _factors(name: str, A: Any, tau: Any) -> tuple[Any, Any]:
    """(V, T) of the product of the reflections: V with ones on its diagonal, T upper triangular."""
    m, k = A.shape[-2], tau.shape[-1]
    v = arrange.tril(A[..., :k], -1) + stacks.eye(A, m, k)
    inner = arrange.triu(mH(v) @ v, 1)
    return v, back_solve(rows(tau) * inner, stacks.diag(tau), True, True)


def _checked(name: str, A: Any, tau: Any) -> None:
    stacks.matrices(name, A)
    stacks.floating(name, A, tau)
    fits = tau.ndim == A.ndim - 1 and tuple(tau.shape[:-1]) == tuple(A.shape[:-2])
    if not fits or tau.shape[-1] > A.shape[-1] or A.shape[-1] > A.shape[-2]:
        raise RuntimeError(
            f"{name}: wanted A (..., m, n) and tau (..., k) with m >= n >= k, saw {tuple(A.shape)} and {tuple(tau.shape)}"
        )


def _product(name: str, A: Any, tau: Any) -> Any:
    _checked(name, A, tau)
    m, n = A.shape[-2:]
    one = stacks.eye(A, m, n)
    if not tau.shape[-1]:
        return A * 0 + one
    v, t = _factors(name, A, tau)
    return one - v @ (t @ mH(v[..., :n, :]))


@stacks.also(input="A")
def householder_product(A: Any, tau: Any) -> Any:
    """The first n columns of the product of k reflections, A (..., m, n) and tau (..., k) with m >= n >= k as geqrf gives
    them. RuntimeError for other shapes.
    """
    return _product("linalg.householder_product", A, tau)


@stacks.also(input2="tau")
def orgqr(input: Any, tau: Any) -> Any:
    """linalg.householder_product, by its older name."""
    return _product("orgqr", input, tau)


@stacks.also(input2="tau", input3="other")
def ormqr(input: Any, tau: Any, other: Any, left: bool = True, transpose: bool = False) -> Any:
    """Q other, or other Q with left=False, Q^H for Q with transpose=True: all m columns of the product of k reflections,
    input (..., m, k) and tau (..., k) as geqrf gives them. RuntimeError for shapes that do not agree.
    """
    name = "ormqr"
    for x in (input, other):
        stacks.matrices(name, x)
    stacks.floating(name, input, tau, other)
    m, side = input.shape[-2], other.shape[-2 if left else -1]
    lead = tuple(input.shape[:-2])
    fits = tuple(tau.shape[:-1]) == lead == tuple(other.shape[:-2]) and tau.ndim == input.ndim - 1
    if not fits or tau.shape[-1] != min(m, input.shape[-1]) or m != side:
        shapes = f"{tuple(input.shape)}, {tuple(tau.shape)} and {tuple(other.shape)}"
        raise RuntimeError(
            f"{name}: wanted input (..., m, n), tau (..., min(m, n)) and other of m {'rows' if left else 'columns'}, saw {shapes}"
        )
    if not tau.shape[-1]:
        return shape.clone(other)
    v, t = _factors(name, input, tau)
    if transpose:
        t = mH(t)
    return other - v @ (t @ (mH(v) @ other)) if left else other - (other @ v) @ t @ mH(v)
