"""An op is a kernel that also says how gradients flow. One entry holds its meaning, its rules and its sample cases.

    @op(dx=lambda g, w: g @ w, dw=lambda g, x: ..., cases=lambda r: [case(r(3, 4), r(4, 5))])
    def product(x, w): ...

A rule `dx` is a function of `g`, the gradient of the output, and of exactly the values it names: inputs and constants by
the definition's names, the output as `y` (or the names in `outputs`), `x_shape` and `x_dtype` for what is known of an input
without keeping it, `needs` for which gradients are asked for. A joint rule `dx_dw` returns both. An op that has an input
called `g` (a backward op: `tanh_backward(g, y)`) calls the gradient of its own output `gg`. Rules are written with
operators and other ops and get bare arrays for an ordinary backward, Tensors when the backward is itself recorded.

`op` gives back a plain function (so it is a method when put in a class) that takes arrays or Tensors; its entry in the
table is `function.op`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, cached_property
from typing import Any

import numpy as np

from . import backend
from .backend import Array, float32, float64, is_differentiable, is_floating, namespace, on_card
from .kernel import Kernel, kernels
from .tape import Leaf, Node, Output, Traced, Version, mode

Tensor: Any = Traced  # the one door through which arrays become Tensors: tensor.py puts its class here
table: dict[str, Op] = {}  # every op, by name

_ALIASES = {"axis": "dim", "axes": "dim", "keepdims": "keepdim"}


def wrap(array: Array, node: Any = None) -> Any:
    """A Tensor of this array."""
    t = Tensor.__new__(Tensor)
    t.array = array if type(array) is np.ndarray or on_card(array) else np.asarray(array)
    t.node = node
    t.version = Version()
    return t


def unwrap(x: Any) -> Any:
    """The array of a Tensor, or of every Tensor in a list or tuple; anything else as it is."""
    if isinstance(x, Traced):
        return x.array
    if type(x) in (list, tuple):
        return type(x)(unwrap(v) for v in x)
    return x


class Op:
    """One entry of the table.

    name, definition, kernel   what is computed
    inputs     the names of the definition's arguments, in order; `variadic` if the first stands for many (*xs)
    rules      (names of the inputs it is for, function) pairs
    promote    the inputs that are brought to one dtype first, by PyTorch's promotion rules
    floating   integers among them become the default floating dtype
    view       the output shares memory with the first input
    cases      sample calls, made from a cases.Sampler; `reference` is PyTorch's name for the op; `note` goes to the docs
    """

    def __init__(self, definition: Callable[..., Any], name: str, rules: dict[str, Callable], **options: Any) -> None:
        self.name, self.definition = name, definition
        self.place: str | None = options.get("twin")
        self.kernel = Kernel(name, definition, self.place, options.get("cases"))
        if self.place is not None:
            kernels[name] = self.kernel
        signature: Callable = options.get("signature") or definition
        code = signature.__code__
        self.variadic = bool(code.co_flags & 4)
        count = code.co_argcount + code.co_kwonlyargcount
        names = code.co_varnames[:count]
        self.inputs: tuple[str, ...] = (code.co_varnames[count], *names) if self.variadic else names
        self.constants = code.co_kwonlyargcount if self.variadic else 0
        self.signature = signature
        self.outputs: tuple[str, ...] = options.get("outputs") or (("z",) if "y" in self.inputs else ("y",))
        self.incoming = "gg" if "g" in self.inputs else "g"
        self.rules = [(tuple(n[1:] for n in key.split("_")), rule) for key, rule in rules.items()]
        for targets, rule in self.rules:
            for target in targets:
                if target not in self.inputs:
                    raise TypeError(f"{name}: a rule is given for {target!r}, which is not one of {self.inputs}")
            if self.incoming not in rule.__code__.co_varnames[: rule.__code__.co_argcount]:
                raise TypeError(f"{name}: the rule for {targets} does not name {self.incoming}, the gradient of the output")
        self.rules.sort(key=lambda r: self.inputs.index(r[0][0]))  # so that edges stand in the inputs' order
        promote = options.get("promote") or ()
        self.promote = tuple(self.inputs.index(n) for n in promote.split()) if promote else ()
        if promote and self.variadic:
            self.promote = (0,)
        self.floating, self.view = bool(options.get("floating")), bool(options.get("view"))
        self.cases, self.note = options.get("cases"), options.get("note", "")
        self.reference = options.get("reference", "")  # "" is by the op's own name, None is that PyTorch has none
        self.doc = definition.__doc__ or options.get("doc", "")
        self.plan = cache(self._plan)

    @cached_property
    def bind(self) -> Callable[..., tuple]:
        """(*args, **kwargs) -> one tuple in the definition's order, defaults filled in."""
        return _binder(self.signature, self.inputs, self.variadic)

    def _plan(self, needs: tuple[bool, ...]) -> Plan | None:
        plan = Plan(self, needs)
        return plan if plan.entries else None

    def run(self, args: tuple) -> Any:
        """Compute on bare arrays."""
        if self.promote and not self.variadic and self.half(args):
            y = self.definition(*[a.astype(np.float32) if _is_half(a) else a for a in args])
            return y.astype(args[self.promote[0]].dtype) if y.dtype == np.float32 else y
        k = self.kernel if self.place is not None else self.definition
        if self.variadic and self.constants:
            names = self.inputs[1:]
            return k(*args[: -self.constants], **dict(zip(names, args[-self.constants :], strict=True)))
        return k(*args)

    def half(self, args: Sequence[Any]) -> bool:
        """Whether an elementwise op is asked for 2-byte floats on the CPU: they are computed in float32 and rounded once."""
        x = args[self.promote[0]]
        return type(x) is np.ndarray and _is_half(x)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Compute, and record what the rules will need if an input asks for a gradient."""
        try:
            args = self.bind(*args, **kwargs)
        except TypeError as e:
            args = self._bind_aliases(args, kwargs, e)
        traced = False
        for a in args:
            if isinstance(a, Traced):
                traced = True
                break
        if not traced:
            return self.run(args)
        arrays: Any = [a.array if isinstance(a, Traced) else a for a in args]
        if self.promote:
            promote(self, arrays)
        for a in arrays:
            if type(a) is list or type(a) is tuple:
                arrays = [unwrap(a) for a in arrays]
                break
        try:
            y = self.run(arrays)
        except (ValueError, TypeError, IndexError, np.exceptions.AxisError) as e:
            raise explain(self.name, arrays, e) from e
        if type(y) is tuple:
            out = tuple([wrap(v) if v is not None else None for v in y])
            if mode.enabled:
                self.record(args, arrays, out)
            return out
        out = wrap(y)
        if self.view and np.may_share_memory(y, arrays[0]) if type(y) is np.ndarray else self.view:
            out.version = args[0].version
            if mode.enabled:
                out.view = View(args[0], self, args)
        if mode.enabled:
            self.record(args, arrays, (out,))
        return out

    def record(self, args: Sequence[Any], arrays: Sequence[Any], outs: tuple[Any, ...]) -> None:
        """Put a call on the tape: a node for its outputs, if an input is tracked and a rule reaches it."""
        nodes = [current(a) if isinstance(a, Traced) else None for a in args]
        if not any(nodes):
            return
        plan = self.plan(tuple([n is not None for n in nodes]))
        if plan is None:
            return
        values = [o.array if o is not None else None for o in outs]
        saved = plan.keep(*arrays, *values)
        marks = plan.marks(*args, *outs)
        edges = tuple([nodes[i] for i in plan.wanted])
        if len(self.outputs) == 1:
            y = values[0]
            outs[0].node = Node(plan, saved, marks, edges, y.shape, y.dtype)
            return
        whole = Node(
            plan, saved, marks, edges, tuple([_shape(v) for v in values]), tuple([_dtype(v) for v in values])
        )
        for i, out in enumerate(outs):
            if out is not None and is_differentiable(out.array.dtype):
                out.node = Output(whole, i, out.array)

    def _bind_aliases(self, args: tuple, kwargs: dict, error: TypeError) -> tuple:
        renamed = {_ALIASES.get(k, k): v for k, v in kwargs.items()}
        if "input" in renamed and "input" not in self.inputs:
            renamed[self.inputs[0]] = renamed.pop("input")
        if "other" in renamed and "other" not in self.inputs and len(self.inputs) > 1:
            renamed[self.inputs[1]] = renamed.pop("other")
        try:
            return self.bind(*args, **renamed)
        except TypeError:
            raise TypeError(str(error).replace("<lambda>()", self.name)) from None

    def __repr__(self) -> str:
        return f"<op {self.name}({', '.join(self.inputs)})>"


class Plan:
    """What one op keeps, and which rules it calls, when a given set of its inputs asks for gradients.

    keep(*args, *outputs)   the tuple of values that the needed rules name
    marks(*args, *outputs)  the Versions of those that are tensors
    pull(g, saved)          the gradients of the needed inputs
    The three are written out as Python expressions once, when such a call is first recorded: the hot path calls them.
    """

    def __init__(self, op: Op, needs: tuple[bool, ...]) -> None:
        self.op, self.name, self.needs = op, op.name, needs
        count = len(needs) - op.constants  # of inputs; a variadic op has as many as it was called with
        places: dict[str, Any] = {n: i for i, n in enumerate(op.inputs)}
        if op.variadic:
            places = {n: count + i for i, n in enumerate(op.inputs[1:])}
            places[op.inputs[0]] = tuple(range(count))
        places |= {n: len(needs) + i for i, n in enumerate(op.outputs)}
        self.slots: list[Any] = []  # of each saved value, its place in (*args, *outputs), or several, or None
        texts: list[str] = []
        index: dict[str, int] = {}
        self.entries: list[tuple[str, tuple[int, ...]]] = []  # (call of a rule, places of its targets)
        self.names: dict[str, Any] = {}
        for k, (targets, rule) in enumerate(op.rules):
            into = tuple(range(count)) if op.variadic else tuple(places[t] for t in targets)
            if not any(needs[i] for i in into):
                continue
            words = []
            for word in rule.__code__.co_varnames[: rule.__code__.co_argcount]:
                if word == op.incoming:
                    words.append("g")
                elif word == "needs":
                    words.append(repr(tuple(needs[i] for i in into)))
                else:
                    if word not in index:
                        index[word] = len(texts)
                        texts.append(self._expression(word, places))
                    words.append(f"s[{index[word]}]")
            self.names[f"rule{k}"] = rule
            self.entries.append((f"rule{k}({', '.join(words)})", into))
        frame = ", ".join(f"a{i}" for i in range(len(needs) + len(op.outputs)))
        self.wanted = tuple(i for _, into in self.entries for i in into if needs[i])
        self.keep = eval(f"lambda {frame}: ({''.join(t + ', ' for t in texts)})")
        self.kept = [i for slot in self.slots for i in (slot if type(slot) is tuple else (slot,)) if i is not None]
        self.marks = eval(f"lambda {frame}: ({''.join(f'version(a{i}), ' for i in self.kept)})", {"version": _version})
        self.pull = self._pull(tuple(True for _ in self.wanted))
        self.pull_to = cache(self._pull)

    def _expression(self, word: str, places: dict[str, Any]) -> str:
        name, _, what = word.rpartition("_")
        if word not in places and name in places and what in ("shape", "dtype"):
            self.slots.append(None)
            function, place = f"{what}_of", places[name]
            text = "({}, )".format(", ".join(f"a{i}.{what}" for i in place)) if type(place) is tuple else f"a{place}.{what}"
            return text
        if word not in places:
            raise TypeError(f"{self.name}: a rule names {word!r}; it may name {self.op.incoming}, needs and {', '.join(places)}")
        place = places[word]
        self.slots.append(place)
        return f"({''.join(f'a{i}, ' for i in place)})" if type(place) is tuple else f"a{place}"

    def _pull(self, asked: tuple[bool, ...]) -> Callable[[Any, tuple], tuple]:
        """The function (g, saved) -> gradients of `wanted`, with None for those not asked for."""
        parts, names, k = [], dict(self.names), 0
        for text, into in self.entries:
            flags = [self.needs[i] and asked[(k := k + 1) - 1] for i in into if self.needs[i]]
            if not any(flags):
                parts.extend("None" for _ in flags)
            elif len(into) == 1 and not self.op.variadic:
                parts.append(text)
            else:
                pick = f"pick{len(parts)}"
                chosen = [j for j, i in enumerate(into) if self.needs[i]]
                names[pick] = lambda gs, chosen=chosen: [gs[j] for j in chosen]
                parts.append(f"*{pick}({text})")
        return eval(f"lambda g, s: ({''.join(p + ', ' for p in parts)})", names)

    def marked(self, saved: tuple) -> list[Any]:
        """The saved values that have marks, in the order of the marks."""
        return [v for s, slot in zip(saved, self.slots, strict=True) if slot is not None for v in (s if type(slot) is tuple else (s,))]

    def revive(self, node: Node, saved: tuple) -> tuple:
        """The saved values as Tensors at their places on the tape, so that what the rules do with them is recorded."""
        edges = dict(zip(self.wanted, node.edges, strict=True))
        outputs = len(self.needs)

        def at(place: int, value: Any) -> Any:
            if not (isinstance(value, np.ndarray) or on_card(value)):
                return value
            if place < outputs:
                return wrap(value, edges.get(place))
            if len(self.op.outputs) == 1:
                return wrap(value, node)
            return wrap(value, Output(node, place - outputs, value) if is_differentiable(value.dtype) else None)

        return tuple(
            v if slot is None else tuple(map(at, slot, v)) if type(slot) is tuple else at(slot, v)
            for slot, v in zip(self.slots, saved, strict=True)
        )

    def whole(self, gradients: list[Any], node: Node, create: bool) -> tuple:
        """The gradients of all outputs, zeros for those that nothing depended on."""
        like = next(g for g in gradients if g is not None)
        xp = namespace(unwrap(like))
        return tuple(
            g if g is not None or shape is None else (wrap if create else _same)(xp.zeros(shape, dtype))
            for g, shape, dtype in zip(gradients, node.shape, node.dtype, strict=True)
        )


def _is_half(x: Any) -> bool:
    return type(x) is np.ndarray and x.dtype.itemsize == 2 and is_floating(x.dtype)


def _same(x: Any) -> Any:
    return x


def _shape(x: Any) -> Any:
    return None if x is None else x.shape


def _dtype(x: Any) -> Any:
    return None if x is None else x.dtype


def _version(x: Any) -> Any:
    return x.version if isinstance(x, Traced) else ()


def _binder(signature: Callable, inputs: tuple[str, ...], variadic: bool) -> Callable[..., tuple]:
    """A function with the definition's signature that gives its arguments as one tuple in the definition's order."""
    defaults = {}
    if variadic:
        defaults = signature.__kwdefaults__ or {}
    elif signature.__defaults__:
        defaults = dict(zip(inputs[-len(signature.__defaults__) :], signature.__defaults__, strict=True))
    stars = ["*" * (variadic and i == 0) + n for i, n in enumerate(inputs)]
    head = ", ".join(f"{s}=default[{n!r}]" if n in defaults else s for s, n in zip(stars, inputs, strict=True))
    return eval(f"lambda {head}: ({', '.join(stars)}, )", {"default": defaults})


class View:
    """How a tensor that shares memory was taken from its base, so that its node can be taken anew after a write."""

    __slots__ = ("args", "base", "op", "seen")

    def __init__(self, base: Any, op: Op, args: tuple) -> None:
        self.base, self.op, self.args, self.seen = base, op, args, base.version.number

    def take(self, array: Array) -> Array:
        """The same view of another array of the base's shape."""
        return self.op.run((array, *self.args[1:]))


