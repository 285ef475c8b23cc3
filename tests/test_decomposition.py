"""Decompositions of matrices: they multiply back to the matrix, their parts are what they are called, gradients, errors."""

from __future__ import annotations

import numpy as np
import pytest
from tolerance import assert_close

import gradflow as gf
from gradflow.autograd import gradcheck, gradgradcheck
from gradflow.ops import elimination

R = np.random.default_rng(0)
DTYPES = ["float32", "float64", "complex64", "complex128"]
BATCHES = [(), (2,), (2, 1), (0,), (2, 0)]


def r(*shape, dtype="float64"):
    x = R.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        x = x + 1j * R.standard_normal(shape)
    return x.astype(dtype)


def spd(*shape, dtype="float64"):
    x = r(*shape, dtype=dtype)
    return (x @ H(x) + 2 * np.eye(shape[-1])).astype(dtype)


def H(x):
    return np.swapaxes(x, -1, -2).conj()


def eye(n, like):
    return np.broadcast_to(np.eye(n, dtype=like.dtype), (*like.shape[:-2], n, n))


def close(a, b, scale=10):
    assert_close(np.asarray(a), np.asarray(b), scale=scale)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lead", BATCHES)
class TestMultipliesBack:
    def test_cholesky(self, lead, dtype):
        a = spd(*lead, 4, 4, dtype=dtype)
        y = gf.linalg.cholesky(gf.tensor(a)).numpy()
        u, info = (t.numpy() for t in gf.linalg.cholesky_ex(gf.tensor(a), upper=True))
        close(y @ H(y), a)
        close(u, H(y))
        close(y, np.tril(y))
        assert (np.diagonal(y, 0, -2, -1).real > 0).all()
        assert info.shape == lead
        assert info.dtype == np.int32
        assert not info.any()

    @pytest.mark.parametrize("size", [(4, 3), (3, 3), (2, 4), (3, 0), (0, 3)])
    def test_qr(self, lead, dtype, size):
        a = r(*lead, *size, dtype=dtype)
        m, n = size
        for mode, k in (("reduced", min(m, n)), ("complete", m)):
            q, y = (t.numpy() for t in gf.linalg.qr(gf.tensor(a), mode))
            assert q.shape == (*lead, m, k)
            assert y.shape == (*lead, k, n)
            close(q @ y, a)
            close(H(q) @ q, eye(k, q))
            close(y, np.triu(y))
        empty, alone = gf.linalg.qr(gf.tensor(a), "r")
        assert empty.shape == (0,)
        close(alone.numpy(), gf.linalg.qr(gf.tensor(a)).R.numpy())

    @pytest.mark.parametrize("size", [(4, 3), (3, 3), (2, 4), (3, 0), (0, 3)])
    def test_svd(self, lead, dtype, size):
        a = r(*lead, *size, dtype=dtype)
        m, n = size
        k = min(m, n)
        u, s, vh = (t.numpy() for t in gf.linalg.svd(gf.tensor(a), full_matrices=False))
        close((u * s[..., None, :]) @ vh, a)
        assert (np.diff(s) <= 0).all()
        assert s.dtype == a.real.dtype
        close(gf.linalg.svdvals(gf.tensor(a)).numpy(), s)
        full = gf.linalg.svd(gf.tensor(a))
        assert full.U.shape == (*lead, m, m)
        assert full.Vh.shape == (*lead, n, n)
        close(H(full.U.numpy()) @ full.U.numpy(), eye(m, u))
        close(full.Vh.numpy() @ H(full.Vh.numpy()), eye(n, u))
        old = gf.svd(gf.tensor(a))
        close((old.U.numpy() * old.S.numpy()[..., None, :]) @ H(old.V.numpy()), a)
        assert k == s.shape[-1]

    def test_eigh(self, lead, dtype):
        a = r(*lead, 4, 4, dtype=dtype)
        a = a + H(a)
        other = np.triu(np.full((4, 4), 100.0), 1).astype(dtype)
        for uplo, noise in (("L", other), ("U", other.T)):
            w, v = (t.numpy() for t in gf.linalg.eigh(gf.tensor(a + noise), uplo))
            close((v * w[..., None, :]) @ H(v), a)
            close(H(v) @ v, eye(4, v))
            assert (np.diff(w) >= 0).all()
            close(gf.linalg.eigvalsh(gf.tensor(a + noise), UPLO=uplo).numpy(), w)

    def test_eig(self, lead, dtype):
        a = r(*lead, 4, 4, dtype=dtype)
        found = gf.linalg.eig(gf.tensor(a))
        w, v = found.eigenvalues.numpy(), found.eigenvectors.numpy()
        assert w.dtype == v.dtype == np.result_type(dtype, np.complex64)
        close(a @ v, v * w[..., None, :], 20)
        close(np.linalg.norm(v, axis=-2), np.ones((*lead, 4), v.real.dtype))
        close(np.sort_complex(gf.linalg.eigvals(gf.tensor(a)).numpy()), np.sort_complex(w), 20)

    @pytest.mark.parametrize("size", [(4, 3), (3, 3), (2, 4), (3, 1), (1, 3), (3, 0), (0, 3), (70, 40), (40, 33)])
    def test_lu(self, lead, dtype, size):
        a = r(*lead, *size, dtype=dtype)
        p, y, u = (t.numpy() for t in gf.linalg.lu(gf.tensor(a)))
        close(p @ y @ u, a, 50)
        assert ((p == 0) | (p == 1)).all()
        assert (p.sum(-1) == 1).all()
        assert (abs(y) <= np.sqrt(2) + 1e-5).all()  # by |re| + |im|, the largest of its column was the pivot
        close(y, np.tril(y, -1) + np.eye(*y.shape[-2:], dtype=y.dtype))
        close(u, np.triu(u))
        packed = gf.linalg.lu_factor(gf.tensor(a)) if size[0] == size[1] else gf.linalg.lu_factor_ex(gf.tensor(a))
        again = gf.lu_unpack(packed.LU, packed.pivots)
        close(again.P.numpy(), p)
        close(again.L.numpy() @ again.U.numpy(), y @ u)

    @pytest.mark.parametrize("size", [(4, 3), (3, 3), (3, 0)])
    def test_reflections(self, lead, dtype, size):
        a = r(*lead, *size, dtype=dtype)
        packed = gf.geqrf(gf.tensor(a))
        q = gf.linalg.householder_product(packed.a, packed.tau).numpy()
        close(q @ np.triu(packed.a.numpy())[..., : size[1], :], a)
        close(H(q) @ q, eye(size[1], q))
        other = r(*lead, size[0], 2, dtype=dtype)
        full = gf.ormqr(packed.a, packed.tau, gf.tensor(np.ascontiguousarray(eye(size[0], a)))).numpy()
        close(full[..., : size[1]], q)
        for transpose, f in ((False, full), (True, H(full))):
            close(gf.ormqr(packed.a, packed.tau, gf.tensor(other), True, transpose).numpy(), f @ other)
            close(gf.ormqr(packed.a, packed.tau, gf.tensor(H(other)), False, transpose).numpy(), H(other) @ f)

    @pytest.mark.parametrize("hermitian", [False, True])
    def test_ldl(self, lead, dtype, hermitian):
        a = r(*lead, 7, 7, dtype=dtype)
        a = a * (1 - np.eye(7, dtype=dtype))  # so that the first block has two rows
        a = a + (H(a) if hermitian else np.swapaxes(a, -1, -2))
        noise = np.triu(np.full((7, 7), 100.0), 1).astype(dtype)
        packed = gf.linalg.ldl_factor(gf.tensor(a + noise), hermitian=hermitian)
        b = r(*lead, 7, 2, dtype=dtype)
        x = gf.linalg.ldl_solve(packed.LD, packed.pivots, gf.tensor(b), hermitian=hermitian).numpy()
        close(a @ x, b, 1000)
        if a.size:
            assert (packed.pivots.numpy() < 0).any()


