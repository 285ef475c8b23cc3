"""Parts of complex numbers, their angle and polar form, and complex memory seen as real."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tolerance import assert_close

import gradflow as gf

Z = np.array([[1 + 2j, -3 + 0.5j, 0], [-1j, -2, 1.5 - 1.5j]])


def test_parts_share_memory():
    z = gf.tensor(Z)
    z.real[0, 0] = 7
    z.imag.mul_(2)
    assert z[0, 0].item() == 7 + 4j
    assert gf.view_as_real(z)[1, 2].tolist() == [1.5, -3.0]
    gf.view_as_real(z)[1, 2, 0] = 5
    assert z[1, 2].item() == 5 - 3j
    pairs = gf.zeros(4, 2)
    gf.view_as_complex(pairs)[1] = 1 - 2j
    assert pairs[1].tolist() == [1, -2]
    z.imag = 1.0
    assert z.imag.tolist() == [[1, 1, 1], [1, 1, 1]]
    x = gf.ones(2)
    assert gf.real(x) is x
    assert gf.resolve_conj(x) is gf.resolve_neg(x) is x


def test_a_write_into_a_part_is_recorded():
    x = gf.tensor([1.0, 2.0], dtype=gf.float64, requires_grad=True)
    z = gf.complex(x, x * 3) * 1
    z.real.copy_(x * x)
    (z.real * 5 + z.imag).sum().backward()
    assert x.grad.tolist() == [2 * 1 * 5 + 3, 2 * 2 * 5 + 3]


def test_polar_form_and_back():
    z = gf.tensor(Z)
    assert_close(gf.polar(z.abs(), z.angle()).numpy(), Z)
    assert_close(z.angle().numpy(), np.angle(Z))
    assert gf.angle(gf.tensor([-1.0, 0.0, 2.0])).tolist() == [float(np.float32(math.pi)), 0, 0]
    assert gf.angle(gf.tensor([-3])).dtype == gf.float32
    assert gf.isreal(z).tolist() == [[False, False, True], [False, True, False]]
    inf = gf.complex(gf.tensor([math.inf]), gf.tensor([0.0])).numpy()
    assert inf.real == math.inf
    assert inf.imag == 0


def test_the_gradient_of_an_angle_turns():
    # d angle / d z is i z / |z|^2: across, not along; and 0 at 0
    z = gf.tensor(Z, requires_grad=True)
    z.angle().sum().backward()
    safe = np.where(Z == 0, 1, Z)
    assert_close(z.grad.numpy(), np.where(Z == 0, 0, 1j * safe / np.abs(safe) ** 2))


def test_infinities_among_parts_are_replaced_one_by_one():
    z = gf.complex(gf.tensor([math.nan, 1.0]), gf.tensor([math.inf, 2.0]))
    assert gf.nan_to_num(z, nan=3.0, posinf=4.0).tolist() == [3 + 4j, 1 + 2j]


def test_what_is_refused():
    x = gf.ones(3, 2)
    for call, error, text in (
        (lambda: gf.imag(x), RuntimeError, "imag.*float32"),
        (lambda: gf.view_as_real(x), RuntimeError, "view_as_real.*float32"),
        (lambda: gf.view_as_complex(gf.ones(2, 3)), RuntimeError, r"view_as_complex.*size 2.*\(2, 3\)"),
        (lambda: gf.view_as_complex(gf.ones(2, 4)[:, ::2]), RuntimeError, "view_as_complex.*stride 1"),
        (lambda: gf.view_as_complex(gf.ones(3, 3)[:, :2]), RuntimeError, "view_as_complex.*divisible by 2"),
        (lambda: gf.view_as_complex(gf.ones(2, dtype=gf.int64)), RuntimeError, "view_as_complex.*int64"),
        (lambda: gf.complex(x, x.double()), RuntimeError, "complex.*one dtype"),
        (lambda: gf.complex(x.half(), x.half()), RuntimeError, "complex.*float16"),
        (lambda: gf.polar(x, 2.0), TypeError, "polar.*2.0"),
        (lambda: x.chalf(), RuntimeError, "chalf"),
        (lambda: gf.tensor(Z).abs_(), RuntimeError, "abs_.*complex128"),
    ):
        with pytest.raises(error, match=text):
            call()
