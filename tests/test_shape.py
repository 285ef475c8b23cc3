"""Shapes, joins, splits, flips, pads, diagonals and windows: edges and refusals, then PyTorch beside them."""

from __future__ import annotations

import numpy as np
import pytest
from beside import beside

import gradflow as gf
from gradflow.nn import functional as F
from gradflow.ops import arrange


def leaf(*shape):
    return gf.tensor(np.arange(float(np.prod(shape, dtype=int))).reshape(shape), requires_grad=True)


# --- what shares memory, what is refused ---------------------------------------------------------------


def test_views_share_memory_and_copies_do_not():
    x = gf.tensor(np.arange(24.0).reshape(2, 3, 4))
    views = [
        x.reshape(6, 4), x.view(-1), x.permute(2, 0, 1), x.T, x.mT, x.expand(2, 2, 3, 4), x.unsqueeze(1), x.flatten(),
        x.squeeze(), x.select(1, 0), x.narrow(2, 1, 2), x.unfold(2, 2, 1), x.diagonal(0, 1, 2), x.movedim(0, 2),
        *x.split(1), *x.chunk(2, 1), *x.unbind(2), *x.tensor_split(2, 1), x.unflatten(2, (2, 2)), x.contiguous(), x[0],
        x[..., None],
    ]  # fmt: skip
    for v in views:
        assert np.shares_memory(v.array, x.array) and v._version == x._version
    copies = [x.clone(), x.flip(0), x.repeat(1, 1, 1), x.T.contiguous(), x.roll(1), x.tril(), x[[0, 1]], gf.cat([x])]
    for c in copies:
        assert not np.shares_memory(c.array, x.array)
    before = views[0]._version
    x.add_(1)
    assert all(v._version == before + 1 for v in views) and all(c._version == 0 for c in copies)
    assert x.contiguous() is x


