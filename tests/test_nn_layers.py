"""Layers where a formula says what they do, what they refuse, nn.utils, and all of them on the card."""

from __future__ import annotations

import numpy as np
import pytest
from layers import LAYERS
from tolerance import assert_close

import gradflow as gf
from gradflow import backend, nn
from gradflow.nn import functional as F


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_dropout_keeps_a_share_and_scales_it(p):
    x = gf.ones(100, 100, requires_grad=True)
    drop = nn.Dropout(p)
    y = drop(x)
    kept = y.detach().numpy() != 0
    assert abs(kept.mean() - (1 - p)) < 0.02
    assert_close(y.detach().numpy(), kept / np.float32(1 - p) if p < 1 else np.zeros((100, 100), "f"))
    y.sum().backward()
    assert_close(x.grad.numpy(), y.detach().numpy())  # the same mask
    assert drop.eval()(x) is x
    if 0 < p < 1:
        assert (drop.train()(x).detach().numpy() != y.detach().numpy()).any()


def test_dropout_draws_from_the_default_generator():
    drop, x = nn.Dropout(0.5), gf.ones(20)
    gf.manual_seed(5)
    a, b = drop(x).numpy(), drop(x).numpy()
    gf.manual_seed(5)
    assert (drop(x).numpy() == a).all() and (a != b).any()
    with pytest.raises(ValueError, match="Dropout: wanted a probability between 0 and 1, saw 2"):
        nn.Dropout(2)
    with pytest.raises(ValueError, match=r"dropout: wanted a probability p in \[0, 1\]"):
        F.dropout(x, -0.1)


@pytest.mark.parametrize(
    ("layer", "shape", "dims"),
    [
        (nn.Dropout1d, (30, 20, 5), 1),
        (nn.Dropout1d, (30, 5), 1),
        (nn.Dropout2d, (30, 20, 5, 2), 2),
        (nn.Dropout2d, (30, 20, 5), 1),
        (nn.Dropout3d, (30, 20, 2, 3, 2), 3),
        (nn.Dropout3d, (30, 2, 3, 2), 3),
    ],
)
def test_channel_dropout_is_all_or_nothing(layer, shape, dims):
    y = layer(0.4)(gf.ones(*shape)).numpy()
    channels = y.reshape(*shape[: len(shape) - dims], -1)
    assert (channels == channels[..., :1]).all()
    assert set(np.unique(y).tolist()) == {0.0, float(np.float32(1 / 0.6))}


def test_channel_dropout_checks_dimensions():
    with pytest.raises(RuntimeError, match="dropout1d: wanted 2 or 3 dimensions"):
        F.dropout1d(gf.ones(2, 3, 4, 5))


@pytest.mark.parametrize("layer", [nn.AlphaDropout, nn.FeatureAlphaDropout])
def test_alpha_dropout_keeps_mean_and_variance(layer):
    x = gf.randn(300, 200, 1)
    y = layer(0.3)(x).numpy()
    assert abs(y.mean()) < 0.02 and abs(y.std() - 1) < 0.02
    assert layer(0.3).eval()(x) is x
    # what is left out is one value
    _, counts = np.unique(y, return_counts=True)
    assert abs(counts.max() / y.size - 0.3) < 0.01
    assert (layer(1.0)(x).numpy() == 0).all()


def test_rrelu_slopes_lie_between_the_bounds():
    x = gf.tensor(-np.ones((100, 100), "f"), requires_grad=True)
    m = nn.RReLU(0.1, 0.3)
    y = m(x)
    slopes = -y.detach().numpy()
    assert 0.1 <= slopes.min() < 0.11 and 0.29 < slopes.max() <= 0.3
    y.sum().backward()
    assert_close(x.grad.numpy(), slopes)
    assert_close(m.eval()(x).detach().numpy(), np.full((100, 100), -0.2, "f"))
    assert_close(m.train()(gf.ones(3)).numpy(), np.ones(3, "f"))


def test_inplace_writes_into_the_input_and_is_tracked():
    x = gf.tensor([-1.0, 2.0], requires_grad=True)
    h = x * 3
    y = nn.ReLU(inplace=True)(h)
    assert y is h and (h.detach().numpy() == [0, 6]).all()
    (h * h).sum().backward()
    assert (x.grad.numpy() == [0, 36]).all()
    with pytest.raises(RuntimeError, match="relu_"):
        F.relu(x, inplace=True)  # a leaf that requires a gradient
    with pytest.raises(TypeError, match="elu_: wanted a tensor"):
        F.elu(np.ones(2), inplace=True)


