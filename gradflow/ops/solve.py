"""Systems of linear equations: solutions, inverses, and least squares, with gradients of every order."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ..backend import asnumpy, int32, int64, namespace, on_card, strict
from ..call import sampled
from ..cases import Sampler, case
from ..op import op, unwrap
from ..tape import Traced
from . import arrange, decomposition, elimination, gather, pointwise, reduce, shape, stacks
from .linalg import mT
from .stacks import full, mH, rounded
from .triangular import back_solve, paired


def _regular(r: Sampler, *size: int) -> np.ndarray:
    """Matrices that are far from singular."""
    return r(*size) + 3 * np.eye(size[-1])


# --- solutions ------------------------------------------------------------------------------------------------


def _dsolve(g, a, y, needs):
    db = solve_of(mT(a), g[0])[0]
    return (-(db @ mT(y)) if needs[0] else None), db


@op(
    name="linalg.solve",
    outputs=("y", "info"),
    da_db=_dsolve,
    cases=lambda r: [
        case(_regular(r, 3, 3), r(3, 2)),
        case(_regular(r, 2, 1, 3, 3), r(3, 3, 2)),
        case(_regular(r, 3, 3), r(2, 3, 1)),
        case(_regular(r, 1, 1), r(1, 0)),
        case(r(0, 0), r(0, 2)),
        case(np.array([[1.0, 2], [2, 4]]), r(2, 1), grad=False),
    ],
    reference=lambda torch, a, b: torch.linalg.solve_ex(a, b),
)
def solve_of(a, b):
    """X with a X = b, and the place of the first zero pivot of each a, or 0: there X is not finite."""
    xp, to = namespace(a), b.dtype
    info = xp.zeros(a.shape[:-2], int32)
    a, b = paired(full(a), full(b))
    try:
        with strict(a):
            return rounded(xp.linalg.solve(a, b), to), info
    except np.linalg.LinAlgError:
        y, pivots, info = elimination.lu(a)
        lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        b = xp.broadcast_to(b, (*lead, *b.shape[-2:]))
        order = xp.broadcast_to(elimination.order(pivots, a.shape[-1])[..., None], b.shape)
        with np.errstate(all="ignore"):
            x = back_solve.op.definition(y, xp.take_along_axis(b, order, -2), False, True)
            return rounded(elimination.substituted(xp.broadcast_to(y, (*lead, *y.shape[-2:])), x), to), info


class SolveEx(NamedTuple):
    """A solution, and 0 or the place of the first zero pivot."""

    result: Any
    info: Any


def _is_vector(A: Any, B: Any) -> bool:
    """Whether B is a stack of vectors: of one dimension, or of A's shape but for the last."""
    return B.ndim == 1 or (A.ndim - 1 == B.ndim and tuple(B.shape) == tuple(A.shape[:-1]))


def _solve(name: str, A: Any, B: Any, left: bool, check: bool) -> SolveEx:
    stacks.square(name, A)
    stacks.floating(name, A, B)
    vector = B.ndim > 0 and _is_vector(A, B)
    if vector and not left:
        raise RuntimeError(f"{name}: wanted left=True for a vector B, saw left=False and B of shape {tuple(B.shape)}")
    if vector:
        B = stacks.rows(B)
    if B.ndim < 2 or B.shape[-2 if left else -1] != A.shape[-1]:
        raise RuntimeError(
            f"{name}: wanted B of {A.shape[-1]} {'rows' if left else 'columns'}, saw shapes {tuple(A.shape)} and {tuple(B.shape)}"
        )
    stacks.batch(name, A, B)
    x, info = solve_of(A, B) if left else solve_of(mT(A), mT(B))
    x = x if left else mT(x)
    if check:
        stacks.succeeded(info, name, "wanted a matrix that can be inverted, saw zero for its pivot {i}: it is singular")
    return SolveEx(shape.squeeze(x, -1) if vector else x, info)


