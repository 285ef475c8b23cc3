"""What a gradient scaler tells an optimizer: grad_scale and found_inf, on the CPU, on the card, captured."""

from __future__ import annotations

import pytest
from captured import OPTIMIZERS, on_card
from tolerance import assert_close

import gradflow as gf
from gradflow import nn, optim

pytestmark = pytest.mark.cuda


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("where", ["cpu", "cuda", "gaps"])
@pytest.mark.parametrize("name", [*OPTIMIZERS, "Muon"])
def test_a_scaled_step_divides_and_may_be_skipped(name, where, card):
    """With grad_scale and found_inf a step is that of the gradients divided, or none at all, counts included."""
    device = "cpu" if where == "cpu" else "cuda"
    scale = gf.tensor([8.0], device=device)

    def make():
        base = on_card((9, 4), 1).to(device)
        return base.t().detach()[::3].requires_grad_() if where == "gaps" else base.requires_grad_()

    plain, scaled = make(), make()
    make = OPTIMIZERS.get(name, optim.Muon)
    a, b = make([plain]), make([scaled])
    assert b._step_supports_amp_scaling
    for i in range(5):
        g = on_card(tuple(plain.shape), 20 + i).to(device)
        found = i == 2
        waits = card.counts.host_copies
        b.grad_scale, b.found_inf = scale, gf.tensor([float(found)], device=device)
        scaled.grad = g * 8 if not found else g * float("inf")
        b.step()
        if device == "cuda":
            assert card.counts.host_copies == waits
        b.grad_scale = b.found_inf = None
        if not found:
            plain.grad = g
            a.step()
    assert_close(scaled.numpy(force=True), plain.numpy(force=True), scale=16)
    if "step" in a.state[plain]:
        assert b.state[scaled]["step"].item() == a.state[plain]["step"].item() == 4


def test_a_captured_step_is_skipped_on_the_card(card):
    a, b = nn.Parameter(on_card(50)), nn.Parameter(on_card(50))
    o, q = optim.Adam([a], lr=0.1), optim.Adam([b], lr=0.1)
    found = gf.zeros(1, device="cuda")

    def step(g, infinite):
        b.grad = g * 4
        found.copy_(infinite)
        q.grad_scale, q.found_inf = four, found
        q.step()
        q.grad_scale = q.found_inf = None

    four = gf.tensor([4.0], device="cuda")
    step = gf.cuda.graph(step)
    for i in range(8):
        skipped = i in (1, 4, 5)
        step(on_card(50, i), gf.tensor([float(skipped)], device="cuda"))
        if not skipped:
            a.grad = on_card(50, i)
            o.step()
    assert_close(b.numpy(force=True), a.numpy(force=True))
    assert q.state[b]["step"].item() == 5
