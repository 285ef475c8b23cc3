"""What the device was asked to do, in order: `with card.launches() as work:` fills the list `work`."""

from typing import NamedTuple

logs = []  # the lists that are being filled


class Work(NamedTuple):
    """One request: a launch on a real card, unless its kind is an upload, a download or a wait.

    kind: kernel, elementwise, routine (a function of CuPy's), memset, copy, upload, download, wait or graph.
    read, written: bytes of its operands, each counted once; of kernels see traffic.py.
    """

    kind: str
    name: str
    read: int = 0
    written: int = 0

    def __str__(self):
        return f"{self.kind:<12}{self.name}"


def note(kind, name, written=0, read=0):
    """Add a piece of work to every list that is being filled."""
    if logs:
        for log in logs:
            log.append(Work(kind, name, read, written))


class Launches(list):
    """A list of Work; as a context it is filled. Its length is the number of launches, waits and copies included."""

    def __enter__(self):
        logs.append(self)
        return self

    def __exit__(self, *exc):
        logs[:] = [log for log in logs if log is not self]

    def __str__(self):
        return "\n".join(f"{i:>4}  {work}" for i, work in enumerate(self))

    def of(self, *kinds):
        """The work of some kinds."""
        return [w for w in self if w.kind in kinds]

    @property
    def device(self):
        """What runs on the device: everything but copies to and from the host, and waits."""
        return [w for w in self if w.kind not in ("upload", "download", "wait")]
