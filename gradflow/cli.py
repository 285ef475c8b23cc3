"""The command line: `gradflow train NAME`, `gradflow list`, `gradflow info`, `gradflow tuned`."""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Sequence
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np

from . import __version__, backend, kernel
from .cuda import tune
from .examples import EXAMPLES
from .train import ResumeError


class UsageError(Exception):
    """Arguments that do not make sense here: one sentence, exit status 2."""


def choose_device(name: str) -> backend.device:
    """The device of --device: 'auto' is the card where there is one. UsageError for a card that is not there."""
    if name == "auto":
        return backend.device("cuda" if backend.card() else "cpu")
    try:
        where = backend.device(name)
        if where.type == "cuda":
            card = backend.need_card("--device cuda")
            if (where.index or 0) >= card.cuda.runtime.getDeviceCount():
                raise UsageError(f"--device {name}: there are {card.cuda.runtime.getDeviceCount()} cards")
    except RuntimeError as e:
        raise UsageError(str(e)) from None
    return where


def describe(where: backend.device) -> str:
    """A device in words: its name, and which library computes on it."""
    if where.type == "cpu":
        return f"cpu, NumPy {np.__version__}"
    card: Any = backend.need_card("cuda")
    properties = card.cuda.runtime.getDeviceProperties(where.index or 0)
    name = properties["name"]
    return f"{where}, {name.decode() if isinstance(name, bytes) else name}, CuPy {card.__version__}"


# --- the commands ---------------------------------------------------------------------------------------


def train(args: argparse.Namespace) -> int:
    """Run an example."""
    where = choose_device(args.device)
    print(f"device: {describe(where)}")
    return import_module(f"gradflow.examples.{args.example}").run(args, where) or 0


def list_examples(args: argparse.Namespace) -> int:
    """Print what `gradflow train` can train."""
    width = max(map(len, EXAMPLES))
    for name, text in EXAMPLES.items():
        print(f"{name:{width}}  {text}")
    return 0


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _cupy() -> str:
    """Which CuPy is installed: its packages are named after the CUDA version."""
    names = ("cupy-cuda13x", "cupy-cuda12x", "cupy")
    return next((f"{n} {_version(n)}" for n in names if _version(n) != "not installed"), "not installed")


def info(args: argparse.Namespace) -> int:
    """Print versions, the card, and the kernels."""
    from . import op, ops, optim  # noqa: F401  (loading them fills the tables)

    _load_ops()
    rows = [
        ("gradflow", __version__),
        ("Python", platform.python_version()),
        ("platform", f"{platform.system()} {platform.machine()}"),
        ("NumPy", np.__version__),
    ]
    rows += [(name, _version(name)) for name in ("safetensors", "ml_dtypes", "matplotlib", "scikit-learn", "tqdm")]
    card = backend.card()
    if card is None:
        rows.append(("card", f"none: everything runs on NumPy (CuPy: {_cupy()})"))
    else:
        runtime = card.cuda.runtime
        for i in range(runtime.getDeviceCount()):
            p = runtime.getDeviceProperties(i)
            size = f"sm_{p['major']}{p['minor']}, {p['totalGlobalMem'] / 2**30:.0f} GiB"
            rows.append((f"card {i}", f"{describe(backend.device('cuda', i))}, {size}"))
    twins = sorted({k.place for k in kernel.kernels.values() if k.place})
    rows.append(("ops", f"{len(op.table)}"))
    rows.append(("kernels", f"{len(kernel.kernels)} with CUDA twins, in {', '.join(twins)}"))
    folder = kernel_folder()
    rows.append(("sources", str(folder) if folder else "not found"))
    if card is not None:
        rows.append(("variants", "timed, as GRADFLOW_TUNE says" if tune.active() else "not timed"))
    if kernel.definitions_only:
        rows.append(("note", "GRADFLOW_DEFINITIONS is set: no twin runs"))
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        print(f"{name:{width}}  {text}")
    return 0


def tuned(args: argparse.Namespace) -> int:
    """Print which variants of kernels were found fastest, or forget those that this machine timed."""
    if args.clear:
        tune.clear()
    for name, where, none in (("shipped", tune.SHIPPED, "no card has measured it yet"), ("cached", tune.place(), "none")):
        times = tune.table()[name]
        print(f"{name}: {where}" if times else f"{name}: {none}")
        for group, families in sorted(times.items()):
            for family, problems in sorted(families.items()):
                print(f"  {group}, {family}")
                for problem, (variant, us) in sorted(problems.items()):
                    print(f"    {problem}: {variant}, {us} us")
    return 0


def _load_ops() -> None:
    """Import every family of ops, so that the tables are full."""
    folder = Path(__file__).parent / "ops"
    for path in sorted(folder.glob("[a-z]*.py")):
        import_module(f"gradflow.ops.{path.stem}")


def kernel_folder() -> Path | None:
    """Where the CUDA sources lie: inside the package, or beside it in a checkout."""
    here = Path(__file__).parent
    return next((p for p in (here / "kernels", here.parent / "kernels") if p.is_dir()), None)


# --- parsing --------------------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    top = argparse.ArgumentParser("gradflow", description="Examples and facts of gradflow.")
    top.add_argument("--version", action="version", version=f"gradflow {__version__}")
    commands = top.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    training = commands.add_parser("train", help="train an example from start to end")
    examples = training.add_subparsers(title="examples", dest="example", required=True, metavar="NAME")
    for name, text in EXAMPLES.items():
        one = examples.add_parser(name, help=text, description=text.capitalize() + ".")
        one.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
        import_module(f"gradflow.examples.{name}").arguments(one)
        one.set_defaults(run=train)
    commands.add_parser("list", help="list the examples").set_defaults(run=list_examples)
    known = commands.add_parser("tuned", help="show which variants of kernels were timed, and found fastest")
    known.add_argument("--clear", action="store_true", help="forget those that this machine timed")
    known.set_defaults(run=tuned)
    commands.add_parser("info", help="show versions, the card and the kernels").set_defaults(run=info)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; the exit status: 0, 1 for a failure, 2 for bad arguments, 130 for Ctrl-C."""
    args = parser().parse_args(argv)
    try:
        return args.run(args)
    except (UsageError, ResumeError) as e:
        print(f"gradflow: error: {e}", file=sys.stderr)
        return 2
    except (OSError, ImportError) as e:
        print(f"gradflow: error: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as e:
        print(f"gradflow: {e or 'interrupted'}", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
