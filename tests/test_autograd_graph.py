"""The recorded graph: nodes, edges, hooks, what becomes of saved tensors, anomaly and inference mode."""

from __future__ import annotations

import numpy as np
import pytest
from tolerance import assert_close

import gradflow as gf
from gradflow import autograd
from gradflow.autograd import graph


def double(*shape):
    return gf.randn(shape, dtype=gf.float64, requires_grad=True)


# --- nodes and edges --------------------------------------------------------------------------------------


def test_a_node_has_a_name_edges_and_metadata():
    x, y = double(3), double(3)
    z = (x * y).exp()
    node = z.grad_fn
    assert node.name() == "ExpBackward0" and str(node.name) == "exp"
    ((product, number),) = node.next_functions
    assert product is (z.grad_fn.next_functions[0][0]) and number == 0
    ends = [n for n, _ in product.next_functions]
    assert [n.variable is t for n, t in zip(ends, (x, y), strict=True)] == [True, True]
    assert ends[0].name() == "AccumulateGrad" and ends[0].next_functions == ()
    node.metadata["note"] = 1
    assert z.grad_fn.metadata == {"note": 1}


def test_hooks_before_and_after_a_node():
    x = double(3)
    y = (x * 2).exp()
    seen = []
    before = y.grad_fn.register_prehook(lambda gs: (gs[0] * 10,))
    after = y.grad_fn.register_hook(lambda gi, go: seen.append((gi[0].shape, go[0].tolist())))
    (g,) = autograd.grad(y.sum(), x, retain_graph=True)
    assert_close(g.numpy(), 20 * np.exp(2 * x.detach().numpy()))
    assert seen == [((3,), [10, 10, 10])]
    before.remove()
    after.remove()
    halve = y.grad_fn.register_hook(lambda gi, go: (gi[0] / 2,))
    (g,) = autograd.grad(y.sum(), x, create_graph=True)
    assert_close(g.detach().numpy(), np.exp(2 * x.detach().numpy()))
    halve.remove()
    node = x.exp().grad_fn.next_functions[0][0]
    with node.register_prehook(lambda gs: (gs[0] * 3,)):
        x.sum().backward()
    assert x.grad.tolist() == [3, 3, 3]


def test_gradient_edges_stand_for_tensors():
    x = double(3)
    y = x * 3
    ex, ey = graph.get_gradient_edge(x), graph.get_gradient_edge(y)
    gy, gx = autograd.grad((y * y).sum(), [ey, ex])
    assert_close(gy.numpy(), 6 * x.detach().numpy())
    assert_close(gx.numpy(), 18 * x.detach().numpy())
    values, _ = gf.max(gf.stack([x, x * 2]), 0)
    edge = graph.get_gradient_edge(values)
    assert edge.output_nr == 0 and edge.node is values.grad_fn
    with pytest.raises(RuntimeError, match="requires a gradient"):
        graph.get_gradient_edge(gf.ones(1))


def test_hooks_of_several_tensors():
    a, b, c = double(2), double(2), double(2)
    found = []
    with graph.register_multi_grad_hook([a, b, c], found.append):
        (a * b).sum().backward()
        (a * c).sum().backward()
    (a * b).sum().backward()
    assert [[g is not None for g in gs] for gs in found] == [[True, True, False], [True, False, True]]
    assert_close(found[0][0].numpy(), b.detach().numpy())
    first = []
    with graph.register_multi_grad_hook([a, b], first.append, mode="any"):
        (a * b).sum().backward()
    assert len(first) == 1
    with pytest.raises(ValueError, match="mode"):
        graph.register_multi_grad_hook([a], print, mode="some")


def test_hooks_after_the_gradient_was_added():
    x = double(2)
    seen = []
    handle = x.register_post_accumulate_grad_hook(lambda t: seen.append(t.grad.tolist()))
    x.sum().backward()
    (x * 2).sum().backward()
    handle.remove()
    x.sum().backward()
    assert seen == [[1, 1], [3, 3]]
    with pytest.raises(RuntimeError, match="leaf"):
        (x * 2).register_post_accumulate_grad_hook(print)


def test_gradients_of_many_at_once_and_missing_ones():
    x, y = double(3), double(2)
    (g,) = autograd.grad(x**2, x, gf.eye(3, dtype=gf.float64), is_grads_batched=True)
    assert_close(g.numpy(), np.diag(2 * x.detach().numpy()))
    gs = autograd.grad(x.sum(), [x, y], allow_unused=True)
    assert gs[1] is None
    assert autograd.grad(x.sum(), [x, y], materialize_grads=True)[1].tolist() == [0, 0]
    with pytest.raises(ValueError, match="allow_unused"):
        autograd.grad(x.sum(), x, allow_unused=False, materialize_grads=True)
    with pytest.raises(RuntimeError, match="allow_unused"):
        autograd.grad(x.sum(), y)


