"""Products of matrices and vectors, and the affine map of a linear layer: all of them closed under differentiation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backend import namespace
from ..cases import Sampler, case
from ..op import op
from . import pointwise, shape
from .out import written

# --- the three products -------------------------------------------------------------------------------
#
# matmul x w, linear x w^T and linear_weight x^T w are each other's gradients. BLAS takes the transposes as flags, so
# none of them copies a matrix.


def agree(name: str, *arrays: Any) -> None:
    """RuntimeError unless all arrays have one dtype, and one that can be multiplied; TypeError for numbers."""
    dtype = arrays[0].dtype
    for a in arrays[1:]:
        if isinstance(a, (int, float, complex)):
            raise TypeError(f"{name}: wanted arrays or tensors, saw {a!r}")
        if a is not None and a.dtype != dtype:
            raise RuntimeError(f"{name}: wanted one dtype, saw {dtype} and {a.dtype}")
    if dtype.kind == "b":
        raise RuntimeError(f"{name}: wanted numbers, saw bool")


def narrow(x: Any) -> bool:
    """Whether x is of a half type on the CPU, where BLAS has none: it is multiplied in float32."""
    return x.dtype.itemsize == 2 and x.dtype.kind in "fV" and type(x) is np.ndarray


def _blas(x: Any) -> Any:
    """x with rows or columns without gaps, which older NumPy needs to hand a stack of matrices to BLAS."""
    if type(x) is np.ndarray and x.itemsize not in (x.strides[-1], x.strides[-2]):
        return np.ascontiguousarray(x)
    return x


def _product(name: str, x: Any, w: Any) -> Any:
    """x @ w by the rules of matmul; of half types on the CPU the float32 result, which the caller rounds."""
    agree(name, x, w)
    if x.ndim == 0 or w.ndim == 0:
        raise RuntimeError(f"{name}: wanted at least one dimension each, saw {x.shape} and {w.shape}")
    k = x.shape[-1]
    if w.shape[-2 if w.ndim > 1 else 0] != k:
        raise RuntimeError(f"{name}: wanted inner sizes to agree, saw {x.shape} and {w.shape}")
    if narrow(x):
        x, w = x.astype(np.float32), w.astype(np.float32)
    if x.ndim <= 2 and w.ndim <= 2:
        return x.dot(w)
    if w.ndim <= 2:  # a stack of matrices times one matrix is one product of a tall matrix
        return x.reshape(math.prod(x.shape[:-1]), k).dot(w).reshape(*x.shape[:-1], *w.shape[1:])
    try:
        return namespace(x).matmul(x if x.ndim == 1 else _blas(x), _blas(w))
    except ValueError:
        raise RuntimeError(f"{name}: wanted leading sizes that broadcast, saw {x.shape} and {w.shape}") from None


def _matmul_dx(g, w, x_shape):
    if w.ndim == 2:
        return linear(g, w)  # a vector x among them
    if w.ndim == 1:
        return shape.reshape(g, (*g.shape, 1)) * w
    if len(x_shape) == 1:  # y_m = sum_k x_k w_km
        return shape.reshape(matmul(w, shape.reshape(g, (*g.shape, 1))), w.shape[:-1])
    return matmul(g, mT(w))


def _matmul_dw(g, x, w_shape):
    if len(w_shape) == 2:
        return linear_weight(x, g)
    if len(w_shape) == 1:
        return shape.reshape(linear_weight(x, shape.reshape(g, (*g.shape, 1))), w_shape)
    if x.ndim == 1:
        return shape.reshape(x, (-1, 1)) * shape.reshape(g, (*g.shape[:-1], 1, g.shape[-1]))
    return matmul(mT(x), g)


def _matmul_cases(r: Sampler) -> list[case]:
    return [
        case(r(3, 4), r(4, 5)),
        case(r(4), r(4)),
        case(r(4), r(4, 3)),
        case(r(3, 4), r(4)),
        case(r(2, 3, 4), r(4, 5)),
        case(r(2, 3, 4), r(4)),
        case(r(4), r(2, 4, 3)),
        case(r(3, 4), r(2, 4, 5)),
        case(r(2, 3, 4), r(2, 4, 5)),
        case(r(2, 1, 3, 4), r(3, 4, 2)),
        case(r.strided(3, 4), r.strided(4, 5)),
        case(r.strided(2, 3, 4), r.strided(2, 4, 2)),
        case(r(0, 4), r(4, 5)),
        case(r(3, 0), r(0, 5)),
        case(r(2, 0, 4), r(2, 4, 1)),
        case(r(1, 1), r(1, 1)),
        case(r(2, 3) + 1j * r(2, 3), r(3, 2) + 1j * r(3, 2)),
        case(r(3) + 1j * r(3), r(2, 3, 2) + 1j * r(2, 3, 2)),
        case(r.integers(-5, 5, 3, 4), r.integers(-5, 5, 4, 2), grad=False),
    ]


@op(dx=_matmul_dx, dw=_matmul_dw, twin="gemm", cases=_matmul_cases)
def matmul(x, w):
    """The matrix product y_nm = sum_k x_nk w_km, of vectors the inner product.

    A vector on the left is a row and on the right a column, and that dimension is dropped from the result; dimensions
    before the last two are stacks of matrices, which broadcast. Half types add in float32. RuntimeError for inner sizes
    that differ, stacks that do not broadcast, different dtypes, bools, or an input of no dimension.
    """
    if x.ndim == 2 and w.ndim == 2 and x.dtype is w.dtype and x.dtype.kind == "f" and x.dtype.itemsize > 2:
        try:
            return x.dot(w)
        except ValueError:
            raise RuntimeError(f"matmul: wanted inner sizes to agree, saw {x.shape} and {w.shape}") from None
    y = _product("matmul", x, w)
    return y if y.dtype == x.dtype else y.astype(x.dtype)


def _linear_dx(g, w):
    return matmul(g, w) if w.ndim == 2 else shape.reshape(g, (*g.shape, 1)) * w


def _linear_dw(g, x, w_shape):
    if len(w_shape) == 2:
        return linear_weight(g, x)
    return shape.reshape(linear_weight(shape.reshape(g, (*g.shape, 1)), x), w_shape)


def _linear_cases(r: Sampler) -> list[case]:
    return [
        case(r(3, 4), r(5, 4), r(5)),
        case(r(3, 4), r(5, 4)),
        case(r(4), r(5, 4), r(5)),
        case(r(2, 3, 4), r(5, 4), r(5)),
        case(r.strided(3, 4), r.strided(5, 4), r(5)),
        case(r(0, 4), r(5, 4), r(5)),
        case(r(3, 0), r(5, 0), r(5)),
        case(r(2, 3, 4), r(4), r()),
        case(r(3, 4), r(4)),
        case(r(1, 1), r(1, 1), r(1)),
    ]


@op(
    dx=_linear_dx, dw=_linear_dw, db=lambda g: g, twin="gemm", cases=_linear_cases, reference="nn.functional.linear"
)
def linear(x, w, b=None):
    """The affine map y = x w^T + b of the last dimension: x (..., i), w (o, i), b (o) or None, y (..., o).

    A vector w (i) and a number b give y (...). RuntimeError for sizes or dtypes that do not agree.
    """
    if x.ndim == 2 and w.ndim == 2 and x.dtype is w.dtype and x.dtype.kind == "f" and x.dtype.itemsize > 2:
        try:
            y = x.dot(w.T)
        except ValueError:
            raise RuntimeError(f"linear: wanted x (..., i) and w (o, i), saw {x.shape} and {w.shape}") from None
    else:
        if x.ndim == 0 or w.ndim not in (1, 2) or x.shape[-1] != w.shape[-1]:
            raise RuntimeError(f"linear: wanted x (..., i) and w (o, i), saw {x.shape} and {w.shape}")
        y = _product("linear", x, w.T)
    if b is not None:
        if b.dtype != x.dtype:
            raise RuntimeError(f"linear: wanted one dtype, saw {x.dtype} and {b.dtype}")
        try:
            y += b
        except ValueError:
            raise RuntimeError(f"linear: wanted b of shape {w.shape[:-1]}, saw {b.shape}") from None
    return y if y.dtype == x.dtype else y.astype(x.dtype)


@op(
    dx=lambda g, w: linear(w, g),
    dw=lambda g, x: matmul(x, g),
    twin="gemm",
    cases=lambda r: [
        case(r(3, 4), r(3, 5)),
        case(r(4), r(5)),
        case(r(2, 3, 4), r(2, 3, 5)),
        case(r.strided(2, 3, 4), r.strided(2, 3, 2)),
        case(r(0, 4), r(0, 5)),
        case(r(3, 0), r(3, 5)),
    ],
    reference=None,
)
def linear_weight(x, w):
    """y_ij = sum_n x_ni w_nj over all leading dimensions n: x (..., i), w (..., j), y (i, j), as one matrix product.

    The gradient of a product with respect to a matrix that all rows share.
    """
    if x.shape[:-1] != w.shape[:-1]:
        raise RuntimeError(f"linear_weight: wanted the same leading sizes, saw {x.shape} and {w.shape}")
    if x.ndim != 2:
        n = math.prod(x.shape[:-1])
        x, w = x.reshape(n, x.shape[-1]), w.reshape(n, w.shape[-1])
    if x.dtype is w.dtype and x.dtype.kind == "f" and x.dtype.itemsize > 2:
        return x.T.dot(w)
    y = _product("linear_weight", x.T, w)
    return y if y.dtype == x.dtype else y.astype(x.dtype)


def mT(x: Any) -> Any:
    """x with its last two dimensions swapped, a view."""
    n = x.ndim
    if n < 2:
        raise RuntimeError(f"mT: wanted at least two dimensions, saw {tuple(x.shape)}")
    return shape.permute(x, (*range(n - 2), n - 1, n - 2))


# --- products of given dimensions ---------------------------------------------------------------------


def checked(name: str, x: Any, w: Any, nx: int, nw: int) -> None:
    """RuntimeError unless x and w have nx and nw dimensions and can be multiplied."""
    if x.ndim != nx or w.ndim != nw:
        raise RuntimeError(f"{name}: wanted {nx}-d and {nw}-d tensors, saw {tuple(x.shape)} and {tuple(w.shape)}")
    stacked = nx == 3 and x.shape[0] != w.shape[0]
    if stacked or x.shape[-1] != w.shape[-2 if nw > 1 else 0]:
        what = "stacks of one size" if stacked else "inner sizes to agree"
        raise RuntimeError(f"{name}: wanted {what}, saw {tuple(x.shape)} and {tuple(w.shape)}")


def mm(input: Any, mat2: Any, *, out: Any = None) -> Any:
    """The product of two matrices: (n, k) by (k, m). RuntimeError for other dimensions and for sizes that differ."""
    checked("mm", input, mat2, 2, 2)
    return written("mm", matmul(input, mat2), out)


def bmm(input: Any, mat2: Any, *, out: Any = None) -> Any:
    """The products of two stacks of matrices: (b, n, k) by (b, k, m). RuntimeError for other shapes."""
    checked("bmm", input, mat2, 3, 3)
    return written("bmm", matmul(input, mat2), out)


def mv(input: Any, vec: Any, *, out: Any = None) -> Any:
    """A matrix times a vector: (n, k) by (k). RuntimeError for other shapes."""
    checked("mv", input, vec, 2, 1)
    return written("mv", matmul(input, vec), out)


def dot(input: Any, tensor: Any, *, out: Any = None) -> Any:
    """The inner product sum_k x_k w_k of two vectors. RuntimeError for other shapes."""
    checked("dot", input, tensor, 1, 1)
    return written("dot", matmul(input, tensor), out)


def vdot(input: Any, other: Any, *, out: Any = None) -> Any:
    """The inner product sum_k conj(x_k) w_k of two vectors. RuntimeError for other shapes."""
    checked("vdot", input, other, 1, 1)
    return written("vdot", matmul(pointwise.conj(input), other), out)


def inner(input: Any, other: Any, *, out: Any = None) -> Any:
    """The inner products of all last dimensions, (..., k) and (..., k); a number multiplies.
    RuntimeError for sizes that differ.
    """
    if input.ndim == 0 or other.ndim == 0:
        return written("inner", input * other, out)
    if input.shape[-1] != other.shape[-1]:
        raise RuntimeError(f"inner: wanted last sizes to agree, saw {tuple(input.shape)} and {tuple(other.shape)}")
    flat = linear(input, shape.reshape(other, (math.prod(other.shape[:-1]), other.shape[-1])))
    return written("inner", shape.reshape(flat, (*input.shape[:-1], *other.shape[:-1])), out)


def outer(input: Any, vec2: Any, *, out: Any = None) -> Any:
    """y_ij = x_i w_j of two vectors. RuntimeError for other dimensions."""
    if input.ndim != 1 or vec2.ndim != 1:
        raise RuntimeError(f"outer: wanted two vectors, saw shapes {tuple(input.shape)} and {tuple(vec2.shape)}")
    return written("outer", shape.reshape(input, (input.shape[0], 1)) * vec2, out)


# --- a product added to something -----------------------------------------------------------------------


def _scaled(g: Any, alpha: Any) -> Any:
    """alpha g in g's dtype: a bare array of bfloat16 times a number is one of float32."""
    y = g if alpha == 1 else g * alpha
    return y if y.dtype == g.dtype else pointwise.cast(y, g.dtype)


