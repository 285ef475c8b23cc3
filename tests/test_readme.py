"""The README does what it says: one command per section, and its table for adding an op, followed literally."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("section", ["Run", "Test"])
def test_a_section_holds_one_command(section):
    command = subprocess.check_output([sys.executable, str(ROOT / ".ci/readme_command.py"), section], text=True).strip()
    assert command.startswith("python -m pip install -e ")
    assert "\n" not in command


def test_the_first_example_runs():
    code = re.search(r"```python\n(.*?)```", TEXT, re.DOTALL)[1]
    scope = {}
    exec(code, scope)
    assert scope["d1"].item() == 32
    assert scope["d2"].item() == 48
    assert scope["w"].grad.shape == (1000, 10)


def steps():
    """(file, code) of each row of the table that says how to add an op."""
    section = re.search(r"^## How to add an op\n(.*?)(?=^## )", TEXT, re.MULTILINE | re.DOTALL)[1]
    return re.findall(r"^\| \d\..*?\| `([^`]+)` \| `([^`]+)`", section, re.MULTILINE)


def test_adding_an_op_as_the_table_says(tmp_path):
    for folder in ("gradflow", "kernels", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    found = dict(steps())
    assert list(found) == [
        "gradflow/ops/pointwise.py", "kernels/pointwise.cuh", "gradflow/tensor.py", "gradflow/__init__.py",
    ]  # fmt: skip
    for file, line in found.items():
        path = tmp_path / file
        text = path.read_text()
        if file.endswith("tensor.py"):
            text = text.replace("    # --- pointwise ", f"    {line}\n\n    # --- pointwise ", 1)
        elif file.endswith("__init__.py"):
            text = text.replace("from .ops.pointwise import (\n", f"from .ops.pointwise import (\n    {line},\n", 1)
        elif file.endswith(".cuh"):
            text = text.replace("// ---- arithmetic ----\n", f"// ---- arithmetic ----\n{line}\n", 1)
        else:
            text += f"\n{line}\n"
        assert text != path.read_text(), file
        path.write_text(text)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-k", "cube", "tests/test_gradients.py", "tests/test_twins.py"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.search(r"([89]|\d\d) passed", run.stdout), (
        run.stdout
    )  # gradients, dtypes, twin in four dtypes, definition
    check = "import gradflow as gf; x = gf.tensor(2.0, requires_grad=True); gf.cube(x).backward(); "
    check += "print(x.cube().item(), x.grad.item())"
    assert subprocess.check_output([sys.executable, "-c", check], cwd=tmp_path, text=True).split() == ["8.0", "12.0"]


def test_a_broken_kernel_is_seen(tmp_path):
    # the sign of one line of CUDA changed: the twins' reader must fall
    for folder in ("gradflow", "kernels", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    path = tmp_path / "kernels/pointwise.cuh"
    text = path.read_text()
    line = next(line for line in text.splitlines() if " tanh_backward(" in line)
    path.write_text(text.replace(line, line.replace("- ", "+ ", 1)))
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-k", "test_twin and tanh_backward and float32", "tests/test_twins.py"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 1, run.stdout
    assert "1 failed" in run.stdout


def test_the_table_of_speed_on_a_card_is_that_of_the_newest_results():
    from bench import readme

    assert readme.written(TEXT) == TEXT, "python -m bench readme writes it anew"