def current(t: Any) -> Any:
    """The node of a tensor: of a view, the one that follows from its base as last written."""
    view = t.view
    if view is not None and view.seen != t.version.number:
        view.seen = t.version.number
        base = view.base
        fresh, before = wrap(base.array, current(base)), mode.enabled
        mode.enabled = True
        try:
            t.node = view.op(fresh, *view.args[1:]).node
        finally:
            mode.enabled = before
    return t.node


# --- PyTorch's promotion of dtypes ----------------------------------------------------------------


def _category(dtype: np.dtype) -> int:
    return 0 if dtype.kind == "b" else 1 if dtype.kind in "iu" else 3 if dtype.kind == "c" else 2


@cache
def promote_types(a: np.dtype, b: np.dtype) -> np.dtype:
    """The dtype that holds a value of either, by PyTorch's table: an integer never widens a floating type."""
    ca, cb = _category(a), _category(b)
    if a == b or ca > cb:
        if ca == 3 and cb == 2 and b.itemsize == 8:
            return backend.complex128
        return a
    if cb > ca:
        return promote_types(b, a)
    if ca == 2 and a.itemsize == b.itemsize == 2:  # float16 with bfloat16
        return backend.float32
    if ca == 2:
        return a if a.itemsize > b.itemsize else b
    return np.promote_types(a, b)


