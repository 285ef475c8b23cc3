"""Recurrent layers: RNN, LSTM, GRU, stacked and in both directions, and their cells for one step at a time."""

from __future__ import annotations

import math
import warnings
from typing import Any

from ..ops import rnn, shape
from . import functional as F
from . import init
from .module import Module
from .parameter import Parameter, blank, filled
from .utils.rnn import PackedSequence, gather, spread


class RNNBase(Module):
    """What the recurrent layers share: weights by PyTorch's names, layers over layers, directions, packed sequences.

    weight_ih_l0 (gates hidden, input), weight_hh_l0 (gates hidden, hidden), bias_ih_l0, bias_hh_l0 and, where proj_size is
    set, weight_hr_l0 (proj, hidden); l1, l2, ... for further layers and _reverse for the second direction. All start
    uniform in +-1/sqrt(hidden_size). dropout comes between layers.
    """

    gates = 1

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        for what, size in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
            if not isinstance(size, int):
                raise TypeError(f"{name}: wanted {what} as an int, saw {type(size).__name__}")
            if size <= 0:
                raise ValueError(f"{name}: wanted {what} > 0, saw {size}")
        if isinstance(dropout, bool) or not isinstance(dropout, (int, float)) or not 0 <= dropout <= 1:
            raise ValueError(f"{name}: wanted dropout as a probability in [0, 1], saw {dropout!r}")
        if not 0 <= proj_size < hidden_size:
            raise ValueError(f"{name}: wanted 0 <= proj_size < hidden_size {hidden_size}, saw {proj_size}")
        if proj_size and mode != "LSTM":
            raise ValueError(f"{name}: proj_size is for LSTM only, saw {proj_size}")
        if dropout > 0 and num_layers == 1:
            warnings.warn(f"{name}: dropout comes between layers, and there is one layer", UserWarning, stacklevel=3)
        self.mode, self.input_size, self.hidden_size, self.num_layers = mode, input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, float(dropout)
        self.bidirectional, self.proj_size = bidirectional, proj_size
        out, rows = proj_size or hidden_size, self.gates * hidden_size
        self._names: list[list[str]] = []  # of each layer's and direction's parameters
        for layer in range(num_layers):
            for suffix in ("", "_reverse") if bidirectional else ("",):
                into = input_size if layer == 0 else out * (1 + bidirectional)
                sizes = {"weight_ih": (rows, into), "weight_hh": (rows, out)}
                if bias:
                    sizes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
                if proj_size:
                    sizes["weight_hr"] = (proj_size, hidden_size)
                for part, size in sizes.items():
                    self.register_parameter(f"{part}_l{layer}{suffix}", Parameter(blank(size, dtype, device)))
                self._names.append([f"{part}_l{layer}{suffix}" for part in sizes])
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights and biases anew."""
        bound = 1 / math.sqrt(self.hidden_size)
        for p in self.parameters():
            init.uniform_(p, -bound, bound)

    def flatten_parameters(self) -> None:
        """Nothing: there is no memory layout to restore here. PyTorch's programs call it."""

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """The parameters of each layer and direction."""
        return [[getattr(self, n) for n in names] for names in self._names]

    def _layer(self, x: Any, states: list[Any], weights: list[Any], sizes: Any, reverse: bool) -> tuple[Any, ...]:
        """One layer in one direction: (y, the last of each state)."""
        raise NotImplementedError

    def _weights(self, names: list[str]) -> list[Any]:
        """w, u, b, d (None without bias) and, where there is a projection, p."""
        found = [self._parameters[n] for n in names]
        return found if self.bias else [*found[:2], None, None, *found[2:]]

    def _run(self, input: Any, states: list[Any], sizes: Any) -> tuple[Any, list[Any]]:
        """All layers over input (t, n, f), from states [(layers directions, n, h), ...]: (output, last states)."""
        directions = 1 + self.bidirectional
        last: list[list[Any]] = [[] for _ in states]
        x = input
        for layer in range(self.num_layers):
            ys = []
            for direction in range(directions):
                i = layer * directions + direction
                y, *ends = self._layer(x, [s[i] for s in states], self._weights(self._names[i]), sizes, direction == 1)
                ys.append(y)
                for column, end in zip(last, ends, strict=True):
                    column.append(end)
            x = ys[0] if directions == 1 else shape.cat(ys, -1)
            if self.dropout and layer < self.num_layers - 1:
                x = F.dropout(x, self.dropout, self.training)
        return x, [shape.stack(column) for column in last]

    def _state_sizes(self) -> list[int]:
        return [self.proj_size or self.hidden_size]

    def _call(self, input: Any, given: Any) -> tuple[Any, list[Any]]:
        """forward, with the states as a list."""
        name, packed = type(self).__name__, isinstance(input, PackedSequence)
        x = input.data if packed else input
        single = not packed and x.dim() == 2
        if x.dim() not in ((2,) if packed else (2, 3)):
            raise ValueError(f"{name}: wanted an input of 2 or 3 dimensions, saw shape {tuple(x.shape)}")
        if x.shape[-1] != self.input_size:
            raise RuntimeError(f"{name}: wanted {self.input_size} features, saw shape {tuple(x.shape)}")
        if x.array.dtype != self.weight_ih_l0.array.dtype:
            raise ValueError(f"{name}: wanted an input of the weights' {self.weight_ih_l0.dtype}, saw {x.dtype}")
        sizes = order = unorder = None
        if packed:
            sizes, order, unorder = input.sizes, input.sorted_indices, input.unsorted_indices
            x = spread(x, sizes)
        elif single:
            x = x.unsqueeze(1)
        elif self.batch_first:
            x = x.transpose(0, 1)
        n, rows = x.shape[1], self.num_layers * (1 + self.bidirectional)
        if given is None:
            states = [filled((rows, n, h), 0.0, x.array.dtype, x.device) for h in self._state_sizes()]
        else:
            states = []
            for s, h in zip(given, self._state_sizes(), strict=True):
                if s.dim() != (2 if single else 3):
                    raise RuntimeError(f"{name}: wanted a state of {2 if single else 3} dimensions, saw {tuple(s.shape)}")
                s = s.unsqueeze(1) if single else s
                if tuple(s.shape) != (rows, n, h):
                    raise RuntimeError(f"{name}: wanted a state of shape {(rows, n, h)}, saw {tuple(s.shape)}")
                states.append(s if order is None else s[:, order])
        y, last = self._run(x, states, sizes)
        if packed:
            y = PackedSequence(gather(y, sizes), *input[1:])
            last = last if unorder is None else [s[:, unorder] for s in last]
        elif single:
            y, last = y.squeeze(1), [s.squeeze(1) for s in last]
        elif self.batch_first:
            y = y.transpose(0, 1)
        return y, last

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, Any]:
        """(output, last state): input (t, n, f), (n, t, f) if batch_first, (t, f), or a PackedSequence; hx zero if None."""
        y, (last,) = self._call(input, None if hx is None else (hx,))
        return y, last

    def extra_repr(self) -> str:
        """The sizes and the settings that are not the defaults."""
        text = f"{self.input_size}, {self.hidden_size}"
        text += f", proj_size={self.proj_size}" if self.proj_size else ""
        text += f", num_layers={self.num_layers}" if self.num_layers != 1 else ""
        text += "" if self.bias else f", bias={self.bias}"
        text += f", batch_first={self.batch_first}" if self.batch_first else ""
        text += f", dropout={self.dropout}" if self.dropout else ""
        return text + (f", bidirectional={self.bidirectional}" if self.bidirectional else "")


