"""torch.library: operators that programs register for PyTorch's dispatcher. Here they are the Python functions they are given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Library:
    """A namespace of operators; what is registered in it is kept by name and called nowhere."""

    def __init__(self, ns: str, kind: str, dispatch_key: str = "") -> None:
        self.ns, self.kind, self.entries = ns, kind, {}

    def define(self, schema: str, *args: Any, **kwargs: Any) -> str:
        """The operator's name."""
        return schema.partition("(")[0]

    def impl(self, op_name: str, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Keep the function of an operator."""
        self.entries[op_name] = fn


def _registration(*given: Any, **options: Any) -> Any:
    """A decorator, or its effect where the function is given: nothing."""
    if given and callable(given[-1]) and not isinstance(given[-1], str):
        return given[-1]
    return lambda function: function


register_fake = register_kernel = register_autograd = register_vmap = impl = impl_abstract = register_autocast = _registration
custom_op = triton_op = _registration


def load_library(path: str) -> None:
    """OSError: compiled extensions of PyTorch have nothing to hold on to here."""
    raise OSError(f"gradflow has no torch.ops.load_library: {path} is compiled for PyTorch")


def define(*args: Any, **kwargs: Any) -> Any:
    """A decorator that changes nothing."""
    return lambda function: function


class _Keys:
    """The dispatcher's keys: names, of which any may be mentioned."""

    def __getattr__(self, name: str) -> str:
        return name


DispatchKey = _Keys()


def DispatchKeySet(*keys: str) -> frozenset[str]:
    """Keys of the dispatcher, which is not there."""
    return frozenset(keys)


def wrap_triton(kernel: Any) -> Any:
    """The kernel itself."""
    return kernel