def result_type(*values: Any) -> np.dtype:
    """The common dtype of arrays, 0-d arrays and Python numbers, each weaker than the one before within a category."""
    found: list[Any] = [None, None, None]
    for v in values:
        if isinstance(v, Traced):
            v = v.array
        if isinstance(v, bool):
            rank, dtype = 2, backend.bool_
        elif isinstance(v, int):
            rank, dtype = 2, backend.int64
        elif isinstance(v, float) and not isinstance(v, np.generic):
            rank, dtype = 2, backend.get_default_dtype()
        elif isinstance(v, complex) and not isinstance(v, np.generic):
            rank, dtype = 2, backend.complex64
        else:
            rank, dtype = (0 if v.ndim else 1), v.dtype
        found[rank] = dtype if found[rank] is None else promote_types(found[rank], dtype)
    best = None
    for dtype in found:
        if dtype is None:
            continue
        if best is None:
            best = dtype
        elif _category(dtype) > _category(best):
            best = promote_types(best, dtype) if _category(best) == 2 else dtype
    assert best is not None
    return best


def promote(op: Op, arrays: list[Any]) -> None:
    """Bring the promoted inputs of a call to their common dtype, in place in `arrays`."""
    which = range(len(arrays) - op.constants) if op.variadic else op.promote
    values = [arrays[i] for i in which if arrays[i] is not None]
    first = values[0]
    if all(type(v) is np.ndarray and v.dtype is first.dtype for v in values) and not (
        op.floating and first.dtype.kind in "biu"
    ):
        return
    dtype = result_type(*values)
    if op.floating and dtype.kind in "biu":
        dtype = backend.get_default_dtype()
    home = next((v for v in values if on_card(v)), None)
    for i in which:
        v = arrays[i]
        if isinstance(v, (np.ndarray, np.generic)):
            if home is not None:
                if v.ndim:
                    raise RuntimeError(f"{op.name}: wanted all tensors on one device, saw cpu and {backend.device_of(home)}")
                v = namespace(home).asarray(v)
            arrays[i] = v if v.dtype == dtype else v.astype(dtype)
        elif on_card(v):
            arrays[i] = v if v.dtype == dtype else v.astype(dtype, copy=False)
        elif v is not None and home is None and all(not backend.is_array(arrays[j]) for j in which):
            arrays[i] = np.asarray(v, dtype)


