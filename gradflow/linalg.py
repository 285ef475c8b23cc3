"""torch.linalg's names: decompositions, systems of equations, and functions of matrices, over stacks of any leading sizes."""

from .ops.decomposition import cholesky, cholesky_ex, qr, svd, svdvals
from .ops.determinant import det, slogdet
from .ops.eigen import eig, eigh, eigvals, eigvalsh
from .ops.factors import ldl_factor, ldl_factor_ex, ldl_solve
from .ops.householder import householder_product
from .ops.least import lstsq, pinv
from .ops.linalg import matmul
from .ops.matrix import (
    cond,
    matrix_exp,
    matrix_norm,
    matrix_rank,
    norm,
    vander,
    vecdot,
    vector_norm,
)
from .ops.matrix import diagonal_of as diagonal
from .ops.products import linalg_cross as cross
from .ops.products import matrix_power, multi_dot
from .ops.solve import (
    inv,
    inv_ex,
    solve,
    solve_ex,
    tensorinv,
    tensorsolve,
)
from .ops.stacks import LinAlgError
from .ops.triangular import lu, lu_factor, lu_factor_ex, lu_solve, solve_triangular

__all__ = [
    "LinAlgError",
    "cholesky",
    "cholesky_ex",
    "cond",
    "cross",
    "det",
    "diagonal",
    "eig",
    "eigh",
    "eigvals",
    "eigvalsh",
    "householder_product",
    "inv",
    "inv_ex",
    "ldl_factor",
    "ldl_factor_ex",
    "ldl_solve",
    "lstsq",
    "lu",
    "lu_factor",
    "lu_factor_ex",
    "lu_solve",
    "matmul",
    "matrix_exp",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "multi_dot",
    "norm",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "solve_ex",
    "solve_triangular",
    "svd",
    "svdvals",
    "tensorinv",
    "tensorsolve",
    "vander",
    "vecdot",
    "vector_norm",
]
