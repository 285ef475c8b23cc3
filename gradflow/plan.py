"""What one op keeps and which rules it calls, for each set of inputs that ask for gradients."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import cache, cached_property
from typing import Any

import numpy as np

from .backend import is_differentiable, namespace, on_card
from .tape import Node, Output, Traced, Version
from .traced import unwrap, wrap


def in_order(pull: Callable[[Any, tuple], tuple], g: Any, saved: tuple) -> tuple:
    """pull(g, saved) of an elementwise op, in the order in which g lies; ops/shape.py puts the function of ops/layout.py here."""
    raise NotImplementedError("in_order: gradflow.ops.shape has not been imported")


class Plan:
    """What one op keeps, and which rules it calls, when a given set of its inputs asks for gradients.

    keep(*args, *outputs)   the tuple of values that the needed rules name
    marks(*args, *outputs)  the Versions of those that are tensors
    pull(g, saved)          the gradients of the needed inputs
    The three are written out as Python expressions once, when such a call is first recorded: the hot path calls them.
    """

    def __init__(self, op: Any, needs: tuple[bool, ...]) -> None:
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
        outs = ["*outs"] if op.outputs[0].startswith("*") else [f"a{places[n]}" for n in op.outputs]
        frame = ", ".join([*(f"a{i}" for i in range(len(needs))), *outs])
        self.wanted = tuple(i for _, into in self.entries for i in into if needs[i])
        self.keep = eval(f"lambda {frame}: ({''.join(t + ', ' for t in texts)})")
        self.kept = [i for slot in self.slots for i in (slot if type(slot) is tuple else (slot,)) if i is not None]
        versions = "".join(f"a{i}.version if isinstance(a{i}, Traced) else (), " for i in self.kept)
        self.marks = eval(f"lambda {frame}: ({versions})", {"Traced": Traced})
        self.elementwise = op.elementwise and None not in self.slots  # no rule asks for sizes
        self.pull = self._pull(tuple(True for _ in self.wanted))
        self.pull_to = cache(self._pull)

    @cached_property
    def of_complex(self) -> Plan:
        """The plan of a call whose output is complex.

        The gradient of a real loss L by a complex z = a + ib is dL/da + i dL/db, as PyTorch has it: of y = f(z), f
        holomorphic, dz = g conj(f'(z)). Rules say g f'(z), and conj(conj(g) f'(z)) is what is wanted.
        """
        if not self.op.holomorphic:
            return self
        plan = copy(self)
        plan.pull = _conjugated(self.pull)
        plan.pull_to = cache(lambda asked: _conjugated(self._pull(asked)))
        plan.of_complex = plan
        return plan

    def _expression(self, word: str, places: dict[str, Any]) -> str:
        name, _, what = word.rpartition("_")
        if word not in places and name in places and what in ("shape", "dtype", "strides"):
            self.slots.append(None)
            place = places[name]
            return f"({''.join(f'a{i}.{what}, ' for i in place)})" if type(place) is tuple else f"a{place}.{what}"
        if word not in places:
            raise TypeError(
                f"{self.name}: a rule names {word!r}; it may name {self.op.incoming}, needs and {', '.join(places)}"
            )
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
        text = f"({''.join(p + ', ' for p in parts)})"
        if self.elementwise:
            names |= {"plain": eval(f"lambda g, s: {text}", names), "in_order": in_order, "ndarray": np.ndarray}
            text += " if type(g) is ndarray else in_order(plain, g, s)"
        return eval(f"lambda g, s: {text}", names)

    def marked(self, saved: tuple) -> list[Any]:
        """The saved values that have marks, in the order of the marks."""
        return [
            v
            for s, slot in zip(saved, self.slots, strict=True)
            if slot is not None
            for v in (s if type(slot) is tuple else (s,))
        ]

    def own(self, node: Node, version: Version) -> None:
        """Give a node copies of those of its saved values that a write to the storage of `version` is about to change."""
        if not any(m is version for m in node.marks):
            return
        marks = iter(node.marks)

        def keep(value: Any) -> Any:
            return value.copy() if next(marks) is version else value

        node.saved = tuple(
            v if slot is None else tuple(map(keep, v)) if type(slot) is tuple else keep(v)
            for v, slot in zip(node.saved, self.slots, strict=True)
        )
        node.marks = tuple(() if m is version else m for m in node.marks)

    def revive(self, node: Node, saved: tuple) -> tuple:
        """The saved values as Tensors at their places on the tape, so that what the rules do with them is recorded."""
        edges = dict(zip(self.wanted, node.edges, strict=True))
        outputs = len(self.needs)

        def at(place: int, value: Any) -> Any:
            if not (isinstance(value, np.ndarray) or on_card(value)):
                return value
            if place < outputs:
                return wrap(value, edges.get(place))
            if not self.op.several:
                return wrap(value, node)
            return wrap(value, Output(node, place - outputs, value) if is_differentiable(value.dtype) else None)

        return tuple(
            v if slot is None else tuple(map(at, slot, v)) if type(slot) is tuple else at(slot, v)
            for slot, v in zip(self.slots, saved, strict=True)
        )

    def whole(self, gradients: list[Any], node: Node, create: bool) -> tuple:
        """The gradients of all outputs: zeros for those that nothing depended on, None for integers."""
        if self.op.absent and not create and gradients[0] is not None:
            return tuple(gradients)
        like = next(g for g in gradients if g is not None)
        xp = namespace(unwrap(like))
        return tuple(
            g
            if g is not None or shape is None or not is_differentiable(dtype)
            else (wrap if create else _same)(xp.zeros(shape, dtype))
            for g, shape, dtype in zip(gradients, node.shape, node.dtype, strict=True)
        )


def _conj(g: Any) -> Any:
    if type(g) is tuple:
        return tuple(map(_conj, g))
    return g if g is None or g.dtype.kind != "c" else g.conj()


def _conjugated(pull: Callable[[Any, tuple], tuple]) -> Callable[[Any, tuple], tuple]:
    return lambda g, saved: tuple(map(_conj, pull(_conj(g), saved)))


def _same(x: Any) -> Any:
    return x
