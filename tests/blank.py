"""A card without effect beneath the real CuPy: its memory is the host's, its kernels do nothing.

CuPy's compiled modules call the CUDA runtime and driver through tables of C functions that they read when they are imported.
plug(), before anything imports cupy, writes the functions of this file into them. What lies above is CuPy itself: arrays,
views, copies, dtypes, generated and compiled kernels, packed arguments, pools, streams, captures. Memory starts as zeros and
copies are made, so what does not depend on a kernel's numbers is as on a card.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import re
import subprocess
import tempfile
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

TYPES = {
    "int": ctypes.c_int, "unsigned int": ctypes.c_uint, "size_t": ctypes.c_size_t, "intptr_t": ctypes.c_ssize_t,
    "uintmax_t": ctypes.c_size_t, "float": ctypes.c_float, "CUdevice": ctypes.c_int, "cudaMemcpyKind": ctypes.c_int,
    "PyObject *": ctypes.py_object,
}  # fmt: skip
PROPERTIES = dict(
    name=b"blank", major=9, minor=0, multiProcessorCount=132, warpSize=32, maxThreadsPerBlock=1024, totalGlobalMem=80 << 30,
    maxThreadsPerMultiProcessor=2048, sharedMemPerBlock=49152, sharedMemPerBlockOptin=232448, regsPerBlock=65536,
    sharedMemPerMultiprocessor=233472, regsPerMultiprocessor=65536, l2CacheSize=60 << 20,
)  # fmt: skip
ATTRIBUTES = {75: 9, 76: 0, 16: 132, 97: 232448, 115: 1}  # by cudaDeviceAttr: capability, multiprocessors, shared memory, pools

launches: list[tuple] = []  # (name, grid, block, bytes of shared memory, stream) of each kernel that would have run
_numbers = itertools.count(0x1000, 16)
_kept: list = []  # what C holds by address


def _new(*_args):
    return next(_numbers)


def _memory(size, *_args):
    """Zeros at a multiple of 512, as CUDA's."""
    block = ctypes.create_string_buffer(max(size, 1) + 511)
    address = -(-ctypes.addressof(block) // 512) * 512
    _blocks[address] = block
    return address


_blocks: dict = {}


def _free(address, *_args):
    _blocks.pop(address, None)


def _move(to, source, size, *_args):
    ctypes.memmove(to, source, size)


class Runtime:
    """CUDA's runtime, as CuPy 14 calls it."""

    def __init__(self):
        self.capturing = set()

    getDeviceCount = staticmethod(lambda: 1)
    _getCUDAMajorVersion = staticmethod(lambda: 13)
    runtimeGetVersion = driverGetVersion = staticmethod(lambda: 13000)
    memGetInfo = staticmethod(lambda: (72 << 30, 80 << 30))
    malloc = mallocAsync = mallocFromPoolAsync = hostAlloc = mallocManaged = staticmethod(_memory)
    free = freeAsync = freeHost = staticmethod(_free)
    memcpy = memcpyAsync = staticmethod(_move)
    memset = memsetAsync = staticmethod(lambda to, value, size, *_args: ctypes.memset(to, value, size) and None)
    streamCreate = streamCreateWithFlags = streamCreateWithPriority = eventCreate = eventCreateWithFlags = staticmethod(_new)
    graphInstantiate = deviceGetDefaultMemPool = deviceGetMemPool = memPoolCreate = staticmethod(_new)
    eventElapsedTime = staticmethod(lambda *_args: 1.0)
    deviceGetPCIBusId = staticmethod(lambda device: "0000:00:00.0")
    getDeviceProperties = staticmethod(lambda device: dict(PROPERTIES))
    deviceGetAttribute = staticmethod(lambda attribute, device: ATTRIBUTES.get(attribute, 1024))
    pointerGetMemoryType = staticmethod(lambda address: 2)

    def pointerGetAttributes(self, address):
        return import_module("cupy_backends.cuda.api.runtime").PointerAttributes(0, address, address, 2)

    def streamBeginCapture(self, stream, *_args):
        self.capturing.add(stream)

    def streamIsCapturing(self, stream):
        return int(stream in self.capturing)

    def streamEndCapture(self, stream):
        self.capturing.discard(stream)
        return _new()


class Driver:
    """CUDA's driver."""

    def __init__(self):
        self.names = {}

    get_build_version = staticmethod(lambda: 13000)
    ctxGetCurrent = ctxCreate = streamGetCtx = staticmethod(lambda *_args: 1)
    moduleLoad = moduleLoadData = staticmethod(_new)
    moduleGetGlobal = staticmethod(lambda module, name: _memory(1 << 16))
    funcGetAttribute = staticmethod(lambda attribute, function: 0 if attribute else 1024)
    occupancyMaxActiveBlocksPerMultiprocessor = staticmethod(lambda *_args: 2)
    occupancyMaxPotentialBlockSize = staticmethod(lambda *_args: (132, 256))

    def moduleGetFunction(self, module, name):
        self.names[number := _new()] = name
        return number

    def launchKernel(self, function, x, y, z, u, v, w, shared, stream, parameters, extra):
        launches.append((self.names[function], (x, y, z), (u, v, w), shared, stream))


def _played(module, player):
    """Put a player's methods, and for other names nothing that succeeds, into a module's table and its namespace."""
    new, name = ctypes.pythonapi.PyCapsule_New, ctypes.pythonapi.PyCapsule_GetName
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    name.restype, name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    for key, capsule in list(module.__pyx_capi__.items()):
        signature = name(capsule)
        found = re.fullmatch(r"(.*?) ?\((.*)\)", signature.decode())
        back = found and (TYPES.get(found[1]) or (ctypes.py_object if "struct" in found[1] else None))
        if not back:  # a variable, or a struct by value, which nothing here asks for
            continue
        words = [w.strip() for w in found[2].split(",") if w.strip() != "void"]
        given = [TYPES[w] for w in words if "__pyx" not in w]  # what follows is Cython's own
        own = [ctypes.c_void_p if "struct" in w else ctypes.c_int for w in words[len(given) :]]
        nothing = None if back is ctypes.py_object else 0
        method = getattr(player, key, None) or (lambda *args, nothing=nothing: nothing)
        call = ctypes.PYFUNCTYPE(back, *given, *own)(lambda *args, f=method, n=len(given): f(*args[:n]))
        _kept.append((call, signature))
        module.__pyx_capi__[key] = new(ctypes.cast(call, ctypes.c_void_p), signature, None)
        setattr(module, key, method)


def library(name, functions):
    """Load a shared library of this name made from C functions; those given as a bare name do nothing and succeed."""
    text = "\n".join(f if "(" in f else f"int {f}(void) {{ return 0; }}" for f in functions)
    with tempfile.TemporaryDirectory() as folder:
        source, versions, made = (Path(folder) / f for f in ("stub.c", "stub.map", name))
        source.write_text("#include <stddef.h>\n#include <stdint.h>\n" + text + "\n")
        versions.write_text(f"{name} {{ *; }};\n")
        subprocess.run(
            [os.environ.get("CC", "cc"), "-shared", "-fPIC", "-w", "-o", made, source, f"-Wl,-soname,{name}",
             f"-Wl,--version-script={versions}"], check=True,
        )  # fmt: skip
        _kept.append(ctypes.CDLL(str(made), mode=ctypes.RTLD_GLOBAL))


LIBRARIES = {
    "libcublas.so.13": "cupy_backends.cuda.libs.cublas", "libcusolver.so.12": "cupy_backends.cuda.libs.cusolver",
    "libcusparse.so.12": "cupy_backends.cuda.libs.cusparse", "libcurand.so.10": "cupy_backends.cuda.libs.curand",
    "libcufft.so.12": "cupy.cuda.cufft",
}  # fmt: skip
# Where the size of a workspace comes back: the number of arguments before it.
SIZES = dict(
    getrf=5, potrf=5, geqrf=5, orgqr=7, ungqr=7, gesvd=3, syevd=7, heevd=7, gesvdj=12, gesvdjBatched=11, syevj=7, heevj=7,
    syevjBatched=7, heevjBatched=7,
)  # fmt: skip
WRITTEN = [
    "int cufftCreate(int *plan) { *plan = 5; return 0; }",
    "int cufftMakePlan1d(int p, int n, int t, int b, size_t *size) { *size = 0; return 0; }",
    """int cufftMakePlanMany(int p, int r, void *n, void *i, int j, int k, void *o, int s, int d, int t, int b, size_t *size)
    { *size = 0; return 0; }""",
    """int cusolverDnXsyevd_bufferSize(long a, long b, long c, long d, long e, long f, long g, long h, long i, long j, long k,
    size_t *card, size_t *host) { *card = *host = 8; return 0; }""",
]


def _function(name):
    """A library's function of this name in C."""
    for text in WRITTEN:
        if f" {name}(" in text:
            return text
    sized = re.fullmatch(r"cusolverDn[SDCZ](\w+)_bufferSize", name)
    if sized and sized[1] in SIZES:
        before = ", ".join(f"long a{i}" for i in range(SIZES[sized[1]]))
        return f"int {name}({before}, int *size) {{ *size = 1; return 0; }}"
    if "Create" in name:
        return f"int {name}(void **made) {{ *made = (void *)0x5000; return 0; }}"
    return name


def _libraries():
    """What CuPy asks of NVIDIA's libraries, doing nothing."""
    library("libnvJitLink.so.13", ["nvJitLinkVersion"])  # which cuSOLVER wants to be there
    folder = Path(find_spec("cupy_backends").origin).parents[1]
    for so, module in LIBRARIES.items():
        (file,) = folder.glob(module.replace(".", "/") + ".*.so")
        listed = subprocess.run(["nm", "-D", "--undefined-only", file], capture_output=True, text=True, check=True).stdout
        names = {w.split("@")[0] for w in listed.split() if w.endswith(f"@{so}")}
        library(so, [_function(n) for n in sorted(names)])


def plug(compiled=lambda names: False):
    """CuPy on a blank card. compiled: whether NVRTC shall compile a text with these name expressions (None: CuPy's own)."""
    os.environ["CUPY_ACCELERATORS"] = ""  # CUB calls the runtime by itself
    _libraries()
    _played(import_module("cupy_backends.cuda.api.runtime"), Runtime())
    _played(import_module("cupy_backends.cuda.api.driver"), Driver())
    import cupy
    from cupy.cuda import compiler, function, thrust

    cupy.cuda.set_allocator(None)  # memory that was used before would not be zeros
    for name in ("sort", "argsort", "lexsort"):
        setattr(thrust, name, lambda *args: None)
    real = compiler._compile_module_with_cache

    def compile(source, options=(), *, name_expressions=None, **others):
        if compiled(name_expressions):
            return real(source, options, name_expressions=name_expressions, **others)
        module = function.Module()
        module._set_mapping({n: n for n in name_expressions or ()})
        module.load(b"")
        return module

    compiler._compile_module_with_cache = compile
    return cupy
