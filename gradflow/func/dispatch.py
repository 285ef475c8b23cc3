"""What an op does with batched tensors: a rule by the op's class if there is one, else one call for each sample.

A rule is a function of a Call, in which the samples of the innermost vmap are an ordinary first dimension of what is
batched (outer vmaps are dealt with by the ops that the rule calls). It gives the outputs with that dimension first, or
NotImplemented for a case it does not take.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from .. import backend, call
from ..backend import namespace
from ..op import table, wrap
from ..ops import index, join
from ..ops import shape as shapes
from ..tape import Traced
from .batched import Level, cover, is_value, newest, peel, stack, value_of
from .face import LATE, Face

rules: dict[str, Callable[[Call], Any]] = {}  # the rule of every op that has one, by name
meanings: dict[str, Callable[..., Any]] = {}  # ops that are put together from others where they are batched
composed: dict[str, Callable[..., Any]] = {}  # rules of functions that are no ops
functions: dict[str, Callable[..., Any]] = {}  # such functions as others of batched tensors
classes: list[Callable[[Any], Any]] = []  # functions that know the rule of an op by what it is, or give None
quiet = {"replay"}  # those of which nobody is told that they are slow


class Call:
    """A call of an op: its arguments by name, those that are batched with the samples first.

    args   in the order of the op's inputs; of a variadic op (*xs, constants)
    flags  which of them are batched; a tuple of flags for a tuple, list or dict of which some are
    level  the vmap; n, how many samples it has
    """

    __slots__ = ("args", "flags", "level", "n", "op")

    def __init__(self, op: Any, args: list[Any], flags: list[Any], level: Level) -> None:
        self.op, self.args, self.flags, self.level, self.n = op, args, flags, level, level.size

    def place(self, name: str) -> int:
        """Where an argument stands."""
        return self.op.inputs.index(name)

    def has(self, name: str) -> bool:
        """Whether the op has such an argument."""
        return name in self.op.inputs

    def __getitem__(self, name: str) -> Any:
        return self.args[self.place(name)]

    def batched(self, name: str) -> Any:
        """Whether an argument is batched."""
        return self.flags[self.place(name)]

    def rank(self, name: str) -> int:
        """The number of dimensions of one sample of an argument."""
        return rank(self[name], self.batched(name))

    def sizes(self, name: str) -> tuple[int, ...]:
        """The shape of one sample of an argument."""
        return tuple(self[name].shape)[bool(self.batched(name)) :]

    def full(self, name: str) -> Any:
        """An argument with the samples first, expanded where it is the same for all; None if it is None."""
        x = self[name]
        return x if x is None else expand(x, self.batched(name), self.n)

    def run(self, **changed: Any) -> Any:
        """Call the op with some arguments changed."""
        args = list(self.args)
        for name, v in changed.items():
            args[self.place(name)] = v
        return invoke(self.op, args)


def rank(x: Any, batched: Any) -> int:
    """The number of dimensions of one sample."""
    return x.ndim - bool(batched)


def expand(x: Any, batched: Any, n: int) -> Any:
    """x with n samples first, which are views of one another if it is the same for all."""
    return x if batched else shapes.expand(shapes.reshape(x, (1, *x.shape)), (n, *x.shape))


def invoke(op: Any, args: list[Any]) -> Any:
    """Call an op with its arguments in the order of its inputs."""
    if not op.variadic:
        return op(*args)
    if not op.constants:
        return op(*args)
    return op(*args[: -op.constants], **dict(zip(op.inputs[1:], args[-op.constants :], strict=True)))


def classify(op: Any) -> Callable[[Call], Any] | None:
    """The rule of an op by what kind of op it is."""
    for kind in classes:
        rule = kind(op)
        if rule is not None:
            rules[op.name] = rule
            return rule
    return None


# --- calls --------------------------------------------------------------------------------------------


def _level(args: Any) -> Level | None:
    level = newest(args)
    if level is not None and level.over:
        raise RuntimeError(LATE)
    return level


def batched(op: Any, args: tuple) -> Any:
    """The op of these arguments if some are batched, else NotImplemented."""
    level = _level(args)
    if level is None:
        return NotImplemented
    meaning = meanings.get(op.name)
    if meaning is not None:
        y = meaning(*(a.owner.detach() if type(a) is Face else a for a in args))
        if y is not NotImplemented:
            return y
    peeled = [_peel(a, level) for a in args]
    flags = [_flag(a, level) for a in args]
    c = Call(op, peeled, flags, level)
    rule = rules.get(op.name) or classify(op)
    y = NotImplemented if rule is None else rule(c)
    if y is NotImplemented:
        tell(op.name)
        y = each(lambda *a: invoke(op, fresh(op, list(a))), c.args, flags, level.size, bare=True)
    return _cover(y, level)


def fresh(op: Any, args: list[Any]) -> list[Any]:
    """The arguments, with a list of their own for what a forward pass leaves to its backward pass."""
    if "reserve" in op.inputs:
        i = op.inputs.index("reserve")
        args[i] = [] if type(args[i]) is list and not args[i] else args[i]
    return args


def by_samples(function: Callable[..., Any], args: tuple, kwargs: dict, looked: list | None = None) -> Any:
    """A function that is no op of these arguments if some (of those `looked` into) are batched, else NotImplemented."""
    level = _level((args, kwargs))
    if level is None or (looked is not None and newest(looked) is None):
        return NotImplemented
    name = function.__name__
    if name in functions:
        y = functions[name](*args, **kwargs)
        if y is not NotImplemented:
            return y
    names = list(kwargs)
    values = [*args, *kwargs.values()]
    c = Call(None, [_peel(a, level) for a in values], [_flag(a, level) for a in values], level)
    rule = composed.get(name)
    y = NotImplemented
    if rule is not None:
        y = rule(c, *c.args[: len(args)], **dict(zip(names, c.args[len(args) :], strict=True)))
    if y is NotImplemented:
        if name not in quiet:
            tell(name)
        k = len(args)
        y = each(lambda *a: function(*a[:k], **dict(zip(names, a[k:], strict=True))), c.args, c.flags, level.size)
    return _cover(y, level)


_told: set[str] = set()


def tell(name: str) -> None:
    """Warn, once for each op, that it is called for each sample."""
    if name not in _told:
        _told.add(name)
        warnings.warn(
            f"There is a performance drop because {name} has no batching rule: inside vmap it is called for each sample",
            UserWarning,
            stacklevel=4,
        )


# --- one call for each sample ---------------------------------------------------------------------------


def each(function: Callable[..., Any], args: list[Any], flags: list[Any], n: int, bare: bool = False) -> Any:
    """The results of `function` of each sample, stacked in front; for no samples, of zeros, of which none is kept."""
    results = [
        function(*(_sample(a, f, i, n, bare) for a, f in zip(args, flags, strict=True))) for i in range(max(n, 1))
    ]
    return _stacked(results, n)


def _sample(x: Any, flag: Any, i: int, n: int, bare: bool) -> Any:
    if type(flag) is tuple:
        parts = [_sample(v, f, i, n, bare) for v, f in zip(x.values() if isinstance(x, dict) else x, flag, strict=True)]
        if bare:  # what an op has in a tuple are arrays
            parts = [v.array if isinstance(v, Traced) else v for v in parts]
        return dict(zip(x, parts, strict=True)) if isinstance(x, dict) else type(x)(parts)
    if not flag:
        return x
    if n:
        return index.slice_(x, (i, ...))
    array = value_of(x).array
    return wrap(namespace(array).zeros(tuple(x.shape)[1:], array.dtype))


def _stacked(results: list[Any], n: int) -> Any:
    first = results[0]
    if first is None:
        return None
    if isinstance(first, (tuple, list)):
        return like(first, [_stacked([r[k] for r in results], n) for k in range(len(first))])
    y = join.stacked(*results)
    return y if n else index.slice_(y, (slice(0, 0), ...))


# --- in and out of the innermost vmap -------------------------------------------------------------------


def _peel(x: Any, level: Level) -> Any:
    if isinstance(x, (tuple, list)) and newest(x) is level:
        return type(x)(_peel(v, level) for v in x)
    if isinstance(x, dict) and newest(x) is level:
        return {k: _peel(v, level) for k, v in x.items()}
    return peel(x, level) if is_value(x) else x


def _flag(x: Any, level: Level) -> Any:
    if isinstance(x, (tuple, list)):
        return tuple(_flag(v, level) for v in x) if newest(x) is level else False
    if isinstance(x, dict):
        return tuple(_flag(v, level) for v in x.values()) if newest(x) is level else False
    if isinstance(x, Traced) or type(x) is Face:
        return newest(x) is level
    return False


def _cover(y: Any, level: Level) -> Any:
    if y is None:
        return None
    if isinstance(y, (tuple, list)):
        return like(y, [_cover(v, level) for v in y])
    return cover(y, level)


def like(x: Any, parts: list[Any]) -> Any:
    """The parts in a tuple or list of x's kind."""
    return type(x)(*parts) if hasattr(x, "_fields") else type(x)(parts)


