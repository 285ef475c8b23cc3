"""Elementwise functions and their gradients: one row each, and one __device__ line in kernels/pointwise.cuh."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..backend import get_default_dtype, is_differentiable, namespace
from ..call import into
from ..cases import Sampler, case
from ..dtypes import finfo
from ..op import op, unwrap
from .dims import other_words


def row(head: str, definition: Callable[..., Any], doc: str, **options: Any) -> Callable[..., Any]:
    """Enter an elementwise op.

    head    its signature, "leaky_relu(x, negative_slope=0.01)"; parameters called x a b g y are arrays of one dtype
    domain  (low, high) of the sample inputs; `kinks` are points near which no sample may lie
    and the options of op.Op.
    """
    name, _, parameters = head.partition("(")
    signature = eval(f"lambda {parameters.rstrip(')')}: None", {"inf": math.inf})
    names = signature.__code__.co_varnames
    arrays = [n for n in names if n in ("x", "a", "b", "g", "y")]
    low, high = options.pop("domain", (-3.0, 3.0))
    kinks = options.pop("kinks", ())

    def cases(r: Sampler) -> list[case]:
        def draw(*shape: int) -> np.ndarray:
            x = r.uniform(low, high, *shape)
            for k in kinks:  # keep a finite difference away from the kink
                x = np.where(np.abs(x - k) < 0.05, k + 0.1, x)
            return x

        shapes = [(3, 4), (), (0,), (2, 5), (67,)]
        found = [case(*(draw(*s) for _ in arrays)) for s in shapes]
        if len(arrays) == 2:
            found += [case(draw(3, 1), draw(4)), case(draw(2, 3)[:, ::2], draw(2, 2).T)]
        else:
            found += [case(*(draw(6, 4)[::2].T for _ in arrays))]
        return found

    options.setdefault("cases", cases)
    options.setdefault("promote", " ".join(arrays))
    options.setdefault("twin", "pointwise")
    if not isinstance(definition, np.ufunc):
        definition = in_blocks(definition, len(arrays))
    if "backward" in name:
        options.setdefault("reference", None)
    return op(definition, name=name, signature=signature, doc=doc, **options)


BLOCK = 1 << 15  # elements: several arrays of so many floats stay in a core's own cache


def in_blocks(definition: Callable[..., Any], arrays: int) -> Callable[..., Any]:
    """A definition that takes large NumPy arrays block by block: its intermediates stay in the cache, not in memory."""

    def blocked(x: Any, *rest: Any) -> Any:
        if type(x) is not np.ndarray or x.size <= BLOCK or not x.flags.c_contiguous:  # x may be a Python number
            return definition(x, *rest)
        others, constants = rest[: arrays - 1], rest[arrays - 1 :]
        for a in others:
            if type(a) is not np.ndarray or a.shape != x.shape or not a.flags.c_contiguous:
                return definition(x, *rest)
        flat = [a.reshape(-1) for a in (x, *others)]
        first = definition(*[a[:BLOCK] for a in flat], *constants)
        y = np.empty(x.size, first.dtype)
        y[:BLOCK] = first
        for i in range(BLOCK, x.size, BLOCK):
            y[i : i + BLOCK] = definition(*[a[i : i + BLOCK] for a in flat], *constants)
        return y.reshape(x.shape)

    return functools.wraps(definition)(blocked)


def keep(g: Any, mask: Any) -> Any:
    """g where the mask holds, else 0, whatever g is there. On NumPy by bits: a select would branch on every element."""
    if type(g) is not np.ndarray or type(mask) is not np.ndarray or g.shape != mask.shape or g.dtype.kind != "f":
        return np.where(mask, g, like(g, 0))
    bits = np.dtype(f"i{g.dtype.itemsize}")
    all_or_none = mask.view(np.int8).astype(bits)
    np.negative(all_or_none, out=all_or_none)
    all_or_none &= g.view(bits)
    return all_or_none.view(g.dtype)


def like(x: Any, value: Any) -> Any:
    """A constant of x's dtype: keeps float16 from being computed with a float64 scalar."""
    return x.dtype.type(value)


# --- arithmetic -------------------------------------------------------------------------------------

add = row("add(a, b)", np.add, "a + b", da=lambda g: g, db=lambda g: g)
sub = row("sub(a, b)", np.subtract, "a - b", da=lambda g: g, db=lambda g: -g)
mul = row("mul(a, b)", np.multiply, "a * b", da=lambda g, b: g * b, db=lambda g, a: g * a)
div = row(
    "div(a, b)", np.true_divide, "a / b; integers give the default floating dtype", floating=True, domain=(0.5, 3.0),
    da=lambda g, b: g / b, db=lambda g, a, b: -g * (a / b) / b,  # not by y, which may be written in place
)  # fmt: skip
neg = row("neg(x)", np.negative, "-x", dx=lambda g: -g)
positive = row("positive(x)", np.positive, "x", dx=lambda g: g)
square = row(
    "square(x)", lambda x: np.square(x, dtype=np.int64) if x.dtype.kind == "b" else np.square(x), "x^2; of bool in int64",
    dx=lambda g, x: g * x * 2,
)  # fmt: skip
reciprocal = row("reciprocal(x)", lambda x: 1 / x, "1 / x", floating=True, domain=(0.5, 3), dx=lambda g, y: -g * y * y)


@op(dx=lambda g: conj(g), holomorphic=False, cases=lambda r: [case(r(3, 2)), case(r())])
def conj_physical(x):
    """The complex conjugate, a - ib of a + ib."""
    return np.conjugate(x) if x.dtype.kind == "c" else x.copy()


def conj(x: Any) -> Any:
    """The complex conjugate; what is real, as it is."""
    return conj_physical(x) if unwrap(x).dtype.kind == "c" else x


abs = row("abs(x)", np.abs, "|x|", kinks=(0,), dx=lambda g, x: g * sgn(x), refuses="b")


def _sgn_gradient(g: Any, x: Any, y: Any) -> Any:
    if unwrap(x).dtype.kind != "c":
        return g * 0
    along = g * conj(y)  # what turns x is kept, what only stretches it is not
    return where(x == 0, 0.0, (g - y * (along + conj(along)) * 0.5) / where(x == 0, 1.0, abs(x)))


