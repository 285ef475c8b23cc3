"""The table of a model's layers, against counts by hand and the literature."""

from __future__ import annotations

import pytest

import gradflow as gf
from gradflow import nn


def test_each_layer_by_hand():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5, bias=False))
    model[3].weight.requires_grad_(False)
    s = nn.summary(model, (2, 3, 8, 8))
    assert [(r.name, r.kind, r.shape, r.activations, r.parameters, r.trained) for r in s.rows] == [
        ("", "Sequential", (2, 5), 10, 0, 0), ("0", "Conv2d", (2, 4, 6, 6), 288, 3 * 4 * 9 + 4, 112),
        ("1", "ReLU", (2, 4, 6, 6), 288, 0, 0), ("2", "Flatten", (2, 144), 288, 0, 0), ("3", "Linear", (2, 5), 10, 720, 0),
    ]  # fmt: skip
    assert (s.parameters, s.trained, s.activations, s.size) == (832, 112, 874, 832 * 4)
    text = str(s)
    assert "parameters: 832 (720 of them fixed)" in text
    assert "0 (Conv2d)" in text


def test_vgg16_has_the_parameters_of_its_paper():
    from bench.models import vgg16

    model = vgg16(gf, 224)
    s = nn.summary(model, (1, 3, 224, 224))
    # 138 million, and the activations of each stage (Simonyan and Zisserman 2014, table 1 and configuration D)
    assert s.parameters == 138_357_544
    convolutions = [(r.shape[1:], r.parameters) for r in s.rows if r.kind == "Conv2d"]
    assert convolutions[0] == ((64, 224, 224), 3 * 3 * 3 * 64 + 64)
    assert convolutions[-1] == ((512, 14, 14), 3 * 3 * 512 * 512 + 512)
    assert [r.parameters for r in s.rows if r.kind == "Linear"] == [25088 * 4096 + 4096, 4096 * 4096 + 4096, 4096 * 1000 + 1000]
    pooled = [64 * 112**2, 128 * 56**2, 256 * 28**2, 512 * 14**2, 512 * 7**2]
    assert [r.activations for r in s.rows if r.kind == "MaxPool2d"] == pooled


def test_shared_layers_are_counted_once_and_modes_are_kept():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.inner, self.drop = nn.Embedding(5, 4), nn.Linear(4, 4), nn.Dropout(0.5)
            self.also = self.inner

        def forward(self, ids):
            return {"y": self.drop(self.also(self.inner(self.embed(ids))))}

    model = Twice()
    model.drop.eval()
    before = [m.training for m in model.modules()]
    s = nn.summary(model, gf.zeros(3, 2, dtype=gf.int64))
    assert [m.training for m in model.modules()] == before
    row = next(r for r in s.rows if r.name == "inner")
    assert (row.times, row.shape, row.activations) == (2, (3, 2, 4), 48)
    assert s.parameters == 20 + 20
    assert s.activations == 24 + 48 + 24
    assert not any(m._forward_hooks for m in model.modules())
    with pytest.raises(TypeError, match="summary: wanted tensors or shapes"):
        nn.summary(model, "text")