@op(
    dc=lambda g, beta: g if beta == 1 else g * beta,
    dx=lambda g, w, x_shape, alpha: _matmul_dx(_scaled(g, alpha), w, x_shape),
    dw=lambda g, x, w_shape, alpha: _matmul_dw(_scaled(g, alpha), x, w_shape),
    twin="gemm",
    cases=lambda r: [
        case(r(3, 5), r(3, 4), r(4, 5)),
        case(r(5), r(3, 4), r(4, 5), 0.5, 2.0),
        case(r(), r(2, 3, 4), r(2, 4, 5), 2, -1),
        case(r(3), r(3, 4), r(4), 1, 0.5),
        case(r(3, 5), r(3, 4), r(4, 5), 0, 1),
        case(r(2) + 1j * r(2), r(2, 3) + 1j * r(2, 3), r(3, 2) + 1j * r(3, 2), 1 + 2j, 2 - 1j),
        case(r(5), r(0, 4), r(4, 5)),
        case(r(3, 5), r(3, 0), r(0, 5), 3.0),
    ],
    reference=lambda torch, c, x, w, beta=1, alpha=1: beta * c + alpha * (x @ w),
)
def addmatmul(c, x, w, beta=1, alpha=1):
    """beta c + alpha x w, with x w as in matmul and c of a shape that broadcasts to it; where beta is 0 c is not read.
    RuntimeError for shapes or dtypes that do not agree.
    """
    agree("addmatmul", x, w, c)
    y = _product("addmatmul", x, w)
    if y.dtype.kind in "iu":
        beta, alpha = int(beta), int(alpha)
    if alpha != 1:
        y = y * alpha
    if beta != 0:
        try:
            shape.expanded("addmatmul", c.shape, y.shape)
            c = c.astype(y.dtype, copy=False)
            y = y + (c if beta == 1 else c * beta)
        except RuntimeError:
            raise RuntimeError(f"addmatmul: wanted c to broadcast to {y.shape}, saw {c.shape}") from None
    return y if y.dtype == x.dtype else y.astype(x.dtype)


