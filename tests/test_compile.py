"""The compile check itself, on a small part; `python tests/compile.py` does all of it."""

from __future__ import annotations

from pathlib import Path

import compile as check
import pytest

from gradflow.cuda import launch

SPILLS = Path(__file__).parent / "kernels" / "spills.cu"
compiler = pytest.mark.skipif(
    check.nvrtc() is None, reason="CUDA compiler not installed (pip install gradflow[compile])"
)


def test_every_source_has_a_launcher():
    sources = {path.stem for path in launch.folder().glob("*.cu")}
    assert sources == set(check.families())
    assert all(check.families().values())


@compiler
@pytest.mark.parametrize("arch", [75, 90])
@pytest.mark.parametrize("family", ["random", "pointwise"])
def test_compiles(family, arch):
    names = check.families()[family][::23]
    _, _, _, used, wrong = check.check(family, names, arch)
    assert not wrong
    assert {u.kernel for u in used} == set(names)
    assert all(u.registers > 0 for u in used)


@compiler
def test_a_broken_kernel_is_caught():
    with pytest.raises(check.CompileError, match="nonsense"):
        check.compile_text("__global__ void f() { nonsense; }", ["f"], 90)
    with pytest.raises(check.CompileError):
        check.compile_text("__global__ void f() {}", ["g"], 90)


@compiler
def test_spills_are_seen():
    (used,) = check.compile_text(SPILLS.read_text(), ["hungry"], 90)
    assert used.spilled == 0
    assert used.registers > 64
    (used,) = check.compile_text(SPILLS.read_text(), ["hungry"], 90, ("--maxrregcount=32",))
    assert used.spilled > 0


@compiler
def test_shared_memory_is_counted():
    (used,) = check.compile_text(SPILLS.read_text(), ["shared"], 80)
    assert used.shared == 1200


def test_the_table():
    old = [check.Usage("f<int>", 10, 4), check.Usage("f<float>", 8, 16)]
    found = {("a", 75): old, ("a", 90): [check.Usage("g", 7)]}
    lines = [line.split() for line in check.table(found, every=False)]
    assert lines[0][:3] == ["family", "sm_75", "sm_90"]
    assert lines[1:] == [["a", "10/16", "-", "f"], ["a", "-", "7/0", "g"]]
    assert len(check.table(found, every=True)) == 4
