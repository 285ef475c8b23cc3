"""The benchmark command line: cases are checked before they are timed, runs are saved and compared, `gpu` ends."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench import case, layers, measure, models, pointwise, readme, report, saved, sides, sized, targets
from bench.__main__ import main, op_cases

ROOT = Path(__file__).parent.parent
FIELDS = {
    "min", "max", "mean", "stddev", "rounds", "median", "iqr", "q1", "q3", "iqr_outliers", "stddev_outliers",
    "outliers", "ld15iqr", "hd15iqr", "ops", "total", "iterations",
}  # fmt: skip


class Pretended:
    """A column that multiplies by a number."""

    device, whole_steps = "cpu", False

    def __init__(self, name, factor=2.0):
        self.name, self.factor, self.torch = name, factor, name == "torch"

    def begin(self):
        pass

    end = forget = begin

    def allow_tf32(self, allowed):
        pass

    def tensor(self, a, grad=False):
        return a

    def array(self, t):
        return t


def doubling(dtype="float32", timed=None):
    """2 x, by columns that may be wrong."""

    def make(side, inputs):
        x = inputs.normal("x", (100,))

        def call():
            if timed is not None:
                timed.append(side.name)
            return (x * side.factor).astype(x.dtype)

        return call, call

    return case.Case("doubling", "test", make, 800, 100, dtype=dtype)


def run_of(*columns):
    return case.Run(list(columns), measure.HostClock(), 0.01, copied=1 << 20)


# --- checking and measuring ---------------------------------------------------------------------------


def test_a_wrong_column_is_reported_and_not_timed():
    timed = []
    row = run_of(Pretended("numpy", 2.001), Pretended("torch"))(doubling(timed=timed))
    assert "off by" in row["wrong"]["numpy"]
    assert row["columns"] == {} and len(timed) <= 4  # the calls of the check, none of a measurement
    assert "NUMPY WRONG" in report.line(row)
    assert not run_of(Pretended("numpy"), Pretended("torch"))(doubling())["wrong"]


def test_a_column_that_raises_is_reported():
    broken = Pretended("numpy")
    del broken.factor
    row = run_of(broken, Pretended("torch"))(doubling())
    assert "factor" in row["wrong"]["numpy"] and not row["columns"]


def test_a_lone_column_is_checked_in_double_precision():
    class Rounding(Pretended):
        def array(self, t):
            return np.round(t, 2) if t.dtype == np.float32 else t

    assert not run_of(Pretended("numpy"))(doubling())["wrong"]
    assert "off by" in run_of(Rounding("numpy"))(doubling())["wrong"]["numpy"]


@pytest.mark.parametrize(
    ("a", "b", "complaint"),
    [
        ([1.0, np.nan, np.inf], [1.0, np.nan, np.inf], ""),
        ([1.0, np.nan], [1.0, 2.0], "not a number"),
        ([np.inf], [-np.inf], "infinite"),
        ([1.0, 1e4], [1.0, 1e4 + 0.01], ""),
        ([1.0], [1.001], "off by"),
        ([1.0, 2.0], [1.0], "shape"),
        ([], [], ""),
    ],
)
def test_comparison(a, b, complaint):
    found = case.compare(np, [np.float32(a)], [np.float32(b)], np.dtype("float32"), 1)
    assert complaint in found and bool(complaint) == bool(found)
    assert case.compare(np, [np.array([1, 2])], [np.array([1, 3])], np.dtype("float32"), 1) == "result 0 differs"


def test_columns_alternate():
    order = []
    columns = [measure.Column(n, [lambda n=n: order.append(n)]) for n in "ab"]

    class Clock:
        def batch(self, calls, n):
            calls[0]()
            return 1.0, 1.0

    measure.measure(columns, Clock(), 1.0)  # the clock says that a call takes a second: three are enough
    assert order[4:] == ["a", "b", "b", "a", "a", "b"]  # after a warm-up and a calibration each
    assert [len(c.times) for c in columns] == [3, 3] and columns[0].iterations == 1


def test_batches_take_the_sets_of_inputs_in_turn():
    seen = []
    seconds, host = measure.HostClock().batch([lambda i=i: seen.append(i) for i in range(3)], 7)
    assert seen == [0, 1, 2, 0, 1, 2, 0] and seconds == host > 0


def test_summary_against_known_quartiles():
    s = measure.summary([3.0, 1.0, 2.0, 5.0, 4.0], 10)
    assert (s["min"], s["q1"], s["median"], s["q3"], s["max"]) == (1, 2, 3, 4, 5)
    assert s["mean"] == 3 and s["ops"] == pytest.approx(1 / 3) and s["stddev"] == pytest.approx(2.5**0.5)
    assert s["rounds"] == 5 and s["iterations"] == 10 and s["outliers"] == "2;0"
    a, b = measure.Column("a", []), measure.Column("b", [])
    a.times, b.times = [2.0, 2.0, 4.0], [1.0, 2.0, 1.0]
    assert measure.ratio(a, b) == (2.0, 1.5, 3.0)


# --- the cases ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["cpu", "card", "tiny"])
def test_names_of_cases_differ(kind):
    names = [c.name for c in [*op_cases(kind, False), *models.cases(kind, full=True)]]
    assert len(names) == len(set(names)) > 500


TINY = [*sized.cases("tiny"), *layers.cases("tiny"), *models.cases("tiny")]


@pytest.mark.parametrize("c", TINY, ids=lambda c: c.name)
def test_every_tiny_case_is_right(c):
    row = {"wrong": {}, "absent": {}, "columns": {}}
    assert run_of(sides.Gradflow("numpy")).check(c, row), row


def test_every_elementwise_case_is_right():
    run = run_of(sides.Gradflow("numpy"))
    for entry in pointwise.entries():
        for c in pointwise.of(entry, 64, "float32"):
            row = {"wrong": {}, "absent": {}, "columns": {}}
            assert run.check(c, row), f"{c.name}: {row}"


def test_least_work_of_known_cases():
    by_name = {c.name: c for c in op_cases("card", False)}
    # 64 -> 64 channels, 3 x 3, 32 images of 224 x 224: 2 * 9 * 64 * 64 operations for each of 32 * 224^2 places
    conv = by_name["conv2d vgg16 32x64x224x224 -> 64 3x3 forward"]
    assert conv.flops == 2 * 9 * 64 * 64 * 32 * 224**2
    assert conv.moved == 4 * (2 * 32 * 64 * 224**2 + 9 * 64 * 64)
    assert by_name["tanh 64M forward"].moved == 2 * 4 * 2**26
    assert by_name["tanh 64M backward"].moved == 3 * 4 * 2**26  # g and y in, dx out
    assert by_name["mul 64M backward"].moved == 5 * 4 * 2**26  # g, a, b in, da and db out
    assert by_name["matmul 4096x4096x4096 forward"].flops == 2 * 4096**3
    assert by_name["softmax 8192x1024 forward float16"].moved == 2 * 2 * 8192 * 1024


# --- the command line ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two saved runs of two cases."""
    folder = tmp_path_factory.mktemp("runs")
    files = [folder / "a.json", folder / "b.json"]
    for path in files:
        words = ["--device", "cpu", "--columns", "numpy", "--seconds", "0.01", "--quick", "--out", str(path)]
        assert main(["ops", "--only", "tanh 16 *", *words]) == 0
    return files


