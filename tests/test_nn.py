"""Modules: registering, walking, state, moving, hooks, showing, containers."""

from __future__ import annotations

import copy
import gc

import numpy as np
import pytest
from tolerance import assert_close

import gradflow as gf
from gradflow import backend, nn
from gradflow.nn import functional as F


class Affine(nn.Module):
    """A layer with a parameter, a persistent buffer and one that is not."""

    def __init__(self, n=3, m=2):
        super().__init__()
        self.weight = nn.Parameter(gf.randn(m, n))
        self.register_parameter("bias", None)
        self.register_buffer("count", gf.zeros(1))
        self.register_buffer("scratch", gf.zeros(1), persistent=False)

    def forward(self, x):
        return F.linear(x, self.weight)

    def extra_repr(self):
        return "3, 2"


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = Affine(3, 4)
        self.rest = nn.Sequential(nn.Tanh(), Affine(4, 2))
        self.scale = nn.Parameter(gf.ones(1))

    def forward(self, x):
        return self.rest(self.first(x)) * self.scale


# --- registering ---------------------------------------------------------------------------------------------


def test_attributes_register_in_order():
    net = Net()
    assert [n for n, _ in net.named_parameters()] == ["scale", "first.weight", "rest.1.weight"]
    assert [n for n, _ in net.named_buffers()] == ["first.count", "first.scratch", "rest.1.count", "rest.1.scratch"]
    assert [n for n, _ in net.named_modules()] == ["", "first", "rest", "rest.0", "rest.1"]
    assert [n for n, _ in net.named_children()] == ["first", "rest"]
    assert next(net.parameters()) is net.scale and len(list(net.buffers())) == 4
    assert [n for n, _ in net.named_parameters(prefix="net", recurse=False)] == ["net.scale"]
    assert list(net.modules())[1] is net.first and list(net.children())[1] is net.rest


def test_a_misspelt_name_raises():
    net = Net()
    with pytest.raises(AttributeError, match="'Net' object has no attribute 'scal'"):
        _ = net.scal
    assert not hasattr(net, "weight")
    del net.scale
    assert not hasattr(net, "scale") and "scale" not in dict(net.named_parameters())
    assert "first" in dir(net) and "count" in dir(net.first)


def test_assigning_changes_the_kind_of_an_attribute():
    m = nn.Module()
    m.a = 3
    m.a = nn.Parameter(gf.zeros(2))
    assert dict(m.named_parameters()) == {"a": m.a}
    m.a = nn.Buffer(gf.ones(2), persistent=False)
    assert not list(m.parameters()) and list(m.buffers()) == [m.a] and not m.state_dict()
    m.a = nn.Identity()
    assert not list(m.buffers()) and list(m.children()) == [m.a]
    m.a = None
    assert m.a is None and not list(m.children())


def test_assigning_what_does_not_fit_raises():
    m = Affine()
    with pytest.raises(TypeError, match="wanted a Parameter or None for the parameter 'weight', saw Tensor"):
        m.weight = gf.zeros(2, 3)
    with pytest.raises(TypeError, match="wanted a tensor or None for the buffer 'count', saw int"):
        m.count = 3
    net = Net()
    with pytest.raises(TypeError, match="wanted a Module or None for the module 'first', saw Tensor"):
        net.first = gf.zeros(2)
    m.count = gf.ones(1)
    assert m.state_dict()["count"].item() == 1
    m.weight = None
    assert not list(m.parameters())


def test_register_functions_check_names_and_kinds():
    m = Affine()
    with pytest.raises(KeyError, match="has an attribute 'forward' already"):
        m.register_parameter("forward", None)
    with pytest.raises(KeyError, match="no dot"):
        m.register_buffer("a.b", None)
    with pytest.raises(KeyError, match="not empty"):
        m.add_module("", nn.Identity())
    with pytest.raises(TypeError, match="wanted a name that is a string"):
        m.register_buffer(3, None)
    with pytest.raises(TypeError, match="wanted a Parameter or None"):
        m.register_parameter("p", gf.zeros(2))
    with pytest.raises(TypeError, match="wanted a tensor or None"):
        m.register_buffer("b", 3)
    with pytest.raises(TypeError, match="wanted a Module or None"):
        m.add_module("m", 3)
    m.add_module("inside", nn.Identity())
    assert isinstance(m.inside, nn.Identity)


