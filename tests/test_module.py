"""What modules can be made to do: hooks of every module, loading of their own, shapes from the first input, wrappers."""

from __future__ import annotations

import copy
import mmap
from collections import OrderedDict

import numpy as np
import pytest
from tolerance import assert_close

import gradflow as gf
from gradflow import nn
from gradflow.nn import hooks

rng = np.random.default_rng(0)


def test_hooks_of_every_module_come_before_its_own():
    seen = []
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    net[0].register_forward_hook(lambda m, args, y: seen.append("own"))
    handles = [
        hooks.register_module_forward_pre_hook(lambda m, args: seen.append(f"before {type(m).__name__}")),
        hooks.register_module_forward_hook(lambda m, args, y: seen.append(f"after {type(m).__name__}")),
        hooks.register_module_full_backward_pre_hook(lambda m, g: seen.append(f"back to {type(m).__name__}")),
        hooks.register_module_full_backward_hook(lambda m, gx, gy: seen.append(f"back from {type(m).__name__}")),
    ]
    net(gf.ones(1, 2).requires_grad_()).sum().backward()
    for handle in handles:
        handle.remove()
    assert seen == [
        "before Sequential", "before Linear", "after Linear", "own", "before ReLU", "after ReLU", "after Sequential",
        "back to Sequential", "back to ReLU", "back from ReLU", "back to Linear", "back from Linear",
        "back from Sequential",
    ]  # fmt: skip
    net(gf.ones(1, 2))
    assert seen[13:] == ["own"]


def test_hooks_of_registration_see_and_replace():
    seen = []
    handles = [
        hooks.register_module_parameter_registration_hook(lambda m, name, p: seen.append(name)),
        hooks.register_module_buffer_registration_hook(lambda m, name, b: b * 2),
        hooks.register_module_module_registration_hook(lambda m, name, child: nn.Identity()),
    ]
    net = nn.Sequential(nn.Linear(2, 2))
    net.register_buffer("b", gf.ones(1))
    for handle in handles:
        handle.remove()
    assert seen == ["weight", "bias"]
    assert net.b.item() == 2 and type(net[0]) is nn.Identity


def test_a_hook_that_is_always_called_does_not_hide_the_error():
    class Bad(nn.Module):
        def forward(self, x):
            raise ValueError("forward failed")

    def hook(module, args, y):
        raise KeyError("hook failed")

    net = Bad()
    net.register_forward_hook(hook, always_call=True)
    with pytest.warns(UserWarning, match="hook failed"), pytest.raises(ValueError, match="forward failed"):
        net(1)


def test_train_goes_by_what_modules_inside_define():
    class Frozen(nn.BatchNorm1d):
        def train(self, mode=True):
            return super().train(False)

    net = nn.Sequential(Frozen(2), nn.Dropout())
    net.train()
    assert not net[0].training and net[1].training


def test_a_module_loads_and_saves_as_it_defines():
    class Own(nn.Linear):
        _version = 3

        def _save_to_state_dict(self, destination, prefix, keep_vars):
            super()._save_to_state_dict(destination, prefix, keep_vars)
            destination[prefix + "twice"] = self.weight.detach() * 2

        def _load_from_state_dict(self, state_dict, prefix, local_metadata, *args):
            versions.append(local_metadata.get("version"))
            doubled = state_dict.pop(prefix + "twice", None)
            if doubled is not None:
                state_dict[prefix + "weight"] = doubled / 2
            super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)

    versions = []
    a, b = nn.Sequential(Own(2, 3)), nn.Sequential(Own(2, 3), nn.Linear(3, 1))
    state = a.state_dict()
    assert list(state) == ["0.weight", "0.bias", "0.twice"] and state._metadata["0"] == {"version": 3}
    before = b[0].weight.detach().clone()
    with pytest.raises(RuntimeError, match=r"missing keys: 1\.weight, 1\.bias"):
        b.load_state_dict(state)
    assert (b[0].weight == before).all()  # what was written before the failure was found is undone
    assert b.load_state_dict(state, strict=False).missing_keys == ["1.weight", "1.bias"]
    assert (b[0].weight == a[0].weight).all() and versions == [3, 3]


