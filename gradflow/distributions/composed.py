"""Distributions made of distributions: independent parts as one event, transformed values, mixtures."""

from __future__ import annotations

import math
from typing import Any

import gradflow as gf

from ..autograd import no_grad
from ..ops import gather, pointwise, reduce, shape
from ..ops.softmax import log_softmax
from ..tensor import Size
from . import constraints
from .continuous import Normal
from .discrete import Categorical
from .distribution import Distribution, broadcast_all, summed
from .transforms import ComposeTransform, ExpTransform, Transform


class Independent(Distribution):
    """A distribution whose last batch dimensions are part of the event: their log_probs are summed."""

    def __init__(
        self, base_distribution: Any, reinterpreted_batch_ndims: int, validate_args: bool | None = None
    ) -> None:
        base = base_distribution
        if reinterpreted_batch_ndims > len(base.batch_shape):
            raise ValueError(
                f"Independent: wanted at most {len(base.batch_shape)} batch dimensions, saw {reinterpreted_batch_ndims}"
            )
        self.base_dist, self.reinterpreted_batch_ndims = base, reinterpreted_batch_ndims
        whole = tuple(base.batch_shape) + tuple(base.event_shape)
        cut = len(base.batch_shape) - reinterpreted_batch_ndims
        super().__init__(whole[:cut], whole[cut:], validate_args=validate_args)

    has_rsample = property(lambda self: self.base_dist.has_rsample)  # type: ignore[assignment]
    support = property(lambda self: constraints.independent(self.base_dist.support, self.reinterpreted_batch_ndims))
    mean = property(lambda self: self.base_dist.mean)
    mode = property(lambda self: self.base_dist.mode)
    variance = property(lambda self: self.base_dist.variance)

    def sample(self, sample_shape: Any = ()) -> Any:
        return self.base_dist.sample(sample_shape)

    def rsample(self, sample_shape: Any = ()) -> Any:
        return self.base_dist.rsample(sample_shape)

    def log_prob(self, value: Any) -> Any:
        return summed(self.base_dist.log_prob(value), self.reinterpreted_batch_ndims)

    def entropy(self) -> Any:
        return summed(self.base_dist.entropy(), self.reinterpreted_batch_ndims)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        inner = tuple(self._event_shape)[: self.reinterpreted_batch_ndims]
        return Independent(
            self.base_dist.expand((*batch_shape, *inner)), self.reinterpreted_batch_ndims, self._validate
        )

    def __repr__(self) -> str:
        return f"Independent({self.base_dist}, {self.reinterpreted_batch_ndims})"


class TransformedDistribution(Distribution):
    """y = t(x) of x from a base distribution: log p(y) = log p(x) - log |det dy/dx|."""

    def __init__(self, base_distribution: Any, transforms: Any, validate_args: bool | None = None) -> None:
        self.transforms = [transforms] if isinstance(transforms, Transform) else list(transforms)
        whole = ComposeTransform(self.transforms)
        dims = max([len(base_distribution.event_shape), *(t.domain.event_dim for t in self.transforms)])
        extra = dims - len(base_distribution.event_shape)
        self.base_dist = Independent(base_distribution, extra) if extra else base_distribution
        size = tuple(whole.forward_shape(tuple(self.base_dist.batch_shape) + tuple(self.base_dist.event_shape)))
        event = max([len(self.base_dist.event_shape), *(t.codomain.event_dim for t in self.transforms)])
        super().__init__(size[: len(size) - event], size[len(size) - event :], validate_args=validate_args)

    has_rsample = property(lambda self: self.base_dist.has_rsample)  # type: ignore[assignment]
    support = property(lambda self: self.transforms[-1].codomain if self.transforms else self.base_dist.support)

    def _forward(self, x: Any) -> Any:
        for t in self.transforms:
            x = t(x)
        return x

    def sample(self, sample_shape: Any = ()) -> Any:
        with no_grad():
            return self._forward(self.base_dist.sample(sample_shape))

    def rsample(self, sample_shape: Any = ()) -> Any:
        return self._forward(self.base_dist.rsample(sample_shape))

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        dims, y, total = len(self._event_shape), value, 0.0
        for t in reversed(self.transforms):
            x = t.inv(y)
            dims += t.domain.event_dim - t.codomain.event_dim
            total = total - summed(t.log_abs_det_jacobian(x, y), dims - t.domain.event_dim)
            y = x
        return total + summed(self.base_dist.log_prob(y), dims - len(self.base_dist.event_shape))

    def _turned(self, value: Any) -> Any:
        sign = math.prod(t.sign for t in self.transforms)
        return value if isinstance(sign, (int, float)) and sign == 1 else sign * (value - 0.5) + 0.5

    def cdf(self, value: Any) -> Any:
        self._check(value)
        for t in reversed(self.transforms):
            value = t.inv(value)
        return self._turned(self.base_dist.cdf(value))

    def icdf(self, value: Any) -> Any:
        return self._forward(self.base_dist.icdf(self._turned(value)))

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        inner = tuple(self.base_dist.batch_shape)[len(self._batch_shape) :]
        return TransformedDistribution(self.base_dist.expand((*batch_shape, *inner)), self.transforms, self._validate)

    def __repr__(self) -> str:
        return f"TransformedDistribution({self.base_dist}, {self.transforms})"