def _sign(x: Any) -> Any:
    if x.dtype.kind == "f":  # 0 for NaN, as PyTorch has it
        return (x > 0).astype(x.dtype) - (x < 0)
    return np.sign(x) if x.dtype.kind != "b" else np.logical_or(x, x)


sgn = row("sgn(x)", _sign, "x / |x|, and 0 for 0", kinks=(0,), twin=None, holomorphic=False, dx=_sgn_gradient)
sign = row("sign(x)", _sign, "-1, 0 or 1, as x is negative, zero or positive", kinks=(0,), real=True, dx=lambda g: g * 0)


def _whole(ufunc: Callable[..., Any]) -> Callable[..., Any]:
    """The ufunc of a division, which for integers on the CPU refuses to divide by zero."""

    def divided(a: Any, b: Any) -> Any:
        if "f" in (kind_of(a), kind_of(b)):
            return ufunc(a, b)
        try:
            with np.errstate(divide="raise"):
                return ufunc(a, b)
        except FloatingPointError:
            raise RuntimeError(f"{ufunc.__name__}: wanted integers other than 0 to divide by, saw 0") from None

    return divided


fmod = row(
    "fmod(a, b)", _whole(np.fmod), "The remainder of a / b with the sign of a", domain=(0.6, 0.9), da=lambda g: g,
    db=lambda g, a, b: -g * trunc(a / b),
    tensors="a",
)  # fmt: skip
remainder = row(
    "remainder(a, b)", _whole(np.remainder), "a - b floor(a / b): the remainder with the sign of b", domain=(0.6, 0.9),
    da=lambda g: g, db=lambda g, a, b: -g * floor(a / b),
    tensors="a|b",
)  # fmt: skip
floor_divide = row(
    "floor_divide(a, b)", _whole(np.floor_divide), "floor(a / b)", domain=(0.5, 3), da=lambda g: g * 0, db=lambda g: g * 0,
    reference=lambda torch, a, b: torch.div(a, b, rounding_mode="floor"),
    tensors="a|b", refuses="b",
)  # fmt: skip


def _trunc_divide(a: Any, b: Any) -> Any:
    if all(kind_of(v) in "biu" for v in (a, b)):  # exact, where the quotient as a float is not
        return np.floor_divide(a - _whole(np.fmod)(a, b), b)
    return np.trunc(a / b)


trunc_divide = row(
    "trunc_divide(a, b)", _trunc_divide, "a / b without its fraction", domain=(0.5, 3), twin=None, da=lambda g: g * 0,
    db=lambda g: g * 0, reference=lambda torch, a, b: torch.div(a, b, rounding_mode="trunc"),
)  # fmt: skip


def _integer_pow(a: Any, b: Any) -> Any:
    """a^b without the fraction: to a negative power 1 and -1 are themselves or their square, all others 0."""
    y = np.power(a, np.maximum(b, 0))
    return np.where(b < 0, np.where(np.abs(a) == 1, np.power(a, b & 1), 0), y).astype(y.dtype)


def _pow(a: Any, b: Any) -> Any:
    if isinstance(b, (int, float)) and not isinstance(b, bool):
        if b == 2:
            return np.square(a)
        if b == 0.5 and a.dtype.kind == "f":
            return np.sqrt(a)
        if b < 0 and getattr(a, "dtype", np.dtype(float)).kind in "iu":
            raise RuntimeError("pow: integers to negative integer powers are not allowed")
    elif kind_of(b) == "i":
        return _integer_pow(a, b)
    return np.power(a, b)


def _dpow_base(g: Any, a: Any, b: Any) -> Any:
    if isinstance(b, (int, float)):
        return g * 0 if b == 0 else g * b if b == 1 else g * (a ** (b - 1) * b)
    return where(b == 0, 0.0, g * b * a ** (b - 1))  # 0 at b = 0 even where a = 0, as PyTorch has it


def _dpow_exponent(g: Any, a: Any, b: Any, y: Any) -> Any:
    # y log a, and 0 where a = 0 and b >= 0 (the limit), as PyTorch has it
    limit = (a == 0) * (real_of(b) >= 0)
    return g * where(limit, 0.0, y * log(where(limit, 1.0, a)))


pow = row(
    "pow(a, b)", _pow, "a^b", domain=(0.3, 2.5), words={"exponent": "b"}, da=_dpow_base, db=_dpow_exponent,
    tensors="a|b",
)  # fmt: skip

# --- comparison: True or False, no gradient -----------------------------------------------------------

eq = row("eq(a, b)", np.equal, "a == b", tensors="a")
ne = row("ne(a, b)", np.not_equal, "a != b", tensors="a")
lt = row("lt(a, b)", np.less, "a < b", real=True, tensors="a")
le = row("le(a, b)", np.less_equal, "a <= b", real=True, tensors="a")
gt = row("gt(a, b)", np.greater, "a > b", real=True, tensors="a")
ge = row("ge(a, b)", np.greater_equal, "a >= b", real=True, tensors="a")


def _logical(function: Callable[..., Any]) -> Callable[..., Any]:
    """A logical function that takes complex numbers too, which CuPy's do not."""
    return lambda *xs: function(*[x != 0 if np.iscomplexobj(x) else x for x in xs])


logical_and = row("logical_and(a, b)", _logical(np.logical_and), "Both are nonzero", tensors="a b")
logical_or = row("logical_or(a, b)", _logical(np.logical_or), "One is nonzero", tensors="a b")
logical_xor = row("logical_xor(a, b)", _logical(np.logical_xor), "Exactly one is nonzero", tensors="a b")
logical_not = row("logical_not(x)", _logical(np.logical_not), "x is zero")
isnan = row("isnan(x)", np.isnan, "x is not a number")
isinf = row("isinf(x)", np.isinf, "x is infinite")
isfinite = row("isfinite(x)", np.isfinite, "x is neither infinite nor NaN")


def _integers(r: Sampler) -> list[case]:
    return [case(r.integers(0, 9, 3, 4), r.integers(0, 5, 4)), case(r.mask(3), r.mask(3))]


bitwise_and = row("bitwise_and(a, b)", np.bitwise_and, "a & b, bit by bit", cases=_integers, twin=None, tensors="a|b")
bitwise_or = row("bitwise_or(a, b)", np.bitwise_or, "a | b, bit by bit", cases=_integers, twin=None, tensors="a|b")
bitwise_xor = row("bitwise_xor(a, b)", np.bitwise_xor, "a ^ b, bit by bit", cases=_integers, twin=None, tensors="a|b")
bitwise_not = row(
    "bitwise_not(x)",
    np.bitwise_not,
    "~x, bit by bit",
    twin=None,
    cases=lambda r: [case(r.integers(0, 9, 3, 4)), case(r.mask(3))],
)

