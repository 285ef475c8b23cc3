"""Distributions over whole numbers and over classes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import gradflow as gf

from ..autograd import no_grad
from ..dtypes import finfo
from ..ops import gather, pointwise, reduce, shape
from ..ops.loss import binary_cross_entropy_with_logits
from ..ops.softmax import softmax
from ..tensor import Size
from . import constraints
from .distribution import Distribution, ExponentialFamily, broadcast_all


def clamped(probs: Any) -> Any:
    """Probabilities kept one rounding away from 0 and 1, so that their logarithms exist."""
    eps = float(finfo(probs.dtype).eps)
    return pointwise.clamp(probs, eps, 1 - eps)


def one_of(name: str, probs: Any, logits: Any) -> None:
    """ValueError unless exactly one of the two is given."""
    if (probs is None) == (logits is None):
        raise ValueError(f"{name}: wanted either probs or logits, saw {'neither' if probs is None else 'both'}")


class _OfProbability(ExponentialFamily):
    """The part that distributions over one probability share: probs and logits, each made of the other when asked for."""

    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}

    def _given(self, probs: Any, logits: Any) -> Any:
        one_of(type(self).__name__, probs, logits)
        if probs is not None:
            (self.probs,) = broadcast_all(probs)
            return self.probs
        (self.logits,) = broadcast_all(logits)
        return self.logits

    def __getattr__(self, name: str) -> Any:
        if name == "logits" and "probs" in self.__dict__:
            p = clamped(self.probs)
            return pointwise.log(p) - pointwise.log1p(-p)
        if name == "probs" and "logits" in self.__dict__:
            return pointwise.sigmoid(self.logits)
        raise AttributeError(f"{type(self).__name__} has no {name!r}")

    @property
    def param_shape(self) -> Size:
        """The shape of the parameters."""
        return (self.__dict__.get("probs") if "probs" in self.__dict__ else self.logits).size()


def _cross_entropy(logits: Any, value: Any) -> Any:
    return binary_cross_entropy_with_logits(*broadcast_all(logits, value), reduction="none")


class Bernoulli(_OfProbability):
    """1 with probability probs = 1 / (1 + e^-logits), else 0."""

    support = constraints.boolean
    has_enumerate_support = True

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        super().__init__(self._given(probs, logits).shape, validate_args=validate_args)

    mean = property(lambda self: self.probs)
    variance = property(lambda self: self.probs * (1 - self.probs))

    @property
    def mode(self) -> Any:
        mode = pointwise.cast(self.probs >= 0.5, self.probs.dtype)
        return pointwise.where(self.probs == 0.5, math.nan, mode)

    def sample(self, sample_shape: Any = ()) -> Any:
        with no_grad():
            return gf.bernoulli(shape.expand(self.probs, self._extended_shape(sample_shape)))

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        return -_cross_entropy(self.logits, value)

    def entropy(self) -> Any:
        return _cross_entropy(self.logits, self.probs)

    def enumerate_support(self, expand: bool = True) -> Any:
        values = gf.arange(2, dtype=self.probs.dtype, device=self.probs.device)
        values = values.reshape((2,) + (1,) * len(self._batch_shape))
        return shape.expand(values, (2, *self._batch_shape)) if expand else values


class Geometric(_OfProbability):
    """The number of failures before the first success: (1 - probs)^k probs."""

    support = constraints.nonnegative_integer

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        super().__init__(self._given(probs, logits).shape, validate_args=validate_args)

    mean = property(lambda self: 1 / self.probs - 1)
    mode = property(lambda self: self.probs * 0)
    variance = property(lambda self: (1 / self.probs - 1) / self.probs)

    def sample(self, sample_shape: Any = ()) -> Any:
        with no_grad():
            u = gf.rand(self._extended_shape(sample_shape), dtype=self.probs.dtype, device=self.probs.device)
            u = pointwise.clamp(u, float(np.finfo(self.probs.dtype).tiny), None)
            return pointwise.floor(pointwise.log(u) / pointwise.log1p(-self.probs))

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        p = pointwise.where((self.probs == 1) & (value == 0), 0.0, self.probs)
        return value * pointwise.log1p(-p) + pointwise.log(self.probs)

    def entropy(self) -> Any:
        return _cross_entropy(self.logits, self.probs) / self.probs


class Binomial(_OfProbability):
    """The number of successes in total_count trials."""

    has_enumerate_support = True

    def __init__(
        self, total_count: Any = 1, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        given = self._given(probs, logits)
        name = "probs" if probs is not None else "logits"
        self.total_count, self.__dict__[name] = broadcast_all(total_count, given)
        super().__init__(self.total_count.shape, validate_args=validate_args)

    arg_constraints = {**_OfProbability.arg_constraints, "total_count": constraints.nonnegative_integer}
    support = property(lambda self: constraints.integer_interval(0, self.total_count))
    mean = property(lambda self: self.total_count * self.probs)
    mode = property(
        lambda self: pointwise.minimum(pointwise.floor((self.total_count + 1) * self.probs), self.total_count)
    )
    variance = property(lambda self: self.total_count * self.probs * (1 - self.probs))

    def sample(self, sample_shape: Any = ()) -> Any:
        size = self._extended_shape(sample_shape)
        with no_grad():
            return gf.binomial(shape.expand(self.total_count, size), shape.expand(self.probs, size))

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        n = self.total_count
        ways = gf.lgamma(n + 1) - gf.lgamma(value + 1) - gf.lgamma(n - value + 1)
        return ways + value * pointwise.log_sigmoid(self.logits) + (n - value) * pointwise.log_sigmoid(-self.logits)

    def entropy(self) -> Any:
        values = self.enumerate_support(False)
        log_prob = self.log_prob(values)
        return -reduce.sum(pointwise.exp(log_prob) * log_prob, 0)

    def enumerate_support(self, expand: bool = True) -> Any:
        n = int(self.total_count.max().item())
        if not bool((self.total_count == n).all()):
            raise NotImplementedError("Binomial: wanted one total_count to enumerate the support, saw several")
        values = gf.arange(n + 1, dtype=self.probs.dtype, device=self.probs.device)
        values = values.reshape((n + 1,) + (1,) * len(self._batch_shape))
        return shape.expand(values, (n + 1, *self._batch_shape)) if expand else values


class Poisson(ExponentialFamily):
    """rate^k e^-rate / k!."""

    arg_constraints = {"rate": constraints.nonnegative}
    support = constraints.nonnegative_integer

    def __init__(self, rate: Any, validate_args: bool | None = None) -> None:
        (self.rate,) = broadcast_all(rate)
        super().__init__(self.rate.shape, validate_args=validate_args)

    mean = variance = property(lambda self: self.rate)
    mode = property(lambda self: pointwise.floor(self.rate))

    def sample(self, sample_shape: Any = ()) -> Any:

        with no_grad():
            return gf.poisson(shape.expand(self.rate, self._extended_shape(sample_shape)))

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        return gf.xlogy(value, self.rate) - self.rate - gf.lgamma(value + 1)


class Categorical(Distribution):
    """Class k with probability probs[..., k], or softmax(logits)[..., k]: both are normalised."""

    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}
    has_enumerate_support = True

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        one_of("Categorical", probs, logits)
        given = probs if probs is not None else logits
        if given.dim() < 1:
            raise ValueError("Categorical: wanted parameters of one dimension or more, saw a 0-d tensor")
        if probs is not None:
            self.probs = probs / reduce.sum(probs, -1, True)
        else:
            self.logits = logits - reduce.logsumexp(logits, -1, True)
        self._num_events = given.shape[-1]
        super().__init__(given.shape[:-1], validate_args=validate_args)

    def __getattr__(self, name: str) -> Any:
        if name == "logits" and "probs" in self.__dict__:
            return pointwise.log(clamped(self.probs))
        if name == "probs" and "logits" in self.__dict__:
            return softmax(self.logits, -1)
        raise AttributeError(f"{type(self).__name__} has no {name!r}")

    @property
    def param_shape(self) -> Size:
        """The shape of the parameters."""
        return (self.__dict__.get("probs") if "probs" in self.__dict__ else self.logits).size()

    support = property(lambda self: constraints.integer_interval(0, self._num_events - 1))
    mean = property(lambda self: self.probs[..., 0] * math.nan)
    mode = property(lambda self: self.probs.argmax(-1))
    variance = property(lambda self: self.probs[..., 0] * math.nan)

    def sample(self, sample_shape: Any = ()) -> Any:
        with no_grad():
            n = Size(sample_shape).numel()
            rows = shape.reshape(self.probs, (-1, self._num_events))
            return gf.multinomial(rows, n, True).T.reshape(self._extended_shape(sample_shape))

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        index = shape.unsqueeze(value.long(), -1)
        batch = np.broadcast_shapes(tuple(value.shape), tuple(self._batch_shape))
        logits = shape.expand(self.logits, (*batch, self._num_events))
        return shape.squeeze(gather.gather(logits, -1, shape.expand(index, (*batch, 1))), -1)

    def entropy(self) -> Any:
        return -reduce.sum(self.probs * pointwise.clamp(self.logits, float(finfo(self.logits.dtype).min), None), -1)

    def enumerate_support(self, expand: bool = True) -> Any:
        values = gf.arange(self._num_events, device=self.probs.device)
        values = values.reshape((self._num_events,) + (1,) * len(self._batch_shape))
        return shape.expand(values, (self._num_events, *self._batch_shape)) if expand else values


class OneHotCategorical(Distribution):
    """A Categorical whose values are one-hot vectors."""

    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}
    support = constraints.one_hot
    has_enumerate_support = True

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        self._categorical = Categorical(probs, logits, validate_args)
        super().__init__(self._categorical.batch_shape, self._categorical.param_shape[-1:], validate_args=validate_args)

    probs = property(lambda self: self._categorical.probs)
    logits = property(lambda self: self._categorical.logits)
    mean = property(lambda self: self._categorical.probs)
    variance = property(lambda self: self.probs * (1 - self.probs))
    param_shape = property(lambda self: self._categorical.param_shape)

    def _one_hot(self, index: Any) -> Any:
        classes = gf.arange(self._event_shape[0], device=index.device)
        return pointwise.cast(shape.unsqueeze(index, -1) == classes, self.probs.dtype)

    mode = property(lambda self: self._one_hot(self._categorical.mode))

    def sample(self, sample_shape: Any = ()) -> Any:
        return self._one_hot(self._categorical.sample(sample_shape))

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        return self._categorical.log_prob(value.argmax(-1))

    def entropy(self) -> Any:
        return self._categorical.entropy()

    def enumerate_support(self, expand: bool = True) -> Any:
        n = self._event_shape[0]
        values = gf.eye(n, dtype=self.probs.dtype, device=self.probs.device)
        values = values.reshape((n, *(1 for _ in self._batch_shape), n))
        return shape.expand(values, (n, *self._batch_shape, n)) if expand else values


class OneHotCategoricalStraightThrough(OneHotCategorical):
    """A OneHotCategorical whose samples pass their gradient on to probs (Bengio et al. 2013)."""

    has_rsample = True

    def rsample(self, sample_shape: Any = ()) -> Any:
        return self.sample(sample_shape) + (self.probs - self.probs.detach())


class Multinomial(Distribution):
    """How often each class comes in total_count draws of a Categorical."""

    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}

    def __init__(
        self, total_count: int = 1, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        if not isinstance(total_count, int):
            raise NotImplementedError("Multinomial: wanted total_count as a number, saw a tensor of several")
        self.total_count = total_count
        self._categorical = Categorical(probs, logits, validate_args)
        super().__init__(self._categorical.batch_shape, self._categorical.param_shape[-1:], validate_args=validate_args)

    support = property(lambda self: constraints.multinomial(self.total_count))
    probs = property(lambda self: self._categorical.probs)
    logits = property(lambda self: self._categorical.logits)
    mean = property(lambda self: self.probs * self.total_count)
    variance = property(lambda self: self.total_count * self.probs * (1 - self.probs))
    param_shape = property(lambda self: self._categorical.param_shape)

    def sample(self, sample_shape: Any = ()) -> Any:
        draws = self._categorical.sample((self.total_count, *sample_shape))
        classes = gf.arange(self._event_shape[0], device=draws.device)
        return reduce.sum(pointwise.cast(shape.unsqueeze(draws, -1) == classes, self.probs.dtype), 0)

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        logits, value = broadcast_all(self.logits, value)
        logits = pointwise.where((value == 0) & (logits == -math.inf), 0.0, logits)
        ways = gf.lgamma(reduce.sum(value, -1) + 1) - reduce.sum(gf.lgamma(value + 1), -1)
        return ways + reduce.sum(logits * value, -1)

    def entropy(self) -> Any:
        n = gf.tensor(float(self.total_count), dtype=self.probs.dtype)
        counts = Binomial(self.total_count, self.probs, validate_args=False)
        k = counts.enumerate_support(False)[1:]
        weighted = reduce.sum(pointwise.exp(counts.log_prob(k)) * gf.lgamma(k + 1), (0, -1))
        return n * self._categorical.entropy() - gf.lgamma(n + 1) + weighted


class NegativeBinomial(_OfProbability):
    """The number of successes before total_count failures; total_count need not be whole."""

    arg_constraints = {**_OfProbability.arg_constraints, "total_count": constraints.nonnegative}
    support = constraints.nonnegative_integer

    def __init__(
        self, total_count: Any, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        given = self._given(probs, logits)
        name = "probs" if probs is not None else "logits"
        self.total_count, self.__dict__[name] = broadcast_all(total_count, given)
        super().__init__(self.total_count.shape, validate_args=validate_args)

    mean = property(lambda self: self.total_count * pointwise.exp(self.logits))
    mode = property(
        lambda self: pointwise.clamp(pointwise.floor((self.total_count - 1) * pointwise.exp(self.logits)), 0)
    )
    variance = property(lambda self: self.mean / pointwise.sigmoid(-self.logits))

    def sample(self, sample_shape: Any = ()) -> Any:
        from .gamma import Gamma

        with no_grad():
            rate = Gamma(self.total_count, pointwise.exp(-self.logits), validate_args=False).sample(sample_shape)
            return Poisson(rate, validate_args=False).sample()

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        n = self.total_count
        ways = gf.lgamma(n + value) - gf.lgamma(1 + value) - gf.lgamma(n)
        ways = pointwise.where(n + value == 0, 0.0, ways)
        return ways + n * pointwise.log_sigmoid(-self.logits) + value * pointwise.log_sigmoid(self.logits)
