"""Distributions over the real line, or a part of it, whose samples are a function of uniform or normal numbers."""

from __future__ import annotations

import math
from typing import Any

import gradflow as gf

from ..ops import pointwise
from . import constraints
from .distribution import Distribution, ExponentialFamily, broadcast_all, normal, uniform

EULER = 0.5772156649015329  # Euler's constant
HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)


class _LocationScale(Distribution):
    """loc + scale z, of z from one distribution of the family."""

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    support = constraints.real
    has_rsample = True

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        self.loc, self.scale = broadcast_all(loc, scale)
        super().__init__(self.loc.shape, validate_args=validate_args)


class Normal(_LocationScale, ExponentialFamily):
    """N(loc, scale^2): density exp(-(x - loc)^2 / (2 scale^2)) / (scale sqrt(2 pi))."""

    mean = mode = property(lambda self: self.loc)
    stddev = property(lambda self: self.scale)
    variance = property(lambda self: self.scale**2)

    def rsample(self, sample_shape: Any = ()) -> Any:
        return self.loc + normal(self.loc, self._extended_shape(sample_shape)) * self.scale

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        return -((value - self.loc) ** 2) / (2 * self.scale**2) - pointwise.log(self.scale) - HALF_LOG_TAU

    def cdf(self, value: Any) -> Any:
        self._check(value)
        return 0.5 * (1 + pointwise.erf((value - self.loc) / self.scale / math.sqrt(2)))

    def icdf(self, value: Any) -> Any:
        return self.loc + self.scale * gf.erfinv(2 * value - 1) * math.sqrt(2)

    def entropy(self) -> Any:
        return 0.5 + HALF_LOG_TAU + pointwise.log(self.scale)


class Uniform(Distribution):
    """Every value in [low, high) alike: density 1 / (high - low)."""

    arg_constraints = {"low": constraints.dependent, "high": constraints.dependent}
    has_rsample = True

    def __init__(self, low: Any, high: Any, validate_args: bool | None = None) -> None:
        self.low, self.high = broadcast_all(low, high)
        super().__init__(self.low.shape, validate_args=validate_args)
        if self._validate and not bool((self.low < self.high).all()):
            raise ValueError(f"Uniform: wanted low < high, saw {self.low} and {self.high}")

    support = property(lambda self: constraints.interval(self.low, self.high))
    mean = property(lambda self: (self.high + self.low) / 2)
    mode = property(lambda self: self.mean * math.nan)
    stddev = property(lambda self: (self.high - self.low) / math.sqrt(12))
    variance = property(lambda self: (self.high - self.low) ** 2 / 12)

    def rsample(self, sample_shape: Any = ()) -> Any:
        u = gf.rand(self._extended_shape(sample_shape), dtype=self.low.dtype, device=self.low.device)
        return self.low + u * (self.high - self.low)

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        inside = pointwise.cast((self.low <= value) & (self.high > value), self.low.dtype)
        return pointwise.log(inside) - pointwise.log(self.high - self.low)

    def cdf(self, value: Any) -> Any:
        self._check(value)
        return pointwise.clamp((value - self.low) / (self.high - self.low), 0, 1)

    def icdf(self, value: Any) -> Any:
        return value * (self.high - self.low) + self.low

    def entropy(self) -> Any:
        return pointwise.log(self.high - self.low)


class Exponential(ExponentialFamily):
    """Density rate e^(-rate x) for x >= 0."""

    arg_constraints = {"rate": constraints.positive}
    support = constraints.nonnegative
    has_rsample = True

    def __init__(self, rate: Any, validate_args: bool | None = None) -> None:
        (self.rate,) = broadcast_all(rate)
        super().__init__(self.rate.shape, validate_args=validate_args)

    mean = stddev = property(lambda self: 1 / self.rate)
    mode = property(lambda self: self.rate * 0)
    variance = property(lambda self: self.rate**-2)

    def rsample(self, sample_shape: Any = ()) -> Any:
        size = self._extended_shape(sample_shape)
        return gf.empty(size, dtype=self.rate.dtype, device=self.rate.device).exponential_() / self.rate

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        return pointwise.log(self.rate) - self.rate * value

    def cdf(self, value: Any) -> Any:
        self._check(value)
        return 1 - pointwise.exp(-self.rate * value)

    def icdf(self, value: Any) -> Any:
        return -pointwise.log1p(-value) / self.rate

    def entropy(self) -> Any:
        return 1 - pointwise.log(self.rate)


