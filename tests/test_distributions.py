"""Distributions: densities, moments and gradients as PyTorch's; samples with the moments they should have."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tolerance import assert_close

import gradflow as gf
from gradflow import distributions as D

# Parameters of a batch of three, and values in the support.
A, B = [0.7, 1.6, 3.2], [1.1, 0.4, 2.5]
P = [0.2, 0.5, 0.9]
ROWS = [[0.1, 0.6, 0.3], [0.2, 0.2, 0.6]]
COVARIANCE = [[2.0, 0.3], [0.3, 0.5]]
CASES = {
    "Normal": ((A, B), [-0.4, 1.0, 2.0]),
    "LogNormal": ((A, B), [0.4, 1.0, 2.0]),
    "HalfNormal": ((B,), [0.4, 1.0, 2.0]),
    "Laplace": ((A, B), [-0.4, 1.0, 2.0]),
    "Cauchy": ((A, B), [-0.4, 1.0, 2.0]),
    "HalfCauchy": ((B,), [0.4, 1.0, 2.0]),
    "Gumbel": ((A, B), [-0.4, 1.0, 2.0]),
    "Uniform": (([0.0, -1.0, 2.0], [1.0, 1.0, 5.0]), [0.4, 0.1, 2.5]),
    "Exponential": ((A,), [0.4, 1.0, 2.0]),
    "Weibull": ((A, B), [0.4, 1.0, 2.0]),
    "Pareto": ((A, B), [0.9, 2.0, 7.0]),
    "Gamma": ((A, B), [0.4, 1.0, 2.0]),
    "InverseGamma": ((A, B), [0.4, 1.0, 2.0]),
    "Chi2": ((A,), [0.4, 1.0, 2.0]),
    "Beta": ((A, B), [0.4, 0.1, 0.8]),
    "Kumaraswamy": ((A, B), [0.4, 0.1, 0.8]),
    "StudentT": ((B, A, B), [0.4, 1.0, 2.0]),
    "FisherSnedecor": (([3.0, 5.0, 6.0], [5.0, 7.0, 4.5]), [0.4, 1.0, 2.0]),
    "Dirichlet": (([[1.1, 2.6, 1.3], [2.2, 3.2, 1.6]],), [[0.2, 0.3, 0.5], [0.1, 0.8, 0.1]]),
    "Bernoulli": ((P,), [1.0, 0.0, 1.0]),
    "Geometric": ((P,), [3.0, 0.0, 1.0]),
    "Binomial": (([4.0, 4.0, 4.0], P), [3.0, 0.0, 4.0]),
    "NegativeBinomial": (([4.0, 2.5, 4.0], P), [3.0, 0.0, 1.0]),
    "Poisson": ((A,), [3.0, 0.0, 1.0]),
    "Categorical": ((ROWS,), [2, 0]),
    "OneHotCategorical": ((ROWS,), [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
    "MultivariateNormal": (([0.5, -1.0], COVARIANCE), [0.3, 0.2]),
}  # fmt: skip


def made(lib, name, grad=False):
    """The distribution of a case in gradflow or PyTorch, its parameters, and the value."""
    given, value = CASES[name]
    parameters = [lib.tensor(v, dtype=lib.float64, requires_grad=grad) for v in given]
    value = lib.tensor(value) if name == "Categorical" else lib.tensor(value, dtype=lib.float64)
    return getattr(lib.distributions if lib is not gf else D, name)(*parameters), parameters, value


@pytest.mark.reference
@pytest.mark.parametrize("name", CASES)
def test_as_pytorch(name):
    torch = pytest.importorskip("torch")
    ours, mine, x = made(gf, name, grad=True)
    theirs, others, y = made(torch, name, grad=True)
    assert tuple(ours.batch_shape) == tuple(theirs.batch_shape)
    assert tuple(ours.event_shape) == tuple(theirs.event_shape)
    assert ours.has_rsample == theirs.has_rsample
    for what in ("log_prob", "cdf", "entropy", "mean", "mode", "variance", "stddev"):
        try:
            want = getattr(theirs, what)
            want = want(y) if what in ("log_prob", "cdf") else want() if callable(want) else want
        except NotImplementedError:
            continue
        try:
            have = getattr(ours, what)
        except NotImplementedError:
            assert name == "Kumaraswamy" and what == "mode"
            continue
        if name == "Kumaraswamy" and what in ("cdf", "entropy"):
            continue
        have = have(x) if what in ("log_prob", "cdf") else have() if callable(have) else have
        assert_close(have.detach().numpy(), want.detach().numpy(), what=what, scale=10)
        if what != "mode" and want.requires_grad and have.requires_grad and bool(torch.isfinite(want).all()):
            try:
                g = torch.autograd.grad(want.sum(), others, allow_unused=True, retain_graph=True)
            except NotImplementedError:  # PyTorch has no gradient there
                continue
            h = gf.autograd.grad(have.sum(), mine, allow_unused=True, retain_graph=True)
            for a, b in zip(h, g, strict=True):
                if b is not None and bool(torch.isfinite(b).all()):
                    assert a is not None
                    assert_close(a.numpy(), b.numpy(), what=f"gradient of {what}", scale=1000 if what == "cdf" else 10)


@pytest.mark.parametrize("name", CASES)
def test_samples_have_the_moments_of_the_distribution(name):
    d, _, _ = made(gf, name)
    n = 4000
    x = d.sample((n,))
    assert tuple(x.shape) == (n, *d.batch_shape, *d.event_shape)
    assert not x.requires_grad
    if d.support is not None:
        assert bool(d.support.check(x).all())
    mean, variance = d.mean.numpy(), d.variance.numpy()
    known = np.isfinite(mean) & np.isfinite(variance) & (variance < 50)
    if name in (
        "Pareto",
        "LogNormal",
        "InverseGamma",
        "FisherSnedecor",
        "StudentT",
    ):  # their sample mean hardly settles
        return
    off = np.abs(x.double().numpy().mean(0) - mean)
    assert (off[known] < 5 * np.sqrt(variance[known] / n) + 1e-9).all()


def test_densities_by_hand():
    assert D.Normal(0.0, 1.0).log_prob(gf.tensor(1.0)).item() == pytest.approx(
        -0.5 - 0.5 * math.log(2 * math.pi), rel=1e-6
    )
    assert D.Categorical(gf.tensor([1.0, 3.0])).log_prob(gf.tensor(1)).item() == pytest.approx(math.log(0.75), rel=1e-6)
    assert D.Categorical(logits=gf.tensor([0.0, math.log(3)])).probs.tolist() == pytest.approx([0.25, 0.75])
    assert D.Bernoulli(gf.tensor(0.25)).entropy().item() == pytest.approx(
        -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    )
    assert D.Independent(D.Normal(gf.zeros(3), gf.ones(3)), 1).log_prob(gf.zeros(3)).item() == pytest.approx(
        -1.5 * math.log(2 * math.pi)
    )
    assert D.Categorical(gf.tensor([1.0, 3.0])).enumerate_support().tolist() == [0, 1]


def test_gradients_go_through_samples():
    loc, scale = gf.tensor(0.5, requires_grad=True), gf.tensor(2.0, requires_grad=True)
    x = D.Normal(loc, scale).rsample((5,))
    x.sum().backward()
    assert loc.grad.item() == 5
    assert scale.grad.item() == pytest.approx(((x.detach() - 0.5) / 2).sum().item(), rel=1e-5)


def test_the_implicit_gradient_of_gamma_samples():
    # E[x] = a and E[x^2] = a (a + 1), so the mean slopes of samples are 1 and 2 a + 1.
    a = gf.full((20000,), 1.7, dtype=gf.float64).requires_grad_()
    x = D.Gamma(a, gf.ones_like(a)).rsample()
    (slope,) = gf.autograd.grad(x.sum(), a, retain_graph=True)
    assert slope.mean().item() == pytest.approx(1, abs=0.03)
    (slope,) = gf.autograd.grad((x * x).sum(), a)
    assert slope.mean().item() == pytest.approx(2 * 1.7 + 1, abs=0.2)


def test_the_score_function_estimator():
    """REINFORCE: the gradient of log_prob times the reward has the expected reward's gradient as its mean (Williams 1992)."""
    logits = gf.zeros(3, requires_grad=True)
    reward = gf.tensor([1.0, 2.0, 6.0])
    d = D.Categorical(logits=logits)
    action = d.sample((4000,))
    (d.log_prob(action) * reward[action]).mean().backward()
    want = (np.array([1.0, 2.0, 6.0]) - 3) / 3  # p (r - E r)
    assert logits.grad.numpy() == pytest.approx(want, abs=0.15)


