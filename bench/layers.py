"""The convolutions of LeNet, VGG16, ResNet-50 and MobileNet, each distinct layer once: forward, dx and dw."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .case import Case, Inputs, backward, channels_last, forward

# (input channels, output channels, kernel, stride, padding, groups, height and width)
LENET = [(1, 6, 5, 1, 2, 1, 28), (6, 16, 5, 1, 0, 1, 14)]
VGG16 = [
    (3, 64, 3, 1, 1, 1, 224), (64, 64, 3, 1, 1, 1, 224), (64, 128, 3, 1, 1, 1, 112), (128, 128, 3, 1, 1, 1, 112),
    (128, 256, 3, 1, 1, 1, 56), (256, 256, 3, 1, 1, 1, 56), (256, 512, 3, 1, 1, 1, 28), (512, 512, 3, 1, 1, 1, 28),
    (512, 512, 3, 1, 1, 1, 14),
]  # fmt: skip
RESNET50 = [
    (3, 64, 7, 2, 3, 1, 224),
    (64, 64, 1, 1, 0, 1, 56), (64, 64, 3, 1, 1, 1, 56), (64, 256, 1, 1, 0, 1, 56), (256, 64, 1, 1, 0, 1, 56),
    (256, 128, 1, 1, 0, 1, 56), (128, 128, 3, 2, 1, 1, 56), (128, 512, 1, 1, 0, 1, 28), (256, 512, 1, 2, 0, 1, 56),
    (512, 128, 1, 1, 0, 1, 28), (128, 128, 3, 1, 1, 1, 28),
    (512, 256, 1, 1, 0, 1, 28), (256, 256, 3, 2, 1, 1, 28), (256, 1024, 1, 1, 0, 1, 14), (512, 1024, 1, 2, 0, 1, 28),
    (1024, 256, 1, 1, 0, 1, 14), (256, 256, 3, 1, 1, 1, 14),
    (1024, 512, 1, 1, 0, 1, 14), (512, 512, 3, 2, 1, 1, 14), (512, 2048, 1, 1, 0, 1, 7), (1024, 2048, 1, 2, 0, 1, 14),
    (2048, 512, 1, 1, 0, 1, 7), (512, 512, 3, 1, 1, 1, 7),
]  # fmt: skip
MOBILENET = [
    (32, 32, 3, 1, 1, 32, 112), (64, 64, 3, 2, 1, 64, 112), (128, 128, 3, 1, 1, 128, 56), (256, 256, 3, 1, 1, 256, 28),
    (512, 512, 3, 1, 1, 512, 14), (1024, 1024, 3, 1, 1, 1024, 7),
]  # fmt: skip
NETS = {"lenet": LENET, "vgg16": VGG16, "resnet50": RESNET50, "mobilenet": MOBILENET}
BATCH = {
    "cpu": {"lenet": 64, "vgg16": 1, "resnet50": 1, "mobilenet": 2},
    "card": {"lenet": 64, "vgg16": 32, "resnet50": 32, "mobilenet": 32},
}
TINY = {"lenet": [(1, 3, 3, 1, 1, 1, 6)], "mobilenet": [(4, 4, 3, 1, 1, 4, 5)]}
SOME = {"vgg16": (1, 5), "resnet50": (0, 2, 3), "mobilenet": (2,)}  # the layers of a quick run


def cases(kind: str, quick: bool = False, dtype: str = "float32") -> Iterator[Case]:
    """The convolutions for "cpu", "card" or "tiny"."""
    for net, layers in (TINY if kind == "tiny" else NETS).items():
        for i, layer in enumerate(layers):
            if quick and kind != "tiny" and net in SOME and i not in SOME[net]:
                continue
            yield from of(net, layer, 2 if kind == "tiny" else BATCH[kind][net], dtype)


def of(net: str, layer: tuple, n: int, dtype: str, tf32: bool = False, last: bool = False) -> Iterator[Case]:
    """Forward, dx and dw of one layer over n images; with `last` all arrays lie channels last."""
    c, oc, k, stride, padding, groups, h = layer
    oh = (h + 2 * padding - k) // stride + 1
    x, w, y = n * c * h * h, oc * (c // groups) * k * k, n * oc * oh * oh
    flops = 2.0 * y * (c // groups) * k * k

    def draw(inputs: Inputs) -> list[Any]:
        arrays = [
            inputs.normal("x", (n, c, h, h)),
            inputs.normal("w", (oc, c // groups, k, k), (c // groups * k * k) ** -0.5),
        ]
        return [channels_last(a) for a in arrays] if last else arrays

    def function(side: Any) -> Any:
        conv = side.lib.nn.functional.conv2d
        return lambda x, w: conv(x, w, None, stride, padding, 1, groups)

    size = 2 if dtype in ("float16", "bfloat16") else 4
    name = f"conv2d {net} {n}x{c}x{h}x{h} -> {oc} {k}x{k}" + (f" /{stride}" if stride > 1 else "") + " channels last" * last
    moved = size * (x + w + y)
    # The first layer of a net has no dx to compute; the others do.
    for kind, make, terms in (
        ("forward", forward(function, draw), c // groups * k * k),
        ("dx", backward(function, draw, [0]), oc // groups * k * k),
        ("dw", backward(function, draw, [1]), n * oh * oh),
    ):
        if kind == "dx" and c in (1, 3):
            continue
        yield Case(f"{name} {kind}", "conv2d" if groups == 1 else "depthwise", make, moved, flops, terms, dtype, tf32=tf32)
