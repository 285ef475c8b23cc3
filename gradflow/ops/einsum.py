"""Contractions: products of tensors summed over shared indices, reduced pair by pair to matrix products."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ..backend import int64, namespace
from ..cases import case
from ..op import op
from . import linalg, pointwise, shape

Labels = tuple[Any, ...]  # one label for each dimension: a letter, or a number for a dimension under an ellipsis

# --- the equation ---------------------------------------------------------------------------------------


@lru_cache(1000)
def _parse(equation: str, ndims: tuple[int, ...]) -> tuple[tuple[Labels, ...], Labels]:
    """The labels of each operand and of the result. Those under an ellipsis are numbers, -1 for the last."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(ndims):
        raise RuntimeError(f"einsum: wanted {len(terms)} operands for {equation!r}, saw {len(ndims)}")
    split = [_letters(t, equation) for t in terms]
    inputs = tuple(_spread(t, n, equation) for t, n in zip(split, ndims, strict=True))
    dots = max((n - len(t) + 1 for t, n in zip(split, ndims, strict=True) if ... in t), default=0)
    found = [label for labels in inputs for label in labels]
    if arrow:
        output = _spread(_letters(right, equation), None, equation, dots)
    else:
        once = sorted({c for c in found if isinstance(c, str) and found.count(c) == 1})
        output = (*range(-dots, 0), *once)
    for c in output:
        if c not in found or output.count(c) > 1:
            raise RuntimeError(f"einsum: wanted {c!r} once in the result and somewhere on the left, saw {equation!r}")
    return inputs, output


def _letters(term: str, equation: str) -> list[Any]:
    head, dots, tail = term.partition("...")
    found = [*head, *([...] if dots else ()), *tail]
    if any(c is not ... and not (c.isascii() and c.isalpha()) for c in found):
        raise RuntimeError(f"einsum: wanted letters, commas, one ellipsis for each operand and '->', saw {equation!r}")
    return found


def _spread(letters: list[Any], ndim: int | None, equation: str, dots: int = 0) -> Labels:
    """The letters with the ellipsis, if there is one, replaced by numbers for the dimensions left over."""
    named = sum(c is not ... for c in letters)
    if ndim is not None:
        dots = ndim - named
        if dots < 0 or (dots and ... not in letters):
            raise RuntimeError(f"einsum: wanted {named} dimensions for {_text(letters)!r} of {equation!r}, saw {ndim}")
    return tuple(label for c in letters for label in (range(-dots, 0) if c is ... else (c,)))


def _text(letters: Sequence[Any]) -> str:
    return "".join("..." if c is ... else c for c in letters)


def _from_lists(args: tuple) -> tuple[str, tuple]:
    """The equation of the other form of call: einsum(x, [0, 1], w, [1, 2], [0, 2])."""

    def term(labels: Any) -> str:  # 0 to 51 are A to Z, then a to z
        return _text([c if c is ... else chr((ord("A") if c < 26 else ord("a") - 26) + c) for c in labels])

    right = "->" + term(args[-1]) if len(args) % 2 else ""
    return ",".join(map(term, args[1::2])) + right, args[: len(args) - len(args) % 2 : 2]


# --- the contraction ------------------------------------------------------------------------------------


def _sizes(xs: Sequence[Any], inputs: Sequence[Labels]) -> dict[Any, int]:
    """The size of each label; sizes of one broadcast."""
    sizes: dict[Any, int] = {}
    for x, labels in zip(xs, inputs, strict=True):
        if len(set(labels)) < len(labels):
            own: dict[Any, int] = {}
            for c, n in zip(labels, x.shape, strict=True):
                if own.setdefault(c, n) != n:
                    raise RuntimeError(f"einsum: wanted one size of {c!r} in an operand, saw {own[c]} and {n}")
        for c, n in zip(labels, x.shape, strict=True):
            m = sizes.get(c, 1)
            if m == 1:
                sizes[c] = n
            elif n not in (1, m):
                raise RuntimeError(f"einsum: wanted sizes of {c!r} that broadcast, saw {m} and {n}")
    return sizes


