"""Drawn graphs: which boxes and arrows there are, what they say, and where they stand."""

from __future__ import annotations

import re

import pytest

import gradflow as gf
from gradflow import drawing


def graph(drawn):
    """{(label of the box an arrow leaves, label of the one it enters)} of a drawing's Graphviz text."""
    labels = {m[1]: m[2].replace(r"\n", " ") for m in re.finditer(r'(n\d+) \[label="(.*?)"', drawn.dot)}
    return {(labels[m[1]], labels[m[2]]) for m in re.finditer(r"(n\d+) -> (n\d+);", drawn.dot)}


def test_sum_times_z_with_all_values_and_gradients():
    # f = (x + y) z at (-2, 5, -4): the lecture's first graph
    x, y, z = (gf.tensor(v, requires_grad=True) for v in (-2.0, 5.0, -4.0))
    q = x + y
    f = q * z
    q.retain_grad()
    f.retain_grad()
    f.backward(retain_graph=True)
    drawn = gf.draw(f, names={"x": x, "y": y, "z": z, "q": q, "f": f}, values=True)
    assert graph(drawn) == {
        ("x = -2 grad -4", "add"), ("y = 5 grad -4", "add"), ("add", "q = 3 grad -4"), ("q = 3 grad -4", "mul"),
        ("z = -4 grad 3", "mul"), ("mul", "f = -12 grad 1"),
    }  # fmt: skip


def test_layers_and_ops_of_several_outputs():
    model = gf.nn.Linear(3, 2)
    top, _ = model(gf.ones(4, 3)).max(1)
    drawn = gf.draw(top.sum(), names=dict(model.named_parameters()))
    found = graph(drawn)
    assert {("weight 2 x 3", "linear 4 x 2"), ("bias 2", "linear 4 x 2")} <= found
    assert len([a for a in found if a[1].startswith("sum")]) == 1
    assert gf.draw(top.sum(), names=dict(model.named_parameters())).dot == drawn.dot


def test_no_two_boxes_in_one_place_and_arrows_go_right():
    x = gf.ones(3, requires_grad=True)
    y = x
    for _ in range(5):
        y = (y * x).tanh() + y
    vertices = gf.draw(y.sum()).vertices
    at = drawing.layout(vertices)
    assert len({(round(a, 3), round(b, 3)) for a, b in at}) == len(vertices) == 1 + 15 + 1
    assert all(at[j][0] < at[i][0] for i, v in enumerate(vertices) for j in v.before)


def test_boxes_of_a_picture_have_room():
    pytest.importorskip("matplotlib")
    w = {f"the weight {i}": gf.ones(size, requires_grad=True) for i, size in enumerate([(9, 9), (9,), ()])}
    y = (w["the weight 0"] @ w["the weight 1"]).tanh() * w["the weight 2"]
    figure = gf.draw(y.sum(), names={**w, "y": y}, values=True).figure()
    boxes = [t.get_bbox_patch().get_window_extent() for t in figure.axes[0].texts if t.get_text()]
    assert len(boxes) == 3 + 4 + 2
    assert not [1 for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]
    assert all(min(b.x0, b.y0) >= 0 and b.x1 <= figure.bbox.x1 and b.y1 <= figure.bbox.y1 for b in boxes)


def test_files(tmp_path):
    pytest.importorskip("matplotlib")
    x = gf.ones(3, requires_grad=True)
    drawn = gf.draw((x * x).sum())
    assert drawn.save(tmp_path / "g.dot").read_text() == drawn.dot
    assert drawn.save(tmp_path / "g.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in drawn._repr_svg_()
    with pytest.raises(ValueError, match=r"draw: wanted a name ending in \.dot"):
        drawn.save(tmp_path / "g.txt")


def test_what_cannot_be_drawn():
    with pytest.raises(TypeError, match="draw: wanted tensors, saw float"):
        gf.draw(1.0)
    with pytest.raises(RuntimeError, match="requires no gradient"):
        gf.draw(gf.ones(3))
