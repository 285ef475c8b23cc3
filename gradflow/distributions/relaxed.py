"""Continuous relaxations of discrete distributions, through whose samples gradients pass (Maddison et al., Jang et al. 2017)."""

from __future__ import annotations

import math
from typing import Any

import gradflow as gf

from ..ops import pointwise, reduce
from ..ops.softmax import log_softmax
from . import constraints
from .composed import TransformedDistribution
from .continuous import Gumbel
from .discrete import Bernoulli, Categorical, clamped
from .distribution import Distribution, broadcast_all
from .transforms import ExpTransform, SigmoidTransform


class LogitRelaxedBernoulli(Distribution):
    """(logits + logistic noise) / temperature."""

    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}
    support = constraints.real
    has_rsample = True

    def __init__(
        self, temperature: Any, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        self.temperature, self._bernoulli = temperature, Bernoulli(probs, logits, validate_args)
        super().__init__(self._bernoulli.batch_shape, validate_args=validate_args)

    probs = property(lambda self: self._bernoulli.probs)
    logits = property(lambda self: self._bernoulli.logits)

    def rsample(self, sample_shape: Any = ()) -> Any:
        p = clamped(self.probs)
        u = clamped(gf.rand(self._extended_shape(sample_shape), dtype=p.dtype, device=p.device))
        noise = pointwise.log(u) - pointwise.log1p(-u)
        return (noise + pointwise.log(p) - pointwise.log1p(-p)) / self.temperature

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        logits, value = broadcast_all(self.logits, value)
        z = logits - value * self.temperature
        t = self.temperature
        return (pointwise.log(t) if hasattr(t, "shape") else math.log(t)) + z - 2 * pointwise.log1p(pointwise.exp(z))


class RelaxedBernoulli(TransformedDistribution):
    """The sigmoid of a LogitRelaxedBernoulli: near 0 or 1 at a low temperature."""

    def __init__(
        self, temperature: Any, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        super().__init__(
            LogitRelaxedBernoulli(temperature, probs, logits, validate_args), SigmoidTransform(), validate_args
        )

    temperature = property(lambda self: self.base_dist.temperature)
    probs = property(lambda self: self.base_dist.probs)
    logits = property(lambda self: self.base_dist.logits)
    support = constraints.unit_interval


class ExpRelaxedCategorical(Distribution):
    """log softmax((logits + Gumbel noise) / temperature)."""

    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}
    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self, temperature: Any, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        self.temperature, self._categorical = temperature, Categorical(probs, logits, validate_args)
        super().__init__(self._categorical.batch_shape, self._categorical.param_shape[-1:], validate_args=validate_args)

    probs = property(lambda self: self._categorical.probs)
    logits = property(lambda self: self._categorical.logits)

    def rsample(self, sample_shape: Any = ()) -> Any:
        zero = self.logits.detach() * 0
        noise = Gumbel(zero, zero + 1, validate_args=False).sample(sample_shape)
        return log_softmax((self.logits + noise) / self.temperature, -1)

    def log_prob(self, value: Any) -> Any:
        self._check(value)
        k = self._event_shape[0]
        logits, value = broadcast_all(self.logits, value)
        t = self.temperature
        scale = math.lgamma(k) + (k - 1) * (pointwise.log(t) if hasattr(t, "shape") else math.log(t))
        score = logits - value * t
        return reduce.sum(score - reduce.logsumexp(score, -1, True), -1) + scale


class RelaxedOneHotCategorical(TransformedDistribution):
    """softmax((logits + Gumbel noise) / temperature): near one-hot at a low temperature."""

    def __init__(
        self, temperature: Any, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        super().__init__(
            ExpRelaxedCategorical(temperature, probs, logits, validate_args), ExpTransform(), validate_args
        )

    temperature = property(lambda self: self.base_dist.temperature)
    probs = property(lambda self: self.base_dist.probs)
    logits = property(lambda self: self.base_dist.logits)
    support = constraints.simplex
