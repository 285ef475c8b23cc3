"""Why a step cannot be captured: the op that refused, and the line of the user's program that called it."""

from __future__ import annotations

import linecache
import sys
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

HOME = str(Path(__file__).parents[1])
MODULES = str(Path(HOME) / "nn")
CALL = "<the call of "  # how the file of an op's written-out call begins
WRAPPERS = {"call", "make"}  # decorators' inner functions
LIBRARIES = ("cupy", "numpy", "card")  # what gradflow calls; `card` plays CuPy in tests
WORDS = {
    "__float__": "float()", "__int__": "int()", "__bool__": "bool()", "__index__": "an index", "__repr__": "print",
    "__str__": "print", "__format__": "print", "__array__": "a NumPy array", "item": ".item()", "tolist": ".tolist()",
}  # fmt: skip


def refusal(error: BaseException) -> RuntimeError | None:
    """The error in words of the user's program; None if it is not about capturing."""
    if not isinstance(error, Exception) or "captur" not in str(error):
        return None
    frames = _frames(error.__traceback__)
    users = [i for i, (frame, _) in enumerate(frames) if not _ours(frame)]
    if users:
        frame, line = frames[users[-1]]
    else:  # gradflow's own step: name who called it
        frame, line = _caller(sys._getframe())
    op = _op([f for f, _ in frames[users[-1] + 1 if users else 0 :]])
    file = frame.f_code.co_filename
    text = linecache.getline(file, line).strip()
    return RuntimeError(
        f"graph: {op} at {file}:{line} ({text}) cannot be captured, as the host would have to wait for the card or copy to it; "
        f"keep it out of the step, or read what the step returns: {str(error).rstrip('.')}"
    )


def _frames(trace: TracebackType | None) -> list[tuple[FrameType, int]]:
    found = []
    while trace is not None:
        found.append((trace.tb_frame, trace.tb_lineno))
        trace = trace.tb_next
    return found


def _ours(frame: FrameType) -> bool:
    """Whether a frame is gradflow's or a library's below it."""
    file = frame.f_code.co_filename
    module = frame.f_globals.get("__name__", "").partition(".")[0]
    return file.startswith((HOME, "<")) or module in LIBRARIES


def _caller(frame: FrameType | None) -> tuple[FrameType, int]:
    last: Any = frame
    while frame is not None:
        if not _ours(frame):
            return frame, frame.f_lineno
        last, frame = frame, frame.f_back
    return last, last.f_lineno


def _op(frames: list[FrameType]) -> str:
    """What the user called; if that was a module, the innermost op inside it."""
    names = [_name(f) for f in frames if f.f_code.co_name not in WRAPPERS or f.f_code.co_filename.startswith(CALL)]
    if not names:
        return "the step"
    if frames[0].f_code.co_filename.startswith(MODULES):
        ops = [_name(f) for f in frames if f.f_code.co_filename.startswith(CALL) or _entry(f) is not None]
        return ops[-1] if ops else names[-1]
    return names[0]


def _name(frame: FrameType) -> str:
    file, name = frame.f_code.co_filename, frame.f_code.co_name
    if file.startswith(CALL):
        return file[len(CALL) : -1]
    entry = _entry(frame)
    return entry.name if entry is not None else WORDS.get(name, name)


def _entry(frame: FrameType) -> Any:
    """The op of the table that a frame calls, if it does."""
    entry = frame.f_locals.get("self")
    return entry if frame.f_code.co_name == "__call__" and hasattr(entry, "definition") and hasattr(entry, "rules") else None
