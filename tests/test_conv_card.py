"""Every variant of a convolution on the card, by name: values, bits, launches, bytes, and which one is taken first."""

from __future__ import annotations

from itertools import product
from math import prod

import numpy as np
import pytest
from test_conv import tuples
from tolerance import assert_close

import gradflow as gf
from gradflow import backend
from gradflow.cuda import conv as cuda
from gradflow.cuda import conv_mma, launch, layout, precision, tune, winograd
from gradflow.cuda.conv_job import Job
from gradflow.cuda.launch import ctype
from gradflow.ops import conv as ops
from gradflow.ops.window import window

pytestmark = pytest.mark.cuda
DTYPES = ("float32", "tf32", "float16", "bfloat16")
TILES = {d: [(t.m, t.n) for t in (conv_mma.PLAIN if d == "float32" else conv_mma.TENSOR)] for d in DTYPES}

GEOMETRIES = {  # x, w, stride, padding, dilation, groups
    "remainders of channels and positions": ((2, 5, 7, 6), (9, 5, 3, 3), 1, 1, 1, 1),
    "more rows than one tile has": ((1, 9, 5, 5), (130, 9, 2, 3), 1, 1, 1, 1),
    "channels of whole slices": ((1, 61, 6, 5), (9, 61, 3, 2), (1, 2), 1, 1, 1),
    "strided": ((3, 9, 9, 7), (9, 9, 3, 2), (2, 3), (1, 0), 1, 1),
    "strided and dilated": ((2, 3, 9, 8), (5, 3, 2, 3), 2, 2, (3, 2), 1),
    "groups": ((2, 6, 7, 6), (9, 2, 3, 2), (2, 1), (1, 0), (1, 2), 3),
    "padding over the kernel": ((1, 17, 2, 2), (3, 17, 2, 2), 1, 4, 1, 1),
    "stride over the kernel": ((2, 8, 8, 7), (3, 8, 2, 2), 3, 0, 1, 1),
    "an uneven same": ((1, 3, 6, 7), (4, 3, 4, 2), 1, "same", 1, 1),
    "whole rows of 16 bytes": ((2, 8, 4, 8), (16, 8, 3, 3), 1, 1, 1, 1),
    "pointwise, whole chunks": ((3, 9, 4, 4), (70, 9, 1, 1), 1, 0, 1, 1),
    "pointwise, half chunks": ((5, 16, 2, 6), (7, 16, 1, 1), 1, 0, 1, 1),
    "pointwise, planes below a chunk": ((41, 5, 2, 2), (7, 5, 1, 1), 1, 0, 1, 1),
    "pointwise, odd planes": ((3, 9, 7, 7), (7, 9, 1, 1), 1, 0, 1, 1),
    "pointwise, groups": ((3, 18, 4, 6), (8, 9, 1, 1), 1, 0, 1, 2),
    "pointwise, strided": ((3, 9, 7, 8), (7, 9, 1, 1), 2, 0, 1, 1),
    "pointwise, padded": ((2, 4, 3, 3), (5, 4, 1, 1), 1, 2, 1, 1),
    "one output": ((2, 3, 4, 4), (2, 3, 4, 4), 1, 0, 1, 1),
    "more positions than one tile has": ((1, 2, 13, 21), (3, 2, 3, 3), 1, 1, 1, 1),
    "one dim": ((2, 4, 9), (6, 2, 3), 2, 3, 2, 2),
    "three dims": ((1, 3, 4, 5, 3), (4, 3, 2, 1, 3), (1, 2, 1), (1, 0, 2), (1, 1, 2), 1),
    "three dims, strided": ((2, 2, 5, 4, 6), (3, 2, 2, 3, 2), (2, 1, 3), 1, 1, 1),
}


