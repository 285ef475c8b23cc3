"""Activations: elementwise functions, and those along one dimension, as layers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from . import functional as F
from . import init
from .module import Module
from .parameter import Parameter, blank


class _Activation(Module):
    """A function of the input and of settings, which are attributes of the same names as the function's arguments."""

    function: Callable[..., Any]
    shown: str = ""  # what repr shows, as a format string over the settings

    def _set(self, **settings: Any) -> None:
        Module.__init__(self)
        self._settings = tuple(settings)
        self.__dict__.update(settings)

    def forward(self, input: Any) -> Any:
        """The function of the input."""
        d = self.__dict__
        return type(self).function(input, *[d[name] for name in d["_settings"]])

    def extra_repr(self) -> str:
        """The settings."""
        inplace = "inplace=True" if self.__dict__.get("inplace") else ""
        return ", ".join(filter(None, (self.shown.format(**self.__dict__), inplace)))


class _Plain(_Activation):
    """An activation without settings."""

    def __init__(self) -> None:
        self._set()


class _InPlace(_Activation):
    """An activation that may write its result into its input."""

    def __init__(self, inplace: bool = False) -> None:
        self._set(inplace=inplace)


class _AlongDim(_Activation):
    shown = "dim={dim}"

    def __init__(self, dim: int | None = None) -> None:
        self._set(dim=dim)


class ReLU(_InPlace):
    """max(x, 0)."""

    function = staticmethod(F.relu)


class SELU(_InPlace):
    """scale (max(x, 0) + min(alpha (e^x - 1), 0)) with the constants of Klambauer et al. 2017."""

    function = staticmethod(F.selu)


class SiLU(_InPlace):
    """x sigmoid(x), also called swish."""

    function = staticmethod(F.silu)


class Mish(_InPlace):
    """x tanh(softplus(x)) (Misra 2019)."""

    function = staticmethod(F.mish)


class Hardswish(_InPlace):
    """x min(max(x + 3, 0), 6) / 6 (Howard et al. 2019)."""

    function = staticmethod(F.hardswish)

    def extra_repr(self) -> str:
        """Nothing, as PyTorch has it."""
        return ""


class Hardsigmoid(_InPlace):
    """min(max(x + 3, 0), 6) / 6."""

    function = staticmethod(F.hardsigmoid)

    def extra_repr(self) -> str:
        """Nothing, as PyTorch has it."""
        return ""


class Sigmoid(_Plain):
    """1 / (1 + e^-x)."""

    function = staticmethod(F.sigmoid)


class Tanh(_Plain):
    """tanh(x)."""

    function = staticmethod(F.tanh)


class LogSigmoid(_Plain):
    """log(1 / (1 + e^-x))."""

    function = staticmethod(F.logsigmoid)


class Softsign(_Plain):
    """x / (1 + |x|)."""

    function = staticmethod(F.softsign)


class Tanhshrink(_Plain):
    """x - tanh(x)."""

    function = staticmethod(F.tanhshrink)


class ELU(_Activation):
    """x for x > 0, else alpha (e^x - 1) (Clevert et al. 2016)."""

    function, shown = staticmethod(F.elu), "alpha={alpha}"

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        self._set(alpha=alpha, inplace=inplace)


class CELU(_Activation):
    """max(x, 0) + min(alpha (e^(x / alpha) - 1), 0) (Barron 2017)."""

    function, shown = staticmethod(F.celu), "alpha={alpha}"

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        self._set(alpha=alpha, inplace=inplace)


class LeakyReLU(_Activation):
    """x for x > 0, else negative_slope x."""

    function, shown = staticmethod(F.leaky_relu), "negative_slope={negative_slope}"

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        self._set(negative_slope=negative_slope, inplace=inplace)


class GELU(_Activation):
    """x Phi(x), Phi the normal distribution function or, approximate='tanh', nearly (Hendrycks and Gimpel 2016)."""

    function, shown = staticmethod(F.gelu), "approximate={approximate!r}"

    def __init__(self, approximate: str = "none") -> None:
        self._set(approximate=approximate)


class Softplus(_Activation):
    """log(1 + e^(beta x)) / beta; x itself where beta x > threshold."""

    function, shown = staticmethod(F.softplus), "beta={beta}, threshold={threshold}"

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        self._set(beta=beta, threshold=threshold)


