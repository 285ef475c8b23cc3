"""Pooling in one to three dimensions: the largest or the mean of each window, and their gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..cases import Sampler, case
from ..op import op
from . import pointwise
from .layout import last_of
from .pooled import average, average_backward, gathered, largest, scattered
from .span import adaptive, check_input, numbers, spans

_SIZES = {1: "l", 2: "h, w", 3: "d, h, w"}

_MAX = """(The largest element of every window, its place): places count in C order within the ({s}) of a plane.

    x (n, c, {s}) or without n. kernel_size, stride (default: kernel_size), padding and dilation are one number or
    one for each dim; with ceil_mode a last window may reach over the end. The padding is never chosen; of equal
    elements the first is; a NaN is larger than all. RuntimeError where the windows do not fit.
    """
_MAX_BACKWARD = """The gradient of {name} from g, that of its values: dx[i] = sum of g[o] over the windows o that
    chose i.
    The windows are those of max pooling; without a kernel_size, the adaptive ones. The channels of dx lie last if x's do.
    """
_GATHER = """The elements of x at the places that {name} gave: y[n, c, o] = x[n, c].flat[indices[n, c, o]].
    What {name} does to a tangent, and so the gradient of its gradient.
    """
_AVERAGE = """The mean of every window: y[n, c, o] = sum over taps t of x[n, c, o * stride - padding + t] / divisor.

    x (n, c, {s}) or without n, zero outside. The divisor is the window's size, with the padding that it covers unless
    count_include_pad=False{override}. With ceil_mode a last window may reach over the end.
    RuntimeError where the windows do not fit.
    """
_AVERAGE_BACKWARD = """The gradient of {name} from g, that of its output: dx[i] = sum of g[o] / divisor[o] over the
    windows o that hold i. The channels of dx lie last if those of the input do.
    """
_ADAPTIVE = """{what} of output_size windows that share the input out: of m windows over n elements, window i is
    [floor(i n / m), ceil((i + 1) n / m)).

    x (n, c, {s}) or without n; output_size is one number or one for each dim, None for the input's own size.
    RuntimeError for an input without elements in a plane.
    """


# --- the largest ------------------------------------------------------------------------------------------------------


def _largest(rank: int) -> tuple[Callable[..., Any], ...]:
    """(max_pool with indices, the adaptive one, the gradient of both) of this many spatial dims."""
    name, adaptive_name = f"max_pool{rank}d_with_indices", f"adaptive_max_pool{rank}d_with_indices"
    backward_name, gather_name = f"max_pool{rank}d_backward", f"max_pool{rank}d_gather"

    def pool(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
        return largest(x, spans(name, x.shape, rank, kernel_size, stride, padding, dilation, ceil_mode))

    def adaptive_pool(x, output_size):
        return largest(x, adaptive(adaptive_name, x.shape, rank, output_size))

    def pool_backward(g, indices, x_shape, kernel_size=None, stride=None, padding=0, dilation=1, last=False):
        check_places(backward_name, g, indices, x_shape, rank)
        return scattered(g, indices, x_shape, rank, last)

    def pool_gather(x, indices, kernel_size=None, stride=None, padding=0, dilation=1):
        check_input(gather_name, x.shape, rank)
        return gathered(x, indices, rank)

    pool.__doc__ = _MAX.format(s=_SIZES[rank])
    adaptive_pool.__doc__ = _ADAPTIVE.format(what="(The largest elements, their places)", s=_SIZES[rank])
    pool_backward.__doc__, pool_gather.__doc__ = _MAX_BACKWARD.format(name=name), _GATHER.format(name=name)
    with_indices = op(
        pool,
        name=name,
        real=True,
        twin="pool",
        outputs=("values", "indices"),
        dx=lambda g, indices, x_shape, x_strides, kernel_size, stride, padding, dilation: backward(
            g[0], indices, x_shape, kernel_size, stride, padding, dilation, last_of(x_shape, x_strides, rank)
        ),
        cases=lambda r: _max_cases(r, rank),
        reference=f"nn.functional.{name}",
    )
    adaptive_with_indices = op(
        adaptive_pool,
        name=adaptive_name,
        real=True,
        twin="pool",
        outputs=("values", "indices"),
        dx=lambda g, indices, x_shape, x_strides: backward(
            g[0], indices, x_shape, last=last_of(x_shape, x_strides, rank)
        ),
        cases=lambda r: [case(r.distinct(*c.args[0].shape), c.args[1]) for c in _adaptive_cases(r, rank)],
        reference=f"nn.functional.{adaptive_name}",
    )
    backward = op(
        pool_backward,
        name=backward_name,
        twin="pool",
        dg=lambda gg, indices, kernel_size, stride, padding, dilation: gather(
            gg, indices, kernel_size, stride, padding, dilation
        ),
        cases=lambda r: [*_places(r, _max_cases(r, rank), pool), *_places(r, _adaptive_cases(r, rank), adaptive_pool)],
        reference=None,
    )
    gather = op(
        pool_gather,
        name=gather_name,
        dx=lambda g, indices, x_shape, x_strides, kernel_size, stride, padding, dilation: backward(
            g, indices, x_shape, kernel_size, stride, padding, dilation, last_of(x_shape, x_strides, rank)
        ),
        cases=lambda r: [case(r(*c.args[2]), *c.args[1:2], *c.args[3:]) for c in backward.op.cases(r)],
        reference=None,
    )
    return with_indices, adaptive_with_indices, backward, gather


def check_places(name: str, g: Any, indices: Any, x_shape: tuple[int, ...], rank: int) -> None:
    """RuntimeError unless g and the places are of one shape, with the planes of x_shape."""
    check_input(name, x_shape, rank)
    if g.shape != indices.shape or tuple(g.shape[:-rank]) != tuple(x_shape[:-rank]):
        raise RuntimeError(
            f"{name}: wanted g and indices of one shape, for the planes of {tuple(x_shape)}, "
            f"saw {tuple(g.shape)} and {tuple(indices.shape)}"
        )


# --- the mean ---------------------------------------------------------------------------------------------------------


def _mean(rank: int) -> tuple[Callable[..., Any], ...]:
    """(avg_pool, its gradient, adaptive_avg_pool, its gradient) of this many spatial dims."""
    name, backward_name = f"avg_pool{rank}d", f"avg_pool{rank}d_backward"
    adaptive_name, adaptive_backward_name = f"adaptive_avg_pool{rank}d", f"adaptive_avg_pool{rank}d_backward"

    def pool(x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None):
        dims = spans(name, x.shape, rank, kernel_size, stride, padding, 1, ceil_mode)
        check_divisor(name, divisor_override)
        return average(x, dims, count_include_pad, divisor_override)

    def pool1d(x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
        return pool(x, kernel_size, stride, padding, ceil_mode, count_include_pad)

    def pool_backward(
        g, x_shape, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None,
        last=False,
    ):
        dims = spans(backward_name, x_shape, rank, kernel_size, stride, padding, 1, ceil_mode)
        check_divisor(backward_name, divisor_override)
        check_gradient(backward_name, g, x_shape, dims)
        return average_backward(g, dims, count_include_pad, divisor_override, last)

    def adaptive_pool(x, output_size):
        return average(x, adaptive(adaptive_name, x.shape, rank, output_size, empty=rank < 3))

    def adaptive_pool_backward(g, x_shape, last=False):
        dims = adaptive(adaptive_backward_name, x_shape, rank, g.shape[-rank:], empty=rank < 3)
        check_gradient(adaptive_backward_name, g, x_shape, dims)
        return average_backward(g, dims, last=last)

    override = "" if rank == 1 else "; divisor_override replaces it"
    pool.__doc__ = pool1d.__doc__ = _AVERAGE.format(s=_SIZES[rank], override=override)
    adaptive_pool.__doc__ = _ADAPTIVE.format(what="The means", s=_SIZES[rank])
    pool_backward.__doc__ = _AVERAGE_BACKWARD.format(name=name)
    adaptive_pool_backward.__doc__ = _AVERAGE_BACKWARD.format(name=adaptive_name)

    def rule(
        g, x_shape, x_strides, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    ):
        last = last_of(x_shape, x_strides, rank)
        return backward(g, x_shape, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, last)

    def rule1d(g, x_shape, x_strides, kernel_size, stride, padding, ceil_mode, count_include_pad):
        return rule(g, x_shape, x_strides, kernel_size, stride, padding, ceil_mode, count_include_pad, None)

    avg_pool = op(
        pool1d if rank == 1 else pool,
        name=name,
        real=True,
        twin="pool",
        dx=rule1d if rank == 1 else rule,
        cases=lambda r: _average_cases(r, rank),
        reference=f"nn.functional.{name}",
    )
    backward = op(
        pool_backward,
        name=backward_name,
        twin="pool",
        dg=lambda gg, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override: avg_pool(
            gg, kernel_size, stride, padding, ceil_mode, count_include_pad,
            *(() if rank == 1 else (divisor_override,)),
        ),
        cases=lambda r: [
            case(r(*pool(*c.args, **c.kwargs).shape), c.args[0].shape, *c.args[1:], **c.kwargs)
            for c in _average_cases(r, rank)
        ],
        reference=None,
    )  # fmt: skip
    adaptive_avg_pool = op(
        adaptive_pool,
        name=adaptive_name,
        real=True,
        twin="pool",
        dx=lambda g, x_shape, x_strides: adaptive_backward(g, x_shape, last_of(x_shape, x_strides, rank)),
        cases=lambda r: _adaptive_cases(r, rank),
        reference=f"nn.functional.{adaptive_name}",
    )
    adaptive_backward = op(
        adaptive_pool_backward,
        name=adaptive_backward_name,
        twin="pool",
        dg=lambda gg, g_shape: adaptive_avg_pool(gg, tuple(g_shape[-rank:])),
        cases=lambda r: [case(r(*adaptive_pool(*c.args).shape), c.args[0].shape) for c in _adaptive_cases(r, rank)],
        reference=None,
    )
    return avg_pool, backward, adaptive_avg_pool, adaptive_backward


def check_divisor(name: str, divisor: int | None) -> None:
    """RuntimeError for a divisor of zero."""
    if divisor == 0:
        raise RuntimeError(f"{name}: wanted a divisor_override other than zero, saw 0")


def check_gradient(name: str, g: Any, x_shape: tuple[int, ...], dims: list[Any]) -> None:
    """RuntimeError unless g has the shape of the pooling's output."""
    want = (*x_shape[: -len(dims)], *(s.out for s in dims))
    if tuple(g.shape) != want:
        raise RuntimeError(f"{name}: wanted an output gradient of shape {want}, saw {tuple(g.shape)}")


