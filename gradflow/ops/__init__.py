"""What each family of ops means: its definitions, its gradient rules and its sample cases."""

from . import pointwise, reduce, shape  # the first families, which the others are made of
from . import attention, conv, index, linalg, loss, norm, pool, random, rnn, scan, softmax  # noqa: I001

__all__ = [
    "attention", "conv", "index", "linalg", "loss", "norm", "pointwise", "pool", "random", "reduce", "rnn", "scan", "shape",
    "softmax",
]  # fmt: skip