def test_transformed_values():
    d = D.TransformedDistribution(D.Normal(gf.zeros(2), gf.ones(2)), [D.AffineTransform(1.0, 2.0), D.TanhTransform()])
    y = d.rsample((3,))
    x = (y.atanh() - 1) / 2
    want = D.Normal(0.0, 1.0).log_prob(x) - math.log(2) - (1 - y * y).log()
    assert d.log_prob(y).numpy() == pytest.approx(want.numpy(), rel=1e-3, abs=1e-4)
    mix = D.MixtureSameFamily(D.Categorical(gf.tensor([0.25, 0.75])), D.Normal(gf.tensor([-1.0, 2.0]), gf.ones(2)))
    v = gf.tensor(0.5)
    want = math.log(0.25 * math.exp(-(1.5**2) / 2) + 0.75 * math.exp(-(1.5**2) / 2)) - 0.5 * math.log(2 * math.pi)
    assert mix.log_prob(v).item() == pytest.approx(want, rel=1e-5)
    assert mix.mean.item() == pytest.approx(1.25)
    assert mix.sample((7,)).shape == (7,)


PAIRS = [n for n in CASES if n in (
    "Normal", "HalfNormal", "Laplace", "Gumbel", "Exponential", "Uniform", "Bernoulli", "Binomial", "Geometric", "Poisson",
    "Categorical", "OneHotCategorical", "Gamma", "Beta", "Dirichlet", "MultivariateNormal",
)]  # fmt: skip


