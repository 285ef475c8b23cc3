"""Convolutions in one to three dimensions, their transposes and gradients: they all differentiate into each other.

As in PyTorch the output is channels last if the input or the weight is, in two and three dims, and so is the input's
gradient; the weight's lies as the weight. What fits C order as well, one channel or planes of one value, is taken for that.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

from ..backend import Array
from ..cases import Sampler, case
from ..op import op
from . import pointwise, reduce, shape
from .correlate import correlate, correlate_input, correlate_weight
from .layout import last_of
from .window import Window, transposed, window

_SHAPES = {
    1: ("(n, c, l)", "(k, c / groups, kl)"),
    2: ("(n, c, h, w)", "(k, c / groups, kh, kw)"),
    3: ("(n, c, d, h, w)", "(k, c / groups, kd, kh, kw)"),
}

_FORWARD = """The correlation of x with w: y[n, k, o] = b[k] + sum over the channels c of k's group and the taps t of
    x[n, c, o * stride - padding + t * dilation] w[k, c, t], where o and t are positions and x is zero outside.

    x {x}, or without n; w {w}; b (k,). stride, padding and dilation are one number or one for each spatial
    dim; padding may be 'valid', or 'same', which keeps the sizes at stride 1 with an odd zero at the end. Half types
    add in float32. RuntimeError where shapes, groups or dtypes do not fit. Dumoulin and Visin, arXiv:1603.07285.
    """
_INPUT = """The gradient of {name} with respect to its input of shape x_shape, from g, that of its output:
    g[n, k, o] w[k, c, t] is added to dx[n, c, o * stride - padding + t * dilation]. Channels last if w or `last`, of None g, is.
    """
_WEIGHT = """The gradient of {name} with respect to its weight of shape w_shape, from g, that of its output:
    dw[k, c, t] = sum over n and o of g[n, k, o] x[n, c, o * stride - padding + t * dilation]. Channels last if `last`.
    """
_TRANSPOSE = """The input gradient of {name} as a layer of its own: x[n, k, i] w[k, c, t] is added to
    y[n, c, i * stride - padding + t * dilation], and b[c] to all.

    x with k channels, or without n; w {w}; y has (i - 1) stride - 2 padding + (taps - 1) dilation +
    output_padding + 1 positions: output_padding, below stride or dilation, chooses among the sizes that {name}
    maps to x's. RuntimeError where shapes, groups or dtypes do not fit. Zeiler et al., CVPR 2010.
    """
_ACTIVATED = """activation({name}(x, w, b, ...)), one of relu, gelu, gelu_tanh, silu, sigmoid and tanh, applied on the card to what
    is stored anyway. The gradients of gelu and silu need what was put in, and convolve again for it; those of the others
    need y. ValueError for another word.
    """


class Activation(NamedTuple):
    """A function, and its gradient from g and, if `of_input`, what was put in, else what came out."""

    function: Callable[[Any], Any]
    gradient: Callable[[Any, Any], Any]
    of_input: bool = False


# In the order of kernels/activation.cuh.
ACTIVATIONS = {
    "relu": Activation(lambda x: pointwise.relu(x), lambda g, y: pointwise.relu_backward(g, y)),
    "gelu": Activation(lambda x: pointwise.gelu(x), lambda g, x: pointwise.gelu_backward(g, x, "none"), True),
    "gelu_tanh": Activation(
        lambda x: pointwise.gelu(x, "tanh"), lambda g, x: pointwise.gelu_backward(g, x, "tanh"), True
    ),
    "silu": Activation(lambda x: pointwise.silu(x), lambda g, x: pointwise.silu_backward(g, x), True),
    "sigmoid": Activation(lambda x: pointwise.sigmoid(x), lambda g, y: pointwise.sigmoid_backward(g, y)),
    "tanh": Activation(lambda x: pointwise.tanh(x), lambda g, y: pointwise.tanh_backward(g, y)),
}


def check_activation(name: str, activation: str, x: Array) -> None:
    """ValueError for a word that is no activation, NotImplementedError for one that complex numbers have not."""
    if activation not in ACTIVATIONS:
        raise ValueError(f"{name}: wanted an activation among {', '.join(ACTIVATIONS)}, saw {activation!r}")
    if x.dtype.kind == "c" and activation in ("relu", "gelu", "gelu_tanh"):
        raise NotImplementedError(f"{name}: wanted real numbers for {activation}, saw {x.dtype}")


def check_arrays(name: str, x: Array, w: Array, b: Array | None = None, k: int = 0) -> None:
    """RuntimeError unless all have one dtype and the bias, if there is one, is of shape (k,)."""
    for v in (w, b):
        if v is not None and v.dtype != x.dtype:
            raise RuntimeError(f"{name}: wanted input, weight and bias of one dtype, saw {x.dtype} and {v.dtype}")
    if b is not None and b.shape != (k,):
        raise RuntimeError(f"{name}: wanted a bias of shape ({k},), saw {b.shape}")


def check_gradient(name: str, g: Array, batch: tuple[int, ...], k: int, win: Window) -> None:
    """RuntimeError unless g has the shape of the convolution's output."""
    if tuple(g.shape) != (*batch, k, *win.out):
        raise RuntimeError(f"{name}: wanted an output gradient of shape {(*batch, k, *win.out)}, saw {tuple(g.shape)}")


