"""RawModule and RawKernel: compile a CUDA text with g++, check a launch's arguments, run every thread of the grid."""

import ctypes
import functools
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np

from . import memory, source, traffic, work
from .array import ndarray
from .build import CHECKS, COUNTS, CompileException, build, runtime
from .differs import BFLOAT16
from .memory import CardError, MemoryPointer, counts

patience = float(os.environ.get("GRADFLOW_CARD_TIMEOUT", "120"))  # seconds that one launch may take
STATIC_LIMIT, DYNAMIC_LIMIT = 48 << 10, 227 << 10
SIGNALS = {104: "illegal instruction", 105: "trap", 107: "misaligned address", 108: "integer division by zero"}
SIGSEGV = 111


class Parameter(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_int), ("bytes", ctypes.c_int), ("to", ctypes.c_int), ("to_bytes", ctypes.c_int)]

    def __str__(self):
        names = {"b": "bool", "h": "half", "B": "bfloat16", "o": "struct", "v": "void"}
        kinds = {"i": "int", "u": "unsigned int", "f": "float"}

        def name(kind, size):
            return names.get(kind) or f"{kinds[kind]}{8 * size}" if kind != "p" else "pointer"

        kind = chr(self.kind)
        return f"{name(chr(self.to), self.to_bytes)}*" if kind == "p" else name(kind, self.bytes)


class Export(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("run", ctypes.c_void_p),
        ("parameters", ctypes.POINTER(Parameter)),
        ("count", ctypes.c_int),
    ]


class Launch(ctypes.Structure):
    _fields_ = [
        ("run", ctypes.c_void_p),
        ("args", ctypes.c_void_p),
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared", ctypes.c_uint64),
        ("limit", ctypes.c_uint64),
        ("seconds", ctypes.c_double),
        ("backwards", ctypes.c_int),
    ]


class Report(ctypes.Structure):
    _fields_ = [
        ("code", ctypes.c_int),
        ("line", ctypes.c_int),
        ("write", ctypes.c_int),
        ("address", ctypes.c_uint64),
        ("instruction", ctypes.c_uint64),
        ("block", ctypes.c_uint * 3),
        ("thread", ctypes.c_uint * 3),
        ("file", ctypes.c_char * 120),
        ("text", ctypes.c_char * 400),
    ]


launching = memory.lock  # a kernel allocates its shared arrays from the same heap


def describe_address(report):
    """Where a faulting access points, in words."""
    verb = {1: "write to", 0: "read from"}.get(report.write, "access to")
    if report.text:
        return f"illegal {verb} {report.text.decode()}"
    near = memory.owner_of(report.address)
    if report.address < 4096:
        return f"illegal {verb} a null pointer (an array without elements, or None, has no memory)"
    if near is None:
        return f"illegal {verb} address {report.address:#x}: no array there"
    block, offset = near
    return f"illegal {verb} byte {offset} of an allocation of {block.size} bytes"


def place(report):
    """The file and line of an error: as reported, or found by addr2line from the faulting instruction."""
    if report.line:
        return f", {Path(report.file.decode()).name}:{report.line}".replace("<stdin>:", "line ")
    maps = Path("/proc/self/maps")
    for line in (
        maps.read_text().splitlines() if report.instruction and maps.exists() and shutil.which("addr2line") else ()
    ):
        found = re.match(r"([0-9a-f]+)-([0-9a-f]+) r-xp ([0-9a-f]+) \S+ \S+ +(\S+\.so)$", line)
        if found and int(found[1], 16) <= report.instruction < int(found[2], 16):
            offset = report.instruction - int(found[1], 16) + int(found[3], 16)
            done = subprocess.run(
                ["addr2line", "-e", found[4], hex(offset)], capture_output=True, text=True, check=False
            )
            return ", " + Path(done.stdout.strip().split(" ")[0]).name.replace("<stdin>:", "line ")
    return ""


