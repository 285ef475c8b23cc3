"""What gradflow does on the blank card, as a program that prints what went wrong: `python tests/on_blank.py ops bfloat16`,
with PYTHONPATH=. in a checkout.

ops, kernels   every case of every op forward, backward and backward again, and of every kernel; dtypes and shapes are those
               that the CPU gives, numbers are not looked at
definitions    the same of ops without their kernels
training       networks, optimizers, gradient scaling and captured steps
texts          elementwise kernels and one of some families of kernels/ (`texts all`: of all), compiled by NVRTC as CuPy has it
facts          what CuPy makes of the expressions of tests/card/facts.py, as JSON
products       the plans of cuBLASLt, by the library itself, and what tests/test_cublaslt.py says of it
convolutions   the graphs of cuDNN's frontend, and what tests/test_cudnn.py says of it
"""

from __future__ import annotations

import json
import os
import sys
import traceback
import warnings
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import SimpleNamespace

import blank
import numpy as np
from conftest import as_dtype, cases_of

import gradflow as gf
from gradflow import amp, backend, cuda, data, kernel, nn, op, optim
from gradflow.cuda import launch
from gradflow.kernel import kernels

# Here the numbers decide: which elements are chosen, whether a decomposition succeeded.
DECIDED = {
    "argwhere", "index_get", "index_put", "index_sum", "one_hot", "linalg.eig", "linalg.eigvals",
}  # fmt: skip
# PyTorch has these in no half type, and CuPy in no bfloat16.
WIDE = ("linalg.", "cholesky", "cofactor", "half_spectrum", "transform")
FAMILIES = ("amp", "conv_mma", "gemm", "index", "norm", "pointwise", "random", "scan")  # quick to compile, and unlike

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


def definitions(dtype):
    kernel.definitions_only = True
    ops(dtype)


def run_kernels(dtype):
    dtype = backend.bfloat16() if dtype == "bfloat16" else np.dtype(dtype)
    for name, entry in sorted(kernels.items()):
        for case in cases_of(entry) if name not in op.table else ():
            args = [*as_dtype(list(case.args), dtype), *as_dtype(case.kwargs, dtype).values()]
            y = outcome(entry.twin, *moved(args, backend.card().asarray))
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


def texts(families=",".join(FAMILIES)):
    """The elementwise texts of ops with strided inputs, and of families of kernels ("all", or some) the last in the list."""
    for dtype in ("float32", "bfloat16"):
        ops(dtype, {"gelu", "where", "logical_not"})
    for module in iter_modules(cuda.__path__):
        launcher = import_module(f"gradflow.cuda.{module.name}")
        if hasattr(launcher, "instantiations") and (families == "all" or module.name in families.split(",")):
            y = outcome(launch.load, module.name, launcher.instantiations()[-1])
            compared((module.name,), None, y if isinstance(y, Exception) else None)


def facts():
    from card.facts import EXPRESSIONS, outcome_of

    print(json.dumps({e: outcome_of(backend.card(), e) for e in EXPRESSIONS}))


# --- NVIDIA's libraries -------------------------------------------------------------------------------------------


class Heard:
    """nvmath's bindings, and for each descriptor what it holds: read back from the library."""

    DTYPES = {"desc": "matmul_desc", "layout": "matrix_layout"}

    def __init__(self, lt):
        self.lt = lt

    def __getattr__(self, name):
        return getattr(self.lt, name)

    def held(self, kind, descriptor, attribute):
        name = self.DTYPES[kind]
        value, size = np.zeros(1, getattr(self.lt, f"get_{name}_attribute_dtype")(attribute)), np.zeros(1, np.uint64)
        address = value.ctypes.data
        getattr(self.lt, f"{name}_get_attribute")(descriptor, attribute, address, value.nbytes, size.ctypes.data)
        assert size[0] == value.nbytes
        return value[0].item()


def products():
    blank.library("libcuda.so.1", ["int cuDriverGetVersion(int *version) { *version = 13000; return 0; }"])
    from inspect import signature

    from nvmath.bindings import cublasLt as lt
    from test_cublaslt import Library

    from gradflow.cuda import cublaslt

    fake, real = Library(None), Heard(lt)
    for name in ("Epilogue", "MatmulDescAttribute", "MatrixLayoutAttribute", "MatmulPreferenceAttribute"):
        compared((name,), {k: int(getattr(lt, name)[k]) for k in getattr(fake, name)}, dict(getattr(fake, name)))
    sizes = {kind: {i: np.dtype(getattr(lt, f"get_{name}_attribute_dtype")(i)) for i in fake.SIZES[kind]}
             for kind, name in (*Heard.DTYPES.items(), ("preference", "matmul_preference"))}  # fmt: skip
    compared(("sizes",), sizes, {kind: {i: np.dtype(d) for i, d in of.items()} for kind, of in fake.SIZES.items()})
    for name in ("create", "get_version", "matmul_desc_create", "matrix_layout_create", "matmul_preference_create", "matmul",
                 "matmul_algo_get_heuristic"):  # fmt: skip
        compared((name,), len(signature(getattr(lt, name)).parameters), len(signature(getattr(fake, name)).parameters))
    for kind, compute, scale in ((0, 68, 0), (0, 77, 0), (2, 68, 0), (14, 68, 0), (1, 70, 1)):
        for epilogue in fake.Epilogue if kind != 1 else ("DEFAULT",):
            key = (kind, compute, scale, (6, 4, 5), (True, 5, 30), (False, 5, 20), 3, epilogue, (16, 16, 16))
            plans = [cublaslt.Plan(x, handle, key) for x, handle in ((real, 0), (fake, 77))]  # the library itself needs a card
            for of in zip(*[[("desc", p.desc), *[("layout", x) for x in p.layouts]] for p in plans], strict=True):
                (kind_of, here), (_, there) = of
                told = {a: v for a, v in fake.held[there].items() if type(a) is int}
                compared((key, kind_of), {a: real.held(kind_of, here, a) for a in told}, told)
                if kind_of == "layout":
                    shape = {w: real.held("layout", here, int(lt.MatrixLayoutAttribute[w.upper()])) for w in ("rows", "cols", "ld")}
                    compared((key, "shape"), shape, {w: fake.held[there][w] for w in shape})
            plans[0].close()
    blank.launches.append("none of its own")


