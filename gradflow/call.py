"""The call of an op, written out: what op.Op.__call__ does in loops over any op, as straight lines for one op.

A training step on small tensors is made of such calls, and a loop over three arguments costs as much as NumPy's work on
sixteen floats. So an op's function gets code of its own when it is first called (its text is in linecache, and a traceback
shows it): for `mul(a, b)` about this.

    def mul(a, b):
        _a = a.array if isinstance(a, Traced) else a
        _b = ...
        if dtypes differ: return entry(a, b)                  # the loops: promotion, the card, half types
        if _a is a and _b is b: return entry.definition(_a, _b)   # arrays in, array out
        y = entry.definition(_a, _b)
        t = a new Tensor of y
        if mode.enabled and (a or b has a node): t.node = Node(plan, plan.keep(_a, _b, y), ...)
        return t
"""

from __future__ import annotations

import linecache
from collections.abc import Callable, Iterable
from functools import wraps
from inspect import unwrap
from types import FunctionType
from typing import Any

# These are the globals of the written-out calls: the texts below name them.
import numpy as np  # noqa: F401
from numpy import may_share_memory, ndarray  # noqa: F401

from . import traced  # noqa: F401
from .backend import float32, float64, on_card  # noqa: F401
from .dtypes import category
from .tape import Node, Traced, Version  # noqa: F401
from .tape import mode as recording  # an op may have an argument named mode
from .traced import View, current, shares, wrap  # noqa: F401

MISSING: Any = type("MISSING", (), {"__repr__": lambda self: "MISSING"})()
_ALIASES = {"dim": "axis", "keepdim": "keepdims"}  # NumPy's words for PyTorch's

# The vmaps under way in all threads. Only while there are some does a call look for batched tensors among its arguments,
# and it has no line for that at all before the first vmap, when func/ hangs these functions here (`watch`).
batching: list[Any] = []
batched: Callable[..., Any] | None = None  # (op, arguments) -> result, NotImplemented without batched tensors
by_samples: Callable[..., Any] | None = None  # the same for a function that is no op, with its keywords
by_draws: Callable[..., Any] | None = None  # the same for a function that draws random numbers

# The threads that are in a block of autocast. Only while there are some does the call of an op that is on a list ask for
# other arguments, and it has no line for that before the first block, when amp/ hangs these here (`watch_casts`).
casting: list[Any] = []
cast: Callable[..., Any] | None = None  # (op, arguments) -> arguments
uncast: Callable[..., Any] | None = None  # (function, arguments) -> its result, nothing cast inside
listed: frozenset[str] = frozenset()  # the ops that are on a list


def written_out(entry: Any) -> Callable[..., Any]:
    """The function that calls an op; it writes itself out when it is first called."""

    def call(*args: Any, **kwargs: Any) -> Any:
        if not entry.variadic:
            _write_out(entry, call_of[entry.name])
            return call_of[entry.name](*args, **kwargs)
        out = kwargs.pop("out", None) if kwargs and "out" not in entry.inputs else None
        if casting and cast is not None and out is None:
            args = cast(entry, args)
        y = entry(*args, **kwargs)
        return y if out is None else into(entry.name, out, y)

    call_of[entry.name] = call
    return call


call_of: dict[str, FunctionType] = {}  # the function of every op, to give it its code


def watch(ops: Callable[..., Any], functions: Callable[..., Any], draws: Callable[..., Any]) -> None:
    """Let every call look for batched tensors from now on."""
    global batched, by_samples, by_draws
    batched, by_samples, by_draws = ops, functions, draws
    _write_again(call_of)


def watch_casts(casts: Callable[..., Any], plainly: Callable[..., Any], ops: frozenset[str]) -> None:
    """Let the calls of `ops` ask for casts of their arguments from now on."""
    global cast, uncast, listed
    cast, uncast, listed = casts, plainly, ops
    _write_again(ops & call_of.keys())


def _write_again(names: Iterable[str]) -> None:
    """Write out anew the calls of ops that were written out before."""
    for name in names:
        call = _inside.get(name, call_of[name])
        if call.__code__.co_filename.startswith("<the call of"):
            _write_out(call_of[name].op, call)  # type: ignore[attr-defined]


_inside: dict[str, FunctionType] = {}  # while calls are surrounded, what each op's call is otherwise
_around: Callable[..., Any] | None = None


def surround(around: Callable[..., Any] | None) -> None:
    """Let around(op, call, args, kwargs) run in the place of every call of an op; None ends that. Costs nothing afterwards."""
    global _around
    if around is not None:
        for name, call in call_of.items():
            if not call.op.variadic and call.__code__.co_filename == __file__:  # type: ignore[attr-defined]
                _write_out(call.op, call)  # type: ignore[attr-defined]
            code, call.__code__ = call.__code__, _surrounded(None).__code__
            _inside[name] = FunctionType(code, globals(), name, call.__defaults__, call.__closure__)
            _inside[name].__kwdefaults__ = call.__kwdefaults__
            call.__defaults__ = call.__kwdefaults__ = None
    elif _around is not None:
        for name, inside in _inside.items():
            call = call_of[name]
            call.__code__, call.__defaults__ = inside.__code__, inside.__defaults__
            call.__kwdefaults__ = inside.__kwdefaults__
        _inside.clear()
    _around = around