def explain(name: str, args: Sequence[Any], error: Exception) -> Exception:
    """The error of a kernel as PyTorch's kind of error, in one sentence that names the op and what it saw."""
    if str(error).startswith(f"{name}:"):
        return error
    seen = ", ".join(
        f"{tuple(a.shape)} {a.dtype} on {backend.device_of(a)}" if backend.is_array(a) else repr(a)[:40] for a in args
    )
    if isinstance(error, IndexError):
        return IndexError(f"{name}: {error}; saw ({seen})")
    if isinstance(error, TypeError) and not any(on_card(a) for a in args):
        return TypeError(f"{name}: {error}; saw ({seen})")
    return RuntimeError(f"{name}: {error}; saw ({seen})")


# --- making ops -----------------------------------------------------------------------------------


def op(definition: Callable[..., Any] | None = None, /, **options: Any) -> Callable[..., Any]:
    """Enter an op in the table; a decorator for its definition. Options are Op's, and a rule for each input: dx=..., dw=..."""
    if definition is None:
        return lambda definition: op(definition, **options)
    fields = ("name", "twin", "signature", "outputs", "promote", "floating", "view", "cases", "reference", "note", "doc")
    kept = {k: options.pop(k) for k in fields if k in options}
    name = kept.pop("name", None) or definition.__name__
    entry = Op(definition, name, options, **kept)
    if name in table:
        raise ValueError(f"op: {name!r} is in the table already")
    table[name] = entry
    if len(entry.inputs) == 1 and not entry.variadic and len(entry.outputs) == 1 and not entry.view:
        call = _unary(entry)
    elif len(entry.inputs) == 2 and entry.promote == (0, 1) and len(entry.outputs) == 1:
        call = _binary(entry)
    else:

        def call(*args: Any, **kwargs: Any) -> Any:
            return entry(*args, **kwargs)

    call.__name__ = call.__qualname__ = name
    call.__doc__, call.__module__ = entry.doc, definition.__module__
    call.op = entry  # type: ignore[attr-defined]
    return call


