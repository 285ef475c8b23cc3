"""Sizes that may be one number for all dimensions, as torch.nn.modules.utils has them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any


def ntuple(n: int) -> Callable[[Any], tuple]:
    """A function that makes n of a number, and a tuple of what is many already."""
    return lambda x: tuple(x) if isinstance(x, Iterable) else (x,) * n


single, pair, triple, quadruple = ntuple(1), ntuple(2), ntuple(3), ntuple(4)
