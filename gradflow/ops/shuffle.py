"""Channels traded for pixels, and dealt out anew."""

from __future__ import annotations

from typing import Any

from . import shape


def pixel_shuffle(input: Any, upscale_factor: int) -> Any:
    """(..., c r^2, h, w) as (..., c, h r, w r), r = upscale_factor (Shi et al. 2016). RuntimeError for other c."""
    if input.ndim < 3:
        raise RuntimeError(f"pixel_shuffle: wanted at least 3 dimensions, saw shape {tuple(input.shape)}")
    *batch, c, h, w = input.shape
    r = upscale_factor
    if r <= 0 or c % (r * r):
        raise RuntimeError(f"pixel_shuffle: wanted channels divisible by {r}^2, saw {c}")
    k = len(batch)
    x = shape.reshape(input, (*batch, c // (r * r), r, r, h, w))
    x = shape.permute(x, (*range(k), k, k + 3, k + 1, k + 4, k + 2))
    return shape.reshape(x, (*batch, c // (r * r), h * r, w * r))


def pixel_unshuffle(input: Any, downscale_factor: int) -> Any:
    """(..., c, h r, w r) as (..., c r^2, h, w), r = downscale_factor. RuntimeError for other heights and widths."""
    if input.ndim < 3:
        raise RuntimeError(f"pixel_unshuffle: wanted at least 3 dimensions, saw shape {tuple(input.shape)}")
    *batch, c, h, w = input.shape
    r = downscale_factor
    if r <= 0 or h % r or w % r:
        raise RuntimeError(f"pixel_unshuffle: wanted a height and width divisible by {r}, saw {h} and {w}")
    k = len(batch)
    x = shape.reshape(input, (*batch, c, h // r, r, w // r, r))
    x = shape.permute(x, (*range(k), k, k + 2, k + 4, k + 1, k + 3))
    return shape.reshape(x, (*batch, c * r * r, h // r, w // r))


def channel_shuffle(input: Any, groups: int) -> Any:
    """Channels in groups, dealt out in turn: c = (groups, c / groups) transposed (Zhang et al. 2018)."""
    if input.ndim < 3:
        raise RuntimeError(f"channel_shuffle: wanted at least 3 dimensions, saw shape {tuple(input.shape)}")
    n, c, *rest = input.shape
    if groups <= 0 or c % groups:
        raise RuntimeError(f"channel_shuffle: wanted channels divisible by {groups} groups, saw {c}")
    x = shape.reshape(input, (n, groups, c // groups, *rest))
    return shape.reshape(shape.transpose(x, 1, 2), (n, c, *rest))


native_channel_shuffle = channel_shuffle
