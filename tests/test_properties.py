"""Laws that hold for all inputs, on inputs that hypothesis draws: identities, and NumPy as the judge."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tolerance import assert_close

import gradflow as gf

settings.register_profile("laws", derandomize=True, deadline=None, max_examples=40, database=None)
laws = settings.get_profile("laws")

SIDES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
FLOATS = st.floats(-8, 8, width=32).map(lambda v: round(v, 3))


def arrays(shape=SIDES, dtype=np.float64):
    return hnp.arrays(dtype, shape, elements=FLOATS if np.dtype(dtype).kind == "f" else st.integers(-9, 9))


@st.composite
def two_that_broadcast(draw):
    """Two arrays whose shapes broadcast."""
    shapes = draw(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=4, min_side=0))
    return tuple(draw(arrays(s)) for s in shapes.input_shapes)


@st.composite
def one_and_dim(draw):
    """An array of one dimension or more, none of them empty, and a dimension, maybe counted from the back."""
    x = draw(arrays(hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4)))
    return x, draw(st.integers(-x.ndim, x.ndim - 1))


def gradient(f, *xs):
    """The gradients of the sum of f."""
    ts = [gf.tensor(x).requires_grad_() for x in xs]
    f(*ts).sum().backward()
    return [t.grad.numpy() for t in ts]


@laws
@given(two_that_broadcast())
def test_arithmetic_broadcasts_as_numpy_does(pair):
    a, b = pair
    x, y = gf.tensor(a), gf.tensor(b)
    for ours, theirs in ((x + y, a + b), (x * y, a * b), (x - y, a - b), (gf.maximum(x, y), np.maximum(a, b)), (x < y, a < b)):
        assert ours.shape == theirs.shape
        assert_close(ours.numpy(), theirs)


@laws
@given(two_that_broadcast())
def test_a_gradient_has_its_inputs_shape(pair):
    a, b = pair
    da, db = gradient(lambda x, y: x * y, a, b)
    full = np.broadcast_shapes(a.shape, b.shape)
    lost = lambda g, like: gf.tensor(np.broadcast_to(g, full).copy()).sum_to_size(like.shape).numpy()
    assert da.shape == a.shape and db.shape == b.shape
    assert_close(da, lost(b, a), scale=10)
    assert_close(db, lost(a, b), scale=10)


@laws
@given(one_and_dim(), st.booleans())
def test_reductions_along_a_dimension(case, keepdim):
    a, dim = case
    x = gf.tensor(a)
    for name in ("sum", "mean", "amax", "amin", "prod"):
        ours = getattr(x, name)(dim, keepdim=keepdim).numpy()
        theirs = getattr(np, name)(a, axis=dim, keepdims=keepdim)
        assert_close(ours, theirs, scale=10)
    assert_close(x.var(dim, correction=0, keepdim=keepdim).numpy(), a.var(dim, keepdims=keepdim), scale=10)
    assert x.argmax(dim).tolist() == a.argmax(dim).tolist()


@laws
@given(one_and_dim())
def test_softmax_is_a_distribution_that_a_shift_leaves(case):
    a, dim = case
    p = gf.tensor(a).softmax(dim)
    assert_close(p.sum(dim).numpy(), np.ones_like(a.sum(dim)))
    assert_close(p.numpy(), gf.tensor(a + 100).softmax(dim).numpy(), scale=1e3)
    assert_close(p.log().numpy(), gf.tensor(a).log_softmax(dim).numpy(), scale=10)
    (g,) = gradient(lambda x: x.softmax(dim) * 3, a)  # the sum does not move
    assert np.abs(g).max() < 1e-12


@laws
@given(one_and_dim())
def test_scans_end_in_reductions_and_undo_differences(case):
    a, dim = case
    x = gf.tensor(a)
    assert_close(x.cumsum(dim).select(dim, -1).numpy(), a.sum(dim), scale=10)
    assert_close(x.cumprod(dim).select(dim, -1).numpy(), a.prod(dim), scale=100)
    first = x.narrow(dim, 0, 1)
    assert_close(gf.cat([first, x.diff(dim=dim)], dim).cumsum(dim).numpy(), a, scale=10)
    assert (x.cummax(dim).values.numpy() == np.maximum.accumulate(a, dim)).all()


@laws
@given(one_and_dim(), st.integers(-5, 5))
def test_rearranging_undoes_itself(case, k):
    a, dim = case
    x = gf.tensor(a)
    order = list(np.random.default_rng(a.ndim).permutation(a.ndim))
    back = list(np.argsort(order))
    same = (
        x.flip(dim).flip(dim), x.roll(k, dim).roll(-k, dim), x.permute(order).permute(back), x.unsqueeze(dim).squeeze(dim),
        x.movedim(dim, 0).movedim(0, dim), gf.cat(x.split(2, dim), dim), gf.cat(x.chunk(3, dim), dim),
        gf.stack(x.unbind(dim), dim), x.reshape(-1).reshape(a.shape),
        x.unflatten(dim, (1, -1)).flatten(dim % a.ndim, dim % a.ndim + 1),
        x.transpose(dim, 0).transpose(0, dim), gf.nn.functional.pad(gf.nn.functional.pad(x, (2, 1)), (-2, -1)),
    )  # fmt: skip
    for y in same:
        assert (y.numpy() == a).all()


@laws
@given(one_and_dim(), st.data())
def test_reading_by_index_as_numpy_does_and_writing_it_back(case, data):
    a, _ = case
    where = data.draw(
        st.one_of(
            hnp.basic_indices(a.shape, allow_newaxis=True).filter(_steps_forward),
            hnp.integer_array_indices(a.shape[:1], result_shape=hnp.array_shapes(max_dims=2, max_side=3)),
            hnp.arrays(bool, a.shape),
        )
    )
    x = gf.tensor(a)
    read = a[where]
    ours = x[where]
    assert ours.shape == read.shape
    assert (ours.numpy() == read).all()
    (g,) = gradient(lambda t: t[where], a)
    expected = np.zeros_like(a)
    np.add.at(expected, where, 1.0)
    assert (g == expected).all()
    y, b = x.clone(), a.copy()
    y[where] = 7.0
    b[where] = 7.0
    assert (y.numpy() == b).all()


def _steps_forward(where):
    return all(not isinstance(i, slice) or i.step is None or i.step > 0 for i in (where if type(where) is tuple else (where,)))


@laws
@given(one_and_dim(), st.data())
def test_gather_reads_what_scatter_writes(case, data):
    a, dim = case
    n = a.shape[dim]
    places = np.argsort(data.draw(arrays(st.just(a.shape))), axis=dim, kind="stable")  # of each slice a permutation
    x, i = gf.tensor(a), gf.tensor(places)
    assert (x.gather(dim, i).numpy() == np.take_along_axis(a, places, dim)).all()
    assert (gf.zeros_like(x).scatter(dim, i, x).gather(dim, i).numpy() == a).all()
    assert_close(gf.zeros_like(x).scatter_add(dim, i, x).sum(dim).numpy(), a.sum(dim), scale=10)
    for bad in (n, -1):
        with pytest.raises(RuntimeError, match="out of bounds"):
            x.scatter_add(dim, gf.full_like(i, bad), x)


@laws
@given(st.integers(0, 3), st.integers(0, 4), st.integers(0, 4), st.integers(0, 3), st.data())
def test_products_of_matrices(b, n, k, m, data):
    x, w = data.draw(arrays(st.just((b, n, k)))), data.draw(arrays(st.just((k, m))))
    y = gf.tensor(x) @ gf.tensor(w)
    assert_close(y.numpy(), x @ w, scale=10)
    assert_close(y.numpy(), gf.einsum("bnk,km->bnm", gf.tensor(x), gf.tensor(w)).numpy(), scale=10)
    dx, dw = gradient(lambda p, q: p @ q, x, w)
    ones = np.ones((b, n, m))
    assert_close(dx, ones @ w.T, scale=10)
    assert_close(dw, np.einsum("bnk,bnm->km", x, ones), scale=10)


@laws
@given(
    hnp.arrays(np.int64, SIDES, elements=st.integers(-100, 100)),
    st.integers(-9, 9),
    st.sampled_from([np.int8, np.int16, np.int32, np.int64]),
)
def test_integer_division_is_whole(a, n, dtype):
    assume(n != 0)
    x = gf.tensor(a.astype(dtype))
    floor, trunc = gf.div(x, n, rounding_mode="floor"), gf.div(x, n, rounding_mode="trunc")
    assert floor.dtype == trunc.dtype == x.dtype
    assert (floor * n + x % n == x).all() and (trunc * n + gf.fmod(x, n) == x).all()
    assert (floor.numpy() == a // n).all()


@laws
@given(one_and_dim())
def test_a_write_through_a_view_is_a_write_and_has_its_gradient(case):
    a, dim = case

    def written(x):
        y = x * 1
        part = y.transpose(0, dim)[:1]
        part *= 3
        return y

    expected = a.copy()
    expected.swapaxes(0, dim)[:1] *= 3
    assert_close(written(gf.tensor(a)).numpy(), expected)
    slope = np.ones_like(a)
    slope.swapaxes(0, dim)[:1] = 3
    assert_close(gradient(written, a)[0], slope)