def _tidy(x: Any, labels: Labels, sizes: dict[Any, int]) -> tuple[Any, Labels]:
    """x with every label once (a repeated one takes the diagonal) and without the dimensions that only broadcast."""
    if any(n == 1 != sizes[c] for c, n in zip(labels, x.shape, strict=True)):
        kept = [i for i, c in enumerate(labels) if x.shape[i] != 1 or sizes[c] == 1]
        x, labels = x.reshape([x.shape[i] for i in kept]), tuple(labels[i] for i in kept)
    while len(set(labels)) != len(labels):
        a = next(i for i, c in enumerate(labels) if c in labels[i + 1 :])
        b = labels.index(labels[a], a + 1)
        x = x.diagonal(0, a, b)
        labels = (*(c for i, c in enumerate(labels) if i not in (a, b)), labels[a])
    return x, labels


@lru_cache(1000)
def _order(inputs: tuple[Labels, ...], output: Labels, sizes: tuple[tuple[Any, int], ...]) -> list[tuple[int, int]]:
    """Which two operands to contract next, greedily: the pair whose result is smallest beside what it replaces."""
    size = dict(sizes)
    rest, path = list(inputs), []

    def elements(labels: Any) -> int:
        return math.prod(size[c] for c in labels)

    while len(rest) > 1:
        best: tuple[Any, ...] = ()
        for i in range(len(rest)):
            for j in range(i + 1, len(rest)):
                others = {c for k, labels in enumerate(rest) if k not in (i, j) for c in labels}.union(output)
                result = tuple(c for c in dict.fromkeys(rest[i] + rest[j]) if c in others)
                gain = elements(result) - elements(rest[i]) - elements(rest[j])
                work = elements(set(rest[i]) | set(rest[j]))
                if not best or (gain, work) < best[:2]:
                    best = (gain, work, i, j, result)
        _, _, i, j, result = best
        path.append((i, j))
        del rest[j], rest[i]
        rest.append(result)
    return path


@lru_cache(1000)
def _pairing(a: Labels, b: Labels, keep: frozenset) -> tuple[Any, ...]:
    """How to contract two operands: axes to sum away first, permutations, and the number of labels of each role."""
    lone_a = tuple(i for i, c in enumerate(a) if c not in b and c not in keep)
    lone_b = tuple(i for i, c in enumerate(b) if c not in a and c not in keep)
    a = tuple(c for c in a if c in b or c in keep)
    b = tuple(c for c in b if c in a or c in keep)
    batch = tuple(c for c in a if c in b and c in keep)
    inside = tuple(c for c in a if c in b and c not in keep)
    left, right = tuple(c for c in a if c not in b), tuple(c for c in b if c not in a)
    order_a = tuple(a.index(c) for c in (*batch, *left, *inside))
    order_b = tuple(b.index(c) for c in (*batch, *inside, *right))
    return lone_a, lone_b, order_a, order_b, len(batch), len(left), len(inside), (*batch, *left, *right)


def _pair(x: Any, a: Labels, w: Any, b: Labels, keep: frozenset) -> tuple[Any, Labels]:
    """The contraction of two operands, as one (stacked) matrix product or, without a shared sum, as a product."""
    lone_a, lone_b, order_a, order_b, nb, nl, ni, result = _pairing(a, b, keep)
    x = (x.sum(lone_a) if lone_a else x).transpose(order_a)
    w = (w.sum(lone_b) if lone_b else w).transpose(order_b)
    batch, left, right = x.shape[:nb], x.shape[nb : nb + nl], w.shape[nb + ni :]
    if not ni:
        return x.reshape((*batch, *left, *(1 for _ in right))) * w.reshape((*batch, *(1 for _ in left), *right)), result
    k = math.prod(x.shape[nb + nl :])
    y = linalg.matmul.op.kernel(
        x if nl == ni == 1 else x.reshape((*batch, math.prod(left), k)),
        w if ni == len(right) == 1 else w.reshape((*batch, k, math.prod(right))),
    )
    return y.reshape((*batch, *left, *right)), result


