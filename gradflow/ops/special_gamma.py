"""The gamma function's family: log gamma and its derivatives, Hurwitz's zeta, the incomplete gamma functions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..cases import case
from . import combined, normal, pointwise
from .dims import other_words
from .elementwise import row
from .special_series import chebyshev, horner, lifted, parts
from .special_tables import POWERS, TEMME

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def undifferentiable(name: str, by: str) -> Any:
    """The rule for an input by which an op is not differentiated."""

    def rule(g: Any) -> Any:
        raise NotImplementedError(f"{name}: the derivative by {by} is not implemented")

    return rule


def fraction(x: Any) -> Any:
    """x less the nearest integer, exactly: sin and tan of pi x by it lose nothing."""
    return x - np.rint(x)


def _stirling(x: Any) -> Any:
    """log gamma(x) - ((x - 1/2) log x - x + log sqrt(2 pi)), for x of 8 and more."""
    return horner(POWERS["stirling"], 1 / (x * x)) / x


def _lgamma_large(x: Any) -> Any:
    return np.where(x == np.inf, x, (x - 0.5) * np.log(x) - x + HALF_LOG_2PI + _stirling(x))


def _lgamma_small(x: Any) -> Any:
    """For 0 <= x < 8, by (y - 1) (y - 2) P(y) on [1.5, 2.5]: exact relatively where x is near 1 and 2, the zeros."""
    low, middle = x < 0.5, (x >= 0.5) & (x < 1.5)
    y, p = x, x * 0 + 1
    for _ in range(6):
        over = y > 2.5
        y = np.where(over, y - 1, y)
        p = np.where(over, p * y, p)
    e = np.where(low, x, np.where(middle, x - 1, y - 2))
    shift = np.where(low, np.log(x) + np.log1p(x), np.where(middle, np.log1p(x - 1), 0))
    return (1 + e) * e * chebyshev("gamma_middle", e, -0.5, 0.5) + np.log(p) - shift


def _lgamma_positive(x: Any) -> Any:
    return parts(x >= 8, _lgamma_large, _lgamma_small, x)


def _lgamma(x: Any) -> Any:
    t = np.abs(x)
    y = _lgamma_positive(t)
    reflected = math.log(math.pi) - np.log(np.abs(np.sin(math.pi * fraction(x)))) - np.log(t) - y
    y = np.where(x < 0, reflected, y)
    return np.where(t == np.inf, np.inf, np.where(x != x, x, y))


def _digamma(x: Any) -> Any:
    """By the asymptotic series from 10 on, the recurrence below, the reflection below 0 (DLMF 5.5, 5.11.2)."""
    y = np.where(x < 0, 1 - x, x)
    total = np.zeros_like(x)
    for _ in range(10):
        below = y < 10
        total = total + np.where(below, 1 / y, 0)
        y = np.where(below, y + 1, y)
    z = 1 / (y * y)
    y = np.log(y) - 0.5 / y - z * horner(POWERS["digamma_far"], z) - total
    f = fraction(x)
    y = np.where(x < 0, np.where(f == 0, np.nan, y - math.pi / np.tan(math.pi * f)), y)
    return np.where(x == 0, np.copysign(np.inf, -x), y)


def _zeta_positive(s: Any, q: Any) -> Any:
    """sum (q + k)^-s for q > 0: 9 terms and Euler and Maclaurin's formula for the rest (DLMF 25.11.28)."""
    total = np.zeros_like(q)
    a = q
    for _ in range(9):
        total = total + a**-s
        a = a + 1
    last = a**-s
    z, term, rest = 1 / (a * a), s / a, 0.0
    for k, c in enumerate(POWERS["euler"]):
        rest = rest + c * term
        term = term * (s + 2 * k + 1) * (s + 2 * k + 2) * z
    tail = last * (a / (s - 1) + 0.5 + rest)
    return total + np.where(last == 0, 0, tail)


def _zeta_negative(s: Any, q: Any) -> Any:
    """For q < 0 and whole s: the terms below 0 are a stretch of another zeta, with the sign (-1)^s."""
    f = -q - np.floor(-q)
    below = _zeta_positive(s, f) - _zeta_positive(s, 1 - q)
    y = np.where(np.remainder(s, 2) == 0, below, -below) + _zeta_positive(s, 1 - f)
    return np.where(f == 0, np.inf, np.where(s == np.floor(s), y, np.nan))


def _zeta(s: Any, q: Any) -> Any:
    y = parts(q > 0, _zeta_positive, _zeta_negative, s, q)
    y = np.where((q == np.floor(q)) & (q <= 0), np.inf, y)
    y = np.where(s == 1, np.inf, np.where(s < 1, np.nan, y))
    return np.where((s != s) | (q != q), np.nan, y)


def _polygamma(x: Any, n: int) -> Any:
    if n == 0:
        return _digamma(x)
    y = _zeta(np.full(x.shape, n + 1.0) if type(x) is np.ndarray else x * 0 + (n + 1.0), x)
    return y * math.gamma(n + 1.0) * (1 if n % 2 else -1)


