"""Normalisation against plain loops: values, running statistics, gradients, and the CUDA kernels on every layout."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tolerance import assert_close

import gradflow as gf
from gradflow.cuda import row as cuda_row
from gradflow.ops import norm, row_norm

EPS = 1e-5


def moments(values):
    """(mean, biased variance) of a list, with exact sums."""
    mean = math.fsum(values) / len(values)
    return mean, math.fsum((v - mean) ** 2 for v in values) / len(values)


def by_sets(x, label):
    """x normalised by loops over its elements; those with the same label(index) make a set."""
    sets = {}
    for i in np.ndindex(x.shape):
        sets.setdefault(label(i), []).append(float(x[i]))
    found = {k: moments(v) for k, v in sets.items()}
    y = np.empty(x.shape)
    for i in np.ndindex(x.shape):
        mean, var = found[label(i)]
        y[i] = (float(x[i]) - mean) / math.sqrt(var + EPS)
    return y


def channels(v, ndim):
    return v.reshape(-1, *(1,) * (ndim - 2))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


# --- values -----------------------------------------------------------------------------------------------


def test_layer_norm(rng):
    x, w, b = rng.standard_normal((2, 3, 4)), rng.standard_normal((3, 4)), rng.standard_normal((3, 4))
    assert_close(norm.layer_norm(x, (3, 4), w, b), by_sets(x, lambda i: i[0]) * w + b)
    assert_close(norm.layer_norm(x, 4), by_sets(x, lambda i: i[:2]))


def test_rms_norm(rng):
    x, w = rng.standard_normal((3, 5)), rng.standard_normal(5)
    expected = [
        [v / math.sqrt(math.fsum(u * u for u in r) / 5 + 0.01) * s for v, s in zip(r, w, strict=True)] for r in x
    ]
    assert_close(norm.rms_norm(x, 5, w, 0.01), np.array(expected))
    tiny = np.full((1, 4), 1e-4, np.float32)  # beside which float32's epsilon, the default, counts
    assert_close(norm.rms_norm(tiny, 4), tiny / np.sqrt(np.float32(1e-8) + np.finfo(np.float32).eps))
    half = norm.rms_norm(tiny.astype(np.float16), 4)
    assert_close(half, tiny.astype(np.float16) / math.sqrt(1e-8 + np.finfo(np.float32).eps), dtype=np.dtype("float16"))


@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 5), (2, 3, 2, 4)])
def test_batch_norm(rng, shape):
    x, w, b = rng.standard_normal(shape), rng.standard_normal(3), rng.standard_normal(3)
    expected = by_sets(x, lambda i: i[1]) * channels(w, x.ndim) + channels(b, x.ndim)
    assert_close(norm.batch_norm(x, None, None, w, b, True), expected)


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_group_norm(rng, groups):
    x, w, b = rng.standard_normal((2, 6, 2, 2)), rng.standard_normal(6), rng.standard_normal(6)
    expected = by_sets(x, lambda i: (i[0], i[1] * groups // 6)) * channels(w, 4) + channels(b, 4)
    assert_close(norm.group_norm(x, groups, w, b), expected)


def test_instance_norm(rng):
    x, w = rng.standard_normal((2, 3, 5)), rng.standard_normal(3)
    assert_close(norm.instance_norm(x, weight=w), by_sets(x, lambda i: i[:2]) * channels(w, 3))


@pytest.mark.parametrize("size", [1, 2, 3, 9])
def test_local_response_norm(rng, size):
    x = rng.standard_normal((2, 5, 3))
    expected = np.empty(x.shape)
    for n, c, k in np.ndindex(x.shape):
        window = range(max(0, c - size // 2), min(5, c + (size - 1) // 2 + 1))
        total = math.fsum(x[n, j, k] ** 2 for j in window)
        expected[n, c, k] = x[n, c, k] / (2 + 0.5 * total / size) ** 0.75
    assert_close(norm.local_response_norm(x, size, 0.5, 0.75, 2.0), expected)


CALLS = {
    "layer": lambda x: norm.layer_norm(x, x.shape[1:]),
    "rms": lambda x: norm.rms_norm(x - x.mean(1, keepdims=True), x.shape[1:], None, EPS),
    "batch": lambda x: norm.batch_norm(x.T, None, None, training=True).T,
    "group": lambda x: norm.group_norm(x[:, None], 1)[:, 0],
}


@pytest.mark.parametrize("name", [n for n in CALLS if n != "rms"])
def test_nothing_cancels_far_from_zero(name, rng):
    # E[x^2] - E[x]^2 would lose all digits here.
    x = (rng.standard_normal((3, 64)) + 3000).astype(np.float32)
    expected = by_sets(x, lambda i: i[0])
    assert_close(CALLS[name](x), expected.astype(np.float32), scale=100)
    assert not np.allclose(x.astype(np.float32).var(1), (x * x).mean(1) - x.mean(1) ** 2, rtol=0.1)


@pytest.mark.parametrize("name", CALLS)
def test_half_types_are_computed_in_float32(name, rng):
    x = rng.standard_normal((3, 600)).astype(np.float16)
    y = CALLS[name](x)
    assert y.dtype == np.float16
    if name != "rms":
        assert_close(y, by_sets(x, lambda i: i[0]).astype(np.float16))


def test_half_with_float32_weights(rng):
    x, w = rng.standard_normal((4, 3, 5)).astype(np.float16), rng.standard_normal(3).astype(np.float32)
    t, v = gf.tensor(x, requires_grad=True), gf.tensor(w, requires_grad=True)
    y = norm.batch_norm(t, None, None, v, None, True)
    assert y.dtype == np.float16
    y.sum().backward()
    assert t.grad.dtype == np.float16
    assert v.grad.dtype == np.float32


# --- running statistics -------------------------------------------------------------------------------------


def test_running_statistics(rng):
    x = rng.standard_normal((4, 3, 5)).astype(np.float32)
    mean, var = gf.tensor([1.0, 2.0, 3.0]), gf.tensor([1.0, 1.0, 2.0])
    before = mean._version, mean.numpy().copy(), var.numpy().copy()
    norm.batch_norm(gf.tensor(x), mean, var, None, None, True, 0.3)
    found = [moments(x[:, c].ravel().tolist()) for c in range(3)]
    assert_close(mean.numpy(), np.float32(0.7) * before[1] + np.float32([0.3 * m for m, _ in found]))
    assert_close(var.numpy(), np.float32(0.7) * before[2] + np.float32([0.3 * v * 20 / 19 for _, v in found]))
    assert mean._version == before[0] + 1
    y = norm.batch_norm(gf.tensor(x), mean, var, training=False)
    m, v = channels(mean.numpy().astype(float), 3), channels(var.numpy().astype(float), 3)
    assert_close(y.numpy(), ((x - m) / np.sqrt(v + EPS)).astype(np.float32))
    assert mean._version == before[0] + 1


def test_running_statistics_of_instances(rng):
    x = rng.standard_normal((4, 3, 5))
    mean, var = np.zeros(3), np.ones(3)
    norm.instance_norm(x, mean, var, momentum=0.2)
    found = np.array([[moments(x[n, c].tolist()) for c in range(3)] for n in range(4)]).mean(0)
    assert_close(mean, 0.2 * found[:, 0])
    assert_close(var, 0.8 + 0.2 * found[:, 1] * 5 / 4)
    y = norm.instance_norm(x, mean, var, use_input_stats=False)
    assert_close(y, (x - channels(mean, 3)) / np.sqrt(channels(var, 3) + EPS))


def test_running_statistics_are_not_recorded(rng):
    mean, var = gf.zeros(3), gf.ones(3)
    x = gf.tensor(rng.standard_normal((4, 3)), dtype=gf.float32, requires_grad=True)
    norm.batch_norm(x, mean, var, None, None, True)
    assert not mean.requires_grad
    assert not var.requires_grad
    # A second step writes the statistics that the first evaluation saved: its backward must say so.
    y = norm.batch_norm(x, mean, var, gf.ones(3).requires_grad_(), None, False)
    norm.batch_norm(x, mean, var, None, None, True)
    with pytest.raises(RuntimeError, match="version"):
        y.sum().backward()


# --- gradients ------------------------------------------------------------------------------------------------


def test_third_derivative(rng):
    x = gf.tensor(rng.standard_normal((2, 3)), requires_grad=True)
    w = gf.tensor(rng.standard_normal(3), requires_grad=True)

    def third(x, w):
        with gf.enable_grad():
            y = (norm.layer_norm(x, 3, w, eps=0.5) ** 3).sum()
            for _ in range(2):
                (g,) = gf.autograd.grad(y, [x], create_graph=True)
                y = (g * g * w).sum()
            return y

    assert gf.autograd.gradcheck(third, [x, w])


def test_gradients_of_constant_shifts_vanish(rng):
    # y does not change when a set is shifted or, but for eps, scaled: dx is orthogonal to 1 and to x.
    x, g = rng.standard_normal((5, 8)), rng.standard_normal((5, 8))
    t = gf.tensor(x, requires_grad=True)
    norm.layer_norm(t, 8, eps=1e-14).backward(gf.tensor(g))
    assert_close(t.grad.numpy().sum(1), np.zeros(5))
    assert_close((t.grad.numpy() * x).sum(1), np.zeros(5))


def test_frozen_batch_norm_keeps_what_it_needs(rng):
    # Without weights to train, evaluation saves no activations.
    x = gf.tensor(rng.standard_normal((2, 3, 4)), requires_grad=True)
    y = norm.batch_norm(x, gf.zeros(3, dtype=gf.float64), gf.ones(3, dtype=gf.float64), training=False)
    assert all(v is None or getattr(v, "shape", ()) != (2, 3, 4) for v in y.node.saved)


# --- errors ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda x: norm.layer_norm(x, (4,)),
            RuntimeError,
            r"layer_norm: wanted an input of shape \(\*, 4\), saw \(2, 3\)",
        ),
        (lambda x: norm.layer_norm(x, ()), RuntimeError, "layer_norm: wanted an input"),
        (lambda x: norm.layer_norm(x, 3, gf.ones(2)), RuntimeError, r"weight of shape \(3,\), saw \(2,\)"),
        (lambda x: norm.layer_norm(x, 3, gf.ones(3).double()), RuntimeError, "weight of dtype float32, saw float64"),
        (lambda x: norm.layer_norm(x.long(), 3), RuntimeError, "wanted a floating dtype, saw int64"),
        (lambda x: norm.rms_norm(x, (2,)), RuntimeError, "rms_norm: wanted an input"),
        (lambda x: norm.batch_norm(x, None, None), RuntimeError, "running_mean and running_var in evaluation"),
        (
            lambda x: norm.batch_norm(x, gf.ones(2), gf.ones(2)),
            RuntimeError,
            r"running_mean of shape \(3,\), saw \(2,\)",
        ),
        (lambda x: norm.batch_norm(x, gf.ones(3), None, training=True), ValueError, "both or neither"),
        (lambda x: norm.batch_norm(x[:1], None, None, training=True), ValueError, "more than 1 value per channel"),
        (lambda x: norm.batch_norm(x[0], None, None, training=True), RuntimeError, r"shape \(n, c, ...\), saw \(3,\)"),
        (lambda x: norm.batch_norm(x, None, None, gf.ones(2), training=True), RuntimeError, r"weight of shape \(3,\)"),
        (lambda x: norm.group_norm(x, 2), RuntimeError, "group_norm: wanted channels divisible by 2 groups"),
        (lambda x: norm.group_norm(x[:1], 3), ValueError, "more than 1 value per group"),
        (lambda x: norm.instance_norm(x), ValueError, "more than 1 element per channel"),
        (lambda x: norm.instance_norm(x[None], use_input_stats=False), RuntimeError, "in evaluation"),
        (lambda x: norm.local_response_norm(x, 2), ValueError, "at least 3 dimensions"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call(gf.ones(2, 3))


# --- the kernels ------------------------------------------------------------------------------------------------


def on_card(card, entry, args, options=()):
    """What the twin gives, as NumPy arrays, beside the definition in float64."""
    op = entry.op
    y = op.kernel.twin(*[card.asarray(a) if isinstance(a, np.ndarray) else a for a in args], *options)
    assert y is not NotImplemented
    wide = [a.astype(np.float64) if isinstance(a, np.ndarray) else a for a in args]
    expected = op.definition(*wide, *options)
    for a, b in zip(y, expected, strict=True):
        if a is not None:
            a = card.asnumpy(a)
            assert_close(a, b.astype(a.dtype), scale=8, what=op.name)


# Around the longest rows and planes of each team, with and without 16-byte loads; planes cut in pieces.
LENGTHS = [1, 17, 65, 257, 260, 1030, 4100, 8192, 8300]


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("n", LENGTHS)
def test_rows_of_every_length(card, rng, n, dtype):
    x, g, w, b = (rng.standard_normal(s).astype(dtype) for s in ((3, n), (3, n), n, n))
    w, b = w.astype(np.float32), b.astype(np.float32)  # also beside half values
    s = [rng.uniform(0.5, 2, (3, 1)).astype(np.float32) for _ in range(4)]
    on_card(card, row_norm.layer_norm_forward, (x, n, w, b, EPS))
    on_card(card, row_norm.layer_norm_backward, (g, x, n, w, *s), [(True, True, True)])
    on_card(card, row_norm.rms_norm_forward, (x, n, w, EPS))
    on_card(card, row_norm.rms_norm_backward, (g, x, n, w, *s[1:3]), [(True, True)])


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("n", [1201, 1600])
def test_few_long_rows_are_made_in_pieces(card, rng, n, dtype, monkeypatch):
    from gradflow.cuda import launch

    monkeypatch.setattr(cuda_row, "PIECE", 120)
    monkeypatch.setattr(cuda_row, "ALONE", 1e-9)
    dtype = gf.backend.bfloat16() if dtype == "bfloat16" else dtype
    x, g, w, b = (rng.standard_normal(s).astype(dtype) for s in ((3, n), (3, n), n, n))
    wide = np.float64 if dtype == "float64" else np.float32
    x[1] *= np.asarray(50, dtype)
    if dtype == "float16":
        w, b = w.astype(wide), b.astype(wide)
    s = [rng.uniform(0.5, 2, (3, 1)).astype(wide) for _ in range(4)]
    before = launch.count
    on_card(card, row_norm.layer_norm_forward, (x, n, w, b, EPS))
    on_card(card, row_norm.layer_norm_backward, (g, x, n, w, *s), [(True, False, False)])
    on_card(card, row_norm.rms_norm_forward, (x, n, None, EPS))
    on_card(card, row_norm.rms_norm_backward, (g, x, n, None, *s[1:3]), [(True, False)])
    assert launch.count == before + 8
    on_card(card, row_norm.layer_norm_backward, (g, x, n, w, *s), [(True, True, True)])
    assert launch.count == before + 12
    c = 4 if n == 1600 else 1
    x = x.reshape(3, c, n // c)
    on_card(card, norm.group_norm_forward, (x, 1, w[:c], b[:c], EPS))
    if c > 1:
        on_card(card, norm.group_norm_forward, (x, 2, w[:c], None, EPS))


@pytest.mark.cuda
def test_pieces_of_rows_are_read_twice(card, rng, monkeypatch):
    if not hasattr(card, "traffic"):
        pytest.skip("only the stand-in counts")
    monkeypatch.setattr(cuda_row, "ALONE", 1e-9)
    x, s = card.asarray(rng.standard_normal((3, 8192)).astype(np.float32)), card.asarray(np.ones((3, 1), np.float32))
    with card.traffic() as forward:
        row_norm.layer_norm_forward(x, 8192)
    with card.traffic() as backward:
        row_norm.layer_norm_backward(x, x + 0, 8192, None, s, s, None, None, (True, False, False))
    for seen, passes in ((forward, 3), (backward, 5 + 2)):  # and x + 0
        assert passes * x.nbytes <= seen.distinct <= 1.02 * passes * x.nbytes


@pytest.mark.cuda
def test_weight_gradients_of_many_rows(card, rng):
    x, g, w = (rng.standard_normal(s).astype(np.float32) for s in ((301, 5), (301, 5), 5))
    s = [rng.uniform(0.5, 2, (301, 1)).astype(np.float32) for _ in range(4)]
    for needs in ((False, True, True), (False, True, False), (False, False, True)):
        on_card(card, row_norm.layer_norm_backward, (g, x, 5, w, *s), [needs])


@pytest.mark.cuda
@pytest.mark.parametrize("shape", [(700, 8), (333, 64), (70, 256), (35, 1024), (9, 2000)])
def test_weight_gradients_summed_on_the_way(card, rng, shape):
    m, n = shape  # more rows than the blocks of the stand-in's four multiprocessors take at once
    for dtype in (np.float32, np.float16):
        x, g, w = (rng.standard_normal(s).astype(dtype) for s in (shape, shape, n))
        s = [rng.uniform(0.5, 2, (m, 1)).astype(np.float32) for _ in range(4)]
        for needs in ((True, True, True), (False, True, False), (True, False, True)):
            on_card(card, row_norm.layer_norm_backward, (g, x, n, w, *s), [needs])


@pytest.mark.parametrize("where", ["numpy", pytest.param("card", marks=pytest.mark.cuda)])
def test_no_gradient_of_statistics_is_one_of_zeros(request, rng, where):
    put = np.asarray if where == "numpy" else request.getfixturevalue("card").asarray
    back = np.asarray if where == "numpy" else request.getfixturevalue("card").asnumpy
    x, g, w, s = (put(rng.uniform(0.5, 2, k).astype(np.float32)) for k in ((4, 6, 8), (4, 6, 8), 6, (4, 6, 1)))
    c, k, v, needs = s[0, :, 0], s[:, :2, 0], x[0, 0], (True, True, True)
    for backward, args in (
        (norm.batch_norm_backward, (g, x, w, c, c)), (norm.group_norm_backward, (g, x, 2, w, k, k)),
        (row_norm.layer_norm_backward, (g, x, 8, v, s, s)), (row_norm.rms_norm_backward, (g, x, 8, v, s)),
    ):  # fmt: skip
        none = 1 if backward is row_norm.rms_norm_backward else 2
        wanted = needs[: none + 1]
        zeros = [args[-1] * 0] * none
        for a, b in zip(backward(*args, *[None] * none, wanted), backward(*args, *zeros, wanted), strict=True):
            np.testing.assert_array_equal(back(a), back(b))


@pytest.mark.usefixtures("stand_in")
@pytest.mark.cuda
def test_a_layer_norm_goes_back_without_zeros(card, rng, monkeypatch):
    x = gf.tensor(rng.standard_normal((4, 16)).astype(np.float32)).to("cuda").requires_grad_()
    y = gf.nn.functional.layer_norm(x, (16,))
    g = gf.ones_like(y)
    monkeypatch.setattr(card, "zeros", None)
    before = card.counts.launches
    y.backward(g)
    assert card.counts.launches == before + 1


@pytest.mark.cuda
@pytest.mark.parametrize("shape", [(2, 6, 3, 3), (3, 4, 8), (1, 4, 4200), (70, 2, 4200)])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_groups_in_one_launch(card, rng, shape, dtype):
    from gradflow.cuda import launch

    x, w, b = rng.standard_normal(shape).astype(dtype), rng.standard_normal(shape[1]), rng.standard_normal(shape[1])
    before = launch.count
    on_card(card, norm.group_norm_forward, (x, 2, w.astype(np.float32), b.astype(np.float32), EPS))
    assert launch.count == before + 1


@pytest.mark.cuda
@pytest.mark.parametrize("shape", [(3, 5, 17), (4, 3, 6, 6), (2, 2, 1030), (130, 2, 20), (3, 1, 5000), (4, 2, 3064)])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_channels_that_a_block_holds(card, rng, shape, dtype):
    from gradflow.cuda import launch

    x, g = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    c = shape[1]
    w, b, mean, rstd, gmean, grstd = (rng.uniform(0.5, 2, c).astype(np.float32) for _ in range(6))
    before = launch.count
    on_card(card, norm.batch_norm_forward, (x, w, b, EPS))
    on_card(card, norm.batch_norm_backward, (g, x, w, mean, rstd, gmean, grstd), [(True, True, True)])
    on_card(card, norm.batch_norm_backward, (g, x, w, mean, rstd, gmean, grstd), [(False, True, False)])
    assert launch.count == before + 3


@pytest.mark.cuda
@pytest.mark.parametrize("shape", [(301, 5), (70, 3, 4), (2, 3, 16), (130, 2, 17), *((2, 2, n) for n in LENGTHS[2:])])
def test_planes_of_every_length(card, rng, shape, monkeypatch):
    monkeypatch.setattr(cuda_row, "shared_limit", lambda device: 0)  # no block holds a channel
    x, g, w, b = (rng.standard_normal(s).astype(np.float32) for s in (shape, shape, shape[1], shape[1]))
    n, c = shape[:2]
    for k, s in ((None, c), (1, (n, 1)), (c, (n, c))):
        mean, rstd, gmean, grstd = (rng.uniform(0.5, 2, s).astype(np.float32) for _ in range(4))
        forward, backward = (norm.batch_norm_forward, norm.batch_norm_backward) if k is None else (
            norm.group_norm_forward, norm.group_norm_backward
        )  # fmt: skip
        parts = () if k is None else (k,)
        if len(shape) > 2 or k is None:
            on_card(card, forward, (x, *parts, w, b, EPS))
        on_card(card, backward, (g, x, *parts, w, mean, rstd, gmean, grstd), [(True, True, True)])


@pytest.mark.cuda
@pytest.mark.parametrize(("shape", "pieces"), [((3, 70), False), ((3, 9000), False), ((3, 9000), True)])
def test_nothing_cancels_on_the_card(card, rng, shape, pieces, monkeypatch):
    if pieces:
        monkeypatch.setattr(cuda_row, "ALONE", 1e-9)
    x = (rng.standard_normal(shape) + 3000).astype(np.float32)
    expected = by_sets(x, lambda i: i[0]).astype(np.float32)
    c = card.asarray(x)
    found = [
        norm.layer_norm(c, shape[1]),
        norm.group_norm(c[:, None], 1)[:, 0],
        norm.batch_norm(c.T, None, None, training=True).T,  # short planes: columns
        norm.batch_norm(c[None], None, None, training=True)[0],
    ]
    for y in found:
        assert_close(card.asnumpy(y), expected, scale=100)


@pytest.mark.cuda
@pytest.mark.parametrize("shape", [(3, 16, 5, 7), (2, 24, 1, 40), (2, 3, 5, 5), (67, 264, 2, 2), (2, 8, 2, 3, 4), (301, 40)])
@pytest.mark.parametrize(("dtype", "weights"), [("float32", "float32"), ("float16", "float32"), ("float64", "float64")])
def test_batch_norm_down_columns(card, rng, shape, dtype, weights):
    """Channels last, and no planes at all: the rows of a matrix, by closed form, its values far from zero."""
    from gradflow.cuda import launch
    from gradflow.ops import layout

    def there(v):
        if v.ndim < 3:
            return card.asarray(v)
        return layout.planes(card.asarray(np.ascontiguousarray(layout.rows(v))))

    c = shape[1]
    over, at = (0, *range(2, len(shape))), (1, c, *(1,) * (len(shape) - 2))
    x = (rng.standard_normal(shape) + (3 if dtype == "float16" else 300)).astype(dtype)
    g, w, b = rng.standard_normal(shape).astype(dtype), *(rng.uniform(0.5, 2, c).astype(weights) for _ in range(2))
    wide, gw = x.astype(np.float64), g * w.astype(np.float64).reshape(at)
    mean, var = wide.mean(over), wide.var(over)
    rstd = 1 / np.sqrt(var + EPS)
    xh = (wide - mean.reshape(at)) * rstd.reshape(at)
    y = xh * w.reshape(at) + b.reshape(at)
    means = [v.mean(over).reshape(at) for v in (gw, gw * xh)]
    dx, dw, db = rstd.reshape(at) * (gw - means[0] - xh * means[1]), (g * xh).sum(over), g.astype(np.float64).sum(over)

    cw, cb, before = card.asarray(w), card.asarray(b), launch.count
    found = norm.batch_norm_forward(there(x), cw, cb, EPS)
    assert launch.count == before + 3
    back = norm.batch_norm_backward(there(g), there(x), cw, *found[1:], None, None, (True, True, True))
    assert launch.count == before + 6
    statistics = (card.asarray(v.astype(found[1].dtype)) for v in (mean, var))
    even = norm.batch_norm_eval(there(x), *statistics, cw, cb, EPS)
    assert launch.count == before + 7
    kind = np.dtype(dtype)
    for a, e in zip((*found, even, *back), (y, mean, rstd, y, dx, dw, db), strict=True):
        assert_close(card.asnumpy(a), e, dtype=kind, scale=100)
        assert a.ndim < 3 or layout.channels_last(a)
    again = norm.batch_norm_backward(card.asarray(g), there(x), cw, *found[1:], None, None, (True, True, True))
    for a, e in zip(again, back, strict=True):  # the gradient may lie otherwise
        np.testing.assert_array_equal(card.asnumpy(a), card.asnumpy(e))


@pytest.mark.cuda
def test_running_statistics_on_the_card(card, rng):
    x = rng.standard_normal((4, 3, 5)).astype(np.float32)
    plain = np.zeros(3, np.float32), np.ones(3, np.float32)
    norm.batch_norm(x, *plain, None, None, True, 0.3)
    there = card.asarray(np.zeros(3, np.float32)), card.asarray(np.ones(3, np.float32))
    y = norm.batch_norm(card.asarray(x), *there, None, None, True, 0.3)
    assert isinstance(y, card.ndarray)
    for a, b in zip(there, plain, strict=True):
        assert_close(card.asnumpy(a), b)


@pytest.mark.cuda
def test_few_launches_and_same_bits(card, rng, monkeypatch):
    from gradflow.cuda import launch

    x, w = card.asarray(rng.standard_normal((8, 6, 40)).astype(np.float32)), card.asarray(np.ones(6, np.float32))
    s = card.asarray(np.ones(6, np.float32))

    def count(call):
        before = launch.count
        first = call()
        seen = launch.count - before
        again = call()
        for a, b in zip(first, again, strict=True):
            np.testing.assert_array_equal(card.asnumpy(a), card.asnumpy(b))
        return seen

    assert count(lambda: norm.batch_norm_forward(x, w, w)) == 1
    assert count(lambda: norm.batch_norm_backward(x, x, w, s, s, s, s, (True, True, True))) == 1
    with monkeypatch.context() as m:
        m.setattr(cuda_row, "shared_limit", lambda device: 0)  # no block holds a channel
        assert count(lambda: norm.batch_norm_forward(x, w, w)) == 3
        assert count(lambda: norm.batch_norm_backward(x, x, w, s, s, s, s, (True, True, True))) == 3
    assert count(lambda: [norm.batch_norm_eval(x, s, s, w, w)]) == 1
    v = card.asarray(np.ones(40, np.float32))
    assert count(lambda: row_norm.layer_norm_forward(x, 40, v, v)) == 1
    rows = card.asarray(np.ones((8, 6, 1), np.float32))
    assert count(lambda: row_norm.layer_norm_backward(x, x, 40, v, rows, rows, rows, rows, (True, True, True))) == 2
    assert count(lambda: norm.batch_norm_forward(x[:1], w, w)) == 1  # instance norm


# --- PyTorch ------------------------------------------------------------------------------------------------------


@pytest.mark.reference
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_as_pytorch(rng, training):
    torch = pytest.importorskip("torch")
    x, w, b = rng.standard_normal((4, 3, 2, 5)), rng.standard_normal(3), rng.standard_normal(3)
    mean, var, g = rng.standard_normal(3), rng.uniform(0.5, 2, 3), rng.standard_normal(x.shape)
    ours = [gf.tensor(v, requires_grad=True) for v in (x, w, b)]
    theirs = [torch.tensor(v, requires_grad=True) for v in (x, w, b)]
    s, t = [gf.tensor(v) for v in (mean, var)], [torch.tensor(v) for v in (mean, var)]
    y = norm.batch_norm(ours[0], *s, *ours[1:], training, 0.2, 1e-3)
    z = torch.nn.functional.batch_norm(theirs[0], *t, *theirs[1:], training, 0.2, 1e-3)
    # A penalty on the gradient: the second derivative.
    for v, inputs, grad in ((y, ours, gf.autograd.grad), (z, theirs, torch.autograd.grad)):
        cotangent = gf.tensor(g) if v is y else torch.tensor(g)
        (dx,) = grad(v, inputs[:1], cotangent, create_graph=True)
        ((dx * dx).sum() + (v * cotangent).sum()).backward()
    assert_close(y.detach().numpy(), z.detach().numpy())
    for a, e in zip([*ours, *s], [*theirs, *t], strict=True):
        a, e = (a.grad, e.grad) if a.requires_grad else (a, e)
        assert_close(a.numpy(), e.numpy(), scale=10)


@pytest.mark.reference
def test_others_as_pytorch(rng):
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    x, w, b = rng.standard_normal((4, 6, 5)), rng.standard_normal(6), rng.standard_normal(6)
    tx, tw, tb = torch.tensor(x), torch.tensor(w), torch.tensor(b)
    mean, var = np.zeros(6), np.ones(6)
    tm, tv = torch.zeros(6).double(), torch.ones(6).double()
    assert_close(norm.instance_norm(x, mean, var, w, b), F.instance_norm(tx, tm, tv, tw, tb).numpy())
    assert_close(mean, tm.numpy())
    assert_close(var, tv.numpy())
    assert_close(norm.group_norm(x, 3, w, b, 1e-3), F.group_norm(tx, 3, tw, tb, 1e-3).numpy())
    assert_close(norm.local_response_norm(x, 4), F.local_response_norm(tx, 4).numpy())
    for dtype in ("float16", "bfloat16"):
        small = tx.mul(1e-3).to(getattr(torch, dtype))
        ours = norm.rms_norm(gf.tensor(small.float().numpy()).to(getattr(gf, dtype)), (5,))
        assert_close(ours.float().numpy(), F.rms_norm(small, (5,)).float().numpy(), dtype=np.dtype("float16"), scale=8)