# --- exponentials, roots, trigonometry, hyperbolics ----------------------------------------------------

exp = row("exp(x)", np.exp, "e^x", floating=True, dx=lambda g, y: g * y)
exp2 = row("exp2(x)", np.exp2, "2^x", floating=True, dx=lambda g, y: g * y * math.log(2))
expm1 = row("expm1(x)", np.expm1, "e^x - 1, exact near 0", floating=True, dx=lambda g, y: g * (y + 1))
log = row("log(x)", np.log, "The natural logarithm", floating=True, domain=(0.3, 3), dx=lambda g, x: g / x)
log2 = row(
    "log2(x)", np.log2, "The logarithm to base 2", floating=True, domain=(0.3, 3), dx=lambda g, x: g / (x * math.log(2))
)
log10 = row(
    "log10(x)",
    np.log10,
    "The logarithm to base 10",
    floating=True,
    domain=(0.3, 3),
    dx=lambda g, x: g / (x * math.log(10)),
)
log1p = row(
    "log1p(x)", np.log1p, "log(1 + x), exact near 0", floating=True, domain=(-0.6, 3), dx=lambda g, x: g / (x + 1)
)
sqrt = row("sqrt(x)", np.sqrt, "The square root", floating=True, domain=(0.3, 3), dx=lambda g, y: g / (y * 2))
rsqrt = row(
    "rsqrt(x)",
    lambda x: 1 / np.sqrt(x),
    "1 / sqrt(x)",
    floating=True,
    domain=(0.3, 3),
    dx=lambda g, y: g * y * y * y * -0.5,
)
sin = row("sin(x)", np.sin, "The sine", floating=True, dx=lambda g, x: g * cos(x))
cos = row("cos(x)", np.cos, "The cosine", floating=True, dx=lambda g, x: -g * sin(x))
tan = row("tan(x)", np.tan, "The tangent", floating=True, domain=(-1.2, 1.2), dx=lambda g, y: g * (y * y + 1))
asin = row(
    "asin(x)", np.arcsin, "The inverse sine", floating=True, domain=(-0.8, 0.8), dx=lambda g, x: g * rsqrt(1 - x * x)
)
acos = row(
    "acos(x)", np.arccos, "The inverse cosine", floating=True, domain=(-0.8, 0.8), dx=lambda g, x: -g * rsqrt(1 - x * x)
)
atan = row("atan(x)", np.arctan, "The inverse tangent", floating=True, dx=lambda g, x: g / (x * x + 1))
sinh = row("sinh(x)", np.sinh, "(e^x - e^-x) / 2", floating=True, dx=lambda g, x: g * cosh(x))
cosh = row("cosh(x)", np.cosh, "(e^x + e^-x) / 2", floating=True, dx=lambda g, x: g * sinh(x))
tanh = row("tanh(x)", np.tanh, "sinh(x) / cosh(x)", floating=True, dx=lambda g, y: tanh_backward(g, y))
tanh_backward = row(
    "tanh_backward(g, y)", lambda g, y: g - g * y * y, "g (1 - y^2)", domain=(-0.9, 0.9),
    dg=lambda gg, y: tanh_backward(gg, y), dy=lambda gg, g, y: gg * g * y * -2,
)  # fmt: skip
asinh = row("asinh(x)", np.arcsinh, "The inverse of sinh", floating=True, dx=lambda g, x: g * rsqrt(x * x + 1))
acosh = row(
    "acosh(x)", np.arccosh, "The inverse of cosh", floating=True, domain=(1.2, 3), dx=lambda g, x: g * rsqrt(x * x - 1)
)
atanh = row(
    "atanh(x)", np.arctanh, "The inverse of tanh", floating=True, domain=(-0.8, 0.8), dx=lambda g, x: g / (1 - x * x)
)
atan2 = row(
    "atan2(a, b)", np.arctan2, "The angle of the point (b, a)", floating=True, domain=(0.3, 3),
    da=lambda g, a, b: g * b / (a * a + b * b), db=lambda g, a, b: -g * a / (a * a + b * b),
    tensors="a b",
)  # fmt: skip
hypot = row(
    "hypot(a, b)",
    np.hypot,
    "sqrt(a^2 + b^2)",
    domain=(0.3, 3),
    da=lambda g, a, y: g * a / y,
    db=lambda g, b, y: g * b / y,
    tensors="a b", refuses="biu",
)


def _logaddexp(a: Any, b: Any) -> Any:
    if kind_of(a) != "c":
        return np.logaddexp(a, b)
    larger = np.where(a.real >= b.real, a, b)
    with np.errstate(all="ignore"):
        y = larger + np.log1p(np.exp(np.where(a.real >= b.real, b, a) - larger))
    return np.where(np.isinf(larger.real), np.where(larger.real < 0, larger, np.log(np.exp(a) + np.exp(b))), y)


logaddexp = row(
    "logaddexp(a, b)",
    _logaddexp,
    "log(e^a + e^b)",
    da=lambda g, a, b: g * sigmoid(a - b),
    db=lambda g, a, b: g * sigmoid(b - a),
    tensors="a b", refuses="biu",
)

# --- rounding: flat almost everywhere ---------------------------------------------------------------

_steps = {"kinks": (-3, -2.5, -2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2, 2.5, 3)}
floor = row("floor(x)", np.floor, "The largest integer not above x", dx=lambda g: g * 0, **_steps, refuses="b")
ceil = row("ceil(x)", np.ceil, "The smallest integer not below x", dx=lambda g: g * 0, **_steps, refuses="b")
trunc = row("trunc(x)", np.trunc, "x without its fraction", dx=lambda g: g * 0, **_steps, refuses="b")
frac = row("frac(x)", lambda x: x - np.trunc(x), "The fraction of x", dx=lambda g: g, **_steps, refuses="biu")
round = row(
    "round(x)", lambda x: np.positive(x) if x.dtype.kind in "iu" else np.rint(x),
    "The nearest integer; halves go to the even one", real=True, dx=lambda g: g * 0, **_steps, refuses="b",
)  # fmt: skip

