"""Matrix products on the card: by cuBLAS through CuPy, by cuBLASLt where nvmath is installed, by kernels/gemm.cu.

CuPy refuses every call of cuBLAS while a stream captures a graph, copies transposed stacks of matrices, and fuses nothing
onto a product. So: plain products are cuBLAS's; under capture, and with a bias or an activation, cuBLASLt's if it is there,
else the own kernels', which also take operands that lie in a way that BLAS has no words for.
"""

from __future__ import annotations

import math
from functools import cache, lru_cache
from typing import Any

import numpy as np

from .. import backend
from ..backend import Array, need_card
from ..ops.conv import ACTIVATIONS as FUNCTIONS
from . import cublaslt, launch, precision, tune
from .launch import blocks, ctype

# What can follow a product, by its number in kernels/activation.cuh.
ACTIVATIONS = {None: 0} | {word: i for i, word in enumerate(FUNCTIONS, 1)}

TYPES = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 14}  # floating dtypes and cuBLAS's numbers of them
TF32, FLOAT, DOUBLE = 77, 68, 70  # what cuBLAS computes in

DEPTH = 64  # bytes of k in a slice of gemm_mma
STAGES = 4
MOST_SPLITS = 32
FUSED_UP_TO = 2**30  # multiplications of a product below which one launch less is worth more than cuBLAS's speed


@cache
def type_of(dtype: np.dtype) -> int | None:
    """cuBLAS's number of a dtype, None for one that is not multiplied here; a dtype's name is slow to come by."""
    return TYPES.get(dtype.name)


class_of = cache(ctype)


class Problem:
    """A product as the engines see it: sizes, strides in elements, and the stack of matrices as few dimensions.

    a (m, k) at strides a_m, a_k; b (k, n) at b_k, b_n; y (m, n) without gaps. `stack`: (count, stride of a, stride of b) of
    each dimension of the stack that cannot be merged with its neighbour, the outer ones first.
    """

    __slots__ = ("a", "a_k", "a_m", "b", "b_k", "b_n", "count", "k", "m", "n", "shape", "stack")

    def __init__(self, a: Array, b: Array) -> None:
        drop_m, drop_n = a.ndim == 1, b.ndim == 1
        a = a[None] if drop_m else a
        b = b[:, None] if drop_n else b
        self.a, self.b, item = a, b, a.itemsize
        (self.m, self.k), self.n = a.shape[-2:], b.shape[-1]
        if b.shape[-2] != self.k:
            raise ValueError(f"product: wanted inner sizes to agree, saw {a.shape} and {b.shape}")
        lead: tuple[int, ...] = ()
        if a.ndim > 2 or b.ndim > 2:
            try:
                lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
            except ValueError:
                raise ValueError(f"product: wanted leading sizes that broadcast, saw {a.shape} and {b.shape}") from None
        self.shape = lead + (self.m,) * (not drop_m) + (self.n,) * (not drop_n)
        self.count = math.prod(lead)
        self.a_m, self.a_k = a.strides[-2] // item, a.strides[-1] // item
        self.b_k, self.b_n = b.strides[-2] // item, b.strides[-1] // item
        self.stack: list[tuple[int, int, int]] = []
        if not lead:
            return
        self.stack = merged(lead, _leading(a, len(lead)), _leading(b, len(lead)))
        if len(self.stack) == 1 and self.stack[0][1:] == (self.m * self.a_m, 0):  # one matrix for all: a tall product
            self.m, self.stack, self.count = self.m * self.count, [], 1

    def aligned(self, x: Array, which: int, apart: int, run: int) -> bool:
        """Whether an operand's lines can be copied 16 bytes at a time: `which` is its place in `stack`."""
        per = 16 // x.itemsize
        return x.data.ptr % 16 == 0 and apart % per == run % per == 0 and all(s[which] % per == 0 for s in self.stack)


