"""Functions of functions: gradients, products and Jacobians in closed form and against PyTorch, and what they are used for."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from tolerance import assert_close

import gradflow as gf
from gradflow import func, nn
from gradflow.func import functional_call, grad, grad_and_value, hessian, jacfwd, jacrev, jvp, linearize, vjp, vmap


def double(*shape):
    return gf.randn(shape, dtype=gf.float64)


# --- closed forms -----------------------------------------------------------------------------------------


def test_grad_of_grad_of_grad():
    x = double()
    third = grad(grad(grad(lambda t: t.sin() * t**2)))(x)
    a = x.item()
    assert_close(third.numpy(), 6 * np.cos(a) - 6 * a * np.sin(a) - a * a * np.cos(a))
    assert not third.requires_grad


def test_grad_of_what_a_closure_holds_is_told_apart():
    x = double()
    assert_close(grad(lambda a: a * grad(lambda b: a * b)(a))(x).numpy(), 2 * x.numpy())
    assert_close(grad(lambda a: a * grad(lambda b: a + b)(a * 1.0))(x).numpy(), 1.0)
    one = gf.ones((), dtype=gf.float64)
    pushed = jvp(lambda a: a * jvp(lambda b: a * b * b, (a,), (one,))[1], (x,), (one,))[1]
    assert_close(pushed.numpy(), 6 * x.numpy() ** 2)
    assert_close(grad(lambda a: jvp(lambda b: a * b, (a,), (a,))[1])(x).numpy(), 2 * x.numpy())


def test_gradients_reach_outer_leaves_only_when_they_are_there():
    w, x = double(3).requires_grad_(), double(3)
    g = grad(lambda a: (w * a).sin().sum())(x)
    assert g.requires_grad
    (dw,) = gf.autograd.grad(g.sum(), w)
    a, b = w.detach().numpy(), x.numpy()
    assert_close(dw.numpy(), np.cos(a * b) - a * b * np.sin(a * b))
    with gf.no_grad():
        assert not grad(lambda a: (w * a).sin().sum())(x).requires_grad
    assert grad(lambda a: (a.detach() * a).sum())(x).tolist() == x.tolist()

    def blind(a):
        with gf.no_grad():
            return (a * a).sum()

    assert grad(blind)(x).tolist() == [0, 0, 0]


def test_grad_of_nested_arguments_and_aux():
    p, x = {"w": double(2), "b": [double(), (double(),)]}, double(2)
    f = lambda p, x: (((p["w"] * x).sum() + p["b"][0] * p["b"][1][0]) ** 2, {"seen": x * 2})
    (g, (value, aux)) = grad_and_value(f, has_aux=True)(p, x)
    s = (p["w"].numpy() @ x.numpy() + p["b"][0].item() * p["b"][1][0].item()) * 2
    assert_close(g["w"].numpy(), s * x.numpy())
    assert_close(g["b"][1][0].numpy(), s * p["b"][0].numpy())
    assert_close(value.numpy(), (s / 2) ** 2)
    assert aux["seen"].tolist() == (x * 2).tolist() and not aux["seen"].requires_grad
    both = grad(f, argnums=(1, 0), has_aux=True)(p, x)[0]
    assert isinstance(both, tuple) and set(both[1]) == {"w", "b"}
    assert grad(lambda a, b: a.sum(), argnums=-1)(x, x).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: grad(lambda a: a)(x), "0-d tensor"),
        (lambda x: grad(lambda a: 3.0)(x), "returns a tensor"),
        (lambda x: grad(lambda a: a.sum(), argnums=1)(x), "argnums within"),
        (lambda x: grad(lambda a: a.sum(), argnums="0")(x), "argnums as an int"),
        (lambda x: grad(lambda a, b: a.sum(), argnums=(0, 0))(x, x), "argnums that differ"),
        (lambda x: grad(lambda a: a.sum(), has_aux=True)(x), "has_aux"),
        (lambda x: grad(lambda a: a.sum())(3.0), "tensors to differentiate by"),
        (lambda x: grad(lambda a: a.sum())(gf.tensor([1])), "floating"),
        (lambda x: vjp(lambda a: a, x)[1](x[:1]), "cotangent of shape"),
        (lambda x: vjp(lambda a: (a, a), x)[1](x), "nested as the output"),
        (lambda x: vjp(lambda a: "a", x), "returns tensors"),
        (lambda x: jvp(lambda a: a, x, (x,)), "primals as a tuple"),
        (lambda x: jvp(lambda a: a, (x,), (x[:1],)), "tangent of shape"),
        (lambda x: jvp(lambda a: a, (x,), (x, x)), "nested as the primals"),
        (lambda x: jvp(lambda a: gf.ones(2), (x,), (x,), strict=True), "strict"),
    ],
)
def test_what_does_not_fit_is_refused(call, words):
    with pytest.raises(RuntimeError, match=words):
        call(gf.randn(3))


def test_products_with_a_jacobian():
    A, x, v, u = double(3, 4), double(4), double(4), double(3)
    f = lambda a: {"y": gf.tanh(A @ a), "s": a.sum()}
    y = np.tanh(A.numpy() @ x.numpy())
    J = (1 - y**2)[:, None] * A.numpy()
    out, pull = vjp(f, x)
    assert not out["y"].requires_grad
    for _ in range(2):  # as often as one likes
        assert_close(pull({"y": u, "s": gf.ones((), dtype=gf.float64)})[0].numpy(), u.numpy() @ J + 1)
    out, pushed = jvp(f, (x,), (v,))
    assert_close(pushed["y"].numpy(), J @ v.numpy())
    assert_close(pushed["s"].numpy(), v.numpy().sum())
    out, push = linearize(f, x)
    assert_close(push(v)["y"].numpy(), J @ v.numpy())
    assert_close(vmap(push)(gf.eye(4, dtype=gf.float64))["y"].numpy(), J.T)
    assert_close(
        vmap(lambda w: pull({"y": w, "s": gf.zeros((), dtype=gf.float64)})[0])(gf.eye(3, dtype=gf.float64)).numpy(), J
    )


@pytest.mark.parametrize("jacobian", [jacrev, jacfwd])
def test_jacobians_of_a_layer(jacobian):
    W, b, x = double(3, 4), double(3), double(4)
    f = lambda W, b, x: gf.tanh(W @ x + b)
    d = 1 - np.tanh(W.numpy() @ x.numpy() + b.numpy()) ** 2
    JW, Jb, Jx = jacobian(f, argnums=(0, 1, 2))(W, b, x)
    assert_close(JW.numpy(), np.einsum("i,ij,k->ijk", d, np.eye(3), x.numpy()))
    assert_close(Jb.numpy(), np.diag(d))
    assert_close(Jx.numpy(), d[:, None] * W.numpy())
    J, aux = jacobian(lambda x: (f(W, b, x), x.sum()), has_aux=True)(x)
    assert_close(J.numpy(), Jx.numpy())
    assert aux.tolist() == x.sum().tolist()
    tree = jacobian(lambda p: {"a": p["x"] ** 2, "b": p["x"].sum()})({"x": x})
    assert_close(tree["a"]["x"].numpy(), np.diag(2 * x.numpy()))
    assert tree["b"]["x"].tolist() == [1, 1, 1, 1]
    assert jacobian(lambda x: gf.ones(2, dtype=gf.float64))(x).shape == (2, 4)


def test_jacrev_by_chunks_is_jacrev():
    x = double(3)
    f = lambda a: gf.outer(a, a.exp()).flatten()
    assert jacrev(f, chunk_size=2)(x).tolist() == jacrev(f)(x).tolist()


@pytest.mark.parametrize("outer", [jacrev, jacfwd])
@pytest.mark.parametrize("inner", [jacrev, jacfwd])
def test_hessians_in_every_way(outer, inner):
    x = double(3)
    f = lambda a: a.prod() + (a**3).sum()
    a, b, c = x.tolist()
    H = np.array([[6 * a, c, b], [c, 6 * b, a], [b, a, 6 * c]])
    assert_close(outer(inner(f))(x).numpy(), H)
    assert_close(hessian(f)(x).numpy(), H)
    assert_close(vmap(hessian(f))(gf.stack([x, x * 2])).numpy()[0], H)
    assert_close(jvp(grad(f), (x,), (gf.ones(3, dtype=gf.float64),))[1].numpy(), H.sum(1))


def test_bare_arrays_of_batched_tensors_have_no_gradient():
    """gaussian_nll_loss holds the variance above eps by a constant that it makes from the variance's array."""
    x, t, v = double(5), double(5), double(5).exp()
    f = lambda v: nn.functional.gaussian_nll_loss(x, t, v)
    d = (x - t).numpy() ** 2
    want = (1 / v.numpy() - d / v.numpy() ** 2) / 10
    assert_close(vmap(grad(f))(gf.stack([v, v]))[1].numpy(), want)


