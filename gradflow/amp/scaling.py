"""What a gradient scaler computes: whether gradients are finite, what they are unscaled, which scale comes next."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import kernel
from ..backend import Array, float32, namespace, on_card
from ..cases import case

WIDE = np.float32


def _cases(r: Any) -> list[case]:
    cases = [case(g, np.array(4.0), np.array(0.0)) for g in (r(3, 4), r(9001), r(), r(0), r(8, 3).T)]
    for bad in (np.inf, -np.inf, np.nan):
        g = r(8193)
        g[-1] = bad
        cases += [case(g, np.array(0.5), np.array(0.0)), case(g[:8192], np.array(0.5), np.array(0.0)), case(g, None, np.array(0.0))]
    return [*cases, case(r(2, 5), None, np.array(1.0)), case(r(33)[1:], None, np.array(0.0))]


@kernel.kernel("amp", cases=_cases)
def unscale(g: Array, scale: Array | None, found: Array) -> tuple[Array, Array]:
    """(g / scale, found or whether an element of g is not finite); without a scale g as it is."""
    xp = namespace(g)
    seen = xp.maximum(found, (~xp.isfinite(g)).any())
    if scale is None:
        return g, seen.astype(found.dtype)
    wide = g.astype(float32) if g.dtype.itemsize == 2 else g
    with np.errstate(all="ignore"):
        return (wide * inverse(scale).astype(wide.dtype)).astype(g.dtype), seen.astype(found.dtype)


def inverse(scale: Array) -> Array:
    """1 / scale in float32, rounded once."""
    return (1 / scale.astype(np.float64)).astype(float32)


@kernel.kernel(
    "amp",
    cases=lambda r: [
        case(np.array(1024.0), np.array(n), np.array(found), 2.0, 0.5, 4) for n in (0, 2, 3) for found in (0.0, 1.0)
    ]
    + [case(np.array(1024.0), np.array(0), np.array(0.0), 3e38, 0.5, 1)],
)
def update_scale(
    scale: Array, tracker: Array, found: Array, growth: float, backoff: float, interval: int
) -> tuple[Array, Array]:
    """(scale, tracker): times backoff where a gradient was found that is not finite, times growth after `interval` steps in
    a row where none was, unless beyond float32.
    """
    xp = namespace(scale)
    good = xp.where(found != 0, 0, tracker + 1)
    with np.errstate(over="ignore"):
        grown = (scale.astype(np.float64) * growth).astype(float32)
    grown = xp.where((good == interval) & xp.isfinite(grown), grown, scale)
    new = xp.where(found != 0, scale * backoff, grown).astype(scale.dtype)
    return new, xp.where(good == interval, 0, good).astype(tracker.dtype)


def unscale_all(arrays: list[Array], scale: Array | None, found: Array) -> None:
    """unscale of many arrays of one dtype on one device, in place; on the card in one launch."""
    if on_card(arrays[0]) and not kernel.definitions_only:
        unscale.twin(arrays, scale, found)  # type: ignore[misc]
        return
    for g in arrays:
        y, found[...] = unscale.definition(g, scale, found)
        if y is not g:
            g[...] = y