# --- saved tensors ----------------------------------------------------------------------------------------


def test_saved_tensors_go_through_hooks():
    x = double(3)
    packed = []

    def pack(t):
        packed.append(t.shape)
        return t.numpy() * 1

    with graph.saved_tensors_hooks(pack, gf.tensor):
        y = (x.exp() * x).sum()
    z = x.exp()  # no hooks any more
    assert packed == [(3,)] * 3 and len(packed) == 3
    (g,) = autograd.grad(y, x, create_graph=True)
    (h,) = autograd.grad(g.sum(), x)
    a = x.detach().numpy()
    assert_close(g.detach().numpy(), np.exp(a) * (1 + a))
    assert_close(h.numpy(), np.exp(a) * (2 + a))
    z.sum().backward()
    with graph.saved_tensors_hooks(lambda t: t, lambda t: 3):
        y = x.exp().sum()
    with pytest.raises(TypeError, match="unpack hook"):
        y.backward()
    with pytest.raises(RuntimeError, match="must not"), graph.saved_tensors_hooks(lambda t: t.add_(1), lambda t: t):
        x.exp()


def test_saving_on_the_cpu_and_refusing_hooks():
    x = double(3)
    with graph.save_on_cpu(pin_memory=True):
        y = x.exp().sum()
    y.backward()
    assert_close(x.grad.numpy(), np.exp(x.detach().numpy()))
    with (
        graph.disable_saved_tensors_hooks("not here"),
        pytest.raises(RuntimeError, match="not here"),
        graph.save_on_cpu(),
    ):
        pass


def test_what_is_saved_may_be_written_where_that_is_allowed():
    a = gf.ones(3, requires_grad=True)
    with graph.allow_mutation_on_saved_tensors():
        b = a.clone()
        c = (b**2).sum()
        b.sin_()
        c.backward()
    assert a.grad.tolist() == [2, 2, 2]
    b = a.clone()
    c = (b**2).sum()
    graph.increment_version(b)
    with pytest.raises(RuntimeError, match="written in place"):
        c.backward()


# --- anomalies ----------------------------------------------------------------------------------------------


def test_a_nan_in_backward_names_its_line():
    x = gf.zeros(2, requires_grad=True)
    with autograd.detect_anomaly():
        y = (gf.sqrt(x) * 0).sum()  # this one
        with pytest.raises(
            RuntimeError, match=r"SqrtBackward0' returned nan values in its 0th output.*\n?.*# this one"
        ):
            y.backward()
    with np.errstate(all="ignore"):
        (gf.sqrt(x) * 0).sum().backward()
    y = (gf.sqrt(x) * 0).sum()
    with autograd.set_detect_anomaly(True), pytest.raises(RuntimeError, match="without anomaly mode"):
        y.backward()
    with autograd.detect_anomaly(check_nan=False):
        (gf.sqrt(x) * 0).sum().backward()
    assert not autograd.anomaly.is_anomaly_enabled()


def test_an_error_in_backward_names_its_line():
    class Broken(autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, g):
            raise KeyError("broken")

    x = double(2)
    with autograd.detect_anomaly():
        y = Broken.apply(x).sum()  # the culprit
        with pytest.raises(KeyError) as e:
            y.backward()
    assert "the culprit" in e.value.__notes__[0]


def test_writes_in_place_are_as_ever_in_anomaly_mode():
    x = double(3)
    with autograd.detect_anomaly():
        y = x * 2
        y.relu_().exp_()
        y.sum().backward()
    a = 2 * x.detach().numpy()
    assert_close(x.grad.numpy(), 2 * np.exp(a) * (a > 0))


# --- inference mode, Variable ---------------------------------------------------------------------------------


def test_inference_tensors_take_no_part_in_gradients():
    x = double(3)
    with gf.inference_mode():
        assert autograd.is_inference_mode_enabled()
        y = x * 2
        y.add_(1)
        with gf.inference_mode(False):
            assert gf.is_grad_enabled() and (x * 2).requires_grad
    assert autograd.is_inference(y) and y.is_inference() and not x.is_inference() and not (x * 2).is_inference()
    with pytest.raises(RuntimeError, match="in place outside"):
        y.add_(1)
    with pytest.raises(RuntimeError, match="saved for backward"):
        (x * y).sum().backward()
    (x * y.clone()).sum().backward()
    with gf.no_grad():
        y + 1

    @gf.inference_mode
    def f():
        return autograd.is_inference_mode_enabled(), gf.is_grad_enabled()

    @gf.inference_mode()
    def g():
        return f()

    assert f() == g() == (True, False)
    assert gf.is_grad_enabled() and not autograd.is_inference_mode_enabled()