def test_vmap_inside_and_outside_of_gradients():
    X, w = double(5, 3), double(3)
    loss = lambda w, x: (x @ w).sin()
    per = X.numpy() * np.cos(X.numpy() @ w.numpy())[:, None]
    assert_close(vmap(grad(loss), (None, 0))(w, X).numpy(), per)
    assert_close(grad(lambda w: vmap(loss, (None, 0))(w, X).sum())(w).numpy(), per.sum(0))
    second = grad(lambda w: (vmap(grad(loss), (None, 0))(w, X) ** 2).sum())(w)
    s = X.numpy() @ w.numpy()
    want = ((X.numpy() ** 2).sum(1) * -2 * np.cos(s) * np.sin(s)) @ X.numpy()
    assert_close(second.numpy(), want)
    jac = vmap(jacrev(lambda x: gf.outer(x, w)))(X)
    assert_close(jac.numpy(), np.einsum("ik,j->ijk", np.eye(3), w.numpy())[None].repeat(5, 0))
    v = w.clone().requires_grad_()
    vmap(grad(loss), (None, 0))(v, X).sum().backward()
    assert_close(v.grad.numpy(), (-np.sin(s) * X.numpy().sum(1)) @ X.numpy())


# --- modules ----------------------------------------------------------------------------------------------


