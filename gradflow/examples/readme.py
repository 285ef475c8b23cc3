"""The gallery's table in the README: of each example the numbers that tell most, written from what full runs left behind."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import CHAPTERS
from .runner import UsageError

START, END = "<!-- the gallery: gradflow gallery --readme README.md -->", "<!-- end of the gallery -->"
# Example -> parts of the names of its most telling results; of one that is not here it is the first.
TELLING = {
    "graph": ("df/dx",), "neuron": ("ds/dw1",), "tiny_tanh": ("W after the step",), "homework": ("tape and hand",),
    "multiply": ("gradgradcheck",), "least_squares": ("least squares: descent and normal",),
    "accumulation": (" -> 1: passes",), "momentum": ("steps to a hundredth",),
    "newton": ("Newton-CG: value", "gradient descent: value reached"), "gates": ("same value by",), "fits": ("|x|",),
    "spiral": ("3 neurons", "20 neurons, L2 of 0.001"), "softmax_hinge": ("softmax: held", "hinge: held"),
    "vanishing": ("held out digits right, started",), "filters": ("learned kernel",), "alexnet": ("parameters", "the small net"),
    "resnet": ("residual,", "plain,"), "regularised": ("dropout: of", "augmentation: of"),
    "optimizers": ("SGD, cosine", "Adam, cosine"),
    "char_rnn": ("RNN:", "LSTM:"), "gpt": ("LSTM: surprise", "GPT: surprise"),
    "seq2seq": ("reversal, Transformer", "sums, Transformer"), "first_filters": ("filters in", "the same"),
    "best_images": ("what the third",), "saliency": ("lost by",), "grad_cam": ("CAM:",),
    "class_images": ("(hardened)",), "fooling": ("pairs",), "adversarial": ("PGD",),
    "deep_dream": ("dreams of",), "style": ("brick: distance of style",), "matrix_norms": ("error of missing",),
    "gan": ("vanilla: made", "least squares: made"), "dcgan": ("made digits",), "diffusion": ("drawn digits",),
    "turing": ("wrong bits",), "clip": ("zero-shot",), "guided": ("and at last in",), "layer_zoo": ("rows",),
}  # fmt: skip


def telling(page: dict[str, Any]) -> list[dict[str, Any]]:
    """The most telling results of a page."""
    parts = TELLING.get(page["name"])
    return [r for r in page["results"] if any(p in r["name"] for p in parts)] if parts else page["results"][:1]


def row(name: str, text: str, page: dict[str, Any]) -> str:
    """An example's row of the table."""
    cells = []
    for result in telling(page):
        wanted = f" (wanted {_cell(result['goal'])})" if result["goal"] else ""
        cells.append(f"{_cell(result['name'])}: **{_cell(result['text'])}**{wanted}")
    return f"| [{name}](gradflow/examples/{name}.py) | {_cell(text)} | {'; '.join(cells)} | {max(page['core_seconds'], 1):.0f} |"


def _cell(text: str) -> str:
    """Text without what Markdown would read as a table's or an emphasis's mark."""
    return re.sub(r"([|*_])", r"\\\1", text)


def written(readme: str, pages: Iterable[dict[str, Any]]) -> str:
    """A README's text with new rows for these pages between its two marks; other examples keep theirs.

    UsageError without the marks, and for a page of a quick run or of an example that failed or misses a number.
    """
    before, mark, rest = readme.partition(START)
    old, end, after = rest.partition(END)
    if not mark or not end:
        raise UsageError(f"readme: wanted the lines {START!r} and {END!r}, saw not both")
    rows = {match[1]: match[0] for match in re.finditer(r"^\| \[(\w+)\].*$", old, re.MULTILINE)}
    names = {name: text for examples in CHAPTERS.values() for name, text in examples.items()}
    for page in pages:
        wrong = ["a quick one"] if page["quick"] else ["one that failed"] if "error" in page else []
        wrong += [f"one that misses {r['name']!r}" for r in page["results"] if not r["met"]]
        if wrong:
            raise UsageError(f"readme: wanted a full run of {page['name']}, saw {wrong[0]}")
        rows[page["name"]] = row(page["name"], names[page["name"]], page)
    lines = []
    for chapter, examples in CHAPTERS.items():
        lines += [f"| **{chapter}** | | | |", *(rows[n] for n in examples if n in rows)]
    head = "| example | what it shows | result (wanted) | core seconds |\n|---|---|---|---|"
    return f"{before}{START}\n{head}\n" + "\n".join(lines) + f"\n{END}{after}"


def write(path: Path, pages: Iterable[Path]) -> None:
    """Write the results of these page.json files into a README."""
    path.write_text(written(path.read_text(), [json.loads(p.read_text()) for p in pages]))
