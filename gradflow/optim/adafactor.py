"""Adafactor: an adaptive step whose second moments of a matrix are kept as one number for each row and each column."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..backend import Array, float32, namespace, on_card
from ..dtypes import finfo
from .optimizer import Optimizer, zeros


class Adafactor(Optimizer):
    """p <- p - a u / max(1, rms(u) / d), where u = g / sqrt v, with a = max(eps[1], rms(p)) min(lr, 1 / sqrt t).

    w = t^beta2_decay weighs the newest in the means R of g^2 along rows and C along columns of the last two dimensions,
    and v = R C / mean(R), at least eps[0]^2; a parameter of one dimension keeps v itself. eps[0] is None for the
    smallest eps with 1 + eps > 1 in p's dtype. p is first times 1 - lr weight_decay; maximize climbs instead.
    Made of array functions: there is no kernel of its own on the card.
    ValueError for hyperparameters out of range, RuntimeError for complex parameters.
    Shazeer and Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", 2018.
    """

    real_only = True
    by_rules = False
    _step_supports_amp_scaling = True

    def __init__(
        self, params: Iterable[Any], lr: Any = 1e-2, beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3), d: float = 1.0, weight_decay: float = 0.0, *,
        foreach: bool | None = None, maximize: bool = False,
    ) -> None:  # fmt: skip
        self.at_least_zero(lr=lr, weight_decay=weight_decay, epsilon1=eps[0] or 0, epsilon2=eps[1])
        if not beta2_decay <= 0:
            raise ValueError(f"Adafactor: wanted beta2_decay <= 0, saw {beta2_decay}")
        if not d >= 1:
            raise ValueError(f"Adafactor: wanted d >= 1, saw {d}")
        super().__init__(
            params,
            dict(
                lr=lr, beta2_decay=beta2_decay, eps=eps, d=d, weight_decay=weight_decay, foreach=foreach,
                maximize=maximize,
            ),
        )  # fmt: skip

    def init(self, p: Array, group: dict) -> dict[str, Any]:
        """A count of steps, and the mean squares of rows and columns, or of every number of a vector."""
        step = self.counter(p, group)
        if p.ndim < 2:
            return {"step": step, "variance": zeros(p)}
        return {"step": step, "row_var": zeros(p[..., :1]), "col_var": zeros(p[..., :1, :])}

    def update(self, group: dict, p: list, g: list, state: dict, step: Any, fresh: bool) -> None:
        """One step for each of p."""
        for i, x in enumerate(p):
            if not x.size:
                continue
            t = step[i] if type(step) is list else step
            weight, rate = t ** group["beta2_decay"], _extreme("minimum", group["lr"], t**-0.5)
            xp, wide = namespace(x), float32 if x.dtype.itemsize == 2 else x.dtype
            least = finfo(x.dtype).eps if group["eps"][0] is None else group["eps"][0]
            y, dy = x.astype(wide, copy=False), g[i].astype(wide, copy=False)
            size = _extreme("maximum", group["eps"][1], _rms(y)) * rate
            if group["weight_decay"]:
                y = y * (1 - group["lr"] * group["weight_decay"])
            squares = dy * dy
            if x.ndim > 1:
                row = _blend(state["row_var"][i], squares.mean(-1, keepdims=True), weight, wide)
                column = _blend(state["col_var"][i], squares.mean(-2, keepdims=True), weight, wide)
                v = row * column
                v /= xp.maximum(row.mean(-2, keepdims=True), least)
            else:
                v = _blend(state["variance"][i], squares, weight, wide)
            u = dy / xp.sqrt(xp.maximum(v, least * least))
            u *= size / _extreme("maximum", 1.0, _rms(u) / group["d"])
            x[...] = y + u if group["maximize"] else y - u


def _rms(x: Array) -> Any:
    """The root of the mean square: a number, or of an array on the card one of no dimensions there."""
    if on_card(x):
        return namespace(x).sqrt((x * x).mean())
    flat = x.reshape(-1)
    return float(flat @ flat / flat.size) ** 0.5


def _extreme(name: str, a: Any, b: Any) -> Any:
    """The minimum or maximum of two numbers, worked out where they are."""
    if on_card(a) or on_card(b):
        return getattr(namespace(a if on_card(a) else b), name)(a, b)
    return (min if name == "minimum" else max)(float(a), b)


def _blend(mean: Array, new: Array, weight: Any, wide: Any) -> Array:
    """Move a running mean towards `new` by `weight`; what it is now, in the dtype that is computed in."""
    old = mean.astype(wide, copy=False)
    now = (1 - weight) * old + weight * new
    mean[...] = now
    return now
