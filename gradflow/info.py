"""What `gradflow info` says: versions, the host, the cards, the kernels and what was compiled and timed of them."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from importlib import import_module, metadata
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import numpy as np

from . import __version__, backend, kernel, op, ops
from . import amp as _amp  # noqa: F401  (enters its kernels)
from . import optim as _optim  # noqa: F401  (as amp)
from .cuda import launch, tune

# Packages that change what gradflow can do; of a line's names the first that is installed is told of.
PACKAGES = (
    ("CuPy", ("cupy-cuda13x", "cupy-cuda12x", "cupy")), ("nvmath", ("nvmath-python",)),
    ("cuDNN", ("nvidia-cudnn-cu13", "nvidia-cudnn-cu12")), ("cudnn-frontend", ("nvidia-cudnn-frontend",)),
    ("safetensors", ("safetensors",)), ("ml_dtypes", ("ml_dtypes",)), ("scikit-learn", ("scikit-learn",)),
    ("scikit-image", ("scikit-image",)), ("matplotlib", ("matplotlib",)), ("tqdm", ("tqdm",)),
)  # fmt: skip


def rows() -> list[tuple[str, str]]:
    """(name, what it is) of every line."""
    return [*_versions(), *_host(), *_cards(), *_kernels()]


def _versions() -> Iterator[tuple[str, str]]:
    yield "gradflow", __version__
    yield "Python", f"{platform.python_version()}, {platform.system()} {platform.machine()}"
    yield "NumPy", np.__version__
    for title, names in PACKAGES:
        yield title, _installed(names) or "not installed"


def _installed(names: tuple[str, ...]) -> str:
    """The version of the first package that is installed, with its name where there are several; empty without one."""
    for name in names:
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        return f"{version} ({name})" if len(names) > 1 else version
    return ""


def _host() -> Iterator[tuple[str, str]]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield "cores", str(cores)
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        free, whole = (_size(page * os.sysconf(name)) for name in ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES"))
        yield "memory", f"{free} free of {whole}"
    except (AttributeError, ValueError, OSError):
        pass  # a system that does not say


def _cards() -> Iterator[tuple[str, str]]:
    card = backend.card()
    if card is None:
        cupy = _installed(dict(PACKAGES)["CuPy"])
        why = f"CuPy {cupy} sees none" if cupy else "CuPy is not installed: pip install 'gradflow[cuda13]' or 'gradflow[cuda12]'"
        yield "card", f"none, everything runs on NumPy; {why}"
        return
    runtime = card.cuda.runtime
    yield "CUDA", f"driver {_cuda(runtime.driverGetVersion())}, runtime {_cuda(runtime.runtimeGetVersion())}"
    for i in range(runtime.getDeviceCount()):
        p = runtime.getDeviceProperties(i)
        with card.cuda.Device(i) as device:
            (free, whole), clock = device.mem_info, device.attributes.get("ClockRate")
        name = p["name"].decode() if isinstance(p["name"], bytes) else p["name"]
        facts = [name, f"sm_{p['major']}{p['minor']}", f"{p['multiProcessorCount']} multiprocessors"]
        facts += [f"up to {clock / 1000:.0f} MHz"] if clock else []
        yield f"card {i}", ", ".join([*facts, f"{_size(free)} free of {_size(whole)}"])


def _kernels() -> Iterator[tuple[str, str]]:
    for family in iter_modules(ops.__path__):
        import_module(f"{ops.__name__}.{family.name}")
    twins = sorted({k.place for k in kernel.kernels.values() if k.place})
    yield "ops", str(len(op.table))
    yield "kernels", f"{len(kernel.kernels)} with CUDA twins, in {', '.join(twins)}"
    yield "sources", str(launch.folder())
    cache = Path(os.environ.get("CUPY_CACHE_DIR") or Path.home() / ".cupy" / "kernel_cache")
    sizes = [p.stat().st_size for p in cache.iterdir() if p.is_file()] if cache.is_dir() else []
    kept = f"{_size(sum(sizes))} in {len(sizes)} files of CuPy's cache {cache}"
    yield "compiled", f"{kept}; {len(launch._ready)} loaded in this process"
    counts = {name: sum(len(r) for g in times.values() for r in g.values()) for name, times in tune.table().items()}
    asked = "timed, as GRADFLOW_TUNE says" if tune.active() else "not timed"
    yield "variants", f"{asked}; known {counts['shipped']} shipped, {counts['cached']} in {tune.place()}"
    if kernel.definitions_only:
        yield "note", "GRADFLOW_DEFINITIONS is set: no twin runs"


def _size(n: int) -> str:
    """Bytes in words."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if n >= unit:
            return f"{n / unit:.1f} {name}"
    return f"{n} bytes"


def _cuda(version: Any) -> str:
    """CUDA's number of a version, 13020 say, as people write it: 13.2."""
    return f"{version // 1000}.{version % 1000 // 10}" if version else "none"