# --- choosing ---------------------------------------------------------------------------------------


def _larger(g: Any, a: Any, b: Any) -> Any:
    """g where a > b, half of it where they tie: what PyTorch gives the first argument of maximum."""
    return g * ((a > b) + (a == b) * 0.5)


maximum = row(
    "maximum(a, b)", np.maximum, "The larger; NaN if one is", real=True, tensors="a b", da=_larger,
    db=lambda g, a, b: _larger(g, b, a),
)  # fmt: skip
minimum = row(
    "minimum(a, b)", np.minimum, "The smaller; NaN if one is", real=True, da=lambda g, a, b: _larger(g, b, a), db=_larger,
    tensors="a b",
)
fmax = row(
    "fmax(a, b)", np.fmax, "The larger; a number rather than NaN", real=True, da=lambda g, a, b: g * ((a >= b) + (b != b)),
    db=lambda g, a, b: g * (1.0 - ((a >= b) + (b != b))),
    tensors="a b",
)  # fmt: skip
fmin = row(
    "fmin(a, b)", np.fmin, "The smaller; a number rather than NaN", real=True, da=lambda g, a, b: g * ((a <= b) + (b != b)),
    db=lambda g, a, b: g * (1.0 - ((a <= b) + (b != b))),
    tensors="a b",
)  # fmt: skip


@op(
    promote="a b",
    da=lambda g, condition: where(condition, g, 0.0),
    db=lambda g, condition: where(condition, 0.0, g),
    cases=lambda r: [
        case(r.mask(3, 4), r(3, 4), r(3, 4)), case(r.mask(3, 1), r(4), r(2, 3, 4)), case(r.mask(3), r(3), 0.0),
        case(r.mask(3), 1.5, r(3)), case(r.mask(), r(), r()), case(r.mask(0), r(0), r(0)),
    ],
)  # fmt: skip
def where(condition, a, b):
    """a where the condition holds, else b. The three broadcast."""
    y = namespace(condition).where(condition, a, b)
    to = a.dtype if hasattr(a, "dtype") else getattr(b, "dtype", y.dtype)
    return y.astype(to, copy=False)  # CuPy chooses between two arrays of bfloat16 in float32


def _clamp(x: Any, min: Any, max: Any) -> Any:
    if min is None and max is None:
        raise RuntimeError("clamp: wanted min or max, saw neither")
    y = x
    if min is not None:
        y = np.maximum(x, min)
    return (y if max is None else np.minimum(y, max)).astype(x.dtype, copy=False)  # CuPy: bfloat16 and a number are float32


def _dclamp(g: Any, x: Any, min: Any, max: Any) -> Any:
    inside = x >= min if min is not None else x <= max
    if min is not None and max is not None:
        inside = inside * (x <= max)
    return g * inside


def _dbound(beyond: Callable[[Any, Any], Any], first: bool) -> Callable[..., Any]:
    """The gradient of a bound that is itself a tensor: g where it was the one that counted."""

    def at_min(g: Any, x: Any, min: Any, max: Any) -> Any:
        counts = x < min
        return g * (counts if max is None else counts * (min < max))

    def at_max(g: Any, x: Any, min: Any, max: Any) -> Any:
        counts = x > max
        return g * (counts if min is None else maximum(counts, max < min))

    return at_min if first else at_max


clamp = row(
    "clamp(x, min=None, max=None)", _clamp, "min(max(x, min), max); the bounds are numbers or tensors, or None",
    real=True, twin=None, promote="x min max", dx=_dclamp, dmin=_dbound(lt, True), dmax=_dbound(gt, False),
    cases=lambda r: [
        case(r(3, 4), -0.5, 0.5), case(r(3, 4), min=0.1), case(r(7), max=0.2), case(r(3), r(3), r(3) + 2), case(r(0), 0.0),
        case(r(), 0.0, 1.0),
    ],
)  # fmt: skip


@op(
    dx=lambda g: g,  # the tape casts it back
    cases=lambda r: [
        case(r(3, 4), np.dtype("float32"), order=0),
        case(r.integers(0, 5, 3), np.dtype("float64")),
        case(r(2), np.dtype("float64")),
    ],
    reference=lambda torch, x, dtype: x.to(getattr(torch, dtype.name)),
)
def cast(x, dtype):
    """x with another dtype; complex to real takes the real part."""
    if x.dtype.kind == "c" and dtype.kind not in "cb":
        x = x.real
    return x.astype(dtype)


# --- activations, each with its fused gradient --------------------------------------------------------


@np.errstate(over="ignore")  # where e^-x overflows, 1 / (1 + inf) = 0 is right
def _sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


