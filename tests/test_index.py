"""Indexing, gathering, scattering, embedding: loops, refusals and repeated positions, then PyTorch beside them."""

from __future__ import annotations

import numpy as np
import pytest
from beside import beside
from tolerance import assert_close

import gradflow as gf
from gradflow import backend
from gradflow.ops import embedding, gather, index


def leaf(*shape):
    return gf.tensor(np.arange(float(np.prod(shape, dtype=int))).reshape(shape), requires_grad=True)


# --- what may stand between the brackets -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "error", "words"),
    [
        (3, IndexError, "getitem: index 3 is out of bounds for dimension 0 with size 3"),
        ((0, -5), IndexError, "getitem: index -5 is out of bounds for dimension 1 with size 4"),
        ((0, 0, 0), IndexError, "getitem: wanted at most 2 indices, saw 3"),
        ((..., ...), IndexError, "at most one Ellipsis"),
        (slice(None, None, -1), ValueError, "a step above zero"),
        (slice(None, None, 0), ValueError, "a step above zero"),
        (1.0, IndexError, "wanted ints, slices"),
        ("a", IndexError, "wanted ints, slices"),
        (np.array([0.0]), IndexError, "wanted an index of int or bool, saw float64"),
        (np.array([True, False]), IndexError, r"wanted a mask of shape \(3,\) at dimension 0, saw \(2,\)"),
        ((slice(None), np.array([True])), IndexError, r"wanted a mask of shape \(4,\) at dimension 1"),
        (np.array([0, 3]), IndexError, "index_get: index 3 is out of bounds"),
        (np.array([-4]), IndexError, "index_get"),
        ((np.array([0, 1]), np.array([0, 1, 2])), IndexError, "index_get"),
    ],
)
def test_refused_indices(where, error, words):
    with pytest.raises(error, match=words):
        gf.zeros(3, 4)[where]
    if "index_get" not in words:
        with pytest.raises(error, match=words):
            gf.zeros(3, 4)[where] = 1


def test_a_0d_tensor_cannot_be_indexed_by_ints():
    x = gf.tensor(1.0)
    with pytest.raises(IndexError):
        x[0]
    assert x[...].item() == x[()].item() == 1 and x[None].shape == (1,)


def test_every_kind_of_index():
    x = leaf(3, 4)
    assert x[1].tolist() == x[np.int64(1)].tolist() == x[gf.tensor(1)].tolist() == x[True][0][1].tolist()
    assert x[-1, ::2].tolist() == [8, 10] and x[..., 0].tolist() == [0, 4, 8] and x[:, None].shape == (3, 1, 4)
    assert (
        x[[0, 2]].tolist()
        == x[np.array([0, 2])].tolist()
        == x[gf.tensor([0, 2])].tolist()
        == x[range(0, 3, 2)].tolist()
    )
    assert x[[True, False, True]].shape == (2, 4) and x[x > 5].tolist() == [6, 7, 8, 9, 10, 11]
    assert x[[]].shape == (0, 4) and x[False].shape == (0, 3, 4) and x[0, [1, 1]].tolist() == [1, 1]
    assert [row[0].item() for row in x] == [0, 4, 8] and len(x) == 3 and 5.0 in x


def test_ints_are_taken_before_arrays():
    x = np.arange(24.0).reshape(2, 3, 4)
    assert gf.tensor(x)[0, :, [1, 2]].shape == (3, 2)  # NumPy counts the int as an array: (2, 3)
    assert_close(gf.tensor(x)[0, :, [1, 2]].numpy(), x[0][:, [1, 2]])
    assert gf.tensor(x)[[0, 1], :, [1, 2]].shape == (2, 3)  # a slice between two arrays: theirs comes first


