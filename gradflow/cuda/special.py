"""Launchers of the special functions: as in pointwise.py, with the functions of kernels/special.cuh."""

from __future__ import annotations

from functools import cache

from . import pointwise
from .pointwise import Twin, rows


@cache
def _twin(name: str) -> Twin:
    return Twin(name, "special")


def __getattr__(name: str) -> Twin:
    """The launcher of a function, if kernels/special.cuh has it."""
    if name.startswith("_") or name not in rows("special"):
        raise AttributeError(f"special: kernels/special.cuh has no line for {name!r}")
    return _twin(name)


def instantiations() -> list[str]:
    """Every raw kernel that the launchers can ask for."""
    from importlib import import_module

    for family in ("logs", "signs", "special_bessel", "special_error", "special_gamma", "special_polynomial"):
        import_module(f"gradflow.ops.{family}")
    return pointwise.instantiations("special")