def test_view_refuses_to_copy():
    x = gf.zeros(3, 4)
    assert x.T.reshape(12).shape == (12,)
    with pytest.raises(RuntimeError, match="view: wanted dimensions that lie together"):
        x.T.view(12)
    assert gf.tensor([1.0]).view(gf.int32).item() == 0x3F800000


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: x.reshape(5), RuntimeError, "reshape: wanted a shape of 12 elements"),
        (lambda x: x.reshape(-1, -1), RuntimeError, "reshape"),
        (lambda x: x.permute(0), RuntimeError, "permute: wanted each of 2 dimensions once"),
        (lambda x: x.permute(0, 0), RuntimeError, "permute"),
        (lambda x: x.permute(0, 2), IndexError, "permute: wanted a dimension"),
        (lambda x: x.expand(2, 4), RuntimeError, "expand: wanted sizes to which"),
        (lambda x: x.expand(4), RuntimeError, "expand"),
        (lambda x: x.unsqueeze(3), IndexError, "unsqueeze"),
        (lambda x: x.squeeze(2), IndexError, "squeeze"),
        (lambda x: x.flatten(1, 0), RuntimeError, "flatten: wanted start_dim before"),
        (lambda x: x.unflatten(1, (3, 2)), RuntimeError, "unflatten: wanted sizes that multiply to 4"),
        (lambda x: x.unflatten(1, (-1, 3)), RuntimeError, "unflatten"),
        (lambda x: x.transpose(0, 2), IndexError, "transpose"),
        (lambda x: x[None].t(), RuntimeError, "t: wanted at most 2 dimensions"),
        (lambda x: x[0].mT, RuntimeError, "mT"),
        (lambda x: x.movedim((0, 0), (0, 1)), RuntimeError, "movedim"),
        (lambda x: x.select(0, 3), IndexError, "select"),
        (lambda x: x.narrow(0, 2, 2), RuntimeError, "narrow"),
        (lambda x: x.narrow(0, 4, 0), IndexError, "narrow: wanted a start"),
        (lambda x: x.sum().split(1), RuntimeError, "split: wanted one dimension"),
        (lambda x: x.sum().unbind(), IndexError, "unbind: wanted one dimension"),
        (lambda x: gf.cat([x, None]), TypeError, "cat: wanted tensors, saw NoneType"),
        (lambda x: x.split([1, 1]), RuntimeError, "split: wanted sizes that add up to 3"),
        (lambda x: x.split(0), RuntimeError, "split"),
        (lambda x: x.chunk(0), RuntimeError, "chunk"),
        (lambda x: gf.cat([]), ValueError, "cat: wanted at least one"),
        (lambda x: gf.cat([x, x[:, :2]]), RuntimeError, "cat: wanted shapes that agree"),
        (lambda x: gf.cat([x, x[0]]), RuntimeError, "cat: wanted shapes that agree"),
        (lambda x: gf.cat([x.sum()]), RuntimeError, "cat: wanted tensors of one dimension"),
        (lambda x: gf.cat([x], 2), IndexError, "cat"),
        (lambda x: gf.stack([x, x.T]), RuntimeError, "stack: wanted tensors of one shape"),
        (lambda x: gf.stack([x], 3), IndexError, "stack"),
        (lambda x: x.repeat(2), RuntimeError, "repeat: wanted 2 sizes or more"),
        (lambda x: x.repeat_interleave(gf.tensor([1, 2]), 0), RuntimeError, "repeat_interleave: wanted 3 repeats"),
        (lambda x: x.roll((1, 2), 0), RuntimeError, "roll"),
        (lambda x: F.pad(x, (1,)), RuntimeError, "pad: wanted at most 2 pairs"),
        (lambda x: F.pad(x, (-3, -2)), RuntimeError, "pad: wanted to crop"),
        (lambda x: F.pad(x, (4, 0), mode="reflect"), RuntimeError, "pad: wanted reflect pads"),
        (lambda x: F.pad(x, (5, 0), mode="circular"), RuntimeError, "pad: wanted circular pads"),
        (lambda x: F.pad(x, (1, 0), mode="odd"), NotImplementedError, "pad: wanted mode"),
        (lambda x: x[0].tril(), RuntimeError, "tril: wanted 2 dimensions"),
        (lambda x: x.diagonal(0, 1, 1), RuntimeError, "diagonal: wanted two different dims"),
        (lambda x: x[None].diag(), RuntimeError, "diag: wanted a vector or a matrix"),
        (lambda x: x.unfold(0, 4, 1), RuntimeError, "unfold: wanted a size of at most 3"),
        (lambda x: x.unfold(0, 1, 0), RuntimeError, "unfold"),
        (lambda x: gf.meshgrid(x), RuntimeError, "meshgrid: wanted vectors"),
        (lambda x: gf.broadcast_tensors(x, x[:2]), RuntimeError, "broadcast"),
    ],
)
def test_refusals(call, error, words):
    with pytest.raises(error, match=words):
        call(gf.zeros(3, 4))


# --- gradients that are joined once -----------------------------------------------------------------------


def test_parts_are_joined_by_one_node():
    x = leaf(6, 2)
    y = x * 1
    for parts in (y.split(2), y.unbind(0), y.chunk(3), y.tensor_split(4), list(y)):
        nodes = {id(p.grad_fn) for p in parts}
        assert len(nodes) == 1
        assert parts[0].grad_fn.name in ("split", "unbind")
    a, b, c = y.split(2)
    (a.sum() * 2 + c[0, 0]).backward()
    expected = np.zeros((6, 2))
    expected[:2], expected[4, 0] = 2, 1
    assert (x.grad.numpy() == expected).all()
    del b


def test_a_part_written_in_place():
    x = leaf(4)
    y = x * 1
    a, b = y.split(2)
    a.mul_(3)
    b[0] = a[1]
    (y * gf.tensor([1.0, 10, 100, 1000])).sum().backward()
    assert y.tolist() == [0, 3, 3, 3] and b.tolist() == [3, 3]
    assert x.grad.tolist() == [3, 330, 0, 1000]


def test_gradients_of_what_is_broadcast_are_summed():
    x = leaf(3, 1)
    x.expand(2, 3, 4).sum().backward()
    assert x.grad.tolist() == [[8], [8], [8]]
    x = leaf(2, 3)
    (g,) = gf.autograd.grad(x.sum_to_size(1, 3).sum(), x)
    assert (g.numpy() == 1).all() and x.sum_to_size(3).tolist() == [3, 5, 7]


