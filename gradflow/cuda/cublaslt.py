"""cuBLASLt through nvmath-python, where it is installed: products with a bias and an activation, and under capture.

A plan, which holds the library's descriptors and the algorithm that it recommends, is made once for each problem. Unlike
CuPy's bindings these may be called while a stream captures. GRADFLOW_CUBLASLT=0 leaves the library alone.
"""

from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np

from .. import backend
from ..backend import Array
from . import launch

WORKSPACE = 32 << 20  # bytes, as much as cuBLAS itself takes on Hopper
# What the library can do to a result, by (activation, whether there is a bias); its gelu is the one of tanh.
EPILOGUES = {
    (None, False): "DEFAULT", (None, True): "BIAS", ("relu", False): "RELU", ("relu", True): "RELU_BIAS",
    ("gelu_tanh", False): "GELU", ("gelu_tanh", True): "GELU_BIAS",
}  # fmt: skip

_library: Any = None  # nvmath.bindings.cublasLt, False if it cannot be used, None if nobody asked yet
_handles: dict[int, int] = {}  # one per device
_workspaces: dict[tuple[int, int], Any] = {}  # one per device and stream: products on one stream follow each other
_plans: dict[tuple, Any] = {}  # by problem; None if the library knows no algorithm
_lock = threading.Lock()


def library() -> Any:
    """The bindings, or None."""
    global _library
    if _library is None:
        _library = False
        if os.environ.get("GRADFLOW_CUBLASLT", "1") != "0":
            try:
                from nvmath.bindings import cublasLt

                cublasLt.get_version()  # loads the library
                _library = cublasLt
            except Exception:  # noqa: BLE001 - no package, no library, no driver: there is no saying what it raises
                pass
    return _library or None


def forget() -> None:
    """Drop plans, workspaces and what was found out, for tests that bring another library."""
    global _library
    for plan in _plans.values():
        if plan is not None:
            plan.close()
    for found in (_plans, _workspaces, _handles):
        found.clear()
    _library = None


launch.caches.append(forget)


