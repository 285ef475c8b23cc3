"""Calculus on samples: integrals by the trapezoidal rule, and derivatives by differences."""

from __future__ import annotations

from typing import Any

from ..op import unwrap
from . import gather, join, reduce, scan, shape
from .dims import dimension, other_words


def _areas(name: str, y: Any, x: Any, dx: Any, dim: int) -> tuple[Any, int]:
    """Twice the areas between neighbours along dim, and dim counted from the front."""
    if x is not None and dx is not None:
        raise RuntimeError(f"{name}: wanted x or dx, saw both")
    d = dimension(name, dim, y.ndim)
    if y.dtype.kind == "b" or (gather.is_tensor(x) and x.dtype.kind == "b"):
        raise RuntimeError(f"{name}: wanted numbers, saw bools")
    n = y.shape[d] if y.ndim else 0
    if not y.ndim:
        raise IndexError(f"{name}: wanted one dimension or more, saw a 0-d tensor")
    k = max(n - 1, 0)
    sums = shape.narrow(y, d, 0, k) + shape.narrow(y, d, n - k, k)
    if x is None:
        return sums if dx is None or (not gather.is_tensor(dx) and dx == 1) else sums * dx, d
    if x.ndim == 1:
        if x.shape[0] != n:
            raise RuntimeError(f"{name}: wanted {n} places x, saw {x.shape[0]}")
        x = shape.reshape(x, [-1 if k == d else 1 for k in range(y.ndim)])
    elif x.ndim < y.ndim:
        x = shape.reshape(x, (1,) * (y.ndim - x.ndim) + tuple(x.shape))
    return sums * scan.diff(x, dim=d), d


@other_words
def trapezoid(y: Any, x: Any = None, *, dx: Any = None, dim: int = -1) -> Any:
    """The integral of y along dim by the trapezoidal rule: sum_i (y_i + y_{i+1}) / 2 (x_{i+1} - x_i), or with steps of dx,
    which is 1 unless given. RuntimeError for both x and dx, and for another number of places x than there are y.
    """
    if y.ndim and not y.shape[dimension("trapezoid", dim, y.ndim)]:
        return reduce.sum(y, dim)
    areas, d = _areas("trapezoid", y, x, dx, dim)
    return reduce.sum(areas, d) / 2.0


def trapz(y: Any, x: Any = None, *, dx: Any = None, dim: int = -1) -> Any:
    """trapezoid by another name."""
    return trapezoid(y, x, dx=dx, dim=dim)


@other_words
def cumulative_trapezoid(y: Any, x: Any = None, *, dx: Any = None, dim: int = -1) -> Any:
    """The integrals of y along dim up to each place but the first, by the trapezoidal rule; RuntimeError as there."""
    areas, d = _areas("cumulative_trapezoid", y, x, dx, dim)
    return scan.cumsum(areas, d) / 2.0


# --- derivatives ------------------------------------------------------------------------------------------


def _slope(x: Any, d: int, spacing: Any, edge_order: int) -> Any:
    """The derivative along d by differences that are of second order, but for edge_order at the two ends."""
    n = x.shape[d]

    def at(start: int, length: int) -> Any:
        return shape.narrow(x, d, start, length)

    if not gather.is_tensor(spacing):
        inner = (at(2, n - 2) - at(0, n - 2)) / (2.0 * spacing)
        if edge_order == 1:
            first, last = (at(1, 1) - at(0, 1)) / spacing, (at(n - 1, 1) - at(n - 2, 1)) / spacing
        else:
            first = (at(0, 1) * -1.5 + at(1, 1) * 2.0 - at(2, 1) * 0.5) / spacing
            last = (at(n - 1, 1) * 1.5 - at(n - 2, 1) * 2.0 + at(n - 3, 1) * 0.5) / spacing
        return join.cat([first, inner, last], d)
    steps = shape.reshape(scan.diff(spacing), [-1 if k == d else 1 for k in range(x.ndim)])

    def step(start: int, length: int) -> Any:
        return shape.narrow(steps, d, start, length)

    a, b = step(0, n - 2), step(1, n - 2)
    inner = at(0, n - 2) * (-b / (a * (a + b))) + at(1, n - 2) * ((b - a) / (a * b)) + at(2, n - 2) * (a / (b * (a + b)))
    if edge_order == 1:
        first = (at(1, 1) - at(0, 1)) / step(0, 1)
        last = (at(n - 1, 1) - at(n - 2, 1)) / step(n - 2, 1)
    else:
        a, b = step(0, 1), step(1, 1)
        first = at(0, 1) * (-(2.0 * a + b) / (a * (a + b))) + at(1, 1) * ((a + b) / (a * b)) + at(2, 1) * (-a / (b * (a + b)))
        a, b = step(n - 3, 1), step(n - 2, 1)
        last = at(n - 3, 1) * (b / (a * (a + b))) + at(n - 2, 1) * (-(a + b) / (a * b))
        last = last + at(n - 1, 1) * ((2.0 * b + a) / (b * (a + b)))
    return join.cat([first, inner, last], d)


@other_words
def gradient(x: Any, *, spacing: Any = 1, dim: Any = None, edge_order: int = 1) -> tuple:
    """The derivatives of samples x along each of dim, or of all dimensions, by central differences inside and differences
    of edge_order, 1 or 2, at the ends. spacing is the step, a step for each dimension, or the places in each: a vector.
    RuntimeError for a dimension of fewer than edge_order + 1 samples, or spacings that do not fit.
    """
    if edge_order not in (1, 2):
        raise RuntimeError(f"gradient: wanted edge_order 1 or 2, saw {edge_order}")
    if not hasattr(x, "ndim"):
        raise TypeError(f"gradient: wanted a tensor, saw {type(x).__name__}")
    spacing = 1 if spacing is None else spacing
    if gather.is_tensor(spacing):
        spacing = [spacing] if spacing.ndim else spacing.item()
    if dim is None:
        dims = list(range(x.ndim))
    else:
        dims = [dimension("gradient", d, x.ndim) for d in (dim if isinstance(dim, (tuple, list)) else (dim,))]
    if len(set(dims)) != len(dims):
        raise RuntimeError(f"gradient: wanted each dimension once, saw {dim}")
    if isinstance(spacing, (tuple, list)):
        steps = list(spacing)
        if len(steps) != len(dims):
            raise RuntimeError(f"gradient: wanted {len(dims)} spacings, saw {len(steps)}")
    else:
        steps = [spacing] * len(dims)
    if unwrap(x).dtype.kind == "b" or x.dtype == "uint8":
        raise RuntimeError(f"gradient: wanted numbers whose differences have a sign, saw {x.dtype}")
    for d, s in zip(dims, steps, strict=True):
        if x.shape[d] < edge_order + 1:
            raise RuntimeError(
                f"gradient: wanted {edge_order + 1} samples or more along dimension {d}, saw shape {tuple(x.shape)}"
            )
        if gather.is_tensor(s) and (s.ndim != 1 or s.shape[0] != x.shape[d]):
            raise RuntimeError(f"gradient: wanted {x.shape[d]} places along dimension {d}, saw shape {tuple(s.shape)}")
    if unwrap(x).dtype.kind in "iub":
        x = x * 1.0
    return tuple(_slope(x, d, s, edge_order) for d, s in zip(dims, steps, strict=True))
