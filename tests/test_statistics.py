"""Statistics, grids, calculus and runs: against plain loops and closed forms, PyTorch where installed, and on the card."""

from __future__ import annotations

import math
from itertools import combinations, pairwise, product

import numpy as np
import pytest
from tolerance import assert_close

import gradflow as gf
from gradflow import backend

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((4, 5)), RNG.standard_normal((3, 4, 2))
W = RNG.random(5)
NAN = np.where(RNG.random((4, 5)) < 0.3, np.nan, X)
COUNTS = RNG.integers(0, 4, (3, 7))

# name, arguments, keywords: what the readers below compare with PyTorch and between the CPU and the card.
CALLS = [
    ("quantile", (X, 0.3), {}),
    ("quantile", (X, np.array([0.1, 0.5, 1.0]), 1), {}),
    ("quantile", (X, 0.4, 0, True), {"interpolation": "midpoint"}),
    ("quantile", (X, 0.4, -1), {"interpolation": "lower"}),
    ("quantile", (X, 0.4, 0), {"interpolation": "higher"}),
    ("quantile", (X, 0.4, 0), {"interpolation": "nearest"}),
    ("nanquantile", (NAN, np.array([0.2, 0.7]), 0), {}),
    ("histc", (X, 6), {}),
    ("histc", (X, 4, -1, 1), {}),
    ("histogram", (X, 4), {}),
    ("histogram", (X, np.array([-1.0, 0, 0.5, 2])), {"weight": np.abs(X), "density": True}),
    ("histogramdd", (X[:, :2], [2, 3]), {}),
    ("bincount", (COUNTS[0],), {"minlength": 6}),
    ("bincount", (COUNTS[0], np.arange(7.0)), {}),
    ("mode", (COUNTS,), {}),
    ("mode", (COUNTS, 0, True), {}),
    ("cov", (X,), {}),
    ("cov", (X,), {"correction": 0, "fweights": np.array([1, 2, 0, 1, 3]), "aweights": W}),
    ("corrcoef", (X,), {}),
    ("trapezoid", (X,), {}),
    ("trapezoid", (X, np.arange(4.0) ** 2), {"dim": 0}),
    ("cumulative_trapezoid", (X,), {"dx": 0.5}),
    ("gradient", (X,), {"spacing": 0.5, "edge_order": 2}),
    ("gradient", (X,), {"spacing": [np.array([0.0, 1, 3, 4]), np.array([0.0, 2, 3, 5, 6])], "dim": (0, 1)}),
    ("atleast_3d", (X,), {}),
    ("block_diag", (X, X[0], X[:2, :2]), {}),
    ("cartesian_prod", (X[0], X[1, :2]), {}),
    ("combinations", (X[0], 3), {}),
    ("combinations", (X[0], 2, True), {}),
    ("column_stack", ([X[:, 0], X],), {}),
    ("diagflat", (X[:2], 1), {}),
    ("unravel_index", (COUNTS, (2, 2)), {}),
    ("hsplit", (X, (1, 3)), {}),
    ("vsplit", (X, 2), {}),
    ("unsafe_split", (X, 2, 1), {}),
    ("segment_reduce", (X, "max"), {"lengths": np.array([1, 0, 3])}),
    ("segment_reduce", (X, "mean"), {"offsets": np.array([0, 1, 4]), "initial": 2.0}),
    ("segment_reduce", (X, "prod"), {"lengths": np.array([[1, 4], [2, 3], [5, 0], [0, 5]]), "axis": 1}),
    ("index_reduce", (X, 0, np.array([0, 2, 0]), X[:3] * 2, "amin"), {}),
    ("index_reduce", (X, 1, np.array([0, 2, 0]), X[:, :3], "prod"), {"include_self": False}),
    ("index_reduce", (X, 1, np.array([0, 2, 0]), X[:, :3], "mean"), {}),
    ("put", (X, np.array([1, 7, -1]), X[0, :3]), {}),
    ("put", (X, np.array([1, 7, 1]), X[0, :3], True), {}),
    ("nonzero_static", (COUNTS,), {"size": 25, "fill_value": -2}),
    ("as_strided", (X, (2, 3), (1, 4), 2), {}),
    ("as_strided", (X, (3, 3), (2, 2)), {}),
    ("select_scatter", (X, X[1], 0, 2), {}),
    ("slice_scatter", (X, X[:2], 0, 0, 4, 2), {}),
    ("diagonal_scatter", (X, X[0, :4], 1), {}),
    ("msort", (X,), {}),
    ("fill", (X, 2.5), {}),
    ("constant_pad_nd", (X, (1, 0, 0, 2), 0.5), {}),
    ("narrow_copy", (X, 1, 1, 2), {}),
    ("split_with_sizes_copy", (X, [1, 3], 0), {}),
]
IDS = [f"{name}-{i}" for i, (name, _, _) in enumerate(CALLS)]


