"""`gpu`: all that a card is needed for, in one command that ends in time: twin tests, benches, memory checker.

Each part is a process of its own with a limit of time, so that a kernel that hangs or kills the context costs that part
only; results.json and report.md are written after every part.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gradflow import backend, kernel

from . import report, saved
from .sides import set_threads

# Shares of the time: a part that ends early leaves its time to the next.
# When, of all the time, each part must have ended.
ENDS = {"tests": 0.25, "targets": 0.62, "models": 0.74, "compiled": 0.84, "checker": 0.93, "ops": 1.0}
KEPT = 20.0  # seconds for starting and writing


def command(*words: str) -> list[str]:
    """How to run this command line again as a process of its own."""
    if __package__ == "bench":
        return [sys.executable, "-m", "bench", *words]
    return [sys.executable, "-c", "import sys; from gradflow.benchmark import main; sys.exit(main())", *words]


def environment() -> dict[str, str]:
    """The environment of a part: the folders of bench and gradflow can be imported, whatever the current folder is."""
    package = Path(backend.__file__).parents[1]
    checkout = (
        [str(saved.ROOT)] if __package__ == "bench" else []
    )  # in a wheel it is the package itself: not to be a path
    paths = [*checkout, str(package), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return os.environ | {"PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)), "PYTHONUNBUFFERED": "1"}


def folder() -> str:
    """Where parts run: a checkout's root; from a wheel where we are, as its package is no place to import from."""
    return str(saved.ROOT) if __package__ == "bench" else os.getcwd()


class Part:
    """A process with a log and a limit of time."""

    def __init__(self, words: list[str], log: Path, **variables: str) -> None:
        self.file = open(log, "a")  # noqa: SIM115 (closed by wait)
        self.process = subprocess.Popen(
            words, stdout=self.file, stderr=subprocess.STDOUT, env=environment() | variables, start_new_session=True,
            cwd=folder(),
        )  # fmt: skip

    def wait(self, until: float) -> int | None:
        """The exit status, or None if the time was over and it was ended."""
        try:
            return self.process.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            for how in (signal.SIGINT, signal.SIGKILL):  # at an interrupt it saves what it has
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.process.pid, how)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(5)
                    break
            return None
        finally:
            self.file.close()


