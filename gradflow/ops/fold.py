"""Fold and unfold: the patches of an image as columns of a matrix, and columns added up to an image again."""

from __future__ import annotations

from math import prod
from typing import Any

from ..backend import namespace
from ..cases import Sampler, case
from ..op import op
from .correlate import taps_seen
from .reduce import wide
from .window import Window, check_batch, numbers, window


def _cases(r: Sampler) -> list[case]:
    return [
        case(r(2, 3, 5, 6), 3),
        case(r(2, 2, 6, 5), (2, 3), 1, 1, 2),
        case(r(1, 2, 7, 6), (3, 2), (2, 1), (2, 1), (1, 2)),
        case(r(3, 4, 5), 2, 1, 0, 3),  # no batch; a stride over the kernel: inputs that none sees
        case(r(2, 1, 1, 1), 3, 1, 1),
        case(r.strided(2, 3, 4, 5), (1, 2)),
        case(r(0, 2, 4, 4), 2),
    ]


def _fold_cases(r: Sampler) -> list[case]:
    found = []
    for c in _cases(r):
        x, *windows = c.args
        found.append(case(r(*im2col(x, *windows).shape), tuple(x.shape[-2:]), *windows))
    return found


def frame(name: str, x_shape: tuple[int, ...], kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> Window:
    """The windows of a sliding kernel over images (n, c, h, w) or (c, h, w). RuntimeError where they do not fit."""
    check_batch(name, x_shape, 2)
    kernel = numbers(name, "kernel_size", kernel_size, 2, 1)
    if min(x_shape[-3:]) < 1:
        raise RuntimeError(f"{name}: wanted channels and sizes above zero, saw {tuple(x_shape)}")
    return window(name, 2, x_shape, (1, x_shape[-3], *kernel), stride, padding, dilation, 1)


def patches(
    name: str, x_shape: tuple[int, ...], output_size: Any, kernel_size: Any, dilation: Any, padding: Any, stride: Any
) -> tuple[tuple[int, ...], Window]:
    """(the shape of the image, the windows) that columns of shape x_shape are folded to. RuntimeError if they are not."""
    if len(x_shape) not in (2, 3):
        raise RuntimeError(f"{name}: wanted columns (n, c taps, l) or (c taps, l), saw {tuple(x_shape)}")
    sizes, kernel = numbers(name, "output_size", output_size, 2, 1), numbers(name, "kernel_size", kernel_size, 2, 1)
    taps = prod(kernel)
    if not x_shape[-2] or x_shape[-2] % taps:
        raise RuntimeError(f"{name}: wanted rows that the {taps} taps of a kernel divide, saw {tuple(x_shape)}")
    shape = (*x_shape[:-2], x_shape[-2] // taps, *sizes)
    win = frame(name, shape, kernel, dilation, padding, stride)
    if x_shape[-1] != prod(win.out):
        raise RuntimeError(f"{name}: wanted {prod(win.out)} columns, one for each place, saw {tuple(x_shape)}")
    return shape, win


def inside(win: Window) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Where the image and the part of its padding that windows see meet: (in the image, in the part)."""
    here, there = [], []
    for size, width, b in zip(win.sizes, win.span, win.before, strict=True):
        here.append(slice(0, max(0, min(size, width - b))))
        there.append(slice(min(b, width), min(b + size, width)))
    return (..., *here), (..., *there)


@op(
    dx=lambda g, x_shape, kernel_size, dilation, padding, stride: col2im(
        g, tuple(x_shape[-2:]), kernel_size, dilation, padding, stride
    ),
    twin="fold",
    cases=_cases,
    reference="nn.functional.unfold",
)
def im2col(x, kernel_size, dilation=1, padding=0, stride=1):
    """The patches of an image as columns: y[n, (c, i, j), (oh, ow)] = x[n, c, oh stride - padding + i dilation, ...].

    x (n, c, h, w) to (n, c kh kw, oh ow), or both without n; zero outside. RuntimeError where the windows do not fit.
    """
    xp, win = namespace(x), frame("unfold", x.shape, kernel_size, dilation, padding, stride)
    wide_x = x
    if any(win.before) or win.span != win.sizes:
        wide_x = xp.zeros((*x.shape[:-2], *win.span), x.dtype)
        here, there = inside(win)
        wide_x[there] = x[here]
    *lead, sh, sw = wide_x.strides
    (dh, dw), (th, tw) = win.dilation, win.stride
    seen = xp.lib.stride_tricks.as_strided(
        wide_x, (*x.shape[:-2], *win.kernel, *win.out), (*lead, sh * dh, sw * dw, sh * th, sw * tw)
    )
    return seen.reshape(*x.shape[:-3], x.shape[-3] * prod(win.kernel), prod(win.out))


@op(
    dx=lambda g, kernel_size, dilation, padding, stride: im2col(g, kernel_size, dilation, padding, stride),
    twin="fold",
    cases=_fold_cases,
    reference="nn.functional.fold",
)
def col2im(x, output_size, kernel_size, dilation=1, padding=0, stride=1):
    """Columns added up to an image: x[n, (c, i, j), (oh, ow)] is added to y[n, c, oh stride - padding + i dilation, ...].

    x (n, c kh kw, l) to (n, c, *output_size), or both without n; the transpose of unfold, not its inverse. RuntimeError
    unless l is the number of places of the kernel.
    """
    xp = namespace(x)
    shape, win = patches("fold", x.shape, output_size, kernel_size, dilation, padding, stride)
    laid = xp.zeros((prod(shape[:-2]), *win.span), wide(x.dtype))
    columns = x.reshape(len(laid), *win.kernel, *win.out)
    for tap, seen in taps_seen(win, 0, win.out):
        laid[seen] += columns[tap]
    here, there = inside(win)
    y = xp.zeros((len(laid), *win.sizes), x.dtype)
    y[here] = laid[there]
    return y.reshape(shape)


def unfold(input: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Any:
    """The patches of images as columns: (n, c, h, w) to (n, c kh kw, places); im2col with PyTorch's arguments."""
    return im2col(input, kernel_size, dilation, padding, stride)


def fold(input: Any, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Any:
    """Columns added up to images: (n, c kh kw, places) to (n, c, *output_size); col2im with PyTorch's arguments."""
    return col2im(input, output_size, kernel_size, dilation, padding, stride)