# --- sample cases -----------------------------------------------------------------------------------------------------


def _max_cases(r: Sampler, rank: int) -> list[case]:
    d = r.distinct
    if rank == 1:
        return [case(d(2, 3, 7), 2), case(d(2, 8), 3, 2, 1, 1, True), case(d(1, 2, 9), 3, 1, 1, 2)]
    if rank == 3:
        return [
            case(d(1, 2, 4, 3, 5), 2),
            case(d(2, 3, 4, 3), (1, 2, 3), 1, (0, 1, 1), 1, True),
            case(d(1, 2, 5, 2, 3), (2, 1, 2), 1, 0, (3, 1, 2)),
        ]
    return [
        case(d(2, 3, 4, 6), 2),
        case(d(2, 2, 5, 7), 3, 2, 1),
        case(d(1, 2, 7, 6), (2, 3), (1, 2), (1, 0), (2, 1)),
        case(d(2, 2, 6, 5), 3, 2, 1, 1, True),
        case(d(1, 2, 5, 5), 2, 3, 1, 1, True),  # the last window of ceil_mode would start in the padding: it is dropped
        case(d(3, 5, 5), 2, 1),  # no batch
        case(d(2, 2, 7, 7), 2, 3),  # stride over the kernel: inputs that none sees
        case(d(2, 1, 3, 3), 3),
        case(d(2, 1, 1, 1), 2, ceil_mode=True),
        case(d(5, 2, 4).transpose(2, 0, 1)[:, None, ::-1], 2, 1),
        case(d(0, 2, 4, 4), 2),
        case(r.integers(0, 2, 1, 2, 6, 6).astype(float), 3, 2, 1, grad=False),  # ties
        case(d(1, 1, 20, 18), 17, 1, 8),  # more taps than a byte counts
    ]