# --- sums of rows, against loops -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "complex64", "int64"])
@pytest.mark.parametrize(
    ("m", "n", "width"), [(0, 3, 2), (5, 3, 0), (1, 1, 1), (9, 4, 1), (40, 50, 33), (200, 3, 40), (50, 2, 7)]
)
def test_segment_sum_against_a_loop(m, n, width, dtype):
    rng = np.random.default_rng(m)
    x = (rng.standard_normal((m, width)) * 4).astype(dtype)
    ids = rng.integers(0, n, m)
    expected = np.zeros((n, width), np.result_type(dtype, np.float64) if dtype != "int64" else dtype)
    for i in range(m):
        expected[ids[i]] += x[i]
    y = index.segment_sum(x, ids, n)
    assert y.dtype == x.dtype
    assert_close(y, expected.astype(dtype), scale=4)


@pytest.mark.cuda
@pytest.mark.parametrize("width", [1, 3, 300])
@pytest.mark.parametrize("numbers", ["one", "few", "many", "sorted", "outside"])
def test_long_runs_on_the_card(numbers, width, card):
    rng = np.random.default_rng(0)
    m = 1200 if width < 300 else 100  # three rounds of chunks
    ids = {
        "one": np.full(m, 1), "few": rng.integers(0, 3, m), "many": rng.integers(0, m, m),
        "sorted": np.sort(rng.integers(0, 40, m)), "outside": rng.integers(-2, m + 3, m),
    }[numbers]  # fmt: skip
    x = rng.standard_normal((m, width))
    expected = np.zeros((m, width))
    for i in range(m):
        if 0 <= ids[i] < m:
            expected[ids[i]] += x[i]
    for dtype in (np.float64, np.float16):
        first, again = (
            card.asnumpy(index.segment_sum(card.asarray(x.astype(dtype)), card.asarray(ids), m)) for _ in range(2)
        )
        assert_close(first, expected.astype(dtype), scale=20)
        assert (first == again).all()


@pytest.mark.cuda
@pytest.mark.parametrize("n", [9, 700, 5000, 2**21, 2**40])
def test_numbers_sorted_digit_by_digit(n, card, monkeypatch):
    from gradflow.cuda import index as launcher

    rng = np.random.default_rng(n)
    # blocks with a few numbers and full ones, once more of them than lanes add up at a time; and the sort of a few numbers
    for m, few in ((1, 0), (2100, 0), (4096, 0), (70000 if n == 700 else 1, 0), (2100, 2100)):
        ids = rng.integers(-3, n + 4, m)
        if n == 5000:
            ids = np.where(rng.random(m) < 0.5, 4999, ids)  # more of one than a warp has
        ids[-1] = n - 1
        keys = np.where((ids < 0) | (ids >= n), n, ids)
        expected = np.argsort(keys, kind="stable")
        monkeypatch.setattr(launcher, "MANY", few)
        order, found = launcher._in_order(card.asarray(ids), n)
        np.testing.assert_array_equal(card.asnumpy(order), expected)
        np.testing.assert_array_equal(card.asnumpy(found), keys[expected])


@pytest.mark.cuda
def test_scans_of_many_chunks_on_the_card(card):
    from gradflow.ops import scan

    rng = np.random.default_rng(0)
    for shape, dim in (((2, 2500), 1), ((2500, 2), 0), ((2, 150, 3), 1), ((3, 33), 1)):
        x = rng.standard_normal(shape)
        a = rng.uniform(-1, 1, shape)
        on = card.asarray
        for dtype in (np.float64, np.float16):
            v, w = x.astype(dtype), a.astype(dtype)
            assert_close(
                card.asnumpy(scan.cumsum(on(v), dim)), scan.cumsum(v.astype(np.float64), dim).astype(dtype), scale=20
            )
            y = card.asnumpy(scan.linear_recurrence(on(w), on(v), dim))
            assert_close(
                y, scan.linear_recurrence(w.astype(np.float64), v.astype(np.float64), dim).astype(dtype), scale=20
            )
        y = card.asnumpy(scan.cumprod(on(1 + x / 50), dim))
        assert_close(y, np.cumprod(1 + x / 50, dim), scale=20)


# --- repeated positions ------------------------------------------------------------------------------------


