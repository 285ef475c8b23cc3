"""Sequences of unequal length: padded to one length, or packed step by step for recurrent layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from ... import backend
from ...op import wrap
from ...ops import join, rnn, shape
from ...tape import Traced
from ..parameter import filled


class _Packed(NamedTuple):
    data: Any
    batch_sizes: Any
    sorted_indices: Any = None
    unsorted_indices: Any = None


class PackedSequence(_Packed):
    """Several sequences, longest first, as all their first steps, then all their second ones, and so on.

    data              (sum of lengths, ...)
    batch_sizes       how many sequences reach each step, int64 on the CPU
    sorted_indices    which sequence stands at each place, or None if they were sorted already
    unsorted_indices  at which place each sequence stands, or None; worked out unless given
    """

    __slots__ = ()

    def __new__(
        cls, data: Any, batch_sizes: Any = None, sorted_indices: Any = None, unsorted_indices: Any = None
    ) -> Self:
        if batch_sizes is None:  # PyTorch's first way: PackedSequence((data, batch_sizes))
            data, batch_sizes = data
        elif isinstance(batch_sizes, Traced) and batch_sizes.is_cuda:  # type: ignore[attr-defined]
            raise ValueError("PackedSequence: wanted batch_sizes on the CPU, saw them on the card")
        if unsorted_indices is None:
            unsorted_indices = invert_permutation(sorted_indices)
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """Itself on another device or with another dtype."""
        data = self.data.to(*args, **kwargs)
        if data is self.data:
            return self
        moved = (None if i is None else i.to(data.device) for i in (self.sorted_indices, self.unsorted_indices))
        return PackedSequence(data, self.batch_sizes, *moved)

    def cpu(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """Itself on the CPU."""
        return self.to("cpu", *args, **kwargs)

    def cuda(self, device: Any = None, *args: Any, **kwargs: Any) -> PackedSequence:
        """Itself on the card."""
        where = backend.device("cuda", device) if isinstance(device, int) else device or "cuda"
        return self.to(where, *args, **kwargs)

    def pin_memory(self) -> PackedSequence:
        """Itself, its data in page-locked memory where the tensor can be put there."""
        return PackedSequence(self.data.pin_memory(), *self[1:])

    def is_pinned(self) -> bool:
        """Whether its data is in page-locked memory."""
        return self.data.is_pinned()

    def double(self) -> PackedSequence:
        """Its data as float64."""
        return self.to(backend.float64)

    def float(self) -> PackedSequence:
        """Its data as float32."""
        return self.to(backend.float32)

    def half(self) -> PackedSequence:
        """Its data as float16."""
        return self.to(backend.float16)

    def long(self) -> PackedSequence:
        """Its data as int64."""
        return self.to(backend.int64)

    def int(self) -> PackedSequence:
        """Its data as int32."""
        return self.to(backend.int32)

    def short(self) -> PackedSequence:
        """Its data as int16."""
        return self.to(backend.int16)

    def char(self) -> PackedSequence:
        """Its data as int8."""
        return self.to(backend.int8)

    def byte(self) -> PackedSequence:
        """Its data as uint8."""
        return self.to(backend.uint8)

    @property
    def is_cuda(self) -> bool:
        """Whether it is on the card."""
        return self.data.is_cuda

    @property
    def sizes(self) -> tuple:
        """batch_sizes as a tuple."""
        return tuple(self.batch_sizes.tolist())


def invert_permutation(permutation: Any) -> Any:
    """The permutation that undoes one (n,), or None for None."""
    if permutation is None:
        return None
    xp = backend.namespace(permutation.array)
    inverse = xp.empty_like(permutation.array)
    inverse[permutation.array] = xp.arange(len(inverse), dtype=inverse.dtype)
    return wrap(inverse)


def _lengths(name: str, lengths: Any) -> np.ndarray:
    array = backend.asnumpy(lengths.array) if isinstance(lengths, Traced) else np.asarray(lengths)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(f"{name}: wanted a list of integer lengths, saw {array.dtype} of shape {array.shape}")
    return array.astype(np.int64)


def _on(array: np.ndarray, where: backend.device) -> Any:
    """A tensor of indices on a device."""
    return wrap(backend.to_device(array, where))


def pack_padded_sequence(
    input: Any, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """Pack sequences padded to one length: input (t, n, ...) or, batch first, (n, t, ...), lengths (n).

    RuntimeError if enforce_sorted and the lengths are not from longest to shortest, if one is not positive or does not
    fit into t, or if there are not n.
    """
    lengths = _lengths("pack_padded_sequence", lengths)
    if batch_first:
        input = shape.transpose(input, 0, 1)
    t, n = input.shape[:2]
    if len(lengths) != n:
        raise RuntimeError(f"pack_padded_sequence: wanted {n} lengths, one per sequence, saw {len(lengths)}")
    if n == 0 or lengths.min() <= 0 or lengths.max() > t:
        raise RuntimeError(f"pack_padded_sequence: wanted lengths between 1 and {t}, saw {lengths.tolist()}")
    order = unorder = None
    if not enforce_sorted:
        order = np.argsort(-lengths, kind="stable")
        unorder = np.argsort(order)
        lengths = lengths[order]
        order, unorder = _on(order, input.device), _on(unorder, input.device)
        input = input[:, order]
    elif (np.diff(lengths) > 0).any():
        raise RuntimeError(
            f"pack_padded_sequence: wanted lengths from longest to shortest, saw {lengths.tolist()}; "
            "pass enforce_sorted=False to have them sorted"
        )
    sizes = (lengths > np.arange(lengths[0])[:, None]).sum(1)
    data = rnn.pack_padded(input, tuple(sizes.tolist()))
    return PackedSequence(data, wrap(sizes.astype(np.int64)), order, unorder)


def pad_packed_sequence(
    sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0, total_length: int | None = None
) -> tuple[Any, Any]:
    """(padded, lengths): the sequences in their first order as (t, n, ...), or (n, t, ...), and their lengths.

    ValueError for a total_length below the longest sequence.
    """
    sizes = sequence.sizes
    t = len(sizes)
    if total_length is not None and total_length < t:
        raise ValueError(f"pad_packed_sequence: wanted a total_length of at least {t}, saw {total_length}")
    padded = rnn.pad_packed(sequence.data, sizes, (total_length or t, sizes[0]), padding_value)
    lengths = (np.arange(sizes[0]) < np.asarray(sizes)[:, None]).sum(0).astype(np.int64)
    if sequence.unsorted_indices is not None:
        padded = padded[:, sequence.unsorted_indices]
        lengths = lengths[backend.asnumpy(sequence.unsorted_indices.array)]
    return shape.transpose(padded, 0, 1) if batch_first else padded, wrap(lengths)


def pad_sequence(
    sequences: Sequence[Any], batch_first: bool = False, padding_value: float = 0.0, padding_side: str = "right"
) -> Any:
    """Sequences (t_i, ...) padded to the longest, as (t, n, ...) or, batch first, (n, t, ...)."""
    if padding_side not in ("right", "left"):
        raise RuntimeError(f"pad_sequence: wanted padding_side 'right' or 'left', saw {padding_side!r}")
    if not isinstance(sequences, Traced) and not hasattr(sequences, "__iter__"):
        raise RuntimeError(f"pad_sequence: wanted several tensors, saw {type(sequences).__name__}")
    sequences = list(sequences)
    if not sequences:
        raise RuntimeError("pad_sequence: wanted at least one tensor, saw none")
    longest = max(s.shape[0] for s in sequences)
    padded = []
    for s in sequences:
        padding = filled((longest - s.shape[0], *s.shape[1:]), padding_value, s.dtype, s.device)
        padded.append(join.cat([s, padding] if padding_side == "right" else [padding, s]))
    return join.stack(padded, 0 if batch_first else 1)


def pack_sequence(sequences: Sequence[Any], enforce_sorted: bool = True) -> PackedSequence:
    """Pack sequences (t_i, ...). RuntimeError if enforce_sorted and they are not from longest to shortest."""
    lengths = [s.shape[0] for s in sequences]
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def unpad_sequence(padded_sequences: Any, lengths: Any, batch_first: bool = False) -> list[Any]:
    """Padded sequences cut to their lengths again."""
    if not batch_first:
        padded_sequences = shape.transpose(padded_sequences, 0, 1)
    return [s[:n] for s, n in zip(padded_sequences, _lengths("unpad_sequence", lengths).tolist(), strict=True)]


def unpack_sequence(packed_sequences: PackedSequence) -> list[Any]:
    """The sequences that were packed."""
    return unpad_sequence(*pad_packed_sequence(packed_sequences, batch_first=True), batch_first=True)
