"""Systems of equations from the factors of their matrix: Cholesky's, and the symmetric indefinite LDL."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ..backend import asnumpy, namespace
from ..call import sampled
from ..cases import Sampler, case
from ..op import op, unwrap
from . import arrange, elimination, gather, shape, stacks
from .linalg import mT
from .results import returned
from .solve import solve_of
from .stacks import full, mH, rounded
from .triangular import back_solve

# --- Cholesky's ----------------------------------------------------------------------------------------


@stacks.also(input="B", input2="L")
def cholesky_solve(B: Any, L: Any, upper: bool = False) -> Any:
    """X with A X = B from A's Cholesky factor L (or L^H, upper); B (..., n, k); leading sizes broadcast.
    RuntimeError for shapes or dtypes that do not agree.
    """
    name = "cholesky_solve"
    stacks.matrices(name, B)
    stacks.square(name, L)
    stacks.floating(name, B, L)
    if B.shape[-2] != L.shape[-1]:
        raise RuntimeError(f"{name}: wanted B of {L.shape[-1]} rows, saw shapes {tuple(B.shape)} and {tuple(L.shape)}")
    return stacks.spread(factor_solve(B, L, bool(upper)), stacks.batch(name, B, L))


def _dfactor_solve(g, x, y, upper, needs):
    db = factor_solve(g, x, upper)
    p = db @ mH(y)
    p = p + mH(p)
    return db, (-(x @ p if upper else p @ x) if needs[1] else None)


def _factors(r: Sampler) -> tuple[np.ndarray, np.ndarray]:
    x = r(3, 3) + 3 * np.eye(3)
    return np.tril(x), np.triu(x)


@op(
    name="cholesky_solve",
    db_dx=_dfactor_solve,
    holomorphic=False,
    cases=lambda r: [
        case(r(3, 2), _factors(r)[0], order=0),
        case(r(2, 3, 1), _factors(r)[1], True, order=0),
        case(r(1, 2), r(1, 1) + 3),
        case(r(0, 2), r(0, 0)),
    ],
    reference="cholesky_solve",
)
def factor_solve(b, x, upper=False):
    """(L L^H)^-1 b, from L or L^H. The gradient is that of L as a full matrix."""
    h = x.conj().swapaxes(-1, -2)
    first, second = (h, x) if upper else (x, h)
    solved = back_solve.op.definition
    return solved(second, solved(first, b, False), True)


def _dfactor_inverse(g, x, y, upper):
    p = g + mH(g)
    return -(x @ y @ p @ y if upper else y @ p @ y @ x)


@op(
    name="cholesky_inverse",
    dx=_dfactor_inverse,
    holomorphic=False,
    cases=lambda r: [
        case(_factors(r)[0], order=0),
        case(_factors(r)[1], True, order=0),
        case(r(1, 1) + 3),
        case(r(0, 0)),
    ],
    reference="cholesky_inverse",
)
def factor_inverse(x, upper=False):
    """(L L^H)^-1, from L or L^H. The gradient is that of L as a full matrix."""
    one = namespace(x).eye(x.shape[-1], dtype=x.dtype)
    half = back_solve.op.definition(x.conj().swapaxes(-1, -2) if upper else x, one, False)
    return half.conj().swapaxes(-1, -2) @ half


@stacks.also(input="L")
def cholesky_inverse(L: Any, upper: bool = False) -> Any:
    """A^-1 from A's Cholesky factor L (or L^H, upper): (L L^H)^-1. RuntimeError for matrices that are not square."""
    stacks.square("cholesky_inverse", L)
    return factor_inverse(L, bool(upper))


# --- LDL -----------------------------------------------------------------------------------------------


