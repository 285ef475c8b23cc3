"""Training: what fit and evaluate do with batches, schedules, checkpoints, Ctrl-C, and that resuming changes no bit."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from tolerance import assert_close

import gradflow as gf
from gradflow import data, nn, optim, train
from gradflow.nn import functional as F

SAME = ("loss", "accuracy", "valid_loss", "valid_accuracy", "lr")


def blobs(n=96, seed=0):
    """Points around three centres, and which."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    x = rng.standard_normal((n, 2)) * 0.4 + np.array([[0, 2], [2, -1], [-2, -1]])[y]
    return data.TensorDataset(gf.tensor(x.astype("f")), gf.tensor(y))


def parts(batch_size=16):
    """A model with dropout, an optimizer with momentum, a schedule and loaders: everything that has a state."""
    model = nn.Sequential(nn.Linear(2, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))
    optimizer = optim.Adam(model.parameters(), 0.02)
    scheduler = optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
    shuffled = data.DataLoader(blobs(), batch_size, shuffle=True, generator=gf.Generator(5))
    loaders = shuffled, data.DataLoader(blobs(30, 1), 8)
    return model, optimizer, scheduler, loaders


def run(epochs, **kwargs):
    model, optimizer, scheduler, (loader, valid) = parts()
    options = {"scheduler": scheduler, "metrics": train.accuracy, "report": None} | kwargs
    return model, train.fit(model, F.cross_entropy, optimizer, loader, valid, epochs, **options)


def test_fit_learns_and_tells_each_epoch():
    lines = []
    model, history = run(8, report=lines.append)
    assert history["valid_accuracy"][-1] > 0.95 and history["loss"][-1] < history["loss"][0]
    assert set(history) == {"loss", "accuracy", "valid_loss", "valid_accuracy", "lr", "seconds"}
    assert all(len(v) == 8 for v in history.values())
    assert history["lr"] == [0.02, 0.02, 0.01, 0.01, 0.005, 0.005, 0.0025, 0.0025]
    assert len(lines) == 8 and lines[7].startswith(f"epoch 8/8  loss {history['loss'][7]:.4f}  accuracy ")
    assert model.training


def test_fit_does_what_the_loop_written_out_does():
    def ready():
        gf.manual_seed(7)
        return nn.Linear(2, 3), data.DataLoader(blobs(), 20, shuffle=True)

    model, loader = ready()
    optimizer = optim.SGD(model.parameters(), 0.1)
    total = 0.0
    for x, y in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        total += loss.item() * len(y)
    other, loader = ready()
    history = train.fit(
        other, F.cross_entropy, optim.SGD(other.parameters(), 0.1), loader, epochs=1, clip_norm=0.5, report=None
    )
    assert (model.weight.array == other.weight.array).all()
    assert_close(history["loss"][0], total / 96, "float32")  # a last batch of 16 counts for 16


def test_evaluate_weights_batches_by_their_size_and_restores_modes():
    model = nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5), nn.BatchNorm1d(3))
    model[2].eval()
    found = train.evaluate(model, data.DataLoader(blobs(10), 4), F.cross_entropy, {"acc": train.accuracy})
    assert model.training and model[1].training and not model[2].training
    x, y = blobs(10).tensors
    model.eval()
    scores = model(x)
    assert_close(found["loss"], F.cross_entropy(scores, y).item(), "float32", scale=10)
    assert found["acc"] == (scores.array.argmax(1) == y.array).mean()
    assert np.isnan(train.evaluate(model, [], F.cross_entropy)["loss"])


def test_metrics_by_function_list_or_name():
    model, loader = nn.Linear(2, 3), data.DataLoader(blobs(10), 5)

    def certainty(output, target):
        return F.softmax(output, 1).array.max()

    assert list(train.evaluate(model, loader, metrics=[train.accuracy, certainty])) == ["accuracy", "certainty"]
    assert list(train.evaluate(model, loader, metrics={"how": certainty})) == ["how"]


