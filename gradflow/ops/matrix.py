"""Functions of matrices: the exponential, norms, conditions, ranks, powers of vectors."""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np

from ..backend import int64, namespace
from ..cases import case
from ..op import op, unwrap
from . import arrange, decomposition, extreme, least, pointwise, reduce, scan, shape, solve, stacks
from .dims import dimension
from .linalg import mT
from .stacks import full, rounded

# --- the exponential ------------------------------------------------------------------------------------------

_PADE = (
    64764752532480000, 32382376266240000, 7771770303897600, 1187353796428800, 129060195264000, 10559470521600, 670442572800,
    33522128640, 1323241920, 40840800, 960960, 16380, 182, 1,
)  # fmt: skip


def _dexp(g, x):
    n = x.shape[-1]
    h = mT(x)  # Mathias (1996), theorem 2.1: the derivative of exp at x in direction g stands beside it
    wide = shape.cat([shape.cat([h, g + h * 0], -1), shape.cat([h * 0, h], -1)], -2)
    return exponential(wide)[..., :n, n:]


@op(
    name="linalg.matrix_exp",
    dx=_dexp,
    cases=lambda r: [
        case(r(3, 3)),
        case(r(2, 2, 2) * 4),
        case(r(2, 2) + 1j * r(2, 2)),
        case(r(1, 1)),
        case(r(0, 0)),
        case(np.zeros((2, 2))),
    ],
    reference="linalg.matrix_exp",
)
def exponential(x):
    """sum_k x^k / k!, by scaling and squaring of the Pade approximant of degree 13: Higham (2005), algorithm 2.3."""
    xp, n = namespace(x), x.shape[-1]
    if not x.size:
        return xp.zeros_like(x)
    a = full(x)
    if n == 1:
        return rounded(xp.exp(a), x.dtype)
    with np.errstate(all="ignore"):
        norm = abs(a).sum(-2).max(-1)
        scale = xp.ceil(xp.log2(norm / 5.371920351148152))
        scale = xp.where(xp.isfinite(scale), xp.maximum(scale, 0), 0)[..., None, None]
        a = a * (0.5**scale).astype(norm.dtype)
        b, one = _PADE, xp.eye(n, dtype=a.dtype)
        a2 = a @ a
        a4 = a2 @ a2
        a6 = a4 @ a2
        u = a @ (a6 @ (a6 * b[13] + a4 * b[11] + a2 * b[9]) + a6 * b[7] + a4 * b[5] + a2 * b[3] + one * b[1])
        v = a6 @ (a6 * b[12] + a4 * b[10] + a2 * b[8]) + a6 * b[6] + a4 * b[4] + a2 * b[2] + one * b[0]
        y = xp.linalg.solve(v - u, u + v) if bool(xp.isfinite(u).all()) else xp.where(xp.isfinite(u), u, xp.nan)
        for i in range(int(scale.max())):
            y = xp.where(scale > i, y @ y, y)
    return rounded(y, x.dtype)


@stacks.also(input="A")
def matrix_exp(A: Any) -> Any:
    """The exponential sum_k A^k / k! of square matrices A (..., n, n); half types are computed in float32."""
    stacks.square("linalg.matrix_exp", A, half=True)
    return exponential(A)


# --- norms ------------------------------------------------------------------------------------------------------


def widened(name: str, x: Any, dtype: Any) -> Any:
    """x in the dtype in which a norm is asked for. RuntimeError where that is no wider dtype of its kind."""
    if x.dtype.kind in "biu":
        raise RuntimeError(f"{name}: wanted a floating or complex dtype, saw {x.dtype}")
    if dtype is None:
        return x
    to = np.dtype(dtype)
    if to.kind in "biu" or (to.kind == "c") != (x.dtype.kind == "c") or to.itemsize < x.dtype.itemsize:
        raise RuntimeError(f"{name}: wanted a dtype to which {x.dtype} can be widened, saw {to}")
    return pointwise.cast(x, to)


def _number(name: str, ord: Any) -> float:
    if isinstance(ord, (str, tuple, list)) or ord is None or isinstance(ord, complex):
        raise TypeError(f"{name}: wanted ord a number, saw {ord!r}")
    return float(ord)


