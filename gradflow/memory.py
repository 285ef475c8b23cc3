"""A tensor's memory: its storage, how its elements lie there, and changes of its shape in place."""

from __future__ import annotations

import math
import operator
from typing import Any, Self

import numpy as np

from . import backend, formats
from .op import current, wrap
from .ops import shape as shapes
from .ops import strided as strides
from .tape import Leaf, Traced, Version, mode
from .writes import Writable, data_ptr


class Storage:
    """The memory that tensors share, as bytes (untyped) or as elements of a dtype."""

    def __init__(self, array: Any, dtype: Any = None) -> None:
        self.array, self.dtype = array, dtype

    @property
    def device(self) -> backend.device:
        """Where the memory is."""
        return backend.device_of(self.array)

    def data_ptr(self) -> int:
        """The address of the first byte."""
        return strides.bounds(self.array)[0]

    def nbytes(self) -> int:
        """How many bytes there are."""
        low, high = strides.bounds(self.array)
        return high - low

    def element_size(self) -> int:
        """Bytes per element: 1 for bytes."""
        return 1 if self.dtype is None else self.dtype.itemsize

    def size(self) -> int:
        """How many elements there are: bytes, if untyped."""
        return self.nbytes() // self.element_size()

    def untyped(self) -> Storage:
        """The same memory as bytes."""
        return Storage(self.array)

    _flat = property(lambda self: _elements(self.array, self.dtype or backend.uint8))

    def tolist(self) -> list:
        """The elements as Python numbers."""
        return self._flat.tolist()

    def __getitem__(self, i: Any) -> Any:
        return self._flat[i].item() if hasattr(i, "__index__") else self._flat[i]

    def __setitem__(self, i: Any, value: Any) -> None:
        self._flat[i] = value

    def __len__(self) -> int:
        return self.size()

    def __iter__(self) -> Any:
        return iter(self.tolist())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Storage) and self.data_ptr() == other.data_ptr() and self.dtype == other.dtype

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        kind = "bytes" if self.dtype is None else str(self.dtype)
        return f"<storage of {self.size()} {kind} on {self.device}>"


def _elements(a: Any, dtype: Any) -> Any:
    """All memory between an array's first and last element, as a vector of a dtype."""
    xp, (low, high) = backend.namespace(a), strides.bounds(a)
    n = (high - low) // a.itemsize
    flat = xp.lib.stride_tricks.as_strided(a, (n,), (a.itemsize,)) if n else xp.empty(0, a.dtype)
    return flat.view(dtype)


