"""Operations with a gradient of the user's own: Function and what it leaves for its backward."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable
from typing import Any

from .. import call, tape
from ..backend import is_differentiable, namespace
from ..op import current, wrap
from ..tape import Leaf, Node, Output, Traced, mode
from .gradient import several
from .modes import no_grad


class Context:
    """What a Function's forward leaves for its backward."""

    def __init__(self, needs: tuple[bool, ...]) -> None:
        self.needs_input_grad = needs
        self._to_save: tuple = ()
        self._saved: tuple | None = None
        self._dirty: tuple = ()
        self._constant: tuple = ()
        self._to_forward: tuple | None = None
        self._materialize = True

    def save_for_backward(self, *tensors: Any) -> None:
        """Keep inputs or outputs for backward, which finds them in saved_tensors; writes to them are noticed."""
        self._to_save = tensors

    @property
    def saved_tensors(self) -> tuple:
        """What save_for_backward kept. RuntimeError once a backward freed it."""
        if self._saved is None:
            raise tape.FreedError("saved_tensors: read outside of backward, or after a first backward freed them")
        return self._saved

    def save_for_forward(self, *tensors: Any) -> None:
        """Keep inputs or outputs for jvp, which finds them in saved_tensors."""
        self._to_forward = tensors

    def mark_shared_storage(self, *pairs: Any) -> None:
        """Say nothing new: which outputs share memory with inputs is known."""

    def mark_dirty(self, *tensors: Any) -> None:
        """Say which inputs forward wrote in place."""
        self._dirty = tensors

    def mark_non_differentiable(self, *tensors: Any) -> None:
        """Say which outputs have no gradient."""
        self._constant = tensors

    def set_materialize_grads(self, value: bool) -> None:
        """Whether backward gets zeros (the default) or None for outputs that nothing depended on."""
        self._materialize = value


