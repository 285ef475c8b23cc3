"""Where the time of a training step goes: a table of its ops for each case, and a trace to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gradflow.profiler import profile

from .case import Case, Inputs

WARM, STEPS = 3, 5  # steps before, when kernels compile and memory is taken, and while profiling


def run(cases: Sequence[Case], side: Any, where: Path, rows: int = 25) -> None:
    """Profile each case's step on gradflow's column and print the table; <where>/<case>.json is its trace."""
    where.mkdir(parents=True, exist_ok=True)
    for case in cases:
        side.begin()
        try:
            step, _ = case.make(side, Inputs(case.name, case.dtype))
            for _ in range(WARM):
                step()
            with profile(profile_memory=True) as seen:
                for _ in range(STEPS):
                    step()
        finally:
            side.end()
        averages = seen.key_averages()
        path = where / f"{case.name.replace(' ', '_').replace('/', '_')}.json"
        seen.export_chrome_trace(path)
        most = "self_device_time_total" if averages.device else "self_cpu_time_total"
        print(averages.table(sort_by=most, row_limit=rows, header=f"{case.name}: {STEPS} steps, {side.name}; {path}"), flush=True)
