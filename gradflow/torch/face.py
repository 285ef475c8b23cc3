"""Modules called torch and torch.*: each finds its names in gradflow when they are asked for."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import Distribution
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from .missing import mentions, missing
from .places import ROOTS, Live, sources


class Face(ModuleType):
    """A module of torch's tree. A name that gradflow has not can be mentioned; hasattr() says that it is not there."""

    def __init__(self, name: str) -> None:
        super().__init__(name, f"gradflow in the place of {name}.")
        self.__path__: list[str] = []
        self._sources = sources(name) or ()

    def __getattr__(self, name: str) -> Any:
        if name == "__all__":
            return sorted(n for n in dir(self) if not n.startswith("_"))
        if not (name.startswith("__") and name.endswith("__")):
            path = f"{self.__name__}.{name}"
            if sources(path) is not None:
                return import_module(path)
            for source in self._sources:
                if isinstance(source, Live):
                    if name in source:
                        return source.of(name)()
                    continue
                found = source.get(name, _NONE) if isinstance(source, dict) else _in(source, name)
                if found is not _NONE:
                    setattr(self, name, found)
                    return found
            if mentions(sys._getframe(1)):
                return missing(path)
        raise AttributeError(f"gradflow has no {self.__name__}.{name}")

    def __setattr__(self, name: str, value: Any) -> None:
        for source in self.__dict__.get("_sources", ()):
            if isinstance(source, Live) and name in source:
                source.of(name)(value)
                return
        super().__setattr__(name, value)

    def __dir__(self) -> Iterable[str]:
        names = set(self.__dict__)
        for source in self._sources:
            names |= set(source) if isinstance(source, dict) else _public(source)
        return sorted(names)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        name = self.__name__.rpartition(".")[2]
        if callable(found := self.__dict__.get(name) or getattr(self, name, None)) and not isinstance(
            found, ModuleType
        ):
            return found(*args, **kwargs)  # torch.autograd.gradcheck is a function where a file has its name
        raise NotImplementedError(f"gradflow has no {self.__name__}")

    def __repr__(self) -> str:
        return f"<module {self.__name__!r}, which gradflow stands for>"


_NONE = object()


def _public(source: str) -> set[str]:
    """The public names of a gradflow module."""
    if find_spec(source) is None:
        return set()
    module = import_module(source)
    names = getattr(module, "__all__", None) or (n for n in dir(module) if not n.startswith("_"))
    return {n for n in names if not isinstance(getattr(module, n, None), ModuleType)}


def _in(source: Any, name: str) -> Any:
    """The public thing of this name in a gradflow module; its own modules and private names are not torch's."""
    if name.startswith("_"):
        return _NONE
    try:
        found = getattr(import_module(source), name)
    except (AttributeError, ModuleNotFoundError):
        return _NONE
    return _NONE if isinstance(found, ModuleType) else found


class Installed(Distribution):
    """The package torch, as importlib.metadata sees it."""

    def read_text(self, filename: str) -> str | None:
        """Its name and version; it has no other files."""
        return "Metadata-Version: 2.1\nName: torch\nVersion: 2.13.0\n" if filename == "METADATA" else None

    def locate_file(self, path: Any) -> Any:
        """The path itself: nothing is installed."""
        return Path(path)


class Finder(MetaPathFinder, Loader):
    """Answers for torch and everything below it."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        """A spec for a module of torch's tree, None for any other."""
        parts = name.split(".")
        if parts[0] != "torch" or (len(parts) > 1 and parts[1] not in ROOTS):
            return None
        return ModuleSpec(name, self, is_package=True)

    def find_distributions(self, context: Any = None) -> Iterable[Distribution]:
        """What importlib.metadata is told of the package torch: programs ask for its version before they import it."""
        return [Installed()] if getattr(context, "name", None) in (None, "torch") else []

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module itself."""
        return Face(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Names are found when they are asked for, but for torch.__version__."""
        if module.__name__ == "torch":
            module.__version__ = module.version_of_torch  # type: ignore[attr-defined]
