"""The compile check itself, on a small part; `python tests/compile.py` does all of it."""

from __future__ import annotations

from pathlib import Path

import compile as check
import designed
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
    names = check.families(family)[family][::23]
    _, _, _, used, wrong = check.check(family, names, arch, rows=False)
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


@compiler
@pytest.mark.skipif(check.disassembler() is None, reason="CUDA disassembler not installed (pip install gradflow[compile])")
def test_instructions_are_read():
    text = "struct alignas(16) four { float v[4]; };\n" + "".join(
        f"__global__ void {name}({t}* x, {t}* y) {{ y[threadIdx.x] = x[threadIdx.x]; }}\n"
        for name, t in (("wide", "four"), ("narrow", "float"))
    )
    used = {u.kernel: u for u in check.compile_text(text, ["wide", "narrow"], 90, (), instructions=True)}
    wide, narrow = used["wide"], used["narrow"]
    assert designed.found("load16", wide.instructions) and designed.found("store16", wide.instructions)
    assert not designed.found("load16", narrow.instructions) and not designed.found("local", wide.instructions)


@pytest.mark.parametrize(  # from NVIDIA's occupancy calculator
    ("arch", "registers", "shared", "threads", "blocks"),
    [
        (75, 32, 0, 256, 4), (80, 32, 0, 256, 8), (90, 32, 0, 32, 32), (120, 32, 0, 256, 6), (90, 33, 0, 256, 6),
        (90, 128, 0, 256, 2), (90, 255, 0, 256, 1), (90, 255, 0, 512, 0), (90, 16, 48 << 10, 128, 4), (75, 16, 48 << 10, 128, 1),
        (120, 16, 100 << 10, 128, 0), (80, 16, 163 << 10, 128, 1), (90, 40, 0, 100, 12),
    ],
)  # fmt: skip
def test_occupancy(arch, registers, shared, threads, blocks):
    assert designed.occupancy(arch, registers, shared, threads) == blocks


def test_what_is_not_as_designed_is_named(monkeypatch):
    row = designed.Row(r"f<(\d+)>", threads=lambda m: int(m[1]), blocks={90: 2}, has="load16", never="local", since=80)
    monkeypatch.setitem(designed.ROWS, "family", [row])
    good = check.Usage("f<256>", 64, instructions=frozenset({"LDG.E.128.CONSTANT", "FFMA"}))
    assert designed.compare("family", 90, [good]) == ([], [("f<256>", 4, 2)])
    bad = check.Usage("f<1024>", 64, instructions=frozenset({"LDG.E", "STL.64"}))
    wrong, _ = designed.compare("family", 90, [good, bad])
    assert [w.split(":")[0] for w in wrong] == ["f<1024>"] * 3
    assert all(any(part in w for w in wrong) for part in ("1 blocks", "no load16", "STL.64"))
    assert designed.compare("family", 80, [bad]) == (wrong[1:], [("f<1024>", 1, 0)])
    assert designed.compare("family", 75, [bad]) == ([], [])
    assert "no kernel of family matches" in designed.compare("family", 90, [check.Usage("g")])[0][0]


def test_rows_are_of_families_that_exist():
    assert designed.ROWS.keys() <= check.families().keys()


@compiler
def test_results_are_kept(monkeypatch, tmp_path):
    monkeypatch.setattr(check, "kept", lambda: tmp_path)
    work = ("__global__ void f() {}", ["f"], 90, (), False)
    first = check.compiled(*work, fresh=False)
    monkeypatch.setattr(check, "compile_text", None)
    assert check.compiled(*work, fresh=False) == first
    with pytest.raises(TypeError):
        check.compiled(*work, fresh=True)


def test_the_table():
    old = [check.Usage("f<int>", 10, 4), check.Usage("f<float>", 8, 16)]
    found = {("a", 75): old, ("a", 90): [check.Usage("g", 7)]}
    lines = [line.split() for line in check.table(found, every=False)]
    assert lines[0][:3] == ["family", "sm_75", "sm_90"]
    assert lines[1:] == [["a", "10/16", "-", "f"], ["a", "-", "7/0", "g"]]
    assert len(check.table(found, every=True)) == 4
