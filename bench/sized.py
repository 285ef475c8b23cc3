"""The rows of ops with shapes: reductions, softmax, losses, norms, products, pooling, cells, attention, optimizers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import numpy as np

from .case import Case, Inputs, backward, forward, recorded

# Shapes by kind of run: a CPU, a card, and "tiny" ones for tests.
TABLE: dict[str, dict[str, Any]] = {
    "sum": {"cpu": [(2048, 2048)], "card": [(8192, 8192)], "tiny": [(5, 7)]},
    "softmax": {"cpu": [(2048, 1024)], "card": [(8192, 1024), (4096, 32768), (8, 262144)], "tiny": [(5, 7)]},
    "cross_entropy": {"cpu": [(64, 10), (512, 8192)], "card": [(512, 10), (4096, 50257), (16, 128256)], "tiny": [(5, 7)]},
    "layer_norm": {"cpu": [(2048, 768)], "card": [(16384, 1024), (8, 262144)], "tiny": [(5, 8)]},
    "batch_norm": {"cpu": [(16, 64, 28, 28)], "card": [(64, 64, 112, 112), (64, 512, 14, 14)], "tiny": [(3, 4, 5, 5)]},
    "matmul": {"cpu": [(64, 1000, 100), (512, 512, 512)], "card": [(1024,) * 3, (4096,) * 3], "tiny": [(5, 7, 3)]},
    "linear": {
        "cpu": [(64, 784, 256), (512, 512, 2048)], "card": [(512, 1024, 1024), (8192, 1024, 4096)], "tiny": [(5, 7, 3)],
    },
    "pool": {"cpu": [(8, 32, 56, 56)], "card": [(64, 64, 112, 112)], "tiny": [(2, 3, 8, 8)]},
    "embedding": {
        "cpu": [(32, 128, 8192, 256)], "card": [(64, 512, 50257, 768)], "tiny": [(3, 4, 9, 5)],
    },
    "cell": {"cpu": [(32, 16, 128)], "card": [(128, 64, 512)], "tiny": [(3, 2, 4)]},
    "attention": {"cpu": [(4, 6, 128, 64)], "card": [(16, 12, 1024, 64)], "tiny": [(2, 2, 5, 4)]},
    "optimizer": {"cpu": [(40, 1_000_000)], "card": [(160, 25_000_000)], "tiny": [(3, 100)]},
    "dropout": {"cpu": [(1 << 22,)], "card": [(1 << 26,)], "tiny": [(64,)]},
}  # fmt: skip


def functional(name: str, *args: Any, **kwargs: Any) -> Callable[[Any], Callable[..., Any]]:
    """nn.functional's function of this name, with these last arguments, of a side."""

    def of(side: Any) -> Callable[..., Any]:
        f = getattr(side.lib.nn.functional, name)
        return (lambda *xs: f(*xs, *args, **kwargs)) if args or kwargs else f

    return of


def normals(*shapes: tuple[int, ...], scale: float = 1.0) -> Callable[[Inputs], list[Any]]:
    """Draws of standard normal arrays."""
    return lambda inputs: [inputs.normal(i, s, scale) for i, s in enumerate(shapes)]


def text(shape: Any) -> str:
    """A shape in a name."""
    return "x".join(map(str, shape))


def both(
    name: str, group: str, function: Any, draw: Any, wrt: Any, least: tuple[float, float],
    work: tuple[float, float] = (0, 0), terms: float = 1, dtype: str = "float32",
) -> Iterator[Case]:  # fmt: skip
    """The forward case and the backward case; `least` elements moved and `work` in FLOPs of the two."""
    size = np.dtype(dtype if dtype != "bfloat16" else "float16").itemsize
    for kind, make, moved, flops in zip(
        ("forward", "backward"), (forward(function, draw), backward(function, draw, wrt)), least, work, strict=True
    ):
        yield Case(f"{name} {kind}", group, make, moved * size, flops, terms, dtype)


def cases(kind: str, dtype: str = "float32") -> Iterator[Case]:
    """All cases for "cpu", "card" or "tiny"."""
    for family, make in FAMILIES.items():
        for shape in TABLE[family][kind]:
            yield from make(shape, dtype)
    yield from small(dtype)


