"""Matrix products on the card: every engine, layout, dtype and remainder, epilogues, precision, and under capture."""

from __future__ import annotations

import numpy as np
import pytest
from products import ACTIVATED, BRAIN, DTYPES, captured, placed
from tolerance import assert_close

import gradflow
from gradflow import backend, nn
from gradflow.cuda import cublaslt, gemm, launch, precision
from gradflow.op import table

pytestmark = pytest.mark.cuda
KERNELS = [(kind, tile) for kind in DTYPES for tile in (64, 128) if (kind, tile) != ("float64", 128)]


@pytest.fixture(autouse=True)
def _alone(card, monkeypatch):
    """No library beside CuPy, and the precision that there is at first."""
    monkeypatch.setattr(cublaslt, "_library", False)
    yield
    precision.set_float32_matmul_precision("highest")


def whole(draw, *shape):
    """Integers of which sums of products are exact in float32, and in a half type before the last rounding."""
    return draw.integers(-3, 4, shape).astype(np.float64)


def by_own(card, a, b, way, bias=None, activation=None):
    """The product by an own kernel."""
    p = gemm.Problem(a, b)
    out = card.empty(p.shape, a.dtype)
    gemm.own(card, p, out, bias, activation, way)
    return card.asnumpy(out)


# --- the own kernels -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "tile"), KERNELS)
@pytest.mark.parametrize("turns", ["nn", "nt", "tn", "tt"])
@pytest.mark.parametrize("ahead", [0, 1])
def test_every_kernel_gives_every_element(card, kind, turns, tile, ahead):
    dtype = np.dtype(DTYPES[kind])
    precision.set_float32_matmul_precision("high" if kind == "tf32" else "highest")
    draw = np.random.default_rng(tile)
    # One size with a remainder that wide copies take, one that they do not, and a k of more slices than stages.
    for m, n, k, splits in ((tile + 8, tile - 24, 208, 1), (tile - 3, 2 * tile + 5, 107, 3), (5, 72, 16, 2)):
        a, b, bias = whole(draw, m, k), whole(draw, k, n), whole(draw, n)
        y = by_own(
            card, placed(card, a, dtype, turns[0] == "t", ahead), placed(card, b, dtype, turns[1] == "t", ahead),
            (tile, splits), card.asarray(bias.astype(dtype)), "relu",
        )  # fmt: skip
        np.testing.assert_array_equal(y, np.maximum(a @ b + bias, 0).astype(dtype))


