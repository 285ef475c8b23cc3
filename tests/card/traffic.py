"""What kernels move: `with card.traffic() as t:` counts, for each launch inside, the bytes of its loads and stores.

Kernels run from a text compiled anew with a call before each access (trace.h), ten to a hundred times slower. Functions
that NumPy plays, fills and copies count the bytes of their operands, each once: what CuPy's kernels move at least.
"""

import ctypes

import numpy as np

from . import memory, work
from .build import runtime

open_counts = []  # the Traffic objects that count now
SECTOR = 32  # bytes; what device memory is read and written in


class Counts(ctypes.Structure):
    """What trace.h counts in one launch."""

    names = """loaded stored loads stores wide_loaded wide_stored load_requests store_requests load_sectors store_sectors
        load_used store_used distinct_loaded distinct_stored async_loaded shared_loaded shared_stored shared_requests
        shared_cycles shared_least""".split()
    _fields_ = [(name, ctypes.c_uint64) for name in names]


class Moved:
    """The bytes of one launch, or of several together.

    loaded, stored: bytes of device memory in all threads' instructions, loads and stores their number.
    distinct_loaded, distinct_stored: the bytes touched, each once; of several launches, once per launch.
    load_sectors, store_sectors: sectors of 32 bytes that the warps' requests touch; what the caches have to deliver.
    async_loaded: by asynchronous copies. shared_cycles: what the banks of shared memory need, shared_least without conflict.
    """

    def __init__(self, kind="", name="", counts=None):
        self.kind, self.name = kind, name
        self.__dict__.update(counts or dict.fromkeys(Counts.names, 0))

    def __add__(self, other):
        return Moved(counts={n: getattr(self, n) + getattr(other, n) for n in Counts.names})

    @property
    def distinct(self):
        """Distinct bytes read plus distinct bytes written: no kernel that touches them can move less."""
        return self.distinct_loaded + self.distinct_stored

    @property
    def sectors(self):
        """Bytes in the sectors of all requests."""
        return SECTOR * (self.load_sectors + self.store_sectors)

    @property
    def efficiency(self):
        """Of the bytes in the sectors that warps ask for, the part that they use: 1 if neighbours read neighbours."""
        return (self.load_used + self.store_used) / self.sectors if self.sectors else 1.0

    @property
    def wide(self):
        """The part of the bytes that move 16 at a time."""
        moved = self.loaded + self.stored
        return (self.wide_loaded + self.wide_stored) / moved if moved else 1.0

    @property
    def conflicts(self):
        """Cycles that conflicts between banks of shared memory cost, over the cycles without: 0 if there are none."""
        return self.shared_cycles / self.shared_least - 1 if self.shared_least else 0.0

    def __str__(self):
        return (f"{self.name[:60]:<60} loaded {self.loaded:>10} ({self.distinct_loaded} distinct, {SECTOR * self.load_sectors} in "
                f"sectors), stored {self.stored:>10} ({self.distinct_stored}, {SECTOR * self.store_sectors}), "
                f"{self.wide:.0%} wide, {self.efficiency:.0%} used, bank conflicts {self.conflicts:.0%}")  # fmt: skip


class Traffic(Moved):
    """The sum of all launches inside the context, which are in `launches`."""

    def __init__(self):
        super().__init__()
        self.launches = []

    def __enter__(self):
        open_counts.append(self)
        work.logs.append(self)
        return self

    def __exit__(self, *exc):
        open_counts.remove(self)
        work.logs[:] = [log for log in work.logs if log is not self]

    def append(self, asked):
        """A piece of Work; kernels come by add()."""
        if asked.kind in ("routine", "memset", "copy"):
            names = ("loaded", "distinct_loaded", "load_used"), ("stored", "distinct_stored", "store_used")
            counts = dict.fromkeys(Counts.names, 0)
            for bytes_, side in zip((asked.read, asked.written), names, strict=True):
                counts.update(dict.fromkeys(side, bytes_))
            counts.update(load_sectors=-(-asked.read // SECTOR), store_sectors=-(-asked.written // SECTOR))
            self.add(Moved(asked.kind, asked.name, counts))

    def add(self, moved):
        self.launches.append(moved)
        for n in Counts.names:
            setattr(self, n, getattr(self, n) + getattr(moved, n))

    def of(self, part):
        """The sum of the launches whose name holds a text."""
        return sum((m for m in self.launches if part in m.name), Moved(name=part))

    def __str__(self):
        return "\n".join(map(str, self.launches))


def counted(name, launch, report, run):
    """Launch a kernel from its counted build."""
    ranges = np.array(sorted((m.ptr, m.ptr + m.size) for m in memory.live.values() if m.size), np.uint64).reshape(-1)
    before, launch.run = launch.run, run
    counts = Counts()
    runtime().card_trace(ranges.ctypes.data, len(ranges) // 2)
    try:
        runtime().card_launch_kernel(ctypes.addressof(launch), ctypes.addressof(report))
    finally:
        launch.run = before
        runtime().card_traced(ctypes.addressof(counts))
    moved = Moved("kernel", name, {n: getattr(counts, n) for n in Counts.names})
    for t in open_counts:
        t.add(moved)
