"""Layers and the activations after them as one op: the same values, gradients and names, in fewer launches."""

from __future__ import annotations

import numpy as np
import pytest
from tolerance import assert_close

import gradflow
from gradflow import nn
from gradflow.cuda import cublaslt
from gradflow.op import table
from gradflow.ops.activated import linear_activation


@pytest.mark.usefixtures("stand_in")
@pytest.mark.cuda
def test_one_launch_for_a_linear_layer(card, monkeypatch):
    monkeypatch.setattr(cublaslt, "_library", False)
    layer = nn.Linear(8, 4).to("cuda")
    x = gradflow.randn(3, 8).to("cuda")
    with card.launches() as work, gradflow.no_grad():
        layer(x)
    assert len(work.device) == 1, str(work)
    model = nn.utils.fuse_activations(nn.Sequential(nn.Linear(8, 4), nn.ReLU()).to("cuda"))
    with card.launches() as work:
        model(x)
    assert len(work.device) == 1, str(work)


def layers(n):
    return [
        nn.Conv2d(n, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 3, padding_mode="reflect", padding=1), nn.Tanh(),
        nn.Flatten(), nn.Linear(48, 8), nn.GELU("tanh"), nn.Sequential(nn.Linear(8, 6), nn.Sigmoid(), nn.Linear(6, 5), nn.SiLU()),
        nn.Linear(5, 2),
    ]  # fmt: skip


def test_fused_layers_are_the_same_model():
    model, x = nn.Sequential(*layers(3)), gradflow.randn(2, 3, 4, 4)
    y = model(x)
    y.square().sum().backward()
    before, names = [p.grad.numpy().copy() for p in model.parameters()], list(model.state_dict())
    model.zero_grad()
    assert nn.utils.fuse_activations(model) is model
    assert list(model.state_dict()) == names
    calls = []
    run = table["linear_activation"].definition

    def spy(*args):
        calls.append(args[3])
        return run(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table["linear_activation"].kernel, "definition", spy)
        patch.setattr(table["linear_activation"], "definition", spy)
        z = model(x)
        assert calls == ["sigmoid"]  # the others need what was put in, for their gradients
        with gradflow.no_grad():
            model(x)
        assert calls == ["sigmoid", "gelu_tanh", "sigmoid", "silu"]
    assert_close(z.detach().numpy(), y.detach().numpy())
    z.square().sum().backward()
    for p, g in zip(model.parameters(), before, strict=True):
        assert_close(p.grad.numpy(), g)
    model.load_state_dict(nn.Sequential(*layers(3)).state_dict())


def test_fused_layers_in_batches_of_samples():
    model = nn.utils.fuse_activations(nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(27, 2), nn.Tanh()))
    x = gradflow.randn(4, 2, 2, 5, 5)
    assert_close(gradflow.vmap(model)(x).detach().numpy(), gradflow.stack([model(v) for v in x]).detach().numpy())
    weights = [gradflow.randn(4, *s) for s in ((3, 5), (2, 5), (2,))]
    y = gradflow.vmap(lambda x, w, b: linear_activation(x, w, b, "silu"))(*weights)
    assert_close(y.numpy(), np.stack([linear_activation(*(v[i] for v in weights), "silu").numpy() for i in range(4)]))


def test_hooks_are_called_between_a_layer_and_its_activation():
    model = nn.utils.fuse_activations(nn.Sequential(nn.Linear(3, 4), nn.ReLU()))
    x, seen = gradflow.randn(2, 3), []
    plain = model(x)
    handle = model[0].register_forward_hook(lambda module, args, y: seen.append(y.numpy().min()))
    with gradflow.no_grad():
        again = model(x)
    assert seen
    handle.remove()
    assert_close(again.numpy(), plain.detach().numpy())
