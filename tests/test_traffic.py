"""The bytes that kernels move, counted on the stand-in: what the algorithm needs, and no more.

A row of ROWS is an op with its sizes and the bytes that no algorithm can do without: each operand read once, each result
written once. `moved` is the sum over launches of the distinct bytes they touch, so a second pass over the data shows, and
`asked` the bytes in the 32-byte sectors of all requests of warps, so scattered and repeated reads show. Both are compared
with the least; where the algorithm needs more, the row says by which factor, and why.

    python tests/test_traffic.py [part of a name]     prints the table
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

import card
import numpy as np
import pytest

import gradflow as gf
from gradflow import backend, optim
from gradflow.nn import functional as F

SLACK = 1.03  # pointer tables, partial sums, heads and tails of rows
TRAFFIC = Path(__file__).parent / "kernels" / "traffic.cu"


# --- the counts themselves --------------------------------------------------------------------------


def run(kernel, *args):
    """The traffic of one kernel of kernels/traffic.cu."""
    module = card.RawModule(code=TRAFFIC.read_text(), options=("-std=c++17",), name_expressions=[kernel])
    with card.traffic() as t:
        module.get_function(kernel)((1,), (32,), args)
    return t


def floats(n, dtype="f4"):
    return card.zeros(n, dtype)


@pytest.mark.parametrize(
    ("kernel", "args", "expected"),
    [
        # a warp reads 128 bytes in a row: 4 sectors, all used
        ("strided<float>", (1,), dict(loaded=128, stored=128, loads=32, load_requests=1, load_sectors=4, store_sectors=4)),
        ("strided<float>", (8,), dict(loaded=128, load_sectors=32, store_sectors=4, distinct_loaded=128)),
        ("strided<float>", (0,), dict(loaded=128, distinct_loaded=4, load_sectors=1, load_used=4)),
        ("strided<double>", (1,), dict(loaded=256, stored=256, load_sectors=8)),
        ("strided<__half>", (1,), dict(loaded=64, stored=64, load_sectors=2)),
        # one instruction per lane, whatever the type
        ("packs<float>", (), dict(loaded=512, wide_loaded=512, loads=32, stores=32, wide_stored=512, load_sectors=16)),
        ("packs<__half>", (), dict(loaded=512, wide_loaded=512, loads=32, stores=32, wide_stored=512, load_sectors=16)),
        ("packs<double>", (), dict(loaded=512, wide_loaded=512, loads=32, stores=32, wide_stored=512, load_sectors=16)),
        ("copied", (), dict(loaded=512, wide_loaded=512, async_loaded=512, loads=32, load_sectors=16, shared_stored=512)),
        ("atomics", (), dict(loaded=128, stored=128, distinct_stored=4)),
        ("looped", (), dict(loaded=4 * 100, load_requests=4, load_sectors=4 * 3 + 1, distinct_loaded=400)),
        # 32 banks of 4 bytes: rows of 32 words put a column in one bank, rows of 33 do not
        ("column<float, 32>", (), dict(shared_least=2, shared_cycles=33, shared_requests=2)),
        ("column<float, 33>", (), dict(shared_least=2, shared_cycles=2)),
        ("column<double, 32>", (), dict(shared_least=4, shared_cycles=2 + 32)),
        ("column<double, 33>", (), dict(shared_least=4, shared_cycles=4)),
        ("broadcast", (), dict(shared_least=1, shared_cycles=1)),
        # rows of 16 bytes, 8 at a time: 64 bytes apart they share banks, 80 bytes apart they do not
        ("matrices<32>", (), dict(shared_requests=1, shared_least=4, shared_cycles=16)),
        ("matrices<40>", (), dict(shared_requests=1, shared_least=4, shared_cycles=4)),
    ],
)  # fmt: skip
def test_counts(kernel, args, expected):
    dtype = {"double": "f8", "__half": "f2"}.get(kernel.partition("<")[2].rstrip(">").split(",")[0], "f4")
    t = run(kernel, floats(1024, dtype), floats(1024, dtype), *map(np.int32, args))
    assert {name: getattr(t, name) for name in expected} == expected


def test_shares_and_sums():
    x, y = floats(1024), floats(1024)
    module = card.RawModule(code=TRAFFIC.read_text(), name_expressions=["strided<float>", "packs<float>"])
    with card.traffic() as t:
        module.get_function("strided<float>")((1,), (32,), (x, y, np.int32(8)))
        module.get_function("packs<float>")((2,), (32,), (x, y))
        z = x[:10] + y[:1]
    assert [m.name for m in t.launches] == ["strided<float>", "packs<float>", "add"]
    assert t.of("strided").efficiency == (128 + 128) / (32 * 32 + 128) and t.of("strided").wide == 0
    assert t.of("packs").efficiency == t.of("packs").wide == 1
    assert (t.of("add").loaded, t.of("add").stored) == (44, z.nbytes)
    assert t.loaded == 128 + 1024 + 44
    kernel = card.ElementwiseKernel("T x", "T y", "y = x + 1", "plus")
    with card.traffic() as t:
        kernel(x.reshape(32, 32).T, y.reshape(32, 32))  # down a column: a sector for each number
    assert (t.loaded, t.load_sectors, t.store_sectors) == (4096, 1024, 128)


# --- what ops move ----------------------------------------------------------------------------------


@dataclass
class Row:
    """An op, its inputs, and the least bytes of the forward and of the backward step as (read, written)."""

    name: str
    call: Callable[..., Any]
    shapes: list[tuple[int, ...]]
    forward: Callable[..., tuple[float, float]]
    backward: Callable[..., tuple[float, float]] | None = None
    dtype: str = "float32"
    last: bool = False  # the first input lies with its channels last
    moved: tuple[float, float] = (1, 1)  # factors over the least, forward and backward
    asked: tuple[float, float] = (1, 1)
    wide: tuple[float, float] = (0.7, 0.7)  # at least so much of the bytes do own kernels move 16 at a time
    why: str = ""

    @property
    def id(self):
        return f"{self.name}-{'-'.join('x'.join(map(str, s)) for s in self.shapes[:1])}-{self.dtype}" + "-last" * self.last


def measure(row):
    """[(step, least bytes, bytes moved, bytes asked for, traffic)] of the forward and the backward step."""
    r = np.random.default_rng(0)
    dtype = getattr(gf, row.dtype)
    inputs = [gf.tensor(r.standard_normal(s).astype("f4")).to(dtype).cuda() for s in row.shapes]
    if row.last:
        inputs[0] = inputs[0].contiguous(memory_format=gf.channels_last)
    for x in inputs:
        x.requires_grad_()
    size = inputs[0].numpy(force=True).itemsize
    with card.traffic() as t:
        y = row.call(*inputs)
    steps = [("forward", sum(row.forward(*inputs)), t)]
    if row.backward:
        g = gf.tensor(r.standard_normal(y.shape).astype("f4")).to(y.dtype).cuda()
        if row.last:
            assert y.is_contiguous(memory_format=gf.channels_last)
            g = g.contiguous(memory_format=gf.channels_last)
        with card.traffic() as t:
            gf.autograd.grad(y, inputs, g)
        steps.append(("backward", sum(row.backward(*inputs)), t))
    return [(step, least * size, t.distinct, t.sectors, t) for step, least, t in steps]


def elements(*tensors):
    return sum(x.numel() for x in tensors)


def unary(name, call, **more):
    return Row(name, call, [(64, 1024)], lambda x: (x.numel(),) * 2, lambda x: (2 * x.numel(), x.numel()), **more)


def unary4(name, call, **more):
    return Row(name, call, [(4, 64, 16, 16)], lambda x: (x.numel(),) * 2, lambda x: (2 * x.numel(), x.numel()), last=True, **more)


HALO = "windows overlap, and neighbouring lanes share sectors: the first-level cache gives them again"
AFFINE = "weight and bias are read for every row: from the first-level cache"
STATISTICS = "a channel of all images, or a group of one, that no block holds is read twice"

ROWS = [
    *[unary(n, getattr(F, n), dtype=t) for n in ("relu", "gelu", "silu") for t in ("float32", "float16")],
    unary("sigmoid", gf.sigmoid), unary("tanh", gf.tanh), unary("exp", gf.exp),
    Row("mul", lambda a, b: a * b, [(64, 1024)] * 2, lambda a, b: (2 * a.numel(), a.numel()),
        lambda a, b: (3 * a.numel(), 2 * a.numel()), moved=(1, 1.2), asked=(1, 1.2), why="two products, each reads g"),
    Row("add", lambda a, b: a + b, [(64, 1024)] * 2, lambda a, b: (2 * a.numel(), a.numel())),
    *[Row(name, lambda x, f=getattr(F, name): f(x, -1), [shape], lambda x: (x.numel(),) * 2,
          lambda x: (2 * x.numel(), x.numel()), dtype=t, asked=(1, again[name == "log_softmax"]),
          why="of g and y what does not fit into shared memory is read twice")
      for name in ("softmax", "log_softmax")
      for shape, t, again in (((1024, 64), "float32", (1, 1)), ((64, 1024), "float32", (1, 1)), ((64, 1024), "float16", (1, 1)),
                              ((8, 10000), "float32", (1, 1)), ((2, 65536), "float32", (1.33, 1.17)))],
    *[Row("cross_entropy", lambda x: F.cross_entropy(x, LABELS(x)), [shape], lambda x: (x.numel() + 2 * len(x), len(x)),
          lambda x: (x.numel() + 3 * len(x), x.numel()), moved=moved, asked=asked, why="a loss and a log-sum-exp for each row")
      for shape, moved, asked in (((1024, 64), (1.05, 1), (1.2, 1.05)), ((64, 1000), (1, 1), (1.02, 1.02)),
                                  ((16, 10000), (1, 1), (1, 1.02)))],
    *[Row(name, call, [(64, 1024)] * 2, lambda a, b: (2 * a.numel(), 1), lambda a, b: (2 * a.numel(), 2 * a.numel()),
          moved=(1, 1.25), asked=(1, 1.26), why="the target's gradient is the negative, a launch of its own")
      for name, call in (("mse_loss", F.mse_loss), ("smooth_l1_loss", F.smooth_l1_loss))],
    *[Row("layer_norm", lambda x, w, b: F.layer_norm(x, x.shape[-1:], w, b), [(m, n), (n,), (n,)],
          lambda x, w, b: (elements(x, w, b), x.numel() + 2 * len(x)),
          lambda x, w, b: (2 * x.numel() + w.numel() + 2 * len(x), elements(x, w, b)), dtype=t, moved=moved, asked=asked,
          wide=(0.7, 0.5 if m == 16 else 0.7), why=AFFINE)
      for m, n, t, moved, asked in (
          (1024, 64, "float32", (1, 1.02), (1.25, 1.12)), (256, 768, "float32", (1, 1.07), (1.98, 1.63)),
          (256, 768, "float16", (1, 1.08), (2, 1.9)), (16, 10000, "float32", (1, 1.7), (1.87, 3)))],
    Row("rms_norm", lambda x, w: F.rms_norm(x, x.shape[-1:], w), [(256, 768), (768,)],
        lambda x, w: (elements(x, w), x.numel() + len(x)),
        lambda x, w: (2 * x.numel() + w.numel() + len(x), elements(x, w)), moved=(1, 1.03), asked=(1.49, 1.47), why=AFFINE),
    *[Row("batch_norm", lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True), [shape, shape[1:2], shape[1:2]],
          lambda x, w, b: (elements(x, w, b), x.numel() + 2 * w.numel()),
          lambda x, w, b: (2 * x.numel() + 3 * w.numel(), elements(x, w, b)),
          moved=moved, asked=asked, why=STATISTICS)
      for shape, moved, asked in (((16, 32, 16, 16), (1, 1), (1.02, 1.02)), ((64, 8, 32, 32), (1.5, 1.66), (1.62, 1.77)))],
    *[Row("batch_norm", lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True), [shape, shape[1:2], shape[1:2]],
          lambda x, w, b: (elements(x, w, b), x.numel() + 2 * w.numel()),
          lambda x, w, b: (2 * x.numel() + 3 * w.numel(), elements(x, w, b)), dtype=t, last=True, moved=(1.5, 1.66),
          asked=asked, wide=(0.95, 0.95), why=STATISTICS)
      for shape, t, asked in (((16, 64, 16, 16), "float32", (1.65, 1.8)), ((32, 64, 16, 16), "float16", (1.7, 1.9)))],
    Row("group_norm", lambda x, w, b: F.group_norm(x, 4, w, b), [(16, 32, 16, 16), (32,), (32,)],
        lambda x, w, b: (elements(x, w, b), x.numel() + 2 * 4 * len(x)),
        lambda x, w, b: (2 * x.numel() + w.numel() + 8 * len(x), elements(x, w, b)),
        moved=(1, 1.67), asked=(1.25, 1.85), wide=(0.45, 0.7), why=STATISTICS),
    *[Row("max_pool2d", lambda x, k=k, s=s, p=p: F.max_pool2d(x, k, s, p), [(4, 16, 32, 32)],
          lambda x, s=s: (x.numel(), x.numel() / s**2 * 3), lambda x, s=s: (x.numel() / s**2 * 3, x.numel()),
          asked=asked, wide=(0, 0), why=HALO)
      for k, s, p, asked in ((2, 2, 0, (1.57, 1.29)), (3, 2, 1, (3.17, 5.87)))],
    unary4("relu", F.relu, dtype="float16"),
    Row("add", lambda x, b: x + b, [(4, 64, 16, 16), (64, 1, 1)], lambda x, b: (elements(x, b), x.numel()), dtype="float16",
        last=True, asked=(1.12,), why=AFFINE),
    *[Row("max_pool2d", lambda x, k=k, s=s, p=p: F.max_pool2d(x, k, s, p), [(4, 16, 32, 32)],
          lambda x, s=s: (x.numel(), x.numel() / s**2 * 3), lambda x, s=s: (x.numel() / s**2 * 3, x.numel()),
          last=True, asked=asked, why=HALO)
      for k, s, p, asked in ((2, 2, 0, (1.27, 1.97)), (3, 2, 1, (1.9, 5.2)))],
    Row("avg_pool2d", lambda x: F.avg_pool2d(x, 2), [(4, 16, 32, 32)], lambda x: (x.numel(), x.numel() / 4),
        lambda x: (x.numel() / 4, x.numel()), last=True, asked=(1, 1.18), why="a gradient is read for each element of its window"),
    Row("avg_pool2d", lambda x: F.avg_pool2d(x, 2), [(4, 16, 32, 32)], lambda x: (x.numel(), x.numel() / 4),
        lambda x: (x.numel() / 4, x.numel()), asked=(1.8, 1.2), wide=(0, 0), why=HALO),
    Row("adaptive_avg_pool2d", lambda x: F.adaptive_avg_pool2d(x, 1), [(64, 64, 7, 7)],
        lambda x: (x.numel(), x.numel() / 49), lambda x: (x.numel() / 49, x.numel()),
        asked=(1.43, 1.26), wide=(0.7, 0), why="planes of 49 numbers begin inside sectors"),
    Row("dropout", lambda x: F.dropout(x, 0.3), [(64, 1024)], lambda x: (x.numel(),) * 2, lambda x: (x.numel(),) * 2),
    Row("sum", lambda x: x.sum(-1), [(64, 1024)], lambda x: (x.numel(), 64)),
]  # fmt: skip


def LABELS(x):
    return gf.tensor(np.arange(len(x)) % x.shape[-1]).cuda()


def wide(t):
    """The part of the bytes that own kernels move 16 at a time; CuPy's do not."""
    return sum((m for m in t.launches if m.kind == "kernel"), card.traffic()).wide


