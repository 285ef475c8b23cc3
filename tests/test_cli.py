"""The command line: what it prints, what it leaves behind, and its exit status."""

from __future__ import annotations

import contextlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gradflow as gf
from gradflow import cli
from gradflow.examples import EXAMPLES

ROOT = Path(gf.__file__).parents[1]


def gradflow(*args):
    """Run a command line in this process: its exit status."""
    try:
        return cli.main(list(map(str, args)))
    except SystemExit as e:
        return e.code


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The result folder of a short training, and what was printed."""
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    folder, out, errors = tmp_path_factory.mktemp("lenet") / "out", io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        status = gradflow("train", "lenet", "--device", "cpu", "--epochs", 2, "--out", folder)
    assert status == 0 and errors.getvalue() == ""
    return folder, out.getvalue()


@pytest.fixture
def undrawn(monkeypatch):
    """No pictures: they take longer than the training."""
    pytest.importorskip("sklearn")
    from gradflow.examples import lenet

    monkeypatch.setattr(lenet, "curves", lambda *args: None)
    monkeypatch.setattr(lenet, "predictions", lambda *args: None)
    monkeypatch.setattr(lenet.Page, "picture", lambda *args: None)


def test_train_lenet_says_what_it_does_and_leaves_files(trained):
    folder, out = trained
    lines = out.splitlines()
    assert lines[0] == f"device: cpu, NumPy {np.__version__}"
    assert lines[1].startswith("epoch 1/2  loss ") and lines[2].startswith("epoch 2/2  loss ")
    assert lines[3] == f"model: {folder / 'model.safetensors'}"
    assert lines[4].startswith("test accuracy on 359 images never trained on: ")
    assert lines[5:] == [f"picture: {folder / file}" for file in ("curve.png", "predictions.png")]
    page = json.loads((folder / "page.json").read_text())
    assert page["results"][0]["met"] and page["results"][0]["text"] in lines[4]
    assert (page["name"], page["quick"]) == ("lenet", False)
    assert [p["file"] for p in page["pictures"]] == ["curve.png", "predictions.png"]
    for file in ("curve.png", "predictions.png"):
        head = (folder / file).read_bytes()[:24]
        assert head[:8] == b"\x89PNG\r\n\x1a\n"
        assert all(int.from_bytes(head[at : at + 4]) >= 400 for at in (16, 20))  # width and height
    state = gf.load(folder / "model.safetensors")
    assert state["features.0.weight"].shape == (16, 1, 3, 3) and len(state) == 10


def test_the_saved_model_reads_as_the_result_line_says(trained):
    from gradflow.examples.lenet import LeNet

    folder, out = trained
    model = LeNet().eval()
    model.load_state_dict(gf.load(folder / "model.safetensors"))
    x, y = gf.data.digits()[1].tensors
    with gf.no_grad():
        right = int((model(x).array.argmax(1) == y.array).sum())
    assert f"never trained on: {right / 359:.1%}".replace("%", " %") in out


def test_resume_goes_on_and_ends_where_an_unbroken_run_ends(undrawn, monkeypatch, tmp_path, capsys):
    from gradflow import train

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert gradflow("train", "lenet", "--device", "cpu", "--epochs", 2, "--out", whole) == 0

    def stop(epoch, values):
        raise KeyboardInterrupt

    with monkeypatch.context() as m:
        fit = train.fit
        m.setattr(train, "fit", lambda *args, **kwargs: fit(*args, on_epoch=stop, **kwargs))
        assert gradflow("train", "lenet", "--device", "cpu", "--epochs", 2, "--out", broken) == 130
    errors = capsys.readouterr().err
    assert "interrupted in epoch 2" in errors and "holds epoch 1 whole" in errors
    gf.manual_seed(123)
    assert gradflow("train", "lenet", "--device", "cpu", "--epochs", 2, "--out", broken, "--resume") == 0
    assert "going on after epoch 1" in capsys.readouterr().out
    assert (whole / "model.safetensors").read_bytes() == (broken / "model.safetensors").read_bytes()
    (broken / "checkpoint.safetensors").write_bytes(b"nothing")
    assert gradflow("train", "lenet", "--out", broken, "--resume") == 2
    assert "is not a checkpoint of this training" in capsys.readouterr().err


def test_the_seed_decides(undrawn, tmp_path):
    def model(name, *options):
        out = tmp_path / name
        short = "--device", "cpu", "--epochs", 1, "--batch-size", 256, "--out", out
        assert gradflow("train", "lenet", *short, *options) == 0
        return (out / "model.safetensors").read_bytes()

    assert model("a", "--seed", 1) == model("b", "--seed", 1) != model("c", "--seed", 2)
    assert model("d", "--optimizer", "sgd", "--seed", 1) != model("a", "--seed", 1)


def test_images_of_a_folder_take_the_place_of_the_digits(undrawn, tmp_path, capsys):
    rng, folder = np.random.default_rng(0), tmp_path / "raw"
    folder.mkdir()
    for part, n in (("train", 40), ("t10k", 7)):
        for name, shape, high in (("images-idx3", (n, 12, 12), 256), ("labels-idx1", (n,), 5)):
            numbers = rng.integers(0, high, shape).astype(np.uint8)
            content = bytes([0, 0, 8, len(shape)]) + b"".join(size.to_bytes(4) for size in shape) + numbers.tobytes()
            (folder / f"{part}-{name}-ubyte").write_bytes(content)
    out = tmp_path / "out"
    assert gradflow("run", "lenet", "--device", "cpu", "--quick", "--data", tmp_path, "--out", out) == 0
    printed = capsys.readouterr().out
    assert "MNIST: 40 images\nMNIST: 7 images\n" in printed
    assert "test accuracy on 7 images never trained on" in printed and "wanted" not in printed  # that is for the digits
    state = gf.load(out / "model.safetensors")
    assert state["classifier.2.weight"].shape == (120, 32 * 9) and state["classifier.7.weight"].shape == (5, 84)
    assert gradflow("run", "lenet", "--data", tmp_path / "nowhere", "--out", out) == 1
    assert "wanted the files of one of MNIST" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["train"], "NAME"),
        (["train", "nonet"], "wanted an example, saw 'nonet': perhaps lenet; `gradflow list`"),
        (["run", "xyz"], "wanted an example, saw 'xyz': `gradflow list`"),
        (["lenet"], "`gradflow run lenet` runs it"),
        (["run", "lenet", "--out", __file__], "wanted a folder that can be written, saw "),
        (["run", "graph", "--out", f"{__file__}/deeper"], "test_cli.py, which is none"),
        (["train", "nothing.toml", "--device", "tpu"], "wanted 'cpu', 'cuda' or 'cuda:N'"),
        ([], "COMMAND"),
        (["fly"], "invalid choice"),
        (["train", "lenet", "--epochs", "0"], "wanted at least 1, saw 0"),
        (["train", "lenet", "--batch-size", "many"], "invalid int value"),
        (["train", "lenet", "--lr", "-1"], "wanted a number above 0, saw -1"),
        (["train", "lenet", "--lr", "nan"], "wanted a number above 0, saw nan"),
        (["train", "lenet", "--device", "tpu"], "wanted 'cpu', 'cuda' or 'cuda:N', saw 'tpu'"),
        (["info", "--loud"], "unrecognized arguments"),
    ],
)
def test_bad_arguments_end_with_status_2(args, message, capsys):
    assert gradflow(*args) == 2
    out, errors = capsys.readouterr()
    assert message in errors and out == ""


def test_a_card_that_is_not_there(capsys):
    if gf.backend.card() is not None:
        pytest.skip("there is a card")
    assert gradflow("train", "lenet", "--device", "cuda") == 2
    assert "no CUDA card was found; install CuPy" in capsys.readouterr().err


def test_a_missing_package_is_named(capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert gradflow("train", "lenet", "--out", tmp_path) == 1
    assert "pip install 'gradflow[examples]'" in capsys.readouterr().err


def test_list_and_info(capsys):
    assert gradflow("list") == 0
    lines = [line.split(None, 1) for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert dict(lines) == EXAMPLES
    assert gradflow("info") == 0
    rows = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert rows["gradflow"] == gf.__version__ and rows["NumPy"] == np.__version__
    assert int(rows["ops"]) == len(gf.op.table) > 100
    assert "conv" in rows["kernels"] and rows["sources"] == str(ROOT / "kernels")
    if gf.backend.card() is None:
        assert "none, everything runs on NumPy; CuPy " in rows["card"]
    assert gradflow("--version") == 0
    assert capsys.readouterr().out == f"gradflow {gf.__version__}\n"


@pytest.mark.cuda
def test_info_and_devices_with_a_card(card, capsys, monkeypatch, tmp_path):
    assert cli.choose_device("auto").type == "cuda"
    assert cli.choose_device("cuda:0").index == 0
    assert cli.choose_device("cpu").type == "cpu"
    with pytest.raises(cli.UsageError, match="cards"):
        cli.choose_device("cuda:99")
    gf.ones(3, 4, device="cuda").softmax(1)  # compiles a kernel
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path))
    (tmp_path / "kept.cubin").write_bytes(bytes(3 << 20))
    monkeypatch.setenv("GRADFLOW_CACHE", str(tmp_path / "none"))
    assert gradflow("info") == 0
    rows = dict(line.split(None, 1) for line in capsys.readouterr().out.replace("card 0", "card-0").splitlines())
    properties = card.cuda.runtime.getDeviceProperties(0)
    for fact in (properties["name"].decode(), f"sm_{properties['major']}{properties['minor']}", "GiB free of"):
        assert fact in rows["card-0"]
    assert f"{properties['multiProcessorCount']} multiprocessors" in rows["card-0"]
    major, minor = divmod(card.cuda.runtime.runtimeGetVersion(), 1000)
    assert rows["CUDA"].endswith(f"runtime {major}.{minor // 10}")
    found = re.fullmatch(rf"3\.0 MiB in 1 files of CuPy's cache {tmp_path}; (\d+) loaded in this process", rows["compiled"])
    assert int(found[1]) >= 1
    assert rows["variants"].endswith(f"0 in {tmp_path / 'none' / 'tuned.json'}")


def test_the_module_runs_as_a_program(tmp_path):
    found = subprocess.run(
        [sys.executable, "-m", "gradflow.cli", "list"], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert found.returncode == 0 and "lenet" in found.stdout and found.stderr == ""
