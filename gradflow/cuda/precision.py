"""How precisely float32 matrices are multiplied on the card: in float32, or rounded to TF32's ten bits of fraction.

The names and meanings are PyTorch's. CuPy's own products obey too; until the precision is set they obey CUPY_TF32.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from .. import backend
from . import launch

PRECISIONS = ("highest", "high", "medium")

_precision = "highest"
_conv_tf32 = True
_told: Any = None  # the (CuPy module, precision) that CuPy's products obey


def get_float32_matmul_precision() -> str:
    """What set_float32_matmul_precision set: "highest" unless it was called."""
    return _precision


def set_float32_matmul_precision(precision: str) -> None:
    """"highest": float32; "high" and "medium": TF32 where the card has it. Products on the CPU are of float32 always.

    RuntimeError for another word.
    """
    global _precision
    if precision not in PRECISIONS:
        raise RuntimeError(f"set_float32_matmul_precision: wanted highest, high or medium, saw {precision!r}")
    _precision = precision


def tf32() -> bool:
    """Whether float32 products on the current card are of TF32; CuPy's own products do likewise from here on."""
    global _told
    cp = backend.card()
    if _told is None and _precision == "highest":  # CuPy's own default
        return False
    on = _precision != "highest" and launch.capability() >= (8, 0)
    if _told != (cp, on):
        linalg = cp._core._routines_linalg  # its only way: cupy has no public name for it
        kind = linalg.COMPUTE_TYPE_TF32 if on else linalg.COMPUTE_TYPE_DEFAULT
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cp._core.set_compute_type(np.float32, kind)
        _told = cp, on
    return on


def conv_tf32(on: bool | None = None) -> bool:
    """Whether convolutions of float32 may round to TF32, as PyTorch's do unless told otherwise; with an argument, whether
    they shall: torch.backends.cudnn.allow_tf32.
    """
    global _conv_tf32
    if on is not None:
        _conv_tf32 = bool(on)
    return _conv_tf32


class Matmul:
    """PyTorch's torch.backends.cuda.matmul: other names for the same setting, and two that change nothing here."""

    # Sums of half types are of float32 always.
    allow_fp16_reduced_precision_reduction = True
    allow_bf16_reduced_precision_reduction = True
    allow_fp16_accumulation = False

    @property
    def allow_tf32(self) -> bool:
        """Whether the precision is not "highest"."""
        return _precision != "highest"

    @allow_tf32.setter
    def allow_tf32(self, on: bool) -> None:
        set_float32_matmul_precision("high" if on else "highest")

    @property
    def fp32_precision(self) -> str:
        """"ieee" or "tf32"."""
        return "tf32" if self.allow_tf32 else "ieee"

    @fp32_precision.setter
    def fp32_precision(self, word: str) -> None:
        if word not in ("ieee", "tf32", "none"):
            raise RuntimeError(f"fp32_precision: wanted ieee, tf32 or none, saw {word!r}")
        self.allow_tf32 = word == "tf32"


matmul = Matmul()