def small():
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()


def test_functional_call_leaves_the_module_as_it_was():
    net, x = small(), double(2, 4)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    given = {k: v * 2 for k, v in net.state_dict().items()}
    y = functional_call(net, given, (x,))
    twice = copy.deepcopy(net)
    with gf.no_grad():
        for p in twice.parameters():
            p.mul_(2)
    assert_close(y.detach().numpy(), twice(x).detach().numpy())
    assert all(v.tolist() == before[k].tolist() for k, v in net.state_dict().items())
    assert all(isinstance(p, nn.Parameter) for p in net.parameters()) and len(list(net.parameters())) == 4
    halves = ({"0.weight": given["0.weight"]}, {k: v for k, v in given.items() if k != "0.weight"})
    assert functional_call(net, halves, x, strict=True).tolist() == y.tolist()
    with pytest.raises(ZeroDivisionError):
        functional_call(Failing(), {"w": gf.ones(1)}, (x,))
    with pytest.raises(ValueError, match="in several"):
        functional_call(net, (given, given), (x,))
    with pytest.raises(RuntimeError, match="missing"):
        functional_call(net, halves[0], x, strict=True)
    with pytest.raises(TypeError, match="wanted tensors"):
        functional_call(net, {"0.weight": 3}, x)


class Failing(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(gf.zeros(1))

    def forward(self, x):
        return 1 // 0


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(3, 3, bias=False)
        self.b = nn.Linear(3, 3, bias=False)
        self.b.weight = self.a.weight
        self.register_buffer("seen", gf.zeros(()))

    def forward(self, x):
        self.seen = self.seen + 1
        return self.b(self.a(x))


def test_tied_weights_and_buffers():
    net, x = Tied(), gf.randn(2, 3)
    w = gf.randn(3, 3)
    both = functional_call(net, {"a.weight": w}, x)
    assert_close(both.numpy(), x.numpy() @ w.numpy().T @ w.numpy().T)
    one = functional_call(net, {"a.weight": w}, x, tie_weights=False)
    assert_close(one.detach().numpy(), x.numpy() @ w.numpy().T @ net.a.weight.detach().numpy().T)
    state = {"seen": gf.zeros(())}
    before = net.seen.item()
    functional_call(net, state, x)
    assert net.seen.item() == before and state["seen"].item() == 1
    with pytest.raises(ValueError, match="one tensor"):
        functional_call(net, {"a.weight": w, "b.weight": w * 2}, x)


def test_an_ensemble_at_once():
    nets = [small() for _ in range(3)]
    params, buffers = func.stack_module_state(nets)
    assert params["0.weight"].shape == (3, 6, 4) and params["0.weight"].is_leaf and params["0.weight"].requires_grad
    x = double(5, 4)
    base = copy.deepcopy(nets[0])
    f = lambda p, b, x: functional_call(base, (p, b), (x,))
    assert_close(
        vmap(f, (0, 0, None))(params, buffers, x).detach().numpy(), np.stack([m(x).detach().numpy() for m in nets])
    )
    xs = double(3, 5, 4)
    y = vmap(f)(params, buffers, xs)
    assert_close(y.detach().numpy(), np.stack([m(v).detach().numpy() for m, v in zip(nets, xs, strict=True)]))
    y.sum().backward()
    nets[1](xs[1]).sum().backward()
    assert_close(params["2.bias"].grad.numpy()[1], nets[1][2].bias.grad.numpy())
    with pytest.raises(RuntimeError, match="at least one"):
        func.stack_module_state([])
    with pytest.raises(RuntimeError, match="one class"):
        func.stack_module_state([nets[0], nn.Linear(2, 2)])


def test_an_ensemble_of_batch_norms_moves_its_statistics():
    nets = [nn.BatchNorm1d(4).double() for _ in range(2)]
    params, buffers = func.stack_module_state(nets)
    x = double(2, 6, 4)
    base = copy.deepcopy(nets[0])
    vmap(lambda p, b, x: functional_call(base, (p, b), (x,)))(params, buffers, x)
    for i, m in enumerate(nets):
        m(x[i])
        assert_close(buffers["running_mean"].numpy()[i], m.running_mean.numpy())
        assert_close(buffers["running_var"].numpy()[i], m.running_var.numpy())
    with pytest.raises(RuntimeError, match="replace_all_batch_norm"):
        vmap(lambda v: nets[0](v))(x)
    net = func.replace_all_batch_norm_modules_(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).double())
    assert net[1].running_mean is None
    vmap(net)(x)


