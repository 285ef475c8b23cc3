"""The gallery as pages: for each example its pictures, its numbers beside those it should reach, and its source."""

from __future__ import annotations

import argparse
import inspect
import json
import sys
import time
from collections.abc import Sequence
from html import escape
from importlib import import_module
from pathlib import Path
from typing import Any

from .. import __version__, backend
from . import CHAPTERS, EXAMPLES, runner
from .readme import telling

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
h1 { font-weight: 600; margin-bottom: .5rem; } h2 { font-weight: 600; margin-top: 2.5rem; } .idea { max-width: 46rem; }
a { color: #1f5fa8; text-decoration: none; } a:hover { text-decoration: underline; } nav, .how, footer { color: #666; }
img { max-width: 100%; height: auto; } figure { margin: 1.5rem 0; } figcaption { color: #555; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 1rem; }
.card { border: 1px solid #ddd; border-radius: 6px; padding: .8rem; overflow-wrap: anywhere; } .card p { margin: .4rem 0; }
.card img { display: block; width: 100%; height: 11rem; margin: .5rem 0; object-fit: contain; background: #fff; }
.card .number { color: #555; font-size: 14px; } .card:has(.missed) { border-color: #b00020; }
pre { background: #f6f6f4; padding: 1rem; overflow-x: auto; font-size: 13px; line-height: 1.4; border-radius: 6px; }
table { border-collapse: collapse; } td, th { border-bottom: 1px solid #ddd; padding: .3rem .8rem; text-align: left; }
td.value { font-variant-numeric: tabular-nums; } .missed { color: #b00020; font-weight: 600; }
"""


def build(
    where: Path, names: Sequence[str], device: backend.device, seed: int = 0, quick: bool = False, again: bool = False
) -> int:
    """Run each example into where/<name>, unless that was done in this way before, and write where/index.html; 1 if one
    of them failed or missed a number, else 0. UsageError for a name that is none.
    """
    unknown = [n for n in names if n not in EXAMPLES]
    if unknown:
        raise runner.UsageError(f"gallery: wanted names of examples, saw {', '.join(unknown)}; `gradflow list` has them")
    where.mkdir(parents=True, exist_ok=True)
    asked = {"device": str(device), "seed": seed, "quick": quick}
    for name in names:
        page = _read(where, name)
        if again or page is None or "error" in page or any(page[key] != value for key, value in asked.items()):
            print(f"--- {name}", flush=True)
            _run(name, where / name, asked)
    pages = [page for n in EXAMPLES if (page := _read(where, n))]
    for page in pages:
        (where / page["name"] / "index.html").write_text(page_html(page, [p["name"] for p in pages]))
    (where / "index.html").write_text(index_html(pages))
    wrong = [p["name"] for p in pages if p["name"] in names and verdict(p)]
    end = f"; not as they should be: {', '.join(wrong)}" if wrong else ""
    print(f"gallery: {where / 'index.html'}, {len(pages)} examples{end}")
    return int(bool(wrong))


def _read(where: Path, name: str) -> dict[str, Any] | None:
    """What a run left behind, if there was one."""
    path = where / name / "page.json"
    return json.loads(path.read_text()) if path.exists() else None


def _run(name: str, out: Path, asked: dict[str, Any]) -> None:
    """Run one example with the options it has by itself; whatever goes wrong in it is noted, and the next one follows."""
    parser = argparse.ArgumentParser(name)
    runner.options(parser, name)
    words = ["--device", asked["device"], "--seed", str(asked["seed"]), "--out", str(out)]
    began = time.perf_counter()
    try:
        runner.run(name, parser.parse_args([*words, "--quick"] if asked["quick"] else words), announce=False)
    except Exception as e:  # noqa: BLE001 (said, and counted as a failure)
        error, nothing = f"{type(e).__name__}: {e}", dict.fromkeys(("results", "pictures", "notes"), ())
        print(f"{name}: {error}", file=sys.stderr)
        page = {"name": name, **asked, "seconds": round(time.perf_counter() - began, 1), **nothing, "error": error}
        out.mkdir(parents=True, exist_ok=True)
        (out / "page.json").write_text(json.dumps(page, indent=1))


def verdict(page: dict[str, Any]) -> str:
    """What is wrong with a page: that it failed, or which numbers it misses; empty if nothing is."""
    if "error" in page:
        return f"failed: {page['error']}"
    missed = [r["name"] for r in page["results"] if not r["met"]]
    return f"misses its number: {', '.join(missed)}" if missed else ""


# --- HTML -----------------------------------------------------------------------------------------------


def _document(title: str, body: str) -> str:
    return (
        f"<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>\n{body}\n"
        f"<footer><p>gradflow {__version__}</p></footer>\n</body></html>\n"
    )


def _how(page: dict[str, Any]) -> str:
    """The command that gives this page, and how long it takes."""
    words = (f" --seed {page['seed']}" if page["seed"] else "") + (" --quick" if page["quick"] else "")
    return f"<p class='how'><code>gradflow run {page['name']}{words}</code>: {page['seconds']} s on {escape(page['device'])}</p>"


def _wrong(page: dict[str, Any]) -> str:
    return f"<p class='missed'>{escape(verdict(page))}</p>" if verdict(page) else ""


def _line(result: dict[str, Any]) -> str:
    name, text, goal = (escape(result[key]) for key in ("name", "text", "goal"))
    cells = f"<td>{name}</td><td class='value'>{text}</td><td>{goal or '-'}</td>"
    return f"<tr>{cells}</tr>" if result["met"] else f"<tr class='missed'>{cells}</tr>"


def page_html(page: dict[str, Any], names: Sequence[str] = ()) -> str:
    """The page of one example, with links to those before and after it among `names`."""
    name = page["name"]
    module = import_module(f"gradflow.examples.{name}")
    links, at = ["<a href='../index.html'>gallery</a>"], names.index(name) if name in names else None
    if at is not None:
        links += [f"<a href='../{n}/index.html'>{arrow} {n}</a>" for n, arrow in
                  [*((n, "&larr;") for n in names[:at][-1:]), *((n, "&rarr;") for n in names[at + 1 :][:1])]]  # fmt: skip
    idea = "\n".join(f"<p>{escape(part)}</p>" for part in (inspect.getdoc(module) or "").split("\n\n"))
    rows = "\n".join(map(_line, page["results"]))
    table = f"<table>\n<tr><th>result</th><th></th><th>wanted</th></tr>\n{rows}\n</table>" if rows else ""
    pictures = "\n".join(
        f"<figure><img src='{escape(p['file'])}' alt='{escape(p['caption'])}'>"
        f"<figcaption>{escape(p['caption'])}</figcaption></figure>"
        for p in page["pictures"]
    )
    notes = "\n".join(f"<pre>{escape(n.strip(chr(10)))}</pre>" for n in page["notes"])
    body = (
        f"<nav>{' &middot; '.join(links)}</nav>\n<h1>{name}</h1>\n<div class='idea'>{idea}</div>\n{_wrong(page)}\n"
        f"{table}\n{_how(page)}\n{pictures}\n{notes}\n"
        f"<h2>gradflow/examples/{name}.py</h2>\n<pre>{escape(inspect.getsource(module))}</pre>"
    )
    return _document(f"{name}: gradflow", body)


def index_html(pages: Sequence[dict[str, Any]]) -> str:
    """The page of all examples, chapter by chapter."""
    by_name = {p["name"]: p for p in pages}
    good = sum(not verdict(p) for p in pages)
    about = "Each is a small program; its page has its pictures, its numbers beside those it should reach, and its source."
    parts = ["<h1>gradflow: the gallery</h1>", f"<p>{about} {good} of {len(pages)} reach all their numbers.</p>"]
    for chapter, examples in CHAPTERS.items():
        cards = [_card(by_name[name], text) for name, text in examples.items() if name in by_name]
        if cards:
            parts.append(f"<h2>{escape(chapter)}</h2>\n<div class='cards'>\n" + "\n".join(cards) + "\n</div>")
    return _document("gradflow: the gallery", "\n".join(parts))


def _card(page: dict[str, Any], text: str) -> str:
    name, shown = page["name"], page["pictures"][:1]
    image = "".join(f"<img src='{name}/{escape(p['file'])}' alt='{escape(p['caption'])}' loading='lazy'>" for p in shown)
    numbers = "".join(f"<p class='number'>{escape(r['name'])}: {escape(r['text'])}</p>" for r in telling(page)[:2])
    link = f"<a href='{name}/index.html'><b>{name}</b>{image}</a>"
    return f"<div class='card'>{link}<p>{escape(text)}</p>{numbers}{_wrong(page)}</div>"
