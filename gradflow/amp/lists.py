"""The lists of autocast: which ops run in the lower precision, in float32, in the widest dtype of their inputs.

PyTorch's, of its documentation ("Autocast op reference"), by gradflow's names. What is on no list runs in the dtypes that it
is given. An op is listed by its name in the table; a function of several ops by its place, and what PyTorch has as one op
off the lists and is here of several, of which some are on a list, is listed as untouched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..ops import einsum

DEVICES = ("cpu", "cuda")
LOWER, FLOAT32, WIDEST, REFUSED, UNTOUCHED = "lower", "float32", "widest", "refused", "untouched"

_PRODUCTS = """
    matmul linear addmatmul conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d attention
    linear_activation conv1d_activation conv2d_activation conv3d_activation
"""
_LOSSES = """
    ops.loss.binary_cross_entropy_with_logits ops.loss.nll_loss ops.loss.cross_entropy ops.loss.poisson_nll_loss
    ops.loss.kl_div ops.loss.multi_margin_loss ops.loss.multilabel_margin_loss ops.pair_loss.soft_margin_loss
    ops.pair_loss.margin_ranking_loss ops.pair_loss.triplet_margin_loss ops.pair_loss.cosine_embedding_loss
    ops.pair_loss.hinge_embedding_loss ops.loss.mse_loss ops.loss.l1_loss ops.loss.smooth_l1_loss ops.loss.huber_loss
    nn.plain.kl_div nn.plain.poisson_nll_loss ops.distance.cdist