class Card:
    """A run of `gpu`: its time, its folder, what it has found."""

    def __init__(self, args: Any) -> None:
        self.args, self.out = args, args.out.resolve()
        self.out.mkdir(parents=True, exist_ok=True)
        self.begin = time.monotonic()
        self.length = args.minutes * 60 - KEPT
        self.own = ["--stand-in"] if args.stand_in else []
        for pattern in args.only:
            self.own += ["--only", pattern]
        self.facts = saved.machine(set_threads(0), [])
        self.found: dict[str, Any] = {"parts": [], "rows": [], "tests": {}, "unreached": [], "memory_checker": []}

    def until(self, share: float) -> float:
        """The moment at which this share of the time is over."""
        return self.begin + self.length * share

    def write(self) -> None:
        """Leave results.json and report.md as they stand."""
        found = dict(self.found)
        document = saved.document(found.pop("rows"), self.facts, sys.argv[1:], **found)
        saved.save(self.out / "results.json", document)
        saved.write(self.out / "report.md", report.markdown(document))

    def part(self, name: str, do: Any, share: float) -> None:
        """Do a part and note how it ended; whatever goes wrong in it, the next one follows."""
        start = time.monotonic()
        try:
            outcome = do(self.until(share))
        except Exception as e:  # noqa: BLE001 (the report says so)
            outcome = f"failed: {type(e).__name__}: {e}"
        took = time.monotonic() - start
        self.found["parts"].append({"name": name, "outcome": outcome, "seconds": took})
        print(f"{name}: {outcome} ({took:.0f} s)", flush=True)
        self.write()

    # --- the parts --------------------------------------------------------------------------------

    def tests(self, until: float) -> str:
        """The tests marked `cuda`, on the card, by several processes; those in float32 first."""
        where = saved.ROOT / self.args.tests.split("::")[0]
        if not where.exists():
            return "not here: the tests are not in a wheel, only in a checkout"
        log, outcomes = self.out / "tests.log", self.out / "tests.jsonl"
        for path in (log, outcomes):
            path.unlink(missing_ok=True)
        base = [
            sys.executable, "-m", "pytest", "-p", "bench.outcomes", "-p", "no:cacheprovider", "-m", "cuda",
            "--rootdir", str(saved.ROOT), "--continue-on-collection-errors", "-o", "addopts=", "-q", "--tb=short",
            *([] if self.args.stand_in else ["--real-card"]),
        ]  # fmt: skip
        asked = subprocess.run(
            [*base, "--collect-only", self.args.tests], capture_output=True, text=True, env=environment(),
            cwd=folder(), timeout=max(1.0, until - time.monotonic()), check=False,
        )  # fmt: skip
        ids = self.collected(asked.stdout)
        if not ids:
            log.write_text(asked.stdout + asked.stderr)
            return f"pytest found no tests (status {asked.returncode}): see {log.name}"
        count = 1 if self.args.stand_in else max(1, min(8, len(os.sched_getaffinity(0)) // 2))
        limit = min(60.0, (until - time.monotonic()) / 3)
        variables = {"GRADFLOW_OUTCOMES": str(outcomes), "GRADFLOW_TEST_LIMIT": f"{limit:.0f}"}
        seen: dict[str, dict[str, Any]] = {}
        while time.monotonic() < until and (left := [i for i in ids if i not in seen]):
            shards = [left[i::count] for i in range(min(count, len(left)))]
            parts = [Part([*base, *shard], log, **variables) for shard in shards]
            ended = [p.wait(until) is not None for p in parts]
            before, seen = len(seen), self.outcomes(outcomes)
            for shard, by_itself in zip(shards, ended, strict=True):
                for i in shard:
                    if by_itself and seen.get(i, {}).get("outcome") == "started":
                        lost = {"id": i, "outcome": "failed", "message": f"ended its process: see {log.name}"}
                        with open(outcomes, "a") as f:
                            f.write(json.dumps(lost) + "\n")
            seen = {i: t for i, t in self.outcomes(outcomes).items() if t["outcome"] != "started"}
            if len(seen) == before:  # no way forward: the log says why
                break
        outcomes.unlink(missing_ok=True)
        seen |= {i: {"id": i, "outcome": "not reached"} for i in ids if i not in seen}
        counts = Counter(t["outcome"] for t in seen.values())
        self.found["tests"] = {
            "counts": dict(counts),
            "failed": [t for t in seen.values() if t["outcome"] == "failed"],
            "not_reached": [i for i, t in seen.items() if t["outcome"] == "not reached"],
        }
        extra = "" if asked.returncode == 0 else f"; collecting ended with status {asked.returncode}: see {log.name}"
        if asked.returncode:
            log.write_text(asked.stdout + asked.stderr + log.read_text())
        return ", ".join(f"{n} {outcome}" for outcome, n in sorted(counts.items())) + extra

    @staticmethod
    def outcomes(path: Path) -> dict[str, dict[str, Any]]:
        """The last outcome of each test, or that it failed, which a teardown may do after a pass."""
        seen: dict[str, dict[str, Any]] = {}
        for t in read_lines(path):
            if t["id"] not in seen or seen[t["id"]]["outcome"] != "failed":
                seen[t["id"]] = t
        return seen

    @staticmethod
    def collected(text: str) -> list[str]:
        """The ids in pytest's list, those in float32 first."""
        ids = [line.strip() for line in text.splitlines() if "::" in line and not line.startswith(("ERROR", "FAILED"))]
        return sorted(ids, key=lambda i: ("float32" not in i, "float16" not in i))

    def bench(self, name: str, until: float, seconds: float, columns: str = "") -> str:
        """`targets`, `models` or `ops`; started again after the case at which it died, if it did.

        columns  only these, whose times are added to the rows there are
        """
        part = f"{name}-{columns.replace(',', '-')}" if columns else name
        path, log = self.out / f"{part}.part.json", self.out / f"{part}.log"
        files = {suffix: path.with_suffix(f".{suffix}") for suffix in ("json", "rows", "now", "skip")}
        log.unlink(missing_ok=True)
        rows: list[dict[str, Any]] = []
        unreached: list[str] = []
        notes: list[str] = []
        while (budget := until - time.monotonic() - 8) > 5:
            for p in files.values():
                p.unlink(missing_ok=True)
            files["skip"].write_text("\n".join(r["name"] for r in rows))
            words = [
                name,
                "--device",
                "cuda",
                "--out",
                str(path),
                "--budget",
                f"{budget:.0f}",
                "--seconds",
                str(seconds),
                *(["--columns", columns] if columns else []),
            ]
            status = Part(command(*words, "--skip", str(files["skip"]), *self.own), log).wait(until)
            head, *found = read_lines(files["rows"]) or [{}]
            rows += found
            if head:
                self.found["bandwidth"], self.facts = head["bandwidth"], head["facts"]
            if path.exists():
                unreached = saved.load(path)["gradflow"]["unreached"]
            during = (read_lines(files["now"]) or [""])[-1]
            if not during or status is None or status == 130:  # it ended as it should, or with its time
                if status not in (0, 1, None, 130):
                    notes.append(f"the process ended with status {status}: see {log.name}")
                break
            how = f"ended its process with status {status}: see {log.name}"
            rows.append({"name": during, "group": "lost", "columns": {}, "wrong": {"process": how}, "absent": {}})
        if columns:
            self.add_columns(rows)
        else:
            there = {r["name"] for r in self.found["rows"]}
            self.found["rows"] += [r for r in rows if r["name"] not in there]
            self.found["unreached"] += unreached
        for p in files.values():
            p.unlink(missing_ok=True)
        wrong = sum(bool(r["wrong"]) for r in rows)
        counts = [f"{sum(bool(r['columns']) for r in rows)} cases timed"]
        counts += [f"{wrong} wrong"] * bool(wrong) + [f"{len(unreached)} not reached"] * bool(unreached)
        return "; ".join(counts + notes)

    def compiled(self, until: float) -> str:
        """Whole steps as one graph beside PyTorch's compiled ones."""
        if find_spec("torch") is None:
            return "not here: PyTorch is not installed"
        return self.bench("models", until, 1.0, "graph,compile")

    def add_columns(self, rows: list[dict[str, Any]]) -> None:
        """Put what a run of some columns found into the rows of those cases."""
        there = {r["name"]: r for r in self.found["rows"]}
        for new in rows:
            row = there.get(new["name"])
            if row is None:
                self.found["rows"].append(new)
                continue
            for key in ("columns", "wrong", "absent"):
                row[key] = new[key] | row[key]
            row |= {key: value for key, value in new.items() if key.startswith("graph_")}

    def checker(self, until: float) -> str:
        """compute-sanitizer over every kernel; what it may not do here is reported."""
        tool = sanitizer()
        if tool is None:
            self.found["memory_checker"] = [{"tool": "compute-sanitizer", "outcome": "not installed"}]
            return "not installed"
        notes = []
        for name in ("memcheck", "racecheck", "initcheck"):
            if until - time.monotonic() < 10:
                break
            log = self.out / f"{name}.log"
            log.unlink(missing_ok=True)
            words = [
                tool,
                "--tool",
                name,
                "--error-exitcode",
                "86",
                "--print-limit",
                "20",
                *command("kernels", *self.own),
            ]
            status = Part(words, log).wait(until)
            lines = log.read_text(errors="replace").splitlines() if log.exists() else []
            runs = [x for x in lines if x.startswith("kernel ")]
            ends = next((x for x in lines if x.startswith("kernels:")), "")
            errors = [
                x
                for x in lines
                if x.startswith("=========") and ("ERROR SUMMARY" in x or "Invalid" in x or "hazard" in x)
            ]
            verdict = {0: "no errors", 86: "ERRORS", None: "out of time, no errors until then"}.get(
                status, f"could not run (status {status})"
            )
            if status is None and errors:
                verdict = "out of time, ERRORS"
            outcome = f"{verdict}, {len(runs)} kernels checked" + (f" ({ends})" if ends else "")
            self.found["memory_checker"].append(
                {"tool": name, "outcome": outcome, "lines": (errors or lines[:3] if status else errors)[:20]}
            )
            notes.append(f"{name}: {outcome}")
        return "; ".join(notes) or "no time left"


def read_lines(path: Path) -> list[Any]:
    """The JSON lines of a file; a last line that was cut off is left out."""
    found = []
    if path.exists():
        for line in path.read_text().splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
    return found


def sanitizer() -> str | None:
    """compute-sanitizer: on PATH, in a CUDA toolkit, or in NVIDIA's Python packages."""
    packages = Path(sysconfig.get_path("purelib")) / "nvidia"
    places = [*packages.glob("**/compute-sanitizer"), *Path("/usr/local").glob("cuda*/bin/compute-sanitizer")]
    places += [Path("/usr/local/cuda/compute-sanitizer/compute-sanitizer")]
    return shutil.which("compute-sanitizer") or next(
        (str(p) for p in places if p.is_file() and os.access(p, os.X_OK)), None
    )


def main(args: Any) -> int:
    """Run everything; 0 if nothing failed."""
    backend.need_card("gpu")
    card = Card(args)
    print(report.head(card.facts), flush=True)
    card.write()
    parts = {
        "tests": ("twin tests", card.tests),
        "targets": ("targets", lambda until: card.bench("targets", until, 0.1)),
        "models": ("models", lambda until: card.bench("models", until, 1.0)),
        "compiled": ("models compiled", card.compiled),
        "checker": ("memory checker", card.checker),
        "ops": ("ops", lambda until: card.bench("ops", until, 0.15)),
    }
    asked = [name for name in parts if not args.parts or name in args.parts]
    for name in asked:
        card.part(*parts[name], 1.0 if name == asked[-1] else ENDS[name])
    print(f"results: {card.out / 'report.md'}, {card.out / 'results.json'}")
    bad = bool(card.found["tests"].get("failed")) or any(r["wrong"] for r in card.found["rows"])
    bad = bad or any("ERRORS" in c["outcome"] for c in card.found["memory_checker"])
    bad = bad or any("failed:" in p["outcome"] or "status" in p["outcome"] for p in card.found["parts"])
    return int(bad)


# --- what the memory checker watches ------------------------------------------------------------------


def kernels(only: Sequence[str]) -> int:
    """Run every twin on its cases in float32, each array in memory of its own, and say which."""
    import numpy as np

    from gradflow.cases import Sampler
    from gradflow.op import table

    from . import pointwise  # fills the table

    import gradflow.optim  # isort: skip  (and the optimizers' kernels)

    del gradflow
    cp = backend.need_card("kernels")
    if cp.__name__ == "cupy":
        cp.cuda.set_allocator(None)  # a pool would hide a stray index in its own memory
    found = [k for k in kernel.kernels.values() if k.cases and (not only or any(p in k.name for p in only))]
    found.sort(key=lambda k: k.place == "pointwise")
    refused = []

    def move(v: Any) -> Any:
        if isinstance(v, np.ndarray):
            return cp.asarray(v.astype(np.float32) if v.dtype.kind == "f" else v)
        return type(v)(map(move, v)) if isinstance(v, (list, tuple)) else v

    for k in found:
        taken = 0
        for case in k.cases(Sampler()):
            args = (
                table[k.name].bind(*case.args, **case.kwargs)
                if k.name in table
                else (*case.args, *case.kwargs.values())
            )
            taken += k.twin(*map(move, args)) is not NotImplemented
        cp.cuda.Device().synchronize()
        print(f"kernel {k.name}: {taken} cases", flush=True)
        if not taken:
            refused.append(k.name)
    print(
        f"kernels: {len(found)} twins run" + (f", none of the cases taken by {', '.join(refused)}" if refused else ""),
        flush=True,
    )
    del pointwise
    return 0
