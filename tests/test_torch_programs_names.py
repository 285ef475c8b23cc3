"""gradflow under the name torch: which names are found, how a missing one is refused, what goes back afterwards."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
import typing
from pathlib import Path

import numpy as np
import pytest

import gradflow
from gradflow import backend
from gradflow.torch import install, uninstall

ROOT = Path(__file__).parent.parent


def run(*args, **kwargs):
    """python ARGS... from a folder where only PYTHONPATH leads to gradflow."""
    return subprocess.run(
        [sys.executable, *args], capture_output=True, text=True, timeout=120,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}, **kwargs,
    )  # fmt: skip


# --- names that are there ---------------------------------------------------------------------------------


def test_names_are_gradflows_own(torch):
    import torch.nn as nn
    import torch.nn.functional as F
    from torch import optim
    from torch.autograd import Function, Variable, grad
    from torch.nn.modules.batchnorm import _BatchNorm
    from torch.nn.parameter import Parameter
    from torch.nn.utils.rnn import pack_padded_sequence
    from torch.optim.lr_scheduler import LambdaLR, _LRScheduler
    from torch.optim.optimizer import Optimizer
    from torch.utils.data import DataLoader, Dataset, random_split
    from torch.utils.data.dataloader import DataLoader as again
    from torch.utils.data.sampler import Sampler

    assert (
        nn.Linear is gradflow.nn.Linear
        and nn.modules.conv.Conv2d is nn.Conv2d
        and F.relu is gradflow.nn.functional.relu
    )
    assert (
        torch.Tensor is gradflow.Tensor and Parameter is gradflow.nn.Parameter and isinstance(torch.zeros(1), Variable)
    )
    assert (
        issubclass(nn.BatchNorm2d, _BatchNorm)
        and issubclass(LambdaLR, _LRScheduler)
        and issubclass(optim.SGD, Optimizer)
    )
    assert grad is gradflow.autograd.grad and Function is gradflow.autograd.Function
    assert issubclass(DataLoader, gradflow.data.DataLoader) and DataLoader is again
    assert Dataset is gradflow.data.Dataset and Sampler is gradflow.data.Sampler and random_split
    assert pack_padded_sequence is gradflow.nn.utils.rnn.pack_padded_sequence
    assert torch.relu_(torch.tensor([-1.0, 2.0])).tolist() == [0, 2] and torch.conv1d and torch.detach
    assert isinstance(torch.zeros(2), torch.FloatTensor) and torch.LongTensor([1]).dtype == torch.long


def test_stars(torch):
    scope = {}
    exec("from torch import *\nfrom torch.nn import *\nfrom torch.utils.data import *", scope)
    assert scope["Linear"] is gradflow.nn.Linear and scope["zeros"] is gradflow.zeros and "import_module" not in scope


def test_versions(torch):
    version = pytest.importorskip("packaging.version")
    assert torch.__version__ == "2.13.0+gradflow"
    assert version.parse(torch.__version__) >= version.parse("2.0") and not torch.__version__ < "1.9"
    assert torch.__version__ >= (2, 1) and torch.version.cuda is None and torch.__version__.split(".")[0] == "2"


def test_dtypes(torch):
    t = torch.zeros(2)
    assert f"{t.dtype}" == "torch.float32" and repr(torch.bool) == "torch.bool" and str(torch.half) == "torch.float16"
    assert t.dtype is torch.float32 and isinstance(t.dtype, torch.dtype) and {torch.float32: 1}[t.dtype] == 1
    assert t.dtype == np.float32 and np.float32 == t.dtype and np.zeros(1, t.dtype).dtype == np.float32
    assert torch.float32.is_floating_point and torch.complex64.is_complex and not torch.uint8.is_signed
    assert torch.float64.itemsize == 8 and torch.complex128.to_real() is torch.float64
    assert torch.tensor([1]).dtype is torch.int64 and torch.zeros(2, dtype=torch.float64).double().dtype is torch.double
    assert (
        torch.promote_types(torch.int32, torch.float16) is torch.float16 and torch.get_default_dtype() is torch.float32
    )
    assert copy.deepcopy(torch.float16) is torch.float16 and pickle.loads(pickle.dumps(torch.int8)) is torch.int8
    assert (
        torch.zeros(2).to(torch.int64).type() == "torch.LongTensor" and t.type(torch.DoubleTensor).dtype is torch.double
    )
    assert "dtype=torch.float64" in repr(torch.zeros(1, dtype=torch.float64)) and repr(t.shape) == "torch.Size([2])"
    with pytest.raises(TypeError, match="dtype: wanted"):
        torch.dtype("float32")


def test_settings_read_back(torch):
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.set_float32_matmul_precision("high")
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.backends.cudnn.benchmark and torch.backends.cuda.matmul.allow_tf32
    assert torch.get_float32_matmul_precision() == "high" and torch.get_num_threads() == 2
    assert torch.are_deterministic_algorithms_enabled() and not torch.backends.mps.is_available()
    with pytest.raises(RuntimeError, match="highest, high or medium"):
        torch.set_float32_matmul_precision("low")
    torch.backends.cudnn.benchmark = False  # this one is gradflow's own: later tests do not time variants


def test_programs_run_as_they_are_written(torch):
    @torch.jit.script
    def double(x):
        return x * 2

    @torch.compile(mode="max-autotune")
    def triple(x):
        return x * 3

    with torch.autograd.profiler.record_function("block"), torch.autocast("cpu", enabled=False):
        assert double(triple(torch.ones(1))).item() == 6
    assert not torch.jit.is_scripting() and torch.compiler.is_compiling() is False
    scaler = torch.amp.GradScaler("cuda", enabled=False)
    assert scaler.scale(torch.ones(1)).item() == 1 and not scaler.is_enabled()
    assert not torch.distributed.is_available()
    from torch.utils.tensorboard import SummaryWriter

    with pytest.warns(UserWarning, match="writes nothing"):
        writer = SummaryWriter("runs")
    assert writer.add_scalar("loss", 1.0, 0) is None


# --- names that are not ----------------------------------------------------------------------------------


def test_a_missing_name_is_refused_when_it_is_used(torch):
    import torch.distributed as dist
    from torch.distributed.fsdp import FullyShardedDataParallel
    from torch.fx import GraphModule
    from torch.nn import NothingLikeIt

    class Mentions:
        kind: torch.sparse.Nothing = torch.nothing
        other: GraphModule | None = None

        def f(self, x: typing.Optional[NothingLikeIt] = None, y: dist.ProcessGroup | None = None):  # noqa: UP045
            return isinstance(x, NothingLikeIt)

    assert Mentions().f(3) is False
    for use in (lambda: dist.init_process_group("nccl"), lambda: FullyShardedDataParallel(3), lambda: torch.nothing(2)):
        with pytest.raises(NotImplementedError, match=r"^gradflow has no torch\."):
            use()
    with pytest.raises(NotImplementedError, match=r"^gradflow has no torch\.nothing\.at_all"):
        torch.nothing.at_all(3)
    with pytest.raises(AttributeError, match=r"^gradflow has no torch\.nothing\.at_all"):
        getattr(torch.nothing, "at_all")  # noqa: B009

    class Derived(NothingLikeIt):
        pass

    with pytest.raises(NotImplementedError, match=r"gradflow has no torch\.nn\.NothingLikeIt"):
        Derived()
    with pytest.raises(ModuleNotFoundError):
        import torch.no_such_room


def test_probing_a_missing_name_says_that_it_is_missing(torch):
    assert not hasattr(torch, "nothing") and getattr(torch, "nothing", None) is None
    assert hasattr(torch, "compile") and hasattr(torch.nn.functional, "relu")
    assert not hasattr(torch.nn, "NothingLikeIt") and not hasattr(torch.nothing, "at_all")
    assert "nothing" not in dir(torch) and "zeros" in dir(torch)


# --- coming and going ------------------------------------------------------------------------------------


def test_what_was_before_comes_back(torch):
    torch.manual_seed(3)
    torch.rand(2)
    uninstall()
    assert "torch" not in sys.modules and backend.default_generator.sequence is None
    assert gradflow.zeros(1).dtype is np.dtype("float32") and "gradflow.float64" in repr(
        gradflow.zeros(1, dtype=np.float64)
    )
    install()
    install()  # once is enough
    import torch as again

    assert again is not torch and again.zeros(1).dtype is again.float32


def test_pytorch_that_is_imported_already_is_not_replaced(without_pytorch, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", type(sys)("torch"))
    with pytest.raises(RuntimeError, match="imported in this process already"):
        install()


@pytest.mark.reference
def test_beside_pytorch_itself():
    pytest.importorskip("torch")
    text = "import torch, gradflow.torch\ntry: gradflow.torch.install()\nexcept RuntimeError as e: print(e)"
    done = run("-c", text)
    assert "imported in this process already" in done.stdout, done.stderr
    text = "import gradflow.torch as g\nwith g.installed() as t: print(t.__version__)\nimport torch\nprint(torch.__version__)"
    first, second = run("-c", text).stdout.split()
    assert first.endswith("+gradflow") and "gradflow" not in second


def test_the_command_line(tmp_path):
    script = tmp_path / "program.py"
    script.write_text("import sys, torch, beside\nprint(torch.__version__, __name__, sys.argv[1:], beside.x)\n")
    (tmp_path / "beside.py").write_text("x = 5\n")
    line = "2.13.0+gradflow __main__ ['--lr', '1'] 5\n"
    assert run("-m", "gradflow.torch", str(script), "--lr", "1").stdout == line
    assert run("-m", "gradflow.torch", "-m", "program", "--lr", "1", cwd=tmp_path).stdout == line
    text = "import torch, sys; print(torch.ones(2), sys.argv)"
    assert run("-m", "gradflow.torch", "-c", text, "a").stdout == "tensor([1., 1.]) ['-c', 'a']\n"
    bad = run("-m", "gradflow.torch")
    assert bad.returncode == 2 and "usage" in bad.stderr
    script.write_text("import torch\ntorch.nothing(3)\n")
    failed = run("-m", "gradflow.torch", str(script))
    assert failed.returncode == 1 and failed.stderr.endswith("NotImplementedError: gradflow has no torch.nothing\n")


# --- files and generators ---------------------------------------------------------------------------------


def test_files_are_safetensors_and_pickles_are_refused(torch, tmp_path):
    library = pytest.importorskip("safetensors.numpy")
    state = torch.nn.Linear(2, 3).state_dict()
    torch.save(state, tmp_path / "w.pt", _use_new_zipfile_serialization=True)
    assert set(library.load_file(tmp_path / "w.pt")) == {"weight", "bias"}
    file = io.BytesIO()
    torch.save({"model": state, "at": (3, None, [1.5, "x"]), 7: torch.ones(1, requires_grad=True)}, file)
    file.seek(0)
    back = torch.load(file, map_location=lambda storage, place: storage, weights_only=True)
    assert back["at"] == (3, None, [1.5, "x"]) and back[7].requires_grad
    assert torch.equal(back["model"]["weight"], state["weight"])
    with pytest.raises(TypeError, match="saw a whole Linear; save its state_dict"):
        torch.save(torch.nn.Linear(2, 3), tmp_path / "m.pt")
    for head in (b"PK\x03\x04", b"\x80\x02", b"\x80\x04"):
        (tmp_path / "p.pt").write_bytes(head + b"rest")
        with pytest.raises(RuntimeError, match="pickles are never loaded: convert it"):
            torch.load(tmp_path / "p.pt", weights_only=True)


def test_generators(torch):
    g = torch.Generator(device="cpu").manual_seed(5)
    state = g.get_state()
    first = torch.rand(3, generator=g)
    assert torch.equal(torch.rand(3, generator=g.set_state(state)), first) and g.initial_seed() == 5
    assert torch.equal(torch.rand(3, generator=pickle.loads(pickle.dumps(g))), torch.rand(3, generator=g))
    assert g.clone_state().get_state().tolist() == g.get_state().tolist()
    torch.manual_seed(-1)
    assert torch.initial_seed() == 2**64 - 1 and torch.get_rng_state().dtype is torch.uint8
    with pytest.raises(RuntimeError, match="wanted 2536 bytes"):
        torch.set_rng_state(torch.zeros(3, dtype=torch.uint8))


def test_assert_close(torch):
    close = torch.testing.assert_close
    close(torch.ones(3), torch.ones(3) + 1e-6)
    close({"a": [1.0, torch.zeros(2)]}, {"a": [1.0, torch.zeros(2)]})
    close(torch.tensor([float("nan")]), torch.tensor([float("nan")]), equal_nan=True)
    for a, b in (
        (torch.ones(3), torch.ones(3) + 1e-3), (torch.ones(2), torch.ones(3)), (torch.ones(2), torch.ones(2).double()),
        ([1.0], [1.0, 2.0]), ({"a": 1}, {"b": 1}), (torch.tensor([float("nan")]), torch.tensor([float("nan")])),
    ):  # fmt: skip
        with pytest.raises(AssertionError, match="assert_close"):
            close(a, b)
    with pytest.raises(ValueError, match="both rtol and atol"):
        close(1.0, 1.0, rtol=0.1)


def test_the_package_torch_has_a_version(torch):
    from importlib import metadata

    assert metadata.version("torch") == "2.13.0"


def test_a_missing_class_may_be_subclassed_but_not_made(torch):
    class Tracer(torch.fx.Tracer):
        pass

    with pytest.raises(NotImplementedError, match=r"gradflow has no torch\.fx\.Tracer"):
        Tracer()


def test_operators_that_a_program_registers(torch):
    @torch.library.custom_op("space::double", mutates_args=())
    def double(x: torch.Tensor) -> torch.Tensor:
        return x.detach() * 2

    double.register_autograd(lambda ctx, g: g * 3)  # not the gradient of doubling, so that it shows
    x = torch.ones(2, requires_grad=True)
    y = torch.ops.space.double(x)
    y.sum().backward()
    assert y.tolist() == [2, 2]
    assert x.grad.tolist() == [3, 3]
    with pytest.raises(NotImplementedError, match="other"):
        torch.ops.space.other()


def test_arguments_of_to_and_trees_by_their_private_names(torch):
    device, dtype, later, _ = torch._C._nn._parse_to("cpu", torch.float64, non_blocking=True)
    assert (str(device), dtype, later) == ("cpu", torch.float64, True)
    from torch.utils import _pytree as tree

    leaves, spec = tree.tree_flatten({"a": [1, 2], "b": (3,)})
    assert leaves == [1, 2, 3]
    assert tree.tree_unflatten([4, 5, 6], spec) == {"a": [4, 5], "b": (6,)}
    assert tree.SUPPORTED_NODES[tree._get_node_type([1])].flatten_fn([7, 8])[0] == [7, 8]
