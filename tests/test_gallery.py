"""What examples leave behind, and the pages made of it."""

from __future__ import annotations

import json
import sys
from types import ModuleType

import numpy as np
import pytest

import gradflow as gf
from gradflow import cli, examples
from gradflow.examples import gallery, runner
from gradflow.examples.page import Page


@pytest.fixture
def invented(monkeypatch, tmp_path):
    """Two examples: one that reaches its number and one that does not; how often each ran."""
    ran = {"good": 0, "bad": 0}
    source = tmp_path / "shown.py"
    source.write_text('"""What <it> shows."""\n')
    for name in ran:
        module = ModuleType(f"gradflow.examples.{name}", "What <it> shows.")
        module.__file__ = str(source)

        def run(page, name=name):
            ran[name] += 1
            page.note("a table")
            page.result("size", 0.5, at_least=0.25 if name == "good" else 0.75, unit="%")

        module.run = run
        module.arguments = lambda parser: parser.add_argument("--size", type=int, default=3)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    chapters = {"First": {"good": "a good one"}, "Second": {"bad": "a bad one"}}
    monkeypatch.setattr(examples, "CHAPTERS", chapters)
    for place in (gallery, runner, cli):
        monkeypatch.setattr(place, "EXAMPLES", {"good": "a good one", "bad": "a bad one"})
        monkeypatch.setattr(place, "CHAPTERS", chapters, raising=False)
    return ran


@pytest.mark.parametrize(
    ("value", "goal", "line", "met"),
    [
        (0.987, {"at_least": 0.98, "unit": "%"}, "x: 98.7 % (wanted at least 98.0 %)", True),
        (0.5, {"at_most": 0.25}, "x: 0.5 (MISSED: wanted at most 0.25)", False),
        (3, {"equal": 3}, "x: 3 (wanted 3)", True),
        (1.01, {"equal": 1.0, "within": 0.02, "unit": "m"}, "x: 1.01 m (wanted 1 m)", True),
        (1.01, {"equal": 1.0}, "x: 1.01 (MISSED: wanted 1)", False),
        (float("nan"), {"at_most": 1.0}, "x: nan (MISSED: wanted at most 1)", False),
        (np.float32(0.5), {}, "x: 0.5", True),
        ("abc", {"equal": "abd"}, "x: abc (MISSED: wanted abd)", False),
        (2.0, {"at_least": 1, "at_most": 3}, "x: 2 (wanted at least 1 and at most 3)", True),
    ],
)
def test_result_lines(value, goal, line, met, tmp_path):
    said = []
    page = Page("x", tmp_path, say=said.append)
    assert page.result("x", value, **goal) is met
    assert said == [line]
    assert page.met is met


def test_a_page_tells_how_it_was_run(tmp_path):
    pytest.importorskip("matplotlib")
    page = Page("x", tmp_path / "new", seed=3, quick=True, say=lambda text: None)
    assert not (tmp_path / "new").exists()  # nothing is made before there is something to put there
    assert page.pick("full", "quick") == "quick"
    assert list(page.steps(3, "counting")) == [0, 1, 2]
    figure = page.figure(2, 2)
    figure.subplots().plot([0, 1])
    page.picture(figure, "p.png", "A line.")
    page.picture(gf.draw(gf.ones(2, requires_grad=True).sum()), "g.dot", "A graph.")
    page.close()
    facts = json.loads((tmp_path / "new" / "page.json").read_text())
    assert (facts["seed"], facts["quick"], facts["device"]) == (3, True, "cpu")
    assert [p["file"] for p in facts["pictures"]] == ["p.png", "g.dot"]
    assert (tmp_path / "new" / "p.png").read_bytes().startswith(b"\x89PNG")


def test_running_gives_the_status_of_its_numbers(invented, tmp_path, capsys):
    assert cli.main(["run", "good", "--out", str(tmp_path / "good"), "--size", "4"]) == 0
    assert cli.main(["run", "bad", "--out", str(tmp_path / "bad")]) == 1
    assert "bad: missed its number: size" in capsys.readouterr().err
    assert runner.main("good", ["--device", "cuda:99", "--out", str(tmp_path)]) == 2


def test_a_gallery_runs_what_is_not_there_and_writes_pages(invented, tmp_path, capsys):
    out = tmp_path / "gallery"
    assert cli.main(["gallery", "good", "--quick", "--out", str(out)]) == 0
    assert cli.main(["gallery", "--quick", "--out", str(out)]) == 1  # the bad one misses
    assert invented == {"good": 1, "bad": 1}
    assert cli.main(["gallery", "good", "--again", "--out", str(out)]) == 0
    assert invented == {"good": 2, "bad": 1}
    index = (out / "index.html").read_text()
    assert "<h2>First</h2>" in index
    assert "misses a number" in index
    page = (out / "good" / "index.html").read_text()
    assert "<td>size</td><td>50.0 %</td><td>at least 25.0 %</td>" in page
    assert "What &lt;it&gt; shows." in page
    assert "<pre>a table</pre>" in page
    assert cli.main(["gallery", "nothing", "--out", str(out)]) == 2
    assert "wanted names of examples, saw nothing" in capsys.readouterr().err


def test_every_example_says_what_it_shows():
    for name, text in examples.EXAMPLES.items():
        module = __import__(f"gradflow.examples.{name}", fromlist=["run"])
        assert callable(module.run), name
        assert module.__doc__.splitlines()[0].endswith("."), name
        assert text[-1] != ".", name


def test_completion_names_commands_and_examples(capsys):
    pytest.importorskip("shtab")
    assert cli.main(["completion", "bash"]) == 0
    out = capsys.readouterr().out
    assert "gallery" in out
    assert "lenet" in out
