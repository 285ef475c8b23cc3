"""Eigenvalues and eigenvectors, of Hermitian matrices and of any, with gradients of every order.

A rule that divides by a difference of eigenvalues has no value where two are equal, except for what does not depend on the
vectors.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..backend import namespace
from ..cases import Sampler, case
from ..op import op
from . import pointwise, stacks
from .decomposition import converged
from .results import returned
from .solve import solve_of
from .stacks import columns, diag, diagonal, full, gaps, hollow, mH, quotient, rounded

# --- eigenvalues of Hermitian matrices ------------------------------------------------------------------------


def _symmetric(r: Sampler, *size: int) -> np.ndarray:
    q = np.linalg.qr(r(*size))[0]
    return (q * np.arange(1, size[-1] + 1)) @ np.swapaxes(q, -1, -2)


def _deigh(g, w, v):
    gw, gv = g
    p = mH(v) @ gv
    middle = quotient(hollow(p - mH(p)) * 0.5, gaps(w)) + diag(gw)
    return v @ middle @ mH(v)


@op(
    name="linalg.eigh",
    outputs=("w", "v"),
    dx=_deigh,
    holomorphic=False,
    cases=lambda r: [
        case(_symmetric(r, 3, 3), "L", order=0),
        case(_symmetric(r, 2, 4, 4), "U", order=0),
        case(r(0, 0)),
        case(r(1, 1)),
    ],
    reference=None,  # as svd
)
def eigh_of(x, uplo="L"):
    """x = V diag(w) V^H for Hermitian x, of which one triangle is read. Giles (2008), section 3.1."""
    xp = namespace(x)
    w, v = converged("linalg.eigh", lambda: xp.linalg.eigh(full(x), uplo))
    return rounded(w, x.dtype), rounded(v, x.dtype)


def _deigvalsh(g, x, uplo):
    _, v = eigh_of(x, uplo)
    return (v * columns(g)) @ mH(v)


@op(
    name="linalg.eigvalsh",
    dx=_deigvalsh,
    holomorphic=False,
    cases=lambda r: [
        case(_symmetric(r, 3, 3), "L", order=0),
        case(_symmetric(r, 2, 2, 2), "U", order=0),
        case(r(1, 1)),
    ],
    reference=lambda torch, x, uplo="L": torch.linalg.eigvalsh(x, uplo),
)
def hermitian_values(x, uplo="L"):
    """The eigenvalues of Hermitian x alone, from the smallest on."""
    xp = namespace(x)
    return rounded(converged("linalg.eigvalsh", lambda: xp.linalg.eigvalsh(full(x), uplo)), x.dtype)


@returned("linalg_eig")
class Eigen(NamedTuple):
    """Eigenvalues, and eigenvectors as columns."""

    eigenvalues: Any
    eigenvectors: Any


class Symmetric(Eigen):
    """Real eigenvalues in ascending order, and orthonormal eigenvectors as columns."""

    __slots__ = ()


returned("linalg_eigh")(Symmetric)


def _uplo(name: str, A: Any, UPLO: str) -> str:
    stacks.square(name, A)
    if not isinstance(UPLO, str) or UPLO.upper() not in ("L", "U"):
        raise RuntimeError(f"{name}: wanted UPLO 'L' or 'U', saw {UPLO!r}")
    return UPLO.upper()


@stacks.also(input="A")
def eigh(A: Any, UPLO: str = "L") -> Eigen:
    """(eigenvalues, eigenvectors) of Hermitian matrices A (..., n, n), A = V diag(w) V^H, w real and ascending.

    One triangle of A is read, the lower or ("U") the upper. Its gradient is that of functions that do not depend on the sign
    or phase of the vectors. RuntimeError for matrices that are not square or another UPLO.
    """
    return Symmetric(*eigh_of(A, _uplo("linalg.eigh", A, UPLO)))


@stacks.also(input="A")
def eigvalsh(A: Any, UPLO: str = "L") -> Any:
    """The eigenvalues of Hermitian matrices A (..., n, n), ascending. Their gradient is finite where two are equal."""
    return hermitian_values(A, _uplo("linalg.eigvalsh", A, UPLO))


# --- eigenvalues of any matrices ------------------------------------------------------------------------------


def _deig(g, w, v):
    gw, gv = g
    vh = mH(v)
    p = vh @ gv
    along = diagonal(p)
    p = p - (vh @ v) * columns((along + pointwise.conj(along)) * 0.5)  # vectors keep their length
    middle = quotient(hollow(p), pointwise.conj(gaps(w))) + diag(gw)
    return solve_of(vh, middle @ vh)[0]


@op(
    name="linalg.eig",
    outputs=("w", "v"),
    dx=_deig,
    holomorphic=False,
    cases=lambda r: [
        case(np.diag([1.0, 2, 4]) + 0.1 * r(3, 3)),  # real eigenvalues: the others' vectors have a phase that LAPACK fixes
        case(np.stack([np.diag([3.0, 1]), np.diag([-1.0, 1])]) + 0.1 * r(2, 2, 2)),
        case(r(3, 3), grad=False),
        case(r(2, 2, 2), grad=False),
        case(r(0, 0), grad=False),
        case(r(1, 1)),
    ],
    reference=None,  # as eigh
)
def eig_of(x):
    """x V = V diag(w), complex; columns of V have length 1. Boeddeker et al. (2017), arXiv:1701.00392, section 4.8."""
    xp, to = namespace(x), _complex(full(x).dtype)
    if not np.isfinite(x).all():
        raise stacks.LinAlgError("linalg.eig: wanted finite matrices, saw infinities or NaNs")
    w, v = converged("linalg.eig", lambda: xp.linalg.eig(full(x)))
    return w.astype(to, copy=False), v.astype(to, copy=False)


@op(name="linalg.eigvals", cases=lambda r: [case(r(3, 3)), case(r(2, 2, 2)), case(r(0, 0))], reference="linalg.eigvals")
def general_values(x):
    """The eigenvalues of any matrix alone."""
    xp = namespace(x)
    good = np.isfinite(x).all((-2, -1), keepdims=True)
    w = converged("linalg.eigvals", lambda: xp.linalg.eigvals(xp.where(good, full(x), 0)))
    return xp.where(good[..., 0], w, np.nan).astype(_complex(full(x).dtype), copy=False)


def _complex(dtype: np.dtype) -> np.dtype:
    return np.result_type(dtype, np.complex64)


@stacks.also(input="A")
def eig(A: Any) -> Eigen:
    """(eigenvalues, eigenvectors) of square matrices A (..., n, n), A V = V diag(w): complex, in no order, V's columns of
    length 1. On the card CuPy's geev, which CUDA has from 12.6 on.

    Its gradient is that of functions that do not depend on the phase of the vectors. LinAlgError for infinities and NaNs.
    """
    stacks.square("linalg.eig", A)
    return Eigen(*eig_of(A))


@stacks.also(input="A")
def eigvals(A: Any) -> Any:
    """The eigenvalues of square matrices A (..., n, n), complex and in no order."""
    stacks.square("linalg.eigvals", A)
    return eig_of(A)[0] if getattr(A, "requires_grad", False) else general_values(A)