def _leading(x: Array, n: int) -> list[int]:
    """The strides of x's leading dimensions in elements, as many as n; 0 where it is repeated."""
    own = [s // x.itemsize if size > 1 else 0 for s, size in zip(x.strides[:-2], x.shape[:-2], strict=True)]
    return [0] * (n - len(own)) + own


def merged(lead: tuple[int, ...], a: list[int], b: list[int]) -> list[tuple[int, int, int]]:
    """(count, stride of a, stride of b) of leading dimensions, those that can be stepped through as one merged."""
    found: list[tuple[int, int, int]] = []
    for size, s, t in zip(lead, a, b, strict=True):
        if size == 1:
            continue
        if found and found[-1][1:] == (s * size, t * size):
            found[-1] = found[-1][0] * size, s, t
        else:
            found.append((size, s, t))
    return found


# --- the one door --------------------------------------------------------------------------------------


def product(a: Array, b: Array, out: Array = None, bias: Array = None, activation: str | None = None) -> Array:
    """activation(a b + bias) for arrays on the card: a (..., m, k), b (..., k, n), bias (n), y (..., m, n).

    A vector a is a row and a vector b a column, and that dimension is dropped. Leading dimensions broadcast. Sums are of
    float32 for half types, of TF32 for float32 if set_float32_matmul_precision says so. `out`, of y's shape and without gaps,
    takes the result. activation: one of ACTIVATIONS. ValueError for sizes that do not agree, TypeError for dtypes that differ.
    """
    cp = need_card("product")
    if activation not in ACTIVATIONS:
        raise ValueError(f"product: wanted an activation of {', '.join(filter(None, ACTIVATIONS))}, saw {activation!r}")
    if a.dtype != b.dtype or (bias is not None and bias.dtype != a.dtype):
        raise TypeError(f"product: wanted one dtype, saw {a.dtype}, {b.dtype}{'' if bias is None else f', {bias.dtype}'}")
    plain = bias is None and activation is None
    if type_of(a.dtype) is None:
        if not plain:
            raise TypeError(f"product: wanted floating numbers, saw {a.dtype}")
        return cp.matmul(a, b, out=out)
    captured = capturing(cp)
    if plain and not captured and 0 < a.ndim < 3 > b.ndim > 0 and _dense(a) and _dense(b):
        precision.tf32()  # CuPy is told
        return a.dot(b) if out is None else a.dot(b, out)
    p = Problem(a, b)
    if out is None:
        out = cp.empty(p.shape, a.dtype)
    elif out.shape != p.shape or out.dtype != a.dtype or not out.flags.c_contiguous:
        seen = f"{out.shape} of {out.dtype} with strides {out.strides}"
        raise ValueError(f"product: wanted out without gaps, {p.shape} of {a.dtype}, saw {seen}")
    if bias is not None and bias.shape != (p.n,):
        raise ValueError(f"product: wanted a bias of shape {(p.n,)}, saw {bias.shape}")
    if out.size == 0:
        return out
    if plain and not captured and len(p.stack) < 2:
        cublas(cp, p, out)
    elif p.k == 0 or not cublaslt.product(cp, p, out, bias, activation):
        fused(cp, p, out, bias if bias is None else launch.contiguous(bias), activation, captured)
    return out


def capturing(cp: Any) -> bool:
    """Whether the current stream captures a graph; the default stream cannot."""
    stream = cp.cuda.get_current_stream()
    return stream.ptr != 0 and stream.is_capturing()


def _dense(x: Array) -> bool:
    return x.flags.c_contiguous or x.flags.f_contiguous


def fused(cp: Any, p: Problem, out: Array, bias: Array, activation: str | None, captured: bool) -> None:
    """The product with its bias and activation by an own kernel, or by cuBLAS and what follows, whichever is faster."""
    tf32 = p.a.dtype == backend.float32 and precision.tf32()
    ways: list[Any] = variants(p, tf32)
    if not captured:
        ways.insert(len(ways) if p.count * p.m * p.n * p.k <= FUSED_UP_TO else 0, "cublas")

    def run(way: Any) -> None:
        if way != "cublas":
            return own(cp, p, out, bias, activation, way)
        cublas(cp, p, out)
        if bias is not None:
            cp.add(out, bias, out=out)
        if activation is not None:
            out[...] = FUNCTIONS[activation].function(out)

    key = (
        "product", class_of(p.a.dtype), int(tf32), p.count, p.m, p.n, p.k, int(p.a_k == 1), int(p.b_n == 1),
        int(bias is not None), ACTIVATIONS[activation], int(captured),
    )  # fmt: skip
    run(tune.choose("gemm", key, ways, run))


# --- cuBLAS ----------------------------------------------------------------------------------------------

_scales = {t: np.array([1, 0], t) for t in (np.float32, np.float64)}  # alpha and beta
ALPHA = {t: v.ctypes.data for t, v in _scales.items()}
BETA = {t: v.ctypes.data + v.itemsize for t, v in _scales.items()}


def scale_of(dtype: np.dtype) -> type:
    """The type of alpha and beta."""
    return np.float64 if dtype == backend.float64 else np.float32


def compute_of(dtype: np.dtype) -> int:
    """What cuBLAS computes in."""
    if dtype == backend.float64:
        return DOUBLE
    return TF32 if dtype == backend.float32 and precision.tf32() else FLOAT


def columns(x: Array, rows: int, s_row: int, s_column: int, wide: int) -> tuple[Array, bool, int] | None:
    """A matrix of `rows` x `wide` numbers in BLAS's words, (array, transposed, leading dimension), or None if it has none.

    BLAS's matrices lie column by column: transposed is one whose rows have no gaps.
    """
    if (s_row == 1 or rows == 1) and (s_column >= rows or wide == 1):
        return x, False, max(s_column, rows, 1)
    if (s_column == 1 or wide == 1) and (s_row >= wide or rows == 1):
        return x, True, max(s_row, wide, 1)
    return None


def blas(p: Problem) -> tuple[tuple, tuple, int, int, int]:
    """The operands of y^T = b^T a^T, which is y in BLAS's order, as `columns` has them; matrices and their strides.

    What BLAS cannot express, a stack of two steps or lines with gaps, is copied.
    """
    left = columns(p.b, p.n, p.b_n, p.b_k, p.k)
    right = columns(p.a, p.k, p.a_k, p.a_m, p.m)
    several = len(p.stack) > 1
    if several or left is None or right is None:
        lead = np.broadcast_shapes(p.a.shape[:-2], p.b.shape[:-2])
        whole = [several and any(s[which] for s in p.stack) for which in (1, 2)]
        a = without_gaps(p.a, lead if whole[0] else ()) if whole[0] or right is None else p.a
        b = without_gaps(p.b, lead if whole[1] else ()) if whole[1] or left is None else p.b
        copied = Problem(a, b)
        if copied.count != p.count:  # without gaps the stack could be one tall matrix, of which the caller knows nothing
            copied.m, copied.stack, copied.count = p.m, [(p.count, p.m * copied.a_m, 0)], p.count
        return blas(copied)
    count, s, t = p.stack[0] if p.stack else (1, 0, 0)
    return left, right, count, t, s


def without_gaps(x: Array, lead: tuple[int, ...]) -> Array:
    """A copy of matrices, repeated along the leading dimensions if some are given."""
    cp = need_card("product")
    return cp.array(cp.broadcast_to(x, lead + x.shape[-2:]) if lead else x, order="C")


def cublas(cp: Any, p: Problem, out: Array) -> None:
    """The product by cuBLAS, through CuPy's bindings: `matmul` itself would copy transposed stacks."""
    if p.k == 0:
        out.fill(0)
        return
    lib, dtype = cp.cuda.cublas, out.dtype
    (b, turn_b, ldb), (a, turn_a, lda), count, t, s = blas(p)
    scale, kind, compute = scale_of(dtype), type_of(dtype), compute_of(dtype)
    handle = cp.cuda.device.get_cublas_handle()
    if count == 1:
        lib.gemmEx(handle, int(turn_b), int(turn_a), p.n, p.m, p.k, ALPHA[scale], b.data.ptr, kind, ldb,
                   a.data.ptr, kind, lda, BETA[scale], out.data.ptr, kind, p.n, compute, -1)  # fmt: skip
    else:
        lib.gemmStridedBatchedEx(handle, int(turn_b), int(turn_a), p.n, p.m, p.k, ALPHA[scale], b.data.ptr, kind, ldb, t,
                                 a.data.ptr, kind, lda, s, BETA[scale], out.data.ptr, kind, p.n, p.m * p.n, count,
                                 compute, -1)  # fmt: skip


# --- own kernels -----------------------------------------------------------------------------------------


def variants(p: Problem, tf32: bool) -> list[tuple[int, int]]:
    """(tile, splits of k) for an own kernel, the likely best first: large tiles where they fill the card, else small ones,
    and k split where even those do not.
    """
    return list(_variants(p.a.dtype, tensor_cores(p.a.dtype, tf32), p.count, p.m, p.n, p.k, launch.multiprocessors()))


@lru_cache(4096)
def _variants(dtype: np.dtype, tensor: bool, count: int, m: int, n: int, k: int, cores: int) -> tuple[tuple[int, int], ...]:
    slices = blocks(k, DEPTH // dtype.itemsize if tensor else 8)
    found = []
    for tile in tiles(dtype, tensor):
        work = count * blocks(m, tile) * blocks(n, tile)
        most = min(2 * cores // work, slices // 8, MOST_SPLITS) if work < cores else 1
        found.append((work >= cores and min(m, n) > 64, tile, max(most, 1)))
    found.sort(key=lambda v: (not v[0], -v[1] if v[0] else v[1]))
    best = [(tile, splits) for _, tile, splits in found]
    return (*best, *((tile, 1) for tile, splits in best if splits > 1))


def tensor_cores(dtype: np.dtype, tf32: bool) -> bool:
    """Whether gemm_mma multiplies numbers of this type on the current card."""
    return (dtype.itemsize == 2 or tf32) and launch.capability() >= (8, 0)


def tiles(dtype: np.dtype, tensor: bool) -> tuple[int, ...]:
    """Rows and columns of the tiles that there are kernels for."""
    return (128, 64) if tensor or dtype == backend.float32 else (64,)


def shared_bytes(itemsize: int, tile: int, a_runs_k: bool, b_runs_k: bool) -> int:
    """The shared memory of gemm_mma: STAGES slices of both operands, as tile_slice in kernels/mma_tile.cuh lays them out."""
    depth = DEPTH // itemsize
    sizes = [tile * (depth + 16 // itemsize) if runs_k else depth * (tile + 8) for runs_k in (a_runs_k, b_runs_k)]
    return STAGES * sum(sizes) * itemsize


def lines(size: int, s: int, k: int, s_k: int) -> tuple[bool, int, int] | None:
    """How a matrix of `size` rows (of a; columns of b) and k lies: (whether k is along its lines, s, s_k), or None."""
    if s_k == 1 or k == 1:
        return True, s, 1
    return (False, 1, s_k) if s == 1 or size == 1 else None


def own(cp: Any, p: Problem, out: Array, bias: Array, activation: str | None, way: tuple[int, int]) -> None:
    """The product by kernels/gemm.cu: `way` is (tile, splits of k)."""
    tile, splits = way
    dtype = out.dtype
    name = class_of(dtype)
    if len(p.stack) > 2:
        lead = np.broadcast_shapes(p.a.shape[:-2], p.b.shape[:-2])
        p = Problem(without_gaps(p.a, lead), without_gaps(p.b, lead))
    tensor = tensor_cores(dtype, dtype == backend.float32 and precision.tf32())
    a, b = lines(p.m, p.a_m, p.k, p.a_k), lines(p.n, p.b_n, p.k, p.b_k)
    if tensor and (a is None or b is None):  # lines with gaps: the ordinary units' kernel would take them
        p = Problem(without_gaps(p.a, ()) if a is None else p.a, without_gaps(p.b, ()) if b is None else p.b)
        a, b = lines(p.m, p.a_m, p.k, p.a_k), lines(p.n, p.b_n, p.k, p.b_k)
    (a_k, a_m, s_ak), (b_k, b_n, s_bk) = a or (True, p.a_m, p.a_k), b or (True, p.b_n, p.b_k)
    per = 16 // (8 if dtype == backend.float64 else 4)
    flags = 4 * (p.n % per == 0 and out.data.ptr % (per * dtype.itemsize) == 0)
    if tensor:
        flags += p.aligned(p.a, 1, a_m if a_k else s_ak, p.k if a_k else p.m)
        flags += 2 * p.aligned(p.b, 2, b_n if b_k else s_bk, p.k if b_k else p.n)
        kernel = f"gemm_mma<{name}, {tile}, {str(a_k).lower()}, {str(b_k).lower()}>"
        threads, shared = tile * 2, shared_bytes(dtype.itemsize, tile, a_k, b_k)
    else:
        flags += a_m == 1 and p.aligned(p.a, 1, s_ak, p.m)
        flags += 2 * (b_n == 1 and p.aligned(p.b, 2, s_bk, p.n))
        kernel, threads, shared = f"gemm_fma<{name}, {tile}>", 256, 0
    part = cp.empty((p.count, splits, p.m, p.n), np.float64 if per == 2 else np.float32) if splits > 1 else None
    outer, inner = [(1, 0, 0), (1, 0, 0), *p.stack][-2:]
    grid = blocks(p.m, tile) * blocks(p.n, tile) * splits * p.count
    code = ACTIVATIONS[activation]
    launch.run("gemm", kernel, grid, threads, (
        p.a, p.b, bias, out, part, p.m, p.n, p.k, a_m, s_ak, s_bk, b_n, inner[0], outer[1], inner[1], outer[2], inner[2],
        splits, code, int(flags),
    ), shared)  # fmt: skip
    if part is not None:
        n = out.size
        launch.run("gemm", f"gemm_finish<{name}>", min(blocks(n, 256), 65535), 256,
                   (part, bias, out, n, p.m * p.n, p.n, splits, code))  # fmt: skip


def instantiations() -> list[str]:
    """Every kernel that the launchers can ask for."""
    words = ("true", "false")
    mma = [f"gemm_mma<{t}, {tile}, {a}, {b}>" for t in ("__half", "__nv_bfloat16", "float") for tile in (128, 64)
           for a in words for b in words]  # fmt: skip
    fma = ["gemm_fma<float, 128>"] + [f"gemm_fma<{t}, 64>" for t in ("float", "double", "__half", "__nv_bfloat16")]
    return mma + fma + [f"gemm_finish<{t}>" for t in ("float", "double", "__half", "__nv_bfloat16")]


# --- ops -----------------------------------------------------------------------------------------------


def _taken(*arrays: Array) -> bool:
    """Whether all arrays are of one floating dtype, so that a product of them is multiplied here."""
    dtype = arrays[0].dtype
    return type_of(dtype) is not None and all(getattr(x, "dtype", None) == dtype for x in arrays)


def _fit(x: Array, w: Array) -> bool:
    return x.ndim > 0 < w.ndim and x.shape[-1] == w.shape[-2 if w.ndim > 1 else 0]


def matmul(x: Array, w: Array) -> Array:
    """x w; the definition says what is wrong with what does not fit."""
    if not _taken(x, w) or not _fit(x, w):
        return NotImplemented
    try:
        return product(x, w)
    except ValueError:
        return NotImplemented


def linear(x: Array, w: Array, b: Array = None) -> Array:
    """x w^T + b."""
    return linear_activation(x, w, b, None)


def linear_activation(x: Array, w: Array, b: Array, activation: str | None) -> Array:
    """f(x w^T + b)."""
    if not _taken(x, w, *([] if b is None else [b])) or x.ndim == 0 or w.ndim != 2 or x.shape[-1] != w.shape[1]:
        return NotImplemented
    if b is not None and b.shape != w.shape[:1]:
        return NotImplemented
    return product(x, w.T, None, b, activation)


def linear_weight(x: Array, w: Array) -> Array:
    """x^T w over all leading dimensions."""
    if not _taken(x, w) or x.ndim == 0 or x.shape[:-1] != w.shape[:-1]:
        return NotImplemented
    n = math.prod(x.shape[:-1])
    return product(x.reshape(n, x.shape[-1]).T, w.reshape(n, w.shape[-1]))


def addmatmul(c: Array, x: Array, w: Array, beta: Any = 1, alpha: Any = 1) -> Array:
    """beta c + alpha x w; a vector c that is added as it is needs no launch of its own."""
    if not _taken(x, w, c) or not _fit(x, w):
        return NotImplemented
    if beta == alpha == 1 and w.ndim > 1 and c.shape == w.shape[-1:]:
        return product(x, w, None, c)
    y = matmul(x, w)
    if y is NotImplemented or (beta != 0 and np.broadcast_shapes(c.shape, y.shape) != y.shape):
        return NotImplemented
    wide = np.float32 if y.itemsize == 2 else y.dtype  # half types are rounded once more, at the end
    if alpha != 1:
        y = y.astype(wide, copy=False) * alpha
    if beta != 0:
        y = y + (c if beta == 1 else c.astype(wide, copy=False) * beta)
    return y.astype(x.dtype, copy=False)