def test_init_must_come_first():
    class Early(nn.Module):
        def __init__(self):
            self.weight = nn.Parameter(gf.zeros(2))

    class Earlier(nn.Module):
        def __init__(self):
            self.register_buffer("b", gf.zeros(2))

    for early in (Early, Earlier):
        with pytest.raises(AttributeError, match="super"):
            early()


def test_a_parameter_takes_over_memory():
    t = gf.zeros(3)
    p = nn.Parameter(t)
    t.fill_(2)
    assert p.requires_grad and p.is_leaf and (p.array == 2).all() and p._version == t._version
    assert isinstance(p, gf.Tensor) and repr(p).startswith("Parameter containing:\ntensor([2., 2., 2.]")
    assert not nn.Parameter(gf.zeros(2), requires_grad=False).requires_grad
    assert nn.Parameter().shape == (0,)
    x = gf.ones(2, requires_grad=True) * 2
    assert nn.Parameter(x).is_leaf
    with pytest.raises(TypeError, match="Parameter: wanted a tensor, saw list"):
        nn.Parameter([1.0])
    with pytest.raises(RuntimeError, match="floating"):
        nn.Parameter(gf.arange(3))


# --- walking -----------------------------------------------------------------------------------------------


def test_shared_parts_are_walked_once():
    a = Affine()
    m = nn.ModuleList([a, a])
    m.extra = a.weight
    assert len(list(m.parameters())) == 1 and len(list(m.modules())) == 2 and len(list(m.children())) == 1
    assert [n for n, _ in m.named_parameters(remove_duplicate=False)] == ["extra", "0.weight", "1.weight"]
    assert [n for n, _ in m.named_modules(remove_duplicate=False)] == ["", "0", "1"]
    assert list(m.state_dict()) == ["extra", "0.weight", "0.count", "1.weight", "1.count"]


def test_parts_by_dotted_name():
    net = Net()
    assert net.get_submodule("rest.1") is net.rest[1] and net.get_submodule("") is net
    assert net.get_parameter("rest.1.weight") is net.rest[1].weight
    assert net.get_buffer("first.scratch") is net.first.scratch
    net.set_submodule("rest.0", nn.ReLU())
    assert isinstance(net.rest[0], nn.ReLU)
    for call, message in [
        (lambda: net.get_submodule("rest.7"), "Sequential has no module '7'"),
        (lambda: net.get_parameter("first.count"), "no parameter 'first.count'"),
        (lambda: net.get_parameter("first.bias"), "no parameter 'first.bias'"),
        (lambda: net.get_buffer("scale"), "no buffer 'scale'"),
        (lambda: net.set_submodule("rest.9", nn.ReLU(), strict=True), "nothing named .9."),
        (lambda: net.set_submodule("away.9", nn.ReLU()), "no module .away."),
    ]:
        with pytest.raises(AttributeError, match=message):
            call()


def test_apply_goes_from_the_inside_out():
    seen = []
    net = Net()
    assert net.apply(lambda m: seen.append(type(m).__name__)) is net
    assert seen == ["Affine", "Tanh", "Affine", "Sequential", "Net"]


def test_train_eval_and_requires_grad():
    net = Net()
    assert net.training and net.eval() is net
    assert not any(m.training for m in net.modules())
    assert net.train().rest[1].training
    with pytest.raises(ValueError, match="wanted a bool"):
        net.train("yes")
    assert net.requires_grad_(False) is net and not any(p.requires_grad for p in net.parameters())
    net.requires_grad_()
    net(gf.ones(1, 3)).sum().backward()
    net.zero_grad(set_to_none=False)
    assert all((p.grad.array == 0).all() for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())


# --- state ------------------------------------------------------------------------------------------------


def test_state_dict_names_order_and_memory():
    net = Net()
    state = net.state_dict()
    assert list(state) == ["scale", "first.weight", "first.count", "rest.1.weight", "rest.1.count"]
    assert state["scale"].array is net.scale.array and not state["scale"].requires_grad
    assert type(state["scale"]) is gf.Tensor
    assert net.state_dict(keep_vars=True)["scale"] is net.scale
    into = {"here": 1}
    assert net.state_dict(destination=into, prefix="net.") is into and "net.first.weight" in into


