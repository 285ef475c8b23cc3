"""The command line: run a program of PyTorch with gradflow in PyTorch's place."""

from __future__ import annotations

import os
import runpy
import sys
from types import ModuleType

from . import install

USAGE = "usage: python -m gradflow.torch (SCRIPT | -m MODULE | -c CODE) [ARGUMENTS]"


def main(args: list[str]) -> None:
    """Run a script, a module or a text with its arguments, as python does."""
    if not args or args[0] in ("-h", "--help"):
        print(__doc__, USAGE, sep="\n\n", file=sys.stdout if args else sys.stderr)
        raise SystemExit(0 if args else 2)
    if args[0] in ("-m", "-c") and len(args) < 2:
        print(USAGE, file=sys.stderr)
        raise SystemExit(2)
    install()
    if args[0] == "-m":
        sys.argv, sys.path[0] = args[1:], os.getcwd()
        runpy.run_module(args[1], run_name="__main__", alter_sys=True)
        return
    main_module = sys.modules["__main__"] = ModuleType("__main__")
    scope = main_module.__dict__
    if args[0] == "-c":
        sys.argv, sys.path[0] = ["-c", *args[2:]], ""
        exec(compile(args[1], "<string>", "exec"), scope)
        return
    script = args[0]
    if not os.path.isfile(script):  # a folder or an archive with a __main__.py
        sys.argv = args
        runpy.run_path(script, run_name="__main__")
        return
    sys.argv, sys.path[0] = args, os.path.dirname(os.path.abspath(script))
    scope["__file__"] = script
    with open(script, "rb") as f:
        exec(compile(f.read(), script, "exec"), scope)


if __name__ == "__main__":
    main(sys.argv[1:])