def _adaptive_cases(r: Sampler, rank: int) -> list[case]:
    if rank == 1:
        return [case(r(2, 3, 7), 3), case(r(3, 6), 2), case(r(2, 1, 2), 5)]
    if rank == 3:
        return [case(r(1, 2, 4, 3, 5), (2, None, 3)), case(r(2, 3, 4, 3), 1)]
    return [
        case(r(2, 3, 7, 5), (3, 2)),
        case(r(2, 2, 6, 4), (3, 2)),
        case(r(2, 2, 5, 7), 1),
        case(r(1, 2, 3, 4), (5, None)),  # more windows than elements
        case(r(3, 5, 7), (2, 4)),  # no batch
        case(r.strided(2, 2, 5, 4), 3),
        case(r(0, 2, 4, 4), 3),
    ]


def _average_cases(r: Sampler, rank: int) -> list[case]:
    if rank == 1:
        return [case(r(2, 3, 7), 2), case(r(2, 8), 3, 2, 1, True), case(r(1, 2, 9), 3, 1, 1, False, False)]
    if rank == 3:
        return [case(r(1, 2, 4, 3, 5), 2), case(r(2, 3, 4, 3), (1, 2, 3), 1, (0, 1, 1), True, False)]
    return [
        case(r(2, 3, 4, 6), 2),
        case(r(2, 2, 5, 7), 3, 2, 1),
        case(r(2, 2, 6, 5), 3, 2, 1, True),
        case(r(2, 2, 6, 5), 3, 2, 1, True, False),
        case(r(1, 2, 7, 6), (2, 3), (1, 2), (1, 0), False, True, 5),
        case(r(3, 5, 5), 2, 1),  # no batch
        case(r(2, 2, 7, 7), 2, 3),  # stride over the kernel: inputs that none sees
        case(r(2, 1, 5, 5), 5),
        case(r.strided(2, 2, 5, 4), 2, 1, 1, count_include_pad=False),
        case(r(0, 2, 4, 4), 2),
    ]