def test_neural_tangent_kernel_both_ways():
    net = small()
    params = {k: p.detach() for k, p in net.named_parameters()}
    f = lambda p, x: functional_call(net, p, (x,))
    a, b = double(3, 4), double(2, 4)
    ja = vmap(jacrev(f), (None, 0))(params, a)
    jb = vmap(jacrev(f), (None, 0))(params, b)
    whole = sum(
        np.einsum("nip,mjp->nmij", p.numpy().reshape(3, 3, -1), q.numpy().reshape(2, 3, -1))
        for p, q in zip(ja.values(), jb.values(), strict=True)
    )

    def one(x, y):
        _, pull = vjp(lambda p: f(p, x), params)
        column = lambda v: jvp(lambda p: f(p, y), (params,), pull(v))[1]
        return vmap(column)(gf.eye(3, dtype=gf.float64))

    found = vmap(vmap(one, (None, 0)), (0, None))(a, b)
    assert_close(found.numpy(), np.swapaxes(whole, 2, 3).transpose(0, 1, 2, 3), scale=10)


def test_learning_to_learn_differentiates_through_a_step():
    """One step of gradient descent inside of the loss (Finn et al. 2017): d/dw L(w - a dL/dw) = (1 - a H) dL(w')."""
    x, t, w, a = double(6, 2), double(6), double(2), 0.1
    loss = lambda w: ((x @ w - t) ** 2).mean()
    meta = grad(lambda w: loss(w - a * grad(loss)(w)))(w)
    X, T, W = x.numpy(), t.numpy(), w.numpy()
    g = lambda w: 2 * X.T @ (X @ w - T) / 6
    H = 2 * X.T @ X / 6
    assert_close(meta.numpy(), (np.eye(2) - a * H) @ g(W - a * g(W)))
    tasks = double(4, 6)
    many = vmap(lambda t: grad(lambda w: ((x @ w - t) ** 2).mean())(w))(tasks)
    assert_close(many.numpy(), np.stack([2 * X.T @ (X @ W - s) / 6 for s in tasks.numpy()]))


def test_forward_and_reverse_agree_on_a_network():
    net, x = small(), double(2, 4)
    params = {k: p.detach() for k, p in net.named_parameters()}
    rev, fwd = (j(lambda p: functional_call(net, p, (x,)).sin())(params) for j in (jacrev, jacfwd))
    for name in params:
        assert_close(rev[name].numpy(), fwd[name].numpy(), scale=10)


def test_hessian_vector_products_in_three_ways():
    A, x, v = double(3, 3), double(3), double(3)
    f = lambda a: (a @ A @ a).sin()
    H = hessian(f)(x).numpy()
    assert_close(jvp(grad(f), (x,), (v,))[1].numpy(), H @ v.numpy(), scale=10)
    assert_close(vjp(grad(f), x)[1](v)[0].numpy(), H @ v.numpy(), scale=10)
    assert_close(grad(lambda a: (grad(f)(a) * v).sum())(x).numpy(), H @ v.numpy(), scale=10)


# --- a Function of the user's own -------------------------------------------------------------------------


