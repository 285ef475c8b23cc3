"""What of a Tensor differs while gradflow answers to the name torch: its dtype is torch.float32, and it prints so."""

from __future__ import annotations

from typing import Any

from .. import printing
from ..tensor import Tensor
from . import dtype as dtypes

_before: dict[str, Any] = {}


@property  # type: ignore[misc]
def _dtype(self: Any) -> dtypes.dtype:
    """The dtype of its elements."""
    return dtypes.of(self.array.dtype)


def put_on() -> None:
    """Tensors look as PyTorch's."""
    _before.update(dtype=Tensor.__dict__["dtype"], package=printing.package)
    Tensor.dtype = _dtype  # type: ignore[method-assign, assignment]
    printing.package = "torch"


def take_off() -> None:
    """Tensors look as gradflow's own."""
    Tensor.dtype = _before["dtype"]  # type: ignore[method-assign]
    printing.package = _before["package"]