@stacks.also(input="A")
def solve(A: Any, B: Any, *, left: bool = True) -> Any:
    """X with A X = B, or X A = B with left=False; A (..., n, n), B (..., n, k), or vectors (n) or (..., n) of A's leading
    sizes; leading sizes broadcast. LinAlgError where A is singular, RuntimeError for sizes or dtypes that do not agree.
    """
    return _solve("linalg.solve", A, B, left, True).result


@stacks.also(input="A")
def solve_ex(A: Any, B: Any, *, left: bool = True, check_errors: bool = False) -> SolveEx:
    """(result, info) as solve, which says in `info` where A is singular instead of raising."""
    return _solve("linalg.solve_ex", A, B, left, check_errors)


# --- inverses -------------------------------------------------------------------------------------------------


@op(
    name="linalg.inv",
    outputs=("y", "info"),
    dx=lambda g, y: -(mT(y) @ g[0] @ mT(y)),
    cases=lambda r: [
        case(_regular(r, 3, 3)),
        case(_regular(r, 2, 2, 2)),
        case(r(0, 0)),
        case(np.array([[1.0, 2], [2, 4]]), grad=False),
    ],
    reference="linalg.inv_ex",
)
def inverse_of(x):
    """x^-1, and the place of the first zero pivot of each x, or 0: there the inverse is not finite."""
    xp, a = namespace(x), full(x)
    try:
        with strict(a):
            return rounded(xp.linalg.inv(a), x.dtype), xp.zeros(x.shape[:-2], int32)
    except np.linalg.LinAlgError:
        y, info = solve_of.op.definition(a, xp.broadcast_to(xp.eye(a.shape[-1], dtype=a.dtype), a.shape))
        return rounded(y, x.dtype), info


class InvEx(NamedTuple):
    """An inverse, and 0 or the place of the first zero pivot."""

    inverse: Any
    info: Any


def _inverse(name: str, A: Any, check: bool) -> InvEx:
    stacks.square(name, A)
    found = InvEx(*inverse_of(A))
    if check:
        stacks.succeeded(
            found.info, name, "wanted a matrix that can be inverted, saw zero for its pivot {i}: it is singular"
        )
    return found


@stacks.also(input="A")
def inv(A: Any) -> Any:
    """The inverse of square matrices A (..., n, n). LinAlgError where A is singular; solve is faster and more accurate."""
    return _inverse("linalg.inv", A, True).inverse


@stacks.also(input="A")
def inv_ex(A: Any, *, check_errors: bool = False) -> InvEx:
    """(inverse, info) as inv, which says in `info` where A is singular instead of raising."""
    return _inverse("linalg.inv_ex", A, check_errors)


# --- pseudo-inverses --------------------------------------------------------------------------------------------


def _dpinv(g, x, y):
    # Golub & Pereyra (1973), eq. 4.12: dY = -Y dX Y + Y Y^H dX^H (1 - X Y) + (1 - Y X) dX^H Y^H Y
    yh, gh = mH(y), mH(g)
    left = gh @ y @ yh
    right = yh @ y @ gh
    dx = left - x @ (y @ left) + right - (right @ y) @ x - yh @ g @ yh
    return dx


@op(
    name="linalg.pinv",
    dx=_dpinv,
    holomorphic=False,
    cases=lambda r: [
        case(r(4, 2)),
        case(r(2, 2, 3)),
        case(_regular(r, 3, 3)),
        case(np.outer(r(3), r(4)), order=0),  # of rank 1, which a difference quotient does not keep
        case(_regular(r, 2, 2) @ np.diag([1, 1e-3]), 0.1, grad=False),
        case(np.diag([1.0, 2, -3]), None, None, True, order=0),
        case(r(0, 3)),
    ],
    reference=lambda torch, x, atol=None, rtol=None, hermitian=False: torch.linalg.pinv(
        x, atol=atol, rtol=rtol, hermitian=hermitian
    ),
)
def pseudo(x, atol=None, rtol=None, hermitian=False):
    """V diag(1 / s) U^H of the singular values above max(atol, rtol max s). Golub & Pereyra (1973)."""
    xp, a = namespace(x), full(x)
    k = min(x.shape[-2:])
    if not k:
        return xp.zeros((*x.shape[:-2], x.shape[-1], x.shape[-2]), x.dtype)
    if hermitian:
        s, v = decomposition.converged("linalg.pinv", lambda: xp.linalg.eigh(a))
        size, u = abs(s), v
    else:
        u, s, vh = decomposition.converged("linalg.pinv", lambda: xp.linalg.svd(a, False))
        size, v = s, vh.conj().swapaxes(-1, -2)
    keep = size > threshold(size.max(-1), atol, rtol, x)[..., None]
    inverse = xp.where(keep, 1 / xp.where(keep, s, 1), 0).astype(s.dtype)
    return rounded((v * inverse[..., None, :]) @ u.conj().swapaxes(-1, -2), x.dtype)


