"""Why a step cannot be captured: the op that refused, and the line of the user's program that called it."""

from __future__ import annotations

import linecache
import sys
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

HOME = str(Path(__file__).parents[1])
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
    """The innermost op among frames below the user's, else the function that the user called."""
    for frame in reversed(frames):
        file = frame.f_code.co_filename
        if file.startswith("<the call of "):
            return file[len("<the call of ") : -1]
        entry = frame.f_locals.get("self")
        if frame.f_code.co_name == "__call__" and hasattr(entry, "definition") and hasattr(entry, "rules"):
            return entry.name
    name = frames[0].f_code.co_name if frames else "the step"
    return WORDS.get(name, name)
