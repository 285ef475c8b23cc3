"""Parametrizations that are often wanted: orthogonal matrices, spectral norm one, length and direction apart."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ... import backend
from ...autograd import no_grad
from ...op import wrap
from ...ops import arrange, join, reduce, shape
from .. import functional as F
from ..conv import _ConvTranspose
from ..init import normal_
from ..module import Module
from ..parameter import blank
from . import parametrize
from .spectral_norm import as_matrix, put, unit
from .weight_norm import norm_except_dim, normalized

_MAPS = ("matrix_exp", "cayley", "householder")


def _transposed(x: Any) -> Any:
    return shape.transpose(x, -2, -1)


def _adjoint(x: Any) -> Any:
    return _transposed(x.conj() if x.is_complex() else x)


class _Orthogonal(Module):
    """X -> Q with orthonormal columns (rows, where X is wide), by a map of X's lower triangle.

    matrix_exp    exp(A), A = tril X - (tril X)^H
    cayley        (I + A / 2) (I - A / 2)^-1
    householder   the product of the reflections whose vectors are X's columns below the diagonal, the signs of X's
                  diagonal on its columns
    With trivialization Q is `base` times that, and X starts where the map is the identity (Lezcano-Casado 2019).
    """

    base: Any

    def __init__(self, weight: Any, orthogonal_map: str, use_trivialization: bool) -> None:
        super().__init__()
        if weight.is_complex() and orthogonal_map == "householder":
            raise ValueError("orthogonal: wanted a real tensor for the map 'householder', saw a complex one")
        self.shape, self.orthogonal_map = tuple(weight.shape), orthogonal_map
        if use_trivialization:
            self.register_buffer("base", None)

    def forward(self, x: Any) -> Any:
        """The orthogonal matrix."""
        linalg = import_module("gradflow.linalg")
        n, k = x.shape[-2:]
        wide = n < k
        if wide:
            x, n, k = _transposed(x), k, n
        if self.orthogonal_map == "householder":
            a = arrange.tril(x, -1)
            tau = 2.0 / (1.0 + reduce.sum(a * a, -2))
            q = linalg.householder_product(a, tau)
            signs = arrange.diagonal(x.detach(), dim1=-2, dim2=-1).trunc()
            q = q * shape.unsqueeze(signs, -2)
        else:
            x = arrange.tril(x)
            if n != k:
                x = F.pad(x, (0, n - k))
            a = x - _adjoint(x)
            if self.orthogonal_map == "matrix_exp":
                q = linalg.matrix_exp(a)
            else:
                with backend.on(a.device) as xp:
                    one = wrap(xp.eye(n, dtype=a.array.dtype))
                q = linalg.solve(one - a * 0.5, one + a * 0.5)
            q = q[..., :k] if n != k else q
        if "base" in self._buffers:
            q = self.base @ q
        return _transposed(q) if wide else q

    def right_inverse(self, q: Any) -> Any:
        """X, and base, for an orthogonal matrix; another matrix is made orthogonal first."""
        linalg = import_module("gradflow.linalg")
        if tuple(q.shape) != self.shape:
            raise ValueError(f"orthogonal: wanted a tensor of shape {self.shape}, saw {tuple(q.shape)}")
        n, k = q.shape[-2:]
        wide = n < k
        start = wrap(backend.namespace(q.array).zeros(q.array.shape, q.array.dtype))
        with no_grad():
            tall = _transposed(q) if wide else q
            n, k = tall.shape[-2:]
            if "base" not in self._buffers:
                if self.orthogonal_map != "householder":
                    raise NotImplementedError(
                        f"orthogonal: no tensor can be assigned to the map {self.orthogonal_map!r} without trivialization"
                    )
                a, tau = import_module("gradflow").geqrf(tall)
                a = a.clone()
                xp, at = backend.namespace(a.array), range(min(n, k))
                diagonal = xp.sign(a.array[..., at, at])
                a.array[..., at, at] = xp.where(tau.array == 0, -diagonal, diagonal)
                return _transposed(a) if wide else a
            if n == k and _is_orthogonal(tall):
                base = tall.clone()
            else:
                if n != k:
                    more = normal_(blank((*tall.shape[:-2], n, n - k), tall.dtype, tall.device))
                    tall = join.cat([tall, more], -1)
                base, r = linalg.qr(tall)
                signs = arrange.diagonal(r, dim1=-2, dim2=-1).sgn()
                base = base * shape.unsqueeze(signs, -2)  # the one decomposition whose R has a positive diagonal
            self.base = base
            at = range(min(self.shape[-2:]))
            start.array[..., at, at] = -1
        return start


def _is_orthogonal(q: Any) -> bool:
    n, k = q.shape[-2:]
    xp = backend.namespace(q.array)
    one = xp.eye(k, dtype=q.array.dtype)
    eps = 10 * n * float(xp.finfo(q.array.dtype).eps)
    return bool(xp.allclose((_adjoint(q) @ q).array, one, atol=eps))


def orthogonal(
    module: Module, name: str = "weight", orthogonal_map: str | None = None, *, use_trivialization: bool = True
) -> Module:
    """Let a matrix, or a batch of them, have orthonormal columns or rows, whichever are shorter.

    orthogonal_map: 'matrix_exp' (for square and complex matrices unless given), 'cayley' or 'householder' (for the others).
    """
    weight = getattr(module, name, None)
    if weight is None:
        raise ValueError(f"orthogonal: {type(module).__name__} has no parameter or buffer {name!r}")
    if weight.dim() < 2:
        raise ValueError(f"orthogonal: wanted a matrix or a batch of matrices, saw shape {tuple(weight.shape)}")
    if orthogonal_map is None:
        square = weight.shape[-2] == weight.shape[-1]
        orthogonal_map = "matrix_exp" if square or weight.is_complex() else "householder"
    if orthogonal_map not in _MAPS:
        raise ValueError(f"orthogonal: wanted orthogonal_map one of {', '.join(_MAPS)}, saw {orthogonal_map!r}")
    return parametrize.register_parametrization(
        module, name, _Orthogonal(weight, orthogonal_map, use_trivialization), unsafe=True
    )


class _WeightNorm(Module):
    """(g, v) -> g v / |v|."""

    def __init__(self, dim: int | None = 0) -> None:
        super().__init__()
        self.dim = -1 if dim is None else dim

    def forward(self, weight_g: Any, weight_v: Any) -> Any:
        """The weight."""
        return normalized(weight_v, weight_g, self.dim)

    def right_inverse(self, weight: Any) -> tuple[Any, Any]:
        """Its length and itself."""
        return norm_except_dim(weight, 2, self.dim), weight


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """Train the length and the direction of a weight apart (Salimans and Kingma 2016): original0 is g, original1 is v.

    dim is the one whose slices each have a length; None is one length for all. State_dicts of the hook load, too.
    """
    part = _WeightNorm(dim)
    parametrize.register_parametrization(module, name, part, unsafe=True)

    def rename(
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        old = f"{prefix}{name}_g", f"{prefix}{name}_v"
        if all(key in state_dict for key in old):
            for i, key in enumerate(old):
                state_dict[f"{prefix}parametrizations.{name}.original{i}"] = state_dict.pop(key)

    module._register_load_state_dict_pre_hook(rename)
    return module


class _SpectralNorm(Module):
    """w -> w / (u^T w v), u and v the first singular vectors, followed by power iterations in training."""

    _u: Any
    _v: Any

    def __init__(self, weight: Any, n_power_iterations: int = 1, dim: int = 0, eps: float = 1e-12) -> None:
        super().__init__()
        ndim = weight.dim()
        if not -ndim <= dim < ndim:
            raise IndexError(f"spectral_norm: wanted dim from {-ndim} to {ndim - 1}, saw {dim}")
        if n_power_iterations <= 0:
            raise ValueError(f"spectral_norm: wanted n_power_iterations > 0, saw {n_power_iterations}")
        self.dim, self.eps = dim % ndim, eps
        if ndim > 1:
            self.n_power_iterations = n_power_iterations
            matrix = as_matrix(weight.detach(), self.dim)
            self.register_buffer("_u", unit(matrix.shape[0], weight, eps))
            self.register_buffer("_v", unit(matrix.shape[1], weight, eps))
            self._follow(matrix, 15)

    def _follow(self, matrix: Any, times: int) -> None:
        with no_grad():
            for _ in range(times):
                put(self._u, F.normalize(matrix @ self._v, dim=0, eps=self.eps))
                put(self._v, F.normalize(_adjoint(matrix) @ self._u, dim=0, eps=self.eps))

    def forward(self, weight: Any) -> Any:
        """The weight of spectral norm one; a vector of length one."""
        if weight.dim() == 1:
            return F.normalize(weight, dim=0, eps=self.eps)
        matrix = as_matrix(weight, self.dim)
        if self.training:
            self._follow(matrix, self.n_power_iterations)
        u, v = self._u.clone(), self._v.clone()
        return weight / (u.conj() if u.is_complex() else u).matmul(matrix @ v)

    def right_inverse(self, value: Any) -> Any:
        """The value itself."""
        return value


def spectral_norm(
    module: Module, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> Module:
    """Divide a weight by its largest singular value (Miyato et al. 2018); dim is the one of the outputs."""
    weight = getattr(module, name, None)
    if weight is None:
        raise ValueError(f"spectral_norm: {type(module).__name__} has no parameter or buffer {name!r}")
    if dim is None:
        dim = 1 if isinstance(module, _ConvTranspose) else 0
    return parametrize.register_parametrization(module, name, _SpectralNorm(weight, n_power_iterations, dim, eps))
