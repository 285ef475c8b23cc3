"""Products of matrices: every broadcasting of matmul against loops, contractions, the named products, their errors."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from conftest import as_dtype, cases_of
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerance import assert_close

import gradflow as gf
from gradflow.autograd import grad, gradcheck, gradgradcheck
from gradflow.ops import einsum, linalg, products

R = np.random.default_rng(0)


def r(*shape):
    return R.standard_normal(shape)


def t(*shape):
    return gf.tensor(r(*shape), requires_grad=True)


def loops(x, w):
    """matmul from its definition, one number at a time."""
    x2, w2 = x[None] if x.ndim == 1 else x, w[:, None] if w.ndim == 1 else w
    batch = np.broadcast_shapes(x2.shape[:-2], w2.shape[:-2])
    x2, w2 = np.broadcast_to(x2, batch + x2.shape[-2:]), np.broadcast_to(w2, batch + w2.shape[-2:])
    y = np.zeros((*batch, x2.shape[-2], w2.shape[-1]))
    for at in np.ndindex(*y.shape):
        y[at] = sum(x2[(*at[:-1], k)] * w2[(*at[:-2], k, at[-1])] for k in range(x2.shape[-1]))
    return y.reshape(batch + (() if x.ndim == 1 else (x.shape[-2],)) + (() if w.ndim == 1 else (w.shape[-1],)))


SHAPES = [
    ((3,), (3,)), ((3,), (3, 2)), ((2, 3), (3,)), ((2, 3), (3, 4)), ((5, 2, 3), (3,)), ((5, 2, 3), (3, 4)),
    ((3,), (5, 3, 2)), ((2, 3), (5, 3, 4)), ((5, 2, 3), (5, 3, 4)), ((4, 1, 2, 3), (5, 3, 2)), ((1, 2, 3), (4, 3, 1)),
    ((0, 3), (3, 2)), ((2, 0), (0, 2)), ((0, 2, 3), (3, 2)), ((1, 1), (1, 1)),
]  # fmt: skip


@pytest.mark.parametrize(("a", "b"), SHAPES)
def test_matmul_is_the_sum_of_products(a, b):
    x, w = r(*a), r(*b)
    assert_close((gf.tensor(x) @ gf.tensor(w)).numpy(), loops(x, w))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("function", ["matmul", "linear", "linear_weight", "contract"])
def test_half_types_add_in_float32(function, dtype):
    kind = gf.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    x, w = (R.uniform(0.5, 1.5, (4096, 2)).astype(kind) for _ in range(2))
    exact = x.astype(np.float64).T @ w.astype(np.float64)  # a sum kept in half precision would stop growing at 2048
    y = {
        "matmul": lambda: linalg.matmul(x.T, w),
        "linear": lambda: linalg.linear(x.T, w.T),
        "linear_weight": lambda: linalg.linear_weight(x, w),
        "contract": lambda: einsum.einsum("ki,kj->ij", x, w),
    }[function]()
    assert y.dtype == kind
    assert_close(y, exact.astype(kind))


def test_third_derivative_of_a_product_of_three():
    x, w, v = t(2, 3), t(3, 4), t(4, 2)
    p, q = r(2, 3), r(3, 4)
    (gx,) = grad(((x @ w) @ v).sum(), x, create_graph=True)
    (gw,) = grad((gx * p).sum(), w, create_graph=True)
    (gv,) = grad((gw * q).sum(), v)
    # y = sum x_ij w_jk v_kl, so what is left of its third derivative is sum_ij p_ij q_jk for every l
    assert_close(gv.numpy(), np.stack([p.sum(0) @ q] * 2, 1))


def test_fourth_derivatives():
    x, a = t(3), t(3, 3)

    def second(x, a):
        with gf.enable_grad():
            y = linalg.matmul(linalg.matmul(x, a), x) * a.sum()
            (g,) = grad(y, x, create_graph=True)
            return grad((g * g).sum(), a, create_graph=True)[0]

    assert gradcheck(second, (x, a), fast_mode=True)
    assert gradgradcheck(second, (x, a), fast_mode=True)


# --- named products ---------------------------------------------------------------------------------------


def test_products_of_given_dimensions():
    a, b, u, v = r(2, 3), r(3, 4), r(3), r(3)
    assert_close(linalg.mm(a, b), loops(a, b))
    assert_close(linalg.mv(a, u), loops(a, u))
    assert_close(linalg.dot(u, v), sum(u * v))
    assert_close(linalg.vdot(u, v), sum(u * v))
    assert_close(linalg.outer(u, r(2) * 0 + 2), np.stack([2 * u, 2 * u], 1))
    c, d = r(5, 2, 3), r(5, 3, 2)
    assert_close(linalg.bmm(c, d), np.stack([loops(x, w) for x, w in zip(c, d, strict=True)]))
    assert_close(linalg.inner(c, a), np.array([[[sum(x * w) for w in a] for x in rows] for rows in c]))
    assert_close(linalg.inner(c, np.array(2.0)), 2 * c)


def test_added_products():
    m, a, b, v, s, z = r(2, 4), r(2, 3), r(3, 4), r(3), r(5, 2, 3), r(5, 3, 4)
    assert_close(linalg.addmm(m, a, b, beta=0.5, alpha=2), 0.5 * m + 2 * loops(a, b))
    assert_close(linalg.addmv(m[:, 0], a, v, alpha=-1), m[:, 0] - loops(a, v))
    assert_close(linalg.baddbmm(m, s, z, beta=2), 2 * m + loops(s, z))
    assert_close(linalg.addbmm(m, s, z), m + loops(s, z).sum(0))
    assert_close(linalg.addr(m, r(2) * 0 + 3, b[0], beta=0), np.stack([3 * b[0]] * 2))
    nan = np.full((2, 4), np.nan)  # with beta 0 it is not read
    assert_close(linalg.addmm(nan, a, b, beta=0), loops(a, b))


def test_integers_stay_integers():
    x, w = gf.tensor([[1, 2], [3, 4]]), gf.tensor([[2], [5]])
    assert (x @ w).tolist() == [[12], [26]] and (x @ w).dtype == gf.int64
    assert einsum.einsum("ij,jk->ik", x, w).tolist() == [[12], [26]]


FUNCTIONS = {
    "inner": (linalg.inner, [(2, 3), (4, 3)]),
    "outer": (linalg.outer, [(2,), (3,)]),
    "bmm": (linalg.bmm, [(2, 2, 3), (2, 3, 2)]),
    "addbmm": (lambda m, a, b: linalg.addbmm(m, a, b, beta=0.5, alpha=2), [(2, 2), (3, 2, 2), (3, 2, 2)]),
    "addr": (lambda m, a, b: linalg.addr(m, a, b, beta=0.5, alpha=2), [(2, 3), (2,), (3,)]),
    "kron": (products.kron, [(2, 3), (2, 2, 1)]),
    "trace": (products.trace, [(3, 2)]),
    "matrix_power": (lambda x: products.matrix_power(x, 5), [(2, 2, 2)]),
    "multi_dot": (lambda *xs: products.multi_dot(xs), [(3,), (3, 2), (2, 4), (4,)]),
    "tensordot": (lambda a, b: einsum.tensordot(a, b, ([0, 2], [1, 0])), [(2, 3, 4), (4, 2, 2)]),
    "einsum": (lambda a, b, c: einsum.einsum("b...i,...ij,j->b...", a, b, c), [(2, 3, 2), (1, 2, 2), (2,)]),
    "einsum diagonal": (lambda a, b: einsum.einsum("iij,jkk->ij", a, b), [(2, 2, 3), (3, 2, 2)]),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients(name):
    function, shapes = FUNCTIONS[name]
    inputs = [t(*s) for s in shapes]
    assert gradcheck(function, inputs)
    assert gradgradcheck(function, inputs, fast_mode=True)


def test_products_of_several():
    a, b, c = r(2, 3), r(3, 4), r(4, 2)
    whole = loops(loops(a, b), c)
    assert_close(products.multi_dot([a, b, c]), whole)
    assert_close(products.chain_matmul(a, b, c), whole)
    assert_close(products.chain_matmul(a), a)
    assert_close(products.multi_dot([a[0], b, c[:, 0]]), whole[0, 0])
    x = r(2, 3, 3)
    assert_close(products.matrix_power(x, 3), loops(loops(x, x), x))
    assert_close(products.matrix_power(x, 1), x)
    assert_close(products.matrix_power(x, 0), np.stack([np.eye(3)] * 2))


def test_multi_dot_takes_the_cheapest_order():
    cut = products._cheapest([30, 35, 15, 5, 10, 20, 25])  # Cormen et al., Introduction to Algorithms, figure 15.5
    assert (cut[0, 5], cut[0, 2], cut[3, 5]) == (2, 0, 4)


def test_other_products():
    a, b = r(2, 3), r(4, 1)
    k = products.kron(a, b)
    for i, j, p, q in itertools.product(range(2), range(3), range(4), range(1)):
        assert k[i * 4 + p, j + q] == a[i, j] * b[p, q]
    assert_close(products.trace(r(2, 3) * 0 + 1), np.array(2.0))
    assert products.cross(np.array([1.0, 0, 0]), np.array([0.0, 1, 0])).tolist() == [0, 0, 1]
    assert products.cross(np.eye(3)[:2].T, np.eye(3)[1:].T).tolist() == [[0, 1], [0, 0], [1, 0]]  # columns, by default


# --- contractions -------------------------------------------------------------------------------------------


@st.composite
def contractions(draw):
    sizes = {c: draw(st.integers(0, 3)) for c in "abcd"}
    terms = draw(st.lists(st.text("abcd", max_size=3), min_size=1, max_size=3))
    found = sorted(set("".join(terms)))
    output = draw(st.permutations(draw(st.lists(st.sampled_from(found), unique=True)) if found else []))
    return sizes, terms, "".join(output)


@given(contractions())
@settings(max_examples=150, deadline=None)
def test_einsum_is_the_sum_over_all_indices(sample):
    sizes, terms, output = sample
    xs = [r(*(sizes[c] for c in term)) for term in terms]
    y = np.zeros([sizes[c] for c in output])
    letters = sorted(set("".join(terms)))
    for values in itertools.product(*(range(sizes[c]) for c in letters)):
        at = dict(zip(letters, values, strict=True))
        product = 1.0
        for term, x in zip(terms, xs, strict=True):
            product *= x[tuple(at[c] for c in term)]
        y[tuple(at[c] for c in output)] += product
    assert_close(einsum.einsum(f"{','.join(terms)}->{output}", *xs), y)


def test_einsum_never_gives_its_input_back():
    x = t(2, 3)
    for equation in ("ij", "ij->ji", "...->..."):
        assert not np.shares_memory(einsum.einsum(equation, x).detach().numpy(), x.detach().numpy())


def test_einsum_orders_by_size():
    # (a b c)(d) would be a 200 x 200 outer product first from the left
    sizes = (("a", 1), ("b", 200), ("c", 200))
    path = einsum._order((("b",), ("c",), ("b", "c")), (), sizes)
    assert path[0] != (0, 1)


# --- the card -------------------------------------------------------------------------------------------------


PRODUCTS = [linalg.matmul, linalg.linear, linalg.linear_weight, linalg.addmatmul, einsum.contract]


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("entry", PRODUCTS)
def test_products_on_the_card(entry, dtype, card):
    to = gf.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    wide = "float32" if to.itemsize == 2 else dtype
    for case in cases_of(entry.op):
        args = as_dtype(list(case.args), to)
        y = entry(*(card.asarray(a) if isinstance(a, np.ndarray) else a for a in args), **case.kwargs)
        assert isinstance(y, card.ndarray)
        z = entry(*(a.astype(wide) if isinstance(a, np.ndarray) and a.dtype == to else a for a in args), **case.kwargs)
        assert_close(card.asnumpy(y), np.asarray(z).astype(y.dtype), what=str(case))


# --- errors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: linalg.matmul(r(2, 3), r(4, 5)), r"matmul: wanted inner sizes to agree, saw \(2, 3\) and \(4, 5\)"),
        (lambda: linalg.matmul(t(2, 3), t(4, 5)), r"matmul: wanted inner sizes to agree, saw \(2, 3\) and \(4, 5\)"),
        (lambda: linalg.matmul(t(3), t(4)), "matmul: wanted inner sizes"),
        (lambda: linalg.matmul(t(2, 2, 3), t(3, 3, 2)), "matmul: wanted leading sizes that broadcast"),
        (lambda: linalg.matmul(t(), t(3)), "matmul: wanted at least one dimension"),
        (lambda: t(2, 3) @ t(3, 2).float(), "matmul: wanted one dtype, saw float64 and float32"),
        (lambda: linalg.matmul(gf.tensor([[True]]), gf.tensor([[True]])), "matmul: wanted numbers, saw bool"),
        (lambda: linalg.linear(t(2, 3), t(4, 5)), r"linear: wanted x \(..., i\) and w \(o, i\), saw"),
        (lambda: linalg.linear(t(2, 3), t(4, 3), t(5)), "linear: wanted b of shape"),
        (lambda: linalg.linear(t(2, 3), t(4, 3).float()), "linear: wanted one dtype"),
        (lambda: linalg.linear(t(2, 3), t(4, 3), t(4).float()), "linear: wanted one dtype"),
        (lambda: linalg.mm(t(2), t(2)), "mm: wanted 2-d and 2-d"),
        (lambda: linalg.mm(t(2, 3), t(2, 3)), "mm: wanted inner sizes"),
        (lambda: linalg.bmm(t(2, 2, 3), t(3, 3, 2)), "bmm: wanted stacks of one size"),
        (lambda: linalg.mv(t(2, 3), t(2)), "mv: wanted inner sizes"),
        (lambda: linalg.dot(t(2), t(3)), "dot: wanted inner sizes"),
        (lambda: linalg.outer(t(2, 2), t(2)), "outer: wanted two vectors"),
        (lambda: linalg.inner(t(2), t(3)), "inner: wanted last sizes"),
        (lambda: linalg.addmm(t(3, 3), t(2, 3), t(3, 2)), "addmatmul: wanted c to broadcast"),
        (lambda: linalg.addmm(t(2, 2).float(), t(2, 3), t(3, 2)), "addmatmul: wanted one dtype"),
        (lambda: linalg.mT(t(3)), "mT: wanted at least two dimensions"),
        (lambda: products.multi_dot([t(2, 2)]), "multi_dot: wanted at least two"),
        (lambda: products.multi_dot([t(2, 2), t(3, 2)]), "multi_dot: wanted inner sizes"),
        (lambda: products.matrix_power(t(2, 3), 2), "matrix_power: wanted square matrices"),
        (lambda: products.trace(t(2)), "trace: wanted a matrix"),
        (lambda: products.cross(t(4), t(4), 0), "cross: wanted size 3"),
        (lambda: einsum.einsum("ij,jk->ik", t(2, 3)), "einsum: wanted 2 operands"),
        (lambda: einsum.einsum("ij->ik", t(2, 3)), "einsum: wanted 'k' once in the result"),
        (lambda: einsum.einsum("ij->ii", t(2, 3)), "einsum: wanted 'i' once in the result"),
        (lambda: einsum.einsum("ij,jk", t(2, 3), t(2, 3)), "einsum: wanted sizes of 'j' that broadcast, saw 3 and 2"),
        (lambda: einsum.einsum("ii", t(1, 3)), "einsum: wanted one size of 'i' in an operand"),
        (lambda: einsum.einsum("i", t(2, 3)), "einsum: wanted 1 dimensions"),
        (lambda: einsum.einsum("i$", t(2, 3)), "einsum: wanted letters"),
        (lambda: einsum.einsum("i,i", t(2), t(2).float()), "einsum: wanted one dtype"),
        (lambda: einsum.tensordot(t(2, 3), t(2, 3), 1), "tensordot: wanted sizes to agree"),
        (lambda: einsum.tensordot(t(2, 3), t(2, 3), ([0], [0, 1])), "tensordot: wanted as many dimensions"),
    ],
)
def test_errors(call, message):
    with pytest.raises(RuntimeError, match=f"^{message}"):
        call()


# --- PyTorch ---------------------------------------------------------------------------------------------------

EQUATIONS = [
    ("ij,jk", (2, 3), (3, 4)), ("ba,cb", (2, 3), (4, 2)), ("ij,jk->ki", (2, 3), (3, 4)),
    ("i,j,k->kij", (2,), (3,), (4,)),
    ("bij,bjk->bik", (2, 2, 3), (2, 3, 4)), ("...ij,...jk->...ik", (5, 1, 2, 3), (2, 3, 4)), ("ij->", (2, 3)),
    ("i...,i...->...", (2, 3), (2, 1)), ("ii->i", (3, 3)), ("ii", (3, 3)), ("iji->j", (2, 3, 2)), ("...", (2, 3)),
    (" i j , j -> i ", (2, 3), (3,)), ("Aa,aA->A", (2, 3), (3, 2)), ("...->...", (2, 3)), ("i...->i", (2, 3)),
    ("a...b->b...a", (2, 3, 4)), (",i->i", (), (3,)), ("ij,ij->ij", (1, 3), (2, 1)),
    ("bn,anm,bm->ba", (2, 3), (4, 3, 2), (2, 2)), ("ij,jk,kl,lm->im", (2, 3), (3, 4), (4, 2), (2, 3)),
    ("bhqd,bhkd->bhqk", (2, 2, 3, 4), (2, 2, 5, 4)),
]  # fmt: skip


@pytest.mark.reference
@pytest.mark.parametrize("sample", EQUATIONS, ids=lambda s: s[0])
def test_einsum_as_pytorch(sample):
    torch = pytest.importorskip("torch")
    equation, *shapes = sample
    xs = [r(*s) for s in shapes]
    ours, theirs = [gf.tensor(x, requires_grad=True) for x in xs], [torch.tensor(x, requires_grad=True) for x in xs]
    y, z = einsum.einsum(equation, *ours), torch.einsum(equation, *theirs)
    assert_close(y.detach().numpy(), z.detach().numpy())
    g = r(*z.shape)
    y.backward(gf.tensor(g))
    z.backward(torch.tensor(g))
    for a, b in zip(ours, theirs, strict=True):
        assert_close(a.grad.numpy(), b.grad.numpy())


@pytest.mark.reference
def test_other_forms_as_pytorch():
    torch = pytest.importorskip("torch")
    a, b = r(2, 3), r(3, 4)
    p, q = torch.tensor(a), torch.tensor(b)
    lists = torch.einsum(p, [0, 30], q, [30, 2], [2, 0])
    assert_close(einsum.einsum(a, [0, 30], b, [30, 2], [2, 0]), lists.numpy())
    assert_close(einsum.einsum(a, [..., 1], b, [1, 2]), torch.einsum(p, [..., 1], q, [1, 2]).numpy())
    assert_close(einsum.einsum("ij,jk", [a, b]), a @ b)
    x, w = r(2, 3, 4), r(4, 3, 2)
    for dims in (1, 0, ([1], [1]), ([-1, 1], [0, -2]), ([0, 1, 2], [2, 1, 0])):
        z = torch.tensordot(torch.tensor(x), torch.tensor(w), dims)
        assert_close(einsum.tensordot(x, w, dims), z.numpy())
    for p, q in (((2, 3), (4,)), ((2,), (3,)), ((), (2, 2)), ((2, 1, 3), (2, 2))):
        u, v = r(*p), r(*q)
        assert_close(products.kron(u, v), torch.kron(torch.tensor(u), torch.tensor(v)).numpy())