@stacks.also()
@sampled()
def ldl_solve(LD: Any, pivots: Any, B: Any, *, hermitian: bool = False) -> Any:
    """X with A X = B from A's ldl_factor; B (..., n, k); leading sizes broadcast.
    RuntimeError for shapes or dtypes that do not agree.
    """
    name = "linalg.ldl_solve"
    stacks.square(name, LD)
    if B.ndim < 2:
        raise IndexError(f"{name}: wanted B of 2 dimensions or more, saw shape {tuple(B.shape)}")
    stacks.matrices(name, B)
    stacks.floating(name, LD, B)
    if tuple(pivots.shape) != tuple(LD.shape[:-1]) or pivots.dtype.kind != "i":
        saw = f"{tuple(pivots.shape)} {pivots.dtype}"
        raise RuntimeError(f"{name}: wanted integer pivots of shape {tuple(LD.shape[:-1])}, saw {saw}")
    if B.shape[-2] != LD.shape[-1]:
        raise RuntimeError(
            f"{name}: wanted B of {LD.shape[-1]} rows, saw shapes {tuple(LD.shape)} and {tuple(B.shape)}"
        )
    lead = stacks.batch(name, LD, B)
    # Every swap after a column moves that column's entries too: then A = P^T L D L^H P, with blocks of D where l is zero.
    rows, moved, block = ldl_order(unwrap(pivots))
    adjoint = mH if hermitian else mT
    ld = shape.reshape(LD, (math.prod(LD.shape[:-2]), *LD.shape[-2:]))
    one = stacks.eye(LD, LD.shape[-1])
    zeros = 1 - one - block
    lower = gather.take_along_dim(arrange.tril(ld, -1) * zeros, moved, -2) + one
    off = arrange.tril(ld, -1) * block
    d = off + adjoint(off) + ld * one
    back = (*LD.shape[:-2], *LD.shape[-2:])
    lower, d = shape.reshape(lower, back), shape.reshape(d, back)
    B = stacks.spread(B, lead)
    order = shape.reshape(rows, (*(1,) * (B.ndim - pivots.ndim - 1), *pivots.shape, 1))
    x = gather.take_along_dim(B, order, -2)
    x = solve_of(d, back_solve(lower, x, False, True))[0]
    return gather.take_along_dim(back_solve(adjoint(lower), x, True, True), order.argsort(-2), -2)


def ldl_order(pivots: Any) -> tuple[Any, Any, Any]:
    """For a stack (b, n) of LDL's pivots: the order to which the swaps bring the rows, for every column the order to which
    the swaps after it do, and where below the diagonal D has an entry.
    """
    xp, p = namespace(pivots), asnumpy(pivots)
    n, flat = p.shape[-1], p.reshape(math.prod(p.shape[:-1]), p.shape[-1])
    rows = np.tile(np.arange(n), (len(flat), 1))
    moved = np.tile(np.arange(n)[:, None], (len(flat), 1, n))
    block = np.zeros((len(flat), n, n), bool)
    for i, piv in enumerate(flat):
        k = 0
        while k < n:
            step = 1 if piv[k] > 0 else 2
            a, b = k + step - 1, abs(int(piv[k])) - 1
            rows[i, [a, b]] = rows[i, [b, a]]
            moved[i, [a, b], :k] = moved[i, [b, a], :k]
            if step == 2:
                block[i, k + 1, k] = True
            k += step
    return xp.asarray(rows), xp.asarray(moved), xp.asarray(block)


@returned("linalg_ldl_factor")
class LDL(NamedTuple):
    """L and D in one matrix, and the pivots."""

    LD: Any
    pivots: Any


@returned("linalg_ldl_factor_ex")
class LDLEx(NamedTuple):
    """L and D in one matrix, the pivots, and 0 or the place of the first zero block of D."""

    LD: Any
    pivots: Any
    info: Any


@op(
    name="linalg.ldl_factor",
    outputs=("y", "pivots", "info"),
    cases=lambda r: [case(r(3, 3)), case(r(2, 5, 5)), case(r(0, 0)), case(np.array([[0.0, 1], [1, 0]]))],
    reference=lambda torch, x, hermitian=False: torch.linalg.ldl_factor_ex(x, hermitian=hermitian),
    note="factors on the host",
)
def ldl_of(x, hermitian=False):
    """L and D of x = P L D L^H P^T by Bunch & Kaufman (1977), from the lower triangle; on the host."""
    xp = namespace(x)
    y, pivots, info = elimination.ldl(asnumpy(full(x)), hermitian)
    return xp.asarray(rounded(y, x.dtype)), xp.asarray(pivots), xp.asarray(info)


@stacks.also(input="A")
def ldl_factor(A: Any, *, hermitian: bool = False) -> LDL:
    """(LD, pivots) of symmetric, or hermitian, matrices A (..., n, n), of which the lower triangle is read: A = P L D L^T
    P^T with D of blocks of 1 or 2 rows, as LAPACK's sytrf packs them. LinAlgError where D is singular. No gradient.
    """
    stacks.square("linalg.ldl_factor", A)
    y, pivots, info = ldl_of(A, bool(hermitian))
    stacks.succeeded(info, "linalg.ldl_factor", "wanted a matrix that can be inverted, saw zero for block {i} of D")
    return LDL(y, pivots)


@stacks.also(input="A")
def ldl_factor_ex(A: Any, *, hermitian: bool = False, check_errors: bool = False) -> LDLEx:
    """(LD, pivots, info) as ldl_factor, which says in `info` where D is singular instead of raising."""
    stacks.square("linalg.ldl_factor_ex", A)
    found = LDLEx(*ldl_of(A, bool(hermitian)))
    if check_errors:
        stacks.succeeded(
            found.info, "linalg.ldl_factor_ex", "wanted a matrix that can be inverted, saw zero for block {i} of D"
        )
    return found
