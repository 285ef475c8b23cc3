"""Functions of functions: vmap, grad, vjp, jvp, Jacobians, Hessians, and modules as functions of their parameters."""

from .mapping import vmap
from .stateless import functional_call, replace_all_batch_norm_modules_, stack_module_state
from .transforms import (
    functionalize,
    grad,
    grad_and_value,
    hessian,
    jacfwd,
    jacrev,
    jvp,
    linearize,
    vjp,
)

__all__ = [
    "functional_call", "functionalize", "grad", "grad_and_value", "hessian", "jacfwd", "jacrev", "jvp", "linearize",
    "replace_all_batch_norm_modules_", "stack_module_state", "vjp", "vmap",
]  # fmt: skip
