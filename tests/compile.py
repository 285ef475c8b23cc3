"""Compile every kernel to machine code for every generation of cards: no error, no spilled register.

    python tests/compile.py                               every family for sm_75, 80, 90, 100, 120
    python tests/compile.py conv norm --arch 90 --all     two families, one generation, a line for each kernel

Needs no card. The compiler is NVRTC, the one that CuPy itself calls, from the packages nvidia-cuda-nvrtc and
nvidia-cuda-runtime (pip install gradflow[compile]). What is compiled is what the launchers can ask for:
instantiations() of each module of gradflow/cuda.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import pkgutil
import re
import sys
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

ARCHITECTURES = (75, 80, 90, 100, 120)


@dataclass
class Usage:
    """What one kernel takes on one architecture."""

    kernel: str
    registers: int = 0
    shared: int = 0  # static, in bytes
    stack: int = 0
    spilled: int = 0  # bytes stored


class CompileError(Exception):
    """A text that does not compile; the message is the compiler's log."""


# --- the compiler -----------------------------------------------------------------------------------


def _installed(pattern: str) -> list[Path]:
    try:
        import nvidia
    except ImportError:
        return []
    return sorted(found for root in nvidia.__path__ for found in Path(root).glob(pattern))


@cache
def nvrtc() -> ctypes.CDLL | None:
    """The compiler's library, or None where it is not installed."""
    libraries = _installed("**/libnvrtc.so*")
    if not libraries or not headers():
        return None
    for builtins in libraries[-1].parent.glob("libnvrtc-builtins.so*"):  # not every version looks beside itself for it
        ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)
    library = ctypes.CDLL(str(libraries[-1]))
    library.nvrtcGetErrorString.restype = ctypes.c_char_p
    return library


@cache
def headers() -> Path | None:
    """The folder of cuda_fp16.h."""
    found = _installed("**/cuda_fp16.h")
    return found[-1].parent if found else None


def version() -> str:
    """The compiler's version."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    nvrtc().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    return f"{major.value}.{minor.value}"


def compile_text(text: str, names: list[str], arch: int, options: tuple[str, ...] = ()) -> list[Usage]:
    """Compile the kernels of these C++ names to a cubin; CompileError with the log if that fails."""
    library, program = nvrtc(), ctypes.c_void_p()
    library.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"kernels.cu", 0, None, None)
    try:
        for name in names:
            library.nvrtcAddNameExpression(program, name.encode())
        words = [f"--gpu-architecture=sm_{arch}", f"-I{headers()}", "--ptxas-options=-v", *options]
        status = library.nvrtcCompileProgram(
            program, len(words), (ctypes.c_char_p * len(words))(*[w.encode() for w in words])
        )
        size = ctypes.c_size_t()
        library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        library.nvrtcGetProgramLog(program, log)
        if status:
            raise CompileError(f"{library.nvrtcGetErrorString(status).decode()}\n{log.value.decode()}")
        plain = {}
        for name in names:
            lowered = ctypes.c_char_p()
            library.nvrtcGetLoweredName(program, name.encode(), ctypes.byref(lowered))
            plain[lowered.value.decode()] = name
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))
    return read(log.value.decode(), plain)


def read(log: str, plain: dict[str, str]) -> list[Usage]:
    """The assembler's report on each function; functions that are not in `plain` are kept if they spill."""
    found: dict[str, Usage] = {}
    now = Usage("")
    for line in log.splitlines():
        if m := re.search(r"Function properties for '?([\w$.]+)", line):
            now = found.setdefault(m[1], Usage(plain.get(m[1], m[1])))
        elif m := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores", line):
            now.stack, now.spilled = int(m[1]), int(m[2])
        elif m := re.search(r"Used (\d+) registers", line):
            now.registers = int(m[1])
            shared = re.search(r"(\d+) bytes smem", line)
            now.shared = int(shared[1]) if shared else 0
    missing = plain.keys() - found.keys()
    if missing:
        raise CompileError(f"no report on {', '.join(sorted(missing))} in the log:\n{log}")
    return [u for name, u in found.items() if name in plain or u.spilled]


