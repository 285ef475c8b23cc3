"""Spectral normalisation as a hook before forward: weight = w / sigma(w), its largest singular value (Miyato et al. 2018)."""

from __future__ import annotations

from typing import Any

from ...autograd import no_grad
from ...ops import shape
from .. import functional as F
from ..conv import _ConvTranspose
from ..init import normal_
from ..module import Module
from ..parameter import Parameter, blank, is_lazy
from .weight_norm import _hooks


def as_matrix(w: Any, dim: int) -> Any:
    """w with `dim` as its rows and all others, in order, as its columns."""
    order = (dim, *(d for d in range(w.dim()) if d != dim))
    return (shape.permute(w, order) if dim else w).reshape(w.shape[dim], -1)


def unit(size: int, like: Any, eps: float) -> Any:
    """A random vector of length 1."""
    return F.normalize(normal_(blank((size,), like.dtype, like.device)), dim=0, eps=eps)


def put(target: Any, values: Any) -> None:
    """Write into a buffer, off the tape."""
    target.array[...] = values.array
    target.version.bump()


class SpectralNorm:
    """The hook of spectral_norm: it sets the weight before each forward, in training after power iterations."""

    _version = 1

    def __init__(self, name: str = "weight", n_power_iterations: int = 1, dim: int = 0, eps: float = 1e-12) -> None:
        if n_power_iterations <= 0:
            raise ValueError(f"spectral_norm: wanted n_power_iterations > 0, saw {n_power_iterations}")
        self.name, self.n_power_iterations, self.dim, self.eps = name, n_power_iterations, dim, eps

    def compute_weight(self, module: Any, do_power_iteration: bool) -> Any:
        """w / (u^T w v), u and v brought nearer to the singular vectors first if asked."""
        w, u, v = (getattr(module, f"{self.name}_{part}") for part in ("orig", "u", "v"))
        m = as_matrix(w, self.dim)
        if do_power_iteration:
            with no_grad():
                for _ in range(self.n_power_iterations):
                    put(v, F.normalize(m.t() @ u, dim=0, eps=self.eps))
                    put(u, F.normalize(m @ v, dim=0, eps=self.eps))
        return w / (u.clone() @ (m @ v.clone()))

    def __call__(self, module: Any, inputs: Any) -> None:
        setattr(module, self.name, self.compute_weight(module, module.training))


def spectral_norm(
    module: Any, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> Any:
    """Divide a parameter by its spectral norm: it becomes name_orig; the buffers name_u and name_v are singular vectors.

    dim is the one of the outputs: 1 for transposed convolutions, 0 else, unless given.
    """
    dim = (1 if isinstance(module, _ConvTranspose) else 0) if dim is None else dim
    if _hooks(module, SpectralNorm, name):
        raise RuntimeError(f"spectral_norm: the parameter {name!r} has one already")
    hook, w = SpectralNorm(name, n_power_iterations, dim, eps), module._parameters[name]
    if w is None:
        raise ValueError(f"spectral_norm: wanted a parameter, saw None as {name!r}")
    if is_lazy(w):
        raise ValueError(f"spectral_norm: wanted a parameter with a shape, saw {name!r} without; run the module once")
    rows, columns = as_matrix(w.data, dim).shape
    delattr(module, name)
    module.register_parameter(f"{name}_orig", w)
    setattr(module, name, w.data)  # no parameter: a plain attribute that forward finds
    module.register_buffer(f"{name}_u", unit(rows, w, eps))
    module.register_buffer(f"{name}_v", unit(columns, w, eps))
    module.register_forward_pre_hook(hook)
    return module


def remove_spectral_norm(module: Any, name: str = "weight") -> Module:
    """Make the weight, as it is now, the parameter again. ValueError if there is no spectral_norm on it."""
    for handle in _hooks(module, SpectralNorm, name):
        hook = module._forward_pre_hooks[handle][0]
        with no_grad():
            weight = hook.compute_weight(module, False)
        handle.remove()
        for part in (name, f"{name}_u", f"{name}_v", f"{name}_orig"):
            delattr(module, part)
        module.register_parameter(name, Parameter(weight.detach()))
        return module
    raise ValueError(f"remove_spectral_norm: there is no spectral_norm on {name!r} of {type(module).__name__}")
