"""Attention on the card without its weights in memory: one launch forward, two backward (kernels/flash.cu)."""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from ..backend import Array, bool_, need_card
from ..ops.attention import group_of
from ..ops.random import limit
from ..ops.random import scale as kept
from ..tape import fit
from . import launch, precision, tune
from .launch import blocks, ctype
from .random import replay

WORD = 2**64 - 1
LOG2_E = 1 / math.log(2)


class Tile(NamedTuple):
    """A tile of kernels/flash.cuh: `parts` is how many times 16 rows a warp of tensor cores has, or 4 in true float."""

    type: str  # "" for true float
    width: int  # numbers in a row of q, k and v, zeros among them
    parts: int
    columns: int
    warps: int
    stages: int

    def __str__(self) -> str:
        numbers = ", ".join(map(str, self[1:]))
        return f"tensor_tile<{self.type}, {numbers}>" if self.type else f"plain_tile<{numbers}>"

    @property
    def rows(self) -> int:
        """The rows that stay."""
        return (16 if self.type else 4) * self.parts * self.warps

    def shared(self, stay: int, numbers: int = 0) -> int:
        """Bytes of shared memory where `stay` tiles stay and two stream, with so many floats to a column."""
        size = 2 if self.type.startswith("__") else 4
        rows = stay * self.rows + 2 * self.stages * self.columns
        scratch = 0 if self.type else self.rows * (self.columns + 8)
        return rows * (self.width + 16 // size) * size + 4 * (scratch + numbers * self.stages * self.columns)


FORWARD, QUERIES, KEYS = KERNELS = "attention_forward", "attention_backward_queries", "attention_backward_keys"
STAY = {FORWARD: (1, 0), QUERIES: (2, 0), KEYS: (2, 2)}  # tiles that stay, and floats to a column that streams


# Registers hold a result of rows x width, or two of them, and one or two tiles of scores; shared memory holds what stays and
# two stages of what streams. The first tiles are the largest that leave two blocks to a multiprocessor, the second, of half
# the rows, are for problems that do not fill a card with the first (tests/designed.py).
def _ways(kind: str, width: int) -> dict[str, list[Tile]]:
    def tiles(*shapes: tuple[int, ...]) -> list[Tile]:
        return [Tile(kind, width, *shape) for shape in shapes]

    small = tiles((1, 32, 4, 2))
    if kind == "":
        return {
            FORWARD: tiles((8, 32, 2, 1) if width == 64 else (4, 32, 4, 1)),
            **dict.fromkeys(KERNELS[1:], tiles((4, 32, 4, 1))),
        }
    if kind == "float":
        back = small if width == 64 else tiles((1, 16, 4, 2))
        return {FORWARD: tiles((2, 32, 4, 2)) if width == 64 else small, QUERIES: back, KEYS: back}
    back = tiles((2, 32, 4, 2)) + small if width == 64 else small
    return {FORWARD: tiles((2, 64 if width == 64 else 32, 4, 2)) + small, QUERIES: back, KEYS: back}


WAYS = {(kind, width): _ways(kind, width) for kind in ("", "float", "__half", "__nv_bfloat16") for width in (64, 128)}


def instantiations() -> list[str]:
    """Every kernel that may be launched."""
    return [f"{kernel}<{t}>" for way in WAYS.values() for kernel, tiles in way.items() for t in tiles]


@cache
def _most_shared(device: int) -> int:
    """The bytes of shared memory that a block may have."""
    return int(need_card("attention").cuda.Device(device).attributes["MaxSharedMemoryPerBlockOptin"])


launch.caches.append(_most_shared.cache_clear)


def _way(q: Array, width: int) -> dict[str, list[Tile]] | None:
    """The tiles for these numbers on their card, if it has what they need."""
    kind, device = ctype(q.dtype), q.device.id
    cores = launch.capability(device)[0] >= 8
    if kind == "float" and not (cores and precision.tf32()):
        kind = ""
    way = WAYS.get((kind, 64 if width <= 64 else 128))
    if way is None or width > 128 or (kind and not cores):
        return None
    need = max(t.shared(*STAY[kernel]) for kernel, tiles in way.items() for t in tiles)
    return way if need <= _most_shared(device) else None


# What the kernels are told: `problem` in kernels/flash.cu.
_STEPS = ("q", "k", "v", "y", "g", "dq", "dk", "dv", "mask")  # those before the mask have a bit in `packed`
_PROBLEM = np.dtype(
    [(n, np.int32) for n in ("queries", "keys", "e", "f", "heads", "group", "pairs", "causal", "packed")]
    + [(n, np.float32) for n in ("scale", "back", "keep")]
    + [(n, np.int64, (3,)) for n in _STEPS]
    + [("mask_key", np.int64)]
    + [(n, np.uint64) for n in ("key", "counter", "limit")],
    align=True,
)


class _Call:
    """One call: its sizes, the arrays as kernels can read them, and what they are told."""

    q: Array
    k: Array
    v: Array
    seen: Array | None = None
    bias: Array | None = None

    def __init__(
        self, q: Array, k: Array, v: Array, mask: Any, scale: float, causal: bool, drop: float, seed: Any
    ) -> None:
        self.group = group_of(q, k, v)
        self.queries, self.keys, self.e, self.f = q.shape[-2], k.shape[-2], q.shape[-1], v.shape[-1]
        leads = [q.shape[:-2], *[(*x.shape[:-3], 1) if self.group > 1 else x.shape[:-2] for x in (k, v)]]
        if mask is not None:
            leads.append(mask.shape[:-2])
        self.lead = leads[0] if leads[0] == leads[1] == leads[2] == leads[-1] else np.broadcast_shapes(*leads)
        self.pairs = math.prod(self.lead)
        del leads[2]  # dropout's bits are those of a matrix of weights, which knows nothing of v
        self.taken = not drop or math.prod(np.broadcast_shapes(*leads)) == self.pairs
        heads = self.lead[-1] if self.lead else 1
        if all(x.ndim < 3 or x.shape[-3] == 1 for x in (k, v)):
            self.group = heads  # all queries share one head of keys: its gradient is summed in the kernel
        self.dropped = drop > 0
        self.way: Any = _way(q, max(self.e, self.f))
        self.replay = replay(seed[0])
        # What the kernels are told, but for where rows are and which of them move by 16 bytes.
        self.sizes = self.queries, self.keys, self.e, self.f, heads, self.group, self.pairs, causal
        self.factors = scale * LOG2_E, scale, kept(drop) if drop else 1.0
        self.draws = (int(seed[0]) & WORD, int(seed[1]) & WORD, limit(drop)) if drop else (0, 0, 0)
        self.steps = [(0, 0, 0)] * len(_STEPS)
        self.packed = self.mask_key = 0

    def takes(self, name: str, x: Array) -> Array:
        """x as kernels can read it: tells them where its rows are."""
        size = x.dtype.itemsize
        if name != "mask" and x.strides[-1] != size and x.shape[-1] > 1:
            x = need_card("attention").ascontiguousarray(x)
        if x.ndim > 4:
            x = x.reshape(math.prod(x.shape[:-3]), *x.shape[-3:])
        steps = [s // size if n > 1 else 0 for s, n in zip(x.strides, x.shape, strict=True)]
        steps = [0] * (4 - x.ndim) + steps
        if len(self.lead) > 2 and x.ndim > 3 and x.shape[0] not in (1, math.prod(self.lead[:-1])):
            self.taken = False  # it has some of the leading dimensions, and one step does not do for them
        place = _STEPS.index(name)
        self.steps[place] = tuple(steps[:3])
        if name == "mask":
            self.mask_key = steps[3]
        else:
            places = (x.data.ptr, *[size * n for n in (x.shape[-1], *steps[:3])])
            self.packed |= (not any(n % 16 for n in places)) << place
        return x

    def makes(self, name: str, like: Array, rows: int, width: int, group: int = 1) -> Array:
        """An empty array of (..., heads, rows, width), its dimensions in memory in the order of those of `like`."""
        lead = (*self.lead[:-1], self.lead[-1] // group) if self.lead else ()
        shape = (*lead, rows, width)
        order = list(range(len(shape)))
        if like.ndim == len(shape) <= 4:
            order[:-1] = sorted(order[:-1], key=lambda i: -abs(like.strides[i]))
        y = need_card("attention").empty([shape[i] for i in order], like.dtype)
        y = y.transpose([order.index(i) for i in range(len(shape))])
        self.takes(name, y)
        return y

    def floats(self) -> Array:
        """A float for each query."""
        return need_card("attention").empty((*self.lead, self.queries), np.float32)

    def run(self, kernel: str, rows: int, stacks: int, *arrays: Any) -> None:
        """Launch a kernel over stacks of rows, with the tiles that suit them."""

        def start(tile: Tile) -> None:
            told = (*self.sizes, self.packed, *self.factors, *self.steps, self.mask_key, *self.draws)
            name, shared = f"{kernel}<{tile}>", tile.shared(*STAY[kernel])
            f = launch.load("flash", name)
            if shared > launch.STATIC_SHARED:
                launch._grant("flash", name, f, shared, self.q)
            values = (*arrays, self.replay, np.array(told, _PROBLEM))  # `launch` would want contiguous arrays
            launch.fire(f, (blocks(rows, tile.rows) * stacks,), (32 * tile.warps,), values, self.q, shared)

        tiles = self.way[kernel]
        tile = tiles[0]
        if len(tiles) > 1:
            if blocks(rows, tile.rows) * stacks < 2 * launch.multiprocessors(self.q.device.id):
                tiles = tiles[::-1]
            key = (
                kernel,
                self.q.dtype.name,
                *map(int, self.sizes),
                self.seen is not None,
                self.bias is not None,
                self.dropped,
            )
            tile = tune.choose("flash", key, tiles, start)
        start(tile)


def _call(q: Array, k: Array, v: Array, mask: Any, scale: float, causal: bool, drop: float, seed: Any) -> _Call | None:
    """The call, if the kernels take it; its q, k and v as they can read them."""
    if k.dtype != q.dtype or v.dtype != q.dtype or not 0 < scale < math.inf or not 0 <= drop <= 1:
        return None
    if mask is not None and mask.dtype not in (bool_, q.dtype):
        return None
    c = _Call(q, k, v, mask, scale, causal, drop, seed)
    if c.way is None or 0 in (c.queries, c.pairs, c.e, c.f) or max(c.queries, c.keys) >= 2**30:
        return None
    if max(blocks(c.queries, 16), blocks(c.keys, 16)) * c.pairs > launch.GRID_LIMIT[0]:
        return None
    c.q, c.k, c.v = c.takes("q", q), c.takes("k", k), c.takes("v", v)
    if mask is not None:
        setattr(c, "seen" if mask.dtype == bool_ else "bias", c.takes("mask", mask))
    return c if c.taken else None


def _forward(c: _Call) -> tuple[Array, Array]:
    """y and the logarithms of its sums."""
    y, lse = c.makes("y", c.q, c.queries, c.f), c.floats()
    c.run(FORWARD, c.queries, c.pairs, c.q, c.k, c.v, c.seen, c.bias, y, lse)
    return y, lse


def attention(
    q: Array, k: Array, v: Array, mask: Any = None, scale: float = 1.0, causal: bool = False, drop: float = 0.0,
    seed: tuple[int, int] = (0, 0), reserve: list | None = None,
) -> Array:  # fmt: skip
    """The twin of gradflow.ops.attention.attention. In reserve it leaves None, for the weights, and the sums' logarithms."""
    c = _call(q, k, v, mask, scale, causal, drop, seed)
    if c is None:
        return NotImplemented
    y, lse = _forward(c)
    if reserve is not None:
        reserve[:] = [None, lse]
    return y


def attention_backward(
    g: Array, q: Array, k: Array, v: Array, mask: Any = None, scale: float = 1.0, causal: bool = False, drop: float = 0.0,
    seed: tuple[int, int] = (0, 0), reserve: list | None = None, needs: tuple[bool, ...] = (True,) * 4, y: Any = None,
) -> tuple:  # fmt: skip
    """The twin of gradflow.ops.attention.attention_backward, but for the gradient of a mask."""
    if (reserve and len(reserve) == 1) or (needs[3] and mask is not None and mask.dtype != bool_):
        return NotImplemented
    c = _call(q, k, v, mask, scale, causal, drop, seed)
    if c is None or g.dtype != q.dtype:
        return NotImplemented
    if y is None or not reserve:
        y, lse = _forward(c)
    else:
        y, lse = c.takes("y", y), reserve[1]
    g, delta, dq, dk, dv = c.takes("g", g), c.floats(), None, None, None
    read = c.q, c.k, c.v, c.seen, c.bias
    if needs[0] or needs[1]:  # which also makes the delta that dk needs
        dq = c.makes("dq", q, c.queries, c.e) if needs[0] else None
        c.run(QUERIES, c.queries, c.pairs, *read, y, g, lse, dq, delta)
    if needs[1] or needs[2]:
        dk = c.makes("dk", k, c.keys, c.e, c.group) if needs[1] else None
        dv = c.makes("dv", v, c.keys, c.f, c.group) if needs[2] else None
        if c.keys:
            c.run(KEYS, c.keys, c.pairs // c.group, *read, g, lse, delta, dk, dv)
    made = zip((dq, dk, dv, None), (q, k, v, mask), strict=True)
    return tuple(None if d is None else fit(d, x.shape, x.dtype) for d, x in made)
