"""torch.fft's names: Fourier transforms in one, two and n dimensions, their frequencies and shifts."""

from __future__ import annotations

from typing import Any

from . import create
from .ops.fft import (
    fft,
    fft2,
    fftn,
    fftshift,
    hfft,
    hfft2,
    hfftn,
    ifft,
    ifft2,
    ifftn,
    ifftshift,
    ihfft,
    ihfft2,
    ihfftn,
    irfft,
    irfft2,
    irfftn,
    rfft,
    rfft2,
    rfftn,
    written,
)  # fmt: skip

__all__ = [
    "fft", "fft2", "fftfreq", "fftn", "fftshift", "hfft", "hfft2", "hfftn", "ifft", "ifft2", "ifftn", "ifftshift", "ihfft",
    "ihfft2", "ihfftn", "irfft", "irfft2", "irfftn", "rfft", "rfft2", "rfftfreq", "rfftn",
]  # fmt: skip


def fftfreq(
    n: int, d: float = 1.0, *, out: Any = None, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Any:
    """The frequencies of fft's n points at distance d: [0, 1, ..., -2, -1] / (d n)."""
    k = create.arange(-(n // 2), n - n // 2, device=device).roll(-(n // 2))
    return _finished(k, n * d, out, dtype, requires_grad)


def rfftfreq(
    n: int, d: float = 1.0, *, out: Any = None, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Any:
    """The frequencies of rfft's n // 2 + 1 points at distance d: [0, 1, ..., n // 2] / (d n)."""
    return _finished(create.arange(n // 2 + 1, device=device), n * d, out, dtype, requires_grad)


def _finished(k: Any, span: float, out: Any, dtype: Any, requires_grad: bool) -> Any:
    from .backend import get_default_dtype

    y = written(k.to(dtype or get_default_dtype()) * (1 / span), out)
    return y.requires_grad_() if requires_grad else y
