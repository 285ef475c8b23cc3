"""What gradflow does on the blank card, as a program that prints what went wrong: `python tests/on_blank.py ops bfloat16`.

ops, kernels   every case of every op forward, backward and backward again, and of every kernel; dtypes and shapes are those
               that the CPU gives, numbers are not looked at
training       networks, optimizers, gradient scaling and captured steps
texts          elementwise kernels and one of each family of kernels/, compiled by NVRTC as CuPy has it
"""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import blank
import numpy as np
from conftest import as_dtype, cases_of

import gradflow as gf
from gradflow import amp, backend, cuda, data, nn, op, optim
from gradflow.cuda import launch
from gradflow.kernel import kernels

# Here the numbers decide: which elements are chosen, whether a decomposition succeeded.
DECIDED = {
    "argwhere", "index_get", "index_put", "index_sum", "one_hot", "linalg.eig", "linalg.eigvals", "linalg.solve",
}  # fmt: skip
# PyTorch has these in no half type, and CuPy in no bfloat16.
WIDE = ("linalg.", "cholesky", "cofactor", "half_spectrum", "transform")
FAMILIES = {"attention", "flash"}  # slow to compile

faults = 0


def fault(*words):
    global faults
    faults += 1
    print(*words, sep=" | ", flush=True)


def several(y):
    return y if isinstance(y, (tuple, list)) else (y,)


def moved(v, make):
    if isinstance(v, np.ndarray):
        return make(v)
    if isinstance(v, (list, tuple)) and any(isinstance(u, np.ndarray) for u in v):
        return type(v)([moved(u, make) for u in v])
    return v


def outcome(call, *args):
    """What a call gives, or the exception that it raises."""
    try:
        return call(*args)
    except Exception as e:  # noqa: BLE001 - compared with what the CPU raises
        return e


def compared(what, here, there):
    """Say if the card did not do what the CPU did."""
    if isinstance(there, Exception):
        if type(there) is not type(here):
            frames = [f for f in traceback.extract_tb(there.__traceback__) if "/gradflow/" in f.filename]
            fault(*what, f"{type(there).__name__}: {there}", *[f"{Path(f.filename).name}:{f.lineno}" for f in frames[-2:]])
    elif not isinstance(here, Exception) and here != there:
        fault(*what, f"gave {there}, wanted {here}")


def through(entry, case, dtype, where):
    """The shapes and dtypes of an op's results, of its gradients and of theirs."""
    leaves = []

    def make(v):
        t = gf.tensor(v).to(where)
        if case.grad and backend.is_differentiable(v.dtype):
            leaves.append(t.requires_grad_())
        return t

    args = moved(as_dtype(list(case.args), dtype), make)
    kwargs = {k: moved(v, make) for k, v in as_dtype(case.kwargs, dtype).items()}
    ys = [y for y in several(entry(*args, **kwargs)) if isinstance(y, gf.Tensor)]
    found = [(y.shape, y.dtype, y.device.type == where) for y in ys]
    for order in range(1, min(case.order, 2) + 1):
        ys = [y for y in ys if y is not None and y.requires_grad]
        if not leaves or not ys:
            break
        more = order < case.order
        ys = gf.autograd.grad(ys, leaves, [gf.ones_like(y) for y in ys], create_graph=more, allow_unused=True)
        found += [g if g is None else (g.shape, g.dtype, g.device.type == where) for g in ys]
    return found


def ops(dtype, only=()):
    dtype = backend.bfloat16() if dtype == "bfloat16" else np.dtype(dtype)
    for name, entry in sorted(op.table.items()):
        if name in DECIDED or (only and name not in only) or (dtype.itemsize == 2 and name.startswith(WIDE)):
            continue
        for case in cases_of(entry):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                here = outcome(through, entry, case, dtype, "cpu")
            compared((name, dtype, case), here, outcome(through, entry, case, dtype, "cuda"))


def run_kernels(dtype):
    dtype = backend.bfloat16() if dtype == "bfloat16" else np.dtype(dtype)
    for name, kernel in sorted(kernels.items()):
        for case in cases_of(kernel) if name not in op.table else ():
            args = [*as_dtype(list(case.args), dtype), *as_dtype(case.kwargs, dtype).values()]
            y = outcome(kernel.twin, *moved(args, backend.card().asarray))
            compared((name, dtype, case), None, y if isinstance(y, Exception) else None)


# --- training -------------------------------------------------------------------------------------------------------