def addmm(input: Any, mat1: Any, mat2: Any, *, beta: Any = 1, alpha: Any = 1, out: Any = None) -> Any:
    """beta input + alpha mat1 mat2: (n, k) by (k, m), input broadcasts. RuntimeError for other shapes."""
    checked("addmm", mat1, mat2, 2, 2)
    return written("addmm", addmatmul(input, mat1, mat2, beta, alpha), out)


def addmv(input: Any, mat: Any, vec: Any, *, beta: Any = 1, alpha: Any = 1, out: Any = None) -> Any:
    """beta input + alpha mat vec: (n, k) by (k), input broadcasts. RuntimeError for other shapes."""
    checked("addmv", mat, vec, 2, 1)
    return written("addmv", addmatmul(input, mat, vec, beta, alpha), out)


def baddbmm(input: Any, batch1: Any, batch2: Any, *, beta: Any = 1, alpha: Any = 1, out: Any = None) -> Any:
    """beta input + alpha batch1 batch2: (b, n, k) by (b, k, m), input broadcasts. RuntimeError for other shapes."""
    checked("baddbmm", batch1, batch2, 3, 3)
    return written("baddbmm", addmatmul(input, batch1, batch2, beta, alpha), out)


def addbmm(input: Any, batch1: Any, batch2: Any, *, beta: Any = 1, alpha: Any = 1, out: Any = None) -> Any:
    """beta input + alpha sum_b batch1_b batch2_b: (b, n, k) by (b, k, m), input broadcasts.
    RuntimeError for other shapes.
    """
    checked("addbmm", batch1, batch2, 3, 3)
    b, n, k = batch1.shape
    x = shape.reshape(shape.permute(batch1, (1, 0, 2)), (n, b * k))
    return written("addbmm", addmatmul(input, x, shape.reshape(batch2, (b * k, batch2.shape[2])), beta, alpha), out)


def addr(input: Any, vec1: Any, vec2: Any, *, beta: Any = 1, alpha: Any = 1, out: Any = None) -> Any:
    """beta input + alpha vec1 vec2^T of two vectors, input broadcasts. RuntimeError for other dimensions."""
    if vec1.ndim != 1 or vec2.ndim != 1:
        raise RuntimeError(f"addr: wanted two vectors, saw shapes {tuple(vec1.shape)} and {tuple(vec2.shape)}")
    if input.dtype.kind == vec1.dtype.kind == vec2.dtype.kind == "b":
        product = pointwise.logical_and(shape.reshape(vec1, (-1, 1)), vec2)
        return pointwise.bitwise_or(pointwise.bitwise_and(product, bool(alpha)), pointwise.bitwise_and(input, bool(beta)))
    return written("addr", addmatmul(input, shape.reshape(vec1, (-1, 1)), shape.reshape(vec2, (1, -1)), beta, alpha), out)