def moved(v, make):
    if isinstance(v, np.ndarray):
        return make(v)
    return [moved(u, make) for u in v] if isinstance(v, list) else v


def flat(y):
    return [t for v in y for t in flat(v)] if isinstance(y, (tuple, list)) else [y]


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "args", "kwargs"), CALLS, ids=IDS)
def test_as_pytorch_has_it_with_its_gradients(name, args, kwargs):
    torch = pytest.importorskip("torch")

    def run(lib):
        leaves = []

        def make(v):
            t = lib.tensor(v)
            if v.dtype.kind == "f" and name not in ("histogram", "histogramdd", "histc", "bincount") and len(leaves) < 1:
                leaves.append(t.requires_grad_())
            return t

        y = flat(getattr(lib, name)(*moved(list(args), make), **{k: moved(v, make) for k, v in kwargs.items()}))
        grown = [t for t in y if t.requires_grad]
        out = [(t.detach().numpy(), t.dtype) for t in y]
        if grown and leaves:
            (g,) = lib.autograd.grad(grown, leaves, [t.detach() * 0 + 1.5 for t in grown], create_graph=True)
            out.append((g.detach().numpy(), g.dtype))
            if g.requires_grad and name != "segment_reduce":  # PyTorch has no second gradient of it
                (h,) = lib.autograd.grad([g], leaves, [g.detach() * 0 + 1], allow_unused=True)
                out.append((np.zeros(leaves[0].shape) if h is None else h.numpy(), leaves[0].dtype))
        return out

    for ours, theirs in zip(run(gf), run(torch), strict=False):
        assert str(theirs[1]).removeprefix("torch.") == str(ours[1])
        assert_close(ours[0], theirs[0], scale=10)


@pytest.mark.cuda
@pytest.mark.parametrize(("name", "args", "kwargs"), CALLS, ids=IDS)
def test_alike_on_the_card(card, name, args, kwargs):
    def run(device):
        def make(v):
            return gf.tensor(v, device=device)

        return flat(getattr(gf, name)(*moved(list(args), make), **{k: moved(v, make) for k, v in kwargs.items()}))

    for there, here in zip(run("cuda"), run("cpu"), strict=True):
        assert there.is_cuda
        assert_close(backend.asnumpy(there.array), here.array)


# --- plain loops and closed forms ------------------------------------------------------------------------------


def test_quantiles_between_elements():
    x = gf.tensor([4.0, 1.0, 3.0, 2.0])
    assert gf.quantile(x, 0.5).item() == 2.5
    assert gf.quantile(x, gf.tensor([0.0, 1.0])).tolist() == [1.0, 4.0]
    assert gf.quantile(x, 0.4, interpolation="lower").item() == 2.0
    assert math.isnan(gf.quantile(gf.tensor([1.0, math.nan]), 0.5).item())
    assert gf.nanquantile(gf.tensor([1.0, math.nan, 3.0]), 0.5).item() == 2.0
    assert math.isnan(gf.nanquantile(gf.tensor([math.nan]), 0.5).item())


def test_a_mode_is_the_most_frequent():
    for row in COUNTS:
        best = min(set(row.tolist()), key=lambda v: (-row.tolist().count(v), v))
        value, place = gf.tensor(row).mode()
        assert value.item() == best
        assert place.item() == max(i for i, v in enumerate(row) if v == best)


def test_histograms_count():
    edges = np.linspace(X.min(), X.max(), 8)
    inside = [sum(a <= v < b or (v == b == edges[-1]) for v in X.reshape(-1)) for a, b in pairwise(edges)]
    assert gf.tensor(X).histc(7).tolist() == inside
    hist, where = gf.histogram(gf.tensor(X), 7)
    assert hist.tolist() == inside
    assert_close(where.numpy(), edges)
    density = gf.histogram(gf.tensor(X), 7, density=True).hist.numpy()
    assert_close((density * np.diff(edges)).sum(), 1.0)


