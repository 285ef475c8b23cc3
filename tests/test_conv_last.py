"""Convolutions of channels last on the card: values in every order of what is given, launches, bytes, and what it costs."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from test_conv_card import DTYPES, TILES, close, draw, forget, job, launched, lay, numbers, only
from tolerance import assert_close

import gradflow as gf
from gradflow.cuda import conv as cuda
from gradflow.cuda import conv_mma, depthwise, launch, layout
from gradflow.ops import conv as ops

pytestmark = pytest.mark.cuda

LAST = {  # x, w, stride, padding, dilation, groups
    "whole chunks": ((2, 16, 7, 5), (72, 16, 3, 3), 1, 1, 1, 1),
    "whole slices": ((1, 64, 4, 5), (8, 64, 3, 2), (1, 2), 1, 1, 1),
    "a layer of images": ((2, 3, 11, 9), (8, 3, 7, 7), 2, 3, 1, 1),
    "remainders": ((2, 5, 6, 7), (9, 5, 3, 3), 1, 1, 1, 1),
    "strided and dilated": ((2, 8, 9, 8), (24, 8, 2, 3), 2, 2, (3, 2), 1),
    "pointwise": ((3, 16, 3, 6), (8, 16, 1, 1), 1, 0, 1, 1),
    "pointwise, strided": ((2, 8, 5, 6), (16, 8, 1, 1), 2, 0, 1, 1),
    "groups of whole chunks": ((2, 16, 6, 5), (24, 8, 3, 2), (2, 1), (1, 0), (1, 2), 2),
    "groups of remainders": ((2, 6, 7, 6), (9, 2, 3, 2), 1, 1, 1, 3),
    "depthwise": ((2, 4, 6, 5), (4, 1, 3, 3), 1, 1, 1, 4),
    "three dims": ((1, 8, 4, 5, 3), (16, 8, 2, 1, 3), (1, 2, 1), (1, 0, 2), (1, 1, 2), 1),
    "one dim": ((2, 8, 9), (6, 8, 3), 2, 3, 1, 1),
}


@pytest.mark.parametrize("name", LAST)
@pytest.mark.parametrize("dtype", DTYPES)
def test_channels_last(card, dtype, name, monkeypatch):
    """Values in every order of what is given, which is the order of what is made as PyTorch has it."""
    x, w, b, g, how, wanted, sizes = draw(LAST[name], numbers(dtype))
    rank = x.ndim - 2
    forward, back, weight = (getattr(ops, f"conv{rank}d{v}") for v in ("", "_input", "_weight"))
    monkeypatch.setattr(conv_mma, "SUMS", 50)
    forget()
    orders, small, direct = [(0, 1, 1), (1, 0, 0), (1, 1, 1), (0, 0, 1)], TILES[dtype][-1], ()
    tried = [*((small, order) for order in orders), (direct, (1, 1, 1))]
    tried += [(tile, (1, 1, 1)) for tile in TILES[dtype][:-1] if name == "whole chunks"]
    for tile, (x_last, w_last, g_last) in tried:
        only(monkeypatch, *tile)
        bias, *there = card.asarray(b), *(lay(card.asarray(v), last) for v, last in ((x, x_last), (w, w_last), (g, g_last)))
        x_last, w_last, g_last = map(ops.lies_last, there)  # neither where both orders are one
        dx_last = w_last or x_last
        got = (
            forward(there[0], there[1], bias, *how),
            back(there[2], there[1], x.shape, *how, x_last),
            weight(there[2], there[0], w.shape, *how, w_last),
        )
        for y, want, size, what, last in zip(got, wanted, sizes, ("y", "dx", "dw"), (dx_last, dx_last, w_last), strict=True):
            close(card.asnumpy(y), want, size, dtype, f"{what} by {tile}")
            assert (layout.channels_last(y) if last else y.flags.c_contiguous), what
    forget()


def test_channels_last_in_the_middle_of_memory(card, monkeypatch):
    """Slices of channels, which have gaps, and arrays that do not start at 16 bytes."""
    x, w, b, _, how, wanted, sizes = draw(LAST["whole chunks"], numbers("float16"))
    only(monkeypatch, 64, 64)
    around = lay(card.zeros((2, 25, 7, 5), "e"), True)
    around[:, 3:19] = card.asarray(x)
    flat = card.zeros(x.size + 1, "e")
    flat[1:] = layout.rows(card.asarray(x)).reshape(-1)
    for v in (around[:, 3:19], layout.planes(flat[1:].reshape(2, 7, 5, 16))):
        y = ops.conv2d(v, card.asarray(w), card.asarray(b), *how)
        close(card.asnumpy(y), wanted[0], sizes[0], "float16", "y")
        assert layout.channels_last(y)


@pytest.mark.parametrize("word", ops.ACTIVATIONS)
def test_activations_channels_last(card, word, monkeypatch):
    for name in ("whole chunks", "remainders"):
        x, w, b, _, how, *_ = draw(LAST[name], numbers("float32"))
        only(monkeypatch, *TILES["float32"][-1])
        x, w, b = lay(card.asarray(x), True), card.asarray(w), card.asarray(b)
        y, got = ops.conv2d(x, w, b, *how), ops.conv2d_activation(x, w, b, word, *how)
        assert layout.channels_last(got)
        assert_close(card.asnumpy(got), ops.ACTIVATIONS[word].function(card.asnumpy(y).astype("d")).astype("f"), what=word)


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
@pytest.mark.parametrize(
    "geometry",
    [
        ((2, 72, 9, 7), (72, 1, 3, 3), 1, 1, 1, 72),
        ((1, 8, 11, 8), (8, 1, 5, 5), 2, 3, 1, 8),
        ((3, 16, 9, 8), (16, 1, 2, 3), (2, 1), 0, (1, 2), 16),
        ((2, 8, 3, 40), (8, 1, 7, 7), 1, "same", 1, 8),
        ((1, 8, 8, 9), (8, 1, 3, 2), 3, (2, 0), 2, 8),
    ],
)
def test_depthwise_channels_last(card, dtype, geometry, monkeypatch):
    """As it lies: one launch, and for a weight gradient two."""
    x, w, b, g, how, wanted, sizes = draw(geometry, numbers(dtype))
    monkeypatch.setattr(depthwise, "PART", 40)
    x, w, b, g = (lay(card.asarray(v), v.ndim == 4) for v in (x, w, b, g))
    calls = [
        lambda: ops.conv2d(x, w, b, *how), lambda: ops.conv2d_input(g, w, x.shape, *how, True),
        lambda: ops.conv2d_weight(g, x, w.shape, *how, True),
    ]  # fmt: skip
    for call, want, size, count in zip(calls, wanted, sizes, (1, 1, 2), strict=True):
        before = launch.count
        y = call()
        assert launch.count - before == count
        close(card.asnumpy(y), want, size, dtype, geometry)
        assert layout.channels_last(y) == (count == 1)  # a depthwise weight fits C order as well


# --- launches, bytes, and which variant ------------------------------------------------------------------------------


def test_launches_channels_last(card, monkeypatch):
    """One; the weight of an input gradient is laid out, and a weight gradient has a second pass. So is TF32."""
    for dtype, kernel in product(("e", "f"), (3, 1)):
        numbers("float16" if dtype == "e" else "tf32")
        only(monkeypatch, 64, 64)
        x, w = lay(card.zeros((2, 8, 4, 4), dtype), True), lay(card.zeros((16, 8, kernel, kernel), dtype), True)
        y = ops.conv2d(x, w, None, 1, kernel // 2)
        assert launched(lambda: ops.conv2d(x, w, None, 1, kernel // 2)) == 1
        assert launched(lambda: ops.conv2d_input(y, w, x.shape, 1, kernel // 2)) == 2
        assert launched(lambda: ops.conv2d_weight(y, x, w.shape, 1, kernel // 2, 1, 1, True)) == 2


def test_layers_in_channels_last(cards, card, monkeypatch):
    """From convolution to convolution nothing is laid out anew but the weights of input gradients; all come out the same."""
    if not hasattr(cards, "launches"):
        pytest.skip("only the stand-in counts")
    only(monkeypatch, 64, 64)
    nn, rng, found = gf.nn, np.random.default_rng(0), []
    values = rng.standard_normal((2, 8, 8, 8)).astype("e")
    for order in (gf.contiguous_format, gf.channels_last):
        gf.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 8, 1), nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        ).cuda().half().to(memory_format=order)  # fmt: skip
        x = gf.tensor(values, device="cuda").to(memory_format=order).requires_grad_()
        with cards.launches() as work:
            y = net(x)
        with cards.launches() as back:
            y.float().square().mean().backward()
        found.append([y, x.grad, *(p.grad for p in net.parameters())])
    for a, b in zip(*found, strict=True):
        assert_close(a.numpy(force=True), b.numpy(force=True), scale=4)
    moving = ("turn", "gather", "ascontiguousarray", "copy")
    assert [w.name for w in work if any(word in w.name for word in moving)] == []
    weights = [w.name.partition("<")[0] for w in back if any(word in w.name for word in moving)]
    assert len(weights) == 3 and {*weights} <= {"conv_mma_gather", "conv_mma_turn"}


def test_bytes_channels_last(cards, card, monkeypatch):
    """Each array once, in whole sectors, 16 bytes at a time."""
    if not hasattr(cards, "traffic"):
        pytest.skip("only the stand-in counts")
    numbers("float16")
    only(monkeypatch, 64, 64)
    x, w = lay(card.ones((1, 64, 8, 8), "e"), True), lay(card.ones((64, 64, 3, 3), "e"), True)
    with cards.traffic() as moved:
        y = ops.conv2d(x, w, None, 1, 1)
    only_one = moved.launches[-1]
    assert (moved.distinct_loaded, moved.distinct_stored) == (x.nbytes + w.nbytes, y.nbytes)
    assert len(moved.launches) == 1 and only_one.efficiency == 1 and only_one.wide > 0.99 and only_one.conflicts < 0.1
    with cards.traffic() as moved:
        dx = ops.conv2d_input(y, w, x.shape, 1, 1)
    assert (moved.distinct_loaded, moved.distinct_stored) == (y.nbytes + 2 * w.nbytes, dx.nbytes + w.nbytes)
    with cards.traffic() as moved:
        dw = ops.conv2d_weight(y, x, w.shape, 1, 1, 1, 1, True)
    parts = 2 * dw.nbytes  # one, in floats
    assert (moved.distinct_loaded, moved.distinct_stored) == (y.nbytes + x.nbytes + parts, parts + dw.nbytes)
    w = card.ones((64, 1, 3, 3), "e")
    with cards.traffic() as moved:
        y = ops.conv2d(x, w, None, 1, 1, 1, 64)
    assert (moved.distinct_loaded, moved.distinct_stored) == (x.nbytes + w.nbytes, y.nbytes)
    assert moved.efficiency > 0.95 and moved.wide > 0.95 and moved.conflicts < 0.3


def test_what_order_costs(card):
    """Channels last saves the passes that lay arrays out so, which the guess counts; for the direct kernels it costs some."""
    sizes = (32, 64, 56, 56), (64, 64, 3, 3), 1, 1
    for what, saved in (("forward", (1, 1, 0)), ("input", (1, 0, 0)), ("weight", (1, 1, 0))):
        plain = job(what, "__half", *sizes)
        x, w, y = plain.bytes
        arrays = {"forward": (x, w, y), "input": (y, w, x), "weight": (y, x, w)}[what]
        turned = plain._replace(last=(True, True, True))
        times = [{v: t for t, v in conv_mma.variants(j, 132)} for j in (plain, turned)]
        passes = sum(conv_mma.LAUNCH + 2 * size / conv_mma.BYTES for size, less in zip(arrays, saved, strict=True) if less)
        for v in times[0]:
            assert 0.2 * passes < times[0][v] - times[1][v] <= passes * 1.001
        assert sorted(turned.turned) == sorted(arrays) and plain.turned == []
    small = job("forward", "__half", (1, 8, 12, 12), (16, 8, 3, 3))
    assert cuda.variants(small, 132)[0] == ("direct",)
    assert cuda.variants(small._replace(last=(True, True, True)), 132)[0][0] == "see"
