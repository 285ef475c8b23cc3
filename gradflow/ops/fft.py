"""Discrete Fourier transforms: three linear maps, whose gradients are each other, and the public family made of them.

Of n points, y_k = sum_j x_j e^(-2 pi i jk / n). `norm` says where the factor 1/n stands: "backward" (the default) in the
inverse, "forward" in the forward transform, "ortho" as 1/sqrt(n) in both.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import backend
from ..backend import namespace
from ..cases import case
from ..op import op, unwrap
from . import arrange, pointwise, shape

NORMS = {None: "backward", "backward": "backward", "ortho": "ortho", "forward": "forward"}
OTHER_WAY = {"backward": "forward", "ortho": "ortho", "forward": "backward"}


@op(
    dx=lambda g, dims, norm, inverse: transform(g, dims, norm, inverse),  # the matrix is symmetric
    cases=lambda r: [
        case(r(5) + 1j * r(5), (0,)),
        case(r(2, 4) + 1j * r(2, 4), (1,), "ortho", True),
        case(r(3, 4) + 1j * r(3, 4), (0, 1), "forward"),
        case(r.strided(2, 3) + 0j, (-1,), "backward", True),
        case(r(4), (0,), "backward", False),
    ],
    reference=lambda torch, x, dims, norm="backward", inverse=False: (torch.fft.ifftn if inverse else torch.fft.fftn)(
        x, dim=dims, norm=norm
    ),
)
def transform(x, dims, norm="backward", inverse=False):
    """y_k = sum_j x_j e^(-+ 2 pi i jk / n) over `dims`, complex to complex."""
    fft = namespace(x).fft
    return (fft.ifftn if inverse else fft.fftn)(x, axes=dims, norm=norm)


def _weights(x: Any, n: int, middle: float) -> Any:
    """1 for the frequencies of a half spectrum that stand once in the whole, `middle` for those that stand twice."""
    m = n // 2 + 1
    w = np.full(m, middle, np.float32 if unwrap(x).dtype.itemsize <= 8 and unwrap(x).dtype.kind == "c" else None)
    w[0] = 1
    if n % 2 == 0:
        w[-1] = 1
    return namespace(unwrap(x)).asarray(w)


def _dhalf(g: Any, x_shape: tuple, dim: int, norm: str) -> Any:
    n = x_shape[dim]
    w = _weights(g, n, 0.5)
    w = w.reshape([-1 if i == dim % len(x_shape) else 1 for i in range(len(x_shape))])
    return whole_spectrum(g * w, n, dim, OTHER_WAY[norm])


@op(
    dx=_dhalf,
    holomorphic=False,
    real=True,
    cases=lambda r: [
        case(r(5), 0),
        case(r(2, 4), 1, "ortho"),
        case(r(6, 2), 0, "forward"),
        case(r(1), 0),
    ],
    reference=lambda torch, x, dim, norm="backward": torch.fft.rfft(x, dim=dim, norm=norm),
)
def half_spectrum(x, dim, norm="backward"):
    """The frequencies 0 ... n // 2 of a real x along `dim`: the others are their conjugates."""
    return namespace(x).fft.rfft(x, axis=dim, norm=norm)


def _dwhole(g: Any, n: int, dim: int, norm: str) -> Any:
    y = half_spectrum(g, dim, OTHER_WAY[norm])
    w = _weights(y, n, 2.0)
    rank = unwrap(g).ndim
    return y * w.reshape([-1 if i == dim % rank else 1 for i in range(rank)])


@op(
    dx=_dwhole,
    holomorphic=False,
    cases=lambda r: [
        case(r(3) + 1j * r(3), 5, 0),
        case(r(2, 3) + 1j * r(2, 3), 4, 1, "ortho"),
        case(r(4, 2) + 1j * r(4, 2), 6, 0, "forward"),
        case(r(1) + 1j * r(1), 1, 0),
    ],
    reference=lambda torch, x, n, dim, norm="backward": torch.fft.irfft(x, n, dim=dim, norm=norm),
)
def whole_spectrum(x, n, dim, norm="backward"):
    """The real signal of n points whose frequencies 0 ... n // 2 are x along `dim`; of 0 and n / 2 the real part counts."""
    return namespace(x).fft.irfft(x, n, axis=dim, norm=norm)


