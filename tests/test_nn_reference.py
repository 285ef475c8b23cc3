"""Layers against PyTorch's: names, order and shapes of their state, repr, outputs, gradients, running statistics."""

from __future__ import annotations

import inspect
import warnings

import numpy as np
import pytest
from tolerance import assert_close

import gradflow as gf
from gradflow import nn

pytestmark = pytest.mark.reference
torch = pytest.importorskip("torch")


class L:
    """A layer to compare: its name, arguments, and the shapes of its inputs (or the inputs themselves)."""

    def __init__(self, name, *args, inputs, **kwargs):
        self.name, self.args, self.inputs, self.kwargs = name, args, inputs, kwargs

    def __repr__(self):
        shown = [*map(str, self.args), *(f"{k}={v}" for k, v in self.kwargs.items())]
        return f"{self.name}({','.join(shown)})".replace(" ", "")

    def ours(self):
        return getattr(nn, self.name)(*self.args, **self.kwargs)

    def theirs(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return getattr(torch.nn, self.name)(*self.args, **self.kwargs)

    def arrays(self, make):
        """The inputs; those given by shape, and the first, require a gradient."""
        rng = np.random.default_rng(0)
        return [
            make(rng.standard_normal(v), True) if isinstance(v, tuple) else make(v, i == 0)
            for i, v in enumerate(self.inputs)
        ]


CONVS = [
    L("Conv1d", 4, 6, 3, inputs=[(2, 4, 9)]),
    L("Conv1d", 4, 6, 3, padding="same", groups=2, bias=False, inputs=[(2, 4, 9)]),
    L("Conv1d", 2, 2, 4, padding="same", padding_mode="circular", inputs=[(2, 2, 9)]),
    L("Conv2d", 3, 4, 3, stride=2, padding=1, inputs=[(2, 3, 7, 6)]),
    L("Conv2d", 3, 4, (3, 2), dilation=(1, 2), padding=(2, 1), inputs=[(3, 7, 6)]),
    L("Conv2d", 3, 3, 3, groups=3, padding="valid", inputs=[(2, 3, 7, 6)]),
    L("Conv2d", 2, 4, (3, 2), padding=(1, 2), padding_mode="reflect", inputs=[(2, 2, 5, 6)]),
    L("Conv2d", 2, 4, 3, padding=1, padding_mode="replicate", stride=2, inputs=[(2, 2, 5, 6)]),
    L("Conv3d", 2, 3, 2, padding=1, inputs=[(1, 2, 3, 4, 3)]),
    L("ConvTranspose1d", 4, 6, 3, stride=2, padding=1, output_padding=1, inputs=[(2, 4, 5)]),
    L("ConvTranspose2d", 4, 6, 3, stride=2, groups=2, dilation=2, inputs=[(2, 4, 5, 3)]),
    L("ConvTranspose3d", 2, 3, 2, stride=2, inputs=[(1, 2, 2, 3, 2)]),
]
POOLS = [
    L("MaxPool1d", 3, 2, 1, inputs=[(2, 3, 9)]),
    L("MaxPool2d", 2, inputs=[(2, 3, 7, 6)]),
    L("MaxPool2d", 3, stride=2, padding=1, ceil_mode=True, return_indices=True, inputs=[(2, 3, 7, 6)]),
    L("MaxPool3d", 2, inputs=[(2, 3, 4, 4, 5)]),
    L("AvgPool1d", 3, 2, 1, inputs=[(2, 3, 9)]),
    L("AvgPool2d", (3, 2), padding=1, count_include_pad=False, inputs=[(2, 3, 7, 6)]),
    L("AvgPool2d", 2, divisor_override=3, inputs=[(2, 3, 7, 6)]),
    L("AvgPool3d", 2, inputs=[(2, 3, 4, 4, 5)]),
    L("LPPool1d", 2, 3, inputs=[(2, 3, 9)]),
    L("LPPool2d", 2, 3, stride=2, inputs=[(2, 3, 7, 6)]),
    L("AdaptiveAvgPool1d", 4, inputs=[(2, 3, 9)]),
    L("AdaptiveAvgPool2d", (3, None), inputs=[(2, 3, 7, 6)]),
    L("AdaptiveAvgPool3d", 2, inputs=[(2, 3, 4, 4, 5)]),
    L("AdaptiveMaxPool1d", 4, inputs=[(2, 3, 9)]),
    L("AdaptiveMaxPool2d", 3, return_indices=True, inputs=[(2, 3, 7, 6)]),
    L("AdaptiveMaxPool3d", 2, inputs=[(2, 3, 4, 4, 5)]),
]
NORMS = [
    L("BatchNorm1d", 4, inputs=[(5, 4)]),
    L("BatchNorm1d", 4, momentum=None, eps=1e-3, inputs=[(5, 4, 3)]),
    L("BatchNorm2d", 3, inputs=[(4, 3, 5, 2)]),
    L("BatchNorm2d", 3, affine=False, track_running_stats=False, inputs=[(4, 3, 5, 2)]),
    L("BatchNorm2d", 3, bias=False, inputs=[(4, 3, 5, 2)]),
    L("BatchNorm3d", 2, inputs=[(2, 2, 3, 2, 2)]),
    L("InstanceNorm1d", 3, inputs=[(2, 3, 6)]),
    L("InstanceNorm2d", 3, affine=True, track_running_stats=True, inputs=[(2, 3, 4, 5)]),
    L("InstanceNorm2d", 3, affine=True, inputs=[(3, 4, 5)]),
    L("LayerNorm", 6, inputs=[(2, 3, 6)]),
    L("LayerNorm", (3, 6), eps=1e-3, bias=False, inputs=[(2, 3, 6)]),
    L("LayerNorm", [6], elementwise_affine=False, inputs=[(2, 3, 6)]),
    L("GroupNorm", 2, 6, inputs=[(2, 6, 3, 3)]),
    L("GroupNorm", 3, 6, affine=False, inputs=[(2, 6, 3)]),
    L("RMSNorm", 6, inputs=[(2, 3, 6)]),
    L("RMSNorm", (3, 6), eps=1e-3, elementwise_affine=False, inputs=[(2, 3, 6)]),
    L("LocalResponseNorm", 3, 1e-2, 0.6, 2.0, inputs=[(2, 5, 4, 3)]),
]
X = [(2, 6, 4)]
ACTIVATIONS = [
    *(
        L(name, inputs=X)
        for name in (
            "ReLU ReLU6 SELU SiLU Mish Hardswish Hardsigmoid Sigmoid Tanh LogSigmoid Softsign Tanhshrink ELU CELU LeakyReLU "
            "GELU Softplus Hardtanh Hardshrink Softshrink PReLU GLU Identity"
        ).split()
    ),
    L("ReLU", True, inputs=X),
    L("ELU", 0.3, inplace=True, inputs=X),
    L("CELU", 0.4, inputs=X),
    L("LeakyReLU", 0.2, True, inputs=X),
    L("GELU", "tanh", inputs=X),
    L("Softplus", 2.0, 1.0, inputs=X),
    L("Hardtanh", -0.3, 0.6, True, inputs=X),
    L("Threshold", 0.2, -1.0, inputs=X),
    L("Hardshrink", 0.2, inputs=X),
    L("Softshrink", 0.2, inputs=X),
    L("PReLU", 6, 0.1, inputs=X),
    L("GLU", 1, inputs=X),
    L("Softmax", 1, inputs=X),
    L("LogSoftmax", -1, inputs=X),
    L("Softmin", 0, inputs=X),
    L("Softmax2d", inputs=[(2, 3, 4, 5)]),
]
DENSE = [
    L("Linear", 6, 5, inputs=[(2, 3, 6)]),
    L("Linear", 6, 5, bias=False, inputs=[(6,)]),
    L("Bilinear", 3, 4, 5, inputs=[(2, 3), (2, 4)]),
    L("Bilinear", 3, 4, 5, bias=False, inputs=[(2, 7, 3), (2, 7, 4)]),
    L("Flatten", inputs=[(2, 3, 4, 5)]),
    L("Flatten", 0, 2, inputs=[(2, 3, 4, 5)]),
    L("Unflatten", 1, (2, -1), inputs=[(2, 6, 4)]),
    L("CosineSimilarity", inputs=[(3, 4), (3, 4)]),
    L("PairwiseDistance", 1.5, keepdim=True, inputs=[(3, 4), (3, 4)]),
]
classes = np.array([1, 0, 4, 2])
signs = np.array([1.0, -1.0, -1.0, 1.0])
some = np.random.default_rng(3).random((4, 5))
LOSSES = [
    *(L(name, inputs=[(4, 5), (4, 5)]) for name in "L1Loss MSELoss SmoothL1Loss HuberLoss".split()),
    L("MSELoss", reduction="sum", inputs=[(4, 5), (4, 5)]),
    L("SmoothL1Loss", beta=0.3, reduction="none", inputs=[(4, 5), (4, 5)]),
    L("HuberLoss", delta=0.3, inputs=[(4, 5), (4, 5)]),
    L("CrossEntropyLoss", inputs=[(4, 5), classes]),
    L("CrossEntropyLoss", label_smoothing=0.1, ignore_index=0, inputs=[(4, 5), classes]),
    L("CrossEntropyLoss", reduction="none", inputs=[(4, 5), some]),
    L("NLLLoss", inputs=[(4, 5), classes]),
    L("BCELoss", inputs=[some, some[::-1].copy()]),
    L("BCEWithLogitsLoss", inputs=[(4, 5), some]),
    L("KLDivLoss", reduction="batchmean", inputs=[(4, 5), some]),
    L("KLDivLoss", log_target=True, reduction="sum", inputs=[(4, 5), (4, 5)]),
    L("PoissonNLLLoss", inputs=[(4, 5), some]),
    L("PoissonNLLLoss", log_input=False, full=True, inputs=[some, some * 4]),
    L("GaussianNLLLoss", full=True, inputs=[(4, 5), (4, 5), some + 0.1]),
    L("HingeEmbeddingLoss", 0.5, inputs=[(4,), signs]),
    L("SoftMarginLoss", inputs=[(4,), signs]),
    L("MultiLabelSoftMarginLoss", inputs=[(4, 5), some.round()]),
    L("MultiMarginLoss", 2, 0.5, inputs=[(4, 5), classes]),
    L("MultiLabelMarginLoss", inputs=[(2, 4), np.array([[3, 0, -1, 1], [2, -1, 0, 0]])]),
    L("MarginRankingLoss", 0.1, inputs=[(4,), (4,), signs]),
    L("CosineEmbeddingLoss", 0.1, inputs=[(4, 5), (4, 5), signs]),
    L("TripletMarginLoss", 0.7, swap=True, inputs=[(4, 5), (4, 5), (4, 5)]),
    L("TripletMarginWithDistanceLoss", margin=0.7, inputs=[(4, 5), (4, 5), (4, 5)]),
]
RECURRENT = [
    L("RNN", 3, 4, inputs=[(5, 2, 3)]),
    L("RNN", 3, 4, 2, "relu", bias=False, batch_first=True, bidirectional=True, inputs=[(2, 5, 3)]),
    L("GRU", 3, 4, 2, inputs=[(5, 2, 3), (2, 2, 4)]),
    L("GRU", 3, 4, bidirectional=True, inputs=[(5, 3)]),
    L("LSTM", 3, 4, 2, bidirectional=True, inputs=[(5, 2, 3)]),
    L("LSTM", 3, 4, proj_size=2, batch_first=True, inputs=[(2, 5, 3)]),
    L("RNNCell", 3, 4, nonlinearity="relu", inputs=[(2, 3), (2, 4)]),
    L("RNNCell", 3, 4, bias=False, inputs=[(3,)]),
    L("GRUCell", 3, 4, inputs=[(2, 3)]),
    L("LSTMCell", 3, 4, inputs=[(2, 3)]),
]
LAYERS = [*CONVS, *POOLS, *NORMS, *ACTIVATIONS, *DENSE, *LOSSES, *RECURRENT]


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
    ours, theirs = layer.ours().double(), layer.theirs().double()
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
    assert repr(layer.ours()) == repr(layer.theirs())
    ours, theirs = pair(layer)
    for _ in range(2):  # twice in training: running statistics move
        compare(layer, ours, theirs, layer.arrays(to_gradflow), layer.arrays(to_torch))
    ours.eval()
    theirs.eval()
    ours.zero_grad()
    theirs.zero_grad()
    compare(layer, ours, theirs, layer.arrays(to_gradflow), layer.arrays(to_torch))
    # and our state into PyTorch's
    back = layer.theirs().double()
    back.load_state_dict({k: torch.from_numpy(v.numpy().copy()) for k, v in ours.state_dict().items()})


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_signature(layer):
    """Our constructors take PyTorch's arguments, in its order and with its defaults."""
    ours, theirs = getattr(nn, layer.name), getattr(torch.nn, layer.name)
    a = {n: p for n, p in inspect.signature(ours).parameters.items() if p.kind != p.VAR_KEYWORD}
    if layer.name in ("RNN", "GRU", "LSTM"):  # (*args, **kwargs) there
        return
    b = {n: p for n, p in inspect.signature(theirs).parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    for old in ("min_value", "max_value"):  # Hardtanh's old names
        b.pop(old, None)
    a.pop("args", None)
    assert list(a) == list(b)
    for name, p in b.items():
        assert a[name].default == p.default, name
        assert a[name].kind == p.kind, name


PARAMETERISED = [
    L("Linear", 300, 200, inputs=[]),
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
    ours, theirs = layer.ours(), layer.theirs()
    for (n, a), (m, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert n == m
        a, b = a.detach().numpy(), b.detach().numpy()
        assert a.dtype == b.dtype
        if a.size > 1000:
            assert abs(a.std() / b.std() - 1) < 0.1 and abs(a.mean() - b.mean()) < 0.05 * b.std() + 1e-12
            assert abs(np.abs(a).max() / np.abs(b).max() - 1) < 0.02
        elif b.std() == 0:
            assert (a == b).all()
        else:
            assert np.abs(a).max() <= np.abs(b).max() * 1.5 and a.std() > 0.5 * b.std()