class Laplace(_LocationScale):
    """Density e^(-|x - loc| / scale) / (2 scale)."""

    mean = mode = property(lambda self: self.loc)
    variance = property(lambda self: 2 * self.scale**2)
    stddev = property(lambda self: math.sqrt(2) * self.scale)

    def rsample(self, sample_shape: Any = ()) -> Any:
        u = uniform(self.loc, self._extended_shape(sample_shape)) * 2 - 1
        return self.loc - self.scale * pointwise.sign(u) * pointwise.log1p(
            -pointwise.clamp(pointwise.abs(u), None, 1 - 1e-7)
        )

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        return -pointwise.log(2 * self.scale) - pointwise.abs(value - self.loc) / self.scale

    def cdf(self, value: Any) -> Any:
        self._check(value)
        z = value - self.loc
        return 0.5 - 0.5 * pointwise.sign(z) * pointwise.expm1(-pointwise.abs(z) / self.scale)

    def icdf(self, value: Any) -> Any:
        z = value - 0.5
        return self.loc - self.scale * pointwise.sign(z) * pointwise.log1p(-2 * pointwise.abs(z))

    def entropy(self) -> Any:
        return 1 + pointwise.log(2 * self.scale)


class Cauchy(_LocationScale):
    """Density 1 / (pi scale (1 + ((x - loc) / scale)^2)); it has no mean."""

    mode = property(lambda self: self.loc)
    mean = property(lambda self: self.loc * math.nan)
    variance = property(lambda self: self.scale * math.inf)

    def rsample(self, sample_shape: Any = ()) -> Any:
        size = self._extended_shape(sample_shape)
        return self.loc + self.scale * gf.empty(size, dtype=self.loc.dtype, device=self.loc.device).cauchy_()

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        return -math.log(math.pi) - pointwise.log(self.scale) - pointwise.log1p(((value - self.loc) / self.scale) ** 2)

    def cdf(self, value: Any) -> Any:
        self._check(value)
        return pointwise.atan((value - self.loc) / self.scale) / math.pi + 0.5

    def icdf(self, value: Any) -> Any:
        return pointwise.tan(math.pi * (value - 0.5)) * self.scale + self.loc

    def entropy(self) -> Any:
        return math.log(4 * math.pi) + pointwise.log(self.scale)


class Gumbel(_LocationScale):
    """The distribution function exp(-e^(-(x - loc) / scale)): of the largest of many."""

    mean = property(lambda self: self.loc + self.scale * EULER)
    mode = property(lambda self: self.loc)
    stddev = property(lambda self: math.pi / math.sqrt(6) * self.scale)
    variance = property(lambda self: self.stddev**2)

    def rsample(self, sample_shape: Any = ()) -> Any:
        u = pointwise.clamp(uniform(self.loc, self._extended_shape(sample_shape)), None, 1 - 1e-7)
        return self.loc - self.scale * pointwise.log(-pointwise.log(u))

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        z = (self.loc - value) / self.scale
        return z - pointwise.exp(z) - pointwise.log(self.scale)

    def cdf(self, value: Any) -> Any:
        self._check(value)
        return pointwise.exp(-pointwise.exp((self.loc - value) / self.scale))

    def icdf(self, value: Any) -> Any:
        return self.loc - self.scale * pointwise.log(-pointwise.log(value))

    def entropy(self) -> Any:
        return pointwise.log(self.scale) + (1 + EULER)


