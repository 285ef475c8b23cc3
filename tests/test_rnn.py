"""Recurrent networks: values from loops over steps, gradients of two orders, unequal lengths, PyTorch's options."""

from __future__ import annotations

import numpy as np
import pytest
from tolerance import assert_close

import gradflow as gf
from gradflow.autograd import grad, gradcheck, gradgradcheck
from gradflow.cuda import launch
from gradflow.ops import random, rnn
from gradflow.ops.gru import gru_layer, gru_layer_backward
from gradflow.ops.lstm import lstm_layer, lstm_layer_backward
from gradflow.ops.recurrence import rnn_layer_backward
from gradflow.tape import StaleError

R = np.random.default_rng(0)
GATES = {"lstm": 4, "gru": 3, "rnn": 1}


def r(*shape):
    return R.standard_normal(shape) / 2


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


# --- one step, number by number, and a loop over steps --------------------------------------------------------


def step(kind, x, state, w, u, b, d, p=None, relu=False):
    """The next state of one sequence, (h,) or (h, c), by the textbook."""
    h, m = state[0], len(state[-1])
    a, s = w @ x + b, u @ h + d
    if kind == "rnn":
        return (np.maximum(a + s, 0) if relu else np.tanh(a + s),)
    if kind == "gru":
        z, n = sigmoid(a[m : 2 * m] + s[m : 2 * m]), np.tanh(a[2 * m :] + sigmoid(a[:m] + s[:m]) * s[2 * m :])
        return ((1 - z) * n + z * h,)
    i, f, g, o = (a + s).reshape(4, m)
    c = sigmoid(f) * state[1] + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
    return h if p is None else p @ h, c


