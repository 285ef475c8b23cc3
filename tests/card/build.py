"""Building: kernel texts and the runtime become shared libraries, cached by everything that went into them."""

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
HEADERS = ("card.h", "half.h", "intrinsics.h", "entry.h", "cupy.h", "heap.h", "fiber.h", "trace.h")
# Signed overflow wraps and products are not fused into sums, as the definitions in NumPy assume.
# -fno-gnu-unique: static variables of templates in different libraries must not become one.
FLAGS = ["-std=gnu++17", "-O1", "-fPIC", "-shared", "-fwrapv", "-fno-strict-aliasing", "-ffp-contract=off", "-w"]
FLAGS += ["-fno-math-errno", "-fno-trapping-math", "-fno-gnu-unique", "-fno-exceptions", "-U_FORTIFY_SOURCE"]
FLAGS += ["-fstack-clash-protection"]  # a large frame touches the guard page below the stack and does not leap over it
# Checks inside the kernels; what they call when they fail is in runtime.cpp, not in a library of the compiler's.
CHECKS = ["-fsanitize=alignment,bounds,shift-exponent,return", "-fno-sanitize-recover=all", "-g1"]
CHECKS += ["-nodefaultlibs", "-lm", "-lc"]
# Instead of the checks, a call before each access to memory; what it calls is in trace.h. Structs stay in one piece, so
# that a pack of 16 bytes is one access.
COUNTS = ["-fsanitize=thread", "--param", "tsan-instrument-func-entry-exit=0", "-fno-tree-sra", "-fno-ipa-sra"]
COUNTS += ["-nodefaultlibs", "-lm", "-lc"]


class CompileException(Exception):
    """The text does not compile; the message holds the compiler's own words and the text."""

    def __init__(self, message, source="", name="", options=()):
        super().__init__(message)
        self.source, self.name, self.options = source, name, options


def compiler():
    found = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++")
    if not found:
        raise RuntimeError("the stand-in card needs a C++ compiler: install g++ or set CXX")
    return found


@functools.cache
def cache():
    folder = Path(os.environ.get("GRADFLOW_CARD_CACHE") or Path(tempfile.gettempdir()) / f"gradflow-card-{os.getuid()}")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@functools.cache
def fingerprint():
    h = hashlib.sha256()
    version = subprocess.run([compiler(), "--version"], capture_output=True, text=True, check=True).stdout
    h.update(" ".join([version, os.uname().machine, *FLAGS, *CHECKS]).encode())
    for name in HEADERS:
        h.update((HERE / name).read_bytes())
    return h.hexdigest()


def compile_text(command, target, text, note):
    """Run the compiler into a private file and move it into place: two processes may build the same thing at once."""
    handle, scratch = tempfile.mkstemp(dir=target.parent, suffix=target.suffix)
    os.close(handle)
    try:
        done = subprocess.run(
            [*command, "-o", scratch], input=text, capture_output=True, text=True, cwd=target.parent, check=False
        )
        if done.returncode:
            raise CompileException(f"{note}\n{done.stderr[:6000]}", source=text)
        os.replace(scratch, target)
    finally:
        if os.path.exists(scratch):
            os.unlink(scratch)


@functools.cache
def prelude():
    """The folder with the headers and their precompiled form, which saves half of every compilation."""
    folder = cache() / f"headers-{fingerprint()[:20]}"
    ready = folder / "card.h.gch"
    if not ready.exists():
        folder.mkdir(exist_ok=True)
        for name in HEADERS:
            scratch = folder / f"{name}.{os.getpid()}"
            shutil.copy(HERE / name, scratch)
            os.replace(scratch, folder / name)
        flags = [f for f in FLAGS + CHECKS if f != "-shared" and f[:2] != "-l"]
        compile_text(
            [compiler(), *flags, "-x", "c++-header", str(folder / "card.h")], ready, "", "card.h does not compile"
        )
    return folder


def build(text, options=(), checks=CHECKS, note="the kernel's text does not compile"):
    """The path of the shared library made from a text."""
    options = list(options)
    key = hashlib.sha256("\0".join([fingerprint(), *options, *checks, text]).encode()).hexdigest()
    target = cache() / f"{key[:40]}.so"
    if not target.exists():
        folder = prelude()
        command = [
            compiler(),
            *FLAGS,
            *options,
            "-I",
            str(folder),
            "-include",
            str(folder / "card.h"),
            "-Wl,-Bsymbolic",
        ]
        command += [*[c for c in checks if c[:2] != "-l"], "-x", "c++", "-", *[c for c in checks if c[:2] == "-l"]]
        compile_text(command, target, text, note)
    return target


@functools.cache
def runtime():
    """The library with the fibers and the memory; its symbols are visible to every kernel library."""
    text = (HERE / "runtime.cpp").read_text()
    options = ["-O2", "-pthread", *(["-mno-red-zone"] if os.uname().machine == "x86_64" else [])]
    lib = ctypes.CDLL(str(build(text, options, [], "runtime.cpp does not compile")), mode=ctypes.RTLD_GLOBAL)
    size, address = ctypes.c_size_t, ctypes.c_void_p
    for name, result, arguments in [
        ("card_alloc", address, [size, ctypes.c_int, size]),
        ("card_check", ctypes.c_int, [address, size, size]),
        ("card_free", ctypes.c_int, [address, size, size]),
        ("card_kept", size, []),
        ("card_trim", None, []),
        ("card_launch_kernel", ctypes.c_int, [address, address]),
        ("card_trace", None, [address, ctypes.c_int]),
        ("card_traced", None, [address]),
    ]:
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib
