"""Elimination by columns: LU, LDL and triangular systems on bare arrays, where NumPy has no function for them.

Whole columns of whole stacks at once, with the pivots and signs of LAPACK's getrf, sytrf and hetrf.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backend import int32, namespace

BLOCK = 32  # columns eliminated one by one before the rest is updated by one matrix product


def size(x: Any) -> Any:
    """How large an element is to a search for pivots: LAPACK's |re| + |im|."""
    return abs(x) if x.dtype.kind != "c" else abs(x.real) + abs(x.imag)


def flat(x: Any) -> Any:
    """A copy of x as one stack (b, n, m) in C order."""
    return namespace(x).array(x.reshape(math.prod(x.shape[:-2]), *x.shape[-2:]), order="C")


# --- LU -----------------------------------------------------------------------------------------------------


def lu(x: Any, pivot: bool = True) -> tuple[Any, Any, Any]:
    """(LU, pivots, info) of a stack, by Gaussian elimination with partial pivoting (Golub & Van Loan, algorithm 3.4.1).

    L is unit lower triangular, U upper; row i was swapped with row pivots[i] - 1; info is the 1-based place of the first
    zero on U's diagonal, or 0.
    """
    xp, lead, (m, n) = namespace(x), x.shape[:-2], x.shape[-2:]
    a, k = flat(x), min(m, n)
    stack = xp.arange(a.shape[0])
    pivots = xp.broadcast_to(xp.arange(1, k + 1, dtype=int32), (a.shape[0], k)).copy()
    with np.errstate(all="ignore"):
        for start in range(0, k, BLOCK):
            stop = min(start + BLOCK, k)
            panel = xp.array(a[:, start:, start:stop].swapaxes(1, 2), order="C")  # its columns lie together
            moved = xp.broadcast_to(xp.arange(m - start), (a.shape[0], m - start)).copy()
            for j in range(stop - start):
                column = panel[:, j]
                if pivot:
                    p = size(column[:, j:]).argmax(-1) + j
                    pivots[:, start + j] = start + p + 1
                    for part in (panel, moved):
                        kept = part[stack, ..., p]
                        part[stack, ..., p] = part[..., j]
                        part[..., j] = kept
                top = column[:, j, None]
                column[:, j + 1 :] /= xp.where(top == 0, 1, top)
                panel[:, j + 1 :, j + 1 :] -= panel[:, j + 1 :, j, None] * column[:, None, j + 1 :]
            a[:, start:] = a[stack[:, None], start + moved]
            a[:, start:, start:stop] = panel.swapaxes(1, 2)
            if stop < n:
                rest = a[:, start:stop, stop:]
                for j in range(stop - start):
                    rest[:, j + 1 :] -= panel[:, j, j + 1 : stop - start, None] * rest[:, None, j]
                a[:, stop:, stop:] -= a[:, stop:, start:stop] @ rest
    zero = a[:, xp.arange(k), xp.arange(k)] == 0
    info = xp.where(zero.any(-1), zero.argmax(-1) + 1, 0) if k else xp.zeros(a.shape[0])
    return a.reshape(x.shape), pivots.reshape(*lead, k), info.astype(int32).reshape(lead)


def order(pivots: Any, n: int) -> Any:
    """The permutation of n rows that swapping row i with row pivots[i] - 1, one after the other, comes to."""
    xp, k = namespace(pivots), pivots.shape[-1]
    swaps = pivots.reshape(math.prod(pivots.shape[:-1]), k).astype(np.int64) - 1
    stack = xp.arange(swaps.shape[0])
    found = xp.broadcast_to(xp.arange(n), (swaps.shape[0], n)).copy()
    for i in range(k):
        p = swaps[:, i]
        other = found[stack, p]
        found[stack, p] = found[:, i]
        found[:, i] = other
    return found.reshape(*pivots.shape[:-1], n)


# --- triangular systems ---------------------------------------------------------------------------------------


def back(a: Any, b: Any) -> Any:
    """X with A X = B for upper triangular A, by halves: LAPACK's solve finds nothing to eliminate in such a matrix."""
    n, xp = a.shape[-1], namespace(a)
    if n <= BLOCK:
        try:
            return xp.linalg.solve(a, b)
        except np.linalg.LinAlgError:
            return substituted(a, b)
    h = n // 2
    low = back(a[..., h:, h:], b[..., h:, :])
    return xp.concatenate([back(a[..., :h, :h], b[..., :h, :] - a[..., :h, h:] @ low), low], -2)


