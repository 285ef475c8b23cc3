"""A module called with other parameters than its own: gradflow.func.functional_call by the older of its places."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def functional_call(
    module: Any,
    parameters_and_buffers: dict[str, Any],
    args: Any = None,
    kwargs: dict[str, Any] | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """module(*args, **kwargs) with the given tensors in the places of the parameters and buffers of those names."""
    call = import_module("gradflow.func").functional_call
    return call(module, parameters_and_buffers, args, kwargs, tie_weights=tie_weights, strict=strict)
