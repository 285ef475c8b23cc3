"""The public face: an array and its place on the tape, with torch's method names."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator
from sys import getrefcount
from typing import Any, Self

import numpy as np

from . import backend, formats, names, traced
from .backend import Array, device, is_differentiable
from .chance import Chance
from .memory import Stored
from .op import current, wrap
from .ops import arrange, combined, extreme, linalg, mask, pointwise, reduce, scan
from .ops import gather as gathering  # a tensor has attributes of these names
from .ops import shape as shapes
from .ops import sort as sorting
from .ops.layout import copied
from .ops.strided import whole
from .tape import Leaf, Node, Output, Traced, mode
from .writes import in_place

_NO_NUMBERS = (type(None), str, list, tuple, dict, set)  # to which a tensor is never equal


def _holders(x: object) -> int:
    return getrefcount(x)


_ALONE = _holders(object())  # what a function sees of an argument that nobody else holds: versions of Python count differently


def _whole(g: Array, x: Array) -> bool:
    """Whether an array lies as x does and is all of a memory that no other array has."""
    base = g.base
    if base is not None and (type(base) is not type(g) or base.size != g.size or getrefcount(base) > _ALONE + 1):
        return False
    lies = g.flags.c_contiguous if x.flags.c_contiguous else g.strides == x.strides
    return lies and (g if base is None else base).flags.owndata


class Tensor(Chance, Stored):
    """An n-dimensional array of one dtype on one device, and how it was computed.

    array    the NumPy or CuPy array itself
    grad     the gradient that backward accumulated, for a leaf
    node     its place on the tape: None unless it requires a gradient
    """

    grad: Tensor | None = None
    __hash__ = object.__hash__
    __array_priority__ = 1000  # NumPy leaves `array * tensor` to the tensor

    def __init__(self, *data: Any, dtype: Any = None, device: Any = None) -> None:
        """Tensor([1, 2]) of data, in the default dtype; Tensor(2, 3) of a size, not set; Tensor(t) on the memory of t."""
        from .legacy import filled_from

        t = filled_from("Tensor", data, np.dtype(dtype or backend.get_default_dtype()), device)
        self.array, self.node, self.version = t.array, None, t.version

    # --- what it is -------------------------------------------------------------------------------

    @property
    def shape(self) -> Size:
        """The sizes of its dimensions."""
        return Size(self.array.shape)

    @property
    def dtype(self) -> np.dtype:
        """The dtype of its elements."""
        return self.array.dtype

    @property
    def device(self) -> device:
        """Where its array lives."""
        return backend.device_of(self.array)

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return self.array.ndim

    @property
    def itemsize(self) -> int:
        """Bytes per element."""
        return self.array.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.array.nbytes

    @property
    def is_cuda(self) -> bool:
        """Whether it is on the card."""
        return backend.on_card(self.array)

    def size(self, dim: int | None = None) -> Any:
        """The sizes, or the size of one dimension."""
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        """The number of dimensions."""
        return self.array.ndim

    def numel(self) -> int:
        """The number of elements."""
        return self.array.size

    nelement, ndimension = numel, dim

    def get_device(self) -> int:
        """The number of the card it is on, -1 for the CPU."""
        return (self.device.index or 0) if self.is_cuda else -1

    def is_nonzero(self) -> bool:
        """Whether its one element is not zero. RuntimeError unless it has one element."""
        return bool(self)

    def is_signed(self) -> bool:
        """Whether its dtype has numbers below zero."""
        return self.array.dtype.kind not in "ub"

    def element_size(self) -> int:
        """Bytes per element."""
        return self.array.itemsize

    def is_floating_point(self) -> bool:
        """Whether its dtype is a real floating type."""
        return backend.is_floating(self.array.dtype)

    def is_complex(self) -> bool:
        """Whether its dtype is complex."""
        return self.array.dtype.kind == "c"

    # --- its place on the tape --------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        """Whether gradients with respect to it can be asked for; set it on a leaf to ask."""
        return current(self) is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Ask, or stop asking, for gradients with respect to this leaf. RuntimeError if it is not a leaf or not floating."""
        if not self.is_leaf:
            if requires_grad:
                return self
            raise RuntimeError("requires_grad_: only a leaf can stop asking for its gradient; use detach()")
        if not requires_grad:
            self.node = None
        elif self.node is None:
            if not is_differentiable(self.array.dtype):
                raise RuntimeError(f"requires_grad_: wanted a floating or complex dtype, saw {self.array.dtype}")
            if self.source is not None:
                self.whole = whole(self)
            self.node, self.source = Leaf(self), None
        return self

    @property
    def is_leaf(self) -> bool:
        """Whether no recorded op made it."""
        node = current(self)
        return node is None or type(node) is Leaf

    @property
    def grad_fn(self) -> Node | None:
        """The node that made it; None for a leaf."""
        node = current(self)
        return None if node is None or type(node) is Leaf else node.edges[0] if type(node) is Output else node

    @property
    def output_nr(self) -> int:
        """Which output of its node it is."""
        return getattr(current(self), "index", 0)

    @property
    def _version(self) -> int:
        return self.version.number

    def backward(
        self,
        gradient: Any = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        inputs: Any = None,
    ) -> None:
        """Add d(self)/d(leaf), contracted with `gradient`, to the grad of every leaf it depends on (or of `inputs`).

        gradient defaults to 1 for a tensor of one element. RuntimeError if nothing requires a gradient, if the graph was
        freed by an earlier call without retain_graph, or if a value it needs was written in place.
        """
        from .autograd.gradient import backward

        backward(self, gradient, retain_graph, create_graph, inputs)

    def detach(self) -> Tensor:
        """The same memory with no place on the tape; a write to either is noticed by both."""
        t = wrap(self.array)
        t.version = self.version
        if self.source is not None or self.whole is not None:
            t.whole = whole(self)
        return t

    def detach_(self) -> Tensor:
        """Forget its place on the tape."""
        self.node, self.source = None, None
        return self

    @property
    def data(self) -> Tensor:
        """The same memory with no place on the tape, and no version in common: writes to it go unnoticed."""
        t = wrap(self.array)
        if self.source is not None or self.whole is not None:
            t.whole = whole(self)
        return t

    @data.setter
    def data(self, value: Tensor) -> None:
        self.array = value.array
        if self.node is not None and type(self.node) is Leaf:
            hooks, self.node = self.node.hooks, Leaf(self)
            self.node.hooks = hooks

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
        """Call hook(gradient) when this tensor's gradient is known; what it returns, if anything, takes its place."""
        node = current(self)
        if node is None:
            raise RuntimeError("register_hook: the tensor does not require a gradient")

        def on_array(g: Any, create: bool) -> Any:
            if create:
                result = hook(g)
                return g if result is None else result
            with tape_off():
                result = hook(wrap(g))
            return g if result is None else result.array

        node.hooks = node.hooks if node.hooks is not None else {}
        return RemovableHandle(node.hooks, on_array)

    def register_post_accumulate_grad_hook(self, hook: Callable[[Tensor], None]) -> RemovableHandle:
        """Call hook(self) when backward has added to this leaf's grad. RuntimeError if it is not a leaf that asked for one."""
        if type(self.node) is not Leaf:
            raise RuntimeError("register_post_accumulate_grad_hook: wanted a leaf that requires a gradient")
        return RemovableHandle(self.__dict__.setdefault("_after", {}), hook)

    def retain_grad(self) -> None:
        """Keep this tensor's gradient in grad although it is not a leaf. RuntimeError if it requires none."""
        from weakref import ref

        node = current(self)
        if node is None:
            raise RuntimeError("retain_grad: the tensor does not require a gradient")
        if type(node) is Leaf or self.__dict__.get("retains_grad"):
            return
        self.retains_grad = True
        me = ref(self)

        def keep(g: Any, create: bool) -> Any:
            t = me()
            if t is not None:
                t._receive(g, create)
            return g

        node.hooks = node.hooks if node.hooks is not None else {}
        node.hooks[object()] = keep

    retains_grad = False

    def _receive(self, g: Any, create: bool) -> None:
        """Add an arrived gradient to grad, in an array of grad's own."""
        if backend.capture.graph is not None:
            backend.capture.graph.leaf(self)
        if create:
            self.grad = g if self.grad is None else self.grad + g
        elif self.grad is None:
            # The gradient may be shared with another leaf or be a view of one number: then keep a copy of our own.
            if not (isinstance(g, np.ndarray) or backend.on_card(g)):
                g = np.asarray(g)
            elif getrefcount(g) > _ALONE or not _whole(g, self.array):
                g = copied(g, self.array)
            self.grad = wrap(g)
        elif self.grad.node is not None:
            self.grad = self.grad + wrap(g)
        else:
            # PyTorch adds in place, so that whoever holds .grad sees it grow.
            self.grad.array += g
            self.grad.version.bump()

    # --- to and from the rest of the world ----------------------------------------------------------

    def _plain(self, what: str) -> Array:
        if current(self) is not None:
            raise RuntimeError(f"{what}: the tensor requires a gradient, which would be lost; use detach() first")
        return self.array

    def numpy(self, *, force: builtins.bool = False) -> np.ndarray:
        """Its NumPy array, sharing memory. RuntimeError if it requires a gradient, TypeError if it is on the card; force
        detaches and copies it instead.
        """
        if force:
            return backend.asnumpy(self.array)
        array = self._plain("numpy")
        if self.is_cuda:
            raise TypeError("numpy: the tensor is on the card; use cpu() first")
        return array

    def __array__(self, dtype: Any = None, copy: builtins.bool | None = None) -> np.ndarray:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: builtins.bool = False) -> Tensor:
        """What NumPy's function of a tensor came to, as a tensor."""
        return wrap(np.asarray(array))

    @property
    def __cuda_array_interface__(self) -> dict:
        if not self.is_cuda:
            raise AttributeError("__cuda_array_interface__: the tensor is on the CPU")
        return self._plain("__cuda_array_interface__").__cuda_array_interface__

    def __dlpack__(self, **kwargs: Any) -> Any:
        if current(self) is not None:
            raise BufferError("__dlpack__: the tensor requires a gradient, which would be lost; use detach() first")
        return self.array.__dlpack__(**kwargs)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()

    def item(self) -> Any:
        """Its one element as a Python number; waits for the card. RuntimeError unless it has one element."""
        if self.array.size != 1:
            raise RuntimeError(f"item: wanted a tensor of one element, saw shape {tuple(self.array.shape)}")
        return self.array.item()

    def tolist(self) -> Any:
        """Its elements as nested lists of Python numbers."""
        return self.array.tolist()

    def cpu(self, memory_format: Any = None) -> Tensor:
        """Itself on the CPU."""
        return self.to("cpu", memory_format=memory_format)

    def cuda(self, device: Any = None, non_blocking: bool = False, memory_format: Any = None) -> Tensor:
        """Itself on the card."""
        where = backend.device("cuda", device) if isinstance(device, int) else device or "cuda"
        return self.to(where, non_blocking=non_blocking, memory_format=memory_format)

    def to(
        self,
        *args: Any,
        dtype: Any = None,
        device: Any = None,
        non_blocking: bool = False,
        copy: bool = False,
        memory_format: Any = None,
        other: Any = None,
    ) -> Tensor:
        """Itself with another dtype and/or on another device, with its elements in the order of a memory format: to(dtype),
        to(device), to(device, dtype), to(other).
        """
        flags = 0
        for a in (*args, other):
            if isinstance(a, Traced):
                dtype, device = a.array.dtype, backend.device_of(a.array)
            elif isinstance(a, (str, backend.device)) and (
                isinstance(a, backend.device) or a.startswith(("cpu", "cuda"))
            ):
                device = a
            elif isinstance(a, bool):
                non_blocking, copy, flags = (a, copy, 1) if not flags else (non_blocking, a, 2)
            elif type(a) is int:
                device = backend.device("cuda", a)
            elif a is not None:
                try:
                    dtype = np.dtype(a)
                except TypeError:
                    raise RuntimeError(f"to: wanted a dtype, or a device 'cpu', 'cuda' or 'cuda:N', saw {a!r}") from None
        t = self
        if device is not None and backend.device(device) != t.device:
            t = shapes.move(t, backend.device(device), non_blocking)
        if dtype is not None and np.dtype(dtype) != t.array.dtype:
            t = pointwise.cast(t, np.dtype(dtype))
        if memory_format is not None:
            return formats.in_format("to", t, memory_format, copy=copy and t is self)
        return t.clone() if copy and t is self else t

    def type(self, dtype: Any = None, non_blocking: bool = False) -> Any:
        """Itself with another dtype, or that of a class or its name; without one, the name of its own class."""
        from .legacy import dtype_called, type_name

        return type_name(self.array) if dtype is None else self.to(dtype_called(dtype))

    def float(self, memory_format: Any = None) -> Tensor:
        """Itself as float32."""
        return self.to(backend.float32, memory_format=memory_format)

    def double(self, memory_format: Any = None) -> Tensor:
        """Itself as float64."""
        return self.to(backend.float64, memory_format=memory_format)

    def half(self, memory_format: Any = None) -> Tensor:
        """Itself as float16."""
        return self.to(backend.float16, memory_format=memory_format)

    def int(self, memory_format: Any = None) -> Tensor:
        """Itself as int32."""
        return self.to(backend.int32, memory_format=memory_format)

    def short(self, memory_format: Any = None) -> Tensor:
        """Itself as int16."""
        return self.to(backend.int16, memory_format=memory_format)

    def char(self, memory_format: Any = None) -> Tensor:
        """Itself as int8."""
        return self.to(backend.int8, memory_format=memory_format)

    def byte(self, memory_format: Any = None) -> Tensor:
        """Itself as uint8."""
        return self.to(backend.uint8, memory_format=memory_format)

    def bfloat16(self, memory_format: Any = None) -> Tensor:
        """Itself as bfloat16."""
        return self.to(backend.bfloat16(), memory_format=memory_format)

    def cfloat(self, memory_format: Any = None) -> Tensor:
        """Itself as complex64."""
        return self.to(backend.complex64, memory_format=memory_format)

    def chalf(self, memory_format: Any = None) -> Tensor:
        """RuntimeError: there is no complex dtype of two half floats here."""
        raise RuntimeError("chalf: wanted complex64 or complex128, as there is no complex dtype of half floats; use cfloat()")

    def cdouble(self, memory_format: Any = None) -> Tensor:
        """Itself as complex128."""
        return self.to(backend.complex128, memory_format=memory_format)

    def type_as(self, other: Tensor) -> Tensor:
        """Itself with the dtype, and on the device, of `other`."""
        return self.to(other)

    def long(self, memory_format: Any = None) -> Tensor:
        """Itself as int64."""
        return self.to(backend.int64, memory_format=memory_format)

    def bool(self, memory_format: Any = None) -> Tensor:
        """Itself as bool: what is not zero is True."""
        return self.to(backend.bool_, memory_format=memory_format)

    def __repr__(self) -> str:
        from .printing import tensor_text

        return tensor_text(self)

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if self.array.ndim == 0 else object.__format__(self, spec)

    def __len__(self) -> builtins.int:
        if self.array.ndim == 0:
            raise TypeError("len: a 0-d tensor has no length")
        return len(self.array)

    def __iter__(self) -> Iterator[Tensor]:
        if self.array.ndim == 0:
            raise TypeError("iter: a 0-d tensor cannot be iterated over")
        return iter(shapes.unbind(self))

    def __bool__(self) -> builtins.bool:
        if self.array.size != 1:
            raise RuntimeError(
                f"bool: the truth of a tensor of shape {tuple(self.array.shape)} is ambiguous; use any() or all()"
            )
        return bool(self.array.item())

    def __float__(self) -> builtins.float:
        return float(self._one("float"))

    def __complex__(self) -> complex:
        return complex(self._one("complex"))

    def __reversed__(self) -> Tensor:
        return self if self.array.ndim == 0 else arrange.flip(self, 0)

    def __int__(self) -> builtins.int:
        return int(self._one("int"))

    def _one(self, what: str) -> Any:
        if self.array.size != 1:
            raise ValueError(f"{what}: wanted a tensor of one element, saw shape {tuple(self.array.shape)}")
        return self.array.item()

    def __index__(self) -> builtins.int:
        if self.array.size != 1 or self.array.dtype.kind not in "iub":
            raise TypeError(f"index: wanted one integer, saw shape {tuple(self.array.shape)} {self.array.dtype}")
        return int(self.item())

    def __contains__(self, value: Any) -> builtins.bool:
        return bool(pointwise.eq(self, value).array.any())

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Its array and its attributes; not how it was computed."""
        kept = {k: v for k, v in self.__dict__.items() if k not in ("array", "node", "version", "source", "whole", "grad")}
        return unpickled, (self.__class__, backend.asnumpy(self.array), str(self.device), self.requires_grad, kept)

    # --- operators (the hot ones written out, so that a call is one frame above the op's) ---------------

    def __add__(self, other: Any) -> Tensor:
        return pointwise.add(self, other)

    def __sub__(self, other: Any) -> Tensor:
        return pointwise.sub(self, other)

    def __mul__(self, other: Any) -> Tensor:
        return pointwise.mul(self, other)

    def __truediv__(self, other: Any) -> Tensor:
        return pointwise.div(self, other)

    def __matmul__(self, other: Any) -> Tensor:
        return linalg.matmul(self, other)

    def __pow__(self, other: Any) -> Tensor:
        return pointwise.pow(self, other)

    def __neg__(self) -> Tensor:
        return pointwise.neg(self)

    def __rsub__(self, other: Any) -> Tensor:
        return pointwise.sub(other, self)

    def __rtruediv__(self, other: Any) -> Tensor:
        return pointwise.div(other, self)

    __rdiv__ = __rtruediv__

    def __rpow__(self, other: Any) -> Tensor:
        return pointwise.pow(other, self)

    def __rmatmul__(self, other: Any) -> Tensor:
        return linalg.matmul(other, self)

    def __rfloordiv__(self, other: Any) -> Tensor:
        return pointwise.floor_divide(other, self)

    def __rmod__(self, other: Any) -> Tensor:
        return pointwise.remainder(other, self)

    def __eq__(self, other: object) -> Any:
        return NotImplemented if isinstance(other, _NO_NUMBERS) else pointwise.eq(self, other)

    def __ne__(self, other: object) -> Any:
        return NotImplemented if isinstance(other, _NO_NUMBERS) else pointwise.ne(self, other)

    __radd__, __rmul__, __pos__, __abs__, __invert__ = (
        __add__,
        __mul__,
        pointwise.positive,
        pointwise.abs,
        pointwise.bitwise_not,
    )
    __floordiv__, __mod__ = pointwise.floor_divide, pointwise.remainder
    __lt__, __le__, __gt__, __ge__ = pointwise.lt, pointwise.le, pointwise.gt, pointwise.ge
    __and__ = __rand__ = pointwise.bitwise_and
    __or__ = __ror__ = pointwise.bitwise_or
    __xor__ = __rxor__ = pointwise.bitwise_xor

    # --- matrix products ----------------------------------------------------------------------------

    matmul, mm, bmm, mv, dot = linalg.matmul, linalg.mm, linalg.bmm, linalg.mv, linalg.dot
    vdot, inner, outer, ger = linalg.vdot, linalg.inner, linalg.outer, linalg.outer
    addmm, addmv, addr, baddbmm, addbmm = linalg.addmm, linalg.addmv, linalg.addr, linalg.baddbmm, linalg.addbmm

    # --- shifts and complex parts ---------------------------------------------------------------------

    def __lshift__(self, other: Any) -> Tensor:
        from .ops import signs

        return signs.bitwise_left_shift(self, other)

    def __rshift__(self, other: Any) -> Tensor:
        from .ops import signs

        return signs.bitwise_right_shift(self, other)

    def __rlshift__(self, other: Any) -> Tensor:
        from .ops import signs

        return signs.bitwise_left_shift(other, self)

    def __rrshift__(self, other: Any) -> Tensor:
        from .ops import signs

        return signs.bitwise_right_shift(other, self)

    def float_power_(self, exponent: Any) -> Tensor:
        """self^exponent written into self. RuntimeError unless self is float64, or complex128 if one is complex."""
        from .ops import signs

        return signs.float_power_(self, exponent)

    @property
    def real(self) -> Tensor:
        """The real part, in the same memory; what is real, as it is."""
        from .ops import complexes

        return complexes.real(self)

    @real.setter
    def real(self, value: Any) -> None:
        self.real.copy_(value) if isinstance(value, Traced) else self.real.fill_(value)

    @property
    def imag(self) -> Tensor:
        """The imaginary part, in the same memory. RuntimeError unless the numbers are complex."""
        from .ops import complexes

        return complexes.imag(self)

    @imag.setter
    def imag(self, value: Any) -> None:
        self.imag.copy_(value) if isinstance(value, Traced) else self.imag.fill_(value)

    # --- tensors like this one, and random values written into it -----------------------------------------

    def new(self, *data: Any, device: Any = None) -> Tensor:
        """A tensor with self's dtype: new(2, 3) of a size, new([1, 2]) of data, new() empty."""
        from .legacy import filled_from

        return filled_from("new", data, self.dtype, device or self.device)

    def new_tensor(self, data: Any, dtype: Any = None, device: Any = None, **options: Any) -> Tensor:
        """A copy of `data` with self's dtype and device unless given."""
        from .convert import tensor

        return tensor(data, dtype=dtype or self.dtype, device=device or self.device, **options)

    def new_zeros(self, *size: Any, **options: Any) -> Tensor:
        """Zeros of a size, with self's dtype and device unless given."""
        return self._new("zeros", *size, **options)

    def new_ones(self, *size: Any, **options: Any) -> Tensor:
        """Ones of a size, with self's dtype and device unless given."""
        return self._new("ones", *size, **options)

    def new_empty(self, *size: Any, **options: Any) -> Tensor:
        """Memory of a size, not set, with self's dtype and device unless given."""
        return self._new("empty", *size, **options)

    def new_full(self, size: Any, fill_value: Any, dtype: Any = None, device: Any = None, **options: Any) -> Tensor:
        """Every element fill_value, with self's dtype and device unless given."""
        return self._new("full", size, fill_value, dtype=dtype, device=device, **options)

    def new_empty_strided(self, size: Any, stride: Any, **options: Any) -> Tensor:
        """Memory for a size with the given strides, not set, with self's dtype and device unless given."""
        return self._new("empty_strided", size, stride, **options)

    def _new(self, name: str, *args: Any, dtype: Any = None, device: Any = None, **options: Any) -> Tensor:
        from . import create

        return getattr(create, name)(*args, dtype=dtype or self.dtype, device=device or self.device, **options)

    # --- pointwise --------------------------------------------------------------------------------------

    add, sub, mul, div = combined.add_scaled, combined.sub_scaled, pointwise.mul, combined.divide
    subtract, multiply, divide, true_divide = sub, mul, div, pointwise.div
    neg, negative, positive, square = pointwise.neg, pointwise.neg, pointwise.positive, pointwise.square
    conj, conj_physical, sgn = pointwise.conj, pointwise.conj_physical, pointwise.sgn
    abs, absolute, sign, reciprocal = pointwise.abs, pointwise.abs, pointwise.sign, pointwise.reciprocal
    pow, fmod, remainder, floor_divide = pointwise.pow, pointwise.fmod, pointwise.remainder, pointwise.floor_divide
    eq, ne, not_equal, lt, less = pointwise.eq, pointwise.ne, pointwise.ne, pointwise.lt, pointwise.lt
    le, less_equal, gt, greater = pointwise.le, pointwise.le, pointwise.gt, pointwise.gt
    ge, greater_equal = pointwise.ge, pointwise.ge
    logical_and, logical_or, logical_xor = pointwise.logical_and, pointwise.logical_or, pointwise.logical_xor
    logical_not, isnan, isinf, isfinite = pointwise.logical_not, pointwise.isnan, pointwise.isinf, pointwise.isfinite
    bitwise_and, bitwise_or, bitwise_xor = pointwise.bitwise_and, pointwise.bitwise_or, pointwise.bitwise_xor
    bitwise_not = pointwise.bitwise_not
    exp, exp2, expm1, log, log2 = pointwise.exp, pointwise.exp2, pointwise.expm1, pointwise.log, pointwise.log2
    log10, log1p, sqrt, rsqrt = pointwise.log10, pointwise.log1p, pointwise.sqrt, pointwise.rsqrt
    sin, cos, tan, asin, acos, atan = (
        pointwise.sin, pointwise.cos, pointwise.tan, pointwise.asin, pointwise.acos, pointwise.atan,
    )  # fmt: skip
    arcsin, arccos, arctan = asin, acos, atan
    sinh, cosh, tanh, asinh, acosh, atanh = (
        pointwise.sinh, pointwise.cosh, pointwise.tanh, pointwise.asinh, pointwise.acosh, pointwise.atanh,
    )  # fmt: skip
    atan2, arctan2, hypot, logaddexp = pointwise.atan2, pointwise.atan2, pointwise.hypot, pointwise.logaddexp
    floor, ceil, trunc, fix = pointwise.floor, pointwise.ceil, pointwise.trunc, pointwise.trunc
    frac, round = pointwise.frac, combined.round_to
    maximum, minimum, fmax, fmin = pointwise.maximum, pointwise.minimum, pointwise.fmax, pointwise.fmin
    clamp, clip, sigmoid, relu = pointwise.clamp, pointwise.clamp, pointwise.sigmoid, pointwise.relu
    clamp_min, clamp_max, nan_to_num = combined.clamp_min, combined.clamp_max, combined.nan_to_num
    erf, erfc, lerp = pointwise.erf, pointwise.erfc, combined.lerp
    addcmul, addcdiv, isclose = combined.addcmul, combined.addcdiv, combined.isclose
    allclose, equal = combined.allclose, combined.equal
    where = lambda self, condition, other: pointwise.where(condition, self, other)

    # --- reduce -----------------------------------------------------------------------------------------

    sum, nansum, mean, nanmean, prod = reduce.sum, reduce.nansum, reduce.mean, reduce.nanmean, reduce.prod
    var, std, logsumexp, norm = reduce.var, reduce.std, reduce.logsumexp, reduce.norm
    all, any, count_nonzero = reduce.all, reduce.any, reduce.count_nonzero
    max, min, amax, amin, aminmax = extreme.max, extreme.min, extreme.amax, extreme.amin, extreme.aminmax
    argmax, argmin = extreme.argmax, extreme.argmin
    cumsum, cumprod, logcumsumexp = scan.cumsum, scan.cumprod, scan.logcumsumexp
    cummax, cummin, diff = scan.cummax, scan.cummin, scan.diff
    sort, argsort, topk, kthvalue = sorting.sort, sorting.argsort, sorting.topk, sorting.kthvalue
    median, nanmedian = sorting.median, sorting.nanmedian
    unique, unique_consecutive = sorting.unique, sorting.unique_consecutive

    # --- index ------------------------------------------------------------------------------------------

    gather, scatter, scatter_add, scatter_reduce = (
        gathering.gather, gathering.scatter, gathering.scatter_add, gathering.scatter_reduce,
    )  # fmt: skip
    index_select, index_add, index_copy, index_fill = (
        gathering.index_select, gathering.index_add, gathering.index_copy, gathering.index_fill,
    )  # fmt: skip
    masked_fill, masked_select, masked_scatter = (
        mask.masked_fill, mask.masked_select, mask.masked_scatter,
    )  # fmt: skip
    take, take_along_dim, index_put = gathering.take, gathering.take_along_dim, gathering.put_at
    nonzero, argwhere = mask.nonzero, mask.argwhere

    # --- shape ------------------------------------------------------------------------------------------

    broadcast_to, flatten = shapes.broadcast_to, shapes.flatten
    ravel, squeeze, unsqueeze, unflatten = shapes.ravel, shapes.squeeze, shapes.unsqueeze, shapes.unflatten
    transpose, swapaxes, swapdims, t = shapes.transpose, shapes.transpose, shapes.transpose, shapes.t
    movedim, moveaxis, select, narrow = shapes.movedim, shapes.movedim, shapes.select, shapes.narrow
    split, chunk, tensor_split, unbind = shapes.split, shapes.chunk, shapes.tensor_split, shapes.unbind
    fliplr, flipud, roll, rot90 = arrange.fliplr, arrange.flipud, arrange.roll, arrange.rot90
    repeat_interleave, unfold, tril, triu = arrange.repeat_interleave, arrange.unfold, arrange.tril, arrange.triu
    diagonal, diag, diag_embed = arrange.diagonal, arrange.diag, arrange.diag_embed

    @property
    def T(self) -> Tensor:
        """Its dimensions in reverse order."""
        return shapes.permute(self, range(self.array.ndim)[::-1])

    @property
    def mT(self) -> Tensor:
        """Its last two dimensions swapped; a 0-d tensor as it is. RuntimeError for a vector."""
        if self.array.ndim == 0:
            return self
        if self.array.ndim < 2:
            raise RuntimeError(f"mT: wanted 2 dimensions or more, saw shape {tuple(self.array.shape)}")
        return shapes.transpose(self, -2, -1)

    @property
    def H(self) -> Tensor:
        """The conjugate transpose of a matrix; a number as it is, conjugated. RuntimeError for other dimensions."""
        if self.array.ndim not in (0, 2):
            raise RuntimeError(f"H: wanted a matrix, saw shape {tuple(self.array.shape)}")
        return pointwise.conj(shapes.permute(self, range(self.array.ndim)[::-1]))

    @property
    def mH(self) -> Tensor:
        """The conjugate transpose of every matrix; a number as it is, conjugated. RuntimeError for a vector."""
        if self.array.ndim == 1:
            raise RuntimeError(f"mH: wanted 2 dimensions or more, saw shape {tuple(self.array.shape)}")
        return pointwise.conj(self.mT)

    def adjoint(self) -> Tensor:
        """The conjugate transpose of every matrix. RuntimeError for a vector."""
        if self.array.ndim == 1:
            raise RuntimeError(f"adjoint: wanted 2 dimensions or more, saw shape {tuple(self.array.shape)}")
        return self.mH

    def view(self, *sizes: Any, size: Any = None, dtype: Any = None) -> Tensor:
        """Its memory as another shape: view(2, 3) or view((2, 3)), where one size may be -1; view(dtype) reads its bits
        as another dtype. RuntimeError where only a copy has that shape.
        """
        sizes = sizes if size is None and dtype is None else (dtype if size is None else size,)
        if len(sizes) == 1 and not isinstance(sizes[0], (tuple, list)) and not hasattr(sizes[0], "__index__"):
            try:
                bits = wrap(self._plain("view").view(sizes[0]))
            except ValueError:
                wanted = f"view: wanted a last dimension that holds whole elements of {sizes[0]}"
                raise RuntimeError(f"{wanted}, saw shape {tuple(self.array.shape)} {self.array.dtype}") from None
            bits.version = self.version
            return bits
        return shapes.view(self, _given(sizes))

    def view_as(self, other: Tensor) -> Tensor:
        """Its memory in the shape of `other`."""
        return shapes.view(self, other.array.shape)

    def reshape_as(self, other: Tensor) -> Tensor:
        """Its elements in the shape of `other`."""
        return shapes.reshape(self, other.array.shape)

    def expand_as(self, other: Tensor) -> Tensor:
        """Itself expanded to the shape of `other`."""
        return shapes.expand(self, other.array.shape)

    def sum_to_size(self, *sizes: Any, size: Any = None) -> Tensor:
        """Its sum over the dimensions along which these sizes were broadcast to its own."""
        size = tuple(_given(sizes, size))
        return shapes.sum_to(self, size) if size else reduce.sum(self)

    def repeat(self, *sizes: Any, repeats: Any = None) -> Tensor:
        """Copies of it laid side by side: repeat(2, 1) or repeat((2, 1))."""
        return arrange.repeat(self, _given(sizes, repeats))

    def tile(self, *given: Any, dims: Any = None) -> Tensor:
        """Copies of it laid side by side; missing numbers are 1, counted from the back."""
        return arrange.tile(self, _given(given, dims))

    def flip(self, *given: Any, dims: Any = None) -> Tensor:
        """Its order along dims reversed: flip(0, 1) or flip((0, 1))."""
        return arrange.flip(self, _given(given, dims))

    def reshape(self, *sizes: Any, shape: Any = None) -> Tensor:
        """Its elements as another shape: reshape(2, 3) or reshape((2, 3)); one size may be -1."""
        return shapes.reshape(self, _given(sizes, shape))

    def permute(self, *given: Any, dims: Any = None) -> Tensor:
        """Its dimensions in another order: permute(1, 0) or permute((1, 0))."""
        return shapes.permute(self, _given(given, dims))

    def expand(self, *sizes: Any, size: Any = None) -> Tensor:
        """Its dimensions of size one repeated without copying: expand(3, 4) or expand((3, 4)); -1 keeps a size."""
        return shapes.expand(self, _given(sizes, size))

    def __deepcopy__(self, memo: dict) -> Tensor:
        if not self.is_leaf:
            raise RuntimeError("deepcopy: only a leaf can be deep-copied; use clone() or detach()")
        t = wrap(copied(self.array, self.array))
        t.__class__ = self.__class__
        t.__dict__.update(
            {k: v for k, v in self.__dict__.items() if k not in ("array", "node", "version", "source", "grad")}
        )
        memo[id(self)] = t
        if self.node is not None:
            t.requires_grad_()
        if self.grad is not None:
            t.grad = self.grad.__deepcopy__(memo)
        return t


