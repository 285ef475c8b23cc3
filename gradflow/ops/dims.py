"""Dimensions and sizes as users name them, checked and counted from the front."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import unwrap
from typing import Any

from ..call import into


def dimension(name: str, dim: int, ndim: int) -> int:
    """dim counted from the front; IndexError unless it is one of ndim dimensions (0-d counts as one)."""
    n = ndim or 1
    if not hasattr(dim, "__index__"):
        raise TypeError(f"{name}: wanted a dimension as an int, saw {dim!r}")
    if not -n <= dim < n:
        raise IndexError(f"{name}: wanted a dimension in [{-n}, {n - 1}], saw {dim}")
    return int(dim) % n


def dimensions(name: str, dim: Any, ndim: int) -> tuple[int, ...]:
    """The dimensions of a reduction: all for None and ().

    IndexError for one out of range, RuntimeError for one named twice.
    """
    if dim is None or dim == () or dim == []:
        return tuple(range(ndim))
    if not isinstance(dim, (tuple, list)):
        d = dimension(name, dim, ndim)
        return (d,) if ndim else ()
    found = tuple(dimension(name, d, ndim) for d in dim)
    if len(set(found)) != len(found):
        raise RuntimeError(f"{name}: wanted each dimension once, saw {tuple(dim)}")
    return found if ndim else ()


def inverse(dims: Any) -> tuple[int, ...]:
    """The permutation that undoes `dims`."""
    n, undo = len(dims), [0] * len(dims)
    for i, d in enumerate(dims):
        undo[d % n] = i
    return tuple(undo)


def expanded(name: str, old: tuple[int, ...], size: Any) -> tuple[int, ...]:
    """The shape that `size` asks of one of shape `old`, -1 standing for a size as it is."""
    lead = len(size) - len(old)
    fits = lead >= 0 and all(s >= 0 for s in size[:lead])
    fits = fits and all(s in (n, -1) or n == 1 for s, n in zip(size[lead:], old, strict=True))
    if not fits or any(s < -1 for s in size):
        raise RuntimeError(f"{name}: wanted sizes to which {tuple(old)} broadcasts, saw {tuple(size)}")
    return tuple(old[i - lead] if s == -1 else int(s) for i, s in enumerate(size))


_WORDS = {"axis": "dim", "keepdims": "keepdim", "input": "x"}


def other_words(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, taking also NumPy's words for PyTorch's, axis and keepdims, input for its first argument x, and out for
    tensors into which to write the result.
    """
    code = unwrap(function).__code__
    own = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    words = {word: name for word, name in _WORDS.items() if name in own and word not in own}

    writes = "out" not in own

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not kwargs:
            return function(*args)
        for word in words.keys() & kwargs.keys():
            kwargs[words[word]] = kwargs.pop(word)
        out = kwargs.pop("out", None) if writes else None
        y = function(*args, **kwargs)
        return y if out is None else into(function.__name__, out, y)

    return call