def raise_report(name, report):
    if report.code == 100 + 11:
        what = describe_address(report)
    elif report.code > 100:
        what = SIGNALS.get(report.code, f"signal {report.code - 100}")
    else:
        what = report.text.decode()
    where = f"[block {tuple(report.block)}, thread {tuple(report.thread)}{place(report)}]"
    raise CardError(f"kernel {name}: {what} {where}")


def check_pointer(name, i, p, dtype):
    """A pointer parameter must point to elements like the array's: the real card would silently reinterpret them."""
    to, size = chr(p.to), p.to_bytes
    if to in "vop" or size == 1 or (dtype.kind == "V" and dtype != BFLOAT16):
        return
    if to == "h":
        fits = dtype == np.float16
    elif to == "B":
        fits = dtype == BFLOAT16
    elif to == "f":
        fits = dtype.kind in "fc" and dtype != BFLOAT16 and (dtype.itemsize == size or dtype.itemsize == 2 * size)
        fits = fits and (dtype.kind == "c") == (dtype.itemsize == 2 * size)
    else:  # integers of either sign; also the bits of a 16-bit float
        fits = (dtype.itemsize == size and dtype.kind in "iub") or (size == 2 and dtype.itemsize == 2)
    if not fits:
        raise TypeError(f"kernel {name}: argument {i} is an array of {dtype}, the parameter is {p}")


def scalar_of(x):
    """CuPy's reading of a scalar argument: Python numbers become the widest type of their kind."""
    if isinstance(x, np.generic):
        return x
    for kind, to in ((bool, np.bool_), (int, np.int64), (float, np.float64), (complex, np.complex128)):
        if isinstance(x, kind):
            return to(x)
    return None


def pack(name, i, p, arg, used):
    """One argument as a ctypes buffer holding its bytes."""
    kind = chr(p.kind)
    if arg is None or isinstance(arg, (ndarray, MemoryPointer)):
        if kind != "p":
            raise TypeError(f"kernel {name}: argument {i} is an array, the parameter is {p}")
        if isinstance(arg, ndarray):
            check_pointer(name, i, p, arg.dtype)
            used.append(arg._memory)
            return ctypes.c_uint64(arg.data.ptr)
        return ctypes.c_uint64(arg.ptr if arg is not None else 0)
    if isinstance(arg, np.ndarray):
        if arg.dtype.kind == "V" and arg.ndim == 0 and kind == "o" and arg.nbytes == p.bytes:
            return ctypes.create_string_buffer(arg.tobytes(), arg.nbytes)  # a struct by value
        raise TypeError(f"kernel {name}: argument {i}: Unsupported type {type(arg)}")
    value = scalar_of(arg)
    if value is None:
        raise TypeError(f"kernel {name}: argument {i}: Unsupported type {type(arg)}")
    dtype = value.dtype
    seen = "b" if dtype.kind == "b" else "h" if dtype == np.float16 else "B" if dtype == BFLOAT16 else dtype.kind
    same = dtype.itemsize == p.bytes and (
        seen == kind or {seen, kind} <= {"i", "u"} or kind == "o" or (kind == "p" and seen in "iu")
    )
    if not same:
        raise TypeError(
            f"kernel {name}: argument {i} is {type(arg).__name__} ({dtype}, {dtype.itemsize} bytes), "
            f"the parameter is {p} ({p.bytes} bytes)"
        )
    return ctypes.create_string_buffer(value.tobytes(), dtype.itemsize)


def three(what, dims, most):
    dims = (dims,) if isinstance(dims, (int, np.integer)) else tuple(dims)
    if not 1 <= len(dims) <= 3:
        raise ValueError(f"{what} must have 1 to 3 dimensions, not {len(dims)}")
    dims = tuple(int(d) for d in dims) + (1,) * (3 - len(dims))
    if any(d < 1 or d > m for d, m in zip(dims, most, strict=True)):
        raise CardError(f"CUDA_ERROR_INVALID_VALUE: invalid argument: {what} {dims}, the limits are 1 to {most}")
    return dims