# --- the public family --------------------------------------------------------------------------------


def _input(name: str, x: Any, complex_too: bool = True) -> Any:
    """x as floating numbers. RuntimeError for half types, and for complex numbers unless wanted."""
    a = unwrap(x)
    if a.dtype.kind == "c" and not complex_too:
        raise RuntimeError(f"{name}: wanted real numbers, saw {a.dtype}")
    if a.dtype.itemsize == 2 and backend.is_floating(a.dtype):
        raise RuntimeError(f"{name}: wanted 4 or 8 bytes per number, saw {a.dtype}")
    return pointwise.cast(x, backend.get_default_dtype()) if a.dtype.kind in "biu" else x


def _norm(name: str, norm: str | None) -> str:
    if norm not in NORMS:
        raise RuntimeError(f"{name}: wanted norm 'backward', 'ortho' or 'forward', saw {norm!r}")
    return NORMS[norm]


def _dims(name: str, x: Any, s: Any, dim: Any) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """The dimensions meant, none negative, and the sizes asked for."""
    rank = unwrap(x).ndim
    s = (s,) if isinstance(s, int) else s
    if dim is None:
        if s is not None and len(s) > rank:
            raise RuntimeError(f"{name}: wanted at most {rank} sizes, saw {len(s)}")
        dim = range(0 if s is None else rank - len(s), rank)
    dim = (dim,) if isinstance(dim, int) else tuple(dim)
    if s is not None and len(s) != len(dim):
        raise RuntimeError(f"{name}: wanted as many sizes as dimensions, saw {tuple(s)} for {dim}")
    for d in dim:
        if not -rank <= d < rank:
            raise IndexError(f"{name}: wanted dimensions of a tensor that has {rank}, saw {d}")
    dims = tuple(d % rank for d in dim)
    if len(set(dims)) != len(dims):
        raise RuntimeError(f"{name}: wanted every dimension once, saw {dim}")
    return dims, s


def _resized(name: str, x: Any, dims: tuple[int, ...], s: tuple[int, ...] | None) -> Any:
    """x cut, or padded with zeros, to the sizes s along dims; -1 keeps a size. RuntimeError for a size below one."""
    for d, n in zip(dims, s if s is not None else (-1,) * len(dims), strict=True):
        have = unwrap(x).shape[d]
        n = have if n == -1 else n
        if n < 1:
            raise RuntimeError(f"{name}: wanted at least one point along dimension {d}, saw {n}")
        if n < have:
            x = shape.narrow(x, d, 0, n)
        elif n > have:
            x = arrange.constant_pad(x, (0, 0) * (unwrap(x).ndim - 1 - d) + (0, n - have))
    return x


def _complex(name: str, inverse: bool, x: Any, s: Any, dim: Any, norm: Any) -> Any:
    """Complex to complex over some dimensions."""
    x, norm = _input(name, x), _norm(name, norm)
    dims, s = _dims(name, x, s, dim)
    x = _resized(name, x, dims, s)
    if not dims:
        return x if unwrap(x).dtype.kind == "c" else pointwise.cast(x, np.result_type(unwrap(x).dtype, np.complex64))
    return transform(x, dims, norm, inverse)


def _real_to_half(name: str, inverse: bool, x: Any, s: Any, dim: Any, norm: Any) -> Any:
    """Real to half spectrum along the last of dims, complex along the others; `inverse` for ihfft's direction."""
    x, norm = _input(name, x, complex_too=False), _norm(name, norm)
    dims, s = _dims(name, x, s, dim)
    if not dims:
        raise RuntimeError(f"{name}: wanted at least one dimension to transform, saw none")
    x = _resized(name, x, dims, s)
    if inverse:  # e^(+...) of a real x is the conjugate of e^(-...)
        y = pointwise.conj(half_spectrum(x, dims[-1], OTHER_WAY[norm]))
    else:
        y = half_spectrum(x, dims[-1], norm)
    return transform(y, dims[:-1], norm, inverse) if len(dims) > 1 else y


