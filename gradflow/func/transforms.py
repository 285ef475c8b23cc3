"""Functions of functions: gradients, vector-Jacobian and Jacobian-vector products, Jacobians and Hessians."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..autograd.function import transposing
from ..autograd.gradient import grad as tape_grad
from ..autograd.modes import enable_grad
from ..backend import is_differentiable, namespace
from ..op import wrap
from ..ops import shape as shapes
from ..tape import Leaf, mode
from ..tensor import Tensor
from ..traced import current
from .batched import batch, levels_of, value_of
from .mapping import vmap
from .sides import alias, reaches, zeros_like
from .tree import flatten, tree_map, unflatten


class _Inputs:
    """The inputs that a transform differentiates by, each at a place of its own on the tape.

    leaves  their tensors; spec, how they were nested; own, those of their places that are new leaves
    """

    def __init__(self, name: str, values: Any) -> None:
        self.outer = mode.enabled
        flat, self.spec = flatten(values)
        for v in flat:
            if not isinstance(v, Tensor):
                raise RuntimeError(f"{name}: wanted tensors to differentiate by, saw {type(v).__name__}")
        with enable_grad():
            self.leaves = [alias(v, self.outer) for v in flat]
        self.own: set[Any] = {n for v in self.leaves if type(n := current(v)) is Leaf}

    def nested(self) -> Any:
        """The inputs, nested as they were."""
        return unflatten(self.leaves, self.spec)

    def beyond(self, *tensors: Any) -> bool:
        """Whether something else than these inputs, that may itself be differentiated by, is behind the tensors."""
        return self.outer and reaches(tensors, self.own)

    def release(self, y: Any) -> Any:
        """y as the caller may have it: off the tape unless something else than these inputs is behind it."""
        if not isinstance(y, Tensor) or current(y) is None or self.beyond(y):
            return y
        return y.detach()


def _split(name: str, args: tuple, argnums: Any) -> Any:
    """The arguments of these numbers: one for an int, a tuple for a tuple."""
    if isinstance(argnums, int) and not isinstance(argnums, bool):
        if not -len(args) <= argnums < len(args):
            raise RuntimeError(f"{name}: wanted argnums within {len(args)} positional arguments, saw {argnums}")
        return args[argnums]
    if not isinstance(argnums, tuple):
        raise RuntimeError(f"{name}: wanted argnums as an int or a tuple of ints, saw {argnums!r}")
    if not argnums:
        raise RuntimeError(f"{name}: wanted argnums of at least one argument, saw ()")
    places = []
    for i in argnums:
        if not isinstance(i, int):
            raise RuntimeError(f"{name}: wanted argnums as an int or a tuple of ints, saw {argnums!r}")
        if not -len(args) <= i < len(args):
            raise RuntimeError(f"{name}: wanted argnums within {len(args)} positional arguments, saw {i}")
        places.append(i % len(args))
    if len(set(places)) != len(places):
        raise RuntimeError(f"{name}: wanted argnums that differ, saw {argnums}")
    return tuple(args[i] for i in argnums)


def _replaced(args: tuple, argnums: Any, values: Any) -> tuple:
    """The arguments with those of these numbers replaced."""
    whole = list(args)
    if isinstance(argnums, int):
        whole[argnums] = values
    else:
        for i, v in zip(argnums, values, strict=True):
            whole[i] = v
    return tuple(whole)


def _aux(name: str, result: Any, has_aux: bool) -> tuple[Any, Any]:
    """(output, aux) of what the function gave."""
    if not has_aux:
        return result, None
    if not (isinstance(result, tuple) and len(result) == 2):
        raise RuntimeError(
            f"{name}: wanted a function that returns (output, aux), as has_aux=True says, saw {_kind(result)}"
        )
    return result


def _kind(x: Any) -> str:
    return f"a tuple of {len(x)}" if isinstance(x, tuple) else type(x).__name__


def grad_and_value(func: Callable[..., Any], argnums: Any = 0, has_aux: bool = False) -> Callable[..., Any]:
    """The function that gives (gradient of func by its arguments argnums, value), or (gradient, (value, aux)).

    func gives one number as a 0-d tensor (and aux, if has_aux). Arguments may be nested in tuples, lists and dicts; the
    gradient is nested alike, in a tuple for a tuple of argnums. Nests, and composes with vmap. RuntimeError otherwise.
    """

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        inputs = _Inputs("grad", _split("grad", args, argnums))
        with enable_grad():
            output, aux = _aux("grad", func(*_replaced(args, argnums, inputs.nested()), **kwargs), has_aux)
            if not isinstance(output, Tensor):
                raise RuntimeError(f"grad: wanted a function that returns a tensor, saw {type(output).__name__}")
            if output.array.ndim:
                raise RuntimeError(
                    f"grad: wanted a function that returns a 0-d tensor, saw {output.array.ndim} dimensions"
                )
            more = inputs.beyond(output)
            if current(output) is None:
                found: Sequence[Any] = [zeros_like(v) for v in inputs.leaves]
            else:
                found = tape_grad(
                    output,
                    inputs.leaves,
                    retain_graph=True if more or has_aux else None,
                    create_graph=more,
                    materialize_grads=True,
                )
        result = unflatten(list(found), inputs.spec)
        value = inputs.release(output)
        return (result, (value, tree_map(inputs.release, aux))) if has_aux else (result, value)

    return wrapper


def grad(func: Callable[..., Any], argnums: Any = 0, has_aux: bool = False) -> Callable[..., Any]:
    """The function that gives the gradient of func by its arguments argnums; with has_aux (gradient, aux).
    See grad_and_value.
    """

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        gradient, value = grad_and_value(func, argnums, has_aux)(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return wrapper


def _tensors(name: str, output: Any) -> tuple[list[Any], Any]:
    """The tensors that a function gave, and how they are nested."""
    flat, spec = flatten(output)
    if not flat:
        raise RuntimeError(f"{name}: wanted a function that returns tensors, saw none")
    for v in flat:
        if not isinstance(v, Tensor):
            raise RuntimeError(f"{name}: wanted a function that returns tensors, saw {type(v).__name__}")
    return flat, spec


def vjp(func: Callable[..., Any], *primals: Any, has_aux: bool = False) -> tuple:
    """(func(*primals), vjp_fn), or (output, vjp_fn, aux): vjp_fn(v) is the tuple of v^T J for each of the primals.

    v is nested as the output, in its shapes; vjp_fn may be called often and composes with vmap. RuntimeError for a func
    whose outputs are no tensors, or v of other shapes.
    """
    inputs = _Inputs("vjp", primals)
    with enable_grad():
        output, aux = _aux("vjp", func(*inputs.nested()), has_aux)
        flat, spec = _tensors("vjp", output)
    released = unflatten([inputs.release(y) for y in flat], spec)

    def vjp_fn(*cotangents: Any, retain_graph: bool = True, create_graph: bool | None = None) -> Any:
        given = cotangents if len(cotangents) != 1 else cotangents[0]
        vs, v_spec = flatten(given)
        if v_spec != spec and not (len(flat) == 1 and len(vs) == 1):
            raise RuntimeError(f"vjp: wanted cotangents nested as the output {spec!r}, saw {v_spec!r}")
        for y, v in zip(flat, vs, strict=True):
            if not isinstance(v, Tensor) or tuple(v.shape) != tuple(y.shape):
                raise RuntimeError(
                    f"vjp: wanted a cotangent of shape {tuple(y.shape)}, saw {tuple(getattr(v, 'shape', ()))}"
                )
        return unflatten(_pulled(flat, inputs, vs, retain_graph, create_graph), inputs.spec)

    return (released, vjp_fn, tree_map(inputs.release, aux)) if has_aux else (released, vjp_fn)


def _pulled(
    flat: list[Any], inputs: _Inputs, vs: list[Any], retain: bool = True, create: bool | None = None
) -> list[Any]:
    """v^T J for each input; recorded if the tape is on and there is something to differentiate it by."""
    pairs = [(y, v) for y, v in zip(flat, vs, strict=True) if current(y) is not None]
    if not pairs:
        return [zeros_like(x) for x in inputs.leaves]
    ys, given = [y for y, _ in pairs], [v for _, v in pairs]
    if create is None:
        create = mode.enabled and (any(current(v) is not None for v in given) or reaches(ys, inputs.own))
    return list(
        tape_grad(ys, inputs.leaves, given, retain_graph=retain or create, create_graph=create, materialize_grads=True)
    )


@contextmanager
def _restoring(before: bool) -> Iterator[None]:
    try:
        yield
    finally:
        transposing.enabled = before


# --- forward mode -------------------------------------------------------------------------------------------


class Linear:
    """The linear map J at a point, by transposing twice: the reverse mode u -> J^T u is linear in u, recorded once, and
    its own reverse mode v -> J v is what is asked for. A product costs a backward of a recorded backward: about two
    forwards, after one forward and one recorded backward.
    """

    def __init__(self, flat: list[Any], leaves: list[Any], own: set[Any]) -> None:
        self.flat, self.leaves, self.own = flat, leaves, set(own)
        self.us: list[Any] = []
        self.gxs: list[Any] = [None] * len(leaves)
        self.tracked = [i for i, y in enumerate(flat) if current(y) is not None and is_differentiable(y.array.dtype)]
        for i in self.tracked:
            whole = value_of(flat[i]).array
            u = wrap(namespace(whole).zeros(whole.shape, whole.dtype))
            u.node = Leaf(u)
            self.own.add(u.node)
            self.us.append(batch(u, levels_of(flat[i])))
        if self.tracked:
            before, transposing.enabled = transposing.enabled, True
            with enable_grad(), _restoring(before):
                self.gxs = list(
                    tape_grad(
                        [flat[i] for i in self.tracked],
                        leaves,
                        self.us,
                        retain_graph=True,
                        create_graph=True,
                        allow_unused=True,
                    )
                )

    def __call__(self, tangents: Sequence[Any]) -> list[Any]:
        """J v, one tensor for each output."""
        pairs = [(g, t) for g, t in zip(self.gxs, tangents, strict=True) if g is not None and current(g) is not None]
        found = [zeros_like(y) for y in self.flat]
        if pairs:
            gs, ts = [g for g, _ in pairs], [t for _, t in pairs]
            create = mode.enabled and (any(current(t) is not None for t in ts) or reaches(gs, self.own))
            pushed = tape_grad(gs, self.us, ts, retain_graph=True, create_graph=create, allow_unused=True)
            for i, t in zip(self.tracked, pushed, strict=True):
                if t is not None:
                    found[i] = t
        return found


def jvp(func: Callable[..., Any], primals: Any, tangents: Any, *, strict: bool = False, has_aux: bool = False) -> tuple:
    """(func(*primals), J v), or (output, J v, aux), for the tuple of tangents v, nested as the primals.

    Computed by transposing reverse mode twice (see Linear), so it is right for every op that can be differentiated twice.
    RuntimeError for tangents of other shapes, or with strict for an output that does not depend on the primals.
    """
    for what, x in (("primals", primals), ("tangents", tangents)):
        if not isinstance(x, tuple):
            raise RuntimeError(f"jvp: wanted {what} as a tuple, saw {type(x).__name__}")
    if not primals:
        raise RuntimeError("jvp: wanted at least one primal, saw none")
    inputs = _Inputs("jvp", primals)
    ts, t_spec = flatten(tangents)
    if t_spec != inputs.spec:
        raise RuntimeError(f"jvp: wanted tangents nested as the primals {inputs.spec!r}, saw {t_spec!r}")
    _check_tangents("jvp", inputs.leaves, ts)
    with enable_grad():
        output, aux = _aux("jvp", func(*inputs.nested()), has_aux)
        flat, spec = _tensors("jvp", output)
    if strict and any(current(y) is None for y in flat):
        raise RuntimeError("jvp: with strict=True, wanted outputs that depend on the inputs, saw one that does not")
    pushed = Linear(flat, inputs.leaves, inputs.own)(ts)
    released = unflatten([inputs.release(y) for y in flat], spec)
    result = unflatten(pushed, spec)
    return (released, result, tree_map(inputs.release, aux)) if has_aux else (released, result)


def _check_tangents(name: str, leaves: Sequence[Any], tangents: Sequence[Any]) -> None:
    for x, t in zip(leaves, tangents, strict=True):
        if not isinstance(t, Tensor) or tuple(t.shape) != tuple(x.shape):
            raise RuntimeError(
                f"{name}: wanted a tangent of shape {tuple(x.shape)}, saw {tuple(getattr(t, 'shape', ()))}"
            )


def linearize(func: Callable[..., Any], *primals: Any) -> tuple:
    """(func(*primals), jvp_fn): jvp_fn(*tangents) is J v at the primals, without computing func again."""
    inputs = _Inputs("linearize", primals)
    with enable_grad():
        flat, spec = _tensors("linearize", func(*inputs.nested()))
    push = Linear(flat, inputs.leaves, inputs.own)

    def jvp_fn(*tangents: Any) -> Any:
        ts, t_spec = flatten(tangents)
        if t_spec != inputs.spec:
            raise RuntimeError(f"linearize: wanted tangents nested as the primals {inputs.spec!r}, saw {t_spec!r}")
        _check_tangents("linearize", inputs.leaves, ts)
        return unflatten(push(ts), spec)

    return unflatten([inputs.release(y) for y in flat], spec), jvp_fn


# --- whole Jacobians -----------------------------------------------------------------------------------------


def basis(x: Any) -> Any:
    """The unit tensors of x's shape, one for each of its elements, along a new first dimension."""
    array = value_of(x).array
    xp, shape = namespace(array), tuple(x.array.shape)
    n = x.array.size
    return wrap(xp.eye(n, dtype=array.dtype).reshape(n, *shape))