def test_functions_take_arrays_and_give_arrays():
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 5))
    assert isinstance(F.relu(x), np.ndarray) and isinstance(F.dropout2d(x), np.ndarray)
    assert F.max_pool2d(F.conv2d(x, np.ones((4, 3, 2, 2))), 2).shape == (2, 4, 2, 2)
    assert F.conv2d.__name__ == "conv2d" and "dilation" in F.conv2d.__doc__


def test_functional_takes_pytorchs_argument_names():
    x, w, b = gf.randn(2, 3, 5, 5), gf.randn(4, 3, 3, 3), gf.randn(4)
    y = F.conv2d(input=x, weight=w, bias=b, stride=1, padding=1, dilation=1, groups=1)
    assert_close(y.numpy(), F.conv2d(x, w, b, padding=1).numpy())
    assert F.linear(input=gf.ones(2, 3), weight=gf.ones(4, 3), bias=None).shape == (2, 4)
    assert F.leaky_relu(input=gf.tensor([-1.0]), negative_slope=0.5).item() == -0.5
    assert F.softmax(input=gf.zeros(2), dim=0).sum().item() == 1


def test_normalize():
    x = gf.randn(4, 5, dtype=gf.float64)
    assert_close(F.normalize(x).numpy(), x.numpy() / np.sqrt((x.numpy() ** 2).sum(1, keepdims=True)))
    assert_close(F.normalize(x, 1, 0).numpy(), x.numpy() / abs(x.numpy()).sum(0))
    assert (F.normalize(gf.zeros(2, 3)).numpy() == 0).all()


def test_batch_norm_running_statistics():
    x = gf.randn(50, 3) * 2 + 5
    m = nn.BatchNorm1d(3, momentum=0.25)
    y = m(x).detach().numpy()
    assert_close(y.mean(0), np.zeros(3, "f"), scale=100)
    assert_close(y.var(0), np.ones(3, "f"), scale=100)
    mean, var = x.numpy().mean(0), x.numpy().var(0, ddof=1)
    assert_close(m.running_mean.numpy(), 0.25 * mean, scale=10)
    assert_close(m.running_var.numpy(), 0.75 + 0.25 * var, scale=10)
    assert m.num_batches_tracked.item() == 1 and m.num_batches_tracked.dtype == gf.int64
    m.reset_running_stats()
    assert m.num_batches_tracked.item() == 0 and (m.running_var.numpy() == 1).all()


def test_old_state_dicts_without_the_count_of_batches_load():
    m = nn.BatchNorm1d(3)
    state = dict(m.state_dict())  # without the version of its entries, as older files have it
    del state["num_batches_tracked"]
    assert m.load_state_dict(state).missing_keys == []
    with pytest.raises(RuntimeError, match="missing keys: running_mean"):
        m.load_state_dict({k: v for k, v in state.items() if k != "running_mean"})


def test_norms_check_their_input():
    for m, shape, message in [
        (nn.BatchNorm2d(3), (2, 3), "BatchNorm2d: wanted 4-d input, saw 2-d"),
        (nn.BatchNorm1d(3), (2, 3, 4, 5), "BatchNorm1d: wanted 2-d or 3-d input, saw 4-d"),
        (nn.InstanceNorm2d(3, affine=True), (2, 4, 5, 5), "InstanceNorm2d: wanted 3 channels, saw 4"),
        (nn.Softmax2d(), (2, 3), "Softmax2d: wanted 3-d or 4-d input, saw 2-d"),
    ]:
        with pytest.raises(ValueError, match=message):
            m(gf.ones(*shape))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.Conv2d(3, 4, 3, groups=2), ValueError, "divisible by groups 2, saw 3 in, 4 out"),
        (lambda: nn.Conv2d(3, 3, 3, groups=0), ValueError, "groups > 0"),
        (lambda: nn.Conv2d(3, 3, 3, padding="half"), ValueError, "'same', 'valid' or numbers"),
        (lambda: nn.Conv2d(3, 3, 3, 2, padding="same"), ValueError, "wants stride 1, saw 2"),
        (lambda: nn.Conv2d(3, 3, 3, padding_mode="ones"), ValueError, "padding_mode one of zeros"),
        (lambda: nn.ConvTranspose2d(3, 3, 3, padding_mode="reflect"), ValueError, "padding_mode 'zeros'"),
        (lambda: nn.GroupNorm(4, 6), ValueError, "divisible by 4 groups, saw 6"),
        (lambda: nn.Bilinear(0, 2, 3), ValueError, "in1_features > 0"),
        (lambda: nn.Hardtanh(1, 1), ValueError, "min_val < max_val"),
        (lambda: nn.Unflatten("a", (2, 3)), TypeError, "a dimension number"),
        (lambda: nn.Unflatten(1, 3), TypeError, "a tuple of ints"),
        (lambda: nn.LSTM(3, 0), ValueError, "hidden_size > 0"),
        (lambda: nn.LSTM(3.0, 4), TypeError, "input_size as an int"),
        (lambda: nn.LSTM(3, 4, proj_size=4), ValueError, "proj_size < hidden_size"),
        (lambda: nn.GRU(3, 4, 2, dropout=True), ValueError, "a probability"),
        (lambda: nn.RNN(3, 4, nonlinearity="gelu"), ValueError, "'tanh' or 'relu'"),
        (lambda: nn.RNNCell(3, 4, nonlinearity="gelu"), RuntimeError, "'tanh' or 'relu'"),
    ],
)
def test_constructors_check_their_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_transposed_convolution_output_size():
    m = nn.ConvTranspose2d(2, 3, 3, stride=2)
    x = gf.randn(1, 2, 4, 5)
    assert m(x).shape == (1, 3, 9, 11)
    assert m(x, output_size=(10, 12)).shape == m(x, output_size=(1, 3, 10, 12)).shape == (1, 3, 10, 12)
    with pytest.raises(ValueError, match=r"between \[9, 11\] and \[10, 12\], saw \[11, 12\]"):
        m(x, output_size=(11, 12))