class Function:
    """An operation with a gradient of your own: static forward(ctx, *args) and backward(ctx, *grads); call `apply`.

    backward gets one gradient per output and returns one (or None) per argument of forward, as Tensors. Written with
    differentiable operations it can itself be differentiated.
    """

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """Compute the outputs; the first argument is ctx unless setup_context is defined."""
        raise NotImplementedError("Function: a subclass must define forward")

    @staticmethod
    def backward(ctx: Context, *grads: Any) -> Any:
        """The gradients of forward's arguments, given those of its outputs."""
        raise NotImplementedError("Function: a subclass must define backward to be differentiated")

    @staticmethod
    def jvp(ctx: Context, *tangents: Any) -> Any:
        """The tangents of the outputs, given those of forward's arguments (None for those without): J v.
        Without one forward mode transposes backward, which must then be differentiable.
        """
        raise NotImplementedError(
            "Function: a subclass must define jvp for forward mode where backward is not differentiable"
        )

    @staticmethod
    def vmap(info: Any, in_dims: tuple, *args: Any) -> Any:
        """(outputs, their out_dims) of arguments of which those with an in_dim hold info.batch_size samples."""
        raise NotImplementedError("Function: a subclass must define vmap, or set generate_vmap_rule, to be mapped")

    setup_context: Any = None
    generate_vmap_rule = False  # whether vmap runs forward, backward and jvp on batched tensors

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Run forward and record backward."""
        if kwargs:
            if cls.setup_context is None:
                raise TypeError("apply: takes keywords only where setup_context is defined")
            bound = inspect.signature(cls.forward).bind(*args, **kwargs)
            bound.apply_defaults()
            args = bound.args
        elif cls.setup_context is not None and (default := cls.forward.__defaults__):
            missing = cls.forward.__code__.co_argcount - len(args)
            args = (*args, *default[len(default) - missing :]) if 0 < missing <= len(default) else args
        if call.batching:
            from ..func.custom import mapped

            y = mapped(cls, args)
            if y is not NotImplemented:
                return y
        nodes = [current(a) if isinstance(a, Traced) else None for a in args]
        ctx = Context(tuple(n is not None for n in nodes))
        recording = mode.enabled and any(n is not None for n in nodes)
        result = run(cls, ctx, args)
        several = isinstance(result, (tuple, list))
        outs = list(result) if several else [result]
        for d in ctx._dirty:
            if not any(d is y for y in outs):
                raise RuntimeError(f"{cls.__name__}: a tensor marked dirty was not returned by forward")
            if recording and type(current(d)) is Leaf:
                raise RuntimeError(f"{cls.__name__}: a leaf that requires a gradient was written in place by forward")
        for i, y in enumerate(outs):
            if isinstance(y, Traced) and any(y is a for a in args):
                if any(y is d for d in ctx._dirty):
                    y.version.bump()
                else:
                    outs[i] = wrap(y.array)
                    outs[i].version = y.version
        if recording:
            _record(cls, ctx, args, nodes, outs)
        return tuple(outs) if several else outs[0]


def run(cls: type[Function], ctx: Context, args: tuple) -> Any:
    """Forward, off the tape, and what it leaves in ctx."""
    before, mode.enabled = mode.enabled, False
    try:
        if cls.setup_context is None:
            return cls.forward(ctx, *args)
        result = cls.forward(*args)
        cls.setup_context(ctx, args, result)
        return result
    finally:
        mode.enabled = before


def _record(cls: type[Function], ctx: Context, args: tuple, nodes: list, outs: list) -> None:
    """Put one call of a Function on the tape, without the cycle that holding its outputs would make."""
    tracked = [
        isinstance(y, Traced) and is_differentiable(y.array.dtype) and not any(y is c for c in ctx._constant)
        for y in outs
    ]
    if not any(tracked):
        return
    plan = FunctionPlan(cls, ctx, tuple(n is not None for n in nodes), len(outs))
    plan.inputs = [(a.array.shape, a.array.dtype) for a, n in zip(args, nodes, strict=True) if n is not None]
    saved: list[Any] = []
    marks: list[Any] = []
    for t in ctx._to_save:
        if t is None:
            plan.places.append(None)
            saved.append(None)
            marks.append(())
            continue
        place = next((("output", i) for i, y in enumerate(outs) if t is y and tracked[i]), None)
        plan.places.append(place or ("node", current(t)))
        saved.append(t.array)
        marks.append(t.version)
    ctx._to_save = ()
    shapes = tuple(y.array.shape if isinstance(y, Traced) else None for y in outs)
    dtypes = tuple(y.array.dtype if isinstance(y, Traced) else None for y in outs)
    edges = tuple(n for n in nodes if n is not None)
    node = Node(plan, (ctx, *saved), tuple(marks), edges, shapes, dtypes)
    for i, y in enumerate(outs):
        if tracked[i]:
            y.node, y.source = Output(node, i, y.array), None


class FunctionPlan:
    """What op.Plan is for ops, for one call of a Function."""

    def __init__(self, cls: type[Function], ctx: Context, needs: tuple[bool, ...], outputs: int) -> None:
        self.function, self.ctx, self.needs, self.count = cls, ctx, needs, outputs
        self.name = f"{cls.__name__}Backward"
        self.places: list[Any] = []
        self.inputs: list[Any] = []  # (shape, dtype) of those that need a gradient
        self.rule = cls.backward
        if "vjp" in vars(cls) or any("vjp" in vars(c) for c in cls.__mro__):
            if cls.backward is not Function.backward:
                raise RuntimeError(f"{cls.__name__}: wanted backward or vjp, saw both")
            self.rule = cls.vjp  # type: ignore[attr-defined]

    def marked(self, saved: tuple) -> tuple:
        """The saved arrays, in the order of their marks."""
        return saved[1:]

    def whole(self, gradients: list, node: Node, create: bool) -> tuple:
        """The gradients of all outputs, zeros for missing ones unless the function asked for None."""
        return tuple(gradients) if not self.ctx._materialize else self.whole_of(gradients, node, create)

    def whole_of(self, gradients: list, node: Node, create: bool) -> tuple:
        """The gradients of all outputs, zeros for missing ones."""
        xp = namespace(next(g.array if create else g for g in gradients if g is not None))
        return tuple(
            (wrap(xp.zeros(s, d)) if create else xp.zeros(s, d)) if g is None and s is not None else g
            for g, s, d in zip(gradients, node.shape, node.dtype, strict=True)
        )

    def revive(self, node: Node, saved: tuple) -> tuple:
        """The saved values as Tensors at their places on the tape."""
        self.ctx._saved = tuple(
            None if v is None else wrap(v, Output(node, p[1], v) if p[0] == "output" else p[1])
            for v, p in zip(saved[1:], self.places, strict=True)
        )
        return saved

    def pull(self, g: Any, saved: tuple) -> tuple:
        """Call the Function's backward with Tensors and give what came, as arrays unless it was recorded."""
        create = any(isinstance(v, Traced) for v in g)
        if create and transposing.enabled and self.function.jvp is not Function.jvp:
            return self._transposed(g, saved)
        if not create:
            self.ctx._saved = tuple(None if v is None else wrap(v) for v in saved[1:])
            g = tuple(None if v is None else wrap(v) for v in g)
        try:
            found = several(self.rule(self.ctx, *g))
        finally:
            self.ctx._saved = None
        if not isinstance(found, tuple) or len(found) < len(self.needs):
            found = (*found, *(None,) * (len(self.needs) - len(found))) if all(v is None for v in found) else found
        if len(found) < len(self.needs) or any(v is not None for v in found[len(self.needs) :]):
            raise RuntimeError(
                f"{self.name}: wanted {len(self.needs)} gradients, one per argument of forward, saw {len(found)}"
            )
        found = tuple(v for v, needed in zip(found, self.needs, strict=False) if needed)
        return found if create else tuple(v.array if isinstance(v, Traced) else v for v in found)

    def _transposed(self, g: tuple, saved: tuple) -> tuple:
        """Gradients of the inputs that are there for their places on the tape only: from them a walk back is jvp."""
        kept, self.ctx._saved = self.ctx._saved, None
        edges = tuple(n for n in (None if v is None else current(v) for v in g) if n is not None)
        which = [i for i, v in enumerate(g) if v is not None and current(v) is not None]
        plan = _Transposed(self, kept, which)
        shapes, dtypes = tuple(s for s, _ in self.inputs), tuple(d for _, d in self.inputs)
        node = Node(plan, (None,), (), edges, shapes, dtypes)
        xp = namespace(next(v.array for v in g if v is not None))
        found = []
        for i, (shape, dtype) in enumerate(self.inputs):
            zeros = xp.zeros(shape, dtype)
            found.append(wrap(zeros, Output(node, i, zeros)))
        return tuple(found)

    def pull_to(self, asked: tuple[bool, ...]) -> Callable[[Any, tuple], tuple]:
        """pull, with None for what is not asked for."""
        return lambda g, saved: tuple(v if a else None for v, a in zip(self.pull(g, saved), asked, strict=True))


