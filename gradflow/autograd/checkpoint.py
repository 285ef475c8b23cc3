"""Checkpointing: a part of a program is computed again in backward instead of keeping what its gradients need."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

from .. import backend
from ..op import current
from ..tape import mode
from ..tensor import Tensor
from . import graph
from .function import Function
from .gradient import backward as walk_back
from .modes import enable_grad

__all__ = ["CheckpointError", "checkpoint", "checkpoint_sequential", "noop_context_fn", "set_checkpoint_early_stop"]


class CheckpointError(RuntimeError):
    """What was computed again is not what was computed first."""


class _Early(threading.local):
    stop = True


_early = _Early()


class set_checkpoint_early_stop:
    """A context, or a call: whether computing again stops when all that backward needs is there (it does by default)."""

    def __init__(self, enable: bool) -> None:
        self.before, _early.stop = _early.stop, bool(enable)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: object) -> None:
        _early.stop = self.before


def noop_context_fn() -> tuple[AbstractContextManager, AbstractContextManager]:
    """Two contexts that do nothing."""
    return nullcontext(), nullcontext()


class _Before:
    """The state of the random numbers (if that is wanted) and of autocast at the time of the first run, for the second."""

    def __init__(self, keep: bool) -> None:
        from ..amp.blocks import restored

        self.state = backend.default_generator.get_state() if keep else None
        self.autocast = restored()

    def __enter__(self) -> None:
        self.autocast.__enter__()
        if self.state is not None:
            self.now = backend.default_generator.get_state()
            backend.default_generator.set_state(self.state)

    def __exit__(self, *exc: object) -> None:
        if self.state is not None:
            backend.default_generator.set_state(self.now)
        self.autocast.__exit__()


def checkpoint(
    function: Callable[..., Any],
    *args: Any,
    use_reentrant: bool | None = None,
    context_fn: Callable[[], tuple[AbstractContextManager, AbstractContextManager]] = noop_context_fn,
    determinism_check: str = "default",
    debug: bool = False,
    early_stop: bool = True,
    **kwargs: Any,
) -> Any:
    """function(*args, **kwargs), of which backward keeps the inputs only and computes the rest again.

    use_reentrant        True: backward runs inside backward; keywords are refused, and inputs must be tensors that require
                         gradients. False: what backward needs is computed again when it is first asked for.
    preserve_rng_state   whether random numbers are the same the second time (default True)
    context_fn           two contexts, for the first run and for the second; determinism_check "default" compares shapes and
                         dtypes of what is found, "none" does not
    CheckpointError if the second run saves other tensors than the first. ValueError for unknown keywords with reentrance.
    """
    preserve = kwargs.pop("preserve_rng_state", True)
    if use_reentrant is None:
        use_reentrant = True
    if use_reentrant:
        if kwargs:
            raise ValueError(f"checkpoint: wanted no keywords with use_reentrant=True, saw {', '.join(kwargs)}")
        if context_fn is not noop_context_fn or debug:
            raise ValueError("checkpoint: context_fn and debug want use_reentrant=False")
        return _reentrant(function, preserve, args)
    if determinism_check not in ("default", "none"):
        raise ValueError(f"checkpoint: wanted determinism_check 'default' or 'none', saw {determinism_check!r}")
    return _recomputed(function, args, kwargs, preserve, context_fn, determinism_check == "default", early_stop)


# --- with a backward inside of backward -------------------------------------------------------------------


class _Checkpoint(Function):
    """The part as one Function: its backward computes it again, recorded, and walks back."""

    @staticmethod
    def forward(ctx: Any, function: Any, before: Any, *args: Any) -> Any:
        ctx.function, ctx.before, ctx.args = function, before, list(args)
        ctx.places = [i for i, a in enumerate(args) if isinstance(a, Tensor)]
        ctx.save_for_backward(*(args[i] for i in ctx.places))
        for i in ctx.places:
            ctx.args[i] = None
        return function(*args)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        if mode.enabled:
            raise RuntimeError("checkpoint: wanted use_reentrant=False where its gradient is to be differentiated")
        args = list(ctx.args)
        for i, t, needed in zip(
            ctx.places, ctx.saved_tensors, (ctx.needs_input_grad[i + 2] for i in ctx.places), strict=True
        ):
            args[i] = t.detach().requires_grad_() if needed else t.detach()
        with ctx.before, enable_grad():
            outputs = ctx.function(*args)
        outputs = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
        pairs = [
            (y, g)
            for y, g in zip(outputs, grads, strict=True)
            if isinstance(y, Tensor) and current(y) is not None and g is not None
        ]
        if not pairs:
            raise RuntimeError("checkpoint: wanted an output that requires a gradient, saw none")
        walk_back([y for y, _ in pairs], [g for _, g in pairs])
        return (None, None, *(a.grad if isinstance(a, Tensor) else None for a in args))


def _reentrant(function: Callable[..., Any], preserve: bool, args: tuple) -> Any:
    if mode.enabled and not any(isinstance(a, Tensor) and current(a) is not None for a in args):
        warnings.warn("checkpoint: no input requires a gradient, so none will be found", UserWarning, stacklevel=3)
    return _Checkpoint.apply(function, _Before(preserve), *args)


# --- by computing again what was saved ----------------------------------------------------------------------


class _Holder:
    """A saved value that is not there."""

    __slots__ = ("__weakref__", "index", "seen")

    def __init__(self, index: int, seen: tuple) -> None:
        self.index, self.seen = index, seen


class _Stop(Exception):
    """All that is needed has been computed."""


class _Frame:
    """One checkpointed call: how to run it again, and what the second run found."""

    def __init__(self, run: Callable[[], Any], check: bool, early: bool) -> None:
        self.run, self.check, self.early, self.count = run, check, early, 0
        self.found: dict[int, Any] = {}
        self.running = False

    def pack(self, t: Any) -> _Holder:
        """The first run: keep nothing."""
        self.count += 1
        return _Holder(self.count - 1, (tuple(t.array.shape), t.array.dtype))

    def unpack(self, holder: _Holder) -> Any:
        """Backward: compute all again when the first is asked for; each is handed out once."""
        if holder.index not in self.found:
            self._again()
        t = self.found.pop(holder.index, None)
        if t is None:
            raise CheckpointError("checkpoint: the second run saved fewer tensors than the first")
        if self.check and (tuple(t.array.shape), t.array.dtype) != holder.seen:
            raise CheckpointError(
                f"checkpoint: the second run saved {tuple(t.array.shape)} {t.array.dtype} where the first saved "
                f"{holder.seen[0]} {holder.seen[1]}"
            )
        return t

    def _again(self) -> None:
        seen = 0

        def keep(t: Any) -> Any:
            nonlocal seen
            self.found[seen] = t.detach()
            seen += 1
            if self.early and _early.stop and seen == self.count:
                raise _Stop
            return t.detach()

        try:
            with graph.saved_tensors_hooks(keep, lambda t: t), enable_grad():
                self.run()
        except _Stop:
            pass
        if self.check and seen != self.count:
            raise CheckpointError(f"checkpoint: the first run saved {self.count} tensors, the second {seen}")


def _recomputed(
    function: Callable[..., Any], args: tuple, kwargs: dict, preserve: bool, context_fn: Any, check: bool, early: bool
) -> Any:
    first, second = context_fn()
    if not mode.enabled:
        with first:
            return function(*args, **kwargs)
    before = _Before(preserve)

    def again() -> None:
        with ExitStack() as stack:
            stack.enter_context(before)
            stack.enter_context(second)
            function(*args, **kwargs)

    frame = _Frame(again, check, early)
    with graph.saved_tensors_hooks(frame.pack, frame.unpack), first:
        return function(*args, **kwargs)


def checkpoint_sequential(
    functions: Any, segments: int, input: Any, use_reentrant: bool | None = None, **kwargs: Any
) -> Any:
    """The functions (a list, or a Sequential) one after the other, in `segments` parts, of which all but the last are
    checkpointed. ValueError for unknown keywords.
    """
    preserve = kwargs.pop("preserve_rng_state", True)
    if kwargs:
        raise ValueError(f"checkpoint_sequential: wanted preserve_rng_state only, saw {', '.join(kwargs)}")
    steps: Sequence[Any] = list(functions.children()) if hasattr(functions, "children") else list(functions)

    def part(start: int, end: int) -> Callable[[Any], Any]:
        def run(x: Any) -> Any:
            for f in steps[start:end]:
                x = f(x)
            return x

        return run

    size, start = len(steps) // segments, 0
    for _ in range(segments - 1):
        input = checkpoint(part(start, start + size), input, use_reentrant=use_reentrant, preserve_rng_state=preserve)
        start += size
    return part(start, len(steps))(input)