class RNN(RNNBase):
    """h_t = tanh(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh), or relu of it (Elman 1990)."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"RNN: wanted nonlinearity 'tanh' or 'relu', saw {nonlinearity!r}")
        self.__dict__["nonlinearity"] = nonlinearity
        mode = f"RNN_{nonlinearity.upper()}"
        super().__init__(
            mode, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, device, dtype
        )

    def _layer(self, x: Any, states: list[Any], weights: list[Any], sizes: Any, reverse: bool) -> tuple[Any, ...]:
        return rnn.rnn_layer(x, *states, *weights, sizes=sizes, reverse=reverse, relu=self.nonlinearity == "relu", reserve=[])


class GRU(RNNBase):
    """h_t = (1 - z) n + z h_(t-1) with gates r and z, n = tanh(W_in x + b_in + r (W_hn h + b_hn)) (Cho et al. 2014).

    The gates stand in the order r, z, n in the weights.
    """

    gates = 3

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            "GRU", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, device, dtype
        )

    def _layer(self, x: Any, states: list[Any], weights: list[Any], sizes: Any, reverse: bool) -> tuple[Any, ...]:
        return rnn.gru_layer(x, *states, *weights, sizes=sizes, reverse=reverse, reserve=[])


class LSTM(RNNBase):
    """c_t = f c_(t-1) + i g, h_t = o tanh(c_t), gates i, f, g, o in this order (Hochreiter and Schmidhuber 1997).

    proj_size projects h_t by weight_hr (Sak et al. 2014).
    """

    gates = 4

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            "LSTM", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size, device, dtype
        )

    def _state_sizes(self) -> list[int]:
        return [self.proj_size or self.hidden_size, self.hidden_size]

    def _layer(self, x: Any, states: list[Any], weights: list[Any], sizes: Any, reverse: bool) -> tuple[Any, ...]:
        return rnn.lstm_layer(x, *states, *weights, sizes=sizes, reverse=reverse, reserve=[])

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, tuple[Any, Any]]:
        """(output, (last h, last c)): input (t, n, f), (n, t, f) if batch_first, (t, f), or a PackedSequence; hx = (h, c)."""
        y, (h, c) = self._call(input, hx)
        return y, (h, c)


# --- one step at a time ---------------------------------------------------------------------------------


class RNNCellBase(Module):
    """What the cells share: weight_ih, weight_hh, bias_ih, bias_hh, uniform in +-1/sqrt(hidden_size)."""

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool, num_chunks: int, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        rows = num_chunks * hidden_size
        self.weight_ih = Parameter(blank((rows, input_size), dtype, device))
        self.weight_hh = Parameter(blank((rows, hidden_size), dtype, device))
        self.register_parameter("bias_ih", Parameter(blank((rows,), dtype, device)) if bias else None)
        self.register_parameter("bias_hh", Parameter(blank((rows,), dtype, device)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights and biases anew."""
        bound = 1 / math.sqrt(self.hidden_size) if self.hidden_size else 0.0
        for p in self.parameters():
            init.uniform_(p, -bound, bound)

    def _weights(self) -> tuple[Any, ...]:
        return self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh

    def _rows(self, input: Any, given: Any, states: int) -> tuple[Any, list[Any], bool]:
        """The input and the states as (n, ...), and whether the input had no batch."""
        name = type(self).__name__
        if input.dim() not in (1, 2) or input.shape[-1] != self.input_size:
            raise ValueError(f"{name}: wanted an input (n, {self.input_size}) or ({self.input_size},), saw {tuple(input.shape)}")
        single = input.dim() == 1
        x = input.unsqueeze(0) if single else input
        if given is None:
            found = [filled((x.shape[0], self.hidden_size), 0.0, x.array.dtype, x.device) for _ in range(states)]
        else:
            found = [s.unsqueeze(0) if single else s for s in given]
        for s in found:
            if tuple(s.shape) != (x.shape[0], self.hidden_size):
                raise RuntimeError(f"{name}: wanted a state of shape {(x.shape[0], self.hidden_size)}, saw {tuple(s.shape)}")
        return x, found, single

    def extra_repr(self) -> str:
        """The sizes and the settings that are not the defaults."""
        text = f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else f", bias={self.bias}")
        nonlinearity = self.__dict__.get("nonlinearity", "tanh")
        return text + (f", nonlinearity={nonlinearity}" if nonlinearity != "tanh" else "")


