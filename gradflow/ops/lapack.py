"""PyTorch's older names for the functions of linalg: svd with V instead of V^H, lu with its pivots, triangular_solve."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..backend import int32, namespace
from ..op import unwrap
from . import arrange, decomposition, eigen, least, linalg, matrix, random, reduce, shape, solve, stacks, triangular
from .results import returned
from .stacks import mH

# --- decompositions -----------------------------------------------------------------------------------------


@stacks.also()
def cholesky(input: Any, upper: bool = False) -> Any:
    """The lower triangular L with input = L L^H of positive definite matrices; upper gives L^H. LinAlgError for others."""
    return decomposition._cholesky("cholesky", input, bool(upper), True).L


@returned("qr")
class QR(NamedTuple):
    """Orthonormal columns, and an upper triangle."""

    Q: Any
    R: Any


@stacks.also()
def qr(input: Any, some: bool = True) -> QR:
    """linalg.qr, "reduced" or, with some=False, "complete"."""
    return QR(*decomposition.qr(input, "reduced" if some else "complete"))


@returned("svd")
class SVD(NamedTuple):
    """Left singular vectors, singular values and right singular vectors, the vectors as columns."""

    U: Any
    S: Any
    V: Any


@stacks.also()
def svd(input: Any, some: bool = True, compute_uv: bool = True) -> SVD:
    """(U, S, V) with input = U diag(S) V^H; some=False gives whole square U and V, compute_uv=False zeros for them."""
    stacks.matrices("svd", input)
    if compute_uv:
        u, s, vh = decomposition.svd(input, not some)
        return SVD(u, s, mH(vh))
    (m, n), lead = input.shape[-2:], tuple(input.shape[:-2])
    u, v = (stacks.alike(shape.filled(input, (*lead, k, k), 0), input) for k in (m, n))
    return SVD(u, decomposition.values(input), v)


def lu(A: Any, pivot: bool = True, get_infos: bool = False, out: Any = None) -> tuple:
    """(LU, pivots), and info with get_infos=True: linalg.lu_factor_ex."""
    y, pivots, info = triangular.lu_factor_ex(A, pivot=pivot)
    if not get_infos:
        stacks.succeeded(info, "lu", "wanted a factor U that can be inverted, saw zero at its place {i}")
        return triangular.LUFactor(y, pivots)
    return triangular.LUFactorEx(y, pivots, info)


@stacks.also()
def lu_unpack(LU_data: Any, LU_pivots: Any, unpack_data: bool = True, unpack_pivots: bool = True) -> triangular.LU:
    """(P, L, U) of what lu or linalg.lu_factor gave; what is not asked for is empty. RuntimeError for pivots not of int32."""
    if unpack_pivots and LU_pivots.dtype != int32:
        raise RuntimeError(f"lu_unpack: wanted pivots of int32, saw {LU_pivots.dtype}")
    return triangular.unpacked(LU_data, LU_pivots, unpack_pivots, unpack_data)


# --- solutions ------------------------------------------------------------------------------------------------


@stacks.also(input="b")
def lu_solve(b: Any, LU_data: Any, LU_pivots: Any) -> Any:
    """X with A X = b from A's lu_factor: linalg.lu_solve."""
    return triangular.lu_solve(LU_data, LU_pivots, b)


@returned("triangular_solve")
class TriangularSolve(NamedTuple):
    """A solution, and a copy of the matrix."""

    solution: Any
    cloned_coefficient: Any


@stacks.also(input="b")
def triangular_solve(
    b: Any, A: Any, upper: bool = True, transpose: bool = False, unitriangular: bool = False
) -> TriangularSolve:
    """(X, A) with A X = b, or A^T X = b with transpose=True, for triangular A: linalg.solve_triangular."""
    name = "triangular_solve"
    stacks.matrices(name, b)
    stacks.square(name, A)
    stacks.floating(name, b, A)
    if b.shape[-2] != A.shape[-1]:
        raise RuntimeError(f"{name}: wanted b of {A.shape[-1]} rows, saw shapes {tuple(b.shape)} and {tuple(A.shape)}")
    lead = stacks.batch(name, b, A)
    a, up = (linalg.mT(A), not upper) if transpose else (A, bool(upper))
    x = stacks.spread(triangular.back_solve(a, b, up, bool(unitriangular)), lead)
    return TriangularSolve(x, shape.clone(stacks.spread(A, lead)))


@stacks.also()
def inverse(input: Any) -> Any:
    """The inverse of square matrices: linalg.inv."""
    return solve._inverse("inverse", input, True).inverse


def pinverse(input: Any, rcond: float = 1e-15) -> Any:
    """The pseudo-inverse, singular values up to rcond times the largest counting as zero: linalg.pinv."""
    return least.pinv(input, rtol=rcond)


# --- of low rank ------------------------------------------------------------------------------------------------


def _basis(A: Any, q: int, niter: int) -> Any:
    """Orthonormal columns that nearly span the range of A: subspace iteration from a random start, Halko et al. (2009),
    algorithm 4.4.
    """
    a = unwrap(A)
    start = random.normal((a.shape[-1], q), a.real.dtype, namespace(a)).astype(a.dtype)
    y = decomposition.qr(A @ stacks.alike(start, A)).Q
    for _ in range(niter):
        z = decomposition.qr(mH(A) @ y).Q
        y = decomposition.qr(A @ z).Q
    return y


