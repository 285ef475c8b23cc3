"""Windows of signal processing, w(t) of M points: each a formula in t, here written once for both of PyTorch's spellings.

torch.signal.windows.hann(M) is symmetric unless sym=False; torch.hann_window(M) is periodic unless periodic=False: the
symmetric window of M + 1 points without its last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from .. import backend
from ..op import wrap

TAU = 2 * math.pi


def _made(
    name: str,
    M: int,
    formula: Callable[[np.ndarray, int], np.ndarray],
    sym: bool,
    error: type[Exception],
    dtype: Any,
    layout: Any,
    device: Any,
    requires_grad: bool,
) -> Any:
    """The M points formula(t, last) for t = 0 ... last, as a tensor. `error` for a negative M, a dtype that is not real."""
    if M < 0:
        raise error(f"{name}: wanted a length of at least 0, saw {M}")
    dtype = np.dtype(dtype or backend.get_default_dtype())
    if not backend.is_floating(dtype) or (error is ValueError and dtype.itemsize == 2):
        raise error(f"{name}: wanted a floating dtype, saw {dtype}")
    if layout is not None and "strided" not in str(layout):
        raise error(f"{name}: wanted the strided layout, saw {layout}")
    last = M - 1 if sym else M
    w = np.ones(M) if M <= 1 else formula(np.arange(M, dtype=np.float64), last)
    t = wrap(backend.to_device(w.astype(dtype), device or "cpu"))
    return t.requires_grad_() if requires_grad else t


def _cosines(*a: float) -> Callable[[np.ndarray, int], np.ndarray]:
    """a_0 - a_1 cos(2 pi t / last) + a_2 cos(4 pi t / last) - ..."""
    return lambda t, last: np.sum(
        [(-1) ** i * c * np.cos(TAU * i * t / last) for i, c in enumerate(a)], axis=0
    )  # fmt: skip


def _bartlett(t: np.ndarray, last: int) -> np.ndarray:
    return 1 - np.abs(2 * t / last - 1)


def _kaiser(beta: float) -> Callable[[np.ndarray, int], np.ndarray]:
    return lambda t, last: np.i0(beta * np.sqrt(np.maximum(1 - (2 * t / last - 1) ** 2, 0))) / np.i0(np.float64(beta))


def bartlett(
    M: int, *, sym: bool = True, dtype: Any = None, layout: Any = None, device: Any = None, requires_grad: bool = False
) -> Any:
    """1 - |2 t / (M - 1) - 1|: a triangle."""
    return _made("bartlett", M, _bartlett, sym, ValueError, dtype, layout, device, requires_grad)


def blackman(
    M: int, *, sym: bool = True, dtype: Any = None, layout: Any = None, device: Any = None, requires_grad: bool = False
) -> Any:
    """0.42 - 0.5 cos(2 pi t / (M - 1)) + 0.08 cos(4 pi t / (M - 1))."""
    return _made("blackman", M, _cosines(0.42, 0.5, 0.08), sym, ValueError, dtype, layout, device, requires_grad)


def cosine(
    M: int, *, sym: bool = True, dtype: Any = None, layout: Any = None, device: Any = None, requires_grad: bool = False
) -> Any:
    """sin(pi (t + 1/2) / M): half a wave."""
    return _made(
        "cosine", M, lambda t, last: np.sin(math.pi * (t + 0.5) / (last + 1)), sym, ValueError, dtype, layout, device,
        requires_grad,
    )  # fmt: skip


def exponential(
    M: int, *, center: float | None = None, tau: float = 1.0, sym: bool = True, dtype: Any = None, layout: Any = None,
    device: Any = None, requires_grad: bool = False,
) -> Any:  # fmt: skip
    """e^(-|t - center| / tau), centred in the middle unless given. ValueError for tau <= 0, a centre of a symmetric window."""
    if tau <= 0:
        raise ValueError(f"exponential: wanted tau above 0, saw {tau}")
    if sym and center is not None:
        raise ValueError(f"exponential: wanted no center with sym=True, saw {center}")
    return _made(
        "exponential", M, lambda t, last: np.exp(-np.abs(t - (last / 2 if center is None else center)) / tau), sym,
        ValueError, dtype, layout, device, requires_grad,
    )  # fmt: skip


def gaussian(
    M: int, *, std: float = 1.0, sym: bool = True, dtype: Any = None, layout: Any = None, device: Any = None,
    requires_grad: bool = False,
) -> Any:  # fmt: skip
    """e^(-((t - (M - 1) / 2) / std)^2 / 2). ValueError for std <= 0."""
    if std <= 0:
        raise ValueError(f"gaussian: wanted std above 0, saw {std}")
    return _made(
        "gaussian", M, lambda t, last: np.exp(-(((t - last / 2) / std) ** 2) / 2), sym, ValueError, dtype, layout, device,
        requires_grad,
    )  # fmt: skip


def general_cosine(
    M: int, *, a: Iterable[float], sym: bool = True, dtype: Any = None, layout: Any = None, device: Any = None,
    requires_grad: bool = False,
) -> Any:  # fmt: skip
    """a_0 - a_1 cos(2 pi t / (M - 1)) + a_2 cos(4 pi t / (M - 1)) - ... TypeError or ValueError for a no or an empty list."""
    if not isinstance(a, Iterable):
        raise TypeError(f"general_cosine: wanted a list of coefficients, saw {type(a).__name__}")
    a = list(a)
    if not a:
        raise ValueError("general_cosine: wanted at least one coefficient, saw none")
    return _made("general_cosine", M, _cosines(*a), sym, ValueError, dtype, layout, device, requires_grad)


def general_hamming(
    M: int, *, alpha: float = 0.54, sym: bool = True, dtype: Any = None, layout: Any = None, device: Any = None,
    requires_grad: bool = False,
) -> Any:  # fmt: skip
    """alpha - (1 - alpha) cos(2 pi t / (M - 1))."""
    return _made(
        "general_hamming", M, _cosines(alpha, 1 - alpha), sym, ValueError, dtype, layout, device, requires_grad
    )


def hamming(
    M: int, *, sym: bool = True, dtype: Any = None, layout: Any = None, device: Any = None, requires_grad: bool = False
) -> Any:
    """0.54 - 0.46 cos(2 pi t / (M - 1))."""
    return _made("hamming", M, _cosines(0.54, 0.46), sym, ValueError, dtype, layout, device, requires_grad)


def hann(
    M: int, *, sym: bool = True, dtype: Any = None, layout: Any = None, device: Any = None, requires_grad: bool = False
) -> Any:
    """(1 - cos(2 pi t / (M - 1))) / 2."""
    return _made("hann", M, _cosines(0.5, 0.5), sym, ValueError, dtype, layout, device, requires_grad)


def kaiser(
    M: int, *, beta: float = 12.0, sym: bool = True, dtype: Any = None, layout: Any = None, device: Any = None,
    requires_grad: bool = False,
) -> Any:  # fmt: skip
    """I0(beta sqrt(1 - (2 t / (M - 1) - 1)^2)) / I0(beta). ValueError for beta < 0."""
    if beta < 0:
        raise ValueError(f"kaiser: wanted beta of at least 0, saw {beta}")
    return _made("kaiser", M, _kaiser(beta), sym, ValueError, dtype, layout, device, requires_grad)


def nuttall(
    M: int, *, sym: bool = True, dtype: Any = None, layout: Any = None, device: Any = None, requires_grad: bool = False
) -> Any:
    """The cosine window of coefficients 0.3635819, 0.4891775, 0.1365995, 0.0106411."""
    a = _cosines(0.3635819, 0.4891775, 0.1365995, 0.0106411)
    return _made("nuttall", M, a, sym, ValueError, dtype, layout, device, requires_grad)


# --- PyTorch's older spelling ---------------------------------------------------------------------------


def _older(
    name: str, formula: Callable[..., Callable[[np.ndarray, int], np.ndarray]], **parameters: float
) -> Callable[..., Any]:
    """NAME_window(window_length, periodic=True, *parameters): of a period unless periodic=False."""

    def window(
        window_length,
        periodic=True,
        *given,
        dtype=None,
        layout=None,
        device=None,
        pin_memory=False,
        requires_grad=False,
        **named,
    ):
        values = {**parameters, **dict(zip(parameters, given, strict=False)), **named}
        if len(given) > len(parameters) or values.keys() != parameters.keys():
            raise TypeError(f"{name}: wanted no parameters but {list(parameters)}, saw {[*given, *named]}")
        f = formula(*values.values())
        return _made(name, window_length, f, not periodic, RuntimeError, dtype, layout, device, requires_grad)

    window.__name__ = window.__qualname__ = name
    window.__doc__ = f"{name.removesuffix('_window')}(window_length), of a period unless periodic=False."
    return window


bartlett_window = _older("bartlett_window", lambda: _bartlett)
blackman_window = _older("blackman_window", lambda: _cosines(0.42, 0.5, 0.08))
hann_window = _older("hann_window", lambda: _cosines(0.5, 0.5))
hamming_window = _older("hamming_window", _cosines, alpha=0.54, beta=0.46)
kaiser_window = _older("kaiser_window", _kaiser, beta=12.0)
