"""What users ask of the tape: backward, grad, Functions of their own, checks of gradients, and the grad mode."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import tape
from .backend import is_differentiable, namespace
from .op import current, wrap
from .tape import Node, Output, Traced, mode

# --- grad mode, per thread ----------------------------------------------------------------------------


class set_grad_enabled:
    """Record operations, or not: a call that takes effect at once, a context manager, and a decorator."""

    def __init__(self, enabled: bool) -> None:
        self.enabled, self.before = bool(enabled), [mode.enabled]
        mode.enabled = self.enabled

    def __enter__(self) -> None:
        mode.enabled = self.enabled

    def __exit__(self, *exc: object) -> None:
        mode.enabled = self.before[-1]

    def __call__(self, function: Callable) -> Callable:
        mode.enabled = self.before[-1]
        return _decorated(function, type(self), self.enabled)


class _Mode(set_grad_enabled):
    value: bool

    def __init__(self) -> None:
        self.before: list[bool] = []

    def __enter__(self) -> None:
        self.before.append(mode.enabled)
        mode.enabled = self.value

    def __exit__(self, *exc: object) -> None:
        mode.enabled = self.before.pop()

    def __new__(cls, function: Callable | None = None) -> Any:
        return object.__new__(cls) if function is None else _decorated(function, cls)

    def __call__(self, function: Callable) -> Callable:
        return _decorated(function, type(self))


class no_grad(_Mode):
    """In this context, or in a function decorated with it, nothing is recorded."""

    value = False


class enable_grad(_Mode):
    """In this context, or in a function decorated with it, operations are recorded, also inside no_grad."""

    value = True


class inference_mode(no_grad):
    """no_grad by PyTorch's other name."""


def _decorated(function: Callable, context: type, *args: Any) -> Callable:
    @functools.wraps(function)
    def inside(*a: Any, **k: Any) -> Any:
        before = mode.enabled
        with context(*args) as _:
            try:
                return function(*a, **k)
            finally:
                mode.enabled = before

    return inside


def is_grad_enabled() -> bool:
    """Whether operations are recorded in this thread."""
    return mode.enabled


# --- gradients -----------------------------------------------------------------------------------------


def _several(x: Any) -> tuple:
    return () if x is None else tuple(x) if isinstance(x, (list, tuple)) else (x,)


def _roots(name: str, outputs: tuple, gradients: Any, create: bool) -> list[tuple[Any, Any]]:
    """(node, gradient) for each output: 1 for a missing gradient of one element, checked against the output's shape."""
    given = _several(gradients) if gradients is not None else (None,) * len(outputs)
    if len(given) != len(outputs):
        raise RuntimeError(f"{name}: wanted one gradient for each of {len(outputs)} outputs, saw {len(given)}")
    roots = []
    for y, g in zip(outputs, given, strict=True):
        node = current(y)
        if node is None:
            raise RuntimeError(f"{name}: the tensor of shape {tuple(y.array.shape)} does not require a gradient")
        if g is None:
            if y.array.size != 1:
                raise RuntimeError(
                    f"{name}: a gradient is made up only for one element; saw an output of shape {tuple(y.array.shape)}"
                )
            g = namespace(y.array).ones_like(y.array)
        elif tuple(g.shape) != tuple(y.array.shape):
            raise RuntimeError(
                f"{name}: wanted a gradient of the output's shape {tuple(y.array.shape)}, saw {tuple(g.shape)}"
            )
        if create:
            g = g if isinstance(g, Traced) else wrap(g)
        elif isinstance(g, Traced):
            g = g.array
        roots.append((node, g))
    return roots


