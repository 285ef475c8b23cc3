"""The tuner: who answers, what is timed, what is kept, and that nothing it finds on a disk stops a program."""

import json
import os
import threading
from types import SimpleNamespace

import pytest

from gradflow.cuda import launch, tune

pytestmark = pytest.mark.cuda

SECONDS = {"a": 3.0, "b": 1.0, "c": 2.0}


class Problem:
    """A problem of three variants, and a clock that knows their times; `runs` is what was launched."""

    def __init__(self, monkeypatch, **failing):
        self.runs, self.failing, self.times = [], failing, dict(SECONDS)
        monkeypatch.setattr(tune, "clock", self.clock)

    def run(self, variant):
        self.runs.append(variant)
        if variant in self.failing:
            raise self.failing[variant]

    def clock(self, call):
        call()
        return self.times[self.runs[-1]]

    def ask(self, key=("conv2d", 1), variants=("a", "b", "c"), family="conv"):
        return tune.choose(family, key, variants, self.run)


@pytest.fixture
def problem(card, monkeypatch, tmp_path):
    monkeypatch.setenv("GRADFLOW_CACHE", str(tmp_path))
    monkeypatch.setenv("GRADFLOW_TUNE", "1")
    monkeypatch.setattr(tune, "SHIPPED", tmp_path / "shipped.json")
    monkeypatch.setattr(tune, "_spent", 0.0)
    monkeypatch.setattr(tune, "_benchmark", False)
    tune.forget()
    yield Problem(monkeypatch)
    tune.forget()
    tune._measured.clear()


def rows(path):
    """The problems of a table's only card and family."""
    times = json.loads(path.read_text())["times"]
    (families,) = times.values()
    (problems,) = families.values()
    return problems


# --- who answers ------------------------------------------------------------------------------------------


def test_the_fastest_is_found_once(problem):
    assert problem.ask() == "b"
    assert problem.runs.count("a") == 1 + tune.REPEATS and set(problem.runs) == set("abc")
    before = len(problem.runs)
    assert problem.ask() == "b" and len(problem.runs) == before
    problem.times = {"a": 1.0, "b": 2.0, "c": 3.0}
    assert problem.ask(("conv2d", 2)) == "a" and problem.ask() == "b"


def test_off_takes_the_first_and_times_nothing(problem, monkeypatch):
    monkeypatch.setenv("GRADFLOW_TUNE", "0")
    assert problem.ask() == "a" and problem.runs == [] and not tune.place().exists()
    monkeypatch.setenv("GRADFLOW_TUNE", "1")
    tune.forget()
    assert problem.ask() == "b"
    monkeypatch.setenv("GRADFLOW_TUNE", "0")
    tune.forget()
    assert problem.ask() == "a"  # what a stopwatch once said is for those who ask for it


def test_the_switch_is_pytorchs(problem, monkeypatch):
    monkeypatch.delenv("GRADFLOW_TUNE")
    assert tune.benchmark() is False and problem.ask() == "a"
    try:
        tune.benchmark(True)
        assert problem.ask() == "b"
        tune.benchmark_limit(1)
        assert problem.ask(("conv2d", 7)) == "a"
        tune.benchmark_limit(0)
        assert problem.ask(("conv2d", 8)) == "b"
    finally:
        tune.benchmark(False)
        tune.benchmark_limit(10)
    assert problem.ask() == "a"


def test_never_on_the_stand_in_by_itself(problem, monkeypatch, card):
    monkeypatch.setattr(tune, "clock", None)
    assert tune.active() is (card.__name__ == "cupy")
    if not tune.active():
        assert problem.ask() == "a" and problem.runs == []


def test_one_variant_needs_no_clock(problem):
    assert problem.ask(variants=("c",)) == "c" and problem.runs == []


def test_the_disk_answers_the_next_process(problem):
    assert problem.ask() == "b"
    assert rows(tune.place()) == {"('conv2d', 1)": ["'b'", 1e6]}
    tune.forget()
    problem.runs.clear()
    assert problem.ask() == "b" and problem.runs == []
    assert problem.ask(family="pool") == "b" and problem.runs != []  # another source


def test_variants_are_tuples_and_numbers_too(problem, monkeypatch):
    def clock(call):
        call()
        return 1.0 if problem.runs[-1] == (64, "wide") else 2.0

    monkeypatch.setattr(tune, "clock", clock)
    variants = (0, (64, "wide"), "cudnn")
    assert problem.ask(variants=variants) == (64, "wide")
    tune.forget()
    problem.runs.clear()
    assert problem.ask(variants=variants) == (64, "wide") and problem.runs == []