def batched(x: Array, rank: int) -> Array:
    """The same with a batch dim, which x may lack."""
    return x if x.ndim == rank + 2 else x[None]


def like(y: Array, batch: tuple[int, ...]) -> Array:
    """The same without a batch dim where `batch`, the sizes in front of the channels, is empty."""
    return y if batch else y[0]


def lies_last(x: Array) -> bool:
    """Whether x, of shape (n, c, *sizes) with two sizes or more, lies channels last, it may be with gaps."""
    return x.ndim > 3 and last_of(x.shape, x.strides, x.ndim - 2)


def _bias_gradient(g: Any, rank: int) -> Any:
    """The sum over all but the channels."""
    return reduce.sum(g, tuple(d for d in range(g.ndim) if d != g.ndim - rank - 1))


def _reference(name: str) -> Callable[..., Any]:
    """PyTorch's function, without its warning that an uneven 'same' costs it a copy."""

    def run(torch, *args, **kwargs):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return getattr(torch, name)(*args, **kwargs)

    return run


def _activated_reference(name: str) -> Callable[..., Any]:
    """PyTorch's two functions."""

    def run(torch, x, w, b=None, activation="relu", *args):
        f, how = torch.nn.functional, {"gelu_tanh": ("gelu", {"approximate": "tanh"})}
        word, kwargs = how.get(activation, (activation, {}))
        return getattr(f, word)(getattr(torch, name)(x, w, b, *args), **kwargs)

    return run


