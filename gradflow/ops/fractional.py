"""Fractional max pooling: the largest element of windows whose starts are drawn at random (Graham, arXiv:1412.6071)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from math import prod
from typing import Any

import numpy as np

from .. import backend
from ..backend import namespace
from ..cases import Sampler, case
from ..op import op, unwrap, wrap
from ..tape import Traced
from . import gather, random, shape
from .index import index_sum
from .reduce import wide
from .window import check_batch, numbers


def starts(samples: Any, size: int, out: int, kernel: int) -> Any:
    """Where `out` windows start along a dim: floor((i + u) a) - floor(u a), a = (size - kernel) / (out - 1); the last one
    at the end. samples u (planes,) to (planes, out).
    """
    xp = namespace(samples)
    alpha = samples.dtype.type((size - kernel) / (out - 1) if out > 1 else 0)
    i = xp.arange(out, dtype=samples.dtype)
    u = samples[:, None]
    found = ((i + u) * alpha).astype(np.int64) - (u * alpha).astype(np.int64)
    found[:, out - 1 :] = size - kernel
    return found


def check(name: str, x: Any, kernel: Any, outs: Any, samples: Any) -> tuple:
    """(windows' sizes, output sizes), checked: RuntimeError where they do not fit."""
    rank = samples.shape[-1] if samples.ndim == 3 else 0
    if rank not in (2, 3):
        raise RuntimeError(f"{name}: wanted random samples (n, c, 2) or (n, c, 3), saw {tuple(samples.shape)}")
    check_batch(name, x.shape, rank)
    if min(x.shape[-rank - 1 :]) < 1:
        raise RuntimeError(f"{name}: wanted channels and sizes above zero, saw {tuple(x.shape)}")
    kernel, outs = numbers(name, "kernel_size", kernel, rank, 1), numbers(name, "output_size", outs, rank, 1)
    room = [n - (rank == 3) for n in x.shape[-rank:]]  # PyTorch wants one more in three dims
    if any(o + k - 1 > n for o, k, n in zip(outs, kernel, room, strict=True)):
        raise RuntimeError(f"{name}: wanted {outs} windows of {kernel} within {tuple(x.shape[-rank:])}, saw too few")
    lead = tuple(x.shape[:-rank])
    if samples.shape[0] < prod(lead[:-1]) or samples.shape[1] != lead[-1] or samples.dtype != x.dtype:
        raise RuntimeError(
            f"{name}: wanted random samples of {lead} and {x.dtype}, saw {tuple(samples.shape)} {samples.dtype}"
        )
    return kernel, outs


def all_starts(x: Any, samples: Any, kernel: tuple, outs: tuple) -> list[Any]:
    """The windows' starts along each dim, (planes, out). PyTorch's samples in two dims are for columns, then rows."""
    rank = len(outs)
    u = samples[: prod(x.shape[: -rank - 1])].reshape(-1, rank)
    u = u.astype(wide(u.dtype), copy=False)
    turns = (1, 0) if rank == 2 else (0, 1, 2)
    return [
        starts(u[:, t], *sizes) for t, sizes in zip(turns, zip(x.shape[-rank:], outs, kernel, strict=True), strict=True)
    ]


def _cases(r: Sampler) -> list[case]:
    u, d = r.uniform, r.distinct
    return [
        case(d(2, 2, 5, 7), u(0, 1, 2, 2, 2), 2, (3, 4)),
        case(d(2, 6, 5), u(0, 1, 1, 2, 2), (2, 3), (4, 1)),
        case(d(1, 2, 4, 5, 4), u(0, 1, 1, 2, 3), (2, 1, 2), (2, 3, 2)),
        case(d(1, 1, 4, 4), u(0, 1, 1, 1, 2), 3, 2),
        case(d(0, 2, 4, 4), u(0, 1, 0, 2, 2), 2, 2),
    ]


def _given_back(g: Any, indices: Any, x_shape: tuple[int, ...], rank: int) -> Any:
    lead = tuple(x_shape[:-rank])
    flat = shape.reshape(indices, (*lead, prod(indices.shape[-rank:])))
    planes = (*lead, prod(x_shape[-rank:]))
    to = gather.along("fractional_max_pool", -1, flat, planes, known=True)
    return shape.reshape(index_sum(shape.reshape(g, tuple(flat.shape)), to, planes), tuple(x_shape))


@op(
    real=True,
    dx=lambda g, indices, x_shape, samples_shape: _given_back(g[0], indices, x_shape, samples_shape[-1]),
    outputs=("values", "indices"),
    twin="fractional",
    cases=_cases,
    reference=lambda torch, x, u, k, o: getattr(torch.nn.functional, f"fractional_max_pool{u.shape[-1]}d")(
        x, k, o, return_indices=True, _random_samples=u.detach()
    ),
)
def fractional_max_pool(x, samples, kernel_size, output_size):
    """(The largest element of every window, its place in the plane) for windows of kernel_size that start where samples,
    (n, c, dims) in [0, 1), put them; a NaN is larger than all. x (n, c, h, w) or (n, c, d, h, w), or without n.
    """
    xp = namespace(x)
    kernel, outs = check("fractional_max_pool", x, kernel_size, output_size, samples)
    rank = len(outs)
    planes = x.reshape(prod(x.shape[:-rank]), prod(x.shape[-rank:])).astype(wide(x.dtype), copy=False)
    first, place = all_starts(x, samples, kernel, outs), 0
    steps = [prod(x.shape[x.ndim - rank + i + 1 :]) for i in range(rank)]
    for i, s in enumerate(first):
        place = place + s.reshape(len(planes), *(outs[j] if j == i else 1 for j in range(rank))) * steps[i]
    place = place.reshape(len(planes), prod(outs))
    best = at = None
    for taps in product(*map(range, kernel)):
        here = place + sum(t * s for t, s in zip(taps, steps, strict=True))
        seen = xp.take_along_axis(planes, here, 1)
        if best is None:
            best, at = seen, here
            continue
        larger = (seen > best) | (seen != seen)
        best, at = xp.where(larger, seen, best), xp.where(larger, here, at)
    sizes = (*x.shape[:-rank], *outs)
    return best.astype(x.dtype, copy=False).reshape(sizes), at.reshape(sizes)


def _fractional(rank: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    name = f"fractional_max_pool{rank}d"

    def with_indices(
        input: Any,
        kernel_size: Any,
        output_size: Any = None,
        output_ratio: Any = None,
        return_indices: bool = False,
        _random_samples: Any = None,
    ) -> tuple:
        if output_size is None and output_ratio is None:
            raise ValueError(f"{name}: wanted an output_size or an output_ratio, saw neither")
        check_batch(name, input.shape, rank)
        if output_size is None:
            ratios = output_ratio if isinstance(output_ratio, (tuple, list)) else (output_ratio,) * rank
            if len(ratios) != rank:
                raise ValueError(f"{name}: wanted one output_ratio or {rank}, saw {len(ratios)}")
            output_size = tuple(int(n * r) for n, r in zip(input.shape[-rank:], ratios, strict=True))
        if _random_samples is None:
            x = unwrap(input)
            lead = (1, *x.shape[:-rank]) if x.ndim == rank + 1 else x.shape[:-rank]
            dtype = backend.float32 if x.dtype.itemsize == 2 else x.dtype
            u = random.uniform((*lead, rank), dtype, namespace(x)).astype(x.dtype, copy=False)
            _random_samples = wrap(u) if isinstance(input, Traced) else u
        return fractional_max_pool(input, _random_samples, kernel_size, output_size)

    def pool(
        input: Any,
        kernel_size: Any,
        output_size: Any = None,
        output_ratio: Any = None,
        return_indices: bool = False,
        _random_samples: Any = None,
    ) -> Any:
        both = with_indices(input, kernel_size, output_size, output_ratio, True, _random_samples)
        return both if return_indices else both[0]

    for function, title in ((with_indices, f"{name}_with_indices"), (pool, name)):
        function.__name__ = function.__qualname__ = title
        function.__doc__ = f"""The largest elements of windows that start at random, with {rank} spatial dims.

    output_size windows along each dim, or output_ratio times the input's size; _random_samples (n, c, {rank}) in [0, 1)
    says where they start. Values, and with return_indices their places in the plane. ValueError without a size or ratio.
    """
    return with_indices, pool


fractional_max_pool2d_with_indices, fractional_max_pool2d = _fractional(2)
fractional_max_pool3d_with_indices, fractional_max_pool3d = _fractional(3)
