"""Results written into tensors that the caller gives: out=."""

from __future__ import annotations

from typing import Any

from ..tape import Traced, mode
from ..traced import current


def written(name: str, y: Any, out: Any) -> Any:
    """`out` with y written into it, and of y's shape; y itself where out is None. Several results want as many tensors.

    RuntimeError for another dtype, and where a gradient is asked for: it would be lost. TypeError for no tensor.
    """
    if out is None:
        return y
    if isinstance(y, tuple):
        if not isinstance(out, (tuple, list)) or len(out) != len(y):
            raise TypeError(f"{name}: wanted out to be {len(y)} tensors, saw {type(out).__name__}")
        parts = [written(name, v, o) for v, o in zip(y, out, strict=True)]
        return type(y)(*parts) if hasattr(y, "_fields") else tuple(parts)
    if not isinstance(out, Traced):
        raise TypeError(f"{name}: wanted out to be a tensor, saw {type(out).__name__}")
    if mode.enabled and (current(out) is not None or (isinstance(y, Traced) and current(y) is not None)):
        raise RuntimeError(f"{name}: wanted out only without gradients, saw a tensor that requires one")
    array = y.array if isinstance(y, Traced) else y
    if out.array.dtype != array.dtype:
        raise RuntimeError(f"{name}: wanted out of {array.dtype}, saw {out.array.dtype}")
    if out.array.shape == array.shape:
        out.array[...] = array
    else:
        out.array = array.copy()
    out.version.bump()
    return out