def test_load_state_dict_copies_in_place_and_casts():
    a, b = Net(), Net()
    b.double()
    arrays = [p.array for p in b.parameters()]
    keys = b.load_state_dict(a.state_dict())
    assert str(keys) == "<All keys matched successfully>" and keys.missing_keys == []
    for x, y, array in zip(a.parameters(), b.parameters(), arrays, strict=True):
        assert (x.array == y.array).all() and y.array is array and y.dtype == gf.float64
    b.load_state_dict({k: v.numpy() for k, v in a.state_dict().items()})  # plain arrays do as well


def test_load_state_dict_changes_nothing_when_it_fails():
    net = Net()
    before = {k: v.array.copy() for k, v in net.state_dict().items()}
    versions = [p._version for p in net.parameters()]
    wrong = {k: gf.zeros(*v.shape) for k, v in before.items()}
    wrong["first.weight"], wrong["surplus"] = gf.zeros(9, 9), gf.zeros(1)
    wrong["rest.1.count"] = "one"
    del wrong["scale"]
    with pytest.raises(RuntimeError) as e:
        net.load_state_dict(wrong)
    for part in (
        "load_state_dict: Net was not changed",
        "missing keys: scale",
        "unexpected keys: surplus",
        "first.weight: the model has shape (4, 3), the state_dict has (9, 9)",
        "rest.1.count: wanted a tensor or an array, saw str",
    ):
        assert part in str(e.value)
    with pytest.raises(RuntimeError, match=r"first\.weight"):
        net.load_state_dict(wrong, strict=False)  # a wrong shape is wrong in any case
    assert all((v.array == before[k]).all() for k, v in net.state_dict().items())
    assert [p._version for p in net.parameters()] == versions
    with pytest.raises(TypeError, match="wanted a dict"):
        net.load_state_dict([1])


def test_load_state_dict_not_strict():
    net = Net()
    keys = net.load_state_dict({"scale": gf.full((1,), 7.0), "surplus": gf.zeros(1)}, strict=False)
    assert net.scale.item() == 7 and keys.unexpected_keys == ["surplus"]
    assert keys.missing_keys == ["first.weight", "first.count", "rest.1.weight", "rest.1.count"]
    assert "unexpected_keys=['surplus']" in repr(keys)


def test_load_state_dict_assign_takes_the_tensors():
    net = Net()
    net.first.weight.requires_grad_(False)
    state = {k: v.double() for k, v in net.state_dict().items()}
    net.load_state_dict(state, assign=True)
    assert net.scale.array is state["scale"].array and isinstance(net.scale, nn.Parameter)
    assert net.scale.requires_grad and not net.first.weight.requires_grad and net.first.count.dtype == gf.float64


def test_a_complex_value_does_not_load_into_a_real_parameter():
    m = Affine()
    with pytest.raises(RuntimeError, match="the model has dtype float32, the state_dict has complex64"):
        m.load_state_dict({"weight": np.zeros((2, 3), np.complex64), "count": gf.zeros(1)})


def test_extra_state_and_state_hooks():
    class Counter(Affine):
        calls = 0

        def get_extra_state(self):
            return {"calls": self.calls}

        def set_extra_state(self, state):
            self.calls = state["calls"]

    a, b = nn.Sequential(Counter()), nn.Sequential(Counter())
    a[0].calls = 5
    state = a.state_dict()
    assert state["0._extra_state"] == {"calls": 5}
    b.load_state_dict(state)
    assert b[0].calls == 5
    del state["0._extra_state"]
    with pytest.raises(RuntimeError, match=r"missing keys: 0\._extra_state"):
        b.load_state_dict(state)

    a[0].register_state_dict_post_hook(lambda m, d, prefix, meta: d.update({prefix + "old": d.pop(prefix + "weight")}))
    renamed = a.state_dict()
    assert "0.old" in renamed and "0.weight" not in renamed

    def rename(m, d, prefix, *rest):
        d[prefix + "weight"] = d.pop(prefix + "old")

    handle = b[0].register_load_state_dict_pre_hook(rename)
    b.load_state_dict(renamed)
    assert (b[0].weight.array == a[0].weight.array).all() and "0.old" in renamed
    handle.remove()
    with pytest.raises(RuntimeError, match=r"unexpected keys: 0\.old"):
        b.load_state_dict(renamed)


