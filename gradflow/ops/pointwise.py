"""Elementwise functions and their gradients: one row each, and one __device__ line in kernels/pointwise.cuh."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..backend import namespace
from ..cases import Sampler, case
from ..op import op, unwrap
from . import normal
from .elementwise import keep, kind_of, like, real_of, row
from .layout import kept

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
    xp = namespace(condition)
    y = xp.where(condition, a, b) if xp is np else kept(xp.where, condition, a, b)
    to = a.dtype if hasattr(a, "dtype") else getattr(b, "dtype", y.dtype)
    return y.astype(to, copy=False)  # CuPy chooses between two arrays of bfloat16 in float32


def _clamp(x: Any, min: Any, max: Any) -> Any:
    if min is None and max is None:
        raise RuntimeError("clamp: wanted min or max, saw neither")
    return _bounded(x, min, max) if type(x) is np.ndarray else kept(_bounded, x, min, max)


def _bounded(x: Any, min: Any, max: Any) -> Any:
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


erf = row("erf(x)", lambda x: normal.erf(x), "2 / sqrt(pi) times the integral of e^(-t^2) from 0 to x", real=True, floating=True,
    dx=lambda g, x: g * exp(-x * x) * (2 / math.sqrt(math.pi)))  # fmt: skip
erfc = row("erfc(x)", lambda x: normal.erfc(x), "1 - erf(x), exact where it is small", real=True, floating=True,
    dx=lambda g, x: g * exp(-x * x) * (-2 / math.sqrt(math.pi)))  # fmt: skip
_INV_SQRT_2PI = 1 / math.sqrt(2 * math.pi)
_TANH_A, _TANH_B = math.sqrt(2 / math.pi), 0.044715


def _gelu(x: Any, approximate: str) -> Any:
    if approximate == "tanh":
        return x * (1 + np.tanh((x * x * _TANH_B + 1) * x * _TANH_A)) * 0.5
    if approximate != "none":
        raise RuntimeError(f"gelu: wanted approximate 'none' or 'tanh', saw {approximate!r}")
    # |x|, but no more than 40 to the right, where the tail is 0: infinity less infinity times 0 would be NaN
    return np.maximum(x, 0) - np.maximum(-x, np.minimum(x, 40)) * normal.tail(x)


def _gelu_slope(x: Any, approximate: str) -> Any:
    if approximate == "tanh":
        t = np.tanh((x * x * _TANH_B + 1) * x * _TANH_A)
        return (1 + t + x * (1 - t * t) * (x * x * (3 * _TANH_B) + 1) * _TANH_A) * 0.5
    return normal.distribution(x) + x * np.exp(x * x * -0.5) * _INV_SQRT_2PI


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

arccosh, arcsinh, arctanh = acosh, asinh, atanh
