"""What of a Tensor differs while gradflow answers to the name torch: its dtype is torch.float32, and it prints so."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import printing
from ..tensor import Tensor
from . import dtype as dtypes

_before: dict[str, Any] = {}


@property  # type: ignore[misc]
def _dtype(self: Any) -> dtypes.dtype:
    """The dtype of its elements."""
    return dtypes.of(self.array.dtype)


def _type(self: Any, dtype: Any = None, non_blocking: bool = False, **kwargs: Any) -> Any:
    """Itself with another dtype; without one, the name of its class: torch.FloatTensor."""
    if dtype is None:
        return dtypes.type_name(self)
    if isinstance(dtype, str):
        where = "cuda" if dtype.startswith("torch.cuda.") else "cpu" if dtype.endswith("Tensor") else None
        return self.to(dtype=dtypes.called(dtype), device=where)
    return self.to(dtype=np.dtype(dtype), device=getattr(dtype, "device", None))


def put_on() -> None:
    """Tensors look as PyTorch's."""
    _before.update(dtype=Tensor.__dict__["dtype"], type=Tensor.__dict__["type"], package=printing.package)
    Tensor.dtype, Tensor.type = _dtype, _type  # type: ignore[method-assign, assignment]
    printing.package = "torch"


def take_off() -> None:
    """Tensors look as gradflow's own."""
    Tensor.dtype, Tensor.type = _before["dtype"], _before["type"]  # type: ignore[method-assign]
    printing.package = _before["package"]
