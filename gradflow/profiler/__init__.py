"""Where the time goes: each op's host time, time on the card, bytes and launches, as a table and as a trace.

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA], profile_memory=True) as p:
        train_step()
    print(p.key_averages().table(sort_by="self_cpu_time_total", row_limit=20))
    p.export_chrome_trace("trace.json")

As PyTorch's torch.profiler. While nothing profiles, an op costs what it costs without this file. Times on the card are from
the first to the last moment of a range, measured by events: where the card waits for the host in between, that counts.
"""

from __future__ import annotations

import enum
import os
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import ContextDecorator
from typing import Any, Self

from ..backend import card
from . import record, trace
from .averages import EventList, FunctionEventAvg, averages
from .record import Range, Recorder

__all__ = [
    "EventList", "FunctionEventAvg", "ProfilerAction", "ProfilerActivity", "emit_nvtx", "profile", "record_function",
    "schedule", "supported_activities", "tensorboard_trace_handler",
]  # fmt: skip


class ProfilerActivity(enum.Enum):
    """What to measure."""

    CPU = 0
    CUDA = 2


class ProfilerAction(enum.Enum):
    """What a schedule asks for at a step."""

    NONE = 0
    WARMUP = 1
    RECORD = 2
    RECORD_AND_SAVE = 3


def supported_activities() -> set[ProfilerActivity]:
    """What can be measured here: the card if there is one."""
    return set(ProfilerActivity) if card() is not None else {ProfilerActivity.CPU}


def schedule(
    *, wait: int, warmup: int, active: int, repeat: int = 0, skip_first: int = 0, skip_first_wait: int = 0
) -> Callable[[int], ProfilerAction]:
    """A function of the step's number: after skip_first steps, again and again (repeat times; 0: for ever) wait, then
    warm up, then record, for so many steps. skip_first_wait of 1 leaves the first wait out. ValueError unless active > 0.
    """
    if min(wait, warmup, repeat, skip_first) < 0 or active <= 0:
        raise ValueError(f"schedule: wanted active > 0 and no number below 0, saw {(wait, warmup, active, repeat, skip_first)}")

    def action(step: int) -> ProfilerAction:
        if step < 0:
            raise ValueError(f"schedule: wanted a step >= 0, saw {step}")
        step -= skip_first
        if step < 0:
            return ProfilerAction.NONE
        step += wait if skip_first_wait else 0
        cycle = wait + warmup + active
        if repeat > 0 and step // cycle >= repeat:
            return ProfilerAction.NONE
        at = step % cycle
        if at < wait:
            return ProfilerAction.NONE
        if at < wait + warmup:
            return ProfilerAction.WARMUP
        return ProfilerAction.RECORD if at < cycle - 1 else ProfilerAction.RECORD_AND_SAVE

    return action


def tensorboard_trace_handler(
    dir_name: str, worker_name: str | None = None, use_gzip: bool = False
) -> Callable[[profile], None]:
    """An on_trace_ready that writes each profile to <dir_name>/<worker_name>.<time>.pt.trace.json, as TensorBoard reads."""

    def handle(profiled: profile) -> None:
        os.makedirs(dir_name, exist_ok=True)
        worker = worker_name or f"{socket.gethostname()}_{os.getpid()}"
        name = f"{worker}.{time.time_ns()}.pt.trace.json" + (".gz" if use_gzip else "")
        profiled.export_chrome_trace(os.path.join(dir_name, name))

    return handle


