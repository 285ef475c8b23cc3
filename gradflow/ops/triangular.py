"""Triangular matrices: systems of equations with them, and the factors L and U that elimination finds."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..backend import namespace, on_card
from ..cases import Sampler, case
from ..op import op
from . import arrange, elimination, gather, shape, stacks
from .linalg import mT
from .results import returned
from .stacks import eye, full, rounded

# --- systems ------------------------------------------------------------------------------------------------


def _dback(g, a, y, upper, unitriangular, needs):
    db = back_solve(mT(a), g, not upper, unitriangular)
    if not needs[0]:
        return None, db
    da = db @ mT(y)
    one = 1 if unitriangular else 0
    return -(arrange.triu(da, one) if upper else arrange.tril(da, -one)), db


def _triangle(r: Sampler, *size: int) -> np.ndarray:
    """Any matrices with a diagonal away from zero: the triangle that is not read is no zero."""
    return r(*size) + 3 * np.eye(size[-1])


@op(
    name="linalg.solve_triangular",
    da_db=_dback,
    cases=lambda r: [
        case(_triangle(r, 3, 3), r(3, 2), True),
        case(_triangle(r, 3, 3), r(3, 2), False),
        case(_triangle(r, 2, 1, 3, 3), r(4, 3, 1), False, True),
        case(_triangle(r, 3, 3), r(2, 3, 1), True, True),
        case(_triangle(r, 2, 2) + 1j * r(2, 2), r(2, 1) + 1j * r(2, 1), False),
        case(_triangle(r, 70, 70) + 20 * np.eye(70), r(70, 1), False, order=1),
        case(r(0, 0), r(0, 2), True),
        case(r(1, 1), r(1, 0), True),
    ],
    reference=lambda torch, a, b, upper, unitriangular=False: torch.linalg.solve_triangular(
        a, b, upper=upper, unitriangular=unitriangular
    ),
)
def back_solve(a, b, upper, unitriangular=False):
    """X with a X = b, of a only one triangle being read and, if unitriangular, ones for its diagonal."""
    xp, to = namespace(a), b.dtype
    a, b = full(a), full(b)
    a = xp.triu(a) if upper else xp.tril(a)
    if unitriangular:
        n = xp.arange(a.shape[-1])
        a[..., n, n] = 1
    if not upper:  # from the last row and column to the first, it is an upper one
        a, b = a[..., ::-1, ::-1], b[..., ::-1, :]
    a, b = paired(a, b)
    y = elimination.back(a, b)
    return rounded(y if upper else y[..., ::-1, :], to)


def paired(a: Any, b: Any) -> tuple[Any, Any]:
    """Both with the same leading sizes, which CuPy's solve wants."""
    if on_card(a) and a.shape[:-2] != b.shape[:-2]:
        lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        xp = namespace(a)
        a, b = xp.broadcast_to(a, (*lead, *a.shape[-2:])), xp.broadcast_to(b, (*lead, *b.shape[-2:]))
    return a, b


@stacks.also(input="A")
def solve_triangular(A: Any, B: Any, *, upper: bool, left: bool = True, unitriangular: bool = False) -> Any:
    """X with A X = B, or X A = B with left=False, for triangular A (..., n, n), of which only the one triangle is read;
    unitriangular takes ones for its diagonal. B (..., n, k), or (..., k, n); leading sizes broadcast.

    Zeros on the diagonal give infinities. RuntimeError for sizes that do not agree.
    """
    name = "linalg.solve_triangular"
    stacks.square(name, A)
    stacks.matrices(name, B)
    stacks.floating(name, A, B)
    if B.shape[-2 if left else -1] != A.shape[-1]:
        raise RuntimeError(f"{name}: wanted B of {A.shape[-1]} {'rows' if left else 'columns'}, saw {tuple(B.shape)}")
    lead = stacks.batch(name, A, B)
    if left:
        return stacks.spread(back_solve(A, B, bool(upper), bool(unitriangular)), lead)
    return stacks.spread(mT(back_solve(mT(A), mT(B), not upper, bool(unitriangular))), lead)


# --- LU -----------------------------------------------------------------------------------------------------