def svd_lowrank(A: Any, q: int | None = 6, niter: int | None = 2, M: Any = None) -> tuple[Any, Any, Any]:
    """(U, S, V) of the q largest singular values of A - M (..., m, n), nearly: by projection on a random subspace that
    niter iterations turn towards theirs. Halko, Martinsson & Tropp (2009), arXiv:0909.4061, algorithm 5.1.
    """
    stacks.matrices("svd_lowrank", A)
    q, niter = 6 if q is None else q, 2 if niter is None else niter
    if not 0 <= q <= min(A.shape[-2:]):
        raise ValueError(f"svd_lowrank: wanted q in [0, {min(A.shape[-2:])}], saw {q}")
    if not niter >= 0:
        raise ValueError(f"svd_lowrank: wanted niter >= 0, saw {niter}")
    if M is not None:
        A = A - M
    if A.shape[-2] < A.shape[-1]:
        v, s, u = svd_lowrank(mH(A), q, niter)
        return u, s, v
    basis = _basis(A, q, niter)
    u, s, vh = decomposition.svd(mH(basis) @ A, False)
    return basis @ u, s, mH(vh)


def pca_lowrank(A: Any, q: int | None = None, center: bool = True, niter: int = 2) -> tuple[Any, Any, Any]:
    """(U, S, V) of the q first principal components of the rows of A (..., m, n), nearly: svd_lowrank of A less the mean of
    its rows (unless center=False). ValueError for q or niter out of range.
    """
    stacks.matrices("pca_lowrank", A)
    most = min(A.shape[-2:])
    q = min(6, most) if q is None else q
    if not 0 <= q <= most:
        raise ValueError(f"pca_lowrank: wanted q in [0, {most}], saw {q}")
    if not niter >= 0:
        raise ValueError(f"pca_lowrank: wanted niter >= 0, saw {niter}")
    return svd_lowrank(A - reduce.mean(A, -2, True) if center else A, q, niter)


def lobpcg(
    A: Any,
    k: int | None = None,
    B: Any = None,
    X: Any = None,
    n: int | None = None,
    iK: Any = None,
    niter: int | None = None,
    tol: float | None = None,
    largest: bool | None = None,
    method: str | None = None,
    tracker: Any = None,
    ortho_iparams: dict | None = None,
    ortho_fparams: dict | None = None,
    ortho_bparams: dict | None = None,
) -> tuple[Any, Any]:
    """(eigenvalues, eigenvectors) of the k largest (or smallest) eigenvalues of the Hermitian A (..., m, m), or of A x =
    lambda B x for positive definite B, the extreme one first.

    PyTorch iterates towards them from X; here the whole decomposition is taken, which is exact and has gradients of every
    order, so that X, iK, niter, tol and method change nothing. ValueError for m < 3 k, as in PyTorch.
    """
    stacks.square("lobpcg", A)
    k = (1 if X is None else X.shape[-1]) if k is None else k
    if A.shape[-1] < 3 * k:
        raise ValueError(f"lobpcg: wanted matrices of at least 3 k = {3 * k} rows, saw {A.shape[-1]}")
    if method not in (None, "basic", "ortho"):
        raise ValueError(f"lobpcg: wanted method 'basic' or 'ortho', saw {method!r}")
    if B is None:
        w, v = eigen.eigh(A)
    else:
        root = decomposition.cholesky(B)  # B = L L^H makes it L^-1 A L^-H y = lambda y, x = L^-H y
        half = triangular.back_solve(root, A, False)
        w, y = eigen.eigh(mH(triangular.back_solve(root, mH(half), False)))
        v = triangular.back_solve(mH(root), y, True)
    if largest is None or largest:
        w, v = arrange.flip(w, (-1,)), arrange.flip(v, (-1,))
    return w[..., :k], v[..., :k]


# --- functions and norms --------------------------------------------------------------------------------------------


def vander(x: Any, N: int | None = None, increasing: bool = False) -> Any:
    """The powers of every element of a vector, as rows of N (as many as elements): from the highest, or from 0 if increasing.
    RuntimeError for other dimensions.
    """
    if x.ndim != 1:
        raise RuntimeError(f"vander: wanted a vector, saw shape {tuple(x.shape)}")
    n = x.shape[0] if N is None else N
    if n < 0:
        raise RuntimeError(f"vander: wanted N >= 0, saw {N}")
    y = matrix._vander(x, n if n > 2 else 2)[..., :n]
    return y if increasing else arrange.flip(y, (-1,))


def nuclear_norm(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """The sum of the singular values of a matrix, or of the matrices over two dimensions."""
    return matrix.matrix_norm(input, "nuc", (-2, -1) if dim is None else dim, keepdim)


def frobenius_norm(input: Any, dim: Any, keepdim: bool = False) -> Any:
    """The root of the sum of squares over one dimension or two."""
    over = (dim,) if isinstance(dim, int) else tuple(dim)
    if len(over) > 2:
        raise RuntimeError(f"frobenius_norm: wanted at most two dimensions, saw {over}")
    return matrix.vector_norm(input, 2, over or None, keepdim)


def removed(name: str, instead: str) -> Any:
    """A function that PyTorch has removed, which says what to use."""

    def call(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(f"{name}: wanted {instead}, saw a function that PyTorch has removed")

    call.__name__ = call.__qualname__ = name
    call.__doc__ = f"Removed from PyTorch: {instead} is its newer name."
    return call


eig, symeig = removed("eig", "linalg.eig"), removed("symeig", "linalg.eigh")
lstsq, matrix_rank = removed("lstsq", "linalg.lstsq"), removed("matrix_rank", "linalg.matrix_rank")
