"""Functions of the user's own, and the checks of gradients."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

import gradflow as gf
from gradflow.autograd import Function, GradcheckError, gradcheck, gradgradcheck, once_differentiable


class Multiply(Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return x * y

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return g * y, g * x


class Exp(Function):
    @staticmethod
    def forward(ctx, x):
        y = gf.exp(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return g * y


def double(*shape):
    return gf.randn(*shape, dtype=gf.float64, requires_grad=True)


def test_function_with_saved_inputs():
    x, y = double(3), double(3)
    z = Multiply.apply(x, y)
    z.sum().backward()
    assert x.grad.tolist() == y.tolist()
    assert y.grad.tolist() == x.tolist()
    assert gradcheck(Multiply.apply, (x, y))
    assert gradgradcheck(Multiply.apply, (x, y))


def test_function_with_a_saved_output_differentiates_twice_and_leaves_no_cycle():
    x = double(3)
    assert gradgradcheck(Exp.apply, (x,))
    gc.collect()
    gc.disable()
    try:
        y = Exp.apply(x)
        probe = weakref.ref(y.node)
        del y
        assert probe() is None
    finally:
        gc.enable()


def test_saved_tensors_are_freed_and_checked():
    x, y = double(3), gf.ones(3, dtype=gf.float64)
    z = Multiply.apply(x, y).sum()
    y.add_(1)
    with pytest.raises(RuntimeError, match="MultiplyBackward.*version 0.*version 1"):
        z.backward()
    z = Multiply.apply(x, y).sum()
    z.backward()
    with pytest.raises(RuntimeError, match="second time"):
        z.backward()


def test_needs_input_grad_and_none():
    class Scale(Function):
        @staticmethod
        def forward(ctx, x, factor):
            ctx.factor = factor
            return x * factor

        @staticmethod
        def backward(ctx, g):
            assert ctx.needs_input_grad == (True, False)
            return g * ctx.factor, None

    x = double(2)
    Scale.apply(x, 3.0).sum().backward()
    assert x.grad.tolist() == [3, 3]


def test_several_outputs_missing_gradients_are_zeros():
    class Split(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2, x * 3

        @staticmethod
        def backward(ctx, g, h):
            return g * 2 + h * 3

    x = double(2)
    _, b = Split.apply(x)
    b.sum().backward()
    assert x.grad.tolist() == [3, 3]
    assert gradgradcheck(lambda t: Split.apply(t * t), (x,))


def test_setup_context_and_non_differentiable():
    class Top(Function):
        @staticmethod
        def forward(x):
            return x.amax(), x.argmax()

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.mark_non_differentiable(output[1])
            ctx.shape, ctx.at = inputs[0].shape, output[1]

        @staticmethod
        def backward(ctx, g, _):
            d = gf.zeros(ctx.shape, dtype=g.dtype)
            d[ctx.at.item()] = g
            return d

    x = gf.tensor([1.0, 5.0, 2.0], requires_grad=True)
    value, at = Top.apply(x)
    assert not at.requires_grad
    value.backward()
    assert x.grad.tolist() == [0, 1, 0]


def test_mark_dirty():
    class Doubled(Function):
        @staticmethod
        def forward(ctx, x):
            x.array[...] *= 2
            ctx.mark_dirty(x)
            return x

        @staticmethod
        def backward(ctx, g):
            return g * 2

    x = double(2)
    y = x * 1
    z = Doubled.apply(y)
    assert z is y
    z.sum().backward()
    assert x.grad.tolist() == [2, 2]


def test_once_differentiable_refuses_a_second_time():
    class Cube(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        @once_differentiable
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return gf.tensor(g.detach().numpy() * 3 * x.detach().numpy() ** 2)

    x = double(2)
    Cube.apply(x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 3 * x.detach().numpy() ** 2)
    (g,) = gf.autograd.grad(Cube.apply(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gf.autograd.grad(g.sum(), x)


def test_gradcheck_finds_a_wrong_gradient():
    class Wrong(Function):
        @staticmethod
        def forward(ctx, x):
            return x * x

        @staticmethod
        def backward(ctx, g):
            return g

    x = double(3)
    for fast in (False, True):
        with pytest.raises(GradcheckError, match="differs"):
            gradcheck(Wrong.apply, (x,), fast_mode=fast)
        assert gradcheck(Wrong.apply, (x,), fast_mode=fast, raise_exception=False) is False
    assert gradcheck(lambda a, b: (a @ b, (a * 2).sum()), (double(2, 3), double(3, 2)))