def _dlu(g, y, pivots):
    # From P^T dA = dL U + L dU, the strictly lower and the upper part of L^-1 P^T dA U^-1 = L^-1 dL + dU U^-1.
    m, n = y.shape[-2:]
    k = min(m, n)
    gl, gu = arrange.tril(g[0], -1), arrange.triu(g[0])
    first = y[..., :k, :k]
    lower = mT(arrange.tril(first, -1) + eye(y, k)) @ gl[..., :k, :k]
    upper = gu[..., :k, :k] @ mT(arrange.triu(first))
    if n > k:
        lower = lower - gu[..., k:] @ mT(y[..., k:])
    if m > k:
        upper = upper - mT(y[..., k:, :]) @ gl[..., k:, :]
    middle = arrange.tril(lower, -1) + arrange.triu(upper)
    # ... U^-T on the right is U^-1 of the transpose on the left
    right = mT(back_solve(first, mT(middle), True))
    dx = back_solve(mT(first), right, True, True)
    if n > k:
        dx = shape.cat([dx, back_solve(mT(first), gu[..., k:], True, True)], -1)
    if m > k:
        below = mT(back_solve(first, mT(gl[..., k:, :]), True))
        dx = shape.cat([dx, below], -2)
    return unswapped(dx, pivots)


def unswapped(x: Any, pivots: Any) -> Any:
    """P x: the rows of x put back to where the swaps took them from."""
    return _rows(x, places(pivots, x.shape[-2]))


def swapped(x: Any, pivots: Any) -> Any:
    """P^T x: the rows of x in the order to which the swaps bring them."""
    return _rows(x, swaps(pivots, x.shape[-2]))


def _rows(x: Any, order: Any) -> Any:
    """The rows of x in this order; leading sizes broadcast."""
    return gather.take_along_dim(x, shape.reshape(order, (*(1,) * (x.ndim - order.ndim - 1), *order.shape, 1)), -2)


@op(
    reference=None,
    cases=lambda r: [case(np.array([[3, 3, 3], [1, 2, 3]], np.int32), 4), case(np.zeros((0, 2), np.int32), 2)],
)
def swaps(pivots, n):
    """The permutation to which swapping row i with row pivots[i] - 1, one after the other, brings n rows."""
    return elimination.order(pivots, n)


@op(
    reference=None,
    cases=lambda r: [case(np.array([[3, 3, 3], [1, 2, 3]], np.int32), 4), case(np.zeros((0, 2), np.int32), 2)],
)
def places(pivots, n):
    """The inverse of that permutation."""
    return elimination.order(pivots, n).argsort(-1)


@op(
    name="linalg.lu_factor",
    outputs=("y", "pivots", "info"),
    dx=_dlu,
    cases=lambda r: [
        case(r(3, 3)),
        case(r(2, 4, 2)),
        case(r(2, 5)),
        case(r(3, 2) + 1j * r(3, 2)),
        case(r(40, 36), order=0),
        case(r(0, 3)),
        case(np.array([[1.0, 2], [2, 4]]), grad=False),
        case(r(3, 3), False, grad=False),
    ],
    reference=lambda torch, x, pivot=True: torch.linalg.lu_factor_ex(x) if pivot else (None,),
)
def lu_of(x, pivot=True):
    """L and U in one matrix with x = P L U, the rows swapped, and the place of the first zero on U's diagonal, or 0."""
    y, pivots, info = elimination.lu(full(x), pivot)
    return rounded(y, x.dtype), pivots, info


@returned("linalg_lu_factor")
class LUFactor(NamedTuple):
    """L and U in one matrix, and which rows were swapped."""

    LU: Any
    pivots: Any


@returned("linalg_lu_factor_ex")
class LUFactorEx(NamedTuple):
    """L and U in one matrix, which rows were swapped, and the place of the first zero on U's diagonal, or 0."""

    LU: Any
    pivots: Any
    info: Any


@returned("linalg_lu")
class LU(NamedTuple):
    """A permutation matrix, a unit lower triangle, and an upper one."""

    P: Any
    L: Any
    U: Any


def _pivoted(name: str, A: Any, pivot: bool) -> None:
    stacks.matrices(name, A)
    if not pivot and not on_card(stacks.unwrap(A)):
        raise RuntimeError(f"{name}: wanted pivot=True on the CPU, saw {pivot}")


