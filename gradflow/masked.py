"""torch.masked's names: reductions and normalisations that leave out the elements where a mask is False.

Each is its ordinary function after the left-out elements were given the value that changes nothing: 0 in a sum, 1 in a
product, -inf in a maximum. A reduction over nothing but left-out elements gives that value. `mask` has the input's number
of dimensions or fewer and broadcasts to its shape; `dtype` is that of the result; `dim` None means all dimensions.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from . import backend, create
from .dtypes import category, iinfo
from .ops import extreme, pointwise, reduce, scan, shape, sort
from .ops.softmax import log_softmax as _log_softmax
from .ops.softmax import softmax as _softmax

__all__ = [
    "amax", "amin", "argmax", "argmin", "cumprod", "cumsum", "log_softmax", "logaddexp", "logsumexp", "mean", "median", "norm",
    "normalize", "prod", "softmax", "softmin", "std", "sum", "var",
]  # fmt: skip


def _mask(name: str, x: Any, mask: Any) -> Any:
    """The mask in x's shape. ValueError, IndexError where it has no such shape."""
    if mask.dtype != backend.bool_:
        mask = mask != 0
    if mask.ndim > x.ndim:
        raise IndexError(f"{name}: wanted a mask of at most {x.ndim} dimensions, saw shape {tuple(mask.shape)}")
    return shape.expand(mask, x.shape)


def _filled(name: str, x: Any, mask: Any, value: Any) -> Any:
    """x with `value` where the mask leaves elements out."""
    return (
        x
        if mask is None
        else pointwise.where(_mask(name, x, mask), x, create.full((), value, dtype=x.dtype, device=x.device))
    )


def _dims(x: Any, dim: Any) -> Any:
    """None or an empty tuple for all dimensions."""
    return tuple(range(x.ndim)) if dim is None or dim == () else dim


def _wide(x: Any, dtype: Any) -> Any:
    """The dtype that a sum of x has: that asked for, or int64 for integers."""
    return dtype if dtype is not None else backend.int64 if category(x.dtype) < 2 else x.dtype


def _least(x: Any) -> Any:
    return -math.inf if category(x.dtype) > 1 else iinfo(x.dtype).min if x.dtype != backend.bool_ else False


def _most(x: Any) -> Any:
    return math.inf if category(x.dtype) > 1 else iinfo(x.dtype).max if x.dtype != backend.bool_ else True


def sum(input: Any, dim: Any = None, *, keepdim: bool = False, dtype: Any = None, mask: Any = None) -> Any:
    """The sum of the elements kept."""
    dtype = _wide(input, dtype)
    return reduce.sum(_filled("sum", input, mask, 0), _dims(input, dim), keepdim, dtype=dtype)


def prod(input: Any, dim: Any = None, *, keepdim: bool = False, dtype: Any = None, mask: Any = None) -> Any:
    """The product of the elements kept."""
    x = _filled("prod", input, mask, 1).to(_wide(input, dtype))
    dims = _dims(input, dim)
    for d in sorted((d % max(x.ndim, 1) for d in ((dims,) if isinstance(dims, int) else dims)), reverse=True):
        x = reduce.prod(x, d, keepdim)
    return x


def cumsum(input: Any, dim: int, *, dtype: Any = None, mask: Any = None) -> Any:
    """The running sum of the elements kept."""
    return scan.cumsum(_filled("cumsum", input, mask, 0), dim, dtype=dtype or input.dtype)


def cumprod(input: Any, dim: int, *, dtype: Any = None, mask: Any = None) -> Any:
    """The running product of the elements kept."""
    return scan.cumprod(_filled("cumprod", input, mask, 1), dim, dtype=dtype or input.dtype)


def amax(input: Any, dim: Any = None, *, keepdim: bool = False, dtype: Any = None, mask: Any = None) -> Any:
    """The largest element kept."""
    return extreme.amax(_filled("amax", _as(input, dtype), mask, _least(_as(input, dtype))), _dims(input, dim), keepdim)


def amin(input: Any, dim: Any = None, *, keepdim: bool = False, dtype: Any = None, mask: Any = None) -> Any:
    """The smallest element kept."""
    return extreme.amin(_filled("amin", _as(input, dtype), mask, _most(_as(input, dtype))), _dims(input, dim), keepdim)


def _as(x: Any, dtype: Any) -> Any:
    return x if dtype is None else x.to(dtype)


def argmax(input: Any, dim: int | None = None, *, keepdim: bool = False, dtype: Any = None, mask: Any = None) -> Any:
    """Where the largest element kept is, as a number of the input's dtype."""
    x = _as(input, dtype)
    return extreme.argmax(_filled("argmax", x, mask, _least(x)), dim, bool(keepdim)).to(x.dtype)


def argmin(input: Any, dim: int | None = None, *, keepdim: bool = False, dtype: Any = None, mask: Any = None) -> Any:
    """Where the smallest element kept is, as a number of the input's dtype."""
    x = _as(input, dtype)
    return extreme.argmin(_filled("argmin", x, mask, _most(x)), dim, bool(keepdim)).to(x.dtype)


def _count(name: str, x: Any, dim: Any, keepdim: bool, mask: Any) -> Any:
    """How many elements are kept."""
    ones = create.ones(x.shape, dtype=backend.int64, device=x.device)
    return reduce.sum(ones if mask is None else _filled(name, ones, mask, 0), _dims(x, dim), keepdim)