sigmoid = row("sigmoid(x)", _sigmoid, "1 / (1 + e^-x)", floating=True, dx=lambda g, y: sigmoid_backward(g, y))
sigmoid_backward = row(
    "sigmoid_backward(g, y)", lambda g, y: g * y * (1 - y), "g y (1 - y)", domain=(0.05, 0.95),
    dg=lambda gg, y: sigmoid_backward(gg, y), dy=lambda gg, g, y: gg * g * (1 - y * 2),
)  # fmt: skip
log_sigmoid = row(
    "log_sigmoid(x)", lambda x: np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x))), "log(1 / (1 + e^-x))", real=True,
    dx=lambda g, x: g * sigmoid(-x), reference="nn.functional.logsigmoid", refuses="biu",
)  # fmt: skip
relu = row(
    "relu(x)", lambda x: np.maximum(x, 0), "max(x, 0)", real=True, refuses="b", kinks=(0,), dx=lambda g, y: relu_backward(g, y),
)  # fmt: skip
relu_backward = row(
    "relu_backward(g, y)", lambda g, y: keep(g, ~(y <= 0)), "0 where y <= 0, else g", kinks=(0,),
    dg=lambda gg, y: relu_backward(gg, y),
)  # fmt: skip
relu6 = row(
    "relu6(x)", lambda x: np.minimum(np.maximum(x, 0), 6), "min(max(x, 0), 6)", real=True, kinks=(0, 6), domain=(-2, 8),
    dx=lambda g, x: hardtanh_backward(g, x, 0.0, 6.0), refuses="b",
)  # fmt: skip
leaky_relu = row(
    "leaky_relu(x, negative_slope=0.01)", lambda x, negative_slope: keep(x, ~(x <= 0)) + np.minimum(x, 0) * negative_slope,
    "x where x > 0, else negative_slope x (Maas et al. 2013)", real=True, refuses="biu", kinks=(0,),
    dx=lambda g, x, negative_slope: leaky_relu_backward(g, x, negative_slope),
)  # fmt: skip
leaky_relu_backward = row(
    "leaky_relu_backward(g, x, negative_slope)", lambda g, x, negative_slope: keep(g, x > 0) + keep(g, ~(x > 0)) * negative_slope,
    "g where x > 0, else negative_slope g", kinks=(0,), cases=lambda r: [case(r(3, 4), r(3, 4), 0.1), case(r(0), r(0), 0.2)],
    dg=lambda gg, x, negative_slope: leaky_relu_backward(gg, x, negative_slope),
)  # fmt: skip
elu = row(
    "elu(x, alpha=1.0, scale=1.0, input_scale=1.0)",
    lambda x, alpha, scale, input_scale: np.maximum(x, 0) * scale
    + np.expm1(np.minimum(x, 0) * input_scale) * (alpha * scale),
    "scale x where x > 0, else scale alpha (e^(input_scale x) - 1) (Clevert et al. 2016)", real=True, kinks=(0,),
    dx=lambda g, x, alpha, scale, input_scale: elu_backward(g, x, alpha, scale, input_scale),
    reference=lambda torch, x, alpha=1.0, scale=1.0, input_scale=1.0: torch.ops.aten.elu(x, alpha, scale, input_scale),
    refuses="biu",
)  # fmt: skip
elu_backward = row(
    "elu_backward(g, x, alpha, scale, input_scale)",
    lambda g, x, alpha, scale, input_scale: g
    * (~(x <= 0) * like(x, scale) + keep(np.exp(np.minimum(x, 0) * input_scale), x <= 0) * (alpha * scale * input_scale)),
    "g scale where x > 0, else g scale alpha input_scale e^(input_scale x)", kinks=(0,),
    cases=lambda r: [case(r(3, 4), r(3, 4), 1.2, 1.1, 0.9), case(r(0), r(0), 1.0, 1.0, 1.0)],
    dg=lambda gg, x, alpha, scale, input_scale: elu_backward(gg, x, alpha, scale, input_scale),
    dx=lambda gg, g, x, alpha, scale, input_scale: gg * g * (x <= 0)
    * exp(clamp(x, max=0.0) * input_scale) * (alpha * scale * input_scale * input_scale),
)  # fmt: skip
softplus = row(
    "softplus(x, beta=1.0, threshold=20.0)",
    lambda x, beta, threshold: np.where(x * beta > threshold, x, np.log1p(np.exp(np.minimum(x * beta, threshold))) / beta),
    "log(1 + e^(beta x)) / beta, and x where beta x > threshold",
    real=True, dx=lambda g, x, beta, threshold: softplus_backward(g, x, beta, threshold), refuses="biu",
)  # fmt: skip
softplus_backward = row(
    "softplus_backward(g, x, beta, threshold)",
    lambda g, x, beta, threshold: np.where(x * beta > threshold, g, g * _sigmoid(x * beta)),
    "g / (1 + e^(-beta x))", cases=lambda r: [case(r(3, 4), r(3, 4), 1.5, 20.0), case(r(0), r(0), 1.0, 20.0)],
    dg=lambda gg, x, beta, threshold: softplus_backward(gg, x, beta, threshold),
    dx=lambda gg, g, x, beta, threshold: gg * g * (x * beta <= threshold) * sigmoid_backward(x * 0 + beta, sigmoid(x * beta)),
)  # fmt: skip
silu = row(
    "silu(x)", lambda x: x * _sigmoid(x), "x / (1 + e^-x) (Elfwing et al. 2018)",
    dx=lambda g, x: silu_backward(g, x), refuses="biu",
)  # fmt: skip


def _silu_backward(g: Any, x: Any) -> Any:
    s = _sigmoid(x)
    return g * s * (1 + x * (1 - s))


def _dsilu_backward(gg: Any, g: Any, x: Any) -> Any:
    s = sigmoid(x)
    return gg * g * s * (1 - s) * (2 + x * (1 - s * 2))


silu_backward = row(
    "silu_backward(g, x)", _silu_backward, "g s (1 + x (1 - s)), s = sigmoid(x)", dg=lambda gg, x: silu_backward(gg, x),
    dx=_dsilu_backward,
)  # fmt: skip


def _cody(x: Any, top: float) -> tuple[Any, Any, Any]:
    """|x|, erf(x) for |x| <= 0.46875 and erfc(|x|) beyond, up to |x| = top (W. J. Cody, Math. Comp. 23, 1969)."""
    t = np.abs(x) if x.dtype.itemsize >= 4 else np.abs(x.astype(np.float32))
    z = np.minimum(t, 0.5) ** 2
    num, den = z * _CODY_A[0], z
    for p, q in zip(_CODY_A[1:-1], _CODY_B[:-1], strict=True):
        num, den = (num + p) * z, (den + q) * z
    small = np.sign(x) * t * (num + _CODY_A[-1]) / (den + _CODY_B[-1])
    m = np.minimum(np.maximum(t, 0.46875), 4.0)
    num, den = m * _CODY_C[0], m
    for p, q in zip(_CODY_C[1:-1], _CODY_D[:-1], strict=True):
        num, den = (num + p) * m, (den + q) * m
    middle = np.exp(-m * m) * (num + _CODY_C[-1]) / (den + _CODY_D[-1])
    b = np.minimum(np.maximum(t, 4.0), top)
    w = 1 / (b * b)
    num, den = w * _CODY_P[0], w
    for p, q in zip(_CODY_P[1:-1], _CODY_Q[:-1], strict=True):
        num, den = (num + p) * w, (den + q) * w
    large = np.exp(-b * b) * (_INV_SQRT_PI - w * (num + _CODY_P[-1]) / (den + _CODY_Q[-1])) / b
    return t, small, np.where(t <= 4.0, middle, large)


