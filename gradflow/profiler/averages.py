"""Ranges of the same name together: how often, how long, how many bytes and launches, and the table of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .record import Range


class FunctionEventAvg:
    """All ranges of one name, and of one list of shapes if they are told apart. Times are microseconds.

    count  how many; cpu_time_total and device_time_total  with, self_...  without the ranges inside them
    cpu_time, device_time  of one, on average; launches  kernels of gradflow that were launched inside them
    cpu_memory_usage, device_memory_usage  bytes allocated inside them; flops  as `with_flops` counts them
    """

    def __init__(self, key: str, input_shapes: tuple = ()) -> None:
        self.key, self.input_shapes, self.stack = key, [list(s) for s in input_shapes], []
        self.count = self.launches = self.flops = 0
        self.cpu_time_total = self.self_cpu_time_total = self.device_time_total = self.self_device_time_total = 0.0
        self.cpu_memory_usage = self.self_cpu_memory_usage = 0
        self.device_memory_usage = self.self_device_memory_usage = 0
        self.is_user_annotation = False

    def add(self, r: Range) -> None:
        """Count a range. What it holds counts as its total only if no outer range has the same name."""
        self.count += 1
        self.self_cpu_time_total += r.own("host_ns") / 1e3
        self.self_device_time_total += r.own("device_ns") / 1e3
        self.self_cpu_memory_usage += r.host_bytes
        self.self_device_memory_usage += r.device_bytes
        self.flops += r.flops
        self.is_user_annotation |= r.kind == "user"
        self.stack = self.stack or list(r.stack)
        outer = r.parent
        while outer is not None and outer.name != r.name:
            outer = outer.parent
        if outer is None:
            self.cpu_time_total += r.host_ns / 1e3
            self.device_time_total += r.device_ns / 1e3
            self.cpu_memory_usage += r.total("host_bytes")
            self.device_memory_usage += r.total("device_bytes")
            self.launches += r.launches

    @property
    def cpu_time(self) -> float:
        """Host time of one."""
        return self.cpu_time_total / self.count

    @property
    def device_time(self) -> float:
        """Time on the card of one."""
        return self.device_time_total / self.count

    cuda_time = device_time

    @property
    def cuda_time_total(self) -> float:
        """device_time_total, by its older name."""
        return self.device_time_total

    def __repr__(self) -> str:
        return f"<FunctionEventAvg key={self.key} count={self.count} cpu_time_total={duration(self.cpu_time_total)}>"


class EventList(list):
    """The averages, or the single ranges, of a profile; as a table with table()."""

    device = memory = False

    def table(
        self, sort_by: str | None = None, row_limit: int = 100, max_name_column_width: int = 55, header: str | None = None,
        **_: Any,
    ) -> str:  # fmt: skip
        """The rows as text, most first by an attribute, "self_cpu_time_total" say. AttributeError if there is none such."""
        rows = list(self)
        if sort_by is not None:
            sort_by = sort_by.replace("cuda", "device")
            rows.sort(key=lambda e: -getattr(e, sort_by))
        cpu = sum(e.self_cpu_time_total for e in self)
        card = sum(e.self_device_time_total for e in self)

        def part(value: float, whole: float) -> str:
            return f"{100 * value / whole:.2f}%" if whole else "--"

        columns: list[tuple[str, Any]] = [
            ("Name", lambda e: _cut(e.key, max_name_column_width)),
            ("Self CPU %", lambda e: part(e.self_cpu_time_total, cpu)),
            ("Self CPU", lambda e: duration(e.self_cpu_time_total)),
            ("CPU total %", lambda e: part(e.cpu_time_total, cpu)),
            ("CPU total", lambda e: duration(e.cpu_time_total)),
            ("CPU time avg", lambda e: duration(e.cpu_time)),
        ]
        if self.device:
            columns += [
                ("Self CUDA", lambda e: duration(e.self_device_time_total)),
                ("Self CUDA %", lambda e: part(e.self_device_time_total, card)),
                ("CUDA total", lambda e: duration(e.device_time_total)),
                ("CUDA time avg", lambda e: duration(e.device_time)),
                ("Launches", lambda e: str(e.launches)),
            ]
        if self.memory:
            columns += [
                ("CPU Mem", lambda e: size(e.cpu_memory_usage)),
                ("Self CPU Mem", lambda e: size(e.self_cpu_memory_usage)),
            ]
            if self.device:
                columns += [
                    ("CUDA Mem", lambda e: size(e.device_memory_usage)),
                    ("Self CUDA Mem", lambda e: size(e.self_device_memory_usage)),
                ]
        columns.append(("# of Calls", lambda e: str(e.count)))
        if any(e.input_shapes for e in rows):
            columns.append(("Input Shapes", lambda e: _cut(str(e.input_shapes), 80)))
        if any(e.flops for e in rows):
            columns.append(("Total FLOPs", lambda e: str(e.flops) if e.flops else "--"))
        cells = [[title for title, _ in columns], *([of(e) for _, of in columns] for e in rows[: max(row_limit, 0) or None])]
        widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
        lines = ["  ".join(text.rjust(w) for text, w in zip(row, widths, strict=True)) for row in cells]
        rule = "  ".join("-" * w for w in widths)
        ends = [f"Self CPU time total: {duration(cpu)}"] + ([f"Self CUDA time total: {duration(card)}"] if self.device else [])
        return "\n".join([*([header] if header else []), rule, lines[0], rule, *lines[1:], rule, *ends, ""])

    def total_average(self) -> FunctionEventAvg:
        """The sums over all rows, without what is inside other ranges."""
        whole = FunctionEventAvg("Total")
        for e in self:
            whole.count += e.count
            for name in ("cpu_time", "device_time"):
                own = getattr(e, f"self_{name}_total")
                for at in (f"{name}_total", f"self_{name}_total"):
                    setattr(whole, at, getattr(whole, at) + own)
        return whole

    @property
    def self_cpu_time_total(self) -> float:
        """Host time of all, in microseconds."""
        return sum(e.self_cpu_time_total for e in self)

    def __str__(self) -> str:
        return self.table()


def averages(ranges: Iterable[Range], by_shape: bool = False) -> EventList:
    """One row for each name, in the order of their first ranges."""
    rows: dict[Any, FunctionEventAvg] = {}
    for r in ranges:
        key = (r.name, str(r.shapes)) if by_shape else r.name
        if key not in rows:
            rows[key] = FunctionEventAvg(r.name, r.shapes if by_shape else ())
        rows[key].add(r)
    return EventList(rows.values())


def _cut(text: str, width: int) -> str:
    return text if width <= 0 or len(text) <= width else text[: width - 3] + "..."


def duration(us: float) -> str:
    """Microseconds in words: 12.300us, 4.560ms, 1.200s."""
    return f"{us / 1e6:.3f}s" if us >= 1e6 else f"{us / 1e3:.3f}ms" if us >= 1e3 else f"{us:.3f}us"


def size(count: float) -> str:
    """Bytes in words: 64 B, 1.50 KB."""
    for unit, of in (("GB", 2**30), ("MB", 2**20), ("KB", 2**10)):
        if abs(count) >= of:
            return f"{count / of:.2f} {unit}"
    return f"{int(count)} B"
