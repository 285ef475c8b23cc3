"""Pooling: values and gradients by plain loops, ties, NaN, infinity, last windows, the card's counters."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from tolerance import assert_close

import gradflow as gf
from gradflow.ops import pool

NAMED = {name: f for name, f in vars(pool).items() if "_pool" in name and not name.startswith("_")}


def regular(size, k, s, p, d, ceil_mode):
    """The windows of one dim as lists of places, -1 for each place in the padding and None for what lies beyond it."""
    room = size + 2 * p - d * (k - 1) - 1
    count = (math.ceil(room / s) if ceil_mode else room // s) + 1
    if ceil_mode and (count - 1) * s >= size + p:
        count -= 1

    def at(i):
        return i if 0 <= i < size else -1 if i < size + p else None

    return [[at(o * s - p + t * d) for t in range(k)] for o in range(count)]


def adaptive(size, out):
    return [list(range(math.floor(i * size / out), math.ceil((i + 1) * size / out))) for i in range(out)]


def cells(x, dims):
    """Of every window: the output, the places in the plane that it sees, how many it covers with the padding."""
    sizes = x.shape[-len(dims) :]
    for o in product(*(range(len(d)) for d in dims)):
        seen = list(product(*(dims[i][a] for i, a in enumerate(o))))
        inside = [c for c in seen if all(a is not None and a >= 0 for a in c)]
        yield o, [int(np.ravel_multi_index(c, sizes)) for c in inside], sum(all(a is not None for a in c) for c in seen)


def largest(x, dims):
    lead, shape = x.shape[: -len(dims)], tuple(map(len, dims))
    values, indices = np.empty((*lead, *shape)), np.empty((*lead, *shape), int)
    planes = x.reshape(*lead, -1)
    for o, places, _ in cells(x, dims):
        for i in np.ndindex(lead):
            best = places[0]
            for p in places:
                if planes[i][p] > planes[i][best] or np.isnan(planes[i][p]):
                    best = p
            values[i + o], indices[i + o] = planes[i][best], best
    return values, indices


def mean(x, dims, count_include_pad=False, divisor=None):
    lead = x.shape[: -len(dims)]
    y, planes = np.zeros((*lead, *map(len, dims))), x.reshape(*lead, -1)
    for o, places, covered in cells(x, dims):
        size = divisor or (covered if count_include_pad else len(places))
        for i in np.ndindex(lead):
            y[i + o] = sum(planes[i][p] for p in places) / size
    return y


WINDOWS = [  # x, kernel, stride, padding, dilation, ceil_mode
    ((2, 3, 7), 2, 2, 0, 1, False),
    ((2, 9), 3, 2, 1, 2, True),
    ((2, 2, 4, 6), 2, 2, 0, 1, False),
    ((1, 2, 5, 7), 3, 2, 1, 1, False),
    ((1, 2, 6, 5), 3, 2, 1, 1, True),
    ((1, 2, 5, 5), 2, 3, 1, 1, True),
    ((2, 7, 6), (2, 3), (1, 2), (1, 0), (2, 1), False),
    ((2, 7, 6), (3, 2), (3, 3), (1, 1), (1, 2), True),
    ((1, 1, 1, 1), 2, 2, 0, 1, True),
    ((1, 2, 4, 4), 4, 3, 1, 1, False),  # one window, as large as the input, but not the input
    ((1, 2, 4, 3, 5), (2, 1, 2), (1, 2, 2), (1, 0, 1), 1, False),
]


def tuples(v, rank):
    return (v,) * rank if isinstance(v, int) else v


@pytest.mark.parametrize("how", WINDOWS, ids=str)
def test_max_pool_by_loops(how):
    shape, k, s, p, d, ceil_mode = how
    rank = 2 if shape == (2, 7, 6) else 1 if len(shape) < 4 else len(shape) - 2
    dims = [
        regular(n, *v, ceil_mode)
        for n, *v in zip(shape[-rank:], *(tuples(v, rank) for v in (k, s, p, d)), strict=True)
    ]
    rng = np.random.default_rng(0)
    for x in (rng.standard_normal(shape), rng.integers(0, 3, shape).astype(float)):
        values, indices = NAMED[f"max_pool{rank}d_with_indices"](x, k, s, p, d, ceil_mode)
        expected = largest(x, dims)
        assert_close(values, expected[0])
        assert (indices == expected[1]).all()
        assert indices.dtype == np.int64
        g, dx = rng.standard_normal(values.shape), np.zeros(shape)
        for o in np.ndindex(values.shape):
            dx.reshape(*shape[:-rank], -1)[o[:-rank]][indices[o]] += g[o]
        t = gf.tensor(x, requires_grad=True)
        NAMED[f"max_pool{rank}d"](t, k, s, p, d, ceil_mode).backward(gf.tensor(g))
        assert_close(t.grad.numpy(), dx)


@pytest.mark.parametrize("count_include_pad", [True, False])
@pytest.mark.parametrize("how", [w for w in WINDOWS if w[4] == 1], ids=str)
def test_avg_pool_by_loops(how, count_include_pad):
    shape, k, s, p, _, ceil_mode = how
    rank = 1 if len(shape) < 4 else len(shape) - 2
    dims = [
        regular(n, *v, 1, ceil_mode) for n, *v in zip(shape[-rank:], *(tuples(v, rank) for v in (k, s, p)), strict=True)
    ]
    x = np.random.default_rng(1).standard_normal(shape)
    function = NAMED[f"avg_pool{rank}d"]
    assert_close(function(x, k, s, p, ceil_mode, count_include_pad), mean(x, dims, count_include_pad))
    if rank > 1:
        assert_close(function(x, k, s, p, ceil_mode, count_include_pad, 5), mean(x, dims, divisor=5))
    g = np.random.default_rng(2).standard_normal([*shape[:-rank], *map(len, dims)])
    dx, planes = np.zeros(shape), math.prod(shape[:-rank])
    for o, places, covered in cells(x, dims):
        for place in places:
            part = g.reshape(planes, *map(len, dims))[(slice(None), *o)]
            dx.reshape(planes, -1)[:, place] += part / (covered if count_include_pad else len(places))
    assert_close(NAMED[f"avg_pool{rank}d_backward"](g, shape, k, s, p, ceil_mode, count_include_pad), dx)


@pytest.mark.parametrize(
    ("shape", "out"),
    [
        ((2, 3, 7), (3,)),
        ((2, 2, 7, 5), (3, 2)),
        ((1, 2, 6, 4), (3, 2)),
        ((2, 3, 4), (5, 1)),
        ((1, 2, 3, 4, 5), (2, 4, 3)),
    ],
)
def test_adaptive_by_loops(shape, out):
    rank = len(out)
    dims = [adaptive(n, m) for n, m in zip(shape[-rank:], out, strict=True)]
    x = np.random.default_rng(3).standard_normal(shape)
    assert_close(NAMED[f"adaptive_avg_pool{rank}d"](x, out), mean(x, dims))
    values, indices = NAMED[f"adaptive_max_pool{rank}d"](x, out, return_indices=True)
    expected = largest(x, dims)
    assert_close(values, expected[0])
    assert (indices == expected[1]).all()
    g = np.random.default_rng(4).standard_normal(values.shape)
    planes = math.prod(shape[:-rank])
    most, even = np.zeros((planes, math.prod(shape[-rank:]))), np.zeros((planes, math.prod(shape[-rank:])))
    for o, places, _ in cells(x, dims):
        part = g.reshape(planes, *out)[(slice(None), *o)]
        for i in range(planes):
            most[i, indices.reshape(planes, *out)[(i, *o)]] += part[i]
        for place in places:
            even[:, place] += part / len(places)
    assert_close(NAMED[f"max_pool{rank}d_backward"](g, indices, shape), most.reshape(shape))
    assert_close(NAMED[f"adaptive_avg_pool{rank}d_backward"](g, shape), even.reshape(shape))


def special_values():
    x = np.random.default_rng(5).standard_normal((1, 2, 6, 6))
    x[0, 0, 1, 1] = x[0, 0, 4, 3] = x[0, 0, 4, 4] = np.nan
    x[0, 1, :3, :4] = -np.inf
    x[0, 1, 5, 5] = np.inf
    return x


SPECIAL = [(2, 2, 0, 1), (3, 2, 1, 1), (3, 1, 1, 2)]


@pytest.mark.parametrize("how", SPECIAL, ids=str)
def test_nan_and_infinity(how):
    """A NaN wins, the last of several; a window of -inf gives -inf at its first place, never one in the padding."""
    x = special_values()
    values, indices = pool.max_pool2d_with_indices(x, *how)
    expected = largest(x, [regular(6, *how, False)] * 2)
    np.testing.assert_array_equal(values, expected[0])
    np.testing.assert_array_equal(indices, expected[1])


@pytest.mark.parametrize("dtype", ["int64", "uint8", "float16"])
def test_max_pool_of_other_dtypes(dtype):
    x = np.random.default_rng(6).integers(0, 200, (1, 1, 6, 6)).astype(dtype)
    values, indices = pool.max_pool2d_with_indices(x, 3, 2, 1)
    assert values.dtype == dtype
    expected = largest(x.astype(float), [regular(6, 3, 2, 1, 1, False)] * 2)
    np.testing.assert_array_equal(values, expected[0])
    np.testing.assert_array_equal(indices, expected[1])


def test_max_pool_gives_indices_when_asked():
    x = gf.tensor(np.arange(16.0).reshape(1, 1, 4, 4), requires_grad=True)
    values = pool.max_pool2d(x, 2)
    both = pool.max_pool2d(x, 2, return_indices=True)
    assert values.tolist() == both[0].tolist() == [[[[5, 7], [13, 15]]]]
    assert both[1].tolist() == [[[[5, 7], [13, 15]]]]
    assert values.requires_grad
    assert not both[1].requires_grad


def test_lp_pool():
    """sum(x^p)^(1/p), by hand; a mean of p = 1 windows times their size."""
    x = np.abs(np.random.default_rng(7).standard_normal((2, 3, 6, 4)))
    expected = ((x**3).reshape(2, 3, 3, 2, 2, 2).sum((3, 5))) ** (1 / 3)
    assert_close(pool.lp_pool2d(x, 3, 2), expected)
    assert_close(pool.lp_pool1d(x[0], 1, 4), x[0].sum(-1, keepdims=True))
    assert_close(pool.lp_pool3d(x, 2, (3, 2, 2)), np.sqrt((x**2).reshape(2, 1, 3, 3, 2, 2, 2).sum((2, 4, 6))))


ONES = np.ones((1, 2, 5, 5))


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("max_pool2d", (np.ones((5, 5)), 2), "wanted an input of 3 .unbatched. or 4 dims"),
        ("max_pool2d", (np.ones((1, 0, 5, 5)), 2), "wanted channels and sizes above zero"),
        ("max_pool2d", (ONES, 0), "wanted kernel_size of 1 at least"),
        ("max_pool2d", (ONES, (2, 2, 2)), "wanted one kernel_size or 2, saw 3"),
        ("max_pool2d", (ONES, 2, 0), "wanted stride of 1 at least"),
        ("max_pool2d", (ONES, 2, 1, -1), "wanted padding of 0 at least"),
        ("max_pool2d", (ONES, 3, 1, 2), "wanted a padding of half the kernel size 3 at most, saw 2"),
        ("max_pool2d", (ONES, 2, 1, 0, 0), "wanted dilation of 1 at least"),
        ("max_pool2d", (ONES, 6), "wanted windows within the padded input of 5"),
        ("max_pool2d", (ONES[..., :2, :2], 2, 1, 1, 3), "wanted an element in every window"),
        ("avg_pool2d", (ONES, 6), "wanted windows within the padded input of 5"),
        ("avg_pool2d", (ONES, 2, 1, 0, False, True, 0), "wanted a divisor_override other than zero"),
        ("avg_pool2d_backward", (ONES, (1, 2, 5, 5), 2), "wanted an output gradient of shape"),
        ("adaptive_avg_pool2d", (ONES, (2, 2, 2)), "wanted one output_size or 2"),
        ("adaptive_max_pool2d", (ONES, -1), "wanted output_size of 0 at least"),
        ("max_pool2d_backward", (ONES, np.zeros((1, 2, 4, 4), int), (1, 2, 5, 5), 2), "wanted g and indices of one"),
    ],
)
def test_errors(name, args, message):
    with pytest.raises(RuntimeError, match=f"{name}.*: {message}"):
        NAMED[name](*args)


# --- on the card ------------------------------------------------------------------------------------------------------


def on_the_card(card, name, *args):
    op = NAMED[name].op
    full = op.bind(*args)
    y = op.kernel.twin(*[card.asarray(a) if isinstance(a, np.ndarray) else a for a in full])
    return [card.asnumpy(v) for v in (y if isinstance(y, tuple) else (y,))]


@pytest.mark.cuda
@pytest.mark.parametrize("how", SPECIAL, ids=str)
def test_nan_and_infinity_on_the_card(card, how):
    x = special_values()
    values, indices = on_the_card(card, "max_pool2d_with_indices", x, *how)
    expected = largest(x, [regular(6, *how, False)] * 2)
    np.testing.assert_array_equal(values, expected[0])
    np.testing.assert_array_equal(indices, expected[1])


@pytest.mark.cuda
def test_other_dtypes_run_the_definition_on_the_card(card):
    x = np.random.default_rng(9).integers(0, 9, (1, 2, 5, 5))
    values, indices = pool.max_pool2d_with_indices(card.asarray(x), 2)
    expected = pool.max_pool2d_with_indices(x, 2)
    np.testing.assert_array_equal(card.asnumpy(values), expected[0])
    np.testing.assert_array_equal(card.asnumpy(indices), expected[1])


# --- against PyTorch --------------------------------------------------------------------------------------------------


@pytest.mark.reference
def test_random_arguments_against_pytorch():
    """The same sizes, values, places and refusals for arguments drawn at random."""
    torch = pytest.importorskip("torch")
    rng, agreed = np.random.default_rng(10), 0
    for _ in range(200):
        x = rng.integers(-9, 9, (2, 2, *rng.integers(1, 9, 2))).astype(float)
        k, s, p, d = (tuple(map(int, rng.integers(low, high, 2))) for low, high in ((1, 5), (1, 5), (0, 3), (1, 3)))
        ceil_mode, counted = bool(rng.integers(2)), bool(rng.integers(2))
        out = tuple(map(int, rng.integers(1, 6, 2)))
        for name, args in (
            ("max_pool2d_with_indices", (k, s, p, d, ceil_mode)),
            ("avg_pool2d", (k, s, p, ceil_mode, counted)),
            ("adaptive_max_pool2d_with_indices", (out,)),
            ("adaptive_avg_pool2d", (out,)),
        ):
            t = torch.from_numpy(x)
            try:
                expected = getattr(torch.nn.functional, name)(t, *args)
                refused = name.startswith("max") and bool(torch.isinf(expected[0]).any())  # a window without elements
            except RuntimeError:
                refused = True
            if refused:
                with pytest.raises(RuntimeError, match=name):
                    NAMED[name](x, *args)
                continue
            got = NAMED[name](x, *args)
            for a, b in zip(*((v if isinstance(v, tuple) else (v,)) for v in (got, expected)), strict=True):
                assert_close(a, b.numpy(), what=f"{name} {x.shape} {args}")
            agreed += 1
    assert agreed > 400
