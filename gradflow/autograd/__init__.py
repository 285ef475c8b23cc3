"""What users ask of the tape: backward, grad, Functions of their own, checks of gradients, and the grad mode."""

from .check import GradcheckError, gradcheck, gradgradcheck
from .function import Context, Function, once_differentiable
from .gradient import backward, grad
from .modes import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled

__all__ = [
    "Context", "Function", "GradcheckError", "backward", "enable_grad", "grad", "gradcheck", "gradgradcheck",
    "inference_mode", "is_grad_enabled", "no_grad", "once_differentiable", "set_grad_enabled",
]  # fmt: skip
