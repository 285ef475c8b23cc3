"""Layers that leave out elements, or whole channels, at random while training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import functional as F
from .module import Module


class _Dropout(Module):
    function: Callable[..., Any]

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"{type(self).__name__}: wanted a probability between 0 and 1, saw {p}")
        self.p, self.inplace = p, inplace

    def forward(self, input: Any) -> Any:
        """The input with parts left out in training, the input itself in evaluation."""
        return type(self).function(input, self.p, self.training, self.inplace)

    def extra_repr(self) -> str:
        """The settings."""
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_Dropout):
    """In training every element is 0 with probability p, else x / (1 - p) (Srivastava et al. 2014)."""

    function = staticmethod(F.dropout)


class Dropout1d(_Dropout):
    """In training every channel of x (n, c, w) or (c, w) is 0 with probability p, else x / (1 - p)."""

    function = staticmethod(F.dropout1d)


class Dropout2d(_Dropout):
    """In training every channel of x (n, c, h, w) or (n, c, w) is 0 with probability p, else x / (1 - p)."""

    function = staticmethod(F.dropout2d)


class Dropout3d(_Dropout):
    """In training every channel of x (n, c, d, h, w) is 0 with probability p, else x / (1 - p)."""

    function = staticmethod(F.dropout3d)


class AlphaDropout(_Dropout):
    """Dropout that keeps mean 0 and variance 1, for networks of SELUs (Klambauer et al. 2017)."""

    function = staticmethod(F.alpha_dropout)


class FeatureAlphaDropout(_Dropout):
    """AlphaDropout of whole channels."""

    function = staticmethod(F.feature_alpha_dropout)
