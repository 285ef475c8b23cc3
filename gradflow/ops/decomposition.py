"""Decompositions of matrices: Cholesky's, QR, and singular values, with gradients of every order.

The ops give bare tuples; the public functions name their parts and check their input. A rule that divides by a difference
of singular values has no value where two are equal, except for what does not depend on the vectors.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..backend import int32, namespace, strict
from ..cases import Sampler, case
from ..op import op
from . import arrange, shape, stacks, triangular
from .results import returned
from .stacks import columns, diag, diagonal, full, gaps, hollow, mH, quotient, rounded, rows


def _spd(r: Sampler, *size: int) -> np.ndarray:
    """A symmetric positive definite stack."""
    x = r(*size)
    return x @ np.swapaxes(x, -1, -2) + 2 * np.eye(size[-1])


def _apart(r: Sampler, *size: int) -> np.ndarray:
    """A stack whose singular values are apart."""
    u, _, vh = np.linalg.svd(r(*size), full_matrices=False)
    return (u * np.arange(1, u.shape[-1] + 1)) @ vh


# --- Cholesky -----------------------------------------------------------------------------------------------


def _dcholesky(g, y, upper):
    # Murray (2016), eq. 10: L^-H (P + P^H) / 2 L^-1, where P is the lower triangle of L^H gL with half its diagonal.
    lh, p = (y, y @ mH(g[0])) if upper else (mH(y), mH(y) @ g[0])
    half = triangular.back_solve(lh, (arrange.tril(p) + mH(arrange.tril(p, -1))) * 0.5, True)
    return mH(triangular.back_solve(lh, mH(half), True))


@op(
    name="linalg.cholesky",
    outputs=("y", "info"),
    dx=_dcholesky,
    holomorphic=False,
    cases=lambda r: [
        case(_spd(r, 3, 3), order=0),
        case(_spd(r, 2, 4, 4), order=0),
        case(_spd(r, 3, 3), True, order=0),
        case(r(0, 0)),
        case(r(1, 1) ** 2 + 1),
    ],
    reference=lambda torch, x, upper=False: torch.linalg.cholesky_ex(x, upper=upper),
)
def cholesky_of(x, upper=False):
    """The lower triangular L with x = L L^H, read from x's lower triangle, and the order of the first leading minor that
    is not positive definite, or 0; upper reads x's upper triangle and gives L^H.

    The gradient is that of a Hermitian x: Murray (2016), arXiv:1602.07527.
    """
    xp, a = namespace(x), full(x)
    if upper:
        a = a.conj().swapaxes(-1, -2)
    info = xp.zeros(x.shape[:-2], int32)
    try:
        with strict(a):
            y = xp.linalg.cholesky(a)
        if not y.size or bool(xp.isfinite(y[..., -1, -1]).all()):  # where NaN or infinity came in, there it ends
            return rounded(y.conj().swapaxes(-1, -2) if upper else y, x.dtype), info
    except np.linalg.LinAlgError:
        pass
    flat = a.reshape(-1, *a.shape[-2:])
    found = [_definite(xp, m) for m in flat]
    y = xp.stack([m for m, _ in found]).reshape(a.shape)
    info = xp.asarray([i for _, i in found], dtype=int32).reshape(x.shape[:-2])
    return rounded(y.conj().swapaxes(-1, -2) if upper else y, x.dtype), info


def _definite(xp: Any, a: Any) -> tuple[Any, int]:
    """(L, 0) of one matrix, or its L as far as it goes and the order of the leading minor at which it stops."""
    good, bad = 0, a.shape[-1] + 1
    y = xp.zeros_like(a)
    while bad - good > 1:  # of a leading minor that is not positive definite, no larger one is
        n = (good + bad) // 2 if bad <= a.shape[-1] or good else a.shape[-1]
        try:
            with strict(a):
                part = xp.linalg.cholesky(a[:n, :n])
            if not bool(xp.isfinite(part[-1, -1])):
                raise np.linalg.LinAlgError
            good = n
            y[:n, :n] = part
        except np.linalg.LinAlgError:
            bad = n
    return y, 0 if good == a.shape[-1] else bad


@returned("linalg_cholesky_ex")
class CholeskyEx(NamedTuple):
    """A Cholesky factor, and 0 or the order of the leading minor that is not positive definite."""

    L: Any
    info: Any


_INDEFINITE = "wanted a positive definite matrix, saw one whose leading minor of order {i} is not"


def _cholesky(name: str, A: Any, upper: bool, check: bool) -> CholeskyEx:
    stacks.square(name, A)
    y, info = cholesky_of(A, bool(upper))
    if check:
        stacks.succeeded(info, name, _INDEFINITE)
    return CholeskyEx(y, info)


@stacks.also(input="A")
def cholesky(A: Any, *, upper: bool = False) -> Any:
    """The lower triangular L with A = L L^H of Hermitian positive definite matrices (..., n, n); upper gives L^H.
    LinAlgError where A is not positive definite, RuntimeError where it is not square.
    """
    return _cholesky("linalg.cholesky", A, upper, True).L


@stacks.also(input="A")
def cholesky_ex(A: Any, *, upper: bool = False, check_errors: bool = False) -> CholeskyEx:
    """(L, info) as cholesky, which says in `info` where A is not positive definite instead of raising."""
    return _cholesky("linalg.cholesky_ex", A, upper, check_errors)


# --- QR -----------------------------------------------------------------------------------------------------


def _dqr(g, q, r, mode):
    if mode == "r":
        raise RuntimeError(
            "linalg.qr: wanted mode 'reduced' or 'complete', saw 'r', of which Q, and so the gradient, is not known"
        )
    gq, gr = g
    m, k, n = q.shape[-2], q.shape[-1], r.shape[-1]
    if mode == "complete" and m > n:
        raise RuntimeError("linalg.qr: wanted mode 'reduced' to differentiate a tall matrix, saw 'complete'")
    if n > k:  # the further columns are q r2
        r2, gr2 = r[..., k:], gr[..., k:]
        gq = gq + q @ (r2 @ mH(gr2))
        r, gr = r[..., :k], gr[..., :k]
    p = arrange.tril(r @ mH(gr) - mH(gq) @ q)  # its lower triangle, mirrored: Walter & Lehmann (2012), section 4.2
    h = (p + arrange.tril(p, -1)) * 0.5
    first = mH(triangular.back_solve(r, mH(gq + q @ (h + mH(h))), True))
    return first if n == k else shape.cat([first, q @ gr2], -1)


@op(
    name="linalg.qr",
    outputs=("q", "r"),
    dx=_dqr,
    holomorphic=False,
    cases=lambda r: [
        case(r(4, 3)),
        case(r(3, 3)),
        case(r(2, 2, 4)),
        case(r(3, 2) + 1j * r(3, 2)),
        case(r(3, 4), "complete"),
        case(r(4, 2), "complete", grad=False),
        case(r(4, 2), "r", grad=False),
        case(r(3, 0)),
        case(r(0, 3)),
    ],
    reference="linalg.qr",
)
def qr_of(x, mode="reduced"):
    """x = Q R with orthonormal columns in Q and R upper triangular. Walter & Lehmann (2012), arXiv:1001.1654."""
    a, xp = full(x), namespace(x)
    if mode == "r":
        r = xp.linalg.qr(a, "r") if a.size else xp.zeros((*a.shape[:-2], min(a.shape[-2:]), a.shape[-1]), a.dtype)
        return xp.empty(0, x.dtype), rounded(r, x.dtype)
    q, r = xp.linalg.qr(a, mode)
    return rounded(q, x.dtype), rounded(r, x.dtype)


@returned("linalg_qr")
class QR(NamedTuple):
    """Orthonormal columns, and an upper triangle."""

    Q: Any
    R: Any


@stacks.also(input="A")
def qr(A: Any, mode: str = "reduced") -> QR:
    """(Q, R) with A = Q R, Q's columns orthonormal, R upper triangular; A (..., m, n) and k = min(m, n).

    mode "reduced" gives Q (..., m, k) and R (..., k, n), "complete" (..., m, m) and (..., m, n), "r" an empty Q.
    RuntimeError for another mode, and when mode "r", or "complete" of tall matrices, is differentiated.
    """
    stacks.matrices("linalg.qr", A)
    if mode not in ("reduced", "complete", "r"):
        raise RuntimeError(f"linalg.qr: wanted mode 'reduced', 'complete' or 'r', saw {mode!r}")
    return QR(*qr_of(A, mode))


# --- singular values ----------------------------------------------------------------------------------------


def _dsvd(g, u, s, vh):
    gu, gs, gvh = g
    k = s.shape[-1]
    u, gu, vh, gvh = u[..., :k], gu[..., :k], vh[..., :k, :], gvh[..., :k, :]  # of full matrices, the rest is arbitrary
    uh, v = mH(u), mH(vh)
    p, q = uh @ gu, vh @ mH(gvh)
    p, q = p - mH(p), q - mH(q)
    e = gaps(s) * (columns(s) + rows(s))
    middle = quotient(hollow(p), e) * columns(s) + rows(s) * quotient(hollow(q), e) + diag(gs)
    if p.dtype.kind == "c":  # the phases of u and v, which come in pairs
        middle = middle + diag(quotient(diagonal(p) - diagonal(q), s * 4))
    dx = u @ middle @ vh
    if u.shape[-2] > k:
        a = quotient(gu, columns(s) + gu * 0)
        dx = dx + (a - u @ (uh @ a)) @ vh
    if vh.shape[-1] > k:
        b = quotient(gvh, rows(s) + gvh * 0)
        dx = dx + u @ (b - (b @ v) @ vh)
    return dx


@op(
    name="linalg.svd",
    outputs=("u", "s", "vh"),
    dx=_dsvd,
    holomorphic=False,
    cases=lambda r: [
        case(_apart(r, 3, 3), False),
        case(_apart(r, 4, 2), False),
        case(_apart(r, 2, 2, 3), False),
        case(_apart(r, 3, 2), True, grad=False),
        case(r(0, 3), False),
        case(r(2, 0), True, grad=False),
    ],
    reference=None,  # the signs of vectors are a library's own; tests/test_decomposition.py
)
def svd_of(x, full_matrices=True):
    """x = U diag(s) V^H. Townsend (2016), "Differentiating the singular value decomposition"; for complex x, Wan & Zhang
    (2019), arXiv:1909.02659.
    """
    xp = namespace(x)
    u, s, vh = converged("linalg.svd", lambda: xp.linalg.svd(full(x), full_matrices))
    return rounded(u, x.dtype), rounded(s, x.dtype), rounded(vh, x.dtype)


def converged(name: str, compute: Any) -> Any:
    """What compute() gives; LinAlgError where it does not converge."""
    try:
        return compute()
    except np.linalg.LinAlgError as e:
        raise stacks.LinAlgError(f"{name}: wanted a matrix for which the algorithm converges: {e}") from None


def _dsvdvals(g, x):
    u, _, vh = svd_of(x, False)
    return (u * columns(g)) @ vh


@op(
    name="linalg.svdvals",
    dx=_dsvdvals,
    holomorphic=False,
    cases=lambda r: [
        case(_apart(r, 3, 3)),
        case(_apart(r, 2, 4, 3)),
        case(r(2, 3) + 1j * r(2, 3)),
        case(r(0, 3)),
        case(_apart(r, 1, 3)),
    ],
    reference="linalg.svdvals",
)
def values(x):
    """The singular values alone, from the largest on."""
    xp = namespace(x)
    return rounded(converged("linalg.svdvals", lambda: xp.linalg.svd(full(x), compute_uv=False)), x.dtype)


@returned("linalg_svd")
class SVD(NamedTuple):
    """Left singular vectors as columns, singular values, right singular vectors as rows."""

    U: Any
    S: Any
    Vh: Any


_DRIVERS = ("gesvd", "gesvdj", "gesvda")


def _driver(name: str, A: Any, driver: str | None) -> None:
    stacks.matrices(name, A)
    if driver is None:
        return
    if not _cuda(A):
        raise RuntimeError(f"{name}: wanted driver=None on the CPU, saw {driver!r}")
    if driver not in _DRIVERS:
        raise RuntimeError(f"{name}: wanted a driver of {_DRIVERS}, saw {driver!r}")


def _cuda(A: Any) -> bool:
    return namespace(stacks.unwrap(A)) is not np


@stacks.also(input="A")
def svd(A: Any, full_matrices: bool = True, *, driver: str | None = None) -> SVD:
    """(U, S, Vh) with A = U diag(S) Vh, S from the largest on; A (..., m, n), U (..., m, m), Vh (..., n, n), or of k =
    min(m, n) columns and rows with full_matrices=False.

    Its gradient is that of functions that do not depend on the sign or phase of the vectors; of full matrices the further
    vectors have none. RuntimeError for fewer than 2 dimensions; a driver is for the card, where CuPy chooses it.
    """
    _driver("linalg.svd", A, driver)
    return SVD(*svd_of(A, bool(full_matrices)))


@stacks.also(input="A")
def svdvals(A: Any, *, driver: str | None = None) -> Any:
    """The singular values of A (..., m, n), from the largest on. Their gradient is finite where two are equal."""
    _driver("linalg.svdvals", A, driver)
    return values(A)
