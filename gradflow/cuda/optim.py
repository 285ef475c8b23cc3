"""Optimizer steps on the card: the twins of gradflow/optim's rules, each one launch for all parameters."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import wraps
from itertools import product
from typing import Any

import numpy as np

from ..backend import Array, capture, need_card, on_card
from .launch import blocks, contiguous, ctype, launch
from .layout import order_of, straight

CHUNK, THREADS = 8192, 256  # as in kernels/optim.cu
PLAIN = (
    "adagrad", "adadelta", "adamax", "nadam", "radam", "rprop", "asgd", "momentum_product", "asgd_rates", "count_step", "blend",
    "scale_gradient", "clamp_gradient",
)  # fmt: skip
Amp = tuple[Array | None, Array | None]  # a gradient scaler's scale and what it found: float32 arrays of one element
PLAINLY: Amp = (None, None)
KINDS = {1.0: 1, 2.0: 2, float("inf"): 3}  # the norms that have a kernel


def instantiations() -> list[str]:
    """Every kernel that the launchers below can ask for."""
    types, flags = ("float", "double", "__half", "__nv_bfloat16"), ("false", "true")
    return [
        *(f"{name}<{t}, {flag}>" for name, t, flag in product(("sgd", "adam"), types, flags)),
        *(f"rmsprop<{t}, {m}, {c}>" for t, m, c in product(types, flags, flags)),
        *(f"{name}<{t}>" for name, t in product(PLAIN, types)),
        *(f"norm_parts<{t}, {k}>" for t, k in product(types, KINDS.values())),
        *(f"norm_whole<{t}, {k}>" for t, k in product(types[:2], KINDS.values())),
    ]


# --- the table ----------------------------------------------------------------------------------

_tables: OrderedDict[tuple, Array] = OrderedDict()  # a table says only addresses and sizes, so it never goes stale
KEPT = 64


def table(columns: list[list[Array] | None], cells: tuple[Any, ...] = ()) -> tuple[Array, int]:
    """(rows, blocks): for each parameter the addresses of its arrays, its size and its first block, in device memory.

    columns   the parameters, their gradients, up to three states
    cells     up to three lists of 0-d arrays, such as counts of steps; what is no list is not on the card
    """
    p = columns[0]
    assert p is not None
    address = [[0] * len(p) if c is None else [x.data.ptr for x in c] for c in columns]
    address += [[0] * len(p)] * (5 - len(columns))
    address += [[x.data.ptr for x in c] if type(c) is list else [0] * len(p) for c in cells]
    address += [[0] * len(p)] * (8 - len(address))
    sizes = [x.size for x in p]
    firsts = [0]
    for n in sizes:
        firsts.append(firsts[-1] + blocks(n, CHUNK))
    key = (p[0].device.id, *map(tuple, address), *sizes)
    rows = _tables.get(key)
    if rows is not None:
        _tables.move_to_end(key)
        if capture.graph is not None:
            capture.graph.kept.append(rows)
        return rows, firsts[-1]
    values = np.array([*address, sizes, firsts[:-1]], np.int64).T.copy()
    if capture.graph is not None:
        return capture.graph.constant(values), firsts[-1]
    cp = need_card("optim")
    with p[0].device, cp.cuda.using_allocator(cp.get_default_memory_pool().malloc):  # it outlives the pool of a graph
        rows = _tables[key] = cp.asarray(values)
    if len(_tables) > KEPT:
        _tables.popitem(last=False)
    return rows, firsts[-1]


# --- steps --------------------------------------------------------------------------------------


def step(kernel: str, columns: list[Any], cells: tuple[Any, ...], *numbers: Any) -> Any:
    """Launch `kernel`, T standing for the dtype, over lists of arrays; NotImplemented if one to be written has gaps.

    cells   numbers of each parameter: a list of 0-d float32 arrays where they are on the card
    """
    for c in cells:
        if type(c) is list and c[0].dtype != np.float32:
            return NotImplemented
    columns = [c for i, c in enumerate(columns) if i < 2 or c is not None]
    if not all(x.flags.c_contiguous for x in columns[0]):  # channels last, say: its memory in the order that it is in
        orders = [order_of(x) for x in columns[0]]
        columns = [[x if o is None else x.transpose(o[0]) for x, o in zip(c, orders, strict=True)] for c in columns]
    p = columns[0]
    for i, column in enumerate(columns):
        for x in column:
            if not on_card(x):
                raise RuntimeError(f"step: wanted all of a parameter's arrays on {p[0].device}, saw one on the CPU")
            if i != 1 and not x.flags.c_contiguous:
                return NotImplemented
    if len(columns) > 1:
        columns[1] = [contiguous(g) for g in columns[1]]
    rows, grid = table(columns, cells)
    launch("optim", kernel.replace("T", ctype(p[0].dtype)), grid, THREADS, rows, np.int32(len(p)), *numbers)
    return None


def in_place(columns: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a launcher, which writes into lists of arrays, a twin: given `columns` single arrays it returns new ones."""

    def wrap(launcher: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(launcher)
        def twin(*args: Any, **kwargs: Any) -> Any:
            if type(args[0]) is list:
                return launcher(*args, **kwargs)
            lists = [None if x is None else [x.copy()] for x in args[:columns]]
            if launcher(*lists, *args[columns:]) is NotImplemented:
                return NotImplemented
            return tuple(None if x is None else x[0] for i, x in enumerate(lists) if i != 1)

        return twin

    return wrap


def number(x: Any) -> tuple[Any, np.float64]:
    """A number that a graph may change, a learning rate or a momentum, as (address or None, value)."""
    if not on_card(x):
        return None, np.float64(x)
    return x.astype(np.float64, copy=False), np.float64(0)


def count(step: Any) -> np.float64:
    """A count of steps, or another cell, as a value; zero if they are on the card, where the table says."""
    return np.float64(0 if type(step) is list else step)


def flag(x: Any) -> str:
    """A C++ bool."""
    return "true" if x else "false"


@in_place(3)
def sgd(
    p: Any, g: Any, m: Any, lr: Any, momentum: Any, dampening: Any, weight_decay: Any, nesterov: bool, first: bool,
    maximize: bool, amp: Amp = PLAINLY,
) -> Any:  # fmt: skip
    """Gradient descent."""
    return step(
        f"sgd<T, {flag(m is not None)}>", [p, g, m], (), *amp, *number(lr), *number(momentum), np.float64(dampening),
        np.float64(weight_decay), bool(nesterov), bool(first), bool(maximize),
    )  # fmt: skip


@in_place(5)
def adam(
    p: Any, g: Any, m: Any, v: Any, top: Any, t: Any, lr: Any, beta1: Any, beta2: Any, eps: Any, weight_decay: Any,
    decoupled: bool, maximize: bool, amp: Amp = PLAINLY,
) -> Any:  # fmt: skip
    """Adam and AdamW."""
    return step(
        f"adam<T, {flag(top is not None)}>", [p, g, m, v, top], (t,), *amp, *number(lr), count(t), *number(beta1),
        np.float64(beta2), np.float64(eps), np.float64(weight_decay), bool(decoupled), bool(maximize),
    )  # fmt: skip


@in_place(5)
def rmsprop(
    p: Any, g: Any, v: Any, m: Any, mean: Any, lr: Any, alpha: Any, eps: Any, weight_decay: Any, momentum: Any,
    maximize: bool, amp: Amp = PLAINLY,
) -> Any:  # fmt: skip
    """RMSprop."""
    return step(
        f"rmsprop<T, {flag(m is not None)}, {flag(mean is not None)}>", [p, g, v, m, mean], (), *amp, *number(lr),
        np.float64(alpha), np.float64(eps), np.float64(weight_decay), *number(momentum), bool(maximize),
    )  # fmt: skip


@in_place(3)
def adagrad(
    p: Any,
    g: Any,
    v: Any,
    t: Any,
    lr: Any,
    lr_decay: Any,
    weight_decay: Any,
    eps: Any,
    maximize: bool,
    amp: Amp = PLAINLY,
) -> Any:
    """Adagrad."""
    return step(
        "adagrad<T>", [p, g, v], (t,), *amp, *number(lr), count(t), np.float64(lr_decay), np.float64(weight_decay),
        np.float64(eps), bool(maximize),
    )  # fmt: skip


@in_place(4)
def adadelta(
    p: Any, g: Any, v: Any, u: Any, lr: Any, rho: Any, eps: Any, weight_decay: Any, maximize: bool, amp: Amp = PLAINLY
) -> Any:
    """Adadelta."""
    return step(
        "adadelta<T>", [p, g, v, u], (), *amp, *number(lr), np.float64(rho), np.float64(eps), np.float64(weight_decay),
        bool(maximize),
    )  # fmt: skip


@in_place(4)
def adamax(
    p: Any,
    g: Any,
    m: Any,
    u: Any,
    t: Any,
    lr: Any,
    beta1: Any,
    beta2: Any,
    eps: Any,
    weight_decay: Any,
    maximize: bool,
    amp: Amp = PLAINLY,
) -> Any:
    """Adamax."""
    return step(
        "adamax<T>", [p, g, m, u], (t,), *amp, *number(lr), count(t), *number(beta1), np.float64(beta2), np.float64(eps),
        np.float64(weight_decay), bool(maximize),
    )  # fmt: skip


@in_place(4)
def nadam(
    p: Any, g: Any, m: Any, v: Any, t: Any, product: Any, lr: Any, beta1: Any, beta2: Any, eps: Any, weight_decay: Any,
    momentum_decay: Any, decoupled: bool, maximize: bool, amp: Amp = PLAINLY,
) -> Any:  # fmt: skip
    """NAdam."""
    return step(
        "nadam<T>", [p, g, m, v], (t, product), *amp, *number(lr), count(t), count(product), *number(beta1),
        np.float64(beta2), np.float64(eps), np.float64(weight_decay), np.float64(momentum_decay), bool(decoupled),
        bool(maximize),
    )  # fmt: skip


@in_place(4)
def radam(
    p: Any, g: Any, m: Any, v: Any, t: Any, lr: Any, beta1: Any, beta2: Any, eps: Any, weight_decay: Any,
    decoupled: bool, maximize: bool, amp: Amp = PLAINLY,
) -> Any:  # fmt: skip
    """RAdam."""
    return step(
        "radam<T>", [p, g, m, v], (t,), *amp, *number(lr), count(t), *number(beta1), np.float64(beta2), np.float64(eps),
        np.float64(weight_decay), bool(decoupled), bool(maximize),
    )  # fmt: skip


@in_place(4)
def rprop(
    p: Any,
    g: Any,
    before: Any,
    size: Any,
    shrink: Any,
    grow: Any,
    least: Any,
    most: Any,
    maximize: bool,
    amp: Amp = PLAINLY,
) -> Any:
    """Rprop."""
    return step(
        "rprop<T>", [p, g, before, size], (), *amp, np.float64(shrink), np.float64(grow), np.float64(least), np.float64(most),
        bool(maximize),
    )  # fmt: skip


@in_place(3)
def asgd(
    p: Any, g: Any, mean: Any, eta: Any, mu: Any, lambd: Any, weight_decay: Any, maximize: bool, amp: Amp = PLAINLY
) -> Any:
    """ASGD."""
    return step(
        "asgd<T>", [p, g, mean], (eta, mu), *amp, count(eta), count(mu), np.float64(lambd), np.float64(weight_decay),
        bool(maximize),
    )  # fmt: skip


# --- counts, and what follows from them, on the card ------------------------------------------------


@in_place(2)
def momentum_product(p: Any, g: Any, beta1: Any, momentum_decay: Any, amp: Amp = PLAINLY) -> Any:
    """Products of NAdam's momentums."""
    return step("momentum_product<T>", [p, g], (), amp[1], *number(beta1), np.float64(momentum_decay))


@in_place(3)
def asgd_rates(p: Any, g: Any, mu: Any, lr: Any, lambd: Any, alpha: Any, t0: Any, amp: Amp = PLAINLY) -> Any:
    """ASGD's rates of the next step."""
    return step(
        "asgd_rates<T>", [p, g, mu], (), amp[1], *number(lr), np.float64(lambd), np.float64(alpha), np.float64(t0)
    )  # fmt: skip


@in_place(1)
def count_step(p: Any, amp: Amp = PLAINLY) -> Any:
    """One step more, for counts on the card."""
    return step("count_step<T>", [p], (), amp[1])


@in_place(2)
def blend(p: Any, g: Any, weight: Any) -> Any:
    """Averages of weights."""
    return step("blend<T>", [p, g], (), np.float64(weight))


# --- clipping -----------------------------------------------------------------------------------


@in_place(1)
def scale_gradient(p: Any, norm: Array, most: Any) -> Any:
    """Gradients scaled down to a norm of `most`."""
    dtype = (p[0] if type(p) is list else p).dtype
    norm = norm.astype(np.float32 if dtype.itemsize == 2 else dtype, copy=False)
    return step("scale_gradient<T>", [p], (), norm, np.float64(most))


@in_place(1)
def clamp_gradient(p: Any, low: Any, high: Any) -> Any:
    """Gradients kept between two numbers."""
    return step("clamp_gradient<T>", [p], (), np.float64(low), np.float64(high))


def gradient_norm(p: Any, order: float) -> Any:
    """The norm of one array, or of all the arrays of a list together, as a 0-d array on the card."""
    arrays = [contiguous(straight(x)) for x in (p if type(p) is list else [p])]
    kind = KINDS.get(float(order))
    if kind is None:
        return NotImplemented
    first = arrays[0]
    rows, grid = table([arrays])
    cp = need_card("gradient_norm")
    with first.device:
        parts = cp.empty(grid, np.float64)
        norm = cp.empty((), np.float32 if first.dtype.itemsize == 2 else first.dtype)
    launch("optim", f"norm_parts<{ctype(first.dtype)}, {kind}>", grid, THREADS, rows, np.int32(len(arrays)), parts)
    launch("optim", f"norm_whole<{ctype(norm.dtype)}, {kind}>", 1, THREADS, parts, grid, norm)
    return norm
