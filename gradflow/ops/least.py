"""Least squares: pseudo-inverses and solutions of systems that have none or many, with gradients of every order."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..backend import int64, namespace, on_card
from ..cases import case
from ..op import op, unwrap
from ..tape import Traced
from . import decomposition, pointwise, reduce, shape, stacks
from .results import returned
from .solve import regular
from .stacks import full, mH, rounded

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
        case(r(3, 2) + 1j * r(3, 2)),
        case(regular(r, 3, 3)),
        case(np.outer(r(3), r(4)), order=0),  # of rank 1, which a difference quotient does not keep
        case(regular(r, 2, 2) @ np.diag([1, 1e-3]), 0.1, grad=False),
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


@returned("linalg_lstsq")
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
