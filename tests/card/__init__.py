"""The stand-in card: a module that plays CuPy 14 without a GPU and runs real CUDA texts, thread by thread.

Environment: GRADFLOW_CARD_CACHE, the folder of compiled kernels; GRADFLOW_CARD_TIMEOUT, seconds that one launch
may take; CXX, the compiler (GNU). Tests read counts: launches, allocations, host_copies, device_copies, operations,
synchronisations, graphs; `with card.launches() as work` lists what the device was asked to do, `with card.traffic() as t`
counts the bytes that kernels move. Graphs replay what was captured, asynchronous copies come as late as they may.
A .cu text sees GRADFLOW_HOST_CARD defined and may use card::warp_call and card::copy_async in place of assembly:
see card.h.
"""

import functools as _functools
import types as _types

import numpy as _np  # noqa: ICN001 - a name of CuPy's is public here, this one is not

from . import array as _array
from . import cuda
from .array import Ufunc as ufunc
from .array import apply as _apply
from .array import device as _device
from .array import fresh as _fresh
from .array import ndarray
from .build import CompileException
from .cublas import _core  # noqa: F401 - read as cupy._core
from .differs import ABSENT as _ABSENT
from .elementwise import ElementwiseKernel
from .kernel import RawKernel, RawModule
from .memory import CardError, OutOfMemoryError, UnownedMemory, check, counts
from .memory import default_pool as _pool
from .memory import pinned_pool as _pinned
from .memory import refuse_capture as _refuse_capture
from .traffic import Traffic as traffic
from .work import Launches as launches
from .work import note as _note

__version__ = "14.2.0"
is_available = cuda.is_available


def _holds_card_arrays(a):
    return isinstance(a, (list, tuple)) and any(isinstance(v, ndarray) or _holds_card_arrays(v) for v in a)


def _host_or_card(name):
    """asarray and its family: the one door for host data."""
    function = getattr(_np, name)

    @_functools.wraps(function)
    def call(a, *args, **kwargs):
        for extra in ("blocking", "stream"):
            kwargs.pop(extra, None)
        if not isinstance(a, ndarray):
            if not _holds_card_arrays(a):
                _refuse_capture(f"{name}: a copy from host to device")
                counts.device_copies += 1
                _note("upload", name, _np.asarray(a).nbytes)
            if kwargs.get("copy") is None:
                kwargs.pop("copy", None)
        return _apply(function, (a, *args), kwargs, name, host_ok=True)

    return call


array, asarray, asanyarray = (_host_or_card(n) for n in ("array", "asarray", "asanyarray"))
ascontiguousarray, asfortranarray = (_host_or_card(n) for n in ("ascontiguousarray", "asfortranarray"))


def empty(shape, dtype=float, order="C"):
    return _fresh(shape, dtype, order)


def empty_like(a, dtype=None, order="K", subok=None, shape=None):
    if not isinstance(a, ndarray):
        raise _array.unsupported(a)
    out = _device(_np.empty_like(a._a, dtype, order, False, shape))
    if out.size:
        _np.asarray(out._memory)[...] = _array.poison(out.dtype)
    return out


def asnumpy(a, stream=None, order="C", out=None, *, blocking=True):
    """A host copy; host data passes through."""
    if isinstance(a, ndarray):
        return a.get(order=order, out=out)
    if out is not None:
        out[...] = a
        return out
    return _np.asarray(a, order=order)


def get_array_module(*args):
    import sys

    return sys.modules[__name__] if any(isinstance(a, ndarray) for a in args) else _np


def from_dlpack(x, *, device=None, copy=None):
    if not isinstance(x, ndarray):
        raise BufferError(f"the stand-in card cannot take {type(x)} by DLPack")
    return x[...]


def get_default_memory_pool():
    return _pool


def get_default_pinned_memory_pool():
    return _pinned


def copyto(dst, src, casting="same_kind", where=None):
    _apply(_np.copyto, (dst, src), {"casting": casting, "where": True if where is None else where}, "copyto")


def _wrap(module, name, path=""):
    """A name of a NumPy module as CuPy would offer it."""
    of = getattr(module, name)
    if isinstance(of, _np.ufunc):
        return ufunc(of)
    if isinstance(of, type) or not callable(of):
        return of

    @_functools.wraps(of)
    def call(*args, **kwargs):
        return _apply(of, args, kwargs, path + name)

    return call


def _submodule(path, module):
    """numpy.<path> as a module of the card's."""
    sub = _types.ModuleType(f"{__name__}.{path}")

    def lookup(name):
        if name.startswith("__") or name in _ABSENT.get(path, ()) or not hasattr(module, name):
            raise AttributeError(f"module 'cupy.{path}' has no attribute {name!r}")
        of = getattr(module, name)
        if isinstance(of, _types.ModuleType):
            found = _submodule(f"{path}.{name}", of)
        else:
            found = _wrap(module, name, "random." if path == "random" else "")
        setattr(sub, name, found)
        return found

    sub.__getattr__ = lookup
    return sub


linalg, fft, random, lib = (_submodule(n, getattr(_np, n)) for n in ("linalg", "fft", "random", "lib"))


class testing:
    """Assertions that bring both sides to the host themselves."""

    @staticmethod
    def assert_allclose(actual, desired, rtol=1e-7, atol=0, err_msg="", verbose=True):
        _np.testing.assert_allclose(asnumpy(actual), asnumpy(desired), rtol, atol, err_msg=err_msg, verbose=verbose)

    @staticmethod
    def assert_array_equal(actual, desired, err_msg="", verbose=True):
        _np.testing.assert_array_equal(asnumpy(actual), asnumpy(desired), err_msg=err_msg, verbose=verbose)


def __getattr__(name):
    if name.startswith("_") or name in _ABSENT[""] or not hasattr(_np, name):
        raise AttributeError(f"module 'cupy' has no attribute {name!r}")
    of = getattr(_np, name)
    if isinstance(of, _types.ModuleType):
        raise AttributeError(f"module 'cupy' has no attribute {name!r}")
    found = globals()[name] = _wrap(_np, name)
    return found


__all__ = [
    "CardError", "CompileException", "ElementwiseKernel", "OutOfMemoryError", "RawKernel", "RawModule", "UnownedMemory",
    "array", "asarray", "asnumpy", "check", "counts", "cuda", "launches", "ndarray",
    "traffic",
]  # fmt: skip