class RNNCell(RNNCellBase):
    """h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu of it."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 1, device, dtype)
        if nonlinearity not in ("tanh", "relu"):
            raise RuntimeError(f"RNNCell: wanted nonlinearity 'tanh' or 'relu', saw {nonlinearity!r}")
        self.nonlinearity = nonlinearity

    def forward(self, input: Any, hx: Any = None) -> Any:
        """The next state; hx is zero if None."""
        x, states, single = self._rows(input, None if hx is None else (hx,), 1)
        _, h = rnn.rnn_layer(x.unsqueeze(0), *states, *self._weights(), relu=self.nonlinearity == "relu", reserve=[])
        return h.squeeze(0) if single else h


class GRUCell(RNNCellBase):
    """One step of GRU."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__(input_size, hidden_size, bias, 3, device, dtype)

    def forward(self, input: Any, hx: Any = None) -> Any:
        """The next state; hx is zero if None."""
        x, states, single = self._rows(input, None if hx is None else (hx,), 1)
        _, h = rnn.gru_layer(x.unsqueeze(0), *states, *self._weights(), reserve=[])
        return h.squeeze(0) if single else h


class LSTMCell(RNNCellBase):
    """One step of LSTM."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__(input_size, hidden_size, bias, 4, device, dtype)

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, Any]:
        """The next (h, c); hx = (h, c) is zero if None."""
        x, states, single = self._rows(input, hx, 2)
        _, h, c = rnn.lstm_layer(x.unsqueeze(0), *states, *self._weights(), reserve=[])
        return (h.squeeze(0), c.squeeze(0)) if single else (h, c)
