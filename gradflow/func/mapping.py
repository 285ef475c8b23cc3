"""vmap: a function of one sample becomes a function of many."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ..ops import join
from ..ops import shape as shapes
from ..tensor import Tensor
from . import index_rules, layer_rules, product_rules, rules, shape_rules, stack_rules  # noqa: F401  (they enter their rules)
from .batched import cover, explicit, inside, levels_of
from .tree import broadcast, flatten, unflatten


def vmap(
    func: Callable[..., Any],
    in_dims: Any = 0,
    out_dims: Any = 0,
    randomness: str = "error",
    *,
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """The function that maps `func` over a dimension of its inputs: vmap(f)(x)[i] = f(x[i]), computed for all i at once.

    in_dims      the dimension of each input that is mapped over, None for one that is the same for all; nested as the inputs
    out_dims     where that dimension goes in each output
    randomness   what random functions do: "error", "same" or "different" numbers for the samples
    chunk_size   how many samples are computed at once
    Nests, and composes with grad, vjp, jvp. An op without a batching rule is called for each sample, with a warning.
    ValueError for dims that do not fit the inputs, or outputs that are no tensors.
    """
    if randomness not in ("error", "different", "same"):
        raise RuntimeError(f"vmap: wanted randomness 'error', 'different' or 'same', saw {randomness!r}")
    if chunk_size is not None and not (isinstance(chunk_size, int) and chunk_size > 0):
        raise ValueError(f"vmap: wanted a chunk_size above 0 or None, saw {chunk_size}")

    @functools.wraps(func)
    def mapped(*args: Any, **kwargs: Any) -> Any:
        leaves, dims, spec, n = _inputs(in_dims, args)
        whole, whole_spec = flatten(kwargs)
        dims = dims + [0 if isinstance(v, Tensor) else None for v in whole]
        for v in whole:  # keywords are mapped over dimension 0
            if isinstance(v, Tensor) and (not v.ndim or v.shape[0] != n):
                raise ValueError(f"vmap: wanted keywords of {n} samples in dimension 0, saw shape {tuple(v.shape)}")
        leaves += whole

        def run(values: list[Any], m: int) -> tuple[list[Any], Any]:
            with inside(m, randomness) as level:
                given = [
                    v if d is None else cover(v if d == 0 else shapes.movedim(v, d, 0), level)
                    for v, d in zip(values, dims, strict=True)
                ]
                k = spec.count
                result = func(*unflatten(given[:k], spec), **unflatten(given[k:], whole_spec))
                return _outputs(result, out_dims, level, m)

        if chunk_size is None or chunk_size >= n:
            found, out_spec = run(leaves, n)
            return unflatten([v for v, _ in found], out_spec)
        parts = []
        for i in range(0, n, chunk_size):
            m = min(chunk_size, n - i)
            part, out_spec = run(
                [v if d is None else shapes.narrow(v, d, i, m) for v, d in zip(leaves, dims, strict=True)], m
            )
            parts.append(part)
        joined = [
            v[0][0] if v[0][1] is None else join.cat([p for p, _ in v], v[0][1]) for v in zip(*parts, strict=True)
        ]
        return unflatten(joined, out_spec)

    return mapped


def _inputs(in_dims: Any, args: tuple) -> tuple[list[Any], list[Any], Any, int]:
    """(leaves, the dimension of each, how they were nested, how many samples)."""
    if not isinstance(in_dims, (int, tuple, list)):
        raise ValueError(f"vmap: wanted in_dims as an int or a (nested) tuple as the inputs are, saw {in_dims!r}")
    if not args:
        raise ValueError("vmap: wanted inputs to map over, saw none; a function without inputs is not mapped")
    leaves, spec = flatten(args)
    dims = broadcast(tuple(in_dims) if isinstance(in_dims, list) else in_dims, spec)
    if dims is None:
        raise ValueError(f"vmap: wanted in_dims nested as the inputs are, saw {in_dims!r} for inputs {spec!r}")
    n = None
    for i, (v, d) in enumerate(zip(leaves, dims, strict=True)):
        if d is None:
            continue
        if not isinstance(d, int) or isinstance(d, bool):
            raise ValueError(f"vmap: wanted ints and None as in_dims, saw {d!r}")
        if not isinstance(v, Tensor):
            raise ValueError(
                f"vmap: wanted a tensor where in_dims says {d}, saw {type(v).__name__}; None leaves it as it is"
            )
        if not -v.ndim <= d < v.ndim:
            raise ValueError(f"vmap: wanted an in_dim of a tensor of shape {tuple(v.shape)}, saw {d}")
        dims[i] = d % v.ndim
        m = v.shape[d]
        if n is None:
            n = m
        elif m != n:
            sizes = [v.shape[d] for v, d in zip(leaves, dims, strict=True) if d is not None]
            raise ValueError(f"vmap: wanted one size of the dimension that is mapped over, saw {sizes}")
    if n is None:
        raise ValueError("vmap: wanted at least one input to map over, saw in_dims of None only")
    return leaves, dims, spec, n


def _outputs(result: Any, out_dims: Any, level: Any, n: int) -> tuple[list[Any], Any]:
    """([(output with the samples in place, their place)], how the outputs are nested)."""
    leaves, spec = flatten(result)
    for v in leaves:
        if not isinstance(v, Tensor):
            raise ValueError(f"vmap: wanted a function that returns tensors, saw {type(v).__name__}")
    if isinstance(out_dims, int) and not isinstance(out_dims, bool):
        dims: Any = [out_dims] * len(leaves)
    elif isinstance(out_dims, tuple) and len(out_dims) == 1 and spec.kind is None:
        dims = list(out_dims)
    elif out_dims is None and spec.kind is None:
        dims = [None]
    else:
        dims = broadcast(tuple(out_dims) if isinstance(out_dims, list) else out_dims, spec)
    if dims is None:
        raise ValueError(f"vmap: wanted out_dims nested as the outputs are, saw {out_dims!r} for outputs {spec!r}")
    found = []
    for v, d in zip(leaves, dims, strict=True):
        if d is not None and not isinstance(d, int):
            raise ValueError(f"vmap: wanted ints and None as out_dims, saw {d!r}")
        mapped = level in levels_of(v)
        if d is None:
            if mapped:
                raise ValueError("vmap: an output differs from sample to sample, and its out_dim is None")
            found.append((v, None))
            continue
        y = explicit(v, (level,))
        if not mapped:
            y = shapes.expand(y, (n, *v.shape))
        if not -y.ndim <= d < y.ndim:
            raise IndexError(f"vmap: wanted an out_dim of an output of {y.ndim} dimensions, saw {d}")
        found.append((y if d in (0, -y.ndim) else shapes.movedim(y, 0, d), d % y.ndim))
    return found, spec
