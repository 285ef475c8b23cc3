"""The measuring loop: the columns of a case alternate round by round in one process, each over a batch of calls.

A round gives every column one batch, in turning order, so that a machine that slows down or is shared slows all columns
alike; what is reported is the median of the rounds, and for two columns the median and quartiles of each round's ratio.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from typing import Any

ROUND = 0.004  # seconds that a batch should take: long beside the clock, short beside what disturbs it
MOST, LEAST = 200, 3  # rounds

Calls = Sequence[Callable[[], Any]]  # the same call on several sets of inputs, taken in turn


class HostClock:
    """Time on the CPU: when the call returns, the work is done.

    `cpu_time` counts the processor time of all this process's threads, which other processes do not disturb.
    """

    def __init__(self, cpu_time: bool = False) -> None:
        self.now = time.process_time if cpu_time else time.perf_counter

    def batch(self, calls: Calls, n: int) -> tuple[float, float]:
        """(seconds, seconds of the host) per call over n calls."""
        now = self.now
        if len(calls) == 1:
            call, rounds = calls[0], range(n)
            start = now()
            for _ in rounds:
                call()
            t = (now() - start) / n
        else:
            todo = list(islice(cycle(calls), n))
            start = now()
            for call in todo:
                call()
            t = (now() - start) / n
        return t, t


class CardClock:
    """Time on the card between two events around the batch, and the host's time to issue it.

    PyTorch and CuPy both work on the default stream, so one pair of CuPy's events serves all columns.
    """

    def __init__(self, cp: Any) -> None:
        self.cp, self.start, self.stop = cp, cp.cuda.Event(), cp.cuda.Event()

    def batch(self, calls: Calls, n: int) -> tuple[float, float]:
        """(seconds on the card, seconds of the host) per call over n calls."""
        todo = list(islice(cycle(calls), n))
        self.cp.cuda.Device().synchronize()
        self.start.record()
        begin = time.perf_counter()
        for call in todo:
            call()
        host = time.perf_counter() - begin
        self.stop.record()
        self.stop.synchronize()
        return self.cp.cuda.get_elapsed_time(self.start, self.stop) / 1e3 / n, host / n


class Column:
    """One way of computing a case: its calls, how to switch it on, and what was measured."""

    def __init__(
        self, name: str, calls: Calls, begin: Callable[[], Any] = lambda: None, end: Callable[[], Any] = lambda: None
    ) -> None:
        self.name, self.calls, self.begin, self.end = name, calls, begin, end
        self.iterations = 1
        self.times: list[float] = []
        self.hosts: list[float] = []

    def batch(self, clock: Any, n: int) -> tuple[float, float]:
        """One batch, switched on around it."""
        self.begin()
        try:
            return clock.batch(self.calls, n)
        finally:
            self.end()


def measure(columns: Sequence[Column], clock: Any, seconds: float) -> None:
    """Fill the columns' times. `seconds` are for all of them together; at least three rounds are made.

    A column that alone takes more than twice the seconds stops early, with at least one round.
    """
    gc.collect()
    was = gc.isenabled()
    gc.disable()
    try:
        for c in columns:
            c.batch(clock, len(c.calls))  # warm-up: every set of inputs once, caches and compiled code ready
            c.iterations, t = 1, c.batch(clock, 1)[0]
            while t * c.iterations < ROUND / 4 and c.iterations < 10**6:
                c.iterations *= 4
                t = c.batch(clock, c.iterations)[0]
            c.iterations = max(1, min(10**6, round(ROUND / max(t, 1e-9))))
        spent, begin = dict.fromkeys(columns, 0.0), time.perf_counter()
        for i in range(MOST):
            if i >= LEAST and time.perf_counter() - begin > seconds:
                break
            for c in columns if i % 2 == 0 else reversed(columns):
                if i and spent[c] > 2 * seconds:
                    continue
                t, host = c.batch(clock, c.iterations)
                c.times.append(t)
                c.hosts.append(host)
                spent[c] += t * c.iterations
    finally:
        if was:
            gc.enable()


def ratio(a: Column, b: Column) -> tuple[float, float, float] | None:
    """(median, first quartile, third quartile) of the rounds' ratios of a's time to b's; None without rounds."""
    ratios = [x / y for x, y in zip(a.times, b.times, strict=False)]
    if not ratios:
        return None
    q1, q2, q3 = quartiles(ratios)
    return q2, q1, q3


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """The three quartiles."""
    if len(values) == 1:
        return (values[0],) * 3
    q1, q2, q3 = statistics.quantiles(values, n=4, method="inclusive")
    return q1, q2, q3


def summary(times: Sequence[float], iterations: int) -> dict[str, Any]:
    """The stats of a column in the words of pytest-benchmark's saved JSON."""
    q1, median, q3 = quartiles(times)
    mean, stddev = statistics.fmean(times), statistics.stdev(times) if len(times) > 1 else 0.0
    iqr, data = q3 - q1, sorted(times)
    low = next(t for t in data if t >= q1 - 1.5 * iqr)
    high = next(t for t in reversed(data) if t <= q3 + 1.5 * iqr)
    iqr_outliers = sum(not low <= t <= high for t in data)
    stddev_outliers = sum(abs(t - mean) > stddev for t in data)
    return {
        "min": data[0], "max": data[-1], "mean": mean, "stddev": stddev, "rounds": len(data), "median": median,
        "iqr": iqr, "q1": q1, "q3": q3, "iqr_outliers": iqr_outliers, "stddev_outliers": stddev_outliers,
        "outliers": f"{stddev_outliers};{iqr_outliers}", "ld15iqr": low, "hd15iqr": high, "ops": 1 / mean,
        "total": sum(data), "iterations": iterations,
    }  # fmt: skip


def copy_bandwidth(xp: Any, clock: Any, size: int, seconds: float) -> float:
    """Bytes read and written per second by a copy of `size` bytes: what the shares in the tables are of."""
    a, b = xp.ones(size // 4, "float32"), xp.empty(size // 4, "float32")
    column = Column("copy", [lambda: xp.copyto(b, a)])
    measure([column], clock, seconds)
    return 2 * a.nbytes / statistics.median(column.times)