def halves(kind: str) -> Iterator[Case]:
    """The families that nets run in float16."""
    for family in ("softmax", "layer_norm", "batch_norm", "attention", "matmul", "linear", "pool"):
        for shape in TABLE[family][kind]:
            yield from FAMILIES[family](shape, "float16")


def sums(shape: Any, dtype: str) -> Iterator[Case]:
    """Sums over everything, over rows, over columns."""
    n = prod(shape)
    for dim, left in ((None, 1), (0, shape[1]), (1, shape[0])):

        def function(side: Any, dim: Any = dim) -> Any:
            return (lambda x: x.sum()) if dim is None else lambda x: x.sum(dim)

        name = f"sum dim={dim} {text(shape)}"
        yield Case(
            f"{name} forward", "sum", forward(function, normals(shape)), 4 * (n + left), 0, n / left * 100, dtype
        )


def softmaxes(shape: Any, dtype: str) -> Iterator[Case]:
    """Softmax and its logarithm over rows."""
    n = prod(shape)
    for f in ("softmax", "log_softmax"):
        yield from both(
            f"{f} {text(shape)}",
            "softmax",
            functional(f, 1),
            normals(shape),
            None,
            (2 * n, 3 * n),
            terms=shape[1],
            dtype=dtype,
        )


def cross_entropies(shape: Any, dtype: str) -> Iterator[Case]:
    """The loss of classifiers, from scores and class numbers."""
    n = prod(shape)

    def draw(inputs: Inputs) -> list[Any]:
        return [inputs.normal(0, shape), inputs("target", lambda r: r.integers(0, shape[1], shape[0]))]

    yield from both(
        f"cross_entropy {text(shape)}", "loss", functional("cross_entropy"), draw, [0], (n, 2 * n), terms=n, dtype=dtype
    )


def layer_norms(shape: Any, dtype: str) -> Iterator[Case]:
    """Rows to mean 0 and variance 1."""
    n, f = prod(shape), shape[-1:]

    def function(side: Any) -> Any:
        norm = side.lib.nn.functional.layer_norm
        return lambda x, w, b: norm(x, f, w, b)

    yield from both(
        f"layer_norm {text(shape)}", "norm", function, normals(shape, f, f), None, (2 * n, 3 * n), terms=n, dtype=dtype
    )


def rms_norms(shape: Any, dtype: str) -> Iterator[Case]:
    """Rows to a mean square of 1."""
    n, f = prod(shape), shape[-1:]

    def function(side: Any) -> Any:
        norm = side.lib.nn.functional.rms_norm
        return lambda x, w: norm(x, f, w, 1e-5)

    yield from both(
        f"rms_norm {text(shape)}", "norm", function, normals(shape, f), None, (2 * n, 3 * n), terms=n, dtype=dtype
    )


def group_norms(shape: Any, dtype: str) -> Iterator[Case]:
    """Groups of channels to mean 0 and variance 1: 32 groups, or one for each channel of a few."""
    n, c = prod(shape), shape[1:2]

    def function(side: Any) -> Any:
        norm = side.lib.nn.functional.group_norm
        return lambda x, w, b: norm(x, min(32, c[0]), w, b)

    yield from both(
        f"group_norm {text(shape)}", "norm", function, normals(shape, c, c), None, (2 * n, 3 * n), terms=n, dtype=dtype
    )


def batch_norms(shape: Any, dtype: str) -> Iterator[Case]:
    """Channels to mean 0 and variance 1, in training."""
    n, c = prod(shape), shape[1:2]

    def function(side: Any) -> Any:
        norm = side.lib.nn.functional.batch_norm
        return lambda x, w, b: norm(x, None, None, w, b, True)

    yield from both(
        f"batch_norm {text(shape)}", "norm", function, normals(shape, c, c), None, (2 * n, 3 * n), terms=n, dtype=dtype
    )


def matmuls(shape: Any, dtype: str) -> Iterator[Case]:
    """X (n, k) @ w (k, m)."""
    n, k, m = shape
    size, flops = n * k + k * m + n * m, 2.0 * n * k * m
    draw = normals((n, k), (k, m), scale=k**-0.25)
    yield from both(
        f"matmul {text(shape)}", "matmul", lambda side: lambda x, w: x @ w, draw, None,
        (size, size + n * k + k * m), (flops, 2 * flops), terms=max(shape), dtype=dtype,
    )  # fmt: skip


