"""The support table, gradflow/SUPPORT.md, written from the op table: `python tests/support.py` brings it up to date."""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path[:0] = [] if str(ROOT) in sys.path else [str(ROOT)]  # when run as a program

from differences import DIFFERENCES  # noqa: E402

import gradflow as gf  # noqa: E402
import gradflow.ops  # noqa: E402
from gradflow import backend, op  # noqa: E402
from gradflow.cases import Sampler  # noqa: E402

FILE = ROOT / "gradflow" / "SUPPORT.md"
PROBES = {
    "half": ["float16", "bfloat16"], "float": ["float32", "float64"], "complex": ["complex64", "complex128"],
    "int": ["int64", "uint8"], "bool": ["bool"],
}  # fmt: skip
SPACES = [
    "", "nn.functional", "linalg", "fft", "special", "masked", "signal.windows", "func", "autograd", "autograd.functional",
    "nn", "nn.init", "nn.utils", "optim", "optim.lr_scheduler", "distributions",
]  # fmt: skip
HEAD = """# What is supported

Written by `python tests/support.py` from the op table; tests/test_support.py holds it current. A function that is not an
operator of its own is made of operators, and takes and gives what they do.

## Operators

dtypes: half is float16 and bfloat16, float is float32 and float64, complex is complex64 and complex128, int stands for all
integers. orders: how often it can be differentiated, "any" or once; "-" where there is no gradient. on the card: a kernel
of kernels/NAME.cu, or its NumPy definition run by CuPy.

| operator | family | dtypes | orders | on the card | notes |
|---|---|---|---|---|---|
"""


def arrays(value: Any, dtype: np.dtype) -> Any:
    """A case's arguments with its floating and complex arrays in another dtype."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "fc":
        of_kind = np.abs(value) > 0.5 if dtype.kind in "biu" else value.real if dtype.kind != "c" else value
        return np.asarray(of_kind).astype(dtype)
    return type(value)(arrays(v, dtype) for v in value) if isinstance(value, (list, tuple)) else value


def takes(entry: op.Op, dtype: np.dtype) -> bool:
    """Whether the op computes a case of its own in this dtype."""
    for case in [c for c in entry.cases(Sampler()) if any(isinstance(a, np.ndarray) and a.size for a in c.args)][:3]:
        args = [op.wrap(a) if isinstance(a, np.ndarray) else a for a in arrays(list(case.args), dtype)]
        try:
            entry(*args, **{k: arrays(v, dtype) for k, v in case.kwargs.items()})
        except (RuntimeError, TypeError, ValueError, IndexError, KeyError, NotImplementedError, ArithmeticError):
            return False
    return True


def dtypes(entry: op.Op) -> str:
    """The kinds of dtypes an op takes."""
    if not any(isinstance(a, np.ndarray) and a.dtype.kind in "fc" for c in entry.cases(Sampler()) for a in c.args):
        return "as in the case"
    kinds = {k: [backend.bfloat16() if n == "bfloat16" else np.dtype(n) for n in names] for k, names in PROBES.items()}
    return " ".join(kind for kind, names in kinds.items() if all(takes(entry, d) for d in names))


def orders(entry: op.Op) -> str:
    """How often an op can be differentiated; one whose cases leave that open is differentiated in a test of its own."""
    found = [c.order for c in entry.cases(Sampler()) if c.grad and c.order]
    return "-" if not entry.rules else "once" if found and max(found) == 1 else "any"


def operators() -> list[str]:
    """A line for every op that has cases, by family and name."""
    for family in iter_modules(gradflow.ops.__path__):
        import_module(f"gradflow.ops.{family.name}")
    return [line(name, entry) for name, entry in sorted(op.table.items()) if entry.cases]


def line(name: str, entry: op.Op) -> str:
    """The row of an op."""
    module = entry.definition.__module__
    family = module.rpartition(".")[2] if module.startswith("gradflow") else "pointwise"  # rows of NumPy's own
    card = f"{entry.place}.cu" if entry.place else "CuPy"
    return f"| {name} | {family} | {dtypes(entry)} | {orders(entry)} | {card} | {entry.note} |"


def names(space: str) -> list[str]:
    """The public callables of a namespace, "" for gradflow itself."""
    module: Any = gf
    for part in filter(None, space.split(".")):
        module = getattr(module, part, None)
    if module is None:
        return []
    listed = set(getattr(module, "__all__", dir(module)))
    if not space:
        listed |= set(gf._names.family_of)
    return sorted(
        n
        for n in listed
        if not n.startswith("_") and n not in ("Traced", "wrap") and callable(getattr(module, n, None))
        and (hasattr(module, "__all__") or str(getattr(getattr(module, n), "__module__", "")).startswith("gradflow"))
    )  # fmt: skip


def text() -> str:
    """The whole page."""
    parts = [HEAD, *(f"{line}\n" for line in operators())]
    parts.append("\n## Public names\n")
    listed = [(f"gradflow.{space}".rstrip("."), names(space)) for space in SPACES]
    parts += [f"\n**{space}** ({len(found)}): {', '.join(found)}\n" for space, found in listed if found]
    methods = sorted(n for n in dir(gf.Tensor) if not n.startswith("_"))
    parts.append(f"\n**gradflow.Tensor** ({len(methods)}): {', '.join(methods)}\n")
    parts.append("\n## Differences from PyTorch that remain\n\n")
    parts.append("PyTorch's own samples of every operator are run beside gradflow; these differ. README lists the others.\n\n")
    parts.append("| operator | difference |\n|---|---|\n")
    parts += [f"| {name} | {why} |\n" for name, why in sorted(DIFFERENCES.items())]
    return "".join(parts)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    FILE.write_text(text())
