"""The normal distribution of vectors."""

from __future__ import annotations

import math
from typing import Any

from ..linalg import cholesky, solve_triangular
from ..ops import pointwise, reduce, shape
from ..ops.arrange import diag_embed, diagonal
from . import constraints
from .distribution import Distribution, normal


class MultivariateNormal(Distribution):
    """N(loc, S): density exp(-(x - loc)^T S^-1 (x - loc) / 2) / sqrt((2 pi)^k det S), by S's Cholesky factor L, S = L L^T.

    One of covariance_matrix, precision_matrix (its inverse) and scale_tril (L) is given.
    """

    arg_constraints = {
        "loc": constraints.real_vector, "covariance_matrix": constraints.positive_definite,
        "precision_matrix": constraints.positive_definite, "scale_tril": constraints.lower_cholesky,
    }  # fmt: skip
    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self, loc: Any, covariance_matrix: Any = None, precision_matrix: Any = None, scale_tril: Any = None,
        validate_args: bool | None = None,
    ) -> None:  # fmt: skip
        given = {
            "covariance_matrix": covariance_matrix, "precision_matrix": precision_matrix, "scale_tril": scale_tril,
        }  # fmt: skip
        given = {k: v for k, v in given.items() if v is not None}
        if loc.dim() < 1:
            raise ValueError("MultivariateNormal: wanted loc of one dimension or more, saw a 0-d tensor")
        if len(given) != 1:
            raise ValueError(
                f"MultivariateNormal: wanted one of covariance, precision and scale_tril, saw {list(given)}"
            )
        ((name, matrix),) = given.items()
        if matrix.dim() < 2:
            raise ValueError(
                f"MultivariateNormal: wanted {name} of two dimensions or more, saw shape {tuple(matrix.shape)}"
            )
        batch = shape.broadcast_shapes(tuple(matrix.shape[:-2]), tuple(loc.shape[:-1]))
        self.loc = shape.expand(loc, (*batch, loc.shape[-1]))
        self.__dict__[name] = shape.expand(matrix, (*batch, *matrix.shape[-2:]))
        super().__init__(batch, loc.shape[-1:], validate_args=validate_args)
        if name == "scale_tril":
            self._unbroadcasted_scale_tril = matrix
        elif name == "covariance_matrix":
            self._unbroadcasted_scale_tril = cholesky(matrix)
        else:
            from ..linalg import inv

            self._unbroadcasted_scale_tril = cholesky(inv(matrix))

    def __getattr__(self, name: str) -> Any:
        if (
            name not in ("covariance_matrix", "precision_matrix", "scale_tril")
            or "_unbroadcasted_scale_tril" not in self.__dict__
        ):
            raise AttributeError(f"MultivariateNormal has no {name!r}")
        L = self._unbroadcasted_scale_tril
        k = L.shape[-1]
        if name == "precision_matrix":
            from ..linalg import inv

            L = inv(L @ L.mT)
        elif name == "covariance_matrix":
            L = L @ L.mT
        return shape.expand(L, (*self._batch_shape, k, k))

    mean = mode = property(lambda self: self.loc)

    @property
    def variance(self) -> Any:
        return shape.expand(reduce.sum(self._unbroadcasted_scale_tril**2, -1), tuple(self.loc.shape))

    def rsample(self, sample_shape: Any = ()) -> Any:
        z = normal(self.loc, self._extended_shape(sample_shape))
        return self.loc + (self._unbroadcasted_scale_tril @ shape.unsqueeze(z, -1)).squeeze(-1)

    def _half_log_det(self) -> Any:
        return reduce.sum(pointwise.log(diagonal(self._unbroadcasted_scale_tril, 0, -2, -1)), -1)

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        z = solve_triangular(self._unbroadcasted_scale_tril, shape.unsqueeze(value - self.loc, -1), upper=False)
        mahalanobis = reduce.sum(z**2, (-2, -1))
        return -0.5 * (self._event_shape[0] * math.log(2 * math.pi) + mahalanobis) - self._half_log_det()

    def entropy(self) -> Any:
        h = 0.5 * self._event_shape[0] * (1 + math.log(2 * math.pi)) + self._half_log_det()
        return shape.expand(h, tuple(self._batch_shape))

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        L = self._unbroadcasted_scale_tril
        loc = shape.expand(self.loc, (*batch_shape, *self._event_shape))
        return MultivariateNormal(loc, scale_tril=shape.expand(L, (*batch_shape, *L.shape[-2:])), validate_args=False)


class LowRankMultivariateNormal(MultivariateNormal):
    """N(loc, W W^T + diag(d)), W of few columns."""

    def __init__(self, loc: Any, cov_factor: Any, cov_diag: Any, validate_args: bool | None = None) -> None:
        super().__init__(loc, cov_factor @ cov_factor.mT + diag_embed(cov_diag), validate_args=validate_args)
        self.cov_factor, self.cov_diag = cov_factor, cov_diag
