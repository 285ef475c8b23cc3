"""Layers against PyTorch's: names, order and shapes of their state, repr, outputs, gradients, running statistics."""

from __future__ import annotations

import inspect
import warnings

import numpy as np
import pytest
from layers import LAYERS, L
from tolerance import assert_close

import gradflow as gf
from gradflow import nn

pytestmark = pytest.mark.reference
torch = pytest.importorskip("torch")


def theirs_of(layer):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return layer.made(torch.nn)


def to_torch(a, grad):
    return torch.from_numpy(np.ascontiguousarray(a)).requires_grad_(grad)


def to_gradflow(a, grad):
    return gf.tensor(a).requires_grad_(grad)


def flat(y):
    """All tensors of an output, tuples and lists opened."""
    if isinstance(y, (tuple, list)):
        return [t for v in y for t in flat(v)]
    return [] if y is None else [y]


def pair(layer):
    """Both layers in float64 with one state, PyTorch's loaded into ours."""
    ours, theirs = layer.made().double(), theirs_of(layer).double()
    state = theirs.state_dict()
    assert list(ours.state_dict()) == list(state)
    assert [tuple(v.shape) for v in ours.state_dict().values()] == [tuple(v.shape) for v in state.values()]
    ours.load_state_dict(state)
    return ours, theirs


