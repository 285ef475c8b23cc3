"""What autocast does to a call: the state of a thread, and the casts of an op's arguments.

An op's call has a line that asks for its casts only from the first block on, and only if the op is on a list; while no
thread is in a block that line reads one global. Functions that are made of ops and stand on a list (mse_loss, mv) are cast
as a whole: what they call inside is then left alone.
"""

from __future__ import annotations

import threading
from functools import partial
from importlib import import_module
from operator import attrgetter
from types import CodeType, FunctionType
from typing import Any
from weakref import ref

import numpy as np

from .. import backend, call
from ..autograd import gradient
from ..backend import is_floating, on_card
from ..ops import pointwise
from ..tape import Leaf, Traced, mode
from . import lists
from .lists import LOWER, REFUSED, UNTOUCHED, WIDEST


class State(threading.local):
    """What a thread has chosen.

    enabled, dtype   by the type of device; no dtype is the default one
    caching          whether casts of weights are kept until the outermost block ends; cache holds them
    nesting          how many blocks the thread is in
    inside           whether a function runs that was cast as a whole
    """

    def __init__(self) -> None:
        self.enabled = dict.fromkeys(lists.DEVICES, False)
        self.dtype: dict[str, Any] = {}
        self.caching, self.nesting, self.inside = True, 0, False
        self.cache: dict[int, tuple] = {}
        self.mark = object()


here = State()
_ready = threading.Lock()


def lower(where: str) -> np.dtype:
    """The dtype in which products are computed on a type of device."""
    found = here.dtype.get(where)
    return found if found is not None else backend.float16 if where == "cuda" else backend.bfloat16()


def enable(where: str, enabled: bool) -> None:
    """Switch the casts of this thread on or off for a type of device."""
    here.enabled[where] = bool(enabled)
    if enabled and call.cast is None:
        with _ready:
            if call.cast is None:
                _install()
    on, known = any(here.enabled.values()), here.mark in call.casting
    if on and not known:
        call.casting.append(here.mark)
        gradient.contexts.append(_Recorded)
    elif known and not on:
        call.casting.remove(here.mark)
        gradient.contexts.remove(_Recorded)


# --- casts ----------------------------------------------------------------------------------------


def place(x: Any) -> str | None:
    """The type of device of the first tensor in an argument."""
    if isinstance(x, Traced):
        a = x.array
        return "cpu" if type(a) is np.ndarray else "cuda" if on_card(a) else backend.device_of(a).type
    if type(x) is list or type(x) is tuple:
        return next((found for v in x if (found := place(v)) is not None), None)
    return None


def of_op(op: Any, args: tuple) -> tuple:
    """The arguments of an op as the lists want them; the op's call asks."""
    if here.inside:
        return args
    where = place(args)
    if where is None or not here.enabled.get(where):
        return args
    kind = lists.kinds[where].get(op.name)
    if kind is None or ("dtype" in op.inputs and args[op.inputs.index("dtype")] is not None):
        return args
    return casted(op.name, kind, args, where)


def casted(name: str, kind: str, args: Any, where: str) -> Any:
    """Arguments, nested as they are, of which the tensors that take part are cast."""
    if kind == UNTOUCHED:
        return args
    if kind == REFUSED:
        raise RuntimeError(
            f"{name}: wanted no autocast, in which the loss of a probability is unsafe; use "
            "binary_cross_entropy_with_logits, or BCEWithLogitsLoss, of the numbers before the sigmoid"
        )
    to = lower(where) if kind == LOWER else widest(name, args, where) if kind == WIDEST else backend.float32
    return cast(args, to, where)


def takes_part(x: Any, where: str) -> bool:
    """Whether a tensor is one that autocast casts: of real floating numbers, not of double precision, on that device."""
    dtype = x.dtype
    return is_floating(dtype) and dtype.itemsize < 8 and place(x) == where


def widest(name: str, args: Any, where: str) -> np.dtype:
    """float32 if a tensor among the arguments has it, else the lower dtype. RuntimeError for the other half type."""
    found = half = lower(where)
    for x in args:
        if type(x) is list or type(x) is tuple:
            dtype = widest(name, x, where)
        elif isinstance(x, Traced) and takes_part(x, where):
            dtype = x.dtype  # type: ignore[attr-defined]
        else:
            continue
        if dtype == backend.float32:
            found = dtype
        elif dtype != half and found != backend.float32:
            raise RuntimeError(f"{name}: wanted float32 or {half.name} under autocast to {half.name}, saw {dtype.name}")
    return found


