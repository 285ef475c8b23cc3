"""Recurrent networks: layers upon layers in one or two directions, single cells, and sequences of unequal length."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import call
from ..backend import int64, namespace
from ..cases import case
from ..op import op, unwrap
from ..tape import mode
from . import random, shape
from .gru import gru_layer
from .lstm import lstm_layer
from .recurrence import rnn_layer

# --- sequences of unequal length --------------------------------------------------------------------------


def _places(sizes: tuple[int, ...], n: int) -> np.ndarray:
    """Where the rows of a packed sequence are among the (t, n) rows of a padded one."""
    return np.concatenate([np.arange(t * n, t * n + k, dtype=int64) for t, k in enumerate(sizes)])


@op(
    dx=lambda g, sizes, x_shape: pad_packed(g, sizes, x_shape[:2]),
    cases=lambda r: [
        case(r(3, 3, 2), (3, 2, 1)), case(r(4, 2), (2, 1)), case(r.strided(2, 2, 3), (1, 1)), case(r(1, 1, 0), (1,))
    ],
    reference=lambda torch, x, sizes: torch.cat([x[t, :k] for t, k in enumerate(sizes)]),
)  # fmt: skip
def pack_padded(x, sizes):
    """The first sizes[t] rows of each step t of x (t, n, ...), one step after the other: (sum of sizes, ...)."""
    if len(sizes) > x.shape[0] or max(sizes) > x.shape[1]:
        raise RuntimeError(f"pack_padded: wanted sizes within {x.shape[:2]}, saw {tuple(sizes)}")
    at = namespace(x).asarray(_places(sizes, x.shape[1]))
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])[at]


@op(
    dx=lambda g, sizes: pack_padded(g, sizes),
    cases=lambda r: [
        case(r(6, 2), (3, 2, 1)), case(r(3), (2, 1), (4, 2)), case(r(3, 2), (2, 1), (3, 3), -1.5), case(r(1, 0), (1,))
    ],
    reference=lambda torch, x, sizes, size=None, value=0.0: torch.stack([
        torch.cat([v, v.new_full(((size or (0, sizes[0]))[1] - v.shape[0], *v.shape[1:]), value)])
        for v in [*x.split(sizes), *[x[:0]] * ((size or (len(sizes),))[0] - len(sizes))]
    ]),
)  # fmt: skip
def pad_packed(x, sizes, size=None, value=0.0):
    """The rows of x (sum of sizes, ...) as the first sizes[t] rows of each step t: (t, n, ...), `value` elsewhere.
    `size` is (t, n) where there are more steps or sequences. RuntimeError unless x has as many rows as sizes say.
    """
    steps, n = size or (len(sizes), sizes[0])
    if x.shape[0] != sum(sizes) or steps < len(sizes) or n < max(sizes):
        raise RuntimeError(f"pad_packed: wanted {sum(sizes)} rows, {tuple(sizes)} a step, saw {x.shape} and {steps, n}")
    xp = namespace(x)
    y = xp.full((steps * n, *x.shape[1:]), value, x.dtype)
    y[xp.asarray(_places(sizes, n))] = x
    return y.reshape(steps, n, *x.shape[1:])


# --- networks -----------------------------------------------------------------------------------------------


def _network(
    name: str, x: Any, hx: Any, weights: Any, run: Any, num_layers: int, bidirectional: bool, dropout: float,
    training: bool, batch_first: bool, batch_sizes: Any,
) -> tuple[Any, list[Any]]:  # fmt: skip
    """y and the last states of `run`, a layer in one direction, for all layers and directions of a network."""
    dirs = 2 if bidirectional else 1
    count, over = divmod(len(weights), num_layers * dirs)
    if over or count not in (2, 3, 4, 5):
        raise RuntimeError(
            f"{name}: wanted 2 to 5 weights for each of {num_layers * dirs} layers and directions, saw {len(weights)}"
        )
    biased, projected = count > 3, count % 2 == 1
    sizes, packed = None, batch_sizes is not None
    if packed:
        sizes = tuple(int(k) for k in unwrap(batch_sizes))
        x = pad_packed(x, sizes)
    if x.ndim not in (2, 3):
        raise RuntimeError(f"{name}: wanted an input of 2 or 3 dimensions, saw {x.ndim}")
    alone = x.ndim == 2
    if alone:
        x = shape.reshape(x, (x.shape[0], 1, x.shape[1]))
    elif batch_first and not packed:
        x = shape.permute(x, (1, 0, 2))
    steps, n, _ = x.shape
    if steps == 0:
        raise RuntimeError(f"{name}: wanted at least one step, saw none")
    if x.shape[2] != weights[0].shape[1]:
        raise RuntimeError(f"{name}: wanted {weights[0].shape[1]} features, saw {x.shape[2]}")
    bare = unwrap(x)
    if bare.dtype != weights[0].dtype and not call.casting:  # the layers of a block of autocast cast both
        raise RuntimeError(f"{name}: wanted an input of the weights' dtype {weights[0].dtype}, saw {bare.dtype}")
    q, states = weights[1].shape[1], []  # of the output, and of each state
    widths = [q, weights[1].shape[0] // 4] if name == "lstm" else [q]
    for width, s in zip(widths, hx or [None] * len(widths), strict=True):
        if s is None:
            s = namespace(bare).zeros((num_layers * dirs, n, width), bare.dtype)
        elif alone and s.ndim == 2:
            s = shape.reshape(s, (s.shape[0], 1, s.shape[1]))
        if tuple(s.shape) != (num_layers * dirs, n, width):
            raise RuntimeError(f"{name}: wanted a state of shape {(num_layers * dirs, n, width)}, saw {tuple(s.shape)}")
        states.append(s)
    if sizes is not None and sizes[-1] == n:
        sizes = None  # all are of one length
    last: list[list[Any]] = [[] for _ in states]
    for layer in range(num_layers):
        if layer and dropout and training:
            x = random.drop(x, dropout) if sizes is None else pad_packed(random.drop(pack_padded(x, sizes), dropout), sizes)
        found = []
        for way in range(dirs):
            i = layer * dirs + way
            w, u, *rest = weights[i * count : (i + 1) * count]
            b, d = rest[:2] if biased else (None, None)
            p = (rest[-1],) if projected else ()
            y, *ends = run(x, *(s[i] for s in states), w, u, b, d, *p, sizes=sizes, reverse=way == 1)
            found.append(y)
            for ended, e in zip(last, ends, strict=True):
                ended.append(e)
        x = found[0] if dirs == 1 else shape.cat(found, dim=2)
    ends = [shape.reshape(e[0], (1, *e[0].shape)) if len(e) == 1 else shape.stack(e) for e in last]
    if packed:
        x = pack_padded(x, tuple(int(k) for k in unwrap(batch_sizes)))
    elif alone:
        x, ends = shape.reshape(x, (steps, x.shape[2])), [shape.reshape(e, (e.shape[0], e.shape[2])) for e in ends]
    elif batch_first:
        x = shape.permute(x, (1, 0, 2))
    return x, ends


def _reserve() -> list[Any] | None:
    """A place for the forward pass to leave what a backward pass could use."""
    return [] if mode.enabled else None


def lstm(
    x: Any, hx: Any, weights: Any, num_layers: int = 1, bidirectional: bool = False, dropout: float = 0.0,
    training: bool = False, batch_first: bool = False, batch_sizes: Any = None,
) -> tuple[Any, tuple[Any, Any]]:  # fmt: skip
    """A network of LSTM layers: y, (hn, cn). See lstm_layer for the arithmetic.

    x (t, n, f), (n, t, f) with batch_first, (t, f) for one sequence, or the packed rows with batch_sizes[t] at step t.
    hx is (h0, c0), each (layers * directions, n, .), or None for zeros. weights are, for each layer and in it for each
    direction, w_ih, w_hh, then b_ih and b_hh if there are biases, then w_hr if there are projections. y is (t, n, .),
    the directions beside each other. dropout acts on each layer's output but the last's while training. RuntimeError
    for shapes or dtypes that do not agree.
    """

    def run(*args: Any, **kwargs: Any) -> Any:
        return lstm_layer(*args, **kwargs, reserve=_reserve())

    options = (num_layers, bidirectional, dropout, training, batch_first, batch_sizes)
    y, (hn, cn) = _network("lstm", x, hx, weights, run, *options)
    return y, (hn, cn)


def gru(
    x: Any, h0: Any, weights: Any, num_layers: int = 1, bidirectional: bool = False, dropout: float = 0.0,
    training: bool = False, batch_first: bool = False, batch_sizes: Any = None,
) -> tuple[Any, Any]:  # fmt: skip
    """A network of GRU layers: y, hn. See gru_layer for the arithmetic, and lstm for the arguments; h0 may be None."""

    def run(*args: Any, **kwargs: Any) -> Any:
        return gru_layer(*args, **kwargs, reserve=_reserve())

    hx = None if h0 is None else (h0,)
    options = (num_layers, bidirectional, dropout, training, batch_first, batch_sizes)
    y, (hn,) = _network("gru", x, hx, weights, run, *options)
    return y, hn


def rnn(
    x: Any, h0: Any, weights: Any, nonlinearity: str = "tanh", num_layers: int = 1, bidirectional: bool = False,
    dropout: float = 0.0, training: bool = False, batch_first: bool = False, batch_sizes: Any = None,
) -> tuple[Any, Any]:  # fmt: skip
    """A network of plain recurrent layers: y, hn. See rnn_layer for the arithmetic, and lstm for the arguments.
    ValueError for a nonlinearity other than "tanh" and "relu".
    """
    relu = _relu("rnn", nonlinearity)

    def run(*args: Any, **kwargs: Any) -> Any:
        return rnn_layer(*args, **kwargs, relu=relu)

    hx = None if h0 is None else (h0,)
    options = (num_layers, bidirectional, dropout, training, batch_first, batch_sizes)
    y, (hn,) = _network("rnn", x, hx, weights, run, *options)
    return y, hn


def _relu(name: str, nonlinearity: str) -> bool:
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"{name}: wanted nonlinearity 'tanh' or 'relu', saw {nonlinearity!r}")
    return nonlinearity == "relu"


# --- cells ----------------------------------------------------------------------------------------------------


def _cell(name: str, x: Any, states: tuple[Any, ...], w: Any, u: Any, run: Any) -> list[Any]:
    """The new states of one step of a layer: `run` on a sequence of length one."""
    if x.ndim not in (1, 2):
        raise RuntimeError(f"{name}: wanted an input of 1 or 2 dimensions, saw {x.ndim}")
    n, alone = 1 if x.ndim == 1 else x.shape[0], x.ndim == 1
    if x.shape[-1] != w.shape[1]:
        raise RuntimeError(f"{name}: wanted {w.shape[1]} features, saw {x.shape[-1]}")
    for s in states:
        if s.ndim not in (1, 2):
            raise ValueError(f"{name}: wanted a state of 1 or 2 dimensions, saw shape {tuple(s.shape)}")
        if s.ndim != x.ndim or s.shape[-1] != u.shape[1] or (not alone and s.shape[0] != n):
            raise RuntimeError(f"{name}: wanted a state of shape {(*x.shape[:-1], u.shape[1])}, saw {tuple(s.shape)}")
    if alone:
        states = tuple(shape.reshape(s, (1, s.shape[0])) for s in states)
    _, *ends = run(shape.reshape(x, (1, n, x.shape[-1])), *states)
    return [shape.reshape(e, (e.shape[1],)) for e in ends] if alone else ends


def lstm_cell(x: Any, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None) -> tuple[Any, Any]:
    """One step of an LSTM layer: x (n, f) or (f), hx = (h, c), to the next (h, c). RuntimeError for other shapes."""

    def run(x: Any, h: Any, c: Any) -> Any:
        return lstm_layer(x, h, c, w_ih, w_hh, b_ih, b_hh, reserve=_reserve())

    h, c = _cell("lstm_cell", x, tuple(hx), w_ih, w_hh, run)
    return h, c


def gru_cell(x: Any, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None) -> Any:
    """One step of a GRU layer: x (n, f) or (f), hx = h, to the next h. RuntimeError for other shapes."""

    def run(x: Any, h: Any) -> Any:
        return gru_layer(x, h, w_ih, w_hh, b_ih, b_hh, reserve=_reserve())

    return _cell("gru_cell", x, (hx,), w_ih, w_hh, run)[0]


def rnn_cell(
    x: Any, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None, nonlinearity: str = "tanh"
) -> Any:
    """One step of a plain recurrent layer: x (n, f) or (f), hx = h, to the next h. RuntimeError for other shapes."""
    relu = _relu("rnn_cell", nonlinearity)

    def run(x: Any, h: Any) -> Any:
        return rnn_layer(x, h, w_ih, w_hh, b_ih, b_hh, relu)

    return _cell("rnn_cell", x, (hx,), w_ih, w_hh, run)[0]


def rnn_tanh_cell(x: Any, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None) -> Any:
    """rnn_cell with tanh."""
    return rnn_cell(x, hx, w_ih, w_hh, b_ih, b_hh)


def rnn_relu_cell(x: Any, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None) -> Any:
    """rnn_cell with relu."""
    return rnn_cell(x, hx, w_ih, w_hh, b_ih, b_hh, "relu")