def test_a_hook_after_loading_may_forgive_and_a_refusal_still_changes_nothing():
    m = Affine()
    m.register_load_state_dict_post_hook(lambda module, keys: keys.missing_keys.remove("count"))
    m.load_state_dict({"weight": gf.ones(2, 3)})
    assert (m.weight.array == 1).all()
    with pytest.raises(RuntimeError, match="unexpected keys: x"):
        m.load_state_dict({"weight": gf.zeros(2, 3), "x": gf.zeros(1)})
    assert (m.weight.array == 1).all()


# --- moving -----------------------------------------------------------------------------------------------


def test_casts_keep_identity_and_gradients():
    net = Net()
    net.first.register_buffer("ints", gf.arange(2))
    net(gf.ones(1, 3)).sum().backward()
    parameters = list(net.parameters())
    for call, dtype in ((net.double, "float64"), (net.half, "float16"), (net.float, "float32")):
        assert call() is net
        assert all(p is q for p, q in zip(net.parameters(), parameters, strict=True))
        assert all(p.dtype == p.grad.dtype == dtype and p.requires_grad and p.is_leaf for p in net.parameters())
        assert net.first.count.dtype == dtype and net.first.ints.dtype == gf.int64
    net.to(gf.float64)
    assert net.scale.dtype == gf.float64 and net.first.ints.dtype == gf.int64
    net.to(gf.zeros(1))
    assert net.scale.dtype == gf.float32
    net.type(gf.float64)
    assert net.first.ints.dtype == gf.float64
    with pytest.raises(TypeError, match="wanted a floating or complex dtype, saw int64"):
        net.to(gf.int64)


def test_an_optimizer_made_before_a_cast_still_steps():
    m = Affine()
    optimizer = gf.optim.SGD(m.parameters(), lr=1.0)
    m.double()
    m(gf.ones(1, 3, dtype=gf.float64)).sum().backward()
    before = m.weight.array.copy()
    optimizer.step()
    assert_close(m.weight.array, before - 1)


@pytest.mark.cuda
def test_moving_to_the_card_and_back(card):
    net = Net()
    values = {k: v.array.copy() for k, v in net.state_dict().items()}
    parameter = net.scale
    assert net.cuda() is net and net.scale is parameter
    assert all(v.is_cuda for v in (*net.parameters(), *net.buffers()))
    y = net(gf.ones(2, 3, device="cuda"))
    y.sum().backward()
    assert net.scale.grad.is_cuda
    host = Net()
    host.load_state_dict(net.state_dict())  # across devices
    net.cpu()
    assert not net.scale.is_cuda and not net.scale.grad.is_cuda
    for k, v in values.items():
        assert (net.state_dict()[k].array == v).all() and (host.state_dict()[k].array == v).all()
    net.to("cuda:0", gf.float64)
    assert net.scale.is_cuda and net.scale.dtype == gf.float64
    made = nn.Linear(3, 2, device="cuda", dtype=gf.float64)
    assert made.weight.is_cuda and made.bias.dtype == gf.float64


def test_cuda_without_a_card_says_so_and_changes_nothing():
    if backend.card() is not None:
        pytest.skip("there is a card")
    net = Net()
    with pytest.raises(RuntimeError, match="no CUDA card was found"):
        net.cuda()
    assert not net.scale.is_cuda


def test_deepcopy_is_independent_and_keeps_ties():
    net = Net()
    net.tied = net.first.weight
    net.first.weight.requires_grad_(False)
    other = copy.deepcopy(net)
    assert other.tied is other.first.weight and other.tied is not net.tied
    assert isinstance(other.tied, nn.Parameter) and not other.tied.requires_grad and other.scale.requires_grad
    other.scale.data.fill_(5)
    assert net.scale.item() == 1
    assert_close(other(gf.ones(1, 3)).detach().numpy(), 5 * net(gf.ones(1, 3)).detach().numpy())