# The two shapes of call that a training step makes most, with everything Op.__call__ does written out in line.


def _unary(entry: Op) -> Callable[..., Any]:
    definition, plan = entry.definition, None

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal plan
        if kwargs or len(args) != 1:
            return entry(*args, **kwargs)
        (a,) = args
        x = a.array if isinstance(a, Traced) else a
        if type(x) is not np.ndarray or ((d := x.dtype) is not float32 and d is not float64):
            return entry(a)
        if x is a:
            return definition(x)
        try:
            y = definition(x)
        except (ValueError, TypeError, IndexError) as e:
            raise explain(entry.name, (x,), e) from e
        if type(y) is not np.ndarray:  # NumPy gives scalars for 0-d results
            y = np.asarray(y)
        t = Tensor.__new__(Tensor)
        t.array = y
        t.version = Version()
        t.node = None
        if mode.enabled:
            node = a.node if a.view is None else current(a)
            if node is not None:
                if plan is None:
                    plan = entry.plan((True,)) or False
                if plan:
                    t.node = Node(plan, plan.keep(x, y), plan.marks(a, t), (node,), y.shape, y.dtype)
        return t

    return call


def _binary(entry: Op) -> Callable[..., Any]:
    definition, plans = entry.definition, entry.plan

    def call(*args: Any, **kwargs: Any) -> Any:
        if kwargs or len(args) != 2:
            return entry(*args, **kwargs)
        a, b = args
        x = a.array if isinstance(a, Traced) else a
        w = b.array if isinstance(b, Traced) else b
        if type(x) is not np.ndarray or ((d := x.dtype) is not float32 and d is not float64):
            return entry(a, b)
        if type(w) is not np.ndarray:
            if type(w) is not float and type(w) is not int:
                return entry(a, b)
        elif w.dtype is not d:
            return entry(a, b)
        if x is a and w is b:
            return definition(x, w)
        if x is a:
            return entry(a, b)
        try:
            y = definition(x, w)
        except (ValueError, TypeError, IndexError) as e:
            raise explain(entry.name, (x, w), e) from e
        if type(y) is not np.ndarray:
            y = np.asarray(y)
        t = Tensor.__new__(Tensor)
        t.array = y
        t.version = Version()
        t.node = None
        if mode.enabled:
            m = a.node if a.view is None else current(a)
            n = None if w is b else b.node if b.view is None else current(b)
            if m is not None or n is not None:
                plan = plans((m is not None, n is not None))
                if plan is not None:
                    edges = (m,) if n is None else (n,) if m is None else (m, n)
                    t.node = Node(plan, plan.keep(x, w, y), plan.marks(a, b, t), edges, y.shape, y.dtype)
        return t

    return call
