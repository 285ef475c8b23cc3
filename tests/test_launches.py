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
SEED = [(1, "ones_like", "the gradient of the loss"), (1, "cross_entropy_backward", "")]
EMBEDDING = [
    (1, "zeros", "rows of words that do not occur"),
    (1, "places", "equal words together"),
    (1, "segment_sum", "dw, summed in a fixed order"),
]

T, BLOCKS = 6, 2  # words; layers of the GPT, of which each has two norms and four linear layers
LINEAR, NORMS = 4 * BLOCKS + 1, 2 * BLOCKS + 1
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
            (5, "sum_columns", "db of the linear layers, and of the convolutions' images"),
            (2, "sum_rows", "db of the convolutions: what the images give"),
            (4, "relu_backward", ""),
            (2, "max_pool_backward", ""),
            (2, "conv_weight", ""),
            (1, "conv_input", "the images need no gradient"),
        ],
    },
    "LSTM": {
        "forward": [
            (1, "take", "the embedding"),
            (2, "zeros", "the state before the first word"),
            (1, "dot", "all words by the input weights"),
            (T, "lstm_step", "a cell a word, its product too"),
            (1, "astype", ""),
            (1, "gemm_fma", "the head"),
        ],
        "backward": [
            *SEED,
            (1, "gemmEx", "dw of the head"),
            (1, "sum_columns", "db of the head"),
            (4, "dot", "dx of the head; dw of both weights and dx of the cell"),
            (2, "zeros", "the gradient of the last state"),
            (2, "astype", ""),
            (1, "ascontiguousarray", "the recurrent weights, turned over"),
            (T, "lstm_step_backward", "a cell a word, its product too"),
            (1, "concatenate", "the states before each word"),
            (1, "sum", "db of the cell"),
            *EMBEDDING,
            (1, "copy", "both biases of the cell have one gradient"),
        ],
    },
    "GPT": {
        "forward": [
            (2, "take", "words and places"),
            (2 * BLOCKS + 1, "add", "words and places; what each half of a block adds"),
            (NORMS, "norm_rows", ""),
            (LINEAR, "gemm_fma", "with their bias"),
            (BLOCKS, "gemm_finish", "the long sum of the second layer of the MLP, split among blocks"),
            (BLOCKS, "attention_forward", ""),
            (BLOCKS, "gelu", ""),
        ],
        "backward": [
            *SEED,
            (LINEAR, "gemmEx", "dw"),
            (LINEAR, "dot", "dx"),
            (LINEAR + 1, "sum_columns", "db; dw of the places, which are the same in every sequence"),
            (NORMS, "norm_rows_backward", "dx, and parts of dw and db"),
            (NORMS, "norm_sums", "dw and db"),
            (BLOCKS, "gelu_backward", ""),
            (2 * BLOCKS, "add", "both ways around each half of a block"),
            (BLOCKS, "attention_backward_queries", ""),
            (BLOCKS, "attention_backward_keys", ""),
            (BLOCKS, "concatenate", "dq, dk and dv are slices of one product"),
            *EMBEDDING,
            *EMBEDDING,
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
def test_a_training_step(name, stand_in):
    phases, waits = step(name)
    assert waits == 0, "the host waits for the device in the middle of a step"
    wrong = differences(phases, STEPS[name])
    assert not wrong, wrong


def test_the_list_tells_work_from_views_and_waits(stand_in):
    x = card.arange(12, dtype="f4").reshape(3, 4)
    twice = card.ElementwiseKernel("T x", "T y", "y = 2 * x", "twice")
    card.counts.reset()
    with card.launches() as work:
        y = twice(x.T[1:]).reshape(-1).astype("f4", copy=False)
        y += 1
        y[:4] = x[0]
        z = card.concatenate([y, card.asarray(np.zeros(2, "f4"))])
        card.nonzero(z)
        z.data.memset_async(0, 8)
        float(z[0])
        card.cuda.get_current_stream().synchronize()
    assert [str(w).split() for w in work] == [
        ["elementwise", "twice"], ["routine", "add"], ["routine", "setitem"], ["upload", "asarray"], ["routine", "concatenate"],
        ["wait", "nonzero"], ["routine", "nonzero"], ["memset", "memset_async"], ["download", "float"],
        ["wait", "Stream.synchronize"],
    ]  # fmt: skip
    assert [(w.read, w.written) for w in work.of("routine")][:3] == [(36, 36), (16, 16), (44, 44)]
    assert len(work.device) == 6 and (card.counts.host_copies, card.counts.synchronisations) == (1, 2)


def test_gradients_become_grad_without_a_copy_unless_somebody_holds_them(stand_in):
    a, b, c = (gf.tensor(np.arange(4, dtype="f4")).to("cuda").requires_grad_() for _ in range(3))
    g = gf.tensor(np.ones(4, "f4")).to("cuda")
    y = a + b + (c * 2).reshape(2, 2).reshape(4)
    with card.launches() as work:
        y.backward(g)
    assert [short(w) for w in work] == ["multiply", "copy", "copy"]  # of a and b, whose gradient is g, but not of c
    a.grad.add_(1)
    assert (a.grad.tolist(), b.grad.tolist(), c.grad.tolist(), g.tolist()) == ([2.0] * 4, [1.0] * 4, [2.0] * 4, [1.0] * 4)
    w = gf.tensor(np.zeros((2, 3), "f4")).to("cuda").requires_grad_()
    w[0].sum().backward()
    assert w.grad.tolist() == [[1.0] * 3, [0.0] * 3]


if __name__ == "__main__":
    backend.plug(card)
    for name in sys.argv[1:] or NETS:
        phases, waits = step(name)
        print(f"=== {name}: {sum(map(len, phases.values()))} launches, the host waits {waits} times")
        for phase, launches in phases.items():
            counts = ", ".join(f"{n} {what}" for what, n in Counter(map(short, launches)).items())
            print(f"--- {phase}: {len(launches)} ({counts})\n{launches}")
