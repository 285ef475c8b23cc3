"""Parameters computed from others, normalised, pruned, fused: against PyTorch's, and by what they promise."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
from tolerance import assert_close

import gradflow as gf
from gradflow import nn

rng = np.random.default_rng(0)
X, IMAGE = rng.standard_normal((6, 5)), rng.standard_normal((2, 5, 6, 6))


def quietly(make, library):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make(library)


class Symmetric(nn.Module):
    """The upper triangle mirrored."""

    def forward(self, x):
        return x.triu() + x.triu(1).transpose(-1, -2)

    def right_inverse(self, a):
        return a.triu()


class Double(nn.Module):
    """Twice the original."""

    def forward(self, x):
        return x * 2

    def right_inverse(self, a):
        return a / 2


# --- by what they promise -------------------------------------------------------------------------------


def test_a_parametrized_weight_is_computed_and_its_original_trained():
    layer = nn.Linear(3, 3)
    weight = layer.weight
    before = weight.detach().numpy().copy()
    nn.utils.parametrize.register_parametrization(layer, "weight", Symmetric())
    assert layer.parametrizations.weight.original is weight  # the object that an optimizer may hold
    assert_close(layer.weight.detach().numpy(), np.triu(before) + np.triu(before, 1).T)
    assert [n for n, _ in layer.named_parameters()] == ["bias", "parametrizations.weight.original"]
    nn.utils.parametrize.register_parametrization(layer, "weight", Double())
    a = np.arange(9.0, dtype=np.float32).reshape(3, 3)
    layer.weight = gf.tensor(a + a.T)
    assert_close(layer.weight.detach().numpy(), a + a.T)
    assert_close(weight.detach().numpy(), np.triu(a + a.T) / 2)
    assert nn.utils.parametrize.type_before_parametrizations(layer) is nn.Linear
    layer(gf.ones(2, 3)).sum().backward()
    assert weight.grad is not None


def test_cached_parametrizations_are_computed_once():
    calls = []

    class Counting(nn.Module):
        def forward(self, x):
            calls.append(1)
            return x

    layer = nn.Linear(2, 2)
    nn.utils.parametrize.register_parametrization(layer, "weight", Counting(), unsafe=True)
    with nn.utils.parametrize.cached():
        assert layer.weight is layer.weight
    assert len(calls) == 1
    assert (layer.weight == layer.weight).all() and len(calls) == 3


def test_removing_a_parametrization_leaves_copies_alone():
    layer = nn.Linear(2, 2)
    nn.utils.parametrize.register_parametrization(layer, "weight", Double())
    other, value = copy.deepcopy(layer), layer.weight.detach().numpy()
    nn.utils.parametrize.remove_parametrizations(layer, "weight")
    assert type(layer) is nn.Linear and not nn.utils.parametrize.is_parametrized(layer)
    assert isinstance(layer.weight, nn.Parameter)
    assert_close(layer.weight.detach().numpy(), value)
    nn.utils.parametrize.remove_parametrizations(other, "weight", leave_parametrized=False)
    assert_close(other.weight.detach().numpy(), value / 2)


def test_parametrizations_that_do_not_fit_are_refused():
    class Row(nn.Module):
        def forward(self, x):
            return x[:1]

    layer = nn.Linear(2, 2)
    register = nn.utils.parametrize.register_parametrization
    for call, message in [
        (lambda: register(layer, "weight", Row()), "unsafe=True"),
        (lambda: register(layer, "missing", Double()), "no parameter, buffer or parametrized tensor 'missing'"),
        (lambda: nn.utils.parametrize.remove_parametrizations(layer, "bias"), "no parametrization on 'bias'"),
        (lambda: nn.utils.prune.remove(layer, "bias"), "is not pruned"),
        (lambda: nn.utils.prune.l1_unstructured(layer, "bias", 1.5), r"share in \[0, 1\]"),
        (lambda: nn.utils.remove_weight_norm(layer), "there is no weight_norm"),
        (lambda: nn.utils.remove_spectral_norm(layer), "there is no spectral_norm"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()


def test_spectral_norm_is_one():
    layer = nn.utils.parametrizations.spectral_norm(nn.Linear(5, 4).double(), n_power_iterations=200)
    layer(gf.tensor(X))
    assert np.linalg.svd(layer.weight.detach().numpy())[1].max() == pytest.approx(1)
    with pytest.warns(FutureWarning, match="parametrizations"):
        hooked = nn.utils.weight_norm(nn.Linear(3, 2))
    plain = nn.utils.remove_weight_norm(hooked)
    assert sorted(plain.state_dict()) == ["bias", "weight"]
    assert plain(gf.ones(2, 3)).shape == (2, 2)


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_fused_layers_compute_the_same(transpose, bias):
    kind = nn.ConvTranspose2d if transpose else nn.Conv2d
    pairs = [
        (kind(5, 3, 3, bias=bias), nn.BatchNorm2d(3), nn.utils.fuse_conv_bn_eval, (transpose,), IMAGE),
        (nn.Linear(5, 3, bias=bias), nn.BatchNorm1d(3), nn.utils.fuse_linear_bn_eval, (), X),
    ]
    for layer, norm, fuse, more, x in pairs:
        layer.double().eval(), norm.double().eval()
        for t in (norm.running_mean, norm.weight, norm.bias):
            nn.init.normal_(t)
        nn.init.uniform_(norm.running_var, 1, 2)
        fused = fuse(layer, norm, *more)
        assert_close(fused(gf.tensor(x)).detach().numpy(), norm(layer(gf.tensor(x))).detach().numpy(), scale=10)
        with pytest.raises(AssertionError, match="evaluation"):
            fuse(layer.train(), norm, *more)


def test_skip_init_draws_nothing():
    gf.manual_seed(0)
    a = gf.rand(3)
    gf.manual_seed(0)
    assert nn.utils.skip_init(nn.Linear, 3, 4).weight.shape == (4, 3)
    assert (gf.rand(3) == a).all()
    with pytest.raises(RuntimeError, match="takes a device"):
        nn.utils.skip_init(nn.ReLU)


@pytest.mark.parametrize("way", ["matrix_exp", "cayley", "householder"])
@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3)])
def test_orthogonal_weights_stay_orthogonal(way, shape):
    layer = nn.Linear(*shape, bias=False).double()
    nn.utils.parametrizations.orthogonal(layer, orthogonal_map=way)
    optimizer = gf.optim.SGD(layer.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (layer(gf.ones(2, shape[0], dtype=gf.float64)) ** 2).sum().backward()
        optimizer.step()
        w = layer.weight.detach().numpy()
        assert_close(w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w, np.eye(min(shape)), scale=10)
    q = np.linalg.qr(rng.standard_normal(shape[::-1]))[0] if shape[0] <= shape[1] else None
    if q is not None:
        layer.weight = gf.tensor(q)
        assert_close(layer.weight.detach().numpy(), q, scale=10)


def test_random_pruning_takes_the_share():
    layer = nn.Linear(10, 10)
    nn.utils.prune.random_unstructured(layer, "weight", 0.3)
    assert int((layer.weight_mask == 0).sum()) == 30
    nn.utils.prune.random_structured(layer, "weight", 2, dim=0)
    assert int((layer.weight_mask.sum(1) == 0).sum()) >= 2
    assert nn.utils.prune.is_pruned(nn.Sequential(layer))


# --- against PyTorch ------------------------------------------------------------------------------------

MAKERS = {
    "weight_norm": (lambda nn: nn.utils.weight_norm(nn.Linear(5, 3)), X),
    "weight_norm of one length": (lambda nn: nn.utils.weight_norm(nn.Linear(5, 3), dim=None), X),
    "weight_norm of a convolution": (lambda nn: nn.utils.weight_norm(nn.ConvTranspose2d(5, 3, 3), dim=1), IMAGE),
    "spectral_norm": (lambda nn: nn.utils.spectral_norm(nn.Linear(5, 3), n_power_iterations=2), X),
    "spectral_norm, transposed": (lambda nn: nn.utils.spectral_norm(nn.ConvTranspose2d(5, 3, 3)), IMAGE),
    "length and direction": (lambda nn: nn.utils.parametrizations.weight_norm(nn.Linear(5, 3), dim=1), X),
    "divided by sigma": (lambda nn: nn.utils.parametrizations.spectral_norm(nn.Conv2d(5, 3, 3)), IMAGE),
    "orthogonal by exp": (lambda nn: nn.utils.parametrizations.orthogonal(nn.Linear(5, 5)), X),
    "orthogonal by Cayley": (
        lambda nn: nn.utils.parametrizations.orthogonal(nn.Linear(5, 3), orthogonal_map="cayley"),
        X,
    ),
    "orthogonal by reflections": (lambda nn: nn.utils.parametrizations.orthogonal(nn.Linear(5, 8)), X),
    "orthogonal, not trivialised": (
        lambda nn: nn.utils.parametrizations.orthogonal(nn.Linear(5, 3), use_trivialization=False),
        X,
    ),
    "a bias of length one": (lambda nn: nn.utils.parametrizations.spectral_norm(nn.Linear(5, 3), "bias"), X),
}


@pytest.mark.reference
@pytest.mark.parametrize("name", MAKERS)
def test_reparametrized_layers_against_pytorch(name):
    torch = pytest.importorskip("torch")
    make, x = MAKERS[name]
    a, b = quietly(make, nn).double(), quietly(make, torch.nn).double()
    assert repr(a) == repr(b)
    state = b.state_dict()
    assert list(a.state_dict()) == list(state)
    assert [n for n, _ in a.named_parameters()] == [n for n, _ in b.named_parameters()]
    a.load_state_dict({k: gf.tensor(v.numpy()) for k, v in state.items()})
    for training in (True, False):
        a.train(training), b.train(training)
        ours, theirs = gf.tensor(x).requires_grad_(), torch.tensor(x, requires_grad=True)
        y, t = a(ours), b(theirs)
        assert_close(y.detach().numpy(), t.detach().numpy(), scale=10)
        (y * y).sum().backward(), (t * t).sum().backward()
        assert_close(ours.grad.numpy(), theirs.grad.numpy(), scale=100)
        for p, q in zip(a.parameters(), b.parameters(), strict=True):
            assert_close(p.grad.numpy(), q.grad.numpy(), scale=100)
            p.grad = q.grad = None
        for p, q in zip(a.buffers(), b.buffers(), strict=True):
            assert_close(p.numpy(), q.numpy(), scale=10)


PRUNED = [
    [("l1_unstructured", "weight", 0.3)],
    [("ln_structured", "weight", 2, 2, 0)],
    [("ln_structured", "weight", 0.4, 1, 1), ("l1_unstructured", "weight", 5), ("ln_structured", "weight", 1, 2, 0)],
    [("l1_unstructured", "weight", 0.2), ("l1_unstructured", "weight", 0.5), ("l1_unstructured", "bias", 2)],
]


@pytest.mark.reference
@pytest.mark.parametrize("steps", PRUNED)
def test_pruning_against_pytorch(steps):
    torch = pytest.importorskip("torch")
    from torch.nn.utils import prune

    a, b = nn.Linear(5, 6).double(), torch.nn.Linear(5, 6).double()
    a.load_state_dict(b.state_dict())
    for name, *args in steps:
        getattr(nn.utils.prune, name)(a, *args)
        getattr(prune, name)(b, *args)
        assert_close(a.weight.detach().numpy(), b.weight.detach().numpy())
    assert list(a.state_dict()) == list(b.state_dict())
    assert_close(a(gf.tensor(X)).detach().numpy(), b(torch.tensor(X)).detach().numpy())
    nn.utils.prune.remove(a, "weight")
    prune.remove(b, "weight")
    assert list(a.state_dict()) == list(b.state_dict())
    assert_close(a.weight.detach().numpy(), b.weight.detach().numpy())


@pytest.mark.reference
def test_global_pruning_against_pytorch():
    torch = pytest.importorskip("torch")
    from torch.nn.utils import prune

    def make(nn):
        return nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 4)).double()

    a, b = make(nn), make(torch.nn)
    a.load_state_dict(b.state_dict())
    for m, p in ((a, nn.utils.prune), (b, prune)):
        p.global_unstructured([(m[0], "weight"), (m[2], "weight")], pruning_method=p.L1Unstructured, amount=0.4)
    for i in (0, 2):
        assert_close(a[i].weight.detach().numpy(), b[i].weight.detach().numpy())
