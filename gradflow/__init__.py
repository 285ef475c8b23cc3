"""gradflow: automatic differentiation for NumPy and CuPy. The public names, one by one."""

from importlib import import_module as _import_module

from . import autograd
from . import names as _names
from .autograd import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled
from .backend import (
    Generator,
    bool_,
    complex64,
    complex128,
    default_generator,
    device,
    float16,
    float32,
    float64,
    get_default_device,
    get_default_dtype,
    int8,
    int16,
    int32,
    int64,
    manual_seed,
    set_default_device,
    set_default_dtype,
    uint8,
    uint16,
    uint32,
    uint64,
)  # fmt: skip
from .convert import as_tensor, asarray, from_dlpack, from_numpy, frombuffer, tensor
from .create import (
    arange,
    empty,
    empty_like,
    empty_permuted,
    empty_strided,
    eye,
    full,
    full_like,
    linspace,
    logspace,
    ones,
    ones_like,
    range,
    scalar_tensor,
    tril_indices,
    triu_indices,
    zeros,
    zeros_like,
)
from .draws import (
    bernoulli,
    binomial,
    multinomial,
    normal,
    poisson,
    rand,
    rand_like,
    randint,
    randint_like,
    randn,
    randn_like,
    randperm,
)
from .dtypes import can_cast, finfo, iinfo
from .op import promote_types, result_type
from .ops.arrange import (
    diag,
    diag_embed,
    diagonal,
    flip,
    fliplr,
    flipud,
    repeat_interleave,
    roll,
    rot90,
    tile,
    tril,
    triu,
)  # fmt: skip
from .ops.combined import add_scaled as add
from .ops.combined import (
    addcdiv,
    addcmul,
    allclose,
    celu,
    clamp_max,
    clamp_min,
    divide,
    equal,
    isclose,
    lerp,
    nan_to_num,
    prelu,
    selu,
)  # fmt: skip
from .ops.combined import divide as div
from .ops.combined import round_to as round
from .ops.combined import sub_scaled as sub
from .ops.combined import sub_scaled as subtract
from .ops.extreme import amax, amin, aminmax, argmax, argmin, max, min
from .ops.gather import (
    gather,
    index_add,
    index_copy,
    index_fill,
    index_select,
    scatter,
    scatter_add,
    scatter_reduce,
    take,
    take_along_dim,
)  # fmt: skip
from .ops.gather import (
    put_at as index_put,
)
from .ops.linalg import addbmm, addmm, addmv, addr, baddbmm, bmm, dot, inner, matmul, mm, mv, outer, vdot
from .ops.mask import argwhere, masked_fill, masked_scatter, masked_select, nonzero, where
from .ops.pointwise import (
    abs,
    acos,
    acosh,
    asin,
    asinh,
    atan,
    atan2,
    atanh,
    bitwise_and,
    bitwise_not,
    bitwise_or,
    bitwise_xor,
    ceil,
    clamp,
    cos,
    cosh,
    eq,
    erf,
    erfc,
    exp,
    exp2,
    expm1,
    floor,
    floor_divide,
    fmax,
    fmin,
    fmod,
    frac,
    ge,
    gt,
    hypot,
    isfinite,
    isinf,
    isnan,
    le,
    log,
    log1p,
    log2,
    log10,
    logaddexp,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    lt,
    maximum,
    minimum,
    mul,
    ne,
    neg,
    positive,
    pow,
    reciprocal,
    relu,
    remainder,
    rsqrt,
    sigmoid,
    sign,
    sin,
    sinh,
    sqrt,
    square,
    tan,
    tanh,
    trunc,
)  # fmt: skip
from .ops.pointwise import abs as absolute
from .ops.pointwise import acos as arccos
from .ops.pointwise import asin as arcsin
from .ops.pointwise import atan as arctan
from .ops.pointwise import atan2 as arctan2
from .ops.pointwise import clamp as clip
from .ops.pointwise import div as true_divide
from .ops.pointwise import ge as greater_equal
from .ops.pointwise import gt as greater
from .ops.pointwise import le as less_equal
from .ops.pointwise import lt as less
from .ops.pointwise import mul as multiply
from .ops.pointwise import ne as not_equal
from .ops.pointwise import neg as negative
from .ops.pointwise import trunc as fix
from .ops.reduce import (
    all,
    any,
    count_nonzero,
    logsumexp,
    mean,
    nanmean,
    nansum,
    norm,
    prod,
    std,
    std_mean,
    sum,
    var,
    var_mean,
)  # fmt: skip
from .ops.scan import cummax, cummin, cumprod, cumsum, diff, logcumsumexp
from .ops.shape import (
    broadcast_shapes,
    broadcast_tensors,
    broadcast_to,
    cat,
    chunk,
    clone,
    dstack,
    flatten,
    hstack,
    meshgrid,
    movedim,
    narrow,
    permute,
    ravel,
    reshape,
    select,
    split,
    squeeze,
    stack,
    t,
    tensor_split,
    transpose,
    unbind,
    unflatten,
    unsqueeze,
    vstack,
)  # fmt: skip
from .ops.shape import cat as concat
from .ops.shape import cat as concatenate
from .ops.shape import movedim as moveaxis
from .ops.shape import transpose as swapaxes
from .ops.shape import transpose as swapdims
from .ops.sort import (
    argsort,
    bucketize,
    kthvalue,
    median,
    nanmedian,
    searchsorted,
    sort,
    topk,
    unique,
    unique_consecutive,
)  # fmt: skip
from .tensor import Size, Tensor