def test_losses_warn_of_old_arguments():
    with pytest.warns(UserWarning, match="use reduction='sum'"):
        loss = nn.MSELoss(size_average=False)
    assert loss(gf.ones(4), gf.zeros(4)).item() == 4
    weighted = nn.CrossEntropyLoss(weight=gf.ones(3) * 2)
    assert weighted.double().weight.dtype == gf.float64  # weights are buffers
    assert list(weighted.state_dict()) == ["weight"]


def test_recurrent_dropout_between_layers():
    with pytest.warns(UserWarning, match="dropout comes between layers"):
        nn.LSTM(3, 4, dropout=0.5)
    m = nn.GRU(3, 4, 2, dropout=0.5)
    x = gf.randn(5, 2, 3)
    assert (m(x)[0].detach().numpy() != m(x)[0].detach().numpy()).any()
    m.eval()
    assert (m(x)[0].detach().numpy() == m(x)[0].detach().numpy()).all()
    assert m.flatten_parameters() is None and len(m.all_weights) == 2


def test_recurrent_layers_check_their_input():
    m = nn.LSTM(3, 4)
    with pytest.raises(ValueError, match="wanted an input of 2 or 3 dimensions"):
        m(gf.ones(2, 2, 2, 3))
    with pytest.raises(RuntimeError, match="wanted 3 features, saw 5"):
        m(gf.ones(2, 2, 5))
    with pytest.raises(ValueError, match="wanted an input of the weights' float32, saw float64"):
        m(gf.ones(2, 2, 3, dtype=gf.float64))
    with pytest.raises(RuntimeError, match=r"wanted a state of shape \(1, 2, 4\), saw \(1, 3, 4\)"):
        m(gf.ones(2, 2, 3), (gf.ones(1, 3, 4), gf.ones(1, 2, 4)))
    with pytest.raises(RuntimeError, match="wanted a state of 3 dimensions"):
        m(gf.ones(2, 2, 3), (gf.ones(1, 4), gf.ones(1, 4)))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (F.interpolate, ValueError, "either size or scale_factor"),
        (lambda x: F.interpolate(x, 3, 2), ValueError, "either size or scale_factor"),
        (lambda x: F.interpolate(x, (3, 3, 3)), ValueError, "wanted 2 numbers"),
        (lambda x: F.interpolate(x, 3, mode="linear"), NotImplementedError, "'linear' is for, saw 4 dimensions"),
        (lambda x: F.interpolate(x, 3, mode="best"), NotImplementedError, "saw 'best'"),
        (lambda x: F.interpolate(x, 3, align_corners=True), ValueError, "align_corners is for"),
        (lambda x: F.interpolate(x, 3, recompute_scale_factor=True), ValueError, "recompute_scale_factor is for"),
        (lambda x: F.interpolate(x, scale_factor=0.1), RuntimeError, "sizes above 0"),
        (lambda x: F.pixel_shuffle(x, 2), RuntimeError, r"divisible by 2\^2, saw 3"),
        (lambda x: F.pixel_unshuffle(x, 3), RuntimeError, "divisible by 3, saw 4 and 4"),
        (lambda x: F.channel_shuffle(x, 2), RuntimeError, "divisible by 2 groups, saw 3"),
        (lambda x: F.glu(x, 1), RuntimeError, "an even size along dimension 1, saw 3"),
        (nn.ReflectionPad1d(1), ValueError, "wanted 2 or 3 dimensions, saw 4"),
        (lambda x: nn.ZeroPad2d((1, 2)), ValueError, "wanted 4 numbers, saw 2"),
        (lambda x: F.embedding(x, x), RuntimeError, "wanted ints"),
        (lambda x: F.embedding(gf.tensor([5]), gf.ones(3, 2)), IndexError, r"rows in \[0, 3\), saw 5"),
        (lambda x: nn.Embedding(3, 2, 3), ValueError, "padding_idx within 3 rows"),
        (lambda x: nn.MultiheadAttention(8, 3), AssertionError, "divisible by 3 heads"),
        (lambda x: nn.MultiheadAttention(4, 2)(x, x, x), AssertionError, "all 2-d or all 3-d"),
    ],
)
def test_functions_check_their_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call(gf.ones(1, 3, 4, 4))