# --- gradients ------------------------------------------------------------------------------------------------

X = r(3, 3)


def symmetric(x):
    return (x + x.mT) * 0.5


def positive(x):
    return x @ x.mT + 2 * gf.eye(3, dtype=gf.float64)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: gf.linalg.cholesky(positive(x)),
        lambda x: gf.linalg.cholesky(positive(x), upper=True),
        lambda x: gf.linalg.eigh(symmetric(x)),
        lambda x: gf.linalg.eigh(symmetric(x), "U"),
        lambda x: gf.linalg.eigvalsh(symmetric(x)),
        lambda x: gf.linalg.eigvals(symmetric(x)).abs(),
        lambda x: gf.linalg.svd(x[:, :2]).U[:, :2],
        lambda x: gf.linalg.svd(x[:2]).S,
        lambda x: gf.linalg.svd(x[:, :2], full_matrices=False),
        lambda x: gf.linalg.qr(x[:2], "complete"),
        lambda x: gf.linalg.lu(x),
        lambda x: gf.linalg.lu(x[:2]),
        lambda x: gf.linalg.lu(x[:, :2]),
        lambda x: gf.linalg.householder_product(x[:, :2], x[2, :2]),
        lambda x: gf.ormqr(x[:, :2], x[2, :2], x),
        lambda x: gf.ormqr(x[:, :2], x[2, :2], x, False, True),
        lambda x: gf.cholesky_solve(x, gf.linalg.cholesky(positive(x))),
        lambda x: gf.cholesky_inverse(gf.linalg.cholesky(positive(x), upper=True), upper=True),
        lambda x: gf.lobpcg(symmetric(x), 1, B=positive(x))[0],
    ],
)
def test_gradients_of_both_orders(function):
    x = gf.tensor(X, requires_grad=True)
    assert gradcheck(function, [x], fast_mode=True)
    assert gradgradcheck(function, [x], fast_mode=True)


