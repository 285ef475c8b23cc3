"""What special functions are computed with: float64 inside, Chebyshev and power series, one formula per region."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from ..backend import namespace
from .special_tables import CHEBYSHEV


def lifted(definition: Callable[..., Any], arrays: int = 1) -> Callable[..., Any]:
    """A definition that gets its first arguments as float64 arrays of one shape; its result has the inputs' dtype."""

    @functools.wraps(definition)
    def call(*args: Any) -> Any:
        first = next(a for a in args if hasattr(a, "dtype"))
        xp = namespace(first)
        wide = [xp.asarray(a, dtype=np.complex128 if first.dtype.kind == "c" else np.float64) for a in args[:arrays]]
        if arrays > 1:
            wide = xp.broadcast_arrays(*wide)
        with np.errstate(all="ignore"):
            return xp.asarray(definition(*wide, *args[arrays:])).astype(first.dtype)

    return call


def chebyshev(name: str, x: Any, low: float, high: float) -> Any:
    """sum c_k T_k(t) for t from -1 to 1 as x goes from low to high, by Clenshaw's recurrence."""
    c = CHEBYSHEV[name]
    twice = (x - (low + high) / 2) * (4 / (high - low))
    a, b = c[-1], 0.0
    for v in c[-2:0:-1]:
        a, b = twice * a - b + v, a
    return twice * a * 0.5 - b + c[0]


def horner(c: tuple[float, ...], z: Any) -> Any:
    """sum c_k z^k."""
    y = c[-1]
    for v in c[-2::-1]:
        y = y * z + v
    return y


def parts(mask: Any, f: Callable[..., Any], h: Callable[..., Any], *xs: Any) -> Any:
    """f where the mask holds, h elsewhere; on the CPU each is computed of its own elements only."""
    xp = namespace(mask)
    if xp is not np:
        return xp.where(mask, f(*xs), h(*xs))
    mask = np.asarray(mask)
    inside = np.count_nonzero(mask)
    if inside == mask.size:
        return f(*xs)
    if not inside:
        return h(*xs)
    rest, y = ~mask, np.empty(mask.shape, xs[0].dtype)
    y[mask], y[rest] = f(*[x[mask] for x in xs]), h(*[x[rest] for x in xs])
    return y
