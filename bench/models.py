"""Whole training steps, from the chain of tiny ops to VGG16, written once for gradflow and PyTorch: `lib` is either."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .case import Case, Inputs

# --- the nets -----------------------------------------------------------------------------------------


def mlp(lib: Any, sizes: tuple[int, int, int]) -> Any:
    """The two-layer net of the lectures: d_in, h, d_out."""
    nn = lib.nn
    return nn.Sequential(nn.Linear(sizes[0], sizes[1]), nn.ReLU(), nn.Linear(sizes[1], sizes[2]))


def lenet(lib: Any) -> Any:
    """LeNet-5 with rectifiers and maximum pooling, on 28 x 28 images."""
    nn = lib.nn
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


def vgg16(lib: Any, size: int) -> Any:
    """VGG16 (Simonyan and Zisserman 2014), without its dropout, which would differ between the two libraries."""
    nn, layers, c = lib.nn, [], 3
    for width in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
        layers += [nn.Conv2d(c, width, 3, padding=1), nn.ReLU()] if width else [nn.MaxPool2d(2)]
        c = width or c
    wide = 4096 if size == 224 else 64
    layers += [nn.Flatten(), nn.Linear(512 * (size // 32) ** 2, wide), nn.ReLU(), nn.Linear(wide, wide), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(wide, 1000))


def resnet18(lib: Any) -> Any:
    """ResNet-18 (He et al. 2015)."""
    nn = lib.nn

    class Block(nn.Module):
        def __init__(self, c: int, oc: int, stride: int) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(c, oc, 3, stride, 1, bias=False), nn.BatchNorm2d(oc), nn.ReLU(),
                nn.Conv2d(oc, oc, 3, 1, 1, bias=False), nn.BatchNorm2d(oc),
            )  # fmt: skip
            same = stride == 1 and c == oc
            self.skip = (
                nn.Identity() if same else nn.Sequential(nn.Conv2d(c, oc, 1, stride, bias=False), nn.BatchNorm2d(oc))
            )
            self.relu = nn.ReLU()

        def forward(self, x: Any) -> Any:
            return self.relu(self.body(x) + self.skip(x))

    layers, c = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)], 64
    for width, stride in ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)):
        layers.append(Block(c, width, stride))
        c = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000))


def lstm(lib: Any, vocabulary: int, h: int, layers: int) -> Any:
    """A language model: embedding, LSTM, scores of the next word."""
    nn = lib.nn

    class Language(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.lstm = nn.Embedding(vocabulary, h), nn.LSTM(h, h, layers)
            self.head = nn.Linear(h, vocabulary)

        def forward(self, ids: Any) -> Any:
            return self.head(self.lstm(self.embed(ids))[0]).reshape(-1, vocabulary)

    return Language()


def gpt(lib: Any, vocabulary: int, layers: int, heads: int, d: int, t: int) -> Any:
    """A GPT: `layers` blocks of causal attention and MLP, d wide, over t positions."""
    nn, F = lib.nn, lib.nn.functional

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ln1, self.qkv, self.out = nn.LayerNorm(d), nn.Linear(d, 3 * d), nn.Linear(d, d)
            self.ln2, self.mlp = nn.LayerNorm(d), nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d))

        def forward(self, x: Any) -> Any:
            n = x.shape[0]
            q, k, v = (u.reshape(n, t, heads, d // heads).transpose(1, 2) for u in self.qkv(self.ln1(x)).split(d, 2))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(y.transpose(1, 2).reshape(n, t, d))
            return x + self.mlp(self.ln2(x))

    class GPT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.places = nn.Embedding(vocabulary, d), nn.Embedding(t, d)
            self.blocks = nn.Sequential(*[Block() for _ in range(layers)])
            self.ln, self.head = nn.LayerNorm(d), nn.Linear(d, vocabulary)

        def forward(self, ids: Any, places: Any) -> Any:
            x = self.blocks(self.tokens(ids) + self.places(places))
            return self.head(self.ln(x)).reshape(-1, vocabulary)

    return GPT()


# --- steps --------------------------------------------------------------------------------------------


def fill(side: Any, model: Any, inputs: Inputs) -> None:
    """The same weights for every column: scaled by fan-in, norms near one."""
    for name, p in model.named_parameters():
        shape = tuple(p.shape)
        if len(shape) == 1:
            ones = name.endswith("weight")
            values = inputs(
                (name, shape), lambda r, s=shape, o=ones: (o + 0.1 * r.standard_normal(s)).astype(inputs.dtype)
            )
        else:
            values = inputs.normal(name, shape, (2 / math.prod(shape[1:])) ** 0.5)
        side.fill(p, values)


STEPS = 5  # before the loss is compared: more than a graph takes to warm up and be captured

Data = Callable[[Inputs], list[np.ndarray]]


def training(
    net: Callable[[Any], Any], data: Data, optimizer: Callable[[Any, Any], Any], loss: str = "cross_entropy"
) -> Any:
    """A Case's make: zero_grad, forward, loss, backward, step. What is compared: the first loss and gradients, and the loss
    after some steps, of which a captured one replays the last.
    """

    def make(side: Any, inputs: Inputs) -> tuple:
        model = net(side.lib).to(side.device).to(side.dtype(inputs.dtype))
        fill(side, model, inputs)
        model = side.model(model)
        *xs, target = [side.tensor(a) for a in data(inputs)]
        loss_of = getattr(side.lib.nn.functional, loss)
        steps = optimizer(side.lib, list(model.parameters()))

        def outputs() -> list[Any]:
            value = loss_of(model(*xs), target)
            found = [value, *side.grad(value, list(model.parameters()))]
            found = [t.detach().clone() for t in found]
            for _ in range(STEPS):
                step()
            return [*found, loss_of(model(*xs), target).detach().clone()]

        def once() -> None:
            steps.zero_grad()
            loss_of(model(*xs), target).backward()
            steps.step()

        step = side.step(once)
        return step, outputs

    return make


def chain(side: Any, inputs: Inputs) -> tuple:
    """300 recorded ops on 16 floats, forward and backward: b = tanh(b * a + a), 100 times. What an op costs."""
    tanh = side.lib.tanh
    a = side.tensor(inputs.normal("a", (16,), 0.5), True)
    start = side.tensor(inputs.normal("b", (16,)), True)
    g = side.tensor(inputs.normal("g", (16,)))

    def forward() -> Any:
        b = start
        for _ in range(100):
            b = tanh(b * a + a)
        return b

    def step() -> None:
        forward().backward(g)
        a.grad = start.grad = None

    def outputs() -> list[Any]:
        b = forward()
        return [b, *side.grad(b, [a, start], g)]

    return step, outputs


def images(n: int, c: int, size: int, classes: int) -> Data:
    """Random images and classes."""
    return lambda i: [i.normal("x", (n, c, size, size)), i("target", lambda r: r.integers(0, classes, n))]


def words(shape: tuple[int, int], vocabulary: int, places: bool = False) -> Data:
    """Random words, the places they stand at, and the words that follow."""

    def draw(i: Inputs) -> list[np.ndarray]:
        ids = i("ids", lambda r: r.integers(0, vocabulary, shape))
        target = i("target", lambda r: r.integers(0, vocabulary, shape[0] * shape[1]))
        return [ids, *([np.arange(shape[1])] if places else []), target]

    return draw


def sgd(lib: Any, ps: Any) -> Any:
    """Gradient descent with momentum; in PyTorch its fused step, its fastest."""
    return lib.optim.SGD(ps, lr=1e-3, momentum=0.9, fused=True)


def adamw(lib: Any, ps: Any) -> Any:
    """AdamW; in PyTorch its fused step."""
    return lib.optim.AdamW(ps, lr=1e-4, fused=True)


# name: (cpu, card, tiny) sizes
LSTM = {
    "cpu": (32, 16, 1000, 128, 1),
    "card": (128, 64, 10000, 512, 2),
    "tiny": (3, 2, 7, 4, 1),
}  # t n vocabulary h layers
GPT = {
    "cpu": (8, 64, 1000, 2, 4, 128),
    "card": (32, 256, 10000, 6, 6, 384),
    "tiny": (2, 4, 7, 1, 2, 8),
}  # n t vocab layers heads d


def cases(kind: str, full: bool = False) -> Iterator[Case]:
    """The training steps for "cpu", "card" or "tiny"; on a CPU the large image nets, with tiny inputs, only if full."""
    yield Case("chain of 300 ops on 16 floats", "model", chain, terms=1e4, seconds=2)
    yield mlp_case(*((4, 6, 5, 3) if kind == "tiny" else (64, 1000, 100, 10)))
    if kind == "tiny":
        return
    yield Case("lenet batch 64", "model", training(lenet, images(64, 1, 28, 10), sgd), terms=1e5)
    yield lstm_case(*LSTM[kind])
    yield gpt_case(*GPT[kind])
    if kind == "card":
        yield image_case("resnet18", resnet18, 128, 224)
        yield image_case("vgg16", lambda lib: vgg16(lib, 224), 32, 224)
    elif full:
        yield image_case("resnet18", resnet18, 2, 64)
        yield image_case("vgg16", lambda lib: vgg16(lib, 32), 2, 32)


def mlp_case(n: int, d: int, h: int, out: int) -> Case:
    """The two-layer net with its squared loss."""

    def data(i: Inputs) -> list[np.ndarray]:
        return [i.normal("x", (n, d)), i.normal("target", (n, out))]

    return Case(
        f"mlp {n}x{d}-{h}-{out}", "model", training(lambda lib: mlp(lib, (d, h, out)), data, sgd, "mse_loss"), terms=1e4
    )


def lstm_case(t: int, n: int, vocabulary: int, h: int, layers: int) -> Case:
    """The recurrent language model."""
    make = training(lambda lib: lstm(lib, vocabulary, h, layers), words((t, n), vocabulary), adamw)
    return Case(f"lstm language model t{t} n{n} h{h}", "model", make, terms=1e6, seconds=2)


def gpt_case(n: int, t: int, vocabulary: int, layers: int, heads: int, d: int) -> Case:
    """The language model of attention."""
    make = training(
        lambda lib: gpt(lib, vocabulary, layers, heads, d, t), words((n, t), vocabulary, places=True), adamw
    )
    return Case(f"gpt {layers} layers d{d} t{t} n{n}", "model", make, terms=1e6, seconds=2)


def image_case(name: str, net: Callable[[Any], Any], n: int, size: int) -> Case:
    """A net for images, on `n` of size x size."""
    make = training(net, images(n, 3, size, 1000), sgd)
    return Case(f"{name} batch {n} {size}x{size}", "model", make, terms=1e7, seconds=2)