def test_reading_twice_adds_gradients():
    x = leaf(3)
    x[[0, 0, 2, 0]].sum().backward()
    assert x.grad.tolist() == [3, 0, 1]


def test_of_a_position_written_twice_the_last_stays():
    values = leaf(4)
    x = leaf(3)
    y = x * 1
    y[[1, 1, 0, 1]] = values
    assert y.tolist() == [2, 3, 2]
    (y * gf.tensor([1.0, 10, 100])).sum().backward()
    assert values.grad.tolist() == [0, 0, 1, 10] and x.grad.tolist() == [0, 0, 100]


@pytest.mark.cuda
def test_of_a_position_written_twice_the_last_stays_on_the_card(card):
    rng = np.random.default_rng(2)
    for where, read in (
        ((np.array([1, 1, 0, -2]),), (4, 4)),
        ((slice(None), np.array([[1, 1], [0, 1]])), (3, 2, 2)),
        ((np.array([1, 1, 0]), np.array([2, 2, 3])), (3,)),
    ):
        x, value = rng.standard_normal((3, 4)), rng.standard_normal(read)
        expected = x.copy()
        expected[where] = value
        to = tuple(card.asarray(i) if isinstance(i, np.ndarray) else i for i in where)
        assert_close(card.asnumpy(index.index_put(card.asarray(x), to, card.asarray(value))), expected)
        t = gf.wrap(card.asarray(x)) if hasattr(gf, "wrap") else gf.op.wrap(card.asarray(x))
        t[to] = card.asarray(value)
        assert_close(card.asnumpy(t.array), expected)


@pytest.mark.cuda
def test_indices_move_to_the_card(card):
    x = gf.op.wrap(card.arange(12.0).reshape(3, 4))
    x.requires_grad_()
    y = x[[2, 0]]
    assert isinstance(y.array, card.ndarray)
    (
        y.sum() + x[np.array([True, False, False])].sum() + x.gather(1, gf.op.wrap(card.asarray([[1, 1]]))).sum()
    ).backward()
    assert backend.asnumpy(x.grad.array).tolist() == [[2, 4, 2, 2], [0] * 4, [1] * 4]
    with pytest.raises(RuntimeError, match="wanted an index on the cpu"):
        gf.zeros(3)[card.asarray([0])]


