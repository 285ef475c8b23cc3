"""Functions of matrices: determinants, the exponential, norms, conditions, ranks."""

from __future__ import annotations

import builtins
import math
from typing import Any, NamedTuple

import numpy as np

from ..backend import int64, namespace
from ..cases import Sampler, case
from ..op import op, unwrap
from . import arrange, decomposition, extreme, pointwise, reduce, scan, shape, solve, stacks
from .dims import dimension
from .linalg import mT
from .stacks import full, mH, rounded

# --- determinants ---------------------------------------------------------------------------------------------


def _square_cases(r: Sampler) -> list[case]:
    return [case(r(3, 3)), case(r(2, 4, 4)), case(r(1, 1)), case(r(0, 0)), case(r(2, 2) * 1e-3)]


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
    """(u, s, vh, det u det vh) of each matrix."""
    xp = namespace(x)
    u, s, vh = xp.linalg.svd(x)
    return u, s, vh, (xp.linalg.det(u) * xp.linalg.det(vh))[..., None, None]


@op(dx=lambda g, x: cofactor_backward(g, x), cases=_singular, reference=None)
def cofactor(x):
    """The cofactors of each matrix, det(x) x^-T where x has an inverse: from the singular values, without a division."""
    if not x.size:
        return namespace(x).zeros_like(x)
    u, s, vh, sign = _axes(full(x))
    return rounded((u * (others(s)[..., None, :] * sign)).conj() @ vh.conj() if u.dtype.kind != "c" else
                   sign * ((u * others(s)[..., None, :]) @ vh).conj(), x.dtype)  # fmt: skip


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
    cases=lambda r: [case(r(3, 3)), case(r(2, 2, 2)), case(r(0, 0)), case(np.array([[1.0, 2], [2, 4]]), grad=False)],
    reference="linalg.slogdet",
)
def slogdet_of(x):
    """(sign, log |det|) of each matrix."""
    with np.errstate(all="ignore"):
        s, y = namespace(x).linalg.slogdet(full(x))
    return rounded(s, x.dtype), rounded(y, x.dtype)


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
    cases=lambda r: [case(r(3, 3)), case(r(2, 2, 2) * 4), case(r(1, 1)), case(r(0, 0)), case(np.zeros((2, 2)))],
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
    return (s > solve.threshold(s.max(-1), atol, rtol, x)[..., None]).sum(-1)


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
    return count_singular(A, solve.limit(name, atol), solve.limit(name, rtol), bool(hermitian))


# --- products of vectors, powers ------------------------------------------------------------------------------------


def vecdot(x: Any, y: Any, *, dim: int = -1) -> Any:
    """sum conj(x) y along dim; x and y broadcast. RuntimeError for dtypes or sizes that do not agree."""
    if x.dtype != y.dtype:
        raise RuntimeError(f"linalg.vecdot: wanted one dtype, saw {x.dtype} and {y.dtype}")
    if x.dtype.kind in "biu":
        raise RuntimeError(f"linalg.vecdot: wanted a floating or complex dtype, saw {x.dtype}")
    return reduce.sum(pointwise.conj(x) * y, dim)


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
