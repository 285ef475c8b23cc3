"""Collating: many samples become one batch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, MutableMapping, MutableSequence, Sequence
from typing import Any

import numpy as np

from ..backend import is_array, namespace
from ..op import wrap
from ..ops import shape as shapes
from ..tape import Traced


def default_convert(data: Any) -> Any:
    """Arrays inside tuples, lists and dicts become tensors; tuples become lists, as in batches; the rest stays."""
    if isinstance(data, (Traced, str, bytes)):
        return data
    if is_array(data) or isinstance(data, np.generic):
        return data if data.dtype.kind in "SUO" else wrap(np.asarray(data) if isinstance(data, np.generic) else data)
    return _inside(data, default_convert, plain=True)


def _inside(data: Any, function: Callable[[Any], Any], plain: bool = False) -> Any:
    """A container of the same kind with `function` of each of its elements; with `plain` a list for a tuple."""
    if isinstance(data, Mapping):
        return _mapping(data, {k: function(data[k]) for k in data})
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*(function(v) for v in data))
    if isinstance(data, tuple):
        return [function(v) for v in data] if plain else type(data)(function(v) for v in data)
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes)):
        return _sequence(data, [function(v) for v in data])
    return data


def _mapping(like: Any, values: dict) -> Any:
    """A mapping of the type, and with the other attributes, of `like`; a dict where that cannot be made."""
    try:
        if isinstance(like, MutableMapping):
            clone = copy.copy(like)
            clone.update(values)
            return clone
        return type(like)(values)  # type: ignore[call-arg]
    except TypeError:
        return values


def _sequence(like: Any, values: list) -> Any:
    """A sequence of the type, and with the other attributes, of `like`; a list where that cannot be made."""
    try:
        if isinstance(like, MutableSequence):
            clone = copy.copy(like)
            for i, v in enumerate(values):
                clone[i] = v
            return clone
        return type(like)(values)
    except TypeError:
        return values


def default_collate(batch: Sequence[Any]) -> Any:
    """One batch of many samples: tensors and arrays stacked, numbers as a tensor, containers element by element.

    A tuple of (image, label) samples becomes a list of their batches; floats become float64, ints int64; strings stay.
    RuntimeError for shapes or lengths that differ, TypeError for what cannot be in a batch.
    """
    return collate(batch, collate_fn_map=default_collate_fn_map)


def collate(batch: Sequence[Any], *, collate_fn_map: dict[Any, Callable[..., Any]] | None = None) -> Any:
    """default_collate with functions of one's own: collate_fn_map[type](samples, collate_fn_map=...) for their type."""
    first = batch[0]
    table = collate_fn_map or {}
    found = table.get(type(first)) or next((f for kind, f in table.items() if isinstance(first, kind)), None)
    if found is None and collate_fn_map is not None and is_array(first):  # one on the card
        found = table.get(np.ndarray)
    if found is not None:
        return found(batch, collate_fn_map=collate_fn_map)

    def again(samples: Any) -> Any:
        return collate(samples, collate_fn_map=collate_fn_map)

    if isinstance(first, Mapping):
        return _mapping(first, {k: again([sample[k] for sample in batch]) for k in first})
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return type(first)(*(again(column) for column in zip(*batch, strict=False)))
    if isinstance(first, Sequence) and not isinstance(first, (str, bytes)):
        lengths = {len(sample) for sample in batch}
        if len(lengths) != 1:
            raise RuntimeError(f"collate: wanted samples of one length, saw {' and '.join(map(str, sorted(lengths)))}")
        columns = [again(column) for column in zip(*batch, strict=True)]
        return columns if isinstance(first, tuple) else _sequence(first, columns)
    raise TypeError(f"collate: wanted tensors, arrays, numbers, strings or containers, saw {type(first).__name__}")


def _stacked(batch: Sequence[Any], *, collate_fn_map: Any = None) -> Any:
    """Tensors or arrays in a new first dimension."""
    arrays = [x.array if isinstance(x, Traced) else x for x in batch]
    if arrays[0].dtype.kind in "SUO":
        raise TypeError(f"collate: wanted arrays of numbers, saw {arrays[0].dtype}")
    shaped = {a.shape for a in arrays}
    if len(shaped) != 1:
        raise RuntimeError(f"collate: wanted samples of one shape, saw {' and '.join(map(str, sorted(shaped)))}")
    if any(getattr(x, "node", None) is not None for x in batch):
        return shapes.stack(batch)
    return wrap(namespace(arrays[0]).stack(arrays))


def _numbers(batch: Sequence[Any], *, collate_fn_map: Any = None) -> Any:
    return wrap(np.array(batch, np.float64 if type(batch[0]) is float else None))


def _as_it_is(batch: Sequence[Any], *, collate_fn_map: Any = None) -> Any:
    return batch


# What default_collate does with samples of a type, or of a subclass of one; it may be added to.
default_collate_fn_map: dict[Any, Callable[..., Any]] = {
    Traced: _stacked, np.ndarray: _stacked, str: _as_it_is, bytes: _as_it_is, np.generic: _numbers, bool: _numbers,
    int: _numbers, float: _numbers,
}  # fmt: skip


def each_tensor(data: Any, function: Any) -> Any:
    """A batch with `function` of each of its tensors."""
    return function(data) if isinstance(data, Traced) else _inside(data, lambda v: each_tensor(v, function))