def test_hooks_around_state_dicts():
    net, seen = nn.Linear(1, 1), []
    net.register_state_dict_pre_hook(lambda m, prefix, keep: seen.append((prefix, keep)))
    net._register_state_dict_hook(lambda m, state, prefix, about: OrderedDict(only=state["weight"]))
    assert list(net.state_dict()) == ["only"] and seen == [("", False)]
    net = nn.Linear(1, 1)
    net._register_load_state_dict_pre_hook(lambda state, prefix, *rest: state.update(bias=state.pop(prefix + "b")))
    net.load_state_dict({"weight": gf.ones(1, 1), "b": gf.ones(1)})
    assert net.bias.item() == 1
    net.register_buffer("count", gf.tensor(0))
    net.load_state_dict({"weight": gf.ones(1, 1), "b": gf.ones(1), "count": gf.tensor([7])})
    assert net.count.item() == 7 and net.count.shape == ()  # numbers were once written as vectors of one


def test_metadata_says_since_when_an_entry_is_there():
    state = nn.BatchNorm1d(2).state_dict()
    del state["num_batches_tracked"]
    with pytest.raises(RuntimeError, match="missing keys: num_batches_tracked"):
        nn.BatchNorm1d(2).load_state_dict(state)
    state._metadata[""]["version"] = 1
    assert not nn.BatchNorm1d(2).load_state_dict(state).missing_keys


def test_to_empty_and_shared_memory():
    net = nn.Linear(2, 3)
    assert net.to_empty(device="cpu") is net and net.weight.shape == (3, 2)
    nn.init.ones_(net.weight)
    net.share_memory()
    memory = net.weight.array
    while isinstance(memory, np.ndarray):
        memory = memory.base
    assert isinstance(memory.obj, mmap.mmap) and (net.weight == 1).all()  # which forked processes share


def test_init_takes_no_arguments_but_for_a_second_base():
    with pytest.raises(TypeError, match="takes no arguments, saw the argument 'size'"):
        nn.Module(size=3)

    class Other:
        def __init__(self, size):
            self.size = size

    class Both(nn.Module, Other):
        call_super_init = True

    assert Both(size=3).size == 3


# --- shapes that the first input tells ------------------------------------------------------------------


def test_lazy_layers_become_ordinary_ones():
    net = nn.Sequential(nn.LazyConv2d(4, 3, groups=2), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(2, bias=False))
    assert repr(net[0]) == "LazyConv2d(0, 4, kernel_size=(3, 3), stride=(1, 1), groups=2)"
    assert repr(net[0].weight) == "<UninitializedParameter>" and net[0].has_uninitialized_params()
    twin = copy.deepcopy(net).double()
    with pytest.raises(RuntimeError, match="no shape before the module has seen"):
        _ = net[3].weight.shape
    with pytest.raises(ValueError, match="no values before the module has seen"):
        net[3].weight + 1
    y = net(gf.ones(2, 6, 5, 5))
    assert [type(m) for m in net] == [nn.Conv2d, nn.BatchNorm2d, nn.Flatten, nn.Linear]
    assert net[0].in_channels == 6 and net[0].weight.shape == (4, 3, 3, 3) and net[3].weight.shape == (2, 36)
    y.sum().backward()
    assert net[3].weight.grad.shape == (2, 36)
    twin.load_state_dict(net.state_dict())  # a state_dict tells the shapes, too
    assert twin[0].weight.dtype == gf.float64
    assert_close(
        twin.eval()(gf.ones(2, 6, 5, 5, dtype=gf.float64)).detach().numpy(),
        net.eval()(gf.ones(2, 6, 5, 5)).detach().numpy(),
        dtype="float32",
    )


def test_a_lazy_layer_checks_its_first_input():
    with pytest.raises(ValueError, match="divisible by groups 4"):
        nn.LazyConv1d(4, 3, groups=4)(gf.ones(1, 6, 5))
    with pytest.raises(RuntimeError, match="2 or 3 dimensions"):
        nn.LazyConv1d(4, 3)(gf.ones(5))
    with pytest.raises(RuntimeError, match="mismatches: weight: the model has shape"):
        nn.Linear(2, 2, bias=False).load_state_dict(nn.LazyLinear(2, bias=False).state_dict())


# --- wrappers -------------------------------------------------------------------------------------------


def test_wrapped_modules():
    net = nn.DataParallel(nn.Linear(2, 2))
    assert list(net.state_dict()) == ["module.weight", "module.bias"]
    x = gf.ones(1, 2)
    assert (net(x) == net.module(x)).all()
    bn = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3))
    state = bn.state_dict()
    both = nn.SyncBatchNorm.convert_sync_batchnorm(bn)
    assert type(both[1]) is nn.SyncBatchNorm and list(both.state_dict()) == list(state)
    assert both(gf.ones(2, 2, 1, 1)).shape == (2, 3, 1, 1)
    with pytest.warns(UserWarning, match="deprecated"):
        assert next(iter(nn.Container(a=nn.ReLU()).named_children()))[0] == "a"


