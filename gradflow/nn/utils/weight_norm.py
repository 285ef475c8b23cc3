"""Weight normalisation as a hook before forward: weight = g v / |v|, g and v the parameters (Salimans and Kingma 2016)."""

from __future__ import annotations

import warnings
from typing import Any

from ...ops import reduce
from ..module import Module
from ..parameter import Parameter, is_lazy


def norm_except_dim(v: Any, pow: int = 2, dim: int = 0) -> Any:
    """The norms of v over all dimensions but `dim`, which are kept with size one; over all of them if dim is -1: 0-d."""
    if dim == -1:
        return reduce.norm(v, pow)
    others = [d for d in range(v.ndim) if d != dim % v.ndim]
    return reduce.norm(v, pow, others, True) if others else abs(v)


def normalized(v: Any, g: Any, dim: int = 0) -> Any:
    """g v / |v|, the norms as norm_except_dim takes them."""
    return v * (g / norm_except_dim(v, 2, dim))


class WeightNorm:
    """The hook of weight_norm: it sets the weight before each forward."""

    def __init__(self, name: str, dim: int | None) -> None:
        self.name, self.dim = name, -1 if dim is None else dim

    def compute_weight(self, module: Any) -> Any:
        """The weight that g and v make."""
        return normalized(getattr(module, f"{self.name}_v"), getattr(module, f"{self.name}_g"), self.dim)

    def __call__(self, module: Any, inputs: Any) -> None:
        setattr(module, self.name, self.compute_weight(module))


def _hooks(module: Module, kind: type, name: str) -> list[Any]:
    """The handles of a module's hooks of a kind for a parameter."""
    hooks = module._forward_pre_hooks
    return [h for h, (hook, _) in hooks.items() if isinstance(hook, kind) and hook.name == name]  # type: ignore[attr-defined]


def weight_norm(module: Any, name: str = "weight", dim: int | None = 0) -> Any:
    """Replace a parameter by its length and direction: name_g (the norms over all dimensions but dim, or all) and name_v.

    Deprecated in PyTorch: use nn.utils.parametrizations.weight_norm.
    """
    warnings.warn(
        "weight_norm: it is deprecated; use nn.utils.parametrizations.weight_norm", FutureWarning, stacklevel=2
    )
    if _hooks(module, WeightNorm, name):
        raise RuntimeError(f"weight_norm: the parameter {name!r} has one already")
    weight, hook = getattr(module, name), WeightNorm(name, dim)
    if is_lazy(weight):
        raise ValueError(f"weight_norm: wanted a parameter with a shape, saw {name!r} without; run the module once")
    del module._parameters[name]
    module.register_parameter(f"{name}_g", Parameter(norm_except_dim(weight.data, 2, hook.dim)))
    module.register_parameter(f"{name}_v", Parameter(weight.data))
    setattr(module, name, hook.compute_weight(module))
    module.register_forward_pre_hook(hook)
    return module


def remove_weight_norm(module: Any, name: str = "weight") -> Any:
    """Make the weight, as it is now, the parameter again. ValueError if there is no weight_norm on it."""
    for handle in _hooks(module, WeightNorm, name):
        hook = module._forward_pre_hooks[handle][0]
        weight = hook.compute_weight(module).detach()
        handle.remove()
        for part in (name, f"{name}_g", f"{name}_v"):
            delattr(module, part)
        setattr(module, name, Parameter(weight))
        return module
    raise ValueError(f"remove_weight_norm: there is no weight_norm on {name!r} of {type(module).__name__}")