def jacrev(
    func: Callable[..., Any],
    argnums: Any = 0,
    *,
    has_aux: bool = False,
    chunk_size: int | None = None,
    _preallocate_and_copy: bool = False,
) -> Callable[..., Any]:
    """The function that gives the Jacobian of func by its arguments argnums, one row for each element of the output by a
    vmapped reverse mode, chunk_size rows at once: of shape (*output, *input), nested as the output, then as the inputs.
    """
    if chunk_size is not None and not chunk_size > 0:
        raise ValueError(f"jacrev: wanted a chunk_size above 0, saw {chunk_size}")

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        inputs = _Inputs("jacrev", _split("jacrev", args, argnums))
        with enable_grad():
            output, aux = _aux("jacrev", func(*_replaced(args, argnums, inputs.nested()), **kwargs), has_aux)
            flat, spec = _tensors("jacrev", output)
        rows = []
        for y in flat:
            n = y.array.size
            if current(y) is None or not n:
                found = [zeros_like(x) for x in inputs.leaves]
                found = [shapes.expand(g, (n, *g.shape)) for g in found]
            elif n == 1:
                one = _pulled([y], inputs, [shapes.reshape(basis(y), tuple(y.shape))])
                found = [shapes.reshape(g, (1, *g.shape)) for g in one]
            else:
                found = list(vmap(lambda v, y=y: tuple(_pulled([y], inputs, [v])), chunk_size=chunk_size)(basis(y)))
            parts = [shapes.reshape(g, (*y.shape, *x.shape)) for g, x in zip(found, inputs.leaves, strict=True)]
            rows.append(unflatten(parts, inputs.spec))
        result = unflatten(rows, spec)
        return (result, tree_map(inputs.release, aux)) if has_aux else result

    return wrapper


