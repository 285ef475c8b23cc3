"""The columns of a case: NumPy, CuPy running the definitions, the CUDA twins, and PyTorch, behind one small interface.

gradflow's names are PyTorch's, so a case is written once: `side.lib.nn.functional.conv2d` is a function of either.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np

import gradflow
import gradflow.nn
import gradflow.optim
from gradflow import backend, kernel
from gradflow.cuda import cudnn, precision, tune
from gradflow.op import wrap
from gradflow.ops.shape import transfer

HALVES = ("float16", "bfloat16")


class Gradflow:
    """gradflow on NumPy ('numpy'), its definitions on CuPy ('cupy'), as a user gets it on a card ('twin'), there with a
    whole training step as one CUDA graph ('graph'), and with cuDNN's convolutions where the extra is installed ('cudnn').
    """

    def __init__(self, name: str) -> None:
        self.name, self.lib, self.torch = name, gradflow, False
        self.whole_steps = name == "graph"
        self.xp = np if name == "numpy" else backend.need_card(name)
        self.device = "cpu" if name == "numpy" else "cuda"
        self.grad = gradflow.autograd.grad
        if self.device == "cuda":
            tune.benchmark(True)  # as PyTorch's column does

    def model(self, model: Any) -> Any:
        """The model as this column runs it."""
        return model

    def step(self, step: Any) -> Any:
        """A training step as this column runs it."""
        return gradflow.cuda.graph(step) if self.whole_steps else step

    def allow_tf32(self, allowed: bool) -> None:
        """Let float32 products and convolutions be computed in TF32 on the card, or not."""
        if self.device == "cuda":
            precision.conv_tf32(allowed)
            precision.matmul.allow_tf32 = allowed

    def begin(self) -> None:
        """Switch the column on."""
        self.before, kernel.definitions_only = kernel.definitions_only, self.name in ("numpy", "cupy")
        if self.name == "cudnn":
            tune.prefer("cudnn")

    def end(self) -> None:
        """Switch it off."""
        kernel.definitions_only = self.before
        if self.name == "cudnn":
            tune.prefer("")

    def tensor(self, a: Any, grad: bool = False) -> Any:
        """A tensor of a NumPy array; other values as they are."""
        if not isinstance(a, np.ndarray):
            return a
        t = wrap(a if self.xp is np else transfer(a, "cuda"))
        return t.requires_grad_() if grad else t

    def dtype(self, dtype: Any) -> Any:
        """The library's own dtype."""
        return np.dtype(dtype)

    def fill(self, parameter: Any, a: np.ndarray) -> None:
        """Write values into a parameter."""
        parameter.array[...] = self.xp.asarray(a)

    def array(self, t: Any) -> Any:
        """The NumPy or CuPy array of a tensor."""
        return t.array if hasattr(t, "array") else t

    def function(self, name: str) -> Any:
        """An op of the table."""
        from gradflow.call import call_of

        return call_of[name]

    def peak(self) -> int:
        """Bytes that the pool took from the card since forget()."""
        return self.xp.get_default_memory_pool().total_bytes() if self.device == "cuda" else 0

    def forget(self) -> None:
        """Give memory that nobody uses back."""
        if self.device == "cuda":
            self.xp.get_default_memory_pool().free_all_blocks()


class Torch:
    """PyTorch on the same device, cuDNN free to choose its fastest algorithm; eager ('torch'), or whole models compiled for
    the least overhead ('compile').
    """

    def __init__(self, device: str, threads: int, name: str = "torch") -> None:
        import torch

        self.name, self.whole_steps = name, name == "compile"
        self.lib = self.torch = torch
        self.device, self.grad = device, torch.autograd.grad
        if threads:
            torch.set_num_threads(threads)
        if device == "cuda":
            torch.backends.cudnn.benchmark = True
            self.allow_tf32(False)
            self.xp = backend.need_card("torch")

    def model(self, model: Any) -> Any:
        """The model as this column runs it."""
        return self.lib.compile(model, mode="reduce-overhead") if self.whole_steps else model

    def step(self, step: Any) -> Any:
        """The training step itself."""
        return step

    def allow_tf32(self, allowed: bool) -> None:
        """Let float32 products and convolutions be computed in TF32 on the card, or not."""
        self.lib.backends.cudnn.allow_tf32 = self.lib.backends.cuda.matmul.allow_tf32 = allowed

    def begin(self) -> None:
        """Nothing to switch."""

    def end(self) -> None:
        """Nothing to switch."""

    def tensor(self, a: Any, grad: bool = False) -> Any:
        """A tensor of a NumPy array; other values as they are."""
        if not isinstance(a, np.ndarray):
            return a
        if a.dtype.name == "bfloat16":
            t = self.lib.from_numpy(a.astype(np.float32)).bfloat16()
        else:
            t = self.lib.from_numpy(a)
        t = t.to(self.device)
        return t.requires_grad_() if grad else t

    def dtype(self, dtype: Any) -> Any:
        """The library's own dtype."""
        return getattr(self.lib, np.dtype(dtype).name)

    def fill(self, parameter: Any, a: np.ndarray) -> None:
        """Write values into a parameter."""
        with self.lib.no_grad():
            parameter.copy_(self.lib.from_numpy(a))

    def array(self, t: Any) -> Any:
        """The NumPy or CuPy array of a tensor."""
        if not isinstance(t, self.lib.Tensor):
            return t
        t = t.detach()
        t = t.float() if t.dtype == self.lib.bfloat16 else t
        return t.numpy() if self.device == "cpu" else self.xp.asarray(t)

    def function(self, name: str) -> Any:
        """PyTorch's function for an op of the table; LookupError if there is none."""
        from gradflow.op import table

        return reference(self.lib, table[name])

    def peak(self) -> int:
        """Bytes that PyTorch took from the card since forget()."""
        return self.lib.cuda.max_memory_reserved() if self.device == "cuda" else 0

    def forget(self) -> None:
        """Give memory that nobody uses back."""
        if self.device == "cuda":
            self.lib.cuda.empty_cache()
            self.lib.cuda.reset_peak_memory_stats()