def _contract_dxs(g, xs, inputs, output, needs):
    """The gradient of each operand: g contracted with all the others."""
    gradients = []
    for i, (x, labels) in enumerate(zip(xs, inputs, strict=True)):
        if not needs[i]:
            gradients.append(None)
            continue
        others = [*xs[:i], *xs[i + 1 :]]
        theirs = (*inputs[:i], *inputs[i + 1 :])
        known = set(output).union(*theirs)
        unique = tuple(dict.fromkeys(labels))
        dx = contract(g, *others, inputs=(output, *theirs), output=tuple(c for c in unique if c in known))
        # What this operand alone summed over is spread again: sizes of one, which the tape expands.
        if not known.issuperset(unique):
            dims = iter(dx.shape)
            dx = shape.reshape(dx, tuple([next(dims) if c in known else 1 for c in unique]))
        gradients.append(dx if len(unique) == len(labels) else diagonal_fill(dx, unique, labels, tuple(x.shape)))
    return gradients


@op(
    dxs=_contract_dxs,
    cases=lambda r: [
        case(r(3, 4), r(4, 5), inputs=(("a", "b"), ("b", "c")), output=("c", "a")),
        case(r(2, 3, 4), r(2, 5, 4), inputs=(("n", "q", "d"), ("n", "k", "d")), output=("n", "q", "k")),
        case(r(3, 4), inputs=(("a", "b"),), output=("b",)),
        case(r(3, 3), inputs=(("a", "a"),), output=("a",)),
        case(r(3, 2, 3), r(3), inputs=(("a", "b", "a"), ("a",)), output=("b",)),
        case(r(3), r(4), inputs=(("a",), ("b",)), output=("a", "b")),
        case(r(2, 3), r(3, 4), r(4, 2), inputs=(("a", "b"), ("b", "c"), ("c", "d")), output=("a", "d")),
        case(r(2, 1), r(3), inputs=(("a", "b"), ("b",)), output=("a", "b")),
        case(r(0, 3), r(3, 2), inputs=(("a", "b"), ("b", "c")), output=("a", "c")),
        case(r(3, 0), r(0, 2), inputs=(("a", "b"), ("b", "c")), output=("a", "c")),
        case(r(), r(3), inputs=((), ("a",)), output=("a",)),
        case(r.strided(3, 4), r.strided(4, 3), inputs=(("a", "b"), ("b", "a")), output=()),
        case(r(2, 3), r(3, 2), inputs=(("a", "b"), ("c", "d")), output=()),
    ],
    reference=lambda torch, *xs, inputs, output: torch.einsum(
        ",".join(map("".join, inputs)) + "->" + "".join(output), *xs
    ),
)
def contract(*xs, inputs, output):
    """The sum of products of `xs`, each dimension named by a label, over every label that is not in `output`.

    inputs is the labels of each operand, output those of the result; a label that an operand repeats takes its
    diagonal, sizes of one broadcast. RuntimeError for sizes or dtypes that do not agree.
    """
    linalg.agree("einsum", *xs)
    dtype = xs[0].dtype
    sizes = _sizes(xs, inputs)
    if linalg.narrow(xs[0]):
        xs = [x.astype(np.float32) for x in xs]
    tidy = [_tidy(x, labels, sizes) for x, labels in zip(xs, inputs, strict=True)]
    if len(tidy) > 2:
        for i, j in _order(tuple(c for _, c in tidy), output, tuple(sizes.items()))[:-1]:
            (w, b), (x, a) = tidy.pop(j), tidy.pop(i)
            tidy.append(_pair(x, a, w, b, frozenset(output).union(*(c for _, c in tidy))))
    if len(tidy) == 1:
        x, labels = tidy[0]
        lone = tuple(i for i, c in enumerate(labels) if c not in output)
        y = x.sum(lone, dtype=x.dtype) if lone else x.copy()
        labels = tuple(c for c in labels if c in output)
    else:
        (x, a), (w, b) = tidy
        y, labels = _pair(x, a, w, b, frozenset(output))
    if labels != output:
        y = y.transpose([labels.index(c) for c in output])
    return y if y.dtype == dtype else y.astype(dtype)