def test_ops_are_saved_as_pytest_benchmark_does(runs):
    document = json.loads(runs[0].read_text())
    assert {"machine_info", "commit_info", "benchmarks", "datetime", "version"} <= document.keys()
    assert [b["name"] for b in document["benchmarks"]] == ["tanh 16 forward[numpy]", "tanh 16 recorded[numpy]"]
    for b in document["benchmarks"]:
        assert {"group", "name", "fullname", "params", "param", "extra_info", "options", "stats"} <= b.keys()
        assert b["stats"].keys() == FIELDS and 0 < b["stats"]["min"] <= b["stats"]["median"] < 1
    assert document["machine_info"]["numpy"] == np.__version__
    assert len(document["commit_info"]["source"]) == 16


def test_compare_without_pytest_benchmark(runs, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pytest_benchmark", None)
    assert main(["compare", *map(str, runs)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and "tanh 16 forward[numpy]" in "".join(lines)


def test_compare_by_pytest_benchmark(runs, capfd):
    pytest.importorskip("pytest_benchmark")
    assert main(["compare", *map(str, runs)]) == 0
    out = capfd.readouterr().out
    assert "tanh 16 recorded[numpy]" in out and "Median" in out


def test_wrong_arguments(tmp_path, capsys):
    assert main(["compare", str(tmp_path / "none.json"), str(tmp_path / "none.json")]) == 2
    assert "wanted a saved run" in capsys.readouterr().err
    assert main(["ops", "--device", "cpu", "--columns", "numpy", "--only", "no such case"]) == 2
    assert "--list" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["gpu"])


def test_models(capsys):
    assert main(["models", "--device", "cpu", "--columns", "numpy", "--only", "chain", "--seconds", "0.01"]) == 0
    assert "chain of 300 ops" in capsys.readouterr().out


def alone(folder, *words, **variables):
    """A process that can import only what PYTHONPATH says, in another folder."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | variables
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.skipif(shutil.which("g++") is None, reason="the stand-in card needs g++")
def test_gpu_on_the_stand_in(tmp_path):
    test = "tests/test_twins.py::test_twin_agrees_with_definition[tanh-float32]"
    words = ["--stand-in", "--only", "tanh 16 forward", "--only", "mlp", "--tests", test, "--minutes", "2"]
    done = alone(tmp_path, "-m", "bench", "gpu", "--out", "found", *words, PYTHONPATH=str(ROOT))
    text = (tmp_path / "found/report.md").read_text()
    assert done.returncode == 0, done.stdout + done.stderr + text
    document = json.loads((tmp_path / "found/results.json").read_text())
    assert document["machine_info"]["card"]["name"] == "stand-in"
    names = {b["name"] for b in document["benchmarks"]}
    assert {"tanh 16 forward[cupy]", "tanh 16 forward[twin]"} <= names
    assert any(n.startswith("mlp 4x6-5-3[") for n in names)
    assert document["gradflow"]["tests"]["counts"] == {"passed": 1}
    parts = ["twin tests", "targets", "models", "models compiled", "memory checker", "ops"]
    assert [p["name"] for p in document["gradflow"]["parts"]] == parts
    assert "| tanh 16 forward |" in text and "1 passed" in text and "memory checker" in text
    shutil.copytree(tmp_path / "found", tmp_path / "again")
    assert main(["compare", str(tmp_path / "found"), str(tmp_path / "again")]) == 0
    assert main(["compare", str(tmp_path / "found"), str(tmp_path / "found")]) == 0


def test_kernels_for_the_memory_checker(card, capsys):
    assert main(["kernels", "--only", "log_softmax_backward"]) == 0
    assert "kernels: 1 twins run\n" in capsys.readouterr().out


def test_installed_command_finds_bench_inside_the_package(tmp_path):
    """As in a wheel: gradflow/bench, gradflow/kernels, no checkout around them."""
    for folder, to in (("gradflow", "gradflow"), ("bench", "gradflow/bench"), ("kernels", "gradflow/kernels")):
        shutil.copytree(ROOT / folder, tmp_path / "site" / to, ignore=shutil.ignore_patterns("__pycache__"))
    text = "import sys; from gradflow.benchmark import main; sys.exit(main())"
    words = ["ops", "--only", "tanh 16 forward", "--columns", "numpy", "--quick", "--out", "out.json"]
    done = alone(tmp_path, "-c", text, *words, PYTHONPATH=str(tmp_path / "site"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert saved.load(tmp_path / "out.json")["benchmarks"][0]["name"] == "tanh 16 forward[numpy]"


def test_report_puts_the_worst_ratio_first():
    def row(name, ratio):
        stats = {"median": 1e-3}
        return {
            "name": name, "group": "conv2d", "columns": {"numpy": stats, "torch": stats}, "ours": "numpy", "wrong": {},
            "absent": {}, "ratio": ratio,
        }  # fmt: skip

    lines = report.measured([row("good", (0.5, 0.4, 0.6)), row("bad", (3.0, 2.0, 4.0)), row("alone", None)], False)
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["bad", "good", "alone"]
    assert "3.00 (2.00-4.00)" in lines[2] and "1 ms" in lines[2]


# --- goals on a card ----------------------------------------------------------------------------------


def row(goal, ratio, share=None, wrong=(), group="pointwise", **more):
    return {"goal": goal, "ratio": ratio and [ratio] * 3, "share": share, "wrong": wrong, "group": group, "name": "x", **more}


def verdict(what, *rows):
    return next(r[2:] for r in targets.verdicts(rows) if r[0].startswith(what))


def test_a_goal_of_every_case_needs_ratio_and_share_of_every_case():
    good = row("pointwise", 0.8, 0.95), row("pointwise", 1.0, 0.9)
    assert verdict("elementwise", *good) == ["0.89, worst 1.00, 2 of 2 cases; 90% at least, 92% in the mean", "met"]
    assert verdict("elementwise", *good, row("pointwise", 1.01, 0.95))[1] == "**not met**"
    assert verdict("elementwise", *good, row("pointwise", 0.9, 0.89))[1] == "**not met**"
    assert verdict("elementwise", *good, row("pointwise", None, None, {"twin": "off"}))[1] == "**not met**"
    assert verdict("elementwise") == ["", "not measured"]


def test_a_goal_of_the_mean_is_geometric():
    assert verdict("the same in TF32", row("tensor cores", 2.5), row("tensor cores", 0.8))[0].startswith("1.41, worst 2.50")
    assert verdict("the same in TF32", row("tensor cores", 2.5), row("tensor cores", 0.8))[1] == "met"
    assert verdict("the same in TF32", row("tensor cores", 2.5), row("tensor cores", 0.9))[1] == "**not met**"


def test_whole_steps_are_judged_captured_and_by_their_memory():
    peaks = {"twin": {"peak_bytes": 90}, "torch": {"peak_bytes": 100}}
    one = row("", None, group="model", graph_torch=[0.5] * 3, graph_compile=[1.2] * 3, columns=peaks)
    two = row("", None, group="model", graph_torch=[0.9] * 3, graph_compile=[0.8] * 3, columns=peaks)
    assert verdict("training steps, captured", one, two) == ["0.67, worst 0.90, 2 nets", "met"]
    assert verdict("the same over torch.compile", one, two) == ["0.98, worst 1.20, 2 nets", "met"]
    assert verdict("peak device memory", one, two) == ["0.90, worst 0.90", "met"]


def test_every_goal_has_cases_with_names_of_their_own():
    found = [*targets.cases("card")]
    assert {c.goal for c in found} == {g.key for g in targets.GOALS}
    assert len({c.name for c in found}) == len(found)
    lengths = {int(c.name.split()[1].split("x")[1]) for c in found if c.name.startswith("softmax")}
    assert {64, 65536} <= lengths


def test_the_readme_says_that_nothing_was_measured_or_what(tmp_path, monkeypatch):
    monkeypatch.setattr(saved, "ROOT", tmp_path)
    text = f"before\n{readme.START}\nold\n{readme.END}\nafter\n"
    assert "not yet measured on a card" in readme.written(text)
    rows = [row("pointwise", 0.8, 0.95)]
    for date, name in (("2026-01-02", "a"), ("2026-03-01", "b"), ("2026-02-01", "c")):
        facts = {"card": {"name": f"card {name}"}, "cupy": "14.2.0", "torch": "2.11"}
        document = {"datetime": date, "machine_info": facts, "commit_info": {"id": "0" * 40}, "benchmarks": []}
        document["gradflow"] = {"rows": rows}
        folder = tmp_path / "bench" / "results" / name
        folder.mkdir(parents=True)
        (folder / "results.json").write_text(json.dumps(document))
    found = readme.written(text)
    assert "card b on 2026-03-01 at commit 000000000" in found
    assert "| met |" in found
    assert "old" not in found
    assert found.startswith("before\n")
    assert found.endswith("\nafter\n")
    with pytest.raises(ValueError, match="wanted the lines"):
        readme.written("nothing")
