"""Products of several matrices, and products of other kinds: Kronecker's, vectors', a matrix with itself."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from ..backend import int64, namespace
from ..cases import case
from ..op import op, unwrap
from . import einsum, index, linalg, pointwise, shape, solve, stacks

# --- products of several --------------------------------------------------------------------------------


@stacks.also()
def multi_dot(tensors: Any) -> Any:
    """The product of two or more matrices in the order that takes the fewest multiplications; the first and the last
    may be vectors. RuntimeError for other dimensions or for sizes that differ.
    """
    xs = list(tensors)
    if len(xs) < 2:
        raise RuntimeError(f"multi_dot: wanted at least two tensors, saw {len(xs)}")
    if any(x.ndim != 2 for x in xs[1:-1]) or any(x.ndim not in (1, 2) for x in (xs[0], xs[-1])):
        raise RuntimeError(f"multi_dot: wanted matrices, or vectors at the ends, saw {[tuple(x.shape) for x in xs]}")
    drop_first, drop_last = xs[0].ndim == 1, xs[-1].ndim == 1
    if drop_first:
        xs[0] = shape.reshape(xs[0], (1, xs[0].shape[0]))
    if drop_last:
        xs[-1] = shape.reshape(xs[-1], (xs[-1].shape[0], 1))
    for x, w in pairwise(xs):
        linalg.checked("multi_dot", x, w, 2, 2)
    cut = _cheapest([xs[0].shape[0], *(x.shape[1] for x in xs)])

    def product(i: int, j: int) -> Any:
        return xs[i] if i == j else linalg.matmul(product(i, cut[i, j]), product(cut[i, j] + 1, j))

    y = product(0, len(xs) - 1)
    kept = y.shape[1 if drop_first else 0 : 1 if drop_last else 2]
    return shape.reshape(y, tuple(kept)) if drop_first or drop_last else y


def _cheapest(sizes: list[int]) -> dict[tuple[int, int], int]:
    """Where to split the product of the matrices i to j, of sizes[i] by sizes[i + 1] each (Godbole 1973)."""
    n = len(sizes) - 1
    cost = {(i, i): 0 for i in range(n)}
    cut = {}
    for length in range(1, n):
        for i in range(n - length):
            j = i + length
            ways = [
                (cost[i, k] + cost[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1], k) for k in range(i, j)
            ]
            cost[i, j], cut[i, j] = min(ways)
    return cut


@stacks.also()
def chain_matmul(*matrices: Any) -> Any:
    """The product of the matrices in the order that takes the fewest multiplications."""
    xs = matrices[0] if len(matrices) == 1 and isinstance(matrices[0], (list, tuple)) else matrices
    if any(x.ndim != 2 for x in xs):
        raise RuntimeError(f"chain_matmul: wanted matrices, saw {[tuple(x.shape) for x in xs]}")
    return xs[0] if len(xs) == 1 else multi_dot(xs)


@stacks.also(A="input")
def matrix_power(input: Any, n: int) -> Any:
    """The product of n times the square matrix (..., k, k) with itself, by repeated squaring; n = 0 gives the identity.
    n < 0 takes the inverse. RuntimeError for matrices that are not square, LinAlgError for n < 0 and a singular one.
    """
    if input.ndim < 2 or input.shape[-1] != input.shape[-2]:
        raise RuntimeError(f"matrix_power: wanted square matrices, saw {tuple(input.shape)}")
    if n < 0:
        input, n = solve._inverse("matrix_power", input, True).inverse, -n
    if n == 0:
        x = unwrap(input)
        xp = namespace(x)
        return pointwise.where(xp.zeros(x.shape, bool), input, xp.eye(x.shape[-1], dtype=x.dtype))
    y, square = None, input
    while True:
        if n & 1:
            y = square if y is None else linalg.matmul(y, square)
        n >>= 1
        if not n:
            return y if y is not input else shape.clone(input)
        square = linalg.matmul(square, square)


# --- products of another kind -----------------------------------------------------------------------------


@stacks.also()
def kron(input: Any, other: Any) -> Any:
    """The Kronecker product: y[i k + l] = x[i] w[l] in every dimension, k being w's size there; sizes of one are put
    in front of the shape with fewer dimensions.
    """
    n = max(input.ndim, other.ndim)
    a = (1,) * (n - input.ndim) + tuple(input.shape)
    b = (1,) * (n - other.ndim) + tuple(other.shape)
    x = shape.reshape(input, tuple(size for i in a for size in (i, 1)))
    w = shape.reshape(other, tuple(size for j in b for size in (1, j)))
    return shape.reshape(x * w, tuple(i * j for i, j in zip(a, b, strict=True)))


def trace(input: Any) -> Any:
    """The sum of a matrix's diagonal. RuntimeError for other dimensions."""
    if input.ndim != 2:
        raise RuntimeError(f"trace: wanted a matrix, saw {tuple(input.shape)}")
    n = min(input.shape)
    if input.dtype.kind in "biu":
        input = pointwise.cast(input, int64)
    if input.shape[0] != input.shape[1]:
        input = index.getitem(input, (slice(n), slice(n)))
    return einsum.contract(input, inputs=(("i", "i"),), output=())


@op(
    da=lambda g, b, dim: cross(b, g, dim),
    db=lambda g, a, dim: cross(g, a, dim),
    promote="a b",
    cases=lambda r: [
        case(r(3), r(3), 0),
        case(r(4, 3), r(4, 3), -1),
        case(r(3, 4, 1), r(3, 1, 2), 0),
        case(r.strided(2, 3), r(2, 3), 1),
        case(r(0, 3), r(0, 3), 1),
    ],
    reference=lambda torch, a, b, dim: torch.linalg.cross(a, b, dim=dim),
)
def cross(a, b, dim=None):
    """The vector product of a and b along `dim`, of size 3 (by default the first of that size); they broadcast.
    RuntimeError where that dimension has another size.
    """
    n = max(a.ndim, b.ndim)
    if dim is None:
        dim = next((i for i, size in enumerate(a.shape) if size == 3), -1)
    at = dim - n if dim >= 0 else dim
    if not -n <= at < 0:
        raise IndexError(f"cross: wanted a dimension in [{-n}, {n - 1}], saw {dim}")
    if a.ndim != n or b.ndim != n or a.shape[at] != 3 or b.shape[at] != 3:
        raise RuntimeError(f"cross: wanted size 3 in dimension {dim} of both, saw {a.shape} and {b.shape}")
    xp = namespace(a)
    x, w = xp.moveaxis(a, at, 0), xp.moveaxis(b, at, 0)
    y = xp.stack([x[1] * w[2] - x[2] * w[1], x[2] * w[0] - x[0] * w[2], x[0] * w[1] - x[1] * w[0]])
    return xp.moveaxis(y, 0, at)


@stacks.also()
def linalg_cross(input: Any, other: Any, *, dim: int = -1) -> Any:
    """The vector product of vectors of size 3 along dim; they broadcast. RuntimeError for another size."""
    if input.ndim != other.ndim:
        raise RuntimeError(f"linalg.cross: wanted as many dimensions, saw {tuple(input.shape)} and {tuple(other.shape)}")
    return cross(input, other, dim)