class Plan:
    """y^T = f(b^T a^T + bias) as the library sees it, whose matrices lie column by column."""

    def __init__(self, lt: Any, handle: int, key: tuple) -> None:
        kind, compute, scale, (n, m, k), (turn_b, ldb, t), (turn_a, lda, s), count, epilogue, aligned = key
        self.lt, self.layouts = lt, []
        self.desc = lt.matmul_desc_create(compute, scale)
        of = lt.MatmulDescAttribute
        self._tell(lt.matmul_desc_set_attribute, self.desc, of.TRANSA, np.int32(turn_b))
        self._tell(lt.matmul_desc_set_attribute, self.desc, of.TRANSB, np.int32(turn_a))
        self._tell(lt.matmul_desc_set_attribute, self.desc, of.EPILOGUE, np.uint32(lt.Epilogue[epilogue]))
        self.bias = np.zeros(1, np.int64) if epilogue.endswith("BIAS") else None
        self.bias_attribute = int(of.BIAS_POINTER)
        for rows, wide, ld, apart in (
            (k if turn_b else n, n if turn_b else k, ldb, t), (m if turn_a else k, k if turn_a else m, lda, s), (n, m, n, m * n),
        ):  # fmt: skip
            layout = lt.matrix_layout_create(kind, rows, wide, ld)
            self.layouts.append(layout)
            if count > 1:
                of = lt.MatrixLayoutAttribute
                self._tell(lt.matrix_layout_set_attribute, layout, of.BATCH_COUNT, np.int32(count))
                self._tell(lt.matrix_layout_set_attribute, layout, of.STRIDED_BATCH_OFFSET, np.int64(apart))
        self.found = lt.MatmulHeuristicResult(1)
        self.algorithm = int(self.found.ptr)  # its first member
        self.known = self._ask(handle, aligned)

    def _ask(self, handle: int, aligned: tuple[int, int, int]) -> bool:
        """Whether the library recommends an algorithm."""
        lt, count = self.lt, np.zeros(1, np.int32)
        preference = lt.matmul_preference_create()
        of = lt.MatmulPreferenceAttribute
        b, a, y = aligned
        for attribute, value in (
            (of.MAX_WORKSPACE_BYTES, np.uint64(WORKSPACE)), (of.MIN_ALIGNMENT_A_BYTES, np.uint32(b)),
            (of.MIN_ALIGNMENT_B_BYTES, np.uint32(a)), (of.MIN_ALIGNMENT_C_BYTES, np.uint32(y)),
            (of.MIN_ALIGNMENT_D_BYTES, np.uint32(y)),
        ):  # fmt: skip
            self._tell(lt.matmul_preference_set_attribute, preference, attribute, value)
        b, a, y = self.layouts
        try:
            lt.matmul_algo_get_heuristic(
                handle, self.desc, b, a, y, y, preference, 1, self.algorithm, count.ctypes.data
            )
        except Exception:  # noqa: BLE001 - the library has no algorithm: its words for it differ by version
            return False
        finally:
            lt.matmul_preference_destroy(preference)
        return bool(count[0])

    @staticmethod
    def _tell(function: Any, descriptor: int, attribute: int, value: np.generic) -> None:
        held = np.array([value])
        function(descriptor, int(attribute), held.ctypes.data, held.nbytes)

    def run(self, handle: int, scales: tuple[int, int], b: int, a: int, y: int, bias: int, workspace: Any, stream: int) -> None:
        """Multiply the arrays at these addresses."""
        if self.bias is not None:
            self.bias[0] = bias
            self.lt.matmul_desc_set_attribute(self.desc, self.bias_attribute, self.bias.ctypes.data, 8)
        of_b, of_a, of_y = self.layouts
        self.lt.matmul(handle, self.desc, scales[0], b, of_b, a, of_a, scales[1], y, of_y, y, of_y, self.algorithm,
                       workspace.ptr, WORKSPACE, stream)  # fmt: skip

    def close(self) -> None:
        """Give the descriptors back."""
        for layout in self.layouts:
            self.lt.matrix_layout_destroy(layout)
        self.lt.matmul_desc_destroy(self.desc)


def product(cp: Any, p: Any, out: Array, bias: Array, activation: str | None) -> bool:
    """Write activation(a b + bias) into out, if the library is there and does it; p is a gemm.Problem."""
    epilogue = EPILOGUES.get((activation, bias is not None))
    lt = library()
    if lt is None or epilogue is None or len(p.stack) > 1:
        return False
    from . import gemm

    dtype = out.dtype
    if dtype == backend.float64 and epilogue != "DEFAULT":
        return False
    (b, turn_b, ldb), (a, turn_a, lda), count, t, s = gemm.blas(p)
    if bias is not None:
        bias = launch.contiguous(bias)
    scale, device = gemm.scale_of(dtype), out.device.id
    pointers = b.data.ptr, a.data.ptr, out.data.ptr
    key = (
        gemm.type_of(dtype), gemm.compute_of(dtype), int(scale is np.float64), (p.n, p.m, p.k), (turn_b, ldb, t),
        (turn_a, lda, s), count, epilogue, tuple([min(x & -x, 256) for x in pointers]),
    )  # fmt: skip
    with _lock:  # a plan is told the bias's address and then run
        handle = _handles.get(device)
        if handle is None:
            handle = _handles[device] = lt.create()
        plan = _plans.get((device, key), False)
        if plan is False:
            plan = Plan(lt, handle, key)
            if not plan.known:
                plan.close()
                plan = None
            _plans[device, key] = plan
        if plan is None:
            return False
        stream = cp.cuda.get_current_stream().ptr
        workspace = _workspaces.get((device, stream))
        if workspace is None:
            workspace = _workspaces[device, stream] = cp.cuda.alloc(WORKSPACE)
        plan.run(handle, (gemm.ALPHA[scale], gemm.BETA[scale]), *pointers, 0 if bias is None else bias.data.ptr, workspace, stream)
    return True