def _family(rank: int) -> tuple[Callable[..., Any], ...]:
    """(conv, its input gradient, its weight gradient, transposed conv, conv and activation) of this many spatial dims."""
    name, input_name, weight_name = f"conv{rank}d", f"conv{rank}d_input", f"conv{rank}d_weight"
    transpose_name = f"conv_transpose{rank}d"
    x_sizes, w_sizes = _SHAPES[rank]
    lead = -rank - 1  # shape[:lead] are the sizes in front of the channels: (n,) or ()

    def lies(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
        return rank > 1 and last_of(shape, strides, rank)

    def forward(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
        win = window(name, rank, x.shape, w.shape, stride, padding, dilation, groups)
        check_arrays(name, x, w, b, w.shape[0])
        batch, x = x.shape[:lead], batched(x, rank)
        return like(correlate(x, w, b, win, lies_last(x) or lies_last(w)), batch)

    def input_gradient(g, w, x_shape, stride=1, padding=0, dilation=1, groups=1, last=None):
        win = window(input_name, rank, x_shape, w.shape, stride, padding, dilation, groups)
        check_arrays(input_name, g, w)
        check_gradient(input_name, g, x_shape[:lead], w.shape[0], win)
        g = batched(g, rank)
        last = lies_last(w) or (lies_last(g) if last is None else last)
        return like(correlate_input(g, w, win, last), x_shape[:lead])

    def weight_gradient(g, x, w_shape, stride=1, padding=0, dilation=1, groups=1, last=False):
        win = window(weight_name, rank, x.shape, w_shape, stride, padding, dilation, groups)
        check_arrays(weight_name, g, x)
        check_gradient(weight_name, g, x.shape[:lead], w_shape[0], win)
        return correlate_weight(batched(g, rank), batched(x, rank), win, last)

    def reverse(x, w, b=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
        shape, around = reversed_conv(x.shape, w.shape, stride, padding, output_padding, dilation, groups)
        check_arrays(transpose_name, x, w, b, shape[lead])
        win = window(transpose_name, rank, shape, w.shape, stride, around, dilation, groups)
        x = batched(x, rank)
        y = like(correlate_input(x, w, win, lies_last(x) or lies_last(w)), shape[:lead])
        return y if b is None else (y + b.reshape(-1, *[1] * rank)).astype(x.dtype, copy=False)

    def activated(x, w, b=None, activation="relu", stride=1, padding=0, dilation=1, groups=1):
        check_activation(f"{name}_activation", activation, x)
        return ACTIVATIONS[activation].function(forward(x, w, b, stride, padding, dilation, groups))

    def gradients(
        g, x, w, b, y, x_shape, x_strides, w_shape, w_strides, needs, activation, stride, padding, dilation, groups
    ):
        how, rest = ACTIVATIONS[activation], (stride, padding, dilation, groups)
        g = how.gradient(g, conv(x, w, b, *rest) if how.of_input else y)
        return (
            conv_input(g, w, x_shape, *rest, lies(x_shape, x_strides)) if needs[0] else None,
            conv_weight(g, x, w_shape, *rest, lies(w_shape, w_strides)) if needs[1] else None,
            _bias_gradient(g, rank) if needs[2] else None,
        )

    def reversed_conv(*args):
        return transposed(transpose_name, rank, *args)

    forward.__doc__ = _FORWARD.format(x=x_sizes, w=w_sizes)
    input_gradient.__doc__, weight_gradient.__doc__ = _INPUT.format(name=name), _WEIGHT.format(name=name)
    reverse.__doc__, activated.__doc__ = _TRANSPOSE.format(name=name, w=w_sizes), _ACTIVATED.format(name=name)

    conv = op(
        forward,
        name=name,
        twin="conv",
        dx=lambda g, w, x_shape, x_strides, stride, padding, dilation, groups: (
            conv_input(g, w, x_shape, stride, padding, dilation, groups, lies(x_shape, x_strides))
        ),
        dw=lambda g, x, w_shape, w_strides, stride, padding, dilation, groups: (
            conv_weight(g, x, w_shape, stride, padding, dilation, groups, lies(w_shape, w_strides))
        ),
        db=lambda g: _bias_gradient(g, rank),
        cases=lambda r: _cases(r, rank),
        reference=_reference(name),
    )
    conv_input = op(
        input_gradient,
        name=input_name,
        twin="conv",
        dg=lambda gg, w, stride, padding, dilation, groups: conv(gg, w, None, stride, padding, dilation, groups),
        dw=lambda gg, g, w_shape, w_strides, stride, padding, dilation, groups: (
            conv_weight(g, gg, w_shape, stride, padding, dilation, groups, lies(w_shape, w_strides))
        ),
        cases=lambda r: [_turn(r, c, rank, weight=False) for c in _cases(r, rank)],
        reference=None,
    )
    conv_weight = op(
        weight_gradient,
        name=weight_name,
        twin="conv",
        dg=lambda gg, x, stride, padding, dilation, groups: conv(x, gg, None, stride, padding, dilation, groups),
        dx=lambda gg, g, x_shape, x_strides, stride, padding, dilation, groups: (
            conv_input(g, gg, x_shape, stride, padding, dilation, groups, lies(x_shape, x_strides))
        ),
        cases=lambda r: [_turn(r, c, rank, weight=True) for c in _cases(r, rank)],
        reference=None,
    )
    conv_transpose = op(
        reverse,
        name=transpose_name,
        twin="conv",
        dx=lambda g, w, x_shape, w_shape, stride, padding, output_padding, groups, dilation: conv(
            g, w, None, stride,
            reversed_conv(x_shape, w_shape, stride, padding, output_padding, dilation, groups)[1], dilation, groups,
        ),
        dw=lambda g, x, x_shape, w_shape, w_strides, stride, padding, output_padding, groups, dilation: conv_weight(
            x, g, w_shape, stride,
            reversed_conv(x_shape, w_shape, stride, padding, output_padding, dilation, groups)[1], dilation, groups,
            lies(w_shape, w_strides),
        ),
        db=lambda g: _bias_gradient(g, rank),
        cases=lambda r: _transposed_cases(r, rank),
    )  # fmt: skip
    conv_activation = op(
        activated,
        name=f"{name}_activation",
        twin="conv",
        dx_dw_db=gradients,
        cases=lambda r: _activated_cases(r, rank),
        reference=_activated_reference(name),
    )
    return conv, conv_input, conv_weight, conv_transpose, conv_activation


# --- sample cases -----------------------------------------------------------------------------------------------------


def _cases(r: Sampler, rank: int) -> list[case]:
    if rank == 1:
        return [
            case(r(2, 3, 7), r(4, 3, 3)),
            case(r(2, 3, 7), r(4, 3, 3), r(4), 2, 1),
            case(r(3, 8), r(4, 3, 2), r(4), padding="same"),
            case(r(1, 2, 9), r(4, 1, 3), r(4), 1, 3, 2, 2),
            case(r.strided(2, 2, 5), r(3, 2, 1), r(3)),
            case(r(0, 2, 5), r(3, 2, 3), r(3)),
        ]
    if rank == 3:
        return [
            case(r(2, 2, 3, 4, 3), r(3, 2, 2, 2, 2)),
            case(r(1, 2, 4, 3, 5), r(4, 1, 2, 1, 3), r(4), (2, 1, 2), (1, 0, 2), (1, 1, 2), 2),
            case(r(2, 3, 3, 3), r(2, 2, 3, 3, 2), r(2), padding="same"),
            case(r(1, 2, 4, 5, 7), r(2, 2, 1, 2, 2), None, (3, 2, 4), (0, 2, 1), (1, 3, 2)),  # inputs that none sees
            case(r(2, 4, 3, 2, 3), r(4, 1, 2, 2, 1), r(4), 1, 1, 1, 4),  # depthwise
            case(r(0, 2, 3, 3, 3), r(2, 2, 2, 2, 2), r(2)),
            case(r(1, 5, 3, 3, 3), r(35, 5, 1, 2, 1), r(35)),  # remainders of every tile
        ]
    return [
        case(r(2, 3, 5, 6), r(4, 3, 3, 3)),
        case(r(2, 3, 5, 6), r(4, 3, 3, 3), r(4), 2, 1),
        case(r(2, 3, 6, 5), r(5, 3, 2, 4), r(5), padding="same"),
        case(r(1, 2, 7, 6), r(3, 2, 3, 2), r(3), (1, 2), (2, 1), (2, 1)),
        case(r(2, 4, 5, 4), r(6, 2, 3, 3), r(6), 1, 1, 1, 2),
        case(r(2, 4, 6, 5), r(4, 1, 3, 3), r(4), 1, 1, 1, 4),  # depthwise
        case(r(1, 3, 7, 5), r(6, 1, 2, 3), r(6), 2, (1, 2), (2, 1), 3),  # depthwise with a multiplier
        case(r(1, 2, 9, 9), r(2, 1, 5, 5), None, 3, 2, 1, 2),  # depthwise, more taps than one pass of its dw takes
        case(r(3, 5, 4), r(2, 3, 3, 3), r(2), 1, 1),  # no batch
        case(r(2, 3, 4, 4), r(5, 3, 1, 1), r(5)),
        case(r(2, 3, 5, 5), r(5, 3, 1, 1), r(5), 2),
        case(r(1, 1, 1, 1), r(1, 1, 3, 3), r(1), 1, 3),  # padding as wide as the kernel
        case(r(2, 2, 8, 7), r(3, 2, 2, 2), r(3), 3),  # stride over the kernel: inputs that none sees
        case(r(1, 2, 6, 6), r(3, 2, 3, 3), None, 2, 2, 3),  # stride and dilation without a common divisor
        case(r(1, 2, 9, 8), r(2, 2, 4, 3), None, (4, 2), 1, 2),  # and with one
        case(r(2, 2, 1, 2), r(3, 2, 1, 1), None, 3),  # a stride over the input
        case(r.strided(2, 3, 4, 5), r.strided(4, 3, 3, 3), r(4), 1, 1),
        case(r(0, 3, 4, 4), r(2, 3, 3, 3), r(2)),
        case(r(2, 3, 4, 4) * 20, r(2, 3, 4, 4) * 20, r(2)),  # one output
        case(r(1, 37, 5, 5), r(67, 37, 1, 2), r(67)),  # remainders of every tile
        case(r(3, 2, 17, 9), r(3, 2, 3, 3), r(3), 1, 1),
    ]


def _turn(r: Sampler, forward: case, rank: int, weight: bool) -> case:
    """The case of an input or weight gradient that belongs to a forward one."""
    x, w, *rest = forward.args
    names = ("stride", "padding", "dilation", "groups")
    given = dict(zip(names, rest[1:], strict=False))
    kwargs = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, **forward.kwargs, **given}
    win = window("cases", rank, x.shape, w.shape, **kwargs)
    g = r(*x.shape[: -rank - 1], w.shape[0], *win.out)
    return case(g, x, w.shape, *kwargs.values()) if weight else case(g, w, x.shape, *kwargs.values())


def _transposed_cases(r: Sampler, rank: int) -> list[case]:
    if rank == 1:
        return [
            case(r(2, 3, 4), r(3, 2, 3), r(2)),
            case(r(2, 4, 4), r(4, 2, 3), r(4), 3, 1, 2, 2, 2),
            case(r(3, 4), r(3, 2, 2), None, 2),
        ]
    if rank == 3:
        return [case(r(1, 2, 2, 3, 2), r(2, 2, 2, 1, 3), r(2), 2, 1, 1), case(r(2, 2, 2, 3), r(2, 1, 2, 2, 2), None, 1)]
    return [
        case(r(2, 3, 4, 3), r(3, 2, 3, 3), r(2)),
        case(r(2, 3, 4, 3), r(3, 2, 4, 4), r(2), 2, 1),
        case(r(1, 4, 3, 3), r(4, 3, 3, 2), r(6), (2, 3), (1, 0), (1, 2), 2, (1, 2)),
        case(r(2, 2, 3, 3), r(2, 1, 3, 3), r(2), 1, 0, 1, 2, 2),  # output padding at stride 1; depthwise
        case(r(3, 3, 4), r(3, 2, 2, 2), None, 2),  # no batch
        case(r.strided(1, 3, 3, 3), r.strided(3, 5, 3, 3), r(5), 2, 1, 1),
        case(r(2, 3, 1, 1), r(3, 2, 4, 4), r(2)),
        case(r(0, 3, 2, 2), r(3, 2, 2, 2), r(2)),
    ]


def _activated_cases(r: Sampler, rank: int) -> list[case]:
    if rank == 1:
        return [case(r(2, 3, 7), r(4, 3, 3), r(4), "gelu", 2, 1), case(r(3, 8), r(4, 3, 2), None, "sigmoid")]
    if rank == 3:
        return [case(r(1, 2, 3, 4, 3), r(3, 2, 2, 2, 2), r(3), "tanh", 1, 1)]
    return [
        *(case(r(2, 3, 5, 4), r(4, 3, 3, 3), r(4), activation, 1, 1) for activation in ACTIVATIONS),
        case(r(1, 4, 5, 4), r(4, 1, 3, 3), r(4), "silu", 2, 1, 1, 4),  # depthwise
        case(r(0, 3, 5, 4), r(4, 3, 3, 3), r(4), "relu"),
    ]


conv1d, conv1d_input, conv1d_weight, conv_transpose1d, conv1d_activation = _family(1)
conv2d, conv2d_input, conv2d_weight, conv_transpose2d, conv2d_activation = _family(2)
conv3d, conv3d_input, conv3d_weight, conv_transpose3d, conv3d_activation = _family(3)


def conv_tbc(input: Any, weight: Any, bias: Any, pad: int = 0) -> Any:
    """conv1d with time first: x (t, n, c), w (taps, c, k), b (k,) to (t', n, k), `pad` zeros at both ends.
    RuntimeError where shapes or dtypes do not fit.
    """
    if input.ndim != 3 or weight.ndim != 3:
        shapes = f"{tuple(input.shape)} and {tuple(weight.shape)}"
        raise RuntimeError(f"conv_tbc: wanted an input (t, n, c) and a weight (taps, c, k), saw {shapes}")
    y = conv1d(shape.permute(input, (1, 2, 0)), shape.permute(weight, (2, 1, 0)), bias, 1, pad)
    return shape.permute(y, (2, 0, 1))


def convolution(
    input: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, transposed: bool,
    output_padding: Any, groups: int,
) -> Any:  # fmt: skip
    """conv1d, conv2d or conv3d by the weight's dims, or their transposes, as PyTorch's operator spells them all."""
    rank = weight.ndim - 2
    if rank not in (1, 2, 3):
        raise RuntimeError(f"convolution: wanted a weight of 3 to 5 dims, saw {tuple(weight.shape)}")
    if transposed:
        reverse = (conv_transpose1d, conv_transpose2d, conv_transpose3d)[rank - 1]
        return reverse(input, weight, bias, stride, padding, output_padding, groups, dilation)
    return (conv1d, conv2d, conv3d)[rank - 1](input, weight, bias, stride, padding, dilation, groups)
