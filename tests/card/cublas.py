"""cupy.cuda.cublas, the two products of it that gradflow calls by address, and the compute type that CuPy's own obey.

Matrices lie column by column. Like CuPy's bindings these refuse to be called while a stream captures.
"""

import ctypes

import numpy as np

from . import work
from .differs import BFLOAT16
from .memory import counts

HANDLE = 0xB1A5
KINDS = {0: np.float32, 1: np.float64, 2: np.float16, 14: BFLOAT16}
calls = []  # (count, m, n, k, compute type) of each call, for tests


def get_cublas_handle():
    return HANDLE


def matrix(address, kind, rows, wide, ld, count, apart):
    """An array (count, rows, wide) over device memory."""
    dtype = np.dtype(KINDS[kind])
    size = (count - 1) * apart + (wide - 1) * ld + rows
    if ld < max(rows, 1):
        raise ValueError(f"CUBLAS_STATUS_INVALID_VALUE: leading dimension {ld} of {rows} rows")
    flat = np.frombuffer((ctypes.c_char * (size * dtype.itemsize)).from_address(address), dtype)
    item = dtype.itemsize
    return np.lib.stride_tricks.as_strided(flat, (count, rows, wide), (apart * item, item, ld * item))


def gemmStridedBatchedEx(handle, transa, transb, m, n, k, alpha, A, Atype, lda, strideA, B, Btype, ldb, strideB, beta,
                         C, Ctype, ldc, strideC, batchCount, computeType, algo):  # fmt: skip
    from .cuda import capturing

    if capturing() is not None:
        raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")
    assert handle == HANDLE
    assert Atype == Btype == Ctype
    assert computeType in ((70,) if Ctype == 1 else (68, 77))
    a = matrix(A, Atype, *((k, m) if transa else (m, k)), lda, batchCount, strideA)
    b = matrix(B, Btype, *((n, k) if transb else (k, n)), ldb, batchCount, strideB)
    c = matrix(C, Ctype, m, n, ldc, batchCount, strideC)
    wide = np.float64 if Ctype == 1 else np.float32
    scale = [ctypes.c_double if Ctype == 1 else ctypes.c_float for _ in "ab"]
    one, zero = (t.from_address(p).value for t, p in zip(scale, (alpha, beta), strict=True))
    a, b = (x.swapaxes(1, 2) if turned else x for x, turned in ((a, transa), (b, transb)))
    y = one * np.matmul(a.astype(wide), b.astype(wide))
    c[...] = y if zero == 0 else y + zero * c.astype(wide)
    counts.operations += 1
    work.note("routine", "gemmEx", c.nbytes, a.nbytes + b.nbytes)
    calls.append((batchCount, m, n, k, computeType))


def gemmEx(handle, transa, transb, m, n, k, alpha, A, Atype, lda, B, Btype, ldb, beta, C, Ctype, ldc, computeType, algo):
    gemmStridedBatchedEx(handle, transa, transb, m, n, k, alpha, A, Atype, lda, 0, B, Btype, ldb, 0, beta, C, Ctype, ldc, 0,
                         1, computeType, algo)  # fmt: skip


class _core:
    """cupy._core: what float32 products are computed in."""

    types = {}

    class _routines_linalg:
        COMPUTE_TYPE_TBD, COMPUTE_TYPE_DEFAULT, COMPUTE_TYPE_TF32 = 0, 1, 7

    @classmethod
    def set_compute_type(cls, dtype, kind):
        cls.types[np.dtype(dtype)] = kind

    @classmethod
    def get_compute_type(cls, dtype):
        return cls.types.get(np.dtype(dtype), 0)