lgamma = row(
    "lgamma(x)", lifted(_lgamma), "log |gamma(x)|", floating=True, domain=(0.2, 12), real=True, twin="special",
    dx=lambda g, x: g * digamma(x),
)  # fmt: skip
digamma = row(
    "digamma(x)", lifted(_digamma), "The derivative of log gamma", floating=True, domain=(0.2, 12), real=True, twin="special",
    dx=lambda g, x: g * polygamma_of(x, 1),
)  # fmt: skip
polygamma_of = row(
    "polygamma_of(x, n)", lifted(_polygamma), "The n-th derivative of digamma: (-1)^(n+1) n! zeta(n + 1, x)", floating=True,
    real=True, twin="special", dx=lambda g, x, n: g * polygamma_of(x, n + 1), reference=lambda torch, x, n: torch.polygamma(n, x),
    cases=lambda r: [
        case(r.uniform(0.3, 12, 3, 4), 1), case(r.uniform(0.3, 12, 7), 2), case(r.uniform(0.5, 3), 5),
        case(r.uniform(0.3, 12, 4, 3).T, 3), case(r(0), 2), case(r.uniform(-1.9, -1.1, 4), 1),
        case(r.uniform(-1.9, -1.1, 4), 2), case(r.uniform(0.3, 12, 3), 0),
    ],
)  # fmt: skip


@other_words
def polygamma(n: Any, input: Any) -> Any:
    """The n-th derivative of digamma; as a method, the tensor comes first. RuntimeError for n below 0."""
    if hasattr(n, "dtype") and not hasattr(input, "dtype"):
        n, input = input, n
    if n < 0:
        raise RuntimeError(f"polygamma: wanted n of at least 0, saw {n}")
    return polygamma_of(input, int(n))


@other_words
def mvlgamma(input: Any, p: int) -> Any:
    """log of the p-variate gamma function: sum of lgamma(x - j / 2), j < p, + p (p - 1) / 4 log pi."""
    if p < 1:
        raise RuntimeError(f"mvlgamma: wanted p of at least 1, saw {p}")
    x = combined.to_floating(input)
    total = lgamma(x)
    for j in range(1, p):
        total = total + lgamma(x - j / 2)
    return total + p * (p - 1) / 4 * math.log(math.pi)


zeta = row(
    "zeta(a, b)",
    lifted(_zeta, 2),
    "Hurwitz's zeta function: the sum of (b + k)^-a over k >= 0",
    floating=True,
    real=True,
    twin="special",
    tensors="a|b",
    da=undifferentiable("zeta", "its first argument"),
    db=lambda g, a, b: -g * a * zeta(a + 1, b),
    reference="special.zeta",
    cases=lambda r: [
        case(2.5, r.uniform(0.3, 12, 3, 4)),
        case(1.1, r.uniform(0.3, 12, 5)),
        case(r.uniform(1.2, 9, 3, 4), r.uniform(0.3, 12, 4), grad=False),
        case(3.0, r.uniform(-1.9, -1.1, 4)),
        case(r.uniform(2, 4), 1.0, grad=False),
        case(2.0, r(0)),
        case(30.0, r.uniform(0.3, 40, 7)),
    ],
)


# --- the incomplete gamma functions -------------------------------------------------------------------


def _exponent(a: Any, x: Any) -> Any:
    """u - log(1 + u) of u = x / a - 1, exact relatively also near 0: log(1 + u) = 2 atanh(u / (2 + u))."""
    u = (x - a) / a
    r = u / (2 + u)
    z = np.where(np.abs(u) < 0.4, r * r, 0)
    tail = horner(tuple(1 / (2 * k + 3) for k in range(12)), z)  # 2 r (z / 3 + z^2 / 5 ...)
    return np.where(np.abs(u) < 0.4, r * u - 2 * r * z * tail, u - np.log(x / a))


def _density(a: Any, x: Any) -> Any:
    """x^a e^-x / gamma(a + 1); for large a by x / a - 1, as the logarithms would cancel."""
    large = np.exp(-a * _exponent(a, x) - _stirling(np.maximum(a, 8))) / np.sqrt(2 * math.pi * a)
    small = np.exp(a * np.log(x) - x - _lgamma(a + 1))
    return np.where(a >= 8, large, small)


def _gamma_series(a: Any, x: Any) -> Any:
    """P(a, x), for x < a + 1: density times the sum of x^k / ((a + 1) ... (a + k)) (DLMF 8.11.4)."""
    term = total = x * 0 + 1
    for k in range(1, 5000):
        term = term * (x / (a + k))
        total = total + term
        if k % 8 == 0 and not bool((term > total * 1e-17).any()):
            break
    return _density(a, x) * total


def _gamma_fraction(a: Any, x: Any) -> Any:
    """Q(a, x), for x > a + 1: density a times Legendre's continued fraction, forward by Lentz's method (DLMF 8.9.2)."""
    b = x + 1 - a
    c, d = b * 0 + 1e300, 1 / b
    f = d
    for k in range(1, 5000):
        step = -k * (k - a)
        b = b + 2
        d = step * d + b
        c = b + step / c
        d = 1 / np.where(d == 0, 1e-300, d)
        ratio = c * d
        f = f * ratio
        if k % 8 == 0 and not bool((np.abs(ratio - 1) > 1e-16).any()):
            break
    return _density(a, x) * a * f


