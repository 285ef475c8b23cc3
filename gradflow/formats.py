"""Memory formats and layouts: names for the order in which elements lie in memory.

Every tensor here is strided. contiguous_format is C order; channels_last has the channels of n, c, h, w (channels_last_3d
of n, c, d, h, w) as neighbours, under the same shape; preserve_format leaves the order as it is. What an op makes lies as
what it was given does: ops/layout.py has the orders, and tests/test_formats.py compares them with PyTorch's.
"""

from __future__ import annotations

from typing import Any

from .op import unwrap
from .ops import shape
from .ops.layout import axes, rows


class memory_format:
    """An order of elements in memory."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        from .printing import package

        return f"{package}.{self.name}"


class layout(memory_format):
    """A way to store elements."""


contiguous_format, preserve_format = memory_format("contiguous_format"), memory_format("preserve_format")
channels_last, channels_last_3d = memory_format("channels_last"), memory_format("channels_last_3d")
strided = layout("strided")
_DIMS = {"channels_last": 4, "channels_last_3d": 5}


def checked(name: str, kind: Any) -> str:
    """The name of a memory format. TypeError for what is none."""
    word = getattr(kind, "name", None)
    if word not in ("contiguous_format", "preserve_format", *_DIMS):
        raise TypeError(f"{name}: wanted a memory_format, saw {type(kind).__name__}")
    return word


def in_format(name: str, x: Any, kind: Any, copy: bool) -> Any:
    """x with its elements in the order of a memory format: itself if they are so and no copy is asked for.
    RuntimeError for channels_last of other than 4 dimensions, and channels_last_3d of other than 5.
    """
    word = "preserve_format" if kind is None else checked(name, kind)
    if word in _DIMS and x.ndim != _DIMS[word]:
        raise RuntimeError(f"{name}: wanted {_DIMS[word]} dimensions for {word}, saw shape {tuple(x.shape)}")
    if not copy and (word == "preserve_format" or follows(name, x, kind)):
        return x
    if word not in _DIMS:
        return shape.clone(x, "K" if word == "preserve_format" else "C")
    there, back = axes(x.ndim)
    return shape.permute(shape.clone(shape.permute(x, there), "C"), back)


def follows(name: str, x: Any, kind: Any) -> bool:
    """Whether the elements of x lie in the order of a memory format. RuntimeError for preserve_format, which is none."""
    a, word = unwrap(x), checked(name, kind)
    if word == "preserve_format":
        raise RuntimeError(f"{name}: wanted contiguous_format or channels_last, saw preserve_format")
    if word == "contiguous_format":
        return bool(a.flags.c_contiguous)
    if a.ndim != _DIMS[word]:
        return False
    return bool(rows(a).flags.c_contiguous)

