"""What an example leaves behind: result lines with the numbers they should reach, pictures, and a file that tells of both."""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from .. import backend, data
from ..op import wrap

T = TypeVar("T")


class Page:
    """One run of an example.

    device, seed, quick, options  how it is run; `options` has its own arguments
    out      the folder for its files, which is made when first asked for
    results  {"name", "value", "text", "goal", "met"} of each result line; pictures  (file, caption) pairs
    """

    def __init__(
        self, name: str, out: str | os.PathLike[str], device: Any = "cpu", seed: int = 0, quick: bool = False,
        options: argparse.Namespace | None = None, say: Callable[[str], Any] = print,
    ) -> None:  # fmt: skip
        self.name, self.device, self.seed, self.quick = name, backend.device(device), seed, quick
        self.options = options or argparse.Namespace()
        self.folder, self.say = Path(out), say
        self.results: list[dict[str, Any]] = []
        self.pictures: list[tuple[str, str]] = []
        self.notes: list[str] = []
        self.began, self.computing = time.perf_counter(), time.process_time()

    @property
    def out(self) -> Path:
        """The folder for its files."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder

    def pick(self, full: T, quick: T) -> T:
        """The first value, or in a quick run the second."""
        return quick if self.quick else full

    def steps(self, n: int, title: str) -> Iterator[int]:
        """range(n) with a progress bar, where tqdm is installed and someone looks."""
        yield from self.bar(range(n), title)

    def bar(self, items: Iterable[T], title: str) -> Iterable[T]:
        """Items with a progress bar, where tqdm is installed and someone looks."""
        try:
            from tqdm import tqdm
        except ImportError:
            return items
        return tqdm(items, title, leave=False, disable=None)

    def images(self) -> list[data.TensorDataset]:
        """Images (n, c, h, w) in [0, 1] with their labels (n,), for training and held out, on the device: scikit-learn's
        digits, or those of the folder of --data, of which a quick run takes the first 2000 and 500.
        """
        folder = getattr(self.options, "data", None)
        if folder is None:
            return list(data.digits(self.device))
        found = []
        for part, few in zip(data.images_in(folder), (2000, 500), strict=True):
            n = min(len(part), self.pick(len(part), few))
            x, y = (wrap(backend.to_device(a[:n], self.device)) for a in (part.data, part.targets))
            found.append(data.TensorDataset(x.float() / 255, y))
            self.say(f"{type(part).__name__}: {n} images")
        return found

    def note(self, text: str) -> None:
        """Say something that the gallery shows, too: a table, say."""
        self.notes.append(text)
        self.say(text)

    def result(
        self, name: str, value: Any, *, at_least: float | None = None, at_most: float | None = None, equal: Any = None,
        within: float = 0.0, unit: str = "",
    ) -> bool:
        """Print a result line and note whether it reaches its number: `equal` to one, up to `within`, or a bound.

        unit  "%" prints a share as a percentage; any other is put behind the number
        Bounds are what the example's own data gives: with --data there are none.
        """  # fmt: skip
        number = isinstance(value, (int, float)) or hasattr(value, "item")
        value = (value.item() if hasattr(value, "item") else value) if number else value
        if getattr(self.options, "data", None) is not None:
            at_least = at_most = None
        goals, met = [], not (number and isinstance(value, float) and math.isnan(value))
        for word, bound, holds in (
            ("at least", at_least, lambda: value >= at_least), ("at most", at_most, lambda: value <= at_most),
            ("", equal, lambda: abs(value - equal) <= within if number else value == equal),
        ):  # fmt: skip
            if bound is not None:
                goals.append(f"{word} {_text(bound, unit)}".strip())
                met = met and bool(holds())
        goal = " and ".join(goals)
        text = _text(value, unit)
        line = f"{name}: {text}"
        if goal:
            line += f" (wanted {goal})" if met else f" (MISSED: wanted {goal})"
        self.results.append({"name": name, "value": value if number else str(value), "text": text, "goal": goal, "met": met})
        self.say(line)
        return met

    def figure(self, width: float = 8, height: float = 5) -> Any:
        """A matplotlib Figure that needs no display."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure((width, height), dpi=120, layout="constrained")
        FigureCanvasAgg(figure)
        return figure

    def picture(self, figure: Any, file: str, caption: str) -> Path:
        """Save a matplotlib Figure, or anything with save(path), as a picture and note what it shows."""
        path = self.out / file
        if hasattr(figure, "savefig"):
            figure.savefig(path)
        else:
            figure.save(path)
        self.pictures.append((file, caption))
        self.say(f"picture: {path}")
        return path

    @property
    def met(self) -> bool:
        """Whether every result reached its number."""
        return all(r["met"] for r in self.results)

    def close(self) -> None:
        """Write page.json: how it was run, results, pictures, seconds of the clock and of the host's cores."""
        facts = {
            "name": self.name, "device": str(self.device), "seed": self.seed, "quick": self.quick,
            "seconds": round(time.perf_counter() - self.began, 1),
            "core_seconds": round(time.process_time() - self.computing, 1), "results": self.results,
            "pictures": [{"file": f, "caption": c} for f, c in self.pictures], "notes": self.notes,
        }  # fmt: skip
        part = self.out / "page.json.part"
        part.write_text(json.dumps(facts, indent=1))
        part.replace(self.out / "page.json")


def _text(value: Any, unit: str) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if unit == "%":
        return f"{100 * value:.1f} %"
    text = f"{value}" if isinstance(value, int) else f"{value:.4g}"
    return f"{text} {unit}".rstrip()