class Function:
    """A compiled kernel; call it with (grid, block, args)."""

    def __init__(self, library, export, text):
        code, self.text = text[0], text
        self.name = export.name.decode()
        self.max_threads_per_block = source.launch_bounds(code).get(self.name.split("<")[0].split("::")[-1], 1024)
        self.library, self.run, self.launches = library, export.run, 0
        self.parameters = [export.parameters[i] for i in range(export.count)]
        self.max_dynamic_shared_size_bytes = STATIC_LIMIT
        self.preferred_shared_memory_carveout = -1

    num_regs = local_size_bytes = const_size_bytes = shared_size_bytes = 0
    binary_version, ptx_version, cache_mode_ca = 90, 90, 0

    @property
    def kernel(self):
        return self

    @property
    def attributes(self):
        names = (
            "binary_version cache_mode_ca const_size_bytes local_size_bytes max_dynamic_shared_size_bytes "
            "max_threads_per_block num_regs preferred_shared_memory_carveout ptx_version shared_size_bytes"
        )
        return {n: getattr(self, n) for n in names.split()}

    def compile(self, log_stream=None):
        pass

    def __call__(self, grid, block, args, *, shared_mem=0, stream=None, enable_cooperative_groups=False):
        grid = three("grid", grid, (2**31 - 1, 65535, 65535))
        block = three("block", block, (1024, 1024, 64))
        if block[0] * block[1] * block[2] > self.max_threads_per_block:
            raise CardError(
                f"CUDA_ERROR_INVALID_VALUE: kernel {self.name}: block {block} has more than "
                f"{self.max_threads_per_block} threads"
            )
        allowed = self.max_dynamic_shared_size_bytes
        if shared_mem > min(allowed, DYNAMIC_LIMIT):
            raise CardError(
                f"CUDA_ERROR_INVALID_VALUE: kernel {self.name} asks for {shared_mem} bytes of dynamic "
                f"shared memory, max_dynamic_shared_size_bytes is {allowed} and the card has {DYNAMIC_LIMIT}"
            )
        if len(args) != len(self.parameters):
            raise TypeError(f"kernel {self.name} has {len(self.parameters)} parameters, the launch gives {len(args)}")
        used = []
        packed = [pack(self.name, i, p, a, used) for i, (p, a) in enumerate(zip(self.parameters, args, strict=True))]
        self.run_packed(grid, block, packed, used, int(shared_mem), args)

    def run_packed(self, grid, block, packed, used, shared_mem, args, kind="kernel"):
        """Launch with arguments that are ctypes buffers already, made of 'args'."""
        from .cuda import capturing

        table = (ctypes.c_void_p * (len(packed) + 1))(*[ctypes.addressof(b) for b in packed])
        launch = Launch(self.run, ctypes.addressof(table), grid, block, shared_mem, 0, patience, self.launches % 2)
        self.launches += 1  # every second launch runs its blocks and threads from the last to the first
        launch.limit = STATIC_LIMIT if self.max_dynamic_shared_size_bytes <= STATIC_LIMIT else DYNAMIC_LIMIT
        counts.launches += 1
        if work.logs:
            read = sum(x.nbytes for x in args if isinstance(x, ndarray))
            work.note(kind, self.name, read=read)
        capture = capturing()
        if capture is None:
            self._go(launch, used)
        else:
            alive = (packed, table)  # the launch points into them
            blocks = [m.keep() if isinstance(m, memory.Memory) else m for m in used]
            capture.add(f"kernel {self.name}", lambda: (alive, self._go(launch, blocks)), used)

    def _go(self, launch, used):
        report = Report()
        with launching:
            if traffic.open_counts:
                traffic.counted(self.name, launch, report, load(*self.text, counted=True)[1][self.name].run)
            else:
                runtime().card_launch_kernel(ctypes.addressof(launch), ctypes.addressof(report))
        if report.code:
            for m in used:
                m.told = True  # what else this kernel broke is no news
            raise_report(self.name, report)
        reasons = [r for r in (m.check() for m in used if m is not None) if r] + memory.broken
        memory.broken.clear()
        if reasons:
            raise CardError(f"kernel {self.name}: {'; '.join(reasons)}")