class Cube(gf.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x**3, 3 * x**2

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(inputs[0], output[1])
        ctx.save_for_forward(inputs[0], output[1])
        ctx.power = 3

    @staticmethod
    def backward(ctx, g, gd):
        x, dx = ctx.saved_tensors
        return g * dx + gd * 2 * ctx.power * x

    @staticmethod
    def jvp(ctx, t):
        x, dx = ctx.saved_tensors
        return t * dx, t * 6 * x


class Product(gf.autograd.Function):
    seen = []

    @staticmethod
    def forward(x, y):
        return x * y

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return g * y, g * x

    @staticmethod
    def vmap(info, in_dims, x, y):
        Product.seen.append((info.batch_size, info.randomness, in_dims))
        x, y = (t if d is None else t.movedim(d, 0) for t, d in zip((x, y), in_dims, strict=True))
        return Product.apply(x, y if in_dims[1] is not None else y.expand(x.shape)), 0


def test_functions_under_transforms():
    x, v = double(3, 4), double(3, 4)
    X, V = x.numpy(), v.numpy()
    assert_close(vmap(lambda a: Cube.apply(a)[0])(x).numpy(), X**3)
    assert_close(vmap(grad(lambda a: Cube.apply(a)[0].sum()))(x).numpy(), 3 * X**2)
    assert_close(vmap(grad(grad(lambda a: Cube.apply(a)[0])))(x[0]).numpy(), 6 * X[0])
    assert_close(jvp(lambda a: Cube.apply(a)[1], (x,), (v,))[1].numpy(), 6 * X * V)
    assert_close(vmap(lambda a, b: jvp(lambda c: Cube.apply(c)[0], (a,), (b,))[1])(x, v).numpy(), 3 * X**2 * V)
    assert_close(jacfwd(lambda a: Cube.apply(a)[0])(x[0]).numpy(), np.diag(3 * X[0] ** 2))
    assert_close(jacrev(lambda a: Cube.apply(a)[0])(x[0]).numpy(), np.diag(3 * X[0] ** 2))
    Product.seen.clear()
    assert_close(vmap(Product.apply, (0, None))(x, v[0]).numpy(), X * V[0])
    assert Product.seen == [(3, "error", (0, None))]
    shared = vmap(grad(lambda a, b: Product.apply(a, b).sum(), 1), (0, None))(x, v[0])
    assert_close(shared.numpy(), X)
    w = v[0].clone().requires_grad_()
    vmap(Product.apply, (0, None))(x, w).sum().backward()
    assert_close(w.grad.numpy(), X.sum(0))


def test_a_function_with_jvp_alone_has_forward_mode():
    class Sine(gf.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_forward(x)
            return x.sin()

        @staticmethod
        def jvp(ctx, t):
            return t * ctx.saved_tensors[0].cos()

    x, v = double(3), double(3)
    assert_close(jvp(Sine.apply, (x,), (v,))[1].numpy(), np.cos(x.numpy()) * v.numpy())
    with pytest.raises(RuntimeError, match="batching rule"):
        vmap(Sine.apply)(x)
    with pytest.raises(NotImplementedError, match="backward"):
        grad(lambda a: Sine.apply(a).sum())(x)


# --- PyTorch ----------------------------------------------------------------------------------------------


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "compose",
    [
        lambda F: F.vmap(F.jacrev(F.grad(lambda a, b: (a * b).exp().sum()), 1), (0, None)),
        lambda F: F.jacrev(F.vmap(F.grad(lambda a, b: (a @ b).sigmoid()), (0, None))),
        lambda F: F.grad(lambda a, b: F.vmap(F.vmap(lambda s, t: (s * t).cos(), (None, 0)), (0, None))(a[0], b).sum()),
        lambda F: lambda a, b: F.jvp(F.vmap(lambda s: (s * b).softmax(0)), (a,), (a,))[1],
        lambda F: lambda a, b: F.vmap(F.vjp(lambda s: s.cumsum(0) * s, b)[1])(a)[0],
        lambda F: F.vmap(F.hessian(lambda a, b: (a * b).norm()), (0, None)),
        lambda F: lambda a, b: F.jacfwd(F.jacrev(lambda s: (s**3).sum() * s.prod()))(b),
    ],
)
def test_compositions_are_pytorchs(compose):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((4, 3)), rng.standard_normal(3)
    ours = compose(func)(gf.tensor(a), gf.tensor(b))
    theirs = compose(torch.func)(torch.tensor(a), torch.tensor(b))
    assert_close(ours.numpy(), theirs.numpy(), scale=10)
    assert not ours.requires_grad