class Stored(Writable):
    """The part of Tensor that knows its memory."""

    is_sparse = is_sparse_csr = is_quantized = is_mkldnn = is_meta = is_nested = is_mps = is_xpu = is_ipu = False
    layout = formats.strided

    @property
    def is_cpu(self) -> bool:
        """Whether it is on the CPU."""
        return not backend.on_card(self.array)

    @property
    def names(self) -> tuple:
        """The names of its dimensions: it has none."""
        return (None,) * self.array.ndim

    def has_names(self) -> bool:
        """Whether its dimensions have names: they have not."""
        return False

    def is_pinned(self, device: Any = None) -> bool:
        """Whether it lies in page-locked memory, from which the card copies by itself."""
        return backend.is_pinned(self.array)

    def pin_memory(self, device: Any = None) -> Self:
        """A copy in page-locked memory, from which to(device, non_blocking=True) copies beside the card's work; itself where
        there is no card. RuntimeError for a tensor on the card.
        """
        if backend.card() is None or self.is_pinned():
            return self
        return wrap(backend.pinned(self.array))

    def is_shared(self) -> bool:
        """Whether other processes see its memory: they do not."""
        return False

    def share_memory_(self) -> Self:
        """Itself: processes of a data loader get their data another way."""
        return self

    def is_inference(self) -> bool:
        """Whether it was made under inference_mode."""
        from .autograd import is_inference

        return is_inference(self)

    def is_distributed(self) -> bool:
        """Whether it is spread over several machines: it is not."""
        return False

    def is_coalesced(self) -> bool:
        """RuntimeError: it is dense."""
        raise RuntimeError("is_coalesced: wanted a sparse tensor, saw a dense one")

    def to_dense(self, dtype: Any = None) -> Any:
        """Itself, which is dense; with another dtype if one is given."""
        return self if dtype is None else self.to(dtype)  # type: ignore[attr-defined]

    def dense_dim(self) -> int:
        """The number of dense dimensions: all."""
        return self.array.ndim

    def sparse_dim(self) -> int:
        """The number of sparse dimensions: none."""
        return 0

    # --- where its elements lie -------------------------------------------------------------------------

    def data_ptr(self) -> int:
        """The address of the first element."""
        return data_ptr(self.array)

    const_data_ptr = data_ptr

    @property
    def _base(self) -> Any:
        """The tensor whose memory it is a view of, if there is one."""
        t = self
        while t.source is not None:
            t = t.source.base
        return None if t is self else t

    def _is_view(self) -> bool:
        """Whether it is a view of another tensor's memory."""
        return self.source is not None

    def stride(self, dim: int | None = None) -> Any:
        """Steps between neighbours, in elements."""
        steps = tuple(s // self.array.itemsize for s in self.array.strides)
        if dim is None:
            return steps
        if not -len(steps) <= dim < len(steps):
            raise IndexError(f"stride: wanted a dimension of {len(steps)}, saw {dim}")
        return steps[dim]

    def storage_offset(self) -> int:
        """How many elements lie in its storage before its first."""
        return strides.storage_offset(self)

    def untyped_storage(self) -> Storage:
        """Its storage as bytes."""
        return Storage(strides.whole(self))

    def storage(self) -> Storage:
        """Its storage as elements of its dtype."""
        return Storage(strides.whole(self), self.array.dtype)

    def is_contiguous(self, memory_format: Any = formats.contiguous_format) -> bool:
        """Whether its elements lie in memory in the order of the format, C order unless given, without gaps."""
        if memory_format is formats.contiguous_format:
            return bool(self.array.flags.c_contiguous)
        return formats.follows("is_contiguous", self, memory_format)

    def contiguous(self, memory_format: Any = formats.contiguous_format) -> Any:
        """Itself with its elements in the order of a memory format, C order unless given; a copy if they are not."""
        if memory_format is formats.contiguous_format:
            return shapes.contiguous(self)
        return formats.in_format("contiguous", self, memory_format, copy=False)

    def clone(self, *, memory_format: Any = None) -> Any:
        """A copy in memory of its own, in the order of a memory format if one is given."""
        if memory_format is None:
            return shapes.clone(self)
        return formats.in_format("clone", self, memory_format, copy=True)

    def dim_order(self) -> tuple[int, ...]:
        """Its dimensions in the order in which they lie in memory, the outermost first."""
        return tuple(sorted(range(self.array.ndim), key=lambda d: -abs(self.array.strides[d])))

    def is_set_to(self, tensor: Any) -> bool:
        """Whether it is the same elements of the same memory."""
        a, b = self.array, tensor.array
        return (data_ptr(a), a.shape, a.strides, a.dtype) == (data_ptr(b), b.shape, b.strides, b.dtype)

    def is_same_size(self, other: Any) -> bool:
        """Whether it has the shape of `other`."""
        return self.array.shape == other.array.shape

    # --- seen otherwise, in place -----------------------------------------------------------------------

    def _become(self, name: str, function: Any, *args: Any) -> Self:
        """Be from now on what `function` shows of self: a view of the same memory."""
        if mode.enabled and type(current(self)) is Leaf:
            raise RuntimeError(f"{name}: wanted a tensor that is no leaf requiring a gradient, saw one; use a copy")
        old = wrap(self.array, self.node)
        old.version, old.source, old.whole = self.version, self.source, self.whole
        new = function(old, *args)
        if type(self.node) is Leaf:
            self.node.shape = new.array.shape
        elif new.node is not None or self.source is not None:
            self.node, self.source = new.node, new.source
        self.array = new.array
        return self

    def unsqueeze_(self, dim: int) -> Self:
        """unsqueeze, of self in place."""
        return self._become("unsqueeze_", shapes.unsqueeze, dim)

    def squeeze_(self, dim: Any = None) -> Self:
        """squeeze, of self in place."""
        return self._become("squeeze_", shapes.squeeze, dim)

    def transpose_(self, dim0: int, dim1: int) -> Self:
        """transpose, of self in place."""
        return self._become("transpose_", shapes.transpose, dim0, dim1)

    swapaxes_ = swapdims_ = transpose_

    def t_(self) -> Self:
        """t, of self in place."""
        return self._become("t_", shapes.t)

    def as_strided_(self, size: Any, stride: Any, storage_offset: int | None = None) -> Self:
        """as_strided, of self in place."""
        return self._become("as_strided_", strides.as_strided, size, stride, storage_offset)

    def resize_(self, *sizes: Any, memory_format: Any = None) -> Self:
        """Be of another size, on the same memory if there is enough, else with new memory behind what was there.
        RuntimeError for a tensor that requires a gradient.
        """
        size = tuple(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else sizes
        size = tuple(operator.index(n) for n in size)
        if any(n < 0 for n in size):
            raise RuntimeError(f"resize_: wanted sizes of at least 0, saw {size}")
        if size == self.array.shape:
            return self
        if current(self) is not None:
            raise RuntimeError("resize_: wanted a tensor that requires no gradient, saw one that does")
        a, xp, n, start = self.array, backend.namespace(self.array), math.prod(size), self.storage_offset()
        memory = _elements(strides.whole(self), a.dtype)
        if start + n > memory.size:
            more = xp.zeros(start + n, a.dtype)
            more[: memory.size] = memory
            memory, self.version, self.source, self.whole = more, Version(), None, None
        whole = memory
        self.array = memory[start : start + n].reshape(size)
        if self.source is None:
            self.whole = whole if whole.size != n else None
        return self

    def resize_as_(self, the_template: Any, memory_format: Any = None) -> Self:
        """Be of another tensor's size."""
        return self.resize_(*the_template.array.shape)

    def set_(self, source: Any = None, storage_offset: int = 0, size: Any = None, stride: Any = ()) -> Self:
        """Be the memory of a tensor or a storage from now on, or of nothing; a storage from an offset on with a size.
        RuntimeError for another dtype, or a tensor that requires a gradient.
        """
        if current(self) is not None and mode.enabled:
            raise RuntimeError("set_: wanted a tensor that requires no gradient, saw one that does")
        if source is None:
            self.array, self.version = np.empty(0, self.array.dtype), Version()
        elif isinstance(source, Traced):
            if source.array.dtype != self.array.dtype:
                raise RuntimeError(f"set_: wanted a source of {self.array.dtype}, saw {source.array.dtype}")
            if size is not None:
                source = strides.as_strided(source, size, stride or _steps(size), storage_offset)
            self.array, self.version, self.source, self.whole = source.array, source.version, source.source, source.whole
            return self
        else:
            flat = _elements(source.array, self.array.dtype)
            size = (flat.size - storage_offset,) if size is None else tuple(size)
            t = strides.as_strided(wrap(flat), size, stride or _steps(size), storage_offset)
            self.array, self.version = t.array, Version()
            self.source, self.whole = None, flat
            return self
        self.source = self.whole = None
        return self

    def fill_diagonal_(self, fill_value: Any, wrap: bool = False) -> Self:
        """Write a number onto the diagonal of a matrix, or of a tensor all of whose dimensions are equal; wrap goes on below
        a tall matrix's diagonal, one row left out. RuntimeError for a vector or other sizes.
        """
        a = self.array
        if a.ndim < 2 or (a.ndim > 2 and len(set(a.shape)) > 1):
            raise RuntimeError(f"fill_diagonal_: wanted a matrix or equal dimensions, saw shape {tuple(a.shape)}")
        xp, n = backend.namespace(a), a.shape[-1]
        rows = xp.arange(min(a.shape))
        if wrap and a.ndim == 2 and a.shape[0] > n:
            rows = xp.arange(a.shape[0])
            rows = rows[rows % (n + 1) < n]
        columns = rows % (n + 1)
        return self._write("fill_diagonal_", fill_value, (rows, *[columns] * (a.ndim - 1)))

    def resize(self, *sizes: Any) -> Any:
        """Its elements as another size: resize_ that leaves self as it is, where there is enough memory."""
        return self.reshape(*sizes)  # type: ignore[attr-defined]

    def resize_as(self, tensor: Any) -> Any:
        """Its elements in the size of another tensor."""
        return self.reshape(tensor.array.shape)  # type: ignore[attr-defined]

    # --- Python functions, element by element ------------------------------------------------------------

    def apply_(self, callable: Any) -> Self:
        """Write callable(element) for each element into self. TypeError on the card."""
        return self._write("apply_", wrap(_each("apply_", callable, self.array)))

    def map_(self, tensor: Any, callable: Any) -> Self:
        """Write callable(element, other) for each element and that of a tensor that broadcasts into self."""
        return self._write("map_", wrap(_each("map_", callable, self.array, tensor.array)))

    def map2_(self, x: Any, y: Any, callable: Any) -> Self:
        """Write callable(element, a, b) for each element and those of two tensors that broadcast into self."""
        return self._write("map2_", wrap(_each("map2_", callable, self.array, x.array, y.array)))


def _steps(size: Any) -> tuple[int, ...]:
    """The strides of C order."""
    return tuple(math.prod(tuple(size)[i + 1 :]) for i in range(len(tuple(size))))


def _each(name: str, function: Any, *arrays: Any) -> np.ndarray:
    if any(backend.on_card(a) for a in arrays):
        raise TypeError(f"{name}: wanted tensors on the cpu, saw one on the card")
    first = arrays[0]
    if any(np.broadcast_shapes(first.shape, a.shape) != first.shape for a in arrays):
        raise RuntimeError(f"{name}: wanted tensors that broadcast to {first.shape}, saw {[a.shape for a in arrays]}")
    columns = [np.broadcast_to(a, first.shape).reshape(-1).tolist() for a in arrays]
    values = [function(*row) for row in zip(*columns, strict=True)]
    return np.asarray(values, first.dtype).reshape(first.shape)
