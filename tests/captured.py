"""A small model to be trained with and without CUDA graphs, without matrix products, of which cuBLAS has its own order."""

from __future__ import annotations

import numpy as np

import gradflow as gf
from gradflow import nn, optim


def on_card(shape, seed=0):
    return gf.tensor(np.random.default_rng(seed).standard_normal(shape).astype("f"), device="cuda")


class Small:
    """A model without matrix products, its optimizer and schedule, and the step that trains it."""

    def __init__(self, make=lambda p: optim.Adam(p, lr=1e-2, weight_decay=0.1), schedule=None, drop=0.25, clip=0.5):
        gf.manual_seed(3)
        self.w = nn.Parameter(on_card((24,), 1))
        self.body = nn.Sequential(nn.LayerNorm(24), nn.GELU(), nn.Dropout(drop)).to("cuda")
        self.params = [*self.body.parameters(), self.w]
        self.optimizer = make(self.params)
        self.schedule = schedule and schedule(self.optimizer)
        self.clip = clip

    def step(self, x):
        self.optimizer.zero_grad()
        loss = ((self.body(x) * self.w) ** 2).mean()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.params, self.clip)
        self.optimizer.step()
        if self.schedule:
            self.schedule.step()
        return loss, norm

    def numbers(self):
        state = [v.cpu().numpy() for p in self.params for v in self.optimizer.state[p].values()]
        return [p.numpy(force=True) for p in self.params] + state


def run(model, step, steps=7, rows=4, first=0):
    """The losses and norms of some steps, each of other inputs."""
    return [tuple(v.item() for v in step(on_card((rows, 24), 10 + i))) for i in range(first, first + steps)]


def alike(a, b):
    for x, y in zip(a.numbers(), b.numbers(), strict=True):
        np.testing.assert_array_equal(x, y)
    assert a.optimizer.param_groups[0]["lr"] == b.optimizer.param_groups[0]["lr"]


SCHEDULES = {
    "StepLR": lambda o: optim.lr_scheduler.StepLR(o, 2, 0.5),
    "OneCycleLR": lambda o: optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=20),
    "SequentialLR": lambda o: optim.lr_scheduler.SequentialLR(
        o, [optim.lr_scheduler.ConstantLR(o, 0.5), optim.lr_scheduler.ExponentialLR(o, 0.9)], [3]
    ),
    "ChainedScheduler": lambda o: optim.lr_scheduler.ChainedScheduler(
        [optim.lr_scheduler.ExponentialLR(o, 0.9), optim.lr_scheduler.StepLR(o, 2, 0.5)]
    ),
}

OPTIMIZERS = {
    "SGD": lambda p: optim.SGD(p, lr=0.1),
    "momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.1, nesterov=False),
    "AdamW": lambda p: optim.AdamW(p, lr=0.1, amsgrad=True),
    "RMSprop": lambda p: optim.RMSprop(p, momentum=0.9, centered=True),
    "Adagrad": lambda p: optim.Adagrad(p, lr=0.1, lr_decay=0.1),
    "Adadelta": optim.Adadelta,
    "Adamax": optim.Adamax,
    "RAdam": lambda p: optim.RAdam(p, lr=0.1, betas=(0.9, 0.8)),
    "Rprop": optim.Rprop,
    "NAdam": optim.NAdam,
    "ASGD": lambda p: optim.ASGD(p, lr=0.1, lambd=0.1, t0=1),
    "Adafactor": optim.Adafactor,
}