def test_meshgrid_and_stacks_of_0d():
    a, b = gf.meshgrid(gf.tensor([1, 2, 3]), gf.tensor([4, 5]), indexing="xy")
    assert a.tolist() == [[1, 2, 3]] * 2 and b.tolist() == [[4] * 3, [5] * 3]
    assert gf.hstack([gf.tensor(1), gf.tensor([2])]).tolist() == [1, 2]
    assert gf.vstack([gf.tensor(1), gf.tensor([2])]).tolist() == [[1], [2]]
    assert gf.dstack([gf.tensor(1), gf.tensor(2)]).tolist() == [[[1, 2]]]
    assert gf.cat([gf.zeros(0), gf.ones(2, 2)]).shape == (2, 2)
    assert gf.cat([gf.tensor([1]), gf.tensor([0.5])]).dtype == np.float32


def test_unfold_backward_against_a_loop():
    rng = np.random.default_rng(0)
    for n, size, step in ((7, 3, 2), (5, 5, 1), (6, 1, 4), (9, 2, 3)):
        g = rng.standard_normal(((n - size) // step + 1, size))
        expected = np.zeros(n)
        for i in range(g.shape[0]):
            for j in range(size):
                expected[i * step + j] += g[i, j]
        np.testing.assert_allclose(arrange.unfold_backward(g, (n,), 0, size, step), expected)


# --- PyTorch beside -------------------------------------------------------------------------------------------


def pad(lib, *args, **kwargs):
    return lib.nn.functional.pad(*args, **kwargs)


CALLS = {
    "view": lambda lib, x: x.view(6, 4),
    "reshape": lambda lib, x: x.transpose(0, 2).reshape(2, -1),
    "permute": lambda lib, x: lib.permute(x, (2, 0, 1)),
    "T": lambda lib, x: (x[0].T, x.mT, x[0].t(), x[0, 0].t()),
    "expand": lambda lib, x: (x[:, :1].expand(-1, 5, -1), x.expand(2, *x.shape), x[0, 0].expand_as(x)),
    "broadcast": lambda lib, x: (lib.broadcast_to(x, (2, 2, 3, 4)), *lib.broadcast_tensors(x, x[:1], x[0])),
    "squeeze": lambda lib, x: (x[:, :1].squeeze(), x[:, :1].squeeze(1), x.squeeze(0), x[:1, :1].squeeze((0, 2))),
    "unsqueeze": lambda lib, x: (x.unsqueeze(0), lib.unsqueeze(x, -1), x.unsqueeze(-3)),
    "flatten": lambda lib, x: (x.flatten(), x.flatten(1), lib.flatten(x, 0, -2), x.sum().flatten(), x.ravel()),
    "unflatten": lambda lib, x: (x.unflatten(-1, (2, -1)), lib.unflatten(x, 1, (3, 1))),
    "transpose": lambda lib, x: (x.transpose(0, -1), lib.swapaxes(x, 0, 1), lib.swapdims(x, 1, 2)),
    "movedim": lambda lib, x: (lib.movedim(x, 0, -1), x.movedim((0, 1), (2, 0)), lib.moveaxis(x, -1, 0)),
    "select": lambda lib, x: (x.select(1, -1), lib.select(x, 0, 1), x.narrow(2, 1, 2), lib.narrow(x, -1, -2, 1)),
    "cat": lambda lib, x: (lib.cat([x, x[:1], x * 2]), lib.cat((x, x[..., :1]), dim=-1), lib.concat([x, x], axis=1)),
    "stack": lambda lib, x: (lib.stack([x, x * x]), lib.stack((x[0], x[1]), -1), lib.stack([x.sum(), x.mean()])),
    "stacks": lambda lib, x: (lib.hstack([x, x]), lib.hstack([x[0, 0]] * 2), lib.vstack([x[0, 0], x[0, 1]])),
    "dstack": lambda lib, x: (lib.dstack([x[0], x[1]]), lib.dstack([x[0, 0]]), lib.dstack([x, x])),
    "split": lambda lib, x: (*x.split(2, 1), *lib.split(x, [1, 3], -1), *x.split(5)),
    "chunk": lambda lib, x: (*x.chunk(3, 2), *lib.chunk(x, 2, 1)),
    "narrow": lambda lib, x: (x.narrow(2, lib.tensor(1), 2),),
    "0-d": lambda lib, x: (x.sum().movedim(0, -1), x.sum().flatten(0, -1)),
    "tensor_split": lambda lib, x: (*x.tensor_split(3), *lib.tensor_split(x, [1, 2], 1), *x.tensor_split([5, -1], 2)),
    "unbind": lambda lib, x: (*x.unbind(), *lib.unbind(x, -1)),
    "iter": lambda lib, x: [a * b for a, b in zip(x, x[0], strict=False)],
    "flip": lambda lib, x: (x.flip(0), x.flip(0, 2), lib.flip(x, (-1,)), lib.fliplr(x), lib.flipud(x)),
    "roll": lambda lib, x: (x.roll(2), lib.roll(x, (1, -1), (0, 2)), x.roll(-3, 1)),
    "rot90": lambda lib, x: tuple(lib.rot90(x, k, (1, 2)) for k in (-1, 0, 1, 2, 3)),
    "repeat": lambda lib, x: (x.repeat(2, 1, 3), x.repeat(2, 1, 1, 1), x.tile(2), lib.tile(x, (1, 2))),
    "repeat_interleave": lambda lib, x: (
        x.repeat_interleave(2), lib.repeat_interleave(x, 3, dim=1), x.repeat_interleave(lib.tensor([2, 0, 1]), dim=1),
    ),
    "tril": lambda lib, x: (x.tril(), x.triu(1), lib.tril(x, -1), lib.triu(x, -2)),
    "diagonal": lambda lib, x: (x.diagonal(0, 1, 2), lib.diagonal(x, 1), x.diagonal(-1, -1, 0)),
    "diag": lambda lib, x: (x[0].diag(), x[0].diag(-1), x[0, 0].diag(1), lib.diag(x[0], 5)),
    "diag_embed": lambda lib, x: (x.diag_embed(), lib.diag_embed(x, 1, 0, 2), x[0].diag_embed(-1)),
    "unfold": lambda lib, x: (x.unfold(2, 2, 1), x.unfold(1, 3, 2), x.unfold(-1, 2, 3)),
    "meshgrid": lambda lib, x: lib.meshgrid(x[0, 0], x[0, :, 0], x[1, 0, 0], indexing="ij"),
    "meshgrid-xy": lambda lib, x: lib.meshgrid(x[0, 0], x[0, :, 0], x[1, 0, :2], indexing="xy"),
    "pad": lambda lib, x: (pad(lib, x, (1, 2)), pad(lib, x, (0, 1, -1, 2), value=3.0), pad(lib, x, (-1, -1))),
    "pad-reflect": lambda lib, x: (pad(lib, x, (2, 3), "reflect"), pad(lib, x[None], (1, 2, 2, 0), "reflect")),
    "pad-replicate": lambda lib, x: (pad(lib, x, (2, 5), "replicate"), pad(lib, x[None], (1, 2, 4, 0), "replicate")),
    "pad-circular": lambda lib, x: (pad(lib, x, (2, 4), "circular"), pad(lib, x[None], (1, 2, 3, 0), "circular")),
    "clone": lambda lib, x: (x.clone(), x.T.contiguous(), lib.clone(x[0])),
    "as": lambda lib, x: (x.view_as(x[0:]), x.reshape_as(x.transpose(0, 1)), x.sum_to_size(1, 4)),
}  # fmt: skip


@pytest.mark.reference
@pytest.mark.parametrize("name", CALLS)
@pytest.mark.filterwarnings("ignore:The use of .x.T. on tensors")
def test_beside_pytorch(name, pytorch):
    beside(pytorch, CALLS[name], np.random.default_rng(0).standard_normal((2, 3, 4)))


@pytest.mark.reference
@pytest.mark.parametrize("name", ["cat", "split", "roll", "pad", "tril", "unfold", "repeat", "flip", "diag_embed"])
def test_whole_numbers_beside_pytorch(name, pytorch):
    def call(lib, x):
        outs = CALLS[name](lib, x)
        return [y for y in outs if y.dtype in (np.int64, getattr(pytorch, "int64", None))]

    beside(pytorch, call, np.arange(24).reshape(2, 3, 4))