def _gamma_uniform(a: Any, x: Any, upper: bool) -> Any:
    """P or Q for large a and x near it, by Temme's uniform expansion (DLMF 8.12)."""
    u = (x - a) / a
    half = _exponent(a, x)
    eta = np.copysign(np.sqrt(2 * np.maximum(half, 0)), u)
    total = x * 0
    for c in TEMME[::-1]:
        total = total / a + horner(c, eta)
    rest = np.exp(-a * half) / np.sqrt(2 * math.pi * a) * total
    sign = 1 if upper else -1
    return 0.5 * normal.erfc(sign * eta * np.sqrt(a / 2)) + sign * rest


def _gammas(a: Any, x: Any, upper: bool) -> Any:
    def away(a: Any, x: Any) -> Any:
        def series(a: Any, x: Any) -> Any:
            p = _gamma_series(a, x)
            return 1 - p if upper else p

        def fraction(a: Any, x: Any) -> Any:
            q = _gamma_fraction(a, x)
            return q if upper else 1 - q

        # to the right of the middle where the series still converges quickly, but P would be near 1
        return parts(x < np.maximum(a, 1.0) + (a > 1), series, fraction, a, x)

    usual = (a > 0) & (x > 0) & (a < np.inf) & (x < np.inf)
    a1, x1 = np.where(usual, a, 1.0), np.where(usual, x, 1.0)
    if upper:
        # Q = 1 - P cancels where a and x are small: there P is 1 less something small, which is computed directly
        small = usual & (x1 < 1) & (a1 < 1)
        y = parts(small, _gamma_small, lambda a, x: _gammas_wide(a, x, upper, away), a1, x1)
    else:
        y = _gammas_wide(a1, x1, upper, away)
    zero = 1.0 if upper else 0.0
    y = np.where((x == 0) & (a > 0), zero, y)
    y = np.where((a == 0) & (x > 0), 1 - zero, y)
    y = np.where((x == np.inf) & (a < np.inf), 1 - zero, y)
    y = np.where((a == np.inf) & (x < np.inf), zero, y)
    bad = (a < 0) | (x < 0) | (a != a) | (x != x) | ((a == 0) & (x == 0)) | ((a == np.inf) & (x == np.inf))
    return np.where(bad, np.nan, y)


def _gammas_wide(a: Any, x: Any, upper: bool, away: Any) -> Any:
    return parts((a >= 100) & (np.abs(x - a) < 0.35 * a), lambda a, x: _gamma_uniform(a, x, upper), away, a, x)


def _gamma_small(a: Any, x: Any) -> Any:
    """Q(a, x) for a, x < 1: 1 - x^a / gamma(a + 1) less the alternating rest of the series (DLMF 8.7.3)."""
    power = a * np.log(x) - _lgamma(a + 1)
    total, term = x * 0, x * 0 + 1
    for k in range(1, 24):
        term = term * -x / k
        total = total + term / (a + k)
    return -np.expm1(power) - np.exp(power) * a * total


def _gamma_slope(a: Any, x: Any) -> Any:
    """The density of the gamma distribution, dP/dx: x^(a - 1) e^-x / gamma(a)."""
    return pointwise.exp((a - 1) * pointwise.log(x) - x - lgamma(a))


_gamma_cases = {
    "cases": lambda r: [
        case(r.integers(1, 3, 3, 4), r.uniform(0.3, 9, 3, 4)),
        case(np.array(2), r.uniform(0.3, 9, 7)),
        case(r.uniform(0.3, 9, 3, 4), r.uniform(0.3, 9, 3, 4), grad=False),
        case(np.array(2.5), r.uniform(0.3, 9, 7), grad=False),
        case(np.array([0.4]), r.uniform(0.1, 2, 3), grad=False),
        case(r.uniform(0.3, 9, 3, 1), r.uniform(0.3, 9, 4), grad=False),
        case(r.uniform(100, 400, 6), r.uniform(100, 400, 6), grad=False),
        case(np.array(2.0), r.uniform(3, 5), grad=False),
        case(np.ones(1), r(0), grad=False),
        case(r.uniform(0.3, 9, 4, 2).T, r.uniform(0.3, 9, 2, 4), grad=False),
    ],
}
igamma = row(
    "igamma(a, b)", lifted(lambda a, x: _gammas(a, x, False), 2), "P(a, b), the regularised lower incomplete gamma function",
    floating=True, real=True, twin="special", tensors="a b", da=undifferentiable("igamma", "its first argument"),
    db=lambda g, a, b: g * _gamma_slope(a, b), **_gamma_cases,
)  # fmt: skip
igammac = row(
    "igammac(a, b)", lifted(lambda a, x: _gammas(a, x, True), 2), "Q(a, b) = 1 - P(a, b)", floating=True, real=True, twin="special",
    tensors="a b", da=undifferentiable("igammac", "its first argument"), db=lambda g, a, b: -g * _gamma_slope(a, b), **_gamma_cases,
)  # fmt: skip
