"""How close is close: one tolerance per dtype, for every test."""

from __future__ import annotations

from typing import Any

import numpy as np

# (relative, absolute): some tens of roundings of the dtype; half types carry one rounding of a float32 computation.
TOLERANCE = {"float64": (1e-9, 1e-11), "float32": (2e-5, 2e-6), "float16": (4e-3, 2e-3), "bfloat16": (3e-2, 2e-2)}


def tolerance(dtype: Any) -> tuple[float, float]:
    """(relative, absolute) tolerance of a dtype; exact for integers and bool."""
    name = np.dtype(dtype).name
    return TOLERANCE.get({"complex64": "float32", "complex128": "float64"}.get(name, name), (0.0, 0.0))


def assert_close(actual: Any, expected: Any, dtype: Any = None, scale: float = 1.0, what: str = "") -> None:
    """Same shape and, within `scale` times the tolerance of `dtype` (default: actual's), the same values, NaNs included."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"{what} shape {actual.shape}, expected {expected.shape}"
    relative, absolute = tolerance(dtype or actual.dtype)
    if actual.dtype.kind == "V":
        actual = actual.astype(np.float32)
    if expected.dtype.kind == "V":
        expected = expected.astype(np.float32)
    # The absolute part grows with the size of the result: an error of cancellation is relative to the terms.
    size = np.nanmax(np.abs(np.where(np.isfinite(expected), expected, 0)), initial=1.0)
    np.testing.assert_allclose(actual, expected, rtol=relative * scale, atol=absolute * scale * size, err_msg=what)