@pytest.mark.parametrize("kind", DTYPES)
def test_rounding(card, kind):
    """Sums are of float32 for half types; TF32 rounds each factor to the nearest of ten bits."""
    draw = np.random.default_rng(0)
    a, b = (draw.standard_normal(s).astype(DTYPES[kind]) for s in ((70, 300), (300, 66)))
    precision.set_float32_matmul_precision("high" if kind == "tf32" else "highest")
    exact = a.astype(np.float64) @ b.astype(np.float64)
    y = by_own(card, card.asarray(a), card.asarray(b), (64, 2)).astype(np.float64)
    grain = {"float64": 1e-13, "float32": 5e-5, "tf32": 0.03, "float16": 0, "bfloat16": 0}[kind]
    half = {"float16": 2.0**-11, "bfloat16": 2.0**-8}.get(kind, 0) * np.abs(exact) + (1e-4 if kind[-2:] == "16" else 0)
    assert (np.abs(y - exact) <= grain + half).all()
    if kind == "tf32":
        assert np.abs(y - exact).max() > 1e-3  # it is what was asked for


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("splits", [1, 2])
@pytest.mark.parametrize("activation", ACTIVATED)
def test_epilogues(card, dtype, splits, activation):
    draw = np.random.default_rng(1)
    dtype = np.dtype(DTYPES[dtype])
    a, b, bias = (draw.standard_normal(s).astype(dtype) for s in ((9, 40), (40, 11), (11,)))
    exact = a.astype(np.float64) @ b.astype(np.float64) / 1
    for v in (None, bias):
        y = by_own(card, card.asarray(a), card.asarray(b), (64, splits), None if v is None else card.asarray(v), activation)
        x = exact if v is None else exact + v.astype(np.float64)
        assert_close(y, np.vectorize(ACTIVATED[activation])(x), dtype)


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
def test_stacks(card, kind):
    """Stacks that broadcast, whose strides do not merge, that repeat, and vectors: all without a copy of an operand."""
    dtype, draw = np.dtype(DTYPES[kind]), np.random.default_rng(2)

    def check(a, b, host_a, host_b):
        before = card.counts.allocations
        y = by_own(card, a, b, (64, 1))
        assert card.counts.allocations == before + 1  # the result
        np.testing.assert_array_equal(y, (host_a @ host_b).astype(dtype))

    q, k = whole(draw, 2, 5, 3, 8), whole(draw, 2, 7, 3, 8)  # (batch, time, head, width)
    heads = card.asarray(q.astype(dtype)).transpose(0, 2, 1, 3), card.asarray(k.astype(dtype)).transpose(0, 2, 3, 1)
    check(*heads, q.transpose(0, 2, 1, 3), k.transpose(0, 2, 3, 1))
    for left, right in (
        ((2, 3, 4, 5), (5, 6)), ((4, 5), (2, 3, 5, 6)), ((2, 1, 4, 5), (1, 3, 5, 6)), ((3, 4, 5), (3, 5, 6)), ((5,), (3, 5, 6)),
        ((3, 4, 5), (5,)), ((5,), (5,)), ((4, 5), (5,)), ((2, 1, 1, 4, 5), (3, 5, 1)),
    ):  # fmt: skip
        a, b = whole(draw, *left), whole(draw, *right)
        check(card.asarray(a.astype(dtype)), card.asarray(b.astype(dtype)), a, b)
    a, b = whole(draw, 6, 4), whole(draw, 4, 3)
    both = card.asarray(np.concatenate([a, a], 1).astype(dtype))
    check(both[:, 4:], card.asarray(b.astype(dtype)), a, b)  # rows with gaps
    row = card.asarray(a[:1].astype(dtype))
    check(card.broadcast_to(row, (6, 4)), card.asarray(b.astype(dtype)), np.repeat(a[:1], 6, 0), b)


@pytest.mark.parametrize("kind", ["float16", "float32"])
def test_layouts_that_need_a_copy(card, kind):
    dtype, draw = np.dtype(DTYPES[kind]), np.random.default_rng(3)
    a, b = whole(draw, 6, 8), whole(draw, 8, 3)
    y = by_own(card, card.asarray(a.astype(dtype))[::2, ::2], card.asarray(b.astype(dtype))[::-2], (64, 1))
    np.testing.assert_array_equal(y, (a[::2, ::2] @ b[::-2]).astype(dtype))
    a = whole(draw, 2, 3, 2, 4, 5)
    dims = (2, 0, 1, 3, 4)  # three dimensions of the stack, no two of which merge
    x = card.asarray(a.astype(dtype)).transpose(dims)[::-1]
    w = whole(draw, 2, 2, 3, 5, 2)
    y = by_own(card, x, card.asarray(w.astype(dtype)), (64, 1))
    np.testing.assert_array_equal(y, (a.transpose(dims)[::-1] @ w).astype(dtype))


def test_no_sum_and_no_element(card):
    zero = card.empty((3, 0), "f4")
    bias = card.asarray(np.arange(4.0, dtype="f4"))
    np.testing.assert_array_equal(card.asnumpy(gemm.product(zero, card.empty((0, 4), "f4"))), np.zeros((3, 4)))
    y = gemm.product(zero, card.empty((0, 4), "f4"), None, bias, "sigmoid")
    assert_close(card.asnumpy(y), np.tile(1 / (1 + np.exp(-np.arange(4.0))), (3, 1)), "float32")
    assert gemm.product(card.empty((0, 3), "f4"), card.empty((3, 4), "f4")).shape == (0, 4)
    assert gemm.product(card.empty((2, 0, 3), "f4"), card.empty((2, 3, 4), "f4"), None, bias).shape == (2, 0, 4)