def _half_to_real(name: str, inverse: bool, x: Any, s: Any, dim: Any, norm: Any) -> Any:
    """Half spectrum to real along the last of dims, complex along the others; not `inverse` for hfft's direction."""
    x, norm = _input(name, x), _norm(name, norm)
    dims, s = _dims(name, x, s, dim)
    if not dims:
        raise RuntimeError(f"{name}: wanted at least one dimension to transform, saw none")
    n = s[-1] if s is not None and s[-1] != -1 else 2 * (unwrap(x).shape[dims[-1]] - 1)
    if n < 1:
        raise RuntimeError(f"{name}: wanted at least one point along dimension {dims[-1]}, saw {n}")
    x = _resized(name, x, dims, (*(s if s is not None else (-1,) * len(dims))[:-1], n // 2 + 1))
    if unwrap(x).dtype.kind != "c":
        x = pointwise.cast(x, np.result_type(unwrap(x).dtype, np.complex64))
    if len(dims) > 1:
        x = transform(x, dims[:-1], norm, inverse)
    if inverse:
        return whole_spectrum(x, n, dims[-1], norm)
    return whole_spectrum(pointwise.conj(x), n, dims[-1], OTHER_WAY[norm])


_DOC = {
    "fft": (_complex, False, "The discrete Fourier transform of x."),
    "ifft": (_complex, True, "The inverse of fft."),
    "rfft": (_real_to_half, False, "The transform of a real x: the half of it that is not the conjugate of the other."),
    "irfft": (_half_to_real, True, "The inverse of rfft; the last size is 2 (m - 1) of m frequencies unless given."),
    "hfft": (
        _half_to_real,
        False,
        "The real transform of a signal with x(-t) = conj x(t), of which x is the half t >= 0.",
    ),
    "ihfft": (_real_to_half, True, "The inverse of hfft: half of the inverse transform of a real x."),
}


def _family(name: str) -> tuple[Any, Any, Any]:
    """The transform over one dimension, over the last two, and over n."""
    way, inverse, doc = _DOC[name]

    def one(input, n=None, dim=-1, norm=None, *, out=None):
        if n is not None and n < 1:
            raise RuntimeError(f"{name}: wanted at least one point, saw {n}")
        return written(way(name, inverse, input, None if n is None else (n,), (dim,), norm), out)

    def two(input, s=None, dim=(-2, -1), norm=None, *, out=None):
        return written(way(f"{name}2", inverse, input, s, dim, norm), out)

    def many(input, s=None, dim=None, norm=None, *, out=None):
        return written(way(f"{name}n", inverse, input, s, dim, norm), out)

    ends = (
        ("", one, "over one dimension"),
        ("2", two, "over two dimensions"),
        ("n", many, "over `dim`, all unless given"),
    )
    for end, f, where in ends:
        f.__name__ = f.__qualname__ = f"{name}{end}"
        f.__doc__ = (
            f"{doc}\n\n    {where.capitalize()}, each first cut or padded with zeros to the size given, if one is.\n"
            "    norm: 'backward', 'ortho' or 'forward'. RuntimeError for half types, sizes below one, a dimension twice."
        )
    return one, two, many


def written(y: Any, out: Any) -> Any:
    """y, or `out` with y written into it."""
    return y if out is None else out.copy_(y)


fft, fft2, fftn = _family("fft")
ifft, ifft2, ifftn = _family("ifft")
rfft, rfft2, rfftn = _family("rfft")
irfft, irfft2, irfftn = _family("irfft")
hfft, hfft2, hfftn = _family("hfft")
ihfft, ihfft2, ihfftn = _family("ihfft")


def fftshift(input: Any, dim: Any = None) -> Any:
    """The zero frequency moved to the middle, along `dim` or all dimensions."""
    return _shift(input, dim, 1)


def ifftshift(input: Any, dim: Any = None) -> Any:
    """The inverse of fftshift."""
    return _shift(input, dim, -1)


def _shift(x: Any, dim: Any, way: int) -> Any:
    sizes = unwrap(x).shape
    dims = tuple(range(len(sizes))) if dim is None else (dim,) if isinstance(dim, int) else tuple(dim)
    return (
        arrange.roll(x, tuple(way * (sizes[d] // 2) if way > 0 else -(sizes[d] // 2) for d in dims), dims)
        if dims
        else x
    )
