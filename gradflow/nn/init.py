"""Initial values of parameters: fills that write in place, unrecorded, from the default generator."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from .. import backend
from ..ops import random

_GAINS = {"sigmoid": 1.0, "tanh": 5.0 / 3, "relu": math.sqrt(2), "selu": 3.0 / 4, "linear": 1.0}
_LINEAR = ("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")


def _write(t: Any, values: Any) -> Any:
    """Put values (an array or a number) into the tensor t, off the tape."""
    t.array[...] = values
    t.version.bump()
    return t


def _draw(how: Any, t: Any, generator: Any) -> Any:
    """Random numbers like t; half dtypes are drawn in float32 and rounded when written."""
    dtype = backend.float32 if t.array.dtype.itemsize == 2 else t.array.dtype
    with backend.on(t.device) as xp:
        return how(t.array.shape, dtype, xp, generator or backend.default_generator)


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor by which the standard deviation must grow so that it survives a nonlinearity.

    1 for linear layers and sigmoid, 5/3 for tanh, sqrt(2) for relu, sqrt(2 / (1 + param^2)) for leaky_relu (param 0.01
    unless given), 3/4 for selu. ValueError for others.
    """
    if nonlinearity == "leaky_relu":
        if param is not None and (isinstance(param, bool) or not isinstance(param, (int, float))):
            raise ValueError(f"calculate_gain: wanted a number for the slope, saw {param!r}")
        return math.sqrt(2 / (1 + (0.01 if param is None else param) ** 2))
    if nonlinearity in _LINEAR:
        return 1.0
    if nonlinearity not in _GAINS:
        raise ValueError(
            f"calculate_gain: wanted leaky_relu, {', '.join(_GAINS)} or a convolution, saw {nonlinearity!r}"
        )
    return _GAINS[nonlinearity]


# --- plain fills --------------------------------------------------------------------------------------


def uniform_(tensor: Any, a: float = 0.0, b: float = 1.0, generator: Any = None) -> Any:
    """Uniform in [a, b)."""
    return _write(tensor, _draw(partial(random.uniform_between, a, b), tensor, generator))


def normal_(tensor: Any, mean: float = 0.0, std: float = 1.0, generator: Any = None) -> Any:
    """Normal with this mean and standard deviation."""
    return _write(tensor, _draw(random.normal, tensor, generator) * std + mean)


def trunc_normal_(
    tensor: Any, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0, generator: Any = None
) -> Any:
    """Normal with this mean and standard deviation, drawn again wherever it fell outside [a, b].

    Made by the inverse of the distribution function, Phi^-1(u) with u uniform in (Phi((a - mean) / std),
    Phi((b - mean) / std)), then clipped to [a, b].
    """
    generator = generator or backend.default_generator
    if generator.sequence is not None and not tensor.is_cuda and a <= mean <= b:  # as PyTorch, all again for a few
        z = _draw(random.normal, tensor, generator) * std + mean
        while (outside := (z < a) | (z > b)).any():
            z = np.where(outside, _draw(random.normal, tensor, generator) * std + mean, z)
        return _write(tensor, z)
    low, high = (0.5 * (1 + math.erf((v - mean) / std / math.sqrt(2))) for v in (a, b))
    with backend.on(tensor.device) as xp:
        u = random.uniform(tensor.array.shape, backend.float64, xp, generator)
        z = xp.asarray(normal_quantile(backend.asnumpy(u) * (high - low) + low))
        return _write(tensor, xp.clip(z * std + mean, a, b))