def test_a_variant_that_is_there_no_more_is_no_answer(problem):
    assert problem.ask() == "b"
    tune.forget()
    assert problem.ask(variants=("a", "c")) == "c"


def test_the_shipped_table_answers_first_and_when_tuning_is_off(problem, monkeypatch):
    name, _ = tune.machine()
    tune.write(tune.SHIPPED, {name: {tune.source_of("conv"): {"('conv2d', 1)": ["'c'", 5.0]}}})
    monkeypatch.setenv("GRADFLOW_TUNE", "0")
    assert problem.ask() == "c" and problem.ask(("conv2d", 2)) == "a"
    tune.forget()
    monkeypatch.setenv("GRADFLOW_TUNE", "1")
    assert problem.ask() == "c" and problem.runs == []


@pytest.mark.parametrize(("name", "family"), [("another card sm_90", None), (None, "conv 0123456789abcdef")])
def test_a_table_of_another_card_or_source_says_nothing(problem, name, family):
    times = {name or tune.machine()[0]: {family or tune.source_of("conv"): {"('conv2d', 1)": ["'c'", 5.0]}}}
    tune.write(tune.SHIPPED, times)
    assert problem.ask() == "b"


def test_no_table_is_shipped_that_no_card_measured():
    found = tune.read(tune.SHIPPED)
    assert all("sm_" in name and "stand-in" not in name for name in found)


def test_comments_and_spaces_are_no_other_source(problem, monkeypatch):
    texts = {"a.cu": '#line 1 "a.cu"\nint f() { return 1; }  // why\n'}
    monkeypatch.setattr(launch, "source", texts.__getitem__)

    def source(text):
        texts["a.cu"] = text
        tune.source_of.cache_clear()
        return tune.source_of("a")

    one = source('#line 1 "a.cu"\nint f() { return 1; }  // why\n')
    assert source('#line 3 "b.cuh"\n/* else\nwhere */ int f()\n{ return 1; }') == one
    assert source("int f() { return 2; }") != one


# --- the time it may take --------------------------------------------------------------------------------------


def test_a_problem_has_a_budget(problem, monkeypatch):
    monkeypatch.setattr(tune.BUDGET, "problem", -1.0)
    assert problem.ask() == "a" and problem.runs == [] and not tune.place().exists()


def test_the_best_so_far_when_the_time_is_over(problem, monkeypatch):
    now, found = [0.0], problem.run

    def run(variant):
        found(variant)
        now[0] += 1.0 if variant == "b" else 0.001

    monkeypatch.setattr(tune, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(problem, "run", run)
    assert problem.ask(variants=("a", "b", "c")) == "b"
    assert "c" not in problem.runs and not tune.place().exists()  # the next process may find better


def test_the_process_has_a_budget(problem, monkeypatch):
    monkeypatch.setattr(tune.BUDGET, "process", 0.05)
    monkeypatch.setattr(tune, "_spent", 0.04)
    assert problem.ask() == "b"
    monkeypatch.setattr(tune, "_spent", 0.06)
    assert problem.ask(("conv2d", 2)) == "a"


def test_the_hopeless_are_not_timed_to_the_end(problem):
    problem.ask(variants=("b", "a"))
    assert problem.runs.count("a") == 3


def test_a_variant_that_fails_is_told_and_passed(problem):
    problem.failing = {"b": RuntimeError("no such instruction")}
    with pytest.warns(UserWarning, match="'b' failed for .*no such instruction"):
        assert problem.ask() == "c"
    problem.failing = {"b": MemoryError()}
    assert problem.ask(("conv2d", 2)) == "c"  # no room for its workspace


def test_all_fail(problem):
    problem.failing = dict.fromkeys("abc", MemoryError())
    assert problem.ask() == "a" and not tune.place().exists()


# --- when it may not --------------------------------------------------------------------------------------------


def test_nothing_is_timed_while_a_stream_captures(problem, card):
    stream = card.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        try:
            assert problem.ask() == "a" and problem.runs == []
        finally:
            stream.end_capture()
    assert problem.ask() == "b"  # capture's answer was not kept


def test_a_variant_may_ask_itself(problem):
    inner = []

    def run(variant):
        inner.append(tune.choose("conv", ("inner",), ("x", "y"), lambda v: None))
        problem.runs.append(variant)

    assert tune.choose("conv", ("outer",), ("a", "b", "c"), run) == "b"
    assert set(inner) == {"x"}


def test_threads_time_a_problem_once(problem):
    found = []
    threads = [threading.Thread(target=lambda: found.append(problem.ask())) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert found == ["b"] * 4 and problem.runs.count("b") == 1 + tune.REPEATS


# --- the disk -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"format": 2, "times": {}}', '{"format": 1}', '{"format": 1, "times": {"x": 3}}',
     '{"format": 1, "times": {"x": {"y": {"z": "b"}}}}', '{"format": 1, "times": {"x": {"y": {"z": [3, "b"]}}}}', "\xff\xfe"],
)  # fmt: skip
def test_a_damaged_file_is_told_once_and_replaced(problem, text):
    tune.place().write_bytes(text.encode("latin-1"))
    with pytest.warns(UserWarning, match="is ignored") as told:
        found = problem.ask(), problem.ask(("conv2d", 2))
    assert found == ("b", "b") and len(told) == 1 and len(rows(tune.place())) == 2


