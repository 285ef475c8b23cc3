"""The README's table of speed on a card, from the newest results kept in bench/results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import report, saved

START, END = "<!-- speed on a card: python -m bench readme -->", "<!-- end -->"
NOTHING = """**GPU kernels are not yet measured on a card**: what is known of them is that they agree with their definitions on the
stand-in card, move the bytes and make the launches that `python -m pytest tests/test_traffic.py tests/test_launches.py` counts,
and compile for sm_75, 80, 90, 100 and 120 without a register spill."""


def newest() -> dict[str, Any] | None:
    """The newest results of a real card, None without any."""
    found = [saved.load(p) for p in sorted((saved.ROOT / "bench" / "results").glob("*/results.json"))]
    found = [d for d in found if (d["machine_info"].get("card") or {}) and "stand-in" not in str(d["machine_info"]["cupy"])]
    return max(found, key=lambda d: d["datetime"], default=None)


def text(document: dict[str, Any] | None) -> str:
    """What the README says of it."""
    if document is None:
        return NOTHING
    facts, commit = document["machine_info"], document["commit_info"]
    head = (
        f"Measured on {facts['card']['name']} on {document['datetime'][:10]} at commit {commit['id'][:9]}, CuPy {facts['cupy']}, "
        f"PyTorch {facts.get('torch')}, by `python -m bench gpu`:"
    )
    return "\n".join([head, "", *report.goals(document["gradflow"]["rows"])])


def written(readme: str) -> str:
    """A README's text with the table between its two marks. ValueError without them."""
    before, mark, rest = readme.partition(START)
    _, end, after = rest.partition(END)
    if not mark or not end:
        raise ValueError(f"readme: wanted the lines {START!r} and {END!r} in the README, saw not both")
    return f"{before}{START}\n{text(newest())}\n{END}{after}"


def write(path: Path | None = None) -> int:
    """Write the table into a README; 0."""
    path = path or saved.ROOT / "README.md"
    path.write_text(written(path.read_text()))
    return 0
