"""Where CuPy 14 differs from NumPy, in its names and in what it takes; tests/test_libraries.py holds this against CuPy."""

import numpy as np

try:
    from ml_dtypes import bfloat16
except ImportError:
    BFLOAT16 = None
else:
    BFLOAT16 = np.dtype(bfloat16)

ABSENT = {
    "": """False_ ScalarType True_ asmatrix block bmat busday_count busday_offset busdaycalendar bytes_ char character
    clongdouble complex256 ctypeslib datetime64 datetime_as_string datetime_data einsum_path emath errstate flexible float128
    frompyfunc fromregex geomspace get_include getbufsize geterr geterrcall histogram_bin_edges info insert is_busday isnat
    little_endian longdouble ma matrix matvec memmap nanpercentile nanquantile ndenumerate nditer nested_iters object_ polyder
    polydiv polyint rec recarray record sctypeDict setbufsize seterr seterrcall show_runtime spacing str_ strings test
    timedelta64 typecodes unstack vecdot vecmat void""",
    "linalg": "diagonal matrix_norm multi_dot outer svdvals tensordot test trace vecdot vector_norm",
    "fft": "test",
    "random": """MT19937 PCG64 PCG64DXSM Philox SFC64 SeedSequence bit_generator get_bit_generator get_state mtrand
    set_bit_generator set_state test""",
    "lib": """Arrayterator NumpyVersion add_docstring add_newdoc array_utils format introspect mixins npyio scimath test
    tracemalloc_domain""",
}
ABSENT = {path: frozenset(names.split()) for path, names in ABSENT.items()}
ADDED_AT = ("i4", "i8", "u4", "u8", "f2", "f4", "f8")  # the dtypes that add.at takes
# Products and decompositions of stacks have no bfloat16; choices and roundings give float32 for it.
PRODUCTS, CHOICES = ("matmul", "einsum"), ("where", "round", "around")
REDUCTIONS = ("sum", "prod", "mean", "max", "min", "amax", "amin", "all", "any", "std", "var")


def known(function):
    """Whether CuPy has a function of NumPy's."""
    path = getattr(function, "__module__", "numpy").removeprefix("numpy").removeprefix(".")
    return function.__name__ not in ABSENT.get(path, ())


def as_cupy(function, name, args, kwargs, arrays):
    """The arguments as CuPy computes with them, or the TypeError that it raises."""
    if name == "matmul" and len(args) > 2:
        raise TypeError("matmul() got multiple values for argument 'out'")
    if name in REDUCTIONS and kwargs.keys() & {"where", "initial"}:
        raise TypeError(f"{name}() got an unexpected keyword argument among {set(kwargs)}")
    if name in ("zeros", "ones", "full") and arrays and args[0] is arrays[0]:
        raise TypeError("'ndarray' object cannot be interpreted as an integer")
    if name.startswith("logical_") and any(a.dtype.kind == "c" for a in arrays):
        raise TypeError(f"Wrong type ({tuple(a.dtype for a in arrays)}) of arguments for cupy_{name}")
    if BFLOAT16 is None or not arrays or any(a.dtype not in (BFLOAT16, np.bool_) for a in arrays) or kwargs.get("out") is not None:
        return args
    if all(a.dtype == np.bool_ for a in arrays):
        return args
    if name in ("sort", "argsort"):
        raise NotImplementedError("Sorting arrays with dtype 'bfloat16' is not supported")
    if (name in PRODUCTS or "linalg" in getattr(function, "__module__", "")) and any(a.ndim > 2 for a in arrays):
        raise TypeError("data type 'E' not understood")
    if name in CHOICES:
        return tuple(a.astype(np.float32) if getattr(a, "dtype", None) == BFLOAT16 else a for a in args)
    return args


def given(name, r, arrays):
    """A result in CuPy's dtype: products of bfloat16 are rounded to it, which NumPy has no product of."""
    halves = name in ("matmul", "dot") and BFLOAT16 is not None and all(a.dtype == BFLOAT16 for a in arrays)
    return np.asarray(r).astype(BFLOAT16) if halves and r.dtype != BFLOAT16 else r
