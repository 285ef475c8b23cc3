"""Attention: values from a loop over queries, masks of every kind, gradients of two orders, PyTorch's options."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from tolerance import assert_close

import gradflow as gf
from gradflow.autograd import grad, gradcheck, gradgradcheck
from gradflow.ops import attention_blocks, linalg, random, softmax
from gradflow.ops.attention import attention, attention_backward, scaled_dot_product_attention

R = np.random.default_rng(0)
NONE = np.array([[True, False, True, True], [False] * 4, [False, True, False, False]])  # its second query sees nothing


def r(*shape):
    return R.standard_normal(shape)


def t(*shape):
    return gf.tensor(r(*shape), requires_grad=True)


def loop(q, k, v, mask=None, scale=None, causal=False):
    """One head, query by query."""
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    y = np.zeros((len(q), v.shape[-1]))
    for i, row in enumerate(q):
        seen = [j for j in range(len(k)) if not (causal and j > i)]
        if mask is not None and mask.dtype == bool:
            seen = [j for j in seen if mask[i, j]]
        bias = np.zeros(len(k)) if mask is None or mask.dtype == bool else mask[i]
        e = {j: math.exp(scale * (row @ k[j]) + bias[j]) for j in seen}
        if sum(e.values()) > 0:
            y[i] = sum(w * v[j] for j, w in e.items()) / sum(e.values())
    return y


MASKS = {"none": None, "bool": NONE, "float": r(3, 4), "inf": np.where(NONE, 0.3, -math.inf)}


@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("name", [*MASKS, "causal"])
def test_attention_is_the_loop_over_queries(name, scale):
    q, k, v = r(2, 2, 3, 5), r(2, 2, 4, 5), r(2, 2, 4, 2)
    mask, causal = MASKS.get(name), name == "causal"
    y = scaled_dot_product_attention(q, k, v, mask, is_causal=causal, scale=scale)
    for at in itertools.product(range(2), range(2)):
        assert_close(y[at], loop(q[at], k[at], v[at], mask, scale, causal))


def test_masks_broadcast():
    q, k, v, mask = r(2, 3, 3, 5), r(2, 3, 4, 5), r(2, 3, 4, 2), r(2, 1, 1, 4)
    y = scaled_dot_product_attention(q, k, v, mask)
    for b, h in itertools.product(range(2), range(3)):
        assert_close(y[b, h], loop(q[b, h], k[b, h], v[b, h], np.broadcast_to(mask[b, 0], (3, 4))))


def test_large_scores_do_not_overflow():
    q, k, v = 1e3 * r(2, 3), 1e3 * r(4, 3), r(4, 2)
    y = scaled_dot_product_attention(q, k, v)
    best = (q @ k.T).argmax(1)
    assert_close(y, v[best], scale=1e3)


def test_grouped_queries_share_keys():
    q, k, v = r(2, 6, 3, 5), r(2, 2, 4, 5), r(2, 3, 4, 2)
    y = scaled_dot_product_attention(q, k, v, enable_gqa=True)
    for b, h in itertools.product(range(2), range(6)):
        assert_close(y[b, h], loop(q[b, h], k[b, h // 3], v[b, h // 2]))


def test_queries_that_see_nothing_give_zeros_and_zero_gradients():
    for mask in (NONE, np.where(NONE, 0.0, -math.inf)):
        q, k, v = t(3, 5), t(4, 5), t(4, 2)
        y = scaled_dot_product_attention(q, k, v, mask)
        assert (y.detach().numpy()[1] == 0).all()
        for g in grad(y.sum(), [q, k, v], create_graph=True):
            assert np.isfinite(g.detach().numpy()).all()
        assert (grad(scaled_dot_product_attention(q, k, v, mask).sum(), q)[0].numpy()[1] == 0).all()


def test_dropout_uses_the_generators_bits():
    q, k, v = t(2, 3, 5), t(2, 4, 5), t(2, 4, 2)
    gf.manual_seed(3)
    y = scaled_dot_product_attention(q, k, v, dropout_p=0.4)
    gf.manual_seed(3)
    p = random.drop(softmax.softmax(linalg.matmul(q, linalg.mT(k)) / math.sqrt(5), -1), 0.4)
    assert_close(y.detach().numpy(), (p @ v).detach().numpy())
    for a, b in zip(grad(y.square().sum(), [q, k, v]), grad((p @ v).square().sum(), [q, k, v]), strict=True):
        assert_close(a.numpy(), b.numpy())
    assert (scaled_dot_product_attention(q, k, v, dropout_p=1.0).detach().numpy() == 0).all()
    before = gf.default_generator.get_state()
    scaled_dot_product_attention(q, k, v)
    assert gf.default_generator.get_state() == before


@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"scale": 0.2}, {"enable_gqa": True}], ids=str)
def test_gradients(options):
    heads = 2 if "enable_gqa" in options else 4
    q, k, v = t(2, 4, 3, 2), t(2, heads, 3, 2), t(2, heads, 3, 2)

    def function(*args):
        return scaled_dot_product_attention(*args, **options)

    inputs = (q, k, v) if "is_causal" in options else (q, k, v, t(4, 3, 3))
    assert gradcheck(function, inputs, fast_mode=True)
    assert gradgradcheck(function, inputs, fast_mode=True)


def test_gradients_with_and_without_the_reserve():
    g, q, k, v, mask, reserve = r(2, 3, 2), r(2, 3, 5), r(2, 4, 5), r(2, 4, 2), r(3, 4), []
    attention(q, k, v, mask, 0.5, reserve=reserve)
    kept = reserve[0].copy()
    with_it = attention_backward(g, q, k, v, mask, 0.5, reserve=reserve)
    np.testing.assert_array_equal(reserve[0], kept)
    for a, b in zip(with_it, attention_backward(g, q, k, v, mask, 0.5), strict=True):
        np.testing.assert_array_equal(a, b)
    for i in range(4):
        part = attention_backward(g, q, k, v, mask, 0.5, reserve=reserve, needs=tuple(i == j for j in range(4)))
        assert [d is not None for d in part] == [i == j for j in range(4)]
        np.testing.assert_array_equal(part[i], with_it[i])


@pytest.mark.parametrize("rows", [2, 3, 8])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", ["none", "bool", "broadcast", "keys"])
def test_block_by_block(name, causal, rows, monkeypatch):
    """What long sequences go through on the CPU, here with blocks of few queries."""
    monkeypatch.setattr(attention_blocks, "LEAST", 0)
    monkeypatch.setattr(attention_blocks, "MOST", 0)
    monkeypatch.setattr(attention_blocks, "ROWS", rows)
    mask = {"none": None, "bool": NONE, "broadcast": r(2, 1, 3, 4) > -0.5, "keys": r(1, 4) > -0.5}[name]
    q, k, v = t(2, 2, 3, 5), t(2, 2, 4, 5), t(2, 2, 4, 2)
    reserve = []
    y = attention(q, k, v, mask, 0.4, causal, reserve=reserve)
    assert reserve[0] is None
    whole = None if mask is None else np.broadcast_to(mask, (2, 2, 3, 4))
    for at in itertools.product(range(2), range(2)):
        arrays = (x.detach().numpy()[at] for x in (q, k, v))
        assert_close(y.detach().numpy()[at], loop(*arrays, None if whole is None else whole[at], 0.4, causal))
    assert gradcheck(lambda *args: attention(*args, mask, 0.4, causal, reserve=[]), (q, k, v), fast_mode=True)
    few = t(2, 3, 5), t(2, 1, 4, 5), t(4, 2)  # and where dimensions broadcast
    mask = mask if name != "broadcast" else None
    assert gradcheck(lambda *args: attention(*args, mask, 0.4, causal, reserve=[]), few, fast_mode=True)


@pytest.mark.parametrize("drop", [0.0, 0.4])
def test_values_may_have_dimensions_of_their_own(drop):
    arrays = t(3, 5), t(4, 5), t(2, 4, 2)
    assert gradcheck(lambda *args: attention(*args, None, 0.5, False, drop, (3, 1), []), arrays, fast_mode=True)


def test_a_second_walk_gives_the_same():
    q, k, v = t(3, 5), t(4, 5), t(4, 2)
    y = scaled_dot_product_attention(q, k, v).sum()
    for a, b in zip(grad(y, [q, k, v], retain_graph=True), grad(y, [q, k, v]), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_types_are_computed_in_float32(dtype):
    to = gf.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    q, k, v, mask = r(3, 5).astype(to), r(4, 5).astype(to), r(4, 2).astype(to), r(3, 4).astype("f")
    y = scaled_dot_product_attention(q, k, v, mask)
    assert y.dtype == to
    assert_close(y, loop(*(x.astype(float) for x in (q, k, v)), mask.astype(to).astype(float)).astype(to))


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize(
    "options", [{}, {"is_causal": True}, {"dropout_p": 0.3}, {"mask": "bool"}, {"mask": "float"}], ids=str
)
def test_attention_on_the_card(options, dtype, card):
    to, options = gf.bfloat16 if dtype == "bfloat16" else np.dtype(dtype), dict(options)
    mask = MASKS[options.pop("mask", "none")]
    arrays = [x.astype(to) for x in (r(2, 2, 3, 5), r(2, 2, 4, 5), r(2, 2, 4, 2))]
    arrays += [mask.astype(to)] if mask is not None and mask.dtype != bool else []

    def walk(inputs):
        gf.manual_seed(1)
        seen = inputs[3] if len(inputs) > 3 else mask if mask is None else gf.tensor(mask).to(inputs[0].device)
        y = scaled_dot_product_attention(*inputs[:3], seen, **options)
        return [y, *grad((y * y).sum(), inputs)]

    here = walk([gf.tensor(a.astype("f") if a.dtype.itemsize == 2 else a, requires_grad=True) for a in arrays])
    there = walk([gf.tensor(a).cuda().requires_grad_() for a in arrays])
    for a, b in zip(there, here, strict=True):
        assert a.is_cuda
        assert_close(a.detach().cpu().numpy(), b.detach().numpy().astype(to), scale=4 if to.itemsize == 2 else 1)


ERRORS = [
    (lambda: scaled_dot_product_attention(r(3), r(3), r(3)), "wanted at least two dimensions"),
    (lambda: scaled_dot_product_attention(r(2, 3), r(2, 3), r(2, 3).astype("f")), "wanted one floating dtype"),
    (lambda: scaled_dot_product_attention(r(2, 3), r(2, 4), r(2, 3)), r"wanted \(..., l, e\)"),
    (lambda: scaled_dot_product_attention(r(2, 3), r(2, 3), r(3, 3)), r"wanted \(..., l, e\)"),
    (lambda: scaled_dot_product_attention(r(2, 2, 3), r(3, 2, 3), r(3, 2, 3)), "wanted leading sizes that broadcast"),
    (lambda: scaled_dot_product_attention(r(2, 3), r(2, 3), r(2, 3), r(2, 2), is_causal=True), "wanted no attn_mask"),
    (lambda: scaled_dot_product_attention(r(2, 3), r(2, 3), r(2, 3), np.ones((2, 2), int)), "wanted a mask of bool or"),
    (lambda: scaled_dot_product_attention(r(2, 3), r(2, 3), r(2, 3), r(3, 2)), "wanted a mask that broadcasts"),
    (lambda: scaled_dot_product_attention(r(2, 3), r(2, 3), r(2, 3), dropout_p=1.5), "wanted a dropout_p in"),
    (lambda: scaled_dot_product_attention(r(4, 2, 3), r(3, 2, 3), r(3, 2, 3), enable_gqa=True), "wanted heads of key"),
]


@pytest.mark.parametrize(("call", "message"), ERRORS)
def test_errors(call, message):
    with pytest.raises(RuntimeError, match=f"^scaled_dot_product_attention: {message}"):
        call()


# --- PyTorch ---------------------------------------------------------------------------------------------------

SAMPLES = [
    {}, {"is_causal": True}, {"scale": 0.7}, {"attn_mask": "bool"}, {"attn_mask": "float"}, {"attn_mask": "inf"},
    {"enable_gqa": True}, {"enable_gqa": True, "attn_mask": "bool", "scale": 2.0},
]  # fmt: skip


@pytest.mark.reference
@pytest.mark.parametrize("options", SAMPLES, ids=str)
def test_as_pytorch(options):
    torch = pytest.importorskip("torch")
    heads = 2 if "enable_gqa" in options else 4
    arrays = [r(2, 4, 3, 5), r(2, heads, 4, 5), r(2, heads, 4, 5)]
    theirs = [torch.tensor(x, requires_grad=True) for x in arrays]
    ours = [gf.tensor(x, requires_grad=True) for x in arrays]
    kwargs, ours_too = dict(options), dict(options)
    if "attn_mask" in options:
        mask = MASKS[options["attn_mask"]]
        kwargs["attn_mask"] = torch.tensor(mask, requires_grad=mask.dtype != bool)
        ours_too["attn_mask"] = gf.tensor(mask, requires_grad=mask.dtype != bool)
        if mask.dtype != bool:
            theirs.append(kwargs["attn_mask"])
            ours.append(ours_too["attn_mask"])
    z = torch.nn.functional.scaled_dot_product_attention(*theirs[:3], **kwargs)
    y = scaled_dot_product_attention(*ours[:3], **ours_too)
    assert_close(y.detach().numpy(), z.detach().numpy())
    g = r(*z.shape)
    z.backward(torch.tensor(g))
    y.backward(gf.tensor(g))
    for a, b in zip(ours, theirs, strict=True):
        assert_close(a.grad.numpy(), b.grad.numpy())