def normal_quantile(p: np.ndarray) -> np.ndarray:
    """Phi^-1(p), the inverse of the normal distribution function, to about 1e-15 of its value.

    A rational start, then Halley's method twice: z <- z - r / (1 + z r / 2) with r = (Phi(z) - p) / phi(z).
    """
    from ..ops.pointwise import erfc

    p = np.asarray(p, np.float64)
    q = np.minimum(p, 1 - p)  # the lower half: the upper one mirrors it
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.sqrt(-2 * np.log(q))
        # Hastings 1955 (Abramowitz and Stegun 26.2.23): |error| < 4.5e-4
        z = (2.515517 + t * (0.802853 + t * 0.010328)) / (1 + t * (1.432788 + t * (0.189269 + t * 0.001308))) - t
        for _ in range(2):
            r = (0.5 * erfc(-z / math.sqrt(2)) - q) * math.sqrt(2 * math.pi) * np.exp(z * z / 2)
            z = z - r / (1 + z * r / 2)
    z = np.where(q == 0, -np.inf, z)
    return np.where(p > 0.5, -z, z)


def constant_(tensor: Any, val: float) -> Any:
    """Every element val."""
    return _write(tensor, val)


def ones_(tensor: Any) -> Any:
    """Every element 1."""
    return _write(tensor, 1)


def zeros_(tensor: Any) -> Any:
    """Every element 0."""
    return _write(tensor, 0)


def eye_(tensor: Any) -> Any:
    """The identity matrix, as far as it fits. ValueError unless the tensor has two dimensions."""
    if tensor.dim() != 2:
        raise ValueError(f"eye_: wanted 2 dimensions, saw shape {tuple(tensor.shape)}")
    with backend.on(tensor.device) as xp:
        return _write(tensor, xp.eye(*tensor.array.shape, dtype=tensor.array.dtype))


def dirac_(tensor: Any, groups: int = 1) -> Any:
    """The convolution weight that keeps each channel as it is: 1 in the middle of the kernel from channel i to i.

    ValueError unless the tensor has 3 to 5 dimensions and the first divides by groups.
    """
    if not 3 <= tensor.dim() <= 5:
        raise ValueError(f"dirac_: wanted 3 to 5 dimensions, saw shape {tuple(tensor.shape)}")
    out, into, *kernel = tensor.array.shape
    if out % groups:
        raise ValueError(f"dirac_: wanted output channels divisible by groups {groups}, saw {out}")
    _write(tensor, 0)
    per, middle = out // groups, tuple(k // 2 for k in kernel)
    for group in range(groups):
        for i in range(min(per, into)):
            tensor.array[(group * per + i, i, *middle)] = 1
    return tensor


# --- scaled by the number of inputs and outputs --------------------------------------------------------


def fans(name: str, tensor: Any) -> tuple[int, int]:
    """(inputs per output, outputs per input) of a weight (out, in, *kernel). ValueError below two dimensions."""
    if tensor.dim() < 2:
        raise ValueError(f"{name}: wanted at least 2 dimensions, saw shape {tuple(tensor.shape)}")
    out, into, *kernel = tensor.array.shape
    return into * math.prod(kernel), out * math.prod(kernel)


def _calculate_fan_in_and_fan_out(tensor: Any) -> tuple[int, int]:
    """fans, by the name that many programs import."""
    return fans("fan in and fan out", tensor)


def _calculate_correct_fan(tensor: Any, mode: str) -> int:
    """The fan of a mode, 'fan_in' or 'fan_out'. ValueError for others."""
    if mode.lower() not in ("fan_in", "fan_out"):
        raise ValueError(f"fan: wanted mode 'fan_in' or 'fan_out', saw {mode!r}")
    return fans("fan", tensor)[mode.lower() == "fan_out"]