def test_equal_singular_values_have_a_gradient():
    x = gf.eye(3, dtype=gf.float64).requires_grad_()
    gf.linalg.svd(x).S.sum().backward()
    close(x.grad.numpy(), np.eye(3))
    x.grad = None
    gf.linalg.eigh(x).eigenvalues.sum().backward()
    close(x.grad.numpy(), np.eye(3))
    x.grad = None
    gf.linalg.matrix_norm(x, "nuc").backward()
    close(x.grad.numpy(), np.eye(3))


def test_what_cannot_be_differentiated():
    x = gf.tensor(r(4, 2), requires_grad=True)
    with pytest.raises(RuntimeError, match=r"^linalg.qr: wanted mode 'reduced'"):
        gf.linalg.qr(x, "complete").R.sum().backward()
    with pytest.raises(RuntimeError, match=r"^linalg.qr: wanted mode"):
        gf.linalg.qr(x, "r").R.sum().backward()


# --- errors -----------------------------------------------------------------------------------------------------


def t(*shape):
    return gf.tensor(r(*shape))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gf.linalg.cholesky(t(2, 3)), "linalg.cholesky: wanted square matrices"),
        (lambda: gf.linalg.cholesky(t(3)), "linalg.cholesky: wanted square matrices"),
        (lambda: gf.linalg.svd(t(3)), "linalg.svd: wanted 2 dimensions"),
        (lambda: gf.linalg.svd(t(3, 3), driver="gesvd"), "linalg.svd: wanted driver=None"),
        (lambda: gf.linalg.qr(t(3, 3), "full"), "linalg.qr: wanted mode"),
        (lambda: gf.linalg.eigh(t(3, 3), "X"), "linalg.eigh: wanted UPLO"),
        (lambda: gf.linalg.eig(t(3, 2)), "linalg.eig: wanted square matrices"),
        (lambda: gf.linalg.eig(gf.full((2, 2), float("nan"))), "linalg.eig: wanted finite"),
        (lambda: gf.linalg.svd(gf.ones(3, 3, dtype=gf.int64)), "linalg.svd: wanted float32"),
        (lambda: gf.linalg.inv(gf.ones(3, 3, dtype=gf.float16)), "linalg.inv: wanted float32"),
        (lambda: gf.linalg.lu(t(3, 3), pivot=False), "linalg.lu: wanted pivot=True"),
        (lambda: gf.linalg.householder_product(t(2, 3), t(2)), "linalg.householder_product: wanted"),
        (lambda: gf.ormqr(t(3, 2), t(2), t(2, 2)), "ormqr: wanted"),
        (lambda: gf.lu_unpack(t(3, 3), gf.tensor([1, 2, 3])), "lu_unpack: wanted pivots of int32"),
        (lambda: gf.symeig(t(3, 3)), "symeig: wanted linalg.eigh"),
    ],
)
def test_errors(call, message):
    with pytest.raises(RuntimeError, match=f"^{message}"):
        call()


def test_matrices_that_are_not_positive_definite():
    a = np.stack([np.eye(3), np.diag([1.0, -1, 1]), np.diag([1.0, 1, 0]), np.diag([0.0, 1, 1])])
    with pytest.raises(gf.linalg.LinAlgError, match=r"^linalg.cholesky: \(batch element 1\) .* of order 2 is not"):
        gf.linalg.cholesky(gf.tensor(a))
    assert gf.linalg.cholesky_ex(gf.tensor(a)).info.tolist() == [0, 2, 3, 1]
    with pytest.raises(gf.linalg.LinAlgError, match=r"^linalg.cholesky_ex: "):
        gf.linalg.cholesky_ex(gf.tensor(a[1]), check_errors=True)
    with pytest.raises(gf.linalg.LinAlgError, match=r"^linalg.lu_factor: .* place 2"):
        gf.linalg.lu_factor(gf.tensor([[1.0, 2], [2, 4]]))
    assert gf.linalg.lu_factor_ex(gf.zeros(2, 2)).info.item() == 1
    with pytest.raises(gf.linalg.LinAlgError, match=r"^linalg.ldl_factor: "):
        gf.linalg.ldl_factor(gf.zeros(2, 2))


