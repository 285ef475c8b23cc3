"""The goals on a card, one table: what is measured, on which cases, and when a goal is met."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import product
from typing import Any

from gradflow.op import table

from . import layers, pointwise, sized
from .case import Case

Cases = Callable[[str], Iterator[Case]]
HALVES = ("float16", "bfloat16") if find_spec("ml_dtypes") else ("float16",)


@dataclass(frozen=True)
class Goal:
    """One row.

    share   of the bandwidth of a copy that every case must reach; None where arithmetic is what takes the time
    ratio   of our time to PyTorch's, at most: of every case, or with `mean` as a geometric mean
    """

    key: str
    what: str
    cases: Cases
    ratio: float
    share: float | None = None
    mean: bool = False


# --- the cases ----------------------------------------------------------------------------------------

LARGE = {"card": 1 << 26, "tiny": 64}
LENGTHS = {"card": (64, 256, 1024, 4096, 16384, 65536), "tiny": (8,)}
ROWS = {"card": 1 << 25, "tiny": 40}  # elements of a matrix whose rows are normalised
POOLED = {  # VGG16's first, ResNet's only, and global pooling
    "card": {"vgg": (32, 64, 224, 224), "resnet": (32, 64, 112, 112), "global": (256, 2048, 7, 7)},
    "tiny": {"vgg": (2, 3, 8, 8), "resnet": (2, 3, 8, 8), "global": (2, 3, 5, 5)},
}
CELL = {"card": (128, 64, 512), "tiny": (3, 2, 4)}
HEADS = {"card": (8, 16, 1024, 64), "tiny": (2, 2, 5, 4)}


def _elementwise(kind: str) -> Iterator[Case]:
    for dtype, name in product(("float32", *HALVES), ("sigmoid", "tanh", "gelu", "silu", "relu", "elu", "softplus")):
        yield from pointwise.of(table[name], LARGE[kind], dtype)


def _rows(kind: str) -> Iterator[Case]:
    for n in LENGTHS[kind]:
        shape = (ROWS[kind] // n, n)
        for make in (sized.softmaxes, sized.cross_entropies, sized.layer_norms, sized.rms_norms):
            yield from make(shape, "float32")
    for n in LENGTHS[kind][2::2] or LENGTHS[kind]:
        for make in (sized.softmaxes, sized.layer_norms, sized.rms_norms):
            yield from make((2 * ROWS[kind] // n, n), "float16")
    for shape, dtype in product(sized.TABLE["batch_norm"][kind], ("float32", "float16")):
        yield from sized.batch_norms(shape, dtype)
        yield from sized.group_norms(shape, dtype)


def _pools(kind: str) -> Iterator[Case]:
    shapes = POOLED[kind]
    for dtype in ("float32", "float16"):
        for f in ("max_pool2d", "avg_pool2d"):
            yield from sized.pooled(f, (2,), shapes["vgg"], dtype)
            yield from sized.pooled(f, (3, 2, 1), shapes["resnet"], dtype)
        yield from sized.pooled("adaptive_avg_pool2d", (1,), shapes["global"], dtype)


def _convolutions(kind: str, nets: Sequence[str], dtype: str, tf32: bool = False, last: bool = False) -> Iterator[Case]:
    if kind == "tiny":
        nets = [net for net in layers.TINY if (net == "mobilenet") == ("mobilenet" in nets)]
    for net in nets:
        for layer in (layers.TINY if kind == "tiny" else layers.NETS)[net]:
            yield from layers.of(net, layer, 2 if kind == "tiny" else 32, dtype, tf32, last)


IMAGES = ("vgg16", "resnet50")


def _tensor_cores(kind: str) -> Iterator[Case]:
    yield from _convolutions(kind, IMAGES, "float32", tf32=True)
    for dtype in HALVES:
        yield from _convolutions(kind, IMAGES, dtype)


def _attentions(kind: str) -> Iterator[Case]:
    for dtype in HALVES:
        yield from sized.attentions(HEADS[kind], dtype)


def _cells(kind: str) -> Iterator[Case]:
    yield from sized.cells(CELL[kind], "float32", tf32=True)
    yield from sized.cells(CELL[kind], "float16")


def _optimizers(kind: str) -> Iterator[Case]:
    for shape in sized.TABLE["optimizer"][kind]:
        yield from (c for c in sized.optimizers(shape, "float32") if c.name.split()[0] in ("SGD", "Adam"))


GOALS = (
    Goal("pointwise", "elementwise, forward and fused backward, 64 M elements", _elementwise, 1.0, 0.9),
    Goal("rows", "softmax, cross-entropy and norms, rows of 64 to 65,536", _rows, 1.0, 0.8),
    Goal("pools", "max and average pooling of VGG16, ResNet, global", _pools, 1.0, 0.8),
    Goal("conv", "conv2d, dx, dw of VGG16 and ResNet-50, float32", partial(_convolutions, nets=IMAGES, dtype="float32"), 1.0),
    Goal("depthwise", "depthwise conv2d of MobileNet", partial(_convolutions, nets=["mobilenet"], dtype="float32"), 1.0),
    Goal("tensor cores", "the same in TF32, float16, bfloat16", _tensor_cores, 1 / 0.7, mean=True),
    Goal("channels last", "the same in float16, channels last",
         partial(_convolutions, nets=IMAGES, dtype="float16", last=True), 1 / 0.7, mean=True),
    Goal("cells", "LSTM and GRU, T 128, N 64, H 512", _cells, 1 / 0.8),
    Goal("attention", "attention, T 1024, 16 heads of 64", _attentions, 1 / 0.5),
    Goal("optimizers", "Adam and SGD with momentum, 160 tensors, 25 M parameters", _optimizers, 1.0, 0.9),
)  # fmt: skip


def cases(kind: str) -> Iterator[Case]:
    """All of them, those of each goal in turn, so that a run that is cut short has some of every goal."""
    waiting = [iter(_of(goal, kind)) for goal in GOALS]
    seen = set()
    while waiting:
        for each in tuple(waiting):
            case = next(each, None)
            if case is None:
                waiting.remove(each)
            elif case.name not in seen:
                seen.add(case.name)
                yield case


def _of(goal: Goal, kind: str) -> Iterator[Case]:
    for case in goal.cases(kind):
        case.goal = goal.key
        yield case


# --- verdicts -----------------------------------------------------------------------------------------


def mean(ratios: Sequence[float]) -> float:
    """The geometric mean."""
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def verdicts(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """A line for each goal: what, goal, measured, verdict."""
    found = []
    for goal in GOALS:
        mine = [r for r in rows if r.get("goal") == goal.key]
        ratios = [r["ratio"][0] for r in mine if r.get("ratio")]
        shares = [r["share"] for r in mine if r.get("share")]
        wanted = [f"at most {goal.ratio:.2f}{' as a geometric mean' if goal.mean else ''}"]
        wanted += [f"{goal.share:.0%} of copy"] if goal.share else []
        if not ratios:
            found.append([goal.what, ", ".join(wanted), "", "not measured"])
            continue
        seen = [f"{mean(ratios):.2f}, worst {max(ratios):.2f}, {sum(x <= goal.ratio for x in ratios)} of {len(ratios)} cases"]
        seen += [f"{min(shares):.0%} at least, {mean(shares):.0%} in the mean"] if shares and goal.share else []
        met = (mean(ratios) if goal.mean else max(ratios)) <= goal.ratio
        met = met and not (goal.share and shares and min(shares) < goal.share) and not any(r["wrong"] for r in mine)
        found.append([goal.what, ", ".join(wanted), "; ".join(seen), "met" if met else "**not met**"])
    return found + _steps([r for r in rows if r["group"] == "model" and not r["name"].startswith("chain")])


def _steps(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """The lines of whole training steps: captured against PyTorch's eager and compiled ones, and memory."""
    found = []
    for key, what, average in (
        ("graph_torch", "training steps, captured, over PyTorch eager", False),
        ("graph_compile", "the same over torch.compile(mode='reduce-overhead')", True),
    ):
        ratios = [r[key][0] for r in rows if r.get(key)]
        wanted = f"at most 1.00{' as a geometric mean' if average else ''}"
        if ratios:
            met = (mean(ratios) if average else max(ratios)) <= 1
            seen = f"{mean(ratios):.2f}, worst {max(ratios):.2f}, {len(ratios)} nets"
            found.append([what, wanted, seen, "met" if met else "**not met**"])
        else:
            found.append([what, wanted, "", "not measured"])
    peaks = [
        r["columns"]["twin"]["peak_bytes"] / r["columns"]["torch"]["peak_bytes"]
        for r in rows
        if r["columns"].get("twin", {}).get("peak_bytes") and r["columns"].get("torch", {}).get("peak_bytes")
    ]
    what, wanted = "peak device memory of those steps over PyTorch's", "at most 1.00"
    if not peaks:
        return [*found, [what, wanted, "", "not measured"]]
    seen = f"{mean(peaks):.2f}, worst {max(peaks):.2f}"
    return [*found, [what, wanted, seen, "met" if max(peaks) <= 1 else "**not met**"]]
