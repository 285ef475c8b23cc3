"""What every test shares: the sample cases of the op table, and the card, real or stand-in."""

from __future__ import annotations

import os

# Products in tests are small: threads of the BLAS would wait for each other, and add in an order that the cores decide.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import shutil
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import numpy as np
import pytest

import gradflow
import gradflow.amp  # enters the kernels of gradient scaling
import gradflow.ops
import gradflow.optim  # enters the kernels of its steps
import gradflow.torch
from gradflow import backend
from gradflow.cases import Sampler
from gradflow.cuda import launch, precision

for family in iter_modules(gradflow.ops.__path__):  # fill the op table
    import_module(f"gradflow.ops.{family.name}")


def pytest_addoption(parser):
    parser.addoption(
        "--real-card", action="store_true", help="run the card's tests on the CUDA card only, not on the stand-in"
    )


def real_card():
    """CuPy if it has a card, else None."""
    before = backend._card, backend._searched
    backend.plug(None)
    module = backend.card()
    backend._card, backend._searched = before
    return module


def pytest_generate_tests(metafunc):
    """Where there is a real card, what needs one runs twice: on the stand-in and on it."""
    if "cards" in metafunc.fixturenames and not metafunc.config.getoption("--real-card") and real_card() is not None:
        metafunc.parametrize("cards", ["stand-in", "real"], indirect=True, scope="session")


@pytest.fixture(scope="session")
def cards(request):
    """The module that plays CuPy: the stand-in of tests/card, or CuPy itself."""
    if request.config.getoption("--real-card") or getattr(request, "param", "") == "real":
        module = real_card()
        if module is None:
            pytest.exit("--real-card: no CUDA card was found", returncode=2)
        return module
    import card

    return card


@pytest.fixture
def card(cards):
    """The card, plugged in for one test."""
    before = backend._card, backend._searched, precision.conv_tf32()
    backend.plug(cards)
    precision.conv_tf32(False)  # float32 is compared with float32; tests of TF32 turn it on
    yield cards
    backend._card, backend._searched = before[:2]
    precision.conv_tf32(before[2])


@pytest.fixture
def stand_in(card):
    """The card where it is the stand-in, which counts, notices and has its memory on the host; a real one does not."""
    if card.__name__ == "cupy":
        pytest.skip("a real card does not count")
    return card


@pytest.fixture
def kernels(tmp_path, monkeypatch):
    """A copy of the kernels with the probes of tests/kernels among them, to be changed at will."""
    where = tmp_path / "kernels"
    shutil.copytree(launch.folder(), where)
    for probe in (Path(__file__).parent / "kernels").glob("*.cu"):
        shutil.copy(probe, where)
    monkeypatch.setattr(launch, "folder", lambda: where)
    launch.forget()
    yield where
    launch.forget()


@pytest.fixture
def pytorch():
    """PyTorch itself, as an oracle."""
    return pytest.importorskip("torch")


@pytest.fixture
def without_pytorch():
    """PyTorch's modules, if other tests imported them, are out of the way meanwhile."""
    before = {n: sys.modules.pop(n) for n in list(sys.modules) if n == "torch" or n.startswith("torch.")}
    yield
    sys.modules.update(before)


@pytest.fixture
def torch(without_pytorch):
    """torch as programs of gradflow.torch see it."""
    with gradflow.torch.installed() as module:
        yield module


@pytest.fixture(autouse=True)
def _precision():
    """Products are as precise after a test as before it."""
    before = precision.get_float32_matmul_precision()
    yield
    if precision.get_float32_matmul_precision() != before:
        precision.set_float32_matmul_precision(before)


@pytest.fixture(autouse=True)
def _seed():
    gradflow.manual_seed(0)
    np.random.seed(0)


def cases_of(entry):
    """The sample cases of an op or kernel, drawn afresh from a fixed seed."""
    return entry.cases(Sampler()) if entry.cases else []


def dtype_named(name):
    if name == "bfloat16":
        pytest.importorskip("ml_dtypes", reason="bfloat16 needs ml_dtypes")
        return backend.bfloat16()
    return np.dtype(name)


def as_dtype(args, dtype):
    """Floating arrays among args (also inside lists) with another dtype; the rest as it is."""
    if isinstance(args, np.ndarray):
        return args.astype(dtype) if args.dtype.kind == "f" else args
    if isinstance(args, (list, tuple)):
        return type(args)(as_dtype(a, dtype) for a in args)
    if isinstance(args, dict):
        return {k: as_dtype(v, dtype) for k, v in args.items()}
    return args