def _places(r: Sampler, cases: list[case], pool: Callable[..., Any]) -> list[case]:
    """Cases of a max pooling's gradient: with the places that the pooling gives."""
    found = []
    for c in cases:
        values, indices = pool(*c.args, **c.kwargs)
        windows = c.args[1:5] if "kernel_size" in pool.__code__.co_varnames else ()
        found.append(case(r(*values.shape), indices, c.args[0].shape, *windows))
    return found


max_pool1d_with_indices, adaptive_max_pool1d_with_indices, max_pool1d_backward, max_pool1d_gather = _largest(1)
max_pool2d_with_indices, adaptive_max_pool2d_with_indices, max_pool2d_backward, max_pool2d_gather = _largest(2)
max_pool3d_with_indices, adaptive_max_pool3d_with_indices, max_pool3d_backward, max_pool3d_gather = _largest(3)
avg_pool1d, avg_pool1d_backward, adaptive_avg_pool1d, adaptive_avg_pool1d_backward = _mean(1)
avg_pool2d, avg_pool2d_backward, adaptive_avg_pool2d, adaptive_avg_pool2d_backward = _mean(2)
avg_pool3d, avg_pool3d_backward, adaptive_avg_pool3d, adaptive_avg_pool3d_backward = _mean(3)


# --- as users call them -----------------------------------------------------------------------------------------------


def _valued(with_indices: Callable[..., Any], name: str) -> Callable[..., Any]:
    """A max pooling that gives its indices only when asked."""

    def max_pool(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
        both = with_indices(input, kernel_size, stride, padding, dilation, ceil_mode)
        return both if return_indices else both[0]

    def adaptive_max_pool(input, output_size, return_indices=False):
        both = with_indices(input, output_size)
        return both if return_indices else both[0]

    chosen = adaptive_max_pool if name.startswith("adaptive") else max_pool
    chosen.__name__ = chosen.__qualname__ = name
    chosen.__doc__ = f"The values of {name}_with_indices; both values and indices with return_indices=True."
    return chosen


max_pool1d = _valued(max_pool1d_with_indices, "max_pool1d")
max_pool2d = _valued(max_pool2d_with_indices, "max_pool2d")
max_pool3d = _valued(max_pool3d_with_indices, "max_pool3d")
adaptive_max_pool1d = _valued(adaptive_max_pool1d_with_indices, "adaptive_max_pool1d")
adaptive_max_pool2d = _valued(adaptive_max_pool2d_with_indices, "adaptive_max_pool2d")
adaptive_max_pool3d = _valued(adaptive_max_pool3d_with_indices, "adaptive_max_pool3d")


def _power(rank: int, avg_pool: Callable[..., Any]) -> Callable[..., Any]:
    def lp_pool(input, norm_type, kernel_size, stride=None, ceil_mode=False):
        count = 1
        for k in numbers(f"lp_pool{rank}d", "kernel_size", kernel_size, rank, 1):
            count *= k
        total = avg_pool(pointwise.pow(input, norm_type), kernel_size, stride, 0, ceil_mode)
        total = pointwise.mul(pointwise.sign(total), pointwise.relu(pointwise.abs(total)))
        return pointwise.pow(total * count, 1.0 / norm_type)

    lp_pool.__name__ = lp_pool.__qualname__ = f"lp_pool{rank}d"
    lp_pool.__doc__ = "The p-norm of every window, p = norm_type: (sum of x^p over the window)^(1/p)."
    return lp_pool


lp_pool1d, lp_pool2d, lp_pool3d = _power(1, avg_pool1d), _power(2, avg_pool2d), _power(3, avg_pool3d)


def max_pool2d_with_indices_backward(
    grad_output: Any,
    self: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    indices: Any,
) -> Any:
    """The gradient of max_pool2d's input, with PyTorch's arguments."""
    return max_pool2d_backward(grad_output, indices, tuple(self.shape), kernel_size, stride, padding, dilation)
