"""Special functions against forty digits of mpmath, in every region of their formulas, at their edges, and on the card."""

from __future__ import annotations

import math
import re
from pathlib import Path

import fits
import mpmath as mp
import numpy as np
import pytest
from tolerance import assert_close

import gradflow as gf
from gradflow import op
from gradflow.ops import special_bessel, special_error, special_gamma
from gradflow.ops import special_tables as tables

inf, nan = math.inf, math.nan
RIGHT = np.array(
    [1e-7, 0.01, 0.3, 0.5, 0.999, 1.0, 1.2, 1.5, 1.99, 2.0, 2.4, 3.7, 5.5, 7.99, 8.0, 8.3, 9.9, 14.2, 31.0, 170.5]
)
BOTH = np.concatenate([-RIGHT, RIGHT])
LEFT = np.array([-0.3, -0.9, -1.1, -2.6, -3.4, -7.75, -12.2])


def exactly(f, *xs):
    """f of float64 numbers, computed with forty digits."""
    with mp.workdps(40):
        return np.array(
            [float(mp.re(f(*(mp.mpf(float(v)) for v in row)))) for row in zip(*np.broadcast_arrays(*xs), strict=True)]
        )


def psi(n):
    return lambda x: mp.psi(n, x)


CASES = {
    "lgamma": (
        special_gamma.lgamma,
        mp.loggamma,
        np.concatenate([RIGHT, LEFT, [1 + 1e-9, 2 - 1e-9, 1e8, 1e-300, -1e-300]]),
    ),
    "digamma": (special_gamma.digamma, mp.digamma, np.concatenate([RIGHT, LEFT])),
    "polygamma 1": (lambda x: special_gamma.polygamma(1, x), psi(1), np.concatenate([RIGHT, LEFT])),
    "polygamma 2": (lambda x: special_gamma.polygamma(2, x), psi(2), np.concatenate([RIGHT, LEFT])),
    "polygamma 5": (lambda x: special_gamma.polygamma(5, x), psi(5), RIGHT),
    "zeta 1.5": (lambda x: special_gamma.zeta(1.5, x), lambda x: mp.zeta(1.5, x), RIGHT),
    "zeta 1.001": (lambda x: special_gamma.zeta(1.001, x), lambda x: mp.zeta(mp.mpf(1.001), x), RIGHT),
    "zeta 40": (lambda x: special_gamma.zeta(40.0, x), lambda x: mp.zeta(40, x), RIGHT[1:-1]),
    "zeta 3": (lambda x: special_gamma.zeta(3.0, x), lambda x: -mp.psi(2, x) / 2, LEFT),
    "erfinv": (special_error.erfinv, mp.erfinv, np.array([1e-9, 0.1, -0.49, 0.51, 0.9, -0.99, 1 - 1e-9, 1 - 1e-15])),
    "erfcx": (special_error.erfcx, lambda x: mp.exp(x * x) * mp.erfc(x), np.clip(BOTH, -26, 40)),
    "ndtr": (special_error.ndtr, mp.ncdf, np.clip(BOTH, -37, 8)),
    "ndtri": (
        special_error.ndtri,
        lambda p: mp.sqrt(2) * mp.erfinv(2 * p - 1),
        np.array([1e-12, 1e-4, 0.1, 0.26, 0.4999, 0.7, 0.9, 0.999]),
    ),
    "log_ndtr": (special_error.log_ndtr, lambda x: mp.log(mp.ncdf(x)), np.clip(BOTH, -37, 7)),
    "bessel_j0": (special_bessel.bessel_j0, lambda x: mp.besselj(0, x), BOTH),
    "bessel_j1": (special_bessel.bessel_j1, lambda x: mp.besselj(1, x), BOTH),
    "bessel_j 3": (lambda x: special_bessel.bessel_j(x, 3), lambda x: mp.besselj(3, x), BOTH),
    "bessel_y0": (special_bessel.bessel_y0, lambda x: mp.bessely(0, x), RIGHT),
    "bessel_y1": (special_bessel.bessel_y1, lambda x: mp.bessely(1, x), RIGHT),
    "i0": (special_bessel.i0, lambda x: mp.besseli(0, x), BOTH),
    "i1": (special_bessel.i1, lambda x: mp.besseli(1, x), BOTH),
    "i0e": (special_bessel.i0e, lambda x: mp.besseli(0, x) * mp.exp(-abs(x)), BOTH),
    "i1e": (special_bessel.i1e, lambda x: mp.besseli(1, x) * mp.exp(-abs(x)), BOTH),
    "bessel_i 3": (lambda x: special_bessel.bessel_i(x, 3), lambda x: mp.besseli(3, x), BOTH),
    "modified_bessel_k0": (special_bessel.modified_bessel_k0, lambda x: mp.besselk(0, x), RIGHT),
    "modified_bessel_k1": (special_bessel.modified_bessel_k1, lambda x: mp.besselk(1, x), RIGHT),
    "scaled_modified_bessel_k0": (
        special_bessel.scaled_modified_bessel_k0,
        lambda x: mp.besselk(0, x) * mp.exp(x),
        RIGHT,
    ),
    "scaled_modified_bessel_k1": (
        special_bessel.scaled_modified_bessel_k1,
        lambda x: mp.besselk(1, x) * mp.exp(x),
        RIGHT,
    ),
    "airy_ai": (special_bessel.airy_ai, mp.airyai, np.clip(BOTH, -25, 60)),
    "airy_slope": (special_bessel.airy_slope, lambda x: mp.airyai(x, derivative=1), np.clip(BOTH, -25, 60)),
    "spherical_bessel_j0": (special_bessel.spherical_bessel_j0, mp.sinc, BOTH),
    "sine_ratio 2": (
        lambda x: special_bessel.sine_ratio(x, 2),
        lambda x: (mp.mpf(2) / x**3 - 1 / x) * mp.sin(x) - 2 / x**2 * mp.cos(x),
        BOTH,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_against_forty_digits(name):
    f, exact, x = CASES[name]
    y, expected = f(x), exactly(exact, x)
    # relative to the value, and where a function crosses zero or oscillates absolute
    np.testing.assert_allclose(
        y, expected, rtol=2e-13, atol=2e-14 if "bessel" in name or "airy" in name or "sine" in name else 1e-300
    )


@pytest.mark.parametrize("name", CASES)
def test_single_precision_is_float64_rounded_once(name):
    f, _, x = CASES[name]
    x = x.astype(np.float32)
    with np.errstate(over="ignore"):
        assert (f(x) == f(x.astype(np.float64)).astype(np.float32)).all()
    assert f(x).dtype == np.float32


def test_incomplete_gamma_in_every_region():
    a = np.array(
        [
            0.01,
            0.3,
            0.9,
            0.5,
            1.0,
            2.5,
            7.9,
            8.1,
            30.0,
            30.0,
            99.0,
            101.0,
            150.0,
            150.0,
            150.0,
            1e4,
            1e4,
            0.5,
            3.0,
            200.0,
        ]
    )
    x = np.array(
        [
            0.2,
            0.9,
            0.001,
            3.0,
            0.7,
            2.4,
            20.0,
            3.0,
            29.0,
            45.0,
            99.0,
            99.0,
            101.0,
            150.0,
            260.0,
            1.01e4,
            0.98e4,
            40.0,
            1e-5,
            40.0,
        ]
    )
    p = exactly(lambda a, x: mp.gammainc(a, 0, x, regularized=True), a, x)
    q = exactly(lambda a, x: mp.gammainc(a, x, mp.inf, regularized=True), a, x)
    np.testing.assert_allclose(special_gamma.igamma(a, x), p, rtol=5e-13)
    np.testing.assert_allclose(special_gamma.igammac(a, x), q, rtol=5e-13)


def test_edges():
    def values(f, *xs):
        return f(*map(np.array, xs)).tolist()

    assert values(gf.special.gammaln, [0.0, -1.0, inf, -inf, 1.0, 2.0]) == [inf, inf, inf, inf, 0, 0]
    assert values(gf.special.digamma, [0.0, -0.0, inf]) == [-inf, inf, inf]
    assert math.isnan(gf.special.digamma(np.array([-1.0]))[0])
    assert values(gf.special.zeta, [1.0, 2.0, 2.0], [3.0, 0.0, -1.0]) == [inf, inf, inf]
    assert np.isnan(gf.special.zeta(np.array([0.5, 2.5]), np.array([2.0, -0.5]))).all()
    assert values(gf.special.erfinv, [-1.0, 0.0, 1.0]) == [-inf, 0, inf]
    assert values(gf.special.ndtri, [0.0, 0.5, 1.0]) == [-inf, 0, inf]
    assert np.isnan(gf.special.ndtri(np.array([-0.1, 1.1, nan]))).all()
    assert values(gf.special.erfcx, [0.0, inf, -inf, -30.0]) == [1, 0, inf, inf]
    assert values(gf.special.entr, [0.0, 1.0, -1.0]) == [0, 0, -inf]
    assert values(gf.special.xlogy, [0.0, 0.0, 2.0], [0.0, -1.0, 0.0]) == [0, 0, -inf]
    assert values(gf.special.xlog1py, [0.0, 0.0], [-1.0, -2.0]) == [0, 0]
    assert np.isnan(gf.special.xlogy(np.array([0.0]), np.array([nan]))).all()
    for k in (gf.special.modified_bessel_k0, gf.special.scaled_modified_bessel_k1):
        assert values(k, [0.0, inf]) == [inf, 0]
        assert math.isnan(k(np.array([-1.0]))[0])
    assert values(gf.special.bessel_y0, [0.0]) == values(gf.special.bessel_y1, [0.0]) == [-inf]
    assert values(gf.special.spherical_bessel_j0, [0.0, inf]) == [1, 0]
    assert values(gf.special.sinc, [0.0]) == [1]
    assert values(gf.special.gammainc, [0.0, 2.0, 2.0, inf], [1.0, 0.0, inf, 1.0]) == [1, 0, 1, 0]
    assert values(gf.special.gammaincc, [0.0, 2.0, 2.0, inf], [1.0, 0.0, inf, 1.0]) == [0, 1, 0, 1]
    assert np.isnan(gf.special.gammainc(np.array([0.0, -1.0, inf]), np.array([0.0, 1.0, inf]))).all()
    assert values(gf.special.i0e, [0.0, inf]) == [1, 0]


def chebyshev(first):
    """p_n by p_1 = first(x), p_(k+1) = 2 x p_k - p_(k-1), a number at a time."""

    def polynomial(n, x):
        below, y = 1.0, first(x)
        for _ in range(n - 1):
            below, y = y, 2 * x * y - below
        return y if n else below

    return polynomial


def test_polynomials_of_numpy_and_by_recurrence():
    x = np.array([-1.0, -0.7, 0.0, 0.3, 1.0, 1.4])
    s, numpy = gf.special, np.polynomial
    firsts = {"t": lambda x: x, "u": lambda x: 2 * x, "v": lambda x: 2 * x - 1, "w": lambda x: 2 * x + 1}
    for n in (0, 1, 2, 5, 12):
        one = np.eye(n + 1)[n]
        expected = {
            "hermite_polynomial_h": numpy.hermite.hermval(x, one), "hermite_polynomial_he": numpy.hermite_e.hermeval(x, one),
            "laguerre_polynomial_l": numpy.laguerre.lagval(x, one), "legendre_polynomial_p": numpy.legendre.legval(x, one),
        }  # fmt: skip
        for kind, first in firsts.items():
            expected[f"chebyshev_polynomial_{kind}"] = np.array([chebyshev(first)(n, v) for v in x])
            expected[f"shifted_chebyshev_polynomial_{kind}"] = np.array([chebyshev(first)(n, 2 * v - 1) for v in x])
        for name, values in expected.items():
            assert_close(getattr(s, name)(gf.tensor(x), n).numpy(), values, what=f"{name} {n}")
    assert s.legendre_polynomial_p(gf.tensor(x), -1).tolist() == [0] * 6
    assert s.legendre_polynomial_p(gf.tensor([0.5]), gf.tensor([2.9])).tolist() == [-0.125]
    assert not s.legendre_polynomial_p(gf.tensor(x, requires_grad=True), 3).requires_grad


def test_gradients_of_third_order_at_the_edges():
    # the rules must not divide by zero there
    for f, expected in (
        (gf.special.i1, [0.5, 0, 0.375]),
        (gf.sinc, [0, -(math.pi**2) / 3, 0]),
        (gf.special.bessel_j1, [0.5, 0, -0.375]),
    ):
        x = gf.tensor([0.0], dtype=gf.float64, requires_grad=True)
        y = f(x)
        for want in expected:
            (y,) = gf.autograd.grad(y.sum(), x, create_graph=True)
            assert_close(y.detach().numpy(), np.array([want]))


def test_what_is_not_differentiated_says_so():
    a, x = gf.tensor([2.0], requires_grad=True), gf.tensor([1.5], requires_grad=True)
    for f in (gf.igamma, gf.igammac, gf.special.zeta):
        with pytest.raises(NotImplementedError, match=f"{f.__name__}: the derivative by its first argument"):
            f(a, x).sum().backward()
    (g,) = gf.autograd.grad(gf.igamma(a.detach(), x).sum(), x)
    assert_close(g.numpy(), np.array([1.5 * math.exp(-1.5)], "f"))


def test_methods_and_words():
    x = gf.tensor([0.5, 2.5])
    assert gf.polygamma(1, x).tolist() == x.polygamma(1).tolist()
    assert x.clone().lgamma_().tolist() == gf.lgamma(x).tolist() == gf.special.gammaln(x).tolist()
    assert_close(
        gf.mvlgamma(gf.tensor([3.0]), 2).numpy(),
        np.array([float(mp.loggamma(3) + mp.loggamma(2.5) + mp.log(mp.pi) / 2)], "f"),
    )
    assert gf.special.expit(gf.tensor([0])).dtype == gf.float32
    assert gf.special.round(x, decimals=0).tolist() == [0, 2]
    assert_close(gf.logit(gf.tensor([0.0, 0.5]), eps=0.25).numpy(), np.array([-math.log(3), 0], "f"))
    with pytest.raises(RuntimeError, match=r"polygamma.*-1"):
        gf.polygamma(-1, x)
    with pytest.raises(RuntimeError, match="lgamma.*complex64"):
        gf.lgamma(gf.tensor([1j]))
    with pytest.raises(TypeError, match="igamma.*tensor"):
        gf.igamma(2.0, x)


# --- the tables -----------------------------------------------------------------------------------------


def test_the_card_has_the_same_coefficients():
    text = (Path(__file__).parents[1] / "kernels/special_tables.cuh").read_text()
    for name, c in {**tables.CHEBYSHEV, **tables.POWERS}.items():
        body = text[text.index(f" A {name}(A ") :]
        assert (
            tuple(map(float, re.findall(r"A\(([^()A-Z]+)\)", body[body.index("c[] = {") : body.index("};")]))) == c
        ), name
    body = text[text.index(" A temme(") :]
    rows = [
        tuple(map(float, re.findall(r"A\(([^()A-Z]+)\)", row)))
        for row in re.findall(r"c\[\] = \{(.*?)\};", body, re.DOTALL)
    ]
    assert tuple(rows[::-1]) == tables.TEMME


def test_the_tables_are_what_fits_makes():
    np.testing.assert_allclose(
        fits.fit(lambda v: mp.besselj(0, mp.sqrt(v)), 0, 64), tables.CHEBYSHEV["j0_near"], rtol=0, atol=1e-17
    )
    assert [tuple(row) for row in fits.temme(10, 22)] == list(tables.TEMME)
    assert {k: tuple(v) for k, v in fits.powers().items()} == tables.POWERS


GRID = np.concatenate([BOTH, LEFT, [0.0, -0.0, inf, -inf, nan, 0.25, 0.75, -0.75, 1e-300, 30.5, -30.5, 700.0, 1e5]])


@pytest.mark.cuda
@pytest.mark.parametrize("entry", [e for e in op.table.values() if e.place == "special"], ids=lambda e: e.name)
def test_twins_at_the_edges(entry, card):
    """The same numbers, zeros, infinities and NaNs as the definition, over the whole line."""
    x = GRID[np.abs(GRID) <= 40] if entry.name == "airy_slope" else GRID
    if entry.inputs[1:] == ("n",) and len(entry.promote) == 2:
        args = [(x, np.full(x.shape, n)) for n in (-1.0, 0.0, 2.0, 11.0)]
    elif entry.name == "zeta":
        args = [(np.full(x.shape, a), x) for a in (-1.0, 1.0, 1.3, 2.0, 3.0, 60.0, nan)]
    elif len(entry.promote) == 2:
        args = [tuple(v.ravel().copy() for v in np.meshgrid(x[::3], x))]
    else:
        args = [(x, n) for n in (1, 2)] if len(entry.inputs) == 2 else [(x,)]
    for given in args:
        with np.errstate(all="ignore"):
            expected = entry.definition(*given)
        y = card.asnumpy(entry.kernel.twin(*[card.asarray(a) if isinstance(a, np.ndarray) else a for a in given]))
        different = (np.isnan(y) != np.isnan(expected)) | (np.isinf(y) != np.isinf(expected))
        assert not different.any(), (given, y[different], expected[different])
        finite = np.isfinite(expected)
        np.testing.assert_allclose(y[finite], expected[finite], rtol=1e-11, atol=1e-13, err_msg=str(given))