def substituted(a: Any, b: Any) -> Any:
    """The same one row after the other, with infinities where the diagonal is zero."""
    x = namespace(b).array(b)
    with np.errstate(all="ignore"):
        for j in range(a.shape[-1] - 1, -1, -1):
            x[..., j, :] /= a[..., j, j, None]
            x[..., :j, :] -= a[..., :j, j, None] * x[..., None, j, :]
    return x


# --- LDL ------------------------------------------------------------------------------------------------------


def ldl(x: Any, hermitian: bool) -> tuple[Any, Any, Any]:
    """(LD, pivots, info) of a stack by the pivoting of Bunch & Kaufman (1977), from the lower triangles.

    pivots as in LAPACK: positive for a 1 by 1 block of D, whose row was swapped with that one, twice the same negative
    number for a 2 by 2 block. On the host, one matrix after the other.
    """
    a = np.tril(flat(x))
    pivots = np.zeros(a.shape[:2], int32)
    info = np.zeros(a.shape[0], int32)
    with np.errstate(all="ignore"):
        for i in range(a.shape[0]):
            info[i] = _ldl(a[i], pivots[i], hermitian and a.dtype.kind == "c")
    return a.reshape(x.shape), pivots.reshape(x.shape[:-1]), info.reshape(x.shape[:-2])


def _ldl(a: np.ndarray, pivots: np.ndarray, hermitian: bool) -> int:
    """Eliminate one matrix in place; the 1-based place of the first zero in D, or 0."""
    n, k, info, alpha = len(a), 0, 0, (1 + math.sqrt(17)) / 8

    def conj(v: Any) -> Any:
        return v.conj() if hermitian else v

    while k < n:
        p, step = _pivot(a, k, alpha, hermitian)
        if p < 0:
            info, p = info or k + 1, k
            if hermitian:
                a[k, k] = a[k, k].real
            pivots[k] = p + 1
            k += 1
            continue
        q = k + step - 1
        if p != q:  # swap rows and columns p and q of what is left
            below = a[p + 1 :, q].copy()
            a[p + 1 :, q] = a[p + 1 :, p]
            a[p + 1 :, p] = below
            between = a[q + 1 : p, q].copy()
            a[q + 1 : p, q] = conj(a[p, q + 1 : p])
            a[p, q + 1 : p] = conj(between)
            if hermitian:
                a[p, q] = a[p, q].conj()
            a[q, q], a[p, p] = a[p, p], a[q, q]
            if step == 2:
                a[q, k], a[p, k] = a[p, k], a[q, k]
        if hermitian:
            for j in {k, q, p}:
                a[j, j] = a[j, j].real
        rest = slice(k + step, n)
        block = a[k : k + step, k : k + step].copy()
        if step == 2:
            block[0, 1] = conj(block[1, 0])
        w = a[rest, k : k + step]
        new = w @ np.linalg.inv(block) if step == 2 else w / block[0, 0]
        a[rest, rest] -= np.tril(new @ conj(w).T)
        a[rest, k : k + step] = new
        pivots[k : k + step] = p + 1 if step == 1 else -(p + 1)
        k += step
    return info


def _pivot(a: np.ndarray, k: int, alpha: float, hermitian: bool) -> tuple[int, int]:
    """(row, size of the block) of the next pivot, row -1 where the column is zero."""
    n = len(a)
    here = abs(a[k, k].real) if hermitian else size(a[k, k])
    largest = 0.0
    if k < n - 1:
        column = size(a[k + 1 :, k])
        r = k + 1 + int(column.argmax())
        largest = column.max()
    if max(here, largest) == 0 or np.isnan(here):
        return -1, 1
    if here >= alpha * largest:
        return k, 1
    across = max(size(a[r, k:r]).max(), size(a[r + 1 :, r]).max(initial=0.0))
    if here >= alpha * largest * (largest / across):
        return k, 1
    there = abs(a[r, r].real) if hermitian else size(a[r, r])
    return (r, 1) if there >= alpha * across else (r, 2)
