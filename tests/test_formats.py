"""Memory formats: what an op is given in an order it gives back in that order, as PyTorch does, on the CPU and on the card."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from tolerance import assert_close

import gradflow as gf
from gradflow import nn
from gradflow.nn import functional as GF
from gradflow.ops import layout

FORMATS = {"channels_last": (2, 4, 6, 5), "channels_last_3d": (2, 4, 3, 6, 5)}


def along(x):
    return tuple(range(2, x.ndim))


def ones(of, x, *sizes):
    return of.ones(sizes).to(x.device)


def by_rank(F, name, x):
    return getattr(F, f"{name}{x.ndim - 2}d")


# What does not name its rank is an op of both formats.
OPS = {
    "relu": lambda of, F, x: F.relu(x),
    "gelu": lambda of, F, x: F.gelu(x),
    "add": lambda of, F, x: x + x,
    "add a bias": lambda of, F, x: x + ones(of, x, 4, *(1 for _ in along(x))),
    "mul by planes": lambda of, F, x: x * x.mean(along(x), keepdim=True),
    "mul by a row": lambda of, F, x: x * ones(of, x, 5),
    "compare": lambda of, F, x: x > 0,
    "cast": lambda of, F, x: x.to(of.float64),
    "slice": lambda of, F, x: F.relu(x[:, :, 1:]),
    "a residual": lambda of, F, x: F.relu(F.silu(x) + x),
    "clone": lambda of, F, x: x.clone(),
    "zeros_like": lambda of, F, x: of.zeros_like(x),
    "full_like": lambda of, F, x: of.full_like(x, 2.0),
    "empty_like in C order": lambda of, F, x: of.zeros_like(x, memory_format=of.contiguous_format),
    "batch_norm": lambda of, F, x: F.batch_norm(x, None, None, ones(of, x, 4), ones(of, x, 4), True),
    "batch_norm in evaluation": lambda of, F, x: F.batch_norm(x, *(ones(of, x, 4) for _ in range(4)), False),
    "max_pool": lambda of, F, x: by_rank(F, "max_pool", x)(x, 3, 2, 1),
    "places of max_pool": lambda of, F, x: by_rank(F, "max_pool", x)(x, 2, return_indices=True)[1],
    "avg_pool2d": lambda of, F, x: F.avg_pool2d(x, 2),
    "adaptive_avg_pool2d": lambda of, F, x: F.adaptive_avg_pool2d(x, 3),
    "adaptive_max_pool2d": lambda of, F, x: F.adaptive_max_pool2d(x, 2),
    "a global mean2d": lambda of, F, x: F.relu(F.adaptive_avg_pool2d(x, 1)),
    "nearest2d": lambda of, F, x: F.interpolate(x, scale_factor=2),
    "bilinear2d": lambda of, F, x: F.interpolate(x, size=(9, 4), mode="bilinear"),
    "clamp": lambda of, F, x: x.clamp(-1, 1),
    "where": lambda of, F, x: of.where(x > 0, x, x * 0.1),
    "pad": lambda of, F, x: F.pad(x, (1, 2, 0, 1)),
    "flip": lambda of, F, x: x.flip(3),
    "cat": lambda of, F, x: of.cat([x, F.relu(x)], 1),
    "dropout": lambda of, F, x: F.dropout(x, 0.5) * 0,
}
# The mean's gradient is C order in PyTorch, whatever the input's: here it lies as the input does.
GRADIENTS_DIFFER = {"a global mean2d"}


def lies(strides, shape):
    """Its dims of more than one element, the farthest apart first."""
    return sorted((i for i, n in enumerate(shape) if n > 1), key=lambda i: -strides[i])


def both(torch, format, device):
    """The same numbers in a memory format as a tensor of PyTorch's and one of ours, both asking for gradients."""
    a = np.random.default_rng(0).standard_normal(FORMATS[format]).astype("f4")
    x = torch.tensor(a).to(memory_format=getattr(torch, format)).requires_grad_()
    z = gf.tensor(a).to(device).to(memory_format=getattr(gf, format)).detach().requires_grad_()
    return x, z


def compare(torch, name, call, format, device):
    x, z = both(torch, format, device)
    y, w = call(torch, torch.nn.functional, x), call(gf, GF, z)
    assert lies(w.stride(), w.shape) == lies(y.stride(), y.shape), f"{name}: strides {w.stride()}, in PyTorch {y.stride()}"
    assert_close(w.detach().cpu().numpy(), y.detach().numpy(), dtype=np.dtype("float32"), scale=4)
    if y.requires_grad:
        (dx,) = torch.autograd.grad(y, x, torch.ones_like(y))
        (dz,) = gf.autograd.grad(w, z, gf.ones_like(w))
        want = x if name in GRADIENTS_DIFFER else dx
        assert lies(dz.stride(), dz.shape) == lies(want.stride(), x.shape), f"{name}: gradient's strides {dz.stride()}"
        assert_close(dz.cpu().numpy(), dx.numpy(), dtype=np.dtype("float32"), scale=16)


@pytest.mark.reference
@pytest.mark.parametrize(("name", "format"), [(n, f) for n in OPS for f in FORMATS if f[-2:] != "3d" or n[-2:] != "2d"])
def test_orders_are_pytorchs(pytorch, name, format):
    compare(pytorch, name, OPS[name], format, "cpu")


