"""The card's array class: a NumPy buffer in device memory that, like CuPy's, never meets a host array by accident."""

import numpy as np

from . import differs, work
from .memory import NAN, ODD, CardError, Memory, MemoryPointer, UnownedMemory, allocate, counts, refuse_capture

SCALARS = (bool, int, float, complex, np.generic)
KINDS = "biufcV"  # no strings, no objects on a card
# Functions whose Python bool is a 0-d array in CuPy.
TRUTHS = {"allclose", "array_equal", "array_equiv"}
# Beside ufuncs: functions whose new arrays are in C order in CuPy, in NumPy in the order of what they are made of.
ORDERED = {"where", "clip", "concatenate", "stack", "sum", "mean", "max", "min"}
# What CuPy hands to cuBLAS and cuSOLVER: it refuses to while a stream captures.
UNCAPTURED = {"matmul", "dot", "vdot", "inner", "tensordot", "einsum", "outer", "kron"}
# Functions for which the host waits: their result is as large as the data say, or, sorting, Thrust waits for its end
# (CuPy's issue 9126).
WAITING = {"sort", "argsort", "lexsort", "sort_complex", "nonzero", "flatnonzero", "argwhere", "unique", "compress",
           "extract", "bincount", "histogram", "delete", "union1d", "intersect1d", "setdiff1d", "trim_zeros"}  # fmt: skip


def poison(dtype):
    return NAN if np.dtype(dtype).kind in "fcV" else ODD


def root(a):
    """The Memory under a NumPy array, or None when the host owns it."""
    while a is not None and not isinstance(a, (Memory, UnownedMemory)):
        a = getattr(a, "base", None)
    return a


def fresh(shape, dtype, order="C", fill=True):
    """A new card array; unless the caller will write all of it, its memory is poisoned."""
    dtype = np.dtype(dtype)
    if dtype.kind not in KINDS:
        raise ValueError(f"Unsupported dtype {dtype}")
    shape = (int(shape),) if isinstance(shape, (int, np.integer)) else tuple(int(n) for n in shape)
    if any(n < 0 for n in shape):
        raise ValueError("Negative dimensions are not allowed")
    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    memory = allocate(size, poison(dtype) if fill else -1)
    flat = np.asarray(memory).view(dtype) if size else np.empty(0, dtype)
    return make(flat.reshape(shape, order="F" if order == "F" else "C"), memory, None)


def device(host):
    """A card array with a copy of a host array, laid out alike."""
    if host.flags.c_contiguous or (not host.flags.f_contiguous and host.ndim < 3):
        out = fresh(host.shape, host.dtype, "C", fill=False)
    elif host.flags.f_contiguous:
        out = fresh(host.shape, host.dtype, "F", fill=False)
    else:  # axes in the order of their strides, as NumPy's 'K'
        axes = sorted(range(host.ndim), key=lambda i: -abs(host.strides[i]))
        flat = fresh([host.shape[i] for i in axes], host.dtype, "C", fill=False)
        out = make(flat._a.transpose(np.argsort(axes)), flat._memory, None)
    out._a[...] = host
    return out


def make(a, memory, base):
    self = object.__new__(ndarray)
    self._a, self._memory, self.base = a, memory, base
    return self


def unsupported(x):
    return TypeError(f"Unsupported type {type(x)}")


def strip(x, seen, host_ok=False):
    """Card arrays replaced by their buffers, through lists, tuples and dicts; a host array is refused."""
    if isinstance(x, ndarray):
        seen.append(x)
        return x._a
    if isinstance(x, np.ndarray) and not host_ok:
        raise unsupported(x)
    if type(x) is list or type(x) is tuple:
        return type(x)([strip(v, seen, host_ok) for v in x])
    if type(x) is dict:
        return {k: strip(v, seen, host_ok) for k, v in x.items()}
    if isinstance(x, Ufunc):
        return x.of
    return x


