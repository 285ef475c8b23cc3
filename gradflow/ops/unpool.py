"""Max unpooling: what a max pooling chose, put back where it was chosen, with zeros elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from ..backend import namespace
from ..cases import Sampler, case
from ..op import op
from . import gather, shape
from .window import numbers


def check(name: str, x: Any, indices: Any, sizes: tuple[int, ...]) -> None:
    """RuntimeError unless the indices are int64 and of x's shape, with planes of as many dims as sizes."""
    if indices.dtype != np.int64:
        raise RuntimeError(f"{name}: wanted int64 indices, saw {indices.dtype}")
    rank = len(sizes)
    if x.ndim not in (rank + 1, rank + 2) or tuple(x.shape) != tuple(indices.shape):
        raise RuntimeError(
            f"{name}: wanted an input of {rank + 1} or {rank + 2} dims and indices like it, "
            f"saw {tuple(x.shape)} and {tuple(indices.shape)}"
        )
    if min(x.shape[-rank - 1 :]) < 1:
        raise RuntimeError(f"{name}: wanted channels and sizes above zero, saw {tuple(x.shape)}")


def _planes(x: Any, rank: int) -> Any:
    """x with its planes as vectors."""
    return shape.reshape(x, (*tuple(x.shape)[:-rank], prod(x.shape[-rank:])))


def _chosen(g: Any, indices: Any, rank: int) -> Any:
    """The elements of planes g at the places `indices`."""
    return shape.reshape(gather.gather(_planes(g, rank), -1, _planes(indices, rank)), tuple(indices.shape))


def _cases(r: Sampler) -> list[case]:
    def places(*sizes: int, n: int) -> np.ndarray:
        """Different places among n for every plane."""
        rows = [r.rng.permutation(n)[: prod(sizes[2:])] for _ in range(prod(sizes[:2]))]
        return np.array(rows, np.int64).reshape(sizes)

    return [
        case(r(2, 3, 2, 3), places(2, 3, 2, 3, n=24), (4, 6)),
        case(r(3, 2, 4), places(3, 2, 4, n=7)[..., :4], (7,)),
        case(r(2, 2, 1, 2, 2), places(2, 2, 1, 2, 2, n=30), (2, 3, 5)),
        case(r(2, 2, 3), places(1, 2, 2, 3, n=9)[0], (3, 3)),  # no batch
        case(r.strided(1, 2, 2, 2), places(1, 2, 2, 2, n=9), (3, 3)),
        case(r(1, 1, 5), np.array([[[2, 0, 2, 2, 0]]]), (3,), order=0),  # of places named twice the last one stays
        case(r(0, 2, 2), np.zeros((0, 2, 2), np.int64), (4,)),
    ]


@op(
    dx=lambda g, indices, sizes: _chosen(g, indices, len(sizes)),
    twin="unpool",
    cases=_cases,
    reference=None,
)
def put_back(x, indices, sizes):
    """Planes of `sizes` with y[n, c].flat[indices[n, c, o]] = x[n, c, o], zero elsewhere; of equal places the last stays.

    x and int64 indices (n, c, ...) or without n. RuntimeError for places out of range (not looked for on the card).
    """
    name, xp = f"max_unpool{len(sizes)}d", namespace(x)
    check(name, x, indices, sizes)
    lead, plane = x.shape[: -len(sizes)], prod(sizes)
    count = prod(lead)
    if xp is np and indices.size and not 0 <= indices.min() <= indices.max() < plane:
        raise RuntimeError(f"{name}: wanted places below {plane}, saw {indices.min()} to {indices.max()}")
    y = xp.zeros(count * plane, x.dtype)
    at = indices.reshape(count, -1) + xp.arange(count)[:, None] * plane if count else indices
    y[at.reshape(-1)] = x.reshape(-1)
    return y.reshape(*lead, *sizes)


def _sizes(name: str, rank: int, x: Any, kernel_size: Any, stride: Any, padding: Any, output_size: Any) -> tuple:
    """The sizes of what was pooled. ValueError for an output_size that this pooling cannot have come from."""
    kernel = numbers(name, "kernel_size", kernel_size, rank, 1)
    strides = kernel if stride is None or stride == () else numbers(name, "stride", stride, rank, 1)
    paddings = numbers(name, "padding", padding, rank, 0)
    least = [(n - 1) * s + k - 2 * p for n, s, k, p in zip(x.shape[-rank:], strides, kernel, paddings, strict=True)]
    if output_size is None:
        return tuple(least)
    sizes = tuple(int(n) for n in output_size)
    sizes = sizes[2:] if len(sizes) == rank + 2 else sizes
    if len(sizes) != rank:
        raise ValueError(f"{name}: wanted an output_size of {rank} or {rank + 2} numbers, saw {tuple(output_size)}")
    if any(not n - s < size < n + s for n, s, size in zip(least, strides, sizes, strict=True)):
        raise ValueError(f"{name}: wanted an output_size within {strides} of {tuple(least)}, saw {sizes}")
    return sizes


def _unpool(rank: int) -> Callable[..., Any]:
    name = f"max_unpool{rank}d"

    def max_unpool(
        input: Any, indices: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None
    ) -> Any:
        if input.ndim not in (rank + 1, rank + 2):
            raise RuntimeError(f"{name}: wanted {rank + 1} or {rank + 2} dims, saw {tuple(input.shape)}")
        return put_back(input, indices, _sizes(name, rank, input, kernel_size, stride, padding, output_size))

    max_unpool.__name__ = max_unpool.__qualname__ = name
    max_unpool.__doc__ = f"""What max_pool{rank}d chose, put back at its indices, with zeros elsewhere.

    input and indices are max_pool{rank}d's values and indices; kernel_size, stride and padding its arguments, from which
    follows the size of what was pooled unless output_size gives it. ValueError for one that cannot be.
    """
    return max_unpool


max_unpool1d, max_unpool2d, max_unpool3d = _unpool(1), _unpool(2), _unpool(3)