def jacfwd(
    func: Callable[..., Any], argnums: Any = 0, has_aux: bool = False, *, randomness: str = "error"
) -> Callable[..., Any]:
    """The function that gives the Jacobian of func by its arguments argnums, one column for each element of the inputs by
    a vmapped forward mode: of shape (*output, *input), nested as the output, then as the inputs.
    """

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        inputs = _Inputs("jacfwd", _split("jacfwd", args, argnums))
        with enable_grad():
            output, aux = _aux("jacfwd", func(*_replaced(args, argnums, inputs.nested()), **kwargs), has_aux)
            flat, spec = _tensors("jacfwd", output)
        push = Linear(flat, inputs.leaves, inputs.own)
        columns: list[list[Any]] = [[] for _ in flat]
        for i, x in enumerate(inputs.leaves):
            n = x.array.size

            def one(v: Any, i: int = i) -> tuple:
                ts = [zeros_like(w) for w in inputs.leaves]
                ts[i] = v
                return tuple(push(ts))

            if n == 0:
                found: Any = [shapes.expand(zeros_like(y), (0, *y.shape)) for y in flat]
            elif n == 1:
                found = [shapes.reshape(t, (1, *t.shape)) for t in one(shapes.reshape(basis(x), tuple(x.shape)))]
            else:
                found = vmap(one, randomness=randomness)(basis(x))
            for column, t, y in zip(columns, found, flat, strict=True):
                column.append(shapes.reshape(shapes.movedim(t, 0, -1), (*y.shape, *x.shape)))
        result = unflatten([unflatten(column, inputs.spec) for column in columns], spec)
        return (result, tree_map(inputs.release, aux)) if has_aux else result

    return wrapper


def hessian(func: Callable[..., Any], argnums: Any = 0) -> Callable[..., Any]:
    """The function that gives the second derivatives of func by its arguments argnums: jacfwd of jacrev."""
    return jacfwd(jacrev(func, argnums), argnums)


def functionalize(func: Callable[..., Any], *, remove: str = "mutations") -> Callable[..., Any]:
    """func itself: writes in place are followed by the tape and by vmap, so nothing has to be removed first."""
    if remove not in ("mutations", "mutations_and_views"):
        raise RuntimeError(f"functionalize: wanted remove='mutations' or 'mutations_and_views', saw {remove!r}")
    return func
