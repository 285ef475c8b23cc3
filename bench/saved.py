"""Saved results: pytest-benchmark's JSON, which its own comparison reads, with the machine and the commit measured."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import platform
import subprocess
import sys
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import gradflow
from gradflow import backend

from . import __path__ as _here

FOLDER = Path(next(iter(_here)))
ROOT = FOLDER.parent  # a checkout's root, or the package in a wheel


def _git(*words: str) -> str:
    """What git says about the checkout; '' without one."""
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(
            ["git", "-C", str(ROOT), *words], capture_output=True, text=True, timeout=20, check=True
        ).stdout.strip()
    return ""


@cache
def commit() -> dict[str, Any]:
    """The commit measured. `source` is a digest of gradflow's and the kernels' text: a name without git."""
    digest = hashlib.sha256()
    package = Path(gradflow.__file__).parent
    kernels = package / "kernels" if (package / "kernels").is_dir() else package.parent / "kernels"
    for folder in (package, kernels):
        for path in sorted(folder.rglob("*")):
            if path.suffix in (".py", ".cu", ".cuh") and "bench" not in path.parts[len(folder.parts) :]:
                digest.update(path.read_bytes())
    own = (ROOT / ".git").exists()
    return {
        "id": (own and _git("rev-parse", "HEAD")) or os.environ.get("GRADFLOW_COMMIT", "unknown"),
        "time": (own and _git("show", "-s", "--format=%cI")) or None,
        "author_time": (own and _git("show", "-s", "--format=%aI")) or None,
        "dirty": bool(own and _git("status", "--porcelain", "--", "gradflow", "kernels", "bench")),
        "project": "gradflow",
        "branch": (own and _git("rev-parse", "--abbrev-ref", "HEAD")) or "(unknown)",
        "source": digest.hexdigest()[:16],
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    with suppress(OSError), open("/proc/cpuinfo") as f:
        for line in f:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def card_facts() -> dict[str, Any]:
    """The card: its name, driver, CUDA, memory, clocks; {} without one."""
    cp: Any = backend.card()
    if cp is None:
        return {}
    properties = cp.cuda.runtime.getDeviceProperties(cp.cuda.get_device_id())
    name = properties["name"]
    facts = {
        "name": name.decode() if isinstance(name, bytes) else str(name),
        "compute_capability": f"{properties['major']}.{properties['minor']}",
        "multiprocessors": properties["multiProcessorCount"],
        "memory_bytes": properties["totalGlobalMem"],
        "l2_bytes": properties.get("l2CacheSize", 0),
        "cuda_runtime": cp.cuda.runtime.runtimeGetVersion(),
        "driver_api": cp.cuda.runtime.driverGetVersion(),
    }
    with suppress(OSError, subprocess.SubprocessError):
        words = "driver_version,clocks.sm,clocks.mem,clocks.max.sm,power.draw,power.limit,temperature.gpu"
        out = subprocess.run(
            ["nvidia-smi", f"--query-gpu={words}", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        ).stdout.splitlines()
        if out and cp.__name__ == "cupy":
            facts |= dict(zip(words.split(","), (v.strip() for v in out[0].split(",")), strict=False))
    return facts


def machine(threads: int, sides: list[Any]) -> dict[str, Any]:
    """The machine, in pytest-benchmark's words and then ours."""
    torch: Any = next((s.lib for s in sides if s.name == "torch"), None)
    facts: dict[str, Any] = {
        "node": platform.node(), "processor": platform.processor(), "machine": platform.machine(),
        "python_compiler": platform.python_compiler(), "python_implementation": platform.python_implementation(),
        "python_implementation_version": platform.python_version(), "python_version": platform.python_version(),
        "python_build": list(platform.python_build()), "release": platform.release(), "system": platform.system(),
        "cpu": {"brand_raw": _cpu(), "count": os.cpu_count(), "arch": platform.machine()},
        "numpy": np.__version__, "numpy_threads": threads, "gradflow": gradflow.__version__,
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "card": card_facts(),
    }  # fmt: skip
    if facts["card"]:
        cp: Any = backend.card()
        facts["cupy"] = cp.__version__ if cp.__name__ == "cupy" else f"stand-in {cp.__version__}"
    if torch is not None:
        facts |= {
            "torch": torch.__version__, "torch_threads": torch.get_num_threads(), "torch_cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version() if torch.cuda.is_available() else None,
        }  # fmt: skip
    return facts


