"""ElementwiseKernel: CuPy's strided, broadcasting loop around one line of CUDA."""

import ctypes
import functools

import numpy as np

from .array import fresh, ndarray
from .differs import BFLOAT16
from .kernel import load_function, scalar_of

DIMS = 32
NAMES = {
    "?": "bool", "b": "signed char", "B": "unsigned char", "h": "short", "H": "unsigned short", "i": "int",
    "I": "unsigned int", "l": "long", "L": "unsigned long", "q": "long long", "Q": "unsigned long long", "e": "float16",
    "f": "float", "d": "double", "F": "complex<float>", "D": "complex<double>",
}  # fmt: skip


class CArray(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("size", ctypes.c_ssize_t),
        ("ndim", ctypes.c_ssize_t),
        ("shape", ctypes.c_ssize_t * DIMS),
        ("strides", ctypes.c_ssize_t * DIMS),
    ]


class CIndexer(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_ssize_t),
        ("ndim", ctypes.c_ssize_t),
        ("shape", ctypes.c_ssize_t * DIMS),
        ("index", ctypes.c_ssize_t * DIMS),
    ]


def c_name(dtype):
    dtype = np.dtype(dtype)
    return "bfloat16" if dtype == BFLOAT16 else NAMES[dtype.char]


class Parameter:
    """One 'raw T x' of a parameter list."""

    def __init__(self, text, const):
        words = text.split()
        if len(words) < 2:
            raise Exception(f"Syntax error: {text}")
        *flags, kind, self.name = words
        self.raw, self.const = "raw" in flags, const and "_non_const" not in flags
        if not set(flags) <= {"raw", "_non_const"}:
            raise Exception(f'Unknown keyword "{flags}"')
        self.dtype = None if len(kind) == 1 else BFLOAT16 if kind == "bfloat16" else np.dtype(kind)
        self.ctype = kind if len(kind) == 1 else c_name(self.dtype)


def parameters(text, const):
    return tuple(Parameter(part, const) for part in text.split(",")) if text.strip() else ()


def collapse(arrays):
    """Contiguous arrays of one shape as flat views: no division per element."""
    return [a.reshape(-1) for a in arrays] if all(a.flags.c_contiguous for a in arrays) else list(arrays)


def c_array(a):
    """A NumPy view of device memory as the struct that the kernel reads."""
    c = CArray(a.ctypes.data if a.size else 0, a.size, a.ndim)
    c.shape[: a.ndim], c.strides[: a.ndim] = a.shape, a.strides
    return c


