"""The short-time Fourier transform and its inverse: overlapping windows of a signal, each transformed."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backend import is_floating, namespace
from ..op import unwrap
from . import arrange, complexes, pointwise, shape
from .fft import fft, ifft, irfft, rfft


def _is_complex(x: Any) -> bool:
    return unwrap(x).dtype.kind == "c"


def _steps(name: str, n_fft: int, hop_length: int | None, win_length: int | None) -> tuple[int, int]:
    """The hop and the window's length, checked."""
    hop = n_fft // 4 if hop_length is None else hop_length
    length = n_fft if win_length is None else win_length
    if hop <= 0:
        raise RuntimeError(f"{name}: wanted hop_length above 0, saw {hop}")
    if not 0 < length <= n_fft:
        raise RuntimeError(f"{name}: wanted 0 < win_length <= n_fft={n_fft}, saw {length}")
    return hop, length


def _window(name: str, window: Any, length: int, n_fft: int, like: Any) -> Any:
    """The window, ones unless given, with zeros on both sides up to n_fft points."""
    if window is None:
        a = unwrap(like)
        real = np.zeros(0, a.dtype).real.dtype
        window = namespace(a).ones(length, real)
    elif unwrap(window).shape != (length,):
        raise RuntimeError(f"{name}: wanted a window of {length} points, saw shape {tuple(unwrap(window).shape)}")
    left = (n_fft - length) // 2
    return window if length == n_fft else arrange.constant_pad(window, (left, n_fft - length - left))


def stft(
    input: Any,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Any = None,
    center: bool = True,
    pad_mode: str = "reflect",
    normalized: bool = False,
    onesided: bool | None = None,
    return_complex: bool | None = None,
    align_to_window: bool | None = None,
) -> Any:
    """X[k, t] = sum_j w_j x[j + t hop] e^(-2 pi i jk / n_fft): x (n,) or (batch, n) gives (..., frequencies, times).

    center: x is padded by n_fft // 2 on both sides first (pad_mode), so that frame t is centred on x[t hop]; normalized:
    divided by sqrt(n_fft); onesided: only the frequencies 0 ... n_fft // 2, the default for a real x and window;
    return_complex=False gives real and imaginary parts as a last dimension. RuntimeError for other sizes or dtypes.
    """
    a = unwrap(input)
    if not (is_floating(a.dtype) or a.dtype.kind == "c"):
        raise RuntimeError(f"stft: wanted floating or complex numbers, saw {a.dtype}")
    if a.ndim not in (1, 2):
        raise RuntimeError(f"stft: wanted a signal of shape (n,) or (batch, n), saw {tuple(a.shape)}")
    if center and align_to_window is not None:
        raise RuntimeError("stft: wanted align_to_window only with center=False, saw both")
    complex_values = _is_complex(input) or (window is not None and _is_complex(window))
    if return_complex is None:
        if not complex_values:
            raise RuntimeError("stft: wanted return_complex for a real signal and window, saw none")
        return_complex = True
    hop, length = _steps("stft", n_fft, hop_length, win_length)
    x = input if a.ndim == 2 else shape.reshape(input, (1, -1))
    if center:
        x = arrange.pad(x, (n_fft // 2, n_fft // 2), pad_mode)
    elif align_to_window:
        left = (n_fft - length) // 2
        x = arrange.constant_pad(x, (left, left))
    if not 0 < n_fft <= unwrap(x).shape[1]:
        raise RuntimeError(f"stft: wanted 0 < n_fft <= {unwrap(x).shape[1]}, the signal's length, saw {n_fft}")
    w = _window("stft", window, length, n_fft, input)
    onesided = not complex_values if onesided is None else onesided
    if onesided and complex_values:
        raise RuntimeError("stft: wanted onesided=False for a complex signal or window, saw True")
    frames = arrange.unfold(x, 1, n_fft, hop)
    frames = pointwise.mul(frames, w)
    y = (rfft if onesided else fft)(frames, norm="ortho" if normalized else "backward")
    y = shape.transpose(y, 1, 2)
    if a.ndim == 1:
        y = shape.select(y, 0, 0)
    return y if return_complex else complexes.view_as_real(y)


def istft(
    input: Any,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Any = None,
    center: bool = True,
    normalized: bool = False,
    onesided: bool | None = None,
    length: int | None = None,
    return_complex: bool = False,
) -> Any:
    """The inverse of stft by overlapping and adding: x = sum_t w y_t / sum_t w^2, the least-squares signal.

    Griffin & Lim 1984. input (frequencies, times) or (batch, frequencies, times), complex; length cuts or fills the
    signal. RuntimeError where the windows' squares sum to zero.
    """
    a = unwrap(input)
    if a.dtype.kind != "c":
        raise RuntimeError(f"istft: wanted a complex input, saw {a.dtype}")
    if a.ndim not in (2, 3) or a.size == 0:
        raise RuntimeError(
            f"istft: wanted shape (frequencies, times) or with a batch before, none empty, saw {tuple(a.shape)}"
        )
    hop, window_length = _steps("istft", n_fft, hop_length, win_length)
    half = n_fft // 2 + 1
    onesided = a.shape[-2] != n_fft if onesided is None else onesided
    if a.shape[-2] != (half if onesided else n_fft):
        raise RuntimeError(f"istft: wanted {half if onesided else n_fft} frequencies, saw {a.shape[-2]}")
    if return_complex and onesided:
        raise RuntimeError("istft: wanted onesided=False with return_complex=True, saw True")
    if not return_complex and window is not None and _is_complex(window):
        raise RuntimeError("istft: wanted a real window with return_complex=False, saw a complex one")
    w = _window("istft", window, window_length, n_fft, input)
    x = shape.transpose(input if a.ndim == 3 else shape.unsqueeze(input, 0), 1, 2)
    norm = "ortho" if normalized else "backward"
    if return_complex:
        y = ifft(x, norm=norm)
    elif onesided:
        y = irfft(x, n_fft, norm=norm)
    else:
        y = irfft(shape.narrow(x, 2, 0, half), n_fft, norm=norm)
    y = pointwise.mul(y, w)
    batch, times = a.shape[0] if a.ndim == 3 else 1, a.shape[-1]
    total = n_fft + hop * (times - 1)
    y = arrange.unfold_backward(y, (batch, total), 1, n_fft, hop)
    squares = shape.expand(shape.reshape(pointwise.mul(w, w), (1, 1, n_fft)), (1, times, n_fft))
    envelope = arrange.unfold_backward(squares, (1, total), 1, n_fft, hop)
    start = n_fft // 2 if center else 0
    end = start + length if length is not None else total - n_fft // 2 if center else total
    stop = min(end, total)
    y, envelope = shape.narrow(y, 1, start, stop - start), shape.narrow(envelope, 1, start, stop - start)
    if not bool((abs(unwrap(envelope)) > 1e-11).all()):
        raise RuntimeError("istft: wanted windows that overlap everywhere, saw squares that sum to 0")
    y = pointwise.div(y, envelope)
    if end > total:
        y = arrange.constant_pad(y, (0, end - total))
    return y if a.ndim == 3 else shape.select(y, 0, 0)