def run(kind, x, states, layers, directions=1, lengths=None, **kwargs):
    """y and the last states of a network: layers is a list of the parameters of each layer and direction."""
    steps, n, _ = x.shape
    lengths = lengths or [steps] * n
    ends = []
    for layer in range(len(layers) // directions):
        found = []
        for way in range(directions):
            at = layer * directions + way
            q = layers[at][1].shape[1]
            y = np.zeros((steps, n, q))
            last = [s[at].copy() for s in states]
            for i in range(n):
                state = tuple(s[at, i] for s in states)
                for t in reversed(range(lengths[i])) if way else range(lengths[i]):
                    state = step(kind, x[t, i], state, *layers[at], **kwargs)
                    y[t, i] = state[0]
                for s, e in zip(last, state, strict=True):
                    s[i] = e
            found.append(y)
            ends.append(last)
        x = np.concatenate(found, 2)
    return x, [np.stack(s) for s in zip(*ends, strict=True)]


def network(kind, f, m, layers=1, directions=1, p=0):
    """Parameters of a network, a list for each layer and direction."""
    k, q, found = GATES[kind] * m, p or m, []
    for layer in range(layers):
        for _ in range(directions):
            i = f if layer == 0 else q * directions
            found.append([r(k, i), r(k, q), r(k), r(k), *([r(p, m)] if p else [])])
    return found


def states_of(kind, count, n, m, p=0):
    return [r(count, n, p or m), *([r(count, n, m)] if kind == "lstm" else [])]


def call(kind, x, states, weights, **kwargs):
    """The public function, with flat weights and lists of states; (y, list of last states)."""
    hx = None if states is None else tuple(states) if kind == "lstm" else states[0]
    y, ends = getattr(rnn, kind)(x, hx, weights, **kwargs)
    return y, list(ends) if kind == "lstm" else [ends]


def flat(layers):
    return [v for layer in layers for v in layer]


def tensors(values):
    return [gf.tensor(v, requires_grad=True) for v in values]


KINDS = ["lstm", "gru", "rnn"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("layers", "directions"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_a_network_is_the_loop_over_its_steps(kind, layers, directions):
    x, count = r(4, 3, 2), layers * directions
    parameters, states = network(kind, 2, 3, layers, directions), states_of(kind, count, 3, 3)
    y, ends = call(kind, x, states, flat(parameters), num_layers=layers, bidirectional=directions == 2)
    z, last = run(kind, x, states, parameters, directions)
    assert_close(y, z)
    for a, b in zip(ends, last, strict=True):
        assert_close(a, b)


def test_projection_and_relu():
    x, parameters, states = r(3, 2, 2), network("lstm", 2, 4, 2, 2, p=3), states_of("lstm", 4, 2, 4, p=3)
    y, ends = call("lstm", x, states, flat(parameters), num_layers=2, bidirectional=True)
    z, last = run("lstm", x, states, parameters, 2)
    assert_close(y, z)
    assert_close(ends[0], last[0])
    assert_close(ends[1], last[1])
    parameters, states = network("rnn", 2, 4), states_of("rnn", 1, 2, 4)
    y, _ = call("rnn", x, states, flat(parameters), nonlinearity="relu")
    assert_close(y, run("rnn", x, states, parameters, relu=True)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_layouts_and_missing_states(kind):
    x, parameters = r(4, 3, 2), network(kind, 2, 3)
    states = [np.zeros_like(s) for s in states_of(kind, 1, 3, 3)]
    z, last = run(kind, x, states, parameters)
    y, ends = call(kind, x, None, flat(parameters))
    assert_close(y, z)
    y, ends = call(kind, x.transpose(1, 0, 2), None, flat(parameters), batch_first=True)
    assert_close(y, z.transpose(1, 0, 2))
    assert_close(ends[0], last[0])
    y, ends = call(kind, x[:, 0], [s[:, 0] for s in states], flat(parameters))
    assert_close(y, z[:, 0])
    assert_close(ends[0], last[0][:, 0])
    y, _ = call(kind, x, None, flat([layer[:2] for layer in parameters]))
    assert_close(y, run(kind, x, states, [[*layer[:2], 0 * layer[2], 0 * layer[3]] for layer in parameters])[0])


@pytest.mark.parametrize("kind", KINDS)
def test_unequal_lengths(kind):
    lengths, sizes = [4, 2, 1], (3, 2, 1, 1)
    x, parameters, states = r(4, 3, 2), network(kind, 2, 3, 2, 2), states_of(kind, 4, 3, 3)
    z, last = run(kind, x, states, parameters, 2, lengths)
    packed = rnn.pack_padded(x, sizes)
    assert_close(packed, np.concatenate([x[t, :k] for t, k in enumerate(sizes)]))
    options = {"num_layers": 2, "bidirectional": True}
    y, ends = call(kind, packed, states, flat(parameters), batch_sizes=np.array(sizes), **options)
    assert_close(rnn.pad_packed(y, sizes), z)
    for a, b in zip(ends, last, strict=True):
        assert_close(a, b)
    wide = rnn.pad_packed(y, sizes, (5, 3), -1.0)
    assert (wide[4] == -1).all()
    assert (wide[1, 2] == -1).all()
    same, _ = call(kind, rnn.pack_padded(x, (3, 3)), states, flat(parameters), batch_sizes=(3, 3), **options)
    assert_close(same.reshape(2, 3, 6), run(kind, x[:2], states, parameters, 2)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_whole_networks(kind):
    p = 2 if kind == "lstm" else 0
    parameters, states = network(kind, 1, 3, 2, 2, p), states_of(kind, 4, 2, 3, p)
    inputs = tensors([rnn.pack_padded(r(3, 2, 1), (2, 1, 1)), *states, *flat(parameters)])
    count = len(states)

    def function(x, *rest):
        y, ends = call(kind, x, rest[:count], rest[count:], num_layers=2, bidirectional=True, batch_sizes=(2, 1, 1))
        return (y, *ends)

    assert gradcheck(function, inputs, fast_mode=True)
    few = [inputs[0], *inputs[1 : 1 + count], *inputs[1 + count : 3 + count]]
    rest = inputs[3 + count :]
    assert gradgradcheck(lambda *args: function(*args, *rest), few, fast_mode=True)


@pytest.mark.parametrize("kind", KINDS)
def test_cells(kind):
    (w, u, b, d), (state, *more) = network(kind, 2, 3)[0], [s[0] for s in states_of(kind, 1, 4, 3)]
    x, cell = r(4, 2), getattr(rnn, f"{kind}_cell")
    hx = (state, *more) if kind == "lstm" else state
    found = cell(x, hx, w, u, b, d)
    found = found if kind == "lstm" else (found,)
    for i in range(4):
        expected = step(kind, x[i], tuple(s[i] for s in (state, *more)), w, u, b, d)
        for a, e in zip(found, expected, strict=True):
            assert_close(a[i], e)
    alone = cell(x[0], tuple(s[0] for s in hx) if kind == "lstm" else hx[0], w, u, b, d)
    assert_close((alone[0] if kind == "lstm" else alone), found[0][0])
    for one, other in ((None, d), (b, None)):  # either bias may be missing
        y = cell(x, hx, w, u, one, other)
        z = cell(x, hx, w, u, 0 * b if one is None else b, 0 * d if other is None else d)
        assert_close(y[0] if kind == "lstm" else y, z[0] if kind == "lstm" else z)
    args = tensors([x, state, *more, w, u, b, d])
    n = 1 + len(more)

    def function(x, *rest):
        h = cell(x, rest[:n] if kind == "lstm" else rest[0], *rest[n:])
        return h

    assert gradcheck(function, args, fast_mode=True)
    assert gradgradcheck(function, args, fast_mode=True)


def test_relu_cell():
    (w, u, b, d), h, x = network("rnn", 2, 3)[0], r(1, 3), r(1, 2)
    expected = step("rnn", x[0], (h[0],), w, u, b, d, relu=True)[0][None]
    assert_close(rnn.rnn_relu_cell(x, h, w, u, b, d), expected)
    assert_close(rnn.rnn_cell(x, h, w, u, b, d, "relu"), expected)
    assert_close(rnn.rnn_tanh_cell(x, h, w, u, b, d), step("rnn", x[0], (h[0],), w, u, b, d)[0][None])


def test_dropout_lies_between_layers():
    x, parameters, states = r(3, 2, 2), network("lstm", 2, 3, 2), states_of("lstm", 2, 2, 3)
    first = run("lstm", x, [s[:1] for s in states], parameters[:1])[0]
    gf.manual_seed(5)
    dropped = random.drop(first, 0.5)
    gf.manual_seed(5)
    y, _ = call("lstm", x, states, flat(parameters), num_layers=2, dropout=0.5, training=True)
    assert_close(y, run("lstm", dropped, [s[1:] for s in states], parameters[1:])[0])
    y, _ = call("lstm", x, states, flat(parameters), num_layers=2, dropout=0.5, training=False)
    assert_close(y, run("lstm", x, states, parameters)[0])


# --- what the forward pass leaves for the backward pass --------------------------------------------------------


@pytest.mark.parametrize("sizes", [None, (2, 2, 1)])
def test_gradients_with_and_without_the_reserve(sizes):
    gy, x, h, c, (w, u, b, d, p) = r(3, 2, 2), r(3, 2, 2), r(2, 2), r(2, 4), network("lstm", 2, 4, p=2)[0]
    reserve = []
    y, hn, cn = lstm_layer(x, h, c, w, u, b, d, p, sizes, True, reserve)
    kept = reserve[0].copy()
    args = (gy, hn, cn, x, h, c, w, u, b, d, p)
    with_it = lstm_layer_backward(*args, y, sizes, True, reserve)
    np.testing.assert_array_equal(reserve[0], kept)  # a second walk finds it unharmed
    for a, e in zip(with_it, lstm_layer_backward(*args, None, sizes, True), strict=True):
        np.testing.assert_array_equal(a, e)
    w, u, b, d = network("gru", 2, 4)[0]
    args = (x, c, w, u, b, d)
    y, hn = gru_layer(*args, sizes, False, reserve)
    kept, gy = reserve[0].copy(), r(3, 2, 4)
    with_it = gru_layer_backward(gy, hn, *args, y, sizes, False, reserve)
    np.testing.assert_array_equal(reserve[0], kept)
    for a, e in zip(with_it, gru_layer_backward(gy, hn, *args, None, sizes), strict=True):
        np.testing.assert_array_equal(a, e)


def test_only_needed_gradients_are_computed():
    w, u, b, d = network("rnn", 2, 3)[0]
    gy, gh, x, h = r(2, 2, 3), r(2, 3), r(2, 2, 2), r(2, 3)
    whole = rnn_layer_backward(gy, gh, x, h, w, u, b, d)
    for i in range(6):
        part = rnn_layer_backward(gy, gh, x, h, w, u, b, d, needs=tuple(j == i for j in range(6)))
        assert [g is not None for g in part] == [j == i for j in range(6)]
        np.testing.assert_array_equal(part[i], whole[i])


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_walk_gives_the_same(kind):
    parameters = tensors(flat(network(kind, 2, 3)))
    x = tensors([r(3, 2, 2)])[0]
    y, _ = call(kind, x, None, parameters)
    first = grad(y.sum(), [x, *parameters], retain_graph=True)
    for a, b in zip(first, grad(y.sum(), [x, *parameters]), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_writing_into_what_the_gradient_needs_is_noticed():
    parameters = tensors(flat(network("lstm", 2, 3)))
    y, _ = call("lstm", tensors([r(3, 2, 2)])[0], None, parameters)
    s = y.sum()
    with gf.no_grad():
        parameters[1].fill_(0.0)
    with pytest.raises(StaleError, match="lstm_layer"):
        s.backward()


def test_without_grad_mode_nothing_is_kept():
    parameters = tensors(flat(network("lstm", 2, 3)))
    with gf.no_grad():
        assert rnn._reserve() is None
        y, _ = call("lstm", r(3, 2, 2), None, parameters)
    assert not y.requires_grad


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("kind", KINDS)
def test_dtypes(kind, dtype):
    to = gf.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    x, parameters = r(5, 2, 3).astype(to), [[v.astype(to) for v in layer] for layer in network(kind, 3, 4)]
    y, ends = call(kind, x, None, flat(parameters))
    assert y.dtype == to
    assert all(e.dtype == to for e in ends)
    states = [np.zeros_like(s) for s in states_of(kind, 1, 2, 4)]
    z, _ = run(kind, x.astype(float), states, [[v.astype(float) for v in layer] for layer in parameters])
    assert_close(y, z.astype(to))


@pytest.mark.cuda
@pytest.mark.parametrize("kind", KINDS)
def test_a_network_on_the_card(kind, card):
    p = 2 if kind == "lstm" else 0
    parameters, states = network(kind, 2, 3, 2, 2, p), states_of(kind, 4, 3, 3, p)
    arrays = [rnn.pack_padded(r(3, 3, 2), (3, 2, 1)), *states, *flat(parameters)]
    count, options = len(states), {"num_layers": 2, "bidirectional": True, "batch_sizes": (3, 2, 1)}

    def walk(inputs):
        y, ends = call(kind, inputs[0], inputs[1 : 1 + count], inputs[1 + count :], **options)
        total = (y * y).sum() + sum(e.sum() for e in ends)
        return [y, *ends, *grad(total, inputs)]

    here = walk(tensors(arrays))
    there = walk([gf.tensor(a).cuda().requires_grad_() for a in arrays])
    for a, b in zip(there, here, strict=True):
        assert a.is_cuda
        assert_close(a.detach().cpu().numpy(), b.detach().numpy())


@pytest.mark.cuda
@pytest.mark.parametrize("kind", KINDS)
def test_one_launch_for_each_step_each_way(kind, card):
    inputs = [gf.tensor(a).cuda().requires_grad_() for a in (r(7, 2, 2), *flat(network(kind, 2, 3)))]
    before = launch.count
    y, _ = call(kind, inputs[0], None, inputs[1:])
    assert launch.count - before == 7
    g = gf.ones_like(y)
    before = launch.count
    grad(y, inputs, g)
    assert launch.count - before == 7


ERRORS = [
    (lambda: rnn.lstm(r(2, 2, 3), None, flat(network("lstm", 2, 3))), "lstm: wanted 2 features, saw 3"),
    (lambda: rnn.gru(r(2, 3), None, flat(network("gru", 3, 3))[:3] * 2), "gru: wanted 2 to 5 weights"),
    (lambda: rnn.gru(r(2), None, flat(network("gru", 2, 3))), "gru: wanted an input of 2 or 3 dim"),
    (lambda: rnn.gru(r(0, 2, 2), None, flat(network("gru", 2, 3))), "gru: wanted at least one step"),
    (lambda: rnn.rnn(r(2, 2, 2), r(1, 3, 3), flat(network("rnn", 2, 3))), "rnn: wanted a state of shape"),
    (lambda: rnn.rnn(r(2, 2, 2).astype("f"), None, flat(network("rnn", 2, 3))), "rnn: wanted an input of"),
    (lambda: rnn.gru_cell(r(2, 2), r(2, 4), *network("gru", 2, 3)[0]), "gru_cell: wanted a state of"),
    (lambda: rnn.gru_cell(r(2, 3), r(2, 3), *network("gru", 2, 3)[0]), "gru_cell: wanted 2 features"),
    (lambda: rnn.gru_cell(r(2, 2, 2), r(2, 3), *network("gru", 2, 3)[0]), "gru_cell: wanted an input of"),
    (lambda: rnn.pack_padded(r(2, 2), (2, 1, 1)), "pack_padded: wanted sizes within"),
    (lambda: rnn.pad_packed(r(2, 2), (2, 1)), "pad_packed: wanted 3 rows"),
]


@pytest.mark.parametrize(("call", "message"), ERRORS)
def test_errors(call, message):
    with pytest.raises(RuntimeError, match=f"^{message}"):
        call()


def test_unknown_nonlinearity():
    with pytest.raises(ValueError, match=r"^rnn: wanted nonlinearity 'tanh' or 'relu', saw"):
        rnn.rnn(r(2, 2, 2), None, flat(network("rnn", 2, 3)), "sine")


# --- PyTorch ---------------------------------------------------------------------------------------------------


OPTIONS = [
    {}, {"num_layers": 3}, {"bidirectional": True, "num_layers": 2}, {"bias": False},
    {"batch_first": True, "bidirectional": True},
]  # fmt: skip
PROJECTED = [{"proj_size": 2, "num_layers": 2, "bidirectional": True}, {"proj_size": 2, "bias": False}]
SAMPLES = [(k, o) for k in KINDS for o in OPTIONS] + [("lstm", o) for o in PROJECTED]
SAMPLES += [("rnn", {"nonlinearity": "relu"})]


@pytest.mark.reference
@pytest.mark.parametrize(("kind", "options"), SAMPLES, ids=str)
def test_as_pytorch(kind, options):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    layer = getattr(torch.nn, kind.upper())(3, 4, dtype=torch.float64, **options)
    x = torch.randn(3, 5, 3, dtype=torch.float64, requires_grad=True)
    n = 3 if options.get("batch_first") else 5
    count = options.get("num_layers", 1) * (1 + options.get("bidirectional", False))
    states = [torch.randn(count, n, options.get("proj_size") or 4, dtype=torch.float64, requires_grad=True)]
    if kind == "lstm":
        states.append(torch.randn(count, n, 4, dtype=torch.float64, requires_grad=True))
    hx = tuple(states) if kind == "lstm" else states[0]
    y, ends = layer(x, hx)
    ours = tensors([v.detach().numpy() for v in (x, *states, *layer.parameters())])
    m = 1 + len(states)
    kwargs = {k: v for k, v in options.items() if k not in ("bias", "proj_size")}
    z, last = call(kind, ours[0], ours[1:m], ours[m:], **kwargs)
    theirs = [y, *(ends if kind == "lstm" else [ends])]
    gs = [torch.randn_like(v) for v in theirs]
    torch.autograd.backward(theirs, gs)
    gf.autograd.backward([z, *last], [gf.tensor(g.numpy()) for g in gs])
    for a, b in zip([z, *last], theirs, strict=True):
        assert_close(a.detach().numpy(), b.detach().numpy())
    for a, b in zip(ours, [x, *states, *layer.parameters()], strict=True):
        assert_close(a.grad.numpy(), b.grad.numpy(), scale=10)
