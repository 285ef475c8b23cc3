"""What examples leave behind, and the pages made of it."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import gradflow as gf
from gradflow import cli, examples
from gradflow.examples import gallery, page, readme, runner
from gradflow.examples.page import Page

ROOT = Path(gf.__file__).parents[1]


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


class Tags(HTMLParser):
    """Which tags are open, and where links and pictures lead."""

    def __init__(self, text):
        super().__init__()
        self.open, self.wrong, self.places = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.places += [found[key] for key in ("href", "src") if key in found]
        if tag == "img" and not found.get("alt"):
            self.wrong.append("a picture without words")
        if tag not in {"meta", "img"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def test_a_gallery_runs_what_is_not_there_and_writes_pages(invented, tmp_path, capsys):
    out = tmp_path / "gallery"
    assert cli.main(["gallery", "good", "--quick", "--out", str(out)]) == 0
    assert cli.main(["gallery", "--quick", "--out", str(out)]) == 1  # the bad one misses
    assert cli.main(["gallery", "--quick", "--out", str(out)]) == 1  # and still does
    assert invented == {"good": 1, "bad": 1}
    index = (out / "index.html").read_text()
    assert "<h2>First</h2>" in index
    assert "misses its number: size" in index
    assert "1 of 2 reach all their numbers" in index
    page = (out / "good" / "index.html").read_text()
    assert "<td>size</td><td class='value'>50.0 %</td><td>at least 25.0 %</td>" in page
    assert "What &lt;it&gt; shows." in page
    assert "<pre>a table</pre>" in page
    assert "gradflow run good --quick" in page
    for path in out.rglob("*.html"):
        tags = Tags(path.read_text())
        assert tags.open == tags.wrong == []
        assert tags.places
        assert all((path.parent / place).exists() for place in tags.places)  # relative, so that it works from a disk
    assert cli.main(["gallery", "good", "--again", "--quick", "--out", str(out)]) == 0
    assert cli.main(["gallery", "good", "--out", str(out)]) == 0  # a full run is another one, and so is another seed
    assert cli.main(["gallery", "good", "--out", str(out), "--seed", "1"]) == 0
    assert invented == {"good": 4, "bad": 1}
    assert cli.main(["gallery", "nothing", "--out", str(out)]) == 2
    assert "wanted names of examples, saw nothing" in capsys.readouterr().err


def test_an_example_that_fails_is_shown_and_run_again(invented, tmp_path, monkeypatch, capsys):
    def fail(page):
        raise ValueError("no <luck>")

    with monkeypatch.context() as m:
        m.setattr(sys.modules["gradflow.examples.good"], "run", fail)
        assert cli.main(["gallery", "good", "--out", str(tmp_path)]) == 1
    assert "good: ValueError: no <luck>" in capsys.readouterr().err
    for path in ("index.html", "good/index.html"):
        assert "<p class='missed'>failed: ValueError: no &lt;luck&gt;</p>" in (tmp_path / path).read_text()
    assert cli.main(["gallery", "good", "--out", str(tmp_path)]) == 0
    assert "failed" not in (tmp_path / "index.html").read_text()


# --- the README's table -----------------------------------------------------------------------------------


def test_full_runs_are_written_into_a_readme(invented, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(readme, "CHAPTERS", examples.CHAPTERS)
    path, out = tmp_path / "README.md", tmp_path / "gallery"
    path.write_text(f"before\n{readme.START}\n| [bad](b.py) | old | row | 1 |\n{readme.END}\nafter\n")
    assert cli.main(["gallery", "good", "--out", str(out), "--readme", str(path)]) == 0
    lines = path.read_text().splitlines()
    row = "| [good](gradflow/examples/good.py) | a good one | size: **50.0 %** (wanted at least 25.0 %) | 1 |"
    assert lines[lines.index(row) - 1] == "| **First** | | | |"
    assert "| [bad](b.py) | old | row | 1 |" in lines  # which was not run anew
    assert lines[0] == "before"
    assert lines[-1] == "after"
    for options, message in (["--quick"], "a quick one"), ([], "one that misses 'size'"):
        text = path.read_text()
        name = "good" if options else "bad"
        cli.main(["gallery", name, "--out", str(tmp_path / name), *options])
        with pytest.raises(runner.UsageError, match=f"wanted a full run of {name}, saw {message}"):
            readme.write(path, [tmp_path / name / name / "page.json"])
        assert path.read_text() == text
    path.write_text("no marks")
    for options, message in ([], "wanted the lines"), (["--quick"], "wanted full runs"):
        assert cli.main(["gallery", "--out", str(tmp_path / "unmade"), "--readme", str(path), *options]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "unmade").exists()


def number(node):
    """The number that a full run has for an expression, None if it is more than a number."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "page.pick":
        node = node.args[0]
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


def goals(name):
    """(pattern of a result's name, goal in words if it is one number) of each result of an example."""
    for call in ast.walk(ast.parse((ROOT / f"gradflow/examples/{name}.py").read_text())):
        if not (isinstance(call, ast.Call) and ast.unparse(call.func) == "page.result"):
            continue
        title, options = call.args[0], {k.arg: k.value for k in call.keywords}
        parts = title.values if isinstance(title, ast.JoinedStr) else [title]
        pattern = "".join(re.escape(p.value) if isinstance(p, ast.Constant) else ".*" for p in parts)
        bounds = [(word, options[key]) for key, word in (("at_least", "at least"), ("at_most", "at most"), ("equal", ""))
                  if key in options]  # fmt: skip
        goal, unit = None, number(options["unit"]) if "unit" in options else ""
        if len(bounds) == 1 and number(bounds[0][1]) is not None:
            goal = f"{bounds[0][0]} {page._text(number(bounds[0][1]), unit)}".strip()
        yield pattern, goal


def test_the_readme_has_a_row_of_every_example_with_the_goals_that_it_has():
    table = (ROOT / "README.md").read_text().partition(readme.START)[2].partition(readme.END)[0]
    rows = re.findall(r"^\| \[(\w+)\]\((.*?)\) \| (.*) \| (.*) \| (\d+) \|$", table, re.MULTILINE)
    assert [r[0] for r in rows] == list(examples.EXAMPLES)
    compared = 0
    for name, place, text, cell, _ in rows:
        assert (ROOT / place).is_file()
        assert text.replace("\\", "") == examples.EXAMPLES[name]
        found = re.findall(r"(?:^|; )(.+?): \*\*(.+?)\*\*(?: \(wanted (.+?)\))?(?=; |$)", cell.replace("\\", ""))
        assert found, name
        for title, _, wanted in found:
            known = [goal for pattern, goal in goals(name) if re.fullmatch(pattern, title)]
            right = known and (None in known or wanted in known)
            assert right, f"{title!r}: `gradflow gallery {name} --again --readme README.md` writes its row anew"
            compared += None not in known
    assert compared >= 20


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
    if shutil.which("bash") is not None:
        script = out + "COMP_WORDS=(gradflow run lene); COMP_CWORD=2; _shtab_gradflow; echo ${COMPREPLY[@]}"
        assert subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout == "lenet\n"
    for shell in ("zsh", "tcsh"):
        assert cli.main(["completion", shell]) == 0
        assert "gradflow" in capsys.readouterr().out
