"""Running an example by its name: options that all of them have, the device, and what becomes of its page."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from .. import backend
from . import EXAMPLES
from .arguments import at_least
from .page import Page


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


def options(parser: argparse.ArgumentParser, name: str) -> None:
    """Give a parser the options of all examples and those of this one."""
    add = parser.add_argument
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    add("--seed", type=at_least(0), default=0, help="of weights, order and noise (default: %(default)s)")
    add("--quick", action="store_true", help="a short run, of seconds, that reaches less")
    add("--out", type=Path, default=Path("out") / name, help="folder for the results (default: %(default)s)")
    own = getattr(import_module(f"gradflow.examples.{name}"), "arguments", None)
    if own is not None:
        own(parser)


def run(name: str, args: argparse.Namespace, announce: bool = True) -> int:
    """Run an example with parsed options; 0, or 1 if it missed one of its numbers."""
    where = choose_device(args.device)
    there = next(p for p in (args.out, *args.out.absolute().parents) if p.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):  # said now, not after the training
        raise UsageError(f"--out {args.out}: wanted a folder that can be written, saw {there}, which is none")
    if announce:
        print(f"device: {describe(where)}")
    page = Page(name, args.out, where, args.seed, args.quick, args)
    backend.manual_seed(args.seed)
    try:
        import_module(f"gradflow.examples.{name}").run(page)
    except ModuleNotFoundError as e:
        raise ImportError(f"{name} needs the package {e.name}: pip install 'gradflow[examples]'") from e
    page.close()
    if not page.met:
        missed = ", ".join(r["name"] for r in page.results if not r["met"])
        print(f"{name}: missed its number: {missed}", file=sys.stderr)
    return 0 if page.met else 1


def main(name: str, argv: Sequence[str] | None = None) -> int:
    """Run an example as a program of its own; the exit status."""
    parser = argparse.ArgumentParser(f"gradflow run {name}", description=f"{name}: {EXAMPLES.get(name, name)}.")
    options(parser, name)
    try:
        return run(name, parser.parse_args(argv))
    except (UsageError, OSError, ImportError) as e:
        print(f"{name}: {e}", file=sys.stderr)
        return 2 if isinstance(e, UsageError) else 1