def compare(layer, ours, theirs, args, targs, **kwargs):
    leaves = [a for a in args if a.requires_grad]
    tleaves = [a for a in targs if a.requires_grad]
    inplace = layer.kwargs.get("inplace") or True in layer.args
    y = flat(ours(*([a * 1 for a in args] if inplace else args)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        t = flat(theirs(*([a * 1 for a in targs] if inplace else targs)))
    assert len(y) == len(t)
    rng = np.random.default_rng(1)
    roots, troots = [], []
    for a, b in zip(y, t, strict=True):
        assert tuple(a.shape) == tuple(b.shape)
        assert_close(a.detach().numpy(), b.detach().numpy(), what="output", scale=10)
        assert a.requires_grad == b.requires_grad
        if b.requires_grad:
            g = rng.standard_normal(tuple(b.shape))
            roots.append((a, gf.tensor(g)))
            troots.append((b, torch.from_numpy(np.asarray(g))))
    if troots:
        gf.autograd.backward([a for a, _ in roots], [g for _, g in roots])
        torch.autograd.backward([b for b, _ in troots], [g for _, g in troots])
    for a, b in zip(leaves, tleaves, strict=True):
        assert_close(a.grad.numpy(), b.grad.numpy(), what="gradient of an input", scale=100)
    gradients = {n: p.grad for n, p in ours.named_parameters()}
    for n, p in theirs.named_parameters():
        if p.grad is not None:
            assert_close(gradients[n].numpy(), p.grad.numpy(), what=f"gradient of {n}", scale=100)
    for n, b in theirs.named_buffers():
        assert_close(ours.get_buffer(n).numpy(), b.numpy(), what=n, scale=10)


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_layer(layer):
    assert repr(layer.made()) == repr(theirs_of(layer))
    ours, theirs = pair(layer)
    for _ in range(2):  # twice in training: running statistics move
        compare(layer, ours, theirs, layer.arrays(to_gradflow), layer.arrays(to_torch))
    ours.eval()
    theirs.eval()
    ours.zero_grad()
    theirs.zero_grad()
    compare(layer, ours, theirs, layer.arrays(to_gradflow), layer.arrays(to_torch))
    # and our state into PyTorch's
    back = theirs_of(layer).double()
    back.load_state_dict({k: torch.from_numpy(v.numpy().copy()) for k, v in ours.state_dict().items()})


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_signature(layer):
    """Our constructors take PyTorch's arguments, in its order and with its defaults."""
    ours, theirs = getattr(nn, layer.name), getattr(torch.nn, layer.name)
    a = {n: p for n, p in inspect.signature(ours).parameters.items() if p.kind != p.VAR_KEYWORD}
    if layer.name in ("RNN", "GRU", "LSTM"):  # (*args, **kwargs) there
        return
    b = inspect.signature(theirs).parameters
    b = {n: p for n, p in b.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    a.pop("args", None)
    assert list(a) == list(b)
    for name, p in b.items():
        default = a[name].default
        assert getattr(default, "__name__", default) == getattr(p.default, "__name__", p.default), name
        assert a[name].kind == p.kind, name


PARAMETERISED = [
    L("Linear", 300, 200, inputs=[]),
    L("Embedding", 300, 200, padding_idx=3, inputs=[]),
    L("MultiheadAttention", 64, 4, add_bias_kv=True, inputs=[]),
    L("TransformerEncoderLayer", 64, 4, inputs=[]),
    L("Bilinear", 30, 40, 50, inputs=[]),
    L("Conv1d", 30, 100, 9, groups=2, inputs=[]),
    L("Conv2d", 40, 60, 5, inputs=[]),
    L("ConvTranspose2d", 40, 60, 5, inputs=[]),
    L("LSTM", 50, 60, 2, inputs=[]),
    L("GRUCell", 50, 60, inputs=[]),
    L("BatchNorm2d", 5, inputs=[]),
    L("LayerNorm", 50, inputs=[]),
    L("PReLU", 3, inputs=[]),
]


@pytest.mark.parametrize("layer", PARAMETERISED, ids=repr)
def test_initial_values_are_drawn_alike(layer):
    torch.manual_seed(0)
    ours, theirs = layer.made(), theirs_of(layer)
    for (n, a), (m, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert n == m
        a, b = a.detach().numpy(), b.detach().numpy()
        assert a.dtype == b.dtype
        if a.size > 1000:
            assert abs(a.std() / b.std() - 1) < 0.1 and abs(a.mean() - b.mean()) <= 6 * b.std() / a.size**0.5
            if layer.name != "Embedding":  # the others are uniform: their bounds can be seen
                assert abs(np.abs(a).max() / np.abs(b).max() - 1) < 0.02
        elif b.std() == 0:
            assert (a == b).all()
        else:
            assert np.abs(a).max() <= np.abs(b).max() * 1.5 and a.std() > 0.5 * b.std()


# --- masks, packed sequences, ties: what the table above does not reach ----------------------------------------------


def attended(batch_first=False, **kwargs):
    """Our attention and PyTorch's with one state, and inputs (t, n, e)."""
    theirs = torch.nn.MultiheadAttention(8, 2, batch_first=batch_first, **kwargs).double()
    ours = nn.MultiheadAttention(8, 2, batch_first=batch_first, **kwargs).double()
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs, np.random.default_rng(0).standard_normal((4, 3, 8))


def masks(kind):
    rng = np.random.default_rng(1)
    padding = np.array([[False] * 4, [False, False, True, True], [False, True, False, False]])
    causal = np.triu(np.ones((4, 4), bool), 1)
    return {
        "padding": {"key_padding_mask": padding},
        "floating padding": {"key_padding_mask": np.where(padding, -np.inf, rng.standard_normal((3, 4)))},
        "causal": {"attn_mask": causal},
        "hinted": {"attn_mask": causal, "is_causal": True},
        "both": {"attn_mask": causal, "key_padding_mask": padding, "is_causal": True},
        "floating": {"attn_mask": rng.standard_normal((4, 4))},
        "per head": {"attn_mask": rng.standard_normal((6, 4, 4))},
    }[kind]


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("extra", [{}, {"add_bias_kv": True}, {"add_zero_attn": True}])
@pytest.mark.parametrize("kind", ["padding", "floating padding", "causal", "hinted", "both", "floating", "per head"])
def test_attention_masks(kind, extra, need_weights):
    ours, theirs, x = attended(**extra)
    given = masks(kind)
    a = {k: gf.tensor(v) if isinstance(v, np.ndarray) else v for k, v in given.items()}
    b = {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in given.items()}
    if kind == "both" or extra:
        b.pop("is_causal", None)  # a hint: it must not change the result, as PyTorch's does for appended keys
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        t, tw = theirs(*[torch.from_numpy(x)] * 3, need_weights=need_weights, average_attn_weights=False, **b)
    y, w = ours(*[gf.tensor(x)] * 3, need_weights=need_weights, average_attn_weights=False, **a)
    assert_close(y.detach().numpy(), t.detach().numpy(), scale=10)
    if need_weights:
        assert_close(w.detach().numpy(), tw.detach().numpy(), scale=10)
    else:
        assert w is None and tw is None


def test_attention_projects_once_when_it_can():
    """One tensor for query, key and value; one for the last two; three: the same result."""
    ours, _, x = attended()
    x = gf.tensor(x)
    a, b, c = ours(x, x, x)[0], ours(x * 1, x, x)[0], ours(x, x * 1, x * 1)[0]
    assert_close(a.detach().numpy(), b.detach().numpy())
    assert_close(a.detach().numpy(), c.detach().numpy())


@pytest.mark.parametrize("causal", [True, False])
def test_transformer_encoder(causal):
    def made(library):
        layer = library.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True)
        return library.TransformerEncoder(layer, 2, library.LayerNorm(8)).double()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = made(torch.nn)
        ours = made(nn)
        assert repr(ours) == repr(theirs)
        ours.load_state_dict(theirs.state_dict())
        x = np.random.default_rng(0).standard_normal((3, 5, 8))
        padding = np.arange(5) >= np.array([[5], [3], [4]])
        mask = nn.Transformer.generate_square_subsequent_mask(5, dtype=gf.float64) if causal else None
        tmask = torch.nn.Transformer.generate_square_subsequent_mask(5, dtype=torch.float64) if causal else None
        if causal:
            assert (mask.numpy() == tmask.numpy()).all()
        a = gf.tensor(x, requires_grad=True)
        b = torch.tensor(x, requires_grad=True)
        y = ours(a, mask, src_key_padding_mask=gf.tensor(padding))
        t = theirs(b, tmask, src_key_padding_mask=torch.from_numpy(padding))
        keep = ~padding
        assert_close(y.detach().numpy()[keep], t.detach().numpy()[keep], scale=10)
        (y * gf.tensor(keep[..., None])).sum().backward()
        (t * torch.from_numpy(keep[..., None])).sum().backward()
        assert_close(a.grad.numpy(), b.grad.numpy(), scale=1000)
        assert_close(ours(a, mask).detach().numpy(), theirs(b, tmask).detach().numpy(), scale=10)


def test_transformer_decoder_with_masks():
    theirs = torch.nn.TransformerDecoder(torch.nn.TransformerDecoderLayer(8, 2, 16, 0.0), 2).double()
    ours = nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16, 0.0), 2).double()
    assert repr(ours) == repr(theirs)
    ours.load_state_dict(theirs.state_dict())
    rng = np.random.default_rng(0)
    target, memory, cross = rng.standard_normal((5, 3, 8)), rng.standard_normal((4, 3, 8)), rng.standard_normal((5, 4))
    causal = np.triu(np.full((5, 5), -np.inf), 1)
    y = ours(gf.tensor(target), gf.tensor(memory), gf.tensor(causal), gf.tensor(cross))
    t = theirs(*map(torch.from_numpy, (target, memory, causal, cross)))
    assert_close(y.detach().numpy(), t.detach().numpy(), scale=10)


@pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("enforce_sorted", [True, False])
def test_packed_sequences(name, enforce_sorted):
    theirs = getattr(torch.nn, name)(3, 4, 2, bidirectional=True).double()
    ours = getattr(nn, name)(3, 4, 2, bidirectional=True).double()
    ours.load_state_dict(theirs.state_dict())
    lengths = [5, 3, 1] if enforce_sorted else [3, 5, 1]
    rng = np.random.default_rng(0)
    x, h = rng.standard_normal((5, 3, 3)), rng.standard_normal((4, 3, 4))
    a, b = gf.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    pack, tpack = nn.utils.rnn.pack_padded_sequence, torch.nn.utils.rnn.pack_padded_sequence
    p, q = pack(a, lengths, enforce_sorted=enforce_sorted), tpack(b, lengths, enforce_sorted=enforce_sorted)
    assert_close(p.data.detach().numpy(), q.data.detach().numpy())
    assert p.batch_sizes.tolist() == q.batch_sizes.tolist()
    hx, thx = (gf.tensor(h),) * 2, (torch.from_numpy(h),) * 2
    (y, hn), (t, thn) = (ours(p, hx), theirs(q, thx)) if name == "LSTM" else (ours(p, hx[0]), theirs(q, thx[0]))
    for u, v in zip(flat(hn), flat(thn), strict=True):
        assert_close(u.detach().numpy(), v.detach().numpy(), scale=10)
    (y, sizes), (t, tsizes) = nn.utils.rnn.pad_packed_sequence(y), torch.nn.utils.rnn.pad_packed_sequence(t)
    assert sizes.tolist() == tsizes.tolist()
    assert_close(y.detach().numpy(), t.detach().numpy(), scale=10)
    g = rng.standard_normal(t.shape)
    y.backward(gf.tensor(g))
    t.backward(torch.from_numpy(g))
    assert_close(a.grad.numpy(), b.grad.numpy(), scale=100)


def test_containers_look_alike():
    for make in (
        lambda n, t: n.Sequential(n.Linear(2, 3), n.ReLU(), n.Sequential(n.Flatten())),
        lambda n, t: n.ModuleList([n.Linear(2, 2), n.Linear(2, 2), n.ReLU()]),
        lambda n, t: n.ModuleDict({"a": n.Linear(2, 2), "b": n.ReLU()}),
        lambda n, t: n.Sequential(),
    ):
        assert repr(make(nn, gf)) == repr(make(torch.nn, torch))


@pytest.mark.parametrize("function", ["dropout", "dropout1d", "dropout2d", "alpha_dropout", "feature_alpha_dropout"])
def test_functions_have_pytorchs_signature(function):
    ours = inspect.signature(getattr(nn.functional, function)).parameters
    theirs = inspect.signature(getattr(torch.nn.functional, function)).parameters
    assert [(n, p.default) for n, p in ours.items()] == [(n, p.default) for n, p in theirs.items()]