def mean(input: Any, dim: Any = None, *, keepdim: bool = False, dtype: Any = None, mask: Any = None) -> Any:
    """The mean of the elements kept, NaN of none."""
    total = sum(_as(input, dtype), dim, keepdim=keepdim, mask=mask)
    return pointwise.div(total, _count("mean", input, dim, keepdim, mask))


def median(input: Any, dim: int = -1, *, keepdim: bool = False, dtype: Any = None, mask: Any = None) -> Any:
    """The lower median of the elements kept, NaN of none. ValueError for integers with a mask that leaves out a whole row."""
    x = _as(input, dtype)
    if x.ndim == 0:
        return x
    if category(x.dtype) < 2 and mask is not None:
        raise ValueError(f"median: wanted floating numbers beside a mask, saw {x.dtype}")
    x = _filled("median", x, mask, math.nan)
    return sort.nanmedian(x, dim, keepdim)[0]


def logsumexp(input: Any, dim: Any = None, *, keepdim: bool = False, dtype: Any = None, mask: Any = None) -> Any:
    """log sum e^x over the elements kept, in the input's dtype."""
    x = _as(input, dtype)
    x = x if category(x.dtype) > 1 else x.to(backend.get_default_dtype())
    y = reduce.logsumexp(_filled("logsumexp", x, mask, -math.inf), _dims(x, dim), keepdim)
    return y.to(dtype or input.dtype)


def logaddexp(input: Any, other: Any, *, dtype: Any = None, input_mask: Any = None, other_mask: Any = None) -> Any:
    """log(e^x + e^y), each left out where its mask says so."""
    a = _filled("logaddexp", _as(input, dtype), input_mask, -math.inf)
    b = _filled("logaddexp", _as(other, dtype), other_mask, -math.inf)
    return pointwise.logaddexp(a, b)


def norm(
    input: Any, ord: Any = 2.0, dim: Any = None, *, keepdim: bool = False, dtype: Any = None, mask: Any = None
) -> Any:
    """(sum |x|^ord)^(1/ord) of the elements kept."""
    x = _filled("norm", _as(input, dtype), mask, math.inf if ord == -math.inf else 0)
    return reduce.norm(x, ord, _dims(x, dim), keepdim)


def _variance(
    name: str, input: Any, dim: Any, unbiased: Any, correction: Any, keepdim: bool, dtype: Any, mask: Any
) -> Any:
    x = _as(input, dtype)
    dtype = x.dtype if category(x.dtype) > 1 else backend.get_default_dtype()
    x = x.to(backend.float32 if dtype.itemsize == 2 else dtype)
    correction = int(unbiased is None or unbiased) if correction is None else correction
    real = np.zeros(0, x.dtype).real.dtype
    centred = pointwise.sub(x, pointwise.div(sum(x, dim, keepdim=True, mask=mask), _count(name, x, dim, True, mask)))
    squares = pointwise.cast(pointwise.mul(centred, pointwise.conj(centred)), real)
    total = sum(squares, dim, keepdim=keepdim, mask=mask)
    y = pointwise.div(total, pointwise.clamp(_count(name, x, dim, keepdim, mask).to(real) - correction, 0))
    return y.to(dtype)


def var(
    input: Any,
    dim: Any = None,
    unbiased: Any = None,
    *,
    correction: Any = None,
    keepdim: bool = False,
    dtype: Any = None,
    mask: Any = None,
) -> Any:
    """The variance of the elements kept, over their number less `correction` (1, or 0 with unbiased=False)."""
    return _variance("var", input, dim, unbiased, correction, keepdim, dtype, mask)


def std(
    input: Any,
    dim: Any = None,
    unbiased: Any = None,
    *,
    correction: Any = None,
    keepdim: bool = False,
    dtype: Any = None,
    mask: Any = None,
) -> Any:
    """The square root of var."""
    return pointwise.sqrt(_variance("std", input, dim, unbiased, correction, keepdim, dtype, mask))


def softmax(input: Any, dim: int, *, dtype: Any = None, mask: Any = None) -> Any:
    """softmax over the elements kept; 0 where left out, NaN in a row of none."""
    return _softmax(_filled("softmax", _as(input, dtype), mask, -math.inf), dim)


def log_softmax(input: Any, dim: int, *, dtype: Any = None, mask: Any = None) -> Any:
    """log_softmax over the elements kept."""
    return _log_softmax(_filled("log_softmax", _as(input, dtype), mask, -math.inf), dim)


def softmin(input: Any, dim: int, *, dtype: Any = None, mask: Any = None) -> Any:
    """softmax of -x over the elements kept."""
    return _softmax(pointwise.neg(_filled("softmin", _as(input, dtype), mask, math.inf)), dim)


def normalize(input: Any, ord: float, dim: int, *, eps: float = 1e-12, dtype: Any = None, mask: Any = None) -> Any:
    """x / max(norm of the elements kept, eps); 0 where left out."""
    x = _as(input, dtype)
    size = pointwise.maximum(
        norm(x, ord, dim, keepdim=True, mask=mask),
        create.full((), eps, dtype=np.zeros(0, x.dtype).real.dtype, device=x.device),
    )
    return pointwise.div(_filled("normalize", x, mask, 0), size)