# --- scatter and gather -----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["sum", "prod", "mean", "amax", "amin"])
@pytest.mark.parametrize("include_self", [True, False])
def test_scatter_reduce_against_a_loop(way, include_self):
    rng = np.random.default_rng(4)
    x, src = rng.uniform(0.5, 2, (3, 4)), rng.uniform(0.5, 2, (5, 3))
    ids = rng.integers(0, 3, (5, 3))
    combine = {"sum": np.sum, "prod": np.prod, "mean": np.mean, "amax": np.max, "amin": np.min}[way]
    expected = x.copy()
    for j in range(3):
        for k in range(3):
            met = [src[i, j] for i in range(5) if ids[i, j] == k]
            if met:
                expected[k, j] = combine([x[k, j]] * include_self + met)
    y = gf.tensor(x).scatter_reduce(0, gf.tensor(ids), gf.tensor(src), way, include_self=include_self)
    assert_close(y.numpy(), expected)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x, i: x.gather(0, i.float()), RuntimeError, "gather: wanted an index of ints"),
        (lambda x, i: x.gather(0, i[0]), RuntimeError, "gather: wanted an index within"),
        (lambda x, i: x.gather(1, gf.zeros(4, 1, dtype=gf.int64)), RuntimeError, "gather: wanted an index within"),
        (lambda x, i: x.gather(0, i - 1), RuntimeError, "gather: index -1 is out of bounds"),
        (lambda x, i: x.gather(0, i + 3), RuntimeError, "gather: index 3 is out of bounds"),
        (lambda x, i: x.scatter_add(1, i + 4, x), RuntimeError, "scatter_add: index 4 is out of bounds"),
        (lambda x, i: x.scatter_reduce(1, i + 4, x, "amax"), RuntimeError, "scatter_reduce: index 4 is out of bounds"),
        (lambda x, i: x.index_add(0, i[0] - 1, x[:2]), IndexError, "index_add: index -1 is out of bounds"),
        (lambda x, i: x.index_add(0, i[0], x), RuntimeError, "index_add: wanted a source of shape"),
        (lambda x, i: x.index_copy(0, i[0], x[:2].double()), RuntimeError, "index_copy: wanted a source of x's dtype"),
        (lambda x, i: x.gather(2, i), IndexError, "gather: wanted a dimension"),
        (lambda x, i: x.scatter(0, i, x[:1, :1]), RuntimeError, "scatter: wanted a source of"),
        (lambda x, i: x.scatter(0, i, x, "divide"), RuntimeError, "scatter: wanted reduce"),
        (lambda x, i: x.scatter_reduce(0, i, x, "add"), RuntimeError, "scatter_reduce: wanted reduce"),
        (lambda x, i: x.index_select(0, i), IndexError, "index_select: wanted a vector of ints"),
        (lambda x, i: x.index_select(0, gf.tensor([3])), IndexError, "out of bounds"),
        (lambda x, i: x.masked_fill(i, 1), RuntimeError, "masked_fill: wanted a mask of bool"),
        (lambda x, i: x.masked_fill(x > 0, x[0]), RuntimeError, "masked_fill: wanted a number or a 0-d tensor"),
        (lambda x, i: x.masked_scatter(x == 0, x[:0]), RuntimeError, "masked_scatter: wanted a source of 12"),
        (lambda x, i: x.take(gf.tensor([12])), IndexError, "out of bounds"),
        (lambda x, i: x.index_put((slice(0, 1),), x), IndexError, "index_put: wanted arrays"),
    ],
)
def test_refusals(call, error, words):
    with pytest.raises(error, match=words):
        call(gf.zeros(3, 4), gf.zeros(2, 2, dtype=gf.int64))


# --- embedding --------------------------------------------------------------------------------------------


def test_embedding_refuses():
    w = np.zeros((3, 2))
    for ids, words in ((np.array([3]), r"rows in \[0, 3\), saw 3"), (np.array([-1]), r"rows in \[0, 3\), saw -1")):
        with pytest.raises(IndexError, match=words):
            embedding.embedding(gf.tensor(ids), gf.tensor(w))
    with pytest.raises(RuntimeError, match="wanted ints for ids"):
        embedding.embedding(gf.tensor([0.5]), gf.tensor(w))
    with pytest.raises(RuntimeError, match="padding_idx"):
        embedding.embedding(gf.tensor([0]), gf.tensor(w), 3)


def test_embedding_gradient_against_a_loop():
    rng = np.random.default_rng(0)
    ids, g = rng.integers(0, 4, (3, 5)), rng.standard_normal((3, 5, 2))
    for padding, scale in ((None, False), (1, False), (-1, True)):
        expected = np.zeros((4, 2))
        for k in range(4):
            rows = g[ids == k]
            expected[k] = (
                0 if padding is not None and k == padding % 4 else rows.sum(0) / (max(len(rows), 1) if scale else 1)
            )
        assert_close(embedding.embedding_backward(g, ids, 4, padding, scale), expected)


