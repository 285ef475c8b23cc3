"""A training step on the card gives what it gives on NumPy: LeNet for a few steps, loss by loss, and its launches counted."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from tolerance import assert_close

import gradflow as gf
from gradflow import nn
from gradflow.cuda import launch, optim

pytestmark = pytest.mark.cuda


def train(device, steps=3):
    """The losses of a few steps of LeNet with dropout and batch norm, and the parameters after them."""
    gf.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 3), nn.Tanh(),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 32), nn.LayerNorm(32), nn.GELU(), nn.Dropout(0.25), nn.Linear(32, 10),
    ).to(device)  # fmt: skip
    optimizer = gf.optim.Adam(model.parameters(), lr=1e-2)
    rng = np.random.default_rng(0)
    losses, launches = [], 0
    for _ in range(steps):
        x = gf.tensor(rng.standard_normal((8, 1, 8, 8)).astype("f"), device=device)
        y = gf.tensor(rng.integers(0, 10, 8), device=device)
        before = launch.count
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        launches = launch.count - before
        losses.append(loss.item())
    return losses, {k: v.cpu().numpy() for k, v in model.state_dict().items()}, launches


def test_the_same_losses_and_parameters(card):
    here, there = train("cpu"), train("cuda")
    assert_close(np.array(there[0], "f"), np.array(here[0], "f"), scale=10)
    for name, value in here[1].items():
        assert_close(there[1][name], value, scale=50, what=name)


def test_launches_of_a_step_are_counted(card):
    # our kernels only: matrix products, copies and fills are CuPy's own
    assert train("cuda", 2)[2] == train("cuda", 4)[2] > 30
    assert train("cpu", 1)[2] == 0


def test_the_same_bits_every_run(card):
    first, second = train("cuda"), train("cuda")
    assert first[0] == second[0]
    for name, value in first[1].items():
        np.testing.assert_array_equal(second[1][name], value, err_msg=name)


def test_memory_of_the_card_goes_with_the_model(card):
    pool = card.get_default_memory_pool()

    def used(steps):
        train("cuda", steps)
        gc.collect()
        optim._tables.clear()  # a bounded cache of the tables that say where parameters lie
        return pool.used_bytes()

    assert used(1) == used(2) == used(5)