def check(step, least, moved, asked, t, factors):
    """The bytes moved and asked for are the least times what the row says: no more, and not much less either."""
    step = f"{step} in {len(t.launches)} launches"
    assert wide(t) >= factors[2], f"{step}: moves {wide(t):.2f} of its bytes 16 at a time, the row says {factors[2]} at least"
    assert t.conflicts < 0.05, f"{step}: conflicts between banks of shared memory cost {t.conflicts:.0%}"
    assert moved >= least * 0.999, f"{step}: moves {moved / least:.3f} of what the row calls the least"
    for what, seen, factor in (("moves", moved, factors[0]), ("asks for", asked, factors[1])):
        assert seen <= least * factor * SLACK, f"{step}: {what} {seen / least:.3f} x the least, the row allows {factor}"
        assert seen >= least * factor * 0.9, f"{step}: {what} {seen / least:.3f} x the least, the row may say so, not {factor}"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_ops(row, card):
    for numbers, *factors in zip(measure(row), row.moved, row.asked, row.wide, strict=False):
        check(*numbers, factors)


# What a step reads and writes per number of a parameter: itself, its gradient, its state.
STEPS = {
    "SGD": (lambda p: optim.SGD(p, 0.1), 2, 1),
    "SGD momentum": (lambda p: optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.1), 3, 2),
    "Adam": (lambda p: optim.Adam(p), 4, 3),
    "AdamW": (lambda p: optim.AdamW(p), 4, 3),
    "RMSprop": (lambda p: optim.RMSprop(p), 3, 2),
    "Adagrad": (lambda p: optim.Adagrad(p), 3, 2),
}