"""


def _of(file: str, names: str) -> str:
    """The places of the functions of one file."""
    return " ".join(f"{file}.{n}" for n in names.split())


_OPS = {
    "cpu": {
        LOWER: f"{_PRODUCTS} lstm_layer rnn_layer",
        FLOAT32: """
            adaptive_avg_pool3d adaptive_max_pool3d_with_indices avg_pool3d prod view_as_complex
        """,
        WIDEST: "stack cat",
    },
    "cuda": {
        LOWER: f"{_PRODUCTS} lstm_layer gru_layer rnn_layer",
        FLOAT32: """
            acos asin cosh erfinv exp expm1 log log10 log2 log1p reciprocal rsqrt sinh tan pow square softplus prod softmax
            log_softmax cumprod cumsum sum sum_to vector_norm logsumexp
        """,
        WIDEST: "atan2 cross",
    },
}

_FUNCTIONS = {
    "cpu": {
        LOWER: "ops.combined.prelu ops.conv.conv_tbc ops.matrix.vecdot ops.einsum.einsum ops.einsum.tensordot",
        FLOAT32: " ".join(
            (
                _LOSSES,
                "ops.loss.binary_cross_entropy ops.ctc.ctc_loss ops.grid.grid_sample ops.grid.grid_sampler ops.stft.stft",
                "ops.products.trace ops.complexes.polar ops.arrange.pad ops.pool.max_pool3d",
                _of("ops.fractional", "fractional_max_pool2d fractional_max_pool3d"),
                _of("ops.fractional", "fractional_max_pool2d_with_indices fractional_max_pool3d_with_indices"),
                _of("ops.unpool", "max_unpool1d max_unpool2d max_unpool3d"),
                _of("ops.statistics", "quantile nanquantile"),
                _of("ops.fft", "fft ifft rfft irfft hfft ihfft fft2 ifft2 rfft2 irfft2 hfft2 ihfft2 fftn ifftn"),
                _of("ops.fft", "rfftn irfftn hfftn ihfftn"),
                _of("ops.decomposition", "cholesky cholesky_ex qr svd svdvals"),
                _of("ops.eigen", "eig eigh eigvals eigvalsh"),
                _of("ops.solve", "inv inv_ex solve tensorinv tensorsolve"),
                _of("ops.factors", "cholesky_inverse cholesky_solve"),
                _of("ops.householder", "householder_product geqrf orgqr ormqr"),
                _of("ops.lapack", "cholesky inverse lu_solve pinverse qr svd triangular_solve svd_lowrank pca_lowrank"),
                _of("ops.matrix", "cond matrix_rank"),
                "ops.least.lstsq",
            )
        ),
        UNTOUCHED: _of("ops.linalg", "addmv dot vdot mv addr inner") + " nn.functional.bilinear ops.rnn.lstm_cell",
    },
    "cuda": {
        LOWER: " ".join(
            (
                "ops.combined.prelu ops.conv.conv_tbc ops.matrix.vecdot ops.einsum.einsum",
                _of("ops.linalg", "addmv addr mv"),
                _of("ops.products", "multi_dot chain_matmul"),
                _of("ops.rnn", "lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell"),
            )
        ),
        FLOAT32: " ".join(
            (
                _LOSSES,
                _of("ops.loss", "multilabel_soft_margin_loss"),
                _of("ops.pair_loss", "triplet_margin_with_distance_loss"),
                _of("ops.distance", "cosine_similarity dist pdist renorm pairwise_distance"),
                _of("ops.row_norm", "layer_norm rms_norm"),
                "nn.plain.native_layer_norm ops.norm.group_norm ops.special_gamma.mvlgamma tensor.Tensor.__rtruediv__",
                _of("ops.lapack", "frobenius_norm nuclear_norm"),
                _of("ops.reduce", "norm"),
                _of("ops.matrix", "matrix_norm vector_norm norm"),
                _of("ops.resample", "interpolate upsample upsample_nearest upsample_bilinear"),
            )
        ),
        WIDEST: " ".join(
            (
                _of("ops.linalg", "dot vdot inner"),
                _of("ops.combined", "addcdiv addcmul"),
                "nn.functional.bilinear ops.grid.grid_sample ops.grid.grid_sampler ops.einsum.tensordot ops.products.linalg_cross",
                _of("ops.gather", "put_at scatter_add"),
            )
        ),
        REFUSED: "ops.loss.binary_cross_entropy",
        UNTOUCHED: " ".join(
            (
                _of("ops.reduce", "nanmean nansum"),
                "ops.least.lstsq ops.products.trace nn.plain.native_group_norm",
                _of("masked", "norm softmax log_softmax softmin normalize"),
            )
        ),
    },
}


def _spread(table: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    return {device: {n: kind for kind, names in by.items() for n in names.split()} for device, by in table.items()}


kinds = _spread(_OPS)  # of a type of device, the kind of each op
_by_device = _spread(_FUNCTIONS)
functions = {  # of a place, the kind of a function by type of device
    path: {d: _by_device[d][path] for d in DEVICES if path in _by_device[d]}
    for path in sorted({p for by in _by_device.values() for p in by})
}



# --- functions that are on a list for some arguments only -------------------------------------------


def _copies(x: Any, pad: Any, mode: str = "constant", value: Any = None) -> bool:
    return mode == "replicate" or (mode == "reflect" and len(pad) < 6)


def _alone(*args: Any, return_indices: bool = False, **kwargs: Any) -> bool:
    return not (return_indices or (len(args) > 6 and args[6]))


def _vectors(input: Any, other: Any, *, out: Any = None) -> bool:
    return input.ndim == other.ndim == 1


def _remains(a: Any, b: Any, dims: Any = 2) -> bool:
    return a.ndim + b.ndim > 2 * (dims if isinstance(dims, int) else len(dims[0]))


def _multiplies(equation: Any, *operands: Any) -> bool:
    """Whether an einsum sums over a dimension of two operands, as a product of matrices does."""
    if not isinstance(equation, str):
        equation, operands = einsum._from_lists((equation, *operands))
    elif len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    inputs, output = einsum._parse(equation, tuple([x.ndim for x in operands]))
    letters = [c for labels in inputs for c in set(labels)]
    return any(letters.count(c) > 1 and c not in output for c in letters)


def _by_weights(*args: Any, mode: str = "nearest", **kwargs: Any) -> bool:
    return (args[3] if len(args) > 3 else mode) != "area"


only: dict[str, dict[str, Callable[..., bool]]] = {
    "cpu": {
        "ops.arrange.pad": _copies,
        "ops.pool.max_pool3d": _alone,
        "ops.linalg.inner": _vectors,
        "ops.einsum.tensordot": _remains,
        "ops.einsum.einsum": _multiplies,
    },
    "cuda": {"ops.linalg.inner": _vectors, "ops.resample.interpolate": _by_weights, "ops.resample.upsample": _by_weights},
}
