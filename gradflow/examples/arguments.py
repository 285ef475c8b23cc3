"""What command lines of examples share: numbers that argparse reads and checks, and --data."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any


def at_least(least: float, kind: Callable[[str], Any] = int) -> Callable[[str], Any]:
    """A parser of numbers that are not below `least`."""

    def parse(text: str) -> Any:
        value = kind(text)
        if not value >= least:
            raise argparse.ArgumentTypeError(f"wanted at least {least}, saw {text}")
        return value

    parse.__name__ = kind.__name__
    return parse


def positive(text: str) -> float:
    """A parser of numbers above zero."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"wanted a number above 0, saw {text}")
    return value


def images(parser: argparse.ArgumentParser) -> None:
    """The option --data of examples whose images may be others: Page.images reads it."""
    parser.add_argument(
        "--data", type=Path, metavar="DIR",
        help="folder with the files of MNIST, Fashion-MNIST, CIFAR-10 or CIFAR-100 (binary version), whose images then take "
        "the place of scikit-learn's digits",
    )  # fmt: skip
