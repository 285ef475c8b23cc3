"""Matrix products on the card: every engine, layout, dtype and remainder, epilogues, precision, and under capture."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tolerance import assert_close

import gradflow
from gradflow import backend, nn
from gradflow.cuda import cublaslt, gemm, launch, precision
from gradflow.op import table
from gradflow.ops.activated import linear_activation

pytestmark = pytest.mark.cuda
BRAIN = pytest.importorskip("ml_dtypes").bfloat16
DTYPES = {"float32": np.float32, "tf32": np.float32, "float64": np.float64, "float16": np.float16, "bfloat16": BRAIN}
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


def placed(card, x, dtype, turned=False, ahead=0):
    """x on the card, its last two dimensions lying the other way round, and `ahead` numbers off the start of its memory."""
    x = x.astype(dtype)
    held = x.swapaxes(-1, -2) if turned else x
    flat = card.empty(ahead + x.size, x.dtype)
    view = flat[ahead:].reshape(held.shape)
    view[...] = card.asarray(np.ascontiguousarray(held))
    return view.swapaxes(-1, -2) if turned else view


def by_own(card, a, b, way, bias=None, activation=None):
    """The product by an own kernel."""
    p = gemm.Problem(a, b)
    out = card.empty(p.shape, a.dtype)
    gemm.own(card, p, out, bias, activation, way)
    return card.asnumpy(out)


def captured(card, step):
    """What a step gives when it is captured and replayed."""
    pool = card.cuda.MemoryPool()
    with card.cuda.Stream(non_blocking=True) as stream, card.cuda.using_allocator(pool.malloc):
        stream.begin_capture()
        try:
            y = step()
        finally:
            graph = stream.end_capture()
    graph.launch()
    return y


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


ACTIVATED = {
    None: lambda x: x,
    "relu": lambda x: max(x, 0.0),
    "gelu": lambda x: x * 0.5 * math.erfc(-x / math.sqrt(2)),
    "gelu_tanh": lambda x: 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x / (1 + math.exp(-x)),
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "tanh": math.tanh,
}


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


def test_one_launch_for_a_linear_layer(card):
    layer = nn.Linear(8, 4).to("cuda")
    x = gradflow.randn(3, 8).to("cuda")
    with card.launches() as work, gradflow.no_grad():
        layer(x)
    assert len(work.device) == 1, str(work)
    model = nn.utils.fuse_activations(nn.Sequential(nn.Linear(8, 4), nn.ReLU()).to("cuda"))
    with card.launches() as work:
        model(x)
    assert len(work.device) == 1, str(work)


# --- fused layers --------------------------------------------------------------------------------------------


def layers(n):
    return [
        nn.Conv2d(n, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 3, padding_mode="reflect", padding=1), nn.Tanh(),
        nn.Flatten(), nn.Linear(48, 8), nn.GELU("tanh"), nn.Sequential(nn.Linear(8, 6), nn.Sigmoid(), nn.Linear(6, 5), nn.SiLU()),
        nn.Linear(5, 2),
    ]  # fmt: skip


def test_fused_layers_are_the_same_model():
    model, x = nn.Sequential(*layers(3)), gradflow.randn(2, 3, 4, 4)
    y = model(x)
    y.square().sum().backward()
    before, names = [p.grad.numpy().copy() for p in model.parameters()], list(model.state_dict())
    model.zero_grad()
    assert nn.utils.fuse_activations(model) is model
    assert list(model.state_dict()) == names
    calls = []
    run = table["linear_activation"].definition

    def spy(*args):
        calls.append(args[3])
        return run(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table["linear_activation"].kernel, "definition", spy)
        patch.setattr(table["linear_activation"], "definition", spy)
        z = model(x)
        assert calls == ["sigmoid"]  # the others need what was put in, for their gradients
        with gradflow.no_grad():
            model(x)
        assert calls == ["sigmoid", "gelu_tanh", "sigmoid", "silu"]
    assert_close(z.detach().numpy(), y.detach().numpy())
    z.square().sum().backward()
    for p, g in zip(model.parameters(), before, strict=True):
        assert_close(p.grad.numpy(), g)
    model.load_state_dict(nn.Sequential(*layers(3)).state_dict())


def test_fused_layers_in_batches_of_samples():
    model = nn.utils.fuse_activations(nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(27, 2), nn.Tanh()))
    x = gradflow.randn(4, 2, 2, 5, 5)
    assert_close(gradflow.vmap(model)(x).detach().numpy(), gradflow.stack([model(v) for v in x]).detach().numpy())
    weights = [gradflow.randn(4, *s) for s in ((3, 5), (2, 5), (2,))]
    y = gradflow.vmap(lambda x, w, b: linear_activation(x, w, b, "silu"))(*weights)
    assert_close(y.numpy(), np.stack([linear_activation(*(v[i] for v in weights), "silu").numpy() for i in range(4)]))


def test_hooks_are_called_between_a_layer_and_its_activation():
    model = nn.utils.fuse_activations(nn.Sequential(nn.Linear(3, 4), nn.ReLU()))
    x, seen = gradflow.randn(2, 3), []
    plain = model(x)
    handle = model[0].register_forward_hook(lambda module, args, y: seen.append(y.numpy().min()))
    with gradflow.no_grad():
        again = model(x)
    assert seen
    handle.remove()
    assert_close(again.numpy(), plain.detach().numpy())


# --- cuBLASLt --------------------------------------------------------------------------------------------------


class Library:
    """nvmath.bindings.cublasLt as far as it is used: descriptors that remember, and a product that obeys them.

    Names, numbers, argument orders and attribute sizes are nvmath-python 1.0's.
    """

    class _Enum(dict):
        __getattr__ = dict.__getitem__

    Epilogue = _Enum(DEFAULT=1, RELU=2, BIAS=4, RELU_BIAS=6, GELU=32, GELU_BIAS=36)
    MatmulDescAttribute = _Enum(TRANSA=3, TRANSB=4, EPILOGUE=7, BIAS_POINTER=8)
    MatrixLayoutAttribute = _Enum(BATCH_COUNT=5, STRIDED_BATCH_OFFSET=6)
    MatmulPreferenceAttribute = _Enum(
        MAX_WORKSPACE_BYTES=1, MIN_ALIGNMENT_A_BYTES=5, MIN_ALIGNMENT_B_BYTES=6, MIN_ALIGNMENT_C_BYTES=7, MIN_ALIGNMENT_D_BYTES=8
    )
    SIZES = {  # of the attributes that are set
        "desc": {3: "i4", 4: "i4", 7: "u4", 8: "i8"}, "layout": {5: "i4", 6: "i8"},
        "preference": {1: "u8", 5: "u4", 6: "u4", 7: "u4", 8: "u4"},
    }  # fmt: skip

    def __init__(self, card, knows=True):
        self.card, self.knows = card, knows
        self.held, self.plans, self.products, self.gone = {}, 0, [], []

    def _new(self, kind, **values):
        self.held[len(self.held) + 1000] = dict(kind=kind, **values)
        return len(self.held) + 999

    def _set(self, kind, descriptor, attribute, address, size):
        import ctypes

        held = self.held[descriptor]
        dtype = np.dtype(self.SIZES[kind][attribute])
        assert held["kind"] == kind
        assert type(attribute) is int
        assert size == dtype.itemsize
        held[attribute] = np.frombuffer((ctypes.c_char * size).from_address(address), dtype)[0].item()

    def create(self):
        return 77

    def get_version(self):
        return 130002

    def matmul_desc_create(self, compute_type, scale_type):
        return self._new("desc", compute=compute_type, scale=scale_type)

    def matmul_desc_set_attribute(self, *args):
        self._set("desc", *args)

    def matrix_layout_create(self, type, rows, cols, ld):
        return self._new("layout", type=type, rows=rows, cols=cols, ld=ld)

    def matrix_layout_set_attribute(self, *args):
        self._set("layout", *args)

    def matmul_preference_create(self):
        return self._new("preference")

    def matmul_preference_set_attribute(self, *args):
        self._set("preference", *args)

    def matmul_preference_destroy(self, preference):
        self.gone.append(preference)

    matrix_layout_destroy = matmul_desc_destroy = matmul_preference_destroy

    class MatmulHeuristicResult:
        def __init__(self, size):
            self.held = np.zeros((size, 12), np.int64)
            self.ptr = self.held.ctypes.data

    def matmul_algo_get_heuristic(self, handle, desc, a, b, c, d, preference, asked, results, count):
        import ctypes

        assert handle == 77
        assert asked == 1
        assert self.held[preference][1] == 32 << 20
        self.plans += 1
        ctypes.c_int32.from_address(count).value = int(self.knows)
        self.preference = self.held[preference]

    def matmul(self, handle, desc, alpha, a, a_layout, b, b_layout, beta, c, c_layout, d, d_layout, algo, space, size, stream):
        cublas = self.card.cuda.cublas
        assert handle == 77
        assert size == 32 << 20
        assert c == d
        assert stream == self.card.cuda.get_current_stream().ptr
        how, layouts = dict(self.held[desc]), [self.held[x] for x in (a_layout, b_layout, d_layout)]
        self.products.append((how, layouts))

        def run():
            x, w, y = (
                cublas.matrix(p, of["type"], of["rows"], of["cols"], of["ld"], of.get(5, 1), of.get(6, 0))
                for p, of in zip((a, b, d), layouts, strict=True)
            )
            x, w = (v.swapaxes(1, 2) if how[t] else v for v, t in ((x, 3), (w, 4)))
            wide = np.float64 if y.dtype == np.float64 else np.float32
            z = np.matmul(x.astype(wide), w.astype(wide))
            if how[7] & 4:  # one number for each row
                z = z + cublas.matrix(how[8], layouts[2]["type"], layouts[2]["rows"], 1, layouts[2]["rows"], 1, 0).astype(wide)
            z = np.maximum(z, 0) if how[7] & 2 else np.vectorize(ACTIVATED["gelu_tanh"])(z) if how[7] & 32 else z
            y[...] = z

        capture = self.card.cuda.capturing()
        run() if capture is None else capture.add("cublasLt", run, [])


@pytest.fixture
def library(card, monkeypatch):
    """cuBLASLt, as if it were installed."""
    cublaslt.forget()
    found = Library(card)
    monkeypatch.setattr(cublaslt, "_library", found)
    yield found
    cublaslt.forget()
    monkeypatch.setattr(cublaslt, "_library", False)


@pytest.mark.parametrize("kind", [kind for kind in DTYPES if kind != "float64"])  # no epilogues for doubles
@pytest.mark.parametrize("activation", [None, "relu", "gelu_tanh"])
def test_plans_of_cublaslt(card, library, kind, activation):
    dtype, draw = np.dtype(DTYPES[kind]), np.random.default_rng(11)
    gradflow.set_float32_matmul_precision("high" if kind == "tf32" else "highest")
    word = {None: 4, "relu": 6, "gelu_tanh": 36}[activation]
    for turns in ("nn", "nt", "tn", "tt"):
        for lead in ((), (3,)):
            a, b, bias = (draw.standard_normal(s).astype(dtype) for s in ((*lead, 4, 5), (*lead, 5, 6), (6,)))
            x, w = placed(card, a, dtype, turns[0] == "t"), placed(card, b, dtype, turns[1] == "t")
            plans = library.plans
            for v in (bias, bias[::-1]):
                y = gemm.product(x, w, None, card.asarray(v), activation)
                exact = a.astype("f8") @ b.astype("f8") + v.astype("f8")
                assert_close(card.asnumpy(y), np.vectorize(ACTIVATED[activation])(exact), dtype)
            assert library.plans == plans + 1  # one for both
            how, (left, right, out) = library.products[-1]
            assert (how["compute"], how["scale"], how[7]) == (77 if kind == "tf32" else 68, 0, word)
            assert (how[3], how[4]) == (turns[1] == "t", turns[0] == "t")
            assert (left["rows"], left["cols"], left["ld"]) == ((5, 6, 5) if turns[1] == "t" else (6, 5, 6))
            assert (right["rows"], right["cols"], right["ld"]) == ((4, 5, 4) if turns[0] == "t" else (5, 4, 5))
            assert (out["rows"], out["cols"], out["ld"]) == (6, 4, 6)
            assert {of["type"] for of in (left, right, out)} == {gemm.TYPES[dtype.name]}
            assert [of.get(5) for of in (left, right, out)] == [3 if lead else None] * 3
            assert [of.get(6) for of in (left, right, out)] == ([30, 20, 24] if lead else [None] * 3)
            assert all(library.preference[i] <= 256 for i in (5, 6, 7, 8))


def test_cublaslt_serves_captures(card, library):
    draw = np.random.default_rng(12)
    for dtype in ("f4", "f8", "f2"):
        a, b = (draw.standard_normal(s).astype(dtype) for s in ((4, 5), (5, 6)))
        x, w = card.asarray(a), card.asarray(b)
        with card.launches() as work:
            y = captured(card, lambda x=x, w=w: gemm.product(x, w))
        assert not work.of("kernel")
        assert_close(card.asnumpy(y), a.astype("f8") @ b.astype("f8"), dtype)
    how, _ = library.products[1]
    assert (how["compute"], how["scale"], how[7]) == (70, 1, 1)
    assert len(cublaslt._workspaces) == 3  # one to a stream


def test_what_cublaslt_does_not_do_is_done_here(card, library):
    draw = np.random.default_rng(13)
    a, b, bias = (draw.standard_normal(s).astype("f4") for s in ((4, 5), (5, 6), (6,)))
    for activation in ("gelu", "silu", "sigmoid", "tanh"):
        y = gemm.product(card.asarray(a), card.asarray(b), None, card.asarray(bias), activation)
        assert_close(card.asnumpy(y), np.vectorize(ACTIVATED[activation])(a.astype("f8") @ b + bias), "float32")
    assert not library.products
    library.knows = False
    for _ in range(2):
        y = gemm.product(card.asarray(a), card.asarray(b), None, card.asarray(bias), "relu")
        assert_close(card.asnumpy(y), np.maximum(a.astype("f8") @ b + bias, 0), "float32")
    assert library.plans == 1  # it is not asked again
    assert not library.products
    cublaslt.forget()
    assert sorted(set(library.gone)) == sorted(library.held)  # every descriptor was given back


def test_cublaslt_is_found_or_not(card, monkeypatch):
    monkeypatch.setattr(cublaslt, "_library", None)
    monkeypatch.setenv("GRADFLOW_CUBLASLT", "0")
    assert cublaslt.library() is None
    assert cublaslt._library is False


def test_twins_are_entered():
    for name in ("matmul", "linear", "linear_weight", "addmatmul", "linear_activation"):
        assert table[name].place == "gemm"
    assert backend.float32.name in gemm.TYPES
