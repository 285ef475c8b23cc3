"""A model in evaluation for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ..autograd import no_grad
from .module import Module


@contextlib.contextmanager
def evaluating(model: Module) -> Iterator[None]:
    """The block in which a model is in evaluation and unrecorded; its modules are in their own modes again afterwards."""
    modes = [(m, m.training) for m in model.modules()]
    model.eval()
    try:
        with no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