def _kaiming_std(name: str, tensor: Any, a: float, mode: str, nonlinearity: str) -> float:
    if mode.lower() not in ("fan_in", "fan_out"):
        raise ValueError(f"{name}: wanted mode 'fan_in' or 'fan_out', saw {mode!r}")
    fan = fans(name, tensor)[mode.lower() == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(fan) if fan else 0.0


def xavier_uniform_(tensor: Any, gain: float = 1.0, generator: Any = None) -> Any:
    """Uniform in +-gain sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""
    bound = gain * math.sqrt(6 / sum(fans("xavier_uniform_", tensor)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Any, gain: float = 1.0, generator: Any = None) -> Any:
    """Normal with standard deviation gain sqrt(2 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""
    return normal_(tensor, 0.0, gain * math.sqrt(2 / sum(fans("xavier_normal_", tensor))), generator)


def kaiming_uniform_(
    tensor: Any, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator: Any = None
) -> Any:
    """Uniform in +-gain sqrt(3 / fan), gain = calculate_gain(nonlinearity, a) (He et al. 2015)."""
    bound = math.sqrt(3) * _kaiming_std("kaiming_uniform_", tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Any, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator: Any = None
) -> Any:
    """Normal with standard deviation gain / sqrt(fan), gain = calculate_gain(nonlinearity, a) (He et al. 2015)."""
    return normal_(tensor, 0.0, _kaiming_std("kaiming_normal_", tensor, a, mode, nonlinearity), generator)


def default_bias_(bias: Any, weight: Any) -> Any:
    """What linear layers and convolutions start their bias with: uniform in +-1/sqrt(fan_in of the weight)."""
    if bias is not None:
        fan = fans("default_bias_", weight)[0]
        bound = 1 / math.sqrt(fan) if fan else 0.0
        uniform_(bias, -bound, bound)
    return bias


def orthogonal_(tensor: Any, gain: float = 1, generator: Any = None) -> Any:
    """gain times a random (semi-)orthogonal matrix, dimensions after the first taken together (Saxe et al. 2014).

    The Q of a normal matrix's QR decomposition with R's diagonal made positive, so uniform over orthogonal matrices.
    Worked out on the CPU, so that every device gets the same. ValueError below two dimensions.
    """
    if tensor.dim() < 2:
        raise ValueError(f"orthogonal_: wanted at least 2 dimensions, saw shape {tuple(tensor.shape)}")
    if tensor.array.size == 0:
        return tensor
    rows = tensor.array.shape[0]
    columns = tensor.array.size // rows
    dtype = backend.float64 if tensor.array.dtype == backend.float64 else backend.float32
    z = random.normal((rows, columns), dtype, np, generator or backend.default_generator)
    q, r = np.linalg.qr(z.T if rows < columns else z)
    q *= np.sign(np.diag(r))
    q = (q.T if rows < columns else q).reshape(tensor.array.shape) * gain
    return _write(tensor, backend.to_device(q.astype(dtype), tensor.device))


def sparse_(tensor: Any, sparsity: float, std: float = 0.01, generator: Any = None) -> Any:
    """Normal with standard deviation std, but a fraction `sparsity` of each column is zero (Martens 2010).

    ValueError unless the tensor has two dimensions.
    """
    if tensor.dim() != 2:
        raise ValueError(f"sparse_: wanted 2 dimensions, saw shape {tuple(tensor.shape)}")
    rows, columns = tensor.array.shape
    zeros = math.ceil(sparsity * rows)
    generator = generator or backend.default_generator
    normal_(tensor, 0.0, std, generator)
    for column in range(columns):
        tensor.array[random.permutation(rows, np, generator)[:zeros].tolist(), column] = 0
    return tensor


# --- by their old names -----------------------------------------------------------------------------------


def _old(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function by its deprecated name, without the last _."""
    name = function.__name__

    def init(*args: Any, **kwargs: Any) -> Any:
        warnings.warn(f"nn.init.{name[:-1]}: it is deprecated; use nn.init.{name}", FutureWarning, stacklevel=2)
        return function(*args, **kwargs)

    init.__name__ = init.__qualname__ = name[:-1]
    init.__doc__ = f"{name}, by its deprecated name."
    return init


uniform, normal, constant, eye, dirac = map(_old, (uniform_, normal_, constant_, eye_, dirac_))
xavier_uniform, xavier_normal = _old(xavier_uniform_), _old(xavier_normal_)
kaiming_uniform, kaiming_normal = _old(kaiming_uniform_), _old(kaiming_normal_)
orthogonal, sparse = _old(orthogonal_), _old(sparse_)