def test_several_inputs_and_arrays():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(2, 1), nn.Linear(3, 1)

        def forward(self, x, z):
            return self.a(x) + self.b(z)

    rng = np.random.default_rng(0)
    batches = [tuple(rng.standard_normal((4, n)).astype("f") for n in (2, 3, 1)) for _ in range(3)]
    model = Sum()
    history = train.fit(model, F.mse_loss, optim.SGD(model.parameters(), 0.01), batches, epochs=2, report=None)
    assert history["loss"][1] < history["loss"][0]


@pytest.mark.parametrize("batch", [gf.ones(3, 2), [gf.ones(3, 2)]])
def test_batches_without_a_target_are_refused(batch):
    model = nn.Linear(2, 1)
    with pytest.raises(ValueError, match=r"fit: wanted batches \(input, ..., target\)"):
        train.fit(model, F.mse_loss, optim.SGD(model.parameters(), 0.1), [batch], report=None)
    with pytest.raises(ValueError, match="at least one batch"):
        train.fit(model, F.mse_loss, optim.SGD(model.parameters(), 0.1), [], report=None)


def test_a_schedule_that_wants_the_loss_gets_it():
    model = nn.Linear(2, 3)
    optimizer = optim.SGD(model.parameters(), 1e-5)  # next to nothing improves
    scheduler = optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=0)
    loader = data.DataLoader(blobs(), 96)
    history = train.fit(model, F.cross_entropy, optimizer, loader, loader, 4, scheduler=scheduler, report=None)
    assert history["lr"][0] == history["lr"][1] == 1e-5 and history["lr"][-1] < 2e-6


def test_on_epoch_sees_the_values_and_may_stop():
    seen = []

    def listen(epoch, values):
        seen.append((epoch, sorted(values)))
        return epoch == 2

    _, history = run(5, on_epoch=[listen, lambda epoch, values: None])
    assert len(history["loss"]) == 2
    assert seen[1] == (2, ["accuracy", "loss", "lr", "seconds", "valid_accuracy", "valid_loss"])


def test_nothing_is_read_from_the_device_within_an_epoch(monkeypatch):
    model, loader = nn.Linear(2, 3), data.DataLoader(blobs(), 16)
    reads = []
    for name in ("item", "__float__", "numpy", "tolist", "__bool__"):
        monkeypatch.setattr(gf.Tensor, name, lambda self, *a, name=name: reads.append(name))
    batches = list(loader)
    train.fit(model, F.cross_entropy, optim.SGD(model.parameters(), 0.1), batches, metrics=train.accuracy, report=None)
    assert reads == []


# --- checkpoints -----------------------------------------------------------------------------------------------


def test_resuming_changes_no_bit(tmp_path):
    path = tmp_path / "deep" / "run.safetensors"
    gf.manual_seed(1)
    model, history = run(5)
    gf.manual_seed(1)
    run(2, checkpoint=path)
    gf.manual_seed(99)  # another process, another stream
    lines = []
    other, resumed = run(5, checkpoint=path, resume=True, report=lines.append)
    assert lines[0] == f"{path}: going on after epoch 2" and len(lines) == 4
    for (n, a), (_, b) in zip(model.state_dict().items(), other.state_dict().items(), strict=True):
        assert (a.array == b.array).all(), n
    assert all(history[name] == resumed[name] for name in SAME)
    _, again = run(5, checkpoint=path, resume=True)
    assert again == resumed  # nothing was left to do


