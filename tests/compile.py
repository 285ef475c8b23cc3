"""Compile every kernel to machine code for every generation of cards: no error, no spilled register, as designed.

    python tests/compile.py                               every family for sm_75, 80, 90, 100, 120
    python tests/compile.py conv norm --arch 90 --all     two families, one generation, a line for each kernel

Needs no card. The compiler is NVRTC, the one that CuPy itself calls, from the packages nvidia-cuda-nvrtc and
nvidia-cuda-runtime, the disassembler that of nvidia-cuda-nvdisasm (pip install gradflow[compile]). What is compiled is
what the launchers can ask for: instantiations() of each module of gradflow/cuda. Registers, shared memory and (for
sm_90) instructions are compared with tests/designed.py. Results are kept in GRADFLOW_COMPILE_CACHE, by everything that
went into them, so that a family is compiled again only when it changed; --fresh does not look there.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import importlib
import inspect
import json
import os
import pkgutil
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

import designed

ARCHITECTURES = (75, 80, 90, 100, 120)
READ = (90,)  # whose machine code is read


@dataclass
class Usage:
    """What one kernel takes on one architecture."""

    kernel: str
    registers: int = 0
    shared: int = 0  # static, in bytes
    stack: int = 0
    spilled: int = 0  # bytes stored
    instructions: frozenset[str] | None = None  # the opcodes of its machine code, where that was read


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


def disassembler() -> Path | None:
    """The program that prints machine code, or None where it is not installed."""
    return next(iter(_installed("**/bin/nvdisasm")), None)


def opcodes(cubin: bytes) -> dict[str, frozenset[str]]:
    """The opcodes in the machine code of each kernel: LDG.E.128, HMMA.16816.F32, ..."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(disassembler()), "-c", "-ndf", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: dict[str, set[str]] = {}
    now: set[str] = set()
    for line in text.splitlines():
        if m := re.match(r"\s*\.section\s+\.text\.([\w$.]+)", line):
            now = found.setdefault(m[1], set())
        elif m := re.match(r"\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", line):
            now.add(m[1])
    return {name: frozenset(of) for name, of in found.items()}


def compile_text(
    text: str, names: list[str], arch: int, options: tuple[str, ...] = (), instructions: bool = False
) -> list[Usage]:
    """Compile the kernels of these C++ names to a cubin; CompileError with the log if that fails."""
    library, program = nvrtc(), ctypes.c_void_p()
    library.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"kernels.cu", 0, None, None)
    try:
        for name in names:
            library.nvrtcAddNameExpression(program, name.encode())
        # The last word is CuPy's, which no option of ours comes after.
        words = [f"--gpu-architecture=sm_{arch}", f"-I{headers()}", "--ptxas-options=-v", *options, "-ftz=true"]
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
        used = read(log.value.decode(), plain)
        if instructions:
            library.nvrtcGetCUBINSize(program, ctypes.byref(size))
            cubin = ctypes.create_string_buffer(size.value)
            library.nvrtcGetCUBIN(program, cubin)
            code = {plain.get(name, name): of for name, of in opcodes(cubin.raw).items()}
            for u in used:
                u.instructions = code[u.kernel]
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))
    return used


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


def families(*chosen: str) -> dict[str, list[str]]:
    """The kernels that the launchers can ask for, by the name of their .cu file; of all families, or of some."""
    import gradflow.cuda
    import gradflow.ops  # the rows of the table

    found = {}
    for module in pkgutil.iter_modules(gradflow.cuda.__path__):
        if chosen and module.name not in chosen:
            continue
        names = getattr(importlib.import_module(f"gradflow.cuda.{module.name}"), "instantiations", None)
        if names is not None:
            found[module.name] = list(dict.fromkeys(names()))
    return found


@cache
def kept() -> Path:
    """The folder of results of earlier runs."""
    folder = os.environ.get("GRADFLOW_COMPILE_CACHE") or f"{tempfile.gettempdir()}/gradflow-compile-{os.getuid()}"
    Path(folder).mkdir(parents=True, exist_ok=True)
    return Path(folder)


@cache
def recipe() -> str:
    """How results come about: if this changes, none is kept."""
    return "".join(inspect.getsource(of) for of in (Usage, compile_text, read, opcodes))


