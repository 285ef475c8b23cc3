"""gradflow and the stand-in card against the libraries that they use or play: CuPy 14, nvmath-python, cuDNN's frontend.

They need no card for what is asked here: names and signatures are read off, and under CuPy lies a card without effect
(tests/blank.py), on which every op and kernel runs but for its numbers. The programs have processes of their own.
"""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import card
import numpy as np
import pytest
from card.facts import EXPRESSIONS, outcome_of

pytestmark = pytest.mark.libraries
cupy = pytest.importorskip("cupy", reason="CuPy not installed (pip install gradflow[libraries])")
ROOT = Path(__file__).parents[1]
# What the stand-in has for tests, and gradflow never asks a card for.
OWN = {"CardError", "check", "counts", "launches", "traffic", "CompileException", "OutOfMemoryError", "UnownedMemory"}


def program(tmp_path, *words, needs=()):
    """What `python tests/on_blank.py ...` prints; it fails where something went wrong."""
    for module in needs:
        pytest.importorskip(module, reason=f"{module} not installed (pip install gradflow[libraries])")
    variables = {**os.environ, "CUPY_CACHE_DIR": str(tmp_path), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "on_blank.py", *words], capture_output=True, text=True, env=variables, timeout=300
    )
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-3000:]}"
    return done.stdout


# --- what runs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("what", "dtype"), [
    ("ops", "float32"), ("ops", "bfloat16"), ("definitions", "float32"), ("kernels", "float32"), ("kernels", "bfloat16"),
])  # fmt: skip
def test_ops_and_kernels_on_cupy(what, dtype, tmp_path):
    program(tmp_path, what, dtype)


def test_training_on_cupy(tmp_path):
    program(tmp_path, "training")


def test_kernels_compile_as_cupy_compiles_them(tmp_path):
    program(tmp_path, "texts")


def test_cublaslt_takes_our_plans(tmp_path):
    program(tmp_path, "products", needs=["nvmath", "nvidia.cu13"])


def test_cudnn_takes_our_graphs(tmp_path):
    program(tmp_path, "convolutions", needs=["cudnn"])


# --- the stand-in ---------------------------------------------------------------------------------------------------


def test_the_stand_in_answers_as_cupy(tmp_path):
    answers = json.loads(program(tmp_path, "facts"))
    assert {e: outcome_of(card, e) for e in EXPRESSIONS} == answers


def public(of):
    return [n for n in dir(of) if not n.startswith("_")]


def has(of, name):
    """Whether an object, or each of its objects if it is a class, has this name: without asking a device."""
    return name in dir(of) or (isinstance(of, ModuleType) and hasattr(of, name))


@pytest.mark.parametrize("path", ["", "linalg", "fft", "random", "lib"])
def test_the_stand_in_offers_no_function_more(path):
    theirs, ours, numpy = (getattr(m, path) if path else m for m in (cupy, card, np))
    offered = {n for n in {*public(numpy), *public(ours)} if hasattr(ours, n) and not isinstance(getattr(ours, n), ModuleType)}
    assert not {n for n in offered - OWN if not has(theirs, n)}


def parameters(function):
    """The names of a function's parameters, of compiled ones as the first line of their text has them; None unknown."""
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        line = re.match(r"[\w.]+\((.*)\)", (getattr(function, "__doc__", None) or "").strip().split("\n")[0])
        words = [re.split(r"[=:]", w)[0].split() for w in line[1].split(",")] if line else [["**kwargs"]]
        names = [w[-1].lstrip("*") for w in words if w]
        return None if any("**" in "".join(w) for w in words) else set(names)
    return None if any(p.kind == p.VAR_KEYWORD for p in found) else {p.name for p in found}