def test_gumbel_softmax():
    x = gf.tensor(np.log([0.5, 0.3, 0.2]).astype("f"), requires_grad=True)
    picks = F.gumbel_softmax(x.expand(20000, 3), hard=True)
    assert set(np.unique(picks.detach().numpy().round(6)).tolist()) == {0, 1}
    assert_close(picks.detach().numpy().mean(0), np.array([0.5, 0.3, 0.2]), "float16", scale=5)
    soft = F.gumbel_softmax(x, tau=0.5)
    assert_close(soft.sum().item(), 1.0, "float32")
    soft[0].backward()
    assert (x.grad.numpy() != 0).all()


def test_an_embedding_of_given_vectors():
    table = gf.randn(4, 3)
    frozen = nn.Embedding.from_pretrained(table)
    assert not frozen.weight.requires_grad and frozen.weight.array is table.array
    y = nn.Embedding.from_pretrained(table, freeze=False, padding_idx=1)(gf.tensor([1, 2, 2]))
    assert (y.detach().numpy() == table.numpy()[[1, 2, 2]]).all() and y.requires_grad
    with pytest.raises(ValueError, match="wanted a weight of shape"):
        nn.Embedding(3, 3, _weight=table)


# --- nn.utils ------------------------------------------------------------------------------------------------


def test_parameters_as_one_vector():
    net = nn.Sequential(nn.PReLU(), nn.Linear(3, 4, bias=False), nn.Tanh(), nn.Linear(4, 2, bias=False))
    vector = nn.utils.parameters_to_vector(net.parameters())
    assert vector.shape == (1 + 12 + 8,) and vector.requires_grad
    parameters = list(net.parameters())
    nn.utils.vector_to_parameters(gf.arange(21.0), net.parameters())
    assert all(p is q for p, q in zip(net.parameters(), parameters, strict=True))
    assert net[0].weight.item() == 0 and (net[1].weight.detach().numpy().ravel() == np.arange(1, 13)).all()
    assert net[1].weight.requires_grad and net[1].weight.is_leaf
    with pytest.raises(ValueError, match="a vector of 21 elements"):
        nn.utils.vector_to_parameters(gf.ones(20), net.parameters())


def test_gradients_are_clipped():
    p = nn.Parameter(gf.zeros(2))
    p.grad = gf.tensor([3.0, 4.0])
    assert nn.utils.clip_grad_norm_(p, 1.0).item() == 5
    assert_close(p.grad.numpy(), np.array([0.6, 0.8], "f"), scale=10)
    nn.utils.clip_grad_value_([p], 0.7)
    assert_close(p.grad.numpy(), np.array([0.6, 0.7], "f"), scale=10)


