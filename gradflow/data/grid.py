"""A wall of images: a batch as one image, to be looked at or logged."""

from __future__ import annotations

from typing import Any

from ..backend import namespace
from ..op import unwrap, wrap
from ..tape import Traced


def make_grid(tensor: Any, nrow: int = 8, padding: int = 2, pad_value: float = 0.0) -> Any:
    """Images side by side, `nrow` in a row, with `padding` pixels of pad_value around each: one image (c, height, width).

    tensor  images (n, c, h, w), a list of images (c, h, w), or one image; a single channel is repeated to three
    TypeError for what is no Tensor, ValueError for images of different shapes, and for none. As torchvision.utils.make_grid.
    """
    images = tensor if isinstance(tensor, (list, tuple)) else [tensor]
    for x in images:
        if not isinstance(x, Traced):
            raise TypeError(f"make_grid: wanted a Tensor of images or a list of them, saw {type(x).__name__}")
    arrays = [a for x in images for a in (unwrap(x) if x.ndim == 4 else [unwrap(x)])]
    if not arrays:
        raise ValueError("make_grid: wanted at least one image, saw none")
    if arrays[0].ndim not in (2, 3) or any(a.shape != arrays[0].shape for a in arrays):
        raise ValueError(f"make_grid: wanted images (c, h, w) of one shape, saw {[a.shape for a in arrays[:5]]}")
    first = arrays[0]
    h, w = first.shape[-2:]
    c = 3 if first.ndim == 2 or len(first) == 1 else len(first)
    across = min(nrow, len(arrays))
    down = -(-len(arrays) // across)
    y = namespace(first).full((c, down * (h + padding) + padding, across * (w + padding) + padding), pad_value, first.dtype)
    for i, a in enumerate(arrays):
        top, left = i // across * (h + padding) + padding, i % across * (w + padding) + padding
        y[:, top : top + h, left : left + w] = a
    return wrap(y)
