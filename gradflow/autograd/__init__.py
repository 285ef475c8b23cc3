"""What users ask of the tape: backward, grad, Functions of their own, checks of gradients, and the grad mode."""

from importlib import import_module

from . import anomaly, function, functional, graph
from .anomaly import detect_anomaly, set_detect_anomaly
from .check import GradcheckError, gradcheck, gradgradcheck
from .function import Context, Function, once_differentiable
from .gradient import backward, grad
from .modes import (
    Variable,
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
    set_multithreading_enabled,
)

FunctionCtx = Context


def __getattr__(name: str) -> object:
    if name in ("checkpoint", "forward_ad"):  # loaded when first used
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"gradflow.autograd has no {name!r}")


__all__ = [
    "Context",
    "Function",
    "FunctionCtx",
    "GradcheckError",
    "Variable",
    "anomaly",
    "backward",
    "detect_anomaly",
    "enable_grad",
    "function",
    "functional",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "graph",
    "inference_mode",
    "is_grad_enabled",
    "is_inference",
    "is_inference_mode_enabled",
    "no_grad",
    "once_differentiable",
    "set_detect_anomaly",
    "set_grad_enabled",
    "set_multithreading_enabled",
]
