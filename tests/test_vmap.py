"""vmap: every op of the table mapped over a stack of its cases, with gradients and forward mode; dims, randomness, errors."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest
from conftest import cases_of
from tolerance import assert_close

import gradflow as gf
from gradflow import func, op
from gradflow.autograd import grad

N = 3  # samples


@pytest.fixture(autouse=True)
def _slow_is_fine():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="There is a performance drop")
        yield


# --- readers of the table ---------------------------------------------------------------------------------

# The shape of what these give depends on values, which a mapped function may not look at; or on the place in memory.
UNMAPPED = {"argwhere"}
MAPPED = [e for e in op.table.values() if e.cases and e.name not in UNMAPPED]


def varied(a, k):
    """The k-th sample's array: the case's own, a little smaller each time."""
    return np.asarray(a * (1 - 0.1 * k)) if a.dtype.kind in "fc" else a


def calls(entry, most):
    """(places of arrays, arguments of each sample, keywords) of some cases of an op."""
    for case in cases_of(entry)[:most]:
        places = [i for i, a in enumerate(case.args) if isinstance(a, np.ndarray)]
        if places:
            keywords = {k: gf.tensor(v) if isinstance(v, np.ndarray) else v for k, v in case.kwargs.items()}
            samples = [[varied(a, k) if i in places else a for i, a in enumerate(case.args)] for k in range(N)]
            yield case, places, samples, keywords


def tensors(args, requires_grad=False):
    return [
        gf.tensor(a, requires_grad=requires_grad and a.dtype.kind == "f") if isinstance(a, np.ndarray) else a
        for a in args
    ]


def outputs(y):
    return [v for v in (y if isinstance(y, tuple) else (y,)) if v is not None]


def mapped(entry, case, places, keywords):
    """The op as a function of the arrays at these places, and of nothing else."""

    def function(*xs):
        args = tensors(case.args)
        for i, x in zip(places, xs, strict=True):
            args[i] = x
        return tuple(outputs(entry(*args, **keywords)))

    return function


@pytest.mark.parametrize("entry", MAPPED, ids=lambda e: e.name)
def test_every_op_mapped_is_the_loop(entry):
    for case, places, samples, keywords in calls(entry, 20):
        for some in [places, *([p] for p in places)] if len(places) > 1 else [places]:
            given = [[s[i] if i in some else case.args[i] for i in range(len(s))] for s in samples]
            want = [outputs(entry(*tensors(g), **keywords)) for g in given]
            stacks = [gf.tensor(np.stack([g[i] for g in given])) for i in some]
            found = func.vmap(mapped(entry, case, some, keywords))(*stacks)
            for k, y in enumerate(found):
                loop = np.stack([w[k].detach().numpy() for w in want])
                assert y.shape == loop.shape and y.dtype == loop.dtype, f"{case} mapped over {some}"
                assert_close(y.detach().numpy(), loop, what=f"{case} mapped over {some}")


DIFFERENTIABLE = [e for e in MAPPED if e.rules]


@pytest.mark.parametrize("entry", DIFFERENTIABLE, ids=lambda e: e.name)
def test_gradients_of_every_op_mapped(entry):
    for case, places, samples, keywords in calls(entry, 4):
        if not case.grad:
            continue
        function = mapped(entry, case, places, keywords)
        rng = np.random.default_rng(0)
        stacks = [
            gf.tensor(np.stack([s[i] for s in samples]), requires_grad=samples[0][i].dtype.kind == "f") for i in places
        ]
        ys = [y for y in func.vmap(function)(*stacks) if y.requires_grad]
        xs = [x for x in stacks if x.requires_grad]
        if not ys or not xs:
            continue
        us = [rng.standard_normal(y.shape) for y in ys]
        found = grad(
            ys, xs, [gf.tensor(u.astype(y.dtype)) for u, y in zip(us, ys, strict=True)], materialize_grads=True
        )
        for k in range(N):
            one = [gf.tensor(samples[k][i], requires_grad=samples[k][i].dtype.kind == "f") for i in places]
            zs = [z for z in function(*one) if z.requires_grad]
            ws = [x for x in one if x.requires_grad]
            gs = [gf.tensor(u[k].astype(z.dtype)) for u, z in zip(us, zs, strict=True)]
            for a, b in zip(found, grad(zs, ws, gs, materialize_grads=True), strict=True):
                assert_close(a.numpy()[k], b.numpy(), what=f"gradient of {case}, sample {k}", scale=10)


@pytest.mark.parametrize("entry", DIFFERENTIABLE, ids=lambda e: e.name)
def test_many_gradients_of_every_op_at_once(entry):
    """The rules run on batched gradients: what vmapped vjp, and so jacrev, are made of."""
    for case, places, samples, keywords in calls(entry, 4):
        if not case.grad:
            continue
        one = [gf.tensor(samples[0][i], requires_grad=samples[0][i].dtype.kind == "f") for i in places]
        ys = [y for y in mapped(entry, case, places, keywords)(*one) if y.requires_grad]
        xs = [x for x in one if x.requires_grad]
        if not ys or not xs:
            continue
        rng = np.random.default_rng(1)
        us = [rng.standard_normal((N, *y.shape)).astype(y.dtype) for y in ys]
        found = grad(ys, xs, list(map(gf.tensor, us)), retain_graph=True, is_grads_batched=True, materialize_grads=True)
        for k in range(N):
            want = grad(ys, xs, [gf.tensor(u[k]) for u in us], retain_graph=True, materialize_grads=True)
            for a, b in zip(found, want, strict=True):
                assert_close(a.numpy()[k], b.numpy(), what=f"gradient {k} of {case}", scale=10)


@pytest.mark.parametrize("entry", DIFFERENTIABLE, ids=lambda e: e.name)
def test_forward_mode_of_every_op(entry):
    for case, places, samples, keywords in calls(entry, 3):
        floats = [i for i in places if samples[0][i].dtype.kind == "f"]
        if not case.grad or case.order < 2 or not floats:
            continue
        function = mapped(entry, case, floats, keywords)
        rng = np.random.default_rng(2)
        xs = [case.args[i] for i in floats]
        vs = [rng.standard_normal(x.shape) for x in xs]
        _, found = func.jvp(function, tuple(map(gf.tensor, xs)), tuple(map(gf.tensor, vs)))
        eps = 1e-6
        sides = [function(*(gf.tensor(x + s * eps * v) for x, v in zip(xs, vs, strict=True))) for s in (1, -1)]
        for t, p, m in zip(found, *sides, strict=True):
            if p.dtype.kind == "f":
                want = (p.numpy() - m.numpy()) / (2 * eps)
                np.testing.assert_allclose(t.numpy(), want, rtol=1e-4, atol=1e-5, err_msg=str(case))


# --- dims -----------------------------------------------------------------------------------------------


def test_in_dims_and_out_dims():
    x, y = gf.randn(3, 4, 5), gf.randn(4, 3)
    z = func.vmap(lambda a, b: (a * b.sum()).sum(1), in_dims=(1, 0), out_dims=1)(x, y)
    assert_close(z.numpy(), np.stack([(x.numpy()[:, i] * y.numpy()[i].sum()).sum(1) for i in range(4)], 1))
    z = func.vmap(lambda a, b: a @ b, in_dims=(-1, None), out_dims=-1)(x, y[:, 0])
    assert_close(z.numpy(), np.einsum("abc,b->ac", x.numpy(), y.numpy()[:, 0]), what="negative dims")


def test_nested_inputs_and_outputs():
    x, y = gf.randn(3, 2), gf.randn(2, 3)
    f = lambda p, q: {"sum": p["x"] + q[0][0], "both": (p["x"], q[0][0] * 2)}
    found = func.vmap(f, in_dims=({"x": 0}, [(1,)]), out_dims={"sum": 1, "both": (0, 0)})({"x": x}, [(y,)])
    assert_close(found["sum"].numpy(), (x.numpy() + y.numpy().T).T)
    assert_close(found["both"][1].numpy(), y.numpy().T * 2)
    assert isinstance(found["both"], tuple)


def test_an_output_that_is_the_same_for_all_is_expanded_or_given_once():
    x, c = gf.randn(3, 2), gf.randn(2)
    assert func.vmap(lambda a: c)(x).shape == (3, 2)
    same, mapped = func.vmap(lambda a: (c, a), out_dims=(None, 0))(x)
    assert same.shape == (2,) and mapped.shape == (3, 2)
    with pytest.raises(ValueError, match="out_dim is None"):
        func.vmap(lambda a: a, out_dims=None)(x)


def test_nested_vmaps_see_only_their_own_dimension():
    x, y = gf.randn(3, dtype=gf.float64), gf.randn(4, dtype=gf.float64)
    outer = func.vmap(lambda a: func.vmap(lambda b: a * b)(y))(x)
    assert_close(outer.numpy(), np.outer(x.numpy(), y.numpy()))
    three = func.vmap(
        func.vmap(func.vmap(lambda a, b, c: a + b * c, (None, None, 0)), (None, 0, None)), (0, None, None)
    )(x, y, x)
    assert_close(three.numpy(), x.numpy()[:, None, None] + y.numpy()[:, None] * x.numpy())


@pytest.mark.parametrize("chunk", [1, 2, 5, 7])
def test_chunks_give_the_same(chunk):
    x = gf.randn(5, 3)
    f = lambda a: (a.sum(), a.cumsum(0))
    for a, b in zip(func.vmap(f, out_dims=(0, 1), chunk_size=chunk)(x), func.vmap(f, out_dims=(0, 1))(x), strict=True):
        assert a.tolist() == b.tolist()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: func.vmap(lambda: x)(), "inputs to map over"),
        (lambda x: func.vmap(lambda a: a, in_dims="0")(x), "in_dims as an int"),
        (lambda x: func.vmap(lambda a: a, in_dims=(0, 0))(x), "nested as the inputs"),
        (lambda x: func.vmap(lambda a: a, in_dims=(None,))(x), "at least one input"),
        (lambda x: func.vmap(lambda a: a, in_dims=(2,))(x), "in_dim of a tensor of shape"),
        (lambda x: func.vmap(lambda a, b: a)(x, 3.0), "wanted a tensor where in_dims"),
        (lambda x: func.vmap(lambda a, b: a)(x, x[:1]), "one size"),
        (lambda x: func.vmap(lambda a: 3)(x), "returns tensors"),
        (lambda x: func.vmap(lambda a: (a, a), out_dims=(0, 0, 0))(x), "nested as the outputs"),
        (lambda x: func.vmap(lambda a: a, chunk_size=0)(x), "chunk_size"),
    ],
)
def test_dims_that_do_not_fit_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call(gf.randn(3, 2))


# --- what a mapped function may not do ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "function",
    [lambda a: a if a > 0 else -a, lambda a: a.item(), lambda a: float(a), lambda a: gf.tensor(a.tolist()), np.asarray],
)
def test_values_are_not_to_be_looked_at(function):
    with pytest.raises(RuntimeError, match="may not look at them"):
        func.vmap(function)(gf.randn(3))


def test_a_batched_mask_and_writes_into_what_is_not_batched_are_refused():
    x = gf.randn(3, 2)
    with pytest.raises(RuntimeError, match="batched mask"):
        func.vmap(lambda a: a[a > 0])(x)
    y = gf.zeros(2)
    with pytest.raises(RuntimeError, match="vmap"):
        func.vmap(lambda a: y.add_(a))(x)
    kept = []
    func.vmap(lambda a: kept.append(a) or a)(x)
    with pytest.raises(RuntimeError, match="after the vmap"):
        kept[0] + 1


# --- writing, indexing ---------------------------------------------------------------------------------------


def test_writes_in_place_are_each_samples_own():
    def f(x, y):
        z = x.clone()
        z[0] = y
        z[1:3] += 1
        z.mul_(2).add_(y)
        z[gf.tensor([0, 1])] = 5.0
        z[3].fill_(7)
        return z

    x, y = gf.randn(3, 4), gf.randn(3)
    loop = np.stack([f(a, b).numpy() for a, b in zip(x, y, strict=True)])
    assert_close(func.vmap(f)(x, y).numpy(), loop)
    w = x.clone().requires_grad_()
    func.vmap(f)(w, y).sum().backward()
    v = x.clone().requires_grad_()
    sum(f(a, b).sum() for a, b in zip(v, y, strict=True)).backward()
    assert_close(w.grad.numpy(), v.grad.numpy())


@pytest.mark.parametrize(
    ("function", "index"),
    [
        (lambda a, i: a[i], (3,)), (lambda a, i: a[:, i], (3,)), (lambda a, i: a[i], (3, 2)), (lambda a, i: a[:, i], (3, 2)),
        (lambda a, i: a[i, :, i], (3, 2)), (lambda a, i: a[0, i], (3, 2)), (lambda a, i: a[..., i], (3, 2)),
        (lambda a, i: a.index_select(1, i), (3, 2)), (lambda a, i: a.gather(2, i), (3, 4, 3, 2)), (lambda a, i: a.take(i), (3, 5)),
        (lambda a, i: a.scatter(1, i, 0.5), (3, 2, 2, 2)), (lambda a, i: a.scatter_add(0, i, a[:2, :2] * 2), (3, 2, 2, 3)),
        (lambda a, i: a.index_add(0, i, a[:2]), (3, 2)), (lambda a, i: gf.nn.functional.one_hot(i, 5), (3, 2)),
        (lambda a, i: gf.nn.functional.embedding(i, a[0]), (3, 2)),
    ],
)  # fmt: skip
def test_indices_of_each_samples_own(function, index):
    x = gf.randn(3, 4, 3, 3, dtype=gf.float64)
    i = gf.tensor(np.random.default_rng(0).integers(0, 2, index))
    loop = np.stack([function(a, b).numpy() for a, b in zip(x, i, strict=True)])
    assert_close(func.vmap(function)(x, i).numpy(), loop)
    shared = np.stack([function(x[0], b).numpy() for b in i])
    assert_close(func.vmap(function, (None, 0))(x[0], i).numpy(), shared)
    shared = np.stack([function(a, i[0]).numpy() for a in x])
    assert_close(func.vmap(function, (0, None))(x, i[0]).numpy(), shared)


# --- random numbers ------------------------------------------------------------------------------------------

DRAWS = [
    lambda a: a + gf.rand(4), lambda a: a + gf.randn_like(a), gf.nn.functional.dropout, lambda a: gf.bernoulli(a.sigmoid()),
    lambda a: a.clone().uniform_(), lambda a: gf.nn.functional.gumbel_softmax(a), lambda a: gf.randperm(9) + 0 * a.sum(),
]  # fmt: skip


@pytest.mark.parametrize("draw", DRAWS)
def test_randomness(draw):
    x = gf.ones(3, 4)
    with pytest.raises(RuntimeError, match="randomness"):
        func.vmap(draw)(x)
    same = func.vmap(draw, randomness="same")(x).numpy()
    assert (same == same[0]).all()
    gf.manual_seed(1)
    differ = np.concatenate([func.vmap(draw, randomness="different")(x).numpy().reshape(3, -1) for _ in range(4)], 1)
    assert (differ[0] != differ[1]).any() and (differ[1] != differ[2]).any()
    with pytest.raises(RuntimeError, match="randomness"):
        func.vmap(draw, randomness="sometimes")(x)


def test_draws_of_what_is_not_batched():
    x, w = gf.zeros(4), gf.ones(50)
    y = func.vmap(lambda a: gf.nn.functional.dropout(w) + a, randomness="different")(x).numpy()
    assert (y[0] != y[1]).any()
    y = func.vmap(lambda a: gf.nn.functional.dropout(w) + a, randomness="same")(x).numpy()
    assert (y[0] == y[1]).all()


# --- speed ---------------------------------------------------------------------------------------------------


def test_a_loop_is_told_once():
    from gradflow.func import dispatch

    dispatch._told.discard("ctc")
    logp = gf.randn(2, 5, 1, 4).log_softmax(-1)
    f = lambda x: gf.nn.functional.ctc_loss(x, gf.tensor([[1, 2]]), gf.tensor([5]), gf.tensor([2]))
    dispatch._told.discard("ctc_loss")
    with pytest.warns(UserWarning, match="performance drop"):
        func.vmap(f)(logp)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        func.vmap(f)(logp)


def test_common_layers_have_rules():
    nn = gf.nn
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, groups=2), nn.GELU(),
        nn.AvgPool2d(2), nn.Flatten(), nn.LayerNorm(4), nn.Linear(4, 3), nn.Softmax(-1),
    )  # fmt: skip
    weights = {k: p.detach() for k, p in net.named_parameters()}

    def loss(p, x, y):
        return nn.functional.cross_entropy(func.functional_call(net, p, (x[None],)), y[None])

    x, y = gf.randn(5, 1, 8, 8), gf.tensor([0, 1, 2, 1, 0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = func.vmap(func.grad(loss), (None, 0, 0))(weights, x, y)
    for i in range(5):
        net.zero_grad()
        nn.functional.cross_entropy(net(x[i][None]), y[i][None]).backward()
        for name, p in net.named_parameters():
            assert_close(found[name].numpy()[i], p.grad.numpy(), scale=30, what=name)


def test_an_ordinary_call_knows_nothing_of_vmap():
    text = """
