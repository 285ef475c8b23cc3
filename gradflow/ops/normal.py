"""The error function and the normal distribution of arrays, by rational fits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .elementwise import like

# fmt: off
_SINGLE_P = (
    -2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05, -7.34990630326855e-04,
    -2.95459980854025e-03, -1.60960333262415e-02,
)
_SINGLE_Q = (-1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03, -1.42647390514189e-02)
_TAIL = (
    0.17087277, -0.82215223, 1.48851587, -1.13520398, 0.27886807, -0.18628806, 0.09678418, 0.37409196, 1.00002368,
    -1.26551223,
)
_INV_SQRT_PI = 0.56418958354775628695
_CODY_A = (
    1.857777061846031526730e-1, 3.16112374387056560e0, 1.13864154151050156e2, 3.77485237685302021e2,
    3.209377589138469472562e3,
)
_CODY_B = (2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.844236833439170622273e3)
_CODY_C = (
    2.15311535474403846343e-8, 5.64188496988670089e-1, 8.88314979438837594e0, 6.61191906371416295e1,
    2.98635138197400131e2, 8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3, 1.23033935479799725272e3,
)
_CODY_D = (
    1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3, 3.29079923573345963e3,
    4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942043e3,
)
_CODY_P = (
    1.63153871373020978498e-2, 3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1,
    1.60837851487422766e-2, 6.58749161529837803157e-4,
)
_CODY_Q = (
    2.56852019228982242e0, 1.87295284992346725e0, 5.27905102951428412e-1, 6.05183413124413191e-2, 2.33520497626869185443e-3,
)
# fmt: on
_SQRT_HALF = math.sqrt(0.5)


def _cody(x: Any, top: float) -> tuple[Any, Any, Any]:
    """|x|, erf(x) for |x| <= 0.46875 and erfc(|x|) beyond, up to |x| = top (W. J. Cody, Math. Comp. 23, 1969)."""
    t = np.abs(x) if x.dtype.itemsize >= 4 else np.abs(x.astype(np.float32))
    z = np.minimum(t, 0.5) ** 2
    num, den = z * _CODY_A[0], z
    for p, q in zip(_CODY_A[1:-1], _CODY_B[:-1], strict=True):
        num, den = (num + p) * z, (den + q) * z
    small = np.sign(x) * t * (num + _CODY_A[-1]) / (den + _CODY_B[-1])
    m = np.minimum(np.maximum(t, 0.46875), 4.0)
    num, den = m * _CODY_C[0], m
    for p, q in zip(_CODY_C[1:-1], _CODY_D[:-1], strict=True):
        num, den = (num + p) * m, (den + q) * m
    middle = np.exp(-m * m) * (num + _CODY_C[-1]) / (den + _CODY_D[-1])
    b = np.minimum(np.maximum(t, 4.0), top)
    w = 1 / (b * b)
    num, den = w * _CODY_P[0], w
    for p, q in zip(_CODY_P[1:-1], _CODY_Q[:-1], strict=True):
        num, den = (num + p) * w, (den + q) * w
    large = np.exp(-b * b) * (_INV_SQRT_PI - w * (num + _CODY_P[-1]) / (den + _CODY_Q[-1])) / b
    return t, small, np.where(t <= 4.0, middle, large)


def _erf_single(x: Any) -> Any:
    """erf in float32: x P(x^2) / Q(x^2), of degrees 6 and 4, with the coefficients that Eigen uses; 1 from 4 on."""
    c = np.minimum(np.maximum(x, -4), 4)
    z = c * c
    p = z * _SINGLE_P[0]
    for a in _SINGLE_P[1:-1]:
        p += a
        p *= z
    q = z * _SINGLE_Q[0]
    for a in _SINGLE_Q[1:-1]:
        q += a
        q *= z
    return np.minimum(np.maximum(c * (p + _SINGLE_P[-1]) / (q + _SINGLE_Q[-1]), -1), 1)


def erf(x: Any) -> Any:
    if x.dtype == np.float32 and type(x) is np.ndarray:
        return _erf_single(x)
    t, small, tail = _cody(x, 6.0)  # erf is 1 to the last bit from 6 on
    y = np.where(t <= 0.46875, small, np.sign(x) * (1 - tail))
    return np.where(np.isnan(t), t, y).astype(x.dtype)


def erfc(x: Any) -> Any:
    t, small, tail = _cody(x, 28.0)  # erfc is 0 in float64 from 28 on
    y = np.where(t <= 0.46875, 1 - small, np.where(x < 0, 2 - tail, tail))
    return np.where(np.isnan(t), t, y).astype(x.dtype)


def tail(x: Any) -> Any:
    """1 - Phi(|x|), exact relatively: how much of a normal distribution lies beyond |x|.

    In float32 by the Chebyshev fit of erfc in t = 1 / (1 + z / 2), to 1.2e-7 (Press et al., Numerical Recipes, 6.2).
    """
    z = np.abs(x) * like(x, _SQRT_HALF)
    if x.dtype != np.float32 or type(x) is not np.ndarray or not x.ndim:
        return erfc(z) * 0.5
    t = z * like(x, 0.5)
    t += 1
    t = 1 / t
    e = t * _TAIL[0]
    for a in _TAIL[1:-1]:
        e += a
        e *= t
    z *= z
    e -= z
    e += _TAIL[-1]
    t *= np.exp(e, out=e)
    t *= 0.5
    return t


def distribution(x: Any) -> Any:
    """Phi(x), the normal distribution function, exact relatively in both tails."""
    return (x >= 0) - np.copysign(tail(x), x)
