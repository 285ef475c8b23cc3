"""A convolution, or a gradient of one, to do: what its variants, the tuner and libraries know of it."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import numpy as np

from ..ops.window import Window

SIZES = {"float": 4, "double": 8, "__half": 2, "__nv_bfloat16": 2}  # bytes


def dims(win: Window, rank: int = 0) -> list[np.int32]:
    """The geometry as kernels take it: six numbers for each dim, of which there are `rank` at least."""
    columns = (win.sizes, win.kernel, win.out, win.stride, win.before, win.dilation)
    return [np.int32(v) for dim in [(1, 1, 1, 1, 0, 1)] * (rank - len(win.sizes)) + [*zip(*columns, strict=True)] for v in dim]


class Job(NamedTuple):
    """arrays that go with it: (x, w, b, y) forward, (g, w, b, dx) for an input gradient, (g, x, dw) for a weight's; the
    last is written. Each lies in C order or channels last.
    """

    what: str  # "forward", "input" or "weight"
    type: str  # in C++
    n: int
    c: int  # channels in and out of a group
    k: int
    win: Window
    activation: int  # its number, as kernels/activation.cuh counts; 0 for none
    bias: bool
    tf32: bool  # float may be rounded to TF32
    aligned: bool  # all arrays start at multiples of 16 bytes
    last: tuple[bool, bool, bool] = (False, False, False)  # which arrays, but for b, lie channels last

    @property
    def operations(self) -> int:
        """Multiplications and additions."""
        return 2 * self.n * prod(self.win.out) * self.k * self.c * self.win.groups * prod(self.win.kernel)

    @property
    def bytes(self) -> tuple[int, int, int]:
        """Of the larger arrays and the weight, (x or dx, w or dw, y or g)."""
        size, groups = SIZES[self.type], self.win.groups
        return (
            size * self.n * groups * self.c * prod(self.win.sizes),
            size * groups * self.k * self.c * prod(self.win.kernel),
            size * self.n * groups * self.k * prod(self.win.out),
        )

    @property
    def turned(self) -> list[int]:
        """The bytes of the arrays that lie channels last."""
        x, w, y = self.bytes
        sizes = {"forward": (x, w, y), "input": (y, w, x), "weight": (y, x, w)}[self.what]
        return [size for size, last in zip(sizes, self.last, strict=True) if last]