@pytest.mark.cuda
def test_the_gradient_of_a_large_batch_is_captured(card):
    """Forty thousand rows: their sums are those of a loop, and a graph, in which no host may wait, has the same bits."""
    from gradflow.cuda import launch

    rng = np.random.default_rng(0)
    n, ids, w = 3000, rng.integers(0, 3000, 40000), gf.zeros(3000, 2).cuda().requires_grad_()
    g = rng.standard_normal((40000, 2)).astype(np.float32)
    offsets, there = gf.tensor(np.arange(0, 40000, 4)).cuda(), gf.tensor(g).cuda()

    def table(ids):
        return gf.autograd.grad(gf.nn.functional.embedding(ids, w, 5, scale_grad_by_freq=True), [w], there)[0]

    def bags(ids):
        return gf.autograd.grad(gf.nn.functional.embedding_bag(ids, w, offsets, mode="sum", padding_idx=5), [w], there[:10000])[0]

    times = np.bincount(ids, minlength=n)[:, None]
    for step, rows in ((table, g), (bags, np.repeat(g[:10000], 4, 0))):
        expected = np.zeros((n, 2))
        np.add.at(expected, ids, rows.astype(np.float64))
        if step is table:
            expected /= np.maximum(times, 1)
        expected[5] = 0
        before, x = launch.count, gf.tensor(ids.astype(np.int32) if step is table else ids).cuda()
        captured = gf.cuda.graph(step, warmup=1)
        eager = captured(x)
        # two digits, three launches each, and four rounds of sums, for the frequencies or the bags as for the rows
        assert launch.count - before == 20
        assert_close(eager.cpu().numpy(), expected.astype(np.float32), scale=8)
        for _ in range(2):  # captured, and replayed
            again = captured(x)
        np.testing.assert_array_equal(again.cpu().numpy(), eager.cpu().numpy())


def test_one_hot():
    assert gather.one_hot(np.array([1, 0, 2])).tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1]]
    for ids, n in ((np.array([3]), 3), (np.array([-1]), 3), (np.array([0.5]), 3), (np.zeros(0, int), -1)):
        with pytest.raises(RuntimeError, match="one_hot"):
            gather.one_hot(ids, n)


# --- PyTorch beside -------------------------------------------------------------------------------------------


IDS = [[0, 2, 1, 0], [1, 1, 0, 2]]


def reducing(way):
    return lambda lib, x, y: [
        x[0].scatter_reduce(dim, lib.tensor(IDS), y, way, include_self=keep) for dim in (0, 1) for keep in (True, False)
    ]


