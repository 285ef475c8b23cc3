"""A profile as a Chrome trace: what chrome://tracing and Perfetto draw."""

from __future__ import annotations

import gzip
import json
import os
from typing import Any

from .record import Range, Recorder

_KINDS = {"op": "cpu_op", "backward": "cpu_op", "optimizer": "user_annotation", "user": "user_annotation"}


def events(recorder: Recorder) -> list[dict[str, Any]]:
    """Trace events: one line for each thread of the host, and one for the card with the ranges that hold no others."""
    process = os.getpid()
    found: list[dict[str, Any]] = []

    def event(name: str, kind: str, line: Any, start: int, ns: int, **args: Any) -> dict[str, Any]:
        at = {"ts": (start - recorder.began) / 1e3, "dur": ns / 1e3}
        return {"ph": "X", "name": name, "cat": kind, "pid": line[0], "tid": line[1], **at, "args": args}

    for r in recorder.ranges():
        found.append(event(r.name, _KINDS[r.kind], (process, r.thread), r.start, r.host_ns, **_details(r)))
        if r.device_ns and (not r.inner or r.kind == "user"):
            line = "user ranges" if r.kind == "user" else "ops"
            found.append(event(r.name, "kernel", ("card", line), r.device_start, r.device_ns, launches=r.launches))
    return found


def _details(r: Range) -> dict[str, Any]:
    """What is known of a range beside its times."""
    named = {
        "Input Dims": list(r.shapes), "Launches": r.launches, "Host bytes": r.host_bytes, "Device bytes": r.device_bytes,
        "Flops": r.flops, "Call stack": ";".join(r.stack),
    }  # fmt: skip
    return {name: value for name, value in named.items() if value}


def write(recorder: Recorder, path: str | os.PathLike[str], metadata: dict[str, Any]) -> None:
    """Write the trace to a file, compressed if its name ends in .gz; the file is whole or not there."""
    path = os.fspath(path)
    text = json.dumps({"traceEvents": events(recorder), "displayTimeUnit": "ms", **metadata})
    data = gzip.compress(text.encode()) if path.endswith(".gz") else text.encode()
    part = f"{path}.part"
    with open(part, "wb") as file:
        file.write(data)
    os.replace(part, path)
