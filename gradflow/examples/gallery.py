"""The gallery as pages: for each example its pictures, its numbers beside those it should reach, and its source."""

from __future__ import annotations

import argparse
import html
import inspect
import json
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from .. import __version__, backend
from . import CHAPTERS, EXAMPLES, runner

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
h1, h2 { font-weight: 600; } a { color: #1f5fa8; text-decoration: none; } img { max-width: 100%; height: auto; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 1rem; }
.card { border: 1px solid #ddd; border-radius: 6px; padding: .8rem; } .card img { max-height: 11rem; object-fit: contain; }
pre { background: #f6f6f4; padding: 1rem; overflow-x: auto; font-size: 13px; line-height: 1.4; border-radius: 6px; }
table { border-collapse: collapse; } td, th { border-bottom: 1px solid #ddd; padding: .3rem .8rem; text-align: left; }
.missed { color: #b00020; font-weight: 600; } figure { margin: 1.5rem 0; } figcaption { color: #555; } footer { color: #777; }
"""


def build(
    where: Path, names: Sequence[str], device: backend.device, seed: int = 0, quick: bool = False, again: bool = False
) -> int:
    """Run each example into where/<name>, unless that was done before, and write where/index.html; how many missed or
    failed, at most 1. ValueError for a name that is none.
    """
    unknown = [n for n in names if n not in EXAMPLES]
    if unknown:
        raise runner.UsageError(f"gallery: wanted names of examples, saw {', '.join(unknown)}; `gradflow list` has them")
    failed = []
    for name in names:
        if again or not (where / name / "page.json").exists():
            print(f"--- {name}", flush=True)
            if _run(name, where / name, device, seed, quick):
                failed.append(name)
    pages = [json.loads(p.read_text()) for n in EXAMPLES if (p := where / n / "page.json").exists()]
    for page in pages:
        (where / page["name"] / "index.html").write_text(page_html(page))
    where.mkdir(parents=True, exist_ok=True)
    (where / "index.html").write_text(index_html(pages))
    wrong = f"; not as they should be: {', '.join(failed)}" if failed else ""
    print(f"gallery: {where / 'index.html'}, {len(pages)} examples{wrong}")
    return int(bool(failed))


def _run(name: str, out: Path, device: backend.device, seed: int, quick: bool) -> int:
    """Run one example with the options it has by itself; whatever goes wrong in it, the next one follows."""
    parser = argparse.ArgumentParser(name)
    runner.options(parser, name)
    words = ["--device", str(device), "--seed", str(seed), "--out", str(out), *(["--quick"] if quick else [])]
    try:
        return runner.run(name, parser.parse_args(words), announce=False)
    except Exception as e:  # noqa: BLE001 (said, and counted as a failure)
        print(f"{name}: {type(e).__name__}: {e}", file=sys.stderr)
        return 1


def _document(title: str, body: str) -> str:
    return (
        f"<!doctype html>\n<html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{html.escape(title)}</title><style>{STYLE}</style>\n{body}\n"
        f"<footer><p>gradflow {__version__}</p></footer></html>\n"
    )


def _how(page: dict[str, Any]) -> str:
    quick = ", a quick run" if page["quick"] else ""
    return f"{page['seconds']} s on {html.escape(page['device'])}, seed {page['seed']}{quick}"


def _line(result: dict[str, Any]) -> str:
    goal = html.escape(result["goal"]) or "-"
    verdict = "" if result["met"] else " class=missed"
    return f"<tr{verdict}><td>{html.escape(result['name'])}</td><td>{html.escape(result['text'])}</td><td>{goal}</td></tr>"


def page_html(page: dict[str, Any]) -> str:
    """The page of one example."""
    name = page["name"]
    module = import_module(f"gradflow.examples.{name}")
    rows = "\n".join(map(_line, page["results"]))
    pictures = "\n".join(
        f"<figure><img src='{html.escape(p['file'])}' alt='{html.escape(p['caption'])}'>"
        f"<figcaption>{html.escape(p['caption'])}</figcaption></figure>"
        for p in page["pictures"]
    )
    notes = "\n".join(f"<pre>{html.escape(n)}</pre>" for n in page["notes"])
    body = (
        f"<p><a href='../index.html'>gallery</a></p><h1>{name}</h1>"
        f"<p>{html.escape(inspect.getdoc(module) or '')}</p><p>{_how(page)}; <code>gradflow run {name}</code></p>\n"
        f"<table><tr><th>result</th><th></th><th>wanted</th></tr>\n{rows}</table>\n{pictures}\n{notes}\n"
        f"<h2>Source</h2>\n<pre>{html.escape(inspect.getsource(module))}</pre>"
    )
    return _document(f"{name}: gradflow", body)


def index_html(pages: Sequence[dict[str, Any]]) -> str:
    """The page of all examples, chapter by chapter."""
    by_name = {p["name"]: p for p in pages}
    parts = ["<h1>gradflow: the gallery</h1>", "<p>Each is a small program; its page has its pictures, numbers and source.</p>"]
    for chapter, examples in CHAPTERS.items():
        cards = []
        for name, text in examples.items():
            if name not in by_name:
                continue
            page = by_name[name]
            image = f"<img src='{name}/{html.escape(page['pictures'][0]['file'])}' alt=''>" if page["pictures"] else ""
            first = page["results"][0] if page["results"] else None
            line = f"<p>{html.escape(first['name'])}: {html.escape(first['text'])}</p>" if first else ""
            missed = "" if all(r["met"] for r in page["results"]) else "<p class=missed>misses a number</p>"
            link = f"<a href='{name}/index.html'><b>{name}</b>{image}</a>"
            cards.append(f"<div class=card>{link}<p>{html.escape(text)}</p>{line}{missed}</div>")
        if cards:
            parts.append(f"<h2>{html.escape(chapter)}</h2><div class=cards>{''.join(cards)}</div>")
    return _document("gradflow: the gallery", "\n".join(parts))