@pytest.mark.reference
@pytest.mark.parametrize("name", PAIRS)
def test_divergences_as_pytorch(name):
    torch = pytest.importorskip("torch")

    def other(lib):
        given = [
            (np.array(v) * (1.2 if k else 1) ** -1).tolist() if name not in ("Binomial",) else v
            for k, v in enumerate(CASES[name][0])
        ]
        if name in ("Categorical", "OneHotCategorical"):
            given = [[[0.3, 0.3, 0.4], [0.1, 0.8, 0.1]]]
        if name in ("Bernoulli", "Geometric"):
            given = [[0.3, 0.4, 0.8]]
        space = D if lib is gf else lib.distributions
        return getattr(space, name)(*(lib.tensor(v, dtype=lib.float64) for v in given))

    ours = D.kl_divergence(made(gf, name)[0], other(gf))
    theirs = torch.distributions.kl_divergence(made(torch, name)[0], other(torch))
    assert_close(ours.numpy(), theirs.numpy(), scale=10)


def test_refusals():
    with pytest.raises(ValueError, match="Normal: wanted scale"):
        D.Normal(0.0, -1.0)
    with pytest.raises(ValueError, match="either probs or logits, saw both"):
        D.Bernoulli(gf.tensor(0.5), gf.tensor(0.0))
    with pytest.raises(ValueError, match="Uniform: wanted low < high"):
        D.Uniform(1.0, 0.0)
    with pytest.raises(ValueError, match="Exponential: wanted values within nonnegative"):
        D.Exponential(1.0).log_prob(gf.tensor(-1.0))
    with pytest.raises(NotImplementedError, match="no closed form for Normal and Gamma"):
        D.kl_divergence(D.Normal(0.0, 1.0), D.Gamma(1.0, 1.0))
    assert D.Normal(0.0, -1.0, validate_args=False).scale.item() == -1