def test_the_stand_in_offers_no_attribute_and_parameter_more():
    own = {"Graph.check", "MemoryPool.claim", "ExternalStream.null", "ExternalStream.ptds"}
    inside = {"Capture", "Queue", "capturing", "catch_up", "queue_of", "wait"}  # what the parts of cuda.py share
    words = "Stream ExternalStream Event Device Graph MemoryPool MemoryPointer PinnedMemoryPool MemoryHook"
    classes = [getattr(card.cuda, n) for n in words.split()]
    classes += [card.ndarray, card.RawModule, card.RawKernel, card.ElementwiseKernel, card.ufunc]
    more = []
    for ours in classes:
        theirs = getattr(cupy.cuda, ours.__name__, None) or getattr(cupy, ours.__name__.replace("Ufunc", "ufunc"))
        special = [n for n in vars(ours) if n.startswith("__") and callable(getattr(ours, n))] if ours is card.ndarray else []
        for name in [*public(ours), *special]:
            path = f"{ours.__name__}.{name}"
            if path in own:
                continue
            if not hasattr(theirs, name):
                more.append(path)
            elif callable(getattr(ours, name)) and not name.startswith("__"):
                mine, real = parameters(getattr(ours, name)), parameters(getattr(theirs, name))
                if mine is not None and real is not None and not mine - {"args", "self"} <= real:
                    more.append(f"{path}: {mine - real}")
    for path in ("", ".cuda", ".cuda.nvtx", ".cuda.profiler", ".cuda.runtime", ".cuda.driver", ".cuda.memory", ".cuda.device"):
        ours, theirs = card, cupy
        for word in path.split(".")[1:]:
            ours, theirs = getattr(ours, word), getattr(theirs, word)
        for name in public(ours):
            of = getattr(ours, name)
            if "card" not in str(getattr(of, "__module__", "")) or name in OWN | inside:
                continue
            if callable(of) and not hasattr(theirs, name):
                more.append(f"{path}.{name}")
    assert not more, "\n".join(more)


# --- names ----------------------------------------------------------------------------------------------------------

CARDS = {"cp", "xp", "cupy"}  # variables that hold CuPy, or may
CALLS = {"namespace", "need_card", "card"}  # functions that give it


class Names(ast.NodeVisitor):
    """Every path of attributes that a file looks up on CuPy, through variables of one function too."""

    def __init__(self):
        self.found, self.known = {}, {}

    def path(self, node):
        if isinstance(node, ast.Attribute):
            before = self.path(node.value)
            return None if before is None else [*before, node.attr]
        if isinstance(node, ast.Name):
            return [] if node.id in CARDS else self.known.get(node.id)
        function = node.func if isinstance(node, ast.Call) else None
        name = getattr(function, "attr", None) or getattr(function, "id", None)
        return [] if name in CALLS else None

    def visit_FunctionDef(self, node):
        before, self.known = self.known, {}
        for part in ast.walk(node):  # a module or class of CuPy's in a variable of this function
            if isinstance(part, ast.Assign) and (path := self.path(part.value)):
                self.known |= {t.id: path for t in part.targets if isinstance(t, ast.Name)}
        self.generic_visit(node)
        self.known = before

    def visit_Attribute(self, node):
        if path := self.path(node):
            self.found.setdefault(tuple(path), node.lineno)
        self.generic_visit(node)


def test_names_that_gradflow_uses_are_cupys():
    missing, seen = [], 0
    for file in sorted([*(ROOT / "gradflow").rglob("*.py"), *(ROOT / "bench").rglob("*.py")]):
        names = Names()
        names.visit(ast.parse(file.read_text()))
        for path, line in names.found.items():
            of, seen = cupy, seen + 1
            for word in path:
                if not hasattr(of, word):
                    missing.append(f"{file.relative_to(ROOT)}:{line}: {'.'.join(path)}")
                    break
                of = getattr(of, word)
                if not isinstance(of, (ModuleType, type)):
                    break  # of an object only its class knows more
    assert not missing
    assert seen > 300  # of which none is missing


def test_cupyx_and_private_names():
    import cupyx
    from cupy import _core

    assert set(inspect.signature(cupyx.errstate).parameters) >= {"linalg"}
    enum = _core._routines_linalg
    assert callable(_core.set_compute_type)
    assert {n: getattr(enum, n) for n in ("COMPUTE_TYPE_DEFAULT", "COMPUTE_TYPE_TF32")} == {
        n: getattr(card._core._routines_linalg, n) for n in ("COMPUTE_TYPE_DEFAULT", "COMPUTE_TYPE_TF32")
    }
    text = parameters(cupy.RawModule)
    assert text >= {"code", "options", "name_expressions"}
    assert parameters(cupy.ndarray.set) >= {"arr", "stream"} and parameters(cupy.ndarray.get) >= {"stream", "out", "blocking"}