def test_same_bits_every_time(card):
    draw = np.random.default_rng(4)
    a, b = (card.asarray(draw.standard_normal(s).astype("f4")) for s in ((40, 900), (900, 30)))
    first = by_own(card, a, b, (64, 5))
    for _ in range(2):  # blocks run in another order each time
        np.testing.assert_array_equal(by_own(card, a, b, (64, 5)), first)


@pytest.mark.usefixtures("stand_in")
def test_cards_without_tensor_cores(card, monkeypatch):
    monkeypatch.setattr(launch, "capability", lambda device=0: (7, 5))
    draw = np.random.default_rng(5)
    for dtype in (np.float16, BRAIN):
        a, b = whole(draw, 70, 33), whole(draw, 33, 66)
        with card.launches() as work:
            y = by_own(card, card.asarray(a.astype(dtype)), placed(card, b, dtype, True), (64, 1))
        assert "gemm_fma" in str(work)
        np.testing.assert_array_equal(y, (a @ b).astype(dtype))
    precision.set_float32_matmul_precision("high")
    assert not precision.tf32()


@pytest.mark.usefixtures("stand_in")
def test_what_can_be_asked_for_is_compiled(card):
    known = set(gemm.instantiations())
    for kind, dtype in DTYPES.items():
        precision.set_float32_matmul_precision("high" if kind == "tf32" else "highest")
        for m, n, k in ((1, 1, 4096), (64, 64, 64), (300, 300, 300), (16, 1000, 8)):
            for a_turned in (False, True):
                a, b = placed(card, np.zeros((m, k)), dtype, a_turned), placed(card, np.zeros((k, n)), dtype)
                p = gemm.Problem(a, b)
                asked = set()
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(launch, "run", lambda family, kernel, *rest: asked.add(kernel))
                    for way in gemm.variants(p, precision.tf32()):
                        gemm.own(card, p, card.empty((m, n), a.dtype), None, None, way)
                assert asked <= known, asked - known
    # k is split where the tiles do not fill the card, and the larger tile is taken where they do.
    p = gemm.Problem(card.empty((16, 4096), "f2"), card.empty((4096, 16), "f2"))
    assert gemm.variants(p, False)[0] == (64, 8)
    p = gemm.Problem(card.empty((512, 64), "f2"), card.empty((64, 512), "f2"))
    assert gemm.variants(p, False)[0] == (128, 1)


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize(
    ("kind", "tile", "splits"), [("float16", 128, 2), ("tf32", 64, 1), ("float32", 128, 1), ("float64", 64, 1)]
)
@pytest.mark.parametrize("turns", ["nn", "nt", "tn", "tt"])
def test_what_a_product_moves(card, kind, tile, splits, turns):
    """A tile's operands are loaded once, whole sectors of them, its result is stored once; parts go to memory and back."""
    precision.set_float32_matmul_precision("high" if kind == "tf32" else "highest")
    dtype = np.dtype(DTYPES[kind])
    a, b = (placed(card, np.ones(s), dtype, t == "t") for s, t in zip(((128, 256), (256, 128)), turns, strict=True))
    p, out = gemm.Problem(a, b), card.empty((128, 128), dtype)
    with card.traffic() as t:
        gemm.own(card, p, out, None, None, (tile, splits))
    parts = splits * out.size * 4 if splits > 1 else 0
    assert t.loaded == (a.nbytes + b.nbytes) * (128 // tile) + parts
    assert (t.distinct_loaded, t.stored) == (a.nbytes + b.nbytes + parts, out.nbytes + parts)
    assert t.efficiency == 1
    assert t.conflicts < 0.2  # the compiler of the stand-in cuts 8-byte stores of sums in two
    if kind in ("float16", "tf32"):
        assert t.of("gemm_mma").wide > 0.99


def test_ways_that_the_tuner_may_take_agree(card, monkeypatch):
    draw = np.random.default_rng(14)
    a, b, bias = whole(draw, 20, 700), whole(draw, 700, 24), whole(draw, 24)
    offered = []

    def choose(family, key, ways, run):
        assert family == "gemm"
        assert all(type(k) in (str, int) for k in key)
        offered[:] = ways
        return ways[number]

    monkeypatch.setattr(gemm.tune, "choose", choose)
    x, w, v = (card.asarray(of.astype("f4")) for of in (a, b, bias))
    for number in range(5):
        y = gemm.product(x, w, None, v, "relu")
        np.testing.assert_array_equal(card.asnumpy(y), np.maximum(a @ b + bias, 0))
    assert offered == [(64, 8), (128, 8), (64, 1), (128, 1), "cublas"]


# --- cuBLAS ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("kind", DTYPES)
def test_cublas_takes_views_as_they_are(card, kind):
    dtype, draw = np.dtype(DTYPES[kind]), np.random.default_rng(6)
    precision.set_float32_matmul_precision("medium" if kind == "tf32" else "highest")
    compute = {"float64": 70, "tf32": 77}.get(kind, 68)

    def check(a, b, host_a, host_b, calls):
        card.cuda.cublas.calls.clear()
        before = card.counts.allocations
        y = gemm.product(a, b)
        assert card.counts.allocations == before + 1
        np.testing.assert_array_equal(card.asnumpy(y), (host_a @ host_b).astype(dtype))
        assert card.cuda.cublas.calls == [(*c, compute) for c in calls]

    for turns in ("nn", "nt", "tn", "tt"):
        a, b = whole(draw, 3, 4, 5), whole(draw, 3, 5, 6)
        left, right = placed(card, a, dtype, turns[0] == "t"), placed(card, b, dtype, turns[1] == "t")
        check(left, right, a, b, [(3, 6, 4, 5)])
        check(left[1], right[::2], a[1], b[::2], [(2, 6, 4, 5)])
        check(left, right[2], a, b[2], [(3, 6, 4, 5)] if turns[0] == "t" else [(1, 6, 12, 5)])  # one tall product
    a, b = whole(draw, 4, 10), whole(draw, 5, 6)
    check(placed(card, a, dtype)[:, 5:], placed(card, b, dtype), a[:, 5:], b, [(1, 6, 4, 5)])


def test_cublas_copies_what_it_has_no_words_for(card):
    draw = np.random.default_rng(7)
    a, b = whole(draw, 6, 8), whole(draw, 8, 3)
    y = gemm.product(card.asarray(a)[::2, ::2], card.asarray(b)[::-2])
    np.testing.assert_array_equal(card.asnumpy(y), a[::2, ::2] @ b[::-2])
    q, k = whole(draw, 2, 5, 3, 8), whole(draw, 2, 7, 3, 8)
    left, right = card.asarray(q).transpose(0, 2, 1, 3), card.asarray(k).transpose(0, 2, 3, 1)
    p = gemm.Problem(left, right)
    out = card.empty(p.shape)
    gemm.cublas(card, p, out)
    np.testing.assert_array_equal(card.asnumpy(out), q.transpose(0, 2, 1, 3) @ k.transpose(0, 2, 3, 1))
    a, b = whole(draw, 2, 1, 4, 5), whole(draw, 1, 3, 5, 6)
    p = gemm.Problem(card.asarray(a), card.asarray(b))
    out = card.empty(p.shape)
    gemm.cublas(card, p, out)
    np.testing.assert_array_equal(card.asnumpy(out), a @ b)


@pytest.mark.usefixtures("stand_in")
def test_large_products_leave_the_rest_to_launches_of_its_own(card, monkeypatch):
    monkeypatch.setattr(gemm, "FUSED_UP_TO", 10)
    draw = np.random.default_rng(8)
    a, b, bias = (draw.standard_normal(s).astype("f4") for s in ((6, 5), (5, 4), (4,)))
    card.cuda.cublas.calls.clear()
    for activation, f in ACTIVATED.items():
        y = gemm.product(card.asarray(a), card.asarray(b), None, card.asarray(bias), activation)
        assert_close(card.asnumpy(y), np.vectorize(f)(a.astype("f8") @ b + bias), "float32")
    assert len(card.cuda.cublas.calls) == len(ACTIVATED)


def test_out_and_errors(card):
    a, b = card.ones((3, 4), "f4"), card.ones((4, 2), "f4")
    out = card.empty((3, 2), "f4")
    assert gemm.product(a, b, out) is out
    assert (card.asnumpy(out) == 4).all()
    gemm.product(a, b, out, card.ones(2, "f4"))
    assert (card.asnumpy(out) == 5).all()
    wide = card.empty((3, 4), "f4")
    for wrong in (wide[:, :2], card.empty((2, 3), "f4"), card.empty((3, 2), "f8")):
        with pytest.raises(ValueError, match=r"^product: wanted out without gaps"):
            gemm.product(a, b, wrong, card.ones(2, "f4"))
    with pytest.raises(ValueError, match=r"^product: wanted a bias of shape \(2,\)"):
        gemm.product(a, b, None, card.ones(3, "f4"))
    with pytest.raises(ValueError, match="^product: wanted an activation of relu"):
        gemm.product(a, b, None, None, "softsign")
    with pytest.raises(TypeError, match="^product: wanted one dtype"):
        gemm.product(a, b.astype("f8"))
    with pytest.raises(ValueError, match="^product: wanted leading sizes that broadcast"):
        gemm.product(card.ones((2, 3, 4), "f4"), card.ones((3, 4, 2), "f4"))
    y = gemm.product(card.arange(6).reshape(2, 3), card.arange(6).reshape(3, 2))  # CuPy's own kernels
    np.testing.assert_array_equal(card.asnumpy(y), [[10, 13], [28, 40]])


# --- precision ---------------------------------------------------------------------------------------------


def test_words_for_the_precision(card):
    matmul = gradflow.backends.cuda.matmul
    assert gradflow.get_float32_matmul_precision() == "highest"
    assert not matmul.allow_tf32
    for word in ("high", "medium"):
        gradflow.set_float32_matmul_precision(word)
        assert gradflow.get_float32_matmul_precision() == word
        assert matmul.allow_tf32
        assert matmul.fp32_precision == "tf32"
    matmul.allow_tf32 = False
    assert gradflow.get_float32_matmul_precision() == "highest"
    matmul.fp32_precision = "tf32"
    assert gradflow.get_float32_matmul_precision() == "high"
    with pytest.raises(RuntimeError, match="saw 'low'"):
        gradflow.set_float32_matmul_precision("low")


@pytest.mark.usefixtures("stand_in")
def test_every_engine_obeys(card):
    # 1 + 2^-11 is no number of TF32: rounded to the nearest it is 1 + 2^-10.
    x = card.asarray(np.full((4, 8), 1 + 2.0**-11, "f4"))
    w = card.asarray(np.full((8, 4), 1, "f4"))
    bias = card.zeros(4, "f4")
    kinds = card._core._routines_linalg
    for word, value in (("highest", 8 + 2.0**-8), ("high", 8 + 2.0**-7), ("highest", 8 + 2.0**-8)):
        gradflow.set_float32_matmul_precision(word)
        assert (card.asnumpy(gemm.product(x, w, None, bias)) == value).all()
        gemm.product(x, w)
        tf32 = word == "high"
        assert card._core.get_compute_type("f4") == (kinds.COMPUTE_TYPE_TF32 if tf32 else kinds.COMPUTE_TYPE_DEFAULT)
        gemm.product(x[None], card.broadcast_to(w, (2, 8, 4)))
        assert card.cuda.cublas.calls[-1][-1] == (77 if tf32 else 68)


# --- under capture -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["float32", "float16", "float64"])
def test_capture_calls_no_cublas(card, kind):
    dtype, draw = np.dtype(DTYPES[kind]), np.random.default_rng(9)
    cases = {
        "matmul": [((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)), ((4,), (4, 5)), ((4,), (4,)), ((2, 3, 4), (4,))],
        "linear": [((3, 4), (5, 4), (5,)), ((2, 3, 4), (5, 4)), ((4,), (5, 4), (5,))],
        "linear_weight": [((3, 4), (3, 5)), ((2, 3, 4), (2, 3, 5))],
        "addmatmul": [((3, 5), (3, 4), (4, 5), 0.5, 2.0), ((5,), (3, 4), (4, 5))],
        "linear_activation": [((3, 4), (5, 4), (5,), "gelu"), ((3, 4), (5, 4))],
    }  # fmt: skip
    for name, calls in cases.items():
        for call in calls:
            args = [draw.standard_normal(s).astype(dtype) if isinstance(s, tuple) else s for s in call]
            expected = table[name].definition(*args)
            on = [card.asarray(a) if isinstance(a, np.ndarray) else a for a in args]
            y = captured(card, lambda on=on, name=name: table[name].run(table[name].bind(*on)))
            assert_close(card.asnumpy(y), expected, dtype, what=f"{name} {call}")


def test_capture_of_what_multiplies_inside(card):
    draw = np.random.default_rng(10)

    def tensor(*shape):
        return gradflow.tensor(draw.standard_normal(shape).astype("f4"))

    x, w = tensor(2, 3, 4), tensor(2, 4, 5)
    several = [
        (lambda x, w: gradflow.einsum("bij,bjk->bik", x, w), (x, w)),
        (lambda x, w: gradflow.einsum("bij,bjk->k", x, w), (x, w)),
        (lambda x, w: gradflow.tensordot(x, w, ([0, 2], [0, 1])), (x, w)),
        (lambda x, w, a: nn.functional.bilinear(x, w, a), (tensor(3, 4), tensor(3, 5), tensor(2, 4, 5))),
        (lambda x, w: gradflow.cdist(x, w), (tensor(30, 4), tensor(40, 4))),
        (lambda q, k, v: nn.functional.scaled_dot_product_attention(q, k, v), [tensor(1, 2, 3, 4) for _ in range(3)]),
        (lambda x, c: gradflow.baddbmm(c, x, x.mT), (x, tensor(3, 3))),
        (lambda x: x @ x.mT, (x,)),
    ]
    for f, args in several:
        for a in args:
            a.grad = None
            a.requires_grad_()
        y = f(*args)
        y.sum().backward()
        on = [a.detach().to("cuda").requires_grad_() for a in args]

        def step(f=f, on=on):
            y = f(*on)
            grads = gradflow.autograd.grad(y.sum(), on)
            return [y.detach().array, *(g.array for g in grads)]

        for mine, expected in zip(captured(card, step), [y.detach().array, *(a.grad.array for a in args)], strict=True):
            assert_close(card.asnumpy(mine), expected, "float32", 5)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_capture_of_recurrent_layers(card, kind):
    layer = getattr(nn, kind)(3, 4)
    x = gradflow.randn(5, 2, 3)
    y, _ = layer(x)
    y.sum().backward()
    expected = [y.detach().array, *(p.grad.array for p in layer.parameters())]
    layer.to("cuda")
    held = x.to("cuda")

    def step():
        y, _ = layer(held)
        return [y.detach().array, *(g.array for g in gradflow.autograd.grad(y.sum(), list(layer.parameters())))]

    for mine, wanted in zip(captured(card, step), expected, strict=True):
        assert_close(card.asnumpy(mine), wanted, "float32", 5)


def test_twins_are_entered():
    for name in ("matmul", "linear", "linear_weight", "addmatmul", "linear_activation"):
        assert table[name].place == "gemm"
    assert backend.float32.name in gemm.TYPES
