"""Signs, neighbours and binary parts of numbers, shifts, divisors, membership, and products with logarithms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tolerance import assert_close

import gradflow as gf

inf, nan = math.inf, math.nan


def test_signs():
    x = gf.tensor([-2.0, -0.0, 0.0, 3.0, nan])
    assert gf.signbit(x[:4]).tolist() == [True, True, False, False]
    assert gf.copysign(x[:4], -1).tolist() == [-2, 0, 0, -3]
    assert math.copysign(1, gf.copysign(gf.tensor([0]), gf.tensor([-0.0])).item()) == -1
    assert gf.copysign(gf.tensor([3]), 1).dtype == gf.float32
    assert gf.heaviside(x, gf.full_like(x, 0.5)).tolist() == [0, 0.5, 0.5, 1, 0]
    assert gf.isposinf(gf.tensor([inf, -inf, 0])).tolist() == [True, False, False]
    assert gf.isneginf(gf.tensor([inf, -inf, 0])).tolist() == [False, True, False]
    assert gf.sgn(gf.tensor([3 + 4j, 0])).tolist() == pytest.approx([0.6 + 0.8j, 0])
    assert gf.sign(gf.tensor([True, False])).tolist() == [True, False]
    assert gf.square(gf.tensor([True, False])).dtype == gf.int64
    with pytest.raises(RuntimeError, match="heaviside.*int64"):
        gf.heaviside(gf.tensor([1]), gf.tensor([1.0]))


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_neighbours(dtype):
    kind = getattr(gf, dtype) if dtype != "bfloat16" else pytest.importorskip("ml_dtypes") and gf.bfloat16
    a, b = (
        gf.tensor([1.0, 1.0, -1.0, 0.0, 0.0, 2.0, nan]).to(kind),
        gf.tensor([2.0, 0.0, 0.0, 1.0, -1.0, 2.0, 1.0]).to(kind),
    )
    y = gf.nextafter(a, b).to(gf.float64).tolist()
    eps, tiny = (
        float(gf.finfo(kind).eps),
        {"float64": 2.0**-1074, "float32": 2.0**-149, "float16": 2.0**-24, "bfloat16": 2.0**-133}[dtype],
    )
    assert y[:6] == [1 + eps, 1 - eps / 2, -1 + eps / 2, tiny, -tiny, 2]
    assert math.isnan(y[6])


def test_binary_parts():
    x = gf.tensor([0.0, 8.0, -0.3, inf], dtype=gf.float64)
    m, e = gf.frexp(x)
    assert m.tolist() == [0, 0.5, -0.6, inf]
    assert e.dtype == gf.int32
    assert e[:3].tolist() == [0, 4, -1]
    assert gf.ldexp(m[:3], e[:3]).tolist() == x[:3].tolist()
    y = gf.tensor([3.0, -10.0], requires_grad=True)
    gf.frexp(y)[0].sum().backward()
    assert y.grad.tolist() == [1 / 4, 1 / 16]
    with pytest.raises(RuntimeError, match="frexp.*int64"):
        gf.frexp(gf.tensor([1]))


def test_shifts_beyond_the_dtype():
    i, u = gf.tensor([1, -5]), gf.tensor([1, 200], dtype=gf.uint8)
    assert (i << 3).tolist() == [8, -40]
    assert (i >> 1).tolist() == [0, -3]
    assert (1 << gf.tensor([3, 64])).tolist() == [8, 0]
    assert (-8 >> gf.tensor([1, 70])).tolist() == [-4, -1]
    assert gf.bitwise_left_shift(i, -1).tolist() == [0, 0]
    assert gf.bitwise_right_shift(i, 70).tolist() == [0, -1]
    assert (u << 1).tolist() == [2, 144]
    assert (u >> 8).tolist() == [0, 0]
    i <<= 1
    assert i.tolist() == [2, -10]
    with pytest.raises(RuntimeError, match="bitwise_left_shift.*float32"):
        gf.ones(2) << 1


def test_divisors_and_membership():
    a, b = gf.tensor([12, -18, 0, 7]), gf.tensor([8, 12, 5, 0])
    assert gf.gcd(a, b).tolist() == [4, 6, 5, 7]
    assert gf.lcm(a, b).tolist() == [24, 36, 0, 0]
    assert gf.isin(a, gf.tensor([0, 12])).tolist() == [True, False, True, False]
    assert gf.isin(a, 7, invert=True).tolist() == [True, True, True, False]
    assert gf.isin(7, a).item() is True
    with pytest.raises(RuntimeError, match="gcd.*float32"):
        gf.gcd(gf.ones(1), gf.ones(1))
    with pytest.raises(RuntimeError, match="isin.*bool"):
        gf.isin(gf.tensor([True]), gf.tensor([True]))
    with pytest.raises(TypeError, match="isin"):
        gf.isin(1, 2)


def test_powers_in_double_precision():
    x = gf.tensor([2.0, 3.0])
    assert gf.float_power(x, 0.5).dtype == gf.float64
    assert gf.float_power(2, gf.tensor([3])).tolist() == [8.0]
    assert gf.float_power(gf.tensor([1j]), 2).dtype == gf.complex128
    with pytest.raises(RuntimeError, match="float_power_.*float64.*float32"):
        x.float_power_(2)
    assert x.double().float_power_(2).tolist() == [4.0, 9.0]


def test_degrees_and_rsub():
    assert_close(gf.deg2rad(gf.tensor([180, 90])).numpy(), np.array([math.pi, math.pi / 2], "f"))
    assert_close(gf.rad2deg(gf.tensor([math.pi])).numpy(), np.array([180], "f"))
    assert gf.rsub(gf.tensor([1, 2]), 10, alpha=3).tolist() == [7, 4]


def test_logarithms_of_powers_of_two():
    a, b = gf.tensor([3.0, -inf, 1000.0, inf]), gf.tensor([3.0, -inf, 1.0, inf])
    assert gf.logaddexp2(a, b).tolist() == [4.0, -inf, 1000.0, inf]


def test_logaddexp_of_complex_numbers():
    a, b = np.array([1 + 2j, -800 + 1j, 3 - 1j]), np.array([0.5 - 1j, -801 + 2j, 3 + 1j])
    y = gf.logaddexp(gf.tensor(a), gf.tensor(b)).numpy()
    shift = np.array([0, 800, 0])
    expected = np.log(np.exp(a + shift) + np.exp(b + shift)) - shift
    assert_close(y, expected)


def test_numbers_where_pytorch_wants_tensors():
    x = gf.ones(2)
    for f in (gf.atan2, gf.hypot, gf.maximum, gf.fmin, gf.logical_and, gf.logaddexp, gf.gcd, gf.heaviside, gf.ldexp):
        with pytest.raises(TypeError, match=rf"{f.__name__}.*tensor"):
            f(x, 2)
    for f in (gf.eq, gf.lt, gf.fmod, gf.copysign):
        with pytest.raises(TypeError, match=rf"{f.__name__}.*tensor"):
            f(2, x)
    for f in (gf.pow, gf.remainder, gf.bitwise_and, gf.xlogy, gf.float_power):
        with pytest.raises(TypeError, match=rf"{f.__name__}.*tensor"):
            f(2, 3)
    assert gf.pow(2, x).tolist() == gf.pow(2, exponent=x).tolist() == [2, 2]
    with pytest.raises(TypeError, match="isclose"):
        gf.isclose(x, 2)
    with pytest.raises(RuntimeError, match="isclose.*rtol"):
        gf.isclose(x, x, rtol=-1)