class LogNormal(TransformedDistribution):
    """e^x of x ~ N(loc, scale^2)."""

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        super().__init__(Normal(loc, scale, validate_args), ExpTransform(), validate_args)

    loc = property(lambda self: self.base_dist.loc)
    scale = property(lambda self: self.base_dist.scale)
    mean = property(lambda self: pointwise.exp(self.loc + self.scale**2 / 2))
    mode = property(lambda self: pointwise.exp(self.loc - self.scale**2))
    variance = property(lambda self: pointwise.expm1(self.scale**2) * pointwise.exp(2 * self.loc + self.scale**2))

    def entropy(self) -> Any:
        return self.base_dist.entropy() + self.loc


class Kumaraswamy(TransformedDistribution):
    """The distribution function 1 - (1 - x^a)^b on (0, 1)."""

    arg_constraints = {"concentration1": constraints.positive, "concentration0": constraints.positive}
    support = constraints.unit_interval

    def __init__(self, concentration1: Any, concentration0: Any, validate_args: bool | None = None) -> None:
        from .continuous import Uniform
        from .transforms import AffineTransform, PowerTransform

        a, b = self.concentration1, self.concentration0 = broadcast_all(concentration1, concentration0)
        steps = [PowerTransform(1 / b), AffineTransform(1.0, -1.0), PowerTransform(1 / a)]
        super().__init__(Uniform(a * 0, a * 0 + 1, validate_args=False), steps, validate_args)

    def _moment(self, n: int) -> Any:
        a, b = self.concentration1, self.concentration0
        z = 1 + n / a
        return pointwise.exp(pointwise.log(b) + gf.lgamma(z) + gf.lgamma(b) - gf.lgamma(z + b))

    mean = property(lambda self: self._moment(1))
    variance = property(lambda self: self._moment(2) - self._moment(1) ** 2)


class MixtureSameFamily(Distribution):
    """A component drawn from a Categorical, a value drawn from that component (the last batch dimension)."""

    has_rsample = False

    def __init__(
        self, mixture_distribution: Any, component_distribution: Any, validate_args: bool | None = None
    ) -> None:
        if not isinstance(mixture_distribution, Categorical):
            raise ValueError(
                f"MixtureSameFamily: wanted a Categorical mixture, saw {type(mixture_distribution).__name__}"
            )
        self._mixture_distribution, self._component_distribution = mixture_distribution, component_distribution
        parts = component_distribution
        self._event_ndims = len(parts.event_shape)
        super().__init__(parts.batch_shape[:-1], parts.event_shape, validate_args=validate_args)

    mixture_distribution = property(lambda self: self._mixture_distribution)
    component_distribution = property(lambda self: self._component_distribution)
    support = property(lambda self: self._component_distribution.support)

    def _weights(self) -> Any:
        p = self._mixture_distribution.probs
        return p.reshape(*p.shape, *([1] * self._event_ndims))

    mean = property(
        lambda self: reduce.sum(self._weights() * self._component_distribution.mean, -1 - self._event_ndims)
    )

    @property
    def variance(self) -> Any:
        w, parts, dim = self._weights(), self._component_distribution, -1 - self._event_ndims
        within = reduce.sum(w * parts.variance, dim)
        return within + reduce.sum(w * (parts.mean - shape.unsqueeze(self.mean, dim)) ** 2, dim)

    def cdf(self, value: Any) -> Any:
        parts = self._component_distribution.cdf(shape.unsqueeze(value, -1 - self._event_ndims))
        return reduce.sum(parts * self._mixture_distribution.probs, -1)

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        parts = self._component_distribution.log_prob(shape.unsqueeze(value, -1 - self._event_ndims))
        return reduce.logsumexp(parts + log_softmax(self._mixture_distribution.logits, -1), -1)

    def sample(self, sample_shape: Any = ()) -> Any:
        with no_grad():
            lead = len(Size(sample_shape)) + len(self._batch_shape)
            which = self._mixture_distribution.sample(sample_shape)
            values = self._component_distribution.sample(sample_shape)
            index = which.reshape(*which.shape, *([1] * (1 + self._event_ndims)))
            index = shape.expand(index, (*which.shape, 1, *self._event_shape))
            return shape.squeeze(gather.gather(values, lead, index), lead)
