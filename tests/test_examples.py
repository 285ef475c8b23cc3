"""Every example of the gallery, in its quick form: it reaches its numbers, draws what it names, and its seed decides."""

from __future__ import annotations

import json
from functools import cache

import pytest

from gradflow.examples import EXAMPLES, readme, runner

for package in ("sklearn", "skimage", "matplotlib"):
    pytest.importorskip(package)


def run(name, out, *options):
    """What page.json says after a quick run, its exit status and its pictures."""
    status = runner.main(name, ["--quick", "--device", "cpu", "--out", str(out), *options])
    page = json.loads((out / "page.json").read_text())
    return page | {"status": status, "files": {p["file"]: (out / p["file"]).read_bytes() for p in page["pictures"]}}


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """name -> what a quick run left, made when first asked for."""
    return cache(lambda name: run(name, tmp_path_factory.mktemp(name)))


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_reaches_its_numbers(name, ran):
    page = ran(name)
    assert page["status"] == 0, [r for r in page["results"] if not r["met"]]
    assert any(r["goal"] for r in page["results"]), "a result without a number to reach shows nothing"
    assert page["pictures"]
    assert readme.telling(page), "the README's table needs a part of a result's name: examples/readme.py"


@pytest.mark.parametrize("name", ["fits", "captions", "clip", "style"])  # they draw weights, order and noise
def test_the_same_seed_gives_the_same_numbers_and_pictures(name, ran, tmp_path):
    again = run(name, tmp_path)
    assert again["results"] == ran(name)["results"]
    assert again["files"] == ran(name)["files"]


def test_another_seed_gives_others(ran, tmp_path):
    other = run("fits", tmp_path, "--seed", "1")
    assert [r["value"] for r in other["results"]] != [r["value"] for r in ran("fits")["results"]]
    assert other["files"] != ran("fits")["files"]