# PyTorch's gradients of elementwise functions, in the order of our arguments.
BACKWARD = {
    "tanh_backward": lambda aten, g, y: aten.tanh_backward(g, y),
    "sigmoid_backward": lambda aten, g, y: aten.sigmoid_backward(g, y),
    "relu_backward": lambda aten, g, y: aten.threshold_backward(g, y, 0),
    "leaky_relu_backward": lambda aten, g, x, slope: aten.leaky_relu_backward(g, x, slope, False),
    "elu_backward": lambda aten, g, x, *scales: aten.elu_backward(g, *scales, False, x),
    "softplus_backward": lambda aten, g, x, beta, threshold: aten.softplus_backward(g, x, beta, threshold),
    "silu_backward": lambda aten, g, x: aten.silu_backward(g, x),
    "gelu_backward": lambda aten, g, x, approximate: aten.gelu_backward(g, x, approximate=approximate),
    "hardtanh_backward": lambda aten, g, x, low, high: aten.hardtanh_backward(g, x, low, high),
    "mish_backward": lambda aten, g, x: aten.mish_backward(g, x),
}


def reference(torch: Any, entry: Any) -> Any:
    """PyTorch's function for an op: by the name in the table, else torch.NAME, nn.functional.NAME, Tensor.NAME."""
    if entry.name in BACKWARD:
        return lambda *args: BACKWARD[entry.name](torch.ops.aten, *args)
    if callable(entry.reference):
        return lambda *args, **kwargs: entry.reference(torch, *args, **kwargs)
    if entry.reference is not None:
        paths = (
            [entry.reference]
            if entry.reference
            else [entry.name, f"nn.functional.{entry.name}", f"Tensor.{entry.name}"]
        )
        for path in paths:
            found = torch
            for part in path.split("."):
                found = getattr(found, part, None)
            if found is not None:
                return found
    raise LookupError(f"{entry.name}: PyTorch has no such function")


@contextlib.contextmanager
def on(side: Any) -> Iterator[Any]:
    """A column switched on."""
    side.begin()
    try:
        yield side
    finally:
        side.end()


# --- threads ----------------------------------------------------------------------------------------


def openblas() -> Any:
    """The functions get() and set(n) of the threads of NumPy's OpenBLAS, or None where it is another library."""
    try:
        with open("/proc/self/maps") as f:
            paths = {line.split()[-1] for line in f if "openblas" in line and "numpy" in line}
        for path in paths:
            library = ctypes.CDLL(path)
            for name in ("scipy_openblas_{}_num_threads64_", "openblas_{}_num_threads64_", "openblas_{}_num_threads"):
                if hasattr(library, name.format("get")):
                    return SimpleNamespace(
                        get=getattr(library, name.format("get")), set=getattr(library, name.format("set"))
                    )
    except OSError:
        pass
    return None


def set_threads(n: int) -> int:
    """Give NumPy's BLAS n threads, or leave it as it is for 0; the number of its threads, which PyTorch gets too."""
    blas = openblas()
    if n and blas is not None:
        blas.set(n)
    return int(blas.get()) if blas is not None else n or len(os.sched_getaffinity(0))


# --- which columns ----------------------------------------------------------------------------------


def sides(device: str, wanted: list[str] | None, threads: int) -> list[Any]:
    """The columns for a device: those asked for, or all that this machine has."""
    names = wanted or (["numpy", "torch"] if device == "cpu" else ["cupy", "twin", "graph", "torch"])
    if not wanted and device == "cuda" and cudnn.library() is not None:
        names.insert(2, "cudnn")
    found: list[Any] = []
    for name in names:
        if name not in ("torch", "compile"):
            found.append(Gradflow(name))
            continue
        try:
            side = Torch(device, threads, name)
        except ImportError:
            if wanted:
                raise
            continue
        if device == "cpu" or side.lib.cuda.is_available():
            found.append(side)
    return found