def compiled(text: str, names: list[str], arch: int, options: tuple, instructions: bool, fresh: bool) -> list[Usage]:
    """What compile_text gives, from an earlier run if nothing changed that goes into it."""
    parts = [version(), recipe(), text, *names, str(arch), *options, str(instructions)]
    file = kept() / f"{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:40]}.json"
    if file.exists() and not fresh:
        rows = json.loads(file.read_text())
        return [Usage(**{**r, "instructions": r["instructions"] and frozenset(r["instructions"])}) for r in rows]
    used = compile_text(text, names, arch, options, instructions)
    words = json.dumps([{**asdict(u), "instructions": u.instructions and sorted(u.instructions)} for u in used])
    scratch = file.with_suffix(f".{os.getpid()}")
    scratch.write_text(words)
    os.replace(scratch, file)
    return used


def check(
    family: str, names: list[str], arch: int, fresh: bool = False, rows: bool = True
) -> tuple[str, int, float, list[Usage], str]:
    """(family, arch, seconds of a core, usage of each kernel, what went wrong or "")."""
    from gradflow.cuda.launch import OPTIONS, source

    start = time.process_time()
    try:
        read = arch in READ and family in designed.ROWS and disassembler() is not None
        used = compiled(source(f"{family}.cu"), names, arch, OPTIONS, read, fresh)
        faults = [f"{u.kernel}: {u.spilled} bytes of registers spilled" for u in used if u.spilled]
        faults += designed.compare(family, arch, used)[0] if rows else []
        wrong = "\n".join(faults)
    except CompileError as e:
        used, wrong = [], str(e)
    return family, arch, time.process_time() - start, used, wrong


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


def design(results: dict[tuple[str, int], list[Usage]]) -> list[str]:
    """Blocks on a multiprocessor, and as designed, of the kernels that tests/designed.py speaks of; the least of a template."""
    archs = sorted({arch for _, arch in results})
    least: dict[tuple[str, str], dict[int, tuple[int, int]]] = defaultdict(dict)
    for (family, arch), used in results.items():
        for kernel, blocks, wanted in designed.compare(family, arch, used)[1]:
            row = least[family, kernel.split("<")[0]]
            row[arch] = min(row.get(arch, (99, 0)), (blocks, wanted))
    lines = [f"{'family':<12}{''.join(f'sm_{a}'.rjust(12) for a in archs)}  kernel (blocks on a multiprocessor/designed)"]
    for (family, kernel), row in sorted(least.items()):
        cells = "".join(("{}/{}".format(*row[a]) if a in row else "-").rjust(12) for a in archs)
        lines.append(f"{family:<12}{cells}  {kernel}")
    return lines


def main(words: list[str]) -> int:
    """Compile, print the table and what went wrong; 1 if something did."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", help="modules of gradflow/cuda; all of them if none is named")
    parser.add_argument("--arch", default=",".join(map(str, ARCHITECTURES)), help="compute capabilities: 75,80,90")
    parser.add_argument("--jobs", type=int, default=2, help="compilations at a time")
    parser.add_argument("--fresh", action="store_true", help="compile again what did not change")
    parser.add_argument("--all", action="store_true", help="a line for each kernel instead of each template")
    chosen = parser.parse_args(words)
    if nvrtc() is None:
        print("CUDA compiler not installed (pip install gradflow[compile])", file=sys.stderr)
        return 1
    if disassembler() is None:
        print("CUDA disassembler not installed (pip install gradflow[compile])", file=sys.stderr)
        return 1
    known = families(*chosen.families)
    unknown = set(chosen.families) - known.keys()
    if unknown:
        parser.error(f"no such family: {', '.join(sorted(unknown))}; there are {', '.join(families())}")
    work = [
        (family, known[family], int(arch), chosen.fresh)
        for family in chosen.families or known
        for arch in chosen.arch.split(",")
    ]
    # The long ones first, so that no core waits for one at the end; a kernel of tiles takes as long as a dozen others.
    work.sort(key=lambda w: -sum(12 if "ile" in name else 1 for name in w[1]))
    results, failures, start = {}, 0, time.perf_counter()
    print(f"NVRTC {version()}: {sum(len(names) for _, names, *_ in work)} kernels")
    with ProcessPoolExecutor(chosen.jobs) as pool:
        for family, arch, seconds, used, wrong in pool.map(check, *zip(*work, strict=True)):
            results[family, arch] = used
            failures += bool(wrong)
            verdict = f"FAILED\n{wrong}" if wrong else "ok"
            print(f"{family:<12} sm_{arch:<4} {len(used):>5} kernels {seconds:7.1f} s  {verdict}", flush=True)
    print("\n".join(["", *table(results, chosen.all), "", *design(results)]))
    print(f"\n{len(work) - failures} of {len(work)} compilations passed in {time.perf_counter() - start:.0f} s")
    return int(bool(failures))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
