"""The error function's relatives: its inverse, scaled complement, and the normal distribution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from . import normal
from .elementwise import row
from .pointwise import exp
from .special_series import chebyshev, lifted, parts

SQRT_PI, SQRT_HALF = math.sqrt(math.pi), math.sqrt(0.5)


def _erfcx_right(x: Any) -> Any:
    """For x >= 0, by (1 + 2 x) erfcx(x) in t = (x - 3.75) / (x + 3.75) (Shepherd and Laframboise, Math. Comp. 36, 1981)."""
    t = np.where(x < 1e300, (x - 3.75) / (np.minimum(x, 1e300) + 3.75), 1.0)
    return np.where(x == 0, 1.0, chebyshev("erfcx", t, -1, 1) / (1 + 2 * x))


def _square_exp(x: Any, c: float) -> Any:
    """e^(c x^2) without the error of squaring x, which the exponential would magnify: x = h + l, h of few bits."""
    h = np.rint(x * 64) / 64
    return np.exp(c * h * h) * np.exp(c * (x - h) * (x + h))


def _erfcx(x: Any) -> Any:
    y = _erfcx_right(np.abs(x))
    return np.where(x < 0, np.where(x < -27, np.inf, 2 * _square_exp(np.maximum(x, -27.0), 1) - y), y)


def _tail_quantile(log_p: Any) -> Any:
    """z with Q(z) = p for p <= 1/4, from log p: fits in r = sqrt(-2 log p)."""
    r = np.sqrt(-2 * log_p)
    return parts(
        r < 4,
        lambda r: chebyshev("quantile_near", r, 1.6, 4),
        lambda r: parts(
            r < 10, lambda r: chebyshev("quantile_far", r, 4, 10), lambda r: chebyshev("quantile_end", r, 10, 40), r
        ),
        r,
    )


def _erfinv(x: Any) -> Any:
    t = np.abs(x)
    y = parts(
        t <= 0.5, lambda t: t * chebyshev("erfinv_middle", t * t, 0, 0.25),
        lambda t: SQRT_HALF * _tail_quantile(np.log((1 - np.minimum(t, 1 - 2.0**-54)) / 2)), t,
    )  # fmt: skip
    y = np.copysign(np.where(t < 1, y, np.where(t == 1, np.inf, np.nan)), x)
    return np.where(x != x, x, y)


def _ndtri(p: Any) -> Any:
    p1 = np.where((p > 0) & (p < 1), p, 0.5)
    q = np.minimum(p1, 1 - p1)
    tail = parts(
        q >= 0.25, lambda q: chebyshev("erfinv_middle", (2 * q - 1) ** 2, 0, 0.25) * (1 - 2 * q) / SQRT_HALF,
        lambda q: _tail_quantile(np.log(q)), q,
    )  # fmt: skip
    y = np.where(p1 > 0.5, tail, -tail)
    y = np.where(p == 0, -np.inf, np.where(p == 1, np.inf, y))
    return np.where((p >= 0) & (p <= 1), y, np.nan)


def _ndtr(x: Any) -> Any:
    t = np.minimum(np.abs(x), 40.0)
    tail = 0.5 * _erfcx_right(t * SQRT_HALF) * _square_exp(t, -0.5)
    return np.where(x != x, x, np.where(x < 0, tail, 1 - tail))


def _log_ndtr(x: Any) -> Any:
    left = np.log(_erfcx_right(np.maximum(-x, 1) * SQRT_HALF) * 0.5) - x * x * 0.5
    return np.where(x < -1, left, np.log1p(-0.5 * normal.erfc(np.maximum(x, -1) * SQRT_HALF)))


erfinv = row(
    "erfinv(x)", lifted(_erfinv), "y with erf(y) = x", floating=True, domain=(-0.95, 0.95), real=True, twin="special",
    dx=lambda g, y: g * exp(y * y) * (SQRT_PI / 2),
)  # fmt: skip
erfcx = row(
    "erfcx(x)", lifted(_erfcx), "e^(x^2) erfc(x)", floating=True, reference="special.erfcx", real=True, twin="special",
    dx=lambda g, x, y: g * 2 * (x * y - 1 / SQRT_PI),
)  # fmt: skip
ndtr = row(
    "ndtr(x)",
    lifted(_ndtr),
    "The normal distribution function",
    floating=True,
    reference="special.ndtr",
    real=True,
    twin="special",
    dx=lambda g, x: g * exp(x * x * -0.5) * (1 / math.sqrt(2 * math.pi)),
)
ndtri = row(
    "ndtri(x)",
    lifted(_ndtri),
    "The quantile of the normal distribution: y with ndtr(y) = x",
    floating=True,
    domain=(0.02, 0.98),
    reference="special.ndtri",
    real=True,
    twin="special",
    dx=lambda g, y: g * exp(y * y * 0.5) * math.sqrt(2 * math.pi),
)
log_ndtr = row(
    "log_ndtr(x)", lifted(_log_ndtr), "log ndtr(x), exact also far to the left", floating=True, domain=(-8, 4),
    reference="special.log_ndtr", real=True, twin="special", dx=lambda g, x: g / erfcx(x * -SQRT_HALF) * math.sqrt(2 / math.pi),
)  # fmt: skip
