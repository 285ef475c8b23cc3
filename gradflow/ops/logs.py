"""Products with logarithms that are 0 where their factor is, entropy, and the logarithm of odds."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import combined, elementwise, pointwise
from .dims import other_words
from .elementwise import row


def _times(log: Any, pole: float) -> Any:
    """(a, b) -> a log(b), 0 where a is 0 unless b is NaN."""

    def product(a: Any, b: Any) -> Any:
        b = b if hasattr(b, "dtype") else elementwise.like(a, b)
        with np.errstate(all="ignore"):
            y = a * log(b)
        return np.where((a == 0) & (b == b), a * 0, y)

    return product


def _dfactor(log: Any, pole: float) -> Any:
    # log b, but 0 where both a and the logarithm's argument say that nothing counts
    def rule(g: Any, a: Any, b: Any) -> Any:
        return g * pointwise.where((a == 0) * (b <= pole), 0.0, log(b))

    return rule


xlogy = row(
    "xlogy(a, b)",
    _times(np.log, 0),
    "a log(b), and 0 where a is 0",
    floating=True,
    real=True,
    domain=(0.3, 3),
    twin="special",
    tensors="a|b",
    da=_dfactor(lambda b: pointwise.log(b), 0),
    db=lambda g, a, b: g * a / b,
)
xlog1py = row(
    "xlog1py(a, b)", _times(np.log1p, -1), "a log(1 + b), and 0 where a is 0", floating=True, real=True, domain=(-0.6, 3),
    twin="special", tensors="a|b", da=_dfactor(lambda b: pointwise.log1p(b), -1), db=lambda g, a, b: g * a / (b + 1),
    reference="special.xlog1py",
)  # fmt: skip


def _entr(x: Any) -> Any:
    with np.errstate(all="ignore"):
        y = -x * np.log(x)
    return np.where(x > 0, y, np.where(x == 0, x * 0, np.where(x != x, x, elementwise.like(x, -np.inf))))


entr = row(
    "entr(x)", _entr, "-x log(x), 0 at 0 and minus infinity below", floating=True, real=True, domain=(0.2, 3), twin="special",
    dx=lambda g, x: g * (-1 - pointwise.log(x)), reference="special.entr",
)  # fmt: skip


def _odds(x: Any) -> Any:
    with np.errstate(all="ignore"):
        return np.log(x / (1 - x))


def _dodds(g: Any, x: Any) -> Any:
    return pointwise.where((x >= 0) * (x <= 1), g / (x * (1 - x)), np.nan)


odds = row(
    "odds(x)", _odds, "log(x / (1 - x)), the inverse of sigmoid", floating=True, real=True, domain=(0.05, 0.95), twin="special",
    dx=_dodds, reference="logit",
)  # fmt: skip


@other_words
def logit(input: Any, eps: float | None = None) -> Any:
    """log(x / (1 - x)), x first clipped to [eps, 1 - eps] if eps is given."""
    x = combined.to_floating(input)
    return odds(x if eps is None else pointwise.clamp(x, eps, 1 - eps))


logaddexp2 = row(
    "logaddexp2(a, b)", np.logaddexp2, "log2(2^a + 2^b)", refuses="biu", real=True, twin="special", tensors="a b",
    da=lambda g, a, y: g * pointwise.exp2(a - y), db=lambda g, b, y: g * pointwise.exp2(b - y),
)  # fmt: skip
