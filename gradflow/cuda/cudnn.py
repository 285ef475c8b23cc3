"""cuDNN's convolutions, where NVIDIA's nvidia-cudnn-frontend is installed (extra `cudnn`): one more way to do a job.

The tuner may choose it, shape by shape; untuned, own kernels run. A graph holds one convolution, with the strides of arrays
without gaps in C order or channels last, and plans for it in the order of cuDNN's own guess, of which the first PLANS are
variants. Sums in float for
half types; no plan whose sums depend on chance, and for float none that rounds its inputs, to TF32 unless that is allowed.

The frontend itself builds its graphs in tests, without a card; plans and values are tested against a stand-in: it has not run
on a card.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cache, lru_cache
from importlib import import_module
from itertools import accumulate
from operator import mul
from typing import Any

from ..backend import Array, need_card
from ..ops.window import Window
from .conv_job import Job

PLANS = 4
TYPES = {"float": "FLOAT", "double": "DOUBLE", "__half": "HALF", "__nv_bfloat16": "BFLOAT16"}

_here = threading.local()  # handles: device -> cuDNN's handle; graphs: (device, job) -> Graph. A handle is of one thread


@cache
def library() -> Any:
    """The module cudnn if it and cuDNN itself are installed, else None."""
    try:
        module = import_module("cudnn")
        module.backend_version()
    except (ImportError, RuntimeError, OSError):
        return None
    return module


@lru_cache(maxsize=4096)
def variants(job: Job) -> list[tuple]:
    """cuDNN's ways to do a job: its name, version and the number of a plan; none if it is not installed or cannot.

    Which there really are turns out when one is run.
    """
    found, win = library(), job.win
    if found is None or job.activation or min(win.before) < 0:
        return []
    for size, b, e, reach, stride, out in zip(
        win.sizes, win.before, _behind(win), win.reach, win.stride, win.out, strict=True
    ):
        if (size + b + e - reach) // stride + 1 != out:  # it counts the windows itself
            return []
    return [("cudnn", found.backend_version(), plan) for plan in range(PLANS)]


def run(variant: tuple, job: Job, arrays: Sequence[Array | None]) -> None:
    """Do a job by a plan; the last of the arrays is written. NotImplementedError if cuDNN has no such plan."""
    cp, plan = need_card("cudnn"), variant[2]
    device = arrays[-1].device
    with device:
        handle = _handle(device.id)
        graphs = _here.__dict__.setdefault("graphs", {})
        graph = graphs.get((device.id, job))
        if graph is None:
            graph = graphs[device.id, job] = Graph(library(), handle, job)
        size = graph.workspace(plan)
        space = cp.empty(size, "uint8")  # from the current pool, in whose order it is given back
        library().set_stream(handle, cp.cuda.get_current_stream().ptr)
        graph(plan, [a.data.ptr for a in (arrays[0], arrays[1], arrays[-1])], space.data.ptr if size else 0, handle)
        if job.bias:
            out, b = arrays[-1], arrays[2]
            out += b.reshape(-1, *(1,) * len(job.win.sizes))


def _handle(device: int) -> Any:
    """The handle of this thread for a card, which is current."""
    handles = _here.__dict__.setdefault("handles", {})
    if device not in handles:
        handles[device] = library().create_handle()
    return handles[device]


def _strides(dims: Sequence[int], last: bool) -> list[int]:
    """Of an array without gaps in C order or with its channels last."""
    if last:
        n, c, *inner = _strides([dims[0], *dims[2:], dims[1]], False)
        return [n, inner[-1], c, *inner[:-1]]
    return [*accumulate(reversed(dims[1:]), mul, initial=1)][::-1]


def _behind(win: Window) -> list[int]:
    """The zeros behind the input that windows see."""
    return [max(0, span - size - b) for span, size, b in zip(win.span, win.sizes, win.before, strict=True)]


class Graph:
    """One convolution, or gradient of one, as cuDNN knows it, and its plans, each built when first asked for."""

    def __init__(self, cudnn: Any, handle: Any, job: Job) -> None:
        win, groups = job.win, job.win.groups
        dims = {
            "x": [job.n, groups * job.c, *win.sizes], "w": [groups * job.k, job.c, *win.kernel],
            "y": [job.n, groups * job.k, *win.out],
        }  # fmt: skip
        names = {"forward": "xwy", "input": "ywx", "weight": "yxw"}[job.what]
        strides = {name: _strides(dims[name], last) for name, last in zip(names, job.last, strict=True)}
        kind = getattr(cudnn.data_type, TYPES[job.type])
        sums = cudnn.data_type.DOUBLE if job.type == "double" else cudnn.data_type.FLOAT
        self.graph = graph = cudnn.pygraph(
            name=f"conv_{job.what}", io_data_type=kind, intermediate_data_type=sums, compute_data_type=sums, handle=handle
        )
        self.unsupported, self.sizes = cudnn.cudnnGraphNotSupportedError, {}

        def tensor(name: str) -> Any:
            return graph.tensor(dim=dims[name], stride=strides[name], data_type=kind, name=name)

        window = {
            "pre_padding": [*win.before], "post_padding": _behind(win), "stride": [*win.stride],
            "dilation": [*win.dilation], "compute_data_type": sums,
        }  # fmt: skip
        a, b, out = tensor(names[0]), tensor(names[1]), names[2]
        if job.what == "forward":
            result = graph.conv_fprop(image=a, weight=b, **window)
        elif job.what == "input":
            result = graph.conv_dgrad(loss=a, filter=b, **window)
        else:
            result = graph.conv_wgrad(image=b, loss=a, **window)
        result.set_output(True).set_dim(dims[out]).set_stride(strides[out]).set_data_type(kind)
        avoided = ["NONDETERMINISTIC", "REDUCED_PRECISION_REDUCTION"]
        if job.type in ("float", "double"):
            avoided += ["DOWN_CONVERT_INPUTS", *([] if job.tf32 else ["TENSOR_CORE"])]
        try:
            graph.validate()
            graph.build_operation_graph()
            graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
            graph.deselect_numeric_notes([getattr(cudnn.numerical_note, note) for note in avoided])
            graph.check_support()
        except self.unsupported as e:
            raise NotImplementedError(f"cudnn: no plan for {job}: {e}") from None
        self.tensors = [t.get_uid() for t in (a, b, result)]

    def workspace(self, plan: int) -> int:
        """The bytes that a plan wants, once it is built. NotImplementedError if there is no such plan."""
        if plan not in self.sizes:
            if plan >= self.graph.get_execution_plan_count():
                raise NotImplementedError(f"cudnn: wanted plan {plan}, saw {self.graph.get_execution_plan_count()}")
            try:
                self.graph.build_plan_at_index(plan)
            except self.unsupported as e:
                raise NotImplementedError(f"cudnn: plan {plan}: {e}") from None
            self.sizes[plan] = self.graph.get_workspace_size_plan_at_index(plan)
        return self.sizes[plan]

    def __call__(self, plan: int, pointers: Sequence[int], workspace: int, handle: Any) -> None:
        """Run a plan on the two inputs and the output at these addresses."""
        self.graph.execute_plan_at_index(dict(zip(self.tensors, pointers, strict=True)), workspace, plan, handle)