CUDNN = [
    "size_t cudnnGetVersion(void) { return 91300; }",
    'const char *cudnnGetErrorString(int status) { return ""; }',
    "void cudnnGetLastErrorString(char *text, size_t size) { *text = 0; }",
    "int cudnnCreate(void **handle) { *handle = (void *)0x5000; return 0; }",
    "int cudnnBackendCreateDescriptor(int t, void **d) { static intptr_t n = 0x6000; *d = (void *)(n += 16); return 0; }",
    # three results of a heuristic, one engine of each; 64 for whatever is a number
    """int cudnnBackendGetAttribute(void *d, int name, int type, int64_t asked, int64_t *count, void *to) {
    int64_t n = name == 202 ? (asked && asked < 3 ? asked : 3) : name == 300 || name == 301;
    if (!n && type == 3 && asked == 1 && to) *(int64_t *)to = 64, n = 1;
    if (count) *count = n;
    return 0;
}""",
    "cudnnDestroy", "cudnnSetStream", "cudnnGetStream", "cudnnBackendDestroyDescriptor", "cudnnBackendFinalize",
    "cudnnBackendSetAttribute", "cudnnBackendExecute",
]  # fmt: skip


def convolutions():
    blank.library("libcudnn.so.9", CUDNN)
    import cudnn as real
    import test_cudnn as fake

    from gradflow.cuda import cudnn
    from gradflow.cuda.conv_job import Job
    from gradflow.ops.window import Window

    for name in (n for n in vars(fake.PyGraph) if not n.startswith("_") and n not in ("made",)):
        compared(("pygraph", name), True, hasattr(real.pygraph, name))
    for name in (n for n in vars(fake.Tensor) if not n.startswith("_") and n != "view"):
        compared(("tensor", name), True, hasattr(real.tensor, name))
    compared(("data_type",), set(), {k.name for k in fake.Kind} - set(real.data_type.__members__))

    class Graph(real.pygraph):
        def check_support(self):
            """Nothing is supported without a card."""

    module = SimpleNamespace(**{n: getattr(real, n) for n in dir(real) if not n.startswith("_")})
    module.pygraph, handle = Graph, real.create_handle()
    real.set_stream(handle, 0x7000)
    for what, result in (("forward", "Y"), ("input", "DX"), ("weight", "DW")):
        for kind, word in cudnn.TYPES.items():
            for size in ((6, 7), (4, 5, 6)):
                three = tuple(3 for _ in size)
                job = Job(what, kind, 2, 4, 6, Window(size, three, size, (1,) * len(size), (1,) * len(size), (1,) * len(size), 2),
                          0, False, False, True)  # fmt: skip
                graph = cudnn.Graph(module, handle, job)
                told = json.loads(str(graph.graph))
                (node,), tensors = told["nodes"], {t["uid"]: t for t in told["tensors"].values()}
                compared((job, "padding"), [[1] * len(size)] * 4,
                         [node[k] for k in ("pre_padding", "post_padding", "stride", "dilation")])  # fmt: skip
                compared((job, "result"), [result], list(node["outputs"]))
                dims = {"x": [2, 8, *size], "w": [12, 4, *three], "y": [2, 12, *size]}
                order = {"forward": "xwy", "input": "ywx", "weight": "yxw"}[what]
                compared((job, "dims"), [dims[k] for k in order], [tensors[uid]["dim"] for uid in graph.tensors])
                compared((job, "type"), {word}, {t["data_type"] for t in tensors.values()})
                compared((job, "plans"), True, graph.graph.get_execution_plan_count() > 0)
    y = outcome(graph.graph.execute_plan_at_index, dict.fromkeys(graph.tensors, 0x8000), 0, 0, handle)
    compared(("execute",), "Plan index 0 did not build.", str(y))  # the arguments were taken
    blank.launches.append("none of its own")


def main(what, *options):
    nvidia = {"products": products, "convolutions": convolutions}.get(what)
    if nvidia is not None:
        nvidia()
    else:
        backend.plug(blank.plug(lambda names: what == "texts"))
        warnings.simplefilter("error")
        {"ops": ops, "definitions": definitions, "kernels": run_kernels, "training": training, "texts": texts,
         "facts": facts}[what](*options)  # fmt: skip
    print(f"{what}: {len(blank.launches)} kernels launched, {faults} faults", file=sys.stderr, flush=True)
    os._exit(bool(faults) or not blank.launches)  # without the end of an interpreter, at which CuPy frees what C holds


if __name__ == "__main__":
    main(*sys.argv[1:])
