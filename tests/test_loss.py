"""Losses against plain loops and PyTorch: values, two orders of gradients, errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tolerance import assert_close

import gradflow as gf
from gradflow.autograd import gradcheck, gradgradcheck
from gradflow.nn import functional as F
from gradflow.ops import distance, loss, pair_loss

rng = np.random.default_rng(0)


def normal(*shape):
    return rng.standard_normal(shape)


def classes(c, *shape):
    return rng.integers(0, c, shape)


def signs(*shape):
    return rng.integers(0, 2, shape) * 2.0 - 1


def probabilities(*shape):
    p = rng.uniform(0.1, 1, shape)
    return p / p.sum(1, keepdims=True)


# --- plain loops -------------------------------------------------------------------------------------------


def reduce(v, reduction, count=None):
    v = np.asarray(v, float)
    return (
        v if reduction == "none" else v.sum() if reduction == "sum" else v.sum() / (v.size if count is None else count)
    )


def log_softmax_of(row):
    top = max(row)
    total = math.log(math.fsum(math.exp(v - top) for v in row))
    return [v - top - total for v in row]


def cross_entropy(x, t, w=None, ignore=-100, reduction="mean", e=0.0):
    """By PyTorch's documentation: label smoothing mixes the target with a uniform one; the mean is weighted."""
    c = x.shape[1]
    w = np.ones(c) if w is None else w
    losses, weight = np.zeros(t.shape), 0.0
    for i in np.ndindex(t.shape):
        if t[i] == ignore:
            continue
        logp = log_softmax_of(x[(i[0], slice(None), *i[1:])].tolist())
        q = [(1 - e) * (k == t[i]) + e / c for k in range(c)]
        losses[i] = -math.fsum(q[k] * w[k] * logp[k] for k in range(c))
        weight += w[t[i]]
    return reduce(losses, reduction, weight)


