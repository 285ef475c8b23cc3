"""What each family of ops means: its definitions, its gradient rules and its sample cases."""

from . import attention, conv, index, linalg, loss, norm, pointwise, pool, random, reduce, rnn, scan, shape, softmax

__all__ = [
    "attention", "conv", "index", "linalg", "loss", "norm", "pointwise", "pool", "random", "reduce", "rnn", "scan", "shape",
    "softmax",
]  # fmt: skip