def dress(r, seen, name=""):
    """The result of a NumPy function as CuPy would give it."""
    if isinstance(r, np.ndarray):
        for s in seen:
            if r is s._a:
                return s
        memory = root(r)
        if memory is None:
            return device(r)
        owner = next((s for s in seen if s._memory is memory), None)
        return make(r, memory, owner if owner is None or owner.base is None else owner.base)
    if isinstance(r, np.generic) and not isinstance(r, np.void):
        return device(np.asarray(r))
    if isinstance(r, bool) and name in TRUTHS:
        return device(np.asarray(r))
    if isinstance(r, tuple):
        return type(r)(*[dress(v, seen) for v in r]) if hasattr(r, "_fields") else tuple(dress(v, seen) for v in r)
    if isinstance(r, list):
        return [dress(v, seen) for v in r]
    return r


def apply(function, args, kwargs, name="", host_ok=False):
    """Call a NumPy function on card arrays."""
    from .cuda import capturing, wait

    seen = []
    args, kwargs = strip(args, seen, host_ok), strip(kwargs, seen, host_ok)
    args = differs.as_cupy(function, name, args, kwargs, [s._a for s in seen])
    counts.operations += 1
    capture = capturing()
    if name in ("concatenate", "stack") and len(seen) > 8:  # their addresses are sent from the host
        refuse_capture(f"{name} of more than eight arrays: a copy from host to device")
    if name in WAITING or (name == "getitem" and picks_by_mask(args[1])):
        wait(name, capture)
    if capture is not None and (
        name in UNCAPTURED
        or name.startswith("random.")
        or ("linalg" in getattr(function, "__module__", "") and name != "norm")
    ):
        raise NotImplementedError(f"calling {name} (cuBLAS, ...) during stream capture is not supported by CuPy")
    r = differs.given(name, function(*args, **kwargs), [s._a for s in seen])
    if (isinstance(function, np.ufunc) or name in ORDERED) and isinstance(r, np.ndarray) and root(r) is None:
        r = np.asarray(r, order="C")
    out = dress(r, seen, name)
    if work.logs and (seen or not host_ok):
        note(name, out, args, seen, kwargs)
    if capture is not None:
        capture.routine(function, args, kwargs, out, seen, name)
    return out


def picks_by_mask(index):
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(p, np.ndarray) and p.dtype.kind == "b" and p.ndim for p in parts)


def brings(index):
    """A list in an index is copied to the device."""
    for part in index if isinstance(index, tuple) else (index,):
        if type(part) is list and part:
            refuse_capture("a list as an index: a copy from host to device")
            counts.device_copies += 1
            work.note("upload", "index", 8 * len(part))


def distinct(a):
    """The bytes of an array's elements, those that a stride of zero repeats counted once."""
    return int(np.prod([n for n, s in zip(a.shape, a.strides, strict=True) if s], dtype=object)) * a.itemsize


def results_of(out):
    """The card arrays among what a function gave."""
    return [o for o in (out if isinstance(out, (tuple, list)) else [out]) if isinstance(o, ndarray)]


def written(out, seen, kwargs):
    """The arrays that a call of NumPy wrote: new ones, or what it was told to; a view, or its own argument, is no work."""
    if out is None:
        return seen[:1]
    told = kwargs.get("out") is not None
    return [o for o in results_of(out) if (told and any(o is s for s in seen)) or not any(o._memory is s._memory for s in seen)]


def note(name, out, args, seen, kwargs):
    """Tell the logs of a call that wrote something; `seen` holds its card arrays, `args` are stripped."""
    wrote = written(out, seen, kwargs)
    if name == "setitem":
        return work.note("routine", name, args[0][args[1]].nbytes, sum(distinct(s._a) for s in seen[1:]))
    if wrote:
        read = {id(s): distinct(s._a) for s in (seen[1:] if name in ("fill", "copyto") else seen)}
        if kwargs.get("out") is not None and not any(isinstance(x, np.ndarray) and x is seen[-1]._a for x in args):
            read.pop(id(seen[-1]), None)  # the last array seen is where the result goes
        work.note("routine", name, sum(distinct(o._a) for o in wrote), sum(read.values()))