# CuPy's own functions give C order, so the card is a case of its own.
@pytest.mark.reference
@pytest.mark.cuda
@pytest.mark.parametrize("name", OPS)
def test_orders_are_pytorchs_on_the_card(pytorch, card, name):
    compare(pytorch, name, OPS[name], "channels_last", "cuda")


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_numbers_are_drawn_in_the_order_in_which_they_lie(card, device):
    x = gf.zeros(2, 3, 4, 5, device=device).to(memory_format=gf.channels_last)
    for draw in (gf.rand_like, gf.randn_like, lambda x: gf.randint_like(x, 9), lambda x: gf.nn.functional.dropout(x + 1, 0.5)):
        gf.manual_seed(3)
        y = draw(x)
        gf.manual_seed(3)
        z = draw(gf.zeros(2, 4, 5, 3, device=device))
        assert y.is_contiguous(memory_format=gf.channels_last)
        np.testing.assert_array_equal(y.permute(0, 2, 3, 1).cpu().numpy(), z.cpu().numpy())


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_a_mask_is_the_same_however_the_gradient_lies(card, device):
    x = gf.ones(2, 8, 4, 4, device=device).to(memory_format=gf.channels_last).detach().requires_grad_()
    y = gf.nn.functional.dropout(x, 0.5)
    for g in (gf.ones(2, 8, 4, 4, device=device), gf.ones_like(y)):
        (dx,) = gf.autograd.grad(y, x, g, retain_graph=True)
        np.testing.assert_array_equal(dx.cpu().numpy(), y.detach().cpu().numpy())


def test_what_lies_how():
    x = np.zeros((2, 3, 4, 5))
    last = layout.planes(np.zeros((2, 4, 5, 3)))
    assert last.shape == x.shape and layout.rows(last).shape == (2, 4, 5, 3)
    assert layout.channels_last(last) and not layout.channels_last(x) and not layout.channels_last(last[:, :2])
    for shape in ((2, 1, 4, 5), (2, 3, 1, 1), (0, 3, 4, 5)):
        assert not layout.channels_last(np.zeros((shape[0], *shape[2:], shape[1])).transpose(0, 3, 1, 2))
    assert layout.order_of(x) is None and layout.order_of(np.broadcast_to(x[:, :1], x.shape)) is None
    assert layout.order_of(last) == ((0, 2, 3, 1), (0, 3, 1, 2))
    assert layout.order_of(last[:1]) == ((0, 2, 3, 1), (0, 3, 1, 2)) and layout.order_of(x.T) == ((3, 2, 1, 0),) * 2
    assert all(layout.last_of(y.shape, y.strides, 2) for y in (last, last[:, :, ::2], last[:, :2]))
    assert not layout.last_of(x.shape, x.strides, 2) and not layout.last_of(x.shape, (60, 1, 0, 0), 2)
    like = layout.alike(last, np.zeros, (2, 3, 7, 1))
    assert like.shape == (2, 3, 7, 1) and like.strides[1] == like.itemsize


class Block(nn.Module):
    """Two convolutions and a way around them, as in a residual net."""

    def __init__(self, c, k):
        super().__init__()
        self.one, self.two = nn.Conv2d(c, k, 3, 2, 1, bias=False), nn.Conv2d(k, k, 3, 1, 1, bias=False)
        self.around = nn.Sequential(nn.Conv2d(c, k, 1, 2, bias=False), nn.BatchNorm2d(k))
        self.norms = nn.ModuleList([nn.BatchNorm2d(k), nn.BatchNorm2d(k)])

    def forward(self, x):
        y = GF.relu(self.norms[0](self.one(x)))
        return GF.relu(self.norms[1](self.two(y)) + self.around(x))


@pytest.mark.cuda
@pytest.mark.usefixtures("stand_in")
def test_a_residual_net_keeps_channels_last(card):
    stem = nn.Conv2d(8, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
    net = nn.Sequential(*stem, Block(16, 32), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))
    net = net.cuda().to(memory_format=gf.channels_last)
    seen = []

    def look(module, inputs, y):
        if y.ndim == 4 and y.shape[2] > 1:
            seen.append(y)
            y.register_hook(lambda g, name=type(module).__name__: seen.append(g))

    for module in net.modules():
        module.register_forward_hook(look)
    x = gf.randn(4, 8, 16, 16).cuda().to(memory_format=gf.channels_last)
    with card.launches() as work:
        with gf.amp.autocast("cuda", dtype=gf.float16):
            loss = GF.cross_entropy(net(x), gf.tensor([0, 1, 2, 3]).cuda())
        loss.backward()
    assert len(seen) == 2 * 12  # what every module gives, and its gradient
    for y in seen:
        assert y.dtype == gf.float16 and y.is_contiguous(memory_format=gf.channels_last), y.stride()
    # What CuPy does: casts of the input, of weights and of the logits, there and back; counts of batches; products.
    assert {w.name for w in work if w.kind not in ("kernel", "upload")} <= {"astype", "add", "ones_like", "dot"}, work
    kernels = Counter(w.name.split("<")[0] for w in work if w.kind == "kernel")
    assert kernels["column_moments"] == kernels["column_dx"] == 4 and kernels["max_pool_backward_last"] == 1, kernels
    for w in net.parameters():
        assert w.grad.stride() == w.stride()


@pytest.mark.cuda
@pytest.mark.parametrize("kind", FORMATS)
def test_a_copy_to_the_card_and_back(card, kind):
    x = gf.arange(float(np.prod(FORMATS[kind]))).reshape(FORMATS[kind])
    x = x.contiguous(memory_format=getattr(gf, kind)).requires_grad_()
    there = x.cuda()
    assert there.stride() == x.stride() == there.cpu().stride() and (there.cpu() == x).all()
    there.backward(there.detach() * 2)
    assert x.grad.stride() == x.stride() and (x.grad == x * 2).all()