def _given(sizes: tuple, named: Any = None) -> tuple:
    """What was given as f(2, 3), as f((2, 3)) or by name."""
    if named is not None:
        sizes = (named,)
    return tuple(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else sizes


class Size(tuple):
    """A shape: a tuple with numel()."""

    __slots__ = ()

    def numel(self) -> int:
        """The product of the sizes."""
        return int(np.prod(self, dtype=np.int64))

    def __getitem__(self, i: Any) -> Any:
        return Size(tuple.__getitem__(self, i)) if type(i) is slice else tuple.__getitem__(self, i)

    def __add__(self, other: Any) -> Size:
        return Size(tuple.__add__(self, tuple(other)))

    def __repr__(self) -> str:
        from .printing import size_text

        return size_text(self)


def unpickled(cls: type, array: np.ndarray, where: str, requires_grad: bool, attributes: dict[str, Any]) -> Tensor:
    """The tensor of this class that was pickled: nothing but an array, which is put on its device."""
    t = wrap(backend.to_device(array, where))
    t.__class__ = cls
    t.__dict__.update(attributes)
    return t.requires_grad_() if requires_grad else t


class RemovableHandle:
    """What a registration gives back; remove() undoes it."""

    def __init__(self, hooks: dict, hook: Callable) -> None:
        self.hooks = hooks
        hooks[self] = hook

    def remove(self) -> None:
        """Take the hook away."""
        self.hooks.pop(self, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


class tape_off:
    """A context in which nothing is recorded."""

    def __enter__(self) -> None:
        self.before, mode.enabled = mode.enabled, False

    def __exit__(self, *exc: object) -> None:
        mode.enabled = self.before


_WRITTEN_IN_PLACE = """
    add sub mul div subtract multiply divide neg abs sign reciprocal pow fmod remainder floor_divide square exp
    exp2 expm1 log log2 log10 log1p sqrt rsqrt sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh floor
    ceil trunc frac round clamp clip sigmoid relu erf erfc lerp addcmul addcdiv eq ne lt le gt ge logical_and logical_or logical_xor
    absolute negative true_divide arcsin arccos arctan atan2 arctan2 hypot fix clamp_min clamp_max nan_to_num not_equal less
    less_equal greater greater_equal
    logical_not bitwise_and bitwise_or bitwise_xor bitwise_not masked_fill masked_scatter index_add index_copy
    index_fill index_put scatter scatter_add scatter_reduce cumsum cumprod tril triu addmm addmv addr addbmm baddbmm
"""
for _name in names.methods:
    setattr(Tensor, _name, names.method(Tensor, _name))
for _name in [*_WRITTEN_IN_PLACE.split(), *names.in_place]:
    setattr(Tensor, f"{_name}_", in_place(getattr(Tensor, _name), f"{_name}_"))
for _name in ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor", "lshift", "rshift"]:
    setattr(Tensor, f"__i{_name}__", in_place(getattr(Tensor, f"__{_name}__"), f"{_name}_"))

traced.Tensor = Tensor