@op(
    dg=lambda gg, unique, labels: contract(gg, inputs=(labels,), output=unique),
    cases=lambda r: [
        case(r(3), ("a",), ("a", "a"), (3, 3)),
        case(r(2, 3), ("b", "a"), ("a", "b", "a", "a"), (3, 2, 3, 3)),
        case(r(1, 2), ("a", "b"), ("a", "b", "a"), (3, 2, 3)),
        case(r(0), ("a",), ("a", "a"), (0, 0)),
    ],
    signature=lambda g, unique, labels, x_shape: None,
    reference=None,
)
def diagonal_fill(g, unique, labels, shape):
    """Zeros of `shape` with g on the diagonal of the labels that repeat: the gradient of taking that diagonal."""
    xp = namespace(g)
    y = xp.zeros(shape, g.dtype)
    where = [xp.arange(n, dtype=int64) for n in shape]
    at = [where[i].reshape([-1 if c == u else 1 for u in unique]) for i, c in enumerate(labels)]
    if shape:
        y[tuple(at)] = g
    return y


def einsum(equation: Any, *operands: Any) -> Any:
    """The sum of products that `equation` tells: "bij,bjk->bik" is y_bik = sum_j x_bij w_bjk.

    Every letter names a dimension; a letter that is not right of '->' is summed over, a repeated one takes the
    diagonal; '...' stands for dimensions that broadcast. Without '->' the letters that occur once are kept, sorted.
    The form einsum(x, [0, 1], w, [1, 2], [0, 2]) is taken too. RuntimeError for an equation or sizes that do not fit.
    """
    if not isinstance(equation, str):
        equation, operands = _from_lists((equation, *operands))
    elif len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    inputs, output = _parse(equation, tuple([x.ndim for x in operands]))
    if operands[0].dtype.kind in "biu":
        others = [{c for j, labels in enumerate(inputs) if j != i for c in labels} for i in range(len(inputs))]
        if any(set(labels) - known - set(output) for labels, known in zip(inputs, others, strict=True)):
            operands = tuple([pointwise.cast(x, int64) for x in operands])  # an operand summed alone is, as sums are, int64
    return contract(*operands, inputs=inputs, output=output)


def tensordot(a: Any, b: Any, dims: Any = 2) -> Any:
    """The product of a and b summed over the last `dims` dimensions of a and the first of b, or over two lists of them.
    RuntimeError for lists of different lengths or sizes that differ.
    """
    if isinstance(dims, int):
        if not 0 <= dims <= min(a.ndim, b.ndim):
            raise RuntimeError(f"tensordot: wanted dims in [0, {min(a.ndim, b.ndim)}], saw {dims}")
        da, db = list(range(a.ndim - dims, a.ndim)), list(range(dims))
    else:
        da, db = ([d] if isinstance(d, int) else list(d) for d in dims)
    if len(da) != len(db):
        raise RuntimeError(f"tensordot: wanted as many dimensions of a as of b, saw {da} and {db}")
    da = [shape.dimension("tensordot", d, a.ndim) for d in da]
    db = [shape.dimension("tensordot", d, b.ndim) for d in db]
    la, lb = [f"a{i}" for i in range(a.ndim)], [f"b{i}" for i in range(b.ndim)]
    for i, j in zip(da, db, strict=True):
        if 1 != a.shape[i] != b.shape[j] != 1:
            shapes = f"{tuple(a.shape)} and {tuple(b.shape)}"
            raise RuntimeError(f"tensordot: wanted sizes to agree over {da} and {db}, saw {shapes}")
        lb[j] = la[i]
    output = (*(c for c in la if c not in lb), *(c for c in lb if c not in la))
    return contract(a, b, inputs=(tuple(la), tuple(lb)), output=output)