def oracle(x, w, g, stride, padding, dilation, groups):
    """(y, dx, dw) in float64, tap by tap; g None for one of ones."""
    rank = x.ndim - 2
    win = window("oracle", rank, x.shape, w.shape, stride, padding, dilation, groups)
    stride, dilation = tuples(stride, rank), tuples(dilation, rank)
    reach = [(o - 1) * s + (k - 1) * d + 1 for o, s, k, d in zip(win.out, stride, w.shape[2:], dilation, strict=True)]
    room = [max(r, b + n) for r, b, n in zip(reach, win.before, x.shape[2:], strict=True)]
    inner = (slice(None), slice(None), *(slice(b, b + n) for b, n in zip(win.before, x.shape[2:], strict=True)))
    padded = np.zeros((*x.shape[:2], *room))
    padded[inner] = x
    back, n, k, cg = np.zeros_like(padded), x.shape[0], w.shape[0], w.shape[1]
    y, dw = np.zeros((n, k, *win.out)), np.zeros(w.shape)
    g = np.ones(y.shape) if g is None else g.astype(np.float64)
    for tap in product(*map(range, w.shape[2:])):
        at = tuple(
            slice(t * d, t * d + (o - 1) * s + 1, s) for t, d, o, s in zip(tap, dilation, win.out, stride, strict=True)
        )
        for i in range(groups):
            c, m = slice(i * cg, (i + 1) * cg), slice(i * k // groups, (i + 1) * k // groups)
            seen, v = padded[(slice(None), c, *at)].reshape(n, cg, -1), w[(m, slice(None), *tap)].astype(np.float64)
            y[:, m] += np.einsum("kc,ncp->nkp", v, seen).reshape(y[:, m].shape)
            there = g[:, m].reshape(n, k // groups, -1)
            back[(slice(None), c, *at)] += np.einsum("kc,nkp->ncp", v, there).reshape(n, cg, *win.out)
            dw[(m, slice(None), *tap)] += np.einsum("nkp,ncp->kc", there, seen)
    return y, back[inner], dw


def only(monkeypatch, m=0, n=0):
    """Let convolutions use one tile of the tensor cores' file, or with none the direct kernels."""

    def one(job, processors):
        return [("planes" if conv_mma._flat(job) else "see", m, n) if m else ("direct",)]

    monkeypatch.setattr(cuda, "variants", one)


def launched(call):
    """How many kernels a call launches."""
    before = launch.count
    call()
    return launch.count - before


def forget():
    """Drop what was worked out with other constants."""
    conv_mma.parts.cache_clear()
    conv_mma.plan.cache_clear()


def numbers(dtype):
    """(dtype of the arrays, the same turned on as float32's precision)."""
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes", reason="bfloat16 needs ml_dtypes")
        return backend.bfloat16()
    precision.conv_tf32(dtype == "tf32")
    return np.dtype("float32" if dtype == "tf32" else dtype)


def close(got, want, size, dtype, what):
    """Within the dtype's tolerance; with TF32 within what its rounding makes at most. `size`: of the same convolution of
    absolute values. A number rounded to 10 bits of fraction is off by 2^-11 of itself, a product of two by 2^-10.
    """
    if dtype == "tf32":
        np.testing.assert_array_less(np.abs(got - want), 2.0**-10 * 1.01 * size + 1e-30, err_msg=what)
    else:
        assert_close(got, want.astype(got.dtype), what=what)


def all_three(card, x, w, b, g, how):
    """(y, dx, dw) by the twins."""
    rank = x.ndim - 2
    x, w, b, g = (card.asarray(v) for v in (x, w, b, g))
    forward, back, weight = (getattr(ops, f"conv{rank}d{v}") for v in ("", "_input", "_weight"))
    found = forward(x, w, b, *how), back(g, w, x.shape, *how), weight(g, x, w.shape, *how)
    return [card.asnumpy(v) for v in found]


def draw(geometry, dtype):
    """(x, w, b, g, how, (y, dx, dw), the same of absolute values)."""
    x_shape, w_shape, *how = geometry
    rng = np.random.default_rng(0)
    x, w, b = (rng.standard_normal(s).astype(dtype) for s in (x_shape, w_shape, w_shape[:1]))
    shape = oracle(x, w, None, *how)[0].shape
    g = rng.standard_normal(shape).astype(dtype)
    along = b.astype(np.float64).reshape(-1, *[1] * (len(x_shape) - 2))
    y, *rest = oracle(x, w, g, *how)
    size, *sizes = oracle(abs(x.astype("d")), abs(w.astype("d")), abs(g.astype("d")), *how)
    return x, w, b, g, how, (y + along, *rest), (size + abs(along), *sizes)


def lay(x, last):
    """x in a new array in C order, or channels last."""
    return layout.planes(layout.rows(x).copy()) if last else x.copy()


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_values(card, dtype, name, monkeypatch):
    """Every tile, forward and both gradients, parts of several lengths."""
    x, w, b, g, how, wanted, sizes = draw(GEOMETRIES[name], numbers(dtype))
    monkeypatch.setattr(conv_mma, "OUTPUTS", 40)
    forget()
    seen = []
    for tile in TILES[dtype]:
        only(monkeypatch, *tile)
        got = all_three(card, x, w, b, g, how)
        for y, want, size, what in zip(got, wanted, sizes, ("y", "dx", "dw"), strict=True):
            close(y, want, size, dtype, f"{what} by {tile}")
        seen.append([y.tobytes() for y in got])
    forget()
    assert all(bits == seen[0] for bits in seen), "tiles differ in their bits"


@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_that_start_anywhere(card, dtype, monkeypatch):
    """A slice of a batch need not start at a multiple of 16 bytes: nothing is moved 16 bytes at a time then."""
    low = numbers(dtype)
    only(monkeypatch, *TILES[dtype][-1])
    for name in ("whole rows of 16 bytes", "pointwise, whole chunks"):
        x, w, b, g, how, wanted, sizes = draw(GEOMETRIES[name], low)

        def shifted(v):
            flat = card.zeros(v.size + 1, v.dtype)
            flat[1:] = card.asarray(v).reshape(-1)
            return flat[1:].reshape(v.shape)

        x, w, b, g = map(shifted, (x, w, b, g))
        found = ops.conv2d(x, w, b, *how), ops.conv2d_input(g, w, x.shape, *how), ops.conv2d_weight(g, x, w.shape, *how)
        for y, want, size in zip(found, wanted, sizes, strict=True):
            close(card.asnumpy(y), want, size, dtype, name)


@pytest.mark.parametrize("dtype", DTYPES)
def test_transposed(card, dtype, monkeypatch):
    """A transposed convolution with its bias is the input gradient of the convolution that it turns round."""
    low, rng = numbers(dtype), np.random.default_rng(1)
    only(monkeypatch, *TILES[dtype][-1])
    x, w, b = (rng.standard_normal(s).astype(low) for s in ((2, 9, 4, 3), (9, 5, 3, 4), (5,)))
    y = ops.conv_transpose2d(*map(card.asarray, (x, w, b)), 2, 1)
    _, want, _ = oracle(np.zeros(y.shape), w, x, 2, 1, 1, 1)
    _, size, _ = oracle(np.zeros(y.shape), abs(w.astype("d")), abs(x.astype("d")), 2, 1, 1, 1)
    along = b.astype("d").reshape(-1, 1, 1)
    close(card.asnumpy(y), want + along, size + abs(along), dtype, "transposed")
    x, w, b = (card.asarray(v) for v in (x, w, b))
    for orders in ((0, 1), (1, 0), (1, 1)):
        turned = ops.conv_transpose2d(lay(x, orders[0]), lay(w, orders[1]), b, 2, 1)
        assert layout.channels_last(turned) and card.asnumpy(turned).tobytes() == card.asnumpy(y).tobytes()


@pytest.mark.parametrize("name", ["remainders of channels and positions", "pointwise, whole chunks"])
@pytest.mark.parametrize("way", ["pipeline", "direct", "depthwise"])
def test_activations(card, way, name, monkeypatch):
    """In the same launch as the convolution in the pipeline's kernels; all agree with the function applied after."""
    low = numbers("float32")  # in which gelu and its formula by tanh differ
    x, w, b, _, how, (y, *_), _ = draw(GEOMETRIES[name], low)
    if way == "depthwise":
        x, w, b, _, how, (y, *_), _ = draw(((2, 4, 5, 4), (4, 1, 3, 3), 1, 1, 1, 4), low)
    only(monkeypatch, *(TILES["float32"][-1] if way == "pipeline" else ()))
    x, w, b = map(card.asarray, (x, w, b))
    plain = launched(lambda: ops.conv2d(x, w, b, *how))
    for word, activation in ops.ACTIVATIONS.items():
        before = launch.count
        got = card.asnumpy(ops.conv2d_activation(x, w, b, word, *how))
        assert way != "pipeline" or launch.count - before == plain
        assert_close(got, activation.function(y).astype(low), what=word)
    with pytest.raises(ValueError, match="conv2d_activation: wanted an activation among relu, .* saw 'elu'"):
        ops.conv2d_activation(x, w, b, "elu", *how)


def test_infinities_and_nans_stay(card, monkeypatch):
    for dtype in ("tf32", "float16"):
        low = numbers(dtype)
        only(monkeypatch, *TILES[dtype][-1])
        x, w = np.zeros((1, 4, 3, 4), low), np.ones((2, 4, 1, 1), low)
        x[0, 1, 0, 1], x[0, 2, 1, 2], x[0, 3, 2, 3] = np.inf, -np.inf, np.nan
        for weight, padding in ((w, 0), (np.ones((2, 4, 3, 3), low), 1)):
            y = card.asnumpy(ops.conv2d(card.asarray(x), card.asarray(weight), None, 1, padding))
            with np.errstate(invalid="ignore"):
                np.testing.assert_array_equal(y, ops.conv2d(x, weight, None, 1, padding))


@pytest.mark.parametrize("workspace", [winograd.WORKSPACE, 3000])
@pytest.mark.parametrize(
    "geometry",
    [
        ((2, 5, 7, 6), (9, 5, 3, 3), 1, 1, 1, 1),
        ((3, 4, 4, 4), (70, 4, 3, 3), 1, 0, 1, 1),
        ((1, 9, 8, 5), (3, 9, 3, 3), 1, (2, 3), 1, 1),
        ((5, 40, 3, 3), (30, 40, 3, 3), 1, 0, 1, 1),
    ],
)
def test_winograd(card, geometry, workspace, monkeypatch):
    """Forward and input gradient, all images at once or some at a time: one launch for w, three for each time."""
    x, w, b, g, how, wanted, sizes = draw(geometry, numbers("float32"))
    monkeypatch.setattr(winograd, "WORKSPACE", workspace)
    monkeypatch.setattr(
        cuda, "variants", lambda job, p: [("winograd", 64, 128) if winograd.takes(job) else ("see", 64, 128)]
    )
    for y, want, size in zip(all_three(card, x, w, b, g, how), wanted, sizes, strict=True):
        close(y, want, size, "float32", "winograd")
    times = -(-len(x) // winograd._images(job("forward", "float", *geometry, tf32=False)))
    assert (times > 1) == (workspace == 3000 and len(x) > 1)
    assert launched(lambda: ops.conv2d(card.asarray(x), card.asarray(w), None, *how)) == 1 + 3 * times
    got = ops.conv2d_activation(card.asarray(x), card.asarray(w), card.asarray(b), "tanh", *how)
    assert_close(card.asnumpy(got), np.tanh(wanted[0]).astype("f"))


DEPTHWISE = {  # x, w, stride, padding, dilation, groups; whether y and dx are made by columns
    "3 x 3": (((2, 3, 9, 7), (3, 1, 3, 3), 1, 1, 1, 3), True, True),
    "3 x 3, strided": (((1, 4, 8, 9), (4, 1, 3, 3), 2, 1, 1, 4), True, False),
    "5 x 5, a multiplier": (((1, 2, 7, 6), (4, 1, 5, 5), 1, (2, 0), 1, 2), True, False),
    "7 x 7, same": (((1, 2, 9, 5), (2, 1, 7, 7), 1, "same", 1, 2), True, True),
    "5 x 5, strided": (((1, 2, 11, 8), (2, 1, 5, 5), 2, 3, 1, 2), True, False),
    "7 x 7, padding over the kernel": (((1, 2, 3, 3), (2, 1, 7, 7), 2, 8, 1, 2), True, False),
    "dilated": (((1, 2, 9, 8), (2, 1, 3, 3), 1, 2, 2, 2), False, False),
    "stride 3": (((1, 2, 9, 8), (2, 1, 3, 3), 3, 1, 1, 2), False, False),
    "2 x 3, strides of two kinds": (((1, 2, 9, 8), (2, 1, 2, 3), (2, 1), 0, 1, 2), False, False),
}


@pytest.mark.parametrize("name", DEPTHWISE)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_depthwise(cards, card, dtype, name):
    geometry, *columns = DEPTHWISE[name]
    x, w, b, g, how, wanted, sizes = draw(geometry, numbers(dtype))
    if hasattr(cards, "launches"):
        with cards.launches() as work:
            got = all_three(card, x, w, b, g, how)
        assert [f"depthwise_column<{ctype(x.dtype)}" in k.name for k in work.of("kernel")[:2]] == columns
    else:
        got = all_three(card, x, w, b, g, how)
    for y, want, size in zip(got, wanted, sizes, strict=True):
        close(y, want, size, dtype, name)


# --- launches and bytes -----------------------------------------------------------------------------------------------


def test_launches(card, monkeypatch):
    """One for planes read as they lie; else two more that lay out channels last. Weight gradients have a second pass."""
    numbers("float16")
    only(monkeypatch, 64, 64)

    def of(x_shape, w_shape, *how):
        x, w = card.zeros(x_shape, "e"), card.zeros(w_shape, "e")
        g = ops.conv2d(x, w, None, *how)
        return (
            launched(lambda: ops.conv2d(x, w, None, *how)),
            launched(lambda: ops.conv2d_input(g, w, x_shape, *how)),
            launched(lambda: ops.conv2d_weight(g, x, w_shape, *how)),
        )

    assert of((2, 8, 4, 4), (8, 8, 3, 3), 1, 1) == (3, 3, 4)
    assert of((2, 8, 4, 4), (8, 8, 1, 1)) == (1, 2, 2)
    assert of((2, 8, 4, 4), (8, 8, 1, 1), 2) == (1, 3, 2)  # the dots that are seen are copied by CuPy
    x = card.zeros((2, 8, 4, 4), "e")
    assert launched(lambda: ops.conv2d(x[:0], card.zeros((8, 8, 3, 3), "e"))) == 0
    only(monkeypatch)
    assert of((2, 8, 4, 4), (8, 8, 3, 3), 1, 1) == (1, 1, 1)


def test_bytes(cards, card, monkeypatch):
    """Planes: each array once, in whole sectors, 16 bytes at a time. Channels last: the copies once more."""
    if not hasattr(cards, "traffic"):
        pytest.skip("only the stand-in counts")
    numbers("float16")
    only(monkeypatch, 64, 64)
    for kernel, copies in ((1, 0), (3, 2)):
        x, w = card.ones((1, 64, 8, 8), "e"), card.ones((64, 64, kernel, kernel), "e")
        with cards.traffic() as moved:
            y = ops.conv2d(x, w, None, 1, kernel // 2)
        bare = x.nbytes + w.nbytes
        assert moved.distinct_loaded == bare * (1 + copies / 2)
        assert moved.distinct_stored == y.nbytes + bare * copies / 2
        assert moved.launches[-1].efficiency == 1
        assert moved.launches[-1].wide > 0.99
        assert moved.launches[-1].conflicts < 0.5  # in the few steps there are the last one, which stores, weighs most


# --- which variant ----------------------------------------------------------------------------------------------------


def job(what, type, x_shape, w_shape, *how, tf32=True):
    win = window("test", 2, x_shape, w_shape, *how, *(1, 0, 1, 1)[len(how) :])
    return Job(what, type, x_shape[0], w_shape[1], w_shape[0] // win.groups, win, 0, False, tf32, True)


def test_the_first_variant(card):
    """By the guess: tensor cores for large ones, a tile no higher than the rows, one launch for small ones."""

    def first(*args, **kwargs):
        return cuda.variants(job(*args, **kwargs), 132)[0]

    for what in ("forward", "input", "weight"):
        large = (32, 256, 56, 56), (256, 256, 3, 3), 1, 1
        assert first(what, "__half", *large) == ("see", 128, 128)
        assert first(what, "float", *large, tf32=False)[0] == ("see" if what == "weight" else "winograd")
        assert first(what, "double", *large) == ("direct",)
        assert first(what, "__half", (64, 1, 28, 28), (6, 1, 5, 5)) == ("direct",)
    assert first("forward", "__half", (32, 64, 224, 224), (64, 64, 3, 3), 1, 1) == ("see", 64, 128)
    assert first("forward", "float", (32, 256, 56, 56), (64, 256, 1, 1)) == ("planes", 64, 128)
    assert first("forward", "__half", (32, 512, 7, 7), (512, 512, 3, 3), 1, 1)[1] == 64
    assert first("input", "__half", (32, 256, 56, 56), (512, 256, 1, 1), 2)[0] == "see"
    assert first("forward", "__half", (32, 256, 56, 56), (512, 256, 1, 1), 2)[0] == "planes"


def test_parts_of_a_weight_gradient():
    """Enough to fill the card, few enough to fit; all of one length but the last."""
    for outputs, rows, pitch, groups in ((32 * 28 * 28, 512, 4608, 1), (32 * 224 * 224, 64, 576, 1), (50, 8, 72, 2)):
        count, length = conv_mma.parts(outputs, rows, pitch, groups)
        assert (count - 1) * length < outputs <= count * length
        assert count * rows * groups * pitch * 4 <= max(conv_mma.PARTS, rows * groups * pitch * 4)
    assert conv_mma.parts(32 * 224 * 224, 64, 576, 1)[0] > 20
    assert conv_mma.parts(50, 8, 72, 2)[0] == 1


def test_older_cards_and_large_kernels_go_the_direct_way(card, monkeypatch):
    small = job("forward", "__half", (1, 8, 40, 40), (8, 8, 3, 3))
    assert conv_mma.takes(small)
    assert not conv_mma.takes(job("forward", "__half", (1, 8, 40, 40), (8, 8, 33, 33)))
    monkeypatch.setattr(conv_mma, "capability", lambda: (7, 5))
    assert not conv_mma.takes(small)


def test_a_library_is_asked(card, monkeypatch):
    """Its variants come after our own, and what the tuner chooses runs."""

    class Library:
        def variants(self, job):
            return [("library", 3)]

        def run(self, variant, job, arrays):
            arrays[-1][...] = variant[1]

    seen = []

    def choose(family, key, variants, run):
        seen.extend(variants)
        run(variants[0])
        return variants[-1]

    monkeypatch.setattr(cuda, "libraries", [Library()])
    monkeypatch.setattr(tune, "choose", choose)
    y = ops.conv2d(card.ones((1, 2, 4, 4), "f"), card.ones((3, 2, 3, 3), "f"))
    assert (card.asnumpy(y) == 3).all()
    assert ("direct",) in seen[:-1] and seen[-1] == ("library", 3)


def test_shared_memory_and_tables_fit(card):
    """What a block asks for is what its slices take, on every card from 8.0 on (99 KB on 12.0)."""
    for kernel, (type, tile) in product(conv_mma.RUNS_K, [("__half", t) for t in conv_mma.TENSOR]):
        assert conv_mma.shared(kernel, type, tile, conv_mma.TAPS) <= 99 << 10
    assert prod((4, 64 + 16, 256)) == conv_mma.shared("conv_mma_see", "__half", conv_mma.TENSOR[0])


def test_gradients_of_an_activated_convolution():
    """To the second order, as those of the two functions."""
    rng = np.random.default_rng(2)
    x, w = rng.standard_normal((1, 2, 4, 4)), rng.standard_normal((3, 2, 3, 3))
    for word, activation in ops.ACTIVATIONS.items():
        found = []
        for call in (
            lambda a, v, u, word=word: ops.conv2d_activation(a, v, u, word, 1, 1),
            lambda a, v, u, activation=activation: activation.function(ops.conv2d(a, v, u, 1, 1)),
        ):
            leaves = [gf.tensor(t, requires_grad=True) for t in (x, w, np.ones(3))]
            grads = gf.autograd.grad((call(*leaves) ** 2).sum(), leaves, create_graph=True)
            again = gf.autograd.grad(sum((g**2).sum() for g in grads), leaves, allow_unused=True)
            found.append([t.numpy() if t is not None else 0 for t in (*(g.detach() for g in grads), *again)])
        for a, b in zip(*found, strict=True):
            assert_close(a, b, what=word)
