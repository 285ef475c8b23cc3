"""Every example of the gallery, in its quick form: it reaches its numbers, draws what it names, and its seed decides."""

from __future__ import annotations

import json

import pytest

from gradflow.examples import EXAMPLES, runner

for package in ("sklearn", "skimage", "matplotlib"):
    pytest.importorskip(package)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """name -> what page.json says after a quick run, made when first asked for."""
    found = {}

    def run(name, again=0):
        if (name, again) not in found:
            out = tmp_path_factory.mktemp(name)
            status = runner.main(name, ["--quick", "--device", "cpu", "--out", str(out)])
            page = json.loads((out / "page.json").read_text())
            found[name, again] = page | {"status": status, "files": {p.name for p in out.iterdir()}}
        return found[name, again]

    return run


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_reaches_its_numbers(name, ran):
    page = ran(name)
    assert page["status"] == 0, [r for r in page["results"] if not r["met"]]
    assert any(r["goal"] for r in page["results"]), "a result without a number to reach shows nothing"
    assert {p["file"] for p in page["pictures"]} <= page["files"]


@pytest.mark.parametrize("name", ["spiral", "lenet", "captions", "saliency", "clip"])  # they draw weights, order and noise
def test_the_same_seed_gives_the_same_result(name, ran):
    assert ran(name)["results"] == ran(name, again=1)["results"]