class Hardtanh(_Activation):
    """min(max(x, min_val), max_val). ValueError unless min_val < max_val."""

    function, shown = staticmethod(F.hardtanh), "min_val={min_val}, max_val={max_val}"

    def __init__(
        self,
        min_val: float = -1.0,
        max_val: float = 1.0,
        inplace: bool = False,
        min_value: float | None = None,
        max_value: float | None = None,
    ) -> None:
        for old, value in (("min", min_value), ("max", max_value)):
            if value is not None:
                warnings.warn(
                    f"Hardtanh: {old}_value is deprecated; use {old}_val={value}", FutureWarning, stacklevel=2
                )
        min_val = min_val if min_value is None else min_value
        max_val = max_val if max_value is None else max_value
        if not min_val < max_val:
            raise ValueError(f"Hardtanh: wanted min_val < max_val, saw {min_val} and {max_val}")
        self._set(min_val=min_val, max_val=max_val, inplace=inplace)


class ReLU6(Hardtanh):
    """min(max(x, 0), 6)."""

    shown = ""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__(0.0, 6.0, inplace)


class Threshold(_Activation):
    """x where x > threshold, else value."""

    function, shown = staticmethod(F.threshold), "threshold={threshold}, value={value}"

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        self._set(threshold=threshold, value=value, inplace=inplace)


class Hardshrink(_Activation):
    """x where |x| > lambd, else 0."""

    function, shown = staticmethod(F.hardshrink), "{lambd}"

    def __init__(self, lambd: float = 0.5) -> None:
        self._set(lambd=lambd)


class Softshrink(_Activation):
    """x - lambd, x + lambd or 0, as x is above lambd, below -lambd or between."""

    function, shown = staticmethod(F.softshrink), "{lambd}"

    def __init__(self, lambd: float = 0.5) -> None:
        self._set(lambd=lambd)


class Softmax(_AlongDim):
    """e^x_i / sum_j e^x_j along dim."""

    function = staticmethod(F.softmax)


class LogSoftmax(_AlongDim):
    """x_i - log sum_j e^x_j along dim."""

    function = staticmethod(F.log_softmax)


class Softmin(_AlongDim):
    """Softmax of -x."""

    function = staticmethod(F.softmin)


class Softmax2d(_Plain):
    """Softmax over the channels of x (n, c, h, w) or (c, h, w)."""

    @staticmethod
    def function(input: Any) -> Any:
        """The softmax."""
        if input.dim() not in (3, 4):
            raise ValueError(f"Softmax2d: wanted 3-d or 4-d input, saw {input.dim()}-d")
        return F.softmax(input, -3)


class GLU(_Activation):
    """a sigmoid(b), a and b the two halves of x along dim (Dauphin et al. 2017)."""

    function, shown = staticmethod(F.glu), "dim={dim}"

    def __init__(self, dim: int = -1) -> None:
        self._set(dim=dim)


class RReLU(Module):
    """x for x > 0, else s x: s drawn uniform in (lower, upper) in training, else their mean (Xu et al. 2015)."""

    def __init__(self, lower: float = 1.0 / 8, upper: float = 1.0 / 3, inplace: bool = False) -> None:
        super().__init__()
        self.lower, self.upper, self.inplace = lower, upper, inplace

    def forward(self, input: Any) -> Any:
        """The function of the input."""
        return F.rrelu(input, self.lower, self.upper, self.training, self.inplace)

    def extra_repr(self) -> str:
        """The settings."""
        return f"lower={self.lower}, upper={self.upper}" + (", inplace=True" if self.inplace else "")


class PReLU(Module):
    """x for x >= 0, else weight x; weight is learnt, one number or one per channel (He et al. 2015)."""

    def __init__(self, num_parameters: int = 1, init: float = 0.25, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.num_parameters, self.init = num_parameters, init
        self.weight = Parameter(blank((num_parameters,), dtype, device))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Every slope as at first."""
        init.constant_(self.weight, self.init)

    def forward(self, input: Any) -> Any:
        """The function of the input."""
        return F.prelu(input, self.weight)

    def extra_repr(self) -> str:
        """The number of slopes."""
        return f"num_parameters={self.num_parameters}"
