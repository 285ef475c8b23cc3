"""Files: what is saved comes back, a damaged file changes nothing, and a resumed training has the same bits."""

from __future__ import annotations

import json
import math
import os
import struct
import sys

import numpy as np
import pytest

import gradflow as gf
from gradflow import backend, data, io, nn, optim
from gradflow.backend import Generator
from gradflow.op import wrap

pytest.importorskip("safetensors")


def same(a, b):
    assert type(a) is type(b), (type(a), type(b))
    if isinstance(b, gf.Tensor):
        same(a.array, b.array)
    elif isinstance(b, np.ndarray):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_array_equal(a.view(np.uint8) if a.ndim else a, b.view(np.uint8) if b.ndim else b)
    elif isinstance(b, dict):
        assert list(a) == list(b)
        for k in b:
            same(a[k], b[k])
    elif isinstance(b, (list, tuple)):
        assert len(a) == len(b)
        for u, v in zip(a, b, strict=True):
            same(u, v)
    else:
        assert a == b or (a != a and b != b)


def tensors():
    rng = np.random.default_rng(0)
    kinds = [f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)]
    kinds += ["float64", "float32", "float16", "bool"]
    out = {k: wrap((rng.standard_normal((2, 3)) * 3).astype(k)) for k in kinds}
    out |= {
        "bfloat16": wrap(rng.standard_normal(5).astype(backend.bfloat16())),
        "layer.weight": wrap(np.asarray(3.5)),
        "empty": wrap(np.zeros((0, 4), np.float32)),
        "gaps": wrap(np.arange(24.0).reshape(4, 6).T[::2]),
        "nan": wrap(np.array([np.nan, -np.inf, -0.0])),
    }
    return out


def test_a_state_dict_is_a_plain_safetensors_file(tmp_path):
    state = tensors()
    io.save(state, tmp_path / "x.safetensors")
    back = io.load(tmp_path / "x.safetensors")
    assert back.keys() == state.keys()
    for k, t in state.items():
        same(back[k].array, np.ascontiguousarray(t.array) if t.ndim else t.array)
        assert back[k].array.flags.writeable
    # The format, by hand: eight bytes of length, a JSON header, the bytes of the tensors.
    raw = (tmp_path / "x.safetensors").read_bytes()
    (n,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + n])
    assert "__metadata__" not in header
    entry = header["float32"]
    assert entry["dtype"] == "F32" and entry["shape"] == [2, 3]
    start, end = entry["data_offsets"]
    values = np.frombuffer(raw[8 + n + start : 8 + n + end], "<f4").reshape(2, 3)
    np.testing.assert_array_equal(values, state["float32"].array)


def test_files_of_other_programs(tmp_path):
    import safetensors.numpy

    safetensors.numpy.save_file({"a.b": np.arange(3)}, tmp_path / "x", {"format": "pt"})
    back = io.load(tmp_path / "x")
    assert list(back) == ["a.b"] and back["a.b"].array.tolist() == [0, 1, 2]
    io.save({"w": wrap(np.ones(2))}, tmp_path / "y")
    assert safetensors.numpy.load_file(tmp_path / "y")["w"].tolist() == [1, 1]


def test_nested_values(tmp_path):
    value = {
        "state": {0: {"m": wrap(np.ones(2)), "step": 3}, 1: {"m": wrap(np.zeros((1, 2)))}},
        "groups": [{"lr": 0.1, "betas": (0.9, 0.999), "name": None}, []],
        "array": np.arange(4),
        "z": wrap(np.array([[1 + 2j, -3j]])),
        "w": wrap(np.array(1 - 1j, np.complex64)),
        "numbers": [2**70, -0.0, math.inf, True, "text $ ü", np.float32(0.1), {}, ()],
        "odd": {"$tensor": "not a tensor", "a.b": 1, None: 2, 1.5: 3},
        "same.name": wrap(np.ones(1)),
    }
    io.save(value, tmp_path / "x")
    value["numbers"][5] = float(np.float32(0.1))
    back = io.load(tmp_path / "x")
    same(back, value)
    assert math.copysign(1, back["numbers"][1]) == -1
    for one in (wrap(np.ones(2)), [wrap(np.ones(2)), 1], {}, 5):
        io.save(one, tmp_path / "y")
        same(io.load(tmp_path / "y"), one)


