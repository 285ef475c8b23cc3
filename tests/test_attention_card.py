"""Attention without its weights in memory, on the card: values and gradients from float64 sums over whole matrices."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tolerance import assert_close

import gradflow as gf
from gradflow.autograd import grad
from gradflow.cuda import flash, launch, precision, tune
from gradflow.ops.attention import attention, attention_backward, scaled_dot_product_attention

pytestmark = pytest.mark.cuda
R = np.random.default_rng(0)
SEED, DROP = (2**64 - 5, 3), 0.3  # the stream's counter


def dtype_named(name):
    return gf.bfloat16 if name == "bfloat16" else np.dtype("float32" if name == "tf32" else name)


def bits(shape):
    """Which weights dropout keeps: number i of NumPy's own stream of 32-bit halves, in row-major order."""
    n = math.prod(shape)
    words = np.random.Philox(key=SEED[0], counter=SEED[1]).random_raw(-(-n // 2) or 1)
    return (words.view(np.uint32)[:n] >= round(DROP * 2**32)).reshape(shape)


def plain(g, q, k, v, mask, scale, causal, drop):
    """(y, dq, dk, dv), in float64 with whole matrices."""
    g, q, k, v = (x.astype(float) for x in (g, q, k, v))
    heads, times = k.shape, q.shape[-3] // k.shape[-3]
    k, v = (np.repeat(x, times, -3) for x in (k, v))
    s = scale * q @ k.swapaxes(-1, -2)
    if mask is not None:
        s = np.where(mask, s, -np.inf) if mask.dtype == bool else s + mask.astype(float)
    if causal:
        s = np.where(np.tri(*s.shape[-2:], dtype=bool), s, -np.inf)
    top = s.max(-1, keepdims=True, initial=-1e300)
    p = np.exp(s - top)
    p = p / np.maximum(p.sum(-1, keepdims=True), 1e-300)
    kept = bits(p.shape) / (1 - DROP) if drop else np.ones(p.shape)
    dp = g @ v.swapaxes(-1, -2) * kept
    ds = scale * p * (dp - (p * dp).sum(-1, keepdims=True))
    shared = (*heads[:-3], heads[-3], times, heads[-2])
    dk, dv = ((x.swapaxes(-1, -2) @ u).reshape(*shared, u.shape[-1]).sum(-3) for x, u in ((ds, q), (p * kept, g)))
    return (p * kept) @ v, ds @ k, dk, dv


# (batch, heads, heads of k and v, l, s, e, f), and what else: mask, scale, causal, drop, layout.
SHAPES = {
    "one tile": ((1, 2, 2, 5, 7, 16, 16), {}),
    "tiles": ((1, 1, 1, 150, 165, 64, 64), {}),
    "wide tiles": ((1, 1, 1, 131, 101, 128, 72), {}),
    "causal": ((1, 1, 1, 150, 165, 32, 32), {"causal": True}),
    "causal, fewer keys": ((1, 2, 2, 70, 20, 8, 8), {"causal": True}),
    "causal, wide": ((1, 1, 1, 70, 90, 128, 128), {"causal": True}),
    "bool": ((1, 2, 2, 40, 70, 16, 24), {"mask": "bool"}),
    "bool, broadcast": ((2, 2, 2, 9, 70, 16, 16), {"mask": "keys"}),
    "bool, a row sees nothing": ((1, 1, 1, 70, 40, 16, 16), {"mask": "nothing"}),
    "added": ((2, 2, 2, 33, 70, 16, 16), {"mask": "added"}),
    "added, transposed, infinite": ((1, 2, 2, 33, 40, 16, 16), {"mask": "infinite"}),
    "added and causal": ((1, 1, 1, 70, 70, 16, 16), {"mask": "added", "causal": True}),
    "dropout": ((2, 2, 2, 20, 72, 16, 16), {"drop": True}),
    "dropout, rows that begin within a block": ((1, 2, 2, 70, 77, 16, 16), {"drop": True, "causal": True}),
    "dropout, wide": ((1, 1, 1, 40, 45, 128, 8), {"drop": True, "mask": "bool"}),
    "groups": ((2, 4, 2, 40, 37, 16, 16), {}),
    "groups, everything": ((1, 6, 2, 70, 75, 16, 16), {"causal": True, "mask": "added", "drop": True}),
    "one head of keys": ((2, 3, 1, 10, 12, 16, 16), {"causal": True}),
    "views": ((2, 2, 2, 40, 40, 16, 16), {"layout": "packed"}),
    "views, groups": ((2, 4, 2, 40, 40, 16, 16), {"layout": "transposed", "drop": True}),
    "views of odd rows": ((2, 2, 2, 12, 40, 6, 6), {"layout": "transposed"}),
    "odd rows": ((1, 2, 2, 19, 37, 5, 3), {"mask": "bool"}),
    "unaligned": ((1, 1, 1, 10, 10, 16, 16), {"layout": "shifted"}),
    "views with gaps": ((1, 2, 2, 10, 10, 16, 16), {"layout": "gaps"}),
    "causal, fewer queries": ((1, 1, 1, 20, 150, 16, 16), {"causal": True}),
    "one query": ((2, 2, 2, 1, 70, 16, 16), {}),
    "one key less than a tile": ((1, 1, 1, 5, 63, 16, 16), {}),
    "one key": ((2, 2, 2, 20, 1, 16, 16), {}),
    "one of each": ((1, 1, 1, 1, 1, 1, 1), {"causal": True}),
    "no key": ((1, 2, 2, 3, 0, 16, 16), {}),
    "huge scores": ((1, 1, 1, 40, 70, 16, 16), {"size": 9}),
    "growing scores": ((1, 1, 1, 20, 200, 16, 16), {"mask": "growing"}),
}  # fmt: skip


def masks(r, kind, b, h, l, s):
    if kind == "bool":
        return r.random((b, h, l, s)) < 0.6
    if kind == "keys":
        return r.random((b, 1, 1, s)) < 0.5
    if kind == "nothing":
        return (r.random((l, s)) < 0.4) & (np.arange(l)[:, None] % 7 != 3)
    if kind == "added":
        return r.standard_normal((1, h, l, s)).astype(np.float16)  # a number that every dtype has
    if kind == "infinite":
        return np.where(r.random((s, l)) < 0.7, np.float16(0.5), -np.inf).T
    return np.linspace(0, 64, s)[None].astype(np.float16) if kind == "growing" else None


def arranged(card, layout, q, k, v):
    """The arrays on the card, in memory as programs have them."""
    if layout == "packed":  # thirds of one projection's output (b, l, 3 h e)
        whole = card.asarray(
            np.concatenate([x.transpose(0, 2, 1, 3).reshape(*x.shape[::2], -1) for x in (q, k, v)], -1)
        )
        parts = [whole[..., i * 32 : i * 32 + 32].reshape(*whole.shape[:2], 2, 16) for i in range(3)]
        return [x.transpose(0, 2, 1, 3) for x in parts]
    if layout == "transposed":
        return [card.asarray(np.ascontiguousarray(x.transpose(0, 2, 1, 3))).transpose(0, 2, 1, 3) for x in (q, k, v)]
    if layout == "gaps":
        return [card.asarray(np.concatenate([x, x[..., :1]], -1))[..., :-1] for x in (q, k, v)]
    if layout == "shifted":
        return [card.asarray(np.concatenate([x.ravel()[:1], x.ravel()]))[1:].reshape(x.shape) for x in (q, k, v)]
    return [card.asarray(x) for x in (q, k, v)]


@pytest.fixture
def tf32():
    before = precision.get_float32_matmul_precision()
    yield lambda: precision.set_float32_matmul_precision("high")
    precision.set_float32_matmul_precision(before)


@pytest.mark.parametrize("dtype", ["float32", "tf32", "float16", "bfloat16", "float16 in small tiles"])
@pytest.mark.parametrize("name", SHAPES)
def test_as_plain_attention(name, dtype, card, tf32, monkeypatch):
    dtype, _, small = dtype.partition(" in ")
    monkeypatch.setattr(
        tune, "choose", lambda family, key, tiles, run: sorted(tiles, key=lambda t: t.parts)[0 if small else -1]
    )
    (b, h, few, l, s, e, f), options = SHAPES[name]
    to, drop, causal = dtype_named(dtype), options.get("drop", False), options.get("causal", False)
    if dtype == "tf32":
        tf32()
    size = options.get("size", 1.0)
    r = np.random.default_rng(list(SHAPES).index(name))
    q, k, v, g = (r.standard_normal(n) for n in ((b, h, l, e), (b, few, s, e), (b, few, s, f), (b, h, l, f)))
    q, k, v, g = (x.astype(to) for x in (size * q, size * k, v, g))
    mask = masks(r, options.get("mask"), b, h, l, s)
    mask = mask if mask is None or mask.dtype == bool else mask.astype(to)
    scale = 0.37 / math.sqrt(e / 16)
    expected = plain(g, q, k, v, mask, scale, causal, drop)
    there = *arranged(card, options.get("layout"), q, k, v), None if mask is None else card.asarray(mask)
    rest = scale, causal, DROP if drop else 0.0, SEED
    reserve, before = [], launch.count
    y = flash.attention(*there, *rest, reserve)
    assert launch.count == before + 1
    gradients = flash.attention_backward(card.asarray(g), *there, *rest, reserve, (True, True, True, False), y)
    assert launch.count == before + 3 - (s == 0)
    assert gradients[3] is None
    near, wider = ("float16", 4) if dtype == "tf32" else (to, 1)  # both have ten bits of fraction
    wider = 20 if size > 1 else wider
    for what, a, z in zip(("y", "dq", "dk", "dv"), (y, *gradients), expected, strict=False):
        assert a.dtype == to
        assert_close(card.asnumpy(a), z.astype(np.float32), dtype=near, scale=wider, what=what)


def names(work):
    """Which kernels ran, and everything else that the device was asked for."""
    return [w.name.split("<")[0] for w in work]


WALK = ["attention_forward", "attention_backward_queries", "attention_backward_keys"]


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("shape", [(1, 2, 300, 64), (2, 1, 200, 100)], ids=str)
def test_no_matrix_of_weights_in_memory(shape, card):
    """One launch forward and two backward, and beside inputs, output and gradients two floats for each query."""
    b, h, n, e = shape
    q, k, v, g = (gf.tensor(R.standard_normal(shape).astype(np.float16)).cuda() for _ in range(4))
    inputs = [x.requires_grad_() for x in (q, k, v)]
    pool = card.memory.default_pool
    used = pool.peak = pool.used
    with card.launches() as work:
        y = scaled_dot_product_attention(*inputs, is_causal=True)
        found = grad(y, inputs, g)
    assert names(work) == WALK
    assert len(found) == 3
    rows = b * h * n
    most = (
        4 * rows * e * 2 + 2 * rows * 4 + 6 * 512
    )  # y dq dk dv, a sum and a delta for each query; blocks are rounded up
    assert pool.peak - used <= most
    assert rows * n * 2 > most - 4 * rows * e * 2  # a matrix would have shown


@pytest.mark.usefixtures("stand_in")
def test_heads_of_one_projection_are_not_copied(card):
    """What programs write: a projection's thirds, heads before rows, and the heads beside each other again."""
    b, n, h, e = 2, 20, 4, 16
    x = gf.tensor(R.standard_normal((b, n, 3 * h * e)).astype("f")).cuda().requires_grad_()

    def heads(part):
        return part.reshape(b, n, h, e).transpose(1, 2)

    q, k, v = (heads(part) for part in x.split(h * e, 2))
    y = scaled_dot_product_attention(q, k, v)
    z = y.transpose(1, 2).reshape(b, n, h * e)
    assert z.array.data.ptr == y.array.data.ptr
    gy = card.asarray(R.standard_normal((b, n, h, e)).astype("f")).transpose(0, 2, 1, 3)
    arrays, reserve = (q.array, k.array, v.array), []
    with card.launches() as work:
        y = attention(*arrays, None, 0.25, True, 0.0, (0, 0), reserve)
        found = attention_backward(gy, *arrays, None, 0.25, True, 0.0, (0, 0), reserve, (True,) * 4, y)
    assert names(work) == WALK
    assert all(d.transpose(0, 2, 1, 3).flags.c_contiguous for d in found[:3])


@pytest.mark.usefixtures("stand_in")
def test_grouped_heads_are_not_repeated(card):
    q, k, v = (gf.tensor(R.standard_normal((2, h, 9, 16)).astype("f")).cuda() for h in (6, 2, 2))
    with card.launches() as work:
        y = scaled_dot_product_attention(q, k, v, enable_gqa=True)
    assert names(work) == WALK[:1]
    whole = [x.cpu().repeat_interleave(3, 1) for x in (k, v)]
    assert_close(y.cpu().numpy(), scaled_dot_product_attention(q.cpu(), *whole).numpy())


@pytest.mark.parametrize("needs", [(True, False, False), (False, True, False), (False, False, True)])
def test_only_what_is_needed_is_computed(needs, card):
    q, k, v, g = (card.asarray(R.standard_normal((1, 2, 9, 16)).astype("f")) for _ in range(4))
    whole, started = attention_backward(g, q, k, v), launch.count
    part = attention_backward(g, q, k, v, needs=(*needs, False))
    assert launch.count == started + 1 + (1 if not needs[1] else 2)  # y anew, and dk wants the delta that dq makes
    for a, b, need in zip(part, whole, needs, strict=False):
        assert (a is not None) == need
        if need:
            np.testing.assert_array_equal(card.asnumpy(a), card.asnumpy(b))


def test_a_mask_that_wants_a_gradient_takes_the_way_through_the_weights(card):
    arrays = [R.standard_normal(n).astype("f") for n in ((2, 5, 4), (2, 6, 4), (2, 6, 4), (5, 6))]
    here, there = ([gf.tensor(x).to(d).requires_grad_() for x in arrays] for d in ("cpu", "cuda"))
    y, z = scaled_dot_product_attention(*here), scaled_dot_product_attention(*there)
    for a, b in zip(grad(z.square().sum(), there), grad(y.square().sum(), here), strict=True):
        assert_close(a.cpu().numpy(), b.numpy())


def test_an_output_written_in_place_is_noticed(card):
    q, k, v = (gf.tensor(R.standard_normal((2, 5, 4)).astype("f")).cuda().requires_grad_() for _ in range(3))
    y = scaled_dot_product_attention(q, k, v)
    y.mul_(2)
    with pytest.raises(RuntimeError, match="written in place"):
        y.sum().backward()


@pytest.mark.parametrize("change", ["scale", "wide", "float64", "odd leading dimensions"])
def test_what_is_not_taken_goes_through_the_weights(change, card):
    shapes = [(2, 3, 4, 5)] * 3
    if change == "wide":
        shapes = [(3, 200)] * 3
    if change == "odd leading dimensions":
        shapes = [(2, 3, 2, 4, 5), (3, 1, 6, 5), (3, 1, 6, 5)]
    to = "d" if change == "float64" else "f"
    arrays = [R.standard_normal(n).astype(to) for n in shapes]
    scale = -0.5 if change == "scale" else 0.5
    assert flash.attention(*map(card.asarray, arrays), None, scale) is NotImplemented
    y = scaled_dot_product_attention(*(gf.tensor(x).cuda() for x in arrays), scale=scale)
    assert_close(y.cpu().numpy(), scaled_dot_product_attention(*arrays, scale=scale))


def test_older_cards_and_small_ones(card, monkeypatch):
    """Without tensor cores of float accumulators half types go through the weights; tiles must fit shared memory."""
    half = [card.asarray(R.standard_normal((3, 16)).astype(np.float16)) for _ in range(3)]
    single, wide = ([card.asarray(R.standard_normal((3, n)).astype("f")) for _ in range(3)] for n in (16, 100))
    monkeypatch.setattr(launch, "capability", lambda device=0: (7, 5))
    monkeypatch.setattr(flash, "_most_shared", lambda device: 64 << 10)
    assert flash.attention(*half) is NotImplemented
    assert flash.attention(*wide) is NotImplemented
    assert flash.attention(*single).shape == (3, 16)


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_bytes_moved_are_the_least(dtype, card):
    """Where one block holds all queries or keys every array moves once, 16 bytes at a time, without conflicts of banks."""
    n, e = 64, 64
    q, k, v, g = (card.asarray(R.standard_normal((1, 1, n, e)).astype(dtype)) for _ in range(4))
    reserve, one, sums = [], n * e * q.itemsize, 4 * n
    with card.traffic() as moved:
        y = flash.attention(q, k, v, None, 0.125, True, 0.0, (0, 0), reserve)
        flash.attention_backward(g, q, k, v, None, 0.125, True, 0.0, (0, 0), reserve, (True,) * 4, y)
    forward, queries, keys = moved.launches
    assert (forward.loaded, forward.stored) == (3 * one, one + sums)  # q k v; y and its sums
    assert (queries.distinct_loaded, queries.stored) == (5 * one + sums, one + sums)  # and y and g; dq and delta
    assert (keys.loaded, keys.stored) == (4 * one + 2 * sums, 2 * one)  # q k v g and those; dk dv
    assert forward.conflicts == keys.conflicts == 0
    for m in moved.launches:
        assert m.wide > 0.96
        assert m.efficiency > 0.98
        assert m.conflicts < 0.3  # one pass over g for delta


def test_second_derivatives(card):
    arrays = [R.standard_normal((2, 5, 4)).astype("f") for _ in range(3)]

    def second(device):
        inputs = [gf.tensor(x).to(device).requires_grad_() for x in arrays]
        y = scaled_dot_product_attention(*inputs, is_causal=True)
        first = grad(y.square().sum(), inputs, create_graph=True)
        return grad(sum(d.square().sum() for d in first), inputs)

    for a, b in zip(second("cuda"), second("cpu"), strict=True):
        assert_close(a.cpu().numpy(), b.numpy(), scale=10)


def test_captured_dropout_draws_anew(card):
    """Forward and backward of one replay drop the same weights, two replays different ones."""
    q, k, v, g = (gf.tensor(R.standard_normal((1, 2, 9, 16)).astype("f")).cuda() for _ in range(4))
    v.requires_grad_()

    def step():
        y = scaled_dot_product_attention(q, k, v, dropout_p=0.5)
        return y.detach(), grad(y, v, g)[0]

    side = gf.cuda.Stream()
    with gf.cuda.stream(side):
        step()
        graph = gf.cuda.CUDAGraph()
        with gf.cuda.graph(graph, stream=side):
            outputs = step()
    seen = []
    for _ in range(2):
        graph.replay()
        gf.cuda.synchronize()
        seen.append([x.cpu().numpy().astype(float) for x in outputs])
        y, dv = seen[-1]
        assert_close((y * g.cpu().numpy()).sum(), (dv * v.detach().cpu().numpy()).sum(), dtype="float32", scale=10)
    assert not np.array_equal(seen[0][0], seen[1][0])
