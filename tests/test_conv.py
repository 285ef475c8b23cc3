"""Convolutions: values by plain loops, adjoints, errors, pieces of any size, tiles of any size on the card."""

from __future__ import annotations

import copy
from itertools import product

import numpy as np
import pytest
from tolerance import assert_close

import gradflow as gf
from gradflow import backend
from gradflow.cuda import launch
from gradflow.ops import conv, correlate
from gradflow.ops.window import transposed, window

NAMED = {
    name: getattr(conv, name)
    for rank in (1, 2, 3)
    for name in (f"conv{rank}d", f"conv{rank}d_input", f"conv{rank}d_weight", f"conv_transpose{rank}d")
}


def tuples(v, rank):
    return (v,) * rank if isinstance(v, int) else tuple(v)


def pairs(padding, kernel, dilation):
    if padding == "valid":
        return [(0, 0)] * len(kernel)
    if padding == "same":
        return [((k - 1) * d // 2, (k - 1) * d - (k - 1) * d // 2) for k, d in zip(kernel, dilation, strict=True)]
    return [(p, p) for p in tuples(padding, len(kernel))]


def triples(x_shape, w_shape, stride, padding, dilation, groups):
    """(y's shape, all (place in y, place in x, place in w) whose product a convolution adds up), by the definition."""
    rank = len(w_shape) - 2
    stride, dilation = tuples(stride, rank), tuples(dilation, rank)
    around = pairs(padding, w_shape[2:], dilation)
    (n, _, *sizes), (k, cg, *kernel) = x_shape, w_shape
    out = [
        (m + sum(p) - (t - 1) * d - 1) // s + 1
        for m, t, s, d, p in zip(sizes, kernel, stride, dilation, around, strict=True)
    ]
    found = []
    for o, t in product(product(*map(range, out)), product(*map(range, kernel))):
        at = tuple(a * s - p[0] + b * d for a, b, s, d, p in zip(o, t, stride, dilation, around, strict=True))
        if all(0 <= a < m for a, m in zip(at, sizes, strict=True)):
            for image, channel, c in product(range(n), range(k), range(cg)):
                found.append(((image, channel, *o), (image, channel // (k // groups) * cg + c, *at), (channel, c, *t)))
    return (n, k, *out), found


def loops(x, w, b, stride, padding, dilation, groups):
    shape, found = triples(x.shape, w.shape, stride, padding, dilation, groups)
    y = np.zeros(shape)
    for o, i, t in found:
        y[o] += x[i] * w[t]
    return y if b is None else y + b.reshape(-1, *[1] * (x.ndim - 2))


GEOMETRIES = [  # x, w, stride, padding, dilation, groups
    ((2, 3, 7), (4, 3, 3), 1, 0, 1, 1),
    ((1, 4, 9), (6, 2, 2), 2, 3, 2, 2),
    ((2, 2, 5, 6), (3, 2, 3, 3), 1, 1, 1, 1),
    ((2, 2, 5, 6), (3, 2, 3, 3), 2, 1, 1, 1),
    ((1, 2, 6, 5), (3, 2, 2, 4), 1, "same", 1, 1),
    ((1, 2, 6, 7), (3, 2, 4, 3), 1, "same", (1, 2), 1),
    ((1, 2, 6, 7), (3, 2, 4, 3), 1, "valid", 1, 1),
    ((1, 4, 7, 6), (4, 2, 3, 2), (3, 2), (0, 2), (2, 1), 2),
    ((2, 3, 5, 4), (6, 1, 3, 3), 1, 1, 1, 3),
    ((2, 3, 4, 5), (2, 3, 1, 1), 1, 0, 1, 1),
    ((1, 2, 2, 2), (1, 2, 2, 2), 1, 4, 1, 1),
    ((1, 2, 5, 5), (2, 2, 2, 2), 4, 0, 1, 1),
    ((1, 2, 3, 4, 3), (4, 1, 2, 1, 3), (1, 2, 1), (1, 0, 1), 1, 2),
]


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_values_and_gradients_by_loops(geometry):
    x_shape, w_shape, *how = geometry
    rng, rank = np.random.default_rng(0), len(x_shape) - 2
    x, w, b = rng.standard_normal(x_shape), rng.standard_normal(w_shape), rng.standard_normal(w_shape[0])
    shape, found = triples(x_shape, w_shape, *how)
    g, dx, dw = rng.standard_normal(shape), np.zeros(x_shape), np.zeros(w_shape)
    for o, i, t in found:
        dx[i] += g[o] * w[t]
        dw[t] += g[o] * x[i]
    assert_close(NAMED[f"conv{rank}d"](x, w, b, *how), loops(x, w, b, *how))
    assert_close(NAMED[f"conv{rank}d_input"](g, w, x_shape, *how), dx)
    assert_close(NAMED[f"conv{rank}d_weight"](g, x, w_shape, *how), dw)
    a, v, c = (gf.tensor(u, requires_grad=True) for u in (x, w, b))
    NAMED[f"conv{rank}d"](a, v, c, *how).backward(gf.tensor(g))
    assert_close(a.grad.numpy(), dx)
    assert_close(v.grad.numpy(), dw)
    assert_close(c.grad.numpy(), g.sum(tuple(d for d in range(g.ndim) if d != 1)))


@pytest.mark.parametrize(
    ("x_shape", "w_shape", "stride", "padding", "extra", "groups", "dilation"),
    [
        ((2, 3, 4), (3, 2, 3), 3, 1, 2, 1, 1),
        ((2, 3, 4, 3), (3, 2, 3, 3), 1, 0, 0, 1, 1),
        ((1, 4, 3, 3), (4, 2, 4, 2), 2, (1, 0), (0, 1), 2, 1),
        ((1, 2, 3, 2), (2, 1, 3, 3), 1, 2, 1, 2, 3),
        ((1, 2, 2, 3, 2), (2, 2, 2, 1, 3), 2, 1, 1, 1, 1),
    ],
)
def test_transposed_values_by_loops(x_shape, w_shape, stride, padding, extra, groups, dilation):
    rng, rank = np.random.default_rng(1), len(x_shape) - 2
    x, w = rng.standard_normal(x_shape), rng.standard_normal(w_shape)
    b = rng.standard_normal(w_shape[1] * groups)
    strides, paddings, extras, dilations = (tuples(v, rank) for v in (stride, padding, extra, dilation))
    sizes = [
        (n - 1) * s - 2 * p + d * (k - 1) + e + 1
        for n, s, p, d, k, e in zip(x_shape[2:], strides, paddings, dilations, w_shape[2:], extras, strict=True)
    ]
    y = np.zeros((x_shape[0], w_shape[1] * groups, *sizes))
    for (n, k, *i), (c, *t) in product(np.ndindex(x_shape), np.ndindex(w_shape[1:])):
        at = [a * s - p + u * d for a, s, p, u, d in zip(i, strides, paddings, t, dilations, strict=True)]
        if all(0 <= a < m for a, m in zip(at, sizes, strict=True)):
            y[(n, k // (w_shape[0] // groups) * w_shape[1] + c, *at)] += x[(n, k, *i)] * w[(k, c, *t)]
    got = NAMED[f"conv_transpose{rank}d"](x, w, b, stride, padding, extra, groups, dilation)
    assert_close(got, y + b.reshape(-1, *[1] * rank))


def test_unbatched_input_gives_unbatched_output():
    rng = np.random.default_rng(2)
    x, w, b = rng.standard_normal((3, 5, 4)), rng.standard_normal((2, 3, 3, 3)), rng.standard_normal(2)
    assert_close(conv.conv2d(x, w, b, 1, 1), conv.conv2d(x[None], w, b, 1, 1)[0])
    v = rng.standard_normal((3, 2, 3, 3))
    assert_close(conv.conv_transpose2d(x, v, b, 2), conv.conv_transpose2d(x[None], v, b, 2)[0])


@pytest.mark.parametrize("buffer", [1, 50, 400])
@pytest.mark.parametrize("geometry", [g for g in GEOMETRIES if len(g[0]) == 4], ids=str)
def test_pieces_of_any_size_give_the_same(geometry, buffer, monkeypatch):
    """The buffer of windows is bounded: a batch is done in pieces of some images and some rows."""
    (n, *rest), w_shape, *how = geometry
    rng, x_shape = np.random.default_rng(3), (5 * n, *rest)
    x, w = rng.standard_normal(x_shape), rng.standard_normal(w_shape)
    y = conv.conv2d(x, w, None, *how)
    g = rng.standard_normal(y.shape)
    dx, dw = conv.conv2d_input(g, w, x_shape, *how), conv.conv2d_weight(g, x, w_shape, *how)
    monkeypatch.setattr(correlate, "BUFFER", buffer)
    monkeypatch.setattr(correlate, "IMAGES", 3)
    assert_close(conv.conv2d(x, w, None, *how), y)
    assert_close(conv.conv2d_input(g, w, x_shape, *how), dx)
    assert_close(conv.conv2d_weight(g, x, w_shape, *how), dw)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_types_add_in_float32(dtype):
    dtype = backend.bfloat16() if dtype == "bfloat16" else np.dtype(dtype)
    x, w = np.full((1, 600, 2, 2), 1.0).astype(dtype), np.full((1, 600, 1, 1), 1.0).astype(dtype)
    x[0, 0] = 2048  # in a half type 2048 + 1 is 2048
    y = conv.conv2d(x, w)
    assert y.dtype == dtype
    assert (y.astype(np.float32) == np.float32(2647).astype(dtype).astype(np.float32)).all()


def test_third_order():
    """Each of conv2d and its gradients is made of the others, so orders do not end."""
    rng = np.random.default_rng(4)
    x, w = rng.standard_normal((1, 2, 4, 4)), rng.standard_normal((2, 2, 3, 3))
    along = [rng.standard_normal(v.shape) for v in (x, w)]

    def second(a, v):
        """The second derivative of sum(conv(x, w)^3) along a direction."""
        a, v = gf.tensor(a, requires_grad=True), gf.tensor(v, requires_grad=True)
        value = (conv.conv2d(a, v, None, 1, 1) ** 3).sum()
        for _ in range(2):
            da, dv = gf.autograd.grad(value, (a, v), create_graph=True)
            value = (da * gf.tensor(along[0])).sum() + (dv * gf.tensor(along[1])).sum()
        return a, v, value

    a, v, value = second(x, w)
    da, dv = gf.autograd.grad(value, (a, v))
    got = (da.numpy() * along[0]).sum() + (dv.numpy() * along[1]).sum()
    h = 1e-4
    ahead, behind = (second(x + s * along[0], w + s * along[1])[2].item() for s in (h, -h))
    assert abs(got - (ahead - behind) / (2 * h)) < 1e-6 * abs(got)


ONES = np.ones


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("conv2d", (ONES((1, 4, 5, 5)), ONES((2, 3, 3, 3))), "wanted an input of 3 channels"),
        ("conv2d", (ONES((5, 5)), ONES((2, 3, 3, 3))), "wanted an input of 3 .unbatched. or 4 dims"),
        ("conv2d", (ONES((1, 3, 5, 5)), ONES((2, 3, 3))), "wanted a weight of 4 dims"),
        ("conv2d", (ONES((1, 3, 5, 5)), ONES((2, 3, 7, 3))), "wanted a kernel within the padded input"),
        ("conv2d", (ONES((1, 3, 5, 5)), ONES((2, 3, 3, 3)), None, 0), "wanted stride of 1 at least"),
        ("conv2d", (ONES((1, 3, 5, 5)), ONES((2, 3, 3, 3)), None, 1, -1), "wanted padding of 0 at least"),
        ("conv2d", (ONES((1, 3, 5, 5)), ONES((2, 3, 3, 3)), None, 1, 0, 0), "wanted dilation of 1 at least"),
        ("conv2d", (ONES((1, 3, 5, 5)), ONES((2, 3, 3, 3)), None, (1, 1, 1)), "wanted one stride or 2, saw 3"),
        ("conv2d", (ONES((1, 4, 5, 5)), ONES((3, 2, 3, 3)), None, 1, 0, 1, 2), "wanted groups that divide 3"),
        ("conv2d", (ONES((1, 4, 5, 5)), ONES((3, 4, 3, 3)), None, 1, 0, 1, 0), "wanted groups that divide 3"),
        ("conv2d", (ONES((1, 3, 5, 5)), ONES((2, 3, 3, 3)), ONES(3)), "wanted a bias of shape .2,."),
        ("conv2d", (ONES((1, 3, 5, 5)), ONES((2, 3, 3, 3), "f")), "of one dtype"),
        ("conv2d", (ONES((1, 3, 5, 5)), ONES((2, 3, 3, 3)), None, 2, "same"), "wanted a stride of 1 with"),
        ("conv2d", (ONES((1, 3, 5, 5)), ONES((2, 3, 3, 3)), None, 1, "full"), "'valid' or 'same', saw 'full'"),
        ("conv2d_input", (ONES((1, 2, 5, 5)), ONES((2, 3, 3, 3)), (1, 3, 5, 5)), "wanted an output gradient of shape"),
        ("conv2d_weight", (ONES((1, 2, 5, 5)), ONES((1, 3, 5, 5)), (2, 3, 3, 3)), "wanted an output gradient of shape"),
        ("conv_transpose2d", (ONES((1, 2, 5, 5)), ONES((3, 2, 3, 3))), "wanted an input of 3 channels"),
        ("conv_transpose2d", (ONES((1, 2, 5, 5)), ONES((2, 2, 3, 3)), None, 2, 0, 2), "wanted an output_padding below"),
        ("conv_transpose2d", (ONES((1, 2, 1, 1)), ONES((2, 2, 1, 1)), None, 1, 1), "wanted an output of positive"),
    ],
)
def test_errors(name, args, message):
    with pytest.raises(RuntimeError, match=f"^{name}: .*{message}"):
        NAMED[name](*args)
    with pytest.raises(RuntimeError, match=f"^{name}: .*{message}"):
        NAMED[name](*(gf.tensor(a) if isinstance(a, np.ndarray) else a for a in args))


def test_a_number_that_is_no_integer_is_a_type_error():
    with pytest.raises(TypeError, match=r"^conv2d: wanted stride of integers, saw 1\.5"):
        conv.conv2d(np.ones((1, 1, 3, 3)), np.ones((1, 1, 2, 2)), None, 1.5)


def test_a_transposed_convolution_reverses_exactly_its_input():
    for stride, padding, extra, dilation in product((1, 2, 3), (0, 1, 2), (0, 1, 2), (1, 3)):
        if extra >= max(stride, dilation):
            continue
        shape, around = transposed("t", 1, (1, 2, 5), (2, 3, 3), stride, padding, extra, dilation, 1)
        assert window("t", 1, shape, (2, 3, 3), stride, around, dilation, 1).out == (5,)


# --- on the card ------------------------------------------------------------------------------------------------------


def on_the_card(card, name, *args):
    """The twin's result and the definition's, in float32 or wider, of the same arguments."""
    op = NAMED[name].op
    full = op.bind(*args)
    y = op.kernel.twin(*[card.asarray(a) if isinstance(a, np.ndarray) else a for a in full])
    wide = [a.astype(np.promote_types(a.dtype, np.float32)) if isinstance(a, np.ndarray) else a for a in full]
    return card.asnumpy(y), op.definition(*wide).astype(y.dtype)


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_large_tiles_and_parts_on_the_card(card, dtype, monkeypatch):
    """What only large products ask for, asked of small ones."""
    from gradflow.cuda import conv as cuda

    monkeypatch.setattr(cuda, "WAVE", 1)
    monkeypatch.setattr(cuda, "PART", 8)
    rng = np.random.default_rng(5)
    for x_shape, w_shape, *how in [
        ((2, 66, 5, 7), (130, 66, 3, 2), 1, 1, 1, 1),
        ((1, 130, 9, 4), (70, 130, 2, 3), (2, 1), 1, (1, 2), 1),
        ((2, 136, 3, 3), (144, 68, 2, 2), 1, 1, 1, 2),
        ((1, 66, 4, 3, 5), (130, 66, 1, 3, 2), (2, 1, 3), (0, 1, 1), (1, 1, 2), 1),
    ]:
        name = f"conv{len(x_shape) - 2}d"
        x, w, b = (rng.standard_normal(s).astype(dtype) for s in (x_shape, w_shape, w_shape[:1]))
        y, expected = on_the_card(card, name, x, w, b, *how)
        assert_close(y, expected)
        g = rng.standard_normal(y.shape).astype(dtype)
        assert_close(*on_the_card(card, f"{name}_input", g, w, x_shape, *how))
        for wave in (1, 64):  # one part, several parts
            monkeypatch.setattr(cuda, "WAVE", wave)
            assert_close(*on_the_card(card, f"{name}_weight", g, x, w_shape, *how))
        monkeypatch.setattr(cuda, "WAVE", 1)


@pytest.mark.cuda
def test_parts_and_wide_counters_of_depthwise_on_the_card(card, monkeypatch):
    from gradflow.cuda import depthwise

    monkeypatch.setattr(depthwise, "PART", 8)
    monkeypatch.setattr(depthwise, "NARROW", 0)
    rng = np.random.default_rng(6)
    how = (2, (1, 2), (2, 1), 3)
    x, w = rng.standard_normal((3, 3, 9, 7)), rng.standard_normal((6, 1, 2, 5))
    y, expected = on_the_card(card, "conv2d", x, w, None, *how)
    assert_close(y, expected)
    g = rng.standard_normal(y.shape)
    assert_close(*on_the_card(card, "conv2d_input", g, w, x.shape, *how))
    assert_close(*on_the_card(card, "conv2d_weight", g, x, w.shape, *how))


@pytest.mark.cuda
def test_launches_on_the_card(card):
    """One launch for a convolution with its bias; none, and no kernel, for what the kernels do not take."""
    from gradflow.cuda import launch

    x, w, b = (card.asarray(np.ones(s, "f")) for s in ((2, 3, 4, 4), (5, 3, 3, 3), (5,)))
    before = launch.count
    assert conv.conv2d(x, w, b).shape == (2, 5, 2, 2)
    assert launch.count == before + 1
    assert conv.conv2d(x[:0], w, b).shape == (0, 5, 2, 2)
    y = conv.conv2d(x.astype(np.int64), w.astype(np.int64))
    assert launch.count == before + 1
    assert (card.asnumpy(y) == 27).all()
    with pytest.raises(RuntimeError, match="conv2d: wanted all tensors on one device"):
        conv.conv2d(x, np.ones((5, 3, 3, 3), "f"))


# --- against PyTorch --------------------------------------------------------------------------------------------------


@pytest.mark.reference
def test_random_arguments_against_pytorch():
    """The same sizes, values and refusals for arguments drawn at random."""
    torch = pytest.importorskip("torch")
    rng, agreed = np.random.default_rng(7), 0
    for _ in range(150):
        groups = int(rng.choice([1, 1, 2, 3]))
        x = rng.standard_normal((2, groups * int(rng.integers(1, 3)), *rng.integers(1, 8, 2)))
        w = rng.standard_normal((groups * int(rng.integers(1, 3)), x.shape[1] // groups, *rng.integers(1, 4, 2)))
        how = [tuple(map(int, rng.integers(low, high, 2))) for low, high in ((1, 4), (0, 4), (1, 4))]
        extra = tuple(map(int, rng.integers(0, 3, 2)))
        v = rng.standard_normal((x.shape[1], int(rng.integers(1, 3)), *w.shape[2:]))
        for name, ours, theirs in (
            ("conv2d", (x, w, None, *how, groups), (x, w, None, *how, groups)),
            ("conv_transpose2d", (x, v, None, *how[:2], extra, groups, how[2]), None),
        ):
            args = [torch.from_numpy(a) if isinstance(a, np.ndarray) else a for a in theirs or ours]
            try:
                expected = getattr(torch, name)(*args).numpy()
            except RuntimeError:
                with pytest.raises(RuntimeError, match=name):
                    NAMED[name](*ours)
                continue
            assert_close(NAMED[name](*ours), expected)
            agreed += 1
    assert agreed > 100


def test_a_complex_convolution_is_made_of_four_real_ones():
    rng = np.random.default_rng(3)
    x, w, b = (rng.standard_normal((2, *s)) for s in ((2, 4, 5, 6), (6, 2, 3, 2), (6,)))
    real = [[conv.conv2d(x[i], w[j], None, 2, 1, 1, 2) for j in (0, 1)] for i in (0, 1)]
    y = conv.conv2d(x[0] + 1j * x[1], w[0] + 1j * w[1], b[0] + 1j * b[1], 2, 1, 1, 2)
    want = real[0][0] - real[1][1] + 1j * (real[0][1] + real[1][0]) + (b[0] + 1j * b[1]).reshape(6, 1, 1)
    assert_close(y, want)


def test_an_empty_batch_of_groups():
    y = conv.conv2d(np.ones((0, 4, 5, 5)), np.ones((6, 2, 1, 1)), np.ones(6), groups=2)
    assert y.shape == (0, 6, 5, 5)


@pytest.mark.reference
@pytest.mark.parametrize("name", ["conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"])
def test_order_in_memory_as_pytorch_has_it(name):
    """Values and strides of the output and of gradients; that of the weight is w.grad's, which lies as the weight."""
    torch = pytest.importorskip("torch")
    rank, rng = int(name[-2]), np.random.default_rng(0)
    last, back = (0, *range(2, rank + 2), 1), (0, rank + 1, *range(1, rank + 1))
    kinds = (1, 1, 1), (1, 3, 2), (2, 3, 1), (1, 1, 2)
    for x_last, w_last, (stride, taps, groups) in product((False, True), (False, True), kinds):
        if rank == 1 and w_last:
            continue  # there is no such format, though PyTorch takes a weight of three dims for one
        shapes = (2, 4, 6, 5, 4)[: rank + 2], (4, 4 // groups, *(taps,) * rank)
        orders = [
            v.transpose(last).copy().transpose(back) if turned else v
            for v, turned in zip((rng.standard_normal(s).astype("f") for s in shapes), (x_last, w_last), strict=True)
        ]
        found = []
        for module, function in ((gf, getattr(gf.nn.functional, name)), (torch, getattr(torch.nn.functional, name))):
            x, w = (module.from_numpy(v).requires_grad_() for v in orders)
            y = function(x, w, None, stride, groups=groups)
            g = y.detach() * 2  # lies as y
            y.backward(g)
            dx = module.autograd.grad(function(x, w, None, stride, groups=groups), x, g)[0]
            found.append([(t.detach().numpy(), t.stride()) for t in (y, dx, w.grad)])
        for (ours, strides), (theirs, wanted), what in zip(*found, ("y", "dx", "w.grad"), strict=True):
            assert_close(ours, theirs, what=what)
            assert taps == 1 or strides == wanted, (what, x_last, w_last)


def test_modules_in_channels_last(card):
    """to(memory_format=) lays out what has 4 or 5 dims, the converters the weights of convolutions; an optimizer's state and
    its one launch for all parameters follow.
    """
    nn, last = gf.nn, gf.channels_last
    wide, whole = nn.Conv2d(4, 6, 3), nn.Conv3d(4, 6, (1, 3, 3))
    model = nn.Sequential(wide, nn.Conv2d(6, 4, 1), nn.PReLU(4), nn.Sequential(nn.ConvTranspose2d(4, 6, 3)))
    assert model.to(memory_format=last) is model and wide.weight.is_contiguous(memory_format=last)
    assert model[2].weight.stride() == (1,) and wide.bias.stride() == (1,)
    values = wide.weight.numpy(force=True)
    wide.to(memory_format=gf.contiguous_format)
    assert wide.weight.is_contiguous() and (wide.weight.numpy(force=True) == values).all()
    assert nn.utils.convert_conv2d_weight_memory_format(model, last) is model
    assert wide.weight.stride() == (36, 1, 12, 4) and model[3][0].weight.stride() == (54, 1, 18, 6)
    assert nn.utils.convert_conv3d_weight_memory_format(whole, gf.channels_last_3d).weight.stride() == (36, 1, 36, 12, 4)
    with pytest.raises(RuntimeError, match="wanted 4 dimensions for channels_last"):
        whole.to(memory_format=last)

    plain = gf.nn.Sequential(nn.Conv2d(4, 6, 3), nn.Conv2d(6, 4, 1)).cuda()
    turned = gf.nn.Sequential(nn.Conv2d(4, 6, 3), nn.Conv2d(6, 4, 1))
    turned.load_state_dict(plain.state_dict())
    turned.cuda().to(memory_format=last)
    x = gf.tensor(np.random.default_rng(0).standard_normal((2, 4, 6, 5)).astype("f")).cuda()
    found = []
    for net in (plain, turned):
        optimizer = gf.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        for _ in range(2):
            optimizer.zero_grad()
            net(x).square().sum().backward()
            norm = gf.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            before = launch.count
            optimizer.step()
            assert launch.count - before == 1
        found.append([norm, *net.parameters()])
        again = copy.deepcopy(net)
        optimizer.load_state_dict(optimizer.state_dict())
        assert again[0].weight.stride() == net[0].weight.stride()
        assert optimizer.state[net[0].weight]["momentum_buffer"].stride() == net[0].weight.grad.stride() == net[0].weight.stride()
    assert turned[0].weight.stride() == (36, 1, 12, 4)
    for a, b in zip(*found, strict=True):
        assert_close(a.numpy(force=True), b.numpy(force=True))