class ElementwiseKernel:
    """A loop over the elements of broadcast arrays."""

    def __init__(
        self,
        in_params,
        out_params,
        operation,
        name="kernel",
        reduce_dims=True,
        preamble="",
        no_return=False,
        return_tuple=False,
        *,
        options=(),
        loop_prep="",
        after_loop="",
    ):
        self.in_params, self.out_params = parameters(in_params, True), parameters(out_params, False)
        self.params = self.in_params + self.out_params
        self.nin, self.nout, self.nargs = len(self.in_params), len(self.out_params), len(self.params)
        self.operation, self.name, self.preamble = operation, name, preamble
        self.no_return, self.return_tuple = no_return, return_tuple
        self.options, self.loop_prep, self.after_loop = tuple(options), loop_prep, after_loop
        self.__name__ = name
        if not name.isidentifier():
            raise ValueError(f'Invalid kernel name: "{name}"')
        if "i" in [p.name for p in self.params]:
            raise ValueError("Can not use 'i' as a parameter name")
        self._text = functools.lru_cache(maxsize=None)(self._text)

    def _text(self, kinds, types):
        """The CUDA text for one choice of dtypes; 'kinds' says which arguments are arrays."""
        signature, prologue = [], []
        for p, (is_array, name) in zip(self.params, kinds, strict=True):
            if is_array:
                variable = p.name if p.raw else f"_raw_{p.name}"
                signature.append(f"const CArray<{'const ' if p.const else ''}{name}>& {variable}")
                if not p.raw:
                    prologue.append(f"{'const ' if p.const else ''}{name} &{p.name} = {variable}[_ind.get()];")
            else:
                signature.append(f"{'const ' if p.const else ''}{name} {p.name}")
        typedefs = "".join(f"typedef {name} {letter};\n" for letter, name in types)
        needs = "#define CARD_COMPLEX\n" if any("complex" in name for _, name in kinds) else ""
        return f"""{needs}#include "cupy.h"
{typedefs}{self.preamble}
extern "C" __global__ void {self.name}({", ".join([*signature, "CIndexer& _ind"])}) {{
  {self.loop_prep};
  for (ptrdiff_t i = ptrdiff_t(blockIdx.x) * blockDim.x + threadIdx.x; i < _ind.size();
       i += ptrdiff_t(blockDim.x) * gridDim.x) {{
    _ind.set(i);
    {" ".join(prologue)}
    {self.operation};
  }}
  {self.after_loop};
}}
"""

    def _types(self, ins, outs):
        """Dtypes of all parameters, from the arrays: outputs decide first, scalars decide nothing."""
        letters = {}
        for p, a in [*zip(self.out_params, outs, strict=False), *zip(self.in_params, ins, strict=True)]:
            if not isinstance(a, ndarray):
                continue
            expected = p.dtype if p.dtype is not None else letters.setdefault(p.ctype, a.dtype)
            if expected != a.dtype:
                raise TypeError(f"Type is mismatched. {p.name} {a.dtype} {expected} {p.ctype}")
        return letters, [p.dtype if p.dtype is not None else letters[p.ctype] for p in self.params]

    def __call__(self, *args, size=-1, stream=None, block_size=128):
        if len(args) not in (self.nin, self.nargs):
            raise TypeError(
                f"Wrong number of arguments for {self.name!r}. "
                f"It must be either {self.nin} or {self.nargs} (with outputs), but given {len(args)}."
            )
        for a in args:
            if not isinstance(a, ndarray) and scalar_of(a) is None:
                raise TypeError(f"Unsupported type {type(a)}")
        ins, outs = list(args[: self.nin]), list(args[self.nin :])
        if not all(isinstance(a, ndarray) for a in outs):
            raise TypeError("Output arguments type must be cupy.ndarray")
        plain = [a for p, a in zip(self.params, args, strict=False) if isinstance(a, ndarray) and not p.raw]
        if size != -1:
            if plain:
                raise ValueError("Specified 'size' can be used only if all of the ndarray are 'raw'.")
            shape = (size,)
        elif not plain:
            raise ValueError("Loop size is undecided.")
        else:
            shape = np.broadcast_shapes(*[a.shape for a in plain])
        letters, dtypes = self._types(ins, outs)
        if not outs:
            if size == -1 and any(p.raw for p in self.out_params):
                raise ValueError("Output array size is Undecided")
            outs = [fresh(shape, t) for t in dtypes[self.nin :]]
        for p, a in zip(self.out_params, outs, strict=True):
            if not p.raw and a.shape != shape:
                raise ValueError("Out shape is mismatched")
        if 0 not in shape:
            self._launch(ins + outs, dtypes, letters, shape, min(int(block_size), 1024), stream)
        if self.no_return:
            return None
        return outs[0] if self.nout == 1 and not self.return_tuple else tuple(outs)

    def _launch(self, arguments, dtypes, letters, shape, block, stream):
        loops = [i for i, (p, a) in enumerate(zip(self.params, arguments, strict=True))
                 if isinstance(a, ndarray) and not p.raw]  # fmt: skip
        views = [
            np.broadcast_to(arguments[i]._a, shape) if arguments[i].shape != shape else arguments[i]._a for i in loops
        ]
        views = collapse(views)
        if views:
            shape = views[0].shape
        views = dict(zip(loops, views, strict=True))
        kinds, packed, used = [], [], []
        for i, (a, dtype) in enumerate(zip(arguments, dtypes, strict=True)):
            kinds.append((isinstance(a, ndarray), c_name(dtype)))
            if isinstance(a, ndarray):
                packed.append(c_array(views.get(i, a._a)))
                used.append(a._memory)
            else:
                packed.append(ctypes.create_string_buffer(np.asarray(a).astype(dtype).tobytes(), dtype.itemsize))
        n = int(np.prod(shape, dtype=object))
        indexer = CIndexer(n, len(shape))
        indexer.shape[: len(shape)] = shape
        text = self._text(tuple(kinds), tuple(sorted((k, c_name(t)) for k, t in letters.items())))
        function = load_function(text, self.options, self.name)
        function.run_packed(((n + block - 1) // block, 1, 1), (block, 1, 1), [*packed, indexer], used, 0, arguments, "elementwise")
