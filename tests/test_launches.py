"""What the device is asked to do in one training step, launch by launch: a launch more is a regression, or needs a reason.

A table holds for each phase of a step (number, what it is called, why). Where a number is off, the test prints the ordered
list of what was launched. To see the lists:

    python tests/test_launches.py [LeNet]
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

import card
import numpy as np
import pytest

import gradflow as gf
from bench import models
from gradflow import backend

pytestmark = pytest.mark.cuda
r = np.random.default_rng(0)

# name: (the net, its inputs, the classes to predict), small but with each layer of the bench's nets.
NETS = {
    "LeNet": (models.lenet, (), [r.standard_normal((4, 1, 28, 28)).astype("f4")], r.integers(0, 10, 4)),
    "LSTM": (models.lstm, (50, 16, 1), [r.integers(0, 50, (6, 2))], r.integers(0, 50, 12)),
    "GPT": (models.gpt, (50, 2, 2, 32, 16), [r.integers(0, 50, (2, 16)), np.arange(16)], r.integers(0, 50, 32)),
}

# The same for every net.
ENDS = {
    "zero_grad": [],  # gradients are dropped, not cleared
    "loss": [(1, "cross_entropy_forward", "loss and log-sum-exp of every row"), (1, "final_sum", "their mean")],
    "optimizer": [
        (1, "upload", "where the parameters and their new gradients lie"),
        (1, "adam", "all parameters in one launch"),
    ],
}
SEED = [
    (1, "ones_like", "the gradient of the loss"),
    (1, "zeros", "the gradient of the log-sum-exp, on which nothing depends"),
    (1, "cross_entropy_backward", ""),
]

T, BLOCKS = 6, 2
STEPS = {
    "LeNet": {
        "forward": [
            (2, "conv_forward", "with their bias"),
            (4, "relu", ""),
            (2, "max_pool_forward", "value and place of the largest"),
            (3, "gemm_fma", "three linear layers, with their bias"),
            (1, "gemm_finish", "the long sum of the first linear layer, split among blocks"),
        ],
        "backward": [
            *SEED,
            (6, "dot", "dx and dw of three linear layers"),
            (5, "sum", "db of two convolutions and three linear layers"),
            (4, "relu_backward", ""),
            (2, "max_pool_backward", ""),
            (2, "conv_weight", ""),
            (1, "conv_input", "the images need no gradient"),
            (10, "copy", "a leaf's gradient is an array of its own"),
        ],
    },
    "LSTM": {
        "forward": [
            (1, "take", "the embedding"),
            (2, "zeros", "the state before the first word"),
            (1, "dot", "all words by the input weights"),
            (1, "astype", ""),
            (T, "dot", "the state by the recurrent weights"),
            (T, "lstm_forward", "a cell a word"),
            (1, "copy", ""),
            (1, "astype", ""),
            (1, "gemm_fma", "the head"),
        ],
        "backward": [
            *SEED,
            (1, "dot", ""),
            (1, "sum", "db of the head"),
            (2, "zeros", "the gradient of the last state"),
            (2, "astype", ""),
            (T, "lstm_backward", "a cell a word"),
            (T, "dot", "the gradient of the state before"),
            (1, "concatenate", ""),
            (3, "dot", "dw of both weights and dx"),
            (1, "sum", "db of the cell"),
            (1, "zeros", ""),
            (1, "argsort", "equal words together"),
            (1, "getitem", ""),
            (1, "segment_sum", "dw of the embedding, in a fixed order"),
            (7, "copy", "a leaf's gradient is an array of its own"),
        ],
    },
}


def short(work):
    """What a launch is called in the tables: a kernel without its types, an elementwise function's own name."""
    if work.kind in ("upload", "download", "wait"):
        return work.kind
    if m := re.search(r"fn::(\w+)", work.name):
        return m[1]
    return work.name.partition("<")[0]


def step(name):
    """The launches of the third step of a net, by phase, and what the host waited for."""
    make, sizes, inputs, classes = NETS[name]
    gf.manual_seed(0)
    model = make(gf, *sizes).to("cuda")
    optimizer = gf.optim.Adam(model.parameters())
    inputs, classes = [gf.tensor(x).to("cuda") for x in inputs], gf.tensor(classes).to("cuda")
    for _ in range(3):
        phases = {phase: card.launches() for phase in ("zero_grad", "forward", "loss", "backward", "optimizer")}
        card.counts.reset()
        with phases["zero_grad"]:
            optimizer.zero_grad()
        with phases["forward"]:
            y = model(*inputs)
        with phases["loss"]:
            loss = gf.nn.functional.cross_entropy(y, classes)
        with phases["backward"]:
            loss.backward()
        with phases["optimizer"]:
            optimizer.step()
    return phases, card.counts.host_copies + card.counts.synchronisations


def differences(phases, expected):
    """What is not as the table says, with the ordered list of the phase."""
    wrong = []
    for phase, launches in phases.items():
        seen, table = Counter(map(short, launches)), Counter()
        for number, what, _ in expected.get(phase, ENDS.get(phase)):
            table[what] += number
        if seen != table:
            off = [f"{seen[n]} x {n}, the table says {table[n]}" for n in sorted(seen | table) if seen[n] != table[n]]
            wrong.append(f"{phase}: {'; '.join(off)}. Its {len(launches)} launches:\n{launches}")
    return "\n".join(wrong)


@pytest.mark.parametrize("name", STEPS)
def test_a_training_step(name, cards):
    if cards is not card:
        pytest.skip("the stand-in counts")
    before = backend._card, backend._searched
    backend.plug(card)
    try:
        phases, waits = step(name)
    finally:
        backend._card, backend._searched = before
    assert waits == 0, "the host waits for the device in the middle of a step"
    wrong = differences(phases, STEPS[name])
    assert not wrong, wrong


if __name__ == "__main__":
    backend.plug(card)
    for name in sys.argv[1:] or NETS:
        phases, waits = step(name)
        print(f"=== {name}: {sum(map(len, phases.values()))} launches, the host waits {waits} times")
        for phase, launches in phases.items():
            counts = ", ".join(f"{n} {what}" for what, n in Counter(map(short, launches)).items())
            print(f"--- {phase}: {len(launches)} ({counts})\n{launches}")
