"""Bessel functions of orders 0 and 1, ordinary and modified, scaled and spherical, and Airy's function."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..cases import case
from .elementwise import row
from .pointwise import sign
from .special_series import chebyshev, lifted, parts

SQRT_PI = math.sqrt(math.pi)

# PyTorch's own J, Y and Ai are wrong by 1e-8 where they oscillate: no reference here, the tests ask mpmath.
# --- J and Y --------------------------------------------------------------------------------------------


def _waves(x: Any, order: int) -> tuple[Any, Any]:
    """J and Y for x >= 8: sqrt(2 / (pi x)) (P cos c - Q sin c) and (P sin c + Q cos c), c = x - (order / 2 + 1/4) pi."""
    v = (8 / x) ** 2
    p, q = chebyshev(f"p{order}_far", v, 0, 1), chebyshev(f"q{order}_far", v, 0, 1) / x
    c, s = np.cos(x), np.sin(x)
    cos, sin = (c + s, s - c) if order == 0 else (s - c, -s - c)  # sqrt(2) times those of c, x itself reduced exactly
    size = 1 / (SQRT_PI * np.sqrt(x))
    return size * (p * cos - q * sin), size * (p * sin + q * cos)


def _j0(x: Any) -> Any:
    t = np.abs(x)
    return parts(t <= 8, lambda t: chebyshev("j0_near", t * t, 0, 64), lambda t: _waves(t, 0)[0], t)


def _j1(x: Any) -> Any:
    t = np.abs(x)
    y = parts(t <= 8, lambda t: t * chebyshev("j1_near", t * t, 0, 64), lambda t: _waves(t, 1)[0], t)
    return np.where(x < 0, -y, y)


def _y0(x: Any) -> Any:
    def near(x: Any) -> Any:
        return chebyshev("y0_near", x * x, 0, 64) + np.log(x) * (2 / math.pi) * _j0(x)

    return np.where(x < 0, np.nan, parts(x <= 8, near, lambda x: _waves(x, 0)[1], np.abs(x)))


def _y1(x: Any) -> Any:
    def near(x: Any) -> Any:
        return x * chebyshev("y1_near", x * x, 0, 64) + (2 / math.pi) * (np.log(x) * _j1(x) - 1 / x)

    y = parts(x <= 8, near, lambda x: _waves(x, 1)[1], np.abs(x))
    return np.where(x < 0, np.nan, np.where(x == 0, -np.inf, y))


def _j(x: Any, n: int) -> Any:
    """J_n, n >= 2: the power series near 0, the recurrence upwards elsewhere (DLMF 10.2.2, 10.6.1)."""

    def near(t: Any) -> Any:
        z, term = t * t * -0.25, (t * 0.5) ** n / math.factorial(n)
        total = term
        for k in range(1, 24):
            term = term * z / (k * (n + k))
            total = total + term
        return total

    def far(t: Any) -> Any:
        a, b = _j0(t), _j1(t)
        for k in range(1, n):
            a, b = b, 2 * k / t * b - a
        return b

    t = np.abs(x)
    y = parts(t <= max(4, n), near, far, t)
    return np.where(x < 0, y * (-1) ** n, y)


_even = {"real": True, "floating": True, "domain": (-12, 12), "twin": "special"}
bessel_j0 = row("bessel_j0(x)", lifted(_j0), "J_0(x)", reference=None, dx=lambda g, x: -g * bessel_j1(x), **_even)
bessel_j1 = row(
    "bessel_j1(x)", lifted(_j1), "J_1(x)", reference=None, dx=lambda g, x: g * (bessel_j0(x) - bessel_j(x, 2)) * 0.5,
    **_even,
)  # fmt: skip
bessel_j = row(
    "bessel_j(x, n)", lifted(_j), "J_n(x), n of 2 or more", floating=True, twin=None, reference=None,
    cases=lambda r: [case(r.uniform(-12, 12, 3, 4), 2), case(r(5), 3), case(r(0), 2)],
    dx=lambda g, x, n: g * ((bessel_j1(x) if n == 2 else bessel_j(x, n - 1)) - bessel_j(x, n + 1)) * 0.5,
)  # fmt: skip
_right = {"real": True, "floating": True, "domain": (0.4, 14), "twin": "special"}
bessel_y0 = row("bessel_y0(x)", lifted(_y0), "Y_0(x)", reference=None, dx=lambda g, x: -g * bessel_y1(x), **_right)
bessel_y1 = row(
    "bessel_y1(x)", lifted(_y1), "Y_1(x)", reference=None, dx=lambda g, x, y: g * (bessel_y0(x) - y / x), **_right
)


# --- I and K --------------------------------------------------------------------------------------------


def _i0e(x: Any) -> Any:
    t = np.abs(x)
    return parts(
        t <= 8, lambda t: chebyshev("i0_near", t, 0, 8), lambda t: chebyshev("i0_far", 8 / t, 0, 1) / np.sqrt(t), t
    )


def _i1e(x: Any) -> Any:
    t = np.abs(x)
    y = parts(
        t <= 8, lambda t: t * chebyshev("i1_near", t, 0, 8), lambda t: chebyshev("i1_far", 8 / t, 0, 1) / np.sqrt(t), t
    )
    return np.where(x < 0, -y, y)


def _i(x: Any, n: int) -> Any:
    """e^-|x| I_n, n >= 2: the power series, all of one sign, up to 20, the recurrence beyond (DLMF 10.25.2, 10.29.1)."""

    def near(t: Any) -> Any:
        z, term = t * t * 0.25, (t * 0.5) ** n / math.factorial(n)
        total = term
        for k in range(1, 48):
            term = term * z / (k * (n + k))
            total = total + term
        return total * np.exp(-t)

    def far(t: Any) -> Any:
        a, b = _i0e(t), _i1e(t)
        for k in range(1, n):
            a, b = b, a - 2 * k / t * b
        return b

    t = np.abs(x)
    y = parts(t <= max(20, n * n), near, far, t)
    return np.where(x < 0, y * (-1) ** n, y)


def _k(order: int) -> Any:
    """(x, scaled) -> K_order(x), or e^x times it."""

    def k(x: Any, scaled: bool) -> Any:
        def near(x: Any) -> Any:
            size = np.exp(x) if scaled else 1.0
            log_half = np.log(x * 0.5)
            if order == 0:
                return size * (chebyshev("k0_near", x * x, 0, 4) - log_half * _i0e(x) * np.exp(x))
            return size * (chebyshev("k1_near", x * x, 0, 4) / x + log_half * _i1e(x) * np.exp(x))

        def far(x: Any) -> Any:
            y = chebyshev(f"k{order}_far", 2 / x, 0, 1) / np.sqrt(x)
            return y if scaled else y * np.exp(-x)

        y = parts(x <= 2, near, far, np.abs(x))
        return np.where(x < 0, np.nan, np.where(x == 0, np.inf, y))

    return k


_k0, _k1 = _k(0), _k(1)
modified_bessel_i0 = row(
    "i0(x)",
    lifted(lambda x: np.exp(np.abs(x)) * _i0e(x)),
    "I_0(x)",
    reference="special.i0",
    dx=lambda g, x: g * i1(x),
    **_even,
)
i0 = modified_bessel_i0
i1 = modified_bessel_i1 = row(
    "i1(x)", lifted(lambda x: np.exp(np.abs(x)) * _i1e(x)), "I_1(x)", reference="special.i1",
    dx=lambda g, x: g * (i0(x) + bessel_i(x, 2)) * 0.5, **_even,
)  # fmt: skip
bessel_i = row(
    "bessel_i(x, n)", lifted(lambda x, n: np.exp(np.abs(x)) * _i(x, n)), "I_n(x), n of 2 or more", floating=True, twin=None,
    reference=None, cases=lambda r: [case(r.uniform(-5, 5, 3, 4), 2), case(r(5), 3), case(r(0), 2)],
    dx=lambda g, x, n: g * ((i1(x) if n == 2 else bessel_i(x, n - 1)) + bessel_i(x, n + 1)) * 0.5,
)  # fmt: skip
i0e = row(
    "i0e(x)",
    lifted(_i0e),
    "e^-|x| I_0(x)",
    reference="special.i0e",
    kinks=(0,),
    dx=lambda g, x, y: g * (i1e(x) - sign(x) * y),
    **_even,
)
i1e = row(
    "i1e(x)",
    lifted(_i1e),
    "e^-|x| I_1(x)",
    reference="special.i1e",
    kinks=(0,),
    dx=lambda g, x, y: g * ((i0e(x) + bessel_ie(x, 2)) * 0.5 - sign(x) * y),
    **_even,
)
bessel_ie = row(
    "bessel_ie(x, n)", lifted(_i), "e^-|x| I_n(x), n of 2 or more", floating=True, twin=None, reference=None,
    cases=lambda r: [case(r.uniform(0.2, 40, 3, 4), 2), case(r(5), 3), case(r(0), 2)],
    dx=lambda g, x, y, n: g * (((i1e(x) if n == 2 else bessel_ie(x, n - 1)) + bessel_ie(x, n + 1)) * 0.5 - sign(x) * y),
)  # fmt: skip
modified_bessel_k0 = row(
    "modified_bessel_k0(x)", lifted(lambda x: _k0(x, False)), "K_0(x)", reference="special.modified_bessel_k0",
    dx=lambda g, x: -g * modified_bessel_k1(x), **_right,
)  # fmt: skip
modified_bessel_k1 = row(
    "modified_bessel_k1(x)", lifted(lambda x: _k1(x, False)), "K_1(x)", reference="special.modified_bessel_k1",
    dx=lambda g, x, y: -g * (modified_bessel_k0(x) + y / x), **_right,
)  # fmt: skip
scaled_modified_bessel_k0 = row(
    "scaled_modified_bessel_k0(x)", lifted(lambda x: _k0(x, True)), "e^x K_0(x)", reference="special.scaled_modified_bessel_k0",
    dx=lambda g, x, y: g * (y - scaled_modified_bessel_k1(x)), **_right,
)  # fmt: skip
scaled_modified_bessel_k1 = row(
    "scaled_modified_bessel_k1(x)", lifted(lambda x: _k1(x, True)), "e^x K_1(x)", reference="special.scaled_modified_bessel_k1",
    dx=lambda g, x, y: g * (y - scaled_modified_bessel_k0(x) - y / x), **_right,
)  # fmt: skip

# --- sin(x) / x -----------------------------------------------------------------------------------------


def _sine_ratio(x: Any, n: int) -> Any:
    """The n-th derivative of sin(x) / x: the power series near 0, elsewhere x s_n + n s_(n-1) = sin(x + n pi / 2)."""

    def near(x: Any) -> Any:
        first = (n + 1) // 2  # the first power 2k that is not differentiated away
        z, total = -x * x, 0.0
        term = (-1) ** first * x ** (2 * first - n) / ((2 * first + 1) * math.factorial(2 * first - n))
        for k in range(first, first + 16 + n):
            total = total + term
            term = term * z * ((2 * k + 1) / ((2 * k + 3) * (2 * k + 1 - n) * (2 * k + 2 - n)))
        return total

    def far(x: Any) -> Any:
        s, c = np.sin(x), np.cos(x)
        y = s / x
        for k in range(1, n + 1):
            y = ((c, -s, -c, s)[(k - 1) % 4] - k * y) / x
        return np.where(np.isinf(x), 0.0, y)

    return parts(np.abs(x) <= 1 + n, near, far, x)


sine_ratio = row(
    "sine_ratio(x, n)",
    lifted(_sine_ratio),
    "The n-th derivative of sin(x) / x",
    floating=True,
    twin="special",
    reference=None,
    cases=lambda r: [
        case(r.uniform(-9, 9, 3, 4), 1),
        case(r(7), 2),
        case(np.zeros(()), 1),
        case(r(0), 3),
        case(r.uniform(-1, 1, 5), 0),
    ],
    dx=lambda g, x, n: g * sine_ratio(x, n + 1),
)
spherical_bessel_j0 = row(
    "spherical_bessel_j0(x)",
    lifted(lambda x: _sine_ratio(x, 0)),
    "sin(x) / x, and 1 at 0",
    reference="special.spherical_bessel_j0",
    dx=lambda g, x: g * sine_ratio(x, 1),
    **_even,
)


def _sinc(x: Any) -> Any:
    t = math.pi * np.where(x == 0, 1.0, x)
    return np.where(x == 0, 1.0, np.sin(t) / t)


sinc = row("sinc(x)", lifted(_sinc), "sin(pi x) / (pi x), and 1 at 0", floating=True, twin="special",
    dx=lambda g, x: g * math.pi * sine_ratio(x * math.pi, 1))  # fmt: skip

# --- Airy -----------------------------------------------------------------------------------------------


def _airy(x: Any, name: str) -> Any:
    """Ai or Ai': oscillating to the left, decaying to the right, fits between (DLMF 9.7)."""
    slope = name == "airy_slope"

    def left(x: Any) -> Any:
        z = -x
        zeta = z * np.sqrt(z) * (2 / 3)
        v = ((16 / 3) / zeta) ** 2
        f, g = chebyshev(f"{name}_cos", v, 0, 1), chebyshev(f"{name}_sin", v, 0, 1) / zeta
        c, s = np.cos(zeta), np.sin(zeta)
        c, s = (c + s) * math.sqrt(0.5), (s - c) * math.sqrt(0.5)  # of zeta - pi / 4
        root = np.sqrt(np.sqrt(z))
        return (f * s - g * c) * root / SQRT_PI if slope else (f * c + g * s) / (root * SQRT_PI)

    def right(x: Any) -> Any:
        root = np.sqrt(x)
        zeta = x * root * (2 / 3)
        y = chebyshev(f"{name}_decay", (2 / 3 * 2**1.5) / zeta, 0, 1) * np.exp(-zeta) / (2 * SQRT_PI)
        return -y * np.sqrt(root) if slope else y / np.sqrt(root)

    def middle(x: Any) -> Any:
        return parts(
            x < -1, lambda x: chebyshev(f"{name}_left", x, -4, -1), lambda x: chebyshev(f"{name}_middle", x, -1, 2), x
        )

    return parts(x > 2, right, lambda x: parts(x < -4, left, middle, x), x)


airy_ai = row(
    "airy_ai(x)",
    lifted(lambda x: _airy(x, "airy")),
    "Airy's function Ai(x)",
    floating=True,
    domain=(-9, 6),
    real=True,
    twin="special",
    reference=None,
    dx=lambda g, x: g * airy_slope(x),
)
airy_slope = row(
    "airy_slope(x)", lifted(lambda x: _airy(x, "airy_slope")), "Ai'(x)", floating=True, domain=(-9, 6), real=True, twin="special",
    reference=None, dx=lambda g, x: g * x * airy_ai(x),
)  # fmt: skip
