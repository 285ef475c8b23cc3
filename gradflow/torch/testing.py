"""torch.testing: comparison of tensors, numbers, and containers of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .. import backend
from ..convert import tensor
from ..draws import randint
from ..tape import Traced
from ..tensor import Tensor

_CLOSE = {  # (relative, absolute) by dtype, as PyTorch documents them
    "float16": (1e-3, 1e-5), "bfloat16": (1.6e-2, 1e-5), "float32": (1.3e-6, 1e-5), "float64": (1e-7, 1e-7),
    "complex64": (1.3e-6, 1e-5), "complex128": (1e-7, 1e-7),
}  # fmt: skip


def assert_close(
    actual: Any, expected: Any, *, allow_subclasses: bool = True, rtol: float | None = None, atol: float | None = None,
    equal_nan: bool = False, check_device: bool = True, check_dtype: bool = True, check_layout: bool = True,
    check_stride: bool = False, msg: str | Callable[[str], str] | None = None,
) -> None:  # fmt: skip
    """AssertionError unless |actual - expected| <= atol + rtol |expected| everywhere, with tolerances by dtype.

    Sequences and mappings are compared element by element. Shapes, and dtypes and devices unless switched off, must be
    equal. ValueError where only one tolerance is given.
    """
    if (rtol is None) != (atol is None):
        raise ValueError("assert_close: wanted both rtol and atol or neither, saw one")

    def fail(text: str) -> None:
        raise AssertionError(text if msg is None else msg(text) if callable(msg) else msg)

    def compare(a: Any, b: Any, where: str) -> None:
        if isinstance(b, Mapping) and isinstance(a, Mapping):
            if set(a) != set(b):
                fail(f"assert_close: wanted the keys {sorted(b)}{where}, saw {sorted(a)}")
            for k in b:
                compare(a[k], b[k], f"{where}[{k!r}]")
        elif isinstance(b, Sequence) and isinstance(a, Sequence) and not isinstance(b, str):
            if len(a) != len(b):
                fail(f"assert_close: wanted {len(b)} elements{where}, saw {len(a)}")
            for i, (u, v) in enumerate(zip(a, b, strict=True)):
                compare(u, v, f"{where}[{i}]")
        else:
            leaf(a, b, f" at {where}" if where else "")

    def leaf(a: Any, b: Any, where: str) -> None:
        x, y = (v.array if isinstance(v, Traced) else np.asarray(v) for v in (a, b))
        both = isinstance(a, Traced) and isinstance(b, Traced)
        if tuple(x.shape) != tuple(y.shape):
            fail(f"assert_close: wanted shape {tuple(y.shape)}{where}, saw {tuple(x.shape)}")
        if both and check_device and backend.device_of(x) != backend.device_of(y):
            fail(f"assert_close: wanted {backend.device_of(y)}{where}, saw {backend.device_of(x)}")
        if both and check_dtype and x.dtype != y.dtype:
            fail(f"assert_close: wanted {y.dtype}{where}, saw {x.dtype}")
        r, t = (max(_CLOSE.get(v.dtype.name, (0, 0))[i] for v in (x, y)) for i in (0, 1))
        r, t = (r, t) if rtol is None or atol is None else (rtol, atol)
        x, y = (backend.asnumpy(v) for v in (x, y))
        wide = np.complex128 if "c" in (x.dtype.kind, y.dtype.kind) else np.float64
        x, y = x.astype(wide), y.astype(wide)
        with np.errstate(invalid="ignore", over="ignore"):
            good = (x == y) | (np.isfinite(y) & (np.abs(x - y) <= t + r * np.abs(y)))
        if equal_nan:
            good |= np.isnan(x) & np.isnan(y)
        if not good.all():
            worst = np.nanmax(np.abs(x - y)) if x.size else 0
            seen = f"up to {worst:g} in {(~good).sum()} elements"
            fail(f"assert_close: wanted differences within {t:g} + {r:g} |expected|{where}, saw {seen}")

    compare(actual, expected, "")


def make_tensor(
    *shape: Any, dtype: Any, device: Any = "cpu", low: float | None = None, high: float | None = None,
    requires_grad: bool = False, **ignored: Any,
) -> Tensor:  # fmt: skip
    """A tensor of random numbers in [low, high), by default [-9, 9) for floats, [-9, 10) for integers, both for bool."""
    size = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], Sequence) else shape
    kind = np.dtype(dtype)
    if kind.kind in "iub":
        least = 0 if kind.kind in "ub" else -9
        bounds = (
            int(low if low is not None else least),
            int(high if high is not None else 2 if kind.kind == "b" else 10),
        )
        return randint(*bounds, size).to(dtype=kind, device=device)
    t = tensor(np.zeros(size), dtype=kind, device=device).uniform_(
        -9 if low is None else low, 9 if high is None else high
    )
    return t.requires_grad_(requires_grad)
