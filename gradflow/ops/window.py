"""A window: which inputs each output of a convolution sees, worked out from the arguments that users give."""

from __future__ import annotations

from functools import lru_cache
from operator import index
from typing import Any, NamedTuple

Sizes = tuple[int, ...]


class Window(NamedTuple):
    """Along every spatial dim, output o sees input o * stride - before + t * dilation through tap t."""

    sizes: Sizes  # of the input
    kernel: Sizes
    out: Sizes
    stride: Sizes
    before: Sizes  # zeros in front of the input; negative crops it
    dilation: Sizes
    groups: int = 1

    @property
    def span(self) -> Sizes:
        """The sizes of the padded input that the outputs see."""
        return tuple((o - 1) * s + reach for o, s, reach in zip(self.out, self.stride, self.reach, strict=True))

    @property
    def reach(self) -> Sizes:
        """How many inputs a kernel spans."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    @property
    def pointwise(self) -> bool:
        """Whether output i sees just input i."""
        return {*self.kernel, *self.stride} == {1} and not any(self.before) and self.sizes == self.out

    @lru_cache(maxsize=1024)  # noqa: B019 (a window is a few numbers)
    def turned(self) -> Window:
        """The window through which, at stride 1, an input sees the outputs, with the taps in reverse."""
        before = tuple(reach - 1 - b for reach, b in zip(self.reach, self.before, strict=True))
        return self._replace(sizes=self.out, out=self.sizes, before=before)


def numbers(name: str, what: str, value: Any, rank: int, least: int) -> Sizes:
    """An argument that is one number for all spatial dims or one for each.
    RuntimeError for another count or one below `least`, TypeError for what is no integer.
    """
    values = value if isinstance(value, (tuple, list)) else (value,)
    try:
        values = tuple(index(v) for v in values)
    except TypeError:
        raise TypeError(f"{name}: wanted {what} of integers, saw {value!r}") from None
    if len(values) not in (1, rank):
        raise RuntimeError(f"{name}: wanted one {what} or {rank}, saw {len(values)}")
    if min(values) < least:
        raise RuntimeError(f"{name}: wanted {what} of {least} at least, saw {value}")
    return values * rank if len(values) == 1 else values


def pads(name: str, padding: Any, kernel: Sizes, stride: Sizes, dilation: Sizes) -> list[tuple[int, int]]:
    """The zeros (before, after) along each spatial dim.
    From numbers, 'valid', 'same' (an odd zero goes after), or such pairs themselves.
    """
    if isinstance(padding, str):
        if padding not in ("valid", "same"):
            raise RuntimeError(f"{name}: wanted a padding of numbers, 'valid' or 'same', saw {padding!r}")
        if padding == "valid":
            return [(0, 0)] * len(kernel)
        if set(stride) != {1}:
            raise RuntimeError(f"{name}: wanted a stride of 1 with padding='same', saw {stride}")
        totals = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
        return [(t // 2, t - t // 2) for t in totals]
    if isinstance(padding, (tuple, list)) and len(padding) == len(kernel) and isinstance(padding[0], tuple):
        return list(padding)
    return [(p, p) for p in numbers(name, "padding", padding, len(kernel), 0)]


def check_batch(name: str, x_shape: Sizes, rank: int) -> None:
    """RuntimeError unless x_shape has channels, `rank` spatial dims and maybe a batch dim."""
    if len(x_shape) not in (rank + 1, rank + 2):
        raise RuntimeError(
            f"{name}: wanted an input of {rank + 1} (unbatched) or {rank + 2} dims, saw {tuple(x_shape)}"
        )


def check_groups(name: str, groups: int, w_shape: Sizes) -> None:
    """RuntimeError unless the groups share the first size of the weight equally."""
    if groups < 1 or w_shape[0] % groups:
        raise RuntimeError(f"{name}: wanted groups that divide {w_shape[0]}, the weight's first size, saw {groups}")


def check_channels(name: str, x_shape: Sizes, rank: int, want: int) -> None:
    """RuntimeError unless x has the channels that the weight asks for."""
    if x_shape[-rank - 1] != want:
        raise RuntimeError(f"{name}: wanted an input of {want} channels, as its weight has, saw {tuple(x_shape)}")


def window(
    name: str, rank: int, x_shape: Sizes, w_shape: Sizes, stride: Any, padding: Any, dilation: Any, groups: int
) -> Window:
    """The window of a convolution with these arguments. RuntimeError where they do not fit, as PyTorch raises."""
    stride, padding, dilation = (tuple(v) if type(v) is list else v for v in (stride, padding, dilation))
    return _window(name, rank, tuple(x_shape), tuple(w_shape), stride, padding, dilation, groups)


@lru_cache(maxsize=1024, typed=True)  # a training step asks for the same ones again and again
def _window(
    name: str, rank: int, x_shape: Sizes, w_shape: Sizes, stride: Any, padding: Any, dilation: Any, groups: int
) -> Window:
    strides, dilations = numbers(name, "stride", stride, rank, 1), numbers(name, "dilation", dilation, rank, 1)
    if len(w_shape) != rank + 2:
        raise RuntimeError(f"{name}: wanted a weight of {rank + 2} dims, saw {tuple(w_shape)}")
    check_batch(name, x_shape, rank)
    sizes, kernel = tuple(x_shape[-rank:]), tuple(w_shape[2:])
    check_groups(name, groups, w_shape)
    check_channels(name, x_shape, rank, w_shape[1] * groups)
    if min(kernel) < 1 or w_shape[0] < 1:
        raise RuntimeError(f"{name}: wanted a kernel of positive sizes, saw a weight {tuple(w_shape)}")
    around = pads(name, padding, kernel, strides, dilations)
    room = tuple(n + before + after for n, (before, after) in zip(sizes, around, strict=True))
    reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))
    if any(n < r for n, r in zip(room, reach, strict=True)):
        raise RuntimeError(f"{name}: wanted a kernel within the padded input of {room}, saw one that spans {reach}")
    out = tuple((n - r) // s + 1 for n, r, s in zip(room, reach, strides, strict=True))
    return Window(sizes, kernel, out, strides, tuple(before for before, _ in around), dilations, groups)


def transposed(
    name: str, rank: int, x_shape: Sizes, w_shape: Sizes,
    stride: Any, padding: Any, output_padding: Any, dilation: Any, groups: int,
) -> tuple[Sizes, tuple[tuple[int, int], ...]]:  # fmt: skip
    """(output shape, padding pairs) of the convolution that a transposed one reverses: it gives back exactly x_shape.
    RuntimeError where the arguments do not fit.
    """
    if len(w_shape) != rank + 2:
        raise RuntimeError(f"{name}: wanted a weight of {rank + 2} dims, saw {tuple(w_shape)}")
    check_batch(name, x_shape, rank)
    strides, dilations = numbers(name, "stride", stride, rank, 1), numbers(name, "dilation", dilation, rank, 1)
    paddings = numbers(name, "padding", padding, rank, 0)
    extras = numbers(name, "output_padding", output_padding, rank, 0)
    check_groups(name, groups, w_shape)
    check_channels(name, x_shape, rank, w_shape[0])
    if any(e >= max(s, d) for e, s, d in zip(extras, strides, dilations, strict=True)):
        raise RuntimeError(
            f"{name}: wanted an output_padding below stride {strides} or dilation {dilations}, saw {extras}"
        )
    sizes = tuple(
        (n - 1) * s - 2 * p + (k - 1) * d + e + 1
        for n, s, p, k, d, e in zip(x_shape[-rank:], strides, paddings, w_shape[2:], dilations, extras, strict=True)
    )
    if min(sizes) < 1:
        raise RuntimeError(f"{name}: wanted an output of positive sizes, saw {sizes} for an input {tuple(x_shape)}")
    shape = (*x_shape[: -rank - 1], w_shape[1] * groups, *sizes)
    return shape, tuple((p, p - e) for p, e in zip(paddings, extras, strict=True))
