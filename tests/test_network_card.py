"""Functions of networks that are made of several ops: on the card they give what they give on the CPU, gradients too."""

from __future__ import annotations

import numpy as np
import pytest
from tolerance import assert_close

import gradflow as gf
from gradflow import backend
from gradflow.nn import functional as F

pytestmark = pytest.mark.cuda
rng = np.random.default_rng(9)


def r(*shape):
    return rng.standard_normal(shape)


X, GRID = r(2, 3, 5, 4), rng.uniform(-1.5, 1.5, (2, 3, 4, 2))
IDS, OFFSETS = np.array([3, 1, 1, 0, 2, 3]), np.array([0, 3, 3])
CALLS = {
    "grid bilinear": (lambda x, g: F.grid_sample(x, g, "bilinear", "border", False), X, GRID),
    "grid bicubic": (lambda x, g: F.grid_sample(x, g, "bicubic", "reflection", True), X, GRID),
    "grid nearest": (lambda x, g: F.grid_sample(x, g, "nearest", "zeros", False), X, GRID),
    "grid of volumes": (
        lambda x, g: F.grid_sample(x, g, align_corners=True), r(1, 2, 3, 4, 3), rng.uniform(-1.2, 1.2, (1, 2, 2, 3, 3)),
    ),
    "affine grid": (lambda t: F.affine_grid(t, (2, 1, 3, 4), False), r(2, 2, 3)),
    "bilinear": (lambda x: F.interpolate(x, (7, 3), mode="bilinear"), X),
    "antialias": (lambda x: F.interpolate(x, (2, 9), mode="bicubic", antialias=True), X),
    "nearest": (lambda x: F.interpolate(x, scale_factor=1.6), X),
    "unfold": (lambda x: F.unfold(x, (2, 3), padding=1, stride=2), X),
    "fold": (lambda x: F.fold(x, (4, 5), 2), r(2, 8, 12)),
    "unpool": (lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2, output_size=(5, 4)), X),
    "fractional": (lambda x, u: F.fractional_max_pool2d(x, 2, (3, 2), _random_samples=u.detach()), X, rng.random((2, 3, 2))),
    "bag sum": (lambda w, i, o, s: F.embedding_bag(i, w, o, mode="sum", per_sample_weights=s), r(4, 3), IDS, OFFSETS, r(6)),
    "bag mean": (lambda w, i, o: F.embedding_bag(i, w, o, mode="mean", padding_idx=1), r(4, 3), IDS, OFFSETS),
    "bag max": (lambda w, i, o: F.embedding_bag(i, w, o, mode="max", include_last_offset=True), r(4, 3), IDS, OFFSETS),
    "ctc": (
        lambda x, t: F.ctc_loss(gf.log_softmax(x, 2), t, [5, 4], [2, 3], reduction="sum"), r(5, 2, 4),
        np.array([[1, 2, 2], [3, 3, 1]]),
    ),
    "ctc in a row": (
        lambda x, t: F.ctc_loss(gf.log_softmax(x, 2), t, [5, 5], [2, 1]), r(5, 2, 4), np.array([1, 2, 3]),
    ),
    "attention": (
        lambda q, w, b, o: F.multi_head_attention_forward(
            q, q, q, 4, 2, w, b, None, None, True, 0.0, o, None, key_padding_mask=q[:, :, 0].permute(1, 0).detach() > 1.5
        )[0],
        r(3, 2, 4), r(12, 4), r(12), r(4, 4),
    ),
    "conv3d": (lambda x, w: F.conv3d(x, w, None, (1, 2, 1), 1), r(1, 2, 3, 4, 3), r(2, 2, 2, 2, 3)),
    "local response": (lambda x: F.local_response_norm(x, 3), X),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_the_card_agrees(name, card):
    call, *arrays = CALLS[name]
    on_cpu = [gf.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
    on_card = [gf.tensor(a).to("cuda").requires_grad_(a.dtype.kind == "f") for a in arrays]
    y, z = call(*on_cpu), call(*on_card)
    assert backend.on_card(z.array)
    assert_close(z.detach().cpu().numpy(), y.detach().numpy())
    g = r(*y.shape)
    y.backward(gf.tensor(g))
    z.backward(gf.tensor(g).to("cuda"))
    for a, b in zip(on_cpu, on_card, strict=True):
        if a.grad is not None:
            assert backend.on_card(b.grad.array)
            assert_close(b.grad.cpu().numpy(), a.grad.numpy(), scale=10)


def test_without_samples_they_are_drawn_there(card):
    y = F.fractional_max_pool3d(gf.tensor(r(1, 2, 6, 6, 6)).to("cuda"), 2, output_ratio=0.5)
    assert y.shape == (1, 2, 3, 3, 3) and backend.on_card(y.array)


def test_a_norm_is_kept_there(card):
    w = gf.tensor([[3.0, 4.0], [6.0, 8.0]]).to("cuda")
    F.embedding(gf.tensor([0]).to("cuda"), w, max_norm=1.0)
    assert_close(w.cpu().numpy(), [[0.6, 0.8], [6.0, 8.0]], scale=1e3)