def test_modules_go_without_the_garbage_collector():
    from weakref import ref

    gc.collect()
    gc.disable()
    try:
        net = Net()
        net.first.register_full_backward_hook(lambda *a: None)
        net(gf.ones(2, 3)).sum().backward()
        watch = ref(net.first)
        del net
        assert watch() is None
    finally:
        gc.enable()


# --- hooks ------------------------------------------------------------------------------------------------


def test_forward_hooks_see_and_replace():
    m = Affine()
    calls = []
    m.register_forward_pre_hook(lambda mod, args: calls.append("second"))
    m.register_forward_pre_hook(lambda mod, args: (calls.append("first"), args[0] * 2)[1], prepend=True)
    m.register_forward_hook(lambda mod, args, y: y + 1)
    handle = m.register_forward_hook(lambda mod, args, kwargs, y: calls.append(sorted(kwargs)), with_kwargs=True)
    x = gf.ones(1, 3)
    assert_close(m(x).detach().numpy(), (2 * x.array) @ m.weight.array.T + 1)
    assert calls == ["first", "second", []]
    handle.remove()
    m(x)
    assert len(calls) == 5


def test_hooks_with_kwargs():
    class Keyed(nn.Module):
        def forward(self, x, scale=1):
            return x * scale

    m = Keyed()
    m.register_forward_pre_hook(lambda mod, args, kwargs: (args, {"scale": kwargs["scale"] + 1}), with_kwargs=True)
    assert m(gf.ones(1), scale=2).item() == 3


def test_a_hook_that_is_always_called():
    class Broken(nn.Module):
        def forward(self, x):
            raise ValueError("no")

    m, seen = Broken(), []
    m.register_forward_hook(lambda mod, args, y: seen.append(y), always_call=True)
    m.register_forward_hook(lambda mod, args, y: seen.append("never"))
    with pytest.raises(ValueError, match="no"):
        m(gf.ones(1))
    assert seen == [None]


def test_full_backward_hooks_see_and_replace_gradients():
    m = Affine()
    seen = []
    m.register_full_backward_hook(lambda mod, gin, gout: seen.append((mod, gin, gout)))
    m.register_full_backward_hook(lambda mod, gin, gout: (gin[0] * 10,))
    m.register_full_backward_pre_hook(lambda mod, gout: (gout[0] * 3,))
    x = gf.ones(2, 3, requires_grad=True)
    (m(x) + x[:, :2]).sum().backward()
    mod, gin, gout = seen[0]
    column = m.weight.array.sum(0)
    assert mod is m and len(gin) == len(gout) == 1
    assert_close(gout[0].numpy(), np.full((2, 2), 3.0, "f"))
    assert_close(gin[0].numpy(), np.tile(3 * column, (2, 1)), scale=4)  # what came through m
    assert_close(x.grad.numpy(), np.tile(30 * column + [1, 1, 0], (2, 1)), scale=4)
    assert_close(m.weight.grad.numpy(), np.full((2, 3), 6.0, "f"))


def test_backward_hooks_with_several_inputs_and_outputs():
    class Two(nn.Module):
        def forward(self, x, n, y):
            return x * n, x + y, n

    m, seen = Two(), []
    m.register_full_backward_hook(lambda mod, gin, gout: seen.append((gin, gout)))
    x, y = gf.ones(2, requires_grad=True), gf.ones(2)
    _, b, n = m(x, 3, y)
    assert n == 3
    b.sum().backward()
    ((gin, gout),) = seen
    assert len(gin) == 3 and gin[1] is None and len(gout) == 3 and gout[2] is None
    assert_close(x.grad.numpy(), np.ones(2, "f"))


def test_backward_hooks_run_where_no_input_needs_a_gradient():
    m, seen = Affine(), []
    m.register_full_backward_hook(lambda mod, gin, gout: seen.append((gin, gout)))
    m(gf.ones(1, 3)).sum().backward()
    assert seen[0][0] == (None,) and seen[0][1][0].shape == (1, 2)
    with gf.no_grad():
        m(gf.ones(1, 3))
    assert len(seen) == 1


