"""An op is a kernel that also says how gradients flow. One entry holds its meaning, its rules and its sample cases.

    @op(dx=lambda g, w: g @ w, dw=lambda g, x: ..., cases=lambda r: [case(r(3, 4), r(4, 5))])
    def product(x, w): ...

A rule `dx` is a function of `g`, the gradient of the output, and of exactly the values it names: inputs and constants by
the definition's names, the output as `y` (or the names in `outputs`), `x_shape`, `x_dtype` and `x_strides` for what is known
of an input without keeping it, `needs` for which gradients are asked for. A joint rule `dx_dw` returns both. An op that has
an input called `g` (a backward op: `tanh_backward(g, y)`) calls the gradient of its own output `gg`. Rules are written with
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
from . import call as calls
from .backend import is_differentiable, is_floating, on_card
from .call import written_out
from .dtypes import promote, promote_types, result_type
from .kernel import Kernel, kernels
from .plan import Plan
from .tape import Node, Output, Traced, mode
from .traced import View, current, shares, unwrap, wrap

__all__ = ["Op", "Plan", "View", "current", "explain", "op", "promote_types", "result_type", "table", "unwrap", "wrap"]

table: dict[str, Op] = {}  # every op, by name


class Op:
    """One entry of the table.

    name, definition, kernel   what is computed
    inputs     the names of the definition's arguments, in order; `variadic` if the first stands for many (*xs)
    rules      (names of the inputs it is for, function) pairs
    elementwise  arrays broadcast, and rules see elements only: on the card they are called in the order in which g lies
    promote    the inputs that are brought to one dtype first, by PyTorch's promotion rules
    floating   integers among them become the default floating dtype
    absent       True if the rules take None for the gradient of an output, not the first, that nothing depended on
    holomorphic  False if the rules are right for complex numbers as they stand, also where the output is complex; True
               lets the plan conjugate around them, which is right for all that is differentiable in the complex sense
    real       complex numbers are refused
    words      PyTorch's words for arguments that are called otherwise here, {"exponent": "b"}
    refuses    kinds of dtypes that the promoted inputs must not come to: "b" for bool, "biu" for all that is not floating
    tensors    "a b": neither of these promoted inputs may be a Python number; "a|b": one of them may
    outputs    their names; ("*ys",) if their number depends on the call
    view       the output shares memory with the first input; of several, a function (i, *args) gives the op and the
               arguments that make the i-th alone
    cases      sample calls, made from a cases.Sampler; `reference` is PyTorch's name for the op; `note` goes to the docs
    """

    def __init__(self, definition: Callable[..., Any], name: str, rules: dict[str, Callable], **options: Any) -> None:
        self.name, self.definition = name, definition
        self.place: str | None = options.get("twin")
        self.elementwise: bool = options.get("elementwise", False)  # its arrays broadcast, and rules see elements only
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
                raise TypeError(
                    f"{name}: the rule for {targets} does not name {self.incoming}, the gradient of the output"
                )
        self.rules.sort(key=lambda r: self.inputs.index(r[0][0]))  # so that edges stand in the inputs' order
        promote = options.get("promote") or ()
        self.promote = tuple(self.inputs.index(n) for n in promote.split()) if promote else ()
        if promote and self.variadic:
            self.promote = (0,)
        self.several = len(self.outputs) > 1 or self.outputs[0].startswith("*")
        self.floating, self.view = bool(options.get("floating")), bool(options.get("view"))
        self.way = options["view"] if callable(options.get("view")) else None
        self.holomorphic, self.real = options.get("holomorphic", True), bool(options.get("real"))
        self.absent = bool(options.get("absent"))
        self.refuses: str = options.get("refuses", "")
        self.words: dict[str, str] = options.get("words") or {}
        self.tensors = [tuple(map(self.inputs.index, names.split("|"))) for names in options.get("tensors", "").split()]
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
            if y.dtype != np.float32:
                return y
            with np.errstate(over="ignore"):  # infinity is what a half type has for large numbers
                return y.astype(next(args[i].dtype for i in self.promote if type(args[i]) is np.ndarray))
        k = self.kernel if self.place is not None else self.definition
        if self.variadic and self.constants:
            names = self.inputs[1:]
            return k(*args[: -self.constants], **dict(zip(names, args[-self.constants :], strict=True)))
        return k(*args)

    def half(self, args: Sequence[Any]) -> bool:
        """Whether an elementwise op is asked for 2-byte floats on the CPU: they are computed in float32 and rounded once."""
        for i in self.promote:  # brought to one dtype, but for Python numbers
            if type(args[i]) is np.ndarray:
                return _is_half(args[i])
        return False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Compute, and record what the rules will need if an input asks for a gradient."""
        args = self.bind(*args, **kwargs)
        if calls.batching and calls.batched is not None:
            y = calls.batched(self, args)
            if y is not NotImplemented:
                return y
        for places in self.tensors:
            if all(type(args[i]) in (int, float, bool, complex) for i in places):
                names = " or ".join(self.inputs[i] for i in places)
                raise TypeError(f"{self.name}: wanted a tensor as {names}, saw the number {args[places[0]]}")
        traced = False
        for a in args:
            if isinstance(a, Traced):
                traced = True
                break
        if not traced:
            return self.run(args)
        arrays: Any = [a.array if isinstance(a, Traced) else a.item() if isinstance(a, np.generic) else a for a in args]
        if self.real:
            self.refuse_complex(arrays)
        try:
            if self.promote:
                promote(self, arrays)
                if self.refuses:
                    self.refuse_whole(arrays)
            for a in arrays:
                if type(a) is list or type(a) is tuple:
                    arrays = [unwrap(a) for a in arrays]
                    break
            y = self.run(arrays)
        except (ValueError, TypeError, IndexError, OverflowError, AttributeError) as e:
            raise explain(self.name, arrays, e) from e
        return self.finish(args, arrays, y)

    def refuse_complex(self, arrays: Sequence[Any]) -> None:
        """NotImplementedError if an array is complex: an order, a rounding or a sign of complex numbers means nothing."""
        for a in arrays:
            if type(a) is complex or (backend.is_array(a) and a.dtype.kind == "c"):
                raise NotImplementedError(f"{self.name}: wanted real numbers, saw {getattr(a, 'dtype', a)}")

    def refuse_whole(self, arrays: Sequence[Any]) -> None:
        """NotImplementedError if the promoted inputs have a dtype of a kind that this op is not of."""
        for i in self.promote:
            if backend.is_array(arrays[i]) and arrays[i].dtype.kind in self.refuses:
                wanted = "numbers" if self.refuses == "b" else "floating numbers"
                raise NotImplementedError(f"{self.name}: wanted {wanted}, saw {arrays[i].dtype}")

    def finish(self, args: Sequence[Any], arrays: Sequence[Any], y: Any) -> Any:
        """What came out as Tensors, with their place on the tape."""
        outs = tuple([wrap(v) if v is not None else None for v in y]) if type(y) is tuple else (wrap(y),)
        if self.view:
            for i, out in enumerate(outs):
                if shares(out.array, arrays[0]):
                    out.version = args[0].version
                    out.source = View(args[0], *(self.way(i, *args) if self.way else (self, tuple(args))))
        if mode.enabled:
            self.record(args, arrays, outs)
        return outs if type(y) is tuple else outs[0]

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
        if self.several:
            self.tie(plan, saved, marks, edges, outs)
            return
        y = values[0]
        plan = plan.of_complex if y.dtype.kind == "c" else plan
        outs[0].node = Node(plan, saved, marks, edges, y.shape, y.dtype)

    def tie(self, plan: Plan, saved: tuple, marks: tuple, edges: tuple, outs: tuple[Any, ...]) -> None:
        """Give several outputs their places on the tape: a node for all, and for each one that collects its gradient."""
        shapes = tuple([None if o is None else o.array.shape for o in outs])
        dtypes = tuple([None if o is None else o.array.dtype for o in outs])
        if any(d is not None and d.kind == "c" for d in dtypes):
            plan = plan.of_complex
        whole = Node(plan, saved, marks, edges, shapes, dtypes)
        for i, out in enumerate(outs):
            if out is not None and is_differentiable(dtypes[i]):
                out.node = Output(whole, i, out.array)

    def __repr__(self) -> str:
        return f"<op {self.name}({', '.join(self.inputs)})>"


