"""Which family each public name is in, for the families that are loaded when first used, so that `import gradflow` is quick."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

# `name` is a function of gradflow, `name.` a method of Tensor too, `name_` also a method that writes in place; `.name` is
# a method only, `.name_` one that writes in place as well. A family is a file of ops/.
FAMILIES = {
    "conv": "conv1d conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d conv_transpose3d convolution",
    "ctc": "ctc_loss",
    "determinant": "det. logdet. slogdet.",
    "distance": "cdist cosine_similarity dist. pairwise_distance pdist renorm_",
    "einsum": "einsum tensordot",
    "grid": "affine_grid_generator grid_sampler grid_sampler_2d grid_sampler_3d",
    "householder": "geqrf. orgqr. ormqr.",
    "lapack": """cholesky. eig. frobenius_norm inverse. lobpcg lstsq. lu. lu_solve. lu_unpack matrix_rank nuclear_norm pca_lowrank
        pinverse. qr. svd. svd_lowrank symeig. triangular_solve. vander""",
    "matrix": "matrix_exp.",
    "norm": "layer_norm group_norm rms_norm",
    "operators": """_batch_norm_with_update _fused_rms_norm _log_softmax _log_softmax_backward_data _native_batch_norm_legit
        _native_batch_norm_legit_no_training _safe_softmax _softmax _softmax_backward_data adaptive_max_pool1d
        embedding_bag native_norm""",
    "pool": """adaptive_avg_pool1d avg_pool1d max_pool1d max_pool1d_with_indices max_pool2d
        max_pool2d_with_indices_backward max_pool3d""",
    "resample": "_upsample_bicubic2d_aa _upsample_bilinear2d_aa",
    "products": "chain_matmul cross. kron. matrix_power. trace.",
    "arrange": "constant_pad_nd",
    "calculus": "cumulative_trapezoid gradient trapezoid trapz",
    "factors": "cholesky_inverse. cholesky_solve.",
    "mask": "fill",
    "grids": """atleast_1d atleast_2d atleast_3d block_diag cartesian_prod column_stack combinations diagflat. dsplit. hsplit.
        vsplit. row_stack split_with_sizes. unravel_index unsafe_chunk. unsafe_split. unsafe_split_with_sizes.""",
    "sort": "msort.",
    "segment": "index_reduce_ nonzero_static. put_ segment_reduce",
    "complexes": """angle. complex imag is_conj. is_neg. isreal. polar real resolve_conj. resolve_neg.
        view_as_complex view_as_complex_copy view_as_real view_as_real_copy""",
    "logs": "logaddexp2. logit_ xlogy_",
    "combined": ".prelu",
    "pointwise": "arccosh_ arcsinh_ arctanh_ conj conj_physical_ hardshrink. sgn_ threshold",
    "signs": """bitwise_left_shift_ bitwise_right_shift_ copysign_ deg2rad_ float_power. frexp. gcd_ heaviside_ isin isneginf.
        isposinf. lcm_ ldexp_ nextafter_ rad2deg_ rsub signbit.""",
    "special_bessel": "i0_ sinc_",
    "special_error": "erfinv_",
    "special_gamma": "digamma_ igamma_ igammac_ lgamma_ mvlgamma_ polygamma_",
    "softmax": "softmax. log_softmax.",
    "statistics": "bincount. corrcoef. cov. histc. histogram. histogramdd mode. nanquantile. quantile.",
    "strided": """as_strided. as_strided_scatter. select_scatter. slice_scatter. diagonal_scatter.
        alias_copy as_strided_copy detach_copy diagonal_copy expand_copy narrow_copy. permute_copy select_copy slice_copy
        split_copy split_with_sizes_copy squeeze_copy t_copy transpose_copy unbind_copy unfold_copy unsqueeze_copy view_copy""",
    "stacks": "adjoint",
    "stft": "stft. istft.",
}

# Methods that are functions too, most of them such that write in place: abs_(x) is x.abs_().
_WRITERS = """abs_ acos_ acosh_ addmv_ arccos_ arccosh_ arcsin_ arcsinh_ arctan_ arctanh_ as_strided_ asin_ asinh_ atan_ atanh_
    ceil_ clamp_ clamp_max_ clamp_min_ clip_ conj_physical_ cos_ cosh_ deg2rad_ detach_ erf_ erfc_ exp2_ exp_ expm1_ fill_ fix_
    floor_ frac_ gcd_ i0_ index_put_ lcm_ ldexp_ log10_ log1p_ log2_ log_ logit_ nan_to_num_ neg_ negative_ rad2deg_ reciprocal_
    resize_as_ round_ rsqrt_ sigmoid_ sin_ sinc_ sinh_ sqrt_ square_ tan_ tanh_ trunc_ xlogy_ zero_
    detach get_device ger is_distributed is_inference is_signed prelu resize_"""
writers = set(_WRITERS.split())

family_of: dict[str, str] = {}
methods: dict[str, str] = {}
in_place: list[str] = []
for _family, _names in FAMILIES.items():
    for _name in _names.split():
        _plain = _name.lstrip(".").rstrip("._")
        if not _name.startswith("."):
            family_of[_plain] = _family
        if _name[0] == "." or _name[-1] in "._":
            methods[_plain] = _family
        if _name[-1] == "_":
            in_place.append(_plain)


def find(name: str) -> Any:
    """The public function of this name, its family imported."""
    return getattr(import_module(f"gradflow.ops.{family_of[name]}"), name)


def method(cls: type, name: str) -> Callable[..., Any]:
    """The method of this name; it imports its family when first called and then makes way for the function itself."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        function = getattr(import_module(f"gradflow.ops.{methods[name]}"), name)
        setattr(cls, name, function)
        return function(self, *args, **kwargs)

    call.__name__ = call.__qualname__ = name
    call.__doc__ = f"gradflow.{name} of this tensor; help(gradflow.{name}) says what it is."
    return call