def _erf_single(x: Any) -> Any:
    """erf in float32: x P(x^2) / Q(x^2), of degrees 6 and 4, with the coefficients that Eigen uses; 1 from 4 on."""
    c = np.minimum(np.maximum(x, -4), 4)
    z = c * c
    p = z * _SINGLE_P[0]
    for a in _SINGLE_P[1:-1]:
        p += a
        p *= z
    q = z * _SINGLE_Q[0]
    for a in _SINGLE_Q[1:-1]:
        q += a
        q *= z
    return np.minimum(np.maximum(c * (p + _SINGLE_P[-1]) / (q + _SINGLE_Q[-1]), -1), 1)


def _erf(x: Any) -> Any:
    if x.dtype == np.float32 and type(x) is np.ndarray:
        return _erf_single(x)
    t, small, tail = _cody(x, 6.0)  # erf is 1 to the last bit from 6 on
    y = np.where(t <= 0.46875, small, np.sign(x) * (1 - tail))
    return np.where(np.isnan(t), t, y).astype(x.dtype)


def _erfc(x: Any) -> Any:
    t, small, tail = _cody(x, 28.0)  # erfc is 0 in float64 from 28 on
    y = np.where(t <= 0.46875, 1 - small, np.where(x < 0, 2 - tail, tail))
    return np.where(np.isnan(t), t, y).astype(x.dtype)


# fmt: off
_SINGLE_P = (
    -2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05, -7.34990630326855e-04,
    -2.95459980854025e-03, -1.60960333262415e-02,
)
_SINGLE_Q = (-1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03, -1.42647390514189e-02)
_TAIL = (
    0.17087277, -0.82215223, 1.48851587, -1.13520398, 0.27886807, -0.18628806, 0.09678418, 0.37409196, 1.00002368,
    -1.26551223,
)
_INV_SQRT_PI = 0.56418958354775628695
_CODY_A = (
    1.857777061846031526730e-1, 3.16112374387056560e0, 1.13864154151050156e2, 3.77485237685302021e2,
    3.209377589138469472562e3,
)
_CODY_B = (2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.844236833439170622273e3)
_CODY_C = (
    2.15311535474403846343e-8, 5.64188496988670089e-1, 8.88314979438837594e0, 6.61191906371416295e1,
    2.98635138197400131e2, 8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3, 1.23033935479799725272e3,
)
_CODY_D = (
    1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3, 3.29079923573345963e3,
    4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942043e3,
)
_CODY_P = (
    1.63153871373020978498e-2, 3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1,
    1.60837851487422766e-2, 6.58749161529837803157e-4,
)
_CODY_Q = (
    2.56852019228982242e0, 1.87295284992346725e0, 5.27905102951428412e-1, 6.05183413124413191e-2, 2.33520497626869185443e-3,
)
# fmt: on

erf = row("erf(x)", _erf, "2 / sqrt(pi) times the integral of e^(-t^2) from 0 to x", real=True, floating=True,
    dx=lambda g, x: g * exp(-x * x) * (2 / math.sqrt(math.pi)))  # fmt: skip
erfc = row("erfc(x)", _erfc, "1 - erf(x), exact where it is small", real=True, floating=True,
    dx=lambda g, x: g * exp(-x * x) * (-2 / math.sqrt(math.pi)))  # fmt: skip
_SQRT_HALF, _INV_SQRT_2PI = math.sqrt(0.5), 1 / math.sqrt(2 * math.pi)
_TANH_A, _TANH_B = math.sqrt(2 / math.pi), 0.044715


def _normal_tail(x: Any) -> Any:
    """1 - Phi(|x|), exact relatively: how much of a normal distribution lies beyond |x|.

    In float32 by the Chebyshev fit of erfc in t = 1 / (1 + z / 2), to 1.2e-7 (Press et al., Numerical Recipes, 6.2).
    """
    z = np.abs(x) * like(x, _SQRT_HALF)
    if x.dtype != np.float32 or type(x) is not np.ndarray or not x.ndim:
        return _erfc(z) * 0.5
    t = z * like(x, 0.5)
    t += 1
    t = 1 / t
    e = t * _TAIL[0]
    for a in _TAIL[1:-1]:
        e += a
        e *= t
    z *= z
    e -= z
    e += _TAIL[-1]
    t *= np.exp(e, out=e)
    t *= 0.5
    return t


def _normal(x: Any) -> Any:
    """Phi(x), the normal distribution function, exact relatively in both tails."""
    return (x >= 0) - np.copysign(_normal_tail(x), x)


def _gelu(x: Any, approximate: str) -> Any:
    if approximate == "tanh":
        return x * (1 + np.tanh((x * x * _TANH_B + 1) * x * _TANH_A)) * 0.5
    if approximate != "none":
        raise RuntimeError(f"gelu: wanted approximate 'none' or 'tanh', saw {approximate!r}")
    # |x|, but no more than 40 to the right, where the tail is 0: infinity less infinity times 0 would be NaN
    return np.maximum(x, 0) - np.maximum(-x, np.minimum(x, 40)) * _normal_tail(x)


def _gelu_slope(x: Any, approximate: str) -> Any:
    if approximate == "tanh":
        t = np.tanh((x * x * _TANH_B + 1) * x * _TANH_A)
        return (1 + t + x * (1 - t * t) * (x * x * (3 * _TANH_B) + 1) * _TANH_A) * 0.5
    return _normal(x) + x * np.exp(x * x * -0.5) * _INV_SQRT_2PI


def _gelu_curvature(x: Any, approximate: str) -> Any:
    if approximate == "tanh":
        t = tanh((x * x * _TANH_B + 1) * x * _TANH_A)
        slope = (x * x * (3 * _TANH_B) + 1) * _TANH_A
        return (1 - t * t) * (slope + x * (3 * _TANH_A * _TANH_B) * x - x * t * slope * slope)
    return exp(x * x * -0.5) * (2 - x * x) * _INV_SQRT_2PI


_gelu_cases = {
    "cases": lambda r: [
        case(r(3, 4)),
        case(r(67), approximate="tanh"),
        case(r()),
        case(r(0)),
        case(r.strided(3, 4), approximate="tanh"),
    ]
}
gelu = row(
    "gelu(x, approximate='none')", _gelu, "x Phi(x), Phi the normal distribution function (Hendrycks & Gimpel 2016)",
    real=True, dx=lambda g, x, approximate: gelu_backward(g, x, approximate), **_gelu_cases, refuses="biu",
)  # fmt: skip
gelu_backward = row(
    "gelu_backward(g, x, approximate)", lambda g, x, approximate: g * _gelu_slope(x, approximate), "g (Phi(x) + x phi(x))",
    cases=lambda r: [case(r(3, 4), r(3, 4), "none"), case(r(67), r(67), "tanh"), case(r(0), r(0), "none")],
    dg=lambda gg, x, approximate: gelu_backward(gg, x, approximate),
    dx=lambda gg, g, x, approximate: gg * g * _gelu_curvature(x, approximate),
)  # fmt: skip