@stacks.also(input="x")
def vector_norm(x: Any, ord: Any = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """(sum |x|^ord)^(1/ord) over dim, all dimensions by default; the largest |x| for inf, the smallest for -inf, the
    number of nonzero elements for 0. RuntimeError unless the dtype is floating or complex.
    """
    name = "linalg.vector_norm"
    x, ord = widened(name, x, dtype), _number(name, ord)
    return reduce.vector_norm(x, ord, dim, keepdim)


def _two(name: str, x: Any, dim: Any) -> tuple[int, int]:
    if isinstance(dim, int):
        raise TypeError(f"{name}: wanted two dimensions, saw {dim!r}")
    if len(dim) != 2:
        raise RuntimeError(f"{name}: wanted two dimensions, saw {dim!r}")
    if x.ndim < 2:
        raise RuntimeError(f"{name}: wanted 2 dimensions or more, saw shape {tuple(x.shape)}")
    a, b = (dimension(name, d, x.ndim) for d in dim)
    if a == b:
        raise RuntimeError(f"{name}: wanted two different dimensions, saw {tuple(dim)}")
    return a, b


@stacks.also(input="A")
def matrix_norm(A: Any, ord: Any = "fro", dim: Any = (-2, -1), keepdim: bool = False, *, dtype: Any = None) -> Any:
    """The norm of the matrices that A is over the two dimensions `dim`.

    ord "fro": the root of the sum of squares; "nuc": the sum of the singular values; 2 and -2: the largest and the smallest
    of them; 1 and -1: the largest and the smallest sum of a column's |a|; inf and -inf: of a row's. RuntimeError for others.
    """
    name = "linalg.matrix_norm"
    A = widened(name, A, dtype)
    if not isinstance(ord, str):
        _number(name, ord)
    rows, cols = _two(name, A, dim)
    if isinstance(ord, str):
        if ord not in ("fro", "nuc"):
            raise RuntimeError(f"{name}: wanted ord 'fro', 'nuc', 1, -1, 2, -2, inf or -inf, saw {ord!r}")
        if ord == "fro":
            return reduce.vector_norm(A, 2.0, (rows, cols), keepdim)
    elif builtins.abs(_number(name, ord)) not in (1, 2, math.inf):
        raise RuntimeError(f"{name}: wanted ord 'fro', 'nuc', 1, -1, 2, -2, inf or -inf, saw {ord!r}")
    if ord == "nuc" or builtins.abs(ord) == 2:
        stacks.floating(name, A)
        s = decomposition.values(shape.movedim(A, (rows, cols), (-2, -1)))
        y = reduce.sum(s, -1) if ord == "nuc" else _extreme(name, s, ord, -1, False)
        if keepdim:
            for d in sorted((rows, cols)):
                y = shape.unsqueeze(y, d)
        return y
    inner, outer = (rows, cols) if builtins.abs(ord) == 1 else (cols, rows)
    y = _extreme(name, reduce.sum(pointwise.abs(A), inner, True), ord, outer, True)
    return y if keepdim else shape.reshape(y, tuple(n for d, n in enumerate(A.shape) if d not in (rows, cols)))


def _extreme(name: str, s: Any, ord: float, dim: int, keepdim: bool) -> Any:
    if s.shape[dim] == 0:
        if ord < 0:
            raise IndexError(f"{name}: wanted matrices with elements for ord={ord}, saw none")
        return reduce.sum(s, dim, keepdim)  # the largest of none is zero
    return (extreme.amax if ord > 0 else extreme.amin)(s, dim, keepdim)


@stacks.also(input="A")
def norm(A: Any, ord: Any = None, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """vector_norm or matrix_norm: of the vectors along one dimension, of the matrices over two (or of a whole matrix); with
    neither ord nor dim, the 2-norm of all elements. RuntimeError for an ord without dim of other than 1 or 2 dimensions.
    """
    name = "linalg.norm"
    if dim is not None:
        if not isinstance(dim, int) and len(dim) not in (1, 2):
            raise RuntimeError(f"{name}: wanted one dimension or two, saw {dim!r}")
    elif ord is not None and A.ndim not in (1, 2):
        raise RuntimeError(
            f"{name}: wanted a vector or a matrix for ord={ord!r} without dim, saw shape {tuple(A.shape)}"
        )
    pair = A.ndim == 2 if dim is None else not isinstance(dim, int) and len(dim) == 2
    if isinstance(ord, str) or (ord is not None and pair):
        over = tuple(range(A.ndim)) if dim is None else (dim,) if isinstance(dim, int) else dim
        return matrix_norm(A, ord, over, keepdim, dtype=dtype)
    return vector_norm(A, 2 if ord is None else ord, dim, keepdim, dtype=dtype)


@stacks.also(input="A")
def cond(A: Any, p: Any = None) -> Any:
    """The condition |A| |A^-1| of square matrices in matrix_norm's norm p; of any matrices for p = None, 2 and -2, where it
    is the ratio of the largest to the smallest singular value. Infinite for singular matrices.
    """
    name = "linalg.cond"
    if A.ndim < 2:
        raise RuntimeError(f"{name}: wanted 2 dimensions or more, saw shape {tuple(A.shape)}")
    if isinstance(p, str):
        known = p in ("fro", "nuc")
    else:
        known = p is None or builtins.abs(p) in (1, 2, math.inf)
    if not known:
        raise RuntimeError(f"{name}: wanted p 'fro', 'nuc', 1, -1, 2, -2, inf or -inf, saw {p!r}")
    stacks.floating(name, A)
    if isinstance(p, str):
        stacks.square(name, A)
    if 0 in A.shape:
        return stacks.alike(shape.filled(A, tuple(A.shape[:-2]), 0).real, A)
    if p is None or p in (2, -2):
        s = decomposition.svdvals(A)
        return s[..., -1] / s[..., 0] if p == -2 else s[..., 0] / s[..., -1]
    stacks.square(name, A)
    inverse, info = solve.inverse_of(A)
    bad = pointwise.ne(info, 0)
    inverse = pointwise.where(shape.reshape(bad, (*bad.shape, 1, 1)), 0.0, inverse)
    return pointwise.where(bad, math.inf, matrix_norm(A, p) * matrix_norm(inverse, p))


@op(
    name="linalg.matrix_rank",
    cases=lambda r: [
        case(r(4, 3)),
        case(np.outer(r(3), r(3))),
        case(r(0, 3)),
        case(np.diag([1.0, -2]), 1.5, None, True),
    ],
    reference=lambda torch, x, atol=None, rtol=None, hermitian=False: torch.linalg.matrix_rank(
        x, atol=atol, rtol=rtol, hermitian=hermitian
    ),
)
def count_singular(x, atol=None, rtol=None, hermitian=False):
    """How many singular values are above max(atol, rtol max s)."""
    xp = namespace(x)
    if not min(x.shape[-2:]):
        return xp.zeros(x.shape[:-2], int64)
    values = xp.linalg.eigvalsh if hermitian else lambda a: xp.linalg.svd(a, compute_uv=False)
    s = abs(decomposition.converged("linalg.matrix_rank", lambda: values(full(x))))
    return (s > least.threshold(s.max(-1), atol, rtol, x)[..., None]).sum(-1)


@stacks.also(input="A")
def matrix_rank(A: Any, tol: Any = None, hermitian: bool = False, *, atol: Any = None, rtol: Any = None) -> Any:
    """The rank of A (..., m, n): how many singular values are above max(atol, rtol max s); rtol is max(m, n) eps unless atol
    or rtol is given; tol is an older name of atol. hermitian reads the lower triangle only.
    """
    name = "linalg.matrix_rank"
    stacks.matrices(name, A)
    if hermitian:
        stacks.square(name, A)
    if tol is not None:
        atol, rtol = tol, 0.0
    return count_singular(A, least.limit(name, atol), least.limit(name, rtol), bool(hermitian))


# --- products of vectors, powers ------------------------------------------------------------------------------------


@stacks.also()
def vecdot(x: Any, y: Any, *, dim: int = -1) -> Any:
    """sum conj(x) y along dim; x and y broadcast. RuntimeError for dtypes or sizes that do not agree."""
    if x.dtype != y.dtype:
        raise RuntimeError(f"linalg.vecdot: wanted one dtype, saw {x.dtype} and {y.dtype}")
    if x.dtype.kind in "biu":
        raise RuntimeError(f"linalg.vecdot: wanted a floating or complex dtype, saw {x.dtype}")
    return reduce.sum(pointwise.conj(x) * y, dim)


@stacks.also(input="x")
def vander(x: Any, N: int | None = None) -> Any:
    """The powers 0 to N - 1 of every element of x (..., n), as rows (..., n, N); N = n unless given.
    RuntimeError for N <= 1 or a number.
    """
    if x.dtype.kind in "bV" or (x.dtype.kind == "f" and x.dtype.itemsize == 2):
        raise RuntimeError(f"linalg.vander: wanted numbers of full precision, saw {x.dtype}")
    return _vander(x, N)


def _vander(x: Any, N: int | None) -> Any:
    if N is None and not x.ndim:
        raise IndexError("linalg.vander: wanted a vector, or N, saw a number")
    if not x.ndim:
        x = shape.reshape(x, (1,))
    n = x.shape[-1] if N is None else N
    if n <= 1:
        raise RuntimeError(f"linalg.vander: wanted N > 1, saw shape {tuple(x.shape)} and N={N}")
    a = unwrap(x)
    ones = stacks.alike(namespace(a).ones((*a.shape, 1), a.dtype), x)
    times = shape.expand(shape.unsqueeze(x, -1), (*a.shape, n - 1))
    return scan.cumprod(shape.cat([ones, times], -1), -1)


def diagonal_of(A: Any, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Any:
    """The diagonals of the matrices that A is over dim1 and dim2, a view."""
    return arrange.diagonal(A, offset, dim1, dim2)