def _surrounded(entry: Any) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        return _around(entry, _inside[entry.name], args, kwargs)  # type: ignore[misc]

    return call


def sampled(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Mark a function that is no op and looks into the values of its arguments `names` (none: of all): where vmap batches
    one of them, it is called for each sample.
    """

    def mark(function: Callable[..., Any]) -> Callable[..., Any]:
        code = unwrap(function).__code__
        places = [(n, code.co_varnames.index(n)) for n in names]

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if batching and by_samples is not None:
                looked = [args[i] if i < len(args) else kwargs.get(n) for n, i in places] if places else None
                y = by_samples(function, args, kwargs, looked)
                if y is not NotImplemented:
                    return y
            return function(*args, **kwargs)

        return call

    return mark


def drawn(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that draws random numbers; what that means inside vmap is for the vmap's `randomness` to say."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if batching and by_draws is not None:
            y = by_draws(function, args, kwargs)
            if y is not NotImplemented:
                return y
        return function(*args, **kwargs)

    return call


def _write_out(entry: Any, call: FunctionType) -> None:
    text = _text(entry)
    file = f"<the call of {entry.name}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    signature = entry.signature
    names = entry.inputs
    defaults = signature.__defaults__ or ()
    scope: dict[str, Any] = {"defaults": dict(zip(names[len(names) - len(defaults) :], defaults, strict=True))}
    exec(compile(text, file, "exec"), globals(), scope)
    new = scope["outer"](entry, scope["defaults"])
    call.__code__, call.__defaults__, call.__kwdefaults__ = new.__code__, new.__defaults__, new.__kwdefaults__


def _text(entry: Any) -> str:
    """The source of one op's call."""
    names = entry.inputs
    signature = entry.signature
    first_default = len(names) - len(signature.__defaults__ or ())
    params = [n if i < first_default else f"{n}=defaults[{n!r}]" for i, n in enumerate(names)]
    aliases = {_ALIASES[n]: n for n in names if n in _ALIASES}
    if "input" not in names:
        aliases["input"] = names[0]
        if first_default:  # so that input= may stand for the first
            params = [f"{p}=MISSING" if i < first_default else p for i, p in enumerate(params)]
    if "other" not in names and len(names) > 1 and first_default > 1:
        aliases["other"] = names[1]
    aliases |= entry.words
    body = [f"if {old} is not MISSING: {new} = {old}" for old, new in aliases.items()]
    if "input" in aliases and first_default:
        body.append(
            f"if {names[first_default - 1]} is MISSING: return missing(entry, ({', '.join(names[:first_default])},))"
        )
    given = ", ".join(names)
    arrays = ", ".join(f"_{n}" for n in names)
    if "out" not in names:
        aliases["out"] = ""
        body.append(f"if out is not MISSING and out is not None: return into(entry.name, out, entry({given}))")
    if entry.name in listed:
        body.append(f"if casting: ({given},) = cast(entry, ({given},))")
    if batched is not None:
        body += ["if batching:", f"    __b = batched(entry, ({given},))", "    if __b is not NotImplemented: return __b"]
    body += [f"_{n} = {n}.array if isinstance({n}, Traced) else {n}" for n in names]
    bare = " and ".join(f"_{n} is {n}" for n in names)
    compute = f"entry.definition({arrays})"
    if entry.promote:
        # Straight on only if all promoted arrays are NumPy's, of one full floating dtype, beside Python numbers.
        body.append("__d = None")
        for i in entry.promote:
            n = f"_{names[i]}"
            numbers = f"elif type({n}) is not float and type({n}) is not int and {n} is not None: return entry({given})"
            if len(entry.promote) == 1 or (i,) in entry.tensors:
                numbers = f"else: return entry({given})"
            body += [
                f"if type({n}) is ndarray:",
                f"    if __d is None: __d = {n}.dtype",
                f"    elif {n}.dtype is not __d: return entry({given})",
                numbers,
            ]
        body.append(f"if __d is not float32 and __d is not float64: return entry({given})")
        body.append(f"if {bare}: return {compute}")
    else:
        for places in entry.tensors:
            if len(places) == 1:
                body.append(f"if type(_{names[places[0]]}) in (int, float, bool, complex): return entry({given})")
        if entry.place is not None:
            compute = f"{compute} if type(_{names[0]}) is ndarray else entry.kernel({arrays})"
        if entry.real:
            body.append(f"if type(_{names[0]}) is ndarray and _{names[0]}.dtype.kind == 'c': return entry({given})")
        body.append(f"if {bare}: return {compute}")
    body += [
        f"try: __y = {compute}",
        "except (ValueError, TypeError, IndexError, OverflowError, AttributeError) as __e:",
        f"    raise explain(entry, ({arrays},), __e) from __e",
    ]
    if entry.several:
        if entry.view or entry.outputs[0].startswith("*"):
            body.append(f"return entry.finish(({given},), ({arrays},), __y)")
            return _function(params, aliases, body)
        body.append("__t = tuple([wrap(v) if v is not None else None for v in __y])")
        arrays_of = "*[None if v is None else v.array for v in __t]"  # not of __y: NumPy gives scalars for 0-d results
        body += _recording(entry, "entry.tie(__plan, __saved, __marks, __edges, __t)", arrays_of, "*__t")
        return _function(params, aliases, body)
    body += [
        "if type(__y) is not ndarray and not on_card(__y): __y = np.asarray(__y)",  # NumPy gives scalars for 0-d results
        "__t = traced.Tensor.__new__(traced.Tensor)",
        "__t.array = __y",
        "__t.node = None",
    ]
    if entry.view:
        x = names[0]
        body += [
            f"if _{x} is not {x} and (not __y.size or (may_share_memory if type(__y) is ndarray else shares)(__y, _{x})):",
            f"    __t.version = {x}.version",
            f"    __t.source = View({x}, entry, ({given},))",
            "else: __t.version = Version()",
        ]
    else:
        body.append("__t.version = Version()")
    body += _recording(entry, "__t.node = Node(__plan, __saved, __marks, __edges, __y.shape, __y.dtype)", "__y", "__t")
    return _function(params, aliases, body)


def _recording(entry: Any, place: str, y: str, t: str) -> list[str]:
    """The end of a call's source: what comes out, y as an array and t as a Tensor, is put in its `place` on the tape."""
    names = entry.inputs
    reached = [n for n in names if any(n in targets for targets, _ in entry.rules)]
    if not reached:
        return ["return __t"]
    needs = ", ".join(f"_{n}_node is not None" if n in reached else "False" for n in names)
    first, second = f"_{reached[0]}_node", f"_{reached[-1]}_node"
    if len(reached) == 1:
        edges = f"({first},)"
    elif len(reached) == 2:
        edges = f"({first},) if {second} is None else ({second},) if {first} is None else ({first}, {second})"
    else:
        nodes = ", ".join(f"_{n}_node" if n in reached else "None" for n in names)
        edges = f"tuple([({nodes},)[i] for i in __plan.wanted])"
    return [
        "if recording.enabled:",
        *(f"    _{n}_node = None if _{n} is {n} else {n}.node if {n}.source is None else current({n})" for n in reached),
        f"    if {' or '.join(f'_{n}_node is not None' for n in reached)}:",
        f"        __plan = entry.plan(({needs},))",
        "        if __plan is not None:",
        # promoted inputs are real here, and so is what comes of them
        *(() if entry.promote or entry.several else ("            if __y.dtype.kind == 'c': __plan = __plan.of_complex",)),
        f"            __edges = {edges}",
        f"            __saved = __plan.keep({', '.join(f'_{n}' for n in names)}, {y})",
        f"            __marks = __plan.marks({', '.join(names)}, {t})",
        f"            {place}",
        "return __t",
    ]


def _function(params: list[str], aliases: dict[str, str], body: list[str]) -> str:
    star = ["*", *(f"{a}=MISSING" for a in aliases)] if aliases else []
    lines = ["def outer(entry, defaults):", f"    def call({', '.join([*params, *star])}):"]
    return "\n".join([*lines, *(f"        {line}" for line in body), "    return call", ""])


def missing(entry: Any, given: tuple) -> Any:
    """Refuse a call without all the arguments that have no default."""
    left = [n for n, v in zip(entry.inputs, given, strict=False) if v is MISSING]
    raise TypeError(f"{entry.name}() missing {len(left)} required positional arguments: {', '.join(map(repr, left))}")


def into(name: str, out: Any, y: Any) -> Any:
    """Write a result into the tensor, or the tensors, given as out=..., which become of its shape.
    RuntimeError if the result requires a gradient or does not fit into out's dtype.
    """
    several = isinstance(y, tuple)
    if isinstance(out, (tuple, list)) != several or (several and len(out) != len(y)):
        raise TypeError(f"{name}: wanted out={f'a tuple of {len(y)} tensors' if several else 'a tensor'}, saw {out!r}")
    for o, v in zip(out, y, strict=True) if several else ((out, y),):
        if not isinstance(o, Traced):
            raise TypeError(f"{name}: wanted tensors for out, saw {type(o).__name__}")
        if (isinstance(v, Traced) and current(v) is not None) or (recording.enabled and current(o) is not None):
            raise RuntimeError(f"{name}: wanted out= for tensors that require no gradient, saw one that does")
        if category(v.dtype) > category(o.array.dtype):
            raise RuntimeError(f"{name}: wanted out of a dtype that holds {v.dtype}, saw {o.array.dtype}")
        o.resize_(*v.shape).copy_(v)  # type: ignore[attr-defined]
    if several:
        return type(y)(*out) if hasattr(y, "_fields") else tuple(out)
    return out


def explain(entry: Any, args: tuple, error: Exception) -> Exception:
    """op.explain, found late: op.py stands to the right of this file."""
    from .op import explain as explained

    return explained(entry.name, args, error)