CALLS = {
    "ints": lambda lib, x, y: (x[1], x[-1, 2], x[0, 1, -1], x[..., 1]),
    "slices": lambda lib, x, y: (x[1:, ::2], x[:, -2:, 1:3], x[:0], x[None, ..., None], x[:, 1][:, 2:][0]),
    "arrays": lambda lib, x, y: (
        x[[0, 1, 0]],
        x[:, [2, 0]],
        x[..., lib.tensor([[0, 3], [1, 1]])],
        x[lib.tensor([], dtype=lib.int64)],
    ),
    "two-arrays": lambda lib, x, y: (
        x[[0, 1], [2, 0]],
        x[:, [0, 2], [1, 1]],
        x[[0, 1], :, [3, 3]],
        x[[[0], [1]], [0, 2]],
    ),
    "mixed": lambda lib, x, y: (
        x[0, :, [1, 2]],
        x[[0, 1], 1, 1:],
        x[1:, [0, 0]],
        x[None, [0], ..., 2],
        x[:, None, [1, 0]],
    ),
    "masks": lambda lib, x, y: (
        x[x > 0],
        x[lib.tensor([True, False])],
        x[:, lib.tensor([True, False, True])],
        x[0, x[0] < 0],
    ),
    "mask-and-array": lambda lib, x, y: (
        x[lib.tensor([True, True]), [0, 1]],
        x[[1], x[0, :, 0] > -9],
        x[True],
        x[False],
    ),
    "gather": lambda lib, x, y: (
        x.gather(1, lib.tensor([IDS])),
        lib.gather(x, -1, lib.tensor([[[0, 3], [1, 1]]])),
        x[0, 0].gather(0, lib.tensor([1, 1])),
    ),
    "scatter": lambda lib, x, y: (
        x[0].scatter(0, lib.tensor([[0, 1, 2, 0]]), y[:1]),
        x[0].scatter(0, lib.tensor([[0, 1, 2, 0]]), 2.5),
        lib.scatter(x[0], 1, lib.tensor([[3], [0]]), y[:, :1]),
    ),
    "scatter_add": lambda lib, x, y: (
        x[0].scatter_add(0, lib.tensor(IDS), y),
        lib.scatter_add(x[0], 1, lib.tensor([[1, 1], [1, 1]]), y[:, 1:3]),
    ),
    **{f"scatter_{way}": reducing(way) for way in ("sum", "mean", "prod", "amax", "amin")},
    "index_select": lambda lib, x, y: (x.index_select(1, lib.tensor([2, 0, 2])), lib.index_select(x, 0, lib.tensor(1))),
    "index_add": lambda lib, x, y: (
        x[0].index_add(0, lib.tensor([2, 2]), y),
        lib.index_add(x[0], 0, lib.tensor([0, 1]), y, alpha=3),
    ),
    "index_copy": lambda lib, x, y: (
        x[0].index_copy(0, lib.tensor([2, 0]), y),
        x[0].index_fill(1, lib.tensor([0, 3]), 7.0),
    ),
    "index_put": lambda lib, x, y: (
        x[0].index_put((lib.tensor([0, 2]),), y),
        x[0].index_put((lib.tensor([1, 1]), lib.tensor([0, 0])), y[0, :2], accumulate=True),
        x[0].index_put((x[0] > 0,), y[0, 0]),
        x[0].index_put((lib.tensor([1, 1]),), y[0], True),
    ),
    "masked_fill": lambda lib, x, y: (x.masked_fill(x > 0, -1.0), lib.masked_fill(x, y[:1] > 0, y[0, 0])),
    "masked_select": lambda lib, x, y: (
        x.masked_select(x > 0),
        lib.masked_select(x, y[1] > 0),
        y.masked_select(x[:, :1, :1] > -9),
    ),
    "masked_scatter": lambda lib, x, y: (x[0].masked_scatter(x[0] > 0.5, y), x[0].masked_scatter(y[:1] > 9, y)),
    "take": lambda lib, x, y: (
        x.take(lib.tensor([[0, 5], [-1, 5]])),
        lib.take_along_dim(x, x.argsort(1), 1),
        y.take_along_dim(lib.tensor([3, 3])),
    ),
    "where": lambda lib, x, y: (lib.where(x > 0, x, y[:1]), lib.where(y > 0, y, 0.0), x.where(x < 0, x * 2)),
    "places": lambda lib, x, y: (x.nonzero(), lib.argwhere(x > 0), *x.nonzero(as_tuple=True), (y > 0).nonzero()),
    "embedding": lambda lib, x, y: lib.nn.functional.embedding(lib.tensor([[0, 2], [2, 2]]), x[0], padding_idx=0),
}


@pytest.mark.reference
@pytest.mark.parametrize("name", CALLS)
def test_beside_pytorch(name, pytorch):
    rng = np.random.default_rng(0)
    beside(
        pytorch,
        CALLS[name],
        rng.standard_normal((2, 3, 4)),
        rng.standard_normal((2, 4)),
        order=1 if name == "embedding" else 2,
    )


@pytest.mark.reference
def test_scatter_ties_and_zeros_beside_pytorch(pytorch):
    x, y = np.round(np.random.default_rng(1).standard_normal((2, 3, 4))), np.zeros((2, 4))
    for way in ("amax", "amin", "prod"):
        beside(pytorch, lambda lib, x, y, way=way: x[0].scatter_reduce(0, lib.tensor(IDS), y, way), x, y, order=1)


@pytest.mark.reference
def test_scattering_with_more_source_than_index_beside_pytorch(pytorch):
    x, y = np.random.default_rng(1).standard_normal((2, 3, 4)), np.random.default_rng(2).standard_normal((3, 4))
    for call in (
        lambda lib, x, y: x[0].scatter_add(0, lib.tensor([[1, 1], [0, 1]]), y),
        lambda lib, x, y: x[0].scatter(1, lib.tensor([[3], [0]]), y),
        lambda lib, x, y: x[0].scatter(0, lib.tensor([[0, 2]]), 2.0, reduce="multiply"),
    ):
        beside(pytorch, call, x, y, grad=False)


def test_bytes_are_a_mask():
    x = gf.arange(3)
    assert x[gf.tensor([1, 0, 1], dtype=gf.uint8)].tolist() == [0, 2]
