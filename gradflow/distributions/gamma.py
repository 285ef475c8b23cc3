"""The Gamma distribution and those made of it: Beta, Dirichlet, Chi2, Student's t, Fisher's F, the inverse Gamma."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import gradflow as gf

from ..op import op
from ..ops import pointwise, reduce, shape
from ..ops.random import sequence_of
from . import constraints
from .distribution import Distribution, ExponentialFamily, broadcast_all, normal


def _drawn(a: np.ndarray) -> np.ndarray:
    """A Gamma(a, 1) sample for each element by Marsaglia & Tsang (2000): cubes of normals, rejected where too many."""
    sequence = sequence_of(np)
    if sequence is not None:
        return sequence.gamma(a)
    small = a < 1
    d = np.where(small, a + 1, a) - 1 / 3
    c = 1 / np.sqrt(9 * d)
    x = np.zeros_like(a)
    left = np.arange(a.size)
    while left.size:
        z = gf.randn(left.size, dtype=np.float64).array
        u = gf.rand(left.size, dtype=np.float64).array
        v = (1 + c[left] * z) ** 3
        good = v > 0
        dl, v1 = d[left], np.where(good, v, 1)
        good &= np.log(np.maximum(u, 1e-300)) < 0.5 * z * z + dl - dl * v1 + dl * np.log(v1)
        x[left[good]] = (dl * v1)[good]
        left = left[~good]
    u = gf.rand(a.size, dtype=np.float64).array
    # Gamma(a) = Gamma(a + 1) u^(1/a), which serves the a below 1
    return np.where(small, x * np.maximum(u, 1e-300) ** (1 / a), x)


def standard_gamma(a: Any) -> Any:
    """A Gamma(a, 1) sample for each element of a; its gradient is implicit: dx/da = -(dP/da) / p (Figurnov et al. 2018)."""
    array = np.asarray(a.detach().cpu().array, np.float64)
    x = gf.as_tensor(np.maximum(_drawn(array.ravel()).reshape(array.shape), np.finfo(np.float64).tiny))
    return _implicit(a, x.to(a))


@op(da=lambda g, a, x: g * _slope(a, x), reference=None)
def _implicit(a, x):
    return x.copy()


def _slope(a: Any, x: Any) -> Any:
    """dx/da along the samples x of Gamma(a, 1), in float64: P(a, x) stays what it is while a moves."""
    from ..op import unwrap, wrap
    from ..special import gammainc

    a64, x64 = np.asarray(unwrap(a), np.float64), np.asarray(unwrap(x), np.float64)
    h = 1e-4 * np.maximum(a64, 1e-2)
    P = lambda v: gammainc(wrap(v), wrap(x64)).array
    # Five points: the error is of the order of h^4.
    dP = (P(a64 - 2 * h) - 8 * P(a64 - h) + 8 * P(a64 + h) - P(a64 + 2 * h)) / (12 * h)
    with np.errstate(all="ignore"):
        density = np.exp((a64 - 1) * np.log(x64) - x64 - gf.lgamma(wrap(a64)).array)
        slope = np.where(density > 0, -dP / density, 0)
    return slope.astype(unwrap(x).dtype)


class Gamma(ExponentialFamily):
    """Density rate^a x^(a-1) e^(-rate x) / Gamma(a), a the concentration."""

    arg_constraints = {"concentration": constraints.positive, "rate": constraints.positive}
    support = constraints.nonnegative
    has_rsample = True

    def __init__(self, concentration: Any, rate: Any, validate_args: bool | None = None) -> None:
        self.concentration, self.rate = broadcast_all(concentration, rate)
        super().__init__(self.concentration.shape, validate_args=validate_args)

    mean = property(lambda self: self.concentration / self.rate)
    mode = property(lambda self: pointwise.clamp((self.concentration - 1) / self.rate, 0))
    variance = property(lambda self: self.concentration / self.rate**2)

    def rsample(self, sample_shape: Any = ()) -> Any:
        size = self._extended_shape(sample_shape)
        return standard_gamma(shape.expand(self.concentration, size)) / shape.expand(self.rate, size)

    def log_prob(self, value: Any) -> Any:
        value = gf.as_tensor(value)
        self._check(value)
        a = self.concentration
        return gf.xlogy(a, self.rate) + gf.xlogy(a - 1, value) - self.rate * value - gf.lgamma(a)

    def cdf(self, value: Any) -> Any:
        from ..special import gammainc

        self._check(value)
        return gammainc(self.concentration, self.rate * value)

    def entropy(self) -> Any:
        a = self.concentration
        return a - pointwise.log(self.rate) + gf.lgamma(a) + (1 - a) * gf.digamma(a)


class Chi2(Gamma):
    """The sum of df squared standard normals."""

    arg_constraints = {"df": constraints.positive}

    def __init__(self, df: Any, validate_args: bool | None = None) -> None:
        (df,) = broadcast_all(df)
        self.df = df
        super().__init__(0.5 * df, 0.5, validate_args)


class InverseGamma(Distribution):
    """1 / x of x ~ Gamma(concentration, rate)."""

    arg_constraints = {"concentration": constraints.positive, "rate": constraints.positive}
    support = constraints.positive
    has_rsample = True

    def __init__(self, concentration: Any, rate: Any, validate_args: bool | None = None) -> None:
        self._gamma = Gamma(concentration, rate, validate_args)
        self.concentration, self.rate = self._gamma.concentration, self._gamma.rate
        super().__init__(self._gamma.batch_shape, validate_args=validate_args)

    mode = property(lambda self: self.rate / (self.concentration + 1))

    @property
    def mean(self) -> Any:
        a = self.concentration
        return pointwise.where(a > 1, self.rate / (a - 1), math.inf)

    @property
    def variance(self) -> Any:
        a = self.concentration
        return pointwise.where(a > 2, self.rate**2 / ((a - 1) ** 2 * (a - 2)), math.inf)

    def rsample(self, sample_shape: Any = ()) -> Any:
        return 1 / self._gamma.rsample(sample_shape)

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        return self._gamma.log_prob(1 / value) - 2 * pointwise.log(value)

    def cdf(self, value: Any) -> Any:
        return 1 - self._gamma.cdf(1 / value)

    def entropy(self) -> Any:
        a = self.concentration
        return a + pointwise.log(self.rate) + gf.lgamma(a) - (1 + a) * gf.digamma(a)


class Dirichlet(ExponentialFamily):
    """Density prod x_i^(a_i - 1) Gamma(sum a) / prod Gamma(a_i) on the simplex."""

    arg_constraints = {"concentration": constraints.independent(constraints.positive, 1)}
    support = constraints.simplex
    has_rsample = True

    def __init__(self, concentration: Any, validate_args: bool | None = None) -> None:
        if concentration.dim() < 1:
            raise ValueError("Dirichlet: wanted a concentration of one dimension or more, saw a 0-d tensor")
        self.concentration = concentration
        super().__init__(concentration.shape[:-1], concentration.shape[-1:], validate_args=validate_args)

    mean = property(lambda self: self.concentration / reduce.sum(self.concentration, -1, True))

    @property
    def mode(self) -> Any:
        a = pointwise.clamp(self.concentration - 1, 0)
        mode = a / reduce.sum(a, -1, True)
        none = reduce.all(self.concentration < 1, -1, True)
        best = self.concentration == self.concentration.amax(-1, True)
        return pointwise.where(none, pointwise.cast(best, mode.dtype), mode)

    @property
    def variance(self) -> Any:
        a, total = self.concentration, reduce.sum(self.concentration, -1, True)
        return a * (total - a) / (total**2 * (total + 1))

    def rsample(self, sample_shape: Any = ()) -> Any:
        x = standard_gamma(shape.expand(self.concentration, self._extended_shape(sample_shape)))
        return x / reduce.sum(x, -1, True)

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        a = self.concentration
        whole = gf.lgamma(reduce.sum(a, -1)) - reduce.sum(gf.lgamma(a), -1)
        return reduce.sum(gf.xlogy(a - 1, value), -1) + whole

    def entropy(self) -> Any:
        a = self.concentration
        k, total = a.shape[-1], reduce.sum(a, -1)
        norm = reduce.sum(gf.lgamma(a), -1) - gf.lgamma(total)
        return norm - (k - total) * gf.digamma(total) - reduce.sum((a - 1) * gf.digamma(a), -1)


class Beta(ExponentialFamily):
    """Density x^(a-1) (1 - x)^(b-1) Gamma(a + b) / (Gamma(a) Gamma(b)) on (0, 1)."""

    arg_constraints = {"concentration1": constraints.positive, "concentration0": constraints.positive}
    support = constraints.unit_interval
    has_rsample = True

    def __init__(self, concentration1: Any, concentration0: Any, validate_args: bool | None = None) -> None:
        a, b = broadcast_all(concentration1, concentration0)
        self._dirichlet = Dirichlet(_pair(a, b), validate_args=False)
        self._a, self._b = a, b
        super().__init__(a.shape, validate_args=False)
        for name, value in (("concentration1", a), ("concentration0", b)):
            if (validate_args or (validate_args is None and self._validate_by_default)) and not bool((value > 0).all()):
                raise ValueError(f"Beta: wanted {name} within positive, saw {value}")
        self._validate = self._validate_by_default if validate_args is None else validate_args

    concentration1 = property(lambda self: self._a)
    concentration0 = property(lambda self: self._b)
    mean = property(lambda self: self._a / (self._a + self._b))
    mode = property(lambda self: self._dirichlet.mode[..., 0])

    @property
    def variance(self) -> Any:
        total = self._a + self._b
        return self._a * self._b / (total**2 * (total + 1))

    def rsample(self, sample_shape: Any = ()) -> Any:
        return self._dirichlet.rsample(sample_shape)[..., 0]

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        return self._dirichlet.log_prob(_pair(value, 1 - value))

    def entropy(self) -> Any:
        return self._dirichlet.entropy()


def _pair(a: Any, b: Any) -> Any:
    from ..ops.join import stack

    return stack([a, b], -1)


class StudentT(Distribution):
    """loc + scale z / sqrt(Chi2(df) / df): heavier tails than the normal's."""

    arg_constraints = {"df": constraints.positive, "loc": constraints.real, "scale": constraints.positive}
    support = constraints.real
    has_rsample = True

    def __init__(self, df: Any, loc: Any = 0.0, scale: Any = 1.0, validate_args: bool | None = None) -> None:
        self.df, self.loc, self.scale = broadcast_all(df, loc, scale)
        self._chi2 = Chi2(self.df, validate_args=False)
        super().__init__(self.df.shape, validate_args=validate_args)

    mean = property(lambda self: pointwise.where(self.df > 1, self.loc, math.nan))
    mode = property(lambda self: self.loc)

    @property
    def variance(self) -> Any:
        v = pointwise.where(self.df > 2, self.scale**2 * self.df / (self.df - 2), math.inf)
        return pointwise.where(self.df > 1, v, math.nan)

    def rsample(self, sample_shape: Any = ()) -> Any:
        z = normal(self.df, self._extended_shape(sample_shape))
        return self.loc + self.scale * z * pointwise.rsqrt(self._chi2.rsample(sample_shape) / self.df)

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        z, df = (value - self.loc) / self.scale, self.df
        norm = pointwise.log(self.scale) + 0.5 * pointwise.log(df) + 0.5 * math.log(math.pi)
        norm = norm + gf.lgamma(0.5 * df) - gf.lgamma(0.5 * (df + 1))
        return -0.5 * (df + 1) * pointwise.log1p(z**2 / df) - norm

    def entropy(self) -> Any:
        df, half = self.df, 0.5
        beta = gf.lgamma(half * df) + math.lgamma(half) - gf.lgamma(half * (df + 1))
        spread = half * (df + 1) * (gf.digamma(half * (df + 1)) - gf.digamma(half * df))
        return pointwise.log(self.scale) + spread + half * pointwise.log(df) + beta


