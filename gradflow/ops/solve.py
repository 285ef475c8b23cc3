"""Systems of linear equations with one solution: solutions and inverses, with gradients of every order."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ..backend import int32, namespace, strict
from ..cases import Sampler, case
from ..op import op
from . import elimination, shape, stacks
from .linalg import mT
from .results import returned
from .stacks import full, rounded
from .triangular import back_solve, paired


def regular(r: Sampler, *size: int) -> np.ndarray:
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
        case(regular(r, 3, 3), r(3, 2)),
        case(regular(r, 2, 1, 3, 3), r(3, 3, 2)),
        case(regular(r, 3, 3), r(2, 3, 1)),
        case(regular(r, 2, 2) + 1j * r(2, 2), r(2, 1) + 1j * r(2, 1)),
        case(regular(r, 1, 1), r(1, 0)),
        case(r(0, 0), r(0, 2)),
        case(np.array([[1.0, 2], [2, 4]]), r(2, 1), grad=False),
        case(np.array([[[[1.0, 2], [2, 4]]], [[[2.0, 1], [1, 3]]]]), r(3, 2, 1), grad=False),
    ],
    reference=lambda torch, a, b: torch.linalg.solve_ex(a, b),
)
def solve_of(a, b):
    """X with a X = b, and the place of the first zero pivot of each a, or 0: there X is not finite."""
    xp, to = namespace(a), b.dtype
    info = xp.zeros(a.shape[:-2], int32)
    a, b = full(a), full(b)
    try:
        with strict(a):
            return rounded(xp.linalg.solve(*paired(a, b)), to), info
    except np.linalg.LinAlgError:
        y, pivots, info = elimination.lu(a)
        lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        b = xp.broadcast_to(b, (*lead, *b.shape[-2:]))
        order = xp.broadcast_to(elimination.order(pivots, a.shape[-1])[..., None], b.shape)
        with np.errstate(all="ignore"):
            x = back_solve.op.definition(y, xp.take_along_axis(b, order, -2), False, True)
            return rounded(elimination.substituted(xp.broadcast_to(y, (*lead, *y.shape[-2:])), x), to), info


@returned("linalg_solve_ex")
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
        case(regular(r, 3, 3)),
        case(regular(r, 2, 2, 2)),
        case(regular(r, 2, 2) + 1j * r(2, 2)),
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


@returned("linalg_inv_ex")
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