def threshold(largest: Any, atol: Any, rtol: Any, x: Any) -> Any:
    """max(atol, rtol s), s the largest singular value: what counts as zero. rtol is max(m, n) eps unless one is given."""
    xp = namespace(largest)
    if rtol is None:
        rtol = max(x.shape[-2:]) * float(np.finfo(full(x).dtype).eps)
        if atol is not None:
            rtol = xp.where(xp.asarray(atol) > 0, 0.0, rtol)
    return xp.maximum(0.0 if atol is None else atol, rtol * largest)


@stacks.also(input="A")
def pinv(A: Any, rcond: Any = None, hermitian: bool = False, *, atol: Any = None, rtol: Any = None) -> Any:
    """The pseudo-inverse A^+ of A (..., m, n): singular values up to max(atol, rtol max s) count as zero.

    rtol is max(m, n) eps unless atol or rtol is given; they are numbers or tensors of the leading sizes; rcond is an older
    name of rtol. hermitian reads the lower triangle only.
    """
    name = "linalg.pinv"
    stacks.matrices(name, A)
    if hermitian:
        stacks.square(name, A)
    return pseudo(A, limit(name, atol), limit(name, rcond if rtol is None else rtol), bool(hermitian))


def limit(name: str, value: Any) -> Any:
    """A tolerance as a number or a bare real array. RuntimeError for a complex one."""
    value = unwrap(value)
    if getattr(value, "dtype", None) is not None and value.dtype.kind == "c":
        raise RuntimeError(f"{name}: wanted a real tolerance, saw {value.dtype}")
    return value


# --- least squares ----------------------------------------------------------------------------------------------


class Lstsq(NamedTuple):
    """A least squares solution, the squared residuals, the rank and the singular values of the matrix."""

    solution: Any
    residuals: Any
    rank: Any
    singular_values: Any


@op(outputs=("rank", "s"), reference=None, cases=lambda r: [case(r(4, 2), 0.1), case(r(2, 2, 3), 0.0)])
def rank_of(x, rcond):
    """How many singular values are above rcond times the largest, and the singular values."""
    xp = namespace(x)
    s = decomposition.converged("linalg.lstsq", lambda: xp.linalg.svd(full(x), compute_uv=False))
    if not s.shape[-1]:
        return xp.zeros(x.shape[:-2], int64), s
    return (s > rcond * s[..., :1]).sum(-1), rounded(s, x.dtype)


