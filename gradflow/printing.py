"""Printing: a tensor as text, in PyTorch's own layout."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from . import backend
from .dtypes import category
from .tape import Leaf
from .traced import current

package = "gradflow"  # what stands before dtypes and Size in print


@dataclass
class Options:
    """How tensors are printed.

    precision  digits behind the point
    threshold  with more elements than this, only the ends of each dimension are shown
    edgeitems  how many at each end
    linewidth  characters in a line
    sci_mode   whether floats have an exponent; None to decide by their sizes
    """

    precision: int = 4
    threshold: float = 1000
    edgeitems: int = 3
    linewidth: int = 80
    sci_mode: bool | None = None


options = Options()
_PROFILES = {
    "default": dict(precision=4, threshold=1000, edgeitems=3, linewidth=80),
    "short": dict(precision=2, threshold=1000, edgeitems=2, linewidth=80),
    "full": dict(precision=4, threshold=math.inf, edgeitems=3, linewidth=80),
}


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Change how tensors are printed; a profile, "default", "short" or "full", sets several options at once.

    sci_mode goes back to None, by the sizes of the numbers, unless given. ValueError for an unknown profile.
    """
    changed: dict[str, Any] = {}
    if profile is not None:
        if profile.lower() not in _PROFILES:
            raise ValueError(f"set_printoptions: wanted profile default, short or full, saw {profile!r}")
        changed |= _PROFILES[profile.lower()]
    given = dict(precision=precision, threshold=threshold, edgeitems=edgeitems, linewidth=linewidth)
    changed |= {k: v for k, v in given.items() if v is not None}
    for name, value in (changed | dict(sci_mode=sci_mode)).items():
        setattr(options, name, value)


def get_printoptions() -> dict[str, Any]:
    """How tensors are printed, as set_printoptions takes it."""
    return {f.name: getattr(options, f.name) for f in fields(options)}


@contextmanager
def printoptions(**changed: Any) -> Iterator[None]:
    """A context in which tensors are printed otherwise: with printoptions(precision=2): ..."""
    before = get_printoptions()
    set_printoptions(**changed)
    try:
        yield
    finally:
        set_printoptions(**before)


# --- one element ----------------------------------------------------------------------------------------


class Style:
    """How the elements of one real array are written, all of one width: whole floats as `3.`, others with all their
    digits, with an exponent where they differ too much in size.
    """

    def __init__(self, x: np.ndarray) -> None:
        self.kind = category(x.dtype)
        self.exponent, self.whole, self.width = False, True, 1
        flat = x.reshape(-1)
        if self.kind < 2:
            self.width = max((len(str(v)) for v in flat.tolist()), default=1)
            return
        shown = flat[np.isfinite(flat) & (flat != 0)]
        if not shown.size:
            return
        sizes = np.abs(shown.astype(np.float64))
        least, most = sizes.min(), sizes.max()
        with np.errstate(over="ignore"):
            far = most / least > 1000 or most > 1e8
        self.whole = bool((shown == np.trunc(shown)).all())
        self.exponent = bool(far or (not self.whole and least < 1e-4)) if options.sci_mode is None else options.sci_mode
        self.width = max(len(self._text(v)) for v in shown.tolist())

    def _text(self, v: Any) -> str:
        if self.kind < 2:
            return str(v)
        if self.exponent:
            return f"{v:.{options.precision}e}"
        if self.whole:
            return f"{v:.0f}." if math.isfinite(v) else f"{v:.0f}"
        return f"{v:.{options.precision}f}"

    def __call__(self, v: Any) -> str:
        return self._text(v).rjust(self.width)


class ComplexStyle:
    """How complex elements are written: the real and the imaginary part each in its own style."""

    def __init__(self, x: np.ndarray) -> None:
        self.real, self.imag = Style(x.real), Style(x.imag)
        self.width = self.real.width + self.imag.width + 1

    def __call__(self, v: Any) -> str:
        imag = self.imag(v.imag).lstrip() + "j"
        return self.real(v.real) + ("" if imag[0] == "-" else "+") + imag


# --- the whole --------------------------------------------------------------------------------------------


def _ends(x: np.ndarray) -> np.ndarray:
    """x with only the ends of each dimension that are shown."""
    n = options.edgeitems
    for d in range(x.ndim):
        if x.shape[d] > 2 * n:
            keep = [*range(n), *range(x.shape[d] - n, x.shape[d])]
            x = np.take(x, keep, d)
    return x