T = np.array([2, 0, -100, 3, 1])


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("e", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy(reduction, e, weighted):
    x, w = normal(5, 4) * 3, rng.uniform(0.5, 2, 4) if weighted else None
    y = loss.cross_entropy(x, T, w, reduction=reduction, label_smoothing=e)
    assert_close(y, cross_entropy(x, T, w, -100, reduction, e))
    image, t = normal(2, 4, 3, 2), classes(4, 2, 3, 2)
    y = loss.cross_entropy(image, t, w, ignore_index=1, reduction=reduction, label_smoothing=e)
    assert_close(y, cross_entropy(image, t, w, 1, reduction, e))
    y = loss.cross_entropy(image[0, :, 0, 0], t[0, 0, 0], w, reduction=reduction, label_smoothing=e)
    one = cross_entropy(image[:1, :, 0, 0], t[:1, 0, 0], w, -100, reduction, e)
    assert_close(y, one.reshape(()))


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_cross_entropy_of_probabilities(reduction):
    x, p, w = normal(3, 4, 2), probabilities(3, 4, 2), rng.uniform(0.5, 2, 4)
    losses = np.empty((3, 2))
    for n, k in np.ndindex(losses.shape):
        logp = log_softmax_of(x[n, :, k].tolist())
        losses[n, k] = -math.fsum(w[c] * (0.9 * p[n, c, k] + 0.1 / 4) * logp[c] for c in range(4))
    y = loss.cross_entropy(x, p, w, reduction=reduction, label_smoothing=0.1)
    assert_close(y, reduce(losses, reduction))
    hard = np.eye(4)[[1, 2, 0]]
    assert_close(loss.cross_entropy(x[..., 0], hard), loss.cross_entropy(x[..., 0], np.array([1, 2, 0])))


def test_cross_entropy_of_large_logits():
    x = np.array([[1e4, 0.0], [0.0, 800.0]])
    assert_close(loss.cross_entropy(x, np.array([1, 1]), reduction="none"), np.array([1e4, 0.0]))
    half = gf.tensor(normal(8, 1000).astype(np.float16), requires_grad=True)
    t = classes(1000, 8)
    y = loss.cross_entropy(half, t)
    assert y.dtype == np.float16
    assert_close(y.detach().numpy(), cross_entropy(half.detach().numpy().astype(float), t).astype(np.float16))
    y.backward()
    assert half.grad.dtype == np.float16


def test_nothing_that_counts_is_nan():
    t = np.array([-100, -100])
    for f in (loss.cross_entropy, loss.nll_loss):
        x = gf.tensor(normal(2, 3), requires_grad=True)
        assert math.isnan(f(x, t).item())
        assert f(x, t, reduction="sum").item() == 0
        f(x, t, reduction="sum").backward()
        assert_close(x.grad.numpy(), np.zeros((2, 3)))


def test_rows_that_do_not_count_may_hold_anything():
    x = np.array([[math.nan, 1.0], [1.0, 2.0]])
    t = gf.tensor(x, requires_grad=True)
    y = loss.cross_entropy(t, np.array([-100, 0]))
    assert_close(y.item(), np.array(math.log(1 + math.e)))


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_nll(reduction):
    x, w = normal(5, 4), rng.uniform(0.5, 2, 4)
    kept = [i for i in range(5) if T[i] != -100]
    losses = [-w[T[i]] * x[i, T[i]] if i in kept else 0 for i in range(5)]
    y = loss.nll_loss(x, T, w, reduction=reduction)
    assert_close(y, reduce(losses, reduction, math.fsum(w[T[i]] for i in kept)))
    plain = [-x[i, T[i]] if i in kept else 0 for i in range(5)]
    assert_close(loss.nll_loss(x, T, reduction=reduction), reduce(plain, reduction, 4))


def margin_of(row, t, p, margin):
    return math.fsum(max(0.0, margin - row[t] + v) ** p for c, v in enumerate(row) if c != t) / len(row)


@pytest.mark.parametrize("p", [1, 2])
def test_multi_margin(p):
    x, t, w = normal(5, 4), classes(4, 5), rng.uniform(0.5, 2, 4)
    rows = [margin_of(r, k, p, 0.7) for r, k in zip(x.tolist(), t, strict=True)]
    assert_close(loss.multi_margin_loss(x, t, p, 0.7, reduction="none"), np.array(rows))
    assert_close(loss.multi_margin_loss(x, t, p, 0.7, w), np.mean(rows * w[t]))


def test_multilabel_margin():
    x, t = normal(3, 5), np.array([[3, 0, -1, 1, 1], [-1, 2, 2, 2, 2], [1, 1, 4, 2, 0]])
    rows = []
    for row, labels in zip(x.tolist(), t.tolist(), strict=True):
        labels = labels[: labels.index(-1)] if -1 in labels else labels
        others = [v for c, v in enumerate(row) if c not in labels]
        rows.append(math.fsum(max(0.0, 1 - row[j] + v) for j in labels for v in others) / 5)
    assert_close(loss.multilabel_margin_loss(x, t, reduction="none"), np.array(rows))
    assert_close(loss.multilabel_margin_loss(x[0], t[0]), np.array(rows[0]))


def huber(d, delta):
    d = abs(d)
    return d * d / 2 if d <= delta else delta * (d - delta / 2)


# Losses of single elements: the call, and the formula by Python's floats.
ELEMENTS = {
    "mse": (loss.mse_loss, {}, lambda x, t: (x - t) ** 2),
    "l1": (loss.l1_loss, {}, lambda x, t: abs(x - t)),
    "smooth_l1": (loss.smooth_l1_loss, {"beta": 0.5}, lambda x, t: huber(x - t, 0.5) / 0.5),
    "smooth_l1 0": (loss.smooth_l1_loss, {"beta": 0}, lambda x, t: abs(x - t)),
    "huber": (loss.huber_loss, {"delta": 0.7}, lambda x, t: huber(x - t, 0.7)),
    "poisson": (loss.poisson_nll_loss, {}, lambda x, t: math.exp(x) - t * x),
    "soft margin": (pair_loss.soft_margin_loss, {}, lambda x, t: math.log1p(math.exp(-t * x))),
    "logits": (
        loss.binary_cross_entropy_with_logits, {}, lambda x, t: (1 - t) * x + math.log1p(math.exp(-x)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("name", ELEMENTS)
def test_elements(name, reduction):
    call, options, formula = ELEMENTS[name]
    x, t = normal(3, 7), normal(3, 7)
    expected = np.vectorize(formula)(x, t)
    assert_close(call(x, t, reduction=reduction, **options), reduce(expected, reduction))


def test_weighted_differences():
    x, t, w = normal(3, 4), normal(3, 4), rng.uniform(0.5, 2, (3, 4))
    d = abs(x - t)
    assert_close(loss.mse_loss(x, t, weight=w), (w * d * d).sum() / w.sum())
    assert_close(loss.l1_loss(x, t, reduction="sum", weight=w), (w * d).sum())
    assert_close(loss.huber_loss(x, t, "none", 0.5, w), w * np.vectorize(lambda v: huber(v, 0.5))(d))


def test_binary_cross_entropy():
    x, t, w = rng.uniform(0.05, 0.95, (3, 4)), rng.uniform(0, 1, (3, 4)), rng.uniform(0.5, 2, 4)
    v = np.vectorize(lambda p, q: -q * math.log(p) - (1 - q) * math.log(1 - p))(x, t)
    assert_close(loss.binary_cross_entropy(x, t), v.mean())
    assert_close(loss.binary_cross_entropy(x, t, w, reduction="none"), v * w)
    logits = np.log(x / (1 - x))
    assert_close(loss.binary_cross_entropy_with_logits(logits, t, w), (v * w).mean(), scale=10)
    positive = np.vectorize(lambda p, q, s: -s * q * math.log(p) - (1 - q) * math.log(1 - p))(x, t, w)
    assert_close(loss.binary_cross_entropy_with_logits(logits, t, pos_weight=w, reduction="none"), positive, scale=10)
    edge = np.array([0.0, 1.0, 0.0, 1.0])
    y = loss.binary_cross_entropy(edge, np.array([0.0, 1.0, 1.0, 0.0]), reduction="none")
    assert_close(y, np.array([0.0, 0.0, 100.0, 100.0]))
    t = gf.tensor(edge, requires_grad=True)
    loss.binary_cross_entropy(t, np.array([0.0, 1.0, 1.0, 0.0]), reduction="sum").backward()
    assert_close(t.grad.numpy(), np.array([0.0, 0.0, -1e12, 1e12]))


def test_saturated_logits():
    x = gf.tensor(np.array([1000.0, -1000.0, 1000.0, -1000.0]), requires_grad=True)
    y = loss.binary_cross_entropy_with_logits(x, np.array([1.0, 0.0, 0.0, 1.0]), reduction="none")
    assert_close(y.detach().numpy(), np.array([0.0, 0.0, 1000.0, 1000.0]))
    y.sum().backward()
    assert_close(x.grad.numpy(), np.array([0.0, 0.0, 1.0, -1.0]))


def test_kl_div():
    p, q = probabilities(3, 4), probabilities(3, 4)
    q[0, 0] = 0
    v = np.vectorize(lambda a, b: b * (math.log(b) - math.log(a)) if b else 0.0)(p, q)
    assert_close(loss.kl_div(np.log(p), q, reduction="batchmean"), v.sum() / 3)
    assert_close(loss.kl_div(np.log(p), q, reduction="none"), v)
    assert_close(loss.kl_div(np.log(p), np.log(p) * 2, reduction="sum", log_target=True), (p * p * np.log(p)).sum())
    with pytest.warns(UserWarning, match="batchmean"):
        assert_close(loss.kl_div(np.log(p), q), v.mean())


def test_gaussian():
    x, t, var = normal(3, 4), normal(3, 4), rng.uniform(0.5, 2, (3, 4))
    v = (np.log(var) + (x - t) ** 2 / var) / 2
    assert_close(loss.gaussian_nll_loss(x, t, var, reduction="none"), v)
    assert_close(loss.gaussian_nll_loss(x, t, var, full=True), v.mean() + math.log(2 * math.pi) / 2)
    for shape in ((3, 1), (3,)):
        y = loss.gaussian_nll_loss(x, t, var[:, 0].reshape(shape), reduction="none")
        assert_close(y, (np.log(var[:, :1]) + (x - t) ** 2 / var[:, :1]) / 2)
    assert_close(loss.gaussian_nll_loss(x, t, 2.0, reduction="sum"), ((math.log(2) + (x - t) ** 2 / 2) / 2).sum())
    small = gf.tensor(np.zeros((3, 4)), requires_grad=True)  # held above eps, it still gets a gradient
    loss.gaussian_nll_loss(x, t, small, eps=0.1, reduction="sum").backward()
    assert_close(small.grad.numpy(), (1 / 0.1 - (x - t) ** 2 / 0.01) / 2)


def test_poisson():
    x, t = rng.uniform(0.5, 2, 6), np.array([0.0, 0.5, 1.0, 2.0, 3.5, 7.0])
    stirling = [k * math.log(k) - k + math.log(2 * math.pi * k) / 2 if k > 1 else 0 for k in t]
    y = loss.poisson_nll_loss(x, t, log_input=False, full=True, reduction="none")
    assert_close(y, x - t * np.log(x + 1e-8) + stirling)


def test_pairs():
    x, t = normal(6), np.array([1.0, -1, 1, -1, -1, 1])
    y = pair_loss.hinge_embedding_loss(x, t, 0.8, reduction="none")
    assert_close(y, np.array([v if s == 1 else max(0.0, 0.8 - v) for v, s in zip(x, t, strict=True)]))
    z = normal(6)
    y = pair_loss.margin_ranking_loss(x, z, t, 0.3, reduction="none")
    assert_close(y, np.array([max(0.0, -s * (a - b) + 0.3) for a, b, s in zip(x, z, t, strict=True)]))
    a, b = normal(6, 3), normal(6, 3)
    cos = [float(u @ v) / math.sqrt(float(u @ u) * float(v @ v)) for u, v in zip(a, b, strict=True)]
    assert_close(distance.cosine_similarity(a, b), np.array(cos))
    y = pair_loss.cosine_embedding_loss(a, b, t, 0.1, reduction="none")
    assert_close(y, np.array([1 - c if s == 1 else max(0.0, c - 0.1) for c, s in zip(cos, t, strict=True)]))


@pytest.mark.parametrize("p", [0, 0.5, 1, 2, 3, math.inf])
def test_pairwise_distance(p):
    a, b = normal(4, 3), normal(4, 3)
    d = abs(a - b + 1e-6)
    expected = d.max(1) if p == math.inf else (d > 0).sum(1) if p == 0 else (d**p).sum(1) ** (1 / p)
    assert_close(distance.pairwise_distance(a, b, p), expected * 1.0)
    assert_close(distance.pairwise_distance(a, b, p, keepdim=True), expected[:, None] * 1.0)


def test_equal_vectors_have_finite_gradients():
    for dtype in (gf.float16, gf.float32):
        a = gf.tensor(np.ones((2, 3), np.float32)).to(dtype).requires_grad_()
        for y in (
            distance.pairwise_distance(a, a.detach()),
            distance.cosine_similarity(a, a.detach()),
            distance.cosine_similarity(a * 0, a) if dtype == gf.float32 else a,  # 1 / eps is too large for float16
            pair_loss.triplet_margin_loss(a, a.detach(), a.detach()),
        ):
            (g,) = gf.autograd.grad(y.sum(), [a])
            assert np.isfinite(g.numpy()).all()


@pytest.mark.parametrize("swap", [False, True])
def test_triplets(swap):
    a, b, c = normal(5, 3), normal(5, 3), normal(5, 3)

    def far(u, v):
        return np.sqrt(((u - v + 1e-6) ** 2).sum(1))

    n = np.minimum(far(a, c), far(b, c)) if swap else far(a, c)
    assert_close(pair_loss.triplet_margin_loss(a, b, c, 0.5, swap=swap), np.maximum(far(a, b) - n + 0.5, 0).mean())
    y = pair_loss.triplet_margin_with_distance_loss(
        a, b, c, distance_function=lambda u, v: abs(u - v).sum(1), swap=swap, reduction="sum"
    )
    n = abs(a - c).sum(1)
    n = np.minimum(n, abs(b - c).sum(1)) if swap else n
    assert_close(y, np.maximum(abs(a - b).sum(1) - n + 1, 0).sum())


# --- gradients and PyTorch: calls of every public loss ----------------------------------------------------------

# (name, arguments, options); floating arguments are differentiated unless they are under "constant".
CALLS = [
    ("cross_entropy", (normal(5, 4), T), {}),
    ("cross_entropy", (normal(5, 4), T, rng.uniform(0.5, 2, 4)), {"label_smoothing": 0.2}),
    ("cross_entropy", (normal(2, 4, 3), classes(4, 2, 3), rng.uniform(0.5, 2, 4)), {"ignore_index": 2}),
    ("cross_entropy", (normal(2, 4, 3), probabilities(2, 4, 3)), {"label_smoothing": 0.1}),
    ("cross_entropy", (normal(4), probabilities(1, 4)[0], rng.uniform(0.5, 2, 4)), {}),
    ("nll_loss", (normal(5, 4), T, rng.uniform(0.5, 2, 4)), {}),
    ("nll_loss", (normal(2, 4, 3), classes(4, 2, 3)), {"reduction": "none"}),
    ("mse_loss", (normal(3, 4), normal(3, 4)), {}),
    ("mse_loss", (normal(3, 4), normal(3, 4)), {"weight": rng.uniform(0.5, 2, (3, 4))}),
    ("l1_loss", (normal(3, 4), normal(3, 4)), {"reduction": "none"}),
    ("smooth_l1_loss", (normal(3, 4), normal(3, 4)), {"beta": 0.6, "reduction": "sum"}),
    ("huber_loss", (normal(3, 4), normal(3, 4)), {"delta": 0.6}),
    ("binary_cross_entropy", (rng.uniform(0.1, 0.9, (3, 4)), rng.uniform(0, 1, (3, 4)), rng.uniform(0.5, 2, 4)), {}),
    (
        "binary_cross_entropy_with_logits",
        (normal(3, 4), rng.uniform(0, 1, (3, 4)), rng.uniform(0.5, 2, (3, 1))),
        {"pos_weight": rng.uniform(0.5, 2, 4)},
    ),
    ("binary_cross_entropy_with_logits", (normal(3, 4), rng.uniform(0, 1, (3, 4))), {"reduction": "sum"}),
    ("kl_div", (np.log(probabilities(3, 4)), probabilities(3, 4)), {"reduction": "batchmean"}),
    ("kl_div", (normal(3, 4), normal(3, 4)), {"reduction": "sum", "log_target": True}),
    ("multi_margin_loss", (normal(5, 4), classes(4, 5)), {"margin": 0.6}),
    ("multi_margin_loss", (normal(5, 4), classes(4, 5)), {"p": 2, "weight": rng.uniform(0.5, 2, 4)}),
    ("multilabel_margin_loss", (normal(2, 4), np.array([[1, 3, -1, 0], [2, -1, 0, 0]])), {}),
    ("multilabel_soft_margin_loss", (normal(3, 4), rng.uniform(0, 1, (3, 4)), rng.uniform(0.5, 2, 4)), {}),
    ("hinge_embedding_loss", (normal(7), signs(7)), {"margin": 0.5}),
    ("margin_ranking_loss", (normal(7), normal(7), signs(7)), {"margin": 0.2}),
    ("soft_margin_loss", (normal(7), signs(7)), {}),
    ("cosine_embedding_loss", (normal(4, 3), normal(4, 3), signs(4)), {"margin": 0.1}),
    ("triplet_margin_loss", (normal(4, 3), normal(4, 3), normal(4, 3)), {"swap": True}),
    ("triplet_margin_loss", (normal(4, 3), normal(4, 3), normal(4, 3)), {"p": 3, "margin": 2.0}),
    ("triplet_margin_with_distance_loss", (normal(4, 3), normal(4, 3), normal(4, 3)), {}),
    ("gaussian_nll_loss", (normal(3, 4), normal(3, 4), rng.uniform(0.5, 2, (3, 1))), {"full": True}),
    ("poisson_nll_loss", (normal(3, 4), rng.uniform(0, 3, (3, 4))), {"full": True}),
    ("poisson_nll_loss", (rng.uniform(0.5, 2, 5), rng.uniform(0, 3, 5)), {"log_input": False}),
    ("cosine_similarity", (normal(3, 4), normal(3, 4)), {}),
    ("cosine_similarity", (normal(2, 3, 4), normal(3, 1)), {"dim": -2}),
    ("pairwise_distance", (normal(3, 4), normal(4)), {"p": 1.5}),
]
IDS = [f"{i}-{name}" for i, (name, _, _) in enumerate(CALLS)]


def function(name):
    return next(getattr(m, name) for m in (loss, pair_loss, distance) if hasattr(m, name))


@pytest.mark.parametrize(("name", "args", "options"), CALLS, ids=IDS)
def test_two_orders_of_gradients(name, args, options):
    tensors = [gf.tensor(a, requires_grad=a.dtype.kind == "f") for a in args]
    assert gradcheck(lambda *t: function(name)(*t, **options), tensors)
    assert gradgradcheck(lambda *t: function(name)(*t, **options), tensors)


# What PyTorch has no gradient for: weights, and this target.
CONSTANT = {
    "cross_entropy": (2,),
    "nll_loss": (2,),
    "binary_cross_entropy": (2,),
    "binary_cross_entropy_with_logits": (2,),
    "soft_margin_loss": (1,),
}


@pytest.mark.reference
@pytest.mark.parametrize(("name", "args", "options"), CALLS, ids=IDS)
def test_as_pytorch(name, args, options):
    torch = pytest.importorskip("torch")

    def to(a):
        return torch.tensor(a) if isinstance(a, np.ndarray) else a

    ours = [gf.tensor(a, requires_grad=a.dtype.kind == "f") for a in args]
    tracked = [a.dtype.kind == "f" and i not in CONSTANT.get(name, ()) for i, a in enumerate(args)]
    theirs = [to(a).requires_grad_(track) for a, track in zip(args, tracked, strict=True)]
    y = function(name)(*ours, **options)
    z = getattr(torch.nn.functional, name)(*theirs, **{k: to(v) for k, v in options.items()})
    assert_close(y.detach().numpy(), z.detach().numpy())
    g = rng.standard_normal(z.shape)
    y.backward(gf.tensor(g))
    z.backward(torch.tensor(g))
    for a, b in zip(ours, theirs, strict=True):
        if b.grad is not None:
            assert_close(a.grad.numpy(), b.grad.numpy(), scale=10)


@pytest.mark.parametrize(("name", "args", "options"), CALLS, ids=IDS)
def test_signature_and_plain_arrays(name, args, options):
    y = function(name)(*args, **options)
    assert not isinstance(y, gf.Tensor)
    t = function(name)(*[gf.tensor(a) for a in args], **options)
    assert_close(np.asarray(y), t.numpy())


def test_deprecated_reductions():
    x, t = normal(3), normal(3)
    with pytest.warns(UserWarning, match="size_average and reduce are deprecated"):
        assert_close(loss.mse_loss(x, t, size_average=False), ((x - t) ** 2).sum())
    with pytest.warns(UserWarning, match="deprecated"):
        assert_close(loss.l1_loss(x, t, reduce=False), abs(x - t))


def test_shapes_that_differ_warn():
    x, t = normal(3, 1), normal(3)
    with pytest.warns(UserWarning, match=r"mse_loss: the target's shape \(3,\) differs"):
        assert_close(loss.mse_loss(x, t), ((x - t) ** 2).mean())
    with pytest.warns(UserWarning), pytest.raises(RuntimeError, match="l1_loss: wanted shapes that broadcast"):
        loss.l1_loss(normal(3, 2), t)


X = normal(3, 4)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: loss.cross_entropy(X, np.array([0, 1, 7])),
            IndexError,
            r"cross_entropy: wanted targets in \[0, 4\), saw 7",
        ),
        (lambda: loss.cross_entropy(X, np.array([0, 1, -1])), IndexError, "saw -1"),
        (lambda: loss.cross_entropy(X, np.zeros(2, int)), ValueError, r"target of shape \(3,\) for an input"),
        (lambda: loss.cross_entropy(X[None], np.zeros((1, 3), int)), RuntimeError, r"target of shape \(1, 4\)"),
        (lambda: loss.cross_entropy(X, np.zeros(3)), RuntimeError, "wanted a target of integers, saw float64"),
        (lambda: loss.cross_entropy(X, np.zeros(3, int), np.ones(3)), RuntimeError, "weight for each of 4 classes"),
        (lambda: loss.cross_entropy(X, np.zeros(3, int), label_smoothing=2), RuntimeError, "label_smoothing in"),
        (lambda: loss.cross_entropy(X, np.zeros(3, int), reduction="x"), ValueError, "wanted reduction 'none'"),
        (lambda: loss.nll_loss(X, np.array([0, 1, 4])), IndexError, r"nll_loss: wanted targets in \[0, 4\), saw 4"),
        (lambda: loss.mse_loss(X, X, weight=np.ones(4)), ValueError, "weight of input's shape"),
        (lambda: loss.smooth_l1_loss(X, X, beta=-1), RuntimeError, "beta of at least 0"),
        (lambda: loss.huber_loss(X, X, delta=0), RuntimeError, "delta greater than 0"),
        (lambda: loss.binary_cross_entropy(X, X), RuntimeError, r"wanted an input in \[0, 1\]"),
        (lambda: loss.binary_cross_entropy(X, X[0]), ValueError, "target of input's shape"),
        (lambda: loss.binary_cross_entropy_with_logits(X, X[0]), ValueError, "target of input's shape"),
        (lambda: loss.multi_margin_loss(X, np.array([0, 1, 9])), RuntimeError, r"wanted targets in \[0, 4\)"),
        (lambda: loss.multi_margin_loss(X, np.array([0, 1])), RuntimeError, r"target of shape \(3,\)"),
        (lambda: loss.multi_margin_loss(X, np.zeros(3, int), p=3), ValueError, "p 1 or 2"),
        (lambda: loss.multilabel_margin_loss(X, np.zeros(3, int)), RuntimeError, "target of the input's shape"),
        (lambda: loss.multilabel_margin_loss(X, np.full((3, 4), 9)), RuntimeError, r"wanted targets in \[-1, 4\)"),
        (lambda: loss.gaussian_nll_loss(X, X, -np.ones((3, 4))), ValueError, "var of at least 0"),
        (lambda: loss.gaussian_nll_loss(X, X, np.ones(4)), ValueError, "var of a shape that fits"),
        (lambda: pair_loss.margin_ranking_loss(X, X, np.ones(3)), RuntimeError, "as many dimensions"),
        (lambda: pair_loss.cosine_embedding_loss(X, X, np.ones((3, 2))), RuntimeError, "cosine_embedding_loss: wanted"),
        (lambda: pair_loss.triplet_margin_loss(X, X, X[0]), RuntimeError, "as many dimensions"),
        (lambda: pair_loss.triplet_margin_loss(X, X, X, -1), ValueError, "margin greater than 0"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_where_no_target_counts_cross_entropy_is_nan_and_flat_to_any_order(weighted, smoothing):
    x = gf.tensor(np.arange(12.0).reshape(3, 4)).requires_grad_()
    weight = gf.tensor(np.arange(1.0, 5.0)) if weighted else None
    y = F.cross_entropy(x, gf.tensor([-100] * 3), weight, label_smoothing=smoothing)
    assert np.isnan(y.item())
    (g,) = gf.autograd.grad(y, x, create_graph=True)
    (h,) = gf.autograd.grad((g * g).sum() + g.sum(), x)
    assert (g == 0).all() and (h == 0).all()


def test_losses_of_complex_numbers_and_single_numbers():
    z = np.array([3 + 4j, 0, 1j])
    assert F.l1_loss(gf.tensor(z), gf.tensor(z * 0), reduction="none").tolist() == [5, 0, 1]
    assert F.triplet_margin_loss(gf.tensor(z), gf.tensor(z), gf.tensor(z + 2), eps=0.0).item() == 0
    assert F.multilabel_margin_loss(gf.tensor(0.3), gf.tensor(0)).item() == 0
    assert F.nll_loss(gf.tensor([-1.0, -2.0]), gf.tensor([1])).item() == 2


@pytest.mark.parametrize(
    ("loss", "shapes"),
    [
        ("soft_margin_loss", [(5, 4), (5,)]),
        ("hinge_embedding_loss", [(5, 4), (5,)]),
        ("poisson_nll_loss", [(5, 4), (5,)]),
        ("kl_div", [(5, 4), (5,)]),
        ("margin_ranking_loss", [(5, 4), (5, 3), (5, 4)]),
        ("triplet_margin_loss", [(3, 4), (3, 5), (3, 4)]),
        ("gaussian_nll_loss", [(2, 3), (2, 2), (2, 3)]),
        ("multilabel_soft_margin_loss", [(2, 3), (2, 2)]),
    ],
)
def test_losses_name_themselves_when_shapes_do_not_fit(loss, shapes):
    with pytest.raises(RuntimeError, match=f"^{loss}: wanted shapes that broadcast"):
        getattr(F, loss)(*[gf.ones(*s) for s in shapes], reduction="sum")
