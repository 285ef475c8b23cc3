"""Devices, namespaces, dtypes and the random stream."""

from __future__ import annotations

import numpy as np
import pytest

import gradflow as gf
from gradflow import backend


@pytest.fixture
def no_card(monkeypatch):
    monkeypatch.setattr(backend, "_card", None)
    monkeypatch.setattr(backend, "_searched", True)


def test_moving_without_a_card_says_how_to_get_one(no_card):
    for move in (lambda: gf.ones(2).to("cuda"), lambda: gf.ones(2).cuda(), lambda: gf.zeros(2, device="cuda")):
        with pytest.raises(RuntimeError, match=r"no CUDA card was found; install CuPy.*gradflow\[cuda13\]"):
            move()
    assert not gf.cuda.is_available()
    assert gf.cuda.device_count() == 0


def test_devices():
    assert gf.device("cuda:1") == gf.device("cuda", 1) == "cuda:1"
    assert gf.device("cuda") == gf.device("cuda", 0)
    assert str(gf.device("cuda", 1)) == "cuda:1"
    assert repr(gf.device("cpu")) == "device(type='cpu')"
    assert gf.ones(1).device == gf.device("cpu")
    with pytest.raises(RuntimeError, match="'tpu'"):
        gf.device("tpu")


def test_there_and_back(card):
    x = gf.arange(6).reshape(2, 3).float().requires_grad_()
    y = x.to("cuda")
    assert y.is_cuda
    assert y.device.type == "cuda"
    assert isinstance(y.array, card.ndarray)
    (y * 2).sum().backward()
    assert x.grad.device.type == "cpu"
    assert x.grad.tolist() == [[2] * 3] * 2
    assert y.detach().cpu().numpy().tolist() == x.tolist()
    with pytest.raises(TypeError, match="cpu"):
        y.detach().numpy()
    with pytest.raises(RuntimeError, match="mul.*one device"):
        y * gf.ones(2, 3)
    assert (y * gf.tensor(2.0)).is_cuda  # a 0-d tensor of the CPU is a number


def test_definitions_only_switch(card, monkeypatch):
    from gradflow import kernel
    from gradflow.cuda import launch

    x = gf.randn(5, device="cuda")
    before = launch.count
    gf.tanh(x)
    assert launch.count > before
    monkeypatch.setattr(kernel, "definitions_only", True)
    before = launch.count
    gf.tanh(x)
    assert launch.count == before


def test_bfloat16_without_ml_dtypes_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(ImportError, match="pip install ml_dtypes"):
        backend.bfloat16()


def test_the_stream_is_numpys_philox_whatever_the_sizes_of_the_draws():
    g = gf.Generator(7)
    whole = np.random.Philox(key=7, counter=0).random_raw(12)
    assert np.array_equal(np.concatenate([g.words(4), g.words(8)]), whole)
    state = g.get_state()
    a = g.words(5)
    g.set_state(state)
    assert np.array_equal(a, g.words(5))
    assert gf.manual_seed(3).initial_seed() == 3


def test_seeds_repeat():
    gf.manual_seed(1)
    a = gf.randn(3).tolist()
    gf.manual_seed(1)
    assert gf.randn(3).tolist() == a
    assert gf.randn(3).tolist() != a


def test_a_device_is_not_any_word():
    assert gf.device("cuda:0") == "cuda"
    assert gf.device("cpu") != "auto"
    with pytest.raises(RuntimeError, match="wanted 'cpu', 'cuda' or 'cuda:N' to put a tensor on, saw 'meta'"):
        gf.zeros(2, device="meta")