def refuse_races(a, index, value):
    """Where an index array names an element twice with different values, a real card stores either one."""
    parts = index if isinstance(index, tuple) else (index,)
    if not any(isinstance(p, (np.ndarray, list)) and np.asarray(p).dtype.kind in "iu" for p in parts):
        return
    places = np.arange(a.size).reshape(a.shape)[index].ravel()
    values = np.ascontiguousarray(np.broadcast_to(value, a[index].shape)).ravel()
    last = dict(zip(places.tolist(), values.tolist(), strict=True))
    first = dict(zip(places[::-1].tolist(), values[::-1].tolist(), strict=True))
    if any(first[p] != v and v == v for p, v in last.items()):
        raise CardError(
            "an index array names an element twice with different values: which one stays is undefined in CuPy"
        )


class Ufunc:
    """A NumPy ufunc over card arrays, with its methods."""

    def __init__(self, of):
        self.of, self.__name__, self.name, self.__doc__ = of, of.__name__, of.__name__, of.__doc__
        self.nin, self.nout, self.nargs, self.types = of.nin, of.nout, of.nargs, of.types

    def __call__(self, *args, **kwargs):
        if not kwargs.keys() <= {"out", "dtype", "casting"} and kwargs.pop("where", True) is not True:
            raise TypeError(f"Wrong arguments {kwargs}: CuPy's ufuncs have no 'where'")
        return apply(self.of, args, kwargs, self.name)

    def reduce(self, *args, **kwargs):
        return apply(self.of.reduce, args, kwargs, self.name)

    def accumulate(self, *args, **kwargs):
        return apply(self.of.accumulate, args, kwargs, self.name)

    def reduceat(self, *args, **kwargs):
        return apply(self.of.reduceat, args, kwargs, self.name)

    def outer(self, *args, **kwargs):
        return apply(self.of.outer, args, kwargs, self.name)

    def at(self, a, *args, **kwargs):
        if a.dtype not in differs.ADDED_AT:
            raise TypeError(f"{self.name}.at is not supported for {a.dtype} by CuPy")
        return apply(self.of.at, (a, *args), kwargs, self.name)

    def __repr__(self):
        return f"<ufunc '{self.name}'>"


class Flags:
    """The layout of an array, by attribute or by NumPy's upper-case key."""

    def __init__(self, a, owndata):
        self.c_contiguous, self.f_contiguous, self.owndata = a.flags.c_contiguous, a.flags.f_contiguous, owndata
        self.forc, self.fnc = a.flags.forc, a.flags.fnc

    def __getitem__(self, key):
        return getattr(self, key.lower())


def yields(other):
    """Whether CuPy leaves an operator to what stands on its right: by NEP 13, or by priority where that says nothing."""
    if hasattr(other, "__array_ufunc__"):
        return other.__array_ufunc__ is None
    return getattr(other, "__array_priority__", 0) > ndarray.__array_priority__


def binary(name, ufunc, reflected=False):
    def operator(self, other):
        if not isinstance(other, (ndarray, *SCALARS)):
            if yields(other):
                return NotImplemented
            raise unsupported(other)
        return apply(ufunc, (other, self) if reflected else (self, other), {}, ufunc.__name__)

    operator.__name__ = name
    return operator


def inplace(name, ufunc):
    def operator(self, other):
        if not isinstance(other, (ndarray, *SCALARS)):
            if yields(other):
                return NotImplemented
            raise unsupported(other)
        apply(ufunc, (self, other), {"out": self}, ufunc.__name__)
        return self

    operator.__name__ = name
    return operator


def unary(ufunc):
    return lambda self: apply(ufunc, (self,), {}, ufunc.__name__)