@stacks.also(input="A")
def lu_factor(A: Any, *, pivot: bool = True) -> LUFactor:
    """(LU, pivots) with A = P L U: L below the diagonal of LU (its own is 1), U on and above, row i swapped with row
    pivots[i] - 1. A (..., m, n), pivots int32 (..., min(m, n)). LinAlgError where U has a zero on its diagonal.
    """
    _pivoted("linalg.lu_factor", A, pivot)
    y, pivots, info = lu_of(A, bool(pivot))
    stacks.succeeded(info, "linalg.lu_factor", "wanted a factor U that can be inverted, saw zero at its place {i}")
    return LUFactor(y, pivots)


@stacks.also(input="A")
def lu_factor_ex(A: Any, *, pivot: bool = True, check_errors: bool = False) -> LUFactorEx:
    """(LU, pivots, info) as lu_factor, which says in `info` where U has a zero instead of raising."""
    _pivoted("linalg.lu_factor_ex", A, pivot)
    found = LUFactorEx(*lu_of(A, bool(pivot)))
    if check_errors:
        stacks.succeeded(
            found.info, "linalg.lu_factor_ex", "wanted a U that can be inverted, saw zero at its place {i}"
        )
    return found


@stacks.also(input="A")
def lu(A: Any, *, pivot: bool = True) -> LU:
    """(P, L, U) with A = P L U, P a permutation matrix, L unit lower triangular, U upper; A (..., m, n) and k = min(m, n)
    give L (..., m, k) and U (..., k, n). With pivot=False (on the card) P is empty.
    """
    _pivoted("linalg.lu", A, pivot)
    y, pivots, _ = lu_of(A, bool(pivot))
    return unpacked(y, pivots, bool(pivot), True)


def unpacked(y: Any, pivots: Any, with_p: bool, with_lu: bool) -> LU:
    """The three matrices of a compact factorisation; those not asked for are empty."""
    m, n = y.shape[-2:]
    k = min(m, n)
    nothing = stacks.alike(shape.filled(y, (0,), 0), y)
    p = permutation(pivots, m, y.dtype) if with_p else nothing
    if not with_lu:
        return LU(p, nothing, nothing)
    return LU(p, arrange.tril(y[..., :k], -1) + eye(y, m, k), arrange.triu(y[..., :k, :]))


@op(
    reference=None,
    cases=lambda r: [case(np.array([[3, 3, 3], [1, 2, 3]], np.int32), 4, np.dtype("float64"))],
)
def permutation(pivots, n, dtype):
    """The matrix P of which P^T swaps row i with row pivots[i] - 1, one after the other."""
    xp = namespace(pivots)
    return xp.eye(n, dtype=dtype)[elimination.order(pivots, n)].swapaxes(-1, -2)


@stacks.also()
def lu_solve(LU: Any, pivots: Any, B: Any, *, left: bool = True, adjoint: bool = False) -> Any:
    """X with A X = B (X A = B with left=False, A^H for A with adjoint=True) from A's lu_factor; leading sizes broadcast.
    RuntimeError for shapes or dtypes that do not agree.
    """
    name = "linalg.lu_solve"
    stacks.square(name, LU)
    stacks.matrices(name, B)
    stacks.floating(name, LU, B)
    n = LU.shape[-1]
    if pivots.dtype != np.int32:
        raise RuntimeError(f"{name}: wanted pivots of int32, saw {pivots.dtype}")
    if tuple(pivots.shape) != tuple(LU.shape[:-1]):
        raise RuntimeError(f"{name}: wanted pivots of shape {tuple(LU.shape[:-1])}, saw {tuple(pivots.shape)}")
    if B.shape[-2 if left else -1] != n:
        raise RuntimeError(f"{name}: wanted B of {n} {'rows' if left else 'columns'}, saw shape {tuple(B.shape)}")
    lead = stacks.batch(name, LU, B)
    if not left:  # X A = B is A^H X^H = B^H
        return stacks.mH(lu_solve(LU, pivots, stacks.mH(B), adjoint=not adjoint))
    B = stacks.spread(B, lead)
    if not adjoint:
        return back_solve(LU, back_solve(LU, swapped(B, pivots), False, True), True)
    h = stacks.mH(LU)
    return unswapped(back_solve(h, back_solve(h, B, False), True, True), pivots)
