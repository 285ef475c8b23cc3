"""The house: imports go left to right, the wheel carries kernels and benches, importing costs little, one table."""

from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ORDER = [
    ["backend"], ["kernel", "cases"], ["tape"], ["traced", "dtypes"], ["plan"], ["call"], ["op"], ["ops"], ["cuda"],
    ["formats"], ["writes"], ["chance", "memory"], ["printing", "drawing"], ["tensor"], ["legacy"], ["convert"], ["create"],
    ["draws"], ["autograd"], ["func"],
    ["nn", "optim", "data", "amp", "graphs", "io", "fft", "linalg", "masked", "signal", "special"], ["distributions", "profiler"],
    ["train", "logs"], ["recipe"], ["examples", "info"], ["cli", "benchmark"], ["torch"],
]  # fmt: skip
RANK = {name: i for i, names in enumerate(ORDER) for name in names}


def room(path):
    """The first name under gradflow that a file belongs to."""
    parts = path.relative_to(ROOT / "gradflow").with_suffix("").parts
    return parts[0]


def imports(path):
    """The rooms of gradflow that a file imports when it is itself imported (not inside its functions)."""
    package = ["gradflow", *path.relative_to(ROOT / "gradflow").parts[:-1]]
    tree = ast.parse(path.read_text())
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            target = [*base, *(node.module.split(".") if node.module else [])]
            if target[:1] == ["gradflow"]:
                if len(target) > 1:
                    if target[1] in RANK:
                        yield target[1]
                else:
                    yield from (a.name for a in node.names if a.name in RANK)


@pytest.mark.parametrize(
    "path",
    [p for p in sorted((ROOT / "gradflow").rglob("*.py")) if room(p) in RANK],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_imports_go_left_to_right(path):
    for name in imports(path):
        # an op finds its launcher in cuda/ by name, at run time
        assert RANK[name] <= RANK[room(path)], f"{path.name} imports {name}, which stands to its right"


def test_only_backend_imports_cupy():
    for path in (ROOT / "gradflow").rglob("*.py"):
        if path.name != "backend.py":
            text = path.read_text()
            assert "import cupy" not in text and "from cupy" not in text, path


def test_no_cuda_text_in_python():
    for path in (ROOT / "gradflow").rglob("*.py"):
        assert "__global__" not in path.read_text(), path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)],
        check=True, capture_output=True,
    )  # fmt: skip
    return zipfile.ZipFile(next(out.glob("*.whl")))


def test_the_wheel_carries_every_source(wheel):
    names = set(wheel.namelist())
    for folder, inside in (("gradflow", "gradflow"), ("kernels", "gradflow/kernels"), ("bench", "gradflow/bench")):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".cu", ".cuh"):
                assert f"{inside}/{path.relative_to(ROOT / folder)}" in names


def test_import_costs_at_most_twice_numpy():
    # The cost as a count that does not depend on the machine's mood: modules imported beyond NumPy's own.
    text = "import sys, numpy; n = len(sys.modules); import gradflow; print(n, len(sys.modules) - n)"
    numpys, ours = map(int, subprocess.check_output([sys.executable, "-c", text], text=True).split())
    assert ours < numpys / 2
    text = "import sys, gradflow; print([m for m in ('cupy', 'torch', 'sklearn', 'matplotlib') if m in sys.modules])"
    loaded = subprocess.check_output([sys.executable, "-c", text], text=True)
    assert "cupy" not in loaded and "torch" not in loaded and "matplotlib" not in loaded
