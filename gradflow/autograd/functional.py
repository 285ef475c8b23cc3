"""Jacobians, Hessians and products with them, of functions of tensors, as torch.autograd.functional has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..backend import is_differentiable, namespace
from ..op import current, wrap
from ..ops import shape as shapes
from ..tape import Traced
from .gradient import grad
from .modes import enable_grad

__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]


def _tuple(x: Any, name: str, what: str) -> tuple[bool, tuple]:
    """(whether it was a tuple, the tuple) of tensors; TypeError for anything else."""
    alone = not isinstance(x, tuple)
    xs = (x,) if alone else x
    for i, v in enumerate(xs):
        if not isinstance(v, Traced):
            where = "a tensor or a tuple of tensors" if alone else f"tensors only, at {i} of the tuple"
            raise TypeError(f"{name}: wanted {what} as {where}, saw {type(v).__name__}")
    return not alone, xs


def _places(xs: tuple, create: bool) -> tuple:
    """The inputs at places of their own on the tape: behind the given ones where what is found is to be differentiable."""
    return tuple(
        shapes.expand(x, tuple(x.array.shape))
        if create and current(x) is not None
        else (x.detach().requires_grad_() if is_differentiable(x.array.dtype) else x.detach())
        for x in xs
    )


def _given(v: Any, like: tuple, is_tuple: bool, name: str, what: str) -> tuple:
    """The vectors, of the shapes of `like`."""
    _, vs = _tuple(v, name, "v")
    if len(vs) != len(like):
        raise RuntimeError(f"{name}: wanted v as {len(like)} tensors, one for each of {what}, saw {len(vs)}")
    for i, (a, b) in enumerate(zip(vs, like, strict=True)):
        if tuple(a.shape) != tuple(b.shape):
            raise RuntimeError(f"{name}: wanted v at {i} of shape {tuple(b.shape)}, as {what}, saw {tuple(a.shape)}")
    return vs


def _zeros(x: Any) -> Any:
    return wrap(namespace(x.array).zeros(x.array.shape, x.array.dtype))


def _tracked(ys: tuple, strict: bool, name: str, what: str) -> None:
    if strict:
        for i, y in enumerate(ys):
            if current(y) is None:
                raise RuntimeError(
                    f"{name}: with strict=True, wanted {what} that depend on the inputs, saw {i} that does not"
                )


def _gradient(ys: tuple, xs: tuple, vs: tuple, create: bool, strict: bool, name: str, retain: bool = True) -> tuple:
    """v^T J for each input, zeros where nothing depends on it."""
    pairs = [(y, v) for y, v in zip(ys, vs, strict=True) if current(y) is not None]
    found: tuple = (None,) * len(xs)
    on = [i for i, x in enumerate(xs) if current(x) is not None]
    if pairs and on:
        with enable_grad():
            some = grad(
                [y for y, _ in pairs], [xs[i] for i in on], [v for _, v in pairs],
                retain_graph=retain, create_graph=create, allow_unused=True,
            )  # fmt: skip
        found = tuple(some[on.index(i)] if i in on else None for i in range(len(xs)))
    result = []
    for i, (g, x) in enumerate(zip(found, xs, strict=True)):
        if g is None:
            if strict:
                raise RuntimeError(
                    f"{name}: with strict=True, wanted outputs that depend on every input, saw input {i} unused"
                )
            g = _zeros(x)
        elif strict and create and current(g) is None:
            raise RuntimeError(
                f"{name}: with strict=True, wanted a result that depends on the inputs, saw input {i} not in it"
            )
        result.append(g)
    return tuple(result)


def _release(ts: Any, create: bool) -> Any:
    """What the caller gets: off the tape unless it is to be differentiable."""
    if isinstance(ts, tuple):
        return tuple(_release(t, create) for t in ts)
    return ts if create else ts.detach()


def _ones(name: str, ys: tuple, what: str) -> tuple:
    if len(ys) != 1 or ys[0].array.size != 1:
        raise RuntimeError(f"{name}: v may only be left out where {what} is a single element")
    return (wrap(namespace(ys[0].array).ones_like(ys[0].array)),)


def _run(name: str, func: Callable[..., Any], inputs: Any, create: bool, strict: bool) -> tuple:
    is_tuple, xs = _tuple(inputs, name, "inputs")
    with enable_grad():
        xs = _places(xs, create)
        outs_tuple, ys = _tuple(func(*xs), name, "the outputs of the function")
    _tracked(ys, strict, name, "outputs")
    return is_tuple, xs, outs_tuple, ys


def vjp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple:
    """(outputs, v^T J): the vector v, of the outputs' shapes, with the Jacobian of func at the inputs.

    inputs, outputs and v are tensors or tuples of tensors; v may be left out for an output of one element. With
    create_graph what is found is differentiable. RuntimeError for v of other shapes, or with strict where an output does
    not depend on an input; TypeError for what is no tensor.
    """
    is_tuple, xs, outs_tuple, ys = _run("vjp", func, inputs, create_graph, strict)
    vs = _ones("vjp", ys, "the output") if v is None else _given(v, ys, outs_tuple, "vjp", "outputs")
    found = _gradient(ys, xs, vs, create_graph, strict, "vjp", retain=create_graph)
    ys, found = _release(ys, create_graph), _release(found, create_graph)
    return ys if outs_tuple else ys[0], found if is_tuple else found[0]


def jvp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple:
    """(outputs, J v): the Jacobian of func at the inputs with the vector v, of the inputs' shapes; by transposing the
    reverse mode twice. v may be left out for an input of one element. See vjp.
    """
    is_tuple, xs, outs_tuple, ys = _run("jvp", func, inputs, create_graph, strict)
    vs = _ones("jvp", xs, "the input") if v is None else _given(v, xs, is_tuple, "jvp", "inputs")
    us = tuple(_zeros(y).requires_grad_() for y in ys)
    first = _gradient(ys, xs, us, True, strict, "jvp")
    found = _gradient(first, us, vs, create_graph, strict, "jvp")
    ys, found = _release(ys, create_graph), _release(found, create_graph)
    return ys if outs_tuple else ys[0], found if outs_tuple else found[0]


def _rows(y: Any, xs: tuple, create: bool, strict: bool, vectorize: bool, name: str) -> list[Any]:
    """For each input, dy / dx of shape (elements of y, *x.shape)."""
    array = y.array
    xp, n = namespace(array), array.size
    if not n or current(y) is None:
        return [wrap(xp.zeros((n, *x.array.shape), x.array.dtype)) for x in xs]
    units = wrap(xp.eye(n, dtype=array.dtype).reshape(n, *array.shape))
    if vectorize:
        from ..func.mapping import vmap

        return list(vmap(lambda v: _gradient((y,), xs, (v,), create, False, name))(units))
    rows = [_gradient((y,), xs, (units[i],), create, strict, name) for i in range(n)]
    return [shapes.stack(row) for row in zip(*rows, strict=True)]


def jacobian(
    func: Callable[..., Any],
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    strategy: str = "reverse-mode",
) -> Any:
    """The Jacobian of func at the inputs: for each output, for each input, d output / d input of shape (*output, *input).

    A tensor for a tensor of a tensor; a tuple by inputs, by outputs, or by both in that order of nesting. vectorize
    computes all rows at once by vmap (with strategy "forward-mode" all columns). RuntimeError as in vjp.
    """
    if strategy not in ("reverse-mode", "forward-mode"):
        raise AssertionError(f"jacobian: wanted strategy 'reverse-mode' or 'forward-mode', saw {strategy!r}")
    if strategy == "forward-mode":
        if create_graph:
            raise NotImplementedError(
                "jacobian: create_graph=True and strategy='forward-mode' are not supported together"
            )
        if strict:
            raise RuntimeError("jacobian: strict=True and strategy='forward-mode' are not supported together")
        if not vectorize:
            raise NotImplementedError("jacobian: strategy='forward-mode' wants vectorize=True")
    if strict and vectorize:
        raise RuntimeError("jacobian: strict=True and vectorize=True are not supported together")
    is_tuple, xs, outs_tuple, ys = _run("jacobian", func, inputs, create_graph, strict)
    if strategy == "forward-mode":
        from ..func.transforms import jacfwd

        _, given = _tuple(inputs, "jacobian", "inputs")
        found = jacfwd(lambda *a: _tuple(func(*a), "jacobian", "the outputs")[1], tuple(range(len(given))))(*given)
        table: tuple = found
    else:
        table = ()
        for y in ys:
            rows = _rows(y, xs, create_graph, strict, vectorize, "jacobian")
            with enable_grad():
                parts = tuple(
                    shapes.reshape(r, (*y.array.shape, *x.array.shape)) for r, x in zip(rows, xs, strict=True)
                )
            table += (_release(parts, create_graph),)
    if not is_tuple:
        table = tuple(row[0] for row in table)
    return table if outs_tuple else table[0]


def _scalar(name: str, func: Callable[..., Any]) -> Callable[..., Any]:
    def checked(*xs: Any) -> Any:
        outs_tuple, ys = _tuple(func(*xs), name, "the output of the function")
        if outs_tuple:
            raise RuntimeError(f"{name}: wanted a function that returns one tensor, saw a tuple")
        if ys[0].array.size != 1:
            raise RuntimeError(
                f"{name}: wanted a function that returns one element, saw shape {tuple(ys[0].array.shape)}"
            )
        return shapes.reshape(ys[0], ())

    return checked


def hessian(
    func: Callable[..., Any],
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    outer_jacobian_strategy: str = "reverse-mode",
) -> Any:
    """The second derivatives of func, a function of one element, at the inputs: a tensor of shape (*input, *input), or for
    a tuple of inputs a tuple of tuples, [i][j] of shape (*input_i, *input_j). RuntimeError as in vjp.
    """
    is_tuple, xs = _tuple(inputs, "hessian", "inputs")
    if outer_jacobian_strategy not in ("reverse-mode", "forward-mode"):
        raise AssertionError(
            f"hessian: wanted a strategy 'reverse-mode' or 'forward-mode', saw {outer_jacobian_strategy!r}"
        )
    f = _scalar("hessian", func)
    if outer_jacobian_strategy == "forward-mode":
        from ..func.transforms import jacrev

        inner = jacrev(f, tuple(range(len(xs))))
    else:

        def inner(*ps: Any) -> tuple:
            y = f(*ps)
            if strict and current(y) is None:
                raise RuntimeError("hessian: with strict=True, wanted an output that depends on the inputs")
            found = _gradient((y,), ps, (wrap(namespace(y.array).ones_like(y.array)),), True, False, "hessian")
            if strict and any(current(g) is None for g in found):
                raise RuntimeError("hessian: with strict=True, wanted a gradient that depends on every input")
            return found

    result = jacobian(lambda *ps: inner(*ps), tuple(xs), create_graph, strict, vectorize, outer_jacobian_strategy)
    return result if is_tuple else result[0][0]


def vhp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple:
    """(output, v^T H) of a function of one element: a gradient of v^T gradient. See vjp."""
    is_tuple, xs, _, ys = _run("vhp", _scalar("vhp", func), inputs, create_graph, strict)
    vs = _ones("vhp", xs, "the input") if v is None else _given(v, xs, is_tuple, "vhp", "inputs")
    first = _gradient(ys, xs, (wrap(namespace(ys[0].array).ones_like(ys[0].array)),), True, strict, "vhp")
    found = _gradient(first, xs, vs, create_graph, strict, "vhp")
    y, found = _release(ys[0], create_graph), _release(found, create_graph)
    return y, found if is_tuple else found[0]


def hvp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple:
    """(output, H v) of a function of one element. H is symmetric, so it is found as v^T H is. See vjp."""
    is_tuple, xs, _, ys = _run("hvp", _scalar("hvp", func), inputs, create_graph, strict)
    vs = _ones("hvp", xs, "the input") if v is None else _given(v, xs, is_tuple, "hvp", "inputs")
    first = _gradient(ys, xs, (wrap(namespace(ys[0].array).ones_like(ys[0].array)),), True, strict, "hvp")
    found = _gradient(first, xs, vs, create_graph, strict, "hvp")
    y, found = _release(ys[0], create_graph), _release(found, create_graph)
    return y, found if is_tuple else found[0]
