"""Memory in common with other libraries, by protocol: NumPy, DLPack, CUDA's array interface, pickles; PyTorch's own both ways."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gradflow as gf
from gradflow import nn
from gradflow.op import wrap

# --- NumPy ---------------------------------------------------------------------------------------------------


def test_arrays_are_shared_both_ways():
    a = np.arange(6.0).reshape(2, 3)
    t = gf.from_numpy(a)
    assert t.array is a and np.shares_memory(t.numpy(), a) and np.shares_memory(np.asarray(t), a)
    t[0, 0] = 7
    assert a[0, 0] == 7
    assert np.shares_memory(gf.as_tensor(a).array, a) and not np.shares_memory(gf.tensor(a).array, a)
    assert np.array(t, dtype=np.float32).dtype == np.float32 and not np.shares_memory(np.array(t), a)
    strided = gf.from_numpy(a.T)
    assert strided.stride() == (1, 3) and np.shares_memory(strided.array, a)


def test_a_gradient_is_never_lost_silently():
    w = gf.ones(2, requires_grad=True)
    for use in (w.numpy, lambda: np.asarray(w), lambda: np.add(w, 1), lambda: np.from_dlpack(w)):
        with pytest.raises((RuntimeError, BufferError), match="detach"):
            use()
    assert w.numpy(force=True).tolist() == w.detach().numpy().tolist() == [1, 1]


def test_numpys_functions_take_tensors():
    t = gf.arange(6.0).reshape(2, 3)
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    for f in (np.exp, lambda x: np.maximum(x, 2.0), lambda x: np.add(x, 1), lambda x: np.multiply(a, x)):
        y = f(t)
        assert isinstance(y, gf.Tensor)
        np.testing.assert_array_equal(y.array, f(a))
    assert np.isnan(t).dtype == bool and np.concatenate([t, t]).shape == (4, 3) and np.mean(t) == 2.5
    assert isinstance(np.where(t > 2, t, 0), np.ndarray) and np.allclose(t, a)
    out = np.empty((2, 3), np.float32)
    assert np.add(a, t, out=out) is out and out[1, 2] == 10


def test_numpys_numbers_are_weak():
    ints, halves = gf.arange(3), gf.ones(2, dtype=gf.float16)
    assert (ints * np.float64(2)).dtype == gf.float32 and (np.float64(2) * ints).dtype == gf.float32
    assert (halves * np.float64(2)).dtype == gf.float16 and (gf.ones(2, dtype=gf.int8) + np.int64(3)).dtype == gf.int8
    assert (np.float32(2) ** ints).tolist() == [1, 2, 4] and (np.int64(5) - ints).tolist() == [5, 4, 3]
    assert [10, 20, 30][gf.tensor(1)] == 20 and np.arange(5)[gf.tensor([0, 3])].tolist() == [0, 3]
    assert gf.arange(4)[np.array([True, False, True, False])].tolist() == [0, 2] and ints[np.int64(1)].item() == 1
    assert (
        gf.tensor(np.float64(3)).dtype == gf.float64 and gf.tensor([np.float32(1), np.float32(2)]).dtype == gf.float32
    )


def test_arrays_and_tensors_in_one_expression():
    t, a = gf.ones(2, 2), np.full((2, 2), 3.0, np.float32)
    for y in (t + a, a + t, a * t, t - a, a / t, a @ t, t @ a, a < t, a == t):
        assert isinstance(y, gf.Tensor) and y.shape == (2, 2)
    t += a
    a += t.numpy()
    assert t[0, 0].item() == 4 and a[0, 0] == 7


# --- DLPack --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", "int8", "uint8", "bool", "complex64"])
def test_dlpack_with_numpy(dtype):
    a = np.arange(6).astype(dtype).reshape(2, 3)
    t = gf.from_dlpack(a)
    assert np.shares_memory(t.array, a) and t.dtype == a.dtype
    back = np.from_dlpack(t)
    assert np.shares_memory(back, a) and back.shape == (2, 3)
    assert tuple(map(int, t.__dlpack_device__())) == (1, 0)


def test_dlpack_arguments():
    t = gf.arange(3.0)
    assert type(t.__dlpack__()).__name__ == type(t.__dlpack__(max_version=(1, 0))).__name__ == "PyCapsule"
    assert gf.from_dlpack(t.__dlpack__()).tolist() == [0, 1, 2]
    assert type(t.__dlpack__(stream=None, copy=True)).__name__ == "PyCapsule"
    fixed = np.arange(3.0)
    fixed.flags.writeable = False
    assert gf.from_dlpack(fixed).tolist() == [0, 1, 2]
    assert gf.from_dlpack(fixed.copy(), copy=True).tolist() == [0, 1, 2]
    with pytest.raises(AttributeError):
        gf.from_dlpack([1, 2])


@pytest.mark.reference
def test_dlpack_with_pytorch():
    torch = pytest.importorskip("torch")
    ours = gf.arange(6.0).reshape(2, 3)
    theirs = torch.from_dlpack(ours)
    theirs[0, 0] = 9
    assert ours[0, 0].item() == 9
    back = gf.from_dlpack(theirs.t())
    back[2, 1] = 4
    assert ours[1, 2].item() == 4 and back.stride() == (1, 3)
    assert torch.as_tensor(np.asarray(ours)).data_ptr() == ours.data_ptr()
    assert gf.as_tensor(theirs.numpy()).data_ptr() == ours.data_ptr()


# --- the card ------------------------------------------------------------------------------------------------


@pytest.mark.cuda
def test_arrays_of_the_card(card):
    x = card.asarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    t = wrap(x)
    assert t.is_cuda and t.__cuda_array_interface__["data"][0] == x.data.ptr == t.data_ptr()
    assert t.__cuda_array_interface__["shape"] == (2, 3) and t.__dlpack_device__()[0] == 2
    assert not hasattr(gf.ones(1), "__cuda_array_interface__")
    with pytest.raises(TypeError, match="cpu"):
        t.numpy()
    assert t.numpy(force=True).tolist() == t.cpu().numpy().tolist() == [[0, 1, 2], [3, 4, 5]]
    y = pickle.loads(pickle.dumps(t))
    assert y.is_cuda and y.tolist() == t.tolist()
    w = gf.ones(2, device="cuda", requires_grad=True)
    with pytest.raises(RuntimeError, match="detach"):
        w.__cuda_array_interface__  # noqa: B018


@pytest.mark.cuda
def test_pytorchs_names_for_the_card(card):
    cuda = gf.cuda
    assert cuda.is_available() and cuda.device_count() >= 1 and cuda.current_device() == 0
    name, p = cuda.get_device_name(), cuda.get_device_properties("cuda:0")
    assert isinstance(name, str) and p.name == name and (p.major, p.minor) == cuda.get_device_capability(0)
    assert p.total_memory > 0 and cuda.is_bf16_supported() and not cuda.is_current_stream_capturing()
    with cuda.device(0), cuda.device(-1), cuda.device_of(gf.ones(1)), cuda.device_of(gf.ones(1, device="cuda")):
        cuda.set_device(gf.device("cuda", 0))
    side, before = cuda.Stream(), cuda.current_stream()
    with cuda.stream(side):
        assert cuda.current_stream() == side != cuda.default_stream()
        x = gf.ones(3, device="cuda") * 2
    assert cuda.current_stream() == before
    cuda.current_stream().wait_stream(side)
    start, end = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
    start.record()
    y = x + 1
    end.record()
    end.synchronize()
    cuda.synchronize()
    assert start.elapsed_time(end) >= 0 and end.query() and y.tolist() == [3, 3, 3]
    side.wait_event(end)
    side.record_event().wait(side)
    free, whole = cuda.mem_get_info()
    assert 0 < free <= whole and 0 <= cuda.memory_allocated() <= cuda.memory_reserved() <= cuda.max_memory_allocated()
    assert cuda.memory_stats()["allocated_bytes.all.current"] == cuda.memory_allocated() and cuda.memory_summary()
    cuda.empty_cache()
    with pytest.raises(ValueError, match="wanted a card, saw cpu"):
        cuda.set_device("cpu")


def test_without_a_card():
    if gf.cuda.is_available():
        pytest.skip("there is one")
    assert gf.cuda.device_count() == 0 and gf.cuda.memory_allocated() == 0 and gf.cuda.memory_stats()
    gf.cuda.empty_cache()
    for ask in (gf.cuda.current_device, gf.cuda.get_device_name, gf.cuda.synchronize, gf.cuda.Stream, gf.cuda.Event):
        with pytest.raises(RuntimeError, match="no CUDA card was found"):
            ask()


# --- pickles -------------------------------------------------------------------------------------------------


def test_tensors_pickle_as_arrays():
    for t in (gf.arange(6.0).reshape(2, 3).T, gf.tensor(3), gf.zeros(0, 2), gf.ones(2, dtype=gf.complex64)):
        back = pickle.loads(pickle.dumps(t))
        assert type(back) is gf.Tensor and back.dtype == t.dtype and back.tolist() == t.tolist() and back.node is None
    w = nn.Parameter(gf.ones(2))
    w.note = "kept"
    back = pickle.loads(pickle.dumps(w))
    assert type(back) is nn.Parameter and back.requires_grad and back.note == "kept" and back.grad is None
    assert pickle.loads(pickle.dumps(w * 2)).is_leaf


def test_what_is_pickled_names_nothing_but_arrays_and_tensors():
    seen = set()

    class Names(pickle.Unpickler):
        def find_class(self, module, name):
            seen.add(f"{module}.{name}")
            return super().find_class(module, name)

    import io

    Names(io.BytesIO(pickle.dumps(gf.ones(2, requires_grad=True)))).load()
    assert {s.rpartition(".")[2] for s in seen} <= {
        "unpickled",
        "Tensor",
        "_reconstruct",
        "ndarray",
        "dtype",
        "_frombuffer",
    }


def test_modules_and_optimizers_pickle():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.LSTM(3, 4), nn.TransformerEncoderLayer(8, 2, 16))
    optimizer = gf.optim.Adam(model.parameters(), lr=0.25)
    twin, other = pickle.loads(pickle.dumps((model, optimizer)))
    for a, b in zip(twin.state_dict().values(), model.state_dict().values(), strict=True):
        assert a.tolist() == b.tolist()
    assert other.param_groups[0]["lr"] == 0.25 and other.param_groups[0]["params"][0] is twin[0].weight
    assert copy.deepcopy(model)[0].weight.tolist() == model[0].weight.tolist()


# --- files of PyTorch ----------------------------------------------------------------------------------------


@pytest.mark.reference
def test_states_pass_between_pytorch_and_gradflow(tmp_path):
    torch = pytest.importorskip("torch")
    library = pytest.importorskip("safetensors.torch")

    def net(nn):
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))

    ours, theirs = net(gf.nn), net(torch.nn)
    library.save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
    assert not any(ours.load_state_dict(gf.load(tmp_path / "theirs.safetensors")))
    x = np.random.default_rng(0).standard_normal((2, 1, 4, 4)).astype(np.float32)
    ours.eval(), theirs.eval()
    np.testing.assert_allclose(
        ours(gf.tensor(x)).detach().numpy(), theirs(torch.tensor(x)).detach().numpy(), rtol=1e-5, atol=1e-6
    )
    gf.save(ours.state_dict(), tmp_path / "ours.safetensors")
    for k, v in library.load_file(tmp_path / "ours.safetensors").items():
        assert torch.equal(v, theirs.state_dict()[k])
    torch.save(theirs.state_dict(), tmp_path / "theirs.pt")
    with pytest.raises(RuntimeError, match=r"safetensors\.torch\.save_file"):
        gf.load(tmp_path / "theirs.pt")


def test_pickles_travel_without_the_name_torch(tmp_path):
    text = (
        "import gradflow.torch, pickle, sys\nwith gradflow.torch.installed() as torch:\n"
        "    sys.stdout.buffer.write(pickle.dumps({'t': torch.ones(2), 'd': torch.float32, 'm': torch.nn.Linear(1, 1)}))"
    )
    path = str(Path(__file__).parent.parent)
    data = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, check=True, env={"PYTHONPATH": path}
    ).stdout
    back = pickle.loads(data)
    assert back["t"].tolist() == [1, 1] and back["d"] == np.float32 and isinstance(back["m"], nn.Linear)