def test_backward_hooks_are_recorded_under_create_graph():
    class Cube(nn.Module):
        def forward(self, x):
            return x**3

    m = Cube()
    m.register_full_backward_hook(lambda mod, gin, gout: (gin[0] * 2,))
    x = gf.tensor([2.0], requires_grad=True)
    (g,) = gf.autograd.grad(m(x), x, create_graph=True)
    (h,) = gf.autograd.grad(g, x)
    assert g.item() == 24 and h.item() == 24  # 2 * 3 x^2 and 2 * 6 x


def test_a_backward_hook_must_give_as_many_gradients():
    m = Affine()
    m.register_full_backward_hook(lambda mod, gin, gout: (gin[0], gin[0]))
    with pytest.raises(RuntimeError, match="wanted 1 gradients back, saw 2"):
        m(gf.ones(1, 3, requires_grad=True)).sum().backward()


def test_a_module_without_forward_says_so():
    with pytest.raises(NotImplementedError, match="Module: the module has no forward"):
        nn.Module()(1)


# --- showing -----------------------------------------------------------------------------------------------


def test_repr():
    assert repr(Net()) == (
        "Net(\n  (first): Affine(3, 2)\n  (rest): Sequential(\n    (0): Tanh()\n    (1): Affine(3, 2)\n  )\n)"
    )

    class Lines(Affine):
        def extra_repr(self):
            return "a\nb"

    assert repr(Lines()) == "Lines(\n  a\n  b\n)"
    assert repr(nn.Module()) == "Module()"


# --- containers --------------------------------------------------------------------------------------------


def test_sequential_behaves_as_a_list():
    a, b, c = nn.ReLU(), nn.Tanh(), nn.Sigmoid()
    s = nn.Sequential(a, b)
    assert s.append(c) is s and list(s) == [a, b, c] and len(s) == 3 and s[-1] is c
    assert isinstance(s[1:], nn.Sequential) and list(s[1:]) == [b, c]
    s.insert(0, c)
    assert list(s) == [c, a, b, c] and s.pop(0) is c
    del s[0]
    assert list(s) == [b, c] and list(s.state_dict()) == [] and [n for n, _ in s.named_children()] == ["0", "1"]
    s[0] = a
    assert s[0] is a
    s += [b]
    assert list(s + nn.Sequential(c)) == [a, c, b, c] and len(s * 2) == 6
    with pytest.raises(IndexError, match="wanted an index below 3, saw 3"):
        s[3]
    named = nn.Sequential({"first": a, "second": b})
    assert named.first is a and list(named[:1]._modules) == ["first"]
    named[0] = c
    assert named.first is c
    assert nn.Sequential()(5) == 5


def test_module_list_and_dict():
    a, b = Affine(), Affine()
    m = nn.ModuleList([a]) + nn.ModuleList([b])
    m.insert(0, b)
    assert list(m) == [b, a, b] and list(m[:2]) == [b, a] and m.pop() is b
    d = nn.ModuleDict({"x": a})
    d.update([("y", b)])
    d["z"] = a
    assert list(d) == ["x", "y", "z"] and "y" in d and d["y"] is b and len(d) == 3
    assert d.pop("z") is a and dict(d.items()) == {"x": a, "y": b}
    del d["x"]
    d.clear()
    assert len(d) == 0 and repr(nn.ModuleList()) == "ModuleList()"
    with pytest.raises(TypeError, match="ModuleDict: wanted a dict"):
        d.update(3)


def test_parameter_list_and_dict():
    p = nn.ParameterList([gf.zeros(2), nn.Parameter(gf.ones(3))])
    p.append(gf.ones(1))
    assert len(p) == 3 and all(isinstance(v, nn.Parameter) for v in p) and len(list(p.parameters())) == 3
    p[0] = gf.ones(5)
    assert p[0].shape == (5,) and isinstance(p[:2], nn.ParameterList) and list(p.state_dict()) == ["0", "1", "2"]
    d = nn.ParameterDict({"a": gf.zeros(2)})
    d["b"] = gf.ones(1)
    assert list(d) == ["a", "b"] and d.get("c") is None and len(list(d.parameters())) == 2
    assert d.setdefault("c", gf.zeros(1)) is d["c"] and d.pop("c").shape == (1,)
    with pytest.raises(KeyError):
        d["c"]
    del d["a"]
    assert list(d.state_dict()) == ["b"]