@stacks.also(input="A", b="B")
def lstsq(A: Any, B: Any, rcond: float | None = None, *, driver: str | None = None) -> Lstsq:
    """X that makes |A X - B| least, the shortest of several: A (..., m, n), B (..., m, k) or vectors; X = A^+ B.

    driver "gels" takes A to have full rank and finds none; "gelsy" (by default on the CPU), "gelsd" and "gelss" count
    singular values up to rcond times the largest as zero (max(m, n) eps); the latter two give them. residuals is empty
    with "gelsy", and unless m > n and A has full rank. RuntimeError for sizes that do not agree or another driver.
    """
    name = "linalg.lstsq"
    stacks.matrices(name, A)
    stacks.floating(name, A, B)
    drivers = ("gels",) if on_card(unwrap(A)) else ("gels", "gelsy", "gelsd", "gelss")
    driver = driver or drivers[min(1, len(drivers) - 1)]
    if driver not in drivers:
        raise RuntimeError(f"{name}: wanted a driver of {drivers}, saw {driver!r}")
    vector = B.ndim == A.ndim - 1 and tuple(B.shape) == tuple(A.shape[:-1])
    if not vector and B.ndim != A.ndim:
        raise RuntimeError(
            f"{name}: wanted B of as many dimensions as A, or vectors of A's rows, saw {tuple(A.shape)} and {tuple(B.shape)}"
        )
    b = stacks.rows(B) if vector else B
    if b.ndim < 2 or b.shape[-2] != A.shape[-2]:
        raise RuntimeError(f"{name}: wanted B of {A.shape[-2]} rows, saw {tuple(A.shape)} and {tuple(B.shape)}")
    lead = stacks.batch(name, A, b)
    m, n = A.shape[-2:]
    if rcond is None:
        rcond = max(m, n) * float(np.finfo(A.dtype).eps)
    narrow = A
    A, b = stacks.spread(A, lead), stacks.spread(b, lead)
    x = pseudo(A, None, 0.0 if driver == "gels" else rcond) @ b
    none = namespace(unwrap(A)).empty(0, A.dtype)
    residuals = pointwise.abs(shape.reshape(A, (-1,))[:0] + shape.reshape(b, (-1,))[:0])
    if driver == "gels":
        rank, s, whole = stacks.alike(none.astype(int64), A), none.real, m > n
    else:
        rank, s = rank_of(narrow.detach() if isinstance(narrow, Traced) else narrow, rcond)
        whole = m > n and driver != "gelsy" and bool((rank == n).all())
    if whole:
        residuals = reduce.sum(pointwise.square(pointwise.abs(A @ x - b)), -2)
    values = s if driver in ("gelsd", "gelss") else stacks.alike(none.real, A)
    return Lstsq(shape.squeeze(x, -1) if vector else x, residuals, rank, values)


# --- from factors ------------------------------------------------------------------------------------------------


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


class LDL(NamedTuple):
    """L and D in one matrix, and the pivots."""

    LD: Any
    pivots: Any


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


# --- tensors as matrices -----------------------------------------------------------------------------------------


@stacks.also(input="A", other="B")
def tensorsolve(A: Any, B: Any, dims: Any = None) -> Any:
    """X with tensordot(A, X, X.ndim) = B: A, once `dims` are moved to its end, has B's shape in front of X's.
    RuntimeError unless that makes A a square matrix.
    """
    name = "linalg.tensorsolve"
    stacks.floating(name, A, B)
    if dims is not None:
        A = shape.movedim(A, tuple(dims), tuple(range(A.ndim - len(dims), A.ndim)))
    kept = tuple(A.shape[B.ndim :])
    if math.prod(kept) != math.prod(B.shape) or math.prod(A.shape[: B.ndim]) != math.prod(kept):
        saw = f"{tuple(A.shape)} and {tuple(B.shape)}"
        raise RuntimeError(f"{name}: wanted A to be a square matrix of {math.prod(B.shape)} rows, saw {saw}")
    n = math.prod(kept)
    return shape.reshape(_solve(name, shape.reshape(A, (n, n)), shape.reshape(B, (n,)), True, True).result, kept)


@stacks.also(input="A")
def tensorinv(A: Any, ind: int = 2) -> Any:
    """The inverse of A as a matrix whose rows are its first `ind` dimensions: tensordot(tensorinv(A), B, ind) solves
    tensordot(A, X, X.ndim) = B. RuntimeError unless ind > 0 and the matrix is square and not singular.
    """
    name = "linalg.tensorinv"
    if ind <= 0:
        raise RuntimeError(f"{name}: wanted ind > 0, saw {ind}")
    first, last = tuple(A.shape[:ind]), tuple(A.shape[ind:])
    if math.prod(first) != math.prod(last):
        raise RuntimeError(
            f"{name}: wanted as many elements in front of dimension {ind} as from it on, saw {tuple(A.shape)}"
        )
    n = math.prod(first)
    return shape.reshape(_inverse(name, shape.reshape(A, (n, n)), True).inverse, (*last, *first))
