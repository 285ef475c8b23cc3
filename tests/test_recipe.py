"""Training by a file, and the logs of a training."""

from __future__ import annotations

import csv

import pytest

import gradflow as gf
from gradflow import cli, logs, recipe

NET = """
import gradflow as gf

def net(width=4):
    return gf.nn.Sequential(gf.nn.Flatten(), gf.nn.Linear(64, width), gf.nn.Tanh(), gf.nn.Linear(width, 10))
"""
RECIPE = """
model = "net.py:net"
[model_arguments]
width = 12
[data]
name = "digits"
batch_size = 64
[optimizer]
name = "SGD"
lr = 0.1
momentum = 0.9
[schedule]
name = "StepLR"
step_size = 1
gamma = 0.5
[train]
epochs = 2
seed = 3
clip_norm = 5.0
out = "OUT"
csv = "OUT/log.csv"
"""


@pytest.fixture
def written(tmp_path):
    pytest.importorskip("sklearn")
    (tmp_path / "net.py").write_text(NET)

    def write(text=RECIPE):
        path = tmp_path / "recipe.toml"
        path.write_text(text.replace("OUT", str(tmp_path / "out")))
        return path

    return write


def test_a_recipe_trains_as_the_program_it_stands_for(written, tmp_path, capsys):
    history = recipe.train(written())
    gf.manual_seed(3)
    model = gf.nn.Sequential(gf.nn.Flatten(), gf.nn.Linear(64, 12), gf.nn.Tanh(), gf.nn.Linear(12, 10))
    optimizer = gf.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    training, held_out = gf.data.digits()
    wanted = gf.train.fit(
        model, gf.nn.CrossEntropyLoss(), optimizer, gf.data.DataLoader(training, 64, shuffle=True),
        gf.data.DataLoader(held_out, 256), 2, scheduler=gf.optim.lr_scheduler.StepLR(optimizer, 1, 0.5), clip_norm=5.0,
        metrics=gf.train.accuracy, report=None,
    )  # fmt: skip
    for name in ("loss", "valid_loss", "valid_accuracy", "lr"):
        assert history[name] == wanted[name], name
    saved = gf.load(tmp_path / "out" / "model.safetensors")
    assert saved["1.weight"].tolist() == model[1].weight.tolist()
    with (tmp_path / "out" / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(r["loss"]) for r in rows] == wanted["loss"]


def test_from_the_command_line(written, tmp_path, capsys):
    path = written(RECIPE.replace("epochs = 2", "epochs = 1"))
    assert cli.main(["train", str(path), "--device", "cpu"]) == 0
    assert f"model: {tmp_path / 'out' / 'model.safetensors'}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "SGD"', 'name = "Sgd"', "[optimizer]: wanted a name of gradflow.optim, saw 'Sgd'"),
        ("momentum = 0.9", "momentun = 0.9", "[optimizer]: got an unexpected keyword argument 'momentun'"),
        ("net.py:net", "net.py:ned", "model: module 'net' has no attribute 'ned'"),
        ("net.py:net", "nut.py:net", "no such file"),
        ("net.py:net", "net", "wanted 'module:Class'"),
        ("[schedule]", "[schedul]", "saw schedul"),
        ('name = "digits"', 'name = "fingers"', "[data]: wanted a name of gradflow.data, saw 'fingers'"),
        ("clip_norm = 5.0", "clipnorm = 5.0", "[train]: got an unexpected keyword argument 'clipnorm'"),
        ("width = 12", "breadth = 12", "[model_arguments]: got an unexpected keyword argument 'breadth'"),
        ("[data]", "[data", "recipe.toml: "),
    ],
)
def test_a_recipe_that_makes_no_sense_is_told_in_a_sentence(written, old, new, message, capsys, tmp_path):
    assert cli.main(["train", str(written(RECIPE.replace(old, new))), "--device", "cpu"]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_csv_goes_on_and_refuses_another_file(tmp_path):
    path = tmp_path / "deep" / "log.csv"
    log = logs.CSVLog(path)
    log(1, {"loss": 0.5})
    log(2, {"loss": 0.25})
    logs.CSVLog(path)(2, {"loss": 0.125})  # resumed: the epoch comes again
    assert path.read_text().split() == ["epoch,loss", "1,0.5", "2,0.125"]
    with pytest.raises(ValueError, match="CSVLog: wanted a file of epoch, accuracy"):
        log(3, {"accuracy": 1.0})
    assert path.read_text().split() == ["epoch,loss", "1,0.5", "2,0.125"]


def test_tensorboard_gets_the_numbers(tmp_path):
    pytest.importorskip("tensorboardX")
    log = logs.TensorBoardLog(tmp_path / "board")
    log(1, {"loss": 0.5})
    log.close()
    (file,) = (tmp_path / "board").iterdir()
    data = file.read_bytes()
    assert b"loss" in data
    assert b"\x00\x00\x00\x3f" in data  # 0.5 as float32