# --- what is compiled ---------------------------------------------------------------------------------


def families() -> dict[str, list[str]]:
    """The kernels that the launchers can ask for, by the name of their .cu file."""
    import gradflow.cuda
    import gradflow.ops  # the rows of the table

    found = {}
    for module in pkgutil.iter_modules(gradflow.cuda.__path__):
        names = getattr(importlib.import_module(f"gradflow.cuda.{module.name}"), "instantiations", None)
        if names is not None:
            found[module.name] = list(dict.fromkeys(names()))
    return found


def check(family: str, names: list[str], arch: int) -> tuple[str, int, float, list[Usage], str]:
    """(family, arch, seconds, usage of each kernel, what went wrong or "")."""
    from gradflow.cuda.launch import OPTIONS, source

    start = time.perf_counter()
    try:
        used = compile_text(source(f"{family}.cu"), names, arch, OPTIONS)
        wrong = "\n".join(f"{u.kernel}: {u.spilled} bytes of registers spilled" for u in used if u.spilled)
    except CompileError as e:
        used, wrong = [], str(e)
    return family, arch, time.perf_counter() - start, used, wrong


def table(results: dict[tuple[str, int], list[Usage]], every: bool) -> list[str]:
    """Registers/shared bytes per kernel and architecture; of a template's instances the most, unless `every`."""
    archs = sorted({arch for _, arch in results})
    most: dict[tuple[str, str], dict[int, tuple[int, int]]] = defaultdict(dict)
    for (family, arch), used in results.items():
        for u in used:
            row = most[family, u.kernel if every else u.kernel.split("<")[0]]
            registers, shared = row.get(arch, (0, 0))
            row[arch] = max(registers, u.registers), max(shared, u.shared)
    heads = "".join(f"sm_{a}".rjust(12) for a in archs)
    lines = [f"{'family':<12}{heads}  kernel (registers/shared bytes)"]
    for (family, kernel), row in sorted(most.items()):
        cells = "".join(("{}/{}".format(*row[a]) if a in row else "-").rjust(12) for a in archs)
        lines.append(f"{family:<12}{cells}  {kernel}")
    return lines


def main(words: list[str]) -> int:
    """Compile, print the table and what went wrong; 1 if something did."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", help="modules of gradflow/cuda; all of them if none is named")
    parser.add_argument("--arch", default=",".join(map(str, ARCHITECTURES)), help="compute capabilities: 75,80,90")
    parser.add_argument("--jobs", type=int, default=2, help="compilations at a time")
    parser.add_argument("--all", action="store_true", help="a line for each kernel instead of each template")
    chosen = parser.parse_args(words)
    if nvrtc() is None:
        print("CUDA compiler not installed (pip install gradflow[compile])", file=sys.stderr)
        return 1
    known = families()
    unknown = set(chosen.families) - known.keys()
    if unknown:
        parser.error(f"no such family: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    work = [
        (family, known[family], int(arch)) for family in chosen.families or known for arch in chosen.arch.split(",")
    ]
    work.sort(key=lambda w: -len(w[1]))  # the long ones first, so that no core waits for one at the end
    results, failures, start = {}, 0, time.perf_counter()
    print(f"NVRTC {version()}: {sum(len(names) for _, names, _ in work)} kernels")
    with ProcessPoolExecutor(chosen.jobs) as pool:
        for family, arch, seconds, used, wrong in pool.map(check, *zip(*work, strict=True)):
            results[family, arch] = used
            failures += bool(wrong)
            verdict = f"FAILED\n{wrong}" if wrong else "ok"
            print(f"{family:<12} sm_{arch:<4} {len(used):>5} kernels {seconds:7.1f} s  {verdict}", flush=True)
    print("\n".join(["", *table(results, chosen.all)]))
    print(f"\n{len(work) - failures} of {len(work)} compilations passed in {time.perf_counter() - start:.0f} s")
    return int(bool(failures))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
