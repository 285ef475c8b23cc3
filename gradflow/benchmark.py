"""The installed `gradflow-bench`: finds the bench folder, inside the package or beside it, and runs it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path


def folder() -> Path:
    """Where bench is: in the package once installed, beside it in a checkout. FileNotFoundError if nowhere."""
    package = Path(__file__).parent
    for found in (package / "bench", package.parent / "bench"):
        if (found / "__main__.py").is_file():
            return found
    raise FileNotFoundError(f"gradflow-bench: wanted the folder bench in or beside {package}, saw none")


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line of bench, or these words of one, as gradflow.bench."""
    if "gradflow.bench" not in sys.modules:
        where = folder()
        spec = spec_from_file_location("gradflow.bench", where / "__init__.py", submodule_search_locations=[str(where)])
        assert spec is not None and spec.loader is not None
        module = sys.modules["gradflow.bench"] = module_from_spec(spec)
        spec.loader.exec_module(module)
    return import_module("gradflow.bench.__main__").main(words)