def test_resuming_without_a_checkpoint_starts(tmp_path):
    lines = []
    _, history = run(1, checkpoint=tmp_path / "run.safetensors", resume=True, report=lines.append)
    assert len(history["loss"]) == 1 and lines[0].endswith("run.safetensors: not there yet, from the start")


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    path = tmp_path / "run.safetensors"
    run(1, checkpoint=path)
    model = nn.Linear(2, 3)
    before = model.weight.array.copy()
    with pytest.raises(train.ResumeError, match="is not a checkpoint of this training"):
        train.fit(
            model, F.cross_entropy, optim.Adam(model.parameters()), data.DataLoader(blobs(), 8), epochs=2,
            checkpoint=path, resume=True, report=None,
        )  # fmt: skip
    assert (model.weight.array == before).all()
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(train.ResumeError):
        run(2, checkpoint=path, resume=True)


def test_interruption_leaves_the_last_checkpoint_whole(tmp_path):
    path = tmp_path / "run.safetensors"

    def interrupt(epoch, values):
        if epoch == 3:
            raise KeyboardInterrupt

    gf.manual_seed(1)
    with pytest.raises(train.Interrupted, match=r"interrupted in epoch 4: .*run.safetensors holds epoch 3 whole"):
        run(5, checkpoint=path, on_epoch=interrupt)
    _, resumed = run(5, checkpoint=path, resume=True)
    gf.manual_seed(1)
    _, straight = run(5)
    assert all(straight[name] == resumed[name] for name in SAME)
    with pytest.raises(train.Interrupted, match="interrupted in epoch 4: no checkpoint was written"):
        run(5, on_epoch=interrupt)


def test_a_failure_while_saving_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "run.safetensors"
    run(1, checkpoint=path)
    whole = path.read_bytes()

    def full(*args):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="no space"):
        run(2, checkpoint=path)
    assert path.read_bytes() == whole and [p.name for p in tmp_path.iterdir()] == ["run.safetensors"]


PROGRAM = """
    import gradflow as gf
    from gradflow import data, nn, optim, train
    x = gf.randn(64, 4)
    model = nn.Linear(4, 2)
    loader = data.DataLoader(data.TensorDataset(x, (x[:, 0] > 0).long()), 2)
    train.fit(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), 0.1), loader, epochs=100000,
              checkpoint="run.safetensors", report=lambda line: print(line, flush=True))
"""


def test_ctrl_c_in_a_program_of_its_own(tmp_path):
    program = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(next(p for p in map(str, gf.__path__))).removesuffix("/gradflow")},
    )
    for _ in range(3):
        assert program.stdout.readline().startswith("epoch")
    program.send_signal(signal.SIGINT)
    _, errors = program.communicate(timeout=60)
    assert program.returncode != 0 and "run.safetensors holds epoch" in errors
    epoch = int(errors.rsplit("holds epoch ", 1)[1].split()[0])
    found = gf.io.load_checkpoint(tmp_path / "run.safetensors")
    assert found["epoch"] >= epoch >= 3 and len(found["history"]["loss"]) == found["epoch"]


# --- shown, and elsewhere ------------------------------------------------------------------------------------------


def test_a_progress_bar_where_asked_for(capsys):
    pytest.importorskip("tqdm")
    run(1, progress=True)
    assert "epoch 1/1" in capsys.readouterr().err
    run(1, progress=False)
    assert capsys.readouterr().err == ""


def test_no_bar_without_tqdm(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    run(1, progress=True)
    assert capsys.readouterr().err == ""


@pytest.mark.cuda
def test_training_on_the_card_gives_the_same_history(card):
    def trained(device):
        gf.manual_seed(3)
        model = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 3))
        optimizer = optim.Adam(model.parameters(), 0.01)
        loader = data.DataLoader(blobs(), 16, shuffle=True)
        return model, train.fit(
            model, F.cross_entropy, optimizer, loader, data.DataLoader(blobs(20, 1), 8), 2, device=device,
            metrics=train.accuracy, report=None,
        )  # fmt: skip

    model, there = trained("cuda")
    assert model[0].weight.is_cuda
    _, here = trained("cpu")
    for name in SAME:
        assert_close(np.array(there[name]), np.array(here[name]), "float32", scale=100, what=name)
