"""Orthogonal polynomials of any degree: Chebyshev's four kinds, Hermite's two, Laguerre's and Legendre's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..backend import namespace
from ..cases import case
from ..op import op
from .special_series import lifted, parts


def _recurrence(first: Callable[[Any], Any], step: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    """(x, n) -> p_n(x) by p_0 = 1, p_1 = first(x), p_(k+1) = step(k, x, p_k, p_(k-1))."""

    def polynomial(x: Any, n: Any) -> Any:
        xp = namespace(n)
        below, y = xp.ones_like(x), first(x)
        last = int(n.max()) if n.size else 0
        for k in range(1, last):
            going = n > k
            below, y = xp.where(going, y, below), xp.where(going, step(k, x, y, below), y)
        return xp.where(n == 0, 1.0, y)

    return polynomial


def _degree(polynomial: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """The same for any n: its whole part is the degree, and below 0 the value is 0."""

    def whole(x: Any, n: Any) -> Any:
        n = np.trunc(n)
        return np.where(n < 0, 0.0, polynomial(x, np.maximum(n, 0)))

    return whole


def _chebyshev(first: Callable[[Any], Any], angle: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """By the recurrence, and for high degrees inside (-1, 1) by the angle whose cosine x is (DLMF 18.5.1-4)."""
    steps = _recurrence(first, lambda k, x, y, below: 2 * x * y - below)
    return lambda x, n: parts((n > 8) & (np.abs(x) < 1), lambda x, n: angle(np.arccos(x), n), steps, x, n)


def _first(t: Any, n: Any) -> Any:
    return np.cos(n * t)


def _second(t: Any, n: Any) -> Any:
    return np.sin((n + 1) * t) / np.sin(t)


def _third(t: Any, n: Any) -> Any:
    return np.cos((n + 0.5) * t) / np.cos(t * 0.5)


def _fourth(t: Any, n: Any) -> Any:
    return np.sin((n + 0.5) * t) / np.sin(t * 0.5)


CHEBYSHEV = {
    "t": _chebyshev(lambda x: x, _first),
    "u": _chebyshev(lambda x: 2 * x, _second),
    "v": _chebyshev(lambda x: 2 * x - 1, _third),
    "w": _chebyshev(lambda x: 2 * x + 1, _fourth),
}
DEFINITIONS = {
    **{f"chebyshev_polynomial_{k}": p for k, p in CHEBYSHEV.items()},
    **{f"shifted_chebyshev_polynomial_{k}": (lambda x, n, p=p: p(2 * x - 1, n)) for k, p in CHEBYSHEV.items()},
    "hermite_polynomial_h": _recurrence(lambda x: 2 * x, lambda k, x, y, below: 2 * x * y - 2 * k * below),
    "hermite_polynomial_he": _recurrence(lambda x: x, lambda k, x, y, below: x * y - k * below),
    "laguerre_polynomial_l": _recurrence(
        lambda x: 1 - x, lambda k, x, y, below: ((2 * k + 1 - x) * y - k * below) / (k + 1)
    ),
    "legendre_polynomial_p": _recurrence(
        lambda x: x, lambda k, x, y, below: ((2 * k + 1) * x * y - k * below) / (k + 1)
    ),
}
MEANING = {
    "t": "Chebyshev's T_n(x), of the first kind", "u": "Chebyshev's U_n(x), of the second kind",
    "v": "Chebyshev's V_n(x), of the third kind", "w": "Chebyshev's W_n(x), of the fourth kind", "h": "Hermite's H_n(x)",
    "he": "Hermite's He_n(x)", "l": "Laguerre's L_n(x)", "p": "Legendre's P_n(x)",
}  # fmt: skip


def _entered(name: str) -> Callable[..., Any]:
    doc = MEANING[name.rpartition("_")[2]]
    if name.startswith("shifted"):
        doc = doc.replace("(x)", "(2 x - 1)")
    low = 0.0 if name.startswith("shifted") else -1.0
    high = 6.0 if name.startswith("hermite") else 20.0  # whose values float16 still holds

    def cases(r: Any) -> list[case]:
        def draw(*shape: int) -> Any:
            return r.uniform(low - 0.1, 1.1, *shape)

        return [
            case(draw(3, 4), 3),
            case(draw(7), r.integers(0, 7, 7).astype(float)),
            case(r.uniform(low, 1), high / 2),
            case(0.3, np.arange(6.0)),
            case(r(0), 2),
            case(draw(4, 3)[::2].T, 4),
            case(r.uniform(low, 1, 2, 1), np.array([-1.0, high])),
        ]

    return op(
        lifted(_degree(DEFINITIONS[name]), 2), name=name, signature=lambda x, n: None, promote="x n", floating=True, tensors="x|n",
        real=True, twin="special", doc=f"{doc}; 0 for n below 0. No gradient.", reference=f"special.{name}", cases=cases,
    )  # fmt: skip


chebyshev_polynomial_t = _entered("chebyshev_polynomial_t")
chebyshev_polynomial_u = _entered("chebyshev_polynomial_u")
chebyshev_polynomial_v = _entered("chebyshev_polynomial_v")
chebyshev_polynomial_w = _entered("chebyshev_polynomial_w")
shifted_chebyshev_polynomial_t = _entered("shifted_chebyshev_polynomial_t")
shifted_chebyshev_polynomial_u = _entered("shifted_chebyshev_polynomial_u")
shifted_chebyshev_polynomial_v = _entered("shifted_chebyshev_polynomial_v")
shifted_chebyshev_polynomial_w = _entered("shifted_chebyshev_polynomial_w")
hermite_polynomial_h = _entered("hermite_polynomial_h")
hermite_polynomial_he = _entered("hermite_polynomial_he")
laguerre_polynomial_l = _entered("laguerre_polynomial_l")
legendre_polynomial_p = _entered("legendre_polynomial_p")