def _rows(x: np.ndarray, style: Any, indent: int, short: bool) -> str:
    """The text of x, whose further lines stand `indent` places in."""
    if x.ndim == 0:
        return style(x.item())
    n = options.edgeitems
    cut = short and x.shape[0] > 2 * n
    if x.ndim > 1:
        places = [*range(n), None, *range(len(x) - n, len(x))] if cut else range(len(x))
        parts = ["..." if i is None else _rows(x[i], style, indent + 1, short) for i in places]
        return "[" + ("," + "\n" * (x.ndim - 1) + " " * (indent + 1)).join(parts) + "]"
    if cut:
        words = [*map(style, x[:n].tolist()), " ...", *map(style, x[len(x) - n :].tolist())] if n else ["..."]
    else:
        words = [style(v) for v in x.tolist()]
    each = max(1, (options.linewidth - indent) // (style.width + 2))
    lines = [", ".join(words[i : i + each]) for i in range(0, len(words), each)]
    return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"


def text_of(x: np.ndarray, indent: int = 0) -> str:
    """The elements of a NumPy array as PyTorch prints them, in brackets."""
    if not x.size:
        return "[]"
    if x.dtype.kind == "V" or x.dtype == np.float16:
        x = x.astype(np.float32)
    short = x.size > options.threshold
    seen = _ends(x) if short else x
    return _rows(x, (ComplexStyle if x.dtype.kind == "c" else Style)(seen), indent, short)


def tensor_text(t: Any, prefix: str = "tensor(") -> str:
    """`tensor([1., 2.], dtype=..., device=..., grad_fn=...)`: what is not the default is said after the elements."""
    x, indent = backend.asnumpy(t.array), len(prefix)
    notes = [f"device='{t.device}'"] if t.is_cuda else []
    default = backend.get_default_dtype()
    usual = [default]
    if x.size:
        usual += [backend.complex128 if default == backend.float64 else backend.complex64, backend.int64, backend.bool_]
    elif x.ndim != 1:
        notes.append(f"size={tuple(x.shape)}")
    if x.dtype not in usual:
        notes.append(f"dtype={package}.{x.dtype}")
    node = current(t)
    if type(node) is Leaf:
        notes.append("requires_grad=True")
    elif node is not None:
        notes.append(f"grad_fn=<{gradient_name(t.grad_fn)}>")
    parts = [prefix + text_of(x, indent)]
    last = len(parts[0]) - parts[0].rfind("\n") + 1
    for note in notes:
        if last + len(note) + 2 > options.linewidth:
            parts.append(",\n" + " " * indent + note)
            last = indent + len(note)
        else:
            parts.append(", " + note)
            last += len(note) + 2
    return "".join([*parts, ")"])


# --- what made it -------------------------------------------------------------------------------------------

# PyTorch's name for the gradient of an op, where it is not the op's own in camel case.
_NAMES = {
    "reshape": "View", "cast": "ToCopy", "index_get": "Index", "index_put": "IndexPut", "addmatmul": "Addmm",
    "linear": "Addmm", "vector_norm": "LinalgVectorNorm", "layer_norm_forward": "NativeLayerNorm",
    "rms_norm_forward": "FusedRmsNorm", "batch_norm_forward": "NativeBatchNorm", "batch_norm_eval": "NativeBatchNorm",
    "group_norm_forward": "NativeGroupNorm", "cross_entropy_forward": "NllLoss", "bce_forward": "BinaryCrossEntropy",
    "bce_logits_forward": "BinaryCrossEntropyWithLogits", "max_pool2d_with_indices": "MaxPool2DWithIndices",
    "max_pool3d_with_indices": "MaxPool3DWithIndices", "avg_pool2d": "AvgPool2D", "avg_pool3d": "AvgPool3D",
    "adaptive_avg_pool2d": "AdaptiveAvgPool2D", "adaptive_avg_pool3d": "AdaptiveAvgPool3D", "pad": "ConstantPadNd",
    "difference_loss": "MseLoss", "median_of_all": "Median", "attention": "ScaledDotProductAttention",
    **{f"conv{t}{n}d": "Convolution" for t in ("", "_transpose") for n in (1, 2, 3)},
}  # fmt: skip


def gradient_name(node: Any) -> str:
    """PyTorch's name for the node of an op, as `AddBackward0`; of one that PyTorch has not, the op's name in its style."""
    name = node.name
    if not hasattr(node, "plan") or name.endswith("Backward"):  # one that a user wrote
        return name
    if name == "view_write":
        return "CopySlices"
    if name == "slice_":
        where = next((s for s in node.saved or () if type(s) is tuple and any(not isinstance(i, int) for i in s)), ())
        first = next((i for i in where if i is not Ellipsis and i != slice(None)), None)
        return f"{'Select' if type(first) is int else 'Slice' if type(first) is slice else 'Unsqueeze'}Backward0"
    if name == "matmul":
        dims = [len(e.shape) for e in node.edges]
        if len(dims) == 1:  # what the rule of the one kept is the other
            kept = next((v.ndim for v in node.saved or () if hasattr(v, "ndim")), 0)
            dims.insert(int(node.plan.needs[0]), kept)
        kind = {(1, 1): "Dot", (2, 2): "Mm", (1, 2): "Squeeze", (2, 1): "Mv", (3, 3): "Bmm"}.get(tuple(dims), "UnsafeView")
        return f"{kind}Backward0"
    camel = _NAMES.get(name) or "".join(w.capitalize() for w in name.split("_"))
    several = name in ("sum", "mean", "prod") and node.shape != ()
    return f"{camel}Backward{int(several)}"


def dtype_text(dtype: np.dtype) -> str:
    """`gradflow.float32`: a dtype with the package's name."""
    return f"{package}.{dtype}"


def size_text(size: tuple) -> str:
    """`gradflow.Size([2, 3])`: a shape with the package's name."""
    return f"{package}.Size({list(size)})"