class profile:
    """A block that is measured, or with start(), step() and stop() a loop.

    activities      what to measure; everything that can be, unless given
    schedule        a function of the step's number that gives a ProfilerAction; step() goes on to the next
    on_trace_ready  called with this profile whenever a stretch of recorded steps ends
    record_shapes, profile_memory, with_stack, with_flops   what to note of each op beside its times
    enabled         False records nothing
    """

    def __init__(
        self,
        *,
        activities: Iterable[ProfilerActivity] | None = None,
        schedule: Callable[[int], ProfilerAction] | None = None,
        on_trace_ready: Callable[[profile], Any] | None = None,
        record_shapes: bool = False,
        profile_memory: bool = False,
        with_stack: bool = False,
        with_flops: bool = False,
        with_modules: bool = False,
        enabled: bool = True,
        use_cuda: bool | None = None,
        **_: Any,
    ) -> None:
        self.activities = set(activities) if activities is not None else supported_activities()
        if not self.activities:
            raise ValueError("profile: wanted at least one activity, saw none")
        if use_cuda is not None:
            self.activities = {ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if use_cuda else [])}
        self.schedule, self.on_trace_ready = schedule, on_trace_ready
        self.record_shapes, self.profile_memory, self.with_stack = record_shapes or with_flops, profile_memory, with_stack
        self.with_flops, self.step_num, self.enabled = with_flops, 0, enabled
        self.current_action = ProfilerAction.NONE if schedule else ProfilerAction.RECORD_AND_SAVE
        self.metadata: dict[str, Any] = {}
        self._recorder: Recorder | None = None
        self._step: Range | None = None

    def _new(self) -> Recorder:
        device = ProfilerActivity.CUDA in self.activities
        return Recorder(device, self.profile_memory, self.record_shapes, self.with_stack, self.with_flops)

    def _go(self) -> None:
        """Do what the schedule says for the step that begins."""
        if self.schedule is not None:
            self.current_action = self.schedule(self.step_num)
        recording = self.enabled and self.current_action in (ProfilerAction.RECORD, ProfilerAction.RECORD_AND_SAVE)
        if recording and (self._recorder is None or not self._recorder.running):
            self._recorder = self._new()
            self._recorder.start()
        if recording and self.schedule is not None and self._recorder is not None:
            self._step = self._recorder.open(f"ProfilerStep#{self.step_num}", "user")

    def _end_step(self) -> None:
        if self._step is not None and self._recorder is not None:
            self._recorder.close(self._step)
            self._step = None

    def _save(self) -> None:
        if self._recorder is not None and self._recorder.running:
            self._recorder.stop()
            if self.on_trace_ready is not None:
                self.on_trace_ready(self)

    def start(self) -> None:
        """Begin. RuntimeError if another profile runs."""
        self._go()

    def step(self) -> None:
        """A step of the loop is over; the next begins."""
        self._end_step()
        if self.schedule is not None and self.current_action is ProfilerAction.RECORD_AND_SAVE:
            self._save()
        self.step_num += 1
        if self.schedule is not None:
            self._go()

    def stop(self) -> None:
        """End the recording; what was recorded stays."""
        self._end_step()
        self._save()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    # --- what was seen ----------------------------------------------------------------------------------

    def _seen(self, name: str) -> Recorder:
        if self._recorder is None:
            raise RuntimeError(f"profile.{name}: wanted a profile that recorded something, saw one that never did")
        return self._recorder

    def _list(self, rows: EventList) -> EventList:
        rows.device, rows.memory = self._seen("key_averages").device, self.profile_memory
        return rows

    def key_averages(self, group_by_input_shape: bool = False, **_: Any) -> EventList:
        """A row for each name, or each name and list of shapes: counts, times, bytes, launches."""
        return self._list(averages(self._seen("key_averages").ranges(), group_by_input_shape))

    def events(self) -> EventList:
        """A row for every single range, in the order in which they began."""
        ranges = self._seen("events").ranges()
        return self._list(EventList(row for r in ranges for row in averages([r], bool(r.shapes))))

    def export_chrome_trace(self, path: str | os.PathLike[str]) -> None:
        """Write what chrome://tracing and Perfetto draw; compressed if the name ends in .gz."""
        trace.write(self._seen("export_chrome_trace"), path, self.metadata)

    def export_stacks(self, path: str | os.PathLike[str], metric: str = "self_cpu_time_total") -> None:
        """Write `frame;frame;... microseconds` lines, outermost frame first, which flame graphs are made of."""
        with open(path, "w") as file:
            for row in self.events():
                amount = int(getattr(row, metric.replace("cuda", "device")))
                if row.stack and amount > 0:
                    file.write(f"{';'.join(f.replace(';', ',') for f in reversed(row.stack))} {amount}\n")

    def add_metadata(self, key: str, value: str) -> None:
        """Put a word of the program's own into the trace."""
        self.metadata[key] = value

    add_metadata_json = add_metadata

    def table(self, **how: Any) -> str:
        """key_averages().table(...), as torch.autograd.profiler has it."""
        return self.key_averages().table(**how)

    @property
    def self_cpu_time_total(self) -> float:
        """Host time of all ranges, in microseconds."""
        return self.key_averages().self_cpu_time_total

    def __str__(self) -> str:
        return self.table() if self._recorder is not None else "<profile that recorded nothing yet>"


class record_function(ContextDecorator):
    """A block, or a function, that has a name in the profile that runs; without one it costs a look."""

    def __init__(self, name: str, args: Any = None) -> None:
        self.name = name
        self._ranges: list[tuple[Recorder, Range] | None] = []

    def __enter__(self) -> Self:
        now = record.now
        self._ranges.append(None if now is None else (now, now.open(self.name, "user")))
        return self

    def __exit__(self, *error: object) -> None:
        opened = self._ranges.pop()
        if opened is not None:
            opened[0].close(opened[1])


class emit_nvtx:
    """A block whose ops, nodes and named blocks are ranges to NVIDIA's own tools (Nsight Systems). Without a card nothing."""

    def __init__(self, enabled: bool = True, record_shapes: bool = False) -> None:
        self.recorder = Recorder(nvtx=True, shapes=record_shapes) if enabled and card() is not None else None

    def __enter__(self) -> Self:
        if self.recorder is not None:
            self.recorder.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.recorder is not None:
            self.recorder.stop()
