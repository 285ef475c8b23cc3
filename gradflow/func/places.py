"""Where the samples of a vmap go in an op that wants no dimension more: among the rows, or beside the channels."""

from __future__ import annotations

from typing import Any

from ..ops import shape as shapes


def folded(x: Any) -> Any:
    """(B, N, ...) as (B N, ...)."""
    s = tuple(x.shape)
    return shapes.reshape(x, (s[0] * s[1], *s[2:]))


def unfolded(y: Any, n: int) -> Any:
    """(B N, ...) as (B, N, ...), with n samples."""
    s = tuple(y.shape)
    return shapes.reshape(y, (n, s[0] // n if n else s[0], *s[1:]))


def beside(x: Any) -> Any:
    """(B, N, C, ...) as (N, B C, ...): the samples' channels side by side."""
    x = shapes.movedim(x, 0, 1)
    s = tuple(x.shape)
    return shapes.reshape(x, (s[0], s[1] * s[2], *s[3:]))


def apart(y: Any, n: int) -> Any:
    """(N, B C, ...) as (B, N, C, ...), with n samples."""
    s = tuple(y.shape)
    return shapes.movedim(shapes.reshape(y, (s[0], n, s[1] // n, *s[2:])), 1, 0)