class _Transposing(threading.local):
    enabled = False


transposing = _Transposing()  # whether a walk back is recorded to be walked back itself, for J v


class _Transposed:
    """The plan of a Function's backward whose own backward is the Function's jvp."""

    def __init__(self, plan: FunctionPlan, kept: tuple | None, which: list[int]) -> None:
        self.plan, self.kept, self.which = plan, kept, which
        self.name = f"{plan.name}Transposed"

    def whole(self, gradients: list, node: Node, create: bool) -> tuple:
        """The tangents, zeros for missing ones."""
        return self.plan.whole_of(gradients, node, create)

    def marked(self, saved: tuple) -> tuple:
        """Nothing is saved here."""
        return ()

    def revive(self, node: Node, saved: tuple) -> tuple:
        """Nothing is saved here."""
        return saved

    def pull(self, g: Any, saved: tuple) -> tuple:
        """The tangents of the outputs."""
        create, at = any(isinstance(v, Traced) for v in g), iter(g)
        given = [next(at) if needed else None for needed in self.plan.needs]
        tangents = [v if v is None or isinstance(v, Traced) else wrap(v) for v in given]
        ctx = self.plan.ctx
        ctx._saved = self.kept if ctx._to_forward is None else ctx._to_forward
        try:
            found = several(self.plan.function.jvp(ctx, *tangents))
        finally:
            ctx._saved = None
        found = tuple(found[i] for i in self.which)
        return found if create else tuple(v.array if isinstance(v, Traced) else v for v in found)

    def pull_to(self, asked: tuple[bool, ...]) -> Callable[[Any, tuple], tuple]:
        """pull, with None for what is not asked for."""
        return lambda g, saved: tuple(v if a else None for v, a in zip(self.pull(g, saved), asked, strict=True))


class _Refusal:
    """The plan of a gradient that may not be differentiated again."""

    def __init__(self, name: str) -> None:
        self.name = name

    def pull(self, g: Any, saved: tuple) -> tuple:
        raise RuntimeError(f"{self.name}: marked once_differentiable, and its gradient was to be differentiated")

    def pull_to(self, asked: Any) -> Callable:
        return self.pull

    def revive(self, node: Node, saved: tuple) -> tuple:
        return saved


def once_differentiable(backward: Callable) -> Callable:
    """Decorate a Function's backward that is not itself differentiable: doing so raises instead of answering wrongly."""

    @functools.wraps(backward)
    def once(ctx: Context, *grads: Any) -> Any:
        recording = mode.enabled
        with no_grad():
            result = backward(ctx, *grads)
        edges = tuple(
            n for n in (current(g) for g in (*grads, *(ctx._saved or ())) if isinstance(g, Traced)) if n is not None
        )
        if not recording or not edges:
            return result
        name = backward.__qualname__

        def refuse(v: Any) -> Any:
            if isinstance(v, Traced):
                v = wrap(v.array, Node(_Refusal(name), (), (), edges, v.array.shape, v.array.dtype))
            return v

        return tuple(map(refuse, result)) if isinstance(result, tuple) else refuse(result)

    return once