def test_parameter_dicts_are_dicts():
    d = nn.ParameterDict({"b": gf.ones(1), "a": gf.zeros(2)})
    assert list(d) == ["a", "b"] and list(reversed(d)) == ["b", "a"]  # a plain dict is sorted, as PyTorch does
    assert list(nn.ParameterDict(OrderedDict(b=gf.ones(1), a=gf.ones(1)))) == ["b", "a"]
    e = d | nn.ParameterDict({"c": gf.ones(3)})
    assert list(e) == ["a", "b", "c"] and e["a"] is d["a"]
    assert e.popitem()[0] == "c" and list(e.copy()) == ["a", "b"]
    assert repr(d) == (
        "ParameterDict(\n    (a): Parameter containing: [gradflow.FloatTensor of size 2]\n"
        "    (b): Parameter containing: [gradflow.FloatTensor of size 1]\n)"
    )


def test_adaptive_softmax_is_a_distribution_over_all_classes():
    layer = nn.AdaptiveLogSoftmaxWithLoss(8, 12, [3, 6], div_value=2.0, head_bias=True).double()
    x, t = rng.standard_normal((5, 8)), np.array([0, 2, 4, 7, 11])
    p = layer.log_prob(gf.tensor(x)).detach().numpy()
    assert_close(np.exp(p).sum(1), np.ones(5))
    y, loss = layer(gf.tensor(x), gf.tensor(t))
    assert_close(y.detach().numpy(), p[np.arange(5), t])
    assert_close(loss.detach().numpy(), -p[np.arange(5), t].mean())
    assert (layer.predict(gf.tensor(x)).numpy() == p.argmax(1)).all()
    assert layer(gf.tensor(x[0]), gf.tensor(3)).output.shape == ()
    for call, kind, message in [
        (lambda: nn.AdaptiveLogSoftmaxWithLoss(8, 12, [3, 3]), ValueError, "each once and in order"),
        (lambda: layer(gf.tensor(x), gf.tensor(t + 1)), RuntimeError, "targets from 0 to 11"),
        (lambda: layer(gf.tensor(x), gf.tensor(t[:2])), RuntimeError, r"\(n, in_features\) with a target \(n\)"),
    ]:
        with pytest.raises(kind, match=message):
            call()


# --- functions by their other names -----------------------------------------------------------------------


def test_functions_of_the_package_take_pytorchs_own_arguments():
    x, t, w = (gf.tensor(rng.standard_normal((3, 4))) for _ in range(3))
    F = nn.functional
    sign = t.sign()
    for ours, theirs in [
        (gf.kl_div(x, t.exp(), 2), F.kl_div(x, t.exp(), reduction="sum")),
        (gf.hinge_embedding_loss(x, sign, 0.5, 0), F.hinge_embedding_loss(x, sign, 0.5, reduction="none")),
        (gf.margin_ranking_loss(x, t, sign, 0.1, 1), F.margin_ranking_loss(x, t, sign, 0.1)),
        (gf.triplet_margin_loss(x, t, w, 1.0, 2.0, 1e-6, False, 0), F.triplet_margin_loss(x, t, w, reduction="none")),
        (gf.poisson_nll_loss(x, t.exp(), True, True, 1e-8, 2), F.poisson_nll_loss(x, t.exp(), full=True, reduction="sum")),
        (gf.binary_cross_entropy_with_logits(x, t.sigmoid(), None, w, 1),
         F.binary_cross_entropy_with_logits(x, t.sigmoid(), pos_weight=w)),
        (gf.embedding(x, gf.tensor([2, 0])), x[[2, 0]]),
        (gf.batch_norm(x, w[0], t[0], None, None, True, 0.1, 1e-5), F.batch_norm(x, None, None, w[0], t[0], True)),
        (gf.norm_except_dim(x, 2, 1), (x * x).sum(0, keepdim=True).sqrt()),
        (gf.native_layer_norm(x, 4, None, None, 0.1)[1], x.mean(1, keepdim=True)),
    ]:  # fmt: skip
        assert_close(ours.numpy(), theirs.numpy())
    y, kept = gf.native_dropout(gf.ones(100), 0.25, True)
    assert_close(y.numpy(), kept.numpy() / 0.75, dtype="float32")
    assert 50 < int(kept.sum()) < 95
    lstm = nn.LSTM(4, 5, batch_first=True).double()
    h = gf.zeros(1, 3, 5, dtype=gf.float64)
    y, hn, _ = gf.lstm(x[:, None], (h, h), list(lstm.parameters()), True, 1, 0.0, False, False, True)
    assert_close(y.detach().numpy(), lstm(x[:, None])[0].detach().numpy())
    assert_close(hn[0].detach().numpy(), y[:, 0].detach().numpy())