def test_sequences_are_packed_and_padded():
    pad, pack = nn.utils.rnn.pad_sequence, nn.utils.rnn.pack_sequence
    a, b, c = (gf.arange(float(n)) + 10 * n for n in (1, 3, 2))
    padded = pad([a, b, c], batch_first=True, padding_value=-1.0)
    assert padded.tolist() == [[10, -1, -1], [30, 31, 32], [20, 21, -1]]
    assert pad([a, b], padding_side="left").tolist() == [[0, 30], [0, 31], [10, 32]]
    packed = pack([a, b, c], enforce_sorted=False)
    assert packed.data.tolist() == [30, 20, 10, 31, 21, 32] and packed.batch_sizes.tolist() == [3, 2, 1]
    assert packed.sorted_indices.tolist() == [1, 2, 0] and packed.unsorted_indices.tolist() == [2, 0, 1]
    again, lengths = nn.utils.rnn.pad_packed_sequence(packed, True, -1.0, total_length=4)
    assert again.tolist() == [[10, -1, -1, -1], [30, 31, 32, -1], [20, 21, -1, -1]] and lengths.tolist() == [1, 3, 2]
    assert [v.tolist() for v in nn.utils.rnn.unpack_sequence(packed)] == [a.tolist(), b.tolist(), c.tolist()]
    assert pack([b, c, a]).sorted_indices is None and packed.to(gf.float64).data.dtype == gf.float64


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda r, x: r.pack_padded_sequence(x, [2, 3]), RuntimeError, "from longest to shortest, saw"),
        (lambda r, x: r.pack_padded_sequence(x, [3]), RuntimeError, "wanted 2 lengths"),
        (lambda r, x: r.pack_padded_sequence(x, [4, 1]), RuntimeError, "between 1 and 3"),
        (lambda r, x: r.pack_padded_sequence(x, [3, 0]), RuntimeError, "between 1 and 3"),
        (lambda r, x: r.pack_padded_sequence(x, [2.5, 1]), ValueError, "integer lengths"),
        (lambda r, x: r.pad_sequence([x], padding_side="top"), RuntimeError, "'right' or 'left'"),
        (
            lambda r, x: r.pad_packed_sequence(r.pack_padded_sequence(x, [3, 1]), total_length=2),
            ValueError,
            "a total_length of at least 3",
        ),
    ],
)
def test_packing_checks_lengths(call, error, message):
    with pytest.raises(error, match=message):
        call(nn.utils.rnn, gf.ones(3, 2))


def test_packed_sequences_run_as_if_each_were_alone():
    m = nn.LSTM(2, 3, 2, bidirectional=True).double()
    sequences = [gf.randn(n, 2, dtype=gf.float64) for n in (2, 5, 3)]
    packed = nn.utils.rnn.pack_sequence(sequences, enforce_sorted=False)
    y, (h, c) = m(packed)
    for i, (x, part) in enumerate(zip(sequences, nn.utils.rnn.unpack_sequence(y), strict=True)):
        alone, (h1, c1) = m(x)
        assert_close(part.detach().numpy(), alone.detach().numpy(), scale=10)
        assert_close(h[:, i].detach().numpy(), h1.detach().numpy(), scale=10)
        assert_close(c[:, i].detach().numpy(), c1.detach().numpy(), scale=10)


# --- on the card ----------------------------------------------------------------------------------------------


@pytest.mark.cuda
def test_a_network_trains_alike_on_the_card(card):
    def losses(device):
        gf.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.2),
            nn.Linear(16, 3),
        ).to(device)  # fmt: skip
        x, y = gf.randn(6, 1, 4, 4).to(device), gf.tensor([0, 1, 2, 0, 1, 2]).to(device)
        optimizer = gf.optim.Adam(model.parameters(), 0.01)
        found = []
        for _ in range(3):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        return found

    assert_close(np.array(losses("cuda")), np.array(losses("cpu")), "float32", scale=100)


@pytest.mark.cuda
@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_layers_compute_alike_on_the_card(card, layer):
    def run(device):
        gf.manual_seed(0)
        model = layer.made().to(device)
        inputs = layer.arrays(lambda a, grad: gf.tensor(a.astype("f") if a.dtype.kind == "f" else a, device=device))
        inputs = [x.requires_grad_() if x.is_floating_point() else x for x in inputs]
        given = [x * 1 for x in inputs] if layer.kwargs.get("inplace") or True in layer.args else inputs
        y = [t for t in _flat(model(*given)) if t.requires_grad]
        if y:
            gf.autograd.backward(y, [t.detach() + 1 for t in y])
        leaves = [*model.parameters(), *(x for x in inputs if x.is_floating_point())]
        return [*y, *(p.grad for p in leaves if p.grad is not None), *model.buffers()]

    for there, here in zip(run("cuda"), run("cpu"), strict=True):
        assert there.is_cuda
        assert_close(backend.asnumpy(there.array), here.array, "float32", scale=30)


def _flat(y):
    return [t for v in y for t in _flat(v)] if isinstance(y, (tuple, list)) else [] if y is None else [y]