def test_elimination_pivots_like_the_textbook():
    # Golub & Van Loan, section 3.4.3: rows 1 and 3 change places, then 2 and 3.
    a = np.array([[3.0, 17, 10], [2, 4, -2], [6, 18, -12]])
    y, pivots, info = elimination.lu(a)
    assert pivots.tolist() == [3, 3, 3]
    assert info == 0
    close(y, [[6, 18, -12], [0.5, 8, 16], [1 / 3, -0.25, 6]])
    assert elimination.order(pivots, 3).tolist() == [2, 0, 1]


def test_names_of_the_parts():
    x = t(3, 3)
    assert gf.linalg.svd(x)._fields == ("U", "S", "Vh")
    assert gf.svd(x)._fields == ("U", "S", "V")
    assert gf.linalg.qr(x)._fields == gf.qr(x)._fields == ("Q", "R")
    assert gf.linalg.eigh(x)._fields == gf.linalg.eig(x)._fields == ("eigenvalues", "eigenvectors")
    assert gf.linalg.slogdet(x)._fields == ("sign", "logabsdet")
    assert gf.linalg.lu(x)._fields == ("P", "L", "U")
    assert gf.linalg.lu_factor_ex(x)._fields == ("LU", "pivots", "info")
    assert gf.linalg.lstsq(x, x)._fields == ("solution", "residuals", "rank", "singular_values")
    assert gf.geqrf(x)._fields == ("a", "tau")
    assert gf.triangular_solve(x, x)._fields == ("solution", "cloned_coefficient")


def test_low_rank():
    u, s, v = gf.svd_lowrank(gf.tensor(r(6, 2) @ r(2, 5)), q=2)
    a = r(8, 3) @ r(3, 5)
    u, s, v = gf.svd_lowrank(gf.tensor(a), q=3)
    close((u @ gf.diag(s) @ v.mT).numpy(), a)
    u, s, v = gf.svd_lowrank(gf.tensor(a.T), q=4)
    close((u @ gf.diag(s) @ v.mT).numpy(), a.T)
    u, s, v = gf.pca_lowrank(gf.tensor(a), q=3)
    close((u @ gf.diag(s) @ v.mT).numpy(), a - a.mean(0))
    with pytest.raises(ValueError, match=r"^svd_lowrank: wanted q"):
        gf.svd_lowrank(gf.tensor(a), q=6)
    w = gf.lobpcg(gf.tensor(spd(6, 6)), 2, largest=False)[0]
    assert w.tolist() == sorted(w.tolist())


# --- against PyTorch, where vectors are known up to their phase ---------------------------------------------------


def joined(left, values, right=None):
    """A function of a decomposition that does not depend on the phase of its vectors."""
    return (left * values.sin()) @ (left.mH if right is None else right)


def sizes(values, vectors):
    """Another one."""
    return (vectors.abs() * values.abs()).sum()


FUNCTIONS = {
    "svd": lambda m, x: [joined(*m.linalg.svd(x, full_matrices=False))],
    "svd full": lambda m, x: [m.linalg.svd(x).S],
    "eigh": lambda m, x: [joined(*m.linalg.eigh(x @ x.mH)[::-1])],
    "eig": lambda m, x: [sizes(*m.linalg.eig(x @ x.mT))],
    "qr": lambda m, x: [*m.linalg.qr(x)],
    "cholesky": lambda m, x: [m.linalg.cholesky(x @ x.mH)],
    "slogdet": lambda m, x: [*m.linalg.slogdet(x @ x.mT)],
    "det": lambda m, x: [m.linalg.det(x @ x.mT)],
    "pinv": lambda m, x: [m.linalg.pinv(x)],
    "lstsq": lambda m, x: [*m.linalg.lstsq(x, x[:, :1] * 2, driver="gels")[:2]],
    "matrix_exp": lambda m, x: [m.linalg.matrix_exp(x @ x.mT * 0.1)],
    "nuc": lambda m, x: [m.linalg.matrix_norm(x, "nuc"), m.linalg.matrix_norm(x, 2), m.linalg.cond(x)],
    "lu": lambda m, x: [*m.linalg.lu(x)[1:]],
}  # fmt: skip


