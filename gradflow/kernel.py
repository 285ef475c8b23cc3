"""A kernel is an array function: NumPy code that says what it means and, maybe, a CUDA twin that says it fast."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from .backend import on_card

# GRADFLOW_DEFINITIONS=1 runs the definitions on the card too: if a fault goes away, it was a twin's.
definitions_only = bool(int(os.environ.get("GRADFLOW_DEFINITIONS", "0") or 0))


class Kernel:
    """A definition, written against NumPy's interface, and the place of its CUDA twin.

    The twin of `conv2d` with place "conv" is the function `gradflow.cuda.conv.conv2d`: it takes the definition's
    arguments as CuPy arrays and may return NotImplemented for a case it does not do; the definition then runs.
    """

    def __init__(
        self,
        name: str,
        definition: Callable[..., Any],
        place: str | None = None,
        cases: Callable[..., Any] | None = None,
    ) -> None:
        self.name, self.definition, self.place, self.cases = name, definition, place, cases
        self._twin: Callable[..., Any] | None = None

    @property
    def twin(self) -> Callable[..., Any] | None:
        """The CUDA launcher, imported when first asked for; None if there is none."""
        if self._twin is None and self.place is not None:
            self._twin = getattr(import_module(f"gradflow.cuda.{self.place}"), self.name)
        return self._twin

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the twin if an argument is on the card and it takes the case, else the definition."""
        if self.place is not None and not definitions_only:
            for x in args:
                if type(x) is np.ndarray:
                    break
                if on_card(x):
                    if x.dtype.kind == "c":  # twins are of real numbers
                        break
                    y = self.twin(*args, **kwargs)  # type: ignore[misc]
                    if y is not NotImplemented:
                        return y
                    break
        return self.definition(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<kernel {self.name}>"


kernels: dict[str, Kernel] = {}  # every kernel with a twin, for the tests and benches that compare the two


def kernel(place: str, cases: Callable[..., Any] | None = None) -> Callable[[Callable[..., Any]], Kernel]:
    """Decorate a definition that is no op; its twin is the function of the same name in gradflow/cuda/<place>.py."""

    def wrap(definition: Callable[..., Any]) -> Kernel:
        k = kernels[definition.__name__] = Kernel(definition.__name__, definition, place, cases)
        k.__doc__ = definition.__doc__
        return k

    return wrap
