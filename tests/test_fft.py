"""Fourier transforms against the sum that defines them; stft and its inverse against plain loops; windows in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tolerance import assert_close

import gradflow as gf
from gradflow.autograd import gradcheck, gradgradcheck

RNG = np.random.default_rng(3)


def dft(x, sign=-1):
    """sum_j x_j e^(sign 2 pi i jk / n) by its matrix."""
    n = len(x)
    k = np.arange(n)
    return np.exp(sign * 2j * np.pi * np.outer(k, k) / n) @ x


@pytest.mark.parametrize("n", [1, 2, 5, 8])
@pytest.mark.parametrize("norm", [None, "backward", "ortho", "forward"])
def test_one_dimension(n, norm):
    x = RNG.standard_normal(n) + 1j * RNG.standard_normal(n)
    forward = {"ortho": 1 / math.sqrt(n), "forward": 1 / n}.get(norm, 1)
    backward = 1 / n / forward
    assert_close(gf.fft.fft(gf.tensor(x), norm=norm).numpy(), dft(x) * forward)
    assert_close(gf.fft.ifft(gf.tensor(x), norm=norm).numpy(), dft(x, 1) * backward)
    half = dft(x.real)[: n // 2 + 1]
    assert_close(gf.fft.rfft(gf.tensor(x.real.copy()), norm=norm).numpy(), half * forward)
    assert_close(gf.fft.ihfft(gf.tensor(x.real.copy()), norm=norm).numpy(), half.conj() * backward)
    assert_close(gf.fft.irfft(gf.tensor(half * forward), n, norm=norm).numpy(), x.real)
    assert_close(gf.fft.hfft(gf.tensor(half.conj() * backward), n, norm=norm).numpy(), x.real)


def test_sizes_cut_and_fill():
    x = RNG.standard_normal(5)
    assert_close(gf.fft.fft(gf.tensor(x), 3).numpy(), dft(x[:3]))
    assert_close(gf.fft.fft(gf.tensor(x), 7).numpy(), dft(np.append(x, [0, 0])))
    two = RNG.standard_normal((3, 5))
    want = np.array([dft(c) for c in np.array([dft(r) for r in np.pad(two, ((0, 1), (0, 0)))[:, :4]]).T]).T
    assert_close(gf.fft.fft2(gf.tensor(two), (4, 4)).numpy(), want)
    assert_close(gf.fft.fftn(gf.tensor(two), (4, -1), dim=(0, 1)).numpy(), gf.fft.fft2(gf.tensor(two), (4, 5)).numpy())


def test_integers_become_floats_and_float32_stays():
    assert gf.fft.fft(gf.arange(4)).dtype == gf.complex64
    assert gf.fft.rfft(gf.ones(4)).dtype == gf.complex64
    assert gf.fft.irfft(gf.ones(3, dtype=gf.complex64)).dtype == gf.float32
    assert gf.fft.fft(gf.ones(4, dtype=gf.float64)).dtype == gf.complex128


def test_empty_batches():
    x = gf.zeros(0, 4, dtype=gf.complex128, requires_grad=True)
    for y in (gf.fft.fft(x), gf.fft.irfft(x), gf.fft.rfft(gf.zeros(0, 4))):
        assert y.shape[0] == 0
    gf.fft.fft(x).abs().sum().backward()
    assert x.grad.shape == (0, 4)


def test_frequencies_and_shifts():
    assert gf.fft.fftfreq(5, 0.5).tolist() == pytest.approx([0, 0.4, 0.8, -0.8, -0.4])
    assert gf.fft.fftfreq(4).tolist() == [0, 0.25, -0.5, -0.25]
    assert gf.fft.rfftfreq(4).tolist() == [0, 0.25, 0.5]
    assert gf.fft.fftshift(gf.arange(5)).tolist() == [3, 4, 0, 1, 2]
    assert gf.fft.ifftshift(gf.tensor([3, 4, 0, 1, 2])).tolist() == [0, 1, 2, 3, 4]
    assert gf.fft.fftshift(gf.tensor([[0, 1], [2, 3]]), 1).tolist() == [[1, 0], [3, 2]]


def test_gradients_of_real_losses():
    def power(x):
        y = gf.fft.rfft2(x)
        return (y * y.conj()).abs()

    x = gf.tensor(RNG.standard_normal((3, 4)), requires_grad=True)
    assert gradcheck(power, [x])
    assert gradgradcheck(power, [x])

    def filtered(x, h):
        return gf.fft.irfft(gf.fft.rfft(x) * gf.fft.rfft(h), 5)

    a, h = (gf.tensor(RNG.standard_normal(5), requires_grad=True) for _ in range(2))
    assert gradcheck(filtered, [a, h])
    assert gradgradcheck(filtered, [a, h])
    want = [sum(a[j].item() * h[(k - j) % 5].item() for j in range(5)) for k in range(5)]  # circular convolution
    assert_close(filtered(a, h).detach().numpy(), np.array(want))


def test_refusals():
    with pytest.raises(RuntimeError, match="rfft: wanted real numbers"):
        gf.fft.rfft(gf.ones(3, dtype=gf.complex64))
    with pytest.raises(RuntimeError, match="fftn: wanted every dimension once"):
        gf.fft.fftn(gf.ones(3, 3), dim=(0, 0))
    with pytest.raises(RuntimeError, match="fft: wanted at least one point"):
        gf.fft.fft(gf.ones(3), 0)
    with pytest.raises(IndexError, match="fft: wanted dimensions"):
        gf.fft.fft(gf.ones(3), dim=1)
    with pytest.raises(RuntimeError, match="norm"):
        gf.fft.fft(gf.ones(3), norm="none")


def test_stft_is_a_transform_of_every_window_and_istft_undoes_it():
    x, n, hop = RNG.standard_normal(23), 8, 3
    window = gf.hann_window(6, dtype=gf.float64)
    y = gf.stft(gf.tensor(x), n, hop, 6, window, return_complex=True)
    padded = np.pad(x, n // 2, mode="reflect")
    w = np.pad(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(6) / 6), 1)
    frames = [dft(padded[i : i + n] * w)[: n // 2 + 1] for i in range(0, len(padded) - n + 1, hop)]
    assert_close(y.numpy(), np.array(frames).T)
    parts = gf.stft(gf.tensor(x), n, hop, 6, window, return_complex=False).numpy()
    assert_close(parts, np.stack([np.array(frames).T.real, np.array(frames).T.imag], -1))
    assert_close(gf.istft(y, n, hop, 6, window, length=23).numpy(), x)
    with pytest.raises(RuntimeError, match="overlap everywhere"):
        gf.istft(y, n, 8, 6, window)


def test_stft_differentiates():
    window = gf.hamming_window(4, dtype=gf.float64)
    x = gf.tensor(RNG.standard_normal(9), requires_grad=True)
    assert gradcheck(lambda x: gf.stft(x, 4, 2, window=window, return_complex=True).abs(), [x])
    assert gradcheck(lambda x: gf.istft(gf.stft(x, 4, 2, window=window, return_complex=True) ** 2, 4, 2, window=window), [x])


def test_windows():
    w = gf.signal.windows
    t = np.arange(5)
    expected = {
        w.hann: 0.5 - 0.5 * np.cos(np.pi * t / 2),
        w.hamming: 0.54 - 0.46 * np.cos(np.pi * t / 2),
        w.blackman: 0.42 - 0.5 * np.cos(np.pi * t / 2) + 0.08 * np.cos(np.pi * t),
        w.bartlett: [0, 0.5, 1, 0.5, 0],
        w.cosine: np.sin(np.pi * (t + 0.5) / 5),
        w.gaussian: np.exp(-((t - 2) ** 2) / 2),
        w.exponential: np.exp(-abs(t - 2)),
    }
    for window, values in expected.items():
        assert_close(window(5, dtype=gf.float64).numpy(), np.asarray(values), what=window.__name__)
        assert window(0).shape == (0,)
        assert window(1).tolist() == [1]
        with pytest.raises(ValueError, match=window.__name__):
            window(-1)
        with pytest.raises(ValueError, match=window.__name__):
            window(3, dtype=gf.int64)
    assert gf.hann_window(4).tolist() == pytest.approx([0, 0.5, 1, 0.5])
    assert gf.hann_window(5, periodic=False).tolist() == pytest.approx([0, 0.5, 1, 0.5, 0], abs=1e-7)


def test_kaiser_against_its_series():
    mpmath = pytest.importorskip("mpmath")
    want = [float(mpmath.besseli(0, 6 * mpmath.sqrt(1 - (2 * t / 6 - 1) ** 2)) / mpmath.besseli(0, 6)) for t in range(7)]
    assert_close(gf.signal.windows.kaiser(7, beta=6.0, dtype=gf.float64).numpy(), np.array(want))