def linears(shape: Any, dtype: str) -> Iterator[Case]:
    """X (n, k), w (m, k), b (m): x w^T + b."""
    n, k, m = shape
    size, flops = n * k + k * m + n * m, 2.0 * n * k * m
    yield from both(
        f"linear {text(shape)}", "matmul", functional("linear"), normals((n, k), (m, k), (m,), scale=k**-0.25), None,
        (size, size + n * k + k * m), (flops, 2 * flops), terms=max(shape), dtype=dtype,
    )  # fmt: skip


def pools(shape: Any, dtype: str) -> Iterator[Case]:
    """Pooling by 2 and by 3 with stride 2, as LeNet, VGG and ResNet do."""
    for f, args in (("max_pool2d", (2,)), ("max_pool2d", (3, 2, 1)), ("avg_pool2d", (2,))):
        yield from pooled(f, args, shape, dtype)


def pooled(f: str, args: tuple[int, ...], shape: Any, dtype: str) -> Iterator[Case]:
    """One pooling, by 2, by 3 with stride 2, or to one value for each channel (adaptive)."""
    left = 1 if f.startswith("adaptive") else (shape[2] // 2) * (shape[3] // 2)
    n, q = prod(shape), prod(shape[:2]) * left
    least = (n + q, n + q)
    yield from both(
        f"{f} {args[0]} {text(shape)}", "pool", functional(f, *args), normals(shape), None, least, terms=9, dtype=dtype
    )


def embeddings(shape: Any, dtype: str) -> Iterator[Case]:
    """Rows of a table by number; backward adds rows with the same number."""
    n, length, vocabulary, d = shape

    def draw(inputs: Inputs) -> list[Any]:
        # words of a text: a few are frequent, most are rare
        ids = inputs("ids", lambda r: (r.zipf(1.2, (n, length)) - 1) % vocabulary)
        return [ids, inputs.normal(0, (vocabulary, d))]

    picked = n * length * d
    yield from both(
        f"embedding {text(shape)}", "embedding", functional("embedding"), draw, [1],
        (2 * picked, picked + vocabulary * d), terms=n * length, dtype=dtype,
    )  # fmt: skip


def cells(shape: Any, dtype: str, tf32: bool = False) -> Iterator[Case]:
    """Recurrent layers over t steps of n sequences, h wide."""
    t, n, h = shape
    for f, gates in (("LSTM", 4), ("GRU", 3)):

        def make(side: Any, inputs: Inputs, f: str = f, back: bool = False) -> tuple:
            layer = getattr(side.lib.nn, f)(h, h).to(side.device).to(side.dtype(inputs.dtype))
            for name, p in layer.named_parameters():
                side.fill(p, inputs.normal(name, tuple(p.shape), h**-0.5))
            x = side.tensor(inputs.normal("x", (t, n, h)), True)
            wanted = [x, *layer.parameters()]

            def quiet() -> Any:
                with side.lib.no_grad():
                    return layer(x)[0]

            if not back:
                return quiet, quiet
            g = side.tensor(inputs.normal("g", (t, n, h)))

            def step() -> Any:
                return side.grad(layer(x)[0], wanted, g)

            return step, step

        flops = 2.0 * t * n * h * h * 2 * gates
        size = 4 * (2 * t * n * h + 2 * gates * h * h)
        name = f"{f} {text(shape)}"
        yield Case(f"{name} forward", "cell", make, size, flops, t * h, dtype, tf32=tf32)
        yield Case(
            f"{name} forward+backward",
            "cell",
            lambda s, i, make=make: make(s, i, back=True),
            3 * size,
            3 * flops,
            t * n * h,
            dtype,
            tf32=tf32,
        )


def attentions(shape: Any, dtype: str) -> Iterator[Case]:
    """softmax(q k^T / sqrt d) v for n sequences, h heads, t positions."""
    n, h, t, d = shape
    flops = 4.0 * n * h * t * t * d
    for causal in (False, True):
        yield from both(
            f"attention{' causal' if causal else ''} {text(shape)}", "attention",
            functional("scaled_dot_product_attention", is_causal=causal), normals(shape, shape, shape), None,
            (4 * prod(shape), 8 * prod(shape)), (flops / (1 + causal), 2.5 * flops / (1 + causal)), t * 16, dtype,
        )  # fmt: skip


def optimizers(shape: Any, dtype: str) -> Iterator[Case]:
    """One step over many parameters: sizes as in a net, most of the elements in a few."""
    count, total = shape
    weights = np.geomspace(1, 1000, count)
    sizes = [max(1, int(total * w / weights.sum())) for w in weights]
    for f, options, states in (
        ("SGD", {"lr": 0.01, "momentum": 0.9, "fused": True}, 1), ("Adam", {"lr": 1e-3, "fused": True}, 2),
        ("AdamW", {"lr": 1e-3, "fused": True}, 2), ("RMSprop", {}, 1), ("Adagrad", {}, 1), ("Adadelta", {}, 2),
        ("Adamax", {}, 2), ("NAdam", {}, 2), ("RAdam", {}, 2), ("Rprop", {}, 2), ("ASGD", {}, 1),
    ):  # fmt: skip

        def make(side: Any, inputs: Inputs, f: str = f, options: Any = options) -> tuple:
            ps = [side.tensor(inputs.normal(i, (k,)).copy(), True) for i, k in enumerate(sizes)]
            for i, p in enumerate(ps):
                p.grad = side.tensor(inputs.normal(-1 - i, (sizes[i],)).copy())
            # PyTorch's fused step is its fastest, where it has one
            step = getattr(side.lib.optim, f)(ps, **options).step

            def outputs() -> list[Any]:
                step()
                step()
                return [p.detach().clone() for p in ps]

            return step, outputs

        moved = sum(sizes) * 4 * (3 + 2 * states)
        yield Case(f"{f} step {count} tensors {total // 1000}K", "optimizer", make, moved, 0, 1, dtype)


def dropouts(shape: Any, dtype: str) -> Iterator[Case]:
    """Zeros with probability 0.1: each has random numbers of its own, so shares are compared."""

    def check(xp: Any, ys: list[Any], reference: list[Any]) -> str:
        for y in ys:
            kept = float((y != 0).mean())
            if abs(kept - 0.9) > 0.02 + 0.5 * y.size**-0.5:
                return f"kept a share of {kept:.4f}, expected 0.9"
        return ""

    def draw(inputs: Inputs) -> list[Any]:
        return [inputs("x", lambda r: inputs.tiled(lambda n: r.uniform(1, 2, n), shape))]

    n = prod(shape)
    for case in both(
        f"dropout {text(shape)}", "dropout", functional("dropout", 0.1), draw, None, (2 * n, 2 * n), dtype=dtype
    ):
        case.check = check
        yield case


def small(dtype: str = "float32") -> Iterator[Case]:
    """What a call costs: ops with shapes on 16 elements, recorded and differentiated."""
    whole, square = normals((16,)), normals((4, 4))
    twice = normals((4, 4), (4, 4))

    def target(inputs: Inputs) -> list[Any]:
        return [*square(inputs), inputs("target", lambda r: r.integers(0, 4, 4))]

    for name, function, draw in (
        ("sum", lambda side: lambda x: x.sum(), whole),
        ("mean", lambda side: lambda x: x.mean(), whole),
        ("reshape", lambda side: lambda x: x.reshape(4, 4), whole),
        ("transpose", lambda side: lambda x: x.transpose(0, 1), square),
        ("x[1:]", lambda side: lambda x: x[1:], whole),
        ("x[1]", lambda side: lambda x: x[1], square),
        ("cat", lambda side: lambda x, y: side.lib.cat((x, y)), twice),
        ("matmul", lambda side: lambda x, w: x @ w, twice),
        ("linear", functional("linear"), normals((4, 4), (4, 4), (4,))),
        ("softmax", functional("softmax", 1), square),
        ("layer_norm", functional("layer_norm", (4,)), square),
        ("cross_entropy", functional("cross_entropy"), target),
        ("mse_loss", functional("mse_loss"), twice),
    ):
        yield Case(f"{name} 16 recorded", "overhead", recorded(function, draw), terms=16, dtype=dtype)


FAMILIES: dict[str, Callable[[Any, str], Iterator[Case]]] = {
    "softmax": softmaxes, "cross_entropy": cross_entropies, "layer_norm": layer_norms, "batch_norm": batch_norms,
    "pool": pools, "cell": cells, "attention": attentions, "optimizer": optimizers, "embedding": embeddings,
    "matmul": matmuls, "linear": linears, "dropout": dropouts, "sum": sums,
}  # fmt: skip