def test_what_cannot_be_saved_is_named(tmp_path):
    for wrong, text in [
        ({"a": [object()]}, "object at 'a.0'"),
        (nn.Linear(2, 2), "Linear"),
        ({"a": np.array(["s"])}, "at 'a'"),
        ({"a": {(1, 2): 3}}, "tuple"),
    ]:
        with pytest.raises(TypeError, match=text):
            io.save(wrong, tmp_path / "x")
    with pytest.raises(ValueError, match="two that are called"):
        io.save({"a.b": wrap(np.ones(1)), "a": {"b": wrap(np.ones(1))}}, tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_no_length_of_the_header_is_taken_for_a_pickle(tmp_path):
    """A pickle begins with the bytes 0x80 and 2 to 5, and so does a safetensors file whose header has 640 bytes."""
    seen = set()
    for n in range(1, 700, 8):
        io.save({"w" * n: wrap(np.ones(2))}, tmp_path / "x")
        seen.add((tmp_path / "x").read_bytes()[:2])
        assert io.load(tmp_path / "x")["w" * n].array.tolist() == [1, 1]
    assert b"\x80\x02" in seen


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "x"
    io.save({"state": {0: wrap(np.ones(100))}}, path)
    whole = path.read_bytes()
    for content in (whole[:-1], whole[:100], whole[:7], b"", b"PK\x03\x04 a zip file", whole + b"x", b"\xff" * 64):
        path.write_bytes(content)
        with pytest.raises(RuntimeError, match=r"wanted (a whole )?safetensors"):
            io.load(path)
    path.write_bytes(whole.replace(b"F64", b"F8_E4M3"[:3]))
    with pytest.raises(RuntimeError, match="whole safetensors file"):
        io.load(path)
    with pytest.raises(FileNotFoundError):
        io.load(tmp_path / "none")


def test_a_file_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "x"
    io.save({"a": wrap(np.ones(3))}, path)
    before = path.read_bytes()

    def fail(*args):
        raise OSError("no space left")

    for name in ("fsync", "replace"):
        with monkeypatch.context() as m:
            m.setattr(os, name, fail)
            with pytest.raises(OSError, match="no space"):
                io.save({"a": wrap(np.zeros(3))}, path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["x"]


def test_without_the_package_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    for call in (lambda: io.save({}, tmp_path / "x"), lambda: io.load(tmp_path / "x")):
        with pytest.raises(ImportError, match=r"gradflow\[io\]"):
            call()


@pytest.mark.cuda
def test_tensors_of_the_card(tmp_path, card):
    io.save({"a": wrap(card.asarray(np.arange(3))), "b": [wrap(np.ones(1))]}, tmp_path / "x")
    here, there = io.load(tmp_path / "x"), io.load(tmp_path / "x", map_location="cuda")
    assert not here["a"].is_cuda and here["a"].array.tolist() == [0, 1, 2]
    assert there["a"].is_cuda and there["b"][0].is_cuda
    assert card.asnumpy(there["a"].array).tolist() == [0, 1, 2]


# --- checkpoints ----------------------------------------------------------------------------------------


class Training:
    """A small training with chance everywhere: initial values, order, noise."""

    def __init__(self, seed, kind="Adam"):
        gf.manual_seed(seed)
        rng = np.random.default_rng(0)
        x = rng.standard_normal((30, 4)).astype(np.float32)
        self.model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
        self.optimizer = getattr(optim, kind)(self.model.parameters(), lr=0.05)
        warm_up = optim.lr_scheduler.LinearLR(self.optimizer, 0.1, 1.0, 2)
        decay = optim.lr_scheduler.CosineAnnealingLR(self.optimizer, 9)
        self.scheduler = optim.lr_scheduler.SequentialLR(self.optimizer, [warm_up, decay], [2])
        self.noise = Generator(seed + 1)
        samples = data.TensorDataset(wrap(x), wrap(x.sum(1, keepdims=True) ** 2))
        self.loader = data.DataLoader(samples, 4, shuffle=True)
        self.losses, self.parts = [], {k: v for k, v in vars(self).items() if k not in ("losses", "parts")}

    def epoch(self, stop_after=None):
        for i, (x, y) in enumerate(self.loader):
            jitter = wrap(self.noise.words(x.array.size).reshape(x.shape).astype(np.float32) * np.float32(2.0**-66))
            loss = ((self.model(x + jitter) - y) ** 2).mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.losses.append(loss.item())
            if stop_after == i:
                return
        self.scheduler.step()


@pytest.mark.parametrize("kind", ["SGD", "Adam", "RMSprop", "Adagrad"])
@pytest.mark.parametrize("stop_after", [None, 2])
def test_a_resumed_training_has_the_same_bits(kind, stop_after, tmp_path):
    path = tmp_path / "run.safetensors"
    straight = Training(1, kind)
    for _ in range(4):
        straight.epoch()

    first = Training(1, kind)
    first.epoch()
    first.epoch(stop_after)
    io.save_checkpoint(path, epoch=2, best=0.5, **first.parts)
    again = Training(77, kind)
    found = io.load_checkpoint(path, **again.parts)
    assert found == {"epoch": 2, "best": 0.5}
    while len(again.losses) + len(first.losses) < len(straight.losses):
        again.epoch()
    assert first.losses + again.losses == straight.losses
    for a, b in zip(again.model.parameters(), straight.model.parameters(), strict=True):
        np.testing.assert_array_equal(a.array, b.array)
    assert again.optimizer.param_groups[0]["lr"] == straight.optimizer.param_groups[0]["lr"]


def test_a_checkpoint_that_does_not_fit_changes_nothing(tmp_path):
    path = tmp_path / "x"
    t = Training(1)
    t.epoch()
    other = nn.Linear(3, 1)
    io.save_checkpoint(path, **{**t.parts, "other": other})
    mine = Training(2)
    mine.epoch()

    def everything():
        return {k: v.get_state() if isinstance(v, Generator) else v.state_dict() for k, v in mine.parts.items()} | {
            "default": backend.default_generator.get_state()
        }

    wrong = [
        ({**mine.parts, "other": nn.Linear(5, 1)}, RuntimeError),  # a model that does not fit, after one that does
        ({**mine.parts, "optimizer": optim.Adam([wrap(np.ones(2)).requires_grad_()])}, ValueError),
        ({**mine.parts, "more": other}, KeyError),
        ({**mine.parts, "scheduler": 3}, TypeError),
    ]
    io.save(everything(), tmp_path / "before")
    for parts, error in wrong:
        with pytest.raises(error):
            io.load_checkpoint(path, **parts)
        io.save(everything(), tmp_path / "after")
        same(io.load(tmp_path / "after"), io.load(tmp_path / "before"))
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(RuntimeError, match="whole"):
        io.load_checkpoint(path, **mine.parts)
    io.save({"model": 1}, path)
    with pytest.raises(RuntimeError, match="save_checkpoint wrote"):
        io.load_checkpoint(path, **mine.parts)