def test_variables_are_tensors():
    x = autograd.Variable(gf.ones(2), requires_grad=True)
    assert isinstance(x, gf.Tensor) and isinstance(x, autograd.Variable) and x.requires_grad
    with autograd.set_multithreading_enabled(False):
        x.sum().backward()


# --- Functions ------------------------------------------------------------------------------------------------


class Swap(autograd.Function):
    @staticmethod
    def forward(x, y, scale=2.0):
        return y * scale, x.clone(), "words"

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.scale = inputs[2]
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, gy, gx, _):
        assert gx is None
        return (gy * 0 if ctx.needs_input_grad[0] else None), gy * ctx.scale, None


def test_functions_with_keywords_and_outputs_of_several_kinds():
    x, y = double(2), double(2)
    a, b, words = Swap.apply(x, y, scale=3.0)
    assert words == "words" and not b.requires_grad
    a.sum().backward()
    assert y.grad.tolist() == [3, 3] and x.grad.tolist() == [0, 0]
    a, _, _ = Swap.apply(x, y)
    assert_close(a.detach().numpy(), 2 * y.detach().numpy())

    class Old(autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x

    with pytest.raises(TypeError, match="keywords"):
        Old.apply(x=x)


def test_functions_that_write_in_place():
    class Double(autograd.Function):
        returned = True

        @classmethod
        def forward(cls, ctx, x):
            x.mul_(2)
            ctx.mark_dirty(x)
            return x if cls.returned else x.clone()

        @staticmethod
        def backward(ctx, g):
            return g * 2

    x = double(2)
    y = x * 1
    z = Double.apply(y)
    assert z is y
    z.sum().backward()
    assert x.grad.tolist() == [2, 2]
    with pytest.raises(RuntimeError, match="leaf"):
        Double.apply(double(2))
    Double.returned = False
    with pytest.raises(RuntimeError, match="not returned"):
        Double.apply(x * 1)


# --- checks -----------------------------------------------------------------------------------------------------


class Wrong(autograd.Function):
    """A gradient whose imaginary part has the wrong sign."""

    generate_vmap_rule = True

    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return x * y

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return g * y, g * x.conj()


@pytest.mark.parametrize("fast", [False, True])
def test_gradients_of_complex_numbers_are_checked(fast):
    z = gf.randn(3, dtype=gf.complex128, requires_grad=True)
    w = gf.randn(3, dtype=gf.complex128, requires_grad=True)
    x = double(3)
    for f in (lambda a, b: a * b, lambda a, b: (a * a.conj()).abs() * b, lambda a, b: a.exp() / b):
        assert autograd.gradcheck(f, (z, x), fast_mode=fast) and autograd.gradgradcheck(f, (z, w), fast_mode=fast)
    with pytest.raises(autograd.GradcheckError, match="input 0"):
        autograd.gradcheck(Wrong.apply, (z, w), fast_mode=fast)
    assert not autograd.gradcheck(Wrong.apply, (z, w), fast_mode=fast, raise_exception=False)


def test_the_other_checks():
    x, z = double(3), gf.randn(2, dtype=gf.complex128, requires_grad=True)
    f = lambda a, b: (a.sin().sum() * b, a**2)
    everything = {
        "check_forward_ad": True, "check_batched_grad": True, "check_batched_forward_grad": True,
        "check_grad_dtypes": True, "check_undefined_grad": True, "nondet_tol": 1e-9,
    }  # fmt: skip
    assert autograd.gradcheck(f, (x, z), **everything)
    assert autograd.gradcheck(f, (x, z), fast_mode=True, **everything)
    assert autograd.gradgradcheck(f, (x, z), check_fwd_over_rev=True, gen_non_contig_grad_outputs=True)
    assert autograd.gradgradcheck(f, (x, z), [gf.ones(2, dtype=gf.complex128), double(3)])
    with pytest.raises(ValueError, match="at least one input"):
        autograd.gradcheck(f, (x.detach(), z.detach()))
    with pytest.raises(autograd.GradcheckError, match="not recorded"):
        autograd.gradcheck(lambda a: a.detach() * 2, x)
