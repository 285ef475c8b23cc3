"""Recurrent steps on the card, with the product in their launch: values, unequal lengths, launches, and who is taken."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from tolerance import assert_close

from gradflow.backend import bfloat16
from gradflow.cuda import launch, precision, rnn, tune
from gradflow.ops.gru import gru_layer_backward
from gradflow.ops.lstm import lstm_layer_backward
from gradflow.ops.recurrence import rnn_layer_backward

pytestmark = pytest.mark.cuda

GATES = {"lstm": 4, "gru": 3, "rnn": 1, "relu": 1}
TYPES = {"float": "float32", "tf32": "float32", "double": "float64", "half": "float16", "brain": "bfloat16"}
# What is multiplied by what: tiles are of 32 sequences by 8 units, backwards 16 by 16, and slices of k 128 bytes or 256.
SHAPES = {
    "many": (3, 37, 3, {"float64": 26, "float32": 60, "float16": 56, "bfloat16": 56}),
    "long": (2, 3, 2, {"float64": 98, "float32": 196, "float16": 360, "bfloat16": 360}),
    "tiny": (2, 1, 1, {"float64": 2, "float32": 4, "float16": 8, "bfloat16": 8}),
}
LENGTHS = {"many": (37, 33, 7), "long": (3, 1), "tiny": (1, 1)}


def dtype_of(kind):
    return bfloat16() if TYPES[kind] == "bfloat16" else np.dtype(TYPES[kind])


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def layer(kind, shape, dtype, bias=True):
    """The arguments of a layer, x, states, w, u, b, d, in a dtype."""
    t, n, f, m = *SHAPES[shape][:3], SHAPES[shape][3][dtype.name]
    r, g = np.random.default_rng(5), GATES[kind]
    states = [r.standard_normal((n, m)) / 2 for _ in range(1 + (kind == "lstm"))]
    w, u = r.standard_normal((g * m, f)) / 2, r.standard_normal((g * m, m)) / m**0.5
    biases = [r.standard_normal(g * m) / 2 for _ in range(2)] if bias else [None, None]
    return [None if a is None else a.astype(dtype) for a in (r.standard_normal((t, n, f)), *states, w, u, *biases)]


def loop(kind, x, *args, sizes, reverse):
    """y and the last states, sequence by sequence and step by step in float64."""
    *states, w, u, b, d = (None if a is None else a.astype(float) for a in args)
    b, d = (np.zeros(len(w)) if a is None else a for a in (b, d))
    steps, n, _ = x.shape
    y = np.zeros((steps, *states[0].shape))
    for i in range(n):
        length = steps if sizes is None else sum(k > i for k in sizes)
        for t in reversed(range(length)) if reverse else range(length):
            h = states[0][i]
            a, s = w @ x[t, i].astype(float) + b, u @ h + d
            if kind == "lstm":
                in_, forget, g, out = np.split(a + s, 4)
                states[1][i] = sigmoid(forget) * states[1][i] + sigmoid(in_) * np.tanh(g)
                h = sigmoid(out) * np.tanh(states[1][i])
            elif kind == "gru":
                (ar, az, an), (sr, sz, sn) = np.split(a, 3), np.split(s, 3)
                z = sigmoid(az + sz)
                h = (1 - z) * np.tanh(an + sigmoid(ar + sr) * sn) + z * h
            else:
                h = np.tanh(a + s) if kind == "rnn" else np.maximum(a + s, 0)
            states[0][i] = y[t, i] = h
    return [y, *states]


def forward(kind, arrays, sizes, reverse, reserve=None):
    if kind == "lstm":
        return rnn.lstm_layer(*arrays, None, sizes, reverse, reserve)
    if kind == "gru":
        return rnn.gru_layer(*arrays, sizes, reverse, reserve)
    return rnn.rnn_layer(*arrays, kind == "relu", sizes, reverse)


def backward(kind, module, gradients, arrays, y, sizes, reverse, reserve, needs=None):
    """The gradients of all arrays, by the launchers or by the definitions."""
    needs = needs or (True,) * (7 + (kind == "lstm"))
    if kind == "lstm":
        f = rnn.lstm_layer_backward if module is rnn else lstm_layer_backward
        return f(*gradients, *arrays, None, y, sizes, reverse, reserve, needs)[:7]
    if kind == "gru":
        f = rnn.gru_layer_backward if module is rnn else gru_layer_backward
        return f(*gradients, *arrays, y, sizes, reverse, reserve, needs[:6])
    f = rnn.rnn_layer_backward if module is rnn else rnn_layer_backward
    return f(*gradients, *arrays, y, kind == "relu", sizes, reverse, needs[:6])


@pytest.fixture
def fused(card, monkeypatch):
    """Only ways that multiply in the launch of a step, and which were taken."""
    found, taken = rnn._ways, []

    def ways(*args):
        own = [w for w in found(*args) if w]
        taken.extend(own)
        return own

    monkeypatch.setattr(rnn, "_ways", ways)
    return taken


def put(card, arrays):
    return [None if a is None else card.asarray(a) for a in arrays]


def wide(a):
    return None if a is None else a.get().astype(float)


CASES = [
    ("many", None, False), ("many", "sizes", False), ("many", "sizes", True), ("long", None, True), ("tiny", None, False),
]  # fmt: skip


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize(("shape", "sizes", "reverse"), CASES)
def test_values_and_gradients(card, fused, kind, type, shape, sizes, reverse):
    precision.conv_tf32(type == "tf32")
    sizes = LENGTHS[shape] if sizes else None
    dtype = dtype_of(type)
    host = layer(kind, shape, dtype, bias=shape != "long")
    there, reserve = put(card, host), []
    ys = forward(kind, there, sizes, reverse, reserve)
    # TF32 rounds what is multiplied to 10 bits, as float16 does.
    to, scale = ("float16", 1.0) if type == "tf32" else (dtype, 2.0)
    for y, z in zip(ys, loop(kind, *host, sizes=sizes, reverse=reverse), strict=True):
        assert y.dtype == dtype
        assert_close(wide(y), z, to, scale)
    r = np.random.default_rng(6)
    gradients = [r.standard_normal(y.shape).astype(dtype) for y in ys]
    if sizes is not None:
        for t, k in enumerate(sizes):
            gradients[0][t, k:] = 0
    dxs = backward(kind, rnn, put(card, gradients), there, ys[0], sizes, reverse, reserve)
    double = [None if a is None else a.astype(float) for a in host]
    kinks = wide(ys[0]) if kind == "relu" else None  # those of rounded sums are elsewhere
    right = backward(kind, None, [g.astype(float) for g in gradients], double, kinks, sizes, reverse, [])
    for dx, dz in zip(dxs, right, strict=True):
        if dz is not None:
            assert_close(wide(dx), dz, to, 2 * scale)
    assert len(fused) == 2 and all(("true" in way) is (type not in ("float", "double")) for way in fused)


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("sizes", [None, (3, 3, 2, 1, 1, 1, 1)], ids=["whole", "sizes"])
def test_a_step_is_one_launch(card, kind, sizes):
    """Of ours, and no product and no copy besides: only those before and after all steps."""
    r = np.random.default_rng(7)
    n, m, f, g = 3, 8, 2, GATES[kind]
    shapes = [(7, n, f), *[(n, m)] * (1 + (kind == "lstm")), (g * m, f), (g * m, m), (g * m,), (g * m,)]
    there, reserve = put(card, [r.standard_normal(s).astype("f") for s in shapes]), []
    log = getattr(card, "launches", contextlib.nullcontext)
    counts = []
    for steps in (7, 6):
        mine, some = [there[0][:steps], *there[1:]], None if sizes is None else sizes[:steps]
        before = launch.count
        with log() as forth:
            ys = forward(kind, mine, some, False, reserve)
        middle, gradients = launch.count, [card.ones_like(y) for y in ys]
        with log() as back:
            backward(kind, rnn, gradients, mine, ys[0], some, False, reserve)
        assert (middle - before, launch.count - middle) == (steps, steps)
        counts.append([len(work.device) for work in (forth, back) if work is not None])
    assert [a - b for a, b in zip(*counts, strict=True)] in ([], [1, 1])  # all that a step more costs
    if counts[0] and kind == "lstm":
        # The input's product; a copy of the last cell state; with lengths one of the given state, to be overwritten.
        assert counts[0][0] == 7 + (2 if sizes is None else 3)
        # The weight turned over; copies of both states' gradients and of the first cell state's; the first state's, by a
        # product, and with lengths a sum and a copy; the states before; dx, dw, du, and db, which is dd.
        assert counts[0][1] == 7 + (10 if sizes is None else 12)


@pytest.mark.parametrize("kind", GATES)
def test_only_what_is_needed(card, fused, kind):
    host = layer(kind, "tiny", np.dtype("float32"))
    there, reserve = put(card, host), []
    ys = forward(kind, there, None, False, reserve)
    gradients = [card.ones_like(y) for y in ys]
    needs = (False, False) + (kind == "lstm") * (False,) + (True, False, False, False, False)
    found = backward(kind, rnn, gradients, there, ys[0], None, False, reserve, needs)
    assert [g is not None for g in found] == [*needs[: len(found)]]


def test_states_are_the_callers(card, fused):
    """What comes out is no view of what went in or of y, and what goes in stays as it is."""
    host = layer("lstm", "tiny", np.dtype("float32"))
    there = put(card, host)
    for sizes in (None, (1, 1)):
        y, h, c = forward("lstm", there, sizes, False)
        assert not any(np.shares_memory(a._a, b._a) for a in (y, h, c) for b in there) if hasattr(y, "_a") else True
        y[...] = h[...] = c[...] = 0
    for a, b in zip(there, host, strict=True):
        assert (a.get() == b).all()


# --- who is taken -----------------------------------------------------------------------------------------------------


def ways(card, kind="lstm", n=64, m=512, dtype="float16", p=None, offset=0):
    g = GATES[kind.partition("_")[0]]
    u = card.zeros(g * m * m + offset, dtype)[offset:].reshape(g * m, m)
    return rnn._ways(kind, np.dtype(dtype), card.zeros((n, m), dtype), u, p)


def test_the_guess(card):
    assert ways(card) == ["__half, true", ""] == ways(card, "lstm_backward") == ways(card, "gru")
    assert ways(card, n=4096) == ["", "__half, true"]
    assert ways(card, dtype="float32", m=256) == ["float, false", ""]
    precision.conv_tf32(True)
    assert ways(card, dtype="float32", m=256) == ["float, true", ""]
    assert ways(card, dtype="float64", m=128) == ["double, false", ""]


def test_who_is_not_taken(card, monkeypatch):
    assert ways(card, m=63) == [""] == ways(card, m=64, offset=1) == ways(card, m=64, p="a projection")
    monkeypatch.setattr(rnn, "capability", lambda: (7, 5))
    precision.conv_tf32(True)
    assert ways(card, m=64) == [""] and ways(card, m=64, dtype="float32") == ["float, false", ""]


@pytest.mark.parametrize("kind", GATES)
def test_the_tuner_may_take_either(card, monkeypatch, tmp_path, kind):
    """Each is timed on whole layers, and the result is that of the one taken."""
    monkeypatch.setenv("GRADFLOW_CACHE", str(tmp_path))
    monkeypatch.setenv("GRADFLOW_TUNE", "1")
    monkeypatch.setattr(tune, "_spent", 0.0)
    host = layer(kind, "tiny", np.dtype("float32"))
    there = put(card, host)
    results = []
    for slow in ("float, false", ""):
        tune.clear()
        asked = []

        def clock(call, slow=slow, asked=asked):
            before = launch.count
            call()
            asked.append(call.__defaults__[0])
            assert launch.count > before
            return 2.0 if asked[-1] == slow else 1.0

        monkeypatch.setattr(tune, "clock", clock)
        reserve = []
        ys = forward(kind, there, None, False, reserve)
        dxs = backward(kind, rnn, [card.ones_like(y) for y in ys], there, ys[0], None, False, reserve)
        assert set(asked) == {"float, false", ""}
        assert {row[0] for p in tune.read(tune.place()).values() for rows in p.values() for row in rows.values()} == {
            repr("" if slow else "float, false")
        }
        results.append([*ys, *dxs])
    tune.clear()
    for a, b in zip(*results, strict=True):
        assert_close(a.get(), b.get())


# --- what moves -------------------------------------------------------------------------------------------------------


def test_bytes_of_a_step(card, fused):
    """Each array once, in whole sectors; the weight and the states by each block that multiplies them, asynchronously."""
    if not hasattr(card, "traffic"):
        pytest.skip("only the stand-in counts")
    n, m, size = 32, 64, 4
    r = np.random.default_rng(8)
    host = [r.standard_normal(s).astype("f") for s in ((2, n, 1), (n, m), (n, m), (4 * m, 1), (4 * m, m), (4 * m,), (4 * m,))]
    there, reserve = put(card, host), []
    states, gates, weight = n * m * size, 4 * n * m * size, 4 * m * m * size
    with card.traffic() as forth:
        ys = forward("lstm", there, None, False, reserve)
    second = [w for w in forth.launches if w.name.startswith("lstm_step")][1]
    # The gates' sums, the state in h and c, the weight and the biases; then gates, c, y and, at the end, the last state.
    assert second.distinct_loaded == gates + 2 * states + weight + 2 * 4 * m * size
    assert second.distinct_stored == gates + 3 * states
    assert second.async_loaded == m // 8 * (32 + 4 * 8) * m * size
    gradients = put(card, [r.standard_normal(y.shape).astype("f") for y in ys])
    with card.traffic() as back:
        backward("lstm", rnn, gradients, there, ys[0], None, False, reserve)
    first = [w for w in back.launches if w.name.startswith("lstm_step_backward")][1]
    # The later gates' gradients, the gates, c before and after, its gradient and y's, the weight; then these and c's.
    assert first.distinct_loaded == 2 * gates + 4 * states + weight
    assert first.distinct_stored == gates + states
    assert first.async_loaded == n // 16 * (m // 16) * (16 + 16) * 4 * m * size
    for work in (second, first):
        assert work.efficiency == 1 and work.conflicts < 0.05