class ndarray:
    """An array on the stand-in card."""

    __slots__ = ("__weakref__", "_a", "_memory", "base")
    __array_priority__ = 100
    __hash__ = None

    def __new__(cls, shape, dtype=float, memptr=None, strides=None, order="C"):
        if memptr is None:
            return fresh(shape, dtype, order)
        shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
        memory, offset = memptr.mem, memptr.ptr - memptr.mem.ptr
        if memory.size == 0:
            return make(np.empty(shape, dtype), memory, None)
        a = np.ndarray(shape, dtype, np.asarray(memory), offset, strides, "F" if order == "F" else "C")
        return make(a, memory, None)

    # ---- what it is
    shape = property(lambda self: self._a.shape)
    dtype = property(lambda self: self._a.dtype)
    ndim = property(lambda self: self._a.ndim)
    size = property(lambda self: self._a.size)
    strides = property(lambda self: self._a.strides)
    itemsize = property(lambda self: self._a.itemsize)
    nbytes = property(lambda self: self._a.nbytes)
    flags = property(lambda self: Flags(self._a, self.base is None))
    T = property(lambda self: self.transpose())
    mT = property(lambda self: self.swapaxes(-1, -2))
    real = property(lambda self: dress(self._a.real, [self]))
    imag = property(lambda self: dress(self._a.imag, [self]))

    @shape.setter
    def shape(self, shape):
        self._a = self._a.reshape(shape, copy=False)

    @real.setter
    def real(self, value):
        self._a.real = strip(value, [])

    @imag.setter
    def imag(self, value):
        self._a.imag = strip(value, [])

    @property
    def data(self):
        address = self._a.ctypes.data if self._a.size else self._memory.ptr
        return MemoryPointer(self._memory, address - self._memory.ptr)

    @property
    def device(self):
        from .cuda import Device

        return Device(self._memory.device_id)

    @property
    def __cuda_array_interface__(self):
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "descr": self.dtype.descr,
            "stream": 1,
            "version": 3,
            "strides": None if self.flags.c_contiguous else self.strides,
            "data": (self.data.ptr, False),
        }

    def __dlpack__(self, **kwargs):
        raise BufferError("arrays of the stand-in card are not on a real device; DLPack cannot carry them")

    def __dlpack_device__(self):
        return 2, 0

    # ---- the border with the host
    def __array__(self, dtype=None, copy=None):
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        if not differs.known(ufunc):
            return NotImplemented
        for x in (*inputs, *kwargs.get("out", ())):
            if not isinstance(x, (ndarray, list, tuple, slice, type(None), *SCALARS)):
                return NotImplemented
        out = kwargs.get("out")
        if isinstance(out, tuple) and len(out) == 1:
            kwargs["out"] = out[0]
        return getattr(Ufunc(ufunc), method)(*inputs, **kwargs)

    def __array_function__(self, function, types, args, kwargs):
        if not all(issubclass(t, ndarray) for t in types) or not differs.known(function):
            return NotImplemented
        return apply(function, args, kwargs, function.__name__)

    def _host(self, what):
        from .cuda import capturing

        if capturing() is not None:
            raise RuntimeError(f"{what}: a copy from device to host is not allowed while a stream captures")
        counts.host_copies += 1
        work.note("download", what, 0, self.nbytes)
        return self._a

    def get(self, stream=None, order="C", out=None, blocking=True):
        if not blocking and self.size and self._a.flags.c_contiguous and (out is None or out.flags.c_contiguous):
            return self._get_later(stream, out)
        a = self._host("get")
        if out is None:
            return np.array(a, order=order if order in "CF" else "C")
        self._fits(out)
        out[...] = a
        return out

    def _fits(self, out):
        if out.shape != self.shape or out.dtype != self.dtype:
            raise ValueError(f"out has shape {out.shape} and dtype {out.dtype}, the array {self.shape} and {self.dtype}")

    def _get_later(self, stream, out):
        from . import late
        from .cuda import queue_of

        refuse_capture("get: a copy from device to host")
        out = np.empty(self.shape, self.dtype) if out is None else out
        self._fits(out)
        work.note("download", "get", 0, self.nbytes)
        late.download(queue_of(stream), self._memory, self.data.ptr, out.ctypes.data, out.nbytes, out)
        return out

    def set(self, arr, stream=None):
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if arr.dtype != self.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if arr.shape != self.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
        from . import late
        from .cuda import queue_of

        refuse_capture("set: a copy from host to device")
        counts.device_copies += 1
        work.note("upload", "set", self.nbytes)
        if stream is None or not self.size or not (self._a.flags.c_contiguous and arr.flags.c_contiguous):
            self._a[...] = arr
        else:
            late.upload(queue_of(stream), self._memory, self.data.ptr, arr.ctypes.data, arr.nbytes)

    def item(self):
        return self._host("item").item()

    def tolist(self):
        return self._host("tolist").tolist()

    def tobytes(self, order="C"):
        return self._host("tobytes").tobytes(order)

    __bool__ = lambda self: bool(self._host("bool"))
    __int__ = lambda self: int(self._host("int"))
    __float__ = lambda self: float(self._host("float"))
    __complex__ = lambda self: complex(self._host("complex"))
    __repr__ = lambda self: repr(self._a)
    __str__ = lambda self: str(self._a)
    __format__ = lambda self, spec: format(self._a.item() if self.ndim == 0 and spec else self._a, spec)
    __copy__ = lambda self: self.copy()
    __deepcopy__ = lambda self, memo: self.copy()

    def __reduce__(self):
        from . import asarray

        return asarray, (self.get(),)

    # ---- elements
    def __len__(self):
        return len(self._a)

    def __iter__(self):
        if self.ndim == 0:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self._a)))

    def __getitem__(self, index):
        def pick(a, index):
            r = a[index]
            if isinstance(r, np.generic) and not (isinstance(index, np.ndarray) and index.ndim == 0):
                r = a[(*index, ...) if isinstance(index, tuple) else (index, ...)]  # a 0-d view
            return r

        brings(index)
        return apply(pick, (self, index), {}, "getitem")

    def __setitem__(self, index, value):
        if not isinstance(value, (ndarray, *SCALARS)):
            raise unsupported(value)

        def put(a, index, value):
            if isinstance(value, np.ndarray) and value.ndim:
                refuse_races(a, index, value)
            a[index] = value

        brings(index)
        apply(put, (self, index, value), {}, "setitem")

    # ---- arithmetic
    __neg__, __pos__, __abs__, __invert__ = (unary(u) for u in (np.negative, np.positive, np.abs, np.invert))
    __lt__, __le__ = binary("__lt__", np.less), binary("__le__", np.less_equal)
    __gt__, __ge__ = binary("__gt__", np.greater), binary("__ge__", np.greater_equal)
    __eq__, __ne__ = binary("__eq__", np.equal), binary("__ne__", np.not_equal)
    __divmod__, __rdivmod__ = binary("__divmod__", np.divmod), binary("__rdivmod__", np.divmod, True)