class Lines(nn.Module):
    """A little of everything that reads a line of tokens."""

    def __init__(self):
        super().__init__()
        self.words, self.attention = nn.Embedding(11, 8), nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.lstm, self.gru, self.last = nn.LSTM(8, 8, 2, batch_first=True), nn.GRU(8, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, x):
        y = self.attention(self.words(x))
        return self.last(self.gru(self.lstm(y)[0])[0][:, -1])


def pictures():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.GELU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, groups=8), nn.SiLU(),
        nn.GroupNorm(2, 8), nn.Dropout(0.1), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.LayerNorm(32), nn.Linear(32, 3),
    )  # fmt: skip


def trained(model, x, make, dtype):
    optimizer, scaler = make(model.parameters()), amp.GradScaler("cuda", enabled=dtype == gf.float16)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.1)
    target = gf.zeros(len(x), dtype=gf.int64, device="cuda")
    for _ in range(2):
        optimizer.zero_grad()
        with amp.autocast("cuda", dtype=dtype, enabled=dtype != gf.float32):
            loss = loss_of(model(x), target)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
    return loss.item()


def training():
    models = {"pictures": (pictures, gf.zeros(2, 3, 8, 8)), "lines": (Lines, gf.zeros(2, 5, dtype=gf.int64))}
    optimizers = [getattr(optim, n) for n in ("SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Adadelta", "NAdam", "RAdam", "Lion")
                  if hasattr(optim, n)]  # fmt: skip
    for name, (model, x) in models.items():
        for make in optimizers:
            for dtype in (gf.float32, gf.float16, gf.bfloat16):
                y = outcome(trained, model().to("cuda"), x.to("cuda"), lambda p, make=make: make(p, lr=0.1), dtype)
                compared((name, make.__name__, dtype), None, y if isinstance(y, Exception) else None)
    from test_graphs_training import fitted, lenet, mlp

    for make, size in ((mlp, 3), (lenet, 8)):
        y = outcome(fitted, make, size, True)
        compared(("captured", make.__name__), None, y if isinstance(y, Exception) else None)
    compared(("around",), None, outcome(around))


def around():
    """What else speaks with the card: graphs by PyTorch's names, streams, events, pinned memory, DLPack, facts of it."""
    x, graph = gf.ones(8, 8, device="cuda"), cuda.CUDAGraph()
    with cuda.graph(graph):
        y = gf.relu(x @ x + 1)
    graph.replay()
    cuda.make_graphed_callables(nn.Linear(8, 8).to("cuda"), (x,))
    stream, start, end = cuda.Stream(), cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
    with cuda.stream(stream):
        start.record()
        y = y + 1
        end.record()
    stream.wait_stream(cuda.current_stream())
    cuda.synchronize()
    start.elapsed_time(end)
    gf.from_dlpack(y)
    gf.ones(5).pin_memory().to("cuda", non_blocking=True)
    loader = data.DataLoader(data.TensorDataset(gf.zeros(8, 2)), 4, pin_memory=True)
    assert len(list(loader)) == 2
    for ask in (cuda.get_device_properties, cuda.get_device_name, cuda.get_device_capability, cuda.mem_get_info,
                cuda.memory_allocated, cuda.memory_stats, cuda.memory_summary, cuda.empty_cache):  # fmt: skip
        ask()


def texts():
    """The elementwise texts of ops with strided inputs, and of each family of kernels its last in the list."""
    for dtype in ("float32", "bfloat16"):
        ops(dtype, {"gelu", "add", "where", "clamp", "logical_not", "xlogy", "softplus_backward"})
    for module in iter_modules(cuda.__path__):
        launcher = import_module(f"gradflow.cuda.{module.name}")
        if hasattr(launcher, "instantiations") and module.name not in FAMILIES:
            y = outcome(launch.load, module.name, launcher.instantiations()[-1])
            compared((module.name,), None, y if isinstance(y, Exception) else None)


def main(what, *options):
    backend.plug(blank.plug(lambda names: what == "texts"))
    warnings.simplefilter("error")
    {"ops": ops, "kernels": run_kernels, "training": training, "texts": texts}[what](*options)
    print(f"{what}: {len(blank.launches)} kernels launched, {faults} faults", flush=True)
    os._exit(bool(faults) or not blank.launches)  # without the end of an interpreter, at which CuPy frees what C holds


if __name__ == "__main__":
    main(*sys.argv[1:])