def cast(x: Any, to: np.dtype, where: str) -> Any:
    """An argument, or the arguments in a list, tuple or dict, with the tensors that take part in another dtype."""
    if isinstance(x, Traced):
        if x.dtype == to or not takes_part(x, where):  # type: ignore[attr-defined]
            return x
        if here.caching and type(x.node) is Leaf and to.itemsize == 2 and x.dtype == backend.float32:  # type: ignore[attr-defined]
            return _kept(x, to)
        return pointwise.cast(x, to)
    kind = type(x)
    if kind is tuple or kind is list:
        return kind([cast(v, to, where) for v in x])
    return {k: cast(v, to, where) for k, v in x.items()} if kind is dict else x


def _kept(x: Any, to: np.dtype) -> Any:
    """The cast of a weight, made once in the outermost block: anew if the weight was written since, if it was made where
    nothing was recorded, or made outside the graph that is captured.
    """
    found = here.cache.get(id(x))
    now = (to, x.version.number, backend.capture.graph)
    if found is not None:
        of, seen, y = found
        if of() is x and seen == now and (y.node is not None or not mode.enabled):
            return y
    y = pointwise.cast(x, to)
    here.cache[id(x)] = ref(x), now, y
    return y


# --- functions that are cast as a whole -------------------------------------------------------------


def _whole(function: Any, path: str, *args: Any, **kwargs: Any) -> Any:
    """Call a function that stands on a list."""
    if not call.casting or here.inside:
        return function(*args, **kwargs)
    where = place((*args, *kwargs.values()))
    kind = lists.functions[path].get(where) if where is not None and here.enabled.get(where) else None
    if kind is None or (path in lists.only[where] and not lists.only[where][path](*args, **kwargs)):  # type: ignore[index]
        return function(*args, **kwargs)
    if kwargs.get("out") is None and kwargs.get("dtype") is None:
        values = casted(function.__name__, kind, (*args, *kwargs.values()), where)  # type: ignore[arg-type]
        args, kwargs = values[: len(args)], dict(zip(kwargs, values[len(args) :], strict=True))
    return uncast(function, *args, **kwargs)


def uncast(function: Any, *args: Any, **kwargs: Any) -> Any:
    """What a function gives when nothing that it calls is cast."""
    before, here.inside = here.inside, True
    try:
        return function(*args, **kwargs)
    finally:
        here.inside = before


def _wrap(function: FunctionType, path: str) -> None:
    """Let a function pass through _whole, whoever holds it."""
    inside = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__)
    inside.__kwdefaults__ = function.__kwdefaults__
    free = function.__code__.co_freevars
    names = ", ".join(free)  # so that code and function have as many free variables
    text = f"def outer({names}):\n def call(*args, **kwargs):\n  f = 'whole'\n  return f(*args, **kwargs)\n  {names}\n"
    outer = next(c for c in compile(text, f"<the casts of {path}>", "exec").co_consts if isinstance(c, CodeType))
    code = next(c for c in outer.co_consts if isinstance(c, CodeType))
    whole = partial(_whole, inside, path)
    function.__code__ = code.replace(
        co_consts=tuple(whole if isinstance(c, str) and c == "whole" else c for c in code.co_consts), co_name=function.__name__
    )


def _install() -> None:
    """Let ops and functions that stand on a list ask for their casts from now on."""
    for path in lists.functions:
        file, _, name = path.replace(".Tensor", ":Tensor").rpartition("." if ".Tensor" not in path else ":")
        _wrap(attrgetter(name)(import_module(f"gradflow.{file}")), path)
    call.watch_casts(of_op, uncast, frozenset().union(*lists.kinds.values()))


class _Recorded:
    """A walk back that is itself recorded: its ops run in the dtypes in which the forward pass ran, autocast or not."""

    def __init__(self, roots: list[Any], wanted: Any) -> None:
        pass

    def __enter__(self) -> None:
        self.before, here.inside = here.inside, here.inside or mode.enabled

    def __exit__(self, *error: object) -> None:
        here.inside = self.before
