"""Bags of rows and attention from its weights: values by plain loops, gradients, errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tolerance import assert_close

import gradflow as gf
from gradflow.autograd import gradcheck, gradgradcheck
from gradflow.nn import functional as F

rng = np.random.default_rng(6)
IDS, OFFSETS = [3, 1, 1, 0, 2, 3, 3], [0, 3, 3, 6]  # the second bag is empty


def bags(last):
    ends = [*OFFSETS[1:], len(IDS)]
    return [IDS[a:b] for a, b in zip(OFFSETS, ends, strict=True)][: len(OFFSETS) - last]


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("padding", [None, 1, -1])
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags_by_loops(mode, padding, last):
    w = rng.standard_normal((4, 3))
    want = []
    for bag in bags(last):
        rows = [w[i] for i in bag if padding is None or i != padding % 4]
        want.append({"sum": np.sum, "mean": np.mean, "max": np.max}[mode](rows, 0) if rows else np.zeros(3))
    y = F.embedding_bag(
        gf.tensor(IDS), gf.tensor(w), gf.tensor(OFFSETS), mode=mode, padding_idx=padding, include_last_offset=last
    )
    assert_close(y.numpy(), np.array(want))


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_gradients_of_bags(mode):
    w = gf.tensor(rng.standard_normal((4, 2)), requires_grad=True)
    s = gf.tensor(rng.standard_normal(len(IDS)), requires_grad=True)

    def bag(w, s):
        return F.embedding_bag(
            gf.tensor(IDS), w, gf.tensor(OFFSETS), mode=mode, per_sample_weights=s if mode == "sum" else None
        )

    given = [w, s] if mode == "sum" else [w]
    call = bag if mode == "sum" else lambda w: bag(w, None)
    assert gradcheck(call, given)
    assert gradgradcheck(call, given)


def test_frequent_rows_count_less():
    w = gf.tensor(np.zeros((4, 1)), requires_grad=True)
    F.embedding_bag(gf.tensor(IDS), w, gf.tensor(OFFSETS), mode="sum", scale_grad_by_freq=True).sum().backward()
    assert w.grad.tolist() == [[1], [1], [1], [1]]


def test_bags_of_one_length_and_a_norm():
    w = gf.tensor([[3.0, 4.0], [0.0, 1.0], [30.0, 40.0]])
    y = F.embedding_bag(gf.tensor([[0, 1]]), w, max_norm=2.0, mode="sum")
    assert_close(y.numpy(), [[1.2, 2.6]], scale=1e3)
    assert w[2].tolist() == [30, 40]  # was not looked up


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({}, ValueError, "wanted offsets"),
        ({"offsets": [0], "mode": "min"}, ValueError, "a mode sum, mean, max"),
        ({"offsets": [0], "per_sample_weights": [1.0]}, ValueError, "of the input's shape"),
        ({"offsets": [0], "per_sample_weights": [1.0] * 7, "mode": "mean"}, NotImplementedError, "'sum' only"),
        ({"offsets": [0], "mode": "max", "scale_grad_by_freq": True}, ValueError, "neither scale_grad_by_freq"),
        ({"offsets": [1]}, RuntimeError, "a first offset of 0"),
        ({"offsets": [0, 9]}, RuntimeError, "offsets up to 7"),
        ({"offsets": [0], "padding_idx": 4}, RuntimeError, "padding_idx within 4 rows"),
    ],
)
def test_errors_of_bags(kwargs, error, message):
    kwargs = {k: gf.tensor(v) if isinstance(v, list) else v for k, v in kwargs.items()}
    with pytest.raises(error, match=f"^embedding_bag: .*{message}"):
        F.embedding_bag(gf.tensor(IDS), gf.ones(4, 2), **kwargs)


# --- attention ------------------------------------------------------------------------------------------


def attention_by_loops(q, k, v, heads, w_in, b_in, w_out, b_out, mask):
    """One sequence: q (l, e), k and v (s, e), mask (heads, l, s) to add."""
    e = q.shape[1]
    d = e // heads
    q, k, v = (x @ w_in[i * e : (i + 1) * e].T + b_in[i * e : (i + 1) * e] for i, x in enumerate((q, k, v)))
    weights, y = np.zeros((heads, len(q), len(k))), np.zeros((len(q), e))
    for h in range(heads):
        part = slice(h * d, (h + 1) * d)
        for i in range(len(q)):
            scores = np.array([q[i, part] @ k[j, part] / math.sqrt(d) for j in range(len(k))]) + mask[h, i]
            p = np.exp(scores - scores.max())
            weights[h, i] = p / p.sum()
            y[i, part] = weights[h, i] @ v[:, part]
    return y @ w_out.T + b_out, weights


@pytest.mark.parametrize("weighed", [True, False])
def test_attention_by_loops(weighed):
    rows, columns, n, e, heads = 3, 4, 2, 6, 2
    q, k, v = (rng.standard_normal((s, n, e)) for s in (rows, columns, columns))
    w_in, b_in, w_out, b_out = (rng.standard_normal(s) for s in ((3 * e, e), 3 * e, (e, e), e))
    mask = rng.standard_normal((n * heads, rows, columns))
    padding = np.array([[False, False, True, False], [True, False, False, True]])
    y, p = F.multi_head_attention_forward(
        *map(gf.tensor, (q, k, v)), e, heads, gf.tensor(w_in), gf.tensor(b_in), None, None, False, 0.0,
        gf.tensor(w_out), gf.tensor(b_out), attn_mask=gf.tensor(mask), key_padding_mask=gf.tensor(np.where(padding, -np.inf, 0)),
        need_weights=weighed,
    )  # fmt: skip
    for i in range(n):
        both = mask[i * heads : (i + 1) * heads] + np.where(padding[i], -np.inf, 0)
        want, weights = attention_by_loops(q[:, i], k[:, i], v[:, i], heads, w_in, b_in, w_out, b_out, both)
        assert_close(y.numpy()[:, i], want)
        if weighed:
            assert_close(p.numpy()[i], weights.mean(0))
    assert weighed == (p is not None)


def test_added_keys_see_past_the_masks():
    e = 4
    q = gf.tensor(rng.standard_normal((2, e)))
    w, b = gf.tensor(np.eye(e)), gf.tensor(np.zeros(e))
    key = gf.tensor(rng.standard_normal((1, 1, e)))
    y, p = F.multi_head_attention_forward(
        q, q, q, e, 1, gf.tensor(np.tile(np.eye(e), (3, 1))), None, key, key, True, 0.0, w, b,
        attn_mask=gf.tensor(np.ones((2, 2), bool)),
    )  # fmt: skip
    assert p.shape == (2, 4)
    assert_close(p.numpy()[:, :2], np.zeros((2, 2)))
    assert_close(y.numpy(), p.numpy()[:, 2:3] * key.numpy()[0])


def test_errors_of_attention():
    x, w = gf.ones(2, 1, 4), gf.ones(12, 4)
    rest = (None, None, None, False, 0.0, gf.ones(4, 4), None)
    with pytest.raises(AssertionError, match="^multi_head_attention_forward: wanted a query of 6 features"):
        F.multi_head_attention_forward(x, x, x, 6, 2, w, *rest)
    with pytest.raises(RuntimeError, match="^multi_head_attention_forward: is_causal only describes"):
        F.multi_head_attention_forward(x, x, x, 4, 2, w, *rest, is_causal=True)
    with pytest.raises(RuntimeError, match="wanted an attn_mask of shape"):
        F.multi_head_attention_forward(x, x, x, 4, 2, w, *rest, attn_mask=gf.ones(3, 3))


def test_convolution_with_time_first():
    x, w, b = rng.standard_normal((7, 2, 3)), rng.standard_normal((3, 3, 4)), rng.standard_normal(4)
    wide = np.pad(x, ((1, 1), (0, 0), (0, 0)))
    want = np.array([sum(wide[t + i] @ w[i] for i in range(3)) + b for t in range(7)])
    assert_close(gf.conv_tbc(gf.tensor(x), gf.tensor(w), gf.tensor(b), 1).numpy(), want)