class Weibull(Distribution):
    """The distribution function 1 - exp(-(x / scale)^concentration)."""

    arg_constraints = {"scale": constraints.positive, "concentration": constraints.positive}
    support = constraints.positive
    has_rsample = True

    def __init__(self, scale: Any, concentration: Any, validate_args: bool | None = None) -> None:
        self.scale, self.concentration = broadcast_all(scale, concentration)
        super().__init__(self.scale.shape, validate_args=validate_args)

    mean = property(lambda self: self.scale * pointwise.exp(gf.lgamma(1 + 1 / self.concentration)))

    @property
    def mode(self) -> Any:
        k = self.concentration
        return self.scale * ((k - 1) / k) ** (1 / k)

    @property
    def variance(self) -> Any:
        k = self.concentration
        second = pointwise.exp(gf.lgamma(1 + 2 / k))
        return self.scale**2 * (second - pointwise.exp(2 * gf.lgamma(1 + 1 / k)))

    def rsample(self, sample_shape: Any = ()) -> Any:
        size = self._extended_shape(sample_shape)
        e = gf.empty(size, dtype=self.scale.dtype, device=self.scale.device).exponential_()
        return self.scale * e ** (1 / self.concentration)

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        k, z = self.concentration, value / self.scale
        return pointwise.log(k / self.scale) + (k - 1) * pointwise.log(z) - z**k

    def cdf(self, value: Any) -> Any:
        self._check(value)
        return -pointwise.expm1(-((value / self.scale) ** self.concentration))

    def icdf(self, value: Any) -> Any:
        return self.scale * (-pointwise.log1p(-value)) ** (1 / self.concentration)

    def entropy(self) -> Any:
        k = self.concentration
        return EULER * (1 - 1 / k) + pointwise.log(self.scale / k) + 1


class Pareto(Distribution):
    """The distribution function 1 - (scale / x)^alpha for x >= scale."""

    arg_constraints = {"alpha": constraints.positive, "scale": constraints.positive}
    has_rsample = True

    def __init__(self, scale: Any, alpha: Any, validate_args: bool | None = None) -> None:
        self.scale, self.alpha = broadcast_all(scale, alpha)
        super().__init__(self.scale.shape, validate_args=validate_args)

    support = property(lambda self: constraints.greater_than_eq(self.scale))
    mode = property(lambda self: self.scale)

    @property
    def mean(self) -> Any:
        a = pointwise.clamp(self.alpha, 1)
        return a * self.scale / (a - 1)

    @property
    def variance(self) -> Any:
        a = pointwise.clamp(self.alpha, 2)
        return self.scale**2 * a / ((a - 1) ** 2 * (a - 2))

    def rsample(self, sample_shape: Any = ()) -> Any:
        size = self._extended_shape(sample_shape)
        e = gf.empty(size, dtype=self.scale.dtype, device=self.scale.device).exponential_()
        return self.scale * pointwise.exp(e / self.alpha)

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        return (
            pointwise.log(self.alpha) + self.alpha * pointwise.log(self.scale) - (self.alpha + 1) * pointwise.log(value)
        )

    def cdf(self, value: Any) -> Any:
        self._check(value)
        return 1 - (self.scale / value) ** self.alpha

    def icdf(self, value: Any) -> Any:
        return self.scale * (1 - value) ** (-1 / self.alpha)

    def entropy(self) -> Any:
        return pointwise.log(self.scale / self.alpha) + 1 + 1 / self.alpha


class _Folded(Distribution):
    """|x| of an x whose distribution lies symmetrically around 0: twice the density, on one side."""

    arg_constraints = {"scale": constraints.positive}
    support = constraints.nonnegative
    has_rsample = True
    whole: type[_LocationScale]

    def __init__(self, scale: Any, validate_args: bool | None = None) -> None:
        (self.scale,) = broadcast_all(scale)
        super().__init__(self.scale.shape, validate_args=validate_args)
        self._whole = self.whole(self.scale * 0, self.scale, validate_args=False)

    mode = property(lambda self: self.scale * 0)

    def rsample(self, sample_shape: Any = ()) -> Any:
        return pointwise.abs(self._whole.rsample(sample_shape))

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        return pointwise.where(value >= 0, self._whole.log_prob(value) + math.log(2), -math.inf)

    def cdf(self, value: Any) -> Any:
        self._check(value)
        return 2 * self._whole.cdf(value) - 1

    def icdf(self, value: Any) -> Any:
        return self._whole.icdf((value + 1) / 2)

    def entropy(self) -> Any:
        return self._whole.entropy() - math.log(2)


class HalfNormal(_Folded):
    """|x| of x normal with mean 0."""

    whole = Normal
    mean = property(lambda self: self.scale * math.sqrt(2 / math.pi))
    variance = property(lambda self: self.scale**2 * (1 - 2 / math.pi))


class HalfCauchy(_Folded):
    """|x| of x Cauchy around 0."""

    whole = Cauchy
    mean = variance = property(lambda self: self.scale * math.inf)
