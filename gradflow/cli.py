"""The command line: `gradflow run NAME`, `train`, `list`, `gallery`, `info`, `tuned`, `bench`, `completion`."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import __version__, benchmark, info, recipe
from .cuda import tune
from .examples import CHAPTERS, EXAMPLES, gallery, readme, runner
from .examples.arguments import at_least
from .examples.runner import UsageError, choose_device, describe
from .train import ResumeError

# --- the commands ---------------------------------------------------------------------------------------


def train(args: argparse.Namespace) -> int:
    """Train what a recipe says, or run the example of this name."""
    if args.example in EXAMPLES:
        return runner.run(args.example, args)
    where = choose_device(args.device)
    print(f"device: {describe(where)}")
    recipe.train(args.example, where)
    return 0


def run(args: argparse.Namespace) -> int:
    """Run an example."""
    return runner.run(args.example, args)


def list_examples(args: argparse.Namespace) -> int:
    """Print what `gradflow run` can run, chapter by chapter."""
    width = max(map(len, EXAMPLES))
    for chapter, examples in CHAPTERS.items():
        print(chapter)
        for name, text in examples.items():
            print(f"  {name:{width}}  {text}")
    return 0


def make_gallery(args: argparse.Namespace) -> int:
    """Run the examples that have not been run yet, and write the pages."""
    if args.readme:  # said now, not after the runs
        if args.quick:
            raise UsageError("--readme: wanted full runs, saw --quick")
        readme.write(args.readme, [])
    status = gallery.build(args.out, args.names or list(EXAMPLES), choose_device(args.device), args.seed, args.quick, args.again)
    if args.readme and not status:
        readme.write(args.readme, sorted(args.out.glob("*/page.json")))
    return status


def bench(args: argparse.Namespace) -> int:
    """The benchmark command line."""
    return benchmark.main(args.words)


def completion(args: argparse.Namespace) -> int:
    """Print what makes a shell complete `gradflow`. ImportError without shtab."""
    try:
        import shtab
    except ImportError as e:
        raise ImportError("completion needs the package shtab: pip install shtab") from e
    print(shtab.complete(parser(), args.shell))
    return 0


def tell(args: argparse.Namespace) -> int:
    """Print versions, the machine, the card and the kernels."""
    rows = info.rows()
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        print(f"{name:{width}}  {text}")
    return 0


def tuned(args: argparse.Namespace) -> int:
    """Print which variants of kernels were found fastest, or forget those that this machine timed."""
    if args.clear:
        tune.clear()
    for name, where, none in (("shipped", tune.SHIPPED, "no card has measured it yet"), ("cached", tune.place(), "none")):
        times = tune.table()[name]
        print(f"{name}: {where}" if times else f"{name}: {none}")
        for group, families in sorted(times.items()):
            for family, problems in sorted(families.items()):
                print(f"  {group}, {family}")
                for problem, (variant, us) in sorted(problems.items()):
                    print(f"    {problem}: {variant}, {us} us")
    return 0


# --- parsing --------------------------------------------------------------------------------------------


def parser(words: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The parser of all commands; of examples only the one named in `words` is loaded, and has its own options."""
    top = argparse.ArgumentParser(
        "gradflow", description="Run and train networks, and tell of the machine they run on.",
        epilog="Begin with `gradflow list` and `gradflow run lenet --quick`. Exit status: 0, 1 for a failure or a number that was "
        "missed, 2 for arguments that make no sense.",
    )  # fmt: skip
    top.add_argument("--version", action="version", version=f"gradflow {__version__}")
    commands = top.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")

    def command(name: str, function: Any, text: str, **options: Any) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", **options)
        one.set_defaults(run=function)
        return one

    running = command("run", run, "run an example: `gradflow list` names them")
    training = command(
        "train", train, "train an example, or what a recipe (a .toml file) says", epilog=recipe.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    for of in (running, training):
        if of is training and any(w.endswith(".toml") for w in words):
            of.add_argument("example", type=Path, metavar="RECIPE")
            of.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
            continue
        metavar = "NAME" if of is running else "NAME|RECIPE.toml"
        examples = of.add_subparsers(title="examples", dest="example", required=True, metavar=metavar)
        for name, text in EXAMPLES.items():
            one = examples.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
            if name in words:
                runner.options(one, name)
    command("list", list_examples, "list the examples")
    add = command("gallery", make_gallery, "run all examples and write pages of their pictures, numbers and sources").add_argument
    add("names", nargs="*", metavar="NAME", help="examples (default: all)")
    add("--out", type=Path, default=Path("gallery"), help="folder for the pages (default: %(default)s)")
    add("--quick", action="store_true", help="short runs, of seconds, that reach less")
    add("--again", action="store_true", help="run those, too, that were run before")
    add("--readme", type=Path, metavar="FILE", help="then write the numbers of these full runs into the table of this README")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    add("--seed", type=at_least(0), default=0, help="of all examples (default: %(default)s)")
    command("info", tell, "show versions, the machine, the card and the kernels")
    command("tuned", tuned, "show which variants of kernels were timed, and found fastest").add_argument(
        "--clear", action="store_true", help="forget those that this machine timed"
    )
    measure = command("bench", bench, "measure against PyTorch: `gradflow bench --help`", add_help=False)
    measure.add_argument("words", nargs=argparse.REMAINDER, help="arguments of gradflow-bench")
    command("completion", completion, "print what makes a shell complete this command").add_argument(
        "shell", choices=("bash", "zsh", "tcsh")
    )
    return top


def _meant(words: Sequence[str]) -> None:
    """UsageError for a name that no example has, with the one that was meant; the parser would list them all."""
    if words and words[0] in EXAMPLES:
        raise UsageError(f"wanted a command, saw an example: `gradflow run {words[0]}` runs it")
    if len(words) < 2 or words[0] not in {"run", "train"} or words[1].startswith("-") or words[1].endswith(".toml"):
        return
    if words[1] not in EXAMPLES:
        near = difflib.get_close_matches(words[1], EXAMPLES, 1)
        hint = f"perhaps {near[0]}; " if near else ""
        raise UsageError(f"wanted an example, saw {words[1]!r}: {hint}`gradflow list` names them")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; the exit status: 0, 1 for a failure, 2 for bad arguments, 130 for Ctrl-C."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["bench"]:  # whose options are its own
        return benchmark.main(words[1:])
    try:
        _meant(words)
        args = parser(words).parse_args(words)
        return args.run(args)
    except (UsageError, ResumeError, recipe.RecipeError) as e:
        print(f"gradflow: error: {e}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader has seen enough: `gradflow list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, ImportError) as e:
        print(f"gradflow: error: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as e:
        print(f"gradflow: {e or 'interrupted'}", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