def document(rows: list[dict[str, Any]], facts: dict[str, Any], command: list[str], **more: Any) -> dict[str, Any]:
    """The whole of a run: pytest-benchmark's document, with all of ours under "gradflow"."""
    benchmarks = []
    for row in rows:
        for column, stats in row["columns"].items():
            stats = dict(stats)
            extra = {k: stats.pop(k) for k in ("launches", "host", "peak_bytes") if k in stats}
            if "median" not in stats:
                continue
            extra |= {k: row.get(k) for k in ("dtype", "moved", "flops", "ratio", "share")}
            name = f"{row['name']}[{column}]"
            benchmarks.append(
                {
                    "group": row["name"], "name": name, "fullname": f"bench/{row['group']}::{name}",
                    "params": {"column": column}, "param": column, "extra_info": extra,
                    "options": {
                        "disable_gc": True, "timer": "events" if facts.get("card") else "perf_counter", "min_rounds": 3,
                        "max_time": 1.0, "min_time": 0.004, "warmup": True,
                    },
                    "stats": stats,
                }
            )  # fmt: skip
    now = dt.datetime.now(dt.UTC)
    return {
        "machine_info": facts, "commit_info": commit(), "benchmarks": benchmarks, "datetime": now.isoformat(),
        "version": _version("pytest-benchmark") or "5.1.0", "gradflow": {"command": command, "rows": rows, **more},
    }  # fmt: skip


def write(path: Path, text: str) -> None:
    """Write a file whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    part.replace(path)


def save(path: Path, what: dict[str, Any]) -> None:
    """Write a document as JSON."""
    write(path, json.dumps(what, indent=1, default=str) + "\n")


def load(path: Path) -> dict[str, Any]:
    """Read a document; ValueError if it is none."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as e:
        raise ValueError(f"compare: wanted a saved run, saw {path}: {e}") from e
    if not isinstance(found, dict) or "benchmarks" not in found:
        raise ValueError(f"compare: wanted a saved run, saw {path} without benchmarks")
    return found


# --- comparing two runs -------------------------------------------------------------------------------


def compare(a: Path, b: Path) -> int:
    """Print how b's times stand to a's: pytest-benchmark's comparison if it is installed, else a table of medians."""
    documents = [load(a), load(b)]
    try:
        from pytest_benchmark import cli
    except ImportError:
        return _table(*documents)
    if a.samefile(b):  # it reads a file once only
        return _table(*documents)
    import tempfile

    before = sys.argv
    with tempfile.TemporaryDirectory() as folder:  # it would make its storage in the current folder
        sys.argv = [
            "pytest-benchmark", "--storage", f"file://{folder}", "compare", str(a), str(b), "--group-by=fullname",
            "--sort=name", "--columns=median,iqr,min,rounds,iterations",
        ]  # fmt: skip
        try:
            cli.main()
        finally:
            sys.argv = before
    return 0


def _table(a: dict[str, Any], b: dict[str, Any]) -> int:
    """Medians of both runs, worst first."""
    old = {x["fullname"]: x["stats"]["median"] for x in a["benchmarks"]}
    new = {x["fullname"]: x["stats"]["median"] for x in b["benchmarks"]}
    rows = sorted(((new[k] / old[k], k) for k in old.keys() & new.keys()), reverse=True)
    print(f"{'B / A':>8}  {'A':>12}  {'B':>12}  case")
    for r, k in rows:
        print(f"{r:8.3f}  {old[k] * 1e6:10.2f}us  {new[k] * 1e6:10.2f}us  {k.partition('::')[2]}")
    for name, only in (("A", old.keys() - new.keys()), ("B", new.keys() - old.keys())):
        if only:
            print(f"only in {name}: {', '.join(sorted(only))}")
    return 0