def _hardtanh(x: Any, min_val: Any, max_val: Any) -> Any:
    if min_val > max_val:
        raise ValueError(f"hardtanh: wanted min_val not above max_val, saw {min_val} and {max_val}")
    if x.dtype.kind in "iu":  # integers stay integers
        min_val, max_val = int(min_val), int(max_val)
    return np.minimum(np.maximum(x, min_val), max_val)


hardtanh = row(
    "hardtanh(x, min_val=-1.0, max_val=1.0)", _hardtanh,
    "x clipped to [min_val, max_val]", real=True, kinks=(-1, 1),
    dx=lambda g, x, min_val, max_val: hardtanh_backward(g, x, min_val, max_val), refuses="b",
)  # fmt: skip
hardtanh_backward = row(
    "hardtanh_backward(g, x, min_val, max_val)",
    lambda g, x, min_val, max_val: keep(g, ~((x <= min_val) | (x >= max_val))),
    "g strictly inside (min_val, max_val), else 0",
    cases=lambda r: [case(r(3, 4), r(3, 4), -0.5, 0.7), case(r(0), r(0), -1.0, 1.0)],
    dg=lambda gg, x, min_val, max_val: hardtanh_backward(gg, x, min_val, max_val),
)  # fmt: skip
hardsigmoid = row(
    "hardsigmoid(x)", lambda x: np.minimum(np.maximum(x + 3, 0), 6) / 6, "min(max(x + 3, 0), 6) / 6", real=True, kinks=(-3, 3),
    domain=(-4, 4), dx=lambda g, x: hardtanh_backward(g, x, -3.0, 3.0) / 6,
    # PyTorch's own hardsigmoid has a float32 1/6 in its float64 gradient
    reference=lambda torch, x: torch.nn.functional.relu6(x + 3) / 6, refuses="biu",
)  # fmt: skip
hardswish = row(
    "hardswish(x)", lambda x: x * (np.minimum(np.maximum(x + 3, 0), 6) / 6), "x hardsigmoid(x) (Howard et al. 2019)",
    real=True, kinks=(-3, 3), domain=(-4, 4),
    dx=lambda g, x: g * (hardtanh_backward(x * 0 + 1, x, -3.0, 3.0) * x / 6 + hardsigmoid(x)), refuses="biu",
)  # fmt: skip
softsign = row("softsign(x)", lambda x: x / (1 + np.abs(x)), "x / (1 + |x|)", kinks=(0,), floating=True, real=True,
    dx=lambda g, x: g / square(abs(x) + 1))  # fmt: skip
tanhshrink = row("tanhshrink(x)", lambda x: x - np.tanh(x), "x - tanh(x)", floating=True, dx=lambda g, x: g * square(tanh(x)))


def _softshrink(x: Any, lambd: float) -> Any:
    if lambd < 0:
        raise RuntimeError(f"softshrink: wanted lambd of at least 0, saw {lambd}")
    return x - np.minimum(np.maximum(x, -lambd), lambd)


softshrink = row(
    "softshrink(x, lambd=0.5)", _softshrink, "x moved lambd towards 0",
    real=True, kinks=(-0.5, 0.5), dx=lambda g, y: g * (y != 0), refuses="biu",
)  # fmt: skip
hardshrink = row(
    "hardshrink(x, lambd=0.5)", lambda x, lambd: x * ((x > lambd) | (x < -lambd) | (x != x)), "x where |x| > lambd, else 0",
    real=True, kinks=(-0.5, 0.5), dx=lambda g, x, lambd: g * (abs(x) > lambd), refuses="biu",
)  # fmt: skip
threshold = row(
    "threshold(x, threshold, value)", lambda x, threshold, value: np.where(x <= threshold, like(x, value), x),
    "x where x > threshold, else value", real=True, kinks=(0.1,), cases=lambda r: [case(r(3, 4), 0.1, 20.0), case(r(0), 0.1, 20.0)],
    dx=lambda g, x, threshold: g * (x > threshold),
)  # fmt: skip
mish = row(
    "mish(x)", lambda x: x * np.tanh(np.logaddexp(x, 0)), "x tanh(softplus(x)) (Misra 2019)",
    dx=lambda g, x: mish_backward(g, x), refuses="biu",
)  # fmt: skip


def _mish_backward(g: Any, x: Any) -> Any:
    t, s = np.tanh(np.logaddexp(x, 0)), _sigmoid(x)
    return g * (t + x * (1 - t * t) * s)


def _dmish_backward(gg: Any, g: Any, x: Any) -> Any:
    t, s = tanh(softplus(x)), sigmoid(x)
    u = (1 - t * t) * s
    return gg * g * (u * 2 + x * (u * (1 - s) - t * u * s * 2))


mish_backward = row(
    "mish_backward(g, x)", _mish_backward, "g (t + x (1 - t^2) s), t = tanh(softplus(x)), s = sigmoid(x)",
    dg=lambda gg, x: mish_backward(gg, x), dx=_dmish_backward,
)  # fmt: skip

# Klambauer et al. 2017, eq. 14
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


def selu(x: Any) -> Any:
    """scale (x where x > 0, else alpha (e^x - 1)) with the self-normalising alpha, scale (Klambauer et al. 2017)."""
    return elu(x, _SELU_ALPHA, _SELU_SCALE)


def celu(x: Any, alpha: float = 1.0) -> Any:
    """x where x > 0, else alpha (e^(x / alpha) - 1) (Barron 2017). ZeroDivisionError for alpha 0."""
    return elu(x, alpha, 1.0, 1.0 / alpha)


