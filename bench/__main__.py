"""The command line: `ops`, `models`, `tune`, `compare A B`, `gpu --out DIR`."""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    top = argparse.ArgumentParser(
        prog="gradflow-bench" if "gradflow" in __name__ else "python -m bench",
        description="Measure gradflow against PyTorch, in one process; every case is checked before it is timed.",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, what in (
        ("ops", "single ops"), ("models", "whole training steps"), ("targets", "what the goals on a card are about"),
    ):  # fmt: skip
        p = commands.add_parser(name, help=f"measure {what}")
        add = p.add_argument
        add(
            "--only",
            action="append",
            default=[],
            metavar="PATTERN",
            help="cases whose name has this part or fits this shell pattern",
        )
        add("--quick", action="store_true", help="fewer and smaller cases, less time for each")
        add("--out", type=Path, metavar="FILE", help="save the results as pytest-benchmark's JSON")
        add(
            "--seconds",
            type=float,
            metavar="S",
            help="to measure one case, all columns together (default: 0.5, quick: 0.1)",
        )
        add(
            "--threads",
            type=int,
            default=0,
            metavar="N",
            help="of NumPy's BLAS and of PyTorch (default: as many as the BLAS takes)",
        )
        add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(default: the card if there is one)")
        add(
            "--columns",
            type=lambda t: t.split(","),
            metavar="A,B",
            help="of numpy, cupy, twin, cudnn, graph, torch, compile (default: those the device has, without compile)",
        )
        add(
            "--cpu-time",
            action="store_true",
            help="count processor time, not time on the wall: for a machine that others use too",
        )
        add("--list", action="store_true", help="print the cases' names and stop")
        if name == "models":
            add("--full", action="store_true", help="the large image nets on a CPU too, with tiny inputs")
            add("--profile", type=Path, metavar="DIR", help="instead of timing, print where a step's time goes; traces to DIR")
        for hidden, options in (
            ("--stand-in", {"action": "store_true"}), ("--budget", {"type": float, "default": 0.0}),
            ("--skip", {"type": Path}),
        ):  # fmt: skip
            add(hidden, help=argparse.SUPPRESS, **options)
    p = commands.add_parser("compare", help="compare two saved runs, or two folders that `gpu` left")
    p.add_argument("a", type=Path, metavar="A")
    p.add_argument("b", type=Path, metavar="B")
    p = commands.add_parser(
        "gpu", help="everything a card is needed for, within nine minutes: tests, benches, memory checker"
    )
    p.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for results.json and report.md")
    p.add_argument("--minutes", type=float, default=9.0, help="time for all of it (default: %(default)s)")
    p.add_argument(
        "--parts", type=lambda t: t.split(","), metavar="A,B",
        help="of tests, targets, models, compiled, checker, ops (default: all, the first of them first)",
    )  # fmt: skip
    p.add_argument("--only", action="append", default=[], help=argparse.SUPPRESS)
    p.add_argument("--tests", default="tests", help=argparse.SUPPRESS)
    p.add_argument("--stand-in", action="store_true", help=argparse.SUPPRESS)
    p = commands.add_parser("tune", help="time all variants of kernels on a card, for the table that is shipped")
    p.add_argument("--out", type=Path, metavar="FILE", help="table to add to (default: the package's own)")
    p.add_argument("--only", action="append", default=[], metavar="PATTERN", help="cases whose name fits")
    p.add_argument("--stand-in", action="store_true", help=argparse.SUPPRESS)
    p = commands.add_parser("readme", help="write the newest results of a card into a README's table")
    p.add_argument("file", type=Path, nargs="?", metavar="README.md", help="(default: the checkout's)")
    p = commands.add_parser("kernels")  # what the memory checker watches
    p.add_argument("--only", action="append", default=[], help=argparse.SUPPRESS)
    p.add_argument("--stand-in", action="store_true", help=argparse.SUPPRESS)
    commands._choices_actions[:] = [a for a in commands._choices_actions if a.dest != "kernels"]
    return top


def plug_stand_in() -> None:
    """Use tests/card as the card: a dry run of what otherwise needs one."""
    from gradflow import backend

    from .saved import ROOT

    sys.path.insert(0, str(ROOT / "tests"))
    import card

    backend.plug(card)


def op_cases(kind: str, quick: bool) -> Iterator[Any]:
    """All ops, the ones that matter most first: a run that is cut short has those."""
    from . import layers, pointwise, sized

    first, later = [], []
    for case in pointwise.cases(kind, quick):
        (first if case.name.split()[0] in pointwise.FIRST else later).append(case)
    seen = set()
    half = [*layers.cases(kind, True, "float16"), *sized.halves(kind)] if kind == "card" else []
    for case in [
        *sized.cases(kind),
        *layers.cases(kind, True),
        *first,
        *half,
        *([] if quick else layers.cases(kind)),
        *later,
    ]:
        if case.name not in seen:
            seen.add(case.name)
            yield case


def run(args: argparse.Namespace) -> int:
    """`ops`, `models` and `targets`."""
    if args.stand_in:
        plug_stand_in()
    from gradflow import backend

    from . import case, measure, models, report, saved, sides, targets

    device = args.device if args.device != "auto" else "cuda" if backend.card() else "cpu"
    kind = "tiny" if args.stand_in else "card" if device == "cuda" else "cpu"
    if args.command == "targets":
        if kind == "cpu":
            raise RuntimeError("targets: wanted a card, saw none")
        cases: Iterable[Any] = targets.cases(kind)
    else:
        cases = op_cases(kind, args.quick) if args.command == "ops" else models.cases(kind, args.full)
    cases = [c for c in cases if c.matches(args.only)]
    if args.list:
        print("\n".join(c.name for c in cases))
        return 0
    if not cases:
        print(f"{args.command}: no case fits {', '.join(args.only)}; --list prints them", file=sys.stderr)
        return 0 if args.budget else 2  # a part of `gpu` may have none
    threads = sides.set_threads(args.threads)
    columns = sides.sides(device, args.columns, threads)
    if args.command == "models" and args.profile:
        from . import profiled

        profiled.run(cases, next(c for c in columns if c.name == ("numpy" if device == "cpu" else "twin")), args.profile)
        return 0
    clock = measure.CardClock(backend.need_card("bench")) if device == "cuda" else measure.HostClock(args.cpu_time)
    seconds = args.seconds or (0.1 if args.quick else 0.5)
    todo = case.Run(columns, clock, seconds, copied=(1 << 20) if args.stand_in else 0)
    facts = saved.machine(threads, columns)
    print(report.head(facts, todo.bandwidth), flush=True)
    return Progress(args, facts, todo).through(cases)


def tune(args: argparse.Namespace) -> int:
    """`tune`."""
    if args.stand_in:
        plug_stand_in()
    from gradflow import backend
    from gradflow.cuda.tune import SHIPPED

    from . import models, sides, targets, tuned

    backend.need_card("tune")
    kind = "tiny" if args.stand_in else "card"
    cases = [*targets.cases(kind), *models.cases(kind, False), *op_cases(kind, False)]
    return tuned.run([c for c in cases if c.matches(args.only)], sides.Gradflow("twin"), args.out or SHIPPED)


class Progress:
    """A run through cases that saves what it has, so that a run that ends early leaves its rows.

    With a budget (under `gpu`) it also writes each row at once, and before each case its name, into files beside the
    results: whoever started it then knows what a crash cost, and goes on after that case.
    """

    LIMIT = (
        60.0  # seconds for one case with a budget: a kernel that hangs costs this process, not all the time there is
    )

    def __init__(self, args: argparse.Namespace, facts: dict[str, Any], run: Any) -> None:
        self.args, self.facts, self.run = args, facts, run
        self.start = self.saved = time.monotonic()
        self.rows: list[dict[str, Any]] = []
        self.skip = set(args.skip.read_text().splitlines()) if args.skip else set()
        self.note("rows", {"facts": facts, "bandwidth": run.bandwidth})

    def through(self, cases: Sequence[Any]) -> int:
        """Measure the cases; 1 if one of them was wrong."""
        from . import report

        cases = [c for c in cases if c.name not in self.skip]
        left = list(cases)
        try:
            while left:
                if self.args.budget and time.monotonic() - self.start > self.args.budget:
                    break
                self.note("now", left[0].name)
                if self.args.budget:
                    faulthandler.dump_traceback_later(min(self.LIMIT, self.args.budget / 3), exit=True)
                row = self.run(left[0])
                del left[0]
                self.rows.append(row)
                self.note("rows", row)
                print(report.line(row), flush=True)
                if time.monotonic() - self.saved > 10:
                    self.save([c.name for c in left])
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            self.save([c.name for c in left])
            return 130
        faulthandler.cancel_dump_traceback_later()
        self.save([c.name for c in left])
        self.note("now", "")
        wrong = [r["name"] for r in self.rows if r["wrong"]]
        if left:
            print(f"not reached in {self.args.budget:.0f} s: {len(left)} cases")
        if wrong:
            print(f"wrong: {', '.join(wrong)}")
        return 1 if wrong else 0

    def note(self, suffix: str, what: Any) -> None:
        """With a budget, add a line of JSON to a file beside the results."""
        if self.args.out and self.args.budget:
            with open(self.args.out.with_suffix(f".{suffix}"), "a") as f:
                f.write(json.dumps(what, default=str) + "\n")

    def save(self, unreached: list[str]) -> None:
        """Write the results so far."""
        from . import saved

        self.saved = time.monotonic()
        if self.args.out:
            found = {"bandwidth": self.run.bandwidth, "unreached": unreached}
            saved.save(self.args.out, saved.document(self.rows, self.facts, sys.argv[1:], **found))


def main(argv: Sequence[str] | None = None) -> int:
    """Run; the exit status."""
    args = parser().parse_args(argv)
    try:
        if args.command in ("ops", "models", "targets"):
            return run(args)
        if args.command == "tune":
            return tune(args)
        if args.command == "compare":
            from . import saved

            return saved.compare(*(p / "results.json" if p.is_dir() else p for p in (args.a, args.b)))
        if args.command == "readme":
            from . import readme

            return readme.write(args.file)
        if args.stand_in:
            plug_stand_in()
        from . import gpu

        return gpu.kernels(args.only) if args.command == "kernels" else gpu.main(args)
    except (RuntimeError, ValueError, ImportError) as e:
        if os.environ.get("GRADFLOW_TRACEBACK"):
            raise
        print(f"{args.command}: {e}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
