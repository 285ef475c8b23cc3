"""autograd.functional: Jacobians, Hessians and products in closed form, with PyTorch's structures and strictness."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from tolerance import assert_close

import gradflow as gf
from gradflow.autograd import functional


def double(*shape):
    return gf.randn(shape, dtype=gf.float64)


MODES = [(False, "reverse-mode"), (True, "reverse-mode"), (True, "forward-mode")]


@pytest.mark.parametrize(("vectorize", "strategy"), MODES)
def test_structures_of_a_jacobian(vectorize, strategy):
    A, x, y = double(3, 2), double(2), double(3)
    options = {"vectorize": vectorize, "strategy": strategy}
    one = functional.jacobian(lambda a: A @ a, x, **options)
    assert_close(one.numpy(), A.numpy())
    by_input = functional.jacobian(lambda a, b: (A @ a) * b, (x, y), **options)
    assert isinstance(by_input, tuple) and by_input[1].shape == (3, 3)
    assert_close(by_input[0].numpy(), y.numpy()[:, None] * A.numpy())
    by_output = functional.jacobian(lambda a: (A @ a, a.sum()), x, **options)
    assert by_output[0].shape == (3, 2) and by_output[1].tolist() == [1, 1]
    both = functional.jacobian(lambda a, b: (a * 2, b.exp()), (x, y), **options)
    assert both[0][1].tolist() == np.zeros((2, 3)).tolist()
    assert_close(both[1][1].numpy(), np.diag(np.exp(y.numpy())))


@pytest.mark.parametrize("vectorize", [False, True])
@pytest.mark.parametrize("strategy", ["reverse-mode", "forward-mode"])
def test_structures_of_a_hessian(vectorize, strategy):
    if strategy == "forward-mode" and not vectorize:
        with pytest.raises(NotImplementedError, match="vectorize"):
            functional.hessian(lambda a: a.sum(), double(2), outer_jacobian_strategy=strategy)
        return
    A, x, y = double(2, 3), double(2), double(3)
    options = {"vectorize": vectorize, "outer_jacobian_strategy": strategy}
    H = functional.hessian(lambda a: (a**3).sum(), x, **options)
    assert_close(H.numpy(), np.diag(6 * x.numpy()))
    H = functional.hessian(lambda a, b: a @ A @ b + (b**2).sum(), (x, y), **options)
    assert_close(H[0][1].numpy(), A.numpy())
    assert_close(H[1][0].numpy(), A.numpy().T)
    assert_close(H[1][1].numpy(), 2 * np.eye(3))
    assert H[0][0].tolist() == np.zeros((2, 2)).tolist()


def test_products():
    A, x, v, u = double(3, 2), double(2), double(2), double(3)
    f = lambda a: A @ a.sin()
    J = A.numpy() * np.cos(x.numpy())
    out, found = functional.vjp(f, x, u)
    assert_close(out.numpy(), A.numpy() @ np.sin(x.numpy()))
    assert_close(found.numpy(), u.numpy() @ J)
    assert_close(functional.jvp(f, x, v)[1].numpy(), J @ v.numpy())
    g = lambda a: (f(a) ** 2).sum()
    H = functional.hessian(g, x).numpy()
    assert_close(functional.vhp(g, x, v)[1].numpy(), v.numpy() @ H, scale=10)
    assert_close(functional.hvp(g, x, v)[1].numpy(), H @ v.numpy(), scale=10)
    assert_close(functional.vjp(lambda a, b: (a * b).sum(), (x, v))[1][0].numpy(), v.numpy())
    assert functional.vhp(lambda a: a.sum(), x, v)[1].tolist() == [0, 0]


def test_create_graph_makes_the_result_differentiable():
    x = double(3).requires_grad_()
    J = functional.jacobian(lambda a: a**3, x, create_graph=True)
    (g,) = gf.autograd.grad(J.sum(), x)
    assert_close(g.numpy(), 6 * x.detach().numpy())
    for found in (functional.vjp(lambda a: a**3, x, gf.ones_like(x))[1], functional.jacobian(lambda a: a**3, x)):
        assert not found.requires_grad
    h = functional.hvp(lambda a: (a**4).sum(), x, gf.ones_like(x).detach(), create_graph=True)[1]
    (g,) = gf.autograd.grad(h.sum(), x)
    assert_close(g.numpy(), 24 * x.detach().numpy())


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda x: functional.vjp(lambda a: a * 2, x), RuntimeError),
        (lambda x: functional.vjp(lambda a: a * 2, x, x[:1]), RuntimeError),
        (lambda x: functional.vjp(lambda a: 3, x, x), TypeError),
        (lambda x: functional.vjp(lambda a: a, [x], x), TypeError),
        (lambda x: functional.jvp(lambda a: a, x), RuntimeError),
        (lambda x: functional.hessian(lambda a: a, x), RuntimeError),
        (lambda x: functional.hessian(lambda a: (a.sum(),), x), RuntimeError),
        (lambda x: functional.jacobian(lambda a: a, x, strategy="sideways"), AssertionError),
        (lambda x: functional.jacobian(lambda a: a, x, strict=True, vectorize=True), RuntimeError),
        (lambda x: functional.vjp(lambda a: gf.ones(2), x, gf.ones(2), strict=True), RuntimeError),
        (lambda x: functional.jacobian(lambda a, b: a * 2, (x, x), strict=True), RuntimeError),
        (lambda x: functional.hessian(lambda a: a.sum(), x, strict=True), RuntimeError),
        (lambda x: functional.vhp(lambda a: a.sum(), x, x, strict=True), RuntimeError),
    ],
)
def test_what_does_not_fit_is_refused(call, kind):
    with pytest.raises(kind):
        call(gf.randn(3))


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize(("create", "strict", "leaf"), list(product([False, True], repeat=3)))
def test_values_and_strictness_are_pytorchs(create, strict, leaf):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, y, v, w = (
        rng.standard_normal((2, 3)),
        rng.standard_normal(3),
        rng.standard_normal((2, 3)),
        rng.standard_normal(3),
    )

    def same(a, b):
        assert type(a) is type(b) or not isinstance(b, tuple)
        if isinstance(b, tuple):
            assert len(a) == len(b)
            for p, q in zip(a, b, strict=True):
                same(p, q)
        else:
            assert_close(a.detach().numpy(), b.detach().numpy(), scale=10)

    functions = [
        lambda t: lambda x, y: ((x * y).sin(), x @ y),
        lambda t: lambda x, y: ((x * x).sin(), x.sum()),
        lambda t: lambda x, y: (t.ones(3, dtype=t.float64), x),
    ]
    scalars = [
        lambda t: lambda x, y: ((x * y).sin() * y).sum(),
        lambda t: lambda x, y: (x**3).sum(),
        lambda t: lambda x, y: x.sum() + (y**2).sum(),
    ]

    def compare(call):
        found = []
        for t, m in ((gf, functional), (torch, torch.autograd.functional)):
            xs = tuple(t.tensor(a, requires_grad=leaf) for a in (x, y))
            try:
                found.append(call(t, m, xs, (t.tensor(v), t.tensor(w))))
            except Exception as e:  # noqa: BLE001 (its kind is what is compared)
                found.append(e)
        ours, theirs = found
        if isinstance(theirs, Exception):
            assert type(ours) is type(theirs), (ours, theirs)
        else:
            same(ours, theirs)

    options = {"create_graph": create, "strict": strict}
    for f in functions:
        compare(lambda t, m, xs, vs: m.jacobian(f(t), xs, **options))
        compare(lambda t, m, xs, vs: m.jvp(f(t), xs, vs, **options))
        compare(lambda t, m, xs, vs: m.vjp(f(t), xs, tuple(t.ones_like(o) for o in f(t)(*xs)), **options))
    for f in scalars:
        compare(lambda t, m, xs, vs: m.hessian(f(t), xs, **options))
        compare(lambda t, m, xs, vs: m.vhp(f(t), xs, vs, **options))
        compare(lambda t, m, xs, vs: m.hvp(f(t), xs, vs, **options))