def prelu(x: Any, weight: Any) -> Any:
    """x where x > 0, else weight x, one weight for all or one per channel, dimension 1 (He et al. 2015)."""
    if weight.ndim > 1:
        raise RuntimeError(f"prelu: wanted one weight or a vector of them, saw shape {tuple(weight.shape)}")
    if weight.ndim and weight.shape[0] == 1:
        weight = weight.reshape(())
    elif weight.ndim:
        if x.ndim < 2 or x.shape[1] != weight.shape[0]:
            raise RuntimeError(f"prelu: wanted {weight.shape[0]} channels in dimension 1, saw shape {tuple(x.shape)}")
        weight = weight.reshape((weight.shape[0], *(1,) * (x.ndim - 2)))
    return where(x > 0, x, x * weight)


def add_scaled(input: Any, other: Any, alpha: Any = 1, *, out: Any = None) -> Any:
    """input + alpha other."""
    y = add(input, other if alpha == 1 else other * alpha)
    return y if out is None else into("add", out, y)


def sub_scaled(input: Any, other: Any, alpha: Any = 1, *, out: Any = None) -> Any:
    """input - alpha other."""
    y = sub(input, other if alpha == 1 else other * alpha)
    return y if out is None else into("sub", out, y)


@other_words
def divide(input: Any, other: Any, rounding_mode: str | None = None) -> Any:
    """input / other, or its integer below ('floor') or towards zero ('trunc'). RuntimeError for another rounding_mode."""
    if rounding_mode is None:
        return div(input, other)
    if rounding_mode == "floor":
        return floor_divide(input, other)
    if rounding_mode == "trunc":
        return trunc_divide(input, other)
    raise RuntimeError(f"div: wanted rounding_mode None, 'trunc' or 'floor', saw {rounding_mode!r}")


def to_floating(x: Any) -> Any:
    """x with the default floating dtype if it has integers or bools; a number as it is."""
    return x if not hasattr(x, "dtype") or is_differentiable(x.dtype) else cast(x, get_default_dtype())


def real_of(x: Any) -> Any:
    """The real part of an array, tensor or number, not recorded; what is real, as it is."""
    return unwrap(x).real if kind_of(x) == "c" else x


def kind_of(v: Any) -> str:
    """The kind of a tensor's, array's or Python number's dtype."""
    return v.dtype.kind if hasattr(v, "dtype") else np.asarray(v).dtype.kind


@other_words
def round_to(x: Any, decimals: int = 0) -> Any:
    """x rounded to `decimals` decimal places, halves to even."""
    if decimals < 0:
        return round(x / 10**-decimals) * 10**-decimals
    return round(x) if decimals == 0 else round(x * 10**decimals) / 10**decimals


@other_words
def lerp(input: Any, end: Any, weight: Any) -> Any:
    """input + weight (end - input), from the nearer end. RuntimeError unless the tensors have one floating dtype."""
    for v in (end, weight):
        if getattr(v, "dtype", input.dtype) != input.dtype:
            raise RuntimeError(f"lerp: wanted tensors of one dtype, saw {input.dtype} and {v.dtype}")
    if not is_differentiable(input.dtype):
        raise RuntimeError(f"lerp: wanted floating or complex numbers, saw {input.dtype}")
    return add(input, mul(sub(end, input), weight))


@other_words
def addcmul(input: Any, tensor1: Any, tensor2: Any, value: Any = 1) -> Any:
    """input + value tensor1 tensor2."""
    return add_scaled(input, mul(tensor1, tensor2), value)


@other_words
def addcdiv(input: Any, tensor1: Any, tensor2: Any, value: Any = 1) -> Any:
    """input + value tensor1 / tensor2."""
    if kind_of(tensor1) in "biu" and kind_of(tensor2) in "biu":
        raise RuntimeError(f"addcdiv: wanted floating numbers to divide, saw {tensor1.dtype} and {tensor2.dtype}")
    return add_scaled(input, div(tensor1, tensor2), value)


@other_words
def nan_to_num(input: Any, nan: Any = 0.0, posinf: Any = None, neginf: Any = None) -> Any:
    """input with NaN, infinity and minus infinity replaced; the infinities by the largest and smallest finite numbers."""
    if input.dtype.kind in "biu":
        return input * 1 if input.dtype.kind != "b" else bitwise_or(input, input)
    if input.dtype.kind == "c":
        from . import complexes

        return complexes.complex_of(*[nan_to_num(f(input), nan, posinf, neginf) for f in (complexes.real, complexes.imag)])
    ends = finfo(input.dtype)
    y = where(isnan(input), 0.0 if nan is None else nan, input)
    y = where(input == math.inf, float(ends.max) if posinf is None else posinf, y)
    return where(input == -math.inf, float(ends.min) if neginf is None else neginf, y)


@other_words
def clamp_min(input: Any, min: Any) -> Any:
    """The larger of input and min."""
    return clamp(input, min)


@other_words
def clamp_max(input: Any, max: Any) -> Any:
    """The smaller of input and max."""
    return clamp(input, None, max)


def isclose(input: Any, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Any:
    """Whether |a - b| <= atol + rtol |b|, element by element; equal infinities are close, NaNs if equal_nan says so.

    RuntimeError for different dtypes or a tolerance below 0.
    """
    a, b = input, other
    for v in (a, b):
        if not hasattr(v, "dtype"):
            raise TypeError(f"isclose: wanted two tensors, saw {v!r}")
    if a.dtype != b.dtype:
        raise RuntimeError(f"isclose: wanted two of one dtype, saw {a.dtype} and {b.dtype}")
    if rtol < 0 or atol < 0:
        raise RuntimeError(f"isclose: wanted rtol and atol of at least 0, saw {rtol} and {atol}")
    near = eq(a, b)
    if equal_nan and is_differentiable(a.dtype):
        near = logical_or(near, logical_and(isnan(a), isnan(b)))
    if rtol == 0 and atol == 0:
        return near
    if a.dtype.kind in "biu":  # whose differences wrap around
        a, b = cast(a, np.dtype("int64")), cast(b, np.dtype("int64"))
    apart = abs(sub(a, b))
    return logical_or(near, logical_and(isfinite(apart), le(apart, add(abs(mul(b, rtol)), atol))))


def allclose(input: Any, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Whether all elements are close (isclose); waits for the card."""
    return bool(unwrap(isclose(input, other, rtol, atol, equal_nan)).all())


def equal(a: Any, b: Any) -> bool:
    """Whether two tensors have the same shape and the same elements; waits for the card."""
    return tuple(a.shape) == tuple(b.shape) and bool(unwrap(eq(a, b)).all())


arccosh, arcsinh, arctanh = acosh, asinh, atanh
