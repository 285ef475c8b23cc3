"""Systems of equations, inverses, determinants, norms and distances against loops and closed forms; their errors."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from tolerance import assert_close

import gradflow as gf
from gradflow.autograd import grad, gradcheck, gradgradcheck
from gradflow.ops import determinant, distance

R = np.random.default_rng(0)
DTYPES = ["float32", "float64", "complex64", "complex128"]


def r(*shape, dtype="float64"):
    x = R.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        x = x + 1j * R.standard_normal(shape)
    return x.astype(dtype)


def t(*shape):
    return gf.tensor(r(*shape))


def H(x):
    return np.swapaxes(x, -1, -2).conj()


def close(a, b, scale=30):
    assert_close(np.asarray(a), np.asarray(b), scale=scale)


# --- solutions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("a", "b"),
    [((3, 3), (3, 2)), ((2, 1, 3, 3), (4, 3, 2)), ((3, 3), (2, 3, 1)), ((0, 3, 3), (3, 2)), ((0, 0), (0, 2)), ((2, 2), (2, 0))],
)
def test_solutions_solve(a, b, dtype):
    a, b = r(*a, dtype=dtype), r(*b, dtype=dtype)
    n = a.shape[-1]
    a = a + 3 * np.eye(n, dtype=dtype)
    A, B, Bt = gf.tensor(a), gf.tensor(b), gf.tensor(np.ascontiguousarray(np.swapaxes(b, -1, -2)))
    full = np.broadcast_to(b, (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), *b.shape[-2:]))
    close(a @ gf.linalg.solve(A, B).numpy(), full)
    close(gf.linalg.solve(A, Bt, left=False).numpy() @ a, np.swapaxes(full, -1, -2))
    result, info = gf.linalg.solve_ex(A, B)
    close(a @ result.numpy(), full)
    assert info.shape == a.shape[:-2]
    for upper, ones in itertools.product((True, False), repeat=2):
        tri = np.triu(a) if upper else np.tril(a)
        if ones:
            tri[..., np.arange(n), np.arange(n)] = 1
        x = gf.linalg.solve_triangular(A, B, upper=upper, unitriangular=ones).numpy()
        close(tri @ x, full)
        x = gf.linalg.solve_triangular(A, Bt, upper=upper, left=False, unitriangular=ones).numpy()
        close(x @ tri, np.swapaxes(full, -1, -2))
        x, same = gf.triangular_solve(B, A, upper=upper, transpose=True, unitriangular=ones)
        close(np.swapaxes(tri, -1, -2) @ x.numpy(), full)
        close(same.numpy(), np.broadcast_to(a, same.shape))
    packed = gf.linalg.lu_factor(A)
    for left, adjoint in itertools.product((True, False), repeat=2):
        x = gf.linalg.lu_solve(*packed, B if left else Bt, left=left, adjoint=adjoint).numpy()
        m = H(a) if adjoint else a
        close(m @ x if left else x @ m, full if left else np.swapaxes(full, -1, -2))
    close(gf.lu_solve(B, *packed).numpy(), result.numpy())
    spd = a @ H(a)
    for upper in (False, True):
        factor = gf.linalg.cholesky(gf.tensor(spd), upper=upper)
        close(spd @ gf.cholesky_solve(B, factor, upper=upper).numpy(), full, 100)
        close(spd @ gf.cholesky_inverse(factor, upper=upper).numpy(), np.broadcast_to(np.eye(n, dtype=dtype), spd.shape), 100)
    close(a @ gf.linalg.inv(A).numpy(), np.broadcast_to(np.eye(n, dtype=dtype), a.shape))


def test_stacks_of_vectors():
    a, b = r(2, 3, 3) + 3 * np.eye(3), r(2, 3)
    x = gf.linalg.solve(gf.tensor(a), gf.tensor(b)).numpy()
    assert x.shape == (2, 3)
    close(np.einsum("bij,bj->bi", a, x), b)
    x = gf.linalg.solve(gf.tensor(a[0]), gf.tensor(b[0])).numpy()
    close(a[0] @ x, b[0])


def test_large_triangles_are_solved_by_halves():
    a, b = np.tril(r(150, 150)) + 30 * np.eye(150), r(150, 3)
    close(a @ gf.linalg.solve_triangular(gf.tensor(a), gf.tensor(b), upper=False).numpy(), b)


def test_singular_matrices():
    a = np.stack([np.eye(2), [[1.0, 2], [2, 4]], np.zeros((2, 2))])
    for call, name in (
        (lambda: gf.linalg.solve(gf.tensor(a), gf.ones(2, 1, dtype=gf.float64)), "linalg.solve"),
        (lambda: gf.linalg.inv(gf.tensor(a)), "linalg.inv"),
        (lambda: gf.linalg.inv_ex(gf.tensor(a), check_errors=True), "linalg.inv_ex"),
    ):
        with pytest.raises(gf.linalg.LinAlgError, match=rf"^{name}: \(batch element 1\) .* pivot 2: it is singular"):
            call()
    assert gf.linalg.inv_ex(gf.tensor(a)).info.tolist() == [0, 2, 1]
    result, info = gf.linalg.solve_ex(gf.tensor(a), gf.ones(2, 1, dtype=gf.float64))
    assert info.tolist() == [0, 2, 1]
    assert np.isfinite(result.numpy()[0]).all()
    assert not np.isfinite(result.numpy()[1:]).all()
    x = gf.linalg.solve_triangular(gf.tensor(a[1] * [[1, 1], [0, 0]]), gf.ones(2, 1, dtype=gf.float64), upper=True)
    assert np.isinf(x.numpy()).any()
    assert issubclass(gf.linalg.LinAlgError, RuntimeError)
    assert gf.linalg.cond(gf.tensor(a), 1).tolist()[1:] == [math.inf, math.inf]


@pytest.mark.parametrize("driver", ["gels", "gelsy", "gelsd", "gelss", None])
@pytest.mark.parametrize("size", [(5, 3), (3, 5), (3, 3)])
def test_least_squares(size, driver):
    m, n = size
    a, b = r(2, m, n), r(2, m, 2)
    found = gf.linalg.lstsq(gf.tensor(a), gf.tensor(b), driver=driver)
    x = found.solution.numpy()
    close(H(a) @ (a @ x - b), np.zeros((2, n, 2)), 100)  # the normal equations
    close(np.linalg.pinv(a) @ b, x)
    if m > n and driver in ("gels", "gelsd", "gelss"):
        close(found.residuals.numpy(), ((a @ x - b) ** 2).sum(-2))
    else:
        assert found.residuals.shape == (0,)
    assert found.rank.tolist() == ([] if driver == "gels" else [min(m, n)] * 2)
    assert found.singular_values.shape == ((2, min(m, n)) if driver in ("gelsd", "gelss") else (0,))


def test_pseudo_inverse_of_low_rank():
    a = r(5, 2) @ r(2, 4)
    y = gf.linalg.pinv(gf.tensor(a), rtol=1e-10).numpy()
    for left, right in ((a @ y @ a, a), (y @ a @ y, y), ((a @ y).T, a @ y), ((y @ a).T, y @ a)):  # Penrose's conditions
        close(left, right)
    assert gf.linalg.matrix_rank(gf.tensor(a)).item() == 2
    assert gf.linalg.matrix_rank(gf.tensor(a), atol=1e9).item() == 0
    assert gf.linalg.matrix_rank(gf.tensor(np.diag([3.0, -2, 1])), atol=1.5, hermitian=True).item() == 2
    assert gf.linalg.matrix_rank(gf.tensor(np.diag([3.0, -2, 1])), rtol=gf.tensor(0.5)).item() == 2

    def low(x, w):
        return gf.linalg.pinv(x @ w.mT, rtol=1e-8)

    x, w = gf.tensor(r(4, 2), requires_grad=True), gf.tensor(r(3, 2), requires_grad=True)
    assert gradcheck(low, [x, w], fast_mode=True)
    assert gradgradcheck(low, [x, w], fast_mode=True)


def test_tensors_as_matrices():
    a, b = r(2, 3, 6), r(2, 3)
    x = gf.linalg.tensorsolve(gf.tensor(a), gf.tensor(b)).numpy()
    close(np.tensordot(a, x, 1), b)
    a = r(4, 2, 2)
    y = gf.linalg.tensorinv(gf.tensor(a), ind=1).numpy()
    assert y.shape == (2, 2, 4)
    close(np.tensordot(a, y, 2), np.eye(4))
    with pytest.raises(RuntimeError, match=r"^linalg.tensorinv: wanted ind"):
        gf.linalg.tensorinv(gf.tensor(a), 0)
    with pytest.raises(RuntimeError, match=r"^linalg.tensorsolve: wanted A to be a square"):
        gf.linalg.tensorsolve(t(2, 3), t(2))


# --- determinants -------------------------------------------------------------------------------------------------


def leibniz(a):
    n = len(a)
    total = 0
    for p in itertools.permutations(range(n)):
        sign = (-1) ** sum(p[i] > p[j] for i in range(n) for j in range(i + 1, n))
        total += sign * math.prod([a[i, p[i]] for i in range(n)])
    return total


@pytest.mark.parametrize("rank", [4, 3, 2, 1, 0])
def test_determinants_of_any_rank(rank):
    a = r(4, rank) @ r(rank, 4)
    x = gf.tensor(a, requires_grad=True)
    y = gf.linalg.det(x)
    close(y.item(), leibniz(a))
    (g,) = grad(y, x, create_graph=True)
    minors = np.array(
        [[(-1) ** (i + j) * leibniz(np.delete(np.delete(a, i, 0), j, 1)) for j in range(4)] for i in range(4)]
    )
    close(g.detach().numpy(), minors)
    d = r(4, 4)
    (h,) = grad((g * gf.tensor(d)).sum(), x)
    step = 1e-6  # of a polynomial of degree 2 in each direction, a central difference is exact but for rounding
    both = [
        np.array([[(-1) ** (i + j) * leibniz(np.delete(np.delete(a + s * d, i, 0), j, 1)) for j in range(4)] for i in range(4)])
        for s in (step, -step)
    ]
    np.testing.assert_allclose(h.numpy(), (both[0] - both[1]) / (2 * step), atol=1e-7)


def test_determinant_of_what_is_not_finite():
    x = gf.tensor(np.stack([np.eye(2), np.full((2, 2), np.nan)]), requires_grad=True)
    gf.linalg.det(x).sum().backward()
    assert x.grad[0].tolist() == [[1, 0], [0, 1]]
    assert np.isnan(x.grad[1].numpy()).all()


def test_logarithms_of_determinants():
    a = np.stack([np.eye(2), np.diag([1.0, -2]), np.zeros((2, 2))])
    sign, y = gf.linalg.slogdet(gf.tensor(a))
    assert sign.tolist() == [1, -1, 0]
    close(y.numpy(), [0, math.log(2), -math.inf])
    z = gf.logdet(gf.tensor(a)).numpy()
    assert z[0] == 0
    assert np.isnan(z[1])
    assert z[2] == -math.inf
    assert gf.linalg.det(gf.zeros(0, 0)).item() == 1
    c = r(3, 3, dtype="complex128")
    sign, y = gf.linalg.slogdet(gf.tensor(c))
    close((sign * y.exp()).numpy(), leibniz(c))
    close(gf.logdet(gf.tensor(c)).exp().numpy(), leibniz(c))


# --- the exponential ------------------------------------------------------------------------------------------------


def test_exponential():
    angle = np.array([0.0, 1e-9, 1, 40, 1000])
    a = angle[:, None, None] * np.array([[0.0, -1], [1, 0]])
    y = gf.linalg.matrix_exp(gf.tensor(a)).numpy()
    c, s = np.cos(angle), np.sin(angle)
    np.testing.assert_allclose(y, np.moveaxis(np.array([[c, -s], [s, c]]), -1, 0), atol=1e-11)
    nilpotent = np.diag([1.0, 2, 3], 1)
    exact = np.eye(4) + nilpotent + nilpotent @ nilpotent / 2 + nilpotent @ nilpotent @ nilpotent / 6
    close(gf.matrix_exp(gf.tensor(nilpotent)).numpy(), exact)
    assert gf.matrix_exp(gf.zeros(2, 0, 0)).shape == (2, 0, 0)
    assert gf.matrix_exp(gf.zeros(0, 3, 3)).shape == (0, 3, 3)
    assert np.isnan(gf.matrix_exp(gf.full((2, 2), math.nan)).numpy()).all()
    close(gf.tensor([[math.log(2.0)]]).matrix_exp().item(), 2, 1e5)


# --- norms ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_norms(dtype):
    a = r(2, 3, 4, dtype=dtype)
    x = gf.tensor(a)
    for ord in ("fro", "nuc", 1, -1, 2, -2, math.inf, -math.inf):
        expected = np.array([np.linalg.norm(m, ord) for m in a])
        close(gf.linalg.matrix_norm(x, ord).numpy(), expected)
        close(gf.linalg.norm(x, ord, (1, 2), keepdim=True).numpy(), expected.reshape(2, 1, 1))
        moved = gf.tensor(np.ascontiguousarray(np.moveaxis(a, 0, 1)))
        close(gf.linalg.matrix_norm(moved, ord, (0, -1), keepdim=True).numpy(), expected.reshape(1, 2, 1))
    for ord in (0, 1, 2, 3.5, -1, math.inf, -math.inf):
        expected = np.array([[np.linalg.norm(row, ord) for row in m] for m in a])
        close(gf.linalg.vector_norm(x, ord, -1).numpy(), expected)
        close(gf.linalg.norm(x, ord, 2, keepdim=True).numpy(), expected[..., None])
        close(gf.linalg.vector_norm(x, ord).numpy(), np.linalg.norm(a.reshape(-1), ord))
    close(gf.linalg.norm(x).numpy(), np.linalg.norm(a.reshape(-1)))
    close(gf.norm(x, "nuc", (1, 2)).numpy(), np.array([np.linalg.norm(m, "nuc") for m in a]))
    close(gf.nuclear_norm(x[0]).numpy(), np.linalg.norm(a[0], "nuc"))
    close(gf.frobenius_norm(x, (0, 1)).numpy(), np.linalg.norm(a.reshape(6, 4), axis=0))
    square = a[:, :, :3]
    for p in (None, 2, -2, "fro", "nuc", 1, -1, math.inf, -math.inf):
        expected = np.array([np.linalg.cond(m, p) for m in square])
        close(gf.linalg.cond(gf.tensor(np.ascontiguousarray(square)), p).numpy(), expected, 300)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: gf.linalg.matrix_norm(t(3, 3), 3), RuntimeError, "linalg.matrix_norm: wanted ord"),
        (lambda: gf.linalg.matrix_norm(t(3, 3), "max"), RuntimeError, "linalg.matrix_norm: wanted ord"),
        (lambda: gf.linalg.matrix_norm(t(3)), RuntimeError, "linalg.matrix_norm: wanted 2 dimensions"),
        (lambda: gf.linalg.matrix_norm(t(3, 3), dim=(0, 0)), RuntimeError, "linalg.matrix_norm: wanted two different"),
        (lambda: gf.linalg.matrix_norm(t(3, 3), dim=(0, 2)), IndexError, "linalg.matrix_norm: wanted a dimension"),
        (lambda: gf.linalg.vector_norm(t(3), "fro"), TypeError, "linalg.vector_norm: wanted ord a number"),
        (lambda: gf.linalg.vector_norm(t(0), math.inf), RuntimeError, "vector_norm: wanted one element"),
        (lambda: gf.linalg.norm(t(2, 2, 2), 2), RuntimeError, "linalg.norm: wanted a vector or a matrix"),
        (lambda: gf.linalg.norm(gf.ones(3, dtype=gf.int64)), RuntimeError, "linalg.vector_norm: wanted a floating"),
        (lambda: gf.linalg.cond(t(2, 3), 1), RuntimeError, "linalg.cond: wanted square"),
        (lambda: gf.linalg.solve(t(3, 3), t(2, 2)), RuntimeError, "linalg.solve: wanted B of 3 rows"),
        (lambda: gf.linalg.solve(t(3, 3), t(3, 2).float()), RuntimeError, "linalg.solve: wanted one dtype"),
        (lambda: gf.linalg.solve(t(3, 3), t(3), left=False), RuntimeError, "linalg.solve: wanted left=True"),
        (lambda: gf.linalg.solve(t(2, 3, 3), t(4, 3, 1)), RuntimeError, "linalg.solve: wanted leading sizes"),
        (lambda: gf.linalg.solve_triangular(t(3, 3), t(2, 2), upper=True), RuntimeError, "linalg.solve_triangular: wanted B"),
        (lambda: gf.linalg.lu_solve(t(3, 3), gf.tensor([1, 2, 3]), t(3, 1)), RuntimeError, "linalg.lu_solve: wanted pivots"),
        (lambda: gf.linalg.lstsq(t(3, 3), t(2, 2)), RuntimeError, "linalg.lstsq: wanted B of 3 rows"),
        (lambda: gf.linalg.lstsq(t(3, 3), t(3, 2), driver="x"), RuntimeError, "linalg.lstsq: wanted a driver"),
        (lambda: gf.linalg.vander(t(3), N=1), RuntimeError, "linalg.vander: wanted N > 1"),
        (lambda: gf.vander(t(3, 3)), RuntimeError, "vander: wanted a vector"),
        (lambda: gf.linalg.cross(t(3), t(2, 3)), RuntimeError, "linalg.cross: wanted as many"),
        (lambda: gf.linalg.matrix_power(gf.zeros(2, 2), -1), RuntimeError, "matrix_power: wanted a matrix that can be"),
        (lambda: gf.cdist(t(3, 2), t(3, 3)), RuntimeError, "cdist: wanted rows"),
        (lambda: gf.cdist(t(3, 2), t(3, 2), -1), RuntimeError, "cdist: wanted p"),
        (lambda: gf.pdist(t(3)), RuntimeError, "pdist: wanted 2 dimensions"),
        (lambda: gf.renorm(t(3, 2), -1, 0, 1), RuntimeError, "renorm: wanted p"),
        (lambda: gf.renorm(t(3), 2, 0, 1), RuntimeError, "renorm: wanted 2 dimensions"),
    ],
)
def test_errors(call, kind, message):
    with pytest.raises(kind, match=f"^{message}"):
        call()


# --- powers, products, distances ----------------------------------------------------------------------------------------


def test_powers_and_products():
    x = gf.tensor([1.0, 2, 3])
    assert gf.vander(x).tolist() == [[1, 1, 1], [4, 2, 1], [9, 3, 1]]
    assert gf.vander(x, 2, increasing=True).tolist() == [[1, 1], [1, 2], [1, 3]]
    assert gf.vander(x, 0).shape == (3, 0)
    assert gf.linalg.vander(gf.tensor([[2], [3]]), N=3).tolist() == [[[1, 2, 4]], [[1, 3, 9]]]
    a, b = r(2, 3, dtype="complex128"), r(4, 1, 3, dtype="complex128")
    close(gf.linalg.vecdot(gf.tensor(a), gf.tensor(b)).numpy(), (a.conj() * b).sum(-1))
    close(gf.vdot(gf.tensor(a[0]), gf.tensor(a[1])).numpy(), np.vdot(a[0], a[1]))
    m = r(3, 3)
    close(gf.linalg.matrix_power(gf.tensor(m), -2).numpy(), np.linalg.inv(m @ m))
    close(gf.linalg.matrix_power(gf.tensor(m), 0).numpy(), np.eye(3))
    c = gf.tensor(a)
    assert c.mH.tolist() == c.H.tolist() == c.adjoint().tolist() == a.conj().T.tolist()
    assert gf.linalg.diagonal(gf.tensor(m)).tolist() == np.diagonal(m).tolist()


@pytest.mark.parametrize("p", [0, 1, 2, 2.5, math.inf])
@pytest.mark.parametrize("n", [3, 30])
def test_distances(p, n):
    x, w = r(n, 4), r(2, 4)

    def loops(x, w):
        return np.array([[np.linalg.norm(a - b, p) for b in w] for a in x])

    for mode in ("use_mm_for_euclid_dist_if_necessary", "use_mm_for_euclid_dist", "donot_use_mm_for_euclid_dist"):
        close(gf.cdist(gf.tensor(x), gf.tensor(w), p, compute_mode=mode).numpy(), loops(x, w))
    close(gf.pdist(gf.tensor(x), p).numpy(), loops(x, x)[np.triu_indices(n, 1)])
    close(gf.dist(gf.tensor(x[0]), gf.tensor(x[1]), p).numpy(), loops(x[:1], x[1:2])[0, 0])
    if p:
        y = gf.renorm(gf.tensor(x), p, 0, 1.5).numpy()
        size = np.array([np.linalg.norm(row, p) for row in x])
        close(y, x * np.where(size > 1.5, 1.5 / (size + 1e-7), 1)[:, None])


def test_distances_in_turns(monkeypatch):
    x, w = gf.tensor(r(2, 7, 3), requires_grad=True), gf.tensor(r(5, 3), requires_grad=True)
    whole = gf.cdist(x, w, 1.5)
    grads = grad(whole.sum(), [x, w])
    monkeypatch.setattr(distance, "PAIRS", 70)
    assert len(distance._turns(x, w)) == 4
    parts = gf.cdist(x, w, 1.5)
    close(parts.detach().numpy(), whole.detach().numpy())
    for a, b in zip(grad(parts.sum(), [x, w]), grads, strict=True):
        close(a.numpy(), b.numpy())
    assert gradgradcheck(lambda x, w: gf.cdist(x, w, 1.5), [x, w], fast_mode=True)


def test_near_points_far_from_the_origin():
    x = gf.tensor(np.float32([[1e4, 0], [1e4, 1e-2]]), requires_grad=True)
    gf.cdist(x, x.detach()).sum().backward()
    assert_close(x.grad.numpy(), np.float32([[0, -1], [0, 1]]))


def test_distance_of_a_point_to_itself_has_gradient_zero():
    x = gf.tensor(r(3, 2), requires_grad=True)
    for p in (1, 2, 3, math.inf):
        gf.cdist(x, x.detach(), p).diagonal().sum().backward()
        close(x.grad.numpy(), np.zeros((3, 2)))


def test_products_without_each_own():
    s = np.array([[2.0, 0, 3], [0, 0, 5], [1, 2, 3]])
    close(determinant.others(s), [[0, 6, 0], [0, 0, 0], [6, 3, 2]])


def test_results_are_written_into_out():
    a, empty = t(3, 3), gf.empty(0, dtype=gf.float64)
    assert gf.linalg.inv(a, out=empty) is empty
    close((a @ empty).numpy(), np.eye(3))
    q, y = gf.empty(3, 3, dtype=gf.float64), gf.empty(0, dtype=gf.float64)
    found = gf.linalg.qr(a, out=(q, y))
    assert found.Q is q
    assert found.R is y
    close((q @ y).numpy(), a.numpy())
    into = gf.zeros(3, 3, dtype=gf.float64)
    view = into[0]
    gf.addmm(a, a, a, out=into)
    close(view.numpy(), (a + a @ a)[0].numpy())
    for call, kind, message in (
        (lambda: gf.mm(a, a, out=gf.empty(3, 3)), RuntimeError, "mm: wanted out of float64"),
        (lambda: gf.mm(a.clone().requires_grad_(), a, out=into), RuntimeError, "mm: wanted out only without"),
        (lambda: gf.linalg.inv(a, out=into.clone().requires_grad_()), RuntimeError, "inv: wanted out only without"),
        (lambda: gf.linalg.qr(a, out=into), TypeError, "qr: wanted out to be 2 tensors"),
        (lambda: gf.linalg.inv(a, out=3), TypeError, "inv: wanted out to be a tensor"),
    ):
        with pytest.raises(kind, match=f"^{message}"):
            call()
