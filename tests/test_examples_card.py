"""Examples on the card, in their quick form: what they make lies on it, and they reach their numbers there, too.

On the stand-in, which refuses arrays of NumPy among its own as CuPy does, the definitions run, at NumPy's speed; and of all
examples the cheapest of each chapter. GRADFLOW_DEFINITIONS=1 runs every one of them; so does --real-card, with the kernels.
"""

from __future__ import annotations

import pytest

from gradflow import kernel, tape
from gradflow.backend import on_card
from gradflow.examples import EXAMPLES, runner

for package in ("sklearn", "skimage", "matplotlib"):
    pytest.importorskip(package)

CHEAP = (
    "graph", "neuron", "tiny_tanh", "homework", "multiply", "accumulation", "momentum", "newton", "two_layer", "activations",
    "full_convolution", "filters", "lenet", "captions", "matrix_norms",
)  # fmt: skip


def pytest_generate_tests(metafunc):
    every = kernel.definitions_only or metafunc.config.getoption("--real-card")
    metafunc.parametrize("name", EXAMPLES if every else CHEAP)


@pytest.fixture
def walks(monkeypatch):
    """Whether each walk back began on the card."""
    began, walk = [], tape.backward

    def backward(roots, *args, **kwargs):
        roots = list(roots)
        began.extend(on_card(g) or getattr(g, "is_cuda", False) for _, g in roots)  # arrays, or what is recorded again
        return walk(roots, *args, **kwargs)

    monkeypatch.setattr(tape, "backward", backward)
    return began


@pytest.mark.cuda
def test_an_example_reaches_its_numbers_on_the_card(name, cards, card, walks, monkeypatch, tmp_path):
    if card.__name__ == "card":  # the stand-in: threads of the kernels would be fibers of one core
        monkeypatch.setattr(kernel, "definitions_only", True)
    assert runner.main(name, ["--quick", "--device", "cuda", "--out", str(tmp_path)]) == 0
    assert all(walks), f"{walks.count(False)} of {len(walks)} gradients were computed off the card"