def test_two_processes_keep_each_others_rows(problem):
    problem.ask()
    tune._stored.cache_clear()
    tune._stored(tune.place())
    other = json.loads(tune.place().read_text())["times"]
    next(iter(next(iter(other.values())).values()))["('theirs',)"] = ["'a'", 1.0]
    tune.write(tune.place(), other)
    problem.ask(("conv2d", 2))
    assert set(rows(tune.place())) == {"('conv2d', 1)", "('theirs',)", "('conv2d', 2)"}
    assert [p.name for p in tune.place().parent.iterdir()] == ["tuned.json"]  # no parts left


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_folder_that_cannot_be_written(problem, tmp_path):
    tmp_path.chmod(0o500)
    assert problem.ask() == "b"


def test_a_folder_that_cannot_be_made(problem, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GRADFLOW_CACHE", str(tmp_path / "file" / "folder"))
    assert problem.ask() == "b"


def test_clear(problem):
    problem.ask()
    assert tune.table()["cached"] and tune.table()["measured"]
    tune.clear()
    assert not tune.place().exists() and not any(tune.table().values())
    tune.clear()


def test_a_table_to_ship_is_measured_afresh(problem):
    problem.ask()
    tune.write(tune.SHIPPED, {tune.machine()[0]: {tune.source_of("conv"): {"('conv2d', 1)": ["'c'", 5.0]}}})
    tune.forget()
    problem.runs.clear()
    with tune.measured() as times:
        assert problem.ask() == "b" and problem.runs
    assert times == {tune.machine()[0]: {tune.source_of("conv"): {"('conv2d', 1)": ["'b'", 1e6]}}}


# --- the card's own clock -------------------------------------------------------------------------------------------


def test_events_time_a_call(problem, card):
    slow = card.zeros((300, 300)) + 1.0
    with tune._Events() as seconds:
        one = seconds(lambda: None)
        many = seconds(lambda: [slow @ slow for _ in range(20)])
    assert 0 <= one < many < 60


def test_pytorchs_name_is_the_switch(problem):
    from gradflow.torch.face import Face

    settings = Face("torch.backends.cudnn")
    before = settings.benchmark, settings.benchmark_limit
    try:
        assert before == (False, 10) and "benchmark" in dir(settings)
        settings.benchmark, settings.benchmark_limit = True, 4
        assert tune.benchmark() and tune.benchmark_limit() == 4 and settings.benchmark is True
    finally:
        settings.benchmark, settings.benchmark_limit = before
    assert not tune.benchmark()


def test_the_command_line_shows_and_clears(problem, capsys):
    from gradflow.cli import main

    problem.ask()
    assert main(["tuned"]) == 0
    out = capsys.readouterr().out
    assert "shipped: no card has measured it yet" in out and "('conv2d', 1): 'b', 1000000.0 us" in out
    assert main(["tuned", "--clear"]) == 0 and not tune.place().exists()
    assert "cached: none" in capsys.readouterr().out


def test_a_bench_run_makes_the_table(problem, tmp_path, capsys):
    from bench import sides, tuned

    def made(side, inputs):
        return (lambda: problem.ask(("made", inputs.dtype.name)),) * 2

    class Row:
        name, tf32, dtype, make = "row", False, "float32", staticmethod(made)

    class Broken(Row):
        name, dtype, make = "broken", "float32", staticmethod(lambda side, inputs: ({}["no"],) * 2)

    out, now = tmp_path / "out.json", tune.source_of("conv")
    old = {tune.machine()[0]: {"conv 00": {"('old',)": ["'a'", 1.0]}, now: {"('x',)": ["'a'", 1.0]}}}
    tune.write(out, old)
    side = sides.Gradflow("twin")
    assert tuned.run([Row, Broken], side, out) == 1  # and what the others found is kept
    assert tune.read(out) == {
        tune.machine()[0]: {now: {"('x',)": ["'a'", 1.0], "('made', 'float32')": ["'b'", 1e6]}}
    }
    assert tuned.run([Row], side, out) == 0
    assert "1 problems of" in capsys.readouterr().out