def backward(
    tensors: Any,
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    """Add the gradients of `tensors`, contracted with `grad_tensors`, to the grad of the leaves (or of `inputs` only).

    RuntimeError if an output requires no gradient, was freed by an earlier walk, or needs a value written in place since.
    """
    outputs = _several(tensors)
    retain = create_graph if retain_graph is None else retain_graph
    roots = _roots("backward", outputs, grad_tensors, create_graph)
    wanted = None
    if inputs is not None:
        wanted = [current(t) for t in _several(inputs)]
        if not wanted or None in wanted:
            raise RuntimeError("backward: wanted inputs that require a gradient")
    before, mode.enabled = mode.enabled, create_graph
    try:
        arrived = tape.backward(roots, retain, create_graph, wanted)
        if wanted is None:
            for leaf, g in arrived.items():
                t = leaf.tensor()
                if t is not None:
                    t._receive(g, create_graph)
        else:
            for t, node in zip(_several(inputs), wanted, strict=True):
                if node in arrived:
                    t._receive(arrived[node], create_graph)
    finally:
        mode.enabled = before


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
    materialize_grads: bool = False,
) -> tuple[Any, ...]:
    """The gradients of `outputs`, contracted with `grad_outputs`, with respect to `inputs`; no grad attribute changes.

    create_graph=True makes them differentiable. RuntimeError for an input that the outputs do not depend on, unless
    allow_unused (its gradient is None) or materialize_grads (zeros).
    """
    outputs, inputs = _several(outputs), _several(inputs)
    retain = create_graph if retain_graph is None else retain_graph
    wanted = [current(t) for t in inputs]
    for t, node in zip(inputs, wanted, strict=True):
        if node is None:
            raise RuntimeError(f"grad: the input of shape {tuple(t.array.shape)} does not require a gradient")
    roots = _roots("grad", outputs, grad_outputs, create_graph)
    before, mode.enabled = mode.enabled, create_graph
    try:
        arrived = tape.backward(roots, retain, create_graph, wanted)
    finally:
        mode.enabled = before
    found: list[Any] = []
    for t, node in zip(inputs, wanted, strict=True):
        g = arrived.get(node)
        if g is None and not (allow_unused or materialize_grads):
            raise RuntimeError(
                f"grad: the outputs do not depend on the input of shape {tuple(t.array.shape)}; pass allow_unused=True "
                "to get None for it"
            )
        if g is None and materialize_grads:
            g = namespace(t.array).zeros_like(t.array)
        found.append(g if g is None or isinstance(g, Traced) else wrap(g))
    return tuple(found)


# --- functions of the user's own -----------------------------------------------------------------------