def known() -> set[str]:
    """The ops of the table that have a rule or a meaning."""
    return {n for n, op in table.items() if n in rules or n in meanings or classify(op) is not None}


# --- random numbers ---------------------------------------------------------------------------------------

_ERROR = (
    "vmap: a random function was called inside a vmap of randomness='error'; pass randomness='same' or 'different', or "
    "draw the numbers outside"
)


def guard() -> None:
    """Refuse a draw that no rule has brought in line with the vmaps under way."""
    for level in stack.levels:
        if level.randomness == "error":
            raise RuntimeError(_ERROR)
        if level.randomness == "different":
            raise RuntimeError(
                "vmap: this random function cannot draw differently for each sample; use randomness='same'"
            )


def by_draws(function: Callable[..., Any], args: tuple, kwargs: dict) -> Any:
    """A function that draws random numbers, inside the vmaps of this thread: the same for all samples, or one for each."""
    if not stack.levels:
        return NotImplemented
    level = stack.levels[-1]
    if level.randomness == "error":
        raise RuntimeError(_ERROR)
    names, k = list(kwargs), len(args)
    values = [*args, *kwargs.values()]
    flags = [_flag(a, level) for a in values]
    different = level.randomness == "different"
    stack.levels.pop()
    try:
        generator = kwargs.get("generator") or backend.default_generator
        state = generator.get_state()

        def one(*a: Any) -> Any:
            if not different:
                generator.set_state(state)
            given, named = a[:k], dict(zip(names, a[k:], strict=True))
            y = by_draws(function, given, named)
            return function(*given, **named) if y is NotImplemented else y

        if not different and not any(flags):
            return one(*values)
        rule = drawn.get(function.__name__)
        peeled = [_peel(a, level) for a in values]
        y = NotImplemented
        if rule is not None:
            y = rule(Call(None, peeled, flags, level), *peeled[:k], **dict(zip(names, peeled[k:], strict=True)))
        if y is NotImplemented:
            y = each(one, peeled, flags, level.size)
    finally:
        stack.levels.append(level)
    return _cover(y, level)


drawn: dict[str, Callable[..., Any]] = {}  # rules of random functions
call.watch(batched, by_samples, by_draws)
backend.Generator.guard = staticmethod(guard)
