"""Signs and neighbours of numbers, and their binary parts: copysign, heaviside, nextafter, frexp, ldexp."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backend import is_floating, namespace
from ..cases import case
from ..dtypes import result_type
from ..op import op
from . import combined, elementwise, pointwise
from .dims import other_words
from .elementwise import row

signbit = row(
    "signbit(x)", lambda x: np.signbit(x) if x.dtype.kind not in "bu" else np.zeros_like(x, bool), "x has a minus sign, -0 too",
    real=True, twin=None,
)  # fmt: skip
isposinf = row("isposinf(x)", lambda x: x == math.inf, "x is infinity", real=True, twin=None)
isneginf = row("isneginf(x)", lambda x: x == -math.inf, "x is minus infinity", real=True, twin=None)


def _dcopysign(g: Any, a: Any, y: Any) -> Any:
    return pointwise.where(a == 0, 0.0, g * (y / pointwise.where(a == 0, 1.0, a)))


copysign = row(
    "copysign(a, b)",
    np.copysign,
    "|a| with the sign of b",
    real=True,
    floating=True,
    kinks=(0,),
    twin="special",
    tensors="a",
    da=_dcopysign,
    db=lambda g: g * 0,
)


@op(
    tensors="x values",
    cases=lambda r: [
        case(r(3, 4), r(3, 4)),
        case(np.array([-1.0, 0.0, 2.0, math.nan]), r(4)),
        case(r(0), r(0)),
        case(r(3, 1), r(4)),
    ],
)
def heaviside(x, values):
    """0 below 0, 1 above 0, and `values` at 0. RuntimeError unless both have one real dtype."""
    if x.dtype != values.dtype or x.dtype.kind == "c":
        raise RuntimeError(f"heaviside: wanted two of one real dtype, saw {x.dtype} and {values.dtype}")
    return namespace(x).where(x == 0, values, (x > 0).astype(x.dtype)).astype(x.dtype, copy=False)


@op(
    tensors="a b", da=lambda g, a, b: pointwise.where(a == b, 0.0, g), db=lambda g: g * 0,
    cases=lambda r: [
        case(r(3, 4), r(3, 4)), case(r(3, 1), r(4)), case(r(0), r(0)), case(np.zeros(3), r(3), grad=False),
        case(np.array([1.0, math.inf]), np.array([1.0, 0.0]), grad=False),
    ],
)  # fmt: skip
def nextafter(a, b):
    """The number next to a on the way to b. RuntimeError unless they are floating and real."""
    dtype = result_type(a, b)
    if not is_floating(dtype):
        raise RuntimeError(f"nextafter: wanted real floating numbers, saw {dtype}")
    if dtype.name == "bfloat16":  # the upper half of a float32's bits, in which neighbours are neighbours too
        a, b = a.astype(np.float32), b.astype(np.float32)
        xp = namespace(a)
        a, b = xp.broadcast_arrays(a, b)
        bits = a.view(np.int32)
        away = xp.where((b > a) == (a > 0), 1 << 16, -(1 << 16))
        first = xp.where(b > 0, 1 << 16, -(1 << 31) + (1 << 16)).astype(np.int32)
        y = xp.where(a == 0, first, (bits + away).astype(np.int32)).view(np.float32)
        return xp.where(a == b, b, xp.where((a != a) | (b != b), math.nan, y)).astype(dtype)
    return np.nextafter(a.astype(dtype), b.astype(dtype))


@op(
    outputs=("mantissa", "exponent"),
    dx=lambda g, exponent, x_dtype: g[0] / pointwise.exp2(pointwise.cast(exponent, x_dtype)),
    cases=lambda r: [
        case(r(3, 4)),
        case(np.asarray(r() + 2)),
        case(r(0)),
        case(np.array([0.0, 8.0, -0.3]), grad=False),
    ],
)
def frexp(x):
    """(mantissa, exponent) with x = mantissa 2^exponent and 1/2 <= |mantissa| < 1. RuntimeError unless x is floating."""
    if not is_floating(x.dtype):
        raise RuntimeError(f"frexp: wanted a real floating dtype, saw {x.dtype}")
    if x.dtype.itemsize == 2:
        m, e = np.frexp(x.astype(np.float32))
        return m.astype(x.dtype), e
    m, e = np.frexp(x)
    return m, e.astype(np.int32)


def _tensors(name: str, *values: Any) -> None:
    for v in values:
        if not hasattr(v, "dtype"):
            raise TypeError(f"{name}: wanted a tensor, saw {v!r}")


@other_words
def ldexp(input: Any, other: Any) -> Any:
    """input 2^other."""
    _tensors("ldexp", input, other)
    if elementwise.kind_of(input) == "f" and elementwise.kind_of(other) in "biu":
        other = pointwise.cast(other, input.dtype)
    return pointwise.mul(input, pointwise.pow(2.0, combined.to_floating(other)))


def _whole(name: str, *values: Any) -> None:
    for v in values:
        if elementwise.kind_of(v) not in "iu" and type(v) is not bool:
            raise RuntimeError(f"{name}: wanted integers, saw {getattr(v, 'dtype', type(v).__name__)}")


def _gcd(a: Any, b: Any) -> Any:
    _whole("gcd", a, b)
    return np.gcd(a, b)


def _lcm(a: Any, b: Any) -> Any:
    _whole("lcm", a, b)
    return np.lcm(a, b)


_two = {
    "cases": lambda r: [
        case(r.integers(-30, 30, 3, 4), r.integers(-20, 20, 4)),
        case(r.integers(0, 9), r.integers(0, 9)),
    ],
    "twin": None,
}
gcd = row("gcd(a, b)", _gcd, "The greatest common divisor", tensors="a b", **_two)
lcm = row("lcm(a, b)", _lcm, "The least common multiple", tensors="a b", **_two)


def _shift(name: str, left: bool) -> Any:
    def shift(a: Any, b: Any) -> Any:
        _whole(name, a, b)
        xp = namespace(a) if hasattr(a, "dtype") else namespace(b)
        dtype = a.dtype if hasattr(a, "dtype") else b.dtype
        bits = dtype.itemsize * 8
        most = bits - 1 - (dtype.kind == "i" and not left)  # what is shifted out to the right leaves the sign
        far = (b < 0) | (b > most)
        near = xp.where(far, 0, b).astype(dtype)
        a = xp.asarray(a, dtype=dtype)
        if left:
            return xp.where(far, 0, a << near).astype(dtype)
        return xp.where(far, xp.where(a < 0, -1, 0) if dtype.kind == "i" else 0, a >> near).astype(dtype)

    return shift


_bits = {
    "cases": lambda r: [case(r.integers(-9, 9, 3, 4), r.integers(0, 5, 4)), case(r.integers(-9, 9, 3), np.array([70, -1, 62]))],
    "twin": None, "tensors": "a|b",
}  # fmt: skip
bitwise_left_shift = row(
    "bitwise_left_shift(a, b)",
    _shift("bitwise_left_shift", True),
    "a 2^b, its bits beyond the dtype lost; 0 for b below 0 or beyond",
    **_bits,
)
bitwise_right_shift = row(
    "bitwise_right_shift(a, b)",
    _shift("bitwise_right_shift", False),
    "a / 2^b rounded down; the sign alone for b below 0 or beyond",
    **_bits,
)


deg2rad = row(
    "deg2rad(x)", lambda x: x * elementwise.like(x, math.pi / 180), "x pi / 180", real=True, floating=True, twin="special",
    dx=lambda g: g * (math.pi / 180),
)  # fmt: skip
rad2deg = row(
    "rad2deg(x)", lambda x: x * elementwise.like(x, 180 / math.pi), "x 180 / pi", real=True, floating=True, twin="special",
    dx=lambda g: g * (180 / math.pi),
)  # fmt: skip


@other_words
def float_power(input: Any, exponent: Any) -> Any:
    """input^exponent, computed and given in float64, or complex128 if one is complex."""
    values = (input, exponent)
    if not any(hasattr(v, "dtype") for v in values):
        raise TypeError(f"float_power: wanted a tensor as input or exponent, saw {input} and {exponent}")
    dtype = np.dtype("complex128" if any(elementwise.kind_of(v) == "c" for v in values) else "float64")
    a, b = (pointwise.cast(v, dtype) if hasattr(v, "dtype") else dtype.type(v).item() for v in values)
    return pointwise.pow(a, b)


def float_power_(self: Any, exponent: Any) -> Any:
    """self^exponent written into self. RuntimeError unless self is float64, or complex128 if one is complex."""
    wanted = "complex128" if "c" in (self.dtype.kind, elementwise.kind_of(exponent)) else "float64"
    if self.dtype != wanted:
        raise RuntimeError(f"float_power_: wanted a base of dtype {wanted}, saw {self.dtype}")
    return self.pow_(exponent)


def rsub(input: Any, other: Any, alpha: Any = 1) -> Any:
    """other - alpha input."""
    _tensors("rsub", input)
    return pointwise.sub(other, input if alpha == 1 else input * alpha)


@other_words
def isin(elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False) -> Any:
    """Whether each of `elements` is among `test_elements`; one of the two may be a number."""
    if not hasattr(elements, "dtype") and not hasattr(test_elements, "dtype"):
        raise TypeError("isin: wanted a tensor among elements and test_elements, saw numbers")
    for v in (elements, test_elements):
        if elementwise.kind_of(v) in "bc":
            raise RuntimeError(f"isin: wanted integers or real numbers, saw {getattr(v, 'dtype', type(v).__name__)}")
    return is_among(elements, test_elements, bool(invert))


@op(
    promote="a b", real=True, reference=lambda torch, a, b, invert: torch.isin(a, b, invert=invert),
    cases=lambda r: [
        case(r.integers(0, 9, 3, 4), r.integers(0, 5, 4), False), case(r.integers(0, 9, 3), 2, True), case(r(0), r(3), False),
        case(2.0, r(3), False),
    ],
)  # fmt: skip
def is_among(a, b, invert):
    """Whether each element of a is among those of b, or is not."""
    xp = namespace(a) if hasattr(a, "dtype") else namespace(b)
    return xp.isin(xp.asarray(a), xp.asarray(b).reshape(-1), invert=invert)
