"""Recurrent layers: RNN, LSTM, GRU, stacked and in both directions, and their cells for one step at a time."""

from __future__ import annotations

import math
import warnings
from typing import Any

from .. import call
from ..ops import rnn
from . import init
from .module import Module
from .parameter import Parameter, blank, filled
from .utils.rnn import PackedSequence


def _permuted(hx: Any, order: Any) -> Any:
    """A state, or several, with its sequences in another order."""
    if order is None:
        return hx
    return tuple(s[:, order] for s in hx) if isinstance(hx, tuple) else hx[:, order]


class RNNBase(Module):
    """What the recurrent layers share: weights by PyTorch's names, layers over layers, directions, packed sequences.

    weight_ih_l0 (gates hidden, input), weight_hh_l0 (gates hidden, hidden), bias_ih_l0, bias_hh_l0 and, where proj_size
    is set, weight_hr_l0 (proj, hidden); l1, l2, ... for further layers and _reverse for the second direction. All start
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
        for what, flag in (("bias", bias), ("batch_first", batch_first)):
            if not isinstance(flag, bool):
                raise TypeError(f"{name}: wanted {what} as a bool, saw {type(flag).__name__}")
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
        self._all_weights: list[list[str]] = []  # of each layer's and direction's parameters
        for layer in range(num_layers):
            for suffix in ("", "_reverse") if bidirectional else ("",):
                into = input_size if layer == 0 else out * (1 + bidirectional)
                sizes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, into), "weight_hh": (rows, out)}
                if bias:
                    sizes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
                if proj_size:
                    sizes["weight_hr"] = (proj_size, hidden_size)
                for part, shape in sizes.items():
                    self.register_parameter(f"{part}_l{layer}{suffix}", Parameter(blank(shape, dtype, device)))
                self._all_weights.append([f"{part}_l{layer}{suffix}" for part in sizes])
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
        return [[getattr(self, n) for n in names] for names in self._all_weights]

    @property
    def _flat_weights_names(self) -> list[str]:
        return [n for names in self._all_weights for n in names]

    @property
    def _flat_weights(self) -> list[Any]:
        return [getattr(self, n) for n in self._flat_weights_names]

    # What layers made from these check their arguments with; forward does by itself.

    def check_input(self, input: Any, batch_sizes: Any) -> None:
        """Raise a RuntimeError unless the input, packed if there are batch_sizes, has the layer's features."""
        wanted = 2 if batch_sizes is not None else 3
        if input.dim() != wanted or input.shape[-1] != self.input_size:
            raise RuntimeError(
                f"{type(self).__name__}: wanted {wanted} dimensions, the last of size {self.input_size}, "
                f"saw {tuple(input.shape)}"
            )

    def get_expected_hidden_size(self, input: Any, batch_sizes: Any) -> tuple[int, int, int]:
        """The shape of a first state h for this input."""
        n = int(batch_sizes[0]) if batch_sizes is not None else input.shape[0 if self.batch_first else 1]
        return self.num_layers * (1 + self.bidirectional), n, self.proj_size or self.hidden_size

    def check_hidden_size(self, hx: Any, expected_hidden_size: Any, msg: str = "wanted a state of {}, saw {}") -> None:
        """Raise a RuntimeError unless a state has the shape expected."""
        if tuple(hx.shape) != tuple(expected_hidden_size):
            raise RuntimeError(f"{type(self).__name__}: {msg.format(tuple(expected_hidden_size), tuple(hx.shape))}")

    def check_forward_args(self, input: Any, hidden: Any, batch_sizes: Any) -> None:
        """check_input and check_hidden_size; of a pair (h, c), both."""
        self.check_input(input, batch_sizes)
        wanted = self.get_expected_hidden_size(input, batch_sizes)
        h, *cells = hidden if isinstance(hidden, tuple) else (hidden,)
        self.check_hidden_size(h, wanted)
        for c in cells:
            self.check_hidden_size(c, (*wanted[:2], self.hidden_size))

    def permute_hidden(self, hx: Any, permutation: Any) -> Any:
        """A state, or several, with its sequences in another order."""
        return _permuted(hx, permutation)

    def _network(self, x: Any, hx: Any, weights: list[Any], options: tuple) -> tuple[Any, Any]:
        """(output, last states) of the network; options as ops.rnn's functions take them, num_layers first."""
        raise NotImplementedError(f"{type(self).__name__}: the module has no forward()")

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, Any]:
        """(output, last state): input (t, n, f), (n, t, f) if batch_first, (t, f), or a PackedSequence.

        hx is the first state, zero if None. States are (layers directions, n, hidden_size); an LSTM's are pairs (h, c).
        """
        name, packed = type(self).__name__, isinstance(input, PackedSequence)
        x = input.data if packed else input
        if not packed and x.dim() not in (2, 3):
            raise ValueError(f"{name}: wanted an input of 2 or 3 dimensions, saw shape {tuple(x.shape)}")
        if x.array.dtype != self.weight_ih_l0.array.dtype and not call.casting:  # in a block of autocast the op casts both
            raise ValueError(f"{name}: wanted an input of the weights' {self.weight_ih_l0.dtype}, saw {x.dtype}")
        if hx is not None and not packed:
            for s in hx if isinstance(hx, tuple) else (hx,):
                if s.dim() != x.dim():
                    raise RuntimeError(f"{name}: wanted a state of {x.dim()} dimensions, saw shape {tuple(s.shape)}")
        found = self._parameters
        # a weight that is computed from others, by weight_norm, say, is no parameter
        weights = [found[n] if n in found else getattr(self, n) for names in self._all_weights for n in names]
        options = (self.num_layers, self.bidirectional, self.dropout, self.training, self.batch_first)
        if not packed:
            return self._network(x, hx, weights, (*options, None))
        hx = hx if hx is None else _permuted(hx, input.sorted_indices)
        y, last = self._network(x, hx, weights, (*options, input.batch_sizes))
        return PackedSequence(y, *input[1:]), _permuted(last, input.unsorted_indices)

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

    def _network(self, x: Any, hx: Any, weights: list[Any], options: tuple) -> tuple[Any, Any]:
        return rnn.rnn(x, hx, weights, self.nonlinearity, *options)


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

    def _network(self, x: Any, hx: Any, weights: list[Any], options: tuple) -> tuple[Any, Any]:
        return rnn.gru(x, hx, weights, *options)


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
            "LSTM",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            proj_size,
            device,
            dtype,
        )

    def _network(self, x: Any, hx: Any, weights: list[Any], options: tuple) -> tuple[Any, Any]:
        return rnn.lstm(x, hx, weights, *options)


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

    def _weights(self) -> Any:
        return self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh

    def _state(self, input: Any) -> Any:
        """A state of zeros for an input (n, f) or (f)."""
        return filled((*input.shape[:-1], self.hidden_size), 0.0, input.array.dtype, input.device)

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
        hx = self._state(input) if hx is None else hx
        return rnn.rnn_cell(input, hx, *self._weights(), nonlinearity=self.nonlinearity)


class GRUCell(RNNCellBase):
    """One step of GRU."""

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 3, device, dtype)

    def forward(self, input: Any, hx: Any = None) -> Any:
        """The next state; hx is zero if None."""
        return rnn.gru_cell(input, self._state(input) if hx is None else hx, *self._weights())


class LSTMCell(RNNCellBase):
    """One step of LSTM."""

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 4, device, dtype)

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, Any]:
        """The next (h, c); hx = (h, c) is zero if None."""
        hx = (self._state(input), self._state(input)) if hx is None else hx
        return rnn.lstm_cell(input, hx, *self._weights())