for _name, _ufunc in dict(
    add=np.add, sub=np.subtract, mul=np.multiply, truediv=np.true_divide, floordiv=np.floor_divide, mod=np.remainder,
    pow=np.power, matmul=np.matmul, lshift=np.left_shift, rshift=np.right_shift, and_=np.bitwise_and, or_=np.bitwise_or,
    xor=np.bitwise_xor,
).items():  # fmt: skip
    _name = _name.rstrip("_")
    setattr(ndarray, f"__{_name}__", binary(f"__{_name}__", _ufunc))
    setattr(ndarray, f"__r{_name}__", binary(f"__r{_name}__", _ufunc, True))
    if _name != "matmul":  # CuPy has none: x @= y makes a new array
        setattr(ndarray, f"__i{_name}__", inplace(f"__i{_name}__", _ufunc))


def method(name):
    of = getattr(np.ndarray, name)

    def call(self, *args, **kwargs):
        return apply(of, (self, *args), kwargs, name)

    call.__name__, call.__doc__ = name, of.__doc__
    return call


METHODS = """all any argmax argmin argpartition argsort astype choose clip compress conj conjugate copy cumprod cumsum
diagonal dot fill flatten max mean min nonzero partition prod put ravel repeat reshape round searchsorted sort squeeze
std sum swapaxes take trace transpose var view"""
for _name in METHODS.split():
    setattr(ndarray, _name, method(_name))