class FisherSnedecor(Distribution):
    """(Chi2(df1) / df1) / (Chi2(df2) / df2): the F distribution."""

    arg_constraints = {"df1": constraints.positive, "df2": constraints.positive}
    support = constraints.positive
    has_rsample = True

    def __init__(self, df1: Any, df2: Any, validate_args: bool | None = None) -> None:
        self.df1, self.df2 = broadcast_all(df1, df2)
        self._gamma1, self._gamma2 = Gamma(self.df1 * 0.5, self.df1), Gamma(self.df2 * 0.5, self.df2)
        super().__init__(self.df1.shape, validate_args=validate_args)

    mean = property(lambda self: pointwise.where(self.df2 > 2, self.df2 / (self.df2 - 2), math.nan))
    mode = property(
        lambda self: pointwise.where(self.df1 > 2, (self.df1 - 2) / self.df1 * self.df2 / (self.df2 + 2), math.nan)
    )

    @property
    def variance(self) -> Any:
        a, b = self.df1, self.df2
        return pointwise.where(b > 4, 2 * b**2 * (a + b - 2) / (a * (b - 2) ** 2 * (b - 4)), math.nan)

    def rsample(self, sample_shape: Any = ()) -> Any:
        return self._gamma1.rsample(sample_shape) / self._gamma2.rsample(sample_shape)

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        a, b = self.df1 * 0.5, self.df2 * 0.5
        ratio = self.df1 / self.df2
        norm = gf.lgamma(a + b) - gf.lgamma(a) - gf.lgamma(b)
        return (
            norm + a * pointwise.log(ratio) + (a - 1) * pointwise.log(value) - (a + b) * pointwise.log1p(ratio * value)
        )
