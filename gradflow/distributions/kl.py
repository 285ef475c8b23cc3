"""The Kullback-Leibler divergence KL(p || q) = E_p[log p - log q], in closed form, one function per pair of families."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import gradflow as gf

from ..linalg import solve_triangular
from ..ops import pointwise, reduce
from ..ops.arrange import diagonal
from .composed import Independent, TransformedDistribution
from .continuous import Exponential, Gumbel, HalfNormal, Laplace, Normal, Uniform
from .discrete import Bernoulli, Binomial, Categorical, Geometric, OneHotCategorical, Poisson
from .distribution import summed
from .gamma import Beta, Dirichlet, Gamma
from .multivariate import MultivariateNormal

_pairs: dict[tuple[type, type], Callable[[Any, Any], Any]] = {}


def register_kl(type_p: type, type_q: type) -> Callable[[Callable], Callable]:
    """Decorate the function (p, q) -> KL(p || q) of two families; that of the nearest base classes is used."""

    def enter(function: Callable) -> Callable:
        _pairs[type_p, type_q] = function
        return function

    return enter


def kl_divergence(p: Any, q: Any) -> Any:
    """KL(p || q), of batch_shape. NotImplementedError for two families that have no closed form here."""
    for a in type(p).__mro__:
        for b in type(q).__mro__:
            if (a, b) in _pairs:
                return _pairs[a, b](p, q)
    raise NotImplementedError(f"kl_divergence: no closed form for {type(p).__name__} and {type(q).__name__}")


@register_kl(Normal, Normal)
def _(p: Any, q: Any) -> Any:
    ratio, shift = (p.scale / q.scale) ** 2, ((p.loc - q.loc) / q.scale) ** 2
    return 0.5 * (ratio + shift - 1 - pointwise.log(ratio))


@register_kl(HalfNormal, HalfNormal)
def _(p: Any, q: Any) -> Any:
    ratio = (p.scale / q.scale) ** 2
    return 0.5 * (ratio - 1 - pointwise.log(ratio))


@register_kl(Laplace, Laplace)
def _(p: Any, q: Any) -> Any:
    ratio, far = p.scale / q.scale, pointwise.abs(p.loc - q.loc)
    return -pointwise.log(ratio) + far / q.scale + ratio * pointwise.exp(-far / p.scale) - 1


@register_kl(Gumbel, Gumbel)
def _(p: Any, q: Any) -> Any:
    from .continuous import EULER

    ratio, loc = p.scale / q.scale, (q.loc - p.loc) / q.scale
    rest = pointwise.exp(loc + gf.lgamma(1 + ratio))
    return -pointwise.log(ratio) - loc + ratio * EULER + rest - (1 + EULER)


@register_kl(Exponential, Exponential)
def _(p: Any, q: Any) -> Any:
    ratio = q.rate / p.rate
    return ratio - 1 - pointwise.log(ratio)


@register_kl(Uniform, Uniform)
def _(p: Any, q: Any) -> Any:
    kl = pointwise.log((q.high - q.low) / (p.high - p.low))
    return pointwise.where((q.low > p.low) | (q.high < p.high), math.inf, kl)


@register_kl(Bernoulli, Bernoulli)
def _(p: Any, q: Any) -> Any:
    a, b = p.probs, q.probs
    one = pointwise.where(a == 0, 0.0, a * (pointwise.softplus(-q.logits) - pointwise.softplus(-p.logits)))
    none = pointwise.where(a == 1, 0.0, (1 - a) * (pointwise.softplus(q.logits) - pointwise.softplus(p.logits)))
    one = pointwise.where((b == 0) & (a != 0), math.inf, one)
    return one + pointwise.where((b == 1) & (a != 1), math.inf, none)


@register_kl(Binomial, Binomial)
def _(p: Any, q: Any) -> Any:
    kl = p.total_count * (p.probs * (p.logits - q.logits) + pointwise.log1p(-p.probs) - pointwise.log1p(-q.probs))
    return pointwise.where(p.total_count > q.total_count, math.inf, kl)


@register_kl(Geometric, Geometric)
def _(p: Any, q: Any) -> Any:
    return -p.entropy() - pointwise.log1p(-q.probs) / p.probs - q.logits


@register_kl(Poisson, Poisson)
def _(p: Any, q: Any) -> Any:
    return p.rate * (pointwise.log(p.rate) - pointwise.log(q.rate)) - (p.rate - q.rate)


@register_kl(Categorical, Categorical)
def _(p: Any, q: Any) -> Any:
    t = p.probs * (p.logits - q.logits)
    t = pointwise.where(q.probs == 0, math.inf, t)
    return reduce.sum(pointwise.where(p.probs == 0, 0.0, t), -1)


@register_kl(OneHotCategorical, OneHotCategorical)
def _(p: Any, q: Any) -> Any:
    return kl_divergence(p._categorical, q._categorical)


@register_kl(Gamma, Gamma)
def _(p: Any, q: Any) -> Any:
    a, b = p.concentration, q.concentration
    t = b * pointwise.log(p.rate / q.rate) + gf.lgamma(b) - gf.lgamma(a)
    return t + (a - b) * gf.digamma(a) + (q.rate - p.rate) * (a / p.rate)


@register_kl(Dirichlet, Dirichlet)
def _(p: Any, q: Any) -> Any:
    a, b = p.concentration, q.concentration
    total = reduce.sum(a, -1)
    t = gf.lgamma(total) - gf.lgamma(reduce.sum(b, -1))
    t = t - reduce.sum(gf.lgamma(a) - gf.lgamma(b), -1)
    return t + reduce.sum((a - b) * (gf.digamma(a) - gf.digamma(total).unsqueeze(-1)), -1)


@register_kl(Beta, Beta)
def _(p: Any, q: Any) -> Any:
    return kl_divergence(p._dirichlet, q._dirichlet)


@register_kl(MultivariateNormal, MultivariateNormal)
def _(p: Any, q: Any) -> Any:
    L, M = p._unbroadcasted_scale_tril, q._unbroadcasted_scale_tril
    logs = reduce.sum(pointwise.log(diagonal(M, 0, -2, -1)), -1) - reduce.sum(pointwise.log(diagonal(L, 0, -2, -1)), -1)
    spread = reduce.sum(solve_triangular(M, L, upper=False) ** 2, (-2, -1))
    shift = reduce.sum(solve_triangular(M, (q.loc - p.loc).unsqueeze(-1), upper=False) ** 2, (-2, -1))
    return logs + 0.5 * (spread + shift - p.event_shape[0])


@register_kl(Independent, Independent)
def _(p: Any, q: Any) -> Any:
    if p.reinterpreted_batch_ndims != q.reinterpreted_batch_ndims:
        raise NotImplementedError("kl_divergence: wanted Independents of as many event dimensions")
    return summed(kl_divergence(p.base_dist, q.base_dist), p.reinterpreted_batch_ndims)


@register_kl(TransformedDistribution, TransformedDistribution)
def _(p: Any, q: Any) -> Any:
    if list(map(type, p.transforms)) != list(map(type, q.transforms)) or p.event_shape != q.event_shape:
        raise NotImplementedError("kl_divergence: wanted the same transforms of both")
    return kl_divergence(p.base_dist, q.base_dist)