def _is_half(x: Any) -> bool:
    return type(x) is np.ndarray and x.dtype.itemsize == 2 and is_floating(x.dtype)


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


def explain(name: str, args: Sequence[Any], error: Exception) -> Exception:
    """The error of a kernel as PyTorch's kind of error, in one sentence that names the op and what it saw."""
    if str(error).startswith((f"{name}:", f"{name.removesuffix('_forward')}:")):
        return error
    if isinstance(error, AttributeError):  # of what is no tensor: there is nothing else that an op asks for attributes
        strange = any(error.obj is a for a in args) and not backend.is_array(error.obj)
        return TypeError(f"{name}: wanted a tensor, saw {type(error.obj).__name__}") if strange else error
    seen = ", ".join(
        f"{tuple(a.shape)} {a.dtype} on {backend.device_of(a)}" if backend.is_array(a) else " ".join(repr(a).split())[:40]
        for a in args
    )
    if isinstance(error, IndexError):
        return IndexError(f"{name}: {error}; saw ({seen})")
    # NumPy's word for a dtype that an op does not take is TypeError, PyTorch's is RuntimeError.
    dtype = "ufunc" in str(error) or "numpy boolean" in str(error)
    if isinstance(error, TypeError) and not dtype and not any(on_card(a) for a in args):
        return TypeError(f"{name}: {error}; saw ({seen})")
    return RuntimeError(f"{name}: {error}; saw ({seen})")


# --- making ops -----------------------------------------------------------------------------------


def op(definition: Callable[..., Any] | None = None, /, **options: Any) -> Callable[..., Any]:
    """Enter an op in the table; a decorator for its definition. Options are Op's, and a rule for each input: dx=..., dw=..."""
    if definition is None:
        return lambda definition: op(definition, **options)
    fields = (
        "name",
        "twin",
        "elementwise",
        "signature",
        "outputs",
        "promote",
        "floating",
        "view",
        "holomorphic",
        "absent",
        "real",
        "refuses",
        "tensors",
        "words",
        "cases",
        "reference",
        "note",
        "doc",
    )
    kept = {k: options.pop(k) for k in fields if k in options}
    name = kept.pop("name", None) or definition.__name__
    entry = Op(definition, name, options, **kept)
    if name in table:
        raise ValueError(f"op: {name!r} is in the table already")
    table[name] = entry
    call = written_out(entry)
    call.__name__ = call.__qualname__ = name
    call.__doc__, call.__module__ = entry.doc, definition.__module__
    call.__wrapped__ = entry.signature  # type: ignore[attr-defined]
    call.op = entry  # type: ignore[attr-defined]
    return call
