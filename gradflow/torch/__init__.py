"""PyTorch programs, unmodified: gradflow answers to the name torch, for a whole run or inside a program.

    python -m gradflow.torch train.py --epochs 3

    with gradflow.torch.installed():
        import torch

Names that gradflow does not have can be imported and mentioned; using one raises "gradflow has no torch.X". Random numbers
on the CPU are PyTorch's own.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from . import disguise, random
from .face import Face, Finder

__all__ = ["install", "installed", "uninstall"]

_finder: Finder | None = None


def install() -> None:
    """Let `import torch`, and of anything below it, find gradflow. RuntimeError where PyTorch is imported already."""
    global _finder
    if _finder is not None:
        return
    there = sys.modules.get("torch")
    if there is not None and not isinstance(there, Face):
        raise RuntimeError(
            "gradflow.torch.install: PyTorch itself is imported in this process already; install before the first "
            "import of torch, or run the program as `python -m gradflow.torch SCRIPT`"
        )
    _finder = Finder()
    sys.meta_path.insert(0, _finder)
    disguise.put_on()
    random.install()


def uninstall() -> None:
    """Undo install(): torch is what it was before, and gradflow prints and draws numbers under its own name."""
    global _finder
    if _finder is None:
        return
    sys.meta_path.remove(_finder)
    _finder = None
    for name in [n for n in sys.modules if n == "torch" or n.startswith("torch.")]:
        if isinstance(sys.modules[name], Face):
            del sys.modules[name]
    random.uninstall()
    disguise.take_off()


@contextlib.contextmanager
def installed() -> Iterator[Any]:
    """A block in which `import torch` finds gradflow; gives that module. What was installed before stays installed."""
    from importlib import import_module

    before = _finder is not None
    install()
    try:
        yield import_module("torch")
    finally:
        if not before:
            uninstall()
