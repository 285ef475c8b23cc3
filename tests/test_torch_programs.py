"""Unmodified programs of PyTorch: what they print under gradflow is what PyTorch prints, number by number."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "programs"
PROGRAMS = sorted(p.stem for p in FOLDER.glob("*.py") if p.stem != "draws")
NUMBER = re.compile(r"[-+]?(?:\d+\.\d*|\.\d+|\d+)(?:[eE][-+]?\d+)?")

pytest.importorskip("safetensors")
pytest.importorskip("sklearn")


def printed(name, *before):
    """What a program prints, run by python with these arguments before its name."""
    path = os.pathsep.join([str(FOLDER.parent.parent), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "0"}
    run = subprocess.run(
        [sys.executable, "-W", "ignore", *before, f"{name}.py"],
        cwd=FOLDER,
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return run.stdout


def stored(name):
    return (FOLDER / f"{name}.txt").read_text()


def same(seen, wanted):
    """The same words, and the same numbers to the rounding that training grows."""
    assert NUMBER.sub("#", seen).split() == NUMBER.sub("#", wanted).split()
    for i, (a, b) in enumerate(zip(NUMBER.findall(seen), NUMBER.findall(wanted), strict=True)):
        assert math.isclose(float(a), float(b), rel_tol=2e-4, abs_tol=2e-4), f"number {i}: {a}, PyTorch printed {b}"


def same_draws(seen, wanted):
    for name, (values, after) in json.loads(wanted).items():
        found, words = json.loads(seen)[name]
        assert words == after, f"{name}: another count of words was drawn"
        assert len(found) == len(values)
        for a, b in zip(found, values, strict=True):
            assert math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-5 if "." in str(b) else 0), (
                f"{name}: {a}, PyTorch drew {b}"
            )


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name):
    same(printed(name, "-m", "gradflow.torch"), stored(name))


def test_random_numbers_are_pytorchs():
    same_draws(printed("draws", "-m", "gradflow.torch"), stored("draws"))


@pytest.mark.reference
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")
@pytest.mark.parametrize("name", [*PROGRAMS, "draws"])
def test_what_is_stored_is_what_pytorch_prints(name):
    (same_draws if name == "draws" else same)(printed(name), stored(name))