def test_covariance_by_its_definition():
    c = gf.cov(gf.tensor(X)).numpy()
    for i, j in product(range(4), range(4)):
        expected = sum((X[i, k] - X[i].mean()) * (X[j, k] - X[j].mean()) for k in range(5)) / 4
        assert abs(c[i, j] - expected) < 1e-12
    assert_close(gf.corrcoef(gf.tensor(X)).numpy(), c / np.sqrt(np.outer(np.diag(c), np.diag(c))))
    repeated = np.repeat(X, [1, 2, 0, 1, 3], 1)
    assert_close(gf.cov(gf.tensor(X), fweights=gf.tensor([1, 2, 0, 1, 3])).numpy(), np.cov(repeated))


def test_integrals_and_derivatives_of_polynomials():
    t = np.array([0.0, 0.5, 1.5, 2.0, 4.0])
    assert_close(gf.trapezoid(gf.tensor(3 * t + 1), gf.tensor(t)).item(), 3 * 4.0**2 / 2 + 4)
    assert_close(gf.cumulative_trapezoid(gf.tensor(2 * t), gf.tensor(t)).numpy(), t[1:] ** 2)
    (slope,) = gf.gradient(gf.tensor(t**2), spacing=(gf.tensor(t),), edge_order=2)  # exact for squares
    assert_close(slope.numpy(), 2 * t)


def test_choices_in_order():
    x = [3.0, 1.0, 4.0, 1.5]
    assert gf.combinations(gf.tensor(x), 3).tolist() == [list(c) for c in combinations(x, 3)]
    assert gf.cartesian_prod(gf.tensor(x), gf.tensor([0.0, 1.0])).tolist() == [list(p) for p in product(x, [0.0, 1.0])]


def test_runs_by_loops():
    data, lengths = X, [2, 0, 2]
    ways = {"sum": np.sum, "mean": np.mean, "max": np.max, "min": np.min, "prod": np.prod}
    none = {"sum": 0.0, "mean": math.nan, "max": -math.inf, "min": math.inf, "prod": 1.0}
    for way, f in ways.items():
        y = gf.segment_reduce(gf.tensor(data), way, lengths=gf.tensor(lengths)).numpy()
        assert_close(y[0], f(data[:2], axis=0))
        assert_close(y[2], f(data[2:], axis=0))
        assert np.array_equal(y[1], np.full(5, none[way]), equal_nan=True)


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda: gf.quantile(gf.ones(3), 1.5), RuntimeError),
        (lambda: gf.quantile(gf.ones(3, dtype=gf.int64), 0.5), RuntimeError),
        (lambda: gf.quantile(gf.ones(3), 0.5, interpolation="cubic"), RuntimeError),
        (lambda: gf.quantile(gf.ones(0), 0.5), RuntimeError),
        (lambda: gf.histc(gf.ones(3), 0), RuntimeError),
        (lambda: gf.bincount(gf.tensor([-1])), RuntimeError),
        (lambda: gf.cov(gf.ones(2, 2, 2)), RuntimeError),
        (lambda: gf.trapezoid(gf.ones(3), gf.ones(4)), RuntimeError),
        (lambda: gf.gradient(gf.ones(1)), RuntimeError),
        (lambda: gf.block_diag(gf.ones(1, 1, 1)), RuntimeError),
        (lambda: gf.unravel_index(gf.ones(1), (2,)), TypeError),
        (lambda: gf.segment_reduce(gf.ones(3), "sum", lengths=gf.tensor([1])), RuntimeError),
        (lambda: gf.put(gf.ones(3), gf.tensor([4]), gf.ones(1)), IndexError),
        (lambda: gf.as_strided(gf.ones(3), (4,), (1,)), RuntimeError),
        (lambda: gf.as_strided(gf.ones(3), (1,), (-1,)), RuntimeError),
        (lambda: gf.select_scatter(gf.ones(3, 2), gf.ones(3), 0, 0), RuntimeError),
        (lambda: gf.hsplit(gf.ones(5), 2), RuntimeError),
    ],
)
def test_refusals(call, kind):
    with pytest.raises(kind, match=r"^\w+: wanted"):
        call()