@pytest.mark.reference
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("size", [(3, 4), (3, 3), (4, 3)])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_of_both_orders_are_pytorchs(name, size, dtype):
    torch = pytest.importorskip("torch")
    if name in ("eigh", "eig", "cholesky", "slogdet", "det", "matrix_exp") and size[0] > size[1]:
        size = size[::-1]
    if name == "matrix_exp":
        size = (2, 2)
    x = r(*size, dtype=dtype)
    found = []
    for m, a in ((torch, torch.tensor(x, requires_grad=True)), (gf, gf.tensor(x, requires_grad=True))):
        rng = np.random.default_rng(3)

        def weigh(y, rng=rng):
            shape = tuple(y.shape)
            w = rng.standard_normal(shape) + (1j * rng.standard_normal(shape) if y.is_complex() else 0)
            return np.asarray(w)

        def number(y, m=m, weigh=weigh):
            return (y + m.tensor(weigh(y), dtype=y.dtype)).abs().square().sum()

        loss = sum(map(number, FUNCTIONS[name](m, a)))
        (g,) = m.autograd.grad(loss, a, create_graph=True)
        (h,) = m.autograd.grad(number(g), a)
        found.append([v.detach().numpy() for v in (loss, g, h)])
    for a, b in zip(*found[::-1], strict=True):
        assert_close(a, b, scale=100)


# --- on the card ----------------------------------------------------------------------------------------------------

ON_THE_CARD = {
    "cholesky": lambda x: gf.linalg.cholesky(x, upper=True),
    "qr": gf.linalg.qr,
    "svd": lambda x: gf.linalg.svd(x, full_matrices=False).S,
    "eigh": lambda x: gf.linalg.eigh(x).eigenvalues,
    "eig": lambda x: gf.linalg.eig(x).eigenvalues.abs(),
    "lu": gf.linalg.lu,
    "lu_solve": lambda x: gf.linalg.lu_solve(*gf.linalg.lu_factor(x), x, left=False, adjoint=True),
    "ldl": lambda x: gf.linalg.ldl_solve(*(t.detach() for t in gf.linalg.ldl_factor(x)), x),
    "solve": lambda x: gf.linalg.solve(x, x[0]),
    "solve_triangular": lambda x: gf.linalg.solve_triangular(x[0], x, upper=False, unitriangular=True),
    "lstsq": lambda x: gf.linalg.lstsq(x, x[..., :1]).solution,
    "cholesky_solve": lambda x: gf.cholesky_solve(x, gf.linalg.cholesky(x)),
    "householder_product": lambda x: gf.linalg.householder_product(x, x[..., 0] * 0.1),
    "det": gf.linalg.det,
    "logdet": gf.logdet,
    "matrix_exp": lambda x: gf.matrix_exp(x * 0.1),
    "norms": lambda x: tuple(gf.linalg.matrix_norm(x, p) for p in ("fro", "nuc", 1, -2)),
    "cond": lambda x: gf.linalg.cond(x, 1),
    "matrix_power": lambda x: gf.linalg.matrix_power(x, -2),
    "cdist": lambda x: gf.cdist(x, x[0], 1.0),
    "pdist": lambda x: gf.pdist(x[0]),
}


@pytest.mark.cuda
@pytest.mark.parametrize("name", ON_THE_CARD)
def test_the_same_on_the_card(name, card):
    a, found = spd(2, 3, 3), []
    for device in ("cpu", "cuda"):
        x = gf.tensor(a).to(device).requires_grad_()
        y = ON_THE_CARD[name](x)
        y = y if isinstance(y, tuple) else (y,)
        assert all(t.device.type == device for t in y)
        sum((t * t).sum() for t in y if t.requires_grad).backward()
        found.append([t.detach().cpu().numpy() for t in (*y, x.grad)])
    for cpu, cuda in zip(*found, strict=True):
        assert_close(cuda, cpu, scale=100)


@pytest.mark.cuda
def test_failures_on_the_card(card):
    a = gf.tensor(np.stack([np.eye(2), [[1.0, 2], [2, 4]]])).to("cuda")
    with pytest.raises(gf.linalg.LinAlgError, match=r"^linalg.inv: \(batch element 1\)"):
        gf.linalg.inv(a)
    assert gf.linalg.cholesky_ex(-a).info.cpu().tolist() == [1, 1]
