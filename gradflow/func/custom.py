"""Functions of the user's own inside vmap: by their vmap, or by mapping their forward and backward."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..autograd.function import Context, Function, run
from ..autograd.gradient import several
from ..ops import reduce
from ..ops import shape as shapes
from ..tensor import Tensor
from .batched import Level, cover, explicit, inside, levels_of, newest, peel, stack


class VmapInfo(NamedTuple):
    """What a Function's vmap is told of the vmap it is in."""

    batch_size: int
    randomness: str


def mapped(cls: type[Function], args: tuple) -> Any:
    """cls.apply of these arguments if some are batched, else NotImplemented."""
    level = newest(args)
    if level is None:
        return NotImplemented
    own = cls.vmap is not Function.vmap
    if own and cls.generate_vmap_rule:
        raise RuntimeError(f"{cls.__name__}: wanted a vmap or generate_vmap_rule=True, saw both")
    if not own and not cls.generate_vmap_rule:
        raise RuntimeError(
            f"{cls.__name__}: has no batching rule; define a staticmethod vmap, or set generate_vmap_rule = True"
        )
    flags = [newest(a) is level for a in args]
    peeled = [peel(a, level) if f else a for a, f in zip(args, flags, strict=True)]
    if own:
        out, dims = _outside(level, lambda: cls.vmap(VmapInfo(level.size, level.randomness), _dims(flags), *peeled))
        outs = out if isinstance(out, tuple) else (out,)
        dims = dims if isinstance(dims, tuple) else (dims,) * len(outs)
        found = tuple(_covered(y, d, level) for y, d in zip(outs, dims, strict=True))
        return found if isinstance(out, tuple) else found[0]
    out = _generated(cls, flags, level).apply(*peeled)
    return tuple(_covered(y, 0, level) for y in out) if isinstance(out, tuple) else _covered(out, 0, level)


def _dims(flags: list[bool]) -> tuple:
    return tuple(0 if f else None for f in flags)


def _outside(level: Level, function: Any) -> Any:
    """What function gives outside of the vmap."""
    if level not in stack.levels:
        return function()
    at = stack.levels.index(level)
    stack.levels.remove(level)
    try:
        return function()
    finally:
        stack.levels.insert(at, level)


def _covered(y: Any, dim: Any, level: Level) -> Any:
    if dim is None or not isinstance(y, Tensor):
        return y
    return cover(y if dim == 0 else shapes.movedim(y, dim, 0), level)


def _uncovered(y: Any, level: Level) -> Any:
    """y with the samples first, the same for all if it is not batched."""
    if not isinstance(y, Tensor):
        return y
    whole = explicit(y, (level,))
    return whole if level in levels_of(y) else shapes.expand(whole, (level.size, *y.shape))


def _generated(cls: type[Function], flags: list[bool], outer: Level) -> type[Function]:
    """The Function of all samples, made of cls by mapping."""

    class Mapped(Function):
        @staticmethod
        def forward(ctx: Any, *args: Any) -> Any:
            ctx.inner = inner = Context(ctx.needs_input_grad)
            with inside(outer.size, outer.randomness) as level:
                given = tuple(cover(a, level) if f else a for a, f in zip(args, flags, strict=True))
                result = run(cls, inner, given)
                if inner._dirty:
                    raise RuntimeError(f"{cls.__name__}: mark_dirty and generate_vmap_rule do not go together")
                outs = several(result)
                found = tuple(_uncovered(y, level) for y in outs)
                ctx.mark_non_differentiable(
                    *(f for f, y in zip(found, outs, strict=True) if any(y is c for c in inner._constant))
                )
                ctx.set_materialize_grads(inner._materialize)
                ctx.saved_flags = [level in levels_of(t) for t in inner._to_save]
                same = {id(y): f for y, f in zip(outs, found, strict=True)} | {
                    id(g): a for g, a in zip(given, args, strict=True)
                }
                ctx.save_for_backward(*(_kept(t, same, level) for t in inner._to_save))
                if inner._to_forward is not None:
                    ctx.forward_flags = [level in levels_of(t) for t in inner._to_forward]
                    ctx.save_for_forward(*(_kept(t, same, level) for t in inner._to_forward))
                ctx.tensors = {n: peel(v, level) for n, v in vars(inner).items() if level in levels_of(v)}
            return found if isinstance(result, (tuple, list)) else found[0]

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            with inside(outer.size, outer.randomness) as level:
                inner = _inner(ctx, ctx.saved_flags, level)
                found = several(cls.backward(inner, *(g if g is None else cover(g, level) for g in grads)))
                found = (*found, *(None,) * (len(flags) - len(found)))
                return tuple(
                    None if g is None else _uncovered(g, level) if f else _summed(g, level)
                    for g, f in zip(found, flags, strict=False)
                )

    if cls.jvp is not Function.jvp:

        def jvp(ctx: Any, *tangents: Any) -> Any:
            with inside(outer.size, outer.randomness) as level:
                inner = _inner(ctx, getattr(ctx, "forward_flags", ctx.saved_flags), level)
                given = (t if t is None or not f else cover(t, level) for t, f in zip(tangents, flags, strict=True))
                found = cls.jvp(inner, *given)
                one = lambda t: t if t is None else _uncovered(t, level)
                return tuple(map(one, found)) if isinstance(found, tuple) else one(found)

        Mapped.jvp = staticmethod(jvp)  # type: ignore[method-assign, assignment]
    Mapped.__name__ = Mapped.__qualname__ = cls.__name__
    return Mapped


def _kept(t: Any, same: dict[int, Any], level: Level) -> Any:
    """A saved tensor as the outer Function knows it: its own input or output where it is one."""
    return None if t is None else same[id(t)] if id(t) in same and level in levels_of(t) else peel(t, level)


def _inner(ctx: Any, flags: list[bool], level: Level) -> Any:
    """The context of one sample, of a level that is under way."""
    inner = ctx.inner
    inner._saved = tuple(cover(t, level) if f else t for t, f in zip(ctx.saved_tensors, flags, strict=True))
    for n, v in ctx.tensors.items():
        setattr(inner, n, cover(v, level))
    return inner


def _summed(g: Any, level: Level) -> Any:
    """The gradient of what is the same for all samples."""
    return reduce.sum(explicit(g, (level,)), 0) if level in levels_of(g) else g * level.size