def steps(name):
    """(least, moved, asked, traffic) of the second step over parameters of several sizes."""
    make, read, write = STEPS[name]
    sizes = [(300, 100), (100,), (17, 1000), (10,), (33000,)]
    p = [gf.zeros(s).cuda().requires_grad_() for s in sizes]
    for x in p:
        x.grad = gf.ones(x.shape).cuda()
    optimizer = make(p)
    optimizer.step()
    with card.traffic() as t:
        optimizer.step()
    return 4 * (read + write) * sum(x.numel() for x in p), t.distinct, t.sectors, t


@pytest.mark.parametrize("name", STEPS)
def test_optimizer_steps(name, card):
    check(name, *steps(name), (1, 1, 0.95))


def lines(part=""):
    """The table, a row for each step."""
    for row in ROWS:
        if part in row.name:
            for step, *numbers in measure(row):
                yield line(f"{row.id:<44}{step:<10}", *numbers)
    for name in STEPS:
        if part in name:
            yield line(f"{name:<54}", *steps(name))


def line(name, least, moved, asked, t):
    kernels = ", ".join(m.name.split("<")[0] for m in t.launches)
    return (f"{name}least {least / 1024:9.1f} kB  moved x{moved / least:5.2f}  asked x{asked / least:5.2f}  "
            f"wide {wide(t):4.0%}  conflicts {t.conflicts:4.0%}  {len(t.launches)} launches: {kernels}")  # fmt: skip


if __name__ == "__main__":
    backend.plug(card)
    for text in lines(*sys.argv[1:]):
        print(text, flush=True)