__version__ = "0.1.0"

half, float, double, short, int, long, bool = float16, float32, float64, int16, int32, int64, bool_
inf, nan, pi, e = float32.type("inf").item(), float32.type("nan").item(), 3.141592653589793, 2.718281828459045

# Loaded when first used, so that `import gradflow` stays quick; names.py has the functions.
_SUBMODULES = {
    "amp", "backends", "cuda", "data", "distributions", "examples", "fft", "func", "io", "linalg", "logs", "masked", "nn", "optim",
    "profiler", "signal", "special", "train",
}  # fmt: skip
_LATE = {
    "amp": """GradScaler autocast autocast_decrement_nesting autocast_increment_nesting clear_autocast_cache
        get_autocast_dtype is_autocast_cache_enabled is_autocast_enabled set_autocast_cache_enabled set_autocast_dtype
        set_autocast_enabled""",
    "cuda.precision": "get_float32_matmul_precision set_float32_matmul_precision",
    "drawing": "draw",
    "func": "vmap",
    "io": "save load",
    "nn.functional": """bilinear celu_ channel_shuffle conv_tbc hardshrink native_channel_shuffle pixel_shuffle
        pixel_unshuffle relu_ rrelu rrelu_ selu_ threshold threshold_""",
    "nn.plain": """alpha_dropout alpha_dropout_ batch_norm binary_cross_entropy_with_logits cosine_embedding_loss dropout
        dropout_ embedding embedding_renorm_ feature_alpha_dropout feature_alpha_dropout_ feature_dropout feature_dropout_
        gru gru_cell hinge_embedding_loss instance_norm kl_div lstm lstm_cell margin_ranking_loss native_batch_norm
        native_dropout native_dropout_backward native_group_norm native_layer_norm norm_except_dim poisson_nll_loss
        rnn_relu rnn_relu_cell rnn_tanh rnn_tanh_cell triplet_margin_loss""",
    "printing": "set_printoptions get_printoptions",
    "signal.windows": "bartlett_window blackman_window hamming_window hann_window kaiser_window",
    "formats": "channels_last channels_last_3d contiguous_format layout memory_format preserve_format strided",
    "legacy": """FloatTensor DoubleTensor HalfTensor BFloat16Tensor ByteTensor CharTensor ShortTensor IntTensor LongTensor
        BoolTensor ComplexFloatTensor ComplexDoubleTensor set_default_tensor_type""",
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _LATE.items() for name in names.split()}


def __getattr__(name: str) -> object:
    if name in _SUBMODULES:
        return _import_module(f"{__name__}.{name}")
    if name in _names.family_of:
        return _names.find(name)
    if name in _MODULE_OF:
        return getattr(_import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    if name in _names.writers:
        return getattr(Tensor, name)
    if name == "bfloat16":
        from .backend import bfloat16

        return bfloat16()
    raise AttributeError(f"gradflow has no {name!r}")


def is_tensor(x: object) -> bool:  # type: ignore[valid-type]
    """Whether x is a Tensor."""
    return isinstance(x, Tensor)


def numel(input: Tensor) -> int:  # type: ignore[valid-type]
    """The number of elements."""
    return input.numel()


def is_same_size(input: Tensor, other: Tensor) -> bool:  # type: ignore[valid-type]
    """Whether two tensors have one shape."""
    return input.is_same_size(other)


def is_nonzero(input: Tensor) -> bool:  # type: ignore[valid-type]
    """Whether its one element is not zero. RuntimeError unless it has one element."""
    return input.is_nonzero()


def is_floating_point(input: Tensor) -> bool:  # type: ignore[valid-type]
    """Whether its dtype is a real floating type."""
    return input.is_floating_point()


def is_complex(input: Tensor) -> bool:  # type: ignore[valid-type]
    """Whether its dtype is complex."""
    return input.is_complex()


def initial_seed() -> int:  # type: ignore[valid-type]
    """The seed last set for the default generator."""
    return default_generator.initial_seed()