def test_functions_that_write_into_their_input():
    for name, args in [("relu", ()), ("elu", (0.5,)), ("celu", (0.5,)), ("selu", ()), ("leaky_relu", (0.2,)),
                       ("hardtanh", (-0.5, 0.5)), ("threshold", (0.1, 2.0)), ("rrelu", (0.1, 0.3))]:  # fmt: skip
        x = gf.tensor(rng.standard_normal(5))
        wanted = getattr(nn.functional, name)(x, *args).numpy()
        y = getattr(nn.functional, f"{name}_")(x, *args)
        assert y is x and (x.numpy() == wanted).all(), name
    x = gf.tensor([-2.0, 3.0])
    assert gf.relu_(x) is x and gf.sqrt_(x).tolist() == [0.0, pytest.approx(3**0.5)]


def test_linear_cross_entropy_is_the_two_in_one():
    layer = nn.LinearCrossEntropyLoss(4, 3, out_features=(2,), bias=True, label_smoothing=0.1).double()
    x, t = gf.tensor(rng.standard_normal((5, 4))), gf.tensor(rng.integers(0, 3, (5, 2)))
    scores = layer.linear(x).reshape(5, 3, 2)
    assert_close(
        layer(x, t).detach().numpy(), nn.functional.cross_entropy(scores, t, label_smoothing=0.1).detach().numpy()
    )
    with pytest.raises(RuntimeError, match=r"linear_cross_entropy: wanted an input of 4 features"):
        layer(x[:, :3], t)
    with pytest.raises(ValueError, match="acc_policy"):
        nn.LinearCrossEntropyOptions(acc_policy="none")


def test_an_encoder_gives_zero_at_padding_where_pytorchs_nested_tensors_do():
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), 1).eval()
    x, padding = gf.ones(2, 3, 4), gf.tensor([[False, False, True], [False, False, False]])
    with gf.no_grad():
        y = encoder(x, src_key_padding_mask=padding)
        encoder.use_nested_tensor = False
        z = encoder(x, src_key_padding_mask=padding)
    assert (y[0, 2] == 0).all() and (z[0, 2] != 0).any()
    assert (y[0, :2] == z[0, :2]).all() and (y[1] == z[1]).all()


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_gradients_of_convolutions_as_functions(rank):
    sizes, options = (6, 5, 4)[:rank], {"stride": 2, "padding": 1, "groups": 2}
    x = gf.tensor(rng.standard_normal((2, 4, *sizes))).requires_grad_()
    w = gf.tensor(rng.standard_normal((6, 2, *(3, 2, 2)[:rank]))).requires_grad_()
    y = getattr(nn.functional, f"conv{rank}d")(x, w, None, **options)
    g = gf.tensor(rng.standard_normal(y.shape))
    dx, dw = gf.autograd.grad(y, [x, w], g)
    assert_close(getattr(nn.grad, f"conv{rank}d_input")(x.shape, w.detach(), g, **options).numpy(), dx.numpy())
    assert_close(getattr(nn.grad, f"conv{rank}d_weight")(x.detach(), w.shape, g, **options).numpy(), dw.numpy())


def test_recurrent_layers_check_for_those_made_from_them():
    layer, x = nn.LSTM(3, 4, 2, bidirectional=True, proj_size=2), gf.ones(5, 2, 3)
    assert layer.get_expected_hidden_size(x, None) == (4, 2, 2)
    layer.check_forward_args(x, (gf.zeros(4, 2, 2), gf.zeros(4, 2, 4)), None)
    with pytest.raises(RuntimeError, match=r"LSTM: wanted a state of \(4, 2, 4\), saw \(4, 2, 2\)"):
        layer.check_forward_args(x, (gf.zeros(4, 2, 2), gf.zeros(4, 2, 2)), None)
    with pytest.raises(RuntimeError, match="the last of size 3"):
        layer.check_input(x[..., :2], None)
    assert len(layer._flat_weights) == len(layer._flat_weights_names) == 20
    nn.utils.parametrizations.weight_norm(layer, "weight_hh_l0")  # its weights may be computed from others
    layer(x)[0].sum().backward()
    assert layer.parametrizations.weight_hh_l0.original0.grad is not None