def cpp_options(options):
    """Of NVRTC's options, those that mean something to g++."""
    return tuple(o for o in options if o[:2] in ("-D", "-U", "-I"))


@functools.cache
def load(code, options, names, counted=False):
    """The functions of a text by name; built to be counted, if asked for."""
    plain = tuple(source.plain_kernels(code))
    text = source.translate(code) + source.exports((*plain, *names))
    runtime()  # its symbols must be there first
    library = ctypes.CDLL(str(build(text, cpp_options(options), COUNTS if counted else CHECKS)))
    table = ctypes.cast(ctypes.addressof(ctypes.c_char.in_dll(library, "card_exports")), ctypes.POINTER(Export))
    found, i = {}, 0
    while table[i].name:
        found[table[i].name.decode()] = table[i]
        i += 1
    return library, found


@functools.cache
def load_function(code, options, name):
    library, found = load(code, options, ())
    return Function(library, found[name], (code, options, ()))


class RawModule:
    """A CUDA text of several kernels."""

    def __init__(
        self,
        *,
        code=None,
        path=None,
        options=(),
        backend="nvrtc",
        translate_cucomplex=False,
        enable_cooperative_groups=False,
        name_expressions=None,
        jitify=False,
    ):
        if (code is None) == (path is None):
            raise TypeError("Exactly one of `code` and `path` keyword arguments must be given.")
        if code is None:
            raise NotImplementedError("the stand-in card compiles texts; it cannot load a cubin")
        if isinstance(options, str):
            raise TypeError("options must be a tuple or list of strings")
        self.code, self.options, self.backend = code, tuple(options), backend
        self.name_expressions = tuple(name_expressions or ())
        if self.name_expressions and not any(o.replace(" ", "").split("=")[0].endswith("-std") for o in self.options):
            self.options += ("--std=c++17",)
        self._functions = {}

    def compile(self, log_stream=None):
        load(self.code, self.options, self.name_expressions)

    @property
    def module(self):
        self.compile()
        return self

    def get_function(self, name):
        library, found = load(self.code, self.options, self.name_expressions)
        if name not in found:
            raise CardError(
                f"CUDA_ERROR_NOT_FOUND: named symbol not found: {name!r}; this module has {sorted(found)} "
                f'(a plain name needs extern "C", a template needs name_expressions)'
            )
        if name not in self._functions:
            self._functions[name] = Function(library, found[name], (self.code, self.options, self.name_expressions))
        return self._functions[name]

    def get_global(self, name):
        library, _ = load(self.code, self.options, self.name_expressions)
        address = ctypes.addressof(ctypes.c_char.in_dll(library, name))
        return MemoryPointer(memory.UnownedMemory(address, 0, library), 0)


class RawKernel:
    """One kernel of a CUDA text."""

    def __init__(
        self,
        code,
        name,
        options=(),
        backend="nvrtc",
        translate_cucomplex=False,
        *,
        enable_cooperative_groups=False,
        jitify=False,
    ):
        self.code, self.name, self.options, self.backend = code, name, tuple(options), backend
        self.__name__ = name

    @functools.cached_property
    def kernel(self):
        return RawModule(code=self.code, options=self.options, backend=self.backend).get_function(self.name)

    def __call__(self, grid, block, args, **kwargs):
        self.kernel(grid, block, args, **kwargs)

    def compile(self, log_stream=None):
        self.kernel.compile()

    @property
    def attributes(self):
        return self.kernel.attributes

    @property
    def max_dynamic_shared_size_bytes(self):
        return self.kernel.max_dynamic_shared_size_bytes

    @max_dynamic_shared_size_bytes.setter
    def max_dynamic_shared_size_bytes(self, value):
        self.kernel.max_dynamic_shared_size_bytes = value


__all__ = ["CompileException", "Function", "RawKernel", "RawModule"]