class Context:
    """What a Function's forward leaves for its backward."""

    def __init__(self, needs: tuple[bool, ...]) -> None:
        self.needs_input_grad = needs
        self._to_save: tuple = ()
        self._saved: tuple | None = None
        self._dirty: tuple = ()
        self._constant: tuple = ()
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

    setup_context: Any = None

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Run forward and record backward."""
        nodes = [current(a) if isinstance(a, Traced) else None for a in args]
        ctx = Context(tuple(n is not None for n in nodes))
        recording = mode.enabled and any(n is not None for n in nodes)
        before, mode.enabled = mode.enabled, False
        try:
            if cls.setup_context is not None:
                result = cls.forward(*args)
                cls.setup_context(ctx, args, result)
            else:
                result = cls.forward(ctx, *args)
        finally:
            mode.enabled = before
        several = isinstance(result, (tuple, list))
        outs = list(result) if several else [result]
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


def _record(cls: type[Function], ctx: Context, args: tuple, nodes: list, outs: list) -> None:
    """Put one call of a Function on the tape, without the cycle that holding its outputs would make."""
    tracked = [
        isinstance(y, Traced) and is_differentiable(y.array.dtype) and not any(y is c for c in ctx._constant)
        for y in outs
    ]
    if not any(tracked):
        return
    plan = FunctionPlan(cls, ctx, tuple(n is not None for n in nodes), len(outs))
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

    def marked(self, saved: tuple) -> tuple:
        """The saved arrays, in the order of their marks."""
        return saved[1:]

    def whole(self, gradients: list, node: Node, create: bool) -> tuple:
        """The gradients of all outputs, zeros for missing ones unless the function asked for None."""
        if not self.ctx._materialize:
            return tuple(gradients)
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
        if not create:
            self.ctx._saved = tuple(None if v is None else wrap(v) for v in saved[1:])
            g = tuple(None if v is None else wrap(v) for v in g)
        try:
            found = _several(self.function.backward(self.ctx, *g))
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


# --- checks --------------------------------------------------------------------------------------------


class GradcheckError(RuntimeError):
    """A gradient that does not agree with finite differences."""


def _differentiable(values: Sequence[Any]) -> list[Any]:
    return [v for v in values if isinstance(v, Traced) and current(v) is not None]


def _numerical(function: Callable, inputs: Sequence[Any], x: Any, v: np.ndarray, eps: float) -> list[np.ndarray]:
    """d outputs / d x along v by the central difference (f(x + eps v) - f(x - eps v)) / 2 eps, in float64."""
    home = x.array
    sides = []
    for sign in (1, -1):
        x.array = home + namespace(home).asarray((sign * eps * v).astype(home.dtype))
        with no_grad():
            sides.append(
                [np.array(_to_numpy(y), np.float64) for y in _several(function(*inputs)) if isinstance(y, Traced)]
            )
        x.array = home
    return [(p - m) / (2 * eps) for p, m in zip(*sides, strict=True)]


def _to_numpy(t: Any) -> np.ndarray:
    from .backend import asnumpy

    return asnumpy(t.array)


def gradcheck(
    func: Callable,
    inputs: Any,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    fast_mode: bool = False,
) -> bool:
    """Whether the gradients of `func` at `inputs` agree with central differences; meant for float64 inputs.

    Compares whole Jacobians, or with fast_mode one random projection u^T J v of each. GradcheckError (or False) if not.
    """
    inputs = _several(inputs)
    xs = _differentiable(inputs)
    if not xs:
        raise ValueError("gradcheck: wanted at least one input that requires a gradient, saw none")
    outputs = [y for y in _several(func(*inputs)) if isinstance(y, Traced) and current(y) is not None]
    kept = [
        i for i, y in enumerate(v for v in _several(func(*inputs)) if isinstance(v, Traced)) if current(y) is not None
    ]
    rng = np.random.default_rng(0)
    for oi, y in zip(kept, outputs, strict=True):
        for xi, x in enumerate(xs):
            xp = namespace(x.array)
            if fast_mode:
                u, v = rng.standard_normal(y.array.shape), rng.standard_normal(x.array.shape)
                (g,) = grad(y, x, wrap(xp.asarray(u.astype(y.array.dtype))), retain_graph=True, materialize_grads=True)
                analytic = np.array([np.sum(_to_numpy(g) * v)])
                numeric = np.array([np.sum(_numerical(func, inputs, x, v, eps)[oi] * u)])
            else:
                n, m = x.array.size, y.array.size
                analytic, numeric = np.empty((m, n)), np.empty((m, n))
                for i in range(m):
                    u = np.zeros(m, y.array.dtype)
                    u[i] = 1
                    u = wrap(xp.asarray(u.reshape(y.array.shape)))
                    (g,) = grad(y, x, u, retain_graph=True, materialize_grads=True)
                    analytic[i] = _to_numpy(g).reshape(-1)
                for j in range(n):
                    v = np.zeros(n)
                    v[j] = 1
                    numeric[:, j] = _numerical(func, inputs, x, v.reshape(x.array.shape), eps)[oi].reshape(-1)
            if not np.allclose(analytic, numeric, rtol, atol, equal_nan=True):
                if raise_exception:
                    worst = np.abs(analytic - numeric).max()
                    raise GradcheckError(
                        f"gradcheck: d output {oi} / d input {xi} differs from central differences by {worst:.3g}:\n"
                        f"numerical {numeric}\nanalytical {analytic}"
                    )
                return False
    return True


def gradgradcheck(
    func: Callable,
    inputs: Any,
    grad_outputs: Any = None,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    fast_mode: bool = False,
) -> bool:
    """gradcheck of the gradients of `func`: of (inputs, grad_outputs) -> grad(func(inputs), inputs, grad_outputs)."""
    inputs = _several(inputs)
    outputs = _differentiable(_several(func(*inputs)))
    rng = np.random.default_rng(1)
    if grad_outputs is None:
        gs = [
            wrap(namespace(y.array).asarray(rng.standard_normal(y.array.shape).astype(y.array.dtype))).requires_grad_()
            for y in outputs
        ]
    else:
        gs = list(_several(grad_outputs))
    n = len(inputs)

    def gradients(*args: Any) -> tuple:
        with enable_grad():
            ys = _differentiable(_several(func(*args[:n])))
            return grad(ys, _differentiable(args[:n]), list(args[n:]), create_graph=True, materialize_grads=True)

    return gradcheck(gradients, (*inputs, *gs), eps, atol, rtol, raise_exception, fast_mode)
