"""How an elementwise op is entered: one row, with samples of its own, computed block by block where arrays are large."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..cases import Sampler, case
from ..op import op, unwrap
from .layout import order_of


def row(head: str, definition: Callable[..., Any], doc: str, **options: Any) -> Callable[..., Any]:
    """Enter an elementwise op.

    head    its signature, "leaky_relu(x, negative_slope=0.01)"; parameters called x a b g y are arrays of one dtype
    domain  (low, high) of the sample inputs; `kinks` are points near which no sample may lie
    and the options of op.Op.
    """
    name, _, parameters = head.partition("(")
    signature = eval(f"lambda {parameters.rstrip(')')}: None", {"inf": math.inf})
    names = signature.__code__.co_varnames
    arrays = [n for n in names if n in ("x", "a", "b", "g", "y")]
    low, high = options.pop("domain", (-3.0, 3.0))
    kinks = options.pop("kinks", ())

    def cases(r: Sampler) -> list[case]:
        def draw(*shape: int) -> np.ndarray:
            x = r.uniform(low, high, *shape)
            for k in kinks:  # keep a finite difference away from the kink
                x = np.where(np.abs(x - k) < 0.05, k + 0.1, x)
            return x

        shapes = [(3, 4), (), (0,), (2, 5), (67,)]
        found = [case(*(draw(*s) for _ in arrays)) for s in shapes]
        if len(arrays) == 2:
            found += [case(draw(3, 1), draw(4)), case(draw(2, 3)[:, ::2], draw(2, 2).T)]
        else:
            found += [case(*(draw(6, 4)[::2].T for _ in arrays))]
        return found

    options.setdefault("cases", cases)
    options.setdefault("promote", " ".join(arrays))
    options |= {"twin": options.get("twin", "pointwise"), "elementwise": True}
    if not isinstance(definition, np.ufunc):
        definition = in_blocks(definition, len(arrays))
    if "backward" in name:
        options.setdefault("reference", None)
    return op(definition, name=name, signature=signature, doc=doc, **options)


BLOCK = 1 << 15  # elements: several arrays of so many floats stay in a core's own cache


def in_blocks(definition: Callable[..., Any], arrays: int) -> Callable[..., Any]:
    """A definition that takes large NumPy arrays block by block: its intermediates stay in the cache, not in memory."""

    def blocked(x: Any, *rest: Any) -> Any:
        if type(x) is not np.ndarray or x.size <= BLOCK:  # x may be a Python number
            return definition(x, *rest)
        others, constants = rest[: arrays - 1], rest[arrays - 1 :]
        for a in others:
            if type(a) is not np.ndarray or a.shape != x.shape or a.strides != x.strides:
                return definition(x, *rest)
        there, back = order_of(x) or (None, None)
        if there is not None and x.transpose(there).flags.c_contiguous:  # channels last, say
            return blocked(*(a.transpose(there) for a in (x, *others)), *constants).transpose(back)
        if not x.flags.c_contiguous:
            return definition(x, *rest)
        flat = [a.reshape(-1) for a in (x, *others)]
        first = definition(*[a[:BLOCK] for a in flat], *constants)
        y = np.empty(x.size, first.dtype)
        y[:BLOCK] = first
        for i in range(BLOCK, x.size, BLOCK):
            y[i : i + BLOCK] = definition(*[a[i : i + BLOCK] for a in flat], *constants)
        return y.reshape(x.shape)

    return functools.wraps(definition)(blocked)


def keep(g: Any, mask: Any) -> Any:
    """g where the mask holds, else 0, whatever g is there. On NumPy by bits: a select would branch on every element."""
    if type(g) is not np.ndarray or type(mask) is not np.ndarray or g.shape != mask.shape or g.dtype.kind != "f":
        return np.where(mask, g, like(g, 0))
    bits = np.dtype(f"i{g.dtype.itemsize}")
    all_or_none = mask.view(np.int8).astype(bits)
    np.negative(all_or_none, out=all_or_none)
    all_or_none &= g.view(bits)
    return all_or_none.view(g.dtype)


def like(x: Any, value: Any) -> Any:
    """A constant of x's dtype: keeps float16 from being computed with a float64 scalar."""
    return x.dtype.type(value)


def kind_of(v: Any) -> str:
    """The kind of a tensor's, array's or Python number's dtype."""
    return v.dtype.kind if hasattr(v, "dtype") else np.asarray(v).dtype.kind


def real_of(x: Any) -> Any:
    """The real part of an array, tensor or number, not recorded; what is real, as it is."""
    return unwrap(x).real if kind_of(x) == "c" else x
