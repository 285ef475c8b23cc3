"""Invertible maps of tensors with the logarithm of their Jacobian's determinant, to make distributions of distributions."""

from __future__ import annotations

import math
from typing import Any

from ..dtypes import finfo
from ..ops import pointwise, reduce
from ..ops.softmax import softmax
from . import constraints
from .distribution import summed


class Transform:
    """y = t(x), x = t.inv(y), log |det dy/dx| of x and y.

    bijective  it has an inverse; `sign` is that of a monotone map's slope
    """

    bijective = True
    domain: Any = constraints.real
    codomain: Any = constraints.real

    def __init__(self, cache_size: int = 0) -> None:
        self._inverse: Transform | None = None

    @property
    def inv(self) -> Transform:
        """The map from y to x."""
        if self._inverse is None:
            self._inverse = _Inverse(self)
        return self._inverse

    @property
    def sign(self) -> Any:
        """1 or -1: whether it rises or falls."""
        raise NotImplementedError(f"{type(self).__name__} is not monotone")

    def __call__(self, x: Any) -> Any:
        return self._call(x)

    def _call(self, x: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no _call")

    def _inv(self, y: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no inverse")

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        """log |det dy/dx|."""
        raise NotImplementedError(f"{type(self).__name__} has no log_abs_det_jacobian")

    def forward_shape(self, shape: Any) -> Any:
        """The shape of y for one of x."""
        return shape

    def inverse_shape(self, shape: Any) -> Any:
        """The shape of x for one of y."""
        return shape

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class _Inverse(Transform):
    """A transform the other way round."""

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        self._inverse, self.bijective = transform, transform.bijective
        self.domain, self.codomain = transform.codomain, transform.domain

    sign = property(lambda self: self._inverse.sign)

    def _call(self, x: Any) -> Any:
        return self._inverse._inv(x)  # type: ignore[union-attr]

    def _inv(self, y: Any) -> Any:
        return self._inverse._call(y)  # type: ignore[union-attr]

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        return -self._inverse.log_abs_det_jacobian(y, x)  # type: ignore[union-attr]

    def forward_shape(self, shape: Any) -> Any:
        return self._inverse.inverse_shape(shape)  # type: ignore[union-attr]

    def inverse_shape(self, shape: Any) -> Any:
        return self._inverse.forward_shape(shape)  # type: ignore[union-attr]


class ComposeTransform(Transform):
    """One after the other."""

    def __init__(self, parts: Any, cache_size: int = 0) -> None:
        super().__init__()
        self.parts = list(parts)
        self.bijective = all(p.bijective for p in self.parts)
        self.domain = self.parts[0].domain if self.parts else constraints.real
        self.codomain = self.parts[-1].codomain if self.parts else constraints.real

    sign = property(lambda self: math.prod(p.sign for p in self.parts))

    def _call(self, x: Any) -> Any:
        for part in self.parts:
            x = part(x)
        return x

    def _inv(self, y: Any) -> Any:
        for part in reversed(self.parts):
            y = part.inv(y)
        return y

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        dims = max((p.domain.event_dim for p in self.parts), default=0)
        total: Any = 0
        for part in self.parts:
            z = part(x)
            total = total + summed(part.log_abs_det_jacobian(x, z), dims - part.domain.event_dim)
            x = z
        return total

    def forward_shape(self, shape: Any) -> Any:
        for part in self.parts:
            shape = part.forward_shape(shape)
        return shape

    def inverse_shape(self, shape: Any) -> Any:
        for part in reversed(self.parts):
            shape = part.inverse_shape(shape)
        return shape


class AffineTransform(Transform):
    """y = loc + scale x."""

    def __init__(self, loc: Any, scale: Any, event_dim: int = 0, cache_size: int = 0) -> None:
        super().__init__()
        self.loc, self.scale, self.event_dim = loc, scale, event_dim
        self.domain = self.codomain = (
            constraints.independent(constraints.real, event_dim) if event_dim else constraints.real
        )

    @property
    def sign(self) -> Any:
        return self.scale.sign() if hasattr(self.scale, "sign") else (self.scale > 0) - (self.scale < 0)

    def _call(self, x: Any) -> Any:
        return self.loc + self.scale * x

    def _inv(self, y: Any) -> Any:
        return (y - self.loc) / self.scale

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        size = x * 0 + (
            pointwise.log(pointwise.abs(self.scale)) if hasattr(self.scale, "shape") else math.log(abs(self.scale))
        )
        return summed(size, self.event_dim)


class ExpTransform(Transform):
    """y = e^x."""

    codomain, sign = constraints.positive, 1

    def _call(self, x: Any) -> Any:
        return pointwise.exp(x)

    def _inv(self, y: Any) -> Any:
        return pointwise.log(y)

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        return x


class PowerTransform(Transform):
    """y = x^exponent for x > 0."""

    domain = codomain = constraints.positive

    def __init__(self, exponent: Any, cache_size: int = 0) -> None:
        super().__init__()
        self.exponent = exponent

    @property
    def sign(self) -> Any:
        return self.exponent.sign() if hasattr(self.exponent, "sign") else (1 if self.exponent > 0 else -1)

    def _call(self, x: Any) -> Any:
        return x**self.exponent

    def _inv(self, y: Any) -> Any:
        return y ** (1 / self.exponent)

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        return pointwise.log(pointwise.abs(self.exponent * y / x))


class SigmoidTransform(Transform):
    """y = 1 / (1 + e^-x)."""

    codomain, sign = constraints.unit_interval, 1

    def _call(self, x: Any) -> Any:
        limits = finfo(x.dtype)
        return pointwise.clamp(pointwise.sigmoid(x), float(limits.tiny), 1 - float(limits.eps))

    def _inv(self, y: Any) -> Any:
        limits = finfo(y.dtype)
        y = pointwise.clamp(y, float(limits.tiny), 1 - float(limits.eps))
        return pointwise.log(y) - pointwise.log1p(-y)

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        return -pointwise.softplus(-x) - pointwise.softplus(x)


class TanhTransform(Transform):
    """y = tanh x."""

    codomain, sign = constraints.interval(-1.0, 1.0), 1

    def _call(self, x: Any) -> Any:
        return pointwise.tanh(x)

    def _inv(self, y: Any) -> Any:
        return pointwise.atanh(y)

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        return 2 * (math.log(2) - x - pointwise.softplus(-2 * x))  # log(1 - tanh^2 x) without its cancellation


class SoftplusTransform(Transform):
    """y = log(1 + e^x)."""

    codomain, sign = constraints.positive, 1

    def _call(self, x: Any) -> Any:
        return pointwise.softplus(x)

    def _inv(self, y: Any) -> Any:
        return pointwise.log(-pointwise.expm1(-y)) + y

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        return -pointwise.softplus(-x)


class AbsTransform(Transform):
    """y = |x|, which has no inverse but y itself."""

    bijective = False
    codomain = constraints.nonnegative

    def _call(self, x: Any) -> Any:
        return pointwise.abs(x)

    def _inv(self, y: Any) -> Any:
        return y


class SoftmaxTransform(Transform):
    """y = softmax(x), for which log y is an inverse up to a constant."""

    bijective = False
    domain, codomain = constraints.real_vector, constraints.simplex

    def _call(self, x: Any) -> Any:
        return softmax(x, -1)

    def _inv(self, y: Any) -> Any:
        return pointwise.log(y)


class IndependentTransform(Transform):
    """A transform whose last dimensions count as one event."""

    def __init__(self, base_transform: Transform, reinterpreted_batch_ndims: int, cache_size: int = 0) -> None:
        super().__init__()
        self.base_transform, self.reinterpreted_batch_ndims = base_transform, reinterpreted_batch_ndims
        self.bijective = base_transform.bijective
        self.domain = constraints.independent(base_transform.domain, reinterpreted_batch_ndims)
        self.codomain = constraints.independent(base_transform.codomain, reinterpreted_batch_ndims)

    def _call(self, x: Any) -> Any:
        return self.base_transform(x)

    def _inv(self, y: Any) -> Any:
        return self.base_transform.inv(y)

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        return summed(self.base_transform.log_abs_det_jacobian(x, y), self.reinterpreted_batch_ndims)


class ReshapeTransform(Transform):
    """The event in another shape."""

    def __init__(self, in_shape: Any, out_shape: Any, cache_size: int = 0) -> None:
        super().__init__()
        self.in_shape, self.out_shape = tuple(in_shape), tuple(out_shape)
        if math.prod(self.in_shape) != math.prod(self.out_shape):
            raise ValueError(f"ReshapeTransform: wanted shapes of one size, saw {self.in_shape} and {self.out_shape}")
        self.domain = constraints.independent(constraints.real, len(self.in_shape))
        self.codomain = constraints.independent(constraints.real, len(self.out_shape))

    def _call(self, x: Any) -> Any:
        return x.reshape(*x.shape[: x.ndim - len(self.in_shape)], *self.out_shape)

    def _inv(self, y: Any) -> Any:
        return y.reshape(*y.shape[: y.ndim - len(self.out_shape)], *self.in_shape)

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        return reduce.sum(x * 0, tuple(range(-len(self.in_shape), 0))) if self.in_shape else x * 0

    def forward_shape(self, shape: Any) -> Any:
        return (*shape[: len(shape) - len(self.in_shape)], *self.out_shape)

    def inverse_shape(self, shape: Any) -> Any:
        return (*shape[: len(shape) - len(self.out_shape)], *self.in_shape)


identity_transform = ComposeTransform([])