import inspect, linecache, sys
import gradflow as gf
x = gf.ones(2, requires_grad=True)
(x * 2).sum().backward()
gf.autograd.functional.jvp(gf.exp, x, x.detach())
assert not any(m.startswith("gradflow.func") for m in sys.modules), "func is loaded"
lines = lambda: "".join(linecache.getlines("<the call of mul>"))
assert "batching" not in lines() and "entry.definition" in lines()
gf.vmap
assert "batching" in lines()
assert (x * 2).tolist() == [2, 2] and gf.vmap(lambda a: a * 2)(x).tolist() == [2, 2]
"""
    subprocess.run([sys.executable, "-c", text], check=True)


@pytest.mark.cuda
def test_per_sample_gradients_on_the_card(card):
    nn = gf.nn
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.LayerNorm(8), nn.Linear(8, 3)
    )
    x, y = gf.randn(2, 1, 4, 4), gf.tensor([0, 2])

    def loss(p, x, y):
        out = func.functional_call(net, p, (x[None],))
        return nn.functional.cross_entropy(nn.functional.dropout(out, 0.0), y[None])

    def run(device):
        net.to(device)
        weights = {k: p.detach() for k, p in net.named_parameters()}
        return func.vmap(func.grad(loss), (None, 0, 0))(weights, x.to(device), y.to(device))

    here = run("cpu")
    for name, g in run("cuda").items():
        assert g.is_cuda
        assert_close(g.cpu().numpy(), here[name].numpy(), scale=30, what=name)
