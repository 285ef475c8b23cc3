"""Collating: many samples become one batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..backend import is_array, namespace
from ..op import wrap
from ..tape import Traced


def default_convert(data: Any) -> Any:
    """Arrays inside tuples, lists and dicts become tensors; tuples become lists, as in batches; the rest stays."""
    if isinstance(data, Traced):
        return data
    if is_array(data) or isinstance(data, np.generic):
        return wrap(np.asarray(data) if isinstance(data, np.generic) else data)
    data = _inside(data, default_convert)
    return list(data) if type(data) is tuple else data


def _inside(data: Any, function: Any) -> Any:
    """A container with `function` of each of its elements."""
    if isinstance(data, Mapping):
        return {k: function(v) for k, v in data.items()}
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*(function(v) for v in data))
    if isinstance(data, (tuple, list)):
        return type(data)(function(v) for v in data)
    return data


def default_collate(batch: Sequence[Any]) -> Any:
    """One batch of many samples: tensors and arrays stacked, numbers as a tensor, containers element by element.

    A tuple of (image, label) samples becomes a list of their batches; floats become float64, ints int64; strings stay.
    RuntimeError for shapes or lengths that differ, TypeError for what cannot be in a batch.
    """
    first = batch[0]
    if isinstance(first, Traced) or is_array(first):
        arrays = [x.array if isinstance(x, Traced) else x for x in batch]
        shapes = {a.shape for a in arrays}
        if len(shapes) != 1:
            raise RuntimeError(f"collate: wanted samples of one shape, saw {' and '.join(map(str, sorted(shapes)))}")
        return wrap(namespace(arrays[0]).stack(arrays))
    if isinstance(first, (np.generic, bool, int)):
        return wrap(np.array(batch))
    if isinstance(first, float):
        return wrap(np.array(batch, np.float64))
    if isinstance(first, (str, bytes)):
        return batch
    if isinstance(first, Mapping):
        return {k: default_collate([sample[k] for sample in batch]) for k in first}
    if isinstance(first, (tuple, list)):
        lengths = {len(sample) for sample in batch}
        if len(lengths) != 1:
            raise RuntimeError(f"collate: wanted samples of one length, saw {' and '.join(map(str, sorted(lengths)))}")
        columns = [default_collate(column) for column in zip(*batch, strict=True)]
        return type(first)(*columns) if hasattr(first, "_fields") else columns
    raise TypeError(f"collate: wanted tensors, arrays, numbers, strings or containers, saw {type(first).__name__}")


def each_tensor(data: Any, function: Any) -> Any:
    """A batch with `function` of each of its tensors."""
    return function(data) if isinstance(data, Traced) else _inside(data, lambda v: each_tensor(v, function))
