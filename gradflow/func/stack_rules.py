"""Batching rules of ops that take stacks: matrices in the last two dimensions, rows in the last, labelled dimensions."""

from __future__ import annotations

from typing import Any

from ..ops import shape as shapes
from .batched import is_value
from .dispatch import Call, expand, invoke
from .rules import along, raised, rule

rule("transform half_spectrum whole_spectrum mode", along)


@rule(
    """linalg.lu_factor linalg.cholesky linalg.qr linalg.svd linalg.svdvals linalg.eigh linalg.eigvalsh linalg.eig
    linalg.eigvals linalg.inv linalg.ldl_factor linalg.det linalg.slogdet linalg.matrix_exp cofactor cofactor_backward
    swaps places permutation rank_of packed cholesky_solve cholesky_inverse all_distances succeeded
    linalg.solve linalg.solve_triangular"""
)
def _stacks(c: Call) -> Any:
    """Dimensions before the last one or two are stacks, of which the samples are one more."""
    y = invoke(c.op, _stacked(c))
    if c.op.name == "linalg.solve":  # info is of the matrices alone
        return y[0], shapes.reshape(y[1], (c.n, *c.sizes("a")[:-2]))
    if c.op.name == "linalg.qr" and c["mode"] == "r":  # q is empty
        return expand(y[0], False, c.n), y[1]
    return y


def _stacked(c: Call) -> list[Any]:
    """The arguments with all arrays expanded to the samples, and of one number of dimensions."""
    most = max(a.ndim - bool(f) for a, f in zip(c.args, c.flags, strict=True) if is_value(a))
    return [raised(expand(a, f, c.n), most) if is_value(a) else a for a, f in zip(c.args, c.flags, strict=True)]


@rule("linalg.pinv linalg.matrix_rank")
def _tolerant(c: Call) -> Any:
    """Matrices, with tolerances that are numbers or the same for all samples."""
    if any(is_value(a) for a in c.args[1:]):
        return NotImplemented
    return c.run()


@rule("searchsorted")
def _searchsorted(c: Call) -> Any:
    seq, v = c["sorted_sequence"], c["values"]
    if not c.batched("sorted_sequence") and seq.ndim == 1:
        return c.run()
    v = c.full("values")
    flat = shapes.reshape(v, (c.n, -1)) if c.n and c.rank("sorted_sequence") == 1 else v
    y = c.run(sorted_sequence=c.full("sorted_sequence"), values=flat)
    return shapes.reshape(y, v.shape)


@rule("contract")
def _contract(c: Call) -> Any:
    """One more label for the samples."""
    label = f"vmap {c.level.depth}"
    *xs, inputs, output = c.args
    *flags, _, _ = c.flags
    named = tuple((label, *i) if f else i for i, f in zip(inputs, flags, strict=True))
    return c.op(*xs, inputs=named, output=(label, *output))


@rule("diagonal_fill")
def _diagonal_fill(c: Call) -> Any:
    label = f"vmap {c.level.depth}"
    return invoke(c.op, [c["g"], (label, *c.args[1]), (label, *c.args[2]), (c.n, *c.args[3])])
